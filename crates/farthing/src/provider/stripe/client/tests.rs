use serde_json::json;

use super::super::Stripe;
use super::super::script::{Script, error, key};
use super::*;
use crate::auth::Secret;
use crate::provider::{Customers, NewCustomer};

fn customer() -> NewCustomer {
    NewCustomer { id: "c-1".to_owned(), name: Some("Ada".to_owned()), email: None }
}

#[tokio::test]
async fn a_retry_has_the_same_key_and_every_attempt_is_on_record() {
    let script = Script::default().then(503, &[("request-id", "req_1")], &error("api_error", None)).then(
        200,
        &[("request-id", "req_2")],
        &json!({"id": "cus_1", "object": "customer"}),
    );
    let made = Customers::create(&script.serve().await, &key(), &customer()).await;
    assert_eq!(made.outcome.as_deref(), Ok("cus_1"));
    let of: Vec<_> = made.exchanges.iter().map(|e| (&*e.request, e.status, e.request_id.as_deref())).collect();
    let request = "POST /v1/customers";
    assert_eq!(of, [(request, Some(503), Some("req_1")), (request, Some(200), Some("req_2"))]);
    let sent = Some("farthing_00000000000000000000000000000007".to_owned());
    assert_eq!(script.keys(), [sent.clone(), sent]);
    assert_eq!(script.body(1), "name=Ada&metadata[farthing_customer]=c-1");
}

#[tokio::test]
async fn stripe_decides_over_all_whether_to_try_again() {
    let no = [("stripe-should-retry", "false")];
    let script = Script::default().then(503, &no, &error("api_error", None));
    let made = Customers::create(&script.serve().await, &key(), &customer()).await;
    assert_eq!(made.outcome, Err(ProviderError::Unavailable("status 503".to_owned())));
    assert_eq!(script.lines().len(), 1);
    let yes = [("stripe-should-retry", "true")];
    let script = Script::default().then(400, &yes, &error("invalid_request_error", None)).then(
        200,
        &[],
        &json!({"id": "cus_1"}),
    );
    assert!(Customers::create(&script.serve().await, &key(), &customer()).await.outcome.is_ok());
}

#[tokio::test]
async fn there_is_an_end_to_trying() {
    for (status, body) in [
        (409, error("invalid_request_error", Some("idempotency_key_in_use"))),
        (429, error("invalid_request_error", Some("lock_timeout"))),
        (500, json!("not an error object")),
    ] {
        let script = (0..5).fold(Script::default(), |script, _| script.then(status, &[], &body));
        let made = Customers::create(&script.serve().await, &key(), &customer()).await;
        assert!(matches!(made.outcome, Err(ProviderError::Unavailable(_))), "{status}: {:?}", made.outcome);
        assert_eq!((script.lines().len(), made.exchanges.len()), (3, 3), "{status}");
    }
    // What is kept under the key is the same at the next attempt.
    let kept = [("idempotent-replayed", "true")];
    let script = Script::default().then(500, &kept, &error("api_error", None));
    assert!(Customers::create(&script.serve().await, &key(), &customer()).await.outcome.is_err());
    assert_eq!(script.lines().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    for (status, class, code, expected) in [
        (401, "invalid_request_error", None, ProviderError::Unauthorized),
        (404, "invalid_request_error", Some("resource_missing"), ProviderError::NotFound),
    ] {
        let script = Script::default().then(status, &[], &error(class, code));
        let made = Customers::create(&script.serve().await, &key(), &customer()).await;
        assert_eq!((made.outcome, script.lines().len()), (Err(expected), 1));
    }
}

#[tokio::test]
async fn nobody_there_is_no_certain_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings = StripeSettings::new(Secret::new("sk_test_hush"), false);
    let settings = StripeSettings { base_url, backoff: Duration::ZERO, ..settings };
    let made = Customers::create(&Stripe::new(settings).unwrap(), &key(), &customer()).await;
    let told = format!("{made:?}");
    assert!(matches!(made.outcome, Err(ProviderError::Unavailable(_))), "{told}");
    assert_eq!(made.exchanges.len(), 3);
    assert!(!told.contains("hush") && !told.contains("127.0.0.1"), "{told}");
}

#[tokio::test]
async fn a_success_that_cannot_be_read_says_where_and_not_what() {
    let script = Script::default().then(200, &[], &json!({"object": "customer", "email": "ada@example.com"}));
    let made = Customers::create(&script.serve().await, &key(), &customer()).await;
    let Err(ProviderError::Unreadable(reason)) = made.outcome else { panic!("{:?}", made.outcome) };
    assert!(reason.contains("line 1") && !reason.contains("ada"), "{reason}");
    assert_eq!(script.lines().len(), 1, "what was done is unknown, and another attempt would read no better");
}

#[tokio::test]
async fn a_record_holds_64_kib_of_an_answer() {
    let script = Script::default().then(200, &[], &json!({"id": "cus_1", "padding": "x".repeat(100_000)}));
    let made = Customers::create(&script.serve().await, &key(), &customer()).await;
    assert_eq!(made.outcome.as_deref(), Ok("cus_1"), "and all of it is read");
    assert_eq!(made.exchanges[0].reply.len(), RECORD_LIMIT);
}

#[tokio::test]
async fn pauses_double_up_to_five_seconds() {
    let settings = StripeSettings::new(Secret::new("sk_test_1"), false);
    let client = Client::new(&settings, &Url::parse(&settings.base_url).unwrap()).unwrap();
    for (attempts, most) in [(1, 500), (2, 1000), (4, 4000), (5, 5000), (60, 5000)] {
        for _ in 0..50 {
            let pause = client.pause(attempts).as_millis();
            assert!((most / 2..=most).contains(&pause), "{attempts}: {pause}");
        }
    }
}

#[tokio::test]
async fn every_attempt_is_measured() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let script = Script::default().then(503, &[], &error("api_error", None)).then(200, &[], &json!({"id": "cus_1"}));
    assert!(Customers::create(&script.serve().await, &key(), &customer()).await.outcome.is_ok());
    let text = recorder.handle().render();
    for outcome in ["unavailable", "ok"] {
        let labels = format!("{{provider=\"stripe\",operation=\"create_customer\",outcome=\"{outcome}\"}} 1");
        let line = format!("farthing_provider_request_duration_seconds_count{labels}");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}
