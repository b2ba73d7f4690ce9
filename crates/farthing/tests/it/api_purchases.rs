//! Buying, paying, refunding and keeping cards on file through the API, with the jobs running and the provider's webhooks
//! coming in, as in life.

use std::time::Duration;

use serde_json::{Value, json};

use crate::databases::{Database, on_both};
use crate::harness::{Answer, TestApp, list, text};
use crate::shop::TestSandbox;

async fn put_customer(app: &TestApp, id: &str) {
    app.put(&format!("/v1/customers/{id}"), json!({})).await.is(201);
}

async fn buy(app: &TestApp, customer: &str, body: Value) -> Value {
    app.post(&format!("/v1/customers/{customer}/purchases"), body.clone()).await.is(201)
}

/// Asks until the answer is as awaited: webhooks take their time.
async fn until(app: &TestApp, path: &str, awaited: impl Fn(&Value) -> bool) -> Value {
    let mut seen = Value::Null;
    for _ in 0..200 {
        seen = app.get(path).await.is(200);
        if awaited(&seen) {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} stays {seen}");
}

async fn until_state(app: &TestApp, purchase: &Value, state: &str) -> Value {
    until(app, &format!("/v1/purchases/{}", text(purchase, "id")), |seen| seen["state"] == state).await
}

async fn available(app: &TestApp, customer: &str) -> String {
    let wallet = app.get(&format!("/v1/customers/{customer}/wallet")).await.is(200);
    wallet["balances"]["USD"]["available"].as_str().unwrap_or("0").to_owned()
}

async fn pay(sandbox: &TestSandbox, purchase: &Value, card: &str) -> (u16, Value) {
    sandbox.pay(text(purchase, "client_secret"), card).await
}

/// A customer with a card on file.
async fn with_card(app: &TestApp, customer: &str, card: &str) -> String {
    put_customer(app, customer).await;
    let path = format!("/v1/customers/{customer}/payment_methods");
    let methods = app.post(&path, json!({"payment_method": card})).await.is(200);
    text(&list(&methods, "data")[0], "id").to_owned()
}

#[tokio::test]
async fn a_pack_is_bought_with_a_card_after_two_were_declined() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        put_customer(&app, "jane").await;
        let bought = buy(&app, "jane", json!({"pack": "starter"})).await;
        assert_eq!(text(&bought, "state"), "requires_payment");
        assert_eq!(text(&bought, "publishable_key"), "pk_test_acme");
        assert_eq!((text(&bought, "price"), text(&bought, "currency")), ("20", "USD"));

        for (card, decline) in [
            ("pm_card_visa_chargeDeclined", "generic_decline"),
            ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ] {
            assert_eq!(pay(&sandbox, &bought, card).await.0, 402);
            let path = format!("/v1/purchases/{}", text(&bought, "id"));
            let seen = until(&app, &path, |seen| seen["failure"]["decline_code"] == decline).await;
            assert_eq!((text(&seen, "state"), &seen["failure"]["code"]), ("requires_payment", &json!("card_declined")));
        }
        assert_eq!(available(&app, "jane").await, "0");

        assert_eq!(pay(&sandbox, &bought, "pm_card_visa").await.0, 200);
        let paid = until_state(&app, &bought, "paid").await;
        assert!(paid.get("client_secret").is_none() && paid.get("failure").is_none(), "{paid}");
        assert_eq!(available(&app, "jane").await, "20");
        let grants = app.get("/v1/customers/jane/grants").await.is(200);
        assert_eq!(list(&grants, "data")[0]["id"], paid["grant"]);
        let payments = app.get("/v1/customers/jane/payments").await.is(200);
        assert_eq!(list(&payments, "data").len(), 1);
        assert_eq!(list(&payments, "data")[0]["purchase"], bought["id"]);
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_repeated_purchase_is_one_payment() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let body = json!({"pack": "starter", "operation_key": "order-1"});
    let first = app.post("/v1/customers/jane/purchases", body.clone()).await;
    let again = app.post("/v1/customers/jane/purchases", body.clone()).await;
    assert_eq!(first.is(201), again.is(201));
    assert!(again.replayed() && !first.replayed());
    let other = json!({"pack": "minutes", "operation_key": "order-1"});
    app.post("/v1/customers/jane/purchases", other).await.refused(422, "operation_key_reused");
    assert_eq!(sandbox.all("payment_intents").await.len(), 1);
    sandbox.stop().await;
}

