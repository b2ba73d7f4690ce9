//! `[seller]`: who the tenant is on its invoices, and how they look.

use toml::Spanned;

use super::section::Section;

const LONGEST_LINE: usize = 120;
const LONGEST_FOOTER: usize = 600;
const LONGEST_PREFIX: usize = 20;
const MOST_ADDRESS_LINES: usize = 6;

/// A dark blue.
const USUAL_ACCENT: [u8; 3] = [0x1d, 0x4e, 0x89];

/// Who sends the invoices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seller {
    /// Its name; the tenant's where nothing is said.
    pub name: String,
    /// The lines of its postal address.
    pub address: Vec<String>,
    /// Where customers write to.
    pub email: Option<String>,
    /// Where customers call.
    pub phone: Option<String>,
    /// What the tax office knows it by, with its kind: `VAT ID DE123456789`.
    pub tax_id: Option<String>,
    /// Its website, as it is printed.
    pub website: Option<String>,
    /// Terms and whatever else stands at the foot of each page.
    pub footer: Option<String>,
    /// What is before the number of an invoice: `INV-`.
    pub invoice_prefix: String,
    /// The colour of rules and buttons: red, green and blue.
    pub accent: [u8; 3],
    /// Where the world reaches this server (`https://billing.example.com`), so that links to invoices are whole.
    pub url: Option<String>,
}

impl Seller {
    /// A seller of whom only the name is known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: Vec::new(),
            email: None,
            phone: None,
            tax_id: None,
            website: None,
            footer: None,
            invoice_prefix: String::new(),
            accent: USUAL_ACCENT,
            url: None,
        }
    }

    /// The number of an invoice as people read it.
    #[must_use]
    pub fn invoice_number(&self, number: &str) -> String {
        format!("{}{number}", self.invoice_prefix)
    }
}

/// Reads `[seller]`.
pub(crate) fn read_seller(root: &mut Section<'_>, tenant: Option<&str>) -> Seller {
    let mut seller = Seller::named(tenant.unwrap_or_default());
    let Some(mut section) = root.section("seller", "[seller]") else { return seller };
    if let Some(name) = line(&mut section, "name", LONGEST_LINE) {
        seller.name = name;
    }
    let address = section.texts("address");
    if let Some(more) = address.get(MOST_ADDRESS_LINES) {
        section.problems.add(more.span().start, "the address of [seller] is too long", "keep it to 6 lines");
    }
    for text in address {
        seller.address.extend(checked(&section, "address", &text, LONGEST_LINE));
    }
    seller.email = line(&mut section, "email", LONGEST_LINE);
    seller.phone = line(&mut section, "phone", LONGEST_LINE);
    seller.tax_id = line(&mut section, "tax_id", LONGEST_LINE);
    seller.website = line(&mut section, "website", LONGEST_LINE);
    seller.footer = line(&mut section, "footer", LONGEST_FOOTER);
    seller.invoice_prefix = line(&mut section, "invoice_prefix", LONGEST_PREFIX).unwrap_or_default();
    seller.accent = accent(&mut section).unwrap_or(USUAL_ACCENT);
    seller.url = url(&mut section);
    section.finish();
    seller
}

fn line(section: &mut Section<'_>, field: &'static str, most: usize) -> Option<String> {
    let text = section.text(field)?;
    checked(section, field, &text, most)
}

fn checked(section: &Section<'_>, field: &str, text: &Spanned<&str>, most: usize) -> Option<String> {
    let long = text.get_ref().chars().count() > most;
    if long || text.get_ref().chars().any(char::is_control) {
        let problem = format!("`{field}` in [seller] is too long, or not one line");
        section.problems.add(text.span().start, problem, format!("keep it to {most} characters without line breaks"));
        return None;
    }
    Some((*text.get_ref()).to_owned())
}

/// `#1d4e89`
fn accent(section: &mut Section<'_>) -> Option<[u8; 3]> {
    let text = section.text("accent")?;
    let digits = text.get_ref().strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
    let part = |from: usize| u8::from_str_radix(digits?.get(from..from + 2)?, 16).ok();
    let colour = part(0).zip(part(2)).zip(part(4)).map(|((red, green), blue)| [red, green, blue]);
    if colour.is_none() {
        let problem = format!("`accent` in [seller] is `{}`", text.get_ref());
        section.problems.add(text.span().start, problem, "write a colour like `#1d4e89`");
    }
    colour
}

fn url(section: &mut Section<'_>) -> Option<String> {
    let text = section.text("url")?;
    let rest = text.get_ref().strip_prefix("https://").or_else(|| text.get_ref().strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    if !rest.is_some_and(plain) || text.get_ref().contains(['?', '#', '"', '<']) {
        let problem = format!("`url` in [seller] is `{}`", text.get_ref());
        section.problems.add(text.span().start, problem, "write an address like `https://billing.example.com`");
        return None;
    }
    Some(text.get_ref().trim_end_matches('/').to_owned())
}
