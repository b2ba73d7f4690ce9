//! An invoice as a document for people: who sends it to whom, what stands on it, in words and figures. The PDF and the hosted
//! page show the same one, so they cannot differ.

mod figures;
mod key;
mod pdf;

use std::collections::BTreeMap;

use axum::http::HeaderValue;
use engine::invoice::{CreditNote, Invoice, InvoiceState, Line, LineKind};
use engine::{Asset, Profile};
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use figures::{day, days, exact, price, quantity, sum};
pub use key::PageKey;
pub use pdf::pdf;

use crate::config::Seller;
use crate::store::{BillingRow, CustomerKey, OperationRef, Page, Scope, Store, StoreError};

/// One side of an invoice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// Address, and how it is reached.
    pub lines: Vec<String>,
}

/// A line of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// What it is.
    pub title: String,
    /// For when, and what else is worth knowing.
    pub detail: Option<String>,
    /// How much of it; nothing where it is not counted.
    pub quantity: Option<String>,
    /// What one costs.
    pub unit_price: Option<String>,
    /// What it comes to, before discounts and taxes.
    pub amount: String,
}

/// A line below the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Total {
    /// What it is.
    pub label: String,
    /// How much.
    pub amount: String,
    /// Whether it is one of the sums that people look for.
    pub strong: bool,
}

/// A part that was taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credit {
    /// When.
    pub date: String,
    /// Why.
    pub reason: String,
    /// How much.
    pub amount: String,
}

/// An invoice, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Its number as people read it; nothing for a draft.
    pub number: Option<String>,
    /// How it stands.
    pub state: InvoiceState,
    /// The same in a word.
    pub state_name: &'static str,
    /// Who sends it.
    pub seller: Party,
    /// Who is to pay it.
    pub buyer: Party,
    /// Dates and the like, each with its label.
    pub facts: Vec<(&'static str, String)>,
    /// What is to be done, in one line: `$119.00 due 16 March 2026`.
    pub headline: String,
    /// What it is in: the code of a currency.
    pub currency: String,
    /// The table.
    pub rows: Vec<Row>,
    /// Below it.
    pub totals: Vec<Total>,
    /// What was taken back.
    pub credits: Vec<Credit>,
    /// Sentences below that.
    pub remarks: Vec<String>,
    /// At the foot of each page.
    pub footer: Option<String>,
    /// The colour of rules and buttons.
    pub accent: [u8; 3],
    /// When it was made.
    pub made_at: Timestamp,
}

/// An invoice with what a document of it takes.
#[derive(Clone, Debug)]
pub struct Found {
    /// The invoice.
    pub row: BillingRow<Invoice>,
    /// Who is to pay it.
    pub profile: Profile,
    /// What was taken back of it.
    pub credit_notes: Vec<CreditNote>,
}

/// Reads an invoice with what a document of it takes.
///
/// # Errors
/// What the store fails with.
pub async fn find(store: &dyn Store, scope: &Scope, id: OperationRef) -> Result<Option<Found>, StoreError> {
    let Some(row) = store.invoice(scope, id).await? else { return Ok(None) };
    let key = CustomerKey::new(&scope.tenant, &row.external_id);
    let customer = store.customer(scope, &key).await?;
    let credit_notes = store.credit_notes(scope, id).await?;
    Ok(Some(Found { row, profile: customer.map(|customer| customer.profile).unwrap_or_default(), credit_notes }))
}

/// The invoice before this one of the same customer in the same currency.
///
/// # Errors
/// What the store fails with.
pub async fn previous(
    store: &dyn Store,
    scope: &Scope,
    row: &BillingRow<Invoice>,
) -> Result<Option<Invoice>, StoreError> {
    let mut after = row.value.number.as_ref().and_then(|number| number.parse::<i64>().ok());
    loop {
        let page = Page { after, limit: 20 };
        let found = store.invoices(scope, (row.shard_key, row.customer_id), page).await?;
        let Some(last) = found.last() else { return Ok(None) };
        after = last.value.number.as_ref().and_then(|number| number.parse().ok());
        let same = |other: &BillingRow<Invoice>| other.value.currency == row.value.currency;
        if let Some(found) = found.into_iter().find(same) {
            return Ok(Some(found.value));
        }
    }
}

impl Document {
    /// What is left to pay: the last of the totals.
    #[must_use]
    pub fn due(&self) -> &str {
        self.totals.last().map_or("", |total| &total.amount)
    }

