//! Payments: what a user pays once, and what it has paid so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as FromState;
use axum::http::HeaderMap;
use axum::response::Response;
use engine::id::keyed_id;
use engine::{
    Asset, Collection, CollectionRequest, Command, Effect, Money, OneTime, OneTimeRequest, Payment, PaymentState,
    Purpose,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::user::User;
use super::{
    Body, Failed, Failure, Query, Speaker, Speech, SpeechSettings, State, answer, failed, instant, number_of,
    operation_key,
};
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::idempotency::fingerprint;
use crate::store::{CustomerRow, Page, PaymentRow};

/// The most that a payment comes to, in the smallest coin: what the provider takes at the most
/// (<https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>).
const MOST: i64 = 99_999_999;

/// How many notes a payment has at the most, and how long their names and texts are: what the provider keeps, less two of our
/// own (<https://docs.stripe.com/metadata>).
const NOTES: (usize, usize, usize) = (48, 40, 500);

/// How many payments are told where nothing is said, and at the most.
const USUAL: i64 = 10;
const MOST_TOLD: i64 = 100;

/// How many payments are read at once, and how many in all: what has only just begun is no part of the history.
const AT_ONCE: i64 = 100;
const MOST_READ: usize = 1_000;

/// Something to be paid once.
#[derive(Debug)]
pub(super) struct NewPayment {
    /// In the smallest coin.
    amount: i64,
    currency: String,
    description: String,
    metadata: BTreeMap<String, String>,
    idempotency_key: Option<String>,
}

impl ToSchema for NewPayment {}

impl PartialSchema for NewPayment {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().integer("amount", 1).optional_text("currency", 3).optional_text("description", 500);
        let shape = shape.texts("metadata", &["order"]).optional_text("idempotency_key", 255);
        shape.schema(json!({"amount": 2500, "currency": "usd", "description": "Speech Assistant Service"}))
    }
}

impl Read for NewPayment {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let amount = fields.required_integer("amount", 1);
        let amount = fields.at_most("amount", amount, MOST);
        let currency = fields.text("currency", 3..=3).unwrap_or_else(|| "usd".to_owned()).to_uppercase();
        if Asset::new(&currency).currency().is_none() {
            fields.refuse("currency", "value_error", "Value error, currency is not a code of ISO 4217");
        }
        let description = fields.text("description", 0..=500);
        let metadata = fields.texts("metadata", NOTES);
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        Some(Self {
            amount: amount?,
            currency,
            description: description.unwrap_or_else(|| "Speech Assistant Service".to_owned()),
            metadata,
            idempotency_key,
        })
    }
}

/// A payment that the user's browser can make.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentIntent {
    success: bool,
    /// For the provider's script, as long as it is not paid.
    client_secret: Option<String>,
    payment_intent_id: String,
}

/// Begin to pay once
///
/// Pay with `client_secret` in the user's browser. The same `Idempotency-Key`, or `idempotency_key`, begins once.
#[utoipa::path(post, path = "/payments/create-payment-intent", operation_id = "create_payment_intent", tag = "payments", request_body = NewPayment,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this payment")),
    responses((status = 200, body = PaymentIntent)))]
pub(super) async fn create(
    FromState(speaker): State,
    user: User,
    headers: HeaderMap,
    Body(body, _): Body<Speech, NewPayment>,
) -> Result<Response, Failed<Speech>> {
    let key = operation_key(&headers, body.idempotency_key.as_ref())?;
    Ok(answer(begin(&speaker, &user, body, key).await.map_err(failed("create payment intent"))?))
}

async fn begin(
    speaker: &Speaker<SpeechSettings>,
    user: &User,
    body: NewPayment,
    key: Option<String>,
) -> Result<PaymentIntent, Failure> {
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let row = user.find_or_create(speaker).await?;
    let asked = fingerprint(&(body.amount, &body.currency, &body.description, &body.metadata));
    let keyed = |key: &String| (keyed_id(&user.key.tenant, &user.key.external_id, "one_time", key), asked);
    let operation = key.as_ref().map(keyed);
    let id = operation.map_or_else(|| spoken.app.clock.new_id(), |(id, _)| id);
    let command = Command::CollectOnce(OneTimeRequest {
        id,
        amount: Money { minor: body.amount, currency: Asset::new(&body.currency) },
        one_time: OneTime {
            description: Arc::from(body.description),
            metadata: user.notes(&row, body.metadata),
            for_usage: false,
        },
        collection: CollectionRequest::By(Collection::OnSession { save_method: false }),
    });
    let done = spoken.execute(&user.key, command, operation).await?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment } if *payment == id);
    spoken.wait_for(&user.key, &done, makes_it).await?;
    let found = spoken.app.store.payment(&spoken.scope_of(&row), (user.key.shard_key, id)).await?;
    let payment = found.ok_or(Failure::Unavailable)?.payment;
    let Some(reference) = &payment.reference else {
        return Err(payment.failure.map_or(Failure::ProviderUnavailable, Failure::Declined));
    };
    tracing::info!(event = "payment_intent_created", customer = %row.customer.id, payment = %id);
    Ok(PaymentIntent {
        success: true,
        client_secret: payment.client_secret.as_deref().map(str::to_owned),
        payment_intent_id: reference.to_string(),
    })
}

