//! Plans and add-ons: what a subscription costs for each period, and what comes with it. A plan is kept by the version of
//! its definition, and a subscription stays on its version until it is moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::Overage;
use crate::coupon::Coupon;
use crate::entitlement::{Feature, Limit};
use crate::money::{Asset, Micros, Money};
use crate::period::Interval;
use crate::price::Price;
use crate::refusal::Refusal;

/// What is sold by the period.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub name: Arc<str>,
    /// Names this very definition.
    pub version: Arc<str>,
    /// What it is, as the customer reads it.
    pub title: Arc<str>,
    /// What a period costs, in advance, for each of the subscription's quantity.
    pub fee: Money,
    /// How long a period is.
    pub interval: Interval,
    /// How many days are free at first.
    #[serde(default)]
    pub trial_days: u16,
    /// What is included in each period, for each of the subscription's quantity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowances: Vec<Allowance>,
    /// What it lets its subscribers do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<Arc<str>, Feature>,
    /// How much its subscribers may use in a window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// The most that usage may add to what is owed in a period, in the currency of the fee; where usage is included, the
    /// most that is given in a calendar month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spending_limit: Option<Micros>,
    /// Its overage policy, in place of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<Overage>,
    /// The least that the usage of a period comes to, in minor units of the fee's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commitment: Option<i64>,
    /// Its own prices, before those of everyone; for one meter the ones with more matched dimensions come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Arc<Price>>,
    /// The add-ons that may be booked with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_ons: Vec<Arc<str>>,
    /// The provider's price, where the provider renews and collects the fee.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_price: Option<Arc<str>>,
}

/// What is included in each period of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allowance {
    /// Its name within the plan.
    pub name: Arc<str>,
    /// What it is in: a meter's unit, or a currency.
    pub asset: Asset,
    /// How much.
    pub amount: Micros,
    /// The meters that it covers; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<Arc<str>>,
    /// Whether what is left of it goes over to the next period.
    #[serde(default)]
    pub rollover: bool,
    /// The most that goes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Micros>,
}

/// Something that is booked with a plan: for every period, or once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddOn {
    /// Its name.
    pub name: Arc<str>,
    /// What it is, as the customer reads it.
    pub title: Arc<str>,
    /// What one costs: for a period of the plan, or once.
    pub fee: Money,
    /// Whether it is billed with every period.
    pub recurring: bool,
    /// The provider's price, for subscriptions that the provider renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_price: Option<Arc<str>>,
}

/// What can be subscribed to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plans {
    /// Every version that a subscription may be on.
    pub versions: BTreeMap<Arc<str>, Arc<Plan>>,
    /// The version that is sold now, by the plan's name.
    pub current: BTreeMap<Arc<str>, Arc<str>>,
    /// By name.
    pub add_ons: BTreeMap<Arc<str>, AddOn>,
    /// By code.
    pub coupons: BTreeMap<Arc<str>, Coupon>,
    /// How much every customer may use in a window.
    pub limits: Vec<Limit>,
    /// Whether a customer may have more than one live subscription.
    pub several_subscriptions: bool,
    /// The plan of customers without a subscription in force: its prices, limits, features and overage policy hold for
    /// them. Nobody pays its fee, and what it includes for a period is not given.
    pub default: Option<Arc<str>>,
}

impl Plans {
    /// The plan of this name, as it is sold now.
    ///
    /// # Errors
    /// `UnknownPlan`.
    pub fn current(&self, name: &str) -> Result<&Arc<Plan>, Refusal> {
        let version = self.current.get(name).and_then(|version| self.versions.get(version));
        version.ok_or_else(|| Refusal::UnknownPlan { plan: name.to_owned() })
    }

    /// The plan of customers without a subscription in force, as it is sold now.
    #[must_use]
    pub fn default_plan(&self) -> Option<&Plan> {
        self.current(self.default.as_ref()?).ok().map(|plan| &**plan)
    }

    /// The version that a subscription is on; the one that is sold now where nobody kept it.
    ///
    /// # Errors
    /// `UnknownPlan`.
    pub fn version(&self, version: &str, name: &str) -> Result<&Arc<Plan>, Refusal> {
        self.versions.get(version).map_or_else(|| self.current(name), Ok)
    }

    /// The prices of every version of every plan.
    pub fn prices(&self) -> impl Iterator<Item = &Arc<Price>> {
        self.versions.values().flat_map(|plan| &plan.prices)
    }

    /// The plans that are sold now, by name.
    pub fn sold(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.current.values().filter_map(|version| self.versions.get(version))
    }

    /// The plan that has this price at the provider: the version given, where it has it, or else the one that is sold now
    /// before any older one.
    #[must_use]
    pub fn of_provider_price(&self, price: &str, version: Option<&str>) -> Option<&Arc<Plan>> {
        let has_it = |plan: &&Arc<Plan>| plan.provider_price.as_deref() == Some(price);
        let same = version.and_then(|version| self.versions.get(version)).filter(has_it);
        same.or_else(|| self.sold().find(has_it)).or_else(|| self.versions.values().find(has_it))
    }

    /// The add-on for every period that has this price at the provider.
    #[must_use]
    pub fn add_on_of_provider_price(&self, price: &str) -> Option<&AddOn> {
        self.add_ons.values().find(|add_on| add_on.recurring && add_on.provider_price.as_deref() == Some(price))
    }

    /// The add-on of this name, where it may be booked with the plan.
    ///
    /// # Errors
    /// `UnknownAddOn`.
    pub fn add_on(&self, plan: &Plan, name: &str) -> Result<&AddOn, Refusal> {
        let allowed = plan.add_ons.iter().any(|allowed| **allowed == *name);
        let add_on = self.add_ons.get(name).filter(|_| allowed);
        add_on.ok_or_else(|| Refusal::UnknownAddOn { add_on: name.to_owned() })
    }

    /// The coupon of this code.
    ///
    /// # Errors
    /// `UnknownCoupon`.
    pub fn coupon(&self, code: &str) -> Result<&Coupon, Refusal> {
        self.coupons.get(code).ok_or_else(|| Refusal::UnknownCoupon { coupon: code.to_owned() })
    }
}
