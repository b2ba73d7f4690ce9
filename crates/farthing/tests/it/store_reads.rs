//! The store contract, reading: lists with their cursors, what each scope sees, sums of usage, the auditor's queries, and
//! the small shared tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Account, Command, CustomerChange, GrantKind, HoldSize, HoldState, Micros, Profile};
use farthing::clock::{Clock, SystemClock};
use farthing::service::{Service, Settings};
use farthing::store::{self, KeyRow, Page, Scope, StoreError, UsageQuery, UsageRow};
use jiff::Timestamp;
use uuid::Uuid;

use crate::books;
use crate::databases::{Database, on_both};
use crate::product::{Product, all_done, micros};

fn start(database: &Database) -> Service {
    Service::start(&database.store, Settings::default())
}

/// All of a list, read in pages of two.
async fn in_pages<C: Copy, T>(
    page: impl AsyncFn(Page<C>) -> Result<Vec<T>, StoreError>,
    cursor: impl Fn(&T) -> C,
) -> Vec<T> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let rows = page(Page { after, limit: 2 }).await.expect("the store answers");
        assert!(rows.len() <= 2, "a page is not longer than its limit");
        let Some(last) = rows.last() else { return all };
        after = Some(cursor(last));
        all.extend(rows);
    }
}

/// The scopes that may see a customer of `acme`, and some that may not.
fn scopes(customer: Uuid) -> [(Scope, bool); 5] {
    let scope = |tenant: &str, customer| Scope { tenant: Arc::from(tenant), customer };
    [
        (scope("acme", None), true),
        (scope("acme", Some(customer)), true),
        (scope("acme", Some(Uuid::from_u128(1))), false),
        (scope("other", None), false),
        (scope("other", Some(customer)), false),
    ]
}

#[tokio::test]
async fn it_says_which_database_it_is_and_opens_again_as_it_was() {
    on_both(async |database| {
        let product = Product::new("acme");
        assert!(["SQLite", "PostgreSQL"].contains(&database.store.name()));
        database.store.ping().await.unwrap();
        assert_eq!(
            database.store.schema_version().await.unwrap(),
            database.open().await.schema_version().await.unwrap()
        );
        all_done(&start(&database), [product.create("jane")]).await;
        let again = database.open().await;
        again.ping().await.unwrap();
        assert_eq!(product.row(&*again, "jane").await.customer, product.row(&*database.store, "jane").await.customer);
    })
    .await;
    let wrong = store::open("mysql://localhost/farthing").await.err().expect("it is neither of the two");
    assert!(matches!(wrong, StoreError::Address(_)));
    assert_eq!(wrong.to_string(), "a database address begins with sqlite: or postgres://");
}

#[tokio::test]
async fn a_customer_is_shown_with_who_it_is_to_those_who_may_see_it() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = start(&database);
        let jane = Profile {
            name: Some("Jane".to_owned()),
            email: Some("jane@example.com".to_owned()),
            address: vec!["1 Main Street".to_owned(), "Springfield".to_owned()],
            tax_id: Some("DE123456789".to_owned()),
            metadata: [("segment".to_owned(), "\"beta\" \u{1f3b2}".to_owned())].into(),
        };
        all_done(&service, [product.profile("jane", jane.clone())]).await;
        all_done(&service, [product.later(60).request("jane", Command::Upsert(CustomerChange::default()))]).await;

        let row = product.row(store, "jane").await;
        assert_eq!((&*row.external_id, &*row.tenant, &row.profile), ("jane", "acme", &jane));
        assert_eq!((row.created_at, row.customer.position), (product.now, 2));
        for (scope, sees) in scopes(row.customer.id) {
            let found = store.customer(&scope, &product.key("jane")).await.unwrap();
            assert_eq!(found.is_some(), sees, "{scope:?}");
        }
        assert!(store.customer(&product.scope(), &product.key("john")).await.unwrap().is_none());

        all_done(&service, [product.profile("jane", Profile::default())]).await;
        assert_eq!(product.row(store, "jane").await.profile, Profile::default(), "a profile is replaced as a whole");
    })
    .await;
}

