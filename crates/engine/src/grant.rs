//! Grants: pieces of value in a wallet, and the order in which they are used.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::LifeEvent;
use crate::command::GrantRequest;
use crate::id::operation_id;
use crate::invoice::Unbilled;
use crate::ledger::{Account, EntryKind};
use crate::money::{Asset, Micros};
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// The most open grants that a customer may have, so that its row stays small.
pub const MOST_OPEN_GRANTS: usize = 200;

/// Where a grant's value comes from; also the order in which kinds are used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// Included in a subscription, or free for everyone.
    Allowance,
    /// Given away.
    Promotional,
    /// Bought.
    Paid,
    /// Given back.
    Refund,
}

/// An open grant, as it stands in the customer's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: Uuid,
    /// What it is in.
    pub asset: Asset,
    /// Of which kind.
    pub kind: GrantKind,
    /// Lower is used first within its kind.
    pub priority: i16,
    /// What is left and free.
    pub remaining: Micros,
    /// What open holds keep of it.
    #[serde(default, skip_serializing_if = "Micros::is_zero_ref")]
    pub held: Micros,
    /// When what is left lapses; what is held then stays with its hold.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub expires_at: Option<Timestamp>,
    /// The meters that it covers; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<Arc<str>>,
    /// The ledger position that made it: its age.
    pub since: i64,
    /// Whether it cannot be used for now, because what was paid for it is disputed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
}

/// A grant to be made, once it is known to be sound.
pub(crate) struct GrantTerms {
    pub(crate) id: Uuid,
    pub(crate) asset: Asset,
    pub(crate) amount: Micros,
    pub(crate) kind: GrantKind,
    pub(crate) priority: i16,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) meters: Vec<Arc<str>>,
    pub(crate) reason: Option<String>,
}

impl Grant {
    /// Whether uses of this meter may be covered by it.
    #[must_use]
    pub fn covers(&self, meter: &str) -> bool {
        self.meters.is_empty() || self.meters.iter().any(|name| &**name == meter)
    }

    /// Whether it has lapsed at this time.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// The order of use: kind, priority, earliest expiry, age.
    #[must_use]
    pub fn order(&self) -> (GrantKind, i16, Timestamp, i64, Uuid) {
        let expiry = self.expires_at.unwrap_or(Timestamp::MAX);
        // A refund gives back what was bought, so it is used as bought value is.
        let kind = if self.kind == GrantKind::Refund { GrantKind::Paid } else { self.kind };
        (kind, self.priority, expiry, self.since, self.id)
    }
}

/// Why a grant is no longer open, where it was not simply used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantEnd {
    /// Its time ran out.
    Expired,
    /// It was taken back.
    Voided,
}

/// A grant as it was made, for the record, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Its id.
    pub id: Uuid,
    /// What it is in.
    pub asset: Asset,
    /// Of which kind.
    pub kind: GrantKind,
    /// How much was granted.
    pub amount: Micros,
    /// Lower is used first within its kind.
    pub priority: i16,
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
    /// The meters that it covers; none means all.
    pub meters: Vec<Arc<str>>,
    /// Why: the tenant file's name for it, or the caller's words.
    pub reason: Option<String>,
    /// The ledger position that made it.
    pub position: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl GrantKind {
    /// The account that a grant of this kind comes from.
    #[must_use]
    pub const fn source(self) -> Account {
        match self {
            Self::Allowance | Self::Promotional => Account::Promotions,
            Self::Paid => Account::Cash,
            Self::Refund => Account::Revenue,
        }
    }
}

