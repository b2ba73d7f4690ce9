//! The line items of a Checkout Session (docs.stripe.com/api/checkout/sessions/line_items).

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::prices;
use crate::parameters::Parameters;
use crate::world::World;

/// What the lines come to, in the currency's smallest unit.
pub(crate) struct Totals {
    pub(crate) subtotal: i64,
    pub(crate) total: i64,
}

/// Reads `line_items`, which a session that sells must have.
pub(crate) fn read(world: &mut World, parameters: &Parameters, mode: &str) -> Result<Vec<Value>, ApiError> {
    let parts = parameters.parts("line_items")?.unwrap_or_default();
    if mode == "setup" {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        return Err(ApiError::value("line_items", "`line_items` cannot be used in `setup` mode."));
    }
    if parts.is_empty() {
        let message = "You must pass line_items in `payment` and `subscription` mode.";
        return Err(ApiError::parameter("parameter_missing", "line_items", message));
    }
    let mut lines = Vec::new();
    for part in &parts {
        lines.push(line(world, part)?);
    }
    let first = lines.first().map_or(Value::Null, |line| line["currency"].clone());
    if lines.iter().any(|line| line["currency"] != first) {
        let message = "You must not pass line_items of more than one currency.";
        return Err(ApiError::value("line_items", message));
    }
    let recurring = lines.iter().any(|line| line["price"]["type"] == "recurring");
    match (mode, recurring) {
        ("payment", true) => Err(ApiError::value(
            "line_items[0][price]",
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only \
             one-time prices.",
        )),
        ("subscription", false) => Err(ApiError::value(
            "line_items",
            "You must provide at least one recurring price in `subscription` mode when using prices.",
        )),
        _ => Ok(lines),
    }
}

fn line(world: &mut World, part: &Parameters) -> Result<Value, ApiError> {
    let price = prices::chosen(world, part)?.ok_or_else(|| part.missing("price"))?;
    let quantity = part.required_integer("quantity")?;
    if quantity < 1 {
        let message = "This value must be greater than or equal to 1.";
        return Err(ApiError::parameter("parameter_invalid_integer", &part.name("quantity"), message));
    }
    let amount = prices::cost(world, &price, quantity);
    let product = price["product"].as_str().and_then(|id| world.get(kind::PRODUCT, id));
    let name = product.map_or(Value::Null, |product| product["name"].clone());
    Ok(json!({
        "id": format!("li_{}", world.ids.text(24)), "object": "item", "adjustable_quantity": null, "amount_discount": 0,
        "amount_subtotal": amount, "amount_tax": 0, "amount_total": amount, "currency": price["currency"],
        "description": name, "discounts": [], "metadata": {}, "price": price, "quantity": quantity, "taxes": [],
    }))
}

/// What is paid now. During a trial, only what is sold once.
pub(crate) fn totals(lines: &[Value], trial: bool) -> Totals {
    let sum = |counted: &dyn Fn(&Value) -> bool| {
        lines.iter().filter(|line| counted(line)).filter_map(|line| line["amount_total"].as_i64()).sum()
    };
    let total = sum(&|line| !trial || line["price"]["type"] != "recurring");
    Totals { subtotal: total, total }
}
