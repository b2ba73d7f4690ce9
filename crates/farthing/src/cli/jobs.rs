//! `farthing jobs`: what is due, what is stuck, and doing what is due in the foreground.

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use super::sandbox::BuiltIn;
use super::{Database, Failure, Outcome, columns, counted, grouped, print, print_json, store_failed, tenants};
use crate::app::App;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Tenant;
use crate::connection::connect;
use crate::jobs::{Done, Jobs, Passed};
use crate::service::Settings;
use crate::store::{Store, Work};

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Look again every two seconds, and say how fast it goes, until Ctrl-C.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Do what is due now, and end. May be stopped at any time and run again, also beside servers
    Run(RunArguments),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Only of this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only what was due by this time, such as 2026-04-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The tenant files; without any, ./farthing.toml, or else a built-in example.
    #[arg(env = "FARTHING_TENANT_FILES", value_delimiter = ',', value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sandbox: BuiltIn,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let store = database.open_existing().await?;
    match arguments.command {
        Some(Command::Run(arguments)) => do_due(store, arguments).await,
        None if arguments.watch => watch(&*store).await,
        None => {
            let work = store.work(SystemClock.now()).await.map_err(store_failed)?;
            if arguments.json {
                print_json(&work.iter().map(View::of).collect::<Vec<_>>())?
            } else {
                print(&table(&work))?
            }
            Ok(Outcome::Good)
        }
    }
}

/// A kind of work of a tenant as scripts read it.
#[derive(Serialize)]
struct View<'a> {
    tenant: &'a str,
    of: &'a str,
    kind: &'a str,
    due: i64,
    oldest: Option<String>,
    later: i64,
    next: Option<String>,
    tried: i64,
    given_up: i64,
}

impl<'a> View<'a> {
    fn of(work: &'a Work) -> Self {
        Self {
            tenant: &work.tenant,
            of: &work.of,
            kind: &work.kind,
            due: work.due,
            oldest: work.oldest.map(|at| at.to_string()),
            later: work.later,
            next: work.next.map(|at| at.to_string()),
            tried: work.tried,
            given_up: work.given_up,
        }
    }
}

fn table(work: &[Work]) -> String {
    if work.is_empty() {
        return "nothing is due, now or later\n".to_owned();
    }
    let time = |at: Option<Timestamp>| at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let row = |work: &Work| {
        let names = [work.tenant.clone(), work.of.clone(), work.kind.clone(), time(work.oldest), time(work.next)];
        let counts = [work.due, work.later, work.tried, work.given_up].map(grouped);
        names.into_iter().chain(counts).collect::<Vec<_>>()
    };
    let titles = ["TENANT", "OF", "KIND", "DUE SINCE", "NEXT", "DUE", "LATER", "TRIED BEFORE", "GIVEN UP"];
    columns(&titles, 5, &work.iter().map(row).collect::<Vec<_>>())
}

async fn watch(store: &dyn Store) -> Result<Outcome, Failure> {
    let mut before: Option<i64> = None;
    loop {
        let work = store.work(SystemClock.now()).await.map_err(store_failed)?;
        let due: i64 = work.iter().map(|work| work.due).sum();
        let seconds = i64::try_from(LOOK.as_secs()).unwrap_or(1);
        let change = before.map(|before| (before - due) / seconds).filter(|rate| *rate > 0);
        let rate = change.map(|rate| format!(", {} a second less", grouped(rate))).unwrap_or_default();
        // Home, and everything below away: as a page that is written anew.
        let clear = if stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        print(&format!("{clear}{}{} due now{rate}\n", table(&work), grouped(due)))?;
        before = Some(due);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(Outcome::Good),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn do_due(store: Arc<dyn Store>, arguments: RunArguments) -> Result<Outcome, Failure> {
    let tenants = pick(&arguments)?;
    let names: Vec<Arc<str>> = tenants.iter().map(|tenant| tenant.catalog.tenant.clone()).collect();
    let connected = connect(&tenants, arguments.sandbox.elsewhere().as_ref());
    let connected = connected.map_err(|error| Failure::Failed(error.to_string()))?;
    let app = App::start(store, tenants, connected.connections, Arc::new(SystemClock), Settings::default()).await;
    let app = app.map_err(|error| Failure::Failed(error.to_string()))?;
    let now = SystemClock.now();
    let work = app.store.work(arguments.until.map_or(now, |until| until.min(now))).await.map_err(store_failed)?;
    let ours = work.iter().filter(|work| names.iter().any(|name| **name == *work.tenant));
    let total = u64::try_from(ours.map(|work| work.due).sum::<i64>()).unwrap_or_default();
    let bar = bar(total);
    let jobs = Jobs::new(app.clone(), connected.providers);
    let mut done = Done::default();
    let mut tell = |done: &Done| {
        // What was done led to more.
        bar.set_length(total.max(done.all()));
        bar.set_position(done.all());
    };
    let interrupted = tokio::select! {
        ended = jobs.do_due(arguments.until, &mut done, &mut tell) => {
            ended.map_err(|error| Failure::Failed(format!("{error}; run the same command again to go on")))?;
            false
        }
        _ = tokio::signal::ctrl_c() => true,
    };
    bar.finish_and_clear();
    app.service.stop().await;
    if arguments.json {
        print_json(&RunView::of(&done, interrupted))?
    } else {
        print(&summary(&done))?
    }
    if interrupted {
        eprintln!(
            "stopped; what is under way at a provider is taken up again within two minutes, everything else at once"
        );
    }
    Ok(if interrupted || done.stuck() > 0 { Outcome::Bad } else { Outcome::Good })
}

/// The tenants of these files, or the one that is asked for.
fn pick(arguments: &RunArguments) -> Result<Vec<Tenant>, Failure> {
    let loaded = tenants::load(&arguments.files).map_err(|errors| Failure::Failed(tenants::in_lines(&errors)))?;
    let all: Vec<Tenant> = loaded.into_iter().map(|(_, tenant)| tenant).collect();
    let Some(name) = &arguments.tenant else { return Ok(all) };
    let names = all.iter().map(|tenant| tenant.catalog.tenant.to_string()).collect::<Vec<_>>().join(", ");
    let one: Vec<Tenant> = all.into_iter().filter(|tenant| *tenant.catalog.tenant == **name).collect();
    if one.is_empty() {
        return Err(Failure::Usage(format!("--tenant names none of the tenants there are: {names}")));
    }
    Ok(one)
}

fn bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len}, {per_sec}, {eta} left");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What a run came to, as scripts read it.
#[derive(Serialize)]
struct RunView {
    customers: u64,
    effects: u64,
    events: u64,
    stuck: std::collections::BTreeMap<&'static str, u64>,
    interrupted: bool,
}

impl RunView {
    fn of(done: &Done, interrupted: bool) -> Self {
        Self {
            customers: done.customers.went_on,
            effects: done.effects.went_on,
            events: done.events.went_on,
            stuck: Passed::reasons([&done.customers, &done.effects, &done.events]),
            interrupted,
        }
    }
}

fn summary(done: &Done) -> String {
    let mut text = format!(
        "{}, {} and {} went on\n",
        counted(done.customers.went_on, "customer"),
        counted(done.effects.went_on, "effect"),
        counted(done.events.went_on, "provider event")
    );
    for (of, part) in [("customers", &done.customers), ("effects", &done.effects), ("provider events", &done.events)] {
        for (code, many) in &part.stuck {
            text.push_str(&format!("stuck: {} {of}, {code}\n", grouped(*many)));
        }
    }
    text
}
