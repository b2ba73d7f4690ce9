//! The store's SQL statements, read out of its sources as each driver compiles them: `queries.rs` with the macros that the
//! driver's file gives it, and the statements of that file itself. So the rules that statements have to keep are checked
//! on every statement there is, and on new ones as they come.
//!
//! It understands as much of Rust as these files use: text literals, `concat!`, and macros with one arm that make texts,
//! of which the last parameter may be repeated.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::sources::{Token, after_group, tokens};

/// A statement of the store.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// `queries.rs:12 find_priors`
    pub(crate) place: String,
    /// The function or constant that holds it.
    pub(crate) name: String,
    pub(crate) sql: String,
}

/// The file of a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driver {
    Sqlite,
    Postgres,
}

/// Every statement that the store runs with this driver.
pub(crate) fn statements_of(driver: Driver) -> Vec<Statement> {
    let folder = source_folder();
    let driver = if driver == Driver::Sqlite { "sqlite.rs" } else { "postgres.rs" };
    let files = [
        driver,
        "queries.rs",
        "batch_queries.rs",
        "payment_queries.rs",
        "billing_queries.rs",
        "billing_batch_queries.rs",
        "notice_queries.rs",
        "offer_queries.rs",
        "analytics_queries.rs",
    ];
    let sources =
        files.map(|file| (file, std::fs::read_to_string(folder.join(file)).expect("the store has this file")));
    read(&sources.each_ref().map(|(file, source)| (*file, source.as_str())))
}

/// The statements of these files, by name and source, with the macros of all of them.
pub(crate) fn read(files: &[(&str, &str)]) -> Vec<Statement> {
    let files: Vec<_> = files.iter().map(|(file, source)| (*file, tokens(source))).collect();
    let macros: HashMap<_, _> = files.iter().flat_map(|(_, tokens)| macros_of(tokens)).collect();
    let mut statements = Vec::new();
    for (file, tokens) in &files {
        let (mut name, mut at) = (String::new(), 0);
        while at < tokens.len() {
            match &tokens[at].1 {
                Token::Word(word) if word == "macro_rules" => {
                    at = after_group(tokens, at + 3);
                    continue;
                }
                Token::Word(word) if ["fn", "const"].contains(&&**word) => {
                    if let Some((_, Token::Word(next))) = tokens.get(at + 1) {
                        name.clone_from(next);
                    }
                }
                _ => {}
            }
            let Some((sql, next)) = text_at(tokens, at, &macros, &HashMap::new()) else {
                at += 1;
                continue;
            };
            if ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&sql.split_whitespace().next().unwrap_or("")) {
                statements.push(Statement {
                    place: format!("{file}:{} {name}", tokens[at].0),
                    name: name.clone(),
                    sql,
                });
            }
            at = next;
        }
    }
    statements
}

/// The settings of the batch writer's connections to PostgreSQL, as `SET` statements.
pub(crate) fn writer_settings() -> String {
    let source = std::fs::read_to_string(source_folder().join("postgres.rs")).expect("the store has this file");
    let tokens = tokens(&source);
    let role = tokens.iter().position(|(_, token)| *token == Token::Text("role".to_owned())).expect("it has a role");
    let end = tokens[role..].iter().position(|(_, token)| *token == Token::Mark(']')).expect("the list ends");
    let texts: Vec<_> = tokens[role..role + end]
        .iter()
        .filter_map(|(_, token)| if let Token::Text(text) = token { Some(text) } else { None })
        .collect();
    texts.chunks(2).map(|pair| format!("SET {} = {};", pair[0], pair[1])).collect()
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")
}

/// A macro that makes a text: the names of its parameters, and its body.
type Macro = (Vec<String>, Vec<(usize, Token)>);

fn macros_of(tokens: &[(usize, Token)]) -> Vec<(String, Macro)> {
    let mut macros = Vec::new();
    for (at, (_, token)) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let Some((_, Token::Word(name))) = tokens.get(at + 2) else { continue };
        if word != "macro_rules" {
            continue;
        }
        // macro_rules ! name { ( $a : literal , ... ) => { body } }
        let body = after_group(tokens, at + 4) + 2;
        let parameters = tokens[at + 4..body].iter().zip(&tokens[at + 5..]).filter_map(|pair| match pair {
            ((_, Token::Mark('$')), (_, Token::Word(name))) => Some(name.clone()),
            _ => None,
        });
        macros.push((name.clone(), (parameters.collect(), tokens[body + 1..after_group(tokens, body) - 1].to_vec())));
    }
    macros
}

