//! Payment methods: the cards of a practice. The provider has them; what is told is what it last said of them.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::payer::Payer;
use engine::{Effect, PayerChange, report};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::practice::Practice;
use super::{Body, Caller, Failed, Failure, Helppet, HelppetSettings, Named, Speaker, State, answer};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;

/// A card on file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentMethod {
    id: String,
    #[serde(flatten)]
    card: Card,
    is_default: bool,
}

/// What is printed on a card. What is no card has a brand alone, which is its kind.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Card {
    brand: String,
    last4: Option<String>,
    exp_month: Option<u8>,
    exp_year: Option<u16>,
}

impl Card {
    fn of(method: &report::PaymentMethod) -> Self {
        Self {
            brand: method.brand.to_string(),
            last4: method.last4.as_ref().map(ToString::to_string),
            exp_month: method.expires.map(|(month, _)| month),
            exp_year: method.expires.map(|(_, year)| year),
        }
    }
}

impl PaymentMethod {
    /// All of a practice, the newest first.
    pub(super) fn all(payer: &Payer) -> Vec<Self> {
        let view = |method: &report::PaymentMethod| Self {
            id: method.reference.to_string(),
            card: Card::of(method),
            is_default: payer.default_method.as_ref() == Some(&method.reference),
        };
        payer.methods.iter().map(view).collect()
    }
}

/// Changes what is on file and waits until the provider has done it; what it told.
pub(super) async fn await_payer(
    speaker: &Speaker<HelppetSettings>,
    practice: &Practice,
    change: PayerChange,
    wanted: impl Fn(&Effect) -> bool,
) -> Result<Option<String>, Failure> {
    speaker.spoken.change_payer(&practice.key, change, wanted).await
}

/// What the practice's browser needs to put a card on file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SetupIntent {
    success: bool,
    /// For the provider's script.
    client_secret: String,
    setup_intent_id: String,
}

/// Begin to put a card on file
///
/// Finish it with `client_secret` in the browser.
#[utoipa::path(post, path = "/api/v1/stripe/customers/{practice_id}/setup-intent", operation_id = "create_setup_intent", tag = "payment methods",
    params(("practice_id" = String, Path, description = "The practice, a UUID")), responses((status = 200, body = SetupIntent)))]
pub(super) async fn setup_intent(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
) -> Result<Response, Failed<Helppet>> {
    #[derive(Deserialize)]
    struct Begun {
        reference: String,
        client_secret: String,
    }
    let practice = Practice::of(&speaker, &caller, &id, Scope::Write)?;
    speaker.spoken.require_provider()?;
    practice.require(&speaker).await?;
    let told = await_payer(&speaker, &practice, PayerChange::BeginSetup, |effect| matches!(effect, Effect::BeginSetup))
        .await?;
    let begun: Option<Begun> = told.and_then(|text| serde_json::from_str(&text).ok());
    let Begun { reference, client_secret } = begun.ok_or(Failure::ProviderUnavailable)?;
    tracing::info!(event = "setup_intent_created", practice = &*practice.key.external_id);
    Ok(answer(SetupIntent { success: true, client_secret, setup_intent_id: reference }))
}

/// A card to be put on file.
#[derive(Debug)]
pub(super) struct NewPaymentMethod {
    /// The provider's id of it.
    payment_method_id: String,
    /// Whether it becomes the default one; yes where nothing is said. The first one does in any case.
    set_as_default: bool,
}

impl ToSchema for NewPaymentMethod {}

impl PartialSchema for NewPaymentMethod {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("payment_method_id", 1, 255).flag("set_as_default");
        shape.schema(json!({"payment_method_id": "pm_card_visa", "set_as_default": true}))
    }
}

impl Read for NewPaymentMethod {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let payment_method_id = fields.required_text("payment_method_id", 1..=255);
        let set_as_default = fields.flag("set_as_default").unwrap_or(true);
        Some(Self { payment_method_id: payment_method_id?, set_as_default })
    }
}

/// A card that is on file now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Added {
    success: bool,
    message: &'static str,
    payment_method_id: String,
    is_default: bool,
    card: Card,
}

/// Put a card on file
///
/// One that the browser has finished a setup with is on file already, which is fine.
#[utoipa::path(post, path = "/api/v1/stripe/customers/{practice_id}/payment-methods", operation_id = "add_payment_method", tag = "payment methods", request_body = NewPaymentMethod,
    params(("practice_id" = String, Path, description = "The practice, a UUID")), responses((status = 200, body = Added)))]
