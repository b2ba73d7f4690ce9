//! Amounts and dates as pages write them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::amount;

/// With a comma before every three digits left of the point: `$1,200.00`.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(whole, rest)| (whole, Some(rest)));
    let digits = whole.chars().filter(char::is_ascii_digit).count();
    let mut text = String::new();
    let mut left = digits;
    for c in whole.chars() {
        if c.is_ascii_digit() {
            if left < digits && left.is_multiple_of(3) {
                text.push(',');
            }
            left -= 1;
        }
        text.push(c);
    }
    fraction.map_or(text.clone(), |fraction| format!("{text}.{fraction}"))
}

/// An amount for people: `$12.50`, `€9.00`, `¥500`, `12.50 DKK`.
pub(crate) fn money(amount: i64, currency: &str) -> String {
    // What errors write, `$12.50 usd`, says the currency twice where it has a sign that only it has.
    let shown = amount::show(amount, currency);
    let number = grouped(shown.strip_suffix(currency).unwrap_or(&shown).trim_end());
    match currency {
        "usd" | "eur" | "gbp" | "jpy" => number,
        _ => format!("{} {}", number.trim_start_matches('$'), currency.to_uppercase()),
    }
}

/// A field of a document, as an amount in the document's currency.
pub(crate) fn money_of(document: &Value, field: &str) -> String {
    money(document[field].as_i64().unwrap_or(0), document["currency"].as_str().unwrap_or_default())
}

/// The day of a unix time in UTC: `21 November 2026`.
pub(crate) fn day(seconds: &Value) -> String {
    let time = seconds.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_zoned(TimeZone::UTC).strftime("%-d %B %Y").to_string()).unwrap_or_default()
}

/// How often a recurring price is billed: `per month`, `every 3 months`; none for what is sold once.
pub(crate) fn rhythm(price: &Value) -> Option<String> {
    let interval = price["recurring"]["interval"].as_str()?;
    match price["recurring"]["interval_count"].as_i64() {
        Some(count) if count > 1 => Some(format!("every {count} {interval}s")),
        _ => Some(format!("per {interval}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{day, money, rhythm};

    #[test]
    fn as_people_write_them() {
        assert_eq!(money(1250, "usd"), "$12.50");
        assert_eq!(money(500, "jpy"), "¥500");
        assert_eq!(money(123_456_789, "eur"), "€1,234,567.89");
        assert_eq!(money(-100_000, "usd"), "-$1,000.00");
        assert_eq!(money(1250, "dkk"), "12.50 DKK");
        assert_eq!(money(1250, "cad"), "12.50 CAD");
        assert_eq!(day(&json!(1_795_219_200)), "21 November 2026");
        assert_eq!(
            rhythm(&json!({"recurring": {"interval": "month", "interval_count": 3}})).unwrap(),
            "every 3 months"
        );
    }
}
