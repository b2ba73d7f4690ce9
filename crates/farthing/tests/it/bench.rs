//! The benchmark from outside: that it measures everything on both databases without a wrong answer, and that it keeps out
//! of books that are in use. How fast anything is, no test says.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::postgres;

const WORKLOADS: [&str; 9] = [
    "no_op",
    "charges",
    "charges_one_customer",
    "checks",
    "checks_one_customer",
    "batches",
    "holds",
    "usual_way",
    "usual_way_one_customer",
];

/// Runs `farthing bench --quick`, on this database where one is named, and writes JSON to a file.
fn bench(directory: &TempDir, database: Option<&str>) -> (Output, Option<Value>) {
    let json = directory.path().join("result.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.args(["bench", "--quick", "--json"]).arg(&json).current_dir(directory).env_remove("FARTHING_DATABASE");
    if let Some(database) = database {
        command.args(["--database", database]);
    }
    let output = command.output().expect("the binary runs");
    let json = std::fs::read(json).ok().map(|json| serde_json::from_slice(&json).expect("the result is JSON"));
    (output, json)
}

/// What holds of every run: each workload has a row for its connections, all answers were right, and the table says as
/// much as the JSON.
fn assert_complete(output: &Output, report: &Value) {
    let table = String::from_utf8_lossy(&output.stdout);
    let shown = format!("{table}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}");
    assert_eq!(report["errors"], 0, "{shown}");
    assert_eq!(report["first_errors"], serde_json::json!([]));
    let rows = report["rows"].as_array().expect("rows");
    let measured: BTreeSet<(&str, u64)> = rows
        .iter()
        .map(|row| (row["workload"].as_str().expect("a workload"), row["connections"].as_u64().expect("connections")))
        .collect();
    let expected = WORKLOADS.iter().flat_map(|workload| match *workload {
        "batches" | "holds" => vec![(*workload, 16)],
        workload => vec![(workload, 1), (workload, 16)],
    });
    assert_eq!(measured, expected.collect::<BTreeSet<_>>());
    for row in rows {
        assert!(table.contains(row["title"].as_str().expect("a title")), "{row} is not in\n{table}");
    }
    let goals = report["goals"].as_array().expect("goals");
    assert_eq!(goals.len(), 8);
    for goal in goals {
        assert!(table.contains(goal["name"].as_str().expect("a name")), "{goal} is not in\n{table}");
        assert_eq!(goal["met"].is_null(), goal["figure"].is_null(), "{goal}");
    }
    assert!(report["charges"].as_u64() > Some(100), "{report}");
    assert!(report["memory"]["resident_kilobytes"].as_u64() > Some(1_000), "{report}");
}

fn is_measured(row: &Value) -> bool {
    let rate = row["per_second"].as_u64();
    rate > Some(0) && row["p99_microseconds"].as_u64() >= row["p50_microseconds"].as_u64()
}

#[test]
fn everything_but_the_usual_way_is_measured_on_sqlite_in_a_file_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let (output, report) = bench(&directory, None);
    let report = report.expect("a result");
    assert_complete(&output, &report);
    assert_eq!(report["database"], "SQLite");
    for row in report["rows"].as_array().expect("rows") {
        if row["workload"].as_str().is_some_and(|workload| workload.starts_with("usual_way")) {
            assert_eq!(row["not_measured"], "needs PostgreSQL");
            assert!(row["per_second"].is_null());
        } else {
            assert!(is_measured(row), "{row}");
        }
    }
    assert!(!directory.path().join("farthing.db").exists(), "the usual database is left alone");
}

#[tokio::test]
async fn everything_is_measured_on_postgresql_and_never_in_books_that_are_in_use() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = postgres::shared().create_database().await;
    let (output, report) = bench(&directory, Some(&url));
    let report = report.expect("a result");
    assert_complete(&output, &report);
    assert_eq!(report["database"], "PostgreSQL");
    assert_eq!(report["settings"]["synchronous_commit"], "on");
    for row in report["rows"].as_array().expect("rows") {
        assert!(is_measured(row), "{row}");
    }
    assert!(report["goals"].as_array().expect("goals").iter().all(|goal| !goal["met"].is_null()), "{report}");

    // It has customers now.
    let fresh = tempfile::tempdir().expect("a directory");
    let (output, report) = bench(&fresh, Some(&url));
    assert_eq!(output.status.code(), Some(1));
    assert!(report.is_none());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("the database has customers already"), "{message}");
}

#[tokio::test]
async fn an_invoice_run_is_measured_on_both_databases() {
    let directory = tempfile::tempdir().expect("a directory");
    let postgres = postgres::shared().create_database().await;
    for (database, more) in [(None, None), (Some(postgres), Some("--collect"))] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
        command.args(["bench", "invoices", "--customers", "20,60", "--json", "-"]).args(more);
        command.args(database.iter().flat_map(|database| ["--database", database]));
        let output = command.current_dir(&directory).env_remove("FARTHING_DATABASE").output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("the result is JSON");
        let rows = report["rows"].as_array().expect("rows");
        let made: Vec<_> = rows.iter().map(|row| (row["customers"].as_u64(), row["invoices"].as_u64())).collect();
        assert_eq!(made, [(Some(20), Some(20)), (Some(60), Some(60))]);
        assert!(rows.iter().all(|row| row["per_second"].as_u64() > Some(0)), "{report}");
        assert!(rows.iter().all(|row| row["peak_kilobytes"].as_u64() > Some(1_000)), "{report}");
        assert_eq!((&report["collect"], report["goals"].as_array().map(Vec::len)), (&more.is_some().into(), Some(2)));
        assert!(report["goals"][0]["figure"].is_string(), "{report}");
        // It has customers now, in a database that is not its own.
        if let Some(database) = &database {
            let again = Command::new(env!("CARGO_BIN_EXE_farthing"))
                .args(["bench", "invoices", "--database", database])
                .output()
                .expect("the binary runs");
            assert!(String::from_utf8_lossy(&again.stderr).contains("the database has customers already"));
        }
    }
}
