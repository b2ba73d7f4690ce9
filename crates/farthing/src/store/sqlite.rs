//! SQLite: one writer, several readers, and the statements of the hot path.
//!
//! Write-ahead log with `synchronous=FULL`, so that an answered commit survives a power cut. Write transactions begin
//! with `BEGIN IMMEDIATE`: a deferred one that turns into a writer fails with "database is locked" under load. The log is
//! folded back into the file from a connection of its own, so that no commit waits for it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::task::JoinHandle;

use super::{Batch, CustomerKey, Known, Loaded, Outcome, Scope, StoreError, rows};

macro_rules! rows {
    ($parameter:literal) => {
        concat!("json_each($", $parameter, ") AS t")
    };
}
/// For each row so far, the rows of a table that a condition finds by their key. SQLite keeps the order of a cross join.
macro_rules! for_each {
    ($table:literal, $alias:literal, $($condition:expr),+) => {
        concat!(" CROSS JOIN ", $table, " AS ", $alias, " ON ", $($condition),+)
    };
}
/// Nothing: SQLite looks for the rows handed in anyway.
macro_rules! few {
    () => {
        ""
    };
}
macro_rules! uuid {
    ($field:literal) => {
        concat!("unhex(t.value->>'", $field, "', '-')")
    };
}
macro_rules! in_buckets {
    ($column:literal, $parameter:literal) => {
        concat!($column, " IN (SELECT value FROM json_each($", $parameter, "))")
    };
}
macro_rules! in_texts {
    ($column:literal, $parameter:literal) => {
        concat!($column, " IN (SELECT value FROM json_each($", $parameter, "))")
    };
}
macro_rules! json_of {
    ($column:literal) => {
        $column
    };
}
/// The elements of a list in a JSON document, each as `value`.
macro_rules! elements {
    ($column:literal, $member:literal, $alias:literal) => {
        concat!("json_each(", $column, ", '$.", $member, "') AS ", $alias)
    };
}

// First, because the others use its macros.
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "queries.rs"]
#[macro_use]
mod queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "analytics_queries.rs"]
mod analytics_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "batch_queries.rs"]
mod batch_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "billing_batch_queries.rs"]
mod billing_batch_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "billing_queries.rs"]
mod billing_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "notice_queries.rs"]
mod notice_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "offer_queries.rs"]
mod offer_queries;
#[expect(clippy::duplicate_mod, reason = "the queries are written once and compiled for each driver")]
#[path = "payment_queries.rs"]
mod payment_queries;

use SqliteStore as Backend;
type Connection = SqliteConnection;
type Write = Transaction<'static, Sqlite>;
type Read = PoolConnection<Sqlite>;

const NAME: &str = "SQLite";

/// A list of buckets as a parameter.
fn buckets(list: &[i32]) -> String {
    json(&list).unwrap_or_default()
}

/// A list of texts as a parameter.
fn texts(list: &[std::sync::Arc<str>]) -> String {
    json(&list).unwrap_or_default()
}

/// The store on SQLite.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    checkpoints: JoinHandle<()>,
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.checkpoints.abort();
    }
}

