//! Subscriptions that the provider renews: it collects their fee, and what it says moves them. Nothing else does: what is
//! asked of the provider is an effect, and how the subscription stands afterwards is for the provider to say. What they
//! include is given here, and what is used beyond that is invoiced here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::effect::{Effect, Ending};
use crate::id::operation_id;
use crate::invoice::InvoiceReason;
use crate::ledger::{Account, EntryKind};
use crate::money::Money;
use crate::payment::{Collection, FIRST_LOOK, FeePayment, Heard, LONGEST_WAIT, Payment, PaymentState, Purpose};
use crate::period::{Interval, IntervalUnit, Period, boundary};
use crate::plan::Plan;
use crate::proration::rest_of;
use crate::refusal::Refusal;
use crate::renewal::{allowance_grants, plan_of};
use crate::report::{Failure, FeeReport, Progress, SubscriptionReport};
use crate::subscription::{
    PendingChange, SubscribeRequest, Subscription, SubscriptionSource, SubscriptionState, SubscriptionStep, Terms,
    trial_notice_at,
};
use crate::subscription_change::{ChangeTime, TermsChange};
use crate::wallet::Draft;

/// How many ended subscriptions of the provider's are known by name.
const ENDED_KEPT: usize = 20;

/// How long what a period includes lasts beyond its end, so that it is there until the provider has said that the next period
/// began, and what goes over can go over. It ends when the provider says so.
pub const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// How long a new period's invoice may be a draft, and a little more
/// (<https://docs.stripe.com/invoicing/integration/workflow-transitions>).
const DRAFT_LASTS: SignedDuration = SignedDuration::from_mins(65);

/// How often a subscription that waits for its customer is asked about.
const DAILY: SignedDuration = SignedDuration::from_hours(24);

impl Subscription {
    /// When what is included in the period under way lapses.
    pub(crate) fn allowances_end(&self) -> Timestamp {
        match self.source {
            SubscriptionSource::Own => self.period.end,
            SubscriptionSource::Provider => self.period.end.checked_add(GRACE).unwrap_or(self.period.end),
        }
    }

    /// Whether the provider has made it, and waits for the customer to pay for the first time. While it is being made, a payment
    /// method on file may be charged for it.
    fn waits_for_first_payment(&self) -> bool {
        self.state == SubscriptionState::Incomplete && self.reference.is_some()
    }

    /// Whether it is being ended before anybody has paid for it, so that another may begin.
    pub(crate) fn gives_way(&self) -> bool {
        self.waits_for_first_payment() && self.pending == Some(PendingChange::End { ending: Ending::Now })
    }
}

