//! Invoices that Stripe keeps (<https://docs.stripe.com/api/invoices>). Since 2025-03-31.basil the subscription is in
//! `parent` and the payment in lists of its own; both shapes are read.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::amount::{from_stripe, minor_from_stripe, minor_to_stripe, to_stripe};
use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::{Expandable, INVOICE_KEY, Identified, List, Metadata, PaymentIntent, own_id, time};
use super::{Stripe, object_path};
use crate::provider::{Exchanged, InvoiceReport, Invoices, Money, NewInvoice, OperationKey, ProviderError};

/// What a browser pays the newest invoice of a subscription with.
pub(super) const LATEST_INVOICE_SECRET: &str = "latest_invoice.confirmation_secret";
/// The payments of that.
pub(super) const LATEST_INVOICE_PAYMENTS: &str = "latest_invoice.payments";
/// The metadata key of the number of a line.
const LINE_KEY: &str = "farthing_line";
/// What a browser pays an invoice with.
const SECRET: &str = "confirmation_secret";
/// The payments of an invoice.
const PAYMENTS: &str = "payments";

#[derive(Clone, Deserialize, Debug)]
pub(super) struct Invoice {
    pub(super) id: Arc<str>,
    customer: Expandable<Identified>,
    #[serde(default)]
    number: Option<Arc<str>>,
    #[serde(default)]
    billing_reason: Option<Arc<str>>,
    #[serde(default)]
    status: Option<Arc<str>>,
    total: i64,
    currency: String,
    #[serde(default)]
    amount_due: Option<i64>,
    #[serde(default)]
    amount_paid: Option<i64>,
    #[serde(default)]
    total_taxes: Option<Vec<Tax>>,
    #[serde(default)]
    payments: Option<List<InvoicePayment>>,
    #[serde(default)]
    parent: Option<Parent>,
    #[serde(default)]
    subscription: Option<Expandable<Identified>>,
    #[serde(default)]
    hosted_invoice_url: Option<Arc<str>>,
    #[serde(default)]
    invoice_pdf: Option<Arc<str>>,
    created: i64,
    #[serde(default)]
    confirmation_secret: Option<ConfirmationSecret>,
    #[serde(default)]
    payment_intent: Option<Expandable<PaymentIntent>>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Clone, Deserialize, Debug)]
struct Parent {
    #[serde(default)]
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Clone, Deserialize, Debug)]
struct SubscriptionDetails {
    #[serde(default)]
    subscription: Option<Expandable<Identified>>,
}

#[derive(Clone, Deserialize, Debug)]
struct ConfirmationSecret {
    #[serde(default)]
    client_secret: Option<Arc<str>>,
}

#[derive(Clone, Deserialize, Debug)]
struct Tax {
    amount: i64,
}

/// A line of an invoice, before it is one (<https://docs.stripe.com/api/invoiceitems>).
#[derive(Clone, Deserialize, Debug)]
struct InvoiceItem {
    #[serde(default)]
    metadata: Metadata,
}

/// Which payment pays an invoice (<https://docs.stripe.com/api/invoice-payment>).
#[derive(Clone, Deserialize, Debug)]
struct InvoicePayment {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    payment: Option<PaymentOfInvoice>,
}

#[derive(Clone, Deserialize, Debug)]
struct PaymentOfInvoice {
    #[serde(default)]
    payment_intent: Option<Expandable<Identified>>,
}

impl Invoice {
    /// The payment that has paid it, or is to, or was to.
    fn payment(&self) -> Option<Arc<str>> {
        let payments: &[InvoicePayment] = self.payments.as_ref().map_or(&[], |payments| &payments.data);
        let of = |status: Option<&str>| {
            let mut wanted = payments.iter().filter(|payment| status.is_none() || payment.status.as_deref() == status);
            wanted.find_map(|payment| payment.payment.as_ref()?.payment_intent.as_ref())
        };
        let listed = of(Some("paid")).or_else(|| of(Some("open"))).or_else(|| of(None));
        let before = || match self.payment_intent.as_ref()? {
            Expandable::Id(id) => Some(id.clone()),
            Expandable::Object(intent) => Some(intent.id.clone()),
        };
        listed.map(|payment| payment.id().clone()).or_else(before)
    }

