//! Invoices from draft to their end, with discounts and taxes.

use serde_json::{Value, json};

use crate::billing::{NEW_YEAR, Shop, at, lines, text};
use crate::client::Endpoint;

/// A draft with one item of $50.
async fn draft(shop: &Shop, more: &[(&str, &str)]) -> String {
    let form =
        [("customer", shop.customer.as_str()), ("amount", "5000"), ("currency", "usd"), ("description", "Advice")];
    shop.stripe.post("/v1/invoiceitems", &form).await.ok();
    let mut form = vec![("customer", shop.customer.as_str()), ("pending_invoice_items_behavior", "include")];
    form.extend(more);
    let invoice = shop.stripe.post("/v1/invoices", &form).await.ok();
    format!("/v1/invoices/{}", invoice["id"].as_str().unwrap())
}

async fn post(shop: &Shop, path: &str, action: &str, form: &[(&str, &str)]) -> crate::client::Answer {
    shop.stripe.post(&format!("{path}/{action}"), form).await
}

#[tokio::test]
async fn a_draft_is_edited_finalized_and_paid() {
    let shop = Shop::new("pm_card_visa").await;
    let path = draft(&shop, &[]).await;
    let form = [("lines[0][description]", "Travel"), ("lines[0][amount]", "250")];
    let edited = post(&shop, &path, "add_lines", &form).await.ok();
    assert_eq!((&edited["status"], &edited["total"]), (&json!("draft"), &json!(5250)));
    assert_eq!(lines(&edited), [(5000, "Advice".to_owned()), (250, "Travel".to_owned())]);
    assert_eq!((&edited["number"], &edited["hosted_invoice_url"]), (&json!(null), &json!(null)));
    let page = shop.stripe.get(&format!("{path}/lines?limit=1")).await.ok();
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (1, &json!(true)));

    let open = post(&shop, &path, "finalize", &[("expand[]", "confirmation_secret")]).await.ok();
    assert_eq!((&open["status"], &open["amount_remaining"]), (&json!("open"), &json!(5250)));
    assert!(open["number"].as_str().unwrap().ends_with("-0001"));
    assert!(open["hosted_invoice_url"].as_str().unwrap().starts_with(&shop.stripe.base));
    assert_eq!(open["confirmation_secret"]["type"], "payment_intent");
    let error = shop.stripe.post(&path, &[("collection_method", "send_invoice")]).await.error(400);
    assert_eq!(error["code"], "invoice_not_editable");
    post(&shop, &path, "finalize", &[]).await.error(400);
    assert_eq!(shop.stripe.delete(&path).await.error(400)["code"], "invoice_not_editable");

    let paid = post(&shop, &path, "pay", &[]).await.ok();
    assert_eq!(
        (&paid["status"], &paid["amount_paid"], &paid["attempt_count"]),
        (&json!("paid"), &json!(5250), &json!(1))
    );
    assert_eq!(post(&shop, &path, "pay", &[]).await.error(400)["message"], "Invoice is already paid");
    post(&shop, &path, "void", &[]).await.error(400);
    let list = shop.stripe.get(&format!("/v1/invoice_payments?invoice={}", paid["id"].as_str().unwrap())).await.ok();
    assert_eq!((&list["data"][0]["status"], &list["data"][0]["amount_paid"]), (&json!("paid"), &json!(5250)));
}

#[tokio::test]
async fn a_decline_leaves_it_open() {
    let shop = Shop::new("pm_card_chargeCustomerFail").await;
    let path = draft(&shop, &[]).await;
    let error = post(&shop, &path, "pay", &[]).await.error(402);
    assert_eq!(
        (&error["code"], &error["payment_intent"]["status"]),
        (&json!("card_declined"), &json!("requires_payment_method"))
    );
    let invoice = shop.stripe.get(&path).await.ok();
    assert_eq!((&invoice["status"], &invoice["attempted"]), (&json!("open"), &json!(true)));
    shop.set_card("pm_card_authenticationRequired").await;
    assert_eq!(post(&shop, &path, "pay", &[]).await.error(402)["code"], "authentication_required");
    let error = post(&shop, &path, "pay", &[("off_session", "false")]).await.error(402);
    assert_eq!(error["code"], "invoice_payment_intent_requires_action");
    assert_eq!(shop.stripe.get(&path).await.ok()["attempt_count"], 1, "only the schedule counts further");
    assert_eq!(
        shop.events(&["invoice.payment"]).await,
        [
            "invoice.payment_failed",
            "invoice.payment_failed",
            "invoice.payment_action_required",
            "invoice.payment_action_required"
        ]
    );
    let paid = post(&shop, &path, "pay", &[("payment_method", "pm_card_visa")]).await.ok();
    assert_eq!(paid["status"], "paid");
}

