//! Stripe: a thin client over the few endpoints that farthing needs. The version is pinned here, and every capability is a
//! file of its own.

use std::time::Duration;

use reqwest::Url;

use super::{
    Customers, HostedPages, Invoices, PaymentMethods, Payments, Prices, Provider, ProviderClock, ProviderError,
    Reconciliation, Refunds, Subscriptions, Webhooks,
};
use crate::auth::Secret;
use client::{Client, ClientError};
use error::CallError;

mod amount;
mod client;
mod clock;
mod customers;
mod error;
mod form;
mod hosted_pages;
mod invoices;
mod object;
mod payment_methods;
mod payments;
mod prices;
mod reconciliation;
mod refunds;
#[cfg(test)]
mod script;
mod subscriptions;
mod webhooks;

/// The version of the API that every call asks for, and that webhook endpoints are to be made with
/// (<https://docs.stripe.com/api/versioning>).
pub const API_VERSION: &str = "2026-10-28.endive";

/// Where Stripe is.
pub const BASE_URL: &str = "https://api.stripe.com";

/// How to reach Stripe for one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StripeSettings {
    /// The secret key, or a restricted one: `sk_test_...`, `rk_live_...`.
    pub secret_key: Secret,
    /// The key that the customer's browser uses: `pk_test_...`.
    pub publishable_key: Option<String>,
    /// What webhooks are signed with: `whsec_...`. Several while one replaces another.
    pub webhook_secrets: Vec<Secret>,
    /// Where Stripe is: `BASE_URL`, or a sandbox.
    pub base_url: String,
    /// Whether the tenant bills real money.
    pub live: bool,
    /// Whether prices are made there of what the tenant sells: in a sandbox of the tenant's own.
    pub makes_prices: bool,
    /// How long one attempt of a call may take.
    pub time_out: Duration,
    /// How often a call is tried at most, the first time included.
    pub most_attempts: u32,
    /// The pause after the first attempt; it doubles, up to five seconds.
    pub backoff: Duration,
}

