//! Idempotency, webhooks, faults, time and the journal: what holds for every object.

use std::time::Duration;

use sandbox::{Forward, OpenError, Sandbox, Settings};
use serde_json::json;

use crate::client::{Client, Endpoint, quick};

const CUSTOMERS: &str = "/v1/customers";

#[tokio::test]
async fn a_key_gives_the_first_answer_again() {
    let stripe = Client::new().await;
    let first = stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key-1").await.unwrap();
    let again = stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key-1").await.unwrap();
    assert_eq!(again.text, first.text);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.header("idempotent-replayed"), None);
    let other = stripe.post_keyed(CUSTOMERS, &[("name", "Grace")], "key-1").await.unwrap().error(400);
    assert_eq!(other["type"], "idempotency_error");
    let elsewhere = stripe.post_keyed("/v1/webhook_endpoints", &[("name", "Ada")], "key-1").await.unwrap();
    assert_eq!(elsewhere.error(400)["type"], "idempotency_error");
    // A refused parameter does not use the key up.
    stripe.post_keyed(CUSTOMERS, &[("nmae", "Ada")], "key-2").await.unwrap().error(400);
    stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key-2").await.unwrap().ok();
}

#[tokio::test]
async fn a_key_in_use_is_a_conflict() {
    let stripe = Client::new().await;
    stripe.control("/_sandbox/faults", json!({"kind": "slow", "seconds": 1})).await;
    let (slow, at_once) = tokio::join!(stripe.post_keyed(CUSTOMERS, &[], "key"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stripe.post_keyed(CUSTOMERS, &[], "key").await
    });
    let conflict = at_once.unwrap().error(409);
    assert_eq!(conflict["code"], "idempotency_key_in_use");
    let first = slow.unwrap();
    assert_eq!(stripe.post_keyed(CUSTOMERS, &[], "key").await.unwrap().text, first.text);
}

#[tokio::test]
async fn webhooks_are_filtered_signed_and_tried_again() {
    let stripe = Client::new().await;
    let endpoint = Endpoint::new(&[500, 302]).await;
    let form =
        [("url", endpoint.url.as_str()), ("enabled_events[]", "customer.created"), ("api_version", "2024-06-20")];
    let made = stripe.post("/v1/webhook_endpoints", &form).await.ok();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());
    assert_eq!(stripe.get(&path).await.ok().get("secret"), None);

    let customer = stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key").await.unwrap();
    let customer_path = format!("{CUSTOMERS}/{}", customer.body["id"].as_str().unwrap());
    stripe.delete(&customer_path).await.ok();
    let hooks = endpoint.wait_for(3).await;
    let event = hooks[2].event();
    assert_eq!((event["type"].as_str(), event["api_version"].as_str()), (Some("customer.created"), Some("2024-06-20")));
    assert_eq!(event["request"]["idempotency_key"], "key");
    assert_eq!(event["request"]["id"], customer.header("request-id").unwrap());
    let (time, digest) = hooks[2].signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(digest, hmac(secret, &format!("{time}.{}", hooks[2].body)));

    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(endpoint.types().len(), 3, "delivered, and not deleted's");
    let event = stripe.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await.ok();
    assert_eq!(event["pending_webhooks"], 0);
    assert_eq!(event["api_version"], sandbox::API_VERSION);
    stripe.post(&format!("/v1/events/{}/retry", event["id"].as_str().unwrap()), &[]).await.ok();
    endpoint.wait_for(4).await;
}

fn hmac(secret: &str, text: &str) -> String {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_effect_whose_answer_is_lost_is_found_by_its_key() {
    let stripe = Client::new().await;
    stripe.control("/_sandbox/faults", json!({"kind": "timeout_after", "method": "POST", "path": "/v1/cust"})).await;
    assert!(stripe.post_keyed(CUSTOMERS, &[], "key").await.is_err(), "the connection is closed");
    let again = stripe.post_keyed(CUSTOMERS, &[], "key").await.unwrap();
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let list = stripe.get(CUSTOMERS).await.ok();
    assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]), (1, &again.body));
    let requests = stripe.get("/_sandbox/requests").await.ok();
    assert_eq!((&requests["data"][1]["replayed"], &requests["data"][1]["status"]), (&json!(true), &json!(200)));
}

