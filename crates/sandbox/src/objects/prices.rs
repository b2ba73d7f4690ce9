//! Prices (docs.stripe.com/api/prices), and what a quantity costs at one.

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::{products, subscriptions};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

const BEHAVIORS: &[&str] = &["exclusive", "inclusive", "unspecified"];

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let product = product(world, parameters)?;
    let mut price = read(world, parameters, &product)?;
    let lookup_key = parameters.text("lookup_key")?;
    let transfer = parameters.flag("transfer_lookup_key")?.unwrap_or(false);
    parameters.finish()?;
    if let Some(key) = lookup_key {
        take_lookup_key(world, &key, transfer)?;
        price["lookup_key"] = json!(key);
    }
    store(world, &price);
    Ok(shown(price))
}

/// The product that a price is for: one that is there, or a new one of `product_data`.
fn product(world: &mut World, parameters: &Parameters) -> Result<String, ApiError> {
    match (parameters.text("product")?, parameters.part("product_data")?) {
        (Some(id), None) => {
            Ok(world.find(kind::PRODUCT, &id, &parameters.name("product"))?["id"].as_str().map_or(id, str::to_owned))
        }
        (None, Some(part)) => {
            let product = products::read(world, &part)?;
            world.save(kind::PRODUCT, &product);
            world.announce("product.created", &product);
            Ok(product["id"].as_str().unwrap_or_default().to_owned())
        }
        (Some(_), Some(_)) => {
            let message = "You may only specify one of these parameters: product, product_data.";
            Err(ApiError::value(&parameters.name("product"), message))
        }
        (None, None) => Err(parameters.missing("product")),
    }
}

/// Stores a new price that `read` has made, and announces it.
pub(crate) fn store(world: &mut World, price: &Value) {
    let mut document = price.clone();
    let tiers = document["tiers"].take();
    let id = document["id"].as_str().unwrap_or_default().to_owned();
    let document = shown(document);
    world.save(kind::PRICE, &document);
    world.hide(kind::PRICE, &id, json!({ "tiers": tiers }));
    world.announce("price.created", &document);
}

/// Makes the price of an id, or changes it to what the parameters say: those of `create`, and `id`.
pub(crate) fn put(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let id = parameters.required_text("id")?;
    let before = world.get(kind::PRICE, &id).cloned();
    let name = match parameters.part("product_data")? {
        Some(part) => part.required_text("name")?,
        None => return Err(parameters.missing("product_data")),
    };
    let lookup_key = parameters.text("lookup_key")?;
    let product = match &before {
        Some(before) => before["product"].as_str().unwrap_or_default().to_owned(),
        None => world.new_id(kind::PRODUCT),
    };
    let mut price = read(world, parameters, &product)?;
    parameters.finish()?;
    price["id"] = json!(id);
    if let Some(key) = lookup_key {
        if before.as_ref().is_none_or(|before| before["lookup_key"] != key.as_str()) {
            take_lookup_key(world, &key, true)?;
        }
        price["lookup_key"] = json!(key);
    }
    products::put(world, &product, &name);
    let Some(before) = before else {
        store(world, &price);
        return Ok(shown(price));
    };
    price["created"] = before["created"].clone();
    let price = shown(price);
    if price != before {
        change(world, &before, &price);
    }
    Ok(price)
}

/// A price without its tiers, which are only shown where they are expanded.
fn shown(mut price: Value) -> Value {
    if let Some(fields) = price.as_object_mut() {
        fields.remove("tiers");
    }
    price
}

/// The tiers of a price, for `expand`.
pub(crate) fn tiers(world: &World, price: &Value) -> Value {
    world.hidden(kind::PRICE, price["id"].as_str().unwrap_or_default())["tiers"].clone()
}

