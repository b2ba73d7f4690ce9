//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeat gets the first answer, another body with the
//! same key 422, a repeat while the first is under way 409.
//!
//! For a charge, a hold or a grant the key is its operation key, and the first answer is kept in the same transaction as
//! what it did. A request over many customers has no one transaction: each of its parts gets a key of its own from the
//! request's, and the whole answer is kept after them; a crash in between leaves parts that are found again one by one.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::Text;
use super::caller::Caller;
use super::problem::Problem;
use crate::app::App;
use crate::idempotency::InFlightGuard;
use crate::store::{CustomerKey, Operation};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What the key of a request over many customers is about.
pub(super) const LIST: &str = "";

/// The key of a request, where it has one.
pub(super) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(&KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let text = if values.next().is_none() { value.to_str().unwrap_or_default() } else { "" };
        // The draft makes it a structured string in quotes; most clients send it bare.
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let key = Text::<255>::new(bare.to_owned());
        let invalid = |_| {
            let detail = "an idempotency key is 1 to 255 visible ASCII characters, sent once";
            Problem::invalid("idempotency_key_invalid", detail).at("Idempotency-Key")
        };
        Ok(Self(Some(key.map_err(invalid)?.into_string())))
    }
}

impl IdempotencyKey {
    /// The operation key of a request that makes one thing: the header's, or the body's own.
    pub(super) fn operation_key(&self, own: Option<&str>) -> Result<Option<String>, Problem> {
        match (&self.0, own) {
            (Some(header), Some(own)) if header != own => {
                let detail = "`Idempotency-Key` and `operation_key` differ; send one of them";
                Err(Problem::invalid("operation_key_conflict", detail).at("/operation_key"))
            }
            (Some(key), _) => Ok(Some(key.clone())),
            (None, own) => Ok(own.map(str::to_owned)),
        }
    }

    /// Enters the header's key as under way, for what the request is about: a customer, a hold, or a list (`LIST`).
    pub(super) fn enter<'a>(
        &self,
        app: &'a App,
        caller: &Caller,
        about: &str,
    ) -> Result<Option<InFlightGuard<'a>>, Problem> {
        let Some(key) = &self.0 else { return Ok(None) };
        app.in_flight.enter(caller.tenant(), about, key).map(Some).ok_or_else(|| {
            let detail = "a request with this idempotency key is under way; wait for its answer";
            Problem::new(StatusCode::CONFLICT, "idempotency_key_in_flight", detail).at("Idempotency-Key")
        })
    }

    pub(super) fn get(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Marks an answer that was given before.
pub(super) fn replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The place where the whole answer of a request is kept.
pub(super) struct Kept {
    tenant: String,
    shard_key: i32,
    id: uuid::Uuid,
    fingerprint: i64,
}

impl Kept {
    /// For a request over many customers.
    pub(super) fn of_list(tenant: &str, route: &str, key: &str, fingerprint: i64) -> Self {
        let id = engine::id::keyed_id(tenant, LIST, route, key);
        Self { tenant: tenant.to_owned(), shard_key: engine::id::shard_key(tenant, key), id, fingerprint }
    }

    /// For a request about one customer: kept in its bucket, so that its erasure finds it.
    pub(super) fn of_customer(customer: &CustomerKey, route: &str, key: &str, fingerprint: i64) -> Self {
        let id = engine::id::keyed_id(&customer.tenant, &customer.external_id, route, key);
        Self { tenant: customer.tenant.to_string(), shard_key: customer.shard_key, id, fingerprint }
    }

    /// The first answer, if there is one.
    pub(super) async fn find<T: DeserializeOwned>(&self, app: &App) -> Result<Option<(u16, T)>, Problem> {
        let found = app.store.find_operation(&self.tenant, (self.shard_key, self.id)).await?;
        let Some(operation) = found else { return Ok(None) };
        // The answer about a customer that has been erased since is gone; its key stays used.
        let answer = Some(operation).filter(|operation| operation.fingerprint == self.fingerprint);
        let answer = answer.and_then(|operation| serde_json::from_str(&operation.answer).ok());
        answer.map(Some).ok_or_else(|| Problem::from(engine::Refusal::OperationKeyReused).at("Idempotency-Key"))
    }

    /// Keeps the first answer, with the customer whose personal data it holds.
    pub(super) async fn keep<T: Serialize>(
        &self,
        app: &App,
        customer: Option<uuid::Uuid>,
        status: StatusCode,
        answer: &T,
    ) -> Result<(), Problem> {
        let answer = serde_json::to_string(&(status.as_u16(), answer)).unwrap_or_default();
        let operation = Operation { id: self.id, fingerprint: self.fingerprint, answer };
        let owner = (self.shard_key, customer);
        app.store.keep_operation(&self.tenant, owner, &operation, app.clock.now()).await?;
        Ok(())
    }
}

/// A JSON answer with its status.
pub(super) fn answer<T: Serialize>(status: StatusCode, body: T) -> Response {
    (status, axum::Json(body)).into_response()
}
