//! Charges: refused when not covered, durable when answered; one, or many in one request.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId};
use engine::{Charge, ChargeRequest, Command};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::body::{Body, Labels, List, Name, Number, Object, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, Kept, LIST, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request, ServiceError};
use crate::store::{ChargeRow, CustomerKey};

/// A use to be charged.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer": "acme", "meter": "context_tokens", "quantity": 4808, "dimensions": {"model": "large"}}))]
pub(in crate::api) struct NewCharge {
    /// Who pays: your own id of the customer.
    customer: Name,
    /// What is counted.
    meter: Name,
    /// How much.
    quantity: Number,
    /// What it costs, where it has a price of its own: in what the tenant file prices the meter in. Grants in the meter's unit
    /// still come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Number>,
    /// Who under the customer used it.
    subject: Option<Name>,
    /// What it was, such as the model: chooses the price.
    #[serde(default)]
    dimensions: Labels,
    /// When it was used; now where absent.
    time: Option<Time>,
    /// Your own words about it, kept as they are.
    #[serde(default)]
    metadata: Labels,
    /// Your key for this operation; the same key charges once. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

impl NewCharge {
    /// The command to make it, and the customer it is for.
    fn request(&self, app: &App, caller: &Caller, key: Option<String>) -> Result<Request, Problem> {
        let customer = caller.customer(self.customer.as_str())?;
        let now = caller.now();
        let id = match &key {
            Some(key) => engine::id::keyed_id(&customer.tenant, &customer.external_id, "charge", key),
            None => app.clock.new_id(),
        };
        let metadata = (!self.metadata.0.is_empty()).then(|| serde_json::to_string(&self.metadata)).transpose();
        let charge = ChargeRequest {
            id,
            operation_key: key.map(Arc::from),
            fingerprint: fingerprint(self),
            meter: Arc::from(self.meter.as_str()),
            quantity: self.quantity.0,
            own_amount: self.amount.map(|amount| amount.0),
            subject: self.subject.as_ref().map(|subject| Arc::from(subject.as_str())),
            dimensions: self.dimensions.0.clone(),
            occurred_at: self.time.map_or(now, |time| time.0),
            metadata: metadata.unwrap_or_default().map(Arc::from),
        };
        Ok(request(app, caller, customer, Command::Charge(vec![charge]), now))
    }
}

/// A command of a caller for one of its customers.
pub(in crate::api) fn request(
    app: &App,
    caller: &Caller,
    key: CustomerKey,
    command: Command,
    now: jiff::Timestamp,
) -> Request {
    Request {
        catalog: caller.catalog().clone(),
        key,
        command,
        operation: None,
        settles: None,
        new_customer: app.clock.new_id(),
        now,
    }
}

/// A part of a charge that a grant covered.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Cover)]
pub(in crate::api) struct CoverView {
    /// The grant.
    grant: String,
    /// The currency, or the meter's own unit.
    asset: String,
    /// How much of it.
    amount: String,
}

impl CoverView {
    pub(in crate::api) fn of(cover: &engine::Cover, shard_key: i32) -> Self {
        Self {
            grant: PublicId { kind: Kind::Grant, shard_key, id: cover.grant }.to_string(),
            asset: cover.asset.to_string(),
            amount: cover.amount.to_string(),
        }
    }
}

/// A priced use that was debited, or recorded as owed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Charge)]
pub(in crate::api) struct ChargeView {
    /// Its id.
    id: String,
    /// Who pays.
    customer: String,
    /// How it came in.
    #[schema(value_type = String, pattern = "^(charge|event|hold|recurring)$")]
    source: engine::Source,
    /// The hold it was taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    /// What was counted.
    #[schema(value_type = String)]
    meter: Arc<str>,
    /// How much.
    quantity: String,
    /// Who under the customer used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    subject: Option<Arc<str>>,
    /// What it was.
    dimensions: std::collections::BTreeMap<String, String>,
    /// What it was priced in.
    asset: String,
    /// What it cost; below zero where a volume price got cheaper and gives back.
    amount: String,
    /// How much of the amount is owed.
    owed: String,
    /// How much of the amount was included in the plan; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    included: Option<String>,
    /// What covered it.
    covered_by: Vec<CoverView>,
    /// What was available in `asset` after it.
    balance_after: String,
    /// The version of its price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    price: Option<Arc<str>>,
    /// When it was used.
    #[schema(value_type = String, format = DateTime)]
    time: jiff::Timestamp,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: jiff::Timestamp,
    /// Your key for this operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    operation_key: Option<Arc<str>>,
    /// Your own words about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    metadata: Option<Box<RawValue>>,
    /// The ledger position that this is true at.
    as_of: i64,
}

impl ChargeView {
    pub(in crate::api) fn of(charge: &Charge, customer: &str, shard_key: i32) -> Self {
        let public = |kind, id| PublicId { kind, shard_key, id }.to_string();
        Self {
            id: public(Kind::Charge, charge.id),
            customer: customer.to_owned(),
            source: charge.source,
            hold: charge.hold.map(|id| public(Kind::Hold, id)),
            meter: charge.meter.clone(),
            quantity: charge.quantity.to_string(),
            subject: charge.subject.clone(),
            dimensions: charge.dimensions.clone(),
            asset: charge.asset.to_string(),
            amount: charge.amount.to_string(),
            owed: charge.owed.to_string(),
            included: Some(charge.included())
                .filter(|included| !included.is_zero())
                .map(|included| included.to_string()),
            covered_by: charge.covered_by.iter().map(|cover| CoverView::of(cover, shard_key)).collect(),
            balance_after: charge.balance_after.to_string(),
            price: charge.price.clone(),
            time: charge.occurred_at,
            recorded_at: charge.recorded_at,
            operation_key: charge.operation_key.clone(),
            metadata: charge.metadata.as_ref().and_then(|text| RawValue::from_string(text.to_string()).ok()),
            as_of: charge.position,
        }
    }

