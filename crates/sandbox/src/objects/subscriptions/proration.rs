//! Prorations (docs.stripe.com/billing/subscriptions/prorations), by the second: a credit for the unused part of what was
//! billed, and a debit for what is left of the period at the new price. Each is rounded by itself.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::kind;
use crate::objects::invoices::lines::{full_cost, pricing, product_name};
use crate::objects::invoices::totals::elements;
use crate::objects::prices::{as_decimal, round, share};
use crate::objects::subscriptions::{items, note, period};
use crate::objects::{discounts, invoice_items};
use crate::period::day;
use crate::world::World;

fn debits(world: &World, subscription: &Value) -> Value {
    let hidden = world.hidden(kind::SUBSCRIPTION, subscription["id"].as_str().unwrap_or_default());
    if hidden["debits"].is_object() { hidden["debits"].clone() } else { json!({}) }
}

fn proration(
    world: &mut World,
    subscription: &Value,
    item: &Value,
    amount: i64,
    period: (i64, i64),
    word: &str,
) -> Value {
    let (customer, id) = (subscription["customer"].as_str(), subscription["id"].as_str());
    let mut made = invoice_items::blank(world, customer.unwrap_or_default(), id);
    let name = product_name(world, &item["price"]);
    let many = item["quantity"] != 1;
    let what = if many { format!("{} × {name}", item["quantity"]) } else { name };
    made["amount"] = json!(amount);
    made["net_amount"] = json!(amount);
    made["currency"] = subscription["currency"].clone();
    made["description"] = json!(format!("{word} time on {what} after {}", day(period.0)));
    made["discountable"] = json!(false);
    made["parent"]["subscription_details"]["subscription_item"] = item["id"].clone();
    made["period"] = json!({"end": period.1, "start": period.0});
    made["pricing"] = pricing(&item["price"]);
    made["proration"] = json!(true);
    made["proration_details"] = json!({"credited_items": null, "discount_amounts": []});
    made["quantity"] = item["quantity"].clone();
    made["quantity_decimal"] = json!(item["quantity"].to_string());
    made["tax_rates"] = item["tax_rates"].clone();
    made
}

/// Credits what was billed for an item from a second on. The pending invoice item, if there is anything to credit. What is
/// left of the debit covers the time until then.
pub(crate) fn credit(world: &mut World, subscription: &Value, item: &Value, at: i64) -> Option<Value> {
    let mut debits = debits(world, subscription);
    let id = item["id"].as_str().unwrap_or_default();
    let debit = debits[id].clone();
    let (start, end, amount) = (debit["start"].as_i64()?, debit["end"].as_i64()?, debit["amount"].as_i64()?);
    let at = at.max(start);
    if at >= end {
        return None;
    }
    let part = share(amount, end - at, end - start);
    debits[id]["amount"] = json!(amount - part);
    debits[id]["end"] = json!(at);
    note(world, subscription["id"].as_str().unwrap_or_default(), "debits", debits);
    if part == 0 {
        return None;
    }
    let mut made = proration(world, subscription, item, -part, (at, end), "Unused");
    made["proration_details"]["credited_items"] = match debit["item"].as_str() {
        Some(billed) => json!({"invoice_item": billed, "invoice_line_item_details": null, "type": "invoice_item"}),
        None => json!({
            "invoice_item": null,
            "invoice_line_item_details": {"invoice": debit["invoice"], "invoice_line_items": [debit["line"]]},
            "type": "invoice_line_items",
        }),
    };
    invoice_items::store(world, &made);
    Some(made)
}

/// Debits an item for the rest of its period, from a second on. The pending invoice item, if it costs anything.
pub(crate) fn debit(world: &mut World, subscription: &Value, item: &Value, at: i64) -> Option<Value> {
    let (start, end) = period(subscription);
    let end = subscription["cancel_at"].as_i64().filter(|cancel| *cancel > at).map_or(end, |cancel| cancel.min(end));
    let anchor = subscription["billing_cycle_anchor"].as_i64().unwrap_or(start);
    let natural = items::interval(std::slice::from_ref(item)).around(anchor, start);
    let full = share(full_cost(world, item), end - at, natural.1 - natural.0);
    let amount = less_percent(world, subscription, full);
    let made = proration(world, subscription, item, amount, (at, end), "Remaining");
    let mut debits = debits(world, subscription);
    debits[item["id"].as_str().unwrap_or_default()] = json!({
        "amount": amount, "start": at, "end": end, "invoice": null, "line": null, "item": made["id"],
    });
    note(world, subscription["id"].as_str().unwrap_or_default(), "debits", debits);
    if amount == 0 {
        return None;
    }
    invoice_items::store(world, &made);
    Some(made)
}

/// A debit already has the discounts by percent taken off, because prorations are not discounted again.
fn less_percent(world: &World, subscription: &Value, amount: i64) -> i64 {
    let mut left = Decimal::from(amount);
    for id in elements(&subscription["discounts"]).iter().filter_map(Value::as_str) {
        let percent = as_decimal(&discounts::coupon(world, id)["percent_off"]);
        left -= left * percent / Decimal::ONE_HUNDRED;
    }
    round(left)
}
