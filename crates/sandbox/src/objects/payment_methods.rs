//! Payment methods (docs.stripe.com/api/payment_methods): cards. Hidden beside one: `card`, the name of the test card;
//! `set_up`, whether its holder has agreed to payments off-session; `used`, whether it was used without a customer or
//! detached, so that it cannot be used again.

use serde_json::{Value, json};

use crate::card::{self, TestCard};
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::tokens;
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

const ADDRESS: &[&str] = &["city", "country", "line1", "line2", "postal_code", "state"];

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let method = read(world, &request.parameters)?;
    request.parameters.finish()?;
    Ok(method)
}

/// Makes a payment method of `type`, `card`, `billing_details`, `metadata` and `allow_redisplay`, as creation and
/// `payment_method_data` have them.
pub(crate) fn read(world: &mut World, parameters: &Parameters) -> Result<Value, ApiError> {
    let given = parameters.required_text("type")?;
    if given != "card" {
        let message = format!("The payment method type \"{given}\" is invalid: this sandbox has cards only.");
        return Err(ApiError::value(&parameters.name("type"), message));
    }
    let part = parameters.part("card")?.ok_or_else(|| parameters.missing("card"))?;
    let (test_card, rendered) = match part.text("token")? {
        Some(token) => tokens::spend(world, &token, &part.name("token"))?,
        None => card::read(&part, world.now())?,
    };
    part.whole("networks");
    parameters.whole("radar_options");
    let mut method = blank(world, &rendered);
    fill(&mut method, parameters)?;
    keep(world, &method, test_card);
    Ok(method)
}

fn blank(world: &mut World, rendered: &Value) -> Value {
    json!({
        "id": world.new_id(kind::PAYMENT_METHOD),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": {"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null},
            "email": null, "name": null, "phone": null, "tax_id": null,
        },
        "card": rendered,
        "created": world.now(),
        "customer": null,
        "livemode": false,
        "metadata": {},
        "type": "card",
    })
}

fn fill(method: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    if let Some(details) = parameters.part("billing_details")? {
        details.copy_texts(&mut method["billing_details"], &["email", "name", "phone", "tax_id"])?;
        details.copy_part(&mut method["billing_details"], "address", ADDRESS)?;
    }
    if let Some(allow) = parameters.word("allow_redisplay", &["always", "limited", "unspecified"])? {
        method["allow_redisplay"] = json!(allow);
    }
    parameters.copy_metadata(method)
}

fn keep(world: &mut World, method: &Value, test_card: &TestCard) {
    world.save(kind::PAYMENT_METHOD, method);
    let id = method["id"].as_str().unwrap_or_default();
    world.hide(kind::PAYMENT_METHOD, id, json!({"card": test_card.name(), "set_up": false, "used": false}));
}

/// The payment method that a parameter names. `pm_card_NAME` makes a fresh one each time.
pub(crate) fn resolve(world: &mut World, id: &str, param: &str) -> Result<Value, ApiError> {
    if let Some(test_card) = id.strip_prefix("pm_card_").and_then(card::by_name) {
        let rendered = test_card.for_a_year(world.now());
        let method = blank(world, &rendered);
        keep(world, &method, test_card);
        return Ok(method);
    }
    let wrong = if param == "id" { ApiError::missing(kind::PAYMENT_METHOD, id, "id") } else { no_such(id, param) };
    world.get(kind::PAYMENT_METHOD, id).cloned().ok_or(wrong)
}

fn no_such(id: &str, param: &str) -> ApiError {
    let mut error = ApiError::missing(kind::PAYMENT_METHOD, id, param);
    error.fields.insert("message".into(), json!(format!("No such PaymentMethod: '{id}'")));
    error
}

/// Which test card a payment method is.
pub(crate) fn test_card(world: &World, id: &str) -> Option<&'static TestCard> {
    card::by_name(world.hidden(kind::PAYMENT_METHOD, id)["card"].as_str()?)
}

/// Notes something hidden beside a payment method: `set_up`, `used`.
pub(crate) fn note(world: &mut World, id: &str, field: &str) {
    let mut hidden = world.hidden(kind::PAYMENT_METHOD, id).clone();
    if hidden.is_object() {
        hidden[field] = json!(true);
        world.hide(kind::PAYMENT_METHOD, id, hidden);
    }
}

/// Attaches to a customer; the card may decline that. Attached to the same customer already, nothing happens.
pub(crate) fn attach_to(world: &mut World, id: &str, customer: &str) -> Result<Value, ApiError> {
    let method = world.find(kind::PAYMENT_METHOD, id, "payment_method")?;
    if method["customer"] == customer {
        return Ok(method.clone());
    }
    if !method["customer"].is_null() {
        return Err(ApiError::invalid("The payment method you provided has already been attached to a customer."));
    }
    if world.hidden(kind::PAYMENT_METHOD, id)["used"] == true {
        return Err(used());
    }
    if let Some(decline) = test_card(world, id).filter(|card| card.declines_setup).and_then(|card| card.decline) {
        let message = card::message(decline.code, decline.decline_code);
        return Err(ApiError::card(decline.code, Some(decline.decline_code), message).undoing());
    }
    Ok(tie(world, id, customer))
}

