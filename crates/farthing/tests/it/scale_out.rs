//! What the schema and the statements owe to the day when one database is not enough: every key of a table that grows with
//! use begins with `shard_key`, and every statement on such a table says which buckets it touches, so that the same schema
//! runs on machines that share the customers among them. The rules are read off the migrations and off the sources.

use std::collections::BTreeMap;
use std::path::Path;

use crate::statements::{Driver, statements_of};

/// Small tables that every machine has a copy of, and why.
const REFERENCE_TABLES: [(&str, &str); 10] = [
    ("secrets", "a few for the whole installation"),
    ("invoice_numbers", "one row for each tenant"),
    ("notice_numbers", "one row for each tenant"),
    ("test_clocks", "one row for each tenant whose clock is held"),
    ("reconciliations", "one row for each tenant"),
    ("prices", "a few versions of each price, written when a server starts"),
    ("plan_versions", "a few versions of each plan, written when a server starts"),
    ("offers", "one row for each tenant"),
    ("api_keys", "a few keys of each tenant, asked for by their digest before the customer is known"),
    ("imports", "one row for each imported file"),
];

/// Statements that ask every machine on purpose, and why.
const CROSS_SHARD: [(&str, &str); 34] = [
    ("used", "analytics sum up a tenant's customers, wherever they are; each customer's rows lie in one place"),
    ("used_by_customer", "the same, with a sum for each of them"),
    ("newest_invoices", "an operator sees the newest invoices of each customer of a tenant"),
    ("covered", "the same"),
    ("booked_uses", "the same, for the ledger"),
    ("booked_besides", "the same"),
    ("collected", "the same, for payments"),
    ("refunded", "the same"),
    ("payment_counts", "the same"),
    ("subscription_changes", "the same, for subscriptions"),
    ("acquired", "the same, for the customers themselves"),
    ("tenant_invoices", "an operator lists the invoices of a tenant, wherever they are"),
    ("payment_of_reference", "a webhook names a payment by what the provider calls it"),
    ("payer_of_reference", "a webhook names a customer by what the provider calls it"),
    ("subscription_of_reference", "a webhook names a subscription by what the provider calls it"),
    ("subscriptions_at_provider", "an operator compares a tenant's live subscriptions with the provider's"),
    ("due_effects", "one looks for what is due wherever it is; each is then claimed in its own bucket"),
    ("next_due", "one asks when something of a tenant in test mode is due next"),
    ("due_customers", "the same, for customers of whom something is due"),
    ("work", "an operator asks what there is to do, wherever it is"),
    ("invoice_numbers", "verify counts the invoices of each tenant"),
    ("due_events", "the same, for what providers told"),
    ("events", "an operator lists what a provider told"),
    ("forget_events", "once in a while old events are forgotten, wherever they are"),
    ("forget_exchanges", "the same, for what was asked and answered"),
    ("notices_of_tenant", "a product asks for what happened to any of its customers, in one order"),
    ("open_payments", "an operator compares a tenant's open payments with the provider's"),
    ("customers", "an operator lists the customers of a tenant, wherever they are"),
    ("subscribers", "an operator asks who would stay on which version of a plan"),
    ("customer_counts", "the same, for how many customers have none"),
    ("customers_of_prices", "the same, for how many were charged at a price"),
    ("all_customers", "verify reads every customer"),
    ("forget_operations", "once in a while old answers are forgotten, wherever they are"),
    ("create_customers", "there is no row yet to find the machine by; a customer is created once"),
];

/// What differs from one machine to the next, or is known to one machine alone.
const LOCAL: [&str; 6] = ["pg_advisory", "listen", "notify", "random(", "gen_random_uuid", "clock_timestamp"];

/// A text as words and marks, in small letters, without comments.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    for line in sql.lines().map(|line| line.split("--").next().unwrap_or("")) {
        let mut word = String::new();
        for letter in line.chars() {
            if letter.is_alphanumeric() || "_$'".contains(letter) {
                word.extend(letter.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            if !letter.is_whitespace() {
                words.push(letter.to_string());
            }
        }
        if !word.is_empty() {
            words.push(word);
        }
    }
    words
}

fn starts(words: &[String], pattern: &str) -> bool {
    pattern.split(' ').enumerate().all(|(at, word)| words.get(at).is_some_and(|found| found == word))
}

