//! `POST /v1/invoices/create_preview` (docs.stripe.com/api/invoices/create_preview): what would be billed. It is done for real,
//! looked at, and undone.

use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::objects::invoice_items;
use crate::objects::invoices::document::{self, New};
use crate::objects::invoices::{lifecycle, totals};
use crate::objects::subscriptions::update::{self, Terms};
use crate::objects::subscriptions::{billing, create, current, cycle, is_over, items, period, proration};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let mark = world.mark();
    let preview = build(world, &request.parameters);
    world.undo_to(mark);
    let preview = as_preview(preview?);
    request.parameters.finish()?;
    Ok(preview)
}

/// The next renewal of a subscription, as `invoice.upcoming` tells it: it has no id.
pub(crate) fn renewal(world: &mut World, id: &str) -> Value {
    let mark = world.mark();
    let end = period(&current(world, id)).1;
    let invoice = cycle::begin_period(world, id, end, "subscription_cycle");
    let mut preview = as_preview(lifecycle::current(world, &invoice));
    world.undo_to(mark);
    if let Some(fields) = preview.as_object_mut() {
        fields.remove("id");
    }
    preview
}

/// An invoice that is only looked at, and does not advance.
fn as_preview(mut preview: Value) -> Value {
    let id = format!("upcoming_{}", preview["id"].as_str().unwrap_or_default());
    for line in preview["lines"]["data"].as_array_mut().into_iter().flatten() {
        line["invoice"] = json!(id);
    }
    preview["lines"]["url"] = json!(format!("/v1/invoices/{id}/lines"));
    preview["id"] = json!(id);
    preview["billing_reason"] = json!("upcoming");
    preview["auto_advance"] = json!(false);
    preview["automatically_finalizes_at"] = Value::Null;
    preview
}

fn build(world: &mut World, parameters: &Parameters) -> Result<Value, ApiError> {
    let subscription = parameters.text("subscription")?;
    let customer = match (&subscription, parameters.text("customer")?) {
        (Some(id), _) => {
            world.find(kind::SUBSCRIPTION, id, "subscription")?["customer"].as_str().unwrap_or_default().to_owned()
        }
        (None, Some(customer)) => customer,
        (None, None) => return Err(parameters.missing("customer")),
    };
    let found = world.find(kind::CUSTOMER, &customer, "customer")?.clone();
    let currency = amount::currency(parameters, "currency")?
        .or_else(|| Some(current(world, subscription.as_deref()?)["currency"].as_str()?.to_owned()))
        .or_else(|| found["currency"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "usd".to_owned());
    for part in parameters.parts("invoice_items")?.unwrap_or_default() {
        let item = invoice_items::of_part(world, &part, &customer, subscription.as_deref(), &currency)?;
        invoice_items::store(world, &item);
    }
    let details = parameters.part("subscription_details")?;
    let invoice = match (subscription, details) {
        (Some(id), details) => of_subscription(world, &id, details.as_ref())?,
        (None, Some(details)) => create::begin(world, &details.with("customer", &customer))?,
        (None, None) => of_customer(world, &customer, &currency),
    };
    Ok(lifecycle::current(world, &invoice))
}

/// What waits for a customer's next invoice.
fn of_customer(world: &mut World, customer: &str, currency: &str) -> String {
    let now = world.now_for(&json!(customer));
    let new = New { customer, currency, reason: "upcoming", subscription: &Value::Null, period: (now, now) };
    let draft = document::draft(world, &new);
    let id = draft["id"].as_str().unwrap_or_default().to_owned();
    world.save(kind::INVOICE, &draft);
    for mut item in invoice_items::pending(world, customer, currency, None) {
        invoice_items::attach(world, &mut item, &id);
    }
    let mut draft = lifecycle::current(world, &id);
    totals::calculate(world, &mut draft);
    world.save(kind::INVOICE, &draft);
    id
}

/// The invoice that a change makes at once; or else the next renewal, with what the change leaves for it.
fn of_subscription(world: &mut World, id: &str, details: Option<&Parameters>) -> Result<String, ApiError> {
    let subscription = current(world, id);
    if is_over(&subscription) {
        return Err(ApiError::invalid("No upcoming invoices for customer").code("invoice_upcoming_none"));
    }
    if let Some(details) = details {
        let terms = Terms::read(world, &subscription, details)?;
        if details.flag("cancel_now")?.unwrap_or(false) {
            for item in items::of(&subscription).iter().filter(|_| terms.proration != "none") {
                proration::credit(world, &subscription, item, terms.at);
            }
            return Ok(billing::invoice(world, id, "subscription_update", (terms.at, terms.at), &[]));
        }
        if let Some(invoice) = update::change(world, id, details, &terms)? {
            return Ok(invoice);
        }
    }
    let subscription = current(world, id);
    let end = period(&subscription).1;
    if subscription["cancel_at"].as_i64().is_some_and(|at| at <= end) {
        let waits = invoice_items::pending(
            world,
            subscription["customer"].as_str().unwrap_or_default(),
            subscription["currency"].as_str().unwrap_or_default(),
            Some(id),
        );
        if waits.is_empty() {
            return Err(ApiError::invalid("No upcoming invoices for customer").code("invoice_upcoming_none"));
        }
        return Ok(billing::invoice(world, id, "subscription_cycle", period(&subscription), &[]));
    }
    Ok(cycle::begin_period(world, id, end, "subscription_cycle"))
}
