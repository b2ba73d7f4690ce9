//! Purchases when things go wrong: the process dies between any two steps, the provider does what it was asked and does not
//! say so, webhooks come twice, late, in the wrong order, or never. In the end there is one payment and one grant.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use engine::report::RefundProgress;
use engine::{Command, Micros, PaymentState, PaymentStep};
use farthing::app::App;
use farthing::clock::Clock;
use farthing::config;
use farthing::inbound::InboundError;
use farthing::jobs::{Jobs, Providers};
use farthing::provider::WebhookError;
use farthing::service::{Request, Settings};
use farthing::store::{EventState, Page};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::databases::{Database, on_both};
use crate::shop::{Shop, TENANT, WEBHOOK_SECRET, purchase, scope, signed};

/// What is left of a future that is polled so often, and then dropped as if the process had died there.
struct Dying<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Dying<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

/// Runs a future for so many polls; nothing where it had not ended by then.
pub(crate) async fn dies_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    Dying { future: Box::pin(future), polls }.await
}

/// Asserts that the sandbox has one payment of our id, and that the customer has got its pack once.
async fn assert_bought_once(shop: &Shop, customer: &str, id: Uuid, note: &str) {
    let payment = shop.payment(customer, id).await;
    assert_eq!(payment.state, PaymentState::Paid, "{note}");
    let intents = shop.sandbox.all("payment_intents").await;
    let ours: Vec<&Value> = intents
        .iter()
        .filter(|intent| {
            intent["metadata"]["farthing_payment"].as_str().is_some_and(|text| text.ends_with(&id.simple().to_string()))
        })
        .collect();
    assert_eq!(ours.len(), 1, "{note}: {ours:?}");
    assert_eq!(payment.reference.as_deref(), ours[0]["id"].as_str(), "{note}");
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let grants =
        shop.app.store.grants(&scope(), owner, Page { after: None, limit: 10 }).await.expect("the store answers");
    assert_eq!(grants.len(), 1, "{note}: {grants:?}");
    assert_eq!(shop.balance(customer, "USD").await.available, Micros::new(20_000_000), "{note}");
}

/// Pays a payment in the browser, however far its making has come.
async fn pay(shop: &Shop, customer: &str, id: Uuid) {
    let payment = shop.payment(customer, id).await;
    let secret = payment.client_secret.expect("the provider has made it");
    let (status, answer) = shop.sandbox.pay(&secret, "pm_card_visa").await;
    assert_eq!((status, &answer["status"]), (200, &Value::from("succeeded")), "{answer}");
}

/// The process dies after so many steps of making the payment, comes back, and dies again after as many steps of hearing
/// that it is paid; for every number of steps until there are no more.
#[tokio::test]
async fn killed_between_any_two_steps_of_a_purchase() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        let (mut polls, mut deaths) = (0, 0);
        loop {
            let customer = format!("customer-{polls}");
            shop.create(&customer).await;
            let id = shop.clock.new_id();
            // The command itself: where it dies before it is durable, whoever asked asks again.
            let request = || Request { operation: Some((id, 1)), ..shop.request(&customer, purchase(id, "starter")) };
            let asked = dies_after(polls, shop.app.service.execute(request())).await;
            let again = request();
            let shop = shop.restarted().await;
            shop.app.service.execute(again).await.expect("it may be bought");

            let made = dies_after(polls, shop.jobs.do_effects()).await;
            let shop = shop.restarted().await;
            shop.clock.advance(130);
            shop.work().await;
            pay(&shop, &customer, id).await;

            let event = shop.sandbox.events().await.pop().expect("it tells of the payment");
            let kept = dies_after(polls, shop.deliver(&event)).await;
            let shop = shop.restarted().await;
            // What was not answered is delivered again.
            shop.deliver(&event).await.expect("it is believed");
            let applied = dies_after(polls, shop.jobs.apply_events()).await;
            let shop = shop.restarted().await;
            shop.clock.advance(130);
            shop.work().await;

            assert_bought_once(&shop, &customer, id, &format!("dead after {polls} steps")).await;
            if asked.is_some() && made.is_some() && kept.is_some() && applied.is_some() {
                break;
            }
            deaths += 1;
            polls += 1;
            assert!(polls < 400, "a step that never ends");
        }
        assert!(deaths > 10, "it died {deaths} times");
    })
    .await;
}

