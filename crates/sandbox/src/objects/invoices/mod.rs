//! Invoices (docs.stripe.com/api/invoices): what the API can do with one. What happens to it is in `lifecycle` and
//! `collection`, what it comes to in `totals`.

pub(crate) mod collection;
pub(crate) mod document;
pub(crate) mod lifecycle;
pub(crate) mod lines;
pub(crate) mod preview;
pub(crate) mod totals;

use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::invoices::collection::By;
use crate::objects::invoices::document::{DRAFT_FOR, New};
use crate::objects::invoices::lifecycle::Paid;
use crate::objects::{discounts, invoice_items, payment_methods, tax_rates};
use crate::parameters::Parameters;
use crate::period::DAY;
use crate::request::Request;
use crate::world::World;

const METHODS: &[&str] = &["charge_automatically", "send_invoice"];

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let customer = parameters.required_text("customer")?;
    let found = world.find(kind::CUSTOMER, &customer, "customer")?.clone();
    let subscription = match parameters.text("subscription")? {
        None => Value::Null,
        Some(id) => world.find(kind::SUBSCRIPTION, &id, "subscription")?.clone(),
    };
    let behavior = parameters.word("pending_invoice_items_behavior", &["exclude", "include"])?;
    let now = world.now_for(&json!(customer));
    let currency = amount::currency(parameters, "currency")?
        .or_else(|| subscription["currency"].as_str().map(str::to_owned))
        .or_else(|| found["currency"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "usd".to_owned());
    let new = New {
        customer: &customer,
        currency: &currency,
        reason: "manual",
        subscription: &subscription,
        period: (now, now),
    };
    let mut invoice = document::draft(world, &new);
    if !parameters.has("auto_advance") {
        invoice["auto_advance"] = json!(false);
        invoice["automatically_finalizes_at"] = Value::Null;
    }
    fill(world, &mut invoice, parameters)?;
    let discounts = discounts::read(parameters)?;
    parameters.finish()?;
    let id = invoice["id"].as_str().unwrap_or_default().to_owned();
    if let Some(asked) = discounts {
        invoice["discounts"] = discounts::make(world, asked, &found["id"], ("invoice", &id), &currency)?;
    }
    world.save(kind::INVOICE, &invoice);
    let included = if subscription.is_null() {
        behavior.as_deref() == Some("include")
    } else {
        behavior.as_deref() != Some("exclude")
    };
    if included {
        for mut item in invoice_items::pending(world, &customer, &currency, subscription["id"].as_str()) {
            invoice_items::attach(world, &mut item, &id);
        }
    }
    calculate(world, &id);
    let invoice = lifecycle::current(world, &id);
    world.announce("invoice.created", &invoice);
    Ok(invoice)
}

/// What creation and update share.
fn fill(world: &World, invoice: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(invoice, &["description", "footer", "statement_descriptor"])?;
    parameters.copy_metadata(invoice)?;
    let created = invoice["created"].as_i64().unwrap_or(0);
    if let Some(method) = parameters.word("collection_method", METHODS)? {
        invoice["collection_method"] = json!(method);
    }
    let days = parameters.integer("days_until_due")?;
    let date = parameters.integer("due_date")?;
    if (days.is_some() || date.is_some()) && invoice["collection_method"] != "send_invoice" {
        let message = "You can only pass days_until_due or due_date when collection_method is send_invoice.";
        return Err(ApiError::value("days_until_due", message));
    }
    if let Some(due) = date.or(days.map(|days| created + days * DAY)) {
        invoice["due_date"] = json!(due);
    }
    if invoice["collection_method"] == "send_invoice" && invoice["due_date"].is_null() {
        let message =
            "If invoice's collection_method is 'send_invoice', you must specify 'due_date' or 'days_until_due'.";
        return Err(ApiError::value("days_until_due", message));
    }
    if let Some(advance) = parameters.flag("auto_advance")? {
        invoice["auto_advance"] = json!(advance);
        let at = if advance && invoice["status"] == "draft" { json!(created + DRAFT_FOR) } else { Value::Null };
        invoice["automatically_finalizes_at"] = at;
    }
    if let Some(at) = parameters.integer("automatically_finalizes_at")? {
        invoice["automatically_finalizes_at"] = json!(at);
    }
    if let Some(method) = parameters.text("default_payment_method")? {
        check_method(world, &method, &invoice["customer"], "default_payment_method")?;
        invoice["default_payment_method"] = json!(method);
    }
    if let Some(rates) = tax_rates::named(world, parameters, "default_tax_rates")? {
        invoice["default_tax_rates"] = json!(rates);
    }
    for ignored in ["payment_settings", "custom_fields", "rendering", "automatic_tax", "issuer"] {
        parameters.whole(ignored);
    }
    Ok(())
}

