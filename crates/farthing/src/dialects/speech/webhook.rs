//! The webhook: what the provider tells of payments, invoices and subscriptions. It is verified over its raw body, kept, and
//! applied before it is answered.

use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Failed, Raw, Speech, State, answer, said};
use crate::inbound::InboundError;

/// That an event was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    success: bool,
    processed: bool,
}

/// Take what the provider tells
///
/// Once for each event, however often it comes.
#[utoipa::path(post, path = "/payments/stripe-webhook", operation_id = "take_webhook", tag = "payments",
    params(("Stripe-Signature" = String, Header, description = "The provider's signature over the raw body")),
    responses((status = 200, body = Taken)))]
pub(super) async fn receive(
    FromState(speaker): State,
    headers: HeaderMap,
    Raw(body, _): Raw<Speech>,
) -> Result<Response, Failed<Speech>> {
    let (event, state) = speaker.spoken.webhook(&headers, &body).await?;
    let (id, kind) = (&*event.id, event.kind.as_str());
    let told = if event.new { "stripe_webhook_processed" } else { "stripe_webhook_already_processed" };
    tracing::info!(event = told, event_id = id, event_type = kind, state = state.as_str());
    Ok(answer(Taken { success: true, processed: true }))
}

/// Why a webhook was not taken.
pub(super) fn refused(error: &InboundError) -> Response {
    match error {
        InboundError::Webhook(error) if error.code() == "webhook_malformed" => {
            tracing::warn!(event = "stripe_webhook_invalid_payload");
            said(StatusCode::BAD_REQUEST, "Invalid payload")
        }
        InboundError::Webhook(error) => {
            tracing::warn!(event = "stripe_webhook_invalid_signature", code = error.code());
            said(StatusCode::BAD_REQUEST, "Invalid signature")
        }
        InboundError::UnknownConnection | InboundError::NoWebhooks => {
            said(StatusCode::SERVICE_UNAVAILABLE, "there is no payment provider")
        }
        InboundError::NotApplied | InboundError::Store(_) => {
            tracing::error!(event = "stripe_webhook_processing_failed", %error);
            said(StatusCode::SERVICE_UNAVAILABLE, "Webhook processing failed")
        }
    }
}
