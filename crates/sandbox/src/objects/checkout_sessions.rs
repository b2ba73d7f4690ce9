//! Checkout Sessions (docs.stripe.com/api/checkout/sessions): what is bought, and where the buyer pays it. Hidden beside one:
//! `line_items`; `data`, what the payment intent, setup intent or subscription will be made with; `intent`, the payment or
//! setup intent that the page has confirmed; `details`, what the buyer has typed about himself.

use serde_json::{Map, Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::{checkout_lines, payment_intents, setup_intents};
use crate::parameters::Parameters;
use crate::payment;
use crate::request::Request;
use crate::time::Due;
use crate::world::World;

/// How long a session is open if nothing is said, in seconds.
const A_DAY: i64 = 24 * 60 * 60;

/// The first version whose `ui_mode` is `hosted_page`; before, it was `hosted`.
const DAHLIA: &str = "2026-03-25";

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mode =
        parameters.word("mode", &["payment", "setup", "subscription"])?.ok_or_else(|| parameters.missing("mode"))?;
    let ui_mode = ui_mode(request)?;
    let success_url = parameters.address("success_url")?.ok_or_else(|| parameters.missing("success_url"))?;
    let customer = customer(world, parameters, &mode)?;
    let lines = checkout_lines::read(world, parameters, &mode)?;
    let trial = parameters
        .part("subscription_data")?
        .is_some_and(|data| data.has("trial_end") || data.has("trial_period_days"));
    let totals = checkout_lines::totals(&lines, trial);
    let currency = currency(parameters, &lines)?;
    if let Some(currency) = &currency
        && mode == "payment"
        && totals.total != 0
    {
        amount::check(totals.total, currency, "line_items").map_err(|error| error.param("line_items"))?;
    }
    let data = data(parameters, &mode)?;
    let id = world.new_id(kind::CHECKOUT_SESSION);
    let now = world.now();
    let expires_at = expires_at(parameters, now)?;
    let mut session = blank(&id, &mode, now);
    merge(
        &mut session,
        json!({
            "amount_subtotal": currency.as_ref().filter(|_| mode != "setup").map(|_| totals.subtotal),
            "amount_total": currency.as_ref().filter(|_| mode != "setup").map(|_| totals.total),
            "currency": currency, "expires_at": expires_at, "success_url": success_url, "ui_mode": ui_mode,
            "payment_status": if mode == "setup" || totals.total == 0 { "no_payment_required" } else { "unpaid" },
            "url": format!("{}/pages/{}/checkout/{id}", request.base, world.name),
        }),
    );
    merge(&mut session, customer);
    read_the_rest(&mut session, parameters)?;
    parameters.finish()?;
    if mode == "setup" {
        let mut setup = data.clone();
        if !session["customer"].is_null() {
            setup["customer"] = session["customer"].clone();
        }
        session["setup_intent"] = setup_intents::create(world, &request.within("", setup))?["id"].clone();
    }
    world.save(kind::CHECKOUT_SESSION, &session);
    world.hide(kind::CHECKOUT_SESSION, &id, json!({"line_items": lines, "data": data}));
    Ok(session)
}

/// Fields that are null until something fills them; many stay so here.
const EMPTY: &[&str] = &[
    "adaptive_pricing",
    "after_expiration",
    "allow_promotion_codes",
    "amount_subtotal",
    "amount_total",
    "billing_address_collection",
    "branding_settings",
    "cancel_url",
    "client_reference_id",
    "client_secret",
    "collected_information",
    "consent",
    "consent_collection",
    "currency",
    "currency_conversion",
    "customer",
    "customer_account",
    "customer_creation",
    "customer_details",
    "customer_email",
    "expires_at",
    "integration_identifier",
    "invoice",
    "total_details",
    "payment_method_collection",
    "invoice_creation",
    "locale",
    "origin_context",
    "payment_intent",
    "payment_link",
    "payment_method_configuration_details",
    "permissions",
    "recovered_from",
    "saved_payment_method_options",
    "setup_intent",
    "shipping_address_collection",
    "shipping_cost",
    "submit_type",
    "subscription",
    "success_url",
    "ui_mode",
    "url",
    "wallet_options",
];

