//! Wallets: what a customer's open grants hold in each asset, taking from them in their order of use, and the lapse of
//! grants and holds whose time has come.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::charge::Cover;
use crate::customer::{Customer, State};
use crate::decision::Decision;
use crate::grant::{Grant, GrantEnd};
use crate::hold::{Hold, HoldState};
use crate::ledger::{Account, Entry, EntryKind};
use crate::money::{Asset, Micros};
use crate::refusal::Refusal;

/// One asset of a customer, as it stands at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balance {
    /// What is there: available, held and frozen.
    pub balance: Micros,
    /// What open holds keep.
    pub held: Micros,
    /// What cannot be used for now, because what was paid for it is disputed.
    pub frozen: Micros,
    /// What can be used now.
    pub available: Micros,
    /// What is owed.
    pub owed: Micros,
}

/// Every asset of a customer at an instant. Lapsed grants and holds count as lapsed, whether or not the ledger has
/// booked it yet.
///
/// # Errors
/// `AmountOutOfRange` where a sum does not fit.
pub fn balances(catalog: &Catalog, customer: &Customer, now: Timestamp) -> Result<BTreeMap<Asset, Balance>, Refusal> {
    let state = at(catalog, customer, now)?;
    let mut balances: BTreeMap<Asset, Balance> = BTreeMap::new();
    for grant in &state.grants {
        let balance = balances.entry(grant.asset.clone()).or_default();
        let part = if grant.frozen { &mut balance.frozen } else { &mut balance.available };
        *part = part.plus(grant.remaining)?;
        balance.held = balance.held.plus(grant.held)?;
        balance.balance = Micros::sum([balance.available, balance.held, balance.frozen])?;
    }
    for (asset, owed) in &state.owed {
        balances.entry(asset.clone()).or_default().owed = *owed;
    }
    Ok(balances)
}

/// The state of a customer at an instant: without what has lapsed by then, whether or not the ledger has booked it yet.
///
/// # Errors
/// `AmountOutOfRange` where a sum does not fit.
pub fn at(catalog: &Catalog, customer: &Customer, now: Timestamp) -> Result<State, Refusal> {
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    Ok(draft.decision.customer.state)
}

