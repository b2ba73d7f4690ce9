//! The store contract, writing: batches as a whole or not at all, what stands in their way, locks, first answers, erasure.

use std::collections::HashSet;
use std::sync::Arc;

use engine::{Command, Customer, CustomerChange, Decision, Profile, decide, id};
use farthing::service::{Service, Settings};
use farthing::store::{
    Batch, CustomerKey, CustomerWrite, Loaded, Locked, Lookups, Operation, Outcome, Owned, Prior, Store, StoreError,
};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::books;
use crate::databases::{Database, on_both};
use crate::product::{Product, all_done};

/// What a decision on a customer writes.
fn batch_of(product: &Product, key: &CustomerKey, before: &Customer, decision: Decision) -> Batch {
    let (shard_key, customer_id, tenant) = (before.shard_key, before.id, product.tenant());
    let (expected, customer, at) = (before.position, decision.customer, product.now);
    Batch {
        customers: vec![CustomerWrite { key: key.clone(), expected, customer, at }],
        charges: (decision.charges.into_iter())
            .map(|charge| Owned { shard_key, customer_id, tenant: tenant.clone(), value: Arc::new(charge) })
            .collect(),
        entries: (decision.entries.into_iter())
            .map(|entry| (Owned { shard_key, customer_id, tenant: tenant.clone(), value: entry }, at))
            .collect(),
        grants: (decision.grants.into_iter())
            .map(|grant| Owned { shard_key, customer_id, tenant: tenant.clone(), value: grant })
            .collect(),
        profiles: (decision.profile.into_iter())
            .map(|profile| Owned { shard_key, customer_id, tenant: tenant.clone(), value: profile })
            .collect(),
        ..Batch::default()
    }
}

/// Decides a command on a customer; what it writes, and the customer afterwards.
fn decided(product: &Product, name: &str, before: &Customer, command: &Command) -> (Batch, Customer) {
    let decision = decide(&product.catalog, before, command, product.now).expect("the command is not refused");
    let after = decision.customer.clone();
    (batch_of(product, &product.key(name), before, decision), after)
}

/// The command that charges one call.
fn call(product: &Product, name: &str, operation_key: &str) -> Command {
    Command::Charge(vec![product.charge_request(name, operation_key, "calls", "1")])
}

/// Two batches as one.
fn together(mut one: Batch, other: Batch) -> Batch {
    one.customers.extend(other.customers);
    one.charges.extend(other.charges);
    one.entries.extend(other.entries);
    one.grants.extend(other.grants);
    one.operations.extend(other.operations);
    one.profiles.extend(other.profiles);
    one
}

/// A customer with credit of 100 USD, at position 2.
async fn customer_with_credit(store: &dyn Store, product: &Product, name: &str) -> Customer {
    let new = Customer::new(product.id_of(name, "customer", ""), product.key(name).shard_key);
    let (batch, created) = decided(product, name, &new, &Command::Upsert(CustomerChange::default()));
    assert_eq!(store.commit(&batch).await.expect("the store answers"), Outcome::Done);
    let grant = Command::Grant(product.grant_request(name, "credit", "100"));
    let (batch, granted) = decided(product, name, &created, &grant);
    assert_eq!(store.commit(&batch).await.expect("the store answers"), Outcome::Done);
    granted
}

fn operation(product: &Product, owner: &Customer, id: Uuid, answer: &str) -> Owned<Operation> {
    Owned {
        shard_key: owner.shard_key,
        customer_id: owner.id,
        tenant: product.tenant().clone(),
        value: Operation { id, fingerprint: 1, answer: answer.to_owned() },
    }
}

