//! Invoices: what was asked for and how it stands, what would be asked for next, and the document for people.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::billing::{usage_invoice, usage_period};
use engine::id::{Kind, PublicId};
use engine::invoice::{CreditNote, InvoiceReason, InvoiceState, Line, LineKind};
use engine::{Asset, Command, Documents, Invoice, Money, Period, preview};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, Kept, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::api::v1::purchases::major;
use crate::app::App;
use crate::auth::Scope;
use crate::document::{self, Document};
use crate::idempotency::fingerprint;
use crate::store::{BillingRow, OperationRef, Page};

/// From an instant, up to and without another.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = InvoicePeriod)]
pub(in crate::api) struct PeriodView {
    /// Its first instant.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

impl From<Period> for PeriodView {
    fn from(period: Period) -> Self {
        Self { start: period.start, end: period.end }
    }
}

/// The tax on a line.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = LineTax)]
pub(in crate::api) struct TaxView {
    /// What it is: `VAT`.
    name: String,
    /// In percent.
    percent: String,
    /// Whether the line's amount contains it already.
    inclusive: bool,
    /// How much.
    amount: String,
}

/// A line of an invoice.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = InvoiceLine)]
pub(in crate::api) struct LineView {
    /// `usage`, `debt` (fractions of coins that were left, and what is owed besides), `fee`, `add_on`, `commitment`,
    /// `proration`, `item` or `carried`.
    #[schema(pattern = "^(usage|debt|fee|add_on|commitment|proration|item|carried)$")]
    kind: String,
    /// What it is, as the customer reads it.
    title: String,
    /// The meter, of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// The version of the price, of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price: Option<String>,
    /// The version of the plan, of its fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// The add-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add_on: Option<String>,
    /// Whether it was used in a period that was invoiced before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    /// How much of it.
    quantity: String,
    /// What one costs, in words where it is not one sum.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    unit_price: String,
    /// The time it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<PeriodView>,
    /// What it comes to, before discounts and taxes.
    amount: String,
    /// What a discount takes off.
    discount: String,
    /// Its taxes.
    taxes: Vec<TaxView>,
}

/// A part of an invoice that was taken back.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = CreditNote)]
pub(in crate::api) struct CreditNoteView {
    /// Its id.
    id: String,
    /// How much, with tax.
    amount: String,
    /// What of that is tax.
    tax: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether the invoice was paid, so that it comes off the next one.
    to_balance: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// An invoice, as it stands.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Invoice)]
pub(in crate::api) struct InvoiceView {
    /// Its id; a draft has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Its number, without gaps within the tenant; a draft has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    /// Who is to pay it: your own id of the customer.
    customer: String,
    /// The subscription that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
    /// How it stands: `draft`, `open`, `paid`, `void` or `uncollectible`.
    #[schema(pattern = "^(draft|open|paid|void|uncollectible)$")]
    state: String,
    /// Why it was made: `start`, `renewal`, `change` or `end` of a subscription, or `usage`.
    #[schema(pattern = "^(start|renewal|change|end|usage)$")]
    reason: String,
    /// What its amounts are in.
    currency: String,
    /// The period that it closes, or, for the first of a subscription, begins.
    period: PeriodView,
    /// Its lines.
    lines: Vec<LineView>,
    /// What the lines come to, before discounts and taxes.
    subtotal: String,
    /// What discounts take off.
    discount: String,
    /// The coupon that they are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coupon: Option<String>,
    /// The taxes, those that amounts contain included.
    tax: String,
    /// What the lines come to in all: without discounts, with taxes.
    total: String,
    /// What of the total goes to the next invoice, because it is too little to be collected, or below zero.
    carried: String,
    /// What is left to pay.
    amount_due: String,
    /// What was paid.
    amount_paid: String,
    /// What credit notes took off.
    amount_credited: String,
    /// The credit notes, oldest first.
    credit_notes: Vec<CreditNoteView>,
    /// How often collecting it was tried.
    attempts: u16,
    /// When it is tried next, or overdue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// The payment under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment: Option<String>,
    /// The provider's id of the invoice that it is there, where the provider collects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider_id: Option<String>,
    /// Its date.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it is to be paid.
    #[schema(value_type = String, format = DateTime)]
    due_at: Timestamp,
    /// Where its PDF is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pdf: Option<String>,
    /// The page where whoever has the link sees and pays it: an address where the tenant file says where this server is
    /// reached, otherwise a path on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<String>,
}

/// A sum of minor units in major units.
pub(in crate::api) fn sum(minor: i64, currency: &Asset) -> String {
    major(&Money { minor, currency: currency.clone() })
}

impl LineView {
    pub(in crate::api) fn of(line: &Line, currency: &Asset) -> Self {
        let text = |text: &Arc<str>| text.to_string();
        let (mut meter, mut price, mut plan, mut add_on, mut late) = (None, None, None, None, false);
        match &line.kind {
            LineKind::Usage { meter: of, price: at, late: is_late, .. } => {
                (meter, price, late) = (Some(text(of)), at.as_ref().map(text), *is_late);
            }
            LineKind::Fee { plan: of } => plan = Some(text(of)),
            LineKind::AddOn { add_on: of } => add_on = Some(text(of)),
            _ => {}
        }
        let tax = |tax: &engine::tax::LineTax| TaxView {
            name: tax.name.to_string(),
            percent: tax.percent.to_string(),
            inclusive: tax.inclusive,
            amount: sum(tax.minor, currency),
        };
        Self {
            kind: kind_name(&line.kind).to_owned(),
            title: line.title.to_string(),
            meter,
            price,
            plan,
            add_on,
            late,
            quantity: line.quantity.to_string(),
            unit_price: line.unit_price.clone(),
            period: line.period.map(PeriodView::from),
            amount: sum(line.minor, currency),
            discount: sum(line.discount, currency),
            taxes: line.taxes.iter().map(tax).collect(),
        }
    }
}

/// The name of a line's kind.
pub(in crate::api) const fn kind_name(kind: &LineKind) -> &'static str {
    match kind {
        LineKind::Usage { .. } => "usage",
        LineKind::Debt => "debt",
        LineKind::Fee { .. } => "fee",
        LineKind::AddOn { .. } => "add_on",
        LineKind::Commitment { .. } => "commitment",
        LineKind::Proration { .. } => "proration",
        LineKind::Item { .. } => "item",
        LineKind::Carried => "carried",
    }
}

impl CreditNoteView {
    pub(in crate::api) fn of(note: &CreditNote, shard_key: i32) -> Self {
        Self {
            id: PublicId { kind: Kind::CreditNote, shard_key, id: note.id }.to_string(),
            amount: sum(note.minor, &note.currency),
            tax: sum(note.tax, &note.currency),
            reason: note.reason.as_deref().map(str::to_owned),
            to_balance: note.to_balance,
            created_at: note.created_at,
        }
    }
}

impl InvoiceView {
    /// An invoice as it is kept.
    pub(in crate::api) fn of(app: &App, caller: &Caller, row: &BillingRow<Invoice>, notes: &[CreditNote]) -> Self {
        let invoice = &row.value;
        let id = PublicId { kind: Kind::Invoice, shard_key: row.shard_key, id: invoice.id }.to_string();
        let base = caller.seller().url.as_deref().unwrap_or_default();
        Self {
            number: invoice.number.as_ref().map(|number| caller.seller().invoice_number(number)),
            credit_notes: notes.iter().map(|note| CreditNoteView::of(note, row.shard_key)).collect(),
            pdf: Some(format!("{base}/v1/invoices/{id}/pdf")),
            page: Some(document::page_address(caller.seller(), &app.page_key, (row.shard_key, invoice.id))),
            id: Some(id),
            ..Self::draft(invoice, &row.external_id, row.shard_key)
        }
    }

