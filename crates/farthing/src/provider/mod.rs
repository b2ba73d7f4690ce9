//! Payment providers behind one interface, split by what a provider can do. One that lacks a capability answers `None`
//! for it, so that nobody can call what is not there.
//!
//! Nothing here knows a provider's words. Whoever calls has written down what it is about to do (an effect in the
//! outbox) and hands in the key of that operation, so that the same call after a crash finds what the first one did.

pub mod stripe;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use engine::report::{Failure, PaymentMethodsReport, PaymentReport, RefundReport};
use engine::{Asset, Interval, Money};
use jiff::Timestamp;

/// A configured provider.
pub trait Provider: Send + Sync + Debug {
    /// Which one, for people and logs.
    fn name(&self) -> &'static str;
    /// What the customer's browser needs to talk to it.
    fn publishable_key(&self) -> Option<&str>;
    /// Who pays.
    fn customers(&self) -> Option<&dyn Customers>;
    /// Payment methods on file.
    fn payment_methods(&self) -> Option<&dyn PaymentMethods>;
    /// Payments.
    fn payments(&self) -> Option<&dyn Payments>;
    /// Refunds.
    fn refunds(&self) -> Option<&dyn Refunds>;
    /// Subscriptions that the provider renews.
    fn subscriptions(&self) -> Option<&dyn Subscriptions>;
    /// Invoices that the provider keeps.
    fn invoices(&self) -> Option<&dyn Invoices>;
    /// Pages of the provider's own.
    fn hosted_pages(&self) -> Option<&dyn HostedPages>;
    /// What it tells by itself.
    fn webhooks(&self) -> Option<&dyn Webhooks>;
    /// What it has, to compare the books with.
    fn reconciliation(&self) -> Option<&dyn Reconciliation>;
    /// Its prices, where they are made from what the tenant sells.
    fn prices(&self) -> Option<&dyn Prices>;
    /// Its time, where that can be set.
    fn clock(&self) -> Option<&dyn ProviderClock>;
}

/// Customers at the provider.
#[async_trait]
pub trait Customers: Send + Sync {
    /// Makes a customer; the answer is the provider's id of it.
    async fn create(&self, operation: &OperationKey, customer: &NewCustomer) -> Exchanged<Arc<str>>;
}

/// Payment methods on file.
#[async_trait]
pub trait PaymentMethods: Send + Sync {
    /// Begins to put a payment method on file for later use without the customer; the browser finishes it.
    async fn begin_setup(&self, operation: &OperationKey, customer: &str) -> Exchanged<Setup>;
    /// Puts a payment method on file, and says what it is called there. One that is on file for this customer already is
    /// fine; one of another customer is `Rejected`.
    async fn attach(&self, operation: &OperationKey, customer: &str, method: &str) -> Exchanged<Arc<str>>;
    /// Takes a payment method off the file. One that is off already is fine.
    async fn detach(&self, operation: &OperationKey, method: &str) -> Exchanged<()>;
    /// Makes a payment method the one that is used when none is named; `None` when there is to be no such.
    async fn set_default(&self, operation: &OperationKey, customer: &str, method: Option<&str>) -> Exchanged<()>;
    /// The payment methods on file. `now` becomes `seen_at`.
    async fn list(&self, customer: &str, now: Timestamp) -> Exchanged<PaymentMethodsReport>;
}

/// Payments.
#[async_trait]
pub trait Payments: Send + Sync {
    /// Makes a payment, and with `Collection::OffSession` tries to collect it at once. A decline is a report with
    /// `RequiresPayment` and the failure, or `Rejected` where the provider keeps nothing of it.
    async fn create(&self, operation: &OperationKey, payment: &NewPayment) -> Exchanged<PaymentReport>;
    /// A payment as it is now, with its refunds and its dispute.
    async fn get(&self, reference: &str) -> Exchanged<PaymentReport>;
    /// Ends a payment that is not paid. One that has ended is fine: the report says how.
    async fn cancel(&self, operation: &OperationKey, reference: &str) -> Exchanged<PaymentReport>;
    /// The payment that an earlier call with this id of ours made, where the provider may have forgotten its key.
    async fn find(&self, customer: &str, id: &str) -> Exchanged<Option<PaymentReport>>;
}

/// Refunds.
#[async_trait]
pub trait Refunds: Send + Sync {
    /// Gives back a part of a payment.
    async fn create(&self, operation: &OperationKey, refund: &NewRefund) -> Exchanged<RefundReport>;
}