#[tokio::test]
async fn errors_before_and_after_the_effect() {
    let stripe = Client::new().await;
    let count = async || stripe.get(CUSTOMERS).await.ok()["data"].as_array().unwrap().len();
    stripe.control("/_sandbox/faults", json!({"kind": "error_before", "times": 2})).await;
    stripe.post_keyed(CUSTOMERS, &[], "before").await.unwrap().error(500);
    stripe.post_keyed(CUSTOMERS, &[], "before").await.unwrap().error(500);
    assert_eq!(count().await, 0);
    stripe.post_keyed(CUSTOMERS, &[], "before").await.unwrap().ok();
    stripe.control("/_sandbox/faults", json!({"kind": "error_after"})).await;
    let first = stripe.post_keyed(CUSTOMERS, &[], "after").await.unwrap();
    assert_eq!((first.status, first.header("stripe-should-retry")), (500, Some("true")));
    assert_eq!(count().await, 2, "the effect stands");
    let again = stripe.post_keyed(CUSTOMERS, &[], "after").await.unwrap();
    assert_eq!((again.status, again.header("idempotent-replayed")), (500, Some("true")), "the key keeps the 500");
    for (kind, code) in [("rate_limit", "rate_limit"), ("lock_timeout", "lock_timeout")] {
        stripe.control("/_sandbox/faults", json!({ "kind": kind })).await;
        assert_eq!(stripe.get(CUSTOMERS).await.error(429)["code"], code);
    }
    stripe.control("/_sandbox/faults", json!({"kind": "rate_limit", "times": 9})).await;
    stripe.delete("/_sandbox/faults").await.ok();
    stripe.get(CUSTOMERS).await.ok();
}

#[tokio::test]
async fn webhooks_get_lost_come_twice_late_and_in_reverse() {
    let stripe = Client::new().await;
    let endpoint = Endpoint::new(&[]).await;
    stripe.post("/v1/webhook_endpoints", &[("url", &endpoint.url), ("enabled_events[]", "*")]).await.ok();
    let names = |hooks: Vec<crate::client::Hook>| -> Vec<String> {
        hooks.iter().map(|hook| hook.event()["data"]["object"]["name"].as_str().unwrap().to_owned()).collect()
    };
    for fault in [
        json!({"kind": "lose_webhook", "type": "customer.*"}),
        json!({"kind": "repeat_webhook"}),
        json!({"kind": "delay_webhook", "seconds": 1}),
    ] {
        stripe.control("/_sandbox/faults", fault).await;
    }
    for name in ["lost", "twice", "late", "plain"] {
        stripe.post(CUSTOMERS, &[("name", name)]).await.ok();
    }
    assert_eq!(names(endpoint.wait_for(4).await), ["twice", "twice", "plain", "late"]);
    let lost = stripe.get("/v1/events?type=customer.created&limit=4").await.ok()["data"][3].clone();
    assert_eq!((&lost["data"]["object"]["name"], &lost["pending_webhooks"]), (&json!("lost"), &json!(0)));

    stripe.control("/_sandbox/faults", json!({"kind": "reorder_webhooks", "times": 3})).await;
    for name in ["one", "two", "three", "four"] {
        stripe.post(CUSTOMERS, &[("name", name)]).await.ok();
    }
    assert_eq!(names(endpoint.wait_for(8).await)[4..], ["three", "two", "one", "four"]);

    stripe.control("/_sandbox/faults", json!({"kind": "reorder_webhooks", "times": 9, "seconds": 1})).await;
    for name in ["five", "six"] {
        stripe.post(CUSTOMERS, &[("name", name)]).await.ok();
    }
    assert_eq!(names(endpoint.wait_for(10).await)[8..], ["six", "five"], "when no more come, after a second");
    stripe.post(CUSTOMERS, &[("name", "seven")]).await.ok();
    endpoint.wait_for(11).await;
}