/// A decision in the making: the customer as it will be, and the entries that lead there.
pub(crate) struct Draft<'a> {
    pub(crate) catalog: &'a Catalog,
    /// The time at which what is done now takes place: that of the clock, or, for what was due before, its own.
    pub(crate) now: Timestamp,
    /// The time of the clock.
    pub(crate) clock: Timestamp,
    pub(crate) decision: Decision,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(catalog: &'a Catalog, customer: &Customer, now: Timestamp) -> Self {
        let mut customer = customer.clone();
        customer.position += 1;
        let decision = Decision {
            customer,
            charges: Vec::new(),
            entries: Vec::new(),
            grants: Vec::new(),
            ended_grants: Vec::new(),
            holds: Vec::new(),
            payments: Vec::new(),
            subscriptions: Vec::new(),
            invoices: Vec::new(),
            invoice_changes: Vec::new(),
            credit_notes: Vec::new(),
            notices: Vec::new(),
            effects: Vec::new(),
            profile: None,
            erase: false,
        };
        Self { catalog, now, clock: now, decision }
    }

    /// Writes an entry; nothing for an amount of nothing.
    pub(crate) fn post(
        &mut self,
        cause: (EntryKind, Uuid),
        grant: Option<Uuid>,
        sides: (Account, Account),
        sum: (&Asset, Micros),
    ) -> Result<(), Refusal> {
        let (asset, amount) = sum;
        if amount.is_zero() {
            return Ok(());
        }
        let line = i16::try_from(self.decision.entries.len()).map_err(|_| Refusal::AmountOutOfRange)?;
        self.decision.entries.push(Entry {
            position: self.decision.customer.position,
            line,
            kind: cause.0,
            cause: cause.1,
            grant,
            debit: sides.0,
            credit: sides.1,
            asset: asset.clone(),
            amount,
        });
        Ok(())
    }

    /// Lets lapse what has lapsed by `now`: first holds, so that what they kept returns, then grants.
    pub(crate) fn lapse(&mut self) -> Result<(), Refusal> {
        let now = self.now;
        while let Some(index) = self.decision.customer.state.holds.iter().position(|hold| hold.expires_at <= now) {
            self.end_hold(index, HoldState::Expired)?;
        }
        for index in 0..self.decision.customer.state.grants.len() {
            let grant = &mut self.decision.customer.state.grants[index];
            // What is frozen could not be used; whether it lapses or is taken back is decided with its dispute.
            if !grant.has_expired(now) || grant.remaining.is_zero() || grant.frozen {
                continue;
            }
            let (id, asset, lapsed) = (grant.id, grant.asset.clone(), std::mem::take(&mut grant.remaining));
            self.post((EntryKind::Expiry, id), Some(id), (Account::Wallet, Account::Breakage), (&asset, lapsed))?;
            self.decision.ended_grants.push((id, GrantEnd::Expired));
        }
        self.drop_empty_grants();
        Ok(())
    }

    /// What is available in an asset for a meter, or for all where none is named.
    pub(crate) fn available(&self, asset: &Asset, meter: Option<&str>) -> Result<Micros, Refusal> {
        self.sum_grants(asset, meter, |grant| if grant.frozen { Micros::ZERO } else { grant.remaining })
    }

    /// What open holds keep in an asset for a meter, and would be available without them.
    pub(crate) fn held(&self, asset: &Asset, meter: &str) -> Result<Micros, Refusal> {
        self.sum_grants(asset, Some(meter), |grant| if grant.frozen { Micros::ZERO } else { grant.held })
    }

    fn sum_grants(&self, asset: &Asset, meter: Option<&str>, part: fn(&Grant) -> Micros) -> Result<Micros, Refusal> {
        let grants = self.decision.customer.state.grants.iter();
        Micros::sum(grants.filter(|g| g.asset == *asset && meter.is_none_or(|meter| g.covers(meter))).map(part))
    }

    /// Takes up to `wanted` of an asset from the open grants that cover the meter, in their order of use. Where a hold
    /// is given, the value moves into it; otherwise it leaves the wallet. Returns what was found.
    pub(crate) fn take(
        &mut self,
        asset: &Asset,
        meter: &str,
        wanted: Micros,
        into: Option<usize>,
    ) -> Result<Vec<Cover>, Refusal> {
        let mut missing = wanted;
        let mut covers = Vec::new();
        for grant in &mut self.decision.customer.state.grants {
            if missing <= Micros::ZERO {
                break;
            }
            let part = grant.remaining.min(missing);
            if grant.asset != *asset || part.is_zero() || grant.frozen || !grant.covers(meter) {
                continue;
            }
            missing = missing.minus(part)?;
            grant.remaining = grant.remaining.minus(part)?;
            if into.is_some() {
                grant.held = grant.held.plus(part)?;
            }
            covers.push(Cover { grant: grant.id, asset: asset.clone(), amount: part });
        }
        Ok(covers)
    }

    /// Takes up to `wanted` of an asset from what a hold keeps.
    pub(crate) fn take_from_hold(
        &mut self,
        index: usize,
        asset: &Asset,
        wanted: Micros,
    ) -> Result<Vec<Cover>, Refusal> {
        let mut missing = wanted;
        let mut covers = Vec::new();
        let state = &mut self.decision.customer.state;
        let hold: &mut Hold = &mut state.holds[index];
        for allocation in &mut hold.allocations {
            let part = allocation.amount.min(missing);
            if allocation.asset != *asset || part <= Micros::ZERO {
                continue;
            }
            let Some(grant) = state.grants.iter_mut().find(|grant| grant.id == allocation.grant) else {
                continue;
            };
            missing = missing.minus(part)?;
            allocation.amount = allocation.amount.minus(part)?;
            grant.held = grant.held.minus(part)?;
            covers.push(Cover { grant: grant.id, asset: asset.clone(), amount: part });
        }
        hold.allocations.retain(|allocation| !allocation.amount.is_zero());
        Ok(covers)
    }

    /// Forgets grants with nothing left in them.
    pub(crate) fn drop_empty_grants(&mut self) {
        self.decision.customer.state.grants.retain(|grant| !grant.remaining.is_zero() || !grant.held.is_zero());
    }
}

/// What covers add up to.
pub(crate) fn covered(covers: &[Cover]) -> Result<Micros, Refusal> {
    Micros::sum(covers.iter().map(|cover| cover.amount))
}
