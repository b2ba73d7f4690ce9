//! The Stripe adapter against the sandbox, over HTTP: every capability as farthing uses it, with what a customer's browser
//! does in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::report::{DisputeState, PaymentReport, Progress, RefundProgress};
use engine::{Asset, Money};
use farthing::auth::Secret;
use farthing::provider::stripe::{API_VERSION, Stripe, StripeSettings};
use farthing::provider::{
    Cancellation, Collection, Customers, Exchanges, HostedPages, Invoices, NewCustomer, NewInvoice, NewPayment,
    NewRefund, NewSubscription, Notice, OperationKey, PaymentMethods, Payments, Proration, ProviderError,
    Reconciliation, Refunds, SubscriptionChange, SubscriptionReport, Subscriptions, WebhookError, Webhooks,
};
use jiff::Timestamp;
use sandbox::{Sandbox, Settings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

/// A sandbox, the adapter to it, and a browser.
struct Shop {
    base_url: String,
    stripe: Stripe,
    http: reqwest::Client,
}

impl Shop {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}", listener.local_addr().expect("its address"));
        let sandbox = Sandbox::open(Settings::default()).expect("a sandbox");
        tokio::spawn(async move { sandbox.serve(listener, std::future::pending()).await });
        let stripe = connect(&base_url, &[]);
        Self {
            base_url,
            stripe,
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .expect("a client"),
        }
    }

    /// A call that the adapter has no part in; `pk_` for what a browser does.
    async fn call(&self, key: &str, path: &str, form: &[(&str, &str)]) -> Value {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(format!("{}{path}", self.base_url)).bearer_auth(key);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// What the customer's browser does with a client secret: it confirms with a card.
    async fn confirm(&self, secret: &str, card: &str) -> Value {
        let (id, _) = secret.split_once("_secret_").expect("a client secret begins with an id");
        let kind = if id.starts_with("seti_") { "setup_intents" } else { "payment_intents" };
        let form = [("client_secret", secret), ("payment_method", card), ("return_url", "https://shop.example/back")];
        self.call("pk_test_shop", &format!("/v1/{kind}/{id}/confirm"), &form).await
    }

    async fn fault(&self, fault: Value) {
        let request = self.http.post(format!("{}/_sandbox/faults", self.base_url)).bearer_auth("sk_test_shop");
        let added = request.json(&fault).send().await.expect("an answer");
        assert!(added.status().is_success(), "{}", added.text().await.expect("text"));
    }

    async fn customer(&self) -> Arc<str> {
        let new = NewCustomer {
            id: "customer-1".to_owned(),
            name: Some("Ada Lovelace".to_owned()),
            email: Some("ada@example.com".to_owned()),
        };
        done(Customers::create(&self.stripe, &operation(), &new).await)
    }

    /// A card on file, by its test id.
    async fn card(&self, customer: &str, card: &str) -> Arc<str> {
        done(self.stripe.attach(&operation(), customer, card).await);
        let on_file = done(PaymentMethods::list(&self.stripe, customer, Timestamp::UNIX_EPOCH).await);
        on_file.methods.first().expect("a card on file").reference.clone()
    }

    async fn pay(&self, customer: &Arc<str>, id: &str, collection: Collection) -> PaymentReport {
        done(Payments::create(&self.stripe, &operation(), &order(customer, id, collection)).await)
    }

    async fn pay_with(&self, customer: &Arc<str>, id: &str, card: &str) -> PaymentReport {
        let method = self.card(customer, card).await;
        self.pay(customer, id, Collection::OffSession { method }).await
    }

    /// What the customer's browser sends off on a page.
    async fn submit(&self, payment: &PaymentReport, form: &str) {
        let page = self.http.post(payment.page.as_deref().expect("a page"));
        let page = page.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        page.send().await.expect("an answer");
    }

    /// A price of so many cents a month.
    async fn price(&self, cents: &str) -> String {
        let form = [
            ("currency", "usd"),
            ("unit_amount", cents),
            ("recurring[interval]", "month"),
            ("product_data[name]", "Minutes"),
        ];
        let price = self.call("sk_test_shop", "/v1/prices", &form).await;
        price["id"].as_str().unwrap_or_else(|| panic!("{price}")).to_owned()
    }

    async fn get(&self, reference: &str) -> PaymentReport {
        done(Payments::get(&self.stripe, reference).await)
    }
}

