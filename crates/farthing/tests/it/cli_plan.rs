//! `farthing plan diff`: what a changed tenant file would do to those who have subscribed.

use engine::subscription::SubscribeRequest;
use engine::{ChargeRequest, Command};
use farthing::clock::{Clock, SystemClock};

use crate::cli_program::Program;
use crate::databases::on_both;
use crate::shop::Shop;

const BEFORE: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[overage]
policy = "owe"

[[meters]]
name = "calls"

[[meters]]
name = "minutes"

[[prices]]
meter = "calls"
model = "per_unit"
amount = "0.25"

[[prices]]
meter = "minutes"
model = "graduated"
tiers = [{ up_to = 100, amount = "0.5" }, { amount = "0.4" }]

[[plans]]
name = "basic"
price = "0"

[[plans]]
name = "old"
price = "0"

[[plans]]
name = "pro"
price = "0"
features = { seats = 5, sso = false }

[[plans.allowances]]
name = "calls"
unit = "calls"
amount = 1000

[[plans.prices]]
meter = "minutes"
model = "per_unit"
amount = "0.3"

[[add_ons]]
name = "phone"
price = 5

[[limits]]
name = "daily"
meter = "calls"
per = "day"
amount = 100
"#;

/// What is to be sold.
fn after() -> String {
    let old = "[[plans]]\nname = \"old\"\nprice = \"0\"\n";
    let pro = "name = \"pro\"\nprice = \"0\"\nfeatures = { seats = 5, sso = false }\n";
    let changes = [
        (old, "[[plans]]\nname = \"max\"\nprice = \"99\"\ntrial_days = 14\n"),
        (pro, "name = \"pro\"\nprice = \"25\"\nspending_limit = 50\nfeatures = { seats = 10 }\n"),
        ("amount = 1000", "amount = 500\nrollover = true"),
        ("\"0.3\"", "\"0.35\""),
        ("amount = \"0.25\"", "amount = \"0.3\""),
        ("price = 5", "price = 6"),
        ("amount = 100\n", "amount = 50\n[[coupons]]\ncode = \"SPRING\"\npercent = 20\n"),
        (
            "model = \"graduated\"\ntiers = [{ up_to = 100, amount = \"0.5\" }, { amount = \"0.4\" }]",
            "model = \"flat\"\namount = 1",
        ),
    ];
    changes.iter().fold(BEFORE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    })
}

async fn subscribe(shop: &Shop, customer: &str, plan: &str) {
    shop.create(customer).await;
    let request = SubscribeRequest {
        id: shop.clock.new_id(),
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
}

/// Charges a call that was made just now, by the clock of the program that is asked about it.
async fn call(shop: &Shop, customer: &str) {
    shop.clock.advance(SystemClock.now().as_second() - shop.clock.now().as_second());
    let request = ChargeRequest {
        id: shop.clock.new_id(),
        operation_key: None,
        fingerprint: 0,
        subject: None,
        meter: "calls".into(),
        quantity: engine::Micros::ONE,
        dimensions: [].into(),
        own_amount: None,
        occurred_at: shop.clock.now(),
        metadata: None,
    };
    shop.execute(customer, Command::Charge(vec![request])).await.expect("it is charged");
}

#[tokio::test]
async fn a_changed_file_is_compared_with_what_customers_have() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file("before.toml", BEFORE);
        program.file("after.toml", &after());
        let ended = program.run(&["plan", "diff", "before.toml"]);
        ended.assert_code(0);
        assert!(ended.out.starts_with("tenant acme, which nobody has served on this database yet"), "{}", ended.out);

        let earlier = Shop::with(database, &BEFORE.replace("amount = 1000", "amount = 2000")).await;
        subscribe(&earlier, "ann", "pro").await;
        let shop = earlier.restarted_with(BEFORE).await;
        for (customer, plan) in [("bob", "pro"), ("cid", "pro"), ("dan", "old"), ("eve", "basic")] {
            subscribe(&shop, customer, plan).await;
        }
        shop.create("fay").await;
        call(&shop, "fay").await;

        let unchanged = program.run(&["plan", "diff", "before.toml"]);
        unchanged.assert_code(0);
        assert!(!unchanged.out.contains("for everybody"), "{}", unchanged.out);
        let ended = program.run(&["plan", "diff", "after.toml"]);
        ended.assert_code(0);
        insta::allow_duplicates! {
            insta::assert_snapshot!(ended.out, @r#"
tenant acme

plan basic: unchanged
  1 subscription on v_3cfe7589af17b4d8

plan max: new
  title  new: max
  fee    new: 99 USD each month
  trial  new: 14 days

plan old: not in the file: nobody new can subscribe
  1 subscription on v_104c40a1e093e0d0, until moved

plan pro: a new version, for those who subscribe or are moved to it from now on
  fee              0 USD each month -> 25 USD each month
  allowance calls  1000 calls -> 500 calls, what is left goes over
  feature seats    5 -> 10
  price minutes    0.3 USD each -> 0.35 USD each
  spending limit   new: 50 USD
  feature sso      gone: no
  1 subscription on v_62ccc692e036348a, until moved
  2 subscriptions on v_9c400d512df948a8, until moved

for everybody, at once
  price calls    0.25 USD each -> 0.3 USD each (1 customer charged at it in the last 31 days)
  price minutes  graduated, in USD each: 0.5 up to 100, then 0.4 -> 1 USD for each charge (0 customers charged at it in the last 31 days)
  add-on phone   5 USD with every period -> 6 USD with every period
  coupon SPRING  new: 20 % off one invoice
  limit daily    100 calls each day -> 50 calls each day
  of 6 customers, 1 without a subscription
"#);
        }

        let ended = program.run(&["plan", "diff", "after.toml", "--json"]);
        ended.assert_code(0);
        let difference: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
        assert_eq!((&difference["customers"], &difference["customers_without_subscription"]), (&6.into(), &1.into()));
        let plans = difference["plans"].as_array().expect("plans");
        let changes: Vec<_> = plans.iter().map(|plan| format!("{} {}", plan["plan"], plan["change"])).collect();
        assert_eq!(
            changes,
            ["\"basic\" \"unchanged\"", "\"max\" \"new\"", "\"old\" \"removed\"", "\"pro\" \"new_version\""]
        );
        // Nothing was written.
        let offers = shop.database.texts("SELECT offer FROM offers").await;
        assert!(offers[0].contains("0.25") && !offers[0].contains("SPRING"), "{offers:?}");
    })
    .await;
}
