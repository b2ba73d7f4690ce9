//! Collecting invoices: with the usual payment method at once, and again by a schedule when that does not work; then what
//! the tenant file says becomes of the subscription.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::{Effect, Ending};
use crate::id::operation_id;
use crate::invoice::{InvoiceChange, InvoiceState, OpenInvoice, Standing, is_zero};
use crate::ledger::{Account, EntryKind};
use crate::money::{Asset, Micros, Money};
use crate::notice::Notice;
use crate::payment::{Collection, Payment, PaymentState, ProviderInvoice, Purpose};
use crate::refusal::Refusal;
use crate::subscription::{SubscriptionSource, SubscriptionState};
use crate::wallet::Draft;

/// When collecting is tried again, and what happens after the last time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dunning {
    /// Days from each attempt that did not work to the next; at least one.
    pub retry_days: Vec<u16>,
    /// What becomes of the subscription when the last attempt did not work.
    pub then: AfterDunning,
    /// Whether nobody expects the invoice to be paid from then on.
    pub write_off: bool,
}

impl Default for Dunning {
    fn default() -> Self {
        Self { retry_days: vec![3, 5, 7], then: AfterDunning::Cancel, write_off: true }
    }
}

/// What becomes of a subscription whose invoice could not be collected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterDunning {
    /// It ends.
    #[default]
    Cancel,
    /// It waits, without anything more of it being given, until its invoices are paid.
    Unpaid,
    /// It goes on, past due.
    PastDue,
}

/// What a payment for an invoice is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InvoicePayment {
    /// The invoice.
    pub invoice: Uuid,
    /// Whether farthing collects it by itself.
    pub automatic: bool,
    /// What of it was more than was due when it came, in minor units: that is to the customer's credit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excess: i64,
    /// What of the rest was credited since, by credit notes: that is to the customer's credit too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub credited: i64,
    /// What of the rest was tax.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tax: i64,
}