#[tokio::test]
async fn customers_are_loaded_in_the_order_asked_for_and_only_where_they_changed() {
    on_both(async |Database { store, .. }| {
        let product = Product::new("acme");
        let jane = customer_with_credit(&*store, &product, "jane").await;
        let john = customer_with_credit(&*store, &product, "john").await;
        let key = |name| product.key(name);

        let loaded = store
            .load_customers(&[
                (key("john"), Some((john.id, 2))),
                (key("nobody"), Some((jane.id, 2))),
                (key("jane"), None),
                (key("jane"), Some((jane.id, 1))),
                (key("jane"), Some((john.id, 2))),
                (Product::new("other").key("jane"), None),
            ])
            .await
            .unwrap();

        let loaded: Vec<_> = loaded
            .iter()
            .map(|loaded| match loaded {
                Loaded::Absent => "absent",
                Loaded::Unchanged => "unchanged",
                Loaded::Changed(customer) if *customer == jane => "jane",
                Loaded::Changed(_) => "another",
            })
            .collect();
        assert_eq!(loaded, ["unchanged", "absent", "jane", "jane", "jane", "absent"]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_written_as_a_whole_or_not_at_all() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let jane = customer_with_credit(store, &product, "jane").await;
        let john = customer_with_credit(store, &product, "john").await;
        let used = operation(&product, &jane, Uuid::from_u128(7), "first");
        let (mut first, jane) = decided(&product, "jane", &jane, &call(&product, "jane", "c1"));
        first.operations = vec![(used.clone(), product.now)];
        assert_eq!(store.commit(&first).await.unwrap(), Outcome::Done);
        let before = database.dump().await;

        // The good half of each batch: it would be written, were it not for the other half.
        let good = || decided(&product, "john", &john, &call(&product, "john", "c1")).0;
        let bad = |name, before: &Customer, command| decided(&product, name, before, &command).0;
        let behind = Customer { position: jane.position - 1, ..jane.clone() };
        let unknown = Customer { id: Uuid::from_u128(8), ..jane.clone() };
        let create = Command::Upsert(CustomerChange::default());
        let grant = Command::Grant(product.grant_request("jane", "more", "1"));
        let mut used_again = bad("jane", &jane, call(&product, "jane", "c2"));
        used_again.operations = vec![(used, product.now)];
        for (what, bad) in [
            ("hot, on a customer that has moved on", bad("jane", &behind, call(&product, "jane", "c2"))),
            ("hot, on a customer that is not there", bad("jane", &unknown, call(&product, "jane", "c2"))),
            ("hot, with a charge that is there", bad("jane", &jane, call(&product, "jane", "c1"))),
            ("not hot, on a customer that has moved on", bad("jane", &behind, grant)),
            ("not hot, with an operation that is there", used_again),
            (
                "creating a customer that is there",
                bad("jane", &Customer::new(Uuid::from_u128(9), jane.shard_key), create),
            ),
        ] {
            let outcome = store.commit(&together(good(), bad)).await.unwrap();
            assert_eq!(outcome, Outcome::Conflict, "{what}");
            assert_eq!(database.dump().await, before, "{what}");
        }
        assert_eq!(store.commit(&good()).await.unwrap(), Outcome::Done);
        books::assert_balanced(store).await;
    })
    .await;
}

#[tokio::test]
async fn under_lock_customers_come_in_order_with_what_their_keys_made() {
    on_both(async |Database { store, .. }| {
        let product = Product::new("acme");
        let jane = customer_with_credit(&*store, &product, "jane").await;
        let john = customer_with_credit(&*store, &product, "john").await;
        let answer = operation(&product, &jane, Uuid::from_u128(7), r#"{"as_of":3}"#);
        let (mut batch, jane) = decided(&product, "jane", &jane, &call(&product, "jane", "c1"));
        batch.operations = vec![(answer.clone(), product.now)];
        store.commit(&batch).await.unwrap();
        let charge = batch.charges[0].value.clone();
        assert_eq!(charge.covered_by.len(), 1);

        let keys = [product.key("john"), product.key("nobody"), product.key("jane")];
        let missing = product.id_of("jane", "charge", "c2");
        // A batch may ask for the same key twice: two callers repeat it at once.
        let ids = [charge.id, charge.id, answer.value.id, missing].map(|id| (jane.shard_key, id));
        let mut seen = None;
        store
            .commit_locked(&keys, &Lookups { operations: ids.to_vec(), ..Lookups::default() }, &mut |locked: Locked| {
                seen = Some(locked);
                Batch::default()
            })
            .await
            .unwrap();

        let seen = seen.unwrap();
        assert_eq!(seen.customers, [Some(john), None, Some(jane)]);
        assert_eq!(seen.priors.len(), 2);
        assert!(matches!(&seen.priors[&charge.id], Prior::Charge(prior) if *prior == charge));
        assert!(matches!(&seen.priors[&answer.value.id], Prior::Operation(prior) if *prior == answer.value));
    })
    .await;
}

#[tokio::test]
async fn a_batch_under_lock_that_never_fits_is_given_up() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let jane = customer_with_credit(store, &product, "jane").await;
        let before = database.dump().await;
        let behind = Customer { position: 1, ..jane };
        let (batch, _) = decided(&product, "jane", &behind, &call(&product, "jane", "c1"));
        let mut asked = 0;
        let given_up = store
            .commit_locked(&[product.key("jane")], &Lookups::default(), &mut |_| {
                asked += 1;
                batch.clone()
            })
            .await;
        assert!(matches!(given_up, Err(StoreError::Contended)));
        assert!(asked > 1, "it was tried again");
        assert_eq!(database.dump().await, before);
    })
    .await;
}

