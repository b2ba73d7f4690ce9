//! A new subscription: its first period, its first invoice, and what becomes of that by `payment_behavior`.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoices::check_method;
use crate::objects::invoices::lifecycle;
use crate::objects::invoices::lines::full_cost;
use crate::objects::invoices::totals::int;
use crate::objects::prices::share;
use crate::objects::subscriptions::billing::{self, Charge};
use crate::objects::subscriptions::{cancel, current, cycle, items, note, payment_method};
use crate::objects::{discounts, invoice_items, setup_intents, tax_rates};
use crate::parameters::Parameters;
use crate::period::DAY;
use crate::request::Request;
use crate::world::World;

pub(crate) const PRORATIONS: &[&str] = &["always_invoice", "create_prorations", "none"];

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let behavior = request
        .parameters
        .word(
            "payment_behavior",
            &["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"],
        )?
        .unwrap_or_else(|| "allow_incomplete".to_owned());
    let off_session = request.parameters.flag("off_session")?.unwrap_or(false);
    if behavior == "pending_if_incomplete" {
        let message = "payment_behavior pending_if_incomplete can only be used to update a subscription.";
        return Err(ApiError::value("payment_behavior", message));
    }
    let invoice = begin(world, &request.parameters)?;
    request.parameters.finish()?;
    let document = lifecycle::current(world, &invoice);
    let id = document["parent"]["subscription_details"]["subscription"].as_str().unwrap_or_default().to_owned();
    let subscription = current(world, &id);
    world.announce("customer.subscription.created", &subscription);
    cycle::tell_trial_end(world, &id);
    if subscription["status"] == "active" && subscription["collection_method"] == "send_invoice" {
        return Ok(subscription);
    }
    let try_now = behavior != "default_incomplete";
    if subscription["status"] == "incomplete"
        && try_now
        && int(&document["amount_due"]) > 0
        && payment_method(world, &subscription).is_none()
    {
        return Err(no_method());
    }
    match billing::collect(world, &invoice, try_now, off_session) {
        Err(error) if behavior == "error_if_incomplete" => Err(as_error(error)),
        // What is not paid leaves the subscription incomplete.
        Ok(()) | Err(_) => Ok(current(world, &id)),
    }
}

/// 400: nothing to pay the first invoice with.
fn no_method() -> ApiError {
    ApiError::invalid(
        "This customer has no attached payment source or default payment method. Please consider adding a default payment \
         method. For more information, visit https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
    )
    .code("resource_missing")
}

/// The error of a request that would rather have nothing than a payment that is not made.
pub(crate) fn as_error(error: ApiError) -> ApiError {
    if error.text("code") != Some("invoice_payment_intent_requires_action") {
        return error.undoing();
    }
    let message = "Payment for this subscription requires additional user action before it can be completed successfully. \
                   Payment can be completed using the PaymentIntent associated with `subscription.latest_invoice`.";
    ApiError::card("subscription_payment_intent_requires_action", None, message).undoing()
}