#[tokio::test]
async fn customers_are_listed_by_tenant_and_by_bucket() {
    on_both(async |database| {
        let (acme, other, store) = (Product::new("acme"), Product::new("other"), &*database.store);
        let service = start(&database);
        for number in 0..5 {
            all_done(&service, [acme.create(&format!("customer-{number}")), other.create(&format!("{number}"))]).await;
        }

        let page = async |page| store.customers(&acme.scope(), page).await;
        let of_acme = in_pages(page, |row| row.customer.id).await;
        let names: Vec<_> = of_acme.iter().map(|row| &*row.external_id).collect();
        // The ids of rows are drawn in the order of creation.
        assert_eq!(names, ["customer-0", "customer-1", "customer-2", "customer-3", "customer-4"]);
        for (scope, _) in scopes(of_acme[3].customer.id) {
            let names: Vec<_> = (store.customers(&scope, Page { after: None, limit: 10 }).await.unwrap().into_iter())
                .map(|row| (row.tenant, row.external_id))
                .collect();
            let expected = match (&*scope.tenant, scope.customer) {
                (_, None) => 5,
                ("acme", Some(id)) if id == of_acme[3].customer.id => 1,
                _ => 0,
            };
            assert_eq!(names.len(), expected, "{scope:?} {names:?}");
            assert!(names.iter().all(|(tenant, _)| **tenant == *scope.tenant));
        }

        let page = async |page| store.all_customers(page).await;
        let all = in_pages(page, |row| (row.customer.shard_key, row.customer.id)).await;
        let places: Vec<_> = all.iter().map(|row| (row.customer.shard_key, row.customer.id)).collect();
        assert_eq!(all.len(), 10);
        assert!(places.is_sorted(), "{places:?}");
    })
    .await;
}

