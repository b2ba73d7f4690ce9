//! What a browser has to know before it begins, and what all answers share.

use axum::extract::{FromRequestParts, State as FromState};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::practice::user;
use super::{Caller, Failed, Helppet, HelppetSettings, Speaker, State, answer};
use crate::dialects::document::{self, BEARER, KEY};
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
pub(super) fn complete(mut described: OpenApi) -> OpenApi {
    document::take_tokens(&mut described, Some("JWT"));
    document::take_keys(&mut described, "An API key of the product's server");
    for (path, item) in &mut described.paths.paths {
        let open = path.ends_with("/webhook");
        for operation in document::operations(item) {
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
        (true, "400", "The practice's id is none, or its billing is not set up"),
        (!open, "401", "The caller is not known"),
        (!open, "402", "The card was declined"),
        (!open, "403", "The caller may not do this for the practice"),
        (true, "404", "There is no such thing"),
        (has_body || open, "413", "The body is too large"),
        (has_body, "422", "The request is not what it should be"),
        (!open, "502", "The payment provider did not answer"),
        (true, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ];
    document::add_problems(operation, problems);
}
