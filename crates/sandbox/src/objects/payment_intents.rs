//! Payment intents (docs.stripe.com/api/payment_intents): made, confirmed in one step or two, captured, cancelled. The
//! payment itself is in `payment.rs`. Hidden beside one: `authenticated`, whether 3-D Secure was passed before a manual
//! confirmation.

use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::{charges, payment_methods};
use crate::parameters::Parameters;
use crate::payment::{self, Attempt, Outcome};
use crate::request::{Caller, Request};
use crate::time::Due;
use crate::world::World;

/// How long money that was not captured is held, in seconds.
const SEVEN_DAYS: i64 = 7 * 24 * 3600;

const TEXTS: &[&str] = &["description", "statement_descriptor", "statement_descriptor_suffix", "transfer_group"];

/// What a browser may see of a payment intent (docs.stripe.com/api/payment_intents/object: "with a publishable key").
const VISIBLE: &[&str] = &[
    "id",
    "object",
    "amount",
    "amount_details",
    "automatic_payment_methods",
    "canceled_at",
    "cancellation_reason",
    "capture_method",
    "client_secret",
    "confirmation_method",
    "created",
    "currency",
    "description",
    "last_payment_error",
    "livemode",
    "next_action",
    "payment_method",
    "payment_method_configuration_details",
    "payment_method_types",
    "processing",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "source",
    "status",
];

/// What a payment intent begins with that something else than its own API makes: an invoice, a checkout session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    /// In the currency's smallest unit.
    pub(crate) amount: i64,
    pub(crate) currency: &'a str,
    /// An id, or null.
    pub(crate) customer: &'a Value,
    pub(crate) description: Option<&'a str>,
    /// `off_session`, `on_session` or none: whether success attaches the payment method to the customer.
    pub(crate) setup_future_usage: Option<&'a str>,
    /// `automatic_async` or `manual`.
    pub(crate) capture_method: &'a str,
    pub(crate) metadata: &'a Value,
}

/// Makes a payment intent, and announces it. It is paid with `payment::attempt`.
pub(crate) fn make(world: &mut World, new: &New<'_>) -> Value {
    let mut intent = blank(world, new.amount, new.currency, new.customer);
    intent["description"] = json!(new.description);
    intent["setup_future_usage"] = json!(new.setup_future_usage);
    intent["capture_method"] = json!(new.capture_method);
    if new.metadata.is_object() {
        intent["metadata"] = new.metadata.clone();
    }
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.created", &intent);
    intent
}

fn blank(world: &mut World, amount: i64, currency: &str, customer: &Value) -> Value {
    let id = world.new_id(kind::PAYMENT_INTENT);
    json!({
        "id": id,
        "object": "payment_intent",
        "allowed_payment_method_types": null,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": null,
        "application_fee_amount": null,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": true},
        "canceled_at": null,
        "cancellation_reason": null,
        "capture_method": "automatic_async",
        "client_secret": format!("{id}_secret_{}", world.ids.text(24)),
        "confirmation_method": "automatic",
        "created": world.now_for(customer),
        "currency": currency,
        "customer": customer,
        "description": null,
        "excluded_payment_method_types": null,
        "last_payment_error": null,
        "latest_charge": null,
        "livemode": false,
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {
            "card": {"installments": null, "mandate_options": null, "network": null, "request_three_d_secure": "automatic"},
        },
        "payment_method_types": ["card"],
        "processing": null,
        "receipt_email": null,
        "review": null,
        "setup_future_usage": null,
        "shipping": null,
        "source": null,
        "statement_descriptor": null,
        "statement_descriptor_suffix": null,
        "status": "requires_payment_method",
        "transfer_data": null,
        "transfer_group": null,
    })
}

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let amount = parameters.required_integer("amount")?;
    let currency = amount::currency(parameters, "currency")?.ok_or_else(|| parameters.missing("currency"))?;
    let customer = customer(world, parameters)?;
    let mut intent = blank(world, amount, &currency, &json!(customer));
    fill(world, &mut intent, parameters)?;
    if let Some(method) = parameters.word("confirmation_method", &["automatic", "manual"])? {
        intent["confirmation_method"] = json!(method);
    }
    let confirm = parameters.flag("confirm")?.unwrap_or(false);
    let confirmation = Confirmation::read(request)?;
    parameters.finish()?;
    if !confirm && (confirmation.off_session || confirmation.return_url.is_some() || confirmation.error_on_action) {
        let param = if confirmation.off_session {
            "off_session"
        } else if confirmation.return_url.is_some() {
            "return_url"
        } else {
            "error_on_requires_action"
        };
        let message = format!(
            "The parameter `{param}` cannot be passed when creating a PaymentIntent unless `confirm` is set to true."
        );
        return Err(ApiError::value(param, message));
    }
    amount::check(amount, &currency, "amount")?;
    check_chosen(world, &intent)?;
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.created", &intent);
    if !confirm {
        return Ok(intent);
    }
    confirm_now(world, intent["id"].as_str().unwrap_or_default(), &confirmation)
}

