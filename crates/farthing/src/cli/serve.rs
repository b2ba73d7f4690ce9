//! `farthing serve`: the server, until it is told to stop. Its log goes to standard error as JSON, from the first line on.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;

use super::{Database, Failure, Outcome, tenants};
use crate::app::App;
use crate::clock::SystemClock;
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
}

pub(super) async fn run(database: &Database, arguments: &Arguments) -> Result<Outcome, Failure> {
    let tenants = tenants::load(&arguments.files).map_err(|errors| Failure::Failed(tenants::in_lines(&errors)))?;
    let tenants = tenants.into_iter().map(|(_, tenant)| tenant).collect();
    let store = database.open().await?;
    telemetry::metrics();
    let settings = service::Settings { lanes: usize::from(arguments.lanes), ..service::Settings::default() };
    let app = App::start(store, tenants, Arc::new(SystemClock), settings).await;
    let app = app.map_err(|error| Failure::Failed(error.to_string()))?;
    let cannot_listen = |error| Failure::Failed(format!("cannot listen on {}: {error}", arguments.listen));
    let listener = TcpListener::bind(&arguments.listen).await.map_err(cannot_listen)?;
    server::serve(app, listener, server::told_to_stop())
        .await
        .map_err(|error| Failure::Failed(format!("the server failed: {error}")))?;
    Ok(Outcome::Good)
}
