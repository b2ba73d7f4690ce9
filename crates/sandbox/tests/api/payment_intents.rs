//! Payments: in one step and in two, by a server and by a browser, captured later, cancelled, with 3-D Secure.

use serde_json::{Value, json};

use crate::client::{Client, Endpoint};

const INTENTS: &str = "/v1/payment_intents";

/// The parameters of a payment of 20 dollars by a server, with more.
pub(crate) fn paying<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("amount", "2000"),
        ("currency", "usd"),
        ("payment_method", method),
        ("confirm", "true"),
        ("return_url", "https://shop.example/back?order=7"),
    ];
    form.extend_from_slice(more);
    form
}

/// The types of all events of the world, oldest first.
pub(crate) async fn events(stripe: &Client) -> Vec<String> {
    let list = stripe.get("/v1/events?limit=100").await.ok();
    list["data"].as_array().unwrap().iter().rev().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// What the holder of a card answers on the 3-D Secure page of a payment or setup intent: the page's reply.
pub(crate) async fn answer_page(stripe: &Client, intent: &Value, outcome: &str, framed: &str) -> crate::client::Answer {
    let action = &intent["next_action"];
    let url = action["redirect_to_url"]["url"].as_str().or(action["use_stripe_sdk"]["stripe_js"].as_str()).unwrap();
    let path = url.strip_prefix(&stripe.base).unwrap();
    let page = stripe.as_key("").get(path).await;
    assert!(page.status == 200 && page.text.contains("Complete authentication"), "{}", page.text);
    let secret = intent["client_secret"].as_str().unwrap();
    let path = path.split('?').next().unwrap();
    let form = [("client_secret", secret), ("return_url", ""), ("framed", framed), ("outcome", outcome)];
    stripe.as_key("").post(path, &form).await
}

#[tokio::test]
async fn paid_in_one_step() {
    let stripe = Client::new().await;
    let form = paying("pm_card_visa", &[("expand[]", "latest_charge.balance_transaction"), ("metadata[order]", "7")]);
    let intent = stripe.post(INTENTS, &form).await.ok();
    assert_eq!((&intent["status"], &intent["amount_received"]), (&json!("succeeded"), &json!(2000)));
    let charge = &intent["latest_charge"];
    assert_eq!(
        (&charge["paid"], &charge["captured"], &charge["amount_captured"]),
        (&json!(true), &json!(true), &json!(2000))
    );
    assert_eq!(charge["payment_method_details"]["card"]["last4"], "4242");
    assert_eq!(charge["metadata"], json!({"order": "7"}));
    let transaction = &charge["balance_transaction"];
    assert_eq!(
        (&transaction["fee"], &transaction["net"], &transaction["status"]),
        (&json!(88), &json!(1912), &json!("pending"))
    );
    assert_eq!(events(&stripe).await, ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]);
    let balance = stripe.get("/v1/balance").await.ok();
    assert_eq!((&balance["pending"][0]["amount"], &balance["available"][0]["amount"]), (&json!(1912), &json!(0)));
}

#[tokio::test]
async fn paid_in_two_steps_by_a_browser() {
    let stripe = Client::new().await;
    let intent = stripe.post(INTENTS, &[("amount", "2000"), ("currency", "eur")]).await.ok();
    assert_eq!(intent["status"], "requires_payment_method");
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    let secret = intent["client_secret"].as_str().unwrap();
    let browser = stripe.as_key("pk_test_example");
    assert_eq!(browser.get(&path).await.error(400)["param"], "client_secret");
    assert_eq!(browser.get(&format!("{path}?client_secret=wrong")).await.error(400)["code"], "resource_missing");
    let seen = browser.get(&format!("{path}?client_secret={secret}")).await;
    assert_eq!(seen.header("access-control-allow-origin"), Some("*"));
    assert_eq!(seen.ok().get("customer"), None, "a browser does not see everything");
    let card = [
        ("client_secret", secret),
        ("payment_method_data[type]", "card"),
        ("payment_method_data[card][number]", "4242 4242 4242 4242"),
        ("payment_method_data[card][exp_month]", "12"),
        ("payment_method_data[card][exp_year]", "2034"),
        ("payment_method_data[card][cvc]", "123"),
        ("use_stripe_sdk", "true"),
    ];
    let paid = browser.post(&format!("{path}/confirm"), &card).await.ok();
    assert_eq!(paid["status"], "succeeded");
    assert_eq!(stripe.get(&path).await.ok()["amount_received"], 2000);
    let requests = stripe.get("/_sandbox/requests").await;
    assert!(!requests.text.contains("4242 4242"), "no card number is remembered");
    assert!(!requests.text.contains(secret));
    let again = stripe.post(&format!("{path}/confirm"), &[]).await.error(400);
    assert_eq!(again["code"], "payment_intent_unexpected_state");
    assert_eq!(browser.post(INTENTS, &[]).await.error(401)["code"], "secret_key_required");
}

