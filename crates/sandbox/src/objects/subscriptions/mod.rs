//! Subscriptions (docs.stripe.com/api/subscriptions). Beside each lies hidden what Stripe does not show: `debits`, what was
//! billed for each item and the time that it covers (a credit is a part of that, as billing mode `flexible` has it);
//! `trial_told` and `upcoming_told`; `pending`, the change that waits for its invoice; `resuming`, the invoice that a resumption waits for; `cut`,
//! what a cancellation within the period has credited.

pub(crate) mod billing;
pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod cycle;
pub(crate) mod items;
pub(crate) mod pause;
pub(crate) mod pending;
pub(crate) mod proration;
pub(crate) mod update;

use serde_json::{Value, json};

use crate::AfterLastRetry;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::invoices::document::{of_customer, subscription_of};
use crate::request::Request;
use crate::world::World;

/// A subscription as it is now.
pub(crate) fn current(world: &World, id: &str) -> Value {
    world.get(kind::SUBSCRIPTION, id).cloned().unwrap_or_default()
}

/// Stores a changed subscription, and announces what has changed.
pub(crate) fn change(world: &mut World, before: &Value, after: &Value) {
    world.save(kind::SUBSCRIPTION, after);
    world.announce_change("customer.subscription.updated", before, after);
}

/// Writes something beside a subscription.
pub(crate) fn note(world: &mut World, id: &str, field: &str, value: Value) {
    let mut hidden = world.hidden(kind::SUBSCRIPTION, id).clone();
    if !hidden.is_object() {
        hidden = json!({});
    }
    hidden[field] = value;
    world.hide(kind::SUBSCRIPTION, id, hidden);
}

/// Whether a subscription is over for good.
pub(crate) fn is_over(subscription: &Value) -> bool {
    subscription["status"] == "canceled" || subscription["status"] == "incomplete_expired"
}

/// The period that a subscription is in: that of its first item.
pub(crate) fn period(subscription: &Value) -> (i64, i64) {
    let item = &subscription["items"]["data"][0];
    (item["current_period_start"].as_i64().unwrap_or(0), item["current_period_end"].as_i64().unwrap_or(0))
}

/// The payment method that a subscription's invoices are paid with.
pub(crate) fn payment_method(world: &World, subscription: &Value) -> Option<String> {
    let own = subscription["default_payment_method"].as_str().map(str::to_owned);
    own.or_else(|| of_customer(world, &subscription["customer"]))
}

/// The card of a trial is set up: renewals are charged to it.
pub(crate) fn follow_setup(world: &mut World, intent: &Value) {
    let waiting =
        world.all(kind::SUBSCRIPTION).find(|subscription| subscription["pending_setup_intent"] == intent["id"]);
    if intent["status"] == "succeeded"
        && let Some(before) = waiting.cloned()
    {
        let mut subscription = before.clone();
        subscription["pending_setup_intent"] = Value::Null;
        subscription["default_payment_method"] = intent["payment_method"].clone();
        change(world, &before, &subscription);
    }
}

fn set_status(world: &mut World, subscription: &Value, status: &str) {
    let mut changed = subscription.clone();
    changed["status"] = json!(status);
    change(world, subscription, &changed);
}

fn of_invoice(world: &World, invoice: &Value) -> Option<Value> {
    world
        .get(kind::SUBSCRIPTION, subscription_of(invoice)?)
        .filter(|subscription| subscription["deleted"] != true)
        .cloned()
}

/// Shows a changed price wherever a subscription has it.
pub(crate) fn refresh_price(world: &mut World, price: &Value) {
    let having = |subscription: &&Value| items::of(subscription).iter().any(|item| item["price"]["id"] == price["id"]);
    let subscriptions: Vec<Value> = world.all(kind::SUBSCRIPTION).filter(having).cloned().collect();
    for mut subscription in subscriptions {
        let mut all = items::of(&subscription).to_vec();
        for item in all.iter_mut().filter(|item| item["price"]["id"] == price["id"]) {
            items::set_price(item, price);
        }
        if is_over(&subscription) {
            subscription["items"]["data"] = json!(all);
        } else {
            items::put(world, &mut subscription, &all);
        }
        world.save(kind::SUBSCRIPTION, &subscription);
    }
}

