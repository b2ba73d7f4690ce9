//! `farthing import events`: usage that has happened becomes charges, each line one command.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use clap::Args;
use engine::{Asset, Catalog, Charge, ChargeRequest, Command, CustomerChange, Micros, Refusal};
use futures_util::{StreamExt as _, stream};
use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::columns::Columns;
use super::run::{self, CHUNK, Fault, Import};
use super::source::{Content, Line, hexadecimal};
use super::{FileArguments, progress_key, start};
use crate::app::App;
use crate::cli::{Database, Failure, Outcome, grouped, store_failed};
use crate::event::{self, CloudEvent, Usage};
use crate::service::{Request, ServiceError};
use crate::store::{CustomerKey, Scope};

/// Who pays for a file that names no customer.
const USUAL_CUSTOMER: &str = "imported";

/// How many customers are looked up at once.
const LOOK_UPS: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Who pays for lines that name no customer; `imported` for a file without a column for it. Created where it is not
    /// there yet.
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Create the customers that are not there yet.
    #[arg(long)]
    create_customers: bool,
}

pub(super) async fn run(database: &Database, arguments: &Arguments) -> Result<Outcome, Failure> {
    let tenant = arguments.file.tenant.one()?;
    let source = arguments.file.open()?;
    let columns = source
        .header()
        .map(|header| Columns::find(&source.name, header, &arguments.file, &tenant.import.events, &tenant.catalog))
        .transpose()?;
    let has_customers = columns.as_ref().is_none_or(|columns| columns.customer.is_some());
    let customer = arguments.customer.clone().or_else(|| (!has_customers).then(|| USUAL_CUSTOMER.to_owned()));
    eprintln!("{}: {}", source.name, describe(columns.as_ref(), customer.as_deref()));
    let how = format!("{columns:?}");
    let key = progress_key(&source, &["events", &how, customer.as_deref().unwrap_or_default()]);
    let app = start(database, tenant).await?;
    let Some(runtime) = app.tenants.values().next() else { return Ok(Outcome::Good) };
    let import = Events {
        app: &app,
        catalog: runtime.catalog.clone(),
        columns,
        customer,
        create_customers: arguments.create_customers,
        digest: source.digest.clone(),
        known: HashSet::new(),
        made: 0,
        repeated: 0,
        charged: BTreeMap::new(),
    };
    let settings = run::Settings {
        tenant: &runtime.catalog.tenant,
        key,
        from_start: arguments.file.from_start,
        on_error: arguments.file.on_error,
    };
    let outcome = run::run(&app, source, settings, import).await;
    app.service.stop().await;
    outcome
}

fn describe(columns: Option<&Columns>, customer: Option<&str>) -> String {
    let columns = columns.map_or("JSON lines", |columns| columns.description.as_str());
    let payer = customer.map(|customer| format!("; lines without a customer are charged to `{customer}`"));
    format!("{columns}{}", payer.unwrap_or_default())
}

/// The short form of an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortEvent {
    customer: Option<String>,
    meter: String,
    quantity: Box<RawValue>,
    time: Option<Box<RawValue>>,
    id: Option<String>,
    subject: Option<String>,
    #[serde(default)]
    dimensions: BTreeMap<String, String>,
}

impl ShortEvent {
    fn read(self) -> Result<Usage, String> {
        let quantity = quantity(&self.meter, &event::scalar(&self.quantity).unwrap_or_default())?;
        let time = self.time.map(|time| parse_time(&event::scalar(&time).unwrap_or_default())).transpose()?;
        Ok(Usage {
            id: self.id,
            customer: self.customer.unwrap_or_default(),
            time,
            subject: self.subject,
            quantities: vec![(self.meter.into(), quantity)],
            dimensions: self.dimensions,
        })
    }
}

/// A quantity from its text.
pub(super) fn quantity(meter: &str, text: &str) -> Result<Micros, String> {
    event::quantity(meter, text).map_err(|error| format!("{error}: `{text}`"))
}

/// The earliest time that is read as unix seconds, in September 2001; what is below is more likely a date such as
/// 20231116.
const EARLIEST_SECONDS: i64 = 1_000_000_000;

/// A time: RFC 3339, the same without an offset (UTC then) or with a space, or unix seconds.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let local = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp());
    let parsed = if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        unix_seconds(text)
    } else {
        text.parse::<Timestamp>().ok().or_else(local)
    };
    parsed.map(event::to_the_microsecond).filter(|time| *time >= Timestamp::UNIX_EPOCH).ok_or_else(|| {
        format!("`{text}` is not a time: it has to be as 2023-11-16T18:17:03.98Z, 2023-11-16 18:17:03.98 (UTC) or unix seconds")
    })
}

