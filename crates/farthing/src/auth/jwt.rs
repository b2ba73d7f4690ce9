//! JSON Web Tokens: how the users of a product read their own billing, with the token that the product's own issuer gave them.
//! Verifies signature, time, issuer and audience (RFC 7519, RFC 8725), and finds the customer in a claim that the tenant names.
//!
//! The algorithm is the tenant's setting and never the token's choice. Time is handed in. Neither errors nor debug output
//! contain anything of a token.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::errors::ErrorKind;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jwks::{KeySet, KeySetError, RemoteKeySet, is_loopback};

/// The shortest shared secret for HS256, in bytes: the size of its hash (RFC 7518, 3.2). A shorter one can be guessed offline
/// from any one token.
const MINIMUM_SECRET_BYTES: usize = 32;

/// The leeway when the tenant sets none, in seconds: clocks of two servers are rarely further apart.
const DEFAULT_LEEWAY_SECONDS: u32 = 60;

/// How an issuer signs its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// HMAC with SHA-256: issuer and farthing share one secret.
    Hs256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// The name in a token's header and in the tenant file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Es256 => Self::ES256,
        }
    }
}

/// Where the keys that verify tokens come from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The secret shared with the issuer, for HS256. At least 32 bytes.
    Secret(String),
    /// A file with the issuer's JSON Web Key Set, read once.
    JwksFile(PathBuf),
    /// The URL of the issuer's JSON Web Key Set: https, or http to this machine.
    JwksUrl(String),
}

/// Written by hand so that a shared secret, or a password in a URL, cannot reach a log.
impl fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => formatter.write_str("Secret(redacted)"),
            Self::JwksFile(path) => formatter.debug_tuple("JwksFile").field(path).finish(),
            Self::JwksUrl(_) => formatter.write_str("JwksUrl(redacted)"),
        }
    }
}

/// What a tenant's tokens must be like: the part of the tenant file about them, as plain data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JwtSettings {
    /// The one algorithm that is accepted.
    pub algorithm: Algorithm,
    /// Where its keys come from.
    pub source: KeySource,
    /// The claim that holds the customer's id, as the tenant knows it.
    pub customer_claim: String,
    /// The claim that holds the id of the user who acts, where the customer has several.
    pub user_claim: String,
    /// The claim that holds the user's e-mail address.
    pub email_claim: String,
    /// The claim that says what the user may do.
    pub role_claim: String,
    /// Whether a shared secret may be shorter than it is safe: for tests alone.
    pub allow_short_secret: bool,
    /// What `iss` must be; when absent it is not looked at.
    pub issuer: Option<String>,
    /// What `aud` must be or contain; when absent it is not looked at.
    pub audience: Option<String>,
    /// By how many seconds the issuer's clock may differ from this one.
    pub leeway_seconds: u32,
}

impl JwtSettings {
    /// Settings with the customer in `sub`, any issuer and audience, and a leeway of 60 seconds.
    #[must_use]
    pub fn new(algorithm: Algorithm, source: KeySource) -> Self {
        Self {
            algorithm,
            source,
            customer_claim: "sub".into(),
            user_claim: "sub".into(),
            email_claim: "email".into(),
            role_claim: "role".into(),
            allow_short_secret: false,
            issuer: None,
            audience: None,
            leeway_seconds: DEFAULT_LEEWAY_SECONDS,
        }
    }
}

impl JwtSettings {
    const fn shortest_secret(&self) -> usize {
        if self.allow_short_secret { 1 } else { MINIMUM_SECRET_BYTES }
    }
}

/// Why settings cannot verify anything. For the operator; it names no secret.
#[derive(Debug, thiserror::Error)]
pub enum JwtSettingsError {
    /// The algorithm does not work with keys from that source.
    #[error(
        "{0} tokens cannot be verified this way: HS256 takes a shared secret, RS256 and ES256 take a JWKS file or URL"
    )]
    SourceMismatch(Algorithm),
    /// The shared secret can be guessed.
    #[error(
        "the shared secret has {bytes} bytes and HS256 needs at least {MINIMUM_SECRET_BYTES}; `openssl rand -base64 32` makes one"
    )]
    SecretTooShort {
        /// How long it is.
        bytes: usize,
    },
    /// The URL is none, or would fetch keys over a connection that anyone on the way can change.
    #[error("the JWKS URL must be a complete https URL, or an http URL of this machine")]
    Url,
    /// The file does not hold a key set of use.
    #[error("the JWKS file {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: KeySetError,
    },
    /// The HTTP client could not be set up, for instance for want of root certificates.
    #[error("the HTTP client that fetches the JWKS could not be set up")]
    Client(#[source] reqwest::Error),
}

