//! Idempotency keys: whoever repeats a write gets the first answer and nothing is done twice; another request with the
//! same key is refused, and so is a repeat while the first is under way.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::books;
use crate::harness::{Answer, TestApp, TestRequest, list, on_both, text};

/// Every kind of write about customer jane, each with a body that differs from the first.
struct Write {
    path: String,
    method: &'static str,
    body: Value,
    other: Value,
    status: u16,
}

async fn writes(app: &TestApp) -> Vec<Write> {
    app.create_with("jane", "100").await;
    let grant = app.grant("jane", "1").await;
    let mut holds = Vec::new();
    for _ in 0..5 {
        let hold = json!({"customer": "jane", "meter": "minutes", "quantity": 4});
        holds.push(text(&app.post("/v1/holds", hold).await.is(201), "id").to_owned());
    }
    app.create("jill").await;
    let hosting = |quantity: u32| json!({"meter": "use", "quantity": quantity});
    let recurring = app.post("/v1/customers/jane/recurring_charges", hosting(1)).await.is(201);
    let basic = |quantity: u32| json!({"plan": "basic", "quantity": quantity, "by_invoice": true});
    let subscription = app.post("/v1/customers/jane/subscriptions", basic(1)).await.is(201);
    let of_subscription = |verb: &str| format!("/v1/subscriptions/{}/{verb}", text(&subscription, "id"));
    let (now, later) = (json!({"at_period_end": false}), json!({"resumes_at": "2026-03-09T00:00:00Z"}));
    let item = |price: u32| json!({"title": "Training", "price": price});
    let post = |path: &str, status, body, other| Write { path: path.to_owned(), method: "POST", body, other, status };
    let minutes = |quantity: u32| json!({"customer": "jane", "meter": "minutes", "quantity": quantity});
    let batch = |quantity| json!({"charges": [minutes(quantity), minutes(quantity + 1)]});
    let atomic = |quantity| json!({"charges": [minutes(quantity)], "atomic": true});
    let grant_of = |amount: u32| json!({"amount": amount, "kind": "promotional", "reason": "sorry"});
    let used = |quantity: u32| json!({"quantity": quantity, "metadata": {"call": "c1"}});
    let own = "/v1/customers/jane";
    vec![
        Write { method: "PUT", ..post(own, 200, json!({"profile": {"name": "Jane"}}), json!({"status": "closed"})) },
        Write {
            method: "PUT",
            ..post("/v1/customers/joan", 201, json!({"profile": {"email": "j@j.example"}}), json!({}))
        },
        post(&format!("{own}/grants"), 201, grant_of(1), grant_of(2)),
        post(&format!("{own}/grants/{}/void", text(&grant, "id")), 200, Value::Null, Value::Null),
        post(&format!("{own}/invoices"), 200, Value::Null, Value::Null),
        post("/v1/charges", 201, minutes(1), minutes(2)),
        post("/v1/charges/batch", 200, batch(1), batch(2)),
        post("/v1/charges/batch", 200, atomic(1), atomic(2)),
        post("/v1/events", 200, minutes(1), minutes(2)),
        post("/v1/events", 200, json!([minutes(1), minutes(2)]), Value::Null),
        post("/v1/holds", 201, minutes(1), minutes(2)),
        post(&format!("/v1/holds/{}/extend", holds[0]), 200, json!({"quantity": 1}), json!({"quantity": 2})),
        post(&format!("/v1/holds/{}/capture", holds[1]), 200, used(1), used(2)),
        post(&format!("/v1/holds/{}/settle", holds[2]), 200, used(1), used(2)),
        post(&format!("/v1/holds/{}/release", holds[3]), 200, Value::Null, Value::Null),
        post("/v1/customers/jill/subscriptions", 201, basic(1), basic(2)),
        post(&format!("{own}/items"), 201, item(1), item(2)),
        post(&format!("{own}/recurring_charges"), 201, hosting(1), hosting(2)),
        post(&format!("{own}/recurring_charges/{}/end", text(&recurring, "id")), 200, Value::Null, Value::Null),
        post(&of_subscription("change"), 200, json!({"quantity": 2}), json!({"quantity": 3})),
        post(&of_subscription("cancel"), 200, json!({}), now),
        post(&of_subscription("keep"), 200, Value::Null, Value::Null),
        post(&of_subscription("pause"), 200, json!({}), later),
        post(&of_subscription("resume"), 200, Value::Null, Value::Null),
    ]
}

fn request(app: &TestApp, write: &Write, body: &Value, key: &str) -> TestRequest {
    let request = app.request(write.method, &write.path).idempotency_key(key);
    if body.is_null() { request } else { request.json(body) }
}

