//! Why a request of a dialect was not done, in nobody's words yet: each dialect gives it a status and a body of its own, by
//! exhaustive match, so that what is new here does not compile until all of them have words for it.

use std::marker::PhantomData;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::report::Failure as ProviderFailure;
use engine::{Refusal, RefusalKind};
use serde::Deserialize;

use super::Dialect;
use super::fields::Invalid;
use crate::auth::Scope;
use crate::identity::IdentityError;
use crate::inbound::InboundError;
use crate::service::ServiceError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not known who calls.
    Identity(IdentityError),
    /// The caller's key may not do as much as this.
    Scope(Scope),
    /// The body is not what it should be: everything that is wrong with it.
    Invalid(Vec<Invalid>),
    /// The body is too large.
    TooLarge,
    /// The engine refused it.
    Refused(Refusal),
    /// Nothing was done, because too much is waiting, or the server is stopping; or whether it was done is unknown.
    Unavailable,
    /// The tenant has no payment provider.
    NoProvider,
    /// The provider has not answered yet; it goes on being tried.
    ProviderUnavailable,
    /// The provider refused it: its code, and words that a customer may read.
    Declined(ProviderFailure),
    /// A webhook is not believed, or could not be kept or applied.
    Webhook(InboundError),
    /// There is nothing at this path.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
}

impl Failure {
    /// Why the provider refused an effect, as the outbox keeps it.
    pub(super) fn of_effect(result: Option<&str>) -> Self {
        #[derive(Deserialize)]
        struct Kept {
            failure: ProviderFailure,
        }
        let kept: Option<Kept> = result.and_then(|text| serde_json::from_str(text).ok());
        kept.map_or(Self::ProviderUnavailable, |kept| Self::Declined(kept.failure))
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Refused(refusal) => Self::Refused(refusal),
            ServiceError::Busy | ServiceError::Stopping | ServiceError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(event = "store_failed", %error);
        Self::Unavailable
    }
}

impl From<InboundError> for Failure {
    fn from(error: InboundError) -> Self {
        match error {
            InboundError::UnknownConnection | InboundError::NoWebhooks => Self::NoProvider,
            error => Self::Webhook(error),
        }
    }
}

impl From<Vec<Invalid>> for Failure {
    fn from(wrong: Vec<Invalid>) -> Self {
        Self::Invalid(wrong)
    }
}

/// A failure on its way out, in the shape of a dialect; in a box, because it is large and rare.
pub(super) struct Failed<D>(Box<Response>, PhantomData<D>);

impl<D: Dialect> Failed<D> {
    /// A dialect's own words, for what it alone refuses.
    pub(super) fn with(response: Response) -> Self {
        Self(Box::new(response), PhantomData)
    }
}

impl<D: Dialect, E: Into<Failure>> From<E> for Failed<D> {
    fn from(error: E) -> Self {
        Self::with(D::render(error.into()))
    }
}

impl<D> IntoResponse for Failed<D> {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The status of a refusal of this kind, where a product has none of its own.
pub(super) const fn status(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Missing => StatusCode::NOT_FOUND,
        RefusalKind::Invalid => StatusCode::BAD_REQUEST,
        RefusalKind::Barred => StatusCode::FORBIDDEN,
        RefusalKind::Unpaid => StatusCode::PAYMENT_REQUIRED,
        RefusalKind::Limited => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Conflict => StatusCode::CONFLICT,
    }
}
