//! Customers: the billing of an organisation.

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{keyed_id, operation_id};
use engine::{Command, CustomerChange, Effect, PayerChange, Profile, Refusal};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

use super::organisation::{Member, is_billed};
use super::{
    Body, Caller, Failed, Failure, NO_CUSTOMER, Orgvoice, OrgvoiceSettings, Speaker, State, answer, instant, said,
};
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::service::Answer;
use crate::store::{CustomerKey, CustomerRow, EffectEnd, EffectResult};

/// The longest of the texts that a request brings, in characters.
const LONGEST: usize = 255;

/// An organisation whose billing is to begin.
#[derive(Debug)]
pub(super) struct NewCustomer {
    /// Where receipts go.
    pub(super) email: String,
    pub(super) name: Option<String>,
    pub(super) phone: Option<String>,
}

impl ToSchema for NewCustomer {}

impl PartialSchema for NewCustomer {
    fn schema() -> RefOr<Schema> {
        let shape = Shape::new().text("email", 0, LONGEST);
        let shape = shape.optional_text("name", LONGEST).optional_text("phone", LONGEST);
        shape.schema(json!({"email": "test@example.com", "name": "Test Organization"}))
    }
}

impl Read for NewCustomer {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required_text("email", 0..=LONGEST);
        let name = fields.text("name", 0..=LONGEST);
        let phone = fields.text("phone", 0..=LONGEST);
        Some(Self { email: email?, name, phone })
    }
}

/// The billing of an organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Customer {
    id: String,
    tenant_id: String,
    stripe_customer_id: String,
    email: String,
    name: Option<String>,
    phone: Option<String>,
    created_at: String,
    updated_at: Option<String>,
}

impl Customer {
    fn of(row: &CustomerRow) -> Result<Self, Failure> {
        let payer = &row.customer.state.payer;
        let Some(reference) = &payer.reference else { return Err(Failure::ProviderUnavailable) };
        Ok(Self {
            id: row.customer.id.to_string(),
            tenant_id: row.external_id.clone(),
            stripe_customer_id: reference.to_string(),
            email: row.profile.email.clone().unwrap_or_default(),
            name: row.profile.name.clone(),
            phone: row.profile.metadata.get("phone").cloned(),
            created_at: instant(row.created_at),
            updated_at: payer.methods_seen_at.map(instant),
        })
    }
}

/// Set up an organisation's billing
///
/// Once: a second time is refused with 400.
#[utoipa::path(post, path = "/api/billing/customer", operation_id = "create_customer", tag = "billing", request_body = NewCustomer,
    responses((status = 200, body = Customer)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Orgvoice>,
    Body(body, _): Body<Orgvoice, NewCustomer>,
) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::admin(&speaker, &caller)?;
    speaker.spoken.require_provider()?;
    match set_up(&speaker, &member, &body).await? {
        Some(row) => Ok(answer(Customer::of(&row)?)),
        None => {
            let words = "Customer already exists for this organization";
            Err(Failed::with(said(StatusCode::BAD_REQUEST, words)))
        }
    }
}

/// Sets up an organisation's billing. Of several requests at once one does it, and the others come too late; where the
/// provider has refused it, the next one tries again. The organisation's row where this request did it.
pub(super) async fn set_up(
    speaker: &Speaker<OrgvoiceSettings>,
    member: &Member<'_>,
    new: &NewCustomer,
) -> Result<Option<CustomerRow>, Failure> {
    if member.find(speaker).await?.is_some() {
        return Ok(None);
    }
    let known = member.row(speaker).await?.map(|row| row.profile).unwrap_or_default();
    let key = &member.key;
    let first = keyed_id(&key.tenant, &key.external_id, "orgvoice_customer", "profile");
    match upsert(speaker, key, profile(known.clone(), new), Some((first, 0))).await {
        // One that comes back after it was erased is another customer, and is set up anew.
        Err(Failure::Refused(Refusal::OperationKeyReused)) => {
            upsert(speaker, key, profile(known.clone(), new), None).await?;
        }
        upserted => upserted?,
    }
    let customer = member.row(speaker).await?.ok_or(Failure::Unavailable)?.customer.id;
    let asked = register(speaker, key, Some(customer)).await?;
    let mut came_first = !asked.replayed;
    if let Some(failure) = failure(speaker, key, &asked).await? {
        if came_first {
            return Err(failure);
        }
        upsert(speaker, key, profile(known, new), None).await?;
        let again = register(speaker, key, None).await?;
        self::failure(speaker, key, &again).await?.map_or(Ok(()), Err)?;
        came_first = true;
    }
    let row = member.row(speaker).await?.filter(is_billed).ok_or(Failure::ProviderUnavailable)?;
    if !came_first {
        return Ok(None);
    }
    tracing::info!(event = "stripe_customer_created", organisation = &*key.external_id);
    Ok(Some(row))
}

fn profile(known: Profile, new: &NewCustomer) -> Profile {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut metadata = known.metadata;
    metadata.extend(new.phone.clone().map(|phone| ("phone".to_owned(), phone)));
    let name = new.name.as_deref().and_then(given).or(known.name);
    Profile { name, email: given(&new.email), metadata, address: known.address, tax_id: known.tax_id }
}

async fn upsert(
    speaker: &Speaker<OrgvoiceSettings>,
    key: &CustomerKey,
    profile: Profile,
    once: Option<(Uuid, i64)>,
) -> Result<(), Failure> {
    let change = CustomerChange { profile: Some(profile), ..CustomerChange::default() };
    speaker.spoken.execute(key, Command::Upsert(change), once).await?;
    Ok(())
}

/// Asks for the provider's customer; once in the life of a customer of ours, where that is given.
async fn register(
    speaker: &Speaker<OrgvoiceSettings>,
    key: &CustomerKey,
    once: Option<Uuid>,
) -> Result<Answer, Failure> {
    let command = Command::ChangePayer(PayerChange::Register);
    let operation = once.map(|customer| (operation_id(customer, "orgvoice_customer", "register"), 0));
    Ok(speaker.spoken.execute(key, command, operation).await?)
}

/// Why the provider would not make the customer, where it would not.
async fn failure(
    speaker: &Speaker<OrgvoiceSettings>,
    key: &CustomerKey,
    asked: &Answer,
) -> Result<Option<Failure>, Failure> {
    let told = speaker.spoken.wait_for(key, asked, |effect| matches!(effect, Effect::RegisterPayer)).await?;
    Ok(match told {
        Some(EffectResult { end: EffectEnd::Failed, result }) => Some(Failure::of_effect(result.as_deref())),
        _ => None,
    })
}

/// An organisation's billing
#[utoipa::path(get, path = "/api/billing/customer", operation_id = "get_customer", tag = "billing",
    responses((status = 200, body = Customer)))]
pub(super) async fn get(FromState(speaker): State, caller: Caller<Orgvoice>) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::of(&speaker, &caller)?;
    let Some(row) = member.find(&speaker).await? else {
        return Err(Failed::with(said(StatusCode::NOT_FOUND, NO_CUSTOMER)));
    };
    Ok(answer(Customer::of(&row)?))
}
