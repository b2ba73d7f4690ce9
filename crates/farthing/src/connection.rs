//! Connections: the configured provider of each tenant, made of its file. A tenant in test mode that has no key talks to a
//! sandbox instead, where one is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::app::Connection;
use crate::auth::Secret;
use crate::config::{Mode, Tenant};
use crate::jobs::Providers;
use crate::provider::stripe::{Stripe, StripeSettings, StripeSettingsError};

/// A sandbox that takes the provider's place.
#[derive(Clone, Debug)]
pub struct SandboxAddress {
    /// Where it is.
    pub url: String,
    /// What it signs webhooks with, for tenants that name no secret of their own.
    pub webhook_secret: Secret,
}

/// What tenants' files come to.
#[derive(Debug, Default)]
pub struct Connected {
    /// The provider of each tenant that has one.
    pub providers: Providers,
    /// What surfaces may know of it.
    pub connections: BTreeMap<Arc<str>, Connection>,
    /// The tenants that talk to the sandbox, each with the name of its connection and the secret of its webhook.
    pub in_sandbox: Vec<(Arc<str>, String, Secret)>,
}

/// Why a tenant cannot be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The settings are not right.
    #[error("tenant `{0}`: {1}")]
    Settings(String, StripeSettingsError),
    /// Two tenants have connections of the same name, so a webhook could be either's.
    #[error("tenants `{0}` and `{1}` both call their connection `{2}`; give one another `name` in [connection]")]
    NameTwice(String, String, String),
}

/// Makes the provider of each tenant: with its own key, or else in the sandbox.
///
/// # Errors
/// As `ConnectionError` says.
pub fn connect(tenants: &[Tenant], sandbox: Option<&SandboxAddress>) -> Result<Connected, ConnectionError> {
    let mut connected = Connected::default();
    for tenant in tenants {
        let (settings, name) = (&tenant.connection, &tenant.catalog.tenant);
        let Some(mut stripe) = stripe(tenant, sandbox) else { continue };
        let publishable_key = stripe.publishable_key.clone();
        let connection = settings.name.clone().unwrap_or_else(|| name.to_string());
        if let Some((other, _)) = connected.connections.iter().find(|(_, other)| other.name == connection) {
            return Err(ConnectionError::NameTwice(other.to_string(), name.to_string(), connection));
        }
        if let (None, Some(sandbox)) = (&settings.secret_key, sandbox) {
            let first = stripe.webhook_secrets.first().cloned();
            let secret = first.unwrap_or_else(|| sandbox.webhook_secret.clone());
            if stripe.webhook_secrets.is_empty() {
                stripe.webhook_secrets.push(secret.clone());
            }
            connected.in_sandbox.push((name.clone(), connection.clone(), secret));
        }
        let provider = Stripe::new(stripe).map_err(|error| ConnectionError::Settings(name.to_string(), error))?;
        connected.providers.insert(name.clone(), Arc::new(provider));
        connected.connections.insert(name.clone(), Connection { name: connection, publishable_key });
    }
    Ok(connected)
}

/// How a tenant reaches its provider; nothing where it has neither a key nor a sandbox.
fn stripe(tenant: &Tenant, sandbox: Option<&SandboxAddress>) -> Option<StripeSettings> {
    let settings = &tenant.connection;
    let mut stripe = match (&settings.secret_key, sandbox) {
        (Some(key), _) => StripeSettings::new(key.clone(), tenant.mode == Mode::Live),
        (None, Some(sandbox)) if tenant.mode == Mode::Test => {
            let name = &tenant.catalog.tenant;
            let mut stripe = StripeSettings::new(Secret::new(format!("sk_test_{name}")), false);
            stripe.publishable_key = Some(format!("pk_test_{name}"));
            stripe.base_url.clone_from(&sandbox.url);
            stripe.makes_prices = true;
            stripe
        }
        _ => return None,
    };
    if let Some(url) = &settings.url {
        stripe.base_url.clone_from(url);
    }
    if settings.publishable_key.is_some() {
        stripe.publishable_key.clone_from(&settings.publishable_key);
    }
    stripe.webhook_secrets.clone_from(&settings.webhook_secrets);
    Some(stripe)
}
