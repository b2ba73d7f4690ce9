//! `[[add_ons]]`: what is booked with a plan, for every period or once.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{AddOn, Asset, Micros};
use toml::Spanned;

use super::plan::written_price;
use super::section::{NamePattern, Section};

const MOST_ADD_ONS: usize = 200;

/// The add-ons of the file by name.
pub(crate) type AddOns = BTreeMap<Arc<str>, AddOn>;

/// Reads all add-ons. `currency` is that of those that name none.
pub(crate) fn read_add_ons(root: &mut Section<'_>, currency: Option<&Asset>) -> AddOns {
    let mut add_ons = AddOns::new();
    for section in root.sections("add_ons", "add-on", MOST_ADD_ONS) {
        let (problems, at) = (section.problems, section.at);
        let Some(add_on) = read_add_on(section, currency) else { continue };
        if let Some(other) = add_ons.insert(add_on.name.clone(), add_on) {
            problems.add(at, format!("there are two add-ons `{}`", other.name), "give this one another name");
        }
    }
    add_ons
}

fn read_add_on(mut section: Section<'_>, currency: Option<&Asset>) -> Option<AddOn> {
    for (field, example) in [("name", "name = \"phone-number\""), ("price", "price = \"5\"")] {
        section.require(field, example);
    }
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let title = section.title();
    let currency = section.currency_or("currency", currency);
    let fee = section.money("price", Micros::ZERO, currency.as_ref());
    let recurring = section.flag_or("recurring", true);
    let provider_price = if section.has("provider_price") { written_price(&mut section, "add-on") } else { None };
    section.finish();
    let name = name?;
    Some(AddOn { name: Arc::from(name), title: Arc::from(title.unwrap_or(name)), fee: fee?, recurring, provider_price })
}
