//! What all answers share.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::dialects::document::{self, BEARER};
use crate::dialects::schema;

/// Why something was not done.
pub(super) struct Problem;

impl ToSchema for Problem {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        schema::problem()
    }
}

/// Adds what every operation shares: how callers say who they are, and what any of them may be answered.
pub(super) fn complete(mut described: OpenApi) -> OpenApi {
    document::take_tokens(&mut described, Some("JWT"));
    for (path, item) in &mut described.paths.paths {
        let is_webhook = path.ends_with("/webhook");
        let open = is_webhook || path.ends_with("/subscription-plans");
        for operation in document::operations(item) {
            if !open {
                document::require(operation, &[BEARER]);
            }
            add_problems(operation, open, is_webhook);
        }
    }
    described
}

fn add_problems(operation: &mut Operation, open: bool, is_webhook: bool) {
    let has_body = operation.request_body.is_some();
    let problems = [
        (has_body, "400", "It is there already, or there is no such plan or price"),
        (!open, "401", "The caller is not known"),
        (has_body, "402", "The card was declined"),
        (!open, "403", "The caller may not do this for the organisation"),
        (true, "404", "There is no such thing, or billing is not set up"),
        (has_body, "409", "It is not in a state for this"),
        (has_body || is_webhook, "413", "The body is too large"),
        (has_body, "422", "The request is not what it should be"),
        (!open, "502", "The payment provider did not answer"),
        (!is_webhook, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ];
    document::add_problems(operation, problems);
}
