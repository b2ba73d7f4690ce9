//! Erasure: a customer's personal data is gone, its books stay.

use serde_json::json;

use crate::books;
use crate::harness::{TestApp, list, on_both, text};

/// What says who the customer is, each word in one place.
const PERSONAL: [&str; 9] = [
    "jane@example.com",
    "Jane Doe",
    "her note",
    "her phone",
    "her call",
    "sorry, Jane",
    "key-of-jane",
    "event-of-jane",
    "agent-of-jane",
];

/// Everything that can be said of a customer.
async fn tell_all(app: &TestApp) {
    let jane = "/v1/customers/jane@example.com";
    let profile =
        json!({"profile": {"name": "Jane Doe", "email": "jane@example.com", "metadata": {"note": "her note"}}});
    app.request("PUT", jane).idempotency_key("key-of-jane").json(&profile).send().await.is(201);
    let grant = json!({"amount": 10, "kind": "paid", "reason": "sorry, Jane", "operation_key": "key-of-jane"});
    app.post(&format!("{jane}/grants"), grant).await.is(201);
    let charge = json!({"customer": "jane@example.com", "meter": "minutes", "quantity": 2, "subject": "her phone",
        "metadata": {"call": "her call"}, "operation_key": "key-of-jane"});
    app.post("/v1/charges", charge.clone()).await.is(201);
    app.post("/v1/charges/batch", json!({"charges": [charge]})).await.is(200);
    let event = json!({"customer": "jane@example.com", "meter": "minutes", "quantity": 2, "id": "event-of-jane"});
    app.post("/v1/events", event).await.is(200);
    for operation_key in ["key-of-jane", "key-of-jane-2"] {
        let hold = json!({"customer": "jane@example.com", "meter": "minutes", "quantity": 2, "subject": "agent-of-jane",
            "operation_key": operation_key});
        let hold = app.post("/v1/holds", hold).await.is(201);
        if operation_key == "key-of-jane" {
            let used = json!({"quantity": 1, "metadata": {"call": "her call"}, "operation_key": "key-of-jane"});
            app.post(&format!("/v1/holds/{}/settle", text(&hold, "id")), used).await.is(200);
        }
    }
}

#[tokio::test]
async fn personal_data_is_gone_and_the_books_stay() {
    on_both(async |app| {
        tell_all(&app).await;
        let path = "/v1/customers/jane@example.com";
        let before = app.pages(&format!("{path}/entries"), 50).await;
        let charges = app.pages(&format!("{path}/charges"), 50).await;
        let told = app.database.dump().await.concat();
        assert!(PERSONAL.iter().all(|word| told.contains(word)), "{told}");

        let erase = app.request("POST", &format!("{path}/erase")).idempotency_key("forget");
        let erased = erase.clone().send().await.is(200);
        let again = erase.send().await;
        assert_eq!((again.is(200), again.replayed()), (erased.clone(), true));
        let kept = app.database.dump().await.concat();
        for word in PERSONAL {
            assert!(!kept.contains(word), "`{word}` is still there");
        }

        let new = format!("/v1/customers/{}", text(&erased, "id"));
        let customer = app.get(&new).await.is(200);
        assert_eq!((&customer["status"], &customer["profile"]), (&json!("closed"), &json!({"metadata": {}})));
        assert_eq!(app.pages(&format!("{new}/entries"), 50).await, before);
        let wallet = app.get(&format!("{new}/wallet")).await.is(200);
        assert_eq!(wallet["balances"]["USD"]["balance"], "8.75");
        for charge in &charges {
            let nameless = app.get(&format!("/v1/charges/{}", text(charge, "id"))).await.is(200);
            assert_eq!((&nameless["customer"], &nameless["amount"]), (&erased["id"], &charge["amount"]));
            for member in ["subject", "metadata", "operation_key"] {
                assert_eq!(nameless.get(member), None);
            }
        }
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn every_read_shows_what_is_left() {
    on_both(async |app| {
        tell_all(&app).await;
        let erased = app.post("/v1/customers/jane@example.com/erase", json!({})).await.is(200);
        let new = format!("/v1/customers/{}", text(&erased, "id"));
        for part in
            ["", "/wallet", "/wallet/statement", "/entries", "/charges", "/grants", "/usage", "/usage?group_by=subject"]
        {
            let answer = app.get(&format!("{new}{part}")).await;
            answer.is(200);
            assert!(PERSONAL.iter().all(|word| !answer.text().contains(word)), "{part}: {}", answer.text());
            if !part.contains('?') {
                let path = format!("/v1/customers/jane@example.com{part}");
                app.get(&path).await.refused(404, "unknown_customer");
            }
        }
        let customers = app.get("/v1/customers").await.is(200);
        assert_eq!(list(&customers, "data").len(), 1);
        for charge in app.pages(&format!("{new}/charges"), 50).await {
            let explained = app.get(&format!("/v1/charges/{}/explain", text(&charge, "id"))).await;
            assert_eq!(explained.is(200)["agrees"], true);
            assert!(PERSONAL.iter().all(|word| !explained.text().contains(word)), "{}", explained.text());
        }
    })
    .await;
}

#[tokio::test]
async fn an_erased_customer_is_closed_and_its_id_is_free_again() {
    on_both(async |app| {
        tell_all(&app).await;
        let path = "/v1/customers/jane@example.com";
        let erased = app.post(&format!("{path}/erase"), json!({})).await.is(200);
        let id = text(&erased, "id");
        app.post(&format!("{path}/erase"), json!({})).await.refused(404, "unknown_customer");
        app.put(&format!("/v1/customers/{id}"), json!({"status": "active"})).await.refused(400, "invalid_parameter");
        app.charge(id, "minutes", "1").await.refused(403, "closed");
        let gift = json!({"amount": 1, "kind": "promotional"});
        app.post(&format!("/v1/customers/{id}/grants"), gift).await.refused(403, "closed");

        let anew = app.put(path, json!({})).await.is(201);
        assert_eq!((&anew["profile"], &anew["as_of"]), (&json!({"metadata": {}}), &json!(1)));
        assert_eq!(app.dollars("jane@example.com").await, ["0", "0", "0", "0"]);
        assert_eq!(app.pages(&format!("{path}/charges"), 50).await, [] as [serde_json::Value; 0]);
        // Its keys stay used: what they made is another customer's now.
        let put = app.request("PUT", path).idempotency_key("key-of-jane");
        let profile =
            json!({"profile": {"name": "Jane Doe", "email": "jane@example.com", "metadata": {"note": "her note"}}});
        put.json(&profile).send().await.refused(422, "operation_key_reused");
        books::assert_balanced(&*app.app.store).await;
    })
    .await;
}
