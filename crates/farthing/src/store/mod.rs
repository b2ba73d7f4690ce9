//! The store: farthing's tables on SQLite and on PostgreSQL behind one narrow trait of use cases.
//!
//! It knows the engine's types and nothing else: no rule is decided here, no clock read, no transaction handed out.
//! The queries are written once, in `queries`, and compiled for each driver by `sqlite` and `postgres`.

mod analytics;
mod billing;
mod notices;
mod offers;
mod payments;
mod postgres;
mod rows;
mod sqlite;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice, InvoiceChange};
use engine::subscription::Subscription;
use engine::{
    Asset, Charge, Customer, DueKind, EffectRecord, Entry, GrantEnd, GrantRecord, HoldRecord, Micros, NoticeRecord,
    Payment, Profile,
};
use jiff::Timestamp;
use uuid::Uuid;

pub use analytics::{
    Acquired, AnalyticsStore, Booked, Collected, Covered, PaymentCount, Segment, SubscriptionChange, Used,
    UsedByCustomer, UsedQuery,
};
pub use billing::{BillingRow, BillingStore, ChargeTotals, DueCustomer, InvoiceNumbers, LineCharges, Work};
pub use notices::{NoticeOrder, NoticeRow, NoticeStore};
pub use offers::{OfferStore, Subscribers};
pub use payments::{
    EffectEnd, EffectResult, EffectRow, EventRow, EventState, ExchangeRow, PaymentRow, PaymentStore, SettledEffect,
    Whose,
};
pub use postgres::PostgresStore;
pub use rows::{ChargeRow, CustomerRow, EntryRow, GrantRow, HoldRow, KeyRow, UsageRow};
pub use sqlite::SqliteStore;

/// What went wrong in the store. Its text is for the log, never for a caller.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do as asked; whether it did it is unknown.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored value is not what was written.
    #[error("stored value: {0}")]
    Corrupt(String),
    /// The database address is not one.
    #[error("{0}")]
    Address(String),
    /// Others kept changing the same rows.
    #[error("gave up after repeated conflicts")]
    Contended,
}

impl StoreError {
    /// Whether the store would not take what it was given, so that a part of it may well be taken; not, whether it could
    /// not be reached or could not go on.
    pub(crate) fn is_rejection(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code().is_some_and(|code| is_rejection(&code)),
            Self::Database(error) => {
                use sqlx::Error::{ColumnDecode, Decode, Encode};
                matches!(error, Encode(_) | Decode(_) | ColumnDecode { .. })
            }
            Self::Corrupt(_) | Self::Contended => true,
            Self::Migration(_) | Self::Address(_) => false,
        }
    }
}

/// By SQLSTATE: invalid data (22), a broken constraint (23), more than an index or a row can hold (54). By SQLite's codes:
/// malformed (1), too big (18), a broken constraint (19), another type (20); the extended ones have these in their low byte.
fn is_rejection(code: &str) -> bool {
    if code.len() == 5 {
        return ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 1 | 18 | 19 | 20))
}

/// The address of a customer: its bucket, tenant and the caller's own id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CustomerKey {
    /// The bucket.
    pub shard_key: i32,
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The caller's own id.
    pub external_id: Arc<str>,
}

impl CustomerKey {
    /// The key of a tenant's customer.
    #[must_use]
    pub fn new(tenant: &Arc<str>, external_id: &str) -> Self {
        let shard_key = engine::id::shard_key(tenant, external_id);
        Self { shard_key, tenant: tenant.clone(), external_id: Arc::from(external_id) }
    }
}

/// What a surface may see: one tenant, and for a customer's own session that customer alone. On PostgreSQL the database
/// enforces it too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The only customer to be seen, by the id of its rows.
    pub customer: Option<Uuid>,
}

impl Scope {
    /// Whether this customer of the tenant may be seen.
    fn sees(&self, customer: Uuid) -> bool {
        self.customer.is_none_or(|own| own == customer)
    }
}

/// What an asker knows of a customer: the id of its rows and its position. Not the position alone: after an erasure
/// another customer has the address, and may come to the same position.
pub type Known = (Uuid, i64);

