//! Dialects: the APIs of products that billed by themselves before, at their own paths, with their own names, units, statuses
//! and errors. A tenant that says so in its file is spoken to like this besides the native API.
//!
//! A handler turns a wire shape into a command for the service, or reads from the store, and turns what comes back into the
//! wire shape. A rule here is a fault: what may be done and what it costs is the engine's, and every number is the tenant
//! file's. Each dialect is a folder; what they share is in this one.

mod ciris;
mod detail;
mod document;
mod failure;
mod fields;
mod helppet;
mod orgvoice;
mod parentpilot;
mod schema;
mod speech;
mod spoken;

use std::marker::PhantomData;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use engine::PaymentState;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use utoipa::openapi::OpenApi;

use crate::app::App;
use crate::auth::Scope;
use crate::config;
use crate::identity::{Identity, IdentityError};
use crate::inbound::Inbound;
use failure::{Failed, Failure};
use fields::Read;
use spoken::Spoken;

/// What one dialect is.
trait Dialect: Send + Sync + Sized + 'static {
    /// Says that something was not done, in its status and shape.
    fn render(failure: Failure) -> Response;
}

/// The routes of every dialect that a tenant here speaks.
pub fn router(app: &Arc<App>, inbound: &Inbound) -> Router<Arc<App>> {
    let mut router = Router::new();
    for tenant in app.tenants.values() {
        let spoken = Spoken { app: app.clone(), tenant: tenant.clone(), inbound: inbound.clone() };
        router = match &tenant.dialect {
            None => router,
            Some(config::Dialect::Ciris(settings)) => router.merge(ciris::router(spoken, settings.clone())),
            Some(config::Dialect::Helppet(settings)) => router.merge(helppet::router(spoken, settings.clone())),
            Some(config::Dialect::Orgvoice(settings)) => router.merge(orgvoice::router(spoken, settings.clone())),
            Some(config::Dialect::Parentpilot(settings)) => router.merge(parentpilot::router(spoken, settings.clone())),
            Some(config::Dialect::Speech(settings)) => router.merge(speech::router(spoken, settings.clone())),
        };
    }
    router
}

/// The OpenAPI documents of the dialects that are spoken here, each with its name and the path that it is served at.
#[must_use]
pub fn documents(app: &App) -> Vec<((&'static str, &'static str), OpenApi)> {
    let spoken = app.tenants.values().filter_map(|tenant| tenant.dialect.as_ref());
    let described = spoken.map(|dialect| {
        let (path, document) = match dialect {
            config::Dialect::Ciris(_) => ("/openapi/ciris.json", ciris::document()),
            config::Dialect::Helppet(_) => ("/openapi/helppet.json", helppet::document()),
            config::Dialect::Orgvoice(_) => ("/openapi/orgvoice.json", orgvoice::document()),
            config::Dialect::Parentpilot(_) => ("/openapi/parentpilot.json", parentpilot::document()),
            config::Dialect::Speech(_) => ("/openapi/speech.json", speech::document()),
        };
        ((dialect.name(), path), document)
    });
    described.collect()
}

/// What a router of a dialect is made with: the tenant, and the settings of the dialect.
struct Speaker<S> {
    spoken: Spoken,
    settings: S,
    /// Whether whoever presents nothing may do what a server may: for examples, in test mode.
    allow_anonymous: bool,
}

/// Who calls, where somebody has to be known.
struct Caller<D>(Identity, PhantomData<D>);

impl<D: Dialect, S: Send + Sync> FromRequestParts<Arc<Speaker<S>>> for Caller<D> {
    type Rejection = Failed<D>;

    async fn from_request_parts(parts: &mut Parts, speaker: &Arc<Speaker<S>>) -> Result<Self, Failed<D>> {
        let Spoken { app, tenant, .. } = &speaker.spoken;
        let identity = match Identity::of_tenant(app, tenant, &parts.headers).await {
            Err(IdentityError::Missing) if speaker.allow_anonymous => {
                Identity { tenant: tenant.clone(), server: Some(Scope::Write), user: None }
            }
            identity => identity?,
        };
        Ok(Self(identity, PhantomData))
    }
}

impl<D: Dialect> Caller<D> {
    /// Refuses whoever does not call with a server's key that may do as much.
    fn require(&self, needed: Scope) -> Result<&Identity, Failure> {
        match self.0.server {
            Some(scope) if scope.allows(needed) => Ok(&self.0),
            _ => Err(Failure::Scope(needed)),
        }
    }
}

/// A JSON body, read as the products' own programs read theirs.
struct Body<D, T>(T, PhantomData<D>);

impl<D: Dialect, T: Read, S: Send + Sync> FromRequest<S> for Body<D, T> {
    type Rejection = Failed<D>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed<D>> {
        let Raw(bytes, _) = Raw::<D>::from_request(request, state).await?;
        Ok(Self(fields::parse(&bytes)?, PhantomData))
    }
}

/// The parameters behind the `?`, read likewise.
struct Query<D, T>(T, PhantomData<D>);

impl<D: Dialect, T: Read, S: Send + Sync> FromRequestParts<S> for Query<D, T> {
    type Rejection = Failed<D>;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed<D>> {
        Ok(Self(fields::parse_query(parts.uri.query().unwrap_or_default())?, PhantomData))
    }
}

/// The names in a path; what cannot be one names nothing.
struct Named<D, T>(T, PhantomData<D>);

impl<D: Dialect, T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<D, T> {
    type Rejection = Failed<D>;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed<D>> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        Ok(Self(path.map_err(|_| Failure::NotFound)?.0, PhantomData))
    }
}

/// A body as it came.
struct Raw<D>(Bytes, PhantomData<D>);

impl<D: Dialect, S: Send + Sync> FromRequest<S> for Raw<D> {
    type Rejection = Failed<D>;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failed<D>> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
            BytesRejection::FailedToBufferBody(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Failure::TooLarge
            }
            _ => Failure::Invalid(Vec::new()),
        })?;
        Ok(Self(bytes, PhantomData))
    }
}

/// An instant as these products write it: microseconds, and the offset in digits.
fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// How far a payment is, in Stripe's words.
const fn payment_status(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Pending | PaymentState::RequiresPayment => "requires_payment_method",
        PaymentState::RequiresAction => "requires_action",
        PaymentState::Processing => "processing",
        PaymentState::Paid => "succeeded",
        PaymentState::Failed | PaymentState::Canceled => "canceled",
    }
}
