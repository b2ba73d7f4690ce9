//! `farthing import customers`: each line creates a customer or changes it, and grants its balance once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use csv::StringRecord;
use engine::{
    Asset, Catalog, Command, CustomerChange, GrantKind, GrantRequest, Micros, PayerChange, Profile, Refusal, Status, id,
};
use futures_util::{StreamExt as _, stream};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::mapping::Mapping;
use super::run::{self, CHUNK, Fault, Import};
use super::source::{Content, Line};
use super::{FileArguments, progress_key, start};
use crate::app::App;
use crate::cli::{Database, Failure, Outcome, grouped, store_failed};
use crate::event::{self, LONGEST_TEXT};
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request, ServiceError};
use crate::store::{CustomerKey, CustomerRow, Scope};

/// How many customers are looked up at once.
const LOOK_UPS: usize = 4;

/// The priority of grants that say nothing else.
const USUAL_PRIORITY: i16 = 100;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// What kind of grant a balance becomes.
    #[arg(long, default_value = "paid")]
    kind: Kind,
    /// They were customers before and have had what new ones are given: give them their balances alone.
    #[arg(long)]
    known_before: bool,
}

/// What kind of grant a balance becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// It was bought.
    Paid,
    /// It was given away.
    Promotional,
}

pub(super) async fn run(database: &Database, arguments: &Arguments) -> Result<Outcome, Failure> {
    let tenant = arguments.file.tenant.one()?;
    let source = arguments.file.open()?;
    let columns = source
        .header()
        .map(|header| Columns::find(&source.name, header, &arguments.file, &tenant.catalog))
        .transpose()?;
    let description = columns.as_ref().map_or("JSON lines", |columns| columns.description.as_str());
    eprintln!("{}: {description}", source.name);
    let how = format!("{columns:?} {:?} {}", arguments.kind, arguments.known_before);
    let key = progress_key(&source, &["customers", &how]);
    let app = start(database, tenant).await?;
    let Some(runtime) = app.tenants.values().next() else { return Ok(Outcome::Good) };
    let import = Customers {
        app: &app,
        catalog: runtime.catalog.clone(),
        columns,
        kind: match arguments.kind {
            Kind::Paid => GrantKind::Paid,
            Kind::Promotional => GrantKind::Promotional,
        },
        known_before: arguments.known_before,
        lines: HashMap::new(),
        created: 0,
        changed: 0,
        unchanged: 0,
        granted_before: 0,
        granted: BTreeMap::new(),
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

/// What a line may hold, besides a balance in another asset.
const FIELDS: [&str; 6] = ["id", "name", "email", "status", "provider_customer", "balance"];

/// Where a line of CSV holds what.
#[derive(Debug)]
struct Columns {
    customer: usize,
    name: Option<usize>,
    email: Option<usize>,
    status: Option<usize>,
    provider_customer: Option<usize>,
    balances: Vec<(String, usize)>,
    description: String,
}

impl Columns {
    fn find(file: &str, header: &[String], arguments: &FileArguments, catalog: &Catalog) -> Result<Self, Failure> {
        let known = |field: &str| match field.split_once(':') {
            None if FIELDS.contains(&field) => Ok(()),
            Some(("balance", asset)) => catalog.asset(asset).map(drop).map_err(|refusal| refusal.to_string()),
            _ => Err(format!("the fields are {}, balance:ASSET", FIELDS.join(", "))),
        };
        let mut mapping = Mapping::new(file, header, &arguments.assignments, known)?;
        let customer = mapping.column("id", None, &["customer", "customer_id", "id"])?.ok_or_else(|| {
            Failure::Usage(format!(
                "no column of {file} is the customer's id; say which with --map id=COLUMN. The columns are {}",
                header.join(", ")
            ))
        })?;
        let name = mapping.column("name", None, &["name"])?;
        let email = mapping.column("email", None, &["email"])?;
        let status = mapping.column("status", None, &["status"])?;
        let provider_customer = mapping.column("provider_customer", None, &["provider_customer"])?;
        let balance = mapping.column("balance", None, &["balance"])?;
        let mut balances: Vec<_> = balance.map(|column| (catalog.currency.to_string(), column)).into_iter().collect();
        for asset in mapping.assigned_after("balance:") {
            let column = mapping.column(&format!("balance:{asset}"), None, &[])?;
            balances.extend(column.map(|column| (asset.to_owned(), column)));
        }
        let description = mapping.describe();
        Ok(Self { customer, name, email, status, provider_customer, balances, description })
    }

    fn read(&self, fields: &StringRecord) -> Result<Reading, String> {
        let text = |column| fields.get(column).filter(|text| !text.is_empty()).map(str::to_owned);
        let balance = |(asset, column): &(String, usize)| Some((asset.clone(), text(*column)?));
        Ok(Reading {
            customer: text(self.customer).ok_or("the line names no customer")?,
            name: self.name.and_then(text),
            email: self.email.and_then(text),
            status: self.status.and_then(text),
            provider_customer: self.provider_customer.and_then(text),
            balances: self.balances.iter().filter_map(balance).collect(),
        })
    }
}

/// A line of JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonCustomer {
    #[serde(alias = "id")]
    customer: String,
    name: Option<String>,
    email: Option<String>,
    status: Option<String>,
    provider_customer: Option<String>,
    balance: Option<Box<RawValue>>,
    #[serde(default)]
    balances: BTreeMap<String, Box<RawValue>>,
}

/// What a line says.
struct Reading {
    customer: String,
    name: Option<String>,
    email: Option<String>,
    status: Option<String>,
    provider_customer: Option<String>,
    balances: Vec<(String, String)>,
}

/// A line, understood.
struct Wanted {
    key: CustomerKey,
    name: Option<String>,
    email: Option<String>,
    status: Option<Status>,
    provider_customer: Option<Arc<str>>,
    balances: Vec<(Asset, Micros)>,
}

/// What a line asks for, given the customer as it is.
struct Item {
    key: CustomerKey,
    change: Option<CustomerChange>,
    /// What the provider calls it, where that is not known yet.
    adopt: Option<Arc<str>>,
    /// Only after its balance is granted, because a closed customer is given nothing.
    close: bool,
    balances: Vec<(Asset, Micros)>,
}

struct Customers<'a> {
    app: &'a App,
    catalog: Arc<Catalog>,
    columns: Option<Columns>,
    kind: GrantKind,
    known_before: bool,
    /// The line of each customer.
    lines: HashMap<Arc<str>, u64>,
    created: u64,
    changed: u64,
    unchanged: u64,
    granted_before: u64,
    granted: BTreeMap<Asset, i128>,
}

