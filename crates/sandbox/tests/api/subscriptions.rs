//! Subscriptions: how they begin, go on and end.

use std::time::Duration;

use sandbox::{AfterLastRetry, Settings};
use serde_json::json;

use crate::billing::{DAY, NEW_YEAR, Shop, at, lines, text};

#[tokio::test]
async fn a_saved_card_makes_it_active() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[("items[0][quantity]", "2"), ("expand[]", "latest_invoice")]).await;
    assert_eq!(subscription["status"], "active");
    let item = &subscription["items"]["data"][0];
    assert_eq!(item["current_period_start"], NEW_YEAR);
    assert_eq!(item["current_period_end"], at("2026-02-01T00:00:00Z"));
    assert_eq!(subscription.get("current_period_end"), None, "since basil it is the item's");
    let invoice = &subscription["latest_invoice"];
    assert_eq!((&invoice["status"], &invoice["amount_paid"]), (&json!("paid"), &json!(2000)));
    assert_eq!(lines(invoice), [(2000, "2 × Basic (at $10.00 / month)".to_owned())]);
    assert_eq!(invoice["billing_reason"], "subscription_create");
    assert_eq!(
        shop.events(&["customer.subscription", "invoice", "payment_intent", "charge"]).await,
        [
            "invoice.created",
            "customer.subscription.created",
            "invoice.finalized",
            "payment_intent.created",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice.updated",
            "invoice.paid",
            "invoice.payment_succeeded",
            "invoice_payment.paid",
            "customer.subscription.updated",
        ]
    );
}

#[tokio::test]
async fn a_decline_leaves_it_incomplete_and_it_expires_after_23_hours() {
    let shop = Shop::new("pm_card_chargeCustomerFail").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    assert_eq!(subscription["status"], "incomplete");
    let invoice = shop.invoice(&subscription["latest_invoice"]).await;
    assert_eq!((&invoice["status"], &invoice["attempt_count"]), (&json!("open"), &json!(1)));
    assert_eq!(invoice["next_payment_attempt"], json!(null), "a first invoice waits for its customer");
    shop.advance(NEW_YEAR + 23 * 3600 - 1).await;
    let id = text(&subscription["id"]);
    assert_eq!(shop.subscription(&id).await["status"], "incomplete");
    shop.advance(NEW_YEAR + 23 * 3600).await;
    assert_eq!(shop.subscription(&id).await["status"], "incomplete_expired");
    assert_eq!(shop.invoice(&subscription["latest_invoice"]).await["status"], "void");
    let intent = invoice["payments"]["data"][0]["payment"]["payment_intent"].as_str().unwrap();
    assert_eq!(shop.stripe.get(&format!("/v1/payment_intents/{intent}")).await.ok()["status"], "canceled");
}

#[tokio::test]
async fn error_if_incomplete_leaves_nothing() {
    let shop = Shop::new("pm_card_chargeCustomerFail").await;
    let price = shop.price("Basic", "1000", "month").await;
    let form = [
        ("customer", shop.customer.as_str()),
        ("items[0][price]", &price),
        ("payment_behavior", "error_if_incomplete"),
    ];
    let error = shop.stripe.post("/v1/subscriptions", &form).await.error(402);
    assert_eq!((&error["type"], &error["code"]), (&json!("card_error"), &json!("card_declined")));
    assert_eq!(shop.stripe.get("/v1/subscriptions?status=all").await.ok()["data"], json!([]));
    assert_eq!(shop.stripe.get("/v1/invoices").await.ok()["data"], json!([]));
    shop.set_card("pm_card_authenticationRequired").await;
    let error = shop.stripe.post("/v1/subscriptions", &form).await.error(402);
    assert_eq!(error["code"], "subscription_payment_intent_requires_action");
}