fn unix_seconds(text: &str) -> Option<Timestamp> {
    let seconds: Decimal = text.parse().ok()?;
    let micros = Micros::from_decimal(seconds.trunc_with_scale(6)).ok()?;
    (seconds >= Decimal::from(EARLIEST_SECONDS)).then(|| Timestamp::from_microsecond(micros.get()).ok())?
}

/// A line, ready to be charged.
struct Item {
    customer: String,
    charges: Vec<ChargeRequest>,
}

struct Events<'a> {
    app: &'a App,
    catalog: Arc<Catalog>,
    columns: Option<Columns>,
    customer: Option<String>,
    create_customers: bool,
    digest: Option<String>,
    /// Customers that are there for certain.
    known: HashSet<String>,
    made: u64,
    repeated: u64,
    charged: BTreeMap<Asset, i128>,
}

impl Events<'_> {
    fn read(&self, line: &Line, now: Timestamp) -> Result<Item, String> {
        let content = line.content.as_ref().map_err(Clone::clone)?;
        let usage = match (content, &self.columns) {
            (Content::Fields(fields), Some(columns)) => self.complete(line.number, content, columns.read(fields)?)?,
            (Content::Fields(_), None) => return Err("the line has fields where JSON was expected".to_owned()),
            (Content::Json(text), _) if is_cloud_event(text) => {
                let event: CloudEvent = serde_json::from_str(text).map_err(json_error)?;
                event.usage(&self.catalog).map_err(|error| error.to_string())?
            }
            (Content::Json(text), _) => {
                let event: ShortEvent = serde_json::from_str(text).map_err(json_error)?;
                self.complete(line.number, content, event.read()?)?
            }
        };
        let charges = event::charges(&self.catalog, &usage, now, || self.app.clock.new_id());
        Ok(Item { customer: usage.customer, charges: charges.map_err(|refusal| refusal.to_string())? })
    }

    /// Adds what the line leaves out: the customer, and an id by which a repeat of the line is known.
    fn complete(&self, number: u64, content: &Content, mut usage: Usage) -> Result<Usage, String> {
        if usage.customer.is_empty() {
            usage.customer = self.customer.clone().ok_or("the line names no customer")?;
        }
        if usage.id.is_none() {
            usage.id = Some(self.derived_id(number, content, usage.time.is_some())?);
        }
        usage.validate().map_err(|error| error.to_string())?;
        Ok(usage)
    }

    /// The id of an event that has none: the number and the content of its line. A line that does not even say when could
    /// well stand in two files, so the content of its file counts too.
    fn derived_id(&self, number: u64, content: &Content, has_time: bool) -> Result<String, String> {
        let mut hash = Sha256::new();
        match content {
            Content::Fields(fields) => fields.iter().for_each(|field| {
                hash.update(field.as_bytes());
                hash.update([0x1f]);
            }),
            Content::Json(text) => hash.update(text.as_bytes()),
        }
        if !has_time {
            let digest = self.digest.as_ref().ok_or(
                "the line has neither an id nor a time, so that a repeat could not be told from standard input; import it \
                 from a file",
            )?;
            hash.update(digest.as_bytes());
        }
        let content = hexadecimal(hash);
        Ok(format!("line-{number}-{}", content.get(..32).unwrap_or(&content)))
    }

    fn may_create(&self, customer: &str) -> bool {
        self.create_customers || self.customer.as_deref() == Some(customer)
    }

    fn request(&self, customer: &str, command: Command) -> Request {
        Request {
            catalog: self.catalog.clone(),
            key: CustomerKey::new(&self.catalog.tenant, customer),
            command,
            operation: None,
            settles: None,
            new_customer: self.app.clock.new_id(),
            now: self.app.clock.now(),
        }
    }

    /// Adds up what was charged, whoever covered it: grants, the customer's debt, or, below zero, what a volume price gave
    /// back.
    fn count(&mut self, charge: &Charge) {
        for cover in &charge.covered_by {
            *self.charged.entry(cover.asset.clone()).or_default() += i128::from(cover.amount.get());
        }
        let rest = charge.owed.get().saturating_add(charge.amount.get().min(0));
        *self.charged.entry(charge.asset.clone()).or_default() += i128::from(rest);
    }
}