/// Subscriptions that the provider renews.
#[async_trait]
pub trait Subscriptions: Send + Sync {
    /// Subscribes a customer to prices.
    async fn create(&self, operation: &OperationKey, subscription: &NewSubscription) -> Exchanged<SubscriptionReport>;
    /// A subscription as it is now.
    async fn get(&self, reference: &str) -> Exchanged<SubscriptionReport>;
    /// The subscription that an earlier call with this id of ours made, where the provider may have forgotten its key.
    async fn find(&self, customer: &str, id: &str) -> Exchanged<Option<SubscriptionReport>>;
    /// Changes prices and quantities.
    async fn change(
        &self,
        operation: &OperationKey,
        reference: &str,
        change: &SubscriptionChange,
    ) -> Exchanged<SubscriptionReport>;
    /// Ends it, now or at the end of its period; `Undo` takes the latter back.
    async fn cancel(
        &self,
        operation: &OperationKey,
        reference: &str,
        when: Cancellation,
    ) -> Exchanged<SubscriptionReport>;
}

/// Invoices that the provider keeps.
#[async_trait]
pub trait Invoices: Send + Sync {
    /// Makes an invoice with these lines and finalizes it; with `collect` it is charged to the default payment method.
    async fn create(&self, operation: &OperationKey, invoice: &NewInvoice) -> Exchanged<InvoiceReport>;
    /// An invoice as it is now.
    async fn get(&self, reference: &str) -> Exchanged<InvoiceReport>;
    /// The customer's invoices, newest first, at most `limit` (up to 100).
    async fn list(&self, customer: &str, limit: u8) -> Exchanged<Vec<InvoiceReport>>;
    /// Voids an open invoice.
    async fn void(&self, operation: &OperationKey, reference: &str) -> Exchanged<InvoiceReport>;
}

/// Pages of the provider's own.
#[async_trait]
pub trait HostedPages: Send + Sync {
    /// Where a customer looks after its payment methods, subscriptions and invoices; the answer is the address.
    async fn portal(&self, operation: &OperationKey, customer: &str, return_url: &str) -> Exchanged<Arc<str>>;
}

/// What the provider tells by itself.
pub trait Webhooks: Send + Sync {
    /// Verifies what came in, over the raw body, and reads it. `now` is the wall clock.
    ///
    /// # Errors
    /// As `WebhookError` says; nothing of the body may be believed then.
    fn verify(&self, headers: &[(&str, &[u8])], body: &[u8], now: Timestamp) -> Result<ProviderEvent, WebhookError>;
    /// Reads an event that was verified, or fetched, before.
    ///
    /// # Errors
    /// `Malformed`.
    fn read(&self, body: &[u8]) -> Result<ProviderEvent, WebhookError>;
}

/// What the provider has.
#[async_trait]
pub trait Reconciliation: Send + Sync {
    /// Its events from this time on, oldest first, each as the raw body that a webhook would carry. All pages.
    async fn events(&self, since: Timestamp) -> Exchanged<Vec<Vec<u8>>>;
    /// Its payments made from this time on, newest first. All pages.
    async fn payments(&self, since: Timestamp) -> Exchanged<Vec<PaymentReport>>;
    /// Its subscriptions that are not canceled, newest first. All pages.
    async fn subscriptions(&self) -> Exchanged<Vec<SubscriptionReport>>;
}

/// The prices of a provider that is there for testing, and has nobody who would make them there by hand.
#[async_trait]
pub trait Prices: Send + Sync {
    /// Makes a price with this very id, or makes it what it is to be now.
    async fn offer(&self, price: &OfferedPrice) -> Exchanged<()>;
}

/// A price that the provider is to have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedPrice {
    /// The provider's id of it.
    pub id: Arc<str>,
    /// A second name that it can be found by.
    pub lookup_key: Option<Arc<str>>,
    /// What is sold, as the customer reads it.
    pub title: Arc<str>,
    /// What one costs for a period.
    pub fee: Money,
    /// How long a period is.
    pub interval: Interval,
}

/// The time of a provider that is there for testing.
#[async_trait]
pub trait ProviderClock: Send + Sync {
    /// Moves it to a later time. When this returns, everything that was due there by then has happened there.
    async fn set(&self, now: Timestamp) -> Exchanged<()>;
}

/// The key of an operation at the provider: the same for every attempt, whatever became of the one before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OperationKey(String);

impl OperationKey {
    /// The key of an effect.
    #[must_use]
    pub fn new(effect: uuid::Uuid) -> Self {
        Self(format!("farthing_{}", effect.simple()))
    }

