//! Disputes (docs.stripe.com/api/disputes). Evidence `winning_evidence` wins one, `losing_evidence` loses it, as in Stripe's
//! test mode; other evidence is under review.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::balance_transactions::{self, Movement};
use crate::request::Request;
use crate::world::World;

/// What Stripe takes for a dispute, in the smallest unit.
const FEE: i64 = 1500;

/// How long there is to answer, in seconds.
const NINE_DAYS: i64 = 9 * 24 * 3600;

const EVIDENCE: &[&str] = &[
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
];

/// The holder of the card disputes a charge: the money is gone until the dispute is won.
pub(crate) fn open(world: &mut World, charge: &str, reason: &str) {
    let Some(mut charge) = world.get(kind::CHARGE, charge).cloned() else { return };
    let created = world.now_for(&charge["customer"]);
    let id = world.new_id(kind::DISPUTE);
    let amount = charge["amount_captured"].as_i64().unwrap_or(0);
    let transaction = book(world, &charge, &json!(id), -amount, FEE, "Chargeback withdrawal");
    let mut evidence: Value = EVIDENCE.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
    evidence["enhanced_evidence"] = json!({});
    let dispute = json!({
        "id": id,
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [transaction],
        "charge": charge["id"],
        "created": created,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": evidence,
        "evidence_details": {
            "due_by": created + NINE_DAYS, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false,
            "submission_count": 0, "submission_method": "not_submitted",
        },
        "is_charge_refundable": false,
        "livemode": false,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"], "network": charge["payment_method_details"]["card"]["network"], "case_type": "chargeback",
                "network_reason_code": if reason == "fraudulent" { "10.4" } else { "13.1" },
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    });
    world.save(kind::DISPUTE, &dispute);
    charge["disputed"] = json!(true);
    world.save(kind::CHARGE, &charge);
    world.announce("charge.dispute.created", &dispute);
    world.announce("charge.dispute.funds_withdrawn", &dispute);
}

fn book(world: &mut World, charge: &Value, source: &Value, amount: i64, fee: i64, description: &str) -> Value {
    let created = world.now_for(&charge["customer"]);
    let movement = Movement {
        kind: "adjustment",
        category: if amount < 0 { "dispute" } else { "dispute_reversal" },
        amount,
        fee,
        currency: &charge["currency"],
        source,
        description: json!(description),
        created,
        available_at_once: true,
    };
    balance_transactions::make(world, &movement)
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::DISPUTE, request.id(), "id")?.clone();
    let mut dispute = before.clone();
    let submit = parameters.flag("submit")?.unwrap_or(true);
    let evidence = parameters.part("evidence")?;
    if let Some(part) = &evidence {
        part.copy_texts(&mut dispute["evidence"], EVIDENCE)?;
        dispute["evidence_details"]["has_evidence"] = json!(true);
    }
    parameters.copy_metadata(&mut dispute)?;
    parameters.finish()?;
    if evidence.is_none() {
        world.save(kind::DISPUTE, &dispute);
        world.announce_change("charge.dispute.updated", &before, &dispute);
        return Ok(dispute);
    }
    if before["status"] != "needs_response" {
        return Err(ApiError::invalid("This dispute is already closed or under review: no evidence can be submitted."));
    }
    if submit {
        dispute["evidence_details"]["submission_count"] = json!(1);
        dispute["evidence_details"]["submission_method"] = json!("manual");
        dispute["status"] = json!("under_review");
    }
    world.save(kind::DISPUTE, &dispute);
    world.announce_change("charge.dispute.updated", &before, &dispute);
    match dispute["evidence"]["uncategorized_text"].as_str() {
        Some("winning_evidence") if submit => Ok(close_as(world, dispute, "won")),
        Some("losing_evidence") if submit => Ok(close_as(world, dispute, "lost")),
        _ => Ok(dispute),
    }
}

/// `POST /v1/disputes/{}/close`: gives it up.
pub(crate) fn close(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let dispute = world.find(kind::DISPUTE, request.id(), "id")?.clone();
    if dispute["status"] == "won" || dispute["status"] == "lost" {
        return Err(ApiError::invalid("This dispute is already closed."));
    }
    Ok(close_as(world, dispute, "lost"))
}

fn close_as(world: &mut World, mut dispute: Value, status: &str) -> Value {
    dispute["status"] = json!(status);
    if status == "won"
        && let Some(charge) = dispute["charge"].as_str().and_then(|charge| world.get(kind::CHARGE, charge)).cloned()
    {
        let amount = dispute["amount"].as_i64().unwrap_or(0);
        let transaction = book(world, &charge, &dispute["id"], amount, -FEE, "Chargeback reversal");
        if let Some(transactions) = dispute["balance_transactions"].as_array_mut() {
            transactions.push(transaction);
        }
    }
    world.save(kind::DISPUTE, &dispute);
    if status == "won" {
        world.announce("charge.dispute.funds_reinstated", &dispute);
    }
    world.announce("charge.dispute.closed", &dispute);
    dispute
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::DISPUTE, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let charge = request.parameters.text("charge")?;
    let intent = request.parameters.text("payment_intent")?;
    list::page(world, request, kind::DISPUTE, |dispute| {
        charge.as_ref().is_none_or(|charge| dispute["charge"] == charge.as_str())
            && intent.as_ref().is_none_or(|intent| dispute["payment_intent"] == intent.as_str())
    })
}