impl SqliteStore {
    /// Opens the file, making it where there is none, and migrates.
    ///
    /// # Errors
    /// `Database` and `Migration` as they come.
    pub async fn open(path: &str) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            .pragma("cache_size", "-16000")
            // Only a bound: the log is folded back by `checkpoint` long before.
            .pragma("wal_autocheckpoint", "50000");
        let pool = SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(30)).test_before_acquire(false);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("../../migrations/sqlite").run(&writer).await?;
        let readers = pool.clone().max_connections(4).connect_with(options.clone()).await?;
        let checkpointer = pool.max_connections(1).connect_with(options).await?;
        let checkpoints = tokio::spawn(checkpoint(checkpointer, PathBuf::from(format!("{path}-wal"))));
        Ok(Self { writer, readers, checkpoints })
    }

    async fn read(&self, _scope: &Scope) -> Result<Read, StoreError> {
        Ok(self.readers.acquire().await?)
    }

    async fn write(&self) -> Result<Write, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    async fn shared(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.readers.acquire().await?)
    }

    async fn shared_write(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.writer.acquire().await?)
    }

    async fn load(&self, keys: &[(CustomerKey, Option<Known>)]) -> Result<Vec<Loaded>, StoreError> {
        let wanted: Vec<_> =
            keys.iter().map(|(key, known)| (key.shard_key, &*key.tenant, &*key.external_id, known.unzip())).collect();
        let mut loaded = vec![Loaded::Absent; keys.len()];
        let found: Vec<LoadedColumns> = sqlx::query_as(LOAD).bind(json(&wanted)?).fetch_all(&self.readers).await?;
        for (number, shard_key, id, status, position, state) in found {
            let Some(place) = usize::try_from(number).ok().and_then(|index| loaded.get_mut(index)) else { continue };
            *place = match state {
                None => Loaded::Unchanged,
                Some(state) => Loaded::Changed(rows::customer(shard_key, id, &status, position, &state)?),
            };
        }
        Ok(loaded)
    }

    async fn commit_hot(&self, batch: &Batch) -> Result<Outcome, StoreError> {
        let mut transaction = self.write().await?;
        let outcome = settle(write_hot(&mut transaction, batch).await)?;
        if outcome == Outcome::Done {
            transaction.commit().await?;
        }
        Ok(outcome)
    }
}

/// Folds the log back into the file when it has grown, beside the commits.
async fn checkpoint(pool: SqlitePool, log: PathBuf) {
    const GROWN_BYTES: u64 = 8 << 20;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let grown = tokio::fs::metadata(&log).await.is_ok_and(|file| file.len() > GROWN_BYTES);
        if grown && let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&pool).await {
            tracing::warn!(event = "checkpoint_failed", %error);
        }
    }
}

/// An error that means a conflict rather than a failure: a key that was used before.
fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn settle(written: Result<bool, sqlx::Error>) -> Result<Outcome, StoreError> {
    match written {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => Ok(Outcome::Conflict),
        Err(error) if is_conflict(&error) => Ok(Outcome::Conflict),
        Err(error) => Err(error.into()),
    }
}

