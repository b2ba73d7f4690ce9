//! Events: usage that has happened. It is never refused for want of credit: it is recorded, as owed where it must.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use engine::Command;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::body::{Labels, Name, Number, elements, parse, read, require_json};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, LIST, answer, replayed};
use crate::api::problem::Problem;
use crate::api::schema::list_of;
use crate::api::time::Time;
use crate::api::v1::charges::{ChargeView, request};
use crate::app::App;
use crate::auth::Scope;
use crate::event::{self, CloudEvent, Usage, UsageError};
use crate::service::{Request, ServiceError};

/// How many events one request may hold.
const MOST: usize = 1000;

/// A usage fact in the short form: one meter.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer": "acme", "meter": "context_tokens", "quantity": 4808, "id": "request-1"}))]
pub(in crate::api) struct NewEvent {
    /// Who pays: your own id of the customer.
    customer: Name,
    /// What was counted.
    meter: Name,
    /// How much.
    quantity: Number,
    /// When it was used; now where absent.
    time: Option<Time>,
    /// Unique within its customer: a repeat counts once. `Idempotency-Key` may say it instead.
    id: Option<Name>,
    /// Who under the customer used it.
    subject: Option<Name>,
    /// What it was, such as the model: chooses the price.
    #[serde(default)]
    dimensions: Labels,
}

/// A CloudEvent 1.0 in JSON: counted by the meters whose `event_type` is its `type`.
#[derive(Serialize, ToSchema)]
#[schema(as = CloudEvent)]
#[schema(example = json!({"specversion": "1.0", "id": "request-1", "source": "/chat", "type": "llm.request", "subject": "acme", "data": {"context_tokens": 4808, "generated_tokens": 10, "model": "large"}}))]
pub(in crate::api) struct CloudEventSchema {
    /// `1.0`.
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    /// Unique within its source: a repeat counts once.
    #[schema(value_type = Name)]
    id: String,
    /// What sent it.
    #[schema(value_type = Name)]
    source: String,
    /// What happened.
    #[schema(value_type = Name)]
    r#type: String,
    /// The customer; or who under it used it, where `customer` is given.
    #[schema(value_type = Option<Name>)]
    subject: Option<String>,
    /// When it was used.
    #[schema(value_type = Option<Time>)]
    time: Option<String>,
    /// The customer: an extension attribute.
    #[schema(value_type = Option<Name>)]
    customer: Option<String>,
    /// What was used: the properties that meters count, and their dimensions.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

/// One event in either form.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body in the OpenAPI document")]
pub(in crate::api) enum EventBody {
    /// The short form.
    Short(NewEvent),
    /// A CloudEvent.
    Cloud(CloudEventSchema),
}

/// One event, or up to 1,000 in a list.
pub(in crate::api) struct EventsBody;

impl PartialSchema for EventsBody {
    fn schema() -> RefOr<Schema> {
        let many = list_of::<EventBody>(MOST);
        OneOfBuilder::new().item(Ref::from_schema_name(EventBody::name())).item(many).into()
    }
}

impl ToSchema for EventsBody {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((EventBody::name().into_owned(), EventBody::schema()));
        EventBody::schemas(schemas);
    }
}

/// Up to 1,000 CloudEvents.
pub(in crate::api) struct CloudEventsBody;

impl PartialSchema for CloudEventsBody {
    fn schema() -> RefOr<Schema> {
        list_of::<CloudEventSchema>(MOST).into()
    }
}

impl ToSchema for CloudEventsBody {}

/// What an event made.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RecordedEvent {
    /// The status that it would have had on its own.
    status: u16,
    /// One charge for each meter that counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    charges: Option<Vec<ChargeView>>,
    /// Whether it had been recorded before. Absent where the request has an `Idempotency-Key`: its repeat has the first
    /// answer, with the header `idempotency-replayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<bool>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// What many events made, in the order sent.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RecordedEvents {
    /// One for each.
    results: Vec<RecordedEvent>,
}

/// What a request recorded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum Recorded {
    /// For one event.
    One(RecordedEvent),
    /// For a list.
    Many(RecordedEvents),
}