impl Draft<'_> {
    /// Tries to collect an open invoice with the usual payment method. Without one, it stays open. One that the provider has
    /// is tried again there, so that there is never more than one that could collect it.
    pub(crate) fn collect(&mut self, invoice: Uuid) -> Result<(), Refusal> {
        let method = self.decision.customer.state.payer.usual_method().cloned();
        let index = self.open_invoice(invoice)?;
        let open = &self.decision.customer.state.invoices[index];
        let payment = open.standing.payment.filter(|_| open.at_provider);
        match (method, payment) {
            (Some(method), Some(payment)) => {
                let standing = &mut self.decision.customer.state.invoices[index].standing;
                standing.attempts = standing.attempts.saturating_add(1);
                standing.next_attempt_at = None;
                self.effect(Effect::CollectInvoice { payment, method }, self.clock);
                self.invoice_changed(index);
                Ok(())
            }
            (Some(method), None) => self.pay_invoice(invoice, None, Collection::OffSession { method }, true),
            (None, _) => self.attempt_without_payment(invoice),
        }
    }

    /// Records a payment for what is left of an invoice, and asks the provider for it.
    pub(crate) fn pay_invoice(
        &mut self,
        invoice: Uuid,
        id: Option<Uuid>,
        collection: Collection,
        automatic: bool,
    ) -> Result<(), Refusal> {
        let index = self.open_invoice(invoice)?;
        let at_provider = self.belongs_at_provider(&self.decision.customer.state.invoices[index]);
        let open = &mut self.decision.customer.state.invoices[index];
        open.at_provider = at_provider;
        open.standing.attempts = open.standing.attempts.saturating_add(u16::from(automatic));
        let attempt = format!("{}/{}", open.standing.attempts, self.decision.customer.position);
        let id = id.unwrap_or_else(|| operation_id(invoice, "payment", &attempt));
        let amount = Money { minor: open.standing.due, currency: open.currency.clone() };
        let former = open.standing.payment.replace(id);
        if automatic {
            open.standing.next_attempt_at = None;
        }
        let purpose = Purpose::Invoice(InvoicePayment { invoice, automatic, excess: 0, credited: 0, tax: 0 });
        let payment = self.new_payment(id, purpose, amount, collection);
        let provider_invoice = at_provider.then(ProviderInvoice::default);
        self.decision.payments.push(Payment { provider_invoice, created_at: self.clock, ..payment });
        // Only one payment is meant to come true; should both, the second is to the customer's credit.
        if let Some(payment) = former {
            self.effect(Effect::CancelPayment { payment }, self.clock);
        }
        self.effect(Effect::CreatePayment { payment: id }, self.clock);
        self.invoice_changed(index);
        Ok(())
    }

    /// The provider has made its invoice, which a payment of ours is.
    pub(crate) fn note_provider_invoice(&mut self, payment: Uuid, reference: &Arc<str>) {
        let mut open = self.decision.customer.state.invoices.iter_mut();
        let Some(index) = open.position(|open| open.standing.payment == Some(payment)) else { return };
        self.decision.customer.state.invoices[index].standing.provider_reference = Some(reference.clone());
        self.invoice_changed(index);
    }

    /// Whether an invoice is to be one at the provider too: not where its subscription is renewed here, which collects by its own
    /// rules.
    pub(crate) const fn belongs_at_provider(&self, open: &OpenInvoice) -> bool {
        self.catalog.billing.provider_invoices && !open.of_own
    }

    /// Takes note of what became of a payment for an invoice.
    pub(crate) fn note_invoice_payment(
        &mut self,
        before: PaymentState,
        payment: &Payment,
        purpose: &InvoicePayment,
        tried: bool,
    ) -> Result<(), Refusal> {
        let waiting = matches!(payment.state, PaymentState::RequiresPayment | PaymentState::RequiresAction);
        let has_failed = matches!(payment.state, PaymentState::Failed | PaymentState::Canceled);
        let current = |open: &&mut OpenInvoice| open.standing.payment == Some(payment.id);
        let current = self.decision.customer.state.invoices.iter_mut().find(current);
        let is_current = current.is_some();
        if let Some(open) = current.filter(|_| has_failed) {
            open.at_provider = false;
        }
        if tried && (waiting || has_failed) {
            return if is_current { self.attempt_failed(purpose.invoice) } else { Ok(()) };
        }
        if before == payment.state {
            return Ok(());
        }
        // The customer has been asked to act, or nothing more comes of it; a payment that the customer makes can be
        // tried again by the customer.
        let failed = match payment.state {
            PaymentState::Failed | PaymentState::Canceled => true,
            PaymentState::RequiresPayment | PaymentState::RequiresAction => {
                !matches!(before, PaymentState::RequiresPayment | PaymentState::RequiresAction)
            }
            PaymentState::Pending | PaymentState::Processing | PaymentState::Paid => false,
        };
        let waits = matches!(before, PaymentState::RequiresPayment | PaymentState::RequiresAction);
        let by_itself = purpose.automatic || (payment.provider_invoice.is_some() && before == PaymentState::Processing);
        if is_current && by_itself && failed && !waits {
            self.attempt_failed(purpose.invoice)?;
        }
        Ok(())
    }

    /// The money for an invoice is there. What comes for an invoice that is settled already is to the customer's credit.
    pub(crate) fn invoice_paid(
        &mut self,
        (id, amount): (Uuid, &Money),
        purpose: &mut InvoicePayment,
    ) -> Result<(), Refusal> {
        let currency = &amount.currency;
        let index = self.decision.customer.state.invoices.iter().position(|open| open.id == purpose.invoice);
        let due = index.map_or(0, |index| self.decision.customer.state.invoices[index].standing.due);
        let used = amount.minor.min(due);
        let cause = (EntryKind::InvoicePayment, id);
        self.post_minor(cause, (Account::Cash, Account::Invoiced), currency, used)?;
        purpose.excess = amount.minor - used;
        self.carry(cause, Account::Cash, currency, -purpose.excess)?;
        let Some(index) = index else { return Ok(()) };
        let open = &mut self.decision.customer.state.invoices[index];
        purpose.tax = tax_share(open, open.total - due, used)?;
        open.standing.due -= used;
        open.standing.paid += used;
        if open.standing.due == 0 {
            let (subscription, begins_period) = (open.subscription, open.begins_period);
            let other = open.standing.payment.replace(id).filter(|current| *current != id);
            self.settle_invoice(index, InvoiceState::Paid)?;
            // What was asked for besides is not to be paid any more.
            if let Some(payment) = other {
                self.effect(Effect::CancelPayment { payment }, self.clock);
            }
            self.after_payment(subscription)?;
            if begins_period {
                self.begin_spending_anew();
            }
        } else {
            self.invoice_changed(index);
        }
        Ok(())
    }

    /// Tells the subscription that one of its invoices is paid.
    pub(crate) fn after_payment(&mut self, subscription: Option<Uuid>) -> Result<(), Refusal> {
        let Some(index) = subscription.and_then(|id| self.find_subscription(id).ok()) else { return Ok(()) };
        let state = &self.decision.customer.state;
        if state.subscriptions[index].source == SubscriptionSource::Provider {
            return Ok(());
        }
        let id = state.subscriptions[index].id;
        let others = state.invoices.iter().any(|open| {
            open.subscription == Some(id)
                && (open.standing.state == InvoiceState::Uncollectible || open.standing.attempts > 0)
        });
        match state.subscriptions[index].state {
            SubscriptionState::Incomplete => self.activate(index),
            SubscriptionState::PastDue if !others => {
                self.move_subscription(index, SubscriptionState::Active);
                Ok(())
            }
            SubscriptionState::Unpaid if !others => self.resume(index),
            _ => Ok(()),
        }
    }

    /// There was nothing to try it with, or nobody but the customer is to pay it: that counts as an attempt.
    fn attempt_without_payment(&mut self, invoice: Uuid) -> Result<(), Refusal> {
        if let Some(open) = self.decision.customer.state.invoices.iter_mut().find(|open| open.id == invoice) {
            open.standing.attempts = open.standing.attempts.saturating_add(1);
        }
        self.attempt_failed(invoice)
    }

    /// An attempt did not work: plans the next, or gives up.
    fn attempt_failed(&mut self, invoice: Uuid) -> Result<(), Refusal> {
        let Ok(index) = self.open_invoice(invoice) else { return Ok(()) };
        let open = &self.decision.customer.state.invoices[index];
        let (subscription, attempts) = (open.subscription, open.standing.attempts.max(1));
        let found = subscription.and_then(|id| self.find_subscription(id).ok());
        // What farthing invoices of a subscription that the provider renews does not move it.
        let own = found.map(|index| &self.decision.customer.state.subscriptions[index]);
        let own = own.filter(|subscription| subscription.source == SubscriptionSource::Own);
        let state = own.map(|subscription| subscription.state);
        if state == Some(SubscriptionState::Incomplete) {
            // Its first invoice waits for the customer, and for no longer than the subscription does.
            self.notice(Notice::InvoicePaymentFailed { invoice, attempts, next_attempt_at: None });
            self.invoice_changed(index);
            return Ok(());
        }
        let dunning = &self.catalog.billing.dunning;
        let days = dunning.retry_days.get(usize::from(attempts) - 1).copied();
        let at = days.map(|days| self.clock.checked_add(SignedDuration::from_hours(24 * i64::from(days.max(1)))));
        let next_attempt_at = at.transpose().map_err(|_| Refusal::AmountOutOfRange)?;
        self.notice(Notice::InvoicePaymentFailed { invoice, attempts, next_attempt_at });
        if next_attempt_at.is_some() {
            let open = &mut self.decision.customer.state.invoices[index];
            open.standing.next_attempt_at = next_attempt_at;
            self.invoice_changed(index);
            if let Some(index) = found.filter(|_| state == Some(SubscriptionState::Active)) {
                self.move_subscription(index, SubscriptionState::PastDue);
            }
            return Ok(());
        }
        self.give_up(index, found)
    }

    fn give_up(&mut self, index: usize, subscription: Option<usize>) -> Result<(), Refusal> {
        let dunning = self.catalog.billing.dunning.clone();
        let open = &mut self.decision.customer.state.invoices[index];
        open.standing.next_attempt_at = None;
        if dunning.write_off {
            open.standing.state = InvoiceState::Uncollectible;
        }
        self.invoice_changed(index);
        let Some(subscription) = subscription else { return Ok(()) };
        if self.decision.customer.state.subscriptions[subscription].source == SubscriptionSource::Provider {
            if dunning.then == AfterDunning::Cancel {
                let id = self.decision.customer.state.subscriptions[subscription].id;
                self.end_by_provider(subscription, Ending::Now);
                self.record_subscription(id);
            }
            return Ok(());
        }
        let in_force = self.decision.customer.state.subscriptions[subscription].state.is_in_force();
        match dunning.then {
            AfterDunning::Cancel => self.end_subscription(subscription, SubscriptionState::Canceled)?,
            AfterDunning::Unpaid if in_force => self.move_subscription(subscription, SubscriptionState::Unpaid),
            AfterDunning::PastDue if in_force => self.move_subscription(subscription, SubscriptionState::PastDue),
            // What is paused or unpaid stays so.
            AfterDunning::Unpaid | AfterDunning::PastDue => {}
        }
        Ok(())
    }

    /// Does what is due for an invoice: tries again, or, where nobody collects it, finds it overdue.
    pub(crate) fn invoice_is_due(&mut self, index: usize) -> Result<(), Refusal> {
        let open = &mut self.decision.customer.state.invoices[index];
        let (id, by_invoice) = (open.id, open.by_invoice);
        open.standing.next_attempt_at = None;
        if by_invoice {
            return self.attempt_without_payment(id);
        }
        self.collect(id)
    }

    /// Where the open invoice of this id stands in the row.
    pub(crate) fn open_invoice(&self, id: Uuid) -> Result<usize, Refusal> {
        self.decision.customer.state.invoices.iter().position(|open| open.id == id).ok_or(Refusal::InvoiceSettled)
    }

    /// Records how an invoice stands now.
    pub(crate) fn invoice_changed(&mut self, index: usize) {
        let clock = self.clock;
        let open = &mut self.decision.customer.state.invoices[index];
        open.standing.changed_at = clock;
        let change = (open.id, open.standing.clone());
        self.record_standing(change);
    }

    fn record_standing(&mut self, (invoice, standing): (Uuid, Standing)) {
        match self.decision.invoices.iter_mut().find(|made| made.id == invoice) {
            Some(made) => made.standing = standing,
            None => self.decision.invoice_changes.push(InvoiceChange { invoice, standing }),
        }
    }

    /// Settles an open invoice: nothing more is expected of it.
    pub(crate) fn settle_invoice(&mut self, index: usize, state: InvoiceState) -> Result<OpenInvoice, Refusal> {
        let clock = self.clock;
        let mut open = self.decision.customer.state.invoices.remove(index);
        open.standing.state = state;
        open.standing.next_attempt_at = None;
        open.standing.changed_at = clock;
        self.record_standing((open.id, open.standing.clone()));
        Ok(open)
    }

    /// Leaves so many minor units to the next invoice; below zero they are in the customer's favour. `against` is the
    /// account that they come from.
    pub(crate) fn carry(
        &mut self,
        cause: (EntryKind, Uuid),
        against: Account,
        currency: &Asset,
        minor: i64,
    ) -> Result<(), Refusal> {
        if minor == 0 {
            return Ok(());
        }
        let amount = Money { minor: minor.abs(), currency: currency.clone() }.micros()?;
        let sides = if minor > 0 { (Account::Carried, against) } else { (against, Account::Carried) };
        self.post(cause, None, sides, (currency, amount))?;
        let carried = &mut self.decision.customer.state.carried;
        let after = carried.get(currency).copied().unwrap_or_default().checked_add(minor);
        match after.ok_or(Refusal::AmountOutOfRange)? {
            0 => carried.remove(currency),
            after => carried.insert(currency.clone(), after),
        };
        Ok(())
    }

    /// When an invoice of this date is to be paid.
    pub(crate) fn due_date(&self, days: u16) -> Result<Timestamp, Refusal> {
        let due = self.now.checked_add(SignedDuration::from_hours(24 * i64::from(days)));
        due.map_err(|_| Refusal::AmountOutOfRange)
    }
}

/// The share of the tax in so much of a total, so that all shares come to all of it.
pub(crate) fn tax_share(open: &OpenInvoice, before: i64, minor: i64) -> Result<i64, Refusal> {
    let upto = |part: i64| i128::from(open.tax) * i128::from(part) / i128::from(open.total.max(1));
    i64::try_from(upto(before + minor) - upto(before)).map_err(|_| Refusal::AmountOutOfRange)
}

/// For entries: so many minor units of a currency.
pub(crate) fn micros(minor: i64, currency: &Asset) -> Result<Micros, Refusal> {
    Money { minor, currency: currency.clone() }.micros()
}