fn blank(id: &str, mode: &str, now: i64) -> Value {
    let mut session = json!({
        "id": id, "object": "checkout.session", "created": now, "mode": mode, "status": "open", "livemode": false,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "custom_fields": [], "discounts": [], "metadata": {}, "payment_method_options": {},
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "payment_method_types": ["card"], "phone_number_collection": {"enabled": false}, "shipping_options": [],
    });
    for field in EMPTY {
        session[*field] = Value::Null;
    }
    if mode != "setup" {
        session["total_details"] = json!({"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0});
    }
    if mode == "subscription" {
        session["payment_method_collection"] = json!("always");
    }
    if mode == "payment" {
        session["invoice_creation"] = json!({"enabled": false, "invoice_data": {
            "account_tax_ids": null, "custom_fields": null, "description": null, "footer": null, "issuer": null,
            "metadata": {}, "rendering_options": null,
        }});
    }
    session
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// The sandbox has a page of its own only. Before 2026-03-25 its word was `hosted`.
fn ui_mode(request: &Request) -> Result<&'static str, ApiError> {
    let old = request.version.as_str() < DAHLIA;
    match request.parameters.text("ui_mode")?.as_deref() {
        None => Ok(if old { "hosted" } else { "hosted_page" }),
        Some("hosted_page") => Ok("hosted_page"),
        Some("hosted") => Ok("hosted"),
        Some(other) => {
            Err(ApiError::value("ui_mode", format!("Invalid ui_mode: this sandbox has hosted_page only, not {other}.")))
        }
    }
}

/// `customer`, `customer_email` and `customer_creation`.
fn customer(world: &World, parameters: &Parameters, mode: &str) -> Result<Value, ApiError> {
    let customer = parameters.text("customer")?;
    let email = parameters.text("customer_email")?;
    let creation = parameters.word("customer_creation", &["always", "if_required"])?;
    if let Some(id) = &customer {
        world.find(kind::CUSTOMER, id, "customer")?;
        if email.is_some() {
            let message = "You may only specify one of these parameters: customer, customer_email.";
            return Err(ApiError::value("customer", message));
        }
    }
    if creation.is_some() && (mode == "subscription" || customer.is_some()) {
        let message = "`customer_creation` can only be used in `payment` and `setup` mode, and without a `customer`.";
        return Err(ApiError::value("customer_creation", message));
    }
    let usual = (mode == "payment" && customer.is_none()).then(|| "if_required".to_owned());
    Ok(json!({"customer": customer, "customer_email": email, "customer_creation": creation.or(usual)}))
}

/// That of the lines, which must agree with what is said.
fn currency(parameters: &Parameters, lines: &[Value]) -> Result<Option<String>, ApiError> {
    let given = amount::currency(parameters, "currency")?;
    let found = lines.first().and_then(|line| line["currency"].as_str()).map(str::to_owned);
    match (&given, &found) {
        (Some(given), Some(found)) if given != found => {
            Err(ApiError::value("currency", format!("The line items are in {found}, not in {given}.")))
        }
        _ => Ok(found.or(given)),
    }
}

/// What `payment_intent_data`, `setup_intent_data` or `subscription_data` says, to be handed on when the buyer pays.
fn data(parameters: &Parameters, mode: &str) -> Result<Value, ApiError> {
    let (name, fields): (&str, &[&str]) = match mode {
        "payment" => (
            "payment_intent_data",
            &[
                "capture_method",
                "description",
                "metadata",
                "receipt_email",
                "setup_future_usage",
                "shipping",
                "statement_descriptor",
                "statement_descriptor_suffix",
            ],
        ),
        "setup" => ("setup_intent_data", &["description", "metadata"]),
        _ => (
            "subscription_data",
            &[
                "billing_cycle_anchor",
                "billing_mode",
                "default_tax_rates",
                "description",
                "metadata",
                "proration_behavior",
                "trial_end",
                "trial_period_days",
                "trial_settings",
            ],
        ),
    };
    for other in ["payment_intent_data", "setup_intent_data", "subscription_data"] {
        if other != name && parameters.has(other) {
            let message = format!("You can not pass `{other}` in `{mode}` mode.");
            return Err(ApiError::value(other, message));
        }
    }
    let mut data = Map::new();
    if let Some(part) = parameters.part(name)? {
        for field in fields {
            if let Some(value) = part.whole(field) {
                data.insert((*field).to_owned(), value);
            }
        }
    }
    Ok(Value::Object(data))
}

fn expires_at(parameters: &Parameters, now: i64) -> Result<i64, ApiError> {
    let Some(at) = parameters.integer("expires_at")? else { return Ok(now + A_DAY) };
    if at < now + 30 * 60 || at > now + A_DAY {
        let message =
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.";
        return Err(ApiError::value("expires_at", message));
    }
    Ok(at)
}

/// What is kept and shown, and changes nothing else here.
fn read_the_rest(session: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    session["cancel_url"] = json!(parameters.address("cancel_url")?);
    parameters.copy_texts(session, &["client_reference_id", "locale", "origin_context"])?;
    parameters.copy_metadata(session)?;
    let words: [(&str, &[&str]); 3] = [
        ("billing_address_collection", &["auto", "required"]),
        ("payment_method_collection", &["always", "if_required"]),
        ("submit_type", &["auto", "book", "donate", "pay", "subscribe"]),
    ];
    for (name, words) in words {
        if let Some(word) = parameters.word(name, words)? {
            session[name] = json!(word);
        }
    }
    for name in ["automatic_tax", "invoice_creation", "phone_number_collection"] {
        if let Some(part) = parameters.part(name)?
            && part.flag("enabled")? == Some(true)
        {
            let name = part.name("enabled");
            return Err(ApiError::value(&name, format!("This sandbox does not have {name}.")));
        }
    }
    if parameters.flag("allow_promotion_codes")? == Some(true) {
        let message = "This sandbox does not have promotion codes.";
        return Err(ApiError::value("allow_promotion_codes", message));
    }
    Ok(())
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::CHECKOUT_SESSION, request.id(), "id").cloned()
}

/// Only metadata can be changed.
pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let mut session = world.find(kind::CHECKOUT_SESSION, request.id(), "id")?.clone();
    request.parameters.copy_metadata(&mut session)?;
    request.parameters.finish()?;
    world.save(kind::CHECKOUT_SESSION, &session);
    Ok(session)
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut wanted = Vec::new();
    for field in ["customer", "payment_intent", "subscription"] {
        wanted.push((field, parameters.text(field)?));
    }
    wanted.push(("status", parameters.word("status", &["complete", "expired", "open"])?));
    let email = match parameters.part("customer_details")? {
        Some(part) => Some(part.required_text("email")?),
        None => None,
    };
    list::page(world, request, kind::CHECKOUT_SESSION, |session| {
        wanted.iter().all(|(field, value)| value.as_ref().is_none_or(|value| session[*field] == value.as_str()))
            && email.as_ref().is_none_or(|email| session["customer_details"]["email"] == email.as_str())
    })
}

