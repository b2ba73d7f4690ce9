//! Jobs: what is done later, or again, until it is done: effects at the provider, events that it told of, and the
//! comparison of its books with ours.
//!
//! What is due stands in the store, so any server does it, once, and none is needed for it to be remembered. Every
//! result comes back as a command.

mod due;
mod event;
mod foreground;
mod invoice;
mod outbox;
mod payer;
mod prices;
mod reconcile;
mod reconcile_subscriptions;
mod subscription;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::Command;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::app::{App, TenantRuntime};
use crate::config::Mode;
use crate::provider::{Exchange, Provider};
use crate::service::{Answer, Request, ServiceError};
use crate::store::{CustomerKey, EffectRow, ExchangeRow, SettledEffect, StoreError, Whose};

pub use due::Passed;
pub use foreground::Done;
pub use reconcile::{Difference, Finding, Reconciled};

/// The provider of each tenant that has one.
pub type Providers = BTreeMap<Arc<str>, Arc<dyn Provider>>;

/// Keeps a tenant's clock where it is.
type Guard = Arc<tokio::sync::OwnedRwLockReadGuard<()>>;

/// How long whoever claimed something has it before others may try: longer than all attempts of one call together.
const LEASE: SignedDuration = SignedDuration::from_secs(120);
/// How many effects, and how many events, are under way at once.
const AT_ONCE: i64 = 32;
/// How often one looks for what is due when nobody says so.
const TICK: Duration = Duration::from_secs(1);
/// How often a provider is asked what happened.
const RECONCILE: Duration = Duration::from_secs(300);
/// How long the raw words of a provider are kept: its answers, and events that need nothing more.
const KEEP_RAW: SignedDuration = SignedDuration::from_hours(24 * 30);
const SHORTEST_BACKOFF_SECONDS: i64 = 5;
const LONGEST_BACKOFF_SECONDS: i64 = 3_600;

/// Who does the jobs.
#[derive(Clone, Debug)]
pub struct Jobs {
    app: Arc<App>,
    providers: Arc<Providers>,
    /// The tenants whose prices the provider has.
    offered: Arc<tokio::sync::Mutex<BTreeSet<Arc<str>>>>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service had no answer, or refused.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The provider has not answered for certain, or not at all. The text is for the log.
    #[error("provider: {0}")]
    Provider(String),
    /// The tenant has no provider that could do it.
    #[error("the tenant has no provider that can do this")]
    NoProvider,
    /// What it is about is not there.
    #[error("{0} is not there")]
    Missing(&'static str),
}

impl JobError {
    /// A word for it that never changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Service(ServiceError::Refused(refusal)) => refusal.code(),
            Self::Service(_) | Self::Store(_) => "unavailable",
            Self::Provider(_) => "provider_unavailable",
            Self::NoProvider => "no_provider",
            Self::Missing(_) => "missing",
        }
    }
}

impl Jobs {
    /// Jobs on an app, with the providers of its tenants.
    #[must_use]
    pub fn new(app: Arc<App>, providers: Providers) -> Self {
        Self { app, providers: Arc::new(providers), offered: Arc::default() }
    }

