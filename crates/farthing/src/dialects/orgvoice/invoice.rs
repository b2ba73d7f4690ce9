//! Invoices: of the words of a period, which farthing makes and the provider collects, and of a plan's fee, which are the
//! provider's own.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::billing::{usage_invoice, usage_period};
use engine::invoice::Line;
use engine::period::boundary;
use engine::{Command, Effect, FeePayment, InvoiceState, LineKind, Micros, Payment, PaymentState, Purpose};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::organisation::{Member, whole};
use super::plan::currency;
use super::{Caller, Failed, Failure, Orgvoice, OrgvoiceSettings, Query, Speaker, State, answer, instant};
use crate::dialects::fields::{Fields, Read};
use crate::dialects::spoken::{LOOK, PROVIDER_WAIT};
use crate::store::{BillingRow, CustomerRow, OperationRef, Page, PaymentRow};

/// How many invoices are told when the request does not say, and at the most.
const USUAL: i64 = 10;
const MOST: i64 = 100;

/// An invoice.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Invoice {
    id: String,
    customer_id: String,
    /// The provider's id; `null` where nothing is asked for now, or the provider has not answered yet.
    stripe_invoice_id: Option<String>,
    /// `open`, `paid`, `void` or `uncollectible`.
    status: &'static str,
    amount_due_cents: i64,
    amount_paid_cents: i64,
    currency: String,
    period_start: String,
    period_end: String,
    voice_words_count: i64,
    voice_usage_cents: i64,
    created_at: String,
    due_date: Option<String>,
    paid_at: Option<String>,
    /// The provider's page of it, where it can be paid.
    hosted_invoice_url: Option<String>,
}

impl Invoice {
    /// An invoice that farthing made.
    pub(super) fn of(
        settings: &OrgvoiceSettings,
        row: &BillingRow<engine::Invoice>,
        payment: Option<&Payment>,
    ) -> Result<Self, Failure> {
        let (invoice, standing) = (&row.value, &row.value.standing);
        let counts = |line: &&Line| matches!(&line.kind, LineKind::Usage { meter, .. } if settings.counts_words(meter));
        let words = Micros::sum(invoice.lines.iter().filter(counts).map(|line| line.quantity))?;
        // The fractions of a cent of several lines make whole ones together.
        let of_words = invoice.lines.iter().filter(|line| counts(line) || matches!(line.kind, LineKind::Debt));
        let paid = standing.state == InvoiceState::Paid && invoice.carried == 0;
        let paid_at = payment.and_then(|payment| payment.paid_at).or_else(|| paid.then_some(standing.changed_at));
        Ok(Self {
            id: invoice.id.to_string(),
            customer_id: row.customer_id.to_string(),
            stripe_invoice_id: standing.provider_reference.as_ref().map(ToString::to_string),
            status: standing.state.as_str(),
            amount_due_cents: invoice.total - invoice.carried,
            amount_paid_cents: standing.paid,
            currency: currency(invoice.currency.as_str()),
            period_start: instant(invoice.period.start),
            period_end: instant(invoice.period.end),
            voice_words_count: whole(words),
            voice_usage_cents: of_words.fold(0, |sum, line| sum.saturating_add(line.minor)),
            created_at: instant(invoice.created_at),
            due_date: Some(instant(invoice.due_at)),
            paid_at: paid_at.map(instant),
            hosted_invoice_url: payment.and_then(|payment| payment.page.as_deref().map(str::to_owned)),
        })
    }

    /// An invoice of the provider's own: of a plan's fee.
    fn of_fee(
        speaker: &Speaker<OrgvoiceSettings>,
        organisation: &CustomerRow,
        row: &PaymentRow,
        fee: &FeePayment,
    ) -> Result<Self, Failure> {
        let payment = &row.payment;
        let known = organisation.customer.state.subscriptions.iter().find(|known| known.id == fee.subscription);
        let known = known.map(|subscription| subscription.period);
        let (start, end) = match known.filter(|period| period.contains(payment.created_at)) {
            Some(period) => (period.start, period.end),
            None => {
                let zone = &speaker.spoken.catalog().time_zone;
                (payment.created_at, boundary(payment.created_at, engine::Interval::MONTH, 1, zone)?)
            }
        };
        let paid = payment.state == PaymentState::Paid;
        Ok(Self {
            id: payment.id.to_string(),
            customer_id: row.customer_id.to_string(),
            stripe_invoice_id: Some(fee.invoice.to_string()),
            status: match payment.state {
                PaymentState::Paid => "paid",
                PaymentState::Canceled | PaymentState::Failed => "void",
                PaymentState::Pending
                | PaymentState::RequiresPayment
                | PaymentState::RequiresAction
                | PaymentState::Processing => "open",
            },
            amount_due_cents: payment.amount.minor,
            amount_paid_cents: if paid { payment.amount.minor } else { 0 },
            currency: currency(payment.amount.currency.as_str()),
            period_start: instant(start),
            period_end: instant(end),
            voice_words_count: 0,
            voice_usage_cents: 0,
            created_at: instant(payment.created_at),
            due_date: None,
            paid_at: payment.paid_at.map(instant),
            hosted_invoice_url: payment.page.as_deref().map(str::to_owned),
        })
    }
}

