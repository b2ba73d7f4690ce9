//! What PostgreSQL itself refuses, should a surface or the batch writer ever ask for too much: a reader sees one tenant, or
//! one customer of it, and writes nothing; the writer adds to the books and changes nothing that stands there.

use engine::{Command, HoldSize, Profile};
use farthing::service::{Service, Settings};
use uuid::Uuid;

use crate::databases::Database;
use crate::product::{Product, all_done, micros};

/// Tables with one row or more of every customer below.
const TABLES: [&str; 16] = [
    "customers",
    "profiles",
    "charges",
    "entries",
    "grants",
    "holds",
    "operations",
    "payments",
    "payers",
    "effects",
    "exchanges",
    "subscriptions",
    "subscription_changes",
    "invoices",
    "credit_notes",
    "notices",
];

/// A row for each customer in the tables of collecting and billing, which no command here writes.
const COLLECTING: &str = "
    INSERT INTO payments SELECT shard_key, customer_id, customer_id, tenant, 'paid', 'pi', '{}', 1 FROM customers;
    INSERT INTO payers SELECT shard_key, customer_id, tenant, 'cus' FROM customers;
    INSERT INTO effects SELECT shard_key, customer_id, customer_id, tenant, '{}', 'done', 1, 1, NULL, 1 FROM customers;
    INSERT INTO exchanges SELECT shard_key, customer_id, 0, customer_id, tenant, '', 200, '', 0, '', 1 FROM customers;
    INSERT INTO subscriptions SELECT shard_key, customer_id, customer_id, tenant, 'active', NULL, '{}', 1 FROM customers;
    INSERT INTO subscription_changes SELECT shard_key, customer_id, customer_id, 1, 1, tenant, 'active', '{}', NULL FROM customers;
    INSERT INTO invoices SELECT shard_key, customer_id, customer_id, tenant, 1, '{}', 'paid', '{}', 1 FROM customers;
    INSERT INTO credit_notes SELECT shard_key, customer_id, customer_id, tenant, customer_id, '{}', 1 FROM customers;
    INSERT INTO notices SELECT shard_key, customer_id, customer_id, tenant, 1, '', '{}', 1 FROM customers;";

/// Two tenants, each with two customers who have something in every table; the customers' ids.
async fn fill(database: &Database) -> [[Uuid; 2]; 2] {
    let service = Service::start(&database.store, Settings::default());
    let mut ids = [[Uuid::nil(); 2]; 2];
    for (product, ids) in ["acme", "other"].map(Product::new).into_iter().zip(&mut ids) {
        let price = [("calls-1".to_owned(), "{}".to_owned())];
        database.store.keep_prices(product.tenant(), &price).await.expect("the price is kept");
        for (name, id) in ["jane", "john"].into_iter().zip(ids) {
            let hold = product.hold_id(name, "h1");
            let more = Command::ExtendHold { hold, more: Some(HoldSize::Quantity(micros("1"))), expires_at: None };
            let requests = [
                product.profile(name, Profile { name: Some(name.to_owned()), ..Profile::default() }),
                product.grant(name, "g1", "10"),
                product.call(name, "c1"),
                product.hold(name, "h1", "2"),
                product.keyed(name, "e1", more),
            ];
            all_done(&service, requests).await;
            *id = product.owner(&*database.store, name).await.1;
        }
    }
    database.execute(COLLECTING).await;
    ids
}

fn as_role(role: &str, tenant: &str, customer: &str) -> String {
    format!("SET ROLE {role}; SET farthing.tenant = '{tenant}'; SET farthing.customer = '{customer}';")
}

#[tokio::test]
async fn a_reader_sees_its_tenant_or_its_customer_and_nothing_else() {
    let database = Database::postgres().await;
    let ids = fill(&database).await;
    for table in TABLES {
        let seen = async |tenant: &str, customer: &str| {
            let query = format!("SELECT DISTINCT tenant || ' ' || customer_id FROM {table} ORDER BY 1");
            database.texts_after(&as_role("farthing_reader", tenant, customer), query).await.expect("a reader may read")
        };
        let rows = |tenant: &str, ids: &[Uuid]| {
            let mut rows: Vec<_> = ids.iter().map(|id| format!("{tenant} {id}")).collect();
            rows.sort_unstable();
            rows
        };
        let none: [String; 0] = [];
        let [acme, other] = ids;
        assert_eq!(seen("acme", "").await, rows("acme", &acme), "{table}");
        assert_eq!(seen("other", "").await, rows("other", &other), "{table}");
        assert_eq!(seen("acme", &acme[0].to_string()).await, rows("acme", &acme[..1]), "{table}");
        assert_eq!(seen("acme", &other[0].to_string()).await, none, "{table}: another tenant's customer");
        assert_eq!(seen("", "").await, none, "{table}: nothing is set");
        assert_eq!(seen("", &acme[0].to_string()).await, none, "{table}: no tenant is set");

        // A connection on which nothing was ever set.
        let query = format!("SELECT CAST(count(*) AS text) FROM {table}");
        assert_eq!(database.texts_after("SET ROLE farthing_reader", query).await.unwrap(), ["0"], "{table}");
    }
    let prices = "SELECT tenant FROM prices";
    let seen = database.texts_after(&as_role("farthing_reader", "acme", ""), prices).await.unwrap();
    assert_eq!(seen, ["acme"]);
    assert_eq!(database.texts_after("SET ROLE farthing_reader", prices).await.unwrap(), [] as [&str; 0]);
}

