//! Stripe's errors (<https://docs.stripe.com/api/errors>), and what they mean to whoever called.

use std::sync::Arc;

use engine::report::Failure;
use serde::Deserialize;

use super::object::PaymentIntent;
use crate::provider::ProviderError;

/// What Stripe says of an error, in a reply and as `last_payment_error`.
#[derive(Clone, Deserialize, Debug, Default)]
pub(super) struct ApiError {
    /// The class: `card_error`, `invalid_request_error`, ...
    #[serde(rename = "type", default)]
    pub(super) class: Option<Arc<str>>,
    #[serde(default)]
    pub(super) code: Option<Arc<str>>,
    #[serde(default)]
    pub(super) decline_code: Option<Arc<str>>,
    #[serde(default)]
    pub(super) message: Option<Arc<str>>,
    /// The parameter that it is about.
    #[serde(default)]
    pub(super) param: Option<Arc<str>>,
    /// The payment as it is after a decline.
    #[serde(default)]
    pub(super) payment_intent: Option<Box<PaymentIntent>>,
}

/// Why a call failed: as the interface says it, or, where Stripe said no, with all that it said.
#[derive(Debug)]
pub(super) enum CallError {
    /// Stripe said no.
    Refused(Box<ApiError>),
    /// Anything else.
    Failed(ProviderError),
}

/// The codes of 403 that are about the key and not about the object.
const KEY_CODES: [&str; 4] = ["more_permissions_required", "secret_key_required", "api_key_expired", "account_invalid"];

#[derive(Deserialize)]
struct ErrorBody {
    error: ApiError,
}

impl ApiError {
    /// A refusal of our own, for what Stripe would refuse in other words, or not at all.
    pub(super) fn new(code: &str, message: &str) -> Self {
        Self { code: Some(code.into()), message: Some(message.into()), ..Self::default() }
    }

    /// In the interface's words. Where the class says it all, such as `idempotency_error`, it is the code.
    pub(super) fn failure(&self) -> Failure {
        let code = self.code.clone().filter(|_| self.class.as_deref() != Some("idempotency_error"));
        let code = code.or_else(|| self.class.clone()).unwrap_or_else(|| "unknown".into());
        let message = self.message.clone().unwrap_or_else(|| code.clone());
        Failure { code, decline_code: self.decline_code.clone(), message }
    }

    /// Whether the code is this one.
    pub(super) fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the card, or its bank, said no.
    pub(super) fn is_decline(&self) -> bool {
        self.class.as_deref() == Some("card_error")
    }
}

impl CallError {
    /// A refusal of our own.
    pub(super) fn refused(code: &str, message: &str) -> Self {
        Self::Refused(Box::new(ApiError::new(code, message)))
    }

    /// What a status that is no success means, with the body that came with it.
    pub(super) fn of(status: u16, body: &[u8]) -> Self {
        let error = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
        let code = error.as_ref().and_then(|error| error.code.as_deref());
        Self::Failed(match (status, error.as_ref()) {
            (401, _) => ProviderError::Unauthorized,
            (409 | 424 | 429, _) | (500.., _) => ProviderError::Unavailable(match code {
                Some(code) => format!("status {status}, {code}"),
                None => format!("status {status}"),
            }),
            (400, _) if code == Some("rate_limit") => ProviderError::Unavailable("rate_limit".to_owned()),
            (404, _) if code == Some("resource_missing") => ProviderError::NotFound,
            (403, Some(error)) if error.param.is_none() && code.is_none_or(|code| KEY_CODES.contains(&code)) => {
                ProviderError::Unauthorized
            }
            (400..500, Some(error)) => return Self::Refused(Box::new(error.clone())),
            _ => ProviderError::Unreadable(format!("status {status} without an error that can be read")),
        })
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(error) => Self::Rejected(error.failure()),
            CallError::Failed(error) => error,
        }
    }
}

impl From<ProviderError> for CallError {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rejected(code: &str) -> ProviderError {
        let message = Arc::from("Words.");
        ProviderError::Rejected(Failure { code: code.into(), decline_code: None, message })
    }

    #[test]
    fn each_status_means_one_thing() {
        let unavailable = |reason: &str| ProviderError::Unavailable(reason.to_owned());
        let invalid = "invalid_request_error";
        for (status, class, code, expected) in [
            (400, invalid, Some("amount_too_small"), rejected("amount_too_small")),
            (400, invalid, None, rejected(invalid)),
            (400, invalid, Some("resource_missing"), rejected("resource_missing")),
            (400, invalid, Some("rate_limit"), unavailable("rate_limit")),
            (400, "idempotency_error", Some("key_reused"), rejected("idempotency_error")),
            (401, invalid, None, ProviderError::Unauthorized),
            (403, invalid, Some("more_permissions_required"), ProviderError::Unauthorized),
            (403, invalid, None, ProviderError::Unauthorized),
            (403, invalid, Some("charge_not_refundable"), rejected("charge_not_refundable")),
            (404, invalid, Some("resource_missing"), ProviderError::NotFound),
            (404, invalid, None, rejected(invalid)),
            (409, invalid, Some("idempotency_key_in_use"), unavailable("status 409, idempotency_key_in_use")),
            (429, invalid, Some("lock_timeout"), unavailable("status 429, lock_timeout")),
            (500, "api_error", None, unavailable("status 500")),
        ] {
            let body = json!({"error": {"type": class, "code": code, "message": "Words."}}).to_string();
            assert_eq!(ProviderError::from(CallError::of(status, body.as_bytes())), expected, "{status} {code:?}");
        }
        let page = ProviderError::from(CallError::of(404, b"<html>"));
        assert!(matches!(page, ProviderError::Unreadable(_)), "a proxy's page is not Stripe's word: {page:?}");
        assert_eq!(ProviderError::from(CallError::of(503, b"<html>")), unavailable("status 503"));
    }

    #[test]
    fn a_decline_has_both_codes() {
        let body = json!({"error": {
            "type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
            "message": "Your card has insufficient funds.",
        }});
        let error = CallError::of(402, body.to_string().as_bytes());
        let CallError::Refused(error) = error else { panic!("{error:?}") };
        assert!(error.is_decline());
        assert_eq!(error.failure().decline_code.as_deref(), Some("insufficient_funds"));
    }
}
