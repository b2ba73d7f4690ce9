//! Sheets: A4 pages that are drawn on in tenths of a point, counted from the upper left corner, so that every position is a
//! whole number; and the file that they make.

use pdf_writer::types::LineCapStyle;
use pdf_writer::{Content, Date, Filter, Name, Pdf, Rect, Ref, Str, TextStr};

use super::face::{Face, Weight};

/// The width of a sheet.
pub(super) const WIDTH: i32 = 5953;
/// The height of a sheet.
pub(super) const HEIGHT: i32 = 8419;

/// A colour: red, green and blue.
pub(super) type Colour = [u8; 3];

/// Black as ink is.
pub(super) const INK: Colour = [0x18, 0x1b, 0x20];
/// For what is less important.
pub(super) const GREY: Colour = [0x6b, 0x72, 0x80];
/// For rules between lines.
pub(super) const HAIR: Colour = [0xdd, 0xe1, 0xe6];

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) weight: Weight,
    /// In tenths of a point.
    pub(super) size: i32,
    pub(super) colour: Colour,
}

/// What a file says about itself.
pub(super) struct About<'a> {
    pub(super) title: &'a str,
    pub(super) author: &'a str,
    /// Year, month, day, hour, minute, second, in UTC.
    pub(super) made_at: (u16, [u8; 5]),
}

/// The sheets of a document.
pub(super) struct Sheets {
    regular: Face,
    semibold: Face,
    sheets: Vec<Content>,
}

impl Sheets {
    pub(super) fn new() -> Self {
        Self { regular: Face::new(Weight::Regular), semibold: Face::new(Weight::SemiBold), sheets: Vec::new() }
    }

    /// Begins a sheet.
    pub(super) fn turn(&mut self) {
        let mut content = Content::new();
        content.transform([0.1, 0.0, 0.0, 0.1, 0.0, 0.0]);
        self.sheets.push(content);
    }

    pub(super) fn count(&self) -> usize {
        self.sheets.len()
    }

    const fn face(&self, weight: Weight) -> &Face {
        match weight {
            Weight::Regular => &self.regular,
            Weight::SemiBold => &self.semibold,
        }
    }

    pub(super) fn width(&self, text: &str, style: Style) -> i32 {
        self.face(style.weight).width(text, style.size)
    }

    /// Breaks a text into lines of at most this width: between words, and within one that is wider than a line.
    pub(super) fn wrap(&self, text: &str, style: Style, most: i32) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = String::new();
        for word in text.split(' ') {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if self.width(&longer, style) <= most {
                line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for letter in word.chars() {
                line.push(letter);
                if self.width(&line, style) > most && line.chars().count() > 1 {
                    line.pop();
                    lines.push(std::mem::replace(&mut line, letter.to_string()));
                }
            }
        }
        if !line.is_empty() || lines.is_empty() {
            lines.push(line);
        }
        lines
    }

    /// Writes a text on the last sheet; `left` and `base` are where its first letter stands.
    pub(super) fn text(&mut self, left: i32, base: i32, text: &str, style: Style) {
        let last = self.sheets.len().saturating_sub(1);
        self.text_on(last, left, base, text, style);
    }

    /// The same, ending at `right`.
    pub(super) fn text_to(&mut self, right: i32, base: i32, text: &str, style: Style) {
        self.text(right - self.width(text, style), base, text, style);
    }

    /// The same, on a sheet that may be finished already.
    pub(super) fn text_on(&mut self, sheet: usize, left: i32, base: i32, text: &str, style: Style) {
        let (face, name) = match style.weight {
            Weight::Regular => (&mut self.regular, Name(b"R")),
            Weight::SemiBold => (&mut self.semibold, Name(b"S")),
        };
        let encoded = face.encode(text);
        let Some(content) = self.sheets.get_mut(sheet) else { return };
        fill(content, style.colour);
        content.begin_text().set_font(name, at(style.size)).next_line(at(left), at(HEIGHT - base));
        content.show(Str(&encoded)).end_text();
    }

