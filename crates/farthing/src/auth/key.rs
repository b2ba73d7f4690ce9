//! API keys: 256 random bits behind a readable prefix, shown once and kept as a SHA-256 digest only, with a short-lived cache
//! of what the digests stand for.
//!
//! A plain digest is enough, where a password would need a slow hash: 256 random bits cannot be guessed, and a slow hash
//! costs 90 ms of CPU per request. It never stores a key and never reaches the store: the look-up is handed in.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quick_cache::sync::{Cache, EntryAction, EntryResult};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// How every key begins; a bearer that begins otherwise is not a key.
pub const PREFIX: &str = "fk_";

const TEST_PREFIX: &str = "fk_test_";
const LIVE_PREFIX: &str = "fk_live_";

/// The random part of a key, in bytes: 43 characters of base64url.
const RANDOM_BYTES: usize = 32;

/// The characters of the random part that a preview shows: enough to tell keys apart in a list, and 232 bits stay unknown.
const PREVIEW_CHARACTERS: usize = 4;

/// For how long a cached answer holds. A key revoked in one process is refused by every other within this time, and a busy
/// key costs one look-up per process in it.
const CACHE_VALIDITY: Duration = Duration::from_secs(5);

/// How many digests are remembered. One entry is some hundred bytes, and a flood of made-up keys cannot grow it.
const CACHE_CAPACITY: usize = 10_000;

/// What a key may do. Each scope covers the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reads.
    Read,
    /// Reads, and changes to customers: charges, grants, subscriptions and the like.
    Write,
    /// Everything, API keys included.
    Admin,
}

impl Scope {
    /// Whether a key of this scope may do what takes `needed`.
    #[must_use]
    pub fn allows(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// The text names no scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no such scope; a key has `read`, `write` or `admin`")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(UnknownScope),
        }
    }
}

/// A text that must not reach a log. An API key in full is one: it exists only between [`generate`] and the one answer that
/// shows it; what is kept is its [`digest`] and its [`preview`]. The keys of payment providers are others.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that came from elsewhere.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Written by hand so that a key cannot reach a log.
impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(redacted)")
    }
}

/// The SHA-256 of a whole key, prefix included: what is stored and looked up in its place.
pub type Digest = [u8; 32];

/// Makes a key for a tenant in live mode (`fk_live_...`) or in test mode (`fk_test_...`).
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn generate(tenant_mode_is_live: bool) -> Result<Secret, getrandom::Error> {
    let random = random()?;
    let prefix = if tenant_mode_is_live { LIVE_PREFIX } else { TEST_PREFIX };
    Ok(Secret(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random))))
}

/// Bytes that nobody can guess.
///
/// # Errors
/// When the operating system gives none.
pub fn random() -> Result<[u8; RANDOM_BYTES], getrandom::Error> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random)
}

/// The digest by which to look a presented key up; `None` when the text does not have the shape of a key, so that garbage is
/// refused without a look-up.
#[must_use]
pub fn digest(presented: &str) -> Option<Digest> {
    let encoded = presented.strip_prefix(TEST_PREFIX).or_else(|| presented.strip_prefix(LIVE_PREFIX))?;
    let random = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    (random.len() == RANDOM_BYTES).then(|| Sha256::digest(presented).into())
}

/// The beginning of a key, for lists: `fk_test_AbCd…`.
#[must_use]
pub fn preview(secret: &Secret) -> String {
    let shown: String = secret.0.chars().take(TEST_PREFIX.len() + PREVIEW_CHARACTERS).collect();
    format!("{shown}…")
}

/// What a key stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// The key's own id.
    pub id: Uuid,
    /// The tenant it belongs to.
    pub tenant: String,
    /// What it may do.
    pub scope: Scope,
    /// What its maker called it.
    pub name: String,
}

/// One remembered answer: the record, or that there is none.
#[derive(Clone)]
struct Entry {
    record: Option<Arc<KeyRecord>>,
    loaded_at: Instant,
}

