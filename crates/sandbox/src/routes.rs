//! The route table: which handler answers which method and path. `{}` stands for one segment of the path; a route without
//! it goes before one with it. A section for each object.

use serde_json::Value;

use crate::control;
use crate::error::ApiError;
use crate::objects::{
    balance_transactions, charges, checkout_sessions, customers, disputes, events, payment_intents, payment_methods,
    portal as portal_objects, refunds, setup_intents, tokens, webhook_endpoints,
};
use crate::objects::{
    coupons, invoice_items, invoice_payments, invoices, prices, products, subscription_items, subscriptions, tax_rates,
    test_clocks,
};
use crate::pages::{checkout, invoice, portal, three_d_secure};
use crate::request::Request;
use crate::world::World;

/// Answers a request of the API under the world's lock. An error undoes what it has changed, unless it `keeps`.
pub(crate) type Handler = fn(&mut World, &Request) -> Result<Value, ApiError>;

/// What a page answers with.
#[derive(Debug)]
pub(crate) enum Page {
    /// A page, or another file: its content type and itself.
    Body(&'static str, String),
    /// 303 to another address.
    Redirect(String),
}

/// Answers a request for a page. The first `{}` of its path is the name of the world.
pub(crate) type PageHandler = fn(&mut World, &Request) -> Result<Page, ApiError>;

/// Who answers.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// A secret key is needed.
    Api(Handler),
    /// A publishable key is enough, from any origin.
    Browser(Handler),
    /// The sandbox's own API: a secret key, JSON bodies, no faults.
    Control(Handler),
    /// No key; no faults.
    Page(PageHandler),
    /// A file that is always the same: its content type and itself.
    File(&'static str, &'static str),
}

/// One line of the table.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) target: Target,
}

const fn get(path: &'static str, handler: Handler) -> Route {
    Route { method: "GET", path, target: Target::Api(handler) }
}

const fn post(path: &'static str, handler: Handler) -> Route {
    Route { method: "POST", path, target: Target::Api(handler) }
}

const fn delete(path: &'static str, handler: Handler) -> Route {
    Route { method: "DELETE", path, target: Target::Api(handler) }
}

const fn control(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route { method, path, target: Target::Control(handler) }
}

const fn browser(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route { method, path, target: Target::Browser(handler) }
}

const fn page(method: &'static str, path: &'static str, handler: PageHandler) -> Route {
    Route { method, path, target: Target::Page(handler) }
}

const TABLE: &[&[Route]] = &[
    CONTROL,
    CUSTOMERS,
    PAYMENT_METHODS,
    TOKENS,
    SETUP_INTENTS,
    PAYMENT_INTENTS,
    CHARGES,
    REFUNDS,
    BALANCE,
    DISPUTES,
    EVENTS,
    WEBHOOK_ENDPOINTS,
    CATALOG,
    TEST_CLOCKS,
    INVOICES,
    SUBSCRIPTIONS,
    CHECKOUT,
    PORTAL,
    PAGES,
    BROWSER,
];

const CONTROL: &[Route] = &[
    control("GET", "/_sandbox/faults", control::list_faults),
    control("POST", "/_sandbox/faults", control::add_fault),
    control("DELETE", "/_sandbox/faults", control::clear_faults),
    control("GET", "/_sandbox/requests", control::list_requests),
    control("GET", "/_sandbox/clock", control::read_clock),
    control("POST", "/_sandbox/clock", control::set_clock),
    control("POST", "/_sandbox/prices", control::put_price),
];

const CUSTOMERS: &[Route] = &[
    post("/v1/customers", customers::create),
    get("/v1/customers", customers::list),
    get("/v1/customers/{}", customers::retrieve),
    post("/v1/customers/{}", customers::update),
    delete("/v1/customers/{}", customers::delete),
];

const PAYMENT_METHODS: &[Route] = &[
    browser("POST", "/v1/payment_methods", payment_methods::create),
    get("/v1/payment_methods", payment_methods::list),
    get("/v1/payment_methods/{}", payment_methods::retrieve),
    post("/v1/payment_methods/{}", payment_methods::update),
    post("/v1/payment_methods/{}/attach", payment_methods::attach),
    post("/v1/payment_methods/{}/detach", payment_methods::detach),
    get("/v1/customers/{}/payment_methods", payment_methods::list_of_customer),
    get("/v1/customers/{}/payment_methods/{}", payment_methods::retrieve_of_customer),
];

const TOKENS: &[Route] = &[browser("POST", "/v1/tokens", tokens::create), get("/v1/tokens/{}", tokens::retrieve)];

const SETUP_INTENTS: &[Route] = &[
    post("/v1/setup_intents", setup_intents::create),
    get("/v1/setup_intents", setup_intents::list),
    browser("GET", "/v1/setup_intents/{}", setup_intents::retrieve),
    post("/v1/setup_intents/{}", setup_intents::update),
    browser("POST", "/v1/setup_intents/{}/confirm", setup_intents::confirm),
    post("/v1/setup_intents/{}/cancel", setup_intents::cancel),
];

