//! Subscriptions: the plan of an organisation, which the provider renews.

use std::sync::Arc;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Collection, CollectionRequest, Command, Effect, Plan, Refusal, SubscribeRequest, SubscriptionState};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::customer::{NewCustomer, set_up};
use super::organisation::Member;
use super::plan::{currency, sold};
use super::{Body, Caller, Failed, Failure, Orgvoice, OrgvoiceSettings, Speaker, State, answer, instant, said};
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::dialects::spoken::{LOOK, PROVIDER_WAIT};
use crate::service::ServiceError;
use crate::store::{CustomerRow, PaymentRow};

/// A subscription to begin.
#[derive(Debug)]
pub(super) struct NewSubscription {
    /// The provider's id of the price of a plan.
    stripe_price_id: String,
}

impl ToSchema for NewSubscription {}

impl PartialSchema for NewSubscription {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("stripe_price_id", 0, 255);
        shape.schema(json!({"stripe_price_id": "price_YOUR_BASIC_PRICE_ID"}))
    }
}

impl Read for NewSubscription {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { stripe_price_id: fields.required_text("stripe_price_id", 0..=255)? })
    }
}

/// A plan to be paid on a page.
#[derive(Debug)]
pub(super) struct StartSubscription {
    plan_id: Option<String>,
}

impl ToSchema for StartSubscription {}

impl PartialSchema for StartSubscription {
    fn schema() -> RefOr<Schema> {
        Shape::new().optional_text("plan_id", 255).schema(json!({"plan_id": "basic"}))
    }
}

impl Read for StartSubscription {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { plan_id: fields.text("plan_id", 0..=255) })
    }
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    id: String,
    customer_id: String,
    /// The provider's id; `null` while the provider has not answered.
    stripe_subscription_id: Option<String>,
    stripe_price_id: String,
    /// In Stripe's words.
    status: &'static str,
    current_period_start: String,
    current_period_end: String,
    cancel_at_period_end: bool,
    amount_cents: i64,
    currency: String,
    created_at: String,
    updated_at: Option<String>,
}

impl Subscription {
    pub(super) fn of(
        speaker: &Speaker<OrgvoiceSettings>,
        customer: Uuid,
        subscription: &engine::Subscription,
    ) -> Result<Self, Failure> {
        let terms = &subscription.terms;
        let plan = speaker.spoken.catalog().plans.version(&terms.version, &terms.plan)?;
        let price = plan.provider_price.as_ref();
        Ok(Self {
            id: subscription.id.to_string(),
            customer_id: customer.to_string(),
            stripe_subscription_id: subscription.reference.as_ref().map(ToString::to_string),
            stripe_price_id: price.map(ToString::to_string).unwrap_or_default(),
            status: subscription.state.as_str(),
            current_period_start: instant(subscription.period.start),
            current_period_end: instant(subscription.period.end),
            cancel_at_period_end: subscription.cancel_at_period_end,
            amount_cents: fee(plan, subscription)?,
            currency: currency(plan.fee.currency.as_str()),
            created_at: instant(subscription.started_at),
            updated_at: subscription.seen_at.map(instant),
        })
    }
}

/// What a period of a subscription costs, in cents.
pub(super) fn fee(plan: &Plan, subscription: &engine::Subscription) -> Result<i64, Failure> {
    let quantity = i64::from(subscription.terms.quantity);
    Ok(plan.fee.minor.checked_mul(quantity).ok_or(Refusal::AmountOutOfRange)?)
}

/// The subscription of an organisation that counts, where it has one.
pub(super) fn in_force(row: &CustomerRow) -> Option<&engine::Subscription> {
    row.customer.state.subscriptions.iter().find(|subscription| subscription.state.is_in_force())
}

/// A subscription that was begun, with what the payer's browser needs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    #[serde(flatten)]
    subscription: Subscription,
    /// Pay the first invoice with it; `null` where that is paid.
    client_secret: Option<String>,
    /// Whether the first invoice waits to be paid.
    requires_action: bool,
}

/// Subscribe to a plan
///
/// With the card on file; without one, the first invoice is to be paid in the browser with `client_secret`. A repeat while
/// that waits is answered with the same subscription; another plan takes the place of the one that waits.
#[utoipa::path(post, path = "/api/billing/subscription", operation_id = "create_subscription", tag = "billing", request_body = NewSubscription,
    responses((status = 200, body = Begun)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Orgvoice>,
    Body(body, _): Body<Orgvoice, NewSubscription>,
) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::admin(&speaker, &caller)?;
    speaker.spoken.require_provider()?;
    let row = member.require(&speaker).await?;
    let plan = sold(&speaker).into_iter().find(|(_, price)| ***price == *body.stripe_price_id);
    let Some((plan, _)) = plan else {
        return Err(Failed::with(said(StatusCode::BAD_REQUEST, "No plan has this price")));
    };
    let (subscription, payment) = subscribe(&speaker, &member, plan, None).await?;
    let secret = payment.and_then(|row| row.payment.client_secret.as_deref().map(str::to_owned));
    let waits = subscription.state == SubscriptionState::Incomplete;
    Ok(answer(Begun {
        subscription: Subscription::of(&speaker, row.customer.id, &subscription)?,
        client_secret: secret.filter(|_| waits),
        requires_action: waits,
    }))
}