/// How much of the history.
pub(super) struct Wanted {
    limit: usize,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = fields.integer("limit", i64::MIN).unwrap_or(USUAL).clamp(1, MOST_TOLD);
        Some(Self { limit: usize::try_from(limit).ok()? })
    }
}

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentRecord {
    id: i64,
    /// In the smallest coin.
    amount: i64,
    currency: String,
    /// `succeeded`, `pending` or `failed`.
    status: &'static str,
    /// `subscription` or `one_time`.
    payment_type: &'static str,
    description: Option<String>,
    created_at: String,
    stripe_invoice_id: Option<String>,
}

/// What was paid.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BillingHistory {
    success: bool,
    /// The newest first.
    billing_history: Vec<PaymentRecord>,
    /// How many are in it.
    total_records: usize,
}

/// What was paid
///
/// The newest first. What has only just begun, and was not tried yet, is no part of it.
#[utoipa::path(get, path = "/payments/billing-history", operation_id = "get_billing_history", tag = "payments",
    params(("limit" = Option<i64>, Query, description = "At most so many, 1 to 100; 10 where absent")),
    responses((status = 200, body = BillingHistory)))]
pub(super) async fn history(
    FromState(speaker): State,
    user: User,
    Query(wanted, _): Query<Speech, Wanted>,
) -> Result<Response, Failed<Speech>> {
    let told = told(&speaker, &user, wanted.limit).await.map_err(failed("get billing history"))?;
    Ok(answer(BillingHistory { success: true, total_records: told.len(), billing_history: told }))
}

async fn told(speaker: &Speaker<SpeechSettings>, user: &User, most: usize) -> Result<Vec<PaymentRecord>, Failure> {
    let mut records = Vec::new();
    let Some(row) = user.find(speaker).await? else { return Ok(records) };
    let (scope, owner) = (speaker.spoken.scope_of(&row), (row.customer.shard_key, row.customer.id));
    let (mut after, mut read): (Option<(Timestamp, Uuid)>, usize) = (None, 0);
    while records.len() < most && read < MOST_READ {
        let page = Page { after, limit: AT_ONCE };
        let found = speaker.spoken.app.store.payments(&scope, owner, page).await?;
        after = found.last().map(|last| (last.payment.created_at, last.payment.id));
        read += found.len();
        let is_last = i64::try_from(found.len()).is_ok_and(|found| found < AT_ONCE);
        for payment in &found {
            if records.len() < most
                && let Some(status) = status(&payment.payment)
            {
                records.push(record(speaker, &row, payment, status).await?);
            }
        }
        if is_last {
            break;
        }
    }
    Ok(records)
}

/// How a payment stands; nothing where nobody has tried to pay it yet.
const fn status(payment: &Payment) -> Option<&'static str> {
    match payment.state {
        PaymentState::Paid => Some("succeeded"),
        PaymentState::Processing => Some("pending"),
        PaymentState::Failed => Some("failed"),
        PaymentState::Pending
        | PaymentState::RequiresPayment
        | PaymentState::RequiresAction
        | PaymentState::Canceled => {
            if payment.failure.is_some() {
                Some("failed")
            } else {
                None
            }
        }
    }
}

async fn record(
    speaker: &Speaker<SpeechSettings>,
    row: &CustomerRow,
    found: &PaymentRow,
    status: &'static str,
) -> Result<PaymentRecord, Failure> {
    let payment = &found.payment;
    let (store, scope, shard_key) = (&speaker.spoken.app.store, speaker.spoken.scope_of(row), found.shard_key);
    let (subscription, description, invoice) = match &payment.purpose {
        Purpose::Subscription(fee) => (Some(fee.subscription), None, Some(fee.invoice.to_string())),
        Purpose::Invoice(purpose) => {
            let invoice = store.invoice(&scope, (shard_key, purpose.invoice)).await?;
            (invoice.and_then(|invoice| invoice.value.subscription), None, None)
        }
        Purpose::Purchase(purchase) => (None, Some(purchase.title.to_string()), None),
        Purpose::OneTime(one_time) => (None, Some(one_time.description.to_string()), None),
    };
    let of_plan = match subscription {
        Some(subscription) => store.subscription(&scope, (shard_key, subscription)).await?,
        None => None,
    };
    let of_plan = of_plan.map(|row| format!("Payment for {}", row.value.terms.plan));
    Ok(PaymentRecord {
        id: number_of(payment.id),
        amount: payment.amount.minor,
        currency: payment.amount.currency.as_str().to_lowercase(),
        status,
        payment_type: if subscription.is_some() { "subscription" } else { "one_time" },
        description: description.or(of_plan),
        created_at: instant(payment.paid_at.unwrap_or(payment.created_at)),
        stripe_invoice_id: invoice,
    })
}
