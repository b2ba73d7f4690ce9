//! `farthing reconcile`: compares a tenant's payments with the provider's, and repairs what webhooks lost.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::SignedDuration;
use serde::Serialize;

use super::sandbox::BuiltIn;
use super::tenants::TenantArguments;
use super::{Database, Failure, Outcome, columns, counted, print, print_json};
use crate::app::App;
use crate::clock::{Clock as _, SystemClock};
use crate::connection::connect;
use crate::jobs::{Difference, Finding, Jobs};
use crate::service::Settings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How far back the provider's payments are looked at, such as `36h` or `30d`. What is open here is always looked at.
    #[arg(long, default_value = "7d", value_name = "TIME")]
    since: String,
    /// Bring the books up to date where the provider has come further.
    #[arg(long)]
    repair: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// A tenant file, as with --tenant-file.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    tenant: TenantArguments,
    #[command(flatten)]
    sandbox: BuiltIn,
}

/// A difference as scripts read it.
#[derive(Serialize)]
struct View {
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    finding: String,
    repaired: bool,
}

impl View {
    fn of(difference: &Difference) -> Self {
        Self {
            reference: difference.reference.to_string(),
            customer: difference.customer.clone(),
            amount: difference.amount.as_ref().map(ToString::to_string),
            finding: words(difference.finding),
            repaired: difference.repaired,
        }
    }
}

/// A finding in words.
fn words(finding: Finding) -> String {
    match finding {
        Finding::Behind { books, provider } => {
            format!("the books say {}, the provider says {}", books.as_str(), provider.as_str())
        }
        Finding::Refunds => "the provider has given back another sum than the books say".to_owned(),
        Finding::Amount => "the provider has another sum than the books".to_owned(),
        Finding::Subscription { books: Some(books), provider } => {
            format!("a subscription: the books say {}, the provider says {}", books.as_str(), provider.as_str())
        }
        Finding::Subscription { books: None, provider } => {
            format!("a subscription that is {} at the provider is not in the books", provider.as_str())
        }
        Finding::Fee => "the provider has collected a fee that is not in the books".to_owned(),
        Finding::Unknown => "the provider has it under an id of farthing's that is in no book".to_owned(),
    }
}

pub(super) async fn run(database: &Database, arguments: Arguments) -> Result<Outcome, Failure> {
    let back = duration(&arguments.since)?;
    let tenant = arguments.tenant.one_of(&arguments.files)?;
    let name = tenant.catalog.tenant.clone();
    let tenants = vec![tenant];
    let connected = connect(&tenants, arguments.sandbox.elsewhere().as_ref());
    let connected = connected.map_err(|error| Failure::Failed(error.to_string()))?;
    if connected.providers.is_empty() {
        return Err(Failure::Failed(format!("tenant {name} has no payment provider; add [connection] to its file")));
    }
    let store = database.open_existing().await?;
    let app = App::start(store, tenants, connected.connections, Arc::new(SystemClock), Settings::default()).await;
    let app = app.map_err(|error| Failure::Failed(error.to_string()))?;
    let since = SystemClock.now().checked_sub(back);
    let since = since.map_err(|_| Failure::Usage("--since lies before all times".to_owned()))?;
    let jobs = Jobs::new(app.clone(), connected.providers);
    let reconciled = jobs.reconcile(&name, since, arguments.repair).await;
    app.service.stop().await;
    let reconciled = reconciled.map_err(|error| Failure::Failed(error.to_string()))?;
    let views: Vec<View> = reconciled.differences.iter().map(View::of).collect();
    if arguments.json {
        print_json(&views)?;
    } else {
        print(&summary(&views, reconciled.compared))?;
    }
    Ok(if views.iter().all(|view| view.repaired) { Outcome::Good } else { Outcome::Bad })
}

fn summary(views: &[View], compared: usize) -> String {
    let mut text = String::new();
    if !views.is_empty() {
        let row = |view: &View| {
            let customer = view.customer.clone().unwrap_or_default();
            let repaired = if view.repaired { "repaired" } else { "" };
            vec![
                view.reference.clone(),
                customer,
                view.amount.clone().unwrap_or_default(),
                view.finding.clone(),
                repaired.to_owned(),
            ]
        };
        let titles = ["PAYMENT", "CUSTOMER", "AMOUNT", "DIFFERENCE", ""];
        text.push_str(&columns(&titles, titles.len(), &views.iter().map(row).collect::<Vec<_>>()));
    }
    let found = u64::try_from(views.len()).unwrap_or(u64::MAX);
    let compared = u64::try_from(compared).unwrap_or(u64::MAX);
    text.push_str(&format!("{} compared, {}\n", counted(compared, "payment"), counted(found, "difference")));
    text
}

/// A length of time: a number with `m`, `h` or `d` behind it.
fn duration(text: &str) -> Result<SignedDuration, Failure> {
    let wrong = || {
        Failure::Usage(format!("--since is a number of minutes, hours or days, such as 90m, 36h or 30d; not {text}"))
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let seconds = match unit {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(SignedDuration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        let seconds = |text| duration(text).map(|length| length.as_secs()).ok();
        assert_eq!(["90m", "36h", "30d"].map(seconds), [Some(5_400), Some(129_600), Some(2_592_000)]);
        assert_eq!(["", "d", "7", "7w", "-1d", "0h", "1.5h", "9999999999999999d"].map(seconds), [None; 8]);
    }
}
