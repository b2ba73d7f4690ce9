//! Transactions: what came to an account's balance and what left it, newest first.

use std::collections::BTreeMap;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::purchase::purchased_grant;
use engine::{GrantKind, Micros};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::account::{currency_of, native_id};
use super::{Caller, Ciris, CirisSettings, Failed, Query, Speaker, State, answer, credit, instant, whole};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::store::{ChargeRow, CustomerRow, GrantRow, Page, StoreError};

const USUAL: i64 = 50;
const MOST: i64 = 100;

/// How far back one may go with `offset`: what lies further back is read from the native API, which has pages.
const FURTHEST: i64 = 10_000;

/// How many rows are read at once.
const AT_ONCE: i64 = 500;

/// Whose transactions, and which of them.
pub(super) struct Wanted {
    oauth_provider: String,
    external_id: String,
    limit: i64,
    offset: i64,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let oauth_provider = fields.required_text("oauth_provider", 1..=255);
        let external_id = fields.required_text("external_id", 1..=255);
        let limit = fields.integer("limit", 1);
        let limit = fields.at_most("limit", limit, MOST).unwrap_or(USUAL);
        let offset = fields.integer("offset", 0);
        let offset = fields.at_most("offset", offset, FURTHEST).unwrap_or_default();
        Some(Self { oauth_provider: oauth_provider?, external_id: external_id?, limit, offset })
    }
}

/// What changed a balance, or did not because it was free.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transaction {
    transaction_id: String,
    /// `charge` or `credit`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it did to the balance: below zero for a charge, zero for a free use.
    amount_minor: i64,
    currency: String,
    description: String,
    /// Where credit came from: `purchase`, `grant` or `refund`.
    transaction_type: Option<&'static str>,
    /// What the provider calls the payment of a purchase.
    external_transaction_id: Option<String>,
    created_at: String,
}

/// A page of transactions.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Transactions {
    transactions: Vec<Transaction>,
    total_count: i64,
    has_more: bool,
}

/// An account's transactions
///
/// The newest first. An account that is not there has none.
#[utoipa::path(get, path = "/v1/billing/transactions", operation_id = "list_transactions", tag = "billing",
    params(
        ("oauth_provider" = String, Query, description = "Who vouches for the user"),
        ("external_id" = String, Query, description = "The user's id there"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100, description = "At most so many; 50 where absent"),
        ("offset" = Option<i64>, Query, minimum = 0, maximum = 10_000, description = "Without so many of the newest"),
    ),
    responses((status = 200, body = Transactions)))]
pub(super) async fn list(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Query(wanted, _): Query<Ciris, Wanted>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Read)?;
    let key = speaker.spoken.key(&native_id(&wanted.oauth_provider, &wanted.external_id));
    let Some(row) = speaker.spoken.customer(&key).await? else {
        return Ok(answer(StatusCode::OK, Transactions::default()));
    };
    let grants = grants(&speaker, &row).await?;
    let total =
        credit::total_uses(&speaker, &row).await?.saturating_add(i64::try_from(grants.len()).unwrap_or(i64::MAX));
    let currency = currency_of(&row, &speaker.settings);
    let end = wanted.offset + wanted.limit;
    let mut all: Vec<(Timestamp, Transaction)> = grants;
    for charge in charges(&speaker, &row, end).await? {
        all.push((charge.charge.recorded_at, charged(&speaker.settings, &charge, &currency)));
    }
    all.sort_by(|(a, _), (b, _)| b.cmp(a));
    let skipped = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
    let taken = usize::try_from(wanted.limit).unwrap_or_default();
    let transactions = all.into_iter().skip(skipped).take(taken).map(|(_, transaction)| transaction).collect();
    Ok(answer(StatusCode::OK, Transactions { transactions, total_count: total, has_more: total > end }))
}

/// The newest charges of an account, so many at the most.
async fn charges(speaker: &Speaker<CirisSettings>, row: &CustomerRow, most: i64) -> Result<Vec<ChargeRow>, StoreError> {
    let page = Page { after: None, limit: most };
    let owner = (row.customer.shard_key, row.customer.id);
    let store = &speaker.spoken.app.store;
    let rows = store.charges(&speaker.spoken.scope_of(row), owner, page).await?;
    Ok(rows.into_iter().filter(|row| row.charge.meter == speaker.settings.meter).collect())
}

fn charged(settings: &CirisSettings, row: &ChargeRow, currency: &str) -> Transaction {
    let charge = &row.charge;
    let metadata: Option<BTreeMap<String, Value>> =
        charge.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let description = metadata.as_ref().and_then(|metadata| metadata.get("description")?.as_str().map(str::to_owned));
    let taken = if charge.asset == settings.asset { charge.amount } else { Micros::ZERO };
    Transaction {
        transaction_id: charge.id.to_string(),
        kind: "charge",
        amount_minor: whole(taken).saturating_neg(),
        currency: currency.to_owned(),
        description: description.unwrap_or_else(|| charge.meter.to_string()),
        transaction_type: None,
        external_transaction_id: None,
        created_at: instant(charge.recorded_at),
    }
}

/// Everything that came to an account's balance. There are few of them: somebody gave or bought each.
async fn grants(
    speaker: &Speaker<CirisSettings>,
    row: &CustomerRow,
) -> Result<Vec<(Timestamp, Transaction)>, StoreError> {
    let (store, scope) = (&speaker.spoken.app.store, speaker.spoken.scope_of(row));
    let owner = (row.customer.shard_key, row.customer.id);
    let payments = store.payments(&scope, owner, Page { after: None, limit: FURTHEST }).await?;
    let references: BTreeMap<Uuid, String> = payments
        .iter()
        .filter_map(|row| Some((purchased_grant(row.payment.id), row.payment.reference.as_deref()?.to_owned())))
        .collect();
    let currency = currency_of(row, &speaker.settings);
    let mut granted = Vec::new();
    let mut after = None;
    loop {
        let found = store.grants(&scope, owner, Page { after, limit: AT_ONCE }).await?;
        let full = i64::try_from(found.len()).is_ok_and(|count| count == AT_ONCE);
        after = found.last().map(|last| (last.grant.position, last.grant.id));
        let own = found.into_iter().filter(|row| row.grant.asset == speaker.settings.asset);
        granted.extend(own.map(|row| (row.grant.created_at, credited(row, &references, &currency))));
        if !full {
            return Ok(granted);
        }
    }
}

fn credited(row: GrantRow, references: &BTreeMap<Uuid, String>, currency: &str) -> Transaction {
    let grant = row.grant;
    let transaction_type = match grant.kind {
        GrantKind::Paid => "purchase",
        GrantKind::Allowance | GrantKind::Promotional => "grant",
        GrantKind::Refund => "refund",
    };
    Transaction {
        transaction_id: grant.id.to_string(),
        kind: "credit",
        amount_minor: whole(grant.amount),
        currency: currency.to_owned(),
        description: grant.reason.unwrap_or_default(),
        transaction_type: Some(transaction_type),
        external_transaction_id: references.get(&grant.id).cloned(),
        created_at: instant(grant.created_at),
    }
}
