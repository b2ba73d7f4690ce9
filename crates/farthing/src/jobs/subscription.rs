//! Subscriptions that the provider renews: made, changed and ended there, asked for, and heard of. Whatever leads to it,
//! what the provider has of one now becomes one report, with the payment of an invoice of it.

use std::sync::Arc;

use engine::id::Kind;
use engine::report::{Failure, FeeReport, PaymentReport, Progress, SubscriptionReport, fee_payment};
use engine::{
    Command, Ending, Heard, Money, PaymentState, PendingChange, Period, Plan, Proration, PublicId, Refusal,
    Subscription, SubscriptionState, Terms,
};
use jiff::Timestamp;
use uuid::Uuid;

use super::event::{Applied, Fault, provider_fault};
use super::outbox::KEYS_LAST;
use super::{JobError, Jobs};
use crate::provider::{
    self, Cancellation, Exchanged, InvoiceReport, NewSubscription, OperationKey, ProviderError, SubscriptionChange,
    Subscriptions,
};
use crate::service::ServiceError;
use crate::store::{CustomerKey, EffectEnd, EffectRow};

/// A subscription of the provider's, with whose it is here.
pub(super) struct Owner {
    /// The caller's own id of the customer.
    pub(super) customer: String,
    /// Our id of it, where we have it.
    id: Option<Uuid>,
}

impl Jobs {
    pub(super) async fn create_subscription(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let subscription = self.subscription(row, id).await?;
        let gone = subscription.state.has_ended();
        // Heard of already, or given up before it was asked for.
        if subscription.reference.is_some() || (gone && row.attempts == 0) {
            return self.settle(row, EffectEnd::Done, None).await;
        }
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let subscriptions = self.subscriptions(&row.tenant)?;
        let public = public_id(row, id);
        let age = self.now(&row.tenant).duration_since(row.created_at);
        let asked_at = self.now(&row.tenant);
        if gone || (row.attempts > 0 && age >= KEYS_LAST) {
            match self.exchange(row, subscriptions.find(&customer, &public).await).await? {
                Ok(Some(found)) => return self.take_over(row, Heard::Made, asked_at, &found).await,
                _ if gone => return self.settle(row, EffectEnd::Done, None).await,
                _ => {}
            }
        }
        self.offer_prices(&row.tenant).await?;
        let prices = match self.prices(row, &subscription.terms) {
            Ok(prices) => prices,
            Err(failure) => return self.fail(row, id, failure).await,
        };
        let new = NewSubscription {
            id: public,
            customer,
            prices,
            trial_days: subscription.trial_end.map(|end| days_between(subscription.started_at, end)),
            method: subscription.method.clone(),
        };
        let made = subscriptions.create(&OperationKey::new(row.id), &new).await;
        self.answer(row, id, asked_at, made).await
    }

    pub(super) async fn change_subscription(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let subscription = self.subscription(row, id).await?;
        let Some(PendingChange::Terms { terms, proration }) = &subscription.pending else {
            return self.settle(row, EffectEnd::Done, None).await;
        };
        let reference =
            subscription.reference.clone().ok_or(JobError::Missing("the provider's id of the subscription"))?;
        self.offer_prices(&row.tenant).await?;
        let prices = match self.prices(row, terms) {
            Ok(prices) => prices,
            Err(failure) => return self.fail(row, id, failure).await,
        };
        let proration = match proration {
            Proration::None => provider::Proration::None,
            Proration::NextInvoice => provider::Proration::NextInvoice,
            Proration::Now => provider::Proration::Now,
        };
        let asked_at = self.now(&row.tenant);
        let change = SubscriptionChange { prices, proration };
        let changed = self.subscriptions(&row.tenant)?.change(&OperationKey::new(row.id), &reference, &change).await;
        self.answer(row, id, asked_at, changed).await
    }

