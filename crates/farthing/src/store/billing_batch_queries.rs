//! What a batch writes for billing, compiled once for each driver like the queries in `queries`.

use std::collections::{BTreeMap, HashMap};

use engine::invoice::Invoice;
use serde_json::json;
use uuid::Uuid;

use super::super::rows::json;
use super::super::{Batch, OperationRef, StoreError, distinct};
use super::queries::{references, text};
use super::{Connection, buckets};

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