impl Customers<'_> {
    fn read(&mut self, line: Line) -> Result<Wanted, String> {
        let reading = match (line.content?, &self.columns) {
            (Content::Fields(fields), Some(columns)) => columns.read(&fields)?,
            (Content::Fields(_), None) => return Err("the line has fields where JSON was expected".to_owned()),
            (Content::Json(text), _) => self.read_json(&text)?,
        };
        let wanted = self.understand(reading)?;
        match self.lines.insert(wanted.key.external_id.clone(), line.number) {
            Some(other) => Err(format!("customer `{}` stands on line {other} too", wanted.key.external_id)),
            None => Ok(wanted),
        }
    }

    fn read_json(&self, text: &str) -> Result<Reading, String> {
        let line: JsonCustomer = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let amount = |value: Box<RawValue>| event::scalar(&value).unwrap_or_default();
        let own = line.balance.map(|balance| (self.catalog.currency.to_string(), amount(balance)));
        let others = line.balances.into_iter().map(|(asset, balance)| (asset, amount(balance)));
        Ok(Reading {
            customer: line.customer,
            name: line.name,
            email: line.email,
            status: line.status,
            provider_customer: line.provider_customer,
            balances: own.into_iter().chain(others).collect(),
        })
    }

    fn understand(&self, reading: Reading) -> Result<Wanted, String> {
        event::validate_customer(&reading.customer).map_err(|error| error.to_string())?;
        let texts =
            [("name", &reading.name), ("email", &reading.email), ("provider_customer", &reading.provider_customer)];
        for (field, text) in texts {
            if text
                .as_ref()
                .is_some_and(|text| text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control))
            {
                return Err(format!("{field} has more than {LONGEST_TEXT} characters, or a control character"));
            }
        }
        let status = match reading.status.as_deref() {
            None => None,
            Some("active") => Some(Status::Active),
            Some("suspended") => Some(Status::Suspended),
            Some("closed") => Some(Status::Closed),
            Some(other) => return Err(format!("status `{other}` is none of active, suspended, closed")),
        };
        let mut balances = Vec::new();
        for (asset, text) in reading.balances {
            let amount: Micros = text.parse().map_err(|error| format!("the balance `{text}` {error}"))?;
            if amount.is_negative() {
                return Err(format!("the balance `{text}` is below zero; debt comes of usage alone"));
            }
            let asset = self.catalog.asset(&asset).map_err(|refusal| refusal.to_string())?;
            if !amount.is_zero() {
                balances.push((asset, amount));
            }
        }
        let key = CustomerKey::new(&self.catalog.tenant, &reading.customer);
        let provider_customer = reading.provider_customer.map(Arc::from);
        Ok(Wanted { key, name: reading.name, email: reading.email, status, provider_customer, balances })
    }

    fn request(&self, key: &CustomerKey, command: Command, operation: Option<(uuid::Uuid, i64)>) -> Request {
        Request {
            catalog: self.catalog.clone(),
            key: key.clone(),
            command,
            operation,
            settles: None,
            new_customer: self.app.clock.new_id(),
            now: self.app.clock.now(),
        }
    }

    /// Does what a line asks for; the answers to what it took.
    async fn import(&self, item: &Item) -> Result<Done, Fault> {
        let service = &self.app.service;
        let mut done = Done::default();
        if let Some(change) = &item.change {
            let answer = service.execute(self.request(&item.key, Command::Upsert(change.clone()), None)).await;
            done.changed = Some(answer.map_err(fault)?);
        }
        if let Some(reference) = &item.adopt {
            let command = Command::ChangePayer(PayerChange::Adopt(reference.clone()));
            let answer = service.execute(self.request(&item.key, command, None)).await.map_err(fault)?;
            done.changed.get_or_insert(answer);
        }
        for (asset, amount) in &item.balances {
            // The customer and its asset are the key, so that a balance is granted once.
            let grant = id::keyed_id(&item.key.tenant, &item.key.external_id, "import", asset.as_str());
            let operation = (grant, fingerprint(&(asset, amount, self.kind)));
            let command = Command::Grant(GrantRequest {
                id: grant,
                asset: asset.to_string(),
                amount: *amount,
                kind: self.kind,
                priority: USUAL_PRIORITY,
                expires_at: None,
                meters: Vec::new(),
                reason: Some("import".to_owned()),
            });
            done.grants.push(service.execute(self.request(&item.key, command, Some(operation))).await.map_err(fault)?);
        }
        if item.close {
            let change = CustomerChange { status: Some(Status::Closed), ..CustomerChange::default() };
            let answer = service.execute(self.request(&item.key, Command::Upsert(change), None)).await;
            done.changed.get_or_insert(answer.map_err(fault)?);
        }
        Ok(done)
    }

    fn count(&mut self, done: &Done) {
        match &done.changed {
            None => self.unchanged += 1,
            Some(answer) if answer.created => self.created += 1,
            Some(_) => self.changed += 1,
        }
        for answer in &done.grants {
            if answer.replayed {
                self.granted_before += 1;
                continue;
            }
            for grant in &answer.grants {
                *self.granted.entry(grant.asset.clone()).or_default() += i128::from(grant.amount.get());
            }
        }
    }
}

