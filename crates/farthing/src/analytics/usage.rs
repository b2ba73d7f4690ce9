//! Usage: how much was used of each meter, what it came to, and what covered it.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{AnalyticsError, Grouping, MOST_ROWS, Range, add, at_most, text};
use crate::store::{Covered, Scope, Store, Used, UsedQuery};

/// Uses of one meter, priced in one asset.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct UsageRow {
    /// The day or month, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// What was counted.
    pub meter: String,
    /// Who used it; null where rows are not by subject, and for uses without one.
    #[schema(required)]
    pub subject: Option<String>,
    /// The dimension's value; null where rows are not by a dimension, and for uses without it.
    #[schema(required)]
    pub dimension: Option<String>,
    /// How many charges.
    pub charges: i64,
    /// How much was used.
    pub quantity: String,
    /// What of the quantity units of allowances covered.
    pub allowance_quantity: String,
    /// What of the quantity units given away covered.
    pub promotional_quantity: String,
    /// What of the quantity bought units covered.
    pub paid_quantity: String,
    /// What of the quantity units given back covered.
    pub refund_quantity: String,
    /// What of the quantity is left, and was priced.
    pub priced_quantity: String,
    /// What amounts are in: a currency, or the meter's own unit where it has no price.
    pub asset: String,
    /// What the priced quantity came to, less what was given back.
    pub amount: String,
    /// What of the amount allowances covered.
    pub allowance: String,
    /// What of the amount credit given away covered.
    pub promotional: String,
    /// What of the amount bought credit covered.
    pub paid: String,
    /// What of the amount credit given back covered.
    pub refund: String,
    /// What of the amount is owed, or was when it was used.
    pub owed: String,
    /// What volume prices gave back when they got cheaper.
    pub given_back: String,
}

/// What grants covered, by their kind.
#[derive(Clone, Copy, Default)]
struct ByKind {
    allowance: i64,
    promotional: i64,
    paid: i64,
    refund: i64,
}

impl ByKind {
    fn add(&mut self, kind: &str, amount: i64) -> Result<(), AnalyticsError> {
        let sum = match kind {
            "allowance" => &mut self.allowance,
            "promotional" => &mut self.promotional,
            "paid" => &mut self.paid,
            _ => &mut self.refund,
        };
        add(sum, amount)
    }
}

/// What a sum is by: period, meter, asset, subject, dimension.
type Key = (i64, String, String, Option<String>, Option<String>);

/// The usage of the customers in scope.
///
/// # Errors
/// `TooManyRows`; `OutOfRange` for sums that are too large; `Store`.
pub async fn usage(
    store: &dyn Store,
    scope: &Scope,
    range: &Range,
    grouping: &Grouping,
) -> Result<Vec<UsageRow>, AnalyticsError> {
    let query = query(range, grouping);
    let used = at_most(store.used(scope, &query).await?)?;
    // Each sum is covered by four kinds of grant, in units and in money.
    let covered = store.covered(scope, &UsedQuery { limit: MOST_ROWS * 8, ..query }).await?;
    let mut covers: HashMap<Key, (ByKind, ByKind)> = HashMap::new();
    for Covered { day, meter, asset, subject, dimension, kind, of_quantity, amount } in covered {
        let (quantities, amounts) = covers.entry((day, meter, asset, subject, dimension)).or_default();
        if of_quantity { quantities.add(&kind, amount)? } else { amounts.add(&kind, amount)? }
    }
    used.into_iter()
        .map(|sum| {
            let key = (sum.day, sum.meter.clone(), sum.asset.clone(), sum.subject.clone(), sum.dimension.clone());
            let (quantities, amounts) = covers.remove(&key).unwrap_or_default();
            row(range, sum, quantities, amounts)
        })
        .collect()
}

/// What is asked of the store.
pub(super) fn query(range: &Range, grouping: &Grouping) -> UsedQuery {
    UsedQuery {
        segments: range.segments(),
        by_subject: grouping.subject,
        dimension: grouping.dimension.clone(),
        limit: MOST_ROWS + 1,
    }
}

fn row(range: &Range, sum: Used, quantities: ByKind, amounts: ByKind) -> Result<UsageRow, AnalyticsError> {
    Ok(UsageRow {
        period: range.name(sum.day),
        amount: text(sum.charged.checked_sub(sum.given_back).ok_or(AnalyticsError::OutOfRange)?),
        meter: sum.meter,
        subject: sum.subject,
        dimension: sum.dimension,
        charges: sum.charges,
        quantity: text(sum.quantity),
        allowance_quantity: text(quantities.allowance),
        promotional_quantity: text(quantities.promotional),
        paid_quantity: text(quantities.paid),
        refund_quantity: text(quantities.refund),
        priced_quantity: text(sum.priced_quantity),
        asset: sum.asset,
        allowance: text(amounts.allowance),
        promotional: text(amounts.promotional),
        paid: text(amounts.paid),
        refund: text(amounts.refund),
        owed: text(sum.owed),
        given_back: text(sum.given_back),
    })
}
