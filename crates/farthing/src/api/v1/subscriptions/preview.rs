//! Previews: what a new or a changed subscription would invoice now and next, line by line. It is the command itself,
//! decided on a copy.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::Kind;
use engine::invoice::InvoiceReason;
use engine::tax::LineTax;
use engine::{Command, Documents, Invoice, Line, Money, Preview};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::PeriodView;
use super::{NewSubscription, SubscriptionChange, find};
use crate::api::body::Body;
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::parameters::{Named, public_id};
use crate::api::problem::Problem;
use crate::api::v1::invoices::kind_name;
use crate::api::v1::purchases::major;
use crate::app::App;
use crate::auth::Scope;

/// A tax on a line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewedTax)]
pub(in crate::api) struct TaxView {
    /// What it is.
    name: String,
    /// In percent.
    percent: String,
    /// Whether the line's amount contains it already.
    inclusive: bool,
    /// How much.
    amount: String,
}

/// A line that would be invoiced.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewedLine)]
pub(in crate::api) struct LineView {
    /// `usage`, `debt`, `fee`, `add_on`, `commitment`, `proration`, `item` or `carried`.
    #[schema(pattern = "^(usage|debt|fee|add_on|commitment|proration|item|carried)$")]
    kind: &'static str,
    /// What it is, as the customer reads it.
    title: String,
    /// How much of it.
    quantity: String,
    /// What one costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_price: Option<String>,
    /// The time it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<PeriodView>,
    /// What it comes to; below zero where it gives back.
    amount: String,
    /// What of that a discount takes off.
    discount: String,
    /// Its taxes.
    taxes: Vec<TaxView>,
}

impl LineView {
    fn of(line: &Line, money: &impl Fn(i64) -> String) -> Self {
        let tax = |tax: &LineTax| TaxView {
            name: tax.name.to_string(),
            percent: tax.percent.to_string(),
            inclusive: tax.inclusive,
            amount: money(tax.minor),
        };
        Self {
            kind: kind_name(&line.kind),
            title: line.title.to_string(),
            quantity: line.quantity.to_string(),
            unit_price: Some(line.unit_price.clone()).filter(|price| !price.is_empty()),
            period: line.period.map(PeriodView::of),
            amount: money(line.minor),
            discount: money(line.discount),
            taxes: line.taxes.iter().map(tax).collect(),
        }
    }
}

/// An invoice that would be made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PreviewedInvoice)]
pub(in crate::api) struct InvoiceView {
    /// Why: `start`, `renewal`, `change`, `end` or `usage`.
    #[schema(value_type = String, pattern = "^(start|renewal|change|end|usage)$")]
    reason: InvoiceReason,
    /// Its date.
    #[schema(value_type = String, format = DateTime)]
    date: Timestamp,
    /// The period that it closes, or, for the first of a subscription, begins.
    period: PeriodView,
    /// Its currency.
    currency: String,
    /// Its lines.
    lines: Vec<LineView>,
    /// What the lines come to before discounts and taxes.
    subtotal: String,
    /// What discounts take off.
    discount: String,
    /// The taxes, those that amounts contain included.
    tax: String,
    /// What it comes to: without discounts, with taxes.
    total: String,
    /// What of the total goes to the next invoice instead of being asked for; below zero in the customer's favour.
    carried: String,
    /// What would be asked for.
    amount_due: String,
}

impl InvoiceView {
    fn of(invoice: &Invoice) -> Self {
        let money = |minor| major(&Money { minor, currency: invoice.currency.clone() });
        Self {
            reason: invoice.reason,
            date: invoice.created_at,
            period: PeriodView::of(invoice.period),
            currency: invoice.currency.to_string(),
            lines: invoice.lines.iter().map(|line| LineView::of(line, &money)).collect(),
            subtotal: money(invoice.subtotal),
            discount: money(invoice.discount),
            tax: money(invoice.tax),
            total: money(invoice.total),
            carried: money(invoice.carried),
            amount_due: money(invoice.standing.due),
        }
    }
}

/// What would be invoiced.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preview)]
pub(in crate::api) struct PreviewView {
    /// At once.
    now: Vec<InvoiceView>,
    /// When the period of each subscription ends, if nothing else happens until then.
    next: Vec<InvoiceView>,
}

impl PreviewView {
    fn of(preview: &Preview) -> Self {
        let views = |invoices: &[Invoice]| invoices.iter().map(InvoiceView::of).collect();
        Self { now: views(&preview.now), next: views(&preview.next) }
    }
}

/// What a command would invoice of a customer.
async fn preview(app: &App, caller: &Caller, customer: &str, command: &Command) -> Result<Response, Problem> {
    let (row, _) = caller.find(app, customer).await?;
    let now = caller.now();
    let preview = engine::preview(caller.catalog(), &row.customer, Documents::default(), command, now)?;
    Ok(answer(StatusCode::OK, PreviewView::of(&preview)))
}

/// Preview a subscription
///
/// What subscribing would invoice now, and with the next period, to the cent. Nothing is done.
#[utoipa::path(post, path = "/v1/customers/{customer}/subscriptions/preview", operation_id = "preview_subscription", tag = "subscriptions", request_body = NewSubscription,
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = PreviewView)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Body(body): Body<NewSubscription>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let command = Command::Subscribe(body.request(app.clock.new_id())?);
    preview(&app, &caller, &customer, &command).await
}

/// Preview a change
///
/// What changing a subscription would invoice now, and with the next period, to the cent. Nothing is done.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/change/preview", operation_id = "preview_change", tag = "subscriptions", request_body = SubscriptionChange,
    params(("subscription" = String, Path, description = "Its id")),
    responses((status = 200, body = PreviewView), (status = 409, body = Problem, content_type = "application/problem+json", description = "It has ended, or waits")))]
pub(in crate::api) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
    Body(body): Body<SubscriptionChange>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Subscription)?).await?;
    if row.value.state.has_ended() {
        return Err(engine::Refusal::SubscriptionState { state: row.value.state.as_str() }.into());
    }
    let command = Command::StepSubscription { subscription: row.value.id, step: body.step()? };
    preview(&app, &caller, &row.external_id, &command).await
}
