//! What all answers share.

use serde_json::json;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema, SecurityRequirement};
use utoipa::{PartialSchema, ToSchema};

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
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let key = ApiKeyValue::with_description("X-API-Key", "An API key of the product's server, beside the user's token");
    components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    for (path, item) in &mut document.paths.paths {
        let open = path.ends_with("/stripe-webhook");
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            if !open {
                // The plans are nobody's, so a server may ask for them alone.
                let callers: &[&str] = if path.ends_with("-plans") { &["bearer", "key"] } else { &["bearer"] };
                let one_of = callers.iter().map(|name| SecurityRequirement::new(*name, Vec::<String>::new()));
                operation.security = Some(one_of.collect());
            }
            add_problems(operation, path, open);
        }
    }
    document
}

fn add_problems(operation: &mut Operation, path: &str, open: bool) {
    let has_body = operation.request_body.is_some();
    let is_read = operation.operation_id.as_deref().is_some_and(|id| id.starts_with("get_") || id.starts_with("list_"));
    let creates = path.contains("/create-");
    for (may_happen, status, description) in [
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
    ] {
        let responses = &mut operation.responses.responses;
        if may_happen && !responses.contains_key(status) {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response = ResponseBuilder::new().description(description).content("application/json", content);
            responses.insert(status.to_owned(), RefOr::T(response.build()));
        }
    }
}
