//! Subscription items (docs.stripe.com/api/subscription_items), each by itself: a change of one is a change of its subscription.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::subscriptions::items::{self, Change};
use crate::objects::subscriptions::update::{self, Terms};
use crate::objects::subscriptions::{current, is_over};
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let id = parameters.required_text("subscription")?;
    let subscription = world.find(kind::SUBSCRIPTION, &id, "subscription")?.clone();
    let Some(price) = items::price(world, parameters)? else { return Err(parameters.missing("price")) };
    let mut item = items::new(world, &subscription, &price, 1);
    items::fill(world, &mut item, parameters)?;
    let made = item["id"].as_str().unwrap_or_default().to_owned();
    apply(world, request, &subscription, Change { before: None, after: Some(item) })?;
    world.find(kind::SUBSCRIPTION_ITEM, &made, "id").cloned()
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::SUBSCRIPTION_ITEM, request.id(), "id")?.clone();
    let subscription = current(world, before["subscription"].as_str().unwrap_or_default());
    let mut item = before.clone();
    items::fill(world, &mut item, &request.parameters)?;
    items::fill_price(world, &mut item, &request.parameters)?;
    apply(world, request, &subscription, Change { before: Some(before), after: Some(item) })?;
    world.find(kind::SUBSCRIPTION_ITEM, request.id(), "id").cloned()
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::SUBSCRIPTION_ITEM, request.id(), "id")?.clone();
    let subscription = current(world, before["subscription"].as_str().unwrap_or_default());
    request.parameters.flag("clear_usage")?;
    apply(world, request, &subscription, Change { before: Some(before), after: None })?;
    Ok(json!({"id": request.id(), "object": "subscription_item", "deleted": true}))
}

/// Changes one item of a subscription, on the terms of the request.
fn apply(world: &mut World, request: &Request, subscription: &Value, change: Change) -> Result<(), ApiError> {
    let id = subscription["id"].as_str().unwrap_or_default();
    let terms = Terms::read(world, subscription, &request.parameters)?;
    request.parameters.finish()?;
    if is_over(subscription) || subscription["status"] == "incomplete" {
        let status = subscription["status"].as_str().unwrap_or_default();
        return Err(ApiError::invalid(format!("The items of a subscription that is {status} cannot be changed.")));
    }
    let touched = change.before.as_ref().map(|item| item["id"].clone());
    let others = items::of(subscription).iter().filter(|item| Some(&item["id"]) != touched.as_ref());
    let mut changes: Vec<Change> =
        others.map(|item| Change { before: Some(item.clone()), after: Some(item.clone()) }).collect();
    changes.push(change);
    items::check(&items::after(&changes), "items")?;
    let debits = world.hidden(kind::SUBSCRIPTION, id)["debits"].clone();
    let invoice = update::change_items(world, id, &changes, &terms, false);
    update::settle(world, subscription, &debits, invoice, &terms)?;
    Ok(())
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::SUBSCRIPTION_ITEM, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let id = request.parameters.required_text("subscription")?;
    world.find(kind::SUBSCRIPTION, &id, "subscription")?;
    list::page(world, request, kind::SUBSCRIPTION_ITEM, |item| item["subscription"] == id.as_str())
}
