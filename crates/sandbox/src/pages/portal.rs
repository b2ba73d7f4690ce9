//! The customer portal's page: subscriptions, cards and invoices of one customer. What it does goes through the API's own
//! handlers; after it the browser is sent back to the page, so that a reload does nothing twice.

use askama::Template;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::{customers, payment_methods, portal, setup_intents, subscriptions};
use crate::pages::card_fields::{CardFields, Problem};
use crate::pages::{invoice, render, words};
use crate::request::Request;
use crate::routes::Page;
use crate::world::World;

struct Subscription {
    id: String,
    name: String,
    price: String,
    next: String,
    status: String,
    tone: &'static str,
    can_cancel: bool,
    can_resume: bool,
}

struct Card {
    id: String,
    brand: String,
    last4: String,
    expiry: String,
    is_default: bool,
}

struct Invoice {
    date: String,
    number: String,
    url: Option<String>,
    status: &'static str,
    tone: &'static str,
    amount: String,
}

#[derive(Template)]
#[template(path = "portal.html")]
struct Portal<'a> {
    action: String,
    return_url: Option<&'a str>,
    who: &'a str,
    /// What has just been done.
    note: Option<&'static str>,
    subscriptions: Vec<Subscription>,
    /// None where the configuration does not show them.
    invoices: Option<Vec<Invoice>>,
    cards: Vec<Card>,
    can_change_cards: bool,
    cancel: &'static str,
    card: CardFields,
}

/// What can have been done, and how the page says so.
const DONE: &[(&str, &str)] = &[
    ("saved", "The card is saved."),
    ("default", "This card is now the default."),
    ("removed", "The card is removed."),
    ("cancelled", "The subscription ends with the period that is paid for."),
    ("ended", "The subscription has ended."),
    ("kept", "The subscription goes on."),
];

/// `GET /pages/{world}/portal/{session}`, with `done` after something was done, and with `setup_intent` after 3-D Secure.
pub(crate) fn show(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let intent = request.parameters.text("setup_intent")?;
    if let Some(intent) = intent.and_then(|id| world.get(kind::SETUP_INTENT, &id).cloned()) {
        let session = find(world, request)?;
        if intent["customer"] == session["customer"] && intent["status"] == "succeeded" {
            return settle(world, request, &session, &intent);
        }
        return page(world, request, CardFields { problem: Problem::of_intent(&intent), ..CardFields::default() });
    }
    page(world, request, CardFields::default())
}

fn find(world: &World, request: &Request) -> Result<Value, ApiError> {
    world.find(kind::PORTAL_SESSION, request.capture(1), "id").cloned()
}

fn address(request: &Request) -> String {
    format!("/pages/{}/portal/{}", request.capture(0), request.capture(1))
}

fn done(request: &Request, what: &str) -> Page {
    Page::Redirect(format!("{}?done={what}", address(request)))
}

/// Refuses what the session's configuration does not allow.
fn require(world: &World, session: &Value, feature: &str) -> Result<(), ApiError> {
    if portal::allows(world, session, feature) {
        return Ok(());
    }
    Err(ApiError::invalid("The shop does not allow that here."))
}

/// `POST /pages/{world}/portal/{session}/cards`: saves a card, with 3-D Secure where the card asks for it.
pub(crate) fn add_card(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let session = find(world, request)?;
    require(world, &session, "payment_method_update")?;
    let (fields, card) = CardFields::read(&request.parameters)?;
    let card = match card {
        Ok(card) => card,
        Err(problem) => return page(world, request, CardFields { problem: Some(problem), ..fields }),
    };
    let mut details = json!({});
    if !fields.name.is_empty() {
        details["name"] = json!(fields.name);
    }
    if !fields.postal_code.is_empty() {
        details["address"] = json!({"postal_code": fields.postal_code});
    }
    let back = format!("{}{}", request.base, address(request));
    let form = json!({
        "customer": session["customer"], "confirm": true, "usage": "off_session", "return_url": back,
        "payment_method_data": {"type": "card", "card": card, "billing_details": details},
    });
    match world.attempt(|world| setup_intents::create(world, &request.within("", form))) {
        Err(error) => page(world, request, fields.refused(&error)),
        Ok(intent) => match intent["next_action"]["redirect_to_url"]["url"].as_str() {
            Some(url) => Ok(Page::Redirect(url.to_owned())),
            None => settle(world, request, &session, &intent),
        },
    }
}

