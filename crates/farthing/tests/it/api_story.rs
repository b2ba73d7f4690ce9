//! The main story: a customer is given credit, uses it up, is refused, and reads what became of it.

use serde_json::{Value, json};

use crate::harness::{TestApp, list, on_both, text};

#[tokio::test]
async fn ten_dollars_last_for_forty_minutes() {
    on_both(async |app| {
        let created = app.put("/v1/customers/jane", json!({"profile": {"name": "Jane"}})).await.is(201);
        assert_eq!((&created["id"], &created["status"]), (&json!("jane"), &json!("active")));
        assert_eq!(created["profile"], json!({"name": "Jane", "metadata": {}}));
        let grant = app.grant("jane", "10").await;
        assert_eq!(app.dollars("jane").await, ["10", "0", "10", "0"]);

        let check = check(&app, "40").await;
        assert_eq!(
            (&check["allowed"], &check["amount"], &check["available"]),
            (&json!(true), &json!("10"), &json!("10"))
        );
        assert_eq!(check["covered_by"], json!([{"grant": grant["id"], "asset": "USD", "amount": "10"}]));

        let charge = app.charge("jane", "minutes", "30").await.is(201);
        assert_eq!((&charge["amount"], &charge["owed"]), (&json!("7.5"), &json!("0")));
        assert_eq!((&charge["balance_after"], &charge["as_of"]), (&json!("2.5"), &json!(3)));
        assert_eq!(charge["covered_by"], json!([{"grant": grant["id"], "asset": "USD", "amount": "7.5"}]));

        let refusal = app.charge("jane", "minutes", "30").await.refused(402, "insufficient_funds");
        assert_eq!(refusal["detail"], "it takes 7.5 USD and 2.5 is available");
        assert_eq!([&refusal["required"], &refusal["available"], &refusal["asset"]], ["7.5", "2.5", "USD"]);
        assert_eq!(check_code(&app, "11").await, json!("insufficient_funds"));
        assert_eq!(app.dollars("jane").await, ["2.5", "0", "2.5", "0"]);

        app.charge("jane", "minutes", "10").await.is(201);
        assert_eq!(app.dollars("jane").await, ["0", "0", "0", "0"]);
    })
    .await;
}

async fn check(app: &TestApp, minutes: &str) -> Value {
    app.post("/v1/check", json!({"customer": "jane", "meter": "minutes", "quantity": minutes})).await.is(200)
}

async fn check_code(app: &TestApp, minutes: &str) -> Value {
    let check = check(app, minutes).await;
    assert_eq!(check["allowed"], false);
    check["code"].clone()
}

#[tokio::test]
async fn whoever_is_new_has_three_free_uses() {
    on_both(async |app| {
        app.create("jane").await;
        let wallet = app.get("/v1/customers/jane/wallet").await.is(200);
        assert_eq!(wallet["balances"]["use"]["available"], "3");

        for left in ["2", "1", "0"] {
            let charge = app.charge("jane", "use", "1").await.is(201);
            assert_eq!([&charge["asset"], &charge["amount"], &charge["balance_after"]], ["use", "0", left]);
        }
        app.charge("jane", "use", "1").await.refused(402, "insufficient_funds");
    })
    .await;
}

#[tokio::test]
async fn a_charge_can_be_read_as_it_was_answered() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let charge = json!({"customer": "jane", "meter": "tokens", "quantity": 1500.5, "subject": "agent-7",
            "dimensions": {"model": "small"}, "time": "2026-03-02T10:59:30+02:00", "metadata": {"call": "c-1"},
            "operation_key": "r1"});
        let charged = app.post("/v1/charges", charge).await.is(201);
        assert_eq!([&charged["quantity"], &charged["subject"], &charged["operation_key"]], ["1500.5", "agent-7", "r1"]);
        assert_eq!([&charged["time"], &charged["amount"]], ["2026-03-02T08:59:30Z", "0.000225"]);
        assert_eq!(
            (&charged["metadata"], &charged["dimensions"]),
            (&json!({"call": "c-1"}), &json!({"model": "small"}))
        );
        let id = text(&charged, "id");

        assert_eq!(app.get(&format!("/v1/charges/{id}")).await.is(200), charged);
        assert_eq!(app.another().await.get(&format!("/v1/charges/{id}")).await.is(200), charged);
        assert_eq!(app.pages("/v1/customers/jane/charges", 5).await, [charged]);
    })
    .await;
}

