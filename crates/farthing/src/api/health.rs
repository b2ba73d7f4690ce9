//! Health: whether the process lives, and whether it can serve.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::app::App;
use crate::telemetry;

/// That the server is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `healthy`.
    status: &'static str,
    /// `connected`, or `not asked`.
    database: &'static str,
    /// Which database it keeps its books in.
    engine: &'static str,
    /// `farthing`.
    service: &'static str,
    /// Its version.
    version: &'static str,
    /// The time here.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

impl Health {
    fn of(app: &App, database: &'static str) -> Json<Self> {
        Json(Self {
            status: "healthy",
            database,
            engine: app.store.name(),
            service: "farthing",
            version: env!("CARGO_PKG_VERSION"),
            timestamp: app.clock.now(),
        })
    }
}

/// Ready to serve
///
/// The process lives and its database answers.
#[utoipa::path(get, path = "/health", operation_id = "get_readiness", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Health>, Problem> {
    app.store.ping().await?;
    Ok(Health::of(&app, "connected"))
}

/// Alive
///
/// The process lives; its database is not asked.
#[utoipa::path(get, path = "/health/live", operation_id = "get_liveness", tag = "health", responses((status = 200, body = Health)))]
pub(super) async fn live(State(app): State<Arc<App>>) -> Json<Health> {
    Health::of(&app, "not asked")
}

/// Metrics for Prometheus.
pub(super) async fn metrics() -> Response {
    match telemetry::metrics() {
        Some(metrics) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response(),
        None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "metrics_unavailable", "another recorder is installed")
            .into_response(),
    }
}