#[tokio::test]
async fn a_server_confirms_with_a_return_url_or_without_redirects() {
    let stripe = Client::new().await;
    let plain = [("amount", "2000"), ("currency", "usd"), ("payment_method", "pm_card_visa"), ("confirm", "true")];
    let error = stripe.post(INTENTS, &plain).await.error(400);
    assert_eq!(error["param"], "return_url");
    for more in [
        &[("automatic_payment_methods[enabled]", "true"), ("automatic_payment_methods[allow_redirects]", "never")][..],
        &[("allowed_payment_method_types[]", "card")][..],
    ] {
        let form = [&plain[..], more].concat();
        assert_eq!(stripe.post(INTENTS, &form).await.ok()["status"], "succeeded");
    }
    let old = [&plain[..], &[("payment_method_types[]", "card")]].concat();
    assert_eq!(stripe.post(INTENTS, &old).await.error(400)["code"], "payment_method_types_no_longer_supported");
}

#[tokio::test]
async fn amounts_have_limits() {
    let stripe = Client::new().await;
    for (amount, currency, code) in [
        ("49", "usd", "amount_too_small"),
        ("49", "jpy", "amount_too_small"),
        ("100000000", "usd", "amount_too_large"),
        ("0", "usd", "parameter_invalid_integer"),
        ("20.00", "usd", "parameter_invalid_integer"),
    ] {
        let error = stripe.post(INTENTS, &[("amount", amount), ("currency", currency)]).await.error(400);
        assert_eq!((error["code"].as_str(), error["param"].as_str()), (Some(code), Some("amount")));
    }
    assert_eq!(stripe.post(INTENTS, &[("amount", "50")]).await.error(400)["param"], "currency");
    assert_eq!(stripe.post(INTENTS, &[("amount", "50"), ("currency", "xyz")]).await.error(400)["param"], "currency");
    stripe.post(INTENTS, &[("amount", "50"), ("currency", "JPY")]).await.ok();
}

#[tokio::test]
async fn a_decline_leaves_the_intent_for_another_card() {
    let stripe = Client::new().await;
    let error = stripe.post(INTENTS, &paying("pm_card_visa_chargeDeclinedInsufficientFunds", &[])).await.error(402);
    assert_eq!((&error["type"], &error["code"]), (&json!("card_error"), &json!("card_declined")));
    assert_eq!(error["decline_code"], "insufficient_funds");
    assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
    let path = format!("{INTENTS}/{}", error["payment_intent"]["id"].as_str().unwrap());
    let intent = stripe.get(&path).await.ok();
    assert_eq!(intent, error["payment_intent"], "what the error shows is what there is");
    assert_eq!(intent["last_payment_error"]["decline_code"], "insufficient_funds");
    assert_eq!(intent["last_payment_error"]["charge"], intent["latest_charge"]);
    let charge = stripe.get(&format!("/v1/charges/{}", error["charge"].as_str().unwrap())).await.ok();
    assert_eq!((&charge["status"], &charge["paid"]), (&json!("failed"), &json!(false)));
    let form = [("payment_method", "pm_card_visa"), ("return_url", "https://shop.example")];
    let paid = stripe.post(&format!("{path}/confirm"), &form).await.ok();
    assert_eq!((&paid["status"], &paid["last_payment_error"]), (&json!("succeeded"), &json!(null)));
    let expected = [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
    ];
    assert_eq!(events(&stripe).await, expected);
}