fn connect(base_url: &str, webhook_secrets: &[&str]) -> Stripe {
    let settings = StripeSettings::new(Secret::new("sk_test_shop"), false);
    let settings = StripeSettings {
        base_url: base_url.to_owned(),
        webhook_secrets: webhook_secrets.iter().map(|secret| Secret::new(*secret)).collect(),
        backoff: Duration::from_millis(5),
        ..settings
    };
    Stripe::new(settings).expect("settings that fit")
}

fn operation() -> OperationKey {
    OperationKey::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{:?}", std::time::Instant::now()).as_bytes()))
}

fn order(customer: &Arc<str>, id: &str, collection: Collection) -> NewPayment {
    NewPayment {
        id: id.to_owned(),
        customer: customer.clone(),
        amount: Money { minor: 1999, currency: Asset::new("USD") },
        metadata: std::collections::BTreeMap::new(),
        description: "1,000 credits".to_owned(),
        collection,
    }
}

fn page() -> Collection {
    let url = |end: &str| format!("https://shop.example/{end}");
    Collection::Page { success_url: url("thanks"), cancel_url: url("cart") }
}

fn done<T: std::fmt::Debug>(exchanged: Exchanges<T>) -> T {
    assert!(!exchanged.exchanges.is_empty(), "every call is on record");
    exchanged.outcome.unwrap_or_else(|error| panic!("{error:?}: {:#?}", exchanged.exchanges))
}

fn code<T: std::fmt::Debug>(exchanged: Exchanges<T>) -> Arc<str> {
    match exchanged.outcome {
        Err(ProviderError::Rejected(failure)) => failure.code,
        other => panic!("{other:?}: {:#?}", exchanged.exchanges),
    }
}

#[tokio::test]
async fn a_card_is_put_on_file_made_the_default_and_taken_off() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let setup = done(shop.stripe.begin_setup(&operation(), &customer).await);
    assert!(setup.reference.starts_with("seti_"));
    assert_eq!(shop.confirm(&setup.client_secret, "pm_card_visa").await["status"], "succeeded");
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let on_file = done(PaymentMethods::list(&shop.stripe, &customer, now).await);
    assert_eq!((on_file.seen_at, on_file.default, on_file.methods.len()), (now, None, 1));
    let card = &on_file.methods[0];
    assert_eq!((&*card.brand, card.last4.as_deref()), ("visa", Some("4242")));
    assert!(card.expires.is_some());

    done(shop.stripe.set_default(&operation(), &customer, Some(&card.reference)).await);
    let on_file = done(PaymentMethods::list(&shop.stripe, &customer, now).await);
    assert_eq!(on_file.default.as_ref(), Some(&card.reference));
    done(shop.stripe.set_default(&operation(), &customer, None).await);
    assert_eq!(done(PaymentMethods::list(&shop.stripe, &customer, now).await).default, None);

    // Again is fine, with a key of its own; somebody else's card is not.
    assert_eq!(done(shop.stripe.attach(&operation(), &customer, &card.reference).await), card.reference);
    let other = shop.customer().await;
    let stolen = shop.stripe.attach(&operation(), &other, &card.reference).await;
    assert_eq!(&*code(stolen), "payment_method_of_another_customer");

    done(shop.stripe.detach(&operation(), &card.reference).await);
    done(shop.stripe.detach(&operation(), &card.reference).await);
    assert_eq!(done(PaymentMethods::list(&shop.stripe, &customer, now).await).methods, []);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let not_found = Err(ProviderError::NotFound);
    let attached = shop.stripe.attach(&operation(), &customer, "pm_none").await.outcome;
    assert_eq!(attached, Err(ProviderError::NotFound));
    assert_eq!(shop.stripe.detach(&operation(), "pm_none").await.outcome, not_found);
    assert_eq!(shop.stripe.set_default(&operation(), &customer, Some("pm_none")).await.outcome, not_found);
    assert_eq!(Payments::get(&shop.stripe, "pi_none").await.outcome.err(), Some(ProviderError::NotFound));
    let payments = Payments::get(&shop.stripe, "../customers").await;
    assert_eq!((payments.outcome.err(), payments.exchanges.len()), (Some(ProviderError::NotFound), 0));
    let declined = shop.stripe.attach(&operation(), &customer, "pm_card_chargeDeclined").await;
    assert_eq!(&*code(declined), "card_declined");
}

