//! Analytics: a small story in known numbers, and random books whose sums are made a second time, naively, from every charge
//! and every entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::plan::Plan;
use engine::{
    Account, Catalog, Command, EntryKind, GrantKind, GrantRequest, Micros, PayerChange, PaymentStep, Proration,
};
use engine::{ChangeTime, SubscribeRequest, SubscriptionStep, TermsChange};
use farthing::analytics::{self, AnalyticsError, Grouping, Range, RevenueRow, Sheet, Step, UsageRow};
use farthing::clock::Clock as _;
use farthing::service::{Service, Settings};
use farthing::store::{Page, Scope, Store};
use insta::{allow_duplicates, assert_snapshot};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::books;
use crate::cli_program::Program;
use crate::databases::{self, Database};
use crate::harness::{TENANT, TestApp, list, on_both};
use crate::product::{Product, all_done, micros};
use crate::shop::{Shop, scope};

/// Two agents of jane with credit of every kind, and john who owes.
async fn story(app: &TestApp) {
    app.create_with("jane", "10").await;
    app.create("john").await;
    for grant in
        [json!({"amount": "1", "kind": "promotional"}), json!({"amount": "4", "asset": "minute", "kind": "allowance"})]
    {
        app.post("/v1/customers/jane/grants", grant).await.is(201);
    }
    for (time, subject, meter, quantity, model) in [
        ("2026-03-01T23:30:00Z", "=ann", "tokens", 1_000_000, "small"),
        ("2026-03-02T08:00:00Z", "bob", "tokens", 2_000_000, "large"),
        ("2026-03-02T08:30:00Z", "bob", "minutes", 10, ""),
    ] {
        let dimensions = if model.is_empty() { json!({}) } else { json!({"model": model}) };
        let charge = json!({"customer": "jane", "meter": meter, "quantity": quantity, "subject": subject,
            "dimensions": dimensions, "time": time});
        app.post("/v1/charges", charge).await.is(201);
    }
    let event = json!({"customer": "john", "meter": "minutes", "quantity": 8});
    app.post("/v1/events", event).await.is(200);
}

/// What a report says as CSV.
async fn csv(app: &TestApp, path: &str) -> String {
    let answer = app.request("GET", path).header("accept", "text/csv").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(answer.text().ends_with("\r\n"), "RFC 4180 ends lines so");
    answer.text().replace("\r\n", "\n")
}