    pub(in crate::api) fn of_row(row: &ChargeRow) -> Self {
        Self::of(&row.charge, &row.external_id, row.shard_key)
    }
}

/// Charge a use
///
/// Priced, debited and written to the ledger before the answer. Refused with 402 and a reason where it is not covered;
/// a refusal changes nothing and does not use up the key.
#[utoipa::path(post, path = "/v1/charges", operation_id = "create_charge", tag = "charges", request_body = NewCharge,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = ChargeView), (status = 402, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<NewCharge>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, body.customer.as_str())?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let request = body.request(&app, &caller, operation_key)?;
    let shard_key = request.key.shard_key;
    let outcome = app.service.execute(request).await;
    count(&outcome);
    let done = outcome?;
    let charge = done.charge().ok_or(ServiceError::Unavailable)?;
    let view = ChargeView::of(charge, body.customer.as_str(), shard_key);
    Ok(replayed(answer(StatusCode::CREATED, view), done.replayed))
}

fn count(outcome: &Result<Answer, ServiceError>) {
    let outcome = match outcome {
        Ok(done) if done.replayed => "replayed",
        Ok(_) => "charged",
        Err(ServiceError::Refused(refusal)) => refusal.code(),
        Err(_) => "failed",
    };
    metrics::counter!("farthing_charges_total", "outcome" => outcome).increment(1);
}

/// Uses to be charged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"charges": [{"customer": "acme", "meter": "context_tokens", "quantity": 4808}, {"customer": "acme", "meter": "generated_tokens", "quantity": 10}], "atomic": true}))]
pub(in crate::api) struct NewCharges {
    /// Each is done or refused on its own, in this order for each customer.
    #[schema(value_type = Vec<NewCharge>, min_items = 1, max_items = 1000)]
    charges: List<Object<NewCharge>, 1000>,
    /// All or none: they have to be one customer's, and are refused together with 402 where one is not covered.
    #[serde(default)]
    atomic: bool,
}

/// What became of one charge of many.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(in crate::api) struct ChargeResult {
    /// The status that it would have had on its own.
    status: u16,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// What it was priced in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asset: Option<String>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// How much of it is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<String>,
    /// The ledger position that this is true at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    as_of: Option<i64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Problem>)]
    problem: Option<serde_json::Value>,
}

/// What became of many charges, in the order sent.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(in crate::api) struct ChargeResults {
    /// One for each.
    results: Vec<ChargeResult>,
}

impl ChargeResult {
    fn made(charge: &Charge, shard_key: i32) -> Self {
        Self {
            status: StatusCode::CREATED.as_u16(),
            id: Some(PublicId { kind: Kind::Charge, shard_key, id: charge.id }.to_string()),
            asset: Some(charge.asset.to_string()),
            amount: Some(charge.amount.to_string()),
            owed: Some(charge.owed.to_string()),
            as_of: Some(charge.position),
            problem: None,
        }
    }

    fn refused(problem: Problem, index: usize) -> Self {
        let problem = problem.below(&format!("/charges/{index}"));
        Self {
            status: problem.status().as_u16(),
            id: None,
            asset: None,
            amount: None,
            owed: None,
            as_of: None,
            problem: serde_json::to_value(&problem).ok(),
        }
    }
}

