//! Payments: how many were made, how many worked, why the others did not, and what was given back or disputed of them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{AnalyticsError, Grouping, MOST_ROWS, Range, add, at_most, micros, rate, text};
use crate::store::{PaymentCount, Scope, Store};

/// Payments in one currency, by the time at which they were recorded, as they stand now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct PaymentsRow {
    /// The day or month, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// What they are in.
    pub currency: String,
    /// Why the last attempt did not work, by its code; null where rows are not by it, and for payments that were never
    /// declined or are paid.
    #[schema(required)]
    pub failure: Option<String>,
    /// How many payments.
    pub payments: i64,
    /// How many are paid.
    pub paid: i64,
    /// How many were declined and are not paid.
    pub failed: i64,
    /// How many were ended without having been declined.
    pub canceled: i64,
    /// How many wait for the customer or the provider and were not declined.
    pub open: i64,
    /// Paid ones of those that are paid or failed, in parts per 10,000; null where there are none.
    #[schema(required)]
    pub success_rate: Option<i64>,
    /// What all of them come to.
    pub amount: String,
    /// What the paid ones come to.
    pub paid_amount: String,
    /// What the failed ones come to.
    pub failed_amount: String,
    /// How many of them something was given back of.
    pub refunded: i64,
    /// What was given back of them.
    pub refunded_amount: String,
    /// How many of them were disputed.
    pub disputes: i64,
    /// How many of these disputes were won.
    pub disputes_won: i64,
    /// How many of these disputes were lost.
    pub disputes_lost: i64,
    /// What was disputed of them.
    pub disputed_amount: String,
}

/// The sums of a row: numbers of payments, and amounts in minor units.
#[derive(Clone, Copy, Default)]
struct Sums {
    payments: i64,
    paid: i64,
    failed: i64,
    canceled: i64,
    open: i64,
    amount: i64,
    paid_amount: i64,
    failed_amount: i64,
    refunded: i64,
    refunded_amount: i64,
    disputes: i64,
    disputes_won: i64,
    disputes_lost: i64,
    disputed_amount: i64,
}

impl Sums {
    fn count(&mut self, count: &PaymentCount) -> Result<(), AnalyticsError> {
        let number = count.payments;
        add(&mut self.payments, number)?;
        add(&mut self.amount, count.minor)?;
        match (count.state.as_str(), &count.failure) {
            ("paid", _) => {
                add(&mut self.paid, number)?;
                add(&mut self.paid_amount, count.minor)?;
            }
            ("failed", _) | (_, Some(_)) => {
                add(&mut self.failed, number)?;
                add(&mut self.failed_amount, count.minor)?;
            }
            ("canceled", None) => add(&mut self.canceled, number)?,
            (_, None) => add(&mut self.open, number)?,
        }
        add(&mut self.refunded, count.refunded)?;
        add(&mut self.refunded_amount, count.refunded_minor)?;
        add(&mut self.disputed_amount, count.disputed_minor)?;
        match count.dispute.as_deref() {
            None => return Ok(()),
            Some("won") => add(&mut self.disputes_won, number)?,
            Some("lost") => add(&mut self.disputes_lost, number)?,
            Some(_) => {}
        }
        add(&mut self.disputes, number)
    }
}

/// The payments of the customers in scope.
///
/// # Errors
/// `TooManyRows`; `OutOfRange` for sums that are too large; `Store`.
pub async fn payments(
    store: &dyn Store,
    scope: &Scope,
    range: &Range,
    grouping: &Grouping,
) -> Result<Vec<PaymentsRow>, AnalyticsError> {
    let counts = at_most(store.payment_counts(scope, &range.segments(), MOST_ROWS + 1).await?)?;
    let mut sums: BTreeMap<(i64, String, Option<String>), Sums> = BTreeMap::new();
    for count in counts {
        let failure = count.failure.clone().filter(|_| grouping.failure);
        sums.entry((count.day, count.currency.clone(), failure)).or_default().count(&count)?;
    }
    sums.into_iter().map(|((day, currency, failure), sums)| row(range.name(day), currency, failure, sums)).collect()
}

fn row(
    period: Option<String>,
    currency: String,
    failure: Option<String>,
    sums: Sums,
) -> Result<PaymentsRow, AnalyticsError> {
    let amount = |minor| Ok::<_, AnalyticsError>(text(micros(minor, &currency)?));
    Ok(PaymentsRow {
        period,
        failure,
        payments: sums.payments,
        paid: sums.paid,
        failed: sums.failed,
        canceled: sums.canceled,
        open: sums.open,
        success_rate: rate(sums.paid, sums.paid + sums.failed),
        amount: amount(sums.amount)?,
        paid_amount: amount(sums.paid_amount)?,
        failed_amount: amount(sums.failed_amount)?,
        refunded: sums.refunded,
        refunded_amount: amount(sums.refunded_amount)?,
        disputes: sums.disputes,
        disputes_won: sums.disputes_won,
        disputes_lost: sums.disputes_lost,
        disputed_amount: amount(sums.disputed_amount)?,
        currency,
    })
}
