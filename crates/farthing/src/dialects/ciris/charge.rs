//! Charges: a use, covered by a free one whatever its size, or else by so many units of the balance.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State as FromState;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use engine::customer::Status;
use engine::id::keyed_id;
use engine::{ChargeRequest, Command, Micros, Refusal};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::account::{Identity, currency_of, identity_shape};
use super::{
    Body, Caller, Ciris, CirisSettings, Failed, Speaker, State, answer, instant, said, text_or_null, units, whole,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::idempotency::fingerprint;
use crate::service::ServiceError;
use crate::store::CustomerRow;

const EXISTING: HeaderName = HeaderName::from_static("x-existing-charge-id");

/// What a charge is said to be about.
const ABOUT: [&str; 4] = ["message_id", "agent_id", "channel_id", "request_id"];

/// A use to be charged.
#[derive(Debug)]
pub(super) struct NewCharge {
    identity: Identity,
    amount_minor: i64,
    currency: String,
    description: String,
    idempotency_key: Option<String>,
    metadata: [Option<String>; 4],
}

impl PartialSchema for NewCharge {
    fn schema() -> RefOr<Schema> {
        let shape = identity_shape().integer("amount_minor", 1).text("currency", 3, 3).text("description", 1, 10_000);
        let shape = shape.optional_text("idempotency_key", 255).texts("metadata", &ABOUT);
        shape.schema(json!({
            "oauth_provider": "oauth:google", "external_id": "user@example.com", "amount_minor": 1, "currency": "USD",
            "description": "Agent interaction", "metadata": {"message_id": "msg-001", "agent_id": "datum"}
        }))
    }
}

impl ToSchema for NewCharge {}

impl Read for NewCharge {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        let amount_minor = fields.required_integer("amount_minor", 1);
        let currency = fields.required_text("currency", 3..=3);
        let description = fields.required_text("description", 1..=10_000);
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        let metadata = fields.object("metadata", |about| ABOUT.map(|name| about.text(name, 0..=255)));
        Some(Self {
            identity: identity?,
            amount_minor: amount_minor?,
            currency: currency?.to_uppercase(),
            description: description?,
            idempotency_key,
            metadata: metadata?,
        })
    }
}

impl NewCharge {
    /// What is kept of it with the charge, as JSON.
    fn kept(&self) -> Value {
        let mut kept = Map::new();
        kept.insert("description".to_owned(), json!(self.description));
        kept.insert("amount_minor".to_owned(), json!(self.amount_minor.to_string()));
        kept.insert("currency".to_owned(), json!(self.currency));
        for (name, text) in ABOUT.iter().zip(&self.metadata) {
            kept.extend(text.as_ref().map(|text| ((*name).to_owned(), json!(text))));
        }
        Value::Object(kept)
    }
}

/// A use that was charged.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Charge {
    charge_id: String,
    account_id: String,
    /// As it was asked for, also where a free use covered it.
    amount_minor: i64,
    currency: String,
    /// What is left of the balance.
    balance_after: i64,
    created_at: String,
    description: String,
    #[schema(value_type = Object)]
    metadata: Value,
}

/// Charge a use
///
/// A free use covers it whatever its amount; otherwise the amount is taken from the balance.
#[utoipa::path(post, path = "/v1/billing/charges", operation_id = "create_charge", tag = "billing", request_body = NewCharge,
    responses((status = 201, body = Charge), (status = 400, body = super::service::Problem), (status = 402, body = super::service::Problem), (status = 409, body = super::service::Problem)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewCharge>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Write)?;
    let began = Instant::now();
    let outcome = charge(&speaker, &body).await;
    let (success, error_type) = match &outcome {
        Ok(_) => ("True", "none"),
        Err((_, error_type)) => ("False", *error_type),
    };
    metrics::counter!("billing_charges_total", "success" => success, "error_type" => error_type).increment(1);
    metrics::histogram!("billing_charge_duration_seconds").record(began.elapsed());
    outcome.map_err(|(failed, _)| failed)
}

