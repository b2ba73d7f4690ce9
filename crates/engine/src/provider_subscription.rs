//! Subscriptions that the provider renews: it collects their fee, and what it says moves them. What they include is given
//! here, and what is used beyond that is invoiced here.

use std::sync::Arc;

use uuid::Uuid;

use crate::effect::{Effect, Ending};
use crate::id::operation_id;
use crate::invoice::InvoiceReason;
use crate::refusal::Refusal;
use crate::report::SubscriptionReport;
use crate::subscription::{Subscription, SubscriptionSource, SubscriptionStep, Terms};
use crate::wallet::Draft;

/// How many ended subscriptions of the provider's are known by name.
const ENDED_KEPT: usize = 20;

impl Draft<'_> {
    /// Takes over how a subscription stands at the provider. Of two reports the one that was seen later counts.
    pub(crate) fn report_subscription(&mut self, report: &SubscriptionReport) -> Result<(), Refusal> {
        let known = self.decision.customer.state.subscriptions.iter().position(|subscription| {
            subscription.source == SubscriptionSource::Provider
                && (subscription.reference.as_ref() == Some(&report.reference) || Some(subscription.id) == report.id)
        });
        let Some(index) = known else { return self.begin_reported(report) };
        let before = self.decision.customer.state.subscriptions[index].clone();
        if before.seen_at.is_some_and(|seen| seen > report.seen_at) {
            return Ok(());
        }
        let terms = self.reported_terms(report)?;
        if report.state.has_ended() {
            self.note_ended(&report.reference);
            return self.end_subscription(index, report.state);
        }
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        let began = report.state.is_in_force() && !before.state.is_in_force();
        let renewed = report.period.start != before.period.start;
        if renewed {
            subscription.anchor = report.period.start;
        }
        subscription.terms = terms;
        subscription.reference = Some(report.reference.clone());
        subscription.seen_at = Some(report.seen_at);
        (subscription.state, subscription.period) = (report.state, report.period);
        (subscription.trial_end, subscription.cancel_at_period_end) = (report.trial_end, report.cancel_at_period_end);
        if began || renewed {
            self.give_allowances(index, Some(&before))?;
        } else if report.state.is_in_force() {
            self.adjust_allowances(index, &before)?;
        }
        if renewed {
            self.bill_reported(&before)?;
        }
        self.record_subscription(before.id);
        Ok(())
    }

    /// Asks the provider to end a subscription of its own; that it has is for the provider to say. Anything else is done
    /// there.
    pub(crate) fn ask_provider(&mut self, reference: Option<Arc<str>>, step: &SubscriptionStep) -> Result<(), Refusal> {
        let ending = match step {
            SubscriptionStep::Cancel { prorate: false } => Ending::Now,
            SubscriptionStep::CancelAtPeriodEnd => Ending::WithPeriod,
            SubscriptionStep::Keep => Ending::NotAtAll,
            _ => return Err(Refusal::ProviderSubscription),
        };
        let reference = reference.ok_or(Refusal::ProviderSubscription)?;
        self.effect(Effect::EndSubscription { reference, ending }, self.now);
        Ok(())
    }

    /// Has the provider end a subscription of its own whose customer is closed; what it says of it later begins nothing.
    pub(crate) fn end_at_provider(&mut self, subscription: &Subscription) {
        let Some(reference) = subscription.reference.clone() else { return };
        self.note_ended(&reference);
        self.effect(Effect::EndSubscription { reference, ending: Ending::Now }, self.now);
    }

    fn note_ended(&mut self, reference: &Arc<str>) {
        let ended = &mut self.decision.customer.state.ended_references;
        ended.push(reference.clone());
        let excess = ended.len().saturating_sub(ENDED_KEPT);
        ended.drain(..excess);
    }

    /// A subscription of the provider's is heard of for the first time. One that has ended was never ours.
    fn begin_reported(&mut self, report: &SubscriptionReport) -> Result<(), Refusal> {
        let ended = self.decision.customer.state.ended_references.contains(&report.reference);
        if ended || report.state.has_ended() || self.refuse_closed().is_err() {
            return Ok(());
        }
        let terms = self.reported_terms(report)?;
        let id: Uuid = report
            .id
            .unwrap_or_else(|| operation_id(self.decision.customer.id, "provider_subscription", &report.reference));
        self.decision.customer.state.subscriptions.push(Subscription {
            id,
            terms,
            state: report.state,
            source: SubscriptionSource::Provider,
            reference: Some(report.reference.clone()),
            seen_at: Some(report.seen_at),
            anchor: report.period.start,
            period: report.period,
            trial_end: report.trial_end,
            told_of_trial_end: false,
            cancel_at_period_end: report.cancel_at_period_end,
            next_terms: None,
            resumes_at: None,
            coupon: None,
            by_invoice: false,
            invoiced_fees: 0,
            latest_invoice: None,
            changes: 0,
            started_at: report.period.start,
            ended_at: None,
        });
        let index = self.decision.customer.state.subscriptions.len() - 1;
        self.give_allowances(index, None)?;
        self.record_subscription(id);
        Ok(())
    }

    fn reported_terms(&self, report: &SubscriptionReport) -> Result<Terms, Refusal> {
        let plan = self.catalog.plans.current(&report.plan)?;
        Ok(Terms {
            plan: plan.name.clone(),
            version: plan.version.clone(),
            quantity: report.quantity.max(1),
            add_ons: Vec::new(),
        })
    }

    /// Invoices the usage of a period that the provider has closed.
    fn bill_reported(&mut self, before: &Subscription) -> Result<(), Refusal> {
        let end = Some(before.period.end);
        let (reason, period) = (InvoiceReason::Usage, before.period);
        let commitment = crate::renewal::plan_of(self, before).and_then(|plan| plan.commitment).unwrap_or_default();
        match self.bill_subscription(before, reason, period, end, Vec::new(), commitment)? {
            Some(invoice) => self.collect_if_open(invoice),
            None => Ok(()),
        }
    }
}
