//! Notices: what the tenant may want to tell its customer, or do something about. They are written with what they are
//! about, in the same transaction, and name it by its id.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::customer::Customer;
use crate::id::operation_id;
use crate::invoice::{InvoiceState, Standing};
use crate::money::{Asset, Micros};
use crate::payment::{Payment, PaymentState, Purpose};
use crate::subscription::{Subscription, SubscriptionState};
use crate::wallet::Draft;

/// Something that the tenant may want to tell the customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Notice {
    /// So many percent of a limit have been used.
    #[serde(rename = "limit_threshold")]
    Limit {
        /// The limit.
        limit: Arc<str>,
        /// Which of the thresholds.
        percent: u8,
    },
    /// Less is left of an asset than the tenant wants to hear of.
    LowBalance {
        /// Of what.
        asset: Asset,
        /// What is left; below zero what is owed.
        left: Micros,
    },
    /// What was bought is paid, and delivered.
    PurchasePaid {
        /// The payment.
        payment: Uuid,
    },
    /// An attempt to pay for what was bought did not work.
    PurchasePaymentFailed {
        /// The payment.
        payment: Uuid,
        /// The provider's code of why.
        code: Arc<str>,
    },
    /// So many percent of the spending limit of a period have been used.
    #[serde(rename = "spending_threshold")]
    Spending {
        /// Which of the thresholds.
        percent: u8,
    },
    /// A plan is in force.
    SubscriptionStarted {
        /// The subscription.
        subscription: Uuid,
    },
    /// A subscription is for something else, waits, goes on, or is to end with its period, or none of that any more.
    SubscriptionChanged {
        /// The subscription.
        subscription: Uuid,
        /// How it stands.
        state: SubscriptionState,
    },
    /// An invoice of a subscription could not be collected yet.
    SubscriptionPastDue {
        /// The subscription.
        subscription: Uuid,
    },
    /// A subscription has ended.
    SubscriptionEnded {
        /// The subscription.
        subscription: Uuid,
        /// How it stands.
        state: SubscriptionState,
    },
    /// A trial ends in three days, or sooner where it was shorter.
    TrialEnding {
        /// The subscription.
        subscription: Uuid,
        /// When.
        #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
        trial_end: Timestamp,
    },
    /// There is an invoice to be paid.
    InvoiceOpened {
        /// The invoice.
        invoice: Uuid,
    },
    /// Nothing of an invoice is left to pay.
    InvoicePaid {
        /// The invoice.
        invoice: Uuid,
    },
    /// An attempt to collect an invoice did not work, or it is overdue.
    InvoicePaymentFailed {
        /// The invoice.
        invoice: Uuid,
        /// How often it was tried.
        attempts: u16,
        /// When it is tried next; nothing where it is not.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
        next_attempt_at: Option<Timestamp>,
    },
    /// An invoice was taken back.
    InvoiceVoided {
        /// The invoice.
        invoice: Uuid,
    },
    /// Nobody expects an invoice to be paid any more.
    InvoiceUncollectible {
        /// The invoice.
        invoice: Uuid,
    },
}

impl Notice {
    /// Its stored name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "limit_threshold",
            Self::LowBalance { .. } => "low_balance",
            Self::PurchasePaid { .. } => "purchase_paid",
            Self::PurchasePaymentFailed { .. } => "purchase_payment_failed",
            Self::Spending { .. } => "spending_threshold",
            Self::SubscriptionStarted { .. } => "subscription_started",
            Self::SubscriptionChanged { .. } => "subscription_changed",
            Self::SubscriptionPastDue { .. } => "subscription_past_due",
            Self::SubscriptionEnded { .. } => "subscription_ended",
            Self::TrialEnding { .. } => "trial_ending",
            Self::InvoiceOpened { .. } => "invoice_opened",
            Self::InvoicePaid { .. } => "invoice_paid",
            Self::InvoicePaymentFailed { .. } => "invoice_payment_failed",
            Self::InvoiceVoided { .. } => "invoice_voided",
            Self::InvoiceUncollectible { .. } => "invoice_uncollectible",
        }
    }
}

/// A notice for the record. Its id follows from the customer, the position and its place in the decision, so that a repeat
/// makes none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoticeRecord {
    /// Its id.
    pub id: Uuid,
    /// What it says.
    pub notice: Notice,
    /// When it came to be so.
    pub created_at: Timestamp,
}

