//! Tax rates (docs.stripe.com/api/tax_rates): a percentage that is part of the price, or comes on top of it.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::prices::{decimal, number};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let percentage = decimal(parameters, "percentage")?.ok_or_else(|| parameters.missing("percentage"))?;
    if percentage > Decimal::ONE_HUNDRED || percentage.is_sign_negative() {
        return Err(ApiError::value("percentage", "Invalid percentage: must be between 0 and 100."));
    }
    let inclusive = parameters.flag("inclusive")?.ok_or_else(|| parameters.missing("inclusive"))?;
    let id = world.new_id(kind::TAX_RATE);
    let mut rate = json!({
        "id": id, "object": "tax_rate", "active": true, "country": null, "created": world.now(), "description": null,
        "display_name": parameters.required_text("display_name")?, "effective_percentage": number(percentage),
        "flat_amount": null, "inclusive": inclusive, "jurisdiction": null, "jurisdiction_level": null, "livemode": false,
        "metadata": {}, "percentage": number(percentage), "rate_type": "percentage", "state": null, "tax_type": null,
    });
    fill(&mut rate, parameters)?;
    parameters.finish()?;
    world.save(kind::TAX_RATE, &rate);
    world.announce("tax_rate.created", &rate);
    Ok(rate)
}

fn fill(rate: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(rate, &["country", "description", "jurisdiction", "state", "tax_type"])?;
    parameters.copy_metadata(rate)?;
    if let Some(active) = parameters.flag("active")? {
        rate["active"] = json!(active);
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::TAX_RATE, request.id(), "id")?.clone();
    let mut rate = before.clone();
    if let Some(name) = request.parameters.text("display_name")? {
        rate["display_name"] = json!(name);
    }
    fill(&mut rate, &request.parameters)?;
    request.parameters.finish()?;
    world.save(kind::TAX_RATE, &rate);
    world.announce_change("tax_rate.updated", &before, &rate);
    Ok(rate)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::TAX_RATE, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let active = request.parameters.flag("active")?;
    let inclusive = request.parameters.flag("inclusive")?;
    list::page(world, request, kind::TAX_RATE, |rate| {
        active.is_none_or(|active| rate["active"] == active)
            && inclusive.is_none_or(|inclusive| rate["inclusive"] == inclusive)
    })
}

/// The tax rates that a parameter lists by their ids; none if it was not sent, none of them if it was sent empty.
pub(crate) fn named(world: &World, parameters: &Parameters, key: &str) -> Result<Option<Vec<Value>>, ApiError> {
    let Some(ids) = parameters.texts(key)? else { return Ok(None) };
    let param = parameters.name(key);
    ids.iter().map(|id| world.find(kind::TAX_RATE, id, &param).cloned()).collect::<Result<_, _>>().map(Some)
}
