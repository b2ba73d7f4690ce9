//! The queries of notices, compiled once for each driver like those in `queries`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use engine::NoticeRecord;
use serde_json::json;
use uuid::Uuid;

use super::super::notices::{NoticeOrder, NoticeRow, NoticeStore};
use super::super::rows::{instant, json};
use super::super::{Batch, OperationRef, Page, Scope, StoreError};
use super::queries::text;
use super::{Backend, Connection, buckets};

macro_rules! notice_columns {
    () => {
        "SELECT n.shard_key, n.customer_id, k.external_id, n.number, n.id, n.notice, n.created_at FROM notices AS n
         JOIN customers AS k ON k.shard_key = n.shard_key AND k.customer_id = n.customer_id"
    };
}

type NoticeColumns = (i32, Uuid, String, i64, Uuid, String, i64);

fn notice_row(columns: NoticeColumns) -> Result<NoticeRow, StoreError> {
    let (shard_key, customer_id, external_id, number, id, notice, created_at) = columns;
    let record = NoticeRecord { id, notice: json(&notice)?, created_at: instant(created_at)? };
    Ok(NoticeRow { external_id, customer_id, shard_key, number, record })
}

#[async_trait]
impl NoticeStore for Backend {
    async fn notices_of_customer(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<i64>,
    ) -> Result<Vec<NoticeRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<NoticeColumns> = sqlx::query_as(concat!(
            notice_columns!(),
            " WHERE n.shard_key = $1 AND n.customer_id = $2 AND n.tenant = $3 AND n.number < $4
              ORDER BY n.number DESC LIMIT $5"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(page.after.unwrap_or(i64::MAX))
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(notice_row).collect()
    }

    async fn notices_of_tenant(
        &self,
        scope: &Scope,
        order: NoticeOrder,
        page: Page<i64>,
    ) -> Result<Vec<NoticeRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let (query, after) = match order {
            NoticeOrder::NewestFirst => (
                sqlx::query_as(concat!(
                    notice_columns!(),
                    " WHERE n.tenant = $1 AND n.number < $2 ORDER BY n.number DESC LIMIT $3"
                )),
                page.after.unwrap_or(i64::MAX),
            ),
            NoticeOrder::AsTheyCame => (
                sqlx::query_as(concat!(
                    notice_columns!(),
                    " WHERE n.tenant = $1 AND n.number > $2 ORDER BY n.number LIMIT $3"
                )),
                page.after.unwrap_or(0),
            ),
        };
        let found: Vec<NoticeColumns> =
            query.bind(&*scope.tenant).bind(after).bind(page.limit).fetch_all(&mut *connection).await?;
        found.into_iter().map(notice_row).collect()
    }
}

/// Writes the notices of a batch with the next numbers of their tenants. Whoever else would number a notice of the tenant
/// waits until this transaction has ended, so they come to be seen in the order of their numbers.
pub(super) async fn write_notices(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    let mut next: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &batch.notices {
        *next.entry(&row.tenant).or_default() += 1;
    }
    for (tenant, number) in &mut next {
        let (after,): (i64,) = sqlx::query_as(
            "INSERT INTO notice_numbers (tenant, next) VALUES ($1, 1 + $2)
             ON CONFLICT (tenant) DO UPDATE SET next = notice_numbers.next + $2 RETURNING next",
        )
        .bind(*tenant)
        .bind(*number)
        .fetch_one(&mut *connection)
        .await?;
        *number = after - *number;
    }
    let mut notices = Vec::with_capacity(batch.notices.len());
    for row in &batch.notices {
        let record = &row.value;
        let number = next.entry(&row.tenant).or_default();
        notices.push(json!({
            "s": row.shard_key, "i": record.id, "c": row.customer_id, "n": *number, "k": record.notice.kind(),
            "w": text(&record.notice)?, "a": record.created_at.as_microsecond(),
        }));
        *number += 1;
    }
    if notices.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO notices (shard_key, id, customer_id, tenant, number, kind, notice, created_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, CAST(t.value->>'n' AS BIGINT), t.value->>'k', t.value->>'w',
         CAST(t.value->>'a' AS BIGINT)
         FROM ",
        rows!("1"),
        for_each!(
            "customers",
            "c",
            in_buckets!("c.shard_key", "2"),
            " AND c.shard_key = CAST(t.value->>'s' AS INT) AND c.customer_id = ",
            uuid!("c")
        )
    ))
    .bind(text(&notices)?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}
