//! Checks: may this customer do this now, and what would it cost?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::CheckRequest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Labels, Name, Number};
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::problem::Problem;
use crate::api::v1::charges::CoverView;
use crate::app::App;
use crate::auth::Scope;

/// A use that might be charged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer": "acme", "meter": "context_tokens", "quantity": 4808}))]
pub(in crate::api) struct NewCheck {
    /// Who would pay.
    customer: Name,
    /// What would be counted.
    meter: Name,
    /// How much; one where absent.
    quantity: Option<Number>,
    /// What it would be, such as the model.
    #[serde(default)]
    dimensions: Labels,
}

/// What a charge would come to.
#[derive(Debug, Serialize, ToSchema)]
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
    /// What it would be priced in.
    asset: String,
    /// What it would cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// How much of it would be owed.
    owed: String,
    /// What would cover it.
    covered_by: Vec<CoverView>,
    /// What is available for this meter in `asset`.
    available: String,
    /// What is available for this meter in its own unit.
    available_units: String,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// Check a use
///
/// The charge itself, tried and not done. Nothing is reserved: hold what must still be there later.
#[utoipa::path(post, path = "/v1/check", operation_id = "check_use", tag = "checks", request_body = NewCheck, responses((status = 200, body = CheckView)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<NewCheck>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let key = caller.customer(body.customer.as_str())?;
    let shard_key = key.shard_key;
    let request = CheckRequest {
        meter: Arc::from(body.meter.as_str()),
        quantity: body.quantity.map_or(engine::Micros::ONE, |quantity| quantity.0),
        dimensions: body.dimensions.0,
    };
    let check = app.service.check(caller.catalog().clone(), key, request, caller.now()).await?;
    let view = CheckView {
        allowed: check.refusal.is_none(),
        code: check.refusal.as_ref().map(engine::Refusal::code),
        reason: check.refusal.as_ref().map(ToString::to_string),
        asset: check.asset.to_string(),
        amount: check.amount.map(|amount| amount.to_string()),
        owed: check.owed.to_string(),
        covered_by: check.covered_by.iter().map(|cover| CoverView::of(cover, shard_key)).collect(),
        available: check.available.to_string(),
        available_units: check.available_units.to_string(),
        as_of: check.as_of,
    };
    metrics::counter!("farthing_checks_total", "allowed" => if view.allowed { "true" } else { "false" }).increment(1);
    Ok(answer(StatusCode::OK, view))
}
