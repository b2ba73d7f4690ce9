//! Events: usage that has happened, and the charges that it makes. Whatever way an event comes in (the API, an import),
//! its charges get their ids and fingerprints here and nowhere else, so that a repeat is known by any of these ways.
//!
//! It decides nothing about a customer: the charges go to the engine as `Command::Record`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use engine::{Catalog, ChargeRequest, Meter, Micros, Refusal, id};
use jiff::{SignedDuration, Timestamp};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::idempotency::fingerprint;

/// The most characters in a customer's id, an event's id, a subject or the value of a dimension.
pub const LONGEST_TEXT: usize = 255;

/// Stands between the parts of a key; no part can contain it.
const SEPARATOR: char = '\u{1f}';

/// One usage fact: who used how much of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The event's own id, unique within its customer; without one, a repeat is charged again.
    pub id: Option<String>,
    /// The caller's own id of the customer.
    pub customer: String,
    /// When it was used, to the microsecond; now where nothing is said.
    pub time: Option<Timestamp>,
    /// Who under the customer.
    pub subject: Option<String>,
    /// How much of each meter, each meter once.
    pub quantities: Vec<(Arc<str>, Micros)>,
    /// What it was, such as the model.
    pub dimensions: BTreeMap<String, String>,
}

/// Why an event says nothing that can be charged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UsageError {
    /// A text is empty, too long, or has control characters.
    #[error("{field} has to be 1 to 255 characters, none of them a control character")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// The customer's id begins as the ids of erased customers do.
    #[error("customer may not begin with `{}`, which marks erased customers", id::ERASED_PREFIX)]
    ErasedCustomer,
    /// The event names no customer.
    #[error("the event names no customer: give it an attribute `customer`, or its id as `subject`")]
    NoCustomer,
    /// The event is said to have happened before 1970.
    #[error("time has to be 1970 or later")]
    Time,
    /// The event has no quantity at all.
    #[error("the event has no quantity")]
    NoQuantity,
    /// A quantity is no amount, or below zero.
    #[error("the quantity of `{name}` {reason}")]
    Quantity {
        /// The meter, or the property that holds its quantity.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The event's data lacks the property that a meter adds up.
    #[error("data has no `{property}`, which meter `{meter}` counts; send 0 where nothing was used")]
    MissingProperty {
        /// The property.
        property: String,
        /// The meter.
        meter: String,
    },
    /// The value of a dimension is a list or an object.
    #[error("`{name}` in data is a dimension, which has to be a text, a number or a boolean")]
    Dimension {
        /// The dimension.
        name: String,
    },
    /// The value of a dimension is empty, too long, or has control characters.
    #[error("dimension `{name}` has to be 1 to 255 characters, none of them a control character")]
    DimensionText {
        /// The dimension.
        name: String,
    },
    /// No meter counts events of this type.
    #[error("no meter in the tenant file counts events of type `{event_type}`")]
    UnknownType {
        /// As the sender spelled it.
        event_type: String,
    },
    /// Another version of CloudEvents.
    #[error("specversion has to be 1.0")]
    SpecVersion,
}

impl Usage {
    /// Whether its texts and quantities can be kept at all; what the catalog makes of them is for [`charges`] to say.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), UsageError> {
        validate_customer(&self.customer)?;
        // An id that is made of a CloudEvent's source and id has twice the room.
        if let Some(id) = &self.id {
            check_length("id", id, 2 * LONGEST_TEXT + 1)?;
        }
        if let Some(subject) = &self.subject {
            check_text("subject", subject)?;
        }
        if let Some((name, _)) = self.dimensions.iter().find(|(_, value)| check_text("value", value).is_err()) {
            return Err(UsageError::DimensionText { name: name.clone() });
        }
        if self.time.is_some_and(|time| time < Timestamp::UNIX_EPOCH) {
            return Err(UsageError::Time);
        }
        if self.quantities.is_empty() {
            return Err(UsageError::NoQuantity);
        }
        match self.quantities.iter().find(|(_, quantity)| quantity.is_negative()) {
            None => Ok(()),
            Some((meter, _)) => Err(quantity_error(meter, "is below zero")),
        }
    }
}

/// Whether a text can be a customer's id.
///
/// # Errors
/// `Text` and `ErasedCustomer`.
pub fn validate_customer(customer: &str) -> Result<(), UsageError> {
    check_text("customer", customer)?;
    if customer.starts_with(id::ERASED_PREFIX) { Err(UsageError::ErasedCustomer) } else { Ok(()) }
}

fn check_text(field: &'static str, text: &str) -> Result<(), UsageError> {
    check_length(field, text, LONGEST_TEXT)
}

