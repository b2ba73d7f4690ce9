//! Invoices that the provider keeps for us, and collects: each is the one payment of an invoice of ours, so nothing else collects
//! it. What the provider has of one becomes a report of that payment.

use std::sync::Arc;

use engine::id::Kind;
use engine::invoice::Invoice;
use engine::report::{Failure, PaymentReport, Progress};
use engine::{
    Collection, Command, Heard, InvoiceState, LineKind, Micros, Payment, PaymentStep, ProviderInvoice, PublicId,
    Purpose,
};
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::event::{Applied, Fault, provider_fault};
use super::outbox::KEYS_LAST;
use super::{JobError, Jobs};
use crate::provider::{Exchange, InvoiceReport, Invoices, NewInvoice, OperationKey, ProviderError};
use crate::store::{EffectEnd, EffectRow, PaymentRow};

/// What the provider has of a payment: its invoice of it, where it has one, and how far the payment is.
pub(super) struct Present {
    invoice: Option<Arc<str>>,
    pub(super) report: PaymentReport,
}

impl Present {
    /// What is to be told of it.
    pub(super) fn step(self, heard: Heard) -> PaymentStep {
        match self.invoice {
            Some(invoice) => PaymentStep::ReportInvoice(heard, invoice, Box::new(self.report)),
            None => PaymentStep::Report(heard, Box::new(self.report)),
        }
    }
}

impl Jobs {
    /// Makes the provider's invoice of a payment. One that was settled before that is not asked for any more.
    pub(super) async fn create_invoice(&self, row: &EffectRow, payment: &Payment) -> Result<(), JobError> {
        let Some(invoice) = self.invoice_of(row, payment).await? else {
            let failure = Failure {
                code: Arc::from("invoice_settled"),
                decline_code: None,
                message: Arc::from("nothing is left to pay of the invoice"),
            };
            let step = PaymentStep::Fail(failure);
            return self.bring(row, Command::StepPayment { payment: payment.id, step }, EffectEnd::Failed).await;
        };
        let Some(customer) = self.ensure_payer(row).await? else { return Ok(()) };
        let invoices = self.invoices(&row.tenant)?;
        let id = PublicId { kind: Kind::Payment, shard_key: row.shard_key, id: payment.id }.to_string();
        let mut operation = OperationKey::new(row.id);
        let age = self.now(&row.tenant).duration_since(row.created_at);
        if row.attempts > 0 && age >= KEYS_LAST {
            match self.exchange(row, invoices.find(&customer, &id).await).await? {
                Ok(Some(found)) if &*found.state == "draft" => {
                    // Which lines it has already, nobody knows any more.
                    let _ = self.exchange(row, invoices.discard(&found.reference).await).await?;
                    operation = operation.step(&format!("anew_{}", row.attempts));
                }
                Ok(Some(found)) => return self.bring_invoice(row, payment, Heard::Made, &found).await,
                Ok(None) | Err(_) => {}
            }
        }
        let zone = &self.tenant(&row.tenant)?.catalog.time_zone;
        let new = new_invoice(payment, &invoice, (id, customer), zone)?;
        match self.exchange(row, invoices.create(&operation, &new).await).await? {
            Ok(report) => self.bring_invoice(row, payment, Heard::Made, &report).await,
            Err(failure) => {
                let step = PaymentStep::Fail(failure);
                self.bring(row, Command::StepPayment { payment: payment.id, step }, EffectEnd::Failed).await
            }
        }
    }

    /// Tries to collect it again. One that turns out to be settled is told of as it is.
    pub(super) async fn collect_invoice(&self, row: &EffectRow, id: Uuid, method: &str) -> Result<(), JobError> {
        let payment = self.payment(row, id).await?;
        let not_tried = |failure| Command::StepPayment { payment: id, step: PaymentStep::NotTried(failure) };
        if payment.state.has_ended() {
            return self.bring(row, not_tried(None), EffectEnd::Done).await;
        }
        let reference = reference(&payment)?;
        let invoices = self.invoices(&row.tenant)?;
        let tried = invoices.collect(&OperationKey::new(row.id), &reference, method).await;
        match self.exchange(row, tried).await? {
            Ok(report) => self.bring_invoice(row, &payment, Heard::Tried, &report).await,
            Err(failure) => match self.exchange(row, invoices.get(&reference).await).await? {
                Ok(report) if &*report.state != "open" => {
                    self.bring_invoice(row, &payment, Heard::Tried, &report).await
                }
                _ => self.bring(row, not_tried(Some(failure)), EffectEnd::Failed).await,
            },
        }
    }

