//! Payment methods on file (<https://docs.stripe.com/api/payment_methods>) and how a browser puts one there
//! (<https://docs.stripe.com/api/setup_intents>).

use std::sync::Arc;

use async_trait::async_trait;
use engine::report::{PaymentMethod, PaymentMethodsReport};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::{Expandable, Identified, WithSecret};
use super::{Stripe, object_path};
use crate::provider::{Exchanged, OperationKey, PaymentMethods, ProviderError, Setup};

/// A payment method. What is particular to its kind stands in a field that is named as the kind is.
#[derive(Deserialize)]
struct Method {
    id: Arc<str>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    customer: Option<Expandable<Identified>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Method {
    fn report(self) -> PaymentMethod {
        let details = self.rest.get(&self.kind);
        let text = |name: &str| details.and_then(|details| details.get(name)).and_then(Value::as_str);
        let number = |name: &str| details.and_then(|details| details.get(name)).and_then(Value::as_u64);
        let month = number("exp_month").and_then(|month| u8::try_from(month).ok());
        let year = number("exp_year").and_then(|year| u16::try_from(year).ok());
        PaymentMethod {
            brand: text("brand").unwrap_or(&self.kind).into(),
            last4: text("last4").map(Arc::from),
            expires: month.zip(year),
            reference: self.id,
        }
    }
}

/// A customer, as far as it is about payment methods.
#[derive(Deserialize)]
struct Payer {
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    invoice_settings: Option<InvoiceSettings>,
}

#[derive(Deserialize)]
struct InvoiceSettings {
    #[serde(default)]
    default_payment_method: Option<Expandable<Identified>>,
}

#[async_trait]
impl PaymentMethods for Stripe {
    async fn begin_setup(&self, operation: &OperationKey, customer: &str) -> Exchanged<Setup> {
        let mut calls = self.client.calls("begin_setup");
        let form = Form::new()
            .with("customer", customer)
            .with("usage", "off_session")
            .with("automatic_payment_methods[enabled]", true);
        let made = calls.post::<WithSecret>("/v1/setup_intents", form, operation).await;
        calls.end(made.map(|made| Setup { reference: made.id, client_secret: made.client_secret }))
    }

    async fn attach(&self, operation: &OperationKey, customer: &str, method: &str) -> Exchanged<Arc<str>> {
        let mut calls = self.client.calls("attach_payment_method");
        let outcome = attach(&mut calls, operation, customer, method).await;
        calls.end(outcome)
    }

    async fn detach(&self, operation: &OperationKey, method: &str) -> Exchanged<()> {
        let mut calls = self.client.calls("detach_payment_method");
        let outcome = detach(&mut calls, operation, method).await;
        calls.end(outcome)
    }

    async fn set_default(&self, operation: &OperationKey, customer: &str, method: Option<&str>) -> Exchanged<()> {
        let mut calls = self.client.calls("set_default_payment_method");
        let outcome = set_default(&mut calls, operation, customer, method).await;
        calls.end(outcome)
    }

