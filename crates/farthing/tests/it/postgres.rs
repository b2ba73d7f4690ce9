//! PostgreSQL clusters for the integration tests: one that all tests of a run share, each test in a database of its own,
//! and private ones that a test may crash and start again.
//!
//! A cluster lives exactly as long as this process: a watcher process stops it and removes its files as soon as the pipe
//! between the two closes, however the tests ended. So there is nothing to reuse and nothing stale to clean up.
//! Roles belong to a cluster, not to a database: what creates one must bear that another test already has.
//! It never touches a cluster of the machine's own, and knows nothing of farthing's schema.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

/// The oldest major version of PostgreSQL that farthing is tested with.
const OLDEST_VERSION: u32 = 14;

/// Beyond what initdb writes: loopback alone, and room for many tests at a time. Durability stays as users have it.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
";

/// Reads standard input until the tests are gone, then runs `$@` (which stops the server) and removes the directory `$0`.
const WATCHER: &str = r#"trap '' HUP INT TERM; cat; "$@"; rm -rf "$0""#;

/// A running PostgreSQL in which tests make their databases.
pub(crate) struct Cluster {
    superuser: PgConnectOptions,
    /// None when `FARTHING_TEST_POSTGRES` named the cluster, which is then not ours to stop.
    server: Option<Server>,
}

/// The cluster that all tests of this run share, started by the first that asks (about a second, blocking). It is the one
/// that `FARTHING_TEST_POSTGRES` names by the URL of a superuser, when that is set.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("FARTHING_TEST_POSTGRES") {
        Ok(url) => Cluster {
            superuser: url
                .parse()
                .expect("FARTHING_TEST_POSTGRES: set it to the URL of a PostgreSQL superuser, or unset it"),
            server: None,
        },
        Err(_) => Cluster::start_private(),
    })
}

impl Cluster {
    /// Starts a cluster that nobody else uses (about a second, blocking); dropping it stops it and removes its files.
    pub(crate) fn start_private() -> Self {
        let server = Server::create();
        let superuser = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(server.port)
            .username("postgres")
            .database("postgres");
        Self { superuser, server: Some(server) }
    }

    /// Makes an empty database with a name of its own and returns its URL, as a superuser.
    pub(crate) async fn create_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("farthing_{}_{}_{:016x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed), random());
        let mut connection = PgConnection::connect_with(&self.superuser).await.expect("the test cluster answers");
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("a superuser may create a database");
        connection.close().await.expect("the connection closes");
        self.superuser.clone().database(&name).to_url_lossy().into()
    }

    /// Stops the server as a crash would: nothing is written any more, every connection breaks. Blocks until it is gone.
    pub(crate) fn stop_immediate(&self) {
        self.own_server().stop_immediate();
    }

    /// Starts the stopped server again, at the same address. Blocks until it has recovered and answers.
    pub(crate) fn start(&self) {
        let server = self.own_server();
        server.start(server.port).expect("the cluster starts again");
    }

    fn own_server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("FARTHING_TEST_POSTGRES names a cluster that the tests did not start: use Cluster::start_private()")
    }
}

/// A cluster's files, the process that serves them, and the watcher that outlives this process to end both.
struct Server {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    watcher: Child,
}

impl Server {
    fn create() -> Self {
        let binaries = find_binaries();
        let directory = PathBuf::from(
            run(as_server_user("mktemp").args(["-d", "-t", "farthing-postgres-XXXXXX"]))
                .expect("a directory for the cluster: set TMPDIR to one in which the user postgres may create files")
                .trim_end(),
        );
        let watcher = watch(&binaries, &directory);
        let mut server = Self { binaries, directory, port: 0, watcher };
        // Only the empty cluster is left unsynced; the server itself syncs as it does for users.
        run(as_server_user(server.binaries.join("initdb")).arg("--pgdata").arg(server.data()).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]))
        .expect("initdb makes a cluster");
        let configuration = server.data().join("postgresql.conf");
        let defaults = fs::read_to_string(&configuration).expect("initdb wrote postgresql.conf");
        fs::write(&configuration, defaults + SETTINGS).expect("postgresql.conf is ours to write");
        // Between finding a free port and using it another process may take it: then it is found anew.
        let mut failure = String::new();
        for _ in 0..5 {
            let port = free_port();
            match server.start(port) {
                Ok(()) => {
                    server.port = port;
                    return server;
                }
                Err(reason) => failure = reason,
            }
        }
        panic!("the test cluster does not start: {failure}");
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn start(&self, port: u16) -> Result<(), String> {
        let log = self.directory.join("log");
        run(as_server_user(self.binaries.join("pg_ctl"))
            .args(["start", "--wait", "--silent"])
            .arg("--pgdata")
            .arg(self.data())
            .arg("--log")
            .arg(&log)
            .arg("--options")
            .arg(format!("-p {port}")))
        .map(drop)
        .map_err(|reason| format!("{reason}\n{}", fs::read_to_string(log).unwrap_or_default()))
    }

    fn stop_immediate(&self) {
        run(&mut stop_command(&self.binaries, &self.directory)).expect("the cluster was running");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

/// Starts the watcher of a cluster. It has a process group of its own, so that Ctrl-C in a terminal does not reach it.
fn watch(binaries: &Path, directory: &Path) -> Child {
    let stop = stop_command(binaries, directory);
    Command::new("sh")
        .arg("-c")
        .arg(WATCHER)
        .arg(directory)
        .arg(stop.get_program())
        .args(stop.get_args())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs")
}

fn stop_command(binaries: &Path, directory: &Path) -> Command {
    let mut command = as_server_user(binaries.join("pg_ctl"));
    command.args(["stop", "--wait", "--silent", "--mode=immediate", "--pgdata"]).arg(directory.join("data"));
    command
}

/// A command run as the user who owns the cluster: PostgreSQL refuses to run as root, so there it is `postgres`.
fn as_server_user(program: impl AsRef<Path>) -> Command {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    let is_root = *IS_ROOT.get_or_init(|| run(Command::new("id").arg("-u")).expect("id runs").trim_end() == "0");
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    // That user may not be allowed into the directory of the sources.
    command.current_dir("/");
    command
}

/// Runs a command to its end and returns what it printed; an error says which command failed and why.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{command:?}: {}\n{message}", output.status))
    }
}

