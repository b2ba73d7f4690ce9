//! A lane: one batch at a time, for one range of buckets.
//!
//! It takes whatever commands wait, without waiting for more, decides them in arrival order and commits them together.
//! First on customers as they are remembered, in one statement that fails as a whole where one has moved on or a key was
//! used before; then, and always where so set, under lock. What is refused on a mere memory is decided again under lock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use engine::{Command, Customer, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::answer::Answer;
use super::cache::Caches;
use super::round::{Known, Made, Round, operations};
use super::{Commit, Request, ServiceError, check, store_error};
use crate::store::{Batch, CustomerKey, Locked, Lookups, Outcome, Store, StoreError};

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
            while !jobs.is_empty() {
                let later = after_erasures(&mut jobs);
                let batch = std::mem::replace(&mut jobs, later);
                match self.commit {
                    Commit::Optimistic => {
                        // Payments and invoices are not remembered: what is about one is decided under lock.
                        let (plain, about_documents): (Vec<_>, Vec<_>) = batch.into_iter().partition(|job| {
                            job.request.command.payment().is_none() && job.request.command.invoice().is_none()
                        });
                        if !plain.is_empty() {
                            self.optimistic(plain).await;
                        }
                        if !about_documents.is_empty() {
                            self.locked(about_documents).await;
                        }
                    }
                    Commit::Locked => self.locked(batch).await,
                }
            }
        }
    }

    async fn optimistic(&self, jobs: Vec<Job>) {
        let (customers, guessed) = match self.believed(&jobs).await {
            Ok(believed) => believed,
            Err(error) => return self.failed(jobs, &error).await,
        };
        let mut round = Round::new(&self.caches, customers, Known::default());
        let answers: Answers = jobs.iter().map(|job| round.decide(&job.request)).collect();
        let certain: Vec<bool> = jobs
            .iter()
            .zip(&answers)
            .map(|(job, answer)| {
                answer.is_ok() || (operations(&job.request).is_empty() && !guessed.contains(&job.request.key))
            })
            .collect();
        round.finish(&jobs.iter().map(|job| &job.request).collect::<Vec<_>>());
        if !round.batch.is_empty() {
            match self.store.commit(&round.batch).await {
                Ok(Outcome::Done) => self.remember(&round.batch, round.made),
                Ok(Outcome::Conflict) => {
                    metrics::counter!("farthing_commit_conflicts_total").increment(1);
                    self.forget(&jobs);
                    return self.locked(jobs).await;
                }
                Err(error) => return self.failed(jobs, &error).await,
            }
        }
        // A refusal is not committed, so nothing has confirmed what it was decided on: the customer may have moved on,
        // and the key may have been used before, with an answer that has to be given again.
        let mut doubtful = Vec::new();
        for ((job, answer), certain) in jobs.into_iter().zip(answers).zip(certain) {
            if certain {
                job.answer(answer.map_err(ServiceError::from));
            } else {
                doubtful.push(job);
            }
        }
        if !doubtful.is_empty() {
            self.locked(doubtful).await;
        }
    }

    /// After a failure of the store: what it would not take is tried in parts, anything else fails as a whole.
    async fn failed(&self, jobs: Vec<Job>, error: &StoreError) {
        self.forget(&jobs);
        if error.is_rejection() { self.locked(jobs).await } else { fail(jobs, error) }
    }

    /// The customers of these jobs as they are remembered, or else as they are; and which of them are only remembered.
    async fn believed(
        &self,
        jobs: &[Job],
    ) -> Result<(HashMap<CustomerKey, Customer>, HashSet<CustomerKey>), StoreError> {
        let mut customers = HashMap::new();
        let mut guessed = HashSet::new();
        let mut missing = HashSet::new();
        for key in jobs.iter().map(|job| &job.request.key) {
            if guessed.contains(key) || missing.contains(key) {
                continue;
            }
            match self.caches.customer(key) {
                Some(customer) => {
                    customers.insert(key.clone(), (*customer).clone());
                    guessed.insert(key.clone());
                }
                None => {
                    missing.insert(key);
                }
            }
        }
        if !missing.is_empty() {
            let unknown = missing.into_iter().map(|key| (key.clone(), None)).collect();
            let loaded = check::current(&*self.store, &self.caches, unknown).await?;
            customers.extend(loaded.into_iter().map(|(key, customer)| (key, (*customer).clone())));
        }
        Ok((customers, guessed))
    }

    async fn locked(&self, jobs: Vec<Job>) {
        let mut waiting = vec![jobs];
        while let Some(jobs) = waiting.pop() {
            let Err((mut jobs, error)) = self.try_locked(jobs).await else { continue };
            self.forget(&jobs);
            // One command that the database will not take must not take the others with it.
            if jobs.len() > 1 && error.is_rejection() {
                let rest = jobs.split_off(jobs.len() / 2);
                waiting.extend([rest, jobs]);
            } else {
                fail(jobs, &error);
            }
        }
    }

    async fn try_locked(&self, jobs: Vec<Job>) -> Result<(), (Vec<Job>, StoreError)> {
        let requests: Vec<&Request> = jobs.iter().map(|job| &job.request).collect();
        let mut keys: Vec<CustomerKey> = requests.iter().map(|request| request.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let payment = |request: &&Request| Some((request.key.shard_key, request.command.payment()?));
        let invoice = |request: &&Request| Some((request.key.shard_key, request.command.invoice()?));
        let lookups = Lookups {
            operations: requests.iter().flat_map(|request| operations(request)).collect(),
            payments: requests.iter().filter_map(payment).collect(),
            invoices: requests.iter().filter_map(invoice).collect(),
        };
        let mut decided: Option<(Answers, Batch, Made)> = None;
        let committed = self
            .store
            .commit_locked(&keys, &lookups, &mut |mut locked: Locked| {
                let customers = keys.iter().cloned().zip(std::mem::take(&mut locked.customers));
                let present = customers.filter_map(|(key, customer)| Some((key, customer?)));
                let mut round = {
                    let Locked { priors, payments, invoices, .. } = locked;
                    Round::new(&self.caches, present, Known { priors, payments, invoices })
                };
                let answers = requests.iter().map(|request| round.decide(request)).collect();
                round.finish(&requests);
                let batch = round.batch.clone();
                decided = Some((answers, round.batch, round.made));
                batch
            })
            .await;
        if let Err(error) = committed {
            return Err((jobs, error));
        }
        if let Some((answers, batch, made)) = decided {
            self.remember(&batch, made);
            for (job, answer) in jobs.into_iter().zip(answers) {
                job.answer(answer.map_err(ServiceError::from));
            }
        }
        Ok(())
    }

    fn remember(&self, batch: &Batch, made: Made) {
        for write in &batch.customers {
            self.caches.remember(&write.key, Arc::new(write.customer.clone()));
        }
        for erased in &batch.erased {
            for write in batch.customers.iter().filter(|write| write.customer.id == erased.customer_id) {
                self.caches.forget(&write.key);
            }
        }
        for (id, (customer, prior)) in made {
            self.caches.remember_operation(id, customer, prior);
        }
    }

    fn forget(&self, jobs: &[Job]) {
        for job in jobs {
            self.caches.forget(&job.request.key);
        }
    }
}

/// Takes out what was asked of a customer after its erasure: it is about another customer, which only the next batch can
/// find, or create.
fn after_erasures(jobs: &mut Vec<Job>) -> Vec<Job> {
    let mut erased = HashSet::new();
    jobs.extract_if(.., |job| {
        let later = erased.contains(&job.request.key);
        if job.request.command == Command::Erase {
            erased.insert(job.request.key.clone());
        }
        later
    })
    .collect()
}

fn fail(jobs: Vec<Job>, error: &StoreError) {
    store_error(error);
    for job in jobs {
        job.answer(Err(ServiceError::Unavailable));
    }
}
