//! `orgvoice`: `/api/billing`, for organisations that subscribe to a plan and are invoiced for the words that their voice
//! agents hear and speak. An organisation is a customer with the organisation's id. What is used comes in through the native
//! API.

mod customer;
mod dashboard;
mod invoice;
mod organisation;
mod plan;
mod platform;
mod service;
mod subscription;
mod usage;
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
use super::{Body, Caller, Dialect, Query, Raw, Speaker, instant};
use crate::app::App;
use crate::config::dialect::OrgvoiceSettings;

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The dialect itself.
struct Orgvoice;

type State = axum::extract::State<Arc<Speaker<OrgvoiceSettings>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Organisation voice billing",
        description = "Plans of organisations, and invoices of the words they use. Every problem is `{\"detail\": ...}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(service::Problem)),
    tags((name = "billing", description = "Customers, subscriptions, invoices and dashboards"))
)]
struct Document;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    service::complete(routes().into_openapi())
}

pub(super) fn router(spoken: Spoken, settings: OrgvoiceSettings) -> Router<Arc<App>> {
    let speaker = Arc::new(Speaker { spoken, settings, allow_anonymous: false });
    let unknown = async || Orgvoice::render(Failure::NotFound);
    let (router, _) = routes().split_for_parts();
    router
        .route("/api/billing", any(unknown))
        .route("/api/billing/{*rest}", any(unknown))
        .method_not_allowed_fallback(async || Orgvoice::render(Failure::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(speaker)
}

fn routes() -> OpenApiRouter<Arc<Speaker<OrgvoiceSettings>>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(customer::create, customer::get))
        .routes(routes!(subscription::create, subscription::get))
        .routes(routes!(subscription::start))
        .routes(routes!(plan::list))
        .routes(routes!(dashboard::get))
        .routes(routes!(invoice::list))
        .routes(routes!(invoice::generate))
        .routes(routes!(webhook::receive))
}

impl Dialect for Orgvoice {
    fn render(failure: Failure) -> Response {
        match failure {
            Failure::Identity(error) if error.is_ours() => said(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly"),
            Failure::Identity(error) => unauthorized(&error),
            Failure::Scope(_) => said(StatusCode::FORBIDDEN, "This is for the users of an organisation"),
            Failure::Invalid(wrong) => {
                let told = json!({"detail": "Validation error", "errors": wrong});
                (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response()
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

/// What the provider refused, in words that an organisation may read and none of its own.
fn declined(failure: &ProviderFailure) -> Response {
    tracing::warn!(event = "stripe_error", code = &*failure.code, decline_code = failure.decline_code.as_deref());
    let is_card = failure.decline_code.is_some()
        || matches!(&*failure.code, "card_declined" | "expired_card" | "incorrect_cvc" | "authentication_required");
    if is_card {
        said(StatusCode::PAYMENT_REQUIRED, "The card was declined")
    } else {
        said(StatusCode::BAD_REQUEST, "The payment provider refused the request")
    }
}

/// A refusal in this product's words.
fn refused(refusal: &Refusal) -> Response {
    match refusal {
        Refusal::UnknownCustomer => said(StatusCode::NOT_FOUND, NO_CUSTOMER),
        Refusal::AlreadySubscribed => said(StatusCode::BAD_REQUEST, "The organization already has a subscription"),
        refusal => said(failure::status(refusal.kind()), &refusal.to_string()),
    }
}

/// What is said where an organisation's billing is not set up.
const NO_CUSTOMER: &str = "No billing customer found";
