//! `[dialect] name = "parentpilot"`.

use std::sync::Arc;

use engine::{Model, OveragePolicy, Plan};

use super::{Offer, insecure_flag};
use crate::config::meter::find;
use crate::config::section::Section;

/// Which parts of the catalog the words of this dialect mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentpilotSettings {
    /// The meter that counts tokens.
    pub tokens: Arc<str>,
    /// The meter that counts milliseconds of execution.
    pub execution: Arc<str>,
    /// Whether a user's id alone is believed, without a server's key: by the letter of the document, in test mode.
    pub trust_user_id: bool,
}

pub(super) fn read_parentpilot(mut section: Section<'_>, offer: &Offer<'_>) -> Option<ParentpilotSettings> {
    section.require("tokens", "tokens = \"tokens\"");
    section.require("execution", "execution = \"execution_ms\"");
    let mut meter = |field| {
        let name = section.text(field)?;
        find(offer.meters, &name, &section).map(|meter| meter.name.clone())
    };
    let (tokens, execution) = (meter("tokens"), meter("execution"));
    let trust_user_id = insecure_flag(&mut section, "trust_user_id", offer.mode);
    let (at, problems) = (section.at, section.problems);
    if offer.plans.default.is_none() {
        let problem = "users without a subscription have no plan";
        problems.add(at, problem, "say which one is theirs: `default_plan = \"starter\"` in [subscriptions]");
    }
    section.finish();
    let settings = ParentpilotSettings { tokens: tokens?, execution: execution?, trust_user_id };
    for plan in offer.plans.sold() {
        for (problem, remedy) in missing(plan, &settings) {
            problems.add(at, format!("plan `{}` {problem}", plan.name), remedy);
        }
    }
    Some(settings)
}

/// What a plan lacks to be told in this dialect.
fn missing(plan: &Plan, settings: &ParentpilotSettings) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    let mut lacks = |problem: &str, remedy: &str| missing.push((problem.to_owned(), remedy.to_owned()));
    if plan.provider_price.is_none() {
        lacks("has no `provider_price`, and its subscriptions are the provider's", "write its price's id");
    }
    if plan.spending_limit.is_none() {
        lacks("has no `spending_limit`, which is its monthly limit", "add one");
    }
    if plan.overage.is_none_or(|overage| overage.policy != OveragePolicy::Included) {
        lacks("does not include what is used", "add `overage = { policy = \"included\" }`");
    }
    for meter in [&settings.tokens, &settings.execution] {
        if unit_price(plan, meter).is_none() {
            lacks(&format!("has no `per_unit` price for meter `{meter}`"), "add one to its prices");
        }
    }
    missing
}

/// What `units` of a meter cost with a plan, in units of its currency: so many trillionths, divided by so much.
pub(crate) fn unit_price(plan: &Plan, meter: &str) -> Option<(i128, u64)> {
    plan.prices.iter().filter(|price| price.prices(meter)).find_map(|price| match &price.model {
        Model::PerUnit { amount } => Some((amount.picos(), price.per)),
        _ => None,
    })
}
