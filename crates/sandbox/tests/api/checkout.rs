//! Checkout Sessions and portal sessions by API. Their pages are driven in a browser: `tests/sdk/node/pages.mjs`.

use serde_json::{Value, json};

use crate::client::{Client, Endpoint};

const SESSIONS: &str = "/v1/checkout/sessions";
const CARD: &[(&str, &str)] =
    &[("email", "ada@example.com"), ("number", "4242 4242 4242 4242"), ("expiry", "12 / 34"), ("cvc", "123")];
const ONE_PACK: &[(&str, &str)] = &[
    ("mode", "payment"),
    ("success_url", "https://shop.example/thanks?session={CHECKOUT_SESSION_ID}"),
    ("line_items[0][price_data][currency]", "usd"),
    ("line_items[0][price_data][unit_amount]", "900"),
    ("line_items[0][price_data][product_data][name]", "Pack"),
    ("line_items[0][quantity]", "2"),
];

fn with<'a>(form: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = form.iter().filter(|(key, _)| !more.iter().any(|(other, _)| other == key));
    kept.chain(more).filter(|(_, value)| *value != "-").copied().collect()
}

/// Posts a form of a page; where the browser is sent then, or the page.
async fn submit(stripe: &Client, url: &str, form: &[(&str, &str)]) -> (u16, String) {
    let path = url.strip_prefix(&stripe.base).unwrap();
    let answer = stripe.as_key("").post(path, form).await;
    let location = answer.header("location").map(str::to_owned);
    (answer.status, location.unwrap_or(answer.text))
}

#[tokio::test]
async fn a_session_as_it_is_made() {
    let stripe = Client::new().await;
    let made =
        stripe.post(SESSIONS, &with(ONE_PACK, &[("metadata[order]", "7"), ("expand[]", "line_items")])).await.ok();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("cs_test_"));
    assert_eq!((&made["status"], &made["payment_status"]), (&json!("open"), &json!("unpaid")));
    assert_eq!((&made["amount_total"], &made["currency"]), (&json!(1800), &json!("usd")));
    assert_eq!((&made["ui_mode"], &made["customer_creation"]), (&json!("hosted_page"), &json!("if_required")));
    assert_eq!(made["expires_at"].as_i64().unwrap() - made["created"].as_i64().unwrap(), 24 * 3600);
    assert_eq!(made["payment_intent"], Value::Null, "it comes with the first try to pay");
    let line = &made["line_items"]["data"][0];
    assert_eq!(
        (&line["description"], &line["price"]["unit_amount"], &line["quantity"]),
        (&json!("Pack"), &json!(900), &json!(2))
    );

    let old = stripe.post(SESSIONS, &with(ONE_PACK, &[("ui_mode", "hosted")])).await.ok();
    assert_eq!(old["ui_mode"], "hosted", "as it was called before 2026-03-25");
    let read = stripe.get(&format!("{SESSIONS}/{id}")).await.ok();
    assert_eq!(read.get("line_items"), None, "only where it is expanded");
    assert_eq!(stripe.get(&format!("{SESSIONS}/{id}/line_items")).await.ok(), made["line_items"]);
    let changed = stripe.post(&format!("{SESSIONS}/{id}"), &[("metadata[order]", "8")]).await.ok();
    assert_eq!(changed["metadata"], json!({"order": "8"}));
}

