//! Explanations of invoices: from the invoice to its lines, from a usage line to every charge behind it, and on to coupons,
//! taxes, payments and credit notes. Everything is recounted from what is kept, and the answer says whether it agrees.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::Kind;
use engine::invoice::{InvoiceState, Line, LineKind};
use engine::{Invoice, PaymentState, Purpose};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, NamedOf, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::ChargeView;
use crate::api::v1::invoices::{InvoiceView, find, view};
use crate::api::v1::line_explanation::{LineExplanation, charges_of, cursor, explain, money};
use crate::api::v1::payments::PaymentView;
use crate::app::App;
use crate::auth;
use crate::store::{BillingRow, Page, PaymentRow, Scope};

/// How many payments are looked through for those of an invoice.
const PAYMENTS: i64 = 500;

/// Why an invoice is what it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct InvoiceExplanation {
    /// The invoice.
    invoice: InvoiceView,
    /// Its lines, each with how it came to its amount.
    lines: Vec<LineExplanation>,
    /// Every payment that was tried for it, newest first.
    payments: Vec<PaymentView>,
    /// The same in words.
    story: Vec<String>,
    /// Whether everything that was computed anew is what is on the invoice: each line, the discounts, the taxes and all sums.
    agrees: bool,
}

/// Explain an invoice
///
/// Answers "why was I charged this?": invoice, lines, the charges behind usage with what they add up to, prices and their
/// steps, grants, every rounding, prorations, coupon, taxes with what they are on, payments and credit notes; and a sentence
/// for each.
#[utoipa::path(get, path = "/v1/invoices/{invoice}/explain", operation_id = "explain_invoice", tag = "invoices",
    params(("invoice" = String, Path, description = "Its id")), responses((status = 200, body = InvoiceExplanation)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(auth::Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    let scope = Scope { tenant: caller.tenant().clone(), customer: Some(row.customer_id) };
    let mut lines = Vec::with_capacity(row.value.lines.len());
    for line in (1..).zip(&row.value.lines) {
        lines.push(explain(&app, &caller, &scope, &row, line).await?);
    }
    let payments = payments_of(&app, &scope, &row).await?;
    let invoice = view(&app, &caller, &row).await?;
    let agrees = lines.iter().all(|line| line.agrees) && sums_agree(&row.value)?;
    let story = story(&row.value, &invoice, &payments);
    let payments = payments.iter().map(PaymentView::of).collect();
    Ok(answer(StatusCode::OK, InvoiceExplanation { invoice, lines, payments, story, agrees }))
}

/// The charges of a usage line
///
/// The newest use first. Those that owe something; what grants covered in full is on no invoice.
#[utoipa::path(get, path = "/v1/invoices/{invoice}/lines/{line}/charges", operation_id = "list_line_charges", tag = "invoices",
    params(("invoice" = String, Path, description = "The invoice's id"), ("line" = u32, Path, description = "Which line, counted from one"), PageQuery),
    responses((status = 200, body = PageOf<ChargeView>)))]
