//! What is due, done in the foreground for whoever asked for it, and what came of it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{AT_ONCE, JobError, Jobs, Passed};
use crate::store::{EventState, Whose};

/// What came of doing what was due.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Customers who were told that time has passed.
    pub customers: Passed,
    /// Effects at the provider that ended, and the others by the code of the reason.
    pub effects: Passed,
    /// Provider events that were applied, and the others by how they stand.
    pub events: Passed,
}

impl Done {
    /// How many were dealt with, one way or another.
    #[must_use]
    pub fn all(&self) -> u64 {
        let each = [&self.customers, &self.effects, &self.events];
        each.iter().map(|part| part.went_on + part.stuck()).sum()
    }

    /// How many did not go on.
    #[must_use]
    pub fn stuck(&self) -> u64 {
        self.customers.stuck() + self.effects.stuck() + self.events.stuck()
    }
}

impl Jobs {
    /// Does what was due by `until`, at the most what is due now, of every tenant, each by its own time, until nothing is left
    /// of it. `progress` hears of it as it goes; what `done` says holds also where this is dropped on the way.
    ///
    /// # Errors
    /// What the store fails with. What is not done stays due.
    pub async fn do_due(
        &self,
        until: Option<Timestamp>,
        done: &mut Done,
        progress: &mut (dyn FnMut(&Done) + Send),
    ) -> Result<(), JobError> {
        self.read_clocks().await;
        for (whose, _guard) in self.at_rest() {
            // What customers are told leads to effects, effects to events, and these to customers again.
            loop {
                let before = done.all();
                self.tell_all(&whose, until, done, progress).await?;
                self.do_all_effects(&whose, until, done, progress).await?;
                self.apply_all_events(&whose, until, done, progress).await?;
                if done.all() == before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// By when something of theirs is to be due.
    fn by(&self, whose: &Whose, until: Option<Timestamp>) -> Timestamp {
        let now = self.time_of(whose);
        until.map_or(now, |until| until.min(now))
    }

    async fn tell_all(
        &self,
        whose: &Whose,
        until: Option<Timestamp>,
        done: &mut Done,
        progress: &mut (dyn FnMut(&Done) + Send),
    ) -> Result<(), JobError> {
        let mut passed = std::mem::take(&mut done.customers);
        let mut tell = |passed: &Passed| {
            done.customers.clone_from(passed);
            progress(done);
        };
        let told = self.pass_time_until(whose, self.by(whose, until), &mut passed, &mut tell).await;
        done.customers = passed;
        told
    }

    async fn do_all_effects(
        &self,
        whose: &Whose,
        until: Option<Timestamp>,
        done: &mut Done,
        progress: &mut (dyn FnMut(&Done) + Send),
    ) -> Result<(), JobError> {
        loop {
            let claimed = self.claim_effects_by(whose, self.by(whose, until), AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            for postponed in join_all(claimed.iter().map(|row| self.do_effect(row))).await {
                done.effects.count(postponed);
            }
            progress(done);
        }
    }

    async fn apply_all_events(
        &self,
        whose: &Whose,
        until: Option<Timestamp>,
        done: &mut Done,
        progress: &mut (dyn FnMut(&Done) + Send),
    ) -> Result<(), JobError> {
        loop {
            let claimed = self.claim_events_by(whose, self.by(whose, until), AT_ONCE).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            for state in join_all(claimed.iter().map(|event| self.apply_event(event))).await {
                done.events.count(match state {
                    EventState::Applied | EventState::Ignored => None,
                    EventState::Due => Some("postponed"),
                    EventState::Dead => Some("given_up"),
                });
            }
            progress(done);
        }
    }
}

impl Passed {
    /// Counts one more: that went on, or did not for a reason.
    fn count(&mut self, stuck: Option<&'static str>) {
        match stuck {
            None => self.went_on += 1,
            Some(code) => *self.stuck.entry(code).or_default() += 1,
        }
    }

    /// Reasons of several parts together, with how many each.
    #[must_use]
    pub fn reasons<'a>(parts: impl IntoIterator<Item = &'a Self>) -> BTreeMap<&'static str, u64> {
        let mut reasons = BTreeMap::new();
        for (code, many) in parts.into_iter().flat_map(|part| &part.stuck) {
            *reasons.entry(*code).or_default() += many;
        }
        reasons
    }
}
