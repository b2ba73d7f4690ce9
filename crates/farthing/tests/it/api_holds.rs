//! Holds: what a call or an agent reserves while it runs, extends as it goes on, and settles when it ends.

use serde_json::{Value, json};

use crate::books;
use crate::harness::{Answer, TestApp, on_both, text};

/// Asks for a hold for customer jane.
async fn hold(app: &TestApp, more: Value) -> Answer {
    let mut hold = json!({"customer": "jane", "meter": "minutes"});
    hold.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    app.post("/v1/holds", hold).await
}

/// Does something to a hold.
async fn on_hold(app: &TestApp, hold: &Value, verb: &str, body: Value) -> Answer {
    app.post(&format!("/v1/holds/{}/{verb}", text(hold, "id")), body).await
}

async fn read(app: &TestApp, hold: &Value) -> Value {
    app.get(&format!("/v1/holds/{}", text(hold, "id"))).await.is(200)
}

#[tokio::test]
async fn a_call_of_ten_minutes_is_extended_minute_by_minute() {
    on_both(async |app| {
        let grant = app.create_with("jane", "10").await;
        let call = hold(&app, json!({"quantity": 1, "expires_in": 90, "subject": "line-1"})).await.is(201);
        assert_eq!((&call["state"], &call["quantity"]), (&json!("open"), &json!("1")));
        assert_eq!(call["held"], json!([{"grant": grant["id"], "asset": "USD", "amount": "0.25"}]));
        assert_eq!(call["expires_at"], "2026-03-02T09:01:30Z");

        for minute in 2..=10 {
            app.clock.advance(60);
            let longer = on_hold(&app, &call, "extend", json!({"quantity": 1, "expires_in": 90})).await.is(200);
            assert_eq!(longer["quantity"], minute.to_string());
        }
        assert_eq!(read(&app, &call).await["expires_at"], "2026-03-02T09:10:30Z");
        assert_eq!(app.dollars("jane").await, ["10", "2.5", "7.5", "0"]);

        app.clock.advance(33);
        let settled = on_hold(&app, &call, "settle", json!({"quantity": "9.55"})).await.is(200);
        assert_eq!((&settled["state"], &settled["charge"]["amount"]), (&json!("settled"), &json!("2.3875")));
        assert_eq!((&settled["charge"]["subject"], &settled["charge"]["hold"]), (&json!("line-1"), &call["id"]));
        assert_eq!(app.dollars("jane").await, ["7.6125", "0", "7.6125", "0"]);
        assert_eq!(read(&app, &call).await["state"], "settled");
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn two_calls_do_not_spend_the_same_dollar() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let first = hold(&app, json!({"quantity": 3})).await.is(201);
        let refusal = hold(&app, json!({"quantity": 2})).await.refused(402, "held_by_others");
        assert_eq!([&refusal["required"], &refusal["available"]], ["0.5", "0.25"]);
        app.charge("jane", "minutes", "2").await.refused(402, "held_by_others");
        hold(&app, json!({"quantity": 5})).await.refused(402, "insufficient_funds");

        let second = hold(&app, json!({"quantity": 1})).await.is(201);
        on_hold(&app, &second, "extend", json!({"quantity": 1})).await.refused(402, "held_by_others");
        on_hold(&app, &first, "release", json!({})).await.is(200);
        on_hold(&app, &second, "extend", json!({"quantity": 1})).await.is(200);
        assert_eq!(app.dollars("jane").await, ["1", "0.5", "0.5", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_hold_expires_by_time_alone() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let short = hold(&app, json!({"quantity": 4})).await.is(201);
        assert_eq!(short["expires_at"], "2026-03-02T09:02:00Z", "as the tenant file says");
        app.clock.advance(119);
        assert_eq!(app.dollars("jane").await, ["1", "1", "0", "0"]);
        assert_eq!(held_of_grant(&app).await, "1");

        app.clock.advance(1);
        assert_eq!(app.dollars("jane").await, ["1", "0", "1", "0"]);
        assert_eq!(held_of_grant(&app).await, "0");
        assert_eq!(read(&app, &short).await["state"], "expired");
        for verb in ["extend", "capture", "settle", "release"] {
            // A release takes no body, and does not look at one.
            on_hold(&app, &short, verb, json!({"quantity": 1})).await.refused(409, "hold_ended");
        }
        app.charge("jane", "minutes", "4").await.is(201);
    })
    .await;
}

async fn held_of_grant(app: &TestApp) -> String {
    let grants = app.get("/v1/customers/jane/grants?limit=1").await.is(200);
    text(&grants["data"][0], "held").to_owned()
}

#[tokio::test]
async fn what_was_used_above_the_hold_is_charged_and_owed_if_it_must() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let call = hold(&app, json!({"quantity": 2})).await.is(201);
        let settled = on_hold(&app, &call, "settle", json!({"quantity": 6})).await.is(200);
        assert_eq!([&settled["charge"]["amount"], &settled["charge"]["owed"]], ["1.5", "0.5"]);
        assert_eq!(app.dollars("jane").await, ["0", "0", "0", "0.5"]);
        assert_eq!(app.grant("jane", "2").await["amount"], "2");
        assert_eq!(app.dollars("jane").await, ["1.5", "0", "1.5", "0"]);
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn a_part_is_captured_and_the_rest_released() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let call = hold(&app, json!({"quantity": 4})).await.is(201);
        let captured = on_hold(&app, &call, "capture", json!({"quantity": 1, "metadata": {"part": "1"}})).await.is(200);
        assert_eq!((&captured["state"], &captured["quantity"]), (&json!("open"), &json!("3")));
        assert_eq!(
            (&captured["charge"]["amount"], &captured["charge"]["metadata"]["part"]),
            (&json!("0.25"), &json!("1"))
        );
        assert_eq!(app.dollars("jane").await, ["0.75", "0.75", "0", "0"]);

        let path = format!("/v1/holds/{}/release", text(&call, "id"));
        let released = app.request("POST", &path).send().await.is(200);
        assert_eq!((&released["state"], released.get("charge")), (&json!("released"), None));
        assert_eq!(app.dollars("jane").await, ["0.75", "0", "0.75", "0"]);
        let again = app.request("POST", &path).send().await;
        assert_eq!((again.is(200), again.replayed()), (released, true));
    })
    .await;
}

