//! Subscriptions: a plan in force for a customer, begun, changed, paused and ended; and what each of these would invoice.

pub(in crate::api) mod preview;
pub(in crate::api) mod view;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, keyed_id};
use engine::subscription::MOST_QUANTITY;
use engine::{ChangeTime, Command, Effect, Proration, Refusal, SubscribeRequest, SubscriptionStep, TermsChange};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Name, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters, public_id};
use crate::api::problem::Problem;
use crate::api::time::Time;
use crate::api::v1::charges::request;
use crate::api::v1::purchases::{Collect, await_effect};
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request, ServiceError};
use crate::store::{BillingRow, OperationRef};
use view::SubscriptionView;

/// The most different add-ons that one request books.
const MOST_ADD_ONS: usize = 20;

/// The longest trial, in days, as Stripe's.
const LONGEST_TRIAL: u16 = 730;

/// An add-on to be booked.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewAddOn {
    /// The add-on, by its name in the tenant file.
    name: Name,
    /// How many; one where absent.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: Option<u32>,
}

/// A subscription to begin.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"plan": "pro"}))]
pub(in crate::api) struct NewSubscription {
    /// The plan, by its name in the tenant file.
    plan: Name,
    /// How many; one where absent.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: Option<u32>,
    /// What is booked with it; what is not recurring is billed once.
    #[serde(default)]
    #[schema(max_items = 20)]
    add_ons: Vec<NewAddOn>,
    /// The code of a coupon.
    coupon: Option<Name>,
    /// How many days are free, in place of what the plan says; 0 for none.
    #[schema(maximum = 730)]
    trial_days: Option<u16>,
    /// Where the customer pays the first invoice. Where absent: with the card on file that is used by default, or, without
    /// one, in your own page with `client_secret`, and the card is put on file.
    collect: Option<Collect>,
    /// Whether the customer pays its invoices by itself, and nobody collects them.
    #[serde(default)]
    by_invoice: bool,
    /// Your key for this operation; the same key subscribes once. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

impl NewSubscription {
    fn request(&self, id: uuid::Uuid) -> Result<SubscribeRequest, Problem> {
        if self.trial_days.is_some_and(|days| days > LONGEST_TRIAL) {
            let detail = format!("`trial_days` is 0 to {LONGEST_TRIAL}");
            return Err(Problem::invalid("invalid_value", detail).at("/trial_days"));
        }
        if self.by_invoice && self.collect.is_some() {
            let detail = "`collect` and `by_invoice` exclude each other; send one";
            return Err(Problem::invalid("invalid_value", detail).at("/collect"));
        }
        Ok(SubscribeRequest {
            id,
            plan: Arc::from(self.plan.as_str()),
            quantity: quantity(self.quantity, "/quantity")?.unwrap_or(1),
            add_ons: add_ons(&self.add_ons)?,
            coupon: self.coupon.as_ref().map(|code| Arc::from(code.as_str())),
            trial_days: self.trial_days,
            collection: self.collect.as_ref().map(Collect::request),
            by_invoice: self.by_invoice,
            replaces: None,
        })
    }
}

fn quantity(asked: Option<u32>, pointer: &str) -> Result<Option<u32>, Problem> {
    if asked.is_some_and(|quantity| !(1..=MOST_QUANTITY).contains(&quantity)) {
        let detail = format!("`quantity` is 1 to {MOST_QUANTITY}");
        return Err(Problem::invalid("invalid_value", detail).at(pointer));
    }
    Ok(asked)
}

fn add_ons(asked: &[NewAddOn]) -> Result<Vec<(Arc<str>, u32)>, Problem> {
    if asked.len() > MOST_ADD_ONS {
        let detail = format!("there may be at most {MOST_ADD_ONS} add-ons");
        return Err(Problem::invalid("invalid_value", detail).at("/add_ons"));
    }
    let add_on = |(index, add_on): (usize, &NewAddOn)| {
        let many = quantity(add_on.quantity, &format!("/add_ons/{index}/quantity"))?;
        Ok((Arc::from(add_on.name.as_str()), many.unwrap_or(1)))
    };
    asked.iter().enumerate().map(add_on).collect()
}

/// When a subscription changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum When {
    /// At once.
    #[default]
    Now,
    /// With the next period.
    NextPeriod,
}

