//! Plans, what is booked with them, limits and billing, as an engineer writes them.

use engine::{
    AfterDunning, Asset, CouponDuration, Discount, Feature, IntervalUnit, Money, OveragePolicy, Plan, Window,
};
use insta::assert_snapshot;

use super::*;

/// A plan in a file that begins correctly; its fields begin at line 13.
fn plan(fields: &str) -> String {
    format!("{START}\n[[plans]]\nname = \"pro\"\nprice = \"20\"\n{fields}\n")
}

fn only(fields: &str) -> Plan {
    let catalog = read(&plan(fields)).unwrap().catalog;
    (**catalog.plans.current("pro").unwrap()).clone()
}

#[test]
fn every_feature_of_plans_is_read() {
    let catalog = load(&example("every-feature.toml"), &environment).unwrap().catalog;
    let team = catalog.plans.current("team").unwrap();
    assert_eq!((team.fee.to_string(), team.interval.unit, team.trial_days), ("20 USD".into(), IntervalUnit::Month, 14));
    assert_eq!((team.commitment, team.spending_limit), (Some(500), Some(Micros::new(200_000_000))));
    assert_eq!(team.overage.unwrap().policy, OveragePolicy::Owe);
    assert_eq!(team.add_ons.iter().map(|name| &**name).collect::<Vec<_>>(), ["phone-number", "set-up"]);
    assert_eq!(team.features["sso"], Feature::Flag(true));
    assert_eq!(team.features["seats"], Feature::Number(5));
    assert_eq!(team.features["support"], Feature::Text("by email".into()));
    let [tokens] = &team.allowances[..] else { panic!("one allowance") };
    assert_eq!((tokens.asset.as_str(), tokens.rollover), ("token", true));
    assert_eq!(tokens.cap, Some(Micros::new(500_000_000_000)));
    assert_eq!((team.limits[0].window, team.limits[0].hard), (Window::Sliding(60), true));
    assert_eq!((&*team.prices[0].name, team.prices[0].unit_price()), ("tokens", "1.9 USD per 1000000".into()));

    let enterprise = catalog.plans.current("enterprise").unwrap();
    assert_eq!((enterprise.fee.to_string(), enterprise.interval.unit), ("5000 EUR".into(), IntervalUnit::Year));
    assert_eq!(enterprise.provider_price.as_deref(), Some("price_of_the_tests"));
    assert!(!catalog.plans.add_ons["set-up"].recurring);
    assert_eq!(catalog.plans.coupons["SPRING"].duration, CouponDuration::Repeating(3));
    let ten = Money { minor: 1_000, currency: Asset::new("USD") };
    assert_eq!(catalog.plans.coupons["partner"].discount, Discount::Amount(ten));
    assert_eq!(catalog.plans.limits[1].window, Window::OpenHolds);
    assert!(!catalog.plans.limits[0].hard && catalog.plans.limits[1].hard);
    assert_eq!(catalog.billing.taxes[0].percent, "19".parse().unwrap());
    assert_eq!((catalog.billing.minimums[&Asset::new("USD")], catalog.billing.minimums[&Asset::new("GBP")]), (100, 30));
    assert_eq!(catalog.billing.dunning.then, AfterDunning::Cancel);

    let tenant = load(&example("every-feature.toml"), &environment).unwrap();
    let [words] = prices_of(&tenant, "words_heard")[..] else { panic!("one price") };
    assert_eq!((&*words.name, &*words.pooled[0]), ("words_heard+words_spoken", "words_spoken"));
}

