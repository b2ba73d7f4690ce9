//! What the handlers of every dialect do with their tenant: bring commands, read customers, wait for the provider, take
//! webhooks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use engine::{Catalog, Command, Effect, PayerChange, PaymentState, SubscriptionState};
use jiff::Timestamp;
use uuid::Uuid;

use super::failure::Failure;
use crate::app::{App, TenantRuntime};
use crate::inbound::{Inbound, InboundError, Received};
use crate::service::{Answer, Request, ServiceError};
use crate::store::{CustomerKey, CustomerRow, EffectEnd, EffectResult, EventState, Scope, StoreError};

/// How long a request waits for the provider before it answers with what is known by then.
pub(super) const PROVIDER_WAIT: Duration = Duration::from_secs(10);

/// How often it is looked meanwhile whether another request has brought it about.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// How long a webhook waits for what it says to be applied, so that the provider sends again what could not be.
const WEBHOOK_WAIT: Duration = Duration::from_secs(5);

/// A tenant that is spoken to in its dialect.
#[derive(Clone)]
pub(super) struct Spoken {
    pub(super) app: Arc<App>,
    pub(super) tenant: Arc<TenantRuntime>,
    pub(super) inbound: Inbound,
}

impl Spoken {
    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.tenant.catalog
    }

    /// The tenant's time.
    pub(super) fn now(&self) -> Timestamp {
        self.tenant.clock.now()
    }

    /// The address of a customer by its native id.
    pub(super) fn key(&self, external_id: &str) -> CustomerKey {
        CustomerKey::new(&self.catalog().tenant, external_id)
    }

    /// What may be read of one customer.
    pub(super) fn scope_of(&self, row: &CustomerRow) -> Scope {
        Scope { tenant: self.catalog().tenant.clone(), customer: Some(row.customer.id) }
    }

    /// What may be read of the tenant.
    pub(super) fn scope(&self) -> Scope {
        Scope { tenant: self.catalog().tenant.clone(), customer: None }
    }

    /// A customer with who it is.
    pub(super) async fn customer(&self, key: &CustomerKey) -> Result<Option<CustomerRow>, StoreError> {
        self.app.store.customer(&self.scope(), key).await
    }

    /// Does a command. `operation` is the id that a key makes, and a hash of what is asked, for keyed commands other than
    /// charges, whose own id is their key's.
    pub(super) async fn execute(
        &self,
        key: &CustomerKey,
        command: Command,
        operation: Option<(Uuid, i64)>,
    ) -> Result<Answer, ServiceError> {
        let request = Request {
            catalog: self.catalog().clone(),
            key: key.clone(),
            command,
            operation,
            settles: None,
            new_customer: self.app.clock.new_id(),
            now: self.now(),
        };
        self.app.service.execute(request).await
    }

    /// Refuses what takes a payment provider, where the tenant has none.
    pub(super) fn require_provider(&self) -> Result<(), Failure> {
        if self.tenant.connection.is_some() { Ok(()) } else { Err(Failure::NoProvider) }
    }

    /// The subscription that a customer gives up by choosing `plan`: one to another plan, whose first payment waits for the customer.
    pub(super) async fn given_up(&self, row: &CustomerRow, plan: &str) -> Result<Option<Uuid>, StoreError> {
        let mut known = row.customer.state.subscriptions.iter();
        let unpaid = known.find(|known| {
            known.state == SubscriptionState::Incomplete && known.pending.is_none() && *known.terms.plan != *plan
        });
        let Some((other, payment)) = unpaid.and_then(|known| Some((known.id, known.latest_payment?))) else {
            return Ok(None);
        };
        let payment = self.app.store.payment(&self.scope_of(row), (row.customer.shard_key, payment)).await?;
        let waits = |state| matches!(state, PaymentState::RequiresPayment | PaymentState::RequiresAction);
        Ok(payment.is_some_and(|row| waits(row.payment.state)).then_some(other))
    }

    /// Waits until the wanted effect of a command has ended, for a while.
    pub(super) async fn wait_for(
        &self,
        key: &CustomerKey,
        done: &Answer,
        wanted: impl Fn(&Effect) -> bool,
    ) -> Result<Option<EffectResult>, StoreError> {
        let effects = (key.shard_key, done.effects.as_slice());
        self.app.outbox.wait_for(&*self.app.store, effects, wanted, PROVIDER_WAIT).await
    }

    /// Changes what is kept for collecting from a customer, and waits until the provider has done it; what it told, where it
    /// had to be asked.
    pub(super) async fn change_payer(
        &self,
        key: &CustomerKey,
        change: PayerChange,
        wanted: impl Fn(&Effect) -> bool,
    ) -> Result<Option<String>, Failure> {
        let done = self.execute(key, Command::ChangePayer(change), None).await?;
        if !done.effects.iter().any(|record| wanted(&record.effect)) {
            return Ok(None);
        }
        match self.wait_for(key, &done, wanted).await? {
            Some(EffectResult { end: EffectEnd::Done, result }) => Ok(result),
            Some(EffectResult { end: EffectEnd::Failed, result }) => Err(Failure::of_effect(result.as_deref())),
            None => Err(Failure::ProviderUnavailable),
        }
    }

    /// Takes a webhook of the tenant's provider: verifies it over its raw body, keeps it, and waits a while for it to be
    /// applied. Where it could not be applied yet, that is a failure, so that the provider sends it again too.
    pub(super) async fn webhook(&self, headers: &HeaderMap, body: &Bytes) -> Result<(Received, EventState), Failure> {
        let connection = self.tenant.connection.as_ref().ok_or(Failure::NoProvider)?;
        let event = self.inbound.receive(&connection.name, headers, body).await?;
        // A clock that is held moves on only when it is told to, and what is due with it.
        if self.tenant.clock.held_at().is_some() {
            return Ok((event, EventState::Due));
        }
        match self.inbound.applied(&event, WEBHOOK_WAIT).await? {
            EventState::Due | EventState::Dead => Err(Failure::Webhook(InboundError::NotApplied)),
            state => Ok((event, state)),
        }
    }
}