/// What becomes of the difference in price for the rest of the period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum ProrationChoice {
    /// Nothing: the new price holds from the next period on.
    None,
    /// It is invoiced and collected at once.
    Now,
    /// It goes on the next invoice.
    #[default]
    NextInvoice,
}

/// What to change of a subscription; what is absent stays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"plan": "pro", "proration": "now"}))]
pub(in crate::api) struct SubscriptionChange {
    /// Another plan, or the same in the version that is sold now.
    plan: Option<Name>,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: Option<u32>,
    /// All that is booked with it from then on.
    #[schema(max_items = 20)]
    add_ons: Option<Vec<NewAddOn>>,
    /// `now`, or `next_period`: the change waits, and `keep` takes it back.
    #[serde(default)]
    when: When,
    /// Of a change `now`: `next_invoice`, `now` or `none`.
    #[serde(default)]
    proration: ProrationChoice,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

impl SubscriptionChange {
    fn step(&self) -> Result<SubscriptionStep, Problem> {
        if self.plan.is_none() && self.quantity.is_none() && self.add_ons.is_none() {
            let detail = "say what to change: `plan`, `quantity` or `add_ons`";
            return Err(Problem::invalid("invalid_value", detail).at("/plan"));
        }
        let change = TermsChange {
            plan: self.plan.as_ref().map(|plan| Arc::from(plan.as_str())),
            quantity: quantity(self.quantity, "/quantity")?,
            add_ons: self.add_ons.as_deref().map(add_ons).transpose()?,
        };
        let when = match (self.when, self.proration) {
            (When::NextPeriod, _) => ChangeTime::NextPeriod,
            (When::Now, ProrationChoice::None) => ChangeTime::Now(Proration::None),
            (When::Now, ProrationChoice::Now) => ChangeTime::Now(Proration::Now),
            (When::Now, ProrationChoice::NextInvoice) => ChangeTime::Now(Proration::NextInvoice),
        };
        Ok(SubscriptionStep::Change(change, when))
    }
}

/// When a subscription ends.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(in crate::api) struct Cancellation {
    /// With the period that is paid for, or else at once.
    #[serde(default = "yes")]
    at_period_end: bool,
    /// Whether the rest of the fee is given back to the next invoice, where it ends at once.
    #[serde(default)]
    prorate: bool,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

const fn yes() -> bool {
    true
}

/// How long a subscription waits.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub(in crate::api) struct Pause {
    /// When it goes on by itself; until it is resumed where absent.
    resumes_at: Option<Time>,
    /// Your key for this operation. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// Subscribe to a plan
///
/// Without a trial the first invoice is made and collected at once. Where the customer has to pay it, `state` is
/// `incomplete`, and `invoice.payment` has what the customer's browser needs; it is `active` once that is paid, and ends
/// after 23 hours otherwise. Where the provider does not answer in time the status is 202: ask for the subscription later.
/// A repeat shows the subscription as it stands.
#[utoipa::path(post, path = "/v1/customers/{customer}/subscriptions", operation_id = "create_subscription", tag = "subscriptions", request_body = NewSubscription,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = SubscriptionView), (status = 202, body = SubscriptionView, description = "Recorded; the provider has not answered yet")))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewSubscription>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    if !body.by_invoice {
        caller.require_connection()?;
    }
    let _under_way = key.enter(&app, &caller, &customer)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let customer = caller.customer(&customer)?;
    let shard_key = customer.shard_key;
    let keyed = |key: String| keyed_id(&customer.tenant, &customer.external_id, "subscription", &key);
    let operation = operation_key.map(|key| (keyed(key), fingerprint(&body)));
    let id = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let command = Command::Subscribe(body.request(id)?);
    let request = Request { operation, ..request(&app, &caller, customer, command, caller.now()) };
    let done = app.service.execute(request).await?;
    await_provider(&app, shard_key, &done).await?;
    let view = expanded(&app, &caller, (shard_key, id)).await?;
    let status = if view.is_pending() { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(replayed(answer(status, view), done.replayed))
}

