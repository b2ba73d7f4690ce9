//! The customer: who pays, and the one row that the hot path reads and writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Overage;
use crate::entitlement::{Spent, WindowCount};
use crate::grant::Grant;
use crate::hold::Hold;
use crate::invoice::{OpenInvoice, PendingLine, Unbilled};
use crate::money::{Asset, Micros, Money};
use crate::payer::Payer;
use crate::recurring_charge::RecurringCharge;
use crate::refusal::Refusal;
use crate::subscription::Subscription;

/// Whether a customer may use what is sold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It may.
    #[default]
    Active,
    /// Not for now.
    Suspended,
    /// Not any more.
    Closed,
}

impl Status {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
        }
    }
}

/// What was counted under a price in a period.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// The price's name.
    pub price: Arc<str>,
    /// When the period began.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub period: Timestamp,
    /// How much.
    pub quantity: Micros,
}

/// A customer's whole state: what a decision reads and writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    /// The id of its rows; never changes.
    pub id: Uuid,
    /// Where its rows live.
    pub shard_key: i32,
    /// Whether it may use what is sold.
    pub status: Status,
    /// The position of its ledger: one more with each command that changed anything.
    pub position: i64,
    /// The rest.
    pub state: State,
}

/// The part of a customer that is stored as one document.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Whether the product says that a payment method is on file which farthing does not know.
    #[serde(default, skip_serializing_if = "is_false")]
    pub payment_method: bool,
    /// Whether one ever was, so that the grants for the first are given once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub had_payment_method: bool,
    /// This customer's own overage policy, in place of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<Overage>,
    /// Open grants, in their order of use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Open holds, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Debt by asset; never zero.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub owed: BTreeMap<Asset, Micros>,
    /// What was counted under prices that count over the period, in the two latest periods used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Counter>,
    /// What is kept for collecting from it.
    #[serde(default, skip_serializing_if = "Payer::is_empty")]
    pub payer: Payer,
    /// Its subscriptions that have not ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<Subscription>,
    /// What the provider calls subscriptions of its own that have ended, the latest of them: what is said of them late
    /// begins nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended_references: Vec<Arc<str>>,
    /// Whether it ever had a trial, so that a plan gives it one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub had_trial: bool,
    /// Invoices that are not settled, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub invoices: Vec<OpenInvoice>,
    /// Usage that made debt and is on no invoice yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unbilled: Vec<Unbilled>,
    /// What waits for the next invoice besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_lines: Vec<PendingLine>,
    /// What invoices left to the next one, in minor units; below zero in the customer's favour. Never zero.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub carried: BTreeMap<Asset, i64>,
    /// When what it owes is invoiced by itself, because no subscription does it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_micros")]
    pub usage_due_at: Option<Timestamp>,
    /// When the periods began whose usage was invoiced on demand, the latest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage_invoiced: Vec<Timestamp>,
    /// What usage made of debt in the period under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
    /// What was counted against limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowCount>,
    /// What is charged again with every interval, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recurring_charges: Vec<RecurringCharge>,
}

impl State {
    /// Whether a payment method is on file.
    #[must_use]
    pub fn has_payment_method(&self) -> bool {
        self.payment_method || !self.payer.methods.is_empty()
    }
}

impl Customer {
    /// A customer that has only just come to be, before any command.
    #[must_use]
    pub fn new(id: Uuid, shard_key: i32) -> Self {
        Self { id, shard_key, status: Status::Active, position: 0, state: State::default() }
    }

    /// What was counted under this price in the period that began then.
    #[must_use]
    pub fn counted(&self, price: &str, period: Timestamp) -> Micros {
        let counter = self.state.counters.iter().find(|counter| &*counter.price == price && counter.period == period);
        counter.map_or(Micros::ZERO, |counter| counter.quantity)
    }

    /// The period in which usage of the period that began at `period` is counted: that period itself while it is one of
    /// the two latest under this price, otherwise the older of these two. It keeps the row small; usage that comes in
    /// the order of its time, however old, is always counted in its own period.
    #[must_use]
    pub fn counting_period(&self, price: &str, period: Timestamp) -> Timestamp {
        let mut kept: Vec<Timestamp> =
            self.state.counters.iter().filter(|c| &*c.price == price).map(|c| c.period).collect();
        kept.sort_unstable();
        match kept.as_slice() {
            [older, _] if period < *older => *older,
            _ => period,
        }
    }

    /// Counts `quantity` more under the price, and forgets all but the two latest periods of it.
    pub(crate) fn count(&mut self, price: &Arc<str>, period: Timestamp, total: Micros) {
        let counters = &mut self.state.counters;
        if let Some(counter) = counters.iter_mut().find(|c| c.price == *price && c.period == period) {
            counter.quantity = total;
            return;
        }
        counters.push(Counter { price: price.clone(), period, quantity: total });
        let of_price = counters.iter().filter(|c| c.price == *price);
        let periods: Vec<Timestamp> = of_price.map(|c| c.period).collect();
        if periods.len() > 2
            && let Some(oldest) = periods.into_iter().min()
        {
            counters.retain(|c| c.price != *price || c.period != oldest);
        }
    }

    /// What open invoices ask for in this asset.
    ///
    /// # Errors
    /// `AmountOutOfRange` where a sum does not fit.
    pub fn invoiced(&self, asset: &Asset) -> Result<Micros, Refusal> {
        let open = self.state.invoices.iter().filter(|open| open.currency == *asset);
        let due = open.map(|open| Money { minor: open.standing.due, currency: asset.clone() }.micros());
        Micros::sum(due.collect::<Result<Vec<_>, _>>()?)
    }

    /// The debt in this asset that is on no invoice.
    #[must_use]
    pub fn owed(&self, asset: &Asset) -> Micros {
        self.state.owed.get(asset).copied().unwrap_or_default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands in a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Micros {
    /// For serde's `skip_serializing_if`, which hands in a reference.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands in a reference")]
    pub(crate) const fn is_zero_ref(&self) -> bool {
        self.is_zero()
    }
}

/// An optional instant as microseconds since 1970 in UTC.
pub(crate) mod optional_micros {
    pub(crate) use jiff::fmt::serde::timestamp::microsecond::optional::{deserialize, serialize};
}
