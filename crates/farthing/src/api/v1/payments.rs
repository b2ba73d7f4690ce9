//! Payments: what was collected, and what was given back of it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::report::{DisputeState, RefundProgress};
use engine::{Command, Effect, Money, PaymentState, PaymentStep, Purpose, Refund};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Name, PositiveNumber, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::api::v1::purchases::{FailureView, await_effect, find, major};
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::Request;
use crate::store::{CustomerKey, PaymentRow};

/// A sum that is collected through the provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payment)]
pub(in crate::api) struct PaymentView {
    /// Its id.
    id: String,
    /// Who pays: your own id of the customer.
    customer: String,
    /// What was bought with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase: Option<String>,
    /// The invoice that it pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<String>,
    /// The subscription whose fee it is, where the provider collects that.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
    /// What it is for, as the customer reads it.
    description: String,
    /// How much.
    amount: String,
    /// In this currency.
    currency: String,
    /// How far it is; see a purchase.
    #[schema(value_type = String, pattern = "^(pending|requires_payment|requires_action|processing|paid|failed|canceled)$")]
    state: PaymentState,
    /// Why the last attempt did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// What the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// What has been given back of it, or is on its way.
    refunded: String,
    /// The refunds, oldest first.
    refunds: Vec<RefundView>,
    /// Its dispute.
    #[serde(skip_serializing_if = "Option::is_none")]
    dispute: Option<DisputeView>,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the money was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    paid_at: Option<Timestamp>,
}

/// A part of a payment that goes back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refund)]
pub(in crate::api) struct RefundView {
    /// Its id.
    id: String,
    /// How much.
    amount: String,
    /// In this currency.
    currency: String,
    /// `pending`, `succeeded` or `failed`.
    #[schema(value_type = String, pattern = "^(pending|succeeded|failed)$")]
    state: RefundProgress,
    /// Why it did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// What was taken back of what was sold: unspent value.
    taken_back: String,
    /// What the customer owes for it, because it was spent already.
    owed: String,
    /// What was spent already and is forgiven.
    forgiven: String,
    /// What these three are in.
    asset: String,
    /// What of it the customer had to its credit, because an invoice was paid twice or was credited.
    #[serde(skip_serializing_if = "Option::is_none")]
    credit: Option<String>,
    /// What of it was tax, where it was paid for an invoice.
    #[serde(skip_serializing_if = "Option::is_none")]
    tax: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// The customer's bank asks for the money back.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dispute)]
pub(in crate::api) struct DisputeView {
    /// How much is disputed.
    amount: String,
    /// `open`, `won` or `lost`; while it is open, what is unspent of the grant cannot be used.
    #[schema(value_type = String, pattern = "^(open|won|lost)$")]
    state: DisputeState,
}

impl PaymentView {
    pub(in crate::api) fn of(row: &PaymentRow) -> Self {
        let payment = &row.payment;
        let currency = &payment.amount.currency;
        let money = |minor| major(&Money { minor, currency: currency.clone() });
        let public = |kind, id| PublicId { kind, shard_key: row.shard_key, id }.to_string();
        Self {
            id: public(Kind::Payment, payment.id),
            customer: row.external_id.clone(),
            purchase: payment.purpose.purchase().map(|_| public(Kind::Purchase, payment.id)),
            invoice: match &payment.purpose {
                Purpose::Invoice(purpose) => Some(public(Kind::Invoice, purpose.invoice)),
                Purpose::Purchase(_) | Purpose::OneTime(_) | Purpose::Subscription(_) => None,
            },
            subscription: match &payment.purpose {
                Purpose::Subscription(fee) => Some(public(Kind::Subscription, fee.subscription)),
                Purpose::Purchase(_) | Purpose::OneTime(_) | Purpose::Invoice(_) => None,
            },
            description: match &payment.purpose {
                Purpose::Purchase(purchase) => purchase.title.to_string(),
                Purpose::OneTime(one_time) => one_time.description.to_string(),
                Purpose::Invoice(_) => "Invoice".to_owned(),
                Purpose::Subscription(_) => "Subscription".to_owned(),
            },
            amount: money(payment.amount.minor),
            currency: currency.to_string(),
            state: payment.state,
            failure: payment.failure.as_ref().map(FailureView::of),
            reference: payment.reference.as_deref().map(str::to_owned),
            refunded: money(payment.refunded()),
            refunds: payment.refunds.iter().map(|refund| RefundView::of(row, refund)).collect(),
            dispute: payment
                .dispute
                .as_ref()
                .map(|dispute| DisputeView { amount: money(dispute.minor), state: dispute.state }),
            created_at: payment.created_at,
            paid_at: payment.paid_at,
        }
    }
}

impl RefundView {
    fn of(row: &PaymentRow, refund: &Refund) -> Self {
        let currency = &row.payment.amount.currency;
        let asset = row.payment.purpose.purchase().map_or(currency, |purchase| &purchase.asset);
        let money = |minor| major(&Money { minor, currency: currency.clone() });
        let some = |minor: i64| (minor != 0).then(|| money(minor));
        Self {
            id: PublicId { kind: Kind::Refund, shard_key: row.shard_key, id: refund.id }.to_string(),
            amount: money(refund.minor),
            currency: currency.to_string(),
            state: refund.progress,
            failure: refund.failure.as_ref().map(FailureView::of),
            taken_back: refund.unspent.to_string(),
            owed: refund.owed.to_string(),
            forgiven: refund.forgiven.to_string(),
            asset: asset.to_string(),
            credit: some(refund.credit),
            tax: some(refund.tax),
            created_at: refund.created_at,
        }
    }
}

/// A payment
#[utoipa::path(get, path = "/v1/payments/{payment}", operation_id = "get_payment", tag = "payments",
    params(("payment" = String, Path, description = "Its id")), responses((status = 200, body = PaymentView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Payment)?).await?;
    Ok(answer(StatusCode::OK, PaymentView::of(&row)))
}