    /// Its number, for a sentence.
    pub(in crate::api) fn number(&self) -> &str {
        self.number.as_deref().unwrap_or("draft")
    }

    /// What was taken back of it, in sentences.
    pub(in crate::api) fn credit_sentences(&self) -> impl Iterator<Item = String> {
        self.credit_notes.iter().map(|note| {
            let reason = note.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let to = if note.to_balance { "to the customer's credit on the next invoice" } else { "off this invoice" };
            format!("Credit note {} of {} {}{reason} went {to}.", note.id, note.amount, self.currency)
        })
    }

    /// An invoice that would be made.
    fn draft(invoice: &Invoice, customer: &str, shard_key: i32) -> Self {
        let (currency, standing) = (&invoice.currency, &invoice.standing);
        let public = |kind, id| PublicId { kind, shard_key, id }.to_string();
        Self {
            id: None,
            number: None,
            customer: customer.to_owned(),
            subscription: invoice.subscription.map(|id| public(Kind::Subscription, id)),
            state: standing.state.as_str().to_owned(),
            reason: invoice.reason.as_str().to_owned(),
            currency: currency.to_string(),
            period: invoice.period.into(),
            lines: invoice.lines.iter().map(|line| LineView::of(line, currency)).collect(),
            subtotal: sum(invoice.subtotal, currency),
            discount: sum(invoice.discount, currency),
            coupon: invoice.coupon.as_ref().map(|coupon| coupon.code.to_string()),
            tax: sum(invoice.tax, currency),
            total: sum(invoice.total, currency),
            carried: sum(invoice.carried, currency),
            amount_due: sum(standing.due, currency),
            amount_paid: sum(standing.paid, currency),
            amount_credited: sum(standing.credited, currency),
            credit_notes: Vec::new(),
            attempts: standing.attempts,
            next_attempt_at: standing.next_attempt_at,
            payment: standing.payment.map(|id| public(Kind::Payment, id)),
            provider_id: standing.provider_reference.as_deref().map(str::to_owned),
            created_at: invoice.created_at,
            due_at: invoice.due_at,
            pdf: None,
            page: None,
        }
    }
}

/// An invoice that the caller may see.
pub(in crate::api) async fn find(app: &App, caller: &Caller, id: OperationRef) -> Result<BillingRow<Invoice>, Problem> {
    let row = app.store.invoice(&caller.scope(), id).await?;
    let row = row.filter(|row| caller.may_see(&row.external_id));
    row.ok_or_else(|| Problem::not_found("unknown_invoice", "there is no invoice with this id"))
}

/// An invoice with its credit notes, where it has any.
pub(in crate::api) async fn view(
    app: &App,
    caller: &Caller,
    row: &BillingRow<Invoice>,
) -> Result<InvoiceView, Problem> {
    let notes = if row.value.standing.credited == 0 {
        Vec::new()
    } else {
        app.store.credit_notes(&caller.scope(), (row.shard_key, row.value.id)).await?
    };
    Ok(InvoiceView::of(app, caller, row, &notes))
}

async fn views(app: &App, caller: &Caller, rows: &[BillingRow<Invoice>]) -> Result<Vec<InvoiceView>, Problem> {
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view(app, caller, row).await?);
    }
    Ok(views)
}