/// The words between the brackets that open at the first bracket of these words.
fn in_brackets(words: &[String]) -> &[String] {
    let Some(open) = words.iter().position(|word| word == "(") else { return &[] };
    let mut depth = 0;
    for (at, word) in words.iter().enumerate().skip(open) {
        depth += i32::from(word == "(") - i32::from(word == ")");
        if depth == 0 {
            return &words[open + 1..at];
        }
    }
    &words[open + 1..]
}

/// What a `CREATE TABLE` says between its brackets: columns and constraints.
fn items(body: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    body.split(|word| {
        depth += i32::from(word == "(") - i32::from(word == ")");
        depth == 0 && word == ","
    })
    .collect()
}

/// The tables of a schema with the names of their columns, and the tables among them that grow with use.
fn tables(schema: &str) -> BTreeMap<String, Vec<String>> {
    let words = words(schema);
    let mut tables = BTreeMap::new();
    for at in (0..words.len()).filter(|at| starts(&words[*at..], "create table")) {
        let columns = items(in_brackets(&words[at..]))
            .iter()
            .map(|item| item[0].clone())
            .filter(|first| !["primary", "unique", "foreign", "check", "constraint"].contains(&&**first))
            .collect();
        tables.insert(words[at + 2].clone(), columns);
    }
    tables
}

fn hot_tables(schema: &str) -> Vec<String> {
    let with_key = tables(schema).into_iter().filter(|(_, columns)| columns.contains(&"shard_key".to_owned()));
    with_key.map(|(table, _)| table).collect()
}

/// Where a schema breaks the rules.
fn breaches_of_schema(schema: &str) -> Vec<String> {
    let words = words(schema);
    let hot = hot_tables(schema);
    let mut breaches = Vec::new();
    for (table, _) in tables(schema) {
        if !hot.contains(&table) && !REFERENCE_TABLES.iter().any(|(name, _)| *name == table) {
            breaches.push(format!("{table}: no shard_key, and not a reference table"));
        }
    }
    for at in 0..words.len() {
        let rest = &words[at..];
        if starts(rest, "create table") && hot.contains(&rest[2]) {
            breaches.extend(breaches_of_table(&rest[2], &items(in_brackets(rest))));
        }
        if starts(rest, "create unique index") && hot.contains(&rest[5]) && in_brackets(rest)[0] != "shard_key" {
            breaches.push(format!("{}: unique index {} does not begin with shard_key", rest[5], rest[3]));
        }
        if starts(rest, "alter table") && hot.contains(&rest[2]) {
            let end = rest.iter().position(|word| word == ";").unwrap_or(rest.len());
            let key = |word: &String| ["primary", "unique", "foreign", "references"].contains(&&**word);
            if rest[..end].iter().any(key) && in_brackets(&rest[..end]).first().is_none_or(|first| first != "shard_key")
            {
                breaches.push(format!("{}: an added key does not begin with shard_key", rest[2]));
            }
        }
        for (what, pattern) in [
            ("a trigger", "create trigger"),
            ("a trigger", "create constraint trigger"),
            ("ON DELETE SET NULL", "on delete set null"),
            ("ON UPDATE SET NULL", "on update set null"),
            ("a generated shard_key", "shard_key int generated"),
            ("a generated shard_key", "shard_key int not null generated"),
            ("an identity of 4 bytes", "int generated"),
            ("an identity of 4 bytes", "integer generated"),
            ("an identity of 4 bytes", "serial"),
        ] {
            if starts(rest, pattern) {
                breaches.push(format!("{what} ({})", rest[..rest.len().min(6)].join(" ")));
            }
        }
    }
    breaches
}

fn breaches_of_table(table: &str, items: &[&[String]]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut primary = false;
    for item in items {
        let constraint = if item[0] == "constraint" { &item[2..] } else { item };
        primary |= starts(constraint, "primary key");
        let is_key = ["primary", "unique", "foreign"].contains(&&*constraint[0]);
        if is_key && in_brackets(constraint).first().is_none_or(|first| first != "shard_key") {
            breaches.push(format!("{table}: {} does not begin with shard_key", constraint.join(" ")));
        }
        if !is_key && item[1..].iter().any(|word| ["primary", "unique", "references"].contains(&&**word)) {
            breaches.push(format!("{table}: the key of {} alone does not begin with shard_key", item[0]));
        }
    }
    let column = items.iter().find(|item| item[0] == "shard_key");
    if column.is_none_or(|column| !column.ends_with(&["not".to_owned(), "null".to_owned()])) {
        breaches.push(format!("{table}: shard_key has to be NOT NULL, and plain"));
    }
    if !primary {
        breaches.push(format!("{table}: no primary key"));
    }
    breaches
}

