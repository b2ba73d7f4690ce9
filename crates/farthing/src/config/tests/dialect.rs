//! `[dialect]`, and numbers and names that come from the environment.

use engine::Micros;
use insta::assert_snapshot;

use super::{START, mistakes};
use crate::config::{Dialect, Tenant, parse};

const CIRIS: &str = include_str!("../../../../../examples/ciris.toml");
const SPEECH: &str = include_str!("../../../../../examples/speech.toml");

/// The tenant of this text, in an environment that has these variables alone.
fn in_environment(text: &str, variables: &[(&str, &str)]) -> Result<Tenant, String> {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let told = |errors: Vec<crate::config::TenantFileError>| {
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    parse(text, "ciris.toml", &find).map_err(told)
}

fn sold(tenant: &Tenant) -> (i64, i64, i64) {
    let pack = &tenant.catalog.packs["uses"];
    (tenant.catalog.grants[0].amount.get(), pack.price.minor, pack.amount.get())
}

#[test]
fn numbers_come_from_the_file_and_may_be_others_by_the_environment() {
    assert_eq!(sold(&in_environment(CIRIS, &[]).unwrap()), (3_000_000, 500, 20_000_000));
    let own = [
        ("FREE_USES_PER_ACCOUNT", "10"),
        ("PAID_USES_PER_PURCHASE", " 50 "),
        ("PRICE_PER_PURCHASE_MINOR", "999"),
        ("PAYMENT_PROVIDER", "stripe"),
    ];
    assert_eq!(sold(&in_environment(CIRIS, &own).unwrap()), (10_000_000, 999, 50_000_000));
    let hundred = CIRIS.replace("units_per_use = 1", "units_per_use = 100");
    assert_eq!(sold(&in_environment(&hundred, &own).unwrap()), (10_000_000, 999, 5_000_000_000));
}

#[test]
fn the_first_of_several_variables_that_is_set_counts() {
    let key = |variables: &[(&str, &str)]| {
        let connection = in_environment(CIRIS, variables).unwrap().connection;
        connection.secret_key.map(|key| key.expose().to_owned())
    };
    assert_eq!(key(&[]), None);
    assert_eq!(key(&[("STRIPE_SECRET_KEY", "sk_test_2")]).as_deref(), Some("sk_test_2"));
    let both = [("STRIPE_SECRET_KEY", "sk_test_2"), ("STRIPE_API_KEY", "sk_test_1")];
    assert_eq!(key(&both).as_deref(), Some("sk_test_1"));
    assert_eq!(key(&[("STRIPE_SECRET_KEY", "sk_test_2"), ("STRIPE_API_KEY", "")]).as_deref(), Some("sk_test_2"));
}

#[test]
fn what_the_environment_says_wrong_is_told_without_its_value() {
    let wrong =
        [("FREE_USES_PER_ACCOUNT", "sk_live_1"), ("PRICE_PER_PURCHASE_MINOR", "4.99"), ("PAYMENT_PROVIDER", "square")];
    assert_snapshot!(in_environment(CIRIS, &wrong).unwrap_err(), @r#"
    ciris.toml:33:14: the environment variable `FREE_USES_PER_ACCOUNT` is no number that `amount` can be; put a plain number into it, or take it out
    ciris.toml:39:19: the environment variable `PRICE_PER_PURCHASE_MINOR` is no number that `price_minor` can be; put a plain number into it, or take it out
    ciris.toml:46:16: the environment variable `PAYMENT_PROVIDER` names a provider that there is not; there is only `stripe`
    "#);
    let live =
        CIRIS.replace("mode = \"test\"", "mode = \"live\"").replace("[dialect]", "[dialect]\nallow_anonymous = true");
    assert_snapshot!(in_environment(&live, &[]).unwrap_err(), @r#"
    ciris.toml:11:1: `allow_anonymous` is for test mode alone: anybody could use it; take it out
    ciris.toml:48:19: none of the environment variables `STRIPE_API_KEY`, `STRIPE_SECRET_KEY` is set; set it; a live tenant has no sandbox
    ciris.toml:49:24: none of the environment variables `STRIPE_PUBLISHABLE_KEY`, `STRIPE_PUBLIC_KEY` is set; set it; a live tenant has no sandbox
    ciris.toml:50:23: none of the environment variables `CIRIS_WEBHOOK_SECRET`, `STRIPE_WEBHOOK_SECRET` is set; set it; a live tenant has no sandbox
    "#);
}

#[test]
fn a_dialect_names_what_there_is() {
    let tenant = in_environment(CIRIS, &[]).unwrap();
    let Some(Dialect::Ciris(settings)) = &tenant.dialect else { panic!("it speaks ciris") };
    assert_eq!((&*settings.meter, settings.asset.as_str(), &*settings.pack), ("use", "credit", "uses"));
    let dialect = |fields: &str| mistakes(&format!("{START}\n[dialect]\n{fields}\n"));
    assert_snapshot!(dialect("name = \"cyris\""), @r#"acme.toml:11:8: `name` in [dialect] is `cyris`; did you mean `ciris`?"#);
    assert_snapshot!(dialect("name = \"ciris\"\nmeter = \"token\"\npack = \"uses\""), @r#"acme.toml:12:9: unknown meter `token` in [dialect]; did you mean `tokens`?"#);
    assert_snapshot!(dialect("name = \"ciris\"\nmeter = \"tokens\"\npack = \"uses\""), @r#"
    acme.toml:12:9: meter `tokens` has no price, so nothing could be bought for it; add one in a unit of its own, as in `unit = "credit"`
    acme.toml:13:8: unknown pack `uses` in [dialect]; there is none in the file
    "#);
}

#[test]
fn services_name_what_there_is() {
    let secret = ("SECRET_KEY", "a secret");
    let tenant = in_environment(SPEECH, &[secret]).unwrap();
    let Some(Dialect::Speech(settings)) = &tenant.dialect else { panic!("it speaks speech") };
    let services: Vec<_> = settings.services.iter().map(|of| (&*of.meter, of.included.as_deref())).collect();
    assert_eq!(
        services,
        [
            ("voice_call", Some("voice_minutes")),
            ("sms", Some("sms_messages")),
            ("transcription", None),
            ("custom_scenario", Some("custom_scenarios")),
            ("api_call", None)
        ]
    );
    assert_eq!((settings.usage_plan.as_deref(), settings.public_plans), (Some("usage_based"), false));
    let wrong = SPEECH
        .replace("meter = \"voice_call\"\nprice = \"voice_per_minute\"", "meter = \"voice_cal\"")
        .replace("included = \"sms_messages\"", "included = \"sms_message\"")
        .replace("usage_plan = \"usage_based\"", "usage_plan = \"usage\"");
    assert_snapshot!(in_environment(&wrong, &[secret]).unwrap_err(), @"
    ciris.toml:13:14: unknown plan `usage` in [dialect]; use one of `basic_monthly`, `enterprise_monthly`, `pro_monthly`, `usage_based`
    ciris.toml:20:9: unknown meter `voice_cal` in service; did you mean `voice_call`?
    ciris.toml:26:12: no plan has a feature `sms_message`; did you mean `sms_messages`?
    ");
}

#[test]
fn a_plan_says_the_same_number_wherever_it_says_it() {
    let tenant = in_environment(SPEECH, &[("SECRET_KEY", "a secret")]).unwrap();
    let Some(Dialect::Speech(settings)) = &tenant.dialect else { panic!("it speaks speech") };
    let catalog = &tenant.catalog;
    for plan in catalog.plans.sold() {
        for service in settings.services.iter() {
            let feature = service.included.as_ref().and_then(|name| plan.features.get(name));
            let Some(engine::Feature::Number(included)) = feature else { continue };
            let quantity = Micros::new(included * Micros::ONE.get());
            let limit = plan.limits.iter().find(|limit| limit.meter == service.meter).unwrap();
            assert_eq!((limit.amount, limit.hard), (quantity, false), "{} {}", plan.name, service.meter);
            // What is given in money is so many uses at their price.
            let allowance = plan.allowances.iter().find(|given| given.meters.contains(&service.meter)).unwrap();
            let price = catalog.prices.iter().find(|price| price.prices(&service.meter)).unwrap();
            assert_eq!(engine::rating::rate(price, Micros::ZERO, quantity), Ok(allowance.amount), "{}", service.meter);
        }
    }
}
