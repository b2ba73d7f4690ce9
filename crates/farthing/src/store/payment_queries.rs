//! The queries of collecting, compiled once for each driver like those in `queries`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use engine::Payment;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::payments::{
    EffectEnd, EffectResult, EffectRow, EventRow, EventState, ExchangeRow, PaymentRow, PaymentStore, Whose,
};
use super::super::rows::{instant, json, word};
use super::super::{Batch, OperationRef, Page, Scope, StoreError, distinct};
use super::queries::{references, text};
use super::{Backend, Connection, buckets, texts};

macro_rules! payment_columns {
    () => {
        "SELECT p.shard_key, p.customer_id, k.external_id, p.payment FROM payments AS p
         JOIN customers AS k ON k.shard_key = p.shard_key AND k.customer_id = p.customer_id"
    };
}

macro_rules! event_columns {
    () => {
        "tenant, id, kind, body, state, attempts, error, received_at"
    };
}

type PaymentColumns = (i32, Uuid, String, String);
type EventColumns = (String, String, String, String, String, i32, Option<String>, i64);

fn payment_row((shard_key, customer_id, external_id, payment): PaymentColumns) -> Result<PaymentRow, StoreError> {
    Ok(PaymentRow { external_id, customer_id, shard_key, payment: json(&payment)? })
}

fn event_row(columns: EventColumns) -> Result<EventRow, StoreError> {
    let (tenant, id, kind, body, state, attempts, error, received_at) = columns;
    let (state, received_at) = (word(&state)?, instant(received_at)?);
    Ok(EventRow { tenant: tenant.into(), id: id.into(), kind, body, state, attempts, error, received_at })
}

#[async_trait]
impl PaymentStore for Backend {
    async fn payment(&self, scope: &Scope, id: OperationRef) -> Result<Option<PaymentRow>, StoreError> {
        let mut connection = self.read(scope).await?;
        let found: Option<PaymentColumns> =
            sqlx::query_as(concat!(payment_columns!(), " WHERE p.shard_key = $1 AND p.id = $2 AND p.tenant = $3"))
                .bind(id.0)
                .bind(id.1)
                .bind(&*scope.tenant)
                .fetch_optional(&mut *connection)
                .await?;
        found.filter(|row| scope.sees(row.1)).map(payment_row).transpose()
    }

