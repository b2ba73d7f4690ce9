//! Events: what Stripe announces, and to whom.

use serde_json::{Map, Value, json};

use crate::API_VERSION;
use crate::kind;
use crate::webhook;
use crate::world::World;

impl World {
    /// Announces that something happened to an object, as it is now: an event, and its way to every endpoint that wants it.
    pub(crate) fn announce(&mut self, event_type: &str, object: &Value) {
        self.announce_with(event_type, object, None);
    }

    /// Announces a change (`*.updated`) with what its fields were before. Nothing, if nothing has changed.
    pub(crate) fn announce_change(&mut self, event_type: &str, before: &Value, after: &Value) {
        let previous = difference(before, after);
        if previous.as_object().is_some_and(|fields| !fields.is_empty()) {
            self.announce_with(event_type, after, Some(previous));
        }
    }

    pub(crate) fn announce_with(&mut self, event_type: &str, object: &Value, previous: Option<Value>) {
        // Refunds and disputes do not name the customer, but their charge does; payments of invoices, but their invoice.
        let charge = object["charge"].as_str().and_then(|charge| self.get(kind::CHARGE, charge));
        let invoice = object["invoice"].as_str().and_then(|invoice| self.get(kind::INVOICE, invoice));
        let created = match charge.or(invoice) {
            Some(of) => self.now_for(&of["customer"]),
            None if object["object"] == kind::CUSTOMER.name => self.now_for(&object["id"]),
            None => self.now_for(&object["customer"]),
        };
        let mut data = json!({ "object": object });
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let id = self.new_id(kind::EVENT);
        let event = json!({
            "id": id,
            "object": "event",
            "api_version": API_VERSION,
            "created": created,
            "data": data,
            "livemode": false,
            "pending_webhooks": 0,
            "request": {
                "id": self.cause.as_ref().map(|cause| cause.request_id.clone()),
                "idempotency_key": self.cause.as_ref().and_then(|cause| cause.idempotency_key.clone()),
            },
            "type": event_type,
        });
        self.save(kind::EVENT, &event);
        webhook::queue(self, &event);
    }
}

/// What the fields that differ were before; within nested objects only what differs there.
fn difference(before: &Value, after: &Value) -> Value {
    let mut changed = Map::new();
    let empty = Map::new();
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    for (key, value) in old {
        match new.get(key) {
            Some(now) if now == value => {}
            Some(now) if now.is_object() && value.is_object() => {
                changed.insert(key.clone(), difference(value, now));
            }
            _ => {
                changed.insert(key.clone(), value.clone());
            }
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(*key)) {
        changed.insert(key.clone(), Value::Null);
    }
    Value::Object(changed)
}