#[tokio::test]
async fn a_bank_that_asks_the_customer_is_seen_on_the_purchase() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let bought = buy(&app, "jane", json!({"pack": "minutes", "quantity": 2})).await;
    assert_eq!((text(&bought, "price"), text(&bought, "amount"), text(&bought, "asset")), ("39.98", "200", "minute"));
    let (status, intent) = pay(&sandbox, &bought, "pm_card_authenticationRequired").await;
    assert_eq!((status, &intent["status"]), (200, &json!("requires_action")), "{intent}");
    let asked = until_state(&app, &bought, "requires_action").await;
    assert!(asked.get("client_secret").is_some(), "it can still be paid: {asked}");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_page_of_the_provider_takes_the_payment_too() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let collect =
        json!({"by": "page", "success_url": "https://shop.example/ok", "cancel_url": "https://shop.example/no"});
    let bought = buy(&app, "jane", json!({"pack": "starter", "collect": collect})).await;
    assert!(text(&bought, "page").starts_with(&sandbox.url), "{bought}");
    assert_eq!(text(&bought, "state"), "requires_payment");
    sandbox.pay_on_page(text(&bought, "page"), "4000000000009995").await;
    let path = format!("/v1/purchases/{}", text(&bought, "id"));
    let declined = until(&app, &path, |seen| seen["failure"]["decline_code"] == "insufficient_funds").await;
    assert_eq!((text(&declined, "state"), declined["page"] == bought["page"]), ("requires_payment", true));
    sandbox.pay_on_page(text(&bought, "page"), "4242424242424242").await;
    let paid = until_state(&app, &bought, "paid").await;
    assert!(paid.get("page").is_none(), "{paid}");
    assert_eq!(available(&app, "jane").await, "20");
    sandbox.stop().await;
}

#[tokio::test]
async fn a_refund_takes_back_what_is_unspent() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        put_customer(&app, "jane").await;
        let bought = buy(&app, "jane", json!({"pack": "starter"})).await;
        let refunds = format!("/v1/payments/{}/refunds", text(&bought, "payment"));
        app.post(&refunds, json!({})).await.refused(409, "not_paid");
        pay(&sandbox, &bought, "pm_card_visa").await;
        until_state(&app, &bought, "paid").await;
        app.post("/v1/charges", json!({"customer": "jane", "meter": "minutes", "quantity": 60})).await.is(201);

        let part = app.post(&refunds, json!({"amount": "4.99", "operation_key": "r1"})).await.is(201);
        assert_eq!((text(&part, "amount"), text(&part, "taken_back"), text(&part, "owed")), ("4.99", "4.99", "0"));
        assert_eq!(text(&part, "state"), "succeeded");
        let again = app.post(&refunds, json!({"amount": "4.99", "operation_key": "r1"})).await;
        assert!(again.replayed() && again.is(201) == part);
        app.post(&refunds, json!({"amount": "15.02"})).await.refused(422, "refund_too_large");
        app.post(&refunds, json!({"amount": "0.001"})).await.refused(400, "invalid_value");
        assert_eq!(available(&app, "jane").await, "0.01");

        // 15 dollars were spent; a cent of credit is left.
        let rest = app.post(&refunds, json!({})).await.is(201);
        assert_eq!((text(&rest, "taken_back"), text(&rest, "owed")), ("0.01", "15"));
        let wallet = app.get("/v1/customers/jane/wallet").await.is(200);
        assert_eq!(wallet["balances"]["USD"]["owed"], "15", "{wallet}");
        app.post(&refunds, json!({})).await.refused(422, "refund_too_large");
        assert_eq!(sandbox.all("refunds").await.len(), 2);
        let payment = app.get(&format!("/v1/payments/{}", text(&bought, "payment"))).await.is(200);
        assert_eq!((text(&payment, "refunded"), list(&payment, "refunds").len()), ("20", 2));
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn cards_on_file_belong_to_one_customer() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        let visa = with_card(&app, "jane", "pm_card_visa").await;
        put_customer(&app, "john").await;
        let johns = "/v1/customers/john/payment_methods";
        app.post(johns, json!({"payment_method": visa})).await.refused(404, "unknown_payment_method");
        app.post(johns, json!({"payment_method": "pm_nothing"})).await.refused(404, "unknown_payment_method");
        for verb in ["default", "detach"] {
            let path = format!("{johns}/{visa}/{verb}");
            app.request("POST", &path).send().await.refused(404, "unknown_payment_method");
        }
        let declined = app.post(johns, json!({"payment_method": "pm_card_visa_chargeDeclined"})).await;
        declined.refused(402, "card_declined");
        let theirs = json!({"pack": "starter", "collect": {"by": "on_file", "payment_method": visa}});
        app.post("/v1/customers/john/purchases", theirs).await.refused(404, "unknown_payment_method");
        let none = json!({"pack": "starter", "collect": {"by": "on_file"}});
        app.post("/v1/customers/john/purchases", none).await.refused(402, "no_payment_method");

        // Jane's first card has become the default; a second one takes its place when it goes.
        let janes = "/v1/customers/jane/payment_methods";
        let is_default = |methods: &Value, id: &str| {
            list(methods, "data").iter().any(|method| method["id"] == id && method["default"] == true)
        };
        until(&app, janes, |methods| is_default(methods, &visa)).await;
        app.post(janes, json!({"payment_method": visa})).await.is(200);
        let two = app.post(janes, json!({"payment_method": "pm_card_mastercard"})).await.is(200);
        assert_eq!(list(&two, "data").len(), 2, "{two}");
        let other = list(&two, "data").iter().find(|method| method["id"] != visa.as_str()).expect("another");
        let other = text(other, "id").to_owned();
        app.request("POST", &format!("{janes}/{visa}/detach")).send().await.is(200);
        until(&app, janes, |methods| list(methods, "data").len() == 1 && is_default(methods, &other)).await;
        let customer = app.get("/v1/customers/jane").await.is(200);
        assert_eq!(customer["payment_method"], true, "{customer}");
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_card_is_put_on_file_by_the_browser() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let setup = app.request("POST", "/v1/customers/jane/payment_methods/setup").send().await.is(201);
    assert_eq!(text(&setup, "publishable_key"), "pk_test_acme");
    let (intent, _) = text(&setup, "client_secret").split_once("_secret_").expect("a client secret");
    let form = [("payment_method", "pm_card_visa"), ("return_url", "https://shop.example")];
    let (status, done) = sandbox.post(&format!("/v1/setup_intents/{intent}/confirm"), &form).await;
    assert_eq!((status, &done["status"]), (200, &json!("succeeded")), "{done}");
    let path = "/v1/customers/jane/payment_methods";
    until(&app, path, |methods| list(methods, "data").len() == 1).await;
    sandbox.stop().await;
}

