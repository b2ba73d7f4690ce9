//! Analytics: what was earned, recurs, was used, spent, paid and won, over a customer or a whole tenant.
//!
//! Each report is a list of flat rows of exact texts and integers, so that JSON, CSV and a table on the terminal show the same.
//! Sums are made by the store; a report names them. docs/analytics.md defines every column.

mod conversion;
mod grouping;
mod payments;
mod range;
mod recurring;
mod revenue;
mod sheet;
mod spending;
mod usage;

use engine::{Asset, Micros, Money};

pub use conversion::{ConversionRow, conversion};
pub use grouping::Grouping;
pub use payments::{PaymentsRow, payments};
pub use range::{Range, Step};
pub use recurring::{RecurringRow, recurring_revenue};
pub use revenue::{RevenueRow, revenue};
pub use sheet::Sheet;
pub use spending::{SpendingRow, spending};
pub use usage::{UsageRow, usage};

use crate::store::StoreError;

/// The most rows of a report.
pub const MOST_ROWS: i64 = 10_000;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AnalyticsError {
    /// A parameter does not say what it has to.
    #[error("{detail}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What it has to say.
        detail: String,
    },
    /// It would have too many rows.
    #[error("that is more than {MOST_ROWS} rows; ask for a shorter time, or group by less")]
    TooManyRows,
    /// A sum is larger than any amount.
    #[error("a sum is out of range; ask for a shorter time")]
    OutOfRange,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for AnalyticsError {
    /// What the database refuses of a sum is its size.
    fn from(error: StoreError) -> Self {
        if error.is_rejection() { Self::OutOfRange } else { Self::Store(error) }
    }
}

impl From<engine::Refusal> for AnalyticsError {
    fn from(_: engine::Refusal) -> Self {
        Self::OutOfRange
    }
}

/// An amount as text.
fn text(micros: i64) -> String {
    Micros::new(micros).to_string()
}

/// A sum of minor units in micros.
fn micros(minor: i64, currency: &str) -> Result<i64, AnalyticsError> {
    Ok(Money { minor, currency: Asset::new(currency) }.micros()?.get())
}

/// Adds to a sum.
fn add(sum: &mut i64, amount: i64) -> Result<(), AnalyticsError> {
    *sum = sum.checked_add(amount).ok_or(AnalyticsError::OutOfRange)?;
    Ok(())
}

/// So many of all, in parts per 10,000, to the nearest, halves to the even one; nothing of none.
fn rate(part: i64, all: i64) -> Option<i64> {
    let parts = i128::from(part.max(0)) * 10_000;
    (all > 0)
        .then(|| engine::Rounding::HalfEven.divide(parts, i128::from(all)))
        .and_then(|rate| i64::try_from(rate).ok())
}

/// The rows, unless there are too many.
fn at_most<T>(rows: Vec<T>) -> Result<Vec<T>, AnalyticsError> {
    let few = i64::try_from(rows.len()).is_ok_and(|rows| rows <= MOST_ROWS);
    if few { Ok(rows) } else { Err(AnalyticsError::TooManyRows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_parts_of_ten_thousand() {
        assert_eq!(
            [(1, 2), (1, 3), (2, 3), (7, 7), (0, 5)].map(|(part, all)| rate(part, all)),
            [Some(5_000), Some(3_333), Some(6_667), Some(10_000), Some(0)]
        );
        assert_eq!(rate(0, 0), None);
    }
}
