//! `[[coupons]]`: what is taken off the invoices of a subscription.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Asset, Coupon, CouponDuration, Discount, Micros};
use toml::Spanned;

use super::section::{NamePattern, Section};

const MOST_COUPONS: usize = 1_000;
const MOST_INVOICES: i64 = 1_000;

/// For how many invoices, where the number is still to be said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duration {
    Once,
    Repeating,
    Forever,
}

const DURATIONS: [(&str, Duration); 3] =
    [("once", Duration::Once), ("repeating", Duration::Repeating), ("forever", Duration::Forever)];

/// Reads all coupons, by their codes. `currency` is that of amounts that name none.
pub(crate) fn read_coupons(root: &mut Section<'_>, currency: Option<&Asset>) -> BTreeMap<Arc<str>, Coupon> {
    let mut coupons = BTreeMap::new();
    for section in root.sections("coupons", "coupon", MOST_COUPONS) {
        let (problems, at) = (section.problems, section.at);
        let Some(coupon) = read_coupon(section, currency) else { continue };
        if let Some(other) = coupons.insert(coupon.code.clone(), coupon) {
            problems.add(at, format!("there are two coupons `{}`", other.code), "give this one another code");
        }
    }
    coupons
}

fn read_coupon(mut section: Section<'_>, currency: Option<&Asset>) -> Option<Coupon> {
    section.require("code", "code = \"SPRING\"");
    let code = section.name("code", &NamePattern::CODE).map(Spanned::into_inner);
    let discount = read_discount(&mut section, currency);
    let duration = read_duration(&mut section);
    section.finish();
    Some(Coupon { code: Arc::from(code?), discount: discount?, duration: duration? })
}

fn read_discount(section: &mut Section<'_>, currency: Option<&Asset>) -> Option<Discount> {
    if !section.has("amount") {
        section.refuse("currency", "coupon has `currency` but no `amount`", "leave it out: a percentage has none");
        section.require("percent", "percent = \"20\"");
        return section.percent("percent").map(Discount::Percent);
    }
    let problem = "coupon has both `percent` and `amount`";
    section.refuse("percent", problem, "leave one out: it takes off a part of each line, or an amount");
    let currency = section.currency_or("currency", currency);
    section.money("amount", Micros::new(1), currency.as_ref()).map(Discount::Amount)
}

fn read_duration(section: &mut Section<'_>) -> Option<CouponDuration> {
    let duration = if section.has("duration") { section.choice("duration", &DURATIONS) } else { Some(Duration::Once) };
    if duration == Some(Duration::Repeating) {
        section.require("invoices", "invoices = 3");
        let invoices = section.integer("invoices", 1..=MOST_INVOICES).and_then(|many| u16::try_from(many).ok());
        return invoices.map(CouponDuration::Repeating);
    }
    let problem = "`invoices` is for how many invoices a repeating coupon holds";
    section.refuse("invoices", problem, "leave it out, or write `duration = \"repeating\"`");
    duration.map(|duration| if duration == Duration::Forever { CouponDuration::Forever } else { CouponDuration::Once })
}