/// Asserts that a role may not run a statement.
async fn assert_refused(database: &Database, role: &str, statement: &str) {
    // With everything in sight, so that it is the right that is missing and not the rows.
    let refused =
        database.texts_after(&format!("SET ROLE {role}; SET farthing.tenant = 'acme'; {statement}"), "SELECT ''").await;
    let error = refused.expect_err(&format!("{role} may {statement}"));
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("42501"), "{role}: {statement}: {error}");
}

#[tokio::test]
async fn a_reader_writes_nothing_and_sees_no_keys() {
    let database = Database::postgres().await;
    fill(&database).await;
    let of_nobody = [
        "prices",
        "api_keys",
        "imports",
        "provider_events",
        "reconciliations",
        "test_clocks",
        "dues",
        "plan_versions",
        "offers",
    ];
    for table in TABLES.into_iter().chain(of_nobody) {
        for statement in [
            format!("DELETE FROM {table}"),
            format!("UPDATE {table} SET tenant = tenant"),
            format!("INSERT INTO {table} SELECT * FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            assert_refused(&database, "farthing_reader", &statement).await;
        }
    }
    let unseen =
        ["api_keys", "imports", "_sqlx_migrations", "provider_events", "reconciliations", "test_clocks", "dues"];
    for table in unseen.into_iter().chain(["invoice_numbers", "notice_numbers", "plan_versions", "offers", "secrets"]) {
        assert_refused(&database, "farthing_reader", &format!("SELECT 1 FROM {table}")).await;
    }
}

#[tokio::test]
async fn the_writer_adds_to_the_books_and_changes_nothing_in_them() {
    let database = Database::postgres().await;
    fill(&database).await;
    let mut refused: Vec<String> = Vec::new();
    for (table, columns) in [
        (
            "charges",
            "amount owed balance_after quantity priced_quantity asset position id customer_id tenant fingerprint",
        ),
        ("entries", "amount asset debit credit position line kind cause_id grant_id customer_id tenant recorded_at"),
        ("grants", "amount asset kind priority expires_at position id customer_id tenant"),
        ("customers", "shard_key customer_id tenant created_at"),
        ("profiles", "shard_key customer_id tenant"),
        ("holds", "shard_key id customer_id tenant"),
        ("operations", "shard_key id customer_id tenant fingerprint recorded_at"),
        ("prices", "definition version tenant"),
        ("plan_versions", "definition version plan tenant kept_at"),
        ("offers", "tenant"),
        ("payments", "shard_key id customer_id tenant created_at"),
        ("effects", "shard_key id customer_id tenant effect created_at"),
        ("invoices", "shard_key id customer_id tenant number invoice created_at"),
        ("credit_notes", "shard_key id customer_id tenant invoice_id credit_note created_at"),
        ("subscriptions", "shard_key id customer_id tenant started_at"),
        ("notices", "shard_key id customer_id tenant number kind notice created_at"),
    ] {
        refused.extend(columns.split(' ').map(|column| format!("UPDATE {table} SET {column} = {column}")));
    }
    for table in [
        "customers",
        "profiles",
        "charges",
        "entries",
        "grants",
        "operations",
        "prices",
        "payments",
        "payers",
        "effects",
        "subscriptions",
        "subscription_changes",
        "invoices",
        "credit_notes",
        "invoice_numbers",
        "notices",
        "notice_numbers",
        "plan_versions",
        "offers",
    ] {
        refused.extend([format!("DELETE FROM {table}"), format!("TRUNCATE {table}")]);
    }
    refused.extend(["SELECT 1 FROM api_keys", "SELECT 1 FROM imports", "TRUNCATE holds"].map(str::to_owned));
    for statement in refused {
        assert_refused(&database, "farthing_writer", &statement).await;
    }
    let rows = "SELECT tenant FROM charges ORDER BY tenant";
    let seen = database.texts_after("SET ROLE farthing_writer", rows).await.unwrap();
    assert_eq!(seen, ["acme", "acme", "other", "other"], "it serves every tenant");
}