const ROUNDS: usize = 20;

/// Charges by comparing: decided on what is read, and again where that has changed meanwhile.
async fn charge_comparing(store: &dyn Store, product: &Product, who: &str) {
    for round in 0..ROUNDS {
        let command = call(product, "jane", &format!("{who} {round}"));
        loop {
            let loaded =
                store.load_customers(&[(product.key("jane"), None)]).await.expect("the store answers").remove(0);
            let Loaded::Changed(jane) = loaded else { panic!("{loaded:?}") };
            let (batch, _) = decided(product, "jane", &jane, &command);
            if store.commit(&batch).await.expect("the store answers") == Outcome::Done {
                break;
            }
        }
    }
}

/// Charges under lock: what is decided is written, since nobody else can change the customer meanwhile.
async fn charge_locking(store: &dyn Store, product: &Product, who: &str) {
    let mut decisions = 0;
    for round in 0..ROUNDS {
        let command = call(product, "jane", &format!("{who} {round}"));
        let mut decide = |locked: Locked| {
            decisions += 1;
            let jane = locked.customers[0].as_ref().expect("she is there");
            decided(product, "jane", jane, &command).0
        };
        store.commit_locked(&[product.key("jane")], &Lookups::default(), &mut decide).await.expect("the store answers");
    }
    assert_eq!(decisions, ROUNDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_between_those_who_lock_and_those_who_compare() {
    on_both(async |database| {
        let product = Product::new("acme");
        customer_with_credit(&*database.store, &product, "jane").await;
        let stores = join_all((0..4).map(|_| database.open())).await;
        tokio::join!(
            charge_comparing(&*stores[0], &product, "first"),
            charge_comparing(&*stores[1], &product, "second"),
            charge_locking(&*stores[2], &product, "third"),
            charge_locking(&*stores[3], &product, "fourth"),
        );
        assert_eq!(
            product.row(&*database.store, "jane").await.customer.position,
            2 + 4 * i64::try_from(ROUNDS).unwrap()
        );
        assert_eq!(books::assert_balanced(&*database.store).await, 4 * ROUNDS);
    })
    .await;
}

#[tokio::test]
async fn the_first_answer_to_a_request_over_many_customers_stays_until_it_is_forgotten() {
    on_both(async |Database { store, .. }| {
        let product = Product::new("acme");
        let operation = |number, answer: &str| Operation {
            id: Uuid::from_u128(number),
            fingerprint: -5,
            answer: answer.to_owned(),
        };
        let at = product.now;
        store.keep_operation("acme", (3, None), &operation(1, "first"), at).await.unwrap();
        store.keep_operation("acme", (3, None), &operation(1, "second"), at).await.unwrap();
        store.keep_operation("acme", (4, None), &operation(2, "later"), product.later(60).now).await.unwrap();

        let find =
            async |bucket, number| store.find_operation("acme", (bucket, Uuid::from_u128(number))).await.unwrap();
        assert_eq!(find(3, 1).await, Some(operation(1, "first")));
        assert_eq!(find(4, 1).await, None, "in another bucket");

        // What a customer's own key made is for good.
        let jane = customer_with_credit(&*store, &product, "jane").await;
        let own = self::operation(&product, &jane, Uuid::from_u128(3), "own");
        let (mut batch, _) = decided(&product, "jane", &jane, &call(&product, "jane", "c1"));
        batch.operations = vec![(own, at)];
        store.commit(&batch).await.unwrap();
        assert_eq!(store.forget_operations(product.later(60).now).await.unwrap(), 1);
        assert_eq!(find(3, 1).await, None);
        assert_eq!(find(4, 2).await, Some(operation(2, "later")));
        assert!(find(jane.shard_key, 3).await.is_some());
    })
    .await;
}

/// Every place where a word about a person is kept holds the same word, which is nowhere after the erasure.
#[tokio::test]
async fn an_erasure_leaves_no_word_about_the_person_and_all_amounts() {
    const PERSON: &str = "jane@example.com";
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = Service::start(&database.store, Settings::default());
        let mut charge = product.charge_request(PERSON, PERSON, "calls", "1");
        charge.subject = Some(PERSON.into());
        charge.metadata = Some(format!(r#"{{"of":"{PERSON}"}}"#).into());
        let mut grant = product.grant_request(PERSON, PERSON, "10");
        grant.reason = Some(PERSON.to_owned());
        let profile = Profile {
            name: Some(PERSON.to_owned()),
            email: Some(PERSON.to_owned()),
            address: vec![PERSON.to_owned()],
            tax_id: Some(PERSON.to_owned()),
            metadata: [(PERSON.to_owned(), PERSON.to_owned())].into(),
        };
        let mut hold = product.hold(PERSON, PERSON, "2");
        if let Command::Hold(hold) = &mut hold.command {
            hold.subject = Some(PERSON.into());
        }
        let mut bystander = product.charge_request("john", "c1", "calls", "1");
        bystander.subject = Some("agent-7".into());
        let requests = [
            product.profile(PERSON, profile),
            product.keyed(PERSON, PERSON, Command::Grant(grant)),
            product.request(PERSON, Command::Charge(vec![charge])),
            hold,
            product.create("john"),
            product.grant("john", "g1", "10"),
            product.request("john", Command::Charge(vec![bystander])),
        ];
        all_done(&service, requests).await;
        let owner = product.owner(store, PERSON).await;
        let entries = books::all_entries(store, &product.scope(), owner).await.len();
        let of_person = |rows: Vec<String>| rows.iter().filter(|row| row.contains(PERSON)).count();
        // A customer, its profile, a grant, a charge, a hold and two kept answers.
        assert_eq!(of_person(database.dump().await), 7);

        all_done(&service, [product.request(PERSON, Command::Erase)]).await;

        assert_eq!(of_person(database.dump().await), 0);
        assert!(store.customer(&product.scope(), &product.key(PERSON)).await.unwrap().is_none());
        let id = id::erased_customer_id(owner.0, owner.1);
        assert_eq!(product.owner(store, &id).await, owner, "the books stay under another id");
        assert_eq!(books::all_entries(store, &product.scope(), owner).await.len(), entries);
        let john = product.owner(store, "john").await;
        let subjects: HashSet<_> =
            books::all_charges(store, &product.scope(), john).await.into_iter().map(|row| row.charge.subject).collect();
        assert_eq!(subjects, [Some("agent-7".into())].into(), "another customer keeps its own");
        assert_eq!(books::assert_balanced(store).await, 2);
    })
    .await;
}
