//! Parameters of the path and the query, refused as problems like everything else.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use engine::id::{Kind, PublicId};
use serde::de::DeserializeOwned;

use super::body::Name;
use super::problem::Problem;
use crate::store::OperationRef;

/// The query, read strictly.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|error| Problem::invalid("invalid_parameter", error.body_text()))
    }
}

/// The one name in a path: a customer's own id, or a public id.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut names = names(parts, state).await?;
        names.next().map(Self).ok_or_else(unreadable)
    }
}

/// A customer's own id and the id of something of it.
pub(super) struct NamedOf(pub(super) String, pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for NamedOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut names = names(parts, state).await?;
        names.next().zip(names.next()).map(|(owner, name)| Self(owner, name)).ok_or_else(unreadable)
    }
}

/// The names in a path, in their order.
async fn names<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<impl Iterator<Item = String>, Problem> {
    let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(parameters) = path.map_err(|_| unreadable())?;
    let mut names = Vec::with_capacity(parameters.len());
    for (parameter, name) in parameters {
        let name = Name::new(name).map_err(|why| Problem::invalid("invalid_parameter", why).at(parameter))?;
        names.push(name.into_string());
    }
    Ok(names.into_iter())
}

fn unreadable() -> Problem {
    Problem::invalid("invalid_parameter", "the path holds something that is not UTF-8").at("path")
}

/// A public id of this kind, as bucket and stored id; any other text names nothing.
pub(super) fn public_id(text: &str, kind: Kind) -> Result<OperationRef, Problem> {
    let parsed: Option<PublicId> = text.parse().ok();
    let id = parsed.filter(|id| id.kind == kind).ok_or_else(|| {
        let noun = match kind {
            Kind::Charge => "charge",
            Kind::Hold => "hold",
            Kind::Grant => "grant",
            Kind::Payment => "payment",
            Kind::Purchase => "purchase",
            Kind::Refund => "refund",
            Kind::Subscription => "subscription",
            Kind::Invoice => "invoice",
            Kind::CreditNote => "credit note",
            Kind::Item => "item",
            Kind::Notice => "notice",
            Kind::RecurringCharge => "recurring charge",
        };
        Problem::not_found(&format!("unknown_{}", noun.replace(' ', "_")), format!("there is no {noun} with this id"))
    })?;
    Ok((id.shard_key, id.id))
}
