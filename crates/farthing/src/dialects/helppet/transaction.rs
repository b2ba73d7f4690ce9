//! Transactions: what changed a practice's credits, and by how much.

use std::sync::Arc;

use axum::extract::State as FromState;
use axum::response::Response;
use engine::{Account, Asset, Charge, EntryKind, Micros};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::Number;
use utoipa::ToSchema;

use super::practice::{Practice, cents};
use super::{Caller, Failed, Failure, Helppet, Named, Query, State, answer, instant};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::store::{CustomerRow, EntryRow, Page, StoreError};

/// How many entries of the ledger a page is made of when the request does not say, and at the most.
const USUAL: i64 = 50;
const MOST: i64 = 100;

/// Which of them.
#[derive(Debug)]
pub(super) struct Wanted {
    after: Option<(i64, i16)>,
    limit: i64,
}

impl Read for Wanted {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let cursor = fields.text("cursor", 1..=40);
        let after = cursor.as_deref().map(|text| text.split_once('-'));
        let after = after.map(|parts| parts.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?))));
        if after == Some(None) {
            fields.refuse("cursor", "value_error", "Value error, cursor is not one that a page gave");
        }
        let limit = fields.integer("limit", 1).unwrap_or(USUAL);
        let limit = fields.at_most("limit", Some(limit), MOST);
        Some(Self { after: after.flatten(), limit: limit? })
    }
}

/// Something that changed the credits.
#[derive(Debug, Serialize, ToSchema)]
struct Transaction {
    id: String,
    /// What happened: `charge`, `grant`, `expiry`, `refund`, `invoice` and so on.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: EntryKind,
    /// What was used, for a charge.
    description: Option<String>,
    /// What the credits gained, or lost where below zero; a part of a cent is not told.
    amount_cents: i64,
    /// The same, exactly.
    #[schema(value_type = f64)]
    amount_dollars: Number,
    created_at: String,
}

/// What changed a practice's credits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transactions {
    success: bool,
    /// The newest first.
    transactions: Vec<Transaction>,
    /// Send it as `cursor` for the next page; `null` on the last one.
    next_cursor: Option<String>,
}

/// What changed a practice's credits
///
/// Credits given, uses charged and invoices, the newest first.
#[utoipa::path(get, path = "/api/v1/stripe/customers/{practice_id}/transactions", operation_id = "list_transactions", tag = "customers",
    params(("practice_id" = String, Path, description = "The practice, a UUID"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<i64>, Query, description = "How many entries of the ledger it is made of", minimum = 1, maximum = 100)),
    responses((status = 200, body = Transactions), (status = 422, body = super::service::Problem)))]
pub(super) async fn list(
    FromState(speaker): State,
    caller: Caller<Helppet>,
    Named(id, _): Named<Helppet, String>,
    Query(wanted, _): Query<Helppet, Wanted>,
) -> Result<Response, Failed<Helppet>> {
    let practice = Practice::of(&speaker, &caller, &id, Scope::Read)?;
    let Some(row) = practice.find(&speaker).await? else {
        return Ok(answer(Transactions { success: true, transactions: Vec::new(), next_cursor: None }));
    };
    let (spoken, owner) = (&speaker.spoken, (row.customer.shard_key, row.customer.id));
    let page = Page { after: wanted.after, limit: wanted.limit };
    let mut entries = spoken.app.store.entries(&spoken.scope_of(&row), owner, None, page).await?;
    let full = i64::try_from(entries.len()).is_ok_and(|found| found == wanted.limit);
    if full {
        keep_whole(&mut entries);
    }
    let last = entries.last().filter(|_| full).map(|last| format!("{}-{}", last.entry.position, last.entry.line));
    let changes = changes(&entries, &spoken.catalog().currency)?;
    let views = changes.into_iter().map(|change| view(spoken, &row, change));
    let transactions = try_join_all(views).await?;
    Ok(answer(Transactions { success: true, transactions, next_cursor: last }))
}

/// Leaves what one command did to one page: what is cut off at its end comes with the next.
fn keep_whole(entries: &mut Vec<EntryRow>) {
    let last = entries.last().map(|row| row.entry.position);
    if entries.first().map(|row| row.entry.position) != last {
        entries.retain(|row| Some(row.entry.position) != last);
    }
}

/// What one cause did to the credits.
struct Change<'e> {
    first: &'e EntryRow,
    amount: Micros,
}

/// What entries did to the credits, which are what the wallet has less what is owed and on no invoice yet: a change for each
/// cause.
fn changes<'e>(entries: &'e [EntryRow], currency: &Asset) -> Result<Vec<Change<'e>>, Failure> {
    let mut changes: Vec<Change<'e>> = Vec::new();
    for row in entries.iter().filter(|row| row.entry.asset == *currency) {
        let own = |account: Account| matches!(account, Account::Wallet | Account::Receivable);
        let entry = &row.entry;
        let gained = if own(entry.credit) { entry.amount } else { Micros::ZERO };
        let lost = if own(entry.debit) { entry.amount } else { Micros::ZERO };
        let amount = gained.minus(lost)?;
        let of = |row: &EntryRow| (row.entry.position, row.entry.kind, row.entry.cause);
        match changes.iter_mut().find(|change| of(change.first) == of(row)) {
            Some(change) => change.amount = change.amount.plus(amount)?,
            None => changes.push(Change { first: row, amount }),
        }
    }
    changes.retain(|change| !change.amount.is_zero());
    Ok(changes)
}

async fn view(
    spoken: &crate::dialects::spoken::Spoken,
    customer: &CustomerRow,
    change: Change<'_>,
) -> Result<Transaction, StoreError> {
    let entry = &change.first.entry;
    let charge = match entry.kind {
        EntryKind::Charge | EntryKind::Repricing => {
            let id = (customer.customer.shard_key, entry.cause);
            spoken.app.store.charge(&spoken.scope_of(customer), id).await?.map(|row| row.charge)
        }
        _ => None,
    };
    Ok(Transaction {
        id: entry.cause.to_string(),
        kind: entry.kind,
        description: charge.map(|charge| describe(&charge, &spoken.catalog().meters)),
        amount_cents: cents(change.amount),
        amount_dollars: change.amount.to_string().parse().unwrap_or_else(|_| Number::from(0)),
        created_at: instant(change.first.recorded_at),
    })
}

/// What was used, as in `3 minute of phone_call_minutes`; the unit where it has a name of its own.
fn describe(charge: &Charge, meters: &std::collections::BTreeMap<Arc<str>, engine::Meter>) -> String {
    let unit = meters.get(&charge.meter).map(|meter| meter.unit.as_str()).filter(|unit| *unit != &*charge.meter);
    match unit {
        Some(unit) => format!("{}: {} {unit}", charge.meter, charge.quantity),
        None => format!("{}: {}", charge.meter, charge.quantity),
    }
}