    /// Does what is due, as it becomes due. Ends when it is dropped; what is under way is then done by the next.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().run_effects());
        tasks.spawn(self.clone().run_events());
        tasks.spawn(self.clone().run_dues());
        tasks.spawn(self.clone().run_held_dues());
        tasks.spawn(self.clone().run_clock_moves());
        tasks.spawn(self.clone().run_offers());
        tasks.spawn(self.run_reconciliation());
        while tasks.join_next().await.is_some() {}
    }

    /// Each effect has a task of its own, so that one whose provider does not answer keeps no other waiting.
    async fn run_effects(self) {
        let mut under_way = JoinSet::new();
        loop {
            for (whose, guard) in self.at_rest() {
                let claimed = self.claim_effects_of(&whose, room(&under_way)).await;
                for row in told(claimed) {
                    let (jobs, guard) = (self.clone(), guard.clone());
                    under_way.spawn(async move {
                        jobs.do_effect(&row).await;
                        drop(guard);
                    });
                }
            }
            until_more(self.app.outbox.written(), &mut under_way).await;
        }
    }

    async fn run_events(self) {
        let mut under_way = JoinSet::new();
        loop {
            for (whose, guard) in self.at_rest() {
                let claimed = self.claim_events_of(&whose, room(&under_way)).await;
                for event in told(claimed) {
                    let (jobs, guard) = (self.clone(), guard.clone());
                    under_way.spawn(async move {
                        jobs.apply_event(&event).await;
                        drop(guard);
                    });
                }
            }
            until_more(self.app.inbox.notified(), &mut under_way).await;
        }
    }

    async fn run_dues(self) {
        loop {
            let passed = self.pass_time().await;
            if passed.unwrap_or_else(|error| dues_failed(&error)) == 0 {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// The same for tenants whose clock is held, which wait for nobody else's.
    async fn run_held_dues(self) {
        loop {
            self.read_clocks().await;
            let mut passed = 0;
            for (whose, guard) in self.held_at_rest() {
                passed += self.pass_time_of(&whose).await.unwrap_or_else(|error| dues_failed(&error));
                drop(guard);
            }
            if passed == 0 {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Whose work may be done now: all tenants whose clock is not held, and each of the others unless its clock is being
    /// moved; the guard keeps it from being moved.
    fn at_rest(&self) -> Vec<(Whose, Option<Guard>)> {
        let held = self.held_at_rest().into_iter().map(|(whose, guard)| (whose, Some(guard)));
        std::iter::once((self.unheld(), None)).chain(held).collect()
    }

    fn held_at_rest(&self) -> Vec<(Whose, Guard)> {
        let held = self.app.tenants.iter().filter(|(_, tenant)| tenant.clock.held_at().is_some());
        let resting = held.filter_map(|(name, tenant)| {
            let guard = tenant.moving.clone().try_read_owned().ok()?;
            Some((Whose::Held(name.clone()), Arc::new(guard)))
        });
        resting.collect()
    }

    /// The tenants of this server whose clock is not held.
    fn unheld(&self) -> Whose {
        let unheld = self.app.tenants.iter().filter(|(_, tenant)| tenant.clock.held_at().is_none());
        Whose::Unheld(unheld.map(|(name, _)| name.clone()).collect())
    }

    /// Takes over where another server has moved test clocks to.
    async fn read_clocks(&self) {
        for (name, tenant) in self.app.tenants.iter().filter(|(_, tenant)| tenant.mode == Mode::Test) {
            let Ok(_here) = tenant.moving.try_read() else { continue };
            match self.app.store.test_clock(name).await {
                Ok(Some(at)) => tenant.clock.hold(at),
                Ok(None) => {}
                Err(error) => tracing::error!(event = "store_failed", %error),
            }
        }
    }

    async fn run_clock_moves(self) {
        let Some(mut moves) = self.app.clock_moves.1.lock().await.take() else { return };
        while let Some(asked) = moves.recv().await {
            let moved = self.advance(&asked.tenant, asked.to, asked.usage).await;
            if let Err(error) = &moved {
                tracing::error!(event = "test_clock_stopped", tenant = &*asked.tenant, %error);
            }
            // Whoever asked may have gone.
            let _ = asked.done.send(moved.ok());
        }
    }

    async fn run_reconciliation(self) {
        loop {
            tokio::time::sleep(RECONCILE).await;
            for tenant in self.providers.keys() {
                if let Err(error) = self.fetch_events(tenant).await {
                    tracing::warn!(event = "reconciliation_failed", tenant = &**tenant, %error);
                }
            }
            let Ok(before) = self.app.clock.now().checked_sub(KEEP_RAW) else { continue };
            // Raw answers and events name people, and are of use to nobody after a while.
            let store = &self.app.store;
            for forgotten in [store.forget_events(before).await, store.forget_exchanges(before).await] {
                if let Err(error) = forgotten {
                    tracing::warn!(event = "upkeep_failed", %error);
                }
            }
        }
    }

    fn tenant(&self, name: &str) -> Result<&Arc<TenantRuntime>, JobError> {
        self.app.tenants.get(name).ok_or(JobError::Missing("the tenant"))
    }

    /// The time by which something of theirs is due.
    fn time_of(&self, whose: &Whose) -> Timestamp {
        match whose {
            Whose::Unheld(_) => self.app.clock.now(),
            Whose::Held(tenant) => self.now(tenant),
        }
    }

    /// A tenant's time.
    fn now(&self, tenant: &str) -> Timestamp {
        self.app.now(tenant)
    }

    fn provider(&self, tenant: &str) -> Result<&Arc<dyn Provider>, JobError> {
        self.providers.get(tenant).ok_or(JobError::NoProvider)
    }

    /// Brings a command to a customer.
    async fn execute(
        &self,
        tenant: &str,
        customer: &str,
        command: Command,
        settles: Option<SettledEffect>,
    ) -> Result<Answer, JobError> {
        let catalog = self.tenant(tenant)?.catalog.clone();
        let key = CustomerKey::new(&catalog.tenant, customer);
        let (new_customer, now) = (self.app.clock.new_id(), self.now(tenant));
        let request = Request { catalog, key, command, operation: None, settles, new_customer, now };
        let answer = self.app.service.execute(request).await?;
        if !answer.effects.is_empty() {
            self.app.outbox.wake();
        }
        Ok(answer)
    }

    /// Keeps what was asked of the provider for an effect, before anything follows from it.
    async fn record(&self, row: &EffectRow, exchanges: Vec<Exchange>) -> Result<(), JobError> {
        // A hundred for each attempt: no operation takes more calls.
        let first = row.attempts.saturating_mul(100);
        let at = self.now(&row.tenant);
        let kept = self.app.store.exchanges(&self.scope(&row.tenant), (row.shard_key, row.id)).await?;
        let after = kept.last().map_or(first, |last| last.number.saturating_add(1)).max(first);
        let rows: Vec<ExchangeRow> = (after..)
            .zip(exchanges)
            .map(|(number, exchange)| ExchangeRow {
                number,
                request: exchange.request,
                status: exchange.status.map(i32::from),
                request_id: exchange.request_id,
                replayed: exchange.replayed,
                reply: exchange.reply,
                at,
            })
            .collect();
        Ok(self.app.store.record_exchanges(row, &rows).await?)
    }

    fn scope(&self, tenant: &Arc<str>) -> crate::store::Scope {
        crate::store::Scope { tenant: tenant.clone(), customer: None }
    }
}

/// How many more may be under way.
fn room(under_way: &JoinSet<()>) -> i64 {
    AT_ONCE.saturating_sub(i64::try_from(under_way.len()).unwrap_or(AT_ONCE))
}

/// What was claimed; nothing, and a line in the log, where the store failed.
fn told<T>(claimed: Result<Vec<T>, StoreError>) -> Vec<T> {
    claimed.unwrap_or_else(|error| {
        tracing::error!(event = "store_failed", %error);
        Vec::new()
    })
}

/// Nobody was told, and a line in the log says why.
fn dues_failed(error: &JobError) -> u64 {
    tracing::error!(event = "dues_failed", %error);
    0
}

/// Ends when something was written, when something has ended, or after a while.
async fn until_more(written: impl Future<Output = ()>, under_way: &mut JoinSet<()>) {
    tokio::select! {
        () = written => {}
        Some(_) = under_way.join_next() => {}
        () = tokio::time::sleep(TICK) => {}
    }
}

/// When to try again what was tried so often: 5 s, 10 s, 20 s, ... up to an hour.
fn backoff(now: Timestamp, attempts: i32) -> Timestamp {
    let doubled = u32::try_from(attempts).ok().and_then(|attempts| 2_i64.checked_pow(attempts));
    let seconds = doubled.and_then(|factor| factor.checked_mul(SHORTEST_BACKOFF_SECONDS)).unwrap_or(i64::MAX);
    now.checked_add(SignedDuration::from_secs(seconds.min(LONGEST_BACKOFF_SECONDS))).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_rarer_up_to_one_an_hour() {
        let now: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let waits = [0, 1, 2, 9, 10, 31, i32::MAX].map(|attempts| backoff(now, attempts).duration_since(now).as_secs());
        assert_eq!(waits, [5, 10, 20, 2_560, 3_600, 3_600, 3_600]);
    }
}
