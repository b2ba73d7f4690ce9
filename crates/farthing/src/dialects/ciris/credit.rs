//! Credit: whether a user may do one more use; and credit that is given or was bought elsewhere.

use std::time::Instant;

use axum::extract::State as FromState;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use engine::id::keyed_id;
use engine::{CheckRequest, Command, GrantKind, GrantRequest, Micros, Refusal};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::account::{Identity, Opening, balance_of, currency_of, find_or_create, identity_shape, note};
use super::{Body, Caller, Ciris, CirisSettings, Failed, Failure, Speaker, State, answer, instant, said, units, whole};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::idempotency::fingerprint;
use crate::service::ServiceError;
use crate::store::{CustomerRow, UsageQuery};

const EXISTING: HeaderName = HeaderName::from_static("x-existing-credit-id");

/// What a check is said to be about.
const CONTEXT: [&str; 3] = ["agent_id", "channel_id", "request_id"];

/// Where credit may come from, and the grants that it becomes.
const KINDS: [(&str, Kind); 4] = [
    ("purchase", Kind { name: "purchase", grant: GrantKind::Paid }),
    ("grant", Kind { name: "grant", grant: GrantKind::Promotional }),
    ("refund", Kind { name: "refund", grant: GrantKind::Refund }),
    ("adjustment", Kind { name: "adjustment", grant: GrantKind::Promotional }),
];

/// Where credit comes from.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    grant: GrantKind,
}

/// A use that somebody would like to make.
#[derive(Debug)]
pub(super) struct NewCheck {
    identity: Identity,
}

impl PartialSchema for NewCheck {
    fn schema() -> RefOr<Schema> {
        let shape = identity_shape().texts("context", &CONTEXT);
        shape.schema(json!({"oauth_provider": "oauth:google", "external_id": "user@example.com", "context": {}}))
    }
}

impl ToSchema for NewCheck {}

impl Read for NewCheck {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        fields.object("context", |context| {
            for name in CONTEXT {
                context.text(name, 0..=255);
            }
        })?;
        Some(Self { identity: identity? })
    }
}

/// Whether a use may be made, and what it would take.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Credit {
    has_credit: bool,
    credits_remaining: i64,
    plan_name: String,
    reason: Option<&'static str>,
    free_uses_remaining: i64,
    total_uses: i64,
    purchase_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_price_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_uses: Option<i64>,
}

/// Check whether one more use is covered
///
/// A user who is not known yet gets an account with its free uses.
#[utoipa::path(post, path = "/v1/billing/credits/check", operation_id = "check_credit", tag = "billing", request_body = NewCheck,
    responses((status = 200, body = Credit)))]
pub(super) async fn check(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewCheck>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Read)?;
    let began = Instant::now();
    let row = find_or_create(&speaker, &body.identity, &Opening::plain(&speaker.settings)).await?;
    let credit = credit_of(&speaker, &row).await?;
    count(&credit);
    metrics::histogram!("billing_credit_check_duration_seconds").record(began.elapsed());
    Ok(answer(StatusCode::OK, credit))
}

async fn credit_of(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<Credit, Failure> {
    let (spoken, settings) = (&speaker.spoken, &speaker.settings);
    let meter = settings.meter.clone();
    let one_use = CheckRequest { meter, quantity: Micros::ONE, dimensions: Default::default() };
    let key = spoken.key(&row.external_id);
    let check = spoken.app.service.check(spoken.catalog().clone(), key, one_use, spoken.now()).await?;
    let reason = check.refusal.as_ref().map(|refusal| match refusal {
        Refusal::Suspended => "Account suspended",
        Refusal::Closed => "Account closed",
        _ => "No free uses or credits remaining",
    });
    let purchase_required = check.refusal.as_ref().is_some_and(is_for_lack_of_credit);
    let pack = spoken.catalog().packs.get(&settings.pack).filter(|_| purchase_required);
    Ok(Credit {
        has_credit: check.refusal.is_none(),
        credits_remaining: whole(check.available),
        plan_name: note(row, "plan_name").unwrap_or(&settings.plan_name).to_owned(),
        reason,
        free_uses_remaining: whole(check.available_units),
        total_uses: total_uses(speaker, row).await?,
        purchase_required,
        purchase_price_minor: pack.map(|pack| pack.price.minor),
        purchase_uses: pack.map(|pack| whole(pack.amount) / settings.units_per_use),
    })
}

const fn is_for_lack_of_credit(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::InsufficientFunds { .. } | Refusal::HeldByOthers { .. })
}

