//! `[overage]`, of the tenant or of a plan: what happens when grants do not cover a charge.

use engine::{Micros, Overage, OveragePolicy};
use toml::Spanned;

use super::section::Section;

const POLICIES: [(&str, OveragePolicy); 4] = [
    ("refuse", OveragePolicy::Refuse),
    ("owe", OveragePolicy::Owe),
    ("ask", OveragePolicy::Ask),
    ("included", OveragePolicy::Included),
];

/// Reads the policy; nothing where nothing is said.
pub(crate) fn read_overage(parent: &mut Section<'_>) -> Option<Overage> {
    let mut section = parent.section("overage", "[overage]")?;
    let policy = section.choice("policy", &POLICIES).unwrap_or_default();
    let limit = section.micros("limit", Micros::ZERO).map(Spanned::into_inner);
    section.finish();
    Some(Overage { policy, limit })
}
