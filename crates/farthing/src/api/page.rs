//! Pages: lists are read by cursor, never by number, so that nothing is skipped or repeated while rows are added.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::store;

/// How many a page holds when the request does not say, and at the most.
const USUAL: i64 = 50;
const MOST: i64 = 500;

/// Which page of a list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// How many at the most.
    #[param(minimum = 1, maximum = 500, default = 50)]
    pub(super) limit: Option<i64>,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct PageOf<T> {
    /// What it holds.
    pub(super) data: Vec<T>,
    /// Send it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

/// Reads the page that is asked for.
pub(super) fn page<C: DeserializeOwned>(cursor: Option<&str>, limit: Option<i64>) -> Result<store::Page<C>, Problem> {
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::invalid("invalid_parameter", format!("`limit` is 1 to {MOST}")).at("limit"));
    }
    let invalid = || Problem::invalid("invalid_parameter", "`cursor` is not one that a page gave").at("cursor");
    let after = match cursor {
        None => None,
        Some(text) => {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
            Some(serde_json::from_slice(&bytes).map_err(|_| invalid())?)
        }
    };
    Ok(store::Page { after, limit })
}

/// Makes a page of what was found, with the cursor behind its last one where there may be more.
pub(super) fn page_of<R, T, C: Serialize>(
    rows: Vec<R>,
    limit: i64,
    cursor: impl Fn(&R) -> C,
    view: impl Fn(R) -> T,
) -> PageOf<T> {
    let full = i64::try_from(rows.len()).is_ok_and(|found| found == limit);
    let last = rows.last().filter(|_| full).and_then(|row| serde_json::to_vec(&cursor(row)).ok());
    PageOf { next_cursor: last.map(|bytes| URL_SAFE_NO_PAD.encode(bytes)), data: rows.into_iter().map(view).collect() }
}
