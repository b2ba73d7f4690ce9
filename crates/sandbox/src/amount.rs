//! Amounts: in the currency's smallest unit, with a minimum and a maximum (docs.stripe.com/currencies).

use crate::error::ApiError;
use crate::parameters::Parameters;

/// Currencies without a smaller unit.
const ZERO_DECIMAL: &[&str] =
    &["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];

/// Currencies with thousandths, whose last digit must be 0.
const THREE_DECIMAL: &[&str] = &["bhd", "jod", "kwd", "omr", "tnd"];

/// Currencies without a smaller unit, that are still written times 100.
const WHOLE_HUNDREDS: &[&str] = &["isk", "ugx"];

/// The smallest charge, in the smallest unit. Other currencies have none here, though Stripe would convert them.
const MINIMUM: &[(&str, i64)] = &[
    ("usd", 50),
    ("eur", 50),
    ("gbp", 30),
    ("jpy", 50),
    ("cad", 50),
    ("aud", 50),
    ("chf", 50),
    ("nzd", 50),
    ("dkk", 250),
    ("nok", 300),
    ("sek", 300),
    ("hkd", 400),
    ("pln", 200),
    ("czk", 1500),
    ("huf", 17500),
    ("ron", 200),
    ("mxn", 1000),
    ("aed", 200),
    ("sgd", 50),
    ("brl", 50),
    ("inr", 50),
    ("myr", 200),
    ("thb", 1000),
    ("bgn", 100),
];

/// The other currencies that can be charged.
const OTHERS: &[&str] = &[
    "afn", "all", "amd", "ang", "aoa", "ars", "awg", "azn", "bam", "bbd", "bdt", "bmd", "bnd", "bob", "bsd", "bwp",
    "byn", "bzd", "cdf", "cny", "cop", "crc", "cve", "dop", "dzd", "egp", "etb", "fjd", "fkp", "gel", "gip", "gmd",
    "gtq", "gyd", "hnl", "htg", "idr", "ils", "jmd", "kes", "kgs", "khr", "kyd", "kzt", "lak", "lbp", "lkr", "lrd",
    "lsl", "mad", "mdl", "mkd", "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mzn", "nad", "ngn", "nio", "npr", "pab",
    "pen", "pgk", "php", "pkr", "qar", "rsd", "rub", "sar", "sbd", "scr", "shp", "sle", "sos", "srd", "std", "szl",
    "tjs", "top", "try", "ttd", "twd", "tzs", "uah", "uyu", "uzs", "wst", "xcd", "yer", "zar", "zmw",
];

/// The largest charge: eight digits.
const MAXIMUM: i64 = 99_999_999;

/// Reads a currency: three letters, which become small ones.
pub(crate) fn currency(parameters: &Parameters, key: &str) -> Result<Option<String>, ApiError> {
    let Some(currency) = parameters.text(key)? else { return Ok(None) };
    let currency = currency.to_lowercase();
    let code = currency.as_str();
    let known = [ZERO_DECIMAL, THREE_DECIMAL, WHOLE_HUNDREDS, OTHERS].iter().any(|list| list.contains(&code))
        || MINIMUM.iter().any(|(with, _)| *with == code);
    if known {
        return Ok(Some(currency));
    }
    Err(ApiError::value(&parameters.name(key), format!("Invalid currency: {currency}.")))
}

/// How many digits come after the point, as amounts are written for people.
pub(crate) fn decimals(currency: &str) -> usize {
    if ZERO_DECIMAL.contains(&currency) {
        0
    } else if THREE_DECIMAL.contains(&currency) {
        3
    } else {
        2
    }
}

/// Refuses what cannot be charged.
pub(crate) fn check(amount: i64, currency: &str, param: &str) -> Result<(), ApiError> {
    if amount < 1 {
        let message = "This value must be greater than or equal to 1.";
        return Err(ApiError::parameter("parameter_invalid_integer", param, message));
    }
    if amount > MAXIMUM {
        let message = format!("Amount must be no more than {}", show(MAXIMUM, currency));
        return Err(ApiError::parameter("amount_too_large", param, message));
    }
    let step = if WHOLE_HUNDREDS.contains(&currency) {
        100
    } else if THREE_DECIMAL.contains(&currency) {
        10
    } else {
        1
    };
    if amount % step != 0 {
        let message = format!("Invalid amount: in {currency} it must be a multiple of {step}.");
        return Err(ApiError::parameter("invalid_charge_amount", param, message));
    }
    match MINIMUM.iter().find(|(with, _)| *with == currency) {
        Some((_, least)) if amount < *least => {
            let message = format!("Amount must be at least {}", show(*least, currency));
            Err(ApiError::parameter("amount_too_small", param, message))
        }
        _ => Ok(()),
    }
}

/// An amount as Stripe's sentences write it: `$0.50 usd`, `2.50 dkk`.
pub(crate) fn show(amount: i64, currency: &str) -> String {
    let sign = match currency {
        "usd" | "cad" | "aud" | "nzd" | "sgd" | "hkd" => "$",
        "eur" => "€",
        "gbp" => "£",
        "jpy" => "¥",
        _ => "",
    };
    let minus = if amount < 0 { "-" } else { "" };
    let digits = amount.unsigned_abs().to_string();
    let decimals = decimals(currency);
    let padded = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, fraction) = padded.split_at_checked(padded.len() - decimals).unwrap_or((&padded, ""));
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{minus}{sign}{whole}{point}{fraction} {currency}")
}

/// Stripe's fee for a card: 2.9 %, half units up, and 30 of the smallest unit.
pub(crate) fn fee(amount: i64) -> i64 {
    (amount.saturating_mul(29) + 500) / 1000 + 30
}

#[cfg(test)]
mod tests {
    use super::{check, fee, show};

    #[test]
    fn minimums_steps_and_sentences() {
        assert!(check(50, "usd", "amount").is_ok());
        assert_eq!(check(49, "usd", "amount").unwrap_err().text("message"), Some("Amount must be at least $0.50 usd"));
        assert_eq!(check(49, "jpy", "amount").unwrap_err().text("message"), Some("Amount must be at least ¥50 jpy"));
        assert!(check(1005, "kwd", "amount").is_err(), "the last of three digits is 0");
        assert!(check(550, "isk", "amount").is_err(), "there is no half króna");
        assert!(check(100_000_000, "usd", "amount").is_err());
        assert_eq!(show(-5, "usd"), "-$0.05 usd");
        assert_eq!(fee(2000), 88);
    }
}
