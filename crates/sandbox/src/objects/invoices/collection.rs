//! How an invoice's money is collected: one attempt, what follows from it, and when the next one is.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoices::document::{payment_method, subscription_of};
use crate::objects::invoices::lifecycle::{self, Paid, change, current};
use crate::objects::invoices::totals::int;
use crate::objects::{invoice_payments, subscriptions};
use crate::payment::{self, Attempt, Outcome};
use crate::time::Due;
use crate::world::World;

/// Who tries to collect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The schedule: a renewal, or a retry.
    Schedule,
    /// A request; whether the customer is away.
    Request { off_session: bool },
}

/// Tries to pay an open invoice with a payment method, or its default one. An error says why it is still open: the decline, or
/// that the customer must act.
pub(crate) fn collect(world: &mut World, id: &str, method: Option<&str>, by: By) -> Result<(), ApiError> {
    let invoice = current(world, id);
    let chosen = method.map(str::to_owned).or_else(|| payment_method(world, &invoice));
    if invoice_payments::intent_of(world, id).is_none() {
        // Somebody has cancelled the payment intent: another one takes its place.
        lifecycle::request_payment(world, &invoice);
    }
    let intent = invoice_payments::intent_of(world, id);
    let (Some(chosen), Some(intent)) = (chosen, intent) else {
        let error = no_method();
        if by == By::Schedule {
            failed(world, id, by, false);
        }
        return Err(error);
    };
    let attempt = Attempt {
        payment_method: &chosen,
        off_session: by != By::Request { off_session: false },
        return_url: None,
        error_on_action: false,
        authenticated: false,
    };
    match payment::attempt(world, &intent, &attempt) {
        Outcome::Succeeded | Outcome::Capturable => {
            lifecycle::mark_paid(world, id, Paid::ByPayment);
            Ok(())
        }
        Outcome::ActionRequired => {
            action_required(world, id);
            Err(ApiError::card("invoice_payment_intent_requires_action", None, REQUIRES_ACTION)
                .with("payment_intent", world.get(kind::PAYMENT_INTENT, &intent).cloned().unwrap_or_default()))
        }
        Outcome::Declined(error) => {
            failed(world, id, by, error.text("code") == Some("authentication_required"));
            Err(error)
        }
    }
}

const REQUIRES_ACTION: &str = "This payment requires additional user action before it can be completed successfully. Payment \
                               can be completed using the PaymentIntent associated with the invoice.";

/// 400: nothing to pay with.
pub(crate) fn no_method() -> ApiError {
    ApiError::invalid(
        "There is no `default_payment_method` set on this Customer or Invoice. Please set either value before attempting to \
         pay this Invoice.",
    )
}

/// The customer must pass 3-D Secure before the invoice is paid.
fn action_required(world: &mut World, id: &str) {
    let before = current(world, id);
    let mut invoice = before.clone();
    invoice["attempted"] = json!(true);
    invoice["attempt_count"] = json!(int(&before["attempt_count"]).max(1));
    change(world, &before, &invoice);
    world.announce("invoice.payment_action_required", &invoice);
    subscriptions::invoice_not_paid(world, &invoice, false);
}

/// An attempt has failed: the invoice stays open, and is tried again by the schedule.
fn failed(world: &mut World, id: &str, by: By, wants_action: bool) {
    let before = current(world, id);
    let mut invoice = before.clone();
    let count = int(&before["attempt_count"]);
    // The first attempt counts, whoever makes it; then only those of the schedule do.
    let attempts = if by == By::Schedule || count == 0 { count + 1 } else { count };
    invoice["attempted"] = json!(true);
    invoice["attempt_count"] = json!(attempts);
    let scheduled = by == By::Schedule || count == 0;
    if scheduled {
        invoice["next_payment_attempt"] = next_attempt(world, &invoice, attempts);
    }
    let given_up = scheduled && is_retried(world, &invoice) && invoice["next_payment_attempt"].is_null();
    change(world, &before, &invoice);
    world.announce("invoice.payment_failed", &invoice);
    if wants_action {
        world.announce("invoice.payment_action_required", &invoice);
    }
    set_delinquent(world, &invoice);
    subscriptions::invoice_not_paid(world, &invoice, given_up);
}

fn set_delinquent(world: &mut World, invoice: &Value) {
    if is_retried(world, invoice) {
        lifecycle::set_delinquent(world, invoice, true);
    }
}