/// A new price for a product of what the parameters say; not stored yet. Its `tiers` are with it.
pub(crate) fn read(world: &mut World, parameters: &Parameters, product: &str) -> Result<Value, ApiError> {
    let currency = amount::currency(parameters, "currency")?.ok_or_else(|| parameters.missing("currency"))?;
    let recurring = recurring(parameters)?;
    let scheme = parameters.word("billing_scheme", &["per_unit", "tiered"])?.unwrap_or("per_unit".to_owned());
    let tiers = read_tiers(parameters)?;
    let mode = parameters.word("tiers_mode", &["graduated", "volume"])?;
    let (unit_amount, unit_amount_decimal) = match unit_amount(parameters)? {
        None if scheme == "tiered" => (None, None),
        None => return Err(no_amount(parameters)),
        Some(_) if scheme == "tiered" => {
            let message = "A tiered price has its amounts in tiers.";
            return Err(ApiError::value(&parameters.name("unit_amount"), message));
        }
        Some(value) => (whole(value), Some(value.normalize().to_string())),
    };
    if (scheme == "tiered") != (tiers.is_some() && mode.is_some()) {
        let message = "You must pass tiers and tiers_mode exactly when billing_scheme is tiered.";
        return Err(ApiError::value(&parameters.name("tiers"), message));
    }
    let id = world.new_id(kind::PRICE);
    let mut price = json!({
        "id": id,
        "object": "price",
        "active": true,
        "billing_scheme": scheme,
        "created": world.now(),
        "currency": currency,
        "custom_unit_amount": null,
        "livemode": false,
        "lookup_key": null,
        "metadata": {},
        "nickname": null,
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "tiers": tiers,
        "tiers_mode": mode,
        "transform_quantity": transform(parameters)?,
        "type": if recurring.is_some() { "recurring" } else { "one_time" },
        "unit_amount": unit_amount,
        "unit_amount_decimal": unit_amount_decimal,
    });
    fill(&mut price, parameters)?;
    Ok(price)
}

fn no_amount(parameters: &Parameters) -> ApiError {
    let name = parameters.name("unit_amount");
    let message = "You must pass one of unit_amount or unit_amount_decimal when billing_scheme is per_unit.";
    ApiError::parameter("parameter_missing", &name, message)
}

fn fill(price: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(price, &["nickname"])?;
    parameters.copy_metadata(price)?;
    if let Some(active) = parameters.flag("active")? {
        price["active"] = json!(active);
    }
    if let Some(behavior) = parameters.word("tax_behavior", BEHAVIORS)? {
        price["tax_behavior"] = json!(behavior);
    }
    Ok(())
}

fn recurring(parameters: &Parameters) -> Result<Option<Value>, ApiError> {
    let Some(part) = parameters.part("recurring")? else { return Ok(None) };
    let interval = part.word("interval", &["day", "week", "month", "year"])?.ok_or_else(|| part.missing("interval"))?;
    let count = part.integer("interval_count")?.unwrap_or(1);
    let most = match interval.as_str() {
        "day" => 1095,
        "week" => 156,
        "month" => 36,
        _ => 3,
    };
    if !(1..=most).contains(&count) {
        let message = format!("Invalid interval_count: must be from 1 to {most} for {interval}, at most three years.");
        return Err(ApiError::value(&part.name("interval_count"), message));
    }
    if part.word("usage_type", &["licensed", "metered"])?.as_deref() == Some("metered") {
        let message = "The sandbox has no meters, so that a price with usage_type metered cannot be made.";
        return Err(ApiError::value(&part.name("usage_type"), message));
    }
    Ok(Some(json!({
        "interval": interval, "interval_count": count, "meter": null,
        "trial_period_days": part.integer("trial_period_days")?, "usage_type": "licensed",
    })))
}

fn transform(parameters: &Parameters) -> Result<Option<Value>, ApiError> {
    let Some(part) = parameters.part("transform_quantity")? else { return Ok(None) };
    let by = part.required_integer("divide_by")?;
    if by < 1 {
        let message = "This value must be greater than or equal to 1.";
        return Err(ApiError::parameter("parameter_invalid_integer", &part.name("divide_by"), message));
    }
    let round = part.word("round", &["down", "up"])?.ok_or_else(|| part.missing("round"))?;
    Ok(Some(json!({"divide_by": by, "round": round})))
}

fn read_tiers(parameters: &Parameters) -> Result<Option<Vec<Value>>, ApiError> {
    let Some(parts) = parameters.parts("tiers")? else { return Ok(None) };
    let mut tiers: Vec<Value> = Vec::new();
    for part in &parts {
        let up_to = match part.required_text("up_to")?.as_str() {
            "inf" => None,
            _ => part.integer("up_to")?,
        };
        let last = tiers.last().map(|tier| tier["up_to"].as_i64());
        if last.is_some_and(|last| last.is_none() || up_to.is_some_and(|up_to| Some(up_to) <= last)) {
            let message = "Invalid tiers: up_to must rise from tier to tier, and only the last can be inf.";
            return Err(ApiError::value(&part.name("up_to"), message));
        }
        let unit = unit_amount(part)?;
        let flat = amount_of(part, "flat_amount", "flat_amount_decimal")?;
        tiers.push(json!({
            "flat_amount": flat.and_then(whole), "flat_amount_decimal": flat.map(|flat| flat.normalize().to_string()),
            "unit_amount": unit.and_then(whole), "unit_amount_decimal": unit.map(|unit| unit.normalize().to_string()),
            "up_to": up_to,
        }));
    }
    if tiers.last().is_none_or(|tier| !tier["up_to"].is_null()) {
        return Err(ApiError::value(&parameters.name("tiers"), "Invalid tiers: the last tier must have up_to inf."));
    }
    Ok(Some(tiers))
}

