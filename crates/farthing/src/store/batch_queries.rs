//! How a batch of commands is read, locked and written, compiled once for each driver like the queries in `queries`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use engine::Customer;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::rows::{self, ChargeColumns};
use super::super::{Batch, CustomerKey, Operation, OperationRef, Prior, StoreError, distinct};
use super::billing_batch_queries::write_billing;
use super::notice_queries::write_notices;
use super::payment_queries::write_collecting;
use super::queries::{references, text, with_covers};
use super::{Connection, LOCK, buckets, write_hot};

/// The customers at these addresses, locked in one order for all writers.
pub(super) async fn lock(
    connection: &mut Connection,
    keys: &[CustomerKey],
) -> Result<Vec<Option<Customer>>, StoreError> {
    let wanted: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| json!({"n": number, "s": key.shard_key, "t": key.tenant, "e": key.external_id}))
        .collect();
    let found: Vec<(i64, i32, Uuid, String, i64, String)> = sqlx::query_as(LOCK)
        .bind(text(&wanted)?)
        .bind(buckets(&distinct(keys.iter().map(|key| key.shard_key))))
        .fetch_all(connection)
        .await?;
    let mut customers = vec![None; keys.len()];
    for (number, shard_key, id, status, position, state) in found {
        if let Some(place) = usize::try_from(number).ok().and_then(|index| customers.get_mut(index)) {
            *place = Some(rows::customer(shard_key, id, &status, position, &state)?);
        }
    }
    Ok(customers)
}

/// What was made before under these ids.
pub(super) async fn find_priors(
    connection: &mut Connection,
    ids: &[OperationRef],
) -> Result<HashMap<Uuid, Prior>, StoreError> {
    let mut priors = HashMap::new();
    if ids.is_empty() {
        return Ok(priors);
    }
    // Callers that repeat a request at once name its key several times; a row that is found twice loses its covers.
    let ids: BTreeSet<&OperationRef> = ids.iter().collect();
    let wanted = references(ids.iter().copied())?;
    let touched = distinct(ids.iter().map(|(shard_key, _)| *shard_key));
    let charges: Vec<ChargeColumns> = sqlx::query_as(concat!(
        "SELECT ",
        charge_columns!(),
        " FROM ",
        rows!("1"),
        for_each!(
            "charges",
            "c",
            in_buckets!("c.shard_key", "2"),
            " AND c.shard_key = CAST(t.value->>'s' AS INT) AND c.id = ",
            uuid!("i")
        ),
        for_each!(
            "customers",
            "k",
            in_buckets!("k.shard_key", "2"),
            " AND k.shard_key = c.shard_key AND k.customer_id = c.customer_id"
        )
    ))
    .bind(&wanted)
    .bind(buckets(&touched))
    .fetch_all(&mut *connection)
    .await?;
    for row in with_covers(connection, charges).await? {
        let erased = row.external_id.starts_with(engine::id::ERASED_PREFIX);
        priors.insert(row.charge.id, if erased { Prior::Foreign } else { Prior::Charge(Arc::new(row.charge)) });
    }
    let operations: Vec<(Uuid, i64, String)> = sqlx::query_as(concat!(
        "SELECT o.id, o.fingerprint, o.answer FROM ",
        rows!("1"),
        for_each!(
            "operations",
            "o",
            in_buckets!("o.shard_key", "2"),
            " AND o.shard_key = CAST(t.value->>'s' AS INT) AND o.id = ",
            uuid!("i")
        )
    ))
    .bind(&wanted)
    .bind(buckets(&touched))
    .fetch_all(&mut *connection)
    .await?;
    for (id, fingerprint, answer) in operations {
        priors.insert(id, Prior::Operation(Operation { id, fingerprint, answer }));
    }
    Ok(priors)
}

