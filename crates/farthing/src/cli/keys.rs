//! `farthing keys`: makes, lists and revokes the API keys of a tenant. A key is shown once, when it is made; only its
//! digest is kept.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome, columns, print, print_json, store_failed};
use crate::auth::{Scope, key};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Mode, Tenant};
use crate::store::KeyRow;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, and print it alone on standard output: KEY=$(farthing keys create --scope write)
    Create {
        /// What it may do: `read`, `write` or `admin`, each with all before it.
        #[arg(long, value_name = "SCOPE")]
        scope: Scope,
        /// What it is for.
        #[arg(long, default_value = "", value_name = "TEXT")]
        name: String,
        /// A tenant file, as with --tenant-file.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        tenant: TenantArguments,
    },
    /// List the keys, the oldest first
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A tenant file, as with --tenant-file.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        tenant: TenantArguments,
    },
    /// Revoke a key; running servers refuse it within five seconds
    Revoke {
        /// Its id, as `keys list` shows it.
        id: Uuid,
        /// A tenant file, as with --tenant-file.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        tenant: TenantArguments,
    },
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Create { scope, name, files, tenant } => create(database, scope, name, tenant.one_of(&files)?).await,
        Command::List { json, files, tenant } => list(database, json, &tenant.one_of(&files)?.catalog.tenant).await,
        Command::Revoke { id, files, tenant } => revoke(database, id, &tenant.one_of(&files)?.catalog.tenant).await,
    }
}

async fn create(database: &Database, scope: Scope, name: String, tenant: Tenant) -> Result<Outcome, Failure> {
    if name.chars().count() > 255 || name.chars().any(char::is_control) {
        return Err(Failure::Usage("--name takes up to 255 characters, none of them a control character".to_owned()));
    }
    let secret = key::generate(tenant.mode == Mode::Live)
        .map_err(|error| Failure::Failed(format!("the system gives no random bytes: {error}")))?;
    let digest = key::digest(secret.expose())
        .ok_or_else(|| Failure::Failed("the new key does not look like one; please report this".to_owned()))?;
    let row = KeyRow {
        id: SystemClock.new_id(),
        tenant: tenant.catalog.tenant.to_string(),
        name,
        scope: scope.to_string(),
        preview: key::preview(&secret),
        created_at: SystemClock.now(),
        revoked_at: None,
    };
    database.open().await?.add_key(&row, &digest).await.map_err(store_failed)?;
    eprintln!("key {} may {scope} for tenant {}; it is shown this once:", row.id, row.tenant);
    print(&format!("{}\n", secret.expose()))?;
    Ok(Outcome::Good)
}

/// A key as scripts read it.
#[derive(Serialize)]
struct KeyView {
    id: String,
    name: String,
    scope: String,
    preview: String,
    created_at: String,
    revoked_at: Option<String>,
}

impl From<KeyRow> for KeyView {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            scope: row.scope,
            preview: row.preview,
            created_at: row.created_at.to_string(),
            revoked_at: row.revoked_at.map(|at| at.to_string()),
        }
    }
}

async fn list(database: &Database, json: bool, tenant: &str) -> Result<Outcome, Failure> {
    let keys = database.open_existing().await?.keys(tenant).await.map_err(store_failed)?;
    let keys: Vec<KeyView> = keys.into_iter().map(KeyView::from).collect();
    if json {
        print_json(&keys)?;
    } else if keys.is_empty() {
        eprintln!("tenant {tenant} has no keys; make one with: farthing keys create --scope write");
    } else {
        let row = |key: KeyView| {
            let to_the_second = |at: String| at.split_once('.').map(|(at, _)| format!("{at}Z")).unwrap_or(at);
            let revoked = key.revoked_at.map(to_the_second).unwrap_or_default();
            vec![key.id, key.scope, key.preview, to_the_second(key.created_at), revoked, key.name]
        };
        let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
        print(&columns(&["ID", "SCOPE", "KEY", "CREATED", "REVOKED", "NAME"], 6, &rows))?;
    }
    Ok(Outcome::Good)
}

async fn revoke(database: &Database, id: Uuid, tenant: &str) -> Result<Outcome, Failure> {
    let store = database.open_existing().await?;
    if store.revoke_key(tenant, id, SystemClock.now()).await.map_err(store_failed)? {
        print(&format!("key {id} is revoked\n"))?;
        return Ok(Outcome::Good);
    }
    let known = store.keys(tenant).await.map_err(store_failed)?.into_iter().any(|key| key.id == id);
    Err(Failure::Failed(if known {
        format!("key {id} of tenant {tenant} was revoked before")
    } else {
        format!("tenant {tenant} has no key {id}; `farthing keys list` shows those it has")
    }))
}
