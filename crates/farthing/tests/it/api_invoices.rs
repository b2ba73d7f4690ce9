//! Invoices as people see them: made of a plan's fee and of usage, less a coupon, with taxes; looked at, explained, printed,
//! paid in the sandbox, credited and taken back.

use std::sync::Arc;
use std::time::Duration;

use engine::period::Interval;
use engine::{
    Catalog, Command, Coupon, CouponDuration, Discount, Micros, Money, Overage, OveragePolicy, Plan, SubscribeRequest,
    TaxRate,
};
use farthing::auth::Scope;
use farthing::clock::Clock as _;
use farthing::service::Request;
use farthing::store::CustomerKey;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::books;
use crate::databases::{Database, on_both};
use crate::harness::{JWT_SECRET, TestApp, list, text};
use crate::invoice_documents::text_of;
use crate::shop::TestSandbox;

const TENANT: &str = r##"
[tenant]
name = "acme"
currency = "USD"

[overage]
policy = "owe"

[[meters]]
name = "words"
unit = "word"

[[meters]]
name = "storage"
unit = "gigabyte"

[[prices]]
meter = "words"
model = "per_unit"
amount = "0.001"

[[prices]]
meter = "storage"
model = "graduated"
tiers = [
  { up_to = "10", amount = "0.333" },
  { amount = "0.05", flat = "2" },
]

[seller]
name = "Acme Words GmbH"
address = ["Musterstraße 1", "10115 Berlin", "Germany"]
email = "billing@acme.example"
tax_id = "VAT ID DE123456789"
footer = "Payable without deduction. Acme Words GmbH, Amtsgericht Berlin, HRB 1234."
invoice_prefix = "ACME-"
accent = "#0b6e4f"

[jwt]
algorithm = "HS256"
secret_env = "ACME_JWT_SECRET"

[connection]
provider = "stripe"
"##;

fn plan(name: &str, minor: i64) -> Arc<Plan> {
    Arc::new(Plan {
        name: name.into(),
        version: format!("{name}-1").into(),
        title: "Pro".into(),
        fee: Money { minor, currency: engine::Asset::new("USD") },
        interval: Interval::MONTH,
        prices: Vec::new(),
        trial_days: 0,
        allowances: Vec::new(),
        features: std::collections::BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: None,
        overage: None,
        commitment: None,
        add_ons: Vec::new(),
        provider_price: None,
    })
}

/// A plan for 20 dollars a month, ten percent off with a coupon, and 19 percent of tax on top.
fn sold(catalog: &mut Catalog) {
    for plan in [plan("pro", 2_000), plan("team", 5_000)] {
        catalog.plans.current.insert(plan.name.clone(), plan.version.clone());
        catalog.plans.versions.insert(plan.version.clone(), plan);
    }
    let discount = Discount::Percent("10".parse().expect("a rate"));
    let coupon = Coupon { code: "WELCOME".into(), discount, duration: CouponDuration::Forever };
    catalog.plans.coupons.insert(coupon.code.clone(), coupon);
    let percent = "19".parse().expect("a rate");
    catalog.billing.taxes = vec![TaxRate { name: "VAT".into(), percent, inclusive: false }];
    catalog.billing.days_until_due = 60;
    catalog.overage = Overage { policy: OveragePolicy::Owe, limit: None };
}

async fn start(database: Database) -> (TestApp, TestSandbox) {
    TestApp::selling(database, TENANT, sold).await
}

/// Brings a command that no surface offers yet.
async fn execute(app: &TestApp, customer: &str, command: Command) {
    let tenant = &app.app.tenants["acme"];
    let request = Request {
        catalog: tenant.catalog.clone(),
        key: CustomerKey::new(&tenant.catalog.tenant, customer),
        command,
        operation: None,
        settles: None,
        new_customer: app.clock.new_id(),
        now: tenant.clock.now(),
    };
    app.app.service.execute(request).await.expect("it is done");
}

