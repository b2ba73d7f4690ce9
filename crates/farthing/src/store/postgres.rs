//! PostgreSQL 14 or newer: connections, roles, and the statements of the hot path.
//!
//! Three kinds of connection. The owner migrates and keeps the small tables; `farthing_writer` is the batch writer's,
//! which serves many customers in one transaction; surfaces read as `farthing_reader`, which row-level security confines
//! to the tenant (and customer) set for that transaction.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{Batch, CustomerKey, Known, Loaded, Outcome, Scope, StoreError, distinct, rows};

macro_rules! rows {
    ($parameter:literal) => {
        concat!("jsonb_array_elements(CAST($", $parameter, " AS jsonb)) AS t(value)")
    };
}
/// For each row so far, the rows of a table that a condition finds by their key. The planner is kept from turning this
/// round: a generic plan made while the table is small would walk all of a customer's rows for each row so far.
macro_rules! for_each {
    ($table:literal, $alias:literal, $($condition:expr),+) => {
        concat!(
            " CROSS JOIN LATERAL (SELECT ", $alias, ".* FROM ", $table, " AS ", $alias, " WHERE ", $($condition),+,
            " OFFSET 0) AS ", $alias
        )
    };
}
/// A condition on the rows handed in that always holds. The planner takes them for a hundred, for which it would rather
/// walk the buckets of a table; of a condition that it knows nothing of it expects that few rows fulfil it.
macro_rules! few {
    () => {
        " AND t.value @> '{}'"
    };
}
macro_rules! uuid {
    ($field:literal) => {
        concat!("CAST(t.value->>'", $field, "' AS uuid)")
    };
}
macro_rules! in_buckets {
    ($column:literal, $parameter:literal) => {
        concat!($column, " = ANY($", $parameter, ")")
    };
}
macro_rules! in_texts {
    ($column:literal, $parameter:literal) => {
        concat!($column, " = ANY($", $parameter, ")")
    };
}
macro_rules! json_of {
    ($column:literal) => {
        concat!("CAST(", $column, " AS jsonb)")
    };
}
/// The elements of a list in a JSON document, each as `value`.
macro_rules! elements {
    ($column:literal, $member:literal, $alias:literal) => {
        concat!(
            "jsonb_array_elements(COALESCE(CAST(",
            $column,
            " AS jsonb)->'",
            $member,
            "', '[]')) AS ",
            $alias,
            "(value)"
        )
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

use PostgresStore as Backend;
type Connection = PgConnection;
type Write = Transaction<'static, Postgres>;
type Read = Transaction<'static, Postgres>;

const NAME: &str = "PostgreSQL";

/// How many connections each pool has at the most.
const MOST_CONNECTIONS: u32 = 8;

/// A list of buckets as a parameter.
fn buckets(list: &[i32]) -> Vec<i32> {
    list.to_vec()
}

/// A list of texts as a parameter.
fn texts(list: &[std::sync::Arc<str>]) -> Vec<String> {
    list.iter().map(|text| text.to_string()).collect()
}

/// The store on PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    owner: PgPool,
    writer: PgPool,
    hot: HotConnections,
}

/// The writer's connections for single statements. A pool asks a connection whether it lives each time it comes back,
/// which for these would double the round trips.
#[derive(Debug)]
struct HotConnections {
    options: PgConnectOptions,
    idle: Mutex<Vec<PgConnection>>,
}

impl HotConnections {
    async fn take(&self) -> Result<PgConnection, sqlx::Error> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        match idle {
            Some(connection) => Ok(connection),
            None => PgConnection::connect_with(&self.options).await,
        }
    }

    /// Keeps a connection for the next statement. After a failure that is no conflict none is kept: the idle ones may be
    /// gone as well, as after a restart of the database.
    fn give_back<T>(&self, connection: PgConnection, outcome: &Result<T, sqlx::Error>) {
        let Ok(mut idle) = self.idle.lock() else { return };
        match outcome {
            Err(error) if !is_conflict(error) => idle.clear(),
            _ => idle.push(connection),
        }
    }
}

