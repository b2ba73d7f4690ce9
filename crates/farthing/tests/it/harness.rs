//! The application under test: the real router on a socket of this machine, on either engine, at a time that the test
//! sets. A test talks to it as a product does, over HTTP with a key, and looks past the API only where it says so.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, Uri};
use engine::Catalog;
use farthing::app::App;
use farthing::auth::{Scope, key};
use farthing::clock::{Clock, SystemClock};
use farthing::connection::{Connected, SandboxAddress, connect};
use farthing::service::Settings;
use farthing::store::KeyRow;
use farthing::{config, server};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use sandbox::Forward;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::databases::{self, Database};
use crate::shop::{self, TestSandbox};

/// A product with agents that answer calls. Its own users read their billing with HS256 tokens.
pub(crate) const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"
time_zone = "UTC"

[[meters]]
name = "minutes"
unit = "minute"

[[meters]]
name = "tokens"
unit = "token"
event_type = "llm.request"
property = "used_tokens"
dimensions = ["model"]

[[meters]]
name = "runs"
unit = "run"
event_type = "agent.run"
count = true

[[meters]]
name = "storage"
unit = "gigabyte"

[[meters]]
name = "numbers"
requires_payment_method = true

[[meters]]
name = "use"

[[prices]]
meter = "minutes"
model = "per_unit"
amount = "0.25"

[[prices]]
meter = "tokens"
model = "per_unit"
amount = "2"
per = 1_000_000

[[prices]]
meter = "tokens"
match = { model = "small" }
model = "per_unit"
amount = "0.15"
per = 1_000_000

[[prices]]
meter = "runs"
model = "flat"
amount = "0.05"

[[prices]]
meter = "storage"
model = "graduated"
tiers = [
  { up_to = "10", amount = "1" },
  { amount = "0.5", flat = "2" },
]

[[prices]]
meter = "numbers"
model = "per_unit"
amount = "3"

[[grants]]
name = "free-uses"
on = "created"
unit = "use"
amount = "3"

[[plans]]
name = "basic"
price = "10"

[holds]
seconds = 120

[jwt]
algorithm = "HS256"
secret_env = "ACME_JWT_SECRET"
"#;

/// The tenant files of the products whose own APIs are spoken.
pub(crate) const PRODUCTS: [&str; 4] = [
    include_str!("../../../../examples/ciris.toml"),
    include_str!("../../../../examples/helppet.toml"),
    include_str!("../../../../examples/parentpilot.toml"),
    include_str!("../../../../examples/speech.toml"),
];

/// What signs the tokens of the product's users.
pub(crate) const JWT_SECRET: &str = "thirty-two bytes, and some more of them";

/// A server of farthing, in this process.
pub(crate) struct TestApp {
    /// Its parts.
    pub(crate) app: Arc<App>,
    /// Its time.
    pub(crate) clock: Arc<TestClock>,
    /// The database below it.
    pub(crate) database: Arc<Database>,
    /// The text of its tenant files, the one that tests are about first.
    tenants: Vec<&'static str>,
    /// What it sells besides.
    more: fn(&mut Catalog),
    /// An admin key of the tenant.
    pub(crate) admin_key: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

/// Runs a test of the API on a fresh SQLite database, then on a fresh PostgreSQL one.
pub(crate) async fn on_both(test: impl AsyncFn(TestApp)) {
    databases::on_both(async |database| test(TestApp::start(database).await).await).await;
}

/// What the tenant files of tests read of the environment.
fn environment(name: &str) -> Option<String> {
    name.ends_with("_JWT_SECRET").then(|| JWT_SECRET.to_owned())
}

fn parse(file: &str) -> config::Tenant {
    config::parse(file, "tenant.toml", &environment).expect("the tenant file is right")
}

impl TestApp {
    /// Serves the tenant above on a Monday morning.
    pub(crate) async fn start(database: Database) -> Self {
        Self::with(database, TENANT).await
    }

    /// Serves the tenant of this file on a Monday morning.
    pub(crate) async fn with(database: Database, tenant: &'static str) -> Self {
        Self::on(Arc::new(database), TestClock::at("2026-03-02T09:00:00Z"), tenant).await
    }

    /// The same on a database that others use too.
    pub(crate) async fn on(database: Arc<Database>, clock: Arc<TestClock>, tenant: &'static str) -> Self {
        let mut app = Self::serve(database, clock, vec![tenant], |_| {}).await;
        app.admin_key = app.new_key(Scope::Admin).await.0;
        app
    }

    /// One more server on the same database, which remembers nothing of what the first one did.
    pub(crate) async fn another(&self) -> Self {
        let app = Self::serve(self.database.clone(), self.clock.clone(), self.tenants.clone(), self.more).await;
        Self { admin_key: self.admin_key.clone(), ..app }
    }

