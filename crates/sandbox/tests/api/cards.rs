//! Every test card that declines, and what cards and tokens are refused for.

use serde_json::json;

use crate::client::Client;
use crate::payment_intents::paying;

#[tokio::test]
async fn every_declining_card_has_its_codes() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[]).await.ok();
    let customer = customer["id"].as_str().unwrap();
    for (method, code, decline_code) in [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ] {
        for answer in [
            stripe.post("/v1/payment_intents", &paying(method, &[])).await,
            stripe.post(&format!("/v1/payment_methods/{method}/attach"), &[("customer", customer)]).await,
        ] {
            let error = answer.error(402);
            let got = (error["type"].as_str(), error["code"].as_str(), error["decline_code"].as_str());
            assert_eq!(got, (Some("card_error"), Some(code), Some(decline_code)), "{method}");
        }
    }
    let methods = stripe.get(&format!("/v1/customers/{customer}/payment_methods")).await.ok();
    assert_eq!(methods["data"], json!([]));
    // This one attaches, and declines only when it is charged.
    let attach = "/v1/payment_methods/pm_card_chargeCustomerFail/attach";
    let method = stripe.post(attach, &[("customer", customer)]).await.ok();
    let form = paying(method["id"].as_str().unwrap(), &[("customer", customer), ("off_session", "true")]);
    assert_eq!(stripe.post("/v1/payment_intents", &form).await.error(402)["code"], "card_declined");
}

#[tokio::test]
async fn numbers_dates_and_codes_are_checked() {
    let stripe = Client::new().await;
    let create = async |number: &str, month: &str, year: &str, cvc: &str| {
        let form = [
            ("type", "card"),
            ("card[number]", number),
            ("card[exp_month]", month),
            ("card[exp_year]", year),
            ("card[cvc]", cvc),
        ];
        stripe.post("/v1/payment_methods", &form).await
    };
    for (number, month, year, cvc, code) in [
        ("4242424242424241", "12", "2040", "123", "incorrect_number"),
        ("4539578763621486", "12", "2040", "123", "card_declined"),
        ("4242424242424242", "13", "2040", "123", "invalid_expiry_month"),
        ("4242424242424242", "12", "2019", "123", "invalid_expiry_year"),
        ("4242424242424242", "12", "2040", "12", "invalid_cvc"),
    ] {
        let error = create(number, month, year, cvc).await.error(402);
        assert_eq!(error["code"], code);
        assert!(!error.to_string().contains(number));
    }
    let method = create("3782 822463 10005", "1", "40", "1234").await.ok();
    assert_eq!((&method["card"]["brand"], &method["card"]["exp_year"]), (&json!("amex"), &json!(2040)));
}

#[tokio::test]
async fn a_token_is_used_once() {
    let stripe = Client::new().await;
    let card = [("card[number]", "5555555555554444"), ("card[exp_month]", "8"), ("card[exp_year]", "2040")];
    let token = stripe.as_key("pk_test_example").post("/v1/tokens", &card).await.ok();
    assert_eq!(token["card"]["last4"], "4444");
    let form = [("type", "card"), ("card[token]", token["id"].as_str().unwrap())];
    let method = stripe.post("/v1/payment_methods", &form).await.ok();
    assert_eq!(method["card"]["brand"], "mastercard");
    assert_eq!(stripe.post("/v1/payment_methods", &form).await.error(400)["code"], "token_already_used");
    let standing = [("type", "card"), ("card[token]", "tok_visa")];
    for _ in 0..2 {
        stripe.post("/v1/payment_methods", &standing).await.ok();
    }
}
