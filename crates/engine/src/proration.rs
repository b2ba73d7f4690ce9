//! Proration: what part of a period's price falls to a part of it, by the second; and splitting a sum so that its parts
//! add up to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::money::Rounding;
use crate::period::Period;
use crate::refusal::Refusal;

/// What becomes of the difference for the rest of a period when a subscription changes within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// Nothing: the new price holds from the next period on.
    None,
    /// It goes on the next invoice.
    #[default]
    NextInvoice,
    /// It is invoiced now.
    Now,
}

/// The part of a period's price, in minor units, that falls to the time from `at` to the period's end. What falls to
/// the time before is the price less this, so the two always add up to the price.
///
/// # Errors
/// `AmountOutOfRange` where it does not fit.
pub fn rest_of(minor: i64, period: Period, at: Timestamp) -> Result<i64, Refusal> {
    let whole = i128::from(period.end.as_second()) - i128::from(period.start.as_second());
    let elapsed = (i128::from(at.as_second()) - i128::from(period.start.as_second())).clamp(0, whole.max(0));
    if whole <= 0 {
        return Ok(0);
    }
    let used = Rounding::HalfUp.divide(i128::from(minor.unsigned_abs()) * elapsed, whole);
    let rest = i128::from(minor.unsigned_abs()) - used;
    let rest = i64::try_from(rest).map_err(|_| Refusal::AmountOutOfRange)?;
    Ok(if minor < 0 { -rest } else { rest })
}

/// Splits a sum over parts in proportion to their weights, so that the parts add up to it: each is the difference of two
/// rounded running totals. Without any weight all of it stays unsplit: nothing falls to any part.
///
/// # Errors
/// `AmountOutOfRange` where a weight is below zero, or a product does not fit.
pub fn split(sum: i64, weights: &[i64]) -> Result<Vec<i64>, Refusal> {
    let whole: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if weights.iter().any(|weight| *weight < 0) || sum < 0 {
        return Err(Refusal::AmountOutOfRange);
    }
    let mut parts = Vec::with_capacity(weights.len());
    let (mut weight_so_far, mut given) = (0_i128, 0_i128);
    for weight in weights {
        weight_so_far += i128::from(*weight);
        let due = if whole == 0 { 0 } else { Rounding::HalfUp.divide(i128::from(sum) * weight_so_far, whole) };
        parts.push(i64::try_from(due - given).map_err(|_| Refusal::AmountOutOfRange)?);
        given = due;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_sum() {
        assert_eq!(split(100, &[1, 1, 1]), Ok(vec![33, 34, 33]));
        assert_eq!(split(7, &[0, 5, 0]), Ok(vec![0, 7, 0]));
        assert_eq!(split(7, &[0, 0]), Ok(vec![0, 0]));
    }

    #[test]
    fn the_rest_of_a_period_is_counted_by_the_second() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let june = Period { start: at("2026-06-01T00:00:00Z"), end: at("2026-07-01T00:00:00Z") };
        assert_eq!(rest_of(3000, june, at("2026-06-16T00:00:00Z")), Ok(1500));
        assert_eq!(rest_of(3000, june, june.start), Ok(3000));
        assert_eq!(rest_of(3000, june, june.end), Ok(0));
        assert_eq!(rest_of(-3000, june, at("2026-06-11T00:00:00Z")), Ok(-2000));
        // 26,784 of 2,592,000 seconds have gone: 31 of 3,000 minor units.
        assert_eq!(rest_of(3000, june, at("2026-06-01T07:26:24Z")), Ok(2969));
    }
}
