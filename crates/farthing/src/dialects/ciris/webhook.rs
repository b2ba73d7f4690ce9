//! The webhook: what the provider tells. It is verified over its raw body, kept, and applied before it is answered.

use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Ciris, Failed, Raw, State, answer, said};
use crate::inbound::InboundError;
use crate::store::EventState;

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// `success`, `acknowledged` (a payment that did not work), or `ignored`.
    status: &'static str,
    event_id: String,
}

/// Take what the provider tells
#[utoipa::path(post, path = "/v1/billing/webhooks/stripe", operation_id = "take_webhook", tag = "billing",
    params(("Stripe-Signature" = String, Header, description = "The provider's signature over the raw body")),
    responses((status = 200, body = Taken)))]
pub(super) async fn receive(
    FromState(speaker): State,
    headers: HeaderMap,
    Raw(body, _): Raw<Ciris>,
) -> Result<Response, Failed<Ciris>> {
    let (event, state) = speaker.spoken.webhook(&headers, &body).await?;
    let id = &*event.id;
    let status = match (event.kind.as_str(), state) {
        (_, EventState::Ignored | EventState::Dead) => "ignored",
        ("payment_intent.payment_failed", _) => "acknowledged",
        (_, EventState::Applied | EventState::Due) => "success",
    };
    tracing::info!(event = "stripe_webhook_processed", id, status);
    Ok(answer(StatusCode::OK, Taken { status, event_id: id.to_owned() }))
}

/// Why a webhook was not taken.
pub(super) fn refused(error: &InboundError) -> Response {
    match error {
        InboundError::Webhook(_) => said(StatusCode::UNAUTHORIZED, "Invalid webhook signature"),
        InboundError::UnknownConnection | InboundError::NoWebhooks => {
            said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider not configured")
        }
        InboundError::NotApplied | InboundError::Store(_) => {
            tracing::error!(event = "stripe_webhook_processing_failed", %error);
            said(StatusCode::SERVICE_UNAVAILABLE, "Webhook processing failed")
        }
    }
}
