//! `farthing events`: what the provider told, those events above all that could not be applied, and trying them again.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome, columns, counted, print, print_json, store_failed};
use crate::clock::{Clock as _, SystemClock};
use crate::store::{EventRow, EventState, Page, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List events, the newest first: those that were given up, unless another state is asked for
    List {
        /// Only events in this state; `all` for every one.
        #[arg(long, value_enum, default_value = "dead")]
        state: Listed,
        /// How many at the most.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        limit: u16,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A tenant file, as with --tenant-file.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        tenant: TenantArguments,
    },
    /// Apply events again, as if they had just come in; a running server does it at once
    Replay {
        /// The provider's ids of them.
        #[arg(required_unless_present = "dead", value_name = "EVENT")]
        ids: Vec<String>,
        /// All that were given up.
        #[arg(long, conflicts_with = "ids")]
        dead: bool,
        #[command(flatten)]
        tenant: TenantArguments,
    },
}

/// Which events are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Listed {
    All,
    Due,
    Applied,
    Ignored,
    Dead,
}

impl Listed {
    fn state(self) -> Option<EventState> {
        match self {
            Self::All => None,
            Self::Due => Some(EventState::Due),
            Self::Applied => Some(EventState::Applied),
            Self::Ignored => Some(EventState::Ignored),
            Self::Dead => Some(EventState::Dead),
        }
    }
}

/// An event as scripts read it.
#[derive(Serialize)]
struct View {
    id: String,
    kind: String,
    state: EventState,
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    received_at: String,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let store = database.open_existing().await?;
    match arguments.command {
        Command::List { state, limit, json, files, tenant } => {
            let name = tenant.one_of(&files)?.catalog.tenant;
            let page = Page { after: None, limit: i64::from(limit) };
            let events = store.events(&name, state.state(), page).await.map_err(store_failed)?;
            list(events, json)
        }
        Command::Replay { ids, dead, tenant } => {
            let name = tenant.one()?.catalog.tenant;
            let ids = if dead { all_dead(&*store, &name).await? } else { ids };
            replay(&*store, &name, &ids).await
        }
    }
}

fn list(events: Vec<EventRow>, json: bool) -> Result<Outcome, Failure> {
    let views: Vec<View> = events
        .into_iter()
        .map(|event| View {
            id: event.id.to_string(),
            kind: event.kind,
            state: event.state,
            attempts: event.attempts,
            error: event.error,
            received_at: event.received_at.to_string(),
        })
        .collect();
    if json {
        print_json(&views)?;
        return Ok(Outcome::Good);
    }
    if views.is_empty() {
        print("no such events\n")?;
        return Ok(Outcome::Good);
    }
    let row = |view: &View| {
        let error = view.error.clone().unwrap_or_default();
        let state = view.state.as_str().to_owned();
        vec![view.id.clone(), view.kind.clone(), state, view.received_at.clone(), view.attempts.to_string(), error]
    };
    let titles = ["EVENT", "KIND", "STATE", "RECEIVED", "ATTEMPTS", "ERROR"];
    print(&columns(&titles, titles.len(), &views.iter().map(row).collect::<Vec<_>>()))?;
    Ok(Outcome::Good)
}

async fn all_dead(store: &dyn Store, tenant: &str) -> Result<Vec<String>, Failure> {
    const PAGE: i64 = 500;
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = Page { after, limit: PAGE };
        let events = store.events(tenant, Some(EventState::Dead), page).await.map_err(store_failed)?;
        let Some(last) = events.last() else { return Ok(ids) };
        after = Some((last.received_at, last.id.to_string()));
        ids.extend(events.iter().map(|event| event.id.to_string()));
    }
}

async fn replay(store: &dyn Store, tenant: &str, ids: &[String]) -> Result<Outcome, Failure> {
    let now = SystemClock.now();
    let mut unknown = 0;
    for id in ids {
        if !store.replay_event(tenant, id, now).await.map_err(store_failed)? {
            eprintln!("there is no event {id}");
            unknown += 1;
        }
    }
    let replayed = u64::try_from(ids.len() - unknown).unwrap_or_default();
    print(&format!("{} to be applied again\n", counted(replayed, "event")))?;
    Ok(if unknown == 0 { Outcome::Good } else { Outcome::Bad })
}
