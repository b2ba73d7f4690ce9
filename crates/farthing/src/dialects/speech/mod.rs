//! `speech`: `/payments`, for the users of a product who are on a monthly plan or pay as they go, and whose calls, messages,
//! transcriptions and scenarios are recorded. A user is a customer with its e-mail address, which its token says.

mod payment;
mod plan;
mod service;
mod subscription;
mod usage;
mod user;
mod webhook;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use engine::report::Failure as ProviderFailure;
use engine::{Micros, Refusal, RefusalKind, Rounding};
use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::detail::{said, unauthorized};
use super::failure::{self, Failed, Failure};
use super::fields::Invalid;
use super::spoken::Spoken;
use super::{Body, Caller, Dialect, Query, Raw, Speaker};
use crate::app::App;
use crate::config::dialect::SpeechSettings;

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// What every answer of this product carries, so that a browser does nothing with it but show it.
const SECURITY: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// The dialect itself.
struct Speech;

type State = axum::extract::State<Arc<Speaker<SpeechSettings>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Speech Assistant payments",
        description = "Plans, usage and payments of a user. Every problem is `{\"detail\": ...}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(service::Problem)),
    tags(
        (name = "subscriptions", description = "Plans, and which of them a user is on"),
        (name = "usage", description = "What was used, and what it costs"),
        (name = "payments", description = "What was paid, and what the provider tells")
    )
)]
struct Document;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    service::complete(routes().into_openapi())
}

pub(super) fn router(spoken: Spoken, settings: SpeechSettings) -> Router<Arc<App>> {
    let speaker = Arc::new(Speaker { spoken, settings, allow_anonymous: false });
    let unknown = async || Speech::render(Failure::NotFound);
    let (router, _) = routes().split_for_parts();
    router
        .route("/payments", any(unknown))
        .route("/payments/{*rest}", any(unknown))
        .method_not_allowed_fallback(async || Speech::render(Failure::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(map_response(secured))
        .with_state(speaker)
}

fn routes() -> OpenApiRouter<Arc<Speaker<SpeechSettings>>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(plan::list))
        .routes(routes!(subscription::create))
        .routes(routes!(subscription::cancel))
        .routes(routes!(payment::create))
        .routes(routes!(subscription::status))
        .routes(routes!(usage::record))
        .routes(routes!(payment::history))
        .routes(routes!(usage::summary))
        .routes(routes!(webhook::receive))
}

async fn secured(mut response: Response) -> Response {
    response.headers_mut().extend(SECURITY);
    response
}

impl Dialect for Speech {
    fn render(failure: Failure) -> Response {
        rendered(failure, None)
    }
}

/// Says that what a handler does was not done: `Failed to create subscription: ...`.
fn failed(verb: &'static str) -> impl Fn(Failure) -> Failed<Speech> {
    move |failure| Failed::with(rendered(failure, Some(verb)))
}

