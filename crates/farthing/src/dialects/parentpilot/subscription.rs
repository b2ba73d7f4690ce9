//! Subscriptions: a plan that the provider renews. A user touches its own alone; those of others are not there.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{
    ChangeTime, Command, Effect, Proration, Refusal, SubscribeRequest, SubscriptionState, SubscriptionStep, TermsChange,
};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::user::{User, entitled};
use super::{
    Asked, Data, Done, Failed, Failure, Named, Parentpilot, ParentpilotSettings, Speaker, State, data, done, instant,
    or_told, said,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::dialects::spoken::{PROVIDER_WAIT, Spoken};
use crate::service::ServiceError;
use crate::store::{BillingRow, CustomerRow};

/// The longest name of a plan.
const LONGEST_PLAN: usize = 255;

/// How often it is looked whether the provider has made what another request asked for.
const LOOK: Duration = Duration::from_millis(100);

/// Which plan.
#[derive(Debug)]
pub(super) struct Choice {
    plan: Arc<str>,
}

impl ToSchema for Choice {}

impl PartialSchema for Choice {
    fn schema() -> RefOr<Schema> {
        Shape::new().text("planId", 1, LONGEST_PLAN).schema(json!({"planId": "pro"}))
    }
}

impl Read for Choice {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let plan = fields.plain_text("planId", LONGEST_PLAN);
        if plan.is_none() {
            fields.refuse("planId", "missing", "Plan ID is required");
        }
        plan.map(|plan| Self { plan: Arc::from(plan) })
    }
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    id: String,
    /// In Stripe's words.
    status: &'static str,
    current_period_start: String,
    current_period_end: String,
    plan_id: String,
    customer_id: String,
    /// What the provider's script pays the first invoice with, while that waits for it.
    client_secret: Option<String>,
}

type Row = BillingRow<engine::Subscription>;

/// What the caller needs of a subscription as it stands: what the provider says of it, with the payment that it waits for.
async fn view(spoken: &Spoken, payer: &CustomerRow, row: &Row) -> Result<View, Failure> {
    let (subscription, scope) = (&row.value, spoken.scope_of(payer));
    let Some(reference) = &subscription.reference else {
        let failure = subscription.failure.clone();
        return Err(failure.map_or(Failure::ProviderUnavailable, Failure::Declined));
    };
    let payment = match subscription.latest_payment {
        Some(payment) => spoken.app.store.payment(&scope, (row.shard_key, payment)).await?,
        None => None,
    };
    let secret = payment.and_then(|found| found.payment.client_secret);
    Ok(View {
        id: reference.to_string(),
        status: subscription.state.as_str(),
        current_period_start: instant(subscription.period.start),
        current_period_end: instant(subscription.period.end),
        plan_id: subscription.terms.plan.to_string(),
        customer_id: payer.customer.state.payer.reference.as_deref().unwrap_or_default().to_owned(),
        client_secret: secret.as_deref().map(str::to_owned),
    })
}

async fn fetch(spoken: &Spoken, payer: &CustomerRow, id: Uuid) -> Result<Row, Failure> {
    let found = spoken.app.store.subscription(&spoken.scope_of(payer), (payer.customer.shard_key, id)).await?;
    found.ok_or(Failure::Refused(Refusal::UnknownSubscription))
}

/// Subscribe to a plan
///
/// The first invoice is paid with the card on file, or with `clientSecret` in the user's browser. While it waits for that, a repeat
/// shows the same subscription, and another plan takes its place.
#[utoipa::path(post, path = "/api/payments/subscriptions", operation_id = "create_subscription", tag = "subscriptions", request_body = Choice,
    responses((status = 200, body = Data<View>)))]
pub(super) async fn create(
    FromState(speaker): State,
    user: User,
    Asked(body): Asked<Choice>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    or_told(subscribe(&speaker.spoken, &user, body.plan).await.map(data), "Failed to create subscription")
}