    /// Writes a large text across the sheet, from the lower left to the upper right, for all to see.
    pub(super) fn across(&mut self, sheet: usize, text: &str, colour: Colour) {
        const SIZE: i32 = 1800;
        // Half of its width, along both sides of the sheet: the text rises by 45 degrees.
        let half = self.semibold.width(text, SIZE) * 354 / 1000;
        let encoded = self.semibold.encode(text);
        let Some(content) = self.sheets.get_mut(sheet) else { return };
        fill(content, colour);
        let (left, base) = (WIDTH / 2 - half + 430, HEIGHT / 2 - half - 430);
        content.begin_text().set_font(Name(b"S"), at(SIZE));
        content.set_text_matrix([0.707, 0.707, -0.707, 0.707, at(left), at(base)]);
        content.show(Str(&encoded)).end_text();
    }

    /// Fills a rectangle.
    pub(super) fn block(&mut self, left: i32, top: i32, width: i32, height: i32, colour: Colour) {
        let Some(content) = self.sheets.last_mut() else { return };
        fill(content, colour);
        content.rect(at(left), at(HEIGHT - top - height), at(width), at(height)).fill_nonzero();
    }

    /// Draws a rule from `left` to `right`, `thickness` thick.
    pub(super) fn rule(&mut self, left: i32, right: i32, top: i32, thickness: i32, colour: Colour) {
        self.block(left, top, right - left, thickness, colour);
    }

    /// Draws the outline of a box.
    pub(super) fn frame(&mut self, left: i32, top: i32, width: i32, height: i32, colour: Colour) {
        let Some(content) = self.sheets.last_mut() else { return };
        let [red, green, blue] = colour.map(part);
        content.set_stroke_rgb(red, green, blue).set_line_width(14.0).set_line_cap(LineCapStyle::ButtCap);
        content.rect(at(left), at(HEIGHT - top - height), at(width), at(height)).stroke();
    }

    /// The file. The same drawing makes the same bytes.
    pub(super) fn finish(self, about: &About<'_>) -> Vec<u8> {
        let [catalog, tree, info] = [1, 2, 3].map(Ref::new);
        let (regular, semibold, first_sheet) = (4, 10, 16);
        let mut pdf = Pdf::new();
        let pages = i32::try_from(self.sheets.len()).unwrap_or_default();
        let mut root = pdf.catalog(catalog);
        root.pages(tree).lang(TextStr("en"));
        root.viewer_preferences().display_doc_title(true);
        drop(root);
        pdf.pages(tree).kids((0..pages).map(|page| Ref::new(first_sheet + 2 * page))).count(pages);
        let (year, [month, day, hour, minute, second]) = about.made_at;
        let date = Date::new(year).month(month).day(day).hour(hour).minute(minute).second(second);
        let date = date.utc_offset_hour(0).utc_offset_minute(0);
        let mut document = pdf.document_info(info);
        document.title(TextStr(about.title)).author(TextStr(about.author)).producer(TextStr("farthing"));
        document.creation_date(date).modified_date(date);
        drop(document);
        // A font of this program that cannot be read shows in every test.
        let _ = (self.regular.write(&mut pdf, regular), self.semibold.write(&mut pdf, semibold));
        for (number, content) in (0..).zip(self.sheets) {
            let (page, stream) = (Ref::new(first_sheet + 2 * number), Ref::new(first_sheet + 2 * number + 1));
            let mut sheet = pdf.page(page);
            sheet.parent(tree).media_box(Rect::new(0.0, 0.0, 595.3, 841.9)).contents(stream);
            let mut resources = sheet.resources();
            resources.fonts().pair(Name(b"R"), Ref::new(regular)).pair(Name(b"S"), Ref::new(semibold));
            drop(resources);
            drop(sheet);
            let packed = miniz_oxide::deflate::compress_to_vec_zlib(content.finish().as_slice(), 6);
            pdf.stream(stream, &packed).filter(Filter::FlateDecode);
        }
        pdf.finish()
    }
}

fn fill(content: &mut Content, colour: Colour) {
    let [red, green, blue] = colour.map(part);
    content.set_fill_rgb(red, green, blue);
}

/// A position or a length, as the file has it.
fn at(tenths: i32) -> f32 {
    f32::from(i16::try_from(tenths).unwrap_or(i16::MAX))
}

/// A part of a colour, as the file has it.
#[expect(clippy::float_arithmetic, reason = "a colour, and no amount of anything")]
fn part(of_255: u8) -> f32 {
    f32::from(of_255) / 255.0
}
