//! Customers; and by them what all objects share: parameters, metadata, lists, keys.

use serde_json::json;

use crate::client::{Client, Endpoint};

#[tokio::test]
async fn made_changed_read_and_deleted() {
    let stripe = Client::new().await;
    let made = stripe
        .post("/v1/customers", &[("email", "ada@example.com"), ("metadata[plan]", "pro"), ("address[city]", "London")])
        .await
        .ok();
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("cus_"));
    assert_eq!(made["address"]["city"], "London");
    assert_eq!(made["address"]["line1"], json!(null));

    let path = format!("/v1/customers/{id}");
    let changed = stripe.post(&path, &[("name", "Ada"), ("metadata[plan]", ""), ("metadata[seats]", "3")]).await.ok();
    assert_eq!(changed["metadata"], json!({"seats": "3"}));
    assert_eq!(stripe.get(&path).await.ok(), changed);

    assert_eq!(stripe.delete(&path).await.ok(), json!({"id": id, "object": "customer", "deleted": true}));
    assert_eq!(stripe.get(&path).await.ok()["deleted"], true);
    assert_eq!(stripe.post(&path, &[("name", "Ada")]).await.error(404)["code"], "resource_missing");
}

#[tokio::test]
async fn changes_are_announced_with_what_was_before() {
    let stripe = Client::new().await;
    let endpoint = Endpoint::new(&[]).await;
    stripe
        .post("/v1/webhook_endpoints", &[("url", &endpoint.url), ("enabled_events[]", "customer.updated")])
        .await
        .ok();
    let made = stripe.post("/v1/customers", &[("name", "Ada")]).await.ok();
    stripe.post(&format!("/v1/customers/{}", made["id"].as_str().unwrap()), &[("name", "Grace")]).await.ok();
    let event = endpoint.wait_for(1).await[0].event();
    assert_eq!(event["type"], "customer.updated");
    assert_eq!(event["data"]["previous_attributes"], json!({"name": "Ada"}));
    assert_eq!(event["data"]["object"]["name"], "Grace");
}

#[tokio::test]
async fn parameters_are_strict() {
    let stripe = Client::new().await;
    let cases = [
        ([("nmae", "Ada")], "parameter_unknown", "nmae"),
        ([("address[town]", "London")], "parameter_unknown", "address[town]"),
        ([("balance", "1.5")], "parameter_invalid_integer", "balance"),
        ([("shipping[phone]", "1")], "parameter_missing", "shipping[name]"),
    ];
    for (form, code, param) in cases {
        let error = stripe.post("/v1/customers", &form).await.error(400);
        assert_eq!((error["code"].as_str(), error["param"].as_str()), (Some(code), Some(param)), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    assert_eq!(stripe.get("/v1/customers").await.ok()["data"], json!([]), "a refusal leaves nothing");
    assert_eq!(stripe.get("/v1/events").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn metadata_has_limits() {
    let stripe = Client::new().await;
    let long_key = format!("metadata[{}]", "k".repeat(41));
    let long_value = "v".repeat(501);
    for form in [[(long_key.as_str(), "x")], [("metadata[key]", long_value.as_str())]] {
        assert_eq!(stripe.post("/v1/customers", &form).await.error(400)["type"], "invalid_request_error");
    }
    let many: Vec<(String, &str)> = (0..51).map(|index| (format!("metadata[k{index}]"), "x")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    stripe.post("/v1/customers", &many).await.error(400);
    stripe.post("/v1/customers", &many[..50]).await.ok();
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let stripe = Client::new().await;
    for number in 0..12 {
        stripe.post("/v1/customers", &[("name", &number.to_string())]).await.ok();
    }
    let names = |list: &serde_json::Value| -> Vec<String> {
        list["data"].as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = stripe.get("/v1/customers").await.ok();
    assert_eq!((names(&first).len(), &first["has_more"], &first["url"]), (10, &json!(true), &json!("/v1/customers")));
    let last = first["data"][9]["id"].as_str().unwrap();
    let second = stripe.get(&format!("/v1/customers?starting_after={last}")).await.ok();
    assert_eq!((names(&second), &second["has_more"]), (vec!["1".to_owned(), "0".to_owned()], &json!(false)));
    let back = stripe.get(&format!("/v1/customers?limit=3&ending_before={last}")).await.ok();
    assert_eq!((names(&back), &back["has_more"]), (vec!["5".to_owned(), "4".into(), "3".into()], &json!(true)));
    assert_eq!(stripe.get("/v1/customers?limit=101").await.error(400)["param"], "limit");
    assert_eq!(stripe.get("/v1/customers?starting_after=cus_none").await.error(400)["param"], "starting_after");
}

#[tokio::test]
async fn keys_open_worlds() {
    let stripe = Client::new().await;
    stripe.post("/v1/customers", &[]).await.ok();
    let other = stripe.as_key("sk_test_other");
    assert_eq!(other.get("/v1/customers").await.ok()["data"], json!([]));
    for key in ["", "sk_live_example", "nonsense"] {
        let answer = stripe.as_key(key).get("/v1/customers").await;
        assert_eq!(answer.error(401)["type"], "invalid_request_error");
    }
    let error = stripe.as_key("pk_test_example").get("/v1/customers").await.error(401);
    assert_eq!(error["code"], "secret_key_required");
    let answer = stripe.get("/v1/customers").await;
    assert!(answer.header("request-id").unwrap().starts_with("req_"));
    assert_eq!(answer.header("stripe-version"), Some(sandbox::API_VERSION));
    assert_eq!(stripe.get("/v1/nothing").await.error(404)["type"], "invalid_request_error");
    let unknown = stripe.get("/v1/customers?expand[]=data.friends").await.error(400);
    assert!(unknown["message"].as_str().unwrap().contains("doesn't exist: friends"));
}

#[tokio::test]
async fn a_page_goes_on_after_what_was_deleted() {
    let stripe = Client::new().await;
    for _ in 0..5 {
        stripe.post("/v1/customers", &[]).await.ok();
    }
    // Deleting what one pages through is how people clear an account: nothing may be skipped.
    let mut path = "/v1/customers?limit=2".to_owned();
    let mut deleted = 0;
    loop {
        let page = stripe.get(&path).await.ok();
        for customer in page["data"].as_array().unwrap() {
            let id = customer["id"].as_str().unwrap();
            stripe.delete(&format!("/v1/customers/{id}")).await.ok();
            deleted += 1;
            path = format!("/v1/customers?limit=2&starting_after={id}");
        }
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(deleted, 5);
}