/// A customer who pays a plan's invoices by itself.
async fn subscribe(app: &TestApp, customer: &str, coupon: Option<&str>) {
    let address = json!(["1 Main Street", "Springfield"]);
    let profile = json!({"name": "Jane & Söhne", "email": "jane@example.com", "address": address, "tax_id": "US 7"});
    app.put(&format!("/v1/customers/{customer}"), json!({"profile": profile})).await.is(201);
    let request = SubscribeRequest {
        id: app.clock.new_id(),
        plan: "pro".into(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: coupon.map(Into::into),
        trial_days: None,
        collection: None,
        by_invoice: true,
        replaces: None,
    };
    execute(app, customer, Command::Subscribe(request)).await;
}

async fn advance(app: &TestApp, to: &str) {
    app.post("/v1/test_clock/advance", json!({"to": to})).await.is(200);
}

async fn invoices(app: &TestApp, customer: &str) -> Vec<Value> {
    list(&app.get(&format!("/v1/customers/{customer}/invoices")).await.is(200), "data").to_vec()
}

fn id(invoice: &Value) -> &str {
    text(invoice, "id")
}

fn token(app: &TestApp, customer: &str) -> String {
    let claims = json!({"sub": customer, "exp": app.clock.now().as_second() + 3600});
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
}

/// Asks for an invoice until it stands so: webhooks take their time.
async fn until_state(app: &TestApp, invoice: &str, state: &str) -> Value {
    let mut seen = Value::Null;
    for _ in 0..200 {
        seen = app.get(&format!("/v1/invoices/{invoice}")).await.is(200);
        if seen["state"] == state {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{invoice} stays {seen}");
}

fn micros(text: &str) -> i64 {
    text.parse::<Micros>().expect("an amount").get()
}

#[tokio::test]
async fn a_month_with_fee_usage_coupon_and_tax_is_invoiced_shown_and_paid() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        subscribe(&app, "jane", Some("WELCOME")).await;
        for words in [4808, 1, 299] {
            app.charge("jane", "words", &words.to_string()).await.is(201);
        }
        app.charge("jane", "storage", "12.5").await.is(201);
        let upcoming = app.get("/v1/customers/jane/invoices/upcoming").await.is(200);
        let [draft] = list(&upcoming, "data") else { panic!("{upcoming}") };
        advance(&app, "2026-04-02T10:00:00Z").await;
        let all = invoices(&app, "jane").await;
        let [renewal, first] = &all[..] else { panic!("{all:?}") };
        assert_eq!((text(first, "number"), text(renewal, "number")), ("ACME-1", "ACME-2"));
        assert_eq!((text(first, "reason"), text(first, "total")), ("start", "21.42"));
        // 5.108 for words, 5.455 for storage; ten percent off each line; 19 percent on the rest of each.
        let lines: Vec<String> = list(renewal, "lines")
            .iter()
            .map(|line| {
                let tax = text(&line["taxes"][0], "amount");
                format!("{} {} - {} + {tax}", text(line, "kind"), text(line, "amount"), text(line, "discount"))
            })
            .collect();
        assert_eq!(
            lines,
            ["usage 5.1 - 0.51 + 0.87", "usage 5.45 - 0.55 + 0.93", "debt 0.01 - 0 + 0", "fee 20 - 2 + 3.42"]
        );
        let sums =
            ["subtotal", "discount", "tax", "total", "amount_due", "amount_paid"].map(|part| text(renewal, part));
        assert_eq!(sums, ["30.56", "3.06", "5.22", "32.72", "32.72", "0"]);
        assert_eq!((text(renewal, "state"), text(renewal, "due_at")), ("open", "2026-06-01T09:00:00Z"));
        // What would have been asked for is what is asked for.
        assert_eq!(
            (text(draft, "state"), &draft["lines"], &draft["total"]),
            ("draft", &renewal["lines"], &renewal["total"])
        );
        assert!(draft.get("id").is_none() && draft.get("number").is_none() && draft.get("page").is_none(), "{draft}");

        let pdf = app.get(text(renewal, "pdf")).await;
        assert_eq!((pdf.status, pdf.header("content-type")), (200, Some("application/pdf")));
        assert_eq!(pdf.header("content-disposition"), Some("inline; filename=\"invoice-ACME-2.pdf\""));
        assert_eq!(app.get(text(renewal, "pdf")).await.body, pdf.body, "the same invoice is the same file");

        let path = format!("/v1/invoices/{}/pay", id(renewal));
        let pay = app.post(&path, json!({"operation_key": "p1"})).await;
        let again = app.post(&path, json!({"operation_key": "p1"})).await;
        assert_eq!((pay.is(201), again.replayed()), (again.is(201), true));
        let paying = pay.json();
        assert_eq!((text(&paying["payment"], "amount"), &paying["payment"]["invoice"]), ("32.72", &renewal["id"]));
        assert_eq!(sandbox.pay(text(&paying, "client_secret"), "pm_card_visa").await.0, 200);
        let paid = until_state(&app, id(renewal), "paid").await;
        assert_eq!((text(&paid, "amount_paid"), text(&paid, "amount_due")), ("32.72", "0"));
        app.post(&path, json!({})).await.refused(409, "invoice_settled");
        assert_ne!(app.get(text(renewal, "pdf")).await.body, pdf.body, "it says that it is paid");
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn usage_is_invoiced_once_in_a_month_however_often_it_is_asked_for() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        app.create("jane").await;
        let path = "/v1/customers/jane/invoices";
        assert_eq!(app.request("POST", path).send().await.is(200), json!({"data": []}));
        app.charge("jane", "words", "12345").await.is(201);
        let draft = app.get("/v1/customers/jane/invoices/upcoming").await.is(200);
        let keyed = app.request("POST", path).idempotency_key("march");
        let made = keyed.clone().send().await;
        let invoice = made.is(201)["data"][0].clone();
        assert_eq!((text(&invoice, "total"), text(&invoice, "state")), ("14.68", "open"));
        assert_eq!(draft["data"][0]["lines"], invoice["lines"]);
        app.charge("jane", "words", "1000").await.is(201);
        let again = app.request("POST", path).send().await;
        assert_eq!((again.is(200), again.replayed()), (json!({"data": [invoice]}), false));
        let repeated = keyed.send().await;
        assert_eq!((repeated.is(201), repeated.replayed()), (made.json(), true));

        advance(&app, "2026-04-01T00:00:00Z").await;
        let april = app.request("POST", path).send().await.is(201);
        // 1,000 words of March, and the fractions of both months, which make no whole cent: 0.5 and nothing.
        assert_eq!(text(&april["data"][0], "subtotal"), "1");
        assert_eq!(april["data"][0]["lines"][0]["late"], true);
        assert_eq!(invoices(&app, "jane").await.len(), 2);
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_invoice_is_credited_written_off_and_taken_back() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        for customer in ["jane", "john", "jack"] {
            subscribe(&app, customer, None).await;
        }
        let of = async |customer: &str| id(&invoices(&app, customer).await[0]).to_owned();
        let (jane, john, jack) = (of("jane").await, of("john").await, of("jack").await);
        let credit = format!("/v1/invoices/{jane}/credit");
        let body = json!({"amount": "3.80", "reason": "an outage", "operation_key": "c1"});
        let credited = app.post(&credit, body.clone()).await.is(201);
        assert_eq!((text(&credited, "amount_due"), text(&credited, "amount_credited")), ("20", "3.8"));
        let note = &list(&credited, "credit_notes")[0];
        assert_eq!((text(note, "amount"), text(note, "tax"), text(note, "reason")), ("3.8", "0.6", "an outage"));
        let again = app.post(&credit, body).await;
        assert_eq!((again.is(201), again.replayed()), (credited, true));
        app.post(&credit, json!({"amount": "20.01"})).await.refused(422, "credit_too_large");
        app.post(&credit, json!({"amount": "0.001"})).await.refused(400, "invalid_value");

        let void = format!("/v1/invoices/{john}/void");
        let voided = app.request("POST", &void).send().await.is(200);
        assert_eq!((text(&voided, "state"), text(&voided, "amount_due")), ("void", "0"));
        assert!(app.request("POST", &void).send().await.replayed());
        let again = app.request("POST", &void).idempotency_key("other").send().await;
        again.refused(409, "invoice_settled");

        let written_off = app.request("POST", &format!("/v1/invoices/{jack}/write_off")).send().await.is(200);
        assert_eq!((text(&written_off, "state"), text(&written_off, "amount_due")), ("uncollectible", "23.8"));
        // It still can be paid.
        let paying = app.post(&format!("/v1/invoices/{jack}/pay"), json!({})).await.is(201);
        assert_eq!(sandbox.pay(text(&paying, "client_secret"), "pm_card_visa").await.0, 200);
        until_state(&app, &jack, "paid").await;
        // A credit note on a paid invoice is to the customer's credit on the next one.
        let after = app.post(&format!("/v1/invoices/{jack}/credit"), json!({"amount": "5"})).await.is(201);
        assert_eq!((&after["state"], &after["credit_notes"][0]["to_balance"]), (&json!("paid"), &json!(true)));

        let states: Vec<String> = ["open", "paid", "void", "uncollectible"].map(str::to_owned).to_vec();
        for (state, expected) in states.iter().zip([1, 1, 1, 0]) {
            let listed = app.get(&format!("/v1/invoices?state={state}")).await.is(200);
            assert_eq!(list(&listed, "data").len(), expected, "{state}: {listed}");
        }
        let all = app.pages("/v1/invoices", 2).await;
        let numbers: Vec<&str> = all.iter().map(|invoice| text(invoice, "number")).collect();
        assert_eq!(numbers, ["ACME-3", "ACME-2", "ACME-1"]);
        app.get("/v1/invoices?state=draft").await.refused(400, "invalid_parameter");
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn credit_outlives_an_invoice_that_is_taken_back_and_tax_goes_back_with_a_refund() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        subscribe(&app, "jane", None).await;
        let first = id(&invoices(&app, "jane").await[0]).to_owned();
        let paying = app.post(&format!("/v1/invoices/{first}/pay"), json!({})).await.is(201);
        assert_eq!(sandbox.pay(text(&paying, "client_secret"), "pm_card_visa").await.0, 200);
        until_state(&app, &first, "paid").await;
        app.post(&format!("/v1/invoices/{first}/credit"), json!({"amount": "5"})).await.is(201);
        // The five dollars come off the next invoice; that is taken back, and they come off the one after it.
        for (moment, number) in [("2026-04-02T10:00:00Z", "ACME-2"), ("2026-05-02T10:00:00Z", "ACME-3")] {
            advance(&app, moment).await;
            let newest = invoices(&app, "jane").await[0].clone();
            assert_eq!((text(&newest, "number"), text(&newest, "total")), (number, "18.8"));
            let (said, _) = explained(&app, id(&newest)).await;
            assert_eq!(said["agrees"], true, "{said:#}");
            if number == "ACME-2" {
                app.request("POST", &format!("/v1/invoices/{}/void", id(&newest))).send().await.is(200);
                explained(&app, id(&newest)).await;
            }
        }
        let payment = text(&paying["payment"], "id");
        let refund = app.post(&format!("/v1/payments/{payment}/refunds"), json!({"amount": "11.90"})).await.is(201);
        assert_eq!(
            (&refund["amount"], &refund["tax"], &refund["credit"]),
            (&json!("11.9"), &json!("1.9"), &Value::Null)
        );
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_customers_token_sees_and_pays_its_own_invoices_and_no_others() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        subscribe(&app, "jane", None).await;
        subscribe(&app, "john", None).await;
        let own = id(&invoices(&app, "jane").await[0]).to_owned();
        let other = id(&invoices(&app, "john").await[0]).to_owned();
        let token = token(&app, "jane");
        let get = async |path: &str| app.request("GET", path).bearer(&token).send().await;
        for part in ["", "/pdf", "/explain"] {
            assert_eq!(get(&format!("/v1/invoices/{own}{part}")).await.status, 200, "{part}");
            get(&format!("/v1/invoices/{other}{part}")).await.refused(404, "unknown_invoice");
        }
        get("/v1/customers/jane/invoices").await.is(200);
        get("/v1/customers/jane/invoices/upcoming").await.is(200);
        get("/v1/customers/john/invoices").await.refused(404, "unknown_customer");
        get("/v1/customers/john/invoices/upcoming").await.refused(404, "unknown_customer");
        get("/v1/invoices").await.refused(403, "scope_missing");
        let post = async |path: &str, body: Value| app.request("POST", path).bearer(&token).json(&body).send().await;
        for step in ["void", "write_off"] {
            post(&format!("/v1/invoices/{own}/{step}"), json!({})).await.refused(403, "scope_missing");
        }
        post(&format!("/v1/invoices/{own}/credit"), json!({"amount": "1"})).await.refused(403, "scope_missing");
        post("/v1/customers/jane/invoices", json!({})).await.refused(403, "scope_missing");
        post(&format!("/v1/invoices/{other}/pay"), json!({})).await.refused(404, "unknown_invoice");
        let paying = post(&format!("/v1/invoices/{own}/pay"), json!({})).await.is(201);
        assert_eq!(sandbox.pay(text(&paying, "client_secret"), "pm_card_visa").await.0, 200);
        until_state(&app, &own, "paid").await;

        let (read, _) = app.new_key(Scope::Read).await;
        let refused = app.request("POST", &format!("/v1/invoices/{other}/pay")).bearer(&read).json(&json!({}));
        refused.send().await.refused(403, "scope_missing");
        app.get("/v1/invoices/inv_00000000000000000000000000000000000").await.refused(404, "unknown_invoice");
        app.get("/v1/invoices/nonsense").await.refused(404, "unknown_invoice");
        sandbox.stop().await;
    })
    .await;
}