impl Draft<'_> {
    /// Puts value into a wallet, as somebody asked.
    pub(crate) fn grant(&mut self, request: &GrantRequest) -> Result<(), Refusal> {
        let asset = self.catalog.asset(&request.asset)?;
        for meter in &request.meters {
            self.catalog.meter(meter)?;
        }
        if request.expires_at.is_some_and(|at| at <= self.now) {
            return Err(Refusal::AlreadyExpired);
        }
        if request.amount.is_negative() {
            return Err(Refusal::AmountOutOfRange);
        }
        if self.decision.customer.state.grants.len() >= MOST_OPEN_GRANTS {
            return Err(Refusal::TooManyGrants { limit: MOST_OPEN_GRANTS });
        }
        self.add_grant(&GrantTerms {
            id: request.id,
            asset,
            amount: request.amount,
            kind: request.kind,
            priority: request.priority,
            expires_at: request.expires_at,
            meters: request.meters.clone(),
            reason: request.reason.clone(),
        })
    }

    /// Puts value into a wallet. Bought value pays the debt in its asset first.
    pub(crate) fn add_grant(&mut self, request: &GrantTerms) -> Result<(), Refusal> {
        let position = self.decision.customer.position;
        let (id, asset) = (request.id, request.asset.clone());
        let sides = (request.kind.source(), Account::Wallet);
        self.post((EntryKind::Grant, id), Some(id), sides, (&asset, request.amount))?;
        let mut remaining = request.amount;
        if request.kind == GrantKind::Paid {
            let debt = self.decision.customer.owed(&asset).min(remaining);
            let sides = (Account::Wallet, Account::Receivable);
            self.post((EntryKind::Repayment, id), Some(id), sides, (&asset, debt))?;
            self.reduce_debt(&asset, debt)?;
            remaining = remaining.minus(debt)?;
        }
        self.decision.grants.push(GrantRecord {
            id,
            asset: asset.clone(),
            kind: request.kind,
            amount: request.amount,
            priority: request.priority,
            expires_at: request.expires_at,
            meters: request.meters.clone(),
            reason: request.reason.clone(),
            position,
            created_at: self.now,
        });
        self.insert_grant(Grant {
            id,
            asset,
            kind: request.kind,
            priority: request.priority,
            remaining,
            held: Micros::ZERO,
            expires_at: request.expires_at,
            meters: request.meters.clone(),
            since: position,
            frozen: false,
        })
    }

    /// Takes back what is left of a grant. What holds keep of it stays with them, and lapses when they end.
    pub(crate) fn void_grant(&mut self, id: Uuid) -> Result<(), Refusal> {
        let now = self.now;
        let grants = &mut self.decision.customer.state.grants;
        let grant = grants.iter_mut().find(|grant| grant.id == id).ok_or(Refusal::UnknownGrant)?;
        let (asset, kind, left) = (grant.asset.clone(), grant.kind, std::mem::take(&mut grant.remaining));
        grant.expires_at = Some(now);
        self.post((EntryKind::Void, id), Some(id), (Account::Wallet, kind.source()), (&asset, left))?;
        self.decision.ended_grants.push((id, GrantEnd::Voided));
        // Its expiry has changed, and with it its place in the order of use.
        self.decision.customer.state.grants.sort_by_key(Grant::order);
        self.drop_empty_grants();
        Ok(())
    }

    /// The grants that every customer gets at this moment of its life.
    pub(crate) fn grant_for(&mut self, event: LifeEvent) -> Result<(), Refusal> {
        let catalog = self.catalog;
        for template in catalog.grants.iter().filter(|template| template.on == event) {
            let days = template.expires_after_days;
            let expires_at = days.map(|days| self.now.checked_add(SignedDuration::from_hours(days * 24)));
            self.grant(&GrantRequest {
                id: operation_id(self.decision.customer.id, "life", &template.name),
                asset: template.asset.to_string(),
                amount: template.amount,
                kind: template.kind,
                priority: template.priority,
                expires_at: expires_at.transpose().map_err(|_| Refusal::AmountOutOfRange)?,
                meters: template.meters.clone(),
                reason: Some(template.name.to_string()),
            })?;
        }
        Ok(())
    }

    /// Adds an open grant at its place in the order of use. A wallet whose sum would not fit is refused here, because
    /// nobody could read it afterwards.
    pub(crate) fn insert_grant(&mut self, grant: Grant) -> Result<(), Refusal> {
        let grants = &mut self.decision.customer.state.grants;
        let at = grants.partition_point(|other| other.order() < grant.order());
        let same_asset = grants.iter().filter(|other| other.asset == grant.asset).chain([&grant]);
        Micros::sum(same_asset.flat_map(|grant| [grant.remaining, grant.held]))?;
        grants.insert(at, grant);
        self.drop_empty_grants();
        Ok(())
    }

    /// Takes from the debt in an asset.
    pub(crate) fn reduce_debt(&mut self, asset: &Asset, by: Micros) -> Result<(), Refusal> {
        let customer = &mut self.decision.customer;
        let owed = customer.owed(asset);
        let of_usage = |usage: &&mut Unbilled| usage.asset == *asset;
        let itemised = Micros::sum(customer.state.unbilled.iter_mut().filter(of_usage).map(|usage| usage.owed))?;
        // What is owed besides usage is older, and so paid first; then usage, oldest first.
        let mut rest = by.minus(owed.minus(itemised)?)?.max(Micros::ZERO);
        for usage in customer.state.unbilled.iter_mut().filter(of_usage) {
            let part = usage.owed.min(rest);
            (usage.owed, rest) = (usage.owed.minus(part)?, rest.minus(part)?);
        }
        customer.state.unbilled.retain(|usage| !usage.owed.is_zero());
        self.set_debt(asset, owed.minus(by)?);
        Ok(())
    }

    /// Sets the debt in an asset; none is not kept.
    pub(crate) fn set_debt(&mut self, asset: &Asset, owed: Micros) {
        let debts = &mut self.decision.customer.state.owed;
        if owed.is_zero() {
            debts.remove(asset);
        } else {
            debts.insert(asset.clone(), owed);
        }
    }
}
