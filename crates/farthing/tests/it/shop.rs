//! A shop: the application with a payment provider, which is a sandbox of its own over HTTP, on either database.
//!
//! `Shop` does its jobs only when a test tells it to, so that the test can stop it between any two steps; `open` serves it
//! with its jobs running, as in life.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use engine::{Catalog, Collection, CollectionRequest, Command, Payment, PurchaseRequest, wallet};
use farthing::app::App;
use farthing::auth::Secret;
use farthing::clock::Clock;
use farthing::config;
use farthing::connection::{Connected, SandboxAddress, connect};
use farthing::inbound::{Inbound, InboundError};
use farthing::jobs::Jobs;
use farthing::service::{Answer, Request, ServiceError, Settings};
use farthing::store::{CustomerKey, CustomerRow, PaymentRow, Scope};
use hmac::{Hmac, Mac};
use sandbox::{Forward, Sandbox};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::databases::Database;
use crate::harness::TestClock;

/// A product that sells minutes and credit.
pub(crate) const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[[meters]]
name = "minutes"
unit = "minute"

[[prices]]
meter = "minutes"
model = "per_unit"
amount = "0.25"

[[packs]]
name = "starter"
title = "20 dollars of credit"
price = "20"

[[packs]]
name = "minutes"
title = "100 minutes"
price = "19.99"
unit = "minute"
amount = "100"

[connection]
provider = "stripe"
"#;

/// What the shop's webhooks are signed with.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_of_the_shop";

/// A sandbox of one test.
pub(crate) struct TestSandbox {
    /// Where it is.
    pub(crate) url: String,
    /// The key of the product's server, and so its world.
    pub(crate) key: String,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl TestSandbox {
    /// Serves a sandbox that tells its events there.
    pub(crate) async fn start(forward_to: Vec<Forward>) -> Self {
        Self::seeded(forward_to, None).await
    }

    /// The same, with ids that are a function of a seed and a counter.
    pub(crate) async fn seeded(forward_to: Vec<Forward>, seed: Option<u64>) -> Self {
        let settings = sandbox::Settings {
            seed,
            forward_to,
            webhook_retries: [100, 300, 1000].map(Duration::from_millis).to_vec(),
            ..sandbox::Settings::default()
        };
        let sandbox = Sandbox::open(settings).expect("a sandbox opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("the address of a socket"));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            sandbox.serve(listener, stopped).await
        });
        farthing::tls::install_provider();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { url, key: "sk_test_acme".to_owned(), http, stop: Some(stop), serving }
    }

    /// Where it is, for the connection.
    pub(crate) fn address(&self) -> SandboxAddress {
        SandboxAddress { url: self.url.clone(), webhook_secret: Secret::new(WEBHOOK_SECRET) }
    }

    /// Asks it as the product's server.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Tells it something as the product's server; the status and what it answers.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// Has it misbehave.
    pub(crate) async fn fault(&self, fault: Value) {
        let request = self.http.post(format!("{}/_sandbox/faults", self.url)).bearer_auth(&self.key).json(&fault);
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{fault}: {}", response.text().await.unwrap_or_default());
    }

    /// Has it behave.
    pub(crate) async fn mend(&self) {
        let request = self.http.delete(format!("{}/_sandbox/faults", self.url)).bearer_auth(&self.key);
        request.send().await.expect("an answer").error_for_status().expect("it behaves");
    }

    /// Pays a payment of this client secret with a test card, as the customer's browser does; the status.
    pub(crate) async fn pay(&self, client_secret: &str, method: &str) -> (u16, Value) {
        let (intent, _) = client_secret.split_once("_secret_").expect("a client secret");
        let back = ("return_url", "https://shop.example/back");
        self.post(&format!("/v1/payment_intents/{intent}/confirm"), &[("payment_method", method), back]).await
    }