/// A saved card becomes the default of a customer who has none.
fn settle(world: &mut World, request: &Request, session: &Value, intent: &Value) -> Result<Page, ApiError> {
    let customer = session["customer"].as_str().unwrap_or_default();
    let document = world.find(kind::CUSTOMER, customer, "customer")?;
    if document["invoice_settings"]["default_payment_method"].is_null() {
        make_default(world, request, customer, &intent["payment_method"])?;
    }
    Ok(done(request, "saved"))
}

fn make_default(world: &mut World, request: &Request, customer: &str, method: &Value) -> Result<(), ApiError> {
    let form = json!({"invoice_settings": {"default_payment_method": method}});
    customers::update(world, &request.within(customer, form)).map(|_| ())
}

/// The card of the path, if it is the customer's and the configuration lets it be changed.
fn own_card(world: &World, request: &Request) -> Result<Value, ApiError> {
    let session = find(world, request)?;
    require(world, &session, "payment_method_update")?;
    let method = world.find(kind::PAYMENT_METHOD, request.capture(2), "id")?;
    if method["customer"] == session["customer"] {
        Ok(method.clone())
    } else {
        Err(ApiError::missing(kind::PAYMENT_METHOD, request.capture(2), "id"))
    }
}

/// `POST /pages/{world}/portal/{session}/cards/{card}/default`.
pub(crate) fn make_card_default(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let method = own_card(world, request)?;
    make_default(world, request, method["customer"].as_str().unwrap_or_default(), &method["id"])?;
    Ok(done(request, "default"))
}

/// `POST /pages/{world}/portal/{session}/cards/{card}/remove`.
pub(crate) fn remove_card(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    own_card(world, request)?;
    payment_methods::detach(world, &request.within(request.capture(2), json!({})))?;
    Ok(done(request, "removed"))
}

/// `POST /pages/{world}/portal/{session}/subscriptions/{subscription}/cancel`.
pub(crate) fn cancel(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    if portal::ends_at_once(world, &find(world, request)?) {
        let id = own_subscription(world, request)?;
        subscriptions::cancel::delete(world, &request.within(&id, json!({})))?;
        return Ok(done(request, "ended"));
    }
    end_with_period(world, request, true)?;
    Ok(done(request, "cancelled"))
}

/// `POST /pages/{world}/portal/{session}/subscriptions/{subscription}/keep`: undoes that.
pub(crate) fn keep(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    end_with_period(world, request, false)?;
    Ok(done(request, "kept"))
}

/// The subscription of the path, if it is the customer's and the configuration lets it be cancelled.
fn own_subscription(world: &World, request: &Request) -> Result<String, ApiError> {
    let session = find(world, request)?;
    require(world, &session, "subscription_cancel")?;
    let id = request.capture(2);
    if world.find(kind::SUBSCRIPTION, id, "id")?["customer"] != session["customer"] {
        return Err(ApiError::missing(kind::SUBSCRIPTION, id, "id"));
    }
    Ok(id.to_owned())
}

fn end_with_period(world: &mut World, request: &Request, ends: bool) -> Result<(), ApiError> {
    let id = own_subscription(world, request)?;
    subscriptions::update::update(world, &request.within(&id, json!({"cancel_at_period_end": ends}))).map(|_| ())
}

