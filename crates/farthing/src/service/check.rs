//! Customers as they are now, for checks: asked for together, in one read that sends only what has changed since it was last
//! seen. Whoever asked tries its command on it.

use std::collections::HashMap;
use std::sync::Arc;

use engine::{Customer, Refusal};
use tokio::sync::{mpsc, oneshot};

use super::cache::Caches;
use super::{ServiceError, store_error};
use crate::store::{CustomerKey, Known, Loaded, Store, StoreError};

/// How many checks one read answers at the most.
const MOST: usize = 512;

#[derive(Debug)]
pub(super) struct CheckJob {
    pub(super) key: CustomerKey,
    pub(super) reply: oneshot::Sender<Result<Arc<Customer>, ServiceError>>,
}

/// Answers checks until the last sender is gone.
pub(super) async fn run(store: Arc<dyn Store>, caches: Arc<Caches>, mut queue: mpsc::Receiver<CheckJob>) {
    let mut jobs = Vec::with_capacity(MOST);
    while queue.recv_many(&mut jobs, MOST).await > 0 {
        let mut waiting = vec![std::mem::take(&mut jobs)];
        while let Some(mut jobs) = waiting.pop() {
            match load(&*store, &caches, &jobs).await {
                Ok(customers) => answer(jobs, &customers),
                // One check that the database will not take must not take the others with it.
                Err(error) if jobs.len() > 1 && error.is_rejection() => {
                    let rest = jobs.split_off(jobs.len() / 2);
                    waiting.extend([rest, jobs]);
                }
                Err(error) => {
                    store_error(&error);
                    for job in jobs {
                        let _ = job.reply.send(Err(ServiceError::Unavailable));
                    }
                }
            }
        }
    }
}

fn answer(jobs: Vec<CheckJob>, customers: &HashMap<CustomerKey, Arc<Customer>>) {
    for job in jobs {
        let customer = customers.get(&job.key).cloned();
        let _ = job.reply.send(customer.ok_or(ServiceError::Refused(Refusal::UnknownCustomer)));
    }
}

async fn load(
    store: &dyn Store,
    caches: &Caches,
    jobs: &[CheckJob],
) -> Result<HashMap<CustomerKey, Arc<Customer>>, StoreError> {
    let mut known: HashMap<&CustomerKey, Option<Arc<Customer>>> = HashMap::with_capacity(jobs.len());
    for job in jobs {
        known.entry(&job.key).or_insert_with(|| caches.customer(&job.key));
    }
    current(store, caches, known.into_iter().map(|(key, known)| (key.clone(), known)).collect()).await
}

/// Customers as they are now; what is known of them is sent for only where it has changed.
pub(super) async fn current(
    store: &dyn Store,
    caches: &Caches,
    known: Vec<(CustomerKey, Option<Arc<Customer>>)>,
) -> Result<HashMap<CustomerKey, Arc<Customer>>, StoreError> {
    let keys: Vec<(CustomerKey, Option<Known>)> = known
        .iter()
        .map(|(key, known)| (key.clone(), known.as_ref().map(|customer| (customer.id, customer.position))))
        .collect();
    let loaded = store.load_customers(&keys).await?;
    let mut customers = HashMap::with_capacity(loaded.len());
    for ((key, known), loaded) in known.into_iter().zip(loaded) {
        match (loaded, known) {
            (Loaded::Unchanged, Some(customer)) => {
                customers.insert(key, customer);
            }
            (Loaded::Changed(customer), _) => {
                let customer = Arc::new(customer);
                caches.remember(&key, customer.clone());
                customers.insert(key, customer);
            }
            (Loaded::Absent | Loaded::Unchanged, _) => caches.forget(&key),
        }
    }
    Ok(customers)
}