    /// Answers the 3-D Secure page of a payment, as the customer's browser does.
    pub(crate) async fn answer_bank(&self, intent: &Value, outcome: &str) {
        let url = intent["next_action"]["redirect_to_url"]["url"].as_str().expect("the bank asks");
        let page = url.split('?').next().expect("a path");
        let secret = intent["client_secret"].as_str().expect("a client secret");
        let form = format!("client_secret={secret}&return_url=&outcome={outcome}");
        let request = self.http.post(page).header("content-type", "application/x-www-form-urlencoded").body(form);
        // Where it leads to afterwards is somebody else's page.
        let _ = request.send().await;
    }

    /// Sends a card off on a page, as the customer's browser does.
    pub(crate) async fn pay_on_page(&self, page: &str, number: &str) {
        let form = format!("email=ada%40example.com&name=Ada&postal=10115&expiry=12%2F40&cvc=123&number={number}");
        let request = self.http.post(page).header("content-type", "application/x-www-form-urlencoded").body(form);
        // Where it leads to afterwards is somebody else's page.
        let _ = request.send().await;
    }

    /// All of a kind, newest first.
    pub(crate) async fn all(&self, kind: &str) -> Vec<Value> {
        self.get(&format!("/v1/{kind}?limit=100")).await["data"].as_array().expect("a list").clone()
    }

    /// Its events, oldest first, each as the body of a webhook.
    pub(crate) async fn events(&self) -> Vec<Value> {
        let mut events = self.all("events").await;
        events.reverse();
        events
    }

    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = self.serving.await;
    }
}

/// The application with its provider, whose jobs a test does by hand.
pub(crate) struct Shop {
    pub(crate) app: Arc<App>,
    pub(crate) jobs: Jobs,
    pub(crate) inbound: Inbound,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) database: Arc<Database>,
    pub(crate) sandbox: Arc<TestSandbox>,
    file: String,
    more: fn(&mut Catalog),
}

impl Shop {
    /// A shop whose sandbox tells nobody of its events.
    pub(crate) async fn start(database: Database) -> Self {
        Self::selling(database, |_| {}).await
    }

    /// The same, with more in its catalog.
    pub(crate) async fn selling(database: Database, more: fn(&mut Catalog)) -> Self {
        Self::begin(database, TENANT, more).await
    }

    /// A shop with a tenant file of its own.
    pub(crate) async fn with(database: Database, file: &str) -> Self {
        Self::begin(database, file, |_| {}).await
    }

    async fn begin(database: Database, file: &str, more: fn(&mut Catalog)) -> Self {
        let sandbox = Arc::new(TestSandbox::start(Vec::new()).await);
        let clock = TestClock::at("2026-03-02T09:00:00Z");
        Self::on(Arc::new(database), sandbox, clock, (file.to_owned(), more)).await
    }

    /// The shop of this tenant file from this time on, in which everything that is drawn is a function of the seed.
    pub(crate) async fn seeded(database: Database, file: &str, time: &str, seed: u64) -> Self {
        let sandbox = Arc::new(TestSandbox::seeded(Vec::new(), Some(seed)).await);
        let settings = (file.to_owned(), (|_| {}) as fn(&mut Catalog));
        Self::on(Arc::new(database), sandbox, TestClock::seeded(time, seed), settings).await
    }

    /// The same shop after a restart: it remembers what the database does, and nothing else.
    pub(crate) async fn restarted(&self) -> Self {
        self.restarted_with(&self.file).await
    }

    /// The same after a restart with another tenant file.
    pub(crate) async fn restarted_with(&self, file: &str) -> Self {
        let settings = (file.to_owned(), self.more);
        Self::on(self.database.clone(), self.sandbox.clone(), self.clock.clone(), settings).await
    }

    async fn on(
        database: Arc<Database>,
        sandbox: Arc<TestSandbox>,
        clock: Arc<TestClock>,
        (file, more): (String, fn(&mut Catalog)),
    ) -> Self {
        let mut tenant = config::parse(&file, "tenant.toml", &|_| None).expect("the tenant file is right");
        more(&mut tenant.catalog);
        let tenants = vec![tenant];
        let Connected { providers, connections, .. } =
            connect(&tenants, Some(&sandbox.address())).expect("the tenant is connected");
        let store = database.open().await;
        let app = App::start(store, tenants, connections, clock.clone(), Settings::default()).await.expect("it starts");
        let inbound = Inbound::new(app.clone(), &providers);
        let jobs = Jobs::new(app.clone(), providers);
        Self { app, jobs, inbound, clock, database, sandbox, file, more }
    }

