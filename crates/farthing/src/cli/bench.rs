//! `farthing bench`: measures this machine, and says which goals are met. `docs/benchmark.md` says what each row means.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Database, Failure, Outcome, USUAL_DATABASE, columns, counted, grouped, print, print_json};
use crate::bench::{
    self, BenchError, Bound, Goal, InvoicePlan, InvoiceReport, InvoiceRow, Plan, Report, Row, Workload,
};

/// What `--json` names standard output by.
const STANDARD_OUTPUT: &str = "-";

/// The columns of the table.
const TITLES: [&str; 8] = ["", "CONNECTIONS", "PER SECOND", "LEAST", "MOST", "P50 MS", "P99 MS", "ERRORS"];

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// How many seconds each cell is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600), value_name = "SECONDS")]
    seconds: u64,
    /// How often each cell is measured; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "ROUNDS")]
    rounds: u32,
    /// At how many connections charges and checks are measured.
    #[arg(
        long,
        default_values_t = [1, 16, 64, 256],
        value_delimiter = ',',
        value_parser = clap::value_parser!(u16).range(1..=10_000),
        value_name = "CONNECTIONS"
    )]
    connections: Vec<u16>,
    /// Measure only this; everything where absent. Goals that take more are not judged.
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    only: Vec<Workload>,
    /// Go on until a million charges are in the books, before the memory of the server is read.
    #[arg(long)]
    million: bool,
    /// See that everything can be measured, in seconds; the figures say little.
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "connections"])]
    quick: bool,
    /// Write the result to this file as JSON; `-` prints it instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum Other {
    /// Close the month of made-up customers, and say what each takes
    Invoices(InvoiceArguments),
}

#[derive(Debug, Args)]
struct InvoiceArguments {
    /// For how many customers; what each takes among the most is compared with what it takes among the fewest.
    #[arg(
        long,
        default_values_t = [1_000, 100_000],
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=10_000_000),
        value_name = "CUSTOMERS"
    )]
    customers: Vec<u32>,
    /// Have the invoices collected from cards, so that payments and what is to be done at the provider are written too.
    #[arg(long)]
    collect: bool,
    /// How many batches may be under way at once.
    #[arg(long, env = "FARTHING_LANES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// Write the result to this file as JSON; `-` prints it instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures the invoice run.
async fn run_invoices(database: &Database, arguments: &InvoiceArguments) -> Result<Outcome, Failure> {
    let plan = InvoicePlan {
        database: (database.0 != USUAL_DATABASE).then(|| database.0.clone()),
        customers: arguments.customers.iter().filter_map(|customers| usize::try_from(*customers).ok()).collect(),
        collect: arguments.collect,
        lanes: usize::from(arguments.lanes),
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos} of {len}, {per_sec}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut tell = |what: &str, done: u64, total: u64| {
        if bar.message() != what {
            bar.reset();
            bar.set_message(what.to_owned());
        }
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = bench::run_invoices(&plan, &mut tell).await;
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::Failed(error.to_string()))?;
    show(&report, arguments.json.as_deref(), || invoice_tables(&report))?;
    Ok(Outcome::Good)
}

fn invoice_tables(report: &InvoiceReport) -> String {
    let kilobytes = |row: &InvoiceRow| row.peak_kilobytes.map_or_else(|| "-".to_owned(), grouped);
    let row = |row: &InvoiceRow| {
        vec![
            grouped(row.customers),
            grouped(row.charges),
            grouped(row.milliseconds),
            grouped(row.per_second),
            grouped(row.microseconds_each),
            kilobytes(row),
        ]
    };
    let titles = ["CUSTOMERS", "CHARGES", "MS", "CUSTOMERS A SECOND", "MICROSECONDS EACH", "PEAK KB"];
    let mut text = columns(&titles, 0, &report.rows.iter().map(row).collect::<Vec<_>>());
    let goals: Vec<Vec<String>> = report.goals.iter().map(goal).collect();
    text.push('\n');
    text.push_str(&columns(&["GOALS", "FIGURE", "GOAL", ""], 1, &goals));
    text.push_str(&format!(
        "\nfarthing {} ({} build) on {}, {} processors, {}{}; every customer has one invoice\n",
        report.version,
        report.build,
        report.database,
        report.processors,
        counted(u64::try_from(report.lanes).unwrap_or_default(), "lane"),
        if report.collect { ", collected from cards" } else { "" },
    ));
    text
}

/// Shows a result as a table, or as JSON on standard output, and writes it to a file where one is named.
fn show(report: &impl Serialize, json: Option<&Path>, table: impl FnOnce() -> String) -> Result<(), Failure> {
    match json {
        Some(file) if file.as_os_str() == STANDARD_OUTPUT => print_json(report),
        file => {
            if let Some(file) = file {
                write_json(report, file)?;
            }
            print(&table())
        }
    }
}

