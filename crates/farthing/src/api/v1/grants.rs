//! Grants: value put into a wallet, and taken back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::customer;
use engine::id::{Kind, PublicId, keyed_id};
use engine::{Command, GrantKind, GrantRecord, GrantRequest, Micros, wallet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, List, Name, PositiveNumber, Words, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, NamedOf, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::api::v1::charges::request;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Request, ServiceError};
use crate::store::GrantRow;

/// Where a grant's value comes from.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = GrantKind)]
pub(in crate::api) enum KindBody {
    /// Free for everyone, or included.
    Allowance,
    /// Given away.
    Promotional,
    /// Bought; pays the customer's debt first.
    Paid,
    /// Given back.
    Refund,
}

/// Value to be granted.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": "25", "kind": "paid", "reason": "card payment"}))]
pub(in crate::api) struct NewGrant {
    /// How much.
    amount: PositiveNumber,
    /// A currency, or a meter's unit; the tenant's currency where absent.
    asset: Option<Name>,
    /// Where it comes from. Allowances are used first, then promotional grants, then paid ones and refunds.
    kind: KindBody,
    /// Lower is used first within its kind; 100 where absent.
    #[schema(minimum = 0, maximum = 1000)]
    priority: Option<i16>,
    /// When what is left lapses; never where absent.
    expires_at: Option<Time>,
    /// The meters that it covers; all where absent.
    #[schema(value_type = Option<Vec<Name>>, min_items = 1, max_items = 100)]
    meters: Option<List<Name, 100>>,
    /// Why.
    reason: Option<Words>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Grant)]
pub(in crate::api) struct GrantView {
    /// Its id.
    id: String,
    /// What it is in.
    asset: String,
    /// Where it comes from.
    #[schema(value_type = String, pattern = "^(allowance|promotional|paid|refund)$")]
    kind: GrantKind,
    /// How much was granted.
    amount: String,
    /// What is left of it and free; absent in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    /// What open holds keep of it; absent in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    /// `open`, `spent`, `expired` or `voided`; absent in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// Lower is used first within its kind.
    priority: i16,
    /// When what is left lapses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The meters that it covers; none means all.
    #[schema(value_type = Vec<String>)]
    meters: Vec<Arc<str>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The ledger position that made it.
    position: i64,
}

impl GrantView {
    fn made(grant: &GrantRecord, shard_key: i32) -> Self {
        Self {
            id: PublicId { kind: Kind::Grant, shard_key, id: grant.id }.to_string(),
            asset: grant.asset.to_string(),
            kind: grant.kind,
            amount: grant.amount.to_string(),
            available: None,
            held: None,
            state: None,
            priority: grant.priority,
            expires_at: grant.expires_at,
            meters: grant.meters.clone(),
            reason: grant.reason.clone(),
            created_at: grant.created_at,
            position: grant.position,
        }
    }

    /// As it stands by what the customer's row says, and by what is left of that now that some of it may have lapsed.
    fn standing(row: &GrantRow, kept: &customer::State, now: &customer::State, shard_key: i32) -> Self {
        let find = |state: &customer::State| state.grants.iter().find(|grant| grant.id == row.grant.id).cloned();
        let left = find(now);
        let state = match &row.ended {
            Some(ended) => ended,
            None if left.is_some() => "open",
            None if find(kept).is_some() => "expired",
            None => "spent",
        };
        Self {
            available: Some(left.as_ref().map_or(Micros::ZERO, |grant| grant.remaining).to_string()),
            held: Some(left.as_ref().map_or(Micros::ZERO, |grant| grant.held).to_string()),
            state: Some(state.to_owned()),
            ..Self::made(&row.grant, shard_key)
        }
    }
}

/// Grant value
#[utoipa::path(post, path = "/v1/customers/{customer}/grants", operation_id = "create_grant", tag = "grants", request_body = NewGrant,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = GrantView)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewGrant>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let customer = caller.customer(&customer)?;
    let priority = body.priority.unwrap_or(100);
    if !(0..=1000).contains(&priority) {
        return Err(Problem::invalid("invalid_value", "`priority` is 0 to 1000").at("/priority"));
    }
    let operation =
        operation_key.map(|key| (keyed_id(&customer.tenant, &customer.external_id, "grant", &key), fingerprint(&body)));
    let command = Command::Grant(GrantRequest {
        id: operation.map_or_else(|| app.clock.new_id(), |(id, _)| id),
        asset: body.asset.as_ref().map_or_else(|| caller.catalog().currency.to_string(), ToString::to_string),
        amount: body.amount.micros(),
        kind: match body.kind {
            KindBody::Allowance => GrantKind::Allowance,
            KindBody::Promotional => GrantKind::Promotional,
            KindBody::Paid => GrantKind::Paid,
            KindBody::Refund => GrantKind::Refund,
        },
        priority,
        expires_at: body.expires_at.map(|time| time.0),
        meters: body.meters.iter().flat_map(|meters| &meters.0).map(|meter| Arc::from(meter.as_str())).collect(),
        reason: body.reason.map(Words::into_string),
    });
    let shard_key = customer.shard_key;
    let request = Request { operation, ..request(&app, &caller, customer, command, caller.now()) };
    let done = app.service.execute(request).await.map_err(refused)?;
    let grant = done.grants.first().ok_or(ServiceError::Unavailable)?;
    Ok(replayed(answer(StatusCode::CREATED, GrantView::made(grant, shard_key)), done.replayed))
}

/// The meters of a grant are a list of their own, and its customer stands in the path.
fn refused(error: ServiceError) -> Problem {
    let problem = Problem::from(error);
    match problem.code() {
        "unknown_meter" => problem.at("/meters"),
        "unknown_customer" => problem.at("customer"),
        _ => problem,
    }
}

/// A customer's grants
///
/// The newest first.
#[utoipa::path(get, path = "/v1/customers/{customer}/grants", operation_id = "list_grants", tag = "grants",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<GrantView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let shard_key = row.customer.shard_key;
    let grants = app.store.grants(&scope, (shard_key, row.customer.id), page).await?;
    let now = wallet::at(caller.catalog(), &row.customer, caller.now())?;
    let view = |grant: GrantRow| GrantView::standing(&grant, &row.customer.state, &now, shard_key);
    Ok(answer(StatusCode::OK, page_of(grants, page.limit, |row| (row.grant.position, row.grant.id), view)))
}

/// A grant that was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct VoidedGrant {
    /// Its id.
    id: String,
    /// `voided`.
    state: String,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// Take back a grant
///
/// What is left of it leaves the wallet; what open holds keep of it lapses when they end.
#[utoipa::path(post, path = "/v1/customers/{customer}/grants/{grant}/void", operation_id = "void_grant", tag = "grants",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("grant" = String, Path, description = "Its id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = VoidedGrant)))]
pub(in crate::api) async fn void(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    NamedOf(customer, id): NamedOf,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let customer = caller.customer(&customer)?;
    let (_, grant) = public_id(&id, Kind::Grant)?;
    // A grant is taken back once, so the grant itself is the key.
    let given = key.get().map_or_else(|| grant.to_string(), str::to_owned);
    let operation =
        (keyed_id(&customer.tenant, &customer.external_id, "grant_void", &given), fingerprint(&("void", &id)));
    let request = request(&app, &caller, customer, Command::VoidGrant { grant }, caller.now());
    let done = app.service.execute(Request { operation: Some(operation), ..request }).await.map_err(refused)?;
    let view = VoidedGrant { id, state: "voided".to_owned(), as_of: done.as_of };
    Ok(replayed(answer(StatusCode::OK, view), done.replayed))
}