impl Import for Events<'_> {
    type Item = Item;

    async fn prepare(&mut self, lines: Vec<Line>) -> Result<Vec<Result<Item, String>>, Failure> {
        let now = self.app.clock.now();
        let mut items: Vec<Result<Item, String>> = lines.iter().map(|line| self.read(line, now)).collect();
        let named: BTreeSet<&str> = items.iter().flatten().map(|item| item.customer.as_str()).collect();
        let unknown: Vec<String> =
            named.into_iter().filter(|&customer| !self.known.contains(customer)).map(str::to_owned).collect();
        let scope = Scope { tenant: self.catalog.tenant.clone(), customer: None };
        let mut found = stream::iter(unknown.into_iter().map(async |customer| {
            let key = CustomerKey::new(&scope.tenant, &customer);
            self.app.store.customer(&scope, &key).await.map(|row| row.map(|_| customer))
        }))
        .buffer_unordered(LOOK_UPS);
        let mut present = Vec::new();
        while let Some(customer) = found.next().await {
            present.extend(customer.map_err(store_failed)?);
        }
        drop(found);
        self.known.extend(present);
        for item in &mut items {
            if let Ok(Item { customer, .. }) = item
                && !self.known.contains(customer)
                && !self.may_create(customer)
            {
                *item = Err(format!("there is no customer `{customer}`; create it first, or use --create-customers"));
            }
        }
        Ok(items)
    }

    async fn execute(&mut self, items: Vec<Item>) -> Vec<Result<(), Fault>> {
        let service = &self.app.service;
        let new: BTreeSet<String> = items
            .iter()
            .map(|item| &item.customer)
            .filter(|customer| !self.known.contains(*customer))
            .cloned()
            .collect();
        let upsert = Command::Upsert(CustomerChange::default());
        let creations = new.iter().map(|customer| service.execute(self.request(customer, upsert.clone())));
        let created: Vec<_> = stream::iter(creations).buffered(CHUNK).collect().await;
        if let Some(error) = created.into_iter().find_map(Result::err) {
            let fault = |_| Err(Fault::Failed(format!("a customer could not be created: {error}")));
            return items.into_iter().map(fault).collect();
        }
        self.known.extend(new);
        let requests: Vec<Request> =
            items.into_iter().map(|item| self.request(&item.customer, Command::Record(item.charges))).collect();
        let answers: Vec<_> =
            stream::iter(requests.into_iter().map(|request| service.execute(request))).buffered(CHUNK).collect().await;
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(match answer {
                Ok(answer) => {
                    // Of an event that was recorded in part, the new charges are those at the new position.
                    for charge in &answer.charges {
                        if answer.replayed || charge.position < answer.as_of {
                            self.repeated += 1;
                        } else {
                            self.made += 1;
                            self.count(charge);
                        }
                    }
                    Ok(())
                }
                Err(error) => Err(fault(error)),
            });
        }
        results
    }

    fn report(&self) -> Vec<(String, String)> {
        let mut rows =
            vec![("charges made".to_owned(), grouped(self.made)), ("already there".to_owned(), grouped(self.repeated))];
        for (asset, amount) in &self.charged {
            let amount = Decimal::from_i128_with_scale(*amount, 6).normalize();
            rows.push(("charged".to_owned(), format!("{amount} {asset}")));
        }
        rows
    }
}

fn fault(error: ServiceError) -> Fault {
    match error {
        ServiceError::Refused(Refusal::OperationKeyReused) => {
            Fault::Bad("an event with this id was recorded before, with another content".to_owned())
        }
        ServiceError::Refused(refusal) => Fault::Bad(refusal.to_string()),
        error => Fault::Failed(error.to_string()),
    }
}

fn is_cloud_event(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        specversion: Option<IgnoredAny>,
    }
    serde_json::from_str::<Probe>(text).is_ok_and(|probe| probe.specversion.is_some())
}

/// What is wrong with a line of JSON; which line is said anyway.
fn json_error(error: serde_json::Error) -> String {
    let text = error.to_string();
    text.replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_files_have_them() {
        for (text, expected) in [
            ("2023-11-16T18:17:03.9799600Z", Some("2023-11-16T18:17:03.97996Z")),
            ("2023-11-16 18:17:03.979960099", Some("2023-11-16T18:17:03.97996Z")),
            ("2023-11-16 18:17:03", Some("2023-11-16T18:17:03Z")),
            ("2023-11-16T19:17:03+01:00", Some("2023-11-16T18:17:03Z")),
            ("2023-11-16", Some("2023-11-16T00:00:00Z")),
            ("1700158623", Some("2023-11-16T18:17:03Z")),
            ("1700158623.97996099", Some("2023-11-16T18:17:03.97996Z")),
            ("1700158623979", None),
            ("20231116", None),
            ("1969-12-31T23:59:59Z", None),
            ("16.11.2023", None),
            ("", None),
        ] {
            let expected: Option<Timestamp> = expected.map(|text| text.parse().unwrap());
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
    }
}
