//! The outbox: effects that are due are done at the provider, each under the key that is its own id. Whatever happens in
//! between, the next attempt asks with the same key and hears what the first one did.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::id::Kind;
use engine::report::{Failure, PaymentReport};
use engine::{Collection, Command, Effect, Heard, Payment, PaymentState, PaymentStep, PublicId, Purpose};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{AT_ONCE, JobError, Jobs, LEASE, backoff};
use crate::provider::{self, Exchanged, NewPayment, NewRefund, OperationKey, ProviderError};
use crate::service::ServiceError;
use crate::store::{EffectEnd, EffectResult, EffectRow, SettledEffect, StoreError, Whose};

/// After this long a provider may have forgotten a key, so one looks for what an earlier attempt may have made.
pub(super) const KEYS_LAST: SignedDuration = SignedDuration::from_hours(23);

impl Jobs {
    /// Does the effects that are due, at most so many at once; how many there were.
    ///
    /// # Errors
    /// What the store fails with. What goes wrong with a single effect is logged, and tried again later.
    pub async fn do_effects(&self) -> Result<usize, JobError> {
        let claimed = self.claim_effects_of(&self.unheld(), AT_ONCE).await?;
        join_all(claimed.iter().map(|row| self.do_effect(row))).await;
        Ok(claimed.len())
    }

    /// Claims up to so many effects that are due.
    pub(super) async fn claim_effects_of(&self, whose: &Whose, most: i64) -> Result<Vec<EffectRow>, StoreError> {
        self.claim_effects_by(whose, self.time_of(whose), most).await
    }

    /// The same, of those that were due by then.
    pub(super) async fn claim_effects_by(
        &self,
        whose: &Whose,
        by: Timestamp,
        most: i64,
    ) -> Result<Vec<EffectRow>, StoreError> {
        let mut claimed = Vec::new();
        if most > 0 {
            let now = self.time_of(whose);
            let until = now.checked_add(LEASE).unwrap_or(now);
            for (id, seen) in self.app.store.due_effects(whose, by, most).await? {
                claimed.extend(self.app.store.claim_effect(id, seen, until).await?);
            }
        }
        Ok(claimed)
    }

