//! Taxes: rates on top of an amount, or within it. Each line is taxed and rounded on its own, half up, so that the taxes
//! of an invoice are the sum of its lines'.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::money::Rounding;
use crate::price::Rate;
use crate::refusal::Refusal;

/// A tax rate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaxRate {
    /// What it is, as the customer reads it: `VAT`.
    pub name: Arc<str>,
    /// In percent.
    pub percent: Rate,
    /// Whether amounts contain it already.
    pub inclusive: bool,
}

/// The tax on one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LineTax {
    /// What it is.
    pub name: Arc<str>,
    /// In percent.
    pub percent: Rate,
    /// Whether the line's amount contains it already.
    pub inclusive: bool,
    /// How much, in minor units; below zero on a line that gives back.
    pub minor: i64,
}

/// Percent in picos.
const HUNDRED: i128 = 100 * 1_000_000_000_000;

impl TaxRate {
    /// The tax on so many minor units. Of an amount that contains it, it is the part above the net; where several rates
    /// are contained, `contained` is the sum of them all.
    fn on(&self, minor: i64, contained: i128) -> Result<i64, Refusal> {
        let whole = if self.inclusive { HUNDRED + contained } else { HUNDRED };
        let product = i128::from(minor.unsigned_abs()).checked_mul(self.percent.picos());
        let tax = Rounding::HalfUp.divide(product.ok_or(Refusal::AmountOutOfRange)?, whole);
        let tax = i64::try_from(tax).map_err(|_| Refusal::AmountOutOfRange)?;
        Ok(if minor < 0 { -tax } else { tax })
    }
}

/// The taxes on a line of so many minor units. What is on top is on top of the net, without what is contained.
///
/// # Errors
/// `AmountOutOfRange` where a tax does not fit.
pub fn taxes(rates: &[TaxRate], minor: i64) -> Result<Vec<LineTax>, Refusal> {
    let contained: i128 = rates.iter().filter(|rate| rate.inclusive).map(|rate| rate.percent.picos()).sum();
    let mut taxes = Vec::with_capacity(rates.len());
    let mut net = minor;
    for inclusive in [true, false] {
        for rate in rates.iter().filter(|rate| rate.inclusive == inclusive) {
            let tax = rate.on(if inclusive { minor } else { net }, contained)?;
            taxes.push(LineTax { name: rate.name.clone(), percent: rate.percent, inclusive, minor: tax });
        }
        if inclusive {
            net =
                taxes.iter().try_fold(minor, |net, tax| net.checked_sub(tax.minor)).ok_or(Refusal::AmountOutOfRange)?;
        }
    }
    Ok(taxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(percent: &str, inclusive: bool) -> TaxRate {
        TaxRate { name: "VAT".into(), percent: percent.parse().unwrap(), inclusive }
    }

    fn minor(rates: &[TaxRate], amount: i64) -> Vec<i64> {
        taxes(rates, amount).unwrap().iter().map(|tax| tax.minor).collect()
    }

    #[test]
    fn a_tax_is_on_top_or_within() {
        assert_eq!(minor(&[rate("19", false)], 10_000), [1900]);
        assert_eq!(minor(&[rate("19", true)], 11_900), [1900]);
        assert_eq!(minor(&[rate("8.875", false)], 1999), [177]);
        assert_eq!(minor(&[rate("19", false)], -10_000), [-1900]);
        assert_eq!(minor(&[rate("5", false), rate("9.975", false)], 10_000), [500, 998]);
    }
}
