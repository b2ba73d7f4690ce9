use engine::{Asset, Money};
use serde_json::{Value, json};

use super::super::script::{Script, error, intent, key};
use super::*;

fn payment(collection: Collection) -> NewPayment {
    NewPayment {
        id: "pay-1".to_owned(),
        customer: "cus_1".into(),
        amount: Money { minor: 1999, currency: Asset::new("USD") },
        metadata: std::collections::BTreeMap::new(),
        description: "Credits".to_owned(),
        collection,
    }
}

#[tokio::test]
async fn after_a_time_out_the_key_finds_what_was_done_and_it_is_read_again() {
    let script = Script::default()
        .then_too_late(&intent("requires_payment_method"))
        .then(200, &[("idempotent-replayed", "true")], &intent("requires_payment_method"))
        .then(200, &[], &intent("succeeded"))
        .then(200, &[], &json!({"data": [], "has_more": false}));
    let stripe = script.serve().await;
    let made = Payments::create(&stripe, &key(), &payment(Collection::OnSession { save_method: true })).await;
    let report = made.outcome.unwrap();
    assert_eq!((report.progress, report.received, report.id.as_deref()), (Progress::Paid, 1999, Some("pay-1")));
    let first = &made.exchanges[0];
    assert_eq!((first.status, &*first.reply, first.replayed), (None, "no answer in time", false));
    assert!(made.exchanges[1].replayed);
    assert_eq!(
        script.lines(),
        [
            "POST /v1/payment_intents",
            "POST /v1/payment_intents",
            "GET /v1/payment_intents/pi_1?expand%5B%5D=latest_charge",
            "GET /v1/refunds?payment_intent=pi_1&limit=100",
        ]
    );
    assert_eq!(script.keys()[0], script.keys()[1]);
    assert_eq!(
        script.body(0),
        "customer=cus_1&amount=1999&currency=usd&description=Credits&metadata[farthing_payment]=pay-1\
         &automatic_payment_methods[enabled]=true&setup_future_usage=off_session"
    );
}

async fn off_session(status: u16, body: &Value) -> Result<PaymentReport, ProviderError> {
    let script = Script::default().then(status, &[], body);
    let method = Collection::OffSession { method: "pm_1".into() };
    let made = Payments::create(&script.serve().await, &key(), &payment(method)).await;
    assert!(script.body(0).ends_with("payment_method=pm_1&confirm=true&off_session=true"), "{}", script.body(0));
    made.outcome
}

#[tokio::test]
async fn a_decline_is_a_report_of_the_payment_that_is_kept() {
    let failure = json!({
        "type": "card_error", "code": "authentication_required", "decline_code": "authentication_required",
        "message": "Your card was declined. This transaction requires authentication.",
    });
    let mut kept = intent("requires_payment_method");
    kept["last_payment_error"] = failure.clone();
    let mut declined = failure;
    declined["payment_intent"] = kept;
    let report = off_session(402, &json!({"error": declined})).await.unwrap();
    assert_eq!((&*report.reference, report.progress), ("pi_1", Progress::RequiresPayment));
    assert_eq!(report.client_secret.as_deref(), Some("pi_1_secret_2"), "the customer can finish it");
    let failure = report.failure.unwrap();
    assert_eq!(
        (&*failure.code, failure.decline_code.as_deref()),
        ("authentication_required", Some("authentication_required"))
    );
    let nothing_kept = off_session(402, &error("card_error", Some("card_declined"))).await;
    assert!(matches!(nothing_kept, Err(ProviderError::Rejected(failure)) if &*failure.code == "card_declined"));
}

