//! What the product says about itself, and what all its answers share.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::answer;
use crate::dialects::document::{self, BEARER, KEY};
use crate::dialects::schema;
use crate::identity::IdentityError;

/// Why something was not done.
pub(super) struct Problem;

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        schema::problem()
    }
}

impl ToSchema for Problem {}

/// What this is.
#[derive(Serialize, ToSchema)]
pub(super) struct About {
    /// Its name.
    service: &'static str,
    /// Its version.
    version: &'static str,
    /// That it runs.
    status: &'static str,
}

/// What this is
#[utoipa::path(get, path = "/", operation_id = "get_root", tag = "billing", responses((status = 200, body = About)))]
pub(super) async fn root() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    answer(StatusCode::OK, About { service: "CIRIS Billing API", version, status: "running" })
}

/// Why it is not known who calls, in this product's words.
pub(super) fn words(error: &IdentityError) -> String {
    match error {
        IdentityError::Missing => "Provide X-API-Key header or Authorization: Bearer {api_key}".to_owned(),
        IdentityError::UnknownKey => "Invalid API key".to_owned(),
        error => error.to_string(),
    }
}

/// Adds what every operation shares: how callers say who they are, and what any of them may be answered.
pub(super) fn complete(mut described: OpenApi) -> OpenApi {
    document::take_keys(&mut described, "An API key");
    document::take_tokens(&mut described, None);
    for (path, item) in &mut described.paths.paths {
        if path == "/" {
            continue;
        }
        for operation in document::operations(item) {
            let open = path.contains("/webhooks/");
            if !open {
                document::require(operation, &[BEARER, KEY]);
            }
            add_problems(operation, open);
        }
    }
    described
}

fn add_problems(operation: &mut Operation, open: bool) {
    let has_body = operation.request_body.is_some();
    let problems = [
        (true, "401", "The caller is not known"),
        (!open, "403", "The caller may not, or the account is suspended or closed"),
        (true, "404", "There is no such thing"),
        (has_body, "413", "The body is too large"),
        (!open, "422", "The request is not what it should be"),
        (true, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ];
    document::add_problems(operation, problems);
}
