//! Subscriptions: the plan that a user is on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as FromState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::report::Failure as ProviderFailure;
use engine::{
    CollectionRequest, Command, Effect, PayerChange, Payment, PaymentState, Plan, Refusal, SubscribeRequest,
    Subscription, SubscriptionState, SubscriptionStep,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::plan::{Features, kind};
use super::usage::{Overage, Used, entitled, this_month, used};
use super::user::User;
use super::{
    Body, Failed, Failure, Query, Speaker, Speech, SpeechSettings, State, answer, cents, failed, instant,
    operation_key, said, whole,
};
use crate::dialects::fields::{self, Fields, Read};
use crate::dialects::schema::Shape;
use crate::idempotency::fingerprint;
use crate::service::{Answer, ServiceError};
use crate::store::{CustomerRow, Page};

/// How often a repeat looks for what an earlier request is waiting for, and how many times.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// A plan that a user wants to be on.
#[derive(Debug)]
pub(super) struct NewSubscription {
    /// The provider's id of the plan's price.
    price_id: String,
    plan_name: String,
    /// The provider's id of the card that it is paid with.
    payment_method_id: Option<String>,
    idempotency_key: Option<String>,
}

impl ToSchema for NewSubscription {}

impl PartialSchema for NewSubscription {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("price_id", 0, 255).text("plan_name", 1, 255);
        let shape = shape.optional_text("payment_method_id", 255).optional_text("idempotency_key", 255);
        shape.schema(json!({
            "price_id": "price_1234567890", "plan_name": "pro_monthly", "payment_method_id": "pm_card_visa"
        }))
    }
}

impl Read for NewSubscription {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let price_id = fields.required_text("price_id", 0..=255);
        let plan_name = fields.required_text("plan_name", 1..=255);
        let payment_method_id = fields.text("payment_method_id", 0..=255).filter(|method| !method.is_empty());
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        Some(Self { price_id: price_id?, plan_name: plan_name?, payment_method_id, idempotency_key })
    }
}

/// A subscription that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Created {
    success: bool,
    subscription_id: Option<String>,
    /// For the provider's script, where the user still has to pay or to answer its bank.
    client_secret: Option<String>,
    /// Whether the user has to.
    requires_action: bool,
    message: &'static str,
}

/// Subscribe to a plan
///
/// The price has to be the plan's. With a card the first period is paid at once; without one, or where the bank asks, the user
/// goes on with `client_secret`. Asking again for a plan whose first payment is open answers the same, and so does the same
/// `Idempotency-Key`, or `idempotency_key`.
#[utoipa::path(post, path = "/payments/create-subscription", operation_id = "create_subscription", tag = "subscriptions", request_body = NewSubscription,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your key for this subscription")),
    responses((status = 200, body = Created)))]
pub(super) async fn create(
    FromState(speaker): State,
    user: User,
    headers: HeaderMap,
    Body(body, _): Body<Speech, NewSubscription>,
) -> Result<Response, Failed<Speech>> {
    let failed = failed("create subscription");
    let plan = plan_of(&speaker, &body)?;
    let key = operation_key(&headers, body.idempotency_key.as_ref())?;
    let wanted = (&*plan, body.payment_method_id.as_deref(), key);
    let created = subscribe(&speaker, &user, wanted).await.map_err(failed)?;
    Ok(answer(created))
}

/// The plan that is meant: the price and the name have to agree on it.
fn plan_of(speaker: &Speaker<SpeechSettings>, body: &NewSubscription) -> Result<Arc<Plan>, Failed<Speech>> {
    let plans = &speaker.spoken.catalog().plans;
    let failed = failed("create subscription");
    let plan = plans.current(&body.plan_name).map_err(|refusal| failed(refusal.into()))?;
    let of_price = plans.of_provider_price(&body.price_id, None).map(|plan| &plan.name);
    let agrees = match (&plan.provider_price, of_price) {
        (Some(price), _) => **price == *body.price_id,
        // What the provider does not renew has no price there.
        (None, other) => other.is_none(),
    };
    if !agrees {
        let words = "Failed to create subscription: price_id is not the price of this plan_name";
        return Err(Failed::with(said(StatusCode::BAD_REQUEST, words)));
    }
    Ok(plan.clone())
}

