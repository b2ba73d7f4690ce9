//! The test clock: months go by in one call.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::Refusal;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::api::v1::events::{EventBody, event_on_the_way};
use crate::app::{App, ClockMove};
use crate::auth::Scope;
use crate::service::Request;

/// How far a clock may be moved at once.
const FURTHEST: SignedDuration = SignedDuration::from_hours(24 * 366 * 10);

/// Where to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"to": "2027-01-01T00:00:00Z"}))]
pub(in crate::api) struct Advance {
    /// The time to come to; later than it is now, by ten years at the most.
    to: Time,
    /// What is used on the way: up to 4,000 events as `POST /v1/events` takes them, each with a `time` between now and then, at
    /// which it is recorded.
    #[serde(default)]
    #[schema(value_type = Vec<EventBody>, max_items = 4000)]
    events: Vec<Box<RawValue>>,
}

/// How many events may be on the way.
const MOST: usize = 4000;

/// The tenant's time.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TestClock {
    /// What time it is.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Whether it stands still until it is moved; before the first move it goes with the wall clock.
    held: bool,
    /// The events on the way that were refused. Absent where there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedEvent>,
}

/// An event on the way that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RefusedEvent {
    /// Its place in the request, counted from nought.
    index: usize,
    /// Why.
    problem: Problem,
}

/// The test clock
///
/// Of a tenant in test mode.
#[utoipa::path(get, path = "/v1/test_clock", operation_id = "get_test_clock", tag = "test clock",
    responses((status = 200, body = TestClock), (status = 409, description = "The tenant is live")))]
pub(in crate::api) async fn get(caller: Caller) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let clock = caller.require_test_clock()?;
    Ok(answer(StatusCode::OK, TestClock { now: clock.now(), held: clock.held_at().is_some(), refused: Vec::new() }))
}

/// Move the test clock
///
/// Everything that is due on the way is done, in order, before this answers; the sandbox's time moves along, and events that are
/// sent along are recorded at their times. From then on the tenant's time stands still until it is moved again: it cannot go back, nor run by itself.
#[utoipa::path(post, path = "/v1/test_clock/advance", operation_id = "advance_test_clock", tag = "test clock", request_body = Advance,
    responses((status = 200, body = TestClock), (status = 409, description = "The tenant is live")))]
pub(in crate::api) async fn advance(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<Advance>,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let clock = caller.require_test_clock()?;
    let (now, to) = (clock.now(), body.to.0);
    if to < now || to.duration_since(now) > FURTHEST {
        let detail = format!("the time is {now}; `to` is to be later, by ten years at the most");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_time", detail).at("/to"));
    }
    let (order, usage) = usage_on_the_way(&app, &caller, &body.events, (now, to)).await?;
    let (done, moved) = oneshot::channel();
    let asked = ClockMove { tenant: caller.tenant().clone(), to, usage, done };
    app.clock_moves.0.send(asked).await.map_err(|_| stopped())?;
    let refused = moved.await.ok().flatten().ok_or_else(stopped)?;
    let refused = refused.into_iter().filter_map(|refused| {
        let index = *order.get(refused.index)?;
        Some(RefusedEvent { index, problem: Problem::from(refused.refusal).below(&format!("/events/{index}")) })
    });
    Ok(answer(StatusCode::OK, TestClock { now: clock.now(), held: true, refused: refused.collect() }))
}

/// What records the events of a request, in the order of their times, with the place of each in the request.
async fn usage_on_the_way(
    app: &App,
    caller: &Caller,
    events: &[Box<RawValue>],
    between: (Timestamp, Timestamp),
) -> Result<(Vec<usize>, Vec<Request>), Problem> {
    if events.len() > MOST {
        return Err(Problem::invalid("invalid_value", format!("expected at most {MOST} events")).at("/events"));
    }
    let mut usage = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let request = event_on_the_way(app, caller, event.get().as_bytes(), between);
        usage.push((index, request.map_err(|problem| problem.below(&format!("/events/{index}")))?));
    }
    let keys: Vec<_> = usage.iter().map(|(_, request)| request.key.clone()).collect();
    if let Some(index) = app.service.first_unknown(&keys).await? {
        return Err(Problem::from(Refusal::UnknownCustomer).below(&format!("/events/{index}")));
    }
    usage.sort_by_key(|(index, request)| (request.now, *index));
    Ok(usage.into_iter().unzip())
}

fn stopped() -> Problem {
    let detail = "the clock stopped on the way; what was wrong is in the log: move it on from where it stands";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "test_clock_stopped", detail)
}
