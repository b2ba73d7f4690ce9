//! Subscriptions that the provider renews, end to end, against the sandbox: the first payment in all its ways, a year of
//! renewals, a card that fails, changes, ends; and all of it when news are lost, late, twice and in the wrong order, and
//! when the process dies between any two steps. In the end the provider has one subscription, and the books say the same.

use std::sync::Arc;

use engine::plan::{Allowance, Plan};
use engine::{
    Account, Asset, Catalog, ChangeTime, ChargeRequest, Collection, CollectionRequest, Command, Interval, InvoiceState,
    Micros, Money, Overage, OveragePolicy, PayerChange, Payment, PaymentState, Proration, Purpose, Refusal,
    SubscribeRequest, Subscription, SubscriptionState, SubscriptionStep, TermsChange,
};
use farthing::clock::Clock;
use farthing::jobs::Finding;
use farthing::service::{Request, ServiceError};
use farthing::store::Page;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::books;
use crate::databases::{Database, on_both};
use crate::purchase_faults::dies_after;
use crate::shop::{Shop, scope};

fn hosted(name: &str, cents: i64, minutes: i64) -> Plan {
    Plan {
        name: name.into(),
        version: format!("{name}-1").into(),
        title: name.into(),
        fee: Money { minor: cents, currency: Asset::new("USD") },
        interval: Interval::MONTH,
        trial_days: 0,
        allowances: vec![Allowance {
            name: "included".into(),
            asset: Asset::new("minute"),
            amount: Micros::new(minutes * 1_000_000),
            meters: Vec::new(),
            rollover: true,
            cap: None,
        }],
        features: std::collections::BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: None,
        overage: Some(Overage { policy: OveragePolicy::Owe, limit: None }),
        commitment: None,
        prices: Vec::new(),
        add_ons: Vec::new(),
        provider_price: Some(format!("price_{name}").into()),
    }
}

/// Two plans that the provider renews.
fn plans(catalog: &mut Catalog) {
    for plan in [hosted("pro", 2_000, 100), hosted("team", 5_000, 300)] {
        catalog.plans.current.insert(plan.name.clone(), plan.version.clone());
        catalog.plans.versions.insert(plan.version.clone(), Arc::new(plan));
    }
}

/// A shop whose sandbox lives in its time.
async fn open(database: Database) -> Shop {
    let shop = Shop::selling(database, plans).await;
    set_time_there(&shop).await;
    shop
}

async fn set_time_there(shop: &Shop) {
    let now = shop.clock.now().as_second().to_string();
    assert_eq!(shop.sandbox.post("/_sandbox/clock", &[("now", &now)]).await.0, 200);
}

/// Time passes here and there; nothing is done here.
async fn wait(shop: &Shop, seconds: i64) {
    shop.clock.advance(seconds);
    set_time_there(shop).await;
}

/// Hears everything that the provider has to tell of, and does what is due.
async fn hear(shop: &Shop) {
    shop.deliver_all().await;
    shop.work().await;
}

