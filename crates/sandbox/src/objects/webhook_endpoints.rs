//! Webhook endpoints (docs.stripe.com/api/webhook_endpoints). The secret is told once, at creation.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let url = url(&parameters.required_text("url")?)?;
    let events = enabled_events(request)?.ok_or_else(|| parameters.missing("enabled_events"))?;
    let version = parameters.text("api_version")?;
    if let Some(version) = &version {
        crate::server::check_version(version).map_err(|error| error.param("api_version"))?;
    }
    let id = world.new_id(kind::WEBHOOK_ENDPOINT);
    let secret = format!("whsec_{}", world.ids.text(32));
    let mut endpoint = json!({
        "id": id, "object": "webhook_endpoint", "api_version": version, "application": null, "created": world.now(),
        "description": null, "enabled_events": events, "livemode": false, "metadata": {}, "status": "enabled", "url": url,
    });
    parameters.flag("connect")?;
    parameters.copy_texts(&mut endpoint, &["description"])?;
    parameters.copy_metadata(&mut endpoint)?;
    parameters.finish()?;
    world.save(kind::WEBHOOK_ENDPOINT, &endpoint);
    world.hide(kind::WEBHOOK_ENDPOINT, &id, json!({ "secret": secret }));
    endpoint["secret"] = json!(secret);
    Ok(endpoint)
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut endpoint = world.find(kind::WEBHOOK_ENDPOINT, request.id(), "id")?.clone();
    if let Some(given) = parameters.text("url")? {
        endpoint["url"] = json!(url(&given)?);
    }
    if let Some(events) = enabled_events(request)? {
        endpoint["enabled_events"] = json!(events);
    }
    if let Some(disabled) = parameters.flag("disabled")? {
        endpoint["status"] = json!(if disabled { "disabled" } else { "enabled" });
    }
    parameters.copy_texts(&mut endpoint, &["description"])?;
    parameters.copy_metadata(&mut endpoint)?;
    parameters.finish()?;
    world.save(kind::WEBHOOK_ENDPOINT, &endpoint);
    Ok(endpoint)
}

fn url(url: &str) -> Result<String, ApiError> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(url.to_owned());
    }
    Err(ApiError::parameter("url_invalid", "url", "Invalid URL: An explicit scheme (such as https) must be provided."))
}

fn enabled_events(request: &Request) -> Result<Option<Vec<String>>, ApiError> {
    let events = request.parameters.texts("enabled_events")?;
    if events.as_ref().is_some_and(Vec::is_empty) {
        let message = "Invalid array: enabled_events must have at least one element";
        return Err(ApiError::parameter("parameter_invalid_empty", "enabled_events", message));
    }
    Ok(events)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::WEBHOOK_ENDPOINT, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    list::page(world, request, kind::WEBHOOK_ENDPOINT, |_| true)
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::WEBHOOK_ENDPOINT, request.id(), "id")?;
    Ok(world.delete(kind::WEBHOOK_ENDPOINT, request.id()))
}