/// Where a statement does not say which buckets it touches.
fn breaches_of_statement(sql: &str, hot: &[String]) -> Vec<String> {
    let words = words(sql);
    let mut breaches: Vec<_> = LOCAL
        .iter()
        .filter(|word| sql.to_lowercase().contains(**word))
        .map(|word| format!("{word} is not the same on every machine"))
        .collect();
    // How often each table is named under each alias, and how often its buckets are.
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let mut inserted = Vec::new();
    for at in 1..words.len() {
        if !hot.contains(&words[at]) || !["from", "join", "update", "into", ","].contains(&&*words[at - 1]) {
            continue;
        }
        if words[at - 1] == "into" {
            inserted.push(at);
            continue;
        }
        let alias = if starts(&words[at + 1..], "as") { words[at + 2].clone() } else { String::new() };
        *named.entry(alias).or_default() += 1;
    }
    let filters = filters(&words);
    for (alias, times) in &named {
        if filters.get(alias).copied().unwrap_or_default() < *times {
            breaches.push(format!("`{alias}` is named {times} times, with its buckets fewer times"));
        }
    }
    for at in inserted {
        let values =
            words[at..].iter().position(|word| word == "values").map(|values| in_brackets(&words[at + values..]));
        let routed = match values {
            Some(values) => values[0].starts_with('$'),
            // By a row that is there already, in the same bucket.
            None => !named.is_empty(),
        };
        if in_brackets(&words[at..])[0] != "shard_key" || !routed {
            breaches.push(format!("{} is inserted into without its bucket", words[at]));
        }
    }
    breaches
}

/// How often the buckets of each alias are named: by a list, by one bucket, or by that of another table which names one.
fn filters(words: &[String]) -> BTreeMap<String, usize> {
    let mut filters: BTreeMap<String, usize> = BTreeMap::new();
    let mut equal = Vec::new();
    for at in (0..words.len()).filter(|at| words[*at] == "shard_key") {
        let alias = |at: usize| if at > 1 && words[at - 1] == "." { words[at - 2].clone() } else { String::new() };
        let after = &words[at + 1..];
        if starts(after, "= any (") && after[3].starts_with('$') || starts(after, "=") && after[1].starts_with('$') {
            *filters.entry(alias(at)).or_default() += 1;
        } else if after.len() > 3 && starts(after, "=") && starts(&after[2..], ". shard_key") {
            equal.push((alias(at), after[1].clone()));
        }
    }
    for (alias, other) in equal {
        // A single bucket is passed on by equality; a list is not.
        let single = words
            .windows(5)
            .any(|five| five[0] == other && starts(&five[1..], ". shard_key =") && five[4].starts_with('$'));
        if single {
            *filters.entry(alias).or_default() += 1;
        }
    }
    filters
}

fn schema(engine: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(engine);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("there are migrations").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).expect("it is text")).collect::<Vec<_>>().join(";\n")
}

#[test]
fn every_key_of_a_growing_table_begins_with_its_bucket() {
    for engine in ["postgres", "sqlite"] {
        let schema = schema(engine);
        assert!(hot_tables(&schema).len() >= 7, "{engine}");
        assert_eq!(breaches_of_schema(&schema), [] as [String; 0], "{engine}");
    }
}

#[test]
fn both_engines_have_the_same_tables() {
    assert_eq!(tables(&schema("postgres")), tables(&schema("sqlite")));
}

