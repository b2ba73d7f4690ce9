//! Accounts: who uses the product. An account is created by whatever names it first, and always with its free uses.

use std::collections::BTreeMap;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::keyed_id;
use engine::{Command, CustomerChange, GrantKind, GrantRequest, Profile, Refusal, wallet};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{
    Body, Caller, Ciris, CirisSettings, Failed, Failure, Named, Speaker, State, answer, instant, units, whole,
};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::dialects::schema::Shape;
use crate::store::{CustomerKey, CustomerRow, Page};

/// Which account is meant, and what else may be said of it. The account is found by provider and id alone, because a payment
/// brings nothing else back.
#[derive(Debug)]
pub(super) struct Identity {
    /// Who vouches for the user: begins with `oauth:`.
    pub(super) oauth_provider: String,
    /// The user's id there.
    pub(super) external_id: String,
    /// The user's e-mail address.
    pub(super) customer_email: Option<String>,
    /// The user's name.
    pub(super) display_name: Option<String>,
    /// The rest of what is said, by member.
    pub(super) notes: BTreeMap<String, String>,
}

/// What is kept of an account besides who it is, each as long as it may be.
const NOTES: [(&str, usize); 5] =
    [("wa_id", 255), ("tenant_id", 255), ("user_role", 50), ("agent_id", 255), ("marketing_opt_in_source", 50)];

/// How a body about an account looks.
pub(super) fn identity_shape() -> Shape {
    let shape = Shape::new().pattern("oauth_provider", "^oauth:[\\x21-\\x7e]{0,200}$").text("external_id", 1, 255);
    let shape = NOTES.iter().fold(shape, |shape, (name, most)| shape.optional_text(name, *most));
    shape.optional_text("display_name", 255).flag("marketing_opt_in")
}

impl Read for Identity {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let oauth_provider = fields.required_text("oauth_provider", 1..=255);
        if oauth_provider.as_ref().is_some_and(|provider| !provider.starts_with("oauth:")) {
            fields.refuse("oauth_provider", "value_error", "Value error, oauth_provider must start with \"oauth:\"");
        }
        let external_id = fields.required_text("external_id", 1..=255);
        let customer_email = fields.text("customer_email", 1..=255);
        let display_name = fields.text("display_name", 0..=255);
        let mut notes = BTreeMap::new();
        for (name, most) in NOTES {
            notes.extend(fields.text(name, 0..=most).map(|text| (name.to_owned(), text)));
        }
        if fields.flag("marketing_opt_in") == Some(true) {
            notes.insert("marketing_opt_in".to_owned(), "true".to_owned());
        }
        Some(Self { oauth_provider: oauth_provider?, external_id: external_id?, customer_email, display_name, notes })
    }
}

impl Identity {
    /// The native id of the customer. A `/` inside either part is written otherwise, and so is what that is written with, so
    /// that no two accounts have one id.
    pub(super) fn native_id(&self) -> String {
        native_id(&self.oauth_provider, &self.external_id)
    }
}

pub(super) fn native_id(oauth_provider: &str, external_id: &str) -> String {
    let part = |text: &str| text.replace('%', "%25").replace('/', "%2F");
    format!("{}/{}", part(oauth_provider), part(external_id))
}

/// What a new account begins with.
pub(super) struct Opening {
    pub(super) balance: i64,
    pub(super) currency: String,
    pub(super) plan_name: String,
}

impl Opening {
    /// As accounts begin that are only named.
    pub(super) fn plain(settings: &CirisSettings) -> Self {
        Self { balance: 0, currency: settings.currency.to_string(), plan_name: settings.plan_name.clone() }
    }
}

/// An account, found or created.
pub(super) async fn find_or_create(
    speaker: &Speaker<CirisSettings>,
    identity: &Identity,
    opening: &Opening,
) -> Result<CustomerRow, Failure> {
    let key = speaker.spoken.key(&identity.native_id());
    if let Some(row) = speaker.spoken.customer(&key).await? {
        return Ok(row);
    }
    let change = CustomerChange {
        profile: Some(profile(speaker, identity, opening)),
        opening_grants: opening_grants(speaker, &key, opening.balance)?,
        ..CustomerChange::default()
    };
    let done = speaker.spoken.execute(&key, Command::Upsert(change), None).await?;
    if done.created {
        metrics::counter!("billing_accounts_created_total").increment(1);
    }
    speaker.spoken.customer(&key).await?.ok_or(Failure::Unavailable)
}

fn profile(speaker: &Speaker<CirisSettings>, identity: &Identity, opening: &Opening) -> Profile {
    let mut metadata = identity.notes.clone();
    metadata.insert("oauth_provider".to_owned(), identity.oauth_provider.clone());
    metadata.insert("external_id".to_owned(), identity.external_id.clone());
    metadata.insert("currency".to_owned(), opening.currency.clone());
    metadata.insert("plan_name".to_owned(), opening.plan_name.clone());
    if metadata.contains_key("marketing_opt_in") {
        metadata.insert("marketing_opt_in_at".to_owned(), instant(speaker.spoken.now()));
    }
    Profile {
        name: identity.display_name.clone(),
        email: identity.customer_email.clone(),
        metadata,
        ..Profile::default()
    }
}

/// The balance that an account brings along.
fn opening_grants(
    speaker: &Speaker<CirisSettings>,
    key: &CustomerKey,
    balance: i64,
) -> Result<Vec<GrantRequest>, Failure> {
    if balance == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![GrantRequest {
        id: keyed_id(&key.tenant, &key.external_id, "opening", "balance"),
        asset: speaker.settings.asset.to_string(),
        amount: units(balance)?,
        kind: GrantKind::Promotional,
        priority: 100,
        expires_at: None,
        meters: Vec::new(),
        reason: Some("Initial balance".to_owned()),
    }])
}