/// The cursor behind an invoice: its number.
fn cursor(row: &BillingRow<Invoice>) -> i64 {
    row.value.number.as_ref().and_then(|number| number.parse().ok()).unwrap_or_default()
}

async fn page_of_views(
    app: &App,
    caller: &Caller,
    rows: Vec<BillingRow<Invoice>>,
    limit: i64,
) -> Result<PageOf<InvoiceView>, Problem> {
    let views = views(app, caller, &rows).await?;
    let page = page_of(rows, limit, cursor, |_| ());
    Ok(PageOf { data: views, next_cursor: page.next_cursor })
}

/// A customer's invoices
///
/// The newest first.
#[utoipa::path(get, path = "/v1/customers/{customer}/invoices", operation_id = "list_customer_invoices", tag = "invoices",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<InvoiceView>)))]
pub(in crate::api) async fn list_of_customer(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page: Page<i64> = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let rows = app.store.invoices(&scope, (row.customer.shard_key, row.customer.id), page).await?;
    Ok(answer(StatusCode::OK, page_of_views(&app, &caller, rows, page.limit).await?))
}

/// Which invoices of a tenant.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct InvoicesQuery {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
    /// Only those that stand so: `open`, `paid`, `void` or `uncollectible`.
    #[param(value_type = Option<String>, pattern = "^(open|paid|void|uncollectible)$")]
    state: Option<StateName>,
}

/// How an invoice that was made may stand.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateName {
    Open,
    Paid,
    Void,
    Uncollectible,
}

impl From<StateName> for InvoiceState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Open => Self::Open,
            StateName::Paid => Self::Paid,
            StateName::Void => Self::Void,
            StateName::Uncollectible => Self::Uncollectible,
        }
    }
}

/// All invoices
///
/// The newest first, those of one state where it is named. Not for a customer's token.
#[utoipa::path(get, path = "/v1/invoices", operation_id = "list_invoices", tag = "invoices", params(InvoicesQuery),
    responses((status = 200, body = PageOf<InvoiceView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Parameters(query): Parameters<InvoicesQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?.require_all_customers()?;
    let page: Page<i64> = page(query.cursor.as_deref(), query.limit)?;
    let rows = app.store.tenant_invoices(&caller.scope(), query.state.map(InvoiceState::from), page).await?;
    Ok(answer(StatusCode::OK, page_of_views(&app, &caller, rows, page.limit).await?))
}

/// An invoice
#[utoipa::path(get, path = "/v1/invoices/{invoice}", operation_id = "get_invoice", tag = "invoices",
    params(("invoice" = String, Path, description = "Its id")), responses((status = 200, body = InvoiceView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    Ok(answer(StatusCode::OK, view(&app, &caller, &row).await?))
}

/// The PDF of an invoice
///
/// The same invoice, as it stands, is the same file.
#[utoipa::path(get, path = "/v1/invoices/{invoice}/pdf", operation_id = "get_invoice_pdf", tag = "invoices",
    params(("invoice" = String, Path, description = "Its id")),
    responses((status = 200, body = [u8], content_type = "application/pdf", description = "The file")))]