impl PostgresStore {
    /// Connects and migrates.
    ///
    /// # Errors
    /// `Database` and `Migration` as they come.
    pub async fn open(address: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(address)?.application_name("farthing");
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(10)).max_connections(MOST_CONNECTIONS);
        // A read that finds its connection gone, as after a restart of the database, is simply made on another one. A
        // batch is not: asking before each would cost it a round trip, and its callers can repeat it by their keys.
        // Reads are also planned anew each time: a plan made while a table was small is kept for too long.
        let planned_anew = options.clone().options([("plan_cache_mode", "force_custom_plan")]);
        let owner = pool.clone().connect_with(planned_anew).await?;
        sqlx::migrate!("../../migrations/postgres").run(&owner).await?;
        // A generic plan made while a table is empty would otherwise walk whole indexes; these make every hot statement
        // a nested loop over primary keys, whatever the statistics say.
        let options = options.options([
            ("role", "farthing_writer"),
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_bitmapscan", "off"),
            // Otherwise the customers of a batch's buckets are laid out once and looked through again for every charge.
            ("enable_material", "off"),
        ]);
        let hot = HotConnections { options: options.clone().disable_statement_logging(), idle: Mutex::default() };
        let writer = pool.test_before_acquire(false).connect_with(options).await?;
        Ok(Self { owner, writer, hot })
    }

    async fn read(&self, scope: &Scope) -> Result<Read, StoreError> {
        let mut transaction = self.owner.begin().await?;
        sqlx::query(
            "SELECT set_config('role', 'farthing_reader', true), set_config('farthing.tenant', $1, true),
                    set_config('farthing.customer', $2, true)",
        )
        .bind(&*scope.tenant)
        .bind(scope.customer.map(|id| id.to_string()).unwrap_or_default())
        .execute(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// Begins a transaction of the writer. A connection that is gone, as after a restart of the database, shows before
    /// anything was done on it, so the next one is tried.
    async fn write(&self) -> Result<Write, StoreError> {
        for _ in 0..MOST_CONNECTIONS {
            match self.writer.begin().await {
                Err(error) if is_gone(&error) => {}
                begun => return Ok(begun?),
            }
        }
        Ok(self.writer.begin().await?)
    }

    async fn shared(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, StoreError> {
        Ok(self.owner.acquire().await?)
    }

    async fn shared_write(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, StoreError> {
        Ok(self.owner.acquire().await?)
    }

    async fn load(&self, keys: &[(CustomerKey, Option<Known>)]) -> Result<Vec<Loaded>, StoreError> {
        let mut loaded = vec![Loaded::Absent; keys.len()];
        let mut connection = self.hot.take().await?;
        let found: Result<Vec<LoadedColumns>, _> = sqlx::query_as(LOAD)
            .bind(distinct(keys.iter().map(|(key, _)| key.shard_key)))
            .bind(keys.iter().map(|(key, _)| key.shard_key).collect::<Vec<_>>())
            .bind(keys.iter().map(|(key, _)| &*key.tenant).collect::<Vec<_>>())
            .bind(keys.iter().map(|(key, _)| &*key.external_id).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, known)| known.map(|(id, _)| id)).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, known)| known.map(|(_, position)| position)).collect::<Vec<_>>())
            .fetch_all(&mut connection)
            .await;
        self.hot.give_back(connection, &found);
        for (number, shard_key, id, status, position, state) in found? {
            let place = usize::try_from(number - 1).ok().and_then(|index| loaded.get_mut(index));
            let Some(place) = place else { continue };
            *place = match state {
                None => Loaded::Unchanged,
                Some(state) => Loaded::Changed(rows::customer(shard_key, id, &status, position, &state)?),
            };
        }
        Ok(loaded)
    }

    async fn commit_hot(&self, batch: &Batch) -> Result<Outcome, StoreError> {
        let mut connection = self.hot.take().await?;
        let written = write_hot(&mut connection, batch).await;
        self.hot.give_back(connection, &written);
        settle(written)
    }
}

/// An error that means a conflict rather than a failure, by SQLSTATE: a key that was used before (23505), the guard of
/// the hot statement (22012, a division by zero), a serialization failure or a deadlock (40001, 40P01).
fn is_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "23505" | "22012" | "40001" | "40P01"))
}

/// An error that means that the connection has been closed by the other side (57P01, 57P02: the server stops).
fn is_gone(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(error, sqlx::Error::Io(_)) || code.is_some_and(|code| matches!(&*code, "57P01" | "57P02"))
}

fn settle(written: Result<bool, sqlx::Error>) -> Result<Outcome, StoreError> {
    match written {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => Ok(Outcome::Conflict),
        Err(error) if is_conflict(&error) => Ok(Outcome::Conflict),
        Err(error) => Err(error.into()),
    }
}

type LoadedColumns = (i64, i32, Uuid, String, i64, Option<String>);

