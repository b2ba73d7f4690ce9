//! `farthing import customers`: who they are, and the balance that each is granted once.

use serde_json::json;

use crate::cli_program::Program;
use crate::databases::{Database, on_both};

/// Each customer: id, name, e-mail address, status.
async fn customers(database: &Database) -> Vec<String> {
    database
        .texts(
            "SELECT c.external_id || ' ' || COALESCE(p.name, '-') || ' ' || COALESCE(p.email, '-') || ' ' || c.status
             FROM customers AS c JOIN profiles AS p ON p.shard_key = c.shard_key AND p.customer_id = c.customer_id
             ORDER BY c.external_id",
        )
        .await
}

/// Each imported grant: customer, kind, amount in micros, asset.
async fn grants(database: &Database) -> Vec<String> {
    database
        .texts(
            "SELECT c.external_id || ' ' || g.kind || ' ' || g.amount || ' ' || g.asset
             FROM grants AS g JOIN customers AS c ON c.shard_key = g.shard_key AND c.customer_id = g.customer_id
             WHERE g.reason = 'import' ORDER BY c.external_id, g.asset",
        )
        .await
}

#[tokio::test]
async fn customers_are_created_with_their_balances_once() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file(
            "customers.csv",
            "Id,Name,Email,Status,Balance,Tokens\n\
             jane,Jane Doe,jane@example.com,active,12.50,1000\n\
             joan,,,suspended,0,\n\
             june,June,,closed,3,\n",
        );
        let import = ["import", "customers", "--map", "balance:token=Tokens", "customers.csv"];
        let first = program.run(&import);
        first.assert_code(0);
        assert_eq!((first.value("customers created"), first.value("granted")), (Some("3"), Some("15.5 USD")));
        let expected = ["jane Jane Doe jane@example.com active", "joan - - suspended", "june June - closed"];
        assert_eq!(customers(&database).await, expected);
        let granted = ["jane paid 1000000000 token", "jane paid 12500000 USD", "june paid 3000000 USD"];
        let mut found = grants(&database).await;
        found.sort_unstable();
        assert_eq!(found, granted);

        let again = program.run(&[&import[..], &["--from-start"]].concat());
        again.assert_code(0);
        assert_eq!((again.value("unchanged"), again.value("balances granted before")), (Some("3"), Some("3")));
        assert_eq!(again.value("granted"), None);
        assert_eq!(grants(&database).await.len(), 3);
        program.run(&["verify"]).assert_code(0);
    })
    .await;
}

#[tokio::test]
async fn a_second_file_changes_what_it_names_and_leaves_the_rest() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file("customers.csv", "id,name,email\njane,Jane,jane@example.com\njoan,Joan,\n");
        program.run(&["import", "customers", "customers.csv"]).assert_code(0);
        let lines = [
            json!({"id": "jane", "name": "Jane Doe", "balances": {"use": 5}}),
            json!({"customer": "joan", "status": "suspended", "balance": "1"}),
            json!({"id": "june"}),
        ];
        program.file("more.jsonl", &lines.map(|line| format!("{line}\n")).concat());
        let more = program.run(&["import", "customers", "--kind", "promotional", "more.jsonl"]);
        more.assert_code(0);
        assert_eq!((more.value("customers created"), more.value("changed")), (Some("1"), Some("2")));
        let expected = ["jane Jane Doe jane@example.com active", "joan Joan - suspended", "june - - active"];
        assert_eq!(customers(&database).await, expected);
        assert_eq!(grants(&database).await, ["jane promotional 5000000 use", "joan promotional 1000000 USD"]);
    })
    .await;
}

#[tokio::test]
async fn customers_whom_the_provider_has_are_looked_up_there() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file("customers.csv", "id,provider_customer\njane,cus_jane\njoan,\n");
        let import = ["import", "customers", "--known-before", "customers.csv"];
        program.run(&import).assert_code(0);
        let again = program.run(&[&import[..], &["--from-start"]].concat());
        assert_eq!(again.value("unchanged"), Some("2"), "{}", again.out);
        let asked = "SELECT c.external_id || ' ' || e.effect FROM effects AS e JOIN customers AS c
                     ON c.shard_key = e.shard_key AND c.customer_id = e.customer_id";
        assert_eq!(database.texts(asked).await, [r#"jane {"kind":"register_payer"}"#]);
        let kept = database.texts("SELECT state FROM customers WHERE external_id = 'jane'").await;
        assert!(kept[0].contains("cus_jane"), "{kept:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_line_is_told() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file(
            "customers.csv",
            "id,status,balance\njane,active,1\njoan,gone,1\njune,,much\njulia,,-1\njane,,2\nerased_x,,\n,,1\njill,,1.0000001\n",
        );
        let ended = program.run(&["import", "customers", "--on-error", "skip", "customers.csv"]);
        ended.assert_code(1);
        for line in [
            "customers.csv:3: status `gone` is none of active, suspended, closed",
            "customers.csv:4: the balance `much` is not a decimal number",
            "customers.csv:5: the balance `-1` is below zero",
            "customers.csv:6: customer `jane` stands on line 2 too",
            "customers.csv:7: customer may not begin with `erased_`",
            "customers.csv:8: the line names no customer",
            "customers.csv:9: the balance `1.0000001` has more digits after the decimal point than can be kept exactly",
        ] {
            assert!(ended.err.contains(line), "{line} is not in {}", ended.err);
        }
        assert_eq!(grants(&database).await, ["jane paid 1000000 USD"]);

        program.file("customers.csv", "id,balance\njane,2\n");
        let other = program.run(&["import", "customers", "customers.csv"]);
        assert!(other.assert_code(1).err.contains("its balance was imported before, as another amount"), "{}", other.err);
        assert_eq!(grants(&database).await, ["jane paid 1000000 USD"]);
    })
    .await;
}

#[tokio::test]
async fn who_was_a_customer_before_gets_what_is_left_and_nothing_for_being_new() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file("ciris.toml", include_str!("../../../../examples/ciris.toml"));
        program.file(
            "accounts.csv",
            "id,email,status,credit,free_uses\n\
             oauth:google/ann,ann@example.com,active,17,0\n\
             oauth:google/a%2Fb,,suspended,0,2\n",
        );
        let import = ["import", "customers", "accounts.csv", "--tenant-file", "ciris.toml", "--known-before"];
        let balances = ["--map", "balance:credit=credit", "--map", "balance:use=free_uses"];
        let done = program.run(&[&import[..], &balances].concat());
        done.assert_code(0);
        let expected = ["oauth:google/a%2Fb paid 2000000 use", "oauth:google/ann paid 17000000 credit"];
        assert_eq!(grants(&database).await, expected);
        // There is no other grant.
        assert_eq!(database.texts("SELECT COUNT(*) || '' FROM grants").await, ["2"]);
        program.run(&["verify"]).assert_code(0);
    })
    .await;
}

#[tokio::test]
async fn a_dialect_is_one_tenants() {
    let program = Program::on("sqlite:books.db");
    let tenant = include_str!("../../../../examples/ciris.toml");
    program.file("one.toml", tenant);
    program.file("two.toml", &tenant.replace("name = \"ciris\"\nmode", "name = \"other\"\nmode"));
    let refused = program.run(&["serve", "one.toml", "two.toml", "--listen", "127.0.0.1:0", "--sandbox-listen", "off"]);
    refused.assert_code(1);
    let words = "both speak the dialect `ciris`; serve one of them";
    assert!(refused.err.contains(words), "{}", refused.err);
}