impl StripeSettings {
    /// Settings that fit Stripe itself.
    #[must_use]
    pub fn new(secret_key: Secret, live: bool) -> Self {
        Self {
            secret_key,
            publishable_key: None,
            webhook_secrets: Vec::new(),
            base_url: BASE_URL.to_owned(),
            live,
            makes_prices: false,
            time_out: Duration::from_secs(30),
            most_attempts: 3,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum StripeSettingsError {
    /// There is no key.
    #[error("the secret key is empty")]
    KeyEmpty,
    /// It is something else, such as a publishable key.
    #[error("the secret key does not begin with sk_test_, rk_test_, sk_live_ or rk_live_")]
    KeyUnknown,
    /// A key of the test mode would take no real money.
    #[error("this tenant is live, and its secret key is one of Stripe's test mode")]
    TestKeyInLiveTenant,
    /// A key of the live mode would take real money.
    #[error("this tenant is in test mode, and its secret key is a live one")]
    LiveKeyInTestTenant,
    /// It would be shown to every browser.
    #[error("the publishable key does not begin with {0}; it is shown to every browser")]
    PublishableKey(&'static str),
    /// Anybody could sign with it.
    #[error("a webhook secret is empty")]
    WebhookSecretEmpty,
    /// It is no address.
    #[error("the base URL is not a complete http or https URL without a path")]
    BaseUrl,
    /// A live key goes to Stripe and to nobody else.
    #[error("a live key is sent to {BASE_URL} alone")]
    LiveKeyElsewhere,
    /// The HTTP client cannot be built.
    #[error("the client cannot be built")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Stripe, as one tenant uses it.
#[derive(Debug)]
pub struct Stripe {
    client: Client,
    /// Whether it is Stripe itself, and no sandbox in its place.
    is_stripe: bool,
    makes_prices: bool,
    publishable_key: Option<String>,
    webhook_secrets: Vec<Secret>,
}

impl Stripe {
    /// Prepares to speak with Stripe; asks it nothing yet.
    ///
    /// # Errors
    /// As `StripeSettingsError` says: where test and live would be mixed up, or a secret would be none.
    pub fn new(settings: StripeSettings) -> Result<Self, StripeSettingsError> {
        let base_url = check(&settings)?;
        let client = Client::new(&settings, &base_url).map_err(|error: ClientError| {
            let error: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
            StripeSettingsError::Client(error)
        })?;
        let is_stripe = settings.base_url.trim_end_matches('/') == BASE_URL;
        Ok(Self {
            client,
            is_stripe,
            makes_prices: settings.makes_prices && !is_stripe,
            publishable_key: settings.publishable_key,
            webhook_secrets: settings.webhook_secrets,
        })
    }
}

/// Whether settings may be used; the base URL of them.
fn check(settings: &StripeSettings) -> Result<Url, StripeSettingsError> {
    let key = settings.secret_key.expose();
    if key.trim().is_empty() {
        return Err(StripeSettingsError::KeyEmpty);
    }
    let begins = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let live_key = begins(["sk_live_", "rk_live_"]);
    match (live_key, begins(["sk_test_", "rk_test_"]), settings.live) {
        (true, _, true) | (_, true, false) => {}
        (true, _, false) => return Err(StripeSettingsError::LiveKeyInTestTenant),
        (_, true, true) => return Err(StripeSettingsError::TestKeyInLiveTenant),
        (false, false, _) => return Err(StripeSettingsError::KeyUnknown),
    }
    let prefix = if settings.live { "pk_live_" } else { "pk_test_" };
    if settings.publishable_key.as_ref().is_some_and(|key| !key.starts_with(prefix)) {
        return Err(StripeSettingsError::PublishableKey(prefix));
    }
    if settings.webhook_secrets.iter().any(|secret| secret.expose().trim().is_empty()) {
        return Err(StripeSettingsError::WebhookSecretEmpty);
    }
    let url = Url::parse(&settings.base_url).map_err(|_| StripeSettingsError::BaseUrl)?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !plain || url.password().is_some() || !matches!(url.scheme(), "http" | "https") {
        return Err(StripeSettingsError::BaseUrl);
    }
    let stripe = url.as_str().strip_suffix('/') == Some(BASE_URL);
    if live_key && !stripe { Err(StripeSettingsError::LiveKeyElsewhere) } else { Ok(url) }
}

/// The path of an object. An id that could not be one of Stripe's is not asked for, so that nobody can reach another path
/// with it.
fn object_path(kind: &str, id: &str, action: &str) -> Result<String, CallError> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { Ok(format!("/v1/{kind}/{id}{action}")) } else { Err(ProviderError::NotFound.into()) }
}

impl Provider for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn publishable_key(&self) -> Option<&str> {
        self.publishable_key.as_deref()
    }

    fn customers(&self) -> Option<&dyn Customers> {
        Some(self)
    }

    fn payment_methods(&self) -> Option<&dyn PaymentMethods> {
        Some(self)
    }

    fn payments(&self) -> Option<&dyn Payments> {
        Some(self)
    }

    fn refunds(&self) -> Option<&dyn Refunds> {
        Some(self)
    }

    fn subscriptions(&self) -> Option<&dyn Subscriptions> {
        Some(self)
    }

    fn invoices(&self) -> Option<&dyn Invoices> {
        Some(self)
    }

    fn hosted_pages(&self) -> Option<&dyn HostedPages> {
        Some(self)
    }

    fn webhooks(&self) -> Option<&dyn Webhooks> {
        Some(self)
    }

    fn reconciliation(&self) -> Option<&dyn Reconciliation> {
        Some(self)
    }

    fn prices(&self) -> Option<&dyn Prices> {
        if self.makes_prices { Some(self) } else { None }
    }

    /// Only a sandbox has one: nobody sets the time of Stripe itself.
    fn clock(&self) -> Option<&dyn ProviderClock> {
        if self.is_stripe { None } else { Some(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(key: &str, live: bool) -> StripeSettings {
        StripeSettings::new(Secret::new(key), live)
    }

    #[test]
    fn test_and_live_are_never_mixed_up() {
        for (key, live, refusal) in [
            ("sk_test_1", false, None),
            ("rk_test_1", false, None),
            ("rk_live_1", true, None),
            ("sk_test_1", true, Some("this tenant is live, and its secret key is one of Stripe's test mode")),
            ("sk_live_1", false, Some("this tenant is in test mode, and its secret key is a live one")),
            (" ", false, Some("the secret key is empty")),
            ("pk_test_1", false, Some("the secret key does not begin with sk_test_, rk_test_, sk_live_ or rk_live_")),
        ] {
            let outcome = Stripe::new(settings(key, live)).err().map(|error| error.to_string());
            assert_eq!(outcome.as_deref(), refusal, "{key} {live}");
        }
    }

    #[test]
    fn a_live_key_goes_to_stripe_alone() {
        for elsewhere in ["http://api.stripe.com", "https://api.stripe.com:444", "http://127.0.0.1:12111"] {
            let to = StripeSettings { base_url: elsewhere.to_owned(), ..settings("sk_live_1", true) };
            assert!(matches!(Stripe::new(to), Err(StripeSettingsError::LiveKeyElsewhere)), "{elsewhere}");
        }
        let slash = StripeSettings { base_url: format!("{BASE_URL}/"), ..settings("sk_live_1", true) };
        assert!(Stripe::new(slash).is_ok());
        let sandbox = StripeSettings { base_url: "http://127.0.0.1:12111".to_owned(), ..settings("sk_test_1", false) };
        assert!(Stripe::new(sandbox).is_ok());
        for wrong in ["", "api.stripe.com", "ftp://127.0.0.1", "http://127.0.0.1/v1", "http://key@127.0.0.1"] {
            let to = StripeSettings { base_url: wrong.to_owned(), ..settings("sk_test_1", false) };
            assert!(matches!(Stripe::new(to), Err(StripeSettingsError::BaseUrl)), "{wrong}");
        }
    }

    #[test]
    fn what_browsers_see_and_what_signs_is_looked_at() {
        let shown = StripeSettings { publishable_key: Some("sk_test_1".to_owned()), ..settings("sk_test_1", false) };
        assert!(matches!(Stripe::new(shown), Err(StripeSettingsError::PublishableKey("pk_test_"))));
        let blank = vec![Secret::new("whsec_1"), Secret::new("\n")];
        let blank = StripeSettings { webhook_secrets: blank, ..settings("sk_test_1", false) };
        assert!(matches!(Stripe::new(blank), Err(StripeSettingsError::WebhookSecretEmpty)));
    }

    #[test]
    fn no_secret_reaches_a_log() {
        let mut settings = settings("sk_test_hush", false);
        settings.webhook_secrets.push(Secret::new("whsec_hush"));
        assert!(!format!("{settings:?}").contains("hush"));
        assert!(!format!("{:?}", Stripe::new(settings).unwrap()).contains("hush"));
    }

    #[test]
    fn an_id_cannot_lead_elsewhere() {
        assert_eq!(object_path("refunds", "re_1", "/cancel").unwrap(), "/v1/refunds/re_1/cancel");
        for id in ["", "..", "pi_1/../../x", "pi_1?expand[]=customer", "pi 1"] {
            let outcome = object_path("refunds", id, "").map_err(ProviderError::from);
            assert_eq!(outcome, Err(ProviderError::NotFound), "{id}");
        }
    }
}
