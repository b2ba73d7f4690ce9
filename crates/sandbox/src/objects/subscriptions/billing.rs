//! The invoices of a subscription.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoices::collection::{self, By};
use crate::objects::invoices::document::{self, New};
use crate::objects::invoices::totals::{self, elements, net};
use crate::objects::invoices::{lifecycle, lines};
use crate::objects::subscriptions::{current, note};
use crate::objects::{discounts, invoice_items};
use crate::world::World;

/// What an item costs for a period.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) item: Value,
    pub(crate) cost: i64,
    pub(crate) period: (i64, i64),
    pub(crate) in_trial: bool,
}

/// Makes a draft for a stored subscription: what is pending for it, then what its items cost. `period` is the invoice's own.
/// The subscription's `latest_invoice` is written, but not announced.
pub(crate) fn invoice(world: &mut World, id: &str, reason: &str, period: (i64, i64), charges: &[Charge]) -> String {
    drop_discounts(world, id, false);
    let subscription = current(world, id);
    let customer = subscription["customer"].as_str().unwrap_or_default();
    let currency = subscription["currency"].as_str().unwrap_or_default();
    let mut draft = document::draft(world, &New { customer, currency, reason, subscription: &subscription, period });
    let invoice = draft["id"].as_str().unwrap_or_default().to_owned();
    world.save(kind::INVOICE, &draft);
    for mut item in invoice_items::pending(world, customer, currency, Some(id)) {
        invoice_items::attach(world, &mut item, &invoice);
    }
    draft = lifecycle::current(world, &invoice);
    for charge in charges {
        let line =
            lines::of_subscription_item(world, &charge.item, &draft, charge.cost, charge.period, charge.in_trial);
        if let Some(data) = draft["lines"]["data"].as_array_mut() {
            data.push(line);
        }
    }
    totals::calculate(world, &mut draft);
    world.save(kind::INVOICE, &draft);
    note_debits(world, id, &draft, charges);
    drop_discounts(world, id, charges.iter().any(|charge| !charge.in_trial));
    let mut subscription = current(world, id);
    subscription["latest_invoice"] = json!(invoice);
    world.save(kind::SUBSCRIPTION, &subscription);
    world.announce("invoice.created", &draft);
    invoice
}

/// Takes the discounts off a subscription that are over, or that were for once and are used.
fn drop_discounts(world: &mut World, id: &str, used: bool) {
    let mut subscription = current(world, id);
    let now = world.now_for(&subscription["customer"]);
    subscription["discounts"] = discounts::still_on(world, &subscription["discounts"].clone(), used, now);
    world.save(kind::SUBSCRIPTION, &subscription);
}

/// Remembers what each item was billed, for later credits.
fn note_debits(world: &mut World, id: &str, invoice: &Value, charges: &[Charge]) {
    let mut debits = world.hidden(kind::SUBSCRIPTION, id)["debits"].clone();
    if !debits.is_object() {
        debits = json!({});
    }
    for charge in charges {
        let item = charge.item["id"].as_str().unwrap_or_default();
        let line = elements(&invoice["lines"]["data"]).iter().find(|line| {
            let details = &line["parent"]["subscription_item_details"];
            details["subscription_item"] == item && details["invoice_item"].is_null()
        });
        let Some(line) = line else { continue };
        debits[item] = json!({
            "amount": net(line), "start": charge.period.0, "end": charge.period.1,
            "invoice": invoice["id"], "line": line["id"], "item": null,
        });
    }
    note(world, id, "debits", debits);
}

/// Finalizes a draft, and tries to collect it at once. An error says why it is not paid.
pub(crate) fn collect(world: &mut World, invoice: &str, try_now: bool, off_session: bool) -> Result<(), ApiError> {
    lifecycle::finalize(world, invoice);
    let document = lifecycle::current(world, invoice);
    if document["status"] != "open" || !try_now || document["collection_method"] != "charge_automatically" {
        return Ok(());
    }
    collection::collect(world, invoice, None, By::Request { off_session })
}
