//! Answers: what a command did, in a form that can be kept and given again.

use std::sync::Arc;

use engine::{Charge, Decision, EffectRecord, GrantRecord, HoldRecord, Payment};
use serde::{Deserialize, Serialize};

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The ledger position that this is true at.
    pub as_of: i64,
    /// The charges it made, in the order asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub charges: Vec<Arc<Charge>>,
    /// The grants it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<GrantRecord>,
    /// The holds it made or changed, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<HoldRecord>,
    /// The payments it made or changed, as they are now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payments: Vec<Payment>,
    /// What must happen outside because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EffectRecord>,
    /// Whether it created the customer.
    #[serde(default)]
    pub created: bool,
    /// Whether this is the first answer given again.
    #[serde(skip)]
    pub replayed: bool,
}

impl Answer {
    pub(super) fn of(decision: &Decision, charges: &[Arc<Charge>]) -> Self {
        let position = decision.customer.position;
        Self {
            as_of: position,
            charges: charges.to_vec(),
            grants: decision.grants.clone(),
            holds: decision.holds.clone(),
            payments: decision.payments.clone(),
            effects: decision.effects.clone(),
            created: position == 1,
            replayed: false,
        }
    }

    /// The charge of a command that makes one.
    #[must_use]
    pub fn charge(&self) -> Option<&Arc<Charge>> {
        self.charges.first()
    }
}
