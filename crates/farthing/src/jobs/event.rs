//! Events that a provider told of, applied. What an event says is never believed as it stands: it names what has changed,
//! and that is fetched as it is now, so events may come late, twice and in any order.

use std::sync::Arc;

use engine::id::Kind;
use engine::{Command, PayerChange, PublicId, Refusal};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::{AT_ONCE, JobError, Jobs, LEASE, backoff};
use crate::provider::{Notice, ProviderError};
use crate::service::ServiceError;
use crate::store::{EventRow, EventState, PaymentRow, StoreError, Whose};

/// How often an event is tried before a person has to look: over about two and a half hours.
const MOST_ATTEMPTS: i32 = 12;

/// What came of an attempt to apply an event.
pub(super) enum Applied {
    /// It changed something, or nothing was left to change.
    Done,
    /// It is about nothing of ours.
    Ignored,
}

/// Why an event was not applied.
pub(super) enum Fault {
    /// It may work later.
    Later(JobError),
    /// It never will.
    Never(String),
}

impl From<Fault> for JobError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Later(error) => error,
            Fault::Never(why) => Self::Provider(why),
        }
    }
}

impl From<JobError> for Fault {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Service(ServiceError::Refused(Refusal::PaymentUnconfirmed)) => Self::Later(error),
            JobError::Service(ServiceError::Refused(refusal)) => Self::Never(format!("{}: {refusal}", refusal.code())),
            error => Self::Later(error),
        }
    }
}

impl Jobs {
    /// Applies the events that are due, at most so many at once; how many there were.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn apply_events(&self) -> Result<usize, JobError> {
        let claimed = self.claim_events_of(&self.unheld(), AT_ONCE).await?;
        join_all(claimed.iter().map(|event| self.apply_event(event))).await;
        Ok(claimed.len())
    }

    /// Claims up to so many events that are due.
    pub(super) async fn claim_events_of(&self, whose: &Whose, most: i64) -> Result<Vec<EventRow>, StoreError> {
        self.claim_events_by(whose, self.time_of(whose), most).await
    }

    /// The same, of those that were due by then.
    pub(super) async fn claim_events_by(
        &self,
        whose: &Whose,
        by: Timestamp,
        most: i64,
    ) -> Result<Vec<EventRow>, StoreError> {
        let mut claimed = Vec::new();
        if most > 0 {
            let now = self.time_of(whose);
            let until = now.checked_add(LEASE).unwrap_or(now);
            for (tenant, id, seen) in self.app.store.due_events(whose, by, most).await? {
                claimed.extend(self.app.store.claim_event(&tenant, &id, seen, until).await?);
            }
        }
        Ok(claimed)
    }

    /// Applies an event; how it stands then.
    pub(super) async fn apply_event(&self, event: &EventRow) -> EventState {
        let now = self.now(&event.tenant);
        let (state, error, due_at) = match self.try_event(event).await {
            Ok(Applied::Done) => (EventState::Applied, None, now),
            Ok(Applied::Ignored) => (EventState::Ignored, None, now),
            Err(Fault::Never(error)) => (EventState::Dead, Some(error), now),
            Err(Fault::Later(error)) if event.attempts >= MOST_ATTEMPTS => {
                (EventState::Dead, Some(error.to_string()), now)
            }
            Err(Fault::Later(error)) => {
                (EventState::Due, Some(error.to_string()), backoff(now, event.attempts.saturating_sub(1)))
            }
        };
        let (tenant, id) = (&*event.tenant, &*event.id);
        metrics::counter!("farthing_provider_events_total", "state" => state.as_str()).increment(1);
        match state {
            EventState::Dead => tracing::error!(event = "provider_event_dead", tenant, id, error),
            EventState::Due => tracing::warn!(event = "provider_event_postponed", tenant, id, error),
            EventState::Applied | EventState::Ignored => tracing::debug!(event = "provider_event", tenant, id),
        }
        if let Err(error) = self.app.store.settle_event(tenant, id, state, error.as_deref(), due_at).await {
            tracing::error!(event = "store_failed", %error);
        }
        state
    }

    async fn try_event(&self, row: &EventRow) -> Result<Applied, Fault> {
        let webhooks = self.provider(&row.tenant)?.webhooks().ok_or(JobError::NoProvider)?;
        let event = webhooks.read(row.body.as_bytes()).map_err(|error| Fault::Never(error.to_string()))?;
        match event.notice {
            Notice::Payment { references, id } => self.hear_of_payment(&row.tenant, &references, id.as_deref()).await,
            Notice::PaymentMethods { customer } => self.hear_of_methods(&row.tenant, &customer).await,
            Notice::Subscription { reference, .. } => self.hear_of_subscription(&row.tenant, &reference).await,
            Notice::Invoice { reference, .. } => self.hear_of_invoice(&row.tenant, &reference).await,
            Notice::Other => Ok(Applied::Ignored),
        }
    }

    async fn hear_of_payment(
        &self,
        tenant: &Arc<str>,
        references: &[Arc<str>],
        id: Option<&str>,
    ) -> Result<Applied, Fault> {
        let Some(row) = self.find_payment(tenant, references, id).await? else { return Ok(Applied::Ignored) };
        if row.payment.reference.is_none() {
            return Err(JobError::from(ServiceError::Refused(Refusal::PaymentUnconfirmed)).into());
        }
        let present = self.present(tenant, &row.payment, &mut Vec::new()).await.map_err(provider_fault)?;
        self.tell(tenant, &row, present).await?;
        Ok(Applied::Done)
    }

    /// The payment of ours by what the provider calls it, or by our id that is kept beside it.
    pub(super) async fn find_payment(
        &self,
        tenant: &Arc<str>,
        references: &[Arc<str>],
        id: Option<&str>,
    ) -> Result<Option<PaymentRow>, JobError> {
        for reference in references {
            if let Some(row) = self.app.store.payment_of_reference(tenant, reference).await? {
                return Ok(Some(row));
            }
        }
        let Some(Ok(id)) = id.map(str::parse::<PublicId>) else { return Ok(None) };
        if id.kind != Kind::Payment {
            return Ok(None);
        }
        Ok(self.app.store.payment(&self.scope(tenant), (id.shard_key, id.id)).await?)
    }

    async fn hear_of_methods(&self, tenant: &Arc<str>, reference: &str) -> Result<Applied, Fault> {
        let payer = self.app.store.payer_of_reference(tenant, reference).await.map_err(JobError::from)?;
        let Some(customer) = payer else { return Ok(Applied::Ignored) };
        let methods = self.provider(tenant)?.payment_methods().ok_or(JobError::NoProvider)?;
        let report = methods.list(reference, self.now(tenant)).await.outcome.map_err(provider_fault)?;
        let change = Command::ChangePayer(PayerChange::Methods(report));
        self.execute(tenant, &customer, change, None).await?;
        Ok(Applied::Done)
    }
}

pub(super) fn provider_fault(error: ProviderError) -> Fault {
    match error {
        ProviderError::Rejected(_) | ProviderError::NotFound => Fault::Never(error.to_string()),
        error => Fault::Later(JobError::Provider(error.to_string())),
    }
}
