//! The native API, version 1: one file per noun.

pub(super) mod analytics;
pub(super) mod charges;
pub(super) mod checks;
pub(super) mod customers;
pub(super) mod entitlements;
pub(super) mod events;
pub(super) mod explanation;
pub(super) mod grants;
pub(super) mod holds;
pub(super) mod invoice_explanation;
pub(super) mod invoice_steps;
pub(super) mod invoices;
pub(super) mod items;
pub(super) mod line_explanation;
pub(super) mod notices;
pub(super) mod payment_methods;
pub(super) mod payments;
pub(super) mod plans;
pub(super) mod purchases;
pub(super) mod recurring_charges;
pub(super) mod subscriptions;
pub(super) mod test_clock;
pub(super) mod usage;
pub(super) mod wallets;
