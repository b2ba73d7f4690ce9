//! Plans in force through the API, with the jobs running and the provider's webhooks coming in, as in life: subscribing,
//! what it will cost, changing, pausing and ending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::plan::{AddOn, Allowance, Plan};
use engine::{Asset, Catalog, Coupon, CouponDuration, Discount, Feature, Interval, Limit, Micros, Money, Window};
use farthing::clock::Clock as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::books;
use crate::databases::{Database, on_both};
use crate::harness::{JWT_SECRET, TestApp, TestRequest, list, text};
use crate::shop::TestSandbox;

/// A product with agents that answer calls, and a payment provider.
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

[connection]
provider = "stripe"

[jwt]
algorithm = "HS256"
secret_env = "ACME_JWT_SECRET"
"#;

fn dollars(minor: i64) -> Money {
    Money { minor, currency: Asset::new("USD") }
}

fn units(units: i64) -> Micros {
    Micros::new(units * 1_000_000)
}

fn plan(name: &str, title: &str, minor: i64) -> Plan {
    Plan {
        name: name.into(),
        version: format!("{name}-1").into(),
        title: title.into(),
        fee: dollars(minor),
        interval: Interval::MONTH,
        trial_days: 0,
        allowances: Vec::new(),
        features: BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: None,
        overage: None,
        commitment: None,
        add_ons: vec!["number".into(), "setup".into()],
        provider_price: None,
    }
}

fn limit(name: &str, meter: &str, window: Window, amount: i64) -> Limit {
    Limit { name: name.into(), meter: meter.into(), window, amount: units(amount), hard: true }
}

/// Pro for 20 dollars a month and Team for 50, a free plan, a trial; numbers and a set-up to book with them.
fn plans(catalog: &mut Catalog) {
    let minutes = Allowance {
        name: "minutes".into(),
        asset: Asset::new("minute"),
        amount: units(100),
        meters: Vec::new(),
        rollover: false,
        cap: None,
    };
    let pro = Plan {
        allowances: vec![minutes],
        features: [
            ("sso".into(), Feature::Flag(false)),
            ("seats".into(), Feature::Number(5)),
            ("support".into(), Feature::Text("email".into())),
        ]
        .into(),
        limits: vec![
            limit("messages_a_day", "messages", Window::Day, 10),
            limit("calls_at_once", "minutes", Window::OpenHolds, 2),
        ],
        ..plan("pro", "Pro", 2_000)
    };
    let team = Plan { features: [("sso".into(), Feature::Flag(true))].into(), ..plan("team", "Team", 5_000) };
    let trial = Plan { trial_days: 14, ..plan("trial", "Trial", 1_000) };
    for plan in [pro, team, trial] {
        catalog.plans.current.insert(plan.name.clone(), plan.version.clone());
        catalog.plans.versions.insert(plan.version.clone(), Arc::new(plan));
    }
    for (name, title, minor, recurring) in [("number", "Phone number", 300, true), ("setup", "Set-up", 1_000, false)] {
        let add_on = AddOn { name: name.into(), title: title.into(), fee: dollars(minor), recurring };
        catalog.plans.add_ons.insert(name.into(), add_on);
    }
    let half = Discount::Percent("50".parse().expect("a rate"));
    let half = Coupon { code: "half".into(), discount: half, duration: CouponDuration::Once };
    catalog.plans.coupons.insert("half".into(), half);
}

