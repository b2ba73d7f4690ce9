//! A product that is billed, for the tests of the store and the service: its catalog, and its requests in few words.
//!
//! Requests are made as a surface makes them: ids from operation keys, or else drawn at random; a fingerprint of what is
//! asked; the time handed in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use engine::{
    Asset, Catalog, ChargeRequest, Check, CheckRequest, Command, CustomerChange, GrantKind, GrantRequest,
    GrantTemplate, HoldRequest, HoldSize, LifeEvent, Meter, Micros, Model, Overage, Price, Profile, Rounding, Tier, id,
};
use farthing::clock::{Clock, SystemClock};
use farthing::service::{Answer, Request, Service, ServiceError};
use farthing::store::{CustomerKey, CustomerRow, Scope, Store};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// A product, and the time at which it asks.
#[derive(Clone)]
pub(crate) struct Product {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) now: Timestamp,
}

impl Product {
    /// The product of this name, on a Monday morning. A call costs 0.25 USD; 1,000,000 tokens cost 2 USD, of the small
    /// model 0.15; storage is graduated, minutes have a volume price that gives back, messages come in packages; a use has
    /// no price, and every customer begins with three.
    pub(crate) fn new(name: &str) -> Self {
        let tier = |up_to: Option<i64>, amount: &str| Tier {
            up_to: up_to.map(|units| Micros::new(units * 1_000_000)),
            amount: rate(amount),
            flat: rate("0"),
        };
        let prices = [
            price("calls", "", Model::PerUnit { amount: rate("0.25") }, 1),
            price("tokens", "small", Model::PerUnit { amount: rate("0.15") }, 1_000_000),
            price("tokens", "", Model::PerUnit { amount: rate("2") }, 1_000_000),
            price("storage", "", Model::Graduated { tiers: vec![tier(Some(10), "1"), tier(None, "0.5")] }, 1),
            price("minutes", "", Model::Volume { tiers: vec![tier(Some(10), "0.06"), tier(None, "0.04")] }, 1),
            price("messages", "", Model::Package { size: Micros::new(100_000_000), amount: rate("5") }, 1),
        ];
        let catalog = Catalog {
            tenant: Arc::from(name),
            currency: Asset::new("USD"),
            time_zone: TimeZone::UTC,
            meters: ["calls", "tokens", "storage", "minutes", "messages", "use"].map(meter).into(),
            prices: prices.map(Arc::new).into(),
            grants: vec![GrantTemplate {
                name: "free uses".into(),
                on: LifeEvent::Created,
                asset: Asset::new("use"),
                amount: micros("3"),
                kind: GrantKind::Allowance,
                priority: 100,
                expires_after_days: Some(30),
                meters: Vec::new(),
            }],
            packs: BTreeMap::new(),
            plans: engine::Plans::default(),
            billing: engine::Billing::default(),
            spent_refunds: engine::SpentPolicy::Owe,
            overage: Overage::default(),
            low_balances: BTreeMap::new(),
            hold_seconds: 900,
        };
        Self { catalog: Arc::new(catalog), now: "2026-03-02T09:00:00Z".parse().expect("a time") }
    }

    /// The same product, so many seconds later.
    pub(crate) fn later(&self, seconds: i64) -> Self {
        Self { catalog: self.catalog.clone(), now: self.now + SignedDuration::from_secs(seconds) }
    }

    pub(crate) fn tenant(&self) -> &Arc<str> {
        &self.catalog.tenant
    }

    pub(crate) fn key(&self, customer: &str) -> CustomerKey {
        CustomerKey::new(self.tenant(), customer)
    }

    /// What its own surfaces may see: all of it.
    pub(crate) fn scope(&self) -> Scope {
        Scope { tenant: self.tenant().clone(), customer: None }
    }

    /// A request without a key of its own.
    pub(crate) fn request(&self, customer: &str, command: Command) -> Request {
        Request {
            catalog: self.catalog.clone(),
            key: self.key(customer),
            command,
            operation: None,
            settles: None,
            new_customer: SystemClock.new_id(),
            now: self.now,
        }
    }

    /// A keyed request for something other than a charge.
    pub(crate) fn keyed(&self, customer: &str, operation_key: &str, command: Command) -> Request {
        let command_name = format!("{command:?}");
        let kind = command_name.split(|letter: char| !letter.is_alphanumeric()).next().expect("it has a name");
        let id = self.id_of(customer, kind, operation_key);
        let asked = fingerprint(&command);
        Request { operation: Some((id, asked)), ..self.request(customer, command) }
    }

    pub(crate) fn create(&self, customer: &str) -> Request {
        self.request(customer, Command::Upsert(CustomerChange::default()))
    }

    pub(crate) fn profile(&self, customer: &str, profile: Profile) -> Request {
        self.request(customer, Command::Upsert(CustomerChange { profile: Some(profile), ..CustomerChange::default() }))
    }

    /// A paid grant of so many dollars.
    pub(crate) fn grant(&self, customer: &str, operation_key: &str, dollars: &str) -> Request {
        self.keyed(customer, operation_key, Command::Grant(self.grant_request(customer, operation_key, dollars)))
    }

