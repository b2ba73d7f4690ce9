//! The one integration target: farthing from outside, over its real router and on both engines. One module per subject;
//! what several of them need (the clusters of PostgreSQL, the test application) is a module too.
//! It never reaches past the public interface of the crate.

#![expect(
    clippy::expect_used,
    reason = "a test that cannot be set up should stop; the exemption in clippy.toml covers test functions alone"
)]

mod postgres;

// Tests begin in the order of their names, and this one takes longest.
mod a_year;

mod analytics;
mod api_access;
mod api_erasure;
mod api_events;
mod api_holds;
mod api_idempotency;
mod api_invoices;
mod api_operations;
mod api_plans;
mod api_purchases;
mod api_refusals;
mod api_story;
mod api_subscriptions;
mod api_test_clock;
mod api_usage;
mod auditor;
mod bench;
mod billing;
mod books;
mod cli_backup;
mod cli_check;
mod cli_import;
mod cli_import_customers;
mod cli_keys;
mod cli_payments;
mod cli_plan;
mod cli_program;
mod cli_verify;
mod databases;
mod dialect_ciris;
mod dialect_helppet;
mod dialect_orgvoice;
mod dialect_parentpilot;
mod dialect_speech;
mod differential;
mod five_products;
mod freshness;
mod front_ends;
mod harness;
mod invoice_documents;
mod invoice_run;
mod layers;
mod operation_keys;
mod plans;
mod product;
mod provider_stripe;
mod provider_subscriptions;
mod purchase_faults;
mod query_plans;
mod row_level_security;
mod scale_out;
mod schemathesis;
mod server_processes;
mod service_faults;
mod service_races;
mod shop;
mod sources;
mod statements;
mod store_commits;
mod store_reads;
