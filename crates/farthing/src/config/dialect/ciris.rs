//! `[dialect] name = "ciris"`.

use std::sync::Arc;

use engine::{Asset, Micros};
use toml::Spanned;

use super::{Offer, insecure_flag};
use crate::config::error::suggestion;
use crate::config::meter::find;
use crate::config::section::Section;

/// The most units that a use may be worth.
const MOST_UNITS: i64 = 1_000_000;

/// Which parts of the catalog the words of this dialect mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CirisSettings {
    /// The meter that counts uses. Grants in its unit are free uses.
    pub meter: Arc<str>,
    /// What balances are in: what the meter is priced in.
    pub asset: Asset,
    /// What is bought.
    pub pack: Arc<str>,
    /// How many units of balance a bought use gives.
    pub units_per_use: i64,
    /// What new accounts are in and called, where a request does not say.
    pub currency: Asset,
    /// The plan that new accounts are said to have.
    pub plan_name: String,
    /// Whether callers without a key are let in: for the document's own examples, in test mode.
    pub allow_anonymous: bool,
}

pub(super) fn read_ciris(mut section: Section<'_>, offer: Offer<'_>) -> Option<CirisSettings> {
    section.require("meter", "meter = \"use\"");
    section.require("pack", "pack = \"uses\"");
    let meter_name = section.text("meter");
    let meter = meter_name.as_ref().and_then(|name| find(offer.meters, name, &section));
    let pack_name = section.text("pack");
    let units_per_use = section.integer("units_per_use", 1..=MOST_UNITS).unwrap_or(1);
    let currency = section.currency("currency").map_or_else(|| Asset::new("USD"), Spanned::into_inner);
    let plan_name = section.string("plan_name").unwrap_or_else(|| "free".to_owned());
    let allow_anonymous = insecure_flag(&mut section, "allow_anonymous", offer.mode);
    let (meter, meter_name, pack_name) = (meter?, meter_name?, pack_name?);
    let price = offer.prices.iter().find(|price| price.prices(&meter.name));
    if price.is_none() {
        let problem = format!("meter `{}` has no price, so nothing could be bought for it", meter.name);
        section.problems.add(
            meter_name.span().start,
            problem,
            "add one in a unit of its own, as in `unit = \"credit\"`",
        );
    }
    let packs: Vec<&str> = offer.packs.keys().map(|name| &**name).collect();
    let remedy = suggestion(pack_name.get_ref(), packs);
    let pack = offer.packs.get_mut(*pack_name.get_ref());
    let Some(pack) = pack else {
        let problem = format!("unknown pack `{}` in [dialect]", pack_name.get_ref());
        section.problems.add(pack_name.span().start, problem, remedy);
        return None;
    };
    let asset = price?.asset.clone();
    if pack.asset != asset {
        let problem = format!("pack `{}` gives {}, and `{}` is priced in {asset}", pack.name, pack.asset, meter.name);
        section.problems.add(pack_name.span().start, problem, "give both the same `unit`");
    }
    // The file says how many uses the pack is; what it gives is so many times what a use is worth.
    match pack.amount.get().checked_mul(units_per_use) {
        Some(amount) => pack.amount = Micros::new(amount),
        None => {
            section.problems.add(section.at, "`units_per_use` makes the pack larger than can be counted", "lower it")
        }
    }
    let settings = CirisSettings {
        meter: meter.name.clone(),
        asset,
        pack: pack.name.clone(),
        units_per_use,
        currency,
        plan_name,
        allow_anonymous,
    };
    section.finish();
    Some(settings)
}
