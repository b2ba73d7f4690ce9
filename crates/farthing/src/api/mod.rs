//! The native API: JSON over HTTP below `/v1`, described at `/openapi.json` and browsable at `/docs`.
//!
//! A handler parses its request into a command for the service, or reads from the store, and renders what comes back. It
//! decides nothing.

mod body;
mod caller;
mod cross_origin;
mod health;
mod idempotent;
mod lingering;
mod openapi;
mod page;
mod parameters;
mod problem;
mod schema;
mod time;
mod v1;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An API by its name, with the path of its document and the document.
pub type Described = ((&'static str, &'static str), utoipa::openapi::OpenApi);

/// Every route of the native API, on this app, and other routes that are counted, logged and caught like them. The documents of
/// the dialects among these are shown beside that of the native API.
pub fn router(app: Arc<App>, others: Router<Arc<App>>, dialects: Vec<Described>) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = openapi::complete(document);
    let cross_origin = cross_origin::layer(&app);
    let router = router
        .merge(openapi::browser(document, dialects))
        .merge(others)
        .route("/metrics", get(health::metrics))
        .fallback(async || Problem::not_found("unknown_route", "there is nothing at this path; see /docs"))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(body::LARGEST))
        .layer(from_fn(catch_panic))
        .layer(from_fn(lingering::linger))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app);
    match cross_origin {
        None => router,
        Some(layer) => router.layer(layer),
    }
}

/// The OpenAPI document of the native API.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::complete(routes().into_openapi())
}

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(v1::checks::create))
        .routes(routes!(v1::charges::create))
        .routes(routes!(v1::charges::create_batch))
        .routes(routes!(v1::charges::get))
        .routes(routes!(v1::charges::list))
        .routes(routes!(v1::recurring_charges::list, v1::recurring_charges::create))
        .routes(routes!(v1::recurring_charges::end))
        .routes(routes!(v1::explanation::get))
        .routes(routes!(v1::events::create))
        .routes(routes!(v1::holds::create))
        .routes(routes!(v1::holds::get))
        .routes(routes!(v1::holds::extend))
        .routes(routes!(v1::holds::capture))
        .routes(routes!(v1::holds::settle))
        .routes(routes!(v1::holds::release))
        .routes(routes!(v1::customers::list))
        .routes(routes!(v1::customers::put, v1::customers::get))
        .routes(routes!(v1::customers::erase))
        .routes(routes!(v1::grants::create, v1::grants::list))
        .routes(routes!(v1::grants::void))
        .routes(routes!(v1::wallets::get))
        .routes(routes!(v1::wallets::statement))
        .routes(routes!(v1::wallets::entries))
        .routes(routes!(v1::usage::get))
        .routes(routes!(v1::test_clock::get))
        .routes(routes!(v1::test_clock::advance))
        .routes(routes!(health::ready))
        .routes(routes!(health::live))
        .merge(collecting())
        .merge(billing())
        .merge(analytics())
}

/// Packs, payments and payment methods.
fn collecting() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(v1::purchases::create))
        .routes(routes!(v1::purchases::get))
        .routes(routes!(v1::payments::list))
        .routes(routes!(v1::payments::get))
        .routes(routes!(v1::payments::cancel))
        .routes(routes!(v1::payments::refund))
        .routes(routes!(v1::payment_methods::list, v1::payment_methods::attach))
        .routes(routes!(v1::payment_methods::setup))
        .routes(routes!(v1::payment_methods::set_default))
        .routes(routes!(v1::payment_methods::detach))
        .routes(routes!(v1::payment_methods::top_up, v1::payment_methods::put_top_up))
        .routes(routes!(v1::payment_methods::disable_top_up))
}

/// Plans, subscriptions and invoices.
fn billing() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(v1::plans::list))
        .routes(routes!(v1::invoices::list_of_customer, v1::invoices::create))
        .routes(routes!(v1::invoices::upcoming))
        .routes(routes!(v1::invoices::list))
        .routes(routes!(v1::invoices::get))
        .routes(routes!(v1::invoices::pdf))
        .routes(routes!(v1::invoice_explanation::get))
        .routes(routes!(v1::invoice_explanation::charges))
        .routes(routes!(v1::invoice_steps::pay))
        .routes(routes!(v1::invoice_steps::void))
        .routes(routes!(v1::invoice_steps::write_off))
        .routes(routes!(v1::invoice_steps::credit))
        .routes(routes!(v1::subscriptions::create, v1::subscriptions::list))
        .routes(routes!(v1::subscriptions::preview::create))
        .routes(routes!(v1::subscriptions::get))
        .routes(routes!(v1::subscriptions::change))
        .routes(routes!(v1::subscriptions::preview::change))
        .routes(routes!(v1::subscriptions::cancel))
        .routes(routes!(v1::subscriptions::keep))
        .routes(routes!(v1::subscriptions::pause))
        .routes(routes!(v1::subscriptions::resume))
        .routes(routes!(v1::items::create))
        .routes(routes!(v1::entitlements::get))
        .routes(routes!(v1::notices::list_of_customer))
        .routes(routes!(v1::notices::list))
}

/// What it all comes to.
fn analytics() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(v1::analytics::revenue))
        .routes(routes!(v1::analytics::recurring_revenue))
        .routes(routes!(v1::analytics::usage))
        .routes(routes!(v1::analytics::spending))
        .routes(routes!(v1::analytics::payments))
        .routes(routes!(v1::analytics::conversion))
        .routes(routes!(v1::analytics::customer_revenue))
        .routes(routes!(v1::analytics::customer_usage))
        .routes(routes!(v1::analytics::customer_spending))
        .routes(routes!(v1::analytics::customer_payments))
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method; see /docs")
}

/// Gives each request an id, counts and times it, and logs what went wrong.
async fn observe(
    axum::extract::State(app): axum::extract::State<Arc<App>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let id = request_id(&app, &request);
    let mut response = next.run(request).await;
    let status = response.status();
    let route = path.as_ref().map_or("unknown", MatchedPath::as_str);
    let labels = [
        ("method", metrics::SharedString::from(method_name(&method))),
        ("route", metrics::SharedString::from(route.to_owned())),
        ("status", metrics::SharedString::from(status_class(status))),
    ];
    metrics::histogram!("farthing_http_request_duration_seconds", &labels).record(began.elapsed());
    if status.is_server_error() {
        let request_id = id.to_str().unwrap_or_default();
        tracing::error!(event = "request_failed", request_id, method = %method, route, status = status.as_u16());
    } else {
        let request_id = id.to_str().unwrap_or_default();
        tracing::debug!(event = "request", request_id, method = %method, route, status = status.as_u16());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The caller's own request id where it is a plain short one, a new one otherwise.
fn request_id(app: &App, request: &Request) -> HeaderValue {
    let own = request.headers().get(&REQUEST_ID).filter(|id| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        !id.is_empty() && id.len() <= 128 && id.as_bytes().iter().all(plain)
    });
    own.cloned().unwrap_or_else(|| {
        let id = app.clock.new_id().to_string();
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Methods are an open set on the wire and a closed one in labels.
fn method_name(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        _ => "other",
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..300 => "2xx",
        300..400 => "3xx",
        402 => "402",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// A fault of ours is a problem like any other to the caller, and an error in the log.
async fn catch_panic(request: Request, next: Next) -> Response {
    use futures_util::FutureExt;
    let run = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
    run.unwrap_or_else(|_| {
        tracing::error!(event = "request_panicked");
        let detail = "something went wrong here; it has been logged";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
    })
}