/// What the payment of one of its invoices does to a subscription.
pub(crate) fn invoice_paid(world: &mut World, invoice: &Value) {
    let Some(subscription) = of_invoice(world, invoice) else { return };
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    if pending::applies(world, &id, invoice) {
        pending::apply(world, &id);
        return;
    }
    let latest = subscription["latest_invoice"] == invoice["id"];
    match subscription["status"].as_str() {
        Some("incomplete") if invoice["billing_reason"] == "subscription_create" => {
            set_status(world, &subscription, "active");
        }
        Some("past_due" | "unpaid") if latest => set_status(world, &subscription, "active"),
        Some("paused") if world.hidden(kind::SUBSCRIPTION, &id)["resuming"] == invoice["id"] => {
            pause::resumed(world, &id);
        }
        _ => {}
    }
}

/// What an attempt to pay one of its invoices, that did not, does to a subscription; `given_up` if it was the last.
pub(crate) fn invoice_not_paid(world: &mut World, invoice: &Value, given_up: bool) {
    let Some(subscription) = of_invoice(world, invoice) else { return };
    let id = subscription["id"].as_str().unwrap_or_default().to_owned();
    if pending::applies(world, &id, invoice) {
        return;
    }
    if subscription["status"] == "active" || subscription["status"] == "trialing" {
        set_status(world, &subscription, "past_due");
    }
    if !given_up {
        return;
    }
    match world.settings.after_last_retry {
        AfterLastRetry::Cancel => cancel::end(world, &id, Some("payment_failed")),
        AfterLastRetry::Unpaid => set_status(world, &current(world, &id), "unpaid"),
        AfterLastRetry::PastDue => {}
    }
}

/// What voiding one of its invoices does to a subscription.
pub(crate) fn invoice_voided(world: &mut World, invoice: &Value) {
    let Some(subscription) = of_invoice(world, invoice) else { return };
    match subscription["status"].as_str() {
        Some("incomplete") if invoice["billing_reason"] == "subscription_create" => {
            cycle::expire(world, subscription["id"].as_str().unwrap_or_default());
        }
        Some("past_due" | "unpaid") if subscription["latest_invoice"] == invoice["id"] => {
            set_status(world, &subscription, "active");
        }
        _ => {}
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::SUBSCRIPTION, request.id(), "id").cloned()
}

/// Those that are over are only listed where they are asked for.
pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let customer = parameters.text("customer")?;
    let price = parameters.text("price")?;
    let clock = parameters.text("test_clock")?;
    let method = parameters.word("collection_method", &["charge_automatically", "send_invoice"])?;
    let words = [
        "active",
        "all",
        "canceled",
        "ended",
        "incomplete",
        "incomplete_expired",
        "past_due",
        "paused",
        "trialing",
        "unpaid",
    ];
    let status = parameters.word("status", &words)?;
    list::page(world, request, kind::SUBSCRIPTION, |subscription| {
        let wanted = match status.as_deref() {
            None => subscription["status"] != "canceled",
            Some("all") => true,
            Some("ended") => is_over(subscription),
            Some(status) => subscription["status"] == status,
        };
        wanted
            && customer.as_ref().is_none_or(|id| subscription["customer"] == id.as_str())
            && clock.as_ref().is_none_or(|id| subscription["test_clock"] == id.as_str())
            && method.as_ref().is_none_or(|method| subscription["collection_method"] == method.as_str())
            && price
                .as_ref()
                .is_none_or(|id| items::of(subscription).iter().any(|item| item["price"]["id"] == id.as_str()))
    })
}
