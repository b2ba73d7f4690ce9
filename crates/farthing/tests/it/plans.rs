//! Plans of the tenant file, and their versions: who has subscribed stays on the version it has when the file changes and
//! the server is started again; and the prices of two products.

use engine::invoice::Invoice;
use engine::subscription::SubscribeRequest;
use engine::{
    ChangeTime, ChargeRequest, Command, Micros, PayerChange, Proration, SubscriptionStep, TermsChange, entitlements,
};
use farthing::clock::Clock;
use farthing::service::ServiceError;
use farthing::store::Page;
use jiff::Timestamp;
use uuid::Uuid;

use crate::books;
use crate::databases::on_both;
use crate::shop::{Shop, scope};

/// A product with one plan.
fn product(plan: &str) -> String {
    let start =
        "[tenant]\nname = \"acme\"\ncurrency = \"USD\"\n[overage]\npolicy = \"owe\"\n[[meters]]\nname = \"tokens\"\n";
    format!("{start}[[prices]]\nmeter = \"tokens\"\nmodel = \"per_unit\"\namount = \"9\"\n{plan}")
}

fn pro(fee: &str, included: &str, price: &str) -> String {
    product(&format!(
        r#"
[[plans]]
name = "pro"
price = "{fee}"
features = {{ seats = {included} }}

[[plans.allowances]]
name = "included"
unit = "tokens"
amount = "{included}"

[[plans.prices]]
meter = "tokens"
model = "per_unit"
amount = "{price}"
"#
    ))
}

/// Subscribes a customer who has a card on file; its subscription.
async fn subscribe(shop: &Shop, customer: &str, plan: &str) -> Result<Uuid, ServiceError> {
    shop.create(customer).await;
    let card = Command::ChangePayer(PayerChange::Attach { method: "pm_card_visa".into(), default: false });
    shop.execute(customer, card).await.expect("it may be attached");
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
    shop.execute(customer, Command::Subscribe(request)).await?;
    shop.work().await;
    Ok(id)
}

/// Charges a use; what it came to.
async fn charge(shop: &Shop, customer: &str, meter: &str, quantity: &str) -> String {
    let request = ChargeRequest {
        id: shop.clock.new_id(),
        operation_key: None,
        fingerprint: 0,
        subject: None,
        meter: meter.into(),
        quantity: quantity.parse().expect("a quantity"),
        dimensions: [].into(),
        own_amount: None,
        occurred_at: shop.clock.now(),
        metadata: None,
    };
    let answer = shop.execute(customer, Command::Charge(vec![request])).await.expect("it is charged");
    answer.charge().expect("one charge").amount.to_string()
}

/// Lets time go by, and whatever is due on the way be done.
async fn wait_until(shop: &Shop, time: &str) {
    let time: Timestamp = time.parse().expect("a time");
    shop.clock.advance(time.as_second() - shop.clock.now().as_second());
    shop.work().await;
}

async fn newest_invoice(shop: &Shop, customer: &str) -> Invoice {
    let row = shop.customer(customer).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let page = Page { after: None, limit: 1 };
    let found = shop.app.store.invoices(&scope(), owner, page).await.expect("the store answers");
    found.into_iter().next().expect("there is one").value
}

/// An invoice as its lines: title, quantity and minor units.
fn lines(invoice: &Invoice) -> Vec<String> {
    invoice.lines.iter().map(|line| format!("{} {} {}", line.title, line.quantity, line.minor)).collect()
}

