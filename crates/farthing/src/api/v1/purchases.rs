//! Purchases: a pack is sold, the provider collects, and what was bought shows up in the wallet once it is paid.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId, keyed_id};
use engine::purchase::{MOST_PACKS, purchased_grant};
use engine::report::Failure;
use engine::{Collection, CollectionRequest, Command, Effect, Money, PaymentState, Purchase, PurchaseRequest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::{Address, Body, Name, is_no_part_of_what_is_asked};
use crate::api::caller::Caller;
use crate::api::idempotent::{IdempotencyKey, answer, replayed};
use crate::api::parameters::{Named, public_id};
use crate::api::problem::Problem;
use crate::api::v1::charges::request;
use crate::app::App;
use crate::auth::Scope;
use crate::idempotency::fingerprint;
use crate::service::{Answer, Request};
use crate::store::{EffectResult, OperationRef, PaymentRow};

/// How long a request waits for the provider before it answers with what is known by then.
const WAIT: Duration = Duration::from_secs(20);

/// A pack to be bought.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pack": "starter"}))]
pub(in crate::api) struct NewPurchase {
    /// The pack, by its name in the tenant file.
    pack: Name,
    /// How many; one where absent.
    #[schema(minimum = 1, maximum = 1000)]
    quantity: Option<u32>,
    /// Where the customer pays: in your own page with `client_secret` where absent, otherwise on a page of the provider's
    /// or with a card on file.
    #[serde(default)]
    collect: Collect,
    /// Your key for this operation; the same key buys once. `Idempotency-Key` may say it instead.
    #[serde(skip_serializing_if = "is_no_part_of_what_is_asked")]
    operation_key: Option<Name>,
}

/// Where the customer pays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "by", deny_unknown_fields)]
pub(in crate::api) enum Collect {
    /// In your own page, with `client_secret` and the provider's script.
    Browser {
        /// Whether the card is put on file for later.
        #[serde(default)]
        save_payment_method: bool,
    },
    /// On a page of the provider's, at `page`.
    Page {
        /// Where the customer goes on after paying.
        success_url: Address,
        /// Where the customer goes back to without paying.
        cancel_url: Address,
    },
    /// With a payment method on file, without the customer.
    OnFile {
        /// Which; the default one where absent.
        payment_method: Option<Name>,
    },
}

impl Default for Collect {
    fn default() -> Self {
        Self::Browser { save_payment_method: false }
    }
}

impl Collect {
    /// How the engine is asked for it.
    pub(in crate::api) fn request(&self) -> CollectionRequest {
        match self {
            Self::Browser { save_payment_method } => {
                CollectionRequest::By(Collection::OnSession { save_method: *save_payment_method })
            }
            Self::Page { success_url, cancel_url } => CollectionRequest::By(Collection::Page {
                success_url: success_url.as_str().into(),
                cancel_url: cancel_url.as_str().into(),
            }),
            Self::OnFile { payment_method } => {
                CollectionRequest::OnFile(payment_method.as_ref().map(|method| Arc::from(method.as_str())))
            }
        }
    }
}

/// Why a payment, a refund or a payment method did not work.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Failure)]
pub(in crate::api) struct FailureView {
    /// The provider's code, such as `card_declined`.
    code: String,
    /// The bank's reason, such as `insufficient_funds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_code: Option<String>,
    /// Words that the customer may read.
    message: String,
}

impl FailureView {
    pub(in crate::api) fn of(failure: &Failure) -> Self {
        Self {
            code: failure.code.to_string(),
            decline_code: failure.decline_code.as_deref().map(str::to_owned),
            message: failure.message.to_string(),
        }
    }
}

/// What was bought, and how far its payment is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Purchase)]
pub(in crate::api) struct PurchaseView {
    /// Its id.
    id: String,
    /// The id of its payment.
    payment: String,
    /// Who bought it: your own id of the customer.
    customer: String,
    /// The pack.
    pack: String,
    /// What it is, as the customer reads it.
    title: String,
    /// How many.
    quantity: u32,
    /// What it costs.
    price: String,
    /// In this currency.
    currency: String,
    /// What it gives: the currency or unit.
    asset: String,
    /// What it gives: how much.
    amount: String,
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
    /// The grant that it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// Whether the automatic top-up bought it.
    automatic: bool,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    paid_at: Option<Timestamp>,
}

impl PurchaseView {
    /// The purchase that a payment is, where it is one.
    fn of(caller: &Caller, row: &PaymentRow) -> Result<Self, Problem> {
        let payment = &row.payment;
        let Purchase { pack, title, quantity, asset, amount, automatic, .. } =
            payment.purpose.purchase().ok_or_else(unknown)?;
        let public = |kind, id| PublicId { kind, shard_key: row.shard_key, id }.to_string();
        let secret = payment.client_secret.as_deref().map(str::to_owned);
        Ok(Self {
            id: public(Kind::Purchase, payment.id),
            payment: public(Kind::Payment, payment.id),
            customer: row.external_id.clone(),
            pack: pack.to_string(),
            title: title.to_string(),
            quantity: *quantity,
            price: major(&payment.amount),
            currency: payment.amount.currency.to_string(),
            asset: asset.to_string(),
            amount: amount.to_string(),
            state: payment.state,
            failure: payment.failure.as_ref().map(FailureView::of),
            publishable_key: secret.as_ref().and_then(|_| caller.connection()?.publishable_key.clone()),
            client_secret: secret,
            page: payment.page.as_deref().map(str::to_owned),
            grant: payment.paid_at.map(|_| public(Kind::Grant, purchased_grant(payment.id))),
            automatic: *automatic,
            created_at: payment.created_at,
            paid_at: payment.paid_at,
        })
    }
}

/// A sum in major units.
pub(in crate::api) fn major(money: &Money) -> String {
    money.micros().map_or_else(|_| money.minor.to_string(), |amount| amount.to_string())
}

/// Buy a pack
///
/// The purchase is recorded, then the provider is asked for the payment. With `client_secret` the customer pays in your
/// page, on `page` the customer pays at the provider; the credit is there when `state` is `paid`. Where the provider does not
/// answer in time, `state` is `pending` and the status 202: ask for the purchase again later.
#[utoipa::path(post, path = "/v1/customers/{customer}/purchases", operation_id = "create_purchase", tag = "purchases", request_body = NewPurchase,
    params(("customer" = String, Path, description = "Your own id of the customer"), ("Idempotency-Key" = Option<String>, Header, description = "Your key for this operation")),
    responses((status = 201, body = PurchaseView), (status = 202, body = PurchaseView, description = "Recorded; the provider has not answered yet")))]