fn customer(world: &World, parameters: &Parameters) -> Result<Option<String>, ApiError> {
    let customer = parameters.text("customer")?;
    if let Some(customer) = &customer {
        world.find(kind::CUSTOMER, customer, "customer")?;
    }
    Ok(customer)
}

/// What creation, update and confirmation share.
fn fill(world: &mut World, intent: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(intent, TEXTS)?;
    parameters.copy_texts(intent, &["receipt_email"])?;
    parameters.copy_metadata(intent)?;
    copy_shipping(intent, parameters)?;
    if let Some(usage) = parameters.unsettable_text("setup_future_usage")? {
        if usage.as_ref().is_some_and(|usage| usage != "on_session" && usage != "off_session") {
            let message = "Invalid setup_future_usage: must be one of off_session, or on_session";
            return Err(ApiError::value("setup_future_usage", message));
        }
        intent["setup_future_usage"] = json!(usage);
    }
    if let Some(method) = parameters.word("capture_method", &["automatic", "automatic_async", "manual"])? {
        intent["capture_method"] = json!(method);
    }
    choose_methods(intent, parameters)?;
    if let Some(options) = parameters.part("payment_method_options")? {
        let card = options.part("card")?;
        for field in ["request_three_d_secure", "capture_method", "setup_future_usage"] {
            if let Some(text) = card.as_ref().map(|card| card.text(field)).transpose()?.flatten() {
                intent["payment_method_options"]["card"][field] = json!(text);
            }
        }
        options.whole("card");
    }
    for ignored in ["radar_options", "mandate_data", "payment_details", "amount_details"] {
        parameters.whole(ignored);
    }
    if let Some(method) = read_method(world, parameters)? {
        intent["payment_method"] = method;
        intent["status"] = json!("requires_confirmation");
    }
    Ok(())
}

fn copy_shipping(intent: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    match parameters.part("shipping")? {
        Some(part) => {
            let mut shipping = json!({
                "address": null, "carrier": null, "name": part.required_text("name")?, "phone": null, "tracking_number": null,
            });
            part.copy_texts(&mut shipping, &["carrier", "phone", "tracking_number"])?;
            part.copy_part(&mut shipping, "address", &["city", "country", "line1", "line2", "postal_code", "state"])?;
            intent["shipping"] = shipping;
        }
        None if parameters.is_unset("shipping") => intent["shipping"] = Value::Null,
        None => {}
    }
    Ok(())
}

/// Which kinds of payment methods are allowed: with cards alone, nothing redirects.
pub(crate) fn choose_methods(intent: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    let automatic = parameters.part("automatic_payment_methods")?;
    let allowed = parameters.texts("allowed_payment_method_types")?;
    let excluded = parameters.texts("excluded_payment_method_types")?;
    let chosen = [automatic.is_some(), allowed.is_some(), excluded.is_some()].iter().filter(|chosen| **chosen).count();
    if chosen > 1 && allowed.is_some() {
        let message = "You may only specify one of these parameters: automatic_payment_methods, allowed_payment_method_types, \
                       excluded_payment_method_types.";
        return Err(ApiError::value("allowed_payment_method_types", message));
    }
    if let Some(part) = automatic {
        let enabled = part.flag("enabled")?.ok_or_else(|| part.missing("enabled"))?;
        let redirects = part.word("allow_redirects", &["always", "never"])?.unwrap_or_else(|| "always".to_owned());
        intent["automatic_payment_methods"] =
            if enabled { json!({"allow_redirects": redirects, "enabled": true}) } else { Value::Null };
    }
    if let Some(allowed) = allowed {
        if !allowed.iter().any(|one| one == "card") {
            let message = "None of the allowed payment method types can be used: this sandbox has cards only.";
            return Err(ApiError::value("allowed_payment_method_types", message));
        }
        intent["allowed_payment_method_types"] = json!(allowed);
    }
    if let Some(excluded) = excluded {
        intent["excluded_payment_method_types"] = json!(excluded);
    }
    Ok(())
}