/// `GET /v1/checkout/sessions/{}/line_items`.
pub(crate) fn list_lines(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let session = world.find(kind::CHECKOUT_SESSION, request.id(), "id")?.clone();
    request.parameters.integer("limit")?;
    request.parameters.text("starting_after")?;
    request.parameters.text("ending_before")?;
    request.parameters.finish()?;
    Ok(line_items(world, &session))
}

/// The list that `expand[]=line_items` puts into a session.
pub(crate) fn line_items(world: &World, session: &Value) -> Value {
    let id = session["id"].as_str().unwrap_or_default();
    let lines = world.hidden(kind::CHECKOUT_SESSION, id)["line_items"].as_array().cloned().unwrap_or_default();
    json!({"object": "list", "data": lines, "has_more": false, "url": format!("/v1/checkout/sessions/{id}/line_items")})
}

/// `POST /v1/checkout/sessions/{}/expire`.
pub(crate) fn expire(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let session = world.find(kind::CHECKOUT_SESSION, request.id(), "id")?;
    if session["status"] != "open" {
        let status = session["status"].as_str().unwrap_or_default();
        let message = format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Session has a status of {status}."
        );
        return Err(ApiError::invalid(message));
    }
    expire_now(world, request.id());
    world.find(kind::CHECKOUT_SESSION, request.id(), "id").cloned()
}

