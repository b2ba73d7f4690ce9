//! How money moves: one attempt to pay a payment intent with a payment method. Payment intents, invoices, subscriptions and
//! checkout sessions all pay through [`attempt`].

use serde_json::{Value, json};

use crate::card::{self, Aftermath, Authentication, TestCard};
use crate::error::ApiError;
use crate::kind;
use crate::objects::charges::{self, Attempted};
use crate::objects::invoices::collection;
use crate::objects::{balance_transactions, checkout_sessions, disputes, payment_methods};
use crate::world::World;

/// How a payment intent is to be paid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// The id of a payment method that exists, and that the caller has checked to be the customer's.
    pub(crate) payment_method: &'a str,
    /// Whether the customer is away: a card that asks for 3-D Secure is then declined with `authentication_required`.
    pub(crate) off_session: bool,
    /// Where 3-D Secure sends the browser back to. None: Stripe.js shows it on the page itself.
    pub(crate) return_url: Option<&'a str>,
    /// Declines instead of waiting for the customer to act.
    pub(crate) error_on_action: bool,
    /// Whether 3-D Secure has been passed just now.
    pub(crate) authenticated: bool,
}

/// What became of an attempt. The payment intent is as Stripe leaves it, and everything is announced.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Paid.
    Succeeded,
    /// Authorised, to be captured.
    Capturable,
    /// The customer must pass 3-D Secure: the payment intent has a `next_action`.
    ActionRequired,
    /// Declined: the 402, with charge, payment intent and payment method. It `keeps`.
    Declined(ApiError),
}

/// What else follows when a payment intent has changed its status, other than by a caller of `attempt`: when its own API or
/// the 3-D Secure page has paid, failed or cancelled it. To be told apart by the intent's `status`.
const FOLLOWERS: &[fn(&mut World, &Value)] = &[collection::follow, checkout_sessions::follow];

/// Lets everything follow that depends on a payment intent.
pub(crate) fn follow(world: &mut World, intent: &str) {
    for follower in FOLLOWERS {
        if let Some(intent) = world.get(kind::PAYMENT_INTENT, intent).cloned() {
            follower(world, &intent);
        }
    }
}

/// Tries to pay a payment intent. `follow` is left to the caller.
pub(crate) fn attempt(world: &mut World, intent: &str, attempt: &Attempt<'_>) -> Outcome {
    let Some(mut document) = world.get(kind::PAYMENT_INTENT, intent).cloned() else {
        return Outcome::Declined(ApiError::missing(kind::PAYMENT_INTENT, intent, "payment_intent"));
    };
    let Some(method) = world.get(kind::PAYMENT_METHOD, attempt.payment_method).cloned() else {
        return Outcome::Declined(ApiError::missing(kind::PAYMENT_METHOD, attempt.payment_method, "payment_method"));
    };
    document["payment_method"] = method["id"].clone();
    document["next_action"] = Value::Null;
    if let Some(fault) = world.take_decline() {
        let code = fault.code.unwrap_or_else(|| "card_declined".to_owned());
        let decline_code = fault.decline_code.unwrap_or_else(|| "generic_decline".to_owned());
        return decline(world, document, &method, &code, &decline_code);
    }
    let test_card = payment_methods::test_card(world, attempt.payment_method);
    if !attempt.authenticated && asks(world, &document, test_card, attempt) {
        if attempt.off_session || attempt.error_on_action {
            return decline(world, document, &method, "authentication_required", "authentication_required");
        }
        require_action(world, document, attempt);
        return Outcome::ActionRequired;
    }
    match test_card.and_then(|card| card.decline) {
        Some(reason) => decline(world, document, &method, reason.code, reason.decline_code),
        None => succeed(world, document, &method, test_card, attempt),
    }
}

/// Whether 3-D Secure is needed: because the card asks for it, or the payment intent does.
fn asks(world: &World, intent: &Value, test_card: Option<&TestCard>, attempt: &Attempt<'_>) -> bool {
    let set_up = world.hidden(kind::PAYMENT_METHOD, attempt.payment_method)["set_up"] == true;
    let requested = &intent["payment_method_options"]["card"]["request_three_d_secure"];
    match test_card.map_or(Authentication::Never, |card| card.authentication) {
        Authentication::Always => true,
        Authentication::UnlessSetUp => !(attempt.off_session && set_up),
        Authentication::OnSession => !attempt.off_session,
        Authentication::Never => !attempt.off_session && (requested == "any" || requested == "challenge"),
    }
}