/// `unit_amount` or `unit_amount_decimal`.
pub(crate) fn unit_amount(parameters: &Parameters) -> Result<Option<Decimal>, ApiError> {
    amount_of(parameters, "unit_amount", "unit_amount_decimal")
}

fn amount_of(parameters: &Parameters, key: &str, exact: &str) -> Result<Option<Decimal>, ApiError> {
    let value = match (parameters.integer(key)?, decimal(parameters, exact)?) {
        (Some(_), Some(_)) => {
            let message = format!("You may only specify one of these parameters: {key}, {exact}.");
            return Err(ApiError::value(&parameters.name(key), message));
        }
        (Some(amount), None) => Some(Decimal::from(amount)),
        (None, exact) => exact,
    };
    match value {
        Some(value) if value.is_sign_negative() && !value.is_zero() => {
            let message = "This value must be greater than or equal to 0.";
            Err(ApiError::parameter("parameter_invalid_integer", &parameters.name(key), message))
        }
        _ => Ok(value),
    }
}

/// A decimal number, with at most twelve places.
pub(crate) fn decimal(parameters: &Parameters, key: &str) -> Result<Option<Decimal>, ApiError> {
    let Some(text) = parameters.text(key)? else { return Ok(None) };
    match text.parse::<Decimal>() {
        Ok(value) if value.normalize().scale() <= 12 => Ok(Some(value)),
        _ => {
            let name = parameters.name(key);
            Err(ApiError::value(&name, format!("Invalid decimal: {text}; must contain at maximum 12 decimal places.")))
        }
    }
}

/// A decimal as a JSON number.
pub(crate) fn number(value: Decimal) -> Value {
    serde_json::from_str(&value.normalize().to_string()).unwrap_or(Value::Null)
}

/// A JSON number, or a text with one, as a decimal; 0 if it is none.
pub(crate) fn as_decimal(value: &Value) -> Decimal {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap_or(Decimal::ZERO)
}

fn whole(value: Decimal) -> Option<i64> {
    value.is_integer().then(|| round(value))
}

/// To a whole number; a half goes away from zero, as Stripe rounds each line.
pub(crate) fn round(value: Decimal) -> i64 {
    i64::try_from(value.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero)).unwrap_or(i64::MAX)
}

/// A part as a fraction of a whole, times an amount, rounded.
pub(crate) fn share(amount: i64, part: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    let exact = i128::from(amount) * i128::from(part);
    let (size, whole) = (exact.abs(), i128::from(whole));
    let rounded = i64::try_from((size * 2 + whole) / (whole * 2)).unwrap_or(i64::MAX);
    if exact < 0 { -rounded } else { rounded }
}

/// What a quantity costs, in the currency's smallest unit.
pub(crate) fn cost(world: &World, price: &Value, quantity: i64) -> i64 {
    if price["billing_scheme"] == "tiered" {
        let tiers = tiers(world, price);
        let tiers = tiers.as_array().map(Vec::as_slice).unwrap_or_default();
        return if price["tiers_mode"] == "volume" { volume(tiers, quantity) } else { graduated(tiers, quantity) };
    }
    let mut units = quantity;
    if let Some(by) = price["transform_quantity"]["divide_by"].as_i64().filter(|by| *by > 0) {
        units = quantity.div_euclid(by) + i64::from(price["transform_quantity"]["round"] == "up" && quantity % by != 0);
    }
    round(as_decimal(&price["unit_amount_decimal"]) * Decimal::from(units))
}

fn tier_cost(tier: &Value, units: i64) -> Decimal {
    as_decimal(&tier["unit_amount_decimal"]) * Decimal::from(units) + as_decimal(&tier["flat_amount_decimal"])
}

fn volume(tiers: &[Value], quantity: i64) -> i64 {
    let tier = tiers.iter().find(|tier| tier["up_to"].as_i64().is_none_or(|up_to| quantity <= up_to));
    tier.map_or(0, |tier| round(tier_cost(tier, quantity)))
}

fn graduated(tiers: &[Value], quantity: i64) -> i64 {
    let (mut below, mut sum) = (0, Decimal::ZERO);
    for tier in tiers {
        if quantity <= below && below > 0 {
            break;
        }
        let upper = tier["up_to"].as_i64().unwrap_or(quantity).min(quantity);
        sum += tier_cost(tier, upper - below);
        below = upper;
    }
    round(sum)
}

