//! What Stripe has, to compare the books with (<https://docs.stripe.com/api/events/list>,
//! <https://docs.stripe.com/api/payment_intents/list>). Stripe keeps events for thirty days.

use async_trait::async_trait;
use engine::report::PaymentReport;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::Stripe;
use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::PaymentIntent;
use super::payments::with_details_shown;
use super::subscriptions::Subscription;
use crate::provider::{Exchanged, Reconciliation, SubscriptionReport};

#[async_trait]
impl Reconciliation for Stripe {
    async fn events(&self, since: Timestamp) -> Exchanged<Vec<Vec<u8>>> {
        let mut calls = self.client.calls("list_events");
        let events = calls.all::<Box<RawValue>>("/v1/events", since_form(since)).await;
        // Stripe lists the newest first.
        calls.end(events.map(|events| events.iter().rev().map(|event| event.get().as_bytes().to_vec()).collect()))
    }

    async fn payments(&self, since: Timestamp) -> Exchanged<Vec<PaymentReport>> {
        let mut calls = self.client.calls("list_payments");
        let outcome = payments(&mut calls, since).await;
        calls.end(outcome)
    }

    async fn subscriptions(&self) -> Exchanged<Vec<SubscriptionReport>> {
        let mut calls = self.client.calls("list_subscriptions");
        let listed = calls.all::<Subscription>("/v1/subscriptions", Form::new()).await;
        calls.end(listed.and_then(|listed| listed.iter().map(Subscription::report).collect()))
    }
}

fn since_form(since: Timestamp) -> Form {
    Form::new().with("created[gte]", since.as_second())
}

/// A refund that failed does not show in a list; `Payments::get` tells of it.
async fn payments(calls: &mut Calls<'_>, since: Timestamp) -> Result<Vec<PaymentReport>, CallError> {
    let form = since_form(since).expand("data.latest_charge");
    let intents: Vec<PaymentIntent> = calls.all("/v1/payment_intents", form).await?;
    let mut reports = Vec::with_capacity(intents.len());
    for intent in &intents {
        let report = intent.report()?;
        reports.push(with_details_shown(calls, report, intent).await?);
    }
    Ok(reports)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::script::Script;
    use super::*;

    #[tokio::test]
    async fn all_pages_and_the_oldest_event_first() {
        let event = |id: &str| json!({"id": id, "object": "event", "type": "x"});
        let script = Script::default()
            .then(200, &[], &json!({"data": [event("evt_3"), event("evt_2")], "has_more": true}))
            .then(200, &[], &json!({"data": [event("evt_1")], "has_more": false}));
        let events = script.serve().await.events(jiff::Timestamp::from_second(5).unwrap()).await;
        let ids: Vec<_> = events.outcome.unwrap().into_iter().map(|body| String::from_utf8(body).unwrap()).collect();
        assert_eq!(ids, ["evt_1", "evt_2", "evt_3"].map(|id| event(id).to_string()));
        assert_eq!(
            script.lines(),
            [
                "GET /v1/events?created%5Bgte%5D=5&limit=100",
                "GET /v1/events?created%5Bgte%5D=5&limit=100&starting_after=evt_2",
            ]
        );
    }
}
