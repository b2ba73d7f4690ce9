//! What the store keeps for collecting: payments, the outbox of effects with what was asked and answered, what providers
//! told, and how far they have been asked themselves.

use std::sync::Arc;

use async_trait::async_trait;
use engine::{Effect, Payment};
use jiff::Timestamp;
use uuid::Uuid;

use super::{OperationRef, Page, Scope, StoreError};

/// A payment with its customer.
#[derive(Clone, Debug)]
pub struct PaymentRow {
    /// The caller's own id of the customer.
    pub external_id: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Its bucket.
    pub shard_key: i32,
    /// The payment.
    pub payment: Payment,
}

/// An effect that somebody has claimed.
#[derive(Clone, Debug)]
pub struct EffectRow {
    /// The customer's bucket.
    pub shard_key: i32,
    /// Its id.
    pub id: Uuid,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The customer.
    pub customer_id: Uuid,
    /// The caller's own id of the customer.
    pub external_id: String,
    /// What must happen.
    pub effect: Effect,
    /// How often it was tried before.
    pub attempts: i32,
    /// When it was written.
    pub created_at: Timestamp,
}

/// What has come of an effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EffectResult {
    /// How it ended.
    pub end: EffectEnd,
    /// What came of it, as JSON for whoever asked.
    pub result: Option<String>,
}

/// How an effect ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EffectEnd {
    /// It was done.
    Done,
    /// It could not be done.
    Failed,
}

impl EffectEnd {
    /// Its stored name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// An effect whose result a command brings: both are written in one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettledEffect {
    /// Which.
    pub id: Uuid,
    /// What has come of it.
    pub result: EffectResult,
}

/// A request to the provider and its answer, for the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExchangeRow {
    /// Its place among those of the effect.
    pub number: i32,
    /// Method and path.
    pub request: String,
    /// The HTTP status.
    pub status: Option<i32>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Whether the provider says that this is an earlier answer.
    pub replayed: bool,
    /// The raw answer, or why there is none.
    pub reply: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// An event that a provider told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRow {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The provider's id of it.
    pub id: Arc<str>,
    /// The provider's name for its kind.
    pub kind: String,
    /// The raw body.
    pub body: String,
    /// How it stands.
    pub state: EventState,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last attempt did not work.
    pub error: Option<String>,
    /// When it came in.
    pub received_at: Timestamp,
}

impl EventRow {
    /// Its bucket.
    #[must_use]
    pub fn shard_key(&self) -> i32 {
        engine::id::shard_key(&self.tenant, &self.id)
    }
}

/// How an event stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// To be applied.
    Due,
    /// Applied.
    Applied,
    /// Nothing in it that farthing acts on.
    Ignored,
    /// Given up after many attempts, or refused for good; a person has to look.
    Dead,
}

impl EventState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Due, Self::Applied, Self::Ignored, Self::Dead];

    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Dead => "dead",
        }
    }
}

/// Whose work is looked for. A server does that of its own tenants alone: of others it knows neither rules nor provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// These tenants', unless their clock is held.
    Unheld(Vec<Arc<str>>),
    /// This one's, whose clock is held.
    Held(Arc<str>),
}

impl Whose {
    /// The tenants.
    pub(super) fn tenants(&self) -> &[Arc<str>] {
        match self {
            Self::Unheld(tenants) => tenants,
            Self::Held(tenant) => std::slice::from_ref(tenant),
        }
    }

    /// Whether a held clock is no reason to leave a tenant out, as a flag of SQL.
    pub(super) fn held(&self) -> i32 {
        i32::from(matches!(self, Self::Held(_)))
    }
}

