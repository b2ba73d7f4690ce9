//! The invoice run: many customers whose month has ended, closed by several real servers at once, by `farthing jobs run`, and by
//! either of them after it was killed on the way. Whatever happens, each customer is invoiced once, and no number is
//! missing or given twice.

use std::process::{Child, Command as Process};
use std::sync::Arc;
use std::time::Duration;

use engine::period::Interval;
use engine::plan::Plan;
use engine::subscription::SubscribeRequest;
use engine::{Asset, Catalog, ChargeRequest, Command, CustomerChange, Money, UsageInvoices};
use farthing::app::App;
use farthing::clock::Clock;
use farthing::config;
use farthing::service::{Request, Settings};
use farthing::store::{CustomerKey, Page, Scope, Store};
use futures_util::future::join_all;
use serde_json::Value;

use crate::books;
use crate::cli_program::Program;
use crate::databases::{Database, on_both};
use crate::harness::TestClock;
use crate::product::micros;
use crate::server_processes::Server;
use crate::shop::Shop;

/// A tenant that invoices usage by the month. Nothing of what it asks for is overdue within a year.
const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"
time_zone = "Europe/Berlin"

[overage]
policy = "owe"

[billing]
usage_invoices = "monthly"
days_until_due = 365

[[meters]]
name = "minutes"
unit = "minute"

[[prices]]
meter = "minutes"
model = "per_unit"
amount = "0.25"
"#;

fn used(clock: &TestClock, minutes: &str, at: &str) -> Command {
    Command::Record(vec![ChargeRequest {
        id: clock.new_id(),
        operation_key: None,
        fingerprint: 0,
        meter: "minutes".into(),
        quantity: micros(minutes),
        subject: None,
        dimensions: std::collections::BTreeMap::new(),
        occurred_at: at.parse().expect("a time"),
        metadata: None,
        own_amount: None,
    }])
}

/// So many customers who have used four minutes in May 2026, which has ended when a real server looks at them. Returns
/// the tenant's file.
async fn customers_of_may(database: &Database, many: usize, program: &Program) -> String {
    program.file("acme.toml", TENANT);
    let tenant = config::parse(TENANT, "acme.toml", &|_| None).expect("the tenant file is right");
    let clock = TestClock::at("2026-05-20T09:00:00Z");
    let store = database.open().await;
    let connections = std::collections::BTreeMap::new();
    let app =
        App::start(store, vec![tenant], connections, clock.clone(), Settings::default()).await.expect("it starts");
    let catalog = app.tenants["acme"].catalog.clone();
    let request = |number: usize, command: Command| Request {
        catalog: catalog.clone(),
        key: CustomerKey::new(&catalog.tenant, &format!("customer-{number}")),
        command,
        operation: None,
        settles: None,
        new_customer: clock.new_id(),
        now: clock.now(),
    };
    for numbers in (0..many).collect::<Vec<_>>().chunks(512) {
        let make = numbers.iter().map(|number| request(*number, Command::Upsert(CustomerChange::default())));
        let uses = numbers.iter().map(|number| request(*number, used(&clock, "4", "2026-05-20T09:00:00Z")));
        for requests in [make.collect::<Vec<_>>(), uses.collect()] {
            for done in join_all(requests.into_iter().map(|request| app.service.execute(request))).await {
                done.expect("it is done");
            }
        }
    }
    app.service.stop().await;
    program.path("acme.toml").display().to_string()
}

async fn invoices(store: &dyn Store) -> i64 {
    store.invoice_numbers().await.expect("the store answers").first().map_or(0, |numbers| numbers.invoices)
}

