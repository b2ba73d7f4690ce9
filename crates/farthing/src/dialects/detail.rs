//! How the products that were written with FastAPI answer: an error is one sentence as `detail`, and nothing is kept by browsers.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::identity::IdentityError;

/// An error: one sentence.
pub(super) fn said(status: StatusCode, words: &str) -> Response {
    (status, Json(json!({"detail": words}))).into_response()
}

/// It is not known who calls.
pub(super) fn unauthorized(error: &IdentityError) -> Response {
    let words = match error {
        IdentityError::Missing | IdentityError::Credentials(_) => "Not authenticated",
        _ => "Could not validate credentials",
    };
    let mut response = said(StatusCode::UNAUTHORIZED, words);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// An answer, for products that have one status for all of them.
pub(super) fn answer(body: impl serde::Serialize) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
