//! Products and prices.

use serde_json::json;

use crate::client::Client;

#[tokio::test]
async fn a_product_with_its_price_from_creation_to_archive() {
    let stripe = Client::new().await;
    let form = [
        ("name", "Basic"),
        ("default_price_data[currency]", "usd"),
        ("default_price_data[unit_amount]", "1000"),
        ("default_price_data[recurring][interval]", "month"),
        ("expand[]", "default_price"),
    ];
    let product = stripe.post("/v1/products", &form).await.ok();
    let price = &product["default_price"];
    assert_eq!((&price["unit_amount"], &price["unit_amount_decimal"]), (&json!(1000), &json!("1000")));
    assert_eq!((&price["type"], &price["recurring"]["interval_count"]), (&json!("recurring"), &json!(1)));
    let path = format!("/v1/products/{}", product["id"].as_str().unwrap());
    let renamed = stripe.post(&path, &[("name", "Plus"), ("active", "false")]).await.ok();
    assert_eq!((&renamed["name"], &renamed["active"]), (&json!("Plus"), &json!(false)));
    let error = stripe.delete(&path).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("user-created prices"));
    assert_eq!(stripe.get("/v1/products?active=true").await.ok()["data"], json!([]));
    let events = stripe.get("/v1/events").await.ok();
    let types: Vec<&str> = events["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["product.updated", "price.created", "product.created"]);
    assert_eq!(events["data"][0]["data"]["previous_attributes"]["name"], "Basic");
}

#[tokio::test]
async fn a_product_without_prices_can_be_deleted() {
    let stripe = Client::new().await;
    stripe.post("/v1/products", &[("id", "basic"), ("name", "Basic")]).await.ok();
    let again = stripe.post("/v1/products", &[("id", "basic"), ("name", "Basic")]).await.error(400);
    assert_eq!(again["code"], "resource_already_exists");
    assert_eq!(stripe.delete("/v1/products/basic").await.ok()["deleted"], true);
    assert_eq!(stripe.get("/v1/products/basic").await.error(404)["code"], "resource_missing");
}

#[tokio::test]
async fn prices_say_what_they_need() {
    let stripe = Client::new().await;
    let product = [("product_data[name]", "Basic")];
    let currency = [product[0], ("currency", "usd")];
    let both = [product[0], ("currency", "usd"), ("unit_amount", "5"), ("unit_amount_decimal", "5.5")];
    let metered = [
        product[0],
        ("currency", "usd"),
        ("unit_amount", "5"),
        ("recurring[interval]", "month"),
        ("recurring[usage_type]", "metered"),
    ];
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&product, "currency"),
        (&currency, "unit_amount"),
        (&both, "unit_amount"),
        (&metered, "recurring[usage_type]"),
        (&[("currency", "usd"), ("unit_amount", "5")], "product"),
    ];
    for (form, param) in cases {
        assert_eq!(stripe.post("/v1/prices", form).await.error(400)["param"], param);
    }
    assert_eq!(stripe.get("/v1/products").await.ok()["data"], json!([]), "a refusal leaves nothing");
}

#[tokio::test]
async fn a_lookup_key_moves_to_another_price() {
    let stripe = Client::new().await;
    let form = |key: &'static str, transfer: &'static str| {
        [
            ("product_data[name]", "Basic"),
            ("currency", "usd"),
            ("unit_amount_decimal", "0.5"),
            ("lookup_key", key),
            ("transfer_lookup_key", transfer),
        ]
    };
    let first = stripe.post("/v1/prices", &form("basic", "false")).await.ok();
    assert_eq!((&first["unit_amount"], &first["unit_amount_decimal"]), (&json!(null), &json!("0.5")));
    stripe.post("/v1/prices", &form("basic", "false")).await.error(400);
    let second = stripe.post("/v1/prices", &form("basic", "true")).await.ok();
    let found = stripe.get("/v1/prices?lookup_keys[]=basic&expand[]=data.product").await.ok();
    assert_eq!((found["data"].as_array().unwrap().len(), &found["data"][0]["id"]), (1, &second["id"]));
    assert_eq!(found["data"][0]["product"]["name"], "Basic");
    let path = format!("/v1/prices/{}", first["id"].as_str().unwrap());
    assert_eq!(stripe.get(&path).await.ok()["lookup_key"], json!(null));
}

#[tokio::test]
async fn tiers_are_shown_where_they_are_expanded() {
    let stripe = Client::new().await;
    let form = [
        ("product_data[name]", "Seats"),
        ("currency", "usd"),
        ("billing_scheme", "tiered"),
        ("tiers_mode", "graduated"),
        ("tiers[0][up_to]", "5"),
        ("tiers[0][unit_amount]", "100"),
        ("tiers[1][up_to]", "inf"),
        ("tiers[1][unit_amount]", "80"),
        ("recurring[interval]", "month"),
    ];
    let price = stripe.post("/v1/prices", &form).await.ok();
    assert_eq!(price.get("tiers"), None);
    let path = format!("/v1/prices/{}?expand[]=tiers", price["id"].as_str().unwrap());
    let tiers = stripe.get(&path).await.ok()["tiers"].clone();
    assert_eq!(
        (&tiers[0]["up_to"], &tiers[1]["up_to"], &tiers[1]["unit_amount"]),
        (&json!(5), &json!(null), &json!(80))
    );
    let endless = stripe.post("/v1/prices", &form[..6]).await.error(400);
    assert_eq!(endless["param"], "tiers");
}