    /// The document of an invoice. The buyer is named by its profile, and by the caller's own id where that says nothing.
    #[must_use]
    pub fn of(seller: &Seller, zone: &TimeZone, found: &Found) -> Self {
        let (invoice, notes) = (&found.row.value, &found.credit_notes);
        let currency = &invoice.currency;
        let number = invoice.number.as_ref().map(|number| seller.invoice_number(number));
        Self {
            state: invoice.standing.state,
            state_name: state_name(invoice.standing.state),
            seller: seller_party(seller),
            buyer: buyer_party(&found.row.external_id, &found.profile),
            facts: facts(invoice, number.as_deref(), zone),
            headline: headline(invoice, zone),
            currency: currency.to_string(),
            rows: invoice.lines.iter().map(|line| row(line, invoice, zone)).collect(),
            totals: totals(invoice),
            credits: notes.iter().map(|note| credit(note, zone)).collect(),
            remarks: remarks(invoice, seller),
            footer: seller.footer.clone(),
            accent: seller.accent,
            made_at: invoice.created_at,
            number,
        }
    }
}

fn state_name(state: InvoiceState) -> &'static str {
    match state {
        InvoiceState::Draft => "Draft",
        InvoiceState::Open => "Open",
        InvoiceState::Paid => "Paid",
        InvoiceState::Void => "Void",
        InvoiceState::Uncollectible => "Uncollectible",
    }
}

fn seller_party(seller: &Seller) -> Party {
    let mut lines = seller.address.clone();
    lines.extend(seller.email.clone());
    lines.extend(seller.phone.clone());
    lines.extend(seller.website.clone());
    lines.extend(seller.tax_id.clone());
    Party { name: seller.name.clone(), lines }
}

fn buyer_party(external_id: &str, profile: &Profile) -> Party {
    let mut lines = profile.address.clone();
    lines.extend(profile.email.clone());
    lines.extend(profile.tax_id.clone());
    Party { name: profile.name.clone().unwrap_or_else(|| external_id.to_owned()), lines }
}

fn facts(invoice: &Invoice, number: Option<&str>, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(number.map(|number| ("Invoice number", number.to_owned())));
    facts.push(("Date of issue", day(invoice.created_at, zone)));
    if matches!(invoice.standing.state, InvoiceState::Open | InvoiceState::Uncollectible) {
        facts.push(("Date due", day(invoice.due_at, zone)));
    }
    facts.push(("Period", days(invoice.period, zone)));
    facts.push(("Currency", invoice.currency.to_string()));
    facts
}

fn headline(invoice: &Invoice, zone: &TimeZone) -> String {
    let (standing, currency) = (&invoice.standing, &invoice.currency);
    let changed = day(standing.changed_at, zone);
    match standing.state {
        InvoiceState::Draft => format!("{} expected on {}", sum(standing.due, currency), day(invoice.created_at, zone)),
        InvoiceState::Open => format!("{} due {}", sum(standing.due, currency), day(invoice.due_at, zone)),
        InvoiceState::Paid if standing.paid > 0 => format!("{} paid on {changed}", sum(standing.paid, currency)),
        InvoiceState::Paid => "Nothing to pay".to_owned(),
        InvoiceState::Void => format!("Void since {changed}: nothing to pay"),
        InvoiceState::Uncollectible => format!("{} was due {}", sum(standing.due, currency), day(invoice.due_at, zone)),
    }
}

fn row(line: &Line, invoice: &Invoice, zone: &TimeZone) -> Row {
    let counted = !line.unit_price.is_empty();
    let mut details = Vec::new();
    if let Some(period) = line.period.filter(|period| *period != invoice.period || is_periodic(line)) {
        details.push(days(period, zone));
    }
    if let LineKind::Usage { late, .. } = &line.kind
        && *late
    {
        details.push("used in an earlier period".to_owned());
    }
    if let Some(note) = covered_note(line, &invoice.currency) {
        details.push(note);
    }
    if line.discount != 0 {
        let code = invoice.coupon.as_ref().map(|coupon| format!(" ({})", coupon.code)).unwrap_or_default();
        details.push(format!("less {}{code}", sum(line.discount, &invoice.currency)));
    }
    Row {
        title: line.title.to_string(),
        detail: (!details.is_empty()).then(|| details.join(" · ")),
        quantity: counted.then(|| quantity(line.quantity)),
        unit_price: counted.then(|| price(&line.unit_price, &invoice.currency)),
        amount: sum(line.minor, &invoice.currency),
    }
}

const fn is_periodic(line: &Line) -> bool {
    matches!(line.kind, LineKind::Fee { .. } | LineKind::AddOn { .. } | LineKind::Proration { .. })
}