#[tokio::test]
async fn a_subscription_stays_on_its_version_when_the_file_changes() {
    on_both(async |database| {
        let shop = Shop::with(database, &pro("20", "10", "0.5")).await;
        let janes = subscribe(&shop, "jane", "pro").await.expect("it may subscribe");
        assert_eq!(charge(&shop, "jane", "tokens", "12").await, "1");

        // Fee, allowance and price change, and the server is started again.
        let shop = shop.restarted_with(&pro("25", "5", "0.75")).await;
        subscribe(&shop, "john", "pro").await.expect("it may subscribe");
        assert_eq!(charge(&shop, "jane", "tokens", "2").await, "1");
        assert_eq!(charge(&shop, "john", "tokens", "7").await, "1.5");
        wait_until(&shop, "2026-04-02T10:00:00Z").await;
        assert_eq!(lines(&newest_invoice(&shop, "jane").await), ["tokens 4 200", "pro 1 2000"]);
        assert_eq!(lines(&newest_invoice(&shop, "john").await), ["tokens 2 150", "pro 1 2500"]);
        assert_eq!(shop.balance("jane", "tokens").await.available, Micros::new(10_000_000));
        assert_eq!(shop.balance("john", "tokens").await.available, Micros::new(5_000_000));

        // Moved to the plan that she has, she gets what is sold now.
        let change = TermsChange { plan: Some("pro".into()), ..TermsChange::default() };
        let step = SubscriptionStep::Change(change, ChangeTime::Now(Proration::None));
        shop.execute("jane", Command::StepSubscription { subscription: janes, step }).await.expect("she may be moved");
        assert_eq!(shop.balance("jane", "tokens").await.available, Micros::new(5_000_000));
        assert_eq!(charge(&shop, "jane", "tokens", "7").await, "1.5");
        wait_until(&shop, "2026-05-02T10:00:00Z").await;
        assert_eq!(lines(&newest_invoice(&shop, "jane").await), ["tokens 2 150", "pro 1 2500"]);
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

#[tokio::test]
async fn a_plan_that_is_gone_serves_those_who_have_it_and_nobody_else() {
    on_both(async |database| {
        let shop = Shop::with(database, &pro("20", "10", "0.5")).await;
        subscribe(&shop, "jane", "pro").await.expect("it may subscribe");
        let shop = shop.restarted_with(&product("")).await;
        let refused = subscribe(&shop, "john", "pro").await.expect_err("it is not sold");
        assert!(matches!(&refused, ServiceError::Refused(refusal) if refusal.code() == "unknown_plan"), "{refused:?}");
        assert_eq!(charge(&shop, "john", "tokens", "1").await, "9");
        wait_until(&shop, "2026-04-02T10:00:00Z").await;
        assert_eq!(charge(&shop, "jane", "tokens", "12").await, "1");
        assert_eq!(lines(&newest_invoice(&shop, "jane").await), ["pro 1 2000"]);
        let row = shop.customer("jane").await;
        let catalog = &shop.app.tenants["acme"].catalog;
        let entitled = entitlements(catalog, &row.customer, shop.app.now("acme")).expect("sums that fit");
        assert!(entitled.features.contains_key("seats"));
        // The price of a plan that is gone explains the charges that were made at it.
        let charges =
            shop.database.texts("SELECT price FROM charges WHERE price IS NOT NULL AND amount = 1000000").await;
        let definition = shop.app.store.price(&scope(), &charges[0]).await.expect("the store answers");
        assert!(definition.expect("it is kept").contains("\"amount\":\"0.5\""));
    })
    .await;
}

/// A dollar for a thousand words, heard and spoken together, in whole cents rounded down: what is left is asked for later.
const VOICE: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[overage]
policy = "owe"

[[meters]]
name = "stt_words"
unit = "word"

[[meters]]
name = "tts_words"
unit = "word"

[[prices]]
meters = ["stt_words", "tts_words"]
model = "per_unit"
amount = "0.01"
per = 10

[[plans]]
name = "basic"
title = "Basic"
price = "29"
"#;

#[tokio::test]
async fn words_are_counted_together_and_the_remainder_is_carried() {
    on_both(async |database| {
        let shop = Shop::with(database, VOICE).await;
        subscribe(&shop, "club", "basic").await.expect("it may subscribe");
        let mut carried = 0;
        for (month, heard, spoken) in [(4, 500, 499), (5, 3, 508), (6, 1, 289)] {
            for (meter, words) in [("stt_words", heard), ("tts_words", spoken)] {
                charge(&shop, "club", meter, &words.to_string()).await;
            }
            wait_until(&shop, &format!("2026-{month:02}-02T10:00:00Z")).await;
            let words = carried + heard + spoken;
            carried = words % 10;
            let invoice = newest_invoice(&shop, "club").await;
            assert_eq!(invoice.total, 2_900 + words / 10, "{words} words: {:?}", lines(&invoice));
        }
        assert_eq!(carried, 0, "999, 511 and 290 words are 1800");
        books::assert_balanced(&*shop.app.store).await;
    })
    .await;
}

/// The example whose tokens and minutes cost less the larger the plan is, without free days.
fn agents() -> String {
    let example = include_str!("../../../../examples/plans.toml");
    example.replace("name = \"agents\"", "name = \"acme\"").replace("trial_days = 14\n", "")
}

#[tokio::test]
async fn a_thousand_tokens_and_a_minute_cost_what_the_plan_says() {
    on_both(async |database| {
        let shop = Shop::with(database, &agents()).await;
        for (plan, tokens, minute) in [("starter", "1", "0.1"), ("pro", "0.5", "0.05"), ("enterprise", "0.2", "0.02")] {
            subscribe(&shop, plan, plan).await.expect("it may subscribe");
            assert_eq!(charge(&shop, plan, "tokens", "1000").await, tokens);
            assert_eq!(charge(&shop, plan, "execution_ms", "60000").await, minute);
        }
        wait_until(&shop, "2026-04-02T10:00:00Z").await;
        for (plan, invoiced) in [("starter", 1_000 + 110), ("pro", 5_000 + 55), ("enterprise", 50_000 + 22)] {
            assert_eq!(newest_invoice(&shop, plan).await.total, invoiced, "{plan}");
        }
    })
    .await;
}
