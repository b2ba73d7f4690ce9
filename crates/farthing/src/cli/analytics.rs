//! `farthing analytics`: a report over a tenant, as a table or CSV.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome, columns, print};
use crate::analytics::{self, AnalyticsError, Grouping, Range, Sheet};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Tenant;
use crate::store::{Scope, Store};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which report.
    #[arg(value_enum)]
    report: Report,
    /// From this day in the tenant's time zone, or this time by RFC 3339; from the beginning of the month where absent.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Before this day or time; up to now where absent. At most 400 days after --from.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// What rows are by, such as `month` or `day,subject`.
    #[arg(long, value_name = "WORDS")]
    group: Option<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// A tenant file, as with --tenant-file.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    tenant: TenantArguments,
}

/// The reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Report {
    /// What was earned, by the ledger
    Revenue,
    /// What subscriptions come to in a month
    RecurringRevenue,
    /// How much was used, and what covered it
    Usage,
    /// What each meter cost, such as by subject
    Spending,
    /// How many payments worked, and why others did not
    Payments,
    /// What has become of the customers who came
    Conversion,
}

impl Report {
    /// What its rows may be by.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Revenue | Self::Conversion => &["day", "month"],
            Self::RecurringRevenue => &["day", "month", "plan"],
            Self::Usage | Self::Spending => &["day", "month", "subject", "dimension:NAME"],
            Self::Payments => &["day", "month", "failure"],
        }
    }
}

/// How a report is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Table,
    Csv,
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let mut tenant = arguments.tenant.one_of(&arguments.files)?;
    let store = database.open_existing().await?;
    // Subscriptions stay on versions of plans that the file may not have any more.
    for plan in store.kept_plans(&tenant.catalog.tenant).await.map_err(super::store_failed)? {
        tenant.catalog.plans.versions.entry(plan.version.clone()).or_insert_with(|| plan.into());
    }
    let sheet = sheet(&*store, &tenant, &arguments).await.map_err(|error| match error {
        AnalyticsError::Parameter { name, detail } => Failure::Usage(format!("--{name}: {detail}")),
        AnalyticsError::Store(error) => super::store_failed(error),
        error => Failure::Failed(error.to_string()),
    })?;
    match arguments.format {
        Format::Csv => print(&sheet.csv().map_err(|error| Failure::Failed(error.to_string()))?)?,
        Format::Table if sheet.rows.is_empty() => print("nothing in this time\n")?,
        Format::Table => print(&table(sheet))?,
    }
    Ok(Outcome::Good)
}

async fn sheet(store: &dyn Store, tenant: &Tenant, arguments: &Arguments) -> Result<Sheet, AnalyticsError> {
    let catalog = &tenant.catalog;
    let words = arguments.report.words();
    let grouping =
        arguments.group.as_deref().map_or_else(|| Ok(Grouping::default()), |text| Grouping::parse(text, words))?;
    // Where the tenant's clock is held, up to now is up to then.
    let held = store.test_clock(&catalog.tenant).await?;
    let now = held.unwrap_or_else(|| SystemClock.now());
    let range = Range::new(arguments.from.as_deref(), arguments.to.as_deref(), grouping.step, &catalog.time_zone, now)?;
    let scope = Scope { tenant: catalog.tenant.clone(), customer: None };
    match arguments.report {
        Report::Revenue => Sheet::of(&analytics::revenue(store, &scope, &range).await?),
        Report::RecurringRevenue => {
            Sheet::of(&analytics::recurring_revenue(store, &scope, catalog, &range, &grouping).await?)
        }
        Report::Usage => Sheet::of(&analytics::usage(store, &scope, &range, &grouping).await?),
        Report::Spending => Sheet::of(&analytics::spending(store, &scope, &range, &grouping).await?),
        Report::Payments => Sheet::of(&analytics::payments(store, &scope, &range, &grouping).await?),
        Report::Conversion => Sheet::of(&analytics::conversion(store, &scope, &range).await?),
    }
}

/// The sheet in columns, without those in which nothing stands anywhere.
fn table(sheet: Sheet) -> String {
    let empty = |cell: &str| cell.is_empty() || cell == "0";
    let shown: Vec<usize> = (0..sheet.titles.len())
        .filter(|index| sheet.rows.iter().any(|row| row.get(*index).is_some_and(|cell| !empty(cell))))
        .collect();
    let pick = |row: &Vec<String>| shown.iter().filter_map(|index| row.get(*index).cloned()).collect::<Vec<_>>();
    let titles: Vec<String> = pick(&sheet.titles).iter().map(|title| title.to_uppercase()).collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = sheet.rows.iter().map(pick).collect();
    columns(&titles, titles.len(), &rows)
}