/// Charge many uses
///
/// Up to 1,000, each done or refused on its own and answered with its own status; or all or none, for one customer.
#[utoipa::path(post, path = "/v1/charges/batch", operation_id = "create_charges", tag = "charges", request_body = NewCharges,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this request")),
    responses((status = 200, body = ChargeResults), (status = 402, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn create_batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Body(body): Body<NewCharges>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, LIST)?;
    let asked = fingerprint(&(&body.charges.0, body.atomic));
    let kept = key.get().map(|key| Kept::of_list(caller.tenant(), "charges/batch", key, asked));
    if let Some(kept) = &kept
        && let Some((_, results)) = kept.find::<ChargeResults>(&app).await?
    {
        return Ok(replayed(answer(StatusCode::OK, results), true));
    }
    let mut requests = Vec::with_capacity(body.charges.0.len());
    for (index, Object(charge)) in body.charges.0.iter().enumerate() {
        let own = charge.operation_key.as_ref().map(|key| key.as_str().to_owned());
        let operation_key = own.or_else(|| key.get().map(|key| format!("{key}/{index}")));
        let request = charge.request(&app, &caller, operation_key);
        requests.push(request.map_err(|problem| problem.below(&format!("/charges/{index}")))?);
    }
    let results = if body.atomic { together(&app, requests).await? } else { one_by_one(&app, requests).await };
    let results = ChargeResults { results };
    // Where it is unknown whether a part was done, asking again has to find out.
    let certain = results.results.iter().all(|result| result.status < 500);
    if let Some(kept) = kept.filter(|_| certain) {
        kept.keep(&app, None, StatusCode::OK, &results).await?;
    }
    Ok(answer(StatusCode::OK, results))
}

async fn one_by_one(app: &App, requests: Vec<Request>) -> Vec<ChargeResult> {
    let shard_keys: Vec<i32> = requests.iter().map(|request| request.key.shard_key).collect();
    let outcomes = join_all(requests.into_iter().map(|request| app.service.execute(request))).await;
    let mut results = Vec::with_capacity(outcomes.len());
    for (index, (outcome, shard_key)) in outcomes.into_iter().zip(shard_keys).enumerate() {
        count(&outcome);
        results.push(match outcome.map(|done| done.charges) {
            Ok(charges) => match charges.first() {
                Some(charge) => ChargeResult::made(charge, shard_key),
                None => ChargeResult::refused(ServiceError::Unavailable.into(), index),
            },
            Err(error) => ChargeResult::refused(error.into(), index),
        });
    }
    results
}

async fn together(app: &App, requests: Vec<Request>) -> Result<Vec<ChargeResult>, Problem> {
    let mut charges = Vec::with_capacity(requests.len());
    let mut first: Option<Request> = None;
    for (index, request) in requests.into_iter().enumerate() {
        if let Command::Charge(one) = &request.command {
            charges.extend(one.iter().cloned());
        }
        match &first {
            None => first = Some(request),
            Some(first) if first.key != request.key => {
                let detail = "charges that are done all or none have to be one customer's";
                return Err(
                    Problem::invalid("atomic_across_customers", detail).at(format!("/charges/{index}/customer"))
                );
            }
            Some(_) => {}
        }
    }
    let request = first.map(|first| Request { command: Command::Charge(charges), ..first });
    let request = request.ok_or_else(|| Problem::invalid("invalid_value", "expected at least one charge"))?;
    let shard_key = request.key.shard_key;
    let outcome = app.service.execute(request).await;
    count(&outcome);
    Ok(outcome?.charges.iter().map(|charge| ChargeResult::made(charge, shard_key)).collect())
}

/// A charge
#[utoipa::path(get, path = "/v1/charges/{charge}", operation_id = "get_charge", tag = "charges", params(("charge" = String, Path, description = "Its id")),
    responses((status = 200, body = ChargeView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    let row = find(&app, &caller, &id).await?;
    Ok(answer(StatusCode::OK, ChargeView::of_row(&row)))
}

/// A charge that the caller may see.
pub(in crate::api) async fn find(app: &App, caller: &Caller, id: &str) -> Result<ChargeRow, Problem> {
    caller.require(Scope::Read)?;
    let found = app.store.charge(&caller.scope(), public_id(id, Kind::Charge)?).await?;
    let found = found.filter(|row| caller.may_see(&row.external_id));
    found.ok_or_else(|| Problem::not_found("unknown_charge", "there is no charge with this id"))
}

/// A customer's charges
///
/// The newest use first.
#[utoipa::path(get, path = "/v1/customers/{customer}/charges", operation_id = "list_charges", tag = "charges",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<ChargeView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let charges = app.store.charges(&scope, (row.customer.shard_key, row.customer.id), page).await?;
    let cursor = |row: &ChargeRow| (row.charge.occurred_at, row.charge.id);
    Ok(answer(StatusCode::OK, page_of(charges, page.limit, cursor, |row| ChargeView::of_row(&row))))
}
