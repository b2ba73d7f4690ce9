//! The sandbox over HTTP, as a client of Stripe sees it.

#![expect(clippy::unwrap_used, reason = "what these tests set up works")]

mod billing;
mod cards;
mod checkout;
mod client;
mod customers;
mod disputes;
mod invoices;
mod kernel;
mod payment_intents;
mod payment_methods;
mod products;
mod prorations;
mod refunds;
mod setup_intents;
mod subscriptions;
mod test_clocks;
