//! Plans in force through the API, with the jobs running and the provider's webhooks coming in, as in life: subscribing,
//! what it will cost, changing, pausing and ending.

use std::time::Duration;

use farthing::clock::Clock as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::books;
use crate::databases::{Database, on_both};
use crate::harness::{JWT_SECRET, TestApp, TestRequest, list, text};
use crate::shop::TestSandbox;

/// A product with agents that answer calls: Pro for 20 dollars a month and Team for 50, one with a trial; numbers and a
/// set-up to book with them.
const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[[meters]]
name = "minutes"
unit = "minute"
dimensions = ["voice"]

[[meters]]
name = "messages"
unit = "message"

[[prices]]
meter = "minutes"
model = "per_unit"
amount = "0.25"

[[plans]]
name = "pro"
title = "Pro"
price = "20"
add_ons = ["number", "setup"]
features = { sso = false, seats = 5, support = "email" }

[[plans.allowances]]
name = "minutes"
unit = "minute"
amount = "100"

[[plans.limits]]
name = "messages-a-day"
meter = "messages"
per = "day"
amount = "10"

[[plans.limits]]
name = "calls-at-once"
meter = "minutes"
per = "open_holds"
amount = "2"

[[plans]]
name = "team"
title = "Team"
price = "50"
spending_limit = "10"
features = { sso = true }

[plans.overage]
policy = "owe"

[[plans]]
name = "trial"
title = "Trial"
price = "10"
trial_days = 14

[[add_ons]]
name = "number"
title = "Phone number"
price = "3"

[[add_ons]]
name = "setup"
title = "Set-up"
price = "10"
recurring = false

[[coupons]]
code = "half"
percent = "50"

[connection]
provider = "stripe"

[jwt]
algorithm = "HS256"
secret_env = "ACME_JWT_SECRET"
"#;

async fn shop(database: Database) -> (TestApp, TestSandbox) {
    TestApp::with_sandbox(database, TENANT).await
}

/// A customer with a card on file.
async fn with_card(app: &TestApp, customer: &str, card: &str) {
    app.create(customer).await;
    let path = format!("/v1/customers/{customer}/payment_methods");
    app.post(&path, json!({"payment_method": card})).await.is(200);
}

async fn subscribe(app: &TestApp, customer: &str, body: Value) -> Value {
    app.post(&format!("/v1/customers/{customer}/subscriptions"), body).await.is(201)
}

async fn advance(app: &TestApp, to: &str) {
    app.post("/v1/test_clock/advance", json!({"to": to})).await.is(200);
}

fn path(subscription: &Value) -> String {
    format!("/v1/subscriptions/{}", text(subscription, "id"))
}

async fn step(app: &TestApp, subscription: &Value, step: &str, body: Value) -> Value {
    app.post(&format!("{}/{step}", path(subscription)), body).await.is(200)
}

