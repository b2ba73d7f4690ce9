//! Inbound: what providers tell. A webhook is verified over its raw body, kept as it came, and answered at once; it is
//! applied afterwards, by a job, as often as it takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;
use tokio::time::Instant;

use crate::app::App;
use crate::provider::{Provider, WebhookError};
use crate::store::{EventRow, EventState, StoreError};

/// The largest webhook that is taken, in bytes.
const LARGEST: usize = 1024 * 1024;

/// How often whoever waits for an event looks.
const LOOK: Duration = Duration::from_millis(25);

/// The providers by the names of their connections, each with its tenant.
#[derive(Clone, Debug)]
pub struct Inbound {
    app: Arc<App>,
    connections: Arc<BTreeMap<String, Connected>>,
}

/// A tenant and its provider.
type Connected = (Arc<str>, Arc<dyn Provider>);

/// A webhook that was taken: the event in it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The provider's id of the event.
    pub id: Arc<str>,
    /// The provider's name for its kind.
    pub kind: String,
    /// Whether it was not known before.
    pub new: bool,
}

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// There is no such connection.
    #[error("there is no connection with this name")]
    UnknownConnection,
    /// The provider has no webhooks.
    #[error("the provider of this connection sends no webhooks")]
    NoWebhooks,
    /// It is not believed.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// It is kept, and could not be applied yet.
    #[error("the event is kept, and could not be applied yet")]
    NotApplied,
    /// It could not be kept.
    #[error("the event could not be kept; send it again")]
    Store(StoreError),
}

impl Inbound {
    /// What comes in for these providers, by tenant.
    #[must_use]
    pub fn new(app: Arc<App>, providers: &BTreeMap<Arc<str>, Arc<dyn Provider>>) -> Self {
        let named = |(tenant, provider): (&Arc<str>, &Arc<dyn Provider>)| {
            let connection = app.tenants.get(tenant)?.connection.as_ref()?;
            Some((connection.name.clone(), (tenant.clone(), provider.clone())))
        };
        let connections = providers.iter().filter_map(named).collect();
        Self { app, connections: Arc::new(connections) }
    }

    /// The webhook of every connection.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new()
            .route("/v1/connections/{name}/webhook", post(webhook))
            .layer(DefaultBodyLimit::max(LARGEST))
            .with_state(self)
    }

    /// Verifies and keeps what came in for a connection. When this returns, it is durable.
    ///
    /// # Errors
    /// As `InboundError` says; nothing is kept then.
    pub async fn receive(&self, connection: &str, headers: &HeaderMap, body: &[u8]) -> Result<Received, InboundError> {
        let (tenant, provider) = self.connections.get(connection).ok_or(InboundError::UnknownConnection)?;
        let webhooks = provider.webhooks().ok_or(InboundError::NoWebhooks)?;
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        // By the provider's name, so that what one of them tells can be picked out of the log.
        let of_provider = |what: &str| format!("{}_webhook_{what}", provider.name());
        let event = webhooks.verify(&headers, body, self.app.clock.wall()).inspect_err(|error| {
            tracing::warn!(event = of_provider("verification_failed"), tenant = &**tenant, code = error.code());
        })?;
        let row = EventRow {
            tenant: tenant.clone(),
            id: event.id,
            kind: event.kind.to_string(),
            body: std::str::from_utf8(body).map_err(|_| WebhookError::Malformed)?.to_owned(),
            state: EventState::Due,
            attempts: 0,
            error: None,
            received_at: self.app.now(tenant),
        };
        let new = self.app.store.keep_event(&row).await.map_err(InboundError::Store)?;
        tracing::info!(event = of_provider("received"), tenant = &**tenant, id = &*row.id, kind = row.kind, new);
        self.app.inbox.notify_one();
        Ok(Received { tenant: tenant.clone(), id: row.id, kind: row.kind, new })
    }

    /// Waits until an event has been applied, at most so long; how it stands then. Where it could not be applied yet, it is
    /// tried again in any case, whether or not the provider sends it again.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn applied(&self, event: &Received, most: Duration) -> Result<EventState, StoreError> {
        let deadline = Instant::now() + most;
        // How often it had been tried when it came in: an attempt that has not worked by then says nothing about the next.
        let mut before = event.new.then_some(0);
        loop {
            let Some(row) = self.app.store.event(&event.tenant, &event.id).await? else {
                return Ok(EventState::Ignored);
            };
            let before = *before.get_or_insert(row.attempts);
            let failed_since = row.error.is_some() && row.attempts > before;
            if row.state != EventState::Due || failed_since || Instant::now() >= deadline {
                return Ok(row.state);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn webhook(
    State(inbound): State<Inbound>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (status, code, error) = match inbound.receive(&name, &headers, &body).await {
        Ok(_) => return axum::Json(json!({"received": true})).into_response(),
        Err(error @ InboundError::UnknownConnection) => (StatusCode::NOT_FOUND, "unknown_connection", error),
        Err(error @ InboundError::NoWebhooks) => (StatusCode::NOT_FOUND, "no_webhooks", error),
        Err(InboundError::Webhook(error)) => (StatusCode::BAD_REQUEST, error.code(), error.into()),
        Err(error @ InboundError::NotApplied) => (StatusCode::SERVICE_UNAVAILABLE, "event_not_applied", error),
        Err(InboundError::Store(cause)) => {
            tracing::error!(event = "store_failed", error = %cause);
            (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", InboundError::Store(cause))
        }
    };
    let problem = json!({
        "type": format!("urn:farthing:problem:{code}"), "title": status.canonical_reason(), "status": status.as_u16(),
        "code": code, "detail": error.to_string(),
    });
    let mut response = (status, axum::Json(problem)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
