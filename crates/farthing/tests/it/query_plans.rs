//! How the databases go about the store's statements: every look-up goes down an index by all columns of a key, on tables
//! that are still empty as on full ones. A plan that walks a bucket is right in every other respect, so nothing else would
//! notice; one that was made on an empty table stays in use while the table fills.

use std::collections::HashMap;

use engine::Command;
use farthing::service::{Commit, Service, Settings};
use futures_util::future::join_all;

use crate::databases::Database;
use crate::product::{Product, all_done};
use crate::statements::{Driver, Statement, statements_of, writer_settings};

/// Statements that may read many rows, and why.
const READS_MUCH: [(&str, &str); 15] = [
    ("test_clock", "one row for each tenant"),
    ("offer", "one row for each tenant"),
    ("kept_plans", "all versions of a tenant's plans, when a server starts"),
    ("subscribers", "an operator asks who is on which version of a plan"),
    ("customer_counts", "an operator asks how many customers there are"),
    ("customers_of_prices", "an operator asks how many customers were charged at a price"),
    ("next_due", "of a tenant in test mode, whatever is due some time"),
    ("reconciled_until", "one row for each tenant"),
    ("subscriptions_at_provider", "an operator compares all live subscriptions"),
    ("open_payments", "an operator asks for all payments that are open"),
    ("keys", "the keys of a tenant are few, and people look at them"),
    ("erase", "an erasure is rare: it looks through the operations and holds of its bucket"),
    ("work", "an operator asks what there is to do"),
    ("invoice_numbers", "verify reads everything"),
    ("all_customers", "verify reads everything"),
];

/// The statements that the batch writer runs, on connections that plan once for good.
const OF_THE_WRITER: [&str; 23] = [
    "LOAD",
    "LOCK",
    "HOT",
    "find_priors",
    "with_covers",
    "create_customers",
    "write_grants",
    "write_holds",
    "write_operations",
    "write_profiles",
    "find_payments",
    "write_payments",
    "write_effects",
    "settle_effects",
    "find_invoices",
    "end_grants",
    "write_subscriptions",
    "write_subscription_changes",
    "write_invoices",
    "write_invoice_changes",
    "write_credit_notes",
    "write_dues",
    "write_notices",
];

fn may_read_much(statement: &Statement) -> bool {
    READS_MUCH.iter().any(|(name, _)| *name == statement.name)
}

/// What is wrong with a line of SQLite's `EXPLAIN QUERY PLAN`.
fn wrong_in_sqlite(line: &str) -> bool {
    match line.split(' ').collect::<Vec<_>>()[..] {
        // The rows handed in, and subqueries of few rows.
        // A row for each tenant whose clock is held.
        ["SEARCH", "held", ..] => false,
        ["SCAN", "t" | "r" | "json_each" | "sides" | "sums" | "due" | "CONSTANT", ..] => false,
        ["SCAN", ..] => true,
        ["SEARCH", ..] => line.contains("(shard_key=?)") || line.contains("(tenant=?)"),
        _ => false,
    }
}

#[tokio::test]
async fn on_sqlite_every_statement_goes_down_an_index() {
    let database = Database::sqlite().await;
    for statement in statements_of(Driver::Sqlite) {
        let plan = database.plan(&statement.sql).await;
        let wrong: Vec<_> = plan.iter().filter(|line| wrong_in_sqlite(line)).collect();
        assert!(wrong.is_empty() || may_read_much(&statement), "{}: {wrong:#?}\n{}", statement.place, statement.sql);
    }
}