#[tokio::test]
async fn a_small_story_is_told_in_usage_spending_and_revenue() {
    on_both(async |app| {
        story(&app).await;
        let mut told = String::new();
        for path in [
            "/v1/analytics/usage?from=2026-03-01&to=2026-04-01&group=day,subject",
            "/v1/analytics/spending?from=2026-03-01&to=2026-04-01&group=dimension:model",
            "/v1/customers/john/analytics/spending?from=2026-03-01&to=2026-04-01",
            "/v1/analytics/revenue?from=2026-03-01&to=2026-04-01&group=month",
            "/v1/analytics/conversion?to=2026-03-03&group=day",
            "/v1/analytics/payments",
        ] {
            told += &format!("{path}\n{}\n", csv(&app, path).await);
        }
        allow_duplicates! { assert_snapshot!(told, @r"
        /v1/analytics/usage?from=2026-03-01&to=2026-04-01&group=day,subject
        period,meter,subject,dimension,charges,quantity,allowance_quantity,promotional_quantity,paid_quantity,refund_quantity,priced_quantity,asset,amount,allowance,promotional,paid,refund,owed,given_back
        2026-03-01,tokens,'=ann,,1,1000000,0,0,0,0,1000000,USD,0.15,0,0.15,0,0,0,0
        2026-03-02,minutes,,,1,8,0,0,0,0,8,USD,2,0,0,0,0,2,0
        2026-03-02,minutes,bob,,1,10,4,0,0,0,6,USD,1.5,0,0,1.5,0,0,0
        2026-03-02,tokens,bob,,1,2000000,0,0,0,0,2000000,USD,4,0,0.85,3.15,0,0,0

        /v1/analytics/spending?from=2026-03-01&to=2026-04-01&group=dimension:model
        period,subject,dimension,meter,charges,asset,amount,owed
        ,,,minutes,2,USD,3.5,2
        ,,large,tokens,1,USD,4,0
        ,,small,tokens,1,USD,0.15,0

        /v1/customers/john/analytics/spending?from=2026-03-01&to=2026-04-01
        period,subject,dimension,meter,charges,asset,amount,owed
        ,,,minutes,1,USD,2,2

        /v1/analytics/revenue?from=2026-03-01&to=2026-04-01&group=month
        period,asset,earned,usage_paid,usage_refund,usage_owed,invoiced,credited,refunded,given_back,usage_allowance,usage_promotional,breakage,lapsed,given_away,tax,collected,paid_back
        2026-03,USD,6.65,4.65,0,2,0,0,0,0,0,1,0,0,1,0,0,0
        2026-03,minute,0,0,0,0,0,0,0,0,4,0,0,0,4,0,0,0
        2026-03,use,0,0,0,0,0,0,0,0,0,0,0,0,6,0,0,0

        /v1/analytics/conversion?to=2026-03-03&group=day
        period,customers,with_payment_method,paid,subscribed,trials,trials_converted,payment_method_rate,paid_rate,subscribed_rate,trial_conversion_rate
        2026-03-02,2,0,0,0,0,0,0,0,0,

        /v1/analytics/payments
        period,currency,failure,payments,paid,failed,canceled,open,success_rate,amount,paid_amount,failed_amount,refunded,refunded_amount,disputes,disputes_won,disputes_lost,disputed_amount
        ") }
    })
    .await;
}

#[tokio::test]
async fn json_says_the_same_with_the_time_it_is_about() {
    let app = TestApp::start(Database::sqlite().await).await;
    story(&app).await;
    let report = app.get("/v1/customers/john/analytics/usage").await.is(200);
    assert_eq!([&report["from"], &report["to"]], ["2026-03-01T00:00:00Z", "2026-03-02T09:00:00Z"]);
    assert_eq!((&report["time_zone"], list(&report, "data").len()), (&json!("UTC"), 0), "up to now, and without it");
    let report = app.get("/v1/customers/john/analytics/usage?to=2026-03-03&group=month").await.is(200);
    let row = &list(&report, "data")[0];
    let shown = ["period", "meter", "quantity", "amount", "owed"].map(|name| row[name].as_str().unwrap());
    assert_eq!(shown, ["2026-03", "minutes", "8", "2", "2"]);
    assert_eq!((&row["subject"], &row["charges"]), (&Value::Null, &json!(1)));

    // `format` counts more than `Accept`, and the first kind that is accepted more than those after it.
    let both = app.request("GET", "/v1/analytics/usage?format=json").header("accept", "text/csv").send().await;
    assert!(both.is(200).is_object());
    let json_first =
        app.request("GET", "/v1/analytics/usage").header("accept", "application/json, text/csv").send().await;
    assert!(json_first.is(200).is_object());
    assert!(app.get("/v1/analytics/usage?format=csv").await.text().starts_with("period,meter,"));
}

#[tokio::test]
async fn what_cannot_be_reported_is_refused() {
    let app = TestApp::start(Database::sqlite().await).await;
    app.create("jane").await;
    for (path, pointer) in [
        ("/v1/analytics/usage?from=2025-01-01&to=2026-03-01", "from"),
        ("/v1/analytics/usage?from=2026-03-02&to=2026-03-01", "to"),
        ("/v1/analytics/usage?from=soon", "from"),
        ("/v1/analytics/usage?group=plan", "group"),
        ("/v1/analytics/usage?group=day,month", "group"),
        ("/v1/analytics/usage?group=dimension:a%27b", "group"),
        ("/v1/analytics/payments?group=subject", "group"),
        ("/v1/analytics/revenue?format=pdf", "format"),
    ] {
        assert_eq!(app.get(path).await.refused(400, "invalid_parameter")["pointer"], pointer, "{path}");
    }
    app.get("/v1/analytics/usage?grouped=day").await.refused(400, "invalid_parameter");
    app.get("/v1/customers/nobody/analytics/usage").await.refused(404, "unknown_customer");
}

#[tokio::test]
async fn a_report_has_at_most_ten_thousand_rows() {
    let app = TestApp::start(Database::postgres().await).await;
    app.create("jane").await;
    let charges = "INSERT INTO charges SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, NULL, 1, 'event', NULL,
            'runs', 1000000, 'agent-' || number, NULL, NULL, 0, 0, 'USD', 50000, 50000, 0, created_at - 1, created_at, NULL
        FROM customers, generate_series(1, 10001) AS number";
    app.database.execute(charges).await;
    for report in ["usage", "spending"] {
        let path = format!("/v1/customers/jane/analytics/{report}?group=subject");
        app.get(&path).await.refused(422, "too_many_results");
    }
    let all = app.get("/v1/analytics/spending").await.is(200);
    assert_eq!(list(&all, "data")[0]["amount"], "500.05");
}

/// A small generator of random numbers (splitmix64), so that a seed always makes the same books.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("it is below the length")]
    }
}

