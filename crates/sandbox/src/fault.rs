//! Faults on demand: what goes wrong in the world outside, whenever a test wants it to.

use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::parameters::Parameters;
use crate::world::World;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The effect happens, the answer is kept for its idempotency key, and the connection is closed without it.
    TimeoutAfter,
    /// 500 without an effect.
    ErrorBefore,
    /// 500 after the effect; the idempotency key keeps the 500, as Stripe does.
    ErrorAfter,
    /// The next charge is declined with `code` and `decline_code`.
    DeclineNext,
    /// 429 `rate_limit`.
    RateLimit,
    /// 429 `lock_timeout`.
    LockTimeout,
    /// The effect and the answer come `seconds` late.
    Slow,
    /// An event never reaches its endpoint, though Stripe thinks it has.
    LoseWebhook,
    /// An event reaches its endpoint twice.
    RepeatWebhook,
    /// An event reaches its endpoint `seconds` late.
    DelayWebhook,
    /// `times` events reach their endpoints in the reverse order.
    ReorderWebhooks,
}

const WORDS: &[(&str, FaultKind)] = &[
    ("timeout_after", FaultKind::TimeoutAfter),
    ("error_before", FaultKind::ErrorBefore),
    ("error_after", FaultKind::ErrorAfter),
    ("decline_next", FaultKind::DeclineNext),
    ("rate_limit", FaultKind::RateLimit),
    ("lock_timeout", FaultKind::LockTimeout),
    ("slow", FaultKind::Slow),
    ("lose_webhook", FaultKind::LoseWebhook),
    ("repeat_webhook", FaultKind::RepeatWebhook),
    ("delay_webhook", FaultKind::DelayWebhook),
    ("reorder_webhooks", FaultKind::ReorderWebhooks),
];

/// A fault, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// The method of the requests it waits for; none: any.
    pub method: Option<String>,
    /// The path of the requests it waits for: the beginning, or a pattern with `*` for any text.
    pub path: Option<String>,
    /// The type of the events it waits for, for faults of webhooks; `*` stands for any text.
    pub event_type: Option<String>,
    /// How many more times it happens.
    pub times: u32,
    /// How long, in seconds, where it has a length.
    pub seconds: u32,
    /// The error code of a decline; `card_declined` if none.
    pub code: Option<String>,
    /// The decline code of a decline; `generic_decline` if none.
    pub decline_code: Option<String>,
    /// Where events are held back to be reordered: until when (unix milliseconds), and which deliveries.
    pub(crate) held: Option<(i64, Vec<String>)>,
}

/// Why a text is not a fault.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(String);

impl FromStr for Fault {
    type Err = FaultError;

    /// Reads `kind[:key=value,...]`: `timeout_after:path=/v1/refunds,times=2`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut fields = json!({ "kind": kind });
        for pair in rest.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| FaultError(format!("`{pair}` is not key=value in the fault `{text}`")))?;
            fields[key.trim()] = json!(value.trim());
        }
        Self::read(&Parameters::new(fields))
            .map_err(|error| FaultError(format!("`{text}`: {}", error.text("message").unwrap_or_default())))
    }
}

impl Fault {
    /// Reads a fault as the API and the flags say it.
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, ApiError> {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        let word = parameters.word("kind", &words)?.ok_or_else(|| parameters.missing("kind"))?;
        let (_, kind) = WORDS.iter().find(|(known, _)| *known == word).ok_or_else(|| parameters.missing("kind"))?;
        let natural = |key: &str, default: u32| -> Result<u32, ApiError> {
            match parameters.integer(key)? {
                None => Ok(default),
                Some(number) => {
                    u32::try_from(number).map_err(|_| ApiError::value(key, format!("Invalid {key}: {number}")))
                }
            }
        };
        let (times, seconds) = match kind {
            FaultKind::ReorderWebhooks => (2, 2),
            FaultKind::TimeoutAfter => (1, 0),
            _ => (1, 1),
        };
        let fault = Self {
            kind: *kind,
            method: parameters.text("method")?,
            path: parameters.text("path")?,
            event_type: parameters.text("type")?,
            times: natural("times", times)?,
            seconds: natural("seconds", seconds)?,
            code: parameters.text("code")?,
            decline_code: parameters.text("decline_code")?,
            held: None,
        };
        parameters.finish()?;
        Ok(fault)
    }

    /// The fault as the API shows it.
    pub(crate) fn render(&self) -> Value {
        let word = WORDS.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(word, _)| word);
        json!({
            "kind": word, "method": self.method, "path": self.path, "type": self.event_type, "times": self.times,
            "seconds": self.seconds, "code": self.code, "decline_code": self.decline_code,
        })
    }

    fn waits_for(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path.as_ref().is_none_or(|wanted| {
                if wanted.contains('*') { matches(wanted, path) } else { path.starts_with(wanted.as_str()) }
            })
    }
}

/// Whether a text fits a pattern in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|start| rest.get(start..)).any(|rest| matches(after, rest))
        }),
    }
}

impl World {
    /// The next fault of these kinds that waits for a request; it has then happened once.
    pub(crate) fn take_fault(&mut self, kinds: &[FaultKind], method: &str, path: &str) -> Option<Fault> {
        self.take(|fault| kinds.contains(&fault.kind) && fault.waits_for(method, path))
    }

    /// The fault that declines the charge now being made, by a request or by the passing of time.
    pub(crate) fn take_decline(&mut self) -> Option<Fault> {
        let cause = self.cause.clone();
        let (method, path) = cause.as_ref().map_or(("", ""), |cause| (cause.method.as_str(), cause.path.as_str()));
        self.take_fault(&[FaultKind::DeclineNext], method, path)
    }

    /// The next fault of webhooks that waits for events of this type. Reordering is counted by who holds them back.
    pub(crate) fn take_webhook_fault(&mut self, event_type: &str) -> Option<Fault> {
        self.take(|fault| {
            matches!(fault.kind, FaultKind::LoseWebhook | FaultKind::RepeatWebhook | FaultKind::DelayWebhook)
                && fault.event_type.as_ref().is_none_or(|wanted| matches(wanted, event_type))
        })
    }

    fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let index = self.faults.iter().position(|fault| fault.times > 0 && wanted(fault))?;
        let fault = self.faults.get_mut(index)?;
        fault.times -= 1;
        let taken = fault.clone();
        if taken.times == 0 {
            self.faults.remove(index);
        }
        tracing::info!(event = "fault", world = self.name, kind = ?taken.kind);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, FaultKind, matches};

    #[test]
    fn a_fault_is_read_from_a_flag() {
        let fault: Fault = "timeout_after:method=post,path=/v1/payment_intents/*/confirm,times=2".parse().unwrap();
        assert_eq!((fault.kind, fault.times), (FaultKind::TimeoutAfter, 2));
        assert!(fault.waits_for("POST", "/v1/payment_intents/pi_1/confirm"));
        assert!(!fault.waits_for("POST", "/v1/payment_intents"));
        assert!("explode".parse::<Fault>().is_err());
        assert!("slow:second=1".parse::<Fault>().is_err(), "an unknown key is a typing mistake");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("invoice.*", "invoice.paid"));
        assert!(matches("*", ""));
        assert!(!matches("a*b", "abc"));
        assert!(matches("a*b*c", "axbybc"));
    }
}
