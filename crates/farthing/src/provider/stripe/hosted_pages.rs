//! Stripe's customer portal (<https://docs.stripe.com/api/customer_portal/sessions>).

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

use super::Stripe;
use super::form::Form;
use crate::provider::{Exchanged, HostedPages, OperationKey};

#[derive(Deserialize)]
struct PortalSession {
    url: Arc<str>,
}

#[async_trait]
impl HostedPages for Stripe {
    async fn portal(&self, operation: &OperationKey, customer: &str, return_url: &str) -> Exchanged<Arc<str>> {
        let mut calls = self.client.calls("open_portal");
        let form = Form::new().with("customer", customer).with("return_url", return_url);
        let made = calls.post::<PortalSession>("/v1/billing_portal/sessions", form, operation).await;
        calls.end(made.map(|session| session.url))
    }
}
