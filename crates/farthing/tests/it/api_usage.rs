//! Usage in sums, and single charges explained to the last step.

use serde_json::{Value, json};

use crate::books;
use crate::databases::Database;
use crate::harness::{TestApp, list, on_both, text};

/// Tokens of two agents and two models over two hours, and minutes of one of them.
async fn used(app: &TestApp) {
    app.create_with("jane", "100").await;
    for (time, subject, meter, quantity, model) in [
        ("08:10", "ann", "tokens", 1_000_000, "small"),
        ("08:20", "ann", "tokens", 2_000_000, "large"),
        ("08:20", "bob", "tokens", 3_000_000, "small"),
        ("09:00", "bob", "tokens", 4_000_000, "large"),
        ("09:01", "ann", "minutes", 8, ""),
    ] {
        let dimensions = if model.is_empty() { json!({}) } else { json!({"model": model}) };
        let charge = json!({"customer": "jane", "meter": meter, "quantity": quantity, "subject": subject,
            "dimensions": dimensions, "time": format!("2026-03-02T{time}:00Z")});
        app.post("/v1/charges", charge).await.is(201);
    }
}

#[tokio::test]
async fn usage_is_summed_by_meter_window_subject_and_dimension() {
    on_both(async |app| {
        used(&app).await;
        for (query, expected) in [
            ("", &["minutes 8 2 x1", "tokens 10000000 12.6 x4"][..]),
            ("?meter=minutes", &["minutes 8 2 x1"]),
            ("?subject=bob", &["tokens 7000000 8.45 x2"]),
            ("?meter=tokens&group_by=subject", &["ann tokens 3000000 4.15 x2", "bob tokens 7000000 8.45 x2"]),
            ("?meter=tokens&group_by=dimension:model", &["large tokens 6000000 12 x2", "small tokens 4000000 0.6 x2"]),
            (
                "?meter=tokens&window=hour",
                &["2026-03-02T08:00:00Z tokens 6000000 4.6 x3", "2026-03-02T09:00:00Z tokens 4000000 8 x1"],
            ),
            (
                "?window=minute&subject=ann&from=2026-03-02T08:20:00Z&to=2026-03-02T09:01:00Z",
                &["2026-03-02T08:20:00Z tokens 2000000 4 x1"],
            ),
            ("?window=day&meter=tokens", &["2026-03-02T00:00:00Z tokens 10000000 12.6 x4"]),
            ("?from=2026-03-02T09:01:01Z", &[]),
        ] {
            let mut sums = sums(&app.get(&format!("/v1/customers/jane/usage{query}")).await.is(200));
            sums.sort();
            assert_eq!(sums, expected, "{query}");
        }
    })
    .await;
}

/// Each sum in words: what it is grouped by, the meter, the quantity, the amount, the number of charges.
fn sums(usage: &Value) -> Vec<String> {
    let words = |sum: &Value| {
        let named = ["window", "subject", "dimension", "meter", "quantity", "amount"].map(|part| sum[part].as_str());
        format!("{} x{}", named.into_iter().flatten().collect::<Vec<_>>().join(" "), sum["charges"])
    };
    list(usage, "data").iter().map(words).collect()
}

#[tokio::test]
async fn a_sum_that_is_too_large_says_so() {
    on_both(async |app| {
        app.create("jane").await;
        for _ in 0..2 {
            let event = json!({"customer": "jane", "meter": "runs", "quantity": "9000000000000"});
            app.post("/v1/events", event).await.is(200);
        }
        app.get("/v1/customers/jane/usage").await.refused(422, "amount_out_of_range");
        assert_eq!(app.dollars("jane").await[3], "0.1");
    })
    .await;
}

#[tokio::test]
async fn an_answer_has_at_most_ten_thousand_sums() {
    let app = TestApp::start(Database::sqlite().await).await;
    app.create("jane").await;
    let mut agents = 1..=10_001;
    loop {
        let event =
            |agent| json!({"customer": "jane", "meter": "runs", "quantity": 1, "subject": format!("agent-{agent}")});
        let events: Vec<_> = agents.by_ref().take(1000).map(event).collect();
        if events.is_empty() {
            break;
        }
        app.post("/v1/events", json!(events)).await.is(200);
    }
    app.get("/v1/customers/jane/usage?group_by=subject").await.refused(422, "too_many_results");
    assert_eq!(sums(&app.get("/v1/customers/jane/usage").await.is(200)), ["runs 10001 500.05 x10001"]);
}

