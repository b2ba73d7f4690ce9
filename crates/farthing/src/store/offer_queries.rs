//! The queries of what is sold, compiled once for each driver like those in `queries`.

use async_trait::async_trait;
use engine::plan::Plan;
use jiff::Timestamp;

use super::super::StoreError;
use super::super::offers::{OfferStore, Subscribers};
use super::super::rows::json;
use super::Backend;
use super::queries::text;

#[async_trait]
impl OfferStore for Backend {
    async fn keep_plans(&self, tenant: &str, plans: &[&Plan], at: Timestamp) -> Result<(), StoreError> {
        let mut connection = self.shared_write().await?;
        for plan in plans {
            sqlx::query(
                "INSERT INTO plan_versions (tenant, version, plan, definition, kept_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT DO NOTHING",
            )
            .bind(tenant)
            .bind(&*plan.version)
            .bind(&*plan.name)
            .bind(text(plan)?)
            .bind(at.as_microsecond())
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn kept_plans(&self, tenant: &str) -> Result<Vec<Plan>, StoreError> {
        let found: Vec<(String,)> =
            sqlx::query_as("SELECT definition FROM plan_versions WHERE tenant = $1 ORDER BY kept_at, version")
                .bind(tenant)
                .fetch_all(&mut *self.shared().await?)
                .await?;
        found.iter().map(|(definition,)| json(definition)).collect()
    }

    async fn keep_offer(&self, tenant: &str, offer: &str, at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO offers (tenant, offer, kept_at) VALUES ($1, $2, $3)
             ON CONFLICT (tenant) DO UPDATE SET offer = excluded.offer, kept_at = excluded.kept_at",
        )
        .bind(tenant)
        .bind(offer)
        .bind(at.as_microsecond())
        .execute(&mut *self.shared_write().await?)
        .await?;
        Ok(())
    }

    async fn offer(&self, tenant: &str) -> Result<Option<String>, StoreError> {
        let found: Option<(String,)> = sqlx::query_as("SELECT offer FROM offers WHERE tenant = $1")
            .bind(tenant)
            .fetch_optional(&mut *self.shared().await?)
            .await?;
        Ok(found.map(|(offer,)| offer))
    }

    async fn subscribers(&self, tenant: &str) -> Result<Vec<Subscribers>, StoreError> {
        let found: Vec<(String, String, i64)> = sqlx::query_as(concat!(
            "SELECT plan, version, COUNT(*) AS subscriptions FROM (
                 SELECT ",
            json_of!("s.subscription"),
            "->>'plan' AS plan, ",
            json_of!("s.subscription"),
            "->>'version' AS version FROM subscriptions AS s
                 WHERE s.tenant = $1 AND s.state NOT IN ('canceled', 'incomplete_expired')
             ) AS live GROUP BY plan, version ORDER BY plan, version"
        ))
        .bind(tenant)
        .fetch_all(&mut *self.shared().await?)
        .await?;
        let row = |(plan, version, subscriptions)| Subscribers { plan, version, subscriptions };
        Ok(found.into_iter().map(row).collect())
    }

    async fn customer_counts(&self, tenant: &str) -> Result<(i64, i64), StoreError> {
        let counts = sqlx::query_as(
            "SELECT (SELECT COUNT(*) FROM customers AS k WHERE k.tenant = $1),
                    (SELECT COUNT(DISTINCT s.customer_id) FROM subscriptions AS s
                     WHERE s.tenant = $1 AND s.state NOT IN ('canceled', 'incomplete_expired'))",
        );
        Ok(counts.bind(tenant).fetch_one(&mut *self.shared().await?).await?)
    }

    async fn customers_of_prices(&self, tenant: &str, since: Timestamp) -> Result<Vec<(String, i64)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT c.price, COUNT(DISTINCT c.customer_id) FROM charges AS c
             WHERE c.tenant = $1 AND c.occurred_at >= $2 AND c.price IS NOT NULL GROUP BY c.price ORDER BY c.price",
        );
        Ok(found.bind(tenant).bind(since.as_microsecond()).fetch_all(&mut *self.shared().await?).await?)
    }
}
