//! What the OpenAPI documents of dialects share: how callers say who they are, and what any operation may be answered.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, SecurityRequirement};

/// By a user's token.
pub(super) const BEARER: &str = "bearer";

/// By an API key.
pub(super) const KEY: &str = "key";

/// Says that callers may bring a token, a JWT where `format` says so.
pub(super) fn take_tokens(document: &mut OpenApi, format: Option<&str>) {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let scheme = if let Some(format) = format { scheme.bearer_format(format) } else { scheme };
    document.components.get_or_insert_default().add_security_scheme(BEARER, SecurityScheme::Http(scheme.build()));
}

/// Says that callers may bring an API key.
pub(super) fn take_keys(document: &mut OpenApi, description: &str) {
    let key = ApiKeyValue::with_description("X-API-Key", description);
    let scheme = SecurityScheme::ApiKey(ApiKey::Header(key));
    document.components.get_or_insert_default().add_security_scheme(KEY, scheme);
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
}

/// Says that whoever calls an operation has to be known, in one of these ways.
pub(super) fn require(operation: &mut Operation, ways: &[&str]) {
    let one_of = ways.iter().map(|way| SecurityRequirement::new(*way, Vec::<String>::new()));
    operation.security = Some(one_of.collect());
}

/// Says with which `Problem` an operation may be answered: whether that may happen, its status, and what it means.
pub(super) fn add_problems<'a>(
    operation: &mut Operation,
    problems: impl IntoIterator<Item = (bool, &'a str, &'a str)>,
) {
    let responses = &mut operation.responses.responses;
    for (_, status, description) in problems.into_iter().filter(|(may_happen, ..)| *may_happen) {
        responses.entry(status.to_owned()).or_insert_with(|| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            RefOr::T(ResponseBuilder::new().description(description).content("application/json", content).build())
        });
    }
}
