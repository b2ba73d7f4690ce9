//! What happens to a subscription with time: renewal, the end of a trial, the end that was asked for, the end of one that was
//! never paid.

use serde_json::{Value, json};

use crate::kind;
use crate::objects::invoices::lines::full_cost;
use crate::objects::invoices::totals::int;
use crate::objects::invoices::{lifecycle, preview};
use crate::objects::prices::share;
use crate::objects::subscriptions::billing::{self, Charge};
use crate::objects::subscriptions::{cancel, change, current, items, note, pause, payment_method, pending, period};
use crate::period::{DAY, HOUR};
use crate::time::Due;
use crate::world::World;

/// How long a first invoice can wait to be paid, and a pending update.
pub(crate) const PATIENCE: i64 = 23 * HOUR;

/// How long before a renewal it is told.
const UPCOMING_BEFORE: i64 = 7 * DAY;

/// How long before its end a trial's end is told.
const TOLD_BEFORE: i64 = 3 * DAY;

pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for subscription in world.all(kind::SUBSCRIPTION) {
        let Some(id) = subscription["id"].as_str() else { continue };
        let clock = subscription["test_clock"].as_str().map(str::to_owned);
        let mut add = |at: Option<i64>, what, run| {
            if let Some(at) = at {
                found.push(Due { at, what, id: id.to_owned(), clock: clock.clone(), run });
            }
        };
        match subscription["status"].as_str() {
            Some("incomplete") => {
                add(Some(int(&subscription["created"]) + PATIENCE), "subscription.expire", expire_unpaid)
            }
            Some("trialing" | "active" | "past_due" | "unpaid") => {
                add(subscription["cancel_at"].as_i64(), "subscription.cancel", cancel::at_time);
                let told = world.hidden(kind::SUBSCRIPTION, id)["trial_told"] == true;
                let trialing = subscription["status"] == "trialing" && !told;
                let tell = subscription["trial_end"].as_i64().filter(|_| trialing).map(|end| end - TOLD_BEFORE);
                add(tell, "subscription.trial_will_end", tell_trial_end);
                add(upcoming_at(world, subscription), "invoice.upcoming", tell_upcoming);
                add(subscription["pending_update"]["expires_at"].as_i64(), "subscription.drop_update", pending::expire);
                add(
                    subscription["pause_collection"]["resumes_at"].as_i64(),
                    "subscription.collect_again",
                    pause::collect_again,
                );
                add(Some(period(subscription).1), "subscription.renew", renew);
            }
            _ => {}
        }
    }
}

/// Tells that a trial ends, if it does so within three days.
pub(crate) fn tell_trial_end(world: &mut World, id: &str) {
    let subscription = current(world, id);
    let now = world.now_for(&subscription["customer"]);
    if subscription["status"] == "trialing" && int(&subscription["trial_end"]) - TOLD_BEFORE <= now {
        note(world, id, "trial_told", json!(true));
        world.announce("customer.subscription.trial_will_end", &subscription);
    }
}

/// When the next renewal is told, if it is not yet, and if its period is long enough to be told of.
fn upcoming_at(world: &World, subscription: &Value) -> Option<i64> {
    let (start, end) = period(subscription);
    let told = &world.hidden(kind::SUBSCRIPTION, subscription["id"].as_str()?)["upcoming_told"];
    let ends = subscription["cancel_at"].as_i64().is_some_and(|at| at <= end);
    (*told != end && !ends && end - start > UPCOMING_BEFORE).then_some(end - UPCOMING_BEFORE)
}

fn tell_upcoming(world: &mut World, id: &str) {
    let subscription = current(world, id);
    note(world, id, "upcoming_told", json!(period(&subscription).1));
    let invoice = preview::renewal(world, id);
    world.announce("invoice.upcoming", &invoice);
}

/// The first invoice was not paid in time: it is voided, which ends the subscription.
fn expire_unpaid(world: &mut World, id: &str) {
    let invoice = current(world, id)["latest_invoice"].as_str().unwrap_or_default().to_owned();
    if lifecycle::current(world, &invoice)["status"] == "open" {
        lifecycle::void(world, &invoice);
    }
    expire(world, id);
}

/// Ends a subscription that was never paid.
pub(crate) fn expire(world: &mut World, id: &str) {
    let before = current(world, id);
    if before["status"] != "incomplete" {
        return;
    }
    let mut subscription = before.clone();
    subscription["status"] = json!("incomplete_expired");
    subscription["ended_at"] = json!(world.now_for(&before["customer"]));
    change(world, &before, &subscription);
}

/// Begins the next period, and bills it with a draft.
pub(crate) fn renew(world: &mut World, id: &str) {
    let before = current(world, id);
    if before["status"] == "trialing" && payment_method(world, &before).is_none() && !trial_can_end(world, &before) {
        return;
    }
    let invoice = begin_period(world, id, period(&before).1, "subscription_cycle");
    let after = current(world, id);
    world.announce_change("customer.subscription.updated", &before, &after);
    pause::withhold(world, &after, &invoice);
}

/// Whether a trial without a payment method goes on; otherwise it is ended as `trial_settings` says.
fn trial_can_end(world: &mut World, subscription: &Value) -> bool {
    let id = subscription["id"].as_str().unwrap_or_default();
    if subscription["collection_method"] == "send_invoice" {
        return true;
    }
    match subscription["trial_settings"]["end_behavior"]["missing_payment_method"].as_str() {
        Some("cancel") => cancel::end(world, id, None),
        Some("pause") => pause::set_paused(world, id, "trial_end_without_payment_method"),
        _ => return true,
    }
    false
}

/// Moves a subscription to the period that begins at a second, and bills its items for it: the draft. A trial that has ended
/// makes it active. The subscription is stored, but not announced.
pub(crate) fn begin_period(world: &mut World, id: &str, start: i64, reason: &str) -> String {
    let mut subscription = current(world, id);
    let old = period(&subscription);
    let natural = items::interval(items::of(&subscription)).around(int(&subscription["billing_cycle_anchor"]), start);
    if subscription["cancel_at_period_end"] == true {
        subscription["cancel_at"] = json!(natural.1);
    }
    // A cancellation within the period makes it shorter.
    let end = subscription["cancel_at"].as_i64().filter(|at| *at > start).map_or(natural.1, |at| at.min(natural.1));
    let period = (start, end);
    if subscription["status"] == "trialing" {
        subscription["status"] = json!("active");
    }
    let mut all = items::of(&subscription).to_vec();
    items::set_period(&mut all, period);
    items::put(world, &mut subscription, &all);
    world.save(kind::SUBSCRIPTION, &subscription);
    let charge = |world: &World, item: &Value| {
        let cost = share(full_cost(world, item), end - start, natural.1 - natural.0);
        Charge { item: item.clone(), cost, period, in_trial: false }
    };
    let charges: Vec<Charge> = all.iter().map(|item| charge(world, item)).collect();
    let own = if reason == "subscription_cycle" { (old.0, start) } else { (start, start) };
    billing::invoice(world, id, reason, own, &charges)
}
