//! Invoice items (docs.stripe.com/api/invoiceitems): what the next invoice of a customer, or a draft, will bill.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::amount;
use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::invoices::{self, lines};
use crate::objects::{prices, tax_rates};
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let invoice = parameters.text("invoice")?;
    let customer = match (parameters.text("customer")?, &invoice) {
        (Some(customer), _) => customer,
        (None, Some(invoice)) => {
            world.find(kind::INVOICE, invoice, "invoice")?["customer"].as_str().unwrap_or_default().to_owned()
        }
        (None, None) => return Err(parameters.missing("customer")),
    };
    world.find(kind::CUSTOMER, &customer, "customer")?;
    let subscription = parameters.text("subscription")?;
    if let Some(id) = &subscription {
        world.find(kind::SUBSCRIPTION, id, "subscription")?;
    }
    let mut item = blank(world, &customer, subscription.as_deref());
    read(world, parameters, &mut item)?;
    parameters.finish()?;
    if item["currency"].is_null() {
        return Err(parameters.missing("currency"));
    }
    store(world, &item);
    if let Some(invoice) = invoice {
        check_draft(world, &invoice, &item)?;
        attach(world, &mut item, &invoice);
        invoices::recalculate(world, &invoice);
    }
    Ok(item)
}

/// Refuses an invoice that an item cannot go onto.
fn check_draft(world: &World, invoice: &str, item: &Value) -> Result<(), ApiError> {
    let invoice = world.find(kind::INVOICE, invoice, "invoice")?;
    if invoice["status"] != "draft" {
        return Err(invoices::not_editable());
    }
    if invoice["customer"] != item["customer"] {
        return Err(ApiError::value("invoice", "The invoice belongs to another customer."));
    }
    if invoice["currency"] != item["currency"] {
        return Err(ApiError::value("currency", "The item's currency must be that of its invoice."));
    }
    Ok(())
}

/// An item that costs nothing yet, not stored.
pub(crate) fn blank(world: &mut World, customer: &str, subscription: Option<&str>) -> Value {
    let id = world.new_id(kind::INVOICE_ITEM);
    let now = world.now_for(&json!(customer));
    let parent = subscription.map(|subscription| {
        json!({
            "subscription_details": {"subscription": subscription, "subscription_item": null},
            "type": "subscription_details",
        })
    });
    json!({
        "id": id,
        "object": "invoiceitem",
        "amount": 0,
        "currency": null,
        "customer": customer,
        "customer_account": null,
        "date": now,
        "description": null,
        "discountable": true,
        "discounts": [],
        "frozen_fields": null,
        "invoice": null,
        "invoicing_rules": null,
        "livemode": false,
        "metadata": {},
        "net_amount": 0,
        "parent": parent,
        "period": {"end": now, "start": now},
        "pricing": null,
        "proration": false,
        "proration_details": null,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": world.test_clock_of(&json!(customer)),
    })
}

/// Reads what an item says and costs: `amount`, or a price, or `unit_amount_decimal`, times `quantity`.
fn read(world: &mut World, parameters: &Parameters, item: &mut Value) -> Result<(), ApiError> {
    parameters.copy_texts(item, &["description"])?;
    parameters.copy_metadata(item)?;
    if let Some(discountable) = parameters.flag("discountable")? {
        item["discountable"] = json!(discountable);
    }
    if let Some(part) = parameters.part("period")? {
        item["period"] = json!({"end": part.required_integer("end")?, "start": part.required_integer("start")?});
    }
    if let Some(rates) = tax_rates::named(world, parameters, "tax_rates")? {
        item["tax_rates"] = json!(rates);
    }
    if let Some(quantity) = parameters.integer("quantity")? {
        item["quantity"] = json!(quantity);
        item["quantity_decimal"] = json!(quantity.to_string());
    }
    if let Some(currency) = amount::currency(parameters, "currency")? {
        item["currency"] = json!(currency);
    }
    read_cost(world, parameters, item)?;
    item["net_amount"] = item["amount"].clone();
    Ok(())
}

