//! Analytics: what a user's tasks cost, by agent and by day. A task is a usage event, an agent its subject.

use std::collections::BTreeMap;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::Micros;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use rust_decimal::Decimal;
use serde::ser::{Serialize, Serializer};
use serde_json::Number;
use utoipa::ToSchema;

use super::user::User;
use super::{
    Data, Failed, Failure, Parentpilot, ParentpilotSettings, Query, Speaker, State, cents, data, number, or_told, said,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::store::{CustomerRow, Segment, Used, UsedQuery};

/// The most sums that a report is made of.
const MOST_SUMS: i64 = 10_000;

const DAY_SECONDS: i64 = 86_400;

/// Whose tasks are those without an agent.
const NO_AGENT: &str = "unknown";

/// The time that is asked about.
#[derive(Debug)]
pub(super) struct Range {
    /// Its first instant.
    from: Timestamp,
    /// The first one after it; nothing where it goes on.
    to: Option<Timestamp>,
}

impl Read for Range {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut date = |name: &str, is_end: bool| {
            let Some(text) = fields.text(name, 0..=64) else { return Some(None) };
            let at = instant(&text, is_end);
            if at.is_none() {
                fields.refuse(name, "value_error", format!("Invalid {name}"));
            }
            at.map(Some)
        };
        let (from, to) = (date("startDate", false), date("endDate", true));
        Some(Self { from: from?.unwrap_or(Timestamp::UNIX_EPOCH), to: to? })
    }
}

/// The instant that a text says; a day is its beginning, or, as an end, all of it. What an end names is included.
fn instant(text: &str, is_end: bool) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(day) = text.parse::<Date>().map_err(drop).and_then(|day| if text.len() == 10 { Ok(day) } else { Err(()) })
    {
        let day = if is_end { day.checked_add(1.day()).ok()? } else { day };
        return Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp());
    }
    let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let at = text.parse::<Timestamp>().ok().or_else(local)?;
    let at = Timestamp::from_microsecond(at.as_microsecond()).ok()?;
    if is_end { at.checked_add(SignedDuration::from_micros(1)).ok() } else { Some(at) }
}

/// Costs by name, in the order of their rows.
#[derive(Debug, ToSchema)]
#[schema(value_type = BTreeMap<String, i64>)]
struct Costs(Vec<(String, i64)>);

impl Serialize for Costs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, cents)| (name, cents)))
    }
}

/// What tasks cost.
#[derive(Debug, serde::Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    total_cost_cents: i64,
    total_tokens: i64,
    total_execution_time_ms: i64,
    /// In cents.
    cost_by_agent: Costs,
    /// In cents; by days of UTC, such as `Mon Jan 15 2024`.
    cost_by_day: Costs,
    task_count: i64,
    /// In cents.
    #[schema(value_type = f64)]
    average_cost_per_task: Number,
}

/// What a user's tasks cost
///
/// By agent and by day, of the time that is asked about; both ends are included, and a day as a whole.
#[utoipa::path(get, path = "/api/payments/analytics", operation_id = "get_cost_analytics", tag = "billing",
    params(("startDate" = Option<String>, Query, description = "A day such as 2024-01-31, or a time"), ("endDate" = Option<String>, Query, description = "A day, or a time")),
    responses((status = 200, body = Data<Report>)))]
pub(super) async fn get(
    FromState(speaker): State,
    user: User,
    Query(range, _): Query<Parentpilot, Range>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Read)?;
    match report(&speaker, &user, &range).await {
        Ok(Some(report)) => Ok(data(report)),
        Ok(None) => Err(Failed::with(said(StatusCode::BAD_REQUEST, "Choose a shorter time"))),
        Err(failure) => or_told(Err(failure), "Failed to get cost analytics"),
    }
}

