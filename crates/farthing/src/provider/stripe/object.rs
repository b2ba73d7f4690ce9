//! Stripe's objects as they come, with the fields that are read and no others. Everything that may be missing may be
//! missing; a state is a text, because Stripe adds states within a version.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::report::{DisputeReport, DisputeState, PaymentReport, Progress, RefundProgress, RefundReport};
use jiff::Timestamp;
use serde::Deserialize;

use super::amount::{from_stripe, minor_from_stripe};
use super::error::{ApiError, CallError};
use crate::provider::ProviderError;

/// Key and value pairs of ours that Stripe keeps beside its objects.
pub(super) type Metadata = Option<BTreeMap<String, Arc<str>>>;

/// The metadata key of our id of a customer.
pub(super) const CUSTOMER_KEY: &str = "farthing_customer";
/// The metadata key of our id of a payment.
pub(super) const PAYMENT_KEY: &str = "farthing_payment";
/// The metadata key of our id of a refund.
pub(super) const REFUND_KEY: &str = "farthing_refund";
/// The metadata key of our id of a subscription.
pub(super) const SUBSCRIPTION_KEY: &str = "farthing_subscription";
/// The metadata key of our id of an invoice.
pub(super) const INVOICE_KEY: &str = "farthing_invoice";

/// Our id in the metadata of an object.
pub(super) fn own_id(metadata: &Metadata, key: &str) -> Option<Arc<str>> {
    metadata.as_ref()?.get(key).cloned()
}

/// A time of Stripe's: seconds since 1970.
pub(super) fn time(seconds: i64) -> Result<Timestamp, CallError> {
    Timestamp::from_second(seconds).map_err(|_| ProviderError::Unreadable(format!("{seconds} is no time")).into())
}

/// Another object: its id, or, where the call asked for it, the object.
#[derive(Clone, Deserialize, Debug)]
#[serde(untagged)]
pub(super) enum Expandable<T> {
    Id(Arc<str>),
    Object(Box<T>),
}

impl<T> Expandable<T> {
    /// The object, where it is there.
    pub(super) fn object(&self) -> Option<&T> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }
}

impl Expandable<Identified> {
    /// The id, whichever of the two came.
    pub(super) fn id(&self) -> &Arc<str> {
        match self {
            Self::Id(id) => id,
            Self::Object(object) => &object.id,
        }
    }
}

/// An object of which only the id matters.
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Identified {
    pub(super) id: Arc<str>,
}

/// An object that was made, and that a browser goes on with.
#[derive(Deserialize)]
pub(super) struct WithSecret {
    pub(super) id: Arc<str>,
    pub(super) client_secret: Arc<str>,
}

/// A payment (<https://docs.stripe.com/api/payment_intents/object>).
#[derive(Clone, Deserialize, Debug)]
pub(super) struct PaymentIntent {
    pub(super) id: Arc<str>,
    pub(super) amount: i64,
    pub(super) currency: String,
    #[serde(default)]
    amount_received: Option<i64>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    pub(super) client_secret: Option<Arc<str>>,
    #[serde(default)]
    last_payment_error: Option<ApiError>,
    #[serde(default)]
    pub(super) latest_charge: Option<Expandable<Charge>>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

impl PaymentIntent {
    fn progress(&self) -> Progress {
        match self.status.as_deref() {
            Some("requires_payment_method" | "requires_confirmation") => Progress::RequiresPayment,
            Some("requires_action") => Progress::RequiresAction,
            Some("succeeded") => Progress::Paid,
            Some("canceled") => Progress::Canceled,
            // `processing`, `requires_capture`, and states that are yet to be invented: it is not known to have ended.
            _ => Progress::Processing,
        }
    }

