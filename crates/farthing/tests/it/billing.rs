//! Subscriptions that renew by themselves and the invoices that come of it, kept on both databases: numbered without gaps,
//! collected from a card in the sandbox, by several servers at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::invoice::{Invoice, InvoiceState};
use engine::period::Interval;
use engine::plan::Plan;
use engine::subscription::{SubscribeRequest, Subscription, SubscriptionState};
use engine::{Asset, Catalog, Command, Money, PayerChange};
use farthing::clock::Clock;
use farthing::store::Page;

use crate::books;
use crate::databases::on_both;
use crate::shop::{Shop, scope};

/// A plan for 20 dollars a month.
fn pro(catalog: &mut Catalog) {
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
        prices: Vec::new(),
        add_ons: Vec::new(),
        provider_price: None,
    };
    catalog.plans.versions.insert(plan.version.clone(), Arc::new(plan));
    catalog.plans.current.insert("pro".into(), "pro-1".into());
}

/// Subscribes a customer who has this card on file.
async fn subscribe(shop: &Shop, customer: &str, card: &str) {
    shop.create(customer).await;
    shop.execute(customer, Command::ChangePayer(PayerChange::Attach { method: card.into(), default: false }))
        .await
        .expect("it may be attached");
    shop.work().await;
    let request = SubscribeRequest {
        id: shop.clock.new_id(),
        plan: "pro".into(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection: None,
        by_invoice: false,
        replaces: None,
    };
    shop.execute(customer, Command::Subscribe(request)).await.expect("it may subscribe");
}

async fn invoices(shop: &Shop, customer: &str) -> Vec<Invoice> {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 100 };
    let found = shop.app.store.invoices(&scope(), owner, page).await.expect("the store answers");
    found.into_iter().rev().map(|row| row.value).collect()
}

async fn subscription(shop: &Shop, customer: &str) -> Subscription {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 1 };
    let found = shop.app.store.subscriptions(&scope(), owner, page).await.expect("the store answers");
    found.into_iter().next().expect("it has subscribed").value
}

fn numbers(invoices: &[Invoice]) -> Vec<u64> {
    invoices.iter().map(|invoice| invoice.number.as_ref().expect("a number").parse().expect("digits")).collect()
}

#[tokio::test]
async fn a_year_of_a_subscription_goes_by_in_one_call() {
    on_both(async |database| {
        let shop = Shop::selling(database, pro).await;
        subscribe(&shop, "jane", "pm_card_visa").await;
        shop.work().await;
        assert_eq!(subscription(&shop, "jane").await.state, SubscriptionState::Active);
        let first = invoices(&shop, "jane").await;
        assert_eq!((first.len(), first[0].total, first[0].standing.state), (1, 2_000, InvoiceState::Paid));

        shop.jobs
            .advance(&"acme".into(), "2027-03-02T09:00:00Z".parse().unwrap(), Vec::new())
            .await
            .expect("time goes by");
        let all = invoices(&shop, "jane").await;
        assert_eq!(numbers(&all), (1..=13).collect::<Vec<_>>());
        assert!(all.iter().all(|invoice| invoice.standing.state == InvoiceState::Paid && invoice.total == 2_000));
        let dates: Vec<String> = all.iter().map(|invoice| invoice.created_at.to_string()).collect();
        assert_eq!((&*dates[1], &*dates[12]), ("2026-04-02T09:00:00Z", "2027-03-02T09:00:00Z"));
        // Everything was collected, each invoice once, at the provider's time too.
        let intents = shop.sandbox.all("payment_intents").await;
        assert_eq!(intents.iter().filter(|intent| intent["status"] == "succeeded").count(), 13);
        let created: BTreeSet<_> = intents.iter().map(|intent| intent["created"].as_i64()).collect();
        assert_eq!(created.len(), 13, "{created:?}");
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn a_card_that_is_declined_is_tried_again_and_then_the_subscription_ends() {
    on_both(async |database| {
        let shop = Shop::selling(database, pro).await;
        subscribe(&shop, "jane", "pm_card_visa").await;
        shop.work().await;
        // From the next month on her bank says no.
        let fault = serde_json::json!({"kind": "decline_next", "times": 100});
        shop.sandbox.fault(fault).await;
        shop.jobs
            .advance(&"acme".into(), "2026-04-03T00:00:00Z".parse().unwrap(), Vec::new())
            .await
            .expect("time goes by");
        assert_eq!(subscription(&shop, "jane").await.state, SubscriptionState::PastDue);
        shop.jobs
            .advance(&"acme".into(), "2026-06-01T00:00:00Z".parse().unwrap(), Vec::new())
            .await
            .expect("time goes by");
        assert_eq!(subscription(&shop, "jane").await.state, SubscriptionState::Canceled);
        let all = invoices(&shop, "jane").await;
        let states: Vec<_> = all.iter().map(|invoice| invoice.standing.state).collect();
        assert_eq!(states[..2], [InvoiceState::Paid, InvoiceState::Uncollectible], "{states:?}");
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// Two servers close the same period at once, and one of them dies on the way: each customer is invoiced once, and no
/// number is missing or given twice.
#[tokio::test]
async fn two_servers_close_a_period_and_each_customer_is_invoiced_once() {
    const CUSTOMERS: usize = 25;
    on_both(async |database| {
        let shop = Shop::selling(database, pro).await;
        let names: Vec<String> = (0..CUSTOMERS).map(|number| format!("customer-{number}")).collect();
        for name in &names {
            subscribe(&shop, name, "pm_card_visa").await;
        }
        shop.work().await;

        shop.clock.advance(31 * 24 * 3600);
        let (one, two) = (shop.restarted().await, shop.restarted().await);
        let dying = one.jobs.clone();
        let half = tokio::spawn(async move { dying.pass_time().await });
        let (_, passed) = tokio::join!(tokio::time::timeout(Duration::from_millis(3), half), two.jobs.pass_time());
        passed.expect("the store answers");
        tokio::join!(one.work(), two.work());

        let mut given = Vec::new();
        for name in &names {
            let all = invoices(&shop, name).await;
            assert_eq!(all.len(), 2, "{name}");
            assert!(all.iter().all(|invoice| invoice.standing.state == InvoiceState::Paid), "{name}: {all:?}");
            given.extend(numbers(&all));
        }
        given.sort_unstable();
        assert_eq!(given, (1..=2 * CUSTOMERS as u64).collect::<Vec<_>>());
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}
