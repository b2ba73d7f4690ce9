//! Entitlements: what a customer's plans let it do, and how its limits stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::entitlement::{LimitStanding, SpendingStanding};
use engine::{Feature, Window};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::parameters::Named;
use crate::api::problem::Problem;
use crate::api::v1::customers::OverageView;
use crate::app::App;
use crate::auth::Scope;

/// Features by name: `true` or `false`, how many, or which.
pub(in crate::api) type Features = BTreeMap<Arc<str>, Feature>;

/// How a limit stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LimitStanding)]
pub(in crate::api) struct LimitView {
    /// Its name.
    name: String,
    /// What it limits.
    meter: String,
    /// Over what time it counts: `minute`, `hour`, `day` and `month` by the clock and the tenant's calendar, `period` of the
    /// subscription, `sliding` over the latest `window_seconds`; `open_holds` counts holds that are open at once.
    #[schema(pattern = "^(minute|hour|day|month|period|sliding|open_holds)$")]
    window: &'static str,
    /// How long a sliding window is.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u32>,
    /// How much.
    amount: String,
    /// What is used of it.
    used: String,
    /// What is left of it.
    left: String,
    /// When more of it is free again by itself; absent where that is not a matter of time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    resets_at: Option<Timestamp>,
    /// Whether what is above it is refused; otherwise it is only told.
    hard: bool,
}

impl LimitView {
    pub(in crate::api) fn of(standing: &LimitStanding) -> Self {
        let limit = &standing.limit;
        let (window, window_seconds) = match limit.window {
            Window::Minute => ("minute", None),
            Window::Hour => ("hour", None),
            Window::Day => ("day", None),
            Window::Month => ("month", None),
            Window::Period => ("period", None),
            Window::Sliding(seconds) => ("sliding", Some(seconds)),
            Window::OpenHolds => ("open_holds", None),
        };
        Self {
            name: limit.name.to_string(),
            meter: limit.meter.to_string(),
            window,
            window_seconds,
            amount: limit.amount.to_string(),
            used: standing.used.to_string(),
            left: standing.left.to_string(),
            resets_at: standing.resets_at,
            hard: limit.hard,
        }
    }
}

/// How the spending limit of a plan stands: the most that usage may add to what is owed in a period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpendingStanding)]
pub(in crate::api) struct SpendingView {
    /// In what.
    asset: String,
    /// The limit.
    limit: String,
    /// What usage has added in the period.
    spent: String,
    /// What is left; below zero where usage that had happened went above it.
    left: String,
    /// When the next period begins.
    #[schema(value_type = String, format = DateTime)]
    resets_at: Timestamp,
}

impl SpendingView {
    pub(in crate::api) fn of(standing: &SpendingStanding) -> Result<Self, Problem> {
        Ok(Self {
            asset: standing.asset.to_string(),
            limit: standing.limit.to_string(),
            spent: standing.spent.to_string(),
            left: standing.limit.minus(standing.spent)?.to_string(),
            resets_at: standing.resets_at,
        })
    }
}

/// What a customer may do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entitlements)]
pub(in crate::api) struct EntitlementsView {
    /// Your own id of the customer.
    customer: String,
    /// What its plans say; of several plans the more generous counts.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    features: Features,
    /// How its limits stand.
    limits: Vec<LimitView>,
    /// How the spending limit of its plan stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    spending: Option<SpendingView>,
    /// What happens when credit runs out: the customer's own, its plan's, or the tenant's.
    overage: OverageView,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// A customer's entitlements
///
/// What its plans let it do, what its limits leave, and when they leave more: true when given.
#[utoipa::path(get, path = "/v1/customers/{customer}/entitlements", operation_id = "get_entitlements", tag = "checks",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = EntitlementsView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &id).await?;
    let entitlements = engine::entitlements(caller.catalog(), &row.customer, caller.now())?;
    let view = EntitlementsView {
        customer: id,
        features: entitlements.features,
        limits: entitlements.limits.iter().map(LimitView::of).collect(),
        spending: entitlements.spending.as_ref().map(SpendingView::of).transpose()?,
        overage: entitlements.overage.into(),
        as_of: row.customer.position,
    };
    Ok(answer(StatusCode::OK, view))
}
