//! Who calls, for every surface: a product's server with an API key, a user of the product with a token, or both at once.
//!
//! It says who it is. What they may do is for the surface to ask.

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;

use crate::app::{App, TenantRuntime};
use crate::auth::{self, Claims, Credentials, CredentialsError, JwtError, KeyRecord, Scope};
use crate::store::{KeyRow, StoreError};

/// Who calls. Everything that may be touched is this tenant's.
#[derive(Clone)]
pub struct Identity {
    /// The tenant.
    pub tenant: Arc<TenantRuntime>,
    /// What the product's server may do, where it has sent its key.
    pub server: Option<Scope>,
    /// What the user's token says, where there is one.
    pub user: Option<Claims>,
}

/// Written by hand, because a tenant cannot be printed.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("server", &self.server).field("user", &self.user).finish_non_exhaustive()
    }
}

/// Why it is not known who calls.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing was presented.
    #[error("send an API key as `Authorization: Bearer` or `X-API-Key`")]
    Missing,
    /// What was presented cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The API key is not one of the tenant's.
    #[error("this API key is not known, or has been revoked")]
    UnknownKey,
    /// There is no tenant here that accepts tokens.
    #[error("no tenant of this server accepts tokens; send an API key")]
    NoTokens,
    /// The token is refused, or cannot be judged now.
    #[error(transparent)]
    Token(#[from] JwtError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IdentityError {
    /// The stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "credentials_missing",
            Self::Credentials(error) => error.code(),
            Self::UnknownKey => "key_unknown",
            Self::NoTokens => "token_not_accepted",
            Self::Token(error) => error.code(),
            Self::Store(_) => "store_unavailable",
        }
    }

    /// Whether nothing is known of the caller because something is out of order here: 503, where all others are 401.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Token(JwtError::KeysUnavailable(_)))
    }
}

impl Identity {
    /// Whoever the one credential of a request belongs to, of any tenant.
    ///
    /// # Errors
    /// As `IdentityError` says.
    pub async fn of_any_tenant(app: &App, headers: &HeaderMap) -> Result<Self, IdentityError> {
        match auth::credentials(headers)? {
            None => Err(IdentityError::Missing),
            Some(Credentials::Key(key)) => by_key(app, key).await,
            Some(Credentials::Token(token)) => by_token(app, token).await,
        }
    }

    /// Whoever the credentials of a request belong to, at a path that is one tenant's. A server's key and a user's token
    /// may come together; both have to be good then.
    ///
    /// # Errors
    /// As `IdentityError` says. Another tenant's key is unknown here.
    pub async fn of_tenant(app: &App, tenant: &Arc<TenantRuntime>, headers: &HeaderMap) -> Result<Self, IdentityError> {
        let presented = auth::presented(headers)?;
        let mut identity = Self { tenant: tenant.clone(), server: None, user: None };
        if let Some(key) = presented.key {
            let found = by_key(app, key).await?;
            if !Arc::ptr_eq(&found.tenant, tenant) {
                return Err(IdentityError::UnknownKey);
            }
            identity.server = found.server;
        }
        if let Some(token) = presented.token {
            let verifier = tenant.jwt.as_ref().ok_or(IdentityError::NoTokens)?;
            identity.user = Some(verifier.verify(token, app.clock.now()).await?);
        }
        if identity.server.is_none() && identity.user.is_none() {
            return Err(IdentityError::Missing);
        }
        Ok(identity)
    }
}

async fn by_key(app: &App, key: &str) -> Result<Identity, IdentityError> {
    let digest = auth::key::digest(key).ok_or(IdentityError::UnknownKey)?;
    let load = async { app.store.find_key(&digest).await?.map(record).transpose() };
    let record = app.keys.get_or_load(digest, Instant::now(), load).await?.ok_or(IdentityError::UnknownKey)?;
    let tenant = app.tenants.get(record.tenant.as_str()).cloned().ok_or(IdentityError::UnknownKey)?;
    Ok(Identity { tenant, server: Some(record.scope), user: None })
}

fn record(row: KeyRow) -> Result<KeyRecord, StoreError> {
    let scope = row.scope.parse().map_err(|_| StoreError::Corrupt("scope of an API key".to_owned()))?;
    Ok(KeyRecord { id: row.id, tenant: row.tenant, scope, name: row.name })
}

/// A token belongs to the one tenant whose settings verify it.
async fn by_token(app: &App, token: &str) -> Result<Identity, IdentityError> {
    let mut refused = IdentityError::NoTokens;
    for tenant in app.tenants.values() {
        let Some(verifier) = &tenant.jwt else { continue };
        match verifier.verify(token, app.clock.now()).await {
            Ok(claims) => return Ok(Identity { tenant: tenant.clone(), server: None, user: Some(claims) }),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}
