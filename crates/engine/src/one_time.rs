//! One-time payments: a sum that is collected once, for what the product itself delivers or for usage beyond what the plan
//! includes. Nothing is given for it here, so it is sold when it is paid.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::Effect;
use crate::ledger::{Account, EntryKind};
use crate::money::Money;
use crate::payment::Purpose;
use crate::purchase::CollectionRequest;
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// The most that a payment may come to, in minor units (<https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>).
pub const LARGEST_PAYMENT: i64 = 99_999_999;

/// What a one-time payment is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OneTime {
    /// What it is for, as the customer reads it.
    pub description: Arc<str>,
    /// The caller's own notes, kept beside the payment at the provider too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Whether usage is paid with it: what the plan includes is counted anew from then on, whatever the sum.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_usage: bool,
}

/// A sum to be collected once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OneTimeRequest {
    /// The id of the payment: from the operation key, or drawn for it.
    pub id: Uuid,
    /// How much: what the provider collects at least, to `LARGEST_PAYMENT`.
    pub amount: Money,
    /// What it is for.
    pub one_time: OneTime,
    /// How it is collected.
    pub collection: CollectionRequest,
}

impl Draft<'_> {
    /// Records what is to be collected, and asks the provider for the payment.
    pub(crate) fn collect_once(&mut self, request: &OneTimeRequest) -> Result<(), Refusal> {
        self.refuse_closed()?;
        let minimums = &self.catalog.billing.minimums;
        let least = minimums.get(&request.amount.currency).copied().unwrap_or_default().max(1);
        if !(least..=LARGEST_PAYMENT).contains(&request.amount.minor) || request.amount.micros().is_err() {
            return Err(Refusal::AmountOutOfRange);
        }
        let collection = self.collection(&request.collection)?;
        let purpose = Purpose::OneTime(request.one_time.clone());
        let payment = self.new_payment(request.id, purpose, request.amount.clone(), collection);
        self.decision.payments.push(payment);
        self.effect(Effect::CreatePayment { payment: request.id }, self.now);
        Ok(())
    }

    /// What was collected once is sold.
    pub(crate) fn book_one_time(
        &mut self,
        (payment, amount): (Uuid, &Money),
        one_time: &OneTime,
    ) -> Result<(), Refusal> {
        let sides = (Account::Cash, Account::Revenue);
        self.post((EntryKind::Sale, payment), None, sides, (&amount.currency, amount.micros()?))?;
        if one_time.for_usage {
            self.begin_spending_anew();
        }
        Ok(())
    }
}
