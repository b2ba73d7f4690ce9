//! The `helppet` dialect, in the order of the product's own document: what a practice's pages ask, with the answers that it
//! promises; then who may ask, what is refused and how, and what a provider that declines or is down comes to.

use farthing::auth::Scope;
use farthing::clock::Clock;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::databases;
use crate::harness::{Answer, JWT_SECRET, TestApp, TestRequest, list, text};
use crate::shop::{TestSandbox, WEBHOOK_SECRET, signed};

/// The practice of the tests, and another.
const PRACTICE: &str = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
const OTHER: &str = "11111111-2222-4333-8444-555555555555";

/// What the pages of the product begin their paths with.
const PREFIX: &str = "/api/v1/stripe";

/// Runs a test of the product on both databases, beside a sandbox.
async fn on_both(test: impl AsyncFn(&TestApp, &TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = TestApp::of_product(database, "helppet").await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// A token with these claims, good for an hour.
fn token(app: &TestApp, claims: Value) -> String {
    signed_token(app, claims, 3600, JWT_SECRET)
}

fn signed_token(app: &TestApp, mut claims: Value, seconds: i64, secret: &str) -> String {
    claims["exp"] = (app.clock.now().as_second() + seconds).into();
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// One of the people of a practice.
fn staff(app: &TestApp, practice: &str) -> String {
    let claims = json!({"sub": "vet-1", "email": "vet@practice.example", "practice_id": practice, "role": "VET_STAFF"});
    token(app, claims)
}

fn request(app: &TestApp, method: &str, path: &str, token: &str) -> TestRequest {
    app.request(method, &format!("{PREFIX}{path}")).bearer(token)
}

async fn get(app: &TestApp, path: &str) -> Answer {
    request(app, "GET", path, &staff(app, PRACTICE)).send().await
}

async fn send(app: &TestApp, method: &str, path: &str, body: Value) -> Answer {
    request(app, method, path, &staff(app, PRACTICE)).json(&body).send().await
}

/// What the product's page sends first.
fn new_customer(practice: &str) -> Value {
    json!({"practice_id": practice, "email": "", "practice_name": "Practice"})
}

/// Puts a card of the test cards on file; its id.
async fn add_card(app: &TestApp, card: &str, default: bool) -> String {
    let body = json!({"payment_method_id": card, "set_as_default": default});
    let added = send(app, "POST", &format!("/customers/{PRACTICE}/payment-methods"), body).await.is(200);
    text(&added, "payment_method_id").to_owned()
}

/// The ids of the cards on file, newest first, the default one with a star.
async fn cards(app: &TestApp) -> Vec<String> {
    let found = get(app, &format!("/customers/{PRACTICE}/payment-methods")).await.is(200);
    let shown = |card: &Value| format!("{}{}", text(card, "id"), if card["is_default"] == true { "*" } else { "" });
    list(&found, "payment_methods").iter().map(shown).collect()
}

/// The credits of the practice, in cents.
async fn balance(app: &TestApp) -> Value {
    get(app, &format!("/customers/{PRACTICE}")).await.is(200)["customer"]["balance_credits_cents"].take()
}

/// Charges a use as the product's server does, through the native API.
async fn charge(app: &TestApp, meter: &str, quantity: &str) -> Answer {
    app.post("/v1/charges", json!({"customer": PRACTICE, "meter": meter, "quantity": quantity})).await
}

/// An error of this product: one sentence, and nothing else.
#[track_caller]
fn assert_detail(answer: &Answer, status: u16) -> String {
    let body = answer.is(status);
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{}: {body}", answer.what);
    let detail = text(&body, "detail");
    assert!(!detail.is_empty() && !detail.contains("pm_") && !detail.contains("req_"), "{}: {detail}", answer.what);
    detail.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_a_practice_from_customer_to_card() {
    on_both(async |app, sandbox| {
        let customer = format!("/customers/{PRACTICE}");
        // Nothing is set up yet, which is no error.
        let nothing = get(app, &customer).await.is(200);
        assert_eq!((&nothing["success"], &nothing["customer"]), (&json!(false), &Value::Null), "{nothing}");
        let paywall = get(app, &format!("{customer}/has-payment-method")).await.is(200);
        assert_eq!(paywall, json!({"success": true, "has_payment_method": false}));
        let methods = get(app, &format!("{customer}/payment-methods")).await.is(200);
        assert_eq!(methods, json!({"success": true, "payment_methods": []}));

        // The customer is created, with ten dollars of credit, once.
        let created = send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let about = &created["customer"];
        assert_eq!(created["success"], true, "{created}");
        assert!(text(about, "stripe_customer_id").starts_with("cus_"), "{created}");
        assert_eq!((&about["balance_credits_dollars"], &about["email"]), (&json!(10.0), &Value::Null), "{created}");
        assert_eq!(text(about, "created_at"), "2026-03-02T09:00:00.000000+00:00", "{created}");
        let changed =
            json!({"practice_id": PRACTICE.to_uppercase(), "email": "new@practice.example", "practice_name": "New"});
        let again = send(app, "POST", "/customers", changed).await.is(200);
        assert_eq!(again, created);
        assert_eq!(sandbox.all("customers").await.len(), 1);

        // The browser puts a card on file.
        let setup =
            request(app, "POST", &format!("{customer}/setup-intent"), &staff(app, PRACTICE)).send().await.is(200);
        let intent = text(&setup, "setup_intent_id").to_owned();
        assert!(text(&setup, "client_secret").starts_with(&format!("{intent}_secret_")), "{setup}");
        let form = [("payment_method", "pm_card_visa"), ("return_url", "https://practice.example")];
        let (status, done) = sandbox.post(&format!("/v1/setup_intents/{intent}/confirm"), &form).await;
        assert_eq!((status, &done["status"]), (200, &json!("succeeded")), "{done}");
        let card = text(&done, "payment_method").to_owned();

        // The page adds it though the provider has attached it already.
        let added = send(app, "POST", &format!("{customer}/payment-methods"), json!({"payment_method_id": card})).await;
        let added = added.is(200);
        assert_eq!((&added["success"], &added["is_default"]), (&json!(true), &json!(true)), "{added}");
        assert_eq!(text(&added, "payment_method_id"), card);
        assert_eq!((&added["card"]["brand"], &added["card"]["last4"]), (&json!("visa"), &json!("4242")), "{added}");
        assert!(added["card"]["exp_month"].is_u64() && added["card"]["exp_year"].is_u64(), "{added}");

        // The paywall lets the practice through.
        let paywall = get(app, &format!("{customer}/has-payment-method")).await.is(200);
        assert_eq!(paywall, json!({"success": true, "has_payment_method": true}));
        let found = get(app, &customer).await.is(200);
        let about = &found["customer"];
        assert_eq!((&found["success"], &about["has_payment_method"]), (&json!(true), &json!(true)), "{found}");
        assert_eq!(text(about, "default_payment_method_id"), card, "{found}");
        assert_eq!(
            (&about["balance_credits_cents"], &about["balance_credits_dollars"]),
            (&json!(1000), &json!(10.0)),
            "{found}"
        );
        assert_eq!(list(about, "payment_methods").len(), 1, "{found}");

        // The key that the browser's script needs.
        assert_eq!(get(app, "/config").await.is(200), json!({"publishable_key": "pk_test_helppet"}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_are_added_made_the_default_and_removed() {
    on_both(async |app, _| {
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let methods = format!("/customers/{PRACTICE}/payment-methods");
        // The first card becomes the default whatever is said.
        let visa = add_card(app, "pm_card_visa", false).await;
        assert_eq!(cards(app).await, [format!("{visa}*")]);
        let amex = add_card(app, "pm_card_amex", false).await;
        assert_eq!(cards(app).await, [amex.clone(), format!("{visa}*")]);
        let mastercard = add_card(app, "pm_card_mastercard", true).await;
        assert_eq!(cards(app).await, [format!("{mastercard}*"), amex.clone(), visa.clone()]);

        let path = format!("{PREFIX}{methods}/{visa}/set-default");
        let set = app.request("PUT", &path).bearer(&staff(app, PRACTICE)).send().await.is(200);
        assert_eq!(set["success"], true, "{set}");
        assert_eq!(cards(app).await, [mastercard.clone(), amex.clone(), format!("{visa}*")]);

        // When the default goes, the newest of the others takes its place at once.
        let remove =
            async |card: &str| request(app, "DELETE", &format!("{methods}/{card}"), &staff(app, PRACTICE)).send().await;
        assert_eq!(remove(&visa).await.is(200)["success"], true);
        assert_eq!(cards(app).await, [format!("{mastercard}*"), amex.clone()]);
        assert_detail(&remove(&visa).await, 404);
        remove(&amex).await.is(200);
        remove(&mastercard).await.is(200);
        assert_eq!(cards(app).await, Vec::<String>::new());
        let paywall = get(app, &format!("/customers/{PRACTICE}/has-payment-method")).await.is(200);
        assert_eq!(paywall["has_payment_method"], false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_paywall_holds_and_each_price_is_deducted() {
    on_both(async |app, _| {
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        // Without a card there is no phone number, however the browser was persuaded.
        for meter in ["phone_number_regular", "phone_number_toll_free"] {
            charge(app, meter, "1").await.refused(402, "payment_method_required");
        }
        assert_eq!(balance(app).await, 1000);
        add_card(app, "pm_card_visa", true).await;
        let mut left = 1000;
        for (meter, quantity, cents) in [
            ("phone_call_minutes", "3", 60),
            ("phone_call_minutes", "0.5", 10),
            ("transcription", "2", 50),
            ("website_hosting", "1", 700),
            ("phone_number_regular", "1", 1000),
            ("phone_number_toll_free", "1", 1500),
        ] {
            charge(app, meter, quantity).await.is(201);
            left -= cents;
            assert_eq!(balance(app).await, left, "{meter}");
        }
        // Calls that were made come in as events, and take the credits below zero.
        let call = json!({"customer": PRACTICE, "meter": "phone_call_minutes", "quantity": 2, "id": "call-1"});
        app.post("/v1/events", call.clone()).await;
        app.post("/v1/events", call).await;
        let found = get(app, &format!("/customers/{PRACTICE}")).await.is(200);
        assert_eq!(found["customer"]["balance_credits_cents"], -2360, "{found}");
        assert_eq!(found["customer"]["balance_credits_dollars"], json!(-23.6), "{found}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_website_costs_seven_dollars_each_month_that_it_is_up() {
    on_both(async |app, _| {
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let path = format!("/v1/customers/{PRACTICE}/recurring_charges");
        let site = json!({"meter": "website_hosting", "quantity": 1, "subject": "site-4711"});
        let up = app.request("POST", &path).idempotency_key("site-4711").json(&site);
        let begun = up.clone().send().await.is(201);
        assert_eq!(text(&begun, "next_at"), "2026-04-02T09:00:00Z", "{begun}");
        assert_eq!(up.send().await.is(201), begun);
        assert_eq!(balance(app).await, 300);
        // Two months go by: three in all, whoever asks, and the credits go below nothing.
        app.post("/v1/test_clock/advance", json!({"to": "2026-05-02T09:00:00Z"})).await.is(200);
        assert_eq!(balance(app).await, 1000 - 3 * 700);
        let listed = app.get(&path).await.is(200);
        let site = &list(&listed, "data")[0];
        assert_eq!((&site["charged"], text(site, "next_at")), (&json!(3), "2026-06-02T09:00:00Z"), "{listed}");
        let why = app.get(&format!("/v1/charges/{}/explain", text(site, "latest_charge"))).await.is(200);
        assert_eq!(text(&why["charge"], "source"), "recurring", "{why}");
        // It is taken down in the middle of a month, which is paid.
        let end = format!("{path}/{}/end", text(&begun, "id"));
        app.request("POST", &end).send().await.is(200);
        assert!(app.request("POST", &end).send().await.replayed());
        app.post("/v1/test_clock/advance", json!({"to": "2026-07-01T00:00:00Z"})).await.is(200);
        assert_eq!(balance(app).await, 1000 - 3 * 700);
        let transactions = get(app, &format!("/customers/{PRACTICE}/transactions")).await.is(200);
        let hosting = list(&transactions, "transactions").iter().filter(|of| of["amount_cents"] == -700).count();
        assert_eq!(hosting, 3, "{transactions}");
        // A practice's own people see it, and cannot begin one; nobody sees another's.
        let own = app.request("GET", &path).bearer(&staff(app, PRACTICE));
        own.send().await.is(200);
        let begin = app
            .request("POST", &path)
            .bearer(&staff(app, PRACTICE))
            .json(&json!({"meter": "transcription", "quantity": 1}));
        begin.send().await.refused(403, "scope_missing");
        app.request("GET", &path).bearer(&staff(app, OTHER)).send().await.refused(404, "unknown_customer");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credits_can_be_followed_and_a_low_balance_is_told() {
    on_both(async |app, _| {
        let path = format!("/customers/{PRACTICE}/transactions");
        let nothing = get(app, &path).await.is(200);
        assert_eq!(nothing, json!({"success": true, "transactions": [], "next_cursor": null}));
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        charge(app, "transcription", "4").await.is(201);
        charge(app, "website_hosting", "1").await.is(201);
        let told = async || {
            let notices = app.get(&format!("/v1/customers/{PRACTICE}/notices")).await.is(200);
            list(&notices, "data").iter().map(|notice| text(notice, "kind").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(told().await, Vec::<String>::new());
        // One dollar is left, then it goes below nothing.
        charge(app, "phone_call_minutes", "5").await.is(201);
        assert_eq!(told().await, ["low_balance"]);
        charge(app, "phone_call_minutes", "7.5").await.is(201);
        assert_eq!(told().await, ["low_balance"]);

        let shown = |page: &Value| -> Vec<String> {
            let line = |of: &Value| {
                let description = of["description"].as_str().unwrap_or("-");
                format!("{} {} {description}", text(of, "type"), of["amount_cents"])
            };
            list(page, "transactions").iter().map(line).collect()
        };
        let all = get(app, &path).await.is(200);
        let expected = [
            "charge -150 phone_call_minutes: 7.5 minute",
            "charge -100 phone_call_minutes: 5 minute",
            "charge -700 website_hosting: 1 month",
            "charge -100 transcription: 4",
            "grant 1000 -",
        ];
        assert_eq!(shown(&all), expected);
        let newest = &list(&all, "transactions")[0];
        assert_eq!((&newest["amount_dollars"], &all["next_cursor"]), (&json!(-1.5), &Value::Null), "{all}");
        let sum: i64 = list(&all, "transactions").iter().filter_map(|of| of["amount_cents"].as_i64()).sum();
        assert_eq!(balance(app).await, sum);

        // Page by page it is the same: what one charge did is never on two pages.
        let (mut pages, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(app, &format!("{path}?limit=2{cursor}")).await.is(200);
            pages.extend(shown(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(pages, expected);
        for wrong in ["limit=0", "limit=101", "limit=two", "cursor=nothing"] {
            get(app, &format!("{path}?{wrong}")).await.is(422);
        }
        let other = request(app, "GET", &path, &staff(app, OTHER)).send().await;
        assert_detail(&other, 403);
    })
    .await;
}

/// Every endpoint that is about a practice, with a body that would do.
fn endpoints(practice: &str) -> Vec<(&'static str, String, Option<Value>)> {
    let customer = format!("/customers/{practice}");
    vec![
        ("POST", "/customers".to_owned(), Some(new_customer(practice))),
        ("GET", customer.clone(), None),
        ("GET", format!("{customer}/has-payment-method"), None),
        ("POST", format!("{customer}/setup-intent"), None),
        ("POST", format!("{customer}/payment-methods"), Some(json!({"payment_method_id": "pm_card_visa"}))),
        ("GET", format!("{customer}/payment-methods"), None),
        ("DELETE", format!("{customer}/payment-methods/pm_nothing"), None),
        ("PUT", format!("{customer}/payment-methods/pm_nothing/set-default"), None),
    ]
}

/// Asks all of them.
async fn ask(
    app: &TestApp,
    endpoints: Vec<(&'static str, String, Option<Value>)>,
    credential: Option<&str>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (method, path, body) in endpoints {
        let request = app.request(method, &format!("{PREFIX}{path}")).anonymous();
        let request = credential.map_or(request.clone(), |credential| request.bearer(credential));
        let request = body.as_ref().map_or(request.clone(), |body| request.json(body));
        answers.push(request.send().await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_known_is_401() {
    on_both(async |app, _| {
        let all = || {
            let mut all = endpoints(PRACTICE);
            all.push(("GET", "/config".to_owned(), None));
            all
        };
        for answer in ask(app, all(), None).await {
            assert_eq!(assert_detail(&answer, 401), "Not authenticated", "{}", answer.what);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
        }
        let claims = json!({"sub": "vet-1", "practice_id": PRACTICE, "role": "VET_STAFF"});
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ2ZXQtMSJ9.".to_owned();
        for bad in [
            "not-a-token".to_owned(),
            none,
            signed_token(app, claims.clone(), 3600, "thirty-two bytes of another secret than ours"),
            signed_token(app, claims.clone(), -3600, JWT_SECRET),
            token(app, json!({"practice_id": PRACTICE, "role": "VET_STAFF"})),
            "fk_test_unknown".to_owned(),
        ] {
            for answer in ask(app, all(), Some(&bad)).await {
                assert_eq!(assert_detail(&answer, 401), "Could not validate credentials", "{}", answer.what);
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", answer.what);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practice_is_for_its_own_people_and_the_systems_admin() {
    on_both(async |app, _| {
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let outsiders = [
            json!({"sub": "vet-2", "practice_id": OTHER, "role": "VET_STAFF"}),
            // Whoever runs one practice runs no other.
            json!({"sub": "boss-2", "practice_id": OTHER, "role": "PRACTICE_ADMIN"}),
            json!({"sub": "owner", "role": "PET_OWNER"}),
            json!({"sub": "owner", "practice_id": "", "role": "PET_OWNER"}),
        ];
        for claims in outsiders {
            let token = token(app, claims);
            for answer in ask(app, endpoints(PRACTICE), Some(&token)).await {
                assert_detail(&answer, 403);
            }
            // Whether an id could be one is not told either.
            for answer in ask(app, endpoints("no-uuid"), Some(&token)).await {
                assert_detail(&answer, 403);
            }
            assert_eq!(request(app, "GET", "/config", &token).send().await.status, 200);
        }
        let insiders = [
            json!({"sub": "admin", "role": "SYSTEM_ADMIN"}),
            json!({"sub": "boss-1", "practice_id": PRACTICE, "role": "PRACTICE_ADMIN"}),
            json!({"sub": "vet-1", "practice_id": PRACTICE.to_uppercase(), "role": "VET_STAFF"}),
            json!({"sub": "owner-1", "practice_id": PRACTICE, "role": "PET_OWNER"}),
        ];
        for claims in insiders {
            let answers = ask(app, endpoints(PRACTICE), Some(&token(app, claims))).await;
            let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 404, 404]);
        }
        // A server may read, or do everything, as its key says.
        let (reader, _) = app.new_key(Scope::Read).await;
        let statuses: Vec<u16> = ask(app, endpoints(PRACTICE), Some(&reader)).await.iter().map(|a| a.status).collect();
        assert_eq!(statuses, [403, 200, 200, 403, 403, 200, 403, 403]);
        let statuses: Vec<u16> =
            ask(app, endpoints(PRACTICE), Some(&app.admin_key)).await.iter().map(|a| a.status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 404, 404]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    on_both(async |app, _| {
        let admin = token(app, json!({"sub": "admin", "role": "SYSTEM_ADMIN"}));
        // What is no id of a practice.
        for answer in ask(app, endpoints("no-uuid"), Some(&admin)).await {
            assert_detail(&answer, 400);
        }
        // A practice whose billing is not set up: its pages are told so, and nothing can be changed.
        let statuses: Vec<u16> =
            ask(app, endpoints(OTHER).split_off(1), Some(&admin)).await.iter().map(|a| a.status).collect();
        assert_eq!(statuses, [200, 200, 400, 400, 200, 400, 400]);

        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let methods = format!("/customers/{PRACTICE}/payment-methods");
        for (path, body, kind, at) in [
            ("/customers", json!({"email": "", "practice_name": ""}), "missing", "practice_id"),
            ("/customers", json!({"practice_id": PRACTICE, "practice_name": ""}), "missing", "email"),
            ("/customers", json!({"practice_id": PRACTICE, "email": ""}), "missing", "practice_name"),
            ("/customers", json!({"practice_id": 5, "email": "", "practice_name": ""}), "string_type", "practice_id"),
            (
                "/customers",
                json!({"practice_id": PRACTICE, "email": null, "practice_name": ""}),
                "string_type",
                "email",
            ),
            (&methods, json!({}), "missing", "payment_method_id"),
            (&methods, json!({"payment_method_id": 5}), "string_type", "payment_method_id"),
            (
                &methods,
                json!({"payment_method_id": "pm_1", "set_as_default": "maybe"}),
                "bool_parsing",
                "set_as_default",
            ),
        ] {
            let problem = send(app, "POST", path, body).await.is(422);
            let wrong = &list(&problem, "detail")[0];
            assert_eq!((&wrong["type"], &wrong["loc"]), (&json!(kind), &json!(["body", at])), "{problem}");
            assert!(wrong["msg"].is_string() && wrong.get("input").is_some(), "{problem}");
        }
        let no_json = request(app, "POST", "/customers", &staff(app, PRACTICE)).body("application/json", "{");
        assert_eq!(list(&no_json.send().await.is(422), "detail")[0]["type"], "json_invalid");
        // There is nothing there.
        assert_eq!(assert_detail(&get(app, "/nothing").await, 404), "Not Found");
        assert_eq!(assert_detail(&send(app, "PUT", "/customers", json!({})).await, 405), "Method Not Allowed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_refuses_is_told_in_our_words() {
    on_both(async |app, _| {
        send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let methods = format!("/customers/{PRACTICE}/payment-methods");
        for (card, status) in [
            ("pm_card_visa_chargeDeclined", 402),
            ("pm_card_visa_chargeDeclinedInsufficientFunds", 402),
            ("pm_card_chargeDeclinedExpiredCard", 402),
            ("pm_card_chargeDeclinedIncorrectCvc", 402),
            ("pm_nothing", 400),
            ("../../customers", 400),
        ] {
            let answer = send(app, "POST", &methods, json!({"payment_method_id": card})).await;
            assert_detail(&answer, status);
        }
        assert_eq!(cards(app).await, Vec::<String>::new());
        // Another practice's card is none of theirs.
        let card = add_card(app, "pm_card_visa", true).await;
        let theirs = staff(app, OTHER);
        request(app, "POST", "/customers", &theirs).json(&new_customer(OTHER)).send().await.is(200);
        let others = format!("/customers/{OTHER}/payment-methods");
        let body = json!({"payment_method_id": card});
        assert_detail(&request(app, "POST", &others, &theirs).json(&body).send().await, 404);
        assert_detail(&request(app, "DELETE", &format!("{others}/{card}"), &theirs).send().await, 404);
        assert_detail(&request(app, "PUT", &format!("{others}/{card}/set-default"), &theirs).send().await, 404);
        assert_eq!(cards(app).await, [format!("{card}*")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_502_and_what_was_asked_is_done_later() {
    let database = databases::Database::sqlite().await;
    let (app, sandbox) = TestApp::of_product(database, "helppet").await;
    send(&app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
    let card = add_card(&app, "pm_card_visa", true).await;
    let admin = token(&app, json!({"sub": "admin", "role": "SYSTEM_ADMIN"}));
    sandbox.fault(json!({"kind": "error_before", "times": 100_000})).await;
    let methods = format!("/customers/{PRACTICE}/payment-methods");
    let post = |path: &str| request(&app, "POST", path, &admin);
    let answers = tokio::join!(
        post("/customers").json(&new_customer(OTHER)).send(),
        post(&format!("/customers/{PRACTICE}/setup-intent")).send(),
        post(&methods).json(&json!({"payment_method_id": "pm_card_amex"})).send(),
        request(&app, "PUT", &format!("{methods}/{card}/set-default"), &admin).send(),
    );
    for answer in [&answers.0, &answers.1, &answers.2, &answers.3] {
        assert_detail(answer, 502);
    }
    // What needs no provider goes on.
    assert_eq!(cards(&app).await, [format!("{card}*")]);
    sandbox.mend().await;
    let created = post("/customers").json(&new_customer(OTHER)).send().await.is(200);
    assert!(text(&created["customer"], "stripe_customer_id").starts_with("cus_"), "{created}");
    crate::books::assert_balanced(&*app.app.store).await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pages_at_once_make_one_customer_with_its_credit_once() {
    on_both(async |app, sandbox| {
        let create = || send(app, "POST", "/customers", new_customer(PRACTICE));
        let answers = futures_util::future::join_all((0..12).map(|_| create())).await;
        let ids: std::collections::BTreeSet<String> =
            answers.iter().map(|answer| text(&answer.is(200)["customer"], "stripe_customer_id").to_owned()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(sandbox.all("customers").await.len(), 1);
        assert_eq!(balance(app).await, 1000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_brings_what_was_changed_elsewhere() {
    on_both(async |app, sandbox| {
        let created = send(app, "POST", "/customers", new_customer(PRACTICE)).await.is(200);
        let customer = text(&created["customer"], "stripe_customer_id");
        let card = add_card(app, "pm_card_visa", true).await;
        // Somebody takes the card off in the provider's own dashboard.
        sandbox.post(&format!("/v1/payment_methods/{card}/detach"), &[]).await;
        let events = sandbox.events().await;
        let detached = events.iter().rfind(|event| event["type"] == "payment_method.detached").expect("the event");
        let body = detached.to_string();
        let path = format!("{PREFIX}/webhook");
        let deliver = |body: &str, secret: &str| {
            let headers = signed(body, app.clock.wall().as_second(), secret);
            let signature = headers["stripe-signature"].to_str().expect("a header").to_owned();
            app.request("POST", &path).anonymous().header("stripe-signature", &signature)
        };
        let taken = deliver(&body, WEBHOOK_SECRET).body("application/json", body.clone()).send().await.is(200);
        assert_eq!(taken, json!({"success": true, "event_id": detached["id"]}));
        assert_eq!(cards(app).await, Vec::<String>::new(), "{customer}");
        // What is not signed, or signed otherwise, is not believed.
        for forged in [
            deliver(&body, "whsec_of_somebody").body("application/json", body.clone()),
            deliver(&body, WEBHOOK_SECRET).body("application/json", body.replace("pm_", "pm-")),
            app.request("POST", &path).anonymous().body("application/json", body.clone()),
        ] {
            assert_eq!(assert_detail(&forged.send().await, 400), "Invalid webhook signature");
        }
    })
    .await;
}
