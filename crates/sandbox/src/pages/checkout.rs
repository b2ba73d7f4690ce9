//! The page of a Checkout Session: what is bought, and the form that pays it.

use askama::Template;
use serde_json::Value;

use crate::checkout::{self, Buyer, Next};
use crate::error::ApiError;
use crate::kind;
use crate::objects::checkout_sessions;
use crate::pages::card_fields::{CardFields, Problem};
use crate::pages::{Message, render, words};
use crate::request::Request;
use crate::routes::Page;
use crate::world::World;

struct Line {
    name: String,
    quantity: i64,
    amount: String,
}

#[derive(Template)]
#[template(path = "checkout.html")]
struct Checkout<'a> {
    heading: &'static str,
    button: String,
    action: &'a str,
    cancel_url: Option<&'a str>,
    /// What is paid now; none where a card is only saved.
    due: Option<String>,
    /// What is paid later, for a subscription.
    then: Option<String>,
    lines: Vec<Line>,
    /// The customer's, or the one the session was made with.
    fixed_email: Option<&'a str>,
    email: &'a str,
    /// Whether a card is asked for.
    has_card: bool,
    card: CardFields,
}

/// `GET /pages/{world}/checkout/{session}`.
pub(crate) fn show(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let session = find(world, request)?;
    page(world, request, &session, "", CardFields::default())
}

/// Where 3-D Secure comes back to: `GET /pages/{world}/checkout/{session}/back`.
pub(crate) fn back(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let session = find(world, request)?;
    let problem = checkout_sessions::intent(world, request.capture(1)).and_then(Problem::of_intent);
    page(world, request, &session, "", CardFields { problem, ..CardFields::default() })
}

/// `POST /pages/{world}/checkout/{session}`: the form.
pub(crate) fn submit(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let session = find(world, request)?;
    let parameters = &request.parameters;
    let (fields, card) = CardFields::read(parameters)?;
    let email = parameters.unsettable_text("email")?.flatten().unwrap_or_default();
    if session["status"] != "open" {
        return page(world, request, &session, &email, fields);
    }
    let known = fixed_email(world, &session).map(str::to_owned);
    if known.is_none() && !email.contains('@') {
        let problem = Some(Problem::new(Some("email"), "Enter your email address."));
        return page(world, request, &session, &email, CardFields { problem, ..fields });
    }
    let card = match card {
        _ if !has_card(&session) => None,
        Ok(card) => Some(card),
        Err(problem) => {
            return page(world, request, &session, &email, CardFields { problem: Some(problem), ..fields });
        }
    };
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let buyer =
        Buyer { email: known.or(some(&email)), name: some(&fields.name), postal_code: some(&fields.postal_code), card };
    let back = format!("{}{}/back", request.base, request.path);
    let paid = world.attempt(|world| checkout::pay(world, request, request.capture(1), &buyer, &back));
    let session = find(world, request)?;
    match paid {
        Ok(Next::Redirect(url)) => Ok(Page::Redirect(url)),
        Ok(Next::Done) => page(world, request, &session, &email, fields),
        Err(error) => page(world, request, &session, &email, fields.refused(&error)),
    }
}

fn find(world: &World, request: &Request) -> Result<Value, ApiError> {
    world.find(kind::CHECKOUT_SESSION, request.capture(1), "id").cloned()
}

/// The form while the session is open; afterwards the shop's own page.
fn page(world: &World, request: &Request, session: &Value, email: &str, card: CardFields) -> Result<Page, ApiError> {
    let id = session["id"].as_str().unwrap_or_default();
    if session["status"] == "complete" {
        let success = session["success_url"].as_str().unwrap_or_default();
        return Ok(Page::Redirect(success.replace("{CHECKOUT_SESSION_ID}", id)));
    }
    let cancel_url = session["cancel_url"].as_str();
    if session["status"] == "expired" {
        return render(&Message {
            heading: "This page has expired",
            text: "The shop no longer waits for this payment. Nothing was charged. Go back to the shop to begin again.",
            link: cancel_url.map(|url| (url, "Back to the shop")),
        });
    }
    let lines = checkout_sessions::line_items(world, session);
    let lines = lines["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (heading, button) = words_of(session, lines);
    let action = request.path.strip_suffix("/back").unwrap_or(&request.path);
    render(&Checkout {
        heading,
        button,
        action,
        cancel_url,
        due: (session["mode"] != "setup").then(|| words::money_of(session, "amount_total")),
        then: then(session, lines),
        lines: lines.iter().map(line).collect(),
        fixed_email: fixed_email(world, session),
        email,
        has_card: has_card(session),
        card,
    })
}

/// A subscription without a price today still needs a card for later.
fn has_card(session: &Value) -> bool {
    session["mode"] != "payment" || session["amount_total"] != 0
}

fn fixed_email<'a>(world: &'a World, session: &'a Value) -> Option<&'a str> {
    let customer = session["customer"].as_str().and_then(|id| world.get(kind::CUSTOMER, id));
    customer.and_then(|customer| customer["email"].as_str()).or(session["customer_email"].as_str())
}

fn words_of(session: &Value, lines: &[Value]) -> (&'static str, String) {
    let pay = || format!("Pay {}", words::money_of(session, "amount_total"));
    match (session["mode"].as_str(), session["submit_type"].as_str()) {
        (Some("setup"), _) => ("Save a card", "Save card".to_owned()),
        (Some("subscription"), _) if is_trial(session, lines) => ("Start your trial", "Start trial".to_owned()),
        (Some("subscription"), _) => ("Subscribe", "Subscribe".to_owned()),
        (_, Some("donate")) => ("Donate", format!("Donate {}", words::money_of(session, "amount_total"))),
        (_, Some("book")) => ("Book", format!("Book for {}", words::money_of(session, "amount_total"))),
        _ if session["amount_total"] == 0 => ("Complete your order", "Complete order".to_owned()),
        _ => ("Pay", pay()),
    }
}

fn is_trial(session: &Value, lines: &[Value]) -> bool {
    session["amount_total"] == 0 && lines.iter().any(|line| line["amount_total"] != 0)
}

fn line(line: &Value) -> Line {
    let amount = words::money_of(line, "amount_total");
    Line {
        name: line["description"].as_str().unwrap_or_default().to_owned(),
        quantity: line["quantity"].as_i64().unwrap_or(1),
        amount: words::rhythm(&line["price"]).map_or(amount.clone(), |rhythm| format!("{amount} {rhythm}")),
    }
}

/// `Then $10.00 per month`.
fn then(session: &Value, lines: &[Value]) -> Option<String> {
    let recurring: Vec<&Value> = lines.iter().filter(|line| line["price"]["type"] == "recurring").collect();
    let sum = recurring.iter().filter_map(|line| line["amount_total"].as_i64()).sum();
    let rhythm = words::rhythm(&recurring.first()?["price"])?;
    let amount = words::money(sum, session["currency"].as_str().unwrap_or_default());
    let begin = if is_trial(session, lines) { "After the trial" } else { "Then" };
    Some(format!("{begin} {amount} {rhythm}, until cancelled"))
}