async fn subscribe(
    speaker: &Speaker<SpeechSettings>,
    user: &User,
    (plan, method, key): (&Plan, Option<&str>, Option<String>),
) -> Result<Created, Failure> {
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let row = user.find_or_create(speaker).await?;
    let keyed = |key: &String| keyed_id(&user.key.tenant, &user.key.external_id, "subscription", key);
    let operation = key.as_ref().map(|key| (keyed(key), fingerprint(&plan.name)));
    if let Some((id, _)) = operation
        && let Some(known) = look_up(speaker, user, id).await?
    {
        return repeated(speaker, user, plan, &known).await;
    }
    if let Some(known) = row.customer.state.subscriptions.last() {
        match begun_before(speaker, user, plan, known).await {
            // Nobody was there any more to end it.
            Err(Failure::Declined(_)) => end(speaker, user, known.id).await?,
            begun => return begun,
        }
    }
    let method = match method {
        Some(method) => Some(attach(speaker, user, method).await?),
        None => None,
    };
    let id = operation.map_or_else(|| spoken.app.clock.new_id(), |(id, _)| id);
    let request = SubscribeRequest {
        id,
        plan: plan.name.clone(),
        quantity: 1,
        add_ons: Vec::new(),
        coupon: None,
        trial_days: None,
        collection: method.map(|method| CollectionRequest::OnFile(Some(method))),
        by_invoice: false,
        replaces: None,
    };
    let done = match spoken.execute(&user.key, Command::Subscribe(request), operation).await {
        // Another request was quicker.
        Err(ServiceError::Refused(Refusal::AlreadySubscribed)) => {
            let row = user.find_or_create(speaker).await?;
            let known = row.customer.state.subscriptions.last().ok_or(Refusal::AlreadySubscribed)?;
            return begun_before(speaker, user, plan, known).await;
        }
        done => done?,
    };
    tracing::info!(event = "subscription_created", customer = %row.customer.id, subscription = %id);
    wait(speaker, user, &done).await?;
    let created = created(speaker, user, id).await;
    if let Err(Failure::Declined(_)) = &created {
        end(speaker, user, id).await?;
    }
    created
}

/// A subscription that is there already: where its first payment is still open, the user may go on with that; any other has to
/// end before another one begins.
async fn begun_before(
    speaker: &Speaker<SpeechSettings>,
    user: &User,
    plan: &Plan,
    known: &Subscription,
) -> Result<Created, Failure> {
    let is_open = known.state == SubscriptionState::Incomplete && known.terms.plan == plan.name;
    if !is_open || known.pending.is_some() {
        return Err(Refusal::AlreadySubscribed.into());
    }
    when_answered(speaker, user, known.id).await
}

/// The subscription that a key has made before.
async fn repeated(
    speaker: &Speaker<SpeechSettings>,
    user: &User,
    plan: &Plan,
    known: &Subscription,
) -> Result<Created, Failure> {
    if known.terms.plan != plan.name {
        return Err(Refusal::OperationKeyReused.into());
    }
    when_answered(speaker, user, known.id).await
}

/// How a subscription stands that was asked for before: whoever asked may still be waiting for the provider.
async fn when_answered(speaker: &Speaker<SpeechSettings>, user: &User, id: Uuid) -> Result<Created, Failure> {
    for _ in 0..LOOKS {
        match created(speaker, user, id).await {
            Err(Failure::ProviderUnavailable) => tokio::time::sleep(LOOK).await,
            created => return created,
        }
    }
    Err(Failure::ProviderUnavailable)
}

/// Puts a card on file, to be used from then on; the provider's id of it there.
async fn attach(speaker: &Speaker<SpeechSettings>, user: &User, method: &str) -> Result<Arc<str>, Failure> {
    #[derive(Deserialize)]
    struct Attached {
        reference: String,
    }
    let change = PayerChange::Attach { method: Arc::from(method), default: true };
    let attaches = |effect: &Effect| matches!(effect, Effect::AttachMethod { .. });
    let told = speaker.spoken.change_payer(&user.key, change, attaches).await?;
    let attached: Option<Attached> = told.and_then(|text| serde_json::from_str(&text).ok());
    Ok(Arc::from(attached.ok_or(Failure::ProviderUnavailable)?.reference))
}

/// Waits for the provider to do what a command asks it about a subscription.
async fn wait(speaker: &Speaker<SpeechSettings>, user: &User, done: &Answer) -> Result<(), Failure> {
    let asks = |effect: &Effect| {
        matches!(
            effect,
            Effect::CreatePayment { .. } | Effect::CreateSubscription { .. } | Effect::EndSubscription { .. }
        )
    };
    // Time that had passed may have asked for others before.
    if let Some(last) = done.effects.iter().rfind(|record| asks(&record.effect)) {
        speaker.spoken.wait_for(&user.key, done, |effect| *effect == last.effect).await?;
    }
    Ok(())
}