/// Reads an explanation and checks what it says against sums that are made here, charge by charge; the ids of the charges
/// on each line.
async fn explained(app: &TestApp, invoice: &str) -> (Value, Vec<Vec<String>>) {
    let said = app.get(&format!("/v1/invoices/{invoice}/explain")).await.is(200);
    assert_eq!(said["agrees"], true, "{said:#}");
    let (mut total, mut of_lines) = (0, Vec::new());
    for line in list(&said, "lines") {
        assert_eq!(line["agrees"], true, "{line:#}");
        total += micros(text(line, "total"));
        let usage = &line["usage"];
        let path = format!("/v1/invoices/{invoice}/lines/{}/charges", line["number"]);
        if usage.is_null() {
            app.get(&path).await.refused(404, "unknown_line");
            continue;
        }
        let charges = app.pages(&path, 3).await;
        let sum = |part: &str| charges.iter().map(|charge| micros(text(charge, part))).sum::<i64>();
        let totals = &usage["totals"];
        assert_eq!(totals["charges"], charges.len(), "{line:#}");
        assert_eq!(micros(text(totals, "quantity")), sum("quantity"), "{line:#}");
        assert_eq!(micros(text(totals, "priced")), sum("amount"), "{line:#}");
        assert_eq!(micros(text(totals, "owed")), sum("owed"), "{line:#}");
        assert_eq!(micros(text(totals, "covered")), sum("amount") - sum("owed"), "{line:#}");
        let covers = charges.iter().flat_map(|charge| list(charge, "covered_by"));
        let covered: i64 = covers.map(|cover| micros(text(cover, "amount"))).sum();
        let told: i64 = list(usage, "covered_by").iter().map(|cover| micros(text(cover, "amount"))).sum();
        assert_eq!(told, covered, "{line:#}");
        assert_eq!(sum("owed") - micros(text(usage, "settled_before")), micros(text(usage, "exact")), "{line:#}");
        let rounding = &line["rounding"];
        let parts = micros(text(rounding, "amount")) + micros(text(rounding, "left"));
        assert_eq!(parts, micros(text(usage, "exact")), "{line:#}");
        of_lines.push(charges.iter().map(|charge| text(charge, "id").to_owned()).collect());
    }
    assert_eq!(total, micros(text(&said["invoice"], "total")), "{said:#}");
    (said, of_lines)
}

