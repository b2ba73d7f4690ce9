//! The page of an invoice: what is billed, and, while it is open, the form that pays it.

use askama::Template;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::{invoice_payments, payment_intents, payment_methods};
use crate::pages::card_fields::{CardFields, Problem};
use crate::pages::{pdf, render, words};
use crate::request::Request;
use crate::routes::Page;
use crate::world::World;

struct Line {
    name: String,
    period: Option<String>,
    quantity: String,
    amount: String,
}

#[derive(Template)]
#[template(path = "invoice.html")]
struct Invoice<'a> {
    action: String,
    number: &'a str,
    date: String,
    who: Option<&'a str>,
    due: String,
    due_date: Option<String>,
    status: &'static str,
    tone: &'static str,
    lines: Vec<Line>,
    /// Subtotal, taxes, total: name and amount.
    sums: Vec<(String, String)>,
    is_open: bool,
    /// What is said instead of the form.
    closed: &'static str,
    card: CardFields,
}

/// The word for an invoice's status, and its colour.
pub(crate) fn status(invoice: &Value) -> (&'static str, &'static str) {
    match invoice["status"].as_str() {
        Some("paid") => ("Paid", "good"),
        Some("void") => ("Void", "quiet"),
        Some("uncollectible") => ("Uncollectible", "bad"),
        Some("draft") => ("Draft", "quiet"),
        _ => ("Open", "open"),
    }
}

/// `GET /pages/{world}/invoices/{invoice}`; 3-D Secure comes back here with `payment_intent`.
pub(crate) fn show(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let invoice = find(world, request)?;
    let intent = request.parameters.text("payment_intent")?;
    let intent = intent.and_then(|id| world.get(kind::PAYMENT_INTENT, &id));
    let problem = intent.filter(|intent| intent["customer"] == invoice["customer"]).and_then(Problem::of_intent);
    page(&invoice, request, CardFields { problem, ..CardFields::default() })
}

/// `GET /pages/{world}/invoices/{invoice}/pdf`.
pub(crate) fn download(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let invoice = find(world, request)?;
    let text = |field: &str| invoice[field].as_str().unwrap_or_default();
    let row = |name: &str, quantity: &str, amount: &str| {
        let name: String = name.chars().take(52).collect();
        format!("{name:<54}{quantity:>8}{amount:>18}")
    };
    let (status, _) = status(&invoice);
    let mut lines = vec![
        format!("Invoice {}", text("number")),
        "Of a sandbox: nothing here is to be paid with real money.".to_owned(),
        String::new(),
        format!("Date      {}", words::day(&invoice["created"])),
        format!("Billed to {} {}", text("customer_name"), text("customer_email")),
        format!("Status    {status}"),
        String::new(),
        row("What", "Quantity", "Amount"),
    ];
    for line in invoice["lines"]["data"].as_array().into_iter().flatten().map(self::line) {
        lines.push(row(&line.name, &line.quantity, &line.amount));
        lines.extend(line.period.map(|period| format!("  {period}")));
    }
    lines.push(String::new());
    lines.extend(sums(&invoice).iter().map(|(name, amount)| row(name, "", amount)));
    Ok(Page::Body("application/pdf", pdf::document(&lines)))
}

/// `POST` to the same path: the form.
pub(crate) fn pay(world: &mut World, request: &Request) -> Result<Page, ApiError> {
    let invoice = find(world, request)?;
    let (fields, card) = CardFields::read(&request.parameters)?;
    let card = match card {
        _ if invoice["status"] != "open" => return page(&invoice, request, fields),
        Ok(card) => card,
        Err(problem) => return page(&invoice, request, CardFields { problem: Some(problem), ..fields }),
    };
    let paid = world.attempt(|world| attempt(world, request, &card, &fields));
    match paid {
        Ok(Some(url)) => Ok(Page::Redirect(url)),
        Ok(None) => Ok(Page::Redirect(request.path.clone())),
        Err(error) => page(&find(world, request)?, request, fields.refused(&error)),
    }
}

/// Confirms the invoice's payment intent; the address of 3-D Secure where the card asks for it.
fn attempt(
    world: &mut World,
    request: &Request,
    card: &Value,
    fields: &CardFields,
) -> Result<Option<String>, ApiError> {
    let intent = invoice_payments::intent_of(world, request.capture(1))
        .ok_or_else(|| ApiError::invalid("This invoice waits for no payment."))?;
    let mut form = json!({"type": "card", "card": card});
    if !fields.name.is_empty() {
        form["billing_details"] = json!({"name": fields.name});
    }
    let method = payment_methods::create(world, &request.within("", form))?["id"].clone();
    let form = json!({"payment_method": method, "return_url": format!("{}{}", request.base, request.path)});
    let confirmed = payment_intents::confirm(world, &request.within(&intent, form)).map_err(ApiError::keeping)?;
    Ok(confirmed["next_action"]["redirect_to_url"]["url"].as_str().map(str::to_owned))
}

fn find(world: &World, request: &Request) -> Result<Value, ApiError> {
    let invoice = world.find(kind::INVOICE, request.capture(1), "id")?;
    if invoice["status"] == "draft" {
        return Err(ApiError::missing(kind::INVOICE, request.capture(1), "id"));
    }
    Ok(invoice.clone())
}

fn page(invoice: &Value, request: &Request, card: CardFields) -> Result<Page, ApiError> {
    let (status, tone) = status(invoice);
    let is_open = invoice["status"] == "open";
    let lines = invoice["lines"]["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    render(&Invoice {
        action: request.path.clone(),
        number: invoice["number"].as_str().unwrap_or_default(),
        date: words::day(&invoice["created"]),
        who: invoice["customer_email"].as_str().or(invoice["customer_name"].as_str()),
        due: words::money_of(invoice, if is_open { "amount_remaining" } else { "total" }),
        due_date: (is_open && !invoice["due_date"].is_null()).then(|| words::day(&invoice["due_date"])),
        status,
        tone,
        lines: lines.iter().map(line).collect(),
        sums: sums(invoice),
        is_open,
        closed: match status {
            "Paid" => "This invoice is paid. Thank you.",
            "Void" => "This invoice is void. Nothing is to be paid.",
            _ => "This invoice can no longer be paid here.",
        },
        card,
    })
}

fn line(line: &Value) -> Line {
    let (start, end) = (&line["period"]["start"], &line["period"]["end"]);
    Line {
        name: line["description"].as_str().unwrap_or_default().to_owned(),
        period: (start != end).then(|| format!("{} to {}", words::day(start), words::day(end))),
        quantity: line["quantity"].as_i64().map_or(String::new(), |quantity| quantity.to_string()),
        amount: words::money_of(line, "amount"),
    }
}

fn sums(invoice: &Value) -> Vec<(String, String)> {
    let mut sums = vec![("Subtotal".to_owned(), words::money_of(invoice, "subtotal"))];
    let currency = invoice["currency"].as_str().unwrap_or_default();
    let part = |list: &str, word: &str, sign: i64| {
        let amounts = invoice[list].as_array().map(Vec::as_slice).unwrap_or_default();
        let sum: i64 = amounts.iter().filter_map(|one| one["amount"].as_i64()).sum();
        (sum != 0).then(|| (word.to_owned(), words::money(sum * sign, currency)))
    };
    sums.extend(part("total_discount_amounts", "Discount", -1));
    sums.extend(part("total_taxes", "Tax", 1));
    sums.push(("Total".to_owned(), words::money_of(invoice, "total")));
    if invoice["amount_due"] != invoice["total"] {
        sums.push(("Due".to_owned(), words::money_of(invoice, "amount_due")));
    }
    sums
}
