//! What the store keeps for billing: subscriptions, invoices with their numbers, credit notes, and when customers are due.

use std::ops::Range;

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice};
use engine::subscription::Subscription;
use jiff::Timestamp;
use uuid::Uuid;

use super::payments::Whose;
use super::{CustomerKey, OperationRef, Page, Scope, StoreError};

/// A thing of a customer, with the caller's own id of the customer.
#[derive(Clone, Debug)]
pub struct BillingRow<T> {
    /// The caller's own id of the customer.
    pub external_id: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Its bucket.
    pub shard_key: i32,
    /// The thing, as it stands.
    pub value: T,
}

/// A customer of whom something is due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueCustomer {
    /// Its bucket.
    pub shard_key: i32,
    /// The id of its rows.
    pub customer_id: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// The caller's own id of it.
    pub external_id: String,
    /// Since when.
    pub due_at: Timestamp,
}

/// The invoice numbers of a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceNumbers {
    /// The tenant.
    pub tenant: String,
    /// The number that its next invoice gets.
    pub next: i64,
    /// How many invoices it has.
    pub invoices: i64,
    /// How many numbers they have.
    pub distinct: i64,
    /// The least of these; zero where there is none.
    pub least: i64,
    /// The greatest of these; zero where there is none.
    pub greatest: i64,
}

/// What there is to do of one kind for a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    /// The tenant.
    pub tenant: String,
    /// What it is of: `customer`, `effect` or `provider_event`.
    pub of: String,
    /// What it is: of customers `subscription`, `collection` or `usage`; of effects the kind of effect.
    pub kind: String,
    /// How many are due by the tenant's time.
    pub due: i64,
    /// Since when the first of them is.
    pub oldest: Option<Timestamp>,
    /// How many are due later.
    pub later: i64,
    /// When the first of those is.
    pub next: Option<Timestamp>,
    /// How many of all of them were tried before.
    pub tried: i64,
    /// How many nobody will try again by itself.
    pub given_up: i64,
}

/// The tables of billing, by use case.
#[async_trait]
pub trait BillingStore: Send + Sync {
    /// A subscription by its id, one that has ended included.
    async fn subscription(
        &self,
        scope: &Scope,
        id: OperationRef,
    ) -> Result<Option<BillingRow<Subscription>>, StoreError>;
    /// Subscriptions of a customer, newest first; the cursor is when it began, and the id.
    async fn subscriptions(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<BillingRow<Subscription>>, StoreError>;
    /// An invoice by its id, as it stands, with its number.
    async fn invoice(&self, scope: &Scope, id: OperationRef) -> Result<Option<BillingRow<Invoice>>, StoreError>;
    /// Invoices of a customer, newest first; the cursor is the number.
    async fn invoices(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError>;
    /// The credit notes of an invoice, oldest first.
    async fn credit_notes(&self, scope: &Scope, invoice: OperationRef) -> Result<Vec<CreditNote>, StoreError>;
    /// Customers in these buckets of whom something is due, those due the longest first; the cursor is the time, the bucket
    /// and the id.
    async fn due_customers(
        &self,
        whose: &Whose,
        now: Timestamp,
        among: Range<i32>,
        page: Page<(Timestamp, i32, Uuid)>,
    ) -> Result<Vec<DueCustomer>, StoreError>;
    /// What there is to do, by tenant and kind, for an operator; where a tenant's clock is held, by that time.
    async fn work(&self, now: Timestamp) -> Result<Vec<Work>, StoreError>;
    /// The invoice numbers of every tenant that has any, for `verify`.
    async fn invoice_numbers(&self) -> Result<Vec<InvoiceNumbers>, StoreError>;
    /// Has a customer told later that time has passed, when telling it now did not work.
    async fn postpone_due(&self, key: &CustomerKey, due_at: Timestamp) -> Result<(), StoreError>;
}
