//! Webhooks on their way: which endpoints want an event, and the task that signs, sends and sends again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::task::JoinSet;

use crate::fault::{FaultKind, matches};
use crate::kind;
use crate::server::Shared;
use crate::time::wall_milliseconds;
use crate::versions;
use crate::world::{World, lock};

/// What `endpoint` begins with where it is not a webhook endpoint of the API, but one of `Settings::forward_to`.
const FORWARD: &str = "forward_";

/// Where an event goes to.
struct Destination {
    url: String,
    secret: String,
    version: Option<String>,
}

/// Queues an event for every endpoint that wants it.
pub(crate) fn queue(world: &mut World, event: &Value) {
    let event_type = event["type"].as_str().unwrap_or_default().to_owned();
    let mut endpoints: Vec<String> = world
        .all(kind::WEBHOOK_ENDPOINT)
        .filter(|endpoint| endpoint["status"] == "enabled" && wants(endpoint, &event_type))
        .filter_map(|endpoint| endpoint["id"].as_str().map(str::to_owned))
        .collect();
    for (index, forward) in world.settings.forward_to.iter().enumerate() {
        if forward.world.as_ref().is_none_or(|name| *name == world.name) {
            endpoints.push(format!("{FORWARD}{index}"));
        }
    }
    for endpoint in endpoints {
        enqueue(world, event, &endpoint);
    }
}

fn wants(endpoint: &Value, event_type: &str) -> bool {
    endpoint["enabled_events"].as_array().is_some_and(|wanted| wanted.iter().any(|one| one == "*" || one == event_type))
}

/// Queues an event for one endpoint, unless a fault loses it.
fn enqueue(world: &mut World, event: &Value, endpoint: &str) {
    let event_type = event["type"].as_str().unwrap_or_default().to_owned();
    let fault = world.take_webhook_fault(&event_type);
    let delay = match &fault {
        Some(fault) if fault.kind == FaultKind::LoseWebhook => return,
        Some(fault) if fault.kind == FaultKind::DelayWebhook => i64::from(fault.seconds) * 1000,
        _ => 0,
    };
    let delivery = send(world, event, endpoint, wall_milliseconds() + delay);
    if fault.is_some_and(|fault| fault.kind == FaultKind::RepeatWebhook) {
        send(world, event, endpoint, wall_milliseconds());
    }
    hold_back(world, &event_type, &delivery);
}

/// Puts a delivery into the queue, and gives its id.
pub(crate) fn send(world: &mut World, event: &Value, endpoint: &str, at: i64) -> String {
    let id = world.new_id(kind::DELIVERY);
    let delivery = json!({
        "id": id, "object": kind::DELIVERY.name, "event": event["id"], "endpoint": endpoint, "attempts": 0, "next_at": at,
        "order": world.ids.drawn,
    });
    world.save(kind::DELIVERY, &delivery);
    note_pending(world, event["id"].as_str().unwrap_or_default(), endpoint, true);
    id
}

/// Holds a delivery back where a fault waits for events to be reordered; with the last of them, lets all go, the last first.
fn hold_back(world: &mut World, event_type: &str, id: &str) {
    let Some(index) = world.faults.iter().position(|fault| {
        fault.kind == FaultKind::ReorderWebhooks
            && fault.event_type.as_ref().is_none_or(|wanted| matches(wanted, event_type))
    }) else {
        return;
    };
    let Some(fault) = world.faults.get_mut(index) else { return };
    // Its time has run out before enough events came: those were let go, and it has happened.
    if fault.held.as_ref().is_some_and(|(until, _)| *until < wall_milliseconds()) {
        world.faults.remove(index);
        return;
    }
    let end = wall_milliseconds() + i64::from(fault.seconds) * 1000;
    let (until, held) = fault.held.get_or_insert((end, Vec::new()));
    held.push(id.to_owned());
    let full = held.len() >= usize::try_from(fault.times).unwrap_or(2);
    let (until, held) = (if full { wall_milliseconds() } else { *until }, held.clone());
    if full {
        world.faults.remove(index);
    }
    for id in held {
        let Some(mut delivery) = world.get(kind::DELIVERY, &id).cloned() else { continue };
        let order = delivery["order"].as_i64().unwrap_or(0);
        delivery["order"] = json!(-order.abs());
        delivery["next_at"] = json!(until);
        world.save(kind::DELIVERY, &delivery);
    }
}

