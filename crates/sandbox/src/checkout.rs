//! What happens when the buyer of a Checkout Session pays: the customer, the payment method, the intent or subscription are
//! made by the API's own handlers, and what goes wrong is what the API says.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::{
    checkout_sessions, customers, invoice_payments, payment_intents, payment_methods, setup_intents, subscriptions,
};
use crate::request::Request;
use crate::world::World;

/// What the buyer has typed.
pub(crate) struct Buyer {
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
    /// Number, expiry and security code, as `payment_method_data[card]` has them. None where nothing is to be paid.
    pub(crate) card: Option<Value>,
    pub(crate) postal_code: Option<String>,
}

/// Where the browser goes next.
pub(crate) enum Next {
    /// The session is complete.
    Done,
    /// To the page of 3-D Secure.
    Redirect(String),
}

/// Pays an open session. An error of the card keeps what was made: a second try goes on from there.
pub(crate) fn pay(world: &mut World, request: &Request, id: &str, buyer: &Buyer, back: &str) -> Result<Next, ApiError> {
    let session = world.find(kind::CHECKOUT_SESSION, id, "id")?.clone();
    let customer = customer(world, request, &session, buyer)?;
    let details = json!({
        "address": {
            "city": null, "country": null, "line1": null, "line2": null, "postal_code": buyer.postal_code, "state": null,
        },
        "business_name": null, "email": buyer.email, "individual_name": null, "name": buyer.name, "phone": null,
        "tax_exempt": "none", "tax_ids": [],
    });
    checkout_sessions::note(world, id, "details", details);
    let method = match &buyer.card {
        Some(card) => Some(method(world, request, buyer, card)?),
        None => None,
    };
    let intent = match session["mode"].as_str() {
        Some("setup") => session["setup_intent"].clone(),
        Some("subscription") => subscription(world, request, &session, &customer)?,
        _ => payment(world, request, &session, &customer)?,
    };
    let Some(method) = method else {
        checkout_sessions::complete(world, id);
        return Ok(Next::Done);
    };
    let Some(intent) = intent.as_str() else {
        // Nothing is due now, and nothing asks for the card yet: it is kept for when it is.
        keep(world, request, id, &method)?;
        checkout_sessions::complete(world, id);
        return Ok(Next::Done);
    };
    checkout_sessions::note(world, id, "intent", json!(intent));
    let form = json!({"payment_method": method, "return_url": back});
    let confirmed = if intent.starts_with("seti_") {
        setup_intents::confirm(world, &request.within(intent, form))
    } else {
        payment_intents::confirm(world, &request.within(intent, form))
    }
    .map_err(ApiError::keeping)?;
    match confirmed["next_action"]["redirect_to_url"]["url"].as_str() {
        Some(url) => Ok(Next::Redirect(url.to_owned())),
        None => Ok(Next::Done),
    }
}

/// The session's customer; where it needs one and has none, a new one, which later tries use too.
fn customer(world: &mut World, request: &Request, session: &Value, buyer: &Buyer) -> Result<Value, ApiError> {
    let wanted = session["mode"] == "subscription" || session["customer_creation"] == "always";
    if !session["customer"].is_null() || !wanted {
        return Ok(session["customer"].clone());
    }
    let mut form = json!({"email": buyer.email, "name": buyer.name});
    if let Some(fields) = form.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let customer = customers::create(world, &request.within("", form))?["id"].clone();
    change(world, session, "customer", &customer);
    if let Some(setup) = session["setup_intent"].as_str() {
        setup_intents::update(world, &request.within(setup, json!({"customer": customer})))?;
    }
    Ok(customer)
}

fn change(world: &mut World, session: &Value, field: &str, value: &Value) {
    let id = session["id"].as_str().unwrap_or_default();
    if let Some(mut session) = world.get(kind::CHECKOUT_SESSION, id).cloned() {
        session[field] = value.clone();
        world.save(kind::CHECKOUT_SESSION, &session);
    }
}

fn method(world: &mut World, request: &Request, buyer: &Buyer, card: &Value) -> Result<String, ApiError> {
    let mut details = json!({"email": buyer.email, "name": buyer.name});
    if let Some(fields) = details.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if let Some(code) = &buyer.postal_code {
        details["address"] = json!({"postal_code": code});
    }
    let form = json!({"type": "card", "card": card, "billing_details": details});
    let method = payment_methods::create(world, &request.within("", form))?;
    Ok(method["id"].as_str().unwrap_or_default().to_owned())
}