/// The report, unless it would be made of too many sums.
async fn report(speaker: &Speaker<ParentpilotSettings>, user: &User, range: &Range) -> Result<Option<Report>, Failure> {
    let (mut by_agent, mut by_day) = (Vec::new(), Vec::new());
    if let Some(row) = user.find(&speaker.spoken).await? {
        by_agent = sums(speaker, &row, range, true).await?;
        by_day = sums(speaker, &row, range, false).await?;
    }
    let too_many = |sums: &Vec<Used>| i64::try_from(sums.len()).is_ok_and(|count| count > MOST_SUMS);
    if too_many(&by_agent) || too_many(&by_day) {
        return Ok(None);
    }
    let counted = |meter: &str| {
        let of_meter = by_agent.iter().filter(|sum| sum.meter == meter);
        of_meter.fold(0_i64, |all, sum| all.saturating_add(sum.quantity)) / Micros::ONE.get()
    };
    let total: i64 = by_agent.iter().map(cost).fold(0, i64::saturating_add);
    let tasks: i64 = by_agent.iter().fold(0, |all, sum| all.saturating_add(sum.charges));
    let agents = costs(&by_agent, |sum| sum.subject.clone().unwrap_or_else(|| NO_AGENT.to_owned()));
    let days = costs(&by_day, |sum| sum.day);
    Ok(Some(Report {
        total_cost_cents: total,
        total_tokens: counted(&speaker.settings.tokens),
        total_execution_time_ms: counted(&speaker.settings.execution),
        cost_by_agent: Costs(agents.into_iter().collect()),
        cost_by_day: Costs(days.into_iter().filter_map(|(day, cost)| Some((name_of(day)?, cost))).collect()),
        task_count: tasks,
        average_cost_per_task: average(total, tasks),
    }))
}

/// What the user used: by subject, or else by day.
async fn sums(
    speaker: &Speaker<ParentpilotSettings>,
    row: &CustomerRow,
    range: &Range,
    by_subject: bool,
) -> Result<Vec<Used>, Failure> {
    let spoken = &speaker.spoken;
    // Events may lie a little ahead of this clock.
    let ahead = SignedDuration::from_secs(DAY_SECONDS);
    let end = spoken.now().checked_add(ahead).unwrap_or(Timestamp::MAX);
    let end = range.to.map_or(end, |to| to.min(end));
    let start = range.from.max(Timestamp::UNIX_EPOCH);
    if start >= end {
        return Ok(Vec::new());
    }
    let label = by_subject.then_some(0);
    let segments = vec![Segment { start, end, offset: 0, label }];
    let query = UsedQuery { segments, by_subject, dimension: None, limit: MOST_SUMS + 1 };
    let used = spoken.app.store.used(&spoken.scope_of(row), &query).await?;
    let currency = spoken.catalog().currency.as_str();
    Ok(used.into_iter().filter(|sum| sum.asset == currency).collect())
}

/// What a sum comes to, in cents.
fn cost(sum: &Used) -> i64 {
    cents(Micros::new(sum.charged.saturating_sub(sum.given_back)))
}

/// Costs by what `name` says, in its order.
fn costs<N: Ord>(sums: &[Used], name: impl Fn(&Used) -> N) -> BTreeMap<N, i64> {
    let mut costs: BTreeMap<N, i64> = BTreeMap::new();
    for sum in sums {
        let known = costs.entry(name(sum)).or_default();
        *known = known.saturating_add(cost(sum));
    }
    costs
}

/// A day by its number since 1 January 1970, as JavaScript's `toDateString` writes it.
fn name_of(day: i64) -> Option<String> {
    let midnight = Timestamp::from_second(day.checked_mul(DAY_SECONDS)?).ok()?;
    Some(midnight.strftime("%a %b %d %Y").to_string())
}

fn average(total: i64, tasks: i64) -> Number {
    Decimal::from(total).checked_div(Decimal::from(tasks)).map_or_else(|| Number::from(0), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_as_an_end_is_included_as_a_whole() {
        for (text, is_end, at) in [
            ("2024-01-01", false, Some("2024-01-01T00:00:00Z")),
            ("2024-01-31", true, Some("2024-02-01T00:00:00Z")),
            ("2024-01-31T12:00:00Z", false, Some("2024-01-31T12:00:00Z")),
            ("2024-01-31T12:00:00.000Z", true, Some("2024-01-31T12:00:00.000001Z")),
            ("2024-01-31T12:00:00+02:00", false, Some("2024-01-31T10:00:00Z")),
            ("2024-01-31T12:00", false, Some("2024-01-31T12:00:00Z")),
            ("2024-02-30", false, None),
            ("soon", false, None),
            ("", true, None),
        ] {
            assert_eq!(instant(text, is_end).map(|at| at.to_string()).as_deref(), at, "{text}");
        }
    }

    #[test]
    fn days_and_averages_are_written_as_the_product_writes_them() {
        assert_eq!(name_of(19_737).as_deref(), Some("Mon Jan 15 2024"));
        assert_eq!([average(0, 0), average(220, 2), average(165, 2)].map(|n| n.to_string()), ["0", "110", "82.5"]);
    }
}
