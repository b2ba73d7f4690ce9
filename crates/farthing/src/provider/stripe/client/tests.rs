//! The client, and through it whole operations, against a server that answers by a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as HttpResponse};
use engine::report::{PaymentReport, Progress};
use engine::{Asset, Money};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Stripe;
use super::*;
use crate::auth::Secret;
use crate::provider::{
    Collection, Customers, NewCustomer, NewPayment, NewRefund, PaymentMethods, Payments, Reconciliation, Refunds,
    SubscriptionChange, Subscriptions,
};

/// One answer of the server.
struct Planned {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    late: bool,
}

/// One request that came in.
struct Seen {
    line: String,
    key: Option<String>,
    version: Option<String>,
    body: String,
}

#[derive(Clone, Default)]
struct Script {
    planned: Arc<Mutex<VecDeque<Planned>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    fn then(self, status: u16, headers: &[(&'static str, &'static str)], body: &Value) -> Self {
        let planned = Planned { status, headers: headers.to_vec(), body: body.to_string(), late: false };
        self.planned.lock().unwrap().push_back(planned);
        self
    }

    /// An answer that comes after the client has gone.
    fn then_too_late(self, body: &Value) -> Self {
        let planned = Planned { status: 200, headers: Vec::new(), body: body.to_string(), late: true };
        self.planned.lock().unwrap().push_back(planned);
        self
    }

    async fn serve(&self) -> Stripe {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let settings = StripeSettings::new(Secret::new("sk_test_script"), false);
        let time_out = Duration::from_millis(500);
        Stripe::new(StripeSettings { base_url, time_out, backoff: Duration::from_millis(1), ..settings }).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }

    fn keys(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().iter().map(|seen| seen.key.clone()).collect()
    }

    fn body(&self, index: usize) -> String {
        let decode = |text: &str| form_urlencoded::parse(text.as_bytes()).map(|(k, v)| format!("{k}={v}")).collect();
        let pairs: Vec<String> = decode(&self.seen.lock().unwrap()[index].body);
        pairs.join("&")
    }
}