fn check_length(field: &'static str, text: &str, most: usize) -> Result<(), UsageError> {
    let fits = !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(UsageError::Text { field }) }
}

fn quantity_error(name: &str, reason: impl ToString) -> UsageError {
    UsageError::Quantity { name: name.to_owned(), reason: reason.to_string() }
}

/// The charges that a valid usage makes, one for each meter, for one `Command::Record`. A charge gets those dimensions
/// that its meter has, and those that no meter of the usage has, for the engine to refuse.
///
/// # Errors
/// What the engine would refuse whoever the customer is: an unknown meter or dimension, no price, a time in the future.
pub fn charges(
    catalog: &Catalog,
    usage: &Usage,
    now: Timestamp,
    new_id: impl Fn() -> Uuid,
) -> Result<Vec<ChargeRequest>, Refusal> {
    let latest = now.checked_add(SignedDuration::from_secs(engine::charge::CLOCK_SKEW_SECONDS));
    if usage.time.is_some_and(|time| latest.is_ok_and(|latest| time > latest)) {
        return Err(Refusal::TimeInFuture);
    }
    let meters = usage.quantities.iter().map(|(name, _)| catalog.meter(name)).collect::<Result<Vec<_>, _>>()?;
    let subject: Option<Arc<str>> = usage.subject.as_deref().map(Arc::from);
    let operation_key: Option<Arc<str>> = usage.id.as_deref().map(Arc::from);
    let time = usage.time.map(Timestamp::as_microsecond);
    let mut requests = Vec::with_capacity(meters.len());
    for (meter, (_, quantity)) in meters.iter().zip(&usage.quantities) {
        let mut dimensions = usage.dimensions.clone();
        dimensions.retain(|name, _| {
            meter.dimensions.contains(name) || !meters.iter().any(|other| other.dimensions.contains(name))
        });
        catalog.know_price(meter, &dimensions)?;
        requests.push(ChargeRequest {
            id: match &usage.id {
                Some(event) => charge_id(&catalog.tenant, &usage.customer, event, &meter.name),
                None => new_id(),
            },
            operation_key: operation_key.clone(),
            fingerprint: fingerprint(&(&meter.name, quantity, &subject, &dimensions, time)),
            meter: meter.name.clone(),
            quantity: *quantity,
            own_amount: None,
            subject: subject.clone(),
            dimensions,
            occurred_at: usage.time.unwrap_or(now),
            metadata: None,
        });
    }
    Ok(requests)
}

/// The id of the charge that an event makes on a meter.
#[must_use]
pub fn charge_id(tenant: &str, customer: &str, event: &str, meter: &str) -> Uuid {
    id::keyed_id(tenant, customer, "event", &format!("{event}{SEPARATOR}{meter}"))
}

/// A CloudEvent in JSON (CloudEvents 1.0, structured mode). The meters whose `event_type` is its type count it, each
/// by the property of `data` that the tenant file names; properties that are dimensions of these meters price it.
#[derive(Debug, Deserialize)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// Unique within its source.
    pub id: String,
    /// What sent it.
    pub source: String,
    /// What happened; meters count by it.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Who used it: under the customer where `customer` is given, otherwise the customer itself.
    pub subject: Option<String>,
    /// When it was used.
    pub time: Option<Timestamp>,
    /// The customer's id: an extension attribute.
    pub customer: Option<String>,
    /// What was used.
    #[serde(default, deserialize_with = "members")]
    pub data: BTreeMap<String, Box<RawValue>>,
}

/// The members of an object, each of which may be there once: two quantities of one name leave none to be charged.
fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Box<RawValue>>, D::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = BTreeMap<String, Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = BTreeMap::new();
            while let Some((name, value)) = map.next_entry()? {
                if members.insert(name, value).is_some() {
                    return Err(A::Error::custom("the same member is there twice"));
                }
            }
            Ok(members)
        }
    }
    deserializer.deserialize_map(Members)
}

