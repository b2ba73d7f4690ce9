//! Schemathesis reads the served OpenAPI document and sends what it allows and what it forbids: no answer may be another
//! than the document says, nothing forbidden may be accepted, nothing may break.

use std::fmt::Write as _;
use std::path::Path;

use farthing::clock::Clock;
use serde_json::json;
use tokio::process::Command;

use crate::books;
use crate::databases::Database;
use crate::harness::{JWT_SECRET, TestApp, list, text};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,\
                      ignored_auth";

/// The tenant that the examples in the document are about.
const TENANT: &str = include_str!("../../../../examples/assistant.toml");

/// What names exist, so that most requests get past the look-ups; customer acme is neither closed nor erased on the way.
const PARAMETERS: &str = r#"
[dictionaries]
customers = { values = ["acme"] }
changed = { values = ["john"] }
erased = { values = ["joan", "joan-2", "joan-3"] }
meters = { values = ["context_tokens", "generated_tokens", "use"] }
packs = { values = ["starter", "bulk"] }
methods = { values = ["pm_card_visa", "pm_card_mastercard"] }
assets = { values = ["USD", "token", "use"] }
types = { values = ["llm.request"] }
plans = { values = ["pro", "team"] }
add_ons = { values = ["seat", "training"] }
coupons = { values = ["WELCOME"] }
features = { values = ["priority", "seats", "support"] }

[parameters]
"path.customer" = { dictionary = "customers", probability = 0.8 }
"path.charge" = { dictionary = "charges", probability = 0.8 }
"path.hold" = { dictionary = "holds", probability = 0.8 }
"path.grant" = { dictionary = "grants", probability = 0.8 }
"path.payment" = { dictionary = "payments", probability = 0.8 }
"path.purchase" = { dictionary = "purchases", probability = 0.8 }
"path.subscription" = { dictionary = "subscriptions", probability = 0.8 }
"path.payment_method" = { dictionary = "on_file", probability = 0.8 }
"query.asset" = { dictionary = "assets", probability = 0.8 }
"body.customer" = { dictionary = "customers", probability = 0.8 }
"body.meter" = { dictionary = "meters", probability = 0.8 }
"body.asset" = { dictionary = "assets", probability = 0.8 }
"body.pack" = { dictionary = "packs", probability = 0.8 }
"body.payment_method" = { dictionary = "methods", probability = 0.8 }
"body.plan" = { dictionary = "plans", probability = 0.8 }
"body.add_ons[*].name" = { dictionary = "add_ons", probability = 0.8 }
"body.coupon" = { dictionary = "coupons", probability = 0.8 }
"body.feature" = { dictionary = "features", probability = 0.8 }
"body.subject" = { dictionary = "customers", probability = 0.5 }
"body.type" = { dictionary = "types", probability = 0.8 }
"body.charges[*].customer" = { dictionary = "customers", probability = 0.8 }
"body.charges[*].meter" = { dictionary = "meters", probability = 0.8 }

# No names out of answers to other operations: one may be of the customer that all the others need.
[phases]
coverage = { extra-data-sources = { responses = false } }
fuzzing = { extra-data-sources = { responses = false } }

[[operations]]
include-operation-id = "put_customer"
parameters = { "path.customer" = { dictionary = "changed", probability = 0.8 } }

[[operations]]
include-operation-id = "erase_customer"
parameters = { "path.customer" = { dictionary = "erased", probability = 0.8 } }
"#;