/// Where credit covered a part of what was used, quantity times price is not the amount: that has to be said.
fn covered_note(line: &Line, currency: &Asset) -> Option<String> {
    let LineKind::Usage { priced, .. } = &line.kind else { return None };
    let covered = priced.minus(line.exact).ok().filter(|covered| !covered.is_zero() && !covered.is_negative())?;
    Some(format!("{} of {} was covered by credit", exact(covered, currency), exact(*priced, currency)))
}

fn totals(invoice: &Invoice) -> Vec<Total> {
    let currency = &invoice.currency;
    let line = |label: String, minor: i64| Total { label, amount: sum(minor, currency), strong: false };
    let strong =
        |label: &str, minor: i64| Total { label: label.to_owned(), amount: sum(minor, currency), strong: true };
    let mut totals = vec![line("Subtotal".to_owned(), invoice.subtotal)];
    if invoice.discount != 0 {
        let code = invoice.coupon.as_ref().map(|coupon| format!(" ({})", coupon.code)).unwrap_or_default();
        totals.push(line(format!("Discount{code}"), -invoice.discount));
    }
    let taxes = taxes_by_rate(&invoice.lines);
    for ((inclusive, name, percent), (base, tax)) in &taxes {
        if !inclusive {
            totals.push(line(format!("{name} {percent} % on {}", sum(*base, currency)), *tax));
        }
    }
    totals.push(strong("Total", invoice.total));
    for ((inclusive, name, percent), (base, tax)) in &taxes {
        if *inclusive {
            totals.push(line(format!("Includes {name} {percent} % of {}", sum(*base, currency)), *tax));
        }
    }
    let standing = &invoice.standing;
    for (label, minor) in
        [("Carried to the next invoice", -invoice.carried), ("Credited", -standing.credited), ("Paid", -standing.paid)]
    {
        if minor != 0 {
            totals.push(line(label.to_owned(), minor));
        }
    }
    totals.push(strong("Amount due", standing.due));
    totals
}

/// Inclusive, name, percent; then what it is on and how much it is.
type Taxes = BTreeMap<(bool, String, String), (i64, i64)>;

/// The taxes of an invoice by rate, each with what it is on, without any tax.
#[must_use]
pub fn taxes_by_rate(lines: &[Line]) -> Taxes {
    let mut taxes = Taxes::new();
    for line in lines {
        let net = net(line);
        for tax in &line.taxes {
            let key = (tax.inclusive, tax.name.to_string(), tax.percent.to_string());
            let (base, minor) = taxes.entry(key).or_default();
            *base = base.saturating_add(net);
            *minor = minor.saturating_add(tax.minor);
        }
    }
    taxes
}

/// What a line comes to without any tax: less its discount, and less the taxes that its amount contains.
#[must_use]
pub fn net(line: &Line) -> i64 {
    let contained = line.taxes.iter().filter(|tax| tax.inclusive).map(|tax| tax.minor);
    contained.fold(line.minor.saturating_sub(line.discount), i64::saturating_sub)
}

fn credit(note: &CreditNote, zone: &TimeZone) -> Credit {
    let given = if note.to_balance { "to your credit on the next invoice" } else { "off this invoice" };
    let reason = note.reason.as_deref().map_or_else(|| given.to_owned(), |reason| format!("{reason}, {given}"));
    Credit { date: day(note.created_at, zone), reason, amount: sum(-note.minor, &note.currency) }
}

fn remarks(invoice: &Invoice, seller: &Seller) -> Vec<String> {
    let mut remarks = Vec::new();
    let carried = sum(invoice.carried.saturating_abs(), &invoice.currency);
    match invoice.carried {
        0 => {}
        1.. => {
            remarks.push(format!("{carried} is too little to be collected on its own and goes to the next invoice."))
        }
        _ => remarks.push(format!("{carried} is in your favour and comes off the next invoice.")),
    }
    if invoice.standing.state == InvoiceState::Open
        && let Some(email) = &seller.email
    {
        remarks.push(format!("Questions about this invoice? Write to {email}."));
    }
    remarks
}

/// The address of the page of an invoice: whole where the tenant file says where this server is reached, and otherwise a path
/// on it.
#[must_use]
pub fn page_address(seller: &Seller, key: &PageKey, invoice: OperationRef) -> String {
    format!("{}/invoices/{}", seller.url.as_deref().unwrap_or_default(), key.token(invoice))
}

/// The name under which browsers keep the PDF.
#[must_use]
pub fn file_name(document: &Document) -> HeaderValue {
    let number = document.number.as_deref().unwrap_or("draft");
    let plain: String = number.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    HeaderValue::try_from(format!("inline; filename=\"invoice-{plain}.pdf\""))
        .unwrap_or_else(|_| HeaderValue::from_static("inline"))
}
