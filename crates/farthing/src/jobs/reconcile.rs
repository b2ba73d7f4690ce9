//! Reconciliation: what the provider has, compared with the books, and what webhooks lost, repaired.

use std::sync::Arc;

use engine::report::{PaymentReport, Progress};
use engine::{Money, Payment, PaymentState, SubscriptionState};
use jiff::{SignedDuration, Timestamp};

use super::{JobError, Jobs};
use crate::provider::ProviderError;
use crate::store::{EventRow, EventState, Page};

/// How far back a provider is asked the first time.
const FIRST_LOOK_BACK: SignedDuration = SignedDuration::from_hours(24);
/// How far before the end of the last time the next one begins: events can show up late in the list.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
const PAGE: i64 = 100;

/// What a comparison found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// How many payments were compared.
    pub compared: usize,
    /// Where they differ.
    pub differences: Vec<Difference>,
}

/// A payment on which the provider and the books differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// The customer, where it is known.
    pub customer: Option<String>,
    /// The sum that the provider has, where it is about one.
    pub amount: Option<Money>,
    /// What differs.
    pub finding: Finding,
    /// Whether it has been repaired.
    pub repaired: bool,
}

/// How the provider and the books differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The provider has come further than the books say: a webhook was lost, or is late.
    Behind {
        /// What the books say.
        books: PaymentState,
        /// What the provider says.
        provider: Progress,
    },
    /// The provider says that more, or less, has been given back.
    Refunds,
    /// The provider has another sum than the books.
    Amount,
    /// The provider has it under an id of ours that is in no book.
    Unknown,
    /// A subscription stands otherwise, or has another period or end; nothing where the books do not have it.
    Subscription {
        /// What the books say.
        books: Option<SubscriptionState>,
        /// What the provider says.
        provider: SubscriptionState,
    },
    /// The provider has collected a fee that is in no book.
    Fee,
}

impl Jobs {
    /// Takes in the events of a tenant's provider that were not delivered; how many there were.
    ///
    /// # Errors
    /// What the store or the provider fails with.
    pub async fn fetch_events(&self, tenant: &Arc<str>) -> Result<usize, JobError> {
        let Some(reconciliation) = self.provider(tenant)?.reconciliation() else { return Ok(0) };
        let webhooks = self.provider(tenant)?.webhooks().ok_or(JobError::NoProvider)?;
        // The provider's events bear its own time, which a test clock moves only where it can be set.
        let is_moved = self.provider(tenant)?.clock().is_some();
        let now = if is_moved { self.now(tenant) } else { self.app.clock.now() };
        let until = self.app.store.reconciled_until(tenant).await?;
        // Where both stand still together, nothing comes late; whatever has the very second of the last look may be new.
        let stands = is_moved && self.tenant(tenant)?.clock.held_at().is_some();
        let overlap = if stands { SignedDuration::from_secs(1) } else { OVERLAP };
        let since = until.map_or_else(|| now.checked_sub(FIRST_LOOK_BACK), |until| until.checked_sub(overlap));
        let events = reconciliation.events(since.unwrap_or(Timestamp::MIN)).await.outcome.map_err(failed)?;
        let mut missed = 0;
        for body in events {
            // What is no event of a kind that is understood is of no use later either.
            let Ok(event) = webhooks.read(&body) else { continue };
            let row = EventRow {
                tenant: tenant.clone(),
                id: event.id,
                kind: event.kind.to_string(),
                body: String::from_utf8_lossy(&body).into_owned(),
                state: EventState::Due,
                attempts: 0,
                error: None,
                received_at: now,
            };
            missed += usize::from(self.app.store.keep_event(&row).await?);
        }
        self.app.store.note_reconciled(tenant, now).await?;
        if missed > 0 {
            tracing::info!(event = "provider_events_fetched", tenant = &**tenant, missed);
            self.app.inbox.notify_one();
        }
        Ok(missed)
    }

