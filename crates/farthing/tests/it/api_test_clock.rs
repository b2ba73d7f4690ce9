//! The test clock: months in one call, everything due on the way done before it answers.

use serde_json::{Value, json};

use crate::databases::{Database, on_both};
use crate::harness::{TestApp, text};

async fn advance(app: &TestApp, to: &str) -> Value {
    app.post("/v1/test_clock/advance", json!({"to": to})).await.is(200)
}

#[tokio::test]
async fn a_day_goes_by_in_one_call_and_what_nobody_paid_is_ended() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        app.create("jane").await;
        let bought = app.post("/v1/customers/jane/purchases", json!({"pack": "starter"})).await.is(201);
        let before = app.get("/v1/test_clock").await.is(200);
        assert_eq!((text(&before, "now"), &before["held"]), ("2026-03-02T09:00:00Z", &json!(false)));

        let after = advance(&app, "2026-03-04T09:00:00Z").await;
        assert_eq!((text(&after, "now"), &after["held"]), ("2026-03-04T09:00:00Z", &json!(true)));
        let ended = app.get(&format!("/v1/purchases/{}", text(&bought, "id"))).await.is(200);
        assert_eq!(text(&ended, "state"), "canceled");
        assert_eq!(sandbox.all("payment_intents").await[0]["status"], "canceled");
        // The provider's time has come along.
        let clock = sandbox.get("/_sandbox/clock").await;
        assert_eq!((&clock["now"], &clock["frozen"]), (&json!(1_772_614_800), &json!(true)), "{clock}");

        // Time stands still, for every server and after a restart, until it is moved on.
        app.clock.advance(3600);
        assert_eq!(text(&app.get("/v1/test_clock").await.is(200), "now"), "2026-03-04T09:00:00Z");
        let other = app.another().await;
        assert_eq!(text(&other.get("/v1/test_clock").await.is(200), "now"), "2026-03-04T09:00:00Z");
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_bought_while_time_stands_still_is_paid_at_once() {
    on_both(async |database| {
        let (app, sandbox) = TestApp::shop(database).await;
        app.create("jane").await;
        advance(&app, "2026-06-30T23:59:59Z").await;
        let bought = app.post("/v1/customers/jane/purchases", json!({"pack": "starter"})).await.is(201);
        assert_eq!(text(&bought, "created_at"), "2026-06-30T23:59:59Z");
        assert_eq!(sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await.0, 200);
        let path = format!("/v1/purchases/{}", text(&bought, "id"));
        for _ in 0..200 {
            if text(&app.get(&path).await.is(200), "state") == "paid" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let paid = app.get(&path).await.is(200);
        assert_eq!((text(&paid, "state"), text(&paid, "paid_at")), ("paid", "2026-06-30T23:59:59Z"));
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn grants_and_holds_lapse_by_the_tenants_time() {
    let app = TestApp::start(Database::sqlite().await).await;
    app.create("jane").await;
    let grant = json!({"amount": "10", "kind": "paid", "expires_at": "2026-03-31T00:00:00Z"});
    app.post("/v1/customers/jane/grants", grant).await.is(201);
    assert_eq!(app.dollars("jane").await[2], "10");
    advance(&app, "2026-03-31T00:00:00Z").await;
    assert_eq!(app.dollars("jane").await[2], "0");
}

#[tokio::test]
async fn time_goes_forward_and_for_test_tenants_only() {
    let app = TestApp::start(Database::sqlite().await).await;
    for to in ["2026-03-02T08:59:59Z", "2046-01-01T00:00:00Z"] {
        app.post("/v1/test_clock/advance", json!({"to": to})).await.refused(422, "invalid_time");
    }
    app.post("/v1/test_clock/advance", json!({"to": "tomorrow"})).await.refused(400, "invalid_value");
    let live = include_str!("../../../../examples/assistant.toml").replace("mode = \"test\"", "mode = \"live\"");
    let (before, rest) = live.split_once("[connection]").expect("it has a connection");
    let (_, after) = rest.split_once("# What is not covered").expect("it goes on");
    let file: &'static str = Box::leak(format!("{before}\n# What is not covered{after}").into_boxed_str());
    let live = TestApp::with(Database::sqlite().await, file).await;
    live.get("/v1/test_clock").await.refused(409, "not_in_test_mode");
    live.post("/v1/test_clock/advance", json!({"to": "2026-04-01T00:00:00Z"})).await.refused(409, "not_in_test_mode");
}

#[tokio::test]
async fn what_is_used_on_the_way_is_recorded_at_its_time() {
    let app = TestApp::start(Database::sqlite().await).await;
    app.create("jane").await;
    let event =
        |time: &str, id: &str| json!({"customer": "jane", "meter": "tokens", "quantity": 5, "id": id, "time": time});
    let grant = json!({"amount": "10", "kind": "paid", "expires_at": "2026-03-31T00:00:00Z"});
    app.post("/v1/customers/jane/grants", grant).await.is(201);
    let mut events = vec![event("2026-04-01T00:00:00Z", "after"), event("2026-03-30T12:00:00.5Z", "before")];
    let body = json!({"to": "2026-05-01T00:00:00Z", "events": events});
    assert_eq!(text(&app.post("/v1/test_clock/advance", body).await.is(200), "now"), "2026-05-01T00:00:00Z");
    // Only the one that came while the grant lasted was covered by it.
    let charges = app.get("/v1/customers/jane/charges").await.is(200);
    let told: Vec<_> = charges["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|charge| {
            (
                text(charge, "recorded_at").to_owned(),
                charge["covered_by"].as_array().is_some_and(|covers| !covers.is_empty()),
            )
        })
        .collect();
    assert_eq!(told, [("2026-04-01T00:00:00Z".to_owned(), false), ("2026-03-30T12:00:00.5Z".to_owned(), true)]);

    // Each has to be on the way, and of a customer that there is.
    for (at, status, code) in
        [("2026-04-30T00:00:00Z", 422, "invalid_time"), ("2026-07-01T00:00:00Z", 422, "invalid_time")]
    {
        events[0] = event(at, "late");
        events[1] = event("2026-05-02T00:00:00Z", "on-the-way");
        let body = json!({"to": "2026-06-01T00:00:00Z", "events": events});
        app.post("/v1/test_clock/advance", body).await.refused(status, code);
    }
    let stranger = json!({"customer": "nobody", "meter": "tokens", "quantity": 1, "time": "2026-05-02T00:00:00Z"});
    let body = json!({"to": "2026-06-01T00:00:00Z", "events": [stranger]});
    app.post("/v1/test_clock/advance", body).await.refused(404, "unknown_customer");
    assert_eq!(text(&app.get("/v1/test_clock").await.is(200), "now"), "2026-05-01T00:00:00Z");
}