impl CloudEvent {
    /// The usage that it tells of. Its id is that of source and event together, as the specification has it.
    ///
    /// # Errors
    /// What is wrong with it, `validate` included.
    pub fn usage(self, catalog: &Catalog) -> Result<Usage, UsageError> {
        if self.specversion != "1.0" {
            return Err(UsageError::SpecVersion);
        }
        check_text("id", &self.id)?;
        check_text("source", &self.source)?;
        let meters: Vec<&Meter> =
            catalog.meters.values().filter(|meter| meter.event_type.as_ref() == Some(&self.event_type)).collect();
        if meters.is_empty() {
            return Err(UsageError::UnknownType { event_type: self.event_type });
        }
        let mut quantities = Vec::with_capacity(meters.len());
        let mut dimensions = BTreeMap::new();
        for meter in meters {
            quantities.push((meter.name.clone(), counted(meter, &self.data)?));
            for name in &meter.dimensions {
                if let Some(value) = self.data.get(name).filter(|value| value.get() != "null") {
                    let text = scalar(value).ok_or_else(|| UsageError::Dimension { name: name.clone() })?;
                    dimensions.insert(name.clone(), text);
                }
            }
        }
        let (customer, subject) = match (self.customer, self.subject) {
            (Some(customer), subject) => (customer, subject),
            (None, Some(subject)) => (subject, None),
            (None, None) => return Err(UsageError::NoCustomer),
        };
        // A source is a URI reference, which has no spaces.
        let id = Some(format!("{} {}", self.source, self.id));
        let time = self.time.map(to_the_microsecond);
        let usage = Usage { id, customer, time, subject, quantities, dimensions };
        usage.validate()?;
        Ok(usage)
    }
}

/// How much of a meter an event's data counts.
fn counted(meter: &Meter, data: &BTreeMap<String, Box<RawValue>>) -> Result<Micros, UsageError> {
    let Some(property) = &meter.property else { return Ok(Micros::ONE) };
    match data.get(property).filter(|value| value.get() != "null") {
        Some(value) => quantity(property, &scalar(value).unwrap_or_default()),
        None => Err(UsageError::MissingProperty { property: property.clone(), meter: meter.name.to_string() }),
    }
}

/// A quantity from its decimal text, exactly: at most six digits after the point, at least zero. `name` is what an
/// error calls it.
///
/// # Errors
/// `Quantity`.
pub fn quantity(name: &str, text: &str) -> Result<Micros, UsageError> {
    match text.parse() {
        Ok(quantity) if Micros::is_negative(quantity) => Err(quantity_error(name, "is below zero")),
        Ok(quantity) => Ok(quantity),
        Err(error) => Err(quantity_error(name, error)),
    }
}

/// The text of a JSON text, number or boolean; nothing for a list, an object or null. A number keeps its own spelling,
/// so that no float ever stands between.
#[must_use]
pub fn scalar(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok(),
        b'[' | b'{' | b'n' => None,
        _ => Some(value.get().to_owned()),
    }
}