#[test]
fn every_statement_on_a_growing_table_names_its_buckets() {
    let hot = hot_tables(&schema("postgres"));
    let mut excused = Vec::new();
    let mut breaches = Vec::new();
    for statement in statements_of(Driver::Postgres) {
        for breach in breaches_of_statement(&statement.sql, &hot) {
            match CROSS_SHARD.iter().find(|(name, _)| *name == statement.name) {
                Some((name, _)) => excused.push(*name),
                None => breaches.push(format!("{}: {breach}", statement.place)),
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    for (name, _) in CROSS_SHARD {
        assert!(excused.contains(&name), "{name} is on the list of exceptions and needs none");
    }
}

#[test]
fn a_schema_that_breaks_a_rule_is_found() {
    let table = |body: &str| format!("CREATE TABLE holds ({body});");
    let good = "shard_key int NOT NULL, id uuid NOT NULL, PRIMARY KEY (shard_key, id)";
    assert_eq!(breaches_of_schema(&table(good)), [] as [String; 0]);
    for wrong in [
        table("shard_key int NOT NULL, id uuid NOT NULL, PRIMARY KEY (id, shard_key)"),
        table("shard_key int NOT NULL, id uuid NOT NULL PRIMARY KEY"),
        table("shard_key int NOT NULL, id uuid NOT NULL"),
        table("shard_key int, id uuid NOT NULL, PRIMARY KEY (shard_key, id)"),
        table(&format!("{good}, CONSTRAINT once UNIQUE (id)")),
        table(&format!("{good}, CHECK (id <> ''), FOREIGN KEY (id) REFERENCES customers (id)")),
        table(&format!("{good}, owner uuid REFERENCES customers")),
        table(&format!("{good}, number int GENERATED ALWAYS AS IDENTITY")),
        table(&format!("{good}, FOREIGN KEY (shard_key, id) REFERENCES customers (shard_key, id) ON DELETE SET NULL")),
        format!("{} CREATE UNIQUE INDEX once ON holds (id) WHERE true;", table(good)),
        format!("{} ALTER TABLE holds ADD CONSTRAINT once UNIQUE (id);", table(good)),
        format!("{} CREATE TRIGGER changed BEFORE UPDATE ON holds;", table(good)),
        "CREATE TABLE sessions (id uuid PRIMARY KEY);".to_owned(),
    ] {
        assert!(!breaches_of_schema(&wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn a_statement_that_asks_every_machine_is_found() {
    let hot = ["customers".to_owned(), "holds".to_owned()];
    for good in [
        "SELECT 1 FROM api_keys",
        "SELECT state FROM holds WHERE shard_key = $1 AND id = $2",
        "SELECT 1 FROM holds AS h JOIN customers AS c ON c.shard_key = h.shard_key WHERE h.shard_key = $1",
        "UPDATE customers AS c SET state = t.state FROM t WHERE c.shard_key = ANY($1) AND c.shard_key = t.shard_key",
        "INSERT INTO holds (shard_key, id) VALUES ($1, $2) ON CONFLICT (shard_key, id) DO UPDATE SET state = 'open'",
        "INSERT INTO holds (shard_key, id) SELECT c.shard_key, t.id FROM t JOIN customers AS c ON c.shard_key = ANY($2)",
        "SELECT 1 FROM holds WHERE shard_key = $1 UNION ALL SELECT 2 FROM holds WHERE shard_key = $1",
    ] {
        assert_eq!(breaches_of_statement(good, &hot), [] as [String; 0], "{good}");
    }
    for wrong in [
        "SELECT state FROM holds WHERE id = $2",
        "SELECT 1 FROM holds AS h, customers AS c WHERE h.shard_key = $1",
        // A list is not passed on by a join.
        "SELECT 1 FROM holds AS h JOIN customers AS c ON c.shard_key = h.shard_key WHERE h.shard_key = ANY($1)",
        "UPDATE customers AS c SET state = t.state FROM t WHERE c.shard_key = t.shard_key",
        "DELETE FROM holds WHERE changed_at < $1",
        "INSERT INTO holds (id, shard_key) VALUES ($1, $2)",
        "INSERT INTO holds (shard_key, id) SELECT t.shard_key, t.id FROM t",
        "SELECT 1 FROM holds WHERE shard_key = $1 UNION ALL SELECT 2 FROM holds",
        "UPDATE holds SET id = gen_random_uuid() WHERE shard_key = $1",
        "SELECT pg_advisory_xact_lock($1)",
    ] {
        assert!(!breaches_of_statement(wrong, &hot).is_empty(), "{wrong}");
    }
}