#[tokio::test]
async fn three_d_secure_with_a_redirect() {
    let stripe = Client::new().await;
    for (outcome, status, redirect) in
        [("authorise", "succeeded", "succeeded"), ("fail", "requires_payment_method", "failed")]
    {
        let intent = stripe.post(INTENTS, &paying("pm_card_threeDSecure2Required", &[])).await.ok();
        assert_eq!(
            (&intent["status"], &intent["next_action"]["type"]),
            (&json!("requires_action"), &json!("redirect_to_url"))
        );
        let back = answer_page(&stripe, &intent, outcome, "false").await;
        assert_eq!(back.status, 303);
        let (id, secret) = (intent["id"].as_str().unwrap(), intent["client_secret"].as_str().unwrap());
        let expected = format!(
            "https://shop.example/back?order=7&payment_intent={id}&payment_intent_client_secret={secret}&redirect_status={redirect}"
        );
        assert_eq!(back.header("location"), Some(expected.as_str()));
        let after = stripe.get(&format!("{INTENTS}/{id}")).await.ok();
        assert_eq!(after["status"], status);
        if outcome == "fail" {
            assert_eq!(after["last_payment_error"]["code"], "payment_intent_authentication_failure");
            assert_eq!(after["latest_charge"], json!(null));
        }
    }
}

#[tokio::test]
async fn the_way_back_keeps_its_fragment_and_its_letters() {
    let stripe = Client::new().await;
    let with = |url| {
        [
            ("amount", "2000"),
            ("currency", "usd"),
            ("payment_method", "pm_card_threeDSecure2Required"),
            ("confirm", "true"),
            ("return_url", url),
        ]
    };
    let intent = stripe.post(INTENTS, &with("https://shop.example/zurück#done?")).await.ok();
    let back = answer_page(&stripe, &intent, "authorise", "false").await;
    let location = back.header("location").unwrap();
    assert!(location.starts_with("https://shop.example/zur%C3%BCck?payment_intent=pi_"), "{location}");
    assert!(location.ends_with("&redirect_status=succeeded#done?"), "{location}");
    assert_eq!(stripe.post(INTENTS, &with("back")).await.error(400)["code"], "url_invalid");
}

#[tokio::test]
async fn three_d_secure_inside_a_frame() {
    let stripe = Client::new().await;
    let form = [
        ("amount", "2000"),
        ("currency", "usd"),
        ("payment_method", "pm_card_authenticationRequired"),
        ("confirm", "true"),
        ("use_stripe_sdk", "true"),
    ];
    let intent = stripe.post(INTENTS, &form).await.ok();
    assert_eq!(intent["next_action"]["type"], "use_stripe_sdk");
    let page = answer_page(&stripe, &intent, "authorise", "true").await;
    assert!(page.status == 200 && page.text.contains("sandbox-3ds-complete"));
    let again = stripe.get(&format!("{INTENTS}/{}?expand[]=latest_charge", intent["id"].as_str().unwrap())).await.ok();
    assert_eq!(again["status"], "succeeded");
    let card = &again["latest_charge"]["payment_method_details"]["card"];
    assert_eq!(card["three_d_secure"]["result"], "authenticated");
    // The page knows that it is over: a second answer changes nothing.
    let path = format!("/pages/example/3ds/{}", intent["id"].as_str().unwrap());
    let secret = intent["client_secret"].as_str().unwrap();
    let late = stripe.post(&path, &[("client_secret", secret), ("outcome", "fail"), ("framed", "true")]).await;
    assert_eq!(late.status, 200);
    assert_eq!(stripe.get(&format!("{INTENTS}/{}", intent["id"].as_str().unwrap())).await.ok()["status"], "succeeded");
    let stranger = stripe.post(&path, &[("client_secret", "guessed"), ("outcome", "fail")]).await;
    assert_eq!(stranger.status, 404);
}

