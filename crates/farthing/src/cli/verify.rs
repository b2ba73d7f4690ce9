//! `farthing verify`: prints what the recount finds, and the totals of each tenant.

use clap::Args;
use serde::Serialize;

use super::{Database, Failure, Outcome, columns, counted, print, print_json, store_failed};
use crate::verify::{Difference, Report, Totals, recount};

/// How many differences the JSON form lists; all are counted.
const MOST_LISTED: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// The result as scripts read it.
#[derive(Serialize)]
struct View<'a> {
    customers: u64,
    differences: u64,
    /// At most a thousand.
    found: Vec<Difference>,
    totals: Vec<TotalsView<'a>>,
}

#[derive(Serialize)]
struct TotalsView<'a> {
    tenant: &'a str,
    asset: &'a str,
    #[serde(flatten)]
    totals: &'a Totals,
}

pub(super) async fn run(database: &Database, arguments: &Arguments) -> Result<Outcome, Failure> {
    let store = database.open_existing().await?;
    let mut found = Vec::new();
    let mut printed = Ok(());
    let mut tell = |difference: Difference| {
        if !arguments.json {
            if printed.is_ok() {
                printed = print(&format!("{difference}\n"));
            }
        } else if found.len() < MOST_LISTED {
            found.push(difference);
        }
    };
    let report = recount(&*store, &mut tell).await.map_err(store_failed)?;
    printed?;
    if arguments.json {
        let totals =
            report.totals.iter().map(|((tenant, asset), totals)| TotalsView { tenant, asset: asset.as_str(), totals });
        let (customers, differences) = (report.customers, report.differences);
        print_json(&View { customers, differences, found, totals: totals.collect() })?;
    } else {
        print(&summary(&report))?;
    }
    Ok(if report.differences == 0 { Outcome::Good } else { Outcome::Bad })
}

fn summary(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .totals
        .iter()
        .map(|((tenant, asset), totals)| {
            let amounts = [totals.granted, totals.owed, totals.charged, totals.lapsed, totals.wallets];
            let names = [tenant.clone(), asset.to_string()];
            names.into_iter().chain(amounts.map(|amount| amount.to_string())).collect()
        })
        .collect();
    let mut text = columns(&["TENANT", "ASSET", "GRANTED", "OWED", "CHARGED", "LAPSED", "WALLETS"], 2, &rows);
    let customers = counted(report.customers, "customer");
    text.push_str(&match report.differences {
        0 => format!("{customers} recounted: every wallet, debt and invoice is what the ledger says\n"),
        many => format!("{customers} recounted: {}\n", counted(many, "difference")),
    });
    text
}
