//! `farthing backup` and `farthing restore`: copies of a SQLite database, made while it is in use and put back while it is
//! not. PostgreSQL has tools of its own for both.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Database, Failure, Outcome, counted, print};

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// The new file; one that is there is not touched.
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// A file made by `farthing backup`.
    file: PathBuf,
    /// Replace the database that is there. What it holds is lost.
    #[arg(long)]
    force: bool,
}

/// How many seconds to wait for a writer to finish.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn backup(database: &Database, arguments: &BackupArguments) -> Result<Outcome, Failure> {
    let source = sqlite_file(database, "pg_dump")?;
    if !source.exists() {
        return Err(Failure::Failed(format!("there is no database {}; say which with --database", source.display())));
    }
    if arguments.file.exists() {
        return Err(Failure::Failed(format!("{} is there already; name a new file", arguments.file.display())));
    }
    let copied = copy(source, &arguments.file).await?;
    tell(&arguments.file, copied)?;
    Ok(Outcome::Good)
}

pub(super) async fn restore(database: &Database, arguments: &RestoreArguments) -> Result<Outcome, Failure> {
    let target = sqlite_file(database, "pg_restore")?;
    let backup = &arguments.file;
    if !backup.exists() {
        return Err(Failure::Failed(format!("there is no file {}", backup.display())));
    }
    if same_file(backup, target) {
        return Err(Failure::Usage("the backup is the database itself".to_owned()));
    }
    // Held until the new file is in its place, so that nobody opens the old one meanwhile.
    let mut held = None;
    if target.exists() {
        if !arguments.force {
            let target = target.display();
            return Err(Failure::Failed(format!(
                "{target} is there already; --force replaces it, and what it holds is lost"
            )));
        }
        held = close_to_others(target).await?;
    }
    let copied = copy(backup, target).await?;
    drop(held);
    tell(target, copied)?;
    Ok(Outcome::Good)
}

fn tell(file: &Path, customers: i64) -> Result<(), Failure> {
    let customers = counted(customers.unsigned_abs(), "customer");
    print(&format!("{} is whole and holds {customers}\n", file.display()))
}

fn sqlite_file<'a>(database: &'a Database, tool: &str) -> Result<&'a Path, Failure> {
    database
        .file()
        .ok_or_else(|| Failure::Usage(format!("this is for SQLite; for PostgreSQL use {tool}, which comes with it")))
}

fn same_file(one: &Path, other: &Path) -> bool {
    fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .busy_timeout(PATIENCE)
        .disable_statement_logging()
}

/// Copies a database to a file, which appears only when it is whole and on the disk. How many customers it has.
async fn copy(from: &Path, to: &Path) -> Result<i64, Failure> {
    let partial = beside(to, ".partial");
    let copied = copy_to(from, &partial).await;
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    let customers = copied.map_err(|error| Failure::Failed(format!("{} cannot be copied: {error}", from.display())))?;
    put_in_place(&partial, to)
        .map_err(|error| Failure::Failed(format!("{} cannot be written: {error}", to.display())))?;
    Ok(customers)
}

/// Why a copy is not one.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("the copy is damaged: {0}")]
    Damaged(String),
}

async fn copy_to(from: &Path, partial: &Path) -> Result<i64, CopyError> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut source = options(from).connect().await?;
    sqlx::query("VACUUM INTO $1").bind(partial.to_string_lossy()).execute(&mut source).await?;
    source.close().await?;
    let mut copy = options(partial).connect().await?;
    let problems: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut copy).await?;
    if problems != ["ok"] {
        return Err(CopyError::Damaged(problems.join("; ")));
    }
    let customers = sqlx::query_scalar("SELECT COUNT(*) FROM customers").fetch_one(&mut copy).await?;
    copy.close().await?;
    Ok(customers)
}

/// Gives a file its name, durably: SQLite does not do so for what `VACUUM INTO` writes.
fn put_in_place(partial: &Path, to: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, to)?;
    // What the old database had beside it does not belong to the new one.
    for leftover in ["-wal", "-shm"] {
        match fs::remove_file(beside(to, leftover)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    PathBuf::from(name)
}

/// Takes a database away from everybody else, as long as the connection is kept; nothing where it is too damaged to be
/// opened by anybody. To leave the write-ahead log takes that nobody else has it open.
async fn close_to_others(file: &Path) -> Result<Option<SqliteConnection>, Failure> {
    let close = async {
        let mut connection = options(file).busy_timeout(Duration::from_secs(1)).connect().await?;
        sqlx::query("PRAGMA journal_mode = DELETE").fetch_one(&mut connection).await?;
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    match close.await {
        Ok(connection) => Ok(Some(connection)),
        Err(error) if is_busy(&error) => {
            let file = file.display();
            Err(Failure::Failed(format!("{file} is open in another process; stop it first")))
        }
        Err(_) => Ok(None),
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // The low byte of an extended result code is the result itself.
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == BUSY)
}
