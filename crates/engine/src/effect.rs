//! Effects: what must happen outside because of a decision. They are written with it, in the same transaction, and done
//! afterwards by the shell, as often as it takes; what comes of one is a command again.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::operation_id;
use crate::wallet::Draft;

/// What must happen at the payment provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Effect {
    /// Make the payment.
    CreatePayment {
        /// Which.
        payment: Uuid,
    },
    /// Ask how far the payment is, should nobody have told.
    ObservePayment {
        /// Which.
        payment: Uuid,
    },
    /// End the payment, if it is not paid.
    CancelPayment {
        /// Which.
        payment: Uuid,
    },
    /// Try again to collect a payment that is an invoice of the provider's.
    CollectInvoice {
        /// The payment.
        payment: Uuid,
        /// The provider's id of the payment method.
        method: Arc<str>,
    },
    /// Give a part of the payment back.
    CreateRefund {
        /// The payment.
        payment: Uuid,
        /// The refund.
        refund: Uuid,
    },
    /// Make the customer there, unless it is there, and look what is on file.
    RegisterPayer,
    /// Begin to put a payment method on file.
    BeginSetup,
    /// Put a payment method on file.
    AttachMethod {
        /// The provider's id of it.
        method: Arc<str>,
        /// Whether to make it the default one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        default: bool,
    },
    /// Take a payment method off the file.
    DetachMethod {
        /// The provider's id of it.
        method: Arc<str>,
    },
    /// Make a payment method the default one.
    SetDefaultMethod {
        /// The provider's id of it.
        method: Arc<str>,
    },
    /// Make a subscription that the provider renews.
    CreateSubscription {
        /// Which.
        subscription: Uuid,
    },
    /// Change what a subscription that the provider renews is for.
    ChangeSubscription {
        /// Which.
        subscription: Uuid,
    },
    /// End a subscription that the provider renews, or take that back.
    EndSubscription {
        /// Which.
        subscription: Uuid,
        /// The provider's id of it, where only this decision knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<Arc<str>>,
        /// When.
        ending: Ending,
    },
    /// Ask how a subscription that the provider renews stands, should nobody have told.
    ObserveSubscription {
        /// Which.
        subscription: Uuid,
    },
}

/// When a subscription of the provider's is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Now.
    Now,
    /// With the period that is paid for.
    WithPeriod,
    /// Not, after all.
    NotAtAll,
}

/// An effect for the record: its id is also its key at the provider, so that it is done once however often it is tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EffectRecord {
    /// Its id.
    pub id: Uuid,
    /// What must happen.
    pub effect: Effect,
    /// When, at the earliest.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub due_at: Timestamp,
}

impl Draft<'_> {
    /// Adds an effect. Its id follows from the customer, the position and its place in the decision.
    pub(crate) fn effect(&mut self, effect: Effect, due_at: Timestamp) {
        let customer = &self.decision.customer;
        let key = format!("{}/{}", customer.position, self.decision.effects.len());
        let id = operation_id(customer.id, "effect", &key);
        let due_at = due_at.max(self.clock);
        self.decision.effects.push(EffectRecord { id, effect, due_at });
    }
}