/// How a subscription that was asked for stands: why the provider would not have it, or what the user does next.
async fn created(speaker: &Speaker<SpeechSettings>, user: &User, id: Uuid) -> Result<Created, Failure> {
    let subscription = find(speaker, user, id).await?;
    let by_provider = subscription.source == engine::SubscriptionSource::Provider;
    if by_provider && subscription.reference.is_none() {
        return Err(match subscription.failure {
            Some(failure) => Failure::Declined(failure),
            None => Failure::ProviderUnavailable,
        });
    }
    let requires_action = subscription.state == SubscriptionState::Incomplete;
    let is_unpaid = requires_action || subscription.state.has_ended();
    let payment = if is_unpaid { first_payment(speaker, user, &subscription).await? } else { None };
    if let Some(failure) = payment.as_ref().and_then(|payment| declined(&subscription, payment)) {
        return Err(Failure::Declined(failure));
    }
    let own_id = || PublicId { kind: Kind::Subscription, shard_key: user.key.shard_key, id }.to_string();
    Ok(Created {
        success: true,
        subscription_id: Some(subscription.reference.as_deref().map_or_else(own_id, str::to_owned)),
        client_secret: payment
            .filter(|_| requires_action)
            .and_then(|payment| payment.client_secret.as_deref().map(str::to_owned)),
        requires_action,
        message: if requires_action {
            "Subscription created; the first payment has to be confirmed"
        } else {
            "Subscription created successfully"
        },
    })
}

async fn find(speaker: &Speaker<SpeechSettings>, user: &User, id: Uuid) -> Result<Subscription, Failure> {
    look_up(speaker, user, id).await?.ok_or(Failure::Unavailable)
}

async fn look_up(speaker: &Speaker<SpeechSettings>, user: &User, id: Uuid) -> Result<Option<Subscription>, Failure> {
    let spoken = &speaker.spoken;
    let found = spoken.app.store.subscription(&spoken.scope(), (user.key.shard_key, id)).await?;
    Ok(found.map(|row| row.value))
}

/// The payment that a subscription begins with.
async fn first_payment(
    speaker: &Speaker<SpeechSettings>,
    user: &User,
    subscription: &Subscription,
) -> Result<Option<Payment>, Failure> {
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope());
    let mut payment = subscription.latest_payment;
    if let (None, Some(invoice)) = (payment, subscription.latest_invoice) {
        let invoice = store.invoice(&scope, (user.key.shard_key, invoice)).await?;
        payment = invoice.and_then(|row| row.value.standing.payment);
    }
    let Some(payment) = payment else { return Ok(None) };
    Ok(store.payment(&scope, (user.key.shard_key, payment)).await?.map(|row| row.payment))
}

/// Why the card on file was declined, where the first payment was tried with it. A bank that asks has not declined it: the user
/// answers in the browser.
fn declined(subscription: &Subscription, payment: &Payment) -> Option<ProviderFailure> {
    let asks = |failure: &ProviderFailure| {
        let why = failure.decline_code.as_deref().unwrap_or(&failure.code);
        why == "authentication_required" || &*failure.code == "authentication_required"
    };
    let tried = subscription.method.is_some() || matches!(payment.collection, engine::Collection::OffSession { .. });
    let open = matches!(payment.state, PaymentState::RequiresPayment | PaymentState::Failed | PaymentState::Canceled);
    payment.failure.clone().filter(|failure| tried && open && !asks(failure))
}

/// Ends a subscription now.
async fn end(speaker: &Speaker<SpeechSettings>, user: &User, subscription: Uuid) -> Result<(), Failure> {
    let step = SubscriptionStep::Cancel { prorate: false };
    let command = Command::StepSubscription { subscription, step };
    match speaker.spoken.execute(&user.key, command, None).await {
        Ok(done) => wait(speaker, user, &done).await,
        // It has ended.
        Err(ServiceError::Refused(Refusal::UnknownSubscription)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// When a subscription ends.
pub(super) struct Cancellation {
    at_period_end: Option<bool>,
}

impl Read for Cancellation {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { at_period_end: fields.flag("at_period_end") })
    }
}

/// That a subscription ends, or has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    success: bool,
    message: &'static str,
    /// Whether it goes on until the end of what is paid for.
    at_period_end: bool,
}

/// End a subscription
///
/// With the period that is paid for, or else at once. One that is not paid for ends at once. `at_period_end` may be in a body
/// as well.
#[utoipa::path(post, path = "/payments/cancel-subscription", operation_id = "cancel_subscription", tag = "subscriptions",
    params(("at_period_end" = Option<bool>, Query, description = "Whether it goes on until then; yes where absent")),
    responses((status = 200, body = Cancelled), (status = 413, body = super::service::Problem)))]
pub(super) async fn cancel(
    FromState(speaker): State,
    user: User,
    Query(query, _): Query<Speech, Cancellation>,
    super::Raw(body, _): super::Raw<Speech>,
) -> Result<Response, Failed<Speech>> {
    let in_body = if body.iter().all(u8::is_ascii_whitespace) {
        None
    } else {
        fields::parse::<Cancellation>(&body)?.at_period_end
    };
    let at_period_end = query.at_period_end.or(in_body).unwrap_or(true);
    Ok(answer(end_it(&speaker, &user, at_period_end).await.map_err(failed("cancel subscription"))?))
}

