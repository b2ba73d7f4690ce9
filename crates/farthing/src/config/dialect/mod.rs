//! `[dialect]`: the API of a product's own that the tenant speaks besides the native one, and its settings, a file for each.

mod ciris;
mod helppet;
mod parentpilot;
mod speech;

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Pack, Plans, Price};

use super::meter::Meters;
use super::section::Section;
use super::tenant::Mode;

pub use ciris::CirisSettings;
pub use helppet::HelppetSettings;
pub use parentpilot::ParentpilotSettings;
pub(crate) use parentpilot::unit_price;
pub use speech::{Service, SpeechSettings};

/// The dialect that a tenant speaks. Its settings say which parts of the catalog are meant by its words, and nothing about
/// money: that is the catalog's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `/v1/billing`: uses bought by the pack.
    Ciris(CirisSettings),
    /// `/api/v1/stripe`: credits and payment methods of a practice.
    Helppet(HelppetSettings),
    /// `/api/payments`: plans with a monthly limit, and payments for usage.
    Parentpilot(ParentpilotSettings),
    /// `/payments`: plans, and the use of services, of the users of a product.
    Speech(SpeechSettings),
}

impl Dialect {
    /// Its name in the tenant file.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ciris(_) => "ciris",
            Self::Helppet(_) => "helppet",
            Self::Parentpilot(_) => "parentpilot",
            Self::Speech(_) => "speech",
        }
    }
}

/// What a dialect's settings refer to. Some of them say how the catalog is to be read, which is settled here, before anyone
/// uses it.
pub(crate) struct Offer<'o> {
    pub(crate) mode: Mode,
    pub(crate) meters: &'o Meters,
    pub(crate) prices: &'o [Arc<Price>],
    pub(crate) packs: &'o mut BTreeMap<Arc<str>, Pack>,
    pub(crate) plans: &'o Plans,
}

/// Which dialect it is.
#[derive(Clone, Copy)]
enum Name {
    Ciris,
    Helppet,
    Parentpilot,
    Speech,
}

const NAMES: [(&str, Name); 4] =
    [("ciris", Name::Ciris), ("helppet", Name::Helppet), ("parentpilot", Name::Parentpilot), ("speech", Name::Speech)];

/// Reads the dialect; what is asked for below is that dialect's alone.
pub(crate) fn read_dialect(root: &mut Section<'_>, offer: Offer<'_>) -> Option<Dialect> {
    let mut section = root.section("dialect", "[dialect]")?;
    section.require("name", "name = \"ciris\"");
    match section.choice("name", &NAMES)? {
        Name::Ciris => ciris::read_ciris(section, offer).map(Dialect::Ciris),
        Name::Helppet => Some(Dialect::Helppet(helppet::read_helppet(section))),
        Name::Parentpilot => parentpilot::read_parentpilot(section, &offer).map(Dialect::Parentpilot),
        Name::Speech => Some(Dialect::Speech(speech::read_speech(section, &offer))),
    }
}

/// Refuses in live mode a setting that restores something insecure by the letter of a product's own document.
pub(crate) fn insecure_flag(section: &mut Section<'_>, field: &'static str, mode: Mode) -> bool {
    let on = section.flag(field);
    if on && mode == Mode::Live {
        let problem = format!("`{field}` is for test mode alone: anybody could use it");
        section.refuse(field, problem, "take it out");
    }
    on
}
