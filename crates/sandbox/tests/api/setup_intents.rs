//! Saving a card for later.

use serde_json::json;

use crate::client::Client;
use crate::payment_intents::{answer_page, events, paying};

const INTENTS: &str = "/v1/setup_intents";

#[tokio::test]
async fn a_card_is_saved_and_pays_off_session() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[]).await.ok();
    let customer = customer["id"].as_str().unwrap();
    let intent = stripe.post(INTENTS, &[("customer", customer)]).await.ok();
    assert_eq!((&intent["status"], &intent["usage"]), (&json!("requires_payment_method"), &json!("off_session")));
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    let browser = stripe.as_key("pk_test_example");
    let form = [
        ("client_secret", intent["client_secret"].as_str().unwrap()),
        ("payment_method", "pm_card_authenticationRequiredOnSetup"),
        ("use_stripe_sdk", "true"),
    ];
    let asked = browser.post(&format!("{path}/confirm"), &form).await.ok();
    assert_eq!((&asked["status"], asked.get("customer")), (&json!("requires_action"), None));
    let page = answer_page(&stripe, &asked, "authorise", "true").await;
    assert!(page.text.contains("succeeded"));
    let done = stripe.get(&format!("{path}?expand[]=payment_method")).await.ok();
    assert_eq!((&done["status"], &done["payment_method"]["customer"]), (&json!("succeeded"), &json!(customer)));
    let method = done["payment_method"]["id"].as_str().unwrap();
    let form = paying(method, &[("customer", customer), ("off_session", "true")]);
    assert_eq!(stripe.post("/v1/payment_intents", &form).await.ok()["status"], "succeeded");
    let all = events(&stripe).await;
    let expected = [
        "customer.created",
        "setup_intent.created",
        "setup_intent.requires_action",
        "payment_method.attached",
        "setup_intent.succeeded",
    ];
    assert_eq!(all[..5], expected);
}

#[tokio::test]
async fn declined_failed_and_cancelled() {
    let stripe = Client::new().await;
    let confirming =
        |method| [("payment_method", method), ("confirm", "true"), ("return_url", "https://shop.example/")];
    let error = stripe.post(INTENTS, &confirming("pm_card_visa_chargeDeclined")).await.error(402);
    assert_eq!((&error["code"], &error["decline_code"]), (&json!("card_declined"), &json!("generic_decline")));
    assert_eq!(error["setup_intent"]["status"], "requires_payment_method");
    assert_eq!(error["setup_intent"]["last_setup_error"]["code"], "card_declined");

    let intent = stripe.post(INTENTS, &confirming("pm_card_authenticationRequired")).await.ok();
    let back = answer_page(&stripe, &intent, "fail", "false").await;
    assert!(back.header("location").unwrap().contains("setup_intent_client_secret="));
    assert!(back.header("location").unwrap().ends_with("redirect_status=failed"));
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    let failed = stripe.get(&path).await.ok();
    assert_eq!(failed["last_setup_error"]["code"], "setup_intent_authentication_failure");
    let gone = stripe.post(&format!("{path}/cancel"), &[("cancellation_reason", "abandoned")]).await.ok();
    assert_eq!(gone["status"], "canceled");
    let error = stripe.post(&format!("{path}/confirm"), &[]).await.error(400);
    assert_eq!(error["code"], "setup_intent_unexpected_state");
}
