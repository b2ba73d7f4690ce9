//! Analytics: reports over a tenant or one of its customers, as JSON or CSV.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::analytics::{
    self, AnalyticsError, ConversionRow, Grouping, PaymentsRow, Range, RecurringRow, RevenueRow, Sheet, SpendingRow,
    UsageRow,
};
use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::parameters::{Named, Parameters};
use crate::api::problem::Problem;
use crate::app::App;
use crate::auth::Scope;
use crate::store;

/// What a report is about, and how it looks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ReportParameters {
    /// From this day in the tenant's time zone, or from this time by RFC 3339; from the beginning of the month where absent.
    #[param(pattern = r"^\d{4}-\d{2}-\d{2}(T.+)?$")]
    from: Option<String>,
    /// Before this day, or before this time; up to now where absent. At most 400 days after `from`.
    #[param(pattern = r"^\d{4}-\d{2}-\d{2}(T.+)?$")]
    to: Option<String>,
    /// What rows are by, with commas between them: `day` or `month`; for usage and spending also `subject` and
    /// `dimension:NAME`; for payments also `failure`; for recurring revenue also `plan`.
    #[param(
        pattern = r"^(day|month|subject|failure|plan|dimension:[A-Za-z0-9_]{1,63})(,(day|month|subject|failure|plan|dimension:[A-Za-z0-9_]{1,63}))*$"
    )]
    group: Option<String>,
    /// `json` or `csv`; as `Accept` says where absent.
    #[param(pattern = "^(json|csv)$")]
    format: Option<String>,
}

/// A report.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Report<T> {
    /// The first instant that it is about.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The first instant after that.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Where its days begin.
    time_zone: String,
    /// Its rows.
    data: Vec<T>,
}

/// Whether the caller accepts CSV and does not ask for JSON as well.
pub(in crate::api) struct AcceptsCsv(bool);

impl<S: Send + Sync> FromRequestParts<S> for AcceptsCsv {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(accepts_csv(&parts.headers)))
    }
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = accepted.flat_map(|value| value.split(',')).map(|part| part.split(';').next().unwrap_or(part).trim());
    first.into_iter().find(|kind| ["text/csv", "application/json", "*/*"].contains(kind)) == Some("text/csv")
}

/// What is asked for, read.
struct Asked {
    range: Range,
    grouping: Grouping,
    csv: bool,
}

impl Asked {
    /// Reads the parameters of a report whose rows may be by these.
    fn read(
        caller: &Caller,
        parameters: &ReportParameters,
        accepts: &AcceptsCsv,
        words: &[&str],
    ) -> Result<Self, Problem> {
        let csv = match parameters.format.as_deref() {
            None => accepts.0,
            Some("csv") => true,
            Some("json") => false,
            Some(_) => return Err(Problem::invalid("invalid_parameter", "`format` is `json` or `csv`").at("format")),
        };
        let grouping =
            parameters.group.as_deref().map_or_else(|| Ok(Grouping::default()), |text| Grouping::parse(text, words))?;
        let (from, to) = (parameters.from.as_deref(), parameters.to.as_deref());
        let range = Range::new(from, to, grouping.step, &caller.catalog().time_zone, caller.now())?;
        Ok(Self { range, grouping, csv })
    }

    fn answer<T: Serialize + Default>(self, data: Vec<T>) -> Result<Response, Problem> {
        if self.csv {
            let text = Sheet::of(&data)?.csv()?;
            let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present")];
            return Ok((StatusCode::OK, kind, text).into_response());
        }
        let Range { from, to, zone, .. } = self.range;
        let time_zone = zone.iana_name().unwrap_or("UTC").to_owned();
        Ok(answer(StatusCode::OK, Report { from, to, time_zone, data }))
    }
}

impl From<AnalyticsError> for Problem {
    fn from(error: AnalyticsError) -> Self {
        match error {
            AnalyticsError::Parameter { name, detail } => Self::invalid("invalid_parameter", detail).at(name),
            AnalyticsError::TooManyRows => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_results", error.to_string())
            }
            AnalyticsError::OutOfRange => engine::Refusal::AmountOutOfRange.into(),
            AnalyticsError::Store(error) => error.into(),
        }
    }
}

/// The whole tenant, for who may see it.
fn whole_tenant(caller: &Caller) -> Result<store::Scope, Problem> {
    caller.require(Scope::Read)?.require_all_customers()?;
    Ok(caller.scope())
}

/// One customer, for who may see it.
async fn one_customer(app: &App, caller: &Caller, id: &str) -> Result<store::Scope, Problem> {
    caller.require(Scope::Read)?;
    Ok(caller.find(app, id).await?.1)
}