/// Begins a subscription, or finds the one to the same plan whose first invoice waits; with its latest payment.
async fn subscribe(
    speaker: &Speaker<OrgvoiceSettings>,
    member: &Member<'_>,
    plan: &Arc<Plan>,
    collection: Option<CollectionRequest>,
) -> Result<(engine::Subscription, Option<PaymentRow>), Failure> {
    let (spoken, key) = (&speaker.spoken, &member.key);
    let replaces = spoken.given_up(&member.require(speaker).await?, &plan.name).await?;
    let id = spoken.app.clock.new_id();
    let command = Command::Subscribe(SubscribeRequest {
        id,
        plan: plan.name.clone(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection,
        by_invoice: false,
        replaces,
    });
    let id = match spoken.execute(key, command, None).await {
        Ok(done) => {
            // What it takes the place of can be paid no more once this is answered.
            spoken.wait_for(key, &done, |effect| matches!(effect, Effect::EndSubscription { .. })).await?;
            spoken.wait_for(key, &done, |effect| matches!(effect, Effect::CreateSubscription { .. })).await?;
            tracing::info!(event = "stripe_subscription_created", subscription = %id);
            id
        }
        Err(ServiceError::Refused(Refusal::AlreadySubscribed)) => {
            let row = member.require(speaker).await?;
            let mut known = row.customer.state.subscriptions.iter();
            let waiting = known.find(|known| {
                known.state == SubscriptionState::Incomplete && known.pending.is_none() && known.terms.plan == plan.name
            });
            waiting.ok_or(Refusal::AlreadySubscribed)?.id
        }
        Err(error) => return Err(error.into()),
    };
    made(speaker, member, id).await
}

/// A subscription once the provider has made it.
async fn made(
    speaker: &Speaker<OrgvoiceSettings>,
    member: &Member<'_>,
    id: Uuid,
) -> Result<(engine::Subscription, Option<PaymentRow>), Failure> {
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope());
    let deadline = Instant::now() + PROVIDER_WAIT;
    loop {
        let row = store.subscription(&scope, (member.key.shard_key, id)).await?.ok_or(Failure::Unavailable)?;
        let subscription = row.value;
        let given_up = subscription.pending.is_some() || subscription.state.has_ended();
        if given_up && subscription.failure.is_none() {
            // Somebody else has chosen another plan meanwhile.
            return Err(Refusal::AlreadySubscribed.into());
        }
        if subscription.reference.is_some() {
            let payment = match subscription.latest_payment {
                Some(payment) => store.payment(&scope, (row.shard_key, payment)).await?,
                None => None,
            };
            return Ok((subscription, payment));
        }
        if let Some(failure) = &subscription.failure {
            return Err(Failure::Declined(failure.clone()));
        }
        if Instant::now() >= deadline {
            return Err(Failure::ProviderUnavailable);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The subscription of the organisation
#[utoipa::path(get, path = "/api/billing/subscription", operation_id = "get_subscription", tag = "billing",
    responses((status = 200, body = Subscription)))]
pub(super) async fn get(FromState(speaker): State, caller: Caller<Orgvoice>) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::of(&speaker, &caller)?;
    let row = member.row(&speaker).await?;
    let Some((row, subscription)) = row.as_ref().and_then(|row| Some((row, in_force(row)?))) else {
        return Err(Failed::with(said(StatusCode::NOT_FOUND, "No active subscription found")));
    };
    Ok(answer(Subscription::of(&speaker, row.customer.id, subscription)?))
}

/// Where a plan is paid.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Started {
    checkout_url: String,
}

/// Subscribe to a plan on a page of the provider's
///
/// Sets up the organisation's billing where that is not done.
#[utoipa::path(post, path = "/api/billing/start-subscription", operation_id = "start_subscription", tag = "billing", request_body = StartSubscription,
    responses((status = 200, body = Started)))]
pub(super) async fn start(
    FromState(speaker): State,
    caller: Caller<Orgvoice>,
    Body(body, _): Body<Orgvoice, StartSubscription>,
) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::admin(&speaker, &caller)?;
    speaker.spoken.require_provider()?;
    let refused = |words| Failed::with(said(StatusCode::BAD_REQUEST, words));
    let wanted = body.plan_id.filter(|plan| !plan.is_empty()).ok_or_else(|| refused("Plan ID required"))?;
    let plan = sold(&speaker).into_iter().find(|(plan, _)| *plan.name == *wanted);
    let (plan, _) = plan.ok_or_else(|| refused("Invalid plan selected"))?;
    let new = NewCustomer { email: member.email.to_owned(), name: None, phone: None };
    set_up(&speaker, &member, &new).await?;
    let in_browser = CollectionRequest::By(Collection::OnSession { save_method: true });
    let (_, payment) = subscribe(&speaker, &member, plan, Some(in_browser)).await?;
    let page = payment.and_then(|row| row.payment.page.as_deref().map(str::to_owned));
    // There is none where it was paid, or given up for another, in this moment.
    Ok(answer(Started { checkout_url: page.ok_or(Refusal::AlreadySubscribed).map_err(Failure::from)? }))
}
