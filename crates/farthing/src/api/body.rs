//! Bodies: JSON read strictly, within limits, with a pointer to what is wrong; and the small types they are made of.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use engine::Micros;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::problem::Problem;

/// The largest body of a request, in bytes.
pub(super) const LARGEST: usize = 1 << 20;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(&request, |media| media == "application/json" || media.ends_with("+json"))?;
        let bytes = read(request, state).await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// The media type of a request, without parameters, in lower case.
pub(super) fn media_type(request: &Request) -> Option<String> {
    let value = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses what is not JSON by its own account.
pub(super) fn require_json(request: &Request, accepts: fn(&str) -> bool) -> Result<(), Problem> {
    if media_type(request).is_some_and(|media| accepts(&media)) {
        return Ok(());
    }
    let detail = "the body has to be JSON; send it with `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail).at("Content-Type"))
}

/// Reads a body within the limit.
pub(super) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("the body is larger than {LARGEST} bytes; send it in several requests");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        }
        _ => Problem::invalid("body_unreadable", "the body could not be read to its end"),
    })
}

/// Parses a JSON object. The path to what is wrong is looked for only when something is.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map(|Object(value)| value).map_err(|_| {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let parsed: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut deserializer);
        match parsed {
            Err(error) if error.inner().is_data() || is_json(bytes) => {
                Problem::invalid("invalid_value", words(error.inner())).at(pointer(error.path()))
            }
            Err(error) => Problem::invalid("invalid_json", words(error.inner())),
            Ok(_) => Problem::invalid("invalid_json", "there is something behind the JSON value"),
        }
    })
}

/// Whether it is JSON at all, whatever it says: some values that no member takes are told as errors of syntax.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// The elements of a JSON array, each to be parsed on its own.
pub(super) fn elements(bytes: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid("invalid_json", words(&error)))
}

fn words(error: &serde_json::Error) -> String {
    error.to_string()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => pointer.push_str(variant),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

/// A JSON object. A structure alone would also be read from a list of its members.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// An exact decimal number, sent as a JSON number or as text: an amount, or a quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number(pub(super) Micros);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = decimal(deserializer, is_plain_decimal)?;
        if micros.is_negative() {
            return Err(D::Error::custom("expected a number of at least zero"));
        }
        Ok(Self(micros))
    }
}

/// An exact decimal number, whose text is plain by this measure.
fn decimal<'de, D: Deserializer<'de>>(deserializer: D, is_plain: fn(&str) -> bool) -> Result<Micros, D::Error> {
    // The number's own text, so that no float ever stands between.
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let quoted = raw.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(raw);
    let is_number = match quoted {
        Some(text) => is_plain(text),
        None => raw.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
    };
    if !is_number {
        return Err(D::Error::custom("expected a decimal number, such as 12.5 or \"12.5\""));
    }
    text.parse().map_err(|error| D::Error::custom(format!("`{text}` {error}")))
}

/// Digits, with or without a point between them.
fn is_plain_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    digits(whole) && digits(fraction)
}

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The same, above zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct PositiveNumber(Number);

impl PositiveNumber {
    pub(super) fn micros(self) -> Micros {
        self.0.0
    }
}

impl<'de> Deserialize<'de> for PositiveNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(deserializer)?;
        if number.0.is_zero() { Err(D::Error::custom("expected a number above zero")) } else { Ok(Self(number)) }
    }
}

/// The same, other than zero; below it for what is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SignedNumber(pub(super) Micros);

impl<'de> Deserialize<'de> for SignedNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = decimal(deserializer, |text| is_plain_decimal(text.strip_prefix('-').unwrap_or(text)))?;
        if micros.is_zero() { Err(D::Error::custom("expected a number other than zero")) } else { Ok(Self(micros)) }
    }
}

impl Serialize for SignedNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A text of 1 to `MOST` characters without control characters (PostgreSQL cannot hold a NUL, and no name needs one).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Text<const MOST: usize>(String);

impl<const MOST: usize> Text<MOST> {
    pub(super) fn new(text: String) -> Result<Self, String> {
        let length = text.chars().count();
        if length == 0 || length > MOST {
            return Err(format!("expected a text of 1 to {MOST} characters"));
        }
        if text.chars().any(char::is_control) {
            return Err("expected a text without control characters".to_owned());
        }
        Ok(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl<const MOST: usize> fmt::Display for Text<MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for Text<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// An id, a name, a subject: up to 255 characters.
pub(super) type Name = Text<255>;

/// An address on the web: `http://` or `https://`, up to 2,000 characters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Address(Text<2000>);

impl Address {
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let rest = text.0.strip_prefix("https://").or_else(|| text.0.strip_prefix("http://"));
        match rest {
            Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(Self(text)),
            _ => Err(D::Error::custom("expected an address that begins with https:// or http://")),
        }
    }
}

/// Words about something: up to 1,000 characters.
pub(super) type Words = Text<1000>;

/// For members that say by which key a request is known, not what is asked: these two are told apart by a fingerprint.
pub(super) fn is_no_part_of_what_is_asked<T>(_: &T) -> bool {
    true
}

/// Up to sixteen names, each with a text of up to 255 characters: dimensions and metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Labels(pub(super) BTreeMap<String, String>);

/// How many labels there may be.
const MOST_LABELS: usize = 16;

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MOST_LABELS} texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Labels, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some((name, text)) = members.next_entry::<Name, Name>()? {
                    if labels.len() == MOST_LABELS {
                        return Err(A::Error::custom(format!("expected at most {MOST_LABELS} members")));
                    }
                    if labels.insert(name.into_string(), text.into_string()).is_some() {
                        return Err(A::Error::custom("the same member is there twice"));
                    }
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Up to `MOST` elements, at least one.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct List<T, const MOST: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::deserialize(deserializer)?;
        if list.is_empty() || list.len() > MOST {
            return Err(D::Error::custom(format!("expected 1 to {MOST} elements")));
        }
        Ok(Self(list))
    }
}

/// A member that may be absent, `null`, or there.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
