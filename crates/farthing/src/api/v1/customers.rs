//! Customers: created and changed by the caller's own id, and forgotten on request while the books stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::ERASED_PREFIX;
use engine::{Command, CustomerChange, Overage, OveragePolicy, Profile, Status};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Labels, List, Name, Number, Object, nullable};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, Kept, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::store::CustomerRow;

/// Whether a customer may use what is sold.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CustomerStatus)]
pub(in crate::api) enum StatusBody {
    /// It may.
    Active,
    /// Not for now.
    Suspended,
    /// Not any more.
    Closed,
}

/// What happens when credit runs out.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OveragePolicy)]
pub(in crate::api) enum PolicyBody {
    /// A charge is refused.
    Refuse,
    /// It is recorded as owed, up to the limit.
    Owe,
    /// It is refused with the amount to pay first.
    Ask,
    /// It is given with the plan, within the spending limit, and nothing is owed.
    Included,
}

/// An overage policy.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewOverage)]
pub(in crate::api) struct OverageBody {
    /// What happens.
    policy: PolicyBody,
    /// How much may be owed in each asset; any amount where absent.
    limit: Option<Number>,
}

/// Who a customer is.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProfile)]
pub(in crate::api) struct ProfileBody {
    /// A name for people.
    name: Option<Name>,
    /// An e-mail address.
    email: Option<Name>,
    /// The lines of a postal address, for invoices.
    #[schema(value_type = Option<Vec<Name>>, min_items = 1, max_items = 8)]
    address: Option<List<Name, 8>>,
    /// What the tax office knows it by, for invoices.
    tax_id: Option<Name>,
    /// Your own notes.
    #[serde(default)]
    metadata: Labels,
}

/// What to change of a customer; what is absent stays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CustomerChange)]
#[schema(example = json!({"profile": {"name": "Acme Ltd", "email": "billing@acme.example"}}))]
pub(in crate::api) struct CustomerBody {
    /// Whether it may use what is sold.
    status: Option<StatusBody>,
    /// Who it is, replaced as a whole.
    #[schema(value_type = Option<ProfileBody>)]
    profile: Option<Object<ProfileBody>>,
    /// Whether a payment method is on file.
    payment_method: Option<bool>,
    /// Its own overage policy; `null` returns to the tenant's.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<OverageBody>)]
    overage: Option<Option<Object<OverageBody>>>,
}

/// Who a customer is, as it stands.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Profile)]
pub(in crate::api) struct ProfileView {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// An e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// The lines of its postal address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    address: Vec<String>,
    /// What the tax office knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_id: Option<String>,
    /// Your own notes.
    metadata: BTreeMap<String, String>,
}

/// An overage policy, as it stands.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Overage)]
pub(in crate::api) struct OverageView {
    /// `refuse`, `owe` or `ask`.
    #[schema(value_type = String, pattern = "^(refuse|owe|ask|included)$")]
    policy: OveragePolicy,
    /// How much may be owed in each asset; any amount where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
}

impl From<Overage> for OverageView {
    fn from(overage: Overage) -> Self {
        Self { policy: overage.policy, limit: overage.limit.map(|limit| limit.to_string()) }
    }
}

/// A customer.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Customer)]
pub(in crate::api) struct CustomerView {
    /// Your own id of it.
    id: String,
    /// `active`, `suspended` or `closed`.
    #[schema(value_type = String, pattern = "^(active|suspended|closed)$")]
    status: Status,
    /// Who it is.
    profile: ProfileView,
    /// Whether a payment method is on file.
    payment_method: bool,
    /// Its own overage policy; the tenant's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<OverageView>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The ledger position that this is true at.
    as_of: i64,
}

impl CustomerView {
    fn of(row: CustomerRow) -> Self {
        let state = row.customer.state;
        Self {
            id: row.external_id,
            status: row.customer.status,
            profile: ProfileView {
                name: row.profile.name,
                email: row.profile.email,
                address: row.profile.address,
                tax_id: row.profile.tax_id,
                metadata: row.profile.metadata,
            },
            payment_method: state.has_payment_method(),
            overage: state.overage.map(OverageView::from),
            created_at: row.created_at,
            as_of: row.customer.position,
        }
    }
}

