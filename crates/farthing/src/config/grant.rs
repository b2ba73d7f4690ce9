//! `[[grants]]`: what every customer is given at a moment of its life.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::{Asset, GrantKind, GrantTemplate, LifeEvent, Micros};
use toml::Spanned;

use super::error::suggestion;
use super::meter::{Meters, find};
use super::section::{NamePattern, Section, with_article};

/// A quarter of the open grants that a customer may have, so that there is always room for bought ones.
const MOST_GRANTS: usize = engine::grant::MOST_OPEN_GRANTS / 4;
const DEFAULT_PRIORITY: i16 = 100;
const HIGHEST_PRIORITY: i64 = 1_000;
const MOST_DAYS: i64 = 36_500;

const EVENTS: [(&str, LifeEvent); 2] =
    [("created", LifeEvent::Created), ("first_payment_method", LifeEvent::FirstPaymentMethod)];
const KINDS: [(&str, GrantKind); 3] =
    [("promotional", GrantKind::Promotional), ("allowance", GrantKind::Allowance), ("paid", GrantKind::Paid)];

/// What grants may be in.
pub(crate) struct Assets<'m> {
    /// The tenant's currency, where it could be read.
    pub(crate) currency: Option<Asset>,
    /// Every currency that something is priced in, with the tenant's.
    pub(crate) currencies: BTreeSet<Asset>,
    /// Their units may be granted too.
    pub(crate) meters: &'m Meters,
}

/// Reads all grants, in the order of the file.
pub(crate) fn read_grants(root: &mut Section<'_>, assets: &Assets<'_>) -> Vec<GrantTemplate> {
    let mut grants: Vec<GrantTemplate> = Vec::new();
    for section in root.sections("grants", "grant", MOST_GRANTS) {
        let (problems, at) = (section.problems, section.at);
        let Some(grant) = read_grant(section, assets) else { continue };
        if grants.iter().any(|other| other.name == grant.name) {
            problems.add(at, format!("there are two grants `{}`", grant.name), "give this one another name");
        }
        grants.push(grant);
    }
    grants
}

fn read_grant(mut section: Section<'_>, assets: &Assets<'_>) -> Option<GrantTemplate> {
    for (field, example) in [("name", "name = \"welcome\""), ("on", "on = \"created\""), ("amount", "amount = \"10\"")]
    {
        section.require(field, example);
    }
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let on = section.choice("on", &EVENTS);
    let amount = section.micros("amount", Micros::new(1)).map(Spanned::into_inner);
    let asset = read_asset(&mut section, assets);
    let kind = section.choice("kind", &KINDS).unwrap_or(GrantKind::Promotional);
    let priority = section.integer("priority", 0..=HIGHEST_PRIORITY).and_then(|priority| i16::try_from(priority).ok());
    let expires_after_days = section.integer("expires_after_days", 1..=MOST_DAYS);
    let meters = read_covered_meters(&mut section, assets, asset.as_ref());
    section.finish();
    Some(GrantTemplate {
        name: Arc::from(name?),
        on: on?,
        asset: asset?,
        amount: amount?,
        kind,
        priority: priority.unwrap_or(DEFAULT_PRIORITY),
        expires_after_days,
        meters,
    })
}

/// The meters that a grant of this asset covers; none means all.
pub(crate) fn read_covered_meters(
    section: &mut Section<'_>,
    assets: &Assets<'_>,
    asset: Option<&Asset>,
) -> Vec<Arc<str>> {
    let mut meters = Vec::new();
    for name in section.texts("meters") {
        let Some(meter) = find(assets.meters, &name, section) else { continue };
        let may_cover = |asset: &Asset| meter.unit == *asset || assets.currencies.contains(asset);
        if let Some(unit) = asset.filter(|asset| asset.currency().is_none() && !may_cover(asset)) {
            let problem =
                format!("meter `{}` counts {}, so a grant in `{unit}` never covers it", meter.name, meter.unit);
            section.problems.add(name.span().start, problem, "take the meter out, or grant its own unit");
        }
        meters.push(meter.name.clone());
    }
    meters
}

/// The currency or unit that is granted; the tenant's currency where nothing is said.
pub(crate) fn read_asset(section: &mut Section<'_>, assets: &Assets<'_>) -> Option<Asset> {
    let currency = section.currency("currency");
    let unit = section.text("unit");
    if section.has("currency") && section.has("unit") {
        section.refuse(
            "unit",
            format!("{} has both `currency` and `unit`", section.what),
            "leave one out: it is in one of them",
        );
        return None;
    }
    if let Some(unit) = unit {
        let priced = assets.currencies.iter().filter(|asset| asset.currency().is_none());
        let units: BTreeSet<&str> =
            assets.meters.values().map(|meter| &meter.unit).chain(priced).map(Asset::as_str).collect();
        if !units.contains(unit.get_ref()) {
            let problem = format!("no meter has the unit `{}`", unit.get_ref());
            section.problems.add(unit.span().start, problem, suggestion(unit.get_ref(), units));
        }
        return Some(Asset::new(unit.get_ref()));
    }
    if section.has("currency") {
        let currency = currency?;
        if !assets.currencies.contains(currency.get_ref()) {
            let what = with_article(section.what);
            let problem = format!("nothing is priced in {}, the currency of {what}", currency.get_ref());
            let remedy = suggestion(currency.get_ref().as_str(), assets.currencies.iter().map(Asset::as_str));
            section.problems.add(currency.span().start, problem, remedy);
        }
        return Some(currency.into_inner());
    }
    if section.has("unit") { None } else { assets.currency.clone() }
}
