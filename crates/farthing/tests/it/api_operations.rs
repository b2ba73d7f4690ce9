//! What operators and new users look at: the OpenAPI document and the page that shows it, health, metrics, request ids, and
//! a server that stops without dropping what it has accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::databases::Database;
use crate::harness::{TestApp, on_both, text};

/// Every operation of a document: method, path, and what it says.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            operations.push((method.to_uppercase(), path.clone(), operation));
        }
    }
    operations
}

#[tokio::test]
async fn every_operation_is_described() {
    let app = TestApp::start(Database::sqlite().await).await;
    let document = app.request("GET", "/openapi.json").anonymous().send().await.is(200);
    assert_eq!(document["openapi"], "3.1.0");
    let lines: Vec<String> =
        operations(&document).iter().map(|(method, path, said)| line(method, path, said)).collect();
    insta::assert_snapshot!(lines.join("\n"));

    let mut ids = BTreeSet::new();
    for (_, path, operation) in operations(&document) {
        assert!(ids.insert(text(operation, "operationId")), "{operation}");
        assert!(!text(operation, "summary").is_empty(), "{operation}");
        assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{path}");
        let responses = operation["responses"].as_object().unwrap().values();
        assert!(responses.into_iter().all(|response| !text(response, "description").is_empty()), "{operation}");
    }
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// An operation in one line: its id, its parameters, and what it answers.
fn line(method: &str, path: &str, operation: &Value) -> String {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters: Vec<_> =
        parameters.filter(|parameter| parameter["in"] != "path").map(|parameter| text(parameter, "name")).collect();
    let responses: BTreeSet<&str> =
        operation["responses"].as_object().into_iter().flatten().map(|(status, _)| &**status).collect();
    let responses: Vec<_> = responses.into_iter().collect();
    let id = text(operation, "operationId");
    format!("{id}: {method} {path} [{}] {}", parameters.join(", "), responses.join(" "))
}

/// Every `$ref` in it.
fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => {
            let own = members.get("$ref").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(references)).collect()
        }
        Value::Array(elements) => elements.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn the_document_has_the_routes_that_there_are_and_no_others() {
    let app = TestApp::start(Database::sqlite().await).await;
    let document = app.get("/openapi.json").await.is(200);
    let described: BTreeSet<(String, String)> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    for path in document["paths"].as_object().unwrap().keys() {
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let concrete = path.replace(['{', '}'], "");
            let answer = app.request(method, &concrete).send().await;
            let taken =
                !["method_not_allowed", "unknown_route"].contains(&answer.json()["code"].as_str().unwrap_or_default());
            assert_eq!(taken, described.contains(&(method.to_owned(), path.clone())), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_page_that_shows_it_fetches_nothing_from_outside() {
    let app = TestApp::start(Database::sqlite().await).await;
    let get = async |path: &str| app.request("GET", path).anonymous().send().await;
    let moved = get("/docs").await;
    assert_eq!((moved.status, moved.header("location")), (303, Some("/docs/")));
    let page = get("/docs/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));

    let html = page.text();
    let assets: Vec<&str> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(assets.len() > 3, "{html}");
    for asset in assets {
        assert!(!asset.contains("//"), "{asset}");
        assert_eq!(get(&format!("/docs/{}", asset.trim_start_matches("./"))).await.status, 200, "{asset}");
    }
    let start = get("/docs/swagger-initializer.js").await.text();
    assert!(start.contains("\"url\": \"/openapi.json\"") && start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert!(!start.contains("http"), "{start}");
    let style = get("/docs/swagger-ui.css").await.text();
    assert!(!style.contains("url(http") && !style.contains("@import"), "the style sheet");
}

#[tokio::test]
async fn health_says_which_database_answers() {
    on_both(async |app| {
        for (path, database) in [("/health", "connected"), ("/health/live", "not asked")] {
            let health = app.request("GET", path).anonymous().send().await.is(200);
            let expected = json!({
                "status": "healthy", "database": database, "engine": app.app.store.name(), "service": "farthing",
                "version": env!("CARGO_PKG_VERSION"), "timestamp": "2026-03-02T09:00:00Z",
            });
            assert_eq!(health, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn metrics_count_and_name_nobody() {
    let app = TestApp::start(Database::sqlite().await).await;
    let metrics = async || app.request("GET", "/metrics").anonymous().send().await;
    // Counted from the first look on.
    assert_eq!(metrics().await.status, 200);
    app.create_with("somebody-in-person", "0.25").await;
    app.charge("somebody-in-person", "minutes", "1").await.is(201);
    app.charge("somebody-in-person", "minutes", "1").await.refused(402, "insufficient_funds");
    app.get("/v1/customers/somebody-in-person/wallet").await.is(200);
    app.get("/v1/somewhere-else").await.refused(404, "unknown_route");

    let metrics = metrics().await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4"));
    let metrics = metrics.text();
    for line in [
        "farthing_charges_total{outcome=\"charged\"} ",
        "farthing_charges_total{outcome=\"insufficient_funds\"} ",
        "route=\"/v1/customers/{customer}/wallet\"",
        "route=\"unknown\",status=\"4xx\"",
        "farthing_batch_commands_count ",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    for name in ["somebody-in-person", "somewhere-else"] {
        assert!(!metrics.contains(name), "{name} in {metrics}");
    }
}

#[tokio::test]
async fn each_answer_has_the_id_of_its_request() {
    let app = TestApp::start(Database::sqlite().await).await;
    for path in ["/health", "/v1/customers/nobody", "/nothing", "/docs/"] {
        let request = || app.request("GET", path);
        let own = request().header("x-request-id", "trace-1:a_b.c").send().await;
        assert_eq!(own.header("x-request-id"), Some("trace-1:a_b.c"), "{path}");
        let mut made = BTreeSet::new();
        for odd in ["", "two words", "a\"b", &"x".repeat(129)] {
            let answer = request().header("x-request-id", odd).send().await;
            let id = answer.header("x-request-id").unwrap_or_default().to_owned();
            assert!(id.len() == 36 && made.insert(id), "{path} {odd}: {made:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_was_accepted_is_answered_while_the_server_stops() {
    on_both(async |app| {
        app.create_with("jane", "1").await;
        let again = app.another().await;
        let body = json!({"customer": "jane", "meter": "minutes", "quantity": 1}).to_string();
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nhost: farthing\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            app.admin_key,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server asks for the body, so it has accepted the request.
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

        let address = app.address;
        let served = app.stop();
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!served.is_finished());
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
        served.await.unwrap().unwrap();
        assert_eq!(again.dollars("jane").await[0], "0.75");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_keep_the_server_from_stopping() {
    let app = TestApp::start(Database::sqlite().await).await;
    let silent = TcpStream::connect(app.address).await.unwrap();
    let mut half = TcpStream::connect(app.address).await.unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\nhost: far").await.unwrap();
    let mut kept = TcpStream::connect(app.address).await.unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nhost: farthing\r\n\r\n").await.unwrap();
    let mut status = [0; 15];
    kept.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");

    let served = app.stop();
    tokio::time::timeout(Duration::from_secs(15), served).await.expect("it stops").unwrap().unwrap();
    drop((silent, half, kept));
}

#[tokio::test]
async fn a_failing_database_is_told_as_such_and_nothing_is_kept_of_it() {
    on_both(async |app| {
        app.create_with("jane", "10").await;
        let minutes = json!({"customer": "jane", "meter": "minutes", "quantity": 1});
        let charge = app.request("POST", "/v1/charges").idempotency_key("k1").json(&minutes);
        let batch = json!({"charges": [minutes, minutes]});
        let batch = app.request("POST", "/v1/charges/batch").idempotency_key("k2").json(&batch);

        app.database.execute("ALTER TABLE customers RENAME TO hidden").await;
        let read = app.request("GET", "/v1/customers/jane/wallet");
        for request in [read.clone(), charge.clone()] {
            let failed = request.send().await;
            failed.refused(503, "store_unavailable");
            assert_eq!(failed.header("retry-after"), Some("1"));
            assert!(!failed.text().contains("hidden") && !failed.text().contains("table"), "{}", failed.text());
        }
        let failed = batch.clone().send().await.is(200);
        assert_eq!([&failed["results"][0]["status"], &failed["results"][1]["status"]], [503, 503]);

        app.database.execute("ALTER TABLE hidden RENAME TO customers").await;
        for (request, status) in [(read, 200), (charge, 201), (batch, 200)] {
            let done = request.send().await;
            assert_eq!((done.is(status), done.replayed()), (done.json(), false));
        }
        assert_eq!(app.dollars("jane").await[0], "9.25");
    })
    .await;
}