async fn subscribe(spoken: &Spoken, user: &User, plan: Arc<str>) -> Result<View, Failure> {
    spoken.require_provider()?;
    let (payer, _) = user.payer(spoken).await?;
    let replaces = spoken.given_up(&payer, &plan).await?;
    let id = spoken.app.clock.new_id();
    let command = Command::Subscribe(SubscribeRequest {
        id,
        plan: plan.clone(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection: None,
        by_invoice: false,
        replaces,
    });
    match spoken.execute(&user.key, command, None).await {
        Ok(done) => {
            let makes_it =
                |effect: &Effect| matches!(effect, Effect::CreateSubscription { subscription } if *subscription == id);
            // What it takes the place of can be paid no more once this is answered.
            spoken.wait_for(&user.key, &done, |effect| matches!(effect, Effect::EndSubscription { .. })).await?;
            spoken.wait_for(&user.key, &done, makes_it).await?;
            view(spoken, &payer, &fetch(spoken, &payer, id).await?).await
        }
        Err(ServiceError::Refused(Refusal::AlreadySubscribed)) => {
            let (payer, _) = user.payer(spoken).await?;
            let mut known = payer.customer.state.subscriptions.iter();
            let same = known.find(|known| {
                known.state == SubscriptionState::Incomplete && known.pending.is_none() && known.terms.plan == plan
            });
            let waits = same.ok_or(Refusal::AlreadySubscribed)?.id;
            let row = made(spoken, &payer, waits).await?;
            view(spoken, &payer, &row).await
        }
        Err(error) => Err(error.into()),
    }
}

/// A subscription that another request has asked for, once the provider has made it, or has been waited for.
async fn made(spoken: &Spoken, payer: &CustomerRow, id: Uuid) -> Result<Row, Failure> {
    let mut waited = Duration::ZERO;
    loop {
        let row = fetch(spoken, payer, id).await?;
        if row.value.reference.is_some() || row.value.failure.is_some() || waited >= PROVIDER_WAIT {
            return Ok(row);
        }
        spoken.app.outbox.wake();
        tokio::time::sleep(LOOK).await;
        waited = waited.saturating_add(LOOK);
    }
}

/// The user's own subscription of this name, with its payer; one of somebody else is not there.
async fn find(spoken: &Spoken, user: &User, reference: &str) -> Result<(CustomerRow, Row), Failure> {
    // The provider's names are short and plain, and the database is not asked for others.
    if reference.len() > 255 || !reference.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::UnknownSubscription.into());
    }
    let found = spoken.app.store.subscription_of_reference(&user.key.tenant, reference).await?;
    let own = found.filter(|row| *row.external_id == *user.key.external_id).ok_or(Refusal::UnknownSubscription)?;
    let payer = user.find(spoken).await?.ok_or(Refusal::UnknownSubscription)?;
    Ok((payer, own))
}

/// Does something with a subscription and waits until the provider has done it.
async fn step(spoken: &Spoken, user: &User, row: &Row, step: SubscriptionStep) -> Result<Row, Failure> {
    let id = row.value.id;
    let command = Command::StepSubscription { subscription: id, step };
    let done = spoken.execute(&user.key, command, None).await.map_err(|error| match error {
        // It was found, so it has ended.
        ServiceError::Refused(Refusal::UnknownSubscription) => {
            Failure::Refused(Refusal::SubscriptionState { state: SubscriptionState::Canceled.as_str() })
        }
        error => error.into(),
    })?;
    let does_it = |effect: &Effect| match effect {
        Effect::ChangeSubscription { subscription } | Effect::EndSubscription { subscription, .. } => {
            *subscription == id
        }
        _ => false,
    };
    let waited = done.effects.iter().any(|record| does_it(&record.effect));
    spoken.wait_for(&user.key, &done, does_it).await?;
    let payer = user.find(spoken).await?.ok_or(Refusal::UnknownSubscription)?;
    let row = fetch(spoken, &payer, id).await?;
    match &row.value.failure {
        Some(failure) if waited => Err(Failure::Declined(failure.clone())),
        _ if row.value.pending.is_some() && !row.value.state.has_ended() => Err(Failure::ProviderUnavailable),
        _ => Ok(row),
    }
}