fn rendered(failure: Failure, verb: Option<&str>) -> Response {
    let told = |status, words: &str| match verb {
        Some(verb) => said(status, &format!("Failed to {verb}: {words}")),
        None => said(status, words),
    };
    match failure {
        Failure::Identity(error) if error.is_ours() => said(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly"),
        Failure::Identity(error) => unauthorized(&error),
        Failure::Scope(_) => said(StatusCode::FORBIDDEN, "Not enough permissions"),
        Failure::Invalid(wrong) => invalid(&wrong),
        Failure::TooLarge => said(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
        Failure::Refused(refusal) => {
            let (status, words) = refused(&refusal);
            match refusal {
                Refusal::UnknownSubscription => said(status, &words),
                _ => told(status, &words),
            }
        }
        Failure::Unavailable => {
            told(StatusCode::SERVICE_UNAVAILABLE, "billing is busy or its database did not answer; try again shortly")
        }
        Failure::NoProvider => told(StatusCode::SERVICE_UNAVAILABLE, "there is no payment provider"),
        Failure::ProviderUnavailable => told(
            StatusCode::BAD_REQUEST,
            "the payment provider has not answered; it goes on being tried, so look again shortly",
        ),
        Failure::Declined(failure) => {
            let (status, words) = declined(&failure);
            told(status, words)
        }
        Failure::Webhook(error) => webhook::refused(&error),
        Failure::NotFound => said(StatusCode::NOT_FOUND, "Not Found"),
        Failure::MethodNotAllowed => said(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
    }
}

/// What is wrong with a request, each with its place: `usage_amount`, `query -> limit`.
fn invalid(wrong: &[Invalid]) -> Response {
    let place = |wrong: &Invalid| {
        let names = wrong.loc.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        let names: Vec<String> = names.skip_while(|name| name == "body").collect();
        names.join(" -> ")
    };
    let error = |wrong: &Invalid| json!({"field": place(wrong), "message": wrong.msg});
    let errors: Vec<Value> = wrong.iter().map(error).collect();
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": "Validation error", "errors": errors}))).into_response()
}

/// What the provider refused, in words that a user may read and none of its own.
fn declined(failure: &ProviderFailure) -> (StatusCode, &'static str) {
    tracing::warn!(event = "stripe_error", code = &*failure.code, decline_code = failure.decline_code.as_deref());
    let why = failure.decline_code.as_deref().unwrap_or(&failure.code);
    match (&*failure.code, why) {
        ("payment_method_of_another_customer" | "provider_object_missing" | "resource_missing", _) => {
            (StatusCode::BAD_REQUEST, "there is no such payment method or price")
        }
        ("amount_too_small" | "amount_too_large", _) => {
            (StatusCode::BAD_REQUEST, "the payment provider does not collect such an amount")
        }
        (_, "insufficient_funds") => (StatusCode::PAYMENT_REQUIRED, "the card has insufficient funds"),
        ("expired_card", _) => (StatusCode::PAYMENT_REQUIRED, "the card has expired"),
        ("incorrect_cvc" | "invalid_cvc", _) => (StatusCode::PAYMENT_REQUIRED, "the card's security code is incorrect"),
        ("card_declined" | "processing_error" | "incorrect_number" | "authentication_required", _) => {
            (StatusCode::PAYMENT_REQUIRED, "the card was declined")
        }
        _ if failure.decline_code.is_some() => (StatusCode::PAYMENT_REQUIRED, "the card was declined"),
        _ => (StatusCode::BAD_REQUEST, "the payment provider refused the request"),
    }
}

/// A refusal in this product's words.
fn refused(refusal: &Refusal) -> (StatusCode, String) {
    let status = match refusal {
        Refusal::UnknownSubscription => return (StatusCode::NOT_FOUND, "No active subscription found".to_owned()),
        Refusal::AmountOutOfRange => {
            return (StatusCode::BAD_REQUEST, "the amount is too small or too large".to_owned());
        }
        // What its document calls a failure of what was asked for.
        Refusal::ProviderSubscription { .. } | Refusal::OtherCurrency | Refusal::SubscriptionState { .. } => {
            StatusCode::BAD_REQUEST
        }
        refusal if refusal.kind() == RefusalKind::Missing => StatusCode::BAD_REQUEST,
        refusal => failure::status(refusal.kind()),
    };
    (status, refusal.to_string())
}

/// An answer; this product has one status for all of them.
fn answer(body: impl serde::Serialize) -> Response {
    Json(body).into_response()
}

/// The caller's key for what it does once: a header, or else a member of the body.
fn operation_key(headers: &HeaderMap, body: Option<&String>) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(body.cloned()) };
    match value.to_str().map(str::trim) {
        Ok(key) if !key.is_empty() && key.len() <= 255 => Ok(Some(key.to_owned())),
        _ => Err(Failure::Invalid(vec![wrong("header", "Idempotency-Key", "has to be 1 to 255 characters of ASCII")])),
    }
}

/// Something that is wrong with a request, and is known only with the tenant's settings.
fn wrong(within: &str, name: &str, words: &str) -> Invalid {
    Invalid { kind: "value_error", loc: vec![json!(within), json!(name)], msg: words.to_owned(), input: Value::Null }
}

/// An instant as this product writes it.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.fZ").to_string()
}

/// Whole cents of micros, rounded once, halves up.
fn cents(amount: Micros) -> i64 {
    rounded(amount, Micros::ONE.get() / 100)
}

/// Whole units of what was used.
fn whole(quantity: Micros) -> i64 {
    rounded(quantity, Micros::ONE.get())
}

fn rounded(amount: Micros, of: i64) -> i64 {
    let whole = Rounding::HalfUp.divide(i128::from(amount.get().max(0)), i128::from(of));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

/// The number that stands for an id on the wire, where the product has whole numbers: 53 bits of it, which every language
/// reads exactly.
fn number_of(id: uuid::Uuid) -> i64 {
    let bits = id.as_u128() & ((1 << 53) - 1);
    i64::try_from(bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_whole_cents() {
        assert_eq!([0, 4_999, 5_000, 14_999, 1_150_000].map(|micros| cents(Micros::new(micros))), [0, 0, 1, 1, 115]);
        assert_eq!([45_000_000, 500_000].map(|micros| whole(Micros::new(micros))), [45, 1]);
    }

    #[test]
    fn a_number_of_an_id_is_exact_everywhere() {
        let largest = number_of(uuid::Uuid::max());
        assert_eq!(largest, (1 << 53) - 1);
        assert_eq!(number_of(uuid::Uuid::nil()), 0);
    }

    #[test]
    fn instants_are_in_utc() {
        let at: Timestamp = "2026-03-02T09:00:00.25Z".parse().unwrap();
        assert_eq!(instant(at), "2026-03-02T09:00:00.25Z");
    }
}