/// The newest invoices of an organisation, at most so many.
pub(super) async fn newest(
    speaker: &Speaker<OrgvoiceSettings>,
    row: &CustomerRow,
    limit: i64,
) -> Result<Vec<Invoice>, Failure> {
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope_of(row));
    let owner = (row.customer.shard_key, row.customer.id);
    let made = store.invoices(&scope, owner, Page { after: None, limit }).await?;
    let payments = try_join_all(made.iter().map(async |invoice| match invoice.value.standing.payment {
        Some(payment) => store.payment(&scope, (owner.0, payment)).await,
        None => Ok(None),
    }));
    let payments = payments.await?;
    let mut all: Vec<(Timestamp, Invoice)> = Vec::new();
    for (invoice, payment) in made.iter().zip(&payments) {
        let payment = payment.as_ref().map(|row| &row.payment);
        all.push((invoice.value.created_at, Invoice::of(&speaker.settings, invoice, payment)?));
    }
    // Each usage invoice has a payment too, or a few.
    let paid = store.payments(&scope, owner, Page { after: None, limit: limit * 4 }).await?;
    for payment in &paid {
        if let Purpose::Subscription(fee) = &payment.payment.purpose {
            all.push((payment.payment.created_at, Invoice::of_fee(speaker, row, payment, fee)?));
        }
    }
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let limit = usize::try_from(limit).unwrap_or_default();
    Ok(all.into_iter().take(limit).map(|(_, invoice)| invoice).collect())
}

/// How many of them.
#[derive(Debug)]
pub(super) struct Wanted {
    limit: i64,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = fields.integer("limit", 1).unwrap_or(USUAL);
        Some(Self { limit: fields.at_most("limit", Some(limit), MOST)? })
    }
}

/// The invoices of the organisation
///
/// The newest first.
#[utoipa::path(get, path = "/api/billing/invoices", operation_id = "list_invoices", tag = "billing",
    params(("limit" = Option<i64>, Query, description = "How many", minimum = 1, maximum = 100)),
    responses((status = 200, body = Vec<Invoice>), (status = 422, body = super::service::Problem)))]
pub(super) async fn list(
    FromState(speaker): State,
    caller: Caller<Orgvoice>,
    Query(wanted, _): Query<Orgvoice, Wanted>,
) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::of(&speaker, &caller)?;
    let invoices = match member.row(&speaker).await? {
        Some(row) => newest(&speaker, &row, wanted.limit).await?,
        None => Vec::new(),
    };
    Ok(answer(invoices))
}

/// Waits until the provider has the invoice that collects a payment, or would not have it.
async fn await_provider(speaker: &Speaker<OrgvoiceSettings>, payment: OperationRef) -> Result<(), Failure> {
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope());
    let deadline = Instant::now() + PROVIDER_WAIT;
    loop {
        let payment = store.payment(&scope, payment).await?.ok_or(Failure::Unavailable)?.payment;
        let is_kept = payment.provider_invoice.is_some_and(|kept| kept.reference.is_some());
        match payment.failure {
            _ if is_kept => return Ok(()),
            Some(failure) if payment.state.has_ended() => return Err(Failure::Declined(failure)),
            _ if Instant::now() >= deadline => return Err(Failure::ProviderUnavailable),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// What came of asking for an invoice.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generated {
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice_id: Option<String>,
}

/// Invoice the words of the period
///
/// Once in a calendar month: however often it is asked for, the answer is the invoice that was made then.
#[utoipa::path(post, path = "/api/billing/generate-usage-invoice", operation_id = "generate_usage_invoice", tag = "billing",
    responses((status = 200, body = Generated)))]
pub(super) async fn generate(
    FromState(speaker): State,
    caller: Caller<Orgvoice>,
) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::admin(&speaker, &caller)?;
    let row = member.require(&speaker).await?;
    let (spoken, key) = (&speaker.spoken, &member.key);
    let now = spoken.now();
    let done = spoken.execute(key, Command::InvoiceUsage, None).await?;
    let period = usage_period(spoken.catalog(), &row.customer.state, now)?;
    let id = usage_invoice(row.customer.id, period, &spoken.catalog().currency);
    let Some(made) = spoken.app.store.invoice(&spoken.scope_of(&row), (key.shard_key, id)).await? else {
        return Ok(answer(Generated { message: "No usage charges for current period", invoice_id: None }));
    };
    if let Some(payment) = made.value.standing.payment {
        spoken.wait_for(key, &done, |effect| matches!(effect, Effect::CreatePayment { .. })).await?;
        await_provider(&speaker, (key.shard_key, payment)).await?;
        tracing::info!(event = "usage_invoice_created", organisation = &*key.external_id, invoice = %id);
    }
    Ok(answer(Generated { message: "Usage invoice created", invoice_id: Some(id.to_string()) }))
}
