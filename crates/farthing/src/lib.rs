//! farthing's shell: everything around the engine. Data flows one way: a surface parses a request into a command, the
//! service loads, decides and commits, the store writes. Who may import whom is a table in one test (`layers`).

pub mod analytics;
pub mod api;
pub mod app;
pub mod auth;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod demo;
pub mod dialects;
pub mod document;
pub mod event;
pub mod idempotency;
pub mod identity;
pub mod inbound;
pub mod jobs;
pub mod offer;
pub mod outbox;
pub mod provider;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod verify;
pub mod web;
