//! Pending updates (docs.stripe.com/billing/subscriptions/pending-updates): a change that is made when its invoice is paid.

use serde_json::{Value, json};

use crate::kind;
use crate::objects::invoices::lifecycle;
use crate::objects::subscriptions::cycle::PATIENCE;
use crate::objects::subscriptions::{change, current, items, note};
use crate::world::World;

/// Whether an invoice is that of a subscription's pending update.
pub(crate) fn applies(world: &World, id: &str, invoice: &Value) -> bool {
    let waiting = &world.hidden(kind::SUBSCRIPTION, id)["pending"]["invoice"];
    !waiting.is_null() && *waiting == invoice["id"]
}

/// From now on the payment of this invoice is waited for.
pub(crate) fn await_payment(world: &mut World, id: &str, invoice: &str) {
    note(world, id, "pending", json!({"invoice": invoice}));
}

/// Takes a change back, because its invoice was not paid, and keeps it as pending. `before` is what was there, and beside it.
pub(crate) fn hold(world: &mut World, before: &Value, before_debits: &Value) {
    let id = before["id"].as_str().unwrap_or_default();
    let changed = current(world, id);
    let invoice = world.hidden(kind::SUBSCRIPTION, id)["pending"]["invoice"].clone();
    let debits = world.hidden(kind::SUBSCRIPTION, id)["debits"].clone();
    let mut held = before.clone();
    held["latest_invoice"] = invoice.clone();
    held["pending_update"] = json!({
        "billing_cycle_anchor": (changed["billing_cycle_anchor"] != before["billing_cycle_anchor"])
            .then(|| changed["billing_cycle_anchor"].clone()),
        "cancel_at_period_end": null,
        "discounts": null,
        "expires_at": world.now_for(&before["customer"]) + PATIENCE,
        "metadata": null,
        "subscription_items": items::of(&changed),
        "trial_end": null,
        "trial_from_plan": null,
    });
    let old_items = items::of(before).to_vec();
    // What the change has stored is put back as it was.
    world.save(kind::SUBSCRIPTION, &changed);
    let mut document = changed.clone();
    items::put(world, &mut document, &old_items);
    world.save(kind::SUBSCRIPTION, &held);
    note(world, id, "debits", before_debits.clone());
    note(world, id, "pending", json!({"invoice": invoice, "subscription": changed, "debits": debits}));
    world.announce_change("customer.subscription.updated", before, &held);
}

/// The invoice is paid: the change is made.
pub(crate) fn apply(world: &mut World, id: &str) {
    let pending = world.hidden(kind::SUBSCRIPTION, id)["pending"].clone();
    note(world, id, "pending", Value::Null);
    let before = current(world, id);
    if before["pending_update"].is_null() {
        return;
    }
    let mut subscription = before.clone();
    let wanted = items::of(&pending["subscription"]).to_vec();
    items::put(world, &mut subscription, &wanted);
    subscription["billing_cycle_anchor"] = pending["subscription"]["billing_cycle_anchor"].clone();
    subscription["pending_update"] = Value::Null;
    note(world, id, "debits", pending["debits"].clone());
    change(world, &before, &subscription);
    world.announce("customer.subscription.pending_update_applied", &subscription);
}

/// The invoice was not paid in time: it is voided, and the change forgotten.
pub(crate) fn expire(world: &mut World, id: &str) {
    let invoice = world.hidden(kind::SUBSCRIPTION, id)["pending"]["invoice"].as_str().unwrap_or_default().to_owned();
    note(world, id, "pending", Value::Null);
    let before = current(world, id);
    let mut subscription = before.clone();
    subscription["pending_update"] = Value::Null;
    if lifecycle::current(world, &invoice)["status"] == "open" {
        lifecycle::void(world, &invoice);
    }
    change(world, &before, &subscription);
    world.announce("customer.subscription.pending_update_expired", &subscription);
}
