//! The queries of billing, compiled once for each driver like those in `queries`.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice};
use engine::subscription::Subscription;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::billing::{BillingRow, BillingStore};
use super::super::payments::Whose;
use super::super::rows::{instant, json};
use super::super::{Batch, CustomerKey, OperationRef, Page, Scope, StoreError};
use super::queries::text;
use super::{Backend, Connection, texts};

macro_rules! subscription_columns {
    () => {
        "SELECT s.shard_key, s.customer_id, k.external_id, s.subscription FROM subscriptions AS s
         JOIN customers AS k ON k.shard_key = s.shard_key AND k.customer_id = s.customer_id"
    };
}

macro_rules! invoice_columns {
    () => {
        "SELECT i.shard_key, i.customer_id, k.external_id, i.number, i.invoice, i.standing FROM invoices AS i
         JOIN customers AS k ON k.shard_key = i.shard_key AND k.customer_id = i.customer_id"
    };
}

type SubscriptionColumns = (i32, Uuid, String, String);
type InvoiceColumns = (i32, Uuid, String, i64, String, String);

fn subscription_row(columns: SubscriptionColumns) -> Result<BillingRow<Subscription>, StoreError> {
    let (shard_key, customer_id, external_id, subscription) = columns;
    Ok(BillingRow { external_id, customer_id, shard_key, value: json(&subscription)? })
}

fn invoice_row(columns: InvoiceColumns) -> Result<BillingRow<Invoice>, StoreError> {
    let (shard_key, customer_id, external_id, number, invoice, standing) = columns;
    let invoice: Invoice = json(&invoice)?;
    let value = Invoice { number: Some(number.to_string().into()), standing: json(&standing)?, ..invoice };
    Ok(BillingRow { external_id, customer_id, shard_key, value })
}

