//! Monthly recurring revenue: what a subscription comes to in a month, whatever its period is.
//!
//! As Stripe and Lago define it: fees and add-ons that are billed with every period, less a coupon that lasts, brought to a
//! month; usage, taxes, and what is billed once are no part of it. A year is twelve months. A week or a day is counted by the
//! mean month of the calendar: 400 years are 146,097 days and 4,800 months.

use crate::coupon::{Coupon, CouponDuration};
use crate::money::{Asset, Micros, Money, Rounding};
use crate::period::{Interval, IntervalUnit};
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::subscription::{SubscriptionState, Terms};

/// Days and months in 400 years of the calendar.
const DAYS: i128 = 146_097;
const MONTHS: i128 = 4_800;

impl SubscriptionState {
    /// Whether its fee is recurring revenue: it is paid for, or still expected to be.
    #[must_use]
    pub const fn is_recurring(self) -> bool {
        matches!(self, Self::Active | Self::PastDue)
    }
}

/// What these terms on this plan come to in a month, in micros of the plan's currency; to the nearest micro, halves to the even
/// one. A coupon that is for one invoice alone takes nothing off.
///
/// # Errors
/// `AmountOutOfRange` where it does not fit.
pub fn monthly(plan: &Plan, terms: &Terms, coupon: Option<&Coupon>) -> Result<(Asset, Micros), Refusal> {
    let currency = &plan.fee.currency;
    let add_ons = terms.add_ons.iter().map(|(add_on, quantity)| (add_on.fee.minor, *quantity));
    let lines: Option<Vec<i64>> = std::iter::once((plan.fee.minor, terms.quantity))
        .chain(add_ons)
        .map(|(minor, quantity)| minor.checked_mul(i64::from(quantity)))
        .collect();
    let lines = lines.ok_or(Refusal::AmountOutOfRange)?;
    let lasting = coupon.filter(|coupon| coupon.duration != CouponDuration::Once);
    let discounts = lasting.map_or_else(|| Ok(Vec::new()), |coupon| coupon.discounts(&lines, currency))?;
    let minor = crate::invoice::sum(lines.into_iter().chain(discounts.into_iter().map(|discount| -discount)))?;
    let period = Money { minor, currency: currency.clone() }.micros()?;
    Ok((currency.clone(), in_a_month(period, plan.interval)?))
}

/// What an amount for each interval comes to in a month.
fn in_a_month(amount: Micros, interval: Interval) -> Result<Micros, Refusal> {
    let (times, months) = match interval.unit {
        IntervalUnit::Day => (DAYS, MONTHS),
        IntervalUnit::Week => (DAYS, MONTHS * 7),
        IntervalUnit::Month => (1, 1),
        IntervalUnit::Year => (1, 12),
    };
    let numerator = i128::from(amount.get()).max(0) * times;
    let month = Rounding::HalfEven.divide(numerator, months * i128::from(interval.count.max(1)));
    i64::try_from(month).map(Micros::new).map_err(|_| Refusal::AmountOutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::Discount;
    use crate::plan::AddOn;

    fn plan(minor: i64, unit: IntervalUnit, count: u16) -> Plan {
        let plan = serde_json::json!({
            "name": "pro", "version": "pro-1", "title": "Pro", "fee": {"minor": minor, "currency": "USD"},
            "interval": {"unit": unit, "count": count},
        });
        serde_json::from_value(plan).unwrap()
    }

    fn terms(quantity: u32) -> Terms {
        Terms { plan: "pro".into(), version: "pro-1".into(), quantity, add_ons: Vec::new() }
    }

    #[test]
    fn every_interval_is_brought_to_a_month() {
        for (minor, unit, count, expected) in [
            (2_000, IntervalUnit::Month, 1, "20"),
            (2_000, IntervalUnit::Month, 3, "6.666667"),
            (12_000, IntervalUnit::Year, 1, "10"),
            (10_000, IntervalUnit::Year, 2, "4.166667"),
            (700, IntervalUnit::Week, 1, "30.436875"),
            (700, IntervalUnit::Week, 2, "15.218438"),
            (100, IntervalUnit::Day, 1, "30.436875"),
        ] {
            let (currency, monthly) = monthly(&plan(minor, unit, count), &terms(1), None).unwrap();
            assert_eq!((currency.as_str(), &*monthly.to_string()), ("USD", expected), "{minor} {unit:?} {count}");
        }
    }

    #[test]
    fn seats_add_ons_and_lasting_coupons_count() {
        let plan = plan(1_000, IntervalUnit::Month, 1);
        let fee = Money { minor: 500, currency: Asset::new("USD") };
        let add_on = AddOn { name: "voice".into(), title: "Voice".into(), fee, recurring: true, provider_price: None };
        let terms = Terms { add_ons: vec![(add_on, 2)], ..terms(3) };
        let coupon =
            |duration| Coupon { code: "ten".into(), discount: Discount::Percent("10".parse().unwrap()), duration };
        for (coupon, expected) in [
            (None, "40"),
            (Some(coupon(CouponDuration::Once)), "40"),
            (Some(coupon(CouponDuration::Repeating(3))), "36"),
            (Some(coupon(CouponDuration::Forever)), "36"),
        ] {
            assert_eq!(monthly(&plan, &terms, coupon.as_ref()).unwrap().1.to_string(), expected);
        }
    }
}
