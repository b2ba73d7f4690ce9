//! Usage: what a user has used of each service, what that costs, and how much of it is more than the plan includes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use engine::id::keyed_id;
use engine::period::month_of;
use engine::{ChargeRequest, Command, Feature, Meter, Micros, Period, Refusal, entitlements};
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::plan::Features;
use super::user::User;
use super::{
    Body, Failed, Failure, Query, Speaker, Speech, SpeechSettings, State, answer, cents, failed, number_of,
    operation_key, said, whole, wrong,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::idempotency::fingerprint;
use crate::store::{CustomerRow, UsageQuery, UsageRow};

/// The dimension that says what a use was counted in, in the caller's own word.
const UNIT: &str = "unit";

/// The most that one record is for.
const MOST_USED: i64 = 10_000_000;

/// The most sums that are read at once. There is one for each service, or one for each word that it was counted in.
const MOST_SUMS: i64 = 1_000;

/// Something that was used.
#[derive(Debug)]
pub(super) struct NewUsage {
    service_type: String,
    usage_amount: i64,
    usage_unit: String,
    resource_id: Option<i64>,
    /// In dollars.
    cost_per_unit: Option<Decimal>,
    idempotency_key: Option<String>,
}

impl ToSchema for NewUsage {}

impl PartialSchema for NewUsage {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("service_type", 1, 63).integer("usage_amount", 1).text("usage_unit", 1, 50);
        let shape = shape.optional_integer("resource_id", 0).optional_number("cost_per_unit");
        shape.optional_text("idempotency_key", 255).schema(json!({
            "service_type": "transcription", "usage_amount": 5, "usage_unit": "minutes", "resource_id": 123
        }))
    }
}

impl Read for NewUsage {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let service_type = fields.required_text("service_type", 1..=63);
        let usage_amount = fields.required_integer("usage_amount", 1);
        let usage_amount = fields.at_most("usage_amount", usage_amount, MOST_USED);
        let usage_unit = fields.required_text("usage_unit", 1..=50);
        let resource_id = fields.integer("resource_id", i64::MIN);
        let cost_per_unit = fields.decimal("cost_per_unit");
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        Some(Self {
            service_type: service_type?,
            usage_amount: usage_amount?,
            usage_unit: usage_unit?,
            resource_id,
            cost_per_unit,
            idempotency_key,
        })
    }
}

impl NewUsage {
    fn quantity(&self) -> Result<Micros, Refusal> {
        self.usage_amount.checked_mul(Micros::ONE.get()).map(Micros::new).ok_or(Refusal::AmountOutOfRange)
    }

    /// What it costs where it has a price of its own: exact, and rounded once to what the ledger keeps.
    fn own_amount(&self) -> Result<Option<Micros>, Refusal> {
        let Some(price) = self.cost_per_unit else { return Ok(None) };
        let amount = price.checked_mul(Decimal::from(self.usage_amount)).ok_or(Refusal::AmountOutOfRange)?;
        let amount = amount.round_dp_with_strategy(6, RoundingStrategy::MidpointAwayFromZero);
        Micros::from_decimal(amount).map(Some).map_err(|_| Refusal::AmountOutOfRange)
    }

    fn charge(&self, meter: &Meter, user: &User, key: Option<String>) -> Result<ChargeRequest, Refusal> {
        let dimensions = [(UNIT.to_owned(), self.usage_unit.clone())];
        let asked = (&*meter.name, self.usage_amount, &self.usage_unit, self.resource_id, self.cost_per_unit);
        let keyed = |key: &String| keyed_id(&user.key.tenant, &user.key.external_id, "usage", key);
        let metadata = self.resource_id.map(|id| json!({"resource_id": id}).to_string());
        Ok(ChargeRequest {
            id: key.as_ref().map(keyed).unwrap_or_default(),
            operation_key: key.map(Arc::from),
            fingerprint: fingerprint(&asked),
            meter: meter.name.clone(),
            quantity: self.quantity()?,
            own_amount: self.own_amount()?,
            subject: None,
            dimensions: dimensions.into_iter().filter(|(name, _)| meter.dimensions.contains(name)).collect(),
            occurred_at: jiff::Timestamp::UNIX_EPOCH,
            metadata: metadata.map(Arc::from),
        })
    }
}

/// That a use was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recorded {
    success: bool,
    usage_record_id: i64,
    /// In cents.
    total_cost: i64,
    message: String,
}

/// Record a use
///
/// It has happened, so it is recorded whatever the plan includes. A price of its own takes the API key of a server beside the
/// user's token. The same `Idempotency-Key`, or `idempotency_key`, records once.
#[utoipa::path(post, path = "/payments/record-usage", operation_id = "record_usage", tag = "usage", request_body = NewUsage,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this record")),
    responses((status = 200, body = Recorded)))]
