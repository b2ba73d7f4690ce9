//! The PDF of an invoice: A4, laid out here from top to bottom, with the head of the table again on each sheet. The same
//! document makes the same bytes, whenever and wherever it is made.

mod face;
mod sheet;

use engine::invoice::InvoiceState;

use super::{Document, Party, Row};
use face::Weight::{Regular, SemiBold};
use sheet::{About, Colour, GREY, HAIR, HEIGHT, INK, Sheets, Style, WIDTH};

const LEFT: i32 = 520;
const RIGHT: i32 = WIDTH - 520;
/// Where the table's sheet ends; below it is the foot.
const BOTTOM: i32 = HEIGHT - 830;
/// Where the columns of figures end, and how wide the first and the third are.
const QUANTITY: i32 = 3420;
const UNIT_PRICE: i32 = 4480;
const DESCRIPTION_WIDTH: i32 = 2240;
const UNIT_PRICE_WIDTH: i32 = 1000;
/// Where the labels of totals begin.
const TOTALS: i32 = 2900;

const HEADING: Style = Style { weight: SemiBold, size: 260, colour: INK };
const NAME: Style = Style { weight: SemiBold, size: 120, colour: INK };
const HEADLINE: Style = Style { weight: SemiBold, size: 150, colour: INK };
const BODY: Style = Style { weight: Regular, size: 92, colour: INK };
const BODY_STRONG: Style = Style { weight: SemiBold, size: 92, colour: INK };
const SMALL: Style = Style { weight: Regular, size: 80, colour: GREY };
const LABEL: Style = Style { weight: Regular, size: 86, colour: GREY };
const FOOT: Style = Style { weight: Regular, size: 74, colour: GREY };

const GREEN: Colour = [0x15, 0x7f, 0x4b];
const PALE_RED: Colour = [0xf6, 0xdc, 0xdc];

/// The PDF of a document.
#[must_use]
pub fn pdf(document: &Document) -> Vec<u8> {
    let mut layout = Layout { document, sheets: Sheets::new(), y: 0 };
    layout.begin();
    layout.table();
    layout.totals();
    layout.credits();
    layout.remarks();
    layout.feet();
    let made = document.made_at.to_zoned(jiff::tz::TimeZone::UTC);
    let two = |value: i8| u8::try_from(value).unwrap_or_default();
    let time = [made.month(), made.day(), made.hour(), made.minute(), made.second()].map(two);
    let about = About {
        title: &layout.title(),
        author: &document.seller.name,
        made_at: (u16::try_from(made.year()).unwrap_or_default(), time),
    };
    layout.sheets.finish(&about)
}

struct Layout<'a> {
    document: &'a Document,
    sheets: Sheets,
    /// How far down the last sheet is filled.
    y: i32,
}

