//! What the tests of billing share: a customer with a card and a clock, a price, and short ways to see what happened.

use serde_json::Value;

use crate::client::Client;

/// 1 January 2026, 00:00 UTC.
pub(crate) const NEW_YEAR: i64 = 1_767_225_600;

pub(crate) const DAY: i64 = 86_400;

/// A customer who lives by a clock of its own.
pub(crate) struct Shop {
    pub(crate) stripe: Client,
    pub(crate) customer: String,
    pub(crate) clock: String,
}

impl Shop {
    /// A customer with a card as default, at the start of 2026.
    pub(crate) async fn new(card: &str) -> Self {
        Self::at(Client::new().await, NEW_YEAR, card).await
    }

    pub(crate) async fn at(stripe: Client, time: i64, card: &str) -> Self {
        let clock = stripe.post("/v1/test_helpers/test_clocks", &[("frozen_time", &time.to_string())]).await.ok();
        let clock = text(&clock["id"]);
        let customer = stripe.post("/v1/customers", &[("test_clock", &clock), ("email", "a@example.com")]).await.ok();
        let shop = Self { stripe, customer: text(&customer["id"]), clock };
        if !card.is_empty() {
            shop.set_card(card).await;
        }
        shop
    }

    /// Makes another card the default.
    pub(crate) async fn set_card(&self, card: &str) {
        let path = format!("/v1/payment_methods/{card}/attach");
        let method = self.stripe.post(&path, &[("customer", &self.customer)]).await.ok();
        let path = format!("/v1/customers/{}", self.customer);
        let form = [("invoice_settings[default_payment_method]", method["id"].as_str().unwrap())];
        self.stripe.post(&path, &form).await.ok();
    }

    /// A recurring price in US dollars.
    pub(crate) async fn price(&self, name: &str, amount: &str, interval: &str) -> String {
        let form = [
            ("product_data[name]", name),
            ("currency", "usd"),
            ("unit_amount", amount),
            ("recurring[interval]", interval),
        ];
        text(&self.stripe.post("/v1/prices", &form).await.ok()["id"])
    }

    /// A subscription to one price.
    pub(crate) async fn subscribe(&self, price: &str, more: &[(&str, &str)]) -> Value {
        let mut form = vec![("customer", self.customer.as_str()), ("items[0][price]", price)];
        form.extend(more);
        self.stripe.post("/v1/subscriptions", &form).await.ok()
    }

    pub(crate) async fn advance(&self, to: i64) {
        let path = format!("/v1/test_helpers/test_clocks/{}/advance", self.clock);
        self.stripe.post(&path, &[("frozen_time", &to.to_string())]).await.ok();
    }

    pub(crate) async fn subscription(&self, id: &str) -> Value {
        self.stripe.get(&format!("/v1/subscriptions/{id}")).await.ok()
    }

    pub(crate) async fn invoice(&self, id: &Value) -> Value {
        self.stripe.get(&format!("/v1/invoices/{}?expand[]=payments", id.as_str().unwrap())).await.ok()
    }

    /// The types of all events so far that begin with one of these words, oldest first.
    pub(crate) async fn events(&self, words: &[&str]) -> Vec<String> {
        let list = self.stripe.get("/v1/events?limit=100").await.ok();
        let types = list["data"].as_array().unwrap().iter().rev().map(|event| text(&event["type"]));
        types.filter(|name| words.iter().any(|word| name.starts_with(word))).collect()
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Amount and description of each line.
pub(crate) fn lines(invoice: &Value) -> Vec<(i64, String)> {
    let lines = invoice["lines"]["data"].as_array().unwrap();
    lines.iter().map(|line| (line["amount"].as_i64().unwrap(), text(&line["description"]))).collect()
}

/// A second, of `2026-02-15T00:00:00Z`.
pub(crate) fn at(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}