pub(super) async fn record(
    FromState(speaker): State,
    user: User,
    headers: HeaderMap,
    Body(body, _): Body<Speech, NewUsage>,
) -> Result<Response, Failed<Speech>> {
    let spoken = &speaker.spoken;
    if body.cost_per_unit.is_some() && !user.is_spoken_for(Scope::Write) {
        let words = "A price of its own takes the API key of a server beside the user's token";
        return Err(Failed::with(said(StatusCode::FORBIDDEN, words)));
    }
    let meter = service(&speaker, &body.service_type)?;
    let key = operation_key(&headers, body.idempotency_key.as_ref())?;
    let failed = failed("record usage");
    user.find_or_create(&speaker).await.map_err(&failed)?;
    let is_keyed = key.is_some();
    let mut charge = body.charge(meter, &user, key).map_err(|refusal| failed(refusal.into()))?;
    charge.occurred_at = spoken.now();
    if !is_keyed {
        charge.id = spoken.app.clock.new_id();
    }
    let done = spoken.execute(&user.key, Command::Record(vec![charge]), None).await;
    let done = done.map_err(|error| failed(error.into()))?;
    let charge = done.charge().ok_or_else(|| failed(Failure::Unavailable))?;
    tracing::info!(event = "usage_recorded", charge = %charge.id, meter = &*charge.meter);
    Ok(answer(Recorded {
        success: true,
        usage_record_id: number_of(charge.id),
        total_cost: cents(charge.amount),
        message: format!("Recorded {} {} of {}", body.usage_amount, body.usage_unit, body.service_type),
    }))
}

/// What counts a service.
fn service<'s>(speaker: &'s Speaker<SpeechSettings>, name: &str) -> Result<&'s Meter, Failure> {
    let services = &speaker.settings.services;
    let known = services.iter().find(|service| *service.meter == *name);
    match known.and_then(|service| speaker.spoken.catalog().meters.get(&service.meter)) {
        Some(meter) => Ok(meter),
        None => {
            let names: Vec<String> = services.iter().map(|service| format!("'{}'", service.meter)).collect();
            let words = format!("Input should be one of {}", names.join(", "));
            Err(Failure::Invalid(vec![wrong("body", "service_type", &words)]))
        }
    }
}

/// What was used of a service.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) quantity: Micros,
    pub(super) cost: Micros,
    pub(super) unit: String,
    pub(super) records: i64,
}

/// How much of a service was used beyond what the plan includes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overage {
    /// What the plan includes in a month; `null` where it is unlimited.
    limit: Option<i64>,
    /// What was used.
    used: i64,
    /// How much of that is more than is included.
    over: i64,
}

/// By service, for those of which the plan in force says how much a month includes.
pub(super) type Overages = BTreeMap<String, Overage>;

/// What a user used of each service in a period.
pub(super) async fn used(
    speaker: &Speaker<SpeechSettings>,
    row: &CustomerRow,
    period: Period,
) -> Result<BTreeMap<String, Used>, Failure> {
    let query = |dimension: Option<&str>| UsageQuery {
        customer: row.customer.id,
        shard_key: row.customer.shard_key,
        from: period.start,
        to: period.end,
        meter: None,
        subject: None,
        window: None,
        dimension: dimension.map(str::to_owned),
        by_subject: false,
        limit: MOST_SUMS,
    };
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope_of(row));
    let catalog = speaker.spoken.catalog();
    let in_words = store.usage(&scope, &query(Some(UNIT))).await?;
    let mut found: BTreeMap<String, Used> = BTreeMap::new();
    for sum in store.usage(&scope, &query(None)).await? {
        let Some(service) = speaker.settings.services.iter().find(|service| *service.meter == *sum.meter) else {
            continue;
        };
        let unit = unit_of(&in_words, &sum.meter);
        let unit = unit.or_else(|| catalog.meters.get(&service.meter).map(|meter| meter.unit.as_str()));
        let unit = unit.unwrap_or_default().to_owned();
        let nothing = Used { quantity: Micros::ZERO, cost: Micros::ZERO, unit, records: 0 };
        let used = found.entry(sum.meter.clone()).or_insert(nothing);
        used.quantity = used.quantity.plus(sum.quantity)?;
        used.records = used.records.saturating_add(sum.charges);
        if sum.asset == catalog.currency {
            used.cost = used.cost.plus(sum.amount)?;
        }
    }
    Ok(found)
}

/// The word that most uses of a service were counted in.
fn unit_of<'r>(sums: &'r [UsageRow], meter: &str) -> Option<&'r str> {
    let named = sums.iter().filter(|sum| sum.meter == meter);
    let named = named.filter_map(|sum| Some((sum.charges, sum.dimension.as_deref()?)));
    named.max_by_key(|(charges, unit)| (*charges, std::cmp::Reverse(*unit))).map(|(_, unit)| unit)
}