fn read_cost(world: &mut World, parameters: &Parameters, item: &mut Value) -> Result<(), ApiError> {
    let total = parameters.integer("amount")?;
    let unit = prices::decimal(parameters, "unit_amount_decimal")?;
    let price = match (prices::chosen(world, parameters)?, parameters.part("pricing")?) {
        (None, Some(part)) => match part.text("price")? {
            Some(id) => Some(prices::named(world, &id, &part.name("price"))?),
            None => None,
        },
        (price, _) => price,
    };
    let given = [total.is_some(), unit.is_some(), price.is_some()].iter().filter(|given| **given).count();
    if given > 1 {
        let message = "You may only specify one of these parameters: amount, pricing, price_data, unit_amount_decimal.";
        return Err(ApiError::value(&parameters.name("amount"), message));
    }
    let quantity = item["quantity"].as_i64().unwrap_or(1);
    if let Some(total) = total {
        if parameters.has("quantity") {
            let message = "You may only specify one of these parameters: amount, quantity.";
            return Err(ApiError::value(&parameters.name("quantity"), message));
        }
        item["amount"] = json!(total);
    } else if let Some(unit) = unit {
        item["amount"] = json!(prices::round(unit * Decimal::from(quantity)));
        item["pricing"] = json!({"price_details": null, "type": "price_details", "unit_amount_decimal": unit.normalize().to_string()});
    } else if let Some(price) = price {
        if price["type"] == "recurring" {
            let message = "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.";
            return Err(ApiError::value(&parameters.name("price"), message));
        }
        item["amount"] = json!(prices::cost(world, &price, quantity));
        item["currency"] = price["currency"].clone();
        item["pricing"] = lines::pricing(&price);
        if item["description"].is_null() {
            item["description"] = json!(lines::product_name(world, &price));
        }
    } else if item["pricing"]["price_details"]["price"].is_string() && parameters.has("quantity") {
        let id = item["pricing"]["price_details"]["price"].as_str().unwrap_or_default();
        let price = world.get(kind::PRICE, id).cloned().unwrap_or_default();
        item["amount"] = json!(prices::cost(world, &price, quantity));
    }
    Ok(())
}

/// An item of what an element of a list (`lines[]`, `add_invoice_items[]`) says, for a draft or the next invoice.
pub(crate) fn of_part(
    world: &mut World,
    part: &Parameters,
    customer: &str,
    subscription: Option<&str>,
    currency: &str,
) -> Result<Value, ApiError> {
    let mut item = blank(world, customer, subscription);
    item["currency"] = json!(currency);
    if let Some(id) = part.text("price")? {
        let price = prices::named(world, &id, &part.name("price"))?;
        let quantity = part.integer("quantity")?.unwrap_or(1);
        item["amount"] = json!(prices::cost(world, &price, quantity));
        item["currency"] = price["currency"].clone();
        item["description"] = json!(lines::product_name(world, &price));
        item["pricing"] = lines::pricing(&price);
        item["quantity"] = json!(quantity);
        item["quantity_decimal"] = json!(quantity.to_string());
        part.copy_metadata(&mut item)?;
        item["net_amount"] = item["amount"].clone();
    } else {
        read(world, part, &mut item)?;
    }
    if item["currency"] != currency {
        let message = format!("The currency must be {currency}, as on the rest of the invoice.");
        return Err(ApiError::value(&part.name("currency"), message));
    }
    Ok(item)
}

/// Stores a new item, and announces it.
pub(crate) fn store(world: &mut World, item: &Value) {
    world.save(kind::INVOICE_ITEM, item);
    world.announce("invoiceitem.created", item);
}

/// Puts a stored item onto a draft.
pub(crate) fn attach(world: &mut World, item: &mut Value, invoice: &str) {
    item["invoice"] = json!(invoice);
    world.save(kind::INVOICE_ITEM, item);
    let Some(mut invoice) = world.get(kind::INVOICE, invoice).cloned() else { return };
    let line = lines::of_invoice_item(world, item, &invoice);
    if let Some(data) = invoice["lines"]["data"].as_array_mut() {
        data.push(line);
    }
    world.save(kind::INVOICE, &invoice);
}

