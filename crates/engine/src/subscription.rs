//! Subscriptions: a plan in force for a customer, period by period. One state machine, with the names that Stripe gives
//! its states; farthing renews a subscription itself, or the provider does and says so.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::billing::Bill;
use crate::coupon::Coupon;
use crate::effect::Ending;
use crate::id::operation_id;
use crate::invoice::{InvoiceReason, Line, LineKind};
use crate::money::Money;
use crate::notice::Notice;
use crate::period::{Interval, IntervalUnit, Period, boundary, period_at};
use crate::plan::{AddOn, Plan};
use crate::proration::Proration;
use crate::purchase::CollectionRequest;
use crate::refusal::Refusal;
use crate::report::Failure;
use crate::subscription_change::{ChangeTime, TermsChange};
use crate::wallet::Draft;

/// How long a subscription waits for its first payment, as Stripe's do.
pub const INCOMPLETE_LASTS: SignedDuration = SignedDuration::from_hours(23);

/// How long before its end a trial is told of, as Stripe does it.
pub const TRIAL_NOTICE: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The most of one plan or add-on that a subscription may have.
pub const MOST_QUANTITY: u32 = 1_000_000;

/// How a subscription stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Its first invoice is not paid yet.
    Incomplete,
    /// Its first invoice was not paid in time. It has ended.
    IncompleteExpired,
    /// It is free for now.
    Trialing,
    /// It is paid for.
    Active,
    /// An invoice of it could not be collected yet.
    PastDue,
    /// It has ended.
    Canceled,
    /// It waits until its invoices are paid.
    Unpaid,
    /// It waits until somebody lets it go on.
    Paused,
}

impl SubscriptionState {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::IncompleteExpired => "incomplete_expired",
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Canceled => "canceled",
            Self::Unpaid => "unpaid",
            Self::Paused => "paused",
        }
    }

    /// Whether its customer has what the plan gives.
    #[must_use]
    pub const fn is_in_force(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue)
    }

    /// Whether it is over.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::IncompleteExpired | Self::Canceled)
    }
}

/// Who renews a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionSource {
    /// Farthing: it closes the periods, invoices and collects.
    Own,
    /// The provider: it collects the fee, and says how the subscription stands.
    Provider,
}

/// What a subscription is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The plan's name.
    pub plan: Arc<str>,
    /// The version of the plan.
    pub version: Arc<str>,
    /// How many.
    pub quantity: u32,
    /// What is booked with it for every period, as it was when it was booked, each with how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_ons: Vec<(AddOn, u32)>,
}

/// A subscription.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subscription {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    #[serde(flatten)]
    pub terms: Terms,
    /// How it stands.
    pub state: SubscriptionState,
    /// Who renews it.
    pub source: SubscriptionSource,
    /// The provider's id of it, where the provider has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// The payment method that the provider is to collect its first invoice with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
    /// What the provider has been asked to change of it, and has not answered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingChange>,
    /// Why the provider would not do what it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The payment of the newest invoice that the provider made for it; a first one is paid by its client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_payment: Option<Uuid>,
    /// When the period began for which what is included was given last, where the provider says when that is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub given_for: Option<Timestamp>,
    /// When the provider was last asked how it stands.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub seen_at: Option<Timestamp>,
    /// What its periods are counted from.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub anchor: Timestamp,
    /// The period under way.
    pub period: Period,
    /// When its trial ends, or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub trial_end: Option<Timestamp>,
    /// Whether it was told that the trial ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_of_trial_end: bool,
    /// Whether it ends with the period.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_at_period_end: bool,
    /// What it is for from the next period on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_terms: Option<Terms>,
    /// When it goes on by itself after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub resumes_at: Option<Timestamp>,
    /// What is taken off its invoices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<Coupon>,
    /// Whether the customer pays its invoices by itself, and nobody collects them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_invoice: bool,
    /// What was invoiced of the fees of the period under way, in minor units, less discounts: what may be given back of it.
    #[serde(default)]
    pub invoiced_fees: i64,
    /// Its newest invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_invoice: Option<Uuid>,
    /// How often what it includes was changed within a period, or the period for one of another length.
    #[serde(default)]
    pub changes: u32,
    /// When it began.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub ended_at: Option<Timestamp>,
}

/// What the provider has been asked to change of a subscription.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PendingChange {
    /// What it is for.
    Terms {
        /// What it is to be for.
        terms: Terms,
        /// What becomes of the difference for the rest of the period.
        proration: Proration,
    },
    /// When it ends.
    End {
        /// When it is to end.
        ending: Ending,
    },
}

