//! What a subscription is for changes: plan, quantity and add-ons, now or with the next period, and what becomes of the rest of the
//! one under way.

use std::sync::Arc;

use crate::coupon::Discount;
use crate::invoice::{InvoiceReason, Line, LineKind, sum};
use crate::money::Money;
use crate::period::Period;
use crate::plan::Plan;
use crate::proration::{Proration, rest_of, split};
use crate::refusal::Refusal;
use crate::subscription::{Subscription, SubscriptionState, Terms, fee_lines};
use crate::wallet::Draft;

/// What to change of a subscription; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TermsChange {
    /// The plan's name; its version becomes the one that is sold now.
    pub plan: Option<Arc<str>>,
    /// How many.
    pub quantity: Option<u32>,
    /// What is booked with it.
    pub add_ons: Option<Vec<(Arc<str>, u32)>>,
}

/// When a subscription changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeTime {
    /// Now; with what becomes of the difference for the rest of the period.
    Now(Proration),
    /// With the next period.
    NextPeriod,
}

impl Draft<'_> {
    /// What a subscription is for after a change, and what of it is billed once.
    pub(crate) fn changed_terms(
        &self,
        before: &Terms,
        (old, plan): (&Plan, &Plan),
        change: &TermsChange,
    ) -> Result<(Terms, Vec<Line>), Refusal> {
        if plan.fee.currency != old.fee.currency {
            return Err(Refusal::OtherCurrency);
        }
        let quantity = change.quantity.unwrap_or(before.quantity);
        let (mut terms, once) = self.terms(plan, quantity, change.add_ons.as_deref().unwrap_or_default())?;
        if change.add_ons.is_none() {
            terms.add_ons.clone_from(&before.add_ons);
        }
        Ok((terms, once))
    }

    /// Changes a subscription that farthing renews: now, with what becomes of the rest of its period, or with the next one.
    pub(crate) fn change_subscription(
        &mut self,
        index: usize,
        change: &TermsChange,
        when: ChangeTime,
    ) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let before = self.decision.customer.state.subscriptions[index].clone();
        let old = catalog.plans.version(&before.terms.version, &before.terms.plan)?;
        let plan = match &change.plan {
            Some(name) => catalog.plans.current(name)?,
            None => old,
        };
        if plan.provider_price.is_some() {
            return Err(Refusal::ProviderSubscription { what: "take over one that farthing renews" });
        }
        let (terms, once) = self.changed_terms(&before.terms, (old, plan), change)?;
        for line in once {
            self.wait_for_invoice(Some(before.id), &plan.fee.currency, line)?;
        }
        let ChangeTime::Now(proration) = when else {
            self.decision.customer.state.subscriptions[index].next_terms = Some(terms);
            self.record_subscription(before.id);
            return Ok(());
        };
        let trialing = before.state == SubscriptionState::Trialing;
        let prorated = proration != Proration::None && !trialing;
        let mut lines = if prorated { self.rest_lines(&before, old, -1)? } else { Vec::new() };
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        (subscription.terms, subscription.next_terms) = (terms, None);
        if plan.interval != old.interval && !trialing {
            return self.change_interval(index, &before, lines);
        }
        if prorated {
            subscription.invoiced_fees = discounted_fees(subscription, plan)?;
        }
        let after = subscription.clone();
        if prorated {
            lines.extend(self.rest_lines(&after, plan, 1)?);
        }
        self.adjust_allowances(index, &before)?;
        if proration == Proration::Now {
            let invoice = self.bill_subscription(&after, InvoiceReason::Change, after.period, None, lines, 0)?;
            if let Some(invoice) = invoice {
                self.collect_if_open(invoice)?;
            }
        } else {
            for line in lines.into_iter().filter(|line| line.minor != 0) {
                self.wait_for_invoice(Some(after.id), &plan.fee.currency, line)?;
            }
        }
        self.record_subscription(before.id);
        Ok(())
    }

    /// A period of another length begins now, and is invoiced now, with what is left of the old one given back.
    fn change_interval(&mut self, index: usize, before: &Subscription, lines: Vec<Line>) -> Result<(), Refusal> {
        self.take_allowances(before)?;
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        subscription.anchor = self.now;
        // The old period may have begun in this very moment.
        subscription.changes = subscription.changes.saturating_add(1);
        self.begin_period(index, before, InvoiceReason::Change, lines)
    }

    /// What the rest of the period is worth of each of a subscription's fees: to be added, or, of what was invoiced of them,
    /// given back.
    pub(crate) fn rest_lines(&self, subscription: &Subscription, plan: &Plan, sign: i64) -> Result<Vec<Line>, Refusal> {
        let (now, period) = (self.now, subscription.period);
        let rest = Period { start: now, end: period.end };
        let fees = fee_lines(plan, &subscription.terms, period)?;
        let mut worth: Vec<i64> = fees.iter().map(|line| line.minor).collect();
        if sign < 0 {
            worth = split(subscription.invoiced_fees.max(0), &worth)?;
        }
        let prorate = |(line, worth): (Line, i64)| -> Result<Line, Refusal> {
            let per_minor = Money { minor: 1, currency: plan.fee.currency.clone() }.micros()?.get();
            let minor = sign * rest_of(worth, period, now)?;
            let title = if sign < 0 {
                format!("Unused time of {}", line.title)
            } else {
                format!("Remaining time of {}", line.title)
            };
            let kind = LineKind::Proration { whole: period, price: worth };
            let prorated = Line::whole(kind, &title, 1, minor, per_minor)?;
            Ok(Line { quantity: line.quantity, unit_price: line.unit_price, period: Some(rest), ..prorated })
        };
        fees.into_iter().zip(worth).map(prorate).collect()
    }
}

/// What the fees of the period under way come to, less what a coupon that goes on takes off them.
fn discounted_fees(subscription: &Subscription, plan: &Plan) -> Result<i64, Refusal> {
    let fees = fee_lines(plan, &subscription.terms, subscription.period)?;
    let fees: Vec<i64> = fees.iter().map(|line| line.minor).collect();
    let coupon = subscription.coupon.as_ref().filter(|coupon| matches!(coupon.discount, Discount::Percent(_)));
    let discounts = coupon.map(|coupon| coupon.discounts(&fees, &plan.fee.currency)).transpose()?.unwrap_or_default();
    Ok(sum(fees)? - sum(discounts)?)
}