    async fn payments(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<PaymentRow>, StoreError> {
        if !scope.sees(owner.1) {
            return Ok(Vec::new());
        }
        let mut connection = self.read(scope).await?;
        let (at, id) = page.after.map_or((i64::MAX, Uuid::max()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<PaymentColumns> = sqlx::query_as(concat!(
            payment_columns!(),
            " WHERE p.shard_key = $1 AND p.customer_id = $2 AND p.tenant = $3 AND (p.created_at, p.id) < ($4, $5)
              ORDER BY p.created_at DESC, p.id DESC LIMIT $6"
        ))
        .bind(owner.0)
        .bind(owner.1)
        .bind(&*scope.tenant)
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        found.into_iter().map(payment_row).collect()
    }

    async fn payment_of_reference(&self, tenant: &str, reference: &str) -> Result<Option<PaymentRow>, StoreError> {
        let found: Option<PaymentColumns> =
            sqlx::query_as(concat!(payment_columns!(), " WHERE p.reference = $1 AND p.tenant = $2 LIMIT 1"))
                .bind(reference)
                .bind(tenant)
                .fetch_optional(&mut *self.shared().await?)
                .await?;
        found.map(payment_row).transpose()
    }

    async fn payer_of_reference(&self, tenant: &str, reference: &str) -> Result<Option<String>, StoreError> {
        let found: Option<(String,)> = sqlx::query_as(
            "SELECT k.external_id FROM payers AS p
             JOIN customers AS k ON k.shard_key = p.shard_key AND k.customer_id = p.customer_id
             WHERE p.reference = $1 AND p.tenant = $2 LIMIT 1",
        )
        .bind(reference)
        .bind(tenant)
        .fetch_optional(&mut *self.shared().await?)
        .await?;
        Ok(found.map(|(external_id,)| external_id))
    }

    async fn due_effects(
        &self,
        whose: &Whose,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<(OperationRef, Timestamp)>, StoreError> {
        let found: Vec<(i32, Uuid, i64)> = sqlx::query_as(concat!(
            "SELECT shard_key, id, due_at FROM effects
             WHERE state = 'due' AND attempts IS NOT NULL AND due_at <= $1 AND ",
            in_texts!("tenant", "3"),
            " AND ($4 = 1 OR NOT EXISTS (SELECT 1 FROM test_clocks AS held WHERE held.tenant = effects.tenant))
             ORDER BY due_at, shard_key, id LIMIT $2"
        ))
        .bind(now.as_microsecond())
        .bind(limit)
        .bind(texts(whose.tenants()))
        .bind(whose.held())
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(|(shard_key, id, due_at)| Ok(((shard_key, id), instant(due_at)?))).collect()
    }

    async fn claim_effect(
        &self,
        id: OperationRef,
        seen: Timestamp,
        until: Timestamp,
    ) -> Result<Option<EffectRow>, StoreError> {
        let mut connection = self.shared_write().await?;
        let found: Option<(Uuid, String, String, i32, i64)> = sqlx::query_as(
            "UPDATE effects SET due_at = $4, attempts = attempts + 1
             WHERE shard_key = $1 AND id = $2 AND state = 'due' AND due_at = $3
             RETURNING customer_id, tenant, effect, attempts, created_at",
        )
        .bind(id.0)
        .bind(id.1)
        .bind(seen.as_microsecond())
        .bind(until.as_microsecond())
        .fetch_optional(&mut *connection)
        .await?;
        let Some((customer_id, tenant, effect, attempts, created_at)) = found else { return Ok(None) };
        let (external_id,): (String,) =
            sqlx::query_as("SELECT external_id FROM customers WHERE shard_key = $1 AND customer_id = $2")
                .bind(id.0)
                .bind(customer_id)
                .fetch_one(&mut *connection)
                .await?;
        Ok(Some(EffectRow {
            shard_key: id.0,
            id: id.1,
            tenant: tenant.into(),
            customer_id,
            external_id,
            effect: json(&effect)?,
            attempts: attempts - 1,
            created_at: instant(created_at)?,
        }))
    }

    async fn postpone_effect(&self, id: OperationRef, due_at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE effects SET due_at = $3 WHERE shard_key = $1 AND id = $2 AND state = 'due'")
            .bind(id.0)
            .bind(id.1)
            .bind(due_at.as_microsecond())
            .execute(&mut *self.shared_write().await?)
            .await?;
        Ok(())
    }

    async fn settle_effect(&self, id: OperationRef, result: &EffectResult) -> Result<(), StoreError> {
        let mut connection = self.shared_write().await?;
        Ok(settle_effects(&mut connection, [(id, result)]).await?)
    }

    async fn effect_result(&self, id: OperationRef) -> Result<Option<EffectResult>, StoreError> {
        let found: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT state, result FROM effects WHERE shard_key = $1 AND id = $2")
                .bind(id.0)
                .bind(id.1)
                .fetch_optional(&mut *self.shared().await?)
                .await?;
        Ok(found.and_then(|(state, result)| match state.as_str() {
            "done" => Some(EffectResult { end: EffectEnd::Done, result }),
            "failed" => Some(EffectResult { end: EffectEnd::Failed, result }),
            _ => None,
        }))
    }

    async fn record_exchanges(&self, effect: &EffectRow, exchanges: &[ExchangeRow]) -> Result<(), StoreError> {
        let mut connection = self.shared_write().await?;
        for exchange in exchanges {
            sqlx::query(
                "INSERT INTO exchanges (shard_key, effect_id, number, customer_id, tenant, request, status, request_id,
                     replayed, reply, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
            )
            .bind(effect.shard_key)
            .bind(effect.id)
            .bind(exchange.number)
            .bind(effect.customer_id)
            .bind(&*effect.tenant)
            .bind(&exchange.request)
            .bind(exchange.status)
            .bind(&exchange.request_id)
            .bind(i32::from(exchange.replayed))
            .bind(&exchange.reply)
            .bind(exchange.at.as_microsecond())
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn forget_exchanges(&self, before: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM exchanges WHERE at < $1")
            .bind(before.as_microsecond())
            .execute(&mut *self.shared_write().await?)
            .await?;
        Ok(forgotten.rows_affected())
    }

    async fn exchanges(&self, scope: &Scope, effect: OperationRef) -> Result<Vec<ExchangeRow>, StoreError> {
        type Columns = (i32, String, Option<i32>, Option<String>, i32, String, i64);
        let mut connection = self.read(scope).await?;
        let found: Vec<Columns> = sqlx::query_as(
            "SELECT number, request, status, request_id, replayed, reply, at FROM exchanges
             WHERE shard_key = $1 AND effect_id = $2 AND tenant = $3 ORDER BY number",
        )
        .bind(effect.0)
        .bind(effect.1)
        .bind(&*scope.tenant)
        .fetch_all(&mut *connection)
        .await?;
        let row = |(number, request, status, request_id, replayed, reply, at): Columns| {
            let (replayed, at) = (replayed != 0, instant(at)?);
            Ok(ExchangeRow { number, request, status, request_id, replayed, reply, at })
        };
        found.into_iter().map(row).collect()
    }

    async fn keep_event(&self, event: &EventRow) -> Result<bool, StoreError> {
        let kept = sqlx::query(
            "INSERT INTO provider_events (shard_key, tenant, id, kind, body, state, due_at, attempts, received_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $7) ON CONFLICT DO NOTHING",
        )
        .bind(event.shard_key())
        .bind(&*event.tenant)
        .bind(&*event.id)
        .bind(&event.kind)
        .bind(&event.body)
        .bind(event.state.as_str())
        .bind(event.received_at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    async fn event(&self, tenant: &str, id: &str) -> Result<Option<EventRow>, StoreError> {
        let found: Option<EventColumns> = sqlx::query_as(concat!(
            "SELECT ",
            event_columns!(),
            " FROM provider_events WHERE shard_key = $1 AND tenant = $2 AND id = $3"
        ))
        .bind(engine::id::shard_key(tenant, id))
        .bind(tenant)
        .bind(id)
        .fetch_optional(&mut *self.shared().await?)
        .await?;
        found.map(event_row).transpose()
    }

    async fn due_events(
        &self,
        whose: &Whose,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<(Arc<str>, Arc<str>, Timestamp)>, StoreError> {
        let found: Vec<(String, String, i64)> = sqlx::query_as(concat!(
            "SELECT tenant, id, due_at FROM provider_events
             WHERE state = 'due' AND attempts IS NOT NULL AND due_at <= $1 AND ",
            in_texts!("tenant", "3"),
            " AND ($4 = 1 OR NOT EXISTS (SELECT 1 FROM test_clocks AS held WHERE held.tenant = provider_events.tenant))
             ORDER BY due_at, id LIMIT $2"
        ))
        .bind(now.as_microsecond())
        .bind(limit)
        .bind(texts(whose.tenants()))
        .bind(whose.held())
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(|(tenant, id, due_at)| Ok((tenant.into(), id.into(), instant(due_at)?))).collect()
    }

    async fn claim_event(
        &self,
        tenant: &str,
        id: &str,
        seen: Timestamp,
        until: Timestamp,
    ) -> Result<Option<EventRow>, StoreError> {
        let found: Option<EventColumns> = sqlx::query_as(concat!(
            "UPDATE provider_events SET due_at = $5, attempts = attempts + 1
             WHERE shard_key = $1 AND tenant = $2 AND id = $3 AND state = 'due' AND due_at = $4
             RETURNING ",
            event_columns!()
        ))
        .bind(engine::id::shard_key(tenant, id))
        .bind(tenant)
        .bind(id)
        .bind(seen.as_microsecond())
        .bind(until.as_microsecond())
        .fetch_optional(&mut *self.shared_write().await?)
        .await?;
        found.map(event_row).transpose()
    }

    async fn settle_event(
        &self,
        tenant: &str,
        id: &str,
        state: EventState,
        error: Option<&str>,
        due_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE provider_events SET state = $4, error = $5, due_at = $6
             WHERE shard_key = $1 AND tenant = $2 AND id = $3 AND state = 'due'",
        )
        .bind(engine::id::shard_key(tenant, id))
        .bind(tenant)
        .bind(id)
        .bind(state.as_str())
        .bind(error)
        .bind(due_at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn replay_event(&self, tenant: &str, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let replayed = sqlx::query(
            "UPDATE provider_events SET state = 'due', attempts = 0, error = NULL, due_at = $4
             WHERE shard_key = $1 AND tenant = $2 AND id = $3",
        )
        .bind(engine::id::shard_key(tenant, id))
        .bind(tenant)
        .bind(id)
        .bind(now.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(replayed.rows_affected() > 0)
    }

    async fn events(
        &self,
        tenant: &str,
        state: Option<EventState>,
        page: Page<(Timestamp, String)>,
    ) -> Result<Vec<EventRow>, StoreError> {
        let (at, id) = page.after.map_or((i64::MAX, String::new()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<EventColumns> = sqlx::query_as(concat!(
            "SELECT ",
            event_columns!(),
            " FROM provider_events
              WHERE (received_at, id) < ($3, $4) AND tenant = $1 AND (state = $2 OR $2 IS NULL)
              ORDER BY received_at DESC, id DESC LIMIT $5"
        ))
        .bind(tenant)
        .bind(state.map(EventState::as_str))
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(event_row).collect()
    }

    async fn forget_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let forgotten =
            sqlx::query("DELETE FROM provider_events WHERE received_at < $1 AND state IN ('applied', 'ignored')")
                .bind(before.as_microsecond())
                .execute(&mut *self.shared_write().await?)
                .await?;
        Ok(forgotten.rows_affected())
    }

    async fn next_due(&self, tenant: &str, after: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let (next,): (Option<i64>,) = sqlx::query_as(
            "SELECT MIN(due_at) FROM (
                 SELECT due_at FROM effects WHERE state = 'due' AND attempts IS NOT NULL AND due_at > $2 AND tenant = $1
                 UNION ALL
                 SELECT due_at FROM provider_events WHERE state = 'due' AND attempts IS NOT NULL AND due_at > $2 AND tenant = $1
                 UNION ALL
                 SELECT due_at FROM dues WHERE due_at > $2 AND tenant = $1
             ) AS dues",
        )
        .bind(tenant)
        .bind(after.as_microsecond())
        .fetch_one(&mut *self.shared().await?)
        .await?;
        next.map(instant).transpose()
    }

    async fn test_clock(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT now FROM test_clocks WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(&mut *self.shared().await?)
            .await?;
        found.map(|(now,)| instant(now)).transpose()
    }

    async fn hold_test_clock(&self, tenant: &str, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO test_clocks (tenant, now) VALUES ($1, $2) ON CONFLICT (tenant) DO UPDATE SET now = excluded.now",
        )
        .bind(tenant)
        .bind(now.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn reconciled_until(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError> {
        let found: Option<(i64,)> = sqlx::query_as("SELECT until FROM reconciliations WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(&mut *self.shared().await?)
            .await?;
        found.map(|(until,)| instant(until)).transpose()
    }

    async fn note_reconciled(&self, tenant: &str, until: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO reconciliations (tenant, until) VALUES ($1, $2)
             ON CONFLICT (tenant) DO UPDATE SET until = excluded.until",
        )
        .bind(tenant)
        .bind(until.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn open_payments(
        &self,
        tenant: &str,
        before: Timestamp,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<PaymentRow>, StoreError> {
        let (at, id) = page.after.map_or((i64::MIN, Uuid::nil()), |(at, id)| (at.as_microsecond(), id));
        let found: Vec<PaymentColumns> = sqlx::query_as(concat!(
            payment_columns!(),
            " WHERE p.tenant = $1 AND p.state IN ('pending', 'requires_payment', 'requires_action', 'processing')
                    AND p.created_at < $2 AND (p.created_at, p.id) > ($3, $4)
              ORDER BY p.created_at, p.id LIMIT $5"
        ))
        .bind(tenant)
        .bind(before.as_microsecond())
        .bind(at)
        .bind(id)
        .bind(page.limit)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        found.into_iter().map(payment_row).collect()
    }
}

/// Payments that commands are about, by id, each with its customer.
pub(super) async fn find_payments(
    connection: &mut Connection,
    ids: &[OperationRef],
) -> Result<HashMap<Uuid, (Uuid, Payment)>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let found: Vec<(Uuid, Uuid, String)> = sqlx::query_as(concat!(
        "SELECT p.id, p.customer_id, p.payment FROM ",
        rows!("1"),
        for_each!(
            "payments",
            "p",
            in_buckets!("p.shard_key", "2"),
            " AND p.shard_key = CAST(t.value->>'s' AS INT) AND p.id = ",
            uuid!("i")
        )
    ))
    .bind(references(ids)?)
    .bind(buckets(&distinct(ids.iter().map(|(shard_key, _)| *shard_key))))
    .fetch_all(connection)
    .await?;
    found.into_iter().map(|(id, customer, payment)| Ok((id, (customer, json(&payment)?)))).collect()
}

/// Writes what a batch has for collecting.
pub(super) async fn write_collecting(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    write_payments(connection, batch).await?;
    write_effects(connection, batch).await?;
    for payer in &batch.payers {
        sqlx::query(
            "INSERT INTO payers (shard_key, customer_id, tenant, reference) VALUES ($1, $2, $3, $4)
             ON CONFLICT (shard_key, customer_id) DO UPDATE SET reference = excluded.reference",
        )
        .bind(payer.shard_key)
        .bind(payer.customer_id)
        .bind(&*payer.tenant)
        .bind(&*payer.value)
        .execute(&mut *connection)
        .await?;
    }
    let settled = batch.settled.iter().map(|settled| ((settled.shard_key, settled.value.id), &settled.value.result));
    settle_effects(connection, settled).await
}

async fn write_payments(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    // Only the last change of each payment counts: one statement may not touch a row twice.
    let mut payments = BTreeMap::new();
    for row in &batch.payments {
        let payment = &row.value;
        let written = json!({
            "s": row.shard_key, "i": payment.id, "c": row.customer_id, "u": payment.state.as_str(),
            "r": payment.reference, "d": text(payment)?, "a": payment.created_at.as_microsecond(),
            "p": payment.paid_at.map(Timestamp::as_microsecond),
            "b": payment.refunds.iter().map(|refund| refund.created_at.as_microsecond()).max(),
        });
        payments.insert((row.shard_key, payment.id), written);
    }
    if payments.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO payments (shard_key, id, customer_id, tenant, state, reference, payment, created_at, paid_at,
             refunded_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, t.value->>'u', t.value->>'r', t.value->>'d', CAST(t.value->>'a' AS BIGINT),
         CAST(t.value->>'p' AS BIGINT), CAST(t.value->>'b' AS BIGINT) FROM ",
        rows!("1"),
        join_customers!(),
        " WHERE true
         ON CONFLICT (shard_key, id) DO UPDATE SET state = excluded.state, reference = excluded.reference,
             payment = excluded.payment, paid_at = excluded.paid_at, refunded_at = excluded.refunded_at"
    ))
    .bind(text(&payments.into_values().collect::<Vec<_>>())?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_effects(connection: &mut Connection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.effects.is_empty() {
        return Ok(());
    }
    let mut effects = Vec::with_capacity(batch.effects.len());
    for (row, at) in &batch.effects {
        effects.push(json!({
            "s": row.shard_key, "i": row.value.id, "c": row.customer_id, "d": text(&row.value.effect)?,
            "x": row.value.due_at.as_microsecond(), "a": at.as_microsecond(),
        }));
    }
    sqlx::query(concat!(
        "INSERT INTO effects (shard_key, id, customer_id, tenant, effect, state, due_at, attempts, created_at)
         SELECT c.shard_key, ",
        uuid!("i"),
        ", c.customer_id, c.tenant, t.value->>'d', 'due', CAST(t.value->>'x' AS BIGINT), 0,
         CAST(t.value->>'a' AS BIGINT) FROM ",
        rows!("1"),
        join_customers!()
    ))
    .bind(text(&effects)?)
    .bind(buckets(&batch.buckets()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends effects, those that are still due.
async fn settle_effects<'a>(
    connection: &mut Connection,
    settled: impl IntoIterator<Item = (OperationRef, &'a EffectResult)>,
) -> Result<(), sqlx::Error> {
    // One statement may not touch a row twice, and what has ended does not end again.
    let settled: BTreeMap<OperationRef, &EffectResult> = settled.into_iter().collect();
    if settled.is_empty() {
        return Ok(());
    }
    let touched = distinct(settled.keys().map(|(shard_key, _)| *shard_key));
    let written = settled.into_iter().map(
        |((shard_key, id), result)| json!({"s": shard_key, "i": id, "u": result.end.as_str(), "r": result.result}),
    );
    sqlx::query(concat!(
        "UPDATE effects AS e SET state = t.value->>'u', result = t.value->>'r' FROM ",
        rows!("1"),
        " WHERE ",
        in_buckets!("e.shard_key", "2"),
        " AND e.shard_key = CAST(t.value->>'s' AS INT) AND e.id = ",
        uuid!("i"),
        " AND e.state = 'due'",
        few!()
    ))
    .bind(text(&written.collect::<Vec<_>>())?)
    .bind(buckets(&touched))
    .execute(connection)
    .await?;
    Ok(())
}
