//! What the store keeps of what tenants sell, and what it knows of who has it.

use async_trait::async_trait;
use engine::plan::Plan;
use jiff::Timestamp;

use super::StoreError;

/// Subscriptions that have not ended, of one version of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribers {
    /// The plan's name.
    pub plan: String,
    /// The version.
    pub version: String,
    /// How many.
    pub subscriptions: i64,
}

/// The tables of what is sold, by use case.
#[async_trait]
pub trait OfferStore: Send + Sync {
    /// Keeps the definitions of plans, each by its version; one that is kept already stays as it is.
    async fn keep_plans(&self, tenant: &str, plans: &[&Plan], at: Timestamp) -> Result<(), StoreError>;
    /// Every version of every plan of a tenant that was ever kept.
    async fn kept_plans(&self, tenant: &str) -> Result<Vec<Plan>, StoreError>;
    /// Keeps what a tenant sells, as JSON, in place of what it sold before.
    async fn keep_offer(&self, tenant: &str, offer: &str, at: Timestamp) -> Result<(), StoreError>;
    /// What a tenant sold when a server last began with its file.
    async fn offer(&self, tenant: &str) -> Result<Option<String>, StoreError>;
    /// How many subscriptions that have not ended are on each version of each plan.
    async fn subscribers(&self, tenant: &str) -> Result<Vec<Subscribers>, StoreError>;
    /// How many customers there are, and how many of them have a subscription that has not ended.
    async fn customer_counts(&self, tenant: &str) -> Result<(i64, i64), StoreError>;
    /// How many customers were charged at each version of a price for uses since then.
    async fn customers_of_prices(&self, tenant: &str, since: Timestamp) -> Result<Vec<(String, i64)>, StoreError>;
}
