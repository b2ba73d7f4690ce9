//! What a new invoice looks like.

use serde_json::{Value, json};

use crate::kind;
use crate::objects::subscriptions;
use crate::period::{DAY, HOUR};
use crate::world::World;

/// How long a draft waits until it is finalized by itself.
pub(crate) const DRAFT_FOR: i64 = HOUR;

/// What an invoice begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    pub(crate) customer: &'a str,
    pub(crate) currency: &'a str,
    /// `manual`, `subscription_create`, `subscription_cycle`, `subscription_update`, `upcoming`.
    pub(crate) reason: &'a str,
    /// The subscription that it bills, or null.
    pub(crate) subscription: &'a Value,
    pub(crate) period: (i64, i64),
}

/// A draft without lines, not stored yet.
pub(crate) fn draft(world: &mut World, new: &New<'_>) -> Value {
    let id = world.new_id(kind::INVOICE);
    let customer = world.get(kind::CUSTOMER, new.customer).cloned().unwrap_or_default();
    let now = world.now_for(&json!(new.customer));
    let mut invoice = unchanging();
    let own = json!({
        "id": id,
        "billing_reason": new.reason,
        "created": now,
        "currency": new.currency,
        "customer": new.customer,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "lines": {"object": "list", "data": [], "has_more": false, "url": format!("/v1/invoices/{id}/lines")},
        "period_end": new.period.1,
        "period_start": new.period.0,
        "starting_balance": customer["balance"],
        "test_clock": customer["test_clock"],
    });
    if let (Some(fields), Value::Object(own)) = (invoice.as_object_mut(), own) {
        fields.extend(own);
    }
    if !new.subscription.is_null() {
        follow_subscription(&mut invoice, new.subscription, now);
    }
    invoice
}

fn follow_subscription(invoice: &mut Value, subscription: &Value, now: i64) {
    invoice["auto_advance"] = json!(true);
    invoice["automatically_finalizes_at"] = json!(now + DRAFT_FOR);
    for field in ["collection_method", "default_tax_rates", "discounts"] {
        invoice[field] = subscription[field].clone();
    }
    invoice["parent"] = json!({
        "quote_details": null,
        "subscription_details": {"metadata": subscription["metadata"], "subscription": subscription["id"]},
        "type": "subscription_details",
    });
    if let Some(days) = subscription["days_until_due"].as_i64() {
        invoice["due_date"] = json!(now + days * DAY);
    }
    // A subscription on which nothing more is tried keeps its invoices as drafts.
    if subscription["status"] == "unpaid" || subscription["pause_collection"]["behavior"] == "keep_as_draft" {
        invoice["auto_advance"] = json!(false);
        invoice["automatically_finalizes_at"] = Value::Null;
    }
}

/// The id of the subscription that an invoice bills.
pub(crate) fn subscription_of(invoice: &Value) -> Option<&str> {
    invoice["parent"]["subscription_details"]["subscription"].as_str()
}

/// The payment method that an invoice is paid with, where nothing else is said: its own, its subscription's, its customer's.
pub(crate) fn payment_method(world: &World, invoice: &Value) -> Option<String> {
    let own = invoice["default_payment_method"].as_str().map(str::to_owned);
    let subscription = subscription_of(invoice).and_then(|id| world.get(kind::SUBSCRIPTION, id));
    own.or_else(|| match subscription {
        Some(subscription) => subscriptions::payment_method(world, subscription),
        None => of_customer(world, &invoice["customer"]),
    })
}

/// The payment method of a customer (an id) for invoices.
pub(crate) fn of_customer(world: &World, customer: &Value) -> Option<String> {
    let customer = world.get(kind::CUSTOMER, customer.as_str()?)?;
    let chosen = customer["invoice_settings"]["default_payment_method"].as_str();
    chosen.or(customer["default_source"].as_str()).map(str::to_owned)
}

/// What every draft begins with.
fn unchanging() -> Value {
    json!({
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        "account_tax_ids": null,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": null,
        "attempt_count": 0,
        "attempted": false,
        "auto_advance": false,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null},
        "automatically_finalizes_at": null,
        "collection_method": "charge_automatically",
        "custom_fields": null,
        "customer_account": null,
        "customer_tax_ids": [],
        "default_payment_method": null,
        "default_source": null,
        "default_tax_rates": [],
        "description": null,
        "discounts": [],
        "due_date": null,
        "effective_at": null,
        "ending_balance": null,
        "footer": null,
        "from_invoice": null,
        "hosted_invoice_url": null,
        "invoice_pdf": null,
        "issuer": {"type": "self"},
        "last_finalization_error": null,
        "latest_revision": null,
        "livemode": false,
        "metadata": {},
        "next_payment_attempt": null,
        "number": null,
        "on_behalf_of": null,
        "parent": null,
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": null,
        "rendering": null,
        "shipping_cost": null,
        "shipping_details": null,
        "statement_descriptor": null,
        "status": "draft",
        "status_details": null,
        "status_transitions": {
            "finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "threshold_reason": null,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": null,
    })
}