/// Asks until the subscription is as awaited: webhooks take their time.
async fn until_state(app: &TestApp, subscription: &Value, state: &str) -> Value {
    let mut seen = Value::Null;
    for _ in 0..200 {
        seen = app.get(&path(subscription)).await.is(200);
        if seen["state"] == state {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {state}: {seen}");
}

fn as_customer(app: &TestApp, customer: &str, request: TestRequest) -> TestRequest {
    let claims = json!({"sub": customer, "exp": app.clock.now().as_second() + 600});
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    request.bearer(&jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token"))
}

/// The kinds and amounts of an invoice's lines.
fn lines(invoice: &Value) -> Vec<(String, String)> {
    let line = |line: &Value| (text(line, "title").to_owned(), text(line, "amount").to_owned());
    list(invoice, "lines").iter().map(line).collect()
}

#[tokio::test]
async fn a_first_payment_is_finished_in_the_browser_when_the_bank_asks() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        app.create("jane").await;
        let new = subscribe(&app, "jane", json!({"plan": "pro", "operation_key": "s1"})).await;
        assert_eq!((text(&new, "state"), text(&new, "plan")), ("incomplete", "pro"));
        let invoice = &new["invoice"];
        assert_eq!(
            (text(invoice, "state"), text(invoice, "amount_due"), text(invoice, "currency")),
            ("open", "20", "USD")
        );
        let payment = &invoice["payment"];
        assert_eq!((text(payment, "state"), text(payment, "publishable_key")), ("requires_payment", "pk_test_acme"));
        assert_eq!(new["latest_invoice"], invoice["id"]);
        // The plan is not in force before it is paid.
        let minutes = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        app.post("/v1/charges", minutes.clone()).await.refused(402, "insufficient_funds");

        let (status, intent) = sandbox.pay(text(payment, "client_secret"), "pm_card_authenticationRequired").await;
        assert_eq!((status, &intent["status"]), (200, &json!("requires_action")), "{intent}");
        sandbox.answer_bank(&intent, "authorise").await;
        let active = until_state(&app, &new, "active").await;
        assert_eq!((text(&active["invoice"], "state"), text(&active["invoice"], "amount_due")), ("paid", "0"));
        assert!(active["invoice"]["payment"].get("client_secret").is_none(), "{active}");
        assert_eq!(text(&active["current_period"], "end"), "2026-04-02T09:00:00Z");
        app.post("/v1/charges", minutes).await.is(201);

        // The same key again shows it as it stands; another body, or another subscription, is refused.
        let again = app.post("/v1/customers/jane/subscriptions", json!({"plan": "pro", "operation_key": "s1"})).await;
        assert_eq!((again.is(201), again.replayed()), (active, true));
        let other = json!({"plan": "team", "operation_key": "s1"});
        app.post("/v1/customers/jane/subscriptions", other).await.refused(422, "operation_key_reused");
        let second = json!({"plan": "team"});
        app.post("/v1/customers/jane/subscriptions", second).await.refused(409, "already_subscribed");
        let all = app.get("/v1/customers/jane/subscriptions").await.is(200);
        assert_eq!(list(&all, "data").len(), 1, "{all}");
        assert_eq!(sandbox.all("payment_intents").await.len(), 1);
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn of_many_who_subscribe_a_customer_at_once_one_does() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        app.create("jane").await;
        let at_once = ["pro", "team", "trial", "pro"].map(async |plan| {
            app.post("/v1/customers/jane/subscriptions", json!({"plan": plan, "by_invoice": true})).await.status
        });
        let mut statuses = futures_util::future::join_all(at_once).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409]);
        assert_eq!(list(&app.get("/v1/customers/jane/subscriptions").await.is(200), "data").len(), 1);
        sandbox.stop().await;
    })
    .await;
}