impl Layout<'_> {
    fn title(&self) -> String {
        match &self.document.number {
            Some(number) => format!("Invoice {number}"),
            None => "Draft invoice".to_owned(),
        }
    }

    /// Begins a sheet; the watermark lies below everything else on it.
    fn turn(&mut self) {
        self.sheets.turn();
        let mark = match self.document.state {
            InvoiceState::Void => "VOID",
            InvoiceState::Draft => "DRAFT",
            _ => "",
        };
        if !mark.is_empty() {
            let sheet = self.sheets.count() - 1;
            let colour = if mark == "VOID" { PALE_RED } else { HAIR };
            self.sheets.across(sheet, mark, colour);
        }
        self.sheets.block(0, 0, WIDTH, 70, self.document.accent);
    }

    /// Begins a further sheet, with the title and the head of the table where it goes on.
    fn next_sheet(&mut self, with_table: bool) {
        self.turn();
        let title = format!("{}, continued", self.title());
        self.sheets.text(LEFT, 520, &title, BODY_STRONG);
        let name = self.document.seller.name.clone();
        self.sheets.text_to(RIGHT, 520, &name, LABEL);
        self.y = 760;
        if with_table {
            self.table_head();
        }
    }

    /// The first sheet down to the table: title and facts, both parties, what is to be done.
    fn begin(&mut self) {
        self.turn();
        let heading = if self.document.number.is_some() { "Invoice" } else { "Draft invoice" };
        self.sheets.text(LEFT, 700, heading, HEADING);
        let seller = self.sheets.wrap(&self.document.seller.name, NAME, 2400);
        for (at, line) in (0..).zip(&seller) {
            self.sheets.text_to(RIGHT, 610 + at * 150, line, NAME);
        }
        let facts_end = self.facts(970);
        let parties = facts_end.max(610 + 150 * i32::try_from(seller.len()).unwrap_or_default()) + 270;
        let from = self.party(LEFT, parties, 2300, "From", &self.document.seller);
        let to = self.party(3080, parties, 2300, "Bill to", &self.document.buyer);
        self.y = from.max(to) + 330;
        self.headline();
    }

    /// The facts from this height on; where they end.
    fn facts(&mut self, top: i32) -> i32 {
        let labels = self.document.facts.iter().map(|(label, _)| self.sheets.width(label, LABEL));
        let values = LEFT + labels.max().unwrap_or_default() + 160;
        let mut y = top;
        for (label, value) in &self.document.facts {
            self.sheets.text(LEFT, y, label, LABEL);
            for line in self.sheets.wrap(value, BODY, RIGHT - values) {
                self.sheets.text(values, y, &line, BODY);
                y += 135;
            }
        }
        y
    }

    /// A party; where it ends.
    fn party(&mut self, left: i32, top: i32, width: i32, label: &str, party: &Party) -> i32 {
        self.sheets.text(left, top, label, LABEL);
        let mut y = top + 160;
        for line in self.sheets.wrap(&party.name, BODY_STRONG, width) {
            self.sheets.text(left, y, &line, BODY_STRONG);
            y += 130;
        }
        for line in party.lines.iter().flat_map(|line| self.sheets.wrap(line, BODY, width)).collect::<Vec<_>>() {
            self.sheets.text(left, y, &line, BODY);
            y += 130;
        }
        y
    }

    fn headline(&mut self) {
        let stamp = match self.document.state {
            InvoiceState::Paid => Some(("PAID", GREEN)),
            InvoiceState::Uncollectible => Some(("UNCOLLECTIBLE", GREY)),
            _ => None,
        };
        let headline = self.document.headline.clone();
        self.sheets.text(LEFT, self.y, &headline, HEADLINE);
        if let Some((word, colour)) = stamp {
            let style = Style { weight: SemiBold, size: 110, colour };
            let width = self.sheets.width(word, style) + 180;
            self.sheets.frame(RIGHT - width, self.y - 145, width, 200, colour);
            self.sheets.text(RIGHT - width + 90, self.y - 7, word, style);
        }
        self.y += 280;
    }

    fn table_head(&mut self) {
        for (right, label) in [(QUANTITY, "Quantity"), (UNIT_PRICE, "Unit price"), (RIGHT, "Amount")] {
            self.sheets.text_to(right, self.y, label, SMALL);
        }
        self.sheets.text(LEFT, self.y, "Description", SMALL);
        self.y += 60;
        self.sheets.rule(LEFT, RIGHT, self.y, 10, self.document.accent);
        self.y += 10;
    }

    fn table(&mut self) {
        self.table_head();
        for row in &self.document.rows {
            self.row(row);
        }
    }

    /// A line of the table, never torn apart, unless it is longer than a sheet.
    fn row(&mut self, row: &Row) {
        let titles = self.sheets.wrap(&row.title, BODY, DESCRIPTION_WIDTH);
        let details =
            row.detail.as_ref().map_or_else(Vec::new, |detail| self.sheets.wrap(detail, SMALL, DESCRIPTION_WIDTH));
        let prices =
            row.unit_price.as_ref().map_or_else(Vec::new, |price| self.sheets.wrap(price, BODY, UNIT_PRICE_WIDTH));
        let lines = |list: &[String], each: i32| i32::try_from(list.len()).unwrap_or_default() * each;
        let height = (lines(&titles, 130) + lines(&details, 112)).max(lines(&prices, 130)) + 110;
        if self.y + height > BOTTOM && self.y > 1000 {
            self.next_sheet(true);
        }
        let first = self.y + 148;
        let mut y = first;
        for title in &titles {
            self.sheets.text(LEFT, y, title, BODY);
            y += 130;
        }
        y -= 8;
        for detail in &details {
            self.sheets.text(LEFT, y, detail, SMALL);
            y += 112;
        }
        if let Some(quantity) = &row.quantity {
            self.sheets.text_to(QUANTITY, first, quantity, BODY);
        }
        for (at, price) in (0..).zip(&prices) {
            self.sheets.text_to(UNIT_PRICE, first + at * 130, price, BODY);
        }
        self.sheets.text_to(RIGHT, first, &row.amount, BODY);
        self.y += height;
        self.sheets.rule(LEFT, RIGHT, self.y, 4, HAIR);
    }

    /// Leaves for the next sheet where what follows would not fit on this one.
    fn keep_together(&mut self, height: i32) {
        if self.y + height > BOTTOM {
            self.next_sheet(false);
        }
    }

    fn totals(&mut self) {
        let rows = i32::try_from(self.document.totals.len()).unwrap_or_default();
        self.keep_together(rows * 175 + 150);
        self.y += 60;
        let last = self.document.totals.len().saturating_sub(1);
        for (at, total) in self.document.totals.iter().enumerate() {
            let (label, amount) = if total.strong { (BODY_STRONG, BODY_STRONG) } else { (LABEL, BODY) };
            if at == last {
                self.sheets.rule(TOTALS, RIGHT, self.y + 45, 10, self.document.accent);
                self.y += 60;
            } else if total.strong {
                self.sheets.rule(TOTALS, RIGHT, self.y + 35, 4, HAIR);
                self.y += 25;
            }
            let space = RIGHT - TOTALS - self.sheets.width(&total.amount, amount) - 150;
            self.y += 145;
            let base = self.y;
            for (line, text) in (0..).zip(self.sheets.wrap(&total.label, label, space)) {
                self.y = base + line * 120;
                self.sheets.text(TOTALS, self.y, &text, label);
            }
            self.sheets.text_to(RIGHT, base, &total.amount, amount);
            self.y += 15;
        }
        self.y += 60;
    }

    fn credits(&mut self) {
        if self.document.credits.is_empty() {
            return;
        }
        let rows = i32::try_from(self.document.credits.len()).unwrap_or_default();
        self.keep_together((rows * 150 + 450).min(BOTTOM - 700));
        self.y += 260;
        self.sheets.text(LEFT, self.y, "Credit notes", BODY_STRONG);
        self.y += 70;
        self.sheets.rule(LEFT, RIGHT, self.y, 4, HAIR);
        for credit in &self.document.credits {
            let reasons = self.sheets.wrap(&credit.reason, BODY, 2700);
            self.keep_together(i32::try_from(reasons.len()).unwrap_or_default() * 130 + 60);
            self.y += 150;
            self.sheets.text(LEFT, self.y, &credit.date, BODY);
            self.sheets.text_to(RIGHT, self.y, &credit.amount, BODY);
            for (at, reason) in (0..).zip(&reasons) {
                self.y += if at == 0 { 0 } else { 130 };
                self.sheets.text(LEFT + 1300, self.y, reason, BODY);
            }
        }
        self.y += 60;
    }

    fn remarks(&mut self) {
        let lines: Vec<String> =
            self.document.remarks.iter().flat_map(|remark| self.sheets.wrap(remark, LABEL, RIGHT - LEFT)).collect();
        if lines.is_empty() {
            return;
        }
        self.keep_together(i32::try_from(lines.len()).unwrap_or_default() * 130 + 250);
        self.y += 250;
        for line in lines {
            self.sheets.text(LEFT, self.y, &line, LABEL);
            self.y += 130;
        }
    }

    /// The foot of every sheet: terms, who sends it, and which sheet it is.
    fn feet(&mut self) {
        let count = self.sheets.count();
        let terms =
            self.document.footer.as_ref().map_or_else(Vec::new, |footer| self.sheets.wrap(footer, FOOT, RIGHT - LEFT));
        let name = [Some(self.document.seller.name.clone()), self.document.number.clone()];
        let name = name.into_iter().flatten().collect::<Vec<_>>().join(" · ");
        for sheet in 0..count {
            let mut y = HEIGHT - 700;
            for line in terms.iter().take(4) {
                self.sheets.text_on(sheet, LEFT, y, line, FOOT);
                y += 100;
            }
            let page = format!("Page {} of {count}", sheet + 1);
            let width = self.sheets.width(&page, FOOT);
            self.sheets.text_on(sheet, RIGHT - width, HEIGHT - 290, &page, FOOT);
            self.sheets.text_on(sheet, LEFT, HEIGHT - 290, &name, FOOT);
        }
    }
}
