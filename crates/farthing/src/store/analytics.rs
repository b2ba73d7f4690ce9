//! What the store sums up for analytics: uses, what was booked, payments, how subscriptions were, and whom a tenant won.
//!
//! Every sum is made by the database, over one customer or over a whole tenant as the scope says, and goes down from the
//! tenant's customers to their rows of the time that is asked for; nothing is written for it when a use is charged.

use async_trait::async_trait;
use engine::coupon::Coupon;
use engine::subscription::{SubscriptionState, Terms};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Page, Scope, StoreError};

/// A stretch of time in which local time is as far from UTC all along, and which lies within one period of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
    /// Local time less UTC, in microseconds.
    pub offset: i64,
    /// What its rows are counted under: this number, or else the local day of each, in days since 1 January 1970.
    pub label: Option<i64>,
}

/// How uses are summed: always by period, meter and asset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedQuery {
    /// When.
    pub segments: Vec<Segment>,
    /// One sum for each subject.
    pub by_subject: bool,
    /// One sum for each value of this dimension.
    pub dimension: Option<String>,
    /// At most so many sums.
    pub limit: i64,
}

/// A sum of charges. Quantities and amounts are micros.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct Used {
    /// The period: a segment's label, or a local day.
    pub day: i64,
    /// The meter.
    pub meter: String,
    /// What it was priced in.
    pub asset: String,
    /// The subject, where sums are by subject.
    pub subject: Option<String>,
    /// The value of the dimension, where sums are by one.
    pub dimension: Option<String>,
    /// How many charges.
    pub charges: i64,
    /// How much was used.
    pub quantity: i64,
    /// What of that the meter's own units did not cover.
    pub priced_quantity: i64,
    /// What was charged, without what was given back.
    pub charged: i64,
    /// What volume prices gave back.
    pub given_back: i64,
    /// What of the amount is owed.
    pub owed: i64,
}

/// What grants of one kind covered of such a sum.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct Covered {
    /// The period.
    pub day: i64,
    /// The meter.
    pub meter: String,
    /// What it was priced in.
    pub asset: String,
    /// The subject, where sums are by subject.
    pub subject: Option<String>,
    /// The value of the dimension, where sums are by one.
    pub dimension: Option<String>,
    /// The kind of the grants.
    pub kind: String,
    /// Whether this is a part of the quantity, in the meter's own units; otherwise it is one of the amount.
    pub of_quantity: bool,
    /// How much, in micros.
    pub amount: i64,
}

/// What one customer used of one meter. Quantities and amounts are micros.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct UsedByCustomer {
    /// The customer.
    pub customer_id: Uuid,
    /// The meter.
    pub meter: String,
    /// What it was priced in.
    pub asset: String,
    /// How much was used.
    pub quantity: i64,
    /// What was charged, less what was given back.
    pub amount: i64,
}

/// A sum of ledger entries of one form.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct Booked {
    /// The period: of a use, when it was used; of all else, when it was booked.
    pub day: i64,
    /// What moved.
    pub asset: String,
    /// What the entries are about, by its stored name.
    pub kind: String,
    /// The account that was debited.
    pub debit: String,
    /// The account that was credited.
    pub credit: String,
    /// The kind of the grants whose value moved.
    pub grant_kind: Option<String>,
    /// How much, in micros.
    pub amount: i64,
}

/// A sum of money that came, or went back.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct Collected {
    /// The period.
    pub day: i64,
    /// The currency.
    pub currency: String,
    /// How much, in minor units.
    pub minor: i64,
}

/// Payments of one period that stand alike.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct PaymentCount {
    /// The period in which they were recorded.
    pub day: i64,
    /// Their currency.
    pub currency: String,
    /// How far they are, by its stored name.
    pub state: String,
    /// The code of the last attempt that did not work: the bank's reason where it gave one, or else the provider's code.
    pub failure: Option<String>,
    /// How the bank's dispute of them stands.
    pub dispute: Option<String>,
    /// How many.
    pub payments: i64,
    /// What they come to, in minor units.
    pub minor: i64,
    /// How many of them something was given back of.
    pub refunded: i64,
    /// What was given back of them, in minor units.
    pub refunded_minor: i64,
    /// What is disputed of them, in minor units.
    pub disputed_minor: i64,
}

/// How a subscription was from a time on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionChange {
    /// Which.
    pub subscription: Uuid,
    /// From when.
    pub at: Timestamp,
    /// How it stood.
    pub state: SubscriptionState,
    /// What it was for.
    pub terms: Terms,
    /// What was taken off its invoices.
    pub coupon: Option<Coupon>,
}

/// Customers who came in one period, and what has become of them since.
#[derive(Clone, PartialEq, Eq, Debug, sqlx::FromRow)]
pub struct Acquired {
    /// The period.
    pub day: i64,
    /// How many came.
    pub customers: i64,
    /// How many of them have, or had, a payment method on file.
    pub with_payment_method: i64,
    /// How many of them have paid something.
    pub paid: i64,
    /// How many of them have, or had, a subscription that was paid for.
    pub subscribed: i64,
    /// How many of them had a trial.
    pub trials: i64,
    /// How many of them had a trial that became a subscription.
    pub trials_converted: i64,
}

/// The sums of analytics, by use case.
#[async_trait]
pub trait AnalyticsStore: Send + Sync {
    /// Sums of charges by the time of use.
    async fn used(&self, scope: &Scope, query: &UsedQuery) -> Result<Vec<Used>, StoreError>;
    /// Sums of charges by the time of use, for each customer, meter and asset, in the order of the customers.
    async fn used_by_customer(&self, scope: &Scope, segment: Segment) -> Result<Vec<UsedByCustomer>, StoreError>;
    /// What grants covered of these charges.
    async fn covered(&self, scope: &Scope, query: &UsedQuery) -> Result<Vec<Covered>, StoreError>;
    /// The entries of charges, by the time of use.
    async fn booked_uses(&self, scope: &Scope, segments: &[Segment]) -> Result<Vec<Booked>, StoreError>;
    /// All other entries, by the time at which they were booked.
    async fn booked_besides(&self, scope: &Scope, segments: &[Segment]) -> Result<Vec<Booked>, StoreError>;
    /// Money that came, by the time at which it was there.
    async fn collected(&self, scope: &Scope, segments: &[Segment]) -> Result<Vec<Collected>, StoreError>;
    /// Money that went back, or is on its way, by the time at which that was asked for.
    async fn refunded(&self, scope: &Scope, segments: &[Segment]) -> Result<Vec<Collected>, StoreError>;
    /// Payments by the time at which they were recorded.
    async fn payment_counts(
        &self,
        scope: &Scope,
        segments: &[Segment],
        limit: i64,
    ) -> Result<Vec<PaymentCount>, StoreError>;
    /// How the subscriptions of a page of customers were before a time: each customer with its changes, in their order.
    async fn subscription_changes(
        &self,
        scope: &Scope,
        before: Timestamp,
        page: Page<Uuid>,
    ) -> Result<Vec<(Uuid, Vec<SubscriptionChange>)>, StoreError>;
    /// Customers by the time at which they came.
    async fn acquired(&self, scope: &Scope, segments: &[Segment]) -> Result<Vec<Acquired>, StoreError>;
}
