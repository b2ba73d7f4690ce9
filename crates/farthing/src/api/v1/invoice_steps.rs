//! What is done with an invoice: it is paid, taken back, given up, or reduced.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, keyed_id};
use engine::{Command, Effect, Invoice, InvoiceStep, Money, PaymentState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::body::{Body, Name, PositiveNumber, Words, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::{Named, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::api::v1::invoices::{InvoiceView, find, view};
use crate::api::v1::payments::PaymentView;
use crate::api::v1::purchases::{self, Collect, await_effect};
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request};
use crate::store::{BillingRow, CustomerKey};

/// How an invoice is to be paid.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"collect": {"by": "on_file"}}))]
pub(in crate::api) struct NewInvoicePayment {
    /// Where the customer pays: in your own page with `client_secret` where absent, otherwise on a page of the provider's
    /// or with a card on file.
    #[serde(default)]
    collect: Collect,
    /// Your key for this operation; the same key pays once. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// A payment for an invoice, and what the customer needs to make it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoicePaymentBegun)]
pub(in crate::api) struct InvoicePaymentView {
    /// The invoice, as it stands.
    invoice: InvoiceView,
    /// The payment.
    payment: PaymentView,
    /// For the provider's script, where the customer pays in your page.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// Goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    publishable_key: Option<String>,
    /// The provider's page where it can be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
}

/// Pay an invoice
///
/// What is left of it, as a purchase is paid; a customer's own token may do it too. A payment that was under way before is
/// ended, so that only one comes true. Where the provider does not answer in time, the payment is `pending` and the status 202.
#[utoipa::path(post, path = "/v1/invoices/{invoice}/pay", operation_id = "pay_invoice", tag = "invoices", request_body = NewInvoicePayment,
    params(("invoice" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = InvoicePaymentView), (status = 202, body = InvoicePaymentView, description = "Recorded; the provider has not answered yet")))]
pub(in crate::api) async fn pay(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<NewInvoicePayment>,
) -> Result<Response, Problem> {
    caller.require_own(Scope::Write)?;
    caller.require_connection()?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    let operation = operation(&caller, &row, "pay", operation_key, fingerprint(&(&id, &body)));
    let payment = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let step = InvoiceStep::Pay { payment, collection: body.collect.request() };
    let done = take_step(&app, &caller, &row, step, operation).await?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment: made } if *made == payment);
    await_effect(&app, row.shard_key, &done, makes_it).await?;
    let made = purchases::find(&app, &caller, (row.shard_key, payment)).await?;
    let row = find(&app, &caller, (row.shard_key, row.value.id)).await?;
    let secret = made.payment.client_secret.as_deref().map(str::to_owned);
    let pending = made.payment.state == PaymentState::Pending;
    let view = InvoicePaymentView {
        invoice: view(&app, &caller, &row).await?,
        payment: PaymentView::of(&made),
        publishable_key: secret.as_ref().and_then(|_| caller.connection()?.publishable_key.clone()),
        client_secret: secret,
        page: made.payment.page.as_deref().map(str::to_owned),
    };
    let status = if pending { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(replayed(answer(status, view), done.replayed))
}

/// Void an invoice
///
/// It is taken back as a whole: what is left of it is not owed any more, and its number stays. A subscription whose first
/// invoice it was does not come to be.
#[utoipa::path(post, path = "/v1/invoices/{invoice}/void", operation_id = "void_invoice", tag = "invoices",
    params(("invoice" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = InvoiceView)))]
pub(in crate::api) async fn void(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    settle(&app, &caller, &key, &id, ("void", InvoiceStep::Void)).await
}

/// Write an invoice off
///
/// Nobody expects it to be paid any more, and it is not collected again; it is `uncollectible`, and still can be paid.
#[utoipa::path(post, path = "/v1/invoices/{invoice}/write_off", operation_id = "write_off_invoice", tag = "invoices",
    params(("invoice" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = InvoiceView)))]
pub(in crate::api) async fn write_off(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    settle(&app, &caller, &key, &id, ("write_off", InvoiceStep::WriteOff)).await
}

/// A part of an invoice to be taken back.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": "5", "reason": "an outage on Monday"}))]
pub(in crate::api) struct NewCreditNote {
    /// How much, in the invoice's currency, with tax.
    amount: PositiveNumber,
    /// Why; the customer reads it.
    reason: Option<Words>,
    /// Your key for this operation; the same key credits once. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// Credit an invoice
///
/// Takes a part back: of what is left to pay, or, when it is paid, to the customer's credit on the next invoice.
#[utoipa::path(post, path = "/v1/invoices/{invoice}/credit", operation_id = "credit_invoice", tag = "invoices", request_body = NewCreditNote,
    params(("invoice" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = InvoiceView)))]
pub(in crate::api) async fn credit(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<NewCreditNote>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    let currency = &row.value.currency;
    let money = Money::exactly(body.amount.micros(), currency).map_err(|_| {
        let detail = format!("the amount has more digits than {currency} has coins for");
        Problem::invalid("invalid_value", detail).at("/amount")
    })?;
    let operation = operation(&caller, &row, "credit", operation_key, fingerprint(&(&id, &body)));
    let note = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let reason = body.reason.as_ref().map(|reason| Arc::from(reason.as_str()));
    let step = InvoiceStep::Credit { id: note, minor: money.minor, reason };
    let done = take_step(&app, &caller, &row, step, operation).await?;
    app.outbox.wake();
    let row = find(&app, &caller, (row.shard_key, row.value.id)).await?;
    Ok(replayed(answer(StatusCode::CREATED, view(&app, &caller, &row).await?), done.replayed))
}

/// Ends an invoice; once, so that the invoice itself is the key where none is sent.
async fn settle(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    id: &str,
    (name, step): (&str, InvoiceStep),
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(app, caller, id)?;
    let row = find(app, caller, public_id(id, Kind::Invoice)?).await?;
    let given = key.get().unwrap_or(id).to_owned();
    let operation = operation(caller, &row, name, Some(given), fingerprint(&(name, id)));
    let done = take_step(app, caller, &row, step, operation).await?;
    app.outbox.wake();
    let row = find(app, caller, (row.shard_key, row.value.id)).await?;
    Ok(replayed(answer(StatusCode::OK, view(app, caller, &row).await?), done.replayed))
}

/// The id that a key makes, and a hash of what is asked.
fn operation(
    caller: &Caller,
    row: &BillingRow<Invoice>,
    name: &str,
    key: Option<String>,
    asked: i64,
) -> Option<(Uuid, i64)> {
    let kind = format!("invoice_{name}");
    key.map(|key| (keyed_id(caller.tenant(), &row.external_id, &kind, &format!("{} {key}", row.value.id)), asked))
}

async fn take_step(
    app: &App,
    caller: &Caller,
    row: &BillingRow<Invoice>,
    step: InvoiceStep,
    operation: Option<(Uuid, i64)>,
) -> Result<Answer, Problem> {
    let customer = CustomerKey::new(caller.tenant(), &row.external_id);
    let command = Command::StepInvoice { invoice: row.value.id, step };
    let request = Request { operation, ..request(app, caller, customer, command, caller.now()) };
    Ok(app.service.execute(request).await?)
}