/// The id of the payment method that `payment_method` or `payment_method_data` gives.
pub(crate) fn read_method(world: &mut World, parameters: &Parameters) -> Result<Option<Value>, ApiError> {
    let named = parameters.text("payment_method")?;
    let data = parameters.part("payment_method_data")?;
    match (named, data) {
        (Some(_), Some(_)) => Err(ApiError::value(
            "payment_method_data",
            "You may only specify one of these parameters: payment_method, payment_method_data.",
        )),
        (Some(id), None) => Ok(Some(payment_methods::resolve(world, &id, "payment_method")?["id"].clone())),
        (None, Some(part)) => Ok(Some(payment_methods::read(world, &part)?["id"].clone())),
        (None, None) => Ok(None),
    }
}

/// How a confirmation is to go.
struct Confirmation {
    off_session: bool,
    return_url: Option<String>,
    error_on_action: bool,
    /// Whether a redirect would have nowhere to go back to, and nobody who handles it.
    by_server: bool,
}

impl Confirmation {
    fn read(request: &Request) -> Result<Self, ApiError> {
        let parameters = &request.parameters;
        let off_session = parameters.word("off_session", &["true", "false", "one_off", "recurring"])?;
        let return_url = parameters.address("return_url")?;
        let by_sdk = parameters.flag("use_stripe_sdk")?.unwrap_or(false);
        Ok(Self {
            off_session: off_session.is_some_and(|word| word != "false"),
            return_url,
            error_on_action: parameters.flag("error_on_requires_action")?.unwrap_or(false),
            by_server: request.caller == Caller::Secret && !by_sdk,
        })
    }
}

pub(crate) fn confirm(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut intent = world.find(kind::PAYMENT_INTENT, request.id(), "id")?.clone();
    request.check_client_secret(intent["client_secret"].as_str().unwrap_or_default(), "PaymentIntent")?;
    require(&intent, "confirm", &["requires_payment_method", "requires_confirmation", "requires_action"])?;
    if request.caller == Caller::Publishable && intent["confirmation_method"] == "manual" {
        let message = "This PaymentIntent cannot be confirmed using your publishable key because its confirmation_method is manual.";
        return Err(ApiError::invalid(message));
    }
    let confirmation = Confirmation::read(request)?;
    fill(world, &mut intent, parameters)?;
    parameters.finish()?;
    world.save(kind::PAYMENT_INTENT, &intent);
    let confirmed = confirm_now(world, request.id(), &confirmation);
    match request.caller {
        Caller::Publishable => confirmed.map(|intent| visible(&intent)).map_err(|mut error| {
            if let Some(intent) = error.fields.get_mut("payment_intent") {
                *intent = visible(intent);
            }
            error
        }),
        _ => confirmed,
    }
}

/// Confirms a saved payment intent whose parameters are read.
fn confirm_now(world: &mut World, id: &str, confirmation: &Confirmation) -> Result<Value, ApiError> {
    let intent = world.find(kind::PAYMENT_INTENT, id, "id")?.clone();
    let Some(method) = intent["payment_method"].as_str().map(str::to_owned) else {
        return Err(unexpected(
            &intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the \
             PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment \
             method or ConfirmationToken."
                .to_owned(),
        ));
    };
    let redirects = intent["automatic_payment_methods"]["allow_redirects"] == "always"
        && intent["allowed_payment_method_types"].is_null();
    if confirmation.by_server && redirects && confirmation.return_url.is_none() {
        return Err(ApiError::invalid(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of these \
             payment methods might redirect your customer off of your page, you must provide a `return_url`. If you don't want \
             to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` and \
             `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.",
        )
        .param("return_url"));
    }
    check_method(world, &method, &intent["customer"])?;
    let authenticated = world.hidden(kind::PAYMENT_INTENT, id)["authenticated"] == true;
    let attempt = Attempt {
        payment_method: &method,
        off_session: confirmation.off_session,
        return_url: confirmation.return_url.as_deref(),
        error_on_action: confirmation.error_on_action,
        authenticated,
    };
    world.hide(kind::PAYMENT_INTENT, id, Value::Null);
    let outcome = payment::attempt(world, id, &attempt);
    payment::follow(world, id);
    match outcome {
        Outcome::Declined(error) => Err(error),
        Outcome::Succeeded | Outcome::Capturable | Outcome::ActionRequired => {
            world.find(kind::PAYMENT_INTENT, id, "id").cloned()
        }
    }
}

