//! The queries, in ordinary SQL that both engines read; compiled once for each driver, which gives the few words that
//! differ (`rows!`, `for_each!`, `uuid!`, `in_buckets!`, `json_of!`) and the statements of the hot path.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use engine::{Asset, Cover, Micros};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::rows::{
    self, ChargeColumns, ChargeRow, CustomerColumns, CustomerRow, EntryColumns, EntryRow, GrantColumns, GrantRow,
    HoldRow, KeyColumns, KeyRow, UsageColumns, UsageRow,
};
use super::super::{
    Batch, CustomerKey, Known, LedgerSum, Loaded, Locked, Lookups, Operation, OperationRef, Outcome, Page, Scope,
    Store, StoreError, UsageQuery, distinct,
};
use super::batch_queries::{find_priors, lock, write};
use super::billing_batch_queries::find_invoices;
use super::payment_queries::find_payments;
use super::{Backend, Connection, NAME, buckets, settle};

/// How often two writers may create the same customer at once before one gives up.
const ATTEMPTS: usize = 16;

/// The columns of a charge, in the order of `ChargeColumns`.
macro_rules! charge_columns {
    () => {
        "c.shard_key, c.id, c.customer_id, k.external_id, c.position, c.operation_key, c.fingerprint, c.source, c.hold_id,
         c.meter, c.quantity, c.subject, c.dimensions, c.price, c.priced_quantity, c.counted_before, c.asset, c.amount,
         c.owed, c.balance_after, c.occurred_at, c.recorded_at, c.metadata, c.billed_with"
    };
}

/// Joins new rows with their customers. They exist; the join takes the rows to the shard that they belong to.
macro_rules! join_customers {
    () => {
        for_each!(
            "customers",
            "c",
            in_buckets!("c.shard_key", "2"),
            " AND c.shard_key = CAST(t.value->>'s' AS INT) AND c.customer_id = ",
            uuid!("c")
        )
    };
}

macro_rules! customer_columns {
    () => {
        "c.shard_key, c.customer_id, c.tenant, c.external_id, c.status, c.position, c.state, c.created_at, p.name, p.email,
         p.metadata, p.address, p.tax_id
         FROM customers AS c LEFT JOIN profiles AS p ON p.shard_key = c.shard_key AND p.customer_id = c.customer_id"
    };
}