/// The answer is lost and so is the provider's: the same key finds the one subscription and its one payment.
#[tokio::test]
async fn a_repeat_finds_what_became_of_a_first_payment() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let own = "/v1/customers/jane/subscriptions";
        let body = json!({"plan": "pro", "operation_key": "s1"});
        let lost = tokio::time::timeout(Duration::from_millis(1), app.post(own, body.clone())).await;
        drop(lost);
        let again = app.post(own, body.clone()).await.is(201);
        assert_eq!(text(&until_state(&app, &again, "active").await["invoice"], "state"), "paid");
        assert_eq!(app.post(own, body).await.is(201)["id"], again["id"]);
        assert_eq!(sandbox.all("payment_intents").await.len(), 1);
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_card_on_file_pays_at_once_and_a_page_takes_it_too() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let new = subscribe(&app, "jane", json!({"plan": "pro"})).await;
        assert_eq!((text(&new, "state"), text(&new["invoice"], "state")), ("active", "paid"));

        app.create("john").await;
        let urls = ("https://shop.example/ok", "https://shop.example/no");
        let collect = json!({"by": "page", "success_url": urls.0, "cancel_url": urls.1});
        let new = subscribe(&app, "john", json!({"plan": "pro", "collect": collect})).await;
        assert_eq!(text(&new, "state"), "incomplete");
        sandbox.pay_on_page(text(&new["invoice"]["payment"], "page"), "4242424242424242").await;
        until_state(&app, &new, "active").await;

        // Who pays by invoice has the plan at once.
        app.create("joan").await;
        let new = subscribe(&app, "joan", json!({"plan": "team", "by_invoice": true})).await;
        assert_eq!((text(&new, "state"), text(&new["invoice"], "state")), ("active", "open"));
        assert!(new["invoice"].get("payment").is_none(), "{new}");
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_preview_is_the_invoice_that_is_made() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let wanted = json!({
            "plan": "pro", "quantity": 2, "coupon": "half",
            "add_ons": [{"name": "number", "quantity": 3}, {"name": "setup"}],
        });
        let own = "/v1/customers/jane/subscriptions";
        let preview = app.post(&format!("{own}/preview"), wanted.clone()).await.is(200);
        let [now] = list(&preview, "now") else { panic!("{preview}") };
        let line = |title: &str, amount: &str| (title.to_owned(), amount.to_owned());
        assert_eq!(lines(now), [line("Pro", "40"), line("Phone number", "9"), line("Set-up", "10")]);
        assert_eq!((text(now, "subtotal"), text(now, "discount"), text(now, "amount_due")), ("59", "29.5", "29.5"));
        let [next] = list(&preview, "next") else { panic!("{preview}") };
        assert_eq!(lines(next), [line("Pro", "40"), line("Phone number", "9")]);
        assert_eq!((text(next, "date"), text(next, "amount_due")), ("2026-04-02T09:00:00Z", "49"));
        assert_eq!(list(&app.get(own).await.is(200), "data").len(), 0, "nothing was done");

        let new = subscribe(&app, "jane", wanted).await;
        assert_eq!(text(&new["invoice"], "total"), text(now, "total"));
        assert_eq!((text(&new, "state"), &new["quantity"]), ("active", &json!(2)));
        assert_eq!(text(&list(&new, "add_ons")[0], "name"), "number");

        // Half of the period has gone by.
        advance(&app, "2026-03-17T21:00:00Z").await;
        let change = json!({"plan": "team", "quantity": 1, "add_ons": [], "proration": "now"});
        let preview = app.post(&format!("{}/change/preview", path(&new)), change.clone()).await.is(200);
        let [now] = list(&preview, "now") else { panic!("{preview}") };
        let unused = [line("Unused time of Pro", "-10"), line("Unused time of Phone number", "-2.25")];
        assert_eq!(lines(now)[..2], unused);
        assert_eq!(lines(now)[2..], [line("Remaining time of Team", "25")]);
        assert_eq!(text(now, "total"), "12.75", "half of what was paid, with the coupon, is given back");
        let item = json!({"title": "Training", "price": "100.50", "operation_key": "i1"});
        let items = "/v1/customers/jane/items";
        let added = app.post(items, item.clone()).await;
        assert_eq!((text(&added.is(201), "price"), added.replayed()), ("100.5", false));
        let again = app.post(items, item).await;
        assert!(again.replayed() && again.is(201) == added.json());
        let preview = app.post(&format!("{}/change/preview", path(&new)), change.clone()).await.is(200);
        let now = &list(&preview, "now")[0];
        assert_eq!(text(now, "total"), "113.25", "with what waits for the next invoice");
        let changed = step(&app, &new, "change", change).await;
        assert_eq!((text(&changed, "plan"), text(&changed, "state")), ("team", "active"));
        assert_eq!((text(&changed["invoice"], "total"), text(&changed["invoice"], "state")), ("113.25", "paid"));

        // What the next period will ask for is what it asks for.
        let next = list(&preview, "next")[0].clone();
        advance(&app, text(&next, "date")).await;
        let renewed = until_state(&app, &new, "active").await;
        assert_eq!((text(&renewed["invoice"], "total"), text(&next, "total")), ("50", "50"));
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_trial_is_free_until_it_ends() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let preview = app.post("/v1/customers/jane/subscriptions/preview", json!({"plan": "trial"})).await.is(200);
        assert_eq!(list(&preview, "now").len(), 0);
        let next = &list(&preview, "next")[0];
        assert_eq!((text(next, "date"), text(next, "total")), ("2026-03-16T09:00:00Z", "10"));
        let new = subscribe(&app, "jane", json!({"plan": "trial"})).await;
        assert_eq!((text(&new, "state"), text(&new, "trial_end")), ("trialing", "2026-03-16T09:00:00Z"));
        assert!(new.get("invoice").is_none(), "{new}");
        advance(&app, "2026-03-16T09:00:00Z").await;
        let active = until_state(&app, &new, "active").await;
        assert_eq!((text(&active["invoice"], "total"), text(&active["invoice"], "state")), ("10", "paid"));
        // There is one trial for a customer.
        step(&app, &new, "cancel", json!({"at_period_end": false})).await;
        let again = subscribe(&app, "jane", json!({"plan": "trial"})).await;
        assert_eq!(text(&again, "state"), "active");
        let both = app.pages("/v1/customers/jane/subscriptions", 1).await;
        let states: Vec<&str> = both.iter().map(|subscription| text(subscription, "state")).collect();
        assert_eq!(states, ["active", "canceled"]);
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_subscription_is_paused_resumed_kept_and_ended() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        let new = subscribe(&app, "jane", json!({"plan": "pro"})).await;

        let later = step(&app, &new, "change", json!({"plan": "team", "when": "next_period"})).await;
        assert_eq!((text(&later, "plan"), text(&later["pending_change"], "plan")), ("pro", "team"));
        let ends = step(&app, &new, "cancel", json!({})).await;
        assert_eq!((&ends["cancel_at_period_end"], text(&ends, "state")), (&json!(true), "active"));
        let kept = app.request("POST", &format!("{}/keep", path(&new))).send().await.is(200);
        assert_eq!((&kept["cancel_at_period_end"], kept.get("pending_change")), (&json!(false), None));

        let paused = step(&app, &new, "pause", json!({"resumes_at": "2026-03-10T00:00:00Z"})).await;
        assert_eq!((text(&paused, "state"), text(&paused, "resumes_at")), ("paused", "2026-03-10T00:00:00Z"));
        app.post(&format!("{}/pause", path(&new)), json!({})).await.refused(409, "subscription_state");
        let resumed = app.request("POST", &format!("{}/resume", path(&new))).idempotency_key("r1").send().await;
        assert_eq!(text(&resumed.is(200), "state"), "active");
        let again = app.request("POST", &format!("{}/resume", path(&new))).idempotency_key("r1").send().await;
        assert!(again.replayed() && again.is(200) == resumed.json());
        app.request("POST", &format!("{}/resume", path(&new))).send().await.refused(409, "subscription_state");
        step(&app, &new, "pause", json!({"resumes_at": "2026-03-10T00:00:00Z"})).await;
        advance(&app, "2026-03-10T00:00:00Z").await;
        until_state(&app, &new, "active").await;

        // Jane's own session may end it with the period, and take that back, and no more.
        let cancel = format!("{}/cancel", path(&new));
        let own = |body: Value| as_customer(&app, "jane", app.request("POST", &cancel).json(&body));
        assert_eq!(own(json!({})).send().await.is(200)["cancel_at_period_end"], true);
        own(json!({"at_period_end": false})).send().await.refused(403, "scope_missing");
        let keep = format!("{}/keep", path(&new));
        as_customer(&app, "jane", app.request("POST", &keep)).send().await.is(200);
        as_customer(&app, "john", app.request("POST", &keep)).send().await.refused(404, "unknown_subscription");
        for (verb, body) in [("change", json!({"quantity": 2})), ("pause", json!({}))] {
            let request = app.request("POST", &format!("{}/{verb}", path(&new))).json(&body);
            as_customer(&app, "jane", request).send().await.refused(403, "scope_missing");
        }
        let read = as_customer(&app, "jane", app.request("GET", &path(&new))).send().await;
        assert_eq!(text(&read.is(200), "customer"), "jane");
        as_customer(&app, "john", app.request("GET", &path(&new))).send().await.refused(404, "unknown_subscription");

        step(&app, &new, "cancel", json!({})).await;
        advance(&app, "2026-04-02T09:00:00Z").await;
        let ended = until_state(&app, &new, "canceled").await;
        assert_eq!(text(&ended, "ended_at"), "2026-04-02T09:00:00Z");
        app.post(&cancel, json!({})).await.refused(409, "subscription_state");
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_check_says_why_what_is_left_and_when_there_is_more() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        app.create("john").await;
        let check = async |body: Value| app.post("/v1/check", body).await.is(200);
        let feature = |customer: &str, feature: &str| json!({"customer": customer, "feature": feature});
        let none = check(feature("john", "seats")).await;
        assert_eq!((&none["allowed"], text(&none, "code")), (&json!(false), "feature_not_included"));
        assert_eq!(none["feature"], json!({"name": "seats", "allowed": false}));

        subscribe(&app, "jane", json!({"plan": "pro"})).await;
        for (name, quantity, allowed, value) in [
            ("seats", json!(5), true, json!(5)),
            ("seats", json!(6), false, json!(5)),
            ("sso", json!(1), false, json!(false)),
            ("support", json!(1), true, json!("email")),
        ] {
            let answer = check(json!({"customer": "jane", "feature": name, "quantity": quantity})).await;
            assert_eq!(answer["allowed"], allowed, "{answer}");
            assert_eq!(answer["feature"], json!({"name": name, "allowed": allowed, "value": value}));
        }
        let messages = |quantity: u32| json!({"customer": "jane", "meter": "messages", "quantity": quantity});
        app.post("/v1/customers/jane/grants", json!({"amount": 100, "asset": "message", "kind": "paid"})).await.is(201);
        app.post("/v1/charges", messages(8)).await.is(201);
        let fits = check(messages(2)).await;
        let limit = json!({
            "name": "messages-a-day", "meter": "messages", "window": "day", "amount": "10", "used": "8", "left": "2",
            "resets_at": "2026-03-03T00:00:00Z", "hard": true,
        });
        assert_eq!((&fits["allowed"], &fits["limits"]), (&json!(true), &json!([limit])));
        assert_eq!(fits["features"], json!({"seats": 5, "sso": false, "support": "email"}));
        let more = check(messages(3)).await;
        assert_eq!((&more["allowed"], text(&more, "code")), (&json!(false), "limit_exceeded"));
        let refused = app.post("/v1/charges", messages(3)).await.refused(429, "limit_exceeded");
        assert_eq!((text(&refused, "limit"), text(&refused, "left")), ("messages-a-day", "2"));
        assert_eq!(text(&refused, "resets_at"), "2026-03-03T00:00:00Z");
        // Usage that has happened is recorded all the same.
        app.post("/v1/events", messages(3)).await.is(200);
        let entitled = app.get("/v1/customers/jane/entitlements").await.is(200);
        assert_eq!(list(&entitled, "limits")[0]["used"], "11");
        assert_eq!(entitled["overage"]["policy"], "refuse");
        advance(&app, "2026-03-03T00:00:00Z").await;
        app.post("/v1/charges", messages(3)).await.is(201);

        // No more than two calls at once.
        let call = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let first = app.post("/v1/holds", call.clone()).await.is(201);
        app.post("/v1/holds", call.clone()).await.is(201);
        let third = app.post("/v1/holds", call.clone()).await.refused(429, "limit_exceeded");
        assert_eq!((text(&third, "limit"), third.get("resets_at")), ("calls-at-once", None));
        app.post(&format!("/v1/holds/{}/settle", text(&first, "id")), json!({"quantity": 1})).await.is(200);
        app.post("/v1/holds", call).await.is(201);

        let notices = app.get("/v1/customers/jane/notices").await.is(200);
        let kinds: Vec<String> = list(&notices, "data").iter().map(told).collect();
        assert_eq!(
            kinds,
            [
                "limit_threshold 100",
                "limit_threshold 80",
                "limit_threshold 50",
                "subscription_started",
                "invoice_paid",
                "invoice_opened"
            ]
        );
        sandbox.stop().await;
    })
    .await;
}