#[tokio::test]
async fn a_statement_has_the_balance_after_each_line() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        for minutes in ["1", "2", "3", "4", "5"] {
            app.charge("jane", "minutes", minutes).await.is(201);
            app.clock.advance(60);
        }

        let expected =
            [("-1.25", "6.25"), ("-1", "7.5"), ("-0.75", "8.5"), ("-0.5", "9.25"), ("-0.25", "9.75"), ("10", "10")];
        for size in [1, 2, 3, 6, 50] {
            let lines = app.pages("/v1/customers/jane/wallet/statement", size).await;
            let lines: Vec<_> = lines.iter().map(|line| (text(line, "change"), text(line, "balance"))).collect();
            assert_eq!(lines, expected, "in pages of {size}");
        }
        let uses = app.get("/v1/customers/jane/wallet/statement?asset=use").await.is(200);
        assert_eq!(
            (&uses["data"][0]["change"], &uses["data"][0]["entry"]["debit"]),
            (&json!("3"), &json!("promotions"))
        );
    })
    .await;
}

#[tokio::test]
async fn the_ledger_has_an_entry_for_every_movement() {
    on_both(async |app| {
        let grant = app.create_with("jane", "1").await;
        let charge = app.charge("jane", "minutes", "3").await.is(201);
        app.post("/v1/events", json!({"customer": "jane", "meter": "minutes", "quantity": 2})).await.is(200);
        app.grant("jane", "5").await;

        let entries = app.pages("/v1/customers/jane/entries", 2).await;
        let lines: Vec<_> = entries
            .iter()
            .map(|entry| ["kind", "debit", "credit", "amount", "asset"].map(|part| text(entry, part)))
            .collect();
        assert_eq!(
            lines,
            [
                ["repayment", "wallet", "receivable", "0.25", "USD"],
                ["grant", "cash", "wallet", "5", "USD"],
                ["charge", "receivable", "revenue", "0.25", "USD"],
                ["charge", "wallet", "revenue", "0.25", "USD"],
                ["charge", "wallet", "revenue", "0.75", "USD"],
                ["grant", "cash", "wallet", "1", "USD"],
                ["grant", "promotions", "wallet", "3", "use"],
            ]
        );
        assert_eq!((&entries[4]["cause"], &entries[4]["grant"]), (&charge["id"], &grant["id"]));
        assert_eq!(app.dollars("jane").await, ["4.75", "0", "4.75", "0"]);
    })
    .await;
}

#[tokio::test]
async fn lists_are_read_in_pages_while_they_grow() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        for _ in 0..5 {
            app.clock.advance(1);
            app.charge("jane", "minutes", "1").await.is(201);
        }
        let first = app.get("/v1/customers/jane/charges?limit=2").await.is(200);
        app.clock.advance(1);
        app.charge("jane", "minutes", "1").await.is(201);
        let cursor = text(&first, "next_cursor");
        let second = app.get(&format!("/v1/customers/jane/charges?limit=3&cursor={cursor}")).await.is(200);
        let positions: Vec<&Value> =
            [&first, &second].into_iter().flat_map(|page| list(page, "data")).map(|row| &row["as_of"]).collect();
        assert_eq!(positions, [7, 6, 5, 4, 3]);

        assert_eq!(app.pages("/v1/customers/jane/charges", 2).await.len(), 6);
        for name in ["john", "joan", "jill"] {
            app.create(name).await;
        }
        for size in [1, 2, 4, 9] {
            let customers = app.pages("/v1/customers", size).await;
            let names: Vec<_> = customers.iter().map(|customer| text(customer, "id")).collect();
            assert_eq!(names, ["jane", "john", "joan", "jill"], "in pages of {size}");
        }
    })
    .await;
}

