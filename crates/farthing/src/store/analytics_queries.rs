//! The queries of analytics, compiled once for each driver like those in `queries`.
//!
//! They all begin with the segments of time (`t`, with `f` and `e` for its bounds, `o` for the offset, `d` for the label) and
//! the customers in scope (`k`), and go down an index from each customer.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::super::rows::{instant, json as parsed, word};
use super::super::{
    Acquired, AnalyticsStore, Booked, Collected, Covered, Page, PaymentCount, Scope, Segment, StoreError,
    SubscriptionChange, Used, UsedByCustomer, UsedQuery,
};
use super::Backend;
use super::queries::text;

/// The period of a row, by an instant of it.
macro_rules! day_of {
    ($column:literal) => {
        concat!(
            "COALESCE(CAST(t.value->>'d' AS BIGINT), (",
            $column,
            " + CAST(t.value->>'o' AS BIGINT)) / 86400000000)"
        )
    };
}

/// Whether an instant lies in the segment.
macro_rules! in_segment {
    ($column:literal) => {
        concat!($column, " >= CAST(t.value->>'f' AS BIGINT) AND ", $column, " < CAST(t.value->>'e' AS BIGINT)")
    };
}

/// Each segment with each customer in scope.
macro_rules! customers_in_scope {
    () => {
        concat!(
            rows!("1"),
            for_each!("customers", "k", "k.tenant = $2 AND k.customer_id >= $3 AND k.customer_id <= $4")
        )
    };
}

/// The same, with each use of theirs in the segment.
macro_rules! uses {
    () => {
        concat!(
            customers_in_scope!(),
            for_each!(
                "charges",
                "c",
                "c.shard_key = k.shard_key AND c.customer_id = k.customer_id AND c.tenant = $2 AND ",
                in_segment!("c.occurred_at")
            )
        )
    };
}

