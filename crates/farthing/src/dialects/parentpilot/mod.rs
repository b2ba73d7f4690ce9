//! `parentpilot`: `/api/payments`, for a product whose users run tasks on agents within the limit of a month, pay when it is
//! reached, and subscribe to plans. Its server names the user in `user-id`. What is used comes in through the native API.

mod analytics;
mod billing;
mod customer;
mod payment;
mod service;
mod subscription;
mod user;
mod webhook;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use engine::report::Failure as ProviderFailure;
use engine::{Micros, Refusal, Rounding};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Number, json};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::failure::{self, Failed, Failure};
use super::fields::{self, Read};
use super::spoken::Spoken;
use super::{Caller, Dialect, Named, Query, Raw, Speaker};
use crate::app::App;
use crate::config::dialect::ParentpilotSettings;
use crate::identity::IdentityError;

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The dialect itself.
struct Parentpilot;

type State = axum::extract::State<Arc<Speaker<ParentpilotSettings>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ParentPilot payments",
        description = "Plans with a monthly limit, payments for usage, and what tasks cost. Every problem is `{\"success\": false, \"error\": ...}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(service::Problem)),
    tags(
        (name = "customers", description = "Users at the payment provider"),
        (name = "payments", description = "Payments for usage, and what the provider tells"),
        (name = "subscriptions", description = "Plans that are paid by the month"),
        (name = "billing", description = "Plans, limits and costs")
    )
)]
struct Document;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    service::complete(routes().into_openapi())
}

pub(super) fn router(spoken: Spoken, settings: ParentpilotSettings) -> Router<Arc<App>> {
    let allow_anonymous = settings.trust_user_id;
    let speaker = Arc::new(Speaker { spoken, settings, allow_anonymous });
    let unknown = async || Parentpilot::render(Failure::NotFound);
    let (router, _) = routes().split_for_parts();
    router
        .route("/api/payments", any(unknown))
        .route("/api/payments/{*rest}", any(unknown))
        .method_not_allowed_fallback(async || Parentpilot::render(Failure::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(speaker)
}

fn routes() -> OpenApiRouter<Arc<Speaker<ParentpilotSettings>>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(customer::create))
        .routes(routes!(payment::create))
        .routes(routes!(subscription::create))
        .routes(routes!(subscription::update, subscription::cancel))
        .routes(routes!(billing::get))
        .routes(routes!(payment::history))
        .routes(routes!(analytics::get))
        .routes(routes!(billing::plans))
        .routes(routes!(subscription::upgrade))
        .routes(routes!(billing::check))
        .routes(routes!(webhook::receive))
}

/// A JSON body; none at all is an empty one, as the product's own programs read it.
struct Asked<T>(T);

impl<T: Read, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Failed<Parentpilot>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed<Parentpilot>> {
        let Raw(bytes, _) = Raw::<Parentpilot>::from_request(request, state).await?;
        let bytes: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
        Ok(Self(fields::parse(bytes)?))
    }
}

impl Dialect for Parentpilot {
    fn render(failure: Failure) -> Response {
        told(failure, "Billing is not available; try again shortly")
    }
}

/// What came of something, or the words of the route for what did not work.
fn or_told(outcome: Result<Response, Failure>, words: &str) -> Result<Response, Failed<Parentpilot>> {
    outcome.map_err(|failure| Failed::with(told(failure, words)))
}