#[tokio::test]
async fn three_d_secure_then_declined() {
    let stripe = Client::new().await;
    let method = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds";
    let intent = stripe.post(INTENTS, &paying(method, &[])).await.ok();
    let back = answer_page(&stripe, &intent, "authorise", "false").await;
    assert!(back.header("location").unwrap().ends_with("redirect_status=failed"));
    let after = stripe.get(&format!("{INTENTS}/{}", intent["id"].as_str().unwrap())).await.ok();
    assert_eq!(after["last_payment_error"]["decline_code"], "insufficient_funds");
}

#[tokio::test]
async fn off_session_a_card_that_asks_is_declined_and_recovers_on_session() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[("payment_method", "pm_card_authenticationRequired")]).await.ok();
    let customer = customer["id"].as_str().unwrap();
    let methods = stripe.get(&format!("/v1/customers/{customer}/payment_methods")).await.ok();
    let method = methods["data"][0]["id"].as_str().unwrap();
    let form = paying(method, &[("customer", customer), ("off_session", "true")]);
    let error = stripe.post(INTENTS, &form).await.error(402);
    assert_eq!(
        (&error["code"], &error["decline_code"]),
        (&json!("authentication_required"), &json!("authentication_required"))
    );
    assert_eq!(error["payment_intent"]["status"], "requires_payment_method");
    assert_eq!(error["payment_method"]["id"], method);
    let path = format!("{INTENTS}/{}", error["payment_intent"]["id"].as_str().unwrap());
    let form = [("payment_method", method), ("return_url", "https://shop.example/")];
    let intent = stripe.post(&format!("{path}/confirm"), &form).await.ok();
    answer_page(&stripe, &intent, "authorise", "false").await;
    assert_eq!(stripe.get(&path).await.ok()["status"], "succeeded");
}

#[tokio::test]
async fn what_was_set_up_in_a_payment_pays_off_session() {
    let stripe = Client::new().await;
    let customer = stripe.post("/v1/customers", &[]).await.ok();
    let customer = customer["id"].as_str().unwrap();
    let wish = [("customer", customer), ("setup_future_usage", "off_session")];
    let intent = stripe.post(INTENTS, &paying("pm_card_authenticationRequiredOnSetup", &wish)).await.ok();
    answer_page(&stripe, &intent, "authorise", "false").await;
    let method = intent["payment_method"].as_str().unwrap();
    assert_eq!(stripe.get(&format!("/v1/payment_methods/{method}")).await.ok()["customer"], customer);
    let form = paying(method, &[("customer", customer), ("off_session", "true")]);
    assert_eq!(stripe.post(INTENTS, &form).await.ok()["status"], "succeeded");
    // Without it, a payment method is spent with its first payment.
    let once = stripe.post(INTENTS, &paying("pm_card_visa", &[])).await.ok();
    let spent = stripe.post(INTENTS, &paying(once["payment_method"].as_str().unwrap(), &[])).await.error(400);
    assert!(spent["message"].as_str().unwrap().contains("may not be used again"));
    let foreign = stripe.post(INTENTS, &paying(method, &[])).await.error(400);
    assert_eq!(foreign["param"], "payment_method");
    let early = [("amount", "2000"), ("currency", "usd"), ("payment_method", method)];
    assert_eq!(
        stripe.post(INTENTS, &early).await.error(400)["param"],
        "payment_method",
        "and not only when it is paid"
    );
}

