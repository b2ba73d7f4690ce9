//! Invoice payments (docs.stripe.com/api/invoice-payment): which payment intent pays which invoice.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::request::Request;
use crate::world::World;

/// Ties a payment intent to an invoice, open.
pub(crate) fn make(world: &mut World, invoice: &Value, intent: &Value) {
    let id = world.new_id(kind::INVOICE_PAYMENT);
    let payment = json!({
        "id": id,
        "object": "invoice_payment",
        "amount_paid": null,
        "amount_requested": invoice["amount_due"],
        "created": world.now_for(&invoice["customer"]),
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": true,
        "livemode": false,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": null, "paid_at": null},
    });
    world.save(kind::INVOICE_PAYMENT, &payment);
}

fn open_of(world: &World, invoice: &str) -> Option<Value> {
    world
        .all(kind::INVOICE_PAYMENT)
        .find(|payment| payment["invoice"] == invoice && payment["status"] == "open")
        .cloned()
}

/// The payment intent that is to pay an invoice.
pub(crate) fn intent_of(world: &World, invoice: &str) -> Option<String> {
    open_of(world, invoice)?["payment"]["payment_intent"].as_str().map(str::to_owned)
}

/// The invoice that a payment intent is to pay and that is still open or given up.
pub(crate) fn open_invoice_of(world: &World, intent: &Value) -> Option<String> {
    let payment = world
        .all(kind::INVOICE_PAYMENT)
        .find(|payment| payment["status"] == "open" && payment["payment"]["payment_intent"] == intent["id"])?;
    let invoice = world.get(kind::INVOICE, payment["invoice"].as_str()?)?;
    let waits = invoice["status"] == "open" || invoice["status"] == "uncollectible";
    waits.then(|| invoice["id"].as_str().map(str::to_owned)).flatten()
}

/// The open payment of an invoice has paid it.
pub(crate) fn mark_paid(world: &mut World, invoice: &Value) -> Value {
    let Some(mut payment) = open_of(world, invoice["id"].as_str().unwrap_or_default()) else { return Value::Null };
    payment["status"] = json!("paid");
    payment["amount_paid"] = payment["amount_requested"].clone();
    payment["status_transitions"]["paid_at"] = json!(world.now_for(&invoice["customer"]));
    world.save(kind::INVOICE_PAYMENT, &payment);
    payment
}

/// The open payment of an invoice is not needed any more; its payment intent.
pub(crate) fn cancel(world: &mut World, invoice: &str) -> Option<String> {
    let mut payment = open_of(world, invoice)?;
    let customer = world.get(kind::INVOICE, invoice).map_or(Value::Null, |invoice| invoice["customer"].clone());
    payment["status"] = json!("canceled");
    payment["status_transitions"]["canceled_at"] = json!(world.now_for(&customer));
    world.save(kind::INVOICE_PAYMENT, &payment);
    payment["payment"]["payment_intent"].as_str().map(str::to_owned)
}

/// `payments` of an invoice, for `expand`.
pub(crate) fn of_invoice(world: &World, invoice: &Value) -> Value {
    let data: Vec<&Value> =
        world.all(kind::INVOICE_PAYMENT).rev().filter(|payment| payment["invoice"] == invoice["id"]).collect();
    json!({
        "object": "list", "data": data, "has_more": false,
        "url": format!("/v1/invoice_payments?invoice={}", invoice["id"].as_str().unwrap_or_default()),
    })
}

/// `confirmation_secret` of an invoice, for `expand`: with it a browser can pay.
pub(crate) fn confirmation_secret(world: &World, invoice: &Value) -> Value {
    let intent = world
        .all(kind::INVOICE_PAYMENT)
        .rfind(|payment| payment["invoice"] == invoice["id"])
        .and_then(|payment| world.get(kind::PAYMENT_INTENT, payment["payment"]["payment_intent"].as_str()?));
    match intent {
        Some(intent) => json!({"client_secret": intent["client_secret"], "type": "payment_intent"}),
        None => Value::Null,
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::INVOICE_PAYMENT, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let invoice = parameters.text("invoice")?;
    let status = parameters.word("status", &["canceled", "open", "paid"])?;
    let intent = match parameters.part("payment")? {
        None => None,
        Some(part) => {
            part.word("type", &["payment_intent"])?.ok_or_else(|| part.missing("type"))?;
            Some(part.required_text("payment_intent")?)
        }
    };
    list::page(world, request, kind::INVOICE_PAYMENT, |payment| {
        invoice.as_ref().is_none_or(|id| payment["invoice"] == id.as_str())
            && status.as_ref().is_none_or(|status| payment["status"] == status.as_str())
            && intent.as_ref().is_none_or(|id| payment["payment"]["payment_intent"] == id.as_str())
    })
}
