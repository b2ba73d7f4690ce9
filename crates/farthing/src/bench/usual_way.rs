//! The usual way, for comparison: a program that charges by one SQL statement, written by hand, on a connection for each
//! of its threads. One round trip and one durable commit for each charge, without HTTP.
//!
//! Its tables have the columns, keys and indexes of farthing's own, in a schema beside them, and a balance in each
//! customer's row. It writes the same three rows (customer, charge, entry) and is told the price, which farthing finds.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _, Row as _};
use uuid::Uuid;

use super::load::Call;
use super::requests::{self, CUSTOMERS, Sequence};
use super::{BenchError, TENANT};
use crate::clock::{Clock as _, SystemClock};

/// Connections that must stay free: the most that farthing opens, and one for whoever wants to look.
const RESERVED: usize = 17;

const PREPARE: &str = "
    CREATE SCHEMA farthing_usual_way;
    CREATE TABLE farthing_usual_way.customers
        (LIKE customers INCLUDING ALL, balance bigint NOT NULL DEFAULT 1000000000000) WITH (fillfactor = 50);
    CREATE TABLE farthing_usual_way.charges (LIKE charges INCLUDING ALL);
    CREATE TABLE farthing_usual_way.entries (LIKE entries INCLUDING ALL);
    INSERT INTO farthing_usual_way.customers SELECT * FROM customers;
    ANALYZE farthing_usual_way.customers";

const CHARGE: &str = "
    WITH customer AS (
        UPDATE farthing_usual_way.customers SET position = position + 1, balance = balance - $11
        WHERE shard_key = $1 AND tenant = $2 AND external_id = $3 AND balance >= $11
        RETURNING shard_key, customer_id, tenant, position, balance
    ), charge AS (
        INSERT INTO farthing_usual_way.charges (shard_key, id, customer_id, tenant, position, operation_key, fingerprint,
            source, hold_id, meter, quantity, subject, dimensions, price, priced_quantity, counted_before, asset, amount,
            owed, balance_after, occurred_at, recorded_at, metadata)
        SELECT shard_key, $4, customer_id, tenant, position, $5, $6, 'charge', NULL, 'context_tokens', $7, $8, $9, $10, $7,
            0, 'USD', $11, 0, balance, $12, $12, $13
        FROM customer
    )
    INSERT INTO farthing_usual_way.entries (shard_key, customer_id, position, line, tenant, kind, cause_id, grant_id,
        debit, credit, asset, amount, recorded_at)
    SELECT shard_key, customer_id, position, 0, tenant, 'charge', $4, customer_id, 'wallet', 'revenue', 'USD', $11, $12
    FROM customer";

/// A customer as the statement addresses it.
#[derive(Debug)]
struct Customer {
    shard_key: i32,
    external_id: String,
    subject: String,
    metadata: String,
    tokens: i64,
}

/// A PostgreSQL database with the tables of the usual way.
#[derive(Debug)]
pub(super) struct UsualWay {
    options: PgConnectOptions,
    control: PgConnection,
    customers: Arc<Vec<Customer>>,
    /// How many connections it may open.
    pub(super) connections: usize,
}

impl UsualWay {
    /// Connects, and makes the tables from farthing's own, which have the customers already.
    pub(super) async fn prepare(address: &str) -> Result<Self, BenchError> {
        let options = PgConnectOptions::from_str(address)?.application_name("farthing bench");
        let mut control = options.connect().await?;
        control.execute(sqlx::raw_sql(PREPARE)).await?;
        let allowed =
            "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
                       - (SELECT count(*) FROM pg_stat_activity
                          WHERE backend_type = 'client backend' AND application_name <> 'farthing')";
        let allowed: i64 = control.fetch_one(allowed).await?.try_get(0)?;
        let customers = (0..CUSTOMERS).map(|index| {
            let external_id = requests::customer(index);
            Customer {
                shard_key: engine::id::shard_key(TENANT, &external_id),
                external_id,
                subject: format!("agent-{}", index % 7),
                metadata: format!(r#"{{"conversation":"c-{:08}"}}"#, index * 7919),
                tokens: i64::from(requests::tokens(index)),
            }
        });
        let customers = Arc::new(customers.collect());
        let connections = usize::try_from(allowed).unwrap_or_default().saturating_sub(RESERVED);
        Ok(Self { options, control, customers, connections })
    }

    /// Writes everything back, so that no cell pays for what another one wrote. False where that is not allowed.
    pub(super) async fn checkpoint(&mut self) -> bool {
        self.control.execute("CHECKPOINT").await.is_ok()
    }

    /// The settings of the server that its speed and durability depend on.
    pub(super) async fn settings(&mut self) -> Result<BTreeMap<String, String>, BenchError> {
        let query = "SELECT name, current_setting(name) FROM pg_settings
            WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers',
                           'max_connections', 'min_wal_size', 'max_wal_size')";
        Ok(sqlx::query_as::<_, (String, String)>(query).fetch_all(&mut self.control).await?.into_iter().collect())
    }

    /// A connection that charges.
    pub(super) async fn connect(&self, sequence: &Sequence, one_customer: bool) -> Result<SqlCall, BenchError> {
        let connection = self.options.connect().await?;
        Ok(SqlCall { connection, customers: self.customers.clone(), sequence: sequence.clone(), one_customer })
    }
}

/// One connection to the database.
#[derive(Debug)]
pub(super) struct SqlCall {
    connection: PgConnection,
    customers: Arc<Vec<Customer>>,
    sequence: Sequence,
    one_customer: bool,
}

impl Call for SqlCall {
    async fn call(&mut self) -> Result<u64, String> {
        let draw = self.sequence.draw();
        let index = if self.one_customer { 0 } else { draw.customer() };
        let customer = self.customers.get(index).ok_or("there is no such customer")?;
        let now = SystemClock.now().as_microsecond();
        let id = Uuid::from_u128(draw.unique());
        let charge = sqlx::query(CHARGE)
            .bind(customer.shard_key)
            .bind(TENANT)
            .bind(&customer.external_id)
            .bind(id)
            .bind(id.simple().to_string())
            .bind(i64::from(customer.shard_key))
            .bind(customer.tokens * 1_000_000)
            .bind(&customer.subject)
            .bind(r#"{"model":"large"}"#)
            .bind("context_tokens-1")
            .bind(customer.tokens * 3)
            .bind(now)
            .bind(&customer.metadata);
        let done = charge.execute(&mut self.connection).await.map_err(|error| error.to_string())?;
        if done.rows_affected() == 1 { Ok(1) } else { Err("a charge was not covered".to_owned()) }
    }
}
