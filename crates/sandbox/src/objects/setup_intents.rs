//! Setup intents (docs.stripe.com/api/setup_intents): a payment method is agreed on for later, without a payment.

use serde_json::{Value, json};

use crate::card::{self, Authentication};
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::payment_intents::{check_method, choose_methods, read_method};
use crate::objects::{checkout_sessions, payment_methods, subscriptions};
use crate::parameters::Parameters;
use crate::payment;
use crate::request::{Caller, Request};
use crate::world::World;

/// What a browser may see of a setup intent.
const VISIBLE: &[&str] = &[
    "id",
    "object",
    "automatic_payment_methods",
    "cancellation_reason",
    "client_secret",
    "created",
    "description",
    "last_setup_error",
    "livemode",
    "next_action",
    "payment_method",
    "payment_method_configuration_details",
    "payment_method_types",
    "status",
    "usage",
];

/// What else follows when a setup intent has succeeded, failed or was cancelled. To be told apart by its `status`.
const FOLLOWERS: &[fn(&mut World, &Value)] = &[subscriptions::follow_setup, checkout_sessions::follow];

fn follow(world: &mut World, id: &str) {
    for follower in FOLLOWERS {
        if let Some(intent) = world.get(kind::SETUP_INTENT, id).cloned() {
            follower(world, &intent);
        }
    }
}

/// Makes a setup intent for a customer (an id, or null), and announces it: for subscriptions and checkout sessions.
pub(crate) fn make(world: &mut World, customer: &Value, metadata: &Value) -> Value {
    let mut intent = blank(world, customer);
    if metadata.is_object() {
        intent["metadata"] = metadata.clone();
    }
    world.save(kind::SETUP_INTENT, &intent);
    world.announce("setup_intent.created", &intent);
    intent
}

fn blank(world: &mut World, customer: &Value) -> Value {
    let id = world.new_id(kind::SETUP_INTENT);
    json!({
        "id": id,
        "object": "setup_intent",
        "allowed_payment_method_types": null,
        "application": null,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": true},
        "cancellation_reason": null,
        "client_secret": format!("{id}_secret_{}", world.ids.text(24)),
        "created": world.now_for(customer),
        "customer": customer,
        "description": null,
        "excluded_payment_method_types": null,
        "flow_directions": null,
        "last_setup_error": null,
        "latest_attempt": null,
        "livemode": false,
        "mandate": null,
        "metadata": {},
        "next_action": null,
        "on_behalf_of": null,
        "payment_method": null,
        "payment_method_configuration_details": null,
        "payment_method_options": {
            "card": {"mandate_options": null, "network": null, "request_three_d_secure": "automatic"},
        },
        "payment_method_types": ["card"],
        "single_use_mandate": null,
        "status": "requires_payment_method",
        "usage": "off_session",
    })
}

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let customer = parameters.text("customer")?;
    if let Some(customer) = &customer {
        world.find(kind::CUSTOMER, customer, "customer")?;
    }
    let mut intent = blank(world, &json!(customer));
    if let Some(usage) = parameters.word("usage", &["off_session", "on_session"])? {
        intent["usage"] = json!(usage);
    }
    fill(world, &mut intent, parameters)?;
    let confirm = parameters.flag("confirm")?.unwrap_or(false);
    let return_url = parameters.address("return_url")?;
    let by_sdk = parameters.flag("use_stripe_sdk")?.unwrap_or(false);
    parameters.finish()?;
    if !confirm && return_url.is_some() {
        let message =
            "The parameter `return_url` cannot be passed when creating a SetupIntent unless `confirm` is set to true.";
        return Err(ApiError::value("return_url", message));
    }
    world.save(kind::SETUP_INTENT, &intent);
    world.announce("setup_intent.created", &intent);
    if !confirm {
        return Ok(intent);
    }
    confirm_now(world, intent["id"].as_str().unwrap_or_default(), return_url.as_deref(), !by_sdk)
}

