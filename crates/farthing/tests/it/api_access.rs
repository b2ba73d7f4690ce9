//! Who may do what: API keys by scope, and a customer's own users by token.

use std::time::{Duration, Instant};

use farthing::auth::Scope;
use farthing::clock::Clock as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::databases::Database;
use crate::harness::{JWT_SECRET, TestApp, TestRequest, on_both, text};

/// A request that takes this scope, on customer jane.
fn requests(app: &TestApp) -> Vec<(Scope, TestRequest)> {
    let post = |path: &str, body: Value| app.request("POST", path).json(&body);
    let mut requests = Vec::new();
    for path in [
        "/v1/customers",
        "/v1/customers/jane",
        "/v1/customers/jane/wallet",
        "/v1/customers/jane/wallet/statement",
        "/v1/customers/jane/entries",
        "/v1/customers/jane/charges",
        "/v1/customers/jane/grants",
        "/v1/customers/jane/usage",
        "/v1/customers/jane/subscriptions",
        "/v1/customers/jane/entitlements",
        "/v1/customers/jane/notices",
        "/v1/notices",
        "/v1/customers/jane/analytics/usage",
        "/v1/analytics/revenue",
    ] {
        requests.push((Scope::Read, app.request("GET", path)));
    }
    requests.push((Scope::Read, post("/v1/check", json!({"customer": "jane", "meter": "minutes"}))));
    let charge = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
    for (path, body) in [
        ("/v1/charges", charge.clone()),
        ("/v1/charges/batch", json!({"charges": [charge]})),
        ("/v1/events", charge.clone()),
        ("/v1/holds", charge.clone()),
        ("/v1/customers/jane/grants", json!({"amount": 1, "kind": "paid"})),
        ("/v1/customers/jane/items", json!({"title": "Training", "price": 1})),
    ] {
        requests.push((Scope::Write, post(path, body)));
    }
    requests.push((Scope::Write, app.request("PUT", "/v1/customers/jane").json(&json!({}))));
    requests.push((Scope::Admin, app.request("POST", "/v1/customers/jane/erase")));
    requests
}