/// What a notice says, in short.
fn told(notice: &Value) -> String {
    let percent = notice["percent"].as_u64().map(|percent| format!(" {percent}"));
    format!("{}{}", text(notice, "kind"), percent.unwrap_or_default())
}

#[tokio::test]
async fn usage_above_the_spending_limit_is_refused_until_the_next_period() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        subscribe(&app, "jane", json!({"plan": "team"})).await;
        let minutes = |quantity: u32, subject: &str| {
            json!({"customer": "jane", "meter": "minutes", "quantity": quantity, "subject": subject, "dimensions": {"voice": "low"}})
        };
        app.post("/v1/charges", minutes(20, "ann")).await.is(201);
        app.post("/v1/charges", minutes(12, "bob")).await.is(201);
        let check = app.post("/v1/check", minutes_checked(9)).await.is(200);
        assert_eq!((text(&check, "code"), &check["overage"]["policy"]), ("spending_limit", &json!("owe")));
        let spending = json!({
            "asset": "USD", "limit": "10", "spent": "8", "left": "2", "resets_at": "2026-04-02T09:00:00Z",
        });
        assert_eq!(check["spending"], spending);
        let refused = app.post("/v1/charges", minutes(9, "ann")).await.refused(402, "spending_limit");
        assert_eq!((text(&refused, "required"), text(&refused, "resets_at")), ("10.25", "2026-04-02T09:00:00Z"));

        // What was used in the period, as it is now.
        let usage = app.get("/v1/customers/jane/usage?period=current&group_by=subject,dimension:voice").await.is(200);
        assert_eq!(usage["period"], json!({"start": "2026-03-02T09:00:00Z", "end": "2026-04-02T09:00:00Z"}));
        let sums: Vec<_> = list(&usage, "data").iter().map(|sum| (text(sum, "subject"), text(sum, "quantity"))).collect();
        assert_eq!(sums, [("ann", "20"), ("bob", "12")]);
        assert!(list(&usage, "data").iter().all(|sum| sum["dimension"] == "low"), "{usage}");
        advance(&app, "2026-04-02T09:00:00Z").await;
        app.post("/v1/charges", minutes(9, "ann")).await.is(201);
        let usage = app.get("/v1/customers/jane/usage?period=current").await.is(200);
        assert_eq!(list(&usage, "data")[0]["quantity"], "9");
        app.get("/v1/customers/jane/usage?period=last").await.refused(400, "invalid_parameter");
        sandbox.stop().await;
    })
    .await;
}