#[tokio::test]
async fn without_a_card_only_default_incomplete_waits_for_one() {
    let shop = Shop::new("").await;
    let price = shop.price("Basic", "1000", "month").await;
    let form = [("customer", shop.customer.as_str()), ("items[0][price]", &price)];
    assert_eq!(shop.stripe.post("/v1/subscriptions", &form).await.error(400)["code"], "resource_missing");
    assert_eq!(shop.stripe.get("/v1/subscriptions?status=all").await.ok()["data"], json!([]));
    let waits = [
        ("payment_behavior", "default_incomplete"),
        ("payment_settings[save_default_payment_method]", "on_subscription"),
        ("expand[]", "latest_invoice.confirmation_secret"),
        ("expand[]", "latest_invoice.payments"),
    ];
    let subscription = shop.subscribe(&price, &waits).await;
    assert_eq!(subscription["status"], "incomplete");
    let secret = text(&subscription["latest_invoice"]["confirmation_secret"]["client_secret"]);
    let (intent, _) = secret.split_once("_secret_").unwrap();
    let payment = &subscription["latest_invoice"]["payments"]["data"][0];
    assert_eq!(payment["payment"]["payment_intent"], intent);

    // The browser confirms with the secret; the card is kept on the subscription.
    let browser = shop.stripe.as_key("pk_test_example");
    let path = format!("/v1/payment_intents/{intent}/confirm");
    let form = [("client_secret", secret.as_str()), ("payment_method", "pm_card_visa")];
    assert_eq!(browser.post(&path, &form).await.ok()["status"], "succeeded");
    let active = shop.subscription(subscription["id"].as_str().unwrap()).await;
    assert_eq!(active["status"], "active");
    let method = active["default_payment_method"].as_str().unwrap();
    let method = shop.stripe.get(&format!("/v1/payment_methods/{method}")).await.ok();
    assert_eq!(method["customer"], shop.customer.as_str(), "attached for later");
    let found = format!("/v1/invoice_payments?payment[type]=payment_intent&payment[payment_intent]={intent}");
    let found = shop.stripe.get(&found).await.ok();
    assert_eq!(
        (&found["data"][0]["invoice"], &found["data"][0]["status"]),
        (&active["latest_invoice"], &json!("paid"))
    );
}

#[tokio::test]
async fn a_default_card_waits_to_be_confirmed() {
    let shop = Shop::new("pm_card_threeDSecure2Required").await;
    let price = shop.price("Basic", "1000", "month").await;
    let waits = [("payment_behavior", "default_incomplete"), ("expand[]", "latest_invoice.payments")];
    let subscription = shop.subscribe(&price, &waits).await;
    let intent = text(&subscription["latest_invoice"]["payments"]["data"][0]["payment"]["payment_intent"]);
    let path = format!("/v1/payment_intents/{intent}");
    assert_eq!(shop.stripe.get(&path).await.ok()["status"], "requires_confirmation");
    let asked = shop.stripe.post(&format!("{path}/confirm"), &[("return_url", "https://example.com")]).await.ok();
    assert_eq!(asked["status"], "requires_action");
    let id = text(&subscription["id"]);
    assert_eq!(shop.subscription(&id).await["status"], "incomplete");
    // The customer fails 3-D Secure, and then pays with another card.
    let page =
        asked["next_action"]["redirect_to_url"]["url"].as_str().unwrap().strip_prefix(&shop.stripe.base).unwrap();
    shop.stripe
        .post(
            page.split('?').next().unwrap(),
            &[("outcome", "fail"), ("client_secret", asked["client_secret"].as_str().unwrap())],
        )
        .await;
    assert_eq!(shop.stripe.get(&path).await.ok()["status"], "requires_payment_method");
    let paid = shop.stripe.post(&format!("{path}/confirm"), &[("payment_method", "pm_card_visa")]).await.ok();
    assert_eq!((&paid["status"], &shop.subscription(&id).await["status"]), (&json!("succeeded"), &json!("active")));
    assert_eq!(
        shop.events(&["invoice.payment", "invoice.paid"]).await,
        ["invoice.payment_action_required", "invoice.payment_failed", "invoice.paid", "invoice.payment_succeeded"]
    );
}