/// The payment intent of a session in `payment` mode; null where nothing is to be paid.
fn payment(world: &mut World, request: &Request, session: &Value, customer: &Value) -> Result<Value, ApiError> {
    if !session["payment_intent"].is_null() || session["amount_total"] == 0 {
        return Ok(session["payment_intent"].clone());
    }
    let mut form = data(world, session);
    form["amount"] = session["amount_total"].clone();
    form["currency"] = session["currency"].clone();
    if !customer.is_null() {
        form["customer"] = customer.clone();
    }
    let intent = payment_intents::create(world, &request.within("", form))?["id"].clone();
    change(world, session, "payment_intent", &intent);
    Ok(intent)
}

/// Attaches a card to the session's customer, for the renewals of its subscription.
fn keep(world: &mut World, request: &Request, id: &str, method: &str) -> Result<(), ApiError> {
    let session = world.find(kind::CHECKOUT_SESSION, id, "id")?.clone();
    if let Some(customer) = session["customer"].as_str() {
        payment_methods::attach_to(world, method, customer)?;
    }
    if let Some(subscription) = session["subscription"].as_str() {
        subscriptions::update::update(world, &request.within(subscription, json!({"default_payment_method": method})))?;
    }
    Ok(())
}

/// What is to be handed on: `payment_intent_data` or its like.
fn data(world: &World, session: &Value) -> Value {
    let id = session["id"].as_str().unwrap_or_default();
    world.hidden(kind::CHECKOUT_SESSION, id)["data"].clone()
}

/// The subscription of a session, made at the first try; and the intent that pays its first invoice, or that sets the card
/// up for a trial. Null where there is none.
fn subscription(world: &mut World, request: &Request, session: &Value, customer: &Value) -> Result<Value, ApiError> {
    let id = match session["subscription"].as_str() {
        Some(id) => id.to_owned(),
        None => {
            let form = subscription_form(world, session, customer);
            // Prices of `price_data` are for this one sale, and thus not active; a subscription takes active ones only.
            set_active(world, session, true);
            let made = subscriptions::create::create(world, &request.within("", form));
            set_active(world, session, false);
            let made = made?["id"].clone();
            change(world, session, "subscription", &made);
            made.as_str().unwrap_or_default().to_owned()
        }
    };
    let subscription = world.find(kind::SUBSCRIPTION, &id, "subscription")?;
    if !subscription["pending_setup_intent"].is_null() {
        return Ok(subscription["pending_setup_intent"].clone());
    }
    let invoice = subscription["latest_invoice"].as_str().unwrap_or_default();
    Ok(json!(invoice_payments::intent_of(world, invoice)))
}

/// Makes the prices active for a moment that were not when the session was made.
fn set_active(world: &mut World, session: &Value, active: bool) {
    let id = session["id"].as_str().unwrap_or_default();
    let lines = world.hidden(kind::CHECKOUT_SESSION, id)["line_items"].as_array().cloned().unwrap_or_default();
    for line in lines.iter().filter(|line| line["price"]["active"] == false) {
        if let Some(mut price) = line["price"]["id"].as_str().and_then(|id| world.get(kind::PRICE, id)).cloned() {
            price["active"] = json!(active);
            world.save(kind::PRICE, &price);
        }
    }
}

fn subscription_form(world: &World, session: &Value, customer: &Value) -> Value {
    let id = session["id"].as_str().unwrap_or_default();
    let lines = world.hidden(kind::CHECKOUT_SESSION, id)["line_items"].as_array().cloned().unwrap_or_default();
    let (recurring, once): (Vec<&Value>, Vec<&Value>) =
        lines.iter().partition(|line| line["price"]["type"] == "recurring");
    let item = |line: &&Value| json!({"price": line["price"]["id"], "quantity": line["quantity"]});
    let mut form = data(world, session);
    form["customer"] = customer.clone();
    form["items"] = recurring.iter().map(item).collect();
    if !once.is_empty() {
        form["add_invoice_items"] = once.iter().map(item).collect();
    }
    form["payment_behavior"] = json!("default_incomplete");
    form["payment_settings"] = json!({"save_default_payment_method": "on_subscription"});
    form
}
