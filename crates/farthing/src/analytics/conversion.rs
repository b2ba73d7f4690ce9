//! Conversion: of the customers who came in a period, how many put a payment method on file, paid, and subscribed.

use serde::Serialize;
use utoipa::ToSchema;

use super::{AnalyticsError, Range, rate};
use crate::store::{Scope, Store};

/// Customers who came in one period, and what has become of them up to now. Rates are in parts per 10,000, and null of none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ConversionRow {
    /// The day or month in which they came, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// How many customers came.
    pub customers: i64,
    /// How many of them have, or had, a payment method on file.
    pub with_payment_method: i64,
    /// How many of them have paid something.
    pub paid: i64,
    /// How many of them have, or had, a subscription that was active.
    pub subscribed: i64,
    /// How many of them had a trial.
    pub trials: i64,
    /// How many of them had a trial that became active.
    pub trials_converted: i64,
    /// Those with a payment method of all.
    #[schema(required)]
    pub payment_method_rate: Option<i64>,
    /// Those who have paid of all.
    #[schema(required)]
    pub paid_rate: Option<i64>,
    /// Those who have subscribed of all.
    #[schema(required)]
    pub subscribed_rate: Option<i64>,
    /// Those whose trial became active of those who had one.
    #[schema(required)]
    pub trial_conversion_rate: Option<i64>,
}

/// What became of the customers who came.
///
/// # Errors
/// `Store`.
pub async fn conversion(store: &dyn Store, scope: &Scope, range: &Range) -> Result<Vec<ConversionRow>, AnalyticsError> {
    let acquired = store.acquired(scope, &range.segments()).await?;
    let row = |came: crate::store::Acquired| ConversionRow {
        period: range.name(came.day),
        customers: came.customers,
        with_payment_method: came.with_payment_method,
        paid: came.paid,
        subscribed: came.subscribed,
        trials: came.trials,
        trials_converted: came.trials_converted,
        payment_method_rate: rate(came.with_payment_method, came.customers),
        paid_rate: rate(came.paid, came.customers),
        subscribed_rate: rate(came.subscribed, came.customers),
        trial_conversion_rate: rate(came.trials_converted, came.trials),
    };
    Ok(acquired.into_iter().map(row).collect())
}