#[tokio::test]
async fn paths_of_before_basil_cannot_be_expanded() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    let error = shop.stripe.get(&format!("{path}?expand[]=latest_invoice.payment_intent")).await.error(400);
    let message = "This property cannot be expanded because it doesn't exist: payment_intent.";
    assert_eq!(error["message"], message);
    let deep = "latest_invoice.payments.data.payment.payment_intent";
    let error = shop.stripe.get(&format!("{path}?expand[]={deep}")).await.error(400);
    assert!(error["message"].as_str().unwrap().starts_with("You cannot expand more than 4 levels"));
    let expanded = shop.stripe.get(&format!("{path}?expand[]=items.data.price.product&expand[]=customer")).await.ok();
    assert_eq!(expanded["items"]["data"][0]["price"]["product"]["name"], "Basic");
    assert_eq!(expanded["customer"]["email"], "a@example.com");
    let invoice = format!("/v1/invoices/{}", subscription["latest_invoice"].as_str().unwrap());
    let expanded = shop.stripe.get(&format!("{invoice}?expand[]=payments.data.payment.payment_intent")).await.ok();
    assert_eq!(expanded["payments"]["data"][0]["payment"]["payment_intent"]["status"], "succeeded");
}

#[tokio::test]
async fn month_ends() {
    let shop = Shop::at(crate::client::Client::new().await, at("2026-01-31T12:00:00Z"), "pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let id = text(&subscription["id"]);
    for end in ["2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z", "2026-04-30T12:00:00Z", "2026-05-31T12:00:00Z"] {
        let item = shop.subscription(&id).await["items"]["data"][0].clone();
        assert_eq!(item["current_period_end"], at(end), "{end}");
        shop.advance(at(end) + 2 * 3600).await;
    }
    let invoices = shop.stripe.get("/v1/invoices").await.ok();
    let invoices = invoices["data"].as_array().unwrap();
    assert_eq!(invoices.len(), 5);
    assert!(invoices.iter().all(|invoice| invoice["status"] == "paid" && invoice["total"] == 1000));
}

#[tokio::test]
async fn a_renewal_is_a_draft_for_an_hour_and_then_collected() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let id = text(&subscription["id"]);
    let end = at("2026-02-01T00:00:00Z");
    shop.advance(end).await;
    let renewed = shop.subscription(&id).await;
    assert_eq!(
        (&renewed["status"], &renewed["items"]["data"][0]["current_period_start"]),
        (&json!("active"), &json!(end))
    );
    let draft = shop.invoice(&renewed["latest_invoice"]).await;
    assert_eq!((&draft["status"], &draft["automatically_finalizes_at"]), (&json!("draft"), &json!(end + 3600)));
    assert_eq!((&draft["period_start"], &draft["period_end"]), (&json!(NEW_YEAR), &json!(end)));
    assert_eq!(draft["lines"]["data"][0]["period"], json!({"start": end, "end": at("2026-03-01T00:00:00Z")}));
    shop.advance(end + 3600).await;
    let paid = shop.invoice(&renewed["latest_invoice"]).await;
    assert_eq!((&paid["status"], &paid["billing_reason"]), (&json!("paid"), &json!("subscription_cycle")));
    assert!(paid["number"].as_str().unwrap().ends_with("-0002"));
    let path = format!("/v1/test_helpers/test_clocks/{}/advance", shop.clock);
    let far = (end + 3600 + 63 * DAY).to_string();
    let error = shop.stripe.post(&path, &[("frozen_time", &far)]).await.error(400);
    assert_eq!(error["param"], "frozen_time", "two months at a time");
}

