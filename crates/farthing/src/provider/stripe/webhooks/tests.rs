use serde_json::json;

use super::super::StripeSettings;
use super::*;

const BODY: &[u8] = br#"{"id":"evt_1","object":"event","type":"payment_intent.succeeded","created":1767225600,"data":{"object":{"id":"pi_1","object":"payment_intent"}}}"#;
const SECRET: &str = "whsec_test_of_the_adapter";
/// Of `1767225600.` and the body, as `openssl dgst -sha256 -hmac SECRET` and Stripe's Python library make it.
const SIGNATURE: &str = "ff0381d3821e1854a3caf4746fa0322270a25b5b3c0beb0d4acd3387e71e3d57";
/// The same with `whsec_old`.
const OLD_SIGNATURE: &str = "1a0c4dabe343d7cf8a7c0e42745095e946757e50d474a320447bcba77f5096ff";

fn stripe(secrets: &[&str]) -> Stripe {
    let mut settings = StripeSettings::new(Secret::new("sk_test_1"), false);
    settings.webhook_secrets = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Stripe::new(settings).unwrap()
}

fn judge(secrets: &[&str], header: &str, body: &[u8], seconds_later: i64) -> Result<(), WebhookError> {
    let now = Timestamp::from_second(1_767_225_600 + seconds_later).unwrap();
    stripe(secrets).verify(&[("Stripe-Signature", header.as_bytes())], body, now).map(|_| ())
}

#[test]
fn a_signature_of_any_live_secret_counts() {
    let both = format!("t=1767225600,v1={OLD_SIGNATURE},v1={SIGNATURE},v0=00");
    for secrets in [&[SECRET] as &[&str], &["whsec_old"], &["whsec_other", SECRET]] {
        assert_eq!(judge(secrets, &both, BODY, 0), Ok(()), "{secrets:?}");
    }
    assert_eq!(judge(&["whsec_other"], &both, BODY, 0), Err(WebhookError::SignatureInvalid));
    assert_eq!(judge(&[], &both, BODY, 0), Err(WebhookError::NoSecret));
    let event = stripe(&[SECRET])
        .verify(&[("stripe-signature", both.as_bytes())], BODY, Timestamp::from_second(1_767_225_600).unwrap())
        .unwrap();
    assert_eq!((&*event.id, event.created_at.as_second()), ("evt_1", 1_767_225_600));
}

#[test]
fn what_was_touched_is_not_believed() {
    let good = format!("t=1767225600,v1={SIGNATURE}");
    let mut touched = BODY.to_vec();
    touched.push(b' ');
    assert_eq!(judge(&[SECRET], &good, &touched, 0), Err(WebhookError::SignatureInvalid));
    let later = good.replace("1767225600", "1767225601");
    assert_eq!(judge(&[SECRET], &later, BODY, 0), Err(WebhookError::SignatureInvalid));
    let short = good[..good.len() - 1].to_owned();
    assert_eq!(judge(&[SECRET], &short, BODY, 0), Err(WebhookError::SignatureInvalid));
    for missing in ["", "t=1767225600", "v1=00", &format!("t=1767225600,v0={SIGNATURE}"), "nonsense"] {
        assert_eq!(judge(&[SECRET], missing, BODY, 0), Err(WebhookError::SignatureMissing), "{missing}");
    }
    let none = stripe(&[SECRET]).verify(&[("content-type", b"application/json")], BODY, Timestamp::UNIX_EPOCH);
    assert_eq!(none, Err(WebhookError::SignatureMissing));
}

#[test]
fn a_signature_holds_for_five_minutes_both_ways() {
    let good = format!("t=1767225600,v1={SIGNATURE}");
    for (later, expected) in [
        (300, Ok(())),
        (-300, Ok(())),
        (301, Err(WebhookError::SignatureStale)),
        (-301, Err(WebhookError::SignatureStale)),
    ] {
        assert_eq!(judge(&[SECRET], &good, BODY, later), expected, "{later}");
    }
    let wrong = format!("t=1767225600,v1={OLD_SIGNATURE}");
    assert_eq!(judge(&[SECRET], &wrong, BODY, 301), Err(WebhookError::SignatureInvalid), "nothing is told of clocks");
}

fn notice(kind: &str, data: Value) -> Notice {
    let event = json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_767_225_600, "data": data});
    stripe(&[SECRET]).read(event.to_string().as_bytes()).unwrap().notice
}

fn payment(references: &[&str], id: Option<&str>) -> Notice {
    Notice::Payment { references: references.iter().map(|id| Arc::from(*id)).collect(), id: id.map(Arc::from) }
}

