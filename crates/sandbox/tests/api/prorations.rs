//! Changes in the middle of a period, by hand calculation. January 2026 has 31 days; a change on the 11th leaves 21 of them.

use serde_json::{Value, json};

use crate::billing::{DAY, NEW_YEAR, Shop, at, lines, text};

/// A subscription to `Basic` for $10 a month since New Year, with the clock on 11 January.
struct January {
    shop: Shop,
    path: String,
    item: String,
    plus: String,
}

impl January {
    async fn new() -> Self {
        let shop = Shop::new("pm_card_visa").await;
        let basic = shop.price("Basic", "1000", "month").await;
        let plus = shop.price("Plus", "3000", "month").await;
        let subscription = shop.subscribe(&basic, &[]).await;
        let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
        let item = text(&subscription["items"]["data"][0]["id"]);
        shop.advance(NEW_YEAR + 10 * DAY).await;
        Self { shop, path, item, plus }
    }

    async fn to_plus(&self, more: &[(&str, &str)]) -> crate::client::Answer {
        let mut form = vec![("items[0][id]", self.item.as_str()), ("items[0][price]", self.plus.as_str())];
        form.extend(more);
        self.shop.stripe.post(&self.path, &form).await
    }

    async fn now(&self) -> Value {
        self.shop.stripe.get(&self.path).await.ok()
    }

    async fn latest(&self) -> Value {
        self.shop.invoice(&self.now().await["latest_invoice"]).await
    }
}

#[tokio::test]
async fn an_upgrade_waits_for_the_next_invoice() {
    let january = January::new().await;
    let changed = january.to_plus(&[]).await.ok();
    assert_eq!(changed["items"]["data"][0]["price"]["unit_amount"], 3000);
    let pending = january.shop.stripe.get("/v1/invoiceitems?pending=true").await.ok();
    assert_eq!(pending["data"].as_array().unwrap().len(), 2);
    assert_eq!((&pending["data"][1]["proration"], &pending["data"][1]["discountable"]), (&json!(true), &json!(false)));
    january.shop.advance(at("2026-02-01T01:00:00Z")).await;
    let invoice = january.latest().await;
    // 1000 x 21/31 = 677.42, 3000 x 21/31 = 2032.26.
    assert_eq!(
        lines(&invoice),
        [
            (-677, "Unused time on Basic after 11 Jan 2026".to_owned()),
            (2032, "Remaining time on Plus after 11 Jan 2026".to_owned()),
            (3000, "1 × Plus (at $30.00 / month)".to_owned()),
        ]
    );
    assert_eq!((&invoice["status"], &invoice["amount_paid"]), (&json!("paid"), &json!(4355)));
    let parent = &invoice["lines"]["data"][0]["parent"]["subscription_item_details"];
    assert_eq!((&parent["proration"], &parent["subscription_item"]), (&json!(true), &json!(january.item)));
}

#[tokio::test]
async fn an_upgrade_is_billed_at_once() {
    let january = January::new().await;
    let changed = january.to_plus(&[("proration_behavior", "always_invoice")]).await.ok();
    assert_eq!(changed["status"], "active");
    let invoice = january.latest().await;
    assert_eq!((&invoice["amount_paid"], &invoice["billing_reason"]), (&json!(1355), &json!("subscription_update")));
    // Ten days later there are 11 of the 21 that 2032 was for: 1064.38.
    january.shop.advance(NEW_YEAR + 20 * DAY).await;
    let form = [
        ("items[0][id]", january.item.as_str()),
        ("items[0][quantity]", "2"),
        ("proration_behavior", "always_invoice"),
    ];
    january.shop.stripe.post(&january.path, &form).await.ok();
    // 6000 x 11/31 = 2129.03.
    let expected = [
        (-1064, "Unused time on Plus after 21 Jan 2026".to_owned()),
        (2129, "Remaining time on 2 × Plus after 21 Jan 2026".to_owned()),
    ];
    assert_eq!(lines(&january.latest().await), expected);
}

#[tokio::test]
async fn by_the_second() {
    let january = January::new().await;
    let second = (NEW_YEAR + 12_345).to_string();
    let form = [
        ("items[0][id]", january.item.as_str()),
        ("items[0][quantity]", "3"),
        ("proration_behavior", "always_invoice"),
        ("proration_date", second.as_str()),
    ];
    january.shop.stripe.post(&january.path, &form).await.ok();
    // 2,666,055 of 2,678,400 seconds: 995.39 and 2986.17.
    let amounts: Vec<i64> = lines(&january.latest().await).into_iter().map(|(amount, _)| amount).collect();
    assert_eq!(amounts, [-995, 2986]);
    let outside = [("items[0][id]", january.item.as_str()), ("items[0][quantity]", "4"), ("proration_date", "1")];
    assert_eq!(january.shop.stripe.post(&january.path, &outside).await.error(400)["param"], "proration_date");
}

