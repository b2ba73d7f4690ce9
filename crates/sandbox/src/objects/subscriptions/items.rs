//! The items of a subscription, as its own parameters change them. An item is stored twice: by itself, and within the
//! subscription's `items`; `put` keeps them the same.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::{prices, tax_rates};
use crate::parameters::Parameters;
use crate::period::Interval;
use crate::world::World;

/// What happens to one item. One that is neither before nor after is not there.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Change {
    /// Whether something else is billed after it.
    pub(crate) fn is_billed(&self) -> bool {
        let what =
            |item: &Option<Value>| item.as_ref().map(|item| (item["price"]["id"].clone(), item["quantity"].clone()));
        what(&self.before) != what(&self.after)
    }
}

/// The items of a subscription.
pub(crate) fn of(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Writes items into a subscription, and stores each.
pub(crate) fn put(world: &mut World, subscription: &mut Value, items: &[Value]) {
    let before: Vec<String> =
        of(subscription).iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect();
    for gone in before.iter().filter(|id| !items.iter().any(|item| item["id"] == id.as_str())) {
        world.delete(kind::SUBSCRIPTION_ITEM, gone);
    }
    for item in items {
        world.save(kind::SUBSCRIPTION_ITEM, item);
    }
    subscription["items"]["data"] = json!(items);
}

/// An item of a price, for a subscription. Its period is set when it is billed.
pub(crate) fn new(world: &mut World, subscription: &Value, price: &Value, quantity: i64) -> Value {
    let id = world.new_id(kind::SUBSCRIPTION_ITEM);
    json!({
        "id": id,
        "object": "subscription_item",
        "billed_until": null,
        "billing_thresholds": null,
        "created": world.now_for(&subscription["customer"]),
        "current_period_end": null,
        "current_period_start": null,
        "current_trial": null,
        "discounts": [],
        "metadata": {},
        "plan": plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription["id"],
        "tax_rates": [],
    })
}

/// A price in the shape of the plans of old, which items still carry.
fn plan(price: &Value) -> Value {
    let recurring = &price["recurring"];
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": price["billing_scheme"],
        "created": price["created"], "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": false, "metadata": price["metadata"], "meter": null,
        "nickname": price["nickname"], "product": price["product"], "tiers_mode": price["tiers_mode"],
        "transform_usage": price["transform_quantity"], "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    })
}

/// Reads the fields that an item's creation and change share into it.
pub(crate) fn fill(world: &World, item: &mut Value, part: &Parameters) -> Result<(), ApiError> {
    part.copy_metadata(item)?;
    if let Some(quantity) = part.integer("quantity")? {
        if quantity < 0 {
            let message = "This value must be greater than or equal to 0.";
            return Err(ApiError::parameter("parameter_invalid_integer", &part.name("quantity"), message));
        }
        item["quantity"] = json!(quantity);
    }
    if let Some(rates) = tax_rates::named(world, part, "tax_rates")? {
        item["tax_rates"] = json!(rates);
    }
    Ok(())
}

/// Gives an item a price.
pub(crate) fn set_price(item: &mut Value, price: &Value) {
    item["plan"] = plan(price);
    item["price"] = price.clone();
}

/// Reads the price that an item is to have from now on, if one is named.
pub(crate) fn fill_price(world: &mut World, item: &mut Value, part: &Parameters) -> Result<(), ApiError> {
    if let Some(price) = price(world, part)? {
        set_price(item, &price);
    }
    Ok(())
}

/// The recurring price that an item names; `plan` is its name of old.
pub(crate) fn price(world: &mut World, part: &Parameters) -> Result<Option<Value>, ApiError> {
    let price = match part.text("plan")? {
        Some(id) => Some(prices::named(world, &id, &part.name("plan"))?),
        None => prices::chosen(world, part)?,
    };
    if price.as_ref().is_some_and(|price| price["type"] != "recurring") {
        let message =
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.";
        return Err(ApiError::value(&part.name("price"), message));
    }
    Ok(price)
}

/// Reads `items[]`: those with an `id` change or delete one that is there, the others add one.
pub(crate) fn read(
    world: &mut World,
    subscription: &Value,
    parameters: &Parameters,
) -> Result<Option<Vec<Change>>, ApiError> {
    let Some(parts) = parameters.parts("items")? else { return Ok(None) };
    let mut changes = Vec::new();
    for part in &parts {
        changes.push(read_one(world, subscription, part)?);
    }
    let touched =
        |id: &Value| changes.iter().any(|change: &Change| change.before.as_ref().is_some_and(|item| item["id"] == *id));
    let untouched: Vec<Change> = of(subscription)
        .iter()
        .filter(|item| !touched(&item["id"]))
        .map(|item| Change { before: Some(item.clone()), after: Some(item.clone()) })
        .collect();
    // Those that are not named stay, and stay first.
    let all: Vec<Change> = untouched.into_iter().chain(changes).collect();
    check(&after(&all), &parameters.name("items"))?;
    Ok(Some(all))
}

fn read_one(world: &mut World, subscription: &Value, part: &Parameters) -> Result<Change, ApiError> {
    let deleted = part.flag("deleted")?.unwrap_or(false);
    let Some(id) = part.text("id")? else {
        let Some(price) = price(world, part)? else { return Err(part.missing("price")) };
        let mut item = new(world, subscription, &price, 1);
        fill(world, &mut item, part)?;
        return Ok(Change { before: None, after: Some(item) });
    };
    let before = of(subscription).iter().find(|item| item["id"] == id.as_str()).cloned();
    let before = before.ok_or_else(|| ApiError::missing(kind::SUBSCRIPTION_ITEM, &id, &part.name("id")))?;
    part.flag("clear_usage")?;
    let mut item = before.clone();
    fill(world, &mut item, part)?;
    fill_price(world, &mut item, part)?;
    Ok(Change { before: Some(before), after: (!deleted).then_some(item) })
}

/// The items after some changes.
pub(crate) fn after(changes: &[Change]) -> Vec<Value> {
    changes.iter().filter_map(|change| change.after.clone()).collect()
}

/// Refuses items that cannot be on one subscription.
pub(crate) fn check(items: &[Value], param: &str) -> Result<(), ApiError> {
    let Some(first) = items.first() else {
        return Err(ApiError::value(param, "A subscription must have at least one active item."));
    };
    if items.len() > 20 {
        return Err(ApiError::value(param, "A subscription can have at most 20 items."));
    }
    for item in items {
        if item["price"]["currency"] != first["price"]["currency"] {
            return Err(ApiError::value(param, "All prices on a subscription must have the same currency."));
        }
        if Interval::of(&item["price"]) != Interval::of(&first["price"]) {
            let message = "All prices on a subscription must have the same `recurring.interval` and \
                           `recurring.interval_count`. If you meant to update an existing subscription item instead of \
                           creating a new one, make sure to include the subscription item ID in your request.";
            return Err(ApiError::value(param, message));
        }
    }
    Ok(())
}

/// Sets the period of each item.
pub(crate) fn set_period(items: &mut [Value], period: (i64, i64)) {
    for item in items {
        item["current_period_start"] = json!(period.0);
        item["current_period_end"] = json!(period.1);
    }
}

/// How long a subscription's periods are.
pub(crate) fn interval(items: &[Value]) -> Interval {
    items.first().and_then(|item| Interval::of(&item["price"])).unwrap_or_else(|| Interval::months(1))
}
