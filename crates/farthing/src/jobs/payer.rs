//! The customer at the provider, and its payment methods there.

use std::sync::Arc;

use engine::{Command, PayerChange};
use serde_json::json;

use super::{JobError, Jobs};
use crate::provider::{NewCustomer, OperationKey, PaymentMethods};
use crate::store::{CustomerKey, CustomerRow, EffectEnd, EffectResult, EffectRow};

impl Jobs {
    /// The provider's id of the customer, who is made there on first need. The key is that of the customer itself, so that
    /// two effects at once make one. Nothing where the provider would not have it: the effect has then failed.
    pub(super) async fn ensure_payer(&self, row: &EffectRow) -> Result<Option<Arc<str>>, JobError> {
        let known = self.customer(row).await?;
        if let Some(reference) = known.customer.state.payer.reference {
            return Ok(Some(reference));
        }
        let customers = self.provider(&row.tenant)?.customers().ok_or(JobError::NoProvider)?;
        let new = NewCustomer { id: known.external_id, name: known.profile.name, email: known.profile.email };
        let key = OperationKey::new(row.customer_id).step("customer");
        let reference = match self.exchange(row, customers.create(&key, &new).await).await? {
            Ok(reference) => reference,
            Err(failure) => {
                self.refuse(row, &failure).await?;
                return Ok(None);
            }
        };
        let change = Command::ChangePayer(PayerChange::Reference(reference));
        self.execute(&row.tenant, &row.external_id, change, None).await?;
        // Another may have been first: the one in the books counts.
        Ok(self.customer(row).await?.customer.state.payer.reference)
    }

    pub(super) async fn register_payer(&self, row: &EffectRow) -> Result<(), JobError> {
        match self.ensure_payer(row).await? {
            Some(customer) => self.see_methods(row, &customer, None).await,
            None => Ok(()),
        }
    }

    pub(super) async fn begin_setup(&self, row: &EffectRow) -> Result<(), JobError> {
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let setup = self.methods(row)?.begin_setup(&OperationKey::new(row.id), &customer).await;
        match self.exchange(row, setup).await? {
            Ok(setup) => {
                let result = json!({"reference": setup.reference, "client_secret": setup.client_secret});
                let result = EffectResult { end: EffectEnd::Done, result: Some(result.to_string()) };
                Ok(self.app.store.settle_effect((row.shard_key, row.id), &result).await?)
            }
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    pub(super) async fn attach_method(&self, row: &EffectRow, method: &str, default: bool) -> Result<(), JobError> {
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let key = OperationKey::new(row.id);
        let attached = self.methods(row)?.attach(&key, &customer, method).await;
        let reference = match self.exchange(row, attached).await? {
            Ok(reference) => reference,
            Err(failure) => return self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        };
        if default {
            let set = self.methods(row)?.set_default(&key.step("default"), &customer, Some(&reference)).await;
            if let Err(failure) = self.exchange(row, set).await? {
                return self.settle(row, EffectEnd::Failed, Some(&failure)).await;
            }
        }
        let told = json!({"reference": reference}).to_string();
        self.see_methods(row, &customer, Some(told)).await
    }

    pub(super) async fn detach_method(&self, row: &EffectRow, method: &str) -> Result<(), JobError> {
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let detached = self.methods(row)?.detach(&OperationKey::new(row.id), method).await;
        match self.exchange(row, detached).await? {
            Ok(()) => self.see_methods(row, &customer, None).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    pub(super) async fn set_default_method(&self, row: &EffectRow, method: &str) -> Result<(), JobError> {
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let set = self.methods(row)?.set_default(&OperationKey::new(row.id), &customer, Some(method)).await;
        match self.exchange(row, set).await? {
            Ok(()) => self.see_methods(row, &customer, None).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    /// Looks at the payment methods after a change, and ends the effect with what is seen and what is to be told.
    async fn see_methods(&self, row: &EffectRow, customer: &str, told: Option<String>) -> Result<(), JobError> {
        let report = self.methods(row)?.list(customer, self.now(&row.tenant)).await;
        match self.exchange(row, report).await? {
            Ok(report) => {
                let change = Command::ChangePayer(PayerChange::Methods(report));
                self.bring_with(row, change, EffectResult { end: EffectEnd::Done, result: told }).await
            }
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    fn methods(&self, row: &EffectRow) -> Result<&dyn PaymentMethods, JobError> {
        self.provider(&row.tenant)?.payment_methods().ok_or(JobError::NoProvider)
    }

    async fn customer(&self, row: &EffectRow) -> Result<CustomerRow, JobError> {
        let key = CustomerKey::new(&row.tenant, &row.external_id);
        let found = self.app.store.customer(&self.scope(&row.tenant), &key).await?;
        found.ok_or(JobError::Missing("the customer"))
    }

    /// The provider would not have the customer: what was to be done for it fails.
    async fn refuse(&self, row: &EffectRow, failure: &engine::report::Failure) -> Result<(), JobError> {
        use engine::{Effect, PaymentStep};
        let command = match &row.effect {
            Effect::CreatePayment { payment } => {
                Command::StepPayment { payment: *payment, step: PaymentStep::Fail(failure.clone()) }
            }
            Effect::CreateSubscription { subscription } => {
                Command::FailSubscription { subscription: *subscription, failure: failure.clone() }
            }
            _ => return self.settle(row, EffectEnd::Failed, Some(failure)).await,
        };
        self.bring(row, command, EffectEnd::Failed).await
    }
}
