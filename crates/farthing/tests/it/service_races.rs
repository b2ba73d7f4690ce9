//! Many callers at once, through one service and through two on the same database, each with what it remembers: credit is
//! never spent twice, and whoever is refused is refused rightly.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::Command;
use farthing::service::{Commit, Request, Service, Settings};

use crate::books;
use crate::databases::{Database, on_both};
use crate::product::{Product, all_done, outcome};

/// Callers of 1,000 calls at 0.25 USD, where credit covers 400 of them.
const CALLERS: usize = 1_000;
const COVERED: usize = 400;

/// Two services on one database, and how they commit.
const PAIRS: [[Commit; 2]; 4] = [
    [Commit::Optimistic, Commit::Optimistic],
    [Commit::Optimistic, Commit::Locked],
    [Commit::Locked, Commit::Optimistic],
    [Commit::Locked, Commit::Locked],
];

/// Sends request `number` to service `number` modulo their count, all at once; how they ended, counted.
async fn send_all(services: &[Arc<Service>], requests: Vec<Request>) -> BTreeMap<&'static str, usize> {
    let callers: Vec<_> = requests
        .into_iter()
        .enumerate()
        .map(|(number, request)| {
            let service = services[number % services.len()].clone();
            tokio::spawn(async move { outcome(&service.execute(request).await) })
        })
        .collect();
    let mut outcomes = BTreeMap::new();
    for caller in callers {
        *outcomes.entry(caller.await.expect("a caller ends")).or_default() += 1;
    }
    outcomes
}

/// Gives each customer its share of the credit, lets all callers race for it, and looks at what is left.
async fn race(database: &Database, customers: usize, settings: &[Settings]) {
    let product = Product::new("acme");
    let mut services = Vec::new();
    for settings in settings {
        services.push(Arc::new(Service::start(&database.open().await, *settings)));
    }
    let names: Vec<String> = (0..customers).map(|number| format!("customer-{number}")).collect();
    let share = format!("{}", COVERED / customers / 4);
    for name in &names {
        all_done(&services[0], [product.create(name), product.grant(name, "credit", &share)]).await;
    }
    let requests = (0..CALLERS).map(|number| product.call(&names[number % customers], &number.to_string()));

    let outcomes = send_all(&services, requests.collect()).await;

    assert_eq!(outcomes, [("done", COVERED), ("insufficient_funds", CALLERS - COVERED)].into(), "{settings:?}");
    assert_eq!(books::assert_balanced(&*database.store).await, COVERED, "{settings:?}");
    for name in &names {
        let row = product.row(&*database.store, name).await;
        let left = row.customer.state.grants.iter().filter(|grant| grant.asset.as_str() == "USD");
        assert_eq!(left.count(), 0, "{name} has spent all");
    }
    for service in services {
        service.stop().await;
    }
}

fn lanes(lanes: usize, commit: Commit) -> Settings {
    Settings { lanes, commit, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_callers_exactly_those_with_credit_are_served() {
    on_both(async |database| {
        for (customers, commit) in [(1, Commit::Optimistic), (1, Commit::Locked), (10, Commit::Optimistic)] {
            let fresh = database.another().await;
            race(&fresh, customers, &[lanes(4, commit)]).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_do_not_spend_the_same_credit() {
    on_both(async |database| {
        for pair in PAIRS {
            race(&database.another().await, 1, &pair.map(|commit| lanes(1, commit))).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_with_several_lanes_do_not_spend_the_same_credit() {
    on_both(async |database| {
        for pair in PAIRS {
            race(&database.another().await, 10, &pair.map(|commit| lanes(3, commit))).await;
        }
    })
    .await;
}

/// Whoever waits for a customer that is being erased finds none afterwards, and not the erased one.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_races_with_an_erasure_is_of_the_customer_or_there_is_none() {
    on_both(async |database| {
        let product = Product::new("acme");
        let settings = [lanes(1, Commit::Optimistic), lanes(1, Commit::Locked), lanes(1, Commit::Locked)];
        let mut services = Vec::new();
        for settings in settings {
            services.push(Arc::new(Service::start(&database.open().await, settings)));
        }
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        for round in 0..25 {
            all_done(&services[0], [product.create("jane"), product.grant("jane", &format!("g{round}"), "10")]).await;
            let mut requests: Vec<_> =
                (0..8).map(|number| product.call("jane", &format!("{round} {number}"))).collect();
            requests.insert(round % 9, product.request("jane", Command::Erase));
            for (outcome, times) in send_all(&services, requests).await {
                *outcomes.entry(outcome).or_default() += times;
            }
        }
        let done = outcomes["done"];
        assert_eq!(outcomes.remove("unknown_customer").unwrap_or_default() + done, 25 * 9, "{outcomes:?}");
        assert_eq!(books::all_customers(&*database.store).await.len(), 25);
        assert_eq!(books::assert_balanced(&*database.store).await, done - 25);
    })
    .await;
}
