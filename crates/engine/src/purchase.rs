//! Purchases: a pack that is sold, and the grant that it becomes when it is paid, once.

use std::sync::Arc;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::Effect;
use crate::grant::{GrantKind, GrantTerms};
use crate::id::operation_id;
use crate::money::{Asset, Micros, Money};
use crate::payment::{Collection, Purpose};
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// The most of one pack that can be bought at once.
pub const MOST_PACKS: u32 = 1_000;

/// A pack: value that can be bought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pack {
    /// Its name.
    pub name: Arc<str>,
    /// What it is, as the customer reads it.
    pub title: Arc<str>,
    /// What it costs.
    pub price: Money,
    /// What it gives: the asset.
    pub asset: Asset,
    /// What it gives: how much.
    pub amount: Micros,
    /// Lower is used first among paid grants.
    pub priority: i16,
    /// How many days what it gives lasts, from the payment on; for ever where nothing is said.
    pub expires_after_days: Option<i64>,
    /// The meters that it covers; none means all.
    pub meters: Vec<Arc<str>>,
}

/// What was sold, as it was when it was sold: a pack that changes, or goes, changes nothing of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purchase {
    /// The pack.
    pub pack: Arc<str>,
    /// What it was, as the customer read it.
    pub title: Arc<str>,
    /// How many.
    pub quantity: u32,
    /// What they give in all: the asset.
    pub asset: Asset,
    /// What they give in all: how much.
    pub amount: Micros,
    /// Lower is used first among paid grants.
    pub priority: i16,
    /// How many days it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after_days: Option<i64>,
    /// The meters that it covers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meters: Vec<Arc<str>>,
    /// Whether it was bought by the automatic top-up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

/// A pack to be bought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurchaseRequest {
    /// The id of the payment: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The pack's name.
    pub pack: Arc<str>,
    /// How many.
    pub quantity: u32,
    /// How it is collected.
    pub collection: CollectionRequest,
}

/// How a payment is asked to be collected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CollectionRequest {
    /// As it says.
    By(Collection),
    /// With a payment method on file: this one, or the usual one.
    OnFile(Option<Arc<str>>),
}

/// The id of the grant that a payment becomes.
#[must_use]
pub fn purchased_grant(payment: Uuid) -> Uuid {
    operation_id(payment, "purchase", "grant")
}

impl Draft<'_> {
    /// Records what is sold for how much, and asks the provider for the payment.
    pub(crate) fn purchase(&mut self, request: &PurchaseRequest) -> Result<(), Refusal> {
        self.refuse_closed()?;
        let collection = self.collection(&request.collection)?;
        self.sell(request.id, &request.pack, request.quantity, collection, false)?;
        Ok(())
    }

    /// Sells a pack; its price in minor units comes back.
    pub(crate) fn sell(
        &mut self,
        id: Uuid,
        pack: &str,
        quantity: u32,
        collection: Collection,
        automatic: bool,
    ) -> Result<Money, Refusal> {
        let catalog = self.catalog;
        let pack = catalog.pack(pack)?;
        if quantity == 0 || quantity > MOST_PACKS {
            return Err(Refusal::AmountOutOfRange);
        }
        let times = |amount: i64| amount.checked_mul(i64::from(quantity)).ok_or(Refusal::AmountOutOfRange);
        let amount = Money { minor: times(pack.price.minor)?, currency: pack.price.currency.clone() };
        let purchase = Purchase {
            pack: pack.name.clone(),
            title: pack.title.clone(),
            quantity,
            asset: pack.asset.clone(),
            amount: Micros::new(times(pack.amount.get())?),
            priority: pack.priority,
            expires_after_days: pack.expires_after_days,
            meters: pack.meters.clone(),
            automatic,
        };
        let payment = self.new_payment(id, Purpose::Purchase(purchase), amount.clone(), collection);
        self.decision.payments.push(payment);
        self.effect(Effect::CreatePayment { payment: id }, self.now);
        Ok(amount)
    }

    /// How somebody wants to pay, with the payment method where that is on file.
    pub(crate) fn collection(&mut self, request: &CollectionRequest) -> Result<Collection, Refusal> {
        match request {
            CollectionRequest::By(collection) => Ok(collection.clone()),
            CollectionRequest::OnFile(method) => self.on_file(method.as_ref()),
        }
    }

    fn on_file(&mut self, method: Option<&Arc<str>>) -> Result<Collection, Refusal> {
        let payer = self.payer();
        let method = match method {
            Some(method) => {
                let known = payer.methods.iter().find(|known| known.reference == *method);
                known.map(|known| &known.reference).ok_or(Refusal::UnknownPaymentMethod)?
            }
            None => payer.usual_method().ok_or(Refusal::NoPaymentMethod)?,
        };
        Ok(Collection::OffSession { method: method.clone() })
    }

    /// Turns what was sold into a grant. What was paid for is given, whatever the catalog says by now.
    pub(crate) fn deliver(&mut self, payment: Uuid, purchase: &Purchase) -> Result<(), Refusal> {
        let days = purchase.expires_after_days;
        let expires_at = days.map(|days| self.now.checked_add(SignedDuration::from_hours(days * 24))).transpose();
        self.add_grant(&GrantTerms {
            id: purchased_grant(payment),
            asset: purchase.asset.clone(),
            amount: purchase.amount,
            kind: GrantKind::Paid,
            priority: purchase.priority,
            expires_at: expires_at.map_err(|_| Refusal::AmountOutOfRange)?,
            meters: purchase.meters.clone(),
            reason: Some(purchase.title.to_string()),
        })
    }
}
