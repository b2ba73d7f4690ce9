//! Recurring charges: a use that is charged again with every interval until it is ended.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::{Command, Interval, IntervalUnit, RecurringCharge, RecurringChargeRequest, Refusal};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Name, PositiveNumber, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::{Named, NamedOf, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Request, ServiceError};

/// A use to be charged now, and again with every interval.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRecurringCharge, example = json!({"meter": "website_hosting", "quantity": 1}))]
pub(in crate::api) struct NewRecurringCharge {
    /// What is counted.
    meter: Name,
    /// How much, each time.
    quantity: PositiveNumber,
    /// How often: `day`, `week`, `month` or `year`; each month where absent.
    #[schema(value_type = Option<String>, pattern = "^(day|week|month|year)$")]
    interval: Option<IntervalUnit>,
    /// Who or what under the customer uses it.
    subject: Option<Name>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// A use that is charged with every interval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecurringCharge)]
pub(in crate::api) struct RecurringChargeView {
    /// Its id.
    id: String,
    /// What is counted.
    meter: String,
    /// How much, each time.
    quantity: String,
    /// How often.
    #[schema(value_type = String, pattern = "^(day|week|month|year)$")]
    interval: IntervalUnit,
    /// Who or what under the customer uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// When it began, and was charged first.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// How often it was charged.
    charged: u32,
    /// The latest charge of it.
    latest_charge: String,
    /// When it is charged next.
    #[schema(value_type = String, format = DateTime)]
    next_at: Timestamp,
}

impl RecurringChargeView {
    fn of(recurring: &RecurringCharge, shard_key: i32) -> Self {
        let public = |kind, id| PublicId { kind, shard_key, id }.to_string();
        Self {
            id: public(Kind::RecurringCharge, recurring.id),
            meter: recurring.meter.to_string(),
            quantity: recurring.quantity.to_string(),
            interval: recurring.interval.unit,
            subject: recurring.subject.as_deref().map(str::to_owned),
            started_at: recurring.started_at,
            charged: recurring.charged,
            latest_charge: public(Kind::Charge, recurring.charge_id(recurring.charged.saturating_sub(1))),
            next_at: recurring.next_at,
        }
    }
}

/// The recurring charges of a customer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RecurringCharges {
    /// Those that go on, oldest first; fifty at the most.
    data: Vec<RecurringChargeView>,
}

/// Charge a use again and again
///
/// The first charge is made now and refused where it is not covered. Each later one is made when its interval begins, and owed
/// where it must.
#[utoipa::path(post, path = "/v1/customers/{customer}/recurring_charges", operation_id = "begin_recurring_charge", tag = "charges", request_body = NewRecurringCharge,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = RecurringChargeView), (status = 402, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewRecurringCharge>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let address = caller.customer(&customer)?;
    let shard_key = address.shard_key;
    let keyed = |key: String| keyed_id(&address.tenant, &address.external_id, "recurring_charge", &key);
    let operation = operation_key.map(|key| (keyed(key), fingerprint(&body)));
    let asked = RecurringChargeRequest {
        id: operation.map_or_else(|| app.clock.new_id(), |(id, _)| id),
        meter: Arc::from(body.meter.as_str()),
        quantity: body.quantity.micros(),
        interval: Interval { unit: body.interval.unwrap_or(IntervalUnit::Month), count: 1 },
        subject: body.subject.as_ref().map(|subject| Arc::from(subject.as_str())),
    };
    let command = Command::BeginRecurringCharge(asked.clone());
    let request = Request { operation, ..request(&app, &caller, address, command, caller.now()) };
    let done = app.service.execute(request).await.map_err(refused)?;
    // The first answer again is made of what was charged then.
    let first = RecurringCharge::first_charge_id(asked.id);
    let charge = done.charges.iter().find(|charge| charge.id == first).ok_or(Refusal::UnknownRecurringCharge)?;
    let begun = RecurringCharge::begun(&asked, charge.recorded_at, &caller.catalog().time_zone)?;
    Ok(replayed(answer(StatusCode::CREATED, RecurringChargeView::of(&begun, shard_key)), done.replayed))
}

/// A customer's recurring charges
#[utoipa::path(get, path = "/v1/customers/{customer}/recurring_charges", operation_id = "list_recurring_charges", tag = "charges",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = RecurringCharges)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    Ok(answer(StatusCode::OK, going_on(&app, &caller, &customer).await?))
}

/// Charge it no more
///
/// What was charged is not given back. Again does nothing.
#[utoipa::path(post, path = "/v1/customers/{customer}/recurring_charges/{recurring_charge}/end", operation_id = "end_recurring_charge", tag = "charges",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("recurring_charge" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = RecurringCharges, description = "Those that go on")))]
pub(in crate::api) async fn end(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    NamedOf(customer, id): NamedOf,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let address = caller.customer(&customer)?;
    let (_, recurring_charge) = public_id(&id, Kind::RecurringCharge)?;
    // It ends once, so that it is the key itself.
    let given = key.get().map_or_else(|| recurring_charge.to_string(), str::to_owned);
    let keyed = keyed_id(&address.tenant, &address.external_id, "recurring_charge_end", &given);
    let command = Command::EndRecurringCharge { recurring_charge };
    let operation = Some((keyed, fingerprint(&("end", &id))));
    let request = Request { operation, ..request(&app, &caller, address, command, caller.now()) };
    let done = app.service.execute(request).await.map_err(refused)?;
    Ok(replayed(answer(StatusCode::OK, going_on(&app, &caller, &customer).await?), done.replayed))
}

/// A problem about the customer is one of the path here, and not of the body.
fn refused(error: ServiceError) -> Problem {
    let problem = Problem::from(error);
    if problem.code() == "unknown_customer" { problem.at("customer") } else { problem }
}

async fn going_on(app: &App, caller: &Caller, customer: &str) -> Result<RecurringCharges, Problem> {
    let (row, _) = caller.find(app, customer).await?;
    let view = |recurring| RecurringChargeView::of(recurring, row.customer.shard_key);
    Ok(RecurringCharges { data: row.customer.state.recurring_charges.iter().map(view).collect() })
}
