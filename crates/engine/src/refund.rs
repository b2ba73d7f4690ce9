//! Refunds and disputes: money that goes back, and what is taken back for it of what was sold.
//!
//! What is unspent of the grant is taken back when the refund is asked for, before the money goes, so that it cannot be
//! spent meanwhile. What was spent of it already is owed from then on, or forgiven, as the tenant file says; what open
//! holds keep of it is owed, because it may return.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::Effect;
use crate::grant::{Grant, GrantEnd, GrantKind, GrantTerms};
use crate::id::operation_id;
use crate::invoice::is_zero;
use crate::ledger::{Account, EntryKind};
use crate::money::{Asset, Micros, Money};
use crate::payment::{Payment, PaymentState, Purpose};
use crate::purchase::purchased_grant;
use crate::refusal::Refusal;
use crate::report::{DisputeReport, DisputeState, Failure, RefundProgress, RefundReport};
use crate::wallet::Draft;

/// The most refunds of one payment, so that its document stays small.
pub const MOST_REFUNDS: usize = 50;

/// What becomes of what was spent already of a grant whose price is given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpentPolicy {
    /// The customer owes it.
    #[default]
    Owe,
    /// It is forgiven.
    Forgive,
}

/// A part of a payment that goes back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// Its id.
    pub id: Uuid,
    /// The provider's id of it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// How much, in minor units of the payment's currency.
    pub minor: i64,
    /// How far it is.
    pub progress: RefundProgress,
    /// Why it did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What was taken back for it: unspent value.
    pub unspent: Micros,
    /// What was owed for it: value that was spent already.
    pub owed: Micros,
    /// What was forgiven for it: value that was spent already.
    pub forgiven: Micros,
    /// What of it had been to the customer's credit, in minor units: an invoice was paid twice, or was credited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub credit: i64,
    /// What of the rest had been tax.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tax: i64,
    /// When it was asked for, or first heard of.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
}

impl Refund {
    /// Whether it counts against the payment.
    #[must_use]
    pub const fn counts(&self) -> bool {
        !matches!(self.progress, RefundProgress::Failed)
    }

    fn taken(&self) -> Result<Micros, Refusal> {
        Micros::sum([self.unspent, self.owed, self.forgiven])
    }
}

