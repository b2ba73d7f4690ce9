//! The `parentpilot` dialect, in the order of the product's own document: every sample as it is written there (the key aside), with
//! the answer that it promises; then who may ask, what is refused and how, and what a provider that declines or is down comes to.

use std::collections::BTreeSet;
use std::time::Duration;

use farthing::auth::Scope;
use farthing::clock::Clock;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::databases::{self, Database};
use crate::harness::{Answer, TestApp, TestRequest, list, text};
use crate::shop::{TestSandbox, WEBHOOK_SECRET, signed};

/// The product's tenant file.
const TENANT: &str = include_str!("../../../../examples/parentpilot.toml");

/// The user of the tests, and another.
const USER: &str = "1f6a4c1e-5b7d-4d55-9b1c-0c8f7f3a1a11";
const OTHER: &str = "2f6a4c1e-5b7d-4d55-9b1c-0c8f7f3a1a22";

/// Runs a test of the product on both databases, beside a sandbox.
async fn on_both(test: impl AsyncFn(&TestApp, &TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = TestApp::of_product(database, "parentpilot").await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// A request about a user, with the server's key.
fn request(app: &TestApp, method: &str, path: &str, user: &str) -> TestRequest {
    app.request(method, &format!("/api/payments{path}")).header("user-id", user)
}

async fn get(app: &TestApp, path: &str) -> Answer {
    request(app, "GET", path, USER).send().await
}

async fn send(app: &TestApp, method: &str, path: &str, body: Value) -> Answer {
    request(app, method, path, USER).json(&body).send().await
}

/// What a good answer has in its envelope.
#[track_caller]
fn data(answer: &Answer) -> Value {
    let mut body = answer.is(200);
    assert_eq!(body["success"], true, "{}: {body}", answer.what);
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{}: {body}", answer.what);
    body["data"].take()
}

/// An error of this product: its envelope, with one sentence and nothing else.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.is(status), json!({"success": false, "error": words}), "{}", answer.what);
}

async fn create(app: &TestApp, user: &str) -> Value {
    let body = json!({"email": "user@example.com", "name": "John Doe"});
    data(&request(app, "POST", "/customers", user).json(&body).send().await)
}

/// What a task used, as the product's server tells it.
async fn record(app: &TestApp, user: &str, meter: &str, quantity: i64, agent: &str) {
    let event = json!({"customer": user, "meter": meter, "quantity": quantity, "subject": agent});
    let answer = app.post("/v1/events", event).await;
    assert!(answer.status < 300, "{}: {}", answer.what, answer.text());
}

async fn billing(app: &TestApp, user: &str) -> Value {
    data(&request(app, "GET", "/billing", user).send().await)["billing"].take()
}

async fn usage(app: &TestApp, user: &str) -> Value {
    billing(app, user).await["currentUsage"].take()
}

async fn can_process(app: &TestApp, cents: Value) -> Value {
    data(&send(app, "POST", "/check-usage-limit", json!({"estimatedCost": cents})).await)["canProcess"].take()
}

/// Asks again until the billing of a user is as wanted.
async fn until(app: &TestApp, user: &str, wanted: impl Fn(&Value) -> bool) {
    for _ in 0..400 {
        if wanted(&billing(app, user).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{}", billing(app, user).await);
}

/// Puts a good card on file for a user who has a customer.
async fn add_card(app: &TestApp, user: &str) {
    let path = format!("/v1/customers/{user}/payment_methods");
    app.post(&path, json!({"payment_method": "pm_card_visa"})).await.is(200);
}

/// Subscribes a user, with the card on file.
async fn subscribe(app: &TestApp, user: &str, plan: &str) -> String {
    let body = json!({"planId": plan});
    let made = data(&request(app, "POST", "/subscriptions", user).json(&body).send().await);
    assert_eq!((&made["status"], &made["clientSecret"]), (&json!("active"), &Value::Null), "{made}");
    text(&made, "id").to_owned()
}

/// A webhook as the provider sends it.
fn webhook(app: &TestApp, body: &Value, secret: &str) -> TestRequest {
    let body = body.to_string();
    let headers = signed(&body, app.clock.wall().as_second(), secret);
    let signature = headers["stripe-signature"].to_str().expect("a header").to_owned();
    let request = app.request("POST", "/api/payments/webhook").anonymous();
    request.header("stripe-signature", &signature).body("application/json", body)
}

/// The document's samples about a subscription, in its order.
async fn subscribe_move_and_cancel(app: &TestApp, sandbox: &TestSandbox, id: &str) {
    // Create subscription: the user's browser pays the first invoice.
    let made = data(&send(app, "POST", "/subscriptions", json!({"planId": "pro"})).await);
    let subscription = text(&made, "id").to_owned();
    assert!(subscription.starts_with("sub_"), "{made}");
    assert_eq!(
        [&made["status"], &made["planId"], &made["customerId"]],
        [&json!("incomplete"), &json!("pro"), &json!(id)],
        "{made}"
    );
    for at in ["currentPeriodStart", "currentPeriodEnd"] {
        assert!(text(&made, at).len() == 24 && text(&made, at).ends_with('Z'), "{made}");
    }
    assert_eq!(billing(app, USER).await["planId"], "starter");
    let (status, paid) = sandbox.pay(text(&made, "clientSecret"), "pm_card_visa").await;
    assert_eq!((status, &paid["status"]), (200, &json!("succeeded")), "{paid}");
    until(app, USER, |billing| billing["planId"] == "pro").await;

    // Update subscription.
    let path = format!("/subscriptions/{subscription}");
    let moved = data(&send(app, "PUT", &path, json!({"planId": "enterprise"})).await);
    assert_eq!((&moved["id"], &moved["planId"]), (&json!(subscription), &json!("enterprise")), "{moved}");
    assert_eq!((&moved["status"], &moved["customerId"]), (&json!("active"), &json!(id)), "{moved}");
    let overview = data(&get(app, "/billing").await);
    assert_eq!(overview["billing"]["monthlyLimit"], 50_000, "{overview}");
    assert_eq!(overview["customer"]["subscriptionId"], json!(subscription), "{overview}");

    // Cancel subscription; a repeat changes nothing.
    for _ in 0..2 {
        let ended = request(app, "DELETE", &path, USER).send().await.is(200);
        assert_eq!(ended, json!({"success": true, "message": "Subscription cancelled successfully"}));
    }
}

/// The document's samples about costs and plans.
async fn read_costs_and_plans(app: &TestApp) {
    // Get cost analytics.
    let report = data(&get(app, "/analytics?startDate=2024-01-01&endDate=2024-01-31").await);
    let expected = json!({
        "totalCostCents": 0, "totalTokens": 0, "totalExecutionTimeMs": 0, "costByAgent": {}, "costByDay": {},
        "taskCount": 0, "averageCostPerTask": 0
    });
    assert_eq!(report, expected);

    // Get available plans.
    let plan = |id: &str, name: &str, limit: i64, token: f64, minute: f64| json!({"id": id, "name": name, "monthlyLimit": limit, "costPerToken": token, "costPerMinute": minute});
    let expected = json!([
        plan("starter", "Starter Plan", 1000, 0.001, 0.1),
        plan("pro", "Pro Plan", 5000, 0.0005, 0.05),
        plan("enterprise", "Enterprise Plan", 50_000, 0.0002, 0.02),
    ]);
    assert_eq!(data(&get(app, "/plans").await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_in_its_order() {
    on_both(async |app, sandbox| {
        // Create Stripe customer.
        let customer = create(app, USER).await;
        let id = text(&customer, "id").to_owned();
        assert!(id.starts_with("cus_"), "{customer}");
        assert_eq!(customer, json!({"id": id, "email": "user@example.com", "name": "John Doe"}));
        assert_eq!(create(app, USER).await, customer);

        // Create payment intent for usage payment: asked in dollars, answered in cents.
        let intent = data(&send(app, "POST", "/payment-intent", json!({"amount": 15.50})).await);
        let payment = text(&intent, "id").to_owned();
        let secret = text(&intent, "clientSecret");
        assert!(secret.starts_with(&format!("{payment}_secret_")), "{intent}");
        let expected = json!({
            "id": payment, "amount": 1550, "currency": "usd", "status": "requires_payment_method", "clientSecret": secret
        });
        assert_eq!(intent, expected);

        subscribe_move_and_cancel(app, sandbox, &id).await;

        // Get billing information.
        let overview = data(&get(app, "/billing").await);
        let expected = json!({
            "billing": {
                "userId": USER, "planId": "starter", "currentUsage": 0, "monthlyLimit": 1000,
                "resetDate": "2026-04-01T00:00:00.000Z"
            },
            "customer": {"id": id, "email": "user@example.com", "name": "John Doe"}
        });
        assert_eq!(overview, expected);

        // Get payment history: the newest first.
        let history = data(&get(app, "/history?limit=10").await);
        let [one, other, first] = history.as_array().expect("a list").as_slice() else { panic!("{history}") };
        // Moving from pro to enterprise was paid at once: another 450 dollars for the month that has just begun. The clock
        // stands, so either may come first.
        let mut fees = [one, other].map(|payment| (payment["amount"].as_i64(), payment["status"].as_str()));
        fees.sort_unstable();
        assert_eq!(fees, [(Some(5000), Some("succeeded")), (Some(45_000), Some("succeeded"))], "{history}");
        let expected = json!({
            "id": payment, "amount": 1550, "currency": "usd", "status": "requires_payment_method",
            "created": "2026-03-02T09:00:00.000Z", "description": "Usage"
        });
        assert_eq!(*first, expected);

        read_costs_and_plans(app).await;

        // Upgrade plan: nobody gets a plan that nobody pays for.
        let words = "A subscription to this plan is required";
        assert_error(&send(app, "POST", "/upgrade-plan", json!({"planId": "pro"})).await, 402, words);
        assert_eq!(billing(app, USER).await["planId"], "starter");

        // Check usage limit: in cents.
        let judged = data(&send(app, "POST", "/check-usage-limit", json!({"estimatedCost": 25.00})).await);
        assert_eq!(judged, json!({"canProcess": true, "estimatedCost": 25}));

        // Stripe webhook handler.
        let event = sandbox.events().await.pop().expect("an event");
        assert_eq!(webhook(app, &event, WEBHOOK_SECRET).send().await.is(200), json!({"received": true}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_month_from_check_through_payment_to_reset() {
    on_both(async |app, sandbox| {
        create(app, USER).await;
        record(app, USER, "tokens", 9_800, "writer").await;
        assert_eq!(usage(app, USER).await, 980);
        // Twenty cents are left, to the fraction of one.
        assert_eq!(can_process(app, json!(20)).await, true);
        assert_eq!(can_process(app, json!(20.01)).await, false);
        assert_eq!(can_process(app, json!(25.00)).await, false);

        // Create payment intent, as the browser does. A card that is declined changes nothing.
        let intent = data(&send(app, "POST", "/payment-intent", json!({"amount": 25.00})).await);
        let secret = text(&intent, "clientSecret");
        let (status, _) = sandbox.pay(secret, "pm_card_visa_chargeDeclined").await;
        assert_eq!(status, 402);
        let (status, _) = sandbox.pay(secret, "pm_card_visa_chargeDeclinedInsufficientFunds").await;
        assert_eq!(status, 402);
        assert_eq!((usage(app, USER).await, can_process(app, json!(25)).await), (json!(980), json!(false)));
        // Payment successful: the month's usage counts from nothing, and what tasks cost stays known.
        assert_eq!(sandbox.pay(secret, "pm_card_visa").await.0, 200);
        until(app, USER, |billing| billing["currentUsage"] == 0).await;
        assert_eq!(can_process(app, json!(1000)).await, true);
        assert_eq!(data(&get(app, "/analytics").await)["totalCostCents"], 980);
        assert_eq!(data(&get(app, "/history").await)[0]["status"], "succeeded");

        // The event again, and once more later, resets nothing again.
        record(app, USER, "tokens", 1_000, "writer").await;
        let events = sandbox.events().await;
        let paid = events.iter().find(|event| event["type"] == "payment_intent.succeeded").expect("the event");
        for _ in 0..2 {
            webhook(app, paid, WEBHOOK_SECRET).send().await.is(200);
        }
        assert_eq!(usage(app, USER).await, 100);
        // What was used above the limit has happened; a charge that is asked for beforehand is refused.
        record(app, USER, "tokens", 10_000, "writer").await;
        assert_eq!((usage(app, USER).await, can_process(app, json!(0.01)).await), (json!(1_100), json!(false)));
        let charge = json!({"customer": USER, "meter": "tokens", "quantity": 100});
        app.post("/v1/charges", charge).await.refused(402, "spending_limit");
        // Whoever is suspended may do no task, and can still pay.
        app.put(&format!("/v1/customers/{USER}"), json!({"status": "suspended"})).await.is(200);
        data(&send(app, "POST", "/payment-intent", json!({"amount": 1})).await);
        assert_error(&send(app, "POST", "/subscriptions", json!({"planId": "pro"})).await, 403, "User is suspended");
        app.put(&format!("/v1/customers/{USER}"), json!({"status": "active"})).await.is(200);
        // A new month begins; what a hold keeps is not left.
        app.clock.advance(31 * 86_400);
        let next = billing(app, USER).await;
        assert_eq!((&next["currentUsage"], &next["resetDate"]), (&json!(0), &json!("2026-05-01T00:00:00.000Z")));
        app.post("/v1/holds", json!({"customer": USER, "meter": "tokens", "quantity": 9_000})).await.is(201);
        assert_eq!((usage(app, USER).await, can_process(app, json!(100)).await), (json!(0), json!(true)));
        assert_eq!(can_process(app, json!(101)).await, false);
        app.put(&format!("/v1/customers/{USER}"), json!({"status": "suspended"})).await.is(200);
        assert_eq!(can_process(app, json!(1)).await, false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_cost_what_the_users_plan_says() {
    on_both(async |app, _| {
        for (user, plan, cents) in [(USER, "starter", 110), (OTHER, "pro", 55), ("third", "enterprise", 22)] {
            create(app, user).await;
            add_card(app, user).await;
            if plan != "starter" {
                subscribe(app, user, plan).await;
            }
            record(app, user, "tokens", 1000, "writer").await;
            record(app, user, "execution_ms", 60_000, "writer").await;
            let now = billing(app, user).await;
            assert_eq!((&now["planId"], &now["currentUsage"]), (&json!(plan), &json!(cents)), "{now}");
            let report = data(&request(app, "GET", "/analytics", user).send().await);
            let expected = json!({
                "totalCostCents": cents, "totalTokens": 1000, "totalExecutionTimeMs": 60_000,
                "costByAgent": {"writer": cents}, "costByDay": {"Mon Mar 02 2026": cents},
                "taskCount": 2, "averageCostPerTask": f64::from(cents) / 2.0
            });
            let whole = |report: &Value| report.to_string().replace(".0,", ",").replace(".0}", "}");
            assert_eq!(whole(&report), whole(&expected));
        }
        // Half a cent is one, and less than that none; each event by itself.
        for (tokens, cents) in [(5, 111), (4, 111), (5, 112), (14, 113), (15, 115)] {
            record(app, USER, "tokens", tokens, "reader").await;
            assert_eq!(usage(app, USER).await, cents, "{tokens}");
        }
        assert_eq!(data(&get(app, "/analytics").await)["costByAgent"], json!({"reader": 5, "writer": 110}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn analytics_are_of_the_days_that_are_asked_for() {
    on_both(async |app, _| {
        create(app, USER).await;
        for (time, agent, tokens) in [
            ("2026-02-27T12:00:00Z", Some("writer"), 100),
            ("2026-02-28T23:59:59.999Z", Some("writer"), 200),
            ("2026-03-01T00:00:00Z", Some("reader"), 300),
            ("2026-03-02T08:00:00Z", None, 400),
        ] {
            let mut event = json!({"customer": USER, "meter": "tokens", "quantity": tokens, "time": time, "id": time});
            if let Some(agent) = agent {
                event["subject"] = json!(agent);
            }
            for _ in 0..2 {
                assert!(app.post("/v1/events", event.clone()).await.status < 300);
            }
        }
        // What was used last month is no part of this one's.
        assert_eq!(usage(app, USER).await, 70);
        let all = data(&get(app, "/analytics").await);
        assert_eq!(all["costByAgent"], json!({"reader": 30, "unknown": 40, "writer": 30}));
        let days = json!({"Fri Feb 27 2026": 10, "Sat Feb 28 2026": 20, "Sun Mar 01 2026": 30, "Mon Mar 02 2026": 40});
        assert_eq!(all["costByDay"], days);
        assert_eq!((&all["taskCount"], &all["averageCostPerTask"]), (&json!(4), &json!(25)), "{all}");
        for (query, cents) in [
            ("startDate=2026-03-01", 70),
            ("endDate=2026-02-28", 30),
            ("startDate=2026-02-28&endDate=2026-03-01", 50),
            ("startDate=2026-02-28&endDate=2026-02-28", 20),
            ("startDate=2026-03-01T00:00:00.000Z&endDate=2026-03-02T08:00:00.000Z", 70),
            ("startDate=2026-03-01T00:00:01Z", 40),
            ("startDate=2026-03-05&endDate=2026-03-01", 0),
        ] {
            let report = data(&get(app, &format!("/analytics?{query}")).await);
            assert_eq!(report["totalCostCents"], cents, "{query}: {report}");
        }
        // Somebody else's are none of the user's.
        create(app, OTHER).await;
        assert_eq!(data(&request(app, "GET", "/analytics", OTHER).send().await)["taskCount"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_when_the_budget_runs_out() {
    on_both(async |app, _| {
        create(app, USER).await;
        let told = async || {
            let notices = app.get("/v1/notices?after=0&limit=100").await.is(200);
            let shown = |notice: &Value| format!("{} {}", text(notice, "kind"), notice["percent"]);
            list(&notices, "data").iter().map(shown).collect::<Vec<_>>()
        };
        for (tokens, expected) in [(4_990, 0), (10, 1), (2_000, 1), (1_000, 2), (2_500, 3)] {
            record(app, USER, "tokens", tokens, "writer").await;
            assert_eq!(told().await.len(), expected, "{tokens}: {:?}", told().await);
        }
        assert_eq!(told().await, ["spending_threshold 50", "spending_threshold 80", "spending_threshold 100"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_changed_by_the_subscription_that_pays_for_it() {
    on_both(async |app, _| {
        create(app, USER).await;
        add_card(app, USER).await;
        let upgrade = async |plan: &str| send(app, "POST", "/upgrade-plan", json!({"planId": plan})).await;
        let done = json!({"success": true, "message": "Plan upgraded successfully"});
        // The plan that one has anyhow.
        assert_eq!(upgrade("starter").await.is(200), done);
        let subscription = subscribe(app, USER, "pro").await;
        // A payment for a period counts from nothing; moving to another plan in between does not.
        record(app, USER, "tokens", 1_000, "writer").await;
        assert_eq!(upgrade("enterprise").await.is(200), done);
        let now = billing(app, USER).await;
        assert_eq!((&now["planId"], &now["currentUsage"]), (&json!("enterprise"), &json!(50)), "{now}");
        assert_eq!(upgrade("enterprise").await.is(200), done);
        assert_error(&upgrade("platinum").await, 400, "Failed to upgrade plan");
        // A second subscription is refused, and none was made.
        let again = send(app, "POST", "/subscriptions", json!({"planId": "starter"})).await;
        assert_error(&again, 409, "User already has a subscription");
        let again = send(app, "POST", "/subscriptions", json!({"planId": "platinum"})).await;
        assert_eq!(again.status, 409, "{}", again.text());
        assert_eq!(billing(app, USER).await["planId"], "enterprise");
        assert_eq!(data(&get(app, "/billing").await)["customer"]["subscriptionId"], json!(subscription));
    })
    .await;
}

/// Every endpoint that takes a caller, with a body that would do.
fn endpoints(subscription: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let of = format!("/subscriptions/{subscription}");
    let plan = || Some(json!({"planId": "pro"}));
    vec![
        ("POST", "/customers".to_owned(), Some(json!({"email": "user@example.com", "name": "John Doe"}))),
        ("POST", "/payment-intent".to_owned(), Some(json!({"amount": 15.5}))),
        ("POST", "/subscriptions".to_owned(), plan()),
        ("PUT", of.clone(), plan()),
        ("DELETE", of, None),
        ("GET", "/billing".to_owned(), None),
        ("GET", "/history".to_owned(), None),
        ("GET", "/analytics".to_owned(), None),
        ("GET", "/plans".to_owned(), None),
        ("POST", "/upgrade-plan".to_owned(), plan()),
        ("POST", "/check-usage-limit".to_owned(), Some(json!({"estimatedCost": 25}))),
    ]
}

/// Asks all of them; `caller` says who asks.
async fn ask(app: &TestApp, caller: impl Fn(TestRequest) -> TestRequest) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (method, path, body) in endpoints("sub_nothing") {
        let request = caller(app.request(method, &format!("/api/payments{path}")).anonymous());
        let request = body.as_ref().map_or(request.clone(), |body| request.json(body));
        answers.push(request.send().await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_id_counts_beside_a_servers_key_alone() {
    on_both(async |app, _| {
        for answer in ask(app, |request| request).await {
            assert_error(&answer, 401, "User ID required");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
        }
        for answer in ask(app, |request| request.bearer(&app.admin_key)).await {
            assert_error(&answer, 401, "User ID required");
        }
        for empty in ["", " "] {
            for answer in ask(app, |request| request.bearer(&app.admin_key).header("user-id", empty)).await {
                assert_error(&answer, 401, "User ID required");
            }
        }
        for answer in ask(app, |request| request.header("user-id", USER)).await {
            assert_error(&answer, 401, "Server key required");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
        }
        for bad in ["fk_test_unknown", "not-a-key", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."] {
            for answer in ask(app, |request| request.header("user-id", USER).bearer(bad)).await {
                assert_error(&answer, 401, "Invalid server key");
            }
        }
        let long = "x".repeat(256);
        for answer in ask(app, |request| request.bearer(&app.admin_key).header("user-id", &long)).await {
            assert_error(&answer, 400, "Invalid user ID");
        }
        // A key that reads may read, and ask whether a task would fit.
        let (reader, _) = app.new_key(Scope::Read).await;
        let statuses: Vec<u16> = ask(app, |request| request.header("user-id", USER).bearer(&reader))
            .await
            .iter()
            .map(|a| a.status)
            .collect();
        assert_eq!(statuses, [403, 403, 403, 403, 403, 200, 200, 200, 200, 403, 200]);
        // A user that nobody has heard of.
        let unknown = data(&get(app, "/billing").await);
        assert_eq!(unknown, json!({"billing": null, "customer": null}));
        assert_eq!(data(&get(app, "/history").await), json!([]));
        assert_eq!(can_process(app, json!(1)).await, false);
        for (path, body) in [("/payment-intent", json!({"amount": 1})), ("/subscriptions", json!({"planId": "pro"}))] {
            assert_error(&send(app, "POST", path, body).await, 400, "User must have a Stripe customer ID");
        }
        // The key may come in either header, whatever else does.
        let plans = app.request("GET", "/api/payments/plans").anonymous().header("user-id", USER);
        plans.header("x-api-key", &app.admin_key).send().await.is(200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_letter_of_the_document_is_restored_for_tests_alone() {
    static LETTER: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| TENANT.replace("trust_user_id = false", "trust_user_id = true"));
    let (app, sandbox) = TestApp::with_sandbox(Database::sqlite().await, &LETTER).await;
    for answer in ask(&app, |request| request.header("user-id", USER)).await {
        assert_ne!(answer.status, 401, "{}", answer.what);
    }
    for answer in ask(&app, |request| request).await {
        assert_error(&answer, 401, "User ID required");
    }
    let forged = ask(&app, |request| request.header("user-id", USER).bearer("fk_test_unknown")).await;
    assert_error(&forged[0], 401, "Invalid server key");
    sandbox.stop().await;

    let live = LETTER.replace("mode = \"test\"", "mode = \"live\"");
    let environment = |name: &str| Some(format!("{name}_value"));
    let mistakes = farthing::config::parse(&live, "live.toml", &environment).expect_err("it is refused");
    assert!(mistakes.iter().any(|mistake| mistake.problem.contains("`trust_user_id` is for test mode alone")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    on_both(async |app, _| {
        create(app, USER).await;
        let (email, amount) = ("Email and name are required", "Valid amount is required");
        let (plan, cost) = ("Plan ID is required", "Valid estimated cost is required");
        let mut wrong = vec![
            ("POST", "/customers", json!({}), email),
            ("POST", "/customers", json!({"email": "a@example.com"}), email),
            ("POST", "/customers", json!({"name": "A"}), email),
            ("POST", "/customers", json!({"email": "", "name": "A"}), email),
            ("POST", "/customers", json!({"email": 5, "name": "A"}), email),
            ("POST", "/customers", json!({"email": "a@example.com", "name": null}), email),
            ("PUT", "/subscriptions/sub_nothing", json!({}), plan),
            ("POST", "/subscriptions", json!({"planId": "platinum"}), "Failed to create subscription"),
            ("POST", "/upgrade-plan", json!({"planId": "platinum"}), "Failed to upgrade plan"),
        ];
        for bad in [json!("15.50"), json!(true), json!([5]), json!("abc"), json!(1.005), json!(0.001), json!(null)] {
            wrong.push(("POST", "/payment-intent", json!({"amount": bad}), amount));
        }
        // Less than the provider collects, and more.
        for bad in [json!(0), json!(-1), json!(0.49), json!(1_000_000), json!(1e300)] {
            wrong.push(("POST", "/payment-intent", json!({"amount": bad}), amount));
        }
        for bad in [json!("25"), json!(0), json!(-1), json!(null), json!({}), json!(true)] {
            wrong.push(("POST", "/check-usage-limit", json!({"estimatedCost": bad}), cost));
        }
        for path in ["/subscriptions", "/upgrade-plan"] {
            for bad in [json!({}), json!({"planId": ""}), json!({"planId": 5}), json!({"planId": null})] {
                wrong.push(("POST", path, bad, plan));
            }
        }
        for (method, path, body, words) in wrong {
            assert_error(&send(app, method, path, body).await, 400, words);
        }
        for (path, words) in [
            ("/customers", email),
            ("/payment-intent", amount),
            ("/subscriptions", plan),
            ("/upgrade-plan", plan),
            ("/check-usage-limit", cost),
        ] {
            // No body is an empty one.
            assert_error(&request(app, "POST", path, USER).send().await, 400, words);
            let broken = request(app, "POST", path, USER).body("application/json", "{");
            assert_error(&broken.send().await, 400, "Invalid JSON");
            let list = request(app, "POST", path, USER).body("application/json", "[]");
            assert_error(&list.send().await, 400, "A JSON object is required");
        }
        for limit in ["0", "101", "-1", "ten", "1.5", ""] {
            let answer = get(app, &format!("/history?limit={limit}")).await;
            assert_error(&answer, 400, "Limit must be a number from 1 to 100");
        }
        for (query, words) in [("startDate=soon", "Invalid startDate"), ("endDate=2024-02-30", "Invalid endDate")] {
            assert_error(&get(app, &format!("/analytics?{query}")).await, 400, words);
        }
        assert_error(&get(app, "/nothing").await, 404, "Not Found");
        assert_error(&send(app, "PUT", "/customers", json!({})).await, 405, "Method Not Allowed");
        assert_eq!(data(&get(app, "/history").await), json!([]), "nothing was begun");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_subscription_is_not_there() {
    on_both(async |app, _| {
        for user in [USER, OTHER] {
            create(app, user).await;
            add_card(app, user).await;
        }
        let theirs = subscribe(app, OTHER, "pro").await;
        subscribe(app, USER, "starter").await;
        for id in [theirs.as_str(), "sub_nothing", "..", "%00", &"x".repeat(300)] {
            let path = format!("/subscriptions/{id}");
            let answer = send(app, "PUT", &path, json!({"planId": "enterprise"})).await;
            assert_eq!(answer.status, 404, "{id}: {}", answer.text());
            assert_eq!(request(app, "DELETE", &path, USER).send().await.status, 404, "{id}");
        }
        let path = format!("/subscriptions/{theirs}");
        assert_error(&request(app, "DELETE", &path, USER).send().await, 404, "Subscription not found");
        assert_error(&request(app, "DELETE", &path, "nobody").send().await, 404, "Subscription not found");
        assert_eq!(billing(app, OTHER).await["planId"], "pro");
        // Not even what has ended, and what has ended is not changed any more.
        request(app, "DELETE", &path, OTHER).send().await.is(200);
        assert_error(&request(app, "DELETE", &path, USER).send().await, 404, "Subscription not found");
        let changed = request(app, "PUT", &path, OTHER).json(&json!({"planId": "starter"})).send().await;
        assert_error(&changed, 409, "Failed to update subscription");
        assert_eq!(billing(app, OTHER).await["planId"], "starter");
        // Its payments are its own.
        let own = data(&get(app, "/history").await);
        assert_eq!(own.as_array().map(Vec::len), Some(1), "{own}");
        assert_eq!(own[0]["amount"], 1000, "{own}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_declined_leaves_the_plan_as_it_is() {
    on_both(async |app, sandbox| {
        create(app, USER).await;
        // A card that can be put on file, and is declined when it is charged.
        let path = format!("/v1/customers/{USER}/payment_methods");
        app.post(&path, json!({"payment_method": "pm_card_chargeCustomerFail"})).await.is(200);
        let made = data(&send(app, "POST", "/subscriptions", json!({"planId": "pro"})).await);
        assert_eq!(made["status"], "incomplete", "{made}");
        let now = billing(app, USER).await;
        assert_eq!((&now["planId"], &now["monthlyLimit"]), (&json!("starter"), &json!(1000)), "{now}");
        // An incomplete one cannot be moved; asked for again, it is the same; another plan takes its place.
        let at = format!("/subscriptions/{}", text(&made, "id"));
        let moved = send(app, "PUT", &at, json!({"planId": "enterprise"})).await;
        assert_error(&moved, 409, "Failed to update subscription");
        let again = data(&send(app, "POST", "/subscriptions", json!({"planId": "pro"})).await);
        assert_eq!(again["id"], made["id"]);
        let other = data(&send(app, "POST", "/subscriptions", json!({"planId": "enterprise"})).await);
        assert_eq!((&other["status"], &other["planId"]), (&json!("incomplete"), &json!("enterprise")), "{other}");
        let again = data(&send(app, "POST", "/subscriptions", json!({"planId": "pro"})).await);
        assert_eq!(again["status"], "incomplete", "{again}");
        assert_ne!(sandbox.pay(text(&other, "clientSecret"), "pm_card_visa").await.0, 200);
        assert_error(
            &send(app, "POST", "/upgrade-plan", json!({"planId": "pro"})).await,
            402,
            "A subscription to this plan is required",
        );
        // Another card, in the browser.
        assert_eq!(sandbox.pay(text(&again, "clientSecret"), "pm_card_visa").await.0, 200);
        until(app, USER, |billing| billing["planId"] == "pro").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_502_and_nothing_is_left_half_done() {
    let (app, sandbox) = TestApp::with_sandbox(Database::sqlite().await, TENANT).await;
    for user in [USER, OTHER] {
        create(&app, user).await;
        add_card(&app, user).await;
    }
    let subscription = subscribe(&app, OTHER, "pro").await;
    sandbox.fault(json!({"kind": "error_before", "times": 100_000})).await;
    let at = format!("/subscriptions/{subscription}");
    let plan = json!({"planId": "pro"});
    let (intent, new) = (json!({"amount": 15.5}), json!({"email": "a@example.com", "name": "A"}));
    let answers = tokio::join!(
        request(&app, "POST", "/customers", "third").json(&new).send(),
        request(&app, "POST", "/payment-intent", USER).json(&intent).send(),
        request(&app, "POST", "/subscriptions", USER).json(&plan).send(),
        request(&app, "DELETE", &at, OTHER).send(),
    );
    assert_error(&answers.0, 502, "Failed to create customer");
    assert_error(&answers.1, 502, "Failed to create payment intent");
    assert_error(&answers.2, 502, "Failed to create subscription");
    assert_error(&answers.3, 502, "Failed to cancel subscription");
    // What needs no provider goes on.
    assert_eq!(billing(&app, OTHER).await["planId"], "pro");
    assert_eq!(data(&request(&app, "GET", "/history", USER).send().await), json!([]));
    data(&get(&app, "/plans").await);
    sandbox.mend().await;
    // What was asked for is done when the provider is back, once.
    let third = request(&app, "POST", "/customers", "third").json(&new).send().await;
    assert!(text(&data(&third), "id").starts_with("cus_"));
    request(&app, "DELETE", &at, OTHER).send().await.is(200);
    assert_eq!(billing(&app, OTHER).await["planId"], "starter");
    crate::books::assert_balanced(&*app.app.store).await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_many_times_at_once_is_done_once() {
    on_both(async |app, sandbox| {
        let ids = |answers: &[Answer]| -> BTreeSet<String> {
            answers.iter().map(|answer| text(&data(answer), "id").to_owned()).collect()
        };
        let body = json!({"email": "user@example.com", "name": "John Doe"});
        let customers = join_all((0..8).map(|_| send(app, "POST", "/customers", body.clone()))).await;
        assert_eq!(ids(&customers).len(), 1);
        assert_eq!(sandbox.all("customers").await.len(), 1);
        let subscriptions =
            join_all((0..8).map(|_| send(app, "POST", "/subscriptions", json!({"planId": "pro"})))).await;
        assert_eq!(ids(&subscriptions).len(), 1);
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
        // The same key begins one payment; without one each is another.
        let keyed = |key: &str, dollars: f64| {
            let request = request(app, "POST", "/payment-intent", USER).json(&json!({"amount": dollars}));
            request.idempotency_key(key).send()
        };
        let first = keyed("usage-1", 15.5).await;
        let again = join_all((0..8).map(|_| keyed("usage-1", 15.5))).await;
        assert_eq!(ids(&again), ids(&[first]));
        assert_error(&keyed("usage-1", 20.0).await, 409, "Idempotency key was used for another request");
        let others =
            [send(app, "POST", "/payment-intent", json!({"amount": 15.5})).await, keyed("usage-2", 15.5).await];
        assert_eq!(ids(&others).len(), 2);
        // A use of the month is counted whoever else uses at the same time.
        join_all((0..12).map(|_| record(app, USER, "tokens", 100, "writer"))).await;
        assert_eq!(usage(app, USER).await, 120);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_is_believed_when_it_is_signed_and_in_any_order() {
    on_both(async |app, sandbox| {
        create(app, USER).await;
        add_card(app, USER).await;
        let subscription = subscribe(app, USER, "pro").await;
        // Somebody ends it in the provider's own dashboard. Its events come newest first, each twice.
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("{}/v1/subscriptions/{subscription}", sandbox.url);
        http.delete(url).bearer_auth(&sandbox.key).send().await.expect("an answer").error_for_status().expect("ended");
        let mut events = sandbox.events().await;
        events.reverse();
        for event in events.iter().flat_map(|event| [event, event]) {
            assert_eq!(webhook(app, event, WEBHOOK_SECRET).send().await.is(200), json!({"received": true}));
        }
        let now = billing(app, USER).await;
        assert_eq!((&now["planId"], &now["monthlyLimit"]), (&json!("starter"), &json!(1000)), "{now}");
        let kinds: BTreeSet<&str> = events.iter().map(|event| text(event, "type")).collect();
        for kind in ["payment_intent.succeeded", "customer.subscription.created", "customer.subscription.deleted"] {
            assert!(kinds.contains(kind), "{kinds:?}");
        }
        // What is not signed, or signed otherwise, is not believed.
        let event = &events[0];
        let unsigned = app.request("POST", "/api/payments/webhook").anonymous().json(event).send().await;
        assert_eq!(unsigned.is(400), json!({"error": "Missing signature or webhook secret"}));
        let forged = webhook(app, event, "whsec_of_somebody").send().await;
        assert_eq!(forged.is(400), json!({"error": "Invalid signature"}));
        let fake = json!({"type": "payment_intent.succeeded", "data": {"object": {"metadata": {"userId": USER}}}});
        let garbled = webhook(app, &fake, "whsec_of_somebody").send().await;
        assert_eq!(garbled.is(400), json!({"error": "Invalid signature"}));
    })
    .await;
}
