//! The clock, and the ids that depend on it: the only place where the wall clock is read and random ids are drawn.
//! Everything else is handed the time, so that tests can set it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

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

/// The clock of one tenant: the server's, unless it is held at a time of its own. Only a tenant in test mode has it held.
#[derive(Debug)]
pub struct TenantClock {
    server: Arc<dyn Clock>,
    /// Microseconds since 1970; `i64::MIN` while it is not held.
    held: AtomicI64,
}

impl TenantClock {
    /// A clock that goes with the server's, or is held at this time.
    #[must_use]
    pub fn new(server: Arc<dyn Clock>, held: Option<Timestamp>) -> Self {
        Self { server, held: AtomicI64::new(held.map_or(i64::MIN, Timestamp::as_microsecond)) }
    }

    /// The tenant's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.held_at().unwrap_or_else(|| self.server.now())
    }

    /// Where it is held.
    #[must_use]
    pub fn held_at(&self) -> Option<Timestamp> {
        let held = self.held.load(Ordering::Acquire);
        Some(held).filter(|held| *held != i64::MIN).and_then(|held| Timestamp::from_microsecond(held).ok())
    }

    /// Holds it at this time from now on.
    pub fn hold(&self, at: Timestamp) {
        self.held.store(at.as_microsecond(), Ordering::Release);
    }
}
