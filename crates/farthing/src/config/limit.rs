//! `[[limits]]`, of every customer or of a plan: how much may be used in a window of time.

use std::sync::Arc;

use engine::{Limit, Micros, Window};
use toml::Spanned;

use super::meter::{Meters, find};
use super::section::{NamePattern, Section};

const MOST_LIMITS: usize = 50;
const DEFAULT_SECONDS: u32 = 60;
const MOST_SECONDS: i64 = 31 * 24 * 60 * 60;

const WINDOWS: [(&str, Window); 7] = [
    ("minute", Window::Minute),
    ("hour", Window::Hour),
    ("day", Window::Day),
    ("month", Window::Month),
    ("period", Window::Period),
    ("sliding", Window::Sliding(DEFAULT_SECONDS)),
    ("open_holds", Window::OpenHolds),
];

/// Reads the limits of the file or of a plan, in their order. `taken` are names that are limits of every customer already.
pub(crate) fn read_limits(parent: &mut Section<'_>, meters: &Meters, taken: &[Limit]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for section in parent.sections("limits", "limit", MOST_LIMITS) {
        let (problems, at) = (section.problems, section.at);
        let Some(limit) = read_limit(section, meters) else { continue };
        if limits.iter().chain(taken).any(|other| other.name == limit.name) {
            // What is used is counted under the name.
            problems.add(at, format!("there are two limits `{}`", limit.name), "give this one another name");
        }
        limits.push(limit);
    }
    limits
}

fn read_limit(mut section: Section<'_>, meters: &Meters) -> Option<Limit> {
    for (field, example) in [
        ("name", "name = \"calls-per-minute\""),
        ("meter", "meter = \"calls\""),
        ("per", "per = \"minute\""),
        ("amount", "amount = \"60\""),
    ] {
        section.require(field, example);
    }
    let name = section.name("name", &NamePattern::SLUG).map(Spanned::into_inner);
    let meter = section.text("meter").and_then(|name| find(meters, &name, &section)).map(|meter| meter.name.clone());
    let window = read_window(&mut section);
    let amount = section.micros("amount", Micros::ZERO).map(Spanned::into_inner);
    if window == Some(Window::OpenHolds) {
        let problem = "a limit of open holds is always hard";
        section.refuse("hard", problem, "leave `hard` out: one more hold than that is refused");
    }
    let hard = section.flag_or("hard", true);
    section.finish();
    Some(Limit { name: Arc::from(name?), meter: meter?, window: window?, amount: amount?, hard })
}

fn read_window(section: &mut Section<'_>) -> Option<Window> {
    let window = section.choice("per", &WINDOWS);
    if !matches!(window, Some(Window::Sliding(_)) | None) {
        let problem = "`seconds` is how long a sliding window is";
        section.refuse("seconds", problem, "leave it out, or write `per = \"sliding\"`");
        return window;
    }
    let seconds = section.integer("seconds", 1..=MOST_SECONDS).and_then(|seconds| u32::try_from(seconds).ok());
    window.map(|_| Window::Sliding(seconds.unwrap_or(DEFAULT_SECONDS)))
}