fn minutes_checked(quantity: u32) -> Value {
    json!({"customer": "jane", "meter": "minutes", "quantity": quantity})
}

#[tokio::test]
async fn notices_are_followed_without_missing_any() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        let customers = ["ann", "bob", "cid", "dan"];
        for customer in customers {
            with_card(&app, customer, "pm_card_visa").await;
        }
        // Several come to be at once, while somebody follows them.
        let subscribing = customers.map(|customer| subscribe(&app, customer, json!({"plan": "trial"})));
        let (mut seen, mut last) = (Vec::new(), 0);
        let follow = async |last: i64| {
            let page = app.get(&format!("/v1/notices?after={last}&limit=2")).await.is(200);
            list(&page, "data").to_vec()
        };
        futures_util::future::join_all(subscribing).await;
        loop {
            let page = follow(last).await;
            let Some(newest) = page.last() else { break };
            last = newest["number"].as_i64().expect("a number");
            seen.extend(page);
        }
        let numbers: Vec<_> = seen.iter().map(|notice| notice["number"].as_i64().expect("a number")).collect();
        assert_eq!(numbers, (1..=4).collect::<Vec<_>>());
        assert!(seen.iter().all(|notice| notice["kind"] == "subscription_started"), "{seen:?}");

        advance(&app, "2026-03-13T09:00:00Z").await;
        sandbox.fault(json!({"kind": "decline_next", "times": 100})).await;
        advance(&app, "2026-03-16T09:00:01Z").await;
        let notices = app.get("/v1/customers/ann/notices").await.is(200);
        let kinds: Vec<String> = list(&notices, "data").iter().rev().map(told).collect();
        let expected = [
            "subscription_started",
            "trial_ending",
            "invoice_opened",
            "invoice_payment_failed",
            "subscription_past_due",
        ];
        assert_eq!(kinds, expected);
        let all = app.pages("/v1/notices", 5).await;
        assert_eq!(all.len(), 20, "{all:?}");
        assert_eq!((&all[0]["number"], &all[19]["number"]), (&json!(20), &json!(1)));
        assert_eq!(follow(20).await, [] as [Value; 0]);

        let own = as_customer(&app, "ann", app.request("GET", "/v1/customers/ann/notices")).send().await;
        assert_eq!(list(&own.is(200), "data").len(), 5);
        as_customer(&app, "ann", app.request("GET", "/v1/notices")).send().await.refused(403, "scope_missing");
        app.get("/v1/notices?after=-1").await.refused(400, "invalid_parameter");
        app.get("/v1/notices?after=1&cursor=Mg").await.refused(400, "invalid_parameter");
        sandbox.stop().await;
    })
    .await;
}