pub(in crate::api) async fn charges(
    State(app): State<Arc<App>>,
    caller: Caller,
    NamedOf(id, line): NamedOf,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(auth::Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    let unknown = || Problem::not_found("unknown_line", "the invoice has no usage line of this number");
    let number: usize = line.parse().map_err(|_| unknown())?;
    let line = number.checked_sub(1).and_then(|index| row.value.lines.get(index));
    let wanted = line.and_then(|line| charges_of(&row, line)).ok_or_else(unknown)?;
    let scope = Scope { tenant: caller.tenant().clone(), customer: Some(row.customer_id) };
    let found = app.store.line_charges(&scope, &wanted, page).await?;
    Ok(answer(StatusCode::OK, page_of(found, page.limit, cursor, |row| ChargeView::of_row(&row))))
}

/// Every payment that was tried for an invoice, newest first.
async fn payments_of(app: &App, scope: &Scope, row: &BillingRow<Invoice>) -> Result<Vec<PaymentRow>, Problem> {
    if row.value.standing.payment.is_none() {
        return Ok(Vec::new());
    }
    let owner = (row.shard_key, row.customer_id);
    let found = app.store.payments(scope, owner, Page { after: None, limit: PAYMENTS }).await?;
    let of_it = |found: &PaymentRow| match &found.payment.purpose {
        Purpose::Invoice(purpose) => purpose.invoice == row.value.id,
        Purpose::Purchase(_) | Purpose::OneTime(_) | Purpose::Subscription(_) => false,
    };
    Ok(found.into_iter().filter(of_it).collect())
}

/// Whether the sums of an invoice are those of its lines, its discounts those of its coupon, and what is left to pay what is
/// left.
fn sums_agree(invoice: &Invoice) -> Result<bool, Problem> {
    let sum = |part: fn(&Line) -> i64| invoice.lines.iter().map(part).fold(0_i64, i64::saturating_add);
    let mut total = 0_i64;
    for line in &invoice.lines {
        total = total.saturating_add(line.total()?);
    }
    let taxes = sum(|line| line.taxes.iter().map(|tax| tax.minor).fold(0, i64::saturating_add));
    let sums = invoice.subtotal == sum(|line| line.minor)
        && invoice.discount == sum(|line| line.discount)
        && invoice.tax == taxes
        && invoice.total == total;
    let discounted: Vec<&Line> = invoice.lines.iter().filter(|line| line.is_taxed()).collect();
    let discounts = match &invoice.coupon {
        Some(coupon) => {
            let amounts: Vec<i64> =
                discounted.iter().map(|line| if line.gives_back() { 0 } else { line.minor }).collect();
            let anew = coupon.discounts(&amounts, &invoice.currency)?;
            discounted.iter().map(|line| line.discount).eq(anew)
        }
        None => invoice.discount == 0,
    };
    let standing = &invoice.standing;
    let left = invoice.total - invoice.carried - standing.paid - standing.credited;
    let due = match standing.state {
        InvoiceState::Void => standing.due == 0,
        // A credit note on a paid invoice comes off the next one.
        InvoiceState::Paid => standing.due == 0 && left <= 0,
        _ => standing.due == left,
    };
    Ok(sums && discounts && due)
}

fn story(invoice: &Invoice, view: &InvoiceView, payments: &[PaymentRow]) -> Vec<String> {
    let currency = &invoice.currency;
    let money = |minor: i64| money(minor, currency);
    let why = match invoice.reason.as_str() {
        "start" => "a subscription began",
        "renewal" => "a period of the subscription ended and the next began",
        "change" => "the subscription changed",
        "end" => "the subscription ended",
        _ => "usage was to be invoiced",
    };
    let mut story = vec![format!(
        "Invoice {} was made at {} because {why}; its period is from {} to {}.",
        view.number(),
        invoice.created_at,
        invoice.period.start,
        invoice.period.end
    )];
    let lines = invoice.lines.len();
    story.push(format!("Its {lines} lines come to {} before discounts and taxes.", money(invoice.subtotal)));
    if let Some(coupon) = &invoice.coupon {
        story.push(format!("Coupon {} takes {} off.", coupon.code, money(invoice.discount)));
    }
    if invoice.tax != 0 {
        let on_top = invoice.lines.iter().flat_map(|line| &line.taxes).filter(|tax| !tax.inclusive);
        let on_top = on_top.map(|tax| tax.minor).fold(0, i64::saturating_add);
        story.push(format!("Taxes are {}, of which {} comes on top.", money(invoice.tax), money(on_top)));
    }
    story.push(format!("That makes {} in all.", money(invoice.total)));
    match invoice.carried {
        0 => {}
        1.. => story.push(format!(
            "{} is less than the provider collects, and goes to the next invoice.",
            money(invoice.carried)
        )),
        _ => story
            .push(format!("{} is in the customer's favour, and goes to the next invoice.", money(-invoice.carried))),
    }
    if invoice.lines.iter().any(|line| matches!(line.kind, LineKind::Carried)) {
        story.push("One of the lines is what earlier invoices left to this one.".to_owned());
    }
    story.extend(view.credit_sentences());
    story.extend(payments.iter().rev().map(payment_sentence));
    let standing = &invoice.standing;
    story.push(match standing.state {
        InvoiceState::Void => "It was taken back: nothing is left to pay.".to_owned(),
        _ => format!("{} is left to pay; it is {}.", money(standing.due), standing.state.as_str()),
    });
    story
}

fn payment_sentence(row: &PaymentRow) -> String {
    let payment = &row.payment;
    let what = format!("A payment of {} was begun at {}", payment.amount, payment.created_at);
    match (payment.state, payment.paid_at, &payment.failure) {
        (PaymentState::Paid, Some(at), _) => format!("{what}, and paid at {at}."),
        (state, _, Some(failure)) => format!("{what}; it is {}: {}.", state.as_str(), failure.code),
        (state, _, None) => format!("{what}; it is {}.", state.as_str()),
    }
}
