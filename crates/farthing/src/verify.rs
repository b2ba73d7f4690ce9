//! The recount: every wallet and every debt of every tenant, from the ledger's entries, compared with what is stored.
//!
//! It shares no arithmetic with the engine, so that the two cannot agree by making the same mistake. It changes nothing,
//! may run beside a working server, and holds one page of customers at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use engine::{Asset, Micros};
use futures_util::{StreamExt as _, stream};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::store::{CustomerKey, CustomerRow, LedgerSum, Page, Scope, Store, StoreError};

/// How many customers are read at once.
const PAGE: i64 = 500;

/// How many customers are recounted at once; as many as the store has connections for it.
const AT_ONCE: usize = 4;

/// What was recounted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Subject {
    /// What is left of a grant, held or free.
    Grant {
        /// Which.
        grant: Uuid,
        /// What it is in.
        asset: Asset,
    },
    /// What open holds keep of a grant; expected is what the holds say.
    Held {
        /// Which grant.
        grant: Uuid,
        /// What it is in.
        asset: Asset,
    },
    /// What the customer owes.
    Debt {
        /// In what.
        asset: Asset,
    },
    /// A charge whose entries do not add up to what it says, or that is gone while its entries are there.
    Charge {
        /// Which.
        charge: Uuid,
    },
    /// The position of the customer's ledger; expected is that of its latest entry.
    Position,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant { grant, asset } => write!(f, "wallet {asset}, grant {grant}"),
            Self::Held { grant, asset } => write!(f, "held of wallet {asset}, grant {grant}"),
            Self::Debt { asset } => write!(f, "debt {asset}"),
            Self::Charge { charge } => write!(f, "charge {charge}"),
            Self::Position => f.write_str("position"),
        }
    }
}

/// Something that is not what the ledger says. Customers are named by the id of their rows, which says nothing of who
/// they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The tenant.
    pub tenant: String,
    /// The id of the customer's rows.
    pub customer: Uuid,
    /// What was recounted.
    #[serde(flatten)]
    pub subject: Subject,
    /// What the entries add up to; nothing for a charge, which has several sums.
    pub expected: Option<String>,
    /// What is stored.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tenant, customer, subject, .. } = self;
        write!(f, "customer {customer} of tenant {tenant}: {subject}: ")?;
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => write!(f, "the ledger says {expected}, stored is {found}"),
            _ => f.write_str("its entries do not add up to what it says"),
        }
    }
}

/// Sums over all customers of a tenant in one asset. Granted and owed together are charged, lapsed and wallets together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// What was put into wallets, less what was taken back.
    pub granted: Amount,
    /// What was charged, less what was given back.
    pub charged: Amount,
    /// What lapsed unused.
    pub lapsed: Amount,
    /// What is owed.
    pub owed: Amount,
    /// What wallets hold.
    pub wallets: Amount,
}

/// A sum in micros that no number of customers can overflow. Written as decimal text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Amount(i128);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", rust_decimal::Decimal::from_i128_with_scale(self.0, 6).normalize())
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a recount came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How many customers were recounted.
    pub customers: u64,
    /// How many differences were found.
    pub differences: u64,
    /// By tenant and asset.
    pub totals: BTreeMap<(String, Asset), Totals>,
}

/// Recounts every customer of every tenant. Each difference is handed to `report` as it is found.
///
/// # Errors
/// As the store gives them; `Corrupt` names a row that cannot be read at all.
pub async fn recount(store: &dyn Store, report: &mut dyn FnMut(Difference)) -> Result<Report, StoreError> {
    let mut result = Report::default();
    let mut after = None;
    loop {
        let page = store.all_customers(Page { after, limit: PAGE }).await?;
        let Some(last) = page.last() else { return Ok(result) };
        after = Some((last.customer.shard_key, last.customer.id));
        let mut recounts = stream::iter(page.iter().map(|row| recount_customer(store, row))).buffered(AT_ONCE);
        while let Some(recounted) = recounts.next().await {
            let (tenant, sums, differences) = recounted?;
            result.customers += 1;
            for sum in &sums {
                add(&mut result.totals, &tenant, sum);
            }
            for difference in differences {
                result.differences += 1;
                report(difference);
            }
        }
    }
}

