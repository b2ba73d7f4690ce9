//! `farthing import events`: a trace is charged to the micro, once, however the import was interrupted; columns find their
//! meaning; bad lines are told by number.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use serde_json::json;

use crate::cli_program::{Ended, Program, shared_data, wait};
use crate::databases::{Database, on_both};

/// An hour of requests to a code assistant; at 3 and 15 dollars per million tokens it comes to `TRACE_DOLLARS`.
const TRACE: &str = "llm-trace-code.csv";
const TRACE_LINES: i64 = 8_819;
const TRACE_DOLLARS: &str = "57.868362";

/// What all charges come to: how many there are, of how many events, and their amount in dollars.
async fn charged(database: &Database) -> (String, String, String) {
    let all = "SELECT CAST(COUNT(*) AS TEXT) FROM charges";
    let events = "SELECT CAST(COUNT(DISTINCT operation_key) AS TEXT) FROM charges";
    let micros = "SELECT CAST(COALESCE(SUM(amount), 0) AS TEXT) FROM charges";
    let mut found = Vec::new();
    for query in [all, events, micros] {
        found.extend(database.texts(query).await);
    }
    let micros: i64 = found[2].parse().expect("a sum of micros");
    (found[0].clone(), found[1].clone(), engine::Micros::new(micros).to_string())
}

#[track_caller]
fn assert_trace(charged: (String, String, String)) {
    assert_eq!(charged, ("17638".to_owned(), "8819".to_owned(), TRACE_DOLLARS.to_owned()));
}

#[tokio::test]
async fn a_trace_is_charged_to_the_micro_and_once() {
    on_both(async |database| {
        let program = Program::on(database.address());
        let trace = shared_data(TRACE);
        let first = program.run(&["import", "events", &trace]);
        first.assert_code(0);
        assert_eq!(first.value("lines read"), Some("8,819"));
        assert_eq!(first.value("charges made"), Some("17,638"));
        assert_eq!(first.value("charged"), Some("57.868362 USD"));
        assert_trace(charged(&database).await);

        let again = program.run(&["import", "events", &trace]);
        again.assert_code(0);
        assert_eq!((again.value("imported before"), again.value("charges made")), (Some("8,819"), Some("0")));
        let from_start = program.run(&["import", "events", "--from-start", &trace]);
        from_start.assert_code(0);
        assert_eq!((from_start.value("already there"), from_start.value("charges made")), (Some("17,638"), Some("0")));
        assert_trace(charged(&database).await);
        program.run(&["verify"]).assert_code(0);
    })
    .await;
}

/// How many lines of an import are noted as done.
async fn noted(database: &Database) -> i64 {
    let lines = database.texts("SELECT CAST(lines AS TEXT) FROM imports").await;
    lines.first().map_or(0, |lines| lines.parse().expect("a count of lines"))
}

