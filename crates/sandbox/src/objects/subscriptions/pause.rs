//! Pausing: a subscription that rests (docs.stripe.com/api/subscriptions/pause), and one whose invoices are not collected
//! (docs.stripe.com/billing/subscriptions/pause-payment).

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoices::lifecycle;
use crate::objects::invoices::totals::int;
use crate::objects::subscriptions::create::PRORATIONS;
use crate::objects::subscriptions::{billing, change, current, cycle, items, note, period, proration};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

/// `POST /v1/subscriptions/{}/pause`.
pub(crate) fn pause(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let subscription = world.find(kind::SUBSCRIPTION, request.id(), "id")?.clone();
    parameters.word("type", &["subscription"])?;
    let invoicing = parameters.word("invoicing_behavior", &["invoice", "pending_invoice_item"])?;
    let mut unused_from = "now".to_owned();
    if let Some(part) = parameters.part("bill_for")? {
        if let Some(from) = part.part("unused_time_from")? {
            let words = ["item_current_period_start", "none", "now"];
            unused_from = from.word("type", &words)?.ok_or_else(|| from.missing("type"))?;
        }
        if let Some(through) = part.part("outstanding_usage_through")? {
            through.word("type", &["none", "now"])?;
        }
    }
    parameters.finish()?;
    if !["active", "trialing", "past_due", "unpaid"].iter().any(|status| subscription["status"] == *status) {
        let status = subscription["status"].as_str().unwrap_or_default();
        return Err(ApiError::invalid(format!("A subscription that is {status} cannot be paused.")));
    }
    let now = world.now_for(&subscription["customer"]);
    let from = if unused_from == "now" { now } else { period(&subscription).0 };
    let mut credited = false;
    for item in items::of(&subscription).iter().filter(|_| unused_from != "none") {
        credited |= proration::credit(world, &subscription, item, from).is_some();
    }
    if credited && invoicing.as_deref() == Some("invoice") {
        let invoice = billing::invoice(world, request.id(), "subscription_update", (now, now), &[]);
        let _ = billing::collect(world, &invoice, true, true);
    }
    set_paused(world, request.id(), "pause_requested");
    Ok(current(world, request.id()))
}

/// A subscription rests from now on.
pub(crate) fn set_paused(world: &mut World, id: &str, why: &str) {
    let before = current(world, id);
    let mut subscription = before.clone();
    let now = world.now_for(&before["customer"]);
    subscription["status"] = json!("paused");
    subscription["status_details"] =
        json!({"paused": {"subscription": {"type": why}, "transitioned_at": now, "type": "subscription"}});
    change(world, &before, &subscription);
    world.announce("customer.subscription.paused", &subscription);
}

/// `POST /v1/subscriptions/{}/resume`: with the anchor `now` a new period begins, and its invoice is collected.
pub(crate) fn resume(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut subscription = world.find(kind::SUBSCRIPTION, request.id(), "id")?.clone();
    let keep_anchor = anchor_word(parameters)?.as_deref() == Some("unchanged");
    let payment = parameters.word("payment_behavior", &["resume_on_payment_attempt", "resume_on_payment_success"])?;
    let behavior = parameters.word("proration_behavior", PRORATIONS)?;
    let now = world.now_for(&subscription["customer"]);
    let at = parameters.integer("proration_date")?.unwrap_or(now);
    parameters.finish()?;
    if subscription["status"] != "paused" {
        return Err(ApiError::invalid("You can only resume a subscription that is paused."));
    }
    if keep_anchor {
        let anchor = int(&subscription["billing_cycle_anchor"]);
        let natural = items::interval(items::of(&subscription)).around(anchor, now);
        let mut all = items::of(&subscription).to_vec();
        items::set_period(&mut all, natural);
        items::put(world, &mut subscription, &all);
        world.save(kind::SUBSCRIPTION, &subscription);
        let mut debited = false;
        for item in all.iter().filter(|_| behavior.as_deref() != Some("none")) {
            debited |= proration::debit(world, &subscription, item, at).is_some();
        }
        resumed(world, request.id());
        if debited && behavior.as_deref() == Some("always_invoice") {
            let invoice = billing::invoice(world, request.id(), "subscription_update", (now, now), &[]);
            let _ = billing::collect(world, &invoice, true, true);
        }
        return Ok(current(world, request.id()));
    }
    subscription["billing_cycle_anchor"] = json!(now);
    world.save(kind::SUBSCRIPTION, &subscription);
    let invoice = cycle::begin_period(world, request.id(), now, "subscription_update");
    note(world, request.id(), "resuming", json!(invoice));
    if payment.as_deref() != Some("resume_on_payment_success") {
        resumed(world, request.id());
    }
    let _ = billing::collect(world, &invoice, true, true);
    Ok(current(world, request.id()))
}

/// `billing_cycle_anchor` as an object with a `type`, as it is since 2026-09-30.
pub(crate) fn anchor_word(parameters: &Parameters) -> Result<Option<String>, ApiError> {
    match parameters.part("billing_cycle_anchor")? {
        None => Ok(None),
        Some(part) => part.word("type", &["now", "unchanged"])?.ok_or_else(|| part.missing("type")).map(Some),
    }
}

/// A subscription that rested goes on.
pub(crate) fn resumed(world: &mut World, id: &str) {
    note(world, id, "resuming", Value::Null);
    let before = current(world, id);
    if before["status"] != "paused" {
        return;
    }
    let mut subscription = before.clone();
    subscription["status"] = json!("active");
    subscription["status_details"] = Value::Null;
    change(world, &before, &subscription);
    world.announce("customer.subscription.resumed", &subscription);
}

/// Reads `pause_collection`.
pub(crate) fn read_collection(subscription: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    match parameters.part("pause_collection")? {
        Some(part) => {
            let words = ["keep_as_draft", "mark_uncollectible", "void"];
            let behavior = part.word("behavior", &words)?.ok_or_else(|| part.missing("behavior"))?;
            subscription["pause_collection"] = json!({"behavior": behavior, "resumes_at": part.integer("resumes_at")?});
        }
        None if parameters.is_unset("pause_collection") => {
            parameters.unsettable_text("pause_collection")?;
            subscription["pause_collection"] = Value::Null;
        }
        None => {}
    }
    Ok(())
}

/// Does with a new invoice what `pause_collection` says. (`keep_as_draft` is done where the draft is made.)
pub(crate) fn withhold(world: &mut World, subscription: &Value, invoice: &str) {
    let behavior = subscription["pause_collection"]["behavior"].as_str();
    if behavior != Some("void") && behavior != Some("mark_uncollectible") {
        return;
    }
    lifecycle::finalize(world, invoice);
    if lifecycle::current(world, invoice)["status"] != "open" {
        return;
    }
    if behavior == Some("void") {
        lifecycle::void(world, invoice);
    } else {
        lifecycle::mark_uncollectible(world, invoice, "subscription_paused");
    }
}

/// The time until which nothing is collected is over.
pub(crate) fn collect_again(world: &mut World, id: &str) {
    let before = current(world, id);
    let mut subscription = before.clone();
    subscription["pause_collection"] = Value::Null;
    change(world, &before, &subscription);
}
