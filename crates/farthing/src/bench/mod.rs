//! The benchmark: one run measures farthing, the limit of HTTP on this machine and the usual way of charging side by
//! side, in rounds, so that their ratios mean something on a machine whose absolute figures do not.
//!
//! The servers are processes of their own (`process`); the load (`load`, `client`, `requests`) runs on one thread of this
//! one, through the real API with a real API key. It writes made-up customers, so it refuses a database that has any.

mod client;
mod invoices;
mod load;
mod noop;
mod process;
mod report;
mod requests;
mod usual_way;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use invoices::{InvoicePlan, InvoiceReport, InvoiceRow, run_invoices};
pub use noop::serve as serve_noop;
pub use report::{Bound, Goal, Measured, Memory, Report, Row};
pub use workload::Workload;

use crate::auth::{Scope, key};
use crate::clock::{Clock as _, SystemClock};
use crate::store::{self, KeyRow, Page, Store, StoreError};
use client::Client;
use load::{Tally, Window};
use process::Server;
use requests::{HttpCall, Requests, Sequence};
use usual_way::UsualWay;

/// The tenant that is billed, and its file.
const TENANT: &str = "assistant";
const TENANT_FILE: &str = include_str!("../../../../examples/assistant.toml");

/// At how many connections batches are sent.
const BATCH_CONNECTIONS: usize = 16;

/// At how many connections the goals are set.
const GOAL_CONNECTIONS: usize = 64;

/// How many charges `million` asks for.
const MILLION: u64 = 1_000_000;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The database has customers.
    #[error(
        "the database has customers already, and a benchmark writes made-up ones beside them: give it an empty database \
         of its own with --database, or none, and it takes a temporary SQLite file"
    )]
    NotEmpty,
    /// The store failed.
    #[error("the database failed: {0}")]
    Store(#[from] StoreError),
    /// The statements of the usual way failed.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    /// A file or a process of the run failed.
    #[error("the benchmark's own files or processes failed: {0}")]
    Process(std::io::Error),
    /// A server ended before the run did.
    #[error("a server under load ended: {0}")]
    Ended(String),
    /// The made-up customers could not be made.
    #[error("a customer could not be made: {0}")]
    Customer(String),
    /// The result is not what it has to be.
    #[error("{0}")]
    Wrong(String),
    /// What cannot be.
    #[error("{0}; please report this")]
    Internal(String),
}

/// What is to be measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The database: its address, as for the server. A temporary SQLite file where absent.
    pub database: Option<String>,
    /// How long each cell is measured.
    pub measured: Duration,
    /// How often each cell is measured; medians are reported.
    pub rounds: u32,
    /// At how many connections charges and checks are measured.
    pub connections: Vec<usize>,
    /// What is measured; everything where empty.
    pub workloads: Vec<Workload>,
    /// Whether to go on until a million charges are in the books before memory is read.
    pub million: bool,
}

impl Plan {
    /// At how many connections the goals are judged: 64, or else the most there are.
    fn goal_connections(&self) -> usize {
        let most = self.connections.iter().copied().max().unwrap_or(GOAL_CONNECTIONS);
        if self.connections.contains(&GOAL_CONNECTIONS) { GOAL_CONNECTIONS } else { most }
    }

    /// The groups of cells of a round, in their order; the systems that are compared stand next to each other.
    fn groups(&self) -> Vec<(usize, Vec<Workload>)> {
        use Workload::{Batches, Charges, ChargesOneCustomer, Checks, ChecksOneCustomer, Holds, NoOp};
        use Workload::{UsualWay, UsualWayOneCustomer};
        let compared = [NoOp, Charges, UsualWay, ChargesOneCustomer, UsualWayOneCustomer, Checks, ChecksOneCustomer];
        let mut groups: Vec<_> = self.connections.iter().map(|connections| (*connections, compared.to_vec())).collect();
        groups.push((BATCH_CONNECTIONS, vec![Batches]));
        groups.push((self.goal_connections(), vec![Holds]));
        for (_, workloads) in &mut groups {
            workloads.retain(|workload| self.workloads.is_empty() || self.workloads.contains(workload));
        }
        groups.retain(|(_, workloads)| !workloads.is_empty());
        groups
    }
}