#[tokio::test]
async fn a_downgrade_credits_the_balance_and_none_prorates_nothing() {
    let january = January::new().await;
    january.to_plus(&[("proration_behavior", "none")]).await.ok();
    assert_eq!(january.shop.stripe.get("/v1/invoiceitems").await.ok()["data"], json!([]));
    let free = january.shop.price("Free", "0", "month").await;
    let form =
        [("items[0][id]", january.item.as_str()), ("items[0][price]", &free), ("proration_behavior", "always_invoice")];
    january.shop.stripe.post(&january.path, &form).await.ok();
    // What was paid is credited, $10, not what the present price would have cost.
    let invoice = january.latest().await;
    assert_eq!((&invoice["total"], &invoice["status"]), (&json!(-677), &json!("paid")));
    let customer = format!("/v1/customers/{}", january.shop.customer);
    assert_eq!(january.shop.stripe.get(&customer).await.ok()["balance"], -677);
    // The next invoices use the credit up.
    let paid = january.shop.price("Extra", "1000", "month").await;
    let other = january.shop.subscribe(&paid, &[("expand[]", "latest_invoice")]).await;
    let invoice = &other["latest_invoice"];
    assert_eq!(
        (&invoice["total"], &invoice["amount_due"], &invoice["ending_balance"]),
        (&json!(1000), &json!(323), &json!(0))
    );
}

#[tokio::test]
async fn another_interval_begins_anew() {
    let january = January::new().await;
    let yearly = january.shop.price("Yearly", "10000", "year").await;
    let form = [("items[0][id]", january.item.as_str()), ("items[0][price]", yearly.as_str())];
    let changed = january.shop.stripe.post(&january.path, &form).await.ok();
    let item = &changed["items"]["data"][0];
    assert_eq!(changed["billing_cycle_anchor"], NEW_YEAR + 10 * DAY);
    assert_eq!(item["current_period_end"], at("2027-01-11T00:00:00Z"));
    let invoice = january.latest().await;
    assert_eq!((lines(&invoice)[0].0, &invoice["amount_paid"]), (-677, &json!(9323)));
}

#[tokio::test]
async fn the_anchor_can_be_set_to_now() {
    let january = January::new().await;
    let error = january.shop.stripe.post(&january.path, &[("billing_cycle_anchor", "now")]).await.error(400);
    assert_eq!(error["param"], "billing_cycle_anchor", "since endive it is an object");
    let changed = january.shop.stripe.post(&january.path, &[("billing_cycle_anchor[type]", "now")]).await.ok();
    assert_eq!(changed["items"]["data"][0]["current_period_end"], at("2026-02-11T00:00:00Z"));
    assert_eq!(january.latest().await["amount_paid"], 323);
}

#[tokio::test]
async fn a_preview_tells_what_a_change_will_cost() {
    let january = January::new().await;
    let id = january.path.rsplit('/').next().unwrap().to_owned();
    let second = (NEW_YEAR + 10 * DAY + 77).to_string();
    let form = [
        ("subscription", id.as_str()),
        ("subscription_details[items][0][id]", &january.item),
        ("subscription_details[items][0][price]", &january.plus),
        ("subscription_details[proration_date]", &second),
        ("subscription_details[proration_behavior]", "always_invoice"),
    ];
    let before = january.shop.stripe.get("/v1/events?limit=100").await.ok();
    let preview = january.shop.stripe.post("/v1/invoices/create_preview", &form).await.ok();
    assert!(preview["id"].as_str().unwrap().starts_with("upcoming_in_"));
    assert_eq!(january.shop.stripe.get("/v1/events?limit=100").await.ok(), before, "nothing has happened");
    assert_eq!(january.shop.stripe.get("/v1/invoiceitems").await.ok()["data"], json!([]));
    january.to_plus(&[("proration_behavior", "always_invoice"), ("proration_date", &second)]).await.ok();
    let invoice = january.latest().await;
    assert_eq!((&invoice["total"], lines(&invoice)), (&preview["total"], lines(&preview)));
    let next = january.shop.stripe.post("/v1/invoices/create_preview", &[("subscription", &id)]).await.ok();
    assert_eq!((&next["total"], &next["billing_reason"]), (&json!(3000), &json!("upcoming")));
    let form = [("customer", january.shop.customer.as_str()), ("subscription_details[items][0][price]", &january.plus)];
    let new = january.shop.stripe.post("/v1/invoices/create_preview", &form).await.ok();
    assert_eq!(new["total"], 3000);
}

