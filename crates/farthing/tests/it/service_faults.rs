//! What the service does when the database fails it: for one of many commands, or altogether.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farthing::service::{Commit, Service, Settings};
use farthing::store;
use futures_util::future::join_all;

use crate::books;
use crate::databases::on_both;
use crate::postgres::Cluster;
use crate::product::{Product, all_done, outcome};

#[tokio::test]
async fn what_the_database_refuses_of_one_does_not_fail_the_others() {
    on_both(async |database| {
        let product = Product::new("acme");
        let names: Vec<String> = (0..20).map(|number| format!("customer-{number}")).collect();
        let service = Service::start(&database.store, Settings::default());
        for name in &names {
            all_done(&service, [product.create(name), product.grant(name, "g1", "10")]).await;
        }
        database.execute("UPDATE customers SET state = 'damaged' WHERE external_id = 'customer-7'").await;
        let expected: Vec<_> =
            names.iter().map(|name| if name == "customer-7" { "unavailable" } else { "done" }).collect();

        for commit in [Commit::Optimistic, Commit::Locked] {
            let service = Service::start(&database.open().await, Settings { commit, ..Settings::default() });
            let key = format!("{commit:?}");
            let charges = join_all(names.iter().map(|name| service.execute(product.call(name, &key)))).await;
            assert_eq!(charges.iter().map(outcome).collect::<Vec<_>>(), expected, "{commit:?}");
            let checks = join_all(names.iter().map(|name| product.check_call(&service, name))).await;
            assert_eq!(checks.iter().map(outcome).collect::<Vec<_>>(), expected, "{commit:?}");
        }

        // PostgreSQL keeps no text with a zero character, SQLite does.
        let mut odd = product.charge_request("customer-0", "odd", "calls", "1");
        odd.subject = Some("a\0b".into());
        let odd = product.request("customer-0", engine::Command::Charge(vec![odd]));
        let both = [odd, product.call("customer-1", "even")];
        let outcomes = join_all(both.map(|request| service.execute(request))).await;
        assert_eq!(outcome(&outcomes[1]), "done");
        assert_eq!(outcome(&outcomes[0]), if database.store.name() == "SQLite" { "done" } else { "unavailable" });
    })
    .await;
}

/// Callers charge a customer each, one call after the other, until told to stop; each repeats a call that failed with
/// the same key until it is done. Returns how many calls of each were answered, and how many attempts failed.
async fn call_until(
    service: &Arc<Service>,
    product: &Product,
    names: &[String],
    stop: &Arc<AtomicBool>,
) -> Vec<(usize, usize)> {
    let callers: Vec<_> = names
        .iter()
        .cloned()
        .map(|name| {
            let (service, product, stop) = (service.clone(), product.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut done, mut failed) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match outcome(&service.execute(product.call(&name, &done.to_string())).await) {
                        "done" => done += 1,
                        "unavailable" => failed += 1,
                        other => panic!("{other}"),
                    }
                }
                (done, failed)
            })
        })
        .collect();
    let mut answered = Vec::new();
    for caller in callers {
        answered.push(caller.await.expect("a caller ends"));
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answered_charge_survives_a_crash_of_postgresql_and_the_service_goes_on() {
    let cluster = Arc::new(Cluster::start_private());
    let url = cluster.create_database().await;
    let product = Product::new("acme");
    let settings = Settings { lanes: 3, ..Settings::default() };
    let service = Arc::new(Service::start(&store::open(&url).await.unwrap(), settings));
    let names: Vec<String> = (0..24).map(|number| format!("customer-{number}")).collect();
    for name in &names {
        all_done(&service, [product.create(name), product.grant(name, "g1", "1000000")]).await;
    }

    let remembering = Service::start(&store::open(&url).await.unwrap(), Settings::default());
    let quiet = [product.create("quiet"), product.grant("quiet", "g1", "1"), product.call("quiet", "c1")];
    all_done(&remembering, quiet).await;

    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (service, product, names, stop) = (service.clone(), product.clone(), names.clone(), stop.clone());
        async move { call_until(&service, &product, &names, &stop).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    for _ in 0..2 {
        tokio::task::spawn_blocking({
            let cluster = cluster.clone();
            move || cluster.stop_immediate()
        })
        .await
        .unwrap();
        // What a service remembers it repeats without the database.
        assert!(remembering.execute(product.call("quiet", "c1")).await.unwrap().replayed);
        tokio::task::spawn_blocking({
            let cluster = cluster.clone();
            move || cluster.start()
        })
        .await
        .unwrap();
        // The same service answers again.
        let started = Instant::now();
        while outcome(&product.check_call(&service, &names[0]).await) != "done" {
            assert!(started.elapsed() < Duration::from_secs(20), "the service does not recover");
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let answered = load.await.unwrap();

    let fresh = store::open(&url).await.unwrap();
    let mut written = 0;
    for (name, (answered, _)) in names.iter().zip(&answered) {
        let owner = product.owner(&*fresh, name).await;
        let charges = books::all_charges(&*fresh, &product.scope(), owner).await;
        let mut keys: Vec<usize> =
            charges.iter().map(|row| row.charge.operation_key.as_deref().unwrap().parse().unwrap()).collect();
        keys.sort_unstable();
        // What was written and not answered is the last one at most: it was asked for again until it was answered.
        let expected: Vec<usize> = (0..charges.len()).collect();
        assert_eq!(keys, expected, "{name}: each once");
        assert!(
            (*answered..=answered + 1).contains(&keys.len()),
            "{name}: {answered} answered, {} written",
            keys.len()
        );
        written += keys.len();
    }
    assert!(written > names.len() && answered.iter().any(|(_, failed)| *failed > 0), "the load met the crash");
    assert_eq!(books::assert_balanced(&*fresh).await, written + 1);
}
