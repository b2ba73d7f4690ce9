//! Subscriptions that Stripe renews (<https://docs.stripe.com/api/subscriptions>). Since 2025-03-31.basil the period is
//! that of each item; before, it was the subscription's.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::invoices::{Invoice, LATEST_INVOICE_PAYMENTS, LATEST_INVOICE_SECRET};
use super::object::{Expandable, Identified, List, Metadata, SUBSCRIPTION_KEY, own_id, time};
use super::{Stripe, object_path};
use crate::provider::{
    Cancellation, Exchanged, NewSubscription, OperationKey, Proration, ProviderError, SubscriptionChange,
    SubscriptionReport, Subscriptions,
};

#[derive(Deserialize)]
pub(super) struct Subscription {
    id: Arc<str>,
    customer: Expandable<Identified>,
    status: Arc<str>,
    #[serde(default)]
    items: Option<List<Item>>,
    #[serde(default)]
    current_period_start: Option<i64>,
    #[serde(default)]
    current_period_end: Option<i64>,
    #[serde(default)]
    trial_end: Option<i64>,
    #[serde(default)]
    cancel_at_period_end: Option<bool>,
    #[serde(default)]
    cancel_at: Option<i64>,
    #[serde(default)]
    canceled_at: Option<i64>,
    #[serde(default)]
    latest_invoice: Option<Expandable<Invoice>>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Item {
    id: Arc<str>,
    price: Identified,
    #[serde(default)]
    quantity: Option<u32>,
    #[serde(default)]
    current_period_start: Option<i64>,
    #[serde(default)]
    current_period_end: Option<i64>,
}

impl Subscription {
    fn items(&self) -> &[Item] {
        self.items.as_ref().map_or(&[], |items| &items.data)
    }

    /// That of the first item, where they differ.
    fn period(&self) -> Result<Option<(Timestamp, Timestamp)>, CallError> {
        let item = self.items().first();
        let begin = item.and_then(|item| item.current_period_start).or(self.current_period_start);
        let end = item.and_then(|item| item.current_period_end).or(self.current_period_end);
        begin.zip(end).map(|(begin, end)| Ok((time(begin)?, time(end)?))).transpose()
    }

    pub(super) fn report(&self) -> Result<SubscriptionReport, CallError> {
        let period = self.period()?;
        let cancel_at = self.cancel_at.map(time).transpose()?;
        // A portal may set the date instead of the flag.
        let at_end = cancel_at.is_some() && cancel_at == period.map(|(_, end)| end);
        let latest_invoice = self.latest_invoice.as_ref();
        Ok(SubscriptionReport {
            reference: self.id.clone(),
            customer: self.customer.id().clone(),
            state: self.status.clone(),
            // What is metered has no quantity.
            prices: self.items().iter().map(|item| (item.price.id.clone(), item.quantity.unwrap_or(1))).collect(),
            period,
            trial_end: self.trial_end.map(time).transpose()?,
            cancel_at_period_end: self.cancel_at_period_end == Some(true) || at_end,
            canceled_at: self.canceled_at.map(time).transpose()?,
            latest_invoice: latest_invoice.map(|invoice| match invoice {
                Expandable::Id(id) => id.clone(),
                Expandable::Object(invoice) => invoice.id.clone(),
            }),
            invoice: latest_invoice.and_then(Expandable::object).map(Invoice::report).transpose()?,
            client_secret: latest_invoice.and_then(Expandable::object).and_then(Invoice::client_secret),
            id: own_id(&self.metadata, SUBSCRIPTION_KEY),
        })
    }

    /// Whether it has ended, whichever way.
    fn has_ended(&self) -> bool {
        matches!(&*self.status, "canceled" | "incomplete_expired")
    }
}

#[async_trait]
impl Subscriptions for Stripe {
    async fn create(&self, operation: &OperationKey, subscription: &NewSubscription) -> Exchanged<SubscriptionReport> {
        let mut calls = self.client.calls("create_subscription");
        let outcome = create(&mut calls, operation, subscription).await;
        calls.end(outcome)
    }