/// Refuses a payment method that is not the customer's.
pub(crate) fn check_method(world: &World, id: &str, customer: &Value, param: &str) -> Result<(), ApiError> {
    let method = world.find(kind::PAYMENT_METHOD, id, param)?;
    if method["customer"] == *customer {
        return Ok(());
    }
    let message = format!(
        "The customer does not have a payment method with the ID {id}. The payment method must be attached to the customer."
    );
    Err(ApiError::invalid(message).code("resource_missing").param(param))
}

/// 400: an invoice that is no draft.
pub(crate) fn not_editable() -> ApiError {
    ApiError::invalid("Invoices can only be edited while they are drafts: this one is finalized.")
        .code("invoice_not_editable")
}

/// Whether an invoice can still be changed.
pub(crate) fn is_draft(world: &World, id: &str) -> bool {
    world.get(kind::INVOICE, id).is_some_and(|invoice| invoice["status"] == "draft")
}

/// Writes a draft's amounts anew.
pub(crate) fn calculate(world: &mut World, id: &str) {
    let mut invoice = lifecycle::current(world, id);
    totals::calculate(world, &mut invoice);
    world.save(kind::INVOICE, &invoice);
}

/// Writes a draft's amounts anew, and announces the change.
pub(crate) fn recalculate(world: &mut World, id: &str) {
    let before = lifecycle::current(world, id);
    calculate(world, id);
    let after = lifecycle::current(world, id);
    world.announce_change("invoice.updated", &before, &after);
}

fn draft(world: &World, request: &Request) -> Result<Value, ApiError> {
    let invoice = world.find(kind::INVOICE, request.id(), "id")?;
    if invoice["status"] == "draft" { Ok(invoice.clone()) } else { Err(not_editable()) }
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::INVOICE, request.id(), "id")?.clone();
    let harmless = ["metadata", "auto_advance", "default_payment_method", "description", "statement_descriptor"];
    if before["status"] != "draft" && !parameters.only(&harmless) {
        return Err(not_editable());
    }
    let mut invoice = before.clone();
    fill(world, &mut invoice, parameters)?;
    let discounts = discounts::read(parameters)?;
    parameters.finish()?;
    if let Some(asked) = discounts {
        let currency = before["currency"].as_str().unwrap_or_default();
        invoice["discounts"] = discounts::make(world, asked, &before["customer"], ("invoice", request.id()), currency)?;
    }
    if invoice["status"] == "draft" {
        totals::calculate(world, &mut invoice);
    }
    lifecycle::change(world, &before, &invoice);
    Ok(invoice)
}

/// `POST /v1/invoices/{}/add_lines`.
pub(crate) fn add_lines(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = draft(world, request)?;
    let parts = parameters.parts("lines")?.ok_or_else(|| parameters.missing("lines"))?;
    let customer = before["customer"].as_str().unwrap_or_default().to_owned();
    let currency = before["currency"].as_str().unwrap_or_default().to_owned();
    let mut items = Vec::new();
    for part in &parts {
        items.push(match part.text("invoice_item")? {
            Some(id) => world.find(kind::INVOICE_ITEM, &id, &part.name("invoice_item"))?.clone(),
            None => {
                let item = invoice_items::of_part(world, part, &customer, None, &currency)?;
                invoice_items::store(world, &item);
                item
            }
        });
    }
    parameters.finish()?;
    for item in &mut items {
        invoice_items::attach(world, item, request.id());
    }
    calculate(world, request.id());
    let invoice = lifecycle::current(world, request.id());
    world.announce_change("invoice.updated", &before, &invoice);
    Ok(invoice)
}

/// `GET /v1/invoices/{}/lines`.
pub(crate) fn list_lines(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let invoice = world.find(kind::INVOICE, request.id(), "id")?.clone();
    list::page_of(request, totals::elements(&invoice["lines"]["data"]))
}

/// `POST /v1/invoices/{}/finalize`.
pub(crate) fn finalize(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let advance = request.parameters.flag("auto_advance")?;
    request.parameters.finish()?;
    let mut invoice = world.find(kind::INVOICE, request.id(), "id")?.clone();
    if invoice["status"] != "draft" {
        return Err(ApiError::invalid("This invoice is already finalized, you can't re-finalize it."));
    }
    if let Some(advance) = advance {
        invoice["auto_advance"] = json!(advance);
        world.save(kind::INVOICE, &invoice);
    }
    lifecycle::finalize(world, request.id());
    let mut invoice = lifecycle::current(world, request.id());
    if invoice["status"] == "open"
        && invoice["auto_advance"] == true
        && invoice["collection_method"] == "charge_automatically"
    {
        // Stripe tries to collect about an hour after a finalization by the API.
        invoice["next_payment_attempt"] = json!(world.now_for(&invoice["customer"]) + DRAFT_FOR);
        world.save(kind::INVOICE, &invoice);
    }
    Ok(lifecycle::current(world, request.id()))
}

