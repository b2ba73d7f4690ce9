//! The check: may this customer do this now, what would it cost, and who would have paid? It is the charge itself, tried
//! on a copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::{Catalog, Overage};
use crate::charge::{ChargeRequest, Cover, Source};
use crate::customer::Customer;
use crate::entitlement::{Feature, LimitStanding, SpendingStanding};
use crate::money::{Asset, Micros};
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// A use that might be charged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckRequest {
    /// The meter.
    pub meter: Arc<str>,
    /// How much.
    pub quantity: Micros,
    /// What it would be.
    pub dimensions: BTreeMap<String, String>,
}

/// What a charge would come to, true at `as_of`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Why it would be refused; nothing where it would not.
    pub refusal: Option<Refusal>,
    /// What it would be priced in.
    pub asset: Asset,
    /// What it would cost; nothing where it would be refused before it is priced.
    pub amount: Option<Micros>,
    /// What would cover it.
    pub covered_by: Vec<Cover>,
    /// How much of it would be owed.
    pub owed: Micros,
    /// What is available for this meter in `asset`.
    pub available: Micros,
    /// What is available for this meter in its own unit.
    pub available_units: Micros,
    /// How the limits of the meter stand.
    pub limits: Vec<LimitStanding>,
    /// How the spending limit of the customer's plan stands.
    pub spending: Option<SpendingStanding>,
    /// What happens when credit runs out.
    pub overage: Overage,
    /// What the customer's plans say of features.
    pub features: BTreeMap<Arc<str>, Feature>,
    /// The ledger position that this is true at.
    pub as_of: i64,
}

/// Tries a charge on a copy of the customer.
///
/// # Errors
/// A refusal only for what no customer could do: an unknown meter or dimension, no price, an amount that does not fit.
pub fn check(catalog: &Catalog, customer: &Customer, request: &CheckRequest, now: Timestamp) -> Result<Check, Refusal> {
    if customer.position == 0 {
        return Err(Refusal::UnknownCustomer);
    }
    let meter = catalog.meter(&request.meter)?;
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    let price = draft.price_of(meter, &request.dimensions)?;
    let asset = price.map_or(&meter.unit, |price| &price.asset);
    let mut answer = Check {
        refusal: None,
        asset: asset.clone(),
        amount: None,
        covered_by: Vec::new(),
        owed: Micros::ZERO,
        available: draft.available(asset, Some(&meter.name))?,
        available_units: draft.available(&meter.unit, Some(&meter.name))?,
        limits: draft.limits_of(&meter.name)?,
        spending: draft.spending()?,
        overage: draft.overage(),
        features: draft.features(),
        as_of: customer.position,
    };
    let charge = ChargeRequest {
        id: Uuid::nil(),
        operation_key: None,
        fingerprint: 0,
        meter: meter.name.clone(),
        quantity: request.quantity,
        own_amount: None,
        subject: None,
        dimensions: request.dimensions.clone(),
        occurred_at: now,
        metadata: None,
    };
    match draft.require_active().and_then(|()| draft.charge(&charge, Source::Charge, None)) {
        Ok(()) => {
            if let Some(charge) = draft.decision.charges.pop() {
                answer.amount = Some(charge.amount);
                answer.owed = charge.owed;
                answer.covered_by = charge.covered_by;
            }
        }
        Err(Refusal::AmountOutOfRange) => return Err(Refusal::AmountOutOfRange),
        Err(refusal) => {
            if is_for_lack_of_credit(&refusal) {
                // Usage that has happened is priced in the same way, and never refused for this.
                let mut draft = Draft::new(catalog, customer, now);
                draft.pass_time()?;
                draft.charge(&charge, Source::Event, None)?;
                answer.amount = draft.decision.charges.first().map(|charge| charge.amount);
            }
            answer.refusal = Some(refusal);
        }
    }
    Ok(answer)
}

/// Whether a use was priced before it was refused.
const fn is_for_lack_of_credit(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::InsufficientFunds { .. }
            | Refusal::HeldByOthers { .. }
            | Refusal::LimitReached { .. }
            | Refusal::PaymentRequired { .. }
            | Refusal::SpendingLimit { .. }
            | Refusal::LimitExceeded { .. }
    )
}
