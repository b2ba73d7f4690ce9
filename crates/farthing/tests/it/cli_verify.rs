//! `farthing verify`: whatever is tampered with in the books is found and named.

use engine::{Asset, Command, InvoiceStep, ItemRequest, Money};
use farthing::clock::Clock;
use serde_json::Value;

use crate::cli_program::Program;
use crate::databases::{Database, on_both};
use crate::shop::Shop;

/// Jane with ten dollars, of which four are spent, and joan, who owes two.
async fn books(database: &Database) -> Program {
    let program = Program::on(database.address());
    program.file("customers.csv", "id,balance\njane,10\njoan,\n");
    program.run(&["import", "customers", "customers.csv"]).assert_code(0);
    program.file(
        "usage.csv",
        "customer,time,context_tokens,generated_tokens\n\
         jane,2026-01-01T00:00:00Z,1000000,\njane,2026-01-01T00:00:01Z,333333,0\njoan,2026-01-01T00:00:02Z,666667,\n",
    );
    let maps = ["--map", "time=time", "--map", "quantity:context_tokens=context_tokens"];
    let more = ["--map", "quantity:generated_tokens=generated_tokens", "usage.csv"];
    program.run(&[&["import", "events"], &maps[..], &more].concat()).assert_code(0);
    program
}

async fn row_of(database: &Database, customer: &str) -> String {
    let scope = farthing::store::Scope { tenant: "assistant".into(), customer: None };
    let key = farthing::store::CustomerKey::new(&scope.tenant, customer);
    let row = database.store.customer(&scope, &key).await.expect("the store answers");
    row.expect("the customer was imported").customer.id.to_string()
}

#[tokio::test]
async fn sound_books_are_summed_up_by_tenant_and_asset() {
    on_both(async |database| {
        let program = books(&database).await;
        let ended = program.run(&["verify"]);
        ended.assert_code(0);
        let mut lines = ended.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), ["TENANT", "ASSET", "GRANTED", "OWED", "CHARGED", "LAPSED", "WALLETS"]);
        // Granted and owed are charged, lapsed and wallets together.
        assert_eq!(lines.next().unwrap(), ["assistant", "USD", "10", "2.000001", "6", "0", "6.000001"]);
        assert_eq!(lines.next().unwrap(), ["assistant", "use", "6", "0", "0", "0", "6"]);
        assert_eq!(lines.next().unwrap().concat(), "2customersrecounted:everywallet,debtandinvoiceiswhattheledgersays");

        let json = program.run(&["verify", "--json"]);
        let json: Value = serde_json::from_str(&json.assert_code(0).out).unwrap();
        assert_eq!((&json["customers"], &json["differences"]), (&2.into(), &0.into()));
        assert_eq!((&json["totals"][0]["charged"], &json["totals"][0]["owed"]), (&"6".into(), &"2.000001".into()));
    })
    .await;
}

#[tokio::test]
async fn what_is_tampered_with_is_named() {
    on_both(async |database| {
        let program = books(&database).await;
        let (jane, joan) = (row_of(&database, "jane").await, row_of(&database, "joan").await);
        let id = |row: &str| match database.store.name() {
            "SQLite" => format!("x'{}'", row.replace('-', "")),
            _ => format!("'{row}'"),
        };
        let of_jane = format!("customer {jane} of tenant assistant: ");
        let of_joan = format!("customer {joan} of tenant assistant: ");
        for (damage, repair, said) in [
            (
                format!("UPDATE customers SET state = replace(state, '6000001', '7000001') WHERE customer_id = {}", id(&jane)),
                format!("UPDATE customers SET state = replace(state, '7000001', '6000001') WHERE customer_id = {}", id(&jane)),
                format!("{of_jane}wallet USD, grant "),
            ),
            (
                format!("UPDATE customers SET state = replace(state, '2000001', '1') WHERE customer_id = {}", id(&joan)),
                format!("UPDATE customers SET state = replace(state, ':1}}', ':2000001}}') WHERE customer_id = {}", id(&joan)),
                format!("{of_joan}debt USD: the ledger says 2.000001, stored is 0.000001"),
            ),
            (
                "UPDATE charges SET amount = 1 WHERE quantity = 333333000000".to_owned(),
                "UPDATE charges SET amount = 999999 WHERE quantity = 333333000000".to_owned(),
                format!("{of_jane}charge "),
            ),
            (
                format!("UPDATE customers SET position = position - 1 WHERE customer_id = {}", id(&joan)),
                format!("UPDATE customers SET position = position + 1 WHERE customer_id = {}", id(&joan)),
                format!("{of_joan}position: the ledger says 2, stored is 1"),
            ),
            (
                format!("UPDATE entries SET amount = amount + 5 WHERE kind = 'grant' AND asset = 'USD' AND customer_id = {}", id(&jane)),
                format!("UPDATE entries SET amount = amount - 5 WHERE kind = 'grant' AND asset = 'USD' AND customer_id = {}", id(&jane)),
                format!("{of_jane}wallet USD, grant "),
            ),
        ] {
            database.execute(damage.clone()).await;
            let ended = program.run(&["verify"]);
            ended.assert_code(1);
            assert!(ended.out.lines().any(|line| line.starts_with(&said)), "{damage}: {}", ended.out);
            let json = program.run(&["verify", "--json"]);
            let json: Value = serde_json::from_str(&json.assert_code(1).out).unwrap();
            assert_eq!(json["found"].as_array().unwrap().len(), ended.out.matches("of tenant assistant: ").count());
            database.execute(repair).await;
            program.run(&["verify"]).assert_code(0);
        }
        database.execute("DELETE FROM charges WHERE quantity = 333333000000").await;
        let gone = program.run(&["verify"]);
        assert!(gone.assert_code(1).out.contains(&format!("{of_jane}charge ")), "{}", gone.out);
    })
    .await;
}

