//! From draft to open, and from there to paid, void or uncollectible (docs.stripe.com/invoicing/overview#invoice-statuses).

use serde_json::{Value, json};

use crate::kind;
use crate::objects::invoices::document::{payment_method, subscription_of};
use crate::objects::invoices::totals::{self, int};
use crate::objects::{invoice_payments, payment_intents, subscriptions};
use crate::world::World;

/// How an invoice came to be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paid {
    /// Nothing was due.
    NothingDue,
    /// By its payment intent.
    ByPayment,
    /// Outside of Stripe.
    OutOfBand,
}

/// An invoice as it is now.
pub(crate) fn current(world: &World, id: &str) -> Value {
    world.get(kind::INVOICE, id).cloned().unwrap_or_default()
}

/// Stores a changed invoice, and announces what has changed.
pub(crate) fn change(world: &mut World, before: &Value, after: &Value) {
    world.save(kind::INVOICE, after);
    world.announce_change("invoice.updated", before, after);
}

/// Finalizes a draft: it gets its number, its page and, if something is due, a payment intent. Nothing due: it is paid.
pub(crate) fn finalize(world: &mut World, id: &str) {
    let mut invoice = current(world, id);
    let now = world.now_for(&invoice["customer"]);
    totals::calculate(world, &mut invoice);
    let ending = take_balance(world, &mut invoice);
    let base = world.base.clone();
    let page = format!("{base}/pages/{}/invoices/{id}", world.name);
    invoice["ending_balance"] = json!(ending);
    invoice["status"] = json!("open");
    invoice["automatically_finalizes_at"] = Value::Null;
    invoice["effective_at"] = json!(now);
    invoice["status_transitions"]["finalized_at"] = json!(now);
    invoice["invoice_pdf"] = json!(format!("{page}/pdf"));
    invoice["hosted_invoice_url"] = json!(page);
    world.save(kind::INVOICE, &invoice);
    world.announce("invoice.finalized", &invoice);
    if int(&invoice["amount_due"]) > 0 {
        request_payment(world, &invoice);
    } else {
        mark_paid(world, id, Paid::NothingDue);
    }
}

/// Numbers an invoice, and settles it with the customer's balance. The balance after it.
fn take_balance(world: &mut World, invoice: &mut Value) -> i64 {
    let id = invoice["customer"].as_str().unwrap_or_default().to_owned();
    let Some(before) = world.get(kind::CUSTOMER, &id).cloned() else { return 0 };
    let (_, ending) = totals::settle(
        int(&invoice["total"]),
        int(&before["balance"]),
        invoice["currency"].as_str().unwrap_or_default(),
    );
    let number = int(&before["next_invoice_sequence"]);
    let prefix = before["invoice_prefix"].as_str().unwrap_or_default();
    invoice["number"] = json!(format!("{prefix}-{number:04}"));
    if before["deleted"] == true {
        return ending;
    }
    let mut customer = before.clone();
    customer["balance"] = json!(ending);
    customer["next_invoice_sequence"] = json!(number + 1);
    if customer["currency"].is_null() {
        customer["currency"] = invoice["currency"].clone();
    }
    world.save(kind::CUSTOMER, &customer);
    if customer["balance"] != before["balance"] {
        world.announce_change("customer.updated", &before, &customer);
    }
    ending
}

/// Makes the payment intent that is to pay an open invoice.
pub(crate) fn request_payment(world: &mut World, invoice: &Value) {
    let for_later = invoice["billing_reason"] == "subscription_create";
    let description = match subscription_of(invoice) {
        Some(_) if for_later => "Subscription creation",
        Some(_) => "Subscription update",
        None => "Invoice payment",
    };
    let new = payment_intents::New {
        amount: int(&invoice["amount_due"]),
        currency: invoice["currency"].as_str().unwrap_or_default(),
        customer: &invoice["customer"],
        description: Some(description),
        setup_future_usage: for_later.then_some("off_session"),
        capture_method: "automatic",
        metadata: &Value::Null,
    };
    let mut intent = payment_intents::make(world, &new);
    // An invoice has its own payment settings, and the payment method that it would be collected with waits on the intent.
    intent["automatic_payment_methods"] = Value::Null;
    if let Some(method) =
        payment_method(world, invoice).filter(|_| invoice["collection_method"] == "charge_automatically")
    {
        intent["payment_method"] = json!(method);
        intent["status"] = json!("requires_confirmation");
    }
    world.save(kind::PAYMENT_INTENT, &intent);
    invoice_payments::make(world, invoice, &intent);
}

