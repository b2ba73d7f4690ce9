//! Explanations: why a charge is what it is, from the price of its day through tiers and rounding to the grants that
//! covered it. It is computed anew by the engine from what is kept, and says whether it agrees.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId};
use engine::{Line, LineKind, Micros, Price, Rounding, rating};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::parameters::Named;
use crate::api::problem::Problem;
use crate::api::v1::charges::{ChargeView, find};
use crate::api::v1::wallets::EntryView;
use crate::app::App;
use crate::store::{ChargeRow, CustomerKey, EntryRow, Page, Scope, StoreError};

/// One step of how an amount came about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PricingStep)]
pub(in crate::api) struct StepView {
    /// Which tier, counted from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<usize>,
    /// Units at this unit price.
    quantity: String,
    /// The unit price.
    unit_amount: String,
    /// How many units that price is for.
    per: u64,
    /// Added once.
    flat_amount: String,
}

impl From<rating::Step> for StepView {
    fn from(step: rating::Step) -> Self {
        Self {
            tier: step.tier,
            quantity: step.quantity.to_string(),
            unit_amount: step.rate.to_string(),
            per: step.per,
            flat_amount: step.flat.to_string(),
        }
    }
}

/// The line of an invoice that a charge is on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoiceOfCharge)]
pub(in crate::api) struct InvoiceOf {
    /// The invoice's id; `/v1/invoices/{invoice}/explain` goes on from there.
    id: String,
    /// Its number.
    number: String,
    /// How it stands: `open`, `paid`, `void` or `uncollectible`.
    state: String,
    /// Which line, counted from one.
    line: usize,
}

/// How the priced part of a charge came to its amount.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Pricing {
    /// The price's name.
    name: String,
    /// The version of the price that was in force.
    version: String,
    /// Its definition then.
    #[schema(value_type = Object)]
    definition: serde_json::Value,
    /// The part of the quantity that the meter's own units did not cover.
    priced_quantity: String,
    /// What was counted under the price earlier in the period, where the price counts over it.
    counted_before: String,
    /// What the period's total came to before this charge.
    total_before: String,
    /// The steps that price the period's total with this charge (the charge alone where the price does not count).
    steps: Vec<StepView>,
    /// What they come to, rounded.
    total_after: String,
    /// The rounding, once, to micros.
    #[schema(value_type = String)]
    rounding: Rounding,
    /// `total_after` less `total_before`.
    amount: String,
}

/// Why a charge is what it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChargeExplanation)]
pub(in crate::api) struct Explanation {
    /// The charge.
    charge: ChargeView,
    /// How it was priced; absent where the meter's own units covered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pricing: Option<Pricing>,
    /// The invoice that asks for what is owed of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<InvoiceOf>,
    /// Its ledger entries.
    entries: Vec<EntryView>,
    /// The same, in words.
    story: Vec<String>,
    /// Whether the amount computed anew is the amount that was charged.
    agrees: bool,
}

/// Explain a charge
///
/// The chain from the use to the ledger and to the invoice: price, tiers, rounding, grants, entries, the line that it is on; and
/// the same in words.
#[utoipa::path(get, path = "/v1/charges/{charge}/explain", operation_id = "explain_charge", tag = "charges", params(("charge" = String, Path, description = "Its id")),
    responses((status = 200, body = Explanation)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    let row = find(&app, &caller, &id).await?;
    let scope = Scope { tenant: caller.tenant().clone(), customer: Some(row.customer_id) };
    let charge = &row.charge;
    let price = match &charge.price {
        Some(version) => app.store.price(&scope, version).await?,
        None => None,
    };
    let price: Option<Price> = price.and_then(|definition| serde_json::from_str(&definition).ok());
    let pricing = price.as_ref().map(|price| pricing(price, &row)).transpose()?;
    let entries = entries(&app, &scope, &row).await?;
    let entries = entries.iter().map(|entry| EntryView::of(entry, row.shard_key)).collect();
    let computed = pricing.as_ref().map(|pricing| pricing.amount == charge.amount.to_string());
    let agrees = computed.unwrap_or(charge.price.is_none());
    let mut story = story(&row, price.as_ref(), pricing.as_ref());
    let invoice = invoice_of(&app, &caller, &scope, &row).await?;
    if !charge.owed.is_zero() {
        story.push(match &invoice {
            Some(on) => format!("It is on line {} of invoice {}, which is {}.", on.line, on.number, on.state),
            None if waits(&app, &scope, &row).await? => "It is on no invoice yet.".to_owned(),
            None => "It was paid, or given back, before it came to be invoiced.".to_owned(),
        });
    }
    let charge = ChargeView::of_row(&row);
    Ok(answer(StatusCode::OK, Explanation { charge, pricing, invoice, entries, story, agrees }))
}

