//! The kinds of objects: the word in a document's `object` field, and the prefix of its ids.

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The word in the document's `object` field.
    pub(crate) name: &'static str,
    /// What ids begin with, without the underscore. Empty for what has ids of its own making.
    pub(crate) prefix: &'static str,
}

const fn kind(name: &'static str, prefix: &'static str) -> Kind {
    Kind { name, prefix }
}

pub(crate) const CUSTOMER: Kind = kind("customer", "cus");
pub(crate) const PAYMENT_METHOD: Kind = kind("payment_method", "pm");
pub(crate) const TOKEN: Kind = kind("token", "tok");
pub(crate) const SETUP_INTENT: Kind = kind("setup_intent", "seti");
pub(crate) const PAYMENT_INTENT: Kind = kind("payment_intent", "pi");
pub(crate) const CHARGE: Kind = kind("charge", "ch");
pub(crate) const REFUND: Kind = kind("refund", "re");
pub(crate) const BALANCE_TRANSACTION: Kind = kind("balance_transaction", "txn");
pub(crate) const DISPUTE: Kind = kind("dispute", "du");
pub(crate) const WEBHOOK_ENDPOINT: Kind = kind("webhook_endpoint", "we");
pub(crate) const EVENT: Kind = kind("event", "evt");

pub(crate) const PRODUCT: Kind = kind("product", "prod");
pub(crate) const PRICE: Kind = kind("price", "price");
pub(crate) const COUPON: Kind = kind("coupon", "");
pub(crate) const DISCOUNT: Kind = kind("discount", "di");
pub(crate) const TAX_RATE: Kind = kind("tax_rate", "txr");
pub(crate) const SUBSCRIPTION: Kind = kind("subscription", "sub");
pub(crate) const SUBSCRIPTION_ITEM: Kind = kind("subscription_item", "si");
pub(crate) const INVOICE: Kind = kind("invoice", "in");
pub(crate) const INVOICE_ITEM: Kind = kind("invoiceitem", "ii");
pub(crate) const INVOICE_PAYMENT: Kind = kind("invoice_payment", "inpay");
pub(crate) const TEST_CLOCK: Kind = kind("test_helpers.test_clock", "clock");

pub(crate) const CHECKOUT_SESSION: Kind = kind("checkout.session", "cs_test");
pub(crate) const PORTAL_SESSION: Kind = kind("billing_portal.session", "bps");
pub(crate) const PORTAL_CONFIGURATION: Kind = kind("billing_portal.configuration", "bpc");

/// The sandbox's own: the answer kept for an idempotency key, whose id is the key.
pub(crate) const KEPT_ANSWER: Kind = kind("sandbox.kept_answer", "");
/// The sandbox's own: one event on its way to one endpoint.
pub(crate) const DELIVERY: Kind = kind("sandbox.delivery", "dlv");
/// The sandbox's own: what a world knows besides its objects.
pub(crate) const WORLD: Kind = kind("sandbox.world", "");