    /// Serves the shop with its jobs running, beside a sandbox that tells it what happens.
    pub(crate) async fn shop(database: Database) -> (Self, TestSandbox) {
        Self::with_sandbox(database, shop::TENANT).await
    }

    /// Serves the tenant of this file so.
    pub(crate) async fn with_sandbox(database: Database, tenant: &'static str) -> (Self, TestSandbox) {
        Self::selling(database, tenant, |_| {}).await
    }

    /// Serves one of the products whose own API is spoken, on a server of all of them.
    pub(crate) async fn of_product(database: Database, name: &str) -> (Self, TestSandbox) {
        let (first, others): (Vec<_>, Vec<_>) = PRODUCTS.iter().partition(|file| &*parse(file).catalog.tenant == name);
        assert_eq!(first.len(), 1, "{name}");
        Self::beside(database, [first, others].concat(), |_| {}).await
    }

    /// The same, with more in its catalog.
    pub(crate) async fn selling(
        database: Database,
        tenant: &'static str,
        more: fn(&mut Catalog),
    ) -> (Self, TestSandbox) {
        Self::beside(database, vec![tenant], more).await
    }

    /// Serves the first of these tenant files beside the others, and a sandbox that tells each what happens.
    async fn beside(database: Database, files: Vec<&'static str>, more: fn(&mut Catalog)) -> (Self, TestSandbox) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let at = listener.local_addr().expect("an address");
        let names: Vec<_> = files.iter().map(|file| parse(file).catalog.tenant).collect();
        let webhook = |name| Forward {
            world: Some(format!("{name}")),
            url: format!("http://{at}/v1/connections/{name}/webhook"),
            secret: shop::WEBHOOK_SECRET.to_owned(),
        };
        let mut sandbox = TestSandbox::start(names.iter().map(webhook).collect()).await;
        sandbox.key = format!("sk_test_{}", names[0]);
        let clock = TestClock::at("2026-03-02T09:00:00Z");
        let (database, address) = (Arc::new(database), sandbox.address());
        let mut app = Self::serve_on(listener, database, clock, (files, more), Some(&address)).await;
        app.admin_key = app.new_key(Scope::Admin).await.0;
        (app, sandbox)
    }

    async fn serve(
        database: Arc<Database>,
        clock: Arc<TestClock>,
        files: Vec<&'static str>,
        more: fn(&mut Catalog),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve_on(listener, database, clock, (files, more), None).await
    }

    async fn serve_on(
        listener: TcpListener,
        database: Arc<Database>,
        clock: Arc<TestClock>,
        (files, more): (Vec<&'static str>, fn(&mut Catalog)),
        sandbox: Option<&SandboxAddress>,
    ) -> Self {
        let mut tenants: Vec<_> = files.iter().map(|file| parse(file)).collect();
        more(&mut tenants[0].catalog);
        let store = database.open().await;
        let Connected { providers, connections, .. } = connect(&tenants, sandbox).expect("the tenant is connected");
        let app = App::start(store, tenants, connections, clock.clone(), Settings { lanes: 2, ..Settings::default() })
            .await
            .expect("the application starts");
        let address = listener.local_addr().expect("the address of a socket");
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(server::serve(app.clone(), providers, listener, async move {
            let _ = stopped.await;
        }));
        Self { app, clock, database, tenants: files, more, admin_key: String::new(), address, stop, served }
    }

    /// Tells the server to stop; what it ended with, once all that it had accepted is answered.
    pub(crate) fn stop(self) -> JoinHandle<std::io::Result<()>> {
        self.stop.send(()).expect("the server was running");
        self.served
    }

    /// A new API key of the tenant, and its id.
    pub(crate) async fn new_key(&self, scope: Scope) -> (String, Uuid) {
        self.new_key_of(&parse(self.tenants[0]).catalog.tenant, scope).await
    }

    /// The same of another tenant here.
    pub(crate) async fn new_key_of(&self, tenant: &str, scope: Scope) -> (String, Uuid) {
        let secret = key::generate(false).expect("random bytes");
        let row = KeyRow {
            id: self.clock.new_id(),
            tenant: tenant.to_string(),
            name: "of a test".to_owned(),
            scope: scope.to_string(),
            preview: key::preview(&secret),
            created_at: self.clock.now(),
            revoked_at: None,
        };
        let digest = key::digest(secret.expose()).expect("a key has a digest");
        self.app.store.add_key(&row, &digest).await.expect("the key is added");
        (secret.expose().to_owned(), row.id)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path).json(&body).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path).json(&body).send().await
    }

    /// Creates a customer, who gets what the tenant file gives to new ones.
    pub(crate) async fn create(&self, customer: &str) {
        self.put(&format!("/v1/customers/{customer}"), json!({})).await.is(201);
    }

    /// Creates a customer who has bought so many dollars; the grant.
    pub(crate) async fn create_with(&self, customer: &str, dollars: &str) -> Value {
        self.create(customer).await;
        self.grant(customer, dollars).await
    }

