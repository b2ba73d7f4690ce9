//! Balance transactions and the balance (docs.stripe.com/api/balance_transactions). Fees are Stripe's usual ones for cards;
//! money is available two days after it came in.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::request::Request;
use crate::time::Due;
use crate::world::World;

const TWO_DAYS: i64 = 2 * 24 * 3600;

/// What moved: `charge`, `refund`, `adjustment` (a dispute) and so on, and its object.
pub(crate) struct Movement<'a> {
    pub(crate) kind: &'a str,
    pub(crate) category: &'a str,
    /// What comes in, or goes out if negative, in the smallest unit.
    pub(crate) amount: i64,
    pub(crate) fee: i64,
    pub(crate) currency: &'a Value,
    pub(crate) source: &'a Value,
    pub(crate) description: Value,
    /// In unix seconds.
    pub(crate) created: i64,
    pub(crate) available_at_once: bool,
}

/// Makes a balance transaction.
pub(crate) fn make(world: &mut World, movement: &Movement<'_>) -> Value {
    let fees = if movement.fee == 0 {
        json!([])
    } else {
        json!([{
            "amount": movement.fee, "application": null, "currency": movement.currency,
            "description": if movement.category == "dispute" { "Dispute fee" } else { "Stripe processing fees" },
            "type": "stripe_fee",
        }])
    };
    let available = if movement.available_at_once { movement.created } else { movement.created + TWO_DAYS };
    let transaction = json!({
        "id": world.new_id(kind::BALANCE_TRANSACTION),
        "object": "balance_transaction",
        "amount": movement.amount,
        "available_on": available,
        "balance_type": "payments",
        "created": movement.created,
        "currency": movement.currency,
        "description": movement.description,
        "exchange_rate": null,
        "fee": movement.fee,
        "fee_details": fees,
        "net": movement.amount - movement.fee,
        "reporting_category": movement.category,
        "source": movement.source,
        "status": if movement.available_at_once { "available" } else { "pending" },
        "type": movement.kind,
    });
    world.save(kind::BALANCE_TRANSACTION, &transaction);
    transaction
}

/// The balance transaction of what was captured of a charge.
pub(crate) fn of_charge(world: &mut World, charge: &Value, available_at_once: bool) -> Value {
    let amount = charge["amount_captured"].as_i64().unwrap_or(0);
    let created = world.now_for(&charge["customer"]);
    make(
        world,
        &Movement {
            kind: "charge",
            category: "charge",
            amount,
            fee: amount::fee(amount),
            currency: &charge["currency"],
            source: &charge["id"],
            description: charge["description"].clone(),
            created,
            available_at_once,
        },
    )
}

/// Pending money becomes available.
pub(crate) fn due(world: &World, found: &mut Vec<Due>) {
    for transaction in world.all(kind::BALANCE_TRANSACTION).filter(|transaction| transaction["status"] == "pending") {
        if let (Some(at), Some(id)) = (transaction["available_on"].as_i64(), transaction["id"].as_str()) {
            let run: fn(&mut World, &str) = |world, id| {
                if let Some(mut transaction) = world.get(kind::BALANCE_TRANSACTION, id).cloned() {
                    transaction["status"] = json!("available");
                    world.save(kind::BALANCE_TRANSACTION, &transaction);
                }
            };
            found.push(Due { at, what: "balance_transaction.available", id: id.to_owned(), clock: None, run });
        }
    }
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::BALANCE_TRANSACTION, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let mut filters = Vec::new();
    for field in ["currency", "source", "type"] {
        filters.push((field, request.parameters.text(field)?));
    }
    list::page(world, request, kind::BALANCE_TRANSACTION, |transaction| {
        filters
            .iter()
            .all(|(field, wanted)| wanted.as_ref().is_none_or(|wanted| transaction[*field] == wanted.as_str()))
    })
}

/// `GET /v1/balance`: the sums of what is available and what is pending, for each currency.
pub(crate) fn balance(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for transaction in world.all(kind::BALANCE_TRANSACTION) {
        let currency = transaction["currency"].as_str().unwrap_or_default();
        let status = transaction["status"].as_str().unwrap_or_default();
        for other in ["available", "pending"] {
            let sum = sums.entry((other, currency)).or_default();
            *sum += if other == status { transaction["net"].as_i64().unwrap_or(0) } else { 0 };
        }
    }
    let of = |wanted: &str| -> Vec<Value> {
        sums.iter()
            .filter(|((status, _), _)| *status == wanted)
            .map(|((_, currency), sum)| json!({"amount": sum, "currency": currency, "source_types": {"card": sum}}))
            .collect()
    };
    Ok(json!({"object": "balance", "available": of("available"), "livemode": false, "pending": of("pending")}))
}
