//! The demonstration: an AI product on prepaid credit, with no set-up at all.
//!
//! It serves the example tenant on a database of its own, plays a stretch of LLM requests against it over HTTP (as a
//! product's server would: check, then charge), tells what happened with figures, and recounts the books.

mod client;
mod purchase;
mod trace;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use engine::Micros;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::app::App;
use crate::auth::{self, Scope};
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::connection::{Connected, SandboxAddress, connect};
use crate::server;
use crate::service::Settings;
use crate::store::{self, KeyRow, Store};
use crate::{telemetry, verify};
use client::Client;
use trace::LlmRequest;

/// The tenant that it is about.
pub const TENANT: &str = "assistant";

const TENANT_FILE: &str = include_str!("../../../../examples/assistant.toml");

/// The customers of the example product, and the credit that each buys, in hundredths of an equal share of the cost of the
/// whole stretch: some have plenty, some run out.
const CUSTOMERS: [(&str, i64); 6] =
    [("acme", 300), ("northwind", 150), ("globex", 110), ("initech", 80), ("hooli", 40), ("umbrella", 15)];

/// How the demonstration is run.
#[derive(Debug)]
pub struct Demonstration {
    /// Where the books are kept; a file of its own in the temporary directory where nothing is said.
    pub database: Option<String>,
    /// Traces of requests to play; a small one is built in.
    pub traces: Vec<PathBuf>,
    /// Where it serves.
    pub listener: TcpListener,
    /// The sandbox that takes the payment provider's place.
    pub sandbox: Option<SandboxAddress>,
    /// Whether it ends after the story.
    pub once: bool,
}

/// Why the demonstration could not go on, in words for whoever runs it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DemonstrationError(String);