#[tokio::test]
async fn a_browser_pays_and_a_part_goes_back() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let made = shop.pay(&customer, "payment-1", Collection::OnSession { save_method: true }).await;
    assert_eq!((made.progress, made.received, made.id.as_deref()), (Progress::RequiresPayment, 0, Some("payment-1")));
    assert_eq!(made.amount, Money { minor: 1999, currency: Asset::new("USD") });
    let secret = made.client_secret.expect("a secret for the browser");

    shop.confirm(&secret, "pm_card_visa_chargeDeclinedInsufficientFunds").await;
    let declined = shop.get(&made.reference).await;
    let failure = declined.failure.expect("why");
    assert_eq!((&*failure.code, failure.decline_code.as_deref()), ("card_declined", Some("insufficient_funds")));
    assert_eq!(declined.progress, Progress::RequiresPayment);

    shop.confirm(&secret, "pm_card_visa").await;
    let paid = shop.get(&made.reference).await;
    assert_eq!((paid.progress, paid.received, paid.failure), (Progress::Paid, 1999, None));
    let on_file = done(PaymentMethods::list(&shop.stripe, &customer, Timestamp::UNIX_EPOCH).await);
    assert_eq!(on_file.methods.len(), 1, "saved for later");

    let refund = NewRefund { id: "refund-1".to_owned(), payment: made.reference.clone(), minor: 500 };
    let back = done(Refunds::create(&shop.stripe, &operation(), &refund).await);
    assert_eq!((back.minor, back.progress, back.id.as_deref()), (500, RefundProgress::Succeeded, Some("refund-1")));
    assert_eq!(shop.get(&made.reference).await.refunds, [back]);
    let more = NewRefund { id: "refund-2".to_owned(), minor: 1500, ..refund };
    let refused = Refunds::create(&shop.stripe, &operation(), &more).await;
    assert!(matches!(refused.outcome, Err(ProviderError::Rejected(_))), "more than was paid: {refused:?}");
}

#[tokio::test]
async fn a_card_on_file_pays_by_itself_or_says_why_not() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let paid = shop.pay_with(&customer, "payment-1", "pm_card_visa").await;
    assert_eq!((paid.progress, paid.received), (Progress::Paid, 1999));

    let declined = shop.pay_with(&customer, "payment-2", "pm_card_chargeCustomerFail").await;
    assert_eq!(declined.progress, Progress::RequiresPayment);
    assert_eq!(declined.failure.map(|failure| failure.code), Some("card_declined".into()));
    assert_eq!(declined.id.as_deref(), Some("payment-2"));

    let asked = shop.pay_with(&customer, "payment-3", "pm_card_authenticationRequired").await;
    assert_eq!(asked.progress, Progress::RequiresPayment);
    assert_eq!(asked.failure.map(|failure| failure.code), Some("authentication_required".into()));
    let secret = asked.client_secret.expect("the customer can finish it");
    let confirmed = shop.confirm(&secret, "pm_card_visa").await;
    assert_eq!(confirmed["status"], "succeeded", "{confirmed}");
    assert_eq!(shop.get(&asked.reference).await.progress, Progress::Paid);
}

#[tokio::test]
async fn a_bank_that_asks_is_waited_for() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let made = shop.pay(&customer, "payment-1", Collection::OnSession { save_method: false }).await;
    let confirmed = shop.confirm(made.client_secret.as_deref().unwrap(), "pm_card_threeDSecure2Required").await;
    assert_eq!(confirmed["status"], "requires_action", "{confirmed}");
    assert_eq!(shop.get(&made.reference).await.progress, Progress::RequiresAction);
}

#[tokio::test]
async fn a_payment_that_is_not_paid_can_be_cancelled_and_found() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let made = shop.pay(&customer, "payment-1", Collection::OnSession { save_method: false }).await;
    for _ in 0..2 {
        let cancelled = done(shop.cancel(&made.reference).await);
        assert_eq!((cancelled.progress, &cancelled.reference), (Progress::Canceled, &made.reference));
    }
    let paid = shop.pay_with(&customer, "payment-2", "pm_card_visa").await;
    assert_eq!(done(shop.cancel(&paid.reference).await).progress, Progress::Paid);

    let found = done(Payments::find(&shop.stripe, &customer, "payment-2").await).expect("it is there");
    assert_eq!((found.reference, found.progress), (paid.reference, Progress::Paid));
    assert_eq!(done(Payments::find(&shop.stripe, &customer, "payment-3").await), None);
}