/// Six weeks of random uses and grants of two products, over the night in which the clock is put forward.
async fn random_books(database: &Database, seed: u64) -> Product {
    let mut random = Random(seed);
    let service = Service::start(&database.store, Settings::default());
    let berlin = |name| {
        let product = Product::new(name);
        let catalog =
            Catalog { time_zone: TimeZone::get("Europe/Berlin").expect("a zone"), ..(*product.catalog).clone() };
        Product { catalog: Arc::new(catalog), ..product }
    };
    let mut products = ["acme", "other"].map(berlin);
    for product in &products {
        all_done(&service, (0..4).map(|number| product.create(&format!("customer-{number}")))).await;
    }
    for number in 0..240_u64 {
        for product in &mut products {
            *product = product.later(i64::try_from(random.below(8 * 3_600)).expect("it is small"));
            let who = format!("customer-{}", random.below(4));
            let command = if random.below(4) == 0 {
                let kinds = [GrantKind::Allowance, GrantKind::Promotional, GrantKind::Paid, GrantKind::Refund];
                Command::Grant(GrantRequest {
                    asset: random.pick(&["USD", "call", "minute"]).to_owned(),
                    kind: random.pick(&kinds),
                    expires_at: (random.below(2) == 0).then(|| product.later(5 * 86_400).now),
                    ..product.grant_request(&who, &format!("g{number}"), random.pick(&["1", "3", "0.5"]))
                })
            } else {
                let uses = (0..=random.below(3)).map(|part| {
                    let meter = random.pick(&["calls", "tokens", "minutes", "use"]);
                    let quantity = random.pick(&["1", "2.5", "7"]);
                    let mut charge = product.charge_request(&who, &format!("c{number}-{part}"), meter, quantity);
                    charge.subject = random.pick(&[None, Some("ann"), Some("bob")]).map(Into::into);
                    charge.dimensions =
                        BTreeMap::from([("model".to_owned(), random.pick(&["small", "large"]).to_owned())]);
                    // Some were used the day before.
                    charge.occurred_at = product.later(-i64::try_from(random.below(30) * 3_600).expect("small")).now;
                    charge
                });
                Command::Record(uses.collect())
            };
            all_done(&service, [product.request(&who, command)]).await;
        }
    }
    service.stop().await;
    let [acme, _] = products;
    acme
}

/// The local day of an instant.
fn day(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).date().to_string()
}

fn amount(text: &str) -> i64 {
    micros(text).get()
}