/// An invoice of a dollar, of which ten cents were taken back, and one that is left open.
async fn invoiced(database: &Database) -> Shop {
    let shop = Shop::selling(database.another().await, |_| {}).await;
    shop.create("jane").await;
    for (title, minor) in [("set-up", 100), ("training", 50)] {
        let price = Money { minor, currency: Asset::new("USD") };
        let item = ItemRequest { id: shop.clock.new_id(), title: title.into(), price, quantity: 1 };
        shop.execute("jane", Command::AddItem(item)).await.expect("it is billed");
        shop.execute("jane", Command::InvoiceUsage).await.expect("it is invoiced");
        shop.clock.advance(31 * 24 * 3_600);
    }
    let invoice = shop.customer("jane").await.customer.state.invoices[0].id;
    let credit = InvoiceStep::Credit { id: shop.clock.new_id(), minor: 10, reason: None };
    shop.execute("jane", Command::StepInvoice { invoice, step: credit }).await.expect("it is taken back");
    shop
}

#[tokio::test]
async fn whatever_is_wrong_with_invoices_is_found() {
    on_both(async |database| {
        let shop = invoiced(&database).await;
        let program = Program::on(shop.database.address());
        program.run(&["verify"]).assert_code(0);
        for (damage, repair, said) in [
            (
                "UPDATE invoices SET invoice = replace(invoice, '\"subtotal\":100', '\"subtotal\":101')",
                "UPDATE invoices SET invoice = replace(invoice, '\"subtotal\":101', '\"subtotal\":100')",
                ": invoice ",
            ),
            (
                "UPDATE invoices SET standing = replace(standing, '\"due\":90', '\"due\":80')",
                "UPDATE invoices SET standing = replace(standing, '\"due\":80', '\"due\":90')",
                ": invoice ",
            ),
            (
                "UPDATE credit_notes SET credit_note = replace(credit_note, '\"minor\":10', '\"minor\":11')",
                "UPDATE credit_notes SET credit_note = replace(credit_note, '\"minor\":11', '\"minor\":10')",
                ": invoice ",
            ),
            (
                "UPDATE entries SET amount = amount + 5 WHERE kind = 'credit_note'",
                "UPDATE entries SET amount = amount - 5 WHERE kind = 'credit_note'",
                ": open invoices USD: ",
            ),
            (
                "UPDATE invoices SET number = 3 WHERE number = 2",
                "UPDATE invoices SET number = 2 WHERE number = 3",
                "tenant acme: invoice numbers: expected is 1 to 2, stored is 2 from 1 to 3",
            ),
            (
                "UPDATE invoice_numbers SET next = 9",
                "UPDATE invoice_numbers SET next = 3",
                "tenant acme: invoice numbers: expected is 1 to 8",
            ),
        ] {
            shop.database.execute(damage).await;
            let ended = program.run(&["verify"]);
            assert!(ended.assert_code(1).out.contains(said), "{damage}: {}", ended.out);
            shop.database.execute(repair).await;
            program.run(&["verify"]).assert_code(0);
        }
    })
    .await;
}

#[tokio::test]
async fn migrate_brings_a_database_to_the_schema() {
    on_both(async |database| {
        let ended = Program::on(database.address()).run(&["migrate"]);
        let expected =
            format!("{}: schema version {}\n", database.store.name(), database.store.schema_version().await.unwrap());
        assert_eq!(ended.assert_code(0).out, expected);
    })
    .await;
}