/// Why a token is refused. The text is fit for the caller; causes are in the error's source.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JwtError {
    /// It is not a token, or one whose parts do not make sense.
    #[error("the token is not a well-formed signed JWT")]
    Malformed,
    /// Its header names another algorithm than the tenant's.
    #[error("the token must be signed with {expected}")]
    Algorithm {
        /// The tenant's algorithm.
        expected: Algorithm,
    },
    /// No key of the issuer made this signature.
    #[error("the token's signature does not fit any key of the issuer")]
    Signature,
    /// Its time is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A claim that is needed is not there, or is empty.
    #[error("the token has no claim `{claim}`")]
    ClaimMissing {
        /// The claim.
        claim: String,
    },
    /// It comes from another issuer than the tenant's.
    #[error("the token is from another issuer")]
    Issuer,
    /// It is meant for another service.
    #[error("the token is meant for another audience")]
    Audience,
    /// The issuer's keys cannot be had now, so nothing is known of the token: an answer of 503, where all others are 401.
    #[error("tokens cannot be verified at the moment; try again")]
    KeysUnavailable(#[source] Arc<KeySetError>),
}

impl JwtError {
    /// The stable code of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Algorithm { .. } => "token_algorithm",
            Self::Signature => "token_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::ClaimMissing { .. } => "token_claim_missing",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::KeysUnavailable(_) => "token_keys_unavailable",
        }
    }
}

/// What a verified token says.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// The customer, as the tenant knows it. A token without one may still be a user's whose role goes beyond customers.
    pub customer: Option<String>,
    /// The user who acts.
    pub user: Option<String>,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// What the user may do, in the product's words.
    pub role: Option<String>,
    /// All claims, these included.
    pub all: Map<String, Value>,
    customer_claim: String,
}

impl Claims {
    /// The customer, where there has to be one.
    ///
    /// # Errors
    /// [`JwtError::ClaimMissing`] names the claim.
    pub fn require_customer(&self) -> Result<&str, JwtError> {
        self.customer.as_deref().ok_or_else(|| missing(&self.customer_claim))
    }
}

/// Written by hand so that what is known of a person cannot reach a log.
impl fmt::Debug for Claims {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Claims(redacted)")
    }
}

/// Judges the tokens of one tenant. Shared by all requests; a key set at a URL is fetched when it is first needed.
pub struct JwtVerifier {
    settings: JwtSettings,
    keys: Keys,
}

enum Keys {
    Shared(Arc<DecodingKey>),
    File(KeySet),
    Remote(RemoteKeySet),
}

