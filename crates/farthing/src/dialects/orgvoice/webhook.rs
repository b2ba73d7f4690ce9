//! The webhook: what the provider tells of subscriptions, invoices and payments. It is verified over its raw body, kept, and
//! applied before it is answered.

use axum::Json;
use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Failed, Orgvoice, Raw, State, answer};
use crate::inbound::InboundError;

/// Whether an event was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// `success` or `error`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// Why it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

/// Take what the provider tells
#[utoipa::path(post, path = "/api/billing/webhook", operation_id = "take_webhook", tag = "billing",
    params(("Stripe-Signature" = String, Header, description = "The provider's signature over the raw body")),
    responses((status = 200, body = Taken), (status = 400, body = Taken, description = "The signature is not right"),
        (status = 503, body = Taken, description = "It could not be applied yet; send it again")))]
pub(super) async fn receive(
    FromState(speaker): State,
    headers: HeaderMap,
    Raw(body, _): Raw<Orgvoice>,
) -> Result<Response, Failed<Orgvoice>> {
    let (event, state) = speaker.spoken.webhook(&headers, &body).await?;
    let (id, kind) = (&*event.id, event.kind.as_str());
    tracing::info!(event = "stripe_webhook_received", event_id = id, event_type = kind, state = state.as_str());
    Ok(answer(Taken {
        status: "success",
        event_id: Some(id.to_owned()),
        event_type: Some(kind.to_owned()),
        detail: None,
    }))
}

/// Why a webhook was not taken.
pub(super) fn refused(error: &InboundError) -> Response {
    let (status, detail) = match error {
        InboundError::Webhook(error) => {
            tracing::warn!(event = "stripe_webhook_verification_failed", code = error.code());
            (StatusCode::BAD_REQUEST, "Invalid webhook signature")
        }
        InboundError::UnknownConnection | InboundError::NoWebhooks => {
            (StatusCode::SERVICE_UNAVAILABLE, "Payment provider not configured")
        }
        InboundError::NotApplied | InboundError::Store(_) => {
            tracing::error!(event = "stripe_webhook_processing_failed", %error);
            (StatusCode::SERVICE_UNAVAILABLE, "Webhook processing failed")
        }
    };
    let told = Taken { status: "error", event_id: None, event_type: None, detail: Some(detail) };
    (status, Json(told)).into_response()
}