#[tokio::test]
async fn a_renewal_that_fails_is_tried_again_and_then_the_subscription_ends() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let id = text(&subscription["id"]);
    shop.set_card("pm_card_chargeCustomerFail").await;
    let first = at("2026-02-01T01:00:00Z");
    shop.advance(first).await;
    let owing = shop.subscription(&id).await;
    assert_eq!(owing["status"], "past_due");
    let mut at = first;
    for (count, days) in [(1, 1), (2, 3), (3, 5), (4, 7)] {
        let invoice = shop.invoice(&owing["latest_invoice"]).await;
        at += days * DAY;
        assert_eq!((&invoice["attempt_count"], &invoice["next_payment_attempt"]), (&json!(count), &json!(at)));
        shop.advance(at).await;
    }
    let ended = shop.subscription(&id).await;
    assert_eq!(ended["status"], "canceled");
    assert_eq!(ended["cancellation_details"]["reason"], "payment_failed");
    let invoice = shop.invoice(&owing["latest_invoice"]).await;
    assert_eq!(
        (&invoice["status"], &invoice["attempt_count"], &invoice["auto_advance"]),
        (&json!("open"), &json!(5), &json!(false))
    );
    assert_eq!(shop.events(&["invoice.payment_failed", "customer.subscription.deleted"]).await.len(), 6);
}

#[tokio::test]
async fn a_renewal_that_fails_is_paid_with_another_card() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    shop.set_card("pm_card_authenticationRequired").await;
    shop.advance(at("2026-02-01T01:00:00Z")).await;
    let owing = shop.subscription(subscription["id"].as_str().unwrap()).await;
    assert_eq!(owing["status"], "past_due");
    let events = shop.events(&["invoice.payment_"]).await;
    assert_eq!(events, ["invoice.payment_succeeded", "invoice.payment_failed", "invoice.payment_action_required"]);
    shop.set_card("pm_card_mastercard").await;
    let path = format!("/v1/invoices/{}/pay", owing["latest_invoice"].as_str().unwrap());
    assert_eq!(shop.stripe.post(&path, &[]).await.ok()["status"], "paid");
    assert_eq!(shop.subscription(subscription["id"].as_str().unwrap()).await["status"], "active");
}

#[tokio::test]
async fn a_trial_is_told_of_and_then_paid() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[("trial_period_days", "7"), ("expand[]", "latest_invoice")]).await;
    let id = text(&subscription["id"]);
    let end = NEW_YEAR + 7 * DAY;
    assert_eq!((&subscription["status"], &subscription["trial_end"]), (&json!("trialing"), &json!(end)));
    let invoice = &subscription["latest_invoice"];
    assert_eq!((&invoice["status"], &invoice["total"]), (&json!("paid"), &json!(0)));
    assert_eq!(lines(invoice), [(0, "Trial period for Basic".to_owned())]);
    let told = "customer.subscription.trial_will_end";
    shop.advance(NEW_YEAR + 4 * DAY - 1).await;
    assert_eq!(shop.events(&[told]).await.len(), 0);
    shop.advance(NEW_YEAR + 4 * DAY).await;
    assert_eq!(shop.events(&[told]).await.len(), 1);
    shop.advance(end).await;
    let active = shop.subscription(&id).await;
    assert_eq!(
        (&active["status"], &active["items"]["data"][0]["current_period_start"]),
        (&json!("active"), &json!(end))
    );
    shop.advance(end + 3600).await;
    assert_eq!(shop.invoice(&active["latest_invoice"]).await["amount_paid"], 1000);
}

