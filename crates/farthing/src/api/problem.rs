//! Problems: every refusal and error of the API, by RFC 9457, with a stable code and, where there is one, a pointer to
//! what was wrong. What went wrong inside is logged, never told.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::{Refusal, RefusalKind};
use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::identity::IdentityError;
use crate::service::ServiceError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Problem(Box<Details>);

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Details::schema()
    }
}

impl ToSchema for Problem {}

/// Why a request was not done (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Details {
    /// A name for this kind of problem: `urn:farthing:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The stable code that programs branch on.
    code: String,
    /// What was wrong, and what to do.
    detail: String,
    /// A JSON pointer (RFC 6901) to what was wrong in the body, or the name of the parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// What the amounts below are counted in.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset: Option<String>,
    /// What it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<String>,
    /// What is available.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<String>,
    /// The limit that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    /// What is left of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
    /// When there is more by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    resets_at: Option<jiff::Timestamp>,
}

impl Problem {
    /// A problem with a status, a code and words for people.
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: format!("urn:farthing:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            pointer: None,
            asset: None,
            required: None,
            available: None,
            limit: None,
            left: None,
            resets_at: None,
        }))
    }

    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// The same, with its pointer below `prefix`: for one element of a batch.
    pub(super) fn below(mut self, prefix: &str) -> Self {
        self.0.pointer = Some(match self.0.pointer {
            Some(pointer) if pointer.starts_with('/') => format!("{prefix}{pointer}"),
            _ => prefix.to_owned(),
        });
        self
    }

    pub(super) fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// What was asked for is written down and will be done, but the provider has not answered yet.
    pub(super) fn provider_unavailable() -> Self {
        let detail = "the provider has not answered yet; it is tried again: repeat with the same idempotency key";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", detail)
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    fn amounts(mut self, asset: &engine::Asset, required: engine::Micros, available: Option<engine::Micros>) -> Self {
        self.0.asset = Some(asset.to_string());
        self.0.required = Some(required.to_string());
        self.0.available = available.map(|available| available.to_string());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match (&refusal, refusal.kind()) {
            (Refusal::OperationKeyReused, _) | (_, RefusalKind::Invalid) => StatusCode::UNPROCESSABLE_ENTITY,
            (_, RefusalKind::Missing) => StatusCode::NOT_FOUND,
            (_, RefusalKind::Barred) => StatusCode::FORBIDDEN,
            (_, RefusalKind::Unpaid) => StatusCode::PAYMENT_REQUIRED,
            (_, RefusalKind::Limited) => StatusCode::TOO_MANY_REQUESTS,
            (_, RefusalKind::Conflict) => StatusCode::CONFLICT,
        };
        let pointer = match &refusal {
            Refusal::UnknownCustomer => Some("/customer"),
            Refusal::UnknownPack { .. } => Some("/pack"),
            Refusal::UnknownPlan { .. } => Some("/plan"),
            Refusal::UnknownAddOn { .. } => Some("/add_ons"),
            Refusal::UnknownCoupon { .. } => Some("/coupon"),
            Refusal::CreditTooLarge { .. } | Refusal::RefundTooLarge { .. } => Some("/amount"),
            Refusal::UnknownMeter { .. } => Some("/meter"),
            Refusal::UnknownDimension { .. } | Refusal::NoPrice { .. } => Some("/dimensions"),
            Refusal::UnknownAsset { .. } => Some("/asset"),
            Refusal::TimeInFuture => Some("/time"),
            Refusal::AlreadyExpired => Some("/expires_at"),
            _ => None,
        };
        let mut problem = Self::new(status, refusal.code(), refusal.to_string());
        problem.0.pointer = pointer.map(str::to_owned);
        match &refusal {
            Refusal::InsufficientFunds { asset, required, available }
            | Refusal::HeldByOthers { asset, required, available, .. } => {
                problem.amounts(asset, *required, Some(*available))
            }
            Refusal::PaymentRequired { asset, amount } => problem.amounts(asset, *amount, None),
            Refusal::LimitReached { asset, owed, .. } => problem.amounts(asset, *owed, None),
            Refusal::SpendingLimit { asset, spent, resets_at, .. } => {
                problem.0.resets_at = Some(*resets_at);
                problem.amounts(asset, *spent, None)
            }
            Refusal::LimitExceeded { limit, left, resets_at } => {
                problem.0.limit = Some(limit.clone());
                problem.0.left = Some(left.to_string());
                problem.0.resets_at = *resets_at;
                problem
            }
            _ => problem,
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let unavailable = |code, detail| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        match error {
            ServiceError::Refused(refusal) => refusal.into(),
            ServiceError::Busy => {
                unavailable("busy", "too many requests are waiting; nothing was done, try again shortly")
            }
            ServiceError::Stopping => unavailable("stopping", "the server is stopping; nothing was done, try again"),
            ServiceError::Unavailable => unavailable(
                "store_unavailable",
                "the database did not answer; whether it was done is unknown: try again with the same idempotency key",
            ),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(event = "store_failed", %error);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "the database did not answer; try again")
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        let status = if error.is_ours() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
        match error {
            IdentityError::Store(error) => error.into(),
            error => Self::new(status, error.code(), error.to_string()),
        }
    }
}
