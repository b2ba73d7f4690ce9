//! What is done with an invoice that is made: it is paid, taken back, given up on, or a part of it is credited.

use std::sync::Arc;

use uuid::Uuid;

use crate::decide::Documents;
use crate::dunning::tax_share;
use crate::effect::Effect;
use crate::invoice::{CreditNote, Invoice, InvoiceChange, InvoiceState, Standing};
use crate::ledger::{Account, EntryKind};
use crate::money::Money;
use crate::payment::{Collection, Payment, Purpose};
use crate::purchase::CollectionRequest;
use crate::refund::Kept;
use crate::refusal::Refusal;
use crate::subscription::{SubscriptionSource, SubscriptionState};
use crate::wallet::Draft;

/// What is done with an invoice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InvoiceStep {
    /// What is left of it is to be paid.
    Pay {
        /// The id of the payment: from the operation key, or drawn for it.
        payment: Uuid,
        /// How.
        collection: CollectionRequest,
    },
    /// It is taken back.
    Void,
    /// Nobody expects it to be paid any more.
    WriteOff,
    /// A part of it is taken back: of what is left to pay, or, when it is paid, to the customer's credit.
    Credit {
        /// The id of the credit note: from the operation key, or drawn for it.
        id: Uuid,
        /// How much, in minor units, with tax.
        minor: i64,
        /// Why.
        reason: Option<Arc<str>>,
    },
}