/// Writes a batch within a transaction. False where a customer has moved on.
pub(super) async fn write(connection: &mut Connection, batch: &Batch) -> Result<bool, sqlx::Error> {
    if !create_customers(connection, batch).await? {
        return Ok(false);
    }
    if !write_hot(connection, batch).await? {
        return Ok(false);
    }
    write_grants(connection, batch).await?;
    write_holds(connection, batch).await?;
    write_operations(connection, batch).await?;
    write_collecting(connection, batch).await?;
    write_notices(connection, batch).await?;
    write_profiles(connection, batch).await?;
    for erased in &batch.erased {
        erase(connection, erased).await?;
    }
    write_billing(connection, batch).await?;
    Ok(true)
}

async fn create_customers(connection: &mut Connection, batch: &Batch) -> Result<bool, sqlx::Error> {
    let mut created = Vec::new();
    let mut writes: Vec<_> = batch.customers.iter().filter(|write| write.expected == 0).collect();
    // Always in the same order, so that two writers do not wait for each other in a circle.
    writes.sort_unstable_by_key(|write| &write.key);
    for write in writes {
        created.push(json!({
            "s": write.key.shard_key, "i": write.customer.id, "t": write.key.tenant, "e": write.key.external_id,
            "u": write.customer.status.as_str(), "p": write.customer.position, "d": text(&write.customer.state)?,
            "a": write.at.as_microsecond(),
        }));
    }
    if created.is_empty() {
        return Ok(true);
    }
    let written = sqlx::query(concat!(
        "INSERT INTO customers (shard_key, customer_id, tenant, external_id, status, position, state, created_at)
         SELECT CAST(t.value->>'s' AS INT), ",
        uuid!("i"),
        ", t.value->>'t', t.value->>'e', t.value->>'u', CAST(t.value->>'p' AS BIGINT), t.value->>'d',
         CAST(t.value->>'a' AS BIGINT)
         FROM ",
        rows!("1"),
        " WHERE true ON CONFLICT DO NOTHING"
    ))
    .bind(text(&created)?)
    .execute(connection)
    .await?;
    Ok(usize::try_from(written.rows_affected()) == Ok(created.len()))
}

async fn write_grants(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    let mut grants = Vec::new();
    for row in &batch.grants {
        let grant = &row.value;
        grants.push(json!({
            "s": row.shard_key, "i": grant.id, "c": row.customer_id, "p": grant.position,
            "a": grant.asset, "k": grant.kind, "m": grant.amount, "r": grant.priority,
            "x": grant.expires_at.map(Timestamp::as_microsecond), "o": text(&grant.meters)?, "w": grant.reason,
            "n": grant.created_at.as_microsecond(),
        }));
    }
    if !grants.is_empty() {
        sqlx::query(concat!(
            "INSERT INTO grants (shard_key, id, customer_id, tenant, position, asset, kind, amount, priority, expires_at,
                 meters, reason, created_at)
             SELECT c.shard_key, ",
            uuid!("i"),
            ", c.customer_id, c.tenant, CAST(t.value->>'p' AS BIGINT), t.value->>'a', t.value->>'k', CAST(t.value->>'m' AS BIGINT),
             CAST(t.value->>'r' AS INT), CAST(t.value->>'x' AS BIGINT), t.value->>'o', t.value->>'w',
             CAST(t.value->>'n' AS BIGINT)
             FROM ",
            rows!("1"),
            join_customers!()
        ))
        .bind(text(&grants)?)
        .bind(buckets(&batch.buckets()))
        .execute(&mut *connection)
        .await?;
    }
    end_grants(connection, batch).await
}

