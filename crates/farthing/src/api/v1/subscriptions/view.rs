//! What a subscription looks like.

use engine::id::{Kind, PublicId};
use engine::{
    Coupon, CouponDuration, Discount, Ending, Invoice, InvoiceState, PaymentState, PendingChange, Subscription,
    SubscriptionSource, SubscriptionState, Terms,
};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::v1::purchases::{FailureView, major};
use crate::store::{BillingRow, PaymentRow};

/// From an instant, up to and without another.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Period)]
pub(in crate::api) struct PeriodView {
    /// Its first instant.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
}

impl PeriodView {
    pub(in crate::api) const fn of(period: engine::Period) -> Self {
        Self { start: period.start, end: period.end }
    }
}

/// An add-on that is booked for every period.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BookedAddOn)]
pub(in crate::api) struct AddOnView {
    /// Its name.
    name: String,
    /// What it is, as the customer reads it.
    title: String,
    /// How many.
    quantity: u32,
    /// What one costs for a period.
    price: String,
    /// In this currency.
    currency: String,
}

/// What a subscription is for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BookedTerms)]
pub(in crate::api) struct TermsView {
    /// The plan.
    plan: String,
    /// The version of the plan, which stays as it was when it was subscribed to.
    version: String,
    /// How many.
    quantity: u32,
    /// What is booked with it for every period.
    add_ons: Vec<AddOnView>,
}

impl TermsView {
    fn of(terms: &Terms) -> Self {
        let add_on = |(add_on, quantity): &(engine::AddOn, u32)| AddOnView {
            name: add_on.name.to_string(),
            title: add_on.title.to_string(),
            quantity: *quantity,
            price: major(&add_on.fee),
            currency: add_on.fee.currency.to_string(),
        };
        Self {
            plan: terms.plan.to_string(),
            version: terms.version.to_string(),
            quantity: terms.quantity,
            add_ons: terms.add_ons.iter().map(add_on).collect(),
        }
    }
}

/// A coupon that takes something off invoices.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AppliedCoupon)]
pub(in crate::api) struct CouponView {
    /// Its code.
    code: String,
    /// So many percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_off: Option<String>,
    /// So much.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_off: Option<String>,
    /// The currency of `amount_off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<String>,
    /// For how many more invoices; absent where it holds for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoices_left: Option<u16>,
}

impl CouponView {
    fn of(coupon: &Coupon) -> Self {
        let (percent_off, amount_off) = match &coupon.discount {
            Discount::Percent(percent) => (Some(percent.to_string()), None),
            Discount::Amount(amount) => (None, Some(amount)),
        };
        Self {
            code: coupon.code.to_string(),
            percent_off,
            currency: amount_off.map(|amount| amount.currency.to_string()),
            amount_off: amount_off.map(major),
            invoices_left: match coupon.duration {
                CouponDuration::Once => Some(1),
                CouponDuration::Repeating(left) => Some(left),
                CouponDuration::Forever => None,
            },
        }
    }
}

/// How far the payment of an invoice is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvoicePayment)]
pub(in crate::api) struct InvoicePaymentView {
    /// Its id.
    id: String,
    /// `pending` (the provider has not answered yet), `requires_payment`, `requires_action` (the customer's bank asks),
    /// `processing`, `paid`, `failed` or `canceled`.
    #[schema(value_type = String, pattern = "^(pending|requires_payment|requires_action|processing|paid|failed|canceled)$")]
    state: PaymentState,
    /// Why the last attempt to pay did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// For the provider's script in the customer's browser, as long as it can be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// Goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    publishable_key: Option<String>,
    /// The provider's page where it can be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<String>,
}

impl InvoicePaymentView {
    fn of(caller: &Caller, row: &PaymentRow) -> Self {
        let payment = &row.payment;
        let secret = payment.client_secret.as_deref().map(str::to_owned);
        Self {
            id: PublicId { kind: Kind::Payment, shard_key: row.shard_key, id: payment.id }.to_string(),
            state: payment.state,
            failure: payment.failure.as_ref().map(FailureView::of),
            publishable_key: secret.as_ref().and_then(|_| caller.connection()?.publishable_key.clone()),
            client_secret: secret,
            page: payment.page.as_deref().map(str::to_owned),
        }
    }
}

