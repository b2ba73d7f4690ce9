//! Events: usage that has happened, as CloudEvents or in the short form, one or many; recorded whatever the wallet holds.

use serde_json::{Value, json};

use crate::books;
use crate::harness::{Answer, TestApp, list, on_both, text};

/// A request to a language model, as a CloudEvent about customer jane.
fn request_to_model(id: &str, tokens: u32) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/agents/7", "type": "llm.request", "subject": "jane",
        "time": "2026-03-02T08:59:59.123456789Z", "data": {"used_tokens": tokens, "model": "small", "temperature": 0.7}})
}

async fn send(app: &TestApp, content_type: &str, body: &Value) -> Answer {
    app.request("POST", "/v1/events").body(content_type, body.to_string()).send().await
}

#[tokio::test]
async fn a_cloud_event_is_charged_by_the_meters_of_its_type() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        for (content_type, id) in [("application/cloudevents+json; charset=utf-8", "r1"), ("application/json", "r2")] {
            let recorded = send(&app, content_type, &request_to_model(id, 1_000_000)).await.is(200);
            assert_eq!((&recorded["status"], &recorded["repeated"]), (&json!(200), &json!(false)));
            let charge = &recorded["charges"][0];
            assert_eq!([&charge["meter"], &charge["amount"], &charge["source"]], ["tokens", "0.15", "event"]);
            assert_eq!((&charge["dimensions"], &charge["owed"]), (&json!({"model": "small"}), &json!("0")));
            assert_eq!(charge["time"], "2026-03-02T08:59:59.123456Z");
            assert_eq!(charge["operation_key"], format!("/agents/7 {id}"));
        }
        let run = json!({"specversion": "1.0", "id": "r1", "source": "/agents", "type": "agent.run", "customer": "jane",
            "subject": "agent-7"});
        let run = send(&app, "application/cloudevents+json", &run).await.is(200);
        assert_eq!([&run["charges"][0]["quantity"], &run["charges"][0]["subject"]], ["1", "agent-7"]);
        assert_eq!(app.dollars("jane").await[0], "9.65");
    })
    .await;
}

#[tokio::test]
async fn an_event_counts_once_by_its_id() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let first = send(&app, "application/json", &request_to_model("r1", 1_000_000)).await.is(200);
        let again = send(&app.another().await, "application/json", &request_to_model("r1", 1_000_000)).await;
        assert_eq!((&again.is(200)["charges"], &again.json()["repeated"]), (&first["charges"], &json!(true)));
        assert!(again.replayed());
        send(&app, "application/json", &request_to_model("r1", 2)).await.refused(422, "operation_key_reused");

        let short = json!({"customer": "jane", "meter": "minutes", "quantity": 4, "id": "m1", "subject": "line-1"});
        let first = app.post("/v1/events", short.clone()).await.is(200);
        assert_eq!(app.post("/v1/events", short.clone()).await.is(200)["charges"], first["charges"]);
        let mut other = short;
        other["quantity"] = json!(5);
        app.post("/v1/events", other).await.refused(422, "operation_key_reused");
        assert_eq!(app.dollars("jane").await[0], "8.85");
    })
    .await;
}

#[tokio::test]
async fn an_idempotency_key_stands_for_the_id() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let event = |quantity: u32| json!({"customer": "jane", "meter": "minutes", "quantity": quantity});
        let post = async |key: &str, body: &Value| {
            app.request("POST", "/v1/events").idempotency_key(key).json(body).send().await
        };
        let first = post("k1", &event(1)).await;
        assert_eq!((&first.is(200)["charges"][0]["operation_key"], first.replayed()), (&json!("k1"), false));
        let again = post("k1", &event(1)).await;
        assert_eq!((again.is(200), again.replayed()), (first.json(), true));

        let events = json!([event(1), event(1), {"customer": "jane", "meter": "minutes", "quantity": 1, "id": "own"}]);
        let first = post("k2", &events).await;
        let keys: Vec<_> = list(&first.is(200), "results").iter().map(key).collect();
        assert_eq!(keys, ["k2/0", "k2/1", "own"]);
        let again = post("k2", &events).await;
        assert_eq!((again.is(200), again.replayed()), (first.json(), true));
        assert_eq!(app.dollars("jane").await[0], "9");
    })
    .await;
}

fn key(result: &Value) -> String {
    text(&result["charges"][0], "operation_key").to_owned()
}