/// Customers by address; the state only of those that are not where the asker knows them.
const LOAD: &str = "
    SELECT t.number, c.shard_key, c.customer_id, c.status, c.position,
           CASE WHEN c.customer_id = t.known_id AND c.position = t.known_position THEN NULL ELSE c.state END
    FROM unnest($2::int4[], $3::text[], $4::text[], $5::uuid[], $6::int8[])
         WITH ORDINALITY AS t(shard_key, tenant, external_id, known_id, known_position, number)
    CROSS JOIN LATERAL (
        SELECT c.shard_key, c.customer_id, c.status, c.position, c.state FROM customers AS c
        WHERE c.shard_key = ANY($1) AND c.shard_key = t.shard_key AND c.tenant = t.tenant
              AND c.external_id = t.external_id
        LIMIT 1
    ) AS c";

/// Customers by address, locked one after the other in the order of their ids, as `HOT` locks them. A customer that was
/// erased while this waited for it has another address.
const LOCK: &str = "
    SELECT w.number, c.shard_key, c.customer_id, c.status, c.position, c.state
    FROM (
        SELECT CAST(t.value->>'n' AS BIGINT) AS number, k.shard_key, k.customer_id, k.external_id
        FROM jsonb_array_elements(CAST($1 AS jsonb)) AS t(value)
        CROSS JOIN LATERAL (
            SELECT k.shard_key, k.customer_id, k.external_id FROM customers AS k
            WHERE k.shard_key = ANY($2) AND k.shard_key = CAST(t.value->>'s' AS INT) AND k.tenant = t.value->>'t'
                  AND k.external_id = t.value->>'e'
            LIMIT 1
        ) AS k
        ORDER BY k.shard_key, k.customer_id
    ) AS w
    CROSS JOIN LATERAL (
        SELECT * FROM customers AS c
        WHERE c.shard_key = ANY($2) AND c.shard_key = w.shard_key AND c.customer_id = w.customer_id
        OFFSET 0
        FOR UPDATE
    ) AS c
    WHERE c.external_id = w.external_id";

/// The hot path in one statement, so that it is one round trip and one durable commit: the customers' new states where
/// they still stand as they were decided on, the charges, the entries. A customer that has moved on makes the count
/// differ and the statement fail as a whole, as a used operation key does.
const HOT: &str = "
    WITH written AS (
        UPDATE customers AS c SET position = t.position, status = t.status, state = t.state
        FROM unnest($2::int4[], $3::uuid[], $4::int8[], $5::int8[], $6::text[], $7::text[])
             AS t(shard_key, customer_id, expected, position, status, state)
        WHERE c.shard_key = ANY($1) AND c.shard_key = t.shard_key AND c.customer_id = t.customer_id
              AND c.position = t.expected
        RETURNING c.shard_key
    ), charged AS (
        INSERT INTO charges (shard_key, id, customer_id, tenant, position, operation_key, fingerprint, source, hold_id,
            meter, quantity, subject, dimensions, price, priced_quantity, counted_before, asset, amount, owed,
            balance_after, occurred_at, recorded_at, metadata, billed_with)
        SELECT t.shard_key, t.id, t.customer_id, c.tenant, t.position, t.operation_key, t.fingerprint, t.source,
            t.hold_id, t.meter, t.quantity, t.subject, t.dimensions, t.price, t.priced_quantity, t.counted_before,
            t.asset, t.amount, t.owed, t.balance_after, t.occurred_at, t.recorded_at, t.metadata, t.billed_with
        FROM unnest($8::int4[], $9::uuid[], $10::uuid[], $11::int8[], $12::text[], $13::int8[], $14::text[], $15::uuid[],
                    $16::text[], $17::int8[], $18::text[], $19::text[], $20::text[], $21::int8[], $22::int8[],
                    $23::text[], $24::int8[], $25::int8[], $26::int8[], $27::int8[], $28::int8[], $29::text[], $43::int8[])
             AS t(shard_key, id, customer_id, position, operation_key, fingerprint, source, hold_id, meter, quantity,
                  subject, dimensions, price, priced_quantity, counted_before, asset, amount, owed, balance_after,
                  occurred_at, recorded_at, metadata, billed_with)
        JOIN customers AS c ON c.shard_key = ANY($1) AND c.shard_key = t.shard_key AND c.customer_id = t.customer_id
    ), entered AS (
        INSERT INTO entries (shard_key, customer_id, position, line, tenant, kind, cause_id, grant_id, debit, credit,
            asset, amount, recorded_at)
        SELECT t.shard_key, t.customer_id, t.position, t.line, c.tenant, t.kind, t.cause_id, t.grant_id, t.debit,
            t.credit, t.asset, t.amount, t.recorded_at
        FROM unnest($30::int4[], $31::uuid[], $32::int8[], $33::int2[], $34::text[], $35::uuid[], $36::uuid[],
                    $37::text[], $38::text[], $39::text[], $40::int8[], $41::int8[])
             AS t(shard_key, customer_id, position, line, kind, cause_id, grant_id, debit, credit, asset, amount,
                  recorded_at)
        JOIN customers AS c ON c.shard_key = ANY($1) AND c.shard_key = t.shard_key AND c.customer_id = t.customer_id
    )
    SELECT 1 / CAST(count(*) = $42 AS int) FROM written";

