//! `farthing bench`: measures this machine, and says which goals are met. `docs/benchmark.md` says what each row means.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Database, Failure, Outcome, USUAL_DATABASE, columns, grouped, print, print_json};
use crate::bench::{self, BenchError, Bound, Goal, Plan, Report, Row, Workload};

/// What `--json` names standard output by.
const STANDARD_OUTPUT: &str = "-";

/// The columns of the table.
const TITLES: [&str; 8] = ["", "CONNECTIONS", "PER SECOND", "LEAST", "MOST", "P50 MS", "P99 MS", "ERRORS"];

#[derive(Debug, Args)]
pub(super) struct Arguments {
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

/// Measures in a database of its own: without one that is not the usual one, in a temporary SQLite file.
pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let plan = plan(database, &arguments);
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures say nothing: measure with cargo run --release -- bench");
    }
    // A runtime of one thread: the load generator shares the machine with what it measures.
    let measuring = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Process)?;
        runtime.block_on(bench::run(&plan, &mut |progress| eprintln!("{progress}")))
    });
    let report = measuring.await.map_err(|error| Failure::Failed(format!("the benchmark broke off: {error}")))?;
    let report = report.map_err(|error| Failure::Failed(error.to_string()))?;
    match &arguments.json {
        Some(file) if file.as_os_str() == STANDARD_OUTPUT => print_json(&report)?,
        file => {
            if let Some(file) = file {
                write_json(&report, file)?;
            }
            print(&tables(&report))?;
        }
    }
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

fn write_json(report: &Report, path: &Path) -> Result<(), Failure> {
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
