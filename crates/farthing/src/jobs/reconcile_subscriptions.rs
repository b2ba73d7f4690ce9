//! Reconciliation of subscriptions that the provider renews: how each stands, and what was collected for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::report::fee_payment;
use engine::{PaymentState, Subscription};
use jiff::Timestamp;

use super::reconcile::{Difference, Finding, Reconciled, failed};
use super::subscription::state;
use super::{JobError, Jobs};
use crate::provider::{InvoiceReport, SubscriptionReport};
use crate::store::{BillingRow, CustomerKey, Page};

const PAGE: i64 = 100;
/// How many invoices of a customer are looked at: of a year and more, by the month.
const INVOICES: u8 = 100;

impl Jobs {
    /// Compares the subscriptions that live at the provider, and those that live here, and their invoices that were made from
    /// `since` on.
    pub(super) async fn reconcile_subscriptions(
        &self,
        tenant: &Arc<str>,
        since: Timestamp,
        repair: bool,
        found: &mut Reconciled,
    ) -> Result<(), JobError> {
        let reconciliation = self.provider(tenant)?.reconciliation().ok_or(JobError::NoProvider)?;
        let Some(subscriptions) = self.provider(tenant)?.subscriptions() else { return Ok(()) };
        let mut seen = BTreeSet::new();
        for report in reconciliation.subscriptions().await.outcome.map_err(failed)? {
            seen.insert(report.reference.clone());
            self.compare_subscription(tenant, &report, (since, repair), found).await?;
        }
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE };
            let live = self.app.store.subscriptions_at_provider(tenant, page).await?;
            let Some(last) = live.last() else { return Ok(()) };
            after = Some(last.value.id);
            for row in &live {
                let Some(reference) = row.value.reference.as_ref().filter(|name| !seen.contains(*name)) else {
                    continue;
                };
                let report = subscriptions.get(reference).await.outcome.map_err(failed)?;
                self.compare_subscription(tenant, &report, (since, repair), found).await?;
            }
        }
    }

    async fn compare_subscription(
        &self,
        tenant: &Arc<str>,
        report: &SubscriptionReport,
        (since, repair): (Timestamp, bool),
        found: &mut Reconciled,
    ) -> Result<(), JobError> {
        let plans = &self.tenant(tenant)?.catalog.plans;
        let is_sold = report.prices.iter().any(|(price, _)| plans.of_provider_price(price, None).is_some());
        let Some(owner) = self.owner(tenant, report).await? else { return Ok(()) };
        let known = self.app.store.subscription_of_reference(tenant, &report.reference).await?;
        let Some(provider) = state(&report.state).filter(|_| known.is_some() || is_sold) else { return Ok(()) };
        found.compared += 1;
        let differs = known.as_ref().is_none_or(|known| differs(known, report));
        let finding = Finding::Subscription { books: known.map(|known| known.value.state), provider };
        let mut told = false;
        for invoice in self.uncollected(tenant, &owner.customer, report, since).await? {
            told |= repair && self.repair(tenant, report, Some(&invoice)).await?;
            found.differences.push(Difference {
                reference: invoice.reference.clone(),
                customer: Some(owner.customer.clone()),
                amount: Some(invoice.total.clone()),
                finding: Finding::Fee,
                repaired: told,
            });
        }
        if differs {
            let repaired = told || (repair && self.repair(tenant, report, None).await?);
            let (reference, customer) = (report.reference.clone(), Some(owner.customer));
            found.differences.push(Difference { reference, customer, amount: None, finding, repaired });
        }
        Ok(())
    }

    /// The invoices of a subscription that were paid there and not here.
    async fn uncollected(
        &self,
        tenant: &Arc<str>,
        customer: &str,
        report: &SubscriptionReport,
        since: Timestamp,
    ) -> Result<Vec<InvoiceReport>, JobError> {
        let Some(invoices) = self.provider(tenant)?.invoices() else { return Ok(Vec::new()) };
        let listed = invoices.list(&report.customer, INVOICES).await.outcome.map_err(failed)?;
        let shard_key = CustomerKey::new(tenant, customer).shard_key;
        let mut missing = Vec::new();
        // The oldest first, as they were paid.
        for invoice in listed.into_iter().rev() {
            let of_it = invoice.subscription.as_ref() == Some(&report.reference);
            if !of_it || &*invoice.state != "paid" || invoice.due <= 0 || invoice.created_at < since {
                continue;
            }
            let id = (shard_key, fee_payment(tenant, &invoice.reference));
            let payment = self.app.store.payment(&self.scope(tenant), id).await?;
            if payment.is_none_or(|row| row.payment.state != PaymentState::Paid) {
                missing.push(invoice);
            }
        }
        Ok(missing)
    }

    /// Brings the present of a subscription, and of this invoice or else its newest, to its customer.
    async fn repair(
        &self,
        tenant: &Arc<str>,
        report: &SubscriptionReport,
        invoice: Option<&InvoiceReport>,
    ) -> Result<bool, JobError> {
        let told = match invoice {
            Some(invoice) => self.hear_of_invoice(tenant, &invoice.reference).await,
            None => self.hear_of_subscription(tenant, &report.reference).await,
        };
        told.map(|_| true).map_err(JobError::from)
    }
}

fn differs(known: &BillingRow<Subscription>, report: &SubscriptionReport) -> bool {
    let known = &known.value;
    if known.state.has_ended() {
        return state(&report.state).is_none_or(|state| !state.has_ended());
    }
    state(&report.state) != Some(known.state)
        || report.period.is_some_and(|(start, _)| start != known.period.start)
        || report.cancel_at_period_end != known.cancel_at_period_end
}
