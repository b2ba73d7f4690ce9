//! The webhook: what the provider tells of payment methods, payments and subscriptions. It is verified over its raw body, kept,
//! and applied before it is answered.

use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Failed, Helppet, Raw, State, answer, said};
use crate::inbound::InboundError;

/// That an event was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    success: bool,
    event_id: String,
}

/// Take what the provider tells
#[utoipa::path(post, path = "/api/v1/stripe/webhook", operation_id = "take_webhook", tag = "configuration",
    params(("Stripe-Signature" = String, Header, description = "The provider's signature over the raw body")),
    responses((status = 200, body = Taken)))]
pub(super) async fn receive(
    FromState(speaker): State,
    headers: HeaderMap,
    Raw(body, _): Raw<Helppet>,
) -> Result<Response, Failed<Helppet>> {
    let (event, state) = speaker.spoken.webhook(&headers, &body).await?;
    let (id, kind) = (&*event.id, event.kind.as_str());
    tracing::info!(event = "stripe_webhook_received", event_id = id, event_type = kind, state = state.as_str());
    Ok(answer(Taken { success: true, event_id: id.to_owned() }))
}

/// Why a webhook was not taken.
pub(super) fn refused(error: &InboundError) -> Response {
    match error {
        InboundError::Webhook(error) => {
            tracing::warn!(event = "stripe_webhook_verification_failed", code = error.code());
            said(StatusCode::BAD_REQUEST, "Invalid webhook signature")
        }
        InboundError::UnknownConnection | InboundError::NoWebhooks => {
            said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider not configured")
        }
        InboundError::NotApplied | InboundError::Store(_) => {
            tracing::error!(event = "stripe_webhook_processing_failed", %error);
            said(StatusCode::SERVICE_UNAVAILABLE, "Webhook processing failed")
        }
    }
}
