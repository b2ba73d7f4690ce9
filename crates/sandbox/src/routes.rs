//! The route table: which handler answers which method and path. `{}` stands for one segment of the path; a route without
//! it goes before one with it. A section for each object.

use serde_json::Value;

use crate::control;
use crate::error::ApiError;
use crate::objects::{customers, events, webhook_endpoints};
use crate::request::Request;
use crate::world::World;

/// Answers a request of the API under the world's lock. An error undoes what it has changed, unless it `keeps`.
pub(crate) type Handler = fn(&mut World, &Request) -> Result<Value, ApiError>;

/// What a page answers with.
#[derive(Debug)]
pub(crate) enum Page {
    /// A page, or another file: its content type and itself.
    Body(&'static str, String),
    /// 303 to another address.
    Redirect(String),
}

/// Answers a request for a page. The first `{}` of its path is the name of the world.
pub(crate) type PageHandler = fn(&mut World, &Request) -> Result<Page, ApiError>;

/// Who answers.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// A secret key is needed.
    Api(Handler),
    /// A publishable key is enough, from any origin.
    Browser(Handler),
    /// The sandbox's own API: a secret key, JSON bodies, no faults.
    Control(Handler),
    /// No key; no faults.
    Page(PageHandler),
    /// A file that is always the same: its content type and itself.
    File(&'static str, &'static str),
}

/// One line of the table.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) target: Target,
}

const fn get(path: &'static str, handler: Handler) -> Route {
    Route { method: "GET", path, target: Target::Api(handler) }
}

const fn post(path: &'static str, handler: Handler) -> Route {
    Route { method: "POST", path, target: Target::Api(handler) }
}

const fn delete(path: &'static str, handler: Handler) -> Route {
    Route { method: "DELETE", path, target: Target::Api(handler) }
}

const fn control(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route { method, path, target: Target::Control(handler) }
}

const TABLE: &[&[Route]] = &[CONTROL, CUSTOMERS, EVENTS, WEBHOOK_ENDPOINTS];

const CONTROL: &[Route] = &[
    control("GET", "/_sandbox/faults", control::list_faults),
    control("POST", "/_sandbox/faults", control::add_fault),
    control("DELETE", "/_sandbox/faults", control::clear_faults),
    control("GET", "/_sandbox/requests", control::list_requests),
    control("GET", "/_sandbox/clock", control::read_clock),
    control("POST", "/_sandbox/clock", control::set_clock),
];

const CUSTOMERS: &[Route] = &[
    post("/v1/customers", customers::create),
    get("/v1/customers", customers::list),
    get("/v1/customers/{}", customers::retrieve),
    post("/v1/customers/{}", customers::update),
    delete("/v1/customers/{}", customers::delete),
];

const EVENTS: &[Route] = &[
    get("/v1/events", events::list),
    get("/v1/events/{}", events::retrieve),
    post("/v1/events/{}/retry", events::retry),
];

const WEBHOOK_ENDPOINTS: &[Route] = &[
    post("/v1/webhook_endpoints", webhook_endpoints::create),
    get("/v1/webhook_endpoints", webhook_endpoints::list),
    get("/v1/webhook_endpoints/{}", webhook_endpoints::retrieve),
    post("/v1/webhook_endpoints/{}", webhook_endpoints::update),
    delete("/v1/webhook_endpoints/{}", webhook_endpoints::delete),
];

/// The route of a request, and what stands at its `{}`.
pub(crate) fn find(method: &str, path: &str) -> Option<(Target, Vec<String>)> {
    TABLE
        .iter()
        .flat_map(|section| section.iter())
        .filter(|route| route.method == method)
        .filter_map(|route| captures(route.path, path).map(|captures| (route.target, captures)))
        .min_by_key(|(_, captures)| captures.len())
}

/// The methods that a path knows.
pub(crate) fn methods(path: &str) -> Vec<&'static str> {
    let routes = TABLE.iter().flat_map(|section| section.iter());
    routes.filter(|route| captures(route.path, path).is_some()).map(|route| route.method).collect()
}

fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut captured = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(captured),
            (Some("{}"), Some(segment)) if !segment.is_empty() => captured.push(crate::form::decode(segment)),
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}
