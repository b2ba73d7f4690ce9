//! Coupons: what is taken off the invoices of a subscription, once, for so many of them, or always.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::money::{Asset, Money, Rounding};
use crate::price::Rate;
use crate::proration::split;
use crate::refusal::Refusal;

/// What a coupon takes off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discount {
    /// So many percent of each line, rounded half up.
    Percent(Rate),
    /// So much of the invoice, over its lines in proportion, and never more than they come to.
    Amount(Money),
}

/// For how many invoices a coupon holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CouponDuration {
    /// One.
    Once,
    /// So many.
    Repeating(u16),
    /// All.
    Forever,
}

/// A coupon of the catalog, or as it was applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Coupon {
    /// Its code.
    pub code: Arc<str>,
    /// What it takes off.
    pub discount: Discount,
    /// For how many invoices; of an applied one, for how many more.
    pub duration: CouponDuration,
}

impl Coupon {
    /// What it takes off lines of so many minor units each, in this currency. Lines that give back are left alone by an
    /// amount, and reduced by a percentage, as the lines that they take back were.
    ///
    /// # Errors
    /// `AmountOutOfRange` where it does not fit.
    pub fn discounts(&self, lines: &[i64], currency: &Asset) -> Result<Vec<i64>, Refusal> {
        match &self.discount {
            Discount::Percent(percent) => lines.iter().map(|minor| share(*minor, *percent)).collect(),
            Discount::Amount(amount) if amount.currency == *currency => {
                let weights: Vec<i64> = lines.iter().map(|minor| (*minor).max(0)).collect();
                let most = weights.iter().try_fold(0_i64, |sum, minor| sum.checked_add(*minor));
                split(amount.minor.clamp(0, most.ok_or(Refusal::AmountOutOfRange)?), &weights)
            }
            Discount::Amount(_) => Ok(vec![0; lines.len()]),
        }
    }

    /// What is left of it after one more invoice.
    #[must_use]
    pub fn after_invoice(self) -> Option<Self> {
        let duration = match self.duration {
            CouponDuration::Once | CouponDuration::Repeating(0 | 1) => return None,
            CouponDuration::Repeating(left) => CouponDuration::Repeating(left - 1),
            CouponDuration::Forever => CouponDuration::Forever,
        };
        Some(Self { duration, ..self })
    }
}

fn share(minor: i64, percent: Rate) -> Result<i64, Refusal> {
    let product = i128::from(minor.unsigned_abs()).checked_mul(percent.picos()).ok_or(Refusal::AmountOutOfRange)?;
    let part = Rounding::HalfUp.divide(product, 100 * 1_000_000_000_000).min(i128::from(minor.unsigned_abs()));
    let part = i64::try_from(part).map_err(|_| Refusal::AmountOutOfRange)?;
    Ok(if minor < 0 { -part } else { part })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_split_and_a_percentage_rounded() {
        let usd = Asset::new("USD");
        let amount = Discount::Amount(Money { minor: 500, currency: usd.clone() });
        let coupon = |discount| Coupon { code: "c".into(), discount, duration: CouponDuration::Once };
        assert_eq!(coupon(amount.clone()).discounts(&[1000, 500, -300], &usd), Ok(vec![333, 167, 0]));
        assert_eq!(coupon(amount.clone()).discounts(&[100, 50], &usd), Ok(vec![100, 50]));
        assert_eq!(coupon(amount).discounts(&[1000], &Asset::new("EUR")), Ok(vec![0]));
        let percent = Discount::Percent("12.5".parse().unwrap());
        assert_eq!(coupon(percent).discounts(&[1000, 999, -100], &usd), Ok(vec![125, 125, -13]));
    }

    #[test]
    fn it_holds_for_so_many_invoices() {
        let coupon = Coupon {
            code: "c".into(),
            discount: Discount::Percent("10".parse().unwrap()),
            duration: CouponDuration::Repeating(2),
        };
        let after = coupon.after_invoice().unwrap();
        assert_eq!((after.duration, after.after_invoice()), (CouponDuration::Repeating(1), None));
    }
}
