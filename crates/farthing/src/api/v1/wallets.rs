//! Wallets: what a customer has, how it came about, and the ledger behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use engine::id::{Kind, PublicId};
use engine::{Account, EntryKind, Micros, wallet};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::Caller;
use crate::api::idempotent::answer;
use crate::api::page::{PageOf, PageQuery, page, page_of};
use crate::api::parameters::{Named, Parameters};
use crate::api::problem::Problem;
use crate::app::App;
use crate::auth::Scope;
use crate::store::EntryRow;

/// What a customer has of one asset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Balance)]
pub(in crate::api) struct BalanceView {
    /// Available and held.
    balance: String,
    /// What open holds keep.
    held: String,
    /// What can be used now.
    available: String,
    /// What is owed.
    owed: String,
}

/// What a customer has.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Wallet)]
pub(in crate::api) struct WalletView {
    /// Your own id of the customer.
    customer: String,
    /// By asset: a currency, or a meter's unit.
    balances: BTreeMap<String, BalanceView>,
    /// The ledger position that this is true at.
    as_of: i64,
}

/// A customer's wallet
///
/// What has lapsed by now does not count, whether or not the ledger has booked it yet.
#[utoipa::path(get, path = "/v1/customers/{customer}/wallet", operation_id = "get_wallet", tag = "wallets",
    params(("customer" = String, Path, description = "Your own id of the customer")),
    responses((status = 200, body = WalletView)))]
pub(in crate::api) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let (row, _) = caller.find(&app, &id).await?;
    let mut balances = wallet::balances(caller.catalog(), &row.customer, caller.now())?;
    balances.entry(caller.catalog().currency.clone()).or_default();
    let view = |balance: wallet::Balance| BalanceView {
        balance: balance.balance.to_string(),
        held: balance.held.to_string(),
        available: balance.available.to_string(),
        owed: balance.owed.to_string(),
    };
    let balances = balances.into_iter().map(|(asset, balance)| (asset.to_string(), view(balance))).collect();
    Ok(answer(StatusCode::OK, WalletView { customer: id, balances, as_of: row.customer.position }))
}

/// A ledger entry: one movement of value, from the account it debits to the account it credits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entry)]
pub(in crate::api) struct EntryView {
    /// The transaction it is part of: its position in the customer's ledger.
    position: i64,
    /// Its place in the transaction.
    line: i16,
    /// What it is about.
    #[schema(value_type = String)]
    kind: EntryKind,
    /// The charge, grant or refund that caused it.
    cause: String,
    /// The grant whose value moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    /// The account it is taken from.
    #[schema(value_type = String)]
    debit: Account,
    /// The account it goes to.
    #[schema(value_type = String)]
    credit: Account,
    /// What moved.
    asset: String,
    /// How much; above zero.
    amount: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
}

impl EntryView {
    pub(in crate::api) fn of(row: &EntryRow, shard_key: i32) -> Self {
        let entry = &row.entry;
        let cause = match entry.kind {
            EntryKind::Charge | EntryKind::Repricing => Kind::Charge,
            EntryKind::Grant | EntryKind::Repayment | EntryKind::Expiry | EntryKind::Void => Kind::Grant,
            EntryKind::Refund => Kind::Refund,
            EntryKind::Invoice | EntryKind::InvoiceVoid => Kind::Invoice,
            EntryKind::Sale | EntryKind::InvoicePayment => Kind::Payment,
            EntryKind::CreditNote => Kind::CreditNote,
        };
        let public = |kind, id| PublicId { kind, shard_key, id }.to_string();
        Self {
            position: entry.position,
            line: entry.line,
            kind: entry.kind,
            cause: public(cause, entry.cause),
            grant: entry.grant.map(|id| public(Kind::Grant, id)),
            debit: entry.debit,
            credit: entry.credit,
            asset: entry.asset.to_string(),
            amount: entry.amount.to_string(),
            recorded_at: row.recorded_at,
        }
    }
}

/// A customer's ledger
///
/// Every entry, the newest first.
#[utoipa::path(get, path = "/v1/customers/{customer}/entries", operation_id = "list_entries", tag = "wallets",
    params(("customer" = String, Path, description = "Your own id of the customer"), PageQuery),
    responses((status = 200, body = PageOf<EntryView>)))]
pub(in crate::api) async fn entries(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let (row, scope) = caller.find(&app, &id).await?;
    let shard_key = row.customer.shard_key;
    let entries = app.store.entries(&scope, (shard_key, row.customer.id), None, page).await?;
    let cursor = |row: &EntryRow| (row.entry.position, row.entry.line);
    Ok(answer(StatusCode::OK, page_of(entries, page.limit, cursor, |row| EntryView::of(&row, shard_key))))
}

/// Which statement.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StatementQuery {
    /// A currency, or a meter's unit; the tenant's currency where absent.
    asset: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
}

/// A line of a statement.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct StatementLine {
    /// What the wallet gained, or lost where below zero.
    change: String,
    /// What the wallet held after it.
    balance: String,
    /// The ledger entry behind it.
    entry: EntryView,
}

/// A customer's statement
///
/// Everything that changed the wallet, the newest first, with the balance after it.
#[utoipa::path(get, path = "/v1/customers/{customer}/wallet/statement", operation_id = "get_statement", tag = "wallets",
    params(("customer" = String, Path, description = "Your own id of the customer"), StatementQuery),
    responses((status = 200, body = PageOf<StatementLine>)))]
pub(in crate::api) async fn statement(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
    Parameters(query): Parameters<StatementQuery>,
) -> Result<Response, Problem> {
    caller.require(Scope::Read)?;
    let page = page(query.cursor.as_deref(), query.limit)?;
    let asset = query.asset.unwrap_or_else(|| caller.catalog().currency.to_string());
    let asset = caller.catalog().asset(&asset).map_err(|refusal| Problem::from(refusal).at("asset"))?;
    let (row, scope) = caller.find(&app, &id).await?;
    let owner = (row.customer.shard_key, row.customer.id);
    let entries = app.store.entries(&scope, owner, Some(asset.as_str()), page).await?;
    let mut balance = match entries.first() {
        Some(newest) => {
            let at = (newest.entry.position, newest.entry.line);
            app.store.wallet_at(&scope, owner, asset.as_str(), at).await?
        }
        None => Micros::ZERO,
    };
    let mut lines = Vec::with_capacity(entries.len());
    for entry in entries {
        let amount = entry.entry.amount;
        let gained = entry.entry.credit == Account::Wallet;
        let change = if gained { amount } else { Micros::ZERO.minus(amount)? };
        let after = balance;
        balance = balance.minus(change)?;
        lines.push((entry, change, after));
    }
    let cursor = |(row, ..): &(EntryRow, Micros, Micros)| (row.entry.position, row.entry.line);
    let view = |(row, change, after): (EntryRow, Micros, Micros)| StatementLine {
        change: change.to_string(),
        balance: after.to_string(),
        entry: EntryView::of(&row, owner.0),
    };
    Ok(answer(StatusCode::OK, page_of(lines, page.limit, cursor, view)))
}