/// Measures. `progress` is told what has been measured as it goes.
///
/// It is meant for a runtime of one thread, which is then the load generator.
///
/// # Errors
/// As `BenchError` says. Requests that were not answered as they should be are no error; the report counts them.
pub async fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<Report, BenchError> {
    let directory = Directory::create().map_err(BenchError::Process)?;
    let tenant_file = directory.0.join("assistant.toml");
    std::fs::write(&tenant_file, TENANT_FILE).map_err(BenchError::Process)?;
    let file = directory.0.join("farthing.db");
    let address = plan.database.clone().unwrap_or_else(|| format!("sqlite:{}", file.display()));
    let (database, api_key) = make_key(&address).await?;
    let mut bench = Bench {
        server: Server::start(
            &["serve", "--listen", "127.0.0.1:0", "--sandbox-listen", "off"],
            &[("FARTHING_DATABASE", &address), ("FARTHING_TENANT_FILES", &tenant_file.display().to_string())],
        )
        .await?,
        no_op: Server::start(&["bench-noop"], &[]).await?,
        usual_way: None,
        requests: Arc::new(Requests::prepare(api_key.expose())),
        sequence: Sequence::default(),
        rows: BTreeMap::new(),
        charges: 0,
        errors: 0,
        first_errors: Vec::new(),
    };
    bench.create_customers().await?;
    progress(&format!("{database}: {} customers are made", requests::CUSTOMERS));
    if database == "PostgreSQL" {
        let mut usual_way = UsualWay::prepare(&address).await?;
        if !usual_way.checkpoint().await {
            progress("this role may not CHECKPOINT: latencies may hold what earlier cells left behind");
        }
        bench.usual_way = Some(usual_way);
    }
    bench.rounds(plan, progress).await?;
    if plan.million {
        bench.charge_a_million(plan, progress).await?;
    }
    let settings = match &mut bench.usual_way {
        Some(usual_way) => usual_way.settings().await?,
        None => BTreeMap::new(),
    };
    Ok(bench.report(plan, database, settings))
}

/// A directory for the files of a run, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("farthing-bench-{}", SystemClock.new_id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens a database that has no customers.
async fn open_empty(address: &str) -> Result<Arc<dyn Store>, BenchError> {
    let store = store::open(address).await?;
    if store.all_customers(Page { after: None, limit: 1 }).await?.is_empty() {
        Ok(store)
    } else {
        Err(BenchError::NotEmpty)
    }
}

/// Makes an API key in a database that has no customers, and says which database it is.
async fn make_key(address: &str) -> Result<(&'static str, key::Secret), BenchError> {
    let store = open_empty(address).await?;
    let no_random = |error| BenchError::Internal(format!("the system gives no random bytes: {error}"));
    let secret = key::generate(false).map_err(no_random)?;
    let digest = key::digest(secret.expose()).ok_or_else(|| BenchError::Internal("a new key is none".to_owned()))?;
    let row = KeyRow {
        id: SystemClock.new_id(),
        tenant: TENANT.to_owned(),
        name: "benchmark".to_owned(),
        scope: Scope::Write.to_string(),
        preview: key::preview(&secret),
        created_at: SystemClock.now(),
        revoked_at: None,
    };
    store.add_key(&row, &digest).await?;
    Ok((store.name(), secret))
}

/// A run under way.
struct Bench {
    server: Server,
    no_op: Server,
    /// On PostgreSQL.
    usual_way: Option<UsualWay>,
    requests: Arc<Requests>,
    sequence: Sequence,
    rows: BTreeMap<(Workload, usize), Cell>,
    /// How many charges are in farthing's books.
    charges: u64,
    /// How many requests were not answered as they should be.
    errors: u64,
    /// What was wrong with the first of them in each cell.
    first_errors: Vec<String>,
}

/// What is known of one kind of request at one number of connections.
enum Cell {
    /// One tally for each round.
    Measured(Vec<Tally>),
    /// Why not.
    NotMeasured(String),
}

