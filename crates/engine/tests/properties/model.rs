//! A second opinion: prices as exact fractions and wallets as plain lists, written to be obvious and with nothing of
//! the engine's own arithmetic.

use std::collections::BTreeMap;

use engine::report::RefundProgress;
use engine::{Asset, Customer, Grant, GrantKind, Micros, Model, Payment, PaymentState, Price, Rate, Rounding, Tier};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

/// The amount in micros that a total quantity (in micros) costs, rounded once.
pub(crate) fn amount(price: &Price, quantity: i64) -> i64 {
    let (quantity, per) = (i128::from(quantity), i128::from(price.per));
    // Micros of a unit by picos of a currency for `per` units: the unit of the sum is 1e-18 / per.
    let by_unit = |quantity: i128, rate: Rate| quantity * rate.picos();
    let once = |rate: Rate| 1_000_000 * per * rate.picos();
    let exact = match &price.model {
        Model::Flat { amount } => once(*amount),
        Model::PerUnit { amount } => by_unit(quantity, *amount),
        Model::Package { size, amount } => {
            let size = i128::from(size.get());
            (quantity + size - 1) / size * once(*amount)
        }
        Model::Percentage { percent, flat } => {
            // Of a hundred, whatever the units of the price.
            let exact = by_unit(quantity, *percent) + 100 * 1_000_000 * flat.picos();
            return i64::try_from(round(exact, 100 * 1_000_000_000_000, price.rounding)).unwrap();
        }
        Model::Graduated { tiers } => {
            let within = |(from, to, tier): (i128, i128, &Tier)| {
                let part = (quantity.min(to) - from).max(0);
                by_unit(part, tier.amount) + if part > 0 { once(tier.flat) } else { 0 }
            };
            ranges(tiers).into_iter().map(within).sum()
        }
        Model::Volume { tiers } => {
            let reached = ranges(tiers).into_iter().find(|(from, to, _)| *from < quantity && quantity <= *to);
            reached.map_or(0, |(_, _, tier)| by_unit(quantity, tier.amount) + once(tier.flat))
        }
    };
    i64::try_from(round(exact, per * 1_000_000_000_000, price.rounding)).unwrap()
}

/// The tiers with where each begins (not in it) and ends (in it).
fn ranges(tiers: &[Tier]) -> Vec<(i128, i128, &Tier)> {
    let ends = tiers.iter().map(|tier| tier.up_to.map_or(i128::MAX, |up_to| i128::from(up_to.get())));
    let begins = std::iter::once(0).chain(ends.clone());
    begins.zip(ends).zip(tiers).map(|((begin, end), tier)| (begin, end, tier)).collect()
}

fn round(numerator: i128, denominator: i128, rounding: Rounding) -> i128 {
    let down = numerator.div_euclid(denominator);
    let twice = 2 * numerator.rem_euclid(denominator);
    match rounding {
        Rounding::Down => down,
        Rounding::Up => -(-numerator).div_euclid(denominator),
        Rounding::HalfUp if twice >= denominator => down + 1,
        Rounding::HalfEven if twice > denominator || (twice == denominator && down % 2 != 0) => down + 1,
        Rounding::HalfUp | Rounding::HalfEven => down,
    }
}

/// What is open and free at a time, in the order of use: each grant with what can be taken of it.
pub(crate) fn free(customer: &Customer, now: Timestamp) -> Vec<(Grant, i64)> {
    let returned = |grant: Uuid| -> i64 {
        let ended = customer.state.holds.iter().filter(|hold| hold.expires_at <= now);
        let kept = ended.flat_map(|hold| &hold.allocations).filter(|kept| kept.grant == grant);
        kept.map(|kept| kept.amount.get()).sum()
    };
    let usable = |grant: &&Grant| !grant.frozen && grant.expires_at.is_none_or(|at| at > now);
    let open = customer.state.grants.iter().filter(usable);
    let mut free: Vec<(Grant, i64)> =
        open.map(|grant| (grant.clone(), grant.remaining.get() + returned(grant.id))).collect();
    free.sort_by_key(|(grant, _)| {
        let kind = match grant.kind {
            GrantKind::Allowance => 0,
            GrantKind::Promotional => 1,
            GrantKind::Paid | GrantKind::Refund => 2,
        };
        (kind, grant.priority, grant.expires_at.map_or(i64::MAX, Timestamp::as_second), grant.since, grant.id)
    });
    free
}

/// Takes up to so much of an asset, for a meter: which grant gives how much.
pub(crate) fn take(free: &mut [(Grant, i64)], asset: &Asset, meter: &str, wanted: i64) -> Vec<(Uuid, i64)> {
    let mut missing = wanted;
    let mut taken = Vec::new();
    for (grant, left) in free {
        let fits =
            grant.asset == *asset && (grant.meters.is_empty() || grant.meters.iter().any(|name| **name == *meter));
        let part = if fits { missing.min(*left).max(0) } else { 0 };
        if part > 0 {
            taken.push((grant.id, part));
            *left -= part;
            missing -= part;
        }
    }
    taken
}

/// What is counted under a price: the quantity and what was charged for it, by month.
#[derive(Default)]
pub(crate) struct Months(BTreeMap<(i16, i8), (i64, i64)>);

impl Months {
    /// The month in which a use counts: its own, or, once two later ones have been counted in, the earlier of these.
    pub(crate) fn of(&mut self, at: Timestamp, zone: &TimeZone) -> &mut (i64, i64) {
        let date = at.to_zoned(zone.clone()).date();
        let own = (date.year(), date.month());
        let second_latest = self.0.keys().rev().nth(1).copied();
        self.0.entry(second_latest.map_or(own, |earlier| own.max(earlier))).or_default()
    }
}

/// What went back of a payment, in minor units: no more than all of it.
pub(crate) fn given_back(payment: &Payment) -> i64 {
    let sum: i64 = payment.refunds.iter().filter(|r| r.progress != RefundProgress::Failed).map(|r| r.minor).sum();
    sum.min(payment.amount.minor)
}

/// What was taken back of what was sold, spent or not, for refunds that did not fail.
pub(crate) fn taken_back(payment: &Payment) -> i64 {
    let counted = payment.refunds.iter().filter(|refund| refund.progress != RefundProgress::Failed);
    counted.map(|refund| refund.unspent.get() + refund.owed.get() + refund.forgiven.get()).sum()
}

/// The share of a value that so much of a price is worth, rounded down.
pub(crate) fn share(value: Micros, part: i64, whole: i64) -> i64 {
    i64::try_from(i128::from(value.get()) * i128::from(part) / i128::from(whole)).unwrap()
}

/// What these payments, of those made in the calendar month, come to, without those that came to nothing.
pub(crate) fn spent_in_month(payments: &[Payment], now: Timestamp, zone: &TimeZone) -> i64 {
    let month = |at: Timestamp| {
        let date = at.to_zoned(zone.clone()).date();
        (date.year(), date.month())
    };
    let counted = |payment: &&Payment| !matches!(payment.state, PaymentState::Failed | PaymentState::Canceled);
    let of_month = payments.iter().filter(|payment| month(payment.created_at) == month(now));
    of_month.filter(counted).map(|payment| payment.amount.minor).sum()
}
