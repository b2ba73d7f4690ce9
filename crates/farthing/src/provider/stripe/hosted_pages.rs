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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::script::{Script, key};
    use super::*;

    #[tokio::test]
    async fn the_portal_is_an_address() {
        let session =
            json!({"id": "bps_1", "object": "billing_portal.session", "url": "https://billing.stripe.com/p/1"});
        let script = Script::default().then(200, &[], &session);
        let opened = script.serve().await.portal(&key(), "cus_1", "https://a.example/back").await.outcome;
        assert_eq!(opened.as_deref(), Ok("https://billing.stripe.com/p/1"));
        assert_eq!(script.body(0), "customer=cus_1&return_url=https://a.example/back");
    }
}
