//! `farthing check`: are these tenant files right, and what do they define? It opens no database.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use engine::{GrantTemplate, LifeEvent, Meter, Pack, Plan, Price};

use super::description;
use super::{Failure, Outcome, columns, counted, print, tenants};
use crate::config::{Mode, Tenant};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The tenant files; without any, ./farthing.toml.
    #[arg(env = "FARTHING_TENANT_FILES", value_delimiter = ',', value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    match tenants::load(&arguments.files) {
        Ok(tenants) => {
            for (file, tenant) in &tenants {
                print(&summary(file, tenant))?;
            }
            Ok(Outcome::Good)
        }
        Err(errors) => {
            print(&format!("{}\n", tenants::in_lines(&errors)))?;
            eprintln!("{}", counted(errors.len().try_into().unwrap_or(u64::MAX), "mistake"));
            Ok(Outcome::Bad)
        }
    }
}

/// What a tenant file defines.
fn summary(file: &str, tenant: &Tenant) -> String {
    let catalog = &tenant.catalog;
    let plans = &catalog.plans;
    let mut rows = Vec::new();
    let mut section = |title: &str, lines: Vec<String>| {
        for (index, line) in lines.into_iter().enumerate() {
            rows.push(vec![if index == 0 { format!("  {title}") } else { String::new() }, line]);
        }
    };
    section("meters", catalog.meters.values().map(meter).collect());
    section("prices", prices(&catalog.prices));
    section("plans", plans.sold().flat_map(|plan| sold(plan)).collect());
    let named = |(name, text): (&str, String)| format!("{name}: {text}");
    section("add-ons", plans.add_ons.values().map(|one| named((&one.name, description::add_on(one)))).collect());
    section("coupons", plans.coupons.values().map(|one| named((&one.code, description::coupon(one)))).collect());
    section("limits", plans.limits.iter().map(|one| named((&one.name, description::limit(one)))).collect());
    section("grants", catalog.grants.iter().map(grant).collect());
    section("packs", catalog.packs.values().map(pack).collect());
    section("taxes", catalog.billing.taxes.iter().map(|one| named((&one.name, description::tax(one)))).collect());
    section(
        "invoices",
        if plans.current.is_empty() { Vec::new() } else { vec![description::billing(&catalog.billing)] },
    );
    section("overage", vec![description::overage(catalog.overage, catalog.currency.as_str())]);
    section("payments", vec![payments(tenant)]);
    let mut text = format!(
        "{file}: tenant {} ({} mode, {}) is in order\n",
        catalog.tenant,
        tenant.mode.as_str(),
        catalog.currency
    );
    text.push_str(&columns(&[], 2, &rows));
    text
}

fn meter(meter: &Meter) -> String {
    let mut text = meter.name.to_string();
    if meter.unit.as_str() != &*meter.name {
        let _ = write!(text, ", in {}", meter.unit);
    }
    if !meter.dimensions.is_empty() {
        let dimensions: Vec<&str> = meter.dimensions.iter().map(String::as_str).collect();
        let _ = write!(text, ", by {}", dimensions.join(" and "));
    }
    if let Some(event_type) = &meter.event_type {
        let counted = meter.property.as_deref().unwrap_or("one for each event");
        let _ = write!(text, ", from {event_type}: {counted}");
    }
    if meter.requires_payment_method {
        text.push_str(", needs a payment method");
    }
    text
}

/// Prices by their meter, those that match more first.
fn prices(prices: &[Arc<Price>]) -> Vec<String> {
    let mut prices: Vec<&Arc<Price>> = prices.iter().collect();
    prices.sort_by_key(|price| price.meter.clone());
    prices.into_iter().map(|price| format!("{}: {}", price.name, description::price(price))).collect()
}

/// A plan, and below it what it has.
fn sold(plan: &Plan) -> Vec<String> {
    let named = description::plan(plan).into_iter().map(|(name, text)| format!("  {name}: {text}"));
    std::iter::once(format!("{} ({})", plan.name, plan.version)).chain(named).collect()
}

fn grant(grant: &GrantTemplate) -> String {
    let when = match grant.on {
        LifeEvent::Created => "for every customer",
        LifeEvent::FirstPaymentMethod => "with the first payment method",
    };
    let lasts = grant.expires_after_days.map(|days| format!(", for {days} days")).unwrap_or_default();
    format!("{}: {} {} {when}{lasts}", grant.name, grant.amount, grant.asset)
}

fn pack(pack: &Pack) -> String {
    let lasts = pack.expires_after_days.map(|days| format!(", for {days} days")).unwrap_or_default();
    format!("{}: {} {} for {}{lasts}", pack.name, pack.amount, pack.asset, pack.price)
}

fn payments(tenant: &Tenant) -> String {
    let connection = &tenant.connection;
    match (&connection.secret_key, tenant.mode) {
        (Some(_), mode) => format!("by stripe, with a key for {} mode", mode.as_str()),
        (None, Mode::Test) => "by the built-in sandbox, because there is no key".to_owned(),
        (None, Mode::Live) => "none: there is no [connection]".to_owned(),
    }
}