#[tokio::test]
async fn an_upgrade_that_cannot_be_paid() {
    let billed = ("proration_behavior", "always_invoice");
    let january = January::new().await;
    january.shop.set_card("pm_card_chargeCustomerFail").await;
    january.to_plus(&[billed, ("payment_behavior", "error_if_incomplete")]).await.error(402);
    assert_eq!(january.now().await["items"]["data"][0]["price"]["unit_amount"], 1000, "nothing has changed");
    let changed = january.to_plus(&[billed]).await.ok();
    assert_eq!(
        (&changed["status"], &changed["items"]["data"][0]["price"]["unit_amount"]),
        (&json!("past_due"), &json!(3000))
    );

    let january = January::new().await;
    january.shop.set_card("pm_card_chargeCustomerFail").await;
    let held = january.to_plus(&[billed, ("payment_behavior", "pending_if_incomplete")]).await.ok();
    assert_eq!((&held["status"], &held["items"]["data"][0]["price"]["unit_amount"]), (&json!("active"), &json!(1000)));
    assert_eq!(held["pending_update"]["subscription_items"][0]["price"]["unit_amount"], 3000);
    january.shop.set_card("pm_card_visa").await;
    let path = format!("/v1/invoices/{}/pay", held["latest_invoice"].as_str().unwrap());
    assert_eq!(january.shop.stripe.post(&path, &[]).await.ok()["amount_paid"], 1355);
    let applied = january.now().await;
    assert_eq!(
        (&applied["items"]["data"][0]["price"]["unit_amount"], &applied["pending_update"]),
        (&json!(3000), &json!(null))
    );

    let january = January::new().await;
    january.shop.set_card("pm_card_chargeCustomerFail").await;
    let held = january.to_plus(&[billed, ("payment_behavior", "pending_if_incomplete")]).await.ok();
    january.shop.advance(NEW_YEAR + 11 * DAY).await;
    assert_eq!(january.now().await["pending_update"], json!(null));
    assert_eq!(january.shop.invoice(&held["latest_invoice"]).await["status"], "void");
    let events = january.shop.events(&["customer.subscription.pending_update"]).await;
    assert_eq!(events, ["customer.subscription.pending_update_expired"]);
}

#[tokio::test]
async fn items_come_and_go() {
    let january = January::new().await;
    let id = january.path.rsplit('/').next().unwrap().to_owned();
    let form = [("subscription", id.as_str()), ("price", &january.plus), ("proration_behavior", "always_invoice")];
    let added = january.shop.stripe.post("/v1/subscription_items", &form).await.ok();
    assert_eq!(lines(&january.latest().await), [(2032, "Remaining time on Plus after 11 Jan 2026".to_owned())]);
    let list = january.shop.stripe.get(&format!("/v1/subscription_items?subscription={id}")).await.ok();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let path = format!("/v1/subscription_items/{}", added["id"].as_str().unwrap());
    let two = january.shop.stripe.post(&path, &[("quantity", "2"), ("proration_behavior", "none")]).await.ok();
    assert_eq!(two["quantity"], 2);
    let gone = january.shop.stripe.delete(&format!("{path}?proration_behavior=always_invoice")).await.ok();
    assert_eq!(gone["deleted"], true);
    assert_eq!(january.latest().await["total"], -2032, "what was billed is credited");
    let last = format!("/v1/subscription_items/{}", january.item);
    january.shop.stripe.delete(&last).await.error(400);
    let yearly = january.shop.price("Yearly", "10000", "year").await;
    let mixed = [("subscription", id.as_str()), ("price", yearly.as_str())];
    january.shop.stripe.post("/v1/subscription_items", &mixed).await.error(400);
}

#[tokio::test]
async fn a_trial_ends_now() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[("trial_period_days", "14")]).await;
    shop.advance(NEW_YEAR + 2 * DAY).await;
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    let form = [("trial_end", "now"), ("expand[]", "latest_invoice")];
    let active = shop.stripe.post(&path, &form).await.ok();
    assert_eq!((&active["status"], &active["latest_invoice"]["amount_paid"]), (&json!("active"), &json!(1000)));
    assert_eq!(active["items"]["data"][0]["current_period_start"], NEW_YEAR + 2 * DAY);
}

#[tokio::test]
async fn a_cancellation_within_the_period_credits_the_rest() {
    let january = January::new().await;
    let end = at("2026-01-21T00:00:00Z").to_string();
    let set = january.shop.stripe.post(&january.path, &[("cancel_at", &end)]).await.ok();
    assert_eq!((&set["cancel_at"], &set["status"]), (&json!(at("2026-01-21T00:00:00Z")), &json!("active")));
    // 11 of 31 days: 354.84.
    let pending = january.shop.stripe.get("/v1/invoiceitems?pending=true").await.ok();
    assert_eq!(pending["data"][0]["amount"], -355);
    january.shop.stripe.post(&january.path, &[("cancel_at", "")]).await.ok();
    let pending = january.shop.stripe.get("/v1/invoiceitems?pending=true").await.ok();
    assert_eq!(pending["data"], json!([]), "undone");
    january.shop.stripe.post(&january.path, &[("cancel_at", &end)]).await.ok();
    january.shop.advance(at("2026-01-21T00:00:00Z")).await;
    let ended = january.now().await;
    assert_eq!((&ended["status"], &january.latest().await["total"]), (&json!("canceled"), &json!(-355)));
}

#[tokio::test]
async fn a_cancellation_in_a_later_period_makes_it_shorter() {
    let january = January::new().await;
    let end = at("2026-02-15T00:00:00Z").to_string();
    january.shop.stripe.post(&january.path, &[("cancel_at", &end)]).await.ok();
    january.shop.advance(at("2026-02-01T01:00:00Z")).await;
    // 14 of 28 days.
    assert_eq!(january.latest().await["amount_paid"], 500);
    january.shop.advance(at("2026-02-15T00:00:00Z")).await;
    assert_eq!(january.now().await["status"], "canceled");
}