async fn end_grants(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the first end of each: the statement may not touch a row twice, and what has ended does not end again.
    let mut ended = BTreeMap::new();
    for row in &batch.ended_grants {
        let end = match row.value.1 {
            engine::GrantEnd::Expired => "expired",
            engine::GrantEnd::Voided => "voided",
        };
        let written = || json!({"s": row.shard_key, "i": row.value.0, "u": end});
        ended.entry((row.shard_key, row.value.0)).or_insert_with(written);
    }
    if ended.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE grants AS g SET ended = t.value->>'u' FROM ",
        rows!("1"),
        " WHERE ",
        in_buckets!("g.shard_key", "2"),
        " AND g.shard_key = CAST(t.value->>'s' AS INT) AND g.id = ",
        uuid!("i"),
        " AND g.ended IS NULL",
        few!()
    ))
    .bind(text(&ended.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_holds(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the last change of each hold: one statement may not touch a row twice.
    let mut holds = BTreeMap::new();
    for row in &batch.holds {
        let record = &row.value;
        let hold = json!({
            "s": row.shard_key, "i": record.hold.id, "c": row.customer_id, "p": record.position,
            "u": record.state, "h": text(&record.hold)?, "a": record.changed_at.as_microsecond(),
        });
        holds.insert((row.shard_key, record.hold.id), hold);
    }
    if holds.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO holds (shard_key, id, customer_id, tenant, position, state, hold, changed_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, CAST(t.value->>'p' AS BIGINT), t.value->>'u', t.value->>'h', CAST(t.value->>'a' AS BIGINT)
         FROM ",
        rows!("1"),
        join_customers!(),
        " WHERE true
         ON CONFLICT (shard_key, id) DO UPDATE SET position = excluded.position, state = excluded.state,
             hold = excluded.hold, changed_at = excluded.changed_at"
    ))
    .bind(text(&holds.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_operations(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.operations.is_empty() {
        return Ok(());
    }
    let operations: Vec<_> = batch
        .operations
        .iter()
        .map(|(row, at)| {
            json!({
                "s": row.shard_key, "i": row.value.id, "c": row.customer_id, "f": row.value.fingerprint,
                "w": row.value.answer, "a": at.as_microsecond(),
            })
        })
        .collect();
    sqlx::query(concat!(
        "INSERT INTO operations (shard_key, id, customer_id, tenant, fingerprint, answer, recorded_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, CAST(t.value->>'f' AS BIGINT), t.value->>'w', CAST(t.value->>'a' AS BIGINT)
         FROM ",
        rows!("1"),
        join_customers!()
    ))
    .bind(text(&operations)?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_profiles(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    for row in &batch.profiles {
        sqlx::query(
            "INSERT INTO profiles (shard_key, customer_id, tenant, name, email, metadata, address, tax_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (shard_key, customer_id)
             DO UPDATE SET name = excluded.name, email = excluded.email, metadata = excluded.metadata,
                 address = excluded.address, tax_id = excluded.tax_id",
        )
        .bind(row.shard_key)
        .bind(row.customer_id)
        .bind(&*row.tenant)
        .bind(&row.value.name)
        .bind(&row.value.email)
        .bind(text(&row.value.metadata)?)
        .bind(text(&row.value.address)?)
        .bind(&row.value.tax_id)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Removes what says who a customer is: its own id, words on charges and grants, kept answers, and holds, which
/// all have ended. Amounts stay, and so does the use of operation keys: a new customer with the same id makes the same
/// ids of them.
async fn erase(connection: &mut Connection, erased: &super::super::Owned<String>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE customers SET external_id = $3 WHERE shard_key = $1 AND customer_id = $2")
        .bind(erased.shard_key)
        .bind(erased.customer_id)
        .bind(&erased.value)
        .execute(&mut *connection)
        .await?;
    for statement in [
        "UPDATE charges SET operation_key = NULL, subject = NULL, metadata = NULL
         WHERE shard_key = $1 AND customer_id = $2 AND tenant IS NOT NULL",
        "UPDATE grants SET reason = NULL WHERE shard_key = $1 AND customer_id = $2 AND tenant IS NOT NULL",
        "UPDATE operations SET answer = '' WHERE shard_key = $1 AND customer_id = $2",
        "DELETE FROM holds WHERE shard_key = $1 AND customer_id = $2",
        "DELETE FROM exchanges WHERE shard_key = $1 AND customer_id = $2",
        "UPDATE effects SET result = NULL WHERE shard_key = $1 AND customer_id = $2",
    ] {
        sqlx::query(statement).bind(erased.shard_key).bind(erased.customer_id).execute(&mut *connection).await?;
    }
    Ok(())
}
