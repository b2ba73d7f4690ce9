//! Plans: what an organisation can subscribe to.

use std::sync::Arc;

use axum::extract::State as FromState;
use axum::response::Response;
use engine::{Feature, IntervalUnit};
use serde::Serialize;
use utoipa::ToSchema;

use super::{OrgvoiceSettings, Speaker, State, answer};

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    id: String,
    name: String,
    /// The provider's id of its price.
    price_id: String,
    amount_cents: i64,
    currency: String,
    /// `day`, `week`, `month` or `year`.
    interval: &'static str,
    /// What it has, in sentences.
    features: Vec<String>,
}

/// What is sold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plans {
    plans: Vec<Plan>,
}

/// The plans that the provider has a price for, the cheapest first.
pub(super) fn sold(speaker: &Speaker<OrgvoiceSettings>) -> Vec<(&Arc<engine::Plan>, &Arc<str>)> {
    let plans = speaker.spoken.catalog().plans.sold();
    let mut priced: Vec<_> = plans.filter_map(|plan| Some((plan, plan.provider_price.as_ref()?))).collect();
    priced.sort_by_key(|(plan, _)| plan.fee.minor);
    priced
}

/// What can be subscribed to
#[utoipa::path(get, path = "/api/billing/subscription-plans", operation_id = "list_plans", tag = "billing",
    responses((status = 200, body = Plans)))]
pub(super) async fn list(FromState(speaker): State) -> Response {
    let text = |feature: &Feature| match feature {
        Feature::Text(text) => Some(text.to_string()),
        Feature::Flag(_) | Feature::Number(_) => None,
    };
    let plans = sold(&speaker).into_iter().map(|(plan, price)| Plan {
        id: plan.name.to_string(),
        name: plan.title.to_string(),
        price_id: price.to_string(),
        amount_cents: plan.fee.minor,
        currency: currency(plan.fee.currency.as_str()),
        interval: match plan.interval.unit {
            IntervalUnit::Day => "day",
            IntervalUnit::Week => "week",
            IntervalUnit::Month => "month",
            IntervalUnit::Year => "year",
        },
        features: plan.features.values().filter_map(text).collect(),
    });
    answer(Plans { plans: plans.collect() })
}

/// A currency as this product writes it.
pub(super) fn currency(code: &str) -> String {
    code.to_ascii_lowercase()
}
