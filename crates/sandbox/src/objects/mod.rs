//! The objects of the API: one file each, with its handlers and its rules.

pub(crate) mod balance_transactions;
pub(crate) mod charges;
pub(crate) mod checkout_lines;
pub(crate) mod checkout_sessions;
pub(crate) mod coupons;
pub(crate) mod customers;
pub(crate) mod discounts;
pub(crate) mod disputes;
pub(crate) mod events;
pub(crate) mod invoice_items;
pub(crate) mod invoice_payments;
pub(crate) mod invoices;
pub(crate) mod payment_intents;
pub(crate) mod payment_methods;
pub(crate) mod portal;
pub(crate) mod prices;
pub(crate) mod products;
pub(crate) mod refunds;
pub(crate) mod setup_intents;
pub(crate) mod subscription_items;
pub(crate) mod subscriptions;
pub(crate) mod tax_rates;
pub(crate) mod test_clocks;
pub(crate) mod tokens;
pub(crate) mod webhook_endpoints;