impl CustomerBody {
    fn change(self) -> CustomerChange {
        let overage = |Object(body): Object<OverageBody>| Overage {
            policy: match body.policy {
                PolicyBody::Refuse => OveragePolicy::Refuse,
                PolicyBody::Owe => OveragePolicy::Owe,
                PolicyBody::Ask => OveragePolicy::Ask,
                PolicyBody::Included => OveragePolicy::Included,
            },
            limit: body.limit.map(|limit| limit.0),
        };
        CustomerChange {
            status: self.status.map(|status| match status {
                StatusBody::Active => Status::Active,
                StatusBody::Suspended => Status::Suspended,
                StatusBody::Closed => Status::Closed,
            }),
            payment_method: self.payment_method,
            overage: self.overage.map(|own| own.map(overage)),
            profile: self.profile.map(|Object(profile)| Profile {
                name: profile.name.map(Name::into_string),
                email: profile.email.map(Name::into_string),
                address: profile
                    .address
                    .map_or_else(Vec::new, |List(lines)| lines.into_iter().map(Name::into_string).collect()),
                tax_id: profile.tax_id.map(Name::into_string),
                metadata: profile.metadata.0,
            }),
            opening_grants: Vec::new(),
            known_before: false,
        }
    }
}

/// Create or change a customer
///
/// Answers 201 where it was created, with the grants that the tenant file gives to new customers.
#[utoipa::path(put, path = "/v1/customers/{customer}", operation_id = "put_customer", tag = "customers", request_body = CustomerBody,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this request")),
    responses((status = 200, body = CustomerView), (status = 201, body = CustomerView)))]
pub(in crate::api) async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<CustomerBody>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    if id.starts_with(ERASED_PREFIX) {
        let detail = format!("ids that begin with `{ERASED_PREFIX}` are those of erased customers");
        return Err(Problem::invalid("invalid_parameter", detail).at("customer"));
    }
    let _under_way = key.enter(&app, &caller, &id)?;
    let customer = caller.customer(&id)?;
    let kept = key.get().map(|key| Kept::of_customer(&customer, "customers/put", key, fingerprint(&body)));
    if let Some(kept) = &kept
        && let Some((status, view)) = kept.find::<CustomerView>(&app).await?
    {
        return Ok(replayed(answer(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), view), true));
    }
    let command = Command::Upsert(body.change());
    let done = app.service.execute(request(&app, &caller, customer, command, caller.now())).await?;
    let (row, _) = caller.find(&app, &id).await?;
    let row_id = row.customer.id;
    if done.created {
        tracing::info!(event = "customer_created", tenant = %caller.tenant(), customer_id = %row_id);
    }
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    let view = CustomerView::of(row);
    if let Some(kept) = &kept {
        kept.keep(&app, Some(row_id), status, &view).await?;
    }
    Ok(answer(status, view))
}

/// A customer
#[utoipa::path(get, path = "/v1/customers/{customer}", operation_id = "get_customer", tag = "customers",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = CustomerView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &id).await?;
    Ok(answer(StatusCode::OK, CustomerView::of(row)))
}

/// All customers
///
/// In the order of their creation.
#[utoipa::path(get, path = "/v1/customers", operation_id = "list_customers", tag = "customers", params(PageQuery), responses((status = 200, body = PageOf<CustomerView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?.require_all_customers()?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let rows = app.store.customers(&caller.scope(), page).await?;
    Ok(answer(StatusCode::OK, page_of(rows, page.limit, |row| row.customer.id, CustomerView::of)))
}

/// A customer that was forgotten.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(in crate::api) struct ErasedCustomer {
    /// The id that takes the place of its own; its books are found under it.
    id: String,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// Erase a customer's personal data
///
/// Its id, profile, subjects, keys and notes are removed and it is closed; charges, grants and the ledger stay, under an
/// id that says nothing. It cannot be undone, and needs an admin key.
#[utoipa::path(post, path = "/v1/customers/{customer}/erase", operation_id = "erase_customer", tag = "customers",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this request")),
    responses((status = 200, body = ErasedCustomer)))]
pub(in crate::api) async fn erase(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Admin)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let customer = caller.customer(&id)?;
    let kept = key.get().map(|key| Kept::of_customer(&customer, "customers/erase", key, fingerprint(&"erase")));
    if let Some(kept) = &kept
        && let Some((_, erased)) = kept.find::<ErasedCustomer>(&app).await?
    {
        return Ok(replayed(answer(StatusCode::OK, erased), true));
    }
    let (row, _) = caller.find(&app, &id).await?;
    let done = app.service.execute(request(&app, &caller, customer, Command::Erase, caller.now())).await?;
    tracing::info!(event = "customer_erased", tenant = %caller.tenant(), customer_id = %row.customer.id);
    let id = engine::id::erased_customer_id(row.customer.shard_key, row.customer.id);
    let erased = ErasedCustomer { id, as_of: done.as_of };
    if let Some(kept) = &kept {
        kept.keep(&app, None, StatusCode::OK, &erased).await?;
    }
    Ok(answer(StatusCode::OK, erased))
}