/// A customer's payments
///
/// The newest first.
#[utoipa::path(get, path = "/v1/customers/{customer}/payments", operation_id = "list_payments", tag = "payments",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<PaymentView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let payments = app.store.payments(&scope, (row.customer.shard_key, row.customer.id), page).await?;
    let cursor = |row: &PaymentRow| (row.payment.created_at, row.payment.id);
    Ok(answer(StatusCode::OK, page_of(payments, page.limit, cursor, |row| PaymentView::of(&row))))
}

/// Cancel a payment
///
/// One that is not paid yet: it cannot be paid any more. Where the customer pays at that very moment, the payment counts.
#[utoipa::path(post, path = "/v1/payments/{payment}/cancel", operation_id = "cancel_payment", tag = "payments",
    params(("payment" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = PaymentView)))]
pub(in crate::api) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    caller.require_connection()?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let row = find(&app, &caller, public_id(&id, Kind::Payment)?).await?;
    let step = PaymentStep::Cancel;
    // A payment is cancelled once, so the payment itself is the key.
    let given = key.get().unwrap_or(&id);
    let operation =
        (keyed_id(caller.tenant(), &row.external_id, "payment_cancel", given), fingerprint(&("cancel", &id)));
    let row = take_step(&app, &caller, &row, step, Some(operation)).await?;
    Ok(replayed(answer(StatusCode::OK, PaymentView::of(&row.0)), row.1))
}

/// A part of a payment to be given back.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": "5"}))]
pub(in crate::api) struct NewRefund {
    /// How much, in the payment's currency; all that is left where absent.
    amount: Option<PositiveNumber>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// Refund a payment
///
/// What is unspent of what was bought is taken back before the money goes; what was spent already is owed or forgiven, as
/// the tenant file says.
#[utoipa::path(post, path = "/v1/payments/{payment}/refunds", operation_id = "create_refund", tag = "payments", request_body = NewRefund,
    params(("payment" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = RefundView)))]
pub(in crate::api) async fn refund(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<NewRefund>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    caller.require_connection()?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let row = find(&app, &caller, public_id(&id, Kind::Payment)?).await?;
    let currency = &row.payment.amount.currency;
    let minor = body.amount.map(|amount| Money::exactly(amount.micros(), currency).map(|money| money.minor));
    let minor = minor.transpose().map_err(|_| {
        let detail = format!("the amount has more digits than {currency} has coins for");
        Problem::invalid("invalid_value", detail).at("/amount")
    })?;
    let keyed = |key: String| keyed_id(caller.tenant(), &row.external_id, "refund", &format!("{id} {key}"));
    let operation = operation_key.map(|key| (keyed(key), fingerprint(&body)));
    let refund = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let step = PaymentStep::Refund { id: refund, minor };
    let (row, again) = take_step(&app, &caller, &row, step, operation).await?;
    let made = row.payment.refunds.iter().find(|made| made.id == refund);
    let made = made.ok_or(engine::Refusal::UnknownRefund)?;
    Ok(replayed(answer(StatusCode::CREATED, RefundView::of(&row, made)), again))
}

/// Brings a step to a payment and waits for what comes of it; the payment afterwards, and whether it was done before.
async fn take_step(
    app: &App,
    caller: &Caller,
    row: &PaymentRow,
    step: PaymentStep,
    operation: Option<(uuid::Uuid, i64)>,
) -> Result<(PaymentRow, bool), Problem> {
    let customer = CustomerKey::new(caller.tenant(), &row.external_id);
    let command = Command::StepPayment { payment: row.payment.id, step };
    let request = Request { operation, ..request(app, caller, customer, command, caller.now()) };
    let done = app.service.execute(request).await?;
    let id = row.payment.id;
    let of_it = |effect: &Effect| match effect {
        Effect::CancelPayment { payment } | Effect::CreateRefund { payment, .. } => *payment == id,
        _ => false,
    };
    await_effect(app, row.shard_key, &done, of_it).await?;
    let row = find(app, caller, (row.shard_key, id)).await?;
    Ok((row, done.replayed))
}