impl Entry {
    fn is_valid(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.loaded_at) < CACHE_VALIDITY
    }
}

/// The records of the keys seen lately, and which digests belong to no key, each for five seconds.
///
/// Digests are compared as a hash map compares. A constant-time comparison would protect nothing: to learn from the time taken
/// one must steer the digest that is compared, and whoever can find a SHA-256 preimage to steer it with, or the 256 random
/// bits themselves, has no need to.
pub struct KeyCache {
    entries: Cache<Digest, Entry>,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Cache::new(CACHE_CAPACITY) }
    }

    /// The record of the key with this digest, `None` when there is no such key. `load` is awaited only when nothing valid is
    /// remembered; of several callers that ask for one digest at once, one loads and the others wait for its answer.
    ///
    /// # Errors
    /// Whatever `load` gives; an error is not remembered.
    pub async fn get_or_load<E>(
        &self,
        digest: Digest,
        now: Instant,
        load: impl Future<Output = Result<Option<KeyRecord>, E>>,
    ) -> Result<Option<Arc<KeyRecord>>, E> {
        // `entry_async` takes the shard's write lock; most requests find a valid entry under the read lock of `get`.
        if let Some(entry) = self.entries.get(&digest).filter(|entry| entry.is_valid(now)) {
            return Ok(entry.record);
        }
        let replace_when_stale = |_: &Digest, entry: &mut Entry| {
            if entry.is_valid(now) { EntryAction::Retain(entry.record.clone()) } else { EntryAction::ReplaceWithGuard }
        };
        match self.entries.entry_async(&digest, replace_when_stale).await {
            EntryResult::Retained(record) => Ok(record),
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => {
                let record = load.await?.map(Arc::new);
                // Refused when `forget` was called during the load: the answer may predate what was to be forgotten, so it
                // serves this request and is not kept.
                let _ = place.insert(Entry { record: record.clone(), loaded_at: now });
                Ok(record)
            }
            // The callback never removes and the asynchronous form has no time limit, but the type has both.
            EntryResult::Removed(..) | EntryResult::Timeout => Ok(load.await?.map(Arc::new)),
        }
    }

    /// Forgets a digest, so that a key just made or revoked is seen by this process at once.
    pub fn forget(&self, digest: &Digest) {
        self.entries.remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn record(name: &str) -> KeyRecord {
        KeyRecord { id: Uuid::from_u128(7), tenant: "acme".into(), scope: Scope::Write, name: name.into() }
    }

    /// A look-up that counts how often it is made.
    async fn counted(calls: &AtomicUsize, answer: Option<KeyRecord>) -> Result<Option<KeyRecord>, Infallible> {
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        Ok(answer)
    }

    #[test]
    fn each_scope_covers_the_ones_before_it() {
        use Scope::{Admin, Read, Write};
        for (held, needed, allowed) in [
            (Read, Read, true),
            (Read, Write, false),
            (Read, Admin, false),
            (Write, Read, true),
            (Write, Write, true),
            (Write, Admin, false),
            (Admin, Read, true),
            (Admin, Write, true),
            (Admin, Admin, true),
        ] {
            assert_eq!(held.allows(needed), allowed, "{held} for {needed}");
        }
    }

    #[test]
    fn a_scope_reads_as_it_is_written() {
        for scope in [Scope::Read, Scope::Write, Scope::Admin] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
        }
        assert_eq!("Admin".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn keys_name_their_mode_and_never_repeat() {
        let test = generate(false).unwrap();
        assert!(test.expose().starts_with("fk_test_"));
        assert_eq!(test.expose().len(), "fk_test_".len() + 43);
        assert!(generate(true).unwrap().expose().starts_with("fk_live_"));
        assert_ne!(test.expose(), generate(false).unwrap().expose());
    }

    #[test]
    fn only_the_preview_of_a_key_can_be_printed() {
        let secret = generate(false).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert_eq!(preview(&secret), format!("{}…", &secret.expose()[..12]));
    }

    #[test]
    fn the_digest_is_the_sha256_of_the_whole_key() {
        // printf fk_test_AAAA...A (43 times) | sha256sum
        let key = format!("fk_test_{}", "A".repeat(43));
        let hex: String = digest(&key).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "55670be62fc774cc529bb763f1f07f57c7ca9dc233e5625771deaace14b2c202");
        assert_ne!(digest(&key), digest(&key.replace("test", "live")));
    }

    #[test]
    fn what_does_not_look_like_a_key_has_no_digest() {
        let random = "A".repeat(43);
        for garbage in [
            String::new(),
            "fk_test_".into(),
            random.clone(),
            format!("fk_prod_{random}"),
            format!("fk_test_{random}A"),
            format!("fk_test_{}", &random[1..]),
            format!("fk_test_{}+", &random[1..]),
            format!("fk_test_{}é", &random[2..]),
            format!(" fk_test_{random}"),
            // The last character carries four bits; a second spelling of the same bytes is not a key.
            format!("fk_test_{}B", &random[1..]),
        ] {
            assert_eq!(digest(&garbage), None, "{garbage}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_remembered_for_five_seconds() {
        let (cache, calls, start) = (KeyCache::new(), AtomicUsize::new(0), Instant::now());
        for (seconds, name, expected) in [(0, "first", "first"), (4, "second", "first"), (5, "third", "third")] {
            let now = start + Duration::from_secs(seconds);
            let found = cache.get_or_load([1; 32], now, counted(&calls, Some(record(name)))).await.unwrap();
            assert_eq!(found.unwrap().name, expected, "after {seconds} s");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_absent_key_is_remembered_as_absent() {
        let (cache, calls, now) = (KeyCache::new(), AtomicUsize::new(0), Instant::now());
        for _ in 0..3 {
            assert_eq!(cache.get_or_load([1; 32], now, counted(&calls, None)).await, Ok(None));
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_forgotten_key_is_loaded_again() {
        let (cache, calls, now) = (KeyCache::new(), AtomicUsize::new(0), Instant::now());
        cache.get_or_load([1; 32], now, counted(&calls, Some(record("live")))).await.unwrap();
        cache.forget(&[1; 32]);
        assert_eq!(cache.get_or_load([1; 32], now, counted(&calls, None)).await, Ok(None));
    }

    #[tokio::test]
    async fn an_answer_that_was_on_its_way_when_the_key_was_forgotten_is_not_kept() {
        let (cache, now) = (KeyCache::new(), Instant::now());
        let revoked_meanwhile = async {
            let row = Some(record("read before the revocation"));
            cache.forget(&[1; 32]);
            Ok::<_, Infallible>(row)
        };
        cache.get_or_load([1; 32], now, revoked_meanwhile).await.unwrap();
        let calls = AtomicUsize::new(0);
        assert_eq!(cache.get_or_load([1; 32], now, counted(&calls, None)).await, Ok(None));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_look_up_is_not_remembered() {
        let (cache, now) = (KeyCache::new(), Instant::now());
        assert_eq!(cache.get_or_load([1; 32], now, async { Err("the store is down") }).await, Err("the store is down"));
        let found = cache.get_or_load([1; 32], now, async { Ok::<_, &str>(Some(record("back"))) }).await.unwrap();
        assert_eq!(found.unwrap().name, "back");
    }

    #[tokio::test]
    async fn many_callers_at_once_load_once() {
        let (cache, calls) = (Arc::new(KeyCache::new()), Arc::new(AtomicUsize::new(0)));
        let now = Instant::now();
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let (cache, calls) = (cache.clone(), calls.clone());
                tokio::spawn(
                    async move { cache.get_or_load([1; 32], now, counted(&calls, Some(record("shared")))).await },
                )
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap().unwrap().name, "shared");
        }
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
