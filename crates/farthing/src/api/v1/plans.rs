//! Plans: what is sold by the period, for pricing pages. What stands here is sold now; who has subscribed stays on the
//! version it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use engine::{
    AddOn, Allowance, Feature, IntervalUnit, Limit, Model, Money, OveragePolicy, Plan, Price, Rate, Rounding, Tier,
    Window,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::problem::Problem;
use crate::api::v1::purchases::major;
use crate::auth::Scope;

/// What can be subscribed to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plans)]
pub(in crate::api) struct PlansView {
    /// The plans, by name.
    plans: Vec<PlanView>,
    /// What is booked with them, by name.
    add_ons: Vec<AddOnView>,
    /// The prices of everyone, where a plan has none of its own for a use.
    prices: Vec<PriceView>,
}

/// A plan, as it is sold now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Plan)]
pub(in crate::api) struct PlanView {
    /// Its name.
    name: String,
    /// Names this very definition.
    version: String,
    /// What people read.
    title: String,
    /// The fee of a period, in advance.
    price: String,
    /// In this currency.
    currency: String,
    /// What its periods are counted in.
    #[schema(value_type = String)]
    interval: IntervalUnit,
    /// How many of them a period is.
    interval_count: u16,
    /// How many days are free at first.
    trial_days: u16,
    /// What is included in each period.
    allowances: Vec<AllowanceView>,
    /// What it lets its subscribers do: true or false, numbers, texts.
    #[schema(value_type = Object)]
    features: BTreeMap<Arc<str>, Feature>,
    /// How much may be used.
    limits: Vec<LimitView>,
    /// Its own prices.
    prices: Vec<PriceView>,
    /// The most that usage may add to what is owed in a period.
    #[serde(skip_serializing_if = "Option::is_none")]
    spending_limit: Option<String>,
    /// The least that the usage of a period comes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment: Option<String>,
    /// What happens when what is included is used up, where it is not as for everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    overage: Option<OveragePolicy>,
    /// The add-ons that may be booked with it.
    add_ons: Vec<String>,
}

/// What is included in each period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Allowance)]
pub(in crate::api) struct AllowanceView {
    /// Its name.
    name: String,
    /// How much.
    amount: String,
    /// Of what: a unit or a currency.
    asset: String,
    /// The meters that it covers; all where there is none.
    meters: Vec<String>,
    /// Whether what is left goes over to the next period.
    rollover: bool,
    /// The most that goes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    cap: Option<String>,
}

/// How much may be used in a window of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlanLimit)]
pub(in crate::api) struct LimitView {
    /// Its name.
    name: String,
    /// The meter.
    meter: String,
    /// Over what: `minute`, `hour`, `day`, `month`, `period`, `sliding` or `open_holds`.
    per: &'static str,
    /// How long a sliding window is.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    /// How much.
    amount: String,
    /// Whether more is refused; otherwise it is only told.
    hard: bool,
}

/// What uses cost.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Price)]
pub(in crate::api) struct PriceView {
    /// Its name.
    name: String,
    /// Names this very definition.
    version: String,
    /// The meters that it prices; what is used of several is counted together.
    meters: Vec<String>,
    /// The dimensions that a use must have.
    #[serde(rename = "match")]
    matching: BTreeMap<String, String>,
    /// The currency.
    currency: String,
    /// `flat`, `per_unit`, `package`, `percentage`, `graduated` or `volume`.
    model: &'static str,
    /// The unit price.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// How many units a unit price is for.
    per: u64,
    /// How many units a package has.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    /// Percent of the quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<String>,
    /// For each charge besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    flat: Option<String>,
    /// The tiers, the last one open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tiers: Vec<TierView>,
    /// How the exact amount becomes millionths.
    #[schema(value_type = String)]
    rounding: Rounding,
}

/// One step of a price.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tier)]
pub(in crate::api) struct TierView {
    /// The last quantity in it; absent for the last tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to: Option<String>,
    /// The unit price in it.
    amount: String,
    /// Once, when it is entered or reached.
    flat: String,
}

/// What is booked with a plan.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AddOn)]
pub(in crate::api) struct AddOnView {
    /// Its name.
    name: String,
    /// What people read.
    title: String,
    /// What one costs.
    price: String,
    /// In this currency.
    currency: String,
    /// Whether it is billed with every period, or once.
    recurring: bool,
}

