//! What a tenant sells: kept in the store when a server begins with the tenant's file, so that what was sold before goes on
//! and can be explained, and so that a changed file can be compared with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{AddOn, Catalog, Coupon, Limit, Plan, Price, TaxRate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

/// What is sold, as far as customers have to do with it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Offer {
    /// The version of each plan that is sold, by the plan's name.
    pub plans: BTreeMap<Arc<str>, Arc<str>>,
    /// The prices of everyone.
    pub prices: Vec<Arc<Price>>,
    /// What is booked with plans.
    pub add_ons: Vec<AddOn>,
    /// What is taken off invoices.
    pub coupons: Vec<Coupon>,
    /// How much every customer may use.
    pub limits: Vec<Limit>,
    /// The taxes on invoices.
    pub taxes: Vec<TaxRate>,
}

impl Offer {
    /// What a catalog sells.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        Self {
            plans: catalog.plans.current.clone(),
            prices: catalog.prices.clone(),
            add_ons: catalog.plans.add_ons.values().cloned().collect(),
            coupons: catalog.plans.coupons.values().cloned().collect(),
            limits: catalog.plans.limits.clone(),
            taxes: catalog.billing.taxes.clone(),
        }
    }

    /// What a tenant sold when a server last began with its file; nothing where none ever did.
    ///
    /// # Errors
    /// As the store has them; `Corrupt` where what was kept cannot be read.
    pub async fn last(store: &dyn Store, tenant: &str) -> Result<Option<Self>, StoreError> {
        let Some(offer) = store.offer(tenant).await? else { return Ok(None) };
        serde_json::from_str(&offer).map(Some).map_err(|error| StoreError::Corrupt(format!("the offer: {error}")))
    }
}

/// Keeps what a catalog sells, and gives it every version of a plan that was sold before, so that subscriptions stay on
/// theirs.
///
/// # Errors
/// As the store has them; `Corrupt` where something cannot be written as JSON, or what was kept cannot be read.
pub async fn keep(store: &dyn Store, catalog: &mut Catalog, at: Timestamp) -> Result<(), StoreError> {
    let unwritable = |error: serde_json::Error| StoreError::Corrupt(format!("what is sold: {error}"));
    let mut prices = Vec::new();
    for price in catalog.all_prices() {
        prices.push((price.version.to_string(), serde_json::to_string(&**price).map_err(unwritable)?));
    }
    store.keep_prices(&catalog.tenant, &prices).await?;
    let sold: Vec<&Plan> = catalog.plans.sold().map(|plan| &**plan).collect();
    store.keep_plans(&catalog.tenant, &sold, at).await?;
    let offer = serde_json::to_string(&Offer::of(catalog)).map_err(unwritable)?;
    store.keep_offer(&catalog.tenant, &offer, at).await?;
    for plan in store.kept_plans(&catalog.tenant).await? {
        catalog.plans.versions.entry(plan.version.clone()).or_insert_with(|| Arc::new(plan));
    }
    Ok(())
}
