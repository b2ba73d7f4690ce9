//! Customers: the billing of a practice, with its credits.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::{Command, CustomerChange, Effect, PayerChange, Profile};
use serde::Serialize;
use serde_json::{Number, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::payment_method::{PaymentMethod, await_payer};
use super::practice::{Practice, cents_of, dollars, user};
use super::{Body, Caller, Failed, Failure, Helppet, HelppetSettings, Named, Speaker, State, answer, instant};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::store::CustomerRow;

/// A practice whose billing is to begin.
#[derive(Debug)]
pub(super) struct NewCustomer {
    /// A UUID.
    practice_id: String,
    /// Where receipts go; may be empty.
    email: String,
    /// The practice's name.
    practice_name: String,
}

impl ToSchema for NewCustomer {}

impl PartialSchema for NewCustomer {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("practice_id", 0, 255).text("email", 0, 255).text("practice_name", 0, 255);
        let practice = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
        shape.schema(json!({"practice_id": practice, "email": "office@practice.example", "practice_name": "Practice"}))
    }
}

impl Read for NewCustomer {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let practice_id = fields.required_text("practice_id", 0..=255);
        let email = fields.required_text("email", 0..=255);
        let practice_name = fields.required_text("practice_name", 0..=255);
        Some(Self { practice_id: practice_id?, email: email?, practice_name: practice_name? })
    }
}

/// That a practice's billing is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Created {
    success: bool,
    message: String,
    customer: CreatedCustomer,
}

/// The billing of a practice, as it is told when it is set up.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedCustomer {
    id: String,
    stripe_customer_id: String,
    email: Option<String>,
    balance_credits_cents: i64,
    #[schema(value_type = f64)]
    balance_credits_dollars: Number,
    created_at: String,
}

/// Set up a practice's billing
///
/// It gets what the tenant file gives to new customers. A practice whose billing is set up stays as it is.
#[utoipa::path(post, path = "/api/v1/stripe/customers", operation_id = "create_customer", tag = "customers", request_body = NewCustomer,
    responses((status = 200, body = Created)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Body(body, _): Body<Helppet, NewCustomer>,
) -> Result<Response, Failed<Helppet>> {
    let practice = Practice::of(&speaker, &caller, &body.practice_id, Scope::Write)?;
    speaker.spoken.require_provider()?;
    if practice.find(&speaker).await?.is_none() {
        let profile = profile(&body, user(&caller)?.and_then(|claims| claims.user.as_deref()));
        let change = CustomerChange { profile: Some(profile), ..CustomerChange::default() };
        let done = speaker.spoken.execute(&practice.key, Command::Upsert(change), None).await?;
        if done.created {
            tracing::info!(event = "stripe_customer_created", practice = &*practice.key.external_id);
        }
    }
    let row = register(&speaker, &practice).await?;
    let Some(reference) = &row.customer.state.payer.reference else { return Err(Failure::ProviderUnavailable.into()) };
    let cents = cents_of(&speaker, &row)?;
    let created = Created {
        success: true,
        message: format!("Billing is set up; the balance is ${}", dollars(cents)),
        customer: CreatedCustomer {
            id: row.customer.id.to_string(),
            stripe_customer_id: reference.to_string(),
            email: row.profile.email.clone(),
            balance_credits_cents: cents,
            balance_credits_dollars: dollars(cents),
            created_at: instant(row.created_at),
        },
    };
    Ok(answer(created))
}

fn profile(body: &NewCustomer, created_by: Option<&str>) -> Profile {
    let created_by = created_by.map(|user| ("created_by_user_id".to_owned(), user.to_owned()));
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Profile {
        name: given(&body.practice_name),
        email: given(&body.email),
        metadata: created_by.into_iter().collect(),
        ..Profile::default()
    }
}

/// Waits until the provider has the customer too.
async fn register(speaker: &Speaker<HelppetSettings>, practice: &Practice) -> Result<CustomerRow, Failure> {
    let row = practice.require(speaker).await?;
    if row.customer.state.payer.reference.is_some() {
        return Ok(row);
    }
    await_payer(speaker, practice, PayerChange::Register, |effect| matches!(effect, Effect::RegisterPayer)).await?;
    practice.require(speaker).await
}

/// The billing of a practice, where it is set up.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    /// Whether it is set up.
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    customer: Option<Customer>,
}

/// The billing of a practice.
#[derive(Debug, Serialize, ToSchema)]
struct Customer {
    stripe_customer_id: Option<String>,
    email: Option<String>,
    balance_credits_cents: i64,
    #[schema(value_type = f64)]
    balance_credits_dollars: Number,
    has_payment_method: bool,
    default_payment_method_id: Option<String>,
    payment_methods: Vec<PaymentMethod>,
    created_at: String,
    updated_at: String,
}

impl Customer {
    fn of(speaker: &Speaker<HelppetSettings>, row: &CustomerRow) -> Result<Self, Failure> {
        let (state, cents) = (&row.customer.state, cents_of(speaker, row)?);
        let text = |reference: &std::sync::Arc<str>| reference.to_string();
        Ok(Self {
            stripe_customer_id: state.payer.reference.as_ref().map(text),
            email: row.profile.email.clone(),
            balance_credits_cents: cents,
            balance_credits_dollars: dollars(cents),
            has_payment_method: state.has_payment_method(),
            default_payment_method_id: state.payer.default_method.as_ref().map(text),
            payment_methods: PaymentMethod::all(&state.payer),
            created_at: instant(row.created_at),
            updated_at: instant(state.payer.methods_seen_at.map_or(row.created_at, |seen| seen.max(row.created_at))),
        })
    }
}

/// A practice's billing
///
/// Where it is not set up yet, that is said with `customer` as `null`.
#[utoipa::path(get, path = "/api/v1/stripe/customers/{practice_id}", operation_id = "get_customer", tag = "customers",
    params(("practice_id" = String, Path, description = "The practice, a UUID")), responses((status = 200, body = Found)))]
pub(super) async fn get(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
) -> Result<Response, Failed<Helppet>> {
    let practice = Practice::of(&speaker, &caller, &id, Scope::Read)?;
    let found = practice.find(&speaker).await?;
    let customer = found.map(|row| Customer::of(&speaker, &row)).transpose()?;
    let message = customer.is_none().then_some("Billing is not set up for this practice");
    Ok(answer(Found { success: customer.is_some(), message, customer }))
}

/// Whether there is a payment method.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HasPaymentMethod {
    success: bool,
    has_payment_method: bool,
}

/// Whether a practice has a payment method
///
/// What the paywall asks. A charge on a meter that needs one is refused by the server too.
#[utoipa::path(get, path = "/api/v1/stripe/customers/{practice_id}/has-payment-method", operation_id = "has_payment_method", tag = "customers",
    params(("practice_id" = String, Path, description = "The practice, a UUID")), responses((status = 200, body = HasPaymentMethod)))]
pub(super) async fn has_payment_method(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
) -> Result<Response, Failed<Helppet>> {
    let practice = Practice::of(&speaker, &caller, &id, Scope::Read)?;
    let found = practice.find(&speaker).await?;
    let has_payment_method = found.is_some_and(|row| row.customer.state.has_payment_method());
    Ok(answer(HasPaymentMethod { success: true, has_payment_method }))
}
