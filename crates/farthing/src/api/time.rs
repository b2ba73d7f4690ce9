//! Times on the wire: RFC 3339, kept to the microsecond, between 1970 and 9999.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// An instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Time(pub(super) Timestamp);

impl Time {
    /// An instant from its text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parsed: Timestamp =
            text.parse().map_err(|_| "expected a time by RFC 3339, such as 2026-11-16T18:17:03Z".to_owned())?;
        let micros = Timestamp::from_microsecond(parsed.as_microsecond()).ok();
        micros
            .filter(|at| *at >= Timestamp::UNIX_EPOCH)
            .map(Self)
            .ok_or_else(|| "expected a time from 1970 on".to_owned())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}
