//! Amounts: micros of an asset, the one rounding, and their text form. Never a float.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// An amount of money or of units in micros: 1e-6 of the currency's major unit (a dollar, not a cent), or of one unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(i64);

/// Why a text is not an amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number at all.
    #[error("is not a decimal number")]
    NotANumber,
    /// More than six (amounts, quantities) or twelve (unit prices) digits after the point.
    #[error("has more digits after the decimal point than can be kept exactly")]
    TooPrecise,
    /// Beyond what fits the ledger.
    #[error("is out of range")]
    OutOfRange,
}

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One whole unit: a dollar, a use.
    pub const ONE: Self = Self(1_000_000);
    /// The largest amount a request may name: nine million million units. Sums may go above it, up to `i64`.
    pub const LARGEST: Self = Self(9_000_000_000_000_000_000);

    /// An amount of so many micros.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// The number of micros.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether it is below nothing.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The sum.
    ///
    /// # Errors
    /// `Refusal::AmountOutOfRange` instead of a wrap.
    pub fn plus(self, other: Self) -> Result<Self, Refusal> {
        self.0.checked_add(other.0).map(Self).ok_or(Refusal::AmountOutOfRange)
    }

    /// The difference.
    ///
    /// # Errors
    /// `Refusal::AmountOutOfRange` instead of a wrap.
    pub fn minus(self, other: Self) -> Result<Self, Refusal> {
        self.0.checked_sub(other.0).map(Self).ok_or(Refusal::AmountOutOfRange)
    }

    /// The sum of many.
    ///
    /// # Errors
    /// `Refusal::AmountOutOfRange` instead of a wrap.
    pub fn sum(amounts: impl IntoIterator<Item = Self>) -> Result<Self, Refusal> {
        amounts.into_iter().try_fold(Self::ZERO, Self::plus)
    }

    /// An amount from a decimal number with at most six digits after the point.
    ///
    /// # Errors
    /// `TooPrecise` or `OutOfRange`; never a silent rounding.
    pub fn from_decimal(decimal: Decimal) -> Result<Self, AmountError> {
        let scaled = scaled_integer(decimal, 6)?;
        let micros = i64::try_from(scaled).map_err(|_| AmountError::OutOfRange)?;
        if micros.unsigned_abs() > Self::LARGEST.0.unsigned_abs() {
            return Err(AmountError::OutOfRange);
        }
        Ok(Self(micros))
    }
}

impl FromStr for Micros {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::from_decimal(parse_decimal(text)?)
    }
}

/// The shortest decimal text: `12.5`, `-0.000001`, `3`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Decimal::new(self.0, 6).normalize())
    }
}

/// A decimal number as JSON and TOML write it (`12.50`, `1e3`), exactly.
///
/// # Errors
/// `NotANumber`, or `TooPrecise` where the text has more digits than can be held.
pub fn parse_decimal(text: &str) -> Result<Decimal, AmountError> {
    let parsed = if text.contains(['e', 'E']) { Decimal::from_scientific(text) } else { Decimal::from_str_exact(text) };
    parsed.map_err(|error| match error {
        rust_decimal::Error::Underflow => AmountError::TooPrecise,
        rust_decimal::Error::ExceedsMaximumPossibleValue
        | rust_decimal::Error::LessThanMinimumPossibleValue
        | rust_decimal::Error::ScaleExceedsMaximumPrecision(_) => AmountError::OutOfRange,
        _ => AmountError::NotANumber,
    })
}

/// `decimal * 10^digits` as an integer, when it is one.
pub(crate) fn scaled_integer(decimal: Decimal, digits: u32) -> Result<i128, AmountError> {
    let decimal = decimal.normalize();
    let Some(missing) = digits.checked_sub(decimal.scale()) else {
        return Err(AmountError::TooPrecise);
    };
    decimal.mantissa().checked_mul(10_i128.pow(missing)).ok_or(AmountError::OutOfRange)
}

/// How an exact price becomes micros; stated on the price, used once per charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest micro, halves to the even one (banker's rounding).
    #[default]
    HalfEven,
    /// To the nearest micro, halves up.
    HalfUp,
    /// Always down.
    Down,
    /// Always up.
    Up,
}

impl Rounding {
    /// The whole number nearest to `numerator / denominator` by this rule; both are at least zero, the denominator above.
    #[must_use]
    pub fn divide(self, numerator: i128, denominator: i128) -> i128 {
        let quotient = numerator / denominator;
        let remainder = numerator % denominator;
        let rest = denominator - remainder;
        let up = match self {
            Self::Down => false,
            Self::Up => remainder > 0,
            Self::HalfUp => remainder >= rest,
            Self::HalfEven => remainder > rest || (remainder == rest && quotient % 2 == 1),
        };
        quotient + i128::from(up)
    }
}

