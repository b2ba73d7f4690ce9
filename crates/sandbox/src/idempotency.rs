//! Idempotency keys: the first answer is kept for 24 hours and given again (docs.stripe.com/api/idempotent_requests).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::kind;
use crate::world::World;

const DAY: i64 = 24 * 3600;

/// An answer that was given before.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) request_id: String,
}

/// What a request is told by: path and parameters.
pub(crate) fn fingerprint(parameters: &Value) -> String {
    // Objects are written in the order of their keys, whatever the order in which they came.
    Sha256::digest(parameters.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks a key up: an answer to be given again; or none, and from now on the key is in use.
pub(crate) fn begin(world: &mut World, key: &str, path: &str, fingerprint: &str) -> Result<Option<Kept>, ApiError> {
    if key.is_empty() || key.chars().count() > 255 {
        return Err(ApiError::key_reused("Idempotency keys must be between 1 and 255 characters long."));
    }
    let now = crate::time::wall_milliseconds() / 1000;
    let kept = world.get(kind::KEPT_ANSWER, key).filter(|kept| kept["created"].as_i64().unwrap_or(0) > now - DAY);
    if let Some(kept) = kept {
        if kept["path"] != path {
            return Err(ApiError::key_reused(format!(
                "Keys for idempotent requests can only be used for the same endpoint they were first used for ('{path}' vs \
                 '{}'). Try using a key other than '{key}' if you meant to execute a different request.",
                kept["path"].as_str().unwrap_or_default()
            )));
        }
        if kept["fingerprint"] != fingerprint {
            return Err(ApiError::key_reused(format!(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using \
                 a key other than '{key}' if you meant to execute a different request."
            )));
        }
        return Ok(Some(Kept {
            status: kept["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(500),
            body: kept["body"].as_str().unwrap_or_default().to_owned(),
            request_id: kept["request_id"].as_str().unwrap_or_default().to_owned(),
        }));
    }
    if !world.keys_in_use.insert(key.to_owned()) {
        return Err(ApiError::key_in_use(key));
    }
    Ok(None)
}

/// Keeps an answer. It is written together with its effect.
pub(crate) fn keep(world: &mut World, key: &str, path: &str, fingerprint: &str, answer: &Kept) {
    let document = json!({
        "id": key, "object": kind::KEPT_ANSWER.name, "path": path, "fingerprint": fingerprint, "status": answer.status,
        "body": answer.body, "request_id": answer.request_id, "created": crate::time::wall_milliseconds() / 1000,
    });
    world.save(kind::KEPT_ANSWER, &document);
}

/// Forgets the answers that are older than a day.
pub(crate) fn forget_old(world: &mut World) {
    let before = crate::time::wall_milliseconds() / 1000 - DAY;
    let old: Vec<String> = world
        .all(kind::KEPT_ANSWER)
        .take_while(|kept| kept["created"].as_i64().unwrap_or(0) <= before)
        .filter_map(|kept| kept["id"].as_str().map(str::to_owned))
        .collect();
    for key in old {
        world.forget(kind::KEPT_ANSWER, &key);
    }
}