    pub(crate) fn grant_request(&self, customer: &str, operation_key: &str, dollars: &str) -> GrantRequest {
        GrantRequest {
            id: self.id_of(customer, "grant", operation_key),
            asset: "USD".to_owned(),
            amount: micros(dollars),
            kind: GrantKind::Paid,
            priority: 100,
            expires_at: None,
            meters: Vec::new(),
            reason: None,
        }
    }

    /// A charge of one call.
    pub(crate) fn call(&self, customer: &str, operation_key: &str) -> Request {
        self.charge(customer, operation_key, "calls", "1")
    }

    pub(crate) fn charge(&self, customer: &str, operation_key: &str, meter: &str, quantity: &str) -> Request {
        let charge = self.charge_request(customer, operation_key, meter, quantity);
        self.request(customer, Command::Charge(vec![charge]))
    }

    /// A use to be charged; without a key where that is empty.
    pub(crate) fn charge_request(
        &self,
        customer: &str,
        operation_key: &str,
        meter: &str,
        quantity: &str,
    ) -> ChargeRequest {
        let keyed = !operation_key.is_empty();
        ChargeRequest {
            id: if keyed { self.id_of(customer, "charge", operation_key) } else { SystemClock.new_id() },
            operation_key: keyed.then(|| operation_key.into()),
            fingerprint: fingerprint(&(meter, quantity)),
            meter: meter.into(),
            quantity: micros(quantity),
            own_amount: None,
            subject: None,
            dimensions: BTreeMap::new(),
            occurred_at: self.now,
            metadata: None,
        }
    }

    /// A hold of so many calls.
    pub(crate) fn hold(&self, customer: &str, operation_key: &str, calls: &str) -> Request {
        let hold = HoldRequest {
            id: self.hold_id(customer, operation_key),
            meter: "calls".into(),
            size: HoldSize::Quantity(micros(calls)),
            subject: None,
            dimensions: BTreeMap::new(),
            expires_at: None,
        };
        self.keyed(customer, operation_key, Command::Hold(hold))
    }

    pub(crate) fn hold_id(&self, customer: &str, operation_key: &str) -> Uuid {
        self.id_of(customer, "hold", operation_key)
    }

    pub(crate) fn id_of(&self, customer: &str, kind: &str, operation_key: &str) -> Uuid {
        id::keyed_id(self.tenant(), customer, kind, operation_key)
    }

    /// What a call would come to.
    pub(crate) async fn check_call(&self, service: &Service, customer: &str) -> Result<Check, ServiceError> {
        let request = CheckRequest { meter: "calls".into(), quantity: Micros::ONE, dimensions: BTreeMap::new() };
        service.check(self.catalog.clone(), self.key(customer), request, self.now).await
    }

    /// A customer as the store shows it.
    pub(crate) async fn row(&self, store: &dyn Store, customer: &str) -> CustomerRow {
        let found = store.customer(&self.scope(), &self.key(customer)).await.expect("the store answers");
        found.expect("the customer exists")
    }

    /// The bucket and the id of a customer's rows.
    pub(crate) async fn owner(&self, store: &dyn Store, customer: &str) -> (i32, Uuid) {
        let customer = self.row(store, customer).await.customer;
        (customer.shard_key, customer.id)
    }
}

/// How a request ended, in one word: `done`, or why not.
pub(crate) fn outcome<T>(answer: &Result<T, ServiceError>) -> &'static str {
    match answer {
        Ok(_) => "done",
        Err(ServiceError::Refused(refusal)) => refusal.code(),
        Err(ServiceError::Busy) => "busy",
        Err(ServiceError::Stopping) => "stopping",
        Err(ServiceError::Unavailable) => "unavailable",
    }
}

/// Executes requests one after the other, each of which has to succeed.
pub(crate) async fn all_done(service: &Service, requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        let command = request.command.clone();
        match service.execute(request).await {
            Ok(answer) => answers.push(answer),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
    answers
}

/// An amount or a quantity.
pub(crate) fn micros(text: &str) -> Micros {
    text.parse().expect("an amount")
}

fn rate(text: &str) -> engine::Rate {
    text.parse().expect("a rate")
}

fn meter(name: &str) -> (Arc<str>, Meter) {
    let meter = Meter {
        name: name.into(),
        unit: Asset::new(name.strip_suffix('s').unwrap_or(name)),
        event_type: None,
        property: None,
        dimensions: ["model".to_owned()].into(),
        requires_payment_method: false,
    };
    (meter.name.clone(), meter)
}

/// The price of a meter, or of a model of it.
fn price(meter: &str, small: &str, model: Model, per: u64) -> Price {
    let matching: BTreeMap<String, String> =
        if small.is_empty() { BTreeMap::new() } else { [("model".to_owned(), small.to_owned())].into() };
    Price {
        name: format!("{meter}{small}").into(),
        version: format!("{meter}{small}-1").into(),
        meter: meter.into(),
        pooled: Vec::new(),
        asset: Asset::new("USD"),
        matching,
        model,
        per,
        rounding: Rounding::HalfEven,
        line_rounding: Rounding::Down,
        whole_coins: false,
    }
}

/// A hash of what is asked.
pub(crate) fn fingerprint(asked: &impl std::fmt::Debug) -> i64 {
    let mut hasher = DefaultHasher::new();
    format!("{asked:?}").hash(&mut hasher);
    hasher.finish().cast_signed()
}
