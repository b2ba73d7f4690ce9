//! `helppet`: `/api/v1/stripe`, for veterinary practices whose people put a card on file in the browser and have their calls,
//! phone numbers, transcriptions and website taken from credits. A practice is a customer with the practice's id. What is used
//! comes in through the native API.

mod customer;
mod payment_method;
mod practice;
mod service;
mod transaction;
mod webhook;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use engine::Refusal;
use engine::report::Failure as ProviderFailure;
use serde_json::json;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::detail::{answer, said, unauthorized};
use super::failure::{self, Failed, Failure};
use super::spoken::Spoken;
use super::{Body, Caller, Dialect, Named, Query, Raw, Speaker, instant};
use crate::app::App;
use crate::config::dialect::HelppetSettings;

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The dialect itself.
struct Helppet;

type State = axum::extract::State<Arc<Speaker<HelppetSettings>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "HelpPetAI billing",
        description = "Credits and payment methods of a practice. Every problem is `{\"detail\": ...}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(service::Problem)),
    tags(
        (name = "customers", description = "Practices and their credits"),
        (name = "payment methods", description = "Cards on file"),
        (name = "configuration", description = "What a browser has to know, and what the provider tells")
    )
)]
struct Document;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    service::complete(routes().into_openapi())
}

pub(super) fn router(spoken: Spoken, settings: HelppetSettings) -> Router<Arc<App>> {
    let speaker = Arc::new(Speaker { spoken, settings, allow_anonymous: false });
    let unknown = async || Helppet::render(Failure::NotFound);
    let (router, _) = routes().split_for_parts();
    router
        .route("/api/v1/stripe", any(unknown))
        .route("/api/v1/stripe/{*rest}", any(unknown))
        .method_not_allowed_fallback(async || Helppet::render(Failure::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(speaker)
}

fn routes() -> OpenApiRouter<Arc<Speaker<HelppetSettings>>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(customer::create))
        .routes(routes!(customer::get))
        .routes(routes!(customer::has_payment_method))
        .routes(routes!(transaction::list))
        .routes(routes!(payment_method::setup_intent))
        .routes(routes!(payment_method::add, payment_method::list))
        .routes(routes!(payment_method::remove))
        .routes(routes!(payment_method::set_default))
        .routes(routes!(service::config))
        .routes(routes!(webhook::receive))
}

impl Dialect for Helppet {
    fn render(failure: Failure) -> Response {
        match failure {
            Failure::Identity(error) if error.is_ours() => said(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly"),
            Failure::Identity(error) => unauthorized(&error),
            Failure::Scope(_) => said(StatusCode::FORBIDDEN, "Not enough permissions"),
            Failure::Invalid(wrong) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": wrong}))).into_response()
            }
            Failure::TooLarge => said(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
            Failure::Refused(refusal) => refused(&refusal),
            Failure::Unavailable => said(StatusCode::SERVICE_UNAVAILABLE, "Billing is busy; try again shortly"),
            Failure::NoProvider => said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider not configured"),
            Failure::ProviderUnavailable => {
                said(StatusCode::BAD_GATEWAY, "The payment provider did not answer; try again shortly")
            }
            Failure::Declined(failure) => declined(&failure),
            Failure::Webhook(error) => webhook::refused(&error),
            Failure::NotFound => said(StatusCode::NOT_FOUND, "Not Found"),
            Failure::MethodNotAllowed => said(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        }
    }
}

/// What the provider refused, in words that a practice may read and none of its own.
fn declined(failure: &ProviderFailure) -> Response {
    tracing::warn!(event = "stripe_error", code = &*failure.code, decline_code = failure.decline_code.as_deref());
    let why = failure.decline_code.as_deref().unwrap_or(&failure.code);
    let (status, words) = match (&*failure.code, why) {
        ("payment_method_of_another_customer", _) => (StatusCode::NOT_FOUND, "Payment method not found"),
        ("provider_object_missing" | "resource_missing", _) => (StatusCode::BAD_REQUEST, "No such payment method"),
        (_, "insufficient_funds") => (StatusCode::PAYMENT_REQUIRED, "The card has insufficient funds"),
        ("expired_card", _) => (StatusCode::PAYMENT_REQUIRED, "The card has expired"),
        ("incorrect_cvc" | "invalid_cvc", _) => (StatusCode::PAYMENT_REQUIRED, "The card's security code is incorrect"),
        ("authentication_required" | "setup_intent_authentication_failure", _) => {
            (StatusCode::PAYMENT_REQUIRED, "The bank wants the cardholder to confirm this")
        }
        ("card_declined" | "processing_error" | "incorrect_number", _) => {
            (StatusCode::PAYMENT_REQUIRED, "The card was declined")
        }
        _ if failure.decline_code.is_some() => (StatusCode::PAYMENT_REQUIRED, "The card was declined"),
        _ => (StatusCode::BAD_REQUEST, "The payment provider refused the request"),
    };
    said(status, words)
}

/// A refusal in this product's words.
fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::UnknownCustomer => {
            said(StatusCode::BAD_REQUEST, "No Stripe customer exists for this practice; create it first")
        }
        Refusal::UnknownPaymentMethod => said(StatusCode::NOT_FOUND, "Payment method not found"),
        refusal => said(failure::status(refusal.kind()), &refusal.to_string()),
    }
}