    async fn get(&self, reference: &str) -> Exchanged<SubscriptionReport> {
        let mut calls = self.client.calls("get_subscription");
        let current = fetch(&mut calls, reference).await;
        calls.end(current.and_then(|subscription| subscription.report()))
    }

    async fn find(&self, customer: &str, id: &str) -> Exchanged<Option<SubscriptionReport>> {
        let mut calls = self.client.calls("find_subscription");
        let outcome = find(&mut calls, customer, id).await;
        calls.end(outcome)
    }

    async fn change(
        &self,
        operation: &OperationKey,
        reference: &str,
        change: &SubscriptionChange,
    ) -> Exchanged<SubscriptionReport> {
        let mut calls = self.client.calls("change_subscription");
        let outcome = replace_prices(&mut calls, operation, reference, change).await;
        calls.end(outcome)
    }

    async fn cancel(
        &self,
        operation: &OperationKey,
        reference: &str,
        when: Cancellation,
    ) -> Exchanged<SubscriptionReport> {
        let mut calls = self.client.calls("cancel_subscription");
        let outcome = cancel(&mut calls, operation, reference, when).await;
        calls.end(outcome)
    }
}

fn expanded() -> Form {
    Form::new().expand(LATEST_INVOICE_SECRET).expand(LATEST_INVOICE_PAYMENTS)
}

async fn fetch(calls: &mut Calls<'_>, reference: &str) -> Result<Subscription, CallError> {
    calls.get(&object_path("subscriptions", reference, "")?, expanded()).await
}

/// Posts, and reads it again where the answer is that of an earlier call, because it may have changed since.
async fn post(
    calls: &mut Calls<'_>,
    path: &str,
    form: Form,
    operation: &OperationKey,
) -> Result<SubscriptionReport, CallError> {
    let subscription: Subscription = calls.post(path, form, operation).await?;
    if calls.was_replayed() { fetch(calls, &subscription.id).await?.report() } else { subscription.report() }
}

/// Stripe keeps a failure of its own under the key as it keeps any answer, although it may have made the subscription;
/// whether it has, our id tells.
async fn create(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    subscription: &NewSubscription,
) -> Result<SubscriptionReport, CallError> {
    match post(calls, "/v1/subscriptions", create_form(subscription), operation).await {
        Err(CallError::Failed(ProviderError::Unavailable(reason))) if calls.was_replayed() => {
            // Whatever keeps it from being found, nothing has been refused.
            let found = find(calls, &subscription.customer, &subscription.id).await.ok().flatten();
            found.ok_or_else(|| ProviderError::Unavailable(reason).into())
        }
        outcome => outcome,
    }
}

fn create_form(subscription: &NewSubscription) -> Form {
    let mut form = expanded().with("customer", &subscription.customer);
    form = match &subscription.method {
        // Nobody is there: what is declined, or waits for the bank's question, can be paid in the browser afterwards.
        Some(method) => form
            .with("default_payment_method", method)
            .with("payment_behavior", "allow_incomplete")
            .with("off_session", true),
        None => form.with("payment_behavior", "default_incomplete"),
    };
    form = form
        .with("payment_settings[save_default_payment_method]", "on_subscription")
        .with_some("trial_period_days", subscription.trial_days)
        .with(format!("metadata[{SUBSCRIPTION_KEY}]"), &subscription.id);
    for (index, (price, quantity)) in subscription.prices.iter().enumerate() {
        form = form.with(format!("items[{index}][price]"), price).with(format!("items[{index}][quantity]"), quantity);
    }
    form
}

/// Lists, because Stripe's search lags behind (<https://docs.stripe.com/search#data-freshness>).
async fn find(calls: &mut Calls<'_>, customer: &str, id: &str) -> Result<Option<SubscriptionReport>, CallError> {
    let form = Form::new().with("customer", customer).with("status", "all");
    let is_it = |subscription: &Subscription| own_id(&subscription.metadata, SUBSCRIPTION_KEY).as_deref() == Some(id);
    match calls.first("/v1/subscriptions", form, is_it).await? {
        Some(found) => fetch(calls, &found.id).await?.report().map(Some),
        None => Ok(None),
    }
}

/// Replaces the items by those of the change. Where they are so already nothing is sent: an earlier call did it, and its
/// key belongs to other parameters now.
async fn replace_prices(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    reference: &str,
    change: &SubscriptionChange,
) -> Result<SubscriptionReport, CallError> {
    let current = fetch(calls, reference).await?;
    let mut left: Vec<&Item> = current.items().iter().collect();
    let mut form = expanded().with(
        "proration_behavior",
        match change.proration {
            Proration::Now => "always_invoice",
            Proration::NextInvoice => "create_prorations",
            Proration::None => "none",
        },
    );
    let mut differs = false;
    for (index, (price, quantity)) in change.prices.iter().enumerate() {
        let kept = left.iter().position(|item| *item.price.id == **price).map(|position| left.remove(position));
        differs |= kept.is_none_or(|item| item.quantity != Some(*quantity));
        form = match kept {
            Some(item) => form.with(format!("items[{index}][id]"), &item.id),
            None => form.with(format!("items[{index}][price]"), price),
        };
        form = form.with(format!("items[{index}][quantity]"), quantity);
    }
    for (index, item) in left.iter().enumerate() {
        let index = change.prices.len() + index;
        form = form.with(format!("items[{index}][id]"), &item.id).with(format!("items[{index}][deleted]"), true);
    }
    if !differs && left.is_empty() {
        return current.report();
    }
    post(calls, &object_path("subscriptions", reference, "")?, form, operation).await
}

/// One that has ended cannot be ended, and Stripe says that it is missing; that is fine where it was to end.
async fn cancel(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    reference: &str,
    when: Cancellation,
) -> Result<SubscriptionReport, CallError> {
    let path = object_path("subscriptions", reference, "")?;
    let outcome = match when {
        Cancellation::Now => {
            let ended: Result<Subscription, _> = calls.delete(&path, expanded()).await;
            ended.and_then(|subscription| subscription.report())
        }
        Cancellation::AtPeriodEnd => post(calls, &path, expanded().with("cancel_at_period_end", true), operation).await,
        Cancellation::Undo => {
            return post(calls, &path, expanded().with("cancel_at_period_end", false), operation).await;
        }
    };
    match outcome {
        Err(error @ (CallError::Refused(_) | CallError::Failed(ProviderError::NotFound))) => {
            let current = fetch(calls, reference).await?;
            if current.has_ended() { current.report() } else { Err(error) }
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::script::{Script, error, key};
    use super::*;

    fn read(value: serde_json::Value) -> SubscriptionReport {
        serde_json::from_value::<Subscription>(value).unwrap().report().unwrap()
    }

    #[test]
    fn both_shapes_have_a_period() {
        let current = read(json!({
            "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": "incomplete",
            "items": {"object": "list", "data": [{
                "id": "si_1", "price": {"id": "price_1", "unit_amount": 2000}, "quantity": 3,
                "current_period_start": 1_767_225_600, "current_period_end": 1_769_904_000,
            }]},
            "trial_end": null, "cancel_at_period_end": false, "cancel_at": null, "canceled_at": null,
            "latest_invoice": {
                "id": "in_1", "customer": "cus_1", "status": "open", "total": 6000, "currency": "usd", "created": 1_767_225_600,
                "confirmation_secret": {"type": "payment_intent", "client_secret": "pi_1_secret_2"},
            },
            "metadata": {"farthing_subscription": "sub-of-ours"},
        }));
        assert_eq!(current.prices, [("price_1".into(), 3)]);
        assert_eq!(current.client_secret.as_deref(), Some("pi_1_secret_2"));
        assert_eq!(current.latest_invoice.as_deref(), Some("in_1"));
        assert_eq!(current.id.as_deref(), Some("sub-of-ours"));
        let before = read(json!({
            "id": "sub_1", "customer": {"id": "cus_1"}, "status": "active",
            "items": {"data": [{"id": "si_1", "price": {"id": "price_1"}}]},
            "current_period_start": 1_767_225_600, "current_period_end": 1_769_904_000,
            "cancel_at": 1_769_904_000, "latest_invoice": "in_1",
        }));
        assert_eq!(before.period, current.period);
        assert_eq!(before.period.unwrap().0.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!((current.cancel_at_period_end, before.cancel_at_period_end), (false, true));
        assert_eq!((before.latest_invoice.as_deref(), before.client_secret), (Some("in_1"), None));
    }

    #[test]
    fn a_state_that_is_new_is_kept_as_it_is() {
        let report = read(json!({"id": "sub_1", "customer": "cus_1", "status": "hibernating"}));
        assert_eq!((&*report.state, report.period, report.prices.len()), ("hibernating", None, 0));
    }

    #[tokio::test]
    async fn a_change_replaces_items_once() {
        let subscription =
            |items: Value| json!({"id": "sub_1", "customer": "cus_1", "status": "active", "items": {"data": items}});
        let item =
            |id: &str, price: &str, quantity: u32| json!({"id": id, "price": {"id": price}, "quantity": quantity});
        let before = subscription(json!([item("si_1", "price_a", 1), item("si_2", "price_b", 2)]));
        let after = subscription(json!([item("si_2", "price_b", 5), item("si_3", "price_c", 1)]));
        let script = Script::default().then(200, &[], &before).then(200, &[], &after).then(200, &[], &after);
        let stripe = script.serve().await;
        let prices = vec![("price_b".to_owned(), 5), ("price_c".to_owned(), 1)];
        let change = SubscriptionChange { prices, proration: crate::provider::Proration::Now };
        let changed = stripe.change(&key(), "sub_1", &change).await.outcome.unwrap();
        assert_eq!(changed.prices, [("price_b".into(), 5), ("price_c".into(), 1)]);
        assert_eq!(
            script.body(1),
            "expand[]=latest_invoice.confirmation_secret&expand[]=latest_invoice.payments&proration_behavior=always_invoice&items[0][id]=si_2\
             &items[0][quantity]=5&items[1][price]=price_c&items[1][quantity]=1&items[2][id]=si_1&items[2][deleted]=true"
        );
        assert_eq!(stripe.change(&key(), "sub_1", &change).await.outcome, Ok(changed));
        assert_eq!(script.lines().len(), 3, "the second time nothing was sent");
    }

    async fn cancel_now(script: &Script) -> Result<SubscriptionReport, ProviderError> {
        Subscriptions::cancel(&script.serve().await, &key(), "sub_1", Cancellation::Now).await.outcome
    }

    #[tokio::test]
    async fn one_that_has_ended_is_missing_and_that_is_fine() {
        let missing = error("invalid_request_error", Some("resource_missing"));
        let ended = json!({"id": "sub_1", "customer": "cus_1", "status": "canceled", "canceled_at": 1_767_225_600});
        let script = Script::default().then(404, &[], &missing).then(200, &[], &ended);
        let report = cancel_now(&script).await.unwrap();
        assert_eq!(&*report.state, "canceled");
        let script = Script::default().then(404, &[], &missing).then(404, &[], &missing);
        assert_eq!(cancel_now(&script).await, Err(ProviderError::NotFound));
        let script = Script::default().then(400, &[], &error("invalid_request_error", None));
        let undone = Subscriptions::cancel(&script.serve().await, &key(), "sub_1", Cancellation::Undo).await.outcome;
        assert!(matches!(undone, Err(ProviderError::Rejected(_))), "{undone:?}");
        assert!(script.body(0).ends_with("cancel_at_period_end=false"), "{}", script.body(0));
    }
}