/// A failure; `words` are those of the route, for what is nobody's mistake.
fn told(failure: Failure, words: &str) -> Response {
    match failure {
        Failure::Identity(error) if error.is_ours() => said(StatusCode::SERVICE_UNAVAILABLE, words),
        Failure::Identity(IdentityError::Missing) => unauthorized("Server key required"),
        Failure::Identity(_) => unauthorized("Invalid server key"),
        Failure::Scope(_) => said(StatusCode::FORBIDDEN, "This key may not do that"),
        Failure::Invalid(wrong) => match wrong.first() {
            Some(first) if first.kind == "json_invalid" => said(StatusCode::BAD_REQUEST, "Invalid JSON"),
            Some(first) if first.kind == "model_attributes_type" => {
                said(StatusCode::BAD_REQUEST, "A JSON object is required")
            }
            Some(first) => said(StatusCode::BAD_REQUEST, &first.msg),
            None => said(StatusCode::BAD_REQUEST, "Invalid request"),
        },
        Failure::TooLarge => said(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
        Failure::Refused(refusal) => refused(&refusal, words),
        Failure::Unavailable | Failure::NoProvider => said(StatusCode::SERVICE_UNAVAILABLE, words),
        Failure::ProviderUnavailable => said(StatusCode::BAD_GATEWAY, words),
        Failure::Declined(failure) => declined(&failure, words),
        Failure::Webhook(error) => webhook::refused(&error),
        Failure::NotFound => said(StatusCode::NOT_FOUND, "Not Found"),
        Failure::MethodNotAllowed => said(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    }
}

/// It is not known who calls, or about whom.
fn unauthorized(words: &str) -> Response {
    let mut response = said(StatusCode::UNAUTHORIZED, words);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// What the provider refused; its own words are for nobody here.
fn declined(failure: &ProviderFailure, words: &str) -> Response {
    tracing::warn!(event = "stripe_error", code = &*failure.code, decline_code = failure.decline_code.as_deref());
    let is_card = failure.decline_code.is_some() || failure.code.contains("card");
    said(if is_card { StatusCode::PAYMENT_REQUIRED } else { StatusCode::BAD_REQUEST }, words)
}

/// A refusal in this product's words.
fn refused(refusal: &Refusal, words: &str) -> Response {
    let (status, words) = match refusal {
        Refusal::UnknownCustomer => (StatusCode::BAD_REQUEST, "User must have a Stripe customer ID"),
        Refusal::AlreadySubscribed => (StatusCode::CONFLICT, "User already has a subscription"),
        Refusal::UnknownSubscription => (StatusCode::NOT_FOUND, "Subscription not found"),
        Refusal::Suspended => (StatusCode::FORBIDDEN, "User is suspended"),
        Refusal::Closed => (StatusCode::FORBIDDEN, "User is closed"),
        Refusal::OperationKeyReused => (StatusCode::CONFLICT, "Idempotency key was used for another request"),
        Refusal::LimitExceeded { .. } => (StatusCode::PAYMENT_REQUIRED, words),
        refusal => (failure::status(refusal.kind()), words),
    };
    said(status, words)
}

/// An error of this product: one sentence.
fn said(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({"success": false, "error": words}))).into_response()
}

/// The envelope of what was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct Data<T> {
    success: bool,
    data: T,
}

/// An answer with what was asked for; this product has one status for all of them.
fn data<T: Serialize>(data: T) -> Response {
    answer(Data { success: true, data })
}

/// That something was done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    success: bool,
    message: &'static str,
}

fn done(message: &'static str) -> Response {
    answer(Done { success: true, message })
}

fn answer(body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An instant as JavaScript writes it: milliseconds, in UTC.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Whole cents of micros, halves up.
fn cents(amount: Micros) -> i64 {
    let cents = Rounding::HalfUp.divide(i128::from(amount.get()), 10_000);
    i64::try_from(cents).unwrap_or(i64::MAX)
}

/// A JSON number of an exact one.
fn number(exact: Decimal) -> Number {
    exact.normalize().to_string().parse().unwrap_or_else(|_| Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_numbers_are_written_as_the_product_writes_them() {
        let at: Timestamp = "2026-04-01T00:00:00Z".parse().unwrap();
        assert_eq!(instant(at), "2026-04-01T00:00:00.000Z");
        let written = ["25.00", "25.5", "0.0002", "0.1"].map(|text| number(text.parse().unwrap()).to_string());
        assert_eq!(written, ["25", "25.5", "0.0002", "0.1"]);
        assert_eq!([14_999, 15_000, 0].map(|micros| cents(Micros::new(micros))), [1, 2, 0]);
    }
}