    /// The key of one step of several that an operation takes.
    #[must_use]
    pub fn step(&self, name: &str) -> Self {
        Self(format!("{}_{name}", self.0))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A customer to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewCustomer {
    /// The product's own id of the customer, kept beside the provider's.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
}

/// A payment method that is being put on file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// What the customer's browser needs to finish it.
    pub client_secret: Arc<str>,
}

/// How a payment is collected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Collection {
    /// The customer's browser pays it, with the client secret.
    OnSession {
        /// Whether the payment method is put on file for later use.
        save_method: bool,
    },
    /// With a payment method on file, without the customer.
    OffSession {
        /// Which.
        method: Arc<str>,
    },
    /// On a page of the provider's.
    Page {
        /// Where the customer goes on after paying.
        success_url: String,
        /// Where the customer goes back to without paying.
        cancel_url: String,
    },
}

/// A payment to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPayment {
    /// Our id of it, kept beside the provider's.
    pub id: String,
    /// The provider's id of the customer.
    pub customer: Arc<str>,
    /// How much.
    pub amount: Money,
    /// What for, as the customer reads it.
    pub description: String,
    /// The caller's own notes, kept beside our id.
    pub metadata: BTreeMap<String, String>,
    /// How it is collected.
    pub collection: Collection,
}

/// A refund to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRefund {
    /// Our id of it, kept beside the provider's.
    pub id: String,
    /// The provider's id of the payment.
    pub payment: Arc<str>,
    /// How much, in minor units of its currency.
    pub minor: i64,
}

/// A subscription to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSubscription {
    /// Our id of it, kept beside the provider's.
    pub id: String,
    /// The provider's id of the customer.
    pub customer: Arc<str>,
    /// The provider's ids of prices, each with a quantity.
    pub prices: Vec<(String, u32)>,
    /// How many days it is free.
    pub trial_days: Option<u32>,
    /// The payment method that its invoices are collected with, the first one at once; without one, the customer's browser
    /// pays the first, and what that pays with is kept.
    pub method: Option<Arc<str>>,
}

/// What to change of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionChange {
    /// Its prices from now on, each with a quantity.
    pub prices: Vec<(String, u32)>,
    /// Whether the difference for the rest of the period is billed now, with the next invoice, or not at all.
    pub proration: Proration,
}

/// What becomes of the difference for the rest of a period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proration {
    /// Billed now.
    Now,
    /// On the next invoice.
    NextInvoice,
    /// Nothing.
    None,
}

/// When a subscription ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancellation {
    /// Now.
    Now,
    /// At the end of the period that is paid for.
    AtPeriodEnd,
    /// Not: takes `AtPeriodEnd` back.
    Undo,
}

/// A subscription as the provider has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// The provider's id of the customer.
    pub customer: Arc<str>,
    /// Its state, by the names that the field shares: `incomplete`, `trialing`, `active`, `past_due`, `canceled`, ...
    pub state: Arc<str>,
    /// The provider's ids of its prices, each with a quantity.
    pub prices: Vec<(Arc<str>, u32)>,
    /// The period that is under way.
    pub period: Option<(Timestamp, Timestamp)>,
    /// When the trial ends, or has ended.
    pub trial_end: Option<Timestamp>,
    /// Whether it ends with the period.
    pub cancel_at_period_end: bool,
    /// When it was cancelled.
    pub canceled_at: Option<Timestamp>,
    /// Its newest invoice.
    pub latest_invoice: Option<Arc<str>>,
    /// The same as a whole, where the answer has it.
    pub invoice: Option<InvoiceReport>,
    /// What the customer's browser needs to pay that.
    pub client_secret: Option<Arc<str>>,
    /// Our id of it, where it is ours.
    pub id: Option<Arc<str>>,
}

/// An invoice to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewInvoice {
    /// Our id of it, kept beside the provider's.
    pub id: String,
    /// The provider's id of the customer.
    pub customer: Arc<str>,
    /// Its currency.
    pub currency: Asset,
    /// What each line says, with its minor units.
    pub lines: Vec<(String, i64)>,
    /// Whether it is charged to the default payment method at once.
    pub collect: bool,
}

