//! Changes of a subscription: its items with prorations, its anchor, its trial, and all that is simply written.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::objects::invoices::lifecycle;
use crate::objects::subscriptions::billing::{self, Charge};
use crate::objects::subscriptions::create::{self, PRORATIONS, as_error};
use crate::objects::subscriptions::items::{self, Change};
use crate::objects::subscriptions::pause::{anchor_word, read_collection};
use crate::objects::subscriptions::{cancel, current, cycle, is_over, note, pending, period, proration};
use crate::objects::{discounts, invoice_items};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

const BEHAVIORS: &[&str] = &["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"];

/// How a change is billed, and paid.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// `always_invoice`, `create_prorations` or `none`.
    pub(crate) proration: String,
    /// `payment_behavior`.
    pub(crate) payment: String,
    /// The second from which on is prorated.
    pub(crate) at: i64,
    pub(crate) off_session: bool,
}

impl Terms {
    pub(crate) fn read(world: &World, subscription: &Value, parameters: &Parameters) -> Result<Self, ApiError> {
        let now = world.now_for(&subscription["customer"]);
        let at = parameters.integer("proration_date")?.unwrap_or(now);
        let (start, end) = period(subscription);
        if parameters.has("proration_date") && !(start..=end).contains(&at) {
            let message = "Invalid proration_date: must be within the current period of the subscription.";
            return Err(ApiError::value(&parameters.name("proration_date"), message));
        }
        let proration = parameters.word("proration_behavior", PRORATIONS)?;
        let payment = parameters.word("payment_behavior", BEHAVIORS)?;
        Ok(Self {
            proration: proration.unwrap_or_else(|| "create_prorations".to_owned()),
            payment: payment.unwrap_or_else(|| "allow_incomplete".to_owned()),
            at,
            off_session: parameters.flag("off_session")?.unwrap_or(false),
        })
    }
}

/// `POST /v1/subscriptions/{}`.
pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::SUBSCRIPTION, request.id(), "id")?.clone();
    if is_over(&before) && !parameters.only(&["metadata", "cancellation_details"]) {
        let message = "A canceled subscription can only update its cancellation_details and metadata.";
        return Err(ApiError::invalid(message));
    }
    let debits = world.hidden(kind::SUBSCRIPTION, request.id())["debits"].clone();
    let terms = Terms::read(world, &before, parameters)?;
    let invoice = change(world, request.id(), parameters, &terms)?;
    parameters.finish()?;
    settle(world, &before, &debits, invoice, &terms)
}

/// Announces a change, and collects its invoice, if it has one.
pub(crate) fn settle(
    world: &mut World,
    before: &Value,
    debits: &Value,
    invoice: Option<String>,
    terms: &Terms,
) -> Result<Value, ApiError> {
    let id = before["id"].as_str().unwrap_or_default();
    let Some(invoice) = invoice else {
        let after = current(world, id);
        world.announce_change("customer.subscription.updated", before, &after);
        return Ok(after);
    };
    let pending = terms.payment == "pending_if_incomplete";
    if pending {
        pending::await_payment(world, id, &invoice);
    } else {
        let after = current(world, id);
        world.announce_change("customer.subscription.updated", before, &after);
    }
    let outcome = billing::collect(world, &invoice, terms.payment != "default_incomplete", terms.off_session);
    match outcome {
        Err(error) if terms.payment == "error_if_incomplete" => return Err(as_error(error)),
        Err(_) if pending => pending::hold(world, before, debits),
        Ok(()) if pending => {
            let after = current(world, id);
            world.announce_change("customer.subscription.updated", before, &after);
        }
        _ => {}
    }
    // Nobody has tried to collect it yet: until somebody does, it is owed.
    let open = lifecycle::current(world, &invoice)["status"] == "open";
    if open && terms.payment == "default_incomplete" && before["collection_method"] == "charge_automatically" {
        let now = current(world, id);
        let mut owing = now.clone();
        owing["status"] = json!("past_due");
        super::change(world, &now, &owing);
    }
    Ok(current(world, id))
}

/// Makes the change of what the parameters say, stored but not announced. The draft, if it is billed at once.
pub(crate) fn change(
    world: &mut World,
    id: &str,
    parameters: &Parameters,
    terms: &Terms,
) -> Result<Option<String>, ApiError> {
    let mut subscription = current(world, id);
    let now = world.now_for(&subscription["customer"]);
    let was = subscription["cancel_at"].clone();
    create::fill(world, &mut subscription, parameters)?;
    cancel::read(&mut subscription, parameters, now)?;
    read_collection(&mut subscription, parameters)?;
    let currency = subscription["currency"].as_str().unwrap_or_default().to_owned();
    if let Some(asked) = discounts::read(parameters)? {
        subscription["discounts"] =
            discounts::make(world, asked, &subscription["customer"].clone(), ("subscription", id), &currency)?;
    }
    let customer = subscription["customer"].as_str().unwrap_or_default().to_owned();
    let mut added = false;
    for part in parameters.parts("add_invoice_items")?.unwrap_or_default() {
        let item = invoice_items::of_part(world, &part, &customer, Some(id), &currency)?;
        invoice_items::store(world, &item);
        added = true;
    }
    let anchor_now = anchor_word(parameters)?.as_deref() == Some("now");
    let trial = Trial::read(&subscription, parameters, now)?;
    let changes = items::read(world, &subscription, parameters)?;
    if changes.is_some() && subscription["status"] == "incomplete" {
        let message =
            "The items of a subscription that is incomplete cannot be changed: its first invoice must be paid first.";
        return Err(ApiError::invalid(message).param("items"));
    }
    world.save(kind::SUBSCRIPTION, &subscription);
    if subscription["cancel_at"] != was {
        cancel::cut(world, id, &terms.proration);
    }
    match trial {
        Trial::Same => {}
        Trial::Ends => return Ok(Some(end_trial(world, id, changes, now))),
        Trial::Until(end) => return Ok(set_trial(world, id, changes, terms, now, end)),
    }
    let changes = changes.unwrap_or_else(|| same(&subscription));
    let invoice = change_items(world, id, &changes, terms, anchor_now);
    if invoice.is_none() && added && terms.proration == "always_invoice" {
        return Ok(Some(billing::invoice(world, id, "subscription_update", (now, now), &[])));
    }
    Ok(invoice)
}