impl Draft<'_> {
    /// Takes back what was sold for this part of the payment, and asks the provider to give the money back.
    pub(crate) fn refund(&mut self, payment: &mut Payment, id: Uuid, minor: Option<i64>) -> Result<(), Refusal> {
        if payment.state != PaymentState::Paid {
            return Err(Refusal::NotPaid);
        }
        let left = payment.amount.minor.saturating_sub(payment.refunded());
        let minor = minor.unwrap_or(left);
        if minor <= 0 || minor > left {
            return Err(Refusal::RefundTooLarge {
                refundable: Money { minor: left, currency: payment.amount.currency.clone() },
            });
        }
        if payment.dispute.as_ref().is_some_and(|dispute| dispute.state != DisputeState::Won) {
            return Err(Refusal::Disputed);
        }
        if payment.refunds.len() >= MOST_REFUNDS {
            return Err(Refusal::TooManyRefunds { limit: MOST_REFUNDS });
        }
        self.take_back(payment, id, minor, None)?;
        self.effect(Effect::CreateRefund { payment: payment.id, refund: id }, self.now);
        Ok(())
    }

    /// Takes over how the provider's refunds of a payment stand, those included that were made elsewhere.
    pub(crate) fn report_refunds(&mut self, payment: &mut Payment, reports: &[RefundReport]) -> Result<(), Refusal> {
        for report in reports {
            let ours = payment.refunds.iter().find(|refund| {
                refund.reference.as_ref() == Some(&report.reference)
                    || (refund.reference.is_none() && report.id.as_deref() == Some(refund.id.to_string().as_str()))
            });
            if let Some(refund) = ours.map(|refund| refund.id) {
                self.report_refund(payment, refund, report)?;
            } else if report.progress != RefundProgress::Failed && payment.refunds.len() < MOST_REFUNDS {
                let id = operation_id(payment.id, "refund", &report.reference);
                self.take_back(payment, id, report.minor, Some(report))?;
            }
        }
        Ok(())
    }

    /// Takes over how a refund of ours stands.
    pub(crate) fn report_refund(
        &mut self,
        payment: &mut Payment,
        id: Uuid,
        report: &RefundReport,
    ) -> Result<(), Refusal> {
        let refund = payment.refunds.iter_mut().find(|refund| refund.id == id).ok_or(Refusal::UnknownRefund)?;
        if refund.reference.as_ref().is_some_and(|reference| *reference != report.reference) {
            return Err(Refusal::PaymentMismatch);
        }
        refund.reference = Some(report.reference.clone());
        match (refund.progress, report.progress) {
            (RefundProgress::Failed, _) => Ok(()),
            (_, RefundProgress::Failed) => {
                let failure = report.failure.clone().unwrap_or_else(|| Failure {
                    code: Arc::from("refund_failed"),
                    decline_code: None,
                    message: Arc::from("the provider could not give the money back"),
                });
                self.fail_refund(payment, id, &failure)
            }
            // A refund that has arrived and is then said to be on its way was reported late.
            (RefundProgress::Succeeded, _) => Ok(()),
            (RefundProgress::Pending, progress) => {
                refund.progress = progress;
                Ok(())
            }
        }
    }

    /// The money did not go back, so what was taken for it does, but for what is due for other refunds.
    pub(crate) fn fail_refund(&mut self, payment: &mut Payment, id: Uuid, failure: &Failure) -> Result<(), Refusal> {
        let refund_at = payment.refunds.iter().position(|refund| refund.id == id).ok_or(Refusal::UnknownRefund)?;
        let refund = &mut payment.refunds[refund_at];
        if refund.progress == RefundProgress::Failed {
            return Ok(());
        }
        refund.progress = RefundProgress::Failed;
        refund.failure = Some(failure.clone());
        let Some(purchase) = payment.purpose.purchase().cloned() else {
            let (refund, currency) = (&payment.refunds[refund_at], &payment.amount.currency);
            return self.book_refund(currency, (id, -refund.minor), (-refund.credit, -refund.tax));
        };
        let returned = hand_over(payment, refund_at)?;
        let (back, forgiven) = (returned.unspent.plus(returned.owed)?, returned.forgiven);
        let sides = (Account::Cash, Account::Promotions);
        self.post((EntryKind::Refund, id), None, sides, (&purchase.asset, forgiven))?;
        if back.is_zero() {
            return Ok(());
        }
        // What was owed for it is paid from this first, as from any bought value.
        self.add_grant(&GrantTerms {
            id: returned_grant(id),
            asset: purchase.asset.clone(),
            amount: back,
            kind: GrantKind::Paid,
            priority: purchase.priority,
            expires_at: None,
            meters: purchase.meters.clone(),
            reason: Some(purchase.title.to_string()),
        })?;
        let disputed = payment.dispute.as_ref().is_some_and(|dispute| dispute.state == DisputeState::Open);
        self.freeze(payment, disputed);
        Ok(())
    }

    /// Takes over how the dispute of a payment stands: while nobody knows, what is unspent cannot be used; when it is
    /// lost, it is as if the disputed part had been refunded.
    pub(crate) fn report_dispute(
        &mut self,
        payment: &mut Payment,
        report: Option<&DisputeReport>,
    ) -> Result<(), Refusal> {
        let Some(report) = report else { return Ok(()) };
        let before = payment.dispute.as_ref().map(|dispute| dispute.state);
        // Won or lost is final; an "open" that comes after it was reported late.
        if matches!(before, Some(DisputeState::Won | DisputeState::Lost)) || before == Some(report.state) {
            return Ok(());
        }
        payment.dispute = Some(report.clone());
        if report.state != DisputeState::Won {
            self.stop_top_up_disputed();
        }
        self.freeze(payment, report.state == DisputeState::Open);
        if report.state != DisputeState::Lost {
            return Ok(());
        }
        let id = operation_id(payment.id, "dispute", &report.reference);
        let as_refund = RefundReport {
            reference: report.reference.clone(),
            id: None,
            minor: report.minor,
            progress: RefundProgress::Succeeded,
            failure: None,
        };
        self.take_back(payment, id, report.minor, Some(&as_refund))
    }

    fn freeze(&mut self, payment: &Payment, frozen: bool) {
        let sold = grants_of(payment);
        for grant in self.decision.customer.state.grants.iter_mut().filter(|grant| sold.contains(&grant.id)) {
            grant.frozen = frozen;
        }
    }

    /// Takes back what was sold for this part of the payment: what is unspent leaves the grant, the rest is owed or
    /// forgiven. `made` says what the provider reported of a refund that was made elsewhere.
    fn take_back(
        &mut self,
        payment: &mut Payment,
        id: Uuid,
        minor: i64,
        made: Option<&RefundReport>,
    ) -> Result<(), Refusal> {
        let minor = minor.clamp(0, payment.amount.minor);
        let Some(purchase) = payment.purpose.purchase().cloned() else {
            return self.refund_invoice(payment, id, minor, made);
        };
        let given_back = payment.refunded().saturating_add(minor).min(payment.amount.minor);
        let value = due(payment, given_back)?.minus(taken(payment)?)?;
        let asset = purchase.asset.clone();
        let mut spent = value;
        for grant in grants_of(payment) {
            let part = self.take_unspent(grant, spent)?;
            self.post((EntryKind::Refund, id), Some(grant), (Account::Wallet, Account::Cash), (&asset, part))?;
            spent = spent.minus(part)?;
        }
        let unspent = value.minus(spent)?;
        let owed = match self.catalog.spent_refunds {
            SpentPolicy::Owe => spent,
            SpentPolicy::Forgive => self.held_of(payment)?.min(spent),
        };
        let forgiven = spent.minus(owed)?;
        for (account, part) in [(Account::Receivable, owed), (Account::Promotions, forgiven)] {
            self.post((EntryKind::Refund, id), None, (account, Account::Cash), (&asset, part))?;
        }
        let debt = self.decision.customer.owed(&asset).plus(owed)?;
        self.set_debt(&asset, debt);
        self.stop_top_up_given_back(&asset, unspent)?;
        payment.refunds.push(Refund {
            id,
            reference: made.map(|report| report.reference.clone()),
            minor,
            progress: made.map_or(RefundProgress::Pending, |report| report.progress),
            failure: None,
            unspent,
            owed,
            forgiven,
            credit: 0,
            tax: 0,
            created_at: self.now,
        });
        Ok(())
    }

    /// What was paid for an invoice goes back: first what was paid in excess, then what was sold, with the tax in it, and at last
    /// what credit notes have taken off that. What is to the customer's credit leaves it; where it was spent already, the next
    /// invoice asks for it, or it is forgiven.
    fn refund_invoice(
        &mut self,
        payment: &mut Payment,
        id: Uuid,
        minor: i64,
        made: Option<&RefundReport>,
    ) -> Result<(), Refusal> {
        let currency = payment.amount.currency.clone();
        let kept = Kept::of(payment);
        let over = minor.min(kept.excess).max(0);
        let mut credit = over + (minor - over - kept.sold.max(0)).clamp(0, kept.credited);
        if self.catalog.spent_refunds == SpentPolicy::Forgive {
            let there = self.decision.customer.state.carried.get(&currency).copied().unwrap_or_default();
            credit = credit.min(-there).max(0);
        }
        let tax = kept.tax_in(minor - credit)?;
        self.book_refund(&currency, (id, minor), (credit, tax))?;
        payment.refunds.push(Refund {
            id,
            reference: made.map(|report| report.reference.clone()),
            minor,
            progress: made.map_or(RefundProgress::Pending, |report| report.progress),
            failure: None,
            unspent: Micros::ZERO,
            owed: Micros::ZERO,
            forgiven: Micros::ZERO,
            credit,
            tax,
            created_at: self.now,
        });
        Ok(())
    }

    /// Writes what a refund of so many minor units takes from the customer's credit, the tax and the revenue; below zero,
    /// that it did not come to be.
    fn book_refund(
        &mut self,
        currency: &Asset,
        (id, minor): (Uuid, i64),
        (credit, tax): (i64, i64),
    ) -> Result<(), Refusal> {
        let cause = (EntryKind::Refund, id);
        self.carry(cause, Account::Cash, currency, credit)?;
        self.post_minor(cause, (Account::Tax, Account::Cash), currency, tax)?;
        self.post_minor(cause, (Account::Revenue, Account::Cash), currency, minor - credit - tax)
    }

    /// What open holds keep of what was sold, but for what is owed for it already. It is not spent, and returns when the
    /// holds end, so it is never forgiven.
    fn held_of(&self, payment: &Payment) -> Result<Micros, Refusal> {
        let sold = grants_of(payment);
        let open = self.decision.customer.state.grants.iter().filter(|grant| sold.contains(&grant.id));
        let owed = payment.refunds.iter().filter(|refund| refund.counts()).map(|refund| refund.owed);
        Ok(Micros::sum(open.map(|grant| grant.held))?.minus(Micros::sum(owed)?)?.max(Micros::ZERO))
    }

    /// Takes up to `value` of what is left of a grant, frozen or not.
    fn take_unspent(&mut self, grant: Uuid, value: Micros) -> Result<Micros, Refusal> {
        let find = |other: &&mut Grant| other.id == grant;
        let Some(open) = self.decision.customer.state.grants.iter_mut().find(find) else { return Ok(Micros::ZERO) };
        let unspent = open.remaining.min(value);
        open.remaining = open.remaining.minus(unspent)?;
        if open.remaining.is_zero() && open.held.is_zero() && !unspent.is_zero() {
            self.decision.ended_grants.push((grant, GrantEnd::Voided));
        }
        self.drop_empty_grants();
        Ok(unspent)
    }
}

