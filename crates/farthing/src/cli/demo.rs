//! `farthing demo`: the demonstration, on a database of its own unless one is named.

use std::path::PathBuf;

use clap::Args;

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
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let demonstration = Demonstration {
        database: (database.0 != USUAL_DATABASE).then(|| database.0.clone()),
        traces: arguments.traces,
        // A run that ends by itself needs no address that people know, and must not stand in another's way.
        listen: if arguments.once { "127.0.0.1:0".to_owned() } else { arguments.listen },
        once: arguments.once,
    };
    let told = demo::run(demonstration, &mut std::io::stdout()).await;
    told.map(|()| Outcome::Good).map_err(|error| Failure::Failed(error.to_string()))
}