#[test]
fn what_a_plan_leaves_out_has_a_default() {
    let tenant = read(&plan("")).unwrap();
    let pro = tenant.catalog.plans.current("pro").unwrap();
    assert_eq!((&*pro.title, pro.fee.to_string(), pro.trial_days), ("pro", "20 USD".into(), 0));
    assert_eq!((pro.interval.unit, pro.interval.count), (IntervalUnit::Month, 1));
    assert_eq!((pro.overage, pro.commitment, pro.spending_limit, &pro.provider_price), (None, None, None, &None));
    assert!(!tenant.catalog.plans.several_subscriptions);
    let billing = &tenant.catalog.billing;
    assert_eq!((billing.days_until_due, billing.minimums[&Asset::new("JPY")]), (30, 50));
    assert_eq!((&billing.dunning.retry_days[..], billing.dunning.write_off), (&[3, 5, 7][..], true));
}

#[test]
fn the_version_of_a_plan_is_its_content() {
    let version = |fields: &str| only(fields).version;
    assert_snapshot!(version(""), @"v_ddc4c8404568b42c");
    assert_eq!(version(""), version("interval = \"month\"\ntrial_days = 0"));
    assert_eq!(version("features = { a = 1, b = 2 }"), version("features = { b = 2, a = 1 }"));
    let price = |amount| format!("[[plans.prices]]\nmeter = \"tokens\"\nmodel = \"flat\"\namount = \"{amount}\"");
    let versions = ["", "trial_days = 1", "features = { a = 1 }", &price("1"), &price("2")].map(version);
    let different: std::collections::BTreeSet<_> = versions.iter().collect();
    assert_eq!(different.len(), versions.len());
}

#[test]
fn prices_of_a_plan_are_in_its_currency_and_may_name_meters_together() {
    let fields = r#"
currency = "EUR"
[[plans.prices]]
meters = ["words", "tokens"]
match = { model = "small" }
model = "per_unit"
amount = "1"
"#;
    let meter = "[[meters]]\nname = \"words\"\ndimensions = [\"model\"]\n";
    let catalog = read(&format!("{}{meter}", plan(fields))).unwrap().catalog;
    let price = &catalog.plans.current("pro").unwrap().prices[0];
    assert_eq!((&*price.name, price.asset.as_str()), ("tokens+words{model=small}", "EUR"));
    let (tokens, pro) = (catalog.meter("tokens").unwrap(), catalog.plans.current("pro").unwrap());
    let small = [("model".to_owned(), "small".to_owned())].into();
    assert!(catalog.price(tokens, &small, &[pro]).unwrap().is_some());
    assert_eq!(catalog.price(tokens, &small, &[]).unwrap_err().code(), "no_price", "it is sold with the plan alone");
    assert!(catalog.know_price(tokens, &small).is_ok());
}

#[test]
fn the_plan_of_those_without_a_subscription_is_one_that_is_sold() {
    let with = |name: &str| format!("{}\n[subscriptions]\ndefault_plan = \"{name}\"\n", plan(""));
    let tenant = read(&with("pro")).unwrap();
    assert_eq!(tenant.catalog.plans.default_plan().map(|plan| &*plan.name), Some("pro"));
    assert!(mistakes(&with("por")).contains("unknown plan `por` in [subscriptions]; did you mean `pro`?"));
}

