//! Tenant files as an engineer writes them, and what is said of each mistake.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::{GrantKind, LifeEvent, Micros, Model, OveragePolicy, Price, Rounding};
use insta::assert_snapshot;

use super::*;
use crate::auth::{Algorithm, KeySource};

mod browser;
mod dialect;
mod plans;

const SECRET: &str = "a-secret-of-the-tests-with-enough-bytes";

/// A correct beginning of a file: a tenant and a meter.
const START: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[[meters]]
name = "tokens"
dimensions = ["model", "region"]
"#;

fn environment(name: &str) -> Option<String> {
    let value = match name.rsplit_once("_STRIPE_") {
        Some((_, "SECRET_KEY")) => "sk_live_of_the_tests",
        Some((_, "PUBLISHABLE_KEY")) => "pk_live_of_the_tests",
        Some((_, "WEBHOOK_SECRET")) => "whsec_new, whsec_old",
        Some((_, price)) if price.ends_with("_PRICE") => "price_of_the_tests",
        _ if name.ends_with("_JWT_SECRET") => SECRET,
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(text: &str) -> Result<Tenant, String> {
    parse(text, "acme.toml", &environment)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// What is wrong with a file.
fn mistakes(text: &str) -> String {
    read(text).expect_err("the file has mistakes")
}

/// What is wrong with a file that begins correctly, and goes on with this from line 10.
fn mistakes_after_start(rest: &str) -> String {
    mistakes(&format!("{START}\n{rest}"))
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

fn prices_of<'t>(tenant: &'t Tenant, meter: &str) -> Vec<&'t Price> {
    tenant.catalog.prices.iter().map(|price| &**price).filter(|price| &*price.meter == meter).collect()
}

#[test]
fn the_assistant_needs_no_environment() {
    let tenant = load(&example("assistant.toml"), &|_| None).unwrap();
    let catalog = &tenant.catalog;
    assert_eq!((&*catalog.tenant, catalog.currency.as_str(), tenant.mode), ("assistant", "USD", Mode::Test));
    assert_eq!(
        catalog.meters.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["context_tokens", "generated_tokens", "use"]
    );
    let context = catalog.meter("context_tokens").unwrap();
    assert_eq!(context.event_type.as_deref(), Some("llm.request"));
    assert_eq!(context.property.as_deref(), Some("context_tokens"));
    let [price] = prices_of(&tenant, "generated_tokens")[..] else { panic!("one price") };
    assert_eq!(price.model, Model::PerUnit { amount: "15".parse().unwrap() });
    assert_eq!((price.per, price.rounding), (1_000_000, Rounding::HalfEven));
    let [grant] = &catalog.grants[..] else { panic!("one grant") };
    assert_eq!((grant.asset.as_str(), grant.amount, grant.on), ("use", Micros::new(3_000_000), LifeEvent::Created));
    assert_eq!(catalog.overage.policy, OveragePolicy::Refuse);
    assert_eq!(tenant.import.events.time.as_deref(), Some("TIMESTAMP"));
    assert_eq!(tenant.import.events.quantities["context_tokens"], "ContextTokens");
    assert_eq!(tenant.jwt, None);
}

#[test]
fn every_feature_is_read() {
    let tenant = load(&example("every-feature.toml"), &environment).unwrap();
    let catalog = &tenant.catalog;
    assert_eq!(tenant.mode, Mode::Live);
    assert_eq!(catalog.time_zone.iana_name(), Some("Europe/Berlin"));
    let tokens = catalog.meter("tokens").unwrap();
    assert_eq!((tokens.unit.as_str(), tokens.property.as_deref()), ("token", Some("usage_tokens")));
    assert_eq!(catalog.meter("agent_runs").unwrap().property, None, "it counts one for each event");
    assert!(catalog.meter("voice_minutes").unwrap().requires_payment_method);
    let Model::Volume { tiers } = &prices_of(&tenant, "voice_minutes")[1].model else { panic!("a volume price") };
    assert_eq!(tiers[0].up_to, Some(Micros::new(1_000_000_000)));
    assert_eq!((tiers[1].up_to, tiers[1].flat), (None, "5".parse().unwrap()));
    let welcome = &catalog.grants[0];
    assert_eq!((welcome.kind, welcome.priority, welcome.expires_after_days), (GrantKind::Promotional, 100, Some(30)));
    assert_eq!(welcome.meters.iter().map(|name| &**name).collect::<Vec<_>>(), ["tokens", "agent_runs"]);
    assert_eq!(catalog.grants[2].asset.as_str(), "EUR");
    assert_eq!(catalog.grants[2].on, LifeEvent::FirstPaymentMethod);
    assert_eq!((catalog.overage.policy, catalog.overage.limit), (OveragePolicy::Owe, Some(Micros::new(20_000_000))));
    assert_eq!(catalog.hold_seconds, 3600);
    let jwt = tenant.jwt.unwrap();
    assert_eq!((jwt.algorithm, jwt.leeway_seconds), (Algorithm::Hs256, 30));
    assert_eq!(jwt.source, KeySource::Secret(SECRET.to_owned()));
    assert_eq!(tenant.import.events.dimensions["model"], "Model");
}

#[test]
fn a_use_gets_the_price_that_matches_most_of_it() {
    let tenant = load(&example("every-feature.toml"), &environment).unwrap();
    let tokens = tenant.catalog.meter("tokens").unwrap();
    for (dimensions, expected) in [
        (&[][..], "tokens"),
        (&[("model", "large"), ("region", "us")], "tokens"),
        (&[("model", "small")], "tokens{model=small}"),
        (&[("model", "small"), ("region", "eu")], "tokens{model=small,region=eu}"),
        (&[("model", "large"), ("region", "eu")], "tokens{region=eu}"),
    ] {
        let dimensions: BTreeMap<String, String> =
            dimensions.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let price = tenant.catalog.price(tokens, &dimensions, &[]).unwrap().unwrap();
        assert_eq!(&*price.name, expected);
    }
}

#[test]
fn what_is_left_out_has_a_default() {
    let tenant = read(START).unwrap();
    let catalog = &tenant.catalog;
    assert_eq!((tenant.mode, catalog.time_zone.iana_name()), (Mode::Test, Some("UTC")));
    assert_eq!(catalog.meter("tokens").unwrap().unit.as_str(), "tokens");
    assert_eq!((catalog.overage.policy, catalog.overage.limit), (OveragePolicy::Refuse, None));
    assert_eq!(catalog.hold_seconds, 900);
    assert_eq!(tenant.import, ImportDefaults::default());
}

#[test]
fn the_version_of_a_price_is_its_content() {
    let version = |price: &str| {
        let tenant = read(&format!("{START}\n[[prices]]\nmeter = \"tokens\"\nmodel = \"per_unit\"\n{price}")).unwrap();
        tenant.catalog.prices[0].version.to_string()
    };
    // Charges keep this version: it may not change without need.
    assert_snapshot!(version("amount = \"3\"\nper = 1_000_000"), @"p_2216c5722d3a658e");
    let first = version("amount = \"3\"\nper = 1_000_000");
    assert_eq!(first, version("per = 1000000 # the same, written otherwise\nrounding = \"half_even\"\namount = 3"));
    assert_ne!(first, version("amount = \"3.01\"\nper = 1_000_000"));
    assert_ne!(first, version("amount = \"3\"\nper = 1_000_000\nmatch = { model = \"large\" }"));
}

#[test]
fn matched_values_cannot_blur_the_names_of_prices() {
    let price = |matching: &str| {
        let file = format!("{START}\n[[prices]]\nmeter = \"tokens\"\nmodel = \"flat\"\namount = 1\nmatch = {matching}");
        read(&file).unwrap().catalog.prices[0].name.to_string()
    };
    assert_eq!(price(r#"{ model = "a", region = "b" }"#), "tokens{model=a,region=b}");
    assert_eq!(price(r#"{ model = "a,region=b" }"#), r#"tokens{model="a,region=b"}"#);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_place() {
    assert_snapshot!(mistakes(r#"
[tenant]
name = "Acme"
mode = "production"
currency = "usd"
time_zone = "Europe/Berln"
owner = "me"

[[meters]]
name = "tokens"
dimension = ["model"]

[[prices]]
meter = "tokns"
model = "per-unit"
amount = 0.5

[[grants]]
name = "welcome"
on = "create"
amount = "ten"
meters = ["token"]

[hold]
seconds = 900
"#), @r#"
acme.toml:3:8: `Acme` cannot be a name in [tenant]; begin with a small letter or a digit, then small letters, digits, `_` and `-`, 63 in all at the most
acme.toml:4:8: `mode` in [tenant] is `production`; use one of `test`, `live`
acme.toml:5:12: unknown currency `usd` in [tenant]; did you mean `USD`?
acme.toml:6:13: unknown time zone `Europe/Berln`; did you mean `Europe/Berlin`?
acme.toml:7:1: unknown field `owner` in [tenant]; use one of `name`, `mode`, `currency`, `time_zone`
acme.toml:11:1: unknown field `dimension` in meter; did you mean `dimensions`?
acme.toml:14:9: unknown meter `tokns` in price; did you mean `tokens`?
acme.toml:15:9: `model` in price is `per-unit`; did you mean `per_unit`?
acme.toml:16:10: `amount` in price is a floating-point number, not decimal text; write it as text, which is exact: `amount = "0.5"`
acme.toml:20:6: `on` in grant is `create`; did you mean `created`?
acme.toml:21:10: `ten`, the amount in grant, is not a decimal number; write it like `amount = "0.25"`
acme.toml:22:11: unknown meter `token` in grant; did you mean `tokens`?
acme.toml:24:2: unknown field `hold` in the file; did you mean `holds`?
"#);
}

#[test]
fn mistakes_in_the_tenant_and_its_settings() {
    assert_snapshot!(mistakes("[tenant]\ntime_zone = 1\n"), @r#"
acme.toml:1:1: [tenant] has no `name`; add one, as in `name = "assistant"`
acme.toml:1:1: [tenant] has no `currency`; add one, as in `currency = "USD"`
acme.toml:2:13: `time_zone` in [tenant] is a number, not text; write it in quotes
"#);
    assert_snapshot!(mistakes("[[meters]]\nname = \"use\"\n"), @"acme.toml:1:1: the file has no `tenant`; add one, as in `[tenant]`");
    assert_snapshot!(mistakes("tenant = \"acme\"\nmeters = []"), @r#"
acme.toml:1:10: `tenant` in the file is text, not a table; write `[tenant]`
acme.toml:2:10: `meters` in the file is empty; fill it in or leave the field out
"#);
    assert_snapshot!(mistakes_after_start(r#"
[overage]
policy = "free"
limit = "-1"

[holds]
seconds = 2678401
"#), @r#"
acme.toml:12:10: `policy` in [overage] is `free`; use one of `refuse`, `owe`, `ask`, `included`
acme.toml:13:9: `limit` in [overage] is -1; it must be at least 0
acme.toml:16:11: `seconds` in [holds] is 2678401; it must be from 1 to 2678400
"#);
}

#[test]
fn mistakes_in_meters() {
    assert_snapshot!(mistakes_after_start(r#"
[[meters]]
name = "tokens"

[[meters]]
name = "2fast"
unit = "USD"
dimensions = ["a b", "model", "model", 3]
requires_payment_method = "yes"

[[meters]]
name = "calls"
property = "n"

[[meters]]
name = "runs"
event_type = "run"
property = "n"
count = true

[[meters]]
unit = ""
"#), @r#"
acme.toml:11:1: there are two meters `tokens`; give this one another name
acme.toml:15:8: `2fast` cannot be a name in meter; begin with a small letter, then small letters, digits and `_`, 63 in all at the most
acme.toml:16:8: `USD`, the unit of a meter, is a currency; name the unit after what is counted, as in `unit = "token"`
acme.toml:17:15: `a b` cannot be a dimension in meter; begin with a letter, then letters, digits and `_`, 63 in all at the most
acme.toml:17:31: `model` is twice in `dimensions` of meter; leave one out
acme.toml:17:40: `dimensions` in meter is a number, not text; write it in quotes
acme.toml:18:27: `requires_payment_method` in meter is text, not true or false; write `requires_payment_method = true` or leave it out
acme.toml:22:1: meter has `property` but no `event_type`; say which events it counts, as in `event_type = "llm.request"`
acme.toml:27:1: meter has both `property` and `count = true`; leave one out: it adds up a property of each event, or counts one for each
acme.toml:30:1: meter has no `name`; add one, as in `name = "tokens"`
acme.toml:31:8: `unit` in meter is empty; fill it in or leave the field out
"#);
    assert_snapshot!(mistakes(&START.replace("[[meters]]", "[meters]")), @"acme.toml:6:1: `meters` in the file is a table, not a list of tables; write `[[meters]]`");
}

#[test]
fn mistakes_in_amounts() {
    let amounts = ["0.5", "\"half\"", "\"-1\"", "\"0.0000000000001\"", "\"1e10\"", "true", "\"\"", "0x10"];
    let prices = amounts.map(|amount| {
        format!(
            "[[prices]]\nmeter = \"tokens\"\nmodel = \"flat\"\nmatch = {{ model = '{amount}' }}\namount = {amount}\n"
        )
    });
    assert_snapshot!(mistakes_after_start(&prices.join("\n")), @r#"
acme.toml:14:10: `amount` in price is a floating-point number, not decimal text; write it as text, which is exact: `amount = "0.5"`
acme.toml:20:10: `half`, the amount in price, is not a decimal number; write it like `amount = "0.25"`
acme.toml:26:10: `-1`, the amount in price, is out of range; it must be from 0 to 1000000000
acme.toml:32:10: `0.0000000000001`, the amount in price, has more digits after the decimal point than can be kept exactly; keep to twelve digits after the point, or use `per` to price many units at once
acme.toml:38:10: `1e10`, the amount in price, is out of range; it must be from 0 to 1000000000
acme.toml:44:10: `amount` in price is true or false, not decimal text; write it like `amount = "0.25"`
acme.toml:50:10: `amount` in price is empty; fill it in or leave the field out
acme.toml:56:10: `amount` in price is a number, not decimal text; write it like `amount = "0.25"`
"#);
}

#[test]
fn mistakes_in_prices() {
    assert_snapshot!(mistakes_after_start(r#"
[[prices]]
model = "flat"
amount = "1"

[[prices]]
meter = "tokens"
model = "flat"
match = { modle = "large", colour = 3 }
amount = "1"
per = 100
currency = "DOLLAR"

[[prices]]
meter = "tokens"
match = { model = "a" }
model = "package"
size = 0
tiers = []

[[prices]]
meter = "tokens"
match = { model = "b" }
model = "per_unit"
amount = "1"
per = 0
rounding = "nearest"

[[prices]]
meter = "tokens"
amount = "1"
"#), @r#"
acme.toml:11:1: price has no `meter`; add one, as in `meter = "tokens"`
acme.toml:18:11: meter `tokens` has no dimension `modle`; did you mean `model`?
acme.toml:18:37: `colour` in price is a number, not text; write it in quotes
acme.toml:20:1: a flat price has no `per`; it has `amount`; leave `per` out or use another model
acme.toml:21:12: unknown currency `DOLLAR` in price; use an ISO 4217 code such as `USD`, `EUR` or `JPY`
acme.toml:23:1: price has no `amount`; add one, as in `amount = "0.25"`
acme.toml:27:8: `size` in price is 0; it must be above 0
acme.toml:28:1: a package price has no `tiers`; it has `amount` and `size`; leave `tiers` out or use another model
acme.toml:35:7: `per` in price is 0; it must be from 1 to 1000000000000000
acme.toml:36:12: `rounding` in price is `nearest`; use one of `half_even`, `half_up`, `down`, `up`
acme.toml:38:1: price has no `model`; add one, as in `model = "per_unit"`
"#);
}

#[test]
fn mistakes_in_tiers() {
    assert_snapshot!(mistakes_after_start(r#"
[[prices]]
meter = "tokens"
match = { model = "a" }
model = "graduated"
tiers = [{ up_to = "100", amount = "1" }, { up_to = 50, amount = "0.5" }, { amount = "0.4" }, { up_to = 9 }]

[[prices]]
meter = "tokens"
match = { model = "b" }
model = "volume"
amount = "1"
tiers = []

[[prices]]
meter = "tokens"
match = { model = "c" }
model = "volume"
tiers = { amount = "1" }

[[prices]]
meter = "tokens"
match = { model = "d" }
model = "volume"
"#), @r#"
acme.toml:15:53: `up_to` is 50 after a tier up to 100; write the tiers in rising order
acme.toml:15:75: only the last tier may have no `up_to`; say up to which quantity it holds
acme.toml:15:95: tier has no `amount`; add one, as in `amount = "0.25"`
acme.toml:15:97: the last tier has `up_to`; leave it out, so that every quantity has a price
acme.toml:15:105: `up_to` is 9 after a tier up to 50; write the tiers in rising order
acme.toml:21:1: a volume price has no `amount`; it has `tiers` and `per`; leave `amount` out or use another model
acme.toml:22:9: `tiers` in price is empty; fill it in or leave the field out
acme.toml:28:9: `tiers` in price is a table, not a list of tables; write `tiers = [{ ... }]`
acme.toml:30:1: price has no `tiers`; add one, as in `tiers = [{ up_to = "100", amount = "1" }, { amount = "0.5" }]`
"#);
}

#[test]
fn two_prices_for_the_same_uses_are_refused() {
    let price = |matching: &str| {
        format!("[[prices]]\nmeter = \"tokens\"\nmodel = \"flat\"\namount = \"1\"\nmatch = {{ {matching} }}\n")
    };
    let prices = |matches: &[&str]| matches.iter().map(|matching| price(matching)).collect::<String>();
    assert_snapshot!(mistakes_after_start(&prices(&["", ""])), @"acme.toml:15:1: there are two prices for `tokens`; leave one out, or set them apart by `match`");
    assert_snapshot!(mistakes_after_start(&prices(&["model = 'a'", "model = 'b'", "model = 'a'"])), @"acme.toml:20:1: there are two prices for `tokens{model=a}`; leave one out, or set them apart by `match`");
    assert_snapshot!(mistakes_after_start(&prices(&["region = 'eu'", "", "model = 'a'"])), @r#"acme.toml:20:1: a use can fit both `tokens{model=a}` and `tokens{region=eu}`, and neither matches more; add a price with `match = { model = "a", region = "eu" }`"#);
    let decided = prices(&["region = 'eu'", "model = 'a', region = 'eu'", "model = 'a'"]);
    let tenant = read(&format!("{START}\n{decided}")).unwrap();
    let names: Vec<&str> = prices_of(&tenant, "tokens").iter().map(|price| &*price.name).collect();
    assert_eq!(names, ["tokens{model=a,region=eu}", "tokens{model=a}", "tokens{region=eu}"]);
}

#[test]
fn mistakes_in_grants() {
    assert_snapshot!(mistakes_after_start(r#"
[[meters]]
name = "calls"

[[grants]]
name = "welcome"
on = "created"
amount = "0"
kind = "refund"
priority = 1001
expires_after_days = 0

[[grants]]
name = "euros"
on = "created"
amount = "1"
currency = "EUR"

[[grants]]
name = "both"
on = "created"
amount = "1"
currency = "USD"
unit = "tokens"

[[grants]]
name = "units"
on = "created"
amount = "1"
unit = "tokns"

[[grants]]
name = "never"
on = "created"
amount = "1"
unit = "tokens"
meters = ["tokens", "calls"]

[[grants]]
name = "never"
on = "created"
amount = "1"

[[grants]]
"#), @r#"
acme.toml:17:10: `amount` in grant is 0; it must be above 0
acme.toml:18:8: `kind` in grant is `refund`; use one of `promotional`, `allowance`, `paid`
acme.toml:19:12: `priority` in grant is 1001; it must be from 0 to 1000
acme.toml:20:22: `expires_after_days` in grant is 0; it must be from 1 to 36500
acme.toml:26:12: nothing is priced in EUR, the currency of a grant; there is only `USD`
acme.toml:33:1: grant has both `currency` and `unit`; leave one out: it is in one of them
acme.toml:39:8: no meter has the unit `tokns`; did you mean `tokens`?
acme.toml:46:21: meter `calls` counts calls, so a grant in `tokens` never covers it; take the meter out, or grant its own unit
acme.toml:48:1: there are two grants `never`; give this one another name
acme.toml:53:1: grant has no `name`; add one, as in `name = "welcome"`
acme.toml:53:1: grant has no `on`; add one, as in `on = "created"`
acme.toml:53:1: grant has no `amount`; add one, as in `amount = "10"`
"#);
}

#[test]
fn mistakes_in_import_columns() {
    assert_snapshot!(mistakes_after_start(r#"
[import.events]
customers = "CustomerId"
meter = "Meter"

[import.events.quantities]
token = "Tokens"

[import.events.dimensions]
modell = "Model"

[import.grants]
"#), @r#"
acme.toml:12:1: unknown field `customers` in [import.events]; did you mean `customer`?
acme.toml:13:1: [import.events] has both `meter` and `quantities`; leave one out: a line names its meter, or has a column for each
acme.toml:16:1: unknown meter `token` in [import.events]; did you mean `tokens`?
acme.toml:19:1: no meter has the dimension `modell`; did you mean `model`?
acme.toml:21:9: unknown field `grants` in [import]; there is only `events`
"#);
}

#[test]
fn mistakes_in_jwt_settings() {
    let jwt = |fields: &str| mistakes_after_start(&format!("[jwt]\n{fields}"));
    assert_snapshot!(jwt("algorithm = \"HS512\"\nleeway_seconds = -1"), @r#"
acme.toml:11:13: `algorithm` in [jwt] is `HS512`; use one of `HS256`, `RS256`, `ES256`
acme.toml:12:18: `leeway_seconds` in [jwt] is -1; it must be from 0 to 300
"#);
    assert_snapshot!(jwt("algorithm = \"HS256\""), @r#"acme.toml:10:1: [jwt] has no `secret_env`; add one, as in `secret_env = "JWT_SECRET"`"#);
    assert_snapshot!(jwt("algorithm = \"HS256\"\nsecret_env = \"ACME_SECRET\""), @"acme.toml:12:14: the environment variable `ACME_SECRET` is not set; set it to the secret that the issuer of the tokens signs them with");
    assert_snapshot!(jwt("algorithm = \"HS256\"\njwks_url = \"https://acme.example/keys\""), @"acme.toml:12:1: HS256 has no `jwks_url`; it takes `secret_env`, or use RS256 or ES256");
    assert_snapshot!(jwt("algorithm = \"RS256\"\nsecret_env = \"ACME_JWT_SECRET\""), @"acme.toml:12:1: RS256 has no `secret_env`; it takes `jwks_file` or `jwks_url`, or use HS256");
    assert_snapshot!(jwt("algorithm = \"RS256\"\njwks_url = \"http://acme.example/keys\""), @r#"acme.toml:12:12: the JWKS URL must be a complete https URL, or an http URL of this machine; write it like `jwks_url = "https://issuer.example/.well-known/jwks.json"`"#);
    assert_snapshot!(jwt("algorithm = \"ES256\"\njwks_file = \"keys.json\"\njwks_url = \"https://acme.example/keys\""), @r#"
acme.toml:12:13: the JWKS file keys.json cannot be used: the file cannot be read: No such file or directory (os error 2); put the issuer's JSON Web Key Set there; the path starts from the tenant file
acme.toml:13:1: [jwt] has both `jwks_file` and `jwks_url`; leave one out: the keys come from one place
"#);
}

#[test]
fn a_secret_never_reaches_an_error() {
    let pasted = jwt_file("kY3_real-Secret/pasted+into=the.file");
    assert_snapshot!(mistakes(&pasted), @r#"acme.toml:12:14: `secret_env` is not the name of an environment variable; it is the variable's name in capitals, as in `secret_env = "STRIPE_KEY"`, never what it holds"#);
    let short = parse(&jwt_file("ACME_SECRET"), "acme.toml", &|_| Some("hunter2".to_owned())).unwrap_err();
    assert_eq!(short.len(), 1);
    let shown = format!("{} {:?}", short[0], short[0]);
    assert!(shown.contains("7 bytes") && !shown.contains("hunter2"), "{shown}");
    let tenant = read(&jwt_file("ACME_JWT_SECRET")).unwrap();
    assert!(!format!("{tenant:?}").contains(SECRET));
}

fn jwt_file(secret_env: &str) -> String {
    format!("{START}\n[jwt]\nalgorithm = \"HS256\"\nsecret_env = \"{secret_env}\"\n")
}

#[test]
fn a_file_of_keys_lies_beside_the_tenant_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("acme.toml");
    std::fs::write(&path, format!("{START}\n[jwt]\nalgorithm = \"RS256\"\njwks_file = \"keys.json\"\n")).unwrap();
    let [error] = &load(&path, &|_| None).unwrap_err()[..] else { panic!("one error") };
    assert_eq!(error.position, Some(Position { line: 12, column: 13 }));
    assert!(error.problem.contains(&directory.path().join("keys.json").display().to_string()), "{error}");
}

#[test]
fn all_mistakes_of_syntax_are_told() {
    assert_snapshot!(mistakes("[tenant]\nname = acme\nmode = \"test\ncurrency = \"USD\"\ncurrency = \"EUR\"\n"), @r#"
acme.toml:2:8: this is not TOML: string values must be quoted, expected literal string; mend the syntax there
acme.toml:3:13: this is not TOML: invalid basic string, expected `"`; mend the syntax there
acme.toml:5:1: this is not TOML: duplicate key; mend the syntax there
"#);
}

#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("acme.toml");
    let error = |path: &Path| {
        let [error] = &load(path, &environment).unwrap_err()[..] else { panic!("one error") };
        let place = error.position.map(|Position { line, column }| format!("{line}:{column} ")).unwrap_or_default();
        format!("{place}{}; {}", error.problem, error.remedy)
    };
    assert_snapshot!(error(&path), @"cannot read the file: No such file or directory (os error 2); check its path and permissions");
    std::fs::write(&path, b"[tenant]\nname = \"caf\xe9\"").unwrap();
    assert_snapshot!(error(&path), @"2:12 the file is not UTF-8 from here on; save it as UTF-8, as TOML requires");
    std::fs::write(&path, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert_snapshot!(error(&path), @"1:1 the file is too large; keep it to 1 MiB");
    std::fs::write(&path, format!("{START}{}", "#".repeat(1024 * 1024 - START.len()))).unwrap();
    assert_eq!(&*load(&path, &environment).unwrap().catalog.tenant, "acme");
}

#[test]
fn a_catalog_has_limits() {
    let meters: String = (0..1_000).map(|n| format!("[[meters]]\nname = \"m{n}\"\n")).collect();
    assert_snapshot!(mistakes_after_start(&meters), @"acme.toml:6:1: the file has 1001 `meters`; keep to 1000");
    let price = |n| format!("[[prices]]\nmeter='tokens'\nmodel='flat'\namount=1\nmatch.model='{n}'\n");
    let prices: String = (0..10_000).map(price).collect();
    assert_eq!(read(&format!("{START}\n{prices}")).unwrap().catalog.prices.len(), 10_000);
    assert_snapshot!(mistakes_after_start(&format!("{prices}{}", price(10_000))), @"acme.toml:10:1: the file has 10001 `prices`; keep to 10000");
}

/// A pack in a file that begins correctly.
fn pack(fields: &str) -> String {
    format!("{START}\n[[packs]]\nname = \"starter\"\n{fields}\n")
}

#[test]
fn packs_give_what_they_cost_unless_they_say_more() {
    let only = |fields: &str| read(&pack(fields)).unwrap().catalog.packs["starter"].clone();
    let plain = only("price = \"20\"");
    assert_eq!((plain.price.minor, plain.asset.as_str(), plain.amount.get()), (2_000, "USD", 20_000_000));
    assert_eq!(&*plain.title, "starter");
    let units = only("price = \"19.99\"\nunit = \"tokens\"\namount = \"500\"\ntitle = \"500 tokens\"");
    assert_eq!((units.price.minor, units.asset.as_str(), units.amount.get()), (1_999, "tokens", 500_000_000));
    let yen = only("price = \"500\"\nprice_currency = \"JPY\"\namount = \"4\"");
    assert_eq!((yen.price.minor, yen.price.currency.as_str(), yen.asset.as_str()), (500, "JPY", "USD"));
}

#[test]
fn mistakes_in_packs_and_connections_are_told() {
    let wrong = |fields: &str| mistakes(&pack(fields));
    assert_snapshot!(wrong("price = \"19.999\""), @r#"acme.toml:12:9: 19.999 cannot be paid in USD; keep to the currency's smallest coin"#);
    assert_snapshot!(wrong("price = \"500\"\nprice_currency = \"JPY\""), @r#"acme.toml:10:1: pack `starter` costs JPY and gives USD, and does not say how much; add `amount`"#);
    assert_snapshot!(wrong("price = \"5\"\nunit = \"tokens\""), @r#"acme.toml:10:1: pack has no `amount`; add one, as in `amount = "100"`"#);
    assert_snapshot!(wrong("price = \"5\"\n[[packs]]\nname = \"starter\"\nprice = \"6\""), @r#"acme.toml:13:1: there are two packs `starter`; give this one another name"#);
    let connection = |fields: &str| mistakes(&format!("{START}\n[connection]\nprovider = \"stripe\"\n{fields}\n"));
    assert_snapshot!(connection("secret_key_env = \"sk_test_pasted\""), @r#"acme.toml:12:18: `secret_key_env` is not the name of an environment variable; it is the variable's name in capitals, as in `secret_key_env = "STRIPE_KEY"`, never what it holds"#);
    assert_snapshot!(connection("url = \"api.stripe.com\""), @r#"acme.toml:12:7: `url` is no address; write it like `url = "http://127.0.0.1:12111"`"#);
    let live = START.replace("currency", "mode = \"live\"\ncurrency");
    assert_snapshot!(mistakes(&format!("{live}\n[connection]\nprovider = \"stripe\"\nsecret_key_env = \"NOT_SET\"")), @r#"
    acme.toml:11:1: [connection] has no `webhook_secret_env`; add one, as in `webhook_secret_env = "STRIPE_WEBHOOK_SECRET"`
    acme.toml:13:18: the environment variable `NOT_SET` is not set; set it; a live tenant has no sandbox
    "#);
}

#[test]
fn keys_come_from_the_environment_and_show_nowhere() {
    let tenant = load(&example("every-feature.toml"), &environment).unwrap();
    let connection = &tenant.connection;
    assert_eq!(connection.secret_key.as_ref().map(crate::auth::Secret::expose), Some("sk_live_of_the_tests"));
    assert_eq!(connection.publishable_key.as_deref(), Some("pk_live_of_the_tests"));
    let secrets: Vec<_> = connection.webhook_secrets.iter().map(crate::auth::Secret::expose).collect();
    assert_eq!(secrets, ["whsec_new", "whsec_old"]);
    assert!(!format!("{tenant:?}").contains("sk_live"));
    // Without a variable, a tenant in test mode has the sandbox.
    let file = format!("{START}\n[connection]\nprovider = \"stripe\"\nsecret_key_env = \"NOT_SET\"\n");
    assert!(read(&file).unwrap().connection.secret_key.is_none());
}

#[test]
fn the_seller_is_the_tenant_until_the_file_says_more() {
    const START: &str = "[tenant]\nname = \"acme\"\ncurrency = \"USD\"\n\n[[meters]]\nname = \"calls\"\n";
    let seller = |text: &str| read(&format!("{START}{text}")).map(|tenant| tenant.seller);
    assert_eq!(seller("").unwrap(), super::Seller::named("acme"));
    let said = seller("[seller]\nname = \"Acme Ltd\"\naccent = \"#0B6e4f\"\nurl = \"https://b.example/\"").unwrap();
    assert_eq!(
        (&*said.name, said.accent, said.url.as_deref()),
        ("Acme Ltd", [0x0b, 0x6e, 0x4f], Some("https://b.example"))
    );
    for wrong in ["accent = \"red\"", "url = \"b.example\"", "address = [\"a\\nb\"]", "colour = \"#000000\""] {
        assert!(seller(&format!("[seller]\n{wrong}")).is_err(), "{wrong}");
    }
}