/// How many uses were charged so far.
pub(super) async fn total_uses(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<i64, Failure> {
    let query = UsageQuery {
        customer: row.customer.id,
        shard_key: row.customer.shard_key,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        meter: Some(speaker.settings.meter.to_string()),
        subject: None,
        window: None,
        dimension: None,
        by_subject: false,
        limit: 100,
    };
    let sums = speaker.spoken.app.store.usage(&speaker.spoken.scope_of(row), &query).await?;
    Ok(sums.iter().map(|sum| sum.charges).sum())
}

fn count(credit: &Credit) {
    let words = |yes: bool| if yes { "true" } else { "false" };
    let labels = [
        ("has_credit", words(credit.has_credit)),
        ("reason", credit.reason.unwrap_or("none")),
        ("purchase_required", words(credit.purchase_required)),
    ];
    metrics::counter!("billing_credit_checks_total", &labels).increment(1);
}

/// Credit to be added.
#[derive(Debug)]
pub(super) struct NewCredit {
    identity: Identity,
    amount_minor: i64,
    currency: String,
    description: String,
    transaction_type: Kind,
    external_transaction_id: Option<String>,
    idempotency_key: Option<String>,
}

impl PartialSchema for NewCredit {
    fn schema() -> RefOr<Schema> {
        let shape = identity_shape().integer("amount_minor", 1).text("currency", 3, 3).text("description", 1, 10_000);
        let shape = shape.pattern("transaction_type", "^(purchase|grant|refund|adjustment)$");
        let shape = shape.optional_text("external_transaction_id", 255).optional_text("idempotency_key", 255);
        shape.schema(json!({
            "oauth_provider": "oauth:google", "external_id": "user@example.com", "amount_minor": 20, "currency": "USD",
            "description": "Welcome back", "transaction_type": "grant"
        }))
    }
}

impl ToSchema for NewCredit {}

impl Read for NewCredit {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        let amount_minor = fields.required_integer("amount_minor", 1);
        let currency = fields.required_text("currency", 3..=3);
        let description = fields.required_text("description", 1..=10_000);
        let transaction_type = fields.required_choice("transaction_type", &KINDS);
        let external_transaction_id = fields.text("external_transaction_id", 0..=255);
        let idempotency_key = fields.text("idempotency_key", 0..=255).filter(|key| !key.is_empty());
        Some(Self {
            identity: identity?,
            amount_minor: amount_minor?,
            currency: currency?.to_uppercase(),
            description: description?,
            transaction_type: transaction_type?,
            external_transaction_id,
            idempotency_key,
        })
    }
}

/// Credit that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedCredit {
    credit_id: String,
    account_id: String,
    amount_minor: i64,
    currency: String,
    balance_after: i64,
    transaction_type: &'static str,
    description: String,
    external_transaction_id: Option<String>,
    created_at: String,
}

/// Add credit to an account
///
/// The account has to be there, and a key adds once.
#[utoipa::path(post, path = "/v1/billing/credits", operation_id = "add_credit", tag = "billing", request_body = NewCredit,
    responses((status = 201, body = AddedCredit), (status = 400, body = super::service::Problem), (status = 409, body = super::service::Problem)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewCredit>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Write)?;
    let outcome = add(&speaker, &body).await;
    let success = if outcome.is_ok() { "True" } else { "False" };
    let labels = [("transaction_type", body.transaction_type.name), ("success", success)];
    metrics::counter!("billing_credits_added_total", &labels).increment(1);
    outcome
}

async fn add(speaker: &Speaker<CirisSettings>, body: &NewCredit) -> Result<Response, Failed<Ciris>> {
    let spoken = &speaker.spoken;
    let key = spoken.key(&body.identity.native_id());
    let row = spoken.customer(&key).await?.ok_or(Refusal::UnknownCustomer)?;
    let keyed = |given: &String| keyed_id(&key.tenant, &key.external_id, "credit", given);
    let asked = fingerprint(&(body.amount_minor, &body.description, body.transaction_type.name));
    let operation = body.idempotency_key.as_ref().map(|given| (keyed(given), asked));
    let own = currency_of(&row, &speaker.settings);
    if body.currency != own {
        // A repeat is told before anything else of the request is looked at.
        if let Some((id, _)) = operation
            && spoken.app.store.find_operation(&key.tenant, (key.shard_key, id)).await?.is_some()
        {
            return Err(exists(id));
        }
        let words = format!("Data integrity error: Currency mismatch: account={own}, credit={}", body.currency);
        return Err(Failed::with(said(StatusCode::BAD_REQUEST, &words)));
    }
    let id = operation.map_or_else(|| spoken.app.clock.new_id(), |(id, _)| id);
    let command = Command::Grant(GrantRequest {
        id,
        asset: speaker.settings.asset.to_string(),
        amount: units(body.amount_minor)?,
        kind: body.transaction_type.grant,
        priority: 100,
        expires_at: None,
        meters: Vec::new(),
        reason: Some(body.description.clone()),
    });
    match spoken.execute(&key, command, operation).await {
        Ok(done) if done.replayed => return Err(exists(id)),
        Err(ServiceError::Refused(Refusal::OperationKeyReused)) => return Err(exists(id)),
        done => done?,
    };
    let row = spoken.customer(&key).await?.ok_or(Refusal::UnknownCustomer)?;
    Ok(answer(
        StatusCode::CREATED,
        AddedCredit {
            credit_id: id.to_string(),
            account_id: row.customer.id.to_string(),
            amount_minor: body.amount_minor,
            currency: body.currency.clone(),
            balance_after: balance_of(speaker, &row)?,
            transaction_type: body.transaction_type.name,
            description: body.description.clone(),
            external_transaction_id: body.external_transaction_id.clone(),
            created_at: instant(spoken.now()),
        },
    ))
}

/// The key was used before, whatever was asked then.
fn exists(id: uuid::Uuid) -> Failed<Ciris> {
    let mut response = said(StatusCode::CONFLICT, "Credit already exists");
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(EXISTING, id);
    }
    Failed::with(response)
}