    /// Takes it back there. One that turns out to be settled is told of as it is.
    pub(super) async fn void_invoice(&self, row: &EffectRow, payment: &Payment) -> Result<(), JobError> {
        let reference = reference(payment)?;
        let invoices = self.invoices(&row.tenant)?;
        let voided = invoices.void(&OperationKey::new(row.id), &reference).await;
        let report = match self.exchange(row, voided).await? {
            Ok(report) => Ok(report),
            Err(_) => self.exchange(row, invoices.get(&reference).await).await?,
        };
        match report {
            // It may not be voided while a payment of it is under way; as long as it is open, somebody could pay it.
            Ok(report) if &*report.state == "open" => {
                Err(JobError::Provider("the invoice is still open at the provider".to_owned()))
            }
            Ok(report) => self.bring_invoice(row, payment, Heard::Told, &report).await,
            Err(failure) => self.settle(row, EffectEnd::Failed, Some(&failure)).await,
        }
    }

    /// Brings what the provider has of an invoice to the customer.
    async fn bring_invoice(
        &self,
        row: &EffectRow,
        payment: &Payment,
        heard: Heard,
        invoice: &InvoiceReport,
    ) -> Result<(), JobError> {
        let mut exchanges = Vec::new();
        let present = self.present_of(&row.tenant, payment, invoice, &mut exchanges).await;
        self.record(row, exchanges).await?;
        let present = present.map_err(|error| JobError::Provider(error.to_string()))?;
        let command = Command::StepPayment { payment: payment.id, step: present.step(heard) };
        self.bring(row, command, EffectEnd::Done).await
    }

