//! `[billing]` and `[subscriptions]`: how invoices are made and collected, and how many subscriptions a customer has.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{AfterDunning, Asset, Billing, Dunning, Money, Plan, TaxRate, UsageInvoices};

use super::error::suggestion;
use super::section::Section;

const MOST_TAXES: usize = 10;
const LONGEST_TAX_NAME: usize = 50;
const MOST_RETRY_DAYS: i64 = 60;
const MOST_DAYS_UNTIL_DUE: i64 = 365;
const DEFAULT_DAYS_UNTIL_DUE: u16 = 30;

const ENDS: [(&str, AfterDunning); 3] =
    [("cancel", AfterDunning::Cancel), ("unpaid", AfterDunning::Unpaid), ("past_due", AfterDunning::PastDue)];

const USAGE_INVOICES: [(&str, UsageInvoices); 3] = [
    ("on_demand", UsageInvoices::OnDemand),
    ("monthly", UsageInvoices::Monthly),
    ("monthly_of_subscribers", UsageInvoices::MonthlyOfSubscribers),
];

/// The least that Stripe charges, in minor units (<https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>).
const MINIMUMS: [(&str, i64); 24] = [
    ("AED", 200),
    ("AUD", 50),
    ("BGN", 100),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1_500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("INR", 50),
    ("JPY", 50),
    ("MXN", 1_000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1_000),
    ("USD", 50),
];

/// Reads how invoices are made and collected.
pub(crate) fn read_billing(root: &mut Section<'_>) -> Billing {
    let minimum = |(currency, minor): (&str, i64)| (Asset::new(currency), minor);
    let mut billing = Billing {
        taxes: Vec::new(),
        minimums: MINIMUMS.into_iter().map(minimum).collect(),
        dunning: Dunning::default(),
        days_until_due: DEFAULT_DAYS_UNTIL_DUE,
        usage_invoices: UsageInvoices::default(),
        provider_invoices: false,
    };
    let Some(mut section) = root.section("billing", "[billing]") else { return billing };
    let days = section.integer("days_until_due", 0..=MOST_DAYS_UNTIL_DUE).and_then(|days| u16::try_from(days).ok());
    billing.days_until_due = days.unwrap_or(DEFAULT_DAYS_UNTIL_DUE);
    billing.usage_invoices = section.choice("usage_invoices", &USAGE_INVOICES).unwrap_or_default();
    billing.provider_invoices = section.flag("provider_invoices");
    let taxes = section.sections("taxes", "tax", MOST_TAXES);
    billing.taxes = taxes.into_iter().filter_map(read_tax).collect();
    let own: BTreeMap<Asset, i64> =
        section.money_by_currency("minimums").into_iter().map(|Money { currency, minor }| (currency, minor)).collect();
    billing.minimums.extend(own);
    if let Some(dunning) = section.section("dunning", "[billing.dunning]") {
        billing.dunning = read_dunning(dunning);
    }
    section.finish();
    billing
}

fn read_tax(mut section: Section<'_>) -> Option<TaxRate> {
    section.require("name", "name = \"VAT\"");
    section.require("percent", "percent = \"19\"");
    let name = section.text("name");
    if let Some(long) = name.as_ref().filter(|name| name.get_ref().chars().count() > LONGEST_TAX_NAME) {
        let remedy = format!("keep it to {LONGEST_TAX_NAME} characters");
        section.problems.add(long.span().start, "the name of a tax is too long", remedy);
    }
    let percent = section.percent("percent");
    let inclusive = section.flag("inclusive");
    section.finish();
    Some(TaxRate { name: Arc::from(name?.into_inner()), percent: percent?, inclusive })
}

fn read_dunning(mut section: Section<'_>) -> Dunning {
    let usual = Dunning::default();
    let days = section.integers("retry_days", 1..=MOST_RETRY_DAYS);
    let then = section.choice("then", &ENDS);
    let write_off = section.flag_or("write_off", usual.write_off);
    section.finish();
    let retry_days = days.map(|days| days.into_iter().filter_map(|days| u16::try_from(days).ok()).collect());
    Dunning { retry_days: retry_days.unwrap_or(usual.retry_days), then: then.unwrap_or(usual.then), write_off }
}

/// Whether a customer may have more than one live subscription, and the plan of those who have none, one of these.
pub(crate) fn read_subscriptions(root: &mut Section<'_>, plans: &[Plan]) -> (bool, Option<Arc<str>>) {
    let Some(mut section) = root.section("subscriptions", "[subscriptions]") else { return (false, None) };
    let several = section.flag("several");
    let default = section.text("default_plan").and_then(|name| {
        let found = plans.iter().find(|plan| *plan.name == **name.get_ref());
        if found.is_none() {
            let problem = format!("unknown plan `{}` in [subscriptions]", name.get_ref());
            let remedy = suggestion(name.get_ref(), plans.iter().map(|plan| &*plan.name));
            section.problems.add(name.span().start, problem, remedy);
        }
        found.map(|plan| plan.name.clone())
    });
    section.finish();
    (several, default)
}