/// How a customer that was asked for stands, compared with what the asker knows.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a customer that was asked for has mostly changed; a box would only be opened"
)]
pub enum Loaded {
    /// There is none.
    Absent,
    /// It is as the asker knows it.
    Unchanged,
    /// It has moved on.
    Changed(Customer),
}

/// One customer's new state, and the position it was decided on; zero for one that is created.
#[derive(Clone, Debug)]
pub struct CustomerWrite {
    /// Its address.
    pub key: CustomerKey,
    /// The position that must still stand.
    pub expected: i64,
    /// As it will be.
    pub customer: Customer,
    /// When it was decided.
    pub at: Timestamp,
}

/// The first answer to a keyed operation that is not a charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its id, from its key.
    pub id: Uuid,
    /// A hash of what was asked.
    pub fingerprint: i64,
    /// The answer, as JSON.
    pub answer: String,
}

/// A thing of one customer, with the address it is written under.
#[derive(Clone, Debug)]
pub struct Owned<T> {
    /// The customer's bucket.
    pub shard_key: i32,
    /// The customer.
    pub customer_id: Uuid,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// The thing.
    pub value: T,
}

/// Everything that a batch of decisions writes: as a whole, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Each customer once.
    pub customers: Vec<CustomerWrite>,
    /// New charges.
    pub charges: Vec<Owned<Arc<Charge>>>,
    /// New entries; `recorded_at` stands beside them.
    pub entries: Vec<(Owned<Entry>, Timestamp)>,
    /// New grants.
    pub grants: Vec<Owned<GrantRecord>>,
    /// Grants that ended before they were used up.
    pub ended_grants: Vec<Owned<(Uuid, GrantEnd)>>,
    /// Holds as they are now.
    pub holds: Vec<Owned<HoldRecord>>,
    /// Payments as they are now.
    pub payments: Vec<Owned<Payment>>,
    /// What must happen outside; when each was decided stands beside it.
    pub effects: Vec<(Owned<EffectRecord>, Timestamp)>,
    /// Effects whose results these commands brought.
    pub settled: Vec<Owned<SettledEffect>>,
    /// Subscriptions as they are now.
    pub subscriptions: Vec<Owned<Subscription>>,
    /// New invoices, in the order in which they are to be numbered.
    pub invoices: Vec<Owned<Invoice>>,
    /// How earlier invoices stand now.
    pub invoice_changes: Vec<Owned<InvoiceChange>>,
    /// New credit notes.
    pub credit_notes: Vec<Owned<CreditNote>>,
    /// What tenants may want to tell their customers, in the order in which it is to be numbered.
    pub notices: Vec<Owned<NoticeRecord>>,
    /// What of a customer is due next, and when; nothing where nothing is.
    pub dues: Vec<Owned<Option<(Timestamp, DueKind)>>>,
    /// What the provider calls customers.
    pub payers: Vec<Owned<Arc<str>>>,
    /// Who customers are from now on.
    pub profiles: Vec<Owned<Profile>>,
    /// First answers.
    pub operations: Vec<(Owned<Operation>, Timestamp)>,
    /// Customers whose personal data is forgotten, each with the id that takes the place of its own.
    pub erased: Vec<Owned<String>>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Whether it is what the hot path writes: known customers, charges and entries, nothing else.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        self.grants.is_empty()
            && self.ended_grants.is_empty()
            && self.holds.is_empty()
            && self.payments.is_empty()
            && self.effects.is_empty()
            && self.settled.is_empty()
            && self.payers.is_empty()
            && self.subscriptions.is_empty()
            && self.invoices.is_empty()
            && self.invoice_changes.is_empty()
            && self.credit_notes.is_empty()
            && self.notices.is_empty()
            && self.dues.is_empty()
            && self.profiles.is_empty()
            && self.operations.is_empty()
            && self.erased.is_empty()
            && self.customers.iter().all(|write| write.expected > 0)
    }

    /// The buckets it touches, each once.
    #[must_use]
    pub fn buckets(&self) -> Vec<i32> {
        distinct(self.customers.iter().map(|write| write.key.shard_key))
    }
}

fn distinct(buckets: impl Iterator<Item = i32>) -> Vec<i32> {
    let mut buckets: Vec<i32> = buckets.collect();
    buckets.sort_unstable();
    buckets.dedup();
    buckets
}

