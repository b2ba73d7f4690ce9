//! Customers (<https://docs.stripe.com/api/customers>).

use std::sync::Arc;

use async_trait::async_trait;

use super::Stripe;
use super::form::Form;
use super::object::{CUSTOMER_KEY, Identified};
use crate::provider::{Customers, Exchanged, NewCustomer, OperationKey};

#[async_trait]
impl Customers for Stripe {
    async fn create(&self, operation: &OperationKey, customer: &NewCustomer) -> Exchanged<Arc<str>> {
        let mut calls = self.client.calls("create_customer");
        let form = Form::new()
            .with_some("name", customer.name.as_ref())
            .with_some("email", customer.email.as_ref())
            .with(format!("metadata[{CUSTOMER_KEY}]"), &customer.id);
        let made = calls.post::<Identified>("/v1/customers", form, operation).await;
        calls.end(made.map(|customer| customer.id))
    }
}