/// Undoes an item: one that waits is deleted, one that is billed gets its opposite.
pub(crate) fn take_back(world: &mut World, id: &str) {
    let Some(item) = world.find(kind::INVOICE_ITEM, id, "id").ok().cloned() else { return };
    if item["invoice"].is_null() {
        world.announce("invoiceitem.deleted", &item);
        world.delete(kind::INVOICE_ITEM, id);
        return;
    }
    let mut opposite = item.clone();
    opposite["id"] = json!(world.new_id(kind::INVOICE_ITEM));
    opposite["amount"] = json!(-item["amount"].as_i64().unwrap_or(0));
    opposite["net_amount"] = opposite["amount"].clone();
    opposite["date"] = json!(world.now_for(&item["customer"]));
    opposite["invoice"] = Value::Null;
    store(world, &opposite);
}

/// The items that wait for the next invoice of a customer: with a subscription, its own and those of none.
pub(crate) fn pending(world: &World, customer: &str, currency: &str, subscription: Option<&str>) -> Vec<Value> {
    world
        .all(kind::INVOICE_ITEM)
        .filter(|item| item["customer"] == customer && item["currency"] == currency && item["invoice"].is_null())
        .filter(|item| match item["parent"]["subscription_details"]["subscription"].as_str() {
            None => true,
            Some(of) => subscription == Some(of),
        })
        .cloned()
        .collect()
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let before = world.find(kind::INVOICE_ITEM, request.id(), "id")?.clone();
    let mut item = before.clone();
    let invoice = before["invoice"].as_str().map(str::to_owned);
    if invoice.as_ref().is_some_and(|id| !invoices::is_draft(world, id)) {
        return Err(invoices::not_editable());
    }
    read(world, &request.parameters, &mut item)?;
    request.parameters.finish()?;
    world.save(kind::INVOICE_ITEM, &item);
    if let Some(invoice) = invoice {
        detach(world, &item, &invoice);
        attach(world, &mut item, &invoice);
        invoices::recalculate(world, &invoice);
    }
    Ok(item)
}

/// Takes the line of an item off its draft.
fn detach(world: &mut World, item: &Value, invoice: &str) {
    let Some(mut invoice) = world.get(kind::INVOICE, invoice).cloned() else { return };
    if let Some(data) = invoice["lines"]["data"].as_array_mut() {
        data.retain(|line| item_of(line) != item["id"].as_str());
    }
    world.save(kind::INVOICE, &invoice);
}

/// The id of the invoice item that a line is of.
pub(crate) fn item_of(line: &Value) -> Option<&str> {
    let parent = &line["parent"];
    parent["invoice_item_details"]["invoice_item"]
        .as_str()
        .or(parent["subscription_item_details"]["invoice_item"].as_str())
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let item = world.find(kind::INVOICE_ITEM, request.id(), "id")?.clone();
    let invoice = item["invoice"].as_str().map(str::to_owned);
    if let Some(invoice) = &invoice {
        if !invoices::is_draft(world, invoice) {
            return Err(invoices::not_editable());
        }
        detach(world, &item, invoice);
    }
    world.announce("invoiceitem.deleted", &item);
    let gone = world.delete(kind::INVOICE_ITEM, request.id());
    if let Some(invoice) = invoice {
        invoices::recalculate(world, &invoice);
    }
    Ok(gone)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::INVOICE_ITEM, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let customer = request.parameters.text("customer")?;
    let invoice = request.parameters.text("invoice")?;
    let pending = request.parameters.flag("pending")?;
    list::page(world, request, kind::INVOICE_ITEM, |item| {
        customer.as_ref().is_none_or(|id| item["customer"] == id.as_str())
            && invoice.as_ref().is_none_or(|id| item["invoice"] == id.as_str())
            && pending.is_none_or(|pending| item["invoice"].is_null() == pending)
    })
}