/// The invoice that took over what is owed of a charge: the first after it with a line of its meter, price and period.
async fn invoice_of(app: &App, caller: &Caller, scope: &Scope, row: &ChargeRow) -> Result<Option<InvoiceOf>, Problem> {
    let charge = &row.charge;
    let Some(billed_with) = charge.billed_with else { return Ok(None) };
    let has_it = |line: &Line| match &line.kind {
        LineKind::Usage { meter, price, used_in, since, .. } => {
            (meter, price, used_in) == (&charge.meter, &charge.price, &billed_with) && *since <= charge.position
        }
        _ => false,
    };
    let mut after = None;
    loop {
        let page = Page { after, limit: 50 };
        let found = app.store.invoices_since(scope, (row.shard_key, row.customer_id), billed_with, page).await?;
        let Some(last) = found.last() else { return Ok(None) };
        after = last.value.number.as_ref().and_then(|number| number.parse::<i64>().ok());
        for invoice in found.iter().map(|found| &found.value) {
            if invoice.position > charge.position
                && invoice.currency == charge.asset
                && let Some(index) = invoice.lines.iter().position(has_it)
            {
                let id = PublicId { kind: Kind::Invoice, shard_key: row.shard_key, id: invoice.id }.to_string();
                let number = invoice.number.as_deref().unwrap_or_default();
                let number = caller.seller().invoice_number(number);
                let state = invoice.standing.state.as_str().to_owned();
                return Ok(Some(InvoiceOf { id, number, state, line: index + 1 }));
            }
        }
    }
}

/// Whether what is owed of a charge waits for the next invoice.
async fn waits(app: &App, scope: &Scope, row: &ChargeRow) -> Result<bool, Problem> {
    let charge = &row.charge;
    let key = CustomerKey::new(&scope.tenant, &row.external_id);
    let customer = app.store.customer(scope, &key).await?;
    let unbilled = customer.map(|row| row.customer.state.unbilled).unwrap_or_default();
    Ok(unbilled.iter().any(|usage| {
        (&usage.meter, &usage.price, Some(usage.period)) == (&charge.meter, &charge.price, charge.billed_with)
            && usage.since <= charge.position
    }))
}

/// The entries of a charge, in their order: some of those of its transaction, which may have many charges.
async fn entries(app: &App, scope: &Scope, row: &ChargeRow) -> Result<Vec<EntryRow>, StoreError> {
    let position = row.charge.position;
    let mut entries = Vec::new();
    let mut after = (position + 1, 0);
    loop {
        let page = Page { after: Some(after), limit: 500 };
        let found = app.store.entries(scope, (row.shard_key, row.customer_id), None, page).await?;
        let last = found.last().map(|last| (last.entry.position, last.entry.line));
        entries.extend(found.into_iter().filter(|entry| entry.entry.cause == row.charge.id));
        match last {
            Some(last) if last.0 == position => after = last,
            _ => break,
        }
    }
    entries.reverse();
    Ok(entries)
}

fn pricing(price: &Price, row: &ChargeRow) -> Result<Pricing, Problem> {
    let charge = &row.charge;
    let before = if price.model.is_cumulative() { charge.counted_before } else { Micros::ZERO };
    let after = before.plus(charge.priced_quantity)?;
    let total_before = if before.is_zero() { Micros::ZERO } else { rating::rate(price, Micros::ZERO, before)? };
    let total_after = rating::rate(price, Micros::ZERO, after)?;
    let steps = rating::steps(price, after)?.into_iter().map(StepView::from);
    Ok(Pricing {
        name: price.name.to_string(),
        version: price.version.to_string(),
        definition: serde_json::to_value(price).unwrap_or_default(),
        priced_quantity: charge.priced_quantity.to_string(),
        counted_before: before.to_string(),
        total_before: total_before.to_string(),
        steps: steps.collect(),
        total_after: total_after.to_string(),
        rounding: price.rounding,
        amount: total_after.minus(total_before)?.to_string(),
    })
}

fn story(row: &ChargeRow, price: Option<&Price>, pricing: Option<&Pricing>) -> Vec<String> {
    let charge = &row.charge;
    let mut story = vec![format!(
        "{} used {} {}{} at {}.",
        row.external_id,
        charge.quantity,
        charge.meter,
        charge.subject.as_ref().map(|subject| format!(" (by {subject})")).unwrap_or_default(),
        charge.occurred_at
    )];
    let in_units = charge.quantity.get() - charge.priced_quantity.get();
    if in_units > 0 {
        story.push(format!("{} of it was covered by the meter's own units.", Micros::new(in_units)));
    }
    if let (Some(price), Some(pricing)) = (price, pricing) {
        let asset = &price.asset;
        if price.model.is_cumulative() {
            story.push(format!(
                "Under price {} {} had been counted in the period, {} {asset} in all.",
                pricing.name, pricing.counted_before, pricing.total_before
            ));
        }
        for step in &pricing.steps {
            let tier = step.tier.map(|tier| format!("tier {tier}: ")).unwrap_or_default();
            let per = if step.per == 1 { String::new() } else { format!(" for {}", step.per) };
            let flat = if step.flat_amount == "0" { String::new() } else { format!(", and {} once", step.flat_amount) };
            story.push(format!("{tier}{} at {} {asset}{per}{flat}.", step.quantity, step.unit_amount));
        }
        story.push(format!(
            "That comes to {} {asset}, rounded once; this charge is {} {asset}.",
            pricing.total_after, pricing.amount
        ));
    }
    if charge.price.is_none() && !charge.priced_quantity.is_zero() && charge.priced_quantity != charge.amount {
        story.push(format!("It came with a price of its own: {} {}.", charge.amount, charge.asset));
    }
    for cover in &charge.covered_by {
        let grant = PublicId { kind: Kind::Grant, shard_key: row.shard_key, id: cover.grant };
        story.push(format!("{} {} came from {grant}.", cover.amount, cover.asset));
    }
    if !charge.included().is_zero() {
        story.push(format!("{} {} is included in the plan.", charge.included(), charge.asset));
    }
    if !charge.owed.is_zero() {
        story.push(format!("{} {} is owed.", charge.owed, charge.asset));
    }
    story
}
