//! Time: what becomes due of subscriptions and invoices by itself, done in the order of its times before anything else
//! happens; and what a period brings when it begins and when it ends.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::customer::Customer;
use crate::effect::Effect;
use crate::grant::{GrantKind, GrantTerms};
use crate::id::operation_id;
use crate::invoice::{InvoiceReason, Line, OpenInvoice};
use crate::money::{Asset, Micros};
use crate::period::{Period, month_of, period_at};
use crate::plan::{Allowance, Plan};
use crate::proration::rest_of;
use crate::refusal::Refusal;
use crate::subscription::{
    INCOMPLETE_LASTS, Subscription, SubscriptionSource, SubscriptionState, fee_lines, period_from, trial_notice_at,
};
use crate::wallet::Draft;

/// What becomes due of a customer by itself; in the order in which it is done where several are due at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DueKind {
    /// Something of a subscription: a trial or a period ends, a pause, the time for a first payment.
    Subscription,
    /// Something is charged again.
    RecurringCharge,
    /// An invoice is tried again, or overdue.
    Collection,
    /// The month ends whose usage is invoiced without any subscription.
    Usage,
}

impl DueKind {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::RecurringCharge => "recurring_charge",
            Self::Collection => "collection",
            Self::Usage => "usage",
        }
    }
}

/// What next becomes due of a customer by itself, and when. The shell brings the customer a command then; whichever
/// comes first does what was due.
#[must_use]
pub fn due(customer: &Customer) -> Option<(Timestamp, DueKind)> {
    let state = &customer.state;
    let subscriptions = state.subscriptions.iter().filter_map(due_of).map(|at| (at, DueKind::Subscription));
    let invoices = state.invoices.iter().filter_map(|open| open.standing.next_attempt_at);
    let usage = state.usage_due_at.map(|at| (at, DueKind::Usage));
    let recurring = state.recurring_charges.iter().map(|known| (known.next_at, DueKind::RecurringCharge));
    subscriptions.chain(recurring).chain(invoices.map(|at| (at, DueKind::Collection))).chain(usage).min()
}

/// When something next becomes due of a customer by itself.
#[must_use]
pub fn due_at(customer: &Customer) -> Option<Timestamp> {
    due(customer).map(|(at, _)| at)
}

fn due_of(subscription: &Subscription) -> Option<Timestamp> {
    renewal_of(subscription).into_iter().chain(trial_notice_at(subscription)).min()
}

/// When a subscription renews itself next, ends, or goes on after a pause.
pub(crate) fn renewal_of(subscription: &Subscription) -> Option<Timestamp> {
    match subscription.state {
        _ if subscription.source == SubscriptionSource::Provider => None,
        SubscriptionState::Incomplete => subscription.started_at.checked_add(INCOMPLETE_LASTS).ok(),
        SubscriptionState::Trialing | SubscriptionState::Active | SubscriptionState::PastDue => {
            Some(subscription.period.end)
        }
        SubscriptionState::Paused => subscription.resumes_at,
        SubscriptionState::Unpaid | SubscriptionState::Canceled | SubscriptionState::IncompleteExpired => None,
    }
}