    /// Without its refunds and its dispute, which are objects of their own.
    pub(super) fn report(&self) -> Result<PaymentReport, CallError> {
        let amount = from_stripe(self.amount, &self.currency)?;
        let received = minor_from_stripe(self.amount_received.unwrap_or(0), amount.currency.as_str())?;
        let progress = self.progress();
        let failure = self.last_payment_error.as_ref().filter(|_| progress != Progress::Paid);
        Ok(PaymentReport {
            reference: self.id.clone(),
            id: own_id(&self.metadata, PAYMENT_KEY),
            progress,
            amount,
            received,
            client_secret: self.client_secret.clone(),
            page: None,
            failure: failure.map(ApiError::failure),
            refunds: Vec::new(),
            dispute: None,
        })
    }
}

/// What a payment did to a card (<https://docs.stripe.com/api/charges/object>).
#[derive(Clone, Deserialize, Debug)]
pub(super) struct Charge {
    #[serde(default)]
    pub(super) amount_refunded: Option<i64>,
    #[serde(default)]
    pub(super) disputed: Option<bool>,
}

/// A page where a payment is made (<https://docs.stripe.com/api/checkout/sessions/object>).
#[derive(Deserialize)]
pub(super) struct CheckoutSession {
    pub(super) id: Arc<str>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    payment_status: Option<String>,
    #[serde(default)]
    amount_total: Option<i64>,
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    url: Option<Arc<str>>,
    #[serde(default)]
    pub(super) payment_intent: Option<Expandable<PaymentIntent>>,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

impl CheckoutSession {
    /// Without refunds and dispute. The payment knows more than the page, once there is one.
    pub(super) fn report(&self) -> Result<PaymentReport, CallError> {
        let (Some(total), Some(currency)) = (self.amount_total, &self.currency) else {
            return Err(ProviderError::Unreadable(format!("{} has no amount", self.id)).into());
        };
        let amount = from_stripe(total, currency)?;
        let payment =
            self.payment_intent.as_ref().and_then(Expandable::object).map(PaymentIntent::report).transpose()?;
        let paid = matches!(self.payment_status.as_deref(), Some("paid" | "no_payment_required"));
        let progress = match (self.status.as_deref(), &payment) {
            _ if paid => Progress::Paid,
            (Some("expired"), _) => Progress::Canceled,
            (_, Some(payment)) => payment.progress,
            (Some("open"), None) => Progress::RequiresPayment,
            (_, None) => Progress::Processing,
        };
        let received = match &payment {
            Some(payment) => payment.received,
            None if paid => amount.minor,
            None => 0,
        };
        Ok(PaymentReport {
            reference: self.id.clone(),
            id: own_id(&self.metadata, PAYMENT_KEY),
            progress,
            amount,
            received,
            client_secret: None,
            page: self.url.clone(),
            failure: payment.and_then(|payment| payment.failure).filter(|_| progress != Progress::Paid),
            refunds: Vec::new(),
            dispute: None,
        })
    }
}

/// Money on its way back (<https://docs.stripe.com/api/refunds/object>).
#[derive(Deserialize)]
pub(super) struct Refund {
    pub(super) id: Arc<str>,
    amount: i64,
    currency: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    failure_reason: Option<Arc<str>>,
    #[serde(default)]
    metadata: Metadata,
}

impl Refund {
    pub(super) fn report(&self) -> Result<RefundReport, CallError> {
        let progress = match self.status.as_deref() {
            Some("succeeded") => RefundProgress::Succeeded,
            Some("failed" | "canceled") => RefundProgress::Failed,
            _ => RefundProgress::Pending,
        };
        let code = self.failure_reason.as_deref().or(self.status.as_deref()).unwrap_or("unknown");
        let failure = (progress == RefundProgress::Failed)
            .then(|| ApiError::new(code, &format!("The refund did not work: {}.", code.replace('_', " "))).failure());
        Ok(RefundReport {
            reference: self.id.clone(),
            id: own_id(&self.metadata, REFUND_KEY),
            minor: minor_from_stripe(self.amount, &self.currency.to_ascii_uppercase())?,
            progress,
            failure,
        })
    }
}

/// A customer's bank asks for money back (<https://docs.stripe.com/api/disputes/object>).
#[derive(Deserialize)]
pub(super) struct Dispute {
    id: Arc<str>,
    amount: i64,
    currency: String,
    #[serde(default)]
    status: Option<String>,
}

impl Dispute {
    /// None for an inquiry: the bank asks a question, and no money has been taken
    /// (<https://docs.stripe.com/disputes/how-disputes-work#inquiries>).
    pub(super) fn report(&self) -> Result<Option<DisputeReport>, CallError> {
        let state = match self.status.as_deref() {
            Some(status) if status.starts_with("warning_") => return Ok(None),
            // A prevented dispute was settled by a refund, which is reported as such.
            Some("won" | "prevented") => DisputeState::Won,
            Some("lost") => DisputeState::Lost,
            _ => DisputeState::Open,
        };
        let minor = minor_from_stripe(self.amount, &self.currency.to_ascii_uppercase())?;
        Ok(Some(DisputeReport { reference: self.id.clone(), minor, state }))
    }
}

/// A list of objects, or one page of it (<https://docs.stripe.com/api/pagination>).
#[derive(Clone, Deserialize, Debug)]
pub(super) struct List<T> {
    pub(super) data: Vec<T>,
    #[serde(default)]
    pub(super) has_more: bool,
}
