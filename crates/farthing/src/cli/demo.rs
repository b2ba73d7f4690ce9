//! `farthing demo`: the demonstration, on a database of its own unless one is named.

use std::path::PathBuf;

use clap::Args;
use tokio::net::TcpListener;

use super::sandbox::{BuiltIn, forward};
use super::{Database, Failure, Outcome, USUAL_DATABASE};
use crate::demo::{self, Demonstration};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// End after the story, instead of serving on.
    #[arg(long)]
    once: bool,
    /// Traces of LLM requests to play (CSV: TIMESTAMP, ContextTokens, GeneratedTokens); a small one is built in.
    #[arg(long = "trace", value_name = "FILE")]
    traces: Vec<PathBuf>,
    /// Where to listen.
    #[arg(long, env = "FARTHING_LISTEN", default_value = "127.0.0.1:8787", value_name = "ADDRESS")]
    listen: String,
    #[command(flatten)]
    sandbox: BuiltIn,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    // A run that ends by itself needs no address that people know, and must not stand in another's way.
    let free = || "127.0.0.1:0".to_owned();
    let listen = if arguments.once { free() } else { arguments.listen };
    let listener = TcpListener::bind(&listen).await;
    let listener = listener.map_err(|error| Failure::Failed(format!("cannot listen on {listen}: {error}")))?;
    let at = listener.local_addr().map_err(|error| Failure::Failed(format!("no address: {error}")))?.to_string();
    let mut built_in = arguments.sandbox;
    if arguments.once && built_in.sandbox_listen != "off" {
        built_in.sandbox_listen = free();
    }
    let place = built_in.place(true).await?;
    let demonstration = Demonstration {
        database: (database.0 != USUAL_DATABASE).then(|| database.0.clone()),
        traces: arguments.traces,
        listener,
        sandbox: place.as_ref().map(|place| place.address.clone()),
        once: arguments.once,
    };
    let forwards = |secret| vec![forward(demo::TENANT, &at, demo::TENANT, secret)];
    let sandbox = match place {
        Some(place) => {
            let forwards = forwards(&place.address.webhook_secret);
            place.serve(forwards, None)?
        }
        None => None,
    };
    let told = demo::run(demonstration, &mut std::io::stdout()).await;
    if let Some(sandbox) = sandbox {
        sandbox.stop().await;
    }
    told.map(|()| Outcome::Good).map_err(|error| Failure::Failed(error.to_string()))
}