/// What an optimistic commit came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All is durable.
    Done,
    /// Something had changed, or a key was used before: nothing was written.
    Conflict,
}

/// What a used operation key made.
#[derive(Clone, Debug)]
pub enum Prior {
    /// A charge.
    Charge(Arc<Charge>),
    /// A charge of a customer that was erased since, whose id another has now.
    Foreign,
    /// Another operation, with its first answer.
    Operation(Operation),
}

/// Customers under lock, and what was made before under the keys of the commands at hand.
#[derive(Debug)]
pub struct Locked {
    /// In the order asked for.
    pub customers: Vec<Option<Customer>>,
    /// By id.
    pub priors: HashMap<Uuid, Prior>,
    /// The payments asked for, by id, each with its customer.
    pub payments: HashMap<Uuid, (Uuid, Payment)>,
    /// The invoices asked for, likewise.
    pub invoices: HashMap<Uuid, (Uuid, Invoice)>,
}

/// What is to be looked up under lock besides the customers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lookups {
    /// The ids that operation keys make.
    pub operations: Vec<OperationRef>,
    /// Payments.
    pub payments: Vec<OperationRef>,
    /// Invoices, each with the payment that belongs to it.
    pub invoices: Vec<OperationRef>,
}

/// What to look up of used operation keys: the bucket, and the id that the key makes.
pub type OperationRef = (i32, Uuid);

/// A page of a list: what lies after the cursor, at most `limit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page<C> {
    /// The last one of the page before.
    pub after: Option<C>,
    /// At most so many.
    pub limit: i64,
}

/// Usage to be summed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageQuery {
    /// The customer.
    pub customer: Uuid,
    /// Its bucket.
    pub shard_key: i32,
    /// Used at this time or later.
    pub from: Timestamp,
    /// Used before this time.
    pub to: Timestamp,
    /// Of this meter.
    pub meter: Option<String>,
    /// By this subject.
    pub subject: Option<String>,
    /// One sum for each window of so many microseconds, counted from 1970 in UTC; one for all where nothing is said.
    pub window: Option<i64>,
    /// One sum for each value of this dimension.
    pub dimension: Option<String>,
    /// One sum for each subject.
    pub by_subject: bool,
    /// At most so many sums.
    pub limit: i64,
}

/// What entries say of one account of a customer: the sum of its credits less the sum of its debits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerSum {
    /// The account's stored name.
    pub account: String,
    /// The grant, on wallets.
    pub grant: Option<Uuid>,
    /// What it is in.
    pub asset: Asset,
    /// Credits less debits, in micros. What was ever sold can be more than a wallet could hold.
    pub amount: i128,
}

/// The tables, by use case.
#[async_trait]
pub trait Store: PaymentStore + BillingStore + NoticeStore + OfferStore + AnalyticsStore {
    /// Which database it is, for people.
    fn name(&self) -> &'static str;

    /// Answers when the database does.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The number of the latest migration.
    async fn schema_version(&self) -> Result<i64, StoreError>;

    /// Customers by address, each with what the asker knows of it. For the service alone.
    async fn load_customers(&self, keys: &[(CustomerKey, Option<Known>)]) -> Result<Vec<Loaded>, StoreError>;

    /// Writes a batch if every customer still stands where it was decided on and no operation key was used before.
    async fn commit(&self, batch: &Batch) -> Result<Outcome, StoreError>;

    /// Locks the customers, looks up what was asked for, lets `decide` make a batch of it, and writes that; one transaction.
    /// It may call `decide` again when two create the same customer at once.
    async fn commit_locked(
        &self,
        keys: &[CustomerKey],
        lookups: &Lookups,
        decide: &mut (dyn FnMut(Locked) -> Batch + Send),
    ) -> Result<(), StoreError>;