/// Refuses a payment intent whose payment method is somebody else's, or spent.
fn check_chosen(world: &World, intent: &Value) -> Result<(), ApiError> {
    match intent["payment_method"].as_str() {
        Some(method) => check_method(world, method, &intent["customer"]),
        None => Ok(()),
    }
}

/// Refuses a payment method that is somebody else's, or spent.
pub(crate) fn check_method(world: &World, method: &str, customer: &Value) -> Result<(), ApiError> {
    let document = world.find(kind::PAYMENT_METHOD, method, "payment_method")?;
    if !document["customer"].is_null() && document["customer"] != *customer {
        let message = if customer.is_null() {
            format!(
                "The provided PaymentMethod ({method}) is attached to a customer. To use it, you must include that customer."
            )
        } else {
            "The payment method supplied belongs to a different customer than the one on the PaymentIntent. Please provide \
             the right customer."
                .to_owned()
        };
        return Err(ApiError::invalid(message).param("payment_method"));
    }
    if world.hidden(kind::PAYMENT_METHOD, method)["used"] == true && document["customer"].is_null() {
        return Err(payment_methods::used());
    }
    Ok(())
}

/// Refuses what cannot be done in this state (`payment_intent_unexpected_state`).
fn require(intent: &Value, action: &str, statuses: &[&str]) -> Result<(), ApiError> {
    let status = intent["status"].as_str().unwrap_or_default();
    if statuses.contains(&status) {
        return Ok(());
    }
    let message = if action == "confirm" && status == "succeeded" {
        "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
            .to_owned()
    } else {
        format!(
            "You cannot {action} this PaymentIntent because it has a status of {status}. Only a PaymentIntent with one of the \
             following statuses may be {}: {}.",
            match action {
                "cancel" => "canceled",
                "capture" => "captured",
                "update" => "updated",
                _ => "confirmed",
            },
            statuses.join(", ")
        )
    };
    Err(unexpected(intent, message))
}

fn unexpected(intent: &Value, message: String) -> ApiError {
    ApiError::invalid(message).code("payment_intent_unexpected_state").with("payment_intent", intent.clone())
}

fn visible(intent: &Value) -> Value {
    VISIBLE.iter().map(|field| ((*field).to_owned(), intent[*field].clone())).collect()
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::PAYMENT_INTENT, request.id(), "id")?.clone();
    let mut intent = before.clone();
    let harmless = ["metadata", "description", "receipt_email", "statement_descriptor", "transfer_group"];
    let waiting = ["requires_payment_method", "requires_confirmation", "requires_action"];
    if !parameters.only(&harmless) {
        require(&before, "update", &waiting)?;
    }
    if let Some(amount) = parameters.integer("amount")? {
        intent["amount"] = json!(amount);
    }
    if let Some(currency) = amount::currency(parameters, "currency")? {
        intent["currency"] = json!(currency);
    }
    if let Some(customer) = customer(world, parameters)? {
        if !before["customer"].is_null() && before["customer"] != customer.as_str() {
            return Err(ApiError::value("customer", "You cannot change the customer of a PaymentIntent."));
        }
        intent["customer"] = json!(customer);
    }
    fill(world, &mut intent, parameters)?;
    parameters.finish()?;
    if intent["payment_method"] != before["payment_method"] || intent["customer"] != before["customer"] {
        check_chosen(world, &intent)?;
    }
    if intent["amount"] != before["amount"] || intent["currency"] != before["currency"] {
        amount::check(
            intent["amount"].as_i64().unwrap_or(0),
            intent["currency"].as_str().unwrap_or_default(),
            "amount",
        )?;
    }
    world.save(kind::PAYMENT_INTENT, &intent);
    Ok(intent)
}