/// What is wrong with a plan of PostgreSQL's: an index that is not entered by more than the bucket, or none at all.
fn wrong_in_postgres(plan: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in plan.iter().enumerate() {
        let condition = plan.get(number + 1).map_or("", |next| next.trim());
        let deep = condition.starts_with("Index Cond:")
            && [
                "customer_id",
                "external_id",
                "version",
                "digest",
                "recorded_at",
                "(id ",
                "AND (id",
                "reference",
                "due_at",
                "received_at",
                "effect_id",
                "(at <",
                "invoice_id",
                "(tenant = ",
                "(name = ",
            ]
            .iter()
            .any(|column| condition.contains(column));
        // A row for each tenant whose clock is held.
        if line.contains("test_clocks") {
            continue;
        }
        if line.contains("Seq Scan") || (line.contains("Index") && line.contains("Scan") && !deep) {
            wrong.push(format!("{line} {condition}"));
        }
    }
    wrong
}

async fn assert_plans(database: &Database, settings: &str, statements: &[Statement]) {
    for statement in statements {
        let parameters = (1..=99).take_while(|number| statement.sql.contains(&format!("${number}"))).count();
        let nothing = vec!["NULL"; parameters].join(", ");
        let arguments = if parameters == 0 { String::new() } else { format!("({nothing})") };
        let prepare = format!("{settings} PREPARE statement AS {}", statement.sql);
        let explain = format!("EXPLAIN (COSTS OFF) EXECUTE statement{arguments}");
        let plan = database.texts_after(&prepare, explain).await;
        let plan = plan.unwrap_or_else(|error| panic!("{}: {error}\n{}", statement.place, statement.sql));
        let wrong = wrong_in_postgres(&plan);
        assert!(wrong.is_empty(), "{}: {wrong:#?}\n{}\n{}", statement.place, statement.sql, plan.join("\n"));
    }
}

#[tokio::test]
async fn on_postgresql_every_statement_goes_down_an_index_on_empty_tables_as_on_full_ones() {
    const FILL: &str = "
        INSERT INTO customers SELECT number % 10, gen_random_uuid(), 'acme', number, 'active', 1, repeat('x', 300), 1
        FROM generate_series(1, 2000) AS number;
        INSERT INTO charges SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, NULL, 1, 'charge', NULL, 'calls', 1,
            NULL, NULL, NULL, 0, 0, 'USD', 1, 0, 0, number, 1, NULL, NULL FROM customers, generate_series(1, 10) AS number;
        INSERT INTO entries SELECT shard_key, customer_id, number, 0, tenant, 'charge', customer_id, NULL, 'wallet',
            'revenue', 'USD', 1, 1 FROM customers, generate_series(1, 10) AS number;
        INSERT INTO grants SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, 'USD', 'paid', 1, 0, NULL, '[]',
            NULL, 1, NULL FROM customers;
        INSERT INTO holds SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, 'open', '{}', 1 FROM customers;
        INSERT INTO operations SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, '', 1 FROM customers;
        INSERT INTO payments SELECT shard_key, gen_random_uuid(), customer_id, tenant, 'paid', customer_id, '{}', 1
            FROM customers;
        INSERT INTO subscriptions SELECT shard_key, gen_random_uuid(), customer_id, tenant, 'active', NULL, '{}', 1
            FROM customers;
        INSERT INTO subscription_changes SELECT shard_key, customer_id, id, 1, 1, tenant, state, '{}', NULL FROM subscriptions;
        INSERT INTO invoices SELECT shard_key, gen_random_uuid(), customer_id, tenant, 1, '{}', 'paid', '{}', 1 FROM customers;
        INSERT INTO credit_notes SELECT shard_key, gen_random_uuid(), customer_id, tenant, id, '{}', 1 FROM invoices;
        INSERT INTO notices SELECT shard_key, gen_random_uuid(), customer_id, tenant, number, '', '{}', 1
            FROM customers, generate_series(1, 3) AS number;
        INSERT INTO dues SELECT shard_key, customer_id, tenant, 1, 'usage' FROM customers;
        INSERT INTO payers SELECT shard_key, customer_id, tenant, external_id FROM customers;
        INSERT INTO effects SELECT shard_key, gen_random_uuid(), customer_id, tenant, '{}', 'done', 1, 1, NULL, 1
            FROM customers;
        INSERT INTO exchanges SELECT shard_key, id, 0, customer_id, tenant, '', 200, '', 0, '', 1 FROM effects;
        INSERT INTO provider_events SELECT number % 1000, 'acme', number, '', '', 'applied', 1, 1, NULL, number
            FROM generate_series(1, 2000) AS number;
        INSERT INTO profiles SELECT shard_key, customer_id, tenant, NULL, NULL, '{}' FROM customers;";
    let database = Database::postgres().await;
    let all: Vec<_> = (statements_of(Driver::Postgres).into_iter())
        .filter(|statement| !may_read_much(statement) && !statement.sql.contains("_sqlx_migrations"))
        .collect();
    let of_writer: Vec<_> = all.iter().filter(|statement| OF_THE_WRITER.contains(&&*statement.name)).cloned().collect();
    assert!(of_writer.len() > OF_THE_WRITER.len());
    let writer = writer_settings();
    assert!(writer.contains("SET plan_cache_mode = force_generic_plan;"), "{writer}");

    assert_plans(&database, &writer, &of_writer).await;
    database.execute(FILL).await;
    assert_plans(&database, &writer, &of_writer).await;
    database.execute("ANALYZE").await;
    assert_plans(&database, &writer, &of_writer).await;
    let others = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;";
    assert_plans(&database, others, &all).await;
}