impl Draft<'_> {
    /// Does something with an invoice; of one that is settled, the document and what it was paid with are at hand.
    pub(crate) fn step_invoice(
        &mut self,
        id: Uuid,
        documents: Documents<'_>,
        step: &InvoiceStep,
    ) -> Result<(), Refusal> {
        match step {
            InvoiceStep::Pay { payment, collection } => {
                let collection: Collection = self.collection(collection)?;
                self.pay_invoice(id, Some(*payment), collection, false)
            }
            InvoiceStep::Void => {
                let index = self.open_invoice(id)?;
                let subscription = self.decision.customer.state.invoices[index].subscription;
                self.void_invoice(index)?;
                self.after_void(subscription)
            }
            InvoiceStep::WriteOff => {
                let index = self.open_invoice(id)?;
                let standing = &mut self.decision.customer.state.invoices[index].standing;
                (standing.state, standing.next_attempt_at) = (InvoiceState::Uncollectible, None);
                self.invoice_changed(index);
                Ok(())
            }
            InvoiceStep::Credit { id: note, minor, reason } => match self.open_invoice(id) {
                Ok(index) => self.credit_open(index, *note, *minor, reason.clone()),
                Err(refusal) => {
                    let document = documents.invoice.filter(|document| document.id == id).ok_or(refusal)?;
                    self.credit_paid((document, documents.payment), *note, *minor, reason.clone())
                }
            },
        }
    }

    /// Takes an open invoice back: what is left of it was not sold after all, and what earlier invoices left to it waits for
    /// the next one again, as at Stripe
    /// (<https://docs.stripe.com/billing/customer/balance>: voiding an invoice reverses the balance that was applied to it).
    pub(crate) fn void_invoice(&mut self, index: usize) -> Result<(), Refusal> {
        let open = self.decision.customer.state.invoices[index].clone();
        let (cause, due) = ((EntryKind::InvoiceVoid, open.id), open.standing.due);
        // Of what the customer was left to pay, no more waits again than was still due.
        let carried = open.carried_in.min(due);
        let tax = tax_share(&open, open.standing.credited, due)?.min(due - carried);
        self.post_minor(cause, (Account::Tax, Account::Invoiced), &open.currency, tax)?;
        self.post_minor(cause, (Account::Revenue, Account::Invoiced), &open.currency, due - carried - tax)?;
        self.carry(cause, Account::Invoiced, &open.currency, carried)?;
        let payment = open.standing.payment;
        self.decision.customer.state.invoices[index].standing.due = 0;
        self.settle_invoice(index, InvoiceState::Void)?;
        if let Some(payment) = payment {
            self.effect(Effect::CancelPayment { payment }, self.clock);
        }
        Ok(())
    }

    /// Without its first invoice a subscription does not come to be, unless the provider has that; without another one it owes as
    /// much less.
    fn after_void(&mut self, subscription: Option<Uuid>) -> Result<(), Refusal> {
        let Some(index) = subscription.and_then(|id| self.find_subscription(id).ok()) else { return Ok(()) };
        let subscribed = &self.decision.customer.state.subscriptions[index];
        match (subscribed.source, subscribed.state) {
            (SubscriptionSource::Own, SubscriptionState::Incomplete) => {
                self.end_subscription(index, SubscriptionState::IncompleteExpired)
            }
            _ => self.after_payment(subscription),
        }
    }

    fn credit_open(&mut self, index: usize, id: Uuid, minor: i64, reason: Option<Arc<str>>) -> Result<(), Refusal> {
        let open = self.decision.customer.state.invoices[index].clone();
        if minor <= 0 || minor > open.standing.due {
            return Err(Refusal::CreditTooLarge { left: Money { minor: open.standing.due, currency: open.currency } });
        }
        let cause = (EntryKind::CreditNote, id);
        let tax = tax_share(&open, open.standing.credited, minor)?;
        self.post_minor(cause, (Account::Tax, Account::Invoiced), &open.currency, tax)?;
        self.post_minor(cause, (Account::Revenue, Account::Invoiced), &open.currency, minor - tax)?;
        self.note_credit(CreditNote {
            id,
            invoice: open.id,
            minor,
            tax,
            currency: open.currency,
            reason,
            to_balance: false,
            position: self.decision.customer.position,
            created_at: self.now,
        });
        let standing = &mut self.decision.customer.state.invoices[index].standing;
        standing.due -= minor;
        standing.credited += minor;
        if standing.due > 0 {
            // What the provider has of it asks for the whole sum: another takes its place.
            if open.at_provider && open.standing.payment.is_some() {
                return self.pay_invoice(open.id, None, Collection::OnSession { save_method: false }, false);
            }
            self.invoice_changed(index);
            return Ok(());
        }
        self.settle_invoice(index, InvoiceState::Paid)?;
        if let Some(payment) = open.standing.payment {
            self.effect(Effect::CancelPayment { payment }, self.clock);
        }
        self.after_payment(open.subscription)
    }

    /// What was paid for a part of the invoice is to the customer's credit instead. The payment knows, so that neither that part nor
    /// the tax in it goes back a second time with a refund.
    fn credit_paid(
        &mut self,
        (invoice, payment): (&Invoice, Option<&Payment>),
        id: Uuid,
        minor: i64,
        reason: Option<Arc<str>>,
    ) -> Result<(), Refusal> {
        let standing = &invoice.standing;
        let too_large =
            |left| Refusal::CreditTooLarge { left: Money { minor: left, currency: invoice.currency.clone() } };
        let mut payment = payment.filter(|_| standing.state == InvoiceState::Paid).cloned().ok_or(too_large(0))?;
        payment.position = self.decision.customer.position;
        let kept = Kept::of(&payment);
        let Purpose::Invoice(purpose) = &mut payment.purpose else { return Err(too_large(0)) };
        if minor <= 0 || minor > kept.sold {
            return Err(too_large(kept.sold.max(0)));
        }
        let cause = (EntryKind::CreditNote, id);
        let tax = kept.tax_in(minor)?;
        self.carry(cause, Account::Revenue, &invoice.currency, -minor)?;
        self.post_minor(cause, (Account::Tax, Account::Revenue), &invoice.currency, tax)?;
        purpose.credited += minor;
        purpose.tax -= tax;
        self.decision.payments.push(payment);
        self.note_credit(CreditNote {
            id,
            invoice: invoice.id,
            minor,
            tax,
            currency: invoice.currency.clone(),
            reason,
            to_balance: true,
            position: self.decision.customer.position,
            created_at: self.now,
        });
        let credited = Standing { credited: standing.credited + minor, changed_at: self.clock, ..standing.clone() };
        self.decision.invoice_changes.push(InvoiceChange { invoice: invoice.id, standing: credited });
        Ok(())
    }

    fn note_credit(&mut self, note: CreditNote) {
        self.decision.credit_notes.push(note);
    }
}