/// A subscription to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribeRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The plan's name.
    pub plan: Arc<str>,
    /// How many.
    pub quantity: u32,
    /// What is booked with it, each with how many; what is not recurring is billed once.
    pub add_ons: Vec<(Arc<str>, u32)>,
    /// The code of a coupon.
    pub coupon: Option<Arc<str>>,
    /// How many days are free, in place of what the plan says.
    pub trial_days: Option<u16>,
    /// How its first invoice is paid; with the usual payment method where nothing is said and there is one, otherwise by
    /// the customer's browser.
    pub collection: Option<CollectionRequest>,
    /// Whether the customer pays its invoices by itself, and nobody collects them.
    pub by_invoice: bool,
    /// The subscription that it takes the place of: one that the provider has made, and whose first payment waits for the customer.
    pub replaces: Option<Uuid>,
}

/// What is done with a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubscriptionStep {
    /// It is for something else.
    Change(TermsChange, ChangeTime),
    /// It ends now. Where it is prorated, the rest of its fee is given back.
    Cancel {
        /// Whether the rest of the fee is given back.
        prorate: bool,
    },
    /// It ends with the period.
    CancelAtPeriodEnd,
    /// It goes on after all, and stays what it is.
    Keep,
    /// It waits.
    Pause {
        /// When it goes on by itself.
        resumes_at: Option<Timestamp>,
    },
    /// It goes on.
    Resume,
}

impl Subscription {
    /// One that begins with this period, and is not in force yet.
    pub(crate) const fn new(id: Uuid, source: SubscriptionSource, terms: Terms, period: Period) -> Self {
        Self {
            id,
            terms,
            state: SubscriptionState::Incomplete,
            source,
            reference: None,
            method: None,
            pending: None,
            failure: None,
            latest_payment: None,
            given_for: None,
            seen_at: None,
            anchor: period.start,
            period,
            trial_end: None,
            told_of_trial_end: false,
            cancel_at_period_end: false,
            next_terms: None,
            resumes_at: None,
            coupon: None,
            by_invoice: false,
            invoiced_fees: 0,
            latest_invoice: None,
            changes: 0,
            started_at: period.start,
            ended_at: None,
        }
    }
}

