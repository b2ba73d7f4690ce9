//! A lane: one batch at a time, for one range of buckets.
//!
//! It takes whatever commands wait, without waiting for more, decides them in arrival order and commits them together.
//! First on customers as they are remembered, in one statement that fails as a whole where one has moved on or a key was
//! used before; then, and always where so set, under lock.

use std::collections::HashMap;
use std::sync::Arc;

use engine::{Customer, Refusal};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::answer::Answer;
use super::cache::Caches;
use super::round::{Round, operations};
use super::{Commit, Request, ServiceError, check, store_error};
use crate::store::{Batch, CustomerKey, Locked, Outcome, Prior, Store};

/// How many commands one transaction takes at the most.
const MOST: usize = 512;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Result<Answer, ServiceError>>,
}

impl Job {
    fn answer(self, answer: Result<Answer, ServiceError>) {
        // A caller that has gone away no longer needs its answer; the command is durable all the same.
        let _ = self.reply.send(answer);
    }
}

type Answers = Vec<Result<Answer, Refusal>>;

pub(super) struct Lane {
    store: Arc<dyn Store>,
    caches: Arc<Caches>,
    commit: Commit,
}

impl Lane {
    pub(super) fn new(store: Arc<dyn Store>, caches: Arc<Caches>, commit: Commit) -> Self {
        Self { store, caches, commit }
    }

    /// Serves the lane until the last sender is gone.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(MOST);
        while queue.recv_many(&mut jobs, MOST).await > 0 {
            metrics::histogram!("farthing_batch_commands").record(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            let batch = std::mem::take(&mut jobs);
            match self.commit {
                Commit::Optimistic => self.optimistic(batch).await,
                Commit::Locked => self.locked(batch).await,
            }
        }
    }

    async fn optimistic(&self, jobs: Vec<Job>) {
        let (customers, guessed) = match self.believed(&jobs).await {
            Ok(believed) => believed,
            Err(error) => return fail(jobs, &error),
        };
        let mut round = Round::new(&self.caches, customers, HashMap::new());
        let answers: Answers = jobs.iter().map(|job| round.decide(&job.request)).collect();
        // A refusal is true only if what it was decided on is; a commit that changes the customer confirms that, a mere
        // guess has to be looked at again.
        let certain: Vec<bool> = jobs
            .iter()
            .zip(&answers)
            .map(|(job, answer)| {
                answer.is_ok() || round.changes(&job.request.key) || !guessed.contains_key(&job.request.key)
            })
            .collect();
        round.finish(&jobs.iter().map(|job| &job.request).collect::<Vec<_>>());
        if !round.batch.is_empty() {
            match self.store.commit(&round.batch).await {
                Ok(Outcome::Done) => self.remember(&round.batch, &mut round.made),
                Ok(Outcome::Conflict) => {
                    metrics::counter!("farthing_commit_conflicts_total").increment(1);
                    self.forget(&jobs);
                    return self.locked(jobs).await;
                }
                Err(error) => {
                    self.forget(&jobs);
                    return fail(jobs, &error);
                }
            }
        }
        let mut doubtful = Vec::new();
        for ((job, answer), certain) in jobs.into_iter().zip(answers).zip(certain) {
            if certain {
                job.answer(answer.map_err(ServiceError::from));
            } else {
                doubtful.push((job, answer));
            }
        }
        if !doubtful.is_empty() {
            self.look_again(doubtful, guessed).await;
        }
    }

    /// Refusals on remembered customers: true where the customer still stands there, decided again where not.
    async fn look_again(
        &self,
        doubtful: Vec<(Job, Result<Answer, Refusal>)>,
        guessed: HashMap<CustomerKey, Arc<Customer>>,
    ) {
        let known: Vec<_> = guessed.iter().map(|(key, customer)| (key.clone(), Some(customer.clone()))).collect();
        let current = match check::current(&*self.store, &self.caches, known).await {
            Ok(current) => current,
            Err(error) => return fail(doubtful.into_iter().map(|(job, _)| job).collect(), &error),
        };
        let mut again = Vec::new();
        for (job, answer) in doubtful {
            let position = |customers: &HashMap<CustomerKey, Arc<Customer>>| {
                customers.get(&job.request.key).map(|customer| (customer.id, customer.position))
            };
            if position(&current) == position(&guessed) {
                job.answer(answer.map_err(ServiceError::from));
            } else {
                again.push(job);
            }
        }
        if !again.is_empty() {
            self.locked(again).await;
        }
    }