#[tokio::test]
async fn captured_later_in_part() {
    let stripe = Client::new().await;
    let intent = stripe.post(INTENTS, &paying("pm_card_visa", &[("capture_method", "manual")])).await.ok();
    assert_eq!((&intent["status"], &intent["amount_capturable"]), (&json!("requires_capture"), &json!(2000)));
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    stripe.post(&format!("{path}/capture"), &[("amount_to_capture", "2001")]).await.error(400);
    let refund = stripe.post("/v1/refunds", &[("payment_intent", intent["id"].as_str().unwrap())]).await.error(400);
    assert_eq!(refund["code"], "charge_not_refundable");
    let form = [("amount_to_capture", "1500"), ("expand[]", "latest_charge.balance_transaction")];
    let captured = stripe.post(&format!("{path}/capture"), &form).await.ok();
    assert_eq!((&captured["status"], &captured["amount_received"]), (&json!("succeeded"), &json!(1500)));
    assert_eq!(captured["latest_charge"]["balance_transaction"]["amount"], 1500);
    let again = stripe.post(&format!("{path}/capture"), &[]).await.error(400);
    assert_eq!(again["code"], "payment_intent_unexpected_state");
    let expected = [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ];
    assert_eq!(events(&stripe).await, expected);
}

#[tokio::test]
async fn cancelled_by_hand_and_by_time() {
    let stripe = Client::new().await;
    let open = stripe.post(INTENTS, &[("amount", "2000"), ("currency", "usd")]).await.ok();
    let path = format!("{INTENTS}/{}", open["id"].as_str().unwrap());
    let gone = stripe.post(&format!("{path}/cancel"), &[("cancellation_reason", "abandoned")]).await.ok();
    assert_eq!((&gone["status"], &gone["cancellation_reason"]), (&json!("canceled"), &json!("abandoned")));
    assert_eq!(stripe.post(&format!("{path}/cancel"), &[]).await.error(400)["code"], "payment_intent_unexpected_state");
    let paid = stripe.post(INTENTS, &paying("pm_card_visa", &[])).await.ok();
    stripe.post(&format!("{INTENTS}/{}/cancel", paid["id"].as_str().unwrap()), &[]).await.error(400);

    let held = stripe.post(INTENTS, &paying("pm_card_visa", &[("capture_method", "manual")])).await.ok();
    let week = held["created"].as_i64().unwrap() + 7 * 24 * 3600;
    stripe.control("/_sandbox/clock", json!({"now": week + 60})).await;
    let path = format!("{INTENTS}/{}?expand[]=latest_charge", held["id"].as_str().unwrap());
    let expired = stripe.get(&path).await.ok();
    assert_eq!((&expired["status"], &expired["cancellation_reason"]), (&json!("canceled"), &json!("expired")));
    assert!((week..week + 2).contains(&expired["canceled_at"].as_i64().unwrap()), "at its own time, not at the end");
    assert_eq!(expired["latest_charge"]["refunded"], true);
    let balance = stripe.get("/v1/balance").await.ok();
    assert_eq!((&balance["pending"][0]["amount"], &balance["available"][0]["amount"]), (&json!(0), &json!(1912)));
}

#[tokio::test]
async fn changed_before_it_is_paid() {
    let stripe = Client::new().await;
    let open = stripe.post(INTENTS, &[("amount", "2000"), ("currency", "usd")]).await.ok();
    let path = format!("{INTENTS}/{}", open["id"].as_str().unwrap());
    let changed = stripe.post(&path, &[("amount", "3000"), ("payment_method", "pm_card_visa")]).await.ok();
    assert_eq!((&changed["amount"], &changed["status"]), (&json!(3000), &json!("requires_confirmation")));
    stripe.post(&path, &[("amount", "3")]).await.error(400);
    let paid = stripe.post(&format!("{path}/confirm"), &[("return_url", "https://shop.example")]).await.ok();
    assert_eq!(paid["amount_received"], 3000);
    assert_eq!(stripe.post(&path, &[("amount", "4000")]).await.error(400)["code"], "payment_intent_unexpected_state");
    assert_eq!(stripe.post(&path, &[("metadata[order]", "8")]).await.ok()["metadata"]["order"], "8");
}

