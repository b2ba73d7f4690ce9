//! The no-op server: one route that parses the body of a charge and gives a small answer, without authentication,
//! metrics or store. What it reaches on a machine is what HTTP and JSON alone leave to anything else.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

/// Its path.
pub(super) const PATH: &str = "/bench/noop";

/// A use to be charged, as the native API reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Charge<'a> {
    customer: String,
    meter: String,
    #[serde(borrow)]
    quantity: &'a RawValue,
    subject: Option<String>,
    #[serde(default)]
    dimensions: BTreeMap<String, String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    operation_key: Option<String>,
}

/// Something of everything that was read.
#[derive(Serialize)]
struct Parsed {
    customer: String,
    characters: usize,
}

async fn parse(body: Bytes) -> Response {
    match serde_json::from_slice::<Charge<'_>>(&body) {
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
        Ok(charge) => {
            let labels = charge.dimensions.iter().chain(&charge.metadata).map(|(name, text)| name.len() + text.len());
            let words = charge.subject.iter().chain(&charge.operation_key).map(String::len);
            let characters = charge.meter.len() + charge.quantity.get().len() + labels.chain(words).sum::<usize>();
            (StatusCode::CREATED, Json(Parsed { customer: charge.customer, characters })).into_response()
        }
    }
}

/// Serves the no-op on a free port of loopback until the process is ended, and logs the address as a server does.
///
/// # Errors
/// What the listener fails with.
pub async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tracing::info!(event = "serving", %address);
    axum::serve(listener, Router::new().route(PATH, post(parse))).await
}