/// Stores a subscription of what the parameters say, with its first invoice as a draft, whose id it gives. The subscription
/// is not announced.
pub(crate) fn begin(world: &mut World, parameters: &Parameters) -> Result<String, ApiError> {
    let customer = parameters.required_text("customer")?;
    world.find(kind::CUSTOMER, &customer, "customer")?;
    let now = world.now_for(&json!(customer));
    let mut subscription = blank(world, &customer, now);
    let Some(changes) = items::read(world, &subscription, parameters)? else { return Err(parameters.missing("items")) };
    let mut items = items::after(&changes);
    let first = items.first().cloned().unwrap_or_default();
    subscription["currency"] = first["price"]["currency"].clone();
    let currency = subscription["currency"].as_str().unwrap_or_default().to_owned();
    fill(world, &mut subscription, parameters)?;
    let behavior = parameters.word("proration_behavior", PRORATIONS)?;
    let trial_end = trial_end(parameters, now, &first)?;
    let period = first_period(&mut subscription, parameters, now, trial_end, &items)?;
    items::set_period(&mut items, period);
    items::put(world, &mut subscription, &items);
    cancel::read(&mut subscription, parameters, now)?;
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    let asked = discounts::read(parameters)?;
    world.save(kind::SUBSCRIPTION, &subscription);
    if let Some(asked) = asked {
        subscription["discounts"] = discounts::make(world, asked, &json!(customer), ("subscription", &id), &currency)?;
        world.save(kind::SUBSCRIPTION, &subscription);
    }
    for part in parameters.parts("add_invoice_items")?.unwrap_or_default() {
        let item = invoice_items::of_part(world, &part, &customer, Some(&id), &currency)?;
        invoice_items::store(world, &item);
    }
    note(world, &id, "debits", json!({}));
    let natural = items::interval(&items).around(int(&subscription["billing_cycle_anchor"]), period.0);
    // A cancellation within the first period makes what is billed shorter.
    let ends = subscription["cancel_at"].as_i64().filter(|_| behavior.as_deref() != Some("none"));
    let period = (period.0, ends.map_or(period.1, |at| at.min(period.1)));
    let free = trial_end.is_some() || (behavior.as_deref() == Some("none") && period.0 != natural.0);
    let charge = |world: &World, item: &Value| {
        let cost = if free { 0 } else { share(full_cost(world, item), period.1 - period.0, natural.1 - natural.0) };
        Charge { item: item.clone(), cost, period, in_trial: trial_end.is_some() }
    };
    let charges: Vec<Charge> = items.iter().map(|item| charge(world, item)).collect();
    if trial_end.is_some() && payment_method(world, &subscription).is_none() {
        let intent = setup_intents::make(world, &json!(customer), &json!({}));
        subscription["pending_setup_intent"] = intent["id"].clone();
        world.save(kind::SUBSCRIPTION, &subscription);
    }
    Ok(billing::invoice(world, &id, "subscription_create", (now, now), &charges))
}

/// The end of the trial, if there is to be one.
pub(crate) fn trial_end(parameters: &Parameters, now: i64, first: &Value) -> Result<Option<i64>, ApiError> {
    let days = parameters.integer("trial_period_days")?;
    let from_plan = parameters.flag("trial_from_plan")?.unwrap_or(false);
    let end = match parameters.text("trial_end")?.as_deref() {
        None => None,
        Some("now") => return Ok(None),
        Some(_) => parameters.integer("trial_end")?,
    };
    if end.is_some() && days.is_some() {
        let message = "You may only specify one of these parameters: trial_end, trial_period_days.";
        return Err(ApiError::value(&parameters.name("trial_end"), message));
    }
    let days = days.or_else(|| first["price"]["recurring"]["trial_period_days"].as_i64().filter(|_| from_plan));
    let end = end.or(days.filter(|days| *days > 0).map(|days| now + days * DAY));
    if end.is_some_and(|end| end <= now) {
        let message = "Invalid timestamp: must be an integer Unix timestamp in the future.";
        return Err(ApiError::value(&parameters.name("trial_end"), message));
    }
    if end.is_some_and(|end| end > now + 5 * 366 * DAY) {
        let message = "Invalid timestamp: can be no more than five years in the future.";
        return Err(ApiError::value(&parameters.name("trial_end"), message));
    }
    Ok(end)
}

