//! `[[prices]]`: what uses of a meter cost, and which of several prices is meant.
//!
//! It names each price by its meter and `match` and gives it a version made of its content, so that a charge can be
//! explained after the file has changed. It never computes an amount.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Asset, Meter, Micros, Model, Money, Price, Rate, Rounding, Tier};
use toml::Spanned;

use super::error::{Problems, suggestion};
use super::meter::{Meters, find};
use super::section::{NamePattern, Section};
use super::version::version;

const MOST_PRICES: usize = 10_000;
const MOST_TIERS: usize = 1_000;
/// A petabyte in bytes; above it, prices no longer fit the arithmetic of rating.
const LARGEST_PER: i64 = 1_000_000_000_000_000;
const SMALLEST: Micros = Micros::new(1);

const ROUNDINGS: [(&str, Rounding); 4] =
    [("half_even", Rounding::HalfEven), ("half_up", Rounding::HalfUp), ("down", Rounding::Down), ("up", Rounding::Up)];

/// The word for a model, and the fields that only some models have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Flat,
    PerUnit,
    Package,
    Percentage,
    Graduated,
    Volume,
}

impl Shape {
    const ALL: [(&'static str, Self); 6] = [
        ("flat", Self::Flat),
        ("per_unit", Self::PerUnit),
        ("package", Self::Package),
        ("percentage", Self::Percentage),
        ("graduated", Self::Graduated),
        ("volume", Self::Volume),
    ];
    const FIELDS: [&'static str; 6] = ["amount", "per", "size", "percent", "flat", "tiers"];

    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Flat => &["amount"],
            Self::PerUnit => &["amount", "per"],
            Self::Package => &["amount", "size"],
            Self::Percentage => &["percent", "flat"],
            Self::Graduated | Self::Volume => &["tiers", "per"],
        }
    }
}

/// Reads the prices of the file or of a plan, those that match more dimensions first. `currency` is that of prices that
/// name none.
pub(crate) fn read_prices(parent: &mut Section<'_>, meters: &Meters, currency: Option<&Asset>) -> Vec<Arc<Price>> {
    let mut prices: Vec<(usize, Price)> = Vec::new();
    for section in parent.sections("prices", "price", MOST_PRICES) {
        let at = section.at;
        prices.extend(read_price(section, meters, currency).map(|price| (at, price)));
    }
    refuse_ambiguous(&prices, parent.problems);
    let mut prices: Vec<Arc<Price>> = prices.into_iter().map(|(_, price)| Arc::new(price)).collect();
    prices.sort_by(|a, b| {
        let order = |price: &Price| (usize::MAX - price.matching.len(), price.name.clone());
        order(a).cmp(&order(b))
    });
    prices
}

fn read_price(mut section: Section<'_>, meters: &Meters, currency: Option<&Asset>) -> Option<Price> {
    let priced = read_meters_of(&mut section, meters);
    let matching = read_match(&mut section, &priced);
    let asset = read_asset(&mut section, currency);
    let rounding = section.choice("rounding", &ROUNDINGS).unwrap_or_default();
    let line_rounding = section.choice("line_rounding", &ROUNDINGS).unwrap_or(Rounding::Down);
    let whole_coins = section.flag("whole_coins");
    if whole_coins && asset.as_ref().is_some_and(|asset| Money::coin(asset).is_err()) {
        let problem = "`whole_coins` is for prices in a currency: a unit has no coins";
        section.refuse("whole_coins", problem, "take it out");
    }
    section.require("model", "model = \"per_unit\"");
    let model = section.choice("model", &Shape::ALL);
    let (model, per) = read_model(&mut section, model);
    let (at, problems) = (section.at, section.problems);
    section.finish();
    let names: Vec<Arc<str>> = priced.iter().map(|meter| meter.name.clone()).collect();
    let (meter, pooled) = names.split_first()?;
    let mut price = Price {
        name: price_name(&names.join("+"), &matching).into(),
        version: Arc::from(""),
        meter: meter.clone(),
        asset: asset?,
        pooled: pooled.to_vec(),
        matching,
        model: model?,
        per,
        rounding,
        line_rounding,
        whole_coins,
    };
    match version("p", &price) {
        Ok(version) => price.version = version.into(),
        Err(error) => problems.add(at, format!("the price cannot be written as JSON: {error}"), "change its `match`"),
    }
    Some(price)
}

/// What uses cost: money, or units of credit that are bought or given.
fn read_asset(section: &mut Section<'_>, currency: Option<&Asset>) -> Option<Asset> {
    if section.has("currency") {
        section.refuse("unit", "price has both `currency` and `unit`", "leave one out: it is in one of them");
    }
    match section.name("unit", &NamePattern::WORD) {
        Some(unit) => Some(Asset::new(unit.get_ref())),
        None => section.currency_or("currency", currency),
    }
}

