//! Customers (docs.stripe.com/api/customers).

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::payment_methods;
use crate::objects::subscriptions::cancel;
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

const ADDRESS: &[&str] = &["city", "country", "line1", "line2", "postal_code", "state"];

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let clock = parameters.text("test_clock")?;
    let created = match &clock {
        None => world.now(),
        Some(id) => world.find(kind::TEST_CLOCK, id, "test_clock")?["frozen_time"].as_i64().unwrap_or(0),
    };
    let id = world.new_id(kind::CUSTOMER);
    let mut customer = json!({
        "id": id,
        "object": "customer",
        "address": null,
        "balance": 0,
        "created": created,
        "currency": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": null,
        "invoice_prefix": world.ids.text(8).to_uppercase(),
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null
        },
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "phone": null,
        "preferred_locales": [],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": clock,
    });
    fill(&mut customer, parameters)?;
    let method = parameters.text("payment_method")?;
    parameters.finish()?;
    let attached = match &method {
        None => None,
        Some(named) => Some(payment_methods::resolve(world, named, "payment_method")?["id"].clone()),
    };
    let default = &mut customer["invoice_settings"]["default_payment_method"];
    // `pm_card_visa` named twice in one request is the same one.
    if let (Some(attached), Some(named)) = (&attached, &method)
        && *default == named.as_str()
    {
        *default = attached.clone();
    }
    world.save(kind::CUSTOMER, &customer);
    world.announce("customer.created", &customer);
    if let Some(attached) = attached.as_ref().and_then(Value::as_str) {
        payment_methods::attach_to(world, attached, &id)?;
    }
    check_default(world, &customer)?;
    Ok(customer)
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::CUSTOMER, request.id(), "id")?.clone();
    let mut customer = before.clone();
    fill(&mut customer, &request.parameters)?;
    request.parameters.finish()?;
    check_default(world, &customer)?;
    world.save(kind::CUSTOMER, &customer);
    world.announce_change("customer.updated", &before, &customer);
    Ok(customer)
}

/// Refuses a default payment method that is not the customer's.
fn check_default(world: &World, customer: &Value) -> Result<(), ApiError> {
    let Some(id) = customer["invoice_settings"]["default_payment_method"].as_str() else { return Ok(()) };
    let param = "invoice_settings[default_payment_method]";
    let method = world.find(kind::PAYMENT_METHOD, id, param)?;
    if method["customer"] == customer["id"] {
        return Ok(());
    }
    let message = format!(
        "The customer does not have a payment method with the ID {id}. The payment method must be attached to the customer."
    );
    Err(ApiError::invalid(message).code("resource_missing").param(param))
}

/// What creation and update share.
fn fill(customer: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(customer, &["description", "email", "name", "phone"])?;
    parameters.copy_metadata(customer)?;
    parameters.copy_part(customer, "address", ADDRESS)?;
    match parameters.part("shipping")? {
        Some(part) => {
            let mut shipping = json!({"address": null, "name": part.required_text("name")?, "phone": null});
            part.copy_texts(&mut shipping, &["phone"])?;
            part.copy_part(&mut shipping, "address", ADDRESS)?;
            customer["shipping"] = shipping;
        }
        None if parameters.is_unset("shipping") => customer["shipping"] = Value::Null,
        None => {}
    }
    if let Some(balance) = parameters.integer("balance")? {
        customer["balance"] = json!(balance);
    }
    if let Some(locales) = parameters.texts("preferred_locales")? {
        customer["preferred_locales"] = json!(locales);
    }
    if let Some(exempt) = parameters.word("tax_exempt", &["exempt", "none", "reverse"])? {
        customer["tax_exempt"] = json!(exempt);
    }
    if let Some(prefix) = parameters.text("invoice_prefix")? {
        customer["invoice_prefix"] = json!(prefix);
    }
    if let Some(sequence) = parameters.integer("next_invoice_sequence")? {
        customer["next_invoice_sequence"] = json!(sequence);
    }
    if let Some(part) = parameters.part("invoice_settings")? {
        part.copy_texts(&mut customer["invoice_settings"], &["default_payment_method", "footer"])?;
    }
    Ok(())
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    // A deleted customer can still be read; nothing else that is deleted can.
    let customer = world.get(kind::CUSTOMER, request.id());
    customer.cloned().ok_or_else(|| ApiError::missing(kind::CUSTOMER, request.id(), "id"))
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let email = request.parameters.text("email")?;
    let clock = request.parameters.text("test_clock")?;
    list::page(world, request, kind::CUSTOMER, |customer| {
        email.as_ref().is_none_or(|email| customer["email"] == email.as_str())
            && clock.as_ref().is_none_or(|clock| customer["test_clock"] == clock.as_str())
    })
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let customer = world.find(kind::CUSTOMER, request.id(), "id")?.clone();
    cancel::end_all_of(world, request.id());
    payment_methods::detach_all(world, request.id());
    world.announce("customer.deleted", &customer);
    Ok(world.delete(kind::CUSTOMER, request.id()))
}
