//! The `orgvoice` dialect, in the order of the product's own document: an organisation's billing from customer to dashboard, with
//! the answers that it promises; then invoices of words, the month's job, the platform's view, who may ask, what is refused and
//! how, and what a provider that declines or is down comes to.

use std::time::Duration;

use farthing::auth::Scope;
use farthing::clock::Clock;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::databases;
use crate::harness::{Answer, JWT_SECRET, TestApp, TestRequest, list, text};
use crate::shop::{TestSandbox, WEBHOOK_SECRET, signed};

/// The organisation of the tests, and another.
const ORGANISATION: &str = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// What the pages of the product begin their paths with.
const PREFIX: &str = "/api/billing";

/// The prices that the sandbox has without any in the environment.
const BASIC: &str = "price_YOUR_BASIC_PRICE_ID";
const PRO: &str = "price_YOUR_PRO_PRICE_ID";

/// Runs a test of the product on both databases, beside a sandbox.
async fn on_both(test: impl AsyncFn(&TestApp, &TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = TestApp::of_product(database, "orgvoice").await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// A token with these claims, good for so many seconds.
fn signed_token(app: &TestApp, mut claims: Value, seconds: i64, secret: &str) -> String {
    claims["exp"] = (app.clock.now().as_second() + seconds).into();
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// A user of an organisation.
fn user(app: &TestApp, organisation: &str, role: &str) -> String {
    let claims = json!({"sub": "user-1", "tenant_id": organisation, "email": "ann@agency.example", "role": role});
    signed_token(app, claims, 3600, JWT_SECRET)
}

fn admin(app: &TestApp) -> String {
    user(app, ORGANISATION, "admin")
}

fn request(app: &TestApp, method: &str, path: &str, token: &str) -> TestRequest {
    app.request(method, &format!("{PREFIX}{path}")).bearer(token)
}

async fn get(app: &TestApp, path: &str) -> Answer {
    request(app, "GET", path, &admin(app)).send().await
}

async fn post(app: &TestApp, path: &str, body: Value) -> Answer {
    request(app, "POST", path, &admin(app)).json(&body).send().await
}

/// Sets up the billing of the organisation; what is answered.
async fn set_up(app: &TestApp) -> Value {
    post(app, "/customer", json!({"email": "test@example.com", "name": "Test Organization"})).await.is(200)
}

/// Puts a test card on file, as somebody does in the product.
async fn add_card(app: &TestApp, card: &str) {
    let path = format!("/v1/customers/{ORGANISATION}/payment_methods");
    app.post(&path, json!({"payment_method": card})).await.is(200);
}

/// The same, and has it charged from then on.
async fn use_card(app: &TestApp, card: &str) {
    add_card(app, card).await;
    let path = format!("/v1/customers/{ORGANISATION}/payment_methods");
    let cards = app.get(&path).await.is(200);
    let newest = text(&list(&cards, "data")[0], "id").to_owned();
    app.post(&format!("{path}/{newest}/default"), json!({})).await.is(200);
}

/// Subscribes to the plan of this price with a card on file.
async fn subscribe(app: &TestApp) -> Value {
    add_card(app, "pm_card_visa").await;
    let begun = post(app, "/subscription", json!({"stripe_price_id": BASIC})).await.is(200);
    assert_eq!((&begun["status"], &begun["client_secret"]), (&json!("active"), &Value::Null), "{begun}");
    begun
}

/// Words as the voice services send them; an `id` counts once.
async fn speak(app: &TestApp, organisation: &str, meter: &str, words: i64) {
    let event = json!({"customer": organisation, "meter": meter, "quantity": words});
    let answer = app.post("/v1/events", event).await;
    assert!(answer.status < 300, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
}

/// What comes with the next usage invoice: words, cents.
async fn upcoming(app: &TestApp) -> (i64, i64) {
    let dashboard = get(app, "/dashboard").await.is(200);
    let charges = &dashboard["upcoming_charges"];
    let number = |name: &str| charges[name].as_i64().expect("a number");
    (number("voice_words_count"), number("voice_usage_cents"))
}

async fn generate(app: &TestApp) -> Value {
    request(app, "POST", "/generate-usage-invoice", &admin(app)).send().await.is(200)
}

async fn invoices(app: &TestApp) -> Vec<Value> {
    get(app, "/invoices").await.is(200).as_array().expect("a bare list").clone()
}

/// Moves the tenant's time.
async fn advance(app: &TestApp, to: &str) {
    app.post("/v1/test_clock/advance", json!({"to": to})).await.is(200);
}

/// Waits for what the provider's webhook is about to bring.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never came to be");
}

/// An error of this product: one sentence, and nothing else.
#[track_caller]
fn assert_detail(answer: &Answer, status: u16) -> String {
    let body = answer.is(status);
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{}: {body}", answer.what);
    let detail = text(&body, "detail");
    assert!(!detail.is_empty() && !detail.contains("cus_") && !detail.contains("req_"), "{}: {detail}", answer.what);
    detail.to_owned()
}

/// The keys of an object, in their order by name.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_from_customer_to_usage_invoice() {
    on_both(async |app, sandbox| {
        // 1. Create a customer, once.
        let customer = set_up(app).await;
        assert!(text(&customer, "stripe_customer_id").starts_with("cus_"), "{customer}");
        assert_eq!((text(&customer, "tenant_id"), text(&customer, "email")), (ORGANISATION, "test@example.com"));
        assert_eq!((text(&customer, "name"), &customer["phone"]), ("Test Organization", &Value::Null), "{customer}");
        assert_eq!(text(&customer, "created_at"), "2026-03-02T09:00:00.000000+00:00", "{customer}");
        let again = post(app, "/customer", json!({"email": "other@example.com"})).await;
        assert_eq!(assert_detail(&again, 400), "Customer already exists for this organization");
        assert_eq!(get(app, "/customer").await.is(200), customer);

        // 2. Create a subscription; the first invoice waits to be paid in the browser.
        let body = json!({"stripe_price_id": BASIC});
        let begun = post(app, "/subscription", body.clone()).await.is(200);
        assert!(text(&begun, "stripe_subscription_id").starts_with("sub_"), "{begun}");
        assert_eq!((text(&begun, "status"), text(&begun, "stripe_price_id")), ("incomplete", BASIC), "{begun}");
        assert_eq!((&begun["amount_cents"], text(&begun, "currency")), (&json!(2900), "usd"), "{begun}");
        assert_eq!((&begun["requires_action"], &begun["cancel_at_period_end"]), (&json!(true), &json!(false)));
        assert_eq!(begun["customer_id"], customer["id"]);
        let secret = text(&begun, "client_secret").to_owned();
        let none = get(app, "/subscription").await;
        assert_eq!(assert_detail(&none, 404), "No active subscription found");
        // Asked again, it is the same.
        assert_eq!(post(app, "/subscription", body.clone()).await.is(200)["id"], begun["id"]);
        let (status, paid) = sandbox.pay(&secret, "pm_card_visa").await;
        assert_eq!((status, &paid["status"]), (200, &json!("succeeded")), "{paid}");
        let id = text(&begun, "id").to_owned();
        eventually(async || get(app, "/subscription").await.status == 200).await;
        let found = get(app, "/subscription").await.is(200);
        assert_eq!((text(&found, "id"), text(&found, "status")), (&*id, "active"), "{found}");
        let second = post(app, "/subscription", body).await;
        assert_eq!(assert_detail(&second, 400), "The organization already has a subscription");

        // 3. The dashboard.
        speak(app, ORGANISATION, "stt_words", 1000).await;
        speak(app, ORGANISATION, "tts_words", 505).await;
        let dashboard = get(app, "/dashboard").await.is(200);
        assert_eq!(
            keys(&dashboard),
            ["current_period_usage", "current_subscription", "recent_invoices", "upcoming_charges"]
        );
        assert_eq!(dashboard["current_subscription"], found);
        let usage = &dashboard["current_period_usage"];
        assert_eq!(
            *usage,
            json!({
                "period": "month", "start_date": "2026-03-01T00:00:00.000000+00:00", "end_date": usage["end_date"],
                "total_tokens": 0, "total_tts_words": 505, "total_stt_words": 1000, "total_cost_cents": 0,
                "breakdown_by_user": {}, "breakdown_by_service": {}
            })
        );
        assert_eq!(upcoming(app).await, (1505, 150));
        let fees = list(&dashboard, "recent_invoices");
        assert_eq!(fees.len(), 1, "{dashboard}");
        assert_eq!((&fees[0]["status"], &fees[0]["amount_paid_cents"]), (&json!("paid"), &json!(2900)), "{dashboard}");

        // 5. The usage invoice: a real one at the provider, with the same total, once.
        let generated = generate(app).await;
        assert_eq!(text(&generated, "message"), "Usage invoice created");
        assert_eq!(generate(app).await, generated);
        let made = invoices(app).await;
        assert_eq!(made.len(), 2, "{made:?}");
        let invoice = &made[0];
        assert_eq!(invoice["id"], generated["invoice_id"]);
        assert_eq!(
            (&invoice["amount_due_cents"], &invoice["voice_words_count"], &invoice["voice_usage_cents"]),
            (&json!(150), &json!(1505), &json!(150)),
            "{invoice}"
        );
        let theirs = sandbox.get(&format!("/v1/invoices/{}", text(invoice, "stripe_invoice_id"))).await;
        assert_eq!((&theirs["total"], &theirs["customer"]), (&json!(150), &customer["stripe_customer_id"]), "{theirs}");
        assert_eq!(text(&theirs, "description"), "Usage charges for March 2026");
        assert_eq!(upcoming(app).await, (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_started_on_the_providers_page() {
    on_both(async |app, sandbox| {
        // What is sold is told to everybody.
        let plans = app.request("GET", &format!("{PREFIX}/subscription-plans")).anonymous().send().await.is(200);
        let shown = |plan: &Value| {
            (text(plan, "id").to_owned(), text(plan, "price_id").to_owned(), plan["amount_cents"].clone())
        };
        let all: Vec<_> = list(&plans, "plans").iter().map(shown).collect();
        let plan = |id: &str, price: &str, cents: i64| (id.to_owned(), price.to_owned(), json!(cents));
        assert_eq!(all, [plan("basic", BASIC, 2900), plan("pro", PRO, 9900)]);
        let first = &list(&plans, "plans")[0];
        assert_eq!((text(first, "interval"), text(first, "currency")), ("month", "usd"), "{first}");
        assert!(list(first, "features").iter().all(Value::is_string), "{first}");

        for (body, words) in [
            (json!({}), "Plan ID required"),
            (json!({"plan_id": ""}), "Plan ID required"),
            (json!({"plan_id": "gold"}), "Invalid plan selected"),
        ] {
            assert_eq!(assert_detail(&post(app, "/start-subscription", body).await, 400), words);
        }
        // It sets up the billing by itself, with the address in the token.
        let started = post(app, "/start-subscription", json!({"plan_id": "pro"})).await.is(200);
        let page = text(&started, "checkout_url").to_owned();
        assert_eq!(text(&get(app, "/customer").await.is(200), "email"), "ann@agency.example");
        assert_eq!(post(app, "/start-subscription", json!({"plan_id": "pro"})).await.is(200), started);
        sandbox.pay_on_page(&page, "4242424242424242").await;
        eventually(async || get(app, "/subscription").await.status == 200).await;
        let found = get(app, "/subscription").await.is(200);
        assert_eq!((text(&found, "status"), &found["amount_cents"]), ("active", &json!(9900)), "{found}");
        assert_detail(&post(app, "/start-subscription", json!({"plan_id": "pro"})).await, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_priced_to_the_cent_and_the_remainder_is_carried() {
    on_both(async |app, _| {
        set_up(app).await;
        let (mut words, mut cents) = (0, 0);
        // What a price in floating point gets wrong, and the product's own table.
        for more in [9, 1, 280, 280, 10, 419, 1, 999, 1, 500, 1000, 7] {
            speak(app, ORGANISATION, if more % 2 == 0 { "tts_words" } else { "stt_words" }, more).await;
            words += more;
            assert_eq!(upcoming(app).await, (words, words / 10));
            cents = words / 10;
        }
        assert_eq!((words, cents), (3507, 350));
        generate(app).await;
        let march = invoices(app).await.remove(0);
        assert_eq!((&march["amount_due_cents"], &march["voice_words_count"]), (&json!(350), &json!(3507)), "{march}");
        // Seven tenths of a cent are left, and make a whole one with the next three words.
        advance(app, "2026-04-10T00:00:00Z").await;
        assert_eq!(upcoming(app).await, (0, 0));
        speak(app, ORGANISATION, "stt_words", 503).await;
        assert_eq!(upcoming(app).await, (503, 51));
        generate(app).await;
        let april = invoices(app).await.remove(0);
        assert_eq!(
            (&april["amount_due_cents"], &april["voice_words_count"], &april["voice_usage_cents"]),
            (&json!(51), &json!(503), &json!(51)),
            "{april}"
        );
        // Too little to be collected is not asked for yet: it comes with the next invoice.
        advance(app, "2026-05-10T00:00:00Z").await;
        speak(app, ORGANISATION, "stt_words", 290).await;
        generate(app).await;
        let may = invoices(app).await.remove(0);
        assert_eq!((&may["amount_due_cents"], &may["voice_usage_cents"]), (&json!(0), &json!(29)), "{may}");
        assert_eq!(may["stripe_invoice_id"], Value::Null, "{may}");
        let dashboard = get(app, "/dashboard").await.is(200);
        assert_eq!(dashboard["upcoming_charges"]["carried_cents"], 29, "{dashboard}");
        advance(app, "2026-06-10T00:00:00Z").await;
        speak(app, ORGANISATION, "tts_words", 1000).await;
        generate(app).await;
        let june = invoices(app).await.remove(0);
        assert_eq!((&june["amount_due_cents"], &june["voice_usage_cents"]), (&json!(129), &json!(100)), "{june}");
    })
    .await;
}

/// What the provider has collected of a customer, in cents.
async fn collected(sandbox: &TestSandbox, customer: &str) -> i64 {
    let charges = sandbox.get(&format!("/v1/charges?customer={customer}&limit=100")).await;
    let paid = list(&charges, "data").iter().filter(|charge| charge["status"] == "succeeded");
    paid.filter_map(|charge| charge["amount_captured"].as_i64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_month_ends_and_subscribers_are_invoiced_by_themselves() {
    on_both(async |app, sandbox| {
        // From here on the provider has the tenant's time.
        advance(app, "2026-03-02T09:00:01Z").await;
        let customer = text(&set_up(app).await, "stripe_customer_id").to_owned();
        let begun = subscribe(app).await;
        // Another organisation uses words too, and has no subscription.
        let other = user(app, OTHER, "admin");
        let body = json!({"email": "other@example.com"});
        request(app, "POST", "/customer", &other).json(&body).send().await.is(200);
        speak(app, OTHER, "stt_words", 5000).await;
        speak(app, ORGANISATION, "stt_words", 12_345).await;
        // Somebody has asked for it within the month: the month's job takes what came afterwards.
        let generated = generate(app).await;
        speak(app, ORGANISATION, "tts_words", 987).await;
        advance(app, "2026-03-31T23:59:59Z").await;
        assert_eq!(generate(app).await, generated);
        let usage = async || {
            let made = invoices(app).await;
            made.into_iter().filter(|invoice| invoice["voice_words_count"] != 0).collect::<Vec<_>>()
        };
        assert_eq!(usage().await.len(), 1);
        for time in ["2026-04-01T00:30:00Z", "2026-04-01T01:30:00Z"] {
            advance(app, time).await;
            let made = usage().await;
            assert_eq!(made.len(), 2, "{made:?}");
            let month = &made[0];
            // 1234.5 and 98.7 cents are 1333.2.
            assert_eq!((&month["amount_due_cents"], &month["voice_words_count"]), (&json!(99), &json!(987)), "{month}");
            assert_eq!(
                (text(month, "period_start"), text(month, "period_end")),
                ("2026-03-01T00:00:00.000000+00:00", "2026-04-01T00:00:00.000000+00:00"),
                "{month}"
            );
            assert_eq!((text(month, "status"), &month["amount_paid_cents"]), ("paid", &json!(99)), "{month}");
            assert!(month["paid_at"].is_string(), "{month}");
        }
        // Each has its like at the provider, and the card was charged once for each.
        for invoice in usage().await {
            let theirs = sandbox.get(&format!("/v1/invoices/{}", text(&invoice, "stripe_invoice_id"))).await;
            assert_eq!(
                (&theirs["total"], &theirs["status"]),
                (&invoice["amount_due_cents"], &json!("paid")),
                "{theirs}"
            );
        }
        assert_eq!(collected(sandbox, &customer).await, 2900 + 1234 + 99);
        let theirs: Value = request(app, "GET", "/invoices", &other).send().await.is(200);
        assert_eq!(theirs, json!([]));
        // The provider renews the plan in the middle of the month, which invoices no words.
        speak(app, ORGANISATION, "stt_words", 600).await;
        advance(app, "2026-04-20T00:00:00Z").await;
        assert_eq!(usage().await.len(), 2);
        advance(app, "2026-05-01T00:00:01Z").await;
        assert_eq!(usage().await[0]["amount_due_cents"], 60);
        assert_eq!(collected(sandbox, &customer).await, 2 * 2900 + 1234 + 99 + 60);
        // It ends at the provider: there is none any more, and what is owed is invoiced.
        speak(app, ORGANISATION, "tts_words", 700).await;
        let path = format!("/v1/subscriptions/{}", text(&begun, "stripe_subscription_id"));
        sandbox.post(&path, &[("cancel_at_period_end", "true")]).await;
        advance(app, "2026-05-03T00:00:00Z").await;
        assert_detail(&get(app, "/subscription").await, 404);
        assert_eq!(get(app, "/dashboard").await.is(200)["current_subscription"], Value::Null);
        assert_eq!(usage().await[0]["amount_due_cents"], 70);
        assert_eq!(collected(sandbox, &customer).await, 2 * 2900 + 1234 + 99 + 60 + 70);
    })
    .await;
}

/// An invoice of ten dollars, made at nine in the morning of 2 March, whose card is declined: the provider's customer, and the
/// invoice.
async fn decline(app: &TestApp) -> (String, Value) {
    let customer = text(&set_up(app).await, "stripe_customer_id").to_owned();
    advance(app, "2026-03-02T09:00:01Z").await;
    add_card(app, "pm_card_chargeCustomerFail").await;
    speak(app, ORGANISATION, "stt_words", 10_000).await;
    generate(app).await;
    (customer, invoices(app).await.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_invoice_that_is_declined_stays_the_one_that_there_is() {
    on_both(async |app, sandbox| {
        let (customer, made) = decline(app).await;
        let generated = generate(app).await;
        assert_eq!((text(&made, "status"), &made["amount_paid_cents"]), ("open", &json!(0)), "{made}");
        let theirs = text(&made, "stripe_invoice_id").to_owned();
        assert_eq!(generate(app).await, generated);
        // Tried again by the schedule, with the same card, and then with one that is good: it is the same invoice all along.
        advance(app, "2026-03-06T00:00:00Z").await;
        let again = invoices(app).await.remove(0);
        assert_eq!((text(&again, "status"), text(&again, "stripe_invoice_id")), ("open", &*theirs), "{again}");
        use_card(app, "pm_card_visa").await;
        advance(app, "2026-03-20T00:00:00Z").await;
        let paid = invoices(app).await.remove(0);
        assert_eq!((text(&paid, "status"), text(&paid, "stripe_invoice_id")), ("paid", &*theirs), "{paid}");
        assert_eq!(collected(sandbox, &customer).await, 1000);
        assert_eq!(sandbox.all("invoices").await.len(), 1);
        assert_eq!(sandbox.all("payment_intents").await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_invoice_that_was_voided_at_the_provider_is_tried_anew() {
    on_both(async |app, sandbox| {
        let (customer, made) = decline(app).await;
        let void = format!("/v1/invoices/{}/void", text(&made, "stripe_invoice_id"));
        assert_eq!(sandbox.post(&void, &[]).await.0, 200);
        use_card(app, "pm_card_visa").await;
        advance(app, "2026-03-20T00:00:00Z").await;
        let paid = invoices(app).await.remove(0);
        assert_eq!(text(&paid, "status"), "paid", "{paid}");
        assert_ne!(text(&paid, "stripe_invoice_id"), text(&made, "stripe_invoice_id"));
        assert_eq!(collected(sandbox, &customer).await, 1000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_invoice_that_was_paid_elsewhere_is_not_given_up_on() {
    on_both(async |app, sandbox| {
        let (customer, made) = decline(app).await;
        // A second before it is tried for the last time.
        advance(app, "2026-03-17T09:00:00Z").await;
        assert_eq!(text(&invoices(app).await[0], "status"), "open");
        // The webhook is lost; that it happened can be read from the provider's events.
        sandbox.fault(json!({"kind": "lose_webhook", "times": 100})).await;
        let path = format!("/v1/invoices/{}/pay", text(&made, "stripe_invoice_id"));
        assert_eq!(sandbox.post(&path, &[("paid_out_of_band", "true")]).await.0, 200);
        advance(app, "2026-03-17T09:00:02Z").await;
        let paid = invoices(app).await.remove(0);
        assert_eq!((text(&paid, "status"), &paid["stripe_invoice_id"]), ("paid", &made["stripe_invoice_id"]), "{paid}");
        assert_eq!(collected(sandbox, &customer).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_usage_invoice_without_a_card_is_paid_on_its_page_or_taken_back() {
    on_both(async |app, sandbox| {
        set_up(app).await;
        speak(app, ORGANISATION, "stt_words", 10_000).await;
        generate(app).await;
        let made = invoices(app).await.remove(0);
        assert_eq!(text(&made, "status"), "open", "{made}");
        // It waits for longer than a payment would.
        advance(app, "2026-03-12T00:00:00Z").await;
        sandbox.pay_on_page(text(&made, "hosted_invoice_url"), "4242424242424242").await;
        eventually(async || invoices(app).await[0]["status"] == "paid").await;
        advance(app, "2026-04-12T00:00:00Z").await;
        speak(app, ORGANISATION, "stt_words", 8_000).await;
        generate(app).await;
        let second = invoices(app).await.remove(0);
        let native = app.get(&format!("/v1/customers/{ORGANISATION}/invoices")).await.is(200);
        let id = text(&list(&native, "data")[0], "id").to_owned();
        app.post(&format!("/v1/invoices/{id}/void"), json!({})).await.is(200);
        let theirs = format!("/v1/invoices/{}", text(&second, "stripe_invoice_id"));
        advance(app, "2026-04-12T00:01:00Z").await;
        assert_eq!(sandbox.get(&theirs).await["status"], "void");
        assert_eq!(invoices(app).await[0]["status"], "void");
        // Somebody notes at the provider that another was paid by a transfer.
        advance(app, "2026-05-12T00:00:00Z").await;
        speak(app, ORGANISATION, "stt_words", 7_000).await;
        generate(app).await;
        let third = invoices(app).await.remove(0);
        let path = format!("/v1/invoices/{}/pay", text(&third, "stripe_invoice_id"));
        let (status, _) = sandbox.post(&path, &[("paid_out_of_band", "true")]).await;
        assert_eq!(status, 200);
        eventually(async || invoices(app).await[0]["status"] == "paid").await;
        assert_eq!(invoices(app).await[0]["amount_paid_cents"], 700);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_sees_every_organisation() {
    on_both(async |app, _| {
        set_up(app).await;
        subscribe(app).await;
        speak(app, ORGANISATION, "stt_words", 1009).await;
        speak(app, ORGANISATION, "tts_words", 1000).await;
        generate(app).await;
        let profile = json!({"profile": {"name": "Other", "metadata": {"subdomain": "other"}}});
        app.put(&format!("/v1/customers/{OTHER}"), profile).await.is(201);
        speak(app, OTHER, "tts_words", 290).await;
        app.put("/v1/customers/closed", json!({})).await.is(201);
        app.put("/v1/customers/closed", json!({"status": "closed"})).await.is(200);

        let all = request(app, "GET", "/dashboard", &user(app, OTHER, "super_admin")).send().await.is(200);
        assert_eq!(
            keys(&all),
            [
                "organizations",
                "summary",
                "total_organizations",
                "total_revenue_cents",
                "total_voice_words",
                "view_type"
            ]
        );
        assert_eq!((text(&all, "view_type"), &all["total_organizations"]), ("super_admin", &json!(2)), "{all}");
        assert_eq!((&all["total_revenue_cents"], &all["total_voice_words"]), (&json!(2900 + 200 + 29), &json!(2299)));
        let summary = &all["summary"];
        assert_eq!(
            (&summary["total_subscription_revenue"], &summary["total_usage_revenue"]),
            (&json!(2900), &json!(229)),
            "{all}"
        );
        let find = |id: &str| {
            let found = list(&all, "organizations").iter().find(|of| of["organization_id"] == id);
            found.expect("the organisation").clone()
        };
        let first = find(ORGANISATION);
        assert_eq!(
            keys(&first),
            [
                "organization_id",
                "organization_name",
                "recent_invoices",
                "subdomain",
                "subscription",
                "subscription_revenue_cents",
                "total_charges_cents",
                "usage_stats",
                "voice_charges_cents",
                "voice_words_count"
            ]
        );
        assert_eq!(
            (text(&first, "organization_name"), &first["total_charges_cents"]),
            ("Test Organization", &json!(3100))
        );
        assert_eq!((text(&first["subscription"], "status"), list(&first, "recent_invoices").len()), ("active", 1));
        assert!(text(&list(&first, "recent_invoices")[0], "stripe_invoice_id").starts_with("in_"), "{first}");
        let other = find(OTHER);
        assert_eq!((text(&other, "subdomain"), &other["subscription"]), ("other", &Value::Null), "{other}");
        assert_eq!((&other["voice_words_count"], &other["voice_charges_cents"]), (&json!(290), &json!(29)), "{other}");
        // Nobody else does.
        assert_eq!(get(app, "/dashboard").await.is(200)["view_type"], Value::Null);
    })
    .await;
}

/// Every endpoint that is about an organisation, with a body that would do. Those that change something come last.
fn endpoints() -> Vec<(&'static str, &'static str, Option<Value>)> {
    vec![
        ("GET", "/customer", None),
        ("GET", "/subscription", None),
        ("GET", "/dashboard", None),
        ("GET", "/invoices?limit=10", None),
        ("POST", "/customer", Some(json!({"email": "test@example.com"}))),
        ("POST", "/subscription", Some(json!({"stripe_price_id": BASIC}))),
        ("POST", "/start-subscription", Some(json!({"plan_id": "basic"}))),
        ("POST", "/generate-usage-invoice", None),
    ]
}

/// Asks all of them.
async fn ask(app: &TestApp, credential: Option<&str>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (method, path, body) in endpoints() {
        let request = app.request(method, &format!("{PREFIX}{path}")).anonymous();
        let request = credential.map_or(request.clone(), |credential| request.bearer(credential));
        let request = body.as_ref().map_or(request.clone(), |body| request.json(body));
        answers.push(request.send().await);
    }
    answers
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_known_is_401() {
    on_both(async |app, _| {
        for answer in ask(app, None).await {
            assert_eq!(assert_detail(&answer, 401), "Not authenticated", "{}", answer.what);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
        }
        let claims = json!({"sub": "user-1", "tenant_id": ORGANISATION, "email": "a@b.example", "role": "super_admin"});
        let without = |claim: &str| {
            let mut claims = claims.clone();
            claims.as_object_mut().expect("an object").remove(claim);
            signed_token(app, claims, 3600, JWT_SECRET)
        };
        let mut bad = vec![
            "not-a-token".to_owned(),
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyLTEifQ.".to_owned(),
            signed_token(app, claims.clone(), 3600, "thirty-two bytes of another secret than ours"),
            signed_token(app, claims.clone(), -3600, JWT_SECRET),
            "fk_test_unknown".to_owned(),
        ];
        bad.extend(["sub", "tenant_id", "email", "role"].map(without));
        for credential in bad {
            for answer in ask(app, Some(&credential)).await {
                assert_eq!(assert_detail(&answer, 401), "Could not validate credentials", "{}", answer.what);
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
            }
        }
        // A server's key says nothing of whose billing it is.
        let (key, _) = app.new_key(Scope::Admin).await;
        for answer in ask(app, Some(&key)).await {
            assert_detail(&answer, 403);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_is_read_by_its_people_and_changed_by_its_admins() {
    on_both(async |app, _| {
        // Nothing is set up yet: an admin is told so, a user may change nothing anyway.
        let none = ask(app, Some(&user(app, ORGANISATION, "user"))).await;
        assert_eq!(statuses(&none), [404, 404, 200, 200, 403, 403, 403, 403]);
        assert_eq!(assert_detail(&none[0], 404), "No billing customer found");
        for answer in &none[4..] {
            assert_eq!(assert_detail(answer, 403), "Admin access required");
        }
        for (path, body) in
            [("/subscription", json!({"stripe_price_id": BASIC})), ("/generate-usage-invoice", json!({}))]
        {
            assert_eq!(assert_detail(&post(app, path, body).await, 404), "No billing customer found");
        }
        let dashboard = get(app, "/dashboard").await.is(200);
        assert_eq!(
            (&dashboard["current_subscription"], &dashboard["recent_invoices"]),
            (&Value::Null, &json!([])),
            "{dashboard}"
        );
        set_up(app).await;
        subscribe(app).await;
        let members = ask(app, Some(&user(app, ORGANISATION, "user"))).await;
        assert_eq!(statuses(&members), [200, 200, 200, 200, 403, 403, 403, 403]);
        let admins = ask(app, Some(&admin(app))).await;
        assert_eq!(statuses(&admins), [200, 200, 200, 200, 400, 400, 400, 200]);
        assert_eq!(text(&admins[7].json(), "message"), "No usage charges for current period");
        // Another organisation's people see nothing of it, whatever they may do in their own.
        let others = ask(app, Some(&user(app, OTHER, "admin"))).await;
        assert_eq!(statuses(&others)[..4], [404, 404, 200, 200]);
        assert_eq!(others[2].json()["current_subscription"], Value::Null);
        assert_eq!(others[3].json(), json!([]));
        let first = get(app, "/customer").await.is(200);
        let theirs = request(app, "GET", "/customer", &user(app, OTHER, "user")).send().await.is(200);
        assert_ne!(first["stripe_customer_id"], theirs["stripe_customer_id"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    on_both(async |app, _| {
        set_up(app).await;
        for (path, body, kind, at) in [
            ("/customer", json!({"name": "Agency"}), "missing", "email"),
            ("/customer", json!({"email": 5}), "string_type", "email"),
            ("/customer", json!({"email": null}), "string_type", "email"),
            ("/customer", json!({"email": "a@b.example", "phone": 5}), "string_type", "phone"),
            ("/customer", json!({"email": "a".repeat(300)}), "string_too_long", "email"),
            ("/subscription", json!({}), "missing", "stripe_price_id"),
            ("/subscription", json!({"price_id": BASIC}), "missing", "stripe_price_id"),
            ("/subscription", json!({"stripe_price_id": ["x"]}), "string_type", "stripe_price_id"),
            ("/start-subscription", json!({"plan_id": 5}), "string_type", "plan_id"),
        ] {
            let told = post(app, path, body).await.is(422);
            assert_eq!(text(&told, "detail"), "Validation error", "{told}");
            let error = &list(&told, "errors")[0];
            assert_eq!((text(error, "type"), &error["loc"]), (kind, &json!(["body", at])), "{told}");
        }
        for body in ["", "{", "[]", "null"] {
            let answer = request(app, "POST", "/subscription", &admin(app)).body("application/json", body).send().await;
            assert_eq!(text(&answer.is(422), "detail"), "Validation error");
        }
        for price in ["price_unknown", "", "price_YOUR_BASIC_PRICE_ID "] {
            let answer = post(app, "/subscription", json!({"stripe_price_id": price})).await;
            assert_eq!(assert_detail(&answer, 400), "No plan has this price");
        }
        for wrong in ["limit=0", "limit=101", "limit=two", "limit=-1"] {
            assert_eq!(text(&get(app, &format!("/invoices?{wrong}")).await.is(422), "detail"), "Validation error");
        }
        assert_detail(&get(app, "/nothing").await, 404);
        assert_detail(&request(app, "DELETE", "/customer", &admin(app)).send().await, 405);
        let large = request(app, "POST", "/customer", &admin(app)).body("application/json", " ".repeat(2 << 20));
        assert_detail(&large.send().await, 413);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_is_declined_leaves_a_subscription_to_be_paid_in_the_browser() {
    on_both(async |app, sandbox| {
        set_up(app).await;
        add_card(app, "pm_card_chargeCustomerFail").await;
        let body = json!({"stripe_price_id": PRO});
        let begun = post(app, "/subscription", body.clone()).await.is(200);
        assert_eq!((text(&begun, "status"), &begun["requires_action"]), ("incomplete", &json!(true)), "{begun}");
        assert_eq!(post(app, "/subscription", body).await.is(200)["id"], begun["id"]);
        assert_eq!(get(app, "/dashboard").await.is(200)["current_subscription"], Value::Null);
        // Declined once more in the browser, it can still be paid there, or on the provider's page.
        let secret = text(&begun, "client_secret");
        assert_eq!(sandbox.pay(secret, "pm_card_chargeDeclinedInsufficientFunds").await.0, 402);
        let payments = format!("/v1/customers/{ORGANISATION}/payments");
        let declined = async || app.get(&payments).await.is(200)["data"][0]["failure"]["decline_code"].clone();
        eventually(async || {
            let started = post(app, "/start-subscription", json!({"plan_id": "pro"})).await.is(200);
            assert!(text(&started, "checkout_url").starts_with(&sandbox.url), "{started}");
            declined().await == "insufficient_funds"
        })
        .await;
        let (status, paid) = sandbox.pay(text(&begun, "client_secret"), "pm_card_visa").await;
        assert_eq!((status, &paid["status"]), (200, &json!("succeeded")), "{paid}");
        eventually(async || get(app, "/subscription").await.status == 200).await;
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_502_and_what_was_asked_is_done_later_once() {
    on_both(async |app, sandbox| {
        set_up(app).await;
        speak(app, ORGANISATION, "stt_words", 10_000).await;
        let fault = json!({"kind": "error_before", "times": 100_000});
        sandbox.fault(fault).await;
        let other = user(app, OTHER, "admin");
        let (email, price, plan) =
            (json!({"email": "a@b.example"}), json!({"stripe_price_id": BASIC}), json!({"plan_id": "pro"}));
        let third = user(app, "third", "admin");
        let own = admin(app);
        let answers = tokio::join!(
            request(app, "POST", "/customer", &other).json(&email).send(),
            request(app, "POST", "/subscription", &own).json(&price).send(),
            request(app, "POST", "/start-subscription", &third).json(&plan).send(),
            request(app, "POST", "/generate-usage-invoice", &own).send(),
        );
        for answer in [&answers.0, &answers.1, &answers.2, &answers.3] {
            assert_detail(answer, 502);
        }
        // What needs no provider goes on.
        get(app, "/dashboard").await.is(200);
        get(app, "/customer").await.is(200);
        sandbox.mend().await;
        // What was asked for is tried again by and by.
        for _ in 0..10 {
            app.clock.advance(300);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let generated = generate(app).await;
        assert_eq!(text(&generated, "message"), "Usage invoice created");
        let begun = post(app, "/subscription", price).await.is(200);
        assert_eq!(text(&begun, "status"), "incomplete");
        eventually(async || request(app, "GET", "/customer", &other).send().await.status == 200).await;
        assert_eq!(sandbox.all("subscriptions").await.len(), 1);
        let usage = sandbox.all("invoices").await.into_iter().filter(|invoice| invoice["total"] == 1000);
        assert_eq!(usage.count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_at_any_step_makes_one_invoice() {
    for kind in ["timeout_after", "error_after"] {
        for path in ["/v1/invoices", "/v1/invoiceitems", "/v1/invoices/*/finalize", "/v1/invoices/*/pay"] {
            let (app, sandbox) = TestApp::of_product(databases::Database::sqlite().await, "orgvoice").await;
            let customer = text(&set_up(&app).await, "stripe_customer_id").to_owned();
            add_card(&app, "pm_card_visa").await;
            speak(&app, ORGANISATION, "stt_words", 10_000).await;
            speak(&app, ORGANISATION, "tts_words", 10_000).await;
            sandbox.fault(json!({"kind": kind, "method": "POST", "path": path})).await;
            let asked = request(&app, "POST", "/generate-usage-invoice", &admin(&app)).send().await;
            assert!([200, 502].contains(&asked.status), "{kind} {path}: {}", asked.status);
            eventually(async || invoices(&app).await[0]["status"] == "paid").await;
            assert_eq!(collected(&sandbox, &customer).await, 2000, "{kind} {path}");
            let theirs = sandbox.all("invoices").await;
            assert_eq!((theirs.len(), &theirs[0]["total"]), (1, &json!(2000)), "{kind} {path}: {theirs:?}");
            crate::books::assert_balanced(&*app.app.store).await;
            sandbox.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_at_once_do_everything_once() {
    on_both(async |app, sandbox| {
        let at_once = async |path: &str, body: Value| {
            let all = (0..12).map(|_| post(app, path, body.clone()));
            futures_util::future::join_all(all).await
        };
        let customers = at_once("/customer", json!({"email": "test@example.com"})).await;
        let mut told = statuses(&customers);
        told.sort_unstable();
        assert_eq!(told, [[200].as_slice(), [400; 11].as_slice()].concat());
        assert_eq!(sandbox.all("customers").await.len(), 1);
        let begun = at_once("/subscription", json!({"stripe_price_id": BASIC})).await;
        let ids: std::collections::BTreeSet<_> =
            begun.iter().map(|answer| text(&answer.is(200), "stripe_subscription_id").to_owned()).collect();
        assert_eq!((ids.len(), sandbox.all("subscriptions").await.len()), (1, 1));
        add_card(app, "pm_card_visa").await;
        speak(app, ORGANISATION, "stt_words", 10_000).await;
        let made = at_once("/generate-usage-invoice", json!({})).await;
        let ids: std::collections::BTreeSet<_> =
            made.iter().map(|answer| text(&answer.is(200), "invoice_id").to_owned()).collect();
        assert_eq!(ids.len(), 1);
        let usage = sandbox.all("invoices").await.into_iter().filter(|invoice| invoice["total"] == 1000);
        assert_eq!(usage.count(), 1);
        let customer = text(&get(app, "/customer").await.is(200), "stripe_customer_id").to_owned();
        assert_eq!(collected(sandbox, &customer).await, 1000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_paid_yet_may_choose_another_plan() {
    on_both(async |app, sandbox| {
        set_up(app).await;
        let choose = async |price: &str| post(app, "/subscription", json!({"stripe_price_id": price})).await;
        let basic = choose(BASIC).await.is(200);
        let pro = choose(PRO).await.is(200);
        assert_eq!((&pro["amount_cents"], &pro["status"]), (&json!(9900), &json!("incomplete")), "{pro}");
        assert_ne!(pro["stripe_subscription_id"], basic["stripe_subscription_id"]);
        // The first can be paid no more.
        assert_ne!(sandbox.pay(text(&basic, "client_secret"), "pm_card_visa").await.0, 200);
        // Of choices at once, one is the last.
        let answers = tokio::join!(choose(BASIC), choose(PRO), choose(BASIC), choose(PRO));
        for answer in [&answers.0, &answers.1, &answers.2, &answers.3] {
            assert!([200, 400].contains(&answer.status), "{}", String::from_utf8_lossy(&answer.body));
        }
        let live = async || {
            let all = sandbox.all("subscriptions").await;
            all.into_iter().filter(|subscription| subscription["status"] == "incomplete").collect::<Vec<_>>()
        };
        eventually(async || live().await.len() == 1).await;
        // The one that is left is paid, and no other.
        let left = live().await;
        let price = text(&left[0]["items"]["data"][0]["price"], "id");
        let chosen = choose(price).await.is(200);
        assert_eq!(text(&chosen, "stripe_subscription_id"), text(&left[0], "id"));
        assert_eq!(sandbox.pay(text(&chosen, "client_secret"), "pm_card_visa").await.0, 200);
        eventually(async || get(app, "/subscription").await.status == 200).await;
        assert_eq!(text(&get(app, "/subscription").await.is(200), "stripe_price_id"), price);
        assert_detail(&choose(if price == PRO { BASIC } else { PRO }).await, 400);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_that_was_erased_is_set_up_anew() {
    on_both(async |app, _| {
        let first = set_up(app).await;
        app.request("POST", &format!("/v1/customers/{ORGANISATION}/erase")).send().await.is(200);
        let again = set_up(app).await;
        assert_ne!((&again["id"], &again["stripe_customer_id"]), (&first["id"], &first["stripe_customer_id"]));
        let twice = post(app, "/customer", json!({"email": "test@example.com"})).await.is(400);
        assert_eq!(twice["detail"], "Customer already exists for this organization");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_is_verified_and_may_come_twice_and_in_any_order() {
    on_both(async |app, sandbox| {
        set_up(app).await;
        let begun = subscribe(app).await;
        speak(app, ORGANISATION, "stt_words", 10_000).await;
        generate(app).await;
        let subscription = text(&begun, "stripe_subscription_id").to_owned();
        sandbox.post(&format!("/v1/subscriptions/{subscription}"), &[("cancel_at_period_end", "true")]).await;
        let path = format!("{PREFIX}/webhook");
        let deliver = |body: &str, secret: &str| {
            let headers = signed(body, app.clock.wall().as_second(), secret);
            let signature = headers["stripe-signature"].to_str().expect("a header").to_owned();
            let request = app.request("POST", &path).anonymous().header("stripe-signature", &signature);
            request.body("application/json", body.to_owned())
        };
        let mut events = sandbox.events().await;
        events.reverse();
        for event in events.iter().chain(&events) {
            let taken = deliver(&event.to_string(), WEBHOOK_SECRET).send().await.is(200);
            assert_eq!(
                taken,
                json!({"status": "success", "event_id": event["id"], "event_type": event["type"]}),
                "{event}"
            );
        }
        let found = get(app, "/subscription").await.is(200);
        assert_eq!((text(&found, "status"), &found["cancel_at_period_end"]), ("active", &json!(true)), "{found}");
        let made = invoices(app).await;
        assert_eq!(made.len(), 2, "{made:?}");
        assert!(made.iter().all(|invoice| invoice["status"] == "paid"), "{made:?}");

        let body = events[0].to_string();
        for forged in [
            deliver(&body, "whsec_of_somebody").send().await,
            app.request("POST", &path).anonymous().body("application/json", body.clone()).send().await,
        ] {
            assert_eq!(forged.is(400), json!({"status": "error", "detail": "Invalid webhook signature"}));
        }
    })
    .await;
}
