//! Holds: value reserved for a use that is under way, extended as it goes on, and settled when it ends.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::{ChargeRequest, Command, HoldRecord, HoldRequest, HoldSize, Micros};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Labels, Name, Number, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::{Named, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::{ChargeView, CoverView, request};
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request, ServiceError};
use crate::store::HoldRow;

/// The longest that a hold may last, in seconds: 31 days.
const LONGEST_SECONDS: u32 = 31 * 24 * 3600;

/// Value to be reserved: for so much use at its price, or so much money.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer": "acme", "meter": "generated_tokens", "quantity": 2000, "expires_in": 300}))]
pub(in crate::api) struct NewHold {
    /// Who pays.
    customer: Name,
    /// What will be counted.
    meter: Name,
    /// How much use to reserve; this or `amount`.
    quantity: Option<Number>,
    /// How much money to reserve; this or `quantity`.
    amount: Option<Number>,
    /// Who under the customer uses it.
    subject: Option<Name>,
    /// What it is, such as the model: chooses the price.
    #[serde(default)]
    dimensions: Labels,
    /// After how many seconds it lapses by itself; the tenant file's `holds.seconds` where absent.
    #[schema(minimum = 1, maximum = 2_678_400)]
    expires_in: Option<u32>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// More to be reserved, or for longer.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 1000, "expires_in": 300}))]
pub(in crate::api) struct HoldExtension {
    /// How much more use to reserve.
    quantity: Option<Number>,
    /// How much more money to reserve; this or `quantity`.
    amount: Option<Number>,
    /// After how many seconds from now it lapses by itself; unchanged where absent.
    #[schema(minimum = 1, maximum = 2_678_400)]
    expires_in: Option<u32>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// What was used of a hold.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 1745}))]
pub(in crate::api) struct HoldUse {
    /// How much was used, more or less than reserved.
    quantity: Number,
    /// When it was used; now where absent.
    time: Option<crate::api::time::Time>,
    /// Your own words about it, kept as they are.
    #[serde(default)]
    metadata: Labels,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// A hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hold)]
pub(in crate::api) struct HoldView {
    /// Its id.
    id: String,
    /// Who pays.
    customer: String,
    /// `open`, `settled`, `released` or `expired`.
    #[schema(value_type = String, pattern = "^(open|settled|released|expired)$")]
    state: engine::HoldState,
    /// What will be counted.
    #[schema(value_type = String)]
    meter: Arc<str>,
    /// Who under the customer uses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    subject: Option<Arc<str>>,
    /// What it is.
    dimensions: std::collections::BTreeMap<String, String>,
    /// How much use it reserves; 0 where it reserves money.
    quantity: String,
    /// What it keeps of which grants; after its end, what it kept just before.
    held: Vec<CoverView>,
    /// Room below the limit of debt that it keeps.
    owed: String,
    /// When it lapses by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
    /// What was charged by this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    charge: Option<ChargeView>,
    /// The ledger position that this is true at.
    as_of: i64,
}

impl HoldView {
    fn of(record: &HoldRecord, charge: Option<ChargeView>, customer: &str, shard_key: i32) -> Self {
        let hold = &record.hold;
        let cover = |allocation: &engine::hold::Allocation| {
            let allocation = allocation.clone();
            CoverView::of(
                &engine::Cover { grant: allocation.grant, asset: allocation.asset, amount: allocation.amount },
                shard_key,
            )
        };
        Self {
            id: PublicId { kind: Kind::Hold, shard_key, id: hold.id }.to_string(),
            customer: customer.to_owned(),
            state: record.state,
            meter: hold.meter.clone(),
            subject: hold.subject.clone(),
            dimensions: hold.dimensions.clone(),
            quantity: hold.quantity.to_string(),
            held: hold.allocations.iter().map(cover).collect(),
            owed: hold.owed.as_ref().map_or(Micros::ZERO, |(_, room)| *room).to_string(),
            expires_at: hold.expires_at,
            changed_at: record.changed_at,
            charge,
            as_of: record.position,
        }
    }
}

fn size(quantity: Option<Number>, amount: Option<Number>) -> Result<Option<HoldSize>, Problem> {
    match (quantity, amount) {
        (Some(quantity), None) => Ok(Some(HoldSize::Quantity(quantity.0))),
        (None, Some(amount)) => Ok(Some(HoldSize::Amount(amount.0))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("invalid_value", "`quantity` and `amount` exclude each other; send one").at("/amount"))
        }
    }
}

fn expiry(now: Timestamp, seconds: Option<u32>) -> Result<Option<Timestamp>, Problem> {
    let Some(seconds) = seconds else { return Ok(None) };
    let invalid = || {
        let detail = format!("`expires_in` is 1 to {LONGEST_SECONDS} seconds");
        Problem::invalid("invalid_value", detail).at("/expires_in")
    };
    if !(1..=LONGEST_SECONDS).contains(&seconds) {
        return Err(invalid());
    }
    now.checked_add(SignedDuration::from_secs(i64::from(seconds))).map(Some).map_err(|_| invalid())
}

/// Does a command about a hold and shows the hold as it is then.
async fn execute(app: &App, request: Request, customer: &str, status: StatusCode) -> Result<Response, Problem> {
    let shard_key = request.key.shard_key;
    let outcome = app.service.execute(request).await;
    metrics::counter!("farthing_holds_total", "outcome" => match &outcome {
        Ok(_) => "done",
        Err(ServiceError::Refused(refusal)) => refusal.code(),
        Err(_) => "failed",
    })
    .increment(1);
    let done: Answer = outcome?;
    let record = done.holds.last().ok_or(ServiceError::Unavailable)?;
    let charge = done.charge().map(|charge| ChargeView::of(charge, customer, shard_key));
    let view = HoldView::of(record, charge, customer, shard_key);
    Ok(replayed(answer(status, view), done.replayed))
}

/// Reserve value
///
/// What a hold keeps, no other charge can take. Refused with 402 where it is not there: `held_by_others` where only other
/// holds stand in the way.
#[utoipa::path(post, path = "/v1/holds", operation_id = "create_hold", tag = "holds", request_body = NewHold,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = HoldView), (status = 402, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<NewHold>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, body.customer.as_str())?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let customer = caller.customer(body.customer.as_str())?;
    let now = caller.now();
    let missing =
        || Problem::invalid("invalid_value", "say how much to reserve: `quantity` or `amount`").at("/quantity");
    let operation =
        operation_key.map(|key| (keyed_id(&customer.tenant, &customer.external_id, "hold", &key), fingerprint(&body)));
    let command = Command::Hold(HoldRequest {
        id: operation.map_or_else(|| app.clock.new_id(), |(id, _)| id),
        meter: Arc::from(body.meter.as_str()),
        size: size(body.quantity, body.amount)?.ok_or_else(missing)?,
        subject: body.subject.as_ref().map(|subject| Arc::from(subject.as_str())),
        dimensions: body.dimensions.0.clone(),
        expires_at: expiry(now, body.expires_in)?,
    });
    let request = Request { operation, ..request(&app, &caller, customer, command, now) };
    execute(&app, request, body.customer.as_str(), StatusCode::CREATED).await
}

/// A hold that the caller may see.
async fn find(app: &App, caller: &Caller, id: &str) -> Result<HoldRow, Problem> {
    let found = app.store.hold(&caller.scope(), public_id(id, Kind::Hold)?).await?;
    let found = found.filter(|row| caller.may_see(&row.external_id));
    found.ok_or_else(|| engine::Refusal::UnknownHold.into())
}

/// A hold
#[utoipa::path(get, path = "/v1/holds/{hold}", operation_id = "get_hold", tag = "holds", params(("hold" = String, Path, description = "Its id")),
    responses((status = 200, body = HoldView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let mut row = find(&app, &caller, &id).await?;
    // Expiry is judged at read time: whether the ledger has booked it yet makes no difference.
    if row.record.state == engine::HoldState::Open && row.record.hold.expires_at <= caller.now() {
        row.record.state = engine::HoldState::Expired;
    }
    let shard_key = caller.customer(&row.external_id)?.shard_key;
    Ok(answer(StatusCode::OK, HoldView::of(&row.record, None, &row.external_id, shard_key)))
}

/// Extend a hold
///
/// Reserve more, or for longer: a call or an agent extends its hold as it goes on.
#[utoipa::path(post, path = "/v1/holds/{hold}/extend", operation_id = "extend_hold", tag = "holds", request_body = HoldExtension,
    params(("hold" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = HoldView), (status = 402, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn extend(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<HoldExtension>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let row = find(&app, &caller, &id).await?;
    let now = caller.now();
    let command = Command::ExtendHold {
        hold: row.record.hold.id,
        more: size(body.quantity, body.amount)?,
        expires_at: expiry(now, body.expires_in)?,
    };
    let verb = Verb { name: "extend", key: operation_key, fingerprint: fingerprint(&("extend", &id, &body)) };
    let request = verb.request(&app, &caller, &row, command, now)?;
    execute(&app, request, &row.external_id, StatusCode::OK).await
}

/// Something done to a hold, with its key.
struct Verb {
    name: &'static str,
    key: Option<String>,
    fingerprint: i64,
}

impl Verb {
    fn request(
        self,
        app: &App,
        caller: &Caller,
        row: &HoldRow,
        command: Command,
        now: Timestamp,
    ) -> Result<Request, Problem> {
        let customer = caller.customer(&row.external_id)?;
        let operation = self.key.map(|key| {
            let kind = format!("hold_{}", self.name);
            (keyed_id(&customer.tenant, &customer.external_id, &kind, &key), self.fingerprint)
        });
        Ok(Request { operation, ..request(app, caller, customer, command, now) })
    }
}

/// Charges what was used of a hold, by capture or settlement.
async fn charge(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    id: &str,
    body: &HoldUse,
    settles: bool,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(app, caller, id)?;
    let given = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let row = find(app, caller, id).await?;
    let now = caller.now();
    let hold = row.record.hold.id;
    // A hold is settled once, so the hold itself is the key of its settlement.
    let own = settles.then(|| hold.to_string());
    let name = if settles { "settle" } else { "capture" };
    let verb = Verb { name, key: given.clone().or(own), fingerprint: fingerprint(&(name, id, body)) };
    let metadata = (!body.metadata.0.is_empty()).then(|| serde_json::to_string(&body.metadata)).transpose();
    let charge = ChargeRequest {
        id: app.clock.new_id(),
        operation_key: None,
        fingerprint: verb.fingerprint,
        meter: row.record.hold.meter.clone(),
        quantity: body.quantity.0,
        own_amount: None,
        subject: None,
        dimensions: std::collections::BTreeMap::new(),
        occurred_at: body.time.map_or(now, |time| time.0),
        metadata: metadata.unwrap_or_default().map(Arc::from),
    };
    let command = if settles { Command::SettleHold { hold, charge } } else { Command::CaptureHold { hold, charge } };
    let request = verb.request(app, caller, &row, command, now)?;
    execute(app, request, &row.external_id, StatusCode::OK).await
}

/// Capture a part of a hold
///
/// Charges what was used so far and goes on holding the rest.
#[utoipa::path(post, path = "/v1/holds/{hold}/capture", operation_id = "capture_hold", tag = "holds", request_body = HoldUse,
    params(("hold" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = HoldView)))]
pub(in crate::api) async fn capture(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<HoldUse>,
) -> Result<Response, Problem> {
    charge(&app, &caller, &key, &id, &body, false).await
}

/// Settle a hold
///
/// Charges what was used in the end and gives up the rest. Use above the hold is taken from the wallet, and recorded as
/// owed where that is not enough: it has happened. A hold is settled once.
#[utoipa::path(post, path = "/v1/holds/{hold}/settle", operation_id = "settle_hold", tag = "holds", request_body = HoldUse,
    params(("hold" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = HoldView)))]
pub(in crate::api) async fn settle(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<HoldUse>,
) -> Result<Response, Problem> {
    charge(&app, &caller, &key, &id, &body, true).await
}

/// Release a hold
///
/// Gives up what it keeps.
#[utoipa::path(post, path = "/v1/holds/{hold}/release", operation_id = "release_hold", tag = "holds",
    params(("hold" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = HoldView)))]
pub(in crate::api) async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let row = find(&app, &caller, &id).await?;
    let hold = row.record.hold.id;
    let given = key.get().map_or_else(|| hold.to_string(), str::to_owned);
    let verb = Verb { name: "release", key: Some(given), fingerprint: fingerprint(&("release", &id)) };
    let request = verb.request(&app, &caller, &row, Command::ReleaseHold { hold }, caller.now())?;
    execute(&app, request, &row.external_id, StatusCode::OK).await
}