const PAYMENT_INTENTS: &[Route] = &[
    post("/v1/payment_intents", payment_intents::create),
    get("/v1/payment_intents", payment_intents::list),
    browser("GET", "/v1/payment_intents/{}", payment_intents::retrieve),
    post("/v1/payment_intents/{}", payment_intents::update),
    browser("POST", "/v1/payment_intents/{}/confirm", payment_intents::confirm),
    post("/v1/payment_intents/{}/capture", payment_intents::capture),
    post("/v1/payment_intents/{}/cancel", payment_intents::cancel),
];

const CHARGES: &[Route] = &[
    get("/v1/charges", charges::list),
    get("/v1/charges/{}", charges::retrieve),
    post("/v1/charges/{}", charges::update),
];

const REFUNDS: &[Route] = &[
    post("/v1/refunds", refunds::create),
    get("/v1/refunds", refunds::list),
    get("/v1/refunds/{}", refunds::retrieve),
    post("/v1/refunds/{}", refunds::update),
    post("/v1/refunds/{}/cancel", refunds::cancel),
];

const BALANCE: &[Route] = &[
    get("/v1/balance", balance_transactions::balance),
    get("/v1/balance_transactions", balance_transactions::list),
    get("/v1/balance_transactions/{}", balance_transactions::retrieve),
];

const DISPUTES: &[Route] = &[
    get("/v1/disputes", disputes::list),
    get("/v1/disputes/{}", disputes::retrieve),
    post("/v1/disputes/{}", disputes::update),
    post("/v1/disputes/{}/close", disputes::close),
];

const EVENTS: &[Route] = &[
    get("/v1/events", events::list),
    get("/v1/events/{}", events::retrieve),
    post("/v1/events/{}/retry", events::retry),
];

const WEBHOOK_ENDPOINTS: &[Route] = &[
    post("/v1/webhook_endpoints", webhook_endpoints::create),
    get("/v1/webhook_endpoints", webhook_endpoints::list),
    get("/v1/webhook_endpoints/{}", webhook_endpoints::retrieve),
    post("/v1/webhook_endpoints/{}", webhook_endpoints::update),
    delete("/v1/webhook_endpoints/{}", webhook_endpoints::delete),
];

const fn file(path: &'static str, content_type: &'static str, body: &'static str) -> Route {
    Route { method: "GET", path, target: Target::File(content_type, body) }
}

const CHECKOUT: &[Route] = &[
    post("/v1/checkout/sessions", checkout_sessions::create),
    get("/v1/checkout/sessions", checkout_sessions::list),
    get("/v1/checkout/sessions/{}", checkout_sessions::retrieve),
    post("/v1/checkout/sessions/{}", checkout_sessions::update),
    post("/v1/checkout/sessions/{}/expire", checkout_sessions::expire),
    get("/v1/checkout/sessions/{}/line_items", checkout_sessions::list_lines),
];

const PORTAL: &[Route] = &[
    post("/v1/billing_portal/sessions", portal_objects::create_session),
    post("/v1/billing_portal/configurations", portal_objects::create_configuration),
    get("/v1/billing_portal/configurations", portal_objects::list_configurations),
    get("/v1/billing_portal/configurations/{}", portal_objects::retrieve_configuration),
    post("/v1/billing_portal/configurations/{}", portal_objects::update_configuration),
];

const PAGES: &[Route] = &[
    page("GET", "/pages/{}/3ds/{}", three_d_secure::show),
    page("POST", "/pages/{}/3ds/{}", three_d_secure::answer),
    page("GET", "/pages/{}/checkout/{}", checkout::show),
    page("POST", "/pages/{}/checkout/{}", checkout::submit),
    page("GET", "/pages/{}/checkout/{}/back", checkout::back),
    page("GET", "/pages/{}/portal/{}", portal::show),
    page("POST", "/pages/{}/portal/{}/cards", portal::add_card),
    page("POST", "/pages/{}/portal/{}/cards/{}/default", portal::make_card_default),
    page("POST", "/pages/{}/portal/{}/cards/{}/remove", portal::remove_card),
    page("POST", "/pages/{}/portal/{}/subscriptions/{}/cancel", portal::cancel),
    page("POST", "/pages/{}/portal/{}/subscriptions/{}/keep", portal::keep),
    page("GET", "/pages/{}/invoices/{}", invoice::show),
    page("POST", "/pages/{}/invoices/{}", invoice::pay),
    page("GET", "/pages/{}/invoices/{}/pdf", invoice::download),
];
const CATALOG: &[Route] = &[
    post("/v1/products", products::create),
    get("/v1/products", products::list),
    get("/v1/products/{}", products::retrieve),
    post("/v1/products/{}", products::update),
    delete("/v1/products/{}", products::delete),
    post("/v1/prices", prices::create),
    get("/v1/prices", prices::list),
    get("/v1/prices/{}", prices::retrieve),
    post("/v1/prices/{}", prices::update),
    post("/v1/coupons", coupons::create),
    get("/v1/coupons", coupons::list),
    get("/v1/coupons/{}", coupons::retrieve),
    post("/v1/coupons/{}", coupons::update),
    delete("/v1/coupons/{}", coupons::delete),
    post("/v1/tax_rates", tax_rates::create),
    get("/v1/tax_rates", tax_rates::list),
    get("/v1/tax_rates/{}", tax_rates::retrieve),
    post("/v1/tax_rates/{}", tax_rates::update),
];

