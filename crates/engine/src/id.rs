//! Ids: where a customer's rows live, and how an operation key becomes the id of what it made.
//!
//! Nothing is drawn at random here; random ids are handed in by the shell.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// How many buckets customers are spread over (`shard_key`); fixed for good, since every stored key begins with it.
pub const SHARD_BUCKETS: i32 = 1024;

/// The bucket of a customer: a fixed hash (FNV-1a, 64 bit) of tenant and customer id, below `SHARD_BUCKETS`. It is the
/// first column of every hot key, so the schema can be spread over machines by it.
///
/// An id made by `erased_customer_id` names its own bucket, because the rows stay where they were.
#[must_use]
pub fn shard_key(tenant: &str, customer: &str) -> i32 {
    if let Some(bucket) = erased_bucket(customer) {
        return bucket;
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in tenant.bytes().chain([0]).chain(customer.bytes()) {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The low bits of FNV are its best mixed ones once the high half is folded in.
    let folded = hash ^ (hash >> 32);
    i32::try_from(folded % u64::from(SHARD_BUCKETS.unsigned_abs())).unwrap_or(0)
}

/// What ids given to erased customers begin with; callers may not choose such an id.
pub const ERASED_PREFIX: &str = "erased_";

/// The id that takes the place of a customer's own once its personal data is erased.
#[must_use]
pub fn erased_customer_id(bucket: i32, customer: Uuid) -> String {
    format!("{ERASED_PREFIX}{bucket:03x}{}", customer.simple())
}

fn erased_bucket(customer: &str) -> Option<i32> {
    let rest = customer.strip_prefix(ERASED_PREFIX)?;
    let bucket = i32::from_str_radix(rest.get(..3)?, 16).ok()?;
    (0..SHARD_BUCKETS).contains(&bucket).then_some(bucket)
}

/// The id of something that a customer gets once by its name: name-based (RFC 9562, version 5) within the customer.
#[must_use]
pub fn operation_id(customer: Uuid, kind: &str, key: &str) -> Uuid {
    Uuid::new_v5(&customer, format!("{kind}\0{key}").as_bytes())
}

/// The namespace of ids made from operation keys; stored rows depend on it.
const OPERATIONS: Uuid = Uuid::from_u128(0x6661_7274_6869_6e67_0000_0000_0000_0001);

/// The id of what an operation key makes: name-based (RFC 9562, version 5) within tenant, customer and kind of thing, so
/// that the same key always finds the same row. Known before the customer is loaded.
#[must_use]
pub fn keyed_id(tenant: &str, customer: &str, kind: &str, key: &str) -> Uuid {
    Uuid::new_v5(&OPERATIONS, format!("{tenant}\0{customer}\0{kind}\0{key}").as_bytes())
}

/// What kind of thing a public id names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `ch_...`
    Charge,
    /// `hold_...`
    Hold,
    /// `grant_...`
    Grant,
    /// `pay_...`
    Payment,
    /// `pur_...`: a payment, seen as what was bought.
    Purchase,
    /// `ref_...`
    Refund,
    /// `sub_...`
    Subscription,
    /// `inv_...`
    Invoice,
    /// `cn_...`
    CreditNote,
    /// `item_...`: something that waits for the next invoice.
    Item,
    /// `note_...`
    Notice,
    /// `rec_...`
    RecurringCharge,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Charge,
        Self::Hold,
        Self::Grant,
        Self::Payment,
        Self::Purchase,
        Self::Refund,
        Self::Subscription,
        Self::Invoice,
        Self::CreditNote,
        Self::Item,
        Self::Notice,
        Self::RecurringCharge,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Charge => "ch_",
            Self::Hold => "hold_",
            Self::Grant => "grant_",
            Self::Payment => "pay_",
            Self::Purchase => "pur_",
            Self::Refund => "ref_",
            Self::Subscription => "sub_",
            Self::Invoice => "inv_",
            Self::CreditNote => "cn_",
            Self::Item => "item_",
            Self::Notice => "note_",
            Self::RecurringCharge => "rec_",
        }
    }
}

/// An id as callers see it: a prefix for its kind, the bucket in three hexadecimal digits, the id in thirty-two. The
/// bucket is part of it so that a look-up by a bare id asks one shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicId {
    /// What it names.
    pub kind: Kind,
    /// The bucket of its customer.
    pub shard_key: i32,
    /// The stored id.
    pub id: Uuid,
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:03x}{}", self.kind.prefix(), self.shard_key, self.id.simple())
    }
}

/// A text that is not a public id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is not an id of this kind")]
pub struct NotAnId;

impl FromStr for PublicId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (kind, rest) = Kind::ALL
            .into_iter()
            .find_map(|kind| text.strip_prefix(kind.prefix()).map(|rest| (kind, rest)))
            .ok_or(NotAnId)?;
        if rest.len() != 35 || !rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NotAnId);
        }
        let shard_key = i32::from_str_radix(&rest[..3], 16).map_err(|_| NotAnId)?;
        if shard_key >= SHARD_BUCKETS {
            return Err(NotAnId);
        }
        let id = Uuid::try_parse(&rest[3..]).map_err(|_| NotAnId)?;
        Ok(Self { kind, shard_key, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_fixed_and_even() {
        // Stored keys depend on these very numbers: they must never change.
        assert_eq!([shard_key("assistant", "acme"), shard_key("ciris", "oauth:google/x")], [2, 31]);
        let mut counts = vec![0_u32; 1024];
        for n in 0..102_400 {
            counts[usize::try_from(shard_key("t", &format!("customer-{n}"))).unwrap()] += 1;
        }
        assert!(counts.iter().all(|&n| (50..170).contains(&n)));
    }

    #[test]
    fn an_erased_id_stays_in_its_bucket() {
        let bucket = shard_key("t", "jane@example.com");
        assert_eq!(shard_key("t", &erased_customer_id(bucket, Uuid::from_u128(7))), bucket);
    }

    #[test]
    fn public_ids_come_back() {
        let id = PublicId { kind: Kind::Hold, shard_key: 1023, id: Uuid::from_u128(7) };
        assert_eq!(id.to_string(), "hold_3ff00000000000000000000000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "hold_", "ch_zzz", "hold_40000000000000000000000000000000007", "hold_3ff0"] {
            assert_eq!(wrong.parse::<PublicId>(), Err(NotAnId), "{wrong}");
        }
    }
}
