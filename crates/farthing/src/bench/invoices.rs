//! The invoice run: made-up customers use things for a month, and then the month is closed, as a server closes it.
//!
//! Customers are made through the service, like any others, which is not measured. What is measured is `Jobs::pass_time` until
//! nothing is due: reading who is due, deciding, and committing invoices with their numbers, entries, subscriptions and
//! effects. Each number of customers is a tenant of its own in the same database.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use engine::report::{PaymentMethod, PaymentMethodsReport};
use engine::{ChargeRequest, Command, CustomerChange, Micros, PayerChange, SubscribeRequest};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::Uuid;

use super::process::memory_of;
use super::report::{Bound, Goal};
use super::{BenchError, Directory, open_empty};
use crate::app::App;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::jobs::{Jobs, Providers};
use crate::service::{Request, Settings};
use crate::store::{CustomerKey, Store};

/// What is sold: usage without a plan, and two plans with usage beside them. `NAME` is the tenant's.
const TENANT: &str = r#"
[tenant]
name = "NAME"
mode = "test"
currency = "USD"
time_zone = "UTC"

[overage]
policy = "owe"

[billing]
usage_invoices = "monthly"

[[billing.taxes]]
name = "VAT"
percent = "19"

[[meters]]
name = "tokens"
unit = "token"
dimensions = ["model"]

[[meters]]
name = "calls"
unit = "call"

[[meters]]
name = "minutes"
unit = "minute"

[[prices]]
meter = "tokens"
model = "per_unit"
amount = "3"
per = 1_000_000

[[prices]]
meter = "tokens"
match = { model = "large" }
model = "per_unit"
amount = "15"
per = 1_000_000

[[prices]]
meter = "calls"
model = "per_unit"
amount = "0.25"

[[prices]]
meter = "minutes"
model = "graduated"
tiers = [{ up_to = "10", amount = "0.06" }, { amount = "0.04" }]

[[plans]]
name = "team"
price = "20"

[[plans.allowances]]
name = "minutes"
unit = "minute"
amount = "10"

[[plans]]
name = "scale"
price = "99"
commitment = "50"
"#;

/// The month that is closed, and how many days it has.
const MONTH: &str = "2026-01-01T00:00:00Z";
const DAYS: u16 = 31;
/// How many uses a customer has in it.
const CHARGES: u64 = 8;
/// How many customers are made at once.
const MADE_AT_ONCE: usize = 512;
/// How many customers warm up connections and statements.
const WARM_UP: usize = 300;
/// A number of customers is measured as often as it takes to close so many, but at most so often; the median counts.
const CUSTOMERS_IN_ALL: usize = 10_000;
const MOST_ROUNDS: usize = 5;
/// What the memory may come to at its most, in kilobytes.
const MOST_KILOBYTES: i64 = 300 * 1_024;

/// What is to be measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoicePlan {
    /// The database: its address, as for the server. A temporary SQLite file where absent.
    pub database: Option<String>,
    /// For how many customers.
    pub customers: Vec<usize>,
    /// Whether the invoices are collected from cards, so that the payments and what is to be done at the provider are
    /// written as well; nobody does that here.
    pub collect: bool,
    /// How many batches may be under way at once.
    pub lanes: usize,
}

/// What an invoice run came to.
#[derive(Clone, Debug, Serialize)]
pub struct InvoiceReport {
    /// The version of farthing.
    pub version: &'static str,
    /// `release`, or `debug`, of which the figures say nothing.
    pub build: &'static str,
    /// Which database kept the books.
    pub database: &'static str,
    /// How many threads the machine runs at once.
    pub processors: usize,
    /// How many batches could be under way at once.
    pub lanes: usize,
    /// Whether payments were written as well.
    pub collect: bool,
    /// By the number of customers, as asked for.
    pub rows: Vec<InvoiceRow>,
    /// The goals.
    pub goals: Vec<Goal>,
}

/// Closing the month of so many customers; the median of its rounds.
#[derive(Clone, Debug, Serialize)]
pub struct InvoiceRow {
    /// How many customers.
    pub customers: usize,
    /// How often it was measured.
    pub rounds: usize,
    /// How many uses they had.
    pub charges: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u128,
    /// How many customers in a second.
    pub per_second: u128,
    /// What each took, in microseconds.
    pub microseconds_each: u128,
    /// The memory of this process at its most meanwhile, in kilobytes of 1,024 bytes, where the system tells it.
    pub peak_kilobytes: Option<u64>,
    /// How many invoices there were at the end; one for each customer, or something is wrong.
    pub invoices: i64,
}

/// How far it is: what is done, how much of it, and of how much.
type Progress<'a> = &'a mut (dyn FnMut(&str, u64, u64) + Send);

