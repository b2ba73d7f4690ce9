//! Test clocks (docs.stripe.com/api/test_clocks): the time of the customers that are made with one.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::period::{DAY, Interval};
use crate::request::Request;
use crate::time;
use crate::world::World;

/// How long Stripe keeps a clock.
const KEPT: i64 = 7 * DAY;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let frozen = parameters.required_integer("frozen_time")?;
    let now = world.now();
    let id = world.new_id(kind::TEST_CLOCK);
    let mut clock = json!({
        "id": id, "object": "test_helpers.test_clock", "created": now, "deletes_after": now + KEPT, "frozen_time": frozen,
        "livemode": false, "name": null, "status": "ready", "status_details": {},
    });
    parameters.copy_texts(&mut clock, &["name"])?;
    parameters.finish()?;
    world.save(kind::TEST_CLOCK, &clock);
    world.announce("test_helpers.test_clock.created", &clock);
    Ok(clock)
}

/// Answers `advancing`, as Stripe does, but everything is done by then: the next look at the clock sees it `ready`.
pub(crate) fn advance(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let target = request.parameters.required_integer("frozen_time")?;
    request.parameters.finish()?;
    let mut clock = world.find(kind::TEST_CLOCK, request.id(), "id")?.clone();
    let frozen = clock["frozen_time"].as_i64().unwrap_or(0);
    if target <= frozen {
        let message = "Test clock's frozen_time must be advanced to a time in its future.";
        return Err(ApiError::value("frozen_time", message));
    }
    if target > furthest(world, request.id(), frozen) {
        let message = "You can only advance a test clock by two intervals of its shortest subscription at a time, or by two \
                       years if it has no subscription.";
        return Err(ApiError::value("frozen_time", message));
    }
    clock["status"] = json!("advancing");
    clock["status_details"] = json!({"advancing": {"target_frozen_time": target}});
    world.save(kind::TEST_CLOCK, &clock);
    world.announce("test_helpers.test_clock.advancing", &clock);
    let cause = world.cause.take();
    time::run_until(world, Some(request.id()), target);
    let mut ready = clock.clone();
    ready["frozen_time"] = json!(target);
    ready["status"] = json!("ready");
    ready["status_details"] = json!({});
    world.save(kind::TEST_CLOCK, &ready);
    world.announce("test_helpers.test_clock.ready", &ready);
    world.cause = cause;
    Ok(clock)
}

/// The furthest second that a clock can be moved to at once.
fn furthest(world: &World, clock: &str, frozen: i64) -> i64 {
    let shortest = world
        .all(kind::SUBSCRIPTION)
        .filter(|subscription| {
            let over = ["canceled", "incomplete_expired"].iter().any(|status| subscription["status"] == *status);
            subscription["test_clock"] == clock && !over
        })
        .filter_map(|subscription| Interval::of(&subscription["items"]["data"].get(0)?["price"]))
        .min_by_key(Interval::length);
    // Two intervals from any anchor are as long as two of the longest months.
    match shortest {
        Some(interval) => interval.start(frozen, 2).max(frozen + 2 * interval.length()),
        None => Interval::months(24).start(frozen, 1),
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::TEST_CLOCK, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    list::page(world, request, kind::TEST_CLOCK, |_| true)
}

/// Deletes a clock with its customers and their subscriptions.
pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let clock = world.find(kind::TEST_CLOCK, request.id(), "id")?.clone();
    let customers: Vec<String> = world
        .all(kind::CUSTOMER)
        .filter(|customer| customer["test_clock"] == request.id())
        .filter_map(|customer| customer["id"].as_str().map(str::to_owned))
        .collect();
    for customer in customers {
        world.delete(kind::CUSTOMER, &customer);
    }
    for kind in [kind::SUBSCRIPTION, kind::INVOICE, kind::INVOICE_ITEM] {
        let gone: Vec<String> = world
            .all(kind)
            .filter(|object| object["test_clock"] == request.id())
            .filter_map(|object| object["id"].as_str().map(str::to_owned))
            .collect();
        for id in gone {
            world.delete(kind, &id);
        }
    }
    world.announce("test_helpers.test_clock.deleted", &clock);
    Ok(world.delete(kind::TEST_CLOCK, request.id()))
}