/// An open invoice is paid.
pub(crate) fn mark_paid(world: &mut World, id: &str, how: Paid) {
    let before = current(world, id);
    let mut invoice = before.clone();
    let now = world.now_for(&invoice["customer"]);
    invoice["status"] = json!("paid");
    invoice["attempted"] = json!(true);
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = json!(0);
    invoice["status_transitions"]["paid_at"] = json!(now);
    if how == Paid::ByPayment && before["attempt_count"] == 0 {
        invoice["attempt_count"] = json!(1);
    }
    if how == Paid::OutOfBand {
        invoice["amount_paid_off_stripe"] = invoice["amount_due"].clone();
        drop_payment(world, id);
    }
    change(world, &before, &invoice);
    let payment = if how == Paid::ByPayment { invoice_payments::mark_paid(world, &invoice) } else { Value::Null };
    world.announce("invoice.paid", &invoice);
    if how != Paid::OutOfBand {
        world.announce("invoice.payment_succeeded", &invoice);
    }
    if !payment.is_null() {
        world.announce("invoice_payment.paid", &payment);
    }
    set_delinquent(world, &invoice, false);
    subscriptions::invoice_paid(world, &invoice);
}

/// Whether the customer owes a payment that was tried.
pub(crate) fn set_delinquent(world: &mut World, invoice: &Value, delinquent: bool) {
    let Some(before) = invoice["customer"].as_str().and_then(|id| world.get(kind::CUSTOMER, id)).cloned() else {
        return;
    };
    if before["deleted"] == true || before["delinquent"] == delinquent {
        return;
    }
    let mut customer = before.clone();
    customer["delinquent"] = json!(delinquent);
    world.save(kind::CUSTOMER, &customer);
    world.announce_change("customer.updated", &before, &customer);
}

/// Cancels the payment intent of an invoice that needs it no more.
fn drop_payment(world: &mut World, invoice: &str) {
    let Some(intent) = invoice_payments::cancel(world, invoice) else { return };
    let open = world
        .get(kind::PAYMENT_INTENT, &intent)
        .is_some_and(|intent| intent["status"] != "succeeded" && intent["status"] != "canceled");
    if open {
        payment_intents::cancel_as(world, &intent, Some("void_invoice"));
    }
}

/// Voids an open or uncollectible invoice. What it took from the customer's balance goes back.
pub(crate) fn void(world: &mut World, id: &str) {
    let mut invoice = current(world, id);
    let now = world.now_for(&invoice["customer"]);
    invoice["status"] = json!("void");
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["status_transitions"]["voided_at"] = json!(now);
    drop_payment(world, id);
    world.save(kind::INVOICE, &invoice);
    let taken = int(&invoice["ending_balance"]) - int(&invoice["starting_balance"]);
    let customer = invoice["customer"].as_str().and_then(|id| world.find(kind::CUSTOMER, id, "id").ok()).cloned();
    if let Some(before) = customer.filter(|_| taken != 0) {
        let mut customer = before.clone();
        customer["balance"] = json!(int(&before["balance"]) - taken);
        world.save(kind::CUSTOMER, &customer);
        world.announce_change("customer.updated", &before, &customer);
    }
    world.announce("invoice.voided", &invoice);
    subscriptions::invoice_voided(world, &invoice);
}

/// Gives an open invoice up. It can still be paid.
pub(crate) fn mark_uncollectible(world: &mut World, id: &str, reason: &str) {
    let mut invoice = current(world, id);
    let now = world.now_for(&invoice["customer"]);
    invoice["status"] = json!("uncollectible");
    invoice["auto_advance"] = json!(false);
    invoice["next_payment_attempt"] = Value::Null;
    invoice["status_details"] = json!({"uncollectible": {"reason": reason}});
    invoice["status_transitions"]["marked_uncollectible_at"] = json!(now);
    world.save(kind::INVOICE, &invoice);
    world.announce("invoice.marked_uncollectible", &invoice);
}
