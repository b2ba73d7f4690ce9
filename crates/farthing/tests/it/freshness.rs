//! What a service remembers of a customer is a guess: no answer is given on it that is not true.

use engine::{Command, CustomerChange, Status};
use farthing::service::{Commit, Service, Settings};

use crate::databases::on_both;
use crate::product::{Product, all_done, micros, outcome};

#[tokio::test]
async fn a_refusal_on_a_remembered_customer_is_looked_at_again() {
    on_both(async |database| {
        let product = Product::new("acme");
        let first = Service::start(&database.open().await, Settings::default());
        let second = Service::start(&database.open().await, Settings::default());
        // With a key of its own, and without.
        for (name, key) in [("jane", "c1"), ("john", "")] {
            assert_eq!(outcome(&first.execute(product.call(name, key)).await), "unknown_customer");
            all_done(&second, [product.create(name)]).await;
            assert_eq!(outcome(&first.execute(product.call(name, key)).await), "insufficient_funds");

            all_done(&second, [product.grant(name, "g1", "1")]).await;
            assert_eq!(outcome(&first.execute(product.call(name, key)).await), "done");

            let suspend = CustomerChange { status: Some(Status::Suspended), ..CustomerChange::default() };
            all_done(&second, [product.request(name, Command::Upsert(suspend))]).await;
            let other_key = if key.is_empty() { "" } else { "c2" };
            assert_eq!(outcome(&first.execute(product.call(name, other_key)).await), "suspended");
        }
    })
    .await;
}

#[tokio::test]
async fn a_check_is_true_when_given() {
    on_both(async |database| {
        let product = Product::new("acme");
        let first = Service::start(&database.open().await, Settings::default());
        let second = Service::start(&database.open().await, Settings { commit: Commit::Locked, ..Settings::default() });
        let check = async || {
            let check = product.check_call(&first, "jane").await;
            check.map(|check| (check.refusal.map(|refusal| refusal.code()), check.available, check.as_of))
        };
        assert_eq!(outcome(&check().await), "unknown_customer");

        all_done(&second, [product.create("jane")]).await;
        assert_eq!(check().await.unwrap(), (Some("insufficient_funds"), micros("0"), 1));

        all_done(&second, [product.grant("jane", "g1", "0.4")]).await;
        assert_eq!(check().await.unwrap(), (None, micros("0.4"), 2));

        all_done(&second, [product.call("jane", "c1")]).await;
        assert_eq!(check().await.unwrap(), (Some("insufficient_funds"), micros("0.15"), 3));

        all_done(&second, [product.request("jane", Command::Erase)]).await;
        assert_eq!(outcome(&check().await), "unknown_customer");
    })
    .await;
}

/// A position says how often a customer has changed, not which customer it is.
#[tokio::test]
async fn another_customer_at_the_same_position_is_not_the_remembered_one() {
    on_both(async |database| {
        let product = Product::new("acme");
        let first = Service::start(&database.open().await, Settings::default());
        let second = Service::start(&database.open().await, Settings::default());
        all_done(&first, [product.create("jane"), product.grant("jane", "g1", "100")]).await;

        all_done(&second, [product.request("jane", Command::Erase)]).await;
        all_done(&second, [product.create("jane"), product.grant("jane", "g2", "0.1")]).await;

        let check = product.check_call(&first, "jane").await.unwrap();
        assert_eq!((check.available, check.as_of), (micros("0.1"), 2));
        assert_eq!(outcome(&first.execute(product.call("jane", "c1")).await), "insufficient_funds");
    })
    .await;
}