/// A configuration with what there is to name: customers, charges, open holds and grants.
async fn configure(app: &TestApp) -> String {
    for customer in ["john", "joan", "joan-2", "joan-3"] {
        app.create_with(customer, "10").await;
    }
    app.create_with("acme", "1000000").await;
    let (mut charges, mut holds, mut grants) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..40 {
        let charge = app.charge("acme", "context_tokens", "4808").await.is(201);
        charges.push(text(&charge, "id").to_owned());
        let hold = json!({"customer": "acme", "meter": "generated_tokens", "quantity": 2000, "expires_in": 86_400});
        holds.push(text(&app.post("/v1/holds", hold).await.is(201), "id").to_owned());
        grants.push(text(&app.grant("acme", "1").await, "id").to_owned());
    }
    let (mut payments, mut purchases) = (Vec::new(), Vec::new());
    for card in ["pm_card_visa", "pm_card_mastercard", "pm_card_amex"] {
        let path = "/v1/customers/acme/payment_methods";
        app.post(path, json!({"payment_method": card})).await.is(200);
        let bought = app.post("/v1/customers/acme/purchases", json!({"pack": "starter", "collect": {"by": "on_file"}}));
        let bought = bought.await.is(201);
        payments.push(text(&bought, "payment").to_owned());
        purchases.push(text(&bought, "id").to_owned());
    }
    let mut subscriptions = Vec::new();
    for number in 0..20 {
        let customer = format!("subscriber-{number}");
        app.create(&customer).await;
        let body = json!({"plan": "pro", "by_invoice": true});
        let subscribed = app.post(&format!("/v1/customers/{customer}/subscriptions"), body).await.is(201);
        subscriptions.push(text(&subscribed, "id").to_owned());
    }
    let on_file = app.get("/v1/customers/acme/payment_methods").await.is(200);
    let on_file = list(&on_file, "data").iter().map(|method| text(method, "id").to_owned()).collect();
    let mut configuration = PARAMETERS.to_owned();
    for (name, values) in [
        ("charges", charges),
        ("holds", holds),
        ("grants", grants),
        ("payments", payments),
        ("purchases", purchases),
        ("subscriptions", subscriptions),
        ("on_file", on_file),
    ] {
        writeln!(configuration, "\n[dictionaries.{name}]\nvalues = {values:?}").expect("a text grows");
    }
    configuration
}

/// A token with these claims, good for a day.
fn token(app: &TestApp, claims: &str) -> String {
    let mut claims: serde_json::Value = serde_json::from_str(claims).expect("JSON");
    claims["exp"] = (app.clock.now().as_second() + 86_400).into();
    let secret = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).expect("a token")
}