#[tokio::test]
async fn a_trial_without_a_card_ends_as_it_was_told() {
    for (word, status) in [("cancel", "canceled"), ("pause", "paused"), ("create_invoice", "active")] {
        let shop = Shop::new("").await;
        let price = shop.price("Basic", "1000", "month").await;
        let form = [("trial_period_days", "7"), ("trial_settings[end_behavior][missing_payment_method]", word)];
        let subscription = shop.subscribe(&price, &form).await;
        assert!(subscription["pending_setup_intent"].as_str().unwrap().starts_with("seti_"));
        shop.advance(NEW_YEAR + 7 * DAY).await;
        let id = text(&subscription["id"]);
        assert_eq!(shop.subscription(&id).await["status"], status);
        if word == "create_invoice" {
            shop.advance(NEW_YEAR + 7 * DAY + 3600).await;
            assert_eq!(shop.subscription(&id).await["status"], "past_due");
        }
    }
}

#[tokio::test]
async fn canceling_now_at_the_end_and_not_at_all() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let end = at("2026-02-01T00:00:00Z");
    let subscription = shop.subscribe(&price, &[]).await;
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    let set = shop.stripe.post(&path, &[("cancel_at_period_end", "true")]).await.ok();
    assert_eq!(
        (&set["status"], &set["cancel_at"], &set["canceled_at"]),
        (&json!("active"), &json!(end), &json!(NEW_YEAR))
    );
    let undone = shop.stripe.post(&path, &[("cancel_at_period_end", "false")]).await.ok();
    assert_eq!((&undone["cancel_at"], &undone["canceled_at"]), (&json!(null), &json!(null)));
    shop.stripe.post(&path, &[("cancel_at_period_end", "true")]).await.ok();
    shop.advance(end).await;
    let ended = shop.stripe.get(&path).await.ok();
    assert_eq!((&ended["status"], &ended["ended_at"]), (&json!("canceled"), &json!(end)));
    assert_eq!(ended["latest_invoice"], subscription["latest_invoice"], "no renewal");
    assert_eq!(shop.stripe.delete(&path).await.error(404)["code"], "resource_missing");

    // Half of February is unused: 1000 x 14 / 28 goes back to the balance.
    let other = shop.subscribe(&price, &[]).await;
    shop.advance(at("2026-02-15T00:00:00Z")).await;
    let path = format!("/v1/subscriptions/{}?prorate=true&invoice_now=true", other["id"].as_str().unwrap());
    let ended = shop.stripe.delete(&path).await.ok();
    assert_eq!(ended["status"], "canceled");
    let invoice = shop.invoice(&ended["latest_invoice"]).await;
    assert_eq!(lines(&invoice), [(-500, "Unused time on Basic after 15 Feb 2026".to_owned())]);
    assert_eq!(
        (&invoice["total"], &invoice["amount_due"], &invoice["status"]),
        (&json!(-500), &json!(0), &json!("paid"))
    );
    let customer = shop.stripe.get(&format!("/v1/customers/{}", shop.customer)).await.ok();
    assert_eq!(customer["balance"], -500);
}

#[tokio::test]
async fn pausing_credits_and_resuming_begins_anew() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "3100", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    shop.advance(NEW_YEAR + 10 * DAY).await;
    let paused = shop.stripe.post(&format!("{path}/pause"), &[]).await.ok();
    assert_eq!(paused["status"], "paused");
    assert_eq!(paused["status_details"]["paused"]["subscription"]["type"], "pause_requested");
    shop.advance(NEW_YEAR + 40 * DAY).await;
    assert_eq!(shop.stripe.get("/v1/invoices").await.ok()["data"].as_array().unwrap().len(), 1, "it rests");
    let resumed = shop.stripe.post(&format!("{path}/resume"), &[("expand[]", "latest_invoice")]).await.ok();
    assert_eq!(resumed["status"], "active");
    assert_eq!(resumed["items"]["data"][0]["current_period_start"], NEW_YEAR + 40 * DAY);
    // 21 of 31 days were unused.
    let invoice = &resumed["latest_invoice"];
    assert_eq!(lines(invoice)[0], (-2100, "Unused time on Basic after 11 Jan 2026".to_owned()));
    assert_eq!((&invoice["total"], &invoice["status"]), (&json!(1000), &json!("paid")));
    assert_eq!(
        shop.events(&["customer.subscription.paused", "customer.subscription.resumed"]).await,
        ["customer.subscription.paused", "customer.subscription.resumed"]
    );
    shop.stripe.post(&format!("{path}/resume"), &[]).await.error(400);
}

