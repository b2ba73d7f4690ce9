//! Moving a test clock: a tenant's time goes from one moment at which something is due to the next, and everything is done
//! on the way, in order, as if the time had passed.

use std::sync::Arc;

use engine::Refusal;
use jiff::Timestamp;

use super::{AT_ONCE, JobError, Jobs};
use crate::app::RefusedUsage;
use crate::service::{Request, ServiceError};
use crate::store::Whose;

/// How often the provider's time and ours may lead to something at the same moment, before one goes on.
const MOST_ROUNDS: usize = 10_000;

impl Jobs {
    /// Moves the clock of a tenant in test mode to a later time, and has what is used on the way (in the order of its times,
    /// none of them later than `to`) recorded at its own time. Nothing else is done for the tenant meanwhile by this server.
    /// What of the usage was refused.
    ///
    /// # Errors
    /// What the store or the provider fails with; the clock then stands where it came to, and may be moved on.
    pub async fn advance(
        &self,
        tenant: &Arc<str>,
        to: Timestamp,
        usage: Vec<Request>,
    ) -> Result<Vec<RefusedUsage>, JobError> {
        let runtime = self.tenant(tenant)?.clone();
        let _alone = runtime.moving.write().await;
        self.hold_clock(tenant, runtime.clock.now()).await?;
        self.do_all_due(tenant).await?;
        let mut refused = Vec::new();
        for (index, request) in usage.into_iter().enumerate() {
            self.pass_until(tenant, request.now).await?;
            refused.extend(self.record_usage(tenant, request).await?.map(|refusal| RefusedUsage { index, refusal }));
        }
        self.pass_until(tenant, to).await?;
        if runtime.clock.now() < to {
            self.hold_clock(tenant, to).await?;
            self.do_all_due(tenant).await?;
        }
        Ok(refused)
    }

    /// Does what becomes due until a time, that included, each at its own.
    async fn pass_until(&self, tenant: &Arc<str>, to: Timestamp) -> Result<(), JobError> {
        while let Some(next) = self.app.store.next_due(tenant, self.now(tenant)).await?.filter(|next| *next <= to) {
            self.hold_clock(tenant, next).await?;
            self.do_all_due(tenant).await?;
        }
        Ok(())
    }

    /// Records usage at its own time. The provider's time follows only where something is to be done there.
    async fn record_usage(&self, tenant: &Arc<str>, request: Request) -> Result<Option<Refusal>, JobError> {
        let at = request.now;
        self.app.store.hold_test_clock(tenant, at).await?;
        self.tenant(tenant)?.clock.hold(at);
        let effects = match self.app.service.execute(request).await {
            Ok(answer) => answer.effects,
            Err(ServiceError::Refused(refusal)) => return Ok(Some(refusal)),
            Err(error) => return Err(error.into()),
        };
        if !effects.is_empty() {
            self.hold_clock(tenant, at).await?;
            self.do_all_due(tenant).await?;
        }
        Ok(None)
    }

    /// Sets the time here, durably, and at the provider where that has a clock that can be set.
    async fn hold_clock(&self, tenant: &Arc<str>, now: Timestamp) -> Result<(), JobError> {
        self.app.store.hold_test_clock(tenant, now).await?;
        self.tenant(tenant)?.clock.hold(now);
        let Some(clock) = self.providers.get(tenant).and_then(|provider| provider.clock()) else { return Ok(()) };
        clock.set(now).await.outcome.map_err(|error| JobError::Provider(error.to_string()))
    }

    /// Does everything that is due for a tenant now, and hears everything that its provider has to tell of.
    async fn do_all_due(&self, tenant: &Arc<str>) -> Result<(), JobError> {
        let whose = Whose::Held(tenant.clone());
        // The provider has news when its time has moved, and when it was asked for something.
        let mut news = self.providers.contains_key(tenant);
        for _ in 0..MOST_ROUNDS {
            if news {
                self.fetch_events(tenant).await?;
            }
            let passed = self.pass_time_of(&whose).await?;
            let effects = self.claim_effects_of(&whose, AT_ONCE).await?;
            for row in &effects {
                self.do_effect(row).await;
            }
            let events = self.claim_events_of(&whose, AT_ONCE).await?;
            for event in &events {
                self.apply_event(event).await;
            }
            if passed == 0 && effects.is_empty() && events.is_empty() {
                break;
            }
            news = !effects.is_empty();
        }
        Ok(())
    }
}
