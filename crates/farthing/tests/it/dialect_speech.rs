//! The `speech` dialect, in the order of the product's own document: every request as it is written there (the token aside), with
//! the answer that it promises; then what is refused and how, and what a provider that declines or is down comes to.

use std::collections::BTreeSet;
use std::time::Duration;

use farthing::auth::Scope;
use farthing::clock::Clock;
use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::databases::{self, Database};
use crate::harness::{Answer, JWT_SECRET, TestApp, TestRequest, list, text};
use crate::shop::{TestSandbox, WEBHOOK_SECRET, signed};

/// The product's tenant file.
const TENANT: &str = include_str!("../../../../examples/speech.toml");

/// The users of the tests.
const JANE: &str = "jane@example.com";
const JOHN: &str = "john@example.com";

/// What every path begins with.
const PREFIX: &str = "/payments";

/// Runs a test of the product on both databases, beside a sandbox that lives in its time.
async fn on_both(test: impl AsyncFn(&TestApp, &TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = open(database, TENANT).await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// The product on SQLite alone, where the store does not matter.
async fn on_one() -> (TestApp, TestSandbox) {
    open(Database::sqlite().await, TENANT).await
}

async fn open(database: Database, tenant: &'static str) -> (TestApp, TestSandbox) {
    let (app, sandbox) = match tenant {
        TENANT => TestApp::of_product(database, "speech").await,
        tenant => TestApp::with_sandbox(database, tenant).await,
    };
    let now = app.clock.now().as_second().to_string();
    assert_eq!(sandbox.post("/_sandbox/clock", &[("now", &now)]).await.0, 200);
    (app, sandbox)
}

/// A token of a user, good for an hour.
fn token(app: &TestApp, user: &str) -> String {
    signed_token(app, json!({"sub": user, "user_id": 7}), 3600, JWT_SECRET)
}

fn signed_token(app: &TestApp, mut claims: Value, seconds: i64, secret: &str) -> String {
    claims["exp"] = (app.clock.now().as_second() + seconds).into();
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

fn request(app: &TestApp, user: &str, method: &str, path: &str) -> TestRequest {
    app.request(method, &format!("{PREFIX}{path}")).bearer(&token(app, user))
}

async fn get(app: &TestApp, user: &str, path: &str) -> Answer {
    request(app, user, "GET", path).send().await
}

async fn post(app: &TestApp, user: &str, path: &str, body: Value) -> Answer {
    request(app, user, "POST", path).json(&body).send().await
}

async fn subscribe(app: &TestApp, user: &str, plan: &str, method: Option<&str>) -> Answer {
    let price = match plan {
        "pro_monthly" => "price_1234567890".to_owned(),
        plan => format!("price_{plan}"),
    };
    let mut body = json!({"price_id": price, "plan_name": plan});
    if let Some(method) = method {
        body["payment_method_id"] = method.into();
    }
    post(app, user, "/create-subscription", body).await
}

async fn record(app: &TestApp, user: &str, service: &str, amount: i64, unit: &str) -> Value {
    let body = json!({"service_type": service, "usage_amount": amount, "usage_unit": unit});
    post(app, user, "/record-usage", body).await.is(200)
}

async fn status(app: &TestApp, user: &str) -> Value {
    get(app, user, "/subscription-status").await.is(200)
}

/// Asks again until the answer is as wanted.
async fn until(app: &TestApp, user: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let answer = get(app, user, path).await.is(200);
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{}", get(app, user, path).await.text());
}

async fn until_status(app: &TestApp, user: &str, wanted: &str) -> Value {
    until(app, user, "/subscription-status", |status| status["status"] == wanted).await
}

async fn history(app: &TestApp, user: &str) -> Vec<Value> {
    list(&get(app, user, "/billing-history").await.is(200), "billing_history").to_vec()
}

/// An error of this product: one sentence, and nothing else. The sentence.
#[track_caller]
fn assert_detail(answer: &Answer, status: u16) -> String {
    let body = answer.is(status);
    assert_eq!(body.as_object().map(Map::len), Some(1), "{}: {body}", answer.what);
    let detail = text(&body, "detail");
    let leaks = ["pm_", "req_", "SELECT", "INSERT", "http://"].iter().any(|word| detail.contains(word));
    assert!(!detail.is_empty() && !leaks, "{}: {detail}", answer.what);
    detail.to_owned()
}

/// What is wrong with a request, each with its place. The places.
#[track_caller]
fn assert_invalid(answer: &Answer) -> Vec<String> {
    let body = answer.is(422);
    assert_eq!(body["detail"], "Validation error", "{}: {body}", answer.what);
    let errors = list(&body, "errors");
    assert!(errors.iter().all(|error| !text(error, "message").is_empty()), "{}: {body}", answer.what);
    errors.iter().map(|error| text(error, "field").to_owned()).collect()
}

/// A webhook as the provider sends it.
fn webhook(app: &TestApp, body: &str, secret: &str) -> TestRequest {
    let headers = signed(body, app.clock.wall().as_second(), secret);
    let signature = headers["stripe-signature"].to_str().expect("a header of ASCII").to_owned();
    let request = app.request("POST", &format!("{PREFIX}/stripe-webhook")).anonymous();
    request.header("stripe-signature", &signature).body("application/json", body.to_owned())
}

async fn event(sandbox: &TestSandbox, kind: &str) -> Value {
    let events = sandbox.events().await;
    events.into_iter().rfind(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind} was announced"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_as_it_is_written() {
    on_both(async |app, sandbox| {
        look_at_the_plans(app).await;
        subscribe_and_use(app).await;
        app.clock.advance(60);
        let told = pay_once(app, sandbox).await;
        // The webhook, which has come already, and comes once more; what came too early is tried again meanwhile.
        app.clock.advance(3600);
        let event = event(sandbox, "invoice.payment_succeeded").await.to_string();
        for _ in 0..2 {
            let taken = webhook(app, &event, WEBHOOK_SECRET).send().await.is(200);
            assert_eq!(taken, json!({"success": true, "processed": true}));
        }
        assert_eq!(history(app, JANE).await, told);
        // One customer there, whatever was asked.
        let customers = sandbox.all("customers").await;
        assert_eq!((customers.len(), &customers[0]["email"]), (1, &json!(JANE)));
        // Cancel.
        let cancelled = request(app, JANE, "POST", "/cancel-subscription").send().await.is(200);
        assert_eq!((&cancelled["success"], &cancelled["at_period_end"]), (&json!(true), &json!(true)), "{cancelled}");
        let ending = status(app, JANE).await;
        assert_eq!((&ending["status"], &ending["cancel_at_period_end"]), (&json!("active"), &json!(true)));
    })
    .await;
}

/// "Subscription plans", and their endpoint.
async fn look_at_the_plans(app: &TestApp) {
    let plans = get(app, JANE, "/subscription-plans").await.is(200);
    assert_eq!(
        plans,
        json!({"success": true, "plans": {
            "basic_monthly": {"name": "Basic Monthly", "type": "monthly", "features": {
                "voice_minutes": 100, "sms_messages": 500, "custom_scenarios": 3, "transcription_storage": "30_days"
            }},
            "pro_monthly": {"name": "Pro Monthly", "type": "monthly", "features": {
                "voice_minutes": 500, "sms_messages": 2000, "custom_scenarios": 10,
                "transcription_storage": "90_days", "advanced_analytics": true
            }},
            "enterprise_monthly": {"name": "Enterprise Monthly", "type": "monthly", "features": {
                "voice_minutes": "unlimited", "sms_messages": "unlimited", "custom_scenarios": "unlimited",
                "transcription_storage": "1_year", "advanced_analytics": true, "priority_support": true,
                "white_label": true
            }},
            "usage_based": {"name": "Pay As You Go", "type": "usage", "pricing": {
                "voice_per_minute": 0.05, "sms_per_message": 0.01, "transcription_per_minute": 0.02,
                "custom_scenario_setup": 5
            }}
        }})
    );
}

/// "API usage examples": a subscription, the use of services, and the status of the document to the number.
async fn subscribe_and_use(app: &TestApp) {
    // Create a subscription: with the price of the document, and a card that there is.
    let body = json!({
        "price_id": "price_1234567890", "plan_name": "pro_monthly", "payment_method_id": "pm_card_visa"
    });
    let created = post(app, JANE, "/create-subscription", body).await.is(200);
    assert!(text(&created, "subscription_id").starts_with("sub_"), "{created}");
    assert_eq!(
        (&created["success"], &created["client_secret"], &created["requires_action"]),
        (&json!(true), &Value::Null, &json!(false)),
        "{created}"
    );
    // Record usage: five minutes of a transcript, and what else happened until the status of the document.
    let sample =
        json!({"service_type": "transcription", "usage_amount": 5, "usage_unit": "minutes", "resource_id": 123});
    let recorded = post(app, JANE, "/record-usage", sample).await.is(200);
    assert!(recorded["usage_record_id"].as_u64().is_some_and(|id| id < 1 << 53), "{recorded}");
    assert_eq!(
        (&recorded["success"], &recorded["total_cost"], &recorded["message"]),
        (&json!(true), &json!(10), &json!("Recorded 5 minutes of transcription")),
    );
    record(app, JANE, "transcription", 40, "minutes").await;
    record(app, JANE, "voice_call", 23, "minutes").await;
    // Check the user's status, to the number.
    let told = status(app, JANE).await;
    assert_eq!(
        told,
        json!({
            "has_subscription": true,
            "plan_name": "pro_monthly",
            "plan_type": "monthly",
            "status": "active",
            "current_period_start": "2026-03-02T09:00:00Z",
            "current_period_end": "2026-04-02T09:00:00Z",
            "cancel_at_period_end": false,
            "features": {
                "voice_minutes": 500, "sms_messages": 2000, "custom_scenarios": 10,
                "transcription_storage": "90_days", "advanced_analytics": true
            },
            "current_usage": {
                "transcription": {"amount": 45, "cost": 90, "unit": "minutes"},
                "voice_call": {"amount": 23, "cost": 115, "unit": "minutes"}
            },
            "overage": {
                "voice_call": {"limit": 500, "used": 23, "over": 0},
                "sms": {"limit": 2000, "used": 0, "over": 0},
                "custom_scenario": {"limit": 10, "used": 0, "over": 0}
            }
        })
    );
    // The integration points: a call, a transcript, a message.
    record(app, JANE, "sms", 1, "messages").await;
    let summary = get(app, JANE, "/usage-summary").await.is(200);
    assert_eq!((&summary["billing_period"], &summary["currency"]), (&json!("2026-03"), &json!("usd")));
    assert_eq!(
        summary["usage_summary"],
        json!({
            "transcription": {"total_amount": 45, "total_cost": 90, "unit": "minutes", "records": 2},
            "voice_call": {"total_amount": 23, "total_cost": 115, "unit": "minutes", "records": 1},
            "sms": {"total_amount": 1, "total_cost": 1, "unit": "messages", "records": 1}
        })
    );
    assert_eq!(summary["total_cost"], 206);
}

/// One-time payments, and the history; what that tells.
async fn pay_once(app: &TestApp, sandbox: &TestSandbox) -> Vec<Value> {
    let intent = json!({"amount": 2500, "description": "Setup", "metadata": {"order": "4711", "user_id": "8"}});
    let intent = post(app, JANE, "/create-payment-intent", intent).await.is(200);
    let id = text(&intent, "payment_intent_id");
    assert!(text(&intent, "client_secret").starts_with(&format!("{id}_secret_")), "{intent}");
    let there = sandbox.get(&format!("/v1/payment_intents/{id}")).await;
    assert_eq!(
        (&there["amount"], &there["currency"], &there["metadata"]["user_id"], &there["metadata"]["order"]),
        (&json!(2500), &json!("usd"), &json!("7"), &json!("4711")),
        "{there}"
    );
    assert_eq!(sandbox.pay(text(&intent, "client_secret"), "pm_card_visa").await.0, 200);
    // Payment history.
    let told = until(app, JANE, "/billing-history", |told| told["total_records"] == 2).await;
    let told: Vec<Value> = list(&told, "billing_history").to_vec();
    let shown = |record: &Value| {
        ["amount", "currency", "status", "payment_type", "description"].map(|name| record[name].clone())
    };
    let one_time = [json!(2500), json!("usd"), json!("succeeded"), json!("one_time"), json!("Setup")];
    let fee = ["subscription", "Payment for pro_monthly"].map(Value::from);
    let [kind, description] = fee;
    assert_eq!(shown(&told[0]), one_time);
    assert_eq!(shown(&told[1]), [json!(9999), json!("usd"), json!("succeeded"), kind, description]);
    assert_eq!(told[0]["stripe_invoice_id"], Value::Null);
    assert!(text(&told[1], "stripe_invoice_id").starts_with("in_"), "{told:?}");
    assert_eq!(told[1]["created_at"], "2026-03-02T09:00:00Z");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_subscription_has_usage_all_the_same() {
    on_both(async |app, _| {
        let nothing = json!({
            "has_subscription": false, "plan_name": null, "plan_type": null, "status": "no_subscription",
            "current_period_start": null, "current_period_end": null, "cancel_at_period_end": false,
            "features": {}, "current_usage": {}, "overage": {}
        });
        assert_eq!(status(app, JANE).await, nothing);
        let summary = get(app, JANE, "/usage-summary").await.is(200);
        assert_eq!((&summary["usage_summary"], &summary["total_cost"]), (&json!({}), &json!(0)), "{summary}");
        assert_eq!(get(app, JANE, "/billing-history").await.is(200)["billing_history"], json!([]));
        assert_eq!(record(app, JANE, "custom_scenario", 2, "scenarios").await["total_cost"], 1000);
        assert_eq!(record(app, JANE, "api_call", 1000, "calls").await["total_cost"], 0);
        let mut used = nothing;
        used["current_usage"] = json!({
            "custom_scenario": {"amount": 2, "cost": 1000, "unit": "scenarios"},
            "api_call": {"amount": 1000, "cost": 0, "unit": "calls"}
        });
        assert_eq!(status(app, JANE).await, used);
        // Nobody else's.
        assert_eq!(status(app, JOHN).await["current_usage"], json!({}));
        // What it costs is owed, and the native API sees the same user.
        assert_eq!(app.dollars(JANE).await[3], "10");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_payment_is_made_in_the_browser() {
    on_both(async |app, sandbox| {
        let created = subscribe(app, JANE, "basic_monthly", None).await.is(200);
        assert_eq!((&created["success"], &created["requires_action"]), (&json!(true), &json!(true)), "{created}");
        // Until it is paid the plan is not in force; asking again, also at once, answers the same.
        let waiting = status(app, JANE).await;
        assert_eq!((&waiting["has_subscription"], &waiting["status"]), (&json!(true), &json!("incomplete")));
        assert_eq!((&waiting["features"], &waiting["overage"]), (&json!({}), &json!({})));
        assert_eq!(subscribe(app, JANE, "basic_monthly", None).await.is(200), created);
        let detail = assert_detail(&subscribe(app, JANE, "pro_monthly", None).await, 409);
        assert!(detail.starts_with("Failed to create subscription: "), "{detail}");
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
        assert_eq!(sandbox.pay(text(&created, "client_secret"), "pm_card_visa").await.0, 200);
        let paid = until_status(app, JANE, "active").await;
        assert_eq!(paid["features"]["voice_minutes"], 100, "{paid}");
        // A second one is refused while one lives.
        for plan in ["basic_monthly", "pro_monthly"] {
            assert_detail(&subscribe(app, JANE, plan, Some("pm_card_visa")).await, 409);
        }
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
        assert_eq!(history(app, JANE).await[0]["amount"], 4999);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_asks_is_answered_in_the_browser() {
    let (app, sandbox) = on_one().await;
    let created = subscribe(&app, JANE, "pro_monthly", Some("pm_card_authenticationRequired")).await.is(200);
    assert_eq!(created["requires_action"], true, "{created}");
    let (status, intent) = sandbox.pay(text(&created, "client_secret"), "pm_card_threeDSecure2Required").await;
    assert_eq!((status, &intent["status"]), (200, &json!("requires_action")), "{intent}");
    sandbox.answer_bank(&intent, "authorise").await;
    until_status(&app, JANE, "active").await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_declined_leaves_nothing_behind() {
    on_both(async |app, sandbox| {
        for card in ["pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds", "pm_card_chargeCustomerFail"]
        {
            let declined = subscribe(app, JANE, "pro_monthly", Some(card)).await;
            let detail = assert_detail(&declined, 402);
            assert!(detail.starts_with("Failed to create subscription: the card "), "{detail}");
            let after = status(app, JANE).await;
            assert_eq!(after["has_subscription"], false, "{card}: {after}");
        }
        // No such card; somebody's card.
        assert_detail(&subscribe(app, JANE, "pro_monthly", Some("pm_1234567890")).await, 400);
        let (_, other) = sandbox.post("/v1/customers", &[]).await;
        let path = "/v1/payment_methods/pm_card_visa/attach";
        let (_, card) = sandbox.post(path, &[("customer", text(&other, "id"))]).await;
        assert_detail(&subscribe(app, JANE, "pro_monthly", Some(text(&card, "id"))).await, 400);
        // What was tried and declined is in the history.
        let failed: Vec<Value> = history(app, JANE).await;
        assert_eq!((failed.len(), &failed[0]["status"]), (1, &json!("failed")), "{failed:?}");
        // Another card works.
        assert_eq!(subscribe(app, JANE, "pro_monthly", Some("pm_card_visa")).await.is(200)["requires_action"], false);
        let live = sandbox.all("subscriptions").await;
        assert_eq!(live.iter().filter(|one| one["status"] == "active").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_price_decides_the_plan() {
    let (app, sandbox) = on_one().await;
    // The sandbox has the prices, each with its plan as lookup key.
    let path = "/v1/prices?lookup_keys[]=enterprise_monthly";
    let mut found = sandbox.get(path).await;
    // They are made as soon as the server has begun.
    while list(&found, "data").is_empty() {
        tokio::time::sleep(Duration::from_millis(25)).await;
        found = sandbox.get(path).await;
    }
    assert_eq!(found["data"][0]["id"], "price_enterprise_monthly", "{found}");
    assert_eq!(found["data"][0]["unit_amount"], 29_999, "{found}");
    for (price, plan) in [
        ("price_basic_monthly", "enterprise_monthly"),
        ("price_of_nobody", "pro_monthly"),
        ("", "pro_monthly"),
        ("price_basic_monthly", "usage_based"),
        ("price_basic_monthly", "platinum"),
    ] {
        let body = json!({"price_id": price, "plan_name": plan, "payment_method_id": "pm_card_visa"});
        let detail = assert_detail(&post(&app, JANE, "/create-subscription", body).await, 400);
        assert!(detail.starts_with("Failed to create subscription: "), "{detail}");
    }
    assert_eq!(sandbox.all("subscriptions").await.len(), 0);
    assert_eq!(sandbox.all("customers").await.len(), 0);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_make_one_subscription() {
    on_both(async |app, sandbox| {
        let answers = join_all((0..8).map(|_| subscribe(app, JANE, "pro_monthly", None))).await;
        let made: BTreeSet<String> =
            answers.iter().map(|answer| text(&answer.is(200), "subscription_id").to_owned()).collect();
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
        assert_eq!(sandbox.all("customers").await.len(), 1);
        // With a card, one of them is done, and the rest are told so.
        let answers = join_all((0..6).map(|_| subscribe(app, JOHN, "pro_monthly", Some("pm_card_visa")))).await;
        assert!(answers.iter().any(|answer| answer.status == 200));
        assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)));
        let johns = sandbox.all("subscriptions").await.len();
        assert_eq!(johns, 2);
        assert_eq!(history(app, JOHN).await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pays_as_it_goes_needs_no_price() {
    on_both(async |app, _| {
        let body =
            json!({"price_id": "price_of_usage", "plan_name": "usage_based", "payment_method_id": "pm_card_visa"});
        let created = post(app, JANE, "/create-subscription", body).await.is(200);
        assert_eq!((&created["requires_action"], &created["client_secret"]), (&json!(false), &Value::Null));
        record(app, JANE, "voice_call", 100, "minutes").await;
        let before = status(app, JANE).await;
        assert_eq!(
            (&before["plan_type"], &before["status"], &before["features"], &before["overage"]),
            (&json!("usage"), &json!("active"), &json!({}), &json!({}))
        );
        // When the period ends, what was used is invoiced, and collected from the card.
        let to = json!({"to": "2026-04-02T09:00:01Z"});
        app.post("/v1/test_clock/advance", to).await.is(200);
        let paid =
            until(app, JANE, "/billing-history", |told| told["billing_history"][0]["status"] == "succeeded").await;
        let paid = &paid["billing_history"][0];
        assert_eq!((&paid["amount"], &paid["payment_type"]), (&json!(500), &json!("subscription")), "{paid}");
        assert_eq!(paid["description"], "Payment for usage_based", "{paid}");
        assert_eq!(app.dollars(JANE).await[3], "0");
        // A month of its own.
        assert_eq!(status(app, JANE).await["current_usage"], json!({}));
        let march = get(app, JANE, "/usage-summary?billing_period=2026-03").await.is(200);
        assert_eq!((&march["billing_period"], &march["total_cost"]), (&json!("2026-03"), &json!(500)), "{march}");
        let april = get(app, JANE, "/usage-summary").await.is(200);
        assert_eq!((&april["billing_period"], &april["total_cost"]), (&json!("2026-04"), &json!(0)), "{april}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_than_the_plan_includes_is_told() {
    on_both(async |app, _| {
        record(app, JANE, "sms", 100, "messages").await;
        subscribe(app, JANE, "basic_monthly", Some("pm_card_visa")).await.is(200);
        record(app, JANE, "voice_call", 100, "minutes").await;
        let told = status(app, JANE).await;
        assert_eq!(told["overage"]["voice_call"], json!({"limit": 100, "used": 100, "over": 0}));
        record(app, JANE, "voice_call", 30, "minutes").await;
        record(app, JANE, "sms", 450, "messages").await;
        record(app, JANE, "transcription", 1000, "minutes").await;
        let told = status(app, JANE).await;
        assert_eq!(
            told["overage"],
            json!({
                "voice_call": {"limit": 100, "used": 130, "over": 30},
                "sms": {"limit": 500, "used": 550, "over": 50},
                "custom_scenario": {"limit": 3, "used": 0, "over": 0}
            })
        );
        assert_eq!(told["current_usage"]["voice_call"], json!({"amount": 130, "cost": 650, "unit": "minutes"}));
        assert_eq!(get(app, JANE, "/usage-summary").await.is(200)["overage"], told["overage"]);
        // The plan pays for what it includes: 100 minutes and 450 messages. What was used before, above it, or is in no plan is
        // owed.
        assert_eq!(app.dollars(JANE).await[3], "22.5");
        // It is told as it comes to be so.
        let notices = app.get(&format!("/v1/customers/{JANE}/notices?limit=100")).await.is(200);
        let of_voice = list(&notices, "data").iter().filter(|notice| notice["limit"] == "voice-minutes");
        let percents: Vec<i64> = of_voice.filter_map(|notice| notice["percent"].as_i64()).collect();
        assert_eq!(percents, [100, 80, 50]);
        // What is unlimited is never over.
        subscribe(app, JOHN, "enterprise_monthly", Some("pm_card_visa")).await.is(200);
        record(app, JOHN, "voice_call", 100_000, "minutes").await;
        let told = status(app, JOHN).await;
        assert_eq!(told["overage"]["voice_call"], json!({"limit": null, "used": 100_000, "over": 0}));
        assert_eq!(told["current_usage"]["voice_call"]["cost"], 500_000);
        assert_eq!(app.dollars(JOHN).await[3], "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_of_its_own_takes_a_servers_key() {
    on_both(async |app, _| {
        let (writer, _) = app.new_key(Scope::Write).await;
        let (reader, _) = app.new_key(Scope::Read).await;
        let own = |amount: i64, price: Value| {
            let body = json!({
                "service_type": "voice_call", "usage_amount": amount, "usage_unit": "minutes", "cost_per_unit": price
            });
            request(app, JANE, "POST", "/record-usage").json(&body)
        };
        assert_detail(&own(1, json!(0.29)).send().await, 403);
        assert_detail(&own(1, json!(0)).header("x-api-key", &reader).send().await, 403);
        assert_eq!(own(1, json!(0.29)).header("x-api-key", "fk_test_unknown").send().await.status, 401);
        let mut exact = 0;
        // A price is exact, and the total rounded once.
        for (amount, price, cents, micros) in [
            (1, json!(0.29), 29, 290_000),
            (3, json!(0.005), 2, 15_000),
            (1000, json!(0.005), 500, 5_000_000),
            (7, json!("0.001"), 1, 7_000),
            (5, json!(0), 0, 0),
            (2, json!(19.99), 3998, 39_980_000),
        ] {
            let recorded = own(amount, price.clone()).header("x-api-key", &writer).send().await.is(200);
            assert_eq!(recorded["total_cost"], cents, "{amount} at {price}");
            exact += micros;
        }
        let summary = get(app, JANE, "/usage-summary").await.is(200);
        assert_eq!(summary["total_cost"], (exact + 5_000) / 10_000, "{summary}");
        for price in [json!(-1), json!("much"), json!(true), json!([1]), json!(1e30)] {
            let answer = own(1, price.clone()).header("x-api-key", &writer).send().await;
            assert!([400, 422].contains(&answer.status), "{price}: {}", answer.text());
        }
        // Without a price of its own, the key changes nothing.
        let body = json!({"service_type": "voice_call", "usage_amount": 1, "usage_unit": "minutes"});
        let plain = request(app, JANE, "POST", "/record-usage").header("x-api-key", &writer).json(&body);
        assert_eq!(plain.send().await.is(200)["total_cost"], 5);
        // The key alone is no user.
        let alone = app.request("POST", &format!("{PREFIX}/record-usage")).bearer(&writer).json(&body).send().await;
        assert_eq!(assert_detail(&alone, 401), "Not authenticated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_records_once_and_begins_one_payment() {
    on_both(async |app, sandbox| {
        let body = json!({"service_type": "sms", "usage_amount": 3, "usage_unit": "messages"});
        let keyed = || request(app, JANE, "POST", "/record-usage").json(&body).idempotency_key("call-1");
        let answers = join_all((0..8).map(|_| keyed().send())).await;
        let ids: BTreeSet<u64> =
            answers.iter().filter_map(|answer| answer.is(200)["usage_record_id"].as_u64()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(status(app, JANE).await["current_usage"]["sms"]["amount"], 3);
        // In the body as well, and for something else it is refused.
        let mut other = body.clone();
        (other["idempotency_key"], other["usage_amount"]) = (json!("call-1"), json!(4));
        assert_detail(&post(app, JANE, "/record-usage", other.clone()).await, 409);
        assert_eq!(post(app, JOHN, "/record-usage", other).await.is(200)["total_cost"], 4);

        let body = json!({"amount": 700, "currency": "EUR"});
        let keyed = || request(app, JANE, "POST", "/create-payment-intent").json(&body).idempotency_key("order-1");
        let answers = join_all((0..6).map(|_| keyed().send())).await;
        let ids: BTreeSet<String> =
            answers.iter().map(|answer| text(&answer.is(200), "payment_intent_id").to_owned()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let there = sandbox.all("payment_intents").await;
        assert_eq!((there.len(), &there[0]["currency"], &there[0]["amount"]), (1, &json!("eur"), &json!(700)));
        assert_eq!(there[0]["description"], "Speech Assistant Service");
        let other = json!({"amount": 701, "currency": "EUR", "idempotency_key": "order-1"});
        assert_detail(&post(app, JANE, "/create-payment-intent", other).await, 409);
        let long = "k".repeat(256);
        let long = request(app, JANE, "POST", "/record-usage").json(&json!({})).idempotency_key(&long).send().await;
        assert_invalid(&long);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_subscribes_once() {
    on_both(async |app, sandbox| {
        let body = |card: &str, plan: &str| {
            let price = if plan == "pro_monthly" { "price_1234567890" } else { "price_basic_monthly" };
            json!({"price_id": price, "plan_name": plan, "payment_method_id": card})
        };
        let keyed = |key: &str, card: &str, plan: &str| {
            request(app, JANE, "POST", "/create-subscription").json(&body(card, plan)).idempotency_key(key).send()
        };
        // A key that was used for something declined says so again; another one begins anew.
        for _ in 0..2 {
            assert_detail(&keyed("first", "pm_card_chargeCustomerFail", "pro_monthly").await, 402);
        }
        let answers = join_all((0..6).map(|_| keyed("second", "pm_card_visa", "pro_monthly"))).await;
        let made: BTreeSet<String> =
            answers.iter().map(|answer| text(&answer.is(200), "subscription_id").to_owned()).collect();
        assert_eq!(made.len(), 1, "{made:?}");
        let again = keyed("second", "pm_card_visa", "pro_monthly").await.is(200);
        assert_eq!((&again["requires_action"], &again["client_secret"]), (&json!(false), &Value::Null));
        assert_detail(&keyed("second", "pm_card_visa", "basic_monthly").await, 409);
        assert_detail(&keyed("third", "pm_card_visa", "pro_monthly").await, 409);
        let paid = sandbox.all("payment_intents").await;
        assert_eq!(paid.iter().filter(|intent| intent["status"] == "succeeded").count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_payment_can_be_made_again() {
    on_both(async |app, sandbox| {
        let intent = post(app, JANE, "/create-payment-intent", json!({"amount": 50})).await.is(200);
        // What nobody has tried yet is no part of the history.
        assert_eq!(history(app, JANE).await.len(), 0);
        let secret = text(&intent, "client_secret");
        assert_eq!(sandbox.pay(secret, "pm_card_chargeDeclined").await.0, 402);
        until(app, JANE, "/billing-history", |told| told["billing_history"][0]["status"] == "failed").await;
        assert_eq!(sandbox.pay(secret, "pm_card_visa").await.0, 200);
        let told =
            until(app, JANE, "/billing-history", |told| told["billing_history"][0]["status"] == "succeeded").await;
        assert_eq!(told["total_records"], 1, "{told}");
        // The money is told of where the tenant hears of it.
        let notices = app.get(&format!("/v1/customers/{JANE}/notices")).await.is(200);
        let kinds: Vec<&str> = list(&notices, "data").iter().map(|notice| text(notice, "kind")).collect();
        assert_eq!(kinds, ["purchase_paid", "purchase_payment_failed"]);
        // Less than the provider collects is refused before it is asked.
        let little = post(app, JANE, "/create-payment-intent", json!({"amount": 49})).await;
        let detail = assert_detail(&little, 400);
        assert!(detail.starts_with("Failed to create payment intent: "), "{detail}");
        // As many as were asked for, at least one and at most a hundred.
        for _ in 0..3 {
            let intent = post(app, JANE, "/create-payment-intent", json!({"amount": 60})).await.is(200);
            sandbox.pay(text(&intent, "client_secret"), "pm_card_visa").await;
        }
        until(app, JANE, "/billing-history?limit=100", |told| told["total_records"] == 4).await;
        for (limit, found) in [("2", 2), ("0", 1), ("-5", 1), ("1000", 4)] {
            let told = get(app, JANE, &format!("/billing-history?limit={limit}")).await.is(200);
            assert_eq!((list(&told, "billing_history").len(), &told["total_records"]), (found, &json!(found)));
        }
        assert_eq!(assert_invalid(&get(app, JANE, "/billing-history?limit=few").await), ["query -> limit"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_period_or_at_once() {
    on_both(async |app, sandbox| {
        let cancel = async |query: &str, body: &str| {
            let request = request(app, JANE, "POST", &format!("/cancel-subscription{query}"));
            request.body("application/json", body.to_owned()).send().await
        };
        assert_eq!(assert_detail(&cancel("", "").await, 404), "No active subscription found");
        subscribe(app, JANE, "pro_monthly", Some("pm_card_visa")).await.is(200);
        for _ in 0..2 {
            assert_eq!(cancel("", "").await.is(200)["at_period_end"], true);
        }
        let there = sandbox.all("subscriptions").await;
        assert_eq!((&there[0]["status"], &there[0]["cancel_at_period_end"]), (&json!("active"), &json!(true)));
        assert_eq!(assert_invalid(&cancel("?at_period_end=perhaps", "").await), ["query -> at_period_end"]);
        assert_eq!(assert_invalid(&cancel("", r#"{"at_period_end": "perhaps"}"#).await), ["at_period_end"]);
        assert_eq!(cancel("?at_period_end=false", "").await.is(200)["at_period_end"], false);
        let ended = status(app, JANE).await;
        assert_eq!(
            (&ended["has_subscription"], &ended["status"], &ended["plan_name"], &ended["features"]),
            (&json!(false), &json!("canceled"), &json!("pro_monthly"), &json!({}))
        );
        assert_eq!(sandbox.all("subscriptions").await.len(), 0, "none that has not ended");
        assert_eq!(assert_detail(&cancel("", "").await, 404), "No active subscription found");
        // One that waits for its first payment ends at once, and another may begin.
        let open = subscribe(app, JOHN, "pro_monthly", None).await.is(200);
        assert_eq!(open["requires_action"], true);
        let john = request(app, JOHN, "POST", "/cancel-subscription").json(&json!({"at_period_end": true}));
        assert_eq!(john.send().await.is(200)["at_period_end"], false);
        subscribe(app, JOHN, "basic_monthly", Some("pm_card_visa")).await.is(200);
        let again = subscribe(app, JANE, "basic_monthly", None).await.is(200);
        assert_eq!(status(app, JANE).await["plan_name"], "basic_monthly", "{again}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_tells_late_or_twice_changes_nothing() {
    on_both(async |app, sandbox| {
        subscribe(app, JANE, "pro_monthly", Some("pm_card_visa")).await.is(200);
        subscribe(app, JOHN, "pro_monthly", Some("pm_card_visa")).await.is(200);
        let at_once = request(app, JANE, "POST", "/cancel-subscription?at_period_end=false");
        at_once.send().await.is(200);
        // Everything once more, backwards: an older state takes the place of none, and nothing is paid twice.
        app.clock.advance(3600);
        let mut events = sandbox.events().await;
        events.reverse();
        for event in &events {
            let taken = webhook(app, &event.to_string(), WEBHOOK_SECRET).send().await.is(200);
            assert_eq!(taken, json!({"success": true, "processed": true}), "{}", event["type"]);
        }
        assert_eq!(status(app, JANE).await["status"], "canceled");
        assert_eq!(status(app, JOHN).await["status"], "active");
        assert_eq!((history(app, JANE).await.len(), history(app, JOHN).await.len()), (1, 1));
        // A payment of nothing to do with the subscription does not make it past due.
        let intent = post(app, JOHN, "/create-payment-intent", json!({"amount": 100})).await.is(200);
        sandbox.pay(text(&intent, "client_secret"), "pm_card_chargeDeclined").await;
        app.clock.advance(3600);
        let failed = event(sandbox, "payment_intent.payment_failed").await.to_string();
        webhook(app, &failed, WEBHOOK_SECRET).send().await.is(200);
        assert_eq!(status(app, JOHN).await["status"], "active");
        // What is not signed, or signed otherwise, is not believed; what is no event is none.
        let unsigned = app.request("POST", &format!("{PREFIX}/stripe-webhook")).anonymous();
        for forged in [
            unsigned.body("application/json", failed.clone()),
            webhook(app, &failed, "whsec_of_somebody"),
            webhook(app, &failed, WEBHOOK_SECRET).body("application/json", failed.replace("pi_", "pi-")),
        ] {
            assert_eq!(assert_detail(&forged.send().await, 400), "Invalid signature");
        }
        for nothing in ["", "no JSON", "{}", "[]"] {
            let answer = webhook(app, nothing, WEBHOOK_SECRET).send().await;
            assert_eq!(assert_detail(&answer, 400), "Invalid payload", "{nothing}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_was_made_elsewhere_counts() {
    let (app, sandbox) = on_one().await;
    // A user that was known before, with a customer and a plan at the provider.
    post(&app, JANE, "/create-payment-intent", json!({"amount": 100})).await.is(200);
    let customer = text(&sandbox.all("customers").await[0], "id").to_owned();
    let attach = "/v1/payment_methods/pm_card_visa/attach";
    let (_, card) = sandbox.post(attach, &[("customer", &customer)]).await;
    let form = [
        ("customer", &*customer),
        ("items[0][price]", "price_basic_monthly"),
        ("default_payment_method", text(&card, "id")),
    ];
    let (made, there) = sandbox.post("/v1/subscriptions", &form).await;
    assert_eq!((made, &there["status"]), (200, &json!("active")), "{there}");
    let told = until_status(&app, JANE, "active").await;
    assert_eq!((&told["plan_name"], &told["overage"]["sms"]["limit"]), (&json!("basic_monthly"), &json!(500)));
    assert_detail(&subscribe(&app, JANE, "pro_monthly", None).await, 409);
    // It is ended there as well.
    request(&app, JANE, "POST", "/cancel-subscription?at_period_end=false").send().await.is(200);
    assert_eq!(sandbox.all("subscriptions").await.len(), 0);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_cannot_be_collected_is_past_due() {
    on_both(async |app, sandbox| {
        subscribe(app, JANE, "pro_monthly", Some("pm_card_visa")).await.is(200);
        record(app, JANE, "voice_call", 600, "minutes").await;
        // The card of the first payment is taken away, and one that fails takes its place.
        let customer = text(&sandbox.all("customers").await[0], "id").to_owned();
        let attach = "/v1/payment_methods/pm_card_chargeCustomerFail/attach";
        let (_, card) = sandbox.post(attach, &[("customer", &customer)]).await;
        let subscription = text(&sandbox.all("subscriptions").await[0], "id").to_owned();
        let update = [("default_payment_method", text(&card, "id"))];
        assert_eq!(sandbox.post(&format!("/v1/subscriptions/{subscription}"), &update).await.0, 200);
        app.post("/v1/test_clock/advance", json!({"to": "2026-04-02T12:00:00Z"})).await.is(200);
        let told = until_status(app, JANE, "past_due").await;
        assert_eq!((&told["has_subscription"], &told["plan_name"]), (&json!(true), &json!("pro_monthly")));
        let told = history(app, JANE).await;
        assert!(told.iter().any(|record| record["status"] == "failed" && record["amount"] == 9999), "{told:?}");
        // It may be ended all the same.
        let ended = request(app, JANE, "POST", "/cancel-subscription?at_period_end=false").send().await;
        assert_eq!(ended.is(200)["at_period_end"], false);
        assert_eq!(status(app, JANE).await["has_subscription"], false);
    })
    .await;
}

/// Every endpoint that is about a user, with a body that would do.
fn endpoints() -> Vec<(&'static str, &'static str, Option<Value>)> {
    let usage = json!({"service_type": "sms", "usage_amount": 1, "usage_unit": "messages"});
    vec![
        ("GET", "/subscription-plans", None),
        ("POST", "/create-subscription", Some(json!({"price_id": "price_1234567890", "plan_name": "pro_monthly"}))),
        ("POST", "/cancel-subscription", None),
        ("POST", "/create-payment-intent", Some(json!({"amount": 100}))),
        ("GET", "/subscription-status", None),
        ("POST", "/record-usage", Some(usage)),
        ("GET", "/billing-history", None),
        ("GET", "/usage-summary", None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_known_is_401() {
    let (app, sandbox) = on_one().await;
    let ask = async |method: &str, path: &str, body: &Option<Value>, credential: Option<&str>| {
        let request = app.request(method, &format!("{PREFIX}{path}")).anonymous();
        let request = credential.map_or(request.clone(), |credential| request.bearer(credential));
        body.as_ref().map_or(request.clone(), |body| request.json(body)).send().await
    };
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJqYW5lQGV4YW1wbGUuY29tIn0.".to_owned();
    let bad = [
        "not-a-token".to_owned(),
        none,
        signed_token(&app, json!({"sub": JANE}), 3600, "thirty-two bytes of another secret than ours"),
        signed_token(&app, json!({"sub": JANE}), -3600, JWT_SECRET),
        signed_token(&app, json!({"user_id": 7}), 3600, JWT_SECRET),
        signed_token(&app, json!({"sub": "jane\u{0}@example.com"}), 3600, JWT_SECRET),
        signed_token(&app, json!({"sub": "j".repeat(300)}), 3600, JWT_SECRET),
        "fk_test_unknown".to_owned(),
    ];
    for (method, path, body) in endpoints() {
        let answer = ask(method, path, &body, None).await;
        assert_eq!(assert_detail(&answer, 401), "Not authenticated", "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        for bad in bad.iter().filter(|bad| path != "/subscription-plans" || !bad.starts_with("eyJ0")) {
            let answer = ask(method, path, &body, Some(bad)).await;
            assert_eq!(assert_detail(&answer, 401), "Could not validate credentials", "{path} {bad}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        }
        // A server's key is nobody's subscription.
        if path != "/subscription-plans" {
            let answer = ask(method, path, &body, Some(&app.admin_key)).await;
            assert_eq!(assert_detail(&answer, 401), "Not authenticated", "{path}");
        }
        // Other methods and paths, in the same shape and with the same headers as everything.
        assert_eq!(
            assert_detail(&ask("DELETE", path, &None, Some(&token(&app, JANE))).await, 405),
            "Method Not Allowed"
        );
    }
    for path in ["/nothing", "", "/subscription-plans/pro_monthly"] {
        assert_eq!(assert_detail(&ask("GET", path, &None, Some(&token(&app, JANE))).await, 404), "Not Found");
    }
    for answer in [get(&app, JANE, "/subscription-status").await, get(&app, JANE, "/nothing").await] {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}: {name}", answer.what);
        }
        assert!(answer.header("content-security-policy").is_some());
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plans_may_be_open_to_everybody() {
    let open_plans = TENANT.replace("public_plans = false", "public_plans = true").leak();
    let (app, sandbox) = open(Database::sqlite().await, open_plans).await;
    let path = format!("{PREFIX}/subscription-plans");
    let told = app.request("GET", &path).anonymous().send().await.is(200);
    assert_eq!(app.request("GET", &path).bearer("whatever").send().await.is(200), told);
    assert_eq!(told["plans"].as_object().map(Map::len), Some(4));
    let status = app.request("GET", &format!("{PREFIX}/subscription-status")).anonymous().send().await;
    assert_detail(&status, 401);
    sandbox.stop().await;
}

/// Members of bodies that are missing (nothing) or wrong.
fn wrong_members() -> Vec<(&'static str, &'static str, Option<Value>)> {
    vec![
        ("/create-subscription", "price_id", None),
        ("/create-subscription", "price_id", Some(json!(5))),
        ("/create-subscription", "plan_name", None),
        ("/create-subscription", "plan_name", Some(Value::Null)),
        ("/create-subscription", "plan_name", Some(json!("x".repeat(256)))),
        ("/create-subscription", "payment_method_id", Some(json!(["pm_1"]))),
        ("/create-payment-intent", "amount", None),
        ("/create-payment-intent", "amount", Some(json!("much"))),
        ("/create-payment-intent", "amount", Some(json!(1.5))),
        ("/create-payment-intent", "amount", Some(json!(0))),
        ("/create-payment-intent", "amount", Some(json!(-100))),
        ("/create-payment-intent", "amount", Some(json!(100_000_000))),
        ("/create-payment-intent", "currency", Some(json!("dollars"))),
        ("/create-payment-intent", "currency", Some(json!("xyz"))),
        ("/create-payment-intent", "description", Some(json!("x".repeat(501)))),
        ("/create-payment-intent", "metadata", Some(json!("order"))),
        ("/create-payment-intent", "metadata", Some(json!([]))),
        ("/record-usage", "service_type", None),
        ("/record-usage", "service_type", Some(json!("fax"))),
        ("/record-usage", "usage_amount", None),
        ("/record-usage", "usage_amount", Some(json!(0))),
        ("/record-usage", "usage_amount", Some(json!(-5))),
        ("/record-usage", "usage_amount", Some(json!(1.5))),
        ("/record-usage", "usage_amount", Some(json!(1e18))),
        ("/record-usage", "usage_amount", Some(json!(10_000_001))),
        ("/record-usage", "usage_unit", None),
        ("/record-usage", "usage_unit", Some(json!(""))),
        ("/record-usage", "usage_unit", Some(json!("a\u{0}b"))),
        ("/record-usage", "resource_id", Some(json!("one"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_member_is_told_with_its_place() {
    let (app, sandbox) = on_one().await;
    for (path, name, value) in wrong_members() {
        let known = endpoints().into_iter().find(|(_, known, _)| *known == path);
        let mut body = known.and_then(|(_, _, body)| body).expect("it takes a body");
        match &value {
            Some(value) => body[name] = value.clone(),
            None => {
                body.as_object_mut().expect("an object").remove(name);
            }
        }
        assert_eq!(assert_invalid(&post(&app, JANE, path, body).await), [name], "{path} {value:?}");
    }
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    let (app, sandbox) = on_one().await;
    let notes = json!({"amount": 100, "metadata": {"order": 5, "a[b]": "c"}});
    let places = assert_invalid(&post(&app, JANE, "/create-payment-intent", notes).await);
    assert_eq!(places, ["metadata -> a[b]", "metadata -> order"]);
    let many: Map<String, Value> = (0..49).map(|number| (format!("note{number}"), json!("text"))).collect();
    let many = json!({"amount": 100, "metadata": many});
    assert_eq!(assert_invalid(&post(&app, JANE, "/create-payment-intent", many).await), ["metadata"]);
    // Everything at once; and what is no object at all.
    let places = assert_invalid(&post(&app, JANE, "/record-usage", json!({})).await);
    assert_eq!(places, ["service_type", "usage_amount", "usage_unit"]);
    for body in ["", "{", "[]", "null", "5"] {
        for path in ["/create-subscription", "/create-payment-intent", "/record-usage"] {
            let request = request(&app, JANE, "POST", path).body("application/json", body);
            assert_invalid(&request.send().await);
        }
    }
    let large = request(&app, JANE, "POST", "/record-usage").body("application/json", "x".repeat(1 << 21));
    assert_detail(&large.send().await, 413);
    for month in ["zzz", "2026", "2026-13", "2026-3", "2026-03-01", "0000-00"] {
        let answer = get(&app, JANE, &format!("/usage-summary?billing_period={month}")).await;
        assert_eq!(assert_invalid(&answer), ["query -> billing_period"], "{month}");
    }
    for month in ["0001-01", "9999-12", "2026-12"] {
        let answer = get(&app, JANE, &format!("/usage-summary?billing_period={month}")).await;
        assert!([200, 400].contains(&answer.status), "{month}: {}", answer.text());
    }
    // Numbers are read laxly, and what nobody asks for is ignored.
    for amount in [json!("5"), json!(5.0), json!(5)] {
        let body = json!({"service_type": "sms", "usage_amount": amount, "usage_unit": "messages", "foo": 1});
        assert_eq!(post(&app, JANE, "/record-usage", body).await.is(200)["total_cost"], 5);
    }
    let nulls = json!({"amount": 100, "description": null, "metadata": null, "currency": null});
    post(&app, JANE, "/create-payment-intent", nulls).await.is(200);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_user_buys_nothing() {
    on_both(async |app, _| {
        record(app, JANE, "sms", 1, "messages").await;
        app.put(&format!("/v1/customers/{JANE}"), json!({"status": "suspended"})).await.is(200);
        assert_detail(&subscribe(app, JANE, "pro_monthly", None).await, 403);
        // What has happened is recorded, and what was used is told.
        record(app, JANE, "sms", 1, "messages").await;
        assert_eq!(status(app, JANE).await["current_usage"]["sms"]["amount"], 2);
        app.put(&format!("/v1/customers/{JANE}"), json!({"status": "closed"})).await.is(200);
        assert_detail(&subscribe(app, JANE, "pro_monthly", None).await, 403);
        assert_detail(&post(app, JANE, "/create-payment-intent", json!({"amount": 100})).await, 403);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_told_and_what_was_asked_is_done_later() {
    let (app, sandbox) = on_one().await;
    subscribe(&app, JOHN, "pro_monthly", Some("pm_card_visa")).await.is(200);
    sandbox.fault(json!({"kind": "error_before", "times": 100_000})).await;
    let answers = tokio::join!(
        subscribe(&app, JANE, "pro_monthly", None),
        subscribe(&app, "june@example.com", "pro_monthly", Some("pm_card_visa")),
        post(&app, "joan@example.com", "/create-payment-intent", json!({"amount": 100, "idempotency_key": "k"})),
        request(&app, JOHN, "POST", "/cancel-subscription").send(),
    );
    for answer in [&answers.0, &answers.1, &answers.2, &answers.3] {
        let detail = assert_detail(answer, 400);
        assert!(detail.contains("the payment provider has not answered"), "{detail}");
    }
    // What needs no provider goes on.
    record(&app, JANE, "sms", 1, "messages").await;
    assert_eq!(status(&app, JANE).await["status"], "incomplete");
    sandbox.mend().await;
    app.clock.advance(3600);
    // Who asks again gets what was asked for, once.
    let created = subscribe(&app, JANE, "pro_monthly", None).await.is(200);
    assert!(text(&created, "client_secret").starts_with("pi_"), "{created}");
    let body = json!({"amount": 100, "idempotency_key": "k"});
    let intent = until_ok(&app, "joan@example.com", "/create-payment-intent", &body).await;
    assert!(text(&intent, "payment_intent_id").starts_with("pi_"), "{intent}");
    until(&app, JOHN, "/subscription-status", |status| status["cancel_at_period_end"] == true).await;
    let mut kinds: Vec<Value> =
        sandbox.all("payment_intents").await.into_iter().map(|one| one["amount"].clone()).collect();
    kinds.sort_by_key(|amount| amount.as_i64());
    assert_eq!(kinds, [json!(100), json!(9999), json!(9999)]);
    crate::books::assert_balanced(&*app.app.store).await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_on_the_way_makes_nothing_twice() {
    on_both(async |app, sandbox| {
        let later = async |app: &TestApp| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            app.clock.advance(600);
        };
        for (kind, user) in [("timeout_after", JANE), ("error_after", JOHN)] {
            sandbox.fault(json!({"kind": kind, "method": "POST", "path": "/v1/subscriptions", "times": 1})).await;
            let ((), created) = tokio::join!(later(app), subscribe(app, user, "pro_monthly", Some("pm_card_visa")));
            assert_eq!(created.is(200)["requires_action"], false);
            assert_eq!(status(app, user).await["status"], "active");
        }
        assert_eq!(sandbox.all("customers").await.len(), 2);
        assert_eq!(sandbox.all("subscriptions").await.len(), 2);
        let paid = sandbox.all("payment_intents").await;
        assert_eq!(paid.iter().filter(|intent| intent["status"] == "succeeded").count(), 2, "{paid:?}");
        // A server that begins on the same database knows all of it.
        let other = app.another().await;
        assert_eq!(status(&other, JANE).await, status(app, JANE).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_applied_yet_is_asked_for_again() {
    let (app, sandbox) = on_one().await;
    let created = subscribe(&app, JANE, "pro_monthly", None).await.is(200);
    // The provider tells of the payment and then does not answer.
    for path in ["/v1/invoices/*", "/v1/subscriptions/*"] {
        sandbox.fault(json!({"kind": "error_before", "method": "GET", "path": path, "times": 100_000})).await;
    }
    sandbox.pay(text(&created, "client_secret"), "pm_card_visa").await;
    let told = event(&sandbox, "invoice.payment_succeeded").await.to_string();
    let answer = webhook(&app, &told, WEBHOOK_SECRET).send().await;
    assert_eq!(assert_detail(&answer, 503), "Webhook processing failed");
    assert_eq!(status(&app, JANE).await["status"], "incomplete");
    sandbox.mend().await;
    app.clock.advance(3600);
    until_status(&app, JANE, "active").await;
    for _ in 0..2 {
        webhook(&app, &told, WEBHOOK_SECRET).send().await.is(200);
    }
    assert_eq!(history(&app, JANE).await.len(), 1);
    sandbox.stop().await;
}

/// Asks again until it is done.
async fn until_ok(app: &TestApp, user: &str, path: &str, body: &Value) -> Value {
    for _ in 0..100 {
        let answer = post(app, user, path, body.clone()).await;
        if answer.status == 200 {
            return answer.is(200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    post(app, user, path, body.clone()).await.is(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_nothing_is_sold() {
    let app = TestApp::with(Database::sqlite().await, TENANT).await;
    assert_detail(&subscribe(&app, JANE, "pro_monthly", None).await, 503);
    assert_detail(&post(&app, JANE, "/create-payment-intent", json!({"amount": 100})).await, 503);
    assert_detail(&webhook(&app, "{}", "whsec_any").send().await, 503);
    assert_eq!(record(&app, JANE, "sms", 1, "messages").await["total_cost"], 1);
}