    /// The first answer to a keyed request that was kept as a whole.
    async fn find_operation(&self, tenant: &str, id: OperationRef) -> Result<Option<Operation>, StoreError>;
    /// Keeps such a first answer in a bucket, with the customer whose erasure removes it; the one that is there already
    /// stays.
    async fn keep_operation(
        &self,
        tenant: &str,
        owner: (i32, Option<Uuid>),
        operation: &Operation,
        at: Timestamp,
    ) -> Result<(), StoreError>;
    /// Forgets first answers that were recorded before; returns how many.
    async fn forget_operations(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// A customer with who it is.
    async fn customer(&self, scope: &Scope, key: &CustomerKey) -> Result<Option<CustomerRow>, StoreError>;
    /// Customers of a tenant by the id of their rows.
    async fn customers(&self, scope: &Scope, page: Page<Uuid>) -> Result<Vec<CustomerRow>, StoreError>;
    /// A charge by its id.
    async fn charge(&self, scope: &Scope, id: OperationRef) -> Result<Option<ChargeRow>, StoreError>;
    /// Charges of a customer, newest use first; the cursor is the time of use and the id.
    async fn charges(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<ChargeRow>, StoreError>;
    /// Ledger entries of a customer, newest first; the cursor is position and line.
    async fn entries(
        &self,
        scope: &Scope,
        owner: OperationRef,
        wallet: Option<&str>,
        page: Page<(i64, i16)>,
    ) -> Result<Vec<EntryRow>, StoreError>;
    /// What a wallet held after everything up to and including this position and line.
    async fn wallet_at(
        &self,
        scope: &Scope,
        owner: OperationRef,
        asset: &str,
        at: (i64, i16),
    ) -> Result<Micros, StoreError>;
    /// Grants of a customer, newest first; the cursor is position and id.
    async fn grants(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(i64, Uuid)>,
    ) -> Result<Vec<GrantRow>, StoreError>;
    /// A hold by its id.
    async fn hold(&self, scope: &Scope, id: OperationRef) -> Result<Option<HoldRow>, StoreError>;
    /// Sums of usage.
    async fn usage(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError>;

    /// Keeps the definitions of prices, so that charges can be explained later.
    async fn keep_prices(&self, tenant: &str, definitions: &[(String, String)]) -> Result<(), StoreError>;
    /// The definition of a price by its version.
    async fn price(&self, scope: &Scope, version: &str) -> Result<Option<String>, StoreError>;

    /// Adds an API key.
    async fn add_key(&self, key: &KeyRow, digest: &[u8; 32]) -> Result<(), StoreError>;
    /// An API key that is not revoked.
    async fn find_key(&self, digest: &[u8; 32]) -> Result<Option<KeyRow>, StoreError>;
    /// The API keys of a tenant, oldest first.
    async fn keys(&self, tenant: &str) -> Result<Vec<KeyRow>, StoreError>;
    /// Revokes an API key; whether there was one to revoke.
    async fn revoke_key(&self, tenant: &str, id: Uuid, at: Timestamp) -> Result<bool, StoreError>;

    /// How many lines of a file have been imported.
    async fn imported_lines(&self, tenant: &str, digest: &str) -> Result<i64, StoreError>;
    /// Notes how many lines of a file have been imported.
    async fn note_imported(&self, tenant: &str, digest: &str, lines: i64, at: Timestamp) -> Result<(), StoreError>;

    /// Every customer of every tenant, by bucket and id, for `verify`.
    async fn all_customers(&self, page: Page<(i32, Uuid)>) -> Result<Vec<CustomerRow>, StoreError>;
    /// What the entries of a customer add up to, those at this position included, for `verify`.
    async fn ledger_sums(&self, owner: OperationRef, position: i64) -> Result<Vec<LedgerSum>, StoreError>;
    /// The position of the latest entry of a customer, zero where it has none, for `verify`.
    async fn last_position(&self, owner: OperationRef) -> Result<i64, StoreError>;
    /// Charges of a customer whose entries do not add up to what they say, and those of which there are only entries, for
    /// `verify`; at most ten.
    async fn unbalanced_charges(&self, owner: OperationRef) -> Result<Vec<Uuid>, StoreError>;
}

/// Opens the store at an address and brings its schema up to date: `sqlite:PATH`, or a `postgres://` URL.
///
/// # Errors
/// `Address` for any other address; `Database` and `Migration` as they come.
pub async fn open(address: &str) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(path) = address.strip_prefix("sqlite:") {
        return Ok(Arc::new(SqliteStore::open(path).await?));
    }
    if address.starts_with("postgres://") || address.starts_with("postgresql://") {
        return Ok(Arc::new(PostgresStore::open(address).await?));
    }
    Err(StoreError::Address("a database address begins with sqlite: or postgres://".to_owned()))
}