impl Draft<'_> {
    /// Begins a subscription: with its trial, or with its first invoice.
    pub(crate) fn subscribe(&mut self, request: &SubscribeRequest) -> Result<(), Refusal> {
        self.require_active()?;
        let catalog = self.catalog;
        if let Some(replaced) = request.replaces {
            self.give_way(replaced)?;
        }
        let mut others = self.decision.customer.state.subscriptions.iter();
        if !catalog.plans.several_subscriptions && !others.all(Subscription::gives_way) {
            return Err(Refusal::AlreadySubscribed);
        }
        let plan = catalog.plans.current(&request.plan)?;
        if plan.provider_price.is_some() {
            return self.subscribe_at_provider(request, plan);
        }
        let (terms, once) = self.terms(plan, request.quantity, &request.add_ons)?;
        let coupon = request.coupon.as_ref().map(|code| catalog.plans.coupon(code).cloned()).transpose()?;
        let collection = request.collection.as_ref().map(|collection| self.collection(collection)).transpose()?;
        let trial =
            request.trial_days.unwrap_or(if self.decision.customer.state.had_trial { 0 } else { plan.trial_days });
        let zone = &catalog.time_zone;
        let (state, end) = if trial > 0 {
            let days = Interval { unit: IntervalUnit::Day, count: trial };
            (SubscriptionState::Trialing, boundary(self.now, days, 1, zone)?)
        } else {
            (SubscriptionState::Incomplete, boundary(self.now, plan.interval, 1, zone)?)
        };
        let period = Period { start: self.now, end };
        let subscription = Subscription {
            state,
            trial_end: (trial > 0).then_some(end),
            coupon,
            by_invoice: request.by_invoice,
            ..Subscription::new(request.id, SubscriptionSource::Own, terms, period)
        };
        self.decision.customer.state.subscriptions.push(subscription.clone());
        let index = self.decision.customer.state.subscriptions.len() - 1;
        if trial > 0 {
            for line in once {
                self.wait_for_invoice(Some(request.id), &plan.fee.currency, line)?;
            }
            return self.begin_trial(index);
        }
        let lines = fee_lines(plan, &subscription.terms, subscription.period)?.into_iter().chain(once).collect();
        let invoice =
            self.bill_subscription(&subscription, InvoiceReason::Start, subscription.period, None, lines, 0)?;
        let invoice = invoice.filter(|id| self.open_invoice(*id).is_ok());
        match (invoice, request.by_invoice) {
            (None, _) | (Some(_), true) => self.activate(index)?,
            (Some(invoice), false) => match collection {
                Some(collection) => self.pay_invoice(invoice, None, collection, false)?,
                None if self.payer().usual_method().is_some() => self.collect(invoice)?,
                None => {
                    let collection = crate::payment::Collection::OnSession { save_method: true };
                    self.pay_invoice(invoice, None, collection, false)?;
                }
            },
        }
        self.record_subscription(request.id);
        Ok(())
    }

    fn begin_trial(&mut self, index: usize) -> Result<(), Refusal> {
        self.decision.customer.state.had_trial = true;
        self.give_allowances(index, None)?;
        let subscription = &self.decision.customer.state.subscriptions[index];
        let (id, told_at) = (subscription.id, trial_notice_at(subscription));
        if told_at.is_some_and(|at| at <= self.now) {
            self.tell_of_trial_end(index);
        }
        self.record_subscription(id);
        Ok(())
    }

    /// Tells that a trial ends, once.
    pub(crate) fn tell_of_trial_end(&mut self, index: usize) {
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        subscription.told_of_trial_end = true;
        let (id, trial_end) = (subscription.id, subscription.period.end);
        self.notice(Notice::TrialEnding { subscription: id, trial_end });
        self.record_subscription(id);
    }

    /// What a subscription is for, and what is billed with it once.
    pub(crate) fn terms(
        &self,
        plan: &Plan,
        quantity: u32,
        add_ons: &[(Arc<str>, u32)],
    ) -> Result<(Terms, Vec<Line>), Refusal> {
        let sound = |quantity: u32| (1..=MOST_QUANTITY).contains(&quantity);
        if !sound(quantity) || add_ons.iter().any(|(_, quantity)| !sound(*quantity)) {
            return Err(Refusal::AmountOutOfRange);
        }
        let (mut recurring, mut once) = (Vec::new(), Vec::new());
        for (name, quantity) in add_ons {
            let add_on = self.catalog.plans.add_on(plan, name)?;
            if add_on.fee.currency != plan.fee.currency {
                return Err(Refusal::UnknownAddOn { add_on: name.to_string() });
            }
            if add_on.recurring {
                recurring.push((add_on.clone(), *quantity));
            } else {
                let kind = LineKind::AddOn { add_on: add_on.name.clone() };
                once.push(fee_line(kind, &add_on.title, &add_on.fee, *quantity, None)?);
            }
        }
        let terms = Terms { plan: plan.name.clone(), version: plan.version.clone(), quantity, add_ons: recurring };
        Ok((terms, once))
    }

    /// Does something with a subscription.
    pub(crate) fn step_subscription(&mut self, id: Uuid, step: &SubscriptionStep) -> Result<(), Refusal> {
        let index = self.find_subscription(id)?;
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        if subscription.source == SubscriptionSource::Provider {
            return self.ask_provider(index, step);
        }
        let state = subscription.state;
        let wrong = Refusal::SubscriptionState { state: state.as_str() };
        match step {
            SubscriptionStep::Change(change, when) if state.is_in_force() => {
                return self.change_subscription(index, change, *when);
            }
            SubscriptionStep::Cancel { prorate } => return self.cancel_now(index, *prorate),
            SubscriptionStep::CancelAtPeriodEnd if state.is_in_force() => subscription.cancel_at_period_end = true,
            SubscriptionStep::Keep => (subscription.cancel_at_period_end, subscription.next_terms) = (false, None),
            SubscriptionStep::Pause { resumes_at } if state.is_in_force() => {
                if resumes_at.is_some_and(|at| at <= self.now) {
                    return Err(Refusal::AlreadyExpired);
                }
                (subscription.state, subscription.resumes_at) = (SubscriptionState::Paused, *resumes_at);
            }
            SubscriptionStep::Resume if state == SubscriptionState::Paused => return self.resume(index),
            SubscriptionStep::Change(..)
            | SubscriptionStep::CancelAtPeriodEnd
            | SubscriptionStep::Pause { .. }
            | SubscriptionStep::Resume => return Err(wrong),
        }
        self.record_subscription(id);
        Ok(())
    }

    /// Ends a subscription now.
    fn cancel_now(&mut self, index: usize, prorate: bool) -> Result<(), Refusal> {
        let subscription = self.decision.customer.state.subscriptions[index].clone();
        if prorate && matches!(subscription.state, SubscriptionState::Active) {
            let plan = self.catalog.plans.version(&subscription.terms.version, &subscription.terms.plan)?;
            for line in self.rest_lines(&subscription, plan, -1)? {
                self.wait_for_invoice(Some(subscription.id), &plan.fee.currency, line)?;
            }
        }
        let end = match subscription.state {
            SubscriptionState::Incomplete => SubscriptionState::IncompleteExpired,
            _ => SubscriptionState::Canceled,
        };
        self.end_subscription(index, end)
    }

    /// Goes on after a pause, or when what was unpaid is paid: within the period that was under way, or with a new one.
    pub(crate) fn resume(&mut self, index: usize) -> Result<(), Refusal> {
        let now = self.now;
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        subscription.resumes_at = None;
        if now >= subscription.period.end {
            return self.begin_anew(index);
        }
        let trialing = subscription.trial_end.is_some_and(|end| end > now);
        let state = if trialing { SubscriptionState::Trialing } else { SubscriptionState::Active };
        self.move_subscription(index, state);
        Ok(())
    }

    /// Where the subscription of this id stands in the row.
    pub(crate) fn find_subscription(&self, id: Uuid) -> Result<usize, Refusal> {
        let subscriptions = &self.decision.customer.state.subscriptions;
        subscriptions.iter().position(|subscription| subscription.id == id).ok_or(Refusal::UnknownSubscription)
    }

    pub(crate) fn move_subscription(&mut self, index: usize, state: SubscriptionState) {
        let subscription = &mut self.decision.customer.state.subscriptions[index];
        subscription.state = state;
        let id = subscription.id;
        self.record_subscription(id);
    }

    /// Takes a subscription down for the record, as it is now. One that has ended meanwhile, because what it asked for could
    /// not be collected, is down already.
    pub(crate) fn record_subscription(&mut self, id: Uuid) {
        let known = self.decision.customer.state.subscriptions.iter().find(|known| known.id == id);
        if let Some(subscription) = known.cloned() {
            self.record_ended(subscription);
        }
    }

    pub(crate) fn record_ended(&mut self, subscription: Subscription) {
        match self.decision.subscriptions.iter_mut().find(|known| known.id == subscription.id) {
            Some(known) => *known = subscription,
            None => self.decision.subscriptions.push(subscription),
        }
    }

    /// Makes an invoice of a subscription, in its plan's currency.
    pub(crate) fn bill_subscription(
        &mut self,
        subscription: &Subscription,
        reason: InvoiceReason,
        period: Period,
        usage_before: Option<Timestamp>,
        lines: Vec<Line>,
        commitment: i64,
    ) -> Result<Option<Uuid>, Refusal> {
        let terms = &subscription.terms;
        let currency = match self.catalog.plans.version(&terms.version, &terms.plan) {
            Ok(plan) => plan.fee.currency.clone(),
            Err(_) => self.catalog.currency.clone(),
        };
        // A period is closed once, whenever that comes to be done; changes within it, and what a provider reports at one time, are
        // told apart by the position.
        let position = self.decision.customer.position;
        let key = match reason {
            InvoiceReason::Change => format!("change/{position}"),
            InvoiceReason::Usage => format!("usage/{position}/{}", self.now.as_microsecond()),
            _ => format!("{}/{}", reason.as_str(), self.now.as_microsecond()),
        };
        let id = operation_id(subscription.id, "invoice", &key);
        let subscription = Some(subscription);
        self.bill(Bill { id, subscription, reason, currency, period, usage_before, lines, commitment })
    }
}

