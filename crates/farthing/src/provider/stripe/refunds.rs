//! Refunds (<https://docs.stripe.com/api/refunds>).

use async_trait::async_trait;
use engine::report::RefundReport;

use super::amount::minor_to_stripe;
use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::{REFUND_KEY, Refund};
use super::payments::intent_of;
use super::{Stripe, object_path};
use crate::provider::{Exchanged, NewRefund, OperationKey, Refunds};

#[async_trait]
impl Refunds for Stripe {
    async fn create(&self, operation: &OperationKey, refund: &NewRefund) -> Exchanged<RefundReport> {
        let mut calls = self.client.calls("create_refund");
        let outcome = create(&mut calls, operation, refund).await;
        calls.end(outcome)
    }
}

/// The payment is read first: its currency says how the amount is counted, and a page is refunded by its payment.
async fn create(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    refund: &NewRefund,
) -> Result<RefundReport, CallError> {
    let (intent, currency) = intent_of(calls, &refund.payment).await?;
    let form = Form::new()
        .with("payment_intent", intent)
        .with("amount", minor_to_stripe(refund.minor, &currency.to_ascii_uppercase())?)
        .with(format!("metadata[{REFUND_KEY}]"), &refund.id);
    let made: Refund = calls.post("/v1/refunds", form, operation).await?;
    if calls.was_replayed() {
        // An earlier answer tells how the refund was then.
        let current: Refund = calls.get(&object_path("refunds", &made.id, "")?, Form::new()).await?;
        return current.report();
    }
    made.report()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::script::{Script, key};
    use super::*;

    #[tokio::test]
    async fn a_refund_is_counted_in_the_currency_of_its_payment() {
        let krona = json!({"id": "pi_1", "amount": 50_000, "currency": "isk", "status": "succeeded"});
        let refund = json!({"id": "re_1", "amount": 500, "currency": "isk", "status": "failed", "failure_reason": "lost_or_stolen_card"});
        let script = Script::default().then(200, &[], &krona).then(200, &[], &refund);
        let order = NewRefund { id: "r-1".to_owned(), payment: "pi_1".into(), minor: 5 };
        let report = Refunds::create(&script.serve().await, &key(), &order).await.outcome.unwrap();
        assert_eq!(script.body(1), "payment_intent=pi_1&amount=500&metadata[farthing_refund]=r-1");
        assert_eq!((report.minor, report.failure.map(|failure| failure.code)), (5, Some("lost_or_stolen_card".into())));
    }
}