#[async_trait]
impl BillingStore for Backend {
    async fn subscription(
        &self,
        scope: &Scope,
        id: OperationRef,
    ) -> Result<Option<BillingRow<Subscription>>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<SubscriptionColumns> =
            sqlx::query_as(concat!(subscription_columns!(), " WHERE s.shard_key = $1 AND s.id = $2 AND s.tenant = $3"))
                .bind(id.0)
                .bind(id.1)
                .bind(&*scope.tenant)
                .fetch_optional(&mut *connection)
                .await?;
        found.filter(|row| scope.sees(row.1)).map(subscription_row).transpose()
    }

    async fn subscriptions(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<BillingRow<Subscription>>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (at, id) = page.after.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<SubscriptionColumns> = sqlx::query_as(concat!(
            subscription_columns!(),
            " WHERE s.shard_key = $1 AND s.customer_id = $2 AND s.tenant = $3 AND (s.started_at, s.id) < ($4, $5)
              ORDER BY s.started_at DESC, s.id DESC LIMIT $6"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(subscription_row).collect()
    }

    async fn invoice(&self, scope: &Scope, id: OperationRef) -> Result<Option<BillingRow<Invoice>>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<InvoiceColumns> =
            sqlx::query_as(concat!(invoice_columns!(), " WHERE i.shard_key = $1 AND i.id = $2 AND i.tenant = $3"))
                .bind(id.0)
                .bind(id.1)
                .bind(&*scope.tenant)
                .fetch_optional(&mut *connection)
                .await?;
        found.filter(|row| scope.sees(row.1)).map(invoice_row).transpose()
    }

    async fn invoices(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<InvoiceColumns> = sqlx::query_as(concat!(
            invoice_columns!(),
            " WHERE i.shard_key = $1 AND i.customer_id = $2 AND i.tenant = $3 AND i.number < $4
              ORDER BY i.number DESC LIMIT $5"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(page.after.unwrap_or(i64::MAX))
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(invoice_row).collect()
    }

    async fn credit_notes(&self, scope: &Scope, invoice: OperationRef) -> Result<Vec<CreditNote>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Vec<(Uuid, String)> = sqlx::query_as(
            "SELECT customer_id, credit_note FROM credit_notes
             WHERE shard_key = $1 AND invoice_id = $2 AND tenant = $3 ORDER BY created_at, id",
        )
        .bind(invoice.0)
        .bind(invoice.1)
        .bind(&*scope.tenant)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().filter(|(owner, _)| scope.sees(*owner)).map(|(_, note)| json(&note)).collect()
    }

    async fn due_customers(
        &self,
        whose: &Whose,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<(String, String, Timestamp)>, StoreError> {
        let found: Vec<(String, String, i64)> = sqlx::query_as(concat!(
            "SELECT d.tenant, k.external_id, d.due_at FROM dues AS d
             JOIN customers AS k ON k.shard_key = d.shard_key AND k.customer_id = d.customer_id
             WHERE d.due_at <= $1 AND ",
            in_texts!("d.tenant", "3"),
            " AND d.tenant IS NOT NULL
                   AND ($4 = 1 OR NOT EXISTS (SELECT 1 FROM test_clocks AS held WHERE held.tenant = d.tenant))
             ORDER BY d.due_at LIMIT $2"
        ))
        .bind(now.as_microsecond())
        .bind(limit)
        .bind(texts(whose.tenants()))
        .bind(whose.held())
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(|(tenant, id, due_at)| Ok((tenant, id, instant(due_at)?))).collect()
    }

    async fn postpone_due(&self, key: &CustomerKey, due_at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE dues SET due_at = $4 WHERE shard_key = $1 AND customer_id = (
                 SELECT customer_id FROM customers WHERE shard_key = $1 AND tenant = $2 AND external_id = $3)",
        )
        .bind(key.shard_key)
        .bind(&*key.tenant)
        .bind(&*key.external_id)
        .bind(due_at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }
}

/// Invoices that commands are about, by id, each with its customer.
pub(super) async fn find_invoices(
    connection: &mut Connection,
    ids: &[OperationRef],
) -> Result<HashMap<Uuid, (Uuid, Invoice)>, StoreError> {
    let mut invoices = HashMap::new();
    for (shard_key, id) in ids {
        let found: Option<(Uuid, String, String)> =
            sqlx::query_as("SELECT customer_id, invoice, standing FROM invoices WHERE shard_key = $1 AND id = $2")
                .bind(shard_key)
                .bind(id)
                .fetch_optional(&mut *connection)
                .await?;
        if let Some((customer, invoice, standing)) = found {
            let invoice: Invoice = json(&invoice)?;
            invoices.insert(*id, (customer, Invoice { standing: json(&standing)?, ..invoice }));
        }
    }
    Ok(invoices)
}

/// Writes what a batch has for billing.
pub(super) async fn write_billing(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    write_subscriptions(connection, batch).await?;
    write_invoices(connection, batch).await?;
    write_dues(connection, batch).await
}

async fn write_subscriptions(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the last change of each counts.
    let subscriptions: BTreeMap<Uuid, _> = batch.subscriptions.iter().map(|row| (row.value.id, row)).collect();
    for row in subscriptions.into_values() {
        let subscription = &row.value;
        sqlx::query(
            "INSERT INTO subscriptions (shard_key, id, customer_id, tenant, state, reference, subscription, started_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (shard_key, id) DO UPDATE SET state = excluded.state, reference = excluded.reference,
                 subscription = excluded.subscription",
        )
        .bind(row.shard_key)
        .bind(subscription.id)
        .bind(row.customer_id)
        .bind(&*row.tenant)
        .bind(subscription.state.as_str())
        .bind(subscription.reference.as_deref())
        .bind(text(subscription)?)
        .bind(subscription.started_at.as_microsecond())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Writes new invoices with the next numbers of their tenants, and how older ones stand. Whoever else would number an
/// invoice of the tenant waits until this transaction has ended, so a number is never lost and never given twice.
async fn write_invoices(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    let mut next: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &batch.invoices {
        *next.entry(&row.tenant).or_default() += 1;
    }
    for (tenant, number) in &mut next {
        let (after,): (i64,) = sqlx::query_as(
            "INSERT INTO invoice_numbers (tenant, next) VALUES ($1, 1 + $2)
             ON CONFLICT (tenant) DO UPDATE SET next = invoice_numbers.next + $2 RETURNING next",
        )
        .bind(*tenant)
        .bind(*number)
        .fetch_one(&mut *connection)
        .await?;
        *number = after - *number;
    }
    for row in &batch.invoices {
        let invoice = &row.value;
        let number = next.entry(&row.tenant).or_default();
        sqlx::query(
            "INSERT INTO invoices (shard_key, id, customer_id, tenant, number, invoice, state, standing, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(row.shard_key)
        .bind(invoice.id)
        .bind(row.customer_id)
        .bind(&*row.tenant)
        .bind(*number)
        .bind(text(invoice)?)
        .bind(invoice.standing.state.as_str())
        .bind(text(&invoice.standing)?)
        .bind(invoice.created_at.as_microsecond())
        .execute(&mut *connection)
        .await?;
        *number += 1;
    }
    for row in &batch.invoice_changes {
        let standing = &row.value.standing;
        sqlx::query("UPDATE invoices SET state = $3, standing = $4 WHERE shard_key = $1 AND id = $2")
            .bind(row.shard_key)
            .bind(row.value.invoice)
            .bind(standing.state.as_str())
            .bind(text(standing)?)
            .execute(&mut *connection)
            .await?;
    }
    for row in &batch.credit_notes {
        let note = &row.value;
        sqlx::query(
            "INSERT INTO credit_notes (shard_key, id, customer_id, tenant, invoice_id, credit_note, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.shard_key)
        .bind(note.id)
        .bind(row.customer_id)
        .bind(&*row.tenant)
        .bind(note.invoice)
        .bind(text(note)?)
        .bind(note.created_at.as_microsecond())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_dues(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    for row in &batch.dues {
        match row.value {
            Some(due_at) => {
                sqlx::query(
                    "INSERT INTO dues (shard_key, customer_id, tenant, due_at) VALUES ($1, $2, $3, $4)
                     ON CONFLICT (shard_key, customer_id) DO UPDATE SET due_at = excluded.due_at",
                )
                .bind(row.shard_key)
                .bind(row.customer_id)
                .bind(&*row.tenant)
                .bind(due_at.as_microsecond())
                .execute(&mut *connection)
                .await?;
            }
            None => {
                sqlx::query("DELETE FROM dues WHERE shard_key = $1 AND customer_id = $2")
                    .bind(row.shard_key)
                    .bind(row.customer_id)
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    Ok(())
}
