//! Charges: one priced use, and what covered it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::{Meter, OveragePolicy};
use crate::grant::{Grant, GrantKind, GrantRecord};
use crate::id::operation_id;
use crate::invoice::Unbilled;
use crate::ledger::{Account, EntryKind};
use crate::money::{Asset, Micros, Rounding};
use crate::period::month_of;
use crate::price::Price;
use crate::rating::rate;
use crate::refusal::Refusal;
use crate::wallet::{Draft, covered};

/// How far ahead of the server's clock the time of a use may lie: a sender's clock is rarely off by more.
pub const CLOCK_SKEW_SECONDS: i64 = 300;

/// How a charge came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Asked for beforehand; refused when not covered.
    Charge,
    /// Usage that had happened; recorded, as owed where it must.
    Event,
    /// From a hold.
    Hold,
    /// A recurring charge, by itself.
    Recurring,
}

impl Source {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Event => "event",
            Self::Hold => "hold",
            Self::Recurring => "recurring",
        }
    }
}

/// A use to be charged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargeRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The caller's key for this operation.
    pub operation_key: Option<Arc<str>>,
    /// A hash of what was asked, to tell a repeat from another use of the key.
    pub fingerprint: i64,
    /// The meter.
    pub meter: Arc<str>,
    /// How much.
    pub quantity: Micros,
    /// What it costs, where it has a price of its own in place of the catalog's: in what the catalog prices the meter in, or
    /// else in the tenant's currency. At least zero. Grants in the meter's unit come first here too, and what they cover
    /// of the quantity is left out of it in proportion.
    pub own_amount: Option<Micros>,
    /// Who under the customer.
    pub subject: Option<Arc<str>>,
    /// What it was, such as the model.
    pub dimensions: BTreeMap<String, String>,
    /// When it was used.
    pub occurred_at: Timestamp,
    /// The caller's own words about it, kept as they are (a JSON object as text).
    pub metadata: Option<Arc<str>>,
}

/// A part of a charge that a grant covered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cover {
    /// The grant.
    pub grant: Uuid,
    /// What the grant is in: the price's currency, or the meter's unit.
    pub asset: Asset,
    /// How much of it.
    pub amount: Micros,
}

/// A priced use that was debited, or recorded as owed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// Its id.
    pub id: Uuid,
    /// The ledger position of its transaction.
    pub position: i64,
    /// The caller's key for this operation.
    pub operation_key: Option<Arc<str>>,
    /// A hash of what was asked.
    pub fingerprint: i64,
    /// How it came in.
    pub source: Source,
    /// The hold it was taken from.
    pub hold: Option<Uuid>,
    /// The meter.
    pub meter: Arc<str>,
    /// How much was used.
    pub quantity: Micros,
    /// Who under the customer.
    pub subject: Option<Arc<str>>,
    /// What it was.
    pub dimensions: BTreeMap<String, String>,
    /// The version of the price; nothing where the meter has none or its units covered all.
    pub price: Option<Arc<str>>,
    /// The part of the quantity that was priced: what units did not cover.
    pub priced_quantity: Micros,
    /// What was counted under the price earlier in the period.
    pub counted_before: Micros,
    /// What it was priced in.
    pub asset: Asset,
    /// The price of the priced part; below zero where a volume price got cheaper and gives back.
    pub amount: Micros,
    /// How much of the amount is owed.
    pub owed: Micros,
    /// What was available in `asset` after it.
    pub balance_after: Micros,
    /// What covered it.
    pub covered_by: Vec<Cover>,
    /// When it was used.
    pub occurred_at: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The caller's own words about it.
    pub metadata: Option<Arc<str>>,
    /// When the period began with whose usage it is invoiced; nothing where nothing is owed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub billed_with: Option<Timestamp>,
}

impl Charge {
    /// How much of the amount was given with the plan: what nothing covered, and is not owed.
    #[must_use]
    pub fn included(&self) -> Micros {
        let in_kind = |cover: &&Cover| cover.asset == self.asset;
        let covered = self.covered_by.iter().filter(in_kind).fold(0_i64, |sum, c| sum.saturating_add(c.amount.get()));
        // Without a price the amount is in the meter's unit, and is what units did not cover.
        let rest = self.quantity.get().saturating_sub(self.priced_quantity.get());
        let in_units = self.price.is_none() && self.covered_by.iter().all(|cover| in_kind(&cover)) && covered == rest;
        let paid = self.owed.get().saturating_add(if in_units { 0 } else { covered });
        Micros::new(self.amount.get().saturating_sub(paid).max(0))
    }
}

