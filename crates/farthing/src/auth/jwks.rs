//! The public keys by which an issuer's tokens are judged: a JSON Web Key Set (RFC 7517), read from a file once or fetched
//! from the issuer and fetched again when a token names a key that the set lacks.
//!
//! Fetches are bounded in time, size and frequency, so that made-up key ids cannot be turned into load on the issuer. Keys of
//! another algorithm, purpose or strength than the tenant's setting asks for are left out; no token is judged here.

use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use reqwest::{Client, Url};
use tokio::sync::Mutex;

use super::jwt::{Algorithm, JwtError};

/// How long one fetch may take, body included. Requests wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest set that is read, in bytes; real ones have a few thousand.
const BODY_LIMIT: usize = 256 * 1024;

/// The least time between two fetches that succeed, whatever key ids arrive.
const REFETCH_AFTER: Duration = Duration::from_secs(30);

/// The least time between a failed fetch and the next: shorter, because until then customers are turned away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// From this age on a set is fetched again although it has the key, so that a key the issuer withdrew stops working.
const RENEW_AFTER: Duration = Duration::from_secs(600);

/// The RSA moduli that are accepted, in bits: RFC 7518 (3.3) forbids less, the cryptography library does not verify more.
const RSA_MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why a key set cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    File(#[source] std::io::Error),
    /// The issuer did not answer, or not in time.
    #[error("the key set could not be fetched")]
    Request(#[source] reqwest::Error),
    /// The issuer answered with something else than 200; redirections are not followed.
    #[error("the issuer answered with status {0} where 200 was expected")]
    Status(u16),
    /// The answer is larger than any key set.
    #[error("the answer is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    /// The text is no key set.
    #[error("this is not a JSON Web Key Set, an object with an array `keys`")]
    Syntax(#[source] serde_json::Error),
    /// The set has keys, but none that could verify a token.
    #[error(
        "the set has no key for {0}: RSA of 2048 to 4096 bits for RS256, P-256 for ES256, with `use` absent or `sig`"
    )]
    NoUsableKey(Algorithm),
    /// The caller that was fetching went away before the answer came.
    #[error("the fetch was interrupted")]
    Interrupted,
}

/// The keys of a set that can verify tokens of one algorithm.
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
}

struct PublicKey {
    id: Option<String>,
    key: Arc<DecodingKey>,
}

impl KeySet {
    /// Reads a set and keeps the keys that fit; a key that does not, or that nobody here understands, spoils nothing.
    pub(super) fn parse(json: &[u8], algorithm: Algorithm) -> Result<Self, KeySetError> {
        #[derive(serde::Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(json).map_err(KeySetError::Syntax)?;
        let keys: Vec<PublicKey> =
            document.keys.into_iter().filter_map(|value| PublicKey::read(value, algorithm)).collect();
        if keys.is_empty() { Err(KeySetError::NoUsableKey(algorithm)) } else { Ok(Self { keys }) }
    }

    /// The key with this id; without an id, the key when there is exactly one.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<DecodingKey>> {
        let found = match (id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        found.map(|found| found.key.clone())
    }
}

impl PublicKey {
    fn read(value: serde_json::Value, algorithm: Algorithm) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let named = match algorithm {
            Algorithm::Hs256 => return None,
            Algorithm::Rs256 => KeyAlgorithm::RS256,
            Algorithm::Es256 => KeyAlgorithm::ES256,
        };
        let fits = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if algorithm == Algorithm::Rs256 => {
                RSA_MODULUS_BITS.contains(&modulus_bits(&rsa.n)?)
            }
            AlgorithmParameters::EllipticCurve(curve) if algorithm == Algorithm::Es256 => {
                curve.curve == EllipticCurve::P256
            }
            _ => false,
        };
        let common = &jwk.common;
        let usable = fits
            && common.key_algorithm.is_none_or(|stated| stated == named)
            && common.public_key_use.as_ref().is_none_or(|stated| *stated == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|stated| stated.contains(&KeyOperations::Verify));
        let key = usable.then(|| DecodingKey::from_jwk(&jwk).ok())??;
        Some(Self { id: jwk.common.key_id, key: Arc::new(key) })
    }
}

