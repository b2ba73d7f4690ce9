//! The `ciris` dialect, in the order of the product's own document: every request as it is written there (the key aside), with
//! the answer that it promises.

use serde_json::{Value, json};

use crate::databases;
use crate::harness::{TestApp, text};

/// The product's tenant file.
const TENANT: &str = include_str!("../../../../examples/ciris.toml");

/// Runs a test of the product on both databases, beside a sandbox.
async fn on_both(test: impl AsyncFn(&TestApp, &crate::shop::TestSandbox)) {
    databases::on_both(async |database| {
        let (app, sandbox) = TestApp::with_sandbox(database, TENANT).await;
        test(&app, &sandbox).await;
        crate::books::assert_balanced(&*app.app.store).await;
        sandbox.stop().await;
    })
    .await;
}

/// A body about one user.
fn about(user: &str, more: Value) -> Value {
    let mut body = json!({"oauth_provider": "oauth:google", "external_id": user});
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    body
}

async fn check(app: &TestApp, user: &str) -> Value {
    app.post("/v1/billing/credits/check", about(user, json!({"context": {}}))).await.is(200)
}

async fn charge(app: &TestApp, user: &str, amount: i64) -> crate::harness::Answer {
    let body = json!({"amount_minor": amount, "currency": "USD", "description": "Agent interaction", "metadata": {}});
    app.post("/v1/billing/charges", about(user, body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_steps_of_the_document() {
    on_both(async |app, sandbox| {
        let user = "stripe-test@example.com";
        // 2. Create a new account; it gets its free uses automatically.
        let opening = json!({"initial_balance_minor": 0, "currency": "USD", "plan_name": "free"});
        let account = app.post("/v1/billing/accounts", about(user, opening)).await.is(201);
        assert_eq!((&account["balance_minor"], &account["status"]), (&json!(0), &json!("active")), "{account}");
        // 3. Check credit.
        assert_eq!(
            check(app, user).await,
            json!({
                "has_credit": true, "credits_remaining": 0, "plan_name": "free", "reason": null,
                "free_uses_remaining": 3, "total_uses": 0, "purchase_required": false
            })
        );
        // 4. Use the first free use.
        let used = charge(app, user, 100).await.is(201);
        assert_eq!((&used["amount_minor"], &used["balance_after"]), (&json!(100), &json!(0)), "{used}");
        // 5. Check credit again.
        assert_eq!(check(app, user).await["free_uses_remaining"], 2);
        // The other two, and then there is nothing left.
        for _ in 0..2 {
            charge(app, user, 100).await.is(201);
        }
        assert_eq!(
            check(app, user).await,
            json!({
                "has_credit": false, "credits_remaining": 0, "plan_name": "free",
                "reason": "No free uses or credits remaining", "free_uses_remaining": 0, "total_uses": 3,
                "purchase_required": true, "purchase_price_minor": 500, "purchase_uses": 20
            })
        );
        let refused = charge(app, user, 100).await.is(402);
        assert_eq!(refused, json!({"detail": "Insufficient credits. Balance: 0, Required: 100"}));
        // 6. Initiate a purchase.
        let bought = app.post("/v1/billing/purchases", about(user, json!({"customer_email": user}))).await.is(201);
        assert_eq!(
            (&bought["amount_minor"], &bought["currency"], &bought["uses_purchased"], &bought["status"]),
            (&json!(500), &json!("USD"), &json!(20), &json!("requires_payment_method")),
            "{bought}"
        );
        assert!(text(&bought, "payment_id").starts_with("pi_"), "{bought}");
        // 7. Complete the payment; 8. the webhook fires by itself.
        let (status, paid) = sandbox.pay(text(&bought, "client_secret"), "pm_card_visa").await;
        assert_eq!((status, &paid["status"]), (200, &json!("succeeded")));
        // 9. Check credit: it shows the paid balance.
        let mut credit = check(app, user).await;
        for _ in 0..200 {
            if credit["has_credit"] == true {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            credit = check(app, user).await;
        }
        assert_eq!((&credit["credits_remaining"], &credit["total_uses"]), (&json!(20), &json!(3)), "{credit}");
        assert_eq!(charge(app, user, 1).await.is(201)["balance_after"], 19);
    })
    .await;
}
