//! `farthing events` and `farthing reconcile`: what webhooks lost is found, named and repaired; and the demonstration, in
//! which a customer runs out of credit and buys some.

use engine::{Micros, PaymentState};
use serde_json::{Value, json};

use crate::cli_program::Program;
use crate::databases::on_both;
use crate::shop::{Shop, TENANT};

/// The program on the database of a shop, with its tenant file.
fn program(shop: &Shop) -> Program {
    let program = Program::on(shop.database.address());
    program.file("farthing.toml", TENANT);
    program
}

// The program waits for the sandbox, which is served here.
#[tokio::test(flavor = "multi_thread")]
async fn what_webhooks_lost_is_found_and_repaired() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        shop.work().await;
        let secret = shop.payment("jane", id).await.client_secret.expect("it can be paid");
        assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa").await.0, 200);

        let program = program(&shop);
        let listen = shop.sandbox.url.strip_prefix("http://").unwrap().to_owned();
        let reconcile = |more: &[&str]| {
            let arguments = [&["reconcile", "--sandbox-listen", &listen], more].concat();
            program.run(&arguments)
        };
        let found = reconcile(&[]);
        found.assert_code(1);
        assert!(found.out.contains("the books say requires_payment, the provider says paid"), "{}", found.out);
        assert!(found.out.ends_with("1 payment compared, 1 difference\n"), "{}", found.out);
        assert_eq!(shop.payment("jane", id).await.state, PaymentState::RequiresPayment, "it only looked");

        let repaired: Value = serde_json::from_str(&reconcile(&["--repair", "--json"]).assert_code(0).out).unwrap();
        assert_eq!((&repaired[0]["repaired"], &repaired[0]["customer"]), (&json!(true), &json!("jane")));
        assert_eq!(shop.payment("jane", id).await.state, PaymentState::Paid);
        assert_eq!(shop.balance("jane", "USD").await.available, Micros::new(20_000_000));
        assert_eq!(reconcile(&[]).assert_code(0).out, "1 payment compared, 0 differences\n");
        reconcile(&["--since", "soon"]).assert_code(2);
    })
    .await;
}

#[tokio::test]
async fn events_that_were_given_up_are_listed_and_replayed() {
    on_both(async |database| {
        let shop = Shop::start(database).await;
        shop.create("jane").await;
        let id = shop.buy("jane", "starter").await;
        shop.work().await;
        let payment = shop.payment("jane", id).await;
        let (reference, secret) =
            (payment.reference.expect("it is known"), payment.client_secret.expect("it can be paid"));
        assert_eq!(shop.sandbox.pay(&secret, "pm_card_visa_chargeDeclined").await.0, 402);
        let (status, _) = shop.sandbox.post(&format!("/v1/payment_intents/{reference}"), &[("amount", "100")]).await;
        assert_eq!(status, 200);
        let event = shop.sandbox.events().await.pop().unwrap();
        shop.deliver(&event).await.expect("it is believed");
        shop.work().await;

        let program = program(&shop);
        assert_eq!(program.run(&["events", "list", "--state", "due"]).assert_code(0).out, "no such events\n");
        let listed: Value =
            serde_json::from_str(&program.run(&["events", "list", "--json"]).assert_code(0).out).unwrap();
        assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&event["id"], &json!("dead")));
        assert!(listed[0]["error"].as_str().unwrap().starts_with("payment_mismatch: "), "{listed}");

        // What was wrong is mended at the provider.
        shop.sandbox.post(&format!("/v1/payment_intents/{reference}"), &[("amount", "2000")]).await;
        program.run(&["events", "replay", "evt_nothing"]).assert_code(1);
        assert_eq!(program.run(&["events", "replay", "--dead"]).assert_code(0).out, "1 event to be applied again\n");
        shop.clock.advance(400 * 24 * 3600);
        shop.work().await;
        assert_eq!(program.run(&["events", "list"]).assert_code(0).out, "no such events\n");
    })
    .await;
}

#[tokio::test]
async fn the_demonstration_shows_two_declines_and_a_card_that_pays() {
    let program = Program::on("sqlite:unused.db");
    let ended = program.run(&["--database", "sqlite:demo.db", "demo", "--once"]);
    let told = &ended.assert_code(0).out;
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    let said = |begins: &str, ends: &str| lines.iter().any(|line| line.starts_with(begins) && line.ends_with(ends));
    assert!(said("4000 0000 0000 0002", "requires_payment (generic_decline)"), "{told}");
    assert!(said("4000 0000 0000 9995", "requires_payment (insufficient_funds)"), "{told}");
    assert!(said("4242 4242 4242 4242", "paid"), "{told}");
    assert!(told.contains("0 differences"), "{told}");
}
