//! Webhooks: whether they are Stripe's (<https://docs.stripe.com/webhooks#verify-manually>), and what they are about.
//!
//! An event is rendered in the version of the endpoint that it goes to, so both the current shapes and those before
//! 2025-03-31.basil are read. What an event says has changed is all that is taken from it.

use std::fmt::Write as _;
use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::Stripe;
use super::object::PAYMENT_KEY;
use crate::auth::Secret;
use crate::provider::{Notice, ProviderEvent, WebhookError, Webhooks};

#[cfg(test)]
mod tests;

/// The header with the signatures.
const SIGNATURE_HEADER: &str = "stripe-signature";
/// How far the time of a signature may be off, in seconds, both ways.
const TOLERANCE: u64 = 300;

impl Webhooks for Stripe {
    fn verify(&self, headers: &[(&str, &[u8])], body: &[u8], now: Timestamp) -> Result<ProviderEvent, WebhookError> {
        verify(&self.webhook_secrets, headers, body, now)?;
        self.read(body)
    }

    fn read(&self, body: &[u8]) -> Result<ProviderEvent, WebhookError> {
        let event: Event = serde_json::from_slice(body).map_err(|_| WebhookError::Malformed)?;
        event.read().ok_or(WebhookError::Malformed)
    }
}

/// Judges the signature before the time, so that nobody learns of clocks who cannot sign.
fn verify(secrets: &[Secret], headers: &[(&str, &[u8])], body: &[u8], now: Timestamp) -> Result<(), WebhookError> {
    if secrets.is_empty() {
        return Err(WebhookError::NoSecret);
    }
    let header = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(SIGNATURE_HEADER));
    let header = header.and_then(|(_, value)| std::str::from_utf8(value).ok()).ok_or(WebhookError::SignatureMissing)?;
    let signed = Signed::parse(header).ok_or(WebhookError::SignatureMissing)?;
    let matches = secrets.iter().map(|secret| signed.is_by(secret, body)).fold(false, |any, one| any | one);
    if !matches {
        return Err(WebhookError::SignatureInvalid);
    }
    let second: i64 = signed.time.parse().map_err(|_| WebhookError::SignatureMissing)?;
    if now.as_second().abs_diff(second) > TOLERANCE { Err(WebhookError::SignatureStale) } else { Ok(()) }
}

/// A signature header: when, and the signatures of the one scheme that counts. `v0` and schemes to come are not looked at.
struct Signed<'a> {
    /// As it was signed, to the letter.
    time: &'a str,
    signatures: Vec<&'a str>,
}

impl<'a> Signed<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let mut time = None;
        let mut signatures = Vec::new();
        for (name, value) in header.split(',').filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "t" => time = Some(value.trim()),
                "v1" => signatures.push(value.trim()),
                _ => {}
            }
        }
        time.filter(|_| !signatures.is_empty()).map(|time| Self { time, signatures })
    }

    /// Whether any signature is made with this secret; each is compared in constant time.
    fn is_by(&self, secret: &Secret, body: &[u8]) -> bool {
        // A key of any length is fine for HMAC.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return false };
        mac.update(self.time.as_bytes());
        mac.update(b".");
        mac.update(body);
        let mut expected = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            // Writing to a text does not fail.
            let _ = write!(expected, "{byte:02x}");
        }
        let is_it = |signature: &&str| bool::from(signature.as_bytes().ct_eq(expected.as_bytes()));
        self.signatures.iter().map(is_it).fold(false, |any, one| any | one)
    }
}

/// An event: with a snapshot of its object, or, as `v2.core.event`, without.
#[derive(Deserialize)]
struct Event {
    id: Arc<str>,
    object: String,
    #[serde(rename = "type")]
    kind: Arc<str>,
    created: Created,
    #[serde(default)]
    data: Option<Data>,
}

/// Seconds since 1970, or, in version 2 of the API, a time in RFC 3339.
#[derive(Deserialize)]
#[serde(untagged)]
enum Created {
    Seconds(i64),
    Text(Timestamp),
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    object: Value,
    #[serde(default)]
    previous_attributes: Value,
}

impl Event {
    fn read(self) -> Option<ProviderEvent> {
        let created_at = match self.created {
            Created::Seconds(seconds) => Timestamp::from_second(seconds).ok()?,
            Created::Text(time) => time,
        };
        let notice = match (self.object.as_str(), &self.data) {
            ("event", Some(data)) => data.notice(&self.kind).unwrap_or(Notice::Other),
            ("event" | "v2.core.event", _) => Notice::Other,
            _ => return None,
        };
        Some(ProviderEvent { id: self.id, kind: self.kind, created_at, notice })
    }
}

impl Data {
    /// None where the kind is of no concern, or the object does not say what it is about.
    fn notice(&self, kind: &str) -> Option<Notice> {
        match kind.split_once('.')? {
            // Whoever made it knows, and often not yet.
            ("payment_intent", "created") => None,
            ("payment_intent", _) => self.payment(&["id"]),
            ("charge" | "refund", _) => self.payment(&["payment_intent"]),
            // A page that subscribes, or puts a payment method on file, is told of by what it made.
            ("checkout", _) if self.object.get("mode").and_then(Value::as_str) != Some("payment") => None,
            ("checkout", _) => self.payment(&["id", "payment_intent"]),
            ("payment_method", _) | ("setup_intent", "succeeded") => {
                // One that was taken off the file tells whose it was in what it was before.
                let customer = id_at(&self.object, "customer").or_else(|| id_at(&self.previous_attributes, "customer"));
                Some(Notice::PaymentMethods { customer: customer? })
            }
            ("customer", "updated") => Some(Notice::PaymentMethods { customer: id_at(&self.object, "id")? }),
            ("customer", kind) if kind.starts_with("subscription.") => {
                let customer = id_at(&self.object, "customer")?;
                Some(Notice::Subscription { reference: id_at(&self.object, "id")?, customer })
            }
            // Before it is final it may change still, and nobody is asked for anything.
            ("invoice", "created" | "upcoming" | "will_be_due" | "deleted" | "sent") => None,
            ("invoice", _) => Some(Notice::Invoice {
                reference: id_at(&self.object, "id")?,
                customer: id_at(&self.object, "customer"),
            }),
            ("invoice_payment", _) => {
                Some(Notice::Invoice { reference: id_at(&self.object, "invoice")?, customer: None })
            }
            _ => None,
        }
    }

    /// A payment, by the ids that these fields hold, and by ours.
    fn payment(&self, fields: &[&str]) -> Option<Notice> {
        let references: Vec<_> = fields.iter().filter_map(|field| id_at(&self.object, field)).collect();
        let id = self.object.get("metadata").and_then(|metadata| metadata.get(PAYMENT_KEY)).and_then(Value::as_str);
        let is_known = !references.is_empty() || id.is_some();
        is_known.then(|| Notice::Payment { references, id: id.map(Arc::from) })
    }
}

/// The id in a field: as it is, or of the object that stands there.
fn id_at(object: &Value, field: &str) -> Option<Arc<str>> {
    let value = object.get(field)?;
    value.as_str().or_else(|| value.get("id")?.as_str()).map(Arc::from)
}