/// A customer's subscriptions
///
/// The newest first, those that have ended included.
#[utoipa::path(get, path = "/v1/customers/{customer}/subscriptions", operation_id = "list_subscriptions", tag = "subscriptions",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<SubscriptionView>)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &customer).await?;
    let found = app.store.subscriptions(&scope, (row.customer.shard_key, row.customer.id), page).await?;
    let cursor = |row: &BillingRow<engine::Subscription>| (row.value.started_at, row.value.id);
    Ok(answer(StatusCode::OK, page_of(found, page.limit, cursor, |row| SubscriptionView::of(&row))))
}

/// A subscription
///
/// With its newest invoice, and the payment of that.
#[utoipa::path(get, path = "/v1/subscriptions/{subscription}", operation_id = "get_subscription", tag = "subscriptions",
    params(("subscription" = String, Path, description = "Its id")), responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let view = expanded(&app, &caller, public_id(&id, Kind::Subscription)?).await?;
    Ok(answer(StatusCode::OK, view))
}

/// A subscription that the caller may see.
async fn find(app: &App, caller: &Caller, id: OperationRef) -> Result<BillingRow<engine::Subscription>, Problem> {
    let found = app.store.subscription(&caller.scope(), id).await?;
    let found = found.filter(|row| caller.may_see(&row.external_id));
    found.ok_or_else(|| Problem::not_found("unknown_subscription", "there is no subscription with this id"))
}

/// A subscription as it stands, with its newest invoice, and the payment of that.
async fn expanded(app: &App, caller: &Caller, id: OperationRef) -> Result<SubscriptionView, Problem> {
    let row = find(app, caller, id).await?;
    let mut view = SubscriptionView::of(&row);
    if let Some(payment) = row.value.latest_payment
        && let Some(payment) = app.store.payment(&caller.scope(), (row.shard_key, payment)).await?
    {
        view = view.with_payment(caller, &payment);
    }
    let Some(latest) = row.value.latest_invoice else { return Ok(view) };
    let Some(invoice) = app.store.invoice(&caller.scope(), (row.shard_key, latest)).await? else { return Ok(view) };
    let payment = match invoice.value.standing.payment {
        Some(payment) => app.store.payment(&caller.scope(), (row.shard_key, payment)).await?,
        None => None,
    };
    Ok(view.with_invoice(caller, &invoice, payment.as_ref()))
}

/// Waits for the provider where a command asked it for a payment, or for something about a subscription of its own.
async fn await_provider(app: &App, shard_key: i32, done: &Answer) -> Result<(), Problem> {
    let asks = |effect: &Effect| {
        matches!(
            effect,
            Effect::CreatePayment { .. }
                | Effect::CreateSubscription { .. }
                | Effect::ChangeSubscription { .. }
                | Effect::EndSubscription { .. }
        )
    };
    // Time that had passed may have asked for others before.
    let Some(last) = done.effects.iter().rfind(|record| asks(&record.effect)) else { return Ok(()) };
    await_effect(app, shard_key, done, |effect| *effect == last.effect).await?;
    Ok(())
}

/// Something done to a subscription, with its key and a hash of what is asked.
struct Doing<'a> {
    id: &'a str,
    key: Option<String>,
    name: &'static str,
    fingerprint: i64,
    step: SubscriptionStep,
}

impl Doing<'_> {
    /// Does it, and shows the subscription as it stands then.
    async fn take(self, app: &App, caller: &Caller) -> Result<Response, Problem> {
        let id = public_id(self.id, Kind::Subscription)?;
        let row = find(app, caller, id).await?;
        let customer = caller.customer(&row.external_id)?;
        let keyed = |key: String| {
            let kind = format!("subscription_{}", self.name);
            keyed_id(&customer.tenant, &customer.external_id, &kind, &key)
        };
        let operation = self.key.map(|key| (keyed(key), self.fingerprint));
        let command = Command::StepSubscription { subscription: row.value.id, step: self.step };
        let request = Request { operation, ..request(app, caller, customer, command, caller.now()) };
        let done = match app.service.execute(request).await {
            // It is there, so it has ended.
            Err(ServiceError::Refused(Refusal::UnknownSubscription)) => {
                let state = find(app, caller, id).await?.value.state.as_str();
                return Err(Refusal::SubscriptionState { state }.into());
            }
            done => done?,
        };
        await_provider(app, id.0, &done).await?;
        let view = expanded(app, caller, id).await?;
        Ok(replayed(answer(StatusCode::OK, view), done.replayed))
    }
}

