//! `[notices]`: what the tenant wants to hear of.

use std::collections::BTreeMap;

use engine::{Asset, Micros};

use super::grant::Assets;
use super::section::Section;

/// Reads below how much of what the tenant wants to hear of a customer.
pub(crate) fn read_low_balances(root: &mut Section<'_>, assets: &Assets<'_>) -> BTreeMap<Asset, Micros> {
    let Some(mut section) = root.section("notices", "[notices]") else { return BTreeMap::new() };
    let mut low = BTreeMap::new();
    for (name, amount) in section.micros_by_name("low_balance") {
        let known = assets.currencies.iter().chain(assets.meters.values().map(|meter| &meter.unit));
        match known.into_iter().find(|asset| asset.as_str() == *name.get_ref()) {
            Some(asset) => {
                low.insert(asset.clone(), amount);
            }
            None => {
                let problem =
                    format!("`{}` in [notices] is neither a currency nor a unit of this file", name.get_ref());
                section.problems.add(name.span().start, problem, "name one that something is priced or counted in");
            }
        }
    }
    section.finish();
    low
}
