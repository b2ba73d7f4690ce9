//! The story of a customer that has run out: two cards are declined, the third one pays, and the credit is there.
//!
//! It plays both parts over HTTP: the product's server asks farthing, the customer's browser sends the card to the provider,
//! which here is the built-in sandbox.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::{DemonstrationError, dollars, padded, say};

/// Test cards, and what is on them; see docs/sandbox.md.
const CARDS: [(&str, &str); 3] = [
    ("4000 0000 0000 0002", "a card that is declined"),
    ("4000 0000 0000 9995", "a card without enough on it"),
    ("4242 4242 4242 4242", "a card that works"),
];

/// How often the purchase is looked at, a tenth of a second apart, until the webhook has brought the news.
const LOOKS: u32 = 100;

/// A customer buys a pack of credit.
pub(super) async fn buy(
    client: &Client,
    sandbox: &str,
    customer: &str,
    out: &mut (impl Write + Send),
) -> Result<(), DemonstrationError> {
    let purchase = client.post(&format!("/v1/customers/{customer}/purchases"), &json!({"pack": "starter"})).await?;
    let member = |name: &str| purchase.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (id, secret, key) = (member("id"), member("client_secret"), member("publishable_key"));
    let (price, title) = (padded(&member("price")), member("title"));
    say(out, &format!("{customer} has run out of credit and buys `{title}` for {price} dollars:"))?;
    for (number, what) in CARDS {
        pay(sandbox, &key, &secret, number).await?;
        let seen = settled(client, &id, number).await?;
        let state = seen.get("state").and_then(Value::as_str).unwrap_or("?");
        let reason = seen.pointer("/failure/decline_code").or_else(|| seen.pointer("/failure/code"));
        let reason = reason.and_then(Value::as_str).map(|code| format!(" ({code})")).unwrap_or_default();
        say(out, &format!("  {number}, {what:<27} -> {state}{reason}"))?;
    }
    let wallet = client.get(&format!("/v1/customers/{customer}/wallet")).await?;
    let available =
        wallet.pointer("/balances/USD/available").and_then(Value::as_str).and_then(|text| text.parse().ok());
    say(out, &format!("{customer} has {} dollars now.\n", available.map_or_else(|| "?".to_owned(), dollars)))
}

/// Sends a card to the provider, as its script in the customer's browser does.
async fn pay(sandbox: &str, key: &str, secret: &str, number: &str) -> Result<(), DemonstrationError> {
    let failed = |error: reqwest::Error| DemonstrationError::new("the sandbox does not answer", error);
    let http = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    let intent = secret.split_once("_secret_").map_or("", |(intent, _)| intent);
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let card: String = [
        ("client_secret", secret),
        ("payment_method_data[type]", "card"),
        ("payment_method_data[card][number]", &digits),
        ("payment_method_data[card][exp_month]", "12"),
        ("payment_method_data[card][exp_year]", "2034"),
        ("payment_method_data[card][cvc]", "123"),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .join("&");
    let request = http.post(format!("{sandbox}/v1/payment_intents/{intent}/confirm")).bearer_auth(key);
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(card);
    // A decline is an answer as well; what it was shows on the purchase.
    let _ = request.send().await.map_err(failed)?;
    Ok(())
}

/// The purchase once the provider has told what became of the card.
async fn settled(client: &Client, purchase: &str, number: &str) -> Result<Value, DemonstrationError> {
    let mut seen = Value::Null;
    let good = number.starts_with("4242");
    for _ in 0..LOOKS {
        let now = client.get(&format!("/v1/purchases/{purchase}")).await?;
        let paid = now.get("state").and_then(Value::as_str) == Some("paid");
        let reason = now.pointer("/failure/decline_code").and_then(Value::as_str);
        // The second decline has another reason than the first.
        let expected = if number.ends_with("9995") { "insufficient_funds" } else { "generic_decline" };
        seen = now.clone();
        if paid || (!good && reason == Some(expected)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(seen)
}
