//! The end of a subscription: now, at a time, or at the end of the period.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoice_items;
use crate::objects::invoices::document::subscription_of;
use crate::objects::invoices::lifecycle;
use crate::objects::subscriptions::{billing, current, cycle, is_over, items, note, period, proration};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

const FEEDBACK: &[&str] = &[
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
];

/// `DELETE /v1/subscriptions/{}`.
pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut subscription = world.find(kind::SUBSCRIPTION, request.id(), "id")?.clone();
    let invoice_now = parameters.flag("invoice_now")?.unwrap_or(false);
    let prorate = parameters.flag("prorate")?.unwrap_or(false);
    read_details(&mut subscription, parameters)?;
    parameters.finish()?;
    if is_over(&subscription) {
        return Err(ApiError::missing(kind::SUBSCRIPTION, request.id(), "id"));
    }
    world.save(kind::SUBSCRIPTION, &subscription);
    if subscription["status"] == "incomplete" {
        let invoice = subscription["latest_invoice"].as_str().unwrap_or_default().to_owned();
        if lifecycle::current(world, &invoice)["status"] == "open" {
            lifecycle::void(world, &invoice);
        }
        cycle::expire(world, request.id());
        return Ok(current(world, request.id()));
    }
    let now = world.now_for(&subscription["customer"]);
    if prorate {
        for item in items::of(&subscription) {
            proration::credit(world, &subscription, item, now);
        }
    }
    if invoice_now && has_pending(world, &subscription) {
        let invoice = billing::invoice(world, request.id(), "subscription_update", (now, now), &[]);
        // An invoice that is not paid does not keep the subscription.
        let _ = billing::collect(world, &invoice, true, true);
    }
    end(world, request.id(), Some("cancellation_requested"));
    Ok(current(world, request.id()))
}

fn has_pending(world: &World, subscription: &Value) -> bool {
    let text = |field: &str| subscription[field].as_str().unwrap_or_default();
    !invoice_items::pending(world, text("customer"), text("currency"), subscription["id"].as_str()).is_empty()
}

/// Ends a subscription now. Its invoices are collected no more by themselves.
pub(crate) fn end(world: &mut World, id: &str, reason: Option<&str>) {
    let mut subscription = current(world, id);
    let now = world.now_for(&subscription["customer"]);
    subscription["status"] = json!("canceled");
    subscription["ended_at"] = json!(now);
    if subscription["canceled_at"].is_null() {
        subscription["canceled_at"] = json!(now);
    }
    if let Some(reason) = reason {
        subscription["cancellation_details"]["reason"] = json!(reason);
    }
    subscription["pending_update"] = Value::Null;
    world.save(kind::SUBSCRIPTION, &subscription);
    let open: Vec<Value> = world
        .all(kind::INVOICE)
        .filter(|invoice| {
            subscription_of(invoice) == Some(id) && (invoice["status"] == "open" || invoice["status"] == "draft")
        })
        .cloned()
        .collect();
    for before in open {
        let mut invoice = before.clone();
        invoice["auto_advance"] = json!(false);
        invoice["automatically_finalizes_at"] = Value::Null;
        invoice["next_payment_attempt"] = Value::Null;
        lifecycle::change(world, &before, &invoice);
    }
    world.announce("customer.subscription.deleted", &subscription);
}

/// The end that was asked for has come. What is pending is billed.
pub(crate) fn at_time(world: &mut World, id: &str) {
    let subscription = current(world, id);
    if has_pending(world, &subscription) {
        let invoice = billing::invoice(world, id, "subscription_cycle", period(&subscription), &[]);
        let _ = billing::collect(world, &invoice, true, true);
    }
    end(world, id, None);
}

/// Credits what is billed beyond a cancellation within the period, unless nothing is to be prorated; what an earlier wish to
/// cancel has credited is taken back first.
pub(crate) fn cut(world: &mut World, id: &str, behavior: &str) {
    let before = world.hidden(kind::SUBSCRIPTION, id)["cut"].clone();
    for credit in before["items"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        invoice_items::take_back(world, credit);
    }
    if before.is_object() {
        note(world, id, "debits", before["debits"].clone());
        note(world, id, "cut", Value::Null);
    }
    let subscription = current(world, id);
    let (_, end) = period(&subscription);
    let Some(at) = subscription["cancel_at"].as_i64().filter(|at| *at < end && behavior != "none") else { return };
    let debits = world.hidden(kind::SUBSCRIPTION, id)["debits"].clone();
    let mut credits = Vec::new();
    for item in items::of(&subscription) {
        credits.extend(proration::credit(world, &subscription, item, at).map(|credit| credit["id"].clone()));
    }
    note(world, id, "cut", json!({"items": credits, "debits": debits}));
}

/// Ends all subscriptions of a customer who is deleted.
pub(crate) fn end_all_of(world: &mut World, customer: &str) {
    let ids: Vec<String> = world
        .all(kind::SUBSCRIPTION)
        .filter(|subscription| subscription["customer"] == customer && !is_over(subscription))
        .filter_map(|subscription| subscription["id"].as_str().map(str::to_owned))
        .collect();
    for id in ids {
        end(world, &id, None);
    }
}

fn read_details(subscription: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    let Some(part) = parameters.part("cancellation_details")? else { return Ok(()) };
    part.copy_texts(&mut subscription["cancellation_details"], &["comment"])?;
    if let Some(feedback) = part.word("feedback", FEEDBACK)? {
        subscription["cancellation_details"]["feedback"] = json!(feedback);
    }
    Ok(())
}

/// Reads `cancel_at_period_end`, `cancel_at` and `cancellation_details` into a subscription whose period is known.
pub(crate) fn read(subscription: &mut Value, parameters: &Parameters, now: i64) -> Result<(), ApiError> {
    let at_end = parameters.flag("cancel_at_period_end")?;
    let at = match parameters.unsettable_text("cancel_at")? {
        None => None,
        Some(None) => Some(None),
        Some(Some(word)) if word == "min_period_end" || word == "max_period_end" => Some(Some(period(subscription).1)),
        Some(Some(_)) => Some(parameters.integer("cancel_at")?),
    };
    read_details(subscription, parameters)?;
    if at_end == Some(true) && at.flatten().is_some() {
        let message = "You may only specify one of these parameters: cancel_at, cancel_at_period_end.";
        return Err(ApiError::value(&parameters.name("cancel_at"), message));
    }
    if at.flatten().is_some_and(|at| at <= now) {
        let message = "cancel_at must be a timestamp in the future.";
        return Err(ApiError::value(&parameters.name("cancel_at"), message));
    }
    let end = match (at_end, at) {
        (Some(true), _) => Some(period(subscription).1),
        (_, Some(at)) => at,
        (Some(false), None) => None,
        (None, None) => return Ok(()),
    };
    subscription["cancel_at_period_end"] = json!(at_end == Some(true));
    subscription["cancel_at"] = json!(end);
    let asked = end.is_some();
    subscription["canceled_at"] = if asked { json!(now) } else { Value::Null };
    subscription["cancellation_details"]["reason"] = if asked { json!("cancellation_requested") } else { Value::Null };
    Ok(())
}
