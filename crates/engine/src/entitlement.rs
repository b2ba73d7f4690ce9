//! Entitlements: what a customer's plans let it do, and how much of it in a window of time.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Overage, OveragePolicy};
use crate::charge::Source;
use crate::customer::Customer;
use crate::money::{Asset, Micros};
use crate::notice::Notice;
use crate::period::{Interval, IntervalUnit, Period, boundary, month_of};
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// The parts of a limit, in percent, whose being reached is told.
pub const THRESHOLDS: [u8; 3] = [50, 80, 100];

/// What a plan says of a feature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Feature {
    /// Whether there is any.
    Flag(bool),
    /// How many or how much.
    Number(i64),
    /// Which.
    Text(Arc<str>),
}

/// How much may be used in a window of time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// Its name; what is used is counted under it.
    pub name: Arc<str>,
    /// The meter.
    pub meter: Arc<str>,
    /// Over what time.
    pub window: Window,
    /// How much.
    pub amount: Micros,
    /// Whether what is above it is refused; otherwise it is only told.
    pub hard: bool,
}

/// The time over which a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A calendar day of the tenant.
    Day,
    /// A calendar month of the tenant.
    Month,
    /// The billing period of the subscription; a calendar month without one.
    Period,
    /// The latest so many seconds, at any time. It is estimated from two windows of that length, the one under way and
    /// the one before it, of which it takes the part that the latest seconds still reach.
    Sliding(u32),
    /// Holds that are open at once, rather than what is used.
    OpenHolds,
}

/// What was used in a window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WindowCount {
    /// The limit's name.
    pub limit: Arc<str>,
    /// When the window began.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub start: Timestamp,
    /// How much was used in it.
    pub quantity: Micros,
    /// How much in the one before it, for a sliding window.
    #[serde(default, skip_serializing_if = "Micros::is_zero_ref")]
    pub before: Micros,
}

/// What usage cost beyond grants in a period: what it made of debt, or what the plan gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spent {
    /// When the period began.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub period: Timestamp,
    /// In what.
    pub asset: Asset,
    /// How much.
    pub amount: Micros,
}

/// How a limit stands at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitStanding {
    /// The limit.
    pub limit: Limit,
    /// What is used of it.
    pub used: Micros,
    /// What is left of it.
    pub left: Micros,
    /// When more of it is free again by itself; nothing where that is not a matter of time.
    pub resets_at: Option<Timestamp>,
}

/// How the spending limit stands at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpendingStanding {
    /// In what.
    pub asset: Asset,
    /// The limit.
    pub limit: Micros,
    /// What usage has made of debt in the period, or what the plan gave.
    pub spent: Micros,
    /// When the next period begins.
    pub resets_at: Timestamp,
}

/// What a customer may do at an instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entitlements {
    /// The names of its plans in force; without a subscription the one that customers have then, where there is one.
    pub plans: Vec<Arc<str>>,
    /// What its plans say; of several plans the more generous counts.
    pub features: BTreeMap<Arc<str>, Feature>,
    /// How its limits stand.
    pub limits: Vec<LimitStanding>,
    /// How the spending limit of its plan stands.
    pub spending: Option<SpendingStanding>,
    /// What happens when its credit runs out.
    pub overage: Overage,
}

/// What a customer may do at an instant.
///
/// # Errors
/// `AmountOutOfRange` where a sum does not fit.
pub fn entitlements(catalog: &Catalog, customer: &Customer, now: Timestamp) -> Result<Entitlements, Refusal> {
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    draft.entitlements()
}

/// The billing period under way for a customer: that of its first subscription in force, or the calendar month.
///
/// # Errors
/// `AmountOutOfRange` where it lies beyond the calendar.
pub fn current_period(catalog: &Catalog, customer: &Customer, now: Timestamp) -> Result<Period, Refusal> {
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    draft.current_period()
}