#[tokio::test]
async fn an_invoice_is_explained_to_the_last_charge() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        subscribe(&app, "jane", Some("WELCOME")).await;
        let promotional = json!({"amount": "1.5", "kind": "promotional"});
        let grant = app.post("/v1/customers/jane/grants", promotional).await.is(201);
        for words in 1..=14 {
            app.charge("jane", "words", &format!("{}", words * 100)).await.is(201);
        }
        app.charge("jane", "storage", "12.5").await.is(201);
        advance(&app, "2026-04-02T10:00:00Z").await;
        let renewal = invoices(&app, "jane").await[0].clone();
        let (said, lines) = explained(&app, id(&renewal)).await;
        // 1.5 dollars covered the first five uses in full: the others are on the line.
        let words = &list(&said, "lines")[0];
        assert_eq!(lines[0].len(), 9);
        assert_eq!(words["usage"]["covered_in_full"]["charges"], 5);
        assert_eq!((text(&words["usage"], "exact"), text(&words["line"], "amount")), ("9", "9"));
        let storage = &list(&said, "lines")[1];
        let steps: Vec<String> = list(&storage["usage"], "steps")
            .iter()
            .map(|step| {
                format!("{} at {} and {}", text(step, "quantity"), text(step, "unit_amount"), text(step, "flat_amount"))
            })
            .collect();
        assert_eq!(steps, ["10 at 0.333 and 0", "2.5 at 0.05 and 2"]);
        let rounding = &storage["rounding"];
        assert_eq!(
            (text(rounding, "exact"), text(rounding, "left"), text(rounding, "becomes")),
            ("5.455", "0.005", "owed")
        );
        let fee = list(&said, "lines").iter().find(|line| line["line"]["kind"] == "fee").expect("a fee");
        assert_eq!((text(&fee["fee"], "plan"), text(&fee["fee"]["definition"], "title")), ("pro-1", "Pro"));
        assert_eq!((text(&fee["taxes"][0], "base"), text(&fee["taxes"][0], "amount")), ("18", "3.42"));
        let told = list(words, "story").iter().map(|sentence| sentence.as_str().expect("words")).collect::<Vec<_>>();
        insta::allow_duplicates! {
            insta::assert_snapshot!(told.join("\n").replace(text(&words["line"], "price"), "VERSION"), @r"
            9000 words was used in 9 charges from 2026-03-02T09:00:00Z on that were not covered, or not in full.
            It was priced by version VERSION of price words (0.001 USD), each charge rounded once to a millionth (half to even): 9 USD.
            1500 words in 5 uses more, all of it covered by grants, is on no invoice.
            9 USD is 9 USD on the invoice.
            The coupon takes 0.9 USD off: 8.1 USD is left.
            VAT of 19 % on 8.1 USD is 1.54 USD, rounded half up; it comes on top.
            ");
        }

        // From a charge it goes on to the invoice.
        let charge = app.get(&format!("/v1/charges/{}/explain", lines[0][0])).await.is(200);
        assert_eq!((&charge["invoice"]["id"], &charge["invoice"]["line"]), (&renewal["id"], &json!(1)), "{charge:#}");
        let covered = app.get("/v1/customers/jane/charges?limit=500").await.is(200);
        let covered = list(&covered, "data").last().expect("the first use").clone();
        assert_eq!(covered["covered_by"][0]["grant"], grant["id"]);
        let covered = app.get(&format!("/v1/charges/{}/explain", id(&covered))).await.is(200);
        assert!(covered.get("invoice").is_none(), "{covered}");
        let next = app.charge("jane", "words", "100").await.is(201);
        let next = app.get(&format!("/v1/charges/{}/explain", id(&next))).await.is(200);
        assert_eq!(list(&next, "story").last().expect("words"), "It is on no invoice yet.");
        sandbox.stop().await;
    })
    .await;
}