pub(super) async fn add(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
    Body(body, _): Body<Helppet, NewPaymentMethod>,
) -> Result<Response, Failed<Helppet>> {
    #[derive(Deserialize)]
    struct Attached {
        reference: String,
    }
    let practice = Practice::of(&speaker, &caller, &id, Scope::Write)?;
    speaker.spoken.require_provider()?;
    practice.require(&speaker).await?;
    let change = PayerChange::Attach { method: body.payment_method_id.as_str().into(), default: body.set_as_default };
    let told = await_payer(&speaker, &practice, change, |effect| matches!(effect, Effect::AttachMethod { .. })).await?;
    let attached: Option<Attached> = told.and_then(|text| serde_json::from_str(&text).ok());
    let payment_method_id = attached.ok_or(Failure::ProviderUnavailable)?.reference;
    tracing::info!(event = "payment_method_attached", practice = &*practice.key.external_id);
    let payer = practice.require(&speaker).await?.customer.state.payer;
    let method = payer.methods.iter().find(|method| *method.reference == *payment_method_id);
    let method = method.ok_or(Failure::Refused(engine::Refusal::UnknownPaymentMethod))?;
    Ok(answer(Added {
        success: true,
        message: "Payment method added",
        is_default: payer.default_method.as_ref() == Some(&method.reference),
        card: Card::of(method),
        payment_method_id,
    }))
}

/// The cards of a practice.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentMethods {
    success: bool,
    /// The newest first.
    payment_methods: Vec<PaymentMethod>,
}

/// The cards of a practice
#[utoipa::path(get, path = "/api/v1/stripe/customers/{practice_id}/payment-methods", operation_id = "list_payment_methods", tag = "payment methods",
    params(("practice_id" = String, Path, description = "The practice, a UUID")), responses((status = 200, body = PaymentMethods)))]
pub(super) async fn list(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
) -> Result<Response, Failed<Helppet>> {
    let practice = Practice::of(&speaker, &caller, &id, Scope::Read)?;
    let found = practice.find(&speaker).await?;
    let payment_methods = found.map(|row| PaymentMethod::all(&row.customer.state.payer)).unwrap_or_default();
    Ok(answer(PaymentMethods { success: true, payment_methods }))
}

/// That it was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    success: bool,
    message: &'static str,
}

/// Take a card off the file
///
/// When the default one goes, the newest of the others takes its place.
#[utoipa::path(delete, path = "/api/v1/stripe/customers/{practice_id}/payment-methods/{payment_method_id}", operation_id = "remove_payment_method", tag = "payment methods",
    params(("practice_id" = String, Path, description = "The practice, a UUID"), ("payment_method_id" = String, Path, description = "The provider's id of the card")),
    responses((status = 200, body = Done)))]
pub(super) async fn remove(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named((id, method), _): Named<Helppet, (String, String)>,
) -> Result<Response, Failed<Helppet>> {
    let change = PayerChange::Detach(method.into());
    let detaches = |effect: &Effect| matches!(effect, Effect::DetachMethod { .. });
    changed(&speaker, &caller, &id, change, detaches).await?;
    tracing::info!(event = "payment_method_detached", practice = &*id);
    Ok(answer(Done { success: true, message: "Payment method removed" }))
}

/// Use a card by default
#[utoipa::path(put, path = "/api/v1/stripe/customers/{practice_id}/payment-methods/{payment_method_id}/set-default", operation_id = "set_default_payment_method", tag = "payment methods",
    params(("practice_id" = String, Path, description = "The practice, a UUID"), ("payment_method_id" = String, Path, description = "The provider's id of the card")),
    responses((status = 200, body = Done)))]
pub(super) async fn set_default(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named((id, method), _): Named<Helppet, (String, String)>,
) -> Result<Response, Failed<Helppet>> {
    let change = PayerChange::SetDefault(method.into());
    let sets = |effect: &Effect| matches!(effect, Effect::SetDefaultMethod { .. });
    changed(&speaker, &caller, &id, change, sets).await?;
    tracing::info!(event = "payment_method_set_default", practice = &*id);
    Ok(answer(Done { success: true, message: "Default payment method updated" }))
}

/// Changes one of the cards on file.
async fn changed(
    speaker: &Speaker<HelppetSettings>,
    caller: &Caller<Helppet>,
    id: &str,
    change: PayerChange,
    wanted: impl Fn(&Effect) -> bool,
) -> Result<(), Failed<Helppet>> {
    let practice = Practice::of(speaker, caller, id, Scope::Write)?;
    speaker.spoken.require_provider()?;
    practice.require(speaker).await?;
    await_payer(speaker, &practice, change, wanted).await?;
    Ok(())
}