/// The directory of the server's programs: where `pg_config` says, or the newest of those that Debian keeps beside each
/// other (a lone libpq-dev has a `pg_config` and no server).
fn find_binaries() -> PathBuf {
    let configured = run(Command::new("pg_config").arg("--bindir")).ok().map(|path| PathBuf::from(path.trim_end()));
    let packaged =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    configured
        .into_iter()
        .chain(packaged)
        .filter_map(|binaries| Some((major_version(&binaries)?, binaries)))
        .filter(|(version, _)| *version >= OLDEST_VERSION)
        .max()
        .map(|(_, binaries)| binaries)
        .unwrap_or_else(|| {
            panic!(
                "no PostgreSQL server of version {OLDEST_VERSION} or later on this machine: run ./test, which installs one, \
                 or set FARTHING_TEST_POSTGRES to the URL of a superuser"
            )
        })
}

/// The major version of the server in a directory: `initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15.
fn major_version(binaries: &Path) -> Option<u32> {
    let version = run(Command::new(binaries.join("initdb")).arg("--version")).ok()?;
    let number = version.split_whitespace().nth(2)?;
    let digits = number.split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A port of loopback that is free now. It lies below those that systems hand to outgoing connections, because none of these
/// may take it while a private cluster is stopped.
fn free_port() -> u16 {
    std::iter::repeat_with(|| 20_000 + u16::try_from(random() % 12_000).expect("12,000 fits"))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("the sequence has no end")
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the database answers")
}

#[tokio::test]
async fn each_database_is_empty_and_its_own() {
    let (first, second) = (shared().create_database().await, shared().create_database().await);
    assert_ne!(first, second);
    for url in [first, second] {
        let mut connection = connect(&url).await;
        sqlx::raw_sql("CREATE TABLE wallet (id BIGINT PRIMARY KEY)")
            .execute(&mut connection)
            .await
            .expect("no table of another test is in the way");
    }
}

#[tokio::test]
async fn settings_of_durability_are_those_of_users() {
    let cluster = Cluster::start_private();
    let mut connection = connect(&cluster.create_database().await).await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut connection).await.unwrap();
        assert_eq!(value, "on", "{setting}");
    }
}

#[tokio::test]
async fn a_private_cluster_keeps_what_was_committed_before_a_crash() {
    let cluster = Cluster::start_private();
    let url = cluster.create_database().await;
    let mut connection = connect(&url).await;
    sqlx::raw_sql("CREATE TABLE paid (micros BIGINT); INSERT INTO paid VALUES (5000000)")
        .execute(&mut connection)
        .await
        .unwrap();

    cluster.stop_immediate();
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
    assert!(PgConnection::connect(&url).await.is_err());

    cluster.start();
    let micros: i64 = sqlx::query_scalar("SELECT micros FROM paid").fetch_one(&mut connect(&url).await).await.unwrap();
    assert_eq!(micros, 5_000_000);
}

#[tokio::test]
async fn a_dropped_cluster_leaves_neither_server_nor_files() {
    let cluster = Cluster::start_private();
    let url = cluster.create_database().await;
    let directory = cluster.own_server().directory.clone();
    assert!(directory.exists());
    drop(cluster);
    assert!(!directory.exists());
    assert!(PgConnection::connect(&url).await.is_err());
}