#[tokio::test]
async fn without_credit_it_is_recorded_as_owed() {
    on_both(async |app| {
        app.create_with("jane", "0.1").await;
        app.put("/v1/customers/jane", json!({"overage": {"policy": "owe", "limit": 0}})).await.is(200);
        let recorded = send(&app, "application/json", &request_to_model("r1", 2_000_000)).await.is(200);
        assert_eq!([&recorded["charges"][0]["amount"], &recorded["charges"][0]["owed"]], ["0.3", "0.2"]);
        assert_eq!(app.dollars("jane").await, ["0", "0", "0", "0.2"]);

        for status in ["suspended", "closed"] {
            app.put("/v1/customers/jane", json!({"status": status})).await.is(200);
            let event = json!({"customer": "jane", "meter": "numbers", "quantity": 1});
            assert_eq!(app.post("/v1/events", event).await.is(200)["charges"][0]["owed"], "3", "{status}");
        }
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn a_list_is_recorded_in_its_order() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        app.create_with("john", "10").await;
        let minutes =
            |customer: &str, id: &str| json!({"customer": customer, "meter": "minutes", "quantity": 1, "id": id});
        let events =
            json!([minutes("jane", "a"), minutes("john", "a"), request_to_model("r1", 1), minutes("jane", "a")]);
        let recorded = app.post("/v1/events", events).await.is(200);
        let charges: Vec<_> = list(&recorded, "results").iter().map(|result| &result["charges"][0]["as_of"]).collect();
        assert_eq!(charges, [3, 3, 4, 3]);
        let repeated: Vec<_> = list(&recorded, "results").iter().map(|result| &result["repeated"]).collect();
        assert_eq!(repeated, [false, false, false, true]);

        let batch = json!([request_to_model("r1", 1), request_to_model("r2", 1)]);
        let recorded = send(&app, "application/cloudevents-batch+json", &batch).await.is(200);
        let repeated: Vec<_> = list(&recorded, "results").iter().map(|result| &result["repeated"]).collect();
        assert_eq!(repeated, [true, false]);

        let changed = json!([minutes("jane", "b"), request_to_model("r1", 7)]);
        let recorded = app.post("/v1/events", changed).await.is(200);
        assert_eq!([&recorded["results"][0]["status"], &recorded["results"][1]["status"]], [200, 422]);
        assert_eq!(recorded["results"][1]["problem"]["code"], "operation_key_reused");
    })
    .await;
}

#[tokio::test]
async fn a_list_with_an_event_that_cannot_be_recorded_is_refused_as_a_whole() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let good = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let mut unknown_type = request_to_model("r1", 1);
        unknown_type["type"] = json!("llm.answer");
        let mut without_quantity = request_to_model("r1", 1);
        without_quantity["data"] = json!({"model": "small"});
        let with = |member: &str, value: Value| {
            let mut event = good.clone();
            event[member] = value;
            event
        };
        let before = app.database.dump().await;
        for (bad, status, code, pointer) in [
            (with("customer", json!("nobody")), 404, "unknown_customer", "/1/customer"),
            (with("meter", json!("hours")), 422, "unknown_meter", "/1/meter"),
            (with("dimensions", json!({"line": "1"})), 422, "unknown_dimension", "/1/dimensions"),
            (with("time", json!("2026-03-02T09:05:01Z")), 422, "time_in_future", "/1/time"),
            (with("quantity", json!(-1)), 400, "invalid_value", "/1/quantity"),
            (unknown_type, 422, "unknown_event_type", "/1/type"),
            (without_quantity, 400, "invalid_value", "/1/data"),
            (json!("an event"), 400, "invalid_value", "/1"),
        ] {
            let what = bad.to_string();
            let refused = app.post("/v1/events", json!([good, bad])).await.refused(status, code);
            assert_eq!(refused["pointer"], pointer, "{what}");
        }
        assert_eq!(app.database.dump().await, before);
    })
    .await;
}

#[tokio::test]
async fn usage_is_late_or_a_little_early() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        for (time, quantity) in [("2026-03-02T09:05:00Z", 1), ("2025-12-31T23:59:59Z", 2), ("1970-01-01T00:00:00Z", 3)]
        {
            let event = json!({"customer": "jane", "meter": "minutes", "quantity": quantity, "time": time});
            assert_eq!(app.post("/v1/events", event).await.is(200)["charges"][0]["time"], time);
        }
        let charges = app.pages("/v1/customers/jane/charges", 2).await;
        let quantities: Vec<_> = charges.iter().map(|charge| text(charge, "quantity")).collect();
        assert_eq!(quantities, ["1", "2", "3"], "the newest use first");
    })
    .await;
}
