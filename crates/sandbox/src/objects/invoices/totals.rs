//! What an invoice comes to: discounts, then taxes, line by line, then the customer's balance.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::amount;
use crate::kind;
use crate::objects::discounts;
use crate::objects::prices::{as_decimal, round, share};
use crate::world::World;

/// An array's elements; none of what is no array.
pub(crate) fn elements(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A whole number; 0 if it is none.
pub(crate) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Writes all amounts of an invoice that is not finalized, from its lines.
pub(crate) fn calculate(world: &World, invoice: &mut Value) {
    let mut lines = invoice["lines"]["data"].as_array().cloned().unwrap_or_default();
    let off = discount(world, invoice, &mut lines);
    let taxes = tax(world, invoice, &mut lines);
    let subtotal: i64 = lines.iter().map(|line| int(&line["amount"])).sum();
    let off_sum: i64 = off.iter().map(|one| int(&one["amount"])).sum();
    let sum_of = |behavior: &str| -> i64 {
        taxes.iter().filter(|tax| tax["tax_behavior"] == behavior).map(|tax| int(&tax["amount"])).sum()
    };
    let (inclusive, exclusive) = (sum_of("inclusive"), sum_of("exclusive"));
    let total = subtotal - off_sum + exclusive;
    let balance = world.get(kind::CUSTOMER, invoice["customer"].as_str().unwrap_or_default());
    let balance = balance.map_or(0, |customer| int(&customer["balance"]));
    let (due, _) = settle(total, balance, invoice["currency"].as_str().unwrap_or_default());
    invoice["lines"]["data"] = json!(lines);
    invoice["subtotal"] = json!(subtotal);
    invoice["subtotal_excluding_tax"] = json!(subtotal - inclusive);
    invoice["total"] = json!(total);
    invoice["total_excluding_tax"] = json!(total - exclusive - inclusive);
    invoice["total_taxes"] = json!(taxes);
    invoice["total_discount_amounts"] = json!(off);
    invoice["starting_balance"] = json!(balance);
    invoice["amount_due"] = json!(due);
    invoice["amount_remaining"] = json!(due - int(&invoice["amount_paid"]));
}

/// What is due of a total, and the customer's balance after it. A negative balance is a credit; what is less than can be charged
/// goes onto the balance (docs.stripe.com/invoicing/customer/balance).
pub(crate) fn settle(total: i64, balance: i64, currency: &str) -> (i64, i64) {
    let sum = total + balance;
    if total <= 0 || sum <= 0 {
        // A customer who owes something from before does not pay it with an invoice that comes to nothing.
        return (0, if total <= 0 { balance + total } else { sum });
    }
    if amount::check(sum, currency, "amount").is_err_and(|error| error.text("code") == Some("amount_too_small")) {
        return (0, sum);
    }
    (sum, 0)
}

/// Spreads the invoice's discounts over its lines. What each takes off in all.
fn discount(world: &World, invoice: &Value, lines: &mut [Value]) -> Vec<Value> {
    for line in lines.iter_mut() {
        line["discount_amounts"] = json!([]);
    }
    let mut totals = Vec::new();
    for id in elements(&invoice["discounts"]).iter().filter_map(Value::as_str) {
        let coupon = discounts::coupon(world, id);
        let left: Vec<i64> =
            lines.iter().map(|line| if line["discountable"] == true { net(line) } else { 0 }).collect();
        let sum: i64 = left.iter().sum();
        let off = match coupon["amount_off"].as_i64() {
            Some(amount) => amount.min(sum.max(0)),
            None => round(Decimal::from(sum) * as_decimal(&coupon["percent_off"]) / Decimal::ONE_HUNDRED),
        };
        // Each line takes what is due up to its end, less what is given: the parts add up.
        let (mut seen, mut given) = (0, 0);
        for (line, left) in lines.iter_mut().zip(left) {
            if line["discountable"] != true {
                continue;
            }
            seen += left;
            let part = share(off, seen, sum) - given;
            given += part;
            if let Some(list) = line["discount_amounts"].as_array_mut() {
                list.push(json!({"amount": part, "discount": id}));
            }
        }
        totals.push(json!({"amount": given, "discount": id}));
    }
    totals
}

/// A line's amount less its discounts.
pub(crate) fn net(line: &Value) -> i64 {
    let off: i64 = elements(&line["discount_amounts"]).iter().map(|one| int(&one["amount"])).sum();
    int(&line["amount"]) - off
}

/// Taxes each line, by its own rates or the invoice's. What each rate comes to in all.
fn tax(world: &World, invoice: &Value, lines: &mut [Value]) -> Vec<Value> {
    let customer = world.get(kind::CUSTOMER, invoice["customer"].as_str().unwrap_or_default());
    let exempt = customer.is_some_and(|customer| customer["tax_exempt"] != "none");
    let mut order: Vec<String> = Vec::new();
    let mut sums: BTreeMap<String, (Value, i64, i64)> = BTreeMap::new();
    for line in lines.iter_mut() {
        let own = own_rates(world, line);
        let rates = if own.is_empty() { elements(&invoice["default_tax_rates"]).to_vec() } else { own };
        let rates = if exempt { Vec::new() } else { rates };
        let taxes = line_taxes(net(line), &rates);
        for tax in &taxes {
            let id = tax["tax_rate_details"]["tax_rate"].as_str().unwrap_or_default().to_owned();
            if !order.contains(&id) {
                order.push(id.clone());
            }
            let sum = sums.entry(id).or_insert((tax.clone(), 0, 0));
            sum.1 += int(&tax["amount"]);
            sum.2 += int(&tax["taxable_amount"]);
        }
        line["taxes"] = json!(taxes);
    }
    let total = |id: &String| {
        let (mut tax, amount, taxable) = sums.get(id).cloned()?;
        tax["amount"] = json!(amount);
        tax["taxable_amount"] = json!(taxable);
        Some(tax)
    };
    order.iter().filter_map(total).collect()
}

/// The rates of the invoice item or the subscription item that a line is for.
fn own_rates(world: &World, line: &Value) -> Vec<Value> {
    let details = &line["parent"];
    let item = details["invoice_item_details"]["invoice_item"]
        .as_str()
        .or(details["subscription_item_details"]["invoice_item"].as_str())
        .and_then(|id| world.get(kind::INVOICE_ITEM, id))
        .filter(|item| !elements(&item["tax_rates"]).is_empty());
    let from = item.or_else(|| {
        let id = details["subscription_item_details"]["subscription_item"].as_str()?;
        world.get(kind::SUBSCRIPTION_ITEM, id)
    });
    from.map(|item| elements(&item["tax_rates"]).to_vec()).unwrap_or_default()
}

fn line_taxes(amount: i64, rates: &[Value]) -> Vec<Value> {
    let sum_inclusive: Decimal =
        rates.iter().filter(|rate| rate["inclusive"] == true).map(|rate| as_decimal(&rate["percentage"])).sum();
    let whole = Decimal::ONE_HUNDRED + sum_inclusive;
    let taxable = round(Decimal::from(amount) * Decimal::ONE_HUNDRED / whole);
    rates
        .iter()
        .map(|rate| {
            let percentage = as_decimal(&rate["percentage"]);
            let inclusive = rate["inclusive"] == true;
            // What is inclusive is part of the amount; what is exclusive comes on top of what is not tax.
            let (of, over) = if inclusive { (amount, whole) } else { (taxable, Decimal::ONE_HUNDRED) };
            json!({
                "amount": round(Decimal::from(of) * percentage / over),
                "tax_behavior": if inclusive { "inclusive" } else { "exclusive" },
                "tax_rate_details": {"tax_rate": rate["id"]},
                "taxability_reason": "standard_rated",
                "taxable_amount": taxable,
                "type": "tax_rate_details",
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{line_taxes, settle};

    #[test]
    fn balances() {
        assert_eq!(settle(1000, 0, "usd"), (1000, 0));
        assert_eq!(settle(1000, -300, "usd"), (700, 0));
        assert_eq!(settle(1000, -1300, "usd"), (0, -300));
        assert_eq!(settle(1000, 200, "usd"), (1200, 0));
        assert_eq!(settle(-500, 0, "usd"), (0, -500));
        assert_eq!(settle(30, 0, "usd"), (0, 30), "less than can be charged");
    }

    #[test]
    fn taxes_in_and_on_top_of_an_amount() {
        let rate = |inclusive: bool| json!({"id": "txr", "percentage": 20.0, "inclusive": inclusive});
        let inside = line_taxes(1200, &[rate(true)]);
        assert_eq!((&inside[0]["amount"], &inside[0]["taxable_amount"]), (&json!(200), &json!(1000)));
        let on_top = line_taxes(999, &[rate(false)]);
        assert_eq!((&on_top[0]["amount"], &on_top[0]["taxable_amount"]), (&json!(200), &json!(999)));
    }
}