/// The instant without what lies below a microsecond, as it is stored.
#[must_use]
pub fn to_the_microsecond(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let text = include_str!("../../../examples/assistant.toml");
        crate::config::parse(text, "assistant.toml", &|_| None).unwrap().catalog
    }

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn cloud_event(text: &str) -> Result<Usage, UsageError> {
        serde_json::from_str::<CloudEvent>(text).unwrap().usage(&catalog())
    }

    const REQUEST: &str = r#"{"specversion": "1.0", "id": "r1", "source": "/chat", "type": "llm.request", "subject": "acme",
        "time": "2026-11-20T11:59:58.1234567Z",
        "data": {"context_tokens": 4808, "generated_tokens": "10", "model": "large", "temperature": 0.7}}"#;

    #[test]
    fn a_cloud_event_is_counted_by_every_meter_of_its_type() {
        let usage = cloud_event(REQUEST).unwrap();
        assert_eq!(usage.id.as_deref(), Some("/chat r1"));
        assert_eq!((usage.customer.as_str(), usage.subject.as_deref()), ("acme", None));
        assert_eq!(usage.time, Some("2026-11-20T11:59:58.123456Z".parse().unwrap()));
        assert_eq!(usage.dimensions, BTreeMap::from([("model".to_owned(), "large".to_owned())]));
        let quantities: Vec<String> = usage.quantities.iter().map(|(meter, n)| format!("{meter} {n}")).collect();
        assert_eq!(quantities, ["context_tokens 4808", "generated_tokens 10"]);
    }

    #[test]
    fn with_an_attribute_for_the_customer_the_subject_is_who_under_it() {
        let usage = cloud_event(&REQUEST.replacen('{', r#"{"customer": "umbrella","#, 1)).unwrap();
        assert_eq!((usage.customer.as_str(), usage.subject.as_deref()), ("umbrella", Some("acme")));
    }

    #[test]
    fn an_event_that_cannot_be_counted_says_why() {
        for (from, to, expected) in [
            (r#""1.0""#, r#""0.3""#, "specversion has to be 1.0"),
            ("llm.request", "llm.answer", "no meter in the tenant file counts events of type `llm.answer`"),
            ("4808", "-1", "the quantity of `context_tokens` is below zero"),
            (
                "4808",
                "1e-9",
                "the quantity of `context_tokens` has more digits after the decimal point than can be kept exactly",
            ),
            ("4808", "[1]", "the quantity of `context_tokens` is not a decimal number"),
            (
                "4808",
                "null",
                "data has no `context_tokens`, which meter `context_tokens` counts; send 0 where nothing was used",
            ),
            (r#""large""#, "{}", "`model` in data is a dimension, which has to be a text, a number or a boolean"),
            (
                r#""subject": "acme","#,
                "",
                "the event names no customer: give it an attribute `customer`, or its id as `subject`",
            ),
            ("acme", "", "customer has to be 1 to 255 characters, none of them a control character"),
            ("2026-11-20T11:59:58.1234567Z", "1969-12-31T23:59:59Z", "time has to be 1970 or later"),
            ("acme", "erased_x", "customer may not begin with `erased_`, which marks erased customers"),
        ] {
            assert_eq!(cloud_event(&REQUEST.replacen(from, to, 1)).unwrap_err().to_string(), expected, "{from} {to}");
        }
    }

    #[test]
    fn the_same_event_makes_the_same_charges_whenever_it_comes() {
        let usage = cloud_event(REQUEST).unwrap();
        let first = charges(&catalog(), &usage, now(), Uuid::nil).unwrap();
        let later = charges(&catalog(), &usage, "2027-01-01T00:00:00Z".parse().unwrap(), Uuid::max).unwrap();
        assert_eq!(first, later);
        // Stored rows depend on these very values: they must never change.
        let stored: Vec<_> = first.iter().map(|charge| (charge.id.to_string(), charge.fingerprint)).collect();
        assert_eq!(
            stored,
            [
                ("62535502-13c7-5105-9148-9883b93034c4".to_owned(), 1_413_840_104_072_642_082),
                ("1c05f2b7-209b-5c57-a7fc-d249c66a989b".to_owned(), 2_630_844_412_330_371_568),
            ]
        );
    }

    #[test]
    fn another_quantity_subject_dimension_or_time_is_another_fingerprint() {
        let usage = cloud_event(REQUEST).unwrap();
        let other = |change: fn(&mut Usage)| {
            let mut usage = usage.clone();
            change(&mut usage);
            charges(&catalog(), &usage, now(), Uuid::nil).unwrap()[0].fingerprint
        };
        let fingerprints = [
            other(|_| ()),
            other(|usage| usage.quantities[0].1 = Micros::ONE),
            other(|usage| usage.subject = Some("jane".to_owned())),
            other(|usage| usage.dimensions.clear()),
            other(|usage| usage.time = None),
        ];
        let distinct: std::collections::BTreeSet<_> = fingerprints.into_iter().collect();
        assert_eq!(distinct.len(), fingerprints.len());
    }

    #[test]
    fn a_usage_without_an_id_gets_drawn_ids_and_no_key() {
        let usage = Usage { id: None, ..cloud_event(REQUEST).unwrap() };
        for charge in charges(&catalog(), &usage, now(), || Uuid::from_u128(7)).unwrap() {
            assert_eq!((charge.id, charge.operation_key), (Uuid::from_u128(7), None));
        }
    }

    #[test]
    fn a_charge_gets_the_dimensions_of_its_meter_and_the_unknown_are_refused() {
        let mut catalog = catalog();
        catalog.meters.get_mut("generated_tokens").unwrap().dimensions.clear();
        let mut usage = cloud_event(REQUEST).unwrap();
        let made = charges(&catalog, &usage, now(), Uuid::nil).unwrap();
        assert_eq!(made.iter().map(|charge| charge.dimensions.len()).collect::<Vec<_>>(), [1, 0]);
        usage.dimensions.insert("region".to_owned(), "eu".to_owned());
        let refused = charges(&catalog, &usage, now(), Uuid::nil).unwrap_err();
        assert_eq!(refused.code(), "unknown_dimension");
    }

    #[test]
    fn what_no_customer_could_be_charged_for_is_refused_early() {
        for (change, code) in [
            ((|usage| usage.quantities[0].0 = "tokens".into()) as fn(&mut Usage), "unknown_meter"),
            (|usage| usage.time = Some("2026-11-20T12:05:01Z".parse().unwrap()), "time_in_future"),
        ] {
            let mut usage = cloud_event(REQUEST).unwrap();
            change(&mut usage);
            assert_eq!(charges(&catalog(), &usage, now(), Uuid::nil).unwrap_err().code(), code);
        }
    }
}
