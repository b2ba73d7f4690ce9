//! The OpenAPI 3.1 document: made from the handlers, completed with what they all share.

use axum::http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, SecurityRequirement};
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use super::problem::Problem;
use super::schema::text;

const DESCRIPTION: &str = "\
Usage in; checked, priced and charged against prepaid credit; refused where credit runs out; explained to the last
micro-dollar.

Amounts and quantities are exact decimal texts. Instants are RFC 3339 in UTC. Every problem is an RFC 9457 document with a
stable `code`. Every write takes an `Idempotency-Key`: a repeat gets the first answer and the header
`Idempotency-Replayed: true`, another body 422, a repeat while the first is under way 409; a refusal does not use up the
key. Every answer has an `X-Request-Id`.";

#[derive(OpenApi)]
#[openapi(
    info(title = "farthing", description = DESCRIPTION, license(name = "Apache-2.0", identifier = "Apache-2.0")),
    components(schemas(Problem)),
    tags(
        (name = "checks", description = "May this customer do this now?"),
        (name = "charges", description = "Priced uses, refused when not covered"),
        (name = "events", description = "Usage that has happened"),
        (name = "holds", description = "Value reserved for a use under way"),
        (name = "customers", description = "Who pays"),
        (name = "grants", description = "Value put into wallets"),
        (name = "wallets", description = "What a customer has, and the ledger behind it"),
        (name = "plans", description = "What is sold by the period"),
        (name = "purchases", description = "Credit to be bought"),
        (name = "invoices", description = "What is asked for a period, line by line, and why"),
        (name = "payments", description = "What was collected, and given back"),
        (name = "payment methods", description = "Cards on file, and the automatic top-up"),
        (name = "subscriptions", description = "Plans in force, and what they invoice"),
        (name = "notices", description = "What happened that customers may want to know"),
        (name = "test clock", description = "Time for tenants in test mode"),
        (name = "usage", description = "What was used"),
        (name = "analytics", description = "Revenue, usage, payments and conversion, also as CSV"),
        (name = "health", description = "For operators"),
    )
)]
pub(super) struct Document;

/// The document, and a page to browse it with, which fetches nothing from outside.
pub(super) fn browser(document: utoipa::openapi::OpenApi, dialects: Vec<super::Described>) -> SwaggerUi {
    let mut browser = SwaggerUi::new("/docs").url(Url::with_primary("farthing", "/openapi.json", true), document);
    for ((name, path), document) in dialects {
        browser = browser.url(Url::new(name, path), document);
    }
    browser.config(Config::default().validator_url("none"))
}

/// Adds what every operation shares: how callers say who they are, what names in paths and keys look like, and the
/// problems that any of them may meet.
pub(super) fn complete(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_default();
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key, or a customer's token"));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    let key = ApiKeyValue::with_description("X-API-Key", "An API key");
    components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    for (path, item) in &mut document.paths.paths {
        let open = path.starts_with("/health");
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_problems(path, operation);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    describe(parameter);
                }
            }
            if !open {
                let either = ["bearer", "key"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
                operation.security = Some(either.to_vec());
            }
        }
    }
    document
}

/// Of the problems that requests meet before or beside what they are about, those that this one can.
fn add_problems(path: &str, operation: &mut Operation) {
    let open = path.starts_with("/health");
    let has_body = operation.request_body.is_some();
    let names = has_body || path.contains('{');
    let writes = operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.name == "Idempotency-Key",
        RefOr::Ref(_) => false,
    });
    // A preview is refused as what it is of would be.
    let tries = writes || path.ends_with("/preview");
    let counts = writes && ["/v1/charges", "/v1/holds"].iter().any(|part| path.starts_with(part));
    let asks_for_money =
        ["/purchases", "/payment_methods", "/top_up", "/subscriptions"].iter().any(|part| path.contains(part));
    let collects = tries && (asks_for_money || path.ends_with("/pay"));
    for (may_happen, status, description) in [
        (!open, "400", "The request is not well formed"),
        (!open, "401", "The caller is not known"),
        (!open, "403", "The caller may not, or the customer is suspended or closed"),
        (names, "404", "There is no such thing"),
        (collects, "402", "There is no payment method, or it was declined"),
        (tries, "409", "Something stands in the way: a key under way, a hold that has ended"),
        (has_body, "413", "The body is too large"),
        (has_body, "415", "The body is not JSON"),
        (names, "422", "The request is well formed and cannot be done"),
        (counts, "429", "A limit leaves less"),
        (path != "/health/live", "503", "Nothing was done, or whether it was done is unknown; try again"),
    ] {
        let responses = &mut operation.responses.responses;
        if may_happen && !responses.contains_key(status) {
            responses.insert(status.to_owned(), RefOr::T(problem(description)));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        // The specification wants words for each; for these the summary of the operation says it all.
        let reason = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = reason.unwrap_or("Done").to_owned();
        }
    }
}

/// Names in paths and keys look the same everywhere.
fn describe(parameter: &mut Parameter) {
    let id = |prefix: &str| {
        let pattern = format!("^{prefix}_[0-3][0-9a-f]{{34}}$");
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).build()
    };
    let schema = match parameter.name.as_str() {
        "customer" => text(255),
        "charge" => id("ch"),
        "hold" => id("hold"),
        "grant" => id("grant"),
        "payment" => id("pay"),
        "purchase" => id("pur"),
        "subscription" => id("sub"),
        "invoice" => id("inv"),
        "payment_method" => text(255),
        "Idempotency-Key" => {
            ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[\x20-\x7e]{1,255}$")).build()
        }
        _ => return,
    };
    parameter.schema = Some(schema.into());
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