impl DemonstrationError {
    fn new(what: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// What became of one customer's requests.
#[derive(Default)]
struct Tally {
    served: u64,
    refused: u64,
    spent: Micros,
    dearest: Option<(Micros, String)>,
}

/// Runs the story, and serves on until told to stop, unless it is to be run once.
///
/// # Errors
/// What could not be done; and a difference that the recount found.
pub async fn run(demonstration: Demonstration, out: &mut (impl Write + Send)) -> Result<(), DemonstrationError> {
    let (database, own) = match &demonstration.database {
        Some(address) => (address.clone(), None),
        None => {
            let directory = std::env::temp_dir().join(format!("farthing-demo-{}", std::process::id()));
            std::fs::create_dir_all(&directory)
                .map_err(|error| DemonstrationError::new("no temporary directory", error))?;
            (format!("sqlite:{}", directory.join("demo.db").display()), Some(directory))
        }
    };
    let told = tell(demonstration, &database, out).await;
    if let Some(directory) = own {
        // Left behind, it would only take room: the next run has another.
        let _ = std::fs::remove_dir_all(directory);
    }
    told
}

async fn tell(
    demonstration: Demonstration,
    database: &str,
    out: &mut (impl Write + Send),
) -> Result<(), DemonstrationError> {
    let requests = trace::read(&demonstration.traces)?;
    let store =
        store::open(database).await.map_err(|error| DemonstrationError::new("the database does not open", error))?;
    let listener = demonstration.listener;
    let address = listener.local_addr().map_err(|error| DemonstrationError::new("no address", error))?;
    let sandbox = demonstration.sandbox;
    let (app, connected, key) = start(store.clone(), sandbox.as_ref()).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(app, connected.providers, listener, async move {
        let _ = stopped.await;
    }));
    let client = Client::new(&format!("http://{address}"), &key)?;

    story(&client, store.name(), requests, out).await?;
    if let Some(sandbox) = &sandbox {
        purchase::buy(&client, &sandbox.url, CUSTOMERS[CUSTOMERS.len() - 1].0, out).await?;
    }
    let sound = recount(&*store, out).await?;
    if !demonstration.once {
        invitation(&address.to_string(), &key, out)?;
        server::told_to_stop().await;
    }
    let _ = stop.send(());
    let _ = serving.await;
    if sound { Ok(()) } else { Err(DemonstrationError("the recount found a difference".to_owned())) }
}

async fn start(
    store: Arc<dyn Store>,
    sandbox: Option<&SandboxAddress>,
) -> Result<(Arc<App>, Connected, String), DemonstrationError> {
    let tenant = config::parse(TENANT_FILE, "examples/assistant.toml", &|_| None)
        .map_err(|errors| DemonstrationError(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let name = tenant.catalog.tenant.to_string();
    let clock = Arc::new(SystemClock);
    let secret = auth::key::generate(false).map_err(|error| DemonstrationError::new("no random numbers", error))?;
    let digest = auth::key::digest(secret.expose()).ok_or_else(|| DemonstrationError("no key".to_owned()))?;
    let row = KeyRow {
        id: clock.new_id(),
        tenant: name,
        name: "demo".to_owned(),
        scope: Scope::Admin.to_string(),
        preview: auth::key::preview(&secret),
        created_at: clock.now(),
        revoked_at: None,
    };
    store.add_key(&row, &digest).await.map_err(|error| DemonstrationError::new("the key could not be kept", error))?;
    telemetry::metrics();
    let tenants = vec![tenant];
    let connected = connect(&tenants, sandbox).map_err(|error| DemonstrationError::new("no connection", error))?;
    let app = App::start(store, tenants, connected.connections.clone(), clock, Settings::default()).await;
    let app = app.map_err(|error| DemonstrationError::new("cannot start", error))?;
    Ok((app, connected, secret.expose().to_owned()))
}

async fn story(
    client: &Client,
    database: &str,
    requests: Vec<LlmRequest>,
    out: &mut (impl Write + Send),
) -> Result<(), DemonstrationError> {
    let cost: i64 = requests.iter().map(LlmRequest::cost_micros).sum();
    say(
        out,
        &format!(
            "An AI assistant sells its answers by the token: 3 dollars per million tokens read, 15 per million written.\n\
         {} customers buy credit; {} requests come in. The books are on {database}.\n",
            CUSTOMERS.len(),
            requests.len()
        ),
    )?;
    let share = cost / i64::try_from(CUSTOMERS.len()).unwrap_or(1);
    let credits: Vec<Micros> = CUSTOMERS.iter().map(|(_, percent)| whole_cents(share / 100 * percent)).collect();
    for ((customer, _), credit) in CUSTOMERS.iter().zip(&credits) {
        client.put(&format!("/v1/customers/{customer}"), &json!({"profile": {"name": customer}})).await?;
        let grant = json!({"amount": credit.to_string(), "kind": "paid", "reason": "first purchase"});
        client.post(&format!("/v1/customers/{customer}/grants"), &grant).await?;
    }
    free_uses(client, out).await?;

    let total = requests.len();
    let mut parts: BTreeMap<usize, Vec<LlmRequest>> = BTreeMap::new();
    for (index, request) in requests.into_iter().enumerate() {
        // Spread unevenly enough to look like life, the same in every run.
        parts.entry((index * 7 + index / 13) % CUSTOMERS.len()).or_default().push(request);
    }
    let began = Instant::now();
    let plays = parts.into_iter().map(|(which, requests)| play(client, CUSTOMERS[which].0, requests));
    let tallies = try_join_all(plays).await?;
    let took = began.elapsed();

    say(out, "customer       credit   served  refused        spent         left")?;
    for (((customer, _), credit), tally) in CUSTOMERS.iter().zip(&credits).zip(&tallies) {
        let wallet = client.get(&format!("/v1/customers/{customer}/wallet")).await?;
        let left = wallet.pointer("/balances/USD/available").and_then(Value::as_str).unwrap_or("?").to_owned();
        let (served, refused, spent) = (tally.served, tally.refused, dollars(tally.spent));
        let credit = dollars(*credit);
        say(out, &format!("{customer:<12} {credit:>8} {served:>8} {refused:>8} {spent:>12} {:>12}", padded(&left)))?;
    }
    let spent = Micros::sum(tallies.iter().map(|tally| tally.spent)).unwrap_or_default();
    let refused: u64 = tallies.iter().map(|tally| tally.refused).sum();
    say(
        out,
        &format!(
            "\n{total} requests in {} ms: {} dollars charged to the micro-dollar, {refused} refused for want of credit (402).",
            took.as_millis(),
            dollars(spent)
        ),
    )?;
    let dearest = tallies.iter().filter_map(|tally| tally.dearest.as_ref()).max();
    match dearest {
        Some((_, charge)) => explain(client, charge, out).await,
        None => Ok(()),
    }
}

/// Every customer may try three times for free; the fourth has nothing left to cover it.
async fn free_uses(client: &Client, out: &mut (impl Write + Send)) -> Result<(), DemonstrationError> {
    let customer = CUSTOMERS[0].0;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (status, answer) = client
            .send("POST", "/v1/charges", Some(&json!({"customer": customer, "meter": "use", "quantity": 1})))
            .await?;
        let code = answer.get("code").and_then(Value::as_str);
        answers.push(code.map_or_else(|| status.to_string(), |code| format!("{status} {code}")));
    }
    say(out, &format!("{customer} tries its three free uses, and a fourth: {}.\n", answers.join(", ")))
}

/// One customer's requests, in their order: asked for before they are served, charged for both counts or for none.
async fn play(client: &Client, customer: &str, requests: Vec<LlmRequest>) -> Result<Tally, DemonstrationError> {
    let mut tally = Tally::default();
    for request in requests {
        let check = json!({"customer": customer, "meter": "context_tokens", "quantity": request.context_tokens});
        let allowed = client.post("/v1/check", &check).await?.get("allowed") == Some(&Value::Bool(true));
        if !allowed {
            tally.refused += 1;
            continue;
        }
        let part = |meter: &str, quantity: u32| json!({"customer": customer, "meter": meter, "quantity": quantity});
        let charges =
            [part("context_tokens", request.context_tokens), part("generated_tokens", request.generated_tokens)];
        let (status, answer) =
            client.send("POST", "/v1/charges/batch", Some(&json!({"charges": charges, "atomic": true}))).await?;
        if status == 402 {
            tally.refused += 1;
            continue;
        }
        tally.served += 1;
        for charge in answer.get("results").and_then(Value::as_array).into_iter().flatten() {
            let amount = charge.get("amount").and_then(Value::as_str).and_then(|text| text.parse().ok());
            let (Some(amount), Some(id)) = (amount, charge.get("id").and_then(Value::as_str)) else {
                return Err(DemonstrationError(format!("an answer without an amount: {answer}")));
            };
            tally.spent = tally.spent.plus(amount).map_err(|error| DemonstrationError::new("sum", error))?;
            let dearest = tally.dearest.take();
            tally.dearest = dearest.max(Some((amount, id.to_owned())));
        }
    }
    Ok(tally)
}

async fn explain(client: &Client, charge: &str, out: &mut (impl Write + Send)) -> Result<(), DemonstrationError> {
    let explanation = client.get(&format!("/v1/charges/{charge}/explain")).await?;
    say(out, "\nWhy was the dearest one charged?")?;
    for line in explanation.get("story").and_then(Value::as_array).into_iter().flatten() {
        say(out, &format!("  {}", line.as_str().unwrap_or_default()))?;
    }
    say(out, "")
}

async fn recount(store: &dyn Store, out: &mut (impl Write + Send)) -> Result<bool, DemonstrationError> {
    let mut differences = Vec::new();
    let report = verify::recount(store, &mut |difference| differences.push(difference)).await;
    let report = report.map_err(|error| DemonstrationError::new("the recount failed", error))?;
    let (customers, found) = (report.customers, report.differences);
    say(out, &format!("Every wallet recounted from its ledger entries: {customers} customers, {found} differences."))?;
    for difference in &differences {
        say(out, &format!("  {difference}"))?;
    }
    Ok(found == 0)
}

fn invitation(address: &str, key: &str, out: &mut (impl Write + Send)) -> Result<(), DemonstrationError> {
    say(
        out,
        &format!(
            "\nServing on http://{address} (Ctrl-C ends it); browse http://{address}/docs. Try:\n\n\
         export KEY={key}\n\
         curl -s {address}/v1/customers/acme/wallet -H \"Authorization: Bearer $KEY\"\n\
         curl -s {address}/v1/check -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n     \
         -d '{{\"customer\": \"umbrella\", \"meter\": \"context_tokens\", \"quantity\": 1000000}}'\n\
         curl -s {address}/v1/charges -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n     \
         -d '{{\"customer\": \"acme\", \"meter\": \"generated_tokens\", \"quantity\": 250}}'\n\n\
         Buy credit for hooli on a page of the sandbox: open the `page` that this answers with, and pay with 4242 4242 4242 4242.\n\
         curl -s {address}/v1/customers/hooli/purchases -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n     \
         -d '{{\"pack\": \"starter\", \"collect\": {{\"by\": \"page\", \"success_url\": \"http://{address}/docs\", \"cancel_url\": \"http://{address}/docs\"}}}}'"
        ),
    )
}

fn say(out: &mut impl Write, text: &str) -> Result<(), DemonstrationError> {
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| DemonstrationError::new("output", error))
}

fn whole_cents(micros: i64) -> Micros {
    Micros::new((micros / 10_000).max(1) * 10_000)
}

/// An amount with at least two digits after the point.
fn dollars(amount: Micros) -> String {
    padded(&amount.to_string())
}

fn padded(text: &str) -> String {
    match text.split_once('.') {
        None => format!("{text}.00"),
        Some((_, fraction)) if fraction.len() < 2 => format!("{text}0"),
        Some(_) => text.to_owned(),
    }
}
