//! Who may import whom: one table, and the sources that are held to it, tests inside the crate included. Data flows one
//! way; whoever needs more than the table allows needs another place, or a word with the others.

use std::path::{Path, PathBuf};

use crate::sources::{Token, after_group, tokens};

/// Each module at the top of the crate, and those that it may import besides itself and the engine.
const MAY_IMPORT: [(&str, &[&str]); 29] = [
    ("store", &[]),
    ("outbox", &["store"]),
    ("service", &["store"]),
    ("clock", &[]),
    ("idempotency", &[]),
    ("telemetry", &[]),
    ("tls", &[]),
    ("auth", &["tls"]),
    ("config", &["auth"]),
    ("event", &["config", "idempotency"]),
    ("verify", &["store"]),
    ("analytics", &["store"]),
    ("document", &["config", "store"]),
    ("offer", &["store"]),
    ("app", &["auth", "clock", "config", "document", "idempotency", "offer", "outbox", "service", "store"]),
    ("identity", &["app", "auth", "store"]),
    // Surfaces: they parse a request into a command, and read.
    (
        "api",
        &[
            "analytics",
            "app",
            "auth",
            "clock",
            "config",
            "document",
            "event",
            "idempotency",
            "identity",
            "outbox",
            "service",
            "store",
            "telemetry",
        ],
    ),
    (
        "dialects",
        &[
            "app",
            "auth",
            "clock",
            "config",
            "event",
            "idempotency",
            "identity",
            "inbound",
            "outbox",
            "service",
            "store",
            "telemetry",
        ],
    ),
    (
        "web",
        &[
            "app",
            "auth",
            "clock",
            "config",
            "document",
            "event",
            "idempotency",
            "identity",
            "outbox",
            "service",
            "store",
            "telemetry",
        ],
    ),
    ("server", &["api", "app", "auth", "config", "dialects", "inbound", "jobs", "telemetry", "tls", "web"]),
    // The outside world.
    ("provider", &["auth", "clock", "telemetry", "tls"]),
    ("notify", &["clock", "config", "store", "telemetry", "tls"]),
    ("inbound", &["app", "clock", "outbox", "provider", "store", "telemetry"]),
    ("jobs", &["app", "clock", "config", "notify", "outbox", "provider", "service", "store", "telemetry"]),
    ("connection", &["app", "auth", "config", "jobs", "provider"]),
    // What a person starts.
    ("bench", &["app", "auth", "clock", "config", "jobs", "server", "service", "store", "telemetry", "tls", "verify"]),
    (
        "demo",
        &["app", "auth", "clock", "config", "connection", "server", "service", "store", "telemetry", "tls", "verify"],
    ),
    (
        "cli",
        &[
            "analytics",
            "api",
            "app",
            "auth",
            "bench",
            "clock",
            "config",
            "connection",
            "demo",
            "event",
            "idempotency",
            "inbound",
            "jobs",
            "notify",
            "offer",
            "provider",
            "server",
            "service",
            "store",
            "telemetry",
            "tls",
            "verify",
        ],
    ),
    ("main", &["cli"]),
];

/// What a crate may do without that is called pure: no clock, no input or output, no threads.
const IMPURE: [&str; 9] = ["now", "Instant", "SystemTime", "fs", "net", "env", "thread", "process", "async"];

fn allowed(module: &str) -> Option<&'static [&'static str]> {
    MAY_IMPORT.iter().find(|(name, _)| *name == module).map(|(_, allowed)| *allowed)
}

fn sources_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The path of the module that a file below `src` holds; none for `lib.rs`, which names all and uses none.
fn module_of(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod" || last == "lib") {
        path.pop();
    }
    path
}

/// The modules at the top of the crate that a source imports, each with the line. `module` is its own path.
fn imports(module: &[String], source: &str) -> Vec<(usize, String)> {
    let tokens = tokens(source);
    let mut imports = Vec::new();
    // Where the modules end that are written out inside the file.
    let mut inner: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        inner.retain(|end| at < *end);
        let word = tokens[at].1.word().unwrap_or("");
        if word == "mod" && tokens.get(at + 2).is_some_and(|(_, token)| *token == Token::Mark('{')) {
            inner.push(after_group(&tokens, at + 2));
        }
        let mut next = at + 1;
        let mut above = module.len() + inner.len();
        if ["crate", "farthing"].contains(&word) {
            above = 0;
        } else if word == "super" {
            above = above.saturating_sub(1);
            while is_path(&tokens, next) && tokens.get(next + 2).is_some_and(|(_, token)| token.word() == Some("super"))
            {
                above = above.saturating_sub(1);
                next += 3;
            }
        } else {
            at = next;
            continue;
        }
        if above == 0 && is_path(&tokens, next) {
            imports.extend(names(&tokens, next + 2));
        }
        at = next;
    }
    imports
}

/// Whether `::` stands there.
fn is_path(tokens: &[(usize, Token)], at: usize) -> bool {
    tokens.len() > at + 2 && tokens[at].1 == Token::Mark(':') && tokens[at + 1].1 == Token::Mark(':')
}