async fn shop(database: Database) -> (TestApp, TestSandbox) {
    TestApp::selling(database, TENANT, plans).await
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
        assert_eq!((text(&new, "state"), text(&new, "plan"), text(&new, "version")), ("incomplete", "pro", "pro-1"));
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
        let unused = [line("Unused time of Pro", "-20"), line("Unused time of Phone number", "-4.5")];
        assert_eq!(lines(now)[..2], unused);
        assert_eq!(lines(now)[2..], [line("Remaining time of Team", "25")]);
        assert_eq!(text(now, "total"), "0.5");
        let item = json!({"title": "Training", "price": "100.50", "operation_key": "i1"});
        let items = "/v1/customers/jane/items";
        let added = app.post(items, item.clone()).await;
        assert_eq!((text(&added.is(201), "price"), added.replayed()), ("100.5", false));
        let again = app.post(items, item).await;
        assert!(again.replayed() && again.is(201) == added.json());
        let preview = app.post(&format!("{}/change/preview", path(&new)), change.clone()).await.is(200);
        let now = &list(&preview, "now")[0];
        assert_eq!(text(now, "total"), "101", "with what waits for the next invoice");
        let changed = step(&app, &new, "change", change).await;
        assert_eq!((text(&changed, "plan"), text(&changed, "state")), ("team", "active"));
        assert_eq!((text(&changed["invoice"], "total"), text(&changed["invoice"], "state")), ("101", "paid"));

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
async fn what_cannot_be_subscribed_to_is_refused() {
    on_both(async |database| {
        let (app, sandbox) = shop(database).await;
        with_card(&app, "jane", "pm_card_visa").await;
        app.create("john").await;
        let new = subscribe(&app, "jane", json!({"plan": "pro"})).await;
        let subscriptions = "/v1/customers/john/subscriptions";
        let none = "/v1/subscriptions/sub_00000000000000000000000000000000000";
        let of_new = |verb: &str| format!("{}/{verb}", path(&new));
        for (to, body, status, code, pointer) in [
            (subscriptions, json!({}), 400, "invalid_value", ""),
            (subscriptions, json!({"plan": 1}), 400, "invalid_value", "/plan"),
            (subscriptions, json!({"plan": "gold"}), 422, "unknown_plan", "/plan"),
            (subscriptions, json!({"plan": "pro", "quantity": 0}), 400, "invalid_value", "/quantity"),
            (subscriptions, json!({"plan": "pro", "quantity": 1_000_001}), 400, "invalid_value", "/quantity"),
            (subscriptions, json!({"plan": "pro", "trial_days": 731}), 400, "invalid_value", "/trial_days"),
            (subscriptions, json!({"plan": "pro", "coupon": "none"}), 422, "unknown_coupon", "/coupon"),
            (subscriptions, json!({"plan": "pro", "add_ons": [{"name": "desk"}]}), 422, "unknown_add_on", "/add_ons"),
            (
                subscriptions,
                json!({"plan": "pro", "add_ons": [{"name": "number", "quantity": 0}]}),
                400,
                "invalid_value",
                "/add_ons/0/quantity",
            ),
            (subscriptions, json!({"plan": "pro", "collect": {"by": "on_file"}}), 402, "no_payment_method", ""),
            (
                subscriptions,
                json!({"plan": "pro", "by_invoice": true, "collect": {"by": "browser"}}),
                400,
                "invalid_value",
                "/collect",
            ),
            (subscriptions, json!({"plan": "pro", "colour": "red"}), 400, "invalid_value", "/colour"),
            ("/v1/customers/nobody/subscriptions", json!({"plan": "pro"}), 404, "unknown_customer", "/customer"),
            ("/v1/customers/nobody/subscriptions/preview", json!({"plan": "pro"}), 404, "unknown_customer", "customer"),
            ("/v1/customers/john/subscriptions/preview", json!({"plan": "gold"}), 422, "unknown_plan", "/plan"),
            (&format!("{none}/change"), json!({"quantity": 2}), 404, "unknown_subscription", ""),
            (&format!("{none}/cancel"), json!({}), 404, "unknown_subscription", ""),
            ("/v1/subscriptions/jane/cancel", json!({}), 404, "unknown_subscription", ""),
            (&of_new("change"), json!({}), 400, "invalid_value", "/plan"),
            (&of_new("change"), json!({"plan": "gold"}), 422, "unknown_plan", "/plan"),
            (&of_new("change"), json!({"quantity": 2, "when": "later"}), 400, "invalid_value", "/when"),
            (&of_new("change"), json!({"quantity": 2, "proration": true}), 400, "invalid_value", "/proration"),
            (&of_new("cancel"), json!({"prorate": true}), 400, "invalid_value", "/prorate"),
            (&of_new("pause"), json!({"resumes_at": "2026-03-02T09:00:00Z"}), 422, "already_expired", "/resumes_at"),
            (&of_new("pause"), json!({"resumes_at": "soon"}), 400, "invalid_value", "/resumes_at"),
            ("/v1/customers/jane/items", json!({"title": "T"}), 400, "invalid_value", ""),
            ("/v1/customers/jane/items", json!({"title": "T", "price": 0}), 400, "invalid_value", "/price"),
            ("/v1/customers/jane/items", json!({"title": "T", "price": "0.001"}), 400, "invalid_value", "/price"),
            (
                "/v1/customers/jane/items",
                json!({"title": "T", "price": 1, "currency": "minute"}),
                422,
                "unknown_asset",
                "/currency",
            ),
            (
                "/v1/customers/jane/items",
                json!({"title": "T", "price": 1, "quantity": 0}),
                400,
                "invalid_value",
                "/quantity",
            ),
        ] {
            let problem = app.post(to, body.clone()).await.refused(status, code);
            assert_eq!(problem["pointer"].as_str().unwrap_or_default(), pointer, "{to} {body}: {problem}");
        }
        let (read_only, _) = app.new_key(farthing::auth::Scope::Read).await;
        for to in [subscriptions, &of_new("cancel"), &of_new("keep")] {
            let body = json!({});
            app.request("POST", to).json(&body).anonymous().send().await.refused(401, "credentials_missing");
        }
        app.request("POST", &of_new("keep")).bearer(&read_only).send().await.refused(403, "scope_missing");
        assert_eq!(list(&app.get(subscriptions).await.is(200), "data").len(), 0);

        // Without a provider nobody can collect.
        let alone = TestApp::start(database_like(&app).await).await;
        alone.create("jane").await;
        let body = json!({"plan": "pro"});
        alone.post("/v1/customers/jane/subscriptions", body).await.refused(409, "no_payment_provider");
        sandbox.stop().await;
    })
    .await;
}

async fn database_like(app: &TestApp) -> Database {
    app.database.another().await
}
