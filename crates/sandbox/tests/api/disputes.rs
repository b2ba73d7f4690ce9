//! Disputes: opened by a card, won and lost by evidence.

use serde_json::json;

use crate::client::Client;
use crate::payment_intents::{events, paying};

#[tokio::test]
async fn opened_then_won_or_lost() {
    let stripe = Client::new().await;
    for (evidence, status) in [("winning_evidence", "won"), ("losing_evidence", "lost")] {
        let intent = stripe.post("/v1/payment_intents", &paying("pm_card_createDispute", &[])).await.ok();
        assert_eq!(intent["status"], "succeeded");
        let id = intent["id"].as_str().unwrap();
        let listed = stripe.get(&format!("/v1/disputes?payment_intent={id}")).await.ok();
        let dispute = &listed["data"][0];
        assert_eq!((&dispute["status"], &dispute["reason"]), (&json!("needs_response"), &json!("fraudulent")));
        assert_eq!(dispute["balance_transactions"][0]["net"], -3500);
        let refund = stripe.post("/v1/refunds", &[("payment_intent", id)]).await.error(400);
        assert_eq!(refund["code"], "charge_disputed");
        let path = format!("/v1/disputes/{}", dispute["id"].as_str().unwrap());
        let closed = stripe.post(&path, &[("evidence[uncategorized_text]", evidence)]).await.ok();
        assert_eq!(closed["status"], status);
        stripe.post(&format!("{path}/close"), &[]).await.error(400);
    }
    let all = events(&stripe).await;
    for expected in ["charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"] {
        assert!(all.contains(&expected.to_owned()), "{expected}");
    }
    assert_eq!(all.iter().filter(|event| *event == "charge.dispute.closed").count(), 2);
}