#[tokio::test]
async fn charges_are_listed_by_the_time_of_use_and_found_by_id() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = start(&database);
        all_done(&service, [product.create("jane"), product.grant("jane", "g1", "10")]).await;
        // Recorded in another order than used, and three at the same time.
        let mut made = Vec::new();
        for (number, seconds) in [(0, -60), (1, -20), (2, -40), (3, -20), (4, 0), (5, -20)] {
            let mut charge = product.charge_request("jane", &format!("c{number}"), "use", "2");
            charge.subject = (number % 2 == 0).then(|| "agent-7".into());
            charge.dimensions = BTreeMap::from([("model".to_owned(), "small".to_owned())]);
            charge.metadata = Some(r#"{"note": "as it came"}"#.into());
            charge.occurred_at = product.later(seconds).now;
            let answer = all_done(&service, [product.request("jane", Command::Record(vec![charge]))]).await.remove(0);
            made.push((*answer.charges[0]).clone());
        }
        let owner = product.owner(store, "jane").await;

        let page = async |page| store.charges(&product.scope(), owner, page).await;
        let listed = in_pages(page, |row| (row.charge.occurred_at, row.charge.id)).await;
        let listed: Vec<_> = listed.into_iter().map(|row| row.charge).collect();
        let mut expected = made.clone();
        expected.sort_by_key(|charge| std::cmp::Reverse((charge.occurred_at, charge.id)));
        assert_eq!(listed, expected, "with what covered them");

        for (scope, sees) in scopes(owner.1) {
            for charge in &made {
                let found = store.charge(&scope, (owner.0, charge.id)).await.unwrap();
                assert_eq!(found.map(|row| row.charge), sees.then(|| charge.clone()), "{scope:?}");
            }
            let some = store.charges(&scope, owner, Page { after: None, limit: 10 }).await.unwrap();
            assert_eq!(!some.is_empty(), sees, "{scope:?}");
        }
        let row = store.charge(&product.scope(), (owner.0, made[0].id)).await.unwrap().unwrap();
        assert_eq!((&*row.external_id, row.customer_id, row.shard_key), ("jane", owner.1, owner.0));
        assert!(store.charge(&product.scope(), (owner.0, Uuid::from_u128(1))).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn entries_are_listed_by_wallet_and_tell_what_it_held_after_each() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = start(&database);
        let use_and_calls = [("use", "2"), ("calls", "1")]
            .map(|(meter, quantity)| product.charge_request("jane", meter, meter, quantity));
        let requests = [
            product.create("jane"),
            product.grant("jane", "g1", "1"),
            product.request("jane", Command::Charge(use_and_calls.into())),
            product.request("jane", Command::Record(vec![product.charge_request("jane", "owed", "calls", "4")])),
            product.grant("jane", "g2", "5"),
        ];
        all_done(&service, requests).await;
        let owner = product.owner(store, "jane").await;
        let scope = product.scope();

        let page = async |page| store.entries(&scope, owner, None, page).await;
        let all = in_pages(page, |row| (row.entry.position, row.entry.line)).await;
        let kinds: Vec<_> =
            all.iter().map(|row| (row.entry.position, row.entry.line, row.entry.kind.as_str())).collect();
        let expected = [
            (5, 1, "repayment"),
            (5, 0, "grant"),
            (4, 1, "charge"),
            (4, 0, "charge"),
            (3, 1, "charge"),
            (3, 0, "charge"),
            (2, 0, "grant"),
            (1, 0, "grant"),
        ];
        assert_eq!(kinds, expected);
        assert!(all.iter().all(|row| row.recorded_at == product.now));

        for asset in ["USD", "use"] {
            let page = async |page| store.entries(&scope, owner, Some(asset), page).await;
            let mut of_wallet = in_pages(page, |row| (row.entry.position, row.entry.line)).await;
            of_wallet.reverse();
            let mut held = 0;
            for row in &of_wallet {
                assert_eq!(row.entry.asset.as_str(), asset);
                let sign = if row.entry.credit == Account::Wallet { 1 } else { -1 };
                held += sign * row.entry.amount.get();
                let at = (row.entry.position, row.entry.line);
                assert_eq!(store.wallet_at(&scope, owner, asset, at).await.unwrap(), Micros::new(held), "{row:?}");
            }
            assert!(of_wallet.iter().all(|row| row.entry.debit != Account::Receivable), "what is owed is in no wallet");
        }
        assert_eq!(store.wallet_at(&scope, owner, "USD", (i64::MAX, 0)).await.unwrap(), micros("4.75"));
        assert_eq!(store.wallet_at(&scope, owner, "EUR", (i64::MAX, 0)).await.unwrap(), Micros::ZERO);
        for (scope, sees) in scopes(owner.1) {
            let held = store.wallet_at(&scope, owner, "USD", (i64::MAX, 0)).await.unwrap();
            assert_eq!(!held.is_zero(), sees, "{scope:?}");
        }

        for (scope, sees) in scopes(owner.1) {
            let some = store.entries(&scope, owner, None, Page { after: None, limit: 10 }).await.unwrap();
            assert_eq!(!some.is_empty(), sees, "{scope:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn grants_are_listed_with_how_they_ended() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = start(&database);
        let mut lapsing = product.grant_request("jane", "lapsing", "2");
        lapsing.kind = GrantKind::Promotional;
        lapsing.priority = -5;
        lapsing.expires_at = Some(product.later(60).now);
        lapsing.meters = vec!["calls".into(), "tokens".into()];
        lapsing.reason = Some("a welcome".to_owned());
        let voided = product.grant_request("jane", "voided", "3");
        let answers = all_done(
            &service,
            [
                product.create("jane"),
                product.request("jane", Command::Grant(lapsing)),
                product.request("jane", Command::Grant(voided.clone())),
                product.grant("jane", "open", "4"),
                product.request("jane", Command::VoidGrant { grant: voided.id }),
                // Books what has lapsed by then.
                product.later(90).create("jane"),
            ],
        )
        .await;
        let owner = product.owner(store, "jane").await;

        let page = async |page| store.grants(&product.scope(), owner, page).await;
        let rows = in_pages(page, |row| (row.grant.position, row.grant.id)).await;
        let ended: Vec<_> = rows.iter().map(|row| row.ended.as_deref()).collect();
        assert_eq!(ended, [None, Some("voided"), Some("expired"), None], "the last is the one of its creation");
        let made: Vec<_> = answers.iter().rev().flat_map(|answer| answer.grants.clone()).collect();
        assert_eq!(rows.into_iter().map(|row| row.grant).collect::<Vec<_>>(), made);

        for (scope, sees) in scopes(owner.1) {
            let some = store.grants(&scope, owner, Page { after: None, limit: 10 }).await.unwrap();
            assert_eq!(!some.is_empty(), sees, "{scope:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_hold_is_shown_as_it_was_at_its_latest_change() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let service = start(&database);
        let (settled, lapsed) = (product.hold_id("jane", "h1"), product.hold_id("jane", "h2"));
        let charge = |calls| product.charge_request("jane", "", "calls", calls);
        let steps = [
            (product.hold("jane", "h1", "4"), settled, HoldState::Open),
            (product.hold("jane", "h2", "1"), lapsed, HoldState::Open),
            (
                product.request(
                    "jane",
                    Command::ExtendHold {
                        hold: settled,
                        more: Some(HoldSize::Quantity(micros("2"))),
                        expires_at: None,
                    },
                ),
                settled,
                HoldState::Open,
            ),
            (
                product.request("jane", Command::CaptureHold { hold: settled, charge: charge("1") }),
                settled,
                HoldState::Open,
            ),
            (
                product.request("jane", Command::SettleHold { hold: settled, charge: charge("3") }),
                settled,
                HoldState::Settled,
            ),
            (product.later(1000).create("jane"), lapsed, HoldState::Expired),
        ];
        all_done(&service, [product.create("jane"), product.grant("jane", "g1", "10")]).await;
        for (request, hold, state) in steps {
            let answer = all_done(&service, [request]).await.remove(0);
            let (shard_key, customer) = product.owner(store, "jane").await;
            for (scope, sees) in scopes(customer) {
                let row = store.hold(&scope, (shard_key, hold)).await.unwrap();
                assert_eq!(row.map(|row| row.record), answer.holds.last().filter(|_| sees).cloned(), "{scope:?}");
            }
            let row = store.hold(&product.scope(), (shard_key, hold)).await.unwrap().unwrap();
            assert_eq!((&*row.external_id, row.record.state), ("jane", state));
        }
        let unknown = store.hold(&product.scope(), (0, Uuid::from_u128(1))).await.unwrap();
        assert!(unknown.is_none());
    })
    .await;
}

/// A sum of usage in one line: window, meter, subject, dimension, charges, quantity, amount.
fn line(row: &UsageRow) -> String {
    let window = row.window.map_or_else(|| "-".to_owned(), |window| window.strftime("%H:%M").to_string());
    let (subject, dimension) = (row.subject.as_deref().unwrap_or("-"), row.dimension.as_deref().unwrap_or("-"));
    format!(
        "{window} {} {subject} {dimension} {} {} {} {}",
        row.meter, row.charges, row.quantity, row.amount, row.asset
    )
}

fn morning(time: &str) -> Timestamp {
    format!("2026-02-27T{time}:00Z").parse().expect("a time")
}

/// Records some uses of a morning; the query for all of them.
async fn record_usage(database: &Database, product: &Product) -> UsageQuery {
    let service = start(database);
    all_done(&service, [product.create("jane"), product.create("john")]).await;
    let uses = [
        ("09:00", "tokens", "1000000", "ann", Some("small")),
        ("09:10", "tokens", "2000000", "bob", Some("large")),
        ("09:59", "tokens", "4000000", "ann", Some("small")),
        ("10:00", "tokens", "1000000", "ann", None),
        ("10:30", "calls", "3", "", None),
    ];
    for (number, (time, meter, quantity, subject, model)) in uses.into_iter().enumerate() {
        let mut charge = product.charge_request("jane", &number.to_string(), meter, quantity);
        charge.subject = (!subject.is_empty()).then(|| subject.into());
        charge.dimensions = model.map(|model| ("model".to_owned(), model.to_owned())).into_iter().collect();
        charge.occurred_at = morning(time);
        all_done(&service, [product.request("jane", Command::Record(vec![charge]))]).await;
    }
    let (shard_key, customer) = product.owner(&*database.store, "jane").await;
    UsageQuery {
        customer,
        shard_key,
        from: morning("09:00"),
        to: morning("11:00"),
        meter: None,
        subject: None,
        window: None,
        dimension: None,
        by_subject: false,
        limit: 100,
    }
}

#[tokio::test]
async fn usage_is_summed_by_window_subject_and_dimension() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let all = record_usage(&database, &product).await;
        let hour = Some(3_600_000_000);
        let model = Some("model".to_owned());
        for (what, query, expected) in [
            ("all", all.clone(), vec!["- calls - - 1 3 0.75 USD", "- tokens - - 4 8000000 6.75 USD"]),
            (
                "from a time on, and before another",
                UsageQuery { from: morning("09:10"), to: morning("10:00"), ..all.clone() },
                vec!["- tokens - - 2 6000000 4.6 USD"],
            ),
            (
                "one meter",
                UsageQuery { meter: Some("calls".to_owned()), ..all.clone() },
                vec!["- calls - - 1 3 0.75 USD"],
            ),
            (
                "one subject",
                UsageQuery { subject: Some("ann".to_owned()), ..all.clone() },
                vec!["- tokens - - 3 6000000 2.75 USD"],
            ),
            (
                "each hour",
                UsageQuery { window: hour, ..all.clone() },
                vec![
                    "09:00 tokens - - 3 7000000 4.75 USD",
                    "10:00 calls - - 1 3 0.75 USD",
                    "10:00 tokens - - 1 1000000 2 USD",
                ],
            ),
            (
                "each subject and model of the tokens",
                UsageQuery { meter: Some("tokens".to_owned()), by_subject: true, dimension: model, ..all.clone() },
                vec![
                    "- tokens ann - 1 1000000 2 USD",
                    "- tokens ann small 2 5000000 0.75 USD",
                    "- tokens bob large 1 2000000 4 USD",
                ],
            ),
            (
                "a dimension that nothing has",
                UsageQuery { meter: Some("calls".to_owned()), dimension: Some("colour".to_owned()), ..all.clone() },
                vec!["- calls - - 1 3 0.75 USD"],
            ),
            (
                "the first sum alone",
                UsageQuery { window: hour, limit: 1, ..all.clone() },
                vec!["09:00 tokens - - 3 7000000 4.75 USD"],
            ),
        ] {
            let rows = store.usage(&product.scope(), &query).await.unwrap();
            assert_eq!(rows.iter().map(line).collect::<Vec<_>>(), expected, "{what}");
        }
        for (scope, sees) in scopes(all.customer) {
            let rows = store.usage(&scope, &all).await.unwrap();
            assert_eq!(!rows.is_empty(), sees, "{scope:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_definition_of_a_price_stays_as_it_was_kept_first() {
    on_both(async |Database { store, .. }| {
        let definitions = |texts: [&str; 2]| texts.map(|text| (text[..2].to_owned(), text.to_owned()));
        store.keep_prices("acme", &definitions(["v1 one", "v2 two"])).await.unwrap();
        store.keep_prices("acme", &definitions(["v1 changed", "v3 three"])).await.unwrap();
        store.keep_prices("other", &definitions(["v4 theirs", "v1 theirs"])).await.unwrap();
        let acme = Product::new("acme").scope();
        for (version, expected) in
            [("v1", Some("v1 one")), ("v2", Some("v2 two")), ("v3", Some("v3 three")), ("v4", None)]
        {
            assert_eq!(store.price(&acme, version).await.unwrap().as_deref(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_found_by_its_digest_until_it_is_revoked() {
    on_both(async |Database { store, .. }| {
        let product = Product::new("acme");
        let key = |tenant: &str, name: &str| KeyRow {
            id: SystemClock.new_id(),
            tenant: tenant.to_owned(),
            name: name.to_owned(),
            scope: "write".to_owned(),
            preview: "fk_live_ab".to_owned(),
            created_at: product.now,
            revoked_at: None,
        };
        let keys = [key("acme", "first"), key("acme", "second"), key("other", "theirs")];
        for (number, key) in (1..).zip(&keys) {
            store.add_key(key, &[number; 32]).await.unwrap();
        }
        assert!(store.add_key(&key("acme", "copy"), &[1; 32]).await.is_err(), "a digest names one key");
        let found = store.find_key(&[1; 32]).await.unwrap().unwrap();
        let words = (&*found.tenant, &*found.name, &*found.scope, &*found.preview, found.created_at);
        assert_eq!(words, ("acme", "first", "write", "fk_live_ab", product.now));
        assert!(store.find_key(&[9; 32]).await.unwrap().is_none());

        let at = product.later(60).now;
        assert!(!store.revoke_key("other", keys[0].id, at).await.unwrap(), "it is another tenant's");
        assert!(store.revoke_key("acme", keys[0].id, at).await.unwrap());
        assert!(!store.revoke_key("acme", keys[0].id, at).await.unwrap(), "it has been revoked");
        assert!(store.find_key(&[1; 32]).await.unwrap().is_none());
        assert!(store.find_key(&[2; 32]).await.unwrap().is_some());
        let listed = store.keys("acme").await.unwrap();
        let listed: Vec<_> = listed.iter().map(|key| (&*key.name, key.revoked_at)).collect();
        assert_eq!(listed, [("first", Some(at)), ("second", None)]);
    })
    .await;
}

#[tokio::test]
async fn how_far_a_file_has_been_imported_is_noted() {
    on_both(async |Database { store, .. }| {
        let product = Product::new("acme");
        for (lines, at) in [(500, product.now), (1_000, product.later(1).now)] {
            store.note_imported("acme", "sha256:1", lines, at).await.unwrap();
            assert_eq!(store.imported_lines("acme", "sha256:1").await.unwrap(), lines);
        }
        assert_eq!(store.imported_lines("acme", "sha256:2").await.unwrap(), 0);
        assert_eq!(store.imported_lines("other", "sha256:1").await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn the_auditor_sees_what_was_damaged() {
    on_both(async |database| {
        let (product, store) = (Product::new("acme"), &*database.store);
        let owe = engine::Overage { policy: engine::OveragePolicy::Owe, limit: None };
        let owing = CustomerChange { overage: Some(Some(owe)), ..CustomerChange::default() };
        let requests = [
            product.request("jane", Command::Upsert(owing)),
            product.grant("jane", "g1", "1"),
            product.call("jane", "whole"),
            product.charge("jane", "half", "calls", "5"),
            product.charge("jane", "owed", "calls", "1"),
            // The volume price gives back what got cheaper, in part off the debt.
            product.charge("jane", "dear", "minutes", "10"),
            product.charge("jane", "cheap", "minutes", "1"),
        ];
        all_done(&start(&database), requests).await;
        let owner = product.owner(store, "jane").await;
        assert_eq!(books::assert_balanced(store).await, 5);
        let grant = product.id_of("jane", "grant", "g1");
        let sums = async |position| {
            let mut sums: Vec<_> = store.ledger_sums(owner, position).await.unwrap().into_iter().collect();
            sums.retain(|sum| sum.asset.as_str() == "USD");
            sums.sort_by_key(|sum| sum.account.clone());
            sums.into_iter().map(|sum| (sum.account, sum.grant, sum.amount)).collect::<Vec<_>>()
        };
        let signed = |amount: &str| i128::from(micros(amount).get());
        let sum = |account: &str, amount: &str| (account.to_owned(), None, signed(amount));
        let wallet = |amount: &str| ("wallet".to_owned(), Some(grant), signed(amount));
        assert_eq!(sums(7).await, [sum("cash", "-1"), sum("receivable", "-1.19"), sum("revenue", "2.19"), wallet("0")]);
        assert_eq!(sums(2).await, [sum("cash", "-1"), wallet("1")]);
        assert_eq!(store.last_position(owner).await.unwrap(), 7);
        assert_eq!(store.last_position((owner.0, grant)).await.unwrap(), 0, "there is no such customer");

        database.execute("DELETE FROM entries WHERE position IN (3, 5); DELETE FROM charges WHERE position = 4").await;
        let mut unbalanced = store.unbalanced_charges(owner).await.unwrap();
        unbalanced.sort_unstable();
        let mut expected = ["whole", "half", "owed"].map(|key| product.id_of("jane", "charge", key));
        expected.sort_unstable();
        assert_eq!(unbalanced, expected);
        let damaged = [sum("cash", "-1"), sum("receivable", "-0.94"), sum("revenue", "1.69"), wallet("0.25")];
        assert_eq!(sums(7).await, damaged);
    })
    .await;
}
