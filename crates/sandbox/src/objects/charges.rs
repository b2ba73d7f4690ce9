//! Charges (docs.stripe.com/api/charges): what payment intents make when they are paid, or try to be.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::payment_methods;
use crate::request::Request;
use crate::world::World;

/// What became of a charge.
pub(crate) enum Attempted<'a> {
    /// The bank said yes; not `captured` only holds the money.
    Paid { captured: bool, authenticated: bool },
    /// The bank said no.
    Failed { code: &'a str, decline_code: &'a str, message: &'a str },
}

/// Makes the charge of a payment intent with a payment method.
pub(crate) fn make(world: &mut World, intent: &Value, method: &Value, attempted: &Attempted<'_>) -> Value {
    let id = world.new_id(kind::CHARGE);
    let amount = &intent["amount"];
    let (paid, captured) = match attempted {
        Attempted::Paid { captured, .. } => (true, *captured),
        Attempted::Failed { .. } => (false, false),
    };
    let (failure_code, failure_message) = match attempted {
        Attempted::Paid { .. } => (Value::Null, Value::Null),
        Attempted::Failed { code, message, .. } => (json!(code), json!(message)),
    };
    let mut charge = json!({
        "id": id,
        "object": "charge",
        "amount": amount,
        "amount_captured": if captured { amount.clone() } else { json!(0) },
        "amount_refunded": 0,
        "application": null,
        "application_fee": null,
        "application_fee_amount": null,
        "balance_transaction": null,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "SANDBOX",
        "captured": captured,
        "created": world.now_for(&intent["customer"]),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": false,
        "failure_balance_transaction": null,
        "failure_code": failure_code,
        "failure_message": failure_message,
        "fraud_details": {},
        "livemode": false,
        "metadata": intent["metadata"],
        "on_behalf_of": null,
        "outcome": outcome(attempted),
        "paid": paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": details(intent, method, attempted)},
        "receipt_email": intent["receipt_email"],
        "receipt_number": null,
        "receipt_url": null,
        "refunded": false,
        "review": null,
        "shipping": intent["shipping"],
        "source_transfer": null,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": if paid { "succeeded" } else { "failed" },
        "transfer_data": null,
        "transfer_group": intent["transfer_group"],
    });
    // A charge has no source any more, but SDKs of tutorials still look for the field.
    charge["source"] = Value::Null;
    world.save(kind::CHARGE, &charge);
    charge
}

fn outcome(attempted: &Attempted<'_>) -> Value {
    match attempted {
        Attempted::Paid { .. } => json!({
            "advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": "approved_by_network", "reason": null, "risk_level": "normal", "risk_score": 20,
            "seller_message": "Payment complete.", "type": "authorized",
        }),
        Attempted::Failed { decline_code, .. } => json!({
            "advice_code": null, "network_advice_code": null, "network_decline_code": null,
            "network_status": "declined_by_network", "reason": decline_code, "risk_level": "normal", "risk_score": 20,
            "seller_message": "The bank did not return any further details with this decline.", "type": "issuer_declined",
        }),
    }
}

/// The `card` of `payment_method_details`.
fn details(intent: &Value, method: &Value, attempted: &Attempted<'_>) -> Value {
    let card = &method["card"];
    let three_d_secure = match attempted {
        Attempted::Paid { authenticated: true, .. } => json!({
            "authentication_flow": "challenge", "electronic_commerce_indicator": "05", "exemption_indicator": null,
            "result": "authenticated", "result_reason": null, "transaction_id": null, "version": "2.2.0",
        }),
        _ => Value::Null,
    };
    json!({
        "amount_authorized": intent["amount"],
        "authorization_code": null,
        "brand": card["brand"],
        "checks": card["checks"],
        "country": card["country"],
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"},
        "installments": null,
        "last4": card["last4"],
        "mandate": null,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": false},
        "network_transaction_id": null,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": three_d_secure,
        "wallet": null,
    })
}

/// Captures what a payment intent holds: at most its amount; the rest is let go. The charge as it then is.
pub(crate) fn capture(world: &mut World, id: &str, amount: i64) -> Value {
    let Some(mut charge) = world.get(kind::CHARGE, id).cloned() else { return Value::Null };
    let held = charge["amount"].as_i64().unwrap_or(0);
    charge["captured"] = json!(true);
    charge["amount_captured"] = json!(amount);
    charge["amount_refunded"] = json!(held - amount);
    let test_card = charge["payment_method"].as_str().and_then(|method| payment_methods::test_card(world, method));
    crate::payment::book(world, &mut charge, test_card);
    world.announce("charge.captured", &charge);
    charge
}

/// Lets go of money that was held and never captured. The event says why: `charge.refunded`, or `charge.expired`.
pub(crate) fn release(world: &mut World, id: &str, event: &str) {
    let Some(mut charge) = world.get(kind::CHARGE, id).cloned() else { return };
    charge["amount_refunded"] = charge["amount"].clone();
    charge["refunded"] = json!(true);
    world.save(kind::CHARGE, &charge);
    world.announce(event, &charge);
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::CHARGE, request.id(), "id").cloned()
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::CHARGE, request.id(), "id")?.clone();
    let mut charge = before.clone();
    parameters.copy_texts(&mut charge, &["description", "receipt_email", "transfer_group"])?;
    parameters.copy_metadata(&mut charge)?;
    if let Some(part) = parameters.part("fraud_details")? {
        let report = part.word("user_report", &["fraudulent", "safe"])?;
        charge["fraud_details"] = json!({ "user_report": report });
    }
    parameters.finish()?;
    world.save(kind::CHARGE, &charge);
    world.announce_change("charge.updated", &before, &charge);
    Ok(charge)
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let mut filters = Vec::new();
    for field in ["customer", "payment_intent", "transfer_group"] {
        filters.push((field, request.parameters.text(field)?));
    }
    list::page(world, request, kind::CHARGE, |charge| {
        filters.iter().all(|(field, wanted)| wanted.as_ref().is_none_or(|wanted| charge[*field] == wanted.as_str()))
    })
}