#[tokio::test]
async fn more_is_sold_in_all_than_a_wallet_can_hold() {
    on_both(async |app| {
        app.create("jane").await;
        let most = "9000000000000";
        for _ in 0..3 {
            let grant = json!({"amount": most, "asset": "use", "kind": "paid"});
            app.post("/v1/customers/jane/grants", grant).await.is(201);
            app.charge("jane", "use", most).await.is(201);
        }
        assert_eq!(books::assert_balanced(&*app.app.store).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_graduated_charge_is_explained_by_its_tiers() {
    on_both(async |app| {
        app.create_with("jane", "100").await;
        let first = app.charge("jane", "storage", "8").await.is(201);
        let second = app.charge("jane", "storage", "6").await.is(201);
        assert_eq!([&first["amount"], &second["amount"]], ["8", "6"]);

        let explained = explain(&app, &second).await;
        assert_eq!((&explained["agrees"], &explained["charge"]), (&json!(true), &second));
        let pricing = &explained["pricing"];
        assert_eq!([&pricing["counted_before"], &pricing["total_before"], &pricing["total_after"]], ["8", "8", "14"]);
        assert_eq!(
            pricing["steps"],
            json!([
                {"tier": 1, "quantity": "10", "unit_amount": "1", "per": 1, "flat_amount": "0"},
                {"tier": 2, "quantity": "4", "unit_amount": "0.5", "per": 1, "flat_amount": "2"},
            ])
        );
        assert_eq!(
            explained["story"],
            json!([
                "jane used 6 storage at 2026-03-02T09:00:00Z.",
                "Under price storage 8 had been counted in the period, 8 USD in all.",
                "tier 1: 10 at 1 USD.",
                "tier 2: 4 at 0.5 USD, and 2 once.",
                "That comes to 14 USD, rounded once; this charge is 6 USD.",
                format!("6 USD came from {}.", text(&second["covered_by"][0], "grant")),
            ])
        );
        let entries = list(&explained, "entries");
        assert_eq!((entries.len(), &entries[0]["cause"]), (1, &second["id"]));
        assert_eq!(explain(&app, &first).await["agrees"], true);
    })
    .await;
}

async fn explain(app: &TestApp, charge: &Value) -> Value {
    app.get(&format!("/v1/charges/{}/explain", text(charge, "id"))).await.is(200)
}

#[tokio::test]
async fn what_is_owed_and_what_units_covered_is_explained() {
    on_both(async |app| {
        app.create("jane").await;
        app.post("/v1/customers/jane/grants", json!({"amount": 4, "asset": "minute", "kind": "allowance"}))
            .await
            .is(201);
        app.grant("jane", "0.5").await;
        let event = json!({"customer": "jane", "meter": "minutes", "quantity": 10, "subject": "line-1"});
        let recorded = app.post("/v1/events", event).await.is(200);

        let explained = explain(&app, &recorded["charges"][0]).await;
        assert_eq!((&explained["agrees"], &explained["pricing"]["priced_quantity"]), (&json!(true), &json!("6")));
        let story: Vec<_> = list(&explained, "story").iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(story[0], "jane used 10 minutes (by line-1) at 2026-03-02T09:00:00Z.");
        assert_eq!(
            story[1..4],
            [
                "4 of it was covered by the meter's own units.",
                "6 at 0.25 USD.",
                "That comes to 1.5 USD, rounded once; this charge is 1.5 USD.",
            ]
        );
        assert_eq!(story[6], "1 USD is owed.");
        assert_eq!(list(&explained, "entries").len(), 3);
    })
    .await;
}

#[tokio::test]
async fn each_charge_of_a_long_transaction_has_its_own_entries() {
    on_both(async |app| {
        app.create_with("jane", "1000").await;
        let charges: Vec<_> =
            (1..=600).map(|_| json!({"customer": "jane", "meter": "minutes", "quantity": 1})).collect();
        let batch = app.post("/v1/charges/batch", json!({"charges": charges, "atomic": true})).await.is(200);
        for index in [0, 300, 599] {
            let explained = explain(&app, &batch["results"][index]).await;
            let entries = list(&explained, "entries");
            assert_eq!(entries.len(), 1, "charge {index}");
            assert_eq!((&entries[0]["cause"], &entries[0]["amount"]), (&batch["results"][index]["id"], &json!("0.25")));
        }
    })
    .await;
}