#[async_trait]
impl Store for Backend {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&mut *self.shared().await?).await?;
        Ok(())
    }

    async fn schema_version(&self) -> Result<i64, StoreError> {
        let (version,): (i64,) = sqlx::query_as("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
            .fetch_one(&mut *self.shared().await?)
            .await?;
        Ok(version)
    }

    async fn load_customers(&self, keys: &[(CustomerKey, Option<Known>)]) -> Result<Vec<Loaded>, StoreError> {
        self.load(keys).await
    }

    async fn commit(&self, batch: &Batch) -> Result<Outcome, StoreError> {
        if batch.is_hot() {
            return self.commit_hot(batch).await;
        }
        let mut transaction = self.write().await?;
        let outcome = settle(write(&mut transaction, batch).await)?;
        if outcome == Outcome::Done {
            transaction.commit().await?;
        }
        Ok(outcome)
    }

    async fn commit_locked(
        &self,
        keys: &[CustomerKey],
        lookups: &Lookups,
        decide: &mut (dyn FnMut(Locked) -> Batch + Send),
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut transaction = self.write().await?;
            let customers = match lock(&mut transaction, keys).await {
                Err(StoreError::Database(error)) if super::is_conflict(&error) => continue,
                locked => locked?,
            };
            let priors = find_priors(&mut transaction, &lookups.operations).await?;
            let invoices = find_invoices(&mut transaction, &lookups.invoices).await?;
            let of_invoices = lookups.invoices.iter().filter_map(|(shard_key, id)| {
                let (_, invoice) = invoices.get(id)?;
                Some((*shard_key, invoice.standing.payment?))
            });
            let wanted: Vec<OperationRef> = lookups.payments.iter().copied().chain(of_invoices).collect();
            let payments = find_payments(&mut transaction, &wanted).await?;
            let batch = decide(Locked { customers, priors, payments, invoices });
            if batch.is_empty() {
                return Ok(());
            }
            if settle(write(&mut transaction, &batch).await)? == Outcome::Done {
                transaction.commit().await?;
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    async fn find_operation(&self, _tenant: &str, id: OperationRef) -> Result<Option<Operation>, StoreError> {
        let mut connection = self.shared().await?;
        let found: Option<(Uuid, i64, String)> =
            sqlx::query_as("SELECT id, fingerprint, answer FROM operations WHERE shard_key = $1 AND id = $2")
                .bind(id.0)
                .bind(id.1)
                .fetch_optional(&mut *connection)
                .await?;
        Ok(found.map(|(id, fingerprint, answer)| Operation { id, fingerprint, answer }))
    }

    async fn keep_operation(
        &self,
        tenant: &str,
        owner: (i32, Option<Uuid>),
        operation: &Operation,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO operations (shard_key, customer_id, id, tenant, fingerprint, answer, recorded_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(operation.id)
        .bind(tenant)
        .bind(operation.fingerprint)
        .bind(&operation.answer)
        .bind(at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn forget_operations(&self, before: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM operations WHERE recorded_at < $1 AND customer_id IS NULL")
            .bind(before.as_microsecond())
            .execute(&mut *self.shared_write().await?)
            .await?;
        Ok(forgotten.rows_affected())
    }

    async fn customer(&self, scope: &Scope, key: &CustomerKey) -> Result<Option<CustomerRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<CustomerColumns> = sqlx::query_as(concat!(
            "SELECT ",
            customer_columns!(),
            " WHERE c.shard_key = $1 AND c.tenant = $2 AND c.external_id = $3"
        ))
        .bind(key.shard_key)
        .bind(&*scope.tenant)
        .bind(&*key.external_id)
        .fetch_optional(&mut *connection)
        .await?;
        let row = found.map(CustomerColumns::row).transpose()?;
        Ok(row.filter(|row| scope.sees(row.customer.id)))
    }

    async fn customers(&self, scope: &Scope, page: Page<Uuid>) -> Result<Vec<CustomerRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Vec<CustomerColumns> = sqlx::query_as(concat!(
            "SELECT ",
            customer_columns!(),
            " WHERE c.tenant = $1 AND c.customer_id > $2 AND (c.customer_id = $4 OR $4 IS NULL)
              ORDER BY c.customer_id LIMIT $3"
        ))
        .bind(&*scope.tenant)
        .bind(page.after.unwrap_or_default())
        .bind(page.limit)
        .bind(scope.customer)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(CustomerColumns::row).collect()
    }

    async fn charge(&self, scope: &Scope, id: OperationRef) -> Result<Option<ChargeRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<ChargeColumns> = sqlx::query_as(concat!(
            "SELECT ",
            charge_columns!(),
            " FROM charges AS c JOIN customers AS k ON k.shard_key = c.shard_key AND k.customer_id = c.customer_id
             WHERE c.shard_key = $1 AND c.id = $2 AND c.tenant = $3"
        ))
        .bind(id.0)
        .bind(id.1)
        .bind(&*scope.tenant)
        .fetch_optional(&mut *connection)
        .await?;
        let found = found.filter(|row| scope.sees(row.customer_id));
        Ok(with_covers(&mut connection, found.into_iter().collect()).await?.pop())
    }

    async fn charges(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<ChargeRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (at, id) = page.after.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<ChargeColumns> = sqlx::query_as(concat!(
            "SELECT ",
            charge_columns!(),
            " FROM charges AS c JOIN customers AS k ON k.shard_key = c.shard_key AND k.customer_id = c.customer_id
             WHERE c.shard_key = $1 AND c.customer_id = $2 AND c.tenant = $3 AND (c.occurred_at, c.id) < ($4, $5)
             ORDER BY c.occurred_at DESC, c.id DESC LIMIT $6"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        with_covers(&mut connection, found).await
    }

    async fn entries(
        &self,
        scope: &Scope,
        owner: OperationRef,
        wallet: Option<&str>,
        page: Page<(i64, i16)>,
    ) -> Result<Vec<EntryRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (position, line) = page.after.unwrap_or((i64::MAX, i16::MAX));
        let found: Vec<EntryColumns> = sqlx::query_as(
            "SELECT position, line, kind, cause_id, grant_id, debit, credit, asset, amount, recorded_at FROM entries
             WHERE shard_key = $1 AND customer_id = $2 AND tenant = $3 AND (position, line) < ($4, $5)
                   AND ((asset = $6 AND (debit = 'wallet' OR credit = 'wallet')) OR $6 IS NULL)
             ORDER BY position DESC, line DESC LIMIT $7",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(position)
        .bind(line)
        .bind(wallet)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(EntryColumns::row).collect()
    }

    async fn wallet_at(
        &self,
        scope: &Scope,
        owner: OperationRef,
        asset: &str,
        at: (i64, i16),
    ) -> Result<Micros, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Micros::ZERO);
        }
        let mut connection = self.read(scope).await?;
        let (sum,): (i64,) = sqlx::query_as(
            "SELECT CAST(COALESCE(SUM(CASE WHEN credit = 'wallet' THEN amount WHEN debit = 'wallet' THEN -amount ELSE 0 END), 0)
                    AS BIGINT)
             FROM entries
             WHERE shard_key = $1 AND customer_id = $2 AND tenant = $3 AND asset = $4 AND (position, line) <= ($5, $6)",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(asset)
        .bind(at.0)
        .bind(at.1)
        .fetch_one(&mut *connection)
        .await?;
        Ok(Micros::new(sum))
    }

    async fn grants(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(i64, Uuid)>,
    ) -> Result<Vec<GrantRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (position, id) = page.after.unwrap_or((i64::MAX, Uuid::max()));
        let found: Vec<GrantColumns> = sqlx::query_as(
            "SELECT id, position, asset, kind, amount, priority, expires_at, meters, reason, created_at, ended FROM grants
             WHERE shard_key = $1 AND customer_id = $2 AND tenant = $3 AND (position, id) < ($4, $5)
             ORDER BY position DESC, id DESC LIMIT $6",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(position)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(GrantColumns::row).collect()
    }

    async fn hold(&self, scope: &Scope, id: OperationRef) -> Result<Option<HoldRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<(String, Uuid, i64, String, String, i64)> = sqlx::query_as(
            "SELECT k.external_id, h.customer_id, h.position, h.state, h.hold, h.changed_at FROM holds AS h
             JOIN customers AS k ON k.shard_key = h.shard_key AND k.customer_id = h.customer_id
             WHERE h.shard_key = $1 AND h.id = $2 AND h.tenant = $3",
        )
        .bind(id.0)
        .bind(id.1)
        .bind(&*scope.tenant)
        .fetch_optional(&mut *connection)
        .await?;
        let Some((external_id, customer, position, state, hold, changed_at)) = found else { return Ok(None) };
        if !scope.sees(customer) {
            return Ok(None);
        }
        let (hold, state, changed_at) = (rows::json(&hold)?, rows::word(&state)?, rows::instant(changed_at)?);
        Ok(Some(HoldRow { external_id, record: engine::HoldRecord { hold, state, position, changed_at } }))
    }

    async fn usage(&self, scope: &Scope, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        if !scope.sees(query.customer) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let found: Vec<UsageColumns> = sqlx::query_as(concat!(
            "SELECT meter, asset, window_index, who AS subject, dimension, COUNT(*) AS charges,
                    CAST(SUM(quantity) AS BIGINT) AS quantity, CAST(SUM(amount) AS BIGINT) AS amount
             FROM (
                 SELECT c.meter, c.asset, c.quantity, c.amount, c.occurred_at / CAST($6 AS BIGINT) AS window_index,
                        CASE WHEN $7 = 1 THEN c.subject END AS who,
                        CASE WHEN CAST($8 AS TEXT) IS NOT NULL THEN ",
            json_of!("c.dimensions"),
            "->>CAST($8 AS TEXT) END AS dimension
                 FROM charges AS c
                 WHERE c.shard_key = $1 AND c.customer_id = $2 AND c.tenant = $3 AND c.occurred_at >= $4 AND c.occurred_at < $5
                       AND (c.meter = $9 OR $9 IS NULL) AND (c.subject = $10 OR $10 IS NULL)
             ) AS used
             GROUP BY meter, asset, window_index, who, dimension
             ORDER BY window_index, meter, asset, COALESCE(who, ''), COALESCE(dimension, '') LIMIT $11"
        ))
        .bind(query.shard_key)
        .bind(query.customer)
        .bind(&*scope.tenant)
        .bind(query.from.as_microsecond())
        .bind(query.to.as_microsecond())
        .bind(query.window)
        .bind(i32::from(query.by_subject))
        .bind(&query.dimension)
        .bind(&query.meter)
        .bind(&query.subject)
        .bind(query.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(|columns| columns.row(query.window)).collect()
    }

    async fn keep_prices(&self, tenant: &str, definitions: &[(String, String)]) -> Result<(), StoreError> {
        let mut connection = self.shared_write().await?;
        for (version, definition) in definitions {
            sqlx::query("INSERT INTO prices (tenant, version, definition) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
                .bind(tenant)
                .bind(version)
                .bind(definition)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    async fn price(&self, scope: &Scope, version: &str) -> Result<Option<String>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<(String,)> =
            sqlx::query_as("SELECT definition FROM prices WHERE tenant = $1 AND version = $2")
                .bind(&*scope.tenant)
                .bind(version)
                .fetch_optional(&mut *connection)
                .await?;
        Ok(found.map(|(definition,)| definition))
    }

    async fn add_key(&self, key: &KeyRow, digest: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_keys (id, digest, tenant, name, scope, preview, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(key.id)
        .bind(&digest[..])
        .bind(&key.tenant)
        .bind(&key.name)
        .bind(&key.scope)
        .bind(&key.preview)
        .bind(key.created_at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn find_key(&self, digest: &[u8; 32]) -> Result<Option<KeyRow>, StoreError> {
        let found: Option<KeyColumns> = sqlx::query_as(
            "SELECT id, tenant, name, scope, preview, created_at, revoked_at FROM api_keys
             WHERE digest = $1 AND revoked_at IS NULL",
        )
        .bind(&digest[..])
        .fetch_optional(&mut *self.shared().await?)
        .await?;
        found.map(KeyColumns::row).transpose()
    }

    async fn keys(&self, tenant: &str) -> Result<Vec<KeyRow>, StoreError> {
        let found: Vec<KeyColumns> = sqlx::query_as(
            "SELECT id, tenant, name, scope, preview, created_at, revoked_at FROM api_keys WHERE tenant = $1 ORDER BY id",
        )
        .bind(tenant)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(KeyColumns::row).collect()
    }

    async fn revoke_key(&self, tenant: &str, id: Uuid, at: Timestamp) -> Result<bool, StoreError> {
        let revoked =
            sqlx::query("UPDATE api_keys SET revoked_at = $3 WHERE tenant = $1 AND id = $2 AND revoked_at IS NULL")
                .bind(tenant)
                .bind(id)
                .bind(at.as_microsecond())
                .execute(&mut *self.shared_write().await?)
                .await?;
        Ok(revoked.rows_affected() > 0)
    }

    async fn imported_lines(&self, tenant: &str, digest: &str) -> Result<i64, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT lines FROM imports WHERE tenant = $1 AND digest = $2")
            .bind(tenant)
            .bind(digest)
            .fetch_optional(&mut *self.shared().await?)
            .await?;
        Ok(found.map_or(0, |(lines,)| lines))
    }

    async fn note_imported(&self, tenant: &str, digest: &str, lines: i64, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO imports (tenant, digest, lines, updated_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant, digest) DO UPDATE SET lines = excluded.lines, updated_at = excluded.updated_at",
        )
        .bind(tenant)
        .bind(digest)
        .bind(lines)
        .bind(at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn all_customers(&self, page: Page<(i32, Uuid)>) -> Result<Vec<CustomerRow>, StoreError> {
        let (shard_key, id) = page.after.unwrap_or((-1, Uuid::nil()));
        let found: Vec<CustomerColumns> = sqlx::query_as(concat!(
            "SELECT ",
            customer_columns!(),
            " WHERE (c.shard_key, c.customer_id) > ($1, $2) ORDER BY c.shard_key, c.customer_id LIMIT $3"
        ))
        .bind(shard_key)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(CustomerColumns::row).collect()
    }

    async fn ledger_sums(&self, owner: OperationRef, position: i64) -> Result<Vec<LedgerSum>, StoreError> {
        let found: Vec<(String, Option<Uuid>, String, i64, i64)> = sqlx::query_as(
            // In two parts, because the sum of all may be more than a BIGINT holds.
            "SELECT account, grant_id, asset, CAST(SUM(amount / 1000000) AS BIGINT), CAST(SUM(amount % 1000000) AS BIGINT)
             FROM (
                 SELECT credit AS account, CASE WHEN credit = 'wallet' THEN grant_id END AS grant_id, asset, amount
                 FROM entries WHERE shard_key = $1 AND customer_id = $2 AND position <= $3
                 UNION ALL
                 SELECT debit, CASE WHEN debit = 'wallet' THEN grant_id END, asset, -amount
                 FROM entries WHERE shard_key = $1 AND customer_id = $2 AND position <= $3
             ) AS sides GROUP BY account, grant_id, asset",
        )
        .bind(owner.0)
        .bind(owner.1)
        .bind(position)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        let sum = |(account, grant, asset, units, micros): (String, Option<Uuid>, String, i64, i64)| LedgerSum {
            account,
            grant,
            asset: Asset::new(&asset),
            amount: i128::from(units) * 1_000_000 + i128::from(micros),
        };
        Ok(found.into_iter().map(sum).collect())
    }

    async fn last_position(&self, owner: OperationRef) -> Result<i64, StoreError> {
        let (position,): (i64,) =
            sqlx::query_as("SELECT COALESCE(MAX(position), 0) FROM entries WHERE shard_key = $1 AND customer_id = $2")
                .bind(owner.0)
                .bind(owner.1)
                .fetch_one(&mut *self.shared().await?)
                .await?;
        Ok(position)
    }

    async fn unbalanced_charges(&self, owner: OperationRef) -> Result<Vec<Uuid>, StoreError> {
        let found: Vec<(Uuid,)> = sqlx::query_as(
            // One pass over both tables: a join of them would be planned by statistics that may be of yesterday.
            "SELECT id FROM (
                 SELECT id, SUM(charges) AS charges,
                        CASE WHEN SUM(owed) <> 0 OR (SUM(priced) > 0 AND SUM(amount) <> 0) THEN 1 ELSE 0 END AS wrong
                 FROM (
                     SELECT id, asset, 1 AS charges, CASE WHEN price IS NULL THEN 0 ELSE 1 END AS priced, amount, owed
                     FROM charges WHERE shard_key = $1 AND customer_id = $2 AND tenant IS NOT NULL
                     UNION ALL
                     SELECT cause_id, asset, 0, 0, CASE WHEN debit = 'revenue' THEN amount ELSE -amount END,
                            CASE WHEN debit = 'receivable' THEN -amount ELSE 0 END
                     FROM entries WHERE shard_key = $1 AND customer_id = $2 AND kind IN ('charge', 'repricing')
                 ) AS sides GROUP BY id, asset
             ) AS sums GROUP BY id HAVING SUM(charges) = 0 OR SUM(wrong * charges) > 0
             LIMIT 10",
        )
        .bind(owner.0)
        .bind(owner.1)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        Ok(found.into_iter().map(|(id,)| id).collect())
    }
}

/// The dimensions of a charge as its column holds them.
pub(super) fn dimensions_text(dimensions: &BTreeMap<String, String>) -> Result<Option<String>, sqlx::Error> {
    if dimensions.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(dimensions).map(Some).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) fn text<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Rows to look for as a parameter of `rows!`.
pub(super) fn references<'a>(ids: impl IntoIterator<Item = &'a OperationRef>) -> Result<String, sqlx::Error> {
    let wanted = ids.into_iter().map(|(shard_key, id)| json!({"s": shard_key, "i": id}));
    text(&wanted.collect::<Vec<_>>())
}

/// Charges with what covered them, which their entries say.
pub(super) async fn with_covers(
    connection: &mut Connection,
    charges: Vec<ChargeColumns>,
) -> Result<Vec<ChargeRow>, StoreError> {
    if charges.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<_> =
        charges.iter().map(|row| json!({"s": row.shard_key, "c": row.customer_id, "p": row.position})).collect();
    let entries: Vec<EntryColumns> = sqlx::query_as(concat!(
        "SELECT e.position, e.line, e.kind, e.cause_id, e.grant_id, e.debit, e.credit, e.asset, e.amount, e.recorded_at
         FROM ",
        rows!("1"),
        for_each!(
            "entries",
            "e",
            in_buckets!("e.shard_key", "2"),
            " AND e.shard_key = CAST(t.value->>'s' AS INT) AND e.customer_id = ",
            uuid!("c"),
            " AND e.position = CAST(t.value->>'p' AS BIGINT) AND e.kind = 'charge' AND e.debit = 'wallet'"
        ),
        " ORDER BY e.position, e.line"
    ))
    .bind(text(&wanted)?)
    .bind(buckets(&distinct(charges.iter().map(|row| row.shard_key))))
    .fetch_all(connection)
    .await?;
    let mut covers: HashMap<Uuid, Vec<Cover>> = HashMap::new();
    for entry in entries {
        let entry = entry.row()?.entry;
        let Some(grant) = entry.grant else { continue };
        let of_charge = covers.entry(entry.cause).or_default();
        // Two charges of one transaction name the same position, so its entries are found twice.
        if !of_charge.iter().any(|cover| cover.grant == grant) {
            of_charge.push(Cover { grant, asset: entry.asset, amount: entry.amount });
        }
    }
    charges
        .into_iter()
        .map(|columns| {
            let id = columns.id;
            columns.row(covers.remove(&id).unwrap_or_default())
        })
        .collect()
}