pub(crate) fn capture(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut intent = world.find(kind::PAYMENT_INTENT, request.id(), "id")?.clone();
    let wanted = parameters.integer("amount_to_capture")?;
    parameters.copy_texts(&mut intent, &["statement_descriptor", "statement_descriptor_suffix"])?;
    parameters.copy_metadata(&mut intent)?;
    parameters.flag("final_capture")?;
    parameters.finish()?;
    if intent["status"] == "succeeded" {
        let message = "This PaymentIntent could not be captured because it has already been captured.";
        return Err(unexpected(&intent, message.to_owned()));
    }
    require(&intent, "capture", &["requires_capture"])?;
    let held = intent["amount_capturable"].as_i64().unwrap_or(0);
    let amount = wanted.unwrap_or(held);
    if amount < 1 || amount > held {
        let message = format!("The amount to capture must be between 1 and the amount that can be captured ({held}).");
        return Err(ApiError::value("amount_to_capture", message));
    }
    charges::capture(world, intent["latest_charge"].as_str().unwrap_or_default(), amount);
    intent["amount_capturable"] = json!(0);
    intent["amount_received"] = json!(amount);
    intent["status"] = json!("succeeded");
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.succeeded", &intent);
    payment::follow(world, request.id());
    Ok(intent)
}

pub(crate) fn cancel(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let reasons = ["abandoned", "duplicate", "fraudulent", "requested_by_customer"];
    let reason = request.parameters.word("cancellation_reason", &reasons)?;
    request.parameters.finish()?;
    let intent = world.find(kind::PAYMENT_INTENT, request.id(), "id")?;
    let open =
        ["requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing"];
    require(intent, "cancel", &open)?;
    let intent = cancel_as(world, request.id(), reason.as_deref());
    payment::follow(world, request.id());
    Ok(intent)
}

/// Cancels a payment intent, which has not succeeded: what it holds is let go. `void_invoice` and `expired` are reasons
/// that only Stripe gives. `follow` is left to the caller.
pub(crate) fn cancel_as(world: &mut World, id: &str, reason: Option<&str>) -> Value {
    let Some(mut intent) = world.get(kind::PAYMENT_INTENT, id).cloned() else { return Value::Null };
    if intent["status"] == "requires_capture" {
        let event = if reason == Some("expired") { "charge.expired" } else { "charge.refunded" };
        charges::release(world, intent["latest_charge"].as_str().unwrap_or_default(), event);
    }
    intent["status"] = json!("canceled");
    intent["canceled_at"] = json!(world.now_for(&intent["customer"]));
    intent["cancellation_reason"] = json!(reason);
    intent["amount_capturable"] = json!(0);
    intent["next_action"] = Value::Null;
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.canceled", &intent);
    intent
}

/// Money that is not captured within seven days is let go.
pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for intent in world.all(kind::PAYMENT_INTENT).filter(|intent| intent["status"] == "requires_capture") {
        let charge = intent["latest_charge"].as_str().and_then(|charge| world.get(kind::CHARGE, charge));
        let Some((id, created)) = intent["id"].as_str().zip(charge.and_then(|charge| charge["created"].as_i64()))
        else {
            continue;
        };
        let run: fn(&mut World, &str) = |world, id| {
            cancel_as(world, id, Some("expired"));
            payment::follow(world, id);
        };
        let clock = world.test_clock_of(&intent["customer"]);
        found.push(Due { at: created + SEVEN_DAYS, what: "payment_intent.expire", id: id.to_owned(), clock, run });
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let intent = world.find(kind::PAYMENT_INTENT, request.id(), "id")?;
    request.check_client_secret(intent["client_secret"].as_str().unwrap_or_default(), "PaymentIntent")?;
    if request.caller == Caller::Publishable {
        request.parameters.text("is_stripe_sdk")?;
        request.parameters.finish()?;
        return Ok(visible(intent));
    }
    request.parameters.finish()?;
    Ok(intent.clone())
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let customer = request.parameters.text("customer")?;
    list::page(world, request, kind::PAYMENT_INTENT, |intent| {
        customer.as_ref().is_none_or(|customer| intent["customer"] == customer.as_str())
    })
}