/// Starts an import of the trace on a fresh database, and sends it a signal once a part is done. The database, the program
/// and how it ended.
async fn interrupted(fresh: Database, signal: &str) -> (Database, Program, Ended) {
    let mut database = fresh;
    // Now and then a quick machine is done before the signal comes.
    for _ in 0..20 {
        let program = Program::on(database.address());
        let mut child = program.start(&["import", "events", &shared_data(TRACE)]);
        while noted(&database).await == 0 {
            assert!(child.try_wait().expect("it was started here").is_none(), "it ended before it imported anything");
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill runs").success());
        let ended = wait(child);
        if noted(&database).await < TRACE_LINES {
            return (database, program, ended);
        }
        database = database.another().await;
    }
    panic!("the import was always done before the signal came: take a longer trace");
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_where_it_was() {
    on_both(async |database| {
        let (database, program, killed) = interrupted(database, "-KILL").await;
        assert_eq!(killed.code, None);
        let resumed = program.run(&["import", "events", &shared_data(TRACE)]);
        resumed.assert_code(0);
        assert!(resumed.value("imported before").is_some(), "{}", resumed.out);
        assert_eq!(resumed.value("lines read"), Some("8,819"));
        assert_trace(charged(&database).await);
        program.run(&["verify"]).assert_code(0);
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_stops_after_the_lines_at_hand() {
    on_both(async |database| {
        let (database, program, stopped) = interrupted(database, "-INT").await;
        stopped.assert_code(1);
        assert!(stopped.err.contains("stopped; run the same command again to go on"), "{}", stopped.err);
        // What is noted is what is there, to the line.
        let lines = noted(&database).await;
        assert_eq!(charged(&database).await.1, lines.to_string());
        program.run(&["import", "events", &shared_data(TRACE)]).assert_code(0);
        assert_trace(charged(&database).await);
    })
    .await;
}

/// The recount of a working server's books finds nothing, because it sums each ledger up to where its customer stands.
#[tokio::test]
async fn a_recount_beside_an_import_finds_no_difference() {
    on_both(async |database| {
        let program = Program::on(database.address());
        let mut child = program.start(&["import", "events", &shared_data(TRACE)]);
        let mut recounts = 0;
        while child.try_wait().unwrap().is_none() {
            let mut found = Vec::new();
            farthing::verify::recount(&*database.store, &mut |difference| found.push(difference)).await.unwrap();
            assert_eq!(found, []);
            recounts += 1;
        }
        assert_eq!(child.wait().unwrap().into_raw(), 0);
        assert!(recounts > 1);
        assert_trace(charged(&database).await);
    })
    .await;
}

/// A tenant that sells calls at a cent and minutes at a quarter, for large models dearer.
const SHOP: &str = r#"
[tenant]
name = "shop"
currency = "EUR"

[[meters]]
name = "calls"
event_type = "shop.call"
count = true
dimensions = ["model"]

[[meters]]
name = "minutes"
event_type = "shop.call"
property = "duration"

[[prices]]
meter = "calls"
model = "per_unit"
amount = "0.01"

[[prices]]
meter = "calls"
match = { model = "large" }
model = "per_unit"
amount = "0.05"

[[prices]]
meter = "minutes"
model = "per_unit"
amount = "0.25"
"#;

/// The program on a database, with the shop as its tenant.
fn shop(database: &Database) -> Program {
    let program = Program::on(database.address());
    program.file("farthing.toml", SHOP);
    program
}

/// Each charge: customer, subject, meter, quantity, dimensions, amount and time, in micros.
async fn charges(database: &Database) -> Vec<String> {
    database
        .texts(
            "SELECT k.external_id || ' ' || COALESCE(c.subject, '-') || ' ' || c.meter || ' ' || c.quantity || ' '
                 || COALESCE(c.dimensions, '-') || ' ' || c.amount || ' ' || c.occurred_at
             FROM charges AS c JOIN customers AS k ON k.shard_key = c.shard_key AND k.customer_id = c.customer_id
             ORDER BY c.occurred_at, c.meter, k.external_id",
        )
        .await
}

#[tokio::test]
async fn columns_find_their_meaning_by_name() {
    on_both(async |database| {
        let program = shop(&database);
        program.file(
            "usage.csv",
            "CustomerId,Subject,Time,Calls,Minutes,Model,Note\n\
             jane,phone,2026-01-01T00:00:00Z,2,1.5,large,a\n\
             joan,,2026-01-01 00:00:01.9999999,1,,small,b\n\
             jane,,1767225602,0,0.000001,,c\n",
        );
        let ended = program.run(&["import", "events", "--create-customers", "usage.csv"]);
        ended.assert_code(0);
        let mapping = "usage.csv: customer = CustomerId, time = Time, subject = Subject, dimension:model = Model, \
                       quantity:calls = Calls, quantity:minutes = Minutes; not read: Note\n";
        assert!(ended.err.starts_with(mapping), "{}", ended.err);
        assert_eq!(
            charges(&database).await,
            [
                r#"jane phone calls 2000000 {"model":"large"} 100000 1767225600000000"#,
                "jane phone minutes 1500000 - 375000 1767225600000000",
                r#"joan - calls 1000000 {"model":"small"} 10000 1767225601999999"#,
                // Nothing used is recorded as well, so that the number of requests can be seen.
                "jane - calls 0 - 0 1767225602000000",
                "jane - minutes 1 - 0 1767225602000000",
            ]
        );
        assert_eq!(ended.value("charged"), Some("0.485 EUR"));
    })
    .await;
}

#[tokio::test]
async fn columns_are_named_on_the_command_line() {
    on_both(async |database| {
        let program = shop(&database);
        program.file("usage.txt", "who,what,much,key\njane,calls,3,a\njane,minutes,2,b\njane,calls,3,a\n");
        let import = ["import", "events", "--format", "csv", "--create-customers", "usage.txt"];
        let maps = ["--map", "customer=who", "--map", "meter=what", "--map", "quantity=much", "--map", "id=key"];
        let ended = program.run(&[&import[..], &maps].concat());
        ended.assert_code(0);
        assert_eq!((ended.value("charges made"), ended.value("already there")), (Some("2"), Some("1")));
        assert_eq!(charged(&database).await, ("2".to_owned(), "2".to_owned(), "0.53".to_owned()));

        for (map, problem) in [
            ("customer=nobody", "usage.txt has no such column; it has who, what, much, key"),
            (
                "price=much",
                "the fields are customer, time, id, subject, meter, quantity, quantity:METER, dimension:NAME",
            ),
            ("quantity:tokens=much", "there is no meter `tokens`"),
            ("dimension:region=who", "no meter has a dimension `region`"),
            ("much", "write it as FIELD=COLUMN"),
        ] {
            let refused = program.run(&[&import[..], &["--map", map]].concat());
            assert!(refused.assert_code(2).err.contains(problem), "{map}: {}", refused.err);
        }
        let unmapped = program.run(&import);
        assert!(unmapped.assert_code(2).err.contains("no column of usage.txt is a quantity"), "{}", unmapped.err);
    })
    .await;
}

#[tokio::test]
async fn json_lines_are_events_in_the_short_form_or_cloud_events() {
    on_both(async |database| {
        let program = shop(&database);
        let lines = [
            json!({"customer": "jane", "meter": "calls", "quantity": 1, "time": "2026-01-01T00:00:00Z", "id": "e1",
                   "subject": "phone", "dimensions": {"model": "large"}}),
            json!({"meter": "minutes", "quantity": "0.1", "time": 1_767_225_601}),
            json!({"specversion": "1.0", "id": "e1", "source": "/shop", "type": "shop.call", "subject": "joan",
                   "time": "2026-01-01T00:00:02Z", "data": {"duration": 2.5, "model": "small"}}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n\n")).collect();
        let import = ["import", "events", "--create-customers", "--customer", "jill"];
        program.file("usage.jsonl", &text);
        let ended = program.run(&[&import[..], &["usage.jsonl"]].concat());
        ended.assert_code(0);
        let expected = [
            r#"jane phone calls 1000000 {"model":"large"} 50000 1767225600000000"#,
            "jill - minutes 100000 - 25000 1767225601000000",
            r#"joan - calls 1000000 {"model":"small"} 10000 1767225602000000"#,
            "joan - minutes 2500000 - 625000 1767225602000000",
        ];
        assert_eq!(charges(&database).await, expected);
        // From standard input there is nothing to resume by, and nothing is charged twice all the same.
        let again = program.run_with(&[&import[..], &["--format", "json", "-"]].concat(), &text);
        again.assert_code(0);
        assert_eq!((again.value("charges made"), again.value("already there")), (Some("0"), Some("4")));
        assert_eq!(charges(&database).await, expected);
    })
    .await;
}

const WITH_BAD_LINES: &str = "\
customer,time,calls
jane,2026-01-01T00:00:00Z,1
jane,2026-01-01T00:00:01Z,many
jane,2026-01-01T00:00:02Z,1
jack,2026-01-01T00:00:03Z,1
jane,yesterday,1
jane,2026-01-01T00:00:05Z
jane,2999-01-01T00:00:00Z,1
jane,2026-01-01T00:00:06Z,-1
jane,2026-01-01T00:00:07Z,1
";

#[tokio::test]
async fn the_first_bad_line_stops_an_import_and_mended_it_goes_on() {
    on_both(async |database| {
        let program = shop(&database);
        program.file("customers.csv", "id\njane\n");
        program.run(&["import", "customers", "customers.csv"]).assert_code(0);
        program.file("usage.csv", WITH_BAD_LINES);
        let stopped = program.run(&["import", "events", "usage.csv"]);
        stopped.assert_code(1);
        assert!(
            stopped.err.contains("usage.csv:3: the quantity of `calls` is not a decimal number: `many`\n"),
            "{}",
            stopped.err
        );
        assert!(stopped.err.contains("stopped at line 3; every line before it is imported, 0 of those after it"));
        assert_eq!(charged(&database).await.0, "1");

        program.file("usage.csv", &WITH_BAD_LINES.replace("many", "2"));
        let stopped = program.run(&["import", "events", "usage.csv"]);
        stopped.assert_code(1);
        assert!(stopped.err.contains("usage.csv:5: there is no customer `jack`"), "{}", stopped.err);
        assert_eq!((stopped.value("charges made"), stopped.value("already there")), (Some("2"), Some("1")));
    })
    .await;
}

#[tokio::test]
async fn bad_lines_are_skipped_where_so_asked_and_tried_again_by_the_next_run() {
    on_both(async |database| {
        let program = shop(&database);
        program.file("customers.csv", "id\njane\n");
        program.run(&["import", "customers", "customers.csv"]).assert_code(0);
        program.file("usage.csv", WITH_BAD_LINES);
        let skip = ["import", "events", "--on-error", "skip", "usage.csv"];
        let skipped = program.run(&skip);
        skipped.assert_code(1);
        for line in [
            "usage.csv:3: the quantity of `calls` is not a decimal number: `many`",
            "usage.csv:5: there is no customer `jack`; create it first, or use --create-customers",
            "usage.csv:6: `yesterday` is not a time",
            "usage.csv:7: it has 2 fields where the header has 3",
            "usage.csv:8: the time lies in the future",
            "usage.csv:9: the quantity of `calls` is below zero",
        ] {
            assert!(skipped.err.contains(line), "{line} is not in {}", skipped.err);
        }
        assert_eq!((skipped.value("bad lines"), skipped.value("charges made")), (Some("6"), Some("3")));

        program.file("customers.csv", "id\njack\n");
        program.run(&["import", "customers", "customers.csv"]).assert_code(0);
        let again = program.run(&skip);
        again.assert_code(1);
        assert_eq!((again.value("bad lines"), again.value("charges made")), (Some("5"), Some("1")));
        assert_eq!(again.value("already there"), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn an_id_that_was_used_for_something_else_is_a_bad_line() {
    on_both(async |database| {
        let program = shop(&database);
        program.file("usage.csv", "id,calls\na,1\na,2\nb,1\n");
        let stopped = program.run(&["import", "events", "usage.csv"]);
        stopped.assert_code(1);
        assert!(stopped.err.contains("usage.csv:3: an event with this id was recorded before"), "{}", stopped.err);
        // That showed only when the line was charged, with those after it under way.
        assert!(stopped.err.contains("every line before it is imported, 1 of those after it"), "{}", stopped.err);
        assert_eq!(charged(&database).await.2, "0.02");
    })
    .await;
}

#[tokio::test]
async fn more_bad_lines_than_anybody_reads_are_counted() {
    let database = Database::sqlite().await;
    let program = shop(&database);
    program.file("usage.csv", &format!("calls\n{}", "x\n".repeat(150)));
    let ended = program.run(&["import", "events", "--on-error", "skip", "usage.csv"]);
    ended.assert_code(1);
    assert_eq!(ended.err.matches("is not a decimal number").count(), 100);
    assert_eq!(ended.value("bad lines"), Some("150"));
}

/// Lines that do not even say when: the same line in another file is another use, in the same file it is a repeat.
#[tokio::test]
async fn lines_without_id_and_time_are_told_apart_by_their_file() {
    on_both(async |database| {
        let program = shop(&database);
        program.file("monday.csv", "calls\n1\n1\n");
        program.file("tuesday.csv", "calls\n1\n2\n");
        for (file, made) in [("monday.csv", "2"), ("tuesday.csv", "2"), ("monday.csv", "0")] {
            let ended = program.run(&["import", "events", "--from-start", file]);
            ended.assert_code(0);
            assert_eq!(ended.value("charges made"), Some(made), "{file}");
        }
        assert_eq!(charged(&database).await.2, "0.05");
        let input = program.run_with(&["import", "events", "--format", "csv", "-"], "calls\n1\n");
        assert!(input.assert_code(1).err.contains("has neither an id nor a time"), "{}", input.err);
    })
    .await;
}

/// A log that has grown is another file with the same lines at its beginning.
#[tokio::test]
async fn of_a_file_that_has_grown_only_the_new_lines_are_charged() {
    on_both(async |database| {
        let program = shop(&database);
        let day = "time,calls\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,1\n".to_owned();
        program.file("log.csv", &day);
        program.run(&["import", "events", "log.csv"]).assert_code(0);
        program.file("log.csv", &(day + "2026-01-02T00:00:00Z,1\n"));
        let grown = program.run(&["import", "events", "log.csv"]);
        grown.assert_code(0);
        assert_eq!((grown.value("charges made"), grown.value("already there")), (Some("1"), Some("2")));
        // Charged to somebody else, it is another import.
        let other = program.run(&["import", "events", "--customer", "jane", "log.csv"]);
        other.assert_code(0);
        assert_eq!(other.value("charges made"), Some("3"));
    })
    .await;
}

#[tokio::test]
async fn a_database_that_fails_is_told_and_the_import_can_go_on() {
    let database = Database::sqlite().await;
    let program = shop(&database);
    program.file("usage.csv", "time,calls\n2026-01-01T00:00:00Z,1\n");
    database
        .execute("CREATE TRIGGER broken BEFORE INSERT ON charges BEGIN SELECT RAISE(ABORT, 'the disk is full'); END")
        .await;
    let failed = program.run(&["import", "events", "usage.csv"]);
    failed.assert_code(1);
    assert!(failed.err.contains("run the same command again to go on"), "{}", failed.err);
    assert!(failed.err.contains("the disk is full"), "{}", failed.err);
    database.execute("DROP TRIGGER broken").await;
    assert_eq!(program.run(&["import", "events", "usage.csv"]).assert_code(0).value("charges made"), Some("1"));
}
