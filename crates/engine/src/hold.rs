//! Holds: reservations of value with an expiry. A hold keeps parts of named grants (and, under `owe`, room below the
//! limit of debt), so that what it promised is there when it is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::charge::{ChargeRequest, Cover, Source};
use crate::command::{HoldRequest, HoldSize};
use crate::money::{Asset, Micros};
use crate::price::Price;
use crate::rating::rate;
use crate::refusal::Refusal;
use crate::wallet::{Draft, covered};

/// The most open holds that a customer may have, so that its row stays small.
pub const MOST_OPEN_HOLDS: usize = 200;

/// A part of a grant that a hold keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allocation {
    /// The grant.
    pub grant: Uuid,
    /// What the grant is in.
    pub asset: Asset,
    /// How much of it.
    pub amount: Micros,
}

/// An open hold, as it stands in the customer's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: Uuid,
    /// The meter whose use it reserves.
    pub meter: Arc<str>,
    /// Who under the customer uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// The dimensions that price it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
    /// How much use it reserves; zero where it reserves an amount of money instead.
    #[serde(default, skip_serializing_if = "Micros::is_zero_ref")]
    pub quantity: Micros,
    /// What it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<Allocation>,
    /// Room below the limit of debt that it keeps, in the asset it is priced in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owed: Option<(Asset, Micros)>,
    /// When it lapses by itself.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub expires_at: Timestamp,
}

/// What became of a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// It keeps what it keeps.
    Open,
    /// The use it was made for has been charged.
    Settled,
    /// It was given up.
    Released,
    /// Its time ran out.
    Expired,
}

/// A hold for the record, as it was at its latest change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldRecord {
    /// The hold; after its end, as it was just before.
    pub hold: Hold,
    /// What became of it.
    pub state: HoldState,
    /// The ledger position of this change.
    pub position: i64,
    /// When the change was.
    pub changed_at: Timestamp,
}