/// The provider does what it was asked, and the answer is lost: with the same key the next attempt hears it.
#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again() {
    for fault in [
        json!({"kind": "timeout_after", "method": "POST", "path": "/v1/payment_intents", "times": 5}),
        json!({"kind": "timeout_after", "method": "POST", "path": "/v1/customers", "times": 5}),
        json!({"kind": "error_before", "method": "POST", "path": "/v1/payment_intents", "times": 4}),
        json!({"kind": "error_before", "method": "POST", "path": "/v1/customers", "times": 4}),
        json!({"kind": "rate_limit", "method": "POST", "path": "/v1/payment_intents", "times": 4}),
        json!({"kind": "lock_timeout", "method": "POST", "path": "/v1/payment_intents", "times": 4}),
    ] {
        let shop = Shop::start(Database::sqlite().await).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        shop.sandbox.fault(fault.clone()).await;
        for _ in 0..4 {
            shop.work().await;
            shop.clock.advance(60);
        }
        shop.sandbox.mend().await;
        pay(&shop, "jane", id).await;
        shop.deliver_all().await;
        shop.work().await;
        assert_bought_once(&shop, "jane", id, &fault.to_string()).await;
        assert_eq!(shop.sandbox.all("customers").await.len(), 1, "{fault}");
    }
}

/// Two servers do what is due at once, and hear of it at once: everything is done by one of them.
#[tokio::test]
async fn two_servers_do_each_thing_once() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        let other = shop.restarted().await;
        let mut bought = Vec::new();
        for number in 0..20 {
            let customer = format!("customer-{number}");
            shop.create(&customer).await;
            bought.push((customer.clone(), shop.buy(&customer, "starter").await));
        }
        tokio::join!(shop.work(), other.work());
        assert_eq!(shop.sandbox.all("customers").await.len(), 20);
        for (customer, id) in &bought {
            pay(&shop, customer, *id).await;
        }
        let events = shop.sandbox.events().await;
        for event in &events {
            let (here, there) = tokio::join!(shop.deliver(event), other.deliver(event));
            assert!(here.is_ok() && there.is_ok());
        }
        tokio::join!(shop.work(), other.work());
        for (customer, id) in &bought {
            assert_bought_once(&shop, customer, *id, customer).await;
        }
        let asked = shop.sandbox.get("/_sandbox/requests").await;
        let asked = asked["data"].as_array().expect("a list");
        let made = |ask: &&Value| ask["method"] == "POST" && ask["path"] == "/v1/payment_intents";
        assert_eq!(asked.iter().filter(made).count(), 20, "nothing was asked for twice");
    })
    .await;
}

/// A server that shares the database and serves other tenants knows neither the rules nor the provider of these: it leaves
/// their work to whoever does.
#[tokio::test]
async fn a_server_of_other_tenants_leaves_the_work_alone() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        let tenant =
            config::parse(&TENANT.replace("acme", "other"), "other.toml", &|_| None).expect("the file is right");
        let (store, clock) = (shop.database.open().await, shop.clock.clone());
        let app =
            App::start(store, vec![tenant], BTreeMap::new(), clock, Settings::default()).await.expect("it starts");
        let other = Jobs::new(app, Providers::new());
        assert_eq!(other.do_effects().await.unwrap(), 0);
        shop.work().await;
        assert_eq!(shop.payment("jane", id).await.state, PaymentState::RequiresPayment, "nobody has put it off");

        pay(&shop, "jane", id).await;
        shop.deliver_all().await;
        assert_eq!(other.apply_events().await.unwrap(), 0);
        shop.work().await;
        assert_bought_once(&shop, "jane", id, "beside another server").await;
    })
    .await;
}

/// The books after a purchase, a decline before it, and a part refund: what they say for each way in which news come.
async fn books(shop: &Shop, id: Uuid) -> String {
    let payment = shop.payment("jane", id).await;
    let row = shop.customer("jane").await;
    let owner = (row.customer.shard_key, row.customer.id);
    let entries = shop
        .app
        .store
        .entries(&scope(), owner, None, Page { after: None, limit: 100 })
        .await
        .expect("the store answers");
    let entries = entries.iter().rev().map(|row| {
        let entry = &row.entry;
        format!("{:?} {:?} -> {:?} {}", entry.kind, entry.debit, entry.credit, entry.amount)
    });
    let refunds: Vec<_> = payment.refunds.iter().map(|refund| (refund.minor, refund.progress)).collect();
    format!("{:?} {:?} {:?}", payment.state, refunds, entries.collect::<Vec<_>>())
}

