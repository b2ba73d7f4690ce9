//! Real server processes under load: two on one database, one killed, a database stopped; and what the books say after.
//!
//! Every caller is an HTTP client that remembers what it was answered. Afterwards each acknowledged charge has to be there
//! once, `verify` has to find no difference, and a repeat of each key has to give the answer that was given.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::postgres::{self, Cluster};

const BINARY: &str = env!("CARGO_BIN_EXE_farthing");
const TENANT_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/assistant.toml");

/// A server process on a database.
pub(crate) struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(database: &str) -> Self {
        Self::start_with(TENANT_FILE, database)
    }

    /// The same, for the tenant of another file.
    pub(crate) fn start_with(tenant_file: &str, database: &str) -> Self {
        let mut process = Command::new(BINARY)
            .args(["serve", tenant_file, "--listen", "127.0.0.1:0", "--database", database])
            .args(["--sandbox-listen", "off"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(process.stderr.take().expect("its log")).lines();
        let address = log.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line.ok()?).ok()?;
            (line["event"] == "serving").then(|| format!("http://{}", line["address"].as_str().unwrap_or_default()))
        });
        // Read on, so that the process never waits for room in the pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, address: address.expect("the server says where it serves") }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("the process is killed");
        self.process.wait().expect("the process is gone");
    }

    /// As `kill` does: the server answers what it accepted and ends well.
    pub(crate) fn terminate(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        let ended = self.process.wait().expect("the process ends");
        assert!(ended.success(), "{ended}");
    }
}

/// What callers share: the key, and a client that keeps its connections.
#[derive(Clone)]
struct Caller {
    http: Client,
    key: Arc<str>,
}

