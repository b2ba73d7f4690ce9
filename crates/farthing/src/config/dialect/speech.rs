//! `[dialect] name = "speech"`.

use std::sync::Arc;

use engine::Plans;

use super::Offer;
use crate::config::error::suggestion;
use crate::config::meter::find;
use crate::config::section::Section;

const MOST_SERVICES: usize = 50;

/// Which parts of the catalog the words of this dialect mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpeechSettings {
    /// What can be used, in the order of the file.
    pub services: Vec<Service>,
    /// The plan that is paid by use: told with its prices, where others are told with their features.
    pub usage_plan: Option<Arc<str>>,
    /// Whether the plans are told to whoever asks.
    pub public_plans: bool,
}

/// Something that can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What counts it; the service is called so.
    pub meter: Arc<str>,
    /// What its price is called in the plan that is paid by use; nothing where it is not told there.
    pub price: Option<Arc<str>>,
    /// The feature of a plan that says how much of it a month includes.
    pub included: Option<Arc<str>>,
}

pub(super) fn read_speech(mut section: Section<'_>, offer: &Offer<'_>) -> SpeechSettings {
    section.require("services", "[[dialect.services]]");
    let services = section.sections("services", "service", MOST_SERVICES);
    let services = services.into_iter().filter_map(|service| read_service(service, offer)).collect();
    let usage_plan = read_usage_plan(&mut section, offer.plans);
    let public_plans = section.flag("public_plans");
    section.finish();
    SpeechSettings { services, usage_plan, public_plans }
}

fn read_service(mut section: Section<'_>, offer: &Offer<'_>) -> Option<Service> {
    section.require("meter", "meter = \"voice_call\"");
    let meter_name = section.text("meter");
    let meter = meter_name.as_ref().and_then(|name| find(offer.meters, name, &section));
    let price = section.string("price").map(Arc::from);
    let included_name = section.text("included");
    if let Some(name) = &included_name {
        let known: Vec<&str> = offer.plans.sold().flat_map(|plan| plan.features.keys().map(|name| &**name)).collect();
        if !known.contains(name.get_ref()) {
            let problem = format!("no plan has a feature `{}`", name.get_ref());
            section.problems.add(name.span().start, problem, suggestion(name.get_ref(), known));
        }
    }
    let (problems, at) = (section.problems, section.at);
    section.finish();
    let meter = meter?;
    if price.is_some() && !offer.prices.iter().any(|price| price.prices(&meter.name)) {
        let problem = format!("meter `{}` has no price that could be told", meter.name);
        problems.add(at, problem, "add one to [[prices]], or leave `price` out");
    }
    Some(Service { meter: meter.name.clone(), price, included: included_name.map(|name| Arc::from(name.into_inner())) })
}

fn read_usage_plan(section: &mut Section<'_>, plans: &Plans) -> Option<Arc<str>> {
    let name = section.text("usage_plan")?;
    if let Ok(plan) = plans.current(name.get_ref()) {
        return Some(plan.name.clone());
    }
    let problem = format!("unknown plan `{}` in [dialect]", name.get_ref());
    let remedy = suggestion(name.get_ref(), plans.current.keys().map(|name| &**name));
    section.problems.add(name.span().start, problem, remedy);
    None
}