/// Attaches without asking the card, because a payment or a setup with it has succeeded.
pub(crate) fn tie(world: &mut World, id: &str, customer: &str) -> Value {
    let Some(mut method) = world.get(kind::PAYMENT_METHOD, id).cloned() else { return Value::Null };
    if method["customer"].is_null() {
        method["customer"] = json!(customer);
        world.save(kind::PAYMENT_METHOD, &method);
        world.announce("payment_method.attached", &method);
    }
    method
}

/// 400: a payment method that is spent.
pub(crate) fn used() -> ApiError {
    ApiError::invalid(
        "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared with a \
         connected account without Customer attachment, or was detached from a Customer. It may not be used again. To use a \
         PaymentMethod multiple times, you must attach it to a Customer first.",
    )
}

pub(crate) fn attach(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let customer = request.parameters.required_text("customer")?;
    request.parameters.finish()?;
    let method = resolve(world, request.id(), "id")?;
    world.find(kind::CUSTOMER, &customer, "customer")?;
    attach_to(world, method["id"].as_str().unwrap_or_default(), &customer)
}

pub(crate) fn detach(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let method = world.find(kind::PAYMENT_METHOD, request.id(), "id")?;
    if method["customer"].is_null() {
        return Err(ApiError::invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        ));
    }
    Ok(untie(world, request.id()))
}

fn untie(world: &mut World, id: &str) -> Value {
    let Some(before) = world.get(kind::PAYMENT_METHOD, id).cloned() else { return Value::Null };
    let mut method = before.clone();
    method["customer"] = Value::Null;
    world.save(kind::PAYMENT_METHOD, &method);
    note(world, id, "used");
    if let Some(customer) = before["customer"].as_str().and_then(|id| world.get(kind::CUSTOMER, id)).cloned()
        && customer["invoice_settings"]["default_payment_method"] == id
    {
        let mut changed = customer.clone();
        changed["invoice_settings"]["default_payment_method"] = Value::Null;
        world.save(kind::CUSTOMER, &changed);
        world.announce_change("customer.updated", &customer, &changed);
    }
    let previous = json!({"customer": before["customer"]});
    world.announce_with("payment_method.detached", &method, Some(previous));
    method
}

/// Detaches everything of a customer that is being deleted.
pub(crate) fn detach_all(world: &mut World, customer: &str) {
    let ids: Vec<String> = world
        .all(kind::PAYMENT_METHOD)
        .filter(|method| method["customer"] == customer)
        .filter_map(|method| method["id"].as_str().map(str::to_owned))
        .collect();
    for id in ids {
        untie(world, &id);
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    resolve(world, request.id(), "id")
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::PAYMENT_METHOD, request.id(), "id")?.clone();
    let mut method = before.clone();
    fill(&mut method, &request.parameters)?;
    if let Some(part) = request.parameters.part("card")? {
        for field in ["exp_month", "exp_year"] {
            if let Some(number) = part.integer(field)? {
                method["card"][field] = json!(number);
            }
        }
        part.whole("networks");
    }
    request.parameters.finish()?;
    if before["customer"].is_null() {
        return Err(ApiError::invalid("You must save this PaymentMethod to a customer before you can update it."));
    }
    world.save(kind::PAYMENT_METHOD, &method);
    world.announce_change("payment_method.updated", &before, &method);
    Ok(method)
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let customer = request.parameters.text("customer")?;
    if let Some(customer) = &customer {
        world.find(kind::CUSTOMER, customer, "customer")?;
    }
    list_of(world, request, customer.as_deref())
}

/// `GET /v1/customers/{}/payment_methods`.
pub(crate) fn list_of_customer(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    world.find(kind::CUSTOMER, request.id(), "id")?;
    list_of(world, request, Some(request.id()))
}

fn list_of(world: &World, request: &Request, customer: Option<&str>) -> Result<Value, ApiError> {
    let wanted = request.parameters.text("type")?;
    let allow = request.parameters.text("allow_redisplay")?;
    list::page(world, request, kind::PAYMENT_METHOD, |method| {
        // Without a customer, Stripe lists what is attached to somebody.
        customer.map_or(!method["customer"].is_null(), |customer| method["customer"] == customer)
            && wanted.as_ref().is_none_or(|wanted| method["type"] == wanted.as_str())
            && allow.as_ref().is_none_or(|allow| method["allow_redisplay"] == allow.as_str())
    })
}

/// `GET /v1/customers/{}/payment_methods/{}`.
pub(crate) fn retrieve_of_customer(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let id = request.capture(1);
    world.find(kind::CUSTOMER, request.id(), "id")?;
    let method = world.find(kind::PAYMENT_METHOD, id, "id")?;
    if method["customer"] == request.id() {
        Ok(method.clone())
    } else {
        Err(ApiError::missing(kind::PAYMENT_METHOD, id, "id"))
    }
}
