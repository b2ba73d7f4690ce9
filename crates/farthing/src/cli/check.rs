//! `farthing check`: are these tenant files right, and what do they define? It opens no database.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use engine::{Asset, Catalog, GrantTemplate, LifeEvent, Meter, Model, OveragePolicy, Pack, Price};

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
    let mut rows = Vec::new();
    let mut section = |title: &str, lines: Vec<String>| {
        for (index, line) in lines.into_iter().enumerate() {
            rows.push(vec![if index == 0 { format!("  {title}") } else { String::new() }, line]);
        }
    };
    section("meters", catalog.meters.values().map(meter).collect());
    section("prices", catalog.prices.iter().map(|price| priced(price)).collect());
    section("grants", catalog.grants.iter().map(grant).collect());
    section("packs", catalog.packs.values().map(pack).collect());
    section("overage", vec![overage(catalog)]);
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

fn priced(price: &Price) -> String {
    let (asset, per) = (&price.asset, price.per);
    let units = if per == 1 { "each".to_owned() } else { format!("per {}", super::grouped(per)) };
    let how = match &price.model {
        Model::Flat { amount } => format!("{amount} {asset} for each charge"),
        Model::PerUnit { amount } => format!("{amount} {asset} {units}"),
        Model::Package { size, amount } => format!("{amount} {asset} for each package of {size}"),
        Model::Percentage { percent, .. } => format!("{percent} % of the quantity in {asset}"),
        Model::Graduated { tiers } => format!("graduated in {} tiers, in {asset} {units}", tiers.len()),
        Model::Volume { tiers } => format!("by volume in {} tiers, in {asset} {units}", tiers.len()),
    };
    format!("{}: {how}", price.name)
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

fn overage(catalog: &Catalog) -> String {
    let limit = |asset: &Asset| match catalog.overage.limit {
        Some(limit) => format!("owed, up to {limit} {asset}"),
        None => "owed, whatever the amount".to_owned(),
    };
    match catalog.overage.policy {
        OveragePolicy::Refuse => "refused".to_owned(),
        OveragePolicy::Owe => limit(&catalog.currency),
        OveragePolicy::Ask => "refused with the amount to pay first".to_owned(),
    }
}