#[tokio::test]
async fn collection_can_be_paused() {
    for (behavior, status) in [("keep_as_draft", "draft"), ("mark_uncollectible", "uncollectible"), ("void", "void")] {
        let shop = Shop::new("pm_card_visa").await;
        let price = shop.price("Basic", "1000", "month").await;
        let subscription = shop.subscribe(&price, &[]).await;
        let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
        let until = at("2026-02-20T00:00:00Z").to_string();
        let form = [("pause_collection[behavior]", behavior), ("pause_collection[resumes_at]", until.as_str())];
        shop.stripe.post(&path, &form).await.ok();
        shop.advance(at("2026-02-02T00:00:00Z")).await;
        let renewed = shop.stripe.get(&path).await.ok();
        assert_eq!(renewed["status"], "active");
        assert_eq!(shop.invoice(&renewed["latest_invoice"]).await["status"], status);
        shop.advance(at("2026-02-20T00:00:00Z")).await;
        assert_eq!(shop.stripe.get(&path).await.ok()["pause_collection"], json!(null));
    }
}

#[tokio::test]
async fn an_anchor_in_the_future_makes_the_first_period_short() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "3100", "month").await;
    let anchor = at("2026-01-11T00:00:00Z").to_string();
    // The natural period is from 11 December to 11 January: 10 of its 31 days.
    let more = [("billing_cycle_anchor", anchor.as_str()), ("expand[]", "latest_invoice")];
    let subscription = shop.subscribe(&price, &more).await;
    assert_eq!(subscription["latest_invoice"]["total"], 1000);
    let free = shop.subscribe(&price, &[more[0], more[1], ("proration_behavior", "none")]).await;
    assert_eq!((&free["status"], &free["latest_invoice"]["total"]), (&json!("active"), &json!(0)));
    let late = at("2026-02-11T00:00:00Z").to_string();
    let form =
        [("customer", shop.customer.as_str()), ("items[0][price]", &price), ("billing_cycle_anchor", late.as_str())];
    assert_eq!(shop.stripe.post("/v1/subscriptions", &form).await.error(400)["param"], "billing_cycle_anchor");
}

#[tokio::test]
async fn invoices_are_sent_where_nothing_is_charged() {
    let shop = Shop::new("").await;
    let price = shop.price("Basic", "1000", "month").await;
    let more = [("collection_method", "send_invoice"), ("days_until_due", "14")];
    let subscription = shop.subscribe(&price, &more).await;
    assert_eq!(subscription["status"], "active");
    assert_eq!(shop.invoice(&subscription["latest_invoice"]).await["status"], "draft");
    shop.advance(NEW_YEAR + 3600).await;
    let sent = shop.invoice(&subscription["latest_invoice"]).await;
    assert_eq!((&sent["status"], &sent["due_date"]), (&json!("open"), &json!(NEW_YEAR + 14 * DAY)));
    assert_eq!(shop.events(&["invoice.sent"]).await.len(), 1);
    shop.advance(NEW_YEAR + 14 * DAY).await;
    let id = text(&subscription["id"]);
    assert_eq!(shop.subscription(&id).await["status"], "past_due");
    let path = format!("/v1/invoices/{}/pay", sent["id"].as_str().unwrap());
    let paid = shop.stripe.post(&path, &[("paid_out_of_band", "true")]).await.ok();
    assert_eq!((&paid["status"], &paid["amount_paid_off_stripe"]), (&json!("paid"), &json!(1000)));
    assert_eq!(shop.subscription(&id).await["status"], "active");
    assert_eq!(shop.events(&["invoice.paid", "invoice.payment_succeeded"]).await, ["invoice.paid"]);
}

