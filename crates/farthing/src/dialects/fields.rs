//! Bodies as these products' programs read them: laxly, with everything that is wrong told at once, each with its place. What
//! nobody asks for is ignored.
//!
//! The rules and the words are those of pydantic 2, whose errors the products' callers know: `"5"` and `5.0` are the whole
//! number 5, and 5.5 is none. A number's own text is read, so no float stands between.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use engine::money::parse_decimal;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// How much of what was sent is told back, in bytes.
const MOST_TOLD: usize = 500;

/// One thing that is wrong with a body.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Invalid {
    /// A stable name for the kind of mistake.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// Where it is.
    pub(super) loc: Vec<Value>,
    /// What it is.
    pub(super) msg: String,
    /// What was sent.
    pub(super) input: Value,
}

/// What can be read of a body.
pub(super) trait Read: Sized {
    /// Reads it; nothing where something is wrong, which the fields keep.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The members of a JSON object, being read.
pub(super) struct Fields<'b> {
    members: BTreeMap<String, &'b RawValue>,
    whole: Value,
    at: Vec<Value>,
    wrong: Vec<Invalid>,
}

/// Parses the parameters behind the `?` of a path, each of which is a text.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn parse_query<T: Read>(query: &str) -> Result<T, Vec<Invalid>> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let texts: Vec<(String, Box<RawValue>)> =
        pairs.filter_map(|(name, text)| Some((name.into_owned(), to_raw_value(&text).ok()?))).collect();
    let members = texts.iter().map(|(name, raw)| (name.clone(), &**raw)).collect();
    let mut fields = Fields { members, whole: Value::Null, at: vec![json!("query")], wrong: Vec::new() };
    let read = T::read(&mut fields);
    match read {
        Some(read) if fields.wrong.is_empty() => Ok(read),
        _ => Err(fields.wrong),
    }
}

/// Parses a body.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse<T: Read>(bytes: &[u8]) -> Result<T, Vec<Invalid>> {
    let at = vec![json!("body")];
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(vec![invalid("missing", at, "Field required", Value::Null)]);
    }
    let whole: &RawValue = serde_json::from_slice(bytes).map_err(|error| {
        let at = vec![json!("body"), json!(error.column())];
        vec![invalid("json_invalid", at, "JSON decode error", json!({}))]
    })?;
    let Ok(members) = serde_json::from_str(whole.get()) else {
        let words = "Input should be a valid dictionary or object to extract fields from";
        return Err(vec![invalid("model_attributes_type", at, words, told(whole))]);
    };
    let mut fields = Fields { members, whole: told(whole), at, wrong: Vec::new() };
    let read = T::read(&mut fields);
    match read {
        Some(read) if fields.wrong.is_empty() => Ok(read),
        _ => Err(fields.wrong),
    }
}

fn invalid(kind: &'static str, loc: Vec<Value>, msg: impl Into<String>, input: Value) -> Invalid {
    Invalid { kind, loc, msg: msg.into(), input }
}

/// What was sent, unless that is long.
fn told(raw: &RawValue) -> Value {
    if raw.get().len() > MOST_TOLD { Value::Null } else { serde_json::from_str(raw.get()).unwrap_or_default() }
}

impl<'b> Fields<'b> {
    /// Notes that a number is larger than it may be.
    pub(super) fn at_most(&mut self, name: &str, number: Option<i64>, most: i64) -> Option<i64> {
        if number.is_some_and(|number| number > most) {
            self.refuse(name, "less_than_equal", format!("Input should be less than or equal to {most}"));
            return None;
        }
        number
    }

    /// Notes that something is wrong with a member.
    pub(super) fn refuse(&mut self, name: &str, kind: &'static str, message: impl Into<String>) {
        let input = self.members.get(name).map_or(Value::Null, |raw| told(raw));
        let at = self.place(name);
        self.wrong.push(invalid(kind, at, message, input));
    }

    fn place(&self, name: &str) -> Vec<Value> {
        self.at.iter().cloned().chain([json!(name)]).collect()
    }