#[tokio::test]
async fn a_journal_brings_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { file: Some(folder.path().join("sandbox.jsonl")), seed: Some(7), ..quick() };
    let stripe = Client::with(settings.clone()).await;
    let first = stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key").await.unwrap();
    let gone = stripe.post(CUSTOMERS, &[]).await.ok();
    stripe.delete(&format!("{CUSTOMERS}/{}", gone["id"].as_str().unwrap())).await.ok();
    let closed = Endpoint::new(&[]).await;
    let endpoint = stripe.post("/v1/webhook_endpoints", &[("url", &closed.url), ("enabled_events[]", "*")]).await.ok();
    let events = stripe.get("/v1/events").await.ok();
    stripe.control("/_sandbox/clock", json!({"now": 4_000_000_000_i64})).await;
    stripe.stop().await;

    let stripe = Client::with(settings).await;
    assert_eq!(stripe.get("/v1/events").await.ok(), events);
    assert_eq!(stripe.get("/_sandbox/clock").await.ok()["now"], 4_000_000_000_i64);
    let again = stripe.post_keyed(CUSTOMERS, &[("name", "Ada")], "key").await.unwrap();
    assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text));
    assert_eq!(stripe.get(CUSTOMERS).await.ok()["data"].as_array().unwrap().len(), 1);
    let new = stripe.post(CUSTOMERS, &[]).await.ok();
    assert_eq!(new["created"], 4_000_000_000_i64);
    assert_ne!(new["id"], gone["id"], "a seed goes on where it was");
    let hook = closed.wait_for(1).await.remove(0);
    let (time, digest) = hook.signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(digest, hmac(endpoint["secret"].as_str().unwrap(), &format!("{time}.{}", hook.body)));
}

#[tokio::test]
async fn a_payment_under_way_and_a_webhook_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { file: Some(folder.path().join("sandbox.jsonl")), ..quick() };
    let stripe = Client::with(settings.clone()).await;
    let customer = stripe.post(CUSTOMERS, &[]).await.ok();
    let setup = [
        ("customer", customer["id"].as_str().unwrap()),
        ("payment_method", "pm_card_authenticationRequiredOnSetup"),
        ("setup_future_usage", "off_session"),
    ];
    let form =
        [&setup[..], &[("amount", "2000"), ("currency", "usd"), ("confirm", "true"), ("use_stripe_sdk", "true")]];
    let intent = stripe.post("/v1/payment_intents", &form.concat()).await.ok();
    let endpoint = Endpoint::new(&[503; 2]).await;
    let wanted = [("url", endpoint.url.as_str()), ("enabled_events[]", "customer.updated")];
    stripe.post("/v1/webhook_endpoints", &wanted).await.ok();
    stripe.control("/_sandbox/faults", json!({"kind": "delay_webhook", "seconds": 1})).await;
    stripe.post(&format!("{CUSTOMERS}/{}", customer["id"].as_str().unwrap()), &[("name", "Ada")]).await.ok();
    stripe.stop().await;
    assert_eq!(endpoint.types().len(), 0);

    let stripe = Client::with(settings).await;
    let secret = intent["client_secret"].as_str().unwrap();
    let path = format!("/pages/example/3ds/{}", intent["id"].as_str().unwrap());
    stripe.post(&path, &[("client_secret", secret), ("outcome", "authorise"), ("framed", "true")]).await;
    let paid = stripe.get(&format!("/v1/payment_intents/{}", intent["id"].as_str().unwrap())).await.ok();
    assert_eq!(paid["status"], "succeeded");
    let off_session = [
        ("amount", "2000"),
        ("currency", "usd"),
        ("confirm", "true"),
        ("use_stripe_sdk", "true"),
        ("off_session", "true"),
        ("customer", customer["id"].as_str().unwrap()),
        ("payment_method", paid["payment_method"].as_str().unwrap()),
    ];
    assert_eq!(
        stripe.post("/v1/payment_intents", &off_session).await.ok()["status"],
        "succeeded",
        "it is still set up"
    );
    endpoint.wait_for(3).await;
    let ids: std::collections::BTreeSet<String> =
        endpoint.hooks().iter().map(|hook| hook.event()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "one event, tried until it was taken");
}

#[test]
fn a_journal_is_read_with_care() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sandbox.jsonl");
    let settings = Settings { file: Some(path.clone()), ..quick() };
    let line = r#"{"document":{"id":"cus_1","object":"customer"},"id":"cus_1","kind":"customer","world":"example"}"#;
    let torn = [line.as_bytes(), b"\n{\"world\":\"caf\xc3"].concat();
    std::fs::write(&path, torn).unwrap();
    let open = Sandbox::open(settings.clone()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{line}\n"), "half a last line was never answered");
    let second = Sandbox::open(settings.clone()).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    drop(open);
    std::fs::write(&path, format!("{line}\nsomething else\n{line}\n")).unwrap();
    let foreign = Sandbox::open(settings).unwrap_err();
    assert!(foreign.to_string().contains("sandbox.jsonl:2:"), "{foreign}");
}

