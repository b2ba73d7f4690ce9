//! Refunds: in part, in full, too much, and failing later.

use serde_json::json;

use crate::client::Client;
use crate::payment_intents::{events, paying};

#[tokio::test]
async fn in_part_then_the_rest() {
    let stripe = Client::new().await;
    let intent = stripe.post("/v1/payment_intents", &paying("pm_card_visa", &[])).await.ok();
    let id = intent["id"].as_str().unwrap();
    let form = [("payment_intent", id), ("amount", "500"), ("reason", "requested_by_customer")];
    let refund = stripe.post("/v1/refunds", &form).await.ok();
    assert_eq!((&refund["status"], &refund["charge"]), (&json!("succeeded"), &intent["latest_charge"]));
    let too_much = stripe.post("/v1/refunds", &[("payment_intent", id), ("amount", "1501")]).await.error(400);
    assert!(too_much["message"].as_str().unwrap().contains("($15.01 usd) is greater"), "{too_much}");
    let charge = intent["latest_charge"].as_str().unwrap();
    stripe.post("/v1/refunds", &[("charge", charge)]).await.ok();
    let again = stripe.post("/v1/refunds", &[("charge", charge)]).await.error(400);
    assert_eq!(again["code"], "charge_already_refunded");

    let charge = stripe.get(&format!("/v1/charges/{charge}?expand[]=refunds")).await.ok();
    assert_eq!((&charge["amount_refunded"], &charge["refunded"]), (&json!(2000), &json!(true)));
    let amounts: Vec<_> = charge["refunds"]["data"].as_array().unwrap().iter().map(|one| &one["amount"]).collect();
    assert_eq!(amounts, [1500, 500]);
    assert_eq!(stripe.get(&format!("/v1/payment_intents/{id}")).await.ok()["status"], "succeeded");
    let listed = stripe.get(&format!("/v1/refunds?payment_intent={id}")).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert_eq!(events(&stripe).await[3..], ["refund.created", "charge.refunded", "refund.created", "charge.refunded"]);
    let balance = stripe.get("/v1/balance").await.ok();
    assert_eq!(balance["pending"][0]["amount"], -88, "the fee is not given back");
}

#[tokio::test]
async fn failing_and_pending_ones_turn_later() {
    let stripe = Client::new().await;
    for (method, first, then) in
        [("pm_card_refundFail", "succeeded", "failed"), ("pm_card_pendingRefund", "pending", "succeeded")]
    {
        let intent = stripe.post("/v1/payment_intents", &paying(method, &[])).await.ok();
        let form = [("payment_intent", intent["id"].as_str().unwrap())];
        let refund = stripe.post("/v1/refunds", &form).await.ok();
        assert_eq!(refund["status"], first);
        stripe.control("/_sandbox/clock", json!({"now": refund["created"].as_i64().unwrap() + 3600})).await;
        let path = format!("/v1/refunds/{}?expand[]=charge", refund["id"].as_str().unwrap());
        let later = stripe.get(&path).await.ok();
        assert_eq!(later["status"], then);
        assert_eq!(later["charge"]["refunded"], then == "succeeded", "money that came back can be refunded again");
    }
    assert!(events(&stripe).await.contains(&"refund.failed".to_owned()));
}

#[tokio::test]
async fn a_race_refunds_once() {
    let stripe = Client::new().await;
    let intent = stripe.post("/v1/payment_intents", &paying("pm_card_visa", &[])).await.ok();
    let form = [("payment_intent", intent["id"].as_str().unwrap())];
    let mut racers = tokio::task::JoinSet::new();
    for number in 0..8 {
        racers.spawn(Client::send(stripe.form("/v1/refunds", &form).header("Idempotency-Key", number.to_string())));
    }
    let mut refunded = 0;
    while let Some(answer) = racers.join_next().await {
        let answer = answer.unwrap().unwrap();
        match answer.status {
            200 => refunded += 1,
            status => assert_eq!((status, &answer.body["error"]["code"]), (400, &json!("charge_already_refunded"))),
        }
    }
    assert_eq!(refunded, 1);
}

#[tokio::test]
async fn time_passes_by_itself() {
    let stripe = Client::new().await;
    let intent = stripe.post("/v1/payment_intents", &paying("pm_card_refundFail", &[])).await.ok();
    let refund = stripe.post("/v1/refunds", &[("payment_intent", intent["id"].as_str().unwrap())]).await.ok();
    let path = format!("/v1/refunds/{}", refund["id"].as_str().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while stripe.get(&path).await.ok()["status"] != "failed" {
        assert!(std::time::Instant::now() < end, "nobody did what was due");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
