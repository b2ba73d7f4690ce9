//! Plans: what is sold by the month, or as one goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State as FromState};
use axum::http::request::Parts;
use axum::response::Response;
use engine::rating::rate;
use engine::{Feature, IntervalUnit, Micros};
use serde::Serialize;
use serde_json::Number;
use utoipa::ToSchema;

use super::{Caller, Failed, Failure, Speaker, Speech, SpeechSettings, State, answer, failed};

/// Features by name: `true` or `false`, how many, or which.
pub(super) type Features = BTreeMap<Arc<str>, Feature>;

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
struct Plan {
    name: String,
    /// `monthly`, or `usage` where it is paid as one goes.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it includes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    features: Option<Features>,
    /// What each use costs, in dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    pricing: Option<BTreeMap<String, Number>>,
}

/// What is sold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Plans {
    success: bool,
    /// By name.
    plans: BTreeMap<String, Plan>,
}

/// That the plans may be told to whoever asks.
pub(super) struct MayRead;

impl FromRequestParts<Arc<Speaker<SpeechSettings>>> for MayRead {
    type Rejection = Failed<Speech>;

    async fn from_request_parts(
        parts: &mut Parts,
        speaker: &Arc<Speaker<SpeechSettings>>,
    ) -> Result<Self, Failed<Speech>> {
        if !speaker.settings.public_plans {
            Caller::<Speech>::from_request_parts(parts, speaker).await?;
        }
        Ok(Self)
    }
}

/// The plans
#[utoipa::path(get, path = "/payments/subscription-plans", operation_id = "list_plans", tag = "subscriptions", responses((status = 200, body = Plans)))]
pub(super) async fn list(FromState(speaker): State, _: MayRead) -> Result<Response, Failed<Speech>> {
    let sold = speaker.spoken.catalog().plans.sold();
    let plans = sold.map(|plan| Ok((plan.name.to_string(), view(&speaker, plan)?))).collect::<Result<_, _>>();
    Ok(answer(Plans { success: true, plans: plans.map_err(failed("get subscription plans"))? }))
}

fn view(speaker: &Speaker<SpeechSettings>, plan: &engine::Plan) -> Result<Plan, Failure> {
    let by_use = speaker.settings.usage_plan.as_ref() == Some(&plan.name);
    Ok(Plan {
        name: plan.title.to_string(),
        kind: kind(&speaker.settings, plan),
        features: (!by_use).then(|| plan.features.clone()),
        pricing: by_use.then(|| pricing(speaker, plan)).transpose()?,
    })
}

/// How a plan is paid.
pub(super) fn kind(settings: &SpeechSettings, plan: &engine::Plan) -> &'static str {
    match plan.interval.unit {
        _ if settings.usage_plan.as_ref() == Some(&plan.name) => "usage",
        IntervalUnit::Day => "daily",
        IntervalUnit::Week => "weekly",
        IntervalUnit::Month => "monthly",
        IntervalUnit::Year => "yearly",
    }
}

/// What one use of each service costs on a plan.
fn pricing(speaker: &Speaker<SpeechSettings>, plan: &engine::Plan) -> Result<BTreeMap<String, Number>, Failure> {
    let prices = &speaker.spoken.catalog().prices;
    let mut told = BTreeMap::new();
    for service in &speaker.settings.services {
        let Some(name) = &service.price else { continue };
        let price = plan.prices.iter().chain(prices).find(|price| price.prices(&service.meter));
        if let Some(price) = price {
            let one = rate(price, Micros::ZERO, Micros::ONE)?;
            told.insert(name.to_string(), one.to_string().parse().unwrap_or_else(|_| Number::from(0)));
        }
    }
    Ok(told)
}