impl Draft<'_> {
    /// Begins a subscription that the provider is to renew, and has the provider make it.
    pub(crate) fn subscribe_at_provider(&mut self, request: &SubscribeRequest, plan: &Plan) -> Result<(), Refusal> {
        if request.coupon.is_some() {
            return Err(Refusal::ProviderSubscription { what: "take a coupon of farthing's" });
        }
        if request.by_invoice {
            return Err(Refusal::ProviderSubscription { what: "leave its invoices to be paid by the customer alone" });
        }
        let (terms, once) = self.terms(plan, request.quantity, &request.add_ons)?;
        require_prices(&terms)?;
        let collection = request.collection.as_ref().map(|collection| self.collection(collection)).transpose()?;
        let method = match collection {
            None => self.payer().usual_method().cloned(),
            Some(Collection::OffSession { method }) => Some(method),
            Some(Collection::OnSession { .. }) => None,
            Some(Collection::Page { .. }) => {
                return Err(Refusal::ProviderSubscription { what: "have the first invoice paid on a page" });
            }
        };
        let days =
            request.trial_days.unwrap_or(if self.decision.customer.state.had_trial { 0 } else { plan.trial_days });
        let first = if days > 0 { Interval { unit: IntervalUnit::Day, count: days } } else { plan.interval };
        let end = boundary(self.now, first, 1, &self.catalog.time_zone)?;
        let period = Period { start: self.now, end };
        self.decision.customer.state.subscriptions.push(Subscription {
            method,
            trial_end: (days > 0).then_some(end),
            ..Subscription::new(request.id, SubscriptionSource::Provider, terms, period)
        });
        for line in once {
            self.wait_for_invoice(Some(request.id), &plan.fee.currency, line)?;
        }
        self.effect(Effect::CreateSubscription { subscription: request.id }, self.now);
        self.record_subscription(request.id);
        Ok(())
    }

    /// Ends a subscription that nobody has paid for, for another one.
    pub(crate) fn give_way(&mut self, id: Uuid) -> Result<(), Refusal> {
        // One that has ended meanwhile is in nobody's way.
        let Ok(index) = self.find_subscription(id) else { return Ok(()) };
        let subscription = &self.decision.customer.state.subscriptions[index];
        if subscription.gives_way() {
            return Ok(());
        }
        if !subscription.waits_for_first_payment() {
            return Err(Refusal::AlreadySubscribed);
        }
        self.ask_provider(index, &SubscriptionStep::Cancel { prorate: false })
    }

    /// Asks the provider to do something with a subscription of its own, one thing at a time. It may be ended at any time.
    pub(crate) fn ask_provider(&mut self, index: usize, step: &SubscriptionStep) -> Result<(), Refusal> {
        let subscription = &self.decision.customer.state.subscriptions[index];
        let (id, state) = (subscription.id, subscription.state);
        let ready = subscription.reference.is_some() && subscription.pending.is_none();
        if !ready && !matches!(step, SubscriptionStep::Cancel { .. }) {
            return Err(Refusal::ChangePending);
        }
        let ending = match step {
            SubscriptionStep::Cancel { prorate: true } => {
                return Err(Refusal::ProviderSubscription { what: "give back the rest of the fee when it ends" });
            }
            SubscriptionStep::Pause { .. } | SubscriptionStep::Resume => {
                return Err(Refusal::ProviderSubscription { what: "be asked to pause it; do that there" });
            }
            SubscriptionStep::Cancel { prorate: false } => Ending::Now,
            SubscriptionStep::Change(change, when) if state.is_in_force() => {
                return self.change_at_provider(index, change, *when);
            }
            SubscriptionStep::CancelAtPeriodEnd if state.is_in_force() => Ending::WithPeriod,
            SubscriptionStep::Keep => Ending::NotAtAll,
            SubscriptionStep::Change(..) | SubscriptionStep::CancelAtPeriodEnd => {
                return Err(Refusal::SubscriptionState { state: state.as_str() });
            }
        };
        self.end_by_provider(index, ending);
        self.record_subscription(id);
        Ok(())
    }

    /// Has the provider end a subscription, or go on with it.
    pub(crate) fn end_by_provider(&mut self, index: usize, ending: Ending) {
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        let id = subscription.id;
        subscription.pending = Some(PendingChange::End { ending });
        self.effect(Effect::EndSubscription { subscription: id, reference: None, ending }, self.now);
    }

    fn change_at_provider(&mut self, index: usize, change: &TermsChange, when: ChangeTime) -> Result<(), Refusal> {
        let catalog = self.catalog;
        let before = self.decision.customer.state.subscriptions[index].clone();
        let ChangeTime::Now(proration) = when else {
            return Err(Refusal::ProviderSubscription { what: "change it with the next period" });
        };
        let old = catalog.plans.version(&before.terms.version, &before.terms.plan)?;
        let plan = match &change.plan {
            Some(name) => catalog.plans.current(name)?,
            None => old,
        };
        if plan.provider_price.is_none() {
            return Err(Refusal::ProviderSubscription { what: "move it to a plan that farthing renews" });
        }
        let (terms, once) = self.changed_terms(&before.terms, (old, plan), change)?;
        require_prices(&terms)?;
        for line in once {
            self.wait_for_invoice(Some(before.id), &plan.fee.currency, line)?;
        }
        if terms != before.terms {
            let subscription = &mut self.decision.customer.state.subscriptions[index];
            subscription.pending = Some(PendingChange::Terms { terms, proration });
            self.effect(Effect::ChangeSubscription { subscription: before.id }, self.now);
        }
        self.record_subscription(before.id);
        Ok(())
    }

    /// Has the provider end a subscription of its own whose customer is closed; what it says of it later begins nothing.
    pub(crate) fn end_at_provider(&mut self, subscription: &Subscription) {
        self.note_ended(&Arc::from(subscription.id.to_string()));
        if let Some(reference) = &subscription.reference {
            self.note_ended(reference);
        }
        let (subscription, reference) = (subscription.id, subscription.reference.clone());
        self.effect(Effect::EndSubscription { subscription, reference, ending: Ending::Now }, self.now);
    }

    /// The provider would not do what it was asked. A subscription that it would not make does not come to be.
    pub(crate) fn fail_subscription(&mut self, id: Uuid, failure: &Failure) -> Result<(), Refusal> {
        let Ok(index) = self.find_subscription(id) else { return Ok(()) };
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        (subscription.pending, subscription.failure) = (None, Some(failure.clone()));
        if subscription.reference.is_none() {
            return self.end_subscription(index, SubscriptionState::IncompleteExpired);
        }
        self.record_subscription(id);
        Ok(())
    }

    /// Takes over how a subscription stands at the provider, and what of an invoice is paid there. Of two reports the one
    /// that was seen later counts.
    pub(crate) fn report_subscription(
        &mut self,
        report: &SubscriptionReport,
        payment: Option<&Payment>,
    ) -> Result<(), Refusal> {
        let ours = |known: &Subscription| {
            known.source == SubscriptionSource::Provider
                && (known.reference.as_ref() == Some(&report.reference) || Some(known.id) == report.id)
        };
        let known = self.decision.customer.state.subscriptions.iter().find(|known| ours(known)).map(|known| known.id);
        let begun = || operation_id(self.decision.customer.id, "provider_subscription", &report.reference);
        let id = known.or(report.id).unwrap_or_else(begun);
        let mut is_first = known.is_none();
        let is_ours = match known {
            Some(id) => {
                let index = self.find_subscription(id)?;
                is_first = self.decision.customer.state.subscriptions[index].seen_at.is_none();
                self.follow(index, report)?;
                true
            }
            None => self.begin_reported(id, report)? || report.id.is_some() || payment.is_some(),
        };
        if let Some(fee) = report.invoice.as_ref().filter(|_| is_ours) {
            self.report_fee(id, fee, payment)?;
        }
        // Each asking leads to the next; the first report, however it came in, to the first.
        if is_first || report.heard == Heard::Asked {
            self.look_at_it_again(id, report)?;
        }
        Ok(())
    }

    /// Moves a subscription on by what the provider says.
    fn follow(&mut self, index: usize, report: &SubscriptionReport) -> Result<(), Refusal> {
        let before = self.decision.customer.state.subscriptions[index].clone();
        if before.seen_at.is_some_and(|seen| seen > report.seen_at) {
            return Ok(());
        }
        let terms = self.reported_terms(report, Some(&before.terms))?;
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        // What was asked for is answered, or has come to be.
        let is_done = match &before.pending {
            _ if report.heard == Heard::Made => true,
            Some(PendingChange::Terms { terms: wanted, .. }) => *wanted == terms,
            Some(PendingChange::End { ending }) => match ending {
                Ending::Now => false,
                Ending::WithPeriod => report.cancel_at_period_end,
                Ending::NotAtAll => !report.cancel_at_period_end,
            },
            None => false,
        };
        if is_done {
            (subscription.pending, subscription.failure) = (None, None);
        }
        subscription.reference = Some(report.reference.clone());
        subscription.seen_at = Some(report.seen_at);
        if report.state.has_ended() {
            self.note_ended(&report.reference);
            return self.end_subscription(index, report.state);
        }
        let renewed = before.seen_at.is_some() && report.period.start != before.period.start;
        if report.period.start != before.period.start {
            subscription.anchor = report.period.start;
        }
        subscription.terms = terms;
        (subscription.state, subscription.period) = (report.state, report.period);
        (subscription.trial_end, subscription.cancel_at_period_end) = (report.trial_end, report.cancel_at_period_end);
        self.give_reported(index, &before, renewed)?;
        if renewed {
            self.bill_reported(&before, report.period.start)?;
        }
        self.record_subscription(before.id);
        Ok(())
    }

    /// Gives what is included, once for each period in which the subscription comes to be in force.
    fn give_reported(&mut self, index: usize, before: &Subscription, renewed: bool) -> Result<(), Refusal> {
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        if !subscription.state.is_in_force() {
            return Ok(());
        }
        self.decision.customer.state.had_trial |= subscription.state == SubscriptionState::Trialing;
        let told_at = trial_notice_at(subscription);
        if told_at.is_some_and(|at| at <= self.now) {
            self.tell_of_trial_end(index);
        }
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        let start = subscription.period.start;
        if subscription.given_for.is_some_and(|given| given >= start) {
            return self.adjust_allowances(index, before);
        }
        subscription.given_for = Some(start);
        if !renewed {
            return self.give_allowances(index, None);
        }
        self.give_allowances(index, Some(before))?;
        let Some(plan) = plan_of(self, before) else { return Ok(()) };
        let over: Vec<Uuid> =
            plan.allowances.iter().flat_map(|allowance| allowance_grants(before, allowance)).collect();
        let now = self.now;
        for grant in self.decision.customer.state.grants.iter_mut().filter(|grant| over.contains(&grant.id)) {
            grant.expires_at = Some(now);
        }
        self.decision.customer.state.grants.sort_by_key(crate::grant::Grant::order);
        self.lapse()
    }

    fn note_ended(&mut self, name: &Arc<str>) {
        let ended = &mut self.decision.customer.state.ended_references;
        if !ended.contains(name) {
            ended.push(name.clone());
        }
        let excess = ended.len().saturating_sub(ENDED_KEPT);
        ended.drain(..excess);
    }

    /// A subscription of the provider's is heard of for the first time; whether it is one of this customer. One that has
    /// ended was never ours, and a closed customer is to have none.
    fn begin_reported(&mut self, id: Uuid, report: &SubscriptionReport) -> Result<bool, Refusal> {
        let ended = &self.decision.customer.state.ended_references;
        let has_ended = ended.contains(&report.reference) || ended.iter().any(|name| **name == *id.to_string());
        if report.state.has_ended() {
            return Ok(has_ended);
        }
        if self.refuse_closed().is_err() {
            let (reference, ending) = (Some(report.reference.clone()), Ending::Now);
            self.effect(Effect::EndSubscription { subscription: id, reference, ending }, self.now);
            return Ok(has_ended);
        }
        if has_ended {
            return Ok(true);
        }
        let terms = self.reported_terms(report, None)?;
        self.decision.customer.state.subscriptions.push(Subscription {
            state: report.state,
            reference: Some(report.reference.clone()),
            seen_at: Some(report.seen_at),
            trial_end: report.trial_end,
            cancel_at_period_end: report.cancel_at_period_end,
            ..Subscription::new(id, SubscriptionSource::Provider, terms, report.period)
        });
        let index = self.decision.customer.state.subscriptions.len() - 1;
        let before = self.decision.customer.state.subscriptions[index].clone();
        self.give_reported(index, &before, false)?;
        self.record_subscription(id);
        Ok(true)
    }

    /// What the prices that the provider has mean here. Where nobody knows them any more, it is for what it was for before.
    fn reported_terms(&self, report: &SubscriptionReport, before: Option<&Terms>) -> Result<Terms, Refusal> {
        let plans = &self.catalog.plans;
        let version = before.map(|terms| &*terms.version);
        let mut sold = report.prices.iter();
        let found = sold.find_map(|(price, quantity)| Some((plans.of_provider_price(price, version)?, *quantity)));
        let Some((plan, quantity)) = found else {
            let price = report.prices.first().map(|(price, _)| price.to_string());
            return before.cloned().ok_or(Refusal::UnknownPlan { plan: price.unwrap_or_default() });
        };
        let known = |name: &str| before.and_then(|terms| terms.add_ons.iter().find(|(known, _)| *known.name == *name));
        let add_ons = report.prices.iter().filter_map(|(price, quantity)| {
            let add_on = plans.add_on_of_provider_price(price)?;
            // As it was when it was booked.
            Some((known(&add_on.name).map_or(add_on, |(known, _)| known).clone(), (*quantity).max(1)))
        });
        Ok(Terms {
            plan: plan.name.clone(),
            version: plan.version.clone(),
            quantity: quantity.max(1),
            add_ons: add_ons.collect(),
        })
    }

    /// Invoices the usage before a period that the provider has begun.
    fn bill_reported(&mut self, before: &Subscription, until: Timestamp) -> Result<(), Refusal> {
        let period = Period { start: before.period.start, end: until.max(before.period.start) };
        let plan = plan_of(self, before);
        let paid_for = matches!(before.state, SubscriptionState::Active | SubscriptionState::PastDue);
        let commitment = plan.filter(|_| paid_for).and_then(|plan| plan.commitment).unwrap_or_default();
        let commitment = commitment - rest_of(commitment, before.period, until)?;
        let reason = InvoiceReason::Usage;
        let invoice =
            self.bill_subscription(before, reason, period, self.usage_until(until), Vec::new(), commitment)?;
        if let Some(plan) = plan {
            self.bill_other_currencies(before, &plan.fee.currency)?;
        }
        match invoice {
            Some(invoice) => self.collect_if_open(invoice),
            None => Ok(()),
        }
    }

    /// Records the payment of an invoice of the provider's, once, and takes over how far it is.
    fn report_fee(&mut self, subscription: Uuid, fee: &FeeReport, known: Option<&Payment>) -> Result<(), Refusal> {
        let (report, position) = (&fee.payment, self.decision.customer.position);
        let known = known.filter(|known| known.id == fee.id);
        if known.is_none() && report.progress == Progress::Canceled {
            return Ok(());
        }
        let mut payment = match known {
            Some(known) => Payment { position, ..known.clone() },
            None => self.new_fee(subscription, fee),
        };
        if payment.state != PaymentState::Paid {
            if payment.reference.as_ref() != Some(&report.reference) || payment.amount != report.amount {
                // Another attempt takes the place of the one before, or the invoice has become another sum.
                (payment.reference, payment.amount) = (Some(report.reference.clone()), report.amount.clone());
                payment.state = PaymentState::Pending;
            }
            if let Purpose::Subscription(purpose) = &mut payment.purpose {
                (purpose.tax, purpose.begins_period) = (fee.tax, fee.begins_period);
            }
            if payment.state != PaymentState::Canceled || report.progress == Progress::Paid {
                self.advance(&mut payment, report)?;
            }
        }
        if payment.state == PaymentState::Paid && payment.reference.as_ref() == Some(&report.reference) {
            self.report_refunds(&mut payment, &report.refunds)?;
            self.report_dispute(&mut payment, report.dispute.as_ref())?;
        }
        if let Some(subscription) = self.decision.customer.state.subscriptions.iter_mut().find(|s| s.id == subscription)
            && fee.newest
            && subscription.latest_payment != Some(fee.id)
        {
            subscription.latest_payment = Some(fee.id);
            let id = subscription.id;
            self.record_subscription(id);
        }
        if known.is_none_or(|known| *known != Payment { position: known.position, ..payment.clone() }) {
            self.decision.payments.push(payment);
        }
        Ok(())
    }

    fn new_fee(&self, subscription: Uuid, fee: &FeeReport) -> Payment {
        let mut known = self.decision.customer.state.subscriptions.iter();
        let method = known.find(|known| known.id == subscription).and_then(|known| known.method.clone());
        let collection = match method {
            Some(method) => Collection::OffSession { method },
            None => Collection::OnSession { save_method: true },
        };
        let purpose = Purpose::Subscription(FeePayment {
            subscription,
            invoice: fee.invoice.clone(),
            tax: fee.tax,
            begins_period: fee.begins_period,
        });
        let payment = self.new_payment(fee.id, purpose, fee.payment.amount.clone(), collection);
        Payment { reference: Some(fee.payment.reference.clone()), ..payment }
    }

    /// The provider has collected a fee: it was sold and paid at once, because its invoice is the provider's.
    pub(crate) fn book_fee(&mut self, (id, amount): (Uuid, &Money), fee: &mut FeePayment) -> Result<(), Refusal> {
        let (cause, currency) = ((EntryKind::InvoicePayment, id), &amount.currency);
        fee.tax = fee.tax.clamp(0, amount.minor);
        self.post_minor(cause, (Account::Cash, Account::Revenue), currency, amount.minor - fee.tax)?;
        self.post_minor(cause, (Account::Cash, Account::Tax), currency, fee.tax)?;
        if fee.begins_period {
            self.begin_spending_anew();
        }
        Ok(())
    }

    /// Asks again when something should have happened: the first payment, the end of the period, the invoice after it. While
    /// it has not, more and more rarely, at least hourly. One that waits for its customer is asked about daily.
    fn look_at_it_again(&mut self, id: Uuid, report: &SubscriptionReport) -> Result<(), Refusal> {
        let Ok(index) = self.find_subscription(id) else { return Ok(()) };
        let subscription = &self.decision.customer.state.subscriptions[index];
        let (now, end) = (self.now, subscription.period.end);
        let after = |wait: SignedDuration| now.checked_add(wait).map_err(|_| Refusal::AmountOutOfRange);
        let rarer = |since: Timestamp| after(now.duration_since(since).clamp(FIRST_LOOK, LONGEST_WAIT));
        let is_paid = report.invoice.as_ref().is_none_or(|fee| fee.payment.progress == Progress::Paid);
        let begun = subscription.period.start.checked_add(DRAFT_LASTS).unwrap_or(now);
        let due_at = match subscription.state {
            SubscriptionState::Incomplete => rarer(subscription.started_at)?,
            SubscriptionState::Unpaid | SubscriptionState::Paused => after(DAILY)?,
            SubscriptionState::PastDue if now < end => after(DAILY)?.min(end),
            _ if now >= end => rarer(end)?,
            // The invoice of a period that has just begun is a draft for a while.
            _ if !is_paid || now < begun => after(DRAFT_LASTS)?.min(end),
            _ => end,
        };
        self.effect(Effect::ObserveSubscription { subscription: id }, due_at);
        Ok(())
    }
}

/// The provider bills what it has a price for.
fn require_prices(terms: &Terms) -> Result<(), Refusal> {
    if terms.add_ons.iter().any(|(add_on, _)| add_on.provider_price.is_none()) {
        return Err(Refusal::ProviderSubscription { what: "bill an add-on that has no provider_price" });
    }
    Ok(())
}