fn json(value: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

type LoadedColumns = (i64, i32, uuid::Uuid, String, i64, Option<String>);

/// Customers by address; the state only of those that are not where the asker knows them.
const LOAD: &str = "
    SELECT t.key, c.shard_key, c.customer_id, c.status, c.position,
           CASE WHEN c.customer_id = unhex(t.value->>'$[3][0]', '-') AND c.position = t.value->>'$[3][1]'
                THEN NULL ELSE c.state END
    FROM json_each($1) AS t CROSS JOIN customers AS c
    WHERE c.shard_key = t.value->>0 AND c.tenant = t.value->>1 AND c.external_id = t.value->>2";

/// Customers by address; the one writer locks the whole database.
const LOCK: &str = "
    SELECT CAST(t.value->>'n' AS INTEGER), c.shard_key, c.customer_id, c.status, c.position, c.state
    FROM json_each($1) AS t CROSS JOIN customers AS c
         ON c.shard_key = t.value->>'s' AND c.tenant = t.value->>'t' AND c.external_id = t.value->>'e'
    WHERE c.shard_key IN (SELECT value FROM json_each($2))";

const WRITE_CUSTOMERS: &str = "
    UPDATE customers AS c SET position = t.value->>3, status = t.value->>4, state = t.value->>5
    FROM json_each($1) AS t
    WHERE c.shard_key = t.value->>0 AND c.customer_id = unhex(t.value->>1, '-') AND c.position = t.value->>2";

const WRITE_CHARGES: &str = "
    INSERT INTO charges (shard_key, id, customer_id, tenant, position, operation_key, fingerprint, source, hold_id, meter,
        quantity, subject, dimensions, price, priced_quantity, counted_before, asset, amount, owed, balance_after,
        occurred_at, recorded_at, metadata, billed_with)
    SELECT value->>'$[0][0]', unhex(value->>'$[0][1]', '-'), unhex(value->>'$[0][2]', '-'), value->>'$[0][3]',
        value->>'$[0][4]', value->>'$[0][5]', value->>'$[0][6]', value->>'$[0][7]', unhex(value->>'$[0][8]', '-'),
        value->>'$[0][9]', value->>'$[0][10]', value->>'$[0][11]', value->>'$[1][0]', value->>'$[1][1]',
        value->>'$[1][2]', value->>'$[1][3]', value->>'$[1][4]', value->>'$[1][5]', value->>'$[1][6]', value->>'$[1][7]',
        value->>'$[1][8]', value->>'$[1][9]', value->>'$[1][10]', value->>'$[1][11]'
    FROM json_each($1)";

const WRITE_ENTRIES: &str = "
    INSERT INTO entries (shard_key, customer_id, position, line, tenant, kind, cause_id, grant_id, debit, credit, asset,
        amount, recorded_at)
    SELECT value->>0, unhex(value->>1, '-'), value->>2, value->>3, value->>4, value->>5, unhex(value->>6, '-'),
        unhex(value->>7, '-'), value->>8, value->>9, value->>10, value->>11, value->>12
    FROM json_each($1)";

/// Writes what is hot of a batch: known customers, charges, entries. False where a customer has moved on.
async fn write_hot(connection: &mut Connection, batch: &Batch) -> Result<bool, sqlx::Error> {
    if !write_customers(connection, batch).await? {
        return Ok(false);
    }
    write_charges(connection, batch).await?;
    write_entries(connection, batch).await?;
    Ok(true)
}

async fn write_customers(connection: &mut Connection, batch: &Batch) -> Result<bool, sqlx::Error> {
    let mut customers = Vec::with_capacity(batch.customers.len());
    for write in batch.customers.iter().filter(|write| write.expected > 0) {
        let customer = &write.customer;
        let status = customer.status.as_str();
        let state = json(&customer.state)?;
        customers.push((customer.shard_key, customer.id, write.expected, customer.position, status, state));
    }
    if customers.is_empty() {
        return Ok(true);
    }
    let written = sqlx::query(WRITE_CUSTOMERS).bind(json(&customers)?).execute(connection).await?;
    Ok(usize::try_from(written.rows_affected()) == Ok(customers.len()))
}

async fn write_charges(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.charges.is_empty() {
        return Ok(());
    }
    let mut charges = Vec::with_capacity(batch.charges.len());
    for row in &batch.charges {
        let charge = &row.value;
        charges.push((
            (
                row.shard_key,
                charge.id,
                row.customer_id,
                &*row.tenant,
                charge.position,
                charge.operation_key.as_deref(),
                charge.fingerprint,
                charge.source.as_str(),
                charge.hold,
                &*charge.meter,
                charge.quantity,
                charge.subject.as_deref(),
            ),
            (
                queries::dimensions_text(&charge.dimensions)?,
                charge.price.as_deref(),
                charge.priced_quantity,
                charge.counted_before,
                charge.asset.as_str(),
                charge.amount,
                charge.owed,
                charge.balance_after,
                charge.occurred_at.as_microsecond(),
                charge.recorded_at.as_microsecond(),
                charge.metadata.as_deref(),
                charge.billed_with.map(jiff::Timestamp::as_microsecond),
            ),
        ));
    }
    sqlx::query(WRITE_CHARGES).bind(json(&charges)?).execute(connection).await?;
    Ok(())
}

async fn write_entries(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.entries.is_empty() {
        return Ok(());
    }
    let entries = batch.entries.iter().map(|(row, at)| {
        let entry = &row.value;
        (
            row.shard_key,
            row.customer_id,
            entry.position,
            entry.line,
            &*row.tenant,
            entry.kind.as_str(),
            entry.cause,
            entry.grant,
            entry.debit.as_str(),
            entry.credit.as_str(),
            entry.asset.as_str(),
            entry.amount,
            at.as_microsecond(),
        )
    });
    sqlx::query(WRITE_ENTRIES).bind(json(&entries.collect::<Vec<_>>())?).execute(connection).await?;
    Ok(())
}
