//! What a tenant file sells, in the words that `check` and `plan diff` use.

use engine::{
    AddOn, AfterDunning, Allowance, Billing, Coupon, CouponDuration, Discount, Feature, Interval, IntervalUnit, Limit,
    Model, Money, Overage, OveragePolicy, Plan, Price, Rate, Rounding, TaxRate, Tier, UsageInvoices, Window,
};

use super::grouped;

/// Above it, tiers are told by the version of their price.
const MOST_TIERS: usize = 8;

/// Something that a plan or a tenant has, and what it is.
pub(super) type Described = (String, String);

/// What a plan is, one thing after the other.
pub(super) fn plan(plan: &Plan) -> Vec<Described> {
    let currency = &plan.fee.currency;
    let mut all: Vec<Described> = Vec::new();
    let mut add = |name: &str, text: String| all.push((name.to_owned(), text));
    add("title", plan.title.to_string());
    add("fee", format!("{} {}", plan.fee, interval(plan.interval)));
    if plan.trial_days > 0 {
        add("trial", format!("{} days", plan.trial_days));
    }
    if let Some(price) = &plan.provider_price {
        add("renewed by", format!("the provider, at {price}"));
    }
    for allowance in &plan.allowances {
        add(&format!("allowance {}", allowance.name), included(allowance));
    }
    for (name, feature) in &plan.features {
        let text = match feature {
            Feature::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Feature::Number(number) => number.to_string(),
            Feature::Text(text) => text.to_string(),
        };
        add(&format!("feature {name}"), text);
    }
    for one in &plan.limits {
        add(&format!("limit {}", one.name), limit(one));
    }
    for one in &plan.prices {
        add(&format!("price {}", one.name), price(one));
    }
    if let Some(limit) = plan.spending_limit {
        add("spending limit", format!("{limit} {currency}"));
    }
    if let Some(minor) = plan.commitment {
        add("commitment", Money { minor, currency: currency.clone() }.to_string());
    }
    if let Some(policy) = plan.overage {
        add("overage", overage(policy, currency.as_str()));
    }
    if !plan.add_ons.is_empty() {
        add("add-ons", plan.add_ons.join(", "));
    }
    all
}

fn interval(interval: Interval) -> String {
    let unit = match interval.unit {
        IntervalUnit::Day => "day",
        IntervalUnit::Week => "week",
        IntervalUnit::Month => "month",
        IntervalUnit::Year => "year",
    };
    if interval.count == 1 { format!("each {unit}") } else { format!("every {} {unit}s", interval.count) }
}

fn included(allowance: &Allowance) -> String {
    let mut text = format!("{} {}", allowance.amount, allowance.asset);
    if !allowance.meters.is_empty() {
        text.push_str(&format!(" for {}", allowance.meters.join(" and ")));
    }
    match allowance.cap {
        Some(cap) => text.push_str(&format!(", of which up to {cap} go over")),
        None if allowance.rollover => text.push_str(", what is left goes over"),
        None => {}
    }
    text
}

/// A limit.
pub(super) fn limit(limit: &Limit) -> String {
    let (amount, meter) = (limit.amount, &limit.meter);
    let per = match limit.window {
        Window::Minute => "each minute".to_owned(),
        Window::Hour => "each hour".to_owned(),
        Window::Day => "each day".to_owned(),
        Window::Month => "each month".to_owned(),
        Window::Period => "each period".to_owned(),
        Window::Sliding(seconds) => format!("in any {seconds} seconds"),
        Window::OpenHolds => return format!("{amount} open holds of {meter}"),
    };
    format!("{amount} {meter} {per}{}", if limit.hard { "" } else { ", told only" })
}

