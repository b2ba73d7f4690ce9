//! Events for webhook endpoints of an older API version: labelled with it, and before 2025-03-31 (basil) with the fields that
//! subscriptions and invoices had then (docs.stripe.com/changelog/basil).

use serde_json::{Value, json};

use crate::kind;
use crate::world::World;

/// The first version without the old fields.
const BASIL: &str = "2025-03-31";

/// An event as an endpoint of this version gets it. None is the current version.
pub(crate) fn render(world: &World, event: &Value, version: Option<&str>) -> Value {
    let mut event = event.clone();
    let Some(version) = version else { return event };
    event["api_version"] = json!(version);
    // Dates are written so that their order is the alphabet's.
    if version < BASIL {
        let object = &mut event["data"]["object"];
        match object["object"].as_str() {
            Some("subscription") => old_subscription(object),
            Some("invoice") => old_invoice(world, object),
            Some("payment_intent" | "charge") => old_payment(world, object),
            _ => {}
        }
    }
    event
}

fn old_subscription(subscription: &mut Value) {
    for field in ["current_period_start", "current_period_end"] {
        subscription[field] = subscription["items"]["data"].get(0).map_or(Value::Null, |item| item[field].clone());
    }
}

fn old_invoice(world: &World, invoice: &mut Value) {
    let details = invoice["parent"]["subscription_details"].clone();
    invoice["subscription"] = details["subscription"].clone();
    invoice["subscription_details"] = json!({ "metadata": details["metadata"] });
    invoice["paid"] = json!(invoice["status"] == "paid");
    let payment = world
        .all(kind::INVOICE_PAYMENT)
        .rfind(|payment| payment["invoice"] == invoice["id"] && payment["payment"]["type"] == "payment_intent")
        .map_or(Value::Null, |payment| payment["payment"]["payment_intent"].clone());
    invoice["charge"] = payment
        .as_str()
        .and_then(|id| world.get(kind::PAYMENT_INTENT, id))
        .map_or(Value::Null, |intent| intent["latest_charge"].clone());
    invoice["payment_intent"] = payment;
    invoice["paid_out_of_band"] = json!(invoice["amount_paid_off_stripe"].as_i64().is_some_and(|amount| amount > 0));
    let taxes = invoice["total_taxes"].as_array().cloned().unwrap_or_default();
    invoice["tax"] = json!(taxes.iter().filter_map(|tax| tax["amount"].as_i64()).sum::<i64>());
    invoice["total_tax_amounts"] = taxes.iter().map(old_tax).collect();
    for line in invoice["lines"]["data"].as_array_mut().into_iter().flatten() {
        old_line(world, line);
    }
}

fn old_tax(tax: &Value) -> Value {
    json!({
        "amount": tax["amount"], "inclusive": tax["tax_behavior"] == "inclusive",
        "tax_rate": tax["tax_rate_details"]["tax_rate"], "taxability_reason": tax["taxability_reason"],
        "taxable_amount": tax["taxable_amount"],
    })
}

fn old_line(world: &World, line: &mut Value) {
    let parent = line["parent"].clone();
    let of_subscription = parent["type"] == "subscription_item_details";
    let details = &parent[if of_subscription { "subscription_item_details" } else { "invoice_item_details" }];
    // A proration was of an invoice item, though it is for a subscription's.
    let billed = of_subscription && details["invoice_item"].is_null();
    line["type"] = json!(if billed { "subscription" } else { "invoiceitem" });
    line["invoice_item"] = details["invoice_item"].clone();
    line["proration"] = details["proration"].clone();
    line["subscription_item"] = details["subscription_item"].clone();
    let price = line["pricing"]["price_details"]["price"].as_str().and_then(|id| world.get(kind::PRICE, id));
    line["price"] = price.cloned().unwrap_or_default();
    line["tax_amounts"] = line["taxes"].as_array().into_iter().flatten().map(old_tax).collect();
}

fn old_payment(world: &World, object: &mut Value) {
    let intent = if object["object"] == "payment_intent" { &object["id"] } else { &object["payment_intent"] };
    let invoice = world
        .all(kind::INVOICE_PAYMENT)
        .find(|payment| !intent.is_null() && payment["payment"]["payment_intent"] == *intent)
        .map_or(Value::Null, |payment| payment["invoice"].clone());
    object["invoice"] = invoice;
}
