//! Discounts (docs.stripe.com/api/discounts): a coupon at work on a subscription or an invoice.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::coupons;
use crate::parameters::Parameters;
use crate::period::Interval;
use crate::world::World;

/// What `discounts[]` of a request asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    coupon: Option<String>,
    discount: Option<String>,
    param: String,
}

/// Reads `discounts[][coupon]` and `discounts[][discount]`; none if it was not sent.
pub(crate) fn read(parameters: &Parameters) -> Result<Option<Vec<Asked>>, ApiError> {
    let Some(parts) = parameters.parts("discounts")? else { return Ok(None) };
    let mut asked = Vec::new();
    for part in &parts {
        let (coupon, discount) = (part.text("coupon")?, part.text("discount")?);
        if coupon.is_some() == discount.is_some() {
            let message = "You must pass exactly one of coupon and discount.";
            return Err(ApiError::value(&part.name("coupon"), message));
        }
        let param = part.name(if coupon.is_some() { "coupon" } else { "discount" });
        asked.push(Asked { coupon, discount, param });
    }
    Ok(Some(asked))
}

/// Makes the discounts that a request asks for, on an owner (`subscription` or `invoice`, and its id). Their ids.
pub(crate) fn make(
    world: &mut World,
    asked: Vec<Asked>,
    customer: &Value,
    owner: (&str, &str),
    currency: &str,
) -> Result<Value, ApiError> {
    let mut ids = Vec::new();
    for one in asked {
        if let Some(id) = one.discount {
            world.find(kind::DISCOUNT, &id, &one.param)?;
            ids.push(id);
            continue;
        }
        let coupon = coupons::redeem(world, &one.coupon.unwrap_or_default(), &one.param)?;
        if coupon["currency"].as_str().is_some_and(|of| of != currency) {
            let message = format!("The coupon's currency must be that of what it is applied to, which is {currency}.");
            return Err(ApiError::value(&one.param, message));
        }
        let id = world.new_id(kind::DISCOUNT);
        let start = world.now_for(customer);
        let end = coupon["duration_in_months"].as_i64().map(|months| Interval::months(months).start(start, 1));
        let mut discount = json!({
            "id": id, "object": "discount", "checkout_session": null, "customer": customer, "customer_account": null, "end": end, "invoice": null,
            "invoice_item": null, "promotion_code": null, "source": {"coupon": coupon["id"], "type": "coupon"},
            "start": start, "subscription": null, "subscription_item": null,
        });
        discount[owner.0] = json!(owner.1);
        world.save(kind::DISCOUNT, &discount);
        // The coupon can be deleted; what the discount takes off stays.
        world.hide(kind::DISCOUNT, &id, json!({ "coupon": coupon }));
        if owner.0 == "subscription" {
            world.announce("customer.discount.created", &discount);
        }
        ids.push(id);
    }
    Ok(json!(ids))
}

/// The coupon of a discount.
pub(crate) fn coupon<'a>(world: &'a World, discount: &str) -> &'a Value {
    &world.hidden(kind::DISCOUNT, discount)["coupon"]
}

/// Takes from a subscription the discounts that are over: a coupon for once that an invoice has used, one for some months after
/// them. Those that stay.
pub(crate) fn still_on(world: &mut World, discounts: &Value, used: bool, now: i64) -> Value {
    let ids: Vec<String> =
        discounts.as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let mut stay = Vec::new();
    for id in ids {
        let once = used && coupon(world, &id)["duration"] == "once";
        let Some(discount) = world.get(kind::DISCOUNT, &id).cloned() else { continue };
        if once || discount["end"].as_i64().is_some_and(|end| end <= now) {
            world.announce("customer.discount.deleted", &discount);
        } else {
            stay.push(id);
        }
    }
    json!(stay)
}