async fn answer(State(script): State<Script>, request: HttpRequest) -> HttpResponse {
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let line = format!("{} {}", request.method(), request.uri());
    let (key, version) = (header("idempotency-key"), header("stripe-version"));
    assert_eq!(header("authorization").as_deref(), Some("Bearer sk_test_script"));
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.seen.lock().unwrap().push(Seen { line, key, version, body });
    let planned = script.planned.lock().unwrap().pop_front();
    let Some(planned) = planned else {
        return (StatusCode::IM_A_TEAPOT, "the script is at its end").into_response();
    };
    if planned.late {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let mut response = (StatusCode::from_u16(planned.status).unwrap(), planned.body).into_response();
    for (name, value) in planned.headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn key() -> OperationKey {
    OperationKey::new(Uuid::from_u128(7))
}

fn customer() -> NewCustomer {
    NewCustomer { id: "c-1".to_owned(), name: Some("Ada".to_owned()), email: None }
}

fn error(class: &str, code: Option<&str>) -> Value {
    json!({"error": {"type": class, "code": code, "message": "Words."}})
}

fn intent(status: &str) -> Value {
    json!({
        "id": "pi_1", "object": "payment_intent", "amount": 1999, "currency": "usd", "status": status,
        "amount_received": if status == "succeeded" { 1999 } else { 0 },
        "client_secret": "pi_1_secret_2", "metadata": {"farthing_payment": "pay-1"},
    })
}

fn payment(collection: Collection) -> NewPayment {
    NewPayment {
        id: "pay-1".to_owned(),
        customer: "cus_1".into(),
        amount: Money { minor: 1999, currency: Asset::new("USD") },
        description: "Credits".to_owned(),
        collection,
    }
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
    assert!(script.seen.lock().unwrap().iter().all(|seen| seen.version.as_deref() == Some(API_VERSION)));
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
async fn after_a_time_out_the_key_finds_what_was_done_and_it_is_read_again() {
    let script = Script::default()
        .then_too_late(&intent("requires_payment_method"))
        .then(200, &[("idempotent-replayed", "true")], &intent("requires_payment_method"))
        .then(200, &[], &intent("succeeded"))
        .then(200, &[], &json!({"data": [], "has_more": false}));
    let stripe = script.serve().await;
    let made = Payments::create(&stripe, &key(), &payment(Collection::OnSession { save_method: true })).await;
    let report = made.outcome.unwrap();
    assert_eq!((report.progress, report.received, report.id.as_deref()), (Progress::Paid, 1999, Some("pay-1")));
    let first = &made.exchanges[0];
    assert_eq!((first.status, &*first.reply, first.replayed), (None, "no answer in time", false));
    assert!(made.exchanges[1].replayed);
    assert_eq!(
        script.lines(),
        [
            "POST /v1/payment_intents",
            "POST /v1/payment_intents",
            "GET /v1/payment_intents/pi_1?expand%5B%5D=latest_charge",
            "GET /v1/refunds?payment_intent=pi_1&limit=100",
        ]
    );
    assert_eq!(script.keys()[0], script.keys()[1]);
    assert_eq!(
        script.body(0),
        "customer=cus_1&amount=1999&currency=usd&description=Credits&metadata[farthing_payment]=pay-1\
         &automatic_payment_methods[enabled]=true&setup_future_usage=off_session"
    );
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
async fn all_pages_and_the_oldest_event_first() {
    let event = |id: &str| json!({"id": id, "object": "event", "type": "x"});
    let script = Script::default()
        .then(200, &[], &json!({"data": [event("evt_3"), event("evt_2")], "has_more": true}))
        .then(200, &[], &json!({"data": [event("evt_1")], "has_more": false}));
    let events = script.serve().await.events(jiff::Timestamp::from_second(5).unwrap()).await;
    let ids: Vec<_> = events.outcome.unwrap().into_iter().map(|body| String::from_utf8(body).unwrap()).collect();
    assert_eq!(ids, ["evt_1", "evt_2", "evt_3"].map(|id| event(id).to_string()));
    assert_eq!(
        script.lines(),
        [
            "GET /v1/events?created%5Bgte%5D=5&limit=100",
            "GET /v1/events?created%5Bgte%5D=5&limit=100&starting_after=evt_2",
        ]
    );
}

#[tokio::test]
async fn a_record_holds_64_kib_of_an_answer() {
    let script = Script::default().then(200, &[], &json!({"id": "cus_1", "padding": "x".repeat(100_000)}));
    let made = Customers::create(&script.serve().await, &key(), &customer()).await;
    assert_eq!(made.outcome.as_deref(), Ok("cus_1"), "and all of it is read");
    assert_eq!(made.exchanges[0].reply.len(), RECORD_LIMIT);
}

async fn off_session(status: u16, body: &Value) -> Result<PaymentReport, ProviderError> {
    let script = Script::default().then(status, &[], body);
    let method = Collection::OffSession { method: "pm_1".into() };
    let made = Payments::create(&script.serve().await, &key(), &payment(method)).await;
    assert!(script.body(0).ends_with("payment_method=pm_1&confirm=true&off_session=true"), "{}", script.body(0));
    made.outcome
}

#[tokio::test]
async fn a_decline_is_a_report_of_the_payment_that_is_kept() {
    let failure = json!({
        "type": "card_error", "code": "authentication_required", "decline_code": "authentication_required",
        "message": "Your card was declined. This transaction requires authentication.",
    });
    let mut kept = intent("requires_payment_method");
    kept["last_payment_error"] = failure.clone();
    let mut declined = failure;
    declined["payment_intent"] = kept;
    let report = off_session(402, &json!({"error": declined})).await.unwrap();
    assert_eq!((&*report.reference, report.progress), ("pi_1", Progress::RequiresPayment));
    assert_eq!(report.client_secret.as_deref(), Some("pi_1_secret_2"), "the customer can finish it");
    let failure = report.failure.unwrap();
    assert_eq!(
        (&*failure.code, failure.decline_code.as_deref()),
        ("authentication_required", Some("authentication_required"))
    );
    let nothing_kept = off_session(402, &error("card_error", Some("card_declined"))).await;
    assert!(matches!(nothing_kept, Err(ProviderError::Rejected(failure)) if &*failure.code == "card_declined"));
}

#[tokio::test]
async fn a_method_is_attached_where_it_is_attached_already() {
    let refused = error("invalid_request_error", Some("resource_already_exists"));
    let method = |customer: Option<&str>| json!({"id": "pm_1", "type": "card", "customer": customer});
    for (customer, expected) in [
        (Some("cus_1"), None),
        (Some("cus_2"), Some("payment_method_of_another_customer")),
        (None, Some("resource_already_exists")),
    ] {
        let script = Script::default().then(400, &[], &refused).then(200, &[], &method(customer));
        let outcome = script.serve().await.attach(&key(), "cus_1", "pm_1").await.outcome;
        match expected {
            None => assert_eq!(outcome, Ok(())),
            Some(code) => {
                assert!(matches!(&outcome, Err(ProviderError::Rejected(f)) if &*f.code == code), "{outcome:?}")
            }
        }
    }
    let declined = Script::default().then(402, &[], &error("card_error", Some("card_declined")));
    let outcome = declined.serve().await.attach(&key(), "cus_1", "pm_1").await.outcome;
    assert!(matches!(&outcome, Err(ProviderError::Rejected(f)) if &*f.code == "card_declined"), "{outcome:?}");
    assert_eq!(declined.lines().len(), 1);
}

#[tokio::test]
async fn a_method_is_off_the_file_where_it_is_off_already() {
    let refused = error("invalid_request_error", None);
    let script = Script::default().then(400, &[], &refused).then(200, &[], &json!({"id": "pm_1", "type": "card"}));
    assert_eq!(script.serve().await.detach(&key(), "pm_1").await.outcome, Ok(()));
    let script = Script::default().then(404, &[], &error("invalid_request_error", Some("resource_missing")));
    assert_eq!(script.serve().await.detach(&key(), "pm_1").await.outcome, Err(ProviderError::NotFound));
}

#[tokio::test]
async fn a_page_is_a_payment_by_another_id() {
    let session = |status: &str, intent: Value| {
        json!({
            "id": "cs_test_1", "object": "checkout.session", "mode": "payment", "status": status,
            "payment_status": if status == "complete" { "paid" } else { "unpaid" }, "amount_total": 1999, "currency": "usd",
            "url": if status == "open" { json!("https://checkout.stripe.com/c/pay/1") } else { Value::Null },
            "payment_intent": intent, "metadata": {"farthing_payment": "pay-1"},
        })
    };
    let mut paid = intent("succeeded");
    paid["latest_charge"] = json!({"id": "ch_1", "amount_refunded": 500, "disputed": true});
    let refund = json!({"id": "re_1", "amount": 500, "currency": "usd", "status": "pending", "metadata": {"farthing_refund": "r-1"}});
    let disputes = json!({"data": [{"id": "du_1", "amount": 1499, "currency": "usd", "status": "under_review"}]});
    let script = Script::default()
        .then(200, &[], &session("open", Value::Null))
        .then(200, &[], &session("complete", paid))
        .then(200, &[], &json!({"data": [refund], "has_more": false}))
        .then(200, &[], &disputes)
        .then(400, &[], &error("invalid_request_error", None))
        .then(200, &[], &session("expired", Value::Null));
    let stripe = script.serve().await;
    let page = Collection::Page { success_url: "https://a.example/y".into(), cancel_url: "https://a.example/n".into() };
    let made = Payments::create(&stripe, &key(), &payment(page)).await.outcome.unwrap();
    assert_eq!((&*made.reference, made.progress), ("cs_test_1", Progress::RequiresPayment));
    assert_eq!((made.page.as_deref(), made.client_secret), (Some("https://checkout.stripe.com/c/pay/1"), None));
    let paid = Payments::get(&stripe, "cs_test_1").await.outcome.unwrap();
    assert_eq!((&*paid.reference, paid.progress, paid.received), ("cs_test_1", Progress::Paid, 1999));
    assert_eq!((paid.refunds[0].minor, paid.refunds[0].id.as_deref()), (500, Some("r-1")));
    assert_eq!(paid.dispute.map(|dispute| dispute.minor), Some(1499));
    let ended = Payments::cancel(&stripe, &key(), "cs_test_1").await.outcome.unwrap();
    assert_eq!(ended.progress, Progress::Canceled, "expired before it could be cancelled");
    assert_eq!(script.lines()[4], "POST /v1/checkout/sessions/cs_test_1/expire");
    assert!(script.body(0).contains("payment_intent_data[metadata][farthing_payment]=pay-1"), "{}", script.body(0));
}

#[tokio::test]
async fn a_refund_is_counted_in_the_currency_of_its_payment() {
    let krona = json!({"id": "pi_1", "amount": 50_000, "currency": "isk", "status": "succeeded"});
    let refund = json!({"id": "re_1", "amount": 500, "currency": "isk", "status": "failed", "failure_reason": "lost_or_stolen_card"});
    let script = Script::default().then(200, &[], &krona).then(200, &[], &refund);
    let order = NewRefund { id: "r-1".to_owned(), payment: "pi_1".into(), minor: 5 };
    let report = Refunds::create(&script.serve().await, &key(), &order).await.outcome.unwrap();
    assert_eq!(script.body(1), "payment_intent=pi_1&amount=500&metadata[farthing_refund]=r-1");
    assert_eq!((report.minor, report.failure.map(|failure| failure.code)), (5, Some("lost_or_stolen_card".into())));
}

#[tokio::test]
async fn what_has_ended_is_not_cancelled_again_and_what_goes_on_is_told() {
    let refused = error("invalid_request_error", Some("payment_intent_unexpected_state"));
    let no_refunds = json!({"data": []});
    let script =
        Script::default().then(400, &[], &refused).then(200, &[], &intent("succeeded")).then(200, &[], &no_refunds);
    assert_eq!(Payments::cancel(&script.serve().await, &key(), "pi_1").await.outcome.unwrap().progress, Progress::Paid);
    let script = Script::default().then(400, &[], &refused).then(200, &[], &intent("processing"));
    let outcome = Payments::cancel(&script.serve().await, &key(), "pi_1").await.outcome;
    assert!(matches!(outcome, Err(ProviderError::Rejected(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_payment_is_found_by_our_id_on_a_later_page() {
    let other = json!({"id": "pi_9", "amount": 1, "currency": "usd", "metadata": {"farthing_payment": "pay-9"}});
    let script = Script::default()
        .then(200, &[], &json!({"data": [], "has_more": false}))
        .then(200, &[], &json!({"data": [other], "has_more": true}))
        .then(200, &[], &json!({"data": [intent("processing")], "has_more": true}))
        .then(200, &[], &intent("processing"));
    let found = script.serve().await.find("cus_1", "pay-1").await.outcome.unwrap().unwrap();
    assert_eq!((&*found.reference, found.progress), ("pi_1", Progress::Processing));
    assert_eq!(script.lines().len(), 4, "no page after the one with it");
    let nothing = json!({"data": []});
    let script = Script::default().then(200, &[], &nothing).then(200, &[], &nothing);
    assert_eq!(script.serve().await.find("cus_1", "pay-1").await.outcome, Ok(None));
}

#[tokio::test]
async fn a_change_replaces_items_once() {
    let subscription =
        |items: Value| json!({"id": "sub_1", "customer": "cus_1", "status": "active", "items": {"data": items}});
    let item = |id: &str, price: &str, quantity: u32| json!({"id": id, "price": {"id": price}, "quantity": quantity});
    let before = subscription(json!([item("si_1", "price_a", 1), item("si_2", "price_b", 2)]));
    let after = subscription(json!([item("si_2", "price_b", 5), item("si_3", "price_c", 1)]));
    let script = Script::default().then(200, &[], &before).then(200, &[], &after).then(200, &[], &after);
    let stripe = script.serve().await;
    let prices = vec![("price_b".to_owned(), 5), ("price_c".to_owned(), 1)];
    let change = SubscriptionChange { prices, proration: crate::provider::Proration::Now };
    let changed = stripe.change(&key(), "sub_1", &change).await.outcome.unwrap();
    assert_eq!(changed.prices, [("price_b".into(), 5), ("price_c".into(), 1)]);
    assert_eq!(
        script.body(1),
        "expand[]=latest_invoice.confirmation_secret&proration_behavior=always_invoice&items[0][id]=si_2\
         &items[0][quantity]=5&items[1][price]=price_c&items[1][quantity]=1&items[2][id]=si_1&items[2][deleted]=true"
    );
    assert_eq!(stripe.change(&key(), "sub_1", &change).await.outcome, Ok(changed));
    assert_eq!(script.lines().len(), 3, "the second time nothing was sent");
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