    /// Does an effect; the code of the reason where it is to be tried again.
    pub(super) async fn do_effect(&self, row: &EffectRow) -> Option<&'static str> {
        match self.perform(row).await {
            Ok(()) => {
                self.app.outbox.ended();
                None
            }
            Err(error) => {
                let code = error.code();
                tracing::warn!(event = "effect_postponed", tenant = &*row.tenant, effect = %row.id, attempts = row.attempts, %error);
                let at = backoff(self.now(&row.tenant), row.attempts);
                if let Err(error) = self.app.store.postpone_effect((row.shard_key, row.id), at).await {
                    tracing::error!(event = "store_failed", %error);
                }
                Some(code)
            }
        }
    }

    /// Does one effect. An error means that it is to be tried again.
    async fn perform(&self, row: &EffectRow) -> Result<(), JobError> {
        match &row.effect {
            Effect::CreatePayment { payment } => self.create_payment(row, *payment).await,
            Effect::ObservePayment { payment } => self.observe_payment(row, *payment).await,
            Effect::CancelPayment { payment } => self.cancel_payment(row, *payment).await,
            Effect::CreateRefund { payment, refund } => self.create_refund(row, *payment, *refund).await,
            Effect::RegisterPayer => self.register_payer(row).await,
            Effect::BeginSetup => self.begin_setup(row).await,
            Effect::AttachMethod { method, default } => self.attach_method(row, method, *default).await,
            Effect::DetachMethod { method } => self.detach_method(row, method).await,
            Effect::SetDefaultMethod { method } => self.set_default_method(row, method).await,
            Effect::CreateSubscription { subscription } => self.create_subscription(row, *subscription).await,
            Effect::ChangeSubscription { subscription } => self.change_subscription(row, *subscription).await,
            Effect::EndSubscription { subscription, reference, ending } => {
                self.end_subscription(row, *subscription, reference.as_ref(), *ending).await
            }
            Effect::ObserveSubscription { subscription } => self.observe_subscription(row, *subscription).await,
        }
    }

    async fn create_payment(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let payment = self.payment(row, id).await?;
        if payment.state != PaymentState::Pending {
            return self.settle(row, EffectEnd::Done, None).await;
        }
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let payments = self.provider(&row.tenant)?.payments().ok_or(JobError::NoProvider)?;
        let new = new_payment(row, &payment, customer.clone());
        let age = self.now(&row.tenant).duration_since(row.created_at);
        if row.attempts > 0 && age >= KEYS_LAST {
            let found = self.exchange(row, payments.find(&customer, &new.id).await).await?;
            if let Ok(Some(report)) = found {
                return self.report(row, id, Heard::Made, report).await;
            }
        }
        let made = self.exchange(row, payments.create(&OperationKey::new(row.id), &new).await).await?;
        match made {
            Ok(report) => self.report(row, id, Heard::Made, report).await,
            Err(failure) => {
                let step = PaymentStep::Fail(failure);
                self.bring(row, Command::StepPayment { payment: id, step }, EffectEnd::Failed).await
            }
        }
    }

    async fn observe_payment(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let payment = self.payment(row, id).await?;
        let Some(reference) = payment.reference.filter(|_| !payment.state.has_ended()) else {
            return self.settle(row, EffectEnd::Done, None).await;
        };
        let payments = self.provider(&row.tenant)?.payments().ok_or(JobError::NoProvider)?;
        match self.exchange(row, payments.get(&reference).await).await? {
            Ok(report) => self.report(row, id, Heard::Asked, report).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    async fn cancel_payment(&self, row: &EffectRow, id: Uuid) -> Result<(), JobError> {
        let payment = self.payment(row, id).await?;
        if payment.state.has_ended() {
            return self.settle(row, EffectEnd::Done, None).await;
        }
        // Not made yet: what is made under way has to be known before it can be ended.
        let reference = payment.reference.ok_or(JobError::Missing("the provider's id of the payment"))?;
        let payments = self.provider(&row.tenant)?.payments().ok_or(JobError::NoProvider)?;
        let ended = payments.cancel(&OperationKey::new(row.id), &reference).await;
        match self.exchange(row, ended).await? {
            Ok(report) => self.report(row, id, Heard::Asked, report).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    async fn create_refund(&self, row: &EffectRow, payment_id: Uuid, refund: Uuid) -> Result<(), JobError> {
        let payment = self.payment(row, payment_id).await?;
        let Some(asked) = payment.refunds.iter().find(|known| known.id == refund && known.reference.is_none()) else {
            return self.settle(row, EffectEnd::Done, None).await;
        };
        let reference = payment.reference.clone().ok_or(JobError::Missing("the provider's id of the payment"))?;
        let refunds = self.provider(&row.tenant)?.refunds().ok_or(JobError::NoProvider)?;
        let new = NewRefund { id: refund.to_string(), payment: reference, minor: asked.minor };
        let made = refunds.create(&OperationKey::new(row.id), &new).await;
        let (step, end) = match self.exchange(row, made).await? {
            Ok(report) => (PaymentStep::ReportRefund { refund, report }, EffectEnd::Done),
            Err(failure) => (PaymentStep::FailRefund { refund, failure }, EffectEnd::Failed),
        };
        self.bring(row, Command::StepPayment { payment: payment_id, step }, end).await
    }

    async fn payment(&self, row: &EffectRow, id: Uuid) -> Result<Payment, JobError> {
        let found = self.app.store.payment(&self.scope(&row.tenant), (row.shard_key, id)).await?;
        found.map(|row| row.payment).ok_or(JobError::Missing("the payment"))
    }

    async fn report(
        &self,
        row: &EffectRow,
        payment: Uuid,
        heard: Heard,
        report: PaymentReport,
    ) -> Result<(), JobError> {
        let step = PaymentStep::Report(heard, Box::new(report));
        self.bring(row, Command::StepPayment { payment, step }, EffectEnd::Done).await
    }

    /// Brings what came of an effect to the customer, and ends the effect with it.
    pub(super) async fn bring(&self, row: &EffectRow, command: Command, end: EffectEnd) -> Result<(), JobError> {
        self.bring_with(row, command, EffectResult { end, result: None }).await
    }

    /// The same, with what whoever waits for the effect is to be told.
    pub(super) async fn bring_with(
        &self,
        row: &EffectRow,
        command: Command,
        result: EffectResult,
    ) -> Result<(), JobError> {
        let settles = SettledEffect { id: row.id, result };
        match self.execute(&row.tenant, &row.external_id, command, Some(settles)).await {
            Ok(_) => Ok(()),
            // What was asked for is done, and contradicts the books: no further attempt makes it fit.
            Err(JobError::Service(ServiceError::Refused(refusal))) => {
                let code = refusal.code();
                tracing::error!(event = "effect_refused", tenant = &*row.tenant, effect = %row.id, code);
                let failure =
                    Failure { code: Arc::from(code), decline_code: None, message: refusal.to_string().into() };
                self.settle(row, EffectEnd::Failed, Some(&failure)).await
            }
            Err(error) => Err(error),
        }
    }

    /// Ends an effect that changes nothing of the customer.
    pub(super) async fn settle(
        &self,
        row: &EffectRow,
        end: EffectEnd,
        failure: Option<&Failure>,
    ) -> Result<(), JobError> {
        let result = failure.map(|failure| json!({"failure": failure}).to_string());
        Ok(self.app.store.settle_effect((row.shard_key, row.id), &EffectResult { end, result }).await?)
    }

    /// Keeps the record of a call and sorts what came of it: an answer, a refusal for good, or an error for which one
    /// tries again.
    pub(super) async fn exchange<T>(
        &self,
        row: &EffectRow,
        exchanged: Exchanged<T>,
    ) -> Result<Result<T, Failure>, JobError> {
        self.record(row, exchanged.exchanges).await?;
        match exchanged.outcome {
            Ok(answer) => Ok(Ok(answer)),
            Err(ProviderError::Rejected(failure)) => Ok(Err(failure)),
            Err(error @ ProviderError::NotFound) => Ok(Err(Failure {
                code: Arc::from("provider_object_missing"),
                decline_code: None,
                message: error.to_string().into(),
            })),
            Err(error) => Err(JobError::Provider(error.to_string())),
        }
    }
}

fn new_payment(row: &EffectRow, payment: &Payment, customer: Arc<str>) -> NewPayment {
    let description = match &payment.purpose {
        Purpose::Purchase(purchase) if purchase.quantity == 1 => purchase.title.to_string(),
        Purpose::Purchase(purchase) => format!("{} x {}", purchase.quantity, purchase.title),
        Purpose::OneTime(one_time) => one_time.description.to_string(),
        Purpose::Invoice(_) | Purpose::Subscription(_) => "Invoice".to_owned(),
    };
    let collection = match &payment.collection {
        Collection::OnSession { save_method } => provider::Collection::OnSession { save_method: *save_method },
        Collection::OffSession { method } => provider::Collection::OffSession { method: method.clone() },
        Collection::Page { success_url, cancel_url } => {
            provider::Collection::Page { success_url: success_url.to_string(), cancel_url: cancel_url.to_string() }
        }
    };
    let id = PublicId { kind: Kind::Payment, shard_key: row.shard_key, id: payment.id }.to_string();
    let metadata = match &payment.purpose {
        Purpose::OneTime(one_time) => one_time.metadata.clone(),
        Purpose::Purchase(_) | Purpose::Invoice(_) | Purpose::Subscription(_) => BTreeMap::new(),
    };
    NewPayment { id, customer, amount: payment.amount.clone(), description, metadata, collection }
}