    /// Brings a command to a customer.
    pub(crate) async fn execute(&self, customer: &str, command: Command) -> Result<Answer, ServiceError> {
        self.app.service.execute(self.request(customer, command)).await
    }

    pub(crate) fn request(&self, customer: &str, command: Command) -> Request {
        let tenant = &self.app.tenants["acme"];
        Request {
            catalog: tenant.catalog.clone(),
            key: CustomerKey::new(&tenant.catalog.tenant, customer),
            command,
            operation: None,
            settles: None,
            new_customer: self.clock.new_id(),
            now: self.app.now("acme"),
        }
    }

    pub(crate) async fn create(&self, customer: &str) {
        self.execute(customer, Command::Upsert(engine::CustomerChange::default())).await.expect("it is created");
    }

    /// Asks for a pack; its payment.
    pub(crate) async fn buy(&self, customer: &str, pack: &str) -> Uuid {
        let id = self.clock.new_id();
        self.execute(customer, purchase(id, pack)).await.expect("it may be bought");
        id
    }

    /// Does effects, and applies events, until nothing is due.
    pub(crate) async fn work(&self) {
        while self.jobs.do_effects().await.expect("the store answers") > 0
            || self.jobs.apply_events().await.expect("the store answers") > 0
            || self.jobs.pass_time().await.expect("the store answers") > 0
        {}
    }

    /// Brings an event as a webhook; whether it was believed.
    pub(crate) async fn deliver(&self, event: &Value) -> Result<(), InboundError> {
        let body = event.to_string();
        let now = self.clock.wall().as_second();
        self.inbound.receive("acme", &signed(&body, now, WEBHOOK_SECRET), body.as_bytes()).await.map(|_| ())
    }

    /// Brings every event that the sandbox has.
    pub(crate) async fn deliver_all(&self) {
        for event in self.sandbox.events().await {
            self.deliver(&event).await.expect("it is believed");
        }
    }

    pub(crate) async fn customer(&self, name: &str) -> CustomerRow {
        let key = CustomerKey::new(&"acme".into(), name);
        self.app.store.customer(&scope(), &key).await.expect("the store answers").expect("it is there")
    }

    pub(crate) async fn payment_row(&self, customer: &str, id: Uuid) -> PaymentRow {
        let shard_key = CustomerKey::new(&"acme".into(), customer).shard_key;
        self.app.store.payment(&scope(), (shard_key, id)).await.expect("the store answers").expect("it is there")
    }

    pub(crate) async fn payment(&self, customer: &str, id: Uuid) -> Payment {
        self.payment_row(customer, id).await.payment
    }

    /// What a customer has of an asset.
    pub(crate) async fn balance(&self, customer: &str, asset: &str) -> wallet::Balance {
        let row = self.customer(customer).await;
        let balances = wallet::balances(&self.app.tenants["acme"].catalog, &row.customer, self.clock.now());
        balances.expect("sums that fit").get(&engine::Asset::new(asset)).copied().unwrap_or_default()
    }
}

pub(crate) fn scope() -> Scope {
    Scope { tenant: "acme".into(), customer: None }
}

/// A pack to be paid in the browser.
pub(crate) fn purchase(id: Uuid, pack: &str) -> Command {
    let collection = CollectionRequest::By(Collection::OnSession { save_method: false });
    Command::Purchase(PurchaseRequest { id, pack: pack.into(), quantity: 1, collection })
}

/// The headers of a webhook that was signed at this time.
pub(crate) fn signed(body: &str, unix: i64, secret: &str) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{unix}.{body}").as_bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let value = HeaderValue::from_str(&format!("t={unix},v1={signature}")).expect("a header");
    HeaderMap::from_iter([(HeaderName::from_static("stripe-signature"), value)])
}
