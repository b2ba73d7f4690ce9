//! `farthing backup` and `farthing restore`: a copy of a database in use, put back in its place.

use crate::cli_program::Program;
use crate::databases::Database;

/// A database with one customer who has ten dollars.
fn with_jane(program: &Program) {
    program.file("customers.csv", "id,balance\njane,10\n");
    program.run(&["import", "customers", "customers.csv"]).assert_code(0);
}

#[tokio::test]
async fn what_is_backed_up_comes_back() {
    // Its store stays open, as that of a running server.
    let database = Database::sqlite().await;
    let program = Program::on(database.address());
    with_jane(&program);
    let backup = program.run(&["backup", "copy.db"]);
    assert_eq!(backup.assert_code(0).out, "copy.db is whole and holds 1 customer\n");
    let again = program.run(&["backup", "copy.db"]);
    assert!(again.assert_code(1).err.contains("copy.db is there already"), "{}", again.err);

    let elsewhere = ["--database", "sqlite:new.db"];
    let restored = program.run(&[&elsewhere[..], &["restore", "copy.db"]].concat());
    assert_eq!(restored.assert_code(0).out, "new.db is whole and holds 1 customer\n");
    let verified = program.run(&[&elsewhere[..], &["verify", "--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&verified.assert_code(0).out).unwrap();
    assert_eq!((&json["totals"][0]["asset"], &json["totals"][0]["wallets"]), (&"USD".into(), &"10".into()));
}

#[tokio::test]
async fn a_database_is_replaced_only_by_force_and_only_when_nobody_has_it_open() {
    let program = Program::on("sqlite:farthing.db");
    with_jane(&program);
    program.run(&["backup", "copy.db"]).assert_code(0);
    program.file("customers.csv", "id,balance\njoan,20\n");
    program.run(&["import", "customers", "customers.csv"]).assert_code(0);

    let unforced = program.run(&["restore", "copy.db"]);
    assert!(unforced.assert_code(1).err.contains("--force replaces it"), "{}", unforced.err);
    let address = format!("sqlite:{}", program.path("farthing.db").display());
    let open = farthing::store::open(&address).await.unwrap();
    open.ping().await.unwrap();
    let busy = program.run(&["restore", "--force", "copy.db"]);
    assert!(busy.assert_code(1).err.contains("open in another process"), "{}", busy.err);
    assert!(program.run(&["verify"]).out.contains("2 customers"));

    drop(open);
    let mut restored = program.run(&["restore", "--force", "copy.db"]);
    // The connections of a store that is dropped are closed by and by.
    for _ in 0..100 {
        if restored.code == Some(0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        restored = program.run(&["restore", "--force", "copy.db"]);
    }
    restored.assert_code(0);
    assert!(program.run(&["verify"]).assert_code(0).out.contains("1 customer recounted"));
}

#[test]
fn a_damaged_database_is_replaced_and_a_damaged_backup_is_not_restored() {
    let program = Program::on("sqlite:farthing.db");
    with_jane(&program);
    program.run(&["backup", "copy.db"]).assert_code(0);
    let backup = std::fs::read(program.path("copy.db")).unwrap();

    std::fs::write(program.path("cut.db"), &backup[..backup.len() / 2]).unwrap();
    let refused = program.run(&["--database", "sqlite:new.db", "restore", "cut.db"]);
    assert!(refused.assert_code(1).err.contains("cut.db cannot be copied"), "{}", refused.err);
    assert!(!program.path("new.db").exists() && !program.path("new.db.partial").exists());

    for leftover in ["farthing.db-wal", "farthing.db-shm"] {
        let _ = std::fs::remove_file(program.path(leftover));
    }
    program.file("farthing.db", "this is no database at all, and long enough that SQLite looks at it and says so ...");
    program.run(&["restore", "--force", "copy.db"]).assert_code(0);
    assert!(program.run(&["verify"]).assert_code(0).out.contains("1 customer recounted"));
}

#[tokio::test]
async fn postgresql_has_its_own_tools() {
    let program = Program::on(Database::postgres().await.address());
    let backup = program.run(&["backup", "copy"]);
    assert!(backup.assert_code(2).err.contains("pg_dump"), "{}", backup.err);
    let restore = program.run(&["restore", "copy"]);
    assert!(restore.assert_code(2).err.contains("pg_restore"), "{}", restore.err);
}
