//! Operation keys: whoever repeats a request, in sequence or at once, at one service or at several on the same database,
//! makes its effect once and gets the first answer; the same key with another body is refused.

use std::sync::Arc;

use engine::{Command, CustomerChange, HoldState, Profile, Status};
use farthing::service::{Answer, Commit, Request, Service, ServiceError, Settings};

use crate::books;
use crate::databases::{Database, on_both};
use crate::product::{Product, all_done, micros, outcome};

/// Two services on one database, each with what it remembers, and as different as they can be.
async fn two_services(database: &Database) -> [Arc<Service>; 2] {
    let optimistic = Service::start(&database.open().await, Settings { lanes: 2, ..Settings::default() });
    let locked = Service::start(&database.open().await, Settings { commit: Commit::Locked, ..Settings::default() });
    [Arc::new(optimistic), Arc::new(locked)]
}

/// The answer to a request that has to succeed; its `replayed` apart, which only the first one has not.
async fn answer(service: &Service, request: &Request) -> (Answer, bool) {
    let answer = service.execute(request.clone()).await.expect("the request succeeds");
    let replayed = answer.replayed;
    (Answer { replayed: false, ..answer }, replayed)
}

/// Executes a request many times at once, at all services in turn.
async fn all_at_once(services: &[Arc<Service>], request: &Request, times: usize) -> Vec<Result<Answer, ServiceError>> {
    let callers: Vec<_> = (0..times)
        .map(|number| {
            let (service, request) = (services[number % services.len()].clone(), request.clone());
            tokio::spawn(async move { service.execute(request).await })
        })
        .collect();
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.expect("a caller ends"));
    }
    answers
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_at_every_service() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        let mut charge = product.charge_request("jane", "c1", "tokens", "1000000");
        charge.subject = Some("agent-7".into());
        charge.dimensions = [("model".to_owned(), "small".to_owned())].into();
        charge.metadata = Some(r#"{"call":"c1"}"#.into());
        let capture = product.charge_request("jane", "", "calls", "1");
        let settle = product.charge_request("jane", "", "calls", "2");
        let hold = product.hold_id("jane", "h1");
        let grant = product.grant_request("jane", "g2", "1").id;
        let requests = [
            product.keyed("jane", "u1", Command::Upsert(CustomerChange::default())),
            product.grant("jane", "g1", "10"),
            product.grant("jane", "g2", "1"),
            product.request("jane", Command::Charge(vec![charge])),
            product.charge("jane", "c2", "use", "2"),
            product.hold("jane", "h1", "8"),
            product.keyed("jane", "x1", Command::CaptureHold { hold, charge: capture }),
            product.keyed("jane", "s1", Command::SettleHold { hold, charge: settle }),
            product.keyed("jane", "v1", Command::VoidGrant { grant }),
        ];
        let first_answers = all_done(&services[0], requests.clone()).await;
        let before = product.row(&*database.store, "jane").await.customer;

        let fresh = Service::start(&database.open().await, Settings::default());
        for service in [&*services[0], &*services[1], &fresh] {
            for (request, first) in requests.iter().zip(&first_answers) {
                assert_eq!(answer(service, request).await, (first.clone(), true), "{:?}", request.command);
            }
        }

        assert_eq!(product.row(&*database.store, "jane").await.customer, before, "nothing has changed");
        assert_eq!(books::assert_balanced(&*database.store).await, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_once_make_one_effect_and_get_one_answer() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        all_done(&services[0], [product.create("jane"), product.grant("jane", "g1", "10")]).await;
        for request in [product.call("jane", "c1"), product.hold("jane", "h1", "4"), product.grant("jane", "g2", "5")] {
            let answers = all_at_once(&services, &request, 60).await;
            let mut first = 0;
            for answer in &answers {
                let answer = answer.as_ref().expect("every repeat succeeds");
                first += usize::from(!answer.replayed);
                let expected = answers[0].as_ref().unwrap();
                assert_eq!(Answer { replayed: expected.replayed, ..answer.clone() }, *expected);
            }
            assert_eq!(first, 1, "one of them did it");
        }
        let customer = product.row(&*database.store, "jane").await.customer;
        let dollars: Vec<_> = customer.state.grants.iter().filter(|grant| grant.asset.as_str() == "USD").collect();
        let sums = dollars.iter().fold((0, 0), |sum, grant| (sum.0 + grant.remaining.get(), sum.1 + grant.held.get()));
        assert_eq!(sums, (13_750_000, 1_000_000), "10 and 5 granted, 0.25 charged, 1 held");
        assert_eq!(books::assert_balanced(&*database.store).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused_whoever_was_asked_first() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        all_done(&services[0], [product.create("jane"), product.grant("jane", "g1", "10")]).await;

        all_done(&services[0], [product.charge("jane", "c1", "calls", "1")]).await;
        for service in &services {
            let other = service.execute(product.charge("jane", "c1", "calls", "2")).await;
            assert_eq!(outcome(&other), "operation_key_reused");
            let other = service.execute(product.grant("jane", "g1", "20")).await;
            assert_eq!(outcome(&other), "operation_key_reused");
        }

        // At once: whichever comes first is done, and the other one refused.
        let bodies = [product.charge("jane", "c2", "calls", "1"), product.charge("jane", "c2", "calls", "2")];
        let [one, other] = bodies.map(|body| {
            let services = services.clone();
            tokio::spawn(async move { all_at_once(&services, &body, 20).await })
        });
        let mut outcomes: Vec<_> = [one.await.unwrap(), other.await.unwrap()]
            .iter()
            .map(|answers| answers.iter().map(outcome).collect::<Vec<_>>())
            .collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, [vec!["done"; 20], vec!["operation_key_reused"; 20]]);
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_is_created_by_many_at_once_is_created_once() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        // In opposite orders, so that batches create the same customers in opposite orders.
        let names: Vec<String> = (0..20).map(|number| format!("customer-{number}")).collect();
        let callers: Vec<_> = names
            .iter()
            .map(|name| (0, name))
            .chain(names.iter().rev().map(|name| (1, name)))
            .map(|(number, name)| {
                let (service, request) = (services[number].clone(), product.create(name));
                tokio::spawn(async move { service.execute(request).await })
            })
            .collect();
        let mut created = 0;
        for caller in callers {
            created += usize::from(caller.await.unwrap().expect("both succeed").created);
        }
        assert_eq!(created, names.len());

        let rows = books::all_customers(&*database.store).await;
        assert_eq!(rows.len(), names.len());
        for row in rows {
            let uses: Vec<_> = row.customer.state.grants.iter().map(|grant| grant.remaining).collect();
            assert_eq!(uses, [micros("3")], "the grant of its creation, once");
        }
        books::assert_balanced(&*database.store).await;
    })
    .await;
}

