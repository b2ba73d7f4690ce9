//! The columns of a file of usage: where a line of CSV holds the customer, the time, the quantities and the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use csv::StringRecord;
use engine::Catalog;

use super::FileArguments;
use super::events::{parse_time, quantity};
use super::mapping::{Mapping, snake_case};
use crate::cli::Failure;
use crate::config::EventColumns;
use crate::event::Usage;

/// Where a line of CSV holds what.
#[derive(Debug)]
pub(super) struct Columns {
    /// Of the customer's id.
    pub(super) customer: Option<usize>,
    time: Option<usize>,
    id: Option<usize>,
    subject: Option<usize>,
    /// Of the meter's name and its quantity, where a line has one.
    metered: Option<(usize, usize)>,
    /// Of each meter's quantity, where a line has several.
    quantities: Vec<(Arc<str>, usize)>,
    dimensions: Vec<(String, usize)>,
    /// All this for people.
    pub(super) description: String,
}

impl Columns {
    /// Finds the columns of a file by its header.
    pub(super) fn find(
        file: &str,
        header: &[String],
        arguments: &FileArguments,
        configured: &EventColumns,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let dimension_names: BTreeSet<&str> =
            catalog.meters.values().flat_map(|meter| &meter.dimensions).map(String::as_str).collect();
        let known = |field: &str| match field.split_once(':') {
            None if ["customer", "time", "id", "subject", "meter", "quantity"].contains(&field) => Ok(()),
            Some(("quantity", meter)) => catalog.meter(meter).map(drop).map_err(|refusal| refusal.to_string()),
            Some(("dimension", name)) if dimension_names.contains(name) => Ok(()),
            Some(("dimension", name)) => Err(format!("no meter has a dimension `{name}`")),
            _ => Err("the fields are customer, time, id, subject, meter, quantity, quantity:METER, dimension:NAME"
                .to_owned()),
        };
        let mut mapping = Mapping::new(file, header, &arguments.assignments, known)?;
        let customer = mapping.column("customer", configured.customer.as_deref(), &["customer", "customer_id"])?;
        let time = mapping.column("time", configured.time.as_deref(), &["time", "timestamp"])?;
        let id = mapping.column("id", configured.id.as_deref(), &["id", "event_id"])?;
        let subject = mapping.column("subject", configured.subject.as_deref(), &["subject"])?;
        let mut dimensions = Vec::new();
        for name in dimension_names {
            let configured = configured.dimensions.get(name).map(String::as_str);
            let names = [name, &snake_case(name)];
            let column = mapping.column(&format!("dimension:{name}"), configured, &names)?;
            dimensions.extend(column.map(|column| (name.to_owned(), column)));
        }
        let (metered, quantities) = find_quantities(&mut mapping, configured, catalog)?;
        if metered.is_none() && quantities.is_empty() {
            return Err(Failure::Usage(format!(
                "no column of {file} is a quantity; say which with --map quantity:METER=COLUMN, or with --map \
                 meter=COLUMN and --map quantity=COLUMN where each line names its meter. The columns are {}",
                header.join(", ")
            )));
        }
        let description = mapping.describe();
        Ok(Self { customer, time, id, subject, metered, quantities, dimensions, description })
    }

    /// What a line says; its customer is empty where it names none.
    pub(super) fn read(&self, fields: &StringRecord) -> Result<Usage, String> {
        let field =
            |column: Option<usize>| column.and_then(|column| fields.get(column)).filter(|text| !text.is_empty());
        let text = |column| field(column).map(str::to_owned);
        let mut quantities = Vec::new();
        if let Some((meter_column, quantity_column)) = self.metered {
            let meter = field(Some(meter_column)).ok_or("the line names no meter")?;
            let text = field(Some(quantity_column)).ok_or("the line has no quantity")?;
            quantities.push((Arc::from(meter), quantity(meter, text)?));
        }
        for (meter, column) in &self.quantities {
            if let Some(text) = field(Some(*column)) {
                quantities.push((meter.clone(), quantity(meter, text)?));
            }
        }
        let dimensions = self.dimensions.iter().filter_map(|(name, column)| Some((name.clone(), text(Some(*column))?)));
        Ok(Usage {
            id: text(self.id),
            customer: text(self.customer).unwrap_or_default(),
            time: field(self.time).map(parse_time).transpose()?,
            subject: text(self.subject),
            quantities,
            dimensions: dimensions.collect(),
        })
    }
}

type Quantities = (Option<(usize, usize)>, Vec<(Arc<str>, usize)>);

/// Where quantities are: beside the meter's name, or each meter's in a column of its own.
fn find_quantities(
    mapping: &mut Mapping<'_>,
    configured: &EventColumns,
    catalog: &Catalog,
) -> Result<Quantities, Failure> {
    let by_meter = !configured.quantities.is_empty() || !mapping.assigned_after("quantity:").is_empty();
    let by_line = mapping.is_assigned("meter") || mapping.is_assigned("quantity");
    if by_line || !by_meter {
        let meter = mapping.column("meter", configured.meter.as_deref(), &["meter"])?;
        let quantity = mapping.column("quantity", configured.quantity.as_deref(), &["quantity"])?;
        match (meter, quantity) {
            (Some(meter), Some(quantity)) => return Ok((Some((meter, quantity)), Vec::new())),
            (None, None) => {}
            (Some(_), None) => {
                let problem = "each line names its meter, but no column is its quantity; say --map quantity=COLUMN";
                return Err(Failure::Usage(problem.to_owned()));
            }
            (None, Some(_)) => {
                let problem =
                    "no column says whose quantity it is; say --map meter=COLUMN, or --map quantity:METER=COLUMN";
                return Err(Failure::Usage(problem.to_owned()));
            }
        }
    }
    let mut quantities = Vec::new();
    for meter in catalog.meters.keys() {
        let configured = configured.quantities.get(meter).map(String::as_str);
        let column = mapping.column(&format!("quantity:{meter}"), configured, &[&**meter])?;
        quantities.extend(column.map(|column| (meter.clone(), column)));
    }
    Ok((None, quantities))
}