impl Bench {
    async fn create_customers(&self) -> Result<(), BenchError> {
        let mut tasks = Vec::new();
        for first in 0..BATCH_CONNECTIONS {
            let (requests, mut client) = (self.requests.clone(), Client::new(self.server.address));
            tasks.push(tokio::spawn(async move {
                for index in (first..requests::CUSTOMERS).step_by(BATCH_CONNECTIONS) {
                    requests.create_customer(&mut client, index).await?;
                }
                Ok(())
            }));
        }
        for task in tasks {
            let made: Result<(), String> = task.await.map_err(|error| BenchError::Internal(error.to_string()))?;
            made.map_err(BenchError::Customer)?;
        }
        Ok(())
    }

    /// The rounds, after one that only warms up.
    async fn rounds(&mut self, plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        for round in 0..=plan.rounds {
            for (connections, workloads) in plan.groups() {
                let warms_up = round == 0;
                if warms_up && connections != plan.goal_connections() && connections != BATCH_CONNECTIONS {
                    continue;
                }
                if let Some(usual_way) = &mut self.usual_way {
                    usual_way.checkpoint().await;
                }
                for workload in workloads {
                    self.cell(plan, round, workload, connections, progress).await?;
                }
            }
        }
        Ok(())
    }

    async fn cell(
        &mut self,
        plan: &Plan,
        round: u32,
        workload: Workload,
        connections: usize,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), BenchError> {
        if let Some(reason) = self.cannot_measure(workload, connections) {
            self.rows.insert((workload, connections), Cell::NotMeasured(reason));
            return Ok(());
        }
        let tally = self.load(workload, connections, plan.measured).await?;
        let name = if round == 0 { "warm-up".to_owned() } else { format!("round {round} of {}", plan.rounds) };
        progress(&format!("{name}: {}, {connections} connections: {} a second", workload.title(), tally.per_second()));
        match self.rows.entry((workload, connections)).or_insert_with(|| Cell::Measured(Vec::new())) {
            Cell::Measured(tallies) if round > 0 => tallies.push(tally),
            _ => {}
        }
        Ok(())
    }

    fn cannot_measure(&self, workload: Workload, connections: usize) -> Option<String> {
        if !workload.is_usual_way() {
            return None;
        }
        match &self.usual_way {
            None => Some("needs PostgreSQL".to_owned()),
            Some(usual_way) if usual_way.connections < connections => {
                let needed = connections - usual_way.connections;
                Some(format!("needs max_connections raised by {needed}"))
            }
            Some(_) => None,
        }
    }

    /// Asks for as long as a cell is measured, on this many connections.
    async fn load(&mut self, workload: Workload, connections: usize, measured: Duration) -> Result<Tally, BenchError> {
        let window = Window { warm_up: measured / 10, measured };
        let tally = match &self.usual_way {
            Some(usual_way) if workload.is_usual_way() => {
                let mut callers = Vec::with_capacity(connections);
                for _ in 0..connections {
                    callers.push(usual_way.connect(&self.sequence, workload.is_of_one_customer()).await?);
                }
                load::run(callers, window).await?
            }
            _ => {
                let server = if workload == Workload::NoOp { &self.no_op } else { &self.server };
                let caller = || HttpCall::new(Client::new(server.address), &self.requests, &self.sequence, workload);
                load::run(std::iter::repeat_with(caller).take(connections).collect(), window).await?
            }
        };
        self.server.still_runs()?;
        self.no_op.still_runs()?;
        if workload.charges() {
            self.charges += tally.all_units;
        }
        self.errors += tally.errors;
        if let Some(error) = &tally.first_error {
            self.first_errors.push(format!("{}, {connections} connections: {error}", workload.title()));
        }
        Ok(tally)
    }

    async fn charge_a_million(&mut self, plan: &Plan, progress: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        while self.charges < MILLION {
            let tally = self.load(Workload::Charges, plan.goal_connections(), Duration::from_secs(5)).await?;
            progress(&format!("{} charges in the books", self.charges));
            // Where charges fail they would fail for ever.
            if tally.errors > 0 {
                break;
            }
        }
        Ok(())
    }
}