#[test]
fn a_provider_price_is_written_or_in_the_environment() {
    assert_eq!(only("provider_price = \"price_1\"").provider_price.as_deref(), Some("price_1"));
    let named = "provider_price_env = \"ACME_STRIPE_PRO_PRICE\"";
    assert_eq!(only(named).provider_price.as_deref(), Some("price_of_the_tests"));
    // On a developer's machine, farthing renews it itself.
    assert_eq!(only("provider_price_env = \"NOT_SET\"").provider_price, None);
    let live = plan("provider_price_env = \"NOT_SET\"").replacen("currency", "mode = \"live\"\ncurrency", 1);
    assert_snapshot!(mistakes(&live), @"acme.toml:14:22: the environment variable `NOT_SET` is not set; set it to the provider's id of the price");
    assert_snapshot!(mistakes(&plan("provider_price_env = \"price_1\"")), @r#"acme.toml:13:22: `provider_price_env` is not the name of an environment variable; it is the variable's name in capitals, as in `provider_price_env = "STRIPE_KEY"`, never what it holds"#);
    // What is written counts where the environment says nothing.
    let both = |variable: &str| only(&format!("provider_price = \"price_1\"\n{variable}")).provider_price.clone();
    assert_eq!(both(named).as_deref(), Some("price_of_the_tests"));
    assert_eq!(both("provider_price_env = \"NOT_SET\"").as_deref(), Some("price_1"));
}

#[test]
fn mistakes_in_plans() {
    assert_snapshot!(mistakes_after_start(r#"
[[plans]]
titel = "Pro"

[[plans]]
name = "Team Plan"
price = "19.999"
interval = "monthly"
interval_count = 0
trial_days = 731
add_ons = ["fone", "phone", "euros"]
features = { seats = 1.5, "s s o" = true, support = "" }
commitment = "-1"
overage = { policy = "own" }

[[plans]]
name = "year"
price = 20.5
interval = "year"
interval_count = 4
currency = "usd"

[[plans]]
name = "year"
price = "20"

[[add_ons]]
name = "phone"
price = "5"

[[add_ons]]
name = "euros"
price = "5"
currency = "EUR"

[[add_ons]]
name = "phone"
"#), @r#"
acme.toml:11:1: plan has no `name`; add one, as in `name = "pro"`
acme.toml:11:1: plan has no `price`; add one, as in `price = "20"`
acme.toml:12:1: unknown field `titel` in plan; did you mean `title`?
acme.toml:15:8: `Team Plan` cannot be a name in plan; begin with a small letter or a digit, then small letters, digits, `_` and `-`, 63 in all at the most
acme.toml:16:9: 19.999 cannot be paid in USD; keep to the currency's smallest coin
acme.toml:17:12: `interval` in plan is `monthly`; did you mean `month`?
acme.toml:18:18: `interval_count` in plan is 0; it must be from 1 to 36
acme.toml:19:14: `trial_days` in plan is 731; it must be from 0 to 730
acme.toml:20:12: unknown add-on `fone` in plan; did you mean `phone`?
acme.toml:20:29: add-on `euros` costs EUR, and the plan USD; give both the same currency
acme.toml:21:22: `seats` in plan is a floating-point number, not true or false, a whole number or text; write true, false, a whole number, or text in quotes
acme.toml:21:27: `s s o` cannot be a feature in plan; begin with a letter or a digit, then letters, digits, `_` and `-`, 63 in all at the most
acme.toml:21:53: `support` in plan is empty; fill it in or leave the field out
acme.toml:22:14: `commitment` in plan is -1; it must be at least 0
acme.toml:23:22: `policy` in [overage] is `own`; did you mean `owe`?
acme.toml:27:9: `price` in plan is a floating-point number, not decimal text; write it as text, which is exact: `price = "20.5"`
acme.toml:29:18: `interval_count` in plan is 4; it must be from 1 to 3
acme.toml:30:12: unknown currency `usd` in plan; did you mean `USD`?
acme.toml:45:1: add-on has no `price`; add one, as in `price = "5"`
"#);
}

#[test]
fn mistakes_in_what_a_plan_includes() {
    assert_snapshot!(mistakes(&plan(r#"
[[plans.allowances]]
name = "tokens"
unit = "tokns"
amount = "0"

[[plans.allowances]]
name = "tokens"
unit = "tokens"
amount = "10"
cap = "5"

[[plans.allowances]]
name = "tokens"
currency = "EUR"
amount = "10"

[[plans.limits]]
name = "rate"
meter = "token"
per = "second"
amount = "1"

[[plans.limits]]
name = "every"
meter = "tokens"
per = "open_holds"
amount = "1"
hard = false
seconds = 5

[[plans.limits]]
name = "sliding"
meter = "tokens"
per = "sliding"
seconds = 0
amount = "1"

[[plans.prices]]
meter = "tokens"
meters = ["tokens"]
model = "percentage"
amount = "1"

[[plans.prices]]
meters = []
model = "percentage"
percent = "1"

[[plans.prices]]
meters = ["tokens", "calls"]
model = "flat"
amount = "1"

[[limits]]
name = "every"
meter = "tokens"
per = "month"
amount = "1"
"#)), @r#"
acme.toml:16:8: no meter has the unit `tokns`; did you mean `tokens`?
acme.toml:17:10: `amount` in allowance is 0; it must be above 0
acme.toml:23:1: allowance has `cap` but no `rollover`; add `rollover = true`: the cap is the most that goes over
acme.toml:25:1: there are two allowances `tokens` in the plan; give this one another name
acme.toml:27:12: nothing is priced in EUR, the currency of an allowance; there is only `USD`
acme.toml:32:9: unknown meter `token` in limit; did you mean `tokens`?
acme.toml:33:7: `per` in limit is `second`; use one of `minute`, `hour`, `day`, `month`, `period`, `sliding`, `open_holds`
acme.toml:36:1: there are two limits `every`; give this one another name
acme.toml:41:1: a limit of open holds is always hard; leave `hard` out: one more hold than that is refused
acme.toml:42:1: `seconds` is how long a sliding window is; leave it out, or write `per = "sliding"`
acme.toml:48:11: `seconds` in limit is 0; it must be from 1 to 2678400
acme.toml:51:1: price has no `percent`; add one, as in `percent = "2.9"`
acme.toml:53:1: price has both `meter` and `meters`; leave one out: `meters` counts the uses of several meters together
acme.toml:55:1: a percentage price has no `amount`; it has `percent` and `flat`; leave `amount` out or use another model
acme.toml:58:1: `meters` in price names no meter; write `meters = ["spoken", "heard"]`
acme.toml:63:21: unknown meter `calls` in price; there is only `tokens`
"#);
}

#[test]
fn mistakes_in_coupons_and_billing() {
    assert_snapshot!(mistakes_after_start(r#"
[[coupons]]
code = "SPRING 20"
percent = "120"

[[coupons]]
code = "both"
percent = "20"
amount = "5"
duration = "repeating"

[[coupons]]
code = "both"
amount = "0.001"
invoices = 3

[[coupons]]
code = "none"
currency = "USD"
duration = "always"

[subscriptions]
severel = true

[billing]
days_until_due = 400
minimums = { USD = "0.005", EURO = "1", JPY = 0.5 }
dunning = { retry_days = [0, 3, "5"], then = "stop" }

[[billing.taxes]]
percent = "0"

[[billing.taxes]]
name = "VAT"
percent = "19"
inclusive = "yes"
"#), @r#"
acme.toml:12:8: `SPRING 20` cannot be a code in coupon; begin with a letter or a digit, then letters, digits, `_` and `-`, 63 in all at the most
acme.toml:13:11: `percent` in coupon is 120; it must be above 0 and at most 100
acme.toml:15:1: coupon has no `invoices`; add one, as in `invoices = 3`
acme.toml:17:1: coupon has both `percent` and `amount`; leave one out: it takes off a part of each line, or an amount
acme.toml:23:10: 0.001 cannot be paid in USD; keep to the currency's smallest coin
acme.toml:24:1: `invoices` is for how many invoices a repeating coupon holds; leave it out, or write `duration = "repeating"`
acme.toml:26:1: coupon has no `percent`; add one, as in `percent = "20"`
acme.toml:28:1: coupon has `currency` but no `amount`; leave it out: a percentage has none
acme.toml:29:12: `duration` in coupon is `always`; use one of `once`, `repeating`, `forever`
acme.toml:32:1: unknown field `severel` in [subscriptions]; did you mean `several`?
acme.toml:35:18: `days_until_due` in [billing] is 400; it must be from 0 to 365
acme.toml:36:20: 0.005 cannot be paid in USD; keep to the currency's smallest coin
acme.toml:36:29: unknown currency `EURO` in [billing]; use an ISO 4217 code such as `USD`, `EUR` or `JPY`
acme.toml:36:47: `JPY` in [billing] is a floating-point number, not decimal text; write it as text, which is exact: `JPY = "0.5"`
acme.toml:37:27: `retry_days` in [billing.dunning] is 0; it must be from 1 to 60
acme.toml:37:33: `retry_days` in [billing.dunning] is text, not a whole number; write a number from 1 to 60
acme.toml:37:46: `then` in [billing.dunning] is `stop`; use one of `cancel`, `unpaid`, `past_due`
acme.toml:39:1: tax has no `name`; add one, as in `name = "VAT"`
acme.toml:40:11: `percent` in tax is 0; it must be above 0 and at most 100
acme.toml:45:13: `inclusive` in tax is text, not true or false; write `inclusive = true` or leave it out
"#);
}

#[test]
fn two_prices_that_count_a_meter_together_and_alone_are_one_too_many() {
    let price = |meters: &str| format!("[[prices]]\n{meters}\nmodel = \"flat\"\namount = \"1\"\n");
    let prices = price("meter = \"tokens\"") + &price("meters = [\"tokens\", \"words\"]");
    assert_snapshot!(mistakes_after_start(&format!("{prices}[[meters]]\nname = \"words\"\n")), @"acme.toml:14:1: there are two prices for `tokens`; leave one out, or set them apart by `match`");
}

#[test]
fn lists_of_plans_have_limits() {
    let many = |what: &str, one: &dyn Fn(usize) -> String, most: usize| {
        let list: String = (0..=most).map(|n| format!("[[{what}]]\n{}\n", one(n))).collect();
        mistakes_after_start(&list)
    };
    assert_snapshot!(many("plans", &|n| format!("name='p{n}'\nprice=1"), 200), @"acme.toml:10:1: the file has 201 `plans`; keep to 200");
    assert_snapshot!(many("add_ons", &|n| format!("name='a{n}'\nprice=1"), 200), @"acme.toml:10:1: the file has 201 `add_ons`; keep to 200");
    assert_snapshot!(many("coupons", &|n| format!("code='c{n}'\npercent=1"), 1_000), @"acme.toml:10:1: the file has 1001 `coupons`; keep to 1000");
    assert_snapshot!(many("limits", &|n| format!("name='l{n}'\nmeter='tokens'\nper='day'\namount=1"), 50), @"acme.toml:10:1: the file has 51 `limits`; keep to 50");
    let features: String = (0..=1_000).map(|n| format!("f{n} = true\n")).collect();
    assert_snapshot!(mistakes(&plan(&format!("[plans.features]\n{features}"))), @"acme.toml:13:1: `features` in plan has 1001 names; keep to 1000");
    let title = "x".repeat(201);
    assert_snapshot!(mistakes(&plan(&format!("title = '{title}'"))), @"acme.toml:13:9: the title of a plan is too long; keep it to 200 characters");
}

/// The page has a row for each field, and the example shows it.
#[test]
fn the_example_uses_every_field_of_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/tenant-file.md")).unwrap();
    let file = std::fs::read_to_string(example("every-feature.toml")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |").map(|(field, _)| field));
    let fields: Vec<&str> = rows.flat_map(|row| row.split(',')).map(|field| field.trim_matches(['`', ' '])).collect();
    assert!(fields.len() > 100, "{fields:?}");
    let shown = |field: &str| {
        let table = format!("{}]", field.trim_matches(['[', ']']));
        [format!("{field} ="), format!("`{field}`"), format!("\"{field}\""), table].iter().any(|way| file.contains(way))
    };
    let missing: Vec<&&str> = fields.iter().filter(|field| !shown(field)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
