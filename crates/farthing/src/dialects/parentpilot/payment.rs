//! Payments: for usage, when the month's limit is reached, and all that a user has paid or is to pay.

use axum::extract::State as FromState;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use engine::id::keyed_id;
use engine::{
    Collection, CollectionRequest, Command, Effect, Money, OneTime, OneTimeRequest, Payment, Purpose, Refusal,
};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::user::User;
use super::{
    Asked, Data, Failed, Failure, Parentpilot, ParentpilotSettings, Query, Speaker, State, data, instant, or_told, said,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::payment_status;
use crate::dialects::schema::Shape;
use crate::idempotency::fingerprint;
use crate::store::Page;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const AMOUNT_REQUIRED: &str = "Valid amount is required";

/// The longest key, in bytes.
const LONGEST_KEY: usize = 255;

/// How many payments are told when nothing is said, and at the most.
const USUAL: i64 = 10;
const MOST: i64 = 100;

/// A payment to be made for usage.
#[derive(Debug)]
pub(super) struct NewPayment {
    /// In cents; they are asked in dollars.
    minor: i64,
}

impl ToSchema for NewPayment {}

impl PartialSchema for NewPayment {
    fn schema() -> RefOr<Schema> {
        Shape::new().number("amount").schema(json!({"amount": 15.5}))
    }
}

impl Read for NewPayment {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let cents = fields.number("amount").and_then(|dollars| dollars.checked_mul(Decimal::ONE_HUNDRED));
        let minor = cents.filter(|cents| cents.fract().is_zero()).and_then(|cents| i64::try_from(cents).ok());
        let minor = minor.filter(|minor| *minor > 0);
        if minor.is_none() {
            fields.refuse("amount", "greater_than", AMOUNT_REQUIRED);
        }
        minor.map(|minor| Self { minor })
    }
}

/// A payment that the user's browser is to make.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    id: String,
    /// In cents.
    amount: i64,
    currency: String,
    /// In Stripe's words.
    status: &'static str,
    /// What the provider's script pays it with.
    client_secret: Option<String>,
}

impl Intent {
    fn of(payment: &Payment) -> Result<Self, Failure> {
        let reference = payment.reference.as_ref().ok_or(Failure::ProviderUnavailable)?;
        Ok(Self {
            id: reference.to_string(),
            amount: payment.amount.minor,
            currency: payment.amount.currency.as_str().to_lowercase(),
            status: payment_status(payment.state),
            client_secret: payment.client_secret.as_deref().map(str::to_owned),
        })
    }
}

/// Begin to pay for usage
///
/// The amount is in dollars, what is answered in cents. When it is paid, the month's usage counts from nothing. The same
/// `Idempotency-Key` begins one payment.
#[utoipa::path(post, path = "/api/payments/payment-intent", operation_id = "create_payment_intent", tag = "payments", request_body = NewPayment,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this payment")),
    responses((status = 200, body = Data<Intent>)))]
pub(super) async fn create(
    FromState(speaker): State,
    user: User,
    headers: HeaderMap,
    Asked(body): Asked<NewPayment>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    let key = headers.get(&IDEMPOTENCY_KEY).map(|key| key.to_str().unwrap_or_default());
    // A key that is left out would have a repeat begin another payment.
    if key.is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
        return Err(Failed::with(said(StatusCode::BAD_REQUEST, "Idempotency-Key must be 1 to 255 visible characters")));
    }
    let outcome = begin(&speaker, &user, &body, key).await;
    // Less or more than can be collected.
    if let Err(Failure::Refused(Refusal::AmountOutOfRange)) = outcome {
        return Err(Failed::with(said(StatusCode::BAD_REQUEST, AMOUNT_REQUIRED)));
    }
    or_told(outcome, "Failed to create payment intent")
}

