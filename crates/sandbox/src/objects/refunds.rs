//! Refunds (docs.stripe.com/api/refunds). Hidden beside one: `turns_at`, when it fails or ends to be pending, if it does.

use serde_json::{Value, json};

use crate::amount;
use crate::card::Aftermath;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::balance_transactions::{self, Movement};
use crate::objects::payment_methods;
use crate::request::Request;
use crate::time::Due;
use crate::world::World;

/// How long a refund takes that does not end at once, in seconds.
const LATER: i64 = 2;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let intent = parameters.text("payment_intent")?;
    let charge = parameters.text("charge")?;
    let wanted = parameters.integer("amount")?;
    let currency = amount::currency(parameters, "currency")?;
    let reason = parameters.word("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
    let instructions = parameters.text("instructions_email")?;
    let mut refund = json!({});
    parameters.copy_metadata(&mut refund)?;
    parameters.finish()?;
    let charge = charge_to_refund(world, intent.as_deref(), charge.as_deref())?;
    if currency.is_some_and(|currency| charge["currency"] != currency.as_str()) {
        return Err(ApiError::value("currency", "The currency of the refund must be that of the charge."));
    }
    let amount = refundable(&charge, wanted)?;
    let method = charge["payment_method"].as_str().and_then(|method| payment_methods::test_card(world, method));
    let aftermath = method.map_or(Aftermath::Quiet, |card| card.aftermath);
    let created = world.now_for(&charge["customer"]);
    let id = world.new_id(kind::REFUND);
    let movement = Movement {
        kind: "refund",
        category: "refund",
        amount: -amount,
        fee: 0,
        currency: &charge["currency"],
        source: &json!(id),
        description: json!("REFUND FOR CHARGE"),
        created,
        available_at_once: false,
    };
    let transaction = balance_transactions::make(world, &movement);
    let document = json!({
        "id": id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": transaction["id"],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": refund["metadata"],
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": null,
        "source_transfer_reversal": null,
        "status": if aftermath == Aftermath::RefundPends { "pending" } else { "succeeded" },
        "transfer_reversal": null,
    });
    refund = document;
    if let Some(email) = instructions {
        refund["instructions_email"] = json!(email);
    }
    world.save(kind::REFUND, &refund);
    if matches!(aftermath, Aftermath::RefundFails | Aftermath::RefundPends) {
        world.hide(kind::REFUND, &id, json!({ "turns_at": created + LATER }));
    }
    let charge = give_back(world, charge, amount);
    world.announce("refund.created", &refund);
    world.announce("charge.refunded", &charge);
    Ok(refund)
}

/// The charge that is named, or the one with which the named payment intent was paid.
fn charge_to_refund(world: &World, intent: Option<&str>, charge: Option<&str>) -> Result<Value, ApiError> {
    match (intent, charge) {
        (_, Some(charge)) => world.find(kind::CHARGE, charge, "charge").cloned(),
        (Some(id), None) => {
            let intent = world.find(kind::PAYMENT_INTENT, id, "payment_intent")?;
            let paid = intent["latest_charge"].as_str().and_then(|charge| world.get(kind::CHARGE, charge));
            paid.filter(|charge| charge["paid"] == true).cloned().ok_or_else(|| {
                ApiError::invalid(format!("This PaymentIntent ({id}) does not have a successful charge to refund."))
                    .param("payment_intent")
            })
        }
        (None, None) => Err(ApiError::parameter(
            "parameter_missing",
            "payment_intent",
            "One of the following params should be provided for this request: payment_intent or charge.",
        )),
    }
}

/// What is to be given back of a charge: what is wanted, or all that is left.
fn refundable(charge: &Value, wanted: Option<i64>) -> Result<i64, ApiError> {
    let id = charge["id"].as_str().unwrap_or_default();
    let currency = charge["currency"].as_str().unwrap_or_default();
    let left = charge["amount"].as_i64().unwrap_or(0) - charge["amount_refunded"].as_i64().unwrap_or(0);
    if charge["paid"] != true {
        return Err(
            ApiError::invalid(format!("The charge {id} has failed: there is nothing to refund.")).param("charge")
        );
    }
    if charge["captured"] != true {
        let message = format!("The charge {id} has not been captured: cancel its payment intent instead.");
        return Err(ApiError::invalid(message).code("charge_not_refundable").param("charge"));
    }
    if charge["disputed"] == true {
        let message = format!("Charge {id} has been charged back; cannot issue a refund.");
        return Err(ApiError::invalid(message).code("charge_disputed"));
    }
    if left <= 0 {
        let message = format!("Charge {id} has already been refunded.");
        return Err(ApiError::invalid(message).code("charge_already_refunded"));
    }
    match wanted {
        None => Ok(left),
        Some(amount) if amount < 1 => {
            let message = "This value must be greater than or equal to 1.";
            Err(ApiError::parameter("parameter_invalid_integer", "amount", message))
        }
        Some(amount) if amount > left => Err(ApiError::invalid(format!(
            "Refund amount ({}) is greater than unrefunded amount on charge ({})",
            amount::show(amount, currency),
            amount::show(left, currency)
        ))
        .param("amount")),
        Some(amount) => Ok(amount),
    }
}