/// The tables of collecting, by use case.
#[async_trait]
pub trait PaymentStore: Send + Sync {
    /// A payment by its id.
    async fn payment(&self, scope: &Scope, id: OperationRef) -> Result<Option<PaymentRow>, StoreError>;
    /// Payments of a customer, newest first; the cursor is the time of recording and the id.
    async fn payments(
        &self,
        scope: &Scope,
        owner: OperationRef,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<PaymentRow>, StoreError>;
    /// A payment by what the provider calls it.
    async fn payment_of_reference(&self, tenant: &str, reference: &str) -> Result<Option<PaymentRow>, StoreError>;
    /// The customer, by its own id, by what the provider calls it.
    async fn payer_of_reference(&self, tenant: &str, reference: &str) -> Result<Option<String>, StoreError>;

    /// Effects that are due, the longest due first, each with the time that it is due at.
    async fn due_effects(
        &self,
        whose: &Whose,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<(OperationRef, Timestamp)>, StoreError>;
    /// Claims an effect until a time, if it is still due at the time it was seen to be.
    async fn claim_effect(
        &self,
        id: OperationRef,
        seen: Timestamp,
        until: Timestamp,
    ) -> Result<Option<EffectRow>, StoreError>;
    /// Has an effect tried again at a time.
    async fn postpone_effect(&self, id: OperationRef, due_at: Timestamp) -> Result<(), StoreError>;
    /// Ends an effect whose result no command brings.
    async fn settle_effect(&self, id: OperationRef, result: &EffectResult) -> Result<(), StoreError>;
    /// What has come of an effect; nothing while it is due.
    async fn effect_result(&self, id: OperationRef) -> Result<Option<EffectResult>, StoreError>;
    /// Keeps what was asked of the provider for an effect, and answered.
    async fn record_exchanges(&self, effect: &EffectRow, exchanges: &[ExchangeRow]) -> Result<(), StoreError>;
    /// Forgets what was asked and answered before; returns how many.
    async fn forget_exchanges(&self, before: Timestamp) -> Result<u64, StoreError>;
    /// What was asked of the provider for an effect, and answered.
    async fn exchanges(&self, scope: &Scope, effect: OperationRef) -> Result<Vec<ExchangeRow>, StoreError>;

    /// Keeps an event; whether it is new.
    async fn keep_event(&self, event: &EventRow) -> Result<bool, StoreError>;
    /// An event by the provider's id of it.
    async fn event(&self, tenant: &str, id: &str) -> Result<Option<EventRow>, StoreError>;
    /// Events that are due, the longest due first: tenant, id, and the time each is due at.
    async fn due_events(
        &self,
        whose: &Whose,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<(Arc<str>, Arc<str>, Timestamp)>, StoreError>;
    /// Claims an event until a time, if it is still due at the time it was seen to be.
    async fn claim_event(
        &self,
        tenant: &str,
        id: &str,
        seen: Timestamp,
        until: Timestamp,
    ) -> Result<Option<EventRow>, StoreError>;
    /// Says how an event stands after an attempt.
    async fn settle_event(
        &self,
        tenant: &str,
        id: &str,
        state: EventState,
        error: Option<&str>,
        due_at: Timestamp,
    ) -> Result<(), StoreError>;
    /// Makes an event due again as if it had just come in; whether there is such.
    async fn replay_event(&self, tenant: &str, id: &str, now: Timestamp) -> Result<bool, StoreError>;
    /// Events of a tenant in a state, newest first; the cursor is the time of receipt and the id.
    async fn events(
        &self,
        tenant: &str,
        state: Option<EventState>,
        page: Page<(Timestamp, String)>,
    ) -> Result<Vec<EventRow>, StoreError>;
    /// Forgets events that came in before and need nothing more; returns how many.
    async fn forget_events(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// When something of a tenant is due next, after this time.
    async fn next_due(&self, tenant: &str, after: Timestamp) -> Result<Option<Timestamp>, StoreError>;
    /// Where the clock of a tenant is held.
    async fn test_clock(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError>;
    /// Holds the clock of a tenant.
    async fn hold_test_clock(&self, tenant: &str, now: Timestamp) -> Result<(), StoreError>;

    /// Up to when a tenant's provider has been asked what happened.
    async fn reconciled_until(&self, tenant: &str) -> Result<Option<Timestamp>, StoreError>;
    /// Notes it.
    async fn note_reconciled(&self, tenant: &str, until: Timestamp) -> Result<(), StoreError>;
    /// Payments of a tenant that have not ended and were recorded before, oldest first, after this id.
    async fn open_payments(
        &self,
        tenant: &str,
        before: Timestamp,
        page: Page<(Timestamp, Uuid)>,
    ) -> Result<Vec<PaymentRow>, StoreError>;
}
