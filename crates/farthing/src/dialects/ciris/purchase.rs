//! Purchases: uses bought by the pack. They are there when the provider's webhook has said that they are paid.

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{Collection, CollectionRequest, Command, Effect, PaymentState, PurchaseRequest};
use serde::Serialize;
use utoipa::ToSchema;

use super::account::{Identity, Opening, find_or_create};
use super::{Body, Caller, Ciris, CirisSettings, Failed, Failure, State, answer, whole};
use crate::auth::Scope;
use crate::dialects::Speaker;
use crate::dialects::fields::{Fields, Read};
use crate::store::PaymentRow;

/// A pack to be bought.
#[derive(Debug, ToSchema)]
pub(super) struct NewPurchase {
    #[schema(inline)]
    identity: Identity,
}

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
            status: status(payment.state),
            publishable_key: connection.and_then(|connection| connection.publishable_key.clone()),
        })
    }
}

/// How far a payment is, in Stripe's words.
const fn status(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Pending | PaymentState::RequiresPayment => "requires_payment_method",
        PaymentState::RequiresAction => "requires_action",
        PaymentState::Processing => "processing",
        PaymentState::Paid => "succeeded",
        PaymentState::Failed | PaymentState::Canceled => "canceled",
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