async fn end_it(speaker: &Speaker<SpeechSettings>, user: &User, at_period_end: bool) -> Result<Cancelled, Failure> {
    let found = user.find(speaker).await?;
    let known = found.and_then(|row| row.customer.state.subscriptions.last().cloned());
    let known = known.ok_or(Refusal::UnknownSubscription)?;
    let at_period_end = at_period_end && known.state.is_in_force();
    let step = match at_period_end {
        true => SubscriptionStep::CancelAtPeriodEnd,
        false => SubscriptionStep::Cancel { prorate: false },
    };
    let command = Command::StepSubscription { subscription: known.id, step };
    let done = speaker.spoken.execute(&user.key, command, None).await?;
    wait(speaker, user, &done).await?;
    let after = find(speaker, user, known.id).await?;
    if after.pending.is_some() {
        return Err(Failure::ProviderUnavailable);
    }
    if let Some(failure) = after.failure.filter(|_| !after.state.has_ended()) {
        return Err(Failure::Declined(failure));
    }
    tracing::info!(event = "subscription_cancelled", subscription = %known.id, at_period_end);
    let message = match at_period_end {
        true => "Subscription will be cancelled at the end of the billing period",
        false => "Subscription cancelled",
    };
    Ok(Cancelled { success: true, message, at_period_end })
}

/// What was used of a service in the month under way.
#[derive(Debug, Serialize, ToSchema)]
struct CurrentUsage {
    amount: i64,
    /// In cents.
    cost: i64,
    unit: String,
}

/// How a user stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Whether there is a subscription that has not ended.
    has_subscription: bool,
    plan_name: Option<String>,
    plan_type: Option<&'static str>,
    /// As the provider names it, or `no_subscription`.
    status: &'static str,
    current_period_start: Option<String>,
    current_period_end: Option<String>,
    cancel_at_period_end: bool,
    /// What the plan in force includes.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    features: Features,
    /// By service, in the month under way.
    current_usage: BTreeMap<String, CurrentUsage>,
    /// By service, for those of which the plan in force says how much a month includes.
    overage: BTreeMap<String, Overage>,
}

/// The plan that a user is on, and what it has used of it
#[utoipa::path(get, path = "/payments/subscription-status", operation_id = "get_subscription_status", tag = "subscriptions",
    responses((status = 200, body = Status)))]
pub(super) async fn status(FromState(speaker): State, user: User) -> Result<Response, Failed<Speech>> {
    Ok(answer(stands(&speaker, &user).await.map_err(failed("get subscription status"))?))
}

async fn stands(speaker: &Speaker<SpeechSettings>, user: &User) -> Result<Status, Failure> {
    let mut status = Status {
        has_subscription: false,
        plan_name: None,
        plan_type: None,
        status: "no_subscription",
        current_period_start: None,
        current_period_end: None,
        cancel_at_period_end: false,
        features: Features::new(),
        current_usage: BTreeMap::new(),
        overage: BTreeMap::new(),
    };
    let Some(row) = user.find(speaker).await? else { return Ok(status) };
    let used = used(speaker, &row, this_month(speaker)?).await?;
    (status.features, status.overage) = entitled(speaker, &row, &used)?;
    let view = |(service, used): (String, Used)| {
        let usage = CurrentUsage { amount: whole(used.quantity), cost: cents(used.cost), unit: used.unit };
        (service, usage)
    };
    status.current_usage = used.into_iter().map(view).collect();
    let Some(latest) = latest(speaker, &row).await? else { return Ok(status) };
    let plans = &speaker.spoken.catalog().plans;
    let plan = plans.version(&latest.terms.version, &latest.terms.plan).ok();
    Ok(Status {
        has_subscription: !latest.state.has_ended(),
        plan_name: Some(latest.terms.plan.to_string()),
        plan_type: plan.map(|plan| kind(&speaker.settings, plan)),
        status: latest.state.as_str(),
        current_period_start: Some(instant(latest.period.start)),
        current_period_end: Some(instant(latest.period.end)),
        cancel_at_period_end: latest.cancel_at_period_end,
        ..status
    })
}

/// The subscription that a user has, or the last one that it had, as of when its row was read: one that has begun since would not
/// go with what the row says of features and usage.
async fn latest(speaker: &Speaker<SpeechSettings>, row: &CustomerRow) -> Result<Option<Subscription>, Failure> {
    if let Some(live) = row.customer.state.subscriptions.last() {
        return Ok(Some(live.clone()));
    }
    let (owner, page) = ((row.customer.shard_key, row.customer.id), Page { after: None, limit: 2 });
    let store = &speaker.spoken.app.store;
    let found = store.subscriptions(&speaker.spoken.scope_of(row), owner, page).await?;
    Ok(found.into_iter().map(|row| row.value).find(|subscription| subscription.state.has_ended()))
}