    /// Has the provider end a subscription of its own, or go on with it.
    pub(super) async fn end_subscription(
        &self,
        row: &EffectRow,
        id: Uuid,
        named: Option<&Arc<str>>,
        ending: Ending,
    ) -> Result<(), JobError> {
        let subscriptions = self.subscriptions(&row.tenant)?;
        let mut reference = named.cloned();
        if reference.is_none() {
            let subscription = self.subscription(row, id).await?;
            reference.clone_from(&subscription.reference);
            if reference.is_none() && !subscription.state.has_ended() {
                // It is being made: what comes of that has to be known before it can be ended.
                return Err(JobError::Missing("the provider's id of the subscription"));
            }
        }
        if reference.is_none() {
            let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
            let found = self.exchange(row, subscriptions.find(&customer, &public_id(row, id)).await).await?;
            reference = found.ok().flatten().map(|found| found.reference);
        }
        let Some(reference) = reference else { return self.settle(row, EffectEnd::Done, None).await };
        let when = match ending {
            Ending::Now => Cancellation::Now,
            Ending::WithPeriod => Cancellation::AtPeriodEnd,
            Ending::NotAtAll => Cancellation::Undo,
        };
        let asked_at = self.now(&row.tenant);
        let ended = subscriptions.cancel(&OperationKey::new(row.id), &reference, when).await;
        self.answer(row, id, asked_at, ended).await
    }

