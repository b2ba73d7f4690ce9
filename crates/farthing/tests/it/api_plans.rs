//! The plans that are sold, as a pricing page reads them.

use farthing::auth::Scope;

use crate::databases::Database;
use crate::harness::TestApp;

const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[[meters]]
name = "calls"
unit = "call"

[[prices]]
meter = "calls"
model = "graduated"
tiers = [{ up_to = 100, amount = "0.5", flat = 1 }, { amount = "0.25" }]

[[plans]]
name = "team"
title = "Team"
price = "19.90"
interval = "year"
trial_days = 14
spending_limit = "200"
commitment = "5"
overage = { policy = "ask" }
add_ons = ["phone"]
features = { sso = true, seats = 5, support = "mail" }

[[plans.allowances]]
name = "included"
unit = "call"
amount = 1000
rollover = true
cap = 500

[[plans.limits]]
name = "rate"
meter = "calls"
per = "sliding"
seconds = 10
amount = 5

[[plans.prices]]
meter = "calls"
model = "per_unit"
amount = "0.2"

[[plans]]
name = "free"
price = 0

[[add_ons]]
name = "phone"
title = "A number"
price = 5
"#;

#[tokio::test]
async fn a_pricing_page_reads_what_is_sold() {
    let app = TestApp::with(Database::sqlite().await, TENANT).await;
    let (key, _) = app.new_key(Scope::Read).await;
    let mut sold = app.request("GET", "/v1/plans").bearer(&key).send().await.is(200);
    // Versions are made of the content.
    for pointer in ["/plans/0", "/plans/1", "/plans/1/prices/0", "/prices/0"] {
        let one = sold.pointer_mut(pointer).expect("it is there").as_object_mut().expect("an object");
        assert!(one.remove("version").is_some_and(|version| version.is_string()), "{pointer}");
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&sold).expect("JSON"));
}
