//! Reports: what a payment provider says of things that it keeps for us, in farthing's own words. The shell makes them
//! of the provider's replies; the rules compare them with the books and never trust them further than that.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::id::keyed_id;
use crate::money::Money;
use crate::payment::Heard;
use crate::period::Period;
use crate::subscription::SubscriptionState;

/// How far a payment is at the provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The customer has yet to pay, for the first time or after a decline.
    RequiresPayment,
    /// The customer's bank asks the customer to confirm it (3-D Secure).
    RequiresAction,
    /// The provider is at it.
    Processing,
    /// The money is there.
    Paid,
    /// It will not be paid any more.
    Canceled,
}

impl Progress {
    /// Its name, for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequiresPayment => "requires_payment",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::Paid => "paid",
            Self::Canceled => "canceled",
        }
    }
}

/// Why a payment, a refund or a payment method did not work, as the provider says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The provider's code, such as `card_declined`.
    pub code: Arc<str>,
    /// The bank's reason, such as `insufficient_funds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline_code: Option<Arc<str>>,
    /// Words that the customer may read.
    pub message: Arc<str>,
}

/// A payment as the provider has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// Our id of it, where the provider keeps one beside it.
    pub id: Option<Arc<str>>,
    /// How far it is.
    pub progress: Progress,
    /// What is to be paid.
    pub amount: Money,
    /// What has been received of it, in minor units.
    pub received: i64,
    /// What the customer's browser needs to pay it.
    pub client_secret: Option<Arc<str>>,
    /// The page where it can be paid.
    pub page: Option<Arc<str>>,
    /// Why the last attempt did not work.
    pub failure: Option<Failure>,
    /// Its refunds, those made elsewhere included.
    pub refunds: Vec<RefundReport>,
    /// Its dispute.
    pub dispute: Option<DisputeReport>,
}

/// A refund as the provider has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefundReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// Our id of it, where the provider keeps one beside it; a refund made elsewhere has none.
    pub id: Option<Arc<str>>,
    /// How much, in minor units of the payment's currency.
    pub minor: i64,
    /// How far it is.
    pub progress: RefundProgress,
    /// Why it did not work.
    pub failure: Option<Failure>,
}

/// How far a refund is at the provider.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundProgress {
    /// On its way.
    Pending,
    /// The customer has it.
    Succeeded,
    /// It did not work; the money is still, or again, with the tenant.
    Failed,
}

/// A dispute as the provider has it now: the customer's bank asks for the money back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DisputeReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// How much is disputed, in minor units of the payment's currency.
    pub minor: i64,
    /// How it stands.
    pub state: DisputeState,
}

/// How a dispute stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeState {
    /// Nobody knows yet; the bank holds the money.
    Open,
    /// The tenant keeps the money.
    Won,
    /// The customer has it back.
    Lost,
}

/// A payment method on file: a card.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaymentMethod {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// The card's brand, such as `visa`; the kind of method where it is no card.
    pub brand: Arc<str>,
    /// The last four digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last4: Option<Arc<str>>,
    /// The month and year in which it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<(u8, u16)>,
}

/// The payment methods that the provider has for a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaymentMethodsReport {
    /// When the provider was asked; what was seen later counts.
    pub seen_at: Timestamp,
    /// Newest first.
    pub methods: Vec<PaymentMethod>,
    /// The one that is used when none is named.
    pub default: Option<Arc<str>>,
}

/// A subscription as the provider has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// Our id of it, where the provider keeps one beside it.
    pub id: Option<Uuid>,
    /// How it came in.
    pub heard: Heard,
    /// When the provider was asked; what was seen later counts.
    pub seen_at: Timestamp,
    /// The provider's prices that it has, each with how many.
    pub prices: Vec<(Arc<str>, u32)>,
    /// How it stands.
    pub state: SubscriptionState,
    /// The period under way.
    pub period: Period,
    /// When its trial ends, or has ended.
    pub trial_end: Option<Timestamp>,
    /// Whether it ends with the period.
    pub cancel_at_period_end: bool,
    /// An invoice of it.
    pub invoice: Option<FeeReport>,
}

/// An invoice of the provider's for a subscription, as far as anything is to be paid of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeeReport {
    /// Our id of its payment: `fee_payment`.
    pub id: Uuid,
    /// The provider's id of the invoice.
    pub invoice: Arc<str>,
    /// Whether it is the subscription's newest.
    pub newest: bool,
    /// What of the amount is tax, in minor units.
    pub tax: i64,
    /// Whether a period begins with it, the first or another; otherwise it is for a change in between.
    pub begins_period: bool,
    /// Its payment.
    pub payment: PaymentReport,
}

/// The id of the payment of an invoice that the provider collects, so that it is recorded once.
#[must_use]
pub fn fee_payment(tenant: &str, invoice: &str) -> Uuid {
    keyed_id(tenant, "", "provider_invoice", invoice)
}