/// A price that is there, of `price`, or a new one of `price_data`, which is for one use and thus not active.
pub(crate) fn chosen(world: &mut World, parameters: &Parameters) -> Result<Option<Value>, ApiError> {
    match (parameters.text("price")?, parameters.part("price_data")?) {
        (Some(_), Some(_)) => {
            let message = "You may only specify one of these parameters: price, price_data.";
            Err(ApiError::value(&parameters.name("price"), message))
        }
        (Some(id), None) => named(world, &id, &parameters.name("price")).map(Some),
        (None, Some(part)) => {
            let product = product(world, &part)?;
            let mut price = read(world, &part, &product)?;
            price["active"] = json!(false);
            store(world, &price);
            Ok(Some(shown(price)))
        }
        (None, None) => Ok(None),
    }
}

/// A price by its id, that can be sold.
pub(crate) fn named(world: &World, id: &str, param: &str) -> Result<Value, ApiError> {
    let price = world.find(kind::PRICE, id, param)?;
    if price["active"] == false {
        return Err(ApiError::value(
            param,
            format!("The price specified is inactive. This field only accepts active prices: {id}"),
        ));
    }
    Ok(price.clone())
}

/// Frees a lookup key for another price: from the price that has it, if it may be taken from it.
fn take_lookup_key(world: &mut World, key: &str, transfer: bool) -> Result<(), ApiError> {
    let Some(before) = world.all(kind::PRICE).find(|price| price["lookup_key"] == key).cloned() else { return Ok(()) };
    if !transfer {
        let id = before["id"].as_str().unwrap_or_default();
        let message = format!(
            "A price (`{id}`) already uses that lookup key. Pass `transfer_lookup_key=true` to move it to another price."
        );
        return Err(ApiError::value("lookup_key", message));
    }
    let mut price = before.clone();
    price["lookup_key"] = Value::Null;
    change(world, &before, &price);
    Ok(())
}

fn change(world: &mut World, before: &Value, price: &Value) {
    world.save(kind::PRICE, price);
    subscriptions::refresh_price(world, price);
    world.announce_change("price.updated", before, price);
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::PRICE, request.id(), "id")?.clone();
    let mut price = before.clone();
    fill(&mut price, parameters)?;
    let transfer = parameters.flag("transfer_lookup_key")?.unwrap_or(false);
    if let Some(key) = parameters.unsettable_text("lookup_key")? {
        if let Some(key) = &key
            && before["lookup_key"] != key.as_str()
        {
            take_lookup_key(world, key, transfer)?;
        }
        price["lookup_key"] = json!(key);
    }
    parameters.finish()?;
    change(world, &before, &price);
    Ok(price)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::PRICE, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let active = parameters.flag("active")?;
    let currency = parameters.text("currency")?;
    let product = parameters.text("product")?;
    let kind_of = parameters.word("type", &["one_time", "recurring"])?;
    let keys = parameters.texts("lookup_keys")?;
    let interval = match parameters.part("recurring")? {
        None => None,
        Some(part) => part.word("interval", &["day", "week", "month", "year"])?,
    };
    let is = |price: &Value, field: &str, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| price[field] == wanted.as_str())
    };
    list::page(world, request, kind::PRICE, |price| {
        active.is_none_or(|active| price["active"] == active)
            && is(price, "currency", &currency)
            && is(price, "product", &product)
            && is(price, "type", &kind_of)
            && is(&price["recurring"], "interval", &interval)
            && keys.as_ref().is_none_or(|keys| keys.iter().any(|key| price["lookup_key"] == key.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{graduated, share, volume};

    #[test]
    fn tiers_by_hand() {
        let tiers = [
            json!({"unit_amount_decimal": "100", "flat_amount_decimal": "500", "up_to": 5}),
            json!({"unit_amount_decimal": "80", "flat_amount_decimal": null, "up_to": null}),
        ];
        // 5 x 100 + 500, and 2 x 80.
        assert_eq!(graduated(&tiers, 7), 1160);
        assert_eq!(graduated(&tiers, 5), 1000);
        assert_eq!(graduated(&tiers, 0), 500);
        assert_eq!(volume(&tiers, 7), 560);
        assert_eq!(volume(&tiers, 5), 1000);
    }

    #[test]
    fn shares_round_a_half_away_from_zero() {
        assert_eq!(share(5, 1, 2), 3);
        assert_eq!(share(-5, 1, 2), -3);
        assert_eq!(share(1000, 1, 3), 333);
        assert_eq!(share(2000, 1, 3), 667);
        assert_eq!(share(1000, 0, 0), 0);
    }
}