    /// What a browser pays it with, where it is in the reply.
    pub(super) fn client_secret(&self) -> Option<Arc<str>> {
        let secret = self.confirmation_secret.as_ref().and_then(|secret| secret.client_secret.clone());
        let payment = || self.payment_intent.as_ref().and_then(Expandable::object);
        secret.or_else(|| payment().and_then(|payment| payment.client_secret.clone()))
    }

    pub(super) fn report(&self) -> Result<InvoiceReport, CallError> {
        let details = self.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
        let subscription = details.and_then(|details| details.subscription.as_ref()).or(self.subscription.as_ref());
        let total = from_stripe(self.total, &self.currency)?;
        let minor = |amount: i64| minor_from_stripe(amount, total.currency.as_str());
        let taxes = self.total_taxes.iter().flatten().map(|tax| minor(tax.amount)).collect::<Result<Vec<_>, _>>()?;
        Ok(InvoiceReport {
            reference: self.id.clone(),
            customer: self.customer.id().clone(),
            number: self.number.clone(),
            state: self.status.clone().unwrap_or_else(|| "draft".into()),
            due: minor(self.amount_due.unwrap_or(self.total))?,
            paid: minor(self.amount_paid.unwrap_or(0))?,
            tax: taxes.into_iter().fold(0, i64::saturating_add),
            payment: self.payment(),
            begins_period: matches!(self.billing_reason.as_deref(), Some("subscription_create" | "subscription_cycle")),
            total,
            subscription: subscription.map(|subscription| subscription.id().clone()),
            page: self.hosted_invoice_url.clone(),
            pdf: self.invoice_pdf.clone(),
            created_at: time(self.created)?,
            client_secret: self.client_secret(),
            id: own_id(&self.metadata, INVOICE_KEY),
        })
    }

    fn is(&self, state: &str) -> bool {
        self.status.as_deref() == Some(state)
    }
}

#[async_trait]
impl Invoices for Stripe {
    async fn create(&self, operation: &OperationKey, invoice: &NewInvoice) -> Exchanged<InvoiceReport> {
        let mut calls = self.client.calls("create_invoice");
        let outcome = create(&mut calls, operation, invoice).await;
        calls.end(outcome)
    }

    async fn collect(&self, operation: &OperationKey, reference: &str, method: &str) -> Exchanged<InvoiceReport> {
        let mut calls = self.client.calls("collect_invoice");
        let outcome = pay(&mut calls, operation, reference, method).await;
        calls.end(outcome)
    }