#[tokio::test]
async fn a_page_is_a_payment_by_another_id() {
    let session = |status: &str, intent: Value| {
        json!({
            "id": "cs_test_1", "object": "checkout.session", "mode": "payment", "status": status,
            "payment_status": if status == "complete" { "paid" } else { "unpaid" }, "amount_total": 1999, "currency": "usd",
            "url": if status == "open" { json!("https://checkout.stripe.com/c/pay/1") } else { Value::Null },
            "payment_intent": intent, "metadata": {"farthing_payment": "pay-1"},
        })
    };
    let mut paid = intent("succeeded");
    paid["latest_charge"] = json!({"id": "ch_1", "amount_refunded": 500, "disputed": true});
    let refund = json!({"id": "re_1", "amount": 500, "currency": "usd", "status": "pending", "metadata": {"farthing_refund": "r-1"}});
    let disputes = json!({"data": [{"id": "du_1", "amount": 1499, "currency": "usd", "status": "under_review"}]});
    let script = Script::default()
        .then(200, &[], &session("open", Value::Null))
        .then(200, &[], &session("complete", paid))
        .then(200, &[], &json!({"data": [refund], "has_more": false}))
        .then(200, &[], &disputes)
        .then(400, &[], &error("invalid_request_error", None))
        .then(200, &[], &session("expired", Value::Null));
    let stripe = script.serve().await;
    let page = Collection::Page { success_url: "https://a.example/y".into(), cancel_url: "https://a.example/n".into() };
    let made = Payments::create(&stripe, &key(), &payment(page)).await.outcome.unwrap();
    assert_eq!((&*made.reference, made.progress), ("cs_test_1", Progress::RequiresPayment));
    assert_eq!((made.page.as_deref(), made.client_secret), (Some("https://checkout.stripe.com/c/pay/1"), None));
    let paid = Payments::get(&stripe, "cs_test_1").await.outcome.unwrap();
    assert_eq!((&*paid.reference, paid.progress, paid.received), ("cs_test_1", Progress::Paid, 1999));
    assert_eq!((paid.refunds[0].minor, paid.refunds[0].id.as_deref()), (500, Some("r-1")));
    assert_eq!(paid.dispute.map(|dispute| dispute.minor), Some(1499));
    let ended = Payments::cancel(&stripe, &key(), "cs_test_1").await.outcome.unwrap();
    assert_eq!(ended.progress, Progress::Canceled, "expired before it could be cancelled");
    assert_eq!(script.lines()[4], "POST /v1/checkout/sessions/cs_test_1/expire");
    assert!(script.body(0).contains("payment_intent_data[metadata][farthing_payment]=pay-1"), "{}", script.body(0));
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled_again_and_what_goes_on_is_told() {
    let refused = error("invalid_request_error", Some("payment_intent_unexpected_state"));
    let no_refunds = json!({"data": []});
    let script =
        Script::default().then(400, &[], &refused).then(200, &[], &intent("succeeded")).then(200, &[], &no_refunds);
    assert_eq!(Payments::cancel(&script.serve().await, &key(), "pi_1").await.outcome.unwrap().progress, Progress::Paid);
    let script = Script::default().then(400, &[], &refused).then(200, &[], &intent("processing"));
    let outcome = Payments::cancel(&script.serve().await, &key(), "pi_1").await.outcome;
    assert!(matches!(outcome, Err(ProviderError::Rejected(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_payment_is_found_by_our_id_on_a_later_page() {
    let other = json!({"id": "pi_9", "amount": 1, "currency": "usd", "metadata": {"farthing_payment": "pay-9"}});
    let script = Script::default()
        .then(200, &[], &json!({"data": [], "has_more": false}))
        .then(200, &[], &json!({"data": [other], "has_more": true}))
        .then(200, &[], &json!({"data": [intent("processing")], "has_more": true}))
        .then(200, &[], &intent("processing"));
    let found = script.serve().await.find("cus_1", "pay-1").await.outcome.unwrap().unwrap();
    assert_eq!((&*found.reference, found.progress), ("pi_1", Progress::Processing));
    assert_eq!(script.lines().len(), 4, "no page after the one with it");
    let nothing = json!({"data": []});
    let script = Script::default().then(200, &[], &nothing).then(200, &[], &nothing);
    assert_eq!(script.serve().await.find("cus_1", "pay-1").await.outcome, Ok(None));
}

#[tokio::test]
async fn a_failure_that_is_kept_does_not_hide_the_payment_that_was_made() {
    let kept = [("idempotent-replayed", "true")];
    let failed = error("api_error", None);
    let nothing = json!({"data": []});
    let made = intent("requires_action");
    let script = Script::default()
        .then(500, &kept, &failed)
        .then(200, &[], &nothing)
        .then(200, &[], &json!({"data": [made]}))
        .then(200, &[], &made);
    let order = payment(Collection::OnSession { save_method: false });
    let found = Payments::create(&script.serve().await, &key(), &order).await.outcome.unwrap();
    assert_eq!((&*found.reference, found.progress), ("pi_1", Progress::RequiresAction));
    let not_found = Script::default().then(500, &kept, &failed).then(200, &[], &nothing).then(200, &[], &nothing);
    let not_looked_for =
        Script::default().then(500, &kept, &failed).then(400, &[], &error("invalid_request_error", None));
    for script in [not_found, not_looked_for] {
        let unknown = Payments::create(&script.serve().await, &key(), &order).await.outcome;
        assert_eq!(unknown, Err(ProviderError::Unavailable("status 500".to_owned())));
    }
}