/// Counts what was given back of a charge; less, if negative.
fn give_back(world: &mut World, mut charge: Value, amount: i64) -> Value {
    let refunded = charge["amount_refunded"].as_i64().unwrap_or(0) + amount;
    charge["refunded"] = json!(charge["amount"].as_i64().is_some_and(|all| refunded >= all));
    charge["amount_refunded"] = json!(refunded);
    world.save(kind::CHARGE, &charge);
    charge
}

/// Refunds that fail, or end to be pending, after a while.
pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for refund in world.all(kind::REFUND) {
        let Some(id) = refund["id"].as_str() else { continue };
        if let Some(at) = world.hidden(kind::REFUND, id)["turns_at"].as_i64() {
            let customer = refund["charge"].as_str().and_then(|charge| world.get(kind::CHARGE, charge));
            let clock = customer.and_then(|charge| world.test_clock_of(&charge["customer"]));
            found.push(Due { at, what: "refund.turn", id: id.to_owned(), clock, run: turn });
        }
    }
}

fn turn(world: &mut World, id: &str) {
    world.hide(kind::REFUND, id, Value::Null);
    let Some(mut refund) = world.get(kind::REFUND, id).cloned() else { return };
    let charge = refund["charge"].as_str().and_then(|charge| world.get(kind::CHARGE, charge)).cloned();
    if refund["status"] == "pending" {
        refund["status"] = json!("succeeded");
        world.save(kind::REFUND, &refund);
        world.announce("refund.updated", &refund);
        return;
    }
    let Some(charge) = charge else { return };
    let amount = refund["amount"].as_i64().unwrap_or(0);
    let created = world.now_for(&charge["customer"]);
    let movement = Movement {
        kind: "refund_failure",
        category: "refund_failure",
        amount,
        fee: 0,
        currency: &charge["currency"],
        source: &refund["id"],
        description: json!("REFUND FAILURE"),
        created,
        available_at_once: true,
    };
    let transaction = balance_transactions::make(world, &movement);
    refund["status"] = json!("failed");
    refund["failure_reason"] = json!("expired_or_canceled_card");
    refund["failure_balance_transaction"] = transaction["id"].clone();
    world.save(kind::REFUND, &refund);
    give_back(world, charge, -amount);
    world.announce("refund.updated", &refund);
    world.announce("refund.failed", &refund);
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::REFUND, request.id(), "id").cloned()
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::REFUND, request.id(), "id")?.clone();
    let mut refund = before.clone();
    request.parameters.copy_metadata(&mut refund)?;
    request.parameters.finish()?;
    world.save(kind::REFUND, &refund);
    world.announce_change("refund.updated", &before, &refund);
    Ok(refund)
}

/// Only refunds that wait for the customer can be cancelled, which those of cards never do.
pub(crate) fn cancel(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let refund = world.find(kind::REFUND, request.id(), "id")?;
    let status = refund["status"].as_str().unwrap_or_default();
    Err(ApiError::invalid(format!(
        "You can only cancel a refund with the status requires_action. This one is {status}."
    )))
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let charge = request.parameters.text("charge")?;
    let intent = request.parameters.text("payment_intent")?;
    list::page(world, request, kind::REFUND, |refund| {
        charge.as_ref().is_none_or(|charge| refund["charge"] == charge.as_str())
            && intent.as_ref().is_none_or(|intent| refund["payment_intent"] == intent.as_str())
    })
}

/// `refunds` of a charge, when it is expanded.
pub(crate) fn of_charge(world: &World, charge: &Value) -> Value {
    let data: Vec<&Value> = world.all(kind::REFUND).rev().filter(|refund| refund["charge"] == charge["id"]).collect();
    let url = format!("/v1/charges/{}/refunds", charge["id"].as_str().unwrap_or_default());
    json!({"object": "list", "data": data, "has_more": false, "url": url})
}