/// The meters that a price is for, in their order, so that the order of the file makes no other price.
fn read_meters_of<'m>(section: &mut Section<'_>, meters: &'m Meters) -> Vec<&'m Meter> {
    if !section.has("meters") {
        section.require("meter", "meter = \"tokens\"");
    }
    let mut names: Vec<Spanned<&str>> = section.text("meter").into_iter().collect();
    if section.has("meter") {
        let problem = "price has both `meter` and `meters`";
        section.refuse("meters", problem, "leave one out: `meters` counts the uses of several meters together");
    } else {
        names = section.texts("meters");
        if section.has("meters") && names.is_empty() {
            section.refuse("meters", "`meters` in price names no meter", "write `meters = [\"spoken\", \"heard\"]`");
        }
    }
    let mut found: Vec<&Meter> = names.iter().filter_map(|name| find(meters, name, section)).collect();
    found.sort_by_key(|meter| &meter.name);
    found
}

fn read_match(section: &mut Section<'_>, meters: &[&Meter]) -> BTreeMap<String, String> {
    let mut matching = BTreeMap::new();
    for (name, value) in section.map("match") {
        if let Some(meter) = meters.iter().find(|meter| !meter.dimensions.contains(*name.get_ref())) {
            let problem = format!("meter `{}` has no dimension `{}`", meter.name, name.get_ref());
            let remedy = if meter.dimensions.is_empty() {
                format!("give it `dimensions = [\"{}\"]`", name.get_ref())
            } else {
                suggestion(name.get_ref(), meter.dimensions.iter().map(String::as_str))
            };
            section.problems.add(name.span().start, problem, remedy);
        }
        matching.insert((*name.get_ref()).to_owned(), (*value.get_ref()).to_owned());
    }
    matching
}

/// The model and how many units its unit price is for.
fn read_model(section: &mut Section<'_>, shape: Option<Shape>) -> (Option<Model>, u64) {
    let Some(shape) = shape else {
        // What belongs here cannot be known; read what there may be, for its own mistakes.
        section.rate("amount");
        section.integer("per", 1..=LARGEST_PER);
        section.micros("size", SMALLEST);
        section.rate("percent");
        section.rate("flat");
        read_tiers(section);
        return (None, 1);
    };
    let word = Shape::ALL.iter().find(|(_, other)| *other == shape).map_or("", |(word, _)| *word);
    let fields = shape.fields();
    for field in Shape::FIELDS.into_iter().filter(|field| !fields.contains(field)) {
        let wanted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        section.refuse(
            field,
            format!("a {word} price has no `{field}`"),
            format!("it has {}; leave `{field}` out or use another model", wanted.join(" and ")),
        );
    }
    let mut per = 1;
    if fields.contains(&"per") {
        per = section.integer("per", 1..=LARGEST_PER).and_then(|per| u64::try_from(per).ok()).unwrap_or(1);
    }
    (shape_model(section, shape), per)
}

fn shape_model(section: &mut Section<'_>, shape: Shape) -> Option<Model> {
    match shape {
        Shape::Flat => read_amount(section).map(|amount| Model::Flat { amount }),
        Shape::PerUnit => read_amount(section).map(|amount| Model::PerUnit { amount }),
        Shape::Package => {
            section.require("size", "size = \"100\"");
            let size = section.micros("size", SMALLEST);
            let amount = read_amount(section)?;
            Some(Model::Package { size: size?.into_inner(), amount })
        }
        Shape::Percentage => {
            section.require("percent", "percent = \"2.9\"");
            let flat = section.rate("flat").unwrap_or_default();
            section.rate("percent").map(|percent| Model::Percentage { percent, flat })
        }
        Shape::Graduated | Shape::Volume => {
            section.require("tiers", "tiers = [{ up_to = \"100\", amount = \"1\" }, { amount = \"0.5\" }]");
            let tiers = read_tiers(section);
            let volume = shape == Shape::Volume;
            Some(if volume { Model::Volume { tiers } } else { Model::Graduated { tiers } })
        }
    }
}

fn read_amount(section: &mut Section<'_>) -> Option<Rate> {
    section.require("amount", "amount = \"0.25\"");
    section.rate("amount")
}

