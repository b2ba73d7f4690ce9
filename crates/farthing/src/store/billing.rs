//! What the store keeps for billing: subscriptions, invoices with their numbers, credit notes, and when customers are due.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice, InvoiceState};
use engine::subscription::Subscription;
use engine::{Asset, Cover, Micros};
use jiff::Timestamp;
use uuid::Uuid;

use super::payments::Whose;
use super::{ChargeRow, CustomerKey, EntryRow, OperationRef, Page, Scope, StoreError};

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

/// Which charges are on a usage line of an invoice: those of a meter, price and period that owe something, between two
/// ledger positions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineCharges {
    /// The customer.
    pub owner: OperationRef,
    /// The meter.
    pub meter: Arc<str>,
    /// The version of the price.
    pub price: Option<Arc<str>>,
    /// What it is priced in.
    pub asset: Asset,
    /// When the period began in which they were used.
    pub used_in: Timestamp,
    /// Used before this time.
    pub until: Timestamp,
    /// From this position on.
    pub since: i64,
    /// Before this position: that of the invoice.
    pub before: i64,
}

/// What charges add up to, in micros.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChargeTotals {
    /// How many.
    pub charges: i64,
    /// How much was used.
    pub quantity: Micros,
    /// What of that the meter's own units did not cover.
    pub priced_quantity: Micros,
    /// What that was priced at.
    pub amount: Micros,
    /// What of that is owed: grants covered the rest.
    pub owed: Micros,
    /// The least that was counted under the price before one of them.
    pub counted_from: Micros,
    /// The most that was counted under the price with one of them.
    pub counted_to: Micros,
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
    /// A subscription by what the provider calls it, one that has ended included.
    async fn subscription_of_reference(
        &self,
        tenant: &str,
        reference: &str,
    ) -> Result<Option<BillingRow<Subscription>>, StoreError>;
    /// Subscriptions of a tenant that the provider has and that have not ended, by their ids, after this one.
    async fn subscriptions_at_provider(
        &self,
        tenant: &str,
        page: Page<Uuid>,
    ) -> Result<Vec<BillingRow<Subscription>>, StoreError>;
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
    /// Invoices of a customer that were made at this time or later, oldest first; the cursor is the number.
    async fn invoices_since(
        &self,
        scope: &Scope,
        owner: OperationRef,
        since: Timestamp,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError>;
    /// The newest invoices of each customer of a tenant, at most so many of each, newest first.
    async fn newest_invoices(&self, scope: &Scope, each: i64) -> Result<Vec<BillingRow<Invoice>>, StoreError>;
    /// Invoices of a tenant, newest first, of one state where one is named; the cursor is the number.
    async fn tenant_invoices(
        &self,
        scope: &Scope,
        state: Option<InvoiceState>,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError>;
    /// The tenant of an invoice, for whoever has a link to it and no key.
    async fn invoice_tenant(&self, id: OperationRef) -> Result<Option<String>, StoreError>;
    /// The charges of a usage line, newest use first; the cursor is the time of use and the id.
    async fn line_charges(
        &self,
        scope: &Scope,
        line: &LineCharges,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<ChargeRow>, StoreError>;
    /// What the charges of a usage line add up to.
    async fn line_totals(&self, scope: &Scope, line: &LineCharges) -> Result<ChargeTotals, StoreError>;
    /// What grants covered of the charges of a usage line, by grant; at most a hundred.
    async fn line_covers(&self, scope: &Scope, line: &LineCharges) -> Result<Vec<Cover>, StoreError>;
    /// What was used of the same meter and price in the same time and owes nothing, because grants covered all of it.
    async fn covered_totals(&self, scope: &Scope, line: &LineCharges) -> Result<ChargeTotals, StoreError>;
    /// Entries by which credit notes and payments left something to a customer's next invoice, between two positions, both
    /// included, oldest first; at most a hundred.
    async fn carried_entries(
        &self,
        scope: &Scope,
        owner: OperationRef,
        currency: &Asset,
        positions: (i64, i64),
    ) -> Result<Vec<EntryRow>, StoreError>;
    /// The secret of this name, which every server of the installation has in common: the candidate where there is none yet.
    async fn secret(&self, name: &str, candidate: &[u8; 32]) -> Result<[u8; 32], StoreError>;
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