impl Shop {
    async fn end(&self, subscription: &str, when: Cancellation) -> Exchanges<SubscriptionReport> {
        Subscriptions::cancel(&self.stripe, &operation(), subscription, when).await
    }

    async fn cancel(&self, reference: &str) -> Exchanges<PaymentReport> {
        Payments::cancel(&self.stripe, &operation(), reference).await
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_and_nothing_is_paid_twice() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let method = shop.card(&customer, "pm_card_visa").await;
    for (number, fault) in ["timeout_after", "error_before", "rate_limit", "lock_timeout"].into_iter().enumerate() {
        shop.fault(json!({"kind": fault, "method": "POST", "path": "/v1/payment_intents"})).await;
        let order = order(&customer, &format!("payment-{number}"), Collection::OffSession { method: method.clone() });
        let made = Payments::create(&shop.stripe, &operation(), &order).await;
        let replayed = made.exchanges.iter().any(|exchange| exchange.replayed);
        assert_eq!(replayed, fault == "timeout_after", "{:#?}", made.exchanges);
        assert!(made.exchanges.len() >= 2, "{:#?}", made.exchanges);
        assert_eq!(done(made).progress, Progress::Paid);
        let payments = done(Reconciliation::payments(&shop.stripe, Timestamp::UNIX_EPOCH).await);
        assert_eq!(payments.len(), number + 1, "after {fault}");
    }
    // The key keeps a 500; what it did is found by our id.
    shop.fault(json!({"kind": "error_after", "method": "POST", "path": "/v1/payment_intents"})).await;
    let key = operation();
    let order = order(&customer, "payment-unknown", Collection::OffSession { method });
    for _ in 0..2 {
        let made = done(Payments::create(&shop.stripe, &key, &order).await);
        assert_eq!((made.progress, made.id.as_deref()), (Progress::Paid, Some("payment-unknown")));
    }
    let other = NewPayment { description: "Another".to_owned(), ..order };
    assert_eq!(&*code(Payments::create(&shop.stripe, &key, &other).await), "idempotency_error");
}

#[tokio::test]
async fn a_dispute_is_reported_with_its_payment() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let paid = shop.pay_with(&customer, "payment-1", "pm_card_createDispute").await;
    let dispute = shop.get(&paid.reference).await.dispute.expect("a dispute");
    assert_eq!((dispute.minor, dispute.state), (1999, DisputeState::Open));
    let path = format!("/v1/disputes/{}", dispute.reference);
    let form = [("evidence[uncategorized_text]", "losing_evidence"), ("submit", "true")];
    shop.call("sk_test_shop", &path, &form).await;
    assert_eq!(shop.get(&paid.reference).await.dispute.map(|dispute| dispute.state), Some(DisputeState::Lost));
    let payments = done(Reconciliation::payments(&shop.stripe, Timestamp::UNIX_EPOCH).await);
    assert_eq!(payments[0].dispute.as_ref().map(|dispute| dispute.state), Some(DisputeState::Lost));
}

#[tokio::test]
async fn a_page_is_made_found_and_closed() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let made = shop.pay(&customer, "payment-1", page()).await;
    assert!(made.reference.starts_with("cs_"), "{made:?}");
    assert_eq!((made.progress, made.client_secret.as_ref()), (Progress::RequiresPayment, None));
    assert!(made.page.as_deref().is_some_and(|page| page.starts_with("http")), "{made:?}");
    assert_eq!(shop.get(&made.reference).await, made);
    let found = done(Payments::find(&shop.stripe, &customer, "payment-1").await).map(|found| found.reference);
    assert_eq!(found.as_ref(), Some(&made.reference));
    for _ in 0..2 {
        let closed = done(shop.cancel(&made.reference).await);
        assert_eq!((closed.progress, closed.page), (Progress::Canceled, None));
    }
}