/// Where it is sent, what is sent, and the status, code and pointer (empty where there is none) of the answer.
type Case = (String, Value, u16, &'static str, &'static str);

/// What is wrong with subscribing.
fn subscribing() -> Vec<Case> {
    let pro = |name: &str, value: Value| {
        let mut body = json!({"plan": "pro"});
        body[name] = value;
        body
    };
    let invoiced = json!({"plan": "pro", "by_invoice": true, "collect": {"by": "browser"}});
    let own = [
        (json!({}), 400, "invalid_value", ""),
        (pro("plan", json!(1)), 400, "invalid_value", "/plan"),
        (pro("plan", json!("gold")), 422, "unknown_plan", "/plan"),
        (pro("quantity", json!(0)), 400, "invalid_value", "/quantity"),
        (pro("quantity", json!(1_000_001)), 400, "invalid_value", "/quantity"),
        (pro("trial_days", json!(731)), 400, "invalid_value", "/trial_days"),
        (pro("coupon", json!("none")), 422, "unknown_coupon", "/coupon"),
        (pro("add_ons", json!([{"name": "desk"}])), 422, "unknown_add_on", "/add_ons"),
        (pro("add_ons", json!([{"name": "number", "quantity": 0}])), 400, "invalid_value", "/add_ons/0/quantity"),
        (pro("add_ons", json!(vec![json!({"name": "number"}); 21])), 400, "invalid_value", "/add_ons"),
        (pro("collect", json!({"by": "on_file"})), 402, "no_payment_method", ""),
        (invoiced, 400, "invalid_value", "/collect"),
        (pro("colour", json!("red")), 400, "invalid_value", "/colour"),
    ];
    let of_john =
        |(body, status, code, pointer)| ("/v1/customers/john/subscriptions".into(), body, status, code, pointer);
    let mut cases: Vec<Case> = own.into_iter().map(of_john).collect();
    for (customer, end, plan, status, code, pointer) in [
        ("nobody", "", "pro", 404, "unknown_customer", "/customer"),
        ("nobody", "/preview", "pro", 404, "unknown_customer", "customer"),
        ("john", "/preview", "gold", 422, "unknown_plan", "/plan"),
    ] {
        let path = format!("/v1/customers/{customer}/subscriptions{end}");
        cases.push((path, json!({"plan": plan}), status, code, pointer));
    }
    cases
}

