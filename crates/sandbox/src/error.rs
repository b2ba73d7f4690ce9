//! Stripe's errors: a status, and a body `{"error": {type, code, message, param, ...}}`.

use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// A request that is not answered with what it asked for. Unless it `keeps`, everything that the request has changed is
/// undone.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The fields inside `error`.
    pub(crate) fields: Map<String, Value>,
    /// Whether what was changed before it stays: a declined payment leaves its payment intent.
    pub(crate) keeps: bool,
    /// Whether an idempotency key remembers it. Stripe does not keep refusals of parameters, 401, 409 and 429.
    pub(crate) remembered: bool,
}

impl ApiError {
    fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("type".into(), json!(kind));
        fields.insert("message".into(), json!(message.into()));
        Self { status, fields, keeps: false, remembered: true }
    }

    /// 400: what is asked is not possible in this state.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    /// 400: a parameter is wrong. An idempotency key does not remember it.
    pub(crate) fn parameter(code: &str, param: &str, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message).code(code).param(param);
        error.remembered = false;
        error
    }

    /// 400: a parameter has a value that it cannot have.
    pub(crate) fn value(param: &str, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message).param(param);
        error.remembered = false;
        error
    }

    /// No such object: 404 when it is named in the path (`param` is `id`), 400 when it is named in a parameter.
    pub(crate) fn missing(kind: Kind, id: &str, param: &str) -> Self {
        let word = kind.name.rsplit('.').next().unwrap_or(kind.name);
        let status = if param == "id" { 404 } else { 400 };
        Self::new(status, "invalid_request_error", format!("No such {word}: '{id}'"))
            .code("resource_missing")
            .param(param)
    }

    /// 402: the card, or its bank, says no. What was changed stays.
    pub(crate) fn card(code: &str, decline_code: Option<&str>, message: impl Into<String>) -> Self {
        let mut error = Self::new(402, "card_error", message).code(code);
        if let Some(decline_code) = decline_code {
            error = error.with("decline_code", json!(decline_code));
        }
        error.keeps = true;
        error
    }

    /// 401: no key, or none of ours.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        let mut error = Self::new(401, "invalid_request_error", message);
        error.remembered = false;
        error
    }

    /// 401: a publishable key where only a secret one may.
    pub(crate) fn secret_key_required() -> Self {
        Self::unauthorized(
            "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list of \
             your API keys at https://dashboard.stripe.com/account/apikeys.",
        )
        .code("secret_key_required")
    }

    /// 404: no such path.
    pub(crate) fn unknown_path(method: &str, path: &str) -> Self {
        let mut error = Self::new(
            404,
            "invalid_request_error",
            format!(
                "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at \
                 https://support.stripe.com/."
            ),
        );
        error.remembered = false;
        error
    }

    /// 409: a request with the same key is under way.
    pub(crate) fn key_in_use(key: &str) -> Self {
        let mut error = Self::new(
            409,
            "idempotency_error",
            format!("There is currently another in-progress request using this Idempotent Key ({key}). Please try again later."),
        )
        .code("idempotency_key_in_use");
        error.remembered = false;
        error
    }

    /// 400: the key was used for something else.
    pub(crate) fn key_reused(message: impl Into<String>) -> Self {
        let mut error = Self::new(400, "idempotency_error", message);
        error.remembered = false;
        error
    }

    /// 429: too many requests, or an object that another request holds (`lock_timeout`).
    pub(crate) fn too_many(code: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(429, "invalid_request_error", message).code(code);
        error.remembered = false;
        error
    }

    /// 500: Stripe's own fault.
    pub(crate) fn server() -> Self {
        Self::new(500, "api_error", "An unknown error occurred")
    }

    /// With a code, and the page that explains it.
    pub(crate) fn code(self, code: &str) -> Self {
        let page = format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"));
        self.with("code", json!(code)).with("doc_url", json!(page))
    }

    /// With the parameter it is about.
    pub(crate) fn param(self, param: &str) -> Self {
        self.with("param", json!(param))
    }

    /// With one more field inside `error`.
    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.to_owned(), value);
        self
    }

    /// The same error, but everything that the request has changed is undone.
    pub(crate) fn undoing(mut self) -> Self {
        self.keeps = false;
        self
    }

    /// The same error, but what the request has changed stays.
    pub(crate) fn keeping(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// A field as text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": self.fields })
    }
}