#[test]
fn payments_are_known_by_every_id() {
    let ours = json!({"farthing_payment": "pay-1"});
    for (kind, object, expected) in [
        ("payment_intent.payment_failed", json!({"id": "pi_1", "metadata": ours}), payment(&["pi_1"], Some("pay-1"))),
        // Before basil a payment named its invoice.
        ("payment_intent.succeeded", json!({"id": "pi_1", "invoice": "in_1"}), payment(&["pi_1"], None)),
        (
            "charge.refunded",
            json!({"id": "ch_1", "payment_intent": "pi_1", "metadata": ours}),
            payment(&["pi_1"], Some("pay-1")),
        ),
        (
            "refund.failed",
            json!({"id": "re_1", "payment_intent": "pi_1", "metadata": {"farthing_refund": "ref-1"}}),
            payment(&["pi_1"], None),
        ),
        (
            "charge.dispute.created",
            json!({"id": "du_1", "charge": "ch_1", "payment_intent": {"id": "pi_1"}}),
            payment(&["pi_1"], None),
        ),
        (
            "checkout.session.completed",
            json!({"id": "cs_1", "mode": "payment", "payment_intent": "pi_1", "metadata": ours}),
            payment(&["cs_1", "pi_1"], Some("pay-1")),
        ),
        (
            "checkout.session.expired",
            json!({"id": "cs_1", "mode": "payment", "payment_intent": null, "metadata": {}}),
            payment(&["cs_1"], None),
        ),
        ("checkout.session.completed", json!({"id": "cs_1", "mode": "subscription"}), Notice::Other),
        ("charge.succeeded", json!({"id": "ch_1", "payment_intent": null}), Notice::Other),
    ] {
        assert_eq!(notice(kind, json!({"object": object})), expected, "{kind}");
    }
}

#[test]
fn payment_methods_belong_to_a_customer() {
    let of = |customer: &str| Notice::PaymentMethods { customer: customer.into() };
    let attached = json!({"object": {"id": "pm_1", "customer": "cus_1"}});
    assert_eq!(notice("payment_method.attached", attached), of("cus_1"));
    let detached = json!({"object": {"id": "pm_1", "customer": null}, "previous_attributes": {"customer": "cus_1"}});
    assert_eq!(notice("payment_method.detached", detached), of("cus_1"));
    assert_eq!(notice("setup_intent.succeeded", json!({"object": {"id": "seti_1", "customer": "cus_1"}})), of("cus_1"));
    assert_eq!(notice("setup_intent.succeeded", json!({"object": {"id": "seti_1", "customer": null}})), Notice::Other);
    assert_eq!(notice("setup_intent.created", json!({"object": {"id": "seti_1", "customer": "cus_1"}})), Notice::Other);
    assert_eq!(notice("customer.updated", json!({"object": {"id": "cus_1", "object": "customer"}})), of("cus_1"));
    assert_eq!(notice("customer.created", json!({"object": {"id": "cus_1", "object": "customer"}})), Notice::Other);
}

#[test]
fn subscriptions_and_invoices_of_both_shapes() {
    let subscription = Notice::Subscription { reference: "sub_1".into(), customer: "cus_1".into() };
    for object in [
        json!({"id": "sub_1", "customer": "cus_1", "current_period_end": 1_769_904_000}),
        json!({"id": "sub_1", "customer": "cus_1", "items": {"data": [{"current_period_end": 1_769_904_000}]}}),
    ] {
        assert_eq!(notice("customer.subscription.updated", json!({"object": object})), subscription);
    }
    let invoice =
        |customer: Option<&str>| Notice::Invoice { reference: "in_1".into(), customer: customer.map(Arc::from) };
    for object in [
        json!({"id": "in_1", "customer": "cus_1", "subscription": "sub_1", "paid": true, "payment_intent": "pi_1"}),
        json!({"id": "in_1", "customer": "cus_1", "parent": {"subscription_details": {"subscription": "sub_1"}}}),
    ] {
        assert_eq!(notice("invoice.paid", json!({"object": object})), invoice(Some("cus_1")));
    }
    let part = json!({"object": {"id": "inpay_1", "invoice": "in_1", "payment": {"payment_intent": "pi_1"}}});
    assert_eq!(notice("invoice_payment.paid", part), invoice(None));
    // A preview of what is to come has no id.
    assert_eq!(notice("invoice.upcoming", json!({"object": {"customer": "cus_1"}})), Notice::Other);
}

#[test]
fn what_nobody_acts_on_is_no_error() {
    assert_eq!(notice("capability.updated", json!({"object": {"id": "card_payments"}})), Notice::Other);
    assert_eq!(notice("payment_intent.succeeded", json!({"object": null})), Notice::Other);
    let thin = json!({
        "id": "evt_test_1", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found",
        "created": "2026-01-01T00:00:00.000Z", "livemode": false, "related_object": null,
    });
    let event = stripe(&[SECRET]).read(thin.to_string().as_bytes()).unwrap();
    assert_eq!((event.notice, event.created_at.as_second()), (Notice::Other, 1_767_225_600));
    for malformed in ["", "[]", "{}", r#"{"id":"pi_1","object":"payment_intent","type":"x","created":1}"#] {
        assert_eq!(stripe(&[SECRET]).read(malformed.as_bytes()), Err(WebhookError::Malformed), "{malformed}");
    }
}