/// The kind of each grant of a customer.
async fn grant_kinds(store: &dyn Store, scope: &Scope, owner: (i32, Uuid)) -> BTreeMap<Uuid, GrantKind> {
    let page = Page { after: None, limit: 10_000 };
    let grants = store.grants(scope, owner, page).await.expect("the store answers");
    grants.into_iter().map(|row| (row.grant.id, row.grant.kind)).collect()
}

/// What naive revenue is by: day and asset. What it says: earned from uses that bought credit, that credit given back, that
/// allowances and that promotions covered, and that are owed; all that the account of revenue has; breakage, and what
/// was given away.
type Naive = BTreeMap<(String, String), [i64; 8]>;

/// Every entry of a tenant, on the day of its use, or on the one on which it was booked.
async fn naive_revenue(store: &dyn Store, scope: &Scope, zone: &TimeZone) -> Naive {
    let mut naive = Naive::new();
    for row in books::all_customers(store).await.into_iter().filter(|row| *row.tenant == *scope.tenant) {
        let owner = (row.customer.shard_key, row.customer.id);
        let kinds = grant_kinds(store, scope, owner).await;
        let charges = books::all_charges(store, scope, owner).await;
        let used: BTreeMap<Uuid, Timestamp> =
            charges.iter().map(|row| (row.charge.id, row.charge.occurred_at)).collect();
        for row in books::all_entries(store, scope, owner).await {
            let entry = row.entry;
            let is_use = matches!(entry.kind, EntryKind::Charge | EntryKind::Repricing);
            let at = if is_use { used[&entry.cause] } else { row.recorded_at };
            let sums = naive.entry((day(at, zone), entry.asset.to_string())).or_default();
            let signed = |account| {
                let credit = if entry.credit == account { entry.amount.get() } else { 0 };
                credit - if entry.debit == account { entry.amount.get() } else { 0 }
            };
            if entry.kind == EntryKind::Charge {
                let column = match entry.grant.map(|grant| kinds[&grant]) {
                    Some(GrantKind::Paid) => 0,
                    Some(GrantKind::Refund) => 1,
                    Some(GrantKind::Allowance) => 2,
                    Some(GrantKind::Promotional) => 3,
                    None => 4,
                };
                sums[column] += entry.amount.get();
            }
            sums[5] += signed(Account::Revenue);
            sums[6] += signed(Account::Breakage);
            sums[7] -= signed(Account::Promotions);
        }
    }
    naive.retain(|_, sums| *sums != [0; 8]);
    naive
}

/// The same, as the report has it.
fn reported(rows: &[RevenueRow]) -> Naive {
    let sums = |row: &RevenueRow| {
        let [paid, refund, allowance, promotional, owed] =
            [&row.usage_paid, &row.usage_refund, &row.usage_allowance, &row.usage_promotional, &row.usage_owed]
                .map(|text| amount(text));
        let parts = [&row.credited, &row.refunded, &row.given_back].map(|text| amount(text)).iter().sum::<i64>();
        assert_eq!(amount(&row.earned), paid + refund + owed + amount(&row.invoiced) - parts, "{row:?}");
        let revenue = amount(&row.earned) + allowance + promotional;
        let breakage = amount(&row.breakage) + amount(&row.lapsed);
        [paid, refund, allowance, promotional, owed, revenue, breakage, amount(&row.given_away)]
    };
    let key = |row: &RevenueRow| (row.period.clone().expect("by day"), row.asset.clone());
    let mut reported: Naive = rows.iter().map(|row| (key(row), sums(row))).collect();
    reported.retain(|_, sums| *sums != [0; 8]);
    reported
}

/// What naive usage is by: day, meter, asset, subject. What it says: charges; the quantity, what of it allowances, promotions,
/// bought units and units given back covered, and what was priced; the amount, what of it these covered, what is owed, and what
/// was given back.
type NaiveUsage = BTreeMap<(String, String, String, Option<String>), [i64; 14]>;

