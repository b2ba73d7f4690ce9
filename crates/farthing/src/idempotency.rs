//! Idempotency keys: what a request's key and body become, and which keys are under way in this process.
//!
//! What a key made is kept by the service and the store, in the same transaction as what it made; nothing is kept here.

use std::collections::HashSet;
use std::sync::Mutex;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// A hash of what was asked: the first eight bytes of the SHA-256 of its canonical JSON. It tells a repeat from another
/// use of the same key; it protects nothing.
#[must_use]
pub fn fingerprint(asked: &impl Serialize) -> i64 {
    let json = serde_json::to_vec(asked).unwrap_or_default();
    let digest = Sha256::digest(&json);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

/// The keys whose request is under way in this process: tenant, what the key is about, key.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashSet<Entry>>);

type Entry = (String, String, String);

impl InFlight {
    /// Enters a tenant's key; nothing where its request is under way already. It leaves when the guard is dropped. The
    /// same key `about` another customer (or hold, or list) is another key.
    #[must_use]
    pub fn enter(&self, tenant: &str, about: &str, key: &str) -> Option<InFlightGuard<'_>> {
        let entry = (tenant.to_owned(), about.to_owned(), key.to_owned());
        let mut keys = self.0.lock().ok()?;
        keys.insert(entry.clone()).then(|| InFlightGuard { keys: &self.0, entry })
    }
}

/// A key under way.
#[derive(Debug)]
pub struct InFlightGuard<'a> {
    keys: &'a Mutex<HashSet<Entry>>,
    entry: Entry,
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        if let Ok(mut keys) = self.keys.lock() {
            keys.remove(&self.entry);
        }
    }
}