#[tokio::test]
async fn what_a_session_cannot_be_made_of() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[]).await.ok()["id"].as_str().unwrap().to_owned();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("mode", "-")], "mode"),
        (&[("mode", "gift")], "mode"),
        (&[("success_url", "-")], "success_url"),
        (&[("success_url", "javascript:alert(1)")], "success_url"),
        (&[("cancel_url", "JavaScript://%0aalert(1)")], "cancel_url"),
        (&[("ui_mode", "embedded_page")], "ui_mode"),
        (&[("line_items[0][quantity]", "-")], "line_items[0][quantity]"),
        (&[("line_items[0][quantity]", "0")], "line_items[0][quantity]"),
        (&[("line_items[0][price_data][unit_amount]", "20")], "line_items"),
        (&[("line_items[0][price_data][recurring][interval]", "month")], "line_items[0][price]"),
        (&[("mode", "subscription")], "line_items"),
        (&[("subscription_data[trial_period_days]", "7")], "subscription_data"),
        (&[("currency", "eur")], "currency"),
        (&[("customer", "cus_none")], "customer"),
        (&[("customer", &customer), ("customer_email", "a@example.com")], "customer"),
        (&[("payment_method_types[]", "card")], "payment_method_types"),
        (&[("expires_at", "1")], "expires_at"),
        (&[("allow_promotion_codes", "true")], "allow_promotion_codes"),
        (&[("payment_intent_data[tip]", "1")], "payment_intent_data[tip]"),
        (&[("nonsense", "1")], "nonsense"),
    ];
    for (change, param) in cases {
        let error = stripe.post(SESSIONS, &with(ONE_PACK, change)).await.error(400);
        assert_eq!(error["param"], *param, "{change:?}: {error}");
    }
    for kind in ["/v1/products", "/v1/prices", SESSIONS, "/v1/events"] {
        let left = stripe.get(kind).await.ok();
        let events =
            left["data"].as_array().unwrap().iter().filter(|event| event["type"] != "customer.created").count();
        assert_eq!(events, 0, "a refusal leaves nothing in {kind}");
    }
}