#[tokio::test]
async fn grants_are_used_in_their_order_expire_and_are_taken_back() {
    on_both(async |app| {
        app.create("jane").await;
        for (amount, kind, more) in [
            ("4", "paid", json!({})),
            ("3", "promotional", json!({"priority": 200})),
            ("2", "promotional", json!({"priority": 1, "expires_at": "2026-03-02T10:00:00Z", "reason": "sorry"})),
            ("1", "allowance", json!({"meters": ["tokens"]})),
        ] {
            let mut grant = json!({"amount": amount, "kind": kind});
            grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            app.post("/v1/customers/jane/grants", grant).await.is(201);
        }

        let charge = app.charge("jane", "minutes", "10").await.is(201);
        let covers: Vec<_> = list(&charge, "covered_by").iter().map(|cover| &cover["amount"]).collect();
        assert_eq!(covers, ["2", "0.5"], "the promotional ones, by priority; the allowance covers tokens alone");

        app.post(
            "/v1/customers/jane/grants",
            json!({"amount": 7, "kind": "promotional", "expires_at": "2026-03-02T10:00:00Z"}),
        )
        .await
        .is(201);
        app.clock.advance(3600);
        assert_eq!(app.dollars("jane").await, ["7.5", "0", "7.5", "0"]);
        let states: Vec<_> = grant_states(&app).await;
        assert_eq!(states, ["7 expired 0", "1 open 1", "2 spent 0", "3 open 2.5", "4 open 4", "3 open 3"]);

        let paid = app.pages("/v1/customers/jane/grants", 50).await[4].clone();
        let path = format!("/v1/customers/jane/grants/{}/void", text(&paid, "id"));
        let voided = app.request("POST", &path).send().await;
        assert_eq!(voided.is(200)["state"], "voided");
        let again = app.request("POST", &path).send().await;
        assert_eq!((again.is(200), again.replayed()), (voided.json(), true));
        assert_eq!(grant_states(&app).await[4], "4 voided 0");
        assert_eq!(app.dollars("jane").await, ["3.5", "0", "3.5", "0"]);
    })
    .await;
}

/// Of each grant, the newest first: its amount, its state and what is available of it.
async fn grant_states(app: &TestApp) -> Vec<String> {
    let grants = app.pages("/v1/customers/jane/grants", 4).await;
    grants.iter().map(|grant| ["amount", "state", "available"].map(|part| text(grant, part)).join(" ")).collect()
}

#[tokio::test]
async fn a_customer_is_suspended_and_may_owe() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let suspended = app.put("/v1/customers/jane", json!({"status": "suspended"})).await.is(200);
        assert_eq!(suspended["status"], "suspended");
        app.charge("jane", "minutes", "1").await.refused(403, "suspended");
        assert_eq!(check_code(&app, "1").await, "suspended");

        let owing = json!({"status": "active", "overage": {"policy": "owe", "limit": "0.5"}});
        let active = app.put("/v1/customers/jane", owing).await.is(200);
        assert_eq!(active["overage"], json!({"policy": "owe", "limit": "0.5"}));
        assert_eq!(app.charge("jane", "minutes", "6").await.is(201)["owed"], "0.5");
        app.charge("jane", "minutes", "1").await.refused(402, "limit_reached");

        let asking = app.put("/v1/customers/jane", json!({"overage": {"policy": "ask"}})).await.is(200);
        assert_eq!(asking["overage"], json!({"policy": "ask"}));
        let refusal = app.charge("jane", "minutes", "1").await.refused(402, "payment_required");
        assert_eq!(refusal["required"], "0.75", "a payment pays the debt first");

        let tenants_own = app.put("/v1/customers/jane", json!({"overage": null})).await.is(200);
        assert_eq!(tenants_own.get("overage"), None);
        app.charge("jane", "minutes", "1").await.refused(402, "insufficient_funds");
        assert_eq!(app.dollars("jane").await, ["0", "0", "0", "0.5"]);
    })
    .await;
}

#[tokio::test]
async fn some_uses_need_a_payment_method() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        app.charge("jane", "numbers", "1").await.refused(402, "payment_method_required");
        assert_eq!(
            app.put("/v1/customers/jane", json!({"payment_method": true})).await.is(200)["payment_method"],
            true
        );
        assert_eq!(app.charge("jane", "numbers", "1").await.is(201)["amount"], "3");
    })
    .await;
}