    /// The customers of these jobs as they are remembered, or else as they are; and which of them are only remembered.
    async fn believed(
        &self,
        jobs: &[Job],
    ) -> Result<(Vec<(CustomerKey, Customer)>, HashMap<CustomerKey, Arc<Customer>>), crate::store::StoreError> {
        let mut guessed: HashMap<CustomerKey, Arc<Customer>> = HashMap::new();
        let mut missing: HashMap<&CustomerKey, ()> = HashMap::new();
        for key in jobs.iter().map(|job| &job.request.key) {
            if guessed.contains_key(key) || missing.contains_key(key) {
                continue;
            }
            match self.caches.customer(key) {
                Some(customer) => {
                    guessed.insert(key.clone(), customer);
                }
                None => {
                    missing.insert(key, ());
                }
            }
        }
        let mut customers: Vec<_> = guessed.iter().map(|(key, customer)| (key.clone(), (**customer).clone())).collect();
        if !missing.is_empty() {
            let unknown = missing.into_keys().map(|key| (key.clone(), None)).collect();
            let loaded = check::current(&*self.store, &self.caches, unknown).await?;
            customers.extend(loaded.into_iter().map(|(key, customer)| (key, (*customer).clone())));
        }
        Ok((customers, guessed))
    }

    async fn locked(&self, jobs: Vec<Job>) {
        let requests: Vec<&Request> = jobs.iter().map(|job| &job.request).collect();
        let mut keys: Vec<CustomerKey> = requests.iter().map(|request| request.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let ids: Vec<_> = requests.iter().flat_map(|request| operations(request)).collect();
        let mut decided: Option<(Answers, Batch, HashMap<Uuid, Prior>)> = None;
        let committed = self
            .store
            .commit_locked(&keys, &ids, &mut |locked: Locked| {
                let customers = keys.iter().cloned().zip(locked.customers);
                let present = customers.filter_map(|(key, customer)| Some((key, customer?)));
                let mut round = Round::new(&self.caches, present, locked.priors);
                let answers = requests.iter().map(|request| round.decide(request)).collect();
                round.finish(&requests);
                let batch = round.batch.clone();
                decided = Some((answers, round.batch, round.made));
                batch
            })
            .await;
        match (committed, decided) {
            (Ok(()), Some((answers, batch, mut made))) => {
                self.remember(&batch, &mut made);
                for (job, answer) in jobs.into_iter().zip(answers) {
                    job.answer(answer.map_err(ServiceError::from));
                }
            }
            (Err(error), _) => {
                self.forget(&jobs);
                fail(jobs, &error);
            }
            (Ok(()), None) => jobs.into_iter().for_each(|job| job.answer(Err(ServiceError::Unavailable))),
        }
    }

    fn remember(&self, batch: &Batch, made: &mut HashMap<Uuid, Prior>) {
        for write in &batch.customers {
            self.caches.remember(&write.key, Arc::new(write.customer.clone()));
        }
        for erased in &batch.erased {
            for write in batch.customers.iter().filter(|write| write.customer.id == erased.customer_id) {
                self.caches.forget(&write.key);
            }
        }
        for (id, prior) in made.drain() {
            self.caches.remember_operation(id, Arc::new(prior));
        }
    }

    fn forget(&self, jobs: &[Job]) {
        for job in jobs {
            self.caches.forget(&job.request.key);
        }
    }
}

fn fail(jobs: Vec<Job>, error: &crate::store::StoreError) {
    store_error(error);
    for job in jobs {
        job.answer(Err(ServiceError::Unavailable));
    }
}
