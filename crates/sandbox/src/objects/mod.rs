//! The objects of the API: one file each, with its handlers and its rules.

pub(crate) mod customers;
pub(crate) mod events;
pub(crate) mod webhook_endpoints;