#[tokio::test]
async fn void_uncollectible_and_out_of_band() {
    let shop = Shop::new("").await;
    let path = draft(&shop, &[]).await;
    post(&shop, &path, "void", &[]).await.error(400);
    post(&shop, &path, "finalize", &[]).await.ok();
    post(&shop, &path, "pay", &[]).await.error(400);
    let given_up = post(&shop, &path, "mark_uncollectible", &[]).await.ok();
    assert_eq!(
        (&given_up["status"], &given_up["status_transitions"]["marked_uncollectible_at"]),
        (&json!("uncollectible"), &json!(NEW_YEAR))
    );
    let void = post(&shop, &path, "void", &[]).await.ok();
    assert_eq!(void["status"], "void");
    let path = draft(&shop, &[]).await;
    let paid = post(&shop, &path, "pay", &[("paid_out_of_band", "true")]).await.ok();
    assert_eq!((&paid["status"], &paid["amount_remaining"]), (&json!("paid"), &json!(0)));
    let intents = shop.stripe.get("/v1/payment_intents").await.ok();
    let statuses: Vec<&Value> = intents["data"].as_array().unwrap().iter().map(|intent| &intent["status"]).collect();
    assert_eq!(statuses, ["canceled", "canceled"]);
}

#[tokio::test]
async fn a_deleted_draft_gives_its_items_back() {
    let shop = Shop::new("").await;
    let path = draft(&shop, &[]).await;
    assert_eq!(shop.stripe.delete(&path).await.ok()["deleted"], true);
    shop.stripe.get(&path).await.error(404);
    let items = shop.stripe.get("/v1/invoiceitems?pending=true").await.ok();
    let item = format!("/v1/invoiceitems/{}", items["data"][0]["id"].as_str().unwrap());
    assert_eq!(shop.stripe.post(&item, &[("amount", "700")]).await.ok()["amount"], 700);
    assert_eq!(shop.stripe.delete(&item).await.ok()["deleted"], true);
    let form = [("customer", shop.customer.as_str()), ("pending_invoice_items_behavior", "include")];
    assert_eq!(shop.stripe.post("/v1/invoices", &form).await.ok()["total"], 0);
}

#[tokio::test]
async fn an_invoice_advances_by_itself_if_told_to() {
    let shop = Shop::new("pm_card_visa").await;
    let path = draft(&shop, &[("auto_advance", "true")]).await;
    shop.advance(NEW_YEAR + 3600).await;
    assert_eq!(shop.stripe.get(&path).await.ok()["status"], "paid");
    let path = draft(&shop, &[("collection_method", "send_invoice"), ("days_until_due", "30")]).await;
    let sent = post(&shop, &path, "send", &[]).await.ok();
    assert_eq!((&sent["status"], &sent["due_date"]), (&json!("open"), &json!(NEW_YEAR + 3600 + 30 * 86_400)));
}

#[tokio::test]
async fn coupons_take_off_percents_and_amounts() {
    let shop = Shop::new("pm_card_visa").await;
    shop.stripe.post("/v1/coupons", &[("id", "QUARTER"), ("percent_off", "25"), ("duration", "once")]).await.ok();
    shop.stripe.post("/v1/coupons", &[("id", "TEN"), ("amount_off", "1000"), ("currency", "usd")]).await.ok();
    shop.stripe.post("/v1/coupons", &[("id", "EURO"), ("amount_off", "1000"), ("currency", "eur")]).await.ok();
    let path = draft(&shop, &[("discounts[0][coupon]", "QUARTER"), ("discounts[1][coupon]", "TEN")]).await;
    let invoice = shop.stripe.get(&path).await.ok();
    // 5000 less 25 % is 3750, less 1000.
    assert_eq!((&invoice["subtotal"], &invoice["total"]), (&json!(5000), &json!(2750)));
    assert_eq!(invoice["total_discount_amounts"][0]["amount"], 1250);
    let wrong = shop.stripe.post(&path, &[("discounts[0][coupon]", "EURO")]).await.error(400);
    assert_eq!(wrong["param"], "discounts[0][coupon]");
    shop.stripe.post(&path, &[("discounts[0][coupon]", "NONE")]).await.error(400);

    let price = shop.price("Basic", "1000", "month").await;
    let subscription =
        shop.subscribe(&price, &[("discounts[0][coupon]", "QUARTER"), ("expand[]", "latest_invoice")]).await;
    assert_eq!(subscription["latest_invoice"]["amount_paid"], 750);
    shop.advance(at("2026-02-01T01:00:00Z")).await;
    let renewed = shop.subscription(&text(&subscription["id"])).await;
    assert_eq!(shop.invoice(&renewed["latest_invoice"]).await["total"], 1000, "once is once");
    assert_eq!(shop.stripe.get("/v1/coupons/QUARTER").await.ok()["times_redeemed"], 2);
}

