//! What is remembered between batches: customers as they were last seen, and what operation keys made lately.
//!
//! Both only save work. A remembered customer is a guess that the database confirms or refuses with every commit; a
//! remembered operation is a committed fact.

use std::sync::Arc;

use engine::Customer;
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::store::{CustomerKey, Prior};

/// How many customers are remembered; about a kilobyte each.
const CUSTOMERS: usize = 16_384;

/// How many recent operations are remembered, so that a repeat that follows soon costs nothing; under a kilobyte each.
const OPERATIONS: usize = 8_192;

#[derive(Debug)]
pub(super) struct Caches {
    customers: Cache<CustomerKey, Arc<Customer>>,
    operations: Cache<Uuid, (Uuid, Prior)>,
}

impl Default for Caches {
    fn default() -> Self {
        Self { customers: Cache::new(CUSTOMERS), operations: Cache::new(OPERATIONS) }
    }
}

impl Caches {
    pub(super) fn customer(&self, key: &CustomerKey) -> Option<Arc<Customer>> {
        self.customers.get(key)
    }

    /// Remembers a customer, unless a later state of it is remembered already.
    pub(super) fn remember(&self, key: &CustomerKey, customer: Arc<Customer>) {
        let newer =
            self.customers.peek(key).is_some_and(|known| known.id == customer.id && known.position > customer.position);
        if !newer {
            self.customers.insert(key.clone(), customer);
        }
    }

    pub(super) fn forget(&self, key: &CustomerKey) {
        self.customers.remove(key);
    }

    /// What an operation of this customer made. The id alone does not name the customer: after an erasure another one has
    /// its address, and with it the ids that its keys make.
    pub(super) fn operation(&self, id: Uuid, customer: Uuid) -> Option<Prior> {
        self.operations.get(&id).filter(|(of, _)| *of == customer).map(|(_, prior)| prior)
    }

    pub(super) fn remember_operation(&self, id: Uuid, customer: Uuid, prior: Prior) {
        self.operations.insert(id, (customer, prior));
    }
}