/// Revenue of all customers
///
/// What was earned and when, by the ledger, with what was given away and collected beside it.
#[utoipa::path(get, path = "/v1/analytics/revenue", operation_id = "get_revenue_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<RevenueRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn revenue(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month"])?;
    let rows = analytics::revenue(&*app.store, &scope, &asked.range).await?;
    asked.answer(rows)
}

/// Recurring revenue of all customers
///
/// What subscriptions come to in a month, at the end of each period, and how that has changed.
#[utoipa::path(get, path = "/v1/analytics/recurring_revenue", operation_id = "get_recurring_revenue_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<RecurringRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn recurring_revenue(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "plan"])?;
    let rows =
        analytics::recurring_revenue(&*app.store, &scope, caller.catalog(), &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// Usage of all customers
///
/// How much was used of each meter, what it came to, and what covered it.
#[utoipa::path(get, path = "/v1/analytics/usage", operation_id = "get_usage_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<UsageRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "subject", "dimension:NAME"])?;
    let rows = analytics::usage(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// Spending of all customers
///
/// What was charged for each meter, such as by `subject` for each agent.
#[utoipa::path(get, path = "/v1/analytics/spending", operation_id = "get_spending_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<SpendingRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn spending(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "subject", "dimension:NAME"])?;
    let rows = analytics::spending(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// Payments of all customers
///
/// How many worked, why others did not, and what was given back or disputed.
#[utoipa::path(get, path = "/v1/analytics/payments", operation_id = "get_payments_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<PaymentsRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn payments(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "failure"])?;
    let rows = analytics::payments(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// Conversion of all customers
///
/// What has become of the customers who came.
#[utoipa::path(get, path = "/v1/analytics/conversion", operation_id = "get_conversion_analytics", tag = "analytics",
    params(ReportParameters),
    responses((status = 200, content((Report<ConversionRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn conversion(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = whole_tenant(&caller)?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month"])?;
    let rows = analytics::conversion(&*app.store, &scope, &asked.range).await?;
    asked.answer(rows)
}

/// A customer's revenue
///
/// What was earned and when, by the ledger, with what was given away and collected beside it.
#[utoipa::path(get, path = "/v1/customers/{customer}/analytics/revenue", operation_id = "get_customer_revenue_analytics", tag = "analytics",
    params(("customer" = String, Path, description = "Your own id of the customer"), ReportParameters),
    responses((status = 200, content((Report<RevenueRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn customer_revenue(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Named(id): Named,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = one_customer(&app, &caller, &id).await?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month"])?;
    let rows = analytics::revenue(&*app.store, &scope, &asked.range).await?;
    asked.answer(rows)
}

/// A customer's usage
///
/// How much was used of each meter, what it came to, and what covered it.
#[utoipa::path(get, path = "/v1/customers/{customer}/analytics/usage", operation_id = "get_customer_usage_analytics", tag = "analytics",
    params(("customer" = String, Path, description = "Your own id of the customer"), ReportParameters),
    responses((status = 200, content((Report<UsageRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn customer_usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Named(id): Named,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = one_customer(&app, &caller, &id).await?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "subject", "dimension:NAME"])?;
    let rows = analytics::usage(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// A customer's spending
///
/// What was charged for each meter, such as by `subject` for each agent.
#[utoipa::path(get, path = "/v1/customers/{customer}/analytics/spending", operation_id = "get_customer_spending_analytics", tag = "analytics",
    params(("customer" = String, Path, description = "Your own id of the customer"), ReportParameters),
    responses((status = 200, content((Report<SpendingRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn customer_spending(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Named(id): Named,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = one_customer(&app, &caller, &id).await?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "subject", "dimension:NAME"])?;
    let rows = analytics::spending(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}

/// A customer's payments
///
/// How many worked, why others did not, and what was given back or disputed.
#[utoipa::path(get, path = "/v1/customers/{customer}/analytics/payments", operation_id = "get_customer_payments_analytics", tag = "analytics",
    params(("customer" = String, Path, description = "Your own id of the customer"), ReportParameters),
    responses((status = 200, content((Report<PaymentsRow> = "application/json"), (String = "text/csv"))), (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(in crate::api) async fn customer_payments(
    State(app): State<Arc<App>>,
    caller: Caller,
    accepts: AcceptsCsv,
    Named(id): Named,
    Parameters(parameters): Parameters<ReportParameters>,
) -> Result<Response, Problem> {
    let scope = one_customer(&app, &caller, &id).await?;
    let asked = Asked::read(&caller, &parameters, &accepts, &["day", "month", "failure"])?;
    let rows = analytics::payments(&*app.store, &scope, &asked.range, &asked.grouping).await?;
    asked.answer(rows)
}