/// What the plan in force says of a user, and what of each service was used beyond that.
pub(super) fn entitled(
    speaker: &Speaker<SpeechSettings>,
    row: &CustomerRow,
    used: &BTreeMap<String, Used>,
) -> Result<(Features, Overages), Failure> {
    let features = entitlements(speaker.spoken.catalog(), &row.customer, speaker.spoken.now())?.features;
    let mut overage = Overages::new();
    for service in &speaker.settings.services {
        let feature = service.included.as_ref().and_then(|name| features.get(name));
        let Some(feature) = feature else { continue };
        let quantity = used.get(&*service.meter).map_or(Micros::ZERO, |used| used.quantity);
        let limit = if let Feature::Number(number) = feature { Some(*number) } else { None };
        let of_it = Overage { limit, used: whole(quantity), over: whole(feature.excess(quantity)?) };
        overage.insert(service.meter.to_string(), of_it);
    }
    Ok((features, overage))
}

/// The month under way.
pub(super) fn this_month(speaker: &Speaker<SpeechSettings>) -> Result<Period, Refusal> {
    month_of(speaker.spoken.now(), &speaker.spoken.catalog().time_zone)
}

/// Which month.
pub(super) struct Wanted {
    billing_period: Option<Date>,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let text = fields.text("billing_period", 0..=7);
        let billing_period = text.as_deref().map(first_of_month);
        if billing_period == Some(None) {
            fields.refuse("billing_period", "value_error", "Value error, a billing period is a month as in 2026-03");
        }
        Some(Self { billing_period: billing_period.flatten() })
    }
}

/// The first day of the month that a text such as `2026-03` means.
fn first_of_month(text: &str) -> Option<Date> {
    let (year, month) = text.split_once('-')?;
    let digits = |part: &str, many: usize| part.len() == many && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
}

/// What was used of a service in a month.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceSummary {
    total_amount: i64,
    /// In cents.
    total_cost: i64,
    unit: String,
    records: i64,
}

/// What was used in a month.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageSummary {
    success: bool,
    /// The month, as in `2026-03`.
    billing_period: String,
    /// By service.
    usage_summary: BTreeMap<String, ServiceSummary>,
    /// In cents.
    total_cost: i64,
    currency: String,
    /// By service, for those of which the plan in force says how much a month includes.
    overage: BTreeMap<String, Overage>,
}

/// What was used in a month
#[utoipa::path(get, path = "/payments/usage-summary", operation_id = "get_usage_summary", tag = "usage",
    params(("billing_period" = Option<String>, Query, description = "The month, as in `2026-03`; the one under way where absent", pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$")),
    responses((status = 200, body = UsageSummary)))]
pub(super) async fn summary(
    FromState(speaker): State,
    user: User,
    Query(wanted, _): Query<Speech, Wanted>,
) -> Result<Response, Failed<Speech>> {
    let summary = summed(&speaker, &user, wanted.billing_period).await;
    Ok(answer(summary.map_err(failed("get usage summary"))?))
}

async fn summed(speaker: &Speaker<SpeechSettings>, user: &User, month: Option<Date>) -> Result<UsageSummary, Failure> {
    let zone = &speaker.spoken.catalog().time_zone;
    let period = match month {
        None => this_month(speaker)?,
        Some(first) => {
            let start = first.to_zoned(zone.clone()).map_err(|_| Refusal::AmountOutOfRange)?;
            month_of(start.timestamp(), zone)?
        }
    };
    let (used, overage) = match user.find(speaker).await? {
        Some(row) => {
            let used = used(speaker, &row, period).await?;
            let (_, overage) = entitled(speaker, &row, &used)?;
            (used, overage)
        }
        None => (BTreeMap::new(), BTreeMap::new()),
    };
    let total = Micros::sum(used.values().map(|used| used.cost))?;
    let view = |(service, used): (String, Used)| {
        let summary = ServiceSummary {
            total_amount: whole(used.quantity),
            total_cost: cents(used.cost),
            unit: used.unit,
            records: used.records,
        };
        (service, summary)
    };
    Ok(UsageSummary {
        success: true,
        billing_period: period.start.to_zoned(zone.clone()).strftime("%Y-%m").to_string(),
        usage_summary: used.into_iter().map(view).collect(),
        total_cost: cents(total),
        currency: speaker.spoken.catalog().currency.as_str().to_lowercase(),
        overage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_written_with_four_and_two_digits() {
        assert_eq!(first_of_month("2026-03").map(|date| date.to_string()).as_deref(), Some("2026-03-01"));
        for wrong in ["", "zzz", "2026", "2026-3", "2026-13", "2026-00", "26-03", "+026-03", "2026-03-01"] {
            assert_eq!(first_of_month(wrong), None, "{wrong}");
        }
    }
}
