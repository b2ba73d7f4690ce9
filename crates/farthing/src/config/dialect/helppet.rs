//! `[dialect] name = "helppet"`.

use crate::config::section::Section;

/// What the words of this dialect mean for the tenant. Its balances are in the tenant's currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelppetSettings {
    /// The role of users who may act for every practice; all others may act for their own.
    pub admin_role: String,
    /// Whether the publishable key is told to whoever asks: the product's own pages ask before anybody has signed in.
    pub public_config: bool,
}

pub(super) fn read_helppet(mut section: Section<'_>) -> HelppetSettings {
    let admin_role = section.string("admin_role").unwrap_or_else(|| "SYSTEM_ADMIN".to_owned());
    let public_config = section.flag("public_config");
    section.finish();
    HelppetSettings { admin_role, public_config }
}