impl PlanView {
    fn of(plan: &Plan) -> Self {
        let currency = plan.fee.currency.clone();
        Self {
            name: plan.name.to_string(),
            version: plan.version.to_string(),
            title: plan.title.to_string(),
            price: major(&plan.fee),
            interval: plan.interval.unit,
            interval_count: plan.interval.count,
            trial_days: plan.trial_days,
            allowances: plan.allowances.iter().map(AllowanceView::of).collect(),
            features: plan.features.clone(),
            limits: plan.limits.iter().map(LimitView::of).collect(),
            prices: plan.prices.iter().map(|price| PriceView::of(price)).collect(),
            spending_limit: plan.spending_limit.map(|limit| limit.to_string()),
            commitment: plan.commitment.map(|minor| major(&Money { minor, currency: currency.clone() })),
            overage: plan.overage.map(|overage| overage.policy),
            add_ons: texts(&plan.add_ons),
            currency: currency.to_string(),
        }
    }
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl AllowanceView {
    fn of(allowance: &Allowance) -> Self {
        Self {
            name: allowance.name.to_string(),
            amount: allowance.amount.to_string(),
            asset: allowance.asset.to_string(),
            meters: texts(&allowance.meters),
            rollover: allowance.rollover,
            cap: allowance.cap.map(|cap| cap.to_string()),
        }
    }
}

impl LimitView {
    fn of(limit: &Limit) -> Self {
        let (per, seconds) = match limit.window {
            Window::Minute => ("minute", None),
            Window::Hour => ("hour", None),
            Window::Day => ("day", None),
            Window::Month => ("month", None),
            Window::Period => ("period", None),
            Window::Sliding(seconds) => ("sliding", Some(seconds)),
            Window::OpenHolds => ("open_holds", None),
        };
        let (name, meter, amount) = (limit.name.to_string(), limit.meter.to_string(), limit.amount.to_string());
        Self { name, meter, per, seconds, amount, hard: limit.hard }
    }
}

impl PriceView {
    fn of(price: &Price) -> Self {
        let text = |rate: &Rate| Some(rate.to_string());
        let mut view = Self {
            name: price.name.to_string(),
            version: price.version.to_string(),
            meters: std::iter::once(&price.meter).chain(&price.pooled).map(ToString::to_string).collect(),
            matching: price.matching.clone(),
            currency: price.asset.to_string(),
            model: "flat",
            amount: None,
            per: price.per,
            size: None,
            percent: None,
            flat: None,
            tiers: Vec::new(),
            rounding: price.rounding,
        };
        match &price.model {
            Model::Flat { amount } => view.amount = text(amount),
            Model::PerUnit { amount } => (view.model, view.amount) = ("per_unit", text(amount)),
            Model::Package { size, amount } => {
                (view.model, view.size, view.amount) = ("package", Some(size.to_string()), text(amount));
            }
            Model::Percentage { percent, flat } => {
                (view.model, view.percent, view.flat) = ("percentage", text(percent), text(flat));
            }
            Model::Graduated { tiers } => (view.model, view.tiers) = ("graduated", TierView::all(tiers)),
            Model::Volume { tiers } => (view.model, view.tiers) = ("volume", TierView::all(tiers)),
        }
        view
    }
}

impl TierView {
    fn all(tiers: &[Tier]) -> Vec<Self> {
        let view = |tier: &Tier| Self {
            up_to: tier.up_to.map(|up_to| up_to.to_string()),
            amount: tier.amount.to_string(),
            flat: tier.flat.to_string(),
        };
        tiers.iter().map(view).collect()
    }
}

impl AddOnView {
    fn of(add_on: &AddOn) -> Self {
        Self {
            name: add_on.name.to_string(),
            title: add_on.title.to_string(),
            price: major(&add_on.fee),
            currency: add_on.fee.currency.to_string(),
            recurring: add_on.recurring,
        }
    }
}

/// List plans
///
/// What is sold now, for pricing pages: plans with what they include and cost, what is booked with them, and the prices of
/// everyone. It is the tenant file's, and has no pages.
#[utoipa::path(get, path = "/v1/plans", operation_id = "list_plans", tag = "plans", responses((status = 200, body = PlansView)))]
pub(in crate::api) async fn list(caller: Caller) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let catalog = caller.catalog();
    let view = PlansView {
        plans: catalog.plans.sold().map(|plan| PlanView::of(plan)).collect(),
        add_ons: catalog.plans.add_ons.values().map(AddOnView::of).collect(),
        prices: catalog.prices.iter().map(|price| PriceView::of(price)).collect(),
    };
    Ok(answer(StatusCode::OK, view))
}