    /// What the provider has of a payment now; what was asked for that goes into `exchanges`.
    pub(super) async fn present(
        &self,
        tenant: &Arc<str>,
        payment: &Payment,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<Present, ProviderError> {
        let reference = payment.provider_invoice.as_ref().and_then(|known| known.reference.clone());
        let missing = |error: JobError| ProviderError::Unavailable(error.to_string());
        let Some(reference) = reference else {
            let payments = self.provider(tenant).map_err(missing)?.payments().ok_or(JobError::NoProvider);
            let known = payment.reference.as_ref().ok_or(JobError::Missing("the provider's id of the payment"));
            let got = payments.map_err(missing)?.get(known.map_err(missing)?).await;
            exchanges.extend(got.exchanges);
            return Ok(Present { invoice: None, report: got.outcome? });
        };
        let got = self.invoices(tenant).map_err(missing)?.get(&reference).await;
        exchanges.extend(got.exchanges);
        self.present_of(tenant, payment, &got.outcome?, exchanges).await
    }

    async fn present_of(
        &self,
        tenant: &Arc<str>,
        payment: &Payment,
        invoice: &InvoiceReport,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<Present, ProviderError> {
        let missing = |error: JobError| ProviderError::Unavailable(error.to_string());
        let payments = self.provider(tenant).map_err(missing)?.payments().ok_or(JobError::NoProvider);
        let paying = match &invoice.payment {
            Some(reference) => {
                let got = payments.map_err(missing)?.get(reference).await;
                exchanges.extend(got.exchanges);
                Some(got.outcome?)
            }
            None => None,
        };
        let report = report(payment, invoice, paying);
        Ok(Present { invoice: Some(invoice.reference.clone()), report })
    }

    /// An invoice has changed there that is of no subscription: where our id beside it names a payment of ours, that is told.
    pub(super) async fn hear_of_own_invoice(
        &self,
        tenant: &Arc<str>,
        invoice: &InvoiceReport,
    ) -> Result<Applied, Fault> {
        let Some(row) = self.find_payment(tenant, &[], invoice.id.as_deref()).await? else {
            return Ok(Applied::Ignored);
        };
        match &row.payment.provider_invoice {
            // It is being made: what comes of that is fetched when all of this has happened, and asked for again soon.
            Some(ProviderInvoice { reference: None }) => Ok(Applied::Done),
            Some(ProviderInvoice { reference: Some(known) }) if *known == invoice.reference => {
                let present = self.present_of(tenant, &row.payment, invoice, &mut Vec::new()).await;
                self.tell(tenant, &row, present.map_err(provider_fault)?).await?;
                Ok(Applied::Done)
            }
            _ => Ok(Applied::Ignored),
        }
    }

    /// Brings what the provider has of a payment to its customer.
    pub(super) async fn tell(&self, tenant: &Arc<str>, row: &PaymentRow, present: Present) -> Result<(), JobError> {
        let command = Command::StepPayment { payment: row.payment.id, step: present.step(Heard::Told) };
        self.execute(tenant, &row.external_id, command, None).await.map(|_| ())
    }

    /// The invoice of ours that a payment is to pay, where anything of it is left to pay.
    async fn invoice_of(&self, row: &EffectRow, payment: &Payment) -> Result<Option<Invoice>, JobError> {
        let Purpose::Invoice(purpose) = &payment.purpose else { return Ok(None) };
        let id = (row.shard_key, purpose.invoice);
        let found = self.app.store.invoice(&self.scope(&row.tenant), id).await?;
        let invoice = found.ok_or(JobError::Missing("the invoice"))?.value;
        let is_owed = matches!(invoice.standing.state, InvoiceState::Open | InvoiceState::Uncollectible);
        Ok(Some(invoice).filter(|invoice| is_owed && invoice.standing.due > 0))
    }

    fn invoices(&self, tenant: &str) -> Result<&dyn Invoices, JobError> {
        self.provider(tenant)?.invoices().ok_or(JobError::NoProvider)
    }
}

/// The provider's id of the invoice: what is being made has to be known before anything can be done with it.
fn reference(payment: &Payment) -> Result<Arc<str>, JobError> {
    let known = payment.provider_invoice.as_ref().and_then(|known| known.reference.clone());
    known.ok_or(JobError::Missing("the provider's id of the invoice"))
}

/// How far a payment is that an invoice collects. What the customer had to its credit there is paid with it as well.
fn report(payment: &Payment, invoice: &InvoiceReport, paying: Option<PaymentReport>) -> PaymentReport {
    let is_paid = &*invoice.state == "paid";
    let progress = match (&*invoice.state, paying.as_ref().map(|paying| paying.progress)) {
        ("paid", _) => Progress::Paid,
        ("void", _) => Progress::Canceled,
        // The invoice will say so in a moment.
        (_, Some(Progress::Paid)) => Progress::Processing,
        (_, Some(Progress::Canceled) | None) => Progress::RequiresPayment,
        (_, Some(progress)) => progress,
    };
    let known = || payment.reference.clone().unwrap_or_else(|| invoice.reference.clone());
    let paying = paying.as_ref();
    PaymentReport {
        reference: paying.map_or_else(known, |paying| paying.reference.clone()),
        id: None,
        progress,
        amount: invoice.total.clone(),
        received: if is_paid { invoice.total.minor } else { 0 },
        client_secret: invoice.client_secret.clone().or_else(|| paying?.client_secret.clone()),
        page: invoice.page.clone(),
        failure: paying.and_then(|paying| paying.failure.clone()),
        refunds: paying.map(|paying| paying.refunds.clone()).unwrap_or_default(),
        dispute: paying.and_then(|paying| paying.dispute.clone()),
    }
}

/// The provider's invoice: line by line what ours asks for, so that both come to the same.
fn new_invoice(
    payment: &Payment,
    invoice: &Invoice,
    (id, customer): (String, Arc<str>),
    zone: &TimeZone,
) -> Result<NewInvoice, JobError> {
    let mut lines = Vec::new();
    for line in &invoice.lines {
        let minor = line.total().map_err(|refusal| JobError::Service(refusal.into()))?;
        let words = match &line.kind {
            LineKind::Usage { .. } => format!("{}: {} x {}", line.title, grouped(line.quantity), line.unit_price),
            _ => line.title.to_string(),
        };
        if minor != 0 {
            lines.push((words, minor));
        }
    }
    let all = lines.iter().fold(0_i64, |sum, (_, minor)| sum.saturating_add(*minor));
    if all != payment.amount.minor {
        lines.push(("Paid, credited or carried otherwise".to_owned(), payment.amount.minor - all));
    }
    let month = invoice.period.start.to_zoned(zone.clone()).strftime("%B %Y");
    Ok(NewInvoice {
        id,
        customer,
        currency: payment.amount.currency.clone(),
        description: format!("Usage charges for {month}"),
        period: (invoice.period.start, invoice.period.end),
        lines,
        method: match &payment.collection {
            Collection::OffSession { method } => Some(method.clone()),
            Collection::OnSession { .. } | Collection::Page { .. } => None,
        },
    })
}

/// A quantity with its thousands apart.
fn grouped(quantity: Micros) -> String {
    let text = quantity.to_string();
    let (whole, rest) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match rest {
        Some(rest) => format!("{grouped}.{rest}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1_000, -123_456, 1_234_567].map(|units| grouped(Micros::new(units * 1_000_000)));
        assert_eq!(shown, ["0", "999", "1,000", "-123,456", "1,234,567"]);
        assert_eq!(grouped(Micros::new(1_234_500_000)), "1,234.5");
    }
}