/// The entries (`e`) of these uses (`x`), each once. Several uses can share a position, and a position segments.
macro_rules! entries_of_uses {
    ($kinds:literal) => {
        concat!(
            "(SELECT DISTINCT t.value, c.shard_key, c.customer_id, c.position FROM ",
            uses!(),
            ") AS t",
            for_each!(
                "entries",
                "e",
                "e.shard_key = t.shard_key AND e.customer_id = t.customer_id AND e.position = t.position AND e.tenant = $2
                 AND e.kind IN (",
                $kinds,
                ")"
            ),
            for_each!(
                "charges",
                "x",
                "x.shard_key = t.shard_key AND x.id = e.cause_id AND x.tenant = $2 AND ",
                in_segment!("x.occurred_at")
            )
        )
    };
}

/// The kind of the grant of an entry.
macro_rules! grant_kind {
    () => {
        "(SELECT g.kind FROM grants AS g WHERE g.shard_key = e.shard_key AND g.id = e.grant_id)"
    };
}

/// The first and the last customer in scope.
fn customers(scope: &Scope) -> (Uuid, Uuid) {
    (scope.customer.unwrap_or_default(), scope.customer.unwrap_or_else(Uuid::max))
}

fn segments(segments: &[Segment]) -> Result<String, sqlx::Error> {
    let rows: Vec<_> = segments
        .iter()
        .map(|segment| {
            json!({
                "f": segment.start.as_microsecond(), "e": segment.end.as_microsecond(), "o": segment.offset,
                "d": segment.label,
            })
        })
        .collect();
    text(&rows)
}

#[async_trait]
impl AnalyticsStore for Backend {
    async fn used(&self, scope: &Scope, query: &UsedQuery) -> Result<Vec<Used>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, meter, asset, subject, dimension, COUNT(*) AS charges, CAST(SUM(quantity) AS BIGINT) AS quantity,
                    CAST(SUM(priced_quantity) AS BIGINT) AS priced_quantity,
                    CAST(SUM(CASE WHEN amount > 0 THEN amount ELSE 0 END) AS BIGINT) AS charged,
                    CAST(SUM(CASE WHEN amount < 0 THEN -amount ELSE 0 END) AS BIGINT) AS given_back,
                    CAST(SUM(owed) AS BIGINT) AS owed
             FROM (
                 SELECT ",
            day_of!("c.occurred_at"),
            " AS day, c.meter, c.asset, c.quantity, c.priced_quantity, c.amount, c.owed,
                        CASE WHEN $5 = 1 THEN c.subject END AS subject,
                        CASE WHEN CAST($6 AS TEXT) IS NOT NULL THEN ",
            json_of!("c.dimensions"),
            "->>CAST($6 AS TEXT) END AS dimension
                 FROM ",
            uses!(),
            ") AS used
             GROUP BY day, meter, asset, subject, dimension
             ORDER BY day, meter, asset, COALESCE(subject, ''), COALESCE(dimension, '') LIMIT $7"
        ))
        .bind(segments(&query.segments)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .bind(i32::from(query.by_subject))
        .bind(&query.dimension)
        .bind(query.limit)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn used_by_customer(&self, scope: &Scope, segment: Segment) -> Result<Vec<UsedByCustomer>, StoreError> {
        let (first, last) = customers(scope);
        Ok(sqlx::query_as(concat!(
            "SELECT c.customer_id, c.meter, c.asset, CAST(SUM(c.quantity) AS BIGINT) AS quantity,
                    CAST(SUM(c.amount) AS BIGINT) AS amount FROM ",
            uses!(),
            " GROUP BY c.customer_id, c.meter, c.asset ORDER BY c.customer_id, c.meter, c.asset"
        ))
        .bind(segments(&[segment])?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?)
    }

    async fn covered(&self, scope: &Scope, query: &UsedQuery) -> Result<Vec<Covered>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, meter, asset, subject, dimension, kind, of_quantity, CAST(SUM(amount) AS BIGINT) AS amount
             FROM (
                 SELECT ",
            day_of!("x.occurred_at"),
            " AS day, x.meter, x.asset, e.amount, ",
            grant_kind!(),
            " AS kind, NOT (e.asset = x.asset AND x.price IS NOT NULL) AS of_quantity,
                        CASE WHEN $5 = 1 THEN x.subject END AS subject,
                        CASE WHEN CAST($6 AS TEXT) IS NOT NULL THEN ",
            json_of!("x.dimensions"),
            "->>CAST($6 AS TEXT) END AS dimension
                 FROM ",
            entries_of_uses!("'charge'"),
            " WHERE e.debit = 'wallet') AS used
             GROUP BY day, meter, asset, subject, dimension, kind, of_quantity LIMIT $7"
        ))
        .bind(segments(&query.segments)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .bind(i32::from(query.by_subject))
        .bind(&query.dimension)
        .bind(query.limit)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn booked_uses(&self, scope: &Scope, time: &[Segment]) -> Result<Vec<Booked>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, asset, kind, debit, credit, grant_kind, CAST(SUM(amount) AS BIGINT) AS amount
             FROM (
                 SELECT ",
            day_of!("x.occurred_at"),
            " AS day, e.asset, e.kind, e.debit, e.credit, e.amount, ",
            grant_kind!(),
            " AS grant_kind FROM ",
            entries_of_uses!("'charge', 'repricing'"),
            ") AS used
             GROUP BY day, asset, kind, debit, credit, grant_kind"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn booked_besides(&self, scope: &Scope, time: &[Segment]) -> Result<Vec<Booked>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, asset, kind, debit, credit, grant_kind, CAST(SUM(amount) AS BIGINT) AS amount
             FROM (
                 SELECT ",
            day_of!("e.recorded_at"),
            " AS day, e.asset, e.kind, e.debit, e.credit, e.amount, ",
            grant_kind!(),
            " AS grant_kind FROM ",
            customers_in_scope!(),
            for_each!(
                "entries",
                "e",
                "e.shard_key = k.shard_key AND e.customer_id = k.customer_id AND e.tenant = $2
                 AND e.kind NOT IN ('charge', 'repricing') AND ",
                in_segment!("e.recorded_at")
            ),
            ") AS used
             GROUP BY day, asset, kind, debit, credit, grant_kind"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn collected(&self, scope: &Scope, time: &[Segment]) -> Result<Vec<Collected>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, currency, CAST(SUM(minor) AS BIGINT) AS minor
             FROM (
                 SELECT ",
            day_of!("p.paid_at"),
            " AS day, ",
            json_of!("p.payment"),
            "->'amount'->>'currency' AS currency, CAST(",
            json_of!("p.payment"),
            "->'amount'->>'minor' AS BIGINT) AS minor FROM ",
            customers_in_scope!(),
            for_each!(
                "payments",
                "p",
                "p.shard_key = k.shard_key AND p.customer_id = k.customer_id AND p.tenant = $2 AND p.paid_at IS NOT NULL AND ",
                in_segment!("p.paid_at")
            ),
            ") AS used
             GROUP BY day, currency"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn refunded(&self, scope: &Scope, time: &[Segment]) -> Result<Vec<Collected>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT COALESCE(label, (at + shift) / 86400000000) AS day, currency, CAST(SUM(minor) AS BIGINT) AS minor
             FROM (
                 SELECT CAST(t.value->>'d' AS BIGINT) AS label, CAST(t.value->>'o' AS BIGINT) AS shift,
                        CAST(t.value->>'f' AS BIGINT) AS begun, CAST(t.value->>'e' AS BIGINT) AS ended,
                        CAST(r.value->>'created_at' AS BIGINT) AS at, r.value->>'progress' AS progress,
                        CAST(r.value->>'minor' AS BIGINT) AS minor, ",
            json_of!("p.payment"),
            "->'amount'->>'currency' AS currency FROM ",
            customers_in_scope!(),
            // The last refund is no earlier than any other.
            for_each!(
                "payments",
                "p",
                "p.shard_key = k.shard_key AND p.customer_id = k.customer_id AND p.tenant = $2
                 AND p.refunded_at IS NOT NULL AND p.refunded_at >= CAST(t.value->>'f' AS BIGINT)"
            ),
            " CROSS JOIN ",
            elements!("p.payment", "refunds", "r"),
            ") AS used
             WHERE at >= begun AND at < ended AND progress <> 'failed'
             GROUP BY 1, currency"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn payment_counts(
        &self,
        scope: &Scope,
        time: &[Segment],
        limit: i64,
    ) -> Result<Vec<PaymentCount>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            "SELECT day, currency, state, failure, dispute, COUNT(*) AS payments, CAST(SUM(minor) AS BIGINT) AS minor,
                    CAST(SUM(CASE WHEN back > 0 THEN 1 ELSE 0 END) AS BIGINT) AS refunded,
                    CAST(SUM(CASE WHEN back > minor THEN minor ELSE back END) AS BIGINT) AS refunded_minor,
                    CAST(SUM(COALESCE(disputed, 0)) AS BIGINT) AS disputed_minor
             FROM (
                 SELECT ",
            day_of!("p.created_at"),
            " AS day, p.state, ",
            json_of!("p.payment"),
            "->'amount'->>'currency' AS currency, CAST(",
            json_of!("p.payment"),
            "->'amount'->>'minor' AS BIGINT) AS minor,
                        CASE WHEN p.state <> 'paid' THEN COALESCE(",
            json_of!("p.payment"),
            "->'failure'->>'decline_code', ",
            json_of!("p.payment"),
            "->'failure'->>'code') END AS failure, ",
            json_of!("p.payment"),
            "->'dispute'->>'state' AS dispute, CAST(",
            json_of!("p.payment"),
            "->'dispute'->>'minor' AS BIGINT) AS disputed,
                        (SELECT COALESCE(SUM(CAST(r.value->>'minor' AS BIGINT)), 0) FROM ",
            elements!("p.payment", "refunds", "r"),
            " WHERE r.value->>'progress' <> 'failed') AS back
                 FROM ",
            customers_in_scope!(),
            for_each!(
                "payments",
                "p",
                "p.shard_key = k.shard_key AND p.customer_id = k.customer_id AND p.tenant = $2 AND ",
                in_segment!("p.created_at")
            ),
            ") AS used
             GROUP BY day, currency, state, failure, dispute
             ORDER BY day, currency, state, COALESCE(failure, ''), COALESCE(dispute, '') LIMIT $5"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .bind(limit)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }

    async fn subscription_changes(
        &self,
        scope: &Scope,
        before: Timestamp,
        page: Page<Uuid>,
    ) -> Result<Vec<(Uuid, Vec<SubscriptionChange>)>, StoreError> {
        type Columns = (Uuid, Option<Uuid>, Option<i64>, Option<String>, Option<String>, Option<String>);
        let found: Vec<Columns> = sqlx::query_as(
            "SELECT t.customer_id, h.subscription_id, h.changed_at, h.state, h.terms, h.coupon
             FROM (SELECT shard_key, customer_id FROM customers WHERE tenant = $1 AND customer_id > $2
                   ORDER BY customer_id LIMIT $3) AS t
             LEFT JOIN subscription_changes AS h ON h.shard_key = t.shard_key AND h.customer_id = t.customer_id
                  AND h.tenant = $1 AND h.changed_at < $4
             ORDER BY t.customer_id, h.subscription_id, h.position",
        )
        .bind(&*scope.tenant)
        .bind(page.after.unwrap_or_default())
        .bind(page.limit)
        .bind(before.as_microsecond())
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        let mut customers: Vec<(Uuid, Vec<SubscriptionChange>)> = Vec::new();
        for (customer, subscription, at, state, terms, coupon) in found {
            if customers.last().is_none_or(|(last, _)| *last != customer) {
                customers.push((customer, Vec::new()));
            }
            let (Some(subscription), Some(at), Some(state), Some(terms)) = (subscription, at, state, terms) else {
                continue;
            };
            let change = SubscriptionChange {
                subscription,
                at: instant(at)?,
                state: word(&state)?,
                terms: parsed(&terms)?,
                coupon: coupon.as_deref().map(parsed).transpose()?,
            };
            if let Some((_, changes)) = customers.last_mut() {
                changes.push(change);
            }
        }
        Ok(customers)
    }

    async fn acquired(&self, scope: &Scope, time: &[Segment]) -> Result<Vec<Acquired>, StoreError> {
        let (first, last) = customers(scope);
        let found = sqlx::query_as(concat!(
            // A minimum is looked for customer by customer; whether one exists, PostgreSQL would rather ask of all of them at once.
            "SELECT day, COUNT(*) AS customers, CAST(SUM(with_payment_method) AS BIGINT) AS with_payment_method,
                    CAST(SUM(paid) AS BIGINT) AS paid, CAST(SUM(subscribed) AS BIGINT) AS subscribed,
                    CAST(SUM(trials) AS BIGINT) AS trials, CAST(SUM(trials_converted) AS BIGINT) AS trials_converted
             FROM (
                 SELECT ",
            day_of!("k.created_at"),
            " AS day,
                        CASE WHEN CAST(",
            json_of!("k.state"),
            "->>'had_payment_method' AS TEXT) IN ('true', '1') THEN 1 ELSE 0 END AS with_payment_method,
                        CASE WHEN (
                            SELECT MIN(p.paid_at) FROM payments AS p
                            WHERE p.shard_key = k.shard_key AND p.customer_id = k.customer_id AND p.tenant = $2
                                  AND p.paid_at IS NOT NULL AND p.paid_at > 0) > 0 THEN 1 ELSE 0 END AS paid,
                        CASE WHEN (
                            SELECT MIN(h.changed_at) FROM subscription_changes AS h
                            WHERE h.shard_key = k.shard_key AND h.customer_id = k.customer_id AND h.tenant = $2
                                  AND h.state IN ('active', 'past_due')) > 0 THEN 1 ELSE 0 END AS subscribed,
                        CASE WHEN (
                            SELECT MIN(h.changed_at) FROM subscription_changes AS h
                            WHERE h.shard_key = k.shard_key AND h.customer_id = k.customer_id AND h.tenant = $2
                                  AND h.state = 'trialing') > 0 THEN 1 ELSE 0 END AS trials,
                        CASE WHEN (
                            SELECT MIN(n.changed_at) FROM subscription_changes AS h
                            JOIN subscription_changes AS n
                                 ON n.shard_key = h.shard_key AND n.customer_id = h.customer_id
                                 AND n.subscription_id = h.subscription_id AND n.position > h.position
                            WHERE h.shard_key = k.shard_key AND h.customer_id = k.customer_id AND h.tenant = $2
                                  AND h.state = 'trialing' AND n.state = 'active') > 0 THEN 1 ELSE 0 END AS trials_converted
                 FROM ",
            customers_in_scope!(),
            " WHERE ",
            in_segment!("k.created_at"),
            ") AS used
             GROUP BY day ORDER BY day"
        ))
        .bind(segments(time)?)
        .bind(&*scope.tenant)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *self.read(scope).await?)
        .await?;
        Ok(found)
    }
}
