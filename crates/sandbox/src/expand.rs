//! `expand[]=a.b`: puts objects where their ids stand, up to four levels. One table says which field of which kind of object
//! can be expanded.

use serde_json::Value;

use crate::error::ApiError;
use crate::kind::{self, Kind};
use crate::objects::checkout_sessions;
use crate::objects::{invoice_payments, prices, refunds};
use crate::world::World;

/// What a field becomes when it is expanded.
#[derive(Clone, Copy)]
enum To {
    /// The object of a kind whose id it is.
    Kind(Kind),
    /// The object of whichever kind has the id.
    Any,
    /// A field that is only there when it is asked for: made of the object around it.
    Made(fn(&World, &Value) -> Value),
}

/// Kind of the object around it, path of the field within, what it becomes.
const TABLE: &[(Kind, &str, To)] = &[
    (kind::CUSTOMER, "invoice_settings.default_payment_method", To::Kind(kind::PAYMENT_METHOD)),
    (kind::CUSTOMER, "default_source", To::Any),
    (kind::CUSTOMER, "test_clock", To::Kind(kind::TEST_CLOCK)),
    (kind::PAYMENT_METHOD, "customer", To::Kind(kind::CUSTOMER)),
    (kind::PAYMENT_INTENT, "customer", To::Kind(kind::CUSTOMER)),
    (kind::PAYMENT_INTENT, "latest_charge", To::Kind(kind::CHARGE)),
    (kind::PAYMENT_INTENT, "payment_method", To::Kind(kind::PAYMENT_METHOD)),
    (kind::SETUP_INTENT, "customer", To::Kind(kind::CUSTOMER)),
    (kind::SETUP_INTENT, "payment_method", To::Kind(kind::PAYMENT_METHOD)),
    (kind::CHARGE, "balance_transaction", To::Kind(kind::BALANCE_TRANSACTION)),
    (kind::CHARGE, "customer", To::Kind(kind::CUSTOMER)),
    (kind::CHARGE, "payment_intent", To::Kind(kind::PAYMENT_INTENT)),
    (kind::CHARGE, "refunds", To::Made(refunds::of_charge)),
    (kind::REFUND, "balance_transaction", To::Kind(kind::BALANCE_TRANSACTION)),
    (kind::REFUND, "charge", To::Kind(kind::CHARGE)),
    (kind::REFUND, "failure_balance_transaction", To::Kind(kind::BALANCE_TRANSACTION)),
    (kind::REFUND, "payment_intent", To::Kind(kind::PAYMENT_INTENT)),
    (kind::DISPUTE, "charge", To::Kind(kind::CHARGE)),
    (kind::DISPUTE, "payment_intent", To::Kind(kind::PAYMENT_INTENT)),
    (kind::BALANCE_TRANSACTION, "source", To::Any),
    (kind::DISCOUNT, "customer", To::Kind(kind::CUSTOMER)),
    (kind::DISCOUNT, "source.coupon", To::Kind(kind::COUPON)),
    (kind::INVOICE, "confirmation_secret", To::Made(invoice_payments::confirmation_secret)),
    (kind::INVOICE, "customer", To::Kind(kind::CUSTOMER)),
    (kind::INVOICE, "default_payment_method", To::Kind(kind::PAYMENT_METHOD)),
    (kind::INVOICE, "discounts", To::Kind(kind::DISCOUNT)),
    (kind::INVOICE, "parent.subscription_details.subscription", To::Kind(kind::SUBSCRIPTION)),
    (kind::INVOICE, "payments", To::Made(invoice_payments::of_invoice)),
    (kind::INVOICE, "test_clock", To::Kind(kind::TEST_CLOCK)),
    (LINE, "discounts", To::Kind(kind::DISCOUNT)),
    (LINE, "pricing.price_details.price", To::Kind(kind::PRICE)),
    (LINE, "subscription", To::Kind(kind::SUBSCRIPTION)),
    (kind::INVOICE_ITEM, "customer", To::Kind(kind::CUSTOMER)),
    (kind::INVOICE_ITEM, "invoice", To::Kind(kind::INVOICE)),
    (kind::INVOICE_ITEM, "pricing.price_details.price", To::Kind(kind::PRICE)),
    (kind::INVOICE_PAYMENT, "invoice", To::Kind(kind::INVOICE)),
    (kind::INVOICE_PAYMENT, "payment.payment_intent", To::Kind(kind::PAYMENT_INTENT)),
    (kind::SUBSCRIPTION, "customer", To::Kind(kind::CUSTOMER)),
    (kind::SUBSCRIPTION, "default_payment_method", To::Kind(kind::PAYMENT_METHOD)),
    (kind::SUBSCRIPTION, "discounts", To::Kind(kind::DISCOUNT)),
    (kind::SUBSCRIPTION, "latest_invoice", To::Kind(kind::INVOICE)),
    (kind::SUBSCRIPTION, "pending_setup_intent", To::Kind(kind::SETUP_INTENT)),
    (kind::SUBSCRIPTION, "test_clock", To::Kind(kind::TEST_CLOCK)),
    (kind::PRODUCT, "default_price", To::Kind(kind::PRICE)),
    (kind::PRICE, "product", To::Kind(kind::PRODUCT)),
    (kind::PRICE, "tiers", To::Made(prices::tiers)),
    (kind::CHECKOUT_SESSION, "customer", To::Kind(kind::CUSTOMER)),
    (kind::CHECKOUT_SESSION, "invoice", To::Kind(kind::INVOICE)),
    (kind::CHECKOUT_SESSION, "line_items", To::Made(checkout_sessions::line_items)),
    (kind::CHECKOUT_SESSION, "payment_intent", To::Kind(kind::PAYMENT_INTENT)),
    (kind::CHECKOUT_SESSION, "setup_intent", To::Kind(kind::SETUP_INTENT)),
    (kind::CHECKOUT_SESSION, "subscription", To::Kind(kind::SUBSCRIPTION)),
    (kind::PORTAL_SESSION, "configuration", To::Kind(kind::PORTAL_CONFIGURATION)),
];

