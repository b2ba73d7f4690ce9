//! Usage: the words of an organisation, and what they come to.

use engine::period::month_of;
use engine::{Micros, Period, Refusal};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::organisation::{cents, whole};
use super::{Failure, OrgvoiceSettings, Speaker, instant};
use crate::store::{CustomerRow, Segment, UsedByCustomer};

/// For a thousand of what vendor costs are.
const THOUSAND: i128 = 1_000;

/// What was used in a time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageStats {
    period: &'static str,
    start_date: String,
    end_date: String,
    total_tokens: i64,
    total_tts_words: i64,
    total_stt_words: i64,
    /// What the vendors ask for it, by the tenant file; not what the organisation pays.
    total_cost_cents: i64,
    /// Always empty; the native API has usage by subject.
    breakdown_by_user: Map<String, Value>,
    /// Always empty; the native API has usage by dimension.
    breakdown_by_service: Map<String, Value>,
}

/// The calendar month under way.
pub(super) fn month(speaker: &Speaker<OrgvoiceSettings>) -> Result<Period, Failure> {
    Ok(month_of(speaker.spoken.now(), &speaker.spoken.catalog().time_zone)?)
}

/// What the organisations in sight used in a period: of one, or of all.
pub(super) async fn used(
    speaker: &Speaker<OrgvoiceSettings>,
    period: Period,
    of: Option<&CustomerRow>,
) -> Result<Vec<UsedByCustomer>, Failure> {
    let spoken = &speaker.spoken;
    let scope = of.map_or_else(|| spoken.scope(), |row| spoken.scope_of(row));
    let segment = Segment { start: period.start, end: period.end, offset: 0, label: Some(0) };
    Ok(spoken.app.store.used_by_customer(&scope, segment).await?)
}

/// What one organisation used.
#[derive(Clone, Copy, Default)]
pub(super) struct Words {
    heard: Micros,
    spoken: Micros,
    tokens: Micros,
    vendor_cost: i128,
    charged: Micros,
}

impl Words {
    /// Adds up what of these sums is the customer's.
    pub(super) fn of(settings: &OrgvoiceSettings, sums: &[UsedByCustomer], customer: Uuid) -> Result<Self, Failure> {
        let mut words = Self::default();
        // They are in the order of their customers.
        let first = sums.partition_point(|sum| sum.customer_id < customer);
        for sum in sums.iter().skip(first).take_while(|sum| sum.customer_id == customer) {
            let quantity = Micros::new(sum.quantity);
            if *sum.meter == *settings.heard {
                words.heard = words.heard.plus(quantity)?;
            } else if *sum.meter == *settings.spoken {
                words.spoken = words.spoken.plus(quantity)?;
            } else if settings.tokens.as_deref() == Some(&*sum.meter) {
                words.tokens = words.tokens.plus(quantity)?;
            }
            if settings.counts_words(&sum.meter) {
                words.charged = words.charged.plus(Micros::new(sum.amount))?;
            }
            let cost = settings.vendor_costs.iter().find(|(meter, _)| **meter == *sum.meter);
            let cost = cost.map_or(0, |(_, cost)| i128::from(sum.quantity) * i128::from(cost.get()));
            words.vendor_cost = words.vendor_cost.saturating_add(cost);
        }
        Ok(words)
    }

    /// Words heard and spoken.
    pub(super) fn count(&self) -> Result<i64, Failure> {
        Ok(whole(self.heard.plus(self.spoken)?))
    }

    /// What they were charged at, in cents.
    pub(super) fn charged_cents(&self) -> i64 {
        cents(self.charged)
    }

    pub(super) fn stats(&self, period: Period, now: Timestamp) -> Result<UsageStats, Failure> {
        let micros = i128::from(Micros::ONE.get());
        let cost = self.vendor_cost / (micros * THOUSAND);
        let cost = i64::try_from(cost).map_err(|_| Refusal::AmountOutOfRange)?;
        Ok(UsageStats {
            period: "month",
            start_date: instant(period.start),
            end_date: instant(now),
            total_tokens: whole(self.tokens),
            total_tts_words: whole(self.spoken),
            total_stt_words: whole(self.heard),
            total_cost_cents: cents(Micros::new(cost)),
            breakdown_by_user: Map::new(),
            breakdown_by_service: Map::new(),
        })
    }
}
