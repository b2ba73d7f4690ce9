//! `[import]`: which columns of a file of usage hold what, when `farthing import` is not told otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::suggestion;
use super::meter::{Meters, find};
use super::section::Section;

/// What imports assume.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImportDefaults {
    /// For `farthing import events`.
    pub events: EventColumns,
}

/// Names of columns in a file of usage, one line for each event. What is `None` or empty has to come from the command
/// line, or is not there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventColumns {
    /// The customer's id.
    pub customer: Option<String>,
    /// When it was used.
    pub time: Option<String>,
    /// The event's own id, which keeps a second import from charging it again.
    pub id: Option<String>,
    /// Who under the customer.
    pub subject: Option<String>,
    /// The meter's name, where a line has one quantity.
    pub meter: Option<String>,
    /// That quantity.
    pub quantity: Option<String>,
    /// The column of each meter's quantity, where a line has several. Never together with `meter` and `quantity`.
    pub quantities: BTreeMap<Arc<str>, String>,
    /// The column of each dimension.
    pub dimensions: BTreeMap<String, String>,
}

/// Reads the defaults of imports; all of them are optional.
pub(crate) fn read_import(root: &mut Section<'_>, meters: &Meters) -> ImportDefaults {
    let Some(mut section) = root.section("import", "[import]") else { return ImportDefaults::default() };
    let events = section.section("events", "[import.events]");
    section.finish();
    ImportDefaults { events: events.map(|events| read_events(events, meters)).unwrap_or_default() }
}

fn read_events(mut section: Section<'_>, meters: &Meters) -> EventColumns {
    let mut columns = EventColumns {
        customer: section.string("customer"),
        time: section.string("time"),
        id: section.string("id"),
        subject: section.string("subject"),
        meter: section.string("meter"),
        quantity: section.string("quantity"),
        ..EventColumns::default()
    };
    for (name, column) in section.map("quantities") {
        if let Some(meter) = find(meters, &name, &section) {
            columns.quantities.insert(meter.name.clone(), (*column.get_ref()).to_owned());
        }
    }
    if section.has("quantities") {
        for field in ["meter", "quantity"] {
            let problem = format!("[import.events] has both `{field}` and `quantities`");
            section.refuse(field, problem, "leave one out: a line names its meter, or has a column for each");
        }
    }
    let known: BTreeSet<&str> = meters.values().flat_map(|meter| &meter.dimensions).map(String::as_str).collect();
    for (name, column) in section.map("dimensions") {
        if !known.contains(name.get_ref()) {
            let problem = format!("no meter has the dimension `{}`", name.get_ref());
            section.problems.add(name.span().start, problem, suggestion(name.get_ref(), known.iter().copied()));
        }
        columns.dimensions.insert((*name.get_ref()).to_owned(), (*column.get_ref()).to_owned());
    }
    section.finish();
    columns
}
