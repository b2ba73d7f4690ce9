//! Coupons (docs.stripe.com/api/coupons): what a discount takes off.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::prices::{decimal, number};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let id = match parameters.text("id")? {
        Some(id) if world.find(kind::COUPON, &id, "id").is_ok() => {
            return Err(ApiError::parameter("resource_already_exists", "id", "Coupon already exists."));
        }
        Some(id) => id,
        None => world.ids.text(8),
    };
    let (percent, amount_off, currency) = worth(parameters)?;
    let duration = parameters.word("duration", &["forever", "once", "repeating"])?.unwrap_or("once".to_owned());
    let months = parameters.integer("duration_in_months")?;
    if (duration == "repeating") != months.is_some() {
        let message = "You must pass duration_in_months exactly when duration is repeating.";
        return Err(ApiError::value("duration_in_months", message));
    }
    let mut coupon = json!({
        "id": id,
        "object": "coupon",
        "amount_off": amount_off,
        "created": world.now(),
        "currency": currency,
        "duration": duration,
        "duration_in_months": months,
        "livemode": false,
        "max_redemptions": parameters.integer("max_redemptions")?,
        "metadata": {},
        "name": null,
        "percent_off": percent.map(number),
        "redeem_by": parameters.integer("redeem_by")?,
        "times_redeemed": 0,
        "valid": true,
    });
    parameters.copy_texts(&mut coupon, &["name"])?;
    parameters.copy_metadata(&mut coupon)?;
    parameters.finish()?;
    world.save(kind::COUPON, &coupon);
    world.announce("coupon.created", &coupon);
    Ok(coupon)
}

type Worth = (Option<Decimal>, Option<i64>, Option<String>);

fn worth(parameters: &Parameters) -> Result<Worth, ApiError> {
    let percent = decimal(parameters, "percent_off")?;
    let amount_off = parameters.integer("amount_off")?;
    let currency = amount::currency(parameters, "currency")?;
    if percent.is_some() == amount_off.is_some() {
        let message = "You must pass either percent_off or amount_off, and not both.";
        return Err(ApiError::value("percent_off", message));
    }
    if percent.is_some_and(|percent| percent <= Decimal::ZERO || percent > Decimal::ONE_HUNDRED) {
        return Err(ApiError::value("percent_off", "Invalid percent_off: must be greater than 0 and at most 100."));
    }
    if amount_off.is_some_and(|amount| amount < 1) {
        let message = "This value must be greater than or equal to 1.";
        return Err(ApiError::parameter("parameter_invalid_integer", "amount_off", message));
    }
    if amount_off.is_some() && currency.is_none() {
        return Err(parameters.missing("currency"));
    }
    Ok((percent, amount_off, currency))
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::COUPON, request.id(), "id")?.clone();
    let mut coupon = before.clone();
    request.parameters.copy_texts(&mut coupon, &["name"])?;
    request.parameters.copy_metadata(&mut coupon)?;
    request.parameters.finish()?;
    world.save(kind::COUPON, &coupon);
    world.announce_change("coupon.updated", &before, &coupon);
    Ok(coupon)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::COUPON, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    list::page(world, request, kind::COUPON, |_| true)
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let coupon = world.find(kind::COUPON, request.id(), "id")?.clone();
    world.announce("coupon.deleted", &coupon);
    // A discount goes on when its coupon is deleted; what it takes off is kept with it.
    Ok(world.delete(kind::COUPON, request.id()))
}

/// Counts a use of a coupon that can still be used; the coupon as it then is.
pub(crate) fn redeem(world: &mut World, id: &str, param: &str) -> Result<Value, ApiError> {
    let mut coupon = world.find(kind::COUPON, id, param)?.clone();
    let used = coupon["times_redeemed"].as_i64().unwrap_or(0);
    let over = coupon["redeem_by"].as_i64().is_some_and(|until| world.now() > until)
        || coupon["max_redemptions"].as_i64().is_some_and(|most| used >= most);
    if over {
        let message = format!("Coupon expired: {id}");
        return Err(ApiError::parameter("coupon_expired", param, message));
    }
    coupon["times_redeemed"] = json!(used + 1);
    coupon["valid"] = json!(coupon["max_redemptions"].as_i64().is_none_or(|most| used + 1 < most));
    world.save(kind::COUPON, &coupon);
    Ok(coupon)
}
