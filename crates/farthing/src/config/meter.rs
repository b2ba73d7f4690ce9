//! `[[meters]]`: the quantities that are counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Asset, Meter};
use toml::Spanned;

use super::error::suggestion;
use super::section::{NamePattern, Section};

const MOST_METERS: usize = 1_000;

/// The meters of the file by name.
pub(crate) type Meters = BTreeMap<Arc<str>, Meter>;

/// Reads all meters.
pub(crate) fn read_meters(root: &mut Section<'_>) -> Meters {
    let mut meters = Meters::new();
    for section in root.sections("meters", "meter", MOST_METERS) {
        let (problems, at) = (section.problems, section.at);
        let Some(meter) = read_meter(section) else { continue };
        if let Some(first) = meters.insert(meter.name.clone(), meter) {
            problems.add(at, format!("there are two meters `{}`", first.name), "give this one another name");
        }
    }
    meters
}

fn read_meter(mut section: Section<'_>) -> Option<Meter> {
    section.require("name", "name = \"tokens\"");
    let name = section.name("name", &NamePattern::METER);
    let unit = section.name("unit", &NamePattern::WORD);
    let dimensions = section.texts("dimensions");
    for dimension in &dimensions {
        section.check_name("dimension", dimension, &NamePattern::WORD);
    }
    let requires_payment_method = section.flag("requires_payment_method");
    let event_type = section.string("event_type");
    let given_property = section.string("property");
    let count = section.flag("count");
    if event_type.is_none() && !section.has("event_type") {
        for field in ["property", "count"] {
            let problem = format!("meter has `{field}` but no `event_type`");
            section.refuse(field, problem, "say which events it counts, as in `event_type = \"llm.request\"`");
        }
    } else if count {
        let problem = "meter has both `property` and `count = true`";
        section.refuse(
            "property",
            problem,
            "leave one out: it adds up a property of each event, or counts one for each",
        );
    }
    let name = name.map(Spanned::into_inner);
    if let Some(unit) = unit.as_ref().filter(|unit| Asset::new(unit.get_ref()).currency().is_some()) {
        let problem = format!("`{}`, the unit of a meter, is a currency", unit.get_ref());
        section.problems.add(
            unit.span().start,
            problem,
            "name the unit after what is counted, as in `unit = \"token\"`",
        );
    }
    section.finish();
    let name = name?;
    let property = given_property.or_else(|| event_type.is_some().then(|| name.to_owned())).filter(|_| !count);
    Some(Meter {
        name: Arc::from(name),
        unit: Asset::new(unit.map_or(name, Spanned::into_inner)),
        event_type,
        property,
        dimensions: dimensions.into_iter().map(|dimension| dimension.into_inner().to_owned()).collect(),
        requires_payment_method,
    })
}

/// The meter that a field names; one that does not exist is a mistake.
pub(crate) fn find<'m>(meters: &'m Meters, name: &Spanned<&str>, section: &Section<'_>) -> Option<&'m Meter> {
    let meter = meters.get(*name.get_ref());
    if meter.is_none() {
        let problem = format!("unknown meter `{}` in {}", name.get_ref(), section.what);
        section.problems.add(name.span().start, problem, suggestion(name.get_ref(), meters.keys().map(|name| &**name)));
    }
    meter
}
