//! `ciris`: `/v1/billing`, for a product whose server buys and charges uses by the account of a user. An account is a customer
//! with the id `<oauth_provider>/<external_id>`; its balance is in units of credit, and its free uses are grants in uses.

mod account;
mod charge;
mod credit;
mod purchase;
mod service;
mod transaction;
mod webhook;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use engine::{Micros, Refusal, RefusalKind};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::detail::said;
use super::failure::{Failed, Failure};
use super::spoken::Spoken;
use super::{Body, Caller, Dialect, Named, Query, Raw, Speaker, instant};
use crate::app::App;
use crate::auth::Scope;
use crate::config::dialect::CirisSettings;

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// The dialect itself.
struct Ciris;

type State = axum::extract::State<Arc<Speaker<CirisSettings>>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "CIRIS Billing API",
        description = "Free uses, then uses bought by the pack. Every problem is `{\"detail\": ...}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(service::Problem)),
    tags((name = "billing", description = "Accounts, checks, charges and purchases"))
)]
struct Document;

pub(super) fn document() -> utoipa::openapi::OpenApi {
    service::complete(routes().into_openapi())
}

pub(super) fn router(spoken: Spoken, settings: CirisSettings) -> Router<Arc<App>> {
    let allow_anonymous = settings.allow_anonymous;
    let speaker = Arc::new(Speaker { spoken, settings, allow_anonymous });
    let unknown = async || Ciris::render(Failure::NotFound);
    let (router, _) = routes().split_for_parts();
    router
        .route("/v1/billing", any(unknown))
        .route("/v1/billing/{*rest}", any(unknown))
        .method_not_allowed_fallback(async || Ciris::render(Failure::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn(count))
        .with_state(speaker)
}

/// Counts requests under the names that this product's dashboards ask for. A path is told as it is written in the document, so
/// that nobody's address is in it.
async fn count(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let endpoint = path.as_ref().map_or("unknown", MatchedPath::as_str).to_owned();
    // Methods are an open set on the wire and a closed one in labels.
    let known = [Method::GET, Method::POST].into_iter().find(|known| known == request.method());
    let method = known.map_or_else(|| "other".to_owned(), |method| method.to_string());
    let response = next.run(request).await;
    let labels = [("endpoint", endpoint), ("method", method)];
    metrics::histogram!("billing_http_request_duration_seconds", &labels).record(began.elapsed());
    let [endpoint, method] = labels;
    let labels = [endpoint, method, ("status_code", response.status().as_u16().to_string())];
    metrics::counter!("billing_http_requests_total", &labels).increment(1);
    response
}

fn routes() -> OpenApiRouter<Arc<Speaker<CirisSettings>>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(service::root))
        .routes(routes!(credit::check))
        .routes(routes!(charge::create))
        .routes(routes!(credit::create))
        .routes(routes!(purchase::create))
        .routes(routes!(purchase::get))
        .routes(routes!(purchase::get_status))
        .routes(routes!(purchase::refund))
        .routes(routes!(account::create))
        .routes(routes!(account::get))
        .routes(routes!(transaction::list))
        .routes(routes!(webhook::receive))
}

impl Dialect for Ciris {
    fn render(failure: Failure) -> Response {
        match failure {
            Failure::Identity(error) if error.is_ours() => said(StatusCode::SERVICE_UNAVAILABLE, "Try again shortly"),
            Failure::Identity(error) => {
                let mut response =
                    said(StatusCode::UNAUTHORIZED, &format!("Authentication failed: {}", service::words(&error)));
                let challenge = HeaderValue::from_static("ApiKey, Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            Failure::Scope(Scope::Read) => said(StatusCode::FORBIDDEN, "Missing required permission: billing:read"),
            Failure::Scope(_) => said(StatusCode::FORBIDDEN, "Missing required permission: billing:write"),
            Failure::Invalid(wrong) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"detail": wrong}))).into_response()
            }
            Failure::TooLarge => said(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"),
            Failure::Refused(refusal) => refused(&refusal),
            Failure::Unavailable => {
                let words = "Billing is busy or its database did not answer; try again with the same idempotency key";
                said(StatusCode::SERVICE_UNAVAILABLE, words)
            }
            Failure::NoProvider => said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider not configured"),
            Failure::ProviderUnavailable => said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider unavailable"),
            Failure::Declined(failure) => {
                tracing::warn!(event = "stripe_payment_intent_failed", code = &*failure.code);
                said(StatusCode::SERVICE_UNAVAILABLE, "Payment provider unavailable")
            }
            Failure::Webhook(error) => webhook::refused(&error),
            Failure::NotFound => said(StatusCode::NOT_FOUND, "Not Found"),
            Failure::MethodNotAllowed => said(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
        }
    }
}

/// A refusal in this product's words.
fn refused(refusal: &Refusal) -> Response {
    let status = match refusal.kind() {
        RefusalKind::Missing => StatusCode::NOT_FOUND,
        RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Barred => StatusCode::FORBIDDEN,
        RefusalKind::Unpaid => StatusCode::PAYMENT_REQUIRED,
        RefusalKind::Limited => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Conflict => StatusCode::CONFLICT,
    };
    let words = match refusal {
        Refusal::UnknownCustomer => "Account not found".to_owned(),
        Refusal::Suspended => "Account suspended: Account suspended".to_owned(),
        Refusal::Closed => "Account is closed".to_owned(),
        Refusal::InsufficientFunds { required, available, .. } | Refusal::HeldByOthers { required, available, .. } => {
            format!("Insufficient credits. Balance: {}, Required: {}", whole(*available), whole(*required))
        }
        refusal => refusal.to_string(),
    };
    said(status, &words)
}

/// An answer.
fn answer(status: StatusCode, body: impl serde::Serialize) -> Response {
    (status, Json(body)).into_response()
}

/// Whole units of what there is in micros; what is below one is not told.
fn whole(amount: Micros) -> i64 {
    amount.get().div_euclid(Micros::ONE.get())
}

/// So many units, where the ledger can hold them.
fn units(count: i64) -> Result<Micros, Refusal> {
    count.checked_mul(Micros::ONE.get()).map(Micros::new).ok_or(Refusal::AmountOutOfRange)
}

fn text_or_null(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}