fn to_plan(plan: Arc<str>) -> SubscriptionStep {
    let change = TermsChange { plan: Some(plan), ..TermsChange::default() };
    // At once, or whoever ended the subscription before its next invoice would have had the better plan for nothing.
    SubscriptionStep::Change(change, ChangeTime::Now(Proration::Now))
}

/// Move a subscription to another plan
///
/// Now; the difference for the rest of the period is invoiced at once.
#[utoipa::path(put, path = "/api/payments/subscriptions/{subscriptionId}", operation_id = "update_subscription", tag = "subscriptions", request_body = Choice,
    params(("subscriptionId" = String, Path, description = "The provider's id of it")), responses((status = 200, body = Data<View>)))]
pub(super) async fn update(
    FromState(speaker): State,
    user: User,
    Named(reference, _): Named<Parentpilot, String>,
    Asked(body): Asked<Choice>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    let changed = async {
        let spoken = &speaker.spoken;
        spoken.require_provider()?;
        let (payer, row) = find(spoken, &user, &reference).await?;
        let row = step(spoken, &user, &row, to_plan(body.plan)).await?;
        view(spoken, &payer, &row).await
    };
    or_told(changed.await.map(data), "Failed to update subscription")
}

/// End a subscription
///
/// At once. The user is on the plan of those without a subscription from then on. A repeat changes nothing.
#[utoipa::path(delete, path = "/api/payments/subscriptions/{subscriptionId}", operation_id = "cancel_subscription", tag = "subscriptions",
    params(("subscriptionId" = String, Path, description = "The provider's id of it")), responses((status = 200, body = Done)))]
pub(super) async fn cancel(
    FromState(speaker): State,
    user: User,
    Named(reference, _): Named<Parentpilot, String>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    let ended = async {
        let spoken = &speaker.spoken;
        spoken.require_provider()?;
        let (_, row) = find(spoken, &user, &reference).await?;
        if !row.value.state.has_ended() {
            let row = step(spoken, &user, &row, SubscriptionStep::Cancel { prorate: false }).await?;
            if !row.value.state.has_ended() {
                return Err(Failure::ProviderUnavailable);
            }
        }
        Ok(done("Subscription cancelled successfully"))
    };
    or_told(ended.await, "Failed to cancel subscription")
}

/// Move to another plan
///
/// The subscription that pays for the plan in force is moved to it. A user without one is told to subscribe.
#[utoipa::path(post, path = "/api/payments/upgrade-plan", operation_id = "upgrade_plan", tag = "subscriptions", request_body = Choice,
    responses((status = 200, body = Done)))]
pub(super) async fn upgrade(
    FromState(speaker): State,
    user: User,
    Asked(body): Asked<Choice>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    match move_to(&speaker, &user, body.plan).await {
        Ok(true) => Ok(done("Plan upgraded successfully")),
        Ok(false) => Err(Failed::with(said(StatusCode::PAYMENT_REQUIRED, "A subscription to this plan is required"))),
        Err(failure) => or_told(Err(failure), "Failed to upgrade plan"),
    }
}

/// Whether the user is on the plan now.
async fn move_to(speaker: &Speaker<ParentpilotSettings>, user: &User, plan: Arc<str>) -> Result<bool, Failure> {
    let spoken = &speaker.spoken;
    spoken.catalog().plans.current(&plan)?;
    let row = user.find(spoken).await?.ok_or(Refusal::UnknownCustomer)?;
    if entitled(spoken, &row)?.plans.contains(&plan) {
        return Ok(true);
    }
    let state = &row.customer.state;
    let pays = |known: &&engine::Subscription| known.state == SubscriptionState::Active;
    let Some(paid) = state.subscriptions.iter().find(pays) else { return Ok(false) };
    spoken.require_provider()?;
    let paid = fetch(spoken, &row, paid.id).await?;
    step(spoken, user, &paid, to_plan(plan)).await?;
    Ok(true)
}