#[tokio::test]
async fn paid_by_its_page_and_told_by_webhook() {
    let stripe = Client::new().await;
    let endpoint = Endpoint::new(&[]).await;
    let wanted = [("url", endpoint.url.as_str()), ("enabled_events[]", "checkout.session.completed")];
    stripe.post("/v1/webhook_endpoints", &wanted).await.ok();
    let more = [("payment_intent_data[metadata][order]", "7"), ("payment_intent_data[description]", "Order 7")];
    let made = stripe.post(SESSIONS, &with(ONE_PACK, &more)).await.ok();
    let url = made["url"].as_str().unwrap();

    let (status, page) = submit(&stripe, url, &with(CARD, &[("number", "4000000000000002")])).await;
    assert_eq!(status, 200);
    assert!(page.contains("Your card was declined."), "{page}");
    let (status, page) = submit(&stripe, url, &with(CARD, &[("email", "-")])).await;
    assert!(status == 200 && page.contains("Enter your email address."));
    let thanks = format!("https://shop.example/thanks?session={}", made["id"].as_str().unwrap());
    assert_eq!(submit(&stripe, url, CARD).await, (303, thanks.clone()));
    assert_eq!(submit(&stripe, url, CARD).await, (303, thanks), "paid once, however often it is sent");

    let event = endpoint.wait_for(1).await[0].event();
    let session = &event["data"]["object"];
    assert_eq!((&session["status"], &session["payment_status"]), (&json!("complete"), &json!("paid")));
    assert_eq!(session["customer_details"]["email"], "ada@example.com");
    let intents = stripe.get("/v1/payment_intents").await.ok();
    assert_eq!(intents["data"].as_array().unwrap().len(), 1, "the second try paid the same intent");
    let intent = &intents["data"][0];
    assert_eq!(intent["id"], session["payment_intent"]);
    assert_eq!((&intent["metadata"]["order"], &intent["description"]), (&json!("7"), &json!("Order 7")));
    let found = stripe.get(&format!("{SESSIONS}?payment_intent={}", intent["id"].as_str().unwrap())).await.ok();
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn completed_although_the_buyer_does_not_come_back_from_3d_secure() {
    let stripe = Client::new().await;
    let made = stripe.post(SESSIONS, ONE_PACK).await.ok();
    let form = with(CARD, &[("number", "4000002760003184")]);
    let (status, bank) = submit(&stripe, made["url"].as_str().unwrap(), &form).await;
    assert_eq!(status, 303);
    let (path, query) = bank.split_once('?').unwrap();
    let (_, secret) = query.split_once('=').unwrap();
    let (_, back) = submit(&stripe, path, &[("client_secret", secret), ("outcome", "authorise")]).await;
    assert!(back.contains("/back?payment_intent=pi_"), "{back}");
    let path = format!("{SESSIONS}/{}", made["id"].as_str().unwrap());
    assert_eq!(stripe.get(&path).await.ok()["status"], "complete");
}

#[tokio::test]
async fn sessions_expire_by_time_and_by_request() {
    let stripe = Client::new().await;
    let made = stripe.post(SESSIONS, ONE_PACK).await.ok();
    let path = format!("{SESSIONS}/{}", made["id"].as_str().unwrap());
    let end = made["expires_at"].as_i64().unwrap();
    stripe.control("/_sandbox/clock", json!({"now": end - 1})).await;
    assert_eq!(stripe.get(&path).await.ok()["status"], "open");
    stripe.control("/_sandbox/clock", json!({"now": end})).await;
    let expired = stripe.get(&path).await.ok();
    assert_eq!((&expired["status"], &expired["url"]), (&json!("expired"), &Value::Null));
    let (status, page) = submit(&stripe, made["url"].as_str().unwrap(), CARD).await;
    assert!(status == 200 && page.contains("has expired"), "nothing can be paid there any more");
    assert_eq!(stripe.get("/v1/charges").await.ok()["data"], json!([]));

    let other = stripe.post(SESSIONS, ONE_PACK).await.ok();
    let path = format!("{SESSIONS}/{}/expire", other["id"].as_str().unwrap());
    assert_eq!(stripe.post(&path, &[]).await.ok()["status"], "expired");
    stripe.post(&path, &[]).await.error(400);
    let setup = [("mode", "setup"), ("currency", "usd"), ("success_url", "https://shop.example/")];
    let setup = stripe.post(SESSIONS, &setup).await.ok();
    let path = format!("{SESSIONS}/{}/expire", setup["id"].as_str().unwrap());
    stripe.post(&path, &[]).await.ok();
    let intent = format!("/v1/setup_intents/{}", setup["setup_intent"].as_str().unwrap());
    assert_eq!(stripe.get(&intent).await.ok()["status"], "canceled");
    let events = stripe.get("/v1/events?type=checkout.session.expired").await.ok();
    assert_eq!(events["data"].as_array().unwrap().len(), 3);
    assert_eq!(stripe.get(&format!("{SESSIONS}?status=open")).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_declined_payment_is_given_up_with_its_session() {
    let stripe = Client::new().await;
    let made = stripe.post(SESSIONS, ONE_PACK).await.ok();
    submit(&stripe, made["url"].as_str().unwrap(), &with(CARD, &[("number", "4000000000000002")])).await;
    stripe.post(&format!("{SESSIONS}/{}/expire", made["id"].as_str().unwrap()), &[]).await.ok();
    let intents = stripe.get("/v1/payment_intents").await.ok();
    assert_eq!(intents["data"][0]["status"], "canceled");
}

#[tokio::test]
async fn a_trial_of_a_customer_who_has_a_card_is_paid_by_the_new_one() {
    let stripe = Client::new().await;
    let known = [("payment_method", "pm_card_visa"), ("invoice_settings[default_payment_method]", "pm_card_visa")];
    let customer = stripe.post("/v1/customers", &known).await.ok();
    let monthly = [
        ("mode", "subscription"),
        ("customer", customer["id"].as_str().unwrap()),
        ("line_items[0][price_data][recurring][interval]", "month"),
        ("subscription_data[trial_period_days]", "7"),
        ("expand[]", "subscription"),
    ];
    let made = stripe.post(SESSIONS, &with(ONE_PACK, &monthly)).await.ok();
    assert_eq!((&made["amount_total"], &made["payment_status"]), (&json!(0), &json!("no_payment_required")));
    let (status, _) =
        submit(&stripe, made["url"].as_str().unwrap(), &with(CARD, &[("number", "5555555555554444")])).await;
    assert_eq!(status, 303);
    let path = format!("{SESSIONS}/{}?expand[]=subscription.default_payment_method", made["id"].as_str().unwrap());
    let done = stripe.get(&path).await.ok();
    assert_eq!((&done["status"], &done["subscription"]["status"]), (&json!("complete"), &json!("trialing")));
    assert_eq!(done["subscription"]["default_payment_method"]["card"]["last4"], "4444");
}

#[tokio::test]
async fn a_session_without_a_price_needs_no_card() {
    let stripe = Client::new().await;
    let free = with(ONE_PACK, &[("line_items[0][price_data][unit_amount]", "0")]);
    let made = stripe.post(SESSIONS, &free).await.ok();
    assert_eq!(made["payment_status"], "no_payment_required");
    let (status, _) = submit(&stripe, made["url"].as_str().unwrap(), &[("email", "ada@example.com")]).await;
    assert_eq!(status, 303);
    assert_eq!(stripe.get("/v1/payment_intents").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn the_portal_shows_and_does_what_its_configuration_allows() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[("email", "ada@example.com")]).await.ok();
    let customer = customer["id"].as_str().unwrap();
    let session = stripe.post("/v1/billing_portal/sessions", &[("customer", customer)]).await.ok();
    assert!(session["configuration"].as_str().unwrap().starts_with("bpc_"));
    let add = format!("{}/cards", session["url"].as_str().unwrap());
    let (status, _) = submit(&stripe, &add, CARD).await;
    assert_eq!(status, 303);
    let methods = stripe.get(&format!("/v1/customers/{customer}/payment_methods")).await.ok();
    let method = methods["data"][0]["id"].as_str().unwrap();
    let read = stripe.get(&format!("/v1/customers/{customer}")).await.ok();
    assert_eq!(read["invoice_settings"]["default_payment_method"], method, "the first card is the default");

    let form = [("features[invoice_history][enabled]", "true"), ("features[payment_method_update][enabled]", "false")];
    let narrow = stripe.post("/v1/billing_portal/configurations", &form).await.ok();
    let form = [("customer", customer), ("configuration", narrow["id"].as_str().unwrap())];
    let session = stripe.post("/v1/billing_portal/sessions", &form).await.ok();
    let url = session["url"].as_str().unwrap();
    let (status, page) = submit(&stripe, &format!("{url}/cards"), CARD).await;
    assert!(status == 400 && page.contains("does not allow"), "{page}");
    let (status, _) = submit(&stripe, &format!("{url}/cards/{method}/remove"), &[]).await;
    assert_eq!(status, 400);

    let form =
        [("features[subscription_cancel][enabled]", "true"), ("features[subscription_cancel][mode]", "immediately")];
    let abrupt = stripe.post("/v1/billing_portal/configurations", &form).await.ok();
    let product = stripe.post("/v1/products", &[("name", "Pro")]).await.ok();
    let form = [
        ("product", product["id"].as_str().unwrap()),
        ("currency", "usd"),
        ("unit_amount", "900"),
        ("recurring[interval]", "month"),
    ];
    let price = stripe.post("/v1/prices", &form).await.ok();
    let form = [("customer", customer), ("items[0][price]", price["id"].as_str().unwrap())];
    let subscription = stripe.post("/v1/subscriptions", &form).await.ok();
    let form = [("customer", customer), ("configuration", abrupt["id"].as_str().unwrap())];
    let session = stripe.post("/v1/billing_portal/sessions", &form).await.ok();
    let id = subscription["id"].as_str().unwrap();
    let cancel = format!("{}/subscriptions/{id}/cancel", session["url"].as_str().unwrap());
    assert_eq!(submit(&stripe, &cancel, &[]).await.0, 303);
    assert_eq!(stripe.get(&format!("/v1/subscriptions/{id}")).await.ok()["status"], "canceled");

    let stranger = stripe.post("/v1/customers", &[]).await.ok();
    let form = [("customer", stranger["id"].as_str().unwrap())];
    let session = stripe.post("/v1/billing_portal/sessions", &form).await.ok();
    let url = session["url"].as_str().unwrap();
    let (status, _) = submit(&stripe, &format!("{url}/cards/{method}/remove"), &[]).await;
    assert_eq!(status, 404, "nobody removes the card of somebody else");
}