pub(in crate::api) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    key: IdempotencyKey,
    Named(customer): Named,
    Body(body): Body<NewPurchase>,
) -> Result<Response, Problem> {
    caller.require(Scope::Write)?;
    caller.require_connection()?;
    let _under_way = key.enter(&app, &caller, &customer)?;
    let operation_key = key.operation_key(body.operation_key.as_ref().map(Name::as_str))?;
    let quantity = body.quantity.unwrap_or(1);
    if !(1..=MOST_PACKS).contains(&quantity) {
        return Err(Problem::invalid("invalid_value", format!("`quantity` is 1 to {MOST_PACKS}")).at("/quantity"));
    }
    let customer = caller.customer(&customer)?;
    let shard_key = customer.shard_key;
    let keyed = |key: String| keyed_id(&customer.tenant, &customer.external_id, "purchase", &key);
    let operation = operation_key.map(|key| (keyed(key), fingerprint(&body)));
    let id = operation.map_or_else(|| app.clock.new_id(), |(id, _)| id);
    let command = Command::Purchase(PurchaseRequest {
        id,
        pack: Arc::from(body.pack.as_str()),
        quantity,
        collection: body.collect.request(),
    });
    let request = Request { operation, ..request(&app, &caller, customer, command, caller.now()) };
    let done = app.service.execute(request).await?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment } if *payment == id);
    await_effect(&app, shard_key, &done, makes_it).await?;
    let row = find(&app, &caller, (shard_key, id)).await?;
    let status = if row.payment.state == PaymentState::Pending { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    Ok(replayed(answer(status, PurchaseView::of(&caller, &row)?), done.replayed))
}

/// A purchase
#[utoipa::path(get, path = "/v1/purchases/{purchase}", operation_id = "get_purchase", tag = "purchases",
    params(("purchase" = String, Path, description = "Its id")), responses((status = 200, body = PurchaseView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let row = find(&app, &caller, public_id(&id, Kind::Purchase)?).await;
    let row = row.map_err(|problem| match problem.code() {
        "unknown_payment" => unknown(),
        _ => problem,
    })?;
    Ok(answer(StatusCode::OK, PurchaseView::of(&caller, &row)?))
}

fn unknown() -> Problem {
    Problem::not_found("unknown_purchase", "there is no purchase with this id")
}

/// A payment that the caller may see.
pub(in crate::api) async fn find(app: &App, caller: &Caller, id: OperationRef) -> Result<PaymentRow, Problem> {
    let row = app.store.payment(&caller.scope(), id).await?;
    let row = row.filter(|row| caller.may_see(&row.external_id));
    row.ok_or_else(|| engine::Refusal::UnknownPayment.into())
}

/// Waits until the wanted effect of a command has ended, for a while; what came of it.
pub(in crate::api) async fn await_effect(
    app: &App,
    shard_key: i32,
    done: &Answer,
    wanted: impl Fn(&Effect) -> bool,
) -> Result<Option<EffectResult>, Problem> {
    Ok(app.outbox.wait_for(&*app.store, (shard_key, &done.effects), wanted, WAIT).await?)
}
