//! `farthing import`: usage and customers from CSV or JSON lines, through the service as everything else.
//!
//! `source` reads lines, `mapping` and `columns` say which column is what, `events` and `customers` make commands of
//! lines, and `run` takes them through in chunks, so that a run that was stopped or killed goes on where it was, and charges nothing twice.

mod columns;
mod customers;
mod events;
mod mapping;
mod run;
mod source;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use sha2::{Digest as _, Sha256};

use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Tenant;
use crate::service;
use mapping::Assignment;
use source::{Format, Source, hexadecimal};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Record usage that has happened; what no grant covers is owed
    ///
    /// A line of CSV may hold the quantities of several meters. The columns are those that --map names, else those in
    /// [import.events] of the tenant file, else those whose names in snake case are a field's, a meter's or a dimension's:
    /// ContextTokens is context_tokens. Fields for --map: customer, time, id, subject, meter, quantity, quantity:METER,
    /// dimension:NAME. A line of JSON is a CloudEvent, or has the members customer, meter, quantity, and, where wanted,
    /// time, id, subject, dimensions. A time is RFC 3339, `2023-11-16 18:17:03.98` (UTC), or unix seconds.
    ///
    /// An event without an id gets one from the number and the content of its line, so a file that is imported again, even
    /// after more lines were added to it, charges each line once. Do not take lines out of a file that was imported in part.
    Events(events::Arguments),
    /// Create customers, and give them their balances
    ///
    /// Fields for --map: id, name, email, status, balance (in the tenant's currency), balance:ASSET. JSON lines have
    /// members of these names, and `balances` for an object of assets and amounts. What is empty stays as it is. Each
    /// customer's balance is granted once, however often the file is imported.
    Customers(customers::Arguments),
}

/// The arguments of every import.
#[derive(Debug, Args)]
struct FileArguments {
    /// The file; `-` is standard input.
    file: PathBuf,
    /// How it is written, where its extension does not say.
    #[arg(long)]
    format: Option<Format>,
    /// Which column holds a field; `FIELD=` where there is none. May be repeated.
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    assignments: Vec<Assignment>,
    /// What to do at a line that cannot be imported.
    #[arg(long, default_value = "stop")]
    on_error: OnError,
    /// Read the file from its start, also where an earlier run has imported a part of it. Nothing is charged twice.
    #[arg(long)]
    from_start: bool,
    #[command(flatten)]
    tenant: TenantArguments,
}

/// What to do at a line that cannot be imported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum OnError {
    /// Stop there; all lines before it are imported, none after it.
    Stop,
    /// Report it and go on.
    Skip,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.what {
        What::Events(arguments) => events::run(database, &arguments).await,
        What::Customers(arguments) => customers::run(database, &arguments).await,
    }
}

impl FileArguments {
    fn open(&self) -> Result<Source, Failure> {
        let source = Source::open(&self.file, self.format)?;
        if source.header().is_none() && !self.assignments.is_empty() {
            return Err(Failure::Usage("--map is for CSV; the members of a JSON line have their names".to_owned()));
        }
        Ok(source)
    }
}

/// The parts of the program that an import needs, for one tenant.
async fn start(database: &Database, tenant: Tenant) -> Result<Arc<App>, Failure> {
    let store = database.open().await?;
    // Who may read over the API has nothing to do with an import, nor should its settings stop one.
    let tenant = Tenant { jwt: None, ..tenant };
    App::start(
        store,
        vec![tenant],
        std::collections::BTreeMap::new(),
        Arc::new(SystemClock),
        service::Settings::default(),
    )
    .await
    .map_err(|error| Failure::Failed(error.to_string()))
}

/// Under which name the progress of an import is noted: what is imported, how, and from which content. Another mapping of
/// the same file is another import. Nothing for standard input, whose content is not known beforehand.
fn progress_key(source: &Source, how: &[&str]) -> Option<String> {
    let content = source.digest.as_deref()?;
    let mut hash = Sha256::new();
    for part in how.iter().chain([&content]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    Some(hexadecimal(hash))
}