/// What a wallet holds: a currency by its ISO 4217 code (`USD`), or a unit by its own name (`use`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asset(Arc<str>);

impl Asset {
    /// An asset by its name as the catalog spells it; whether it exists there is the catalog's to say.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The currency, where the asset is one.
    #[must_use]
    pub fn currency(&self) -> Option<iso_currency::Currency> {
        iso_currency::Currency::from_code(&self.0)
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sum to be paid or given back, in whole minor units of a currency (cents; yen).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Money {
    /// How many minor units.
    pub minor: i64,
    /// The currency.
    pub currency: Asset,
}

impl Money {
    /// The same sum in micros.
    ///
    /// # Errors
    /// `AmountOutOfRange` where it does not fit, or the asset is no currency.
    pub fn micros(&self) -> Result<Micros, Refusal> {
        let micros = self.minor.checked_mul(Self::micros_per_minor(&self.currency)?);
        micros.map(Micros).ok_or(Refusal::AmountOutOfRange)
    }

    /// The sum of so many micros, where that is a whole number of minor units.
    ///
    /// # Errors
    /// `AmountOutOfRange` where it is not.
    pub fn exactly(amount: Micros, currency: &Asset) -> Result<Self, Refusal> {
        let per_minor = Self::micros_per_minor(currency)?;
        if amount.0 % per_minor != 0 {
            return Err(Refusal::AmountOutOfRange);
        }
        Ok(Self { minor: amount.0 / per_minor, currency: currency.clone() })
    }

    /// The smallest coin of a currency.
    ///
    /// # Errors
    /// `AmountOutOfRange` where the asset is no currency.
    pub fn coin(currency: &Asset) -> Result<Micros, Refusal> {
        Self::micros_per_minor(currency).map(Micros)
    }

    /// Micros in one minor unit of a currency (ISO 4217): 10,000 in a cent, 1,000,000 in a yen, 1,000 in a fils.
    fn micros_per_minor(currency: &Asset) -> Result<i64, Refusal> {
        let currency = currency.currency().ok_or(Refusal::AmountOutOfRange)?;
        let digits = u32::from(currency.exponent().unwrap_or(0));
        6_u32.checked_sub(digits).map(|zeros| 10_i64.pow(zeros)).ok_or(Refusal::AmountOutOfRange)
    }
}

/// As people read it: `20 USD`, `0.5 KWD`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.micros() {
            Ok(amount) => write!(f, "{amount} {}", self.currency),
            Err(_) => write!(f, "{} minor units of {}", self.minor, self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_follow_the_currency() {
        for (minor, currency, micros) in
            [(1999, "USD", 19_990_000), (500, "JPY", 500_000_000), (1500, "KWD", 1_500_000)]
        {
            let money = Money { minor, currency: Asset::new(currency) };
            assert_eq!(money.micros(), Ok(Micros::new(micros)), "{currency}");
            assert_eq!(Money::exactly(Micros::new(micros), &money.currency), Ok(money));
        }
        let cents = Money::exactly(Micros::new(10_001), &Asset::new("USD"));
        assert_eq!(cents, Err(Refusal::AmountOutOfRange), "no cent is cut off");
        assert!(Money { minor: 1, currency: Asset::new("use") }.micros().is_err(), "a unit is not paid in");
    }

    #[test]
    fn amounts_are_exact_or_refused() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("12.50", Ok(12_500_000)),
            ("0.000001", Ok(1)),
            ("-3", Ok(-3_000_000)),
            ("1e3", Ok(1_000_000_000)),
            ("0.0000001", Err(AmountError::TooPrecise)),
            ("9000000000001", Err(AmountError::OutOfRange)),
            ("1e40", Err(AmountError::OutOfRange)),
            ("twelve", Err(AmountError::NotANumber)),
            ("", Err(AmountError::NotANumber)),
        ] {
            assert_eq!(text.parse::<Micros>().map(Micros::get), expected, "{text}");
        }
    }

    #[test]
    fn text_is_the_shortest() {
        assert_eq!(Micros::new(12_500_000).to_string(), "12.5");
        assert_eq!(Micros::new(-1).to_string(), "-0.000001");
        assert_eq!(Micros::new(3_000_000).to_string(), "3");
    }

    #[test]
    fn each_rounding_on_the_halves() {
        for (rounding, expected) in [
            (Rounding::HalfEven, [0, 2, 2, 4]),
            (Rounding::HalfUp, [1, 2, 3, 4]),
            (Rounding::Down, [0, 1, 2, 3]),
            (Rounding::Up, [1, 2, 3, 4]),
        ] {
            assert_eq!([1, 3, 5, 7].map(|n| rounding.divide(n, 2)), expected, "{rounding:?}");
        }
    }
}