#[tokio::test]
async fn credit_is_topped_up_until_a_card_is_declined() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let top_up = json!({"threshold": "5", "pack": "starter", "monthly_limit": "40"});
        app.put("/v1/customers/john/top_up", top_up.clone()).await.refused(404, "unknown_customer");
        app.put("/v1/customers/jane/top_up", top_up.clone()).await.is(200);
        let wallet = "/v1/customers/jane/wallet";
        until(&app, wallet, |wallet| wallet["balances"]["USD"]["available"] == "20").await;
        let charge = json!({"customer": "jane", "meter": "minutes", "quantity": 64});
        app.post("/v1/charges", charge.clone()).await.is(201);
        until(&app, wallet, |wallet| wallet["balances"]["USD"]["available"] == "24").await;
        let seen = app.get("/v1/customers/jane/top_up").await.is(200);
        assert_eq!((text(&seen, "spent"), text(&seen, "monthly_limit")), ("40", "40"));
        // The month's limit is used up. A payment would have been recorded with the charge.
        app.post("/v1/charges", charge.clone()).await.is(201);
        let payments = app.get("/v1/customers/jane/payments").await.is(200);
        assert_eq!(list(&payments, "data").len(), 2, "{payments}");
        assert_eq!(available(&app, "jane").await, "8");

        // Of the next customer the card is good for attaching and for nothing else.
        with_card(&app, "john", "pm_card_chargeCustomerFail").await;
        app.put("/v1/customers/john/top_up", top_up.clone()).await.is(200);
        let stopped = until(&app, "/v1/customers/john/top_up", |seen| seen.get("stopped").is_some()).await;
        assert_eq!(text(&stopped, "stopped"), "card_declined");
        let off = app.request("POST", "/v1/customers/john/top_up/disable").send().await.is(200);
        assert_eq!(off["enabled"], false);
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_payment_can_be_cancelled_until_it_is_paid() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let bought = buy(&app, "jane", json!({"pack": "starter"})).await;
    let cancel = format!("/v1/payments/{}/cancel", text(&bought, "payment"));
    let ended = app.request("POST", &cancel).send().await.is(200);
    assert_eq!(text(&ended, "state"), "canceled");
    assert_eq!(sandbox.all("payment_intents").await[0]["status"], "canceled");
    let paid = buy(&app, "jane", json!({"pack": "starter"})).await;
    pay(&sandbox, &paid, "pm_card_visa").await;
    until_state(&app, &paid, "paid").await;
    let cancel = format!("/v1/payments/{}/cancel", text(&paid, "payment"));
    let refused: Answer = app.request("POST", &cancel).send().await;
    refused.refused(409, "payment_ended");
    sandbox.stop().await;
}

#[tokio::test]
async fn what_cannot_be_bought_is_refused() {
    let (app, sandbox) = TestApp::shop(Database::sqlite().await).await;
    put_customer(&app, "jane").await;
    let purchases = "/v1/customers/jane/purchases";
    app.post(purchases, json!({"pack": "nothing"})).await.refused(422, "unknown_pack");
    app.post(purchases, json!({"pack": "starter", "quantity": 0})).await.refused(400, "invalid_value");
    app.post("/v1/customers/nobody/purchases", json!({"pack": "starter"})).await.refused(404, "unknown_customer");
    let script = json!({"by": "page", "success_url": "javascript:alert(1)", "cancel_url": "https://shop.example"});
    app.post(purchases, json!({"pack": "starter", "collect": script})).await.refused(400, "invalid_value");
    app.get("/v1/purchases/pur_00000000000000000000000000000000000").await.refused(404, "unknown_purchase");
    app.get("/v1/payments/pay_00000000000000000000000000000000000").await.refused(404, "unknown_payment");
    assert!(sandbox.all("payment_intents").await.is_empty());
    sandbox.stop().await;

    let without = TestApp::start(Database::sqlite().await).await;
    put_customer(&without, "jane").await;
    without.post(purchases, json!({"pack": "starter"})).await.refused(409, "no_payment_provider");
}