/// What it took to import a line.
#[derive(Default)]
struct Done {
    /// The answer to the customer's creation or change.
    changed: Option<Answer>,
    /// The answers to its grants.
    grants: Vec<Answer>,
}

/// What is to change of a customer, so that it is as a line wants it; what the line leaves out stays.
fn difference(wanted: Wanted, row: Option<&CustomerRow>, known_before: bool) -> Item {
    let before = row.map(|row| row.profile.clone()).unwrap_or_default();
    let profile = Profile {
        name: wanted.name.or(before.name.clone()),
        email: wanted.email.or(before.email.clone()),
        ..before.clone()
    };
    let status_before = row.map(|row| row.customer.status);
    let differs = wanted.status.filter(|status| status_before != Some(*status));
    let close = differs == Some(Status::Closed);
    let status = differs.filter(|_| !close);
    let profile = (row.is_none() || profile != before).then_some(profile);
    let change = (row.is_none() || profile.is_some() || status.is_some()).then(|| CustomerChange {
        status,
        profile,
        known_before,
        ..CustomerChange::default()
    });
    let known = row.is_some_and(|row| row.customer.state.payer.reference.is_some());
    let closed = close || status_before == Some(Status::Closed);
    let adopt = wanted.provider_customer.filter(|_| !known && !closed);
    Item { key: wanted.key, change, adopt, close, balances: wanted.balances }
}

