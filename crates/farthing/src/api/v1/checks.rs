//! Checks: may this customer do this now, what would it cost, why not, and when again?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{CheckRequest, Feature, Micros};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Labels, Name, Number};
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::problem::Problem;
use crate::api::v1::charges::CoverView;
use crate::api::v1::customers::OverageView;
use crate::api::v1::entitlements::{Features, LimitView, SpendingView};
use crate::app::App;
use crate::auth::Scope;
use crate::store::CustomerKey;

/// A use that might be charged, or a feature.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer": "acme", "meter": "context_tokens", "quantity": 4808}))]
pub(in crate::api) struct NewCheck {
    /// Who would pay.
    customer: Name,
    /// What would be counted; this, or `feature`, or both.
    meter: Option<Name>,
    /// A feature of a plan.
    feature: Option<Name>,
    /// How much would be used, one where absent; of a feature alone that says how many: at least so many.
    quantity: Option<Number>,
    /// What it would be, such as the model.
    #[serde(default)]
    dimensions: Labels,
}

/// Whether a customer has a feature.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureCheck)]
pub(in crate::api) struct FeatureView {
    /// The feature.
    name: String,
    /// Whether the customer's plans have it.
    allowed: bool,
    /// What they say of it; absent where none knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Feature>,
}

/// Whether it would be done, and what a charge would come to.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Check)]
pub(in crate::api) struct CheckView {
    /// Whether it would be done.
    allowed: bool,
    /// The code of the refusal, where it would not.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// The reason, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What the use would be priced in.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<String>,
    /// What it would cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// How much of it would be owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    owed: Option<String>,
    /// What would cover it.
    #[serde(skip_serializing_if = "Option::is_none")]
    covered_by: Option<Vec<CoverView>>,
    /// What is available for this meter in `asset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    /// What is available for this meter in its own unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    available_units: Option<String>,
    /// How the limits of the meter stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<LimitView>>,
    /// How the spending limit of the customer's plan stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    spending: Option<SpendingView>,
    /// What happens when credit runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<OverageView>,
    /// The feature that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<FeatureView>,
    /// All that the customer's plans say of features; absent where it has none.
    #[serde(skip_serializing_if = "Features::is_empty")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    features: Features,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// Check a use, or a feature
///
/// Of a use it is the charge itself, tried and not done: what it would cost, what would cover it, and, where it would be
/// refused, why, what is left, and when there is more. Nothing is reserved: hold what must still be there later.
#[utoipa::path(post, path = "/v1/check", operation_id = "check_use", tag = "checks", request_body = NewCheck, responses((status = 200, body = CheckView)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<NewCheck>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let key = caller.customer(body.customer.as_str())?;
    let wanted = body.quantity.map_or(Micros::ONE, |quantity| quantity.0);
    let mut view = match &body.meter {
        Some(meter) => {
            let request =
                CheckRequest { meter: Arc::from(meter.as_str()), quantity: wanted, dimensions: body.dimensions.0 };
            of_use(&app, &caller, key.clone(), request).await?
        }
        None if body.feature.is_some() => CheckView { allowed: true, ..CheckView::default() },
        None => return Err(Problem::invalid("invalid_value", "say what to check: `meter` or `feature`").at("/meter")),
    };
    if let Some(name) = &body.feature {
        let wanted = if body.meter.is_some() { Micros::ONE } else { wanted };
        view = with_feature(&app, &caller, key, view, (name.as_str(), wanted)).await?;
    }
    metrics::counter!("farthing_checks_total", "allowed" => if view.allowed { "true" } else { "false" }).increment(1);
    Ok(answer(StatusCode::OK, view))
}

async fn of_use(app: &App, caller: &Caller, key: CustomerKey, request: CheckRequest) -> Result<CheckView, Problem> {
    let shard_key = key.shard_key;
    let check = app.service.check(caller.catalog().clone(), key, request, caller.now()).await?;
    Ok(CheckView {
        allowed: check.refusal.is_none(),
        code: check.refusal.as_ref().map(engine::Refusal::code),
        reason: check.refusal.as_ref().map(ToString::to_string),
        asset: Some(check.asset.to_string()),
        amount: check.amount.map(|amount| amount.to_string()),
        owed: Some(check.owed.to_string()),
        covered_by: Some(check.covered_by.iter().map(|cover| CoverView::of(cover, shard_key)).collect()),
        available: Some(check.available.to_string()),
        available_units: Some(check.available_units.to_string()),
        limits: Some(check.limits.iter().map(LimitView::of).collect()),
        spending: check.spending.as_ref().map(SpendingView::of).transpose()?,
        overage: Some(check.overage.into()),
        feature: None,
        features: check.features,
        as_of: check.as_of,
    })
}

async fn with_feature(
    app: &App,
    caller: &Caller,
    key: CustomerKey,
    view: CheckView,
    (name, wanted): (&str, Micros),
) -> Result<CheckView, Problem> {
    let customer = app.service.current(key).await?;
    let features = engine::entitlements(caller.catalog(), &customer, caller.now())?.features;
    let value = features.get(name).cloned();
    let allowed = value.as_ref().is_some_and(|value| value.allows(wanted));
    let feature = FeatureView { name: name.to_owned(), allowed, value };
    let view = CheckView { features, as_of: customer.position, feature: Some(feature), ..view };
    if allowed || !view.allowed {
        return Ok(view);
    }
    let reason = Some(format!("the customer's plan does not have as much of feature `{name}`"));
    Ok(CheckView { allowed: false, code: Some("feature_not_included"), reason, ..view })
}