/// How many deliveries to one endpoint are taken up at once.
const BATCH: usize = 50;

/// Delivers until it is aborted: one delivery at a time for each endpoint, in order.
pub(crate) async fn deliver(shared: Arc<Shared>) {
    // Aborted with this task: what was under way then is delivered again after the next start.
    let mut attempts = JoinSet::new();
    for world in shared.all_worlds() {
        lock(&world).endpoints_in_use.clear();
    }
    loop {
        while attempts.try_join_next().is_some() {}
        let begun = Instant::now();
        let mut next = wall_milliseconds() + 1000;
        for world in shared.all_worlds() {
            let mut locked = lock(&world);
            let (ready, later) = ready(&locked);
            next = next.min(later);
            for (endpoint, ids) in ready {
                locked.endpoints_in_use.insert(endpoint.clone());
                attempts.spawn(serve_endpoint(shared.clone(), world.clone(), endpoint, ids));
            }
        }
        // Looking through a long queue holds the worlds up: at most half of the time.
        tokio::time::sleep(begun.elapsed()).await;
        let pause = u64::try_from(next - wall_milliseconds()).unwrap_or(0).clamp(1, 1000);
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// The deliveries to be tried now, in order for each endpoint, and when the next one will be.
fn ready(world: &World) -> (BTreeMap<String, Vec<String>>, i64) {
    let now = wall_milliseconds();
    let mut later = i64::MAX;
    let mut waiting: BTreeMap<&str, Vec<(i64, &str)>> = BTreeMap::new();
    for delivery in world.all(kind::DELIVERY) {
        let (Some(id), Some(endpoint)) = (delivery["id"].as_str(), delivery["endpoint"].as_str()) else { continue };
        let next_at = delivery["next_at"].as_i64().unwrap_or(0);
        if next_at > now {
            later = later.min(next_at);
        } else if !world.endpoints_in_use.contains(endpoint) {
            waiting.entry(endpoint).or_default().push((delivery["order"].as_i64().unwrap_or(0), id));
        }
    }
    let in_order = |mut ids: Vec<(i64, &str)>| {
        ids.sort_unstable();
        ids.into_iter().take(BATCH).map(|(_, id)| id.to_owned()).collect()
    };
    (waiting.into_iter().map(|(endpoint, ids)| (endpoint.to_owned(), in_order(ids))).collect(), later)
}

/// Tries some deliveries to one endpoint, one after the other; not for long, because others may be due before the last of them.
async fn serve_endpoint(shared: Arc<Shared>, world: Arc<Mutex<World>>, endpoint: String, ids: Vec<String>) {
    let begun = Instant::now();
    for id in ids {
        if begun.elapsed() > Duration::from_secs(1) {
            break;
        }
        attempt(&shared, &world, &id, &endpoint).await;
    }
    lock(&world).endpoints_in_use.remove(&endpoint);
    shared.wake.notify_one();
}

async fn attempt(shared: &Shared, world: &Mutex<World>, id: &str, endpoint: &str) {
    let prepared = prepare(&lock(world), id, endpoint);
    let outcome = match &prepared {
        None => None,
        Some((destination, body)) => Some(post(shared, destination, body).await),
    };
    let mut world = lock(world);
    match outcome {
        None => give_up(&mut world, id, endpoint),
        Some(outcome) => settle(&mut world, id, endpoint, &outcome),
    }
    if let Err(error) = shared.journal.commit(&mut world) {
        tracing::error!(event = "journal_failed", %error);
    }
}

/// What to send where. None where the endpoint or the event is gone, or the endpoint takes nothing any more.
fn prepare(world: &World, id: &str, endpoint: &str) -> Option<(Destination, String)> {
    let destination = match endpoint.strip_prefix(FORWARD) {
        Some(index) => {
            let forward = world.settings.forward_to.get(index.parse::<usize>().ok()?)?;
            Destination { url: forward.url.clone(), secret: forward.secret.clone(), version: None }
        }
        None => {
            let document =
                world.get(kind::WEBHOOK_ENDPOINT, endpoint).filter(|document| document["status"] == "enabled")?;
            Destination {
                url: document["url"].as_str()?.to_owned(),
                secret: world.hidden(kind::WEBHOOK_ENDPOINT, endpoint)["secret"].as_str()?.to_owned(),
                version: document["api_version"].as_str().map(str::to_owned),
            }
        }
    };
    let event = world.get(kind::EVENT, world.get(kind::DELIVERY, id)?["event"].as_str()?)?;
    let event = versions::render(world, event, destination.version.as_deref());
    let body = serde_json::to_string_pretty(&event).ok()?;
    Some((destination, body))
}

/// `t=..,v1=..` as Stripe signs it: HMAC-SHA256 over `t.body`, with the whole secret as the key.
pub(crate) fn signature(secret: &str, seconds: i64, body: &str) -> String {
    // HMAC takes keys of any length, so there is always one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{seconds}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

async fn post(shared: &Shared, destination: &Destination, body: &str) -> Result<u16, String> {
    let seconds = wall_milliseconds() / 1000;
    let sent = shared
        .client
        .post(&destination.url)
        .header("Content-Type", "application/json; charset=utf-8")
        .header("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header("Stripe-Signature", signature(&destination.secret, seconds, body))
        .body(body.to_owned())
        .send()
        .await;
    match sent {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) => Err(error.without_url().to_string()),
    }
}

/// Counts a try: done if it was answered 2xx, else again after the next pause, if there is one.
fn settle(world: &mut World, id: &str, endpoint: &str, outcome: &Result<u16, String>) {
    let Some(mut delivery) = world.get(kind::DELIVERY, id).cloned() else { return };
    let event_id = delivery["event"].as_str().unwrap_or_default().to_owned();
    let attempts = delivery["attempts"].as_u64().unwrap_or(0) + 1;
    let event_type = world.get(kind::EVENT, &event_id).map_or(Value::Null, |event| event["type"].clone());
    let status = outcome.as_ref().copied().unwrap_or(0);
    let error = outcome.as_ref().err();
    tracing::info!(
        event = "webhook",
        world = world.name,
        endpoint,
        id = event_id,
        r#type = event_type.as_str().unwrap_or_default(),
        attempt = attempts,
        status,
        error
    );
    if (200..300).contains(&status) {
        world.forget(kind::DELIVERY, id);
        note_pending(world, &event_id, endpoint, false);
        return;
    }
    let retries = &world.settings.webhook_retries;
    match usize::try_from(attempts).ok().and_then(|attempts| retries.get(attempts - 1)) {
        None => world.forget(kind::DELIVERY, id),
        Some(pause) => {
            let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            delivery["attempts"] = json!(attempts);
            delivery["next_at"] = json!(wall_milliseconds().saturating_add(pause));
            world.save(kind::DELIVERY, &delivery);
        }
    }
}

/// Drops a delivery whose endpoint takes nothing any more.
fn give_up(world: &mut World, id: &str, endpoint: &str) {
    let event = world.get(kind::DELIVERY, id).and_then(|delivery| delivery["event"].as_str()).map(str::to_owned);
    world.forget(kind::DELIVERY, id);
    note_pending(world, &event.unwrap_or_default(), endpoint, false);
}

/// Notes beside an event whether it has yet to arrive at an endpoint. `pending_webhooks` counts for how many that is so,
/// however often it is sent to each.
fn note_pending(world: &mut World, event_id: &str, endpoint: &str, pending: bool) {
    let Some(mut event) = world.get(kind::EVENT, event_id).cloned() else { return };
    let mut endpoints = world.hidden(kind::EVENT, event_id)["pending"].as_array().cloned().unwrap_or_default();
    endpoints.retain(|one| one != endpoint);
    if pending {
        endpoints.push(json!(endpoint));
    }
    event["pending_webhooks"] = json!(endpoints.len());
    world.save(kind::EVENT, &event);
    world.hide(kind::EVENT, event_id, json!({ "pending": endpoints }));
}

#[cfg(test)]
mod tests {
    #[test]
    fn signed_as_stripe_signs() {
        // Computed with stripe-python's WebhookSignature._compute_signature.
        assert_eq!(
            super::signature("whsec_test", 1_700_000_000, "{}"),
            "t=1700000000,v1=35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91"
        );
    }
}
