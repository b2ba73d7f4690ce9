//! The catalog of a tenant: meters, prices, the grants of a customer's life, and the overage policy. It is read from
//! the tenant file by the shell and is plain data here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::billing::Billing;
use crate::grant::GrantKind;
use crate::money::{Asset, Micros};
use crate::plan::{Plan, Plans};
use crate::price::Price;
use crate::purchase::Pack;
use crate::refund::SpentPolicy;
use crate::refusal::Refusal;

/// What one tenant sells and under which rules.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The currency of prices that name none.
    pub currency: Asset,
    /// Where its calendar months begin and end.
    pub time_zone: TimeZone,
    /// By name.
    pub meters: BTreeMap<Arc<str>, Meter>,
    /// The prices of everyone whose plans have none of their own; for one meter the ones with more matched dimensions come first.
    pub prices: Vec<Arc<Price>>,
    /// Grants that customers get by themselves.
    pub grants: Vec<GrantTemplate>,
    /// What can be bought, by name.
    pub packs: BTreeMap<Arc<str>, Pack>,
    /// What can be subscribed to.
    pub plans: Plans,
    /// How invoices are made and collected.
    pub billing: Billing,
    /// What becomes of what was spent already of a grant whose price is given back.
    pub spent_refunds: SpentPolicy,
    /// What happens when credit runs out.
    pub overage: Overage,
    /// Below how much of an asset the tenant wants to hear of a customer.
    pub low_balances: BTreeMap<Asset, Micros>,
    /// How long a hold lasts when its request does not say.
    pub hold_seconds: i64,
}

/// A named quantity that is counted.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Its name.
    pub name: Arc<str>,
    /// The unit that it counts; a wallet in this unit covers quantities of the meter directly.
    pub unit: Asset,
    /// The CloudEvents `type` whose events it counts.
    pub event_type: Option<String>,
    /// The property of the event's data that holds the quantity; nothing counts one for each event.
    pub property: Option<String>,
    /// The dimensions that a use may carry.
    pub dimensions: BTreeSet<String>,
    /// Whether a use is refused until the customer has a payment method on file.
    pub requires_payment_method: bool,
}

/// A moment of a customer's life at which it may be given grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LifeEvent {
    /// The customer was created.
    Created,
    /// It put its first payment method on file.
    FirstPaymentMethod,
}

/// A grant that every customer gets once, at a moment of its life.
#[derive(Clone, Debug)]
pub struct GrantTemplate {
    /// Its name in the tenant file; a customer gets it once.
    pub name: Arc<str>,
    /// When.
    pub on: LifeEvent,
    /// What it is in.
    pub asset: Asset,
    /// How much.
    pub amount: Micros,
    /// Of which kind.
    pub kind: GrantKind,
    /// Lower is used first.
    pub priority: i16,
    /// How many days it lasts; for ever where nothing is said.
    pub expires_after_days: Option<i64>,
    /// The meters that it covers; none means all.
    pub meters: Vec<Arc<str>>,
}

/// What happens when grants do not cover a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OveragePolicy {
    /// It is refused.
    #[default]
    Refuse,
    /// It is recorded as owed, up to the limit.
    Owe,
    /// It is refused with the amount to pay first.
    Ask,
    /// It is given with the plan, and nothing is owed. How much that may come to in a calendar month is the plan's
    /// spending limit; a payment of the plan's fee, or for usage, begins that count anew.
    Included,
}

/// The overage policy and the limit of debt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Overage {
    /// What happens.
    pub policy: OveragePolicy,
    /// How much may be owed under `owe`, in each asset; without one, any amount.
    pub limit: Option<Micros>,
}

impl Catalog {
    /// The meter of this name.
    ///
    /// # Errors
    /// `UnknownMeter`.
    pub fn meter(&self, name: &str) -> Result<&Meter, Refusal> {
        self.meters.get(name).ok_or_else(|| Refusal::UnknownMeter { meter: name.to_owned() })
    }

    /// The price of a use with these dimensions for a customer with these plans in force: the first that fits of the
    /// plans' own prices, then of everyone's. `None` where the meter has no price at all, so that only its own unit covers
    /// it.
    ///
    /// # Errors
    /// `NoPrice` where the meter has prices, but none for these dimensions and plans; `UnknownDimension`.
    pub fn price<'a>(
        &'a self,
        meter: &Meter,
        dimensions: &BTreeMap<String, String>,
        plans: &[&'a Plan],
    ) -> Result<Option<&'a Arc<Price>>, Refusal> {
        self.know_dimensions(meter, dimensions)?;
        let own = || plans.iter().flat_map(|plan| &plan.prices).chain(&self.prices);
        let of_meter = |price: &&Arc<Price>| price.prices(&meter.name);
        match own().filter(of_meter).find(|price| price.fits(dimensions)) {
            Some(price) => Ok(Some(price)),
            None if own().chain(self.plans.sold().flat_map(|plan| &plan.prices)).any(|price| of_meter(&price)) => {
                Err(Refusal::NoPrice { meter: meter.name.to_string() })
            }
            None => Ok(None),
        }
    }

    /// Refuses a use that no customer's price could fit, whatever the customer's plan.
    ///
    /// # Errors
    /// `NoPrice` where the meter has prices, but none for these dimensions; `UnknownDimension`.
    pub fn know_price(&self, meter: &Meter, dimensions: &BTreeMap<String, String>) -> Result<(), Refusal> {
        self.know_dimensions(meter, dimensions)?;
        let mut prices = self.all_prices().filter(|price| price.prices(&meter.name)).peekable();
        if prices.peek().is_none() || prices.any(|price| price.fits(dimensions)) {
            Ok(())
        } else {
            Err(Refusal::NoPrice { meter: meter.name.to_string() })
        }
    }

    /// Everyone's prices, and those of every version of every plan.
    pub fn all_prices(&self) -> impl Iterator<Item = &Arc<Price>> {
        self.prices.iter().chain(self.plans.prices())
    }

    fn know_dimensions(&self, meter: &Meter, dimensions: &BTreeMap<String, String>) -> Result<(), Refusal> {
        match dimensions.keys().find(|name| !meter.dimensions.contains(*name)) {
            Some(unknown) => {
                Err(Refusal::UnknownDimension { meter: meter.name.to_string(), dimension: unknown.clone() })
            }
            None => Ok(()),
        }
    }

    /// The pack of this name.
    ///
    /// # Errors
    /// `UnknownPack`.
    pub fn pack(&self, name: &str) -> Result<&Pack, Refusal> {
        self.packs.get(name).ok_or_else(|| Refusal::UnknownPack { pack: name.to_owned() })
    }

    /// The asset of this name: the tenant's currency, one in which something is priced, or a meter's unit.
    ///
    /// # Errors
    /// `UnknownAsset`.
    pub fn asset(&self, name: &str) -> Result<Asset, Refusal> {
        let known = self.currency.as_str() == name
            || self.all_prices().any(|price| price.asset.as_str() == name)
            || self.plans.versions.values().any(|plan| plan.fee.currency.as_str() == name)
            || self.meters.values().any(|meter| meter.unit.as_str() == name);
        if known { Ok(Asset::new(name)) } else { Err(Refusal::UnknownAsset { asset: name.to_owned() }) }
    }
}