/// An invoice as the provider has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceReport {
    /// The provider's id of it.
    pub reference: Arc<str>,
    /// The provider's id of the customer.
    pub customer: Arc<str>,
    /// Its number.
    pub number: Option<Arc<str>>,
    /// `draft`, `open`, `paid`, `void` or `uncollectible`.
    pub state: Arc<str>,
    /// Its total.
    pub total: Money,
    /// What of it is collected, in minor units: the total less what the customer has to its credit there.
    pub due: i64,
    /// What has been paid of it, in minor units.
    pub paid: i64,
    /// What of the total is tax, in minor units.
    pub tax: i64,
    /// The provider's id of the payment that pays it, or is to.
    pub payment: Option<Arc<str>>,
    /// Whether a period of the subscription begins with it, the first or another.
    pub begins_period: bool,
    /// The subscription that it is of.
    pub subscription: Option<Arc<str>>,
    /// The page where it can be seen and paid.
    pub page: Option<Arc<str>>,
    /// Its PDF.
    pub pdf: Option<Arc<str>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What the customer's browser needs to pay it.
    pub client_secret: Option<Arc<str>>,
    /// Our id of it, where it is ours.
    pub id: Option<Arc<str>>,
}

/// An event that the provider told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProviderEvent {
    /// The provider's id of it; the same at every delivery.
    pub id: Arc<str>,
    /// The provider's name for its kind, for people.
    pub kind: Arc<str>,
    /// When it happened.
    pub created_at: Timestamp,
    /// What it says has changed. It is fetched again before it is believed, because events come late, twice and in any
    /// order.
    pub notice: Notice,
}

/// What has changed at the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A payment, one of its refunds, or its dispute.
    Payment {
        /// The provider's ids by which we may know it.
        references: Vec<Arc<str>>,
        /// Our id of it, where the provider keeps one beside it.
        id: Option<Arc<str>>,
    },
    /// The payment methods of a customer.
    PaymentMethods {
        /// The provider's id of the customer.
        customer: Arc<str>,
    },
    /// A subscription.
    Subscription {
        /// The provider's id of it.
        reference: Arc<str>,
        /// The provider's id of the customer.
        customer: Arc<str>,
    },
    /// An invoice.
    Invoice {
        /// The provider's id of it.
        reference: Arc<str>,
        /// The provider's id of the customer, where the event says it.
        customer: Option<Arc<str>>,
    },
    /// Nothing that farthing acts on. It is kept all the same.
    Other,
}

/// Why a webhook is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no secret to verify with.
    #[error("this connection has no webhook secret; set one, and send again")]
    NoSecret,
    /// There is no signature, or none that can be read.
    #[error("the signature header is missing or cannot be read")]
    SignatureMissing,
    /// No signature matches any secret.
    #[error("no signature matches; check the webhook secret, and that the body is passed on unchanged")]
    SignatureInvalid,
    /// It was signed too long ago, or in the future.
    #[error("the signature's time is more than 300 seconds off; check the clocks")]
    SignatureStale,
    /// The body is not an event.
    #[error("the body is not an event")]
    Malformed,
}

impl WebhookError {
    /// The stable code that programs branch on.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoSecret => "webhook_secret_missing",
            Self::SignatureMissing => "webhook_signature_missing",
            Self::SignatureInvalid => "webhook_signature_invalid",
            Self::SignatureStale => "webhook_signature_stale",
            Self::Malformed => "webhook_malformed",
        }
    }
}

/// An answer of the provider, with every exchange that it took, for the record.
#[derive(Clone, Debug)]
pub struct Exchanges<T> {
    /// What came of it.
    pub outcome: Result<T, ProviderError>,
    /// What was asked and answered, in order.
    pub exchanges: Vec<Exchange>,
}

/// What every call comes to. Not a `Result`, because the record is kept of failures too.
pub type Exchanged<T> = Exchanges<T>;

/// One request to the provider, and what came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Method and path, without parameters.
    pub request: String,
    /// The HTTP status; none where no answer came.
    pub status: Option<u16>,
    /// The provider's id of the request.
    pub request_id: Option<String>,
    /// Whether the provider says that this is an earlier answer given again.
    pub replayed: bool,
    /// The raw answer, or why there is none; at most 64 KiB of it.
    pub reply: String,
}

/// Why a call did not do what it was to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProviderError {
    /// The provider, or the customer's bank, said no; the same call again gets the same answer.
    #[error("refused: {}", .0.code)]
    Rejected(Failure),
    /// The provider does not have what was named.
    #[error("the provider has no such object")]
    NotFound,
    /// The key is not accepted: the tenant's configuration is wrong. Nothing was done.
    #[error("the provider does not accept the key")]
    Unauthorized,
    /// Whether it was done is unknown, or it was not done for now: the same call with the same key will tell.
    #[error("no certain answer: {0}")]
    Unavailable(String),
    /// The answer could not be read; what was done is unknown.
    #[error("an answer that cannot be read: {0}")]
    Unreadable(String),
}
