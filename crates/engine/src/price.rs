//! Prices: the models, their exact unit prices, and which price is meant by a use's dimensions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::money::{AmountError, Asset, Micros, Rounding, parse_decimal, scaled_integer};

/// A unit price, exactly: 1e-12 of a currency's major unit. Written as a decimal text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(i128);

impl Rate {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest rate that a price may state: a thousand million major units.
    const LARGEST: i128 = 1_000_000_000 * 1_000_000_000_000;

    /// The rate in picos: 1e-12 of the major unit.
    #[must_use]
    pub const fn picos(self) -> i128 {
        self.0
    }

    /// A rate from a decimal number of at least zero with at most twelve digits after the point.
    ///
    /// # Errors
    /// `TooPrecise` or `OutOfRange`.
    pub fn from_decimal(decimal: Decimal) -> Result<Self, AmountError> {
        let picos = scaled_integer(decimal, 12)?;
        if (0..=Self::LARGEST).contains(&picos) { Ok(Self(picos)) } else { Err(AmountError::OutOfRange) }
    }
}

impl FromStr for Rate {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::from_decimal(parse_decimal(text)?)
    }
}

impl TryFrom<String> for Rate {
    type Error = AmountError;

    fn try_from(text: String) -> Result<Self, AmountError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Decimal::from_i128_with_scale(self.0, 12).normalize())
    }
}

/// One step of a graduated or volume price, as Stripe's tiers: it holds up to and including `up_to`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tier {
    /// The last quantity in it; nothing for the last tier.
    pub up_to: Option<Micros>,
    /// The price of `per` units in it.
    pub amount: Rate,
    /// Once, when the tier is entered (graduated) or reached (volume).
    #[serde(default)]
    pub flat: Rate,
}

/// How a quantity becomes an amount.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum Model {
    /// So much for each charge of more than nothing, whatever the quantity.
    Flat {
        /// For one charge.
        amount: Rate,
    },
    /// So much for each `per` units.
    PerUnit {
        /// For `per` units.
        amount: Rate,
    },
    /// So much for each package begun, counted over the period.
    Package {
        /// Units in a package; above zero.
        size: Micros,
        /// For one package.
        amount: Rate,
    },
    /// A share of an amount that was used as the quantity, such as 2.9 percent of a payment, and so much besides.
    Percentage {
        /// Percent of the quantity.
        percent: Rate,
        /// For one charge of more than nothing.
        #[serde(default)]
        flat: Rate,
    },
    /// Each unit at the price of the tier it falls in, counted over the period.
    Graduated {
        /// In rising order, the last one open.
        tiers: Vec<Tier>,
    },
    /// All units of the period at the price of the tier that its total reaches.
    Volume {
        /// In rising order, the last one open.
        tiers: Vec<Tier>,
    },
}

impl Model {
    /// Whether the amount depends on what was used before in the period.
    #[must_use]
    pub const fn is_cumulative(&self) -> bool {
        matches!(self, Self::Package { .. } | Self::Graduated { .. } | Self::Volume { .. })
    }
}

/// A price of a meter, for all uses or for those with certain dimensions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Price {
    /// Meter and matched dimensions (`tokens{model=small}`): what the period's usage is counted under, also when the
    /// amounts change.
    pub name: Arc<str>,
    /// Names this very definition; a charge keeps it, so that it can be explained after the tenant file has changed.
    pub version: Arc<str>,
    /// The meter it prices.
    pub meter: Arc<str>,
    /// Further meters that it prices: what is used of all of them is counted together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pooled: Vec<Arc<str>>,
    /// What it is priced in.
    pub asset: Asset,
    /// The dimensions that a use must have; none fits every use.
    #[serde(default, rename = "match")]
    pub matching: BTreeMap<String, String>,
    /// How a quantity becomes an amount.
    #[serde(flatten)]
    pub model: Model,
    /// How many units a unit price is for (1,000,000 for prices per million tokens); at least one.
    pub per: u64,
    /// The one rounding, when the exact amount becomes micros.
    #[serde(default)]
    pub rounding: Rounding,
    /// How what is owed of it becomes minor units on an invoice. Down leaves the rest for the next invoice; the others
    /// settle the line, so that nothing of it is carried.
    #[serde(default = "down", skip_serializing_if = "is_down")]
    pub line_rounding: Rounding,
    /// Whether what each use comes to is rounded to whole coins of the currency, by the same rounding, and not to micros.
    #[serde(default, skip_serializing_if = "is_not_set")]
    pub whole_coins: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands in a reference")]
const fn is_not_set(flag: &bool) -> bool {
    !*flag
}

const fn down() -> Rounding {
    Rounding::Down
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands in a reference")]
fn is_down(rounding: &Rounding) -> bool {
    *rounding == Rounding::Down
}

impl Price {
    /// What a unit costs, as an invoice line says it.
    #[must_use]
    pub fn unit_price(&self) -> String {
        let asset = &self.asset;
        match &self.model {
            Model::Flat { amount } => format!("{amount} {asset} for each use"),
            Model::PerUnit { amount } if self.per == 1 => format!("{amount} {asset}"),
            Model::PerUnit { amount } => format!("{amount} {asset} per {}", self.per),
            Model::Package { size, amount } => format!("{amount} {asset} per package of {size}"),
            Model::Percentage { percent, flat } if *flat == Rate::ZERO => format!("{percent} %"),
            Model::Percentage { percent, flat } => format!("{percent} % and {flat} {asset}"),
            Model::Graduated { tiers } => format!("graduated in {} tiers", tiers.len()),
            Model::Volume { tiers } => format!("by volume in {} tiers", tiers.len()),
        }
    }

    /// Whether it prices uses of this meter.
    #[must_use]
    pub fn prices(&self, meter: &str) -> bool {
        *self.meter == *meter || self.pooled.iter().any(|name| **name == *meter)
    }

    /// Whether it prices a use with these dimensions.
    #[must_use]
    pub fn fits(&self, dimensions: &BTreeMap<String, String>) -> bool {
        self.matching.iter().all(|(name, value)| dimensions.get(name) == Some(value))
    }
}