fn page(world: &World, request: &Request, card: CardFields) -> Result<Page, ApiError> {
    let session = find(world, request)?;
    let customer = world.find(kind::CUSTOMER, session["customer"].as_str().unwrap_or_default(), "customer")?;
    let said = request.parameters.unsettable_text("done")?.flatten();
    let can_cancel = portal::allows(world, &session, "subscription_cancel");
    let of_customer = |document: &&Value| document["customer"] == session["customer"];
    let invoices = world.all(kind::INVOICE).rev().filter(of_customer).filter(|invoice| invoice["status"] != "draft");
    render(&Portal {
        action: address(request),
        return_url: session["return_url"].as_str(),
        who: customer["email"].as_str().or(customer["name"].as_str()).unwrap_or_default(),
        note: DONE.iter().find(|(word, _)| Some(*word) == said.as_deref()).map(|(_, sentence)| *sentence),
        subscriptions: world
            .all(kind::SUBSCRIPTION)
            .rev()
            .filter(of_customer)
            .filter(|subscription| subscription["status"] != "incomplete_expired")
            .map(|subscription| self::subscription(world, subscription, can_cancel))
            .collect(),
        invoices: portal::allows(world, &session, "invoice_history").then(|| invoices.map(self::invoice).collect()),
        cards: world
            .all(kind::PAYMENT_METHOD)
            .rev()
            .filter(of_customer)
            .map(|method| self::card(customer, method))
            .collect(),
        cancel: if portal::ends_at_once(world, &session) { "Cancel now" } else { "Cancel at period end" },
        can_change_cards: portal::allows(world, &session, "payment_method_update"),
        card,
    })
}

fn subscription(world: &World, subscription: &Value, can_cancel: bool) -> Subscription {
    let items = subscription["items"]["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |item: &Value| {
        let product = item["price"]["product"].as_str().and_then(|id| world.get(kind::PRODUCT, id));
        product.and_then(|product| product["name"].as_str()).unwrap_or("Subscription").to_owned()
    };
    let price = |item: &Value| {
        let quantity = item["quantity"].as_i64().unwrap_or(1);
        let amount = crate::objects::prices::cost(world, &item["price"], quantity);
        let amount = words::money(amount, item["price"]["currency"].as_str().unwrap_or_default());
        format!("{amount} {}", words::rhythm(&item["price"]).unwrap_or_default())
    };
    let status = subscription["status"].as_str().unwrap_or_default();
    let ends = subscription["cancel_at_period_end"] == true;
    let period_end = items.first().map_or(Value::Null, |item| item["current_period_end"].clone());
    let next = match status {
        "canceled" => format!("Ended on {}.", words::day(&subscription["ended_at"])),
        _ if ends => format!("Ends on {}.", words::day(&period_end)),
        "trialing" => format!("The trial ends on {}.", words::day(&subscription["trial_end"])),
        _ => format!("Renews on {}.", words::day(&period_end)),
    };
    let over = status == "canceled";
    Subscription {
        id: subscription["id"].as_str().unwrap_or_default().to_owned(),
        name: items.iter().map(name).collect::<Vec<_>>().join(", "),
        price: items.iter().map(price).collect::<Vec<_>>().join(" + "),
        next,
        status: if ends && !over { "Ending".to_owned() } else { sentence(status) },
        tone: match status {
            "active" | "trialing" if !ends => "good",
            "past_due" | "unpaid" | "incomplete" => "bad",
            _ => "open",
        },
        can_cancel: can_cancel && !over,
        can_resume: can_cancel && !over && ends,
    }
}

/// `past_due` as `Past due`.
fn sentence(word: &str) -> String {
    let spaced = word.replace('_', " ");
    let mut letters = spaced.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn card(customer: &Value, method: &Value) -> Card {
    let card = &method["card"];
    Card {
        id: method["id"].as_str().unwrap_or_default().to_owned(),
        brand: sentence(card["brand"].as_str().unwrap_or_default()),
        last4: card["last4"].as_str().unwrap_or_default().to_owned(),
        expiry: format!("{:02} / {}", card["exp_month"].as_i64().unwrap_or(0), card["exp_year"]),
        is_default: customer["invoice_settings"]["default_payment_method"] == method["id"],
    }
}

fn invoice(document: &Value) -> Invoice {
    let (status, tone) = invoice::status(document);
    Invoice {
        date: words::day(&document["created"]),
        number: document["number"].as_str().unwrap_or_default().to_owned(),
        url: document["hosted_invoice_url"].as_str().map(str::to_owned),
        status,
        tone,
        amount: words::money_of(document, "total"),
    }
}