fn expire_now(world: &mut World, id: &str) {
    let Some(mut session) = world.get(kind::CHECKOUT_SESSION, id).cloned() else { return };
    session["status"] = json!("expired");
    session["url"] = Value::Null;
    world.save(kind::CHECKOUT_SESSION, &session);
    world.announce("checkout.session.expired", &session);
    // What it would have been paid with is given up with it.
    let (payment, setup) = (given_up(world, &session["payment_intent"]), given_up(world, &session["setup_intent"]));
    if let Some(intent) = payment {
        payment_intents::cancel_as(world, &intent, Some("expired"));
        payment::follow(world, &intent);
    }
    if let Some(intent) = setup {
        setup_intents::cancel_as(world, &intent, Some("abandoned"));
    }
}

/// The id of an intent that is to be cancelled, unless it is already.
fn given_up(world: &World, intent: &Value) -> Option<String> {
    let intent = world.find_any(intent.as_str()?).filter(|intent| intent["status"] != "canceled")?;
    intent["id"].as_str().map(str::to_owned)
}

/// An open session expires.
pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for session in world.all(kind::CHECKOUT_SESSION).filter(|session| session["status"] == "open") {
        let id = session["id"].as_str().unwrap_or_default().to_owned();
        let at = session["expires_at"].as_i64().unwrap_or(i64::MAX);
        found.push(Due { at, what: "checkout.expire", id, clock: None, run: expire_now });
    }
}

/// Completes the session whose intent has gone through, also when the buyer does not come back from 3-D Secure.
pub(crate) fn follow(world: &mut World, intent: &Value) {
    let session = world
        .all(kind::CHECKOUT_SESSION)
        .filter(|session| session["status"] == "open")
        .filter_map(|session| session["id"].as_str())
        .find(|id| world.hidden(kind::CHECKOUT_SESSION, id)["intent"] == intent["id"]);
    if let Some(id) = session.map(str::to_owned)
        && is_settled(world, &id)
    {
        complete(world, &id);
    }
}

/// Whether the intent that the page has confirmed has gone through.
fn is_settled(world: &World, id: &str) -> bool {
    intent(world, id).is_some_and(|intent| {
        intent["status"] == "succeeded" || intent["status"] == "requires_capture" || intent["status"] == "processing"
    })
}

/// The payment or setup intent that the page has confirmed last.
pub(crate) fn intent<'a>(world: &'a World, id: &str) -> Option<&'a Value> {
    world.find_any(world.hidden(kind::CHECKOUT_SESSION, id)["intent"].as_str()?)
}

/// Notes something hidden beside a session.
pub(crate) fn note(world: &mut World, id: &str, field: &str, value: Value) {
    let mut hidden = world.hidden(kind::CHECKOUT_SESSION, id).clone();
    hidden[field] = value;
    world.hide(kind::CHECKOUT_SESSION, id, hidden);
}

/// Completes an open session, with what the buyer has typed about himself.
pub(crate) fn complete(world: &mut World, id: &str) {
    let Some(mut session) = world.get(kind::CHECKOUT_SESSION, id).cloned() else { return };
    if session["status"] != "open" {
        return;
    }
    let intent = intent(world, id).cloned().unwrap_or_default();
    if session["payment_status"] == "unpaid" && intent["status"] == "succeeded" {
        session["payment_status"] = json!("paid");
    }
    let details = world.hidden(kind::CHECKOUT_SESSION, id)["details"].clone();
    session["customer_details"] = details;
    if let Some(subscription) = session["subscription"].as_str().and_then(|id| world.get(kind::SUBSCRIPTION, id)) {
        session["invoice"] = subscription["latest_invoice"].clone();
    }
    session["status"] = json!("complete");
    session["url"] = Value::Null;
    world.save(kind::CHECKOUT_SESSION, &session);
    world.announce("checkout.session.completed", &session);
}