fn same(subscription: &Value) -> Vec<Change> {
    let keep = |item: &Value| Change { before: Some(item.clone()), after: Some(item.clone()) };
    items::of(subscription).iter().map(keep).collect()
}

/// What an update does to the trial.
enum Trial {
    Same,
    Ends,
    Until(i64),
}

impl Trial {
    fn read(subscription: &Value, parameters: &Parameters, now: i64) -> Result<Self, ApiError> {
        let is_now = parameters.text("trial_end")?.as_deref() == Some("now");
        let first = &subscription["items"]["data"][0];
        match create::trial_end(parameters, now, first)? {
            Some(end) => Ok(Self::Until(end)),
            None if is_now && subscription["status"] == "trialing" => Ok(Self::Ends),
            None => Ok(Self::Same),
        }
    }
}

/// Writes changed items, and prorates or bills them. The draft, if they are billed at once.
pub(crate) fn change_items(
    world: &mut World,
    id: &str,
    changes: &[Change],
    terms: &Terms,
    anchor_now: bool,
) -> Option<String> {
    let mut subscription = current(world, id);
    let now = world.now_for(&subscription["customer"]);
    let before = items::of(&subscription).to_vec();
    let mut after = items::after(changes);
    let trialing = subscription["status"] == "trialing";
    let resets = anchor_now || items::interval(&after) != items::interval(&before);
    if resets && !trialing {
        credit(world, &subscription, &before, terms);
        subscription["billing_cycle_anchor"] = json!(now);
        items::put(world, &mut subscription, &after);
        world.save(kind::SUBSCRIPTION, &subscription);
        note(world, id, "debits", json!({}));
        return Some(cycle::begin_period(world, id, now, "subscription_update"));
    }
    items::set_period(&mut after, period(&subscription));
    items::put(world, &mut subscription, &after);
    world.save(kind::SUBSCRIPTION, &subscription);
    if trialing || terms.proration == "none" || subscription["status"] == "paused" {
        return None;
    }
    let mut prorated = false;
    for change in changes.iter().filter(|change| change.is_billed()) {
        if let Some(item) = &change.before {
            prorated |= proration::credit(world, &subscription, item, terms.at).is_some();
        }
        let item = change.after.as_ref().and_then(|item| after.iter().find(|one| one["id"] == item["id"]));
        if let Some(item) = item {
            prorated |= proration::debit(world, &subscription, item, terms.at).is_some();
        }
    }
    let at_once = prorated && terms.proration == "always_invoice";
    at_once.then(|| billing::invoice(world, id, "subscription_update", (now, now), &[]))
}

fn credit(world: &mut World, subscription: &Value, items: &[Value], terms: &Terms) {
    for item in items.iter().filter(|_| terms.proration != "none") {
        proration::credit(world, subscription, item, terms.at);
    }
}

fn write_items(world: &mut World, id: &str, changes: Option<Vec<Change>>) {
    if let Some(changes) = changes {
        let mut subscription = current(world, id);
        let mut after = items::after(&changes);
        items::set_period(&mut after, period(&subscription));
        items::put(world, &mut subscription, &after);
        world.save(kind::SUBSCRIPTION, &subscription);
    }
}

/// The trial is over: the first paid period begins now.
fn end_trial(world: &mut World, id: &str, changes: Option<Vec<Change>>, now: i64) -> String {
    write_items(world, id, changes);
    let mut subscription = current(world, id);
    subscription["trial_end"] = json!(now);
    subscription["billing_cycle_anchor"] = json!(now);
    world.save(kind::SUBSCRIPTION, &subscription);
    cycle::begin_period(world, id, now, "subscription_update")
}

/// A trial until a second, from now on or longer than it was. One that begins is billed with nothing.
fn set_trial(
    world: &mut World,
    id: &str,
    changes: Option<Vec<Change>>,
    terms: &Terms,
    now: i64,
    end: i64,
) -> Option<String> {
    let was = current(world, id);
    let begins = was["status"] != "trialing";
    if begins {
        credit(world, &was, items::of(&was), terms);
    }
    write_items(world, id, changes);
    let mut subscription = current(world, id);
    if begins {
        subscription["status"] = json!("trialing");
        subscription["trial_start"] = json!(now);
    }
    subscription["trial_end"] = json!(end);
    subscription["billing_cycle_anchor"] = json!(end);
    if subscription["cancel_at_period_end"] == true {
        subscription["cancel_at"] = json!(end);
    }
    let span = (if begins { now } else { period(&subscription).0 }, end);
    let mut all = items::of(&subscription).to_vec();
    items::set_period(&mut all, span);
    items::put(world, &mut subscription, &all);
    world.save(kind::SUBSCRIPTION, &subscription);
    note(world, id, "trial_told", json!(false));
    if !begins {
        return None;
    }
    let charges: Vec<Charge> =
        all.into_iter().map(|item| Charge { item, cost: 0, period: span, in_trial: true }).collect();
    Some(billing::invoice(world, id, "subscription_update", (now, now), &charges))
}