pub(in crate::api) async fn pdf(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Invoice)?).await?;
    let found = document::find(&*app.store, &caller.scope(), (row.shard_key, row.value.id)).await?;
    let found = found.ok_or_else(|| Problem::not_found("unknown_invoice", "there is no invoice with this id"))?;
    let document = Document::of(caller.seller(), &caller.catalog().time_zone, &found);
    let mut response = document::pdf(&document).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/pdf"));
    headers.insert(header::CONTENT_DISPOSITION, document::file_name(&document));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Invoices that were, or would be, made by one request.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(in crate::api) struct Invoices {
    /// One for each currency.
    data: Vec<InvoiceView>,
}

/// A customer's next invoices
///
/// What they would be if nothing else happened until then: one for each subscription when its period ends; without a
/// subscription, what the usage of the month comes to so far. Nothing is made of it.
#[utoipa::path(get, path = "/v1/customers/{customer}/invoices/upcoming", operation_id = "preview_invoices", tag = "invoices",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = Invoices)))]
pub(in crate::api) async fn upcoming(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &customer).await?;
    let would_be =
        |command: &Command| preview(caller.catalog(), &row.customer, Documents::default(), command, caller.now());
    let mut preview = would_be(&Command::PassTime)?;
    let mut drafts = std::mem::take(&mut preview.now);
    drafts.append(&mut preview.next);
    if drafts.is_empty() {
        drafts = would_be(&Command::InvoiceUsage)?.now;
    }
    let view = |invoice: &Invoice| InvoiceView::draft(invoice, &row.external_id, row.customer.shard_key);
    Ok(answer(StatusCode::OK, Invoices { data: drafts.iter().map(view).collect() }))
}

/// Invoice usage now
///
/// What the customer owes and is on no invoice yet, once in a period: that of its subscription, or else the calendar month.
/// However often it is asked for, the answer is the invoices that were made then: 201 when they were made by this request, 200
/// when they were there, or nothing is owed.
#[utoipa::path(post, path = "/v1/customers/{customer}/invoices", operation_id = "create_usage_invoice", tag = "invoices",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this request")),
    responses((status = 200, body = Invoices), (status = 201, body = Invoices)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let address = caller.customer(&customer)?;
    let kept = key.get().map(|key| Kept::of_customer(&address, "invoices/usage", key, fingerprint(&"usage")));
    if let Some(kept) = &kept
        && let Some((status, invoices)) = kept.find::<Invoices>(&app).await?
    {
        return Ok(replayed(answer(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), invoices), true));
    }
    let now = caller.now();
    let done = app.service.execute(request(&app, &caller, address, Command::InvoiceUsage, now)).await?;
    app.outbox.wake();
    let (row, scope) = caller.find(&app, &customer).await?;
    let period = usage_period(caller.catalog(), &row.customer.state, now)?;
    let mut rows = Vec::new();
    for currency in currencies(&caller) {
        let id = (row.customer.shard_key, usage_invoice(row.customer.id, period, &currency));
        rows.extend(app.store.invoice(&scope, id).await?);
    }
    let made = |row: &BillingRow<Invoice>| row.value.position == done.as_of && row.value.reason == InvoiceReason::Usage;
    let status = if rows.iter().any(made) { StatusCode::CREATED } else { StatusCode::OK };
    let invoices = Invoices { data: views(&app, &caller, &rows).await? };
    if let Some(kept) = &kept {
        kept.keep(&app, Some(row.customer.id), status, &invoices).await?;
    }
    Ok(answer(status, invoices))
}

/// Every currency that usage may be owed in.
fn currencies(caller: &Caller) -> BTreeSet<Asset> {
    let catalog = caller.catalog();
    let plans = catalog.plans.versions.values().map(|plan| &plan.fee.currency);
    let priced = catalog.prices.iter().map(|price| &price.asset).chain(plans);
    let packs = catalog.packs.values().map(|pack| &pack.price.currency);
    let all = priced.chain(packs).chain([&catalog.currency]);
    all.filter(|asset| asset.currency().is_some()).cloned().collect()
}