#[tokio::test]
async fn a_renewal_is_told_a_week_before() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    shop.subscribe(&price, &[]).await;
    shop.advance(at("2026-01-25T00:00:00Z") - 1).await;
    assert_eq!(shop.events(&["invoice.upcoming"]).await.len(), 0);
    shop.advance(at("2026-01-31T00:00:00Z")).await;
    let events = shop.stripe.get("/v1/events?type=invoice.upcoming").await.ok();
    let invoice = &events["data"][0]["data"]["object"];
    assert_eq!((events["data"].as_array().unwrap().len(), &invoice["total"]), (1, &json!(1000)));
    assert_eq!((invoice.get("id"), &events["data"][0]["created"]), (None, &json!(at("2026-01-25T00:00:00Z"))));
    assert_eq!(shop.stripe.get("/v1/invoices").await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_becomes_of_it_after_the_last_retry_is_a_setting() {
    for (after, status) in [(AfterLastRetry::Unpaid, "unpaid"), (AfterLastRetry::PastDue, "past_due")] {
        let settings = Settings {
            invoice_retries: vec![Duration::from_secs(3600)],
            after_last_retry: after,
            ..crate::client::quick()
        };
        let stripe = crate::client::Client::with(settings).await;
        let shop = Shop::at(stripe, NEW_YEAR, "pm_card_visa").await;
        let price = shop.price("Basic", "1000", "month").await;
        let subscription = shop.subscribe(&price, &[]).await;
        let id = text(&subscription["id"]);
        shop.set_card("pm_card_chargeCustomerFail").await;
        shop.advance(at("2026-02-01T01:00:00Z")).await;
        assert_eq!(shop.subscription(&id).await["status"], "past_due");
        shop.advance(at("2026-02-01T02:00:00Z")).await;
        assert_eq!(shop.subscription(&id).await["status"], status);
        shop.advance(at("2026-03-01T02:00:00Z")).await;
        let latest = shop.subscription(&id).await["latest_invoice"].clone();
        let latest = shop.invoice(&latest).await;
        // Who does not pay any more gets drafts.
        let expected = if status == "unpaid" { "draft" } else { "open" };
        assert_eq!(latest["status"], expected);
        let path = format!("/v1/invoices/{}/pay", latest["id"].as_str().unwrap());
        shop.set_card("pm_card_visa").await;
        shop.stripe.post(&path, &[]).await.ok();
        assert_eq!(shop.subscription(&id).await["status"], "active");
    }
}

#[tokio::test]
async fn time_and_a_restart_without_a_test_clock() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { file: Some(folder.path().join("sandbox.jsonl")), ..crate::client::quick() };
    let stripe = crate::client::Client::with(settings.clone()).await;
    stripe.control("/_sandbox/clock", json!({"now": NEW_YEAR + 4_000 * DAY})).await;
    let customer = stripe.post("/v1/customers", &[("payment_method", "pm_card_visa")]).await.ok();
    let id = text(&customer["id"]);
    let methods = stripe.get(&format!("/v1/payment_methods?customer={id}")).await.ok();
    let form = [
        ("customer", id.as_str()),
        ("default_payment_method", methods["data"][0]["id"].as_str().unwrap()),
        ("items[0][price_data][currency]", "usd"),
        ("items[0][price_data][product_data][name]", "Daily"),
        ("items[0][price_data][unit_amount]", "240"),
        ("items[0][price_data][recurring][interval]", "day"),
    ];
    let subscription = stripe.post("/v1/subscriptions", &form).await.ok();
    assert_eq!(subscription["status"], "active");
    stripe.stop().await;

    let stripe = crate::client::Client::with(settings).await;
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    let form =
        [("items[0][id]", subscription["items"]["data"][0]["id"].as_str().unwrap()), ("items[0][quantity]", "2")];
    stripe.control("/_sandbox/clock", json!({"now": NEW_YEAR + 4_000 * DAY + DAY / 2})).await;
    stripe.post(&path, &form).await.ok();
    stripe.control("/_sandbox/clock", json!({"now": NEW_YEAR + 4_001 * DAY + 3600})).await;
    let invoice = stripe.get(&format!("{path}?expand[]=latest_invoice")).await.ok()["latest_invoice"].clone();
    let amounts: Vec<i64> = lines(&invoice).into_iter().map(|(amount, _)| amount).collect();
    assert_eq!((amounts, &invoice["status"]), (vec![-120, 240, 480], &json!("paid")), "what was billed is still known");
    stripe.delete(&format!("/v1/customers/{id}")).await.ok();
    assert_eq!(stripe.get(&path).await.ok()["status"], "canceled");
}