/// `POST /v1/invoices/{}/pay`.
pub(crate) fn pay(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let invoice = world.find(kind::INVOICE, request.id(), "id")?.clone();
    let out_of_band = parameters.flag("paid_out_of_band")?.unwrap_or(false);
    let off_session = parameters.flag("off_session")?.unwrap_or(true);
    let method = parameters.text("payment_method")?;
    parameters.flag("forgive")?;
    parameters.text("mandate")?;
    parameters.finish()?;
    match invoice["status"].as_str() {
        Some("paid") => return Err(ApiError::invalid("Invoice is already paid")),
        Some("void") => return Err(ApiError::invalid("This invoice is void: it can no longer be paid.")),
        Some("draft") => lifecycle::finalize(world, request.id()),
        _ => {}
    }
    if lifecycle::current(world, request.id())["status"] == "paid" {
        return Ok(lifecycle::current(world, request.id()));
    }
    if out_of_band {
        lifecycle::mark_paid(world, request.id(), Paid::OutOfBand);
        return Ok(lifecycle::current(world, request.id()));
    }
    let method = match method {
        None => None,
        Some(id) => {
            let found = payment_methods::resolve(world, &id, "payment_method")?;
            if !found["customer"].is_null() || !id.starts_with("pm_card_") {
                check_method(world, &id, &invoice["customer"], "payment_method")?;
            }
            found["id"].as_str().map(str::to_owned)
        }
    };
    collection::collect(world, request.id(), method.as_deref(), By::Request { off_session })?;
    Ok(lifecycle::current(world, request.id()))
}

fn in_status(world: &World, request: &Request, statuses: &[&str], done: &str) -> Result<(), ApiError> {
    request.parameters.finish()?;
    let invoice = world.find(kind::INVOICE, request.id(), "id")?;
    let status = invoice["status"].as_str().unwrap_or_default();
    if statuses.contains(&status) {
        return Ok(());
    }
    let message = format!("You can only {done} an invoice that is {}. This one is {status}.", statuses.join(" or "));
    Err(ApiError::invalid(message))
}

/// `POST /v1/invoices/{}/void`.
pub(crate) fn void(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    in_status(world, request, &["open", "uncollectible"], "void")?;
    lifecycle::void(world, request.id());
    Ok(lifecycle::current(world, request.id()))
}

/// `POST /v1/invoices/{}/mark_uncollectible`.
pub(crate) fn mark_uncollectible(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    in_status(world, request, &["open"], "mark as uncollectible")?;
    lifecycle::mark_uncollectible(world, request.id(), "user_forgiven");
    Ok(lifecycle::current(world, request.id()))
}

/// `POST /v1/invoices/{}/send`: no mail leaves the sandbox, but the event does.
pub(crate) fn send(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    in_status(world, request, &["draft", "open"], "send")?;
    if lifecycle::current(world, request.id())["collection_method"] != "send_invoice" {
        let message = "You can only manually send an invoice if its collection method is 'send_invoice'.";
        return Err(ApiError::invalid(message));
    }
    if is_draft(world, request.id()) {
        lifecycle::finalize(world, request.id());
    }
    let invoice = lifecycle::current(world, request.id());
    world.announce("invoice.sent", &invoice);
    Ok(invoice)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::INVOICE, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let customer = parameters.text("customer")?;
    let subscription = parameters.text("subscription")?;
    let status = parameters.word("status", &["draft", "open", "paid", "uncollectible", "void"])?;
    let method = parameters.word("collection_method", METHODS)?;
    list::page(world, request, kind::INVOICE, |invoice| {
        customer.as_ref().is_none_or(|id| invoice["customer"] == id.as_str())
            && status.as_ref().is_none_or(|status| invoice["status"] == status.as_str())
            && method.as_ref().is_none_or(|method| invoice["collection_method"] == method.as_str())
            && subscription.as_deref().is_none_or(|id| document::subscription_of(invoice) == Some(id))
    })
}

/// Deletes a draft that is of no subscription. Its items wait for another invoice.
pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let invoice = world.find(kind::INVOICE, request.id(), "id")?.clone();
    if invoice["status"] != "draft" {
        return Err(ApiError::invalid("You can only delete draft invoices.").code("invoice_not_editable"));
    }
    if document::subscription_of(&invoice).is_some() {
        return Err(ApiError::invalid(
            "You can't delete invoices created by subscriptions. Void them once they are finalized.",
        ));
    }
    for line in totals::elements(&invoice["lines"]["data"]) {
        let item = invoice_items::item_of(line).and_then(|id| world.get(kind::INVOICE_ITEM, id)).cloned();
        if let Some(mut item) = item {
            item["invoice"] = Value::Null;
            world.save(kind::INVOICE_ITEM, &item);
        }
    }
    world.announce("invoice.deleted", &invoice);
    Ok(world.delete(kind::INVOICE, request.id()))
}
