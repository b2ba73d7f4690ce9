//! The command line: what can be asked of the program, one file per subcommand.
//!
//! Results go to standard output, everything else to standard error. The process ends with 0 when all is well, with 1
//! when something was found to be wrong or could not be done, and with 2 when the command line asks for what there is not.

mod analytics;
mod backup;
mod bench;
mod check;
mod demo;
mod description;
mod environment;
mod events;
mod import;
mod jobs;
mod keys;
mod migrate;
mod plan;
mod reconcile;
mod sandbox;
mod serve;
mod tenants;
mod verify;

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use comfy_table::{CellAlignment, Table, presets};
use tracing_subscriber::EnvFilter;

use crate::store::{self, Store};
use crate::telemetry;

/// The database where none is named.
const USUAL_DATABASE: &str = "sqlite:farthing.db";

/// What the program was asked to do.
#[derive(Debug, Parser)]
#[command(name = "farthing", version, about = "A billing server for products that sell usage")]
pub struct Arguments {
    /// Where the books are kept: `sqlite:PATH`, or a `postgres://` URL.
    #[arg(
        long,
        global = true,
        env = "FARTHING_DATABASE",
        hide_env_values = true,
        default_value = USUAL_DATABASE,
        value_name = "ADDRESS"
    )]
    database: String,
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the tenants of these files
    Serve(serve::Arguments),
    /// Show it all on an example product: checked, charged, refused, explained; then serve on
    Demo(demo::Arguments),
    /// Serve a Stripe that runs offline
    Sandbox(sandbox::Arguments),
    /// Check tenant files, and say what they define
    Check(check::Arguments),
    /// Say what a changed tenant file would do to those who have subscribed
    Plan(plan::Arguments),
    /// Make, list and revoke API keys
    Keys(keys::Arguments),
    /// Import usage or customers from CSV or JSON lines
    Import(import::Arguments),
    /// Recount every wallet from the ledger and compare
    Verify(verify::Arguments),
    /// List what the payment provider told and could not be applied, and try it again
    Events(events::Arguments),
    /// Say what is due and what is stuck, or do what is due
    Jobs(jobs::Arguments),
    /// Compare payments with the provider's, and repair what webhooks lost
    Reconcile(reconcile::Arguments),
    /// Report revenue, usage, payments and conversion of a tenant
    Analytics(analytics::Arguments),
    /// Copy the database to a new file while it is in use (SQLite)
    Backup(backup::BackupArguments),
    /// Put a backup in the place of the database (SQLite)
    Restore(backup::RestoreArguments),
    /// Bring the database to the schema of this version
    Migrate,
    /// Measure speed and memory on this machine, in a database without customers
    Bench(bench::Arguments),
    /// The no-op server of `bench`
    #[command(hide = true)]
    BenchNoop,
}

/// How a command ended that could do its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// All is well.
    Good,
    /// It found something wrong, and has said what.
    Bad,
}

/// Why a command could not do its work: what was wrong, and what to do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The command line asks for what there is not.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Does what was asked, and says how the process is to end.
pub async fn run(arguments: Arguments) -> ExitCode {
    let database = Database(arguments.database);
    match &arguments.command {
        Command::Serve(_) | Command::Sandbox(_) | Command::BenchNoop => telemetry::start_logs(),
        _ => start_plain_logs(),
    }
    let done = match arguments.command {
        Command::Serve(arguments) => serve::run(&database, &arguments).await,
        Command::Demo(arguments) => demo::run(&database, arguments).await,
        Command::Sandbox(arguments) => sandbox::run(arguments).await,
        Command::Check(arguments) => check::run(&arguments),
        Command::Plan(arguments) => plan::run(&database, arguments).await,
        Command::Keys(arguments) => keys::run(&database, arguments).await,
        Command::Import(arguments) => import::run(&database, arguments).await,
        Command::Verify(arguments) => verify::run(&database, &arguments).await,
        Command::Events(arguments) => events::run(&database, arguments).await,
        Command::Jobs(arguments) => jobs::run(&database, arguments).await,
        Command::Reconcile(arguments) => reconcile::run(&database, arguments).await,
        Command::Analytics(arguments) => analytics::run(&database, arguments).await,
        Command::Backup(arguments) => backup::backup(&database, &arguments).await,
        Command::Restore(arguments) => backup::restore(&database, &arguments).await,
        Command::Migrate => migrate::run(&database).await,
        Command::Bench(arguments) => bench::run(&database, arguments).await,
        Command::BenchNoop => bench::serve_noop().await,
    };
    match done {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("farthing: {failure}");
            ExitCode::from(match failure {
                Failure::Failed(_) => 1,
                Failure::Usage(_) => 2,
            })
        }
    }
}

/// Logs for people, of what fails behind a command: standard error, errors alone where `FARTHING_LOG` says nothing else.
fn start_plain_logs() {
    let filter = EnvFilter::try_from_env("FARTHING_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    let logs = tracing_subscriber::fmt().compact().without_time().with_target(false);
    // A second start, as in tests, keeps the first.
    let _ = logs.with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Where the books are kept.
#[derive(Debug)]
struct Database(String);

impl Database {
    /// The file, where the address names one.
    fn file(&self) -> Option<&Path> {
        self.0.strip_prefix("sqlite:").map(Path::new)
    }

    /// The address as it may be shown: that of a server can hold a password.
    fn shown(&self) -> &str {
        self.file().map_or("the PostgreSQL database", |_| &self.0)
    }

    /// Opens the store, which is made where it is not there yet, and migrates.
    async fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        store::open(&self.0).await.map_err(|error| match error {
            store::StoreError::Address(problem) => Failure::Usage(format!("--database: {problem}")),
            error => Failure::Failed(format!("{} cannot be opened: {error}", self.shown())),
        })
    }

    /// Opens the store where it is there: an empty one made by mistake would look as if all were well.
    async fn open_existing(&self) -> Result<Arc<dyn Store>, Failure> {
        if let Some(file) = self.file().filter(|file| !file.exists()) {
            return Err(Failure::Failed(format!(
                "there is no database {}; say which with --database or FARTHING_DATABASE",
                file.display()
            )));
        }
        self.open().await
    }
}

/// A failure of the store, in the middle of a command.
fn store_failed(error: store::StoreError) -> Failure {
    Failure::Failed(format!("the database failed: {error}"))
}

/// Prints a result. Who reads only its beginning has what they wanted.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A result as indented JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Failed(format!("the result cannot be written as JSON: {error}")))?;
    print(&format!("{text}\n"))
}

/// Rows below their titles in columns; the columns from `numbers` on are set to the right.
fn columns(titles: &[&str], numbers: usize, rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !titles.is_empty() {
        table.set_header(titles);
    }
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A count with its thousands set apart.
fn grouped(number: impl TryInto<u128>) -> String {
    let digits = number.try_into().unwrap_or_default().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something whose plural ends in `s`.
fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn thousands_are_set_apart() {
        let shown = [0_u64, 999, 1_000, 17_638, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "17,638", "1,234,567"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["assistant".to_owned(), "5".to_owned()], vec!["b".to_owned(), "12.25".to_owned()]];
        assert_eq!(columns(&["TENANT", "OWED"], 1, &rows), "TENANT      OWED\nassistant      5\nb          12.25\n");
    }
}
