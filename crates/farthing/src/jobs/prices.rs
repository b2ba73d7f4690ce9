//! The prices that plans name, made in a sandbox that has nobody who would make them there by hand.

use std::sync::Arc;

use engine::{AddOn, Catalog, Plan};

use super::{JobError, Jobs, TICK};
use crate::provider::OfferedPrice;

impl Jobs {
    /// Makes the prices of every tenant whose provider wants them, as soon as it can be reached.
    pub(super) async fn run_offers(self) {
        for tenant in self.providers.keys() {
            while let Err(error) = self.offer_prices(tenant).await {
                tracing::warn!(event = "prices_postponed", tenant = &**tenant, %error);
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Makes the provider's prices of what a tenant sells, once in the life of this process; nothing where somebody has made
    /// them there.
    ///
    /// # Errors
    /// What the provider fails with.
    pub async fn offer_prices(&self, tenant: &Arc<str>) -> Result<(), JobError> {
        let Some(prices) = self.provider(tenant)?.prices() else { return Ok(()) };
        let mut offered = self.offered.lock().await;
        if offered.contains(tenant) {
            return Ok(());
        }
        for price in sold(&self.tenant(tenant)?.catalog) {
            let made = prices.offer(&price).await;
            made.outcome.map_err(|error| JobError::Provider(error.to_string()))?;
        }
        offered.insert(tenant.clone());
        Ok(())
    }
}

/// The prices that the plans sold now name, and their add-ons.
fn sold(catalog: &Catalog) -> Vec<OfferedPrice> {
    catalog.plans.sold().flat_map(|plan| of_plan(plan).into_iter().chain(of_add_ons(catalog, plan))).collect()
}

fn of_plan(plan: &Plan) -> Option<OfferedPrice> {
    Some(OfferedPrice {
        id: plan.provider_price.clone()?,
        lookup_key: Some(plan.name.clone()),
        title: plan.title.clone(),
        fee: plan.fee.clone(),
        interval: plan.interval,
    })
}

/// What is booked with a plan is billed as often as the plan is.
fn of_add_ons(catalog: &Catalog, plan: &Plan) -> Vec<OfferedPrice> {
    let add_ons = plan.add_ons.iter().filter_map(|name| catalog.plans.add_ons.get(name));
    let offered = |add_on: &AddOn| {
        Some(OfferedPrice {
            id: add_on.provider_price.clone().filter(|_| plan.provider_price.is_some())?,
            lookup_key: None,
            title: add_on.title.clone(),
            fee: add_on.fee.clone(),
            interval: plan.interval,
        })
    };
    add_ons.filter(|add_on| add_on.recurring).filter_map(offered).collect()
}
