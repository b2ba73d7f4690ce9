//! `[[plans]]`: what is sold by the period, with its own allowances, limits and prices.
//!
//! It gives each plan a version made of its content. Which versions customers are still on is for the store to know.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use engine::{Allowance, Asset, Feature, Interval, IntervalUnit, Limit, Micros, Plan};
use toml::Spanned;

use super::add_on::AddOns;
use super::connection::variable;
use super::error::suggestion;
use super::grant::{Assets, read_asset, read_covered_meters};
use super::limit::read_limits;
use super::meter::Meters;
use super::overage::read_overage;
use super::price::read_prices;
use super::section::{NamePattern, Scalar, Section};
use super::tenant::Mode;
use super::version::version;

const MOST_PLANS: usize = 200;
/// Each may be open twice for a customer: what is new, and what went over.
const MOST_ALLOWANCES: usize = 20;
const LONGEST_TRIAL_DAYS: i64 = 730;
const LONGEST_FEATURE_TEXT: usize = 200;
const LONGEST_PROVIDER_PRICE: usize = 255;

const INTERVALS: [(&str, IntervalUnit); 4] = [
    ("day", IntervalUnit::Day),
    ("week", IntervalUnit::Week),
    ("month", IntervalUnit::Month),
    ("year", IntervalUnit::Year),
];

/// What plans refer to.
pub(crate) struct PlanSurroundings<'s> {
    /// The tenant's currency, where it could be read.
    pub(crate) currency: Option<Asset>,
    /// Every currency that something outside plans is priced in, with the tenant's.
    pub(crate) currencies: &'s BTreeSet<Asset>,
    /// The meters of the file.
    pub(crate) meters: &'s Meters,
    /// The add-ons of the file.
    pub(crate) add_ons: &'s AddOns,
    /// The limits of every customer.
    pub(crate) limits: &'s [Limit],
    /// Whether an environment variable may be missing.
    pub(crate) mode: Mode,
}

/// Reads all plans, in the order of the file.
pub(crate) fn read_plans(root: &mut Section<'_>, surroundings: &PlanSurroundings<'_>) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for section in root.sections("plans", "plan", MOST_PLANS) {
        let (problems, at) = (section.problems, section.at);
        let Some(plan) = read_plan(section, surroundings) else { continue };
        if plans.iter().any(|other| other.name == plan.name) {
            problems.add(at, format!("there are two plans `{}`", plan.name), "give this one another name");
        }
        plans.push(plan);
    }
    plans
}

fn read_plan(mut section: Section<'_>, surroundings: &PlanSurroundings<'_>) -> Option<Plan> {
    section.require("name", "name = \"pro\"");
    section.require("price", "price = \"20\"");
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let title = section.title();
    let currency = section.currency_or("currency", surroundings.currency.as_ref());
    let fee = section.money("price", Micros::ZERO, currency.as_ref());
    let interval = read_interval(&mut section);
    let trial_days = section.integer("trial_days", 0..=LONGEST_TRIAL_DAYS).and_then(|days| u16::try_from(days).ok());
    let spending_limit = section.micros("spending_limit", Micros::ZERO).map(Spanned::into_inner);
    let overage = read_overage(&mut section);
    let commitment = section.money("commitment", Micros::ZERO, currency.as_ref()).map(|money| money.minor);
    let add_ons = read_booked(&mut section, surroundings.add_ons, currency.as_ref());
    let provider_price = read_provider_price(&mut section, surroundings);
    let features = read_features(&mut section);
    let prices = read_prices(&mut section, surroundings.meters, currency.as_ref());
    let priced = prices.iter().map(|price| price.asset.clone());
    let currencies = surroundings.currencies.iter().cloned().chain(priced).collect();
    let assets = Assets { currency: currency.clone(), currencies, meters: surroundings.meters };
    let allowances = read_allowances(&mut section, &assets);
    let limits = read_limits(&mut section, surroundings.meters, surroundings.limits);
    let (problems, at) = (section.problems, section.at);
    section.finish();
    let name = name?;
    let mut plan = Plan {
        name: Arc::from(name),
        version: Arc::from(""),
        title: Arc::from(title.unwrap_or(name)),
        fee: fee?,
        interval,
        trial_days: trial_days.unwrap_or_default(),
        allowances,
        features,
        limits,
        spending_limit,
        overage,
        commitment,
        prices,
        add_ons,
        provider_price,
    };
    match version("v", &plan) {
        Ok(version) => plan.version = version.into(),
        Err(error) => problems.add(at, format!("the plan cannot be written as JSON: {error}"), "change its texts"),
    }
    Some(plan)
}

