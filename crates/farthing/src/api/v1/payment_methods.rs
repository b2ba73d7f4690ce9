//! Payment methods on file, and the automatic top-up that uses them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::customer::State as CustomerState;
use engine::id::keyed_id;
use engine::report::{Failure, PaymentMethod};
use engine::{Command, Effect, Money, PayerChange, TopUpSettings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Body, Name, Number, PositiveNumber};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::{Named, NamedOf};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::api::v1::purchases::{await_effect, major};
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request};
use crate::store::{EffectEnd, EffectResult};

/// A payment method on file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentMethod)]
pub(in crate::api) struct PaymentMethodView {
    /// The provider's id of it.
    id: String,
    /// The card's brand, such as `visa`.
    brand: String,
    /// The last four digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    last4: Option<String>,
    /// The month in which it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_month: Option<u8>,
    /// The year in which it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_year: Option<u16>,
    /// Whether it is used when none is named.
    default: bool,
}

/// The payment methods of a customer.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PaymentMethods {
    /// The newest first; twenty at the most.
    data: Vec<PaymentMethodView>,
}

impl PaymentMethods {
    fn of(state: &CustomerState) -> Self {
        let view = |method: &PaymentMethod| PaymentMethodView {
            id: method.reference.to_string(),
            brand: method.brand.to_string(),
            last4: method.last4.as_deref().map(str::to_owned),
            expiry_month: method.expires.map(|(month, _)| month),
            expiry_year: method.expires.map(|(_, year)| year),
            default: state.payer.default_method.as_ref() == Some(&method.reference),
        };
        Self { data: state.payer.methods.iter().map(view).collect() }
    }
}

/// A customer's payment methods
#[utoipa::path(get, path = "/v1/customers/{customer}/payment_methods", operation_id = "list_payment_methods", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = PaymentMethods)))]
pub(in crate::api) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &customer).await?;
    Ok(answer(StatusCode::OK, PaymentMethods::of(&row.customer.state)))
}

/// What the customer's browser needs to put a payment method on file.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Setup {
    /// For the provider's script.
    client_secret: String,
    /// Goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    publishable_key: Option<String>,
}

/// What came of beginning a setup, as the outbox keeps it.
#[derive(Deserialize)]
struct Begun {
    client_secret: String,
}

/// Begin to put a payment method on file
///
/// The customer's browser finishes it with the provider's script; the payment method is then attached by itself.
#[utoipa::path(post, path = "/v1/customers/{customer}/payment_methods/setup", operation_id = "begin_setup", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = Setup)))]
pub(in crate::api) async fn setup(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
) -> Result<Response, Problem> {
    let (done, result) = change(&app, &caller, &key, &customer, PayerChange::BeginSetup).await?;
    let begun = result.and_then(|text| serde_json::from_str::<Begun>(&text).ok());
    let begun = begun.ok_or_else(Problem::provider_unavailable)?;
    let publishable_key = caller.connection().and_then(|connection| connection.publishable_key.clone());
    Ok(replayed(
        answer(StatusCode::CREATED, Setup { client_secret: begun.client_secret, publishable_key }),
        done.replayed,
    ))
}

/// A payment method to be put on file.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"payment_method": "pm_card_visa"}))]
pub(in crate::api) struct NewPaymentMethod {
    /// The provider's id of it.
    payment_method: Name,
}

/// Put a payment method on file
///
/// One that the provider has already. Again does nothing; another customer's is refused.
#[utoipa::path(post, path = "/v1/customers/{customer}/payment_methods", operation_id = "attach_payment_method", tag = "payment methods", request_body = NewPaymentMethod,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = PaymentMethods)))]
pub(in crate::api) async fn attach(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewPaymentMethod>,
) -> Result<Response, Problem> {
    let asked = PayerChange::Attach { method: body.payment_method.as_str().into(), default: false };
    changed(&app, &caller, &key, &customer, asked).await
}

/// Use a payment method by default
#[utoipa::path(post, path = "/v1/customers/{customer}/payment_methods/{payment_method}/default", operation_id = "default_payment_method", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("payment_method" = String, Path, description = "The provider's id of it"),
        ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = PaymentMethods)))]
pub(in crate::api) async fn set_default(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    NamedOf(customer, method): NamedOf,
) -> Result<Response, Problem> {
    changed(&app, &caller, &key, &customer, PayerChange::SetDefault(method.into())).await
}

/// Take a payment method off the file
///
/// When the default one goes, the newest of the others takes its place.
#[utoipa::path(post, path = "/v1/customers/{customer}/payment_methods/{payment_method}/detach", operation_id = "detach_payment_method", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("payment_method" = String, Path, description = "The provider's id of it"),
        ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = PaymentMethods)))]
pub(in crate::api) async fn detach(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    NamedOf(customer, method): NamedOf,
) -> Result<Response, Problem> {
    changed(&app, &caller, &key, &customer, PayerChange::Detach(method.into())).await
}

/// When and what to buy automatically.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"threshold": "5", "pack": "starter", "monthly_limit": "100"}))]
pub(in crate::api) struct TopUpBody {
    /// When less than this is available of what the pack gives.
    threshold: Number,
    /// The pack.
    pack: Name,
    /// The most that may be spent so in a calendar month, in the pack's currency.
    monthly_limit: PositiveNumber,
}

/// The automatic top-up of a customer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopUp)]
pub(in crate::api) struct TopUpView {
    /// Whether there is one.
    enabled: bool,
    /// When less than this is available of what the pack gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<String>,
    /// The pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<String>,
    /// The most that may be spent so in a calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    monthly_limit: Option<String>,
    /// What was spent so in the month of the latest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    spent: Option<String>,
    /// Why it has stopped: the code of what went wrong. It goes on when the customer buys, adds a card, or it is set again.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
}