impl Draft<'_> {
    /// Does everything that is due by now, each at its own time, and lets lapse what has lapsed.
    pub(crate) fn pass_time(&mut self) -> Result<(), Refusal> {
        while let Some((at, kind)) = due(&self.decision.customer).filter(|(at, _)| *at <= self.clock) {
            // What ends with a period is still there when the next begins: it may go over.
            self.now = at.checked_sub(SignedDuration::from_micros(1)).unwrap_or(at);
            self.lapse()?;
            self.now = at;
            let state = &self.decision.customer.state;
            match kind {
                DueKind::Subscription => {
                    if let Some(index) = state.subscriptions.iter().position(|known| due_of(known) == Some(at)) {
                        self.subscription_is_due(index)?;
                    }
                }
                DueKind::RecurringCharge => {
                    if let Some(index) = state.recurring_charges.iter().position(|known| known.next_at == at) {
                        self.recurring_charge_is_due(index)?;
                    }
                }
                DueKind::Collection => {
                    let due = |open: &OpenInvoice| open.standing.next_attempt_at == Some(at);
                    if let Some(index) = state.invoices.iter().position(due) {
                        self.invoice_is_due(index)?;
                    }
                }
                DueKind::Usage => self.usage_is_due()?,
            }
        }
        self.now = self.clock;
        self.lapse()
    }

    fn subscription_is_due(&mut self, index: usize) -> Result<(), Refusal> {
        let subscription = &self.decision.customer.state.subscriptions[index];
        if trial_notice_at(subscription).is_some_and(|at| at <= self.now) {
            self.tell_of_trial_end(index);
            return Ok(());
        }
        match subscription.state {
            SubscriptionState::Incomplete => self.end_subscription(index, SubscriptionState::IncompleteExpired),
            SubscriptionState::Paused => self.resume(index),
            _ if subscription.cancel_at_period_end => self.end_subscription(index, SubscriptionState::Canceled),
            _ => self.renew(index),
        }
    }

    /// Closes a period and begins the next.
    fn renew(&mut self, index: usize) -> Result<(), Refusal> {
        let before = self.decision.customer.state.subscriptions[index].clone();
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        if let Some(terms) = subscription.next_terms.take() {
            subscription.terms = terms;
        }
        if subscription.state == SubscriptionState::Trialing {
            subscription.state = SubscriptionState::Active;
            subscription.anchor = self.now;
        }
        let versions = &self.catalog.plans;
        let interval = |subscription: &Subscription| {
            let plan = versions.version(&subscription.terms.version, &subscription.terms.plan);
            plan.map(|plan| plan.interval).ok()
        };
        if interval(subscription) != interval(&before) {
            subscription.anchor = self.now;
        }
        if interval(subscription).is_none() {
            // Nobody sells this any more, nor knows what it was.
            return self.end_subscription(index, SubscriptionState::Canceled);
        }
        self.begin_period(index, &before, InvoiceReason::Renewal, Vec::new())
    }

    /// Begins a period anew, after a time in which nothing was given.
    pub(crate) fn begin_anew(&mut self, index: usize) -> Result<(), Refusal> {
        let before = self.decision.customer.state.subscriptions[index].clone();
        if plan_of(self, &before).is_none() {
            return self.end_subscription(index, SubscriptionState::Canceled);
        }
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        (subscription.state, subscription.anchor) = (SubscriptionState::Active, self.now);
        self.begin_period(index, &before, InvoiceReason::Renewal, Vec::new())
    }

    /// Begins the period that starts now: invoices what the one before made, and the fees of the new one in advance;
    /// gives what is included in it; and collects.
    pub(crate) fn begin_period(
        &mut self,
        index: usize,
        before: &Subscription,
        reason: InvoiceReason,
        mut lines: Vec<Line>,
    ) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let commitment = self.commitment_of(before)?;
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        let plan = catalog.plans.version(&subscription.terms.version, &subscription.terms.plan)?;
        subscription.period = period_from(subscription, plan.interval, self.now, &catalog.time_zone)?;
        subscription.invoiced_fees = 0;
        let subscription = subscription.clone();
        lines.extend(fee_lines(plan, &subscription.terms, subscription.period)?);
        let now = Some(self.now);
        self.give_allowances(index, Some(before))?;
        let invoice = self.bill_subscription(&subscription, reason, before.period, now, lines, commitment)?;
        self.bill_other_currencies(before, &plan.fee.currency)?;
        self.record_subscription(before.id);
        match invoice {
            Some(invoice) => self.collect_if_open(invoice),
            None => Ok(()),
        }
    }

    /// The minimum of the period under way: all of it when the period has ended, the part that has gone by before that.
    /// Nobody has committed to anything for a trial.
    pub(crate) fn commitment_of(&self, subscription: &Subscription) -> Result<i64, Refusal> {
        let paid_for = matches!(subscription.state, SubscriptionState::Active | SubscriptionState::PastDue);
        let plan = self.catalog.plans.version(&subscription.terms.version, &subscription.terms.plan);
        let commitment = plan.ok().filter(|_| paid_for).and_then(|plan| plan.commitment).unwrap_or_default();
        Ok(commitment - rest_of(commitment, subscription.period, self.now)?)
    }

    /// Invoices usage that is owed in other currencies than the plan's, each on its own.
    pub(crate) fn bill_other_currencies(&mut self, before: &Subscription, own: &Asset) -> Result<(), Refusal> {
        let owed = &self.decision.customer.state.owed;
        let others: Vec<Asset> = owed.keys().filter(|a| *a != own && a.currency().is_some()).cloned().collect();
        for currency in others {
            let now = self.now.as_microsecond();
            // Time does the same in however many commands it passes; a provider may report two periods at one time.
            let key = match before.source {
                SubscriptionSource::Own => format!("usage/{now}/{currency}"),
                SubscriptionSource::Provider => {
                    format!("usage/{}/{now}/{currency}", self.decision.customer.position)
                }
            };
            let invoice = self.bill(crate::billing::Bill {
                id: operation_id(before.id, "invoice", &key),
                subscription: Some(before),
                reason: InvoiceReason::Usage,
                currency,
                period: before.period,
                usage_before: Some(self.now),
                lines: Vec::new(),
                commitment: 0,
            })?;
            if let Some(invoice) = invoice {
                self.collect_if_open(invoice)?;
            }
        }
        Ok(())
    }

    /// The first invoice is paid: the plan is in force.
    pub(crate) fn activate(&mut self, index: usize) -> Result<(), Refusal> {
        self.move_subscription(index, SubscriptionState::Active);
        self.give_allowances(index, None)
    }

    /// Ends a subscription: takes back what it gave and was not used, and invoices what is owed. One that never came to
    /// be leaves nothing to pay.
    pub(crate) fn end_subscription(&mut self, index: usize, state: SubscriptionState) -> Result<(), Refusal> {
        let subscription = self.decision.customer.state.subscriptions[index].clone();
        let commitment = self.commitment_of(&subscription)?;
        self.take_allowances(&subscription)?;
        self.decision.customer.state.subscriptions.remove(index);
        let id = subscription.id;
        if state == SubscriptionState::IncompleteExpired {
            while let Some(open) = self.decision.customer.state.invoices.iter().position(|o| o.subscription == Some(id))
            {
                self.void_invoice(open)?;
            }
            self.decision.customer.state.pending_lines.retain(|pending| pending.subscription != Some(id));
        } else {
            let latest = Some(self.now.checked_add(SignedDuration::from_micros(1)).unwrap_or(self.now));
            let reason = InvoiceReason::End;
            let invoice =
                self.bill_subscription(&subscription, reason, subscription.period, latest, Vec::new(), commitment)?;
            if let Some(invoice) = invoice {
                self.collect_if_open(invoice)?;
            }
        }
        let latest_invoice =
            self.decision.invoices.iter().rfind(|made| made.subscription == Some(id)).map(|made| made.id);
        self.record_ended(Subscription {
            state,
            ended_at: Some(self.now),
            latest_invoice: latest_invoice.or(subscription.latest_invoice),
            cancel_at_period_end: false,
            next_terms: None,
            resumes_at: None,
            pending: None,
            ..subscription
        });
        Ok(())
    }

    /// Ends every subscription, and stops collecting, because the customer is closed.
    pub(crate) fn end_subscriptions(&mut self) -> Result<(), Refusal> {
        while let Some(subscription) = self.decision.customer.state.subscriptions.first().cloned() {
            if subscription.source == SubscriptionSource::Provider {
                self.end_at_provider(&subscription);
            }
            let incomplete = subscription.state == SubscriptionState::Incomplete;
            let end = if incomplete { SubscriptionState::IncompleteExpired } else { SubscriptionState::Canceled };
            self.end_subscription(0, end)?;
        }
        Ok(())
    }

    /// Gives up collecting what is open: its payments end, and nothing is tried again.
    pub(crate) fn stop_collecting(&mut self) {
        self.decision.customer.state.usage_due_at = None;
        for index in 0..self.decision.customer.state.invoices.len() {
            let open = &mut self.decision.customer.state.invoices[index];
            open.standing.next_attempt_at = None;
            if let Some(payment) = open.standing.payment {
                self.effect(Effect::CancelPayment { payment }, self.clock);
            }
            self.invoice_changed(index);
        }
    }

    /// Gives what is included in the period under way, and of the one before what goes over.
    pub(crate) fn give_allowances(&mut self, index: usize, before: Option<&Subscription>) -> Result<(), Refusal> {
        let subscription = self.decision.customer.state.subscriptions[index].clone();
        if !subscription.state.is_in_force() {
            return Ok(());
        }
        // What was paid is paid, also for a plan that nobody knows any more.
        let Some(plan) = plan_of(self, &subscription) else { return Ok(()) };
        for allowance in &plan.allowances {
            let amount = times(allowance.amount, subscription.terms.quantity)?;
            self.give_allowance(&subscription, allowance, amount, false)?;
            let Some(before) = before.filter(|_| allowance.rollover) else { continue };
            let left = Micros::sum(self.left_of(before, allowance))?;
            let over = left.min(allowance.cap.unwrap_or(left));
            if !over.is_zero() {
                self.give_allowance(&subscription, allowance, over, true)?;
            }
        }
        Ok(())
    }

    fn left_of(&self, subscription: &Subscription, allowance: &Allowance) -> Vec<Micros> {
        let ids = allowance_grants(subscription, allowance);
        let grants = self.decision.customer.state.grants.iter();
        grants.filter(|grant| ids.contains(&grant.id) && !grant.frozen).map(|grant| grant.remaining).collect()
    }

    fn give_allowance(
        &mut self,
        subscription: &Subscription,
        allowance: &Allowance,
        amount: Micros,
        over: bool,
    ) -> Result<(), Refusal> {
        let [fresh, rolled] = allowance_grants(subscription, allowance);
        self.add_grant(&GrantTerms {
            id: if over { rolled } else { fresh },
            asset: allowance.asset.clone(),
            amount,
            kind: GrantKind::Allowance,
            // What went over is used first, since it goes over once more only up to the cap.
            priority: if over { -1 } else { 0 },
            expires_at: Some(subscription.allowances_end()),
            meters: allowance.meters.clone(),
            reason: Some(if over { format!("{} rolled over", allowance.name) } else { allowance.name.to_string() }),
        })
    }

    /// Takes back what is left of what a subscription gave for its period.
    pub(crate) fn take_allowances(&mut self, subscription: &Subscription) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let Ok(plan) = catalog.plans.version(&subscription.terms.version, &subscription.terms.plan) else {
            return Ok(());
        };
        for grant in plan.allowances.iter().flat_map(|allowance| allowance_grants(subscription, allowance)) {
            if self.decision.customer.state.grants.iter().any(|open| open.id == grant) {
                self.void_grant(grant)?;
            }
        }
        Ok(())
    }

    /// Within a period, another plan gives what it includes less what was used of the same asset already.
    pub(crate) fn adjust_allowances(&mut self, index: usize, before: &Subscription) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let after = self.decision.customer.state.subscriptions[index].clone();
        if (&after.terms.version, after.terms.quantity) == (&before.terms.version, before.terms.quantity) {
            return Ok(());
        }
        let old = catalog.plans.version(&before.terms.version, &before.terms.plan)?;
        let new = catalog.plans.version(&after.terms.version, &after.terms.plan)?;
        let mut used = Vec::new();
        for allowance in &old.allowances {
            let given = times(allowance.amount, before.terms.quantity)?;
            let [fresh, _] = allowance_grants(before, allowance);
            let open = self.decision.customer.state.grants.iter().find(|grant| grant.id == fresh);
            let left = open.map_or(Micros::ZERO, |grant| grant.remaining);
            used.push((allowance.asset.clone(), given.minus(left)?));
        }
        for allowance in &old.allowances {
            let [fresh, _] = allowance_grants(before, allowance);
            if self.decision.customer.state.grants.iter().any(|open| open.id == fresh) {
                self.void_grant(fresh)?;
            }
        }
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        subscription.changes = subscription.changes.saturating_add(1);
        let after = subscription.clone();
        for allowance in &new.allowances {
            let mut amount = times(allowance.amount, after.terms.quantity)?;
            for (_, used) in used.iter_mut().filter(|(asset, _)| *asset == allowance.asset) {
                let part = (*used).min(amount).max(Micros::ZERO);
                (amount, *used) = (amount.minus(part)?, used.minus(part)?);
            }
            if !amount.is_zero() {
                self.give_allowance(&after, allowance, amount, false)?;
            }
        }
        Ok(())
    }

    /// When the period began in which a use at this time counts: the subscription's billing period, or the calendar
    /// month.
    pub(crate) fn counting_start(&self, at: Timestamp) -> Result<Timestamp, Refusal> {
        let zone = &self.catalog.time_zone;
        let month = || month_of(at, zone).map(|month: Period| month.start);
        let subscriptions = &self.decision.customer.state.subscriptions;
        let Some(subscription) = subscriptions.iter().find(|known| known.state.is_in_force()) else { return month() };
        if at >= subscription.period.start {
            return Ok(self.period_reached(subscription, at)?.start);
        }
        if at < subscription.started_at {
            return month();
        }
        let plan = self.catalog.plans.version(&subscription.terms.version, &subscription.terms.plan);
        match plan {
            Ok(plan) if at >= subscription.anchor => Ok(period_at(subscription.anchor, plan.interval, at, zone)?.start),
            _ => Ok(subscription.started_at),
        }
    }
}