#[tokio::test]
async fn pending_webhooks_count_endpoints_and_not_tries() {
    let stripe = Client::new().await;
    let (good, bad) = (Endpoint::new(&[]).await, Endpoint::new(&[500; 50]).await);
    for endpoint in [&good, &bad] {
        stripe.post("/v1/webhook_endpoints", &[("url", &endpoint.url), ("enabled_events[]", "*")]).await.ok();
    }
    stripe.control("/_sandbox/faults", json!({"kind": "repeat_webhook"})).await;
    stripe.post(CUSTOMERS, &[]).await.ok();
    good.wait_for(2).await;
    bad.wait_for(6).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(bad.types().len(), 6, "five tries again, then it is given up");
    let undelivered = stripe.get("/v1/events?delivery_success=false").await.ok();
    assert_eq!(undelivered["data"][0]["pending_webhooks"], 1);
}

#[tokio::test]
async fn settings_bring_faults_and_forwarding() {
    let endpoint = Endpoint::new(&[]).await;
    let forward = |world: Option<&str>| Forward {
        world: world.map(str::to_owned),
        url: endpoint.url.clone(),
        secret: "whsec_forward".to_owned(),
    };
    let settings = Settings {
        forward_to: vec![forward(None), forward(Some("other"))],
        faults: vec!["error_before:method=POST".parse().unwrap()],
        ..quick()
    };
    let stripe = Client::with(settings).await;
    stripe.post(CUSTOMERS, &[]).await.error(500);
    stripe.post(CUSTOMERS, &[]).await.ok();
    let hook = endpoint.wait_for(1).await.remove(0);
    let (time, digest) = hook.signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(digest, hmac("whsec_forward", &format!("{time}.{}", hook.body)));
    let other = stripe.as_key("sk_test_other");
    other.post(CUSTOMERS, &[]).await.error(500);
    other.post(CUSTOMERS, &[]).await.ok();
    endpoint.wait_for(3).await;
}

#[tokio::test]
async fn what_is_not_a_form_is_refused_and_nothing_breaks() {
    let stripe = Client::new().await;
    let deep = format!("a{}=1", "[b]".repeat(100_000));
    for body in [r#"{"email": "ada@example.com"}"#, &deep, "%", "=&=&[]=&a[=1&]=2"] {
        let request = stripe.form(CUSTOMERS, &[]).body(body.to_owned());
        Client::send(request).await.unwrap().error(400);
    }
    stripe.post(CUSTOMERS, &[]).await.ok();
}