impl TopUpView {
    fn of(caller: &Caller, state: &CustomerState) -> Self {
        let top_up = state.payer.top_up.as_ref();
        let currency =
            top_up.and_then(|top| caller.catalog().pack(&top.settings.pack).ok()).map(|pack| &pack.price.currency);
        let money = |minor| currency.map(|currency| major(&Money { minor, currency: currency.clone() }));
        Self {
            enabled: top_up.is_some(),
            threshold: top_up.map(|top| top.settings.threshold.to_string()),
            pack: top_up.map(|top| top.settings.pack.to_string()),
            monthly_limit: top_up.and_then(|top| money(top.settings.monthly_limit)),
            spent: top_up.and_then(|top| money(top.spent)),
            stopped: top_up.and_then(|top| top.stopped.as_deref().map(str::to_owned)),
        }
    }
}

/// A customer's automatic top-up
#[utoipa::path(get, path = "/v1/customers/{customer}/top_up", operation_id = "get_top_up", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer")), responses((status = 200, body = TopUpView)))]
pub(in crate::api) async fn top_up(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(customer): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &customer).await?;
    Ok(answer(StatusCode::OK, TopUpView::of(&caller, &row.customer.state)))
}

/// Top up automatically
///
/// The default payment method is charged without the customer. After a decline it stops until the customer acts.
#[utoipa::path(put, path = "/v1/customers/{customer}/top_up", operation_id = "put_top_up", tag = "payment methods", request_body = TopUpBody,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = TopUpView)))]
pub(in crate::api) async fn put_top_up(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<TopUpBody>,
) -> Result<Response, Problem> {
    let pack = caller.catalog().pack(body.pack.as_str())?;
    let monthly_limit = Money::exactly(body.monthly_limit.micros(), &pack.price.currency).map_err(|_| {
        Problem::invalid("invalid_value", "the limit has more digits than the currency has coins for")
            .at("/monthly_limit")
    })?;
    let settings =
        TopUpSettings { threshold: body.threshold.0, pack: pack.name.clone(), monthly_limit: monthly_limit.minor };
    set_top_up(&app, &caller, &key, &customer, Some(settings)).await
}

/// Top up no longer
#[utoipa::path(post, path = "/v1/customers/{customer}/top_up/disable", operation_id = "disable_top_up", tag = "payment methods",
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 200, body = TopUpView)))]
pub(in crate::api) async fn disable_top_up(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
) -> Result<Response, Problem> {
    set_top_up(&app, &caller, &key, &customer, None).await
}

async fn set_top_up(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    customer: &str,
    settings: Option<TopUpSettings>,
) -> Result<Response, Problem> {
    let done = execute(app, caller, key, customer, PayerChange::TopUp(settings)).await?;
    app.outbox.wake();
    let (row, _) = caller.find(app, customer).await?;
    Ok(replayed(answer(StatusCode::OK, TopUpView::of(caller, &row.customer.state)), done.replayed))
}

/// Changes payment methods, and answers with those on file afterwards.
async fn changed(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    customer: &str,
    asked: PayerChange,
) -> Result<Response, Problem> {
    let (done, _) = change(app, caller, key, customer, asked).await?;
    let (row, _) = caller.find(app, customer).await?;
    Ok(replayed(answer(StatusCode::OK, PaymentMethods::of(&row.customer.state)), done.replayed))
}

/// Asks the provider for a change and waits for it; what came of it.
async fn change(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    customer: &str,
    asked: PayerChange,
) -> Result<(Answer, Option<String>), Problem> {
    let done = execute(app, caller, key, customer, asked).await?;
    let shard_key = caller.customer(customer)?.shard_key;
    let of_methods = |effect: &Effect| {
        use Effect::{AttachMethod, BeginSetup, DetachMethod, SetDefaultMethod};
        matches!(effect, BeginSetup | AttachMethod { .. } | DetachMethod { .. } | SetDefaultMethod { .. })
    };
    match await_effect(app, shard_key, &done, of_methods).await? {
        Some(EffectResult { end: EffectEnd::Done, result }) => Ok((done, result)),
        Some(EffectResult { end: EffectEnd::Failed, result }) => Err(refused(result.as_deref())),
        None => Err(Problem::provider_unavailable()),
    }
}

async fn execute(
    app: &App,
    caller: &Caller,
    key: &IdempotencyKey,
    customer: &str,
    asked: PayerChange,
) -> Result<Answer, Problem> {
    caller.require(Scope::Write)?;
    caller.require_connection()?;
    let _under_way = key.enter(app, caller, customer)?;
    let address = caller.customer(customer)?;
    let keyed = |key: &str| keyed_id(&address.tenant, &address.external_id, "payer", key);
    let operation = key.get().map(|key| (keyed(key), fingerprint(&format!("{asked:?}"))));
    let request = request(app, caller, address, Command::ChangePayer(asked), caller.now());
    Ok(app.service.execute(Request { operation, ..request }).await?)
}

/// What the provider refused, in words that the caller may pass on.
fn refused(result: Option<&str>) -> Problem {
    #[derive(Deserialize)]
    struct Failed {
        failure: Failure,
    }
    let failed: Option<Failed> = result.and_then(|text| serde_json::from_str(text).ok());
    let Some(Failed { failure }) = failed else { return Problem::provider_unavailable() };
    let status = match &*failure.code {
        "provider_object_missing" | "payment_method_of_another_customer" => {
            return engine::Refusal::UnknownPaymentMethod.into();
        }
        _ if failure.decline_code.is_some() => StatusCode::PAYMENT_REQUIRED,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let code = failure.decline_code.as_ref().map_or(&*failure.code, |_| "card_declined");
    Problem::new(status, code, &*failure.message)
}