/// The name that stands there, or the first name of each path in a group.
fn names(tokens: &[(usize, Token)], at: usize) -> Vec<(usize, String)> {
    if tokens[at].1 != Token::Mark('{') {
        return tokens[at].1.word().map(|word| (tokens[at].0, word.to_owned())).into_iter().collect();
    }
    let mut names = Vec::new();
    let mut next = at + 1;
    let end = after_group(tokens, at);
    let mut begins = true;
    while next + 1 < end {
        match &tokens[next].1 {
            Token::Mark('{') => {
                next = after_group(tokens, next);
                continue;
            }
            Token::Mark(',') => begins = true,
            Token::Word(word) if begins => {
                names.push((tokens[next].0, word.clone()));
                begins = false;
            }
            _ => {}
        }
        next += 1;
    }
    names
}

/// Where a file imports what its module may not.
fn breaches(file: &str, source: &str) -> Vec<String> {
    let module = module_of(Path::new(file));
    let Some(top) = module.first() else { return Vec::new() };
    let Some(may) = allowed(top) else { return vec![format!("{file}:1 {top} is not in the table")] };
    imports(&module, source)
        .into_iter()
        .filter(|(_, name)| name != top && allowed(name).is_some() && !may.contains(&&**name))
        .map(|(line, name)| format!("{file}:{line} {top} -> {name}"))
        .collect()
}

#[test]
fn every_module_imports_only_what_it_may() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in sources_below(&folder) {
        let file = path.strip_prefix(&folder).expect("it lies below").to_str().expect("a plain name").to_owned();
        found.extend(breaches(&file, &std::fs::read_to_string(&path).expect("it is text")));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_table_keeps_the_order_of_the_layers() {
    for (module, may) in MAY_IMPORT {
        for other in may {
            assert!(allowed(other).is_some(), "{module} -> {other}: there is no {other} in the table");
            assert!(!allowed(other).unwrap().contains(&module), "{module} and {other} import each other");
        }
        assert!(module == "main" || !may.contains(&"cli"), "nobody imports cli: {module}");
    }
    for surface in ["api", "dialects", "web"] {
        let may = allowed(surface).unwrap();
        for other in ["api", "dialects", "web", "provider", "jobs"] {
            assert!(!may.contains(&other), "{surface} -> {other}");
        }
    }
    assert_eq!(allowed("store"), Some(&[] as &[&str]), "the store knows the engine and nothing else");
    assert_eq!(allowed("service"), Some(&["store"] as &[&str]));
}

#[test]
fn an_import_that_breaks_a_layer_is_found() {
    for (file, source, expected) in [
        ("store/rows.rs", "use std::fmt;\nuse crate::service::Service;", vec!["store/rows.rs:2 store -> service"]),
        ("store/rows.rs", "fn f() { crate::api::page::Page::new() }", vec!["store/rows.rs:1 store -> api"]),
        (
            "api/v1/charges.rs",
            "use super::super::super::provider::Payment;",
            vec!["api/v1/charges.rs:1 api -> provider"],
        ),
        ("api/v1/charges.rs", "use super::super::body::Text; use super::provider;", vec![]),
        (
            "api/mod.rs",
            "#[cfg(test)] mod tests { use super::*; use super::super::web; }",
            vec!["api/mod.rs:1 api -> web"],
        ),
        ("api/mod.rs", "use super::web;", vec!["api/mod.rs:1 api -> web"]),
        (
            "service/mod.rs",
            "use crate::{\n    clock::{Clock, cli},\n    store,\n    cli as line,\n};",
            vec!["service/mod.rs:2 service -> clock", "service/mod.rs:4 service -> cli"],
        ),
        (
            "service/mod.rs",
            "//! crate::cli\nconst TEXT: &str = \"crate::cli\"; use crate::store; use engine::id;",
            vec![],
        ),
        ("invoices.rs", "", vec!["invoices.rs:1 invoices is not in the table"]),
        ("main.rs", "use farthing::store::Store;", vec!["main.rs:1 main -> store"]),
        ("lib.rs", "pub mod cli; pub use crate::cli::run;", vec![]),
    ] {
        assert_eq!(breaches(file, source), expected, "{file}: {source}");
    }
}

#[test]
fn the_engine_is_pure_and_depends_on_nothing_of_ours() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies: Vec<_> = manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(dependencies, ["iso_currency", "jiff", "rust_decimal", "serde", "thiserror", "uuid"]);
    assert!(!manifest.contains_key("build-dependencies") && !manifest.contains_key("target"));
    let mut found = Vec::new();
    for path in sources_below(&folder.join("src")) {
        found.extend(impurities(path.to_str().unwrap(), &std::fs::read_to_string(&path).unwrap()));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Where a source reaches for the world: a forbidden name in a path (`Timestamp::now`, `std::fs`), or as a keyword.
fn impurities(file: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        let in_path = (at >= 2 && is_path(&tokens, at - 2)) || is_path(&tokens, at + 1);
        let forbidden = IMPURE.contains(&word) && (in_path || word == "async");
        if forbidden || ["farthing", "tokio", "sqlx"].contains(&word) {
            found.push(format!("{file}:{line} {word}"));
        }
    }
    found
}

#[test]
fn an_engine_that_looks_at_the_clock_is_found() {
    for wrong in
        ["let now = Timestamp::now();", "use std::time::Instant;", "std::fs::read(path)", "pub async fn decide() {}"]
    {
        assert_eq!(impurities("decide.rs", wrong).len(), 1, "{wrong}");
    }
    // The time that is handed in is called so.
    assert_eq!(impurities("decide.rs", "fn decide(now: Timestamp) { f(now) } // Timestamp::now"), [] as [String; 0]);
}