/// What is kept of a payment for an invoice, in minor units: what went back counts no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// What was paid in excess, and is to the customer's credit.
    pub excess: i64,
    /// What credit notes have put to the customer's credit.
    pub credited: i64,
    /// What is for what was sold, with tax.
    pub sold: i64,
    /// The tax in that.
    pub tax: i64,
}

impl Kept {
    pub(crate) fn of(payment: &Payment) -> Self {
        let (excess, credited, tax) = match &payment.purpose {
            Purpose::Purchase(_) | Purpose::OneTime(_) => (0, 0, 0),
            Purpose::Invoice(purpose) => (purpose.excess, purpose.credited, purpose.tax),
            Purpose::Subscription(fee) => (0, 0, fee.tax),
        };
        let mut kept = Self { excess, credited, sold: payment.amount.minor - excess - credited, tax };
        for refund in payment.refunds.iter().filter(|refund| refund.counts()) {
            let over = refund.credit.min(kept.excess);
            kept.excess -= over;
            kept.credited -= refund.credit - over;
            kept.sold -= refund.minor - refund.credit;
            kept.tax -= refund.tax;
        }
        kept
    }

    /// The tax in so much of what was sold; the last part has what rounding left of it.
    pub(crate) fn tax_in(self, minor: i64) -> Result<i64, Refusal> {
        if minor >= self.sold {
            return Ok(self.tax);
        }
        let share = i128::from(self.tax) * i128::from(minor) / i128::from(self.sold);
        i64::try_from(share).map_err(|_| Refusal::AmountOutOfRange)
    }
}

