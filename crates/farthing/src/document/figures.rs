//! Figures as people read them: `$1,234.50`, `−¥500`, `KWD 1.500`, `4,808`; and dates.

use engine::{Asset, Micros, Money};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Signs that are known for one currency, and that every font has. Others are told by their code.
const SIGNS: [(&str, &str); 14] = [
    ("USD", "$"),
    ("EUR", "€"),
    ("GBP", "£"),
    ("JPY", "¥"),
    ("INR", "₹"),
    ("KRW", "₩"),
    ("ILS", "₪"),
    ("VND", "₫"),
    ("NGN", "₦"),
    ("UAH", "₴"),
    ("TRY", "₺"),
    ("CAD", "CA$"),
    ("AUD", "A$"),
    ("BRL", "R$"),
];

/// A sum, with as many digits as its currency has.
#[must_use]
pub fn sum(minor: i64, currency: &Asset) -> String {
    let digits = digits_of(currency);
    let figures = minor.unsigned_abs().to_string();
    let figures = format!("{figures:0>width$}", width = digits + 1);
    let (whole, fraction) = figures.split_at(figures.len().saturating_sub(digits));
    let point = if digits == 0 { "" } else { "." };
    let minus = if minor < 0 { "−" } else { "" };
    format!("{minus}{}{}{point}{fraction}", sign(currency), grouped(whole))
}

/// An exact amount of a currency: with the digits that it has, and at least those of the currency.
#[must_use]
pub fn exact(amount: Micros, currency: &Asset) -> String {
    match Money::exactly(amount, currency) {
        Ok(money) => sum(money.minor, currency),
        Err(_) => {
            let text = amount.to_string();
            let minus = if amount.is_negative() { "−" } else { "" };
            format!("{minus}{}{}", sign(currency), decimal(text.trim_start_matches('-')))
        }
    }
}

/// A price text of an invoice line (`0.25 USD per 1000`) with the sign of the currency.
#[must_use]
pub fn price(text: &str, currency: &Asset) -> String {
    let Some((amount, rest)) = text.split_once(&format!(" {currency}")) else { return text.to_owned() };
    let amount = match amount.parse::<Micros>() {
        Ok(amount) => exact(amount, currency),
        // More digits than a micro has, or words before it.
        Err(_) if amount.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!("{}{}", sign(currency), decimal(amount))
        }
        Err(_) => return text.to_owned(),
    };
    let rest = match rest.strip_prefix(" per ").map(str::parse::<u64>) {
        Some(Ok(units)) => format!(" per {}", grouped(&units.to_string())),
        _ => rest.to_owned(),
    };
    format!("{amount}{rest}")
}

/// A quantity.
#[must_use]
pub fn quantity(quantity: Micros) -> String {
    let text = quantity.to_string();
    let minus = if quantity.is_negative() { "−" } else { "" };
    format!("{minus}{}", decimal(text.trim_start_matches('-')))
}

/// A day, where the tenant is: `2 March 2026`.
#[must_use]
pub fn day(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%-d %B %Y").to_string()
}

/// From one day to another: `2 Mar – 2 Apr 2026`.
#[must_use]
pub fn days(period: engine::Period, zone: &TimeZone) -> String {
    let (start, end) = (period.start.to_zoned(zone.clone()), period.end.to_zoned(zone.clone()));
    let first = if start.year() == end.year() { start.strftime("%-d %b") } else { start.strftime("%-d %b %Y") };
    format!("{first} – {}", end.strftime("%-d %b %Y"))
}

fn digits_of(currency: &Asset) -> usize {
    currency.currency().and_then(|known| known.exponent()).map_or(0, usize::from)
}

fn sign(currency: &Asset) -> String {
    let known = SIGNS.iter().find(|(code, _)| *code == currency.as_str());
    known.map_or_else(|| format!("{currency}\u{a0}"), |(_, sign)| (*sign).to_owned())
}

/// A decimal number without a sign, with its whole part in groups of three.
fn decimal(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) => format!("{}.{fraction}", grouped(whole)),
        None => grouped(text),
    }
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_digits_of_their_currency() {
        for (minor, currency, expected) in [
            (123_450, "USD", "$1,234.50"),
            (5, "EUR", "€0.05"),
            (-500, "JPY", "−¥500"),
            (1_500, "KWD", "KWD\u{a0}1.500"),
            (100_000_000, "GBP", "£1,000,000.00"),
            (0, "JPY", "¥0"),
            (i64::MIN, "USD", "−$92,233,720,368,547,758.08"),
        ] {
            assert_eq!(sum(minor, &Asset::new(currency)), expected);
        }
    }

    #[test]
    fn prices_keep_every_digit() {
        let usd = Asset::new("USD");
        for (text, expected) in [
            ("20 USD", "$20.00"),
            ("0.001 USD", "$0.001"),
            ("0.25 USD per 1000", "$0.25 per 1,000"),
            ("0.0000000001 USD for each use", "$0.0000000001 for each use"),
            ("graduated in 3 tiers", "graduated in 3 tiers"),
            ("2.9 % and 0.3 USD", "2.9 % and 0.3 USD"),
        ] {
            assert_eq!(price(text, &usd), expected);
        }
        assert_eq!(quantity("4808.5".parse().unwrap()), "4,808.5");
    }

    #[test]
    fn days_are_those_of_the_tenant() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(day(at("2026-02-28T23:30:00Z"), &berlin), "1 March 2026");
        let period = engine::Period { start: at("2026-03-02T00:00:00Z"), end: at("2026-04-02T00:00:00Z") };
        assert_eq!(days(period, &berlin), "2 Mar – 2 Apr 2026");
        let turn = engine::Period { start: at("2026-12-02T00:00:00Z"), end: at("2027-01-02T00:00:00Z") };
        assert_eq!(days(turn, &TimeZone::UTC), "2 Dec 2026 – 2 Jan 2027");
    }
}