/// When it is to be told that a subscription's trial ends, where that is still to come.
pub(crate) fn trial_notice_at(subscription: &Subscription) -> Option<Timestamp> {
    let tells = subscription.state == SubscriptionState::Trialing && !subscription.told_of_trial_end;
    let at = subscription.period.end.checked_sub(TRIAL_NOTICE).unwrap_or(subscription.started_at);
    tells.then(|| at.max(subscription.started_at))
}

/// The fees of a period: the plan's and its recurring add-ons'.
pub(crate) fn fee_lines(plan: &Plan, terms: &Terms, period: Period) -> Result<Vec<Line>, Refusal> {
    let mut lines = Vec::new();
    let of_plan = LineKind::Fee { plan: plan.version.clone() };
    lines.push(fee_line(of_plan, &plan.title, &plan.fee, terms.quantity, Some(period))?);
    for (add_on, quantity) in &terms.add_ons {
        let kind = LineKind::AddOn { add_on: add_on.name.clone() };
        lines.push(fee_line(kind, &add_on.title, &add_on.fee, *quantity, Some(period))?);
    }
    lines.retain(|line| line.minor != 0);
    Ok(lines)
}

fn fee_line(kind: LineKind, title: &str, fee: &Money, quantity: u32, period: Option<Period>) -> Result<Line, Refusal> {
    let quantity = i64::from(quantity);
    let minor = fee.minor.checked_mul(quantity).ok_or(Refusal::AmountOutOfRange)?;
    let per_minor = Money { minor: 1, currency: fee.currency.clone() }.micros()?.get();
    let line = Line::whole(kind, title, quantity, minor, per_minor)?;
    Ok(Line { unit_price: fee.to_string(), period, ..line })
}

/// The period that begins at an instant, of those counted from the anchor.
pub(crate) fn period_from(
    subscription: &Subscription,
    interval: Interval,
    at: Timestamp,
    zone: &jiff::tz::TimeZone,
) -> Result<Period, Refusal> {
    Ok(Period { start: at, end: period_at(subscription.anchor, interval, at, zone)?.end })
}