    async fn find(&self, customer: &str, id: &str) -> Exchanged<Option<InvoiceReport>> {
        let mut calls = self.client.calls("find_invoice");
        let outcome = match find(&mut calls, customer, id).await {
            Ok(Some(found)) => fetch(&mut calls, &found.id).await.and_then(|invoice| invoice.report().map(Some)),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        calls.end(outcome)
    }

    async fn discard(&self, reference: &str) -> Exchanged<()> {
        let mut calls = self.client.calls("discard_invoice");
        let outcome = match object_path("invoices", reference, "") {
            Ok(path) => calls.delete::<Identified>(&path, Form::new()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        calls.end(outcome)
    }

    async fn get(&self, reference: &str) -> Exchanged<InvoiceReport> {
        let mut calls = self.client.calls("get_invoice");
        let current = fetch(&mut calls, reference).await;
        calls.end(current.and_then(|invoice| invoice.report()))
    }

    async fn list(&self, customer: &str, limit: u8) -> Exchanged<Vec<InvoiceReport>> {
        let mut calls = self.client.calls("list_invoices");
        let form = Form::new().with("customer", customer).with("limit", limit.clamp(1, 100));
        let page: Result<List<Invoice>, _> = calls.get("/v1/invoices", form).await;
        calls.end(page.and_then(|page| page.data.iter().map(Invoice::report).collect()))
    }

    async fn void(&self, operation: &OperationKey, reference: &str) -> Exchanged<InvoiceReport> {
        let mut calls = self.client.calls("void_invoice");
        let outcome = void(&mut calls, operation, reference).await;
        calls.end(outcome)
    }
}

async fn fetch(calls: &mut Calls<'_>, reference: &str) -> Result<Invoice, CallError> {
    calls.get(&object_path("invoices", reference, "")?, Form::new().expand(SECRET).expand(PAYMENTS)).await
}

/// Makes the invoice, puts its lines on it, finalizes it and pays it: each step under a key of its own, so that a repeat
/// goes on where the one before ended.
async fn create(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    invoice: &NewInvoice,
) -> Result<InvoiceReport, CallError> {
    let (_, currency) = to_stripe(&Money { minor: 0, currency: invoice.currency.clone() })?;
    let form = Form::new()
        .with("customer", &invoice.customer)
        .with("currency", &currency)
        .with("auto_advance", false)
        .with("pending_invoice_items_behavior", "exclude")
        .with("description", &invoice.description)
        .with("metadata[period_start]", invoice.period.0)
        .with("metadata[period_end]", invoice.period.1)
        .with(format!("metadata[{INVOICE_KEY}]"), &invoice.id);
    let made: Result<Identified, _> = calls.post("/v1/invoices", form, &operation.step("invoice")).await;
    let reference = match made {
        Err(error) if is_kept_failure(calls, &error) => {
            let found = find(calls, &invoice.customer, &invoice.id).await.ok().flatten();
            found.map(|found| found.id).ok_or(error)?
        }
        made => made?.id,
    };
    if let Err(error) = fill_and_finalize(calls, operation, invoice, &reference, &currency).await {
        if let CallError::Refused(_) = error {
            // A draft that cannot be finished would lie about for ever. That it is gone, or is none any more, is fine.
            let path = object_path("invoices", &reference, "")?;
            let _ = calls.delete::<Identified>(&path, Form::new()).await;
        }
        return Err(error);
    }
    let current = fetch(calls, &reference).await?;
    match &invoice.method {
        Some(method) if current.is("open") => pay(calls, &operation.step("pay"), &reference, method).await,
        // A total of nothing is paid as soon as it is final.
        _ => current.report(),
    }
}

/// Tries to pay an open invoice without its customer. What is declined stays open, and says so.
async fn pay(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    reference: &str,
    method: &str,
) -> Result<InvoiceReport, CallError> {
    let form = Form::new().with("payment_method", method).with("off_session", true);
    match calls.post::<Identified>(&object_path("invoices", reference, "/pay")?, form, operation).await {
        Ok(_) | Err(CallError::Refused(_)) => fetch(calls, reference).await?.report(),
        // Whether it is paid, it says itself.
        Err(error) if is_kept_failure(calls, &error) => fetch(calls, reference).await?.report(),
        Err(error) => Err(error),
    }
}

/// Whether Stripe keeps a failure of its own under the key, as it keeps any answer, although it may have done what was asked:
/// then what is there has to tell (<https://docs.stripe.com/api/idempotent_requests>).
fn is_kept_failure(calls: &Calls<'_>, error: &CallError) -> bool {
    calls.was_replayed() && matches!(error, CallError::Failed(ProviderError::Unavailable(_)))
}

async fn find(calls: &mut Calls<'_>, customer: &str, id: &str) -> Result<Option<Invoice>, CallError> {
    let is_it = |invoice: &Invoice| own_id(&invoice.metadata, INVOICE_KEY).as_deref() == Some(id);
    calls.first("/v1/invoices", Form::new().with("customer", customer), is_it).await
}

async fn fill_and_finalize(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    invoice: &NewInvoice,
    reference: &str,
    currency: &str,
) -> Result<(), CallError> {
    for (index, (description, minor)) in invoice.lines.iter().enumerate() {
        let form = Form::new()
            .with("customer", &invoice.customer)
            .with("invoice", reference)
            .with("currency", currency)
            .with("amount", minor_to_stripe(*minor, invoice.currency.as_str())?)
            .with("description", description)
            .with(format!("metadata[{LINE_KEY}]"), index);
        let key = operation.step(&format!("line_{index}"));
        match calls.post::<Identified>("/v1/invoiceitems", form, &key).await {
            Err(error) if is_kept_failure(calls, &error) && has_line(calls, reference, index).await => {}
            made => {
                made?;
            }
        }
    }
    let path = object_path("invoices", reference, "/finalize")?;
    let form = Form::new().with("auto_advance", false);
    match calls.post::<Identified>(&path, form, &operation.step("finalize")).await {
        Err(error) if is_kept_failure(calls, &error) => {
            if fetch(calls, reference).await?.is("draft") {
                Err(error)
            } else {
                Ok(())
            }
        }
        finalized => finalized.map(|_| ()),
    }
}

/// Whether a line is on an invoice; what cannot be asked is taken for no.
async fn has_line(calls: &mut Calls<'_>, reference: &str, index: usize) -> bool {
    let wanted = index.to_string();
    let is_it = |item: &InvoiceItem| own_id(&item.metadata, LINE_KEY).as_deref() == Some(&*wanted);
    let found = calls.first("/v1/invoiceitems", Form::new().with("invoice", reference), is_it).await;
    found.is_ok_and(|item| item.is_some())
}

/// One that is void already is fine.
async fn void(calls: &mut Calls<'_>, operation: &OperationKey, reference: &str) -> Result<InvoiceReport, CallError> {
    let path = object_path("invoices", reference, "/void")?;
    let mut outcome = calls.post::<Identified>(&path, Form::new(), operation).await;
    let is_kept = outcome.as_ref().is_err_and(|error| is_kept_failure(calls, error));
    outcome = match outcome {
        Err(CallError::Failed(error)) if !is_kept => return Err(error.into()),
        outcome => outcome,
    };
    let current = fetch(calls, reference).await?;
    match outcome {
        Err(refused) if !current.is("void") => Err(refused),
        _ => current.report(),
    }
}

#[cfg(test)]
mod tests {
    use engine::Asset;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::super::script::{Script, error, key};
    use super::*;
    use crate::provider::ProviderError;

    #[test]
    fn both_shapes_name_the_subscription_and_the_secret() {
        let read = |value| serde_json::from_value::<Invoice>(value).unwrap().report().unwrap();
        let current = read(json!({
            "id": "in_1", "object": "invoice", "customer": "cus_1", "number": "A-0001", "status": "open",
            "total": 1999, "currency": "usd", "amount_paid": 0, "created": 1_767_225_600,
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
            "confirmation_secret": {"type": "payment_intent", "client_secret": "pi_1_secret_2"},
            "payments": {"object": "list", "data": [
                {"status": "open", "payment": {"type": "payment_intent", "payment_intent": "pi_1"}},
            ]},
            "hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://invoice.stripe.com/i/1/pdf",
            "metadata": {"farthing_invoice": "inv-1"},
        }));
        let before = read(json!({
            "id": "in_1", "customer": {"id": "cus_1"}, "number": "A-0001", "status": "open", "paid": false,
            "total": 1999, "currency": "usd", "created": 1_767_225_600, "subscription": "sub_1",
            "payment_intent": {
                "id": "pi_1", "amount": 1999, "currency": "usd", "client_secret": "pi_1_secret_2", "status": "requires_action",
            },
            "hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://invoice.stripe.com/i/1/pdf",
            "metadata": {"farthing_invoice": "inv-1"},
        }));
        assert_eq!(current, before);
        assert_eq!((current.subscription.as_deref(), current.total.minor), (Some("sub_1"), 1999));
        assert_eq!(current.client_secret.as_deref(), Some("pi_1_secret_2"));
    }

    fn invoice(state: &str) -> Value {
        json!({
            "id": "in_1", "customer": "cus_1", "status": state, "total": 1999, "currency": "usd",
            "amount_paid": if state == "paid" { 1999 } else { 0 }, "created": 1_767_225_600,
        })
    }

    fn order() -> NewInvoice {
        NewInvoice {
            id: "inv-1".to_owned(),
            customer: "cus_1".into(),
            currency: Asset::new("USD"),
            description: "Usage".to_owned(),
            period: (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            lines: vec![("Minutes".to_owned(), 1500), ("Numbers".to_owned(), 499)],
            method: Some("pm_1".into()),
        }
    }

    #[tokio::test]
    async fn each_step_has_a_key_of_its_own() {
        let made = json!({"id": "in_1"});
        let item = json!({"id": "ii_1"});
        let script = [&made, &item, &item, &made, &invoice("open"), &made, &invoice("paid")]
            .into_iter()
            .fold(Script::default(), |script, answer| script.then(200, &[], answer));
        let report = Invoices::create(&script.serve().await, &key(), &order()).await.outcome.unwrap();
        assert_eq!((&*report.state, report.paid), ("paid", 1999));
        let steps: Vec<_> = script.keys().into_iter().map(|key| key.map(|key| key[41..].to_owned())).collect();
        let step = |name: &str| Some(format!("_{name}"));
        let expected = [step("invoice"), step("line_0"), step("line_1"), step("finalize"), None, step("pay"), None];
        assert_eq!(steps, expected);
        assert_eq!(
            script.body(0),
            "customer=cus_1&currency=usd&auto_advance=false&pending_invoice_items_behavior=exclude&description=Usage\
             &metadata[period_start]=1970-01-01T00:00:00Z&metadata[period_end]=1970-01-01T00:00:00Z\
             &metadata[farthing_invoice]=inv-1"
        );
        assert_eq!(
            script.body(2),
            "customer=cus_1&invoice=in_1&currency=usd&amount=499&description=Numbers&metadata[farthing_line]=1"
        );
        assert_eq!(script.body(5), "payment_method=pm_1&off_session=true");
    }

    #[tokio::test]
    async fn an_invoice_whose_payment_is_declined_stays_open() {
        let declined = error("card_error", Some("card_declined"));
        let made = json!({"id": "in_1"});
        let script = [&made, &made, &made, &made, &invoice("open")]
            .into_iter()
            .fold(Script::default(), |script, answer| script.then(200, &[], answer));
        let script = script.then(402, &[], &declined).then(200, &[], &invoice("open"));
        let report = Invoices::create(&script.serve().await, &key(), &order()).await.outcome.unwrap();
        assert_eq!((&*report.reference, &*report.state, report.paid), ("in_1", "open", 0));
    }

    #[tokio::test]
    async fn a_draft_that_cannot_be_finished_is_deleted() {
        let script = Script::default()
            .then(200, &[], &json!({"id": "in_1"}))
            .then(400, &[], &error("invalid_request_error", Some("parameter_invalid_integer")))
            .then(200, &[], &json!({"id": "in_1", "deleted": true}));
        let outcome = Invoices::create(&script.serve().await, &key(), &order()).await.outcome;
        assert!(matches!(outcome, Err(ProviderError::Rejected(_))), "{outcome:?}");
        assert_eq!(script.lines(), ["POST /v1/invoices", "POST /v1/invoiceitems", "DELETE /v1/invoices/in_1"]);
    }

    #[tokio::test]
    async fn an_invoice_that_is_settled_is_not_collected_again() {
        let refused = error("invalid_request_error", None);
        let script = Script::default().then(400, &[], &refused).then(200, &[], &invoice("paid"));
        let report = script.serve().await.collect(&key(), "in_1", "pm_1").await.outcome.unwrap();
        assert_eq!((&*report.state, report.paid), ("paid", 1999));
    }

    #[tokio::test]
    async fn an_invoice_is_found_by_our_id() {
        let mine = json!({"metadata": {"farthing_invoice": "inv-1"}});
        let mut found = invoice("draft");
        found.as_object_mut().unwrap().extend(mine.as_object().unwrap().clone());
        let list = json!({"object": "list", "data": [invoice("open"), found], "has_more": false});
        let script = Script::default().then(200, &[], &list).then(200, &[], &found);
        let found = Invoices::find(&script.serve().await, "cus_1", "inv-1").await.outcome.unwrap().unwrap();
        assert_eq!((&*found.state, found.id.as_deref()), ("draft", Some("inv-1")));
    }

    #[tokio::test]
    async fn what_is_void_is_not_voided_again() {
        let refused = error("invalid_request_error", None);
        for (state, fine) in [("void", true), ("paid", false)] {
            let script = Script::default().then(400, &[], &refused).then(200, &[], &invoice(state));
            let outcome = script.serve().await.void(&key(), "in_1").await.outcome;
            assert_eq!(outcome.is_ok(), fine, "{outcome:?}");
        }
    }
}
