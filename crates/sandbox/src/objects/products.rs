//! Products (docs.stripe.com/api/products).

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::kind;
use crate::list;
use crate::objects::prices;
use crate::parameters::Parameters;
use crate::request::Request;
use crate::world::World;

pub(crate) fn create(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let mut product = read(world, parameters)?;
    let price = parameters.part("default_price_data")?;
    if let Some(part) = &price {
        let price = prices::read(world, part, product["id"].as_str().unwrap_or_default())?;
        product["default_price"] = price["id"].clone();
        parameters.finish()?;
        world.save(kind::PRODUCT, &product);
        world.announce("product.created", &product);
        prices::store(world, &price);
        return Ok(product);
    }
    parameters.finish()?;
    world.save(kind::PRODUCT, &product);
    world.announce("product.created", &product);
    Ok(product)
}

/// A new product of what a request, or a `product_data` in it, says; not stored yet.
pub(crate) fn read(world: &mut World, parameters: &Parameters) -> Result<Value, ApiError> {
    let name = parameters.required_text("name")?;
    let id = match parameters.text("id")? {
        Some(id) if world.get(kind::PRODUCT, &id).is_some() => {
            let message = "Product already exists.";
            return Err(ApiError::parameter("resource_already_exists", "id", message));
        }
        Some(id) => id,
        None => world.new_id(kind::PRODUCT),
    };
    let mut product = blank(world, &id, &name);
    fill(&mut product, parameters)?;
    Ok(product)
}

/// A product of this id and name, and nothing more.
fn blank(world: &World, id: &str, name: &str) -> Value {
    let now = world.now();
    json!({
        "id": id,
        "object": "product",
        "active": true,
        "created": now,
        "default_price": null,
        "description": null,
        "images": [],
        "livemode": false,
        "marketing_features": [],
        "metadata": {},
        "name": name,
        "package_dimensions": null,
        "shippable": null,
        "statement_descriptor": null,
        "tax_code": null,
        "type": "service",
        "unit_label": null,
        "updated": now,
        "url": null,
    })
}

/// Makes the product of an id, or gives it this name.
pub(crate) fn put(world: &mut World, id: &str, name: &str) {
    let Some(before) = world.get(kind::PRODUCT, id).cloned() else {
        let product = blank(world, id, name);
        world.save(kind::PRODUCT, &product);
        world.announce("product.created", &product);
        return;
    };
    if before["name"] != name {
        let mut product = before.clone();
        (product["name"], product["updated"]) = (json!(name), json!(world.now()));
        world.save(kind::PRODUCT, &product);
        world.announce_change("product.updated", &before, &product);
    }
}

fn fill(product: &mut Value, parameters: &Parameters) -> Result<(), ApiError> {
    parameters.copy_texts(product, &["description", "statement_descriptor", "tax_code", "unit_label", "url"])?;
    parameters.copy_metadata(product)?;
    for key in ["active", "shippable"] {
        if let Some(flag) = parameters.flag(key)? {
            product[key] = json!(flag);
        }
    }
    if let Some(images) = parameters.texts("images")? {
        product["images"] = json!(images);
    }
    if let Some(features) = parameters.parts("marketing_features")? {
        let names: Result<Vec<Value>, ApiError> =
            features.iter().map(|feature| Ok(json!({"name": feature.required_text("name")?}))).collect();
        product["marketing_features"] = json!(names?);
    }
    Ok(())
}

pub(crate) fn update(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let parameters = &request.parameters;
    let before = world.find(kind::PRODUCT, request.id(), "id")?.clone();
    let mut product = before.clone();
    if let Some(name) = parameters.text("name")? {
        product["name"] = json!(name);
    }
    if let Some(price) = parameters.text("default_price")? {
        let found = world.find(kind::PRICE, &price, "default_price")?;
        if found["product"] != product["id"] {
            let message = "The price does not belong to this product.";
            return Err(ApiError::value("default_price", message));
        }
        product["default_price"] = json!(price);
    }
    fill(&mut product, parameters)?;
    parameters.finish()?;
    if product != before {
        product["updated"] = json!(world.now());
    }
    world.save(kind::PRODUCT, &product);
    world.announce_change("product.updated", &before, &product);
    Ok(product)
}

pub(crate) fn retrieve(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    world.find(kind::PRODUCT, request.id(), "id").cloned()
}

pub(crate) fn list(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    let active = request.parameters.flag("active")?;
    let ids = request.parameters.texts("ids")?;
    list::page(world, request, kind::PRODUCT, |product| {
        active.is_none_or(|active| product["active"] == active)
            && ids.as_ref().is_none_or(|ids| ids.iter().any(|id| product["id"] == id.as_str()))
    })
}

pub(crate) fn delete(world: &mut World, request: &Request) -> Result<Value, ApiError> {
    request.parameters.finish()?;
    let product = world.find(kind::PRODUCT, request.id(), "id")?.clone();
    if world.all(kind::PRICE).any(|price| price["product"] == product["id"]) {
        let message = "This product cannot be deleted because it has one or more user-created prices.";
        return Err(ApiError::invalid(message));
    }
    world.announce("product.deleted", &product);
    Ok(world.delete(kind::PRODUCT, request.id()))
}