/// Waits until there are so many invoices.
async fn until_invoices(store: &dyn Store, many: i64) -> i64 {
    for _ in 0..6_000 {
        let there = invoices(store).await;
        if there >= many {
            return there;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are not {many} invoices after a minute");
}

/// Each customer has one invoice, for May and a dollar; the books balance, and `verify` finds nothing.
async fn assert_invoiced_once(store: &dyn Store, many: usize, program: &Program) {
    let customers = books::all_customers(store).await;
    assert_eq!(customers.len(), many);
    let scope = Scope { tenant: "acme".into(), customer: None };
    for row in &customers {
        let owner = (row.customer.shard_key, row.customer.id);
        let found = store.invoices(&scope, owner, Page { after: None, limit: 10 }).await.expect("the store answers");
        let said: Vec<_> = found.iter().map(|row| (row.value.total, row.value.period.end.to_string())).collect();
        assert_eq!(said, [(100, "2026-05-31T22:00:00Z".to_owned())], "{}", row.external_id);
    }
    let numbers = store.invoice_numbers().await.expect("the store answers").remove(0);
    let all = i64::try_from(many).expect("a few");
    assert_eq!((numbers.least, numbers.greatest, numbers.distinct, numbers.next), (1, all, all, all + 1));
    program.run(&["verify"]).assert_code(0);
    let work: Value = serde_json::from_str(&program.run(&["jobs", "--json"]).assert_code(0).out).expect("JSON");
    let due: i64 = work.as_array().expect("a list").iter().filter_map(|kind| kind["due"].as_i64()).sum();
    assert_eq!(due, 0, "{work}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_server_processes_close_a_month_and_one_is_killed_on_the_way() {
    const CUSTOMERS: usize = 1_200;
    on_both(async |database| {
        let program = Program::on(database.address());
        let file = customers_of_may(&database, CUSTOMERS, &program).await;
        let start = || {
            let (file, address) = (file.clone(), database.address());
            tokio::task::spawn_blocking(move || Server::start_with(&file, &address))
        };
        let (dying, surviving) = tokio::join!(start(), start());
        let store = database.open().await;
        let there = until_invoices(&*store, 200).await;
        dying.expect("it starts").kill();
        eprintln!("one is killed after {there} of {CUSTOMERS} invoices");
        until_invoices(&*store, i64::try_from(CUSTOMERS).expect("a few")).await;
        surviving.expect("it starts").terminate();
        assert_invoiced_once(&*store, CUSTOMERS, &program).await;
        books::assert_balanced(&*store).await;
    })
    .await;
}

fn jobs_run(file: &str, program: &Program) -> Child {
    program.start(&["jobs", "run", file, "--sandbox-listen", "off"])
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_is_interrupted_and_killed_and_goes_on_where_it_was() {
    const CUSTOMERS: usize = 2_000;
    on_both(async |database| {
        let program = Program::on(database.address());
        let file = customers_of_may(&database, CUSTOMERS, &program).await;
        let work: Value = serde_json::from_str(&program.run(&["jobs", "--json"]).assert_code(0).out).expect("JSON");
        assert_eq!(
            (&work[0]["kind"], &work[0]["due"], &work[0]["oldest"]),
            (&"usage".into(), &CUSTOMERS.into(), &"2026-05-31T22:00:00Z".into())
        );
        // Before June nothing was due.
        let early = ["jobs", "run", &file, "--sandbox-listen", "off", "--until", "2026-05-31T21:59:59Z", "--json"];
        let early: Value = serde_json::from_str(&program.run(&early).assert_code(0).out).expect("JSON");
        assert_eq!(early["customers"], 0);

        let store = database.open().await;
        let mut interrupted = jobs_run(&file, &program);
        until_invoices(&*store, 100).await;
        let id = interrupted.id().to_string();
        Process::new("kill").args(["-INT", &id]).status().expect("kill runs");
        interrupted.wait().expect("it ends");
        let mut killed = jobs_run(&file, &program);
        let before = invoices(&*store).await;
        until_invoices(&*store, before + 100).await;
        killed.kill().expect("it is killed");
        killed.wait().expect("it is gone");
        let before = invoices(&*store).await;
        assert!(before < 2_000, "it was done before it was killed");

        let last = ["jobs", "run", &file, "--sandbox-listen", "off", "--json"];
        let ended: Value = serde_json::from_str(&program.run(&last).assert_code(0).out).expect("JSON");
        assert_eq!((&ended["customers"], &ended["stuck"]), (&(2_000 - before).into(), &serde_json::json!({})));
        let again: Value = serde_json::from_str(&program.run(&last).assert_code(0).out).expect("JSON");
        assert_eq!(again["customers"], 0);
        assert_invoiced_once(&*store, CUSTOMERS, &program).await;
    })
    .await;
}

/// The shop's customers by the month, and a plan for twenty dollars.
fn by_the_month(catalog: &mut Catalog) {
    catalog.billing.usage_invoices = UsageInvoices::Monthly;
    catalog.billing.days_until_due = 365;
    let plan = Plan {
        name: "pro".into(),
        version: "pro-1".into(),
        title: "Pro".into(),
        fee: Money { minor: 2_000, currency: Asset::new("USD") },
        interval: Interval::MONTH,
        trial_days: 0,
        allowances: Vec::new(),
        features: std::collections::BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: None,
        overage: None,
        commitment: None,
        add_ons: Vec::new(),
        prices: Vec::new(),
        provider_price: None,
    };
    catalog.plans.versions.insert(plan.version.clone(), Arc::new(plan));
    catalog.plans.current.insert("pro".into(), "pro-1".into());
}

async fn totals(shop: &Shop, customer: &str) -> Vec<(String, i64)> {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 100 };
    let found = shop.app.store.invoices(&crate::shop::scope(), owner, page).await.expect("the store answers");
    let mut all: Vec<_> = found.iter().map(|row| (row.value.created_at.to_string(), row.value.total)).collect();
    all.sort();
    all
}

#[tokio::test]
async fn servers_that_were_down_at_the_turn_of_months_invoice_each_of_them_once() {
    on_both(async |database| {
        let shop = Shop::selling(database, by_the_month).await;
        for customer in ["user", "subscriber"] {
            shop.create(customer).await;
        }
        let request = SubscribeRequest {
            id: shop.clock.new_id(),
            plan: "pro".into(),
            quantity: 1,
            add_ons: Vec::new(),
            coupon: None,
            trial_days: None,
            collection: None,
            by_invoice: true,
            replaces: None,
        };
        shop.execute("subscriber", Command::Subscribe(request)).await.expect("it may subscribe");
        for customer in ["user", "subscriber"] {
            shop.execute(customer, used(&shop.clock, "8", "2026-03-02T09:00:00Z")).await.expect("it is recorded");
        }
        // March and April end while nobody is there; then something of March is heard of.
        shop.clock.advance(75 * 24 * 3_600);
        let (one, two) = (shop.restarted().await, shop.restarted().await);
        let (first, second) = tokio::join!(one.jobs.pass_time(), two.jobs.pass_time());
        assert!(first.expect("the store answers") + second.expect("the store answers") >= 2);
        for customer in ["user", "subscriber"] {
            let late = used(&shop.clock, "4", "2026-03-30T09:00:00Z");
            one.execute(customer, late).await.expect("it is recorded");
        }
        assert_eq!(one.jobs.pass_time().await.expect("the store answers"), 0);
        shop.clock.advance(30 * 24 * 3_600);
        two.jobs.pass_time().await.expect("the store answers");

        let at = |date: &str, total| (date.to_owned(), total);
        assert_eq!(totals(&shop, "user").await, [at("2026-04-01T00:00:00Z", 200), at("2026-06-01T00:00:00Z", 100)]);
        assert_eq!(
            totals(&shop, "subscriber").await,
            [
                at("2026-03-02T09:00:00Z", 2_000),
                at("2026-04-02T09:00:00Z", 2_200),
                at("2026-05-02T09:00:00Z", 2_000),
                at("2026-06-02T09:00:00Z", 2_100)
            ]
        );
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}