#[tokio::test]
async fn a_key_does_what_its_scope_allows() {
    on_both(async |app| {
        app.create_with("jane", "100").await;
        let keys = [Scope::Read, Scope::Write, Scope::Admin];
        for held in keys {
            let (key, _) = app.new_key(held).await;
            for (needed, request) in requests(&app) {
                let answer = request.bearer(&key).send().await;
                if held.allows(needed) {
                    assert!(answer.status < 300, "{held}: {answer:?}");
                } else {
                    answer.refused(403, "scope_missing");
                }
            }
        }
        for (_, request) in requests(&app) {
            let answer = request.anonymous().send().await;
            answer.refused(401, "credentials_missing");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_of_another_tenant_or_of_none_is_unknown() {
    on_both(async |app| {
        app.create("jane").await;
        for garbage in ["fk_test_", "fk_test_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "fk_live_short"] {
            app.request("GET", "/v1/customers/jane").bearer(garbage).send().await.refused(401, "key_unknown");
        }
        let two = app.request("GET", "/v1/customers/jane").header("authorization", "Bearer fk_test_another");
        two.send().await.refused(401, "credentials_conflicting");
        for header in ["Basic dXNlcjpwYXNz", "Bearer", "Bearer one two"] {
            let request = app.request("GET", "/v1/customers/jane").anonymous().header("authorization", header);
            request.send().await.refused(401, "credentials_malformed");
        }
    })
    .await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_seconds() {
    on_both(async |app| {
        app.create("jane").await;
        let (key, id) = app.new_key(Scope::Read).await;
        let status = async || app.request("GET", "/v1/customers/jane").bearer(&key).send().await.status;
        assert_eq!(status().await, 200);

        let revoked = Instant::now();
        assert!(app.app.store.revoke_key("acme", id, app.clock.now()).await.unwrap());
        while status().await == 200 {
            assert!(revoked.elapsed() < Duration::from_secs(6), "the key still works");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(status().await, 401);
    })
    .await;
}

#[tokio::test]
async fn pages_of_the_origins_that_are_named_may_read_answers() {
    const TENANT: &str = "[tenant]\nname = \"acme\"\ncurrency = \"USD\"\n[[meters]]\nname = \"use\"\n\
        [browser]\norigins = [\"https://app.acme.example\"]\n";
    let app = TestApp::with(Database::sqlite().await, TENANT).await;
    app.create("jane").await;
    let path = "/v1/customers/jane/wallet";
    let from = |origin: &str| app.request("GET", path).header("origin", origin);
    // The browser asks first, without any credentials.
    let first = app.request("OPTIONS", path).anonymous().header("origin", "https://app.acme.example");
    let first = first.header("access-control-request-method", "GET");
    let asked = first.header("access-control-request-headers", "authorization, x-tenant-id").send().await;
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (200, Some("https://app.acme.example")));
    assert!(
        asked
            .header("access-control-allow-headers")
            .is_some_and(|headers| headers.contains("authorization, x-tenant-id"))
    );
    assert_eq!(asked.header("access-control-allow-credentials"), None);
    // Then it shows the page what it got, a refusal as well; a page of elsewhere sees nothing of it.
    for (request, status) in
        [(from("https://app.acme.example"), 200), (from("https://app.acme.example").anonymous(), 401)]
    {
        let answer = request.send().await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (status, Some("https://app.acme.example"))
        );
    }
    for origin in ["https://evil.example", "http://app.acme.example", "null"] {
        assert_eq!(from(origin).send().await.header("access-control-allow-origin"), None, "{origin}");
    }
    // Where no tenant names one, nothing is said.
    let app = TestApp::start(Database::sqlite().await).await;
    let answer = app.request("GET", "/health").header("origin", "https://app.acme.example").send().await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

/// A token of this customer that is good for so many seconds.
fn token(app: &TestApp, customer: &str, seconds: i64) -> String {
    signed(app, customer, seconds, JWT_SECRET)
}

fn signed(app: &TestApp, customer: &str, seconds: i64, secret: &str) -> String {
    let claims = json!({"sub": customer, "exp": app.clock.now().as_second() + seconds});
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

#[tokio::test]
async fn a_customers_token_reads_that_customer_alone() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        app.create_with("john", "10").await;
        let mut paths = Vec::new();
        for customer in ["jane", "john"] {
            let charge = app.charge(customer, "minutes", "1").await.is(201);
            let hold = json!({"customer": customer, "meter": "minutes", "quantity": 1});
            let hold = app.post("/v1/holds", hold).await.is(201);
            let own = [
                "",
                "/wallet",
                "/wallet/statement",
                "/entries",
                "/charges",
                "/grants",
                "/usage",
                "/subscriptions",
                "/entitlements",
                "/notices",
                "/analytics/spending",
            ];
            let mut of_customer: Vec<String> =
                own.iter().map(|part| format!("/v1/customers/{customer}{part}")).collect();
            let (charge, hold) = (text(&charge, "id"), text(&hold, "id"));
            of_customer.push(format!("/v1/charges/{charge}"));
            of_customer.push(format!("/v1/charges/{charge}/explain"));
            of_customer.push(format!("/v1/holds/{hold}"));
            paths.push(of_customer);
        }
        let token = token(&app, "jane", 60);
        let get = async |path: &str| app.request("GET", path).bearer(&token).send().await;
        for (own, other) in paths[0].iter().zip(&paths[1]) {
            assert_eq!(get(own).await.is(200), app.get(own).await.is(200));
            get(other).await.refused(404, &other_code(other));
        }
        get("/v1/customers").await.refused(403, "scope_missing");
        get("/v1/analytics/spending").await.refused(403, "scope_missing");
        get("/v1/customers/nobody").await.refused(404, "unknown_customer");

        for (customer, status) in [("jane", 200), ("john", 404)] {
            let check = app.request("POST", "/v1/check").json(&json!({"customer": customer, "meter": "minutes"}));
            assert_eq!(check.bearer(&token).send().await.status, status, "{customer}");
        }
        for (needed, request) in requests(&app).into_iter().filter(|(needed, _)| *needed != Scope::Read) {
            assert_eq!(request.bearer(&token).send().await.refused(403, "scope_missing")["status"], 403, "{needed}");
        }
    })
    .await;
}

fn other_code(path: &str) -> String {
    let noun = path.split('/').nth(2).unwrap_or_default();
    format!("unknown_{}", noun.strip_suffix('s').unwrap_or(noun))
}

#[tokio::test]
async fn a_token_has_to_be_good_and_of_now() {
    on_both(async |app| {
        app.create("jane").await;
        let status = async |token: &str| app.request("GET", "/v1/customers/jane").bearer(token).send().await;
        let good = token(&app, "jane", 60);
        status(&good).await.is(200);
        for (token, code) in [
            (signed(&app, "jane", 60, "thirty-two bytes of another secret than ours"), "token_signature"),
            (token(&app, "jane", -61), "token_expired"),
            ("not.a.token".to_owned(), "token_malformed"),
            (token(&app, "", 60), "token_claim_missing"),
        ] {
            status(&token).await.refused(401, code);
        }
        app.clock.advance(121);
        status(&good).await.refused(401, "token_expired");
    })
    .await;
}
