//! Tokens (docs.stripe.com/api/tokens): a card, to be used once. `tok_NAME` stands for a test card and can be used always.

use serde_json::{Value, json};

use crate::card::{self, TestCard};
use crate::error::ApiError;
use crate::kind;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let part = request.parameters.part("card")?.ok_or_else(|| request.parameters.missing("card"))?;
    let now = world.now();
    let (test_card, rendered) = card::read(&part, now)?;
    let mut address = json!({});
    for field in
        ["name", "address_line1", "address_line2", "address_city", "address_state", "address_zip", "address_country"]
    {
        address[field] = json!(part.text(field)?);
    }
    request.parameters.finish()?;
    let id = world.new_id(kind::TOKEN);
    let token = json!({
        "id": id,
        "object": "token",
        "card": {
            "id": format!("card_{}", world.ids.text(24)), "object": "card", "brand": rendered["brand"],
            "country": rendered["country"], "exp_month": rendered["exp_month"], "exp_year": rendered["exp_year"],
            "fingerprint": rendered["fingerprint"], "funding": rendered["funding"], "last4": rendered["last4"],
            "metadata": {}, "name": address["name"], "address_line1": address["address_line1"],
            "address_line2": address["address_line2"], "address_city": address["address_city"],
            "address_state": address["address_state"], "address_zip": address["address_zip"],
            "address_country": address["address_country"], "cvc_check": rendered["checks"]["cvc_check"],
            "dynamic_last4": null, "tokenization_method": null, "wallet": null,
        },
        "client_ip": null,
        "created": now,
        "livemode": false,
        "type": "card",
        "used": false,
    });
    world.save(kind::TOKEN, &token);
    world.hide(kind::TOKEN, &id, json!({"card": test_card.name(), "rendered": rendered}));
    Ok(token)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::TOKEN, request.id(), "id").cloned()
}

/// Uses a token up: the test card that it is, and its `card`.
pub(crate) fn spend(world: &mut World, id: &str, param: &str) -> Result<(&'static TestCard, Value), ApiError> {
    if let Some(test_card) = id.strip_prefix("tok_").and_then(card::by_name) {
        let rendered = test_card.for_a_year(world.now());
        return Ok((test_card, rendered));
    }
    let mut token = world.find(kind::TOKEN, id, param)?.clone();
    if token["used"] == true {
        let message = format!("You cannot use a Stripe token more than once: {id}.");
        return Err(ApiError::invalid(message).code("token_already_used").param(param));
    }
    let hidden = world.hidden(kind::TOKEN, id).clone();
    let name = hidden["card"].as_str().unwrap_or_default();
    let test_card = card::by_name(name).ok_or_else(|| ApiError::missing(kind::TOKEN, id, param))?;
    token["used"] = json!(true);
    world.save(kind::TOKEN, &token);
    Ok((test_card, hidden["rendered"].clone()))
}
