//! The PDF of an invoice, as text and as bytes. To look at the pages, name a directory:
//! `INVOICE_SAMPLES=samples cargo test -p farthing --test it -- invoice_documents`.

use std::collections::HashMap;

use engine::invoice::{CreditNote, Invoice, InvoiceReason, InvoiceState, Line, LineKind, Standing};
use engine::tax::{LineTax, taxes};
use engine::{Asset, Coupon, CouponDuration, Discount, Micros, Period, Profile, TaxRate};
use farthing::config::Seller;
use farthing::document::{self, Document, Found};
use farthing::store::BillingRow;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn march() -> Period {
    Period { start: at("2026-03-02T09:00:00Z"), end: at("2026-04-02T09:00:00Z") }
}

fn seller() -> Seller {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    Seller {
        address: lines(&["Musterstraße 1", "10115 Berlin", "Germany"]),
        email: Some("billing@acme.example".to_owned()),
        phone: Some("+49 30 123456".to_owned()),
        tax_id: Some("VAT ID DE123456789".to_owned()),
        website: Some("acme.example".to_owned()),
        footer: Some(
            "Payable without deduction within 14 days. Bank: IBAN DE02 1203 0000 0000 2020 51. Acme Words GmbH, Amtsgericht \
             Berlin-Charlottenburg HRB 1234, managing director Ada Lovelace."
                .to_owned(),
        ),
        invoice_prefix: "ACME-".to_owned(),
        ..Seller::named("Acme Words GmbH")
    }
}

fn buyer() -> Profile {
    Profile {
        name: Some("Jane & Söhne Übersetzungen".to_owned()),
        email: Some("accounts@jane.example".to_owned()),
        address: vec!["1 Main Street".to_owned(), "Springfield 12345".to_owned()],
        tax_id: Some("VAT ID AT U12345678".to_owned()),
        ..Profile::default()
    }
}

fn line(kind: LineKind, title: &str, quantity: &str, unit_price: &str, minor: i64) -> Line {
    Line {
        kind,
        title: title.into(),
        quantity: quantity.parse().expect("a quantity"),
        unit_price: unit_price.to_owned(),
        period: Some(march()),
        exact: Micros::new(minor * 10_000),
        minor,
        discount: 0,
        taxes: Vec::new(),
    }
}

fn fee(minor: i64, price: &str) -> Line {
    line(LineKind::Fee { plan: "pro-1".into() }, "Pro", "1", price, minor)
}

fn usage(meter: &str, quantity: &str, price: &str, minor: i64) -> Line {
    let kind = LineKind::Usage {
        meter: meter.into(),
        price: Some("v1".into()),
        priced: Micros::new(minor * 10_000 + 12_340_000),
        late: false,
        used_in: march().start,
        since: 1,
    };
    line(kind, meter, quantity, price, minor)
}

fn rate(percent: &str, inclusive: bool) -> TaxRate {
    TaxRate { name: "VAT".into(), percent: percent.parse().expect("a rate"), inclusive }
}

/// An invoice of these lines, with a coupon of ten percent where it is wanted.
fn invoice(currency: &str, mut lines: Vec<Line>, rates: &[TaxRate], coupon: bool) -> Invoice {
    for line in &mut lines {
        line.discount = if coupon { line.minor / 10 } else { 0 };
        line.taxes = taxes(rates, line.minor - line.discount).expect("it fits");
    }
    let total: i64 = lines.iter().map(|line| line.total().expect("it fits")).sum();
    let discount = Discount::Percent("10".parse().expect("a rate"));
    Invoice {
        id: Uuid::from_u128(7),
        number: Some("42".into()),
        subscription: None,
        reason: InvoiceReason::Renewal,
        currency: Asset::new(currency),
        period: march(),
        coupon: coupon.then(|| Coupon { code: "WELCOME".into(), discount, duration: CouponDuration::Forever }),
        subtotal: lines.iter().map(|line| line.minor).sum(),
        discount: lines.iter().map(|line| line.discount).sum(),
        tax: lines.iter().flat_map(|line| &line.taxes).map(|tax: &LineTax| tax.minor).sum(),
        total,
        carried: 0,
        lines,
        position: 9,
        created_at: at("2026-04-02T09:00:00Z"),
        due_at: at("2026-04-16T09:00:00Z"),
        standing: Standing {
            state: InvoiceState::Open,
            due: total,
            paid: 0,
            credited: 0,
            attempts: 0,
            next_attempt_at: None,
            payment: None,
            provider_reference: None,
            changed_at: at("2026-04-05T09:00:00Z"),
        },
    }
}

fn document(invoice: Invoice, profile: Profile, credit_notes: Vec<CreditNote>) -> Document {
    let row = BillingRow { external_id: "jane".to_owned(), customer_id: Uuid::nil(), shard_key: 7, value: invoice };
    Document::of(&seller(), &TimeZone::UTC, &Found { row, profile, credit_notes })
}