async fn naive_usage(store: &dyn Store, scope: &Scope, zone: &TimeZone) -> NaiveUsage {
    let mut naive = NaiveUsage::new();
    for row in books::all_customers(store).await.into_iter().filter(|row| *row.tenant == *scope.tenant) {
        let owner = (row.customer.shard_key, row.customer.id);
        let kinds = grant_kinds(store, scope, owner).await;
        for row in books::all_charges(store, scope, owner).await {
            let charge = row.charge;
            let subject = charge.subject.as_deref().map(str::to_owned);
            let key = (day(charge.occurred_at, zone), charge.meter.to_string(), charge.asset.to_string(), subject);
            let sums = naive.entry(key).or_default();
            sums[0] += 1;
            sums[1] += charge.quantity.get();
            sums[6] += charge.priced_quantity.get();
            sums[7] += charge.amount.get();
            sums[12] += charge.owed.get();
            sums[13] -= charge.amount.min(Micros::ZERO).get();
            for cover in &charge.covered_by {
                let column = match kinds[&cover.grant] {
                    GrantKind::Allowance => 0,
                    GrantKind::Promotional => 1,
                    GrantKind::Paid => 2,
                    GrantKind::Refund => 3,
                };
                let in_money = cover.asset == charge.asset && charge.price.is_some();
                sums[column + if in_money { 8 } else { 2 }] += cover.amount.get();
            }
        }
    }
    naive
}

fn reported_usage(rows: Vec<UsageRow>) -> NaiveUsage {
    let sums = |row: UsageRow| {
        let texts = [
            &row.quantity,
            &row.allowance_quantity,
            &row.promotional_quantity,
            &row.paid_quantity,
            &row.refund_quantity,
            &row.priced_quantity,
            &row.amount,
            &row.allowance,
            &row.promotional,
            &row.paid,
            &row.refund,
            &row.owed,
            &row.given_back,
        ];
        let mut sums = [row.charges; 14];
        sums[1..].copy_from_slice(&texts.map(|text| amount(text)));
        // What is priced is what units do not cover, and what is charged is what credit covers, or is owed.
        assert_eq!(sums[1], sums[2..=6].iter().sum::<i64>(), "{row:?}");
        assert_eq!(sums[7] + sums[13], sums[8..=12].iter().sum::<i64>(), "{row:?}");
        ((row.period.expect("by day"), row.meter, row.asset, row.subject), sums)
    };
    rows.into_iter().map(sums).collect()
}

#[tokio::test]
async fn sums_are_those_of_every_charge_and_every_entry() {
    databases::on_both(async |database| {
        for seed in 1..=2 {
            let database = database.another().await;
            let acme = random_books(&database, seed).await;
            let (store, scope, zone) = (&*database.store, acme.scope(), &acme.catalog.time_zone);
            let range = Range::new(Some("2026-02-20"), Some("2026-06-20"), Step::Day, zone, acme.now).unwrap();
            let revenue = analytics::revenue(store, &scope, &range).await.unwrap();
            assert_eq!(reported(&revenue), naive_revenue(store, &scope, zone).await, "seed {seed}");
            let by_subject = Grouping { step: Step::Day, subject: true, ..Grouping::default() };
            let usage = analytics::usage(store, &scope, &range, &by_subject).await.unwrap();
            assert!(usage.len() > 100, "{}", usage.len());
            assert_eq!(reported_usage(usage), naive_usage(store, &scope, zone).await, "seed {seed}");

            // Months add up to what days do, and customers to the tenant.
            let months = Range { step: Step::Month, ..range.clone() };
            let whole = Range { step: Step::Whole, ..range.clone() };
            let all = earned(&analytics::revenue(store, &scope, &whole).await.unwrap());
            assert_eq!(earned(&revenue), all);
            assert_eq!(earned(&analytics::revenue(store, &scope, &months).await.unwrap()), all);
            let mut each = BTreeMap::new();
            for number in 0..4 {
                let (_, id) = acme.owner(store, &format!("customer-{number}")).await;
                let own = Scope { customer: Some(id), ..scope.clone() };
                for (asset, sum) in earned(&analytics::revenue(store, &own, &whole).await.unwrap()) {
                    *each.entry(asset).or_insert(0) += sum;
                }
            }
            assert_eq!(each, all);
        }
    })
    .await;
}

