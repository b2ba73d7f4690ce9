//! Payments: a sum that is collected through a provider, from the record of what it is for to the money being there.
//!
//! A payment is recorded before anybody outside hears of it. What the provider reports later is compared with that record
//! and moves it on; being paid is final, and what was sold is delivered in the same decision.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dunning::InvoicePayment;
use crate::effect::Effect;
use crate::money::Money;
use crate::one_time::OneTime;
use crate::purchase::Purchase;
use crate::refund::Refund;
use crate::refusal::Refusal;
use crate::report::{DisputeReport, Failure, PaymentReport, Progress, RefundReport};
use crate::wallet::Draft;

/// How long a payment waits for its customer before it is ended.
pub const PAYMENT_LASTS: SignedDuration = SignedDuration::from_hours(24);

/// How soon a payment that is not finished is asked for, at first; later, when it is as old again.
pub const FIRST_LOOK: SignedDuration = SignedDuration::from_secs(15);

/// The longest that goes by between two such looks.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// A sum that is collected through a provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// How much.
    pub amount: Money,
    /// How it is collected.
    pub collection: Collection,
    /// How far it is.
    pub state: PaymentState,
    /// The provider's id of it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// The provider's invoice that collects it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_invoice: Option<ProviderInvoice>,
    /// What the customer's browser needs to pay it, as long as it can be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Arc<str>>,
    /// The page where it can be paid, as long as it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Arc<str>>,
    /// Why the last attempt did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What was given back of it, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refunds: Vec<Refund>,
    /// Its dispute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute: Option<DisputeReport>,
    /// The ledger position of its latest change.
    pub position: i64,
    /// When it was recorded.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
    /// When the money was there.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub paid_at: Option<Timestamp>,
}

/// An invoice of the provider's own that collects a payment for an invoice of ours. Nothing else does, so it is collected once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProviderInvoice {
    /// The provider's id of it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
}

/// What a payment is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A pack.
    Purchase(Purchase),
    /// An invoice.
    Invoice(InvoicePayment),
    /// What the product itself delivers.
    OneTime(OneTime),
    /// The fee of a subscription, which the provider collects by an invoice of its own.
    Subscription(FeePayment),
}

impl Purpose {
    /// What was bought, where something was.
    #[must_use]
    pub const fn purchase(&self) -> Option<&Purchase> {
        match self {
            Self::Purchase(purchase) => Some(purchase),
            Self::Invoice(_) | Self::OneTime(_) | Self::Subscription(_) => None,
        }
    }
}

/// What the provider collects for a subscription that it renews.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeePayment {
    /// The subscription.
    pub subscription: Uuid,
    /// The provider's id of its invoice.
    pub invoice: Arc<str>,
    /// What of the amount is tax, in minor units.
    #[serde(default)]
    pub tax: i64,
    /// Whether a period begins with it, the first or another; otherwise it is for a change in between.
    #[serde(default)]
    pub begins_period: bool,
}

/// How a payment is collected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Collection {
    /// The customer's browser pays it, with the client secret.
    OnSession {
        /// Whether the payment method is put on file for later use.
        save_method: bool,
    },
    /// With a payment method on file, without the customer.
    OffSession {
        /// The provider's id of it.
        method: Arc<str>,
    },
    /// On a page of the provider's.
    Page {
        /// Where the customer goes on after paying.
        success_url: Arc<str>,
        /// Where the customer goes back to without paying.
        cancel_url: Arc<str>,
    },
}

/// How far a payment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// Recorded; what the provider made of it is not known yet.
    Pending,
    /// The customer has yet to pay, for the first time or after a decline.
    RequiresPayment,
    /// The customer's bank asks the customer to confirm it.
    RequiresAction,
    /// The provider is at it.
    Processing,
    /// The money is there.
    Paid,
    /// The provider would not take it on.
    Failed,
    /// It was ended unpaid.
    Canceled,
}

impl PaymentState {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::RequiresPayment => "requires_payment",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing more is expected of it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Paid | Self::Failed | Self::Canceled)
    }
}

