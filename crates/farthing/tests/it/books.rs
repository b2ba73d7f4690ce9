//! The auditor of the store's and the service's tests: reads everything back and holds it against the ledger.

use std::collections::BTreeMap;

use engine::{Account, Asset, Micros};
use farthing::store::{ChargeRow, CustomerRow, EntryRow, Page, Scope, Store};
use uuid::Uuid;

/// Asserts of every customer of every tenant that its state is what its entries add up to, that nothing is below zero
/// and that each charge has its entries. Returns how many charges there are.
pub(crate) async fn assert_balanced(store: &dyn Store) -> usize {
    let mut charges = 0;
    for row in all_customers(store).await {
        let owner = (row.customer.shard_key, row.customer.id);
        let who = format!("{} of {} at {}", row.external_id, row.tenant, row.customer.position);
        let sums = store.ledger_sums(owner, row.customer.position).await.expect("the ledger adds up");
        let ledger: BTreeMap<_, _> = sums
            .into_iter()
            .filter(|sum| ["wallet", "receivable"].contains(&&*sum.account) && sum.amount != 0)
            .map(|sum| ((sum.account, sum.grant, sum.asset), sum.amount))
            .collect();
        assert_eq!(ledger, state_sums(&row), "the ledger (left) and the state (right) of {who}");
        assert_eq!(store.unbalanced_charges(owner).await.expect("the charges add up"), [] as [Uuid; 0], "{who}");
        let scope = Scope { tenant: row.tenant.as_str().into(), customer: None };
        for row in all_charges(store, &scope, owner).await {
            let charge = &row.charge;
            let in_money: i64 = charge
                .covered_by
                .iter()
                .filter(|cover| cover.asset == charge.asset)
                .map(|cover| cover.amount.get())
                .sum();
            let paid = charge.amount.max(Micros::ZERO).get();
            let rest = charge.owed.get() + charge.included().get();
            assert!(charge.price.is_none() || in_money + rest == paid, "{who}: {charge:?}");
            // What the plan gives takes no part of anybody's credit.
            assert!(charge.included().is_zero() || charge.owed.is_zero(), "{who}: {charge:?}");
            charges += 1;
        }
    }
    charges
}

/// What a customer's state says that its wallets hold and that it owes, as the ledger would have it.
fn state_sums(row: &CustomerRow) -> BTreeMap<(String, Option<Uuid>, Asset), i128> {
    let state = &row.customer.state;
    let mut sums = BTreeMap::new();
    for grant in &state.grants {
        assert!(!grant.remaining.is_negative() && !grant.held.is_negative(), "{}: {grant:?}", row.external_id);
        let sum = i128::from(grant.remaining.get()) + i128::from(grant.held.get());
        sums.insert((Account::Wallet.as_str().to_owned(), Some(grant.id), grant.asset.clone()), sum);
    }
    for (asset, owed) in &state.owed {
        assert!(owed.get() > 0, "{}: {owed} {asset}", row.external_id);
        let debit = -i128::from(owed.get());
        sums.insert((Account::Receivable.as_str().to_owned(), None, asset.clone()), debit);
    }
    sums
}

/// Every customer of every tenant, in the order of the store.
pub(crate) async fn all_customers(store: &dyn Store) -> Vec<CustomerRow> {
    let mut all: Vec<CustomerRow> = Vec::new();
    loop {
        let after = all.last().map(|row| (row.customer.shard_key, row.customer.id));
        let page = store.all_customers(Page { after, limit: 100 }).await.expect("the store answers");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Every charge of a customer, the newest use first.
pub(crate) async fn all_charges(store: &dyn Store, scope: &Scope, owner: (i32, Uuid)) -> Vec<ChargeRow> {
    let mut all: Vec<ChargeRow> = Vec::new();
    loop {
        let after = all.last().map(|row| (row.charge.occurred_at, row.charge.id));
        let page = store.charges(scope, owner, Page { after, limit: 500 }).await.expect("the store answers");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Every entry of a customer, the newest first.
pub(crate) async fn all_entries(store: &dyn Store, scope: &Scope, owner: (i32, Uuid)) -> Vec<EntryRow> {
    let mut all: Vec<EntryRow> = Vec::new();
    loop {
        let after = all.last().map(|row| (row.entry.position, row.entry.line));
        let page = store.entries(scope, owner, None, Page { after, limit: 500 }).await.expect("the store answers");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}