impl Import for Customers<'_> {
    type Item = Item;

    async fn prepare(&mut self, lines: Vec<Line>) -> Result<Vec<Result<Item, String>>, Failure> {
        let wanted: Vec<Result<Wanted, String>> = lines.into_iter().map(|line| self.read(line)).collect();
        let scope = Scope { tenant: self.catalog.tenant.clone(), customer: None };
        let prepared = wanted.into_iter().map(async |wanted| match wanted {
            Err(reason) => Ok(Err(reason)),
            Ok(wanted) => {
                let row = self.app.store.customer(&scope, &wanted.key).await.map_err(store_failed)?;
                Ok(Ok(difference(wanted, row.as_ref(), self.known_before)))
            }
        });
        let prepared: Vec<Result<_, Failure>> = stream::iter(prepared).buffered(LOOK_UPS).collect().await;
        prepared.into_iter().collect()
    }

    async fn execute(&mut self, items: Vec<Item>) -> Vec<Result<(), Fault>> {
        let imports = items.iter().map(|item| self.import(item));
        let done: Vec<_> = stream::iter(imports).buffered(CHUNK).collect().await;
        done.into_iter().map(|done| done.map(|done| self.count(&done))).collect()
    }

    fn report(&self) -> Vec<(String, String)> {
        let mut rows = vec![
            ("customers created".to_owned(), grouped(self.created)),
            ("changed".to_owned(), grouped(self.changed)),
            ("unchanged".to_owned(), grouped(self.unchanged)),
        ];
        if self.granted_before > 0 {
            rows.push(("balances granted before".to_owned(), grouped(self.granted_before)));
        }
        for (asset, amount) in &self.granted {
            let amount = Decimal::from_i128_with_scale(*amount, 6).normalize();
            rows.push(("granted".to_owned(), format!("{amount} {asset}")));
        }
        rows
    }
}

fn fault(error: ServiceError) -> Fault {
    match error {
        ServiceError::Refused(Refusal::OperationKeyReused) => Fault::Bad(
            "its balance was imported before, as another amount or kind; grant the difference instead".to_owned(),
        ),
        ServiceError::Refused(refusal) => Fault::Bad(refusal.to_string()),
        error => Fault::Failed(error.to_string()),
    }
}