async fn begin(
    speaker: &Speaker<ParentpilotSettings>,
    user: &User,
    body: &NewPayment,
    key: Option<&str>,
) -> Result<Response, Failure> {
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let (row, _) = user.payer(spoken).await?;
    let keyed = |given: &str| keyed_id(&user.key.tenant, &user.key.external_id, "usage_payment", given);
    let operation = key.map(|key| (keyed(key), fingerprint(&body.minor)));
    let id = operation.map_or_else(|| spoken.app.clock.new_id(), |(id, _)| id);
    let collection = CollectionRequest::By(Collection::OnSession { save_method: false });
    let one_time = OneTime {
        description: "Usage".into(),
        metadata: [("type".into(), "usage_payment".into())].into(),
        for_usage: true,
    };
    let amount = Money { minor: body.minor, currency: spoken.tenant.catalog.currency.clone() };
    let command = Command::CollectOnce(OneTimeRequest { id, amount, one_time, collection });
    let done = spoken.execute(&user.key, command, operation).await?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment } if *payment == id);
    spoken.wait_for(&user.key, &done, makes_it).await?;
    let found = spoken.app.store.payment(&spoken.scope_of(&row), (user.key.shard_key, id)).await?;
    let payment = found.ok_or(Failure::Unavailable)?.payment;
    if let Some(failure) = payment.failure.as_ref().filter(|_| payment.reference.is_none()) {
        return Err(Failure::Declined(failure.clone()));
    }
    let intent = Intent::of(&payment)?;
    tracing::info!(event = "stripe_payment_intent_created", payment = &*intent.id);
    Ok(data(intent))
}

/// How many payments are wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    limit: i64,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = match fields.text("limit", 0..=20) {
            None => Some(USUAL),
            Some(text) => text.trim().parse().ok().filter(|limit| (1..=MOST).contains(limit)),
        };
        if limit.is_none() {
            fields.refuse("limit", "value_error", format!("Limit must be a number from 1 to {MOST}"));
        }
        limit.map(|limit| Self { limit })
    }
}

/// A payment that a user made, or is to make.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Past {
    id: String,
    /// In cents.
    amount: i64,
    currency: String,
    /// In Stripe's words.
    status: &'static str,
    created: String,
    description: Option<String>,
}

/// What a user has paid, or is to pay
///
/// The newest first.
#[utoipa::path(get, path = "/api/payments/history", operation_id = "get_payment_history", tag = "payments",
    params(("limit" = Option<i64>, Query, description = "How many", minimum = 1, maximum = 100)),
    responses((status = 200, body = Data<Vec<Past>>)))]
pub(super) async fn history(
    FromState(speaker): State,
    user: User,
    Query(wanted, _): Query<Parentpilot, Wanted>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Read)?;
    or_told(list(&speaker, &user, wanted.limit).await.map(data), "Failed to get payment history")
}

async fn list(speaker: &Speaker<ParentpilotSettings>, user: &User, limit: i64) -> Result<Vec<Past>, Failure> {
    let spoken = &speaker.spoken;
    let Some(row) = user.find(spoken).await? else { return Ok(Vec::new()) };
    let owner = (row.customer.shard_key, row.customer.id);
    let most = usize::try_from(limit).unwrap_or_default();
    let (mut past, mut after) = (Vec::new(), None);
    while past.len() < most {
        let found = spoken.app.store.payments(&spoken.scope_of(&row), owner, Page { after, limit: MOST }).await?;
        let Some(last) = found.last().map(|last| (last.payment.created_at, last.payment.id)) else { break };
        // What the provider has not heard of yet has no name.
        past.extend(found.iter().filter_map(|found| told(&found.payment)));
        after = Some(last);
    }
    past.truncate(most);
    Ok(past)
}

fn told(payment: &Payment) -> Option<Past> {
    Some(Past {
        id: payment.reference.as_ref()?.to_string(),
        amount: payment.amount.minor,
        currency: payment.amount.currency.as_str().to_lowercase(),
        status: payment_status(payment.state),
        created: instant(payment.created_at),
        description: match &payment.purpose {
            Purpose::OneTime(one_time) => Some(one_time.description.to_string()),
            Purpose::Subscription(_) => Some("Subscription".to_owned()),
            Purpose::Invoice(_) => Some("Invoice".to_owned()),
            Purpose::Purchase(_) => None,
        },
    })
}
