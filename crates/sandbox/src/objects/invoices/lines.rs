//! The lines of an invoice: of invoice items, and of what a subscription's items cost for a period.

use serde_json::{Value, json};

use crate::amount;
use crate::kind;
use crate::objects::prices;
use crate::world::World;

/// Puts an invoice item onto an invoice; the line.
pub(crate) fn of_invoice_item(world: &mut World, item: &Value, invoice: &Value) -> Value {
    let subscription = &item["parent"]["subscription_details"]["subscription"];
    let subscription_item = &item["parent"]["subscription_details"]["subscription_item"];
    let proration_details = json!({"credited_items": credited(item)});
    let parent = if subscription_item.is_null() {
        json!({
            "invoice_item_details": {
                "invoice_item": item["id"], "proration": item["proration"], "proration_details": proration_details,
                "subscription": subscription,
            },
            "subscription_item_details": null,
            "type": "invoice_item_details",
        })
    } else {
        json!({
            "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": item["id"], "proration": item["proration"], "proration_details": proration_details,
                "subscription": subscription, "subscription_item": subscription_item,
            },
            "type": "subscription_item_details",
        })
    };
    let mut line = line(world, invoice, parent);
    for field in ["amount", "currency", "description", "discountable", "metadata", "period", "pricing", "quantity"] {
        line[field] = item[field].clone();
    }
    line["subtotal"] = item["amount"].clone();
    line["quantity_decimal"] = item["quantity_decimal"].clone();
    line["subscription"] = subscription.clone();
    line
}

fn credited(item: &Value) -> Value {
    let details = &item["proration_details"]["credited_items"]["invoice_line_item_details"];
    if details.is_null() { Value::Null } else { details.clone() }
}

fn line(world: &mut World, invoice: &Value, parent: Value) -> Value {
    json!({
        "id": format!("il_{}", world.ids.text(24)),
        "object": "line_item",
        "amount": 0,
        "currency": invoice["currency"],
        "description": null,
        "discount_amounts": [],
        "discountable": true,
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": false,
        "metadata": {},
        "parent": parent,
        "period": {"end": invoice["period_end"], "start": invoice["period_start"]},
        "pretax_credit_amounts": [],
        "pricing": null,
        "quantity": 1,
        "quantity_decimal": "1",
        "subscription": null,
        "subtotal": 0,
        "taxes": [],
    })
}

/// The line for what a subscription's item costs for a period.
pub(crate) fn of_subscription_item(
    world: &mut World,
    item: &Value,
    invoice: &Value,
    cost: i64,
    period: (i64, i64),
    in_trial: bool,
) -> Value {
    let parent = json!({
        "invoice_item_details": null,
        "subscription_item_details": {
            "invoice_item": null, "proration": false, "proration_details": {"credited_items": null},
            "subscription": item["subscription"], "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    });
    let price = &item["price"];
    let name = product_name(world, price);
    let description = if in_trial {
        format!("Trial period for {name}")
    } else {
        format!("{} × {name} (at {} / {})", item["quantity"], price_text(price), interval_text(price))
    };
    let mut line = line(world, invoice, parent);
    line["amount"] = json!(cost);
    line["subtotal"] = json!(cost);
    line["description"] = json!(description);
    line["metadata"] = item["metadata"].clone();
    line["period"] = json!({"end": period.1, "start": period.0});
    line["pricing"] = pricing(price);
    line["quantity"] = item["quantity"].clone();
    line["quantity_decimal"] = json!(item["quantity"].to_string());
    line["subscription"] = item["subscription"].clone();
    line
}

/// The name of a price's product.
pub(crate) fn product_name(world: &World, price: &Value) -> String {
    let product = price["product"].as_str().and_then(|id| world.get(kind::PRODUCT, id));
    product.and_then(|product| product["name"].as_str()).unwrap_or("Product").to_owned()
}

/// `pricing` of a line or an invoice item.
pub(crate) fn pricing(price: &Value) -> Value {
    json!({
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    })
}

fn price_text(price: &Value) -> String {
    let currency = price["currency"].as_str().unwrap_or_default();
    match price["unit_amount"].as_i64() {
        Some(unit) => {
            let text = amount::show(unit, currency);
            // `$10.00 usd`: with a sign, the currency is said already.
            let bare = text.strip_suffix(currency).map(str::trim_end).unwrap_or(&text);
            let sign = bare.chars().any(|c| !c.is_ascii_digit() && c != '.' && c != '-');
            if sign { bare.to_owned() } else { text.clone() }
        }
        None => match price["unit_amount_decimal"].as_str() {
            Some(unit) => format!("{unit} {currency}"),
            None => "tiered".to_owned(),
        },
    }
}

fn interval_text(price: &Value) -> String {
    let unit = price["recurring"]["interval"].as_str().unwrap_or("month");
    match price["recurring"]["interval_count"].as_i64() {
        None | Some(1) => unit.to_owned(),
        Some(count) => format!("every {count} {unit}s"),
    }
}

/// What an item costs for a full period.
pub(crate) fn full_cost(world: &World, item: &Value) -> i64 {
    prices::cost(world, &item["price"], item["quantity"].as_i64().unwrap_or(1))
}
