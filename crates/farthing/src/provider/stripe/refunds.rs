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
