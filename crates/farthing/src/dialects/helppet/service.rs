//! What a browser has to know before it begins, and what all answers share.

use axum::extract::{FromRequestParts, State as FromState};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

use super::practice::user;
use super::{Caller, Failed, Helppet, HelppetSettings, Speaker, State, answer};
use crate::dialects::schema;

/// Why something was not done.
pub(super) struct Problem;

impl ToSchema for Problem {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        schema::problem()
    }
}

/// What a browser has to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Config {
    /// The key for the provider's script; `null` where there is none.
    publishable_key: Option<String>,
}

/// That the configuration may be told to whoever asks.
pub(super) struct MayRead;

impl FromRequestParts<std::sync::Arc<Speaker<HelppetSettings>>> for MayRead {
    type Rejection = Failed<Helppet>;

    async fn from_request_parts(
        parts: &mut Parts,
        speaker: &std::sync::Arc<Speaker<HelppetSettings>>,
    ) -> Result<Self, Failed<Helppet>> {
        if !speaker.settings.public_config {
            let caller = Caller::<Helppet>::from_request_parts(parts, speaker).await?;
            user(&caller)?;
        }
        Ok(Self)
    }
}

/// The key for the provider's script
#[utoipa::path(get, path = "/api/v1/stripe/config", operation_id = "get_config", tag = "configuration", responses((status = 200, body = Config)))]
pub(super) async fn config(FromState(speaker): State, _: MayRead) -> Response {
    let connection = speaker.spoken.tenant.connection.as_ref();
    answer(Config { publishable_key: connection.and_then(|connection| connection.publishable_key.clone()) })
}

/// Adds what every operation shares: how callers say who they are, and what any of them may be answered.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let key = ApiKeyValue::with_description("X-API-Key", "An API key of the product's server");
    components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    for (path, item) in &mut document.paths.paths {
        let open = path.ends_with("/webhook");
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
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
        (true, "400", "The practice's id is none, or its billing is not set up"),
        (!open, "401", "The caller is not known"),
        (!open, "402", "The card was declined"),
        (!open, "403", "The caller may not do this for the practice"),
        (true, "404", "There is no such thing"),
        (has_body || open, "413", "The body is too large"),
        (has_body, "422", "The request is not what it should be"),
        (!open, "502", "The payment provider did not answer"),
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
