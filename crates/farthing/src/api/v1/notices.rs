//! Notices: what a tenant may want to tell its customers, in one order, to be read from where one has come to.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId};
use engine::{Notice, SubscriptionState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters};
use crate::api::problem::Problem;
use crate::app::App;
use crate::auth::Scope;
use crate::store::{NoticeOrder, NoticeRow};

/// Something that the tenant may want to tell the customer, or do something about.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Notice)]
pub(in crate::api) struct NoticeView {
    /// Its id; the same event has one notice.
    id: String,
    /// Its number among all of the tenant's, from 1 on, without gaps.
    number: i64,
    /// Your own id of the customer.
    customer: String,
    /// What happened.
    #[schema(
        pattern = "^(low_balance|purchase_(paid|payment_failed)|limit_threshold|spending_threshold|subscription_(started|changed|past_due|ended)|trial_ending|invoice_(opened|paid|payment_failed|voided|uncollectible))$"
    )]
    kind: &'static str,
    /// When it came to be so.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// The subscription that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
    /// How the subscription stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    state: Option<SubscriptionState>,
    /// When the trial ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    trial_end: Option<Timestamp>,
    /// The invoice that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<String>,
    /// How often collecting the invoice was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u16>,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The payment that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<String>,
    /// Why the payment did not work, as the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The asset of which little is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<String>,
    /// How much of it is left; below zero what is owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
    /// The limit that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    /// How much of the limit was reached, in percent: 50, 80 or 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
}

impl NoticeView {
    fn of(row: &NoticeRow) -> Self {
        let public = |kind, id| PublicId { kind, shard_key: row.shard_key, id }.to_string();
        let view = Self {
            id: public(Kind::Notice, row.record.id),
            number: row.number,
            customer: row.external_id.clone(),
            kind: row.record.notice.kind(),
            created_at: row.record.created_at,
            ..Self::default()
        };
        let subscription = |id: &uuid::Uuid| Some(public(Kind::Subscription, *id));
        let invoice = |id: &uuid::Uuid| Some(public(Kind::Invoice, *id));
        let payment = |id: &uuid::Uuid| Some(public(Kind::Payment, *id));
        match &row.record.notice {
            Notice::Limit { limit, percent } => {
                Self { limit: Some(limit.to_string()), percent: Some(*percent), ..view }
            }
            Notice::LowBalance { asset, left } => {
                Self { asset: Some(asset.to_string()), left: Some(left.to_string()), ..view }
            }
            Notice::PurchasePaid { payment: id } => Self { payment: payment(id), ..view },
            Notice::PurchasePaymentFailed { payment: id, code } => {
                Self { payment: payment(id), code: Some(code.to_string()), ..view }
            }
            Notice::Spending { percent } => Self { percent: Some(*percent), ..view },
            Notice::SubscriptionStarted { subscription: id } | Notice::SubscriptionPastDue { subscription: id } => {
                Self { subscription: subscription(id), ..view }
            }
            Notice::SubscriptionChanged { subscription: id, state }
            | Notice::SubscriptionEnded { subscription: id, state } => {
                Self { subscription: subscription(id), state: Some(*state), ..view }
            }
            Notice::TrialEnding { subscription: id, trial_end } => {
                Self { subscription: subscription(id), trial_end: Some(*trial_end), ..view }
            }
            Notice::InvoiceOpened { invoice: id }
            | Notice::InvoicePaid { invoice: id }
            | Notice::InvoiceVoided { invoice: id }
            | Notice::InvoiceUncollectible { invoice: id } => Self { invoice: invoice(id), ..view },
            Notice::InvoicePaymentFailed { invoice: id, attempts, next_attempt_at } => {
                Self { invoice: invoice(id), attempts: Some(*attempts), next_attempt_at: *next_attempt_at, ..view }
            }
        }
    }
}

/// A customer's notices
///
/// The newest first.
#[utoipa::path(get, path = "/v1/customers/{customer}/notices", operation_id = "list_customer_notices", tag = "notices",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<NoticeView>)))]
pub(in crate::api) async fn list_of_customer(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let found = app.store.notices_of_customer(&scope, (row.customer.shard_key, row.customer.id), page).await?;
    Ok(answer(StatusCode::OK, page_of(found, page.limit, |row| row.number, |row| NoticeView::of(&row))))
}

/// Which notices.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NoticeQuery {
    /// Those after this number, as they came; 0 for all. Without it the newest come first.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// `next_cursor` of the page before, where the newest come first.
    cursor: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// All notices
///
/// To follow them, ask for those `after` the highest `number` that you have dealt with: none is missed, since a number can
/// be seen only when all below it can.
#[utoipa::path(get, path = "/v1/notices", operation_id = "list_notices", tag = "notices", params(NoticeQuery),
    responses((status = 200, body = PageOf<NoticeView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<NoticeQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?.require_all_customers()?;
    let mut page = page(query.cursor.as_deref(), query.limit)?;
    let Some(after) = query.after else {
        let found = app.store.notices_of_tenant(&caller.scope(), NoticeOrder::NewestFirst, page).await?;
        return Ok(answer(StatusCode::OK, page_of(found, page.limit, |row| row.number, |row| NoticeView::of(&row))));
    };
    if after < 0 || page.after.is_some() {
        let detail = "`after` is a number from 0 on, and excludes `cursor`";
        return Err(Problem::invalid("invalid_parameter", detail).at("after"));
    }
    page.after = Some(after);
    let found = app.store.notices_of_tenant(&caller.scope(), NoticeOrder::AsTheyCame, page).await?;
    let data = found.iter().map(NoticeView::of).collect();
    Ok(answer(StatusCode::OK, PageOf { data, next_cursor: None }))
}
