//! `farthing plan`: what a changed tenant file would do to those who have subscribed. It changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use engine::{Catalog, Plan};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::description::{self, Described};
use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome, columns, counted, print, print_json, store_failed};
use crate::clock::{Clock as _, SystemClock};
use crate::offer::Offer;
use crate::store::{Store, StoreError, Subscribers};

/// How far back it looks for who was charged at a price.
const DAYS: i64 = 31;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare a tenant file with what is sold now, before it is applied
    Diff {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// The tenant file, as with --tenant-file.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        tenant: TenantArguments,
    },
}

/// What a file would change.
#[derive(Debug, Serialize)]
struct Difference {
    tenant: String,
    /// Whether a server ever began with a file of this tenant on this database.
    served: bool,
    plans: Vec<PlanDifference>,
    /// What changes for everybody at once.
    everybody: Vec<Change>,
    customers: i64,
    customers_without_subscription: i64,
}

#[derive(Debug, Serialize)]
struct PlanDifference {
    plan: String,
    change: PlanChange,
    fields: Vec<Change>,
    /// Subscriptions that have not ended, by the version that they are on and stay on.
    subscriptions: Vec<OnVersion>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum PlanChange {
    Unchanged,
    NewVersion,
    Removed,
    New,
}

#[derive(Debug, Serialize)]
struct OnVersion {
    version: String,
    /// Whether it is the one that the file sells.
    sold: bool,
    subscriptions: i64,
}

#[derive(Debug, Serialize)]
struct Change {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// How many customers were charged at it lately, for a price that is sold now.
    #[serde(skip_serializing_if = "Option::is_none")]
    customers: Option<i64>,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let Command::Diff { json, files, tenant } = arguments.command;
    let catalog = tenant.one_of(&files)?.catalog;
    let store = database.open_existing().await?;
    let difference = difference(&*store, &catalog, SystemClock.now()).await.map_err(store_failed)?;
    if json {
        print_json(&difference)?;
    } else {
        print(&in_words(&difference))?;
    }
    Ok(Outcome::Good)
}

async fn difference(store: &dyn Store, catalog: &Catalog, now: Timestamp) -> Result<Difference, StoreError> {
    let last = Offer::last(store, &catalog.tenant).await?;
    let served = last.is_some();
    let before = last.unwrap_or_default();
    let kept = store.kept_plans(&catalog.tenant).await?;
    let kept: BTreeMap<Arc<str>, Plan> = kept.into_iter().map(|plan| (plan.version.clone(), plan)).collect();
    let subscribers = store.subscribers(&catalog.tenant).await?;
    let (customers, subscribed) = store.customer_counts(&catalog.tenant).await?;
    let since = now - SignedDuration::from_hours(24 * DAYS);
    let charged = store.customers_of_prices(&catalog.tenant, since).await?.into_iter().collect();
    Ok(Difference {
        tenant: catalog.tenant.to_string(),
        served,
        plans: plans(&before, catalog, &kept, &subscribers),
        everybody: everybody(&before, &Offer::of(catalog), &charged),
        customers,
        customers_without_subscription: customers - subscribed,
    })
}

fn plans(
    before: &Offer,
    catalog: &Catalog,
    kept: &BTreeMap<Arc<str>, Plan>,
    subscribers: &[Subscribers],
) -> Vec<PlanDifference> {
    let now = &catalog.plans.current;
    let names = now.keys().chain(before.plans.keys()).map(|name| &**name);
    let mut names: Vec<&str> = names.chain(subscribers.iter().map(|on| &*on.plan)).collect();
    names.sort_unstable();
    names.dedup();
    let plan = |name: &str| {
        let (old, new) = (before.plans.get(name), now.get(name));
        let change = match (old, new) {
            (Some(old), Some(new)) if old == new => PlanChange::Unchanged,
            (Some(_), Some(_)) => PlanChange::NewVersion,
            (None, Some(_)) => PlanChange::New,
            (_, None) => PlanChange::Removed,
        };
        let described = |plan: Option<&Plan>| plan.map(description::plan).unwrap_or_default();
        let fields = if change == PlanChange::Removed {
            Vec::new()
        } else {
            let new = new.and_then(|version| catalog.plans.versions.get(version)).map(|plan| &**plan);
            changes(described(old.and_then(|version| kept.get(version))), described(new))
        };
        let on = subscribers.iter().filter(|on| on.plan == name).map(|on| OnVersion {
            version: on.version.clone(),
            sold: new.is_some_and(|new| **new == *on.version),
            subscriptions: on.subscriptions,
        });
        PlanDifference { plan: name.to_owned(), change, fields, subscriptions: on.collect() }
    };
    names.into_iter().map(plan).collect()
}

/// What is not as it was: first what there is, in its order, then what is gone.
fn changes(before: Vec<Described>, after: Vec<Described>) -> Vec<Change> {
    let mut gone: Vec<Described> = before;
    let mut changes = Vec::new();
    for (name, text) in after {
        let old = gone.iter().position(|(other, _)| *other == name).map(|index| gone.remove(index).1);
        if old.as_ref() != Some(&text) {
            changes.push(Change { name, before: old, after: Some(text), customers: None });
        }
    }
    changes.extend(gone.into_iter().map(|(name, text)| Change {
        name,
        before: Some(text),
        after: None,
        customers: None,
    }));
    changes
}

/// What belongs to no version of a plan.
fn everybody(before: &Offer, after: &Offer, charged: &BTreeMap<String, i64>) -> Vec<Change> {
    let mut all = changes(described(before), described(after));
    for change in all.iter_mut().filter(|change| change.before.is_some()) {
        let price = before.prices.iter().find(|price| change.name == price_called(&price.name));
        change.customers = price.map(|price| charged.get(&*price.version).copied().unwrap_or_default());
    }
    all
}

fn price_called(name: &str) -> String {
    format!("price {name}")
}

fn described(offer: &Offer) -> Vec<Described> {
    let prices = offer.prices.iter().map(|price| (price_called(&price.name), description::price(price)));
    let add_ons = offer.add_ons.iter().map(|one| (format!("add-on {}", one.name), description::add_on(one)));
    let coupons = offer.coupons.iter().map(|one| (format!("coupon {}", one.code), description::coupon(one)));
    let limits = offer.limits.iter().map(|one| (format!("limit {}", one.name), description::limit(one)));
    let taxes = offer.taxes.iter().map(|one| (format!("tax {}", one.name), description::tax(one)));
    prices.chain(add_ons).chain(coupons).chain(limits).chain(taxes).collect()
}

fn in_words(difference: &Difference) -> String {
    let mut text = format!("tenant {}", difference.tenant);
    if difference.served {
        text.push('\n');
    } else {
        text.push_str(", which nobody has served on this database yet: everything is new\n");
    }
    for plan in &difference.plans {
        let change = match plan.change {
            PlanChange::Unchanged => "unchanged",
            PlanChange::NewVersion => "a new version, for those who subscribe or are moved to it from now on",
            PlanChange::Removed => "not in the file: nobody new can subscribe",
            PlanChange::New => "new",
        };
        let _ = writeln!(text, "\nplan {}: {change}", plan.plan);
        text.push_str(&rows(&plan.fields));
        for on in &plan.subscriptions {
            let live = counted(on.subscriptions.try_into().unwrap_or_default(), "subscription");
            let stay = if on.sold { "" } else { ", until moved" };
            let _ = writeln!(text, "  {live} on {}{stay}", on.version);
        }
    }
    if !difference.everybody.is_empty() {
        text.push_str("\nfor everybody, at once\n");
        text.push_str(&rows(&difference.everybody));
        let customers = counted(difference.customers.try_into().unwrap_or_default(), "customer");
        let without = difference.customers_without_subscription;
        let _ = writeln!(text, "  of {customers}, {without} without a subscription");
    }
    text
}

fn rows(changes: &[Change]) -> String {
    let row = |change: &Change| {
        let text = match (&change.before, &change.after) {
            (Some(before), Some(after)) => format!("{before} -> {after}"),
            (None, Some(after)) => format!("new: {after}"),
            (before, None) => format!("gone: {}", before.clone().unwrap_or_default()),
        };
        let customers = |many: i64| {
            let many = counted(many.try_into().unwrap_or_default(), "customer");
            format!(" ({many} charged at it in the last {DAYS} days)")
        };
        let charged = change.customers.map(customers).unwrap_or_default();
        vec![format!("  {}", change.name), format!("{text}{charged}")]
    };
    if changes.is_empty() { String::new() } else { columns(&[], 2, &changes.iter().map(row).collect::<Vec<_>>()) }
}