fn paid(mut invoice: Invoice) -> Invoice {
    invoice.standing.paid = invoice.standing.due;
    (invoice.standing.due, invoice.standing.state) = (0, InvoiceState::Paid);
    invoice
}

fn credit_note(minor: i64, reason: &str) -> CreditNote {
    CreditNote {
        id: Uuid::from_u128(8),
        invoice: Uuid::from_u128(7),
        minor,
        tax: 0,
        currency: Asset::new("USD"),
        reason: Some(reason.into()),
        to_balance: false,
        position: 10,
        created_at: at("2026-04-05T09:00:00Z"),
    }
}

/// Invoices of every kind that looks different.
fn samples() -> Vec<(&'static str, Document)> {
    let simple = || invoice("USD", vec![fee(2_000, "20 USD")], &[], false);
    let full = || {
        let mut debt = line(LineKind::Debt, "Fractions, and what is owed besides", "1", "", 1);
        debt.period = None;
        let mut late = usage("storage", "12.5", "graduated in 2 tiers", 545);
        if let LineKind::Usage { late: is_late, .. } = &mut late.kind {
            *is_late = true;
        }
        late.period = None;
        let lines = vec![usage("words", "5108", "0.001 USD", 510), late, debt, fee(2_000, "20 USD")];
        invoice("USD", lines, &[rate("19", false)], true)
    };
    let many: Vec<Line> = (1..=60)
        .map(|number| usage(&format!("tokens of model {number}"), "1234567", "0.15 USD per 1000000", 100 + number))
        .collect();
    let mut void = simple();
    (void.standing.due, void.standing.state) = (0, InvoiceState::Void);
    let long = "An exceedingly long description of what was sold, with a Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen \
                in it, Ελληνικά and Кириллица, which goes on for some lines";
    let mut lengthy = vec![fee(123_456_789_012, "1234567890.12 USD")];
    lengthy.push(line(LineKind::Item { item: Uuid::nil() }, long, "3", "2.9 % and 0.3 USD for each of them", -4_200));
    let names = Profile { name: Some(format!("{long} & Sons")), ..buyer() };
    let mut credited = full();
    credited.standing.due -= 500;
    credited.standing.credited = 500;
    let mut small = invoice("USD", vec![usage("words", "308", "0.001 USD", 30)], &[], false);
    (small.carried, small.standing.due, small.standing.state) = (30, 0, InvoiceState::Paid);
    vec![
        ("one_line", document(simple(), buyer(), Vec::new())),
        ("full", document(full(), buyer(), Vec::new())),
        ("many", document(invoice("USD", many, &[rate("20", false)], false), buyer(), Vec::new())),
        (
            "inclusive",
            document(
                invoice("EUR", vec![fee(11_900, "119 EUR")], &[rate("19", true), rate("2", false)], true),
                buyer(),
                Vec::new(),
            ),
        ),
        (
            "yen",
            document(invoice("JPY", vec![fee(2_000, "2000 JPY")], &[rate("10", false)], false), buyer(), Vec::new()),
        ),
        ("dinar", document(invoice("KWD", vec![fee(1_500, "1.5 KWD")], &[], false), Profile::default(), Vec::new())),
        ("paid", document(paid(full()), buyer(), Vec::new())),
        ("void", document(void, buyer(), Vec::new())),
        ("long", document(invoice("USD", lengthy, &[rate("8.875", false)], false), names, Vec::new())),
        (
            "credited",
            document(credited, buyer(), vec![credit_note(300, "an outage on Monday"), credit_note(200, long)]),
        ),
        ("carried", document(small, buyer(), Vec::new())),
    ]
}

