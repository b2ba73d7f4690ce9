//! The language of the stories: the words of a line, the lines of a catalog, and what else is more than a word.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use engine::{
    Asset, Catalog, CustomerChange, GrantTemplate, HoldSize, Meter, Model, Overage, Price, Profile, Rounding, Tier,
};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;

/// A line: its words, and its `name=value` options.
pub(crate) struct Words<'a> {
    pub(crate) plain: Vec<&'a str>,
    pub(crate) options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        let (options, plain) = line.split_whitespace().partition::<Vec<_>, _>(|word| word.contains('='));
        Self { plain, options: options.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    pub(crate) fn list(&self, option: &str) -> Vec<&'a str> {
        self.options.get(option).map_or_else(Vec::new, |list| list.split(',').collect())
    }

    /// Nothing for an option that cannot be read, `Some(None)` for one that is not there.
    pub(crate) fn option<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
        self.options.get(name).map_or(Some(None), |text| read(text).map(Some))
    }

    /// The options that are not the language's own: dimensions.
    pub(crate) fn dimensions(&self) -> BTreeMap<String, String> {
        let own =
            ["per", "size", "rounding", "line_rounding", "whole_coins", "pooled", "plan", "flat", "at", "until", "own"];
        let others = self.options.iter().filter(|(name, _)| !own.contains(name));
        others.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// An enum by its stored name.
pub(crate) fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

/// A number, or whatever else reads itself.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// One line of the catalog.
pub(crate) fn define(catalog: &mut Catalog, words: &Words) -> Option<()> {
    match words.plain.as_slice() {
        ["time_zone", zone] => catalog.time_zone = TimeZone::get(zone).ok()?,
        ["overage", policy] => {
            catalog.overage = Overage { policy: named(policy)?, limit: words.option("limit", number)? };
        }
        ["low_balance", amount, asset] => {
            catalog.low_balances.insert(Asset::new(asset), amount.parse().ok()?);
        }
        ["hold_seconds", seconds] => catalog.hold_seconds = seconds.parse().ok()?,
        ["meter", name] => {
            let meter = Meter {
                name: Arc::from(*name),
                unit: Asset::new(words.options.get("unit").unwrap_or(name)),
                event_type: None,
                property: None,
                dimensions: words.list("dimensions").into_iter().map(str::to_owned).collect(),
                requires_payment_method: words.options.get("payment_method") == Some(&"required"),
            };
            catalog.meters.insert(meter.name.clone(), meter);
        }
        ["price", meter, model, asset, amounts @ ..] => {
            let mut price = price(words, meter, asset, read_model(model, amounts, words)?)?;
            match words.options.get("plan") {
                Some(plan) => crate::billing::change_plan(catalog, plan, |plan| {
                    price.version = format!("{} of {}", price.name, plan.version).into();
                    plan.prices.push(Arc::new(price));
                })?,
                None => catalog.prices.push(Arc::new(price)),
            }
        }
        ["grant", name, amount, asset, kind] => catalog.grants.push(GrantTemplate {
            name: Arc::from(*name),
            on: named(words.options.get("on")?)?,
            asset: Asset::new(asset),
            amount: amount.parse().ok()?,
            kind: named(kind)?,
            priority: words.option("priority", number)?.unwrap_or(0),
            expires_after_days: words.option("days", number)?,
            meters: words.list("meters").into_iter().map(Arc::from).collect(),
        }),
        _ => crate::payments::define(catalog, words)?,
    }
    Some(())
}

pub(crate) fn change(words: &Words, profile: &[&str]) -> Option<CustomerChange> {
    let overage = match words.options.get("overage") {
        None => None,
        Some(&"tenant") => Some(None),
        Some(policy) => Some(Some(Overage { policy: named(policy)?, limit: words.option("limit", number)? })),
    };
    Some(CustomerChange {
        status: words.option("status", named)?,
        payment_method: words.options.get("payment_method").map(|on_file| *on_file == "yes"),
        overage,
        profile: (!profile.is_empty()).then(|| Profile { name: Some(profile.join(" ")), ..Profile::default() }),
        opening_grants: Vec::new(),
        known_before: words.options.get("known_before") == Some(&"yes"),
    })
}

fn price(words: &Words, meter: &str, asset: &str, model: Model) -> Option<Price> {
    let matching = words.dimensions();
    Some(Price {
        name: format!("{meter}{matching:?}").into(),
        version: format!("{meter}{matching:?}").into(),
        meter: meter.into(),
        pooled: words.list("pooled").into_iter().map(Arc::from).collect(),
        asset: Asset::new(asset),
        matching,
        model,
        per: words.option("per", number)?.unwrap_or(1),
        rounding: words.option("rounding", named)?.unwrap_or_default(),
        line_rounding: words.option("line_rounding", named)?.unwrap_or(Rounding::Down),
        whole_coins: words.options.get("whole_coins") == Some(&"yes"),
    })
}

fn read_model(model: &str, amounts: &[&str], words: &Words) -> Option<Model> {
    let text = amounts.join(" ");
    let tiers = || text.split(',').map(read_tier).collect::<Option<Vec<Tier>>>();
    Some(match model {
        "flat" => Model::Flat { amount: text.parse().ok()? },
        "per_unit" => Model::PerUnit { amount: text.parse().ok()? },
        "package" => Model::Package { size: words.option("size", number)??, amount: text.parse().ok()? },
        "percentage" => {
            Model::Percentage { percent: text.parse().ok()?, flat: words.option("flat", number)?.unwrap_or_default() }
        }
        "graduated" => Model::Graduated { tiers: tiers()? },
        "volume" => Model::Volume { tiers: tiers()? },
        _ => return None,
    })
}

/// `0.5 to 200 plus 10`; `to` is missing in the last tier, `plus` where there is no flat amount.
fn read_tier(text: &str) -> Option<Tier> {
    let words = Words::of(text);
    let after = |word: &str| words.plain.iter().skip_while(move |other| **other != word).nth(1).copied();
    Some(Tier {
        up_to: match after("to") {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        },
        amount: words.plain.first()?.parse().ok()?,
        flat: after("plus").unwrap_or("0").parse().ok()?,
    })
}

/// Nothing, a quantity, or `amount` and an amount of money.
pub(crate) fn read_size(words: &[&str]) -> Option<Option<HoldSize>> {
    Some(match words {
        [] => None,
        [quantity] => Some(HoldSize::Quantity(number(quantity)?)),
        ["amount", amount] => Some(HoldSize::Amount(number(amount)?)),
        _ => return None,
    })
}
