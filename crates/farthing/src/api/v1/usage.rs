//! Usage: sums by meter, and by window, subject or dimension.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::Micros;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::parameters::{Named, Parameters};
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::api::v1::subscriptions::view::PeriodView;
use crate::app::App;
use crate::auth::Scope;
use crate::store::UsageQuery;

/// The most sums that one answer holds.
const MOST: i64 = 10_000;

/// Which usage, and how it is summed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct UsageParameters {
    /// Used at this time or later; ever where absent.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Time>,
    /// Used before this time; ever where absent.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Time>,
    /// `current`: the billing period under way, of the subscription or else the calendar month, in place of `from` and `to`.
    #[param(pattern = "^current$")]
    period: Option<String>,
    /// Of this meter only.
    meter: Option<String>,
    /// By this subject only.
    subject: Option<String>,
    /// One sum for each `minute`, `hour` or `day`, in UTC; one for the whole time where absent.
    #[param(pattern = "^(minute|hour|day)$")]
    window: Option<String>,
    /// One sum for each `subject`, for each value of a dimension, `dimension:model`, or for both: `subject,dimension:model`.
    #[param(pattern = "^(subject|(subject,)?dimension:[A-Za-z0-9_]{1,63})$")]
    group_by: Option<String>,
}

/// A sum of usage.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct UsageSum {
    /// What was counted.
    meter: String,
    /// What it was priced in.
    asset: String,
    /// When the window began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    window: Option<Timestamp>,
    /// Who used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The dimension's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<String>,
    /// How many charges.
    charges: i64,
    /// How much was used.
    quantity: String,
    /// What it cost.
    amount: String,
}

/// Sums of usage.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Usage {
    /// The billing period, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<PeriodView>,
    /// In the order of their windows.
    data: Vec<UsageSum>,
}

/// A customer's usage
#[utoipa::path(get, path = "/v1/customers/{customer}/usage", operation_id = "get_usage", tag = "usage",
    params(("customer" = String, Path, description = "Your own id of the customer"), UsageParameters),
    responses((status = 200, body = Usage)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
    Parameters(query): Parameters<UsageParameters>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    for (name, text) in [("meter", &query.meter), ("subject", &query.subject), ("group_by", &query.group_by)] {
        if text.as_ref().is_some_and(|text| text.len() > 255 || text.chars().any(char::is_control)) {
            return Err(
                Problem::invalid("invalid_parameter", "expected a plain text of at most 255 characters").at(name)
            );
        }
    }
    let window = query.window.as_deref().map(window).transpose()?;
    let (by_subject, dimension) = groups(query.group_by.as_deref())?;
    let of_period = match query.period.as_deref() {
        None => false,
        Some("current") if query.from.is_none() && query.to.is_none() => true,
        Some(_) => {
            let detail = "`period` is `current`, and excludes `from` and `to`";
            return Err(Problem::invalid("invalid_parameter", detail).at("period"));
        }
    };
    let (row, scope) = caller.find(&app, &id).await?;
    let current = || engine::current_period(caller.catalog(), &row.customer, caller.now());
    let period = of_period.then(current).transpose()?;
    let query = UsageQuery {
        customer: row.customer.id,
        shard_key: row.customer.shard_key,
        from: period.map(|period| period.start).or(query.from.map(|time| time.0)).unwrap_or(Timestamp::UNIX_EPOCH),
        to: period.map(|period| period.end).or(query.to.map(|time| time.0)).unwrap_or(Timestamp::MAX),
        meter: query.meter,
        subject: query.subject,
        window,
        dimension,
        by_subject,
        limit: MOST + 1,
    };
    let rows = app.store.usage(&scope, &query).await.map_err(|error| {
        // What the database refuses of a sum is its size.
        if error.is_rejection() { engine::Refusal::AmountOutOfRange.into() } else { Problem::from(error) }
    })?;
    if i64::try_from(rows.len()).is_ok_and(|found| found > MOST) {
        let detail = format!("that is more than {MOST} sums; ask for a shorter time, a wider window, or one meter");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_results", detail));
    }
    let sum = |row: crate::store::UsageRow| UsageSum {
        meter: row.meter,
        asset: row.asset.to_string(),
        window: row.window,
        subject: row.subject,
        dimension: row.dimension,
        charges: row.charges,
        quantity: text(row.quantity),
        amount: text(row.amount),
    };
    let usage = Usage { period: period.map(PeriodView::of), data: rows.into_iter().map(sum).collect() };
    Ok(answer(StatusCode::OK, usage))
}

/// Whether sums are by subject, and by which dimension.
fn groups(group_by: Option<&str>) -> Result<(bool, Option<String>), Problem> {
    let Some(text) = group_by else { return Ok((false, None)) };
    if text == "subject" {
        return Ok((true, None));
    }
    let (by_subject, rest) = text.strip_prefix("subject,").map_or((false, text), |rest| (true, rest));
    match rest.strip_prefix("dimension:").filter(|name| is_word(name)) {
        Some(name) => Ok((by_subject, Some(name.to_owned()))),
        None => {
            let detail = "`group_by` is `subject`, `dimension:NAME` or `subject,dimension:NAME`";
            Err(Problem::invalid("invalid_parameter", detail).at("group_by"))
        }
    }
}

fn text(micros: Micros) -> String {
    micros.to_string()
}

/// Whether it can be the name of a dimension, as the tenant file spells them. The databases read more into a name with
/// other characters than that.
fn is_word(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The width of a window in microseconds.
fn window(name: &str) -> Result<i64, Problem> {
    let seconds = match name {
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        _ => return Err(Problem::invalid("invalid_parameter", "`window` is `minute`, `hour` or `day`").at("window")),
    };
    Ok(seconds * 1_000_000)
}