fn read_tiers(section: &mut Section<'_>) -> Vec<Tier> {
    let sections = section.sections("tiers", "tier", MOST_TIERS);
    let last = sections.len().checked_sub(1);
    let mut tiers = Vec::with_capacity(sections.len());
    let mut below = Micros::ZERO;
    for (index, mut tier) in sections.into_iter().enumerate() {
        let amount = read_amount(&mut tier);
        let flat = tier.rate("flat").unwrap_or_default();
        let up_to = tier.micros("up_to", SMALLEST);
        if Some(index) == last {
            tier.refuse("up_to", "the last tier has `up_to`", "leave it out, so that every quantity has a price");
        } else if !tier.has("up_to") {
            tier.problems.add(tier.at, "only the last tier may have no `up_to`", "say up to which quantity it holds");
        }
        let up_to = up_to.map(|up_to| {
            if *up_to.get_ref() <= below {
                let problem = format!("`up_to` is {} after a tier up to {below}", up_to.get_ref());
                tier.problems.add(up_to.span().start, problem, "write the tiers in rising order");
            }
            below = *up_to.get_ref();
            below
        });
        tier.finish();
        tiers.extend(amount.map(|amount| Tier { up_to, amount, flat }));
    }
    tiers
}

/// `meter`, or `meter{dimension=value,...}`; a value that would blur this is in quotes.
fn price_name(meter: &str, matching: &BTreeMap<String, String>) -> String {
    if matching.is_empty() {
        return meter.to_owned();
    }
    let pair = |(name, value): (&String, &String)| {
        if value.contains([',', '=', '{', '}', '"']) { format!("{name}={value:?}") } else { format!("{name}={value}") }
    };
    let pairs: Vec<String> = matching.iter().map(pair).collect();
    format!("{meter}{{{}}}", pairs.join(","))
}

/// The prices of one meter that match the same dimensions, by the values they match.
type Group<'p> = BTreeMap<Vec<&'p str>, &'p (usize, Price)>;

/// Two prices are ambiguous when a use can fit both, both match as many dimensions, and none that fits it matches more.
fn refuse_ambiguous(prices: &[(usize, Price)], problems: &Problems) {
    let mut meters: BTreeMap<&str, BTreeMap<Vec<&str>, Group<'_>>> = BTreeMap::new();
    for entry in prices {
        let (at, price) = entry;
        let (names, values) = price.matching.iter().map(|(name, value)| (name.as_str(), value.as_str())).unzip();
        let (names, values): (Vec<&str>, Vec<&str>) = (names, values);
        for meter in std::iter::once(&price.meter).chain(&price.pooled) {
            let group = meters.entry(meter).or_default().entry(names.clone()).or_default();
            if group.insert(values.clone(), entry).is_some() {
                let problem = format!("there are two prices for `{}`", price_name(meter, &price.matching));
                problems.add(*at, problem, "leave one out, or set them apart by `match`");
            }
        }
    }
    for groups in meters.values() {
        for (names, group) in groups {
            let rivals = groups.iter().filter(|(others, _)| others.len() == names.len() && *others < names);
            let rivals: Vec<_> = rivals.flat_map(|(_, rivals)| rivals.values()).collect();
            for (at, price) in group.values() {
                let undecided = |(_, rival): &&&&(usize, Price)| is_undecided(price, rival, groups);
                let Some((rival_at, rival)) = rivals.iter().find(undecided).map(|rival| (rival.0, &rival.1)) else {
                    continue;
                };
                let problem =
                    format!("a use can fit both `{}` and `{}`, and neither matches more", rival.name, price.name);
                let both: Vec<String> =
                    union(price, rival).map(|(name, value)| format!("{name} = {value:?}")).collect();
                let remedy = format!("add a price with `match = {{ {} }}`", both.join(", "));
                problems.add(rival_at.max(*at), problem, remedy);
            }
        }
    }
}

/// What a use must have to fit both prices, where they do not exclude each other.
fn union<'p>(price: &'p Price, rival: &'p Price) -> impl Iterator<Item = (&'p str, &'p str)> {
    let merged: BTreeMap<&str, &str> =
        price.matching.iter().chain(&rival.matching).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    merged.into_iter()
}

fn is_undecided(price: &Price, rival: &Price, groups: &BTreeMap<Vec<&str>, Group<'_>>) -> bool {
    let exclude = |(name, value): (&String, &String)| rival.matching.get(name).is_some_and(|other| other != value);
    if price.matching.iter().any(exclude) {
        return false;
    }
    let both: BTreeMap<&str, &str> = union(price, rival).collect();
    let decides = |(names, group): (&Vec<&str>, &Group<'_>)| {
        let values: Option<Vec<&str>> = names.iter().map(|name| both.get(name).copied()).collect();
        names.len() > price.matching.len() && values.is_some_and(|values| group.contains_key(&values))
    };
    !groups.iter().any(decides)
}
