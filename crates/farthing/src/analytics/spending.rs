//! Spending: what each subject (an agent, a user, a phone line) cost, by meter.

use serde::Serialize;
use utoipa::ToSchema;

use super::usage::query;
use super::{AnalyticsError, Grouping, Range, at_most, text};
use crate::store::{Scope, Store};

/// What was charged for one meter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct SpendingRow {
    /// The day or month, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// Who used it; null where rows are not by subject, and for uses without one.
    #[schema(required)]
    pub subject: Option<String>,
    /// The dimension's value; null where rows are not by a dimension, and for uses without it.
    #[schema(required)]
    pub dimension: Option<String>,
    /// What was counted.
    pub meter: String,
    /// How many charges.
    pub charges: i64,
    /// What the amount is in.
    pub asset: String,
    /// What it came to, whatever covered it, less what was given back.
    pub amount: String,
    /// What of that is owed, or was when it was used.
    pub owed: String,
}

/// What the customers in scope spent.
///
/// # Errors
/// `TooManyRows`; `OutOfRange` for sums that are too large; `Store`.
pub async fn spending(
    store: &dyn Store,
    scope: &Scope,
    range: &Range,
    grouping: &Grouping,
) -> Result<Vec<SpendingRow>, AnalyticsError> {
    let used = at_most(store.used(scope, &query(range, grouping)).await?)?;
    let row = |sum: crate::store::Used| {
        let amount = sum.charged.checked_sub(sum.given_back).ok_or(AnalyticsError::OutOfRange)?;
        Ok(SpendingRow {
            period: range.name(sum.day),
            subject: sum.subject,
            dimension: sum.dimension,
            meter: sum.meter,
            charges: sum.charges,
            asset: sum.asset,
            amount: text(amount),
            owed: text(sum.owed),
        })
    };
    used.into_iter().map(row).collect()
}