#[tokio::test]
async fn lists_expand_what_they_hold() {
    let stripe = Client::new().await;
    let form = [
        ("amount", "2000"),
        ("currency", "usd"),
        ("confirm", "true"),
        ("use_stripe_sdk", "true"),
        ("payment_method", "pm_card_visa"),
    ];
    stripe.post("/v1/payment_intents", &form).await.ok();
    stripe.post("/v1/payment_intents", &form[..2]).await.ok();
    let path = "/v1/payment_intents?expand[]=data.latest_charge.balance_transaction&expand[]=data.payment_method";
    let list = stripe.get(path).await.ok();
    assert_eq!(list["data"][0]["latest_charge"], json!(null), "nothing there to expand");
    assert_eq!(list["data"][1]["latest_charge"]["balance_transaction"]["net"], 1912);
    assert_eq!(list["data"][1]["payment_method"]["card"]["last4"], "4242");
    for (path, word) in
        [("data.status", "cannot be expanded"), ("data.invoice", "doesn't exist"), ("a.b.c.d.e", "4 levels")]
    {
        let error = stripe.get(&format!("/v1/payment_intents?expand[]={path}")).await.error(400);
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    let before = stripe.get("/v1/payment_intents").await.ok();
    let wrong = [&form[..2], &[("expand[]", "invoice")]].concat();
    stripe.post("/v1/payment_intents", &wrong).await.error(400);
    assert_eq!(stripe.get("/v1/payment_intents").await.ok(), before, "a refusal leaves nothing");
}

#[tokio::test]
async fn a_seed_makes_ids_repeatable() {
    let settings = Settings { seed: Some(42), ..quick() };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let stripe = Client::with(settings.clone()).await;
        ids.push(stripe.post(CUSTOMERS, &[]).await.ok()["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn who_hangs_up_finds_the_effect_later() {
    let stripe = Client::new().await;
    stripe.control("/_sandbox/faults", json!({"kind": "slow", "seconds": 1})).await;
    let impatient = stripe.form(CUSTOMERS, &[]).header("Idempotency-Key", "key").timeout(Duration::from_millis(200));
    assert!(Client::send(impatient).await.unwrap_err().is_timeout());
    assert_eq!(stripe.post_keyed(CUSTOMERS, &[], "key").await.unwrap().status, 409, "the first is still under way");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let again = stripe.post_keyed(CUSTOMERS, &[], "key").await.unwrap();
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(stripe.get(CUSTOMERS).await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_sandbox_that_stops_answers_what_is_under_way() {
    let stripe = Client::new().await;
    stripe.control("/_sandbox/faults", json!({"kind": "slow", "seconds": 1})).await;
    let under_way = tokio::spawn(Client::send(stripe.form(CUSTOMERS, &[("name", "Ada")])));
    tokio::time::sleep(Duration::from_millis(300)).await;
    stripe.stop().await;
    assert_eq!(under_way.await.unwrap().unwrap().ok()["name"], "Ada");
}

#[tokio::test]
async fn a_silent_endpoint_is_tried_again_and_holds_nobody_else_up() {
    let stripe = Client::with(Settings { webhook_timeout: Duration::from_millis(150), ..quick() }).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let good = Endpoint::new(&[]).await;
    for url in [&url, &good.url] {
        stripe.post("/v1/webhook_endpoints", &[("url", url), ("enabled_events[]", "*")]).await.ok();
    }
    for _ in 0..3 {
        stripe.post(CUSTOMERS, &[]).await.ok();
    }
    let begun = std::time::Instant::now();
    good.wait_for(3).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(silent.accept().await.unwrap());
    }
}

#[tokio::test]
async fn an_old_endpoint_gets_the_old_fields() {
    let stripe = Client::new().await;
    let (old, new) = (Endpoint::new(&[]).await, Endpoint::new(&[]).await);
    for (endpoint, version) in [(&old, "2024-06-20"), (&new, "2025-09-30.clover")] {
        let form = [
            ("url", endpoint.url.as_str()),
            ("enabled_events[]", "payment_intent.succeeded"),
            ("api_version", version),
        ];
        stripe.post("/v1/webhook_endpoints", &form).await.ok();
    }
    let wrong = [("url", "http://127.0.0.1:1"), ("enabled_events[]", "*"), ("api_version", "latest")];
    assert_eq!(stripe.post("/v1/webhook_endpoints", &wrong).await.error(400)["param"], "api_version");
    let form = [
        ("amount", "2000"),
        ("currency", "usd"),
        ("confirm", "true"),
        ("use_stripe_sdk", "true"),
        ("payment_method", "pm_card_visa"),
    ];
    stripe.post("/v1/payment_intents", &form).await.ok();
    let (old, new) = (old.wait_for(1).await[0].event(), new.wait_for(1).await[0].event());
    assert_eq!((&old["api_version"], old["data"]["object"].get("invoice")), (&json!("2024-06-20"), Some(&json!(null))));
    assert_eq!((&new["api_version"], new["data"]["object"].get("invoice")), (&json!("2025-09-30.clover"), None));
    assert_eq!(old["id"], new["id"]);
}

#[tokio::test]
async fn versions_are_echoed_and_checked() {
    let stripe = Client::new().await;
    let with = |version: &str| Client::send(stripe.form(CUSTOMERS, &[]).header("Stripe-Version", version));
    assert_eq!(with("2025-03-31.basil").await.unwrap().header("stripe-version"), Some("2025-03-31.basil"));
    with("2025-13-31.basil").await.unwrap().error(400);
}

#[tokio::test]
async fn a_frozen_world_moves_only_forward_and_can_be_let_go() {
    let stripe = Client::new().await;
    stripe.control("/_sandbox/clock", json!({"now": 1_900_000_000})).await;
    assert_eq!(stripe.post(CUSTOMERS, &[]).await.ok()["created"], 1_900_000_000);
    let request = stripe.form("/_sandbox/clock", &[]).body(json!({"now": 1_800_000_000}).to_string());
    Client::send(request).await.unwrap().error(400);
    let clock = stripe.control("/_sandbox/clock", json!({"now": null})).await;
    assert_eq!((&clock["frozen"], &clock["now"]), (&json!(false), &clock["wall"]));
    assert_eq!(stripe.as_key("sk_test_other").get("/_sandbox/clock").await.ok()["frozen"], false);
}
