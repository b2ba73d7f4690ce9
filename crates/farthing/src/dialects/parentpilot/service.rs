//! What all operations share in the OpenAPI document: how callers say who they are and whom they ask about, and what any of them
//! may be answered.

use serde_json::json;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, RefOr, Required, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::dialects::document::{self, BEARER, KEY};

/// Why something was not done.
pub(super) struct Problem;

impl ToSchema for Problem {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let flag = ObjectBuilder::new().schema_type(Type::Boolean);
        let text = ObjectBuilder::new().schema_type(Type::String);
        let problem = ObjectBuilder::new().property("success", flag).property("error", text).required("error");
        problem.examples([json!({"success": false, "error": "Plan ID is required"})]).build().into()
    }
}

pub(super) fn complete(mut described: OpenApi) -> OpenApi {
    document::take_tokens(&mut described, None);
    document::take_keys(&mut described, "An API key of the product's server");
    for (path, item) in &mut described.paths.paths {
        let open = path.ends_with("/webhook");
        for operation in document::operations(item) {
            if !open {
                document::require(operation, &[BEARER, KEY]);
                let id = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
                let user = ParameterBuilder::new().name("user-id").parameter_in(ParameterIn::Header);
                let user = user.required(Required::True).description(Some("The user that is asked about"));
                operation.parameters.get_or_insert_default().push(RefOr::T(user.schema(Some(id)).build()));
            }
            add_problems(operation, path, open);
        }
    }
    described
}

fn add_problems(operation: &mut Operation, path: &str, open: bool) {
    let has_body = operation.request_body.is_some();
    let at_provider = has_body || path.contains("/subscriptions/");
    let problems = [
        (true, "400", "The request is not what it should be, or the user has no customer at the provider"),
        (!open, "401", "No user is named, or whoever asks is not known"),
        (at_provider, "402", "The provider refused it, or it takes a subscription"),
        (!open, "403", "The key may not do this, or the user is suspended"),
        (path.contains("/subscriptions/"), "404", "The user has no such subscription"),
        (at_provider, "409", "It does not go together with the subscription that there is, or with an earlier request"),
        (has_body || open, "413", "The body is too large"),
        (at_provider, "502", "The payment provider did not answer"),
        (true, "503", "Nothing was done, or whether it was done is unknown; try again"),
    ];
    document::add_problems(operation, problems);
}
