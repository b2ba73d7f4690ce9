//! The recount: every wallet and every debt of every tenant, from the ledger's entries, compared with what is stored.
//!
//! It shares no arithmetic with the engine, so that the two cannot agree by making the same mistake. It changes nothing,
//! may run beside a working server, and holds one page of customers at a time.

mod billing;

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

/// How often a customer is read again that changes while it is recounted.
const MOST_READS: usize = 10;

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
    /// An invoice that does not add up, or stands otherwise in the customer's row; its sums are in minor units.
    Invoice {
        /// Which.
        invoice: Uuid,
    },
    /// What open invoices ask for; found is what the customer's row says.
    Invoiced {
        /// In what.
        asset: Asset,
    },
    /// What invoices left to the next one.
    Carried {
        /// In what.
        asset: Asset,
    },
    /// What waits for an invoice; expected is what is owed, which it may not exceed.
    Unbilled {
        /// In what.
        asset: Asset,
    },
    /// The position of the customer's ledger; expected is that of its latest entry.
    Position,
    /// The numbers of a tenant's invoices; expected is what was given.
    Numbers,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant { grant, asset } => write!(f, "wallet {asset}, grant {grant}"),
            Self::Held { grant, asset } => write!(f, "held of wallet {asset}, grant {grant}"),
            Self::Debt { asset } => write!(f, "debt {asset}"),
            Self::Charge { charge } => write!(f, "charge {charge}"),
            Self::Invoice { invoice } => write!(f, "invoice {invoice}"),
            Self::Invoiced { asset } => write!(f, "open invoices {asset}"),
            Self::Carried { asset } => write!(f, "carried {asset}"),
            Self::Unbilled { asset } => write!(f, "not invoiced {asset}"),
            Self::Position => f.write_str("position"),
            Self::Numbers => f.write_str("invoice numbers"),
        }
    }
}

/// Something that is not what the ledger says. Customers are named by the id of their rows, which says nothing of who
/// they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The tenant.
    pub tenant: String,
    /// The id of the customer's rows; nothing where it is about all of the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Uuid>,
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
        match customer {
            Some(customer) => write!(f, "customer {customer} of tenant {tenant}: {subject}: ")?,
            None => write!(f, "tenant {tenant}: {subject}: ")?,
        }
        match (&self.expected, &self.found) {
            (Some(expected), Some(found)) if matches!(subject, Subject::Invoice { .. } | Subject::Numbers) => {
                write!(f, "expected is {expected}, stored is {found}")
            }
            (Some(expected), Some(found)) => write!(f, "the ledger says {expected}, stored is {found}"),
            _ => f.write_str("its entries do not add up to what it says"),
        }
    }
}

/// Sums over all customers of a tenant in one asset. Granted and owed together are charged, lapsed and wallets together.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// What was paid or given, less what was taken back.
    pub granted: Amount,
    /// What was charged and invoiced, with taxes, less what was given back.
    pub charged: Amount,
    /// What lapsed unused.
    pub lapsed: Amount,
    /// What is owed, on open invoices and on none.
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
        let Some(last) = page.last() else { break };
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
    for difference in billing::compare_numbers(store).await? {
        result.differences += 1;
        report(difference);
    }
    Ok(result)
}

/// Adds one account of a customer to the totals. Wallets, revenue, taxes and breakage grow by credits, the others by debits.
fn add(totals: &mut BTreeMap<(String, Asset), Totals>, tenant: &str, sum: &LedgerSum) {
    let totals = totals.entry((tenant.to_owned(), sum.asset.clone())).or_default();
    let amount = sum.amount;
    let (total, amount) = match sum.account.as_str() {
        "wallet" => (&mut totals.wallets, amount),
        "revenue" | "tax" => (&mut totals.charged, amount),
        "breakage" => (&mut totals.lapsed, amount),
        "receivable" | "invoiced" | "carried" => (&mut totals.owed, -amount),
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
    found.extend(compare_billing(store, row, &sums).await?);
    found.extend(compare_position(store, row).await?);
    for charge in store.unbalanced_charges(owner).await? {
        found.push((Subject::Charge { charge }, None));
    }
    let difference = |(subject, sides): (Subject, Option<(String, String)>)| {
        let (expected, found) = sides.unzip();
        Difference { tenant: row.tenant.clone(), customer: Some(customer.id), subject, expected, found }
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

/// What is wrong with the customer's invoices. They are read after the row, so where they differ and the row has moved on
/// meanwhile, it is read again.
async fn compare_billing(store: &dyn Store, row: &CustomerRow, sums: &[LedgerSum]) -> Result<Vec<Found>, StoreError> {
    let mut found = billing::compare_invoices(store, row, sums).await?;
    let mut seen = row.customer.position;
    for _ in 0..MOST_READS {
        if found.is_empty() {
            break;
        }
        let Some(again) = read_again(store, row).await?.filter(|again| again.customer.position != seen) else { break };
        seen = again.customer.position;
        let sums = store.ledger_sums((again.customer.shard_key, again.customer.id), seen).await?;
        found = billing::compare_invoices(store, &again, &sums).await?;
    }
    Ok(found)
}

/// The customer as it stands now. An erased one has another address by then, and is not found.
async fn read_again(store: &dyn Store, row: &CustomerRow) -> Result<Option<CustomerRow>, StoreError> {
    let scope = Scope { tenant: row.tenant.as_str().into(), customer: Some(row.customer.id) };
    let key = CustomerKey { shard_key: row.customer.shard_key, ..CustomerKey::new(&scope.tenant, &row.external_id) };
    store.customer(&scope, &key).await
}

/// Whether the ledger goes on behind where the customer stands. Entries that were written since the row was read moved
/// the row as well, so it is read again.
async fn compare_position(store: &dyn Store, row: &CustomerRow) -> Result<Option<Found>, StoreError> {
    let owner = (row.customer.shard_key, row.customer.id);
    let last = store.last_position(owner).await?;
    if last <= row.customer.position {
        return Ok(None);
    }
    // An erased customer was changed by being erased and stands where it should.
    let Some(again) = read_again(store, row).await? else { return Ok(None) };
    let position = again.customer.position;
    Ok((last > position).then(|| (Subject::Position, Some((last.to_string(), position.to_string())))))
}