    /// Compares the payments that the provider has from `since` on, and all that are open here, with the books; where the
    /// books are behind, and `repair` says so, they are brought up to date.
    ///
    /// # Errors
    /// What the store or the provider fails with.
    pub async fn reconcile(&self, tenant: &Arc<str>, since: Timestamp, repair: bool) -> Result<Reconciled, JobError> {
        let reconciliation = self.provider(tenant)?.reconciliation().ok_or(JobError::NoProvider)?;
        let payments = self.provider(tenant)?.payments().ok_or(JobError::NoProvider)?;
        let mut found = Reconciled::default();
        let mut seen = std::collections::BTreeSet::new();
        for report in reconciliation.payments(since).await.outcome.map_err(failed)? {
            let Some(row) =
                self.find_payment(tenant, std::slice::from_ref(&report.reference), report.id.as_deref()).await?
            else {
                if report.id.is_some() {
                    found.differences.push(difference(&report, None, Finding::Unknown));
                }
                continue;
            };
            if !seen.insert(row.payment.id) {
                continue;
            }
            // A list says less of a payment than asking for it does, and a page pays through another payment.
            let report = match &row.payment.reference {
                Some(reference) => payments.get(reference).await.outcome.map_err(failed)?,
                None => report,
            };
            self.compare(tenant, &row, report, repair, &mut found).await?;
        }
        let mut after = None;
        loop {
            let page = Page { after, limit: PAGE };
            let open = self.app.store.open_payments(tenant, self.now(tenant), page).await?;
            let Some(last) = open.last() else { break };
            after = Some((last.payment.created_at, last.payment.id));
            for row in open {
                if row.payment.reference.is_none() || !seen.insert(row.payment.id) {
                    continue;
                }
                let present = self.present(tenant, &row.payment, &mut Vec::new()).await.map_err(failed)?;
                self.compare(tenant, &row, present.report, repair, &mut found).await?;
            }
        }
        self.reconcile_subscriptions(tenant, since, repair, &mut found).await?;
        Ok(found)
    }

    async fn compare(
        &self,
        tenant: &Arc<str>,
        row: &crate::store::PaymentRow,
        report: PaymentReport,
        repair: bool,
        found: &mut Reconciled,
    ) -> Result<(), JobError> {
        found.compared += 1;
        let Some(finding) = differs(&row.payment, &report) else { return Ok(()) };
        let mut difference = difference(&report, Some(row.external_id.clone()), finding);
        if repair && finding != Finding::Amount {
            let present = self.present(tenant, &row.payment, &mut Vec::new()).await.map_err(failed)?;
            self.tell(tenant, row, present).await?;
            difference.repaired = true;
        }
        found.differences.push(difference);
        Ok(())
    }
}

fn difference(report: &PaymentReport, customer: Option<String>, finding: Finding) -> Difference {
    let (reference, amount) = (report.reference.clone(), report.amount.clone());
    Difference { reference, customer, amount: Some(amount), finding, repaired: false }
}

fn differs(payment: &Payment, report: &PaymentReport) -> Option<Finding> {
    let stands = match payment.state {
        PaymentState::Pending => None,
        PaymentState::RequiresPayment => Some(Progress::RequiresPayment),
        PaymentState::RequiresAction => Some(Progress::RequiresAction),
        PaymentState::Processing => Some(Progress::Processing),
        PaymentState::Paid => Some(Progress::Paid),
        PaymentState::Failed | PaymentState::Canceled => Some(Progress::Canceled),
    };
    if report.amount != payment.amount {
        return Some(Finding::Amount);
    }
    // A failed payment was never made, or may be ended at any time: only that it is paid would be news.
    if stands == Some(Progress::Canceled) && report.progress != Progress::Paid {
        return None;
    }
    if stands != Some(report.progress) {
        return Some(Finding::Behind { books: payment.state, provider: report.progress });
    }
    let counts = |progress| progress != engine::report::RefundProgress::Failed;
    let at_provider: i64 =
        report.refunds.iter().filter(|refund| counts(refund.progress)).map(|refund| refund.minor).sum();
    let lost = report.dispute.as_ref().filter(|dispute| dispute.state == engine::report::DisputeState::Lost);
    let given_back = at_provider.saturating_add(lost.map_or(0, |dispute| dispute.minor)).min(payment.amount.minor);
    (given_back != payment.refunded()).then_some(Finding::Refunds)
}

pub(super) fn failed(error: ProviderError) -> JobError {
    JobError::Provider(error.to_string())
}