/// What happens to a payment that was recorded before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PaymentStep {
    /// The provider says how it stands.
    Report(Heard, Box<PaymentReport>),
    /// The provider says how it stands with its invoice of this id, which collects the payment.
    ReportInvoice(Heard, Arc<str>, Box<PaymentReport>),
    /// The provider would not take it on.
    Fail(Failure),
    /// It could not be tried again: it had ended by then, or the provider would not.
    NotTried(Option<Failure>),
    /// It is to be ended, if it is not paid.
    Cancel,
    /// A part of it, or all that is left, is to be given back.
    Refund {
        /// The id of the refund: from the operation key, or drawn for it.
        id: Uuid,
        /// How much, in minor units; all that is left where nothing is said.
        minor: Option<i64>,
    },
    /// The provider says how a refund of ours stands.
    ReportRefund {
        /// Which.
        refund: Uuid,
        /// As it stands.
        report: RefundReport,
    },
    /// The provider would not take a refund on.
    FailRefund {
        /// Which.
        refund: Uuid,
        /// Why.
        failure: Failure,
    },
}

/// How a report came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It is the answer to our making the payment, and so the only one that may say what the provider calls it.
    Made,
    /// It is the answer to our asking, and asks for the next time.
    Asked,
    /// It is the answer to our trying again to collect it.
    Tried,
    /// We were told.
    Told,
}

impl Payment {
    /// What has been given back of it, or is on its way, in minor units: never more than all of it, even while two refunds
    /// are known of which only one can come true.
    #[must_use]
    pub fn refunded(&self) -> i64 {
        let counted = self.refunds.iter().filter(|refund| refund.counts());
        counted.fold(0_i64, |sum, refund| sum.saturating_add(refund.minor)).min(self.amount.minor)
    }
}