impl Caller {
    fn new(database: &str) -> Self {
        let made = Command::new(BINARY)
            .args(["keys", "create", "--scope", "admin", TENANT_FILE, "--database", database])
            .output()
            .expect("keys create runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let key = String::from_utf8(made.stdout).expect("a key").trim().into();
        farthing::tls::install_provider();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
        Self { http, key }
    }

    /// The status and the body; nothing where no answer came.
    async fn send(&self, method: reqwest::Method, url: String, body: Value) -> Option<(u16, Value)> {
        let request = self.http.request(method, url).bearer_auth(&*self.key).json(&body);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }

    async fn set_up(&self, address: &str, customer: &str, dollars: &str) {
        let url = format!("{address}/v1/customers/{customer}");
        self.send(reqwest::Method::PUT, url.clone(), json!({})).await.expect("a customer");
        let grant = json!({"amount": dollars, "kind": "paid"});
        let (status, answer) = self.send(reqwest::Method::POST, format!("{url}/grants"), grant).await.expect("a grant");
        assert_eq!(status, 201, "{answer}");
    }

    async fn charge(&self, address: &str, customer: &str, key: &str, quantity: u32) -> Option<(u16, Value)> {
        let body = json!({"customer": customer, "meter": "context_tokens", "quantity": quantity, "operation_key": key});
        self.send(reqwest::Method::POST, format!("{address}/v1/charges"), body).await
    }

    async fn get(&self, url: String) -> Value {
        let response = self.http.get(url).bearer_auth(&*self.key).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }
}

fn verify(database: &str) {
    let verified = Command::new(BINARY).args(["verify", "--database", database]).output().expect("verify runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

/// A database of its own on each engine.
async fn databases() -> (tempfile::TempDir, [String; 2]) {
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = format!("sqlite:{}", directory.path().join("farthing.db").display());
    (directory, [sqlite, postgres::shared().create_database().await])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_of_two_servers_race_for_credit_that_covers_four_hundred() {
    let (_directory, databases) = databases().await;
    for database in databases {
        let caller = Caller::new(&database);
        let servers = [Server::start(&database), Server::start(&database)];
        // 400 charges of 1,000 tokens at 3 dollars a million.
        caller.set_up(&servers[0].address, "acme", "1.2").await;
        let mut calls = JoinSet::new();
        for n in 0..1000 {
            let (caller, address) = (caller.clone(), servers[n % 2].address.clone());
            calls.spawn(async move { caller.charge(&address, "acme", &format!("call-{n}"), 1000).await });
        }
        let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
        while let Some(outcome) = calls.join_next().await {
            let (status, answer) = outcome.expect("no caller fails").expect("each caller is answered");
            *outcomes.entry(format!("{status} {}", answer["code"].as_str().unwrap_or_default())).or_default() += 1;
        }
        let expected = [("201 ".to_owned(), 400), ("402 insufficient_funds".to_owned(), 600)];
        assert_eq!(outcomes, BTreeMap::from(expected), "{database}");
        let wallet = caller.get(format!("{}/v1/customers/acme/wallet", servers[1].address)).await;
        assert_eq!(wallet["balances"]["USD"]["balance"], "0");
        verify(&database);
        servers.into_iter().for_each(Server::terminate);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_at_once_on_two_servers_has_one_effect_and_one_answer() {
    let (_directory, databases) = databases().await;
    for database in databases {
        let caller = Caller::new(&database);
        let servers = [Server::start(&database), Server::start(&database)];
        caller.set_up(&servers[0].address, "acme", "10").await;
        for round in 0..5 {
            let mut calls = JoinSet::new();
            for n in 0..40 {
                let (caller, address) = (caller.clone(), servers[n % 2].address.clone());
                calls.spawn(async move { caller.charge(&address, "acme", &format!("once-{round}"), 1000).await });
            }
            let answers: Vec<_> = calls.join_all().await.into_iter().map(|answer| answer.expect("an answer")).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0] && answer.0 == 201), "{answers:?}");
            let other = caller.charge(&servers[1].address, "acme", &format!("once-{round}"), 2000).await;
            let (status, problem) = other.expect("an answer");
            assert_eq!((status, &problem["code"]), (422, &json!("operation_key_reused")));
        }
        let wallet = caller.get(format!("{}/v1/customers/acme/wallet", servers[0].address)).await;
        assert_eq!(wallet["balances"]["USD"]["balance"], "9.985");
        verify(&database);
        servers.into_iter().for_each(Server::terminate);
    }
}

/// Load that goes on until it is told to stop: what each key was answered.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<BTreeMap<String, Value>>,
}

impl Load {
    fn start(caller: &Caller, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for n in 0..32 {
            let (caller, address, stop) = (caller.clone(), address.to_owned(), stop.clone());
            callers.spawn(async move {
                let customer = format!("customer-{}", n % 8);
                let mut acknowledged = BTreeMap::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{customer} {n}-{number}");
                    match caller.charge(&address, &customer, &key, 100).await {
                        Some((201, answer)) => drop(acknowledged.insert(key, answer)),
                        // Nobody answers, or not now: a caller would wait a little, too.
                        _ => tokio::time::sleep(Duration::from_millis(10)).await,
                    }
                }
                acknowledged
            });
        }
        Self { stop, callers }
    }

    async fn end(self) -> BTreeMap<String, Value> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

/// Every acknowledged charge is there as it was answered, and a repeat of its key gives that answer.
async fn assert_kept(caller: &Caller, address: &str, database: &str, acknowledged: &BTreeMap<String, Value>) {
    assert!(acknowledged.len() > 50, "the load was no load: {}", acknowledged.len());
    for (key, answer) in acknowledged {
        let id = answer["id"].as_str().unwrap_or_default();
        let kept = caller.get(format!("{address}/v1/charges/{id}")).await;
        assert_eq!(kept, *answer, "{key}");
    }
    for (key, answer) in acknowledged.iter().step_by(17) {
        let customer = answer["customer"].as_str().unwrap_or_default();
        let repeated = caller.charge(address, customer, key, 100).await;
        assert_eq!(repeated, Some((201, answer.clone())), "{key}");
    }
    verify(database);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_under_load_has_kept_every_acknowledged_charge_once() {
    let (_directory, databases) = databases().await;
    for database in databases {
        let caller = Caller::new(&database);
        let server = Server::start(&database);
        for n in 0..8 {
            caller.set_up(&server.address, &format!("customer-{n}"), "1000").await;
        }
        let load = Load::start(&caller, &server.address);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        server.kill();
        let acknowledged = load.end().await;

        let server = Server::start(&database);
        assert_kept(&caller, &server.address, &database, &acknowledged).await;
        server.terminate();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_stopped_under_load_has_kept_every_acknowledged_charge_once_and_the_server_goes_on() {
    let cluster = Cluster::start_private();
    let database = cluster.create_database().await;
    let caller = Caller::new(&database);
    let server = Server::start(&database);
    for n in 0..8 {
        caller.set_up(&server.address, &format!("customer-{n}"), "1000").await;
    }
    let load = Load::start(&caller, &server.address);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    cluster.stop_immediate();
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let acknowledged = load.end().await;

    let (status, answer) = caller.charge(&server.address, "customer-0", "after", 100).await.expect("an answer");
    assert_eq!(status, 201, "the same server goes on: {answer}");
    assert_kept(&caller, &server.address, &database, &acknowledged).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_told_to_stop_answers_what_it_accepted() {
    let (_directory, databases) = databases().await;
    for database in databases {
        let caller = Caller::new(&database);
        let server = Server::start(&database);
        for n in 0..8 {
            caller.set_up(&server.address, &format!("customer-{n}"), "1000").await;
        }
        let load = Load::start(&caller, &server.address);
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.terminate();
        let acknowledged = load.end().await;
        let server = Server::start(&database);
        assert_kept(&caller, &server.address, &database, &acknowledged).await;
        server.terminate();
    }
}
