//! A strict reader of parameters: it remembers which were read, so that one that nobody reads is refused.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// Parameters, or a nested part of them. Nested parts share what was read: `finish` on the outermost covers them all.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    value: Value,
    prefix: String,
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl Parameters {
    /// Reads a form, as `form::parse` makes it, or a JSON object.
    pub(crate) fn new(value: Value) -> Self {
        let read = Arc::new(Mutex::new(BTreeSet::from(["expand".to_owned()])));
        Self { value, prefix: String::new(), read }
    }

    /// The parameter's full name, as errors say it.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}[{key}]", self.prefix) }
    }

    /// The same parameters with one more, that somebody else has read.
    pub(crate) fn with(&self, key: &str, text: &str) -> Parameters {
        let mut more = self.clone();
        if let Some(map) = more.value.as_object_mut() {
            map.insert(key.to_owned(), json!(text));
        }
        more
    }

    /// Whether the parameter was sent, also if empty.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// Whether nothing but these was sent.
    pub(crate) fn only(&self, keys: &[&str]) -> bool {
        let sent = self.value.as_object();
        sent.is_none_or(|sent| sent.keys().all(|key| key == "expand" || keys.contains(&key.as_str())))
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: &str) -> Option<&Value> {
        self.names().insert(self.name(key));
        self.value.get(key)
    }

    /// A text; an empty one is refused, because it would unset what cannot be unset.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ApiError> {
        match self.unsettable_text(key)? {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => Err(ApiError::parameter(
                "parameter_invalid_empty",
                &self.name(key),
                format!(
                    "You passed an empty string for '{0}'. We assume empty values are an attempt to unset a parameter; \
                     however '{0}' cannot be unset. You should remove '{0}' from your request or supply a non-empty value.",
                    self.name(key)
                ),
            )),
        }
    }

    /// A text, or `Some(None)` where an empty one was sent to unset it.
    pub(crate) fn unsettable_text(&self, key: &str) -> Result<Option<Option<String>>, ApiError> {
        let name = self.name(key);
        match self.take(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(None)),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(Value::Bool(flag)) => Ok(Some(Some(flag.to_string()))),
            Some(Value::Number(number)) => Ok(Some(Some(number.to_string()))),
            Some(_) => Err(ApiError::value(&name, format!("Invalid string: {name} must be a string"))),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, key: &str) -> Result<String, ApiError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// An address to send somebody back to: of the web, or of an app; nothing that a page would run.
    pub(crate) fn address(&self, key: &str) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let is_good = |(scheme, rest): (&str, &str)| {
            !rest.is_empty()
                && !scheme.eq_ignore_ascii_case("javascript")
                && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        };
        if text.split_once("://").is_some_and(is_good) {
            return Ok(Some(text));
        }
        Err(ApiError::parameter("url_invalid", &self.name(key), "Not a valid URL"))
    }

    /// The error for a parameter that must be there.
    pub(crate) fn missing(&self, key: &str) -> ApiError {
        let name = self.name(key);
        ApiError::parameter("parameter_missing", &name, format!("Missing required param: {name}."))
    }

    /// One of the words that the parameter can be.
    pub(crate) fn word(&self, key: &str, words: &[&str]) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if words.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        let name = self.name(key);
        let last = words.last().copied().unwrap_or_default();
        let before = words.get(..words.len().saturating_sub(1)).unwrap_or_default().join(", ");
        Err(ApiError::value(&name, format!("Invalid {name}: must be one of {before}, or {last}")))
    }

    /// A whole number.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                let name = self.name(key);
                Err(ApiError::parameter("parameter_invalid_integer", &name, format!("Invalid integer: {text}")))
            }
        }
    }

    /// A whole number that must be there.
    pub(crate) fn required_integer(&self, key: &str) -> Result<i64, ApiError> {
        self.integer(key)?.ok_or_else(|| self.missing(key))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        match self.text(key)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::value(&self.name(key), format!("Invalid boolean: {other}"))),
        }
    }

    /// A nested part. None also where it was unset with an empty text (`is_unset` tells).
    pub(crate) fn part(&self, key: &str) -> Result<Option<Parameters>, ApiError> {
        match self.take_part(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(self.nested(key, Value::Object(map)))),
            Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(_) => Err(self.not_an_object(key)),
        }
    }

    /// Whether the parameter was sent empty, to unset it.
    pub(crate) fn is_unset(&self, key: &str) -> bool {
        match self.value.get(key) {
            Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            _ => false,
        }
    }

    /// A list of nested parts: `items[0][price]=..`.
    pub(crate) fn parts(&self, key: &str) -> Result<Option<Vec<Parameters>>, ApiError> {
        let Some(elements) = self.elements(key)? else { return Ok(None) };
        let mut parts = Vec::new();
        for (index, element) in elements {
            if !element.is_object() {
                return Err(self.not_an_object(key));
            }
            let mut part = self.nested(key, element);
            part.prefix = format!("{}[{index}]", self.name(key));
            parts.push(part);
        }
        Ok(Some(parts))
    }

    /// A list of texts: `expand[]=..`. An empty text instead of a list is an empty list.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(elements) = self.elements(key)? else { return Ok(None) };
        self.names().insert(self.name(key));
        let mut texts = Vec::new();
        for (_, element) in elements {
            match element {
                Value::String(text) => texts.push(text),
                _ => return Err(ApiError::value(&self.name(key), "Invalid array: its elements must be strings")),
            }
        }
        Ok(Some(texts))
    }

    /// Everything below a key, read: for what is only handed through.
    pub(crate) fn whole(&self, key: &str) -> Option<Value> {
        self.take(key).cloned()
    }

    fn elements(&self, key: &str) -> Result<Option<Vec<(String, Value)>>, ApiError> {
        let invalid = || ApiError::value(&self.name(key), "Invalid array");
        match self.take_part(key) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(Vec::new())),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(Vec::new())),
            Some(Value::Array(list)) => {
                Ok(Some(list.into_iter().enumerate().map(|(index, element)| (index.to_string(), element)).collect()))
            }
            Some(Value::Object(map)) => {
                let mut elements = Vec::new();
                for (index, element) in map {
                    elements.push((index.parse::<u32>().map_err(|_| invalid())?, element));
                }
                elements.sort_by_key(|(index, _)| *index);
                Ok(Some(elements.into_iter().map(|(index, element)| (index.to_string(), element)).collect()))
            }
            Some(_) => Err(invalid()),
        }
    }

    /// A part counts as read only by its leaves, unless it is an empty text.
    fn take_part(&self, key: &str) -> Option<Value> {
        let value = self.value.get(key)?.clone();
        if !value.is_object() {
            self.names().insert(self.name(key));
        }
        Some(value)
    }

    fn nested(&self, key: &str, value: Value) -> Parameters {
        Parameters { value, prefix: self.name(key), read: self.read.clone() }
    }

    fn not_an_object(&self, key: &str) -> ApiError {
        let name = self.name(key);
        ApiError::parameter("parameter_invalid_object", &name, format!("Invalid object: {name} must be a hash"))
    }

    /// Writes texts into the document where they were sent; an empty one makes the field null.
    pub(crate) fn copy_texts(&self, document: &mut Value, keys: &[&str]) -> Result<(), ApiError> {
        for key in keys {
            if let Some(text) = self.unsettable_text(key)? {
                document[*key] = json!(text);
            }
        }
        Ok(())
    }

    /// Writes a nested part of texts (an address) into the document, with null for what was not sent; unsets it if empty.
    pub(crate) fn copy_part(&self, document: &mut Value, key: &str, fields: &[&str]) -> Result<(), ApiError> {
        match self.part(key)? {
            Some(part) => {
                let mut value: Map<String, Value> =
                    fields.iter().map(|field| ((*field).to_owned(), Value::Null)).collect();
                for field in fields {
                    value.insert((*field).to_owned(), json!(part.unsettable_text(field)?.flatten()));
                }
                document[key] = Value::Object(value);
            }
            None if self.is_unset(key) => document[key] = Value::Null,
            None => {}
        }
        Ok(())
    }

    /// Merges `metadata` into the document's: an empty value removes a key, empty metadata removes all. At most 50 keys of
    /// 40 characters without brackets, values of 500 (docs.stripe.com/api/metadata).
    pub(crate) fn copy_metadata(&self, document: &mut Value) -> Result<(), ApiError> {
        let mut metadata = document.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        let name = self.name("metadata");
        match self.take("metadata") {
            None => {}
            Some(Value::Object(sent)) => {
                for (key, value) in sent {
                    let text =
                        value.as_str().ok_or_else(|| ApiError::value(&name, "Metadata values must be strings"))?;
                    if text.is_empty() {
                        metadata.remove(key);
                        continue;
                    }
                    check_metadata(&name, key, text)?;
                    metadata.insert(key.clone(), json!(text));
                }
                if metadata.len() > 50 {
                    return Err(ApiError::value(&name, "You cannot have more than 50 keys in metadata."));
                }
            }
            Some(Value::String(text)) if text.is_empty() => metadata.clear(),
            Some(_) => return Err(ApiError::value(&name, "Invalid metadata: must be a hash")),
        }
        document["metadata"] = Value::Object(metadata);
        Ok(())
    }

    /// Refuses what was sent and that nobody read. To be called when everything was read, before anything is changed; what
    /// was changed before is undone.
    pub(crate) fn finish(&self) -> Result<(), ApiError> {
        if self.value.get("payment_method_types").is_some() && !self.names().contains("payment_method_types") {
            return Err(ApiError::parameter(
                "payment_method_types_no_longer_supported",
                "payment_method_types",
                "The parameter payment_method_types is no longer supported. Leave it out to use dynamic payment methods, or \
                 use allowed_payment_method_types.",
            ));
        }
        match self.first_unread(&self.value, &self.prefix) {
            None => Ok(()),
            Some(name) => {
                Err(ApiError::parameter("parameter_unknown", &name, format!("Received unknown parameter: {name}")))
            }
        }
    }

    fn first_unread(&self, value: &Value, name: &str) -> Option<String> {
        if !name.is_empty() && self.names().contains(name) {
            return None;
        }
        let Some(map) = value.as_object() else { return Some(name.to_owned()) };
        map.iter().find_map(|(key, below)| {
            let full = if name.is_empty() { key.clone() } else { format!("{name}[{key}]") };
            self.first_unread(below, &full)
        })
    }
}

fn check_metadata(name: &str, key: &str, text: &str) -> Result<(), ApiError> {
    if key.chars().count() > 40 {
        let message = format!(
            "Invalid metadata: keys must be 40 characters or less, but got a key {} characters long.",
            key.chars().count()
        );
        return Err(ApiError::value(name, message));
    }
    if key.contains(['[', ']']) {
        return Err(ApiError::value(name, "Invalid metadata: keys cannot contain square brackets."));
    }
    if text.chars().count() > 500 {
        let message = format!(
            "Metadata values can have up to 500 characters, but you passed in a value that is {} characters.",
            text.chars().count()
        );
        return Err(ApiError::value(&format!("{name}[{key}]"), message));
    }
    Ok(())
}