fn first_period(
    subscription: &mut Value,
    parameters: &Parameters,
    now: i64,
    trial_end: Option<i64>,
    items: &[Value],
) -> Result<(i64, i64), ApiError> {
    let anchor = parameters.integer("billing_cycle_anchor")?;
    let interval = items::interval(items);
    if let Some(end) = trial_end {
        subscription["status"] = json!("trialing");
        subscription["trial_start"] = json!(now);
        subscription["trial_end"] = json!(end);
        subscription["billing_cycle_anchor"] = json!(anchor.unwrap_or(end));
        return Ok((now, end));
    }
    if subscription["collection_method"] == "send_invoice" {
        subscription["status"] = json!("active");
    }
    let Some(anchor) = anchor else { return Ok((now, interval.start(now, 1))) };
    if anchor < now {
        let message = "billing_cycle_anchor must be a timestamp in the future.";
        return Err(ApiError::value(&parameters.name("billing_cycle_anchor"), message));
    }
    if anchor > interval.start(now, 1) {
        let message = format!(
            "billing_cycle_anchor cannot be later than next natural billing date ({}) for plan",
            interval.start(now, 1)
        );
        return Err(ApiError::value(&parameters.name("billing_cycle_anchor"), message));
    }
    subscription["billing_cycle_anchor"] = json!(anchor);
    Ok((now, if anchor == now { interval.start(now, 1) } else { anchor }))
}

/// What creation and update share.
pub(crate) fn fill(world: &World, subscription: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(subscription, &["description"])?;
    parameters.copy_metadata(subscription)?;
    if let Some(method) = parameters.unsettable_text("default_payment_method")? {
        if let Some(id) = &method {
            check_method(world, id, &subscription["customer"], "default_payment_method")?;
        }
        subscription["default_payment_method"] = json!(method);
    }
    if let Some(method) = parameters.word("collection_method", &["charge_automatically", "send_invoice"])? {
        subscription["collection_method"] = json!(method);
    }
    if let Some(days) = parameters.integer("days_until_due")? {
        subscription["days_until_due"] = json!(days);
    }
    let sends = subscription["collection_method"] == "send_invoice";
    if sends && subscription["days_until_due"].is_null() {
        let message = "If collection_method is 'send_invoice', you must specify 'days_until_due'.";
        return Err(ApiError::value(&parameters.name("days_until_due"), message));
    }
    if let Some(rates) = tax_rates::named(world, parameters, "default_tax_rates")? {
        subscription["default_tax_rates"] = json!(rates);
    }
    if let Some(part) = parameters.part("payment_settings")? {
        if let Some(save) = part.word("save_default_payment_method", &["off", "on_subscription"])? {
            subscription["payment_settings"]["save_default_payment_method"] = json!(save);
        }
        part.whole("payment_method_options");
        part.whole("payment_method_types");
    }
    if let Some(part) = parameters.part("trial_settings")?
        && let Some(end) = part.part("end_behavior")?
        && let Some(word) = end.word("missing_payment_method", &["cancel", "create_invoice", "pause"])?
    {
        subscription["trial_settings"]["end_behavior"]["missing_payment_method"] = json!(word);
    }
    for ignored in ["automatic_tax", "invoice_settings", "billing_mode"] {
        parameters.whole(ignored);
    }
    Ok(())
}

fn blank(world: &mut World, customer: &str, now: i64) -> Value {
    let id = world.new_id(kind::SUBSCRIPTION);
    json!({
        "id": id,
        "object": "subscription",
        "application": null,
        "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": now,
        "billing_cycle_anchor_config": null,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": now},
        "billing_schedules": [],
        "billing_thresholds": null,
        "cancel_at": null,
        "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": "charge_automatically",
        "created": now,
        "currency": null,
        "customer": customer,
        "customer_account": null,
        "days_until_due": null,
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "ended_at": null,
        "invoice_settings": {"account_tax_ids": null, "issuer": {"type": "self"}},
        "items": {
            "object": "list", "data": [], "has_more": false, "url": format!("/v1/subscription_items?subscription={id}")
        },
        "latest_invoice": null,
        "livemode": false,
        "managed_payments": null,
        "metadata": {},
        "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off"
        },
        "pending_invoice_item_interval": null,
        "pending_setup_intent": null,
        "pending_update": null,
        "schedule": null,
        "start_date": now,
        "status": "incomplete",
        "status_details": null,
        "test_clock": world.test_clock_of(&json!(customer)),
        "transfer_data": null,
        "trial_end": null,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": null,
    })
}
