//! Events (docs.stripe.com/api/events), and the repeat that Stripe's CLI asks for (`stripe events resend`).

use serde_json::Value;

use crate::error::ApiError;
use crate::fault::matches;
use crate::kind;
use crate::list;
use crate::request::Request;
use crate::time::wall_milliseconds;
use crate::webhook;
use crate::world::World;

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::EVENT, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let event_type = request.parameters.text("type")?;
    let types = request.parameters.texts("types")?.unwrap_or_default();
    if event_type.is_some() && !types.is_empty() {
        return Err(ApiError::value("types", "You may only specify one of these parameters: type, types."));
    }
    let delivered = request.parameters.flag("delivery_success")?;
    let wanted: Vec<String> = event_type.into_iter().chain(types).collect();
    list::page(world, request, kind::EVENT, |event| {
        let name = event["type"].as_str().unwrap_or_default();
        let pending = event["pending_webhooks"].as_u64().unwrap_or(0) > 0;
        (wanted.is_empty() || wanted.iter().any(|pattern| matches(pattern, name)))
            && delivered.is_none_or(|delivered| delivered != pending)
    })
}

/// `POST /v1/events/{}/retry`: sends it again, to one endpoint or to all that want it.
pub(crate) fn retry(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let event = world.find(kind::EVENT, request.id(), "id")?.clone();
    let endpoint = request.parameters.text("webhook_endpoint")?;
    request.parameters.text("account")?;
    request.parameters.finish()?;
    match endpoint {
        None => webhook::queue(world, &event),
        Some(endpoint) => {
            world.find(kind::WEBHOOK_ENDPOINT, &endpoint, "webhook_endpoint")?;
            webhook::send(world, &event, &endpoint, wall_milliseconds());
        }
    }
    world.find(kind::EVENT, request.id(), "id").cloned()
}
