//! The queries of billing, compiled once for each driver like those in `queries`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice, InvoiceState};
use engine::subscription::Subscription;
use engine::{Asset, Cover, Micros};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::billing::{BillingRow, BillingStore, ChargeTotals, DueCustomer, InvoiceNumbers, LineCharges, Work};
use super::super::payments::Whose;
use super::super::rows::{ChargeColumns, ChargeRow, EntryColumns, EntryRow, instant, json};
use super::super::{Batch, CustomerKey, OperationRef, Page, Scope, StoreError, distinct};
use super::queries::{references, text, with_covers};
use super::{Backend, Connection, buckets, texts};

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

/// The charges of a usage line. They lie in a stretch of the index by customer and time.
macro_rules! of_line {
    () => {
        "c.shard_key = $1 AND c.customer_id = $2 AND c.tenant = $3 AND c.occurred_at >= $4 AND c.occurred_at < $5
         AND c.billed_with = $4 AND c.meter = $6 AND c.asset = $7
         AND (c.price = $8 OR (c.price IS NULL AND CAST($8 AS TEXT) IS NULL)) AND c.position >= $9 AND c.position < $10"
    };
}

macro_rules! totals {
    () => {
        "COUNT(*), CAST(COALESCE(SUM(c.quantity), 0) AS BIGINT), CAST(COALESCE(SUM(c.priced_quantity), 0) AS BIGINT),
         CAST(COALESCE(SUM(c.amount), 0) AS BIGINT), CAST(COALESCE(SUM(c.owed), 0) AS BIGINT),
         COALESCE(MIN(c.counted_before), 0), COALESCE(MAX(c.counted_before + c.priced_quantity), 0)"
    };
}

type TotalColumns = (i64, i64, i64, i64, i64, i64, i64);

