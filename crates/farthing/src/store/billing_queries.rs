//! The queries of billing, compiled once for each driver like those in `queries`.

use std::ops::Range;

use async_trait::async_trait;
use engine::invoice::{CreditNote, Invoice, InvoiceState};
use engine::subscription::Subscription;
use engine::{Asset, Cover, Micros};
use jiff::Timestamp;
use uuid::Uuid;

use super::super::billing::{BillingRow, BillingStore, ChargeTotals, DueCustomer, InvoiceNumbers, LineCharges, Work};
use super::super::payments::Whose;
use super::super::rows::{ChargeColumns, ChargeRow, EntryColumns, EntryRow, instant, json};
use super::super::{CustomerKey, OperationRef, Page, Scope, StoreError};
use super::queries::with_covers;
use super::{Backend, texts};

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

    async fn newest_invoices(&self, scope: &Scope, each: i64) -> Result<Vec<BillingRow<Invoice>>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Vec<InvoiceColumns> = sqlx::query_as(concat!(
            "SELECT i.shard_key, i.customer_id, k.external_id, i.number, i.invoice, i.standing FROM customers AS k",
            for_each!(
                "invoices",
                "i",
                "i.shard_key = k.shard_key AND i.customer_id = k.customer_id AND i.tenant = $1 AND i.number > COALESCE((
                     SELECT n.number FROM invoices AS n WHERE n.shard_key = k.shard_key AND n.customer_id = k.customer_id
                     ORDER BY n.number DESC LIMIT 1 OFFSET $2), 0)"
            ),
            " WHERE k.tenant = $1 AND k.customer_id >= $3 AND k.customer_id <= $4 ORDER BY i.number DESC"
        ))
        .bind(&*scope.tenant)
        .bind(each)
        .bind(scope.customer.unwrap_or_default())
        .bind(scope.customer.unwrap_or_else(Uuid::max))
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