/// The streams of a PDF, unpacked.
fn streams(pdf: &[u8]) -> Vec<Vec<u8>> {
    let find = |from: usize, what: &[u8]| {
        pdf[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let mut streams = Vec::new();
    let mut from = 0;
    while let Some(start) = find(from, b"stream\n").map(|at| at + 7) {
        let end = find(start, b"\nendstream").expect("a stream ends");
        if let Ok(stream) = miniz_oxide::inflate::decompress_to_vec_zlib(&pdf[start..end]) {
            streams.push(stream);
        }
        from = end + 10;
    }
    streams
}

/// Bytes of the strings that a content stream shows, each with the font.
fn shown(content: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut shown = Vec::new();
    let (mut font, mut at) = (b'R', 0);
    while at < content.len() {
        match content[at] {
            b'/' => font = content[at + 1],
            b'<' => {
                let end = at + content[at..].iter().position(|byte| *byte == b'>').expect("a string ends");
                let digits = std::str::from_utf8(&content[at + 1..end]).expect("digits");
                let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
                shown.push((font, (0..digits.len()).step_by(2).map(byte).collect()));
                at = end;
            }
            b'(' => {
                let mut text = Vec::new();
                at += 1;
                let mut depth = 0;
                while content[at] != b')' || depth > 0 {
                    match content[at] {
                        b'\\' => {
                            at += 1;
                            let octal = content.get(at..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                            if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
                                text.push(byte);
                                at += 3;
                                continue;
                            }
                            text.push(match content[at] {
                                b'n' => b'\n',
                                b'r' => b'\r',
                                b't' => b'\t',
                                b'b' => 8,
                                b'f' => 12,
                                other => other,
                            });
                        }
                        byte => {
                            depth += i32::from(byte == b'(') - i32::from(byte == b')');
                            text.push(byte);
                        }
                    }
                    at += 1;
                }
                shown.push((font, text));
            }
            _ => {}
        }
        at += 1;
    }
    shown
}

/// The text of a PDF of ours, a line for each string; the fonts' own tables say which glyph is which letter.
pub(crate) fn text_of(pdf: &[u8]) -> String {
    let streams = streams(pdf);
    let is_table = |stream: &&Vec<u8>| stream.starts_with(b"%!PS");
    let mut tables = streams.iter().filter(is_table).map(|table| {
        let table = String::from_utf8_lossy(table).into_owned();
        let pairs = table.lines().filter_map(|line| {
            let (glyph, letter) = line.strip_prefix('<')?.strip_suffix('>')?.split_once("> <")?;
            let letter = char::from_u32(u32::from_str_radix(letter, 16).ok()?)?;
            Some((u16::from_str_radix(glyph, 16).ok()?, letter))
        });
        pairs.collect::<HashMap<u16, char>>()
    });
    let fonts = [(b'R', tables.next().expect("a font")), (b'S', tables.next().expect("a font"))];
    let fonts: HashMap<u8, HashMap<u16, char>> = fonts.into();
    let mut text = String::new();
    for content in streams.iter().filter(|stream| stream.windows(3).any(|part| part == b"BT\n")) {
        for (font, glyphs) in shown(content) {
            let letter =
                |pair: &[u8]| fonts[&font].get(&u16::from_be_bytes([pair[0], pair[1]])).copied().unwrap_or('?');
            text.extend(glyphs.chunks_exact(2).map(letter));
            text.push('\n');
        }
    }
    text
}

#[test]
fn every_kind_of_invoice_becomes_a_pdf() {
    let directory = std::env::var("INVOICE_SAMPLES").ok();
    for (name, document) in samples() {
        let pdf = document::pdf(&document);
        assert!(pdf.starts_with(b"%PDF-1.7") && pdf.ends_with(b"%%EOF"), "{name}");
        assert_eq!(document::pdf(&document), pdf, "{name}: the same document is the same file");
        if let Some(directory) = &directory {
            std::fs::write(format!("{directory}/{name}.pdf"), &pdf).expect("the sample is written");
        }
        let text = text_of(&pdf);
        let due = document.totals.last().expect("what is due");
        for wanted in ["ACME-42", "Acme Words GmbH", &due.amount, "Amount due", "Page 1 of "] {
            assert!(text.contains(wanted), "{name} has no {wanted}:\n{text}");
        }
        for row in &document.rows {
            assert!(text.contains(&row.amount), "{name} has no {}:\n{text}", row.amount);
        }
        assert!(pdf.len() < 100_000, "{name}: only the glyphs that are used go into it: {}", pdf.len());
    }
}

#[test]
fn what_a_document_says() {
    let of = |name: &str| samples().into_iter().find(|(known, _)| *known == name).expect("a sample").1;
    let totals = |name: &str| {
        let lines = of(name).totals.into_iter().map(|total| format!("{}: {}", total.label, total.amount));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        totals("full"),
        [
            "Subtotal: $30.56",
            "Discount (WELCOME): −$3.05",
            "VAT 19 % on $27.51: $5.22",
            "Total: $32.73",
            "Amount due: $32.73"
        ]
    );
    assert_eq!(
        totals("inclusive"),
        [
            "Subtotal: €119.00",
            "Discount (WELCOME): −€11.90",
            "VAT 2 % on €90.00: €1.80",
            "Total: €108.90",
            "Includes VAT 19 % of €90.00: €17.10",
            "Amount due: €108.90"
        ]
    );
    assert_eq!(totals("yen")[3], "Amount due: ¥2,200");
    assert_eq!(totals("dinar")[2], "Amount due: KWD\u{a0}1.500");
    assert_eq!(totals("paid")[4..], ["Paid: −$32.73", "Amount due: $0.00"]);
    assert_eq!(totals("carried")[2..], ["Carried to the next invoice: −$0.30", "Amount due: $0.00"]);
    assert_eq!(of("dinar").buyer.name, "jane", "the caller's own id, where nobody said a name");
    assert_eq!(of("void").headline, "Void since 5 April 2026: nothing to pay");
    let text = text_of(&document::pdf(&of("many")));
    assert!(text.contains("Page 4 of 4") && text.contains("Invoice ACME-42, continued"), "{text}");
    assert_eq!(text.matches("Unit price").count(), 4, "the head of the table is on each page: {text}");
    let text = text_of(&document::pdf(&of("long")));
    assert!(text.contains("Ελληνικά") && text.contains("Кириллица"), "{text}");
}