/// Lines live within their invoice.
const LINE: Kind = Kind { name: "line_item", prefix: "il" };

/// Expands a path in an answer.
pub(crate) fn expand(world: &World, document: &mut Value, path: &str) -> Result<(), ApiError> {
    let segments: Vec<&str> = path.split('.').collect();
    if segments.len() > 4 {
        return Err(refused(format!("You cannot expand more than 4 levels of a property ({path}).")));
    }
    walk(world, document, &segments, path)
}

fn walk(world: &World, object: &mut Value, segments: &[&str], path: &str) -> Result<(), ApiError> {
    if let Value::Array(list) = object {
        return list.iter_mut().try_for_each(|element| walk(world, element, segments, path));
    }
    if segments.is_empty() || object.is_null() {
        return Ok(());
    }
    // The longest rule first: `a.b` before `a`.
    for taken in (1..=segments.len()).rev() {
        let (head, tail) = segments.split_at_checked(taken).unwrap_or_default();
        let Some(to) = rule(object, &head.join(".")) else { continue };
        let made = match to {
            To::Made(make) => Some(make(world, object)),
            To::Kind(_) | To::Any => None,
        };
        let Some(field) = place(object, head, made.is_some()) else { return Ok(()) };
        match (to, made) {
            (_, Some(made)) => *field = made,
            (To::Kind(kind), _) => replace(field, &|id| world.get(kind, id).cloned()),
            (_, None) => replace(field, &|id| world.find_any(id).cloned()),
        }
        return walk(world, field, tail, path);
    }
    let Some((first, rest)) = segments.split_first() else { return Ok(()) };
    match object.get_mut(*first) {
        Some(below) if !rest.is_empty() && (below.is_array() || below.get("object").is_some()) => {
            walk(world, below, rest, path)
        }
        // A list, an object or nothing stands there already: there is nothing to put in its place.
        Some(below) if rest.is_empty() && (below.is_object() || below.is_array()) => Ok(()),
        Some(Value::Null) if !rest.is_empty() => Ok(()),
        Some(_) => Err(refused(format!("This property cannot be expanded ({path})."))),
        None => Err(refused(format!("This property cannot be expanded because it doesn't exist: {first}."))),
    }
}

fn rule(object: &Value, path: &str) -> Option<To> {
    let name = object["object"].as_str()?;
    TABLE.iter().find(|(kind, field, _)| kind.name == name && *field == path).map(|(_, _, to)| *to)
}

/// The field at a path. None where something on the way is null.
fn place<'a>(object: &'a mut Value, path: &[&str], make: bool) -> Option<&'a mut Value> {
    let mut field = object;
    for segment in path {
        if make && field.get(*segment).is_none() {
            field[*segment] = Value::Null;
        }
        field = field.get_mut(*segment)?;
    }
    Some(field)
}

fn replace(field: &mut Value, find: &dyn Fn(&str) -> Option<Value>) {
    if let Value::Array(list) = field {
        list.iter_mut().for_each(|element| replace(element, find));
    } else if let Some(found) = field.as_str().and_then(find) {
        *field = found;
    }
}

fn refused(message: String) -> ApiError {
    ApiError::value("expand", message)
}
