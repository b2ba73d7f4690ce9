//! The sandbox over HTTP, as a client of Stripe sees it.

#![expect(clippy::unwrap_used, reason = "what these tests set up works")]

mod client;
mod customers;
mod kernel;
