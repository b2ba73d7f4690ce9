//! The tenant file: one TOML file says what a product sells and under which rules. Read here into the engine's catalog
//! and the shell's settings, with every mistake of the file reported at once, each with its place and how to mend it.
//!
//! One file per part of the tenant file; `section` reads fields and `error` says what is wrong. Nothing here looks at
//! the process's environment by itself (it is handed in), opens the store, or decides anything about a customer.
//! `docs/tenant-file.md` is the reference for people who write one.

mod add_on;
mod billing;
mod browser;
mod connection;
mod coupon;
pub mod dialect;
mod error;
mod grant;
mod import;
mod jwt;
mod limit;
mod meter;
mod notice;
mod overage;
mod pack;
mod plan;
mod price;
mod section;
mod seller;
mod tenant;
mod version;

pub use browser::ANY_ORIGIN;
pub use connection::ConnectionSettings;
pub use dialect::Dialect;
pub use error::{Position, TenantFileError};
pub use import::{EventColumns, ImportDefaults};
pub use seller::Seller;
pub use tenant::{Mode, Tenant, load, parse};

#[cfg(test)]
mod tests;
