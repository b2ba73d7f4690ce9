//! Waiting for the outbox: whoever wrote an effect wakes the one who does them, and may wait for what comes of it.
//!
//! Only a wake-up passes through here. What is to be done, and what has come of it, stands in the store, so that nothing
//! is lost when either side dies, and another server may do it as well.

use std::time::Duration;

use engine::{Effect, EffectRecord};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::store::{EffectResult, OperationRef, PaymentStore, StoreError};

/// How often whoever waits looks by itself: another server may have done it.
const LOOK: Duration = Duration::from_millis(200);

/// The wake-ups of the outbox.
#[derive(Debug)]
pub struct Outbox {
    written: Notify,
    ended: watch::Sender<()>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { written: Notify::new(), ended: watch::Sender::new(()) }
    }
}

impl Outbox {
    /// Something was written that is due.
    pub fn wake(&self) {
        self.written.notify_one();
    }

    /// Ends when something was written.
    pub async fn written(&self) {
        self.written.notified().await;
    }

    /// Some effect has ended.
    pub fn ended(&self) {
        self.ended.send_replace(());
    }

    /// Waits, at most so long, for what comes of the wanted one of the effects that a command had; nothing where it had no
    /// such. A command may have others, because time that has passed had something due as well.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn wait_for(
        &self,
        store: &(impl PaymentStore + ?Sized),
        (shard_key, effects): (i32, &[EffectRecord]),
        wanted: impl Fn(&Effect) -> bool,
        most: Duration,
    ) -> Result<Option<EffectResult>, StoreError> {
        let Some(effect) = effects.iter().find(|record| wanted(&record.effect)) else { return Ok(None) };
        self.wait(store, (shard_key, effect.id), most).await
    }

    /// Waits for what comes of an effect, at most so long.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn wait(
        &self,
        store: &(impl PaymentStore + ?Sized),
        effect: OperationRef,
        most: Duration,
    ) -> Result<Option<EffectResult>, StoreError> {
        let deadline = Instant::now() + most;
        let mut ended = self.ended.subscribe();
        self.wake();
        loop {
            ended.mark_unchanged();
            if let Some(result) = store.effect_result(effect).await? {
                return Ok(Some(result));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            // Either way it is looked at again.
            let _ = tokio::time::timeout(LOOK, ended.changed()).await;
        }
    }
}