/// The same, seen from the other side: after the writer's statements were prepared on empty tables, all of its customers
/// are in one bucket, and it may not have read more of them, nor of their charges, than it was asked for.
#[tokio::test]
async fn on_postgresql_the_writer_reads_what_it_is_asked_for_and_no_more() {
    const CUSTOMERS: usize = 150;
    const ROUNDS: usize = 10;
    let database = Database::postgres().await;
    let product = Product::new("acme");
    let names: Vec<_> = (0..)
        .map(|number| format!("{number}"))
        .filter(|name| product.key(name).shard_key == 7)
        .take(CUSTOMERS)
        .collect();
    let stores = [database.open().await, database.open().await];
    let optimistic = Service::start(&stores[0], Settings::default());
    let locked = Service::start(&stores[1], Settings { commit: Commit::Locked, ..Settings::default() });
    for service in [&optimistic, &locked] {
        all_done(service, [product.create("first"), product.grant("first", "g1", "9"), product.call("first", "c1")])
            .await;
    }
    let mut requests = Vec::new();
    for name in &names {
        requests.extend([product.create(name), product.grant(name, "g1", "100"), product.hold(name, "h1", "1")]);
        let hold = product.hold_id(name, "h1");
        requests.push(product.keyed(name, "r1", Command::ReleaseHold { hold }));
    }
    for round in 0..ROUNDS {
        for name in &names {
            // Every fifth is asked for again, so that it has to be found.
            let key = if round % 5 == 0 { 0 } else { round };
            requests.push(product.call(name, &key.to_string()));
        }
    }
    let asked = 2 * requests.len();
    for service in [&optimistic, &locked] {
        for batch in requests.chunks(CUSTOMERS) {
            let answers = join_all(batch.iter().map(|request| service.execute(request.clone()))).await;
            assert!(answers.iter().all(Result::is_ok));
        }
        service.stop().await;
    }
    drop((optimistic, locked, stores));

    // What a connection has counted is written when it closes.
    let mut read: HashMap<String, usize> = HashMap::new();
    for _ in 0..100 {
        // Live rows alone: how many dead versions an index still names depends on when they are cleaned up.
        let query = "SELECT relname || ' ' || idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables";
        let lines = database.texts(query).await;
        let pair = |line: &String| {
            let (table, count) = line.split_once(' ').expect("two words");
            (table.to_owned(), count.parse().expect("a number"))
        };
        read = lines.iter().map(pair).collect();
        if read["customers"] >= asked {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(read["customers"] >= asked, "{read:?} for {asked} requests");
    for table in ["customers", "charges", "entries", "operations", "grants", "holds"] {
        assert!(read[table] <= 8 * asked, "{table}: {read:?} for {asked} requests");
    }
}