/// How long a period is: at most three years, as at Stripe.
fn read_interval(section: &mut Section<'_>) -> Interval {
    let unit = section.choice("interval", &INTERVALS).unwrap_or(IntervalUnit::Month);
    let counts: RangeInclusive<i64> = match unit {
        IntervalUnit::Day => 1..=1_095,
        IntervalUnit::Week => 1..=156,
        IntervalUnit::Month => 1..=36,
        IntervalUnit::Year => 1..=3,
    };
    let count = section.integer("interval_count", counts).and_then(|count| u16::try_from(count).ok());
    Interval { unit, count: count.unwrap_or(1) }
}

/// The add-ons that may be booked with a plan; they are billed with its fee, so in its currency.
fn read_booked(section: &mut Section<'_>, add_ons: &AddOns, currency: Option<&Asset>) -> Vec<Arc<str>> {
    let mut booked = Vec::new();
    for name in section.texts("add_ons") {
        let Some(add_on) = add_ons.get(*name.get_ref()) else {
            let problem = format!("unknown add-on `{}` in plan", name.get_ref());
            let remedy = suggestion(name.get_ref(), add_ons.keys().map(|name| &**name));
            section.problems.add(name.span().start, problem, remedy);
            continue;
        };
        if let Some(currency) = currency.filter(|currency| **currency != add_on.fee.currency) {
            let problem = format!("add-on `{}` costs {}, and the plan {currency}", add_on.name, add_on.fee.currency);
            section.problems.add(name.span().start, problem, "give both the same currency");
        }
        booked.push(add_on.name.clone());
    }
    booked.sort();
    booked
}

/// The provider's price, where the provider renews the plan: what the environment says, or else what is written. In live mode an
/// environment that is to say it has to.
fn read_provider_price(section: &mut Section<'_>, surroundings: &PlanSurroundings<'_>) -> Option<Arc<str>> {
    let remedy = "set it to the provider's id of the price";
    let set = variable(section, "provider_price_env", (surroundings.mode, remedy)).map(Arc::from);
    let written = if section.has("provider_price") { written_price(section, "plan") } else { None };
    set.or(written)
}

/// The provider's price as it stands in the file.
pub(super) fn written_price(section: &mut Section<'_>, what: &str) -> Option<Arc<str>> {
    let price = section.text("provider_price")?;
    if price.get_ref().len() > LONGEST_PROVIDER_PRICE {
        let remedy = format!("write the provider's id of the price, {LONGEST_PROVIDER_PRICE} bytes at the most");
        section.problems.add(price.span().start, format!("`provider_price` in {what} is too long"), remedy);
    }
    Some(Arc::from(price.into_inner()))
}

fn read_features(section: &mut Section<'_>) -> BTreeMap<Arc<str>, Feature> {
    let mut features = BTreeMap::new();
    for (name, value) in section.scalars("features") {
        section.check_name("feature", &name, &NamePattern::CODE);
        let feature = match value {
            Scalar::Flag(flag) => Feature::Flag(flag),
            Scalar::Integer(number) => Feature::Number(number),
            Scalar::Text(text) => Feature::Text(Arc::from(text)),
        };
        if let Feature::Text(text) = &feature
            && text.chars().count() > LONGEST_FEATURE_TEXT
        {
            let remedy = format!("keep it to {LONGEST_FEATURE_TEXT} characters");
            section.problems.add(name.span().start, format!("feature `{}` is too long", name.get_ref()), remedy);
        }
        features.insert(Arc::from(*name.get_ref()), feature);
    }
    features
}

fn read_allowances(section: &mut Section<'_>, assets: &Assets<'_>) -> Vec<Allowance> {
    let mut allowances: Vec<Allowance> = Vec::new();
    for section in section.sections("allowances", "allowance", MOST_ALLOWANCES) {
        let (problems, at) = (section.problems, section.at);
        let Some(allowance) = read_allowance(section, assets) else { continue };
        if allowances.iter().any(|other| other.name == allowance.name) {
            let problem = format!("there are two allowances `{}` in the plan", allowance.name);
            problems.add(at, problem, "give this one another name");
        }
        allowances.push(allowance);
    }
    allowances
}

fn read_allowance(mut section: Section<'_>, assets: &Assets<'_>) -> Option<Allowance> {
    section.require("name", "name = \"included\"");
    section.require("amount", "amount = \"1000\"");
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let asset = read_asset(&mut section, assets);
    let amount = section.micros("amount", Micros::new(1)).map(Spanned::into_inner);
    let meters = read_covered_meters(&mut section, assets, asset.as_ref());
    let rollover = section.flag("rollover");
    if !rollover {
        let problem = "allowance has `cap` but no `rollover`";
        section.refuse("cap", problem, "add `rollover = true`: the cap is the most that goes over");
    }
    let cap = if rollover { section.micros("cap", Micros::new(1)).map(Spanned::into_inner) } else { None };
    section.finish();
    Some(Allowance { name: Arc::from(name?), asset: asset?, amount: amount?, meters, rollover, cap })
}