#[tokio::test]
async fn webhooks_twice_late_in_any_order_or_never_lead_to_the_same_books() {
    on_both(async |database| {
        let mut all = Vec::new();
        for way in ["once", "twice", "reversed", "late", "never", "reconciled"] {
            let shop = Shop::start(database.another().await).await;
            shop.create("jane").await;
            let id = shop.buy("jane", "starter").await;
            shop.work().await;
            let secret = shop.payment("jane", id).await.client_secret.expect("it can be paid");
            assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclined").await.0, 402, "{way}");
            if way == "once" {
                shop.deliver_all().await;
                shop.work().await;
                let failure = shop.payment("jane", id).await.failure.expect("it says why");
                assert_eq!(
                    (&*failure.code, failure.decline_code.as_deref()),
                    ("card_declined", Some("generic_decline"))
                );
            }
            pay(&shop, "jane", id).await;
            match way {
                "once" => shop.deliver_all().await,
                "twice" => {
                    shop.deliver_all().await;
                    shop.work().await;
                    shop.deliver_all().await;
                }
                "reversed" | "late" => {
                    if way == "late" {
                        shop.clock.advance(3 * 3600);
                    }
                    for event in shop.sandbox.events().await.iter().rev() {
                        shop.deliver(event).await.expect("it is believed");
                        shop.work().await;
                    }
                }
                // Nobody tells; the payment is asked for when it is as old again.
                "never" => shop.clock.advance(60),
                _ => assert!(shop.jobs.fetch_events(&"acme".into()).await.expect("the provider answers") > 0),
            }
            shop.work().await;
            assert_eq!(shop.payment("jane", id).await.state, PaymentState::Paid, "{way}");
            let refund = PaymentStep::Refund { id: shop.clock.new_id(), minor: Some(500) };
            shop.execute("jane", Command::StepPayment { payment: id, step: refund }).await.expect("it may be refunded");
            shop.work().await;
            if !["never", "reconciled"].contains(&way) {
                shop.deliver_all().await;
                shop.work().await;
            }
            let refund = &shop.payment("jane", id).await.refunds[0];
            assert_eq!(refund.progress, RefundProgress::Succeeded, "{way}");
            all.push((way, books(&shop, id).await));
        }
        for (way, books) in &all {
            assert_eq!(books, &all[0].1, "{way}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_the_books_changes_nothing() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        shop.work().await;
        let payment = shop.payment("jane", id).await;
        let (reference, secret) = (payment.reference.unwrap(), payment.client_secret.unwrap());

        // Somebody changes the amount at the provider, and pays that.
        let (status, _) = shop.sandbox.post(&format!("/v1/payment_intents/{reference}"), &[("amount", "100")]).await;
        assert_eq!(status, 200);
        assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.1["status"], "succeeded");
        let before = shop.customer("jane").await.customer;
        shop.deliver_all().await;
        shop.work().await;
        assert_eq!(shop.customer("jane").await.customer, before);
        let dead = dead_events(&shop).await;
        assert!(dead.iter().any(|error| error.starts_with("payment_mismatch: ")), "{dead:?}");

        // Somebody makes a payment elsewhere that bears our id.
        let other = shop.buy("jane", "starter").await;
        shop.work().await;
        let id_of_ours = shop.sandbox.all("payment_intents").await[0]["metadata"]["farthing_payment"].clone();
        let forged = shop
            .sandbox
            .post(
                "/v1/payment_intents",
                &[
                    ("amount", "2000"),
                    ("currency", "usd"),
                    ("confirm", "true"),
                    ("payment_method", "pm_card_visa"),
                    ("return_url", "https://shop.example"),
                    ("metadata[farthing_payment]", id_of_ours.as_str().unwrap()),
                ],
            )
            .await;
        assert_eq!(forged.1["status"], "succeeded", "{}", forged.1);
        shop.deliver_all().await;
        shop.work().await;
        assert_eq!(shop.payment("jane", other).await.state, PaymentState::RequiresPayment);
        assert_eq!(shop.balance("jane", "USD").await.available, Micros::ZERO);
    })
    .await;
}

async fn dead_events(shop: &Shop) -> Vec<String> {
    let page = Page { after: None, limit: 100 };
    let dead = shop.app.store.events("acme", Some(EventState::Dead), page).await.expect("the store answers");
    dead.into_iter().map(|event| event.error.unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_webhook_that_is_not_signed_rightly_is_not_kept() {
    let shop = Shop::start(Database::sqlite().await).await;
    shop.create("jane").await;
    shop.buy("jane", "starter").await;
    shop.work().await;
    let event = shop.sandbox.events().await.pop().unwrap().to_string();
    let now = shop.clock.wall().as_second();
    let receive = async |headers, body: &str| match shop.inbound.receive("acme", &headers, body.as_bytes()).await {
        Ok(_) => None,
        Err(InboundError::Webhook(error)) => Some(error),
        Err(error) => panic!("{error}"),
    };
    let missing = Some(WebhookError::SignatureMissing);
    assert_eq!(receive(axum::http::HeaderMap::new(), &event).await, missing);
    let forged = signed(&event, now, "whsec_of_another");
    assert_eq!(receive(forged, &event).await, Some(WebhookError::SignatureInvalid));
    let changed = event.replace("usd", "eur");
    assert_eq!(receive(signed(&event, now, WEBHOOK_SECRET), &changed).await, Some(WebhookError::SignatureInvalid));
    for seconds in [-301, 301] {
        let stale = signed(&event, now + seconds, WEBHOOK_SECRET);
        assert_eq!(receive(stale, &event).await, Some(WebhookError::SignatureStale), "{seconds}");
    }
    let events = shop.app.store.events("acme", None, Page { after: None, limit: 10 }).await.unwrap();
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(receive(signed(&event, now, WEBHOOK_SECRET), &event).await, None);
}

/// An event that cannot be applied for a while is tried again, rarer and rarer, and then laid aside for a person.
#[tokio::test]
async fn an_event_that_cannot_be_applied_is_laid_aside_and_can_be_replayed() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        shop.work().await;
        pay(&shop, "jane", id).await;
        let event = shop.sandbox.events().await.pop().unwrap();
        shop.sandbox.fault(json!({"kind": "error_before", "path": "/v1/payment_intents/*", "times": 1000})).await;
        shop.deliver(&event).await.expect("it is believed");
        for _ in 0..12 {
            assert!(dead_events(&shop).await.is_empty());
            assert_eq!(shop.jobs.apply_events().await.unwrap(), 1);
            shop.clock.advance(3600);
        }
        assert_eq!(shop.jobs.apply_events().await.unwrap(), 0);
        assert_eq!(dead_events(&shop).await.len(), 1);
        assert_eq!(shop.balance("jane", "USD").await.available, Micros::ZERO);

        shop.sandbox.mend().await;
        let name = event["id"].as_str().unwrap();
        assert!(shop.app.store.replay_event("acme", name, shop.clock.now()).await.unwrap());
        shop.work().await;
        assert_bought_once(&shop, "jane", id, "replayed").await;
    })
    .await;
}

/// A payment that nobody pays is asked for more and more rarely, and ended after a day.
#[tokio::test]
async fn a_payment_that_nobody_pays_is_ended() {
    let shop = Shop::start(Database::sqlite().await).await;
    shop.create("jane").await;
    let id = shop.buy("jane", "starter").await;
    let began = shop.clock.now();
    shop.work().await;
    let mut looks = 0;
    while !shop.payment("jane", id).await.state.has_ended() {
        let next = shop.database.texts("SELECT CAST(MIN(due_at) AS TEXT) FROM effects WHERE state = 'due'").await;
        let next = Timestamp::from_microsecond(next[0].parse().unwrap()).unwrap();
        let now = shop.clock.now();
        shop.clock.advance(next.duration_since(now).as_secs().max(0) + 1);
        shop.work().await;
        looks += 1;
        assert!(looks < 60, "it goes on for ever");
    }
    assert_eq!(shop.payment("jane", id).await.state, PaymentState::Canceled);
    assert_eq!(shop.sandbox.all("payment_intents").await[0]["status"], "canceled");
    let age = shop.clock.now().duration_since(began);
    assert!(age >= SignedDuration::from_hours(24) && age < SignedDuration::from_hours(27), "{age}");
}