/// Measures in a database of its own: without one that is not the usual one, in a temporary SQLite file.
pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures say nothing: measure with cargo run --release -- bench");
    }
    if let Some(Other::Invoices(arguments)) = &arguments.other {
        return run_invoices(database, arguments).await;
    }
    let plan = plan(database, &arguments);
    // A runtime of one thread: the load generator shares the machine with what it measures.
    let measuring = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Process)?;
        runtime.block_on(bench::run(&plan, &mut |progress| eprintln!("{progress}")))
    });
    let report = measuring.await.map_err(|error| Failure::Failed(format!("the benchmark broke off: {error}")))?;
    let report = report.map_err(|error| Failure::Failed(error.to_string()))?;
    show(&report, arguments.json.as_deref(), || tables(&report))?;
    Ok(if report.errors == 0 { Outcome::Good } else { Outcome::Bad })
}

/// Serves the no-op that HTTP's own limit is measured by.
pub(super) async fn serve_noop() -> Result<Outcome, Failure> {
    bench::serve_noop().await.map_err(|error| Failure::Failed(format!("the no-op server failed: {error}")))?;
    Ok(Outcome::Good)
}

fn plan(database: &Database, arguments: &Arguments) -> Plan {
    let quick = arguments.quick;
    let connections = if quick { &[1, 16] } else { arguments.connections.as_slice() };
    Plan {
        database: (database.0 != USUAL_DATABASE).then(|| database.0.clone()),
        measured: if quick { Duration::from_millis(300) } else { Duration::from_secs(arguments.seconds) },
        rounds: if quick { 1 } else { arguments.rounds },
        connections: connections.iter().copied().map(usize::from).collect(),
        workloads: arguments.only.clone(),
        million: arguments.million,
    }
}

fn write_json(report: &impl Serialize, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("{} cannot be written: {error}", path.display()));
    let mut file = File::create(path).map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, report).map_err(|error| failed(error.into()))?;
    file.write_all(b"\n").map_err(failed)
}

/// The report for people.
fn tables(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.rows.iter().map(figures).collect();
    let mut text = columns(&TITLES, 1, &rows);
    let at = format!("GOALS AT {} CONNECTIONS", report.goal_connections);
    let goals: Vec<Vec<String>> = report.goals.iter().map(goal).collect();
    text.push('\n');
    text.push_str(&columns(&[&at, "FIGURE", "GOAL", ""], 1, &goals));
    text.push('\n');
    text.push_str(&remarks(report));
    text
}

fn figures(row: &Row) -> Vec<String> {
    let mut cells = vec![row.title.to_owned(), row.connections.to_string()];
    if let Some(measured) = &row.measured {
        cells.extend([
            grouped(measured.per_second),
            grouped(measured.per_second_least),
            grouped(measured.per_second_most),
            milliseconds(measured.p50_microseconds),
            milliseconds(measured.p99_microseconds),
            grouped(measured.errors),
        ]);
    } else {
        cells.resize(TITLES.len(), "-".to_owned());
    }
    cells
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03}", microseconds / 1_000, microseconds % 1_000)
}

fn goal(goal: &Goal) -> Vec<String> {
    let bound = match goal.bound {
        Bound::AtLeast(least) => format!("at least {least}"),
        Bound::Below(limit) => format!("below {limit}"),
    };
    let figure = goal.figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    let met = match goal.met {
        Some(true) => "met",
        Some(false) => "not met",
        None => "not measured",
    };
    vec![goal.name.to_owned(), figure, bound, met.to_owned()]
}

fn remarks(report: &Report) -> String {
    let mut remarks = vec![format!(
        "farthing {} ({} build) on {}, {} processors; {} customers; {} rounds of {} s",
        report.version,
        report.build,
        report.database,
        report.processors,
        grouped(report.customers),
        report.rounds,
        milliseconds(report.milliseconds),
    )];
    if let Some(memory) = report.memory {
        remarks.push(format!(
            "memory of the server after {} charges: {} kB, at its most {} kB",
            grouped(report.charges),
            grouped(memory.resident_kilobytes),
            grouped(memory.peak_kilobytes),
        ));
    }
    if !report.settings.is_empty() {
        let settings: Vec<String> = report.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        remarks.push(format!("{}: {}", report.database, settings.join(", ")));
    }
    remarks.extend(report.rows.iter().filter_map(|row| {
        let reason = row.not_measured.as_ref()?;
        Some(format!("{} at {} connections: not measured, {reason}", row.title, row.connections))
    }));
    if let Some(spread) = report.no_op_spread_percent.filter(|spread| *spread > 15) {
        remarks.push(format!("the no-op differed by {spread} % between rounds: the machine was busy, measure again"));
    }
    if report.errors > 0 {
        remarks.push(format!("{} requests were not answered as they should be:", grouped(report.errors)));
        remarks.extend(report.first_errors.iter().map(|error| format!("  {error}")));
    }
    remarks.push(String::new());
    remarks.join("\n")
}