/// The members of a token's header that matter here (RFC 7515, 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl JwtVerifier {
    /// Prepares to verify tokens: reads a key file, fetches nothing.
    ///
    /// # Errors
    /// When the settings contradict each other, the secret is too short, or file or URL is of no use.
    pub fn new(settings: JwtSettings) -> Result<Self, JwtSettingsError> {
        let algorithm = settings.algorithm;
        let keys = match (algorithm, &settings.source) {
            (Algorithm::Hs256, KeySource::Secret(secret)) if secret.len() < settings.shortest_secret() => {
                return Err(JwtSettingsError::SecretTooShort { bytes: secret.len() });
            }
            (Algorithm::Hs256, KeySource::Secret(secret)) => {
                Keys::Shared(Arc::new(DecodingKey::from_secret(secret.as_bytes())))
            }
            (Algorithm::Rs256 | Algorithm::Es256, KeySource::JwksFile(path)) => {
                let keys = std::fs::read(path)
                    .map_err(KeySetError::File)
                    .and_then(|json| KeySet::parse(&json, algorithm))
                    .map_err(|cause| JwtSettingsError::File { path: path.clone(), cause })?;
                Keys::File(keys)
            }
            (Algorithm::Rs256 | Algorithm::Es256, KeySource::JwksUrl(url)) => {
                let url = reqwest::Url::parse(url)
                    .ok()
                    .filter(|url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
                    .ok_or(JwtSettingsError::Url)?;
                Keys::Remote(RemoteKeySet::new(url, algorithm).map_err(JwtSettingsError::Client)?)
            }
            _ => return Err(JwtSettingsError::SourceMismatch(algorithm)),
        };
        Ok(Self { settings, keys })
    }

    /// Verifies a token in the compact form and gives what it says; `now` is what its times are judged against.
    ///
    /// # Errors
    /// [`JwtError::KeysUnavailable`] when the issuer's keys cannot be had; any other kind means that the token is refused.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) =
            message.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(JwtError::Malformed)?;
        let header: Header = decode(header)?;
        let expected = self.settings.algorithm;
        if header.alg != expected.name() {
            return Err(JwtError::Algorithm { expected });
        }
        // `crit` lists extensions without which the token must not be accepted (RFC 7515, 4.1.11); none is known here.
        if header.crit.is_some() {
            return Err(JwtError::Malformed);
        }
        let key = match &self.keys {
            Keys::Shared(key) => key.clone(),
            Keys::File(keys) => keys.find(header.kid.as_deref()).ok_or(JwtError::Signature)?,
            Keys::Remote(keys) => keys.find(header.kid.as_deref(), now).await?,
        };
        // Not `jsonwebtoken::decode`, which judges times by the wall clock.
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, expected.into()) {
            Ok(true) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Base64(_)) => return Err(JwtError::Malformed),
            Ok(false) | Err(_) => return Err(JwtError::Signature),
        }
        self.judge(decode(payload)?, now)
    }

    /// Judges the claims of a token whose signature is good.
    fn judge(&self, claims: Map<String, Value>, now: Timestamp) -> Result<Claims, JwtError> {
        let leeway = i64::from(self.settings.leeway_seconds);
        let expires = numeric_date(&claims, "exp")?.ok_or_else(|| missing("exp"))?;
        if now.as_second() >= expires.saturating_add(leeway) {
            return Err(JwtError::Expired);
        }
        if numeric_date(&claims, "nbf")?.is_some_and(|from| now.as_second() < from.saturating_sub(leeway)) {
            return Err(JwtError::NotYetValid);
        }
        if let Some(issuer) = &self.settings.issuer {
            match present(&claims, "iss")? {
                Value::String(given) if given == issuer => {}
                _ => return Err(JwtError::Issuer),
            }
        }
        if let Some(audience) = &self.settings.audience {
            match present(&claims, "aud")? {
                Value::String(given) if given == audience => {}
                Value::Array(given) if given.iter().any(|one| one == audience) => {}
                _ => return Err(JwtError::Audience),
            }
        }
        Ok(Claims {
            customer: text(&claims, &self.settings.customer_claim)?,
            // A product that does not use these may have something else there.
            user: text(&claims, &self.settings.user_claim).unwrap_or_default(),
            email: text(&claims, &self.settings.email_claim).unwrap_or_default(),
            role: text(&claims, &self.settings.role_claim).unwrap_or_default(),
            customer_claim: self.settings.customer_claim.clone(),
            all: claims,
        })
    }
}

/// Decodes one part of a token, base64url of JSON.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, JwtError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| JwtError::Malformed)
}

fn present<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a Value, JwtError> {
    claims.get(name).filter(|value| !value.is_null()).ok_or_else(|| missing(name))
}

/// A claim that is a text, where it is there and not empty.
fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, JwtError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        // A row number of the product's own database is a common subject.
        Some(Value::Number(id)) if !id.is_f64() => Ok(Some(id.to_string())),
        Some(_) => Err(JwtError::Malformed),
    }
}

fn missing(claim: &str) -> JwtError {
    JwtError::ClaimMissing { claim: claim.into() }
}

/// A time claim in whole seconds since 1970; some libraries write a fraction, which is cut off (RFC 7519, 2).
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, JwtError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let exact = number.to_string().parse::<Decimal>().map_err(|_| JwtError::Malformed)?;
            exact.trunc().to_i64().ok_or(JwtError::Malformed).map(Some)
        }
        Some(_) => Err(JwtError::Malformed),
    }
}

#[cfg(test)]
mod tests;
