//! Fonts: IBM Plex Sans (SIL Open Font License 1.1), which has Latin, Greek and Cyrillic letters, the signs of currencies, and
//! figures of one width. Only the glyphs that a document uses go into it.

use std::collections::BTreeMap;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Filter, Finish, Name, Pdf, Rect, Ref, Str};
use subsetter::GlyphRemapper;

const REGULAR: &[u8] = include_bytes!("../../../fonts/IBMPlexSans-Regular.ttf");
const SEMIBOLD: &[u8] = include_bytes!("../../../fonts/IBMPlexSans-SemiBold.ttf");

/// A weight of the font.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Weight {
    Regular,
    SemiBold,
}

/// A font, and what of it was used so far.
pub(super) struct Face {
    name: &'static str,
    data: &'static [u8],
    face: Option<ttf_parser::Face<'static>>,
    glyphs: GlyphRemapper,
    /// The used glyphs by their number in the document, with their characters and advances.
    used: BTreeMap<u16, (char, u16)>,
}

impl Face {
    pub(super) fn new(weight: Weight) -> Self {
        let (name, data) = match weight {
            Weight::Regular => ("AAAAAA+IBMPlexSans", REGULAR),
            Weight::SemiBold => ("AAAAAB+IBMPlexSans-SemiBold", SEMIBOLD),
        };
        let face = ttf_parser::Face::parse(data, 0).ok();
        Self { name, data, face, glyphs: GlyphRemapper::new(), used: BTreeMap::new() }
    }

    /// The glyph of a character and its advance in font units. What the font has not is shown as a box.
    fn glyph(&self, character: char) -> (u16, u16) {
        let Some(face) = &self.face else { return (0, 0) };
        let glyph = face.glyph_index(character).unwrap_or_default();
        (glyph.0, face.glyph_hor_advance(glyph).unwrap_or_default())
    }

    fn units_per_em(&self) -> i64 {
        self.face.as_ref().map_or(1000, |face| i64::from(face.units_per_em().max(1)))
    }

    /// How wide a text is at a size, in the unit of the size.
    pub(super) fn width(&self, text: &str, size: i32) -> i32 {
        let units: i64 = text.chars().map(|character| i64::from(self.glyph(character).1)).sum();
        i32::try_from(units * i64::from(size) / self.units_per_em()).unwrap_or(i32::MAX)
    }

    /// A text as the document holds it: the numbers of its glyphs, two bytes each.
    pub(super) fn encode(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len() * 2);
        for character in text.chars() {
            let (glyph, advance) = self.glyph(character);
            let number = self.glyphs.remap(glyph);
            self.used.entry(number).or_insert((character, advance));
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    /// Writes the font with what was used of it, as six objects from `first` on.
    pub(super) fn write(&self, pdf: &mut Pdf, first: i32) -> Option<()> {
        let face = self.face.as_ref()?;
        let [font, cid, descriptor, file, unicode] = [0, 1, 2, 3, 4].map(|offset| Ref::new(first + offset));
        let name = Name(self.name.as_bytes());
        let system = SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };
        pdf.type0_font(font)
            .base_font(name)
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(cid)
            .to_unicode(unicode);
        let thousandths = |units: i64| {
            let part = units * 1000 / self.units_per_em();
            f32::from(i16::try_from(part).unwrap_or(i16::MAX))
        };
        let mut cid_font = pdf.cid_font(cid);
        cid_font.subtype(CidFontType::Type2).base_font(name).system_info(system).font_descriptor(descriptor);
        cid_font.default_width(0.0).cid_to_gid_map_predefined(Name(b"Identity"));
        let mut widths = cid_font.widths();
        for (number, (_, advance)) in &self.used {
            widths.consecutive(*number, [thousandths(i64::from(*advance))]);
        }
        widths.finish();
        cid_font.finish();
        let bounds = face.global_bounding_box();
        let side = |units: i16| thousandths(i64::from(units));
        pdf.font_descriptor(descriptor)
            .name(name)
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(side(bounds.x_min), side(bounds.y_min), side(bounds.x_max), side(bounds.y_max)))
            .italic_angle(0.0)
            .ascent(side(face.ascender()))
            .descent(side(face.descender()))
            .cap_height(side(face.capital_height().unwrap_or_default()))
            .stem_v(80.0)
            .font_file2(file);
        let data = subsetter::subset(self.data, 0, &self.glyphs).ok()?;
        let length = i32::try_from(data.len()).ok()?;
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&data, 6);
        pdf.stream(file, &packed).filter(Filter::FlateDecode).pair(Name(b"Length1"), length);
        let mut map = UnicodeCmap::new(Name(b"Farthing"), system);
        for (number, (character, _)) in &self.used {
            map.pair(*number, *character);
        }
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(map.finish().as_slice(), 6);
        pdf.cmap(unicode, &packed).filter(Filter::FlateDecode);
        Some(())
    }
}
