//! Time: what is due, and the one loop that does it. An object says in `FINDERS` what of it is due when.

use serde_json::Value;

use crate::kind;
use crate::objects::invoices::collection;
use crate::objects::{balance_transactions, checkout_sessions, payment_intents, refunds, subscriptions};
use crate::world::World;

/// Something to be done at a time.
pub(crate) struct Due {
    /// When, in unix seconds.
    pub(crate) at: i64,
    /// What is done, for the log, and to tell it from others: `invoice.finalize`.
    pub(crate) what: &'static str,
    /// The object's id.
    pub(crate) id: String,
    /// The id of the test clock whose time counts. None: the world's time.
    pub(crate) clock: Option<String>,
    /// Does it. It must change what made it due.
    pub(crate) run: fn(&mut World, &str),
}

/// Adds what of a kind of object is due, and when, whether or not that time has come.
type Finder = fn(&World, &mut Vec<Due>);

/// One line for each kind of object that does something with time.
const FINDERS: &[Finder] = &[
    payment_intents::due,
    refunds::due,
    balance_transactions::due,
    subscriptions::cycle::due,
    collection::due,
    checkout_sessions::due,
];

/// More than this many things at once are a mistake: something does not stop being due.
const MOST: usize = 100_000;

/// Does everything that is due until a second, in order: of the world's time (`clock` none), or of one test clock.
/// During each, `world.now()`, or the test clock's `frozen_time`, is its own time.
pub(crate) fn run_until(world: &mut World, clock: Option<&str>, until: i64) {
    let mut last: Option<(i64, &'static str, String)> = None;
    for _ in 0..MOST {
        let Some(due) = next(world, clock).filter(|due| due.at <= until) else { break };
        if last.as_ref().is_some_and(|(at, what, id)| *at == due.at && *what == due.what && *id == due.id) {
            tracing::error!(event = "still_due", what = due.what, id = due.id);
            break;
        }
        stand(world, clock, due.at);
        tracing::info!(event = "due", world = world.name, what = due.what, id = due.id, at = due.at);
        (due.run)(world, &due.id);
        last = Some((due.at, due.what, due.id));
    }
    world.moment = None;
}

fn next(world: &World, clock: Option<&str>) -> Option<Due> {
    let mut found = Vec::new();
    for finder in FINDERS {
        finder(world, &mut found);
    }
    // The first of those at the same second: objects are found in the order of `FINDERS` and of their making.
    found.into_iter().filter(|due| due.clock.as_deref() == clock).min_by_key(|due| due.at)
}

/// Sets the time to that of something due; never back.
fn stand(world: &mut World, clock: Option<&str>, at: i64) {
    match clock {
        None => world.moment = Some(world.moment.map_or(at, |moment| moment.max(at))),
        Some(id) => {
            if let Some(mut clock) = world.get(kind::TEST_CLOCK, id).cloned()
                && clock["frozen_time"].as_i64().is_some_and(|time| time < at)
            {
                clock["frozen_time"] = Value::from(at);
                world.save(kind::TEST_CLOCK, &clock);
            }
        }
    }
}

/// Does what is due by the world's own time, frozen or not.
pub(crate) fn run_due(world: &mut World) {
    let now = world.now();
    run_until(world, None, now);
}

/// The wall clock in unix milliseconds.
#[expect(clippy::disallowed_methods, reason = "the one place of the sandbox where the wall clock is read")]
pub(crate) fn wall_milliseconds() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
