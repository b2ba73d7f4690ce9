//! The test clock: months go by in one call.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::api::body::Body;
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::app::{App, ClockMove};
use crate::auth::Scope;

/// How far a clock may be moved at once.
const FURTHEST: SignedDuration = SignedDuration::from_hours(24 * 366 * 10);

/// Where to.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"to": "2027-01-01T00:00:00Z"}))]
pub(in crate::api) struct Advance {
    /// The time to come to; later than it is now, by ten years at the most.
    to: Time,
}

/// The tenant's time.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TestClock {
    /// What time it is.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Whether it stands still until it is moved; before the first move it goes with the wall clock.
    held: bool,
}

/// The test clock
///
/// Of a tenant in test mode.
#[utoipa::path(get, path = "/v1/test_clock", operation_id = "get_test_clock", tag = "test clock",
    responses((status = 200, body = TestClock), (status = 409, description = "The tenant is live")))]
pub(in crate::api) async fn get(caller: Caller) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let clock = caller.require_test_clock()?;
    Ok(answer(StatusCode::OK, TestClock { now: clock.now(), held: clock.held_at().is_some() }))
}

/// Move the test clock
///
/// Everything that is due on the way is done, in order, before this answers; the sandbox's time moves along. From then on
/// the tenant's time stands still until it is moved again: it cannot go back, nor run by itself.
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
    let (done, moved) = oneshot::channel();
    let asked = ClockMove { tenant: caller.tenant().clone(), to, done };
    app.clock_moves.0.send(asked).await.map_err(|_| stopped())?;
    if moved.await != Ok(true) {
        return Err(stopped());
    }
    Ok(answer(StatusCode::OK, TestClock { now: clock.now(), held: true }))
}

fn stopped() -> Problem {
    let detail = "the clock stopped on the way; what was wrong is in the log: move it on from where it stands";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "test_clock_stopped", detail)
}