/// Record usage
///
/// One event or a list, each a CloudEvent 1.0 (`application/cloudevents+json`, `application/cloudevents-batch+json` or
/// `application/json`) or in the short form. A list with an event that cannot be recorded at all (an unknown meter or
/// customer, a time in the future) is refused as a whole and records nothing.
#[utoipa::path(post, path = "/v1/events", operation_id = "record_events", tag = "events",
    request_body(content((EventsBody = "application/json"), (CloudEventSchema = "application/cloudevents+json"), (CloudEventsBody = "application/cloudevents-batch+json"))),
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for the id of events that have none")),
    responses((status = 200, body = Recorded)))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    http: HttpRequest,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    require_json(&http, |media| {
        matches!(media, "application/json" | "application/cloudevents+json" | "application/cloudevents-batch+json")
    })?;
    let bytes: Bytes = read(http, &()).await?;
    let list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !list {
        let own = key.get().map(str::to_owned);
        let request = event_request(&app, &caller, &bytes, own, caller.now())?;
        let _under_way = key.enter(&app, &caller, &request.key.external_id)?;
        let (event, repeated) = recorded(&app, &key, request).await?;
        return Ok(replayed(answer(StatusCode::OK, Recorded::One(event)), repeated));
    }
    let _under_way = key.enter(&app, &caller, LIST)?;
    let events = elements(&bytes)?;
    if events.is_empty() || events.len() > MOST {
        return Err(Problem::invalid("invalid_value", format!("expected 1 to {MOST} events")));
    }
    let mut requests = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let own = key.get().map(|key| format!("{key}/{index}"));
        let request = event_request(&app, &caller, event.get().as_bytes(), own, caller.now());
        requests.push(request.map_err(|problem| problem.below(&format!("/{index}")))?);
    }
    let keys: Vec<_> = requests.iter().map(|request| request.key.clone()).collect();
    if let Some(index) = app.service.first_unknown(&keys).await? {
        return Err(Problem::from(engine::Refusal::UnknownCustomer).below(&format!("/{index}")));
    }
    let outcomes = join_all(requests.into_iter().map(|request| recorded(&app, &key, request))).await;
    let repeated = key.get().is_some() && outcomes.iter().all(|outcome| matches!(outcome, Ok((_, true))));
    let results = outcomes.into_iter().enumerate().map(|(index, outcome)| match outcome {
        Ok((event, _)) => event,
        Err(problem) => RecordedEvent {
            status: problem.status().as_u16(),
            charges: None,
            repeated: None,
            problem: Some(problem.below(&format!("/{index}"))),
        },
    });
    let recorded = Recorded::Many(RecordedEvents { results: results.collect() });
    Ok(replayed(answer(StatusCode::OK, recorded), repeated))
}

/// Records an event; and whether it had been recorded before.
async fn recorded(app: &App, http: &IdempotencyKey, request: Request) -> Result<(RecordedEvent, bool), Problem> {
    let key = request.key.clone();
    let outcome = app.service.execute(request).await;
    metrics::counter!("farthing_events_total", "outcome" => match &outcome {
        Ok(done) if done.replayed => "repeated",
        Ok(_) => "recorded",
        Err(ServiceError::Refused(refusal)) => refusal.code(),
        Err(_) => "failed",
    })
    .increment(1);
    let done = outcome?;
    let charges = done.charges.iter().map(|charge| ChargeView::of(charge, &key.external_id, key.shard_key));
    let event = RecordedEvent {
        status: StatusCode::OK.as_u16(),
        charges: Some(charges.collect()),
        repeated: http.get().is_none().then_some(done.replayed),
        problem: None,
    };
    Ok((event, done.replayed))
}

/// The command that records one event, in whichever form it is, at this time.
fn event_request(
    app: &App,
    caller: &Caller,
    bytes: &[u8],
    key: Option<String>,
    now: Timestamp,
) -> Result<Request, Problem> {
    let mut usage = read_usage(caller, bytes)?;
    usage.id = usage.id.or(key);
    usage_request(app, caller, &usage, now)
}

fn usage_request(app: &App, caller: &Caller, usage: &Usage, now: Timestamp) -> Result<Request, Problem> {
    let charges = event::charges(caller.catalog(), usage, now, || app.clock.new_id())?;
    let customer = caller.customer(&usage.customer)?;
    Ok(request(app, caller, customer, Command::Record(charges), now))
}

/// The command that records one event at its own time, which has to lie after one time and not after another.
pub(super) fn event_on_the_way(
    app: &App,
    caller: &Caller,
    bytes: &[u8],
    (after, until): (Timestamp, Timestamp),
) -> Result<Request, Problem> {
    let usage = read_usage(caller, bytes)?;
    let on_the_way = usage.time.filter(|time| *time > after && *time <= until);
    let Some(time) = on_the_way else {
        let detail = format!("`time` has to be given, later than {after} and not later than {until}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_time", detail).at("/time"));
    };
    usage_request(app, caller, &usage, time)
}

fn read_usage(caller: &Caller, bytes: &[u8]) -> Result<Usage, Problem> {
    #[derive(Deserialize)]
    struct Form {
        specversion: Option<IgnoredAny>,
    }
    let form: Form = parse(bytes)?;
    if form.specversion.is_some() {
        return parse::<CloudEvent>(bytes)?.usage(caller.catalog()).map_err(problem);
    }
    let short: NewEvent = parse(bytes)?;
    let usage = Usage {
        id: short.id.map(Name::into_string),
        customer: short.customer.into_string(),
        time: short.time.map(|time| time.0),
        subject: short.subject.map(Name::into_string),
        quantities: vec![(Arc::from(short.meter.as_str()), short.quantity.0)],
        dimensions: short.dimensions.0,
    };
    usage.validate().map_err(problem)?;
    Ok(usage)
}

fn problem(error: UsageError) -> Problem {
    let pointer = match &error {
        UsageError::Text { field } => format!("/{field}"),
        UsageError::ErasedCustomer | UsageError::NoCustomer => "/customer".to_owned(),
        UsageError::NoQuantity | UsageError::MissingProperty { .. } => "/data".to_owned(),
        UsageError::Quantity { name, .. } | UsageError::Dimension { name } | UsageError::DimensionText { name } => {
            format!("/data/{name}")
        }
        UsageError::UnknownType { .. } => "/type".to_owned(),
        UsageError::Time => "/time".to_owned(),
        UsageError::SpecVersion => "/specversion".to_owned(),
    };
    let code = match error {
        UsageError::UnknownType { .. } => "unknown_event_type",
        _ => "invalid_value",
    };
    let status = if code == "unknown_event_type" { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
    Problem::new(status, code, error.to_string()).at(pointer)
}
