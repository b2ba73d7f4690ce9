//! Payments: payment intents (<https://docs.stripe.com/api/payment_intents>), and checkout sessions where the customer pays
//! on a page of Stripe's (<https://docs.stripe.com/api/checkout/sessions>). The kind of a payment shows in its id.

use std::sync::Arc;

use async_trait::async_trait;
use engine::report::{PaymentReport, Progress, RefundReport};

use super::amount::to_stripe;
use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::{
    CheckoutSession, Dispute, Expandable, Identified, List, PAYMENT_KEY, PaymentIntent, Refund, own_id,
};
use super::{Stripe, object_path};
use crate::provider::{Collection, Exchanged, NewPayment, OperationKey, Payments, ProviderError};

#[cfg(test)]
mod tests;

/// Where a page's payment has its charge.
const PAGE_CHARGE: &str = "payment_intent.latest_charge";

#[async_trait]
impl Payments for Stripe {
    async fn create(&self, operation: &OperationKey, payment: &NewPayment) -> Exchanged<PaymentReport> {
        let mut calls = self.client.calls("create_payment");
        let outcome = create(&mut calls, operation, payment).await;
        calls.end(outcome)
    }

    async fn get(&self, reference: &str) -> Exchanged<PaymentReport> {
        let mut calls = self.client.calls("get_payment");
        let outcome = get(&mut calls, reference).await;
        calls.end(outcome)
    }

    async fn cancel(&self, operation: &OperationKey, reference: &str) -> Exchanged<PaymentReport> {
        let mut calls = self.client.calls("cancel_payment");
        let outcome = cancel(&mut calls, operation, reference).await;
        calls.end(outcome)
    }

    async fn find(&self, customer: &str, id: &str) -> Exchanged<Option<PaymentReport>> {
        let mut calls = self.client.calls("find_payment");
        let outcome = find(&mut calls, customer, id).await;
        calls.end(outcome)
    }
}

/// Stripe keeps a failure of its own under the key as it keeps any answer, for a day at least, although it may have made
/// the payment; whether it has, our id tells.
async fn create(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    payment: &NewPayment,
) -> Result<PaymentReport, CallError> {
    match make(calls, operation, payment).await {
        // An earlier answer tells how the payment was then.
        Ok(report) if calls.was_replayed() => get(calls, &report.reference).await,
        Err(CallError::Failed(ProviderError::Unavailable(reason))) if calls.was_replayed() => {
            // Whatever keeps it from being found, nothing has been refused.
            let found = find(calls, &payment.customer, &payment.id).await.ok().flatten();
            found.ok_or_else(|| ProviderError::Unavailable(reason).into())
        }
        outcome => outcome,
    }
}

async fn make(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    payment: &NewPayment,
) -> Result<PaymentReport, CallError> {
    let (amount, currency) = to_stripe(&payment.amount)?;
    if let Collection::Page { success_url, cancel_url } = &payment.collection {
        let form = page_form(payment, amount, &currency).with("success_url", success_url);
        let form = form.with("cancel_url", cancel_url);
        return calls.post::<CheckoutSession>("/v1/checkout/sessions", form, operation).await?.report();
    }
    let form = intent_form(payment, amount, &currency);
    match calls.post::<PaymentIntent>("/v1/payment_intents", form, operation).await {
        Err(CallError::Refused(error)) if error.is_decline() => match &error.payment_intent {
            // Declined, and kept: the customer can go on with this payment.
            Some(intent) => {
                let report = intent.report()?;
                Ok(PaymentReport { failure: Some(report.failure.unwrap_or_else(|| error.failure())), ..report })
            }
            None => Err(CallError::Refused(error)),
        },
        outcome => outcome?.report(),
    }
}

fn page_form(payment: &NewPayment, amount: i64, currency: &str) -> Form {
    with_notes(payment)
        .with("mode", "payment")
        .with("ui_mode", "hosted_page")
        .with("customer", &payment.customer)
        .with("line_items[0][quantity]", 1)
        .with("line_items[0][price_data][currency]", currency)
        .with("line_items[0][price_data][unit_amount]", amount)
        .with("line_items[0][price_data][product_data][name]", &payment.description)
        .with(format!("metadata[{PAYMENT_KEY}]"), &payment.id)
        .with(format!("payment_intent_data[metadata][{PAYMENT_KEY}]"), &payment.id)
}

/// The caller's notes; none of them can be our own id.
fn with_notes(payment: &NewPayment) -> Form {
    let notes = payment.metadata.iter().filter(|(name, _)| **name != *PAYMENT_KEY);
    notes.fold(Form::new(), |form, (name, text)| form.with(format!("metadata[{name}]"), text))
}

fn intent_form(payment: &NewPayment, amount: i64, currency: &str) -> Form {
    let description = Some(&payment.description).filter(|text| !text.is_empty());
    let form = with_notes(payment)
        .with("customer", &payment.customer)
        .with("amount", amount)
        .with("currency", currency)
        .with_some("description", description)
        .with(format!("metadata[{PAYMENT_KEY}]"), &payment.id)
        .with("automatic_payment_methods[enabled]", true);
    match &payment.collection {
        // Nobody is there to be sent to a bank's page.
        Collection::OffSession { method } => form
            .with("automatic_payment_methods[allow_redirects]", "never")
            .with("payment_method", method)
            .with("confirm", true)
            .with("off_session", true),
        Collection::OnSession { save_method: true } => form.with("setup_future_usage", "off_session"),
        Collection::OnSession { save_method: false } | Collection::Page { .. } => form,
    }
}

