//! Users: who is billed. A user is a customer whose id is the e-mail address that the token says.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use engine::{Command, CustomerChange, Profile};

use super::{Caller, Failed, Failure, Speaker, Speech, SpeechSettings};
use crate::auth::{JwtError, Scope};
use crate::event::validate_customer;
use crate::identity::IdentityError;
use crate::store::{CustomerKey, CustomerRow};

/// The user who calls, and what the product's server may do where it has sent its key too.
pub(super) struct User {
    pub(super) key: CustomerKey,
    server: Option<Scope>,
    profile: Profile,
}

impl FromRequestParts<Arc<Speaker<SpeechSettings>>> for User {
    type Rejection = Failed<Speech>;

    async fn from_request_parts(
        parts: &mut Parts,
        speaker: &Arc<Speaker<SpeechSettings>>,
    ) -> Result<Self, Failed<Speech>> {
        let Caller(identity, _) = Caller::<Speech>::from_request_parts(parts, speaker).await?;
        // A server has usage of its own nowhere here: it speaks for a user.
        let claims = identity.user.ok_or(IdentityError::Missing)?;
        let email = claims.require_customer().map_err(IdentityError::from)?;
        validate_customer(email).map_err(|_| IdentityError::from(JwtError::Malformed))?;
        let user_id = claims.all.get("user_id").filter(|id| id.is_u64() || id.is_string());
        let user_id = user_id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let metadata = user_id.map(|id| ("user_id".to_owned(), id)).into_iter().collect();
        Ok(Self {
            key: speaker.spoken.key(email),
            server: identity.server,
            profile: Profile { email: Some(email.to_owned()), metadata, ..Profile::default() },
        })
    }
}

impl User {
    /// Whether the product's server speaks for the user, with a key that may do as much.
    pub(super) fn is_spoken_for(&self, needed: Scope) -> bool {
        self.server.is_some_and(|scope| scope.allows(needed))
    }

    /// Its customer, where there is one yet.
    pub(super) async fn find(&self, speaker: &Speaker<SpeechSettings>) -> Result<Option<CustomerRow>, Failure> {
        Ok(speaker.spoken.customer(&self.key).await?)
    }

    /// Its customer, created where there is none yet.
    pub(super) async fn find_or_create(&self, speaker: &Speaker<SpeechSettings>) -> Result<CustomerRow, Failure> {
        if let Some(row) = self.find(speaker).await? {
            return Ok(row);
        }
        let change = CustomerChange { profile: Some(self.profile.clone()), ..CustomerChange::default() };
        let done = speaker.spoken.execute(&self.key, Command::Upsert(change), None).await?;
        let row = self.find(speaker).await?.ok_or(Failure::Unavailable)?;
        if done.created {
            tracing::info!(event = "customer_created", customer = %row.customer.id);
        }
        Ok(row)
    }

    /// The caller's notes on a payment, with whose it is: the product's own id of the user, where the token says it. The e-mail
    /// address would be there still when the user is to be forgotten.
    pub(super) fn notes(&self, row: &CustomerRow, mut notes: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let own_id = self.profile.metadata.get("user_id").cloned();
        notes.insert("user_id".to_owned(), own_id.unwrap_or_else(|| row.customer.id.to_string()));
        notes
    }
}