/// Charges it; what failed comes with its name in the metrics.
async fn charge(speaker: &Speaker<CirisSettings>, body: &NewCharge) -> Result<Response, (Failed<Ciris>, &'static str)> {
    let spoken = &speaker.spoken;
    let key = spoken.key(&body.identity.native_id());
    let keyed = |given: &String| keyed_id(&key.tenant, &key.external_id, "charge", given);
    let id = body.idempotency_key.as_ref().map(keyed);
    let store = |error: crate::store::StoreError| (error.into(), "store");
    let unknown = || (Refusal::UnknownCustomer.into(), "account_not_found");
    let row = spoken.customer(&key).await.map_err(store)?.ok_or_else(unknown)?;
    // A repeat is told before anything else of the request is looked at, and a suspension before the currency.
    if body.currency != currency_of(&row, &speaker.settings) && row.customer.status == Status::Active {
        if let Some(id) = id
            && spoken.app.store.charge(&spoken.scope_of(&row), (key.shard_key, id)).await.map_err(store)?.is_some()
        {
            return Err((exists(id), "idempotency"));
        }
        return Err((other_currency(&row, body, &speaker.settings), "currency"));
    }
    let amount = units(body.amount_minor).map_err(|refusal| (refusal.into(), "amount"))?;
    let request = ChargeRequest {
        id: id.unwrap_or_else(|| spoken.app.clock.new_id()),
        operation_key: body.idempotency_key.as_deref().map(Arc::from),
        fingerprint: fingerprint(&body.kept()),
        meter: speaker.settings.meter.clone(),
        quantity: Micros::ONE,
        own_amount: Some(amount),
        subject: None,
        dimensions: Default::default(),
        occurred_at: spoken.now(),
        metadata: Some(body.kept().to_string().into()),
    };
    let id = request.id;
    match spoken.execute(&key, Command::Charge(vec![request]), None).await {
        Ok(done) if done.replayed => Err((exists(id), "idempotency")),
        Err(ServiceError::Refused(Refusal::OperationKeyReused)) => Err((exists(id), "idempotency")),
        Ok(done) => {
            let charge = done.charge().ok_or_else(|| (ServiceError::Unavailable.into(), "store"))?;
            metrics::histogram!("billing_charge_amount_minor")
                .record(u32::try_from(body.amount_minor).unwrap_or(u32::MAX));
            Ok(answer(StatusCode::CREATED, view(&row, body, charge)))
        }
        Err(ServiceError::Refused(refusal)) => Err((refusal.clone().into(), refusal.code())),
        Err(error) => Err((error.into(), "unavailable")),
    }
}

fn view(row: &CustomerRow, body: &NewCharge, charge: &engine::Charge) -> Charge {
    let about = ABOUT.iter().zip(&body.metadata);
    Charge {
        charge_id: charge.id.to_string(),
        account_id: row.customer.id.to_string(),
        amount_minor: body.amount_minor,
        currency: body.currency.clone(),
        balance_after: whole(charge.balance_after),
        created_at: instant(charge.recorded_at),
        description: body.description.clone(),
        metadata: about
            .map(|(name, text)| ((*name).to_owned(), text_or_null(text.as_deref())))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// The key was used before, whatever was asked then.
fn exists(id: Uuid) -> Failed<Ciris> {
    let mut response = said(StatusCode::CONFLICT, "Charge already exists");
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(EXISTING, id);
    }
    Failed::with(response)
}

fn other_currency(row: &CustomerRow, body: &NewCharge, settings: &CirisSettings) -> Failed<Ciris> {
    let own = currency_of(row, settings);
    let words = format!("Data integrity error: Currency mismatch: account={own}, charge={}", body.currency);
    Failed::with(said(StatusCode::BAD_REQUEST, &words))
}