    /// A member that is there and is not `null`.
    fn present(&self, name: &str) -> Option<&'b RawValue> {
        self.members.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// A member that has to be there; `null` is there, and is then of the wrong type.
    fn required(&mut self, name: &str) -> Option<&'b RawValue> {
        let found = self.members.get(name).copied();
        if found.is_none() {
            let (at, whole) = (self.place(name), self.whole.clone());
            self.wrong.push(invalid("missing", at, "Field required", whole));
        }
        found
    }

    /// A text of at most so many characters that says something; anything else is none, and no mistake yet.
    pub(super) fn plain_text(&self, name: &str, most: usize) -> Option<String> {
        let text: String = serde_json::from_str(self.present(name)?.get()).ok()?;
        Some(text).filter(|text| !text.is_empty() && text.chars().count() <= most && !text.contains('\0'))
    }

    /// A JSON number, exactly; anything else is none, and no mistake yet.
    pub(super) fn number(&self, name: &str) -> Option<Decimal> {
        let text = self.present(name)?.get();
        let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        parse_decimal(text).ok().filter(|_| is_number)
    }

    /// A text with so many characters, where there is one.
    pub(super) fn text(&mut self, name: &str, lengths: RangeInclusive<usize>) -> Option<String> {
        let raw = self.present(name)?;
        self.as_text(name, raw, lengths)
    }

    /// A text with so many characters.
    pub(super) fn required_text(&mut self, name: &str, lengths: RangeInclusive<usize>) -> Option<String> {
        let raw = self.required(name)?;
        self.as_text(name, raw, lengths)
    }

    fn as_text(&mut self, name: &str, raw: &RawValue, lengths: RangeInclusive<usize>) -> Option<String> {
        let Ok(text) = serde_json::from_str::<String>(raw.get()) else {
            self.refuse(name, "string_type", "Input should be a valid string");
            return None;
        };
        let (least, most) = (*lengths.start(), *lengths.end());
        let length = text.chars().count();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        if length < least {
            let words = format!("String should have at least {least} character{}", plural(least));
            self.refuse(name, "string_too_short", words);
            return None;
        }
        if length > most {
            let words = format!("String should have at most {most} character{}", plural(most));
            self.refuse(name, "string_too_long", words);
            return None;
        }
        // PostgreSQL cannot hold one, and no text needs it.
        if text.contains('\0') {
            self.refuse(name, "value_error", "Value error, a text cannot contain a NUL character");
            return None;
        }
        Some(text)
    }

    /// A whole number, where there is one.
    pub(super) fn integer(&mut self, name: &str, least: i64) -> Option<i64> {
        let raw = self.present(name)?;
        self.as_integer(name, raw, least)
    }

    /// A whole number.
    pub(super) fn required_integer(&mut self, name: &str, least: i64) -> Option<i64> {
        let raw = self.required(name)?;
        self.as_integer(name, raw, least)
    }

    fn as_integer(&mut self, name: &str, raw: &RawValue, least: i64) -> Option<i64> {
        let text = match raw.get() {
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            text if text.starts_with('"') => serde_json::from_str::<String>(text).unwrap_or_default().trim().to_owned(),
            text => text.to_owned(),
        };
        let is_text = raw.get().starts_with('"');
        let number = match text.parse::<Decimal>() {
            Ok(number) if number.fract().is_zero() => i64::try_from(number).ok(),
            Ok(_) if is_text => {
                let words = "Input should be a valid integer, unable to parse string as an integer";
                self.refuse(name, "int_parsing", words);
                return None;
            }
            Ok(_) => {
                let words = "Input should be a valid integer, got a number with a fractional part";
                self.refuse(name, "int_from_float", words);
                return None;
            }
            // A number that is too large to be read exactly is none that can be counted.
            Err(_) if raw.get().starts_with(|c: char| c.is_ascii_digit() || c == '-') => None,
            Err(_) if is_text => {
                let words = "Input should be a valid integer, unable to parse string as an integer";
                self.refuse(name, "int_parsing", words);
                return None;
            }
            Err(_) => {
                self.refuse(name, "int_type", "Input should be a valid integer");
                return None;
            }
        };
        let Some(number) = number else {
            self.refuse(name, "int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size");
            return None;
        };
        if number < least {
            let (kind, words) = match least {
                1 => ("greater_than", "Input should be greater than 0".to_owned()),
                least => ("greater_than_equal", format!("Input should be greater than or equal to {least}")),
            };
            self.refuse(name, kind, words);
            return None;
        }
        Some(number)
    }

    /// A decimal number of at least nothing, where there is one, exactly as it is written.
    pub(super) fn decimal(&mut self, name: &str) -> Option<Decimal> {
        let raw = self.present(name)?;
        let text = serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
        let Ok(number) = engine::money::parse_decimal(text.trim()) else {
            let words = "Input should be a valid number, with no more digits than can be kept";
            self.refuse(name, "decimal_parsing", words);
            return None;
        };
        if number.is_sign_negative() && !number.is_zero() {
            self.refuse(name, "greater_than_equal", "Input should be greater than or equal to 0");
            return None;
        }
        Some(number)
    }

    /// An object of texts, where there is one: at most so many, with names and texts of at most so many characters.
    pub(super) fn texts(
        &mut self,
        name: &str,
        (most, names, texts): (usize, usize, usize),
    ) -> BTreeMap<String, String> {
        if self.present(name).is_none() {
            return BTreeMap::new();
        }
        let read = self.object(name, |below| {
            let members: Vec<String> = below.members.keys().cloned().collect();
            let mut found = BTreeMap::new();
            for member in members {
                // A name with brackets in it would be another name where it is kept.
                if member.is_empty() || member.chars().count() > names || member.contains(['[', ']', '\0']) {
                    let words = format!("Value error, a name has 1 to {names} characters, no brackets among them");
                    below.refuse(&member, "value_error", words);
                    continue;
                }
                let text = below.required_text(&member, 0..=texts);
                found.extend(text.map(|text| (member, text)));
            }
            found
        });
        let read = read.unwrap_or_default();
        if read.len() > most {
            self.refuse(name, "too_long", format!("Dictionary should have at most {most} items"));
        }
        read
    }

    /// `true` or `false`, where it is said.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        let raw = self.present(name)?;
        match raw.get().trim_matches('"').to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "t" | "y" | "yes" => Some(true),
            "false" | "0" | "off" | "f" | "n" | "no" => Some(false),
            _ => {
                self.refuse(name, "bool_parsing", "Input should be a valid boolean, unable to interpret input");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn required_choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let raw = self.required(name)?;
        let word = serde_json::from_str::<String>(raw.get()).ok();
        let chosen = choices.iter().find(|(choice, _)| Some(*choice) == word.as_deref()).map(|(_, chosen)| *chosen);
        if chosen.is_none() {
            let words: Vec<String> = choices.iter().map(|(choice, _)| format!("'{choice}'")).collect();
            let words = match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                _ => words.concat(),
            };
            self.refuse(name, "enum", format!("Input should be {words}"));
        }
        chosen
    }

    /// An object below this one; an empty one where there is none. `null` is none either.
    pub(super) fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let (members, whole) = match self.members.get(name) {
            None => (BTreeMap::new(), json!({})),
            Some(raw) => match serde_json::from_str(raw.get()) {
                Ok(members) => (members, told(raw)),
                Err(_) => {
                    self.refuse(name, "dict_type", "Input should be a valid dictionary");
                    return None;
                }
            },
        };
        let mut below = Fields { members, whole, at: self.place(name), wrong: Vec::new() };
        let read = read(&mut below);
        self.wrong.append(&mut below.wrong);
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sum(i64);

    impl Read for Sum {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            fields.required_integer("amount_minor", 1).map(Self)
        }
    }

    #[test]
    fn whole_numbers_are_read_laxly_and_exactly() {
        for (sent, expected) in [
            ("5", Ok(5)),
            ("\"5\"", Ok(5)),
            ("5.0", Ok(5)),
            ("true", Ok(1)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("5.5", Err("int_from_float")),
            ("\"5.5\"", Err("int_parsing")),
            ("\"five\"", Err("int_parsing")),
            ("null", Err("int_type")),
            ("[5]", Err("int_type")),
            ("0", Err("greater_than")),
            ("-1", Err("greater_than")),
            ("9223372036854775808", Err("int_parsing_size")),
            ("1000000000000000000000000000000", Err("int_parsing_size")),
            ("1e400", Err("int_parsing_size")),
        ] {
            let read = parse::<Sum>(format!("{{\"amount_minor\": {sent}}}").as_bytes());
            assert_eq!(read.map(|sum| sum.0).map_err(|wrong| wrong[0].kind), expected, "{sent}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_as_a_whole() {
        for (sent, kind) in [
            ("", "missing"),
            ("{", "json_invalid"),
            ("[]", "model_attributes_type"),
            ("1 2", "json_invalid"),
            ("{}", "missing"),
            ("\u{feff}{}", "json_invalid"),
        ] {
            assert_eq!(parse::<Sum>(sent.as_bytes()).unwrap_err()[0].kind, kind, "{sent}");
        }
        assert_eq!(parse::<Sum>(b"{\"a\": \"\xff\"}").unwrap_err()[0].kind, "json_invalid");
    }
}