fn subscribe(id: Uuid, plan: &str) -> Command {
    Command::Subscribe(SubscribeRequest {
        id,
        plan: plan.into(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection: None,
        by_invoice: false,
        replaces: None,
    })
}

/// A customer with this card on file.
async fn with_card(shop: &Shop, customer: &str, card: &str) {
    shop.create(customer).await;
    shop.execute(customer, Command::ChangePayer(PayerChange::Attach { method: card.into(), default: false }))
        .await
        .expect("it may be attached");
    shop.work().await;
}

/// A customer that has subscribed, with a card on file or without.
async fn begin(shop: &Shop, customer: &str, card: Option<&str>) -> Uuid {
    match card {
        Some(card) => with_card(shop, customer, card).await,
        None => shop.create(customer).await,
    }
    let id = shop.clock.new_id();
    shop.execute(customer, subscribe(id, "pro")).await.expect("it may subscribe");
    shop.work().await;
    id
}

async fn step(shop: &Shop, customer: &str, id: Uuid, step: SubscriptionStep) -> Result<(), Refusal> {
    match shop.execute(customer, Command::StepSubscription { subscription: id, step }).await {
        Ok(_) => Ok(()),
        Err(ServiceError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

async fn subscriptions(shop: &Shop, customer: &str) -> Vec<Subscription> {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 10 };
    let found = shop.app.store.subscriptions(&scope(), owner, page).await.expect("the store answers");
    found.into_iter().map(|row| row.value).collect()
}

async fn subscription(shop: &Shop, customer: &str) -> Subscription {
    subscriptions(shop, customer).await.into_iter().next().expect("it has subscribed")
}

async fn state(shop: &Shop, customer: &str) -> SubscriptionState {
    subscription(shop, customer).await.state
}

/// The fees that the provider has collected, or is to, oldest first.
async fn fees(shop: &Shop, customer: &str) -> Vec<Payment> {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 100 };
    let found = shop.app.store.payments(&scope(), owner, page).await.expect("the store answers");
    let payments = found.into_iter().rev().map(|row| row.payment);
    payments.filter(|payment| matches!(payment.purpose, Purpose::Subscription(_))).collect()
}

/// What the books say came in, in cents.
async fn cash(shop: &Shop, customer: &str) -> i64 {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 1_000 };
    let entries = shop.app.store.entries(&scope(), owner, None, page).await.expect("the store answers");
    let into = |entry: &engine::Entry| match (entry.debit, entry.credit) {
        (Account::Cash, _) => entry.amount.get(),
        (_, Account::Cash) => -entry.amount.get(),
        _ => 0,
    };
    entries.iter().map(|row| into(&row.entry)).sum::<i64>() / 10_000
}

async fn assert_one(shop: &Shop, customer: &str, id: Uuid, note: &str) {
    let here = subscriptions(shop, customer).await;
    assert_eq!(here.len(), 1, "{note}: {here:?}");
    assert_eq!((here[0].id, here[0].state), (id, SubscriptionState::Active), "{note}");
    let ends_with = |one: &&Value| {
        one["metadata"]["farthing_subscription"].as_str().is_some_and(|text| text.ends_with(&id.simple().to_string()))
    };
    let all = shop.sandbox.get("/v1/subscriptions?status=all&limit=100").await;
    let all = all["data"].as_array().expect("a list").clone();
    let ours: Vec<&Value> = all.iter().filter(ends_with).collect();
    assert_eq!(ours.len(), 1, "{note}: {ours:?}");
    assert_eq!(here[0].reference.as_deref(), ours[0]["id"].as_str(), "{note}");
    let paid: Vec<Payment> = fees(shop, customer).await;
    assert_eq!(paid.len(), 1, "{note}: {paid:?}");
    assert_eq!((paid[0].state, paid[0].amount.minor), (PaymentState::Paid, 2_000), "{note}");
    assert_eq!(cash(shop, customer).await, 2_000, "{note}");
    assert_eq!(shop.balance(customer, "minute").await.available, Micros::new(100_000_000), "{note}");
}

/// The payment of the newest invoice, as the customer's browser needs it.
async fn first_payment(shop: &Shop, customer: &str) -> Payment {
    let id = subscription(shop, customer).await.latest_payment.expect("the provider has made an invoice");
    shop.payment(customer, id).await
}

#[tokio::test]
async fn a_card_on_file_pays_at_once() {
    on_both(async |database| {
        let shop = open(database).await;
        let id = begin(&shop, "jane", Some("pm_card_visa")).await;
        // Nobody had to tell: the answer said it.
        assert_one(&shop, "jane", id, "answered").await;
        hear(&shop).await;
        assert_one(&shop, "jane", id, "told").await;
        let payment = first_payment(&shop, "jane").await;
        assert_eq!((payment.client_secret, payment.state), (None, PaymentState::Paid));
        let again = shop.execute("jane", subscribe(shop.clock.new_id(), "team")).await;
        assert!(matches!(again, Err(ServiceError::Refused(Refusal::AlreadySubscribed))), "{again:?}");

        // The price was made there from the plan, under its name.
        let price = shop.sandbox.get("/v1/prices/price_pro").await;
        assert_eq!((&price["lookup_key"], &price["unit_amount"]), (&json!("pro"), &json!(2_000)), "{price}");
        books::assert_balanced(&*shop.app.store).await;

        // What was paid can be given back.
        let refund = engine::PaymentStep::Refund { id: shop.clock.new_id(), minor: Some(500) };
        let command = Command::StepPayment { payment: payment.id, step: refund };
        shop.execute("jane", command).await.expect("it may be refunded");
        shop.work().await;
        assert_eq!(cash(&shop, "jane").await, 1_500);
        assert_eq!(shop.sandbox.all("refunds").await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_customer_pays_in_its_browser_after_a_decline_and_with_3_d_secure() {
    on_both(async |database| {
        let shop = open(database).await;
        let id = begin(&shop, "jane", None).await;
        assert_eq!(state(&shop, "jane").await, SubscriptionState::Incomplete);
        let payment = first_payment(&shop, "jane").await;
        assert_eq!(payment.state, PaymentState::RequiresPayment);
        let secret = payment.client_secret.expect("the browser can pay");

        assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclinedInsufficientFunds").await.0, 402);
        hear(&shop).await;
        let failure = first_payment(&shop, "jane").await.failure.expect("it says why");
        assert_eq!(failure.decline_code.as_deref(), Some("insufficient_funds"));
        assert_eq!(state(&shop, "jane").await, SubscriptionState::Incomplete);

        let (_, asked) = shop.sandbox.pay(&secret, "pm_card_threeDSecure2Required").await;
        assert_eq!(asked["status"], "requires_action", "{asked}");
        hear(&shop).await;
        assert_eq!(first_payment(&shop, "jane").await.state, PaymentState::RequiresAction);
        assert_eq!(shop.balance("jane", "minute").await.available, Micros::ZERO);

        shop.sandbox.answer_bank(&asked, "authorise").await;
        hear(&shop).await;
        assert_one(&shop, "jane", id, "paid in the end").await;
        assert!(fees(&shop, "jane").await.iter().all(|fee| fee.client_secret.is_none()));
    })
    .await;
}

#[tokio::test]
async fn a_card_on_file_that_is_declined_or_asks_is_finished_in_the_browser() {
    for card in ["pm_card_chargeCustomerFail", "pm_card_authenticationRequired"] {
        let shop = open(Database::sqlite().await).await;
        let id = begin(&shop, "jane", Some(card)).await;
        assert_eq!(state(&shop, "jane").await, SubscriptionState::Incomplete, "{card}");
        let payment = first_payment(&shop, "jane").await;
        assert!(payment.failure.is_some() || payment.state == PaymentState::RequiresAction, "{card}: {payment:?}");
        let secret = payment.client_secret.expect("the browser can pay");
        assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.1["status"], "succeeded", "{card}");
        hear(&shop).await;
        assert_one(&shop, "jane", id, card).await;
    }
}

/// Nobody pays, nobody tells: after 23 hours it has expired there, and is found to have.
#[tokio::test]
async fn a_first_invoice_that_nobody_pays_expires() {
    on_both(async |database| {
        let shop = open(database).await;
        begin(&shop, "jane", None).await;
        for _ in 0..30 {
            wait(&shop, 3600).await;
            shop.work().await;
        }
        assert_eq!(state(&shop, "jane").await, SubscriptionState::IncompleteExpired);
        assert!(shop.customer("jane").await.customer.state.subscriptions.is_empty());
        let id = shop.clock.new_id();
        shop.execute("jane", subscribe(id, "pro")).await.expect("another one may begin");
    })
    .await;
}

#[tokio::test]
async fn a_price_that_the_provider_does_not_have_is_a_failure_that_shows() {
    let shop = open(Database::sqlite().await).await;
    with_card(&shop, "jane", "pm_card_visa").await;
    shop.jobs.offer_prices(&"acme".into()).await.expect("the prices are made");
    shop.sandbox.post("/v1/prices/price_pro", &[("active", "false")]).await;
    shop.execute("jane", subscribe(shop.clock.new_id(), "pro")).await.expect("it may be asked for");
    shop.work().await;
    let refused = subscription(&shop, "jane").await;
    assert_eq!(refused.state, SubscriptionState::IncompleteExpired);
    assert!(refused.failure.is_some(), "{refused:?}");
}

/// A year goes by in one call: the provider renews at its time and collects, and what is used beyond is invoiced here.
#[tokio::test]
async fn a_year_of_renewals() {
    on_both(async |database| {
        let shop = open(database).await;
        begin(&shop, "jane", Some("pm_card_visa")).await;
        let tenant: Arc<str> = "acme".into();
        let until = |text: &str| text.parse::<Timestamp>().expect("a time");
        // 100 minutes are included; the 20 beyond cost 25 cents each.
        let used = ChargeRequest {
            id: shop.clock.new_id(),
            operation_key: None,
            fingerprint: 0,
            meter: "minutes".into(),
            quantity: Micros::new(120_000_000),
            own_amount: None,
            subject: None,
            dimensions: std::collections::BTreeMap::new(),
            occurred_at: until("2026-03-20T00:00:00Z"),
            metadata: None,
        };
        let request =
            Request { now: until("2026-03-20T00:00:00Z"), ..shop.request("jane", Command::Record(vec![used])) };
        shop.jobs.advance(&tenant, until("2026-04-02T12:00:00Z"), vec![request]).await.expect("time goes by");
        let renewed = subscription(&shop, "jane").await;
        assert_eq!(renewed.period.start, until("2026-04-02T09:00:00Z"));
        shop.jobs.advance(&tenant, until("2027-03-02T12:00:00Z"), Vec::new()).await.expect("time goes by");

        let renewed = subscription(&shop, "jane").await;
        assert_eq!((renewed.state, renewed.period.start), (SubscriptionState::Active, until("2027-03-02T09:00:00Z")));
        let paid = fees(&shop, "jane").await;
        assert_eq!(paid.len(), 13);
        assert!(paid.iter().all(|fee| fee.state == PaymentState::Paid && fee.amount.minor == 2_000), "{paid:?}");
        let row = shop.customer("jane").await;
        let owner = (row.customer.shard_key, row.customer.id);
        let page = Page { after: None, limit: 100 };
        let invoices = shop.app.store.invoices(&scope(), owner, page).await.expect("the store answers");
        let invoices: Vec<_> = invoices.into_iter().map(|row| row.value).collect();
        assert_eq!(invoices.len(), 1, "{invoices:?}");
        assert_eq!((invoices[0].total, invoices[0].standing.state), (500, InvoiceState::Paid));
        assert_eq!(cash(&shop, "jane").await, 13 * 2_000 + 500);
        // What is left goes over, from month to month: of twelve months all, of the first nothing.
        let left = wallet(&shop, "jane", until("2027-03-02T12:00:00Z")).await;
        assert_eq!(left, 12 * 100_000_000);
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// How many micro-minutes a customer has at a time.
async fn wallet(shop: &Shop, customer: &str, at: Timestamp) -> i64 {
    let row = shop.customer(customer).await;
    let balances = engine::wallet::balances(&shop.app.tenants["acme"].catalog, &row.customer, at).expect("it fits");
    balances.get(&Asset::new("minute")).map_or(0, |balance| balance.available.get())
}

#[tokio::test]
async fn a_renewal_that_fails_is_past_due_and_paid_by_a_retry_or_the_end() {
    on_both(async |database| {
        for recovers in [true, false] {
            let shop = open(database.another().await).await;
            begin(&shop, "jane", Some("pm_card_visa")).await;
            let tenant: Arc<str> = "acme".into();
            shop.sandbox.fault(json!({"kind": "decline_next", "times": 100})).await;
            shop.jobs
                .advance(&tenant, "2026-04-02T12:00:00Z".parse().unwrap(), Vec::new())
                .await
                .expect("time goes by");
            assert_eq!(state(&shop, "jane").await, SubscriptionState::PastDue);
            let fee = first_payment(&shop, "jane").await;
            assert_eq!((fee.state, fee.failure.is_some()), (PaymentState::RequiresPayment, true), "{fee:?}");
            if recovers {
                shop.sandbox.mend().await;
            }
            shop.jobs
                .advance(&tenant, "2026-05-01T12:00:00Z".parse().unwrap(), Vec::new())
                .await
                .expect("time goes by");
            let (expected, sum) =
                if recovers { (SubscriptionState::Active, 4_000) } else { (SubscriptionState::Canceled, 2_000) };
            assert_eq!((state(&shop, "jane").await, cash(&shop, "jane").await), (expected, sum));
            books::assert_balanced(&*shop.app.store).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_plan_is_moved_up_and_down_with_the_difference() {
    on_both(async |database| {
        let shop = open(database).await;
        let id = begin(&shop, "jane", Some("pm_card_visa")).await;
        let moved = |plan: &str, proration| {
            let change = TermsChange { plan: Some(plan.into()), ..TermsChange::default() };
            SubscriptionStep::Change(change, ChangeTime::Now(proration))
        };
        wait(&shop, 10 * 24 * 3600).await;
        // While the clock stands, a look that was due by now and the change would be of one time, and either could count.
        shop.work().await;
        step(&shop, "jane", id, moved("team", Proration::Now)).await.expect("it may be moved");
        let asked = subscription(&shop, "jane").await;
        assert_eq!((&*asked.terms.plan, asked.pending.is_some()), ("pro", true), "only asked for");
        let other = step(&shop, "jane", id, SubscriptionStep::CancelAtPeriodEnd).await;
        assert_eq!(other, Err(Refusal::ChangePending));
        shop.work().await;
        let after = subscription(&shop, "jane").await;
        assert_eq!((&*after.terms.plan, after.pending), ("team", None));
        assert_eq!(shop.balance("jane", "minute").await.available, Micros::new(300_000_000));
        let paid = fees(&shop, "jane").await;
        assert_eq!(paid.len(), 2, "{paid:?}");
        // 21 of 31 days of 30 dollars more.
        assert_eq!((paid[1].amount.minor, paid[1].state), (2_032, PaymentState::Paid));

        step(&shop, "jane", id, moved("pro", Proration::NextInvoice)).await.expect("it may be moved");
        shop.work().await;
        hear(&shop).await;
        assert_eq!(&*subscription(&shop, "jane").await.terms.plan, "pro");
        assert_eq!(fees(&shop, "jane").await.len(), 2, "the credit waits for the next invoice");
        let there = shop.sandbox.all("subscriptions").await;
        assert_eq!(there[0]["items"]["data"][0]["price"]["id"], "price_pro");
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn it_ends_with_its_period_or_not_or_now() {
    on_both(async |database| {
        let shop = open(database).await;
        let id = begin(&shop, "jane", Some("pm_card_visa")).await;
        step(&shop, "jane", id, SubscriptionStep::CancelAtPeriodEnd).await.expect("it may end");
        shop.work().await;
        assert!(subscription(&shop, "jane").await.cancel_at_period_end);
        step(&shop, "jane", id, SubscriptionStep::Keep).await.expect("it may go on");
        shop.work().await;
        assert!(!subscription(&shop, "jane").await.cancel_at_period_end);
        assert_eq!(shop.sandbox.all("subscriptions").await[0]["cancel_at_period_end"], false);

        let other = begin(&shop, "joe", Some("pm_card_visa")).await;
        step(&shop, "joe", other, SubscriptionStep::Cancel { prorate: false }).await.expect("it may end");
        shop.work().await;
        assert_eq!(state(&shop, "joe").await, SubscriptionState::Canceled);
        assert_eq!(shop.balance("joe", "minute").await.available, Micros::ZERO);

        step(&shop, "jane", id, SubscriptionStep::CancelAtPeriodEnd).await.expect("it may end");
        shop.work().await;
        wait(&shop, 32 * 24 * 3600).await;
        shop.work().await;
        assert_eq!(state(&shop, "jane").await, SubscriptionState::Canceled, "asked for, though nobody told");
        assert_eq!(fees(&shop, "jane").await.len(), 1);
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// Ended before the provider has answered, and by a customer that is closed meanwhile: nothing goes on there.
#[tokio::test]
async fn what_is_ended_while_it_is_made_does_not_go_on_there() {
    for closed in [false, true] {
        let shop = open(Database::sqlite().await).await;
        with_card(&shop, "jane", "pm_card_visa").await;
        let id = shop.clock.new_id();
        shop.execute("jane", subscribe(id, "pro")).await.expect("it may subscribe");
        shop.sandbox
            .fault(json!({"kind": "timeout_after", "method": "POST", "path": "/v1/subscriptions", "times": 5}))
            .await;
        shop.work().await;
        if closed {
            let change =
                engine::CustomerChange { status: Some(engine::Status::Closed), ..engine::CustomerChange::default() };
            shop.execute("jane", Command::Upsert(change)).await.expect("it may be closed");
        } else {
            step(&shop, "jane", id, SubscriptionStep::Cancel { prorate: false }).await.expect("it may end");
        }
        shop.sandbox.mend().await;
        for _ in 0..4 {
            shop.clock.advance(130);
            shop.work().await;
        }
        let all = shop.sandbox.get("/v1/subscriptions?status=all").await;
        let states: Vec<&Value> = all["data"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
        assert_eq!(states, [&json!("canceled")], "closed: {closed}");
        assert!(subscription(&shop, "jane").await.state.has_ended());
    }
}

/// The provider does what it was asked, and the answer is lost, for minutes or for more than a day.
#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again() {
    for (fault, pause) in [
        (json!({"kind": "timeout_after", "method": "POST", "path": "/v1/subscriptions", "times": 5}), 60),
        (json!({"kind": "timeout_after", "method": "POST", "path": "/v1/subscriptions", "times": 5}), 25 * 3600),
        (json!({"kind": "error_before", "method": "POST", "path": "/v1/subscriptions", "times": 4}), 60),
        (json!({"kind": "rate_limit", "method": "POST", "path": "/v1/subscriptions", "times": 4}), 60),
    ] {
        let shop = open(Database::sqlite().await).await;
        with_card(&shop, "jane", "pm_card_visa").await;
        let id = shop.clock.new_id();
        shop.execute("jane", subscribe(id, "pro")).await.expect("it may subscribe");
        shop.sandbox.fault(fault.clone()).await;
        shop.work().await;
        shop.sandbox.mend().await;
        shop.clock.advance(pause);
        shop.work().await;
        shop.clock.advance(3600);
        shop.work().await;
        assert_one(&shop, "jane", id, &fault.to_string()).await;
    }
}

/// The books after a first payment with a decline before it, a move, and an end: the same, however news come.
async fn told(shop: &Shop) -> String {
    let known = subscription(shop, "jane").await;
    let mut fees: Vec<_> = fees(shop, "jane").await.iter().map(|fee| (fee.amount.minor, fee.state.as_str())).collect();
    fees.sort_unstable();
    format!(
        "{:?} {:?} {} {fees:?} {}",
        known.state,
        known.terms.plan,
        known.cancel_at_period_end,
        cash(shop, "jane").await
    )
}

#[tokio::test]
async fn news_that_come_twice_late_in_any_order_or_never_lead_to_the_same_books() {
    on_both(async |database| {
        let mut all = Vec::new();
        for way in ["once", "twice", "reversed", "late", "asked", "fetched"] {
            let shop = open(database.another().await).await;
            begin(&shop, "jane", None).await;
            let secret = first_payment(&shop, "jane").await.client_secret.expect("it can be paid");
            assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclined").await.0, 402);
            assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.0, 200);
            // Somebody changes it there, too.
            let there = shop.sandbox.all("subscriptions").await[0].clone();
            let (item, path) = (&there["items"]["data"][0]["id"], there["id"].as_str().unwrap());
            let form = [
                ("items[0][id]", item.as_str().unwrap()),
                ("items[0][price]", "price_team"),
                ("cancel_at_period_end", "true"),
                ("proration_behavior", "always_invoice"),
            ];
            let (status, answer) = shop.sandbox.post(&format!("/v1/subscriptions/{path}"), &form).await;
            assert_eq!(status, 200, "{answer}");
            match way {
                "once" | "twice" => {
                    for _ in 0..if way == "once" { 1 } else { 2 } {
                        hear(&shop).await;
                    }
                }
                "reversed" | "late" => {
                    if way == "late" {
                        shop.clock.advance(600);
                    }
                    for event in shop.sandbox.events().await.iter().rev() {
                        shop.deliver(event).await.expect("it is believed");
                        shop.work().await;
                    }
                }
                "asked" => {
                    shop.clock.advance(60);
                    shop.work().await;
                }
                _ => assert!(shop.jobs.fetch_events(&"acme".into()).await.expect("the provider answers") > 0),
            }
            shop.work().await;
            all.push((way, told(&shop).await));
            books::assert_balanced(&*shop.app.store).await;
        }
        for (way, told) in all.iter().filter(|(way, _)| *way != "asked") {
            assert_eq!(told, &all[0].1, "{way}");
        }
        // Who only asks sees the newest invoice; the first is found by its event, or by a comparison.
        assert!(all.iter().any(|(way, told)| *way == "asked" && told.starts_with("Active \"team\" true")), "{all:?}");
    })
    .await;
}

/// The process dies after so many steps of asking for it, of making it, and of hearing of it, and comes back; for every
/// number of steps until there are no more.
#[tokio::test]
async fn killed_between_any_two_steps() {
    on_both(async |database| {
        let shop = open(database).await;
        let (mut polls, mut deaths) = (0, 0);
        loop {
            let customer = format!("customer-{polls}");
            shop.create(&customer).await;
            let id = shop.clock.new_id();
            let request = || Request { operation: Some((id, 1)), ..shop.request(&customer, subscribe(id, "pro")) };
            let asked = dies_after(polls, shop.app.service.execute(request())).await;
            let again = request();
            let shop = shop.restarted().await;
            shop.app.service.execute(again).await.expect("it may subscribe");

            let made = dies_after(polls, shop.jobs.do_effects()).await;
            let shop = shop.restarted().await;
            shop.clock.advance(130);
            shop.work().await;
            let secret = first_payment(&shop, &customer).await.client_secret.expect("it can be paid");
            assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.0, 200);

            let events = shop.sandbox.events().await;
            for event in events.iter().rev().take(8).rev() {
                shop.deliver(event).await.expect("it is believed");
            }
            let applied = dies_after(polls, shop.jobs.apply_events()).await;
            let shop = shop.restarted().await;
            shop.clock.advance(130);
            shop.work().await;

            assert_one(&shop, &customer, id, &format!("dead after {polls} steps")).await;
            if asked.is_some() && made.is_some() && applied.is_some() {
                break;
            }
            deaths += 1;
            // Every step at first; then, since the steps repeat, some of them.
            polls += 1 + polls / 8;
            assert!(polls < 1_000, "a step that never ends");
        }
        assert!(deaths > 10, "it died {deaths} times");
    })
    .await;
}

#[tokio::test]
async fn two_that_subscribe_at_once_get_one() {
    on_both(async |database| {
        let shop = open(database).await;
        let other = shop.restarted().await;
        for number in 0..10 {
            let customer = format!("customer-{number}");
            with_card(&shop, &customer, "pm_card_visa").await;
            let (here, there) = tokio::join!(
                shop.execute(&customer, subscribe(shop.clock.new_id(), "pro")),
                other.execute(&customer, subscribe(shop.clock.new_id(), "team"))
            );
            assert!(here.is_ok() != there.is_ok(), "{customer}: {here:?} {there:?}");
        }
        tokio::join!(shop.work(), other.work());
        tokio::join!(hear(&shop), hear(&other));
        assert_eq!(shop.sandbox.all("subscriptions").await.len(), 10);
        for number in 0..10 {
            let customer = format!("customer-{number}");
            assert_eq!(fees(&shop, &customer).await.len(), 1, "{customer}");
            assert_eq!(state(&shop, &customer).await, SubscriptionState::Active, "{customer}");
        }
        let asked = shop.sandbox.get("/_sandbox/requests").await;
        let made = |ask: &&Value| ask["method"] == "POST" && ask["path"] == "/v1/subscriptions";
        assert_eq!(asked["data"].as_array().expect("a list").iter().filter(made).count(), 10);
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// Somebody subscribes a customer in the provider's dashboard: it is taken over, and so is what was paid. Of what is not sold
/// here, and of who is no customer here, nothing is.
#[tokio::test]
async fn what_is_made_at_the_provider_is_taken_over() {
    on_both(async |database| {
        let shop = open(database).await;
        with_card(&shop, "jane", "pm_card_visa").await;
        shop.jobs.offer_prices(&"acme".into()).await.expect("the prices are made");
        let payer = shop.customer("jane").await.customer.state.payer.reference.expect("she is known there");
        let (_, stranger) = shop.sandbox.post("/v1/customers", &[("payment_method", "pm_card_visa")]).await;
        let stranger = stranger["id"].as_str().unwrap().to_owned();
        let price = [
            ("currency", "usd"),
            ("unit_amount", "700"),
            ("recurring[interval]", "month"),
            ("product_data[name]", "x"),
        ];
        let (_, foreign) = shop.sandbox.post("/v1/prices", &price).await;
        for (customer, price) in
            [(&*payer, "price_team"), (&*payer, foreign["id"].as_str().unwrap()), (&*stranger, "price_pro")]
        {
            let methods = shop.sandbox.get(&format!("/v1/customers/{customer}/payment_methods")).await;
            let method = methods["data"][0]["id"].as_str().unwrap().to_owned();
            let form = [("customer", customer), ("items[0][price]", price), ("default_payment_method", &method)];
            let (status, answer) = shop.sandbox.post("/v1/subscriptions", &form).await;
            assert_eq!((status, &answer["status"]), (200, &json!("active")), "{answer}");
        }
        hear(&shop).await;
        let taken = subscriptions(&shop, "jane").await;
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!((&*taken[0].terms.plan, taken[0].state), ("team", SubscriptionState::Active));
        assert_eq!(cash(&shop, "jane").await, 5_000);
        assert_eq!(shop.balance("jane", "minute").await.available, Micros::new(300_000_000));
        let events =
            shop.app.store.events("acme", Some(farthing::store::EventState::Dead), Page { after: None, limit: 10 });
        assert!(events.await.expect("the store answers").is_empty());
    })
    .await;
}

/// Everything that was told got lost, for longer than anybody asks: a comparison finds it, and repairs it.
#[tokio::test]
async fn a_comparison_finds_what_was_lost() {
    on_both(async |database| {
        let shop = open(database).await;
        begin(&shop, "jane", Some("pm_card_visa")).await;
        wait(&shop, 65 * 24 * 3600).await;
        let since: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let (tenant, before) = (Arc::<str>::from("acme"), cash(&shop, "jane").await);
        assert_eq!(before, 2_000);
        for repair in [false, true] {
            let found = shop.jobs.reconcile(&tenant, since, repair).await.expect("the provider answers");
            let findings: Vec<_> = found.differences.iter().map(|found| (found.finding, found.repaired)).collect();
            assert_eq!(findings.iter().filter(|(finding, _)| *finding == Finding::Fee).count(), 2, "{findings:?}");
            assert!(
                findings.iter().any(|(finding, _)| matches!(finding, Finding::Subscription { .. })),
                "{findings:?}"
            );
            assert!(findings.iter().all(|(_, repaired)| *repaired == repair), "{findings:?}");
        }
        assert_eq!((fees(&shop, "jane").await.len(), cash(&shop, "jane").await), (3, 6_000));
        let found = shop.jobs.reconcile(&tenant, since, false).await.expect("the provider answers");
        assert_eq!(found.differences, []);
        shop.work().await;
        hear(&shop).await;
        assert_eq!(cash(&shop, "jane").await, 6_000);
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// A tenant's plan costs something else from the next start on: its price in the sandbox does too.
#[tokio::test]
async fn prices_follow_the_tenant_file_in_the_sandbox() {
    let shop = open(Database::sqlite().await).await;
    let tenant: Arc<str> = "acme".into();
    for _ in 0..2 {
        shop.jobs.offer_prices(&tenant).await.expect("the prices are made");
        shop.restarted().await.jobs.offer_prices(&tenant).await.expect("the prices are made");
    }
    assert_eq!((shop.sandbox.all("prices").await.len(), shop.sandbox.all("products").await.len()), (2, 2));
    shop.sandbox
        .post(
            "/_sandbox/prices",
            &[
                ("id", "price_pro"),
                ("product_data[name]", "Pro%20now"),
                ("currency", "usd"),
                ("unit_amount", "2500"),
                ("recurring[interval]", "month"),
                ("lookup_key", "pro"),
            ],
        )
        .await;
    assert_eq!(shop.sandbox.get("/v1/prices/price_pro").await["unit_amount"], 2_500);
    shop.restarted().await.jobs.offer_prices(&tenant).await.expect("the prices are made");
    let price = shop.sandbox.get("/v1/prices/price_pro").await;
    assert_eq!((&price["unit_amount"], &price["lookup_key"]), (&json!(2_000), &json!("pro")));
}

#[tokio::test]
async fn a_collection_that_the_provider_cannot_do_is_refused_before_it_is_asked() {
    let shop = open(Database::sqlite().await).await;
    shop.create("jane").await;
    let page =
        Collection::Page { success_url: "https://shop.example".into(), cancel_url: "https://shop.example".into() };
    let Command::Subscribe(request) = subscribe(shop.clock.new_id(), "pro") else { panic!("it subscribes") };
    let request = SubscribeRequest { collection: Some(CollectionRequest::By(page)), ..request };
    let refused = shop.execute("jane", Command::Subscribe(request)).await;
    assert!(matches!(refused, Err(ServiceError::Refused(Refusal::ProviderSubscription { .. }))), "{refused:?}");
    assert!(shop.sandbox.all("subscriptions").await.is_empty());
}