/// What is wrong with doing something to this subscription, and to others.
fn stepping(subscription: &str) -> Vec<Case> {
    let none = "/v1/subscriptions/sub_00000000000000000000000000000000000";
    let mut cases: Vec<Case> = Vec::new();
    for (path, body) in [
        (format!("{none}/change"), json!({"quantity": 2})),
        (format!("{none}/change/preview"), json!({"quantity": 2})),
        (format!("{none}/cancel"), json!({})),
        (format!("{none}/pause"), json!({})),
        ("/v1/subscriptions/jane/cancel".into(), json!({})),
        ("/v1/subscriptions/inv_00000000000000000000000000000000000/cancel".into(), json!({})),
    ] {
        cases.push((path, body, 404, "unknown_subscription", ""));
    }
    for (verb, body, status, code, pointer) in [
        ("change", json!({}), 400, "invalid_value", "/plan"),
        ("change", json!({"plan": "gold"}), 422, "unknown_plan", "/plan"),
        ("change", json!({"quantity": 0}), 400, "invalid_value", "/quantity"),
        ("change", json!({"quantity": 2, "when": "later"}), 400, "invalid_value", "/when"),
        ("change", json!({"quantity": 2, "proration": true}), 400, "invalid_value", "/proration"),
        ("change/preview", json!({}), 400, "invalid_value", "/plan"),
        ("cancel", json!({"prorate": true}), 400, "invalid_value", "/prorate"),
        ("cancel", json!({"at_period_end": "no"}), 400, "invalid_value", "/at_period_end"),
        ("pause", json!({"resumes_at": "2026-03-02T09:00:00Z"}), 422, "already_expired", "/resumes_at"),
        ("pause", json!({"resumes_at": "soon"}), 400, "invalid_value", "/resumes_at"),
    ] {
        cases.push((format!("{subscription}/{verb}"), body, status, code, pointer));
    }
    cases
}

