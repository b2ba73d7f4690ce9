//! Monthly recurring revenue: at the end of each period, and how it came to be since the end of the one before.
//!
//! It is computed from what is remembered of each subscription at every change, and the definitions of plans. Customers are
//! read page by page and each is forgotten once it is counted.

use std::collections::{BTreeMap, BTreeSet};

use engine::Catalog;
use engine::recurring::monthly;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{AnalyticsError, Grouping, Range, add, at_most, text};
use crate::store::{Page, Scope, Store, SubscriptionChange};

/// How many customers are read at once.
const PAGE: i64 = 500;

/// Recurring revenue in one currency at the end of one period. Amounts are those of a month.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct RecurringRow {
    /// The day or month, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// When it ends.
    pub at: String,
    /// The plan; null where rows are not by plan.
    #[schema(required)]
    pub plan: Option<String>,
    /// The currency.
    pub currency: String,
    /// What all subscriptions come to in a month.
    pub recurring: String,
    /// What of it is of customers who had never brought any before.
    pub new: String,
    /// What of it is of customers who had brought some before, but none at the end of the period before.
    pub reactivated: String,
    /// What customers bring more than at the end of the period before.
    pub expansion: String,
    /// What customers bring less than at the end of the period before.
    pub contraction: String,
    /// What customers brought at the end of the period before who bring nothing more.
    pub churned: String,
    /// How many subscriptions it is of.
    pub subscriptions: i64,
    /// How many subscriptions are on trial, and no part of it.
    pub trials: i64,
    /// How many subscriptions would be a part of it, were their plan's definition still known.
    pub unpriced: i64,
}

/// The sums of a row, in micros.
#[derive(Clone, Copy, Default)]
struct Sums {
    recurring: i64,
    new: i64,
    reactivated: i64,
    expansion: i64,
    contraction: i64,
    churned: i64,
    subscriptions: i64,
    trials: i64,
    unpriced: i64,
}

/// What rows are by: the number of the period, the plan, the currency.
type Key = (usize, Option<String>, String);

/// What one customer brings, by plan and currency: at the end of the period before, now, and since when it ever did.
#[derive(Clone, Copy, Default)]
struct Brought {
    before: i64,
    now: i64,
    since: Option<Timestamp>,
}

/// The recurring revenue of a tenant. Grouped by plan, a customer who moves from one plan to another has churned there and is
/// new here.
///
/// # Errors
/// `TooManyRows`; `OutOfRange` for sums that are too large; `Store`.
pub async fn recurring_revenue(
    store: &dyn Store,
    scope: &Scope,
    catalog: &Catalog,
    range: &Range,
    grouping: &Grouping,
) -> Result<Vec<RecurringRow>, AnalyticsError> {
    let periods = range.periods();
    // What stood at the beginning is compared with, and not shown.
    let moments: Vec<Timestamp> = std::iter::once(range.from).chain(periods.iter().map(|(_, end)| *end)).collect();
    let mut sums: BTreeMap<Key, Sums> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = Page { after, limit: PAGE };
        let customers = store.subscription_changes(scope, range.to, page).await?;
        for (_, changes) in &customers {
            count_customer(&mut sums, catalog, &moments, changes, grouping.plan)?;
        }
        // A plan and a currency have a row for each period; more than fit are not kept.
        at_most(sums.keys().collect())?;
        let Some((last, _)) = customers.last() else { break };
        after = Some(*last);
    }
    let rows = sums.into_iter().filter_map(|((number, plan, currency), sums)| {
        let (period, at) = periods.get(number)?;
        Some(row(period.clone(), *at, plan, currency, sums))
    });
    Ok(rows.collect())
}