/// Whether a reference is of a page.
fn is_page(reference: &str) -> bool {
    reference.starts_with("cs_")
}

async fn get(calls: &mut Calls<'_>, reference: &str) -> Result<PaymentReport, CallError> {
    if is_page(reference) {
        let path = object_path("checkout/sessions", reference, "")?;
        let session: CheckoutSession = calls.get(&path, Form::new().expand(PAGE_CHARGE)).await?;
        let report = session.report()?;
        return match session.payment_intent.as_ref().and_then(Expandable::object) {
            Some(intent) => with_details(calls, report, intent).await,
            None => Ok(report),
        };
    }
    let intent: PaymentIntent = calls.get(&intent_path(reference, "")?, Form::new().expand("latest_charge")).await?;
    let report = intent.report()?;
    with_details(calls, report, &intent).await
}

fn intent_path(reference: &str, action: &str) -> Result<String, CallError> {
    object_path("payment_intents", reference, action)
}

/// With the refunds of a payment that came in, and its dispute. Refunds are always asked for, because one that failed
/// no longer shows in the charge.
async fn with_details(
    calls: &mut Calls<'_>,
    mut report: PaymentReport,
    intent: &PaymentIntent,
) -> Result<PaymentReport, CallError> {
    if report.progress == Progress::Paid {
        report.refunds = refunds(calls, &intent.id).await?;
    }
    with_dispute(calls, report, intent).await
}

/// With what the charge shows that there is, for many payments at a time.
pub(super) async fn with_details_shown(
    calls: &mut Calls<'_>,
    mut report: PaymentReport,
    intent: &PaymentIntent,
) -> Result<PaymentReport, CallError> {
    let charge = intent.latest_charge.as_ref().and_then(Expandable::object);
    if charge.and_then(|charge| charge.amount_refunded).is_some_and(|amount| amount > 0) {
        report.refunds = refunds(calls, &intent.id).await?;
    }
    with_dispute(calls, report, intent).await
}

async fn with_dispute(
    calls: &mut Calls<'_>,
    mut report: PaymentReport,
    intent: &PaymentIntent,
) -> Result<PaymentReport, CallError> {
    let charge = intent.latest_charge.as_ref().and_then(Expandable::object);
    if charge.and_then(|charge| charge.disputed) == Some(true) {
        let form = Form::new().with("payment_intent", &intent.id);
        let disputes: List<Dispute> = calls.get("/v1/disputes", form).await?;
        let disputes: Vec<_> = disputes.data.iter().map(Dispute::report).collect::<Result<_, _>>()?;
        report.dispute = disputes.into_iter().flatten().next();
    }
    Ok(report)
}

async fn refunds(calls: &mut Calls<'_>, intent: &str) -> Result<Vec<RefundReport>, CallError> {
    let refunds: Vec<Refund> = calls.all("/v1/refunds", Form::new().with("payment_intent", intent)).await?;
    refunds.iter().map(Refund::report).collect()
}

/// A payment in a state that cannot be cancelled is refused; that is fine where it has ended.
async fn cancel(calls: &mut Calls<'_>, operation: &OperationKey, reference: &str) -> Result<PaymentReport, CallError> {
    let refused = if is_page(reference) {
        let path = object_path("checkout/sessions", reference, "/expire")?;
        calls.post::<Identified>(&path, Form::new(), operation).await.err()
    } else {
        calls.post::<Identified>(&intent_path(reference, "/cancel")?, Form::new(), operation).await.err()
    };
    if let Some(CallError::Failed(error)) = refused {
        return Err(error.into());
    }
    let report = get(calls, reference).await?;
    match refused {
        Some(refused) if !matches!(report.progress, Progress::Paid | Progress::Canceled) => Err(refused),
        _ => Ok(report),
    }
}

/// Lists, because Stripe's search lags behind by up to a minute (<https://docs.stripe.com/search#data-freshness>). Pages
/// come first: their payments carry the same id of ours, and are known by their pages.
async fn find(calls: &mut Calls<'_>, customer: &str, id: &str) -> Result<Option<PaymentReport>, CallError> {
    let form = Form::new().with("customer", customer);
    let is_it = |metadata: &_| own_id(metadata, PAYMENT_KEY).as_deref() == Some(id);
    let page = |session: &CheckoutSession| is_it(&session.metadata);
    let intent = |intent: &PaymentIntent| is_it(&intent.metadata);
    let found = match calls.first("/v1/checkout/sessions", form.clone(), page).await? {
        Some(session) => Some(session.id),
        None => calls.first("/v1/payment_intents", form, intent).await?.map(|intent| intent.id),
    };
    match found {
        Some(reference) => get(calls, &reference).await.map(Some),
        None => Ok(None),
    }
}

/// The payment intent of a payment, with its currency in Stripe's spelling.
pub(super) async fn intent_of(calls: &mut Calls<'_>, reference: &str) -> Result<(Arc<str>, String), CallError> {
    let intent = if is_page(reference) {
        let path = object_path("checkout/sessions", reference, "")?;
        let session: CheckoutSession = calls.get(&path, Form::new().expand("payment_intent")).await?;
        match session.payment_intent {
            Some(Expandable::Object(intent)) => *intent,
            Some(Expandable::Id(_)) => {
                return Err(ProviderError::Unreadable("the payment of the page is not in the reply".to_owned()).into());
            }
            None => return Err(CallError::refused("payment_not_paid", "Nothing has been paid on this page.")),
        }
    } else {
        calls.get(&intent_path(reference, "")?, Form::new()).await?
    };
    Ok((intent.id, intent.currency))
}