/// Whether a customer may use so much more, in money, at an instant: it is active, and the spending limit of its plan leaves as
/// much beside what open holds keep.
///
/// # Errors
/// `AmountOutOfRange` where a sum of what there is does not fit.
pub fn may_spend(catalog: &Catalog, customer: &Customer, amount: Micros, now: Timestamp) -> Result<bool, Refusal> {
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    let limited = draft.spending()?.map(|standing| standing.asset);
    let within = limited.is_none_or(|asset| draft.judge_spending(&asset, amount).is_ok());
    Ok(within && draft.require_active().is_ok())
}

impl Feature {
    /// How much of so much use is above what it says is included; nothing where it does not say how much.
    ///
    /// # Errors
    /// `AmountOutOfRange` where it does not fit.
    pub fn excess(&self, used: Micros) -> Result<Micros, Refusal> {
        let Self::Number(number) = self else { return Ok(Micros::ZERO) };
        let included = number.checked_mul(Micros::ONE.get()).ok_or(Refusal::AmountOutOfRange)?;
        Ok(used.minus(Micros::new(included.max(0)))?.max(Micros::ZERO))
    }

    /// Whether it is there, and, where it says how many, whether there are as many.
    #[must_use]
    pub fn allows(&self, wanted: Micros) -> bool {
        match self {
            Self::Flag(there) => *there,
            Self::Number(number) => {
                *number > 0 && i128::from(*number) * i128::from(Micros::ONE.get()) >= i128::from(wanted.get())
            }
            Self::Text(_) => true,
        }
    }
}

impl Window {
    /// Whether its thresholds are told of: what is free again within a day concerns the program that asked, and nobody
    /// else.
    const fn is_told_of(self) -> bool {
        matches!(self, Self::Day | Self::Month | Self::Period)
    }
}

impl Limit {
    /// The window that is under way; nothing where it is not a matter of time.
    fn window_at(&self, now: Timestamp, period: Period, zone: &TimeZone) -> Result<Option<Period>, Refusal> {
        let clock = |seconds: i64| -> Result<Period, Refusal> {
            let seconds = seconds.max(1);
            let start = Timestamp::from_second(now.as_second().div_euclid(seconds) * seconds);
            let start = start.map_err(|_| Refusal::AmountOutOfRange)?;
            let end = start.checked_add(SignedDuration::from_secs(seconds)).map_err(|_| Refusal::AmountOutOfRange)?;
            Ok(Period { start, end })
        };
        Ok(Some(match self.window {
            Window::Minute => clock(60)?,
            Window::Hour => clock(3600)?,
            Window::Day => {
                let midnight = now.to_zoned(zone.clone()).start_of_day().map_err(|_| Refusal::AmountOutOfRange)?;
                let start = midnight.timestamp();
                let day = Interval { unit: IntervalUnit::Day, count: 1 };
                Period { start, end: boundary(start, day, 1, zone)? }
            }
            Window::Month => month_of(now, zone)?,
            Window::Period => period,
            Window::Sliding(seconds) => clock(i64::from(seconds))?,
            Window::OpenHolds => return Ok(None),
        }))
    }
}