    async fn list(&self, customer: &str, now: Timestamp) -> Exchanged<PaymentMethodsReport> {
        let mut calls = self.client.calls("list_payment_methods");
        let outcome = list(&mut calls, customer, now).await;
        calls.end(outcome)
    }
}

/// Stripe refuses to attach what is attached; whether that is as it should be, the method itself tells. What is attached may be
/// called otherwise than what was sent: Stripe's names for test cards stand for a new method each time.
async fn attach(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    customer: &str,
    method: &str,
) -> Result<Arc<str>, CallError> {
    let path = object_path("payment_methods", method, "/attach")?;
    let outcome = calls.post::<Identified>(&path, Form::new().with("customer", customer), operation).await;
    let refused = match outcome {
        Err(CallError::Refused(error)) if !error.is_decline() => error,
        outcome => return outcome.map(|attached| attached.id),
    };
    let current: Method = calls.get(&object_path("payment_methods", method, "")?, Form::new()).await?;
    match current.customer.as_ref().map(Expandable::id) {
        Some(owner) if &**owner == customer => Ok(current.id),
        Some(_) => Err(CallError::refused(
            "payment_method_of_another_customer",
            "The payment method belongs to another customer.",
        )),
        None => Err(CallError::Refused(refused)),
    }
}

/// Stripe refuses to detach what is detached.
async fn detach(calls: &mut Calls<'_>, operation: &OperationKey, method: &str) -> Result<(), CallError> {
    let path = object_path("payment_methods", method, "/detach")?;
    let refused = match calls.post::<Identified>(&path, Form::new(), operation).await {
        Err(CallError::Refused(error)) => error,
        outcome => return outcome.map(|_| ()),
    };
    let current: Method = calls.get(&object_path("payment_methods", method, "")?, Form::new()).await?;
    if current.customer.is_none() { Ok(()) } else { Err(CallError::Refused(refused)) }
}

async fn set_default(
    calls: &mut Calls<'_>,
    operation: &OperationKey,
    customer: &str,
    method: Option<&str>,
) -> Result<(), CallError> {
    // An empty text unsets.
    let form = Form::new().with("invoice_settings[default_payment_method]", method.unwrap_or(""));
    let outcome = calls.post::<Identified>(&object_path("customers", customer, "")?, form, operation).await;
    match outcome {
        Err(CallError::Refused(error)) if error.is("resource_missing") => Err(ProviderError::NotFound.into()),
        outcome => outcome.map(|_| ()),
    }
}

async fn list(calls: &mut Calls<'_>, customer: &str, now: Timestamp) -> Result<PaymentMethodsReport, CallError> {
    let payer: Payer = calls.get(&object_path("customers", customer, "")?, Form::new()).await?;
    if payer.deleted {
        return Err(ProviderError::NotFound.into());
    }
    let default = payer.invoice_settings.and_then(|settings| settings.default_payment_method);
    let path = object_path("customers", customer, "/payment_methods")?;
    let methods: Vec<Method> = calls.all(&path, Form::new()).await?;
    Ok(PaymentMethodsReport {
        seen_at: now,
        methods: methods.into_iter().map(Method::report).collect(),
        default: default.map(|default| default.id().clone()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::script::{Script, error, key};
    use super::*;

    #[test]
    fn a_method_of_any_kind_is_reported() {
        let read = |value: Value| serde_json::from_value::<Method>(value).unwrap().report();
        let card = read(json!({
            "id": "pm_1", "object": "payment_method", "type": "card", "customer": {"id": "cus_1", "object": "customer"},
            "card": {"brand": "visa", "last4": "4242", "exp_month": 8, "exp_year": 2030},
        }));
        assert_eq!((&*card.brand, card.last4.as_deref(), card.expires), ("visa", Some("4242"), Some((8, 2030))));
        let debit = read(json!({"id": "pm_2", "type": "sepa_debit", "sepa_debit": {"last4": "3000"}}));
        assert_eq!((&*debit.brand, debit.last4.as_deref(), debit.expires), ("sepa_debit", Some("3000"), None));
        let link = read(json!({"id": "pm_3", "type": "link", "customer": null, "link": {"email": "a@example.com"}}));
        assert_eq!((&*link.brand, link.last4, link.expires), ("link", None, None));
    }

    #[tokio::test]
    async fn a_method_is_attached_where_it_is_attached_already() {
        let refused = error("invalid_request_error", Some("resource_already_exists"));
        let method = |customer: Option<&str>| json!({"id": "pm_1", "type": "card", "customer": customer});
        for (customer, expected) in [
            (Some("cus_1"), None),
            (Some("cus_2"), Some("payment_method_of_another_customer")),
            (None, Some("resource_already_exists")),
        ] {
            let script = Script::default().then(400, &[], &refused).then(200, &[], &method(customer));
            let outcome = script.serve().await.attach(&key(), "cus_1", "pm_1").await.outcome;
            match expected {
                None => assert_eq!(outcome.as_deref(), Ok("pm_1")),
                Some(code) => {
                    assert!(matches!(&outcome, Err(ProviderError::Rejected(f)) if &*f.code == code), "{outcome:?}")
                }
            }
        }
        let declined = Script::default().then(402, &[], &error("card_error", Some("card_declined")));
        let outcome = declined.serve().await.attach(&key(), "cus_1", "pm_1").await.outcome;
        assert!(matches!(&outcome, Err(ProviderError::Rejected(f)) if &*f.code == "card_declined"), "{outcome:?}");
        assert_eq!(declined.lines().len(), 1);
    }

    #[tokio::test]
    async fn a_method_is_off_the_file_where_it_is_off_already() {
        let refused = error("invalid_request_error", None);
        let script = Script::default().then(400, &[], &refused).then(200, &[], &json!({"id": "pm_1", "type": "card"}));
        assert_eq!(script.serve().await.detach(&key(), "pm_1").await.outcome, Ok(()));
        let script = Script::default().then(404, &[], &error("invalid_request_error", Some("resource_missing")));
        assert_eq!(script.serve().await.detach(&key(), "pm_1").await.outcome, Err(ProviderError::NotFound));
    }
}
