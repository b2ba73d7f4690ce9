//! Versions: a definition of the tenant file is known by a digest of its content, so that what was sold under it can be
//! explained, and goes on, after the file has changed.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The prefix, `_` and the first half of a SHA-256 of the definition, whose own version is still empty, as JSON.
///
/// # Errors
/// Where it cannot be written as JSON.
pub(crate) fn version(prefix: &str, definition: &impl Serialize) -> Result<String, serde_json::Error> {
    let hash = Sha256::digest(serde_json::to_vec(definition)?);
    let hex: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}_{hex}"))
}