/// What is wrong with items and checks.
fn items_and_checks() -> Vec<Case> {
    let item = |name: &str, value: Value| {
        let mut body = json!({"title": "Training", "price": 1});
        body[name] = value;
        ("/v1/customers/jane/items".into(), body)
    };
    let check = |body: Value| ("/v1/check".into(), body);
    let cases: Vec<((String, Value), u16, &'static str, &'static str)> = vec![
        (item("title", json!("")), 400, "invalid_value", "/title"),
        (item("price", json!(0)), 400, "invalid_value", "/price"),
        (item("price", json!("-0.0")), 400, "invalid_value", "/price"),
        (item("price", json!("--1")), 400, "invalid_value", "/price"),
        (item("price", json!("0.001")), 400, "invalid_value", "/price"),
        (item("currency", json!("minute")), 422, "unknown_asset", "/currency"),
        (item("currency", json!("EUR")), 422, "unknown_asset", "/currency"),
        (item("quantity", json!(0)), 400, "invalid_value", "/quantity"),
        (check(json!({"customer": "jane"})), 400, "invalid_value", "/meter"),
        (check(json!({"customer": "jane", "feature": ""})), 400, "invalid_value", "/feature"),
        (check(json!({"customer": "nobody", "feature": "sso"})), 404, "unknown_customer", "/customer"),
    ];
    cases.into_iter().map(|((path, body), status, code, pointer)| (path, body, status, code, pointer)).collect()
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_reason_and_changes_nothing() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        app.create("john").await;
        let new = subscribe(&app, "jane", json!({"plan": "pro"})).await;
        let of_john = "/v1/customers/john/subscriptions";
        for (to, body, status, code, pointer) in
            subscribing().into_iter().chain(stepping(&path(&new))).chain(items_and_checks())
        {
            let problem = app.post(&to, body.clone()).await.refused(status, code);
            assert_eq!(problem["pointer"].as_str().unwrap_or_default(), pointer, "{to} {body}: {problem}");
        }
        let (read_only, _) = app.new_key(farthing::auth::Scope::Read).await;
        let keep = format!("{}/keep", path(&new));
        for to in [of_john, &keep, "/v1/customers/john/items"] {
            app.request("POST", to).json(&json!({})).anonymous().send().await.refused(401, "credentials_missing");
        }
        app.request("POST", &keep).bearer(&read_only).send().await.refused(403, "scope_missing");
        for to in ["subscriptions", "entitlements", "notices"] {
            let path = format!("/v1/customers/jane/{to}");
            as_customer(&app, "john", app.request("GET", &path)).send().await.refused(404, "unknown_customer");
            as_customer(&app, "jane", app.request("GET", &path)).send().await.is(200);
        }
        assert_eq!(list(&app.get(of_john).await.is(200), "data").len(), 0);
        assert_eq!(app.get(&path(&new)).await.is(200), new);

        // Without a provider nobody can collect.
        let alone = TestApp::start(app.database.another().await).await;
        alone.create("jane").await;
        let body = json!({"plan": "pro"});
        alone.post("/v1/customers/jane/subscriptions", body).await.refused(409, "no_payment_provider");
        sandbox.stop().await;
    })
    .await;
}