/// Writes what is hot of a batch: known customers, charges, entries.
async fn write_hot(connection: &mut Connection, batch: &Batch) -> Result<bool, sqlx::Error> {
    macro_rules! column {
        ($rows:expr, $row:ident => $value:expr) => {
            $rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let mut customers: Vec<_> = batch.customers.iter().filter(|write| write.expected > 0).collect();
    // Always in the same order, so that two writers do not wait for each other in a circle.
    customers.sort_unstable_by_key(|write| (write.customer.shard_key, write.customer.id));
    let states = customers.iter().map(|write| serde_json::to_string(&write.customer.state));
    let states = states.collect::<Result<Vec<_>, _>>().map_err(|error| sqlx::Error::Encode(error.into()))?;
    let (charges, entries) = (&batch.charges, &batch.entries);
    let dimensions = charges.iter().map(|row| queries::dimensions_text(&row.value.dimensions));
    let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
    sqlx::query(HOT)
        .bind(batch.buckets())
        .bind(column!(customers, row => row.customer.shard_key))
        .bind(column!(customers, row => row.customer.id))
        .bind(column!(customers, row => row.expected))
        .bind(column!(customers, row => row.customer.position))
        .bind(column!(customers, row => row.customer.status.as_str()))
        .bind(states)
        .bind(column!(charges, row => row.shard_key))
        .bind(column!(charges, row => row.value.id))
        .bind(column!(charges, row => row.customer_id))
        .bind(column!(charges, row => row.value.position))
        .bind(column!(charges, row => row.value.operation_key.as_deref()))
        .bind(column!(charges, row => row.value.fingerprint))
        .bind(column!(charges, row => row.value.source.as_str()))
        .bind(column!(charges, row => row.value.hold))
        .bind(column!(charges, row => &*row.value.meter))
        .bind(column!(charges, row => row.value.quantity.get()))
        .bind(column!(charges, row => row.value.subject.as_deref()))
        .bind(dimensions)
        .bind(column!(charges, row => row.value.price.as_deref()))
        .bind(column!(charges, row => row.value.priced_quantity.get()))
        .bind(column!(charges, row => row.value.counted_before.get()))
        .bind(column!(charges, row => row.value.asset.as_str()))
        .bind(column!(charges, row => row.value.amount.get()))
        .bind(column!(charges, row => row.value.owed.get()))
        .bind(column!(charges, row => row.value.balance_after.get()))
        .bind(column!(charges, row => row.value.occurred_at.as_microsecond()))
        .bind(column!(charges, row => row.value.recorded_at.as_microsecond()))
        .bind(column!(charges, row => row.value.metadata.as_deref()))
        .bind(column!(entries, row => row.0.shard_key))
        .bind(column!(entries, row => row.0.customer_id))
        .bind(column!(entries, row => row.0.value.position))
        .bind(column!(entries, row => row.0.value.line))
        .bind(column!(entries, row => row.0.value.kind.as_str()))
        .bind(column!(entries, row => row.0.value.cause))
        .bind(column!(entries, row => row.0.value.grant))
        .bind(column!(entries, row => row.0.value.debit.as_str()))
        .bind(column!(entries, row => row.0.value.credit.as_str()))
        .bind(column!(entries, row => row.0.value.asset.as_str()))
        .bind(column!(entries, row => row.0.value.amount.get()))
        .bind(column!(entries, row => row.1.as_microsecond()))
        .bind(i64::try_from(customers.len()).unwrap_or(i64::MAX))
        .bind(column!(charges, row => row.value.billed_with.map(jiff::Timestamp::as_microsecond)))
        .execute(connection)
        .await?;
    Ok(true)
}
