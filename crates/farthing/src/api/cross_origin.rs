//! Which pages of other origins may read answers in a browser (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>): those
//! that the tenant files name. What a page may ask for is up to the token that it sends; there are no cookies.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::app::App;
use crate::config::ANY_ORIGIN;

/// How long a browser may remember what it was told.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What answers browsers that ask first, and marks answers for them; nothing where no tenant names an origin.
pub(super) fn layer(app: &App) -> Option<CorsLayer> {
    let origins: Vec<&str> = app.tenants.values().flat_map(|tenant| &tenant.origins).map(String::as_str).collect();
    let allowed = if origins.contains(&ANY_ORIGIN) {
        AllowOrigin::any()
    } else if origins.is_empty() {
        return None;
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let read = ["idempotency-replayed", "x-existing-charge-id"].map(HeaderName::from_static);
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            // Pages of products send headers of their own besides, such as `X-Tenant-ID`; what nobody knows is not looked at.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(read.into_iter().chain([header::RETRY_AFTER]).collect::<Vec<_>>())
            .max_age(REMEMBERED),
    )
}