#[tokio::test]
async fn manual_confirmation_comes_back_to_the_server() {
    let stripe = Client::new().await;
    let form = paying("pm_card_threeDSecure2Required", &[("confirmation_method", "manual")]);
    let intent = stripe.post(INTENTS, &form).await.ok();
    answer_page(&stripe, &intent, "authorise", "false").await;
    let path = format!("{INTENTS}/{}", intent["id"].as_str().unwrap());
    assert_eq!(stripe.get(&path).await.ok()["status"], "requires_confirmation");
    let paid = stripe.post(&format!("{path}/confirm"), &[("return_url", "https://shop.example")]).await.ok();
    assert_eq!(paid["status"], "succeeded");
}

#[tokio::test]
async fn the_next_payment_is_declined_on_demand() {
    let stripe = Client::new().await;
    let fault = json!({"kind": "decline_next", "code": "card_declined", "decline_code": "do_not_honor"});
    stripe.control("/_sandbox/faults", fault).await;
    let error = stripe.post(INTENTS, &paying("pm_card_visa", &[])).await.error(402);
    assert_eq!(error["decline_code"], "do_not_honor");
    stripe.post(INTENTS, &paying("pm_card_visa", &[])).await.ok();
}

#[tokio::test]
async fn a_declined_payment_keeps_its_answer_and_a_race_pays_once() {
    let stripe = Client::new().await;
    let declined = paying("pm_card_chargeDeclined", &[]);
    let first = stripe.post_keyed(INTENTS, &declined, "declined").await.unwrap();
    let again = stripe.post_keyed(INTENTS, &declined, "declined").await.unwrap();
    assert_eq!((first.status, again.status, &again.text), (402, 402, &first.text));

    let endpoint = Endpoint::new(&[]).await;
    let wanted = [("url", endpoint.url.as_str()), ("enabled_events[]", "payment_intent.succeeded")];
    stripe.post("/v1/webhook_endpoints", &wanted).await.ok();
    let form = paying("pm_card_visa", &[]);
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let request = stripe.form(INTENTS, &form).header("Idempotency-Key", "race");
        racers.spawn(Client::send(request));
    }
    let mut texts = std::collections::BTreeSet::new();
    while let Some(answer) = racers.join_next().await {
        let answer = answer.unwrap().unwrap();
        match answer.status {
            200 => drop(texts.insert(answer.text)),
            status => assert_eq!((status, &answer.body["error"]["code"]), (409, &json!("idempotency_key_in_use"))),
        }
    }
    assert_eq!(texts.len(), 1);
    let all = stripe.get(INTENTS).await.ok();
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "the declined one, and the one that all raced for");
    endpoint.wait_for(1).await;
}

#[tokio::test]
async fn a_test_clock_lets_go_of_what_was_not_captured() {
    let stripe = Client::new().await;
    let clock = stripe.post("/v1/test_helpers/test_clocks", &[("frozen_time", "1900000000")]).await.ok();
    let clock = clock["id"].as_str().unwrap();
    let customer = stripe.post("/v1/customers", &[("test_clock", clock)]).await.ok();
    let more = [("customer", customer["id"].as_str().unwrap()), ("capture_method", "manual")];
    let held = stripe.post(INTENTS, &paying("pm_card_visa", &more)).await.ok();
    assert_eq!(held["created"], 1_900_000_000);
    let path = format!("/v1/test_helpers/test_clocks/{clock}");
    stripe.post(&format!("{path}/advance"), &[("frozen_time", "1900700000")]).await.ok();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while stripe.get(&path).await.ok()["status"] != "ready" {
        assert!(std::time::Instant::now() < end, "the clock does not arrive");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let expired = stripe.get(&format!("{INTENTS}/{}", held["id"].as_str().unwrap())).await.ok();
    assert_eq!((&expired["status"], &expired["canceled_at"]), (&json!("canceled"), &json!(1_900_604_800)));
    let event = stripe.get("/v1/events?type=payment_intent.canceled").await.ok()["data"][0].clone();
    assert_eq!((&event["created"], &event["request"]["id"]), (&json!(1_900_604_800), &json!(null)));
}