#[tokio::test]
async fn a_coupon_for_two_months_ends_with_them() {
    let shop = Shop::new("pm_card_visa").await;
    let form = [("id", "HALF"), ("percent_off", "50"), ("duration", "repeating"), ("duration_in_months", "2")];
    shop.stripe.post("/v1/coupons", &form).await.ok();
    let price = shop.price("Basic", "1001", "month").await;
    let subscription = shop.subscribe(&price, &[("discounts[0][coupon]", "HALF"), ("expand[]", "discounts")]).await;
    let discount = &subscription["discounts"][0];
    assert_eq!((&discount["source"]["coupon"], &discount["end"]), (&json!("HALF"), &json!(at("2026-03-01T00:00:00Z"))));
    // 500.50 taken off is 501: half a cent goes to the customer.
    for (time, total) in [("2026-01-02T00:00:00Z", 500), ("2026-02-01T01:00:00Z", 500), ("2026-03-01T01:00:00Z", 1001)]
    {
        shop.advance(at(time)).await;
        let latest = shop.subscription(&text(&subscription["id"])).await["latest_invoice"].clone();
        assert_eq!(shop.invoice(&latest).await["amount_paid"], total, "{time}");
    }
    let error = shop.stripe.post("/v1/coupons", &[("percent_off", "50"), ("duration", "repeating")]).await.error(400);
    assert_eq!(error["param"], "duration_in_months");
}

#[tokio::test]
async fn a_payment_intent_that_is_cancelled_is_replaced() {
    let shop = Shop::new("pm_card_visa").await;
    let path = draft(&shop, &[]).await;
    let open = post(&shop, &path, "finalize", &[("expand[]", "payments")]).await.ok();
    let intent = text(&open["payments"]["data"][0]["payment"]["payment_intent"]);
    shop.stripe.post(&format!("/v1/payment_intents/{intent}/cancel"), &[]).await.ok();
    let paid = post(&shop, &path, "pay", &[("expand[]", "payments")]).await.ok();
    let statuses: Vec<&Value> = paid["payments"]["data"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!((&paid["status"], statuses), (&json!("paid"), vec![&json!("paid"), &json!("canceled")]));
}

#[tokio::test]
async fn taxes_are_in_the_price_or_on_top() {
    let shop = Shop::new("pm_card_visa").await;
    let rate = |inclusive: &'static str| [("display_name", "VAT"), ("percentage", "20"), ("inclusive", inclusive)];
    let on_top = text(&shop.stripe.post("/v1/tax_rates", &rate("false")).await.ok()["id"]);
    let inside = text(&shop.stripe.post("/v1/tax_rates", &rate("true")).await.ok()["id"]);
    let price = shop.price("Basic", "999", "month").await;
    let form = [("default_tax_rates[]", on_top.as_str()), ("expand[]", "latest_invoice")];
    let invoice = shop.subscribe(&price, &form).await["latest_invoice"].clone();
    // 999 x 20 % = 199.80.
    assert_eq!((&invoice["total"], &invoice["total_excluding_tax"]), (&json!(1199), &json!(999)));
    assert_eq!(invoice["total_taxes"][0]["amount"], 200);
    assert_eq!(invoice["total_taxes"][0]["tax_rate_details"]["tax_rate"], on_top.as_str());
    let form = [("default_tax_rates[]", inside.as_str()), ("expand[]", "latest_invoice")];
    let invoice = shop.subscribe(&price, &form).await["latest_invoice"].clone();
    // 999 x 20/120 = 166.50.
    assert_eq!((&invoice["total"], &invoice["total_excluding_tax"]), (&json!(999), &json!(832)));
}

#[tokio::test]
async fn endpoints_of_before_basil_see_the_old_fields() {
    let shop = Shop::new("pm_card_visa").await;
    let endpoint = Endpoint::new(&[]).await;
    let form = [
        ("url", endpoint.url.as_str()),
        ("enabled_events[]", "invoice.paid"),
        ("enabled_events[]", "customer.subscription.updated"),
        ("api_version", "2024-06-20"),
    ];
    shop.stripe.post("/v1/webhook_endpoints", &form).await.ok();
    let price = shop.price("Basic", "1000", "month").await;
    let subscription = shop.subscribe(&price, &[]).await;
    let hooks = endpoint.wait_for(2).await;
    let of = |name: &str| {
        let event = hooks.iter().map(|hook| hook.event()).find(|event| event["type"] == name).unwrap();
        event["data"]["object"].clone()
    };
    let invoice = of("invoice.paid");
    assert_eq!((&invoice["subscription"], &invoice["paid"]), (&subscription["id"], &json!(true)));
    assert!(invoice["payment_intent"].as_str().unwrap().starts_with("pi_"));
    assert!(invoice["charge"].as_str().unwrap().starts_with("ch_"));
    let line = &invoice["lines"]["data"][0];
    assert_eq!(
        (&line["type"], &line["proration"], &line["price"]["id"]),
        (&json!("subscription"), &json!(false), &json!(price))
    );
    assert_eq!(line["subscription_item"], subscription["items"]["data"][0]["id"]);
    assert_eq!(of("customer.subscription.updated")["current_period_start"], NEW_YEAR);
}