impl Draft<'_> {
    /// The period of a time that the period under way has reached. Where the provider renews, it says so a while later: until
    /// then the next period is taken to be as long as the plan has it.
    pub(crate) fn period_reached(&self, subscription: &Subscription, at: Timestamp) -> Result<Period, Refusal> {
        let period = subscription.period;
        match plan_of(self, subscription) {
            Some(plan) if subscription.source == SubscriptionSource::Provider && at >= period.end => {
                period_at(period.end, plan.interval, at, &self.catalog.time_zone)
            }
            _ => Ok(period),
        }
    }
}

/// The grants of an allowance in a period: the fresh one, and what went over from the period before.
pub(crate) fn allowance_grants(subscription: &Subscription, allowance: &Allowance) -> [Uuid; 2] {
    let start = subscription.period.start.as_microsecond();
    let grant = |kind, key: &str| operation_id(subscription.id, kind, &format!("{}/{start}{key}", allowance.name));
    [grant("allowance", &format!("/{}", subscription.changes)), grant("rollover", "")]
}

fn times(amount: Micros, quantity: u32) -> Result<Micros, Refusal> {
    amount.get().checked_mul(i64::from(quantity)).map(Micros::new).ok_or(Refusal::AmountOutOfRange)
}

/// The plan of a subscription, where the catalog knows it.
pub(crate) fn plan_of<'a>(draft: &Draft<'a>, subscription: &Subscription) -> Option<&'a Plan> {
    let catalog = draft.catalog;
    let version = catalog.plans.version(&subscription.terms.version, &subscription.terms.plan);
    version.ok().map(|plan| &**plan)
}