    /// Grants so many dollars, bought; the grant.
    pub(crate) async fn grant(&self, customer: &str, dollars: &str) -> Value {
        let path = format!("/v1/customers/{customer}/grants");
        self.post(&path, json!({"amount": dollars, "kind": "paid"})).await.is(201)
    }

    pub(crate) async fn charge(&self, customer: &str, meter: &str, quantity: &str) -> Answer {
        self.post("/v1/charges", json!({"customer": customer, "meter": meter, "quantity": quantity})).await
    }

    /// What a customer has in dollars: balance, held, available, owed.
    pub(crate) async fn dollars(&self, customer: &str) -> [String; 4] {
        let wallet = self.get(&format!("/v1/customers/{customer}/wallet")).await.is(200);
        ["balance", "held", "available", "owed"].map(|part| text(&wallet["balances"]["USD"], part).to_owned())
    }

    /// Every element of a list, read in pages of this size.
    pub(crate) async fn pages(&self, path: &str, size: usize) -> Vec<Value> {
        let mut all = Vec::new();
        let mut next = format!("{path}?limit={size}");
        loop {
            let page = self.get(&next).await.is(200);
            let data = list(&page, "data");
            all.extend_from_slice(data);
            let Some(cursor) = page["next_cursor"].as_str() else { return all };
            assert_eq!(data.len(), size, "a page before the last is full");
            next = format!("{path}?limit={size}&cursor={cursor}");
        }
    }

    /// A request with the admin key, to be added to and sent.
    pub(crate) fn request(&self, method: &str, path: &str) -> TestRequest {
        TestRequest {
            address: self.address,
            method: method.parse().expect("a method"),
            path: path.to_owned(),
            headers: vec![("x-api-key".to_owned(), self.admin_key.clone())],
            body: Bytes::new(),
        }
    }
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct TestRequest {
    address: SocketAddr,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl TestRequest {
    /// Adds a header, beside any of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Without what was said so far of who calls.
    pub(crate) fn anonymous(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "x-api-key");
        self
    }

    /// As the one with this key or token.
    pub(crate) fn bearer(self, credential: &str) -> Self {
        self.anonymous().header("authorization", &format!("Bearer {credential}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        let uri: Uri = self.path.parse().expect("a path");
        let mut request = Request::builder().method(self.method).uri(uri).header("host", self.address.to_string());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body)).expect("a request");
        let stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        connection.abort();
        Answer { what, status: head.status.as_u16(), headers: head.headers, body }
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) what: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body of an answer that has to have this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text());
        self.json()
    }

    /// The body of an answer that has to be a problem with this status and this code.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        let problem = self.problem();
        assert_eq!((self.status, &problem["code"]), (status, &Value::from(code)), "{}: {}", self.what, self.text());
        problem
    }

    /// The body of an answer that has to be a problem by RFC 9457, with everything that ours have.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}: {}", self.what, self.text());
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code");
        assert_eq!(problem["type"], format!("urn:farthing:problem:{code}"), "{}: {problem}", self.what);
        assert_eq!(problem["status"], self.status, "{}: {problem}", self.what);
        for words in ["title", "detail"] {
            assert!(problem[words].as_str().is_some_and(|text| !text.is_empty()), "{}: {problem}", self.what);
        }
        problem
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header of ASCII"))
    }

    /// Whether it says of itself that it was given before.
    pub(crate) fn replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.what, self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The text that a member holds.
#[track_caller]
pub(crate) fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("no text `{member}` in {value}"))
}

/// The list that a member holds.
#[track_caller]
pub(crate) fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value[member].as_array().unwrap_or_else(|| panic!("no list `{member}` in {value}"))
}

/// A clock that stands still until the test moves it.
#[derive(Debug)]
pub(crate) struct TestClock {
    now: Mutex<Timestamp>,
    ids: Option<(u64, AtomicU64)>,
}

impl TestClock {
    pub(crate) fn at(time: &str) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(time.parse().expect("a time")), ids: None })
    }

    /// The same, with ids that are a function of a seed and a counter, so that runs can be compared.
    pub(crate) fn seeded(time: &str, seed: u64) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(time.parse().expect("a time")), ids: Some((seed, AtomicU64::new(0))) })
    }

    pub(crate) fn advance(&self, seconds: i64) {
        let mut now = self.now.lock().expect("the time");
        *now += SignedDuration::from_secs(seconds);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().expect("the time")
    }

    fn new_id(&self) -> Uuid {
        let Some((seed, drawn)) = &self.ids else { return SystemClock.new_id() };
        let digest = Sha256::digest(format!("{seed}/{}", drawn.fetch_add(1, Ordering::Relaxed)));
        let random = digest[..10].try_into().expect("ten bytes");
        let milliseconds = u64::try_from(self.now().as_millisecond()).expect("a time after 1970");
        uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
    }
}