const INVOICES: &[Route] = &[
    post("/v1/invoiceitems", invoice_items::create),
    get("/v1/invoiceitems", invoice_items::list),
    get("/v1/invoiceitems/{}", invoice_items::retrieve),
    post("/v1/invoiceitems/{}", invoice_items::update),
    delete("/v1/invoiceitems/{}", invoice_items::delete),
    post("/v1/invoices", invoices::create),
    get("/v1/invoices", invoices::list),
    post("/v1/invoices/create_preview", invoices::preview::create),
    get("/v1/invoices/{}", invoices::retrieve),
    post("/v1/invoices/{}", invoices::update),
    delete("/v1/invoices/{}", invoices::delete),
    post("/v1/invoices/{}/add_lines", invoices::add_lines),
    get("/v1/invoices/{}/lines", invoices::list_lines),
    post("/v1/invoices/{}/finalize", invoices::finalize),
    post("/v1/invoices/{}/pay", invoices::pay),
    post("/v1/invoices/{}/void", invoices::void),
    post("/v1/invoices/{}/mark_uncollectible", invoices::mark_uncollectible),
    post("/v1/invoices/{}/send", invoices::send),
    get("/v1/invoice_payments", invoice_payments::list),
    get("/v1/invoice_payments/{}", invoice_payments::retrieve),
];

const SUBSCRIPTIONS: &[Route] = &[
    post("/v1/subscriptions", subscriptions::create::create),
    get("/v1/subscriptions", subscriptions::list),
    get("/v1/subscriptions/{}", subscriptions::retrieve),
    post("/v1/subscriptions/{}", subscriptions::update::update),
    delete("/v1/subscriptions/{}", subscriptions::cancel::delete),
    post("/v1/subscriptions/{}/pause", subscriptions::pause::pause),
    post("/v1/subscriptions/{}/resume", subscriptions::pause::resume),
    post("/v1/subscription_items", subscription_items::create),
    get("/v1/subscription_items", subscription_items::list),
    get("/v1/subscription_items/{}", subscription_items::retrieve),
    post("/v1/subscription_items/{}", subscription_items::update),
    delete("/v1/subscription_items/{}", subscription_items::delete),
];

const TEST_CLOCKS: &[Route] = &[
    post("/v1/test_helpers/test_clocks", test_clocks::create),
    get("/v1/test_helpers/test_clocks", test_clocks::list),
    get("/v1/test_helpers/test_clocks/{}", test_clocks::retrieve),
    delete("/v1/test_helpers/test_clocks/{}", test_clocks::delete),
    post("/v1/test_helpers/test_clocks/{}/advance", test_clocks::advance),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STRIPE_JS: &str = include_str!("../static/stripe.js");

/// What browsers load. Stripe.js stands where js.stripe.com has it, for its old and its new addresses.
const BROWSER: &[Route] = &[
    file("/", HTML, include_str!("../static/index.html")),
    file("/index.js", SCRIPT, include_str!("../static/index.js")),
    file("/pages/sandbox.css", CSS, include_str!("../static/sandbox.css")),
    file("/pages/card.js", SCRIPT, include_str!("../static/card.js")),
    file("/v3", SCRIPT, STRIPE_JS),
    file("/v3/", SCRIPT, STRIPE_JS),
    file("/{}/stripe.js", SCRIPT, STRIPE_JS),
    file("/v3/element.html", HTML, include_str!("../static/element.html")),
    file("/v3/element.js", SCRIPT, include_str!("../static/element.js")),
    file("/v3/element.css", CSS, include_str!("../static/element.css")),
];

/// The route of a request, and what stands at its `{}`.
pub(crate) fn find(method: &str, path: &str) -> Option<(Target, Vec<String>)> {
    TABLE
        .iter()
        .flat_map(|section| section.iter())
        .filter(|route| route.method == method)
        .filter_map(|route| captures(route.path, path).map(|captures| (route.target, captures)))
        .min_by_key(|(_, captures)| captures.len())
}

fn captures(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut captured = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(captured),
            (Some("{}"), Some(segment)) if !segment.is_empty() => captured.push(crate::form::decode(segment)),
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return None,
        }
    }
}
