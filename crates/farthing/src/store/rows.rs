//! Rows as they are read: the engine's nouns with the address they are kept under.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::customer::State;
use engine::{Asset, Charge, Cover, Customer, Entry, GrantRecord, HoldRecord, Micros, Profile};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::StoreError;

/// A customer with who it is.
#[derive(Clone, Debug)]
pub struct CustomerRow {
    /// The caller's own id.
    pub external_id: String,
    /// Its tenant.
    pub tenant: String,
    /// Its state.
    pub customer: Customer,
    /// Who it is.
    pub profile: Profile,
    /// When it was created.
    pub created_at: Timestamp,
}

/// A charge with its customer.
#[derive(Clone, Debug)]
pub struct ChargeRow {
    /// The caller's own id of the customer.
    pub external_id: String,
    /// The customer.
    pub customer_id: Uuid,
    /// Its bucket.
    pub shard_key: i32,
    /// The charge.
    pub charge: Charge,
}

/// A ledger entry with its time.
#[derive(Clone, Debug)]
pub struct EntryRow {
    /// The entry.
    pub entry: Entry,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// A grant as it was made, and how it ended.
#[derive(Clone, Debug)]
pub struct GrantRow {
    /// The grant.
    pub grant: GrantRecord,
    /// `expired` or `voided`, where it ended before it was used up.
    pub ended: Option<String>,
}

/// A hold with its customer.
#[derive(Clone, Debug)]
pub struct HoldRow {
    /// The caller's own id of the customer.
    pub external_id: String,
    /// The hold, as it was at its latest change.
    pub record: HoldRecord,
}

/// A sum of usage.
#[derive(Clone, Debug)]
pub struct UsageRow {
    /// The meter.
    pub meter: String,
    /// What it was priced in.
    pub asset: Asset,
    /// When the window began, where windows were asked for.
    pub window: Option<Timestamp>,
    /// The subject, where subjects were asked for.
    pub subject: Option<String>,
    /// The dimension's value, where one was asked for.
    pub dimension: Option<String>,
    /// How many charges.
    pub charges: i64,
    /// How much was used.
    pub quantity: Micros,
    /// What it cost.
    pub amount: Micros,
}

/// An API key, without the key.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Its id.
    pub id: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do.
    pub scope: String,
    /// How it begins.
    pub preview: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The columns of a charge in the order that the queries select them.
#[derive(sqlx::FromRow)]
pub(super) struct ChargeColumns {
    pub(super) shard_key: i32,
    pub(super) id: Uuid,
    pub(super) customer_id: Uuid,
    external_id: String,
    pub(super) position: i64,
    operation_key: Option<String>,
    fingerprint: i64,
    source: String,
    hold_id: Option<Uuid>,
    meter: String,
    quantity: i64,
    subject: Option<String>,
    dimensions: Option<String>,
    price: Option<String>,
    priced_quantity: i64,
    counted_before: i64,
    asset: String,
    amount: i64,
    owed: i64,
    balance_after: i64,
    occurred_at: i64,
    recorded_at: i64,
    metadata: Option<String>,
    billed_with: Option<i64>,
}

impl ChargeColumns {
    pub(super) fn row(self, covered_by: Vec<Cover>) -> Result<ChargeRow, StoreError> {
        let charge = Charge {
            id: self.id,
            position: self.position,
            operation_key: self.operation_key.map(Arc::from),
            fingerprint: self.fingerprint,
            source: word(&self.source)?,
            hold: self.hold_id,
            meter: self.meter.into(),
            quantity: Micros::new(self.quantity),
            subject: self.subject.map(Arc::from),
            dimensions: self.dimensions.as_deref().map_or_else(|| Ok(BTreeMap::new()), json)?,
            price: self.price.map(Arc::from),
            priced_quantity: Micros::new(self.priced_quantity),
            counted_before: Micros::new(self.counted_before),
            asset: Asset::new(&self.asset),
            amount: Micros::new(self.amount),
            owed: Micros::new(self.owed),
            balance_after: Micros::new(self.balance_after),
            covered_by,
            occurred_at: instant(self.occurred_at)?,
            recorded_at: instant(self.recorded_at)?,
            metadata: self.metadata.map(Arc::from),
            billed_with: self.billed_with.map(instant).transpose()?,
        };
        Ok(ChargeRow {
            external_id: self.external_id,
            customer_id: self.customer_id,
            shard_key: self.shard_key,
            charge,
        })
    }
}

/// The columns of an entry.
#[derive(sqlx::FromRow)]
pub(super) struct EntryColumns {
    position: i64,
    line: i16,
    kind: String,
    pub(super) cause_id: Uuid,
    grant_id: Option<Uuid>,
    debit: String,
    credit: String,
    asset: String,
    amount: i64,
    recorded_at: i64,
}

impl EntryColumns {
    pub(super) fn row(self) -> Result<EntryRow, StoreError> {
        let entry = Entry {
            position: self.position,
            line: self.line,
            kind: word(&self.kind)?,
            cause: self.cause_id,
            grant: self.grant_id,
            debit: word(&self.debit)?,
            credit: word(&self.credit)?,
            asset: Asset::new(&self.asset),
            amount: Micros::new(self.amount),
        };
        Ok(EntryRow { entry, recorded_at: instant(self.recorded_at)? })
    }
}

/// The columns of a grant.
#[derive(sqlx::FromRow)]
pub(super) struct GrantColumns {
    id: Uuid,
    position: i64,
    asset: String,
    kind: String,
    amount: i64,
    priority: i32,
    expires_at: Option<i64>,
    meters: String,
    reason: Option<String>,
    created_at: i64,
    ended: Option<String>,
}

impl GrantColumns {
    pub(super) fn row(self) -> Result<GrantRow, StoreError> {
        let grant = GrantRecord {
            id: self.id,
            asset: Asset::new(&self.asset),
            kind: word(&self.kind)?,
            amount: Micros::new(self.amount),
            priority: i16::try_from(self.priority).map_err(|_| corrupt("priority"))?,
            expires_at: self.expires_at.map(instant).transpose()?,
            meters: json(&self.meters)?,
            reason: self.reason,
            position: self.position,
            created_at: instant(self.created_at)?,
        };
        Ok(GrantRow { grant, ended: self.ended })
    }
}

/// The columns of a customer with its profile.
#[derive(sqlx::FromRow)]
pub(super) struct CustomerColumns {
    shard_key: i32,
    customer_id: Uuid,
    tenant: String,
    external_id: String,
    status: String,
    position: i64,
    state: String,
    created_at: i64,
    name: Option<String>,
    email: Option<String>,
    metadata: Option<String>,
    address: Option<String>,
    tax_id: Option<String>,
}

impl CustomerColumns {
    pub(super) fn row(self) -> Result<CustomerRow, StoreError> {
        let metadata = self.metadata.as_deref().map_or_else(|| Ok(BTreeMap::new()), json)?;
        let address = self.address.as_deref().map_or_else(|| Ok(Vec::new()), json)?;
        Ok(CustomerRow {
            external_id: self.external_id,
            tenant: self.tenant,
            customer: customer(self.shard_key, self.customer_id, &self.status, self.position, &self.state)?,
            profile: Profile { name: self.name, email: self.email, address, tax_id: self.tax_id, metadata },
            created_at: instant(self.created_at)?,
        })
    }
}

/// The columns of a sum of usage.
#[derive(sqlx::FromRow)]
pub(super) struct UsageColumns {
    meter: String,
    asset: String,
    window_index: Option<i64>,
    subject: Option<String>,
    dimension: Option<String>,
    charges: i64,
    quantity: i64,
    amount: i64,
}

impl UsageColumns {
    pub(super) fn row(self, window: Option<i64>) -> Result<UsageRow, StoreError> {
        let start = self.window_index.zip(window).map(|(index, width)| instant(index.saturating_mul(width)));
        Ok(UsageRow {
            meter: self.meter,
            asset: Asset::new(&self.asset),
            window: start.transpose()?,
            subject: self.subject,
            dimension: self.dimension,
            charges: self.charges,
            quantity: Micros::new(self.quantity),
            amount: Micros::new(self.amount),
        })
    }
}

/// The columns of an API key.
#[derive(sqlx::FromRow)]
pub(super) struct KeyColumns {
    id: Uuid,
    tenant: String,
    name: String,
    scope: String,
    preview: String,
    created_at: i64,
    revoked_at: Option<i64>,
}

impl KeyColumns {
    pub(super) fn row(self) -> Result<KeyRow, StoreError> {
        Ok(KeyRow {
            id: self.id,
            tenant: self.tenant,
            name: self.name,
            scope: self.scope,
            preview: self.preview,
            created_at: instant(self.created_at)?,
            revoked_at: self.revoked_at.map(instant).transpose()?,
        })
    }
}

/// A customer from its columns.
pub(super) fn customer(
    shard_key: i32,
    id: Uuid,
    status: &str,
    position: i64,
    state: &str,
) -> Result<Customer, StoreError> {
    Ok(Customer { id, shard_key, status: word(status)?, position, state: json::<State>(state)? })
}

/// Microseconds since 1970 as an instant.
pub(super) fn instant(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| corrupt("instant"))
}

/// One of an enumeration's stored names.
pub(super) fn word<T: DeserializeOwned>(name: &str) -> Result<T, StoreError> {
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name))
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A JSON column.
pub(super) fn json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} is out of range"))
}