/// The text that is written at `at`, and the position after it.
fn text_at(
    tokens: &[(usize, Token)],
    at: usize,
    macros: &HashMap<String, Macro>,
    arguments: &HashMap<String, String>,
) -> Option<(String, usize)> {
    match (&tokens.get(at)?.1, tokens.get(at + 1).map(|(_, token)| token)) {
        (Token::Text(text), _) => Some((text.clone(), at + 1)),
        (Token::Mark('$'), Some(Token::Word(name))) => Some((arguments.get(name)?.clone(), at + 2)),
        // $( $name ),+
        (Token::Mark('$'), Some(Token::Mark('('))) => {
            let (text, _) = text_at(tokens, at + 2, macros, arguments)?;
            Some((text, after_group(tokens, at + 1) + 2))
        }
        (Token::Word(name), Some(Token::Mark('!'))) => {
            let end = after_group(tokens, at + 2);
            let mut texts = Vec::new();
            let mut next = at + 3;
            while next < end - 1 {
                match text_at(tokens, next, macros, arguments) {
                    Some((text, after)) => {
                        texts.push(text);
                        next = after;
                    }
                    None if tokens[next].1 == Token::Mark(',') => next += 1,
                    None => return None,
                }
            }
            if name == "concat" {
                return Some((texts.concat(), end));
            }
            let (parameters, body) = macros.get(name)?;
            let mut arguments: HashMap<_, _> = parameters.iter().cloned().zip(texts.iter().cloned()).collect();
            if let Some(last) = parameters.last() {
                arguments.insert(last.clone(), texts[parameters.len() - 1..].concat());
            }
            Some((text_at(body, 0, macros, &arguments)?.0, end))
        }
        _ => None,
    }
}

#[test]
fn statements_are_read_as_the_compiler_makes_them() {
    let driver = r#"
        //! "SELECT in a comment"
        macro_rules! in_buckets {
            ($column:literal, $parameter:literal) => {
                concat!($column, " = ANY($", $parameter, ")")
            };
        }
        const fn quote<'a>(_: &'a str) -> char { '"' }
        pub(super) const LOAD: &str = "
            SELECT 1 FROM customers";
    "#;
    let queries = r#"
        macro_rules! columns { () => { "c.id, c.state" }; }
        macro_rules! for_each {
            ($table:literal, $($condition:expr),+) => { concat!(" CROSS JOIN ", $table, " ON ", $($condition),+, ";") };
        }
        async fn lock() {
            let message = "not a statement";
            sqlx::query(concat!("SELECT ", columns!(), " FROM customers AS c WHERE ", in_buckets!("c.shard_key", "2")));
            sqlx::query(concat!("SELECT 1", for_each!("holds", in_buckets!("shard_key", "2"), " AND id = ", "$1")));
            for statement in ["DELETE FROM holds", "UPDATE holds SET state = \"a\" \
                               WHERE true"] {}
        }
    "#;
    let read = read(&[("driver.rs", driver), ("queries.rs", queries)]);
    let read: Vec<_> = read.iter().map(|statement| (&*statement.place, statement.sql.trim())).collect();
    let expected = [
        ("driver.rs:9 LOAD", "SELECT 1 FROM customers"),
        ("queries.rs:8 lock", "SELECT c.id, c.state FROM customers AS c WHERE c.shard_key = ANY($2)"),
        ("queries.rs:9 lock", "SELECT 1 CROSS JOIN holds ON shard_key = ANY($2) AND id = $1;"),
        ("queries.rs:10 lock", "DELETE FROM holds"),
        ("queries.rs:10 lock", "UPDATE holds SET state = \"a\" WHERE true"),
    ];
    assert_eq!(read, expected);
}

#[test]
fn every_statement_of_the_store_is_found() {
    for driver in [Driver::Sqlite, Driver::Postgres] {
        let statements = statements_of(driver);
        let names = ["LOAD", "LOCK", "HOT", "WRITE_CUSTOMERS", "find_priors", "usage", "erase"];
        let counts = match driver {
            Driver::Sqlite => [1, 1, 0, 1, 2, 1, 7],
            Driver::Postgres => [1, 1, 1, 0, 2, 1, 7],
        };
        for (name, expected) in names.into_iter().zip(counts) {
            let count = statements.iter().filter(|statement| statement.name == name).count();
            assert_eq!(count, expected, "{name} on {driver:?}");
        }
    }
}