/// The price of a use, before anything covers it.
struct Priced {
    asset: Asset,
    amount: Micros,
    version: Option<Arc<str>>,
    counted_before: Micros,
    counter: Option<(Arc<str>, Timestamp, Micros)>,
}

impl<'a> Draft<'a> {
    /// Charges one use: from the hold it settles, the meter's own units, and money in the order of use; what is left is
    /// up to the overage policy, or owed in any case where the use has already happened.
    pub(crate) fn charge(
        &mut self,
        request: &ChargeRequest,
        source: Source,
        hold: Option<usize>,
    ) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let meter = catalog.meter(&request.meter)?;
        let price = self.price_of(meter, &request.dimensions)?;
        self.refuse_future(request.occurred_at)?;
        if request.quantity.is_negative() || request.own_amount.is_some_and(Micros::is_negative) {
            return Err(Refusal::AmountOutOfRange);
        }
        if source == Source::Charge {
            self.require_payment_method(meter)?;
        }
        self.count_use(&meter.name, request.quantity, source)?;
        let mut covered_by = self.cover(&meter.unit, &meter.name, request.quantity, hold)?;
        let priced_quantity = request.quantity.minus(covered(&covered_by)?)?;
        let priced = match (request.own_amount, price) {
            // Nothing was used, or units cover it all: a call that never connected costs nothing, at a flat price too.
            (None, Some(price)) if priced_quantity.is_zero() => Priced::nothing(price.asset.clone()),
            (None, Some(price)) => self.price(price, priced_quantity, request.occurred_at)?,
            (None, None) => Priced { amount: priced_quantity, ..Priced::nothing(meter.unit.clone()) },
            (Some(own), price) => {
                let asset = price.map_or(&catalog.currency, |price| &price.asset).clone();
                let amount = share(own, priced_quantity, request.quantity)?;
                Priced { amount, ..Priced::nothing(asset) }
            }
        };
        let price = price.filter(|_| request.own_amount.is_none());
        let money = self.cover(&priced.asset, &meter.name, priced.amount, hold)?;
        let short = priced.amount.max(Micros::ZERO).minus(covered(&money)?)?;
        if source == Source::Charge {
            // Without a price the quantity itself is what it takes, with the part that units cover.
            let priced_at_all = price.is_some() || request.own_amount.is_some();
            let required = if priced_at_all { priced.amount } else { request.quantity };
            self.judge_overage(&meter.name, &priced.asset, required, short)?;
        }
        covered_by.extend(money);
        let is_included = !short.is_zero() && self.overage().policy == OveragePolicy::Included;
        let (owed, included) = if is_included { (Micros::ZERO, short) } else { (short, Micros::ZERO) };
        let billed_with = if owed.is_zero() {
            None
        } else {
            Some(self.note_unbilled(request, price, priced_quantity, (&priced.asset, priced.amount, owed))?)
        };
        self.book(request.id, &priced, &covered_by, owed, hold)?;
        self.include(request, &priced.asset, included, hold)?;
        let hold = hold.map(|index| self.decision.customer.state.holds[index].id);
        let balance_after = self.available(&priced.asset, None)?;
        self.decision.charges.push(Charge {
            id: request.id,
            position: self.decision.customer.position,
            operation_key: request.operation_key.clone(),
            fingerprint: request.fingerprint,
            source,
            hold,
            meter: meter.name.clone(),
            quantity: request.quantity,
            subject: request.subject.clone(),
            dimensions: request.dimensions.clone(),
            price: priced.version,
            priced_quantity,
            counted_before: priced.counted_before,
            asset: priced.asset,
            amount: priced.amount,
            owed,
            balance_after,
            covered_by,
            occurred_at: request.occurred_at,
            recorded_at: self.now,
            metadata: request.metadata.clone(),
            billed_with,
        });
        Ok(())
    }

    /// Takes from the hold first, then from the open grants.
    fn cover(
        &mut self,
        asset: &Asset,
        meter: &str,
        wanted: Micros,
        hold: Option<usize>,
    ) -> Result<Vec<Cover>, Refusal> {
        let mut covers = match hold {
            Some(index) => self.take_from_hold(index, asset, wanted)?,
            None => Vec::new(),
        };
        let missing = wanted.minus(covered(&covers)?)?;
        covers.extend(self.take(asset, meter, missing, None)?);
        Ok(merge(covers))
    }

    /// The price of a use for this customer.
    pub(crate) fn price_of(
        &self,
        meter: &Meter,
        dimensions: &BTreeMap<String, String>,
    ) -> Result<Option<&'a Arc<Price>>, Refusal> {
        self.catalog.price(meter, dimensions, &self.plans())
    }

    /// Keeps what usage made of debt for the invoice; when the period began with which it is kept.
    fn note_unbilled(
        &mut self,
        request: &ChargeRequest,
        price: Option<&Arc<Price>>,
        quantity: Micros,
        (asset, amount, short): (&Asset, Micros, Micros),
    ) -> Result<Timestamp, Refusal> {
        let mut period = self.counting_start(request.occurred_at)?;
        self.count_spending(asset, period, short)?;
        if self.catalog.billing.usage_invoices.by_month_alone() {
            period = month_of(request.occurred_at, &self.catalog.time_zone)?.start;
        }
        if asset.currency().is_some() {
            self.expect_usage_invoice()?;
        }
        let version = price.map(|price| price.version.clone());
        let since = self.decision.customer.position;
        let unbilled = &mut self.decision.customer.state.unbilled;
        let same = |usage: &Unbilled| {
            usage.meter == request.meter && usage.price == version && usage.asset == *asset && usage.period == period
        };
        // Use that has happened is recorded, however much it is: what would not fit one sum begins another.
        for usage in unbilled.iter_mut().filter(|usage| same(usage)) {
            let sums = (usage.quantity.plus(quantity), usage.priced.plus(amount), usage.owed.plus(short));
            if let (Ok(quantity), Ok(priced), Ok(owed)) = sums {
                (usage.quantity, usage.priced, usage.owed) = (quantity, priced, owed);
                return Ok(period);
            }
        }
        unbilled.push(Unbilled {
            meter: request.meter.clone(),
            price: version,
            asset: asset.clone(),
            period,
            since,
            quantity,
            priced: amount,
            owed: short,
            rounding: price.map_or(Rounding::Down, |price| price.line_rounding),
        });
        Ok(period)
    }

    fn price(&self, price: &Price, quantity: Micros, at: Timestamp) -> Result<Priced, Refusal> {
        let (counted_before, counter) = if price.model.is_cumulative() {
            let period = self.counting_start(at)?;
            let period = self.decision.customer.counting_period(&price.name, period);
            let before = self.decision.customer.counted(&price.name, period);
            (before, Some((price.name.clone(), period, before.plus(quantity)?)))
        } else {
            (Micros::ZERO, None)
        };
        let amount = rate(price, counted_before, quantity)?;
        Ok(Priced { asset: price.asset.clone(), amount, version: Some(price.version.clone()), counted_before, counter })
    }

    /// Writes what a priced use does to debt, counters and the ledger.
    fn book(
        &mut self,
        id: Uuid,
        priced: &Priced,
        covers: &[Cover],
        short: Micros,
        hold: Option<usize>,
    ) -> Result<(), Refusal> {
        for cover in covers {
            let sides = (Account::Wallet, Account::Revenue);
            self.post((EntryKind::Charge, id), Some(cover.grant), sides, (&cover.asset, cover.amount))?;
        }
        let asset = &priced.asset;
        self.post((EntryKind::Charge, id), None, (Account::Receivable, Account::Revenue), (asset, short))?;
        let owed = self.decision.customer.owed(asset).plus(short)?;
        self.set_debt(asset, owed);
        if let Some(index) = hold {
            self.use_room(index, short)?;
        }
        if let Some((name, period, total)) = &priced.counter {
            self.decision.customer.count(name, *period, *total);
        }
        if priced.amount.is_negative() {
            self.give_back(id, asset, Micros::ZERO.minus(priced.amount)?)?;
        }
        self.drop_empty_grants();
        Ok(())
    }

    /// Gives with the plan what no grant covers.
    fn include(
        &mut self,
        request: &ChargeRequest,
        asset: &Asset,
        amount: Micros,
        hold: Option<usize>,
    ) -> Result<(), Refusal> {
        if amount.is_zero() {
            return Ok(());
        }
        let month = month_of(request.occurred_at, &self.catalog.time_zone)?;
        self.count_spending(asset, month.start, amount)?;
        let sides = (Account::Promotions, Account::Revenue);
        self.post((EntryKind::Charge, request.id), None, sides, (asset, amount))?;
        match hold {
            Some(index) => self.use_room(index, amount),
            None => Ok(()),
        }
    }

    /// Gives back what a volume price makes cheaper: off the debt first, then off what the plan gave, then as a grant.
    fn give_back(&mut self, charge: Uuid, asset: &Asset, amount: Micros) -> Result<(), Refusal> {
        let cause = (EntryKind::Repricing, charge);
        let debt = self.decision.customer.owed(asset).min(amount);
        self.post(cause, None, (Account::Revenue, Account::Receivable), (asset, debt))?;
        self.reduce_debt(asset, debt)?;
        let rest = amount.minus(debt)?;
        let given = self.give_less(asset, rest)?;
        self.post(cause, None, (Account::Revenue, Account::Promotions), (asset, given))?;
        let rest = rest.minus(given)?;
        if rest.is_zero() {
            return Ok(());
        }
        let id = operation_id(self.decision.customer.id, "repricing", &charge.to_string());
        let position = self.decision.customer.position;
        self.post(cause, Some(id), (Account::Revenue, Account::Wallet), (asset, rest))?;
        self.decision.grants.push(GrantRecord {
            id,
            asset: asset.clone(),
            kind: GrantKind::Refund,
            amount: rest,
            priority: 0,
            expires_at: None,
            meters: Vec::new(),
            reason: Some("volume price".to_owned()),
            position,
            created_at: self.now,
        });
        self.insert_grant(Grant {
            id,
            asset: asset.clone(),
            kind: GrantKind::Refund,
            priority: 0,
            remaining: rest,
            held: Micros::ZERO,
            expires_at: None,
            meters: Vec::new(),
            since: position,
            frozen: false,
        })
    }

    /// What the overage policy says of `short` that no grant covers.
    pub(crate) fn judge_overage(
        &self,
        meter: &str,
        asset: &Asset,
        required: Micros,
        short: Micros,
    ) -> Result<(), Refusal> {
        if short.is_zero() {
            return Ok(());
        }
        let customer = &self.decision.customer;
        let overage = self.overage();
        match overage.policy {
            OveragePolicy::Ask => {
                // A payment pays the debt first.
                let amount = customer.owed(asset).plus(short)?;
                Err(Refusal::PaymentRequired { asset: asset.clone(), amount })
            }
            OveragePolicy::Included => self.judge_spending(asset, short),
            OveragePolicy::Owe => {
                let rooms = customer.state.holds.iter().filter_map(|hold| hold.owed.as_ref());
                let kept = Micros::sum(rooms.filter(|(of, _)| of == asset).map(|(_, room)| *room))?;
                self.judge_spending(asset, short)?;
                let owed = Micros::sum([customer.owed(asset), customer.invoiced(asset)?, kept, short])?;
                match overage.limit {
                    Some(limit) if owed > limit => Err(Refusal::LimitReached { asset: asset.clone(), owed, limit }),
                    _ => Ok(()),
                }
            }
            OveragePolicy::Refuse => {
                let (asset, available) = (asset.clone(), required.minus(short)?);
                let held = self.held(&asset, meter)?;
                if held >= short {
                    Err(Refusal::HeldByOthers { asset, required, available, held })
                } else {
                    Err(Refusal::InsufficientFunds { asset, required, available })
                }
            }
        }
    }

    pub(crate) fn require_payment_method(&self, meter: &Meter) -> Result<(), Refusal> {
        if meter.requires_payment_method && !self.decision.customer.state.has_payment_method() {
            return Err(Refusal::PaymentMethodRequired { meter: meter.name.to_string() });
        }
        Ok(())
    }

    fn refuse_future(&self, at: Timestamp) -> Result<(), Refusal> {
        let latest = self.now.checked_add(SignedDuration::from_secs(CLOCK_SKEW_SECONDS));
        if latest.is_ok_and(|latest| at > latest) { Err(Refusal::TimeInFuture) } else { Ok(()) }
    }
}

impl Priced {
    fn nothing(asset: Asset) -> Self {
        Self { asset, amount: Micros::ZERO, version: None, counted_before: Micros::ZERO, counter: None }
    }
}

/// The part of an amount for `part` of the `whole` quantity, rounded up; all of it where nothing is left out, nothing where
/// nothing was used.
fn share(amount: Micros, part: Micros, whole: Micros) -> Result<Micros, Refusal> {
    if part == whole && !whole.is_zero() {
        return Ok(amount);
    }
    let product = i128::from(amount.get()) * i128::from(part.get());
    let whole = i128::from(whole.get()).max(1);
    let rounded_up = (product + whole - 1) / whole;
    i64::try_from(rounded_up).map(Micros::new).map_err(|_| Refusal::AmountOutOfRange)
}

/// Adds up covers from the same grant, which a hold and the open part of it can both give.
fn merge(covers: Vec<Cover>) -> Vec<Cover> {
    let mut merged: Vec<Cover> = Vec::with_capacity(covers.len());
    for cover in covers {
        match merged.iter_mut().find(|other| other.grant == cover.grant) {
            Some(other) => other.amount = Micros::new(other.amount.get().saturating_add(cover.amount.get())),
            None => merged.push(cover),
        }
    }
    merged
}