/// Whether the schedule tries an invoice again: not the first of a subscription, which waits for its customer.
fn is_retried(world: &World, invoice: &Value) -> bool {
    let subscription = subscription_of(invoice).and_then(|id| world.get(kind::SUBSCRIPTION, id));
    let status = subscription.map_or(&Value::Null, |subscription| &subscription["status"]);
    let waits = ["incomplete", "incomplete_expired", "canceled", "paused"].iter().any(|word| status == word);
    invoice["auto_advance"] == true && invoice["collection_method"] == "charge_automatically" && !waits
}

fn next_attempt(world: &World, invoice: &Value, attempts: i64) -> Value {
    let index = usize::try_from(attempts - 1).unwrap_or(usize::MAX);
    let pause = world.settings.invoice_retries.get(index).filter(|_| is_retried(world, invoice));
    let now = world.now_for(&invoice["customer"]);
    pause.map_or(Value::Null, |pause| json!(now + i64::try_from(pause.as_secs()).unwrap_or(0)))
}

/// What follows for an invoice when its payment intent has changed in another way than by `collect`: confirmed by a browser,
/// passed or failed 3-D Secure.
pub(crate) fn follow(world: &mut World, intent: &Value) {
    let Some(id) = invoice_payments::open_invoice_of(world, intent) else { return };
    match intent["status"].as_str() {
        Some("succeeded") => {
            remember_method(world, &id, intent);
            lifecycle::mark_paid(world, &id, Paid::ByPayment);
        }
        Some("requires_action") => action_required(world, &id),
        Some("requires_payment_method") if !intent["last_payment_error"].is_null() => {
            failed(world, &id, By::Request { off_session: false }, false);
        }
        Some("canceled") => {
            invoice_payments::cancel(world, &id);
        }
        _ => {}
    }
}

/// A subscription that keeps what its first payment was made with.
fn remember_method(world: &mut World, invoice: &str, intent: &Value) {
    let invoice = current(world, invoice);
    if let Some(id) = subscription_of(&invoice)
        && let Some(mut subscription) = world.get(kind::SUBSCRIPTION, id).cloned()
        && subscription["payment_settings"]["save_default_payment_method"] == "on_subscription"
    {
        let before = subscription.clone();
        subscription["default_payment_method"] = intent["payment_method"].clone();
        subscriptions::change(world, &before, &subscription);
    }
}

/// Drafts that finalize themselves, payments that are tried again, and due dates that pass.
pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for invoice in world.all(kind::INVOICE) {
        let Some(id) = invoice["id"].as_str() else { continue };
        let clock = invoice["test_clock"].as_str().map(str::to_owned);
        let mut add = |at: Option<i64>, what, run| {
            if let Some(at) = at {
                found.push(Due { at, what, id: id.to_owned(), clock: clock.clone(), run });
            }
        };
        match invoice["status"].as_str() {
            Some("draft") => {
                add(invoice["automatically_finalizes_at"].as_i64(), "invoice.finalize", advance);
            }
            Some("open") => {
                add(invoice["next_payment_attempt"].as_i64(), "invoice.pay", retry);
                let told = world.hidden(kind::INVOICE, id)["overdue"] == true;
                let due = invoice["due_date"].as_i64().filter(|_| !told);
                add(due, "invoice.overdue", overdue);
            }
            _ => {}
        }
    }
}

/// Finalizes a draft whose time has come, and collects or sends it.
fn advance(world: &mut World, id: &str) {
    lifecycle::finalize(world, id);
    let invoice = current(world, id);
    if invoice["status"] != "open" || invoice["auto_advance"] != true {
        return;
    }
    if invoice["collection_method"] == "send_invoice" {
        world.announce("invoice.sent", &invoice);
    } else {
        retry(world, id);
    }
}

fn retry(world: &mut World, id: &str) {
    let before = current(world, id);
    let mut invoice = before.clone();
    invoice["next_payment_attempt"] = Value::Null;
    world.save(kind::INVOICE, &invoice);
    // What went wrong is told by events and by the invoice.
    let _ = collect(world, id, None, By::Schedule);
}

fn overdue(world: &mut World, id: &str) {
    world.hide(kind::INVOICE, id, json!({"overdue": true}));
    let invoice = current(world, id);
    world.announce("invoice.overdue", &invoice);
    subscriptions::invoice_not_paid(world, &invoice, false);
}