impl Draft<'_> {
    /// Opens a hold.
    pub(crate) fn open_hold(&mut self, request: &HoldRequest) -> Result<(), Refusal> {
        let meter = self.catalog.meter(&request.meter)?;
        self.require_payment_method(meter)?;
        let quantity = if let HoldSize::Quantity(quantity) = request.size { Some(quantity) } else { None };
        self.admit_hold(&meter.name, quantity)?;
        let fallback = self.now.checked_add(SignedDuration::from_secs(self.catalog.hold_seconds));
        let expires_at = match request.expires_at {
            Some(at) => at,
            None => fallback.map_err(|_| Refusal::AmountOutOfRange)?,
        };
        if self.decision.customer.state.holds.len() >= MOST_OPEN_HOLDS {
            return Err(Refusal::TooManyHolds { limit: MOST_OPEN_HOLDS });
        }
        self.decision.customer.state.holds.push(Hold {
            id: request.id,
            meter: meter.name.clone(),
            subject: request.subject.clone(),
            dimensions: request.dimensions.clone(),
            quantity: Micros::ZERO,
            allocations: Vec::new(),
            owed: None,
            expires_at,
        });
        let index = self.decision.customer.state.holds.len() - 1;
        self.reserve(index, request.size)?;
        self.set_expiry(index, expires_at)?;
        self.record_hold(index, HoldState::Open);
        Ok(())
    }

    /// Reserves more for an open hold, or for longer.
    pub(crate) fn extend_hold(
        &mut self,
        id: Uuid,
        more: Option<HoldSize>,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Refusal> {
        let index = self.find_hold(id)?;
        if let Some(more) = more {
            self.reserve(index, more)?;
        }
        if let Some(at) = expires_at {
            self.set_expiry(index, at)?;
        }
        self.record_hold(index, HoldState::Open);
        Ok(())
    }

    /// Charges a part of a hold; the rest stays held.
    pub(crate) fn capture_hold(&mut self, id: Uuid, charge: &ChargeRequest) -> Result<(), Refusal> {
        let index = self.find_hold(id)?;
        self.charge_hold(index, charge)?;
        let hold = &mut self.decision.customer.state.holds[index];
        hold.quantity = hold.quantity.minus(charge.quantity)?.max(Micros::ZERO);
        self.record_hold(index, HoldState::Open);
        Ok(())
    }

    /// Charges what was used in the end and gives up the rest.
    pub(crate) fn settle_hold(&mut self, id: Uuid, charge: &ChargeRequest) -> Result<(), Refusal> {
        let index = self.find_hold(id)?;
        self.charge_hold(index, charge)?;
        self.end_hold(index, HoldState::Settled)?;
        // What the hold gives back is available after the charge, but for what comes from a grant that has lapsed.
        self.lapse()?;
        if let Some(mut charge) = self.decision.charges.pop() {
            charge.balance_after = self.available(&charge.asset, None)?;
            self.decision.charges.push(charge);
        }
        Ok(())
    }

    /// Gives up a hold.
    pub(crate) fn release_hold(&mut self, id: Uuid) -> Result<(), Refusal> {
        let index = self.find_hold(id)?;
        self.end_hold(index, HoldState::Released)
    }

    /// Returns what a hold keeps to its grants, and closes it.
    pub(crate) fn end_hold(&mut self, index: usize, state: HoldState) -> Result<(), Refusal> {
        self.record_hold(index, state);
        let customer = &mut self.decision.customer.state;
        let hold = customer.holds.remove(index);
        for allocation in hold.allocations {
            let Some(grant) = customer.grants.iter_mut().find(|grant| grant.id == allocation.grant) else {
                continue;
            };
            grant.held = grant.held.minus(allocation.amount)?;
            grant.remaining = grant.remaining.plus(allocation.amount)?;
        }
        Ok(())
    }

    /// Takes from the room for debt that a hold keeps, once the debt is real.
    pub(crate) fn use_room(&mut self, index: usize, debt: Micros) -> Result<(), Refusal> {
        let hold = &mut self.decision.customer.state.holds[index];
        if let Some((_, room)) = &mut hold.owed {
            *room = room.minus(debt.min(*room))?;
        }
        hold.owed.take_if(|(_, room)| room.is_zero());
        Ok(())
    }

    fn find_hold(&self, id: Uuid) -> Result<usize, Refusal> {
        self.decision.customer.state.holds.iter().position(|hold| hold.id == id).ok_or(Refusal::HoldEnded)
    }

    fn set_expiry(&mut self, index: usize, at: Timestamp) -> Result<(), Refusal> {
        if at <= self.now {
            return Err(Refusal::AlreadyExpired);
        }
        self.decision.customer.state.holds[index].expires_at = at;
        Ok(())
    }

    fn charge_hold(&mut self, index: usize, charge: &ChargeRequest) -> Result<(), Refusal> {
        let hold = &self.decision.customer.state.holds[index];
        let request = ChargeRequest {
            meter: hold.meter.clone(),
            subject: hold.subject.clone(),
            dimensions: hold.dimensions.clone(),
            ..charge.clone()
        };
        self.charge(&request, Source::Hold, Some(index))
    }

    /// Reserves so much more for a hold: the meter's own units first, then money at the price of the rest, then room
    /// for debt where the overage policy has any.
    fn reserve(&mut self, index: usize, more: HoldSize) -> Result<(), Refusal> {
        let (HoldSize::Quantity(size) | HoldSize::Amount(size)) = more;
        if size.is_negative() {
            return Err(Refusal::AmountOutOfRange);
        }
        let hold = &self.decision.customer.state.holds[index];
        let meter = self.catalog.meter(&hold.meter)?;
        let price = self.price_of(meter, &hold.dimensions)?;
        let (asset, amount, required) = match (more, price) {
            (HoldSize::Quantity(quantity), price) => {
                let priced_before = hold.quantity.minus(allocated(hold, &meter.unit)?)?;
                let held_before = hold.quantity;
                let units = self.take(&meter.unit, &meter.name, quantity, Some(index))?;
                self.allocate(index, &units)?;
                self.decision.customer.state.holds[index].quantity = held_before.plus(quantity)?;
                let rest = quantity.minus(covered(&units)?)?;
                match price {
                    Some(price) => {
                        let amount = self.price_more(price, priced_before, rest)?;
                        (price.asset.clone(), amount, amount)
                    }
                    None => (meter.unit.clone(), rest, quantity),
                }
            }
            (HoldSize::Amount(amount), Some(price)) => (price.asset.clone(), amount, amount),
            (HoldSize::Amount(amount), None) => (meter.unit.clone(), amount, amount),
        };
        let money = self.take(&asset, &meter.name, amount, Some(index))?;
        self.allocate(index, &money)?;
        let short = amount.max(Micros::ZERO).minus(covered(&money)?)?;
        if short.is_zero() {
            return Ok(());
        }
        self.judge_hold_overage(index, &asset, required, short)?;
        let room = &mut self.decision.customer.state.holds[index].owed;
        let kept = room.as_ref().map_or(Micros::ZERO, |(_, kept)| *kept);
        *room = Some((asset, kept.plus(short)?));
        Ok(())
    }

    /// As for a charge; but what this hold itself keeps is not held by another.
    fn judge_hold_overage(&self, index: usize, asset: &Asset, required: Micros, short: Micros) -> Result<(), Refusal> {
        let hold = &self.decision.customer.state.holds[index];
        let verdict = self.judge_overage(&hold.meter, asset, required, short);
        let Err(Refusal::HeldByOthers { asset, required, available, held }) = verdict else {
            return verdict;
        };
        let held = held.minus(allocated(hold, &asset)?)?;
        Err(if held >= short {
            Refusal::HeldByOthers { asset, required, available, held }
        } else {
            Refusal::InsufficientFunds { asset, required, available }
        })
    }

    /// What `more` costs on top of what the hold already reserves.
    fn price_more(&self, price: &Price, reserved: Micros, more: Micros) -> Result<Micros, Refusal> {
        let period = self.counting_start(self.now)?;
        let customer = &self.decision.customer;
        let before = customer.counted(&price.name, customer.counting_period(&price.name, period));
        let cost = |quantity: Micros| {
            if quantity.is_zero() { Ok(Micros::ZERO) } else { rate(price, before, quantity) }
        };
        Ok(cost(reserved.plus(more)?)?.minus(cost(reserved)?)?.max(Micros::ZERO))
    }

    fn allocate(&mut self, index: usize, covers: &[Cover]) -> Result<(), Refusal> {
        let allocations = &mut self.decision.customer.state.holds[index].allocations;
        for cover in covers {
            match allocations.iter_mut().find(|allocation| allocation.grant == cover.grant) {
                Some(allocation) => allocation.amount = allocation.amount.plus(cover.amount)?,
                None => allocations.push(Allocation {
                    grant: cover.grant,
                    asset: cover.asset.clone(),
                    amount: cover.amount,
                }),
            }
        }
        Ok(())
    }

    fn record_hold(&mut self, index: usize, state: HoldState) {
        let hold = self.decision.customer.state.holds[index].clone();
        let position = self.decision.customer.position;
        self.decision.holds.push(HoldRecord { hold, state, position, changed_at: self.now });
    }
}

fn allocated(hold: &Hold, asset: &Asset) -> Result<Micros, Refusal> {
    Micros::sum(
        hold.allocations.iter().filter(|allocation| allocation.asset == *asset).map(|allocation| allocation.amount),
    )
}
