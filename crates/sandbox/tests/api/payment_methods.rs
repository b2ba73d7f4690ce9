//! Payment methods: attached, listed, made the default, changed and detached.

use serde_json::json;

use crate::client::Client;

#[tokio::test]
async fn attached_listed_and_detached() {
    let stripe = Client::new().await;
    let both = [("payment_method", "pm_card_visa"), ("invoice_settings[default_payment_method]", "pm_card_visa")];
    let customer = stripe.post("/v1/customers", &both).await.ok();
    let id = customer["id"].as_str().unwrap();
    let default = customer["invoice_settings"]["default_payment_method"].as_str().unwrap();
    let attach = "/v1/payment_methods/pm_card_mastercard/attach";
    let second = stripe.post(attach, &[("customer", id)]).await.ok();
    assert_eq!((&second["customer"], &second["card"]["brand"]), (&json!(id), &json!("mastercard")));

    let listed = stripe.get(&format!("/v1/payment_methods?customer={id}&type=card")).await.ok();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second["id"].as_str().unwrap(), default]);
    let path = format!("/v1/payment_methods/{default}");
    let changed = stripe.post(&path, &[("billing_details[name]", "Ada"), ("card[exp_year]", "2044")]).await.ok();
    assert_eq!((&changed["billing_details"]["name"], &changed["card"]["exp_year"]), (&json!("Ada"), &json!(2044)));

    let loose = stripe.get("/v1/payment_methods/pm_card_visa").await.ok();
    let form = [("invoice_settings[default_payment_method]", loose["id"].as_str().unwrap())];
    let error = stripe.post(&format!("/v1/customers/{id}"), &form).await.error(400);
    assert_eq!(error["param"], "invoice_settings[default_payment_method]");

    assert_eq!(stripe.post(&format!("{path}/detach"), &[]).await.ok()["customer"], json!(null));
    let path = format!("/v1/customers/{id}?expand[]=invoice_settings.default_payment_method");
    assert_eq!(stripe.get(&path).await.ok()["invoice_settings"]["default_payment_method"], json!(null));
    let again = stripe.post(&format!("/v1/payment_methods/{default}/attach"), &[("customer", id)]).await.error(400);
    assert!(again["message"].as_str().unwrap().contains("may not be used again"));
    let none = stripe.post("/v1/payment_methods/pm_none/attach", &[("customer", id)]).await.error(404);
    assert_eq!(none["code"], "resource_missing");
}
