//! Billing: what plans there are, which one a user is on, how much of the month's limit is used, and whether more would fit.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::{Micros, Plan, may_spend};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Number, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::customer::Customer;
use super::user::{User, entitled};
use super::{
    Asked, Data, Failed, Failure, Parentpilot, ParentpilotSettings, Speaker, State, cents, data, instant, number,
    or_told,
};
use crate::auth::Scope;
use crate::config::dialect::unit_price;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::store::CustomerRow;

/// Micros of a currency in a hundredth of its unit.
const MICROS_PER_CENT: i64 = 10_000;

/// Milliseconds in a minute.
const MINUTE: i128 = 60_000;

/// What can be subscribed to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlanView {
    id: String,
    name: String,
    /// How much may be used in a calendar month, in cents.
    monthly_limit: i64,
    /// In dollars.
    #[schema(value_type = f64)]
    cost_per_token: Number,
    /// In dollars.
    #[schema(value_type = f64)]
    cost_per_minute: Number,
}

impl PlanView {
    fn of(plan: &Plan, settings: &ParentpilotSettings) -> Self {
        let cost = |meter: &str, units: i128| {
            let (picos, per) = unit_price(plan, meter)?;
            let picos = Decimal::try_from_i128_with_scale(picos.checked_mul(units)?, 12).ok()?;
            picos.checked_div(Decimal::from(per)).map(number)
        };
        Self {
            id: plan.name.to_string(),
            name: plan.title.to_string(),
            monthly_limit: plan.spending_limit.map(cents).unwrap_or_default(),
            cost_per_token: cost(&settings.tokens, 1).unwrap_or_else(|| Number::from(0)),
            cost_per_minute: cost(&settings.execution, MINUTE).unwrap_or_else(|| Number::from(0)),
        }
    }
}

/// The plans
///
/// The cheapest first.
#[utoipa::path(get, path = "/api/payments/plans", operation_id = "list_plans", tag = "billing", responses((status = 200, body = Data<Vec<PlanView>>)))]
pub(super) async fn plans(FromState(speaker): State, user: User) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Read)?;
    let mut sold: Vec<&Plan> = speaker.spoken.catalog().plans.sold().map(|plan| &**plan).collect();
    sold.sort_by_key(|plan| (plan.fee.minor, plan.name.clone()));
    let views: Vec<PlanView> = sold.into_iter().map(|plan| PlanView::of(plan, &speaker.settings)).collect();
    Ok(data(views))
}

/// How a user's billing stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    /// `null` for a user that is not known.
    billing: Option<Billing>,
    /// `null` where the provider has none.
    customer: Option<Customer>,
}

/// How much of the month's limit is used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Billing {
    user_id: String,
    plan_id: String,
    /// In cents.
    current_usage: i64,
    /// In cents.
    monthly_limit: i64,
    /// When the next month begins, in UTC.
    reset_date: String,
}

impl Overview {
    fn of(speaker: &Speaker<ParentpilotSettings>, row: &CustomerRow) -> Result<Self, Failure> {
        let entitled = entitled(&speaker.spoken, row)?;
        let plan = entitled.plans.first();
        let billing = plan.zip(entitled.spending.as_ref()).map(|(plan, spending)| Billing {
            user_id: row.external_id.clone(),
            plan_id: plan.to_string(),
            current_usage: cents(spending.spent),
            monthly_limit: cents(spending.limit),
            reset_date: instant(spending.resets_at),
        });
        let state = &row.customer.state;
        let subscription = state.subscriptions.iter().find_map(|known| known.reference.as_deref());
        let customer = state.payer.reference.as_ref();
        let customer = customer.map(|reference| Customer::new(reference, &row.profile).subscribed(subscription));
        Ok(Self { billing, customer })
    }
}

/// How a user's billing stands
#[utoipa::path(get, path = "/api/payments/billing", operation_id = "get_billing", tag = "billing", responses((status = 200, body = Data<Overview>)))]
pub(super) async fn get(FromState(speaker): State, user: User) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Read)?;
    let told = async {
        match user.find(&speaker.spoken).await? {
            Some(row) => Overview::of(&speaker, &row),
            None => Ok(Overview { billing: None, customer: None }),
        }
    };
    or_told(told.await.map(data), "Failed to get billing information")
}

/// What a task is expected to cost.
#[derive(Debug)]
pub(super) struct Estimate {
    /// In cents.
    cost: Decimal,
}

impl ToSchema for Estimate {}

impl PartialSchema for Estimate {
    fn schema() -> RefOr<Schema> {
        Shape::new().number("estimatedCost").schema(json!({"estimatedCost": 25}))
    }
}

impl Read for Estimate {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let cost = fields.number("estimatedCost").filter(|cost| *cost > Decimal::ZERO);
        if cost.is_none() {
            fields.refuse("estimatedCost", "greater_than", "Valid estimated cost is required");
        }
        cost.map(|cost| Self { cost })
    }
}

/// Whether a task may be done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    can_process: bool,
    /// As it was asked, in cents.
    #[schema(value_type = f64)]
    estimated_cost: Number,
}

/// Whether a task would stay within the month's limit
///
/// Nothing is kept for it.
#[utoipa::path(post, path = "/api/payments/check-usage-limit", operation_id = "check_usage_limit", tag = "billing", request_body = Estimate,
    responses((status = 200, body = Data<Verdict>)))]
pub(super) async fn check(
    FromState(speaker): State,
    user: User,
    Asked(body): Asked<Estimate>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Read)?;
    let judged = async {
        let Some(row) = user.find(&speaker.spoken).await? else { return Ok(false) };
        // A part of a millionth counts as one; what cannot be counted is more than anybody may use.
        let cost = body.cost.checked_mul(Decimal::from(MICROS_PER_CENT)).map(|micros| micros.ceil());
        let Some(cost) = cost.and_then(|micros| i64::try_from(micros).ok()) else { return Ok(false) };
        let (catalog, now) = (speaker.spoken.catalog(), speaker.spoken.now());
        Ok(may_spend(catalog, &row.customer, Micros::new(cost), now)?)
    };
    let verdict = |can_process| data(Verdict { can_process, estimated_cost: number(body.cost) });
    or_told(judged.await.map(verdict), "Failed to check usage limit")
}
