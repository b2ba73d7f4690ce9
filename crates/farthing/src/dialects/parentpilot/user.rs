//! Users: who is billed. A user is a customer with the id that the product's server says in `user-id`, and whoever says it has
//! to present a server's key.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use engine::{Entitlements, Refusal, entitlements};

use super::{Caller, Failed, Failure, Parentpilot, ParentpilotSettings, Speaker, said, unauthorized};
use crate::auth::Scope;
use crate::dialects::spoken::Spoken;
use crate::event::validate_customer;
use crate::store::{CustomerKey, CustomerRow};

const USER_ID: HeaderName = HeaderName::from_static("user-id");

/// The user that a request is about.
pub(super) struct User {
    pub(super) key: CustomerKey,
    caller: Caller<Parentpilot>,
}

impl FromRequestParts<Arc<Speaker<ParentpilotSettings>>> for User {
    type Rejection = Failed<Parentpilot>;

    async fn from_request_parts(
        parts: &mut Parts,
        speaker: &Arc<Speaker<ParentpilotSettings>>,
    ) -> Result<Self, Failed<Parentpilot>> {
        let id = user_id(&parts.headers).ok_or_else(|| Failed::with(unauthorized("User ID required")))?;
        let caller = Caller::from_request_parts(parts, speaker).await?;
        if validate_customer(&id).is_err() {
            return Err(Failed::with(said(StatusCode::BAD_REQUEST, "Invalid user ID")));
        }
        Ok(Self { key: speaker.spoken.key(&id), caller })
    }
}

/// Who the request says it is about, where it says so once.
fn user_id(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(&USER_ID).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let id = std::str::from_utf8(only.as_bytes()).ok()?.trim();
    Some(id.to_owned()).filter(|id| !id.is_empty())
}

impl User {
    /// Refuses whoever may not do as much.
    pub(super) fn require(&self, needed: Scope) -> Result<(), Failure> {
        self.caller.require(needed).map(|_| ())
    }

    /// The user's customer, where there is one.
    pub(super) async fn find(&self, spoken: &Spoken) -> Result<Option<CustomerRow>, Failure> {
        Ok(spoken.customer(&self.key).await?)
    }

    /// The user's customer and what the provider calls it, where both have to be there.
    pub(super) async fn payer(&self, spoken: &Spoken) -> Result<(CustomerRow, Arc<str>), Failure> {
        let row = self.find(spoken).await?.ok_or(Refusal::UnknownCustomer)?;
        let reference = row.customer.state.payer.reference.clone().ok_or(Refusal::UnknownCustomer)?;
        Ok((row, reference))
    }
}

/// What a user may do now.
pub(super) fn entitled(spoken: &Spoken, row: &CustomerRow) -> Result<Entitlements, Failure> {
    Ok(entitlements(spoken.catalog(), &row.customer, spoken.now())?)
}
