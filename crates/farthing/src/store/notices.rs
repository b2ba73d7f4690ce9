//! What the store keeps of what tenants may want to tell their customers.

use async_trait::async_trait;
use engine::NoticeRecord;
use uuid::Uuid;

use super::{OperationRef, Page, Scope, StoreError};

/// A notice with its customer.
#[derive(Clone, Debug)]
pub struct NoticeRow {
    /// The caller's own id of the customer.
    pub external_id: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Its bucket.
    pub shard_key: i32,
    /// Its number among the tenant's, from 1 on and without gaps. Whoever has seen a number has seen all below it, or can:
    /// the next one is given when the transaction that took this one has ended.
    pub number: i64,
    /// The notice.
    pub record: NoticeRecord,
}

/// In which order notices are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoticeOrder {
    /// Those before the cursor, the newest first.
    NewestFirst,
    /// Those after the cursor, as they came to be.
    AsTheyCame,
}

/// The table of notices, by use case.
#[async_trait]
pub trait NoticeStore: Send + Sync {
    /// Notices of a customer, newest first; the cursor is the number.
    async fn notices_of_customer(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<i64>,
    ) -> Result<Vec<NoticeRow>, StoreError>;
    /// Notices of a tenant; the cursor is the number.
    async fn notices_of_tenant(
        &self,
        scope: &Scope,
        order: NoticeOrder,
        page: Page<i64>,
    ) -> Result<Vec<NoticeRow>, StoreError>;
}
