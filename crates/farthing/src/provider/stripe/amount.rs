//! Amounts as Stripe counts them. They are minor units as in ISO 4217 but for a few currencies
//! (<https://docs.stripe.com/currencies#special-cases>, <https://docs.stripe.com/currencies#zero-decimal>).

use engine::{Asset, Money};

use super::error::CallError;
use crate::provider::ProviderError;

/// What one minor unit of ISO 4217 is to Stripe.
enum Unit {
    /// The same.
    Same,
    /// A hundred: the currency has no cents, yet Stripe counts them.
    Hundred,
    /// A hundredth: ISO 4217 counts cents, Stripe does not.
    Hundredth,
}

fn unit(currency: &str) -> Unit {
    match currency {
        "ISK" | "UGX" => Unit::Hundred,
        "MGA" => Unit::Hundredth,
        _ => Unit::Same,
    }
}

/// What is sent: the amount, and the currency's code.
pub(super) fn to_stripe(money: &Money) -> Result<(i64, String), CallError> {
    let currency = money.currency.as_str();
    if money.currency.currency().is_none() {
        return Err(CallError::refused("currency_unknown", "The currency is not one of ISO 4217."));
    }
    Ok((minor_to_stripe(money.minor, currency)?, currency.to_ascii_lowercase()))
}

/// So many minor units of a currency, as they are sent.
pub(super) fn minor_to_stripe(minor: i64, currency: &str) -> Result<i64, CallError> {
    let amount = match unit(currency) {
        Unit::Same => Some(minor),
        Unit::Hundred => minor.checked_mul(100),
        Unit::Hundredth => exact_hundredth(minor),
    };
    amount.ok_or_else(|| CallError::refused("amount_invalid", "The provider cannot take this amount in this currency."))
}

/// What came back: the sum, of an amount and a currency's code.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Result<Money, CallError> {
    let currency = currency.to_ascii_uppercase();
    Ok(Money { minor: minor_from_stripe(amount, &currency)?, currency: Asset::new(&currency) })
}

/// So many minor units as came back; the currency's code in capitals.
pub(super) fn minor_from_stripe(amount: i64, currency: &str) -> Result<i64, CallError> {
    let minor = match unit(currency) {
        Unit::Same => Some(amount),
        Unit::Hundred => exact_hundredth(amount),
        Unit::Hundredth => amount.checked_mul(100),
    };
    minor.ok_or_else(|| ProviderError::Unreadable(format!("{amount} is no amount of {currency}")).into())
}

fn exact_hundredth(amount: i64) -> Option<i64> {
    (amount % 100 == 0).then_some(amount / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_are_as_in_iso_4217_but_for_a_few() {
        for (minor, currency, sent) in [
            (1999, "USD", 1999),
            (500, "JPY", 500),
            (1500, "KWD", 1500),
            (5, "ISK", 500),
            (1000, "UGX", 100_000),
            (30_000, "MGA", 300),
        ] {
            let money = Money { minor, currency: Asset::new(currency) };
            let (amount, code) = to_stripe(&money).unwrap();
            assert_eq!((amount, code.as_str()), (sent, currency.to_ascii_lowercase().as_str()));
            assert_eq!(from_stripe(amount, &code).unwrap(), money);
        }
    }

    #[test]
    fn nothing_is_rounded() {
        assert!(minor_to_stripe(150, "MGA").is_err());
        assert!(from_stripe(150, "isk").is_err());
        assert!(to_stripe(&Money { minor: 1, currency: Asset::new("use") }).is_err());
    }
}
