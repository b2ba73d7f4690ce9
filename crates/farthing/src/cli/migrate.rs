//! `farthing migrate`: brings the database to the schema of this version. Every command that opens it does so too; this
//! one does nothing else, for those who want it done before the new version starts.

use super::{Database, Failure, Outcome, print, store_failed};

pub(super) async fn run(database: &Database) -> Result<Outcome, Failure> {
    let store = database.open().await?;
    let version = store.schema_version().await.map_err(store_failed)?;
    print(&format!("{}: schema version {version}\n", store.name()))?;
    Ok(Outcome::Good)
}