#[tokio::test]
async fn usage_that_was_recorded_in_part_is_completed() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        all_done(&services[0], [product.create("jane")]).await;
        let tokens = product.charge_request("jane", "e1 tokens", "tokens", "1000000");
        let minutes = product.charge_request("jane", "e1 minutes", "minutes", "5");
        let record = |charges| product.request("jane", Command::Record(charges));
        let first = all_done(&services[0], [record(vec![tokens.clone()])]).await.remove(0);

        for service in [&services[1], &services[0]] {
            let both = service.execute(record(vec![tokens.clone(), minutes.clone()])).await.unwrap();
            assert_eq!(both.charges[0], first.charges[0]);
            assert_eq!((&*both.charges[1].meter, both.charges[1].owed), ("minutes", micros("0.3")));
        }
        // A charge of several uses is done as a whole or not at all, so a part that exists makes it another operation.
        let messages = product.charge_request("jane", "e1 messages", "messages", "1");
        let charge = product.request("jane", Command::Charge(vec![tokens, messages]));
        for service in &services {
            assert_eq!(outcome(&service.execute(charge.clone()).await), "operation_key_reused");
        }
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_use_that_a_request_names_twice_is_made_once() {
    on_both(async |database| {
        let product = Product::new("acme");
        for service in two_services(&database).await {
            let event = product.charge_request("jane", "e1", "tokens", "1000000");
            let other = product.charge_request("jane", "e1", "tokens", "5");
            all_done(&service, [product.create("jane")]).await;
            let record = |charges| product.request("jane", Command::Record(charges));

            let twice = service.execute(record(vec![event.clone(), event.clone()])).await.unwrap();
            assert_eq!(twice.charges.len(), 2);
            assert_eq!(twice.charges[0], twice.charges[1]);
            assert_eq!(outcome(&service.execute(record(vec![event, other])).await), "operation_key_reused");
        }
        assert_eq!(books::assert_balanced(&*database.store).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_made_something_else_is_refused() {
    on_both(async |database| {
        let product = Product::new("acme");
        for (number, service) in two_services(&database).await.iter().enumerate() {
            let who = format!("customer-{number}");
            all_done(service, [product.create(&who), product.grant(&who, "g1", "10"), product.call(&who, "k1")]).await;
            all_done(service, [product.hold(&who, "h1", "4")]).await;
            let hold = product.hold_id(&who, "h1");
            let charge = product.charge_request(&who, "k1", "calls", "1");
            for command in [
                Command::CaptureHold { hold, charge: charge.clone() },
                Command::SettleHold { hold, charge: charge.clone() },
            ] {
                let refused = service.execute(product.request(&who, command)).await;
                assert_eq!(outcome(&refused), "operation_key_reused");
            }
            let row =
                database.store.hold(&product.scope(), (product.key(&who).shard_key, hold)).await.unwrap().unwrap();
            assert_eq!(row.record.state, HoldState::Open);
        }
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    on_both(async |database| {
        let product = Product::new("acme");
        for (number, service) in two_services(&database).await.iter().enumerate() {
            let who = format!("customer-{number}");
            assert_eq!(outcome(&service.execute(product.call(&who, "c1")).await), "unknown_customer");
            all_done(service, [product.create(&who)]).await;
            assert_eq!(outcome(&service.execute(product.call(&who, "c1")).await), "insufficient_funds");
            all_done(service, [product.grant(&who, "g1", "1"), product.call(&who, "c1")]).await;
        }
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}

#[tokio::test]
async fn after_an_erasure_a_new_customer_has_the_id_and_the_keys_stay_used() {
    on_both(async |database| {
        let product = Product::new("acme");
        let services = two_services(&database).await;
        let jane = Profile { name: Some("Jane".to_owned()), ..Profile::default() };
        all_done(&services[0], [product.profile("jane", jane), product.grant("jane", "g1", "1")]).await;
        all_done(&services[1], [product.call("jane", "c1")]).await;
        // Both know the charge and the grant.
        all_done(&services[0], [product.call("jane", "c1"), product.hold("jane", "h1", "1")]).await;
        all_done(&services[1], [product.grant("jane", "g1", "1"), product.hold("jane", "h1", "1")]).await;

        all_done(&services[0], [product.request("jane", Command::Erase)]).await;
        for service in &services {
            assert_eq!(outcome(&service.execute(product.call("jane", "c9")).await), "unknown_customer");
        }
        let again = all_done(&services[1], [product.create("jane")]).await.remove(0);
        assert!(again.created);

        for service in &services {
            for used in [product.call("jane", "c1"), product.grant("jane", "g1", "1"), product.hold("jane", "h1", "1")]
            {
                assert_eq!(outcome(&service.execute(used).await), "operation_key_reused");
            }
        }
        all_done(&services[0], [product.grant("jane", "g2", "1"), product.call("jane", "c2")]).await;
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_erasure_at_once_is_about_a_new_customer() {
    on_both(async |database| {
        let product = Product::new("acme");
        for (number, service) in two_services(&database).await.into_iter().enumerate() {
            let who = format!("customer-{number}");
            let old = Profile { name: Some("Old".to_owned()), ..Profile::default() };
            let new = Profile { name: Some("New".to_owned()), ..Profile::default() };
            all_done(&service, [product.profile(&who, old)]).await;

            // Sent together, so that one batch takes them all.
            let requests = [
                product.request(&who, Command::Erase),
                product.profile(&who, new.clone()),
                product.grant(&who, "g1", "1"),
                product.call(&who, "c1"),
            ];
            let outcomes = futures_util::future::join_all(requests.map(|request| service.execute(request))).await;

            let outcomes: Vec<_> = outcomes.iter().map(outcome).collect();
            assert_eq!(outcomes, ["done", "done", "done", "done"]);
            let row = product.row(&*database.store, &who).await;
            assert_eq!((row.profile, row.customer.status), (new, Status::Active));
        }
        assert_eq!(books::all_customers(&*database.store).await.len(), 4);
        assert_eq!(books::assert_balanced(&*database.store).await, 2);
    })
    .await;
}
