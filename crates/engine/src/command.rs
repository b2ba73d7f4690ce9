//! Commands: everything that can be asked of a customer's state. There is no other way to change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::billing::ItemRequest;
use crate::catalog::Overage;
use crate::charge::ChargeRequest;
use crate::customer::Status;
use crate::grant::GrantKind;
use crate::invoice_step::InvoiceStep;
use crate::money::Micros;
use crate::one_time::OneTimeRequest;
use crate::payer::PayerChange;
use crate::payment::PaymentStep;
use crate::purchase::PurchaseRequest;
use crate::recurring_charge::RecurringChargeRequest;
use crate::report::{Failure, SubscriptionReport};
use crate::subscription::{SubscribeRequest, SubscriptionStep};

/// What is asked of one customer's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Create the customer, or change it.
    Upsert(CustomerChange),
    /// Forget who the customer is; the books stay.
    Erase,
    /// Charge these uses, all or none; refused when they are not covered.
    Charge(Vec<ChargeRequest>),
    /// Record uses that have happened, all; owed where they must.
    Record(Vec<ChargeRequest>),
    /// Put value into a wallet.
    Grant(GrantRequest),
    /// Take back what is left of a grant.
    VoidGrant {
        /// Which.
        grant: Uuid,
    },
    /// Reserve value.
    Hold(HoldRequest),
    /// Reserve more, or for longer.
    ExtendHold {
        /// Which.
        hold: Uuid,
        /// How much more.
        more: Option<HoldSize>,
        /// The new expiry.
        expires_at: Option<Timestamp>,
    },
    /// Charge a part of what a hold reserved, and go on holding the rest.
    CaptureHold {
        /// Which.
        hold: Uuid,
        /// The use; meter, subject and dimensions are the hold's.
        charge: ChargeRequest,
    },
    /// Charge what was used in the end, more or less than reserved, and give up the rest.
    SettleHold {
        /// Which.
        hold: Uuid,
        /// The use; meter, subject and dimensions are the hold's.
        charge: ChargeRequest,
    },
    /// Give up a hold.
    ReleaseHold {
        /// Which.
        hold: Uuid,
    },
    /// Buy a pack.
    Purchase(PurchaseRequest),
    /// Collect a sum once, for what the product itself delivers.
    CollectOnce(OneTimeRequest),
    /// Move a payment on.
    StepPayment {
        /// Which.
        payment: Uuid,
        /// How.
        step: PaymentStep,
    },
    /// Begin a subscription.
    Subscribe(SubscribeRequest),
    /// Do something with a subscription.
    StepSubscription {
        /// Which.
        subscription: Uuid,
        /// What.
        step: SubscriptionStep,
    },
    /// Take over how a subscription stands at the provider.
    ReportSubscription(Box<SubscriptionReport>),
    /// The provider would not do what it was asked to do with a subscription.
    FailSubscription {
        /// Which.
        subscription: Uuid,
        /// Why.
        failure: Failure,
    },
    /// Bill something once, with the next invoice.
    AddItem(ItemRequest),
    /// Charge a use, and charge it again with every interval.
    BeginRecurringCharge(RecurringChargeRequest),
    /// Charge it no more.
    EndRecurringCharge {
        /// Which.
        recurring_charge: Uuid,
    },
    /// Invoice what usage owes, once in a period.
    InvoiceUsage,
    /// Do something with an invoice.
    StepInvoice {
        /// Which.
        invoice: Uuid,
        /// What.
        step: InvoiceStep,
    },
    /// Nothing but what is due by now.
    PassTime,
    /// Change what is kept for collecting from the customer.
    ChangePayer(PayerChange),
}

impl Command {
    /// The payment that the command is about; its document is to be handed in with the customer.
    #[must_use]
    pub fn payment(&self) -> Option<Uuid> {
        match self {
            Self::StepPayment { payment, .. } => Some(*payment),
            Self::ReportSubscription(report) => report.invoice.as_ref().map(|invoice| invoice.id),
            _ => None,
        }
    }

    /// The invoice that the command is about; where it is settled, its document is to be handed in with the customer.
    #[must_use]
    pub const fn invoice(&self) -> Option<Uuid> {
        match self {
            Self::StepInvoice { invoice, .. } => Some(*invoice),
            _ => None,
        }
    }
}

/// Who a customer is: personal data, kept apart from the books.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    /// A name for people.
    pub name: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
    /// The lines of a postal address, as on an envelope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// What the tax office knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    /// The caller's own notes.
    pub metadata: BTreeMap<String, String>,
}

/// What to change of a customer; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CustomerChange {
    /// Its status.
    pub status: Option<Status>,
    /// Whether a payment method is on file.
    pub payment_method: Option<bool>,
    /// Its own overage policy; `Some(None)` returns to the tenant's.
    pub overage: Option<Option<Overage>>,
    /// Who it is, as a whole.
    pub profile: Option<Profile>,
    /// What it brings along, given where this creates it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opening_grants: Vec<GrantRequest>,
    /// Whether it was a customer elsewhere before, and has had there what new ones are given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known_before: bool,
}

/// Value to be granted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrantRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The asset's name.
    pub asset: String,
    /// How much; above zero.
    pub amount: Micros,
    /// Of which kind.
    pub kind: GrantKind,
    /// Lower is used first within its kind.
    pub priority: i16,
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
    /// The meters that it covers; none means all.
    pub meters: Vec<Arc<str>>,
    /// Why.
    pub reason: Option<String>,
}

/// How much a hold reserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldSize {
    /// So much use, at its price.
    Quantity(Micros),
    /// So much money, in the currency of the meter's price.
    Amount(Micros),
}

/// Value to be reserved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The meter.
    pub meter: Arc<str>,
    /// How much.
    pub size: HoldSize,
    /// Who under the customer.
    pub subject: Option<Arc<str>>,
    /// The dimensions that price it.
    pub dimensions: BTreeMap<String, String>,
    /// When it lapses by itself; the tenant file's `hold_seconds` from now where nothing is said.
    pub expires_at: Option<Timestamp>,
}