#[tokio::test]
async fn a_page_takes_a_payment_and_gives_it_back() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let made = shop.pay(&customer, "payment-1", page()).await;
    let declined = "email=ada%40example.com&name=Ada&postal=10115&expiry=12%2F40&cvc=123&number=4000000000009995";
    shop.submit(&made, declined).await;
    let tried = shop.get(&made.reference).await;
    assert_eq!((tried.progress, tried.received), (Progress::RequiresPayment, 0));
    shop.submit(&made, &declined.replace("4000000000009995", "4242424242424242")).await;
    let paid = shop.get(&made.reference).await;
    assert_eq!((&paid.reference, paid.progress, paid.received), (&made.reference, Progress::Paid, 1999));
    assert_eq!((paid.page, paid.failure, paid.id.as_deref()), (None, None, Some("payment-1")));
    let refund = NewRefund { id: "refund-1".to_owned(), payment: made.reference.clone(), minor: 1999 };
    let back = done(Refunds::create(&shop.stripe, &operation(), &refund).await);
    assert_eq!(shop.get(&made.reference).await.refunds, [back]);
    assert_eq!(done(shop.cancel(&made.reference).await).progress, Progress::Paid);
    // In the provider's list it is the payment that the page made, and it carries our id too.
    let listed = done(Reconciliation::payments(&shop.stripe, Timestamp::UNIX_EPOCH).await);
    assert_eq!((listed.len(), listed[0].id.as_deref(), listed[0].refunds.len()), (1, Some("payment-1"), 1));
}

#[tokio::test]
async fn the_portal_is_a_page() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let address = done(shop.stripe.portal(&operation(), &customer, "https://shop.example/account").await);
    let page = shop.http.get(&*address).send().await.unwrap();
    assert!(page.status().is_success(), "{address}: {}", page.status());
}

/// The bodies of webhooks, with their signatures, as they come in at the address.
async fn receive() -> (SocketAddr, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let (send, receive) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let router = axum::Router::new().fallback(move |headers: axum::http::HeaderMap, body: axum::body::Bytes| {
        let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let _ = send.send((signature.to_owned(), body.to_vec()));
        std::future::ready(())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, receive)
}

#[tokio::test]
async fn a_webhook_is_verified_and_is_the_event_that_is_listed() {
    let shop = Shop::open().await;
    let (address, mut inbox) = receive().await;
    let endpoint = [
        ("url", &*format!("http://{address}/hook")),
        ("enabled_events[]", "payment_intent.succeeded"),
        ("api_version", API_VERSION),
    ];
    let endpoint = shop.call("sk_test_shop", "/v1/webhook_endpoints", &endpoint).await;
    let secret = endpoint["secret"].as_str().expect("told once");
    let customer = shop.customer().await;
    let paid = shop.pay_with(&customer, "payment-1", "pm_card_visa").await;

    let delivered = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.expect("in time");
    let (signature, body) = delivered.expect("a delivery");
    let headers: [(&str, &[u8]); 1] = [("Stripe-Signature", signature.as_bytes())];
    let time = signature.trim_start_matches("t=").split(',').next().and_then(|time| time.parse().ok());
    let now = Timestamp::from_second(time.expect("a time")).unwrap();
    let event = connect(&shop.base_url, &["whsec_old", secret]).verify(&headers, &body, now).expect("it is Stripe's");
    assert_eq!(&*event.kind, "payment_intent.succeeded");
    let Notice::Payment { references, id } = &event.notice else { panic!("{event:?}") };
    assert_eq!((references.as_slice(), id.as_deref()), (std::slice::from_ref(&paid.reference), Some("payment-1")));
    let wrong = connect(&shop.base_url, &["whsec_old"]).verify(&headers, &body, now);
    assert_eq!(wrong, Err(WebhookError::SignatureInvalid));

    let listed = done(shop.stripe.events(Timestamp::UNIX_EPOCH).await);
    let listed: Vec<_> = listed.iter().map(|body| shop.stripe.read(body).expect("an event")).collect();
    assert!(listed.is_sorted_by_key(|event| event.created_at), "oldest first");
    assert!(listed.contains(&event), "{listed:#?}");
}

#[tokio::test]
async fn a_subscription_is_paid_changed_and_ended() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let (small, large) = (shop.price("1000").await, shop.price("5000").await);
    let new = NewSubscription {
        id: "subscription-1".to_owned(),
        customer: customer.clone(),
        prices: vec![(small.clone(), 2)],
        trial_days: None,
        method: None,
    };
    let made = done(Subscriptions::create(&shop.stripe, &operation(), &new).await);
    assert_eq!((&*made.state, made.id.as_deref()), ("incomplete", Some("subscription-1")));
    assert_eq!((&made.customer, made.prices), (&customer, vec![(small.into(), 2)]));
    shop.confirm(made.client_secret.as_deref().expect("a secret for the browser"), "pm_card_visa").await;
    let active = done(Subscriptions::get(&shop.stripe, &made.reference).await);
    assert_eq!(&*active.state, "active");
    assert!(active.period.is_some_and(|(begin, end)| begin < end), "{active:?}");
    let first = done(Invoices::get(&shop.stripe, active.latest_invoice.as_deref().unwrap()).await);
    assert_eq!((&*first.state, first.total.minor, first.paid), ("paid", 2000, 2000));
    assert_eq!(first.subscription.as_ref(), Some(&made.reference));

    let change = SubscriptionChange { prices: vec![(large.clone(), 1)], proration: Proration::Now };
    for _ in 0..2 {
        let changed = done(shop.stripe.change(&operation(), &made.reference, &change).await);
        assert_eq!((&*changed.state, changed.prices), ("active", vec![(large.as_str().into(), 1)]));
    }
    let invoices = done(Invoices::list(&shop.stripe, &customer, 100).await);
    assert_eq!(invoices.iter().map(|invoice| invoice.total.minor).collect::<Vec<_>>(), [3000, 2000], "billed once");

    assert!(done(shop.end(&made.reference, Cancellation::AtPeriodEnd).await).cancel_at_period_end);
    let goes_on = done(shop.end(&made.reference, Cancellation::Undo).await);
    assert_eq!((&*goes_on.state, goes_on.cancel_at_period_end), ("active", false));
    for _ in 0..2 {
        assert_eq!(&*done(shop.end(&made.reference, Cancellation::Now).await).state, "canceled");
    }
}