/// Measures.
///
/// # Errors
/// As `BenchError` says; `Wrong` where a customer was not invoiced exactly once.
pub async fn run_invoices(plan: &InvoicePlan, progress: Progress<'_>) -> Result<InvoiceReport, BenchError> {
    let directory = Directory::create().map_err(BenchError::Process)?;
    let file = directory.0.join("farthing.db");
    let address = plan.database.clone().unwrap_or_else(|| format!("sqlite:{}", file.display()));
    let store = open_empty(&address).await?;
    let mut tenants = 0;
    let mut measure = async |customers: usize, progress: Progress<'_>| {
        tenants += 1;
        Run::start(plan, store.clone(), format!("invoices-{tenants}")).await?.measure(customers, progress).await
    };
    measure(WARM_UP, progress).await?;
    let mut rows = Vec::new();
    for customers in &plan.customers {
        let rounds = (CUSTOMERS_IN_ALL / (*customers).max(1)).clamp(1, MOST_ROUNDS);
        let mut measured = Vec::new();
        for _ in 0..rounds {
            measured.push(measure(*customers, progress).await?);
        }
        measured.sort_unstable_by_key(|row| row.microseconds_each);
        let peak_kilobytes = measured.iter().filter_map(|row| row.peak_kilobytes).max();
        let median = measured.into_iter().nth(rounds / 2);
        rows.extend(median.map(|row| InvoiceRow { rounds, peak_kilobytes, ..row }));
    }
    Ok(InvoiceReport {
        version: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        database: store.name(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        lanes: plan.lanes,
        collect: plan.collect,
        goals: goals(&rows),
        rows,
    })
}

/// What a customer takes among the most, by what it takes among the fewest; and the memory.
fn goals(rows: &[InvoiceRow]) -> Vec<Goal> {
    let fewest = rows.iter().min_by_key(|row| row.customers);
    let most = rows.iter().max_by_key(|row| row.customers);
    let each = |row: Option<&InvoiceRow>| row.map(|row| Decimal::from(row.microseconds_each));
    let ratio = match (each(most), each(fewest)) {
        (Some(most), Some(fewest)) if rows.len() > 1 => most.checked_div(fewest),
        _ => None,
    };
    let peak = rows.iter().filter_map(|row| row.peak_kilobytes).max().map(Decimal::from);
    vec![
        Goal::new(
            "time for each customer among the most, by that among the fewest",
            Bound::Below(Decimal::new(13, 1)),
            ratio,
        ),
        Goal::new("memory at its most, in kilobytes", Bound::Below(Decimal::from(MOST_KILOBYTES)), peak),
    ]
}

/// A clock that stands where it is put.
#[derive(Debug)]
struct Calendar(AtomicI64);

impl Clock for Calendar {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::Acquire)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn new_id(&self) -> Uuid {
        SystemClock.new_id()
    }
}

/// A tenant whose month is made up and closed.
struct Run {
    app: Arc<App>,
    clock: Arc<Calendar>,
    tenant: Arc<str>,
    month: Timestamp,
    collect: bool,
}

impl Run {
    async fn start(plan: &InvoicePlan, store: Arc<dyn Store>, name: String) -> Result<Self, BenchError> {
        let tenant = config::parse(&TENANT.replace("NAME", &name), "the benchmark's tenant file", &|_| None);
        let tenant = tenant.map_err(|errors| BenchError::Internal(format!("the tenant file is wrong: {errors:?}")))?;
        let month: Timestamp = MONTH.parse().map_err(|error| BenchError::Internal(format!("{error}")))?;
        let clock = Arc::new(Calendar(AtomicI64::new(month.as_microsecond())));
        let settings = Settings { lanes: plan.lanes, ..Settings::default() };
        let app = App::start(store, vec![tenant], std::collections::BTreeMap::new(), clock.clone(), settings).await;
        let app = app.map_err(|error| BenchError::Internal(error.to_string()))?;
        Ok(Self { app, clock, tenant: name.into(), month, collect: plan.collect })
    }

    async fn measure(self, customers: usize, progress: Progress<'_>) -> Result<InvoiceRow, BenchError> {
        let total = u64::try_from(customers).unwrap_or(u64::MAX);
        let mut made = 0;
        let mut making = stream::iter(0..customers).map(|number| self.make(number)).buffer_unordered(MADE_AT_ONCE);
        while making.try_next().await?.is_some() {
            made += 1;
            progress("making customers", made, total);
        }
        drop(making);
        let closing = self.after(DAYS, 1);
        self.clock.0.store(closing.as_microsecond(), Ordering::Release);
        forget_peak();
        let jobs = Jobs::new(self.app.clone(), Providers::new());
        let mut went_on = 0;
        let started = Instant::now();
        loop {
            let mut tell =
                |passed: &crate::jobs::Passed| progress("closing the month", went_on + passed.went_on, total);
            let passed =
                jobs.pass_time_by(None, &mut tell).await.map_err(|error| BenchError::Wrong(error.to_string()))?;
            if passed.stuck() > 0 {
                return Err(BenchError::Wrong(format!("customers did not go on: {:?}", passed.stuck)));
            }
            if passed.went_on == 0 {
                break;
            }
            went_on += passed.went_on;
        }
        self.row(customers, started.elapsed()).await
    }

