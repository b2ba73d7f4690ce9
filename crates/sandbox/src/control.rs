//! The sandbox's own API, at `/_sandbox`: faults, the clock, what was asked, and prices with ids of one's own.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::fault::Fault;
use crate::objects::prices;
use crate::request::Request;
use crate::time::{self, wall_milliseconds};
use crate::world::World;

/// `GET /_sandbox/faults`: those that have not happened yet.
pub(crate) fn list_faults(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    Ok(json!({"object": "list", "data": world.faults.iter().map(Fault::render).collect::<Vec<_>>()}))
}

/// `POST /_sandbox/faults`: adds one.
pub(crate) fn add_fault(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let fault = Fault::read(&request.parameters)?;
    let answer = fault.render();
    world.faults.push(fault);
    Ok(answer)
}

/// `DELETE /_sandbox/faults`: nothing goes wrong any more.
pub(crate) fn clear_faults(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.faults.clear();
    Ok(json!({"object": "list", "data": []}))
}

/// `GET /_sandbox/requests`: the latest requests, newest first.
pub(crate) fn list_requests(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    Ok(json!({"object": "list", "data": world.requests.iter().rev().collect::<Vec<_>>()}))
}

/// `GET /_sandbox/clock`.
pub(crate) fn read_clock(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    Ok(clock(world))
}

/// `POST /_sandbox/clock {"now": unix}`: stops the world's clock there, and does everything that is due on the way.
/// `{"now": null}` lets it go with the wall clock again.
pub(crate) fn set_clock(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    if !parameters.has("now") {
        return Err(parameters.missing("now"));
    }
    let now = if parameters.is_unset("now") { None } else { parameters.integer("now")? };
    parameters.unsettable_text("now")?;
    parameters.finish()?;
    if now.is_some_and(|now| world.frozen.is_some_and(|frozen| now < frozen)) {
        return Err(ApiError::value("now", "A frozen clock can only be moved forward."));
    }
    if let Some(now) = now {
        let start = world.now();
        world.moment = Some(start.min(now));
        let cause = world.cause.take();
        time::run_until(world, None, now);
        world.cause = cause;
    }
    world.frozen = now;
    world.save_state();
    Ok(clock(world))
}

fn clock(world: &World) -> Value {
    json!({"now": world.now(), "frozen": world.frozen.is_some(), "wall": wall_milliseconds() / 1000})
}

/// `POST /_sandbox/prices {"id", "product_data": {"name"}, ...}`: a price of this very id, made with the product that it is for,
/// or changed to what is said now. Stripe draws its ids itself; a program whose file names prices wants to find them here too.
pub(crate) fn put_price(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    prices::put(world, request)
}