/// What an account keeps in whose currency, and called how.
pub(super) fn note<'r>(row: &'r CustomerRow, name: &str) -> Option<&'r str> {
    row.profile.metadata.get(name).map(String::as_str)
}

/// The currency that an account is in.
pub(super) fn currency_of(row: &CustomerRow, settings: &CirisSettings) -> String {
    note(row, "currency").map_or_else(|| settings.currency.to_string(), str::to_owned)
}

/// What is left of an account's balance, in whole units.
pub(super) fn balance_of(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<i64, Failure> {
    let balances = wallet::balances(speaker.spoken.catalog(), &row.customer, speaker.spoken.now())?;
    Ok(balances.get(&speaker.settings.asset).map_or(0, |balance| whole(balance.available)))
}

/// An account to be created.
#[derive(Debug)]
pub(super) struct NewAccount {
    identity: Identity,
    initial_balance_minor: i64,
    currency: Option<String>,
    plan_name: Option<String>,
}

impl PartialSchema for NewAccount {
    fn schema() -> RefOr<Schema> {
        let shape = identity_shape().optional_integer("initial_balance_minor", 0);
        let shape = shape.optional_text("currency", 3).optional_text("plan_name", 100);
        shape.schema(json!({"oauth_provider": "oauth:google", "external_id": "user@example.com", "currency": "USD"}))
    }
}

impl ToSchema for NewAccount {}

impl Read for NewAccount {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        let initial_balance_minor = fields.integer("initial_balance_minor", 0).unwrap_or_default();
        let currency = fields.text("currency", 3..=3).map(|currency| currency.to_uppercase());
        let plan_name = fields.text("plan_name", 1..=100);
        Some(Self { identity: identity?, initial_balance_minor, currency, plan_name })
    }
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Account {
    account_id: String,
    oauth_provider: String,
    external_id: String,
    wa_id: Option<String>,
    tenant_id: Option<String>,
    customer_email: Option<String>,
    /// What is left of what was bought or given, in units.
    balance_minor: i64,
    currency: String,
    plan_name: String,
    /// `active`, `suspended` or `closed`.
    status: &'static str,
    /// The same as `balance_minor`: there is one balance.
    paid_credits: i64,
    marketing_opt_in: bool,
    marketing_opt_in_at: Option<String>,
    marketing_opt_in_source: Option<String>,
    created_at: String,
    updated_at: String,
}

impl Account {
    async fn of(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<Self, Failure> {
        let owner = (row.customer.shard_key, row.customer.id);
        let latest = Page { after: None, limit: 1 };
        let entries = speaker.spoken.app.store.entries(&speaker.spoken.scope_of(row), owner, None, latest).await?;
        let updated_at = entries.first().map_or(row.created_at, |entry| entry.recorded_at);
        let owned = |name: &str| note(row, name).map(str::to_owned);
        let balance = balance_of(speaker, row)?;
        let (provider, external_id) = parts(&row.external_id);
        Ok(Self {
            account_id: row.customer.id.to_string(),
            oauth_provider: owned("oauth_provider").unwrap_or(provider),
            external_id: owned("external_id").unwrap_or(external_id),
            wa_id: owned("wa_id"),
            tenant_id: owned("tenant_id"),
            customer_email: row.profile.email.clone(),
            balance_minor: balance,
            currency: currency_of(row, &speaker.settings),
            plan_name: owned("plan_name").unwrap_or_else(|| speaker.settings.plan_name.clone()),
            status: row.customer.status.as_str(),
            paid_credits: balance,
            marketing_opt_in: note(row, "marketing_opt_in").is_some(),
            marketing_opt_in_at: owned("marketing_opt_in_at"),
            marketing_opt_in_source: owned("marketing_opt_in_source"),
            created_at: instant(row.created_at),
            updated_at: instant(updated_at),
        })
    }
}

/// Provider and id in a native id, for an account that was created otherwise.
fn parts(native: &str) -> (String, String) {
    let plain = |text: &str| text.replace("%2F", "/").replace("%25", "%");
    let (provider, id) = native.split_once('/').unwrap_or(("", native));
    (plain(provider), plain(id))
}

/// Create an account, or find it
///
/// One that is there is answered as it is.
#[utoipa::path(post, path = "/v1/billing/accounts", operation_id = "create_account", tag = "billing", request_body = NewAccount,
    responses((status = 201, body = Account)))]
pub(super) async fn create(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewAccount>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Write)?;
    let plain = Opening::plain(&speaker.settings);
    let opening = Opening {
        balance: body.initial_balance_minor,
        currency: body.currency.unwrap_or(plain.currency),
        plan_name: body.plan_name.unwrap_or(plain.plan_name),
    };
    let row = find_or_create(&speaker, &body.identity, &opening).await?;
    Ok(answer(StatusCode::CREATED, Account::of(&speaker, &row).await?))
}

/// An account
#[utoipa::path(get, path = "/v1/billing/accounts/{oauth_provider}/{external_id}", operation_id = "get_account", tag = "billing",
    params(("oauth_provider" = String, Path, description = "Who vouches for the user"), ("external_id" = String, Path, description = "The user's id there")),
    responses((status = 200, body = Account)))]
pub(super) async fn get(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Named((oauth_provider, external_id), _): Named<Ciris, (String, String)>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Read)?;
    let key = speaker.spoken.key(&native_id(&oauth_provider, &external_id));
    // No account has a name that cannot be kept, and PostgreSQL would not be asked for it.
    let found = if key.external_id.contains('\0') { None } else { speaker.spoken.customer(&key).await? };
    let row = found.ok_or(Refusal::UnknownCustomer)?;
    Ok(answer(StatusCode::OK, Account::of(&speaker, &row).await?))
}
