//! `[[packs]]`: what can be bought; and `[refunds]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Micros, Money, Pack, SpentPolicy};
use toml::Spanned;

use super::grant::{Assets, read_asset, read_covered_meters};
use super::section::{NamePattern, Section};

const MOST_PACKS: usize = 200;
const DEFAULT_PRIORITY: i16 = 100;
const HIGHEST_PRIORITY: i64 = 1_000;
const MOST_DAYS: i64 = 36_500;
const POLICIES: [(&str, SpentPolicy); 2] = [("owe", SpentPolicy::Owe), ("forgive", SpentPolicy::Forgive)];

/// Reads all packs.
pub(crate) fn read_packs(root: &mut Section<'_>, assets: &Assets<'_>) -> BTreeMap<Arc<str>, Pack> {
    let mut packs = BTreeMap::new();
    for section in root.sections("packs", "pack", MOST_PACKS) {
        let (problems, at) = (section.problems, section.at);
        let Some(pack) = read_pack(section, assets) else { continue };
        if let Some(other) = packs.insert(pack.name.clone(), pack) {
            problems.add(at, format!("there are two packs `{}`", other.name), "give this one another name");
        }
    }
    packs
}

fn read_pack(mut section: Section<'_>, assets: &Assets<'_>) -> Option<Pack> {
    let (problems, at) = (section.problems, section.at);
    for (field, example) in [("name", "name = \"starter\""), ("price", "price = \"20\"")] {
        section.require(field, example);
    }
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let title = section.title();
    let price = read_price(&mut section, assets);
    let asset = read_asset(&mut section, assets);
    let is_currency = asset.as_ref().is_some_and(|asset| asset.currency().is_some());
    if !is_currency && section.has("unit") {
        section.require("amount", "amount = \"100\"");
    }
    let names_amount = section.has("amount");
    let amount = section.micros("amount", Micros::new(1)).map(Spanned::into_inner);
    let priority = section.integer("priority", 0..=HIGHEST_PRIORITY).and_then(|priority| i16::try_from(priority).ok());
    let expires_after_days = section.integer("expires_after_days", 1..=MOST_DAYS);
    let meters = read_covered_meters(&mut section, assets, asset.as_ref());
    section.finish();
    let (name, price, asset) = (name?, price?, asset?);
    // A pack that says nothing else gives what it costs.
    let own = price.micros().ok().filter(|_| asset == price.currency && !names_amount);
    if own.is_none() && amount.is_none() && !names_amount && is_currency {
        let problem = format!("pack `{name}` costs {} and gives {asset}, and does not say how much", price.currency);
        problems.add(at, problem, "add `amount`");
    }
    let amount = amount.or(own)?;
    Some(Pack {
        name: Arc::from(name),
        title: Arc::from(title.unwrap_or(name)),
        price,
        asset,
        amount,
        priority: priority.unwrap_or(DEFAULT_PRIORITY),
        expires_after_days,
        meters,
    })
}

/// The price, in whole minor units of its currency.
fn read_price(section: &mut Section<'_>, assets: &Assets<'_>) -> Option<Money> {
    let currency = section.currency_or("price_currency", assets.currency.as_ref());
    let price = section.money("price", Micros::new(1), currency.as_ref());
    // Some products write sums in the smallest coin.
    match section.own_number("price_minor", |text| text.parse().ok().filter(|minor| *minor > 0)) {
        Some(minor) => Some(Money { minor, currency: currency? }),
        None => price,
    }
}

pub(crate) fn read_refunds(root: &mut Section<'_>) -> SpentPolicy {
    let Some(mut section) = root.section("refunds", "[refunds]") else { return SpentPolicy::default() };
    let policy = section.choice("spent", &POLICIES).unwrap_or_default();
    section.finish();
    policy
}
