//! A fresh store for each test, on SQLite and on PostgreSQL: a test of the store or the service runs once on each.
//!
//! A database is a test's own and goes with it. `open` gives one more store on it, as another server process would have
//! one; `execute` and `texts` reach past the store, to damage what is written or to see what no interface shows.

use std::sync::Arc;

use farthing::store::{self, Store};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use tempfile::TempDir;

use crate::postgres;

/// A database of one test.
pub(crate) struct Database {
    /// A store on it.
    pub(crate) store: Arc<dyn Store>,
    place: Place,
}

enum Place {
    Sqlite { directory: TempDir },
    Postgres { url: String },
}

/// Runs a test on a fresh SQLite database, then on a fresh PostgreSQL one.
pub(crate) async fn on_both(test: impl AsyncFn(Database)) {
    for database in [Database::sqlite().await, Database::postgres().await] {
        // Shown when the test fails.
        eprintln!("on {}", database.store.name());
        test(database).await;
    }
}

impl Database {
    /// A fresh SQLite file.
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the database");
        Self::at(Place::Sqlite { directory }).await
    }

    /// A fresh database in the cluster that all tests share.
    pub(crate) async fn postgres() -> Self {
        Self::at(Place::Postgres { url: postgres::shared().create_database().await }).await
    }

    async fn at(place: Place) -> Self {
        let store = open(&place.address()).await;
        Self { store, place }
    }

    /// A fresh database on the same engine.
    pub(crate) async fn another(&self) -> Self {
        match self.place {
            Place::Sqlite { .. } => Self::sqlite().await,
            Place::Postgres { .. } => Self::postgres().await,
        }
    }

    /// One more store on it.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        open(&self.place.address()).await
    }

    /// Where it is, as the command line takes it.
    pub(crate) fn address(&self) -> String {
        self.place.address()
    }

    /// Runs statements as the owner of the tables.
    pub(crate) async fn execute(&self, statements: impl Into<String>) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.into()));
        match &self.place {
            Place::Sqlite { directory } => {
                statements.execute(&mut connect_sqlite(directory).await).await.expect("the statements run");
            }
            Place::Postgres { url } => {
                statements.execute(&mut connect_postgres(url).await).await.expect("the statements run");
            }
        }
    }

    /// The one text column of what a query finds.
    pub(crate) async fn texts(&self, query: impl Into<String>) -> Vec<String> {
        self.texts_after("", query).await.expect("the query runs")
    }

    /// The same, on a connection on which these statements have run before.
    pub(crate) async fn texts_after(&self, before: &str, query: impl Into<String>) -> Result<Vec<String>, sqlx::Error> {
        let (before, query) = (sqlx::raw_sql(AssertSqlSafe(before.to_owned())), AssertSqlSafe(query.into()));
        match &self.place {
            Place::Sqlite { directory } => {
                let mut connection = connect_sqlite(directory).await;
                before.execute(&mut connection).await?;
                sqlx::query_scalar(query).fetch_all(&mut connection).await
            }
            Place::Postgres { url } => {
                let mut connection = connect_postgres(url).await;
                before.execute(&mut connection).await?;
                sqlx::query_scalar(query).fetch_all(&mut connection).await
            }
        }
    }

    /// How SQLite goes about a statement.
    pub(crate) async fn plan(&self, statement: &str) -> Vec<String> {
        let Place::Sqlite { directory } = &self.place else { panic!("PostgreSQL has other plans") };
        let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let rows = query.fetch_all(&mut connect_sqlite(directory).await).await.expect("the statement is one");
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// Every row of every table, each as one text.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let mut rows = Vec::new();
        match &self.place {
            Place::Sqlite { .. } => {
                let tables = "SELECT 'SELECT ' || group_concat('quote(' || c.name || ')', ' || '' '' || ') || ' FROM ' || t.name
                     FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c
                     WHERE t.schema = 'main' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '_sqlx%' GROUP BY t.name";
                for query in self.texts(tables).await {
                    rows.extend(self.texts(query).await);
                }
            }
            Place::Postgres { .. } => {
                let tables = "SELECT format('SELECT CAST(t AS text) FROM %I AS t', tablename) FROM pg_tables
                     WHERE schemaname = 'public' AND tablename NOT LIKE '\\_sqlx%'";
                for query in self.texts(tables).await {
                    rows.extend(self.texts(query).await);
                }
            }
        }
        rows
    }
}

impl Place {
    fn address(&self) -> String {
        match self {
            Self::Sqlite { directory } => format!("sqlite:{}", file(directory)),
            Self::Postgres { url } => url.clone(),
        }
    }
}

fn file(directory: &TempDir) -> String {
    directory.path().join("farthing.db").to_str().expect("the path of a temporary file is UTF-8").to_owned()
}

async fn open(address: &str) -> Arc<dyn Store> {
    store::open(address).await.expect("the store opens")
}

async fn connect_sqlite(directory: &TempDir) -> SqliteConnection {
    SqliteConnection::connect(&file(directory)).await.expect("the file opens")
}

async fn connect_postgres(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the database answers")
}