#[tokio::test]
async fn a_trial_takes_its_card_by_the_pending_setup_intent() {
    let shop = Shop::new("").await;
    let price = shop.price("Basic", "1000", "month").await;
    let form = [
        ("trial_period_days", "7"),
        ("payment_behavior", "default_incomplete"),
        ("payment_settings[save_default_payment_method]", "on_subscription"),
        ("expand[]", "pending_setup_intent"),
    ];
    let subscription = shop.subscribe(&price, &form).await;
    let intent = &subscription["pending_setup_intent"];
    let path = format!("/v1/setup_intents/{}/confirm", intent["id"].as_str().unwrap());
    let form = [("client_secret", intent["client_secret"].as_str().unwrap()), ("payment_method", "pm_card_visa")];
    assert_eq!(shop.stripe.as_key("pk_test_example").post(&path, &form).await.ok()["status"], "succeeded");
    let ready = shop.subscription(subscription["id"].as_str().unwrap()).await;
    assert_eq!(ready["pending_setup_intent"], json!(null));
    assert!(ready["default_payment_method"].as_str().unwrap().starts_with("pm_"));
    shop.advance(NEW_YEAR + 7 * DAY + 3600).await;
    let paid = shop.subscription(subscription["id"].as_str().unwrap()).await;
    assert_eq!(
        (&paid["status"], &shop.invoice(&paid["latest_invoice"]).await["amount_paid"]),
        (&json!("active"), &json!(1000))
    );
}

#[tokio::test]
async fn a_price_is_shown_as_it_is_now() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    shop.stripe.post(&format!("/v1/prices/{price}"), &[("nickname", "Starter"), ("active", "false")]).await.ok();
    let item = shop.subscription(subscription["id"].as_str().unwrap()).await["items"]["data"][0].clone();
    assert_eq!((&item["price"]["nickname"], &item["plan"]["nickname"]), (&json!("Starter"), &json!("Starter")));
    let form = [("customer", shop.customer.as_str()), ("items[0][price]", &price)];
    assert_eq!(shop.stripe.post("/v1/subscriptions", &form).await.error(400)["param"], "items[0][price]");
}

#[tokio::test]
async fn a_week_that_is_not_paid_ends_it_though_others_have_begun() {
    let shop = Shop::new("pm_card_visa").await;
    let price = shop.price("Weekly", "500", "week").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let id = text(&subscription["id"]);
    shop.set_card("pm_card_chargeCustomerFail").await;
    for day in [8, 15, 22, 23] {
        shop.advance(NEW_YEAR + day * DAY).await;
        assert_eq!(shop.subscription(&id).await["status"], "past_due", "day {day}");
    }
    // The first failed on the 7th day, and its last retry is 16 days later.
    shop.advance(NEW_YEAR + 23 * DAY + 3600).await;
    assert_eq!(shop.subscription(&id).await["status"], "canceled");
    let open = shop.stripe.get("/v1/invoices?status=open").await.ok();
    let open = open["data"].as_array().unwrap();
    assert!(open.len() == 3 && open.iter().all(|invoice| invoice["next_payment_attempt"].is_null()));
}