/// What was earned in each asset.
fn earned(rows: &[RevenueRow]) -> BTreeMap<String, i64> {
    let mut earned = BTreeMap::new();
    for row in rows {
        *earned.entry(row.asset.clone()).or_insert(0) += amount(&row.earned);
    }
    earned
}

/// Plans for 20 and 50 dollars a month, one for 120 a year, and one with two weeks of trial.
fn plans(catalog: &mut Catalog) {
    for (name, minor, unit, trial_days) in [
        ("pro", 2_000, "month", 0),
        ("team", 5_000, "month", 0),
        ("year", 12_000, "year", 0),
        ("trial", 3_000, "month", 14),
    ] {
        let plan = json!({
            "name": name, "version": format!("{name}-1"), "title": name, "fee": {"minor": minor, "currency": "USD"},
            "interval": {"unit": unit, "count": 1}, "trial_days": trial_days,
        });
        let plan: Plan = serde_json::from_value(plan).expect("a plan");
        catalog.plans.current.insert(plan.name.clone(), plan.version.clone());
        catalog.plans.versions.insert(plan.version.clone(), Arc::new(plan));
    }
}

/// Has a customer with this card subscribe; the subscription.
async fn subscribe(shop: &Shop, customer: &str, plan: &str, card: &str) -> Uuid {
    shop.create(customer).await;
    shop.execute(customer, Command::ChangePayer(PayerChange::Attach { method: card.into(), default: false }))
        .await
        .expect("it may be attached");
    shop.work().await;
    let id = shop.clock.new_id();
    let request = SubscribeRequest {
        id,
        plan: plan.into(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection: None,
        by_invoice: false,
        replaces: None,
    };
    shop.execute(customer, Command::Subscribe(request)).await.expect("it may subscribe");
    shop.work().await;
    id
}

async fn step(shop: &Shop, customer: &str, subscription: Uuid, step: SubscriptionStep) {
    shop.execute(customer, Command::StepSubscription { subscription, step }).await.expect("it may be done");
    shop.work().await;
}

/// Has time go by, for the tenant and for who asks it.
async fn advance(shop: &Shop, to: &str) {
    let to: Timestamp = to.parse().expect("a time");
    shop.jobs.advance(&"acme".into(), to, Vec::new()).await.expect("time goes by");
    shop.clock.advance(to.as_second() - shop.clock.now().as_second());
}

/// The spring of a shop: jane moves up, john leaves and comes back, a trial becomes a subscription and one does not, and bob
/// buys credit with his second card and has a part of it back.
async fn spring(shop: &Shop) {
    let jane = subscribe(shop, "jane", "pro", "pm_card_visa").await;
    let john = subscribe(shop, "john", "team", "pm_card_visa").await;
    subscribe(shop, "joan", "trial", "pm_card_visa").await;
    let june = subscribe(shop, "june", "trial", "pm_card_visa").await;
    subscribe(shop, "yara", "year", "pm_card_visa").await;
    step(shop, "june", june, SubscriptionStep::Cancel { prorate: false }).await;
    step(shop, "john", john, SubscriptionStep::CancelAtPeriodEnd).await;
    shop.create("bob").await;
    let payment = shop.buy("bob", "starter").await;
    shop.work().await;
    let secret = shop.payment("bob", payment).await.client_secret.expect("it can be paid");
    assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclined").await.0, 402);
    assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.0, 200);
    let declined = shop.buy("bob", "starter").await;
    shop.work().await;
    let secret = shop.payment("bob", declined).await.client_secret.expect("it can be paid");
    assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclinedInsufficientFunds").await.0, 402);
    shop.deliver_all().await;
    shop.work().await;

    advance(shop, "2026-04-10T09:00:00Z").await;
    let up = TermsChange { plan: Some("team".into()), ..TermsChange::default() };
    step(shop, "jane", jane, SubscriptionStep::Change(up, ChangeTime::Now(Proration::Now))).await;
    let refund = PaymentStep::Refund { id: shop.clock.new_id(), minor: Some(500) };
    shop.execute("bob", Command::StepPayment { payment, step: refund }).await.expect("it may be refunded");
    shop.work().await;
    advance(shop, "2026-05-20T09:00:00Z").await;
    subscribe(shop, "john", "pro", "pm_card_visa").await;
    advance(shop, "2026-06-01T00:00:00Z").await;
}