impl Draft<'_> {
    /// Adds a notice.
    pub(crate) fn notice(&mut self, notice: Notice) {
        let customer = &self.decision.customer;
        let key = format!("{}/{}", customer.position, self.decision.notices.len());
        let id = operation_id(customer.id, "notice", &key);
        self.decision.notices.push(NoticeRecord { id, notice, created_at: self.now });
    }

    /// Adds what became of balances, subscriptions and invoices in a decision as a whole, compared with the customer before it.
    pub(crate) fn notice_changes(&mut self, before: &Customer) {
        for (asset, least) in &self.catalog.low_balances {
            let now = left(&self.decision.customer, asset);
            if now < *least && left(before, asset) >= *least {
                self.notice(Notice::LowBalance { asset: asset.clone(), left: now });
            }
        }
        for invoice in self.decision.invoices.clone() {
            // What goes to the next invoice as a whole concerns nobody yet.
            if invoice.total > invoice.carried {
                self.notice_standing(invoice.id, &invoice.standing);
            }
        }
        for change in self.decision.invoice_changes.clone() {
            let known = before.state.invoices.iter().find(|open| open.id == change.invoice);
            if known.is_some_and(|open| open.standing.state != change.standing.state) {
                self.notice_standing(change.invoice, &change.standing);
            }
        }
        for subscription in self.decision.subscriptions.clone() {
            let known = before.state.subscriptions.iter().find(|known| known.id == subscription.id);
            self.notice_subscription(known, &subscription);
        }
    }

    /// Adds what became of a payment for something that was bought. What became of invoices is said of them.
    pub(crate) fn notice_payment(&mut self, before: &Payment, after: &Payment) {
        if !matches!(after.purpose, Purpose::Purchase(_) | Purpose::OneTime(_)) {
            return;
        }
        if after.state == PaymentState::Paid && before.state != PaymentState::Paid {
            return self.notice(Notice::PurchasePaid { payment: after.id });
        }
        if let Some(failure) = &after.failure
            && after.failure != before.failure
        {
            self.notice(Notice::PurchasePaymentFailed { payment: after.id, code: failure.code.clone() });
        }
    }

    fn notice_standing(&mut self, invoice: Uuid, standing: &Standing) {
        match standing.state {
            InvoiceState::Paid => self.notice(Notice::InvoicePaid { invoice }),
            InvoiceState::Void => self.notice(Notice::InvoiceVoided { invoice }),
            InvoiceState::Uncollectible => self.notice(Notice::InvoiceUncollectible { invoice }),
            InvoiceState::Draft | InvoiceState::Open => {}
        }
    }

    fn notice_subscription(&mut self, before: Option<&Subscription>, after: &Subscription) {
        let (subscription, state) = (after.id, after.state);
        if state.has_ended() {
            return self.notice(Notice::SubscriptionEnded { subscription, state });
        }
        let waited = before.is_none_or(|before| before.state == SubscriptionState::Incomplete);
        if waited {
            if state.is_in_force() {
                self.notice(Notice::SubscriptionStarted { subscription });
            }
            return;
        }
        let Some(before) = before else { return };
        if state == SubscriptionState::PastDue && before.state != SubscriptionState::PastDue {
            return self.notice(Notice::SubscriptionPastDue { subscription });
        }
        let shown = |of: &Subscription| (of.terms.clone(), of.next_terms.clone(), of.cancel_at_period_end, of.state);
        let trial_is_over = before.state == SubscriptionState::Trialing && state == SubscriptionState::Active;
        if shown(before) != shown(after) && !trial_is_over {
            self.notice(Notice::SubscriptionChanged { subscription, state });
        }
    }
}

/// What is left of an asset: what open grants have, held or not, less what is owed.
fn left(customer: &Customer, asset: &Asset) -> Micros {
    let of_asset = customer.state.grants.iter().filter(|grant| grant.asset == *asset && !grant.frozen);
    let there =
        of_asset.fold(0_i64, |sum, grant| sum.saturating_add(grant.remaining.get()).saturating_add(grant.held.get()));
    Micros::new(there.saturating_sub(customer.owed(asset).get()))
}