#[tokio::test]
async fn a_hold_is_settled_once_and_tells_it_again() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let call = hold(&app, json!({"quantity": 4})).await.is(201);
        let settled = on_hold(&app, &call, "settle", json!({"quantity": 1})).await.is(200);
        for server in [&app, &app.another().await] {
            let again = on_hold(server, &call, "settle", json!({"quantity": 1})).await;
            assert_eq!((again.is(200), again.replayed()), (settled.clone(), true));
        }
        on_hold(&app, &call, "settle", json!({"quantity": 2})).await.refused(422, "operation_key_reused");
        on_hold(&app, &call, "capture", json!({"quantity": 1})).await.refused(409, "hold_ended");
        assert_eq!(app.pages("/v1/customers/jane/charges", 5).await, [settled["charge"].clone()]);
    })
    .await;
}

#[tokio::test]
async fn money_is_held_by_its_amount() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let agent =
            hold(&app, json!({"amount": "2.5", "meter": "tokens", "dimensions": {"model": "small"}})).await.is(201);
        assert_eq!((&agent["quantity"], &agent["held"][0]["amount"]), (&json!("0"), &json!("2.5")));
        on_hold(&app, &agent, "extend", json!({"amount": "1.5"})).await.is(200);
        assert_eq!(app.dollars("jane").await, ["10", "4", "6", "0"]);

        let settled = on_hold(&app, &agent, "settle", json!({"quantity": 20_000_000})).await.is(200);
        assert_eq!(
            (&settled["charge"]["amount"], &settled["charge"]["dimensions"]["model"]),
            (&json!("3"), &json!("small"))
        );
        assert_eq!(app.dollars("jane").await, ["7", "0", "7", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_hold_says_how_much_one_way() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        assert_eq!(hold(&app, json!({})).await.refused(400, "invalid_value")["pointer"], "/quantity");
        let both = hold(&app, json!({"quantity": 1, "amount": 1})).await;
        assert_eq!(both.refused(400, "invalid_value")["pointer"], "/amount");
        for seconds in [0, 2_678_401] {
            let refused = hold(&app, json!({"quantity": 1, "expires_in": seconds})).await;
            assert_eq!(refused.refused(400, "invalid_value")["pointer"], "/expires_in");
        }
        assert_eq!(app.dollars("jane").await[1], "0");
    })
    .await;
}