/// The grant in which what was taken for a refund returns when it fails.
fn returned_grant(refund: Uuid) -> Uuid {
    operation_id(refund, "refund", "failed")
}

/// The grants that have what was sold: the one that the payment became, and what failed refunds returned.
fn grants_of(payment: &Payment) -> Vec<Uuid> {
    let failed = payment.refunds.iter().filter(|refund| !refund.counts());
    std::iter::once(purchased_grant(payment.id)).chain(failed.map(|refund| returned_grant(refund.id))).collect()
}

/// What of the sold value belongs to what is given back of the payment, so that all parts together come to all of it.
fn due(payment: &Payment, given_back: i64) -> Result<Micros, Refusal> {
    let Some(purchase) = payment.purpose.purchase() else { return Ok(Micros::ZERO) };
    let value = i128::from(purchase.amount.get()) * i128::from(given_back) / i128::from(payment.amount.minor.max(1));
    i64::try_from(value).map(Micros::new).map_err(|_| Refusal::AmountOutOfRange)
}

/// What has been taken for the refunds that count.
fn taken(payment: &Payment) -> Result<Micros, Refusal> {
    let counted = payment.refunds.iter().filter(|refund| refund.counts());
    Micros::sum(counted.map(Refund::taken).collect::<Result<Vec<_>, _>>()?)
}

/// What a refund that has failed returns, so that what stays taken is what is due for the refunds that still count.
/// Mostly that is what was taken for it; but where they overlap, a part may have been taken for it that is due for them,
/// and rounding may have taken a micro more or less for each.
fn hand_over(payment: &mut Payment, failed: usize) -> Result<Refund, Refusal> {
    let mut returned = payment.refunds[failed].clone();
    let mut excess = taken(payment)?.minus(due(payment, payment.refunded())?)?;
    for refund in payment.refunds.iter_mut().rev().filter(|refund| refund.counts()) {
        excess = if excess.is_negative() {
            Micros::ZERO.minus(shift(&mut returned, refund, Micros::ZERO.minus(excess)?)?)?
        } else {
            shift(refund, &mut returned, excess)?
        };
    }
    Ok(returned)
}

/// Moves so much of what was taken from one refund to another, and says how much it could not.
fn shift(from: &mut Refund, to: &mut Refund, amount: Micros) -> Result<Micros, Refusal> {
    let mut rest = amount;
    for (from, to) in
        [(&mut from.unspent, &mut to.unspent), (&mut from.owed, &mut to.owed), (&mut from.forgiven, &mut to.forgiven)]
    {
        let part = rest.min(*from);
        (*from, *to, rest) = (from.minus(part)?, to.plus(part)?, rest.minus(part)?);
    }
    Ok(rest)
}
