//! Who is asking. Reads the credentials of a request, and offers what judges them: API keys (`key`) for a tenant's own
//! servers, JSON Web Tokens (`jwt`, with the issuer's public keys in `jwks`) for a customer's own reads.
//!
//! It never looks a key up in the store and never decides what a scope may do: the caller hands in the look-up, and each
//! surface asks for the scope it needs. The wall clock is not read here either; every judgement takes the time.

mod jwks;
mod jwt;
pub mod key;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};

pub use jwks::KeySetError;
pub use jwt::{Algorithm, Claims, JwtError, JwtSettings, JwtSettingsError, JwtVerifier, KeySource};
pub use key::{Digest, KeyCache, KeyRecord, Scope, Secret, UnknownScope};

/// The header that carries an API key and nothing else.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// What a request presents to be let in, as it was sent: nothing about it has been verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// An API key: it came in `X-API-Key`, or as a bearer that begins like one.
    Key(&'a str),
    /// Any other bearer: a JSON Web Token, to be verified.
    Token(&'a str),
}

/// Written by hand so that a credential cannot reach a log.
impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Key(_) => "Key(redacted)",
            Self::Token(_) => "Token(redacted)",
        })
    }
}

/// Why the headers of a request cannot be read as credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A header is there and does not hold exactly one key or token.
    #[error(
        "send `Authorization: Bearer <API key or token>` or `X-API-Key: <API key>`, once and with nothing else in it"
    )]
    Malformed,
    /// Both headers are there and disagree.
    #[error("`Authorization` and `X-API-Key` carry different credentials; send one of them")]
    Conflicting,
}

impl CredentialsError {
    /// The stable code of the error.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "credentials_malformed",
            Self::Conflicting => "credentials_conflicting",
        }
    }
}

/// Everything that a request presents, as it was sent: a server may speak for one of its users, with its own key beside the
/// user's token.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Presented<'a> {
    /// An API key.
    pub key: Option<&'a str>,
    /// A JSON Web Token.
    pub token: Option<&'a str>,
}

/// Written by hand so that a credential cannot reach a log.
impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Presented(redacted)")
    }
}

/// Reads the credentials of a request where one is enough; `None` when it carries none.
///
/// # Errors
/// [`CredentialsError::Malformed`] when a header is repeated, empty, or of another scheme than Bearer;
/// [`CredentialsError::Conflicting`] when both headers are given and carry different credentials.
pub fn credentials(headers: &HeaderMap) -> Result<Option<Credentials<'_>>, CredentialsError> {
    match presented(headers)? {
        Presented { key: Some(_), token: Some(_) } => Err(CredentialsError::Conflicting),
        Presented { key: Some(key), token: None } => Ok(Some(Credentials::Key(key))),
        Presented { key: None, token: Some(token) } => Ok(Some(Credentials::Token(token))),
        Presented { key: None, token: None } => Ok(None),
    }
}

/// Reads all credentials of a request.
///
/// # Errors
/// [`CredentialsError::Malformed`] as above; [`CredentialsError::Conflicting`] when there are two different keys.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, CredentialsError> {
    let bearer = match single(headers, &AUTHORIZATION)? {
        Some(value) => Some(bearer(value).ok_or(CredentialsError::Malformed)?),
        None => None,
    };
    match (bearer, single(headers, &API_KEY_HEADER)?) {
        // Both came from the same caller, so how long this comparison takes tells nobody anything.
        (Some(bearer), Some(key)) if bearer == key => Ok(Presented { key: Some(key), token: None }),
        (Some(bearer), Some(_)) if bearer.starts_with(key::PREFIX) => Err(CredentialsError::Conflicting),
        (Some(bearer), None) if bearer.starts_with(key::PREFIX) => Ok(Presented { key: Some(bearer), token: None }),
        (token, key) => Ok(Presented { key, token }),
    }
}

/// The one value of a header. A repeated header is refused, because which one counts is a guess that two servers in a row
/// may make differently.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, CredentialsError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str().map(str::trim) {
            Ok(text) if !text.is_empty() => Ok(Some(text)),
            _ => Err(CredentialsError::Malformed),
        },
        (Some(_), Some(_)) => Err(CredentialsError::Malformed),
    }
}

/// The credential of an `Authorization` header of the Bearer scheme, whose name is case-insensitive (RFC 9110, 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, credential) = authorization.split_once(' ')?;
    let credential = credential.trim_start();
    let well_formed = scheme.eq_ignore_ascii_case("bearer") && !credential.contains(char::is_whitespace);
    well_formed.then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_request_without_either_header_carries_no_credentials() {
        assert_eq!(credentials(&headers(&[("cookie", "a=b")])), Ok(None));
    }

    #[test]
    fn a_bearer_that_begins_like_a_key_is_a_key_and_any_other_is_a_token() {
        for (value, expected) in [
            ("Bearer fk_test_abc", Credentials::Key("fk_test_abc")),
            ("bearer fk_live_abc", Credentials::Key("fk_live_abc")),
            ("BEARER  eyJh.eyJz.c2ln", Credentials::Token("eyJh.eyJz.c2ln")),
        ] {
            assert_eq!(credentials(&headers(&[("authorization", value)])), Ok(Some(expected)), "{value}");
        }
    }

    #[test]
    fn the_key_header_always_carries_a_key() {
        let given = headers(&[("x-api-key", "fk_test_abc")]);
        assert_eq!(credentials(&given), Ok(Some(Credentials::Key("fk_test_abc"))));
    }

    #[test]
    fn both_headers_are_accepted_only_when_they_agree() {
        let agree = headers(&[("authorization", "Bearer fk_test_abc"), ("x-api-key", "fk_test_abc")]);
        assert_eq!(credentials(&agree), Ok(Some(Credentials::Key("fk_test_abc"))));

        let other_key = headers(&[("authorization", "Bearer fk_test_abc"), ("x-api-key", "fk_test_xyz")]);
        assert_eq!(credentials(&other_key), Err(CredentialsError::Conflicting));

        let token_and_key = headers(&[("authorization", "Bearer a.b.c"), ("x-api-key", "fk_test_abc")]);
        assert_eq!(credentials(&token_and_key), Err(CredentialsError::Conflicting));
    }

    #[test]
    fn a_server_may_present_its_key_beside_a_users_token() {
        let both = headers(&[("authorization", "Bearer a.b.c"), ("x-api-key", "fk_test_abc")]);
        assert_eq!(presented(&both), Ok(Presented { key: Some("fk_test_abc"), token: Some("a.b.c") }));
        let two_keys = headers(&[("authorization", "Bearer fk_test_abc"), ("x-api-key", "fk_test_xyz")]);
        assert_eq!(presented(&two_keys), Err(CredentialsError::Conflicting));
        assert_eq!(format!("{:?}", presented(&both).unwrap()), "Presented(redacted)");
    }

    #[test]
    fn malformed_headers_are_refused_and_not_skipped() {
        for pairs in [
            &[("authorization", "Basic dXNlcjpwYXNz")][..],
            &[("authorization", "fk_test_abc")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer one two")],
            &[("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")],
            &[("x-api-key", "")],
            &[("x-api-key", "one"), ("x-api-key", "one")],
            &[("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "fk_test_abc")],
        ] {
            assert_eq!(credentials(&headers(pairs)), Err(CredentialsError::Malformed), "{pairs:?}");
        }
    }

    #[test]
    fn debug_output_hides_the_credential() {
        assert_eq!(format!("{:?}", Credentials::Key("fk_test_abc")), "Key(redacted)");
        assert_eq!(format!("{:?}", Credentials::Token("a.b.c")), "Token(redacted)");
    }
}