/// The length in bits of a base64url modulus, leading zeros not counted.
fn modulus_bits(modulus: &str) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(modulus).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let zeros = usize::try_from(bytes[first].leading_zeros()).ok()?;
    Some((bytes.len() - first) * 8 - zeros)
}

/// The key set at an issuer's URL: fetched at the first token, kept, and fetched again as the constants above say.
pub(super) struct RemoteKeySet {
    url: Url,
    algorithm: Algorithm,
    client: Client,
    current: RwLock<Option<Fetched>>,
    /// Held during a fetch, so that callers who need one at the same time share it.
    last_attempt: Mutex<Option<Attempt>>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<KeySet>,
    at: Timestamp,
}

struct Attempt {
    at: Timestamp,
    failure: Option<Arc<KeySetError>>,
}

impl RemoteKeySet {
    /// Prepares to fetch from a URL; fetches nothing yet.
    pub(super) fn new(url: Url, algorithm: Algorithm) -> Result<Self, reqwest::Error> {
        crate::tls::install_provider();
        let mut client = Client::builder().timeout(FETCH_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        Ok(Self { url, algorithm, client: client.build()?, current: RwLock::new(None), last_attempt: Mutex::new(None) })
    }

    /// The key that a token names, fetching the set when it is missing, lacks the key or has grown old.
    ///
    /// # Errors
    /// [`JwtError::KeysUnavailable`] when the key is not known and the last fetch failed, [`JwtError::Signature`] when the
    /// issuer's set does not have it.
    pub(super) async fn find(&self, id: Option<&str>, now: Timestamp) -> Result<Arc<DecodingKey>, JwtError> {
        let known = self.lookup(id, now);
        let mut last_attempt = match known {
            Some((key, Age::Fresh)) => return Ok(key),
            // One caller renews an old set; the others go on with it and do not wait.
            Some((key, Age::Old)) => match self.last_attempt.try_lock() {
                Ok(guard) => guard,
                Err(_) => return Ok(key),
            },
            None => self.last_attempt.lock().await,
        };
        // Whoever held the lock before may have fetched the key.
        if let Some((key, Age::Fresh)) = self.lookup(id, now) {
            return Ok(key);
        }
        if last_attempt.as_ref().is_none_or(|attempt| attempt.is_over(now)) {
            // Written down first: a caller that goes away in the middle must not open the way for the next fetch.
            *last_attempt = Some(Attempt { at: now, failure: Some(Arc::new(KeySetError::Interrupted)) });
            let failure = self.fetch_and_keep(now).await.err().map(Arc::new);
            *last_attempt = Some(Attempt { at: now, failure });
        }
        match (self.lookup(id, now), last_attempt.as_ref().and_then(|attempt| attempt.failure.clone())) {
            (Some((key, _)), _) => Ok(key),
            (None, Some(failure)) => Err(JwtError::KeysUnavailable(failure)),
            (None, None) => Err(JwtError::Signature),
        }
    }

    fn lookup(&self, id: Option<&str>, now: Timestamp) -> Option<(Arc<DecodingKey>, Age)> {
        let fetched = self.current.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let age = if elapsed(fetched.at, now) < RENEW_AFTER { Age::Fresh } else { Age::Old };
        fetched.keys.find(id).map(|key| (key, age))
    }

    async fn fetch_and_keep(&self, now: Timestamp) -> Result<(), KeySetError> {
        let outcome = self.fetch().await;
        match outcome {
            Ok(keys) => {
                let fetched = Fetched { keys: Arc::new(keys), at: now };
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
                Ok(())
            }
            Err(failure) => {
                let error: &(dyn Error + 'static) = &failure;
                tracing::warn!(issuer = self.url.host_str(), error, "the keys of a token issuer could not be fetched");
                Err(failure)
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, KeySetError> {
        // A URL may carry a password, and the cause of the error goes to the log.
        let request_failed = |error: reqwest::Error| KeySetError::Request(error.without_url());
        let mut response = self.client.get(self.url.clone()).send().await.map_err(request_failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(KeySetError::Status(response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(request_failed)? {
            if body.len() + chunk.len() > BODY_LIMIT {
                return Err(KeySetError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body, self.algorithm)
    }
}

/// Whether a set is old enough to be fetched again.
enum Age {
    Fresh,
    Old,
}

impl Attempt {
    /// Whether enough time has passed since this attempt for the next.
    fn is_over(&self, now: Timestamp) -> bool {
        let wait = if self.failure.is_some() { RETRY_AFTER } else { REFETCH_AFTER };
        elapsed(self.at, now) >= wait
    }
}

/// The time between two instants. A clock set back counts as time passed, so that it cannot hold off a fetch for long.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).unsigned_abs()
}

/// Whether a URL stays on this machine, where neither TLS nor a proxy has a place.
pub(super) fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{StatusCode, header::LOCATION};
    use serde_json::{Value, json};

    use super::*;

    /// The public halves of the key pairs in the tests of `jwt`, as `openssl` prints them.
    const RSA_MODULUS: &str = concat!(
        "zP15YP8KSUsqX6datvxp5Fo_nCEzwBToda7y_6xnNOsxMvyyf-laGYhwnq4AT3LxPm9IvjhxOT2NUuUzrzAn9f6fEGZW9Z-dK9nb",
        "XteiDqzFrmbc1zcdSkHwSe2Mwu_CrMb9XdTg-oVBcthYbJHap8ND0J2_18IdG6Udo2THDZYBMWD3oCmDTB1oKAJwBN7rYX-vXmdz",
        "fgiYHxZiyHHMQXyl1DqoxmO1-VDuVTecB6xb05AqBsppu3G6i58Z58nlaAjAsHzoL7ytXbTXaKsSbICRl12l82ixaMZbURBTsBzk",
        "SnkG4xK6_zAGRYJcApjLZHgqc3fEOS16GQu0lK53-Q",
    );
    const EC_X: &str = "3o9J8wudgpsosfbh9LHTJ13oHGWU_Xs9diY91ZBE4_4";
    const EC_Y: &str = "PFhoyvay8QS3vdsfZIl2l38laz4nLCqn_chBQkR2lH8";

    pub(in crate::auth) fn rsa_key(id: &str) -> Value {
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": id, "n": RSA_MODULUS, "e": "AQAB"})
    }

    pub(in crate::auth) fn ec_key(id: &str) -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": EC_X, "y": EC_Y})
    }

    /// A key with some members replaced.
    fn with(mut key: Value, members: Value) -> Value {
        key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        key
    }

    fn parse(keys: &[Value], algorithm: Algorithm) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), algorithm)
    }

    /// An issuer on this machine, whose answer can be changed and whose requests are counted.
    pub(in crate::auth) struct Issuer {
        pub(in crate::auth) url: String,
        answer: Arc<RwLock<(StatusCode, String)>>,
        requests: Arc<AtomicUsize>,
    }

    impl Issuer {
        pub(in crate::auth) async fn serving(keys: &[Value]) -> Self {
            let (answer, requests) = (Arc::new(RwLock::default()), Arc::new(AtomicUsize::new(0)));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
            let issuer = Self { url, answer: Arc::clone(&answer), requests: Arc::clone(&requests) };
            issuer.serve(keys);
            let handler = move || async move {
                requests.fetch_add(1, Ordering::Relaxed);
                // Long enough for callers that arrive together to be together.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let (status, body) = answer.read().unwrap().clone();
                if body == "hang" {
                    std::future::pending::<()>().await;
                }
                (status, [(LOCATION, "/elsewhere")], body)
            };
            let router = axum::Router::new().route("/jwks.json", axum::routing::get(handler));
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            issuer
        }

        pub(in crate::auth) fn serve(&self, keys: &[Value]) {
            self.answer_with(StatusCode::OK, &json!({"keys": keys}).to_string());
        }

        fn answer_with(&self, status: StatusCode, body: &str) {
            *self.answer.write().unwrap() = (status, body.to_owned());
        }

        pub(in crate::auth) fn requests(&self) -> usize {
            self.requests.load(Ordering::Relaxed)
        }

        fn keys(&self) -> RemoteKeySet {
            RemoteKeySet::new(self.url.parse().unwrap(), Algorithm::Es256).unwrap()
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    #[test]
    fn only_keys_for_the_algorithm_are_kept() {
        let weak = "wjmAZd4E5N82rwqg-_GaTkfN_-6qkqpBuMNHh4NcUGh8t-jDtwd8FbTWYvfSXhWNJtFSpZIDzCaqMhGmDq2RhkkDpZQtDTfDJa5dK_\
                    Pa_b_ELd9nmPfH4pZ6peGnaWMfPuEmLEc8nEjSueiCz3XWjEoeM9fgpxdVCsBodSzVXos";
        for unusable in [
            ec_key("another algorithm's"),
            with(rsa_key("for encryption"), json!({"use": "enc"})),
            with(rsa_key("for signing only"), json!({"key_ops": ["sign"]})),
            with(rsa_key("for RS512"), json!({"alg": "RS512"})),
            with(rsa_key("of 1024 bits"), json!({"n": weak})),
            with(rsa_key("of no bits"), json!({"n": ""})),
            with(rsa_key("of 8192 bits"), json!({"n": URL_SAFE_NO_PAD.encode([255; 1024])})),
            with(rsa_key("not base64url"), json!({"n": "+/"})),
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": EC_X, "kid": "of Edwards' curve"}),
            json!({"kty": "of the future", "kid": "unknown"}),
            json!("not even an object"),
        ] {
            let alone = parse(std::slice::from_ref(&unusable), Algorithm::Rs256);
            assert!(matches!(alone, Err(KeySetError::NoUsableKey(Algorithm::Rs256))), "{unusable}");

            let beside_a_good_one = parse(&[unusable.clone(), rsa_key("good")], Algorithm::Rs256).unwrap();
            assert!(beside_a_good_one.find(Some("good")).is_some(), "{unusable}");
            assert!(beside_a_good_one.find(unusable["kid"].as_str()).is_none() || unusable["kid"].is_null());
        }
        let other_curve = with(ec_key("P-384"), json!({"crv": "P-384"}));
        assert!(matches!(parse(&[other_curve], Algorithm::Es256), Err(KeySetError::NoUsableKey(_))));
    }

    #[test]
    fn a_token_without_a_key_id_is_judged_only_by_the_only_key() {
        let one = parse(&[ec_key("a"), rsa_key("b")], Algorithm::Es256).unwrap();
        assert!(one.find(None).is_some());
        assert!(one.find(Some("b")).is_none());

        let two = parse(&[ec_key("a"), ec_key("b")], Algorithm::Es256).unwrap();
        assert!(two.find(None).is_none());
        assert!(two.find(Some("b")).is_some());
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, "<html>"] {
            assert!(matches!(KeySet::parse(text.as_bytes(), Algorithm::Es256), Err(KeySetError::Syntax(_))), "{text}");
        }
    }

    #[tokio::test]
    async fn an_unknown_key_id_fetches_again_and_at_most_every_thirty_seconds() {
        let issuer = Issuer::serving(&[ec_key("old")]).await;
        let keys = issuer.keys();
        keys.find(Some("old"), at(0)).await.unwrap();
        issuer.serve(&[ec_key("old"), ec_key("new")]);

        assert!(matches!(keys.find(Some("new"), at(29)).await, Err(JwtError::Signature)));
        assert_eq!(issuer.requests(), 1);
        keys.find(Some("new"), at(30)).await.unwrap();
        assert_eq!(issuer.requests(), 2);

        for made_up in 0..20 {
            assert!(matches!(keys.find(Some(&made_up.to_string()), at(31)).await, Err(JwtError::Signature)));
        }
        keys.find(Some("old"), at(31)).await.unwrap();
        assert_eq!(issuer.requests(), 2);
    }

    #[tokio::test]
    async fn callers_at_the_same_time_share_one_fetch() {
        let issuer = Issuer::serving(&[ec_key("a")]).await;
        let keys = Arc::new(issuer.keys());
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let keys = Arc::clone(&keys);
                tokio::spawn(async move { keys.find(Some("a"), at(0)).await.map(|_| ()) })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        assert_eq!(issuer.requests(), 1);
    }

    #[tokio::test]
    async fn a_failed_fetch_says_so_and_is_tried_again_after_five_seconds() {
        let issuer = Issuer::serving(&[]).await;
        let keys = issuer.keys();
        issuer.answer_with(StatusCode::INTERNAL_SERVER_ERROR, "");
        for (seconds, requests) in [(0, 1), (4, 1), (5, 2)] {
            let Err(JwtError::KeysUnavailable(cause)) = keys.find(Some("a"), at(seconds)).await else {
                panic!("without keys a token cannot be judged");
            };
            assert!(matches!(*cause, KeySetError::Status(500)));
            assert_eq!(issuer.requests(), requests);
        }
        issuer.serve(&[ec_key("a")]);
        keys.find(Some("a"), at(10)).await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_no_key_set_is_a_failure() {
        let too_large = format!(r#"{{"keys": ["{}"]}}"#, "x".repeat(BODY_LIMIT));
        let encryption_only = json!({"keys": [with(ec_key("a"), json!({"use": "enc"}))]}).to_string();
        type Expected = fn(&KeySetError) -> bool;
        let cases: [(StatusCode, &str, Expected); 5] = [
            (StatusCode::FOUND, "", |cause| matches!(cause, KeySetError::Status(302))),
            (StatusCode::NO_CONTENT, "", |cause| matches!(cause, KeySetError::Status(204))),
            (StatusCode::OK, "<html>", |cause| matches!(cause, KeySetError::Syntax(_))),
            (StatusCode::OK, &too_large, |cause| matches!(cause, KeySetError::TooLarge)),
            (StatusCode::OK, &encryption_only, |cause| matches!(cause, KeySetError::NoUsableKey(_))),
        ];
        let issuer = Issuer::serving(&[]).await;
        for (status, body, expected) in cases {
            issuer.answer_with(status, body);
            let Err(JwtError::KeysUnavailable(cause)) = issuer.keys().find(Some("a"), at(0)).await else {
                panic!("{status} is not a key set");
            };
            assert!(expected(&cause), "{cause:?}");
        }
    }

    #[tokio::test]
    async fn an_issuer_that_does_not_answer_is_given_up_after_five_seconds() {
        let issuer = Issuer::serving(&[]).await;
        issuer.answer_with(StatusCode::OK, "hang");
        let keys = issuer.keys();
        let found = tokio::time::timeout(FETCH_TIMEOUT * 2, keys.find(Some("a"), at(0))).await.unwrap();
        let Err(JwtError::KeysUnavailable(cause)) = found else { panic!("there is no key to find") };
        assert!(
            matches!(&*cause, KeySetError::Request(error) if error.is_timeout() && error.url().is_none()),
            "{cause:?}"
        );
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_way_to_flood_the_issuer() {
        let issuer = Issuer::serving(&[]).await;
        issuer.answer_with(StatusCode::OK, "hang");
        let keys = issuer.keys();
        let impatient = tokio::time::timeout(Duration::from_millis(200), keys.find(Some("a"), at(0))).await;
        assert!(impatient.is_err());
        issuer.serve(&[ec_key("a")]);

        let Err(JwtError::KeysUnavailable(cause)) = keys.find(Some("a"), at(1)).await else {
            panic!("the next fetch must wait");
        };
        assert!(matches!(*cause, KeySetError::Interrupted));
        assert_eq!(issuer.requests(), 1);
        keys.find(Some("a"), at(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_that_the_issuer_withdrew_stops_working() {
        let issuer = Issuer::serving(&[ec_key("stays"), ec_key("withdrawn")]).await;
        let keys = issuer.keys();
        keys.find(Some("withdrawn"), at(0)).await.unwrap();
        issuer.serve(&[ec_key("stays")]);
        keys.find(Some("withdrawn"), at(599)).await.unwrap();
        assert!(matches!(keys.find(Some("withdrawn"), at(600)).await, Err(JwtError::Signature)));
        keys.find(Some("stays"), at(600)).await.unwrap();
        assert_eq!(issuer.requests(), 2);
    }

    #[tokio::test]
    async fn while_the_issuer_is_down_the_keys_it_gave_go_on_working() {
        let issuer = Issuer::serving(&[ec_key("a")]).await;
        let keys = issuer.keys();
        keys.find(Some("a"), at(0)).await.unwrap();
        issuer.answer_with(StatusCode::BAD_GATEWAY, "");
        keys.find(Some("a"), at(700)).await.unwrap();
        assert!(matches!(keys.find(Some("unknown"), at(701)).await, Err(JwtError::KeysUnavailable(_))));
        assert_eq!(issuer.requests(), 2);
    }
}