/// Random lives: uses, grants, plan changes, credits, invoices on demand, months going by. Whatever came of it, the parts of
/// each invoice add up, and every use that owes something is on one line of one invoice, or waits.
#[tokio::test]
async fn the_parts_of_every_invoice_add_up() {
    const STEPS: usize = 45;
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        let mut seed: u64 = 20_260_302;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        subscribe(&app, "jane", Some("WELCOME")).await;
        let subscription = text(&invoices(&app, "jane").await[0], "subscription").to_owned();
        let subscription: engine::PublicId = subscription.parse().expect("an id");
        let mut now: jiff::Timestamp = "2026-03-02T09:00:00Z".parse().expect("a time");
        for step in 0..STEPS {
            match random(10) {
                0..=4 => {
                    let words = 1 + random(9_999);
                    app.charge("jane", "words", &words.to_string()).await.is(201);
                }
                5 | 6 => {
                    let quantity = format!("{}.{}", random(9), random(1_000));
                    app.charge("jane", "storage", &quantity).await.is(201);
                }
                7 => {
                    let amount = format!("0.{:03}", 1 + random(999));
                    let kind = if random(2) == 0 { "promotional" } else { "paid" };
                    app.post("/v1/customers/jane/grants", json!({"amount": amount, "kind": kind})).await.is(201);
                }
                8 => {
                    let plan = if random(2) == 0 { "pro" } else { "team" };
                    let change = engine::TermsChange { plan: Some(plan.into()), ..engine::TermsChange::default() };
                    let now = engine::ChangeTime::Now(engine::Proration::NextInvoice);
                    let step = engine::SubscriptionStep::Change(change, now);
                    execute(&app, "jane", Command::StepSubscription { subscription: subscription.id, step }).await;
                    app.request("POST", "/v1/customers/jane/invoices").send().await;
                }
                _ => {
                    let last = invoices(&app, "jane").await[0].clone();
                    let credit =
                        app.post(&format!("/v1/invoices/{}/credit", id(&last)), json!({"amount": "0.07"})).await;
                    assert!([201, 422].contains(&credit.status), "{credit:?}");
                }
            }
            if step % 5 == 4 {
                now += jiff::SignedDuration::from_hours(24 * 4 + i64::try_from(random(24 * 8)).expect("hours"));
                advance(&app, &now.to_string()).await;
            }
        }
        let all = invoices(&app, "jane").await;
        assert!(all.len() >= 3, "{}", all.len());
        let mut seen = std::collections::BTreeSet::new();
        for invoice in &all {
            let (_, lines) = explained(&app, id(invoice)).await;
            for charge in lines.into_iter().flatten() {
                let on = app.get(&format!("/v1/charges/{charge}/explain")).await.is(200);
                assert_eq!(on["invoice"]["id"], invoice["id"], "{on:#}");
                assert!(seen.insert(charge), "a charge is on two lines");
            }
        }
        for charge in app.pages("/v1/customers/jane/charges", 50).await {
            let owes = text(&charge, "owed") != "0";
            let on = app.get(&format!("/v1/charges/{}/explain", id(&charge))).await.is(200);
            let waits = list(&on, "story").iter().any(|words| words == "It is on no invoice yet.");
            let settled =
                list(&on, "story").iter().any(|words| words.as_str().expect("words").starts_with("It was paid"));
            assert_eq!(owes, seen.contains(id(&charge)) || waits || settled, "{on:#}");
        }
        books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_has_the_link_sees_the_invoice_keeps_it_and_pays_it() {
    on_both(async |database| {
        let (app, sandbox) = start(database).await;
        subscribe(&app, "jane", None).await;
        let invoice = invoices(&app, "jane").await[0].clone();
        let page = text(&invoice, "page").to_owned();
        assert!(page.starts_with("/invoices/") && !page.contains("jane"), "{page}");
        let open = async |path: &str| app.request("GET", path).anonymous().send().await;
        let shown = open(&page).await;
        assert_eq!((shown.status, shown.header("content-type")), (200, Some("text/html; charset=utf-8")));
        for (name, value) in
            [("referrer-policy", "no-referrer"), ("cache-control", "no-store"), ("x-frame-options", "DENY")]
        {
            assert_eq!(shown.header(name), Some(value), "{name}");
        }
        let policy = shown.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("script") && !policy.contains("unsafe"),
            "{policy}"
        );
        let html = shown.text();
        for wanted in
            ["ACME-1", "Acme Words GmbH", "Jane &#38; Söhne", "$23.80 due 1 May 2026", "Pay $23.80", "Download PDF"]
        {
            assert!(html.contains(wanted), "{wanted} is not in\n{html}");
        }
        assert!(!html.contains("<script") && !html.contains("style="), "{html}");
        let styles = open("/static/pages.css").await;
        assert_eq!((styles.status, styles.header("content-type")), (200, Some("text/css; charset=utf-8")));
        assert!(open("/static/accent/0b6e4f.css").await.text().contains("--accent: #0b6e4f; --on-accent: #ffffff"));
        assert_eq!(open("/static/accent/red.css").await.status, 404);
        let pdf = open(&format!("{page}/pdf")).await;
        assert_eq!((pdf.status, &pdf.body), (200, &app.get(text(&invoice, "pdf")).await.body), "it is the same file");
        let words = text_of(&pdf.body);
        assert!(words.contains("ACME-1") && words.contains("$23.80"), "{words}");

        // A link that was not given leads nowhere, and says nothing.
        let wrong = format!("{}AA", &page[..page.len() - 2]);
        for path in [wrong.as_str(), "/invoices/nonsense", &format!("{wrong}/pdf")] {
            let refused = open(path).await;
            assert_eq!((refused.status, refused.header("cache-control")), (404, Some("no-store")), "{path}");
            assert!(!refused.text().contains("ACME"), "{}", refused.text());
        }
        let pay = app.request("POST", &format!("{page}/pay")).anonymous();
        let led = pay.clone().send().await;
        let there = led.header("location").expect("it leads to the provider").to_owned();
        assert!(led.status == 303 && there.starts_with(&sandbox.url), "{led:?}");
        // Again it leads to the same place; nothing is to be paid twice.
        assert_eq!(pay.clone().send().await.header("location"), Some(&*there));
        assert_eq!(sandbox.all("checkout/sessions").await.len(), 1);
        sandbox.pay_on_page(&there, "4000000000009995").await;
        for _ in 0..200 {
            if open(&page).await.text().contains("insufficient funds") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(open(&page).await.text().contains("The last attempt did not work: Your card has insufficient funds."));
        sandbox.pay_on_page(&there, "4242424242424242").await;
        until_state(&app, id(&invoice), "paid").await;
        let html = open(&page).await.text();
        assert!(
            html.contains("$23.80 paid on 2 March 2026") && !html.contains("Pay $") && !html.contains("refresh"),
            "{html}"
        );
        // What is paid is not paid again.
        let again = pay.send().await;
        assert_eq!((again.status, again.header("location")), (303, Some(&*page)));
        sandbox.stop().await;
    })
    .await;
}
