//! `[dialect] name = "orgvoice"`.

use std::sync::Arc;

use engine::Micros;

use super::Offer;
use crate::config::meter::find;
use crate::config::section::Section;

/// Which parts of the catalog the words of this dialect mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrgvoiceSettings {
    /// The meter that counts words that were heard: speech to text.
    pub heard: Arc<str>,
    /// The meter that counts words that were spoken: text to speech.
    pub spoken: Arc<str>,
    /// The meter that counts tokens, where there is one.
    pub tokens: Option<Arc<str>>,
    /// What the tenant itself pays for a thousand of a meter, in its currency; it is shown, and charged to nobody.
    pub vendor_costs: Vec<(Arc<str>, Micros)>,
    /// The role of users who may change the billing of their organisation.
    pub admin_role: String,
    /// The role of users who may do that too, and see all organisations.
    pub platform_role: String,
}

impl OrgvoiceSettings {
    /// Whether a meter counts words.
    #[must_use]
    pub fn counts_words(&self, meter: &str) -> bool {
        [&self.heard, &self.spoken].into_iter().any(|counted| **counted == *meter)
    }
}

pub(super) fn read_orgvoice(mut section: Section<'_>, offer: &Offer<'_>) -> Option<OrgvoiceSettings> {
    section.require("heard", "heard = \"stt_words\"");
    section.require("spoken", "spoken = \"tts_words\"");
    let meter = |section: &mut Section<'_>, field: &'static str| {
        let name = section.text(field)?;
        find(offer.meters, &name, section).map(|meter| meter.name.clone())
    };
    let heard = meter(&mut section, "heard");
    let spoken = meter(&mut section, "spoken");
    let tokens = meter(&mut section, "tokens");
    let costs = section.micros_by_name("vendor_costs");
    let vendor_costs = costs.into_iter().filter_map(|(name, cost)| {
        let meter = find(offer.meters, &name, &section)?;
        Some((meter.name.clone(), cost))
    });
    let vendor_costs = vendor_costs.collect();
    let admin_role = section.string("admin_role").unwrap_or_else(|| "admin".to_owned());
    let platform_role = section.string("platform_role").unwrap_or_else(|| "super_admin".to_owned());
    section.finish();
    Some(OrgvoiceSettings { heard: heard?, spoken: spoken?, tokens, vendor_costs, admin_role, platform_role })
}
