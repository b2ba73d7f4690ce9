//! The `ciris` dialect, in the order of the product's own document: every request as it is written there (the key aside), with
//! the answer that it promises; then what the document leaves open.

use std::time::Duration;

use farthing::auth::Scope;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::databases::{self, Database};
use crate::harness::{Answer, TestApp, TestRequest, list, text};
use crate::shop::{TestSandbox, WEBHOOK_SECRET, signed};

/// The product's tenant file.
const TENANT: &str = include_str!("../../../../examples/ciris.toml");

/// Runs a test of the product on both databases, beside a sandbox.
async fn on_both(test: impl AsyncFn(&TestApp, &TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = TestApp::of_product(database, "ciris").await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// The product on SQLite alone, where the store does not matter.
async fn on_one(tenant: &'static str) -> (TestApp, TestSandbox) {
    TestApp::with_sandbox(Database::sqlite().await, tenant).await
}

/// A body about one user.
fn about(user: &str, more: Value) -> Value {
    let mut body = json!({"oauth_provider": "oauth:google", "external_id": user});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

async fn check(app: &TestApp, user: &str) -> Value {
    app.post("/v1/billing/credits/check", about(user, json!({"context": {}}))).await.is(200)
}

fn one_charge(user: &str, amount: i64, more: Value) -> Value {
    let mut body = about(user, json!({"amount_minor": amount, "currency": "USD", "description": "Agent interaction"}));
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

async fn charge(app: &TestApp, user: &str, amount: i64) -> Answer {
    app.post("/v1/billing/charges", one_charge(user, amount, json!({"metadata": {}}))).await
}

/// Asks again until the answer is as wanted.
async fn until(app: &TestApp, user: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..400 {
        let credit = check(app, user).await;
        if wanted(&credit) {
            return credit;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{}", check(app, user).await);
}

/// An account without free uses and with this balance.
async fn paid_account(app: &TestApp, user: &str, balance: i64) {
    app.post("/v1/billing/accounts", about(user, json!({"initial_balance_minor": balance}))).await.is(201);
    for _ in 0..3 {
        charge(app, user, 1).await.is(201);
    }
}

/// The path of the account in the native API.
fn native(user: &str) -> String {
    format!("/v1/customers/oauth:google%2F{user}")
}

/// A webhook as the provider sends it.
fn webhook(app: &TestApp, body: &Value, secret: &str) -> TestRequest {
    let body = body.to_string();
    let now = farthing::clock::Clock::wall(&*app.clock).as_second();
    let headers = signed(&body, now, secret);
    let signature = headers["stripe-signature"].to_str().expect("a header of ASCII").to_owned();
    let request = app.request("POST", "/v1/billing/webhooks/stripe").anonymous();
    request.header("stripe-signature", &signature).body("application/json", body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_as_it_is_written() {
    on_both(async |app, sandbox| {
        // 7. Verify setup.
        app.request("GET", "/health").anonymous().send().await.is(200);
        let first = about("test@example.com", json!({"customer_email": "test@example.com"}));
        app.post("/v1/billing/purchases", first).await.is(201);
        // API usage, 1: check credit. A new user gets an account.
        assert_eq!(
            check(app, "new-user@example.com").await,
            json!({
                "has_credit": true, "credits_remaining": 0, "plan_name": "free", "reason": null,
                "free_uses_remaining": 3, "total_uses": 0, "purchase_required": false
            })
        );
        // 2: a charge, which a free use covers.
        check(app, "user@example.com").await;
        let metadata = json!({"metadata": {"message_id": "msg-001", "agent_id": "datum"}});
        let charged = app.post("/v1/billing/charges", one_charge("user@example.com", 100, metadata)).await.is(201);
        assert_eq!(
            charged["metadata"],
            json!({"message_id": "msg-001", "agent_id": "datum", "channel_id": null, "request_id": null})
        );
        assert_eq!((&charged["amount_minor"], &charged["balance_after"]), (&json!(100), &json!(0)));
        // 3: more uses are bought, and are there once the payment has succeeded.
        let body = about("user@example.com", json!({"customer_email": "user@example.com"}));
        let bought = app.post("/v1/billing/purchases", body).await.is(201);
        let payment = text(&bought, "payment_id");
        assert!(text(&bought, "client_secret").starts_with(&format!("{payment}_secret_")), "{bought}");
        let (status, _) = sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
        assert_eq!(status, 200);
        until(app, "user@example.com", |credit| credit["credits_remaining"] == 20).await;
        let paid = app.get(&format!("/v1/billing/purchases/{payment}/status")).await.is(200);
        assert_eq!((&paid["status"], &paid["uses_purchased"]), (&json!("succeeded"), &json!(20)));
        // The sandbox keeps the receipt's address.
        assert_eq!(sandbox.all("customers").await[0]["email"], "user@example.com");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nine_manual_steps() {
    on_both(async |app, sandbox| {
        let user = "stripe-test@example.com";
        // 2. Create a new account; it gets its free uses automatically.
        let opening = json!({"initial_balance_minor": 0, "currency": "USD", "plan_name": "free"});
        let account = app.post("/v1/billing/accounts", about(user, opening)).await.is(201);
        assert_eq!((&account["balance_minor"], &account["status"]), (&json!(0), &json!("active")), "{account}");
        // 3. Check credit: three free uses.
        assert_eq!(check(app, user).await["free_uses_remaining"], 3);
        // 4. Use the first.
        let used = charge(app, user, 100).await.is(201);
        assert_eq!((&used["amount_minor"], &used["balance_after"]), (&json!(100), &json!(0)), "{used}");
        // 5. Check credit again: two.
        assert_eq!(check(app, user).await["free_uses_remaining"], 2);
        for _ in 0..2 {
            charge(app, user, 100).await.is(201);
        }
        assert_eq!(
            check(app, user).await,
            json!({
                "has_credit": false, "credits_remaining": 0, "plan_name": "free",
                "reason": "No free uses or credits remaining", "free_uses_remaining": 0, "total_uses": 3,
                "purchase_required": true, "purchase_price_minor": 500, "purchase_uses": 20
            })
        );
        let refused = charge(app, user, 100).await.is(402);
        assert_eq!(refused, json!({"detail": "Insufficient credits. Balance: 0, Required: 100"}));
        // 6. Initiate a purchase.
        let bought = app.post("/v1/billing/purchases", about(user, json!({"customer_email": user}))).await.is(201);
        assert_eq!(
            (&bought["amount_minor"], &bought["currency"], &bought["uses_purchased"], &bought["status"]),
            (&json!(500), &json!("USD"), &json!(20), &json!("requires_payment_method")),
            "{bought}"
        );
        // 7. Complete the payment; 8. the webhook fires by itself, and another delivery changes nothing.
        let (status, paid) = sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
        assert_eq!((status, &paid["status"]), (200, &json!("succeeded")));
        // 9. Check credit: it shows the paid balance.
        let credit = until(app, user, |credit| credit["has_credit"] == true).await;
        assert_eq!((&credit["credits_remaining"], &credit["total_uses"]), (&json!(20), &json!(3)), "{credit}");
        let events = sandbox.events().await;
        let event = events.iter().find(|event| event["type"] == "payment_intent.succeeded").expect("it was announced");
        let taken = webhook(app, event, WEBHOOK_SECRET).send().await.is(200);
        assert_eq!(taken, json!({"status": "success", "event_id": event["id"]}));
        assert_eq!(check(app, user).await["credits_remaining"], 20);
        assert_eq!(charge(app, user, 1).await.is(201)["balance_after"], 19);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_charges_at_once() {
    on_both(async |app, _| {
        paid_account(app, "busy", 19).await;
        let answers = join_all((0..15).map(|_| charge(app, "busy", 1))).await;
        assert!(answers.iter().all(|answer| answer.status == 201));
        let credit = check(app, "busy").await;
        assert_eq!((&credit["credits_remaining"], &credit["total_uses"]), (&json!(4), &json!(18)));
        // Ten more, of which the balance covers four.
        let answers = join_all((0..10).map(|_| charge(app, "busy", 1))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 4);
        assert_eq!(answers.iter().filter(|answer| answer.status == 402).count(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_charges_once_and_credits_once() {
    on_both(async |app, _| {
        paid_account(app, "ann", 50).await;
        paid_account(app, "ben", 50).await;
        let keyed = |user: &str, amount: i64| one_charge(user, amount, json!({"idempotency_key": "k"}));
        let first = app.post("/v1/billing/charges", keyed("ann", 10)).await.is(201);
        // In sequence, whatever is asked the second time; another account's key is another key.
        for amount in [10, 11] {
            let again = app.post("/v1/billing/charges", keyed("ann", amount)).await;
            assert_eq!(again.is(409), json!({"detail": "Charge already exists"}));
            assert_eq!(again.header("x-existing-charge-id"), first["charge_id"].as_str());
        }
        app.post("/v1/billing/charges", keyed("ben", 10)).await.is(201);
        // At once: one is done, and the rest are told which.
        let at_once = || app.post("/v1/billing/charges", one_charge("ann", 5, json!({"idempotency_key": "at once"})));
        let answers = join_all((0..8).map(|_| at_once())).await;
        let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(made.len(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            answer.is(409);
            assert_eq!(answer.header("x-existing-charge-id"), made[0].json()["charge_id"].as_str());
        }
        assert_eq!(check(app, "ann").await["credits_remaining"], 35);
        // A charge that was refused leaves its key unused, and credits have keys of their own.
        app.post("/v1/billing/charges", one_charge("ann", 100, json!({"idempotency_key": "later"}))).await.is(402);
        let credit = json!({
            "amount_minor": 100, "currency": "usd", "description": "Sorry", "transaction_type": "grant",
            "idempotency_key": "later", "external_transaction_id": "ticket-1"
        });
        let added = app.post("/v1/billing/credits", about("ann", credit.clone())).await.is(201);
        assert_eq!((&added["balance_after"], &added["external_transaction_id"]), (&json!(135), &json!("ticket-1")));
        let again = app.post("/v1/billing/credits", about("ann", credit)).await;
        assert_eq!(again.is(409), json!({"detail": "Credit already exists"}));
        assert_eq!(again.header("x-existing-credit-id"), added["credit_id"].as_str());
        app.post("/v1/billing/charges", one_charge("ann", 100, json!({"idempotency_key": "later"}))).await.is(201);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_told_so_before_anything_else_but_its_key() {
    on_both(async |app, _| {
        paid_account(app, "sue", 5).await;
        let keyed = one_charge("sue", 1, json!({"idempotency_key": "k"}));
        app.post("/v1/billing/charges", keyed.clone()).await.is(201);
        app.put(&native("sue"), json!({"status": "suspended"})).await.is(200);
        let credit = check(app, "sue").await;
        assert_eq!((&credit["has_credit"], &credit["reason"]), (&json!(false), &json!("Account suspended")));
        assert_eq!(credit["purchase_required"], false);
        let suspended = json!({"detail": "Account suspended: Account suspended"});
        // In the order key, account, status, currency, funds.
        app.post("/v1/billing/charges", keyed).await.is(409);
        assert_eq!(charge(app, "sue", 1).await.is(403), suspended);
        let elsewhere = |currency: &str| {
            let body = about("sue", json!({"amount_minor": 100, "currency": currency, "description": "x"}));
            app.post("/v1/billing/charges", body)
        };
        assert_eq!(elsewhere("EUR").await.is(403), suspended);
        let credit = json!({"amount_minor": 1, "currency": "USD", "description": "x", "transaction_type": "grant"});
        app.post("/v1/billing/credits", about("sue", credit)).await.is(201);
        app.put(&native("sue"), json!({"status": "active"})).await.is(200);
        assert_eq!(
            elsewhere("EUR").await.is(400),
            json!({"detail": "Data integrity error: Currency mismatch: account=USD, charge=EUR"})
        );
        elsewhere("usd").await.is(402);
        app.put(&native("sue"), json!({"status": "closed"})).await.is(200);
        assert_eq!(check(app, "sue").await["reason"], "Account closed");
        assert_eq!(charge(app, "sue", 1).await.is(403), json!({"detail": "Account is closed"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_found_by_provider_and_id() {
    on_both(async |app, _| {
        let first = app.post("/v1/billing/accounts", about("a/b", json!({"initial_balance_minor": 7}))).await.is(201);
        assert_eq!((&first["balance_minor"], &first["paid_credits"]), (&json!(7), &json!(7)));
        assert_eq!(first["created_at"], "2026-03-02T09:00:00.000000+00:00");
        // One that is there stays as it is.
        let other = json!({"initial_balance_minor": 99, "currency": "EUR", "plan_name": "pro", "wa_id": "w"});
        assert_eq!(app.post("/v1/billing/accounts", about("a/b", other)).await.is(201), first);
        assert_eq!(app.get("/v1/billing/accounts/oauth:google/a%2Fb").await.is(200), first);
        // What looks alike is another account.
        let alike = json!({"oauth_provider": "oauth:google/a", "external_id": "b"});
        let alike = app.post("/v1/billing/accounts", alike).await.is(201);
        assert_ne!(alike["account_id"], first["account_id"]);
        let third = app.post("/v1/billing/accounts", about("a%2Fb", json!({}))).await.is(201);
        assert_ne!(third["account_id"], first["account_id"]);
        assert_eq!(
            app.get("/v1/billing/accounts/oauth:google/nobody").await.is(404),
            json!({"detail": "Account not found"})
        );
        // Another currency is the account's own.
        let euro = app.post("/v1/billing/accounts", about("eve", json!({"currency": "eur"}))).await.is(201);
        assert_eq!(euro["currency"], "EUR");
        charge(app, "eve", 1).await.is(400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_refunds() {
    on_both(async |app, sandbox| {
        paid_account(app, "ann", 5).await;
        app.clock.advance(60);
        charge(app, "ann", 2).await.is(201);
        app.clock.advance(60);
        let body = about("ann", json!({"customer_email": "ann@example.com"}));
        let bought = app.post("/v1/billing/purchases", body).await.is(201);
        let payment = text(&bought, "payment_id").to_owned();
        let refund = format!("/v1/billing/purchases/{payment}/refund");
        app.post(&refund, json!({})).await.is(409);
        sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
        until(app, "ann", |credit| credit["credits_remaining"] == 23).await;

        let path = "/v1/billing/transactions?oauth_provider=oauth:google&external_id=ann";
        let page = app.get(&format!("{path}&limit=2")).await.is(200);
        let told = |transaction: &Value| (transaction["type"].clone(), transaction["amount_minor"].clone());
        let newest: Vec<_> = list(&page, "transactions").iter().map(told).collect();
        assert_eq!(newest, [(json!("credit"), json!(20)), (json!("charge"), json!(-2))]);
        assert_eq!(page["transactions"][0]["external_transaction_id"], payment.as_str());
        assert_eq!((&page["total_count"], &page["has_more"]), (&json!(6), &json!(true)));
        let rest = app.get(&format!("{path}&offset=2")).await.is(200);
        // Free uses took nothing.
        let sum: i64 = list(&rest, "transactions").iter().filter_map(|one| one["amount_minor"].as_i64()).sum();
        assert_eq!((list(&rest, "transactions").len(), sum, &rest["has_more"]), (4, 5, &json!(false)));
        let nobody = app.get(&path.replace("=ann", "=nobody")).await.is(200);
        assert_eq!(nobody, json!({"transactions": [], "total_count": 0, "has_more": false}));
        for wrong in ["limit=0", "limit=101", "limit=x", "offset=-1", "offset=1000000"] {
            app.get(&format!("{path}&{wrong}")).await.is(422);
        }

        // Half of it goes back, and what it bought with it; a key gives back once.
        let half = json!({"amount_minor": 250, "idempotency_key": "half"});
        let given = app.post(&refund, half.clone()).await.is(201);
        assert_eq!((&given["amount_minor"], &given["balance_taken"]), (&json!(250), &json!(10)), "{given}");
        assert_eq!(app.post(&refund, half).await.is(201)["refund_id"], given["refund_id"]);
        assert_eq!(check(app, "ann").await["credits_remaining"], 13);
        app.post(&refund, json!({"amount_minor": 251})).await.is(422);
        assert_eq!(
            app.post("/v1/billing/purchases/pi_nothing/refund", json!({})).await.is(404),
            json!({"detail": "Payment not found: pi_nothing"})
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_api_sees_the_same_account() {
    on_both(async |app, _| {
        paid_account(app, "ann", 20).await;
        let wallet = app.get(&format!("{}/wallet", native("ann"))).await.is(200);
        assert_eq!(text(&wallet["balances"]["credit"], "available"), "20");
        // A use costs a unit there, unless it comes with an amount of its own.
        let used = json!({"customer": "oauth:google/ann", "meter": "use", "quantity": 1});
        assert_eq!(text(&app.post("/v1/charges", used.clone()).await.is(201), "amount"), "1");
        let mut own = used;
        own["amount"] = json!("7");
        let charged = app.post("/v1/charges", own).await.is(201);
        assert_eq!((text(&charged, "amount"), text(&charged, "asset")), ("7", "credit"));
        let why = app.get(&format!("/v1/charges/{}/explain", text(&charged, "id"))).await.is(200);
        assert_eq!(
            (&why["agrees"], &why["story"][1]),
            (&json!(true), &json!("It came with a price of its own: 7 credit."))
        );
        let credit = check(app, "ann").await;
        assert_eq!((&credit["credits_remaining"], &credit["total_uses"]), (&json!(12), &json!(5)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_bought_here_and_paid_in_full_gives_uses() {
    let (app, sandbox) = on_one(TENANT).await;
    check(&app, "ann").await;
    // An intent made elsewhere, whatever it carries.
    let form = [
        ("amount", "50"),
        ("currency", "usd"),
        ("confirm", "true"),
        ("payment_method", "pm_card_visa"),
        ("return_url", "https://shop.example/back"),
        ("metadata[oauth_provider]", "oauth:google"),
        ("metadata[external_id]", "ann"),
    ];
    let (status, intent) = sandbox.post("/v1/payment_intents", &form).await;
    assert_eq!((status, &intent["status"]), (200, &json!("succeeded")), "{intent}");
    let events = sandbox.events().await;
    let event = events.iter().find(|event| event["type"] == "payment_intent.succeeded").expect("it was announced");
    assert_eq!(webhook(&app, event, WEBHOOK_SECRET).send().await.is(200)["status"], "ignored");
    // A decline is acknowledged, and the same purchase can still be paid.
    let body = about("ann", json!({"customer_email": "ann@example.com"}));
    let bought = app.post("/v1/billing/purchases", body).await.is(201);
    let (status, _) = sandbox.pay(text(&bought, "client_secret"), "pm_card_chargeDeclinedInsufficientFunds").await;
    assert_eq!(status, 402);
    let events = sandbox.events().await;
    let event = events.iter().find(|event| event["type"] == "payment_intent.payment_failed").expect("it was announced");
    assert_eq!(webhook(&app, event, WEBHOOK_SECRET).send().await.is(200)["status"], "acknowledged");
    // What does not concern payments is ignored, and what is not signed is not believed.
    let event = events.iter().find(|event| event["type"] == "customer.created").expect("it was announced");
    assert_eq!(webhook(&app, event, WEBHOOK_SECRET).send().await.is(200)["status"], "ignored");
    let unbelieved = json!({"detail": "Invalid webhook signature"});
    assert_eq!(webhook(&app, event, "whsec_other").send().await.is(401), unbelieved);
    let unsigned = app.request("POST", "/v1/billing/webhooks/stripe").anonymous().json(event);
    assert_eq!(unsigned.send().await.is(401), unbelieved);
    assert_eq!(check(&app, "ann").await["credits_remaining"], 0);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_applied_yet_is_asked_for_again() {
    let (app, sandbox) = on_one(TENANT).await;
    paid_account(&app, "ann", 0).await;
    let body = about("ann", json!({"customer_email": "ann@example.com"}));
    let bought = app.post("/v1/billing/purchases", body).await.is(201);
    // The provider tells of the payment and then does not answer.
    sandbox
        .fault(json!({"kind": "error_before", "method": "GET", "path": "/v1/payment_intents/*", "times": 1000}))
        .await;
    sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
    let events = sandbox.events().await;
    let event = events.iter().find(|event| event["type"] == "payment_intent.succeeded").expect("it was announced");
    let again = webhook(&app, event, WEBHOOK_SECRET).send().await.is(503);
    assert_eq!(again, json!({"detail": "Webhook processing failed"}));
    assert_eq!(check(&app, "ann").await["credits_remaining"], 0);
    sandbox.mend().await;
    app.clock.advance(3600);
    until(&app, "ann", |credit| credit["credits_remaining"] == 20).await;
    assert_eq!(webhook(&app, event, WEBHOOK_SECRET).send().await.is(200)["status"], "success");
    assert_eq!(check(&app, "ann").await["credits_remaining"], 20);
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_and_how() {
    let (app, sandbox) = on_one(TENANT).await;
    paid_account(&app, "ann", 5).await;
    let (read_key, _) = app.new_key(Scope::Read).await;
    let detail = |answer: &Answer| answer.json()["detail"].clone();
    let full = one_charge("ann", 1, json!({"customer_email": "x", "transaction_type": "grant"}));
    let posts = ["credits/check", "charges", "credits", "purchases", "accounts", "purchases/pi_x/refund"];
    let gets = ["accounts/oauth:google/ann", "purchases/pi_x", "purchases/pi_x/status", "transactions"];
    for (method, path) in posts.map(|path| ("POST", path)).into_iter().chain(gets.map(|path| ("GET", path))) {
        let request = || app.request(method, &format!("/v1/billing/{path}")).json(&full);
        // No key, a bad one, another scheme; and a token where none are accepted.
        let none = request().anonymous().send().await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("ApiKey, Bearer")), "{path}");
        assert!(detail(&none).as_str().is_some_and(|words| words.starts_with("Authentication failed: ")), "{path}");
        for wrong in ["fk_test_wrong", "a.b.c"] {
            assert_eq!(request().bearer(wrong).send().await.status, 401, "{path}");
        }
        assert_eq!(request().anonymous().header("authorization", "Basic eDp5").send().await.status, 401, "{path}");
        // A key that may only read.
        let read_only = request().bearer(&read_key).send().await;
        if method == "POST" && path != "credits/check" {
            let words = "Missing required permission: billing:write";
            assert_eq!((read_only.status, detail(&read_only)), (403, json!(words)), "{path}");
        } else {
            assert_ne!(read_only.status, 403, "{path}");
        }
        // A path that takes another method, and one that there is not.
        let other = app.request("DELETE", &format!("/v1/billing/{path}")).send().await;
        assert_eq!((other.status, detail(&other)), (405, json!("Method Not Allowed")), "{path}");
    }
    assert_eq!(app.get("/v1/billing/nothing").await.is(404), json!({"detail": "Not Found"}));
    assert_eq!(app.get("/v1/billing").await.is(404), json!({"detail": "Not Found"}));
    // Charges and credits never make an account.
    assert_eq!(charge(&app, "nobody", 1).await.is(404), json!({"detail": "Account not found"}));
    // A provider that does not answer.
    sandbox.fault(json!({"kind": "error_before", "path": "/v1/payment_intents", "times": 1000})).await;
    let body = about("ann", json!({"customer_email": "ann@example.com"}));
    let unavailable = app.post("/v1/billing/purchases", body).await.is(503);
    assert_eq!(unavailable, json!({"detail": "Payment provider unavailable"}));
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_body() {
    let (app, sandbox) = on_one(TENANT).await;
    paid_account(&app, "ann", 5).await;
    // Everything that is wrong is told at once, with its place.
    let missing = app.post("/v1/billing/charges", json!({})).await.is(422);
    let places: Vec<_> = list(&missing, "detail").iter().map(|one| (one["type"].clone(), one["loc"].clone())).collect();
    let place = |name: &str| (json!("missing"), json!(["body", name]));
    assert_eq!(
        places,
        ["oauth_provider", "external_id", "amount_minor", "currency", "description"].map(place),
        "{missing}"
    );
    for (member, value, kind) in [
        ("oauth_provider", json!("google"), "value_error"),
        ("oauth_provider", json!(7), "string_type"),
        ("external_id", json!(""), "string_too_short"),
        ("external_id", json!("x".repeat(256)), "string_too_long"),
        ("external_id", json!("a\0b"), "value_error"),
        ("amount_minor", json!(0), "greater_than"),
        ("amount_minor", json!(5.5), "int_from_float"),
        ("amount_minor", json!("five"), "int_parsing"),
        ("currency", json!("DOLLAR"), "string_too_long"),
        ("description", json!(""), "string_too_short"),
        ("idempotency_key", json!("k".repeat(256)), "string_too_long"),
        ("metadata", json!(null), "dict_type"),
        ("metadata", json!({"agent_id": "a".repeat(256)}), "string_too_long"),
    ] {
        let body = one_charge("ann", 1, json!({member: value}));
        let wrong = app.post("/v1/billing/charges", body).await.is(422);
        assert_eq!(wrong["detail"][0]["type"], kind, "{member}: {wrong}");
    }
    let huge = r#"{"oauth_provider": "oauth:google", "external_id": "ann", "amount_minor": 1000000000000000000000000000000,
                   "currency": "USD", "description": "x"}"#;
    for body in ["", "{", "[]", "null", huge] {
        let request = app.request("POST", "/v1/billing/charges").body("application/json", body);
        request.send().await.is(422);
    }
    // As much as fits a number and not the ledger.
    charge(&app, "ann", i64::MAX).await.is(422);
    app.request("POST", "/v1/billing/charges").body("application/json", "x".repeat(1 << 21)).send().await.is(413);
    // Whole numbers are read laxly.
    for amount in [json!("1"), json!(1.0), json!(true)] {
        let body = one_charge("ann", 1, json!({"amount_minor": amount, "foo": "ignored"}));
        app.post("/v1/billing/charges", body).await.is(201);
    }
    let kind = json!({"amount_minor": 1, "currency": "USD", "description": "x", "transaction_type": "gift"});
    let wrong = app.post("/v1/billing/credits", about("ann", kind)).await.is(422);
    assert_eq!(wrong["detail"][0]["msg"], "Input should be 'purchase', 'grant', 'refund' or 'adjustment'");
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_nothing_is_sold() {
    let app = TestApp::with(Database::sqlite().await, TENANT).await;
    let body = about("ann", json!({"customer_email": "ann@example.com"}));
    let none = json!({"detail": "Payment provider not configured"});
    assert_eq!(app.post("/v1/billing/purchases", body).await.is(503), none);
    assert_eq!(webhook(&app, &json!({}), "whsec_any").send().await.is(503), none);
    let about = app.request("GET", "/").anonymous().send().await.is(200);
    assert_eq!(
        about,
        json!({"service": "CIRIS Billing API", "version": env!("CARGO_PKG_VERSION"), "status": "running"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run_without_a_key_where_the_file_says_so() {
    let open = TENANT.replace("[dialect]", "[dialect]\nallow_anonymous = true\nunits_per_use = 100");
    let open = open.replace("\nunits_per_use = 1\n", "\n").leak();
    let (app, sandbox) = on_one(open).await;
    let post =
        |path: &str, body: Value| app.request("POST", &format!("/v1/billing/{path}")).anonymous().json(&body).send();
    // With a hundred units to a use, the document's own charges of 100 take one use each.
    post("credits/check", about("ann", json!({}))).await.is(200);
    for _ in 0..3 {
        post("charges", one_charge("ann", 100, json!({}))).await.is(201);
    }
    let bought = post("purchases", about("ann", json!({"customer_email": "ann@example.com"}))).await.is(201);
    assert_eq!(bought["uses_purchased"], 20);
    sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
    until(&app, "ann", |credit| credit["credits_remaining"] == 2000).await;
    for left in (0..20).rev() {
        assert_eq!(post("charges", one_charge("ann", 100, json!({}))).await.is(201)["balance_after"], left * 100);
    }
    post("charges", one_charge("ann", 100, json!({}))).await.is(402);
    // A key that is wrong is wrong all the same.
    let wrong = app.request("POST", "/v1/billing/credits/check").bearer("fk_test_wrong").json(&about("ann", json!({})));
    assert_eq!(wrong.send().await.status, 401);
    sandbox.stop().await;
}

/// The sum of the series of a metric whose labels are these, as PromQL's selector picks them.
fn selected(exposition: &str, metric: &str, labels: &[(&str, &str)]) -> Option<u64> {
    let mut sum = None;
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        let fits = labels.iter().all(|(name, value)| rest.contains(&format!("{name}=\"{value}\"")));
        if name == metric && fits {
            *sum.get_or_insert(0) += value.parse::<u64>().expect("a number");
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn both_queries_of_the_document_find_data() {
    let (app, sandbox) = on_one(TENANT).await;
    let scrape = async || app.request("GET", "/metrics").anonymous().send().await.text();
    scrape().await;
    paid_account(&app, "somebody@example.com", 0).await;
    check(&app, "somebody@example.com").await;
    let metrics = scrape().await;
    let checks = selected(&metrics, "billing_credit_checks_total", &[("purchase_required", "true")]);
    assert!(checks.is_some_and(|checks| checks >= 1), "{metrics}");
    let before = selected(&metrics, "billing_charges_total", &[("success", "True")]);
    assert!(before.is_some_and(|charges| charges >= 3), "{metrics}");
    charge(&app, "somebody@example.com", 1).await.is(402);
    app.get("/v1/billing/accounts/oauth:google/somebody@example.com").await.is(200);
    let metrics = scrape().await;
    let refused = [("success", "False"), ("error_type", "insufficient_funds")];
    assert!(selected(&metrics, "billing_charges_total", &refused).is_some(), "{metrics}");
    let requests = [("endpoint", "/v1/billing/accounts/{oauth_provider}/{external_id}"), ("status_code", "200")];
    assert!(selected(&metrics, "billing_http_requests_total", &requests).is_some(), "{metrics}");
    assert!(!metrics.contains("somebody@example.com"), "no personal data in labels");
    sandbox.stop().await;
}

/// A server process of the product with a sandbox of its own, and everything that it logs.
struct Process {
    process: std::process::Child,
    log: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    address: String,
    key: String,
}

impl Process {
    fn start(directory: &std::path::Path) -> Self {
        use std::io::BufRead as _;
        let binary = env!("CARGO_BIN_EXE_farthing");
        std::fs::write(directory.join("ciris.toml"), TENANT).expect("a file");
        // The names that the product's own file has.
        let own = "# Pricing Configuration\nFREE_USES_PER_ACCOUNT=1\nPAID_USES_PER_PURCHASE=10\nPRICE_PER_PURCHASE_MINOR=250 # $2.50\n";
        std::fs::write(directory.join(".env"), own).expect("a file");
        let command = |arguments: &[&str]| {
            let mut command = std::process::Command::new(binary);
            command.current_dir(directory).args(arguments).env_remove("FARTHING_LOG");
            command
        };
        let made = command(&["keys", "create", "--scope", "write", "ciris.toml"]).output().expect("keys create runs");
        let key = String::from_utf8(made.stdout).expect("a key").trim().to_owned();
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
        let serve = ["serve", "ciris.toml", "--listen", "127.0.0.1:0", "--sandbox-listen", &free.to_string()];
        let mut process = command(&serve).stderr(std::process::Stdio::piped()).spawn().expect("the server starts");
        let log = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (lines, kept) = (std::io::BufReader::new(process.stderr.take().expect("its log")).lines(), log.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().expect("the log").push(line))
        });
        let mut started = Self { process, log, address: String::new(), key };
        started.address =
            started.logged(|line| line["event"] == "serving")["address"].as_str().unwrap_or_default().to_owned();
        started
    }

    /// The first line of the log that is as wanted, once it is there.
    fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            let lines: Vec<Value> = self.lines();
            if let Some(line) = lines.into_iter().find(&wanted) {
                return line;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{:?}", self.lines());
    }

    fn lines(&self) -> Vec<Value> {
        let log = self.log.lock().expect("the log");
        log.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request =
            client.post(format!("http://{}/v1/billing/{path}", self.address)).bearer_auth(&self.key).json(body);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_file_is_read_and_both_filters_of_the_document_match() {
    farthing::tls::install_provider();
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    server.logged(|line| line["event"] == "environment_file_read" && line["variables"] == 3);
    assert_eq!(server.post("credits/check", &about("ann", json!({}))).await["free_uses_remaining"], 1);
    server.post("charges", &one_charge("ann", 1, json!({}))).await;
    let body = about("ann", json!({"customer_email": "ann@example.com"}));
    let bought = server.post("purchases", &body).await;
    assert_eq!((&bought["amount_minor"], &bought["uses_purchased"]), (&json!(250), &json!(10)), "{bought}");

    // jq 'select(.event | contains("stripe") or contains("purchase"))', and a webhook that is not believed.
    let of_stripe = |line: &Value| line["event"].as_str().is_some_and(|event| event.contains("stripe"));
    server.logged(of_stripe);
    server.post("webhooks/stripe", &json!({})).await;
    // jq 'select(.event | startswith("stripe_webhook"))'
    let of_webhooks = |line: &Value| line["event"].as_str().is_some_and(|event| event.starts_with("stripe_webhook"));
    server.logged(of_webhooks);
    server.logged(|line| line["event"] == "stripe_webhook_received");
    let lines = server.lines();
    assert!(lines.iter().all(|line| line["event"].is_string()), "each line has an event: {lines:?}");
    assert!(lines.iter().all(|line| !line.to_string().contains("ann@example.com")), "no personal data: {lines:?}");
}
