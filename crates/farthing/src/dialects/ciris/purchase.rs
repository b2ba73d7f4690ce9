//! Purchases: uses bought by the pack. They are there when the provider's webhook has said that they are paid.

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::keyed_id;
use engine::report::RefundProgress;
use engine::{
    Collection, CollectionRequest, Command, CustomerChange, Effect, PaymentStep, Profile, PurchaseRequest, Refusal,
};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::account::{Identity, Opening, find_or_create, identity_shape};
use super::{Body, Caller, Ciris, CirisSettings, Failed, Failure, Named, State, answer, said, whole};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::dialects::{Speaker, payment_status};
use crate::idempotency::fingerprint;
use crate::store::PaymentRow;

/// A pack to be bought.
#[derive(Debug)]
pub(super) struct NewPurchase {
    identity: Identity,
}

impl PartialSchema for NewPurchase {
    fn schema() -> RefOr<Schema> {
        let shape = identity_shape().text("customer_email", 1, 255).optional_text("return_url", 2000);
        shape.schema(json!({
            "oauth_provider": "oauth:google", "external_id": "user@example.com", "customer_email": "user@example.com"
        }))
    }
}

impl ToSchema for NewPurchase {}

impl Read for NewPurchase {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        fields.required_text("customer_email", 1..=255)?;
        fields.text("return_url", 1..=2000);
        Some(Self { identity: identity? })
    }
}

/// What is being bought, and how far its payment is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Purchase {
    payment_id: String,
    client_secret: Option<String>,
    amount_minor: i64,
    currency: String,
    uses_purchased: i64,
    /// In Stripe's words.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    publishable_key: Option<String>,
}

impl Purchase {
    pub(super) fn of(speaker: &Speaker<CirisSettings>, row: &PaymentRow) -> Result<Self, Failure> {
        let payment = &row.payment;
        let Some(reference) = &payment.reference else { return Err(Failure::ProviderUnavailable) };
        let bought = payment.purpose.purchase().ok_or(Failure::NotFound)?;
        let connection = speaker.spoken.tenant.connection.as_ref();
        Ok(Self {
            payment_id: reference.to_string(),
            client_secret: payment.client_secret.as_deref().map(str::to_owned),
            amount_minor: payment.amount.minor,
            currency: payment.amount.currency.to_string(),
            uses_purchased: whole(bought.amount) / speaker.settings.units_per_use,
            status: payment_status(payment.state),
            publishable_key: connection.and_then(|connection| connection.publishable_key.clone()),
        })
    }
}

/// Begin to buy uses
///
/// Pay with `client_secret` in the user's browser.
#[utoipa::path(post, path = "/v1/billing/purchases", operation_id = "create_purchase", tag = "billing", request_body = NewPurchase,
    responses((status = 201, body = Purchase)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewPurchase>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Write)?;
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let account = find_or_create(&speaker, &body.identity, &Opening::plain(&speaker.settings)).await?;
    let key = spoken.key(&account.external_id);
    if account.profile.email.is_none() {
        // The provider sends its receipt there.
        let profile = Profile { email: body.identity.customer_email, ..account.profile.clone() };
        let change = CustomerChange { profile: Some(profile), ..CustomerChange::default() };
        spoken.execute(&key, Command::Upsert(change), None).await?;
    }
    let id = spoken.app.clock.new_id();
    let command = Command::Purchase(PurchaseRequest {
        id,
        pack: speaker.settings.pack.clone(),
        quantity: 1,
        collection: CollectionRequest::By(Collection::OnSession { save_method: false }),
    });
    let done = spoken.execute(&key, command, None).await?;
    tracing::info!(event = "creating_stripe_payment_intent", account = %account.customer.id, payment = %id);
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment } if *payment == id);
    spoken.wait_for(&key, &done, makes_it).await?;
    let row = spoken.app.store.payment(&spoken.scope_of(&account), (key.shard_key, id)).await?;
    let row = row.ok_or(Failure::Unavailable)?;
    if let Some(failure) = row.payment.failure.as_ref().filter(|_| row.payment.reference.is_none()) {
        return Err(Failure::Declined(failure.clone()).into());
    }
    tracing::info!(event = "stripe_payment_intent_created", payment = %id);
    Ok(answer(StatusCode::CREATED, Purchase::of(&speaker, &row)?))
}

