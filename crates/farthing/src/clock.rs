//! The clock, and the ids that depend on it: the only place where the wall clock is read and random ids are drawn.
//! Everything else is handed the time, so that tests can set it.

use std::fmt::Debug;

use jiff::Timestamp;
use uuid::Uuid;

/// Where time and new ids come from.
pub trait Clock: Send + Sync + Debug {
    /// The time, to the microsecond, as the store keeps it.
    fn now(&self) -> Timestamp;

    /// The time on the wall, which no test clock moves: what a signature's age and a token's expiry are judged by.
    fn wall(&self) -> Timestamp {
        SystemClock.now()
    }

    /// A new id: uuid v7, so that rows made together lie together.
    fn new_id(&self) -> Uuid;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where random ids are drawn")]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}