fn show<T: serde::Serialize + Default>(rows: &[T]) -> String {
    Sheet::of(rows).expect("rows of one kind").csv().expect("it is written").replace("\r\n", "\n")
}

#[tokio::test]
async fn a_spring_of_subscriptions_and_payments() {
    databases::on_both(async |database| {
        let shop = Shop::selling(database, plans).await;
        spring(&shop).await;
        let (store, catalog) = (&*shop.app.store, &shop.app.tenants["acme"].catalog);
        let range = |step| {
            Range::new(Some("2026-03-01"), Some("2026-06-01"), step, &catalog.time_zone, shop.clock.now()).unwrap()
        };
        let months = range(Step::Month);
        let by = |words: &str| Grouping::parse(words, &["month", "plan", "failure"]).unwrap();
        let recurring = analytics::recurring_revenue(store, &scope(), catalog, &months, &by("month")).await.unwrap();
        let mut told = show(&recurring);
        for rows in recurring.windows(2) {
            let [before, now] = rows else { panic!("two rows") };
            let came = amount(&now.new) + amount(&now.reactivated) + amount(&now.expansion);
            let went = amount(&now.contraction) + amount(&now.churned);
            assert_eq!(amount(&now.recurring), amount(&before.recurring) + came - went, "{now:?}");
        }
        let plans =
            analytics::recurring_revenue(store, &scope(), catalog, &range(Step::Whole), &by("plan")).await.unwrap();
        let plans: Vec<_> = plans.iter().map(|row| (row.plan.as_deref().unwrap(), &*row.recurring)).collect();
        assert_eq!(plans, [("pro", "20"), ("team", "50"), ("trial", "30"), ("year", "10")]);

        let payments = analytics::payments(store, &scope(), &months, &by("failure")).await.unwrap();
        let conversion = analytics::conversion(store, &scope(), &range(Step::Month)).await.unwrap();

        let revenue = analytics::revenue(store, &scope(), &months).await.unwrap();
        for sheet in [show(&payments), show(&conversion), show(&revenue)] {
            told += &format!("\n{sheet}");
        }
        allow_duplicates! { assert_snapshot!(told, @r"
        period,at,plan,currency,recurring,new,reactivated,expansion,contraction,churned,subscriptions,trials,unpriced
        2026-03,2026-04-01T00:00:00Z,,USD,110,110,0,0,0,0,4,0,0
        2026-04,2026-05-01T00:00:00Z,,USD,90,0,0,30,0,50,3,0,0
        2026-05,2026-06-01T00:00:00Z,,USD,110,0,20,0,0,0,4,0,0

        period,currency,failure,payments,paid,failed,canceled,open,success_rate,amount,paid_amount,failed_amount,refunded,refunded_amount,disputes,disputes_won,disputes_lost,disputed_amount
        2026-03,USD,,5,5,0,0,0,10000,240,240,0,1,5,0,0,0,0
        2026-03,USD,insufficient_funds,1,0,1,0,0,0,20,0,20,0,0,0,0,0,0
        2026-04,USD,,3,3,0,0,0,10000,72,72,0,0,0,0,0,0,0
        2026-05,USD,,3,3,0,0,0,10000,100,100,0,0,0,0,0,0,0

        period,customers,with_payment_method,paid,subscribed,trials,trials_converted,payment_method_rate,paid_rate,subscribed_rate,trial_conversion_rate
        2026-03,6,5,5,4,2,1,8333,8333,6667,5000

        period,asset,earned,usage_paid,usage_refund,usage_owed,invoiced,credited,refunded,given_back,usage_allowance,usage_promotional,breakage,lapsed,given_away,tax,collected,paid_back
        2026-03,USD,220,0,0,0,220,0,0,0,0,0,0,0,0,0,240,0
        2026-04,USD,72,0,0,0,72,0,0,0,0,0,0,0,0,0,72,5
        2026-05,USD,100,0,0,0,100,0,0,0,0,0,0,0,0,0,100,0
        ") }
        let days = analytics::revenue(store, &scope(), &range(Step::Day)).await.unwrap();
        assert_eq!(reported(&days), naive_revenue(store, &scope(), &catalog.time_zone).await);
        books::assert_balanced(store).await;
    })
    .await;
}

#[tokio::test]
async fn recurring_revenue_of_a_plan_that_nobody_knows_is_counted_apart() {
    let shop = Shop::selling(Database::sqlite().await, plans).await;
    subscribe(&shop, "jane", "pro", "pm_card_visa").await;
    let catalog = Catalog { plans: engine::Plans::default(), ..(*shop.app.tenants["acme"].catalog).clone() };
    let range = Range::new(None, Some("2026-03-03"), Step::Whole, &catalog.time_zone, shop.clock.now()).unwrap();
    let store = &*shop.app.store;
    let rows = analytics::recurring_revenue(store, &scope(), &catalog, &range, &Grouping::default()).await.unwrap();
    assert_eq!((rows.len(), rows[0].unpriced, &*rows[0].recurring), (1, 1, "0"));
}

#[tokio::test]
async fn the_command_line_prints_reports() {
    on_both(async |app| {
        story(&app).await;
        let program = Program::on(app.database.address());
        let file = TENANT.split("[jwt]").next().expect("a part before");
        program.file("farthing.toml", file);
        let run = |arguments: &[&str]| program.run(&[&["analytics"], arguments].concat());
        let march = ["--from", "2026-03-01", "--to", "2026-04-01"];
        let table = run(&[&["spending"], &march[..], &["--group", "subject"]].concat());
        allow_duplicates! { assert_snapshot!(table.assert_code(0).out, @r"
        SUBJECT  METER    CHARGES  ASSET  AMOUNT  OWED
                 minutes  1        USD    2       2
        bob      minutes  1        USD    1.5     0
        =ann     tokens   1        USD    0.15    0
        bob      tokens   1        USD    4       0
        ") }
        let csv = run(&[&["spending"], &march[..], &["--group", "subject", "--format", "csv"]].concat());
        let served =
            app.get("/v1/analytics/spending?from=2026-03-01&to=2026-04-01&group=subject&format=csv").await.text();
        assert_eq!(csv.assert_code(0).out, served);
        assert_eq!(
            run(&["payments", "--from", "2026-03-01", "--to", "2026-03-02"]).assert_code(0).out,
            "nothing in this time\n"
        );
        run(&["usage", "--from", "yesterday"]).assert_code(2);
        run(&["usage", "--group", "plan"]).assert_code(2);
    })
    .await;
}

#[tokio::test]
async fn a_sum_that_is_too_large_says_so() {
    databases::on_both(async |database| {
        let product = Product::new("acme");
        let service = Service::start(&database.store, Settings::default());
        for customer in ["jane", "john"] {
            let most = product.charge_request(customer, "c1", "use", "9000000000000");
            let most = product.request(customer, Command::Record(vec![most]));
            all_done(&service, [product.create(customer), most]).await;
        }
        service.stop().await;
        let range = Range::new(None, Some("2026-04-01"), Step::Whole, &TimeZone::UTC, product.now).unwrap();
        let usage = analytics::usage(&*database.store, &product.scope(), &range, &Grouping::default()).await;
        assert!(matches!(usage, Err(AnalyticsError::OutOfRange)), "{usage:?}");
    })
    .await;
}