#[tokio::test]
async fn an_invoice_is_made_and_paid_left_open_or_voided() {
    let shop = Shop::open().await;
    let customer = shop.customer().await;
    let invoice = |id: &str, collect: bool| NewInvoice {
        id: id.to_owned(),
        customer: customer.clone(),
        currency: Asset::new("USD"),
        lines: vec![("Minutes".to_owned(), 1500), ("Credit note".to_owned(), -250)],
        collect,
    };
    let key = operation();
    let open = done(Invoices::create(&shop.stripe, &key, &invoice("invoice-1", false)).await);
    assert_eq!((&*open.state, open.total.minor, open.paid), ("open", 1250, 0));
    assert_eq!((open.id.as_deref(), open.subscription.as_ref()), (Some("invoice-1"), None));
    assert!(open.number.is_some() && open.page.is_some(), "{open:?}");
    assert_eq!(done(Invoices::create(&shop.stripe, &key, &invoice("invoice-1", false)).await), open, "made once");

    let unpaid = done(Invoices::create(&shop.stripe, &operation(), &invoice("invoice-2", true)).await);
    assert_eq!(&*unpaid.state, "open", "there is no payment method");
    let card = shop.card(&customer, "pm_card_chargeCustomerFail").await;
    done(shop.stripe.set_default(&operation(), &customer, Some(&card)).await);
    let declined = done(Invoices::create(&shop.stripe, &operation(), &invoice("invoice-3", true)).await);
    assert_eq!((&*declined.state, declined.paid), ("open", 0));
    let card = shop.card(&customer, "pm_card_visa").await;
    done(shop.stripe.set_default(&operation(), &customer, Some(&card)).await);
    let paid = done(Invoices::create(&shop.stripe, &operation(), &invoice("invoice-4", true)).await);
    assert_eq!((&*paid.state, paid.paid), ("paid", 1250));

    for _ in 0..2 {
        assert_eq!(&*done(shop.stripe.void(&operation(), &open.reference).await).state, "void");
    }
    let refused = shop.stripe.void(&operation(), &paid.reference).await;
    assert!(matches!(refused.outcome, Err(ProviderError::Rejected(_))), "{refused:?}");
    let listed = done(Invoices::list(&shop.stripe, &customer, 3).await);
    let ids: Vec<_> = listed.iter().map(|invoice| invoice.id.as_deref()).collect();
    assert_eq!(ids, [Some("invoice-4"), Some("invoice-3"), Some("invoice-2")], "newest first");
}
