//! Customers: a user at the payment provider.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::{Command, CustomerChange, Effect, PayerChange, Profile};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::user::User;
use super::{Asked, Data, Failed, Failure, Parentpilot, ParentpilotSettings, Speaker, State, data, or_told};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;

/// The longest name or e-mail address.
const LONGEST: usize = 255;

/// A user whose billing is to begin.
#[derive(Debug)]
pub(super) struct NewCustomer {
    email: String,
    name: String,
}

impl ToSchema for NewCustomer {}

impl PartialSchema for NewCustomer {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("email", 1, LONGEST).text("name", 1, LONGEST);
        shape.schema(json!({"email": "user@example.com", "name": "John Doe"}))
    }
}

impl Read for NewCustomer {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (email, name) = (fields.plain_text("email", LONGEST), fields.plain_text("name", LONGEST));
        if email.is_none() || name.is_none() {
            fields.refuse("email", "missing", "Email and name are required");
        }
        Some(Self { email: email?, name: name? })
    }
}

/// A user at the payment provider.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Customer {
    id: String,
    email: Option<String>,
    name: Option<String>,
    /// The provider's id of the subscription that has not ended.
    #[serde(rename = "subscriptionId", skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
}

impl Customer {
    pub(super) fn new(reference: &str, profile: &Profile) -> Self {
        let (email, name) = (profile.email.clone(), profile.name.clone());
        Self { id: reference.to_owned(), email, name, subscription_id: None }
    }

    pub(super) fn subscribed(self, subscription: Option<&str>) -> Self {
        Self { subscription_id: subscription.map(str::to_owned), ..self }
    }
}

/// Begin a user's billing
///
/// A user has one customer at the provider, however often it is asked for.
#[utoipa::path(post, path = "/api/payments/customers", operation_id = "create_customer", tag = "customers", request_body = NewCustomer,
    responses((status = 200, body = Data<Customer>)))]
pub(super) async fn create(
    FromState(speaker): State,
    user: User,
    Asked(body): Asked<NewCustomer>,
) -> Result<Response, Failed<Parentpilot>> {
    user.require(Scope::Write)?;
    or_told(begin(&speaker, &user, body).await, "Failed to create customer")
}

async fn begin(speaker: &Speaker<ParentpilotSettings>, user: &User, body: NewCustomer) -> Result<Response, Failure> {
    let spoken = &speaker.spoken;
    spoken.require_provider()?;
    let before = user.find(spoken).await?.map(|row| row.profile);
    let known = before.clone().unwrap_or_default();
    let profile = Profile { name: Some(body.name), email: Some(body.email), ..known };
    if before.as_ref() != Some(&profile) {
        let change = CustomerChange { profile: Some(profile), ..CustomerChange::default() };
        spoken.execute(&user.key, Command::Upsert(change), None).await?;
    }
    if user.payer(spoken).await.is_err() {
        let registers = |effect: &Effect| matches!(effect, Effect::RegisterPayer);
        spoken.change_payer(&user.key, PayerChange::Register, registers).await?;
    }
    let row = user.find(spoken).await?.ok_or(Failure::ProviderUnavailable)?;
    let reference = row.customer.state.payer.reference.as_ref().ok_or(Failure::ProviderUnavailable)?;
    tracing::info!(event = "stripe_customer_created", customer = &**reference);
    Ok(data(Customer::new(reference, &row.profile)))
}
