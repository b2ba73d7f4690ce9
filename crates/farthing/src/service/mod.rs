//! The service: every change of a customer's state goes through `execute`, which loads, decides and commits.
//!
//! Commands are queued by lane (a range of buckets) and decided in arrival order, many in one transaction; a caller is
//! answered when its command is durable. Checks are gathered in the same way, and what they ask of is read at once. No rule
//! is decided here: that is the engine's.

mod answer;
mod cache;
mod check;
mod lane;
mod round;

use std::sync::Arc;

use engine::{Catalog, Check, CheckRequest, Command, Customer, Refusal};
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use answer::Answer;

use crate::store::{CustomerKey, SettledEffect, Store, StoreError};
use cache::Caches;
use check::CheckJob;
use lane::{Job, Lane};

/// How a batch is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Commit {
    /// Decided on customers as they are remembered, written in one statement that fails as a whole where one has moved
    /// on, and then done again under lock.
    #[default]
    Optimistic,
    /// Always under lock: the plain way, and the measure of the other.
    Locked,
}

/// How the service is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many batches may be under way at once; each has a range of buckets of its own.
    pub lanes: usize,
    /// How batches are committed.
    pub commit: Commit,
    /// How many commands may wait in each lane; beyond that callers are told to come back.
    pub queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lanes: 1, commit: Commit::default(), queue: 8192 }
    }
}

/// A command for one customer.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tenant's rules.
    pub catalog: Arc<Catalog>,
    /// The customer.
    pub key: CustomerKey,
    /// What is asked.
    pub command: Command,
    /// For a keyed command other than a charge: the id that its key makes, and a hash of what is asked.
    pub operation: Option<(Uuid, i64)>,
    /// The effect whose result the command brings.
    pub settles: Option<SettledEffect>,
    /// The id of the customer's rows, should the command create it.
    pub new_customer: Uuid,
    /// When it was asked.
    pub now: Timestamp,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The engine refused it; nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Too many commands are waiting; nothing has changed.
    #[error("too many commands are waiting")]
    Busy,
    /// The server is stopping; nothing has changed.
    #[error("the server is stopping")]
    Stopping,
    /// The store failed: whether it was done is unknown, and asking again with the same operation key will tell.
    #[error("the store failed")]
    Unavailable,
}

/// The way to change customers and to check them.
pub struct Service {
    store: Arc<dyn Store>,
    caches: Arc<Caches>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
    senders: std::sync::RwLock<Option<Senders>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Senders {
    lanes: Vec<mpsc::Sender<Job>>,
    checks: mpsc::Sender<CheckJob>,
}

impl Service {
    /// Starts the lanes on a store.
    #[must_use]
    pub fn start(store: &Arc<dyn Store>, settings: Settings) -> Self {
        let caches = Arc::new(Caches::default());
        let mut tasks = Vec::new();
        let mut lanes = Vec::new();
        for _ in 0..settings.lanes.max(1) {
            let (sender, receiver) = mpsc::channel(settings.queue);
            let lane = Lane::new(store.clone(), caches.clone(), settings.commit);
            tasks.push(tokio::spawn(lane.run(receiver)));
            lanes.push(sender);
        }
        let (checks, receiver) = mpsc::channel(settings.queue);
        tasks.push(tokio::spawn(check::run(store.clone(), caches.clone(), receiver)));
        let senders = std::sync::RwLock::new(Some(Senders { lanes, checks }));
        Self { store: store.clone(), caches, lanes: Mutex::new(tasks), senders }
    }

    /// Does a command, durably, or not at all.
    ///
    /// # Errors
    /// As `ServiceError` says.
    pub async fn execute(&self, request: Request) -> Result<Answer, ServiceError> {
        let sender = {
            let senders = self.senders.read().map_err(|_| ServiceError::Stopping)?;
            let lanes = &senders.as_ref().ok_or(ServiceError::Stopping)?.lanes;
            let bucket = usize::try_from(request.key.shard_key).unwrap_or_default();
            let buckets = usize::try_from(engine::id::SHARD_BUCKETS).unwrap_or(1);
            lanes.get(bucket * lanes.len() / buckets).ok_or(ServiceError::Stopping)?.clone()
        };
        let (reply, answer) = oneshot::channel();
        sender.try_send(Job { request, reply }).map_err(queue_error)?;
        answer.await.map_err(|_| ServiceError::Unavailable)?
    }

    /// What a charge would come to. True when given.
    ///
    /// # Errors
    /// `Refused` only for what no customer could do; `Busy`, `Stopping` and `Unavailable`.
    pub async fn check(
        &self,
        catalog: Arc<Catalog>,
        key: CustomerKey,
        request: CheckRequest,
        now: Timestamp,
    ) -> Result<Check, ServiceError> {
        let customer = self.current(key).await?;
        Ok(engine::check(&catalog, &customer, &request, now)?)
    }

    /// A customer as it is now.
    ///
    /// # Errors
    /// `Refused` where there is none; `Busy`, `Stopping` and `Unavailable`.
    pub async fn current(&self, key: CustomerKey) -> Result<Arc<Customer>, ServiceError> {
        let sender = {
            let senders = self.senders.read().map_err(|_| ServiceError::Stopping)?;
            senders.as_ref().ok_or(ServiceError::Stopping)?.checks.clone()
        };
        let (reply, answer) = oneshot::channel();
        sender.try_send(CheckJob { key, reply }).map_err(queue_error)?;
        answer.await.map_err(|_| ServiceError::Unavailable)?
    }

    /// The first of these customers that does not exist, so that a request over many can be refused before any of it is
    /// done.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn first_unknown(&self, keys: &[CustomerKey]) -> Result<Option<usize>, ServiceError> {
        let distinct: std::collections::BTreeSet<&CustomerKey> = keys.iter().collect();
        let known = distinct.into_iter().map(|key| (key.clone(), self.caches.customer(key))).collect();
        let current = check::current(&*self.store, &self.caches, known).await.map_err(|error| store_error(&error))?;
        Ok(keys.iter().position(|key| !current.contains_key(key)))
    }

    /// Takes no more commands, answers those that wait, and ends.
    pub async fn stop(&self) {
        if let Ok(mut senders) = self.senders.write() {
            senders.take();
        }
        for task in self.lanes.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(event = "lane_failed", %error);
            }
        }
    }
}

fn queue_error<T>(error: mpsc::error::TrySendError<T>) -> ServiceError {
    match error {
        mpsc::error::TrySendError::Full(_) => {
            metrics::counter!("farthing_queue_full_total").increment(1);
            ServiceError::Busy
        }
        mpsc::error::TrySendError::Closed(_) => ServiceError::Stopping,
    }
}

/// Logs the cause and keeps it from the caller.
fn store_error(error: &StoreError) -> ServiceError {
    tracing::error!(event = "store_failed", %error);
    metrics::counter!("farthing_store_errors_total").increment(1);
    ServiceError::Unavailable
}