/// Adds one account of a customer to the totals. Wallets, revenue and breakage grow by credits, the others by debits.
fn add(totals: &mut BTreeMap<(String, Asset), Totals>, tenant: &str, sum: &LedgerSum) {
    let totals = totals.entry((tenant.to_owned(), sum.asset.clone())).or_default();
    let amount = sum.amount;
    let (total, amount) = match sum.account.as_str() {
        "wallet" => (&mut totals.wallets, amount),
        "revenue" => (&mut totals.charged, amount),
        "breakage" => (&mut totals.lapsed, amount),
        "receivable" => (&mut totals.owed, -amount),
        _ => (&mut totals.granted, -amount),
    };
    total.0 += amount;
}

type Recounted = (String, Vec<LedgerSum>, Vec<Difference>);

async fn recount_customer(store: &dyn Store, row: &CustomerRow) -> Result<Recounted, StoreError> {
    let customer = &row.customer;
    let owner = (customer.shard_key, customer.id);
    // The row may be older than entries that are being written meanwhile, so they are summed up to where it stands.
    let sums = store.ledger_sums(owner, customer.position).await?;
    let mut found = compare(row, &sums);
    found.extend(compare_position(store, row).await?);
    for charge in store.unbalanced_charges(owner).await? {
        found.push((Subject::Charge { charge }, None));
    }
    let difference = |(subject, sides): (Subject, Option<(String, String)>)| {
        let (expected, found) = sides.unzip();
        Difference { tenant: row.tenant.clone(), customer: customer.id, subject, expected, found }
    };
    Ok((row.tenant.clone(), sums, found.into_iter().map(difference).collect()))
}

/// What differs, with what was expected and what was found.
type Found = (Subject, Option<(String, String)>);

/// Compares the sums of a customer's entries with its stored state.
fn compare(row: &CustomerRow, sums: &[LedgerSum]) -> Vec<Found> {
    let state = &row.customer.state;
    let mut expected: BTreeMap<Subject, i128> = BTreeMap::new();
    let mut found: BTreeMap<Subject, i128> = BTreeMap::new();
    let add = |into: &mut BTreeMap<Subject, i128>, subject: Subject, amount: i128| {
        *into.entry(subject).or_default() += amount;
    };
    let micros = |amount: Micros| i128::from(amount.get());
    for sum in sums {
        let asset = sum.asset.clone();
        match (sum.account.as_str(), sum.grant) {
            ("wallet", grant) => {
                add(&mut expected, Subject::Grant { grant: grant.unwrap_or_default(), asset }, sum.amount);
            }
            ("receivable", _) => add(&mut expected, Subject::Debt { asset }, -sum.amount),
            _ => {}
        }
    }
    for hold in &state.holds {
        for part in &hold.allocations {
            let subject = Subject::Held { grant: part.grant, asset: part.asset.clone() };
            add(&mut expected, subject, micros(part.amount));
        }
    }
    for grant in &state.grants {
        let (id, asset) = (grant.id, grant.asset.clone());
        add(&mut found, Subject::Grant { grant: id, asset: asset.clone() }, micros(grant.remaining));
        add(&mut found, Subject::Grant { grant: id, asset: asset.clone() }, micros(grant.held));
        add(&mut found, Subject::Held { grant: id, asset }, micros(grant.held));
    }
    for (asset, owed) in &state.owed {
        add(&mut found, Subject::Debt { asset: asset.clone() }, micros(*owed));
    }
    let subjects: BTreeSet<Subject> = expected.keys().chain(found.keys()).cloned().collect();
    let differing = |subject: Subject| {
        let [expected, found] = [&expected, &found].map(|of| Amount(of.get(&subject).copied().unwrap_or_default()));
        (expected != found).then(|| (subject, Some((expected.to_string(), found.to_string()))))
    };
    subjects.into_iter().filter_map(differing).collect()
}

/// Whether the ledger goes on behind where the customer stands. Entries that were written since the row was read moved
/// the row as well, so it is read again.
async fn compare_position(store: &dyn Store, row: &CustomerRow) -> Result<Option<Found>, StoreError> {
    let owner = (row.customer.shard_key, row.customer.id);
    let last = store.last_position(owner).await?;
    if last <= row.customer.position {
        return Ok(None);
    }
    let scope = Scope { tenant: row.tenant.as_str().into(), customer: Some(row.customer.id) };
    let key = CustomerKey { shard_key: owner.0, ..CustomerKey::new(&scope.tenant, &row.external_id) };
    // An erased customer has another address by now, but was changed by being erased and stands where it should.
    let Some(again) = store.customer(&scope, &key).await? else { return Ok(None) };
    let position = again.customer.position;
    Ok((last > position).then(|| (Subject::Position, Some((last.to_string(), position.to_string())))))
}
