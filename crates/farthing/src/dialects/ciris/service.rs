//! What the product says about itself, and what all its answers share.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

use super::answer;
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
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let key = ApiKeyValue::with_description("X-API-Key", "An API key");
    components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    for (path, item) in &mut document.paths.paths {
        if path == "/" {
            continue;
        }
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let open = path.contains("/webhooks/");
            if !open {
                let either = ["bearer", "key"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
                operation.security = Some(either.to_vec());
            }
            add_problems(operation, open);
        }
    }
    document
}

fn add_problems(operation: &mut Operation, open: bool) {
    let has_body = operation.request_body.is_some();
    for (may_happen, status, description) in [
        (true, "401", "The caller is not known"),
        (!open, "403", "The caller may not, or the account is suspended or closed"),
        (true, "404", "There is no such thing"),
        (has_body, "413", "The body is too large"),
        (!open, "422", "The request is not what it should be"),
        (true, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ] {
        let responses = &mut operation.responses.responses;
        if may_happen && !responses.contains_key(status) {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new().description(description).content("application/json", content);
            responses.insert(status.to_owned(), RefOr::T(response.build()));
        }
    }
}