/// Change a subscription
///
/// To another plan, quantity or add-ons. A change `now` with proration `now` is invoiced and collected at once; ask for
/// the exact amounts before with `change/preview`.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/change", operation_id = "change_subscription", tag = "subscriptions", request_body = SubscriptionChange,
    params(("subscription" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<SubscriptionChange>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let fingerprint = fingerprint(&("change", &id, &body));
    Doing { id: &id, key: operation_key, name: "change", fingerprint, step: body.step()? }.take(&app, &caller).await
}

/// End a subscription
///
/// With the period that is paid for, unless it is to end at once. A customer's own token may end its subscription with the
/// period, and nothing else.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/cancel", operation_id = "cancel_subscription", tag = "subscriptions", request_body = Cancellation,
    params(("subscription" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<Cancellation>,
) -> Result<Response, Problem> {
    if body.at_period_end {
        caller.require_own(Scope::Write)?;
    } else {
        caller.require(Scope::Write)?;
    }
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let step = match (body.at_period_end, body.prorate) {
        (true, true) => {
            let detail =
                "what ends with its period has no rest to give back; send `at_period_end` false with `prorate`";
            return Err(Problem::invalid("invalid_value", detail).at("/prorate"));
        }
        (true, false) => SubscriptionStep::CancelAtPeriodEnd,
        (false, prorate) => SubscriptionStep::Cancel { prorate },
    };
    let fingerprint = fingerprint(&("cancel", &id, &body));
    Doing { id: &id, key: operation_key, name: "cancel", fingerprint, step }.take(&app, &caller).await
}

/// Keep a subscription
///
/// Takes back that it ends with its period, and a change that waits for the next. A customer's own token may do this.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/keep", operation_id = "keep_subscription", tag = "subscriptions",
    params(("subscription" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn keep(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require_own(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let (operation_key, fingerprint) = (key.get().map(str::to_owned), fingerprint(&("keep", &id)));
    let step = SubscriptionStep::Keep;
    Doing { id: &id, key: operation_key, name: "keep", fingerprint, step }.take(&app, &caller).await
}

/// Pause a subscription
///
/// The plan is not in force, and nothing is invoiced, until it is resumed.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/pause", operation_id = "pause_subscription", tag = "subscriptions", request_body = Pause,
    params(("subscription" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn pause(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
    Body(body): Body<Pause>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let fingerprint = fingerprint(&("pause", &id, &body));
    let resumes_at: Option<Timestamp> = body.resumes_at.map(|at| at.0);
    let step = SubscriptionStep::Pause { resumes_at };
    let paused = Doing { id: &id, key: operation_key, name: "pause", fingerprint, step }.take(&app, &caller).await;
    paused.map_err(|problem| match problem.code() {
        "already_expired" => problem.at("/resumes_at"),
        _ => problem,
    })
}

/// Resume a subscription
///
/// Within the period that is paid for; where that is over, a new one begins and is invoiced.
#[utoipa::path(post, path = "/v1/subscriptions/{subscription}/resume", operation_id = "resume_subscription", tag = "subscriptions",
    params(("subscription" = String, Path, description = "Its id"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = SubscriptionView)))]
pub(in crate::api) async fn resume(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    let _under_way = key.enter(&app, &caller, &id)?;
    let (operation_key, fingerprint) = (key.get().map(str::to_owned), fingerprint(&("resume", &id)));
    let step = SubscriptionStep::Resume;
    Doing { id: &id, key: operation_key, name: "resume", fingerprint, step }.take(&app, &caller).await
}