/// What the customer must do to pass 3-D Secure: `path` is the kind of intent in the page's address.
pub(crate) fn next_action(world: &mut World, intent: &Value, return_url: Option<&str>) -> Value {
    let url = format!(
        "{}/pages/{}/3ds/{}?client_secret={}",
        world.base,
        world.name,
        intent["id"].as_str().unwrap_or_default(),
        intent["client_secret"].as_str().unwrap_or_default()
    );
    match return_url {
        Some(back) => json!({"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}}),
        None => json!({
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {
                "type": "three_d_secure_redirect", "stripe_js": url, "source": format!("src_{}", world.ids.text(24)),
            },
        }),
    }
}

fn require_action(world: &mut World, mut intent: Value, attempt: &Attempt<'_>) {
    intent["status"] = json!("requires_action");
    intent["next_action"] = next_action(world, &intent, attempt.return_url);
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.requires_action", &intent);
}

fn decline(world: &mut World, mut intent: Value, method: &Value, code: &str, decline_code: &str) -> Outcome {
    let message = card::message(code, decline_code);
    let charge = charges::make(world, &intent, method, &Attempted::Failed { code, decline_code, message });
    world.announce("charge.failed", &charge);
    let mut error = ApiError::card(code, Some(decline_code), message).with("charge", charge["id"].clone());
    if code == "card_declined" || code == "authentication_required" {
        let advice = if decline_code == "generic_decline" { "try_again_later" } else { "do_not_try_again" };
        error = error.with("advice_code", json!(advice));
    }
    error = error.with("payment_method", method.clone());
    intent["latest_charge"] = charge["id"].clone();
    fail(world, intent, &error);
    let id = charge["payment_intent"].as_str().unwrap_or_default();
    let intent = world.get(kind::PAYMENT_INTENT, id).cloned().unwrap_or_default();
    Outcome::Declined(error.with("payment_intent", intent))
}

/// Puts a payment intent back to where it needs a payment method, with what went wrong.
fn fail(world: &mut World, mut intent: Value, error: &ApiError) {
    intent["status"] = json!("requires_payment_method");
    intent["payment_method"] = Value::Null;
    intent["next_action"] = Value::Null;
    intent["last_payment_error"] = json!(error.fields);
    world.save(kind::PAYMENT_INTENT, &intent);
    world.announce("payment_intent.payment_failed", &intent);
}

fn succeed(
    world: &mut World,
    mut intent: Value,
    method: &Value,
    test_card: Option<&TestCard>,
    attempt: &Attempt<'_>,
) -> Outcome {
    let manual =
        intent["capture_method"] == "manual" || intent["payment_method_options"]["card"]["capture_method"] == "manual";
    let result = Attempted::Paid { captured: !manual, authenticated: attempt.authenticated };
    let mut charge = charges::make(world, &intent, method, &result);
    intent["latest_charge"] = charge["id"].clone();
    intent["last_payment_error"] = Value::Null;
    if manual {
        intent["status"] = json!("requires_capture");
        intent["amount_capturable"] = intent["amount"].clone();
    } else {
        book(world, &mut charge, test_card);
        intent["status"] = json!("succeeded");
        intent["amount_received"] = intent["amount"].clone();
    }
    world.save(kind::PAYMENT_INTENT, &intent);
    remember_method(world, &intent, attempt.payment_method);
    world.announce("charge.succeeded", &charge);
    let event = if manual { "payment_intent.amount_capturable_updated" } else { "payment_intent.succeeded" };
    world.announce(event, &intent);
    if let Some(Aftermath::Dispute(reason)) = test_card.map(|card| card.aftermath) {
        disputes::open(world, charge["id"].as_str().unwrap_or_default(), reason);
    }
    if manual { Outcome::Capturable } else { Outcome::Succeeded }
}

/// Books a captured charge: its balance transaction.
pub(crate) fn book(world: &mut World, charge: &mut Value, test_card: Option<&TestCard>) {
    let at_once = test_card.is_some_and(|card| card.aftermath == Aftermath::AvailableAtOnce);
    let transaction = balance_transactions::of_charge(world, charge, at_once);
    charge["balance_transaction"] = transaction["id"].clone();
    world.save(kind::CHARGE, charge);
}

/// What a payment leaves with its payment method: attached and set up where it was to be used again, spent where it belongs
/// to nobody.
fn remember_method(world: &mut World, intent: &Value, method: &str) {
    let wish = &intent["setup_future_usage"];
    let wish = if wish.is_null() { &intent["payment_method_options"]["card"]["setup_future_usage"] } else { wish };
    match intent["customer"].as_str() {
        Some(customer) if wish == "off_session" || wish == "on_session" => {
            payment_methods::tie(world, method, customer);
            if wish == "off_session" {
                payment_methods::note(world, method, "set_up");
            }
        }
        _ if world.get(kind::PAYMENT_METHOD, method).is_some_and(|method| method["customer"].is_null()) => {
            payment_methods::note(world, method, "used");
        }
        _ => {}
    }
}

/// What the customer said on the 3-D Secure page of a payment intent that waits for it. False: it waits for nothing.
pub(crate) fn authenticate(world: &mut World, id: &str, authorised: bool) -> bool {
    let Some(mut intent) = world.get(kind::PAYMENT_INTENT, id).cloned() else { return false };
    if intent["status"] != "requires_action" {
        return false;
    }
    if !authorised {
        let method = intent["payment_method"].as_str().and_then(|id| world.get(kind::PAYMENT_METHOD, id)).cloned();
        let message = "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new \
                       PaymentMethod to attempt to fulfill this PaymentIntent again.";
        let error = ApiError::invalid(message)
            .code("payment_intent_authentication_failure")
            .with("payment_method", json!(method));
        fail(world, intent, &error);
    } else if intent["confirmation_method"] == "manual" {
        intent["status"] = json!("requires_confirmation");
        intent["next_action"] = Value::Null;
        world.save(kind::PAYMENT_INTENT, &intent);
        world.hide(kind::PAYMENT_INTENT, id, json!({"authenticated": true}));
    } else {
        let method = intent["payment_method"].as_str().unwrap_or_default().to_owned();
        let again = Attempt {
            payment_method: &method,
            off_session: false,
            return_url: None,
            error_on_action: false,
            authenticated: true,
        };
        // A decline is told by the payment intent: the page has nobody to tell it to.
        attempt(world, id, &again);
    }
    follow(world, id);
    true
}
