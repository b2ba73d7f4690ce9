//! What all answers share.

use serde_json::json;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::dialects::document::{self, BEARER, KEY};

/// Why something was not done.
pub(super) struct Problem;

impl ToSchema for Problem {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let error =
            ObjectBuilder::new().schema_type(Type::Object).property("field", text()).property("message", text());
        let errors = ArrayBuilder::new().items(error);
        let problem = ObjectBuilder::new().schema_type(Type::Object).property("detail", text()).required("detail");
        let problem = problem.property("errors", errors);
        problem.examples([json!({"detail": "No active subscription found"})]).build().into()
    }
}

/// Adds what every operation shares: how callers say who they are, and what any of them may be answered.
pub(super) fn complete(mut described: OpenApi) -> OpenApi {
    document::take_tokens(&mut described, Some("JWT"));
    document::take_keys(&mut described, "An API key of the product's server, beside the user's token");
    for (path, item) in &mut described.paths.paths {
        let open = path.ends_with("/stripe-webhook");
        for operation in document::operations(item) {
            if !open {
                // The plans are nobody's, so a server may ask for them alone.
                document::require(operation, if path.ends_with("-plans") { &[BEARER, KEY] } else { &[BEARER] });
            }
            add_problems(operation, path, open);
        }
    }
    described
}

fn add_problems(operation: &mut Operation, path: &str, open: bool) {
    let has_body = operation.request_body.is_some();
    let is_read = operation.operation_id.as_deref().is_some_and(|id| id.starts_with("get_") || id.starts_with("list_"));
    let creates = path.contains("/create-");
    let problems = [
        (!is_read, "400", "It could not be done"),
        (!open, "401", "The caller is not known"),
        (creates, "402", "The card was declined"),
        (!open && !is_read, "403", "The caller may not do this"),
        (path.ends_with("/cancel-subscription"), "404", "There is no subscription"),
        (!open && !is_read, "409", "There is a subscription already, or the key was used for something else"),
        (has_body || open, "413", "The body is too large"),
        (
            !open && !path.ends_with("-plans") && !path.ends_with("-status"),
            "422",
            "The request is not what it should be",
        ),
        (true, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ];
    document::add_problems(operation, problems);
}
