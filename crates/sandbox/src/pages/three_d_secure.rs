//! The 3-D Secure page, where the holder of a test card says yes or no. Opened by itself it goes back to the `return_url`;
//! inside a frame of Stripe.js it tells the page around it that it is done.

use askama::Template;
use serde_json::Value;

use crate::error::ApiError;
use crate::form::encode;
use crate::kind::{self, Kind};
use crate::objects::setup_intents;
use crate::pages::{render, words};
use crate::payment;
use crate::request::Request;
use crate::routes::Page;
use crate::world::World;

#[derive(Template)]
#[template(path = "three_d_secure.html")]
struct Question<'a> {
    action: &'a str,
    what: &'a str,
    last4: &'a str,
    client_secret: &'a str,
    return_url: &'a str,
}

#[derive(Template)]
#[template(path = "three_d_secure_done.html")]
struct Done<'a> {
    id: &'a str,
    status: &'a str,
}

/// `GET /pages/{world}/3ds/{intent}?client_secret=..`
pub(crate) fn show(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let (_, intent) = find(world, request)?;
    request.parameters.finish()?;
    if intent["status"] != "requires_action" {
        return done(request, &intent, None);
    }
    let what = match intent["amount"].as_i64() {
        Some(amount) => {
            format!("a payment of {}", words::money(amount, intent["currency"].as_str().unwrap_or_default()))
        }
        None => "saving this card for later".to_owned(),
    };
    let card = intent["payment_method"].as_str().and_then(|id| world.get(kind::PAYMENT_METHOD, id));
    let last4 = card.and_then(|card| card["card"]["last4"].as_str()).unwrap_or_default();
    render(&Question {
        action: &request.path,
        what: &what,
        last4,
        client_secret: intent["client_secret"].as_str().unwrap_or_default(),
        return_url: intent["next_action"]["redirect_to_url"]["return_url"].as_str().unwrap_or_default(),
    })
}

/// `POST` to the same path, with `outcome`, and `framed` where the page is inside a frame.
pub(crate) fn answer(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let (kind, intent) = find(world, request)?;
    let outcome = request.parameters.word("outcome", &["authorise", "fail"])?;
    let outcome = outcome.ok_or_else(|| request.parameters.missing("outcome"))?;
    let framed = request.parameters.flag("framed")?.unwrap_or(false);
    let back = request.parameters.unsettable_text("return_url")?.flatten();
    request.parameters.finish()?;
    let id = request.capture(1);
    let authorised = outcome == "authorise";
    if kind == kind::PAYMENT_INTENT {
        payment::authenticate(world, id, authorised);
    } else {
        setup_intents::authenticate(world, id, authorised);
    }
    let after = world.find(kind, id, "id")?.clone();
    let back = intent["next_action"]["redirect_to_url"]["return_url"].as_str().map(str::to_owned).or(back);
    done(request, &after, back.filter(|_| !framed).as_deref())
}

/// The intent, for who knows its client secret.
fn find(world: &World, request: &Request) -> Result<(Kind, Value), ApiError> {
    let id = request.capture(1);
    let kind = if id.starts_with("seti_") { kind::SETUP_INTENT } else { kind::PAYMENT_INTENT };
    let intent = world.find(kind, id, "id")?;
    let secret = request.parameters.required_text("client_secret")?;
    if intent["client_secret"] == secret.as_str() {
        Ok((kind, intent.clone()))
    } else {
        Err(ApiError::missing(kind, id, "id"))
    }
}

/// Back to where the customer came from; or a page that says it is over, to people and to the page around it.
fn done(request: &Request, intent: &Value, back: Option<&str>) -> Result<Page, ApiError> {
    let passed = ["succeeded", "requires_capture", "requires_confirmation", "processing"]
        .contains(&intent["status"].as_str().unwrap_or_default());
    let status = if passed { "succeeded" } else { "failed" };
    let name = if intent["object"] == "setup_intent" { "setup_intent" } else { "payment_intent" };
    if let Some(back) = back {
        let (address, fragment) = back.split_once('#').map_or((back, String::new()), |(a, f)| (a, format!("#{f}")));
        let joint = if address.contains('?') { '&' } else { '?' };
        return Ok(Page::Redirect(format!(
            "{address}{joint}{name}={}&{name}_client_secret={}&redirect_status={status}{fragment}",
            encode(request.capture(1)),
            encode(intent["client_secret"].as_str().unwrap_or_default())
        )));
    }
    render(&Done { id: request.capture(1), status })
}