impl<'a> Draft<'a> {
    /// The plans that are in force: those of its subscriptions, or else the one that customers have without any.
    pub(crate) fn plans(&self) -> Vec<&'a Plan> {
        let catalog = self.catalog;
        let in_force = self.decision.customer.state.subscriptions.iter().filter(|known| known.state.is_in_force());
        let mut plans: Vec<&Plan> = in_force
            .filter_map(|known| catalog.plans.version(&known.terms.version, &known.terms.plan).ok())
            .map(|plan| &**plan)
            .collect();
        if plans.is_empty() {
            plans.extend(catalog.plans.default_plan());
        }
        plans
    }

    /// The billing period under way: the first subscription's, or the calendar month.
    pub(crate) fn current_period(&self) -> Result<Period, Refusal> {
        let state = &self.decision.customer.state;
        match state.subscriptions.iter().find(|known| known.state.is_in_force()) {
            Some(subscription) if subscription.period.start <= self.now => self.period_reached(subscription, self.now),
            _ => month_of(self.now, &self.catalog.time_zone),
        }
    }

    /// The limits in force, each name once: where several plans have a limit of one name, the more generous counts.
    fn limits(&self) -> Vec<&'a Limit> {
        let catalog = self.catalog;
        let on_no_plan = self.decision.customer.state.subscriptions.is_empty() && catalog.plans.default.is_none();
        if catalog.plans.limits.is_empty() && on_no_plan {
            return Vec::new();
        }
        let mut limits: Vec<&Limit> = Vec::new();
        for limit in self.plans().into_iter().flat_map(|plan| &plan.limits).chain(&catalog.plans.limits) {
            match limits.iter_mut().find(|known| known.name == limit.name) {
                Some(known) if known.amount < limit.amount => *known = limit,
                Some(_) => {}
                None => limits.push(limit),
            }
        }
        limits
    }

    fn entitlements(&self) -> Result<Entitlements, Refusal> {
        let limits = self.limits().into_iter().map(|limit| self.limit_standing(limit)).collect::<Result<_, _>>()?;
        let plans = self.plans().into_iter().map(|plan| plan.name.clone()).collect();
        Ok(Entitlements {
            plans,
            features: self.features(),
            limits,
            spending: self.spending()?,
            overage: self.overage(),
        })
    }

    /// What the plans in force say; of several plans the more generous counts.
    pub(crate) fn features(&self) -> BTreeMap<Arc<str>, Feature> {
        let mut features: BTreeMap<Arc<str>, Feature> = BTreeMap::new();
        for (name, feature) in self.plans().into_iter().flat_map(|plan| &plan.features) {
            let known = features.entry(name.clone()).or_insert_with(|| feature.clone());
            match (known, feature) {
                (Feature::Flag(known), Feature::Flag(other)) => *known |= other,
                (Feature::Number(known), Feature::Number(other)) => *known = (*known).max(*other),
                _ => {}
            }
        }
        features
    }

    /// How the limits of a meter stand now.
    pub(crate) fn limits_of(&self, meter: &str) -> Result<Vec<LimitStanding>, Refusal> {
        let limits = self.limits().into_iter().filter(|limit| *limit.meter == *meter);
        limits.map(|limit| self.limit_standing(limit)).collect()
    }

    /// How a limit stands now.
    fn limit_standing(&self, limit: &Limit) -> Result<LimitStanding, Refusal> {
        let (used, resets_at) = match limit.window_at(self.now, self.current_period()?, &self.catalog.time_zone)? {
            None => (self.open_holds(&limit.meter)?, None),
            Some(window) => (self.used(limit, window)?, Some(window.end)),
        };
        let left = limit.amount.minus(used)?.max(Micros::ZERO);
        Ok(LimitStanding { limit: limit.clone(), used, left, resets_at })
    }

    fn open_holds(&self, meter: &str) -> Result<Micros, Refusal> {
        let holds = self.decision.customer.state.holds.iter().filter(|hold| *hold.meter == *meter).count();
        let holds = i64::try_from(holds).ok().and_then(|holds| holds.checked_mul(Micros::ONE.get()));
        holds.map(Micros::new).ok_or(Refusal::AmountOutOfRange)
    }

    fn used(&self, limit: &Limit, window: Period) -> Result<Micros, Refusal> {
        let (quantity, before) = self.counts(limit, window);
        let length = window.end.as_microsecond() - window.start.as_microsecond();
        let reached = window.end.as_microsecond() - self.now.as_microsecond();
        let part = i128::from(before.get()) * i128::from(reached.max(0)) / i128::from(length.max(1));
        quantity.plus(Micros::new(i64::try_from(part).map_err(|_| Refusal::AmountOutOfRange)?))
    }

    /// What was used in a window, and, for a sliding one, in the window before it.
    fn counts(&self, limit: &Limit, window: Period) -> (Micros, Micros) {
        let counts = &self.decision.customer.state.windows;
        let Some(count) = counts.iter().find(|count| count.limit == limit.name) else {
            return (Micros::ZERO, Micros::ZERO);
        };
        let sliding = matches!(limit.window, Window::Sliding(_));
        let length = window.end.duration_since(window.start);
        if count.start == window.start {
            (count.quantity, if sliding { count.before } else { Micros::ZERO })
        } else if sliding && count.start.checked_add(length).is_ok_and(|end| end == window.start) {
            (Micros::ZERO, count.quantity)
        } else {
            (Micros::ZERO, Micros::ZERO)
        }
    }

    /// Counts a use against the limits of its meter, and refuses what is above a hard one, unless it has happened.
    pub(crate) fn count_use(&mut self, meter: &str, quantity: Micros, source: Source) -> Result<(), Refusal> {
        for limit in self.limits().into_iter().filter(|limit| *limit.meter == *meter) {
            let period = self.current_period()?;
            let Some(window) = limit.window_at(self.now, period, &self.catalog.time_zone)? else { continue };
            let before = self.used(limit, window)?;
            let after = before.plus(quantity)?;
            if limit.hard && source == Source::Charge && after > limit.amount {
                return Err(Refusal::LimitExceeded {
                    limit: limit.name.to_string(),
                    left: limit.amount.minus(before)?.max(Micros::ZERO),
                    resets_at: Some(window.end),
                });
            }
            for percent in crossed(before, after, limit.amount).filter(|_| limit.window.is_told_of()) {
                self.notice(Notice::Limit { limit: limit.name.clone(), percent });
            }
            let (counted, earlier) = self.counts(limit, window);
            let counts = &mut self.decision.customer.state.windows;
            counts.retain(|count| count.limit != limit.name);
            counts.push(WindowCount {
                limit: limit.name.clone(),
                start: window.start,
                quantity: counted.plus(quantity)?,
                before: earlier,
            });
        }
        Ok(())
    }

    /// Refuses to open one more hold than may be open at once, or one for more than a hard limit leaves.
    pub(crate) fn admit_hold(&mut self, meter: &str, quantity: Option<Micros>) -> Result<(), Refusal> {
        for limit in self.limits().into_iter().filter(|limit| *limit.meter == *meter && limit.hard) {
            let standing = self.limit_standing(limit)?;
            let wanted = if limit.window == Window::OpenHolds { Micros::ONE } else { quantity.unwrap_or_default() };
            if wanted > standing.left {
                let (left, resets_at) = (standing.left, standing.resets_at);
                return Err(Refusal::LimitExceeded { limit: limit.name.to_string(), left, resets_at });
            }
        }
        Ok(())
    }

    /// How the spending limit stands.
    pub(crate) fn spending(&self) -> Result<Option<SpendingStanding>, Refusal> {
        let Some((plan, limit)) = self.plans().into_iter().find_map(|plan| Some((plan, plan.spending_limit?))) else {
            return Ok(None);
        };
        let period = self.spending_period()?;
        let spent = self.decision.customer.state.spent.as_ref();
        let spent = spent.filter(|spent| spent.period == period.start && spent.asset == plan.fee.currency);
        let spent = spent.map_or(Micros::ZERO, |spent| spent.amount);
        Ok(Some(SpendingStanding { asset: plan.fee.currency.clone(), limit, spent, resets_at: period.end }))
    }

    /// Refuses debt above the spending limit.
    pub(crate) fn judge_spending(&self, asset: &Asset, short: Micros) -> Result<(), Refusal> {
        let Some(standing) = self.spending()?.filter(|standing| standing.asset == *asset) else { return Ok(()) };
        let rooms = self.decision.customer.state.holds.iter().filter_map(|hold| hold.owed.as_ref());
        let kept = Micros::sum(rooms.filter(|(of, _)| of == asset).map(|(_, room)| *room))?;
        let spent = standing.spent.plus(kept)?.plus(short)?;
        if spent > standing.limit {
            let (asset, limit, resets_at) = (asset.clone(), standing.limit, standing.resets_at);
            return Err(Refusal::SpendingLimit { asset, spent, limit, resets_at });
        }
        Ok(())
    }

    /// The time over which spending is counted: a calendar month where usage is included in the plan, or else the billing
    /// period.
    fn spending_period(&self) -> Result<Period, Refusal> {
        match self.overage().policy {
            OveragePolicy::Included => month_of(self.now, &self.catalog.time_zone),
            OveragePolicy::Refuse | OveragePolicy::Owe | OveragePolicy::Ask => self.current_period(),
        }
    }

    /// What is included was paid for: it is counted anew.
    pub(crate) fn begin_spending_anew(&mut self) {
        if self.overage().policy == OveragePolicy::Included {
            self.decision.customer.state.spent = None;
        }
    }

    /// Counts what usage has cost beyond grants in the period that began then: debt, or what the plan gave. For spending
    /// limits and minimums.
    pub(crate) fn count_spending(&mut self, asset: &Asset, period: Timestamp, short: Micros) -> Result<(), Refusal> {
        let Some(plan) = self.plans().first().copied().filter(|plan| plan.fee.currency == *asset) else {
            return Ok(());
        };
        let now = self.spending_period()?.start;
        if short.is_zero() || period != now {
            return Ok(());
        }
        let spent = self.decision.customer.state.spent.take().filter(|spent| spent.period == now);
        let before = spent.map_or(Micros::ZERO, |spent| spent.amount);
        let after = before.plus(short)?;
        self.decision.customer.state.spent = Some(Spent { period: now, asset: asset.clone(), amount: after });
        if let Some(limit) = plan.spending_limit {
            for percent in crossed(before, after, limit) {
                self.notice(Notice::Spending { percent });
            }
        }
        Ok(())
    }

    /// Counts no more, of what the plan gave in the period under way, up to so much; how much that is.
    pub(crate) fn give_less(&mut self, asset: &Asset, amount: Micros) -> Result<Micros, Refusal> {
        if self.overage().policy != OveragePolicy::Included {
            return Ok(Micros::ZERO);
        }
        let now = self.spending_period()?.start;
        let counted = self.decision.customer.state.spent.as_mut();
        let Some(spent) = counted.filter(|spent| spent.period == now && spent.asset == *asset) else {
            return Ok(Micros::ZERO);
        };
        let part = spent.amount.min(amount);
        spent.amount = spent.amount.minus(part)?;
        Ok(part)
    }

    /// The overage policy in force: the customer's own, its plan's, the tenant's.
    pub(crate) fn overage(&self) -> Overage {
        let own = self.decision.customer.state.overage;
        let of_plan = || self.plans().into_iter().find_map(|plan| plan.overage);
        own.or_else(of_plan).unwrap_or(self.catalog.overage)
    }
}

/// The thresholds that lie between the two.
fn crossed(before: Micros, after: Micros, limit: Micros) -> impl Iterator<Item = u8> {
    let percent = move |used: Micros| i128::from(used.get()) * 100;
    THRESHOLDS.into_iter().filter(move |threshold| {
        let at = i128::from(limit.get()) * i128::from(*threshold);
        percent(before) < at && at <= percent(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_feature_is_told() {
        let used = |quantity: i64| Micros::new(quantity * 1_000_000);
        for (feature, quantity, over) in [
            (Feature::Number(100), 99, 0),
            (Feature::Number(100), 100, 0),
            (Feature::Number(100), 130, 30),
            (Feature::Number(0), 5, 5),
            (Feature::Number(-1), 5, 5),
            (Feature::Text("unlimited".into()), 1_000_000, 0),
            (Feature::Flag(true), 5, 0),
        ] {
            assert_eq!(feature.excess(used(quantity)), Ok(used(over)), "{feature:?}");
        }
        assert_eq!(Feature::Number(i64::MAX).excess(used(1)), Err(Refusal::AmountOutOfRange));
    }
}
