//! The time of a sandbox that stands in for Stripe: of its whole world, by an interface of its own.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::Stripe;
use super::form::Form;
use crate::provider::{Exchanged, ProviderClock};

/// Where the clock stands; nothing of it is needed.
#[derive(Deserialize)]
struct Clock {}

#[async_trait]
impl ProviderClock for Stripe {
    async fn set(&self, now: Timestamp) -> Exchanged<()> {
        let mut calls = self.client.calls("set_clock");
        let form = Form::new().with("now", now.as_second());
        let set = calls.post_once::<Clock>("/_sandbox/clock", form).await;
        calls.end(set.map(|_| ()))
    }
}