    /// What it came to; wrong where a customer was not invoiced, or one was twice.
    async fn row(&self, customers: usize, took: Duration) -> Result<InvoiceRow, BenchError> {
        let peak_kilobytes = memory_of("self").map(|memory| memory.peak_kilobytes);
        let numbers = self.app.store.invoice_numbers().await?;
        let numbers = numbers.into_iter().find(|numbers| numbers.tenant == *self.tenant);
        let invoices = numbers.map_or(0, |numbers| numbers.invoices);
        self.app.service.stop().await;
        if usize::try_from(invoices) != Ok(customers) {
            return Err(BenchError::Wrong(format!("{customers} customers have {invoices} invoices")));
        }
        let each = u128::try_from(customers.max(1)).unwrap_or(1);
        Ok(InvoiceRow {
            customers,
            rounds: 1,
            charges: CHARGES.saturating_mul(u64::try_from(customers).unwrap_or(u64::MAX)),
            milliseconds: took.as_millis(),
            per_second: each * 1_000_000 / took.as_micros().max(1),
            microseconds_each: took.as_micros() / each,
            peak_kilobytes,
            invoices,
        })
    }

    /// So many days and hours into the month.
    fn after(&self, days: u16, hours: i64) -> Timestamp {
        self.month.checked_add(SignedDuration::from_hours(24 * i64::from(days) + hours)).unwrap_or(self.month)
    }

    /// A customer with a month of usage. One third has no plan; the others are on trial until the month ends, so that its
    /// end makes the first invoice of each.
    async fn make(&self, number: usize) -> Result<(), BenchError> {
        let name = format!("customer-{number}");
        self.execute(&name, Command::Upsert(CustomerChange::default()), self.month).await?;
        if self.collect {
            let card = PaymentMethod { reference: "pm_card".into(), brand: "visa".into(), last4: None, expires: None };
            let default = Some(card.reference.clone());
            let report = PaymentMethodsReport { seen_at: self.month, methods: vec![card], default };
            self.execute(&name, Command::ChangePayer(PayerChange::Methods(report)), self.month).await?;
        }
        let plan = match number % 3 {
            0 => None,
            1 => Some("team"),
            _ => Some("scale"),
        };
        if let Some(plan) = plan {
            let request = SubscribeRequest {
                id: self.clock.new_id(),
                plan: plan.into(),
                quantity: 1,
                add_ons: Vec::new(),
                coupon: None,
                trial_days: Some(DAYS),
                collection: None,
                by_invoice: !self.collect,
                replaces: None,
            };
            self.execute(&name, Command::Subscribe(request), self.month).await?;
        }
        self.execute(&name, Command::Record(self.usage()), self.after(DAYS - 1, 0)).await
    }

    fn usage(&self) -> Vec<ChargeRequest> {
        let used = |number: u64| {
            let (meter, quantity, model) = match number % 4 {
                0 => ("tokens", 123_457, Some("large")),
                1 => ("tokens", 1_234_567, Some("small")),
                2 => ("calls", 3, None),
                _ => ("minutes", 7, None),
            };
            ChargeRequest {
                id: self.clock.new_id(),
                operation_key: None,
                fingerprint: 0,
                meter: meter.into(),
                quantity: Micros::new(quantity * Micros::ONE.get()),
                subject: None,
                dimensions: model.map(|model| ("model".to_owned(), model.to_owned())).into_iter().collect(),
                occurred_at: self.after(u16::try_from(number).unwrap_or_default(), 12),
                metadata: None,
                own_amount: None,
            }
        };
        (0..CHARGES).map(used).collect()
    }

    async fn execute(&self, customer: &str, command: Command, now: Timestamp) -> Result<(), BenchError> {
        let Some(tenant) = self.app.tenants.get(&self.tenant) else {
            return Err(BenchError::Internal("the tenant is not there".to_owned()));
        };
        let key = CustomerKey::new(&self.tenant, customer);
        let (catalog, new_customer) = (tenant.catalog.clone(), self.clock.new_id());
        let request = Request { catalog, key, command, operation: None, settles: None, new_customer, now };
        let done = self.app.service.execute(request).await;
        done.map(|_| ()).map_err(|error| BenchError::Customer(error.to_string()))
    }
}

/// Has the system measure the most memory anew, where it does that as Linux does.
fn forget_peak() {
    // Where it cannot, the peak is that of the whole process, which is never less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