impl Draft<'_> {
    pub(crate) fn step_payment(&mut self, payment: &Payment, step: &PaymentStep) -> Result<(), Refusal> {
        let known = payment;
        let mut payment = Payment { position: self.decision.customer.position, ..payment.clone() };
        match step {
            PaymentStep::Report(heard, report) => self.report_payment(&mut payment, *heard, report)?,
            PaymentStep::ReportInvoice(heard, invoice, report) => {
                self.report_invoice(&mut payment, *heard, invoice, report)?;
            }
            PaymentStep::Fail(failure) => self.fail_payment(&mut payment, failure),
            PaymentStep::NotTried(failure) => {
                if failure.is_some() && !payment.state.has_ended() {
                    payment.failure.clone_from(failure);
                }
            }
            PaymentStep::Cancel => {
                if payment.state.has_ended() {
                    return Err(Refusal::PaymentEnded);
                }
                if let Purpose::Subscription(_) = payment.purpose {
                    return Err(Refusal::ProviderSubscription { what: "end the payment of an invoice of its own" });
                }
                self.effect(Effect::CancelPayment { payment: payment.id }, self.now);
            }
            PaymentStep::Refund { id, minor } => self.refund(&mut payment, *id, *minor)?,
            PaymentStep::ReportRefund { refund, report } => self.report_refund(&mut payment, *refund, report)?,
            PaymentStep::FailRefund { refund, failure } => self.fail_refund(&mut payment, *refund, failure)?,
        }
        match &payment.purpose {
            Purpose::Purchase(purchase) => self.note_top_up(known.state, &payment, purchase),
            Purpose::Invoice(purpose) => {
                let tried = matches!(step, PaymentStep::ReportInvoice(Heard::Tried, ..) | PaymentStep::NotTried(_));
                self.note_invoice_payment(known.state, &payment, purpose, tried)?;
            }
            // How the subscription stands is said of it, and not of its payments.
            Purpose::OneTime(_) | Purpose::Subscription(_) => {}
        }
        self.notice_payment(known, &payment);
        self.decision.payments.push(payment);
        Ok(())
    }

    /// A payment that is yet to be made at the provider.
    pub(crate) fn new_payment(&self, id: Uuid, purpose: Purpose, amount: Money, collection: Collection) -> Payment {
        Payment {
            id,
            purpose,
            amount,
            collection,
            state: PaymentState::Pending,
            reference: None,
            provider_invoice: None,
            client_secret: None,
            page: None,
            failure: None,
            refunds: Vec::new(),
            dispute: None,
            position: self.decision.customer.position,
            created_at: self.now,
            paid_at: None,
        }
    }

    /// Moves a payment on by what the provider says. A report about another payment, or about another sum than was
    /// recorded, is refused: whatever it says, it is not what was agreed on.
    fn report_payment(&mut self, payment: &mut Payment, heard: Heard, report: &PaymentReport) -> Result<(), Refusal> {
        match &payment.reference {
            Some(reference) if *reference != report.reference => return Err(Refusal::PaymentMismatch),
            Some(_) => {}
            None if heard == Heard::Made => payment.reference = Some(report.reference.clone()),
            None => return Err(Refusal::PaymentUnconfirmed),
        }
        if report.amount != payment.amount {
            return Err(Refusal::PaymentMismatch);
        }
        let moves_on = match payment.state {
            PaymentState::Paid => false,
            // What else is said of a payment that was ended was said late; money that is there after all counts.
            PaymentState::Canceled => report.progress == Progress::Paid,
            _ => true,
        };
        if moves_on {
            self.advance(payment, report)?;
        }
        if payment.state == PaymentState::Paid {
            self.report_refunds(payment, &report.refunds)?;
            self.report_dispute(payment, report.dispute.as_ref())?;
        } else if !payment.state.has_ended() && matches!(heard, Heard::Made | Heard::Asked) {
            self.look_again(payment)?;
        }
        Ok(())
    }

    /// The same, of one that an invoice of the provider's collects: that names its payment anew when somebody has ended the one
    /// before.
    fn report_invoice(
        &mut self,
        payment: &mut Payment,
        heard: Heard,
        invoice: &Arc<str>,
        report: &PaymentReport,
    ) -> Result<(), Refusal> {
        let Some(known) = &mut payment.provider_invoice else { return Err(Refusal::PaymentMismatch) };
        match &known.reference {
            Some(reference) if reference != invoice => return Err(Refusal::PaymentMismatch),
            Some(_) => {
                if payment.state != PaymentState::Paid {
                    payment.reference = Some(report.reference.clone());
                }
            }
            None if heard == Heard::Made => {
                known.reference = Some(invoice.clone());
                self.note_provider_invoice(payment.id, invoice);
            }
            None => return Err(Refusal::PaymentUnconfirmed),
        }
        self.report_payment(payment, heard, report)
    }

    pub(crate) fn advance(&mut self, payment: &mut Payment, report: &PaymentReport) -> Result<(), Refusal> {
        payment.state = match report.progress {
            Progress::RequiresPayment => PaymentState::RequiresPayment,
            Progress::RequiresAction => PaymentState::RequiresAction,
            Progress::Processing => PaymentState::Processing,
            Progress::Paid if report.received != payment.amount.minor => return Err(Refusal::PaymentMismatch),
            Progress::Paid => PaymentState::Paid,
            Progress::Canceled => PaymentState::Canceled,
        };
        let open = !payment.state.has_ended();
        payment.client_secret = report.client_secret.clone().filter(|_| open);
        // The page of a fee is its invoice's, of which a payment itself does not tell.
        let known = payment.page.take().filter(|_| matches!(payment.purpose, Purpose::Subscription(_)));
        payment.page = report.page.clone().or(known).filter(|_| open);
        if payment.state == PaymentState::Paid {
            payment.failure = None;
            payment.paid_at = Some(self.now);
            match &mut payment.purpose {
                Purpose::Purchase(purchase) => self.deliver(payment.id, purchase)?,
                Purpose::Subscription(fee) => self.book_fee((payment.id, &payment.amount), fee)?,
                Purpose::OneTime(one_time) => self.book_one_time((payment.id, &payment.amount), one_time)?,
                Purpose::Invoice(purpose) => self.invoice_paid((payment.id, &payment.amount), purpose)?,
            }
        } else if report.failure.is_some() || open {
            payment.failure.clone_from(&report.failure);
        }
        Ok(())
    }

    /// The provider would not take it on, so nothing of it can be paid.
    fn fail_payment(&mut self, payment: &mut Payment, failure: &Failure) {
        if payment.state == PaymentState::Pending {
            payment.state = PaymentState::Failed;
            payment.failure = Some(failure.clone());
        }
    }

    /// Asks again when the payment is as old again as it is now; ends it when it has waited for too long.
    fn look_again(&mut self, payment: &Payment) -> Result<(), Refusal> {
        let age = self.now.duration_since(payment.created_at);
        if payment.provider_invoice.is_some() {
            // An invoice waits for as long as it is open; the provider tells of it besides.
            let wait = age.clamp(FIRST_LOOK, PAYMENT_LASTS);
            let due_at = self.now.checked_add(wait).map_err(|_| Refusal::AmountOutOfRange)?;
            self.effect(Effect::ObservePayment { payment: payment.id }, due_at);
            return Ok(());
        }
        if age >= PAYMENT_LASTS && payment.state != PaymentState::Processing {
            self.effect(Effect::CancelPayment { payment: payment.id }, self.now);
            return Ok(());
        }
        let wait = age.clamp(FIRST_LOOK, LONGEST_WAIT);
        let due_at = self.now.checked_add(wait).map_err(|_| Refusal::AmountOutOfRange)?;
        self.effect(Effect::ObservePayment { payment: payment.id }, due_at);
        Ok(())
    }
}
