//! The webhook: what the provider tells of payments, subscriptions and invoices. It is verified over its raw body, kept, and
//! applied before it is answered.

use axum::Json;
use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Failed, Parentpilot, Raw, State};
use crate::inbound::InboundError;

/// What there is nothing to verify with, or nothing to be verified.
const NOT_SIGNED: [&str; 2] = ["webhook_secret_missing", "webhook_signature_missing"];

const MISSING: &str = "Missing signature or webhook secret";

/// That an event was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Received {
    received: bool,
}

/// Take what the provider tells
#[utoipa::path(post, path = "/api/payments/webhook", operation_id = "take_webhook", tag = "payments",
    params(("Stripe-Signature" = String, Header, description = "The provider's signature over the raw body")),
    responses((status = 200, body = Received)))]
pub(super) async fn receive(
    FromState(speaker): State,
    headers: HeaderMap,
    Raw(body, _): Raw<Parentpilot>,
) -> Result<Response, Failed<Parentpilot>> {
    let (event, state) = speaker.spoken.webhook(&headers, &body).await?;
    let (id, kind) = (&*event.id, event.kind.as_str());
    tracing::info!(event = "stripe_webhook_received", event_id = id, event_type = kind, state = state.as_str());
    Ok(Json(Received { received: true }).into_response())
}

/// Why a webhook was not taken.
pub(super) fn refused(error: &InboundError) -> Response {
    let (status, words) = match error {
        InboundError::Webhook(error) if NOT_SIGNED.contains(&error.code()) => (StatusCode::BAD_REQUEST, MISSING),
        InboundError::UnknownConnection | InboundError::NoWebhooks => (StatusCode::BAD_REQUEST, MISSING),
        InboundError::Webhook(error) => {
            tracing::warn!(event = "stripe_webhook_verification_failed", code = error.code());
            (StatusCode::BAD_REQUEST, "Invalid signature")
        }
        InboundError::NotApplied | InboundError::Store(_) => {
            tracing::error!(event = "stripe_webhook_processing_failed", %error);
            (StatusCode::SERVICE_UNAVAILABLE, "Webhook handler failed")
        }
    };
    (status, Json(json!({"error": words}))).into_response()
}