/// Adds what one customer brings at each moment.
fn count_customer(
    sums: &mut BTreeMap<Key, Sums>,
    catalog: &Catalog,
    moments: &[Timestamp],
    changes: &[SubscriptionChange],
    by_plan: bool,
) -> Result<(), AnalyticsError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut brought: BTreeMap<(Option<String>, String), Brought> = BTreeMap::new();
    for change in changes {
        if let Some((plan, currency, 1..)) = priced(catalog, change)? {
            let known = brought.entry((by_plan.then_some(plan), currency)).or_default();
            known.since = Some(known.since.map_or(change.at, |since| since.min(change.at)));
        }
    }
    for (number, moment) in moments.iter().enumerate() {
        for known in brought.values_mut() {
            (known.before, known.now) = (known.now, 0);
        }
        // The first moment is only compared with.
        let period = number.checked_sub(1);
        for change in standing(changes, *moment) {
            count_subscription(sums, &mut brought, catalog, period, change, by_plan)?;
        }
        let Some((period, previous)) = period.and_then(|period| Some((period, *moments.get(period)?))) else {
            continue;
        };
        for ((plan, currency), known) in &brought {
            if (known.before, known.now) != (0, 0) {
                let sums = sums.entry((period, plan.clone(), currency.clone())).or_default();
                known.compare(previous, sums)?;
            }
        }
    }
    Ok(())
}

/// How each subscription stood just before a moment.
fn standing(changes: &[SubscriptionChange], moment: Timestamp) -> impl Iterator<Item = &SubscriptionChange> {
    let subscriptions: BTreeSet<_> = changes.iter().map(|change| change.subscription).collect();
    subscriptions.into_iter().filter_map(move |subscription| {
        let mut before = changes.iter().filter(|change| change.subscription == subscription && change.at < moment);
        before.next_back()
    })
}

/// The plan, the currency, and what a subscription brings in a month; nothing where its plan is not known any more.
fn priced(catalog: &Catalog, change: &SubscriptionChange) -> Result<Option<(String, String, i64)>, AnalyticsError> {
    let Ok(plan) = catalog.plans.version(&change.terms.version, &change.terms.plan) else { return Ok(None) };
    let (currency, amount) = monthly(plan, &change.terms, change.coupon.as_ref())?;
    let amount = if change.state.is_recurring() { amount.get() } else { 0 };
    Ok(Some((change.terms.plan.to_string(), currency.to_string(), amount)))
}

fn count_subscription(
    sums: &mut BTreeMap<Key, Sums>,
    brought: &mut BTreeMap<(Option<String>, String), Brought>,
    catalog: &Catalog,
    period: Option<usize>,
    change: &SubscriptionChange,
    by_plan: bool,
) -> Result<(), AnalyticsError> {
    let (recurring, trial) = (change.state.is_recurring(), change.state == engine::SubscriptionState::Trialing);
    if !recurring && !trial {
        return Ok(());
    }
    let plan = by_plan.then(|| change.terms.plan.to_string());
    let Some((_, currency, amount)) = priced(catalog, change)? else {
        if let Some(period) = period {
            // In no currency that anybody knows, so in the tenant's.
            let sums = sums.entry((period, plan, catalog.currency.to_string())).or_default();
            add(&mut sums.unpriced, 1)?;
        }
        return Ok(());
    };
    add(&mut brought.entry((plan.clone(), currency.clone())).or_default().now, amount)?;
    let Some(period) = period else { return Ok(()) };
    let sums = sums.entry((period, plan, currency)).or_default();
    add(&mut sums.recurring, amount)?;
    add(&mut sums.subscriptions, i64::from(recurring))?;
    add(&mut sums.trials, i64::from(trial))
}

impl Brought {
    /// Says what became of what was brought at the end of the period before.
    fn compare(self, previous: Timestamp, sums: &mut Sums) -> Result<(), AnalyticsError> {
        match (self.before, self.now) {
            (0, now) if self.since.is_some_and(|since| since < previous) => add(&mut sums.reactivated, now),
            (0, now) => add(&mut sums.new, now),
            (before, 0) => add(&mut sums.churned, before),
            (before, now) if now > before => add(&mut sums.expansion, now - before),
            (before, now) => add(&mut sums.contraction, before - now),
        }
    }
}

fn row(period: Option<String>, at: Timestamp, plan: Option<String>, currency: String, sums: Sums) -> RecurringRow {
    RecurringRow {
        period,
        at: at.to_string(),
        plan,
        currency,
        recurring: text(sums.recurring),
        new: text(sums.new),
        reactivated: text(sums.reactivated),
        expansion: text(sums.expansion),
        contraction: text(sums.contraction),
        churned: text(sums.churned),
        subscriptions: sums.subscriptions,
        trials: sums.trials,
        unpriced: sums.unpriced,
    }
}
