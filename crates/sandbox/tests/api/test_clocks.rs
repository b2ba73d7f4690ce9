//! Test clocks.

use serde_json::json;

use crate::client::Client;

const CLOCKS: &str = "/v1/test_helpers/test_clocks";

#[tokio::test]
async fn a_clock_stands_until_it_is_advanced() {
    let stripe = Client::new().await;
    let clock = stripe.post(CLOCKS, &[("frozen_time", "1767225600"), ("name", "renewal")]).await.ok();
    assert_eq!((&clock["status"], &clock["object"]), (&json!("ready"), &json!("test_helpers.test_clock")));
    let path = format!("{CLOCKS}/{}", clock["id"].as_str().unwrap());
    let customer = stripe.post("/v1/customers", &[("test_clock", clock["id"].as_str().unwrap())]).await.ok();
    assert_eq!(customer["created"], 1_767_225_600);

    let advancing = stripe.post(&format!("{path}/advance"), &[("frozen_time", "1767312000")]).await.ok();
    assert_eq!(advancing["status"], "advancing");
    assert_eq!(advancing["status_details"]["advancing"]["target_frozen_time"], 1_767_312_000);
    let ready = stripe.get(&path).await.ok();
    assert_eq!((&ready["status"], &ready["frozen_time"]), (&json!("ready"), &json!(1_767_312_000)));
    let events = stripe.get("/v1/events?types[]=test_helpers.*").await.ok();
    let types: Vec<&str> = events["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    let expected = ["ready", "advancing", "created"].map(|word| format!("test_helpers.test_clock.{word}"));
    assert_eq!(types, expected);

    let back = stripe.post(&format!("{path}/advance"), &[("frozen_time", "1767312000")]).await.error(400);
    assert_eq!(back["param"], "frozen_time");
    // Without a subscription, two years at a time.
    let far = stripe.post(&format!("{path}/advance"), &[("frozen_time", "1830384001")]).await.error(400);
    assert_eq!(far["param"], "frozen_time");
    stripe.post(&format!("{path}/advance"), &[("frozen_time", "1830384000")]).await.ok();

    assert_eq!(stripe.delete(&path).await.ok()["deleted"], true);
    let gone = stripe.get(&format!("/v1/customers/{}", customer["id"].as_str().unwrap())).await.ok();
    assert_eq!(gone["deleted"], true);
}