/// How the newest invoice of a subscription stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LatestInvoice)]
pub(in crate::api) struct LatestInvoiceView {
    /// Its id.
    id: String,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    /// `open`, `paid`, `void` or `uncollectible`.
    #[schema(value_type = String, pattern = "^(draft|open|paid|void|uncollectible)$")]
    state: InvoiceState,
    /// Its currency.
    currency: String,
    /// What it comes to.
    total: String,
    /// What is left to pay.
    amount_due: String,
    /// When collecting it is tried next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// Its latest payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<InvoicePaymentView>,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(in crate::api) struct SubscriptionView {
    /// Its id.
    id: String,
    /// Who subscribed: your own id of the customer.
    customer: String,
    /// As Stripe names it.
    #[schema(value_type = String, pattern = "^(incomplete|incomplete_expired|trialing|active|past_due|canceled|unpaid|paused)$")]
    state: SubscriptionState,
    /// What it is for.
    #[serde(flatten)]
    terms: TermsView,
    /// What it is for from the next period on; where the provider renews it, as soon as the provider has changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_change: Option<TermsView>,
    /// The period under way, or its last one.
    current_period: PeriodView,
    /// When its trial ends, or has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    trial_end: Option<Timestamp>,
    /// Whether it ends with the period.
    cancel_at_period_end: bool,
    /// When it goes on by itself after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    resumes_at: Option<Timestamp>,
    /// What is taken off its next invoices.
    #[serde(skip_serializing_if = "Option::is_none")]
    coupon: Option<CouponView>,
    /// Whether the customer pays its invoices by itself, and nobody collects them.
    by_invoice: bool,
    /// `own`: farthing renews it; `provider`: the provider does.
    #[schema(value_type = String, pattern = "^(own|provider)$")]
    source: SubscriptionSource,
    /// The provider's id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<String>,
    /// What the provider was asked and has not answered yet: to end it `now`, `with_period`, or `not_at_all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^(now|with_period|not_at_all)$")]
    pending_cancellation: Option<Ending>,
    /// Why the provider would not do what it was last asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
    /// The payment of the provider's newest invoice for it, in an answer about this subscription alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<InvoicePaymentView>,
    /// The id of its newest invoice.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_invoice: Option<String>,
    /// Its newest invoice, in an answer about this subscription alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice: Option<LatestInvoiceView>,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

impl SubscriptionView {
    pub(in crate::api) fn of(row: &BillingRow<Subscription>) -> Self {
        let subscription = &row.value;
        let public = |kind, id| PublicId { kind, shard_key: row.shard_key, id }.to_string();
        Self {
            id: public(Kind::Subscription, subscription.id),
            customer: row.external_id.clone(),
            state: subscription.state,
            terms: TermsView::of(&subscription.terms),
            pending_change: match &subscription.pending {
                Some(PendingChange::Terms { terms, .. }) => Some(TermsView::of(terms)),
                _ => subscription.next_terms.as_ref().map(TermsView::of),
            },
            current_period: PeriodView::of(subscription.period),
            trial_end: subscription.trial_end,
            cancel_at_period_end: subscription.cancel_at_period_end,
            resumes_at: subscription.resumes_at,
            coupon: subscription.coupon.as_ref().map(CouponView::of),
            by_invoice: subscription.by_invoice,
            source: subscription.source,
            provider_id: subscription.reference.as_deref().map(str::to_owned),
            pending_cancellation: match &subscription.pending {
                Some(PendingChange::End { ending }) => Some(*ending),
                _ => None,
            },
            failure: subscription.failure.as_ref().map(FailureView::of),
            payment: None,
            latest_invoice: subscription.latest_invoice.map(|id| public(Kind::Invoice, id)),
            invoice: None,
            started_at: subscription.started_at,
            ended_at: subscription.ended_at,
        }
    }

    pub(super) fn with_payment(self, caller: &Caller, payment: &PaymentRow) -> Self {
        Self { payment: Some(InvoicePaymentView::of(caller, payment)), ..self }
    }

    pub(super) fn with_invoice(self, caller: &Caller, row: &BillingRow<Invoice>, payment: Option<&PaymentRow>) -> Self {
        let invoice = &row.value;
        let money = |minor| major(&engine::Money { minor, currency: invoice.currency.clone() });
        let invoice = LatestInvoiceView {
            id: PublicId { kind: Kind::Invoice, shard_key: row.shard_key, id: invoice.id }.to_string(),
            number: invoice.number.as_deref().map(str::to_owned),
            state: invoice.standing.state,
            currency: invoice.currency.to_string(),
            total: money(invoice.total),
            amount_due: money(invoice.standing.due),
            next_attempt_at: invoice.standing.next_attempt_at,
            payment: payment.map(|payment| InvoicePaymentView::of(caller, payment)),
        };
        Self { invoice: Some(invoice), ..self }
    }

    /// Whether the provider has not said yet how it, or its first payment, stands.
    pub(super) fn is_pending(&self) -> bool {
        if self.source == SubscriptionSource::Provider {
            return self.provider_id.is_none() && self.ended_at.is_none();
        }
        let payment = self.invoice.as_ref().and_then(|invoice| invoice.payment.as_ref());
        payment.is_some_and(|payment| payment.state == PaymentState::Pending)
    }
}