/// What creation, update and confirmation share.
fn fill(world: &mut World, intent: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(intent, &["description"])?;
    parameters.copy_metadata(intent)?;
    choose_methods(intent, parameters)?;
    if let Some(options) = parameters.part("payment_method_options")? {
        let wanted = options.part("card")?.map(|card| card.text("request_three_d_secure")).transpose()?.flatten();
        if let Some(wanted) = wanted {
            intent["payment_method_options"]["card"]["request_three_d_secure"] = json!(wanted);
        }
        options.whole("card");
    }
    parameters.whole("mandate_data");
    if let Some(method) = read_method(world, parameters)? {
        intent["payment_method"] = method;
        intent["status"] = json!("requires_confirmation");
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let mut intent = world.find(kind::SETUP_INTENT, request.id(), "id")?.clone();
    if !request.parameters.only(&["metadata", "description"]) {
        require(&intent, "update", &["requires_payment_method", "requires_confirmation", "requires_action"])?;
    }
    if let Some(customer) = request.parameters.text("customer")? {
        world.find(kind::CUSTOMER, &customer, "customer")?;
        intent["customer"] = json!(customer);
    }
    fill(world, &mut intent, &request.parameters)?;
    request.parameters.finish()?;
    world.save(kind::SETUP_INTENT, &intent);
    Ok(intent)
}

pub(crate) fn confirm(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut intent = world.find(kind::SETUP_INTENT, request.id(), "id")?.clone();
    request.check_client_secret(intent["client_secret"].as_str().unwrap_or_default(), "SetupIntent")?;
    require(&intent, "confirm", &["requires_payment_method", "requires_confirmation", "requires_action"])?;
    let return_url = parameters.address("return_url")?;
    let by_sdk = parameters.flag("use_stripe_sdk")?.unwrap_or(false);
    fill(world, &mut intent, parameters)?;
    parameters.finish()?;
    world.save(kind::SETUP_INTENT, &intent);
    let by_server = request.caller == Caller::Secret && !by_sdk;
    let confirmed = confirm_now(world, request.id(), return_url.as_deref(), by_server);
    match request.caller {
        Caller::Publishable => confirmed.map(|intent| visible(&intent)).map_err(|mut error| {
            if let Some(intent) = error.fields.get_mut("setup_intent") {
                *intent = visible(intent);
            }
            error
        }),
        _ => confirmed,
    }
}

fn confirm_now(world: &mut World, id: &str, return_url: Option<&str>, by_server: bool) -> Result<Value, ApiError> {
    let intent = world.find(kind::SETUP_INTENT, id, "id")?.clone();
    let Some(method) = intent["payment_method"].as_str().map(str::to_owned) else {
        let message = "You cannot confirm this SetupIntent because it's missing a payment method. Update the SetupIntent with a \
                       payment method and then confirm it again.";
        return Err(unexpected(&intent, message.to_owned()));
    };
    let redirects = intent["automatic_payment_methods"]["allow_redirects"] == "always"
        && intent["allowed_payment_method_types"].is_null();
    if by_server && redirects && return_url.is_none() {
        return Err(ApiError::invalid(
            "This SetupIntent is configured to accept payment methods enabled in your Dashboard. Because some of these payment \
             methods might redirect your customer off of your page, you must provide a `return_url`. If you don't want to accept \
             redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` and \
             `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.",
        )
        .param("return_url"));
    }
    check_method(world, &method, &intent["customer"])?;
    let outcome = attempt(world, id, &method, return_url);
    follow(world, id);
    outcome.and_then(|()| world.find(kind::SETUP_INTENT, id, "id").cloned())
}

/// Tries to set a payment method up. An error is a decline, and keeps what it changed; `follow` is left to the caller.
fn attempt(world: &mut World, id: &str, method: &str, return_url: Option<&str>) -> Result<(), ApiError> {
    let Some(mut intent) = world.get(kind::SETUP_INTENT, id).cloned() else { return Ok(()) };
    let test_card = payment_methods::test_card(world, method);
    intent["payment_method"] = json!(method);
    if let Some(reason) = test_card.filter(|card| card.declines_setup).and_then(|card| card.decline) {
        let message = card::message(reason.code, reason.decline_code);
        let document = world.get(kind::PAYMENT_METHOD, method).cloned();
        let error =
            ApiError::card(reason.code, Some(reason.decline_code), message).with("payment_method", json!(document));
        let intent = fail(world, intent, &error);
        return Err(error.with("setup_intent", intent));
    }
    let requested = &intent["payment_method_options"]["card"]["request_three_d_secure"];
    let asks = match test_card.map_or(Authentication::Never, |card| card.authentication) {
        Authentication::Always | Authentication::UnlessSetUp => true,
        Authentication::OnSession | Authentication::Never => requested == "any" || requested == "challenge",
    };
    if asks {
        intent["status"] = json!("requires_action");
        intent["next_action"] = payment::next_action(world, &intent, return_url);
        world.save(kind::SETUP_INTENT, &intent);
        world.announce("setup_intent.requires_action", &intent);
    } else {
        succeed(world, intent);
    }
    Ok(())
}

fn succeed(world: &mut World, mut intent: Value) {
    let method = intent["payment_method"].as_str().unwrap_or_default().to_owned();
    if let Some(customer) = intent["customer"].as_str().map(str::to_owned) {
        payment_methods::tie(world, &method, &customer);
    }
    if intent["usage"] == "off_session" {
        payment_methods::note(world, &method, "set_up");
    }
    intent["status"] = json!("succeeded");
    intent["next_action"] = Value::Null;
    intent["last_setup_error"] = Value::Null;
    world.save(kind::SETUP_INTENT, &intent);
    world.announce("setup_intent.succeeded", &intent);
}

fn fail(world: &mut World, mut intent: Value, error: &ApiError) -> Value {
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["next_action"] = Value::Null;
    intent["last_setup_error"] = json!(error.fields);
    world.save(kind::SETUP_INTENT, &intent);
    world.announce("setup_intent.setup_failed", &intent);
    intent
}

/// What the customer said on the 3-D Secure page of a setup intent that waits for it. False: it waits for nothing.
pub(crate) fn authenticate(world: &mut World, id: &str, authorised: bool) -> bool {
    let Some(intent) = world.get(kind::SETUP_INTENT, id).cloned() else { return false };
    if intent["status"] != "requires_action" {
        return false;
    }
    if authorised {
        succeed(world, intent);
    } else {
        let method = intent["payment_method"].as_str().and_then(|id| world.get(kind::PAYMENT_METHOD, id)).cloned();
        let message = "The latest attempt to set up the payment method has failed because authentication failed.";
        let error = ApiError::invalid(message)
            .code("setup_intent_authentication_failure")
            .with("payment_method", json!(method));
        fail(world, intent, &error);
    }
    follow(world, id);
    true
}

pub(crate) fn cancel(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let reason =
        request.parameters.word("cancellation_reason", &["abandoned", "duplicate", "requested_by_customer"])?;
    request.parameters.finish()?;
    let intent = world.find(kind::SETUP_INTENT, request.id(), "id")?;
    require(intent, "cancel", &["requires_payment_method", "requires_confirmation", "requires_action"])?;
    Ok(cancel_as(world, request.id(), reason.as_deref()))
}

/// Cancels a setup intent that has not succeeded.
pub(crate) fn cancel_as(world: &mut World, id: &str, reason: Option<&str>) -> Value {
    let Some(mut intent) = world.get(kind::SETUP_INTENT, id).cloned() else { return Value::Null };
    intent["status"] = json!("canceled");
    intent["cancellation_reason"] = json!(reason);
    intent["next_action"] = Value::Null;
    world.save(kind::SETUP_INTENT, &intent);
    world.announce("setup_intent.canceled", &intent);
    follow(world, id);
    intent
}

/// Refuses what cannot be done in this state (`setup_intent_unexpected_state`).
fn require(intent: &Value, action: &str, statuses: &[&str]) -> Result<(), ApiError> {
    let status = intent["status"].as_str().unwrap_or_default();
    if statuses.contains(&status) {
        return Ok(());
    }
    let message = format!(
        "You cannot {action} this SetupIntent because it has a status of {status}. This is possible only with one of the \
         following statuses: {}.",
        statuses.join(", ")
    );
    Err(unexpected(intent, message))
}

fn unexpected(intent: &Value, message: String) -> ApiError {
    ApiError::invalid(message).code("setup_intent_unexpected_state").with("setup_intent", intent.clone())
}

fn visible(intent: &Value) -> Value {
    VISIBLE.iter().map(|field| ((*field).to_owned(), intent[*field].clone())).collect()
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let intent = world.find(kind::SETUP_INTENT, request.id(), "id")?;
    request.check_client_secret(intent["client_secret"].as_str().unwrap_or_default(), "SetupIntent")?;
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
    let method = request.parameters.text("payment_method")?;
    list::page(world, request, kind::SETUP_INTENT, |intent| {
        customer.as_ref().is_none_or(|customer| intent["customer"] == customer.as_str())
            && method.as_ref().is_none_or(|method| intent["payment_method"] == method.as_str())
    })
}