/// A purchase by what the provider calls its payment.
async fn find(speaker: &Speaker<CirisSettings>, payment_id: &str) -> Result<PaymentRow, Failed<Ciris>> {
    let unknown = || Failed::with(said(StatusCode::NOT_FOUND, &format!("Payment not found: {payment_id}")));
    // The provider's names are short and plain, and the database is not asked for others.
    if payment_id.len() > 255 || !payment_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unknown());
    }
    let spoken = &speaker.spoken;
    let row = spoken.app.store.payment_of_reference(&spoken.catalog().tenant, payment_id).await?;
    row.filter(|row| row.payment.purpose.purchase().is_some()).ok_or_else(unknown)
}

/// A purchase, and how far its payment is
#[utoipa::path(get, path = "/v1/billing/purchases/{payment_id}", operation_id = "get_purchase", tag = "billing",
    params(("payment_id" = String, Path, description = "The payment, as it was answered")), responses((status = 200, body = Purchase)))]
pub(super) async fn get(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Named(payment_id, _): Named<Ciris, String>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Read)?;
    let row = find(&speaker, &payment_id).await?;
    Ok(answer(StatusCode::OK, Purchase::of(&speaker, &row)?))
}

/// How far the payment of a purchase is
#[utoipa::path(get, path = "/v1/billing/purchases/{payment_id}/status", operation_id = "get_purchase_status", tag = "billing",
    params(("payment_id" = String, Path, description = "The payment, as it was answered")), responses((status = 200, body = Purchase)))]
pub(super) async fn get_status(
    state: State,
    caller: Caller<Ciris>,
    named: Named<Ciris, String>,
) -> Result<Response, Failed<Ciris>> {
    get(state, caller, named).await
}

/// What is to be given back of a purchase.
#[derive(Debug)]
pub(super) struct NewRefund {
    /// How much, in minor units; all that is left where absent.
    amount_minor: Option<i64>,
    /// The same key gives back once.
    idempotency_key: Option<String>,
}

impl PartialSchema for NewRefund {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().optional_integer("amount_minor", 1).optional_text("idempotency_key", 255);
        shape.schema(json!({}))
    }
}

impl ToSchema for NewRefund {}

impl Read for NewRefund {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let amount_minor = fields.integer("amount_minor", 1);
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        Some(Self { amount_minor, idempotency_key })
    }
}

/// What was given back of a purchase.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refund {
    refund_id: String,
    payment_id: String,
    amount_minor: i64,
    currency: String,
    /// How much of the balance was taken back for it.
    balance_taken: i64,
    /// `pending`, `succeeded` or `failed`.
    status: &'static str,
}

/// Give a purchase back
///
/// What is unspent of it leaves the balance before the money goes.
#[utoipa::path(post, path = "/v1/billing/purchases/{payment_id}/refund", operation_id = "refund_purchase", tag = "billing", request_body = NewRefund,
    params(("payment_id" = String, Path, description = "The payment, as it was answered")),
    responses((status = 201, body = Refund), (status = 409, body = super::service::Problem)))]
pub(super) async fn refund(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Named(payment_id, _): Named<Ciris, String>,
    Body(body, _): Body<Ciris, NewRefund>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Write)?;
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let row = find(&speaker, &payment_id).await?;
    let key = spoken.key(&row.external_id);
    let keyed = |given: &String| keyed_id(&key.tenant, &key.external_id, "refund", &format!("{payment_id} {given}"));
    let operation = body.idempotency_key.as_ref().map(|given| (keyed(given), fingerprint(&body.amount_minor)));
    let id = operation.map_or_else(|| spoken.app.clock.new_id(), |(id, _)| id);
    let step = PaymentStep::Refund { id, minor: body.amount_minor };
    tracing::info!(event = "creating_stripe_refund", payment = %row.payment.id, refund = %id);
    let command = Command::StepPayment { payment: row.payment.id, step };
    let done = spoken.execute(&key, command, operation).await?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreateRefund { refund, .. } if *refund == id);
    spoken.wait_for(&key, &done, makes_it).await?;
    let row = find(&speaker, &payment_id).await?;
    let made = row.payment.refunds.iter().find(|made| made.id == id).ok_or(Refusal::UnknownRefund)?;
    let status = match made.progress {
        RefundProgress::Pending => "pending",
        RefundProgress::Succeeded => "succeeded",
        RefundProgress::Failed => "failed",
    };
    tracing::info!(event = "stripe_refund_created", refund = %id, status);
    let refund = Refund {
        refund_id: made.reference.as_deref().map_or_else(|| id.to_string(), str::to_owned),
        payment_id,
        amount_minor: made.minor,
        currency: row.payment.amount.currency.to_string(),
        balance_taken: whole(made.unspent),
        status,
    };
    Ok(answer(StatusCode::CREATED, refund))
}
