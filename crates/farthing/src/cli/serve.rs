//! `farthing serve`: the server, until it is told to stop. Its log goes to standard error as JSON, from the first line on.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;

use super::sandbox::{BuiltIn, Place, Served, forward};
use super::{Database, Failure, Outcome, tenants};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Tenant;
use crate::connection::{Connected, connect};
use crate::{server, service, telemetry};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The tenant files; without any, ./farthing.toml, or else a built-in example.
    #[arg(env = "FARTHING_TENANT_FILES", value_delimiter = ',', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to listen: an address with a port; port 0 takes a free one, which the log names.
    #[arg(long, env = "FARTHING_LISTEN", default_value = "127.0.0.1:8787", value_name = "ADDRESS")]
    listen: String,
    /// How many batches of commands may be under way at once. On SQLite one is best; on PostgreSQL more may help.
    #[arg(long, env = "FARTHING_LANES", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    #[command(flatten)]
    sandbox: BuiltIn,
    /// Keep the built-in sandbox in this file; beside the SQLite database, or ./farthing.sandbox, where absent.
    #[arg(long, env = "FARTHING_SANDBOX_FILE", value_name = "FILE")]
    sandbox_file: Option<PathBuf>,
}

pub(super) async fn run(database: &Database, arguments: &Arguments) -> Result<Outcome, Failure> {
    let tenants = tenants::load(&arguments.files).map_err(|errors| Failure::Failed(tenants::in_lines(&errors)))?;
    let tenants: Vec<Tenant> = tenants.into_iter().map(|(_, tenant)| tenant).collect();
    let place = arguments.sandbox.place(false).await?;
    let connected = connect(&tenants, place.as_ref().map(|place| &place.address));
    let connected = connected.map_err(|error| Failure::Failed(error.to_string()))?;
    let store = database.open().await?;
    telemetry::metrics();
    let settings = service::Settings { lanes: usize::from(arguments.lanes), ..service::Settings::default() };
    let app = App::start(store, tenants, connected.connections.clone(), Arc::new(SystemClock), settings).await;
    let app = app.map_err(|error| Failure::Failed(error.to_string()))?;
    let cannot_listen = |error| Failure::Failed(format!("cannot listen on {}: {error}", arguments.listen));
    let listener = TcpListener::bind(&arguments.listen).await.map_err(cannot_listen)?;
    let at = listener.local_addr().map_err(cannot_listen)?.to_string();
    let sandbox = serve_sandbox(place, &connected, &at, sandbox_file(database, arguments))?;
    let served = server::serve(app, connected.providers, listener, server::told_to_stop()).await;
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    served.map_err(|error| Failure::Failed(format!("the server failed: {error}")))?;
    Ok(Outcome::Good)
}

/// Serves the sandbox, where a tenant needs it.
fn serve_sandbox(
    place: Option<Place>,
    connected: &Connected,
    farthing: &str,
    file: PathBuf,
) -> Result<Option<Served>, Failure> {
    let Some(place) = place.filter(|_| !connected.in_sandbox.is_empty()) else { return Ok(None) };
    let worlds = connected.in_sandbox.iter();
    let forwards = worlds.map(|(tenant, connection, secret)| forward(tenant, farthing, connection, secret)).collect();
    place.serve(forwards, Some(file))
}

/// The books outlive the process, so the sandbox has to know of what they say as well.
fn sandbox_file(database: &Database, arguments: &Arguments) -> PathBuf {
    let beside = || database.file().map(|file| file.with_extension("sandbox"));
    arguments.sandbox_file.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("farthing.sandbox"))
}