/// A price.
pub(super) fn price(price: &Price) -> String {
    let (asset, per) = (&price.asset, price.per);
    let units = if per == 1 { "each".to_owned() } else { format!("per {}", grouped(per)) };
    let in_tiers = |tiers: &[Tier]| format!("in {asset} {units}: {}", steps(tiers, &price.version));
    let mut text = match &price.model {
        Model::Flat { amount } => format!("{amount} {asset} for each charge"),
        Model::PerUnit { amount } => format!("{amount} {asset} {units}"),
        Model::Package { size, amount } => format!("{amount} {asset} for each package of {size}"),
        Model::Percentage { percent, flat } if *flat == Rate::ZERO => format!("{percent} % of the {asset} used"),
        Model::Percentage { percent, flat } => format!("{percent} % of the {asset} used, and {flat} {asset}"),
        Model::Graduated { tiers } => format!("graduated, {}", in_tiers(tiers)),
        Model::Volume { tiers } => format!("by volume, {}", in_tiers(tiers)),
    };
    if price.rounding != Rounding::HalfEven {
        text.push_str(&format!(", rounded {}", rounding(price.rounding)));
    }
    if price.whole_coins {
        text.push_str(", in whole coins");
    }
    if price.line_rounding != Rounding::Down {
        text.push_str(&format!(", lines of invoices {}", rounding(price.line_rounding)));
    }
    text
}

fn steps(tiers: &[Tier], version: &str) -> String {
    if tiers.len() > MOST_TIERS {
        return format!("{} tiers ({version})", tiers.len());
    }
    let step = |tier: &Tier| {
        let flat = if tier.flat == Rate::ZERO { String::new() } else { format!(" and {} once", tier.flat) };
        let up_to = tier.up_to.map(|up_to| format!(" up to {up_to}")).unwrap_or_default();
        format!("{}{flat}{up_to}", tier.amount)
    };
    tiers.iter().map(step).collect::<Vec<_>>().join(", then ")
}

const fn rounding(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::HalfEven => "half to even",
        Rounding::HalfUp => "half up",
        Rounding::Down => "down",
        Rounding::Up => "up",
    }
}

/// An add-on.
pub(super) fn add_on(add_on: &AddOn) -> String {
    let title = if add_on.title == add_on.name { String::new() } else { format!("{}, ", add_on.title) };
    format!("{title}{} {}", add_on.fee, if add_on.recurring { "with every period" } else { "once" })
}

/// A coupon.
pub(super) fn coupon(coupon: &Coupon) -> String {
    let discount = match &coupon.discount {
        Discount::Percent(percent) => format!("{percent} %"),
        Discount::Amount(amount) => amount.to_string(),
    };
    match coupon.duration {
        CouponDuration::Once => format!("{discount} off one invoice"),
        CouponDuration::Repeating(many) => format!("{discount} off each of {many} invoices"),
        CouponDuration::Forever => format!("{discount} off every invoice"),
    }
}

/// A tax.
pub(super) fn tax(tax: &TaxRate) -> String {
    format!("{} % {}", tax.percent, if tax.inclusive { "within amounts" } else { "on top" })
}

/// An overage policy; `asset` is what its limit is in.
pub(super) fn overage(overage: Overage, asset: &str) -> String {
    match (overage.policy, overage.limit) {
        (OveragePolicy::Refuse, _) => "refused".to_owned(),
        (OveragePolicy::Owe, Some(limit)) => format!("owed, up to {limit} {asset}"),
        (OveragePolicy::Owe, None) => "owed, whatever the amount".to_owned(),
        (OveragePolicy::Ask, _) => "refused with the amount to pay first".to_owned(),
        (OveragePolicy::Included, _) => "included in the plan".to_owned(),
    }
}

/// How invoices are collected.
pub(super) fn billing(billing: &Billing) -> String {
    let days: Vec<String> = billing.dunning.retry_days.iter().map(ToString::to_string).collect();
    let tries =
        if days.is_empty() { "tried once".to_owned() } else { format!("tried again after {} days", days.join(", ")) };
    let then = match billing.dunning.then {
        AfterDunning::Cancel => "the subscription ends",
        AfterDunning::Unpaid => "the subscription waits",
        AfterDunning::PastDue => "the subscription goes on",
    };
    let usage = match billing.usage_invoices {
        UsageInvoices::OnDemand => "",
        UsageInvoices::Monthly => "; usage without a subscription when the month ends",
        UsageInvoices::MonthlyOfSubscribers => "; usage of subscribers when the month ends",
    };
    let kept = if billing.provider_invoices { "; of usage kept and collected by the provider" } else { "" };
    format!(
        "due after {} days where the customer pays by itself; otherwise {tries}, then {then}{usage}{kept}",
        billing.days_until_due
    )
}