fn total_row((charges, quantity, priced, amount, owed, from, to): TotalColumns) -> ChargeTotals {
    let [quantity, priced_quantity, amount, owed] = [quantity, priced, amount, owed].map(Micros::new);
    let (counted_from, counted_to) = (Micros::new(from), Micros::new(to));
    ChargeTotals { charges, quantity, priced_quantity, amount, owed, counted_from, counted_to }
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

    async fn subscription_of_reference(
        &self,
        tenant: &str,
        reference: &str,
    ) -> Result<Option<BillingRow<Subscription>>, StoreError> {
        let found: Option<SubscriptionColumns> =
            sqlx::query_as(concat!(subscription_columns!(), " WHERE s.reference = $1 AND s.tenant = $2 LIMIT 1"))
                .bind(reference)
                .bind(tenant)
                .fetch_optional(&mut *self.shared().await?)
                .await?;
        found.map(subscription_row).transpose()
    }

    async fn subscriptions_at_provider(
        &self,
        tenant: &str,
        page: Page<Uuid>,
    ) -> Result<Vec<BillingRow<Subscription>>, StoreError> {
        let found: Vec<SubscriptionColumns> = sqlx::query_as(concat!(
            subscription_columns!(),
            " WHERE s.reference IS NOT NULL AND s.tenant = $1 AND s.state NOT IN ('canceled', 'incomplete_expired')
                AND s.id > $2 ORDER BY s.id LIMIT $3"
        ))
        .bind(tenant)
        .bind(page.after.unwrap_or(Uuid::nil()))
        .bind(page.limit)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(subscription_row).collect()
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

    async fn invoices_since(
        &self,
        scope: &Scope,
        owner: OperationRef,
        since: Timestamp,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<InvoiceColumns> = sqlx::query_as(concat!(
            invoice_columns!(),
            " WHERE i.shard_key = $1 AND i.customer_id = $2 AND i.tenant = $3 AND i.number > $4 AND i.created_at >= $5
              ORDER BY i.number LIMIT $6"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(page.after.unwrap_or_default())
        .bind(since.as_microsecond())
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(invoice_row).collect()
    }

    async fn tenant_invoices(
        &self,
        scope: &Scope,
        state: Option<InvoiceState>,
        page: Page<i64>,
    ) -> Result<Vec<BillingRow<Invoice>>, StoreError> {
        let mut connection = self.read(scope).await?;
        let after = page.after.unwrap_or(i64::MAX);
        // Each has an index of its own, in which the wanted rows lie together.
        let found: Vec<InvoiceColumns> = match state {
            None => {
                sqlx::query_as(concat!(
                    invoice_columns!(),
                    " WHERE i.tenant = $1 AND i.number < $2 AND (i.customer_id = $4 OR $4 IS NULL)
                      ORDER BY i.number DESC LIMIT $3"
                ))
                .bind(&*scope.tenant)
                .bind(after)
                .bind(page.limit)
                .bind(scope.customer)
                .fetch_all(&mut *connection)
                .await?
            }
            Some(state) => {
                sqlx::query_as(concat!(
                    invoice_columns!(),
                    " WHERE i.tenant = $1 AND i.number < $2 AND i.state = $5 AND (i.customer_id = $4 OR $4 IS NULL)
                      ORDER BY i.number DESC LIMIT $3"
                ))
                .bind(&*scope.tenant)
                .bind(after)
                .bind(page.limit)
                .bind(scope.customer)
                .bind(state.as_str())
                .fetch_all(&mut *connection)
                .await?
            }
        };
        found.into_iter().map(invoice_row).collect()
    }

    async fn invoice_tenant(&self, id: OperationRef) -> Result<Option<String>, StoreError> {
        let found: Option<(String,)> = sqlx::query_as("SELECT tenant FROM invoices WHERE shard_key = $1 AND id = $2")
            .bind(id.0)
            .bind(id.1)
            .fetch_optional(&mut *self.shared().await?)
            .await?;
        Ok(found.map(|(tenant,)| tenant))
    }

    async fn line_charges(
        &self,
        scope: &Scope,
        line: &LineCharges,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<ChargeRow>, StoreError> {
        if !scope.sees(line.owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (at, id) = page.after.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<ChargeColumns> = sqlx::query_as(concat!(
            "SELECT ",
            charge_columns!(),
            " FROM charges AS c JOIN customers AS k ON k.shard_key = c.shard_key AND k.customer_id = c.customer_id WHERE ",
            of_line!(),
            " AND (c.occurred_at, c.id) < ($11, $12) ORDER BY c.occurred_at DESC, c.id DESC LIMIT $13"
        ))
        .bind(line.owner.0)
        .bind(line.owner.1)
        .bind(&*scope.tenant)
        .bind(line.used_in.as_microsecond())
        .bind(line.until.as_microsecond())
        .bind(&*line.meter)
        .bind(line.asset.as_str())
        .bind(line.price.as_deref())
        .bind(line.since)
        .bind(line.before)
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        with_covers(&mut connection, found).await
    }

    async fn line_totals(&self, scope: &Scope, line: &LineCharges) -> Result<ChargeTotals, StoreError> {
        if !scope.sees(line.owner.1) {
            return Ok(ChargeTotals::default());
        }
        let mut connection = self.read(scope).await?;
        let totals: TotalColumns =
            sqlx::query_as(concat!("SELECT ", totals!(), " FROM charges AS c WHERE ", of_line!()))
                .bind(line.owner.0)
                .bind(line.owner.1)
                .bind(&*scope.tenant)
                .bind(line.used_in.as_microsecond())
                .bind(line.until.as_microsecond())
                .bind(&*line.meter)
                .bind(line.asset.as_str())
                .bind(line.price.as_deref())
                .bind(line.since)
                .bind(line.before)
                .fetch_one(&mut *connection)
                .await?;
        Ok(total_row(totals))
    }

    async fn line_covers(&self, scope: &Scope, line: &LineCharges) -> Result<Vec<Cover>, StoreError> {
        if !scope.sees(line.owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<(Uuid, String, i64)> = sqlx::query_as(concat!(
            "SELECT e.grant_id, e.asset, CAST(SUM(e.amount) AS BIGINT) FROM charges AS c
             JOIN entries AS e ON e.shard_key = c.shard_key AND e.customer_id = c.customer_id AND e.position = c.position
                  AND e.cause_id = c.id
             WHERE e.kind = 'charge' AND e.debit = 'wallet' AND e.grant_id IS NOT NULL AND ",
            of_line!(),
            " GROUP BY e.grant_id, e.asset ORDER BY MIN(e.position), e.grant_id LIMIT 100"
        ))
        .bind(line.owner.0)
        .bind(line.owner.1)
        .bind(&*scope.tenant)
        .bind(line.used_in.as_microsecond())
        .bind(line.until.as_microsecond())
        .bind(&*line.meter)
        .bind(line.asset.as_str())
        .bind(line.price.as_deref())
        .bind(line.since)
        .bind(line.before)
        .fetch_all(&mut *connection)
        .await?;
        let cover = |(grant, asset, amount): (Uuid, String, i64)| Cover {
            grant,
            asset: Asset::new(&asset),
            amount: Micros::new(amount),
        };
        Ok(found.into_iter().map(cover).collect())
    }

    async fn covered_totals(&self, scope: &Scope, line: &LineCharges) -> Result<ChargeTotals, StoreError> {
        if !scope.sees(line.owner.1) {
            return Ok(ChargeTotals::default());
        }
        let mut connection = self.read(scope).await?;
        let totals: TotalColumns = sqlx::query_as(concat!(
            "SELECT ",
            totals!(),
            " FROM charges AS c
             WHERE c.shard_key = $1 AND c.customer_id = $2 AND c.tenant = $3 AND c.occurred_at >= $4 AND c.occurred_at < $5
                   AND c.meter = $6 AND (c.price = $7 OR c.price IS NULL) AND c.billed_with IS NULL AND c.position < $8"
        ))
        .bind(line.owner.0)
        .bind(line.owner.1)
        .bind(&*scope.tenant)
        .bind(line.used_in.as_microsecond())
        .bind(line.until.as_microsecond())
        .bind(&*line.meter)
        .bind(line.price.as_deref())
        .bind(line.before)
        .fetch_one(&mut *connection)
        .await?;
        Ok(total_row(totals))
    }

    async fn carried_entries(
        &self,
        scope: &Scope,
        owner: OperationRef,
        currency: &Asset,
        positions: (i64, i64),
    ) -> Result<Vec<EntryRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<EntryColumns> = sqlx::query_as(
            "SELECT position, line, kind, cause_id, grant_id, debit, credit, asset, amount, recorded_at FROM entries
             WHERE shard_key = $1 AND customer_id = $2 AND tenant = $3 AND position >= $4 AND position <= $5 AND asset = $6
                   AND (debit = 'carried' OR credit = 'carried') AND kind IN ('credit_note', 'invoice_payment', 'invoice_void', 'refund')
             ORDER BY position, line LIMIT 100",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(positions.0)
        .bind(positions.1)
        .bind(currency.as_str())
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(EntryColumns::row).collect()
    }

    async fn secret(&self, name: &str, candidate: &[u8; 32]) -> Result<[u8; 32], StoreError> {
        sqlx::query("INSERT INTO secrets (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(name)
            .bind(&candidate[..])
            .execute(&mut *self.shared_write().await?)
            .await?;
        let (secret,): (Vec<u8>,) = sqlx::query_as("SELECT secret FROM secrets WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *self.shared().await?)
            .await?;
        secret.try_into().map_err(|_| StoreError::Corrupt("a secret of another length".to_owned()))
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
        among: Range<i32>,
        page: Page<(Timestamp, i32, Uuid)>,
    ) -> Result<Vec<DueCustomer>, StoreError> {
        let (at, bucket, id) =
            page.after.map_or((i64::MIN, -1, Uuid::nil()), |(at, bucket, id)| (at.as_microsecond(), bucket, id));
        let found: Vec<(i32, Uuid, String, String, i64)> = sqlx::query_as(concat!(
            "SELECT due.shard_key, due.customer_id, due.tenant, k.external_id, due.due_at FROM (
                 SELECT shard_key, customer_id, tenant, due_at FROM dues
                 WHERE due_at <= $1 AND (due_at, shard_key, customer_id) > ($5, $6, $7)
                       AND shard_key >= $8 AND shard_key < $9 AND tenant IS NOT NULL AND ",
            in_texts!("tenant", "3"),
            " AND ($4 = 1 OR NOT EXISTS (SELECT 1 FROM test_clocks AS held WHERE held.tenant = dues.tenant))
                 ORDER BY due_at, shard_key, customer_id LIMIT $2
             ) AS due JOIN customers AS k ON k.shard_key = due.shard_key AND k.customer_id = due.customer_id
             ORDER BY due.due_at, due.shard_key, due.customer_id"
        ))
        .bind(now.as_microsecond())
        .bind(page.limit)
        .bind(texts(whose.tenants()))
        .bind(whose.held())
        .bind(at)
        .bind(bucket)
        .bind(id)
        .bind(among.start)
        .bind(among.end)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        let due = |(shard_key, customer_id, tenant, external_id, due_at): (i32, Uuid, String, String, i64)| {
            Ok(DueCustomer { shard_key, customer_id, tenant, external_id, due_at: instant(due_at)? })
        };
        found.into_iter().map(due).collect()
    }

    async fn work(&self, now: Timestamp) -> Result<Vec<Work>, StoreError> {
        type Columns = (String, String, String, i64, Option<i64>, i64, Option<i64>, i64, i64);
        let found: Vec<Columns> = sqlx::query_as(concat!(
            "SELECT w.tenant, w.thing, w.kind,
                    CAST(SUM(CASE WHEN w.due_at <= COALESCE(held.now, $1) THEN 1 ELSE 0 END) AS BIGINT),
                    MIN(CASE WHEN w.due_at <= COALESCE(held.now, $1) THEN w.due_at END),
                    CAST(SUM(CASE WHEN w.due_at > COALESCE(held.now, $1) THEN 1 ELSE 0 END) AS BIGINT),
                    MIN(CASE WHEN w.due_at > COALESCE(held.now, $1) THEN w.due_at END),
                    CAST(SUM(w.tried) AS BIGINT), CAST(SUM(w.given_up) AS BIGINT)
             FROM (
                 SELECT tenant, 'customer' AS thing, kind, due_at, 0 AS tried, 0 AS given_up FROM dues
                 UNION ALL
                 SELECT tenant, 'effect', ",
            json_of!("effect"),
            "->>'kind', due_at, CASE WHEN attempts > 0 THEN 1 ELSE 0 END, 0 FROM effects
                 WHERE state = 'due' AND attempts IS NOT NULL
                 UNION ALL
                 SELECT tenant, 'provider_event', 'provider_event', CASE WHEN state = 'due' THEN due_at END,
                        CASE WHEN state = 'due' AND attempts > 0 THEN 1 ELSE 0 END,
                        CASE WHEN state = 'dead' THEN 1 ELSE 0 END
                 FROM provider_events WHERE state IN ('due', 'dead')
             ) AS w LEFT JOIN test_clocks AS held ON held.tenant = w.tenant
             GROUP BY w.tenant, w.thing, w.kind ORDER BY w.tenant, w.thing, w.kind"
        ))
        .bind(now.as_microsecond())
        .fetch_all(&mut *self.shared().await?)
        .await?;
        let work = |(tenant, of, kind, due, oldest, later, next, tried, given_up): Columns| {
            let (oldest, next) = (oldest.map(instant).transpose()?, next.map(instant).transpose()?);
            Ok(Work { tenant, of, kind, due, oldest, later, next, tried, given_up })
        };
        found.into_iter().map(work).collect()
    }

    async fn invoice_numbers(&self) -> Result<Vec<InvoiceNumbers>, StoreError> {
        // One statement, so that all of it is of one moment.
        let found: Vec<(String, i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT n.tenant, n.next, COUNT(i.number), COUNT(DISTINCT i.number), COALESCE(MIN(i.number), 0),
                    COALESCE(MAX(i.number), 0)
             FROM invoice_numbers AS n LEFT JOIN invoices AS i ON i.tenant = n.tenant
             GROUP BY n.tenant, n.next ORDER BY n.tenant",
        )
        .fetch_all(&mut *self.shared().await?)
        .await?;
        let numbers = |(tenant, next, invoices, distinct, least, greatest): (String, i64, i64, i64, i64, i64)| {
            InvoiceNumbers { tenant, next, invoices, distinct, least, greatest }
        };
        Ok(found.into_iter().map(numbers).collect())
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
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(Uuid, Uuid, String, String)> = sqlx::query_as(concat!(
        "SELECT i.id, i.customer_id, i.invoice, i.standing FROM ",
        rows!("1"),
        for_each!(
            "invoices",
            "i",
            in_buckets!("i.shard_key", "2"),
            " AND i.shard_key = CAST(t.value->>'s' AS INT) AND i.id = ",
            uuid!("i")
        )
    ))
    .bind(references(ids)?)
    .bind(buckets(&distinct(ids.iter().map(|(shard_key, _)| *shard_key))))
    .fetch_all(connection)
    .await?;
    let invoice = |(id, customer, invoice, standing): (Uuid, Uuid, String, String)| {
        let invoice: Invoice = json(&invoice)?;
        Ok((id, (customer, Invoice { standing: json(&standing)?, ..invoice })))
    };
    found.into_iter().map(invoice).collect()
}

/// Writes what a batch has for billing.
pub(super) async fn write_billing(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    write_subscriptions(connection, batch).await?;
    write_subscription_changes(connection, batch).await?;
    write_dues(connection, batch).await?;
    write_invoice_changes(connection, batch).await?;
    // Last, because other writers wait for the numbers.
    write_invoices(connection, batch).await?;
    write_credit_notes(connection, batch).await
}

async fn write_subscriptions(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the last change of each counts: one statement may not touch a row twice.
    let mut subscriptions = BTreeMap::new();
    for row in &batch.subscriptions {
        let subscription = &row.value;
        let written = json!({
            "s": row.shard_key, "i": subscription.id, "c": row.customer_id, "u": subscription.state.as_str(),
            "r": subscription.reference, "d": text(subscription)?, "a": subscription.started_at.as_microsecond(),
        });
        subscriptions.insert((row.shard_key, subscription.id), written);
    }
    if subscriptions.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO subscriptions (shard_key, id, customer_id, tenant, state, reference, subscription, started_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, t.value->>'u', t.value->>'r', t.value->>'d', CAST(t.value->>'a' AS BIGINT) FROM ",
        rows!("1"),
        join_customers!(),
        " WHERE true
         ON CONFLICT (shard_key, id) DO UPDATE SET state = excluded.state, reference = excluded.reference,
             subscription = excluded.subscription"
    ))
    .bind(text(&subscriptions.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers how subscriptions are from these positions of their customers on.
async fn write_subscription_changes(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    let customers: HashMap<Uuid, _> = batch.customers.iter().map(|write| (write.customer.id, write)).collect();
    let mut changes = BTreeMap::new();
    for row in &batch.subscriptions {
        let subscription = &row.value;
        let Some(write) = customers.get(&row.customer_id) else { continue };
        let written = json!({
            "s": row.shard_key, "i": subscription.id, "c": row.customer_id, "p": write.customer.position,
            "a": subscription.ended_at.unwrap_or(write.at).as_microsecond(), "u": subscription.state.as_str(),
            "d": text(&subscription.terms)?, "k": subscription.coupon.as_ref().map(text).transpose()?,
        });
        changes.insert((row.shard_key, subscription.id), written);
    }
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO subscription_changes (shard_key, customer_id, subscription_id, position, changed_at, tenant, state, terms,
             coupon)
         SELECT c.shard_key, c.customer_id, ",
        uuid!("i"),
        ", CAST(t.value->>'p' AS BIGINT), CAST(t.value->>'a' AS BIGINT), c.tenant, t.value->>'u', t.value->>'d', t.value->>'k'
         FROM ",
        rows!("1"),
        join_customers!()
    ))
    .bind(text(&changes.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the next numbers of each tenant for the new invoices, in their order. Whoever else would number an invoice of
/// the tenant waits until this transaction has ended, so a number is never lost and never given twice.
async fn take_numbers<'a>(
    connection: &mut Connection,
    batch: &'a Batch,
) -> Result<BTreeMap<&'a str, i64>, sqlx::Error> {
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
    Ok(next)
}

async fn write_invoices(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.invoices.is_empty() {
        return Ok(());
    }
    let mut next = take_numbers(connection, batch).await?;
    let mut invoices = Vec::with_capacity(batch.invoices.len());
    for row in &batch.invoices {
        let invoice = &row.value;
        let number = next.entry(&row.tenant).or_default();
        invoices.push(json!({
            "s": row.shard_key, "i": invoice.id, "c": row.customer_id, "n": *number, "d": text(invoice)?,
            "u": invoice.standing.state.as_str(), "w": text(&invoice.standing)?,
            "a": invoice.created_at.as_microsecond(),
        }));
        *number += 1;
    }
    sqlx::query(concat!(
        "INSERT INTO invoices (shard_key, id, customer_id, tenant, number, invoice, state, standing, created_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, CAST(t.value->>'n' AS BIGINT), t.value->>'d', t.value->>'u', t.value->>'w',
         CAST(t.value->>'a' AS BIGINT) FROM ",
        rows!("1"),
        join_customers!()
    ))
    .bind(text(&invoices)?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_invoice_changes(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    let mut changes = BTreeMap::new();
    for row in &batch.invoice_changes {
        let standing = &row.value.standing;
        let written = json!({
            "s": row.shard_key, "i": row.value.invoice, "u": standing.state.as_str(), "w": text(standing)?,
        });
        changes.insert((row.shard_key, row.value.invoice), written);
    }
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE invoices AS i SET state = t.value->>'u', standing = t.value->>'w' FROM ",
        rows!("1"),
        " WHERE ",
        in_buckets!("i.shard_key", "2"),
        " AND i.shard_key = CAST(t.value->>'s' AS INT) AND i.id = ",
        uuid!("i"),
        few!()
    ))
    .bind(text(&changes.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_credit_notes(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.credit_notes.is_empty() {
        return Ok(());
    }
    let mut notes = Vec::with_capacity(batch.credit_notes.len());
    for row in &batch.credit_notes {
        let note = &row.value;
        notes.push(json!({
            "s": row.shard_key, "i": note.id, "c": row.customer_id, "v": note.invoice, "d": text(note)?,
            "a": note.created_at.as_microsecond(),
        }));
    }
    sqlx::query(concat!(
        "INSERT INTO credit_notes (shard_key, id, customer_id, tenant, invoice_id, credit_note, created_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, ",
        uuid!("v"),
        ", t.value->>'d', CAST(t.value->>'a' AS BIGINT) FROM ",
        rows!("1"),
        join_customers!()
    ))
    .bind(text(&notes)?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_dues(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the last change of each customer counts.
    let dues: BTreeMap<(i32, Uuid), _> =
        batch.dues.iter().map(|row| ((row.shard_key, row.customer_id), row.value)).collect();
    let (mut due, mut nothing) = (Vec::new(), Vec::new());
    for ((shard_key, customer), next) in dues {
        match next {
            Some((at, kind)) => {
                due.push(json!({"s": shard_key, "c": customer, "a": at.as_microsecond(), "k": kind.as_str()}));
            }
            None => nothing.push(json!({"s": shard_key, "c": customer})),
        }
    }
    if !due.is_empty() {
        sqlx::query(concat!(
            "INSERT INTO dues (shard_key, customer_id, tenant, due_at, kind)
             SELECT c.shard_key, c.customer_id, c.tenant, CAST(t.value->>'a' AS BIGINT), t.value->>'k' FROM ",
            rows!("1"),
            join_customers!(),
            " WHERE true
             ON CONFLICT (shard_key, customer_id) DO UPDATE SET due_at = excluded.due_at, kind = excluded.kind"
        ))
        .bind(text(&due)?)
        .bind(buckets(&batch.buckets()))
        .execute(&mut *connection)
        .await?;
    }
    if !nothing.is_empty() {
        sqlx::query(concat!(
            "DELETE FROM dues WHERE ",
            in_buckets!("shard_key", "2"),
            " AND (shard_key, customer_id) IN (SELECT CAST(t.value->>'s' AS INT), ",
            uuid!("c"),
            " FROM ",
            rows!("1"),
            " WHERE true",
            few!(),
            ")"
        ))
        .bind(text(&nothing)?)
        .bind(buckets(&batch.buckets()))
        .execute(connection)
        .await?;
    }
    Ok(())
}