    pub(super) async fn observe_subscription(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let subscription = self.subscription(row, id).await?;
        let Some(reference) = subscription.reference.filter(|_| !subscription.state.has_ended()) else {
            return self.settle(row, EffectEnd::Done, None).await;
        };
        let asked_at = self.now(&row.tenant);
        match self.exchange(row, self.subscriptions(&row.tenant)?.get(&reference).await).await? {
            Ok(report) => self.take_over(row, Heard::Asked, asked_at, &report).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    /// Brings what the provider answered to the customer: how the subscription stands, or why it would not.
    async fn answer(
        &self,
        row: &EffectRow,
        id: Uuid,
        asked_at: Timestamp,
        answered: Exchanged<provider::SubscriptionReport>,
    ) -> Result<(), JobError> {
        match self.exchange(row, answered).await? {
            Ok(report) => self.take_over(row, Heard::Made, asked_at, &report).await,
            Err(failure) => self.fail(row, id, failure).await,
        }
    }

    async fn fail(&self, row: &EffectRow, subscription: Uuid, failure: Failure) -> Result<(), JobError> {
        self.bring(row, Command::FailSubscription { subscription, failure }, EffectEnd::Failed).await
    }

    async fn take_over(
        &self,
        row: &EffectRow,
        heard: Heard,
        asked_at: Timestamp,
        report: &provider::SubscriptionReport,
    ) -> Result<(), JobError> {
        let owner = match self.owner(&row.tenant, report).await? {
            Some(owner) if owner.customer == row.external_id => owner,
            _ => Owner { customer: row.external_id.clone(), id: None },
        };
        let report = self.report_of(&row.tenant, &owner, (heard, asked_at), report, None, Some(row)).await?;
        self.bring(row, Command::ReportSubscription(Box::new(report)), EffectEnd::Done).await
    }

    /// A subscription has changed there: it is fetched, with its newest invoice.
    pub(super) async fn hear_of_subscription(&self, tenant: &Arc<str>, reference: &str) -> Result<Applied, Fault> {
        let asked_at = self.now(tenant);
        let report = self.subscriptions(tenant)?.get(reference).await.outcome.map_err(provider_fault)?;
        self.tell_of_subscription(tenant, asked_at, &report, None).await
    }

    /// An invoice has changed there: it is fetched, with the subscription that it is of.
    pub(super) async fn hear_of_invoice(&self, tenant: &Arc<str>, reference: &str) -> Result<Applied, Fault> {
        let invoices = self.provider(tenant)?.invoices().ok_or(JobError::NoProvider)?;
        let invoice = invoices.get(reference).await.outcome.map_err(provider_fault)?;
        let Some(subscription) = &invoice.subscription else {
            return self.hear_of_own_invoice(tenant, &invoice).await;
        };
        let asked_at = self.now(tenant);
        let report = self.subscriptions(tenant)?.get(subscription).await.outcome.map_err(provider_fault)?;
        self.tell_of_subscription(tenant, asked_at, &report, Some(&invoice)).await
    }

    /// Brings what the provider has of a subscription to its customer. One of nobody here, or with nothing that is sold here,
    /// is none of ours.
    pub(super) async fn tell_of_subscription(
        &self,
        tenant: &Arc<str>,
        asked_at: Timestamp,
        report: &provider::SubscriptionReport,
        invoice: Option<&InvoiceReport>,
    ) -> Result<Applied, Fault> {
        let Some(owner) = self.owner(tenant, report).await? else { return Ok(Applied::Ignored) };
        let report = self.report_of(tenant, &owner, (Heard::Told, asked_at), report, invoice, None).await?;
        match self.execute(tenant, &owner.customer, Command::ReportSubscription(Box::new(report)), None).await {
            Ok(_) => Ok(Applied::Done),
            Err(JobError::Service(ServiceError::Refused(Refusal::UnknownPlan { .. }))) => Ok(Applied::Ignored),
            Err(error) => Err(error.into()),
        }
    }

    /// Whose a subscription of the provider's is: by what the provider calls it, by our id beside it, or by its customer.
    pub(super) async fn owner(
        &self,
        tenant: &Arc<str>,
        report: &provider::SubscriptionReport,
    ) -> Result<Option<Owner>, JobError> {
        let store = &self.app.store;
        let mut known = store.subscription_of_reference(tenant, &report.reference).await?;
        let public = report.id.as_deref().and_then(|id| id.parse::<PublicId>().ok());
        if let (None, Some(public)) = (&known, public.filter(|id| id.kind == Kind::Subscription)) {
            known = store.subscription(&self.scope(tenant), (public.shard_key, public.id)).await?;
        }
        if let Some(row) = known {
            return Ok(Some(Owner { customer: row.external_id, id: Some(row.value.id) }));
        }
        let payer = store.payer_of_reference(tenant, &report.customer).await?;
        Ok(payer.map(|customer| Owner { customer, id: None }))
    }

    /// What the provider has, in the engine's words.
    async fn report_of(
        &self,
        tenant: &Arc<str>,
        owner: &Owner,
        (heard, seen_at): (Heard, Timestamp),
        report: &provider::SubscriptionReport,
        invoice: Option<&InvoiceReport>,
        row: Option<&EffectRow>,
    ) -> Result<SubscriptionReport, JobError> {
        let unreadable = |what: &str| JobError::Provider(format!("subscription {}: {what}", report.reference));
        let state = state(&report.state).ok_or_else(|| unreadable("a state that nobody knows"))?;
        let (start, end) = report.period.ok_or_else(|| unreadable("no period"))?;
        let fee = match invoice.or(report.invoice.as_ref()) {
            Some(invoice) => {
                let newest = report.latest_invoice.as_ref() == Some(&invoice.reference);
                self.fee(tenant, &owner.customer, invoice, newest, row).await?
            }
            None => None,
        };
        Ok(SubscriptionReport {
            reference: report.reference.clone(),
            id: owner.id,
            heard,
            seen_at,
            prices: report.prices.clone(),
            state,
            period: Period { start, end },
            trial_end: report.trial_end,
            cancel_at_period_end: report.cancel_at_period_end,
            invoice: fee,
        })
    }

    /// What is paid of an invoice of the provider's. Nothing where nothing is asked for, or not yet, or where the books have
    /// it as paid: what becomes of it then is told of the payment itself.
    async fn fee(
        &self,
        tenant: &Arc<str>,
        customer: &str,
        invoice: &InvoiceReport,
        newest: bool,
        row: Option<&EffectRow>,
    ) -> Result<Option<FeeReport>, JobError> {
        if invoice.due <= 0 || &*invoice.state == "draft" {
            return Ok(None);
        }
        let (id, tax) = (fee_payment(tenant, &invoice.reference), invoice.tax);
        let shard_key = CustomerKey::new(tenant, customer).shard_key;
        let known = self.app.store.payment(&self.scope(tenant), (shard_key, id)).await?;
        if known.is_some_and(|known| known.payment.state == PaymentState::Paid) {
            return Ok(None);
        }
        let payment = match &invoice.payment {
            Some(reference) => Some(self.payment_of_invoice(tenant, reference, row).await?),
            None => None,
        };
        let paid = &*invoice.state == "paid";
        let payment = match payment {
            Some(payment) if !paid || payment.progress == Progress::Paid => payment,
            // Paid elsewhere, such as by a bank transfer that somebody has noted: under the invoice's own name.
            _ if paid => PaymentReport {
                reference: invoice.reference.clone(),
                id: None,
                progress: Progress::Paid,
                amount: Money { minor: invoice.paid, currency: invoice.total.currency.clone() },
                received: invoice.paid,
                client_secret: None,
                page: None,
                failure: None,
                refunds: Vec::new(),
                dispute: None,
            },
            _ => return Ok(None),
        };
        let payment = PaymentReport { page: invoice.page.clone(), ..payment };
        let (invoice, begins_period) = (invoice.reference.clone(), invoice.begins_period);
        Ok(Some(FeeReport { id, invoice, newest, tax, begins_period, payment }))
    }

    async fn payment_of_invoice(
        &self,
        tenant: &Arc<str>,
        reference: &str,
        row: Option<&EffectRow>,
    ) -> Result<PaymentReport, JobError> {
        let payments = self.provider(tenant)?.payments().ok_or(JobError::NoProvider)?;
        let got = payments.get(reference).await;
        if let Some(row) = row {
            self.record(row, got.exchanges).await?;
        }
        got.outcome.map_err(|error: ProviderError| JobError::Provider(error.to_string()))
    }

    async fn subscription(&self, row: &EffectRow, id: Uuid) -> Result<Subscription, JobError> {
        let found = self.app.store.subscription(&self.scope(&row.tenant), (row.shard_key, id)).await?;
        found.map(|row| row.value).ok_or(JobError::Missing("the subscription"))
    }

    fn subscriptions(&self, tenant: &str) -> Result<&dyn Subscriptions, JobError> {
        self.provider(tenant)?.subscriptions().ok_or(JobError::NoProvider)
    }

    /// The provider's prices of what a subscription is for.
    fn prices(&self, row: &EffectRow, terms: &Terms) -> Result<Vec<(String, u32)>, Failure> {
        let plans = self.tenant(&row.tenant).ok().map(|tenant| &tenant.catalog.plans);
        let plan = plans.and_then(|plans| plans.version(&terms.version, &terms.plan).ok());
        let price = |plan: &Arc<Plan>| plan.provider_price.clone();
        let of_plan = plan.and_then(price).map(|price| (price, terms.quantity));
        let of_add_ons =
            terms.add_ons.iter().map(|(add_on, quantity)| Some((add_on.provider_price.clone()?, *quantity)));
        let prices: Option<Vec<_>> = std::iter::once(of_plan).chain(of_add_ons).collect();
        let prices = prices.ok_or_else(|| Failure {
            code: Arc::from("unknown_plan"),
            decline_code: None,
            message: Arc::from("the tenant file no longer says which price of the provider's this is"),
        })?;
        Ok(prices.into_iter().map(|(price, quantity)| (price.to_string(), quantity)).collect())
    }
}

fn public_id(row: &EffectRow, id: Uuid) -> String {
    PublicId { kind: Kind::Subscription, shard_key: row.shard_key, id }.to_string()
}

/// A trial is so many days of the tenant's calendar, some of which are an hour shorter or longer.
fn days_between(start: Timestamp, end: Timestamp) -> u32 {
    let hours = end.duration_since(start).as_hours();
    u32::try_from((hours + 12) / 24).unwrap_or(0)
}

/// The state of this name; the names are Stripe's, and those of the field.
pub(super) fn state(name: &str) -> Option<SubscriptionState> {
    let states = [
        SubscriptionState::Incomplete,
        SubscriptionState::IncompleteExpired,
        SubscriptionState::Trialing,
        SubscriptionState::Active,
        SubscriptionState::PastDue,
        SubscriptionState::Canceled,
        SubscriptionState::Unpaid,
        SubscriptionState::Paused,
    ];
    states.into_iter().find(|state| state.as_str() == name)
}