#[tokio::test]
async fn every_write_is_done_once_and_answered_alike() {
    on_both(async |app| {
        let mut fresh = app.another().await;
        for (number, write) in writes(&app).await.iter().enumerate() {
            let what = format!("{} {} {}", write.method, write.path, write.body);
            let key = format!("key-{number}");
            let first = request(&app, write, &write.body, &key).send().await;
            assert_eq!((first.is(write.status), first.replayed()), (first.json(), false), "{what}");
            let done = state(&app).await;

            for server in [&app, &fresh] {
                let again = request(server, write, &write.body, &key).send().await;
                assert_eq!((again.is(write.status), again.replayed()), (first.json(), true), "{what}");
            }
            if !write.other.is_null() {
                let other = request(&app, write, &write.other, &key).send().await;
                other.refused(422, "operation_key_reused");
                request(&fresh, write, &write.other, &key).send().await.refused(422, "operation_key_reused");
            }
            assert_eq!(state(&app).await, done, "{what}");
            fresh = app.another().await;
        }
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}

/// Everything that a repeat could have changed.
async fn state(app: &TestApp) -> Vec<String> {
    let mut rows: Vec<String> = app.database.dump().await;
    rows.sort();
    rows
}

#[tokio::test]
async fn a_repeat_while_the_first_is_under_way_is_refused() {
    on_both(async |app| {
        for (number, write) in writes(&app).await.iter().enumerate() {
            let key = format!("key-{number}");
            let about = match write.path.split('/').collect::<Vec<_>>()[2..] {
                ["customers", customer, ..] => customer,
                ["holds", hold, _] => hold,
                ["subscriptions", subscription, _] => subscription,
                _ if write.path.ends_with("batch") || write.body.is_array() => "",
                _ => "jane",
            };
            let before = state(&app).await;
            let under_way = app.app.in_flight.enter("acme", about, &key).expect("the key is new");
            let refused = request(&app, write, &write.body, &key).send().await;
            assert_eq!(refused.refused(409, "idempotency_key_in_flight")["pointer"], "Idempotency-Key");
            assert_eq!(state(&app).await, before, "{}", write.path);
            drop(under_way);
            request(&app, write, &write.body, &key).send().await.is(write.status);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_repeats_at_once_one_is_done() {
    on_both(async |app| {
        app.create_with("jane", "100").await;
        let servers = [&app.another().await, &app];
        let charge = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let repeats = (0..20).map(|number| {
            let request = servers[number % 2].request("POST", "/v1/charges").json(&charge);
            tokio::spawn(request.idempotency_key("once").send())
        });
        let repeats: Vec<_> = repeats.collect();
        let mut first = BTreeSet::new();
        for repeat in repeats {
            let answer: Answer = repeat.await.unwrap();
            if answer.status == 409 {
                answer.refused(409, "idempotency_key_in_flight");
            } else {
                first.insert(answer.is(201).to_string());
            }
        }
        assert_eq!(first.len(), 1);
        assert_eq!(app.dollars("jane").await[0], "99.75");
    })
    .await;
}

#[tokio::test]
async fn the_key_may_stand_in_the_body_as_well() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let charge = json!({"customer": "jane", "meter": "minutes", "quantity": 1, "operation_key": "k1"});
        let charged = app.post("/v1/charges", charge.clone()).await.is(201);
        assert_eq!(charged["operation_key"], "k1");

        let bare = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let post = |body: &Value| app.request("POST", "/v1/charges").json(body);
        for again in [post(&charge), post(&charge).idempotency_key("k1"), post(&bare).idempotency_key("\"k1\"")] {
            let again = again.send().await;
            assert_eq!((again.is(201), again.replayed()), (charged.clone(), true));
        }
        let differing = post(&charge).idempotency_key("k2").send().await;
        assert_eq!(differing.refused(400, "operation_key_conflict")["pointer"], "/operation_key");
        let other = json!({"customer": "jane", "meter": "minutes", "quantity": 2, "operation_key": "k1"});
        app.post("/v1/charges", other).await.refused(422, "operation_key_reused");
        assert_eq!(app.dollars("jane").await[0], "9.75");
    })
    .await;
}

#[tokio::test]
async fn a_key_is_visible_ascii_and_sent_once() {
    let app = TestApp::start(crate::databases::Database::sqlite().await).await;
    app.create("jane").await;
    let longest = "k".repeat(255);
    let put = |key: &str| app.request("PUT", "/v1/customers/jane").json(&json!({})).idempotency_key(key);
    for key in ["", "\"\"", "tab\there", "naïve", &"k".repeat(256)] {
        assert_eq!(
            put(key).send().await.refused(400, "idempotency_key_invalid")["pointer"],
            "Idempotency-Key",
            "{key}"
        );
    }
    put("one").idempotency_key("two").send().await.refused(400, "idempotency_key_invalid");
    put(&longest).send().await.is(200);
}

#[tokio::test]
async fn a_refusal_does_not_use_up_the_key() {
    on_both(async |app| {
        app.create("jane").await;
        let charge = app.request("POST", "/v1/charges").idempotency_key("k1");
        let charge = charge.json(&json!({"customer": "jane", "meter": "minutes", "quantity": 1}));
        charge.clone().send().await.refused(402, "insufficient_funds");
        let batch = json!({"charges": [{"customer": "jane", "meter": "minutes", "quantity": 1}], "atomic": true});
        let batch = app.request("POST", "/v1/charges/batch").idempotency_key("k2").json(&batch);
        batch.clone().send().await.refused(402, "insufficient_funds");
        let hold = app.request("POST", "/v1/holds").idempotency_key("k3");
        let hold = hold.json(&json!({"customer": "jane", "meter": "minutes", "quantity": 1}));
        hold.clone().send().await.refused(402, "insufficient_funds");

        app.grant("jane", "1").await;
        for (request, status) in [(charge, 201), (batch, 200), (hold, 201)] {
            let done = request.send().await;
            assert_eq!((done.is(status), done.replayed()), (done.json(), false));
        }
        assert_eq!(app.dollars("jane").await, ["0.5", "0.25", "0.25", "0"]);
    })
    .await;
}

#[tokio::test]
async fn the_same_key_for_two_customers_is_two_operations() {
    on_both(async |app| {
        for customer in ["jane", "john"] {
            let put = app.request("PUT", &format!("/v1/customers/{customer}")).idempotency_key("k1");
            put.json(&json!({})).send().await.is(201);
            app.grant(customer, "1").await;
            let minutes = json!({"customer": customer, "meter": "minutes", "quantity": 1});
            let grant = json!({"amount": 1, "kind": "paid"});
            for (path, body) in [
                ("/v1/charges".to_owned(), &minutes),
                ("/v1/events".to_owned(), &minutes),
                ("/v1/holds".to_owned(), &minutes),
                (format!("/v1/customers/{customer}/grants"), &grant),
            ] {
                // Also while the other customer's request is under way.
                let other = if customer == "jane" { "john" } else { "jane" };
                let _under_way = app.app.in_flight.enter("acme", other, "k1").expect("nothing else is under way");
                let done = app.request("POST", &path).idempotency_key("k1").json(body).send().await;
                assert!(done.status < 300 && !done.replayed(), "{done:?}");
            }
            assert_eq!(app.dollars(customer).await, ["1.5", "0.25", "1.25", "0"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_done_once_and_each_charge_in_it_on_its_own() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        app.create("john").await;
        let minutes = |customer: &str, key: &str| {
            json!({"customer": customer, "meter": "minutes", "quantity": 1, "operation_key": key})
        };
        let charges = [minutes("jane", "a"), minutes("john", "a"), minutes("nobody", "a"), minutes("jane", "a")];
        let batch = app.request("POST", "/v1/charges/batch").json(&json!({"charges": charges}));
        let results = batch.clone().idempotency_key("k1").send().await.is(200);
        let statuses: Vec<_> = list(&results, "results").iter().map(|result| &result["status"]).collect();
        assert_eq!(statuses, [201, 402, 404, 201]);
        assert_eq!(results["results"][0], results["results"][3]);
        assert_eq!(results["results"][1]["problem"]["code"], "insufficient_funds");
        assert_eq!(results["results"][2]["problem"]["pointer"], "/charges/2/customer");

        // A charge of the batch is known by its own key, whatever request it comes in.
        let alone = app.post("/v1/charges", minutes("jane", "a")).await;
        assert_eq!((&alone.is(201)["id"], alone.replayed()), (&results["results"][0]["id"], true));
        app.grant("john", "1").await;
        assert_eq!(batch.clone().idempotency_key("k1").send().await.is(200), results);
        let anew = batch.idempotency_key("k2").send().await.is(200);
        assert_eq!((&anew["results"][1]["status"], &anew["results"][0]["id"]), (&json!(201), &results["results"][0]["id"]));
        assert_eq!((&app.dollars("jane").await[0], &app.dollars("john").await[0]), (&"0.75".to_owned(), &"0.75".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn all_or_none_is_one_customers() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        app.create_with("john", "1").await;
        let minutes =
            |customer: &str, quantity: u32| json!({"customer": customer, "meter": "minutes", "quantity": quantity});
        let batch =
            async |charges: Value| app.post("/v1/charges/batch", json!({"charges": charges, "atomic": true})).await;
        let across = batch(json!([minutes("jane", 1), minutes("john", 1)])).await;
        assert_eq!(across.refused(400, "atomic_across_customers")["pointer"], "/charges/1/customer");
        batch(json!([minutes("jane", 3), minutes("jane", 2)])).await.refused(402, "insufficient_funds");
        assert_eq!(app.dollars("jane").await[0], "1");

        let both = batch(json!([minutes("jane", 3), minutes("jane", 1)])).await.is(200);
        assert_eq!([&both["results"][0]["as_of"], &both["results"][1]["as_of"]], [3, 3]);
        assert_eq!(app.dollars("jane").await[0], "0");
    })
    .await;
}