/// Runs it on a served document, as the product's server and perhaps one of its users, with these settings; everything that the document describes has to be tested and in order.
async fn test_document(app: &TestApp, document: &str, user: Option<&str>, settings: &str, checks: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("schemathesis.toml"), settings).expect("a file");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = package.join("../../.venv/bin/schemathesis");
    assert!(program.exists(), "there is no {}: run ./test, which installs it", program.display());

    let run = Command::new(program)
        .current_dir(directory.path())
        .env("SCHEMATHESIS_HOOKS", package.join("tests/schemathesis_hooks.py"))
        .args(["run", &format!("http://{}{document}", app.address)])
        .args(["--header", &format!("X-API-Key: {}", app.admin_key)])
        .args(
            user.into_iter()
                .flat_map(|user| ["--header".to_owned(), format!("Authorization: Bearer {}", token(app, user))]),
        )
        .args(["--checks", checks, "--continue-on-failure"])
        .args(["--max-examples", "25", "--seed", "1", "--workers", "2"])
        // Its own made-up credentials beside the key would all be refused as conflicting.
        .args(["--generation-with-security-parameters", "false", "--generation-database", "none"])
        .arg("--no-color")
        .kill_on_drop(true)
        .output()
        .await
        .expect("it runs");

    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{report}\n{}", String::from_utf8_lossy(&run.stderr));
    let document = app.get(document).await.is(200);
    let items = document["paths"].as_object().expect("an object").values();
    let operations: usize = items.map(|item| item.as_object().expect("an object").len()).sum();
    assert!(report.contains(&format!("Tested: {operations}\n")), "{report}");
    books::assert_balanced(&*app.app.store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_what_its_document_says() {
    let (app, sandbox) = TestApp::with_sandbox(Database::sqlite().await, TENANT).await;
    let settings = configure(&app).await;
    test_document(&app, "/openapi.json", None, &settings, CHECKS).await;
    sandbox.stop().await;
}

/// What is looked at in dialects: they read laxly, so what their documents forbid may be accepted.
const DIALECT_CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                              response_schema_conformance,ignored_auth";

/// The dialects: the tenant file of each, its document, the claims of the user who asks, where one has to, and what names to ask
/// for so that most requests get past the look-ups.
const DIALECTS: [(&str, &str, Option<&str>, &str); 5] = [
    (
        include_str!("../../../../examples/ciris.toml"),
        "/openapi/ciris.json",
        None,
        r#"
[dictionaries]
providers = { values = ["oauth:google"] }
users = { values = ["ann", "ben"] }
currencies = { values = ["USD"] }

[parameters]
"path.oauth_provider" = { dictionary = "providers", probability = 0.8 }
"path.external_id" = { dictionary = "users", probability = 0.8 }
"query.oauth_provider" = { dictionary = "providers", probability = 0.8 }
"query.external_id" = { dictionary = "users", probability = 0.8 }
"body.oauth_provider" = { dictionary = "providers", probability = 0.8 }
"body.external_id" = { dictionary = "users", probability = 0.8 }
"body.currency" = { dictionary = "currencies", probability = 0.8 }
"#,
    ),
    (
        include_str!("../../../../examples/helppet.toml"),
        "/openapi/helppet.json",
        None,
        r#"
[dictionaries]
practices = { values = ["0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d", "11111111-2222-4333-8444-555555555555"] }
cards = { values = ["pm_card_visa", "pm_card_amex", "pm_card_chargeDeclined"] }

[parameters]
"path.practice_id" = { dictionary = "practices", probability = 0.8 }
"body.practice_id" = { dictionary = "practices", probability = 0.8 }
"path.payment_method_id" = { dictionary = "cards", probability = 0.5 }
"body.payment_method_id" = { dictionary = "cards", probability = 0.8 }
"#,
    ),
    (
        include_str!("../../../../examples/orgvoice.toml"),
        "/openapi/orgvoice.json",
        Some(r#"{"sub": "ann", "tenant_id": "agency", "email": "ann@agency.example", "role": "admin"}"#),
        r#"
[dictionaries]
prices = { values = ["price_YOUR_BASIC_PRICE_ID", "price_YOUR_PRO_PRICE_ID"] }
plans = { values = ["basic", "pro"] }

[parameters]
"body.stripe_price_id" = { dictionary = "prices", probability = 0.8 }
"body.plan_id" = { dictionary = "plans", probability = 0.8 }
"#,
    ),
    (
        include_str!("../../../../examples/parentpilot.toml"),
        "/openapi/parentpilot.json",
        None,
        r#"
[dictionaries]
users = { values = ["ann", "ben"] }
plans = { values = ["starter", "pro", "enterprise"] }

[parameters]
"header.user-id" = { dictionary = "users", probability = 0.8 }
"body.planId" = { dictionary = "plans", probability = 0.8 }
"#,
    ),
    (
        include_str!("../../../../examples/speech.toml"),
        "/openapi/speech.json",
        Some(r#"{"sub": "jane@example.com"}"#),
        r#"
[dictionaries]
prices = { values = ["price_1234567890", "price_basic_monthly"] }
plans = { values = ["pro_monthly", "basic_monthly", "usage_based"] }
cards = { values = ["pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_chargeDeclined"] }
services = { values = ["voice_call", "sms", "transcription", "custom_scenario", "api_call"] }
months = { values = ["2026-03", "2026-02"] }

[parameters]
"body.price_id" = { dictionary = "prices", probability = 0.8 }
"body.plan_name" = { dictionary = "plans", probability = 0.8 }
"body.payment_method_id" = { dictionary = "cards", probability = 0.8 }
"body.service_type" = { dictionary = "services", probability = 0.8 }
"query.billing_period" = { dictionary = "months", probability = 0.5 }
"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_dialects_are_what_their_documents_say() {
    for (tenant, document, user, settings) in DIALECTS {
        let (app, sandbox) = TestApp::with_sandbox(Database::sqlite().await, tenant).await;
        test_document(&app, document, user, settings, DIALECT_CHECKS).await;
        sandbox.stop().await;
    }
}
