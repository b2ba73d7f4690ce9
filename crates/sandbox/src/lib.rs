//! The sandbox: a stateful Stripe that runs offline, for demonstrations, tests and development. It speaks Stripe's API in
//! version [`API_VERSION`], so that Stripe's own SDKs and any client of it can be pointed at it. Any key `sk_test_NAME` opens
//! the world NAME, which nobody else sees; `pk_test_NAME` reaches of it what a browser may.
//!
//! # How to add an object
//!
//! 1. Its kind, a line in `kind.rs`: the word of its `object` field, the prefix of its ids.
//! 2. `objects/NOUN.rs`, and its `mod` line. A handler is `fn(&mut World, &Request) -> Result<Value, ApiError>`.
//! 3. It reads all parameters first: `request.parameters.text("name")?`, `integer`, `flag`, `word`, `part` (nested), `parts`
//!    (a list of nested), `copy_texts`, `copy_metadata`; then `request.parameters.finish()?`, which refuses what nobody read.
//! 4. It finds others: `world.find(kind::CUSTOMER, &id, "customer")?` (400 if missing; 404 with `"id"`).
//! 5. It makes the document with `json!` exactly as Stripe renders it, `"id": world.new_id(kind)`, `"created": world.now_for(&customer)`.
//! 6. `world.save(kind, &document)`; what must be hidden goes beside it with `world.hide`.
//! 7. `world.announce("noun.created", &document)`, or `announce_change("noun.updated", &before, &after)`.
//! 8. It returns the document. Any error undoes everything, except `ApiError::card(..)` and what says `.keeping()`.
//! 9. Lists: `list::page(world, request, kind, |object| ..)`. What can be expanded: lines in the table of `expand.rs`.
//!    What happens with time: a finder in `time.rs`.
//!    What is paid goes through `payment::attempt`; what follows when a payment ends elsewhere (on the 3-D Secure page, by its
//!    own API) is a line in the `FOLLOWERS` of `payment.rs` or `objects/setup_intents.rs`.
//! 10. Its paths: a section in `routes.rs`. Its tests: `tests/api/NOUN.rs`.
//!
//! A page for browsers is a template in `templates/` and its code in `pages/NOUN.rs`. It works without scripts, and does what it
//! does by the API's own handlers: `world.attempt(|world| payment_intents::confirm(world, &request.within(id, form)))`.
//! Its test in a browser: `tests/sdk/node/pages.mjs`.

#![recursion_limit = "256"]

mod amount;
mod auth;
mod card;
mod checkout;
mod control;
mod dispatch;
mod error;
mod event;
mod expand;
mod fault;
mod form;
mod id;
mod idempotency;
mod journal;
mod kind;
mod list;
mod objects;
mod pages;
mod parameters;
mod payment;
mod period;
mod request;
mod routes;
mod server;
mod time;
mod versions;
mod webhook;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;

pub use crate::fault::{Fault, FaultError, FaultKind};
use crate::journal::Journal;
use crate::server::Shared;

/// The version of Stripe's API that the sandbox speaks, which stripe-python 16.1 and stripe-node 23.1 pin too.
pub const API_VERSION: &str = "2026-10-28.endive";

/// Where events are sent to besides the webhook endpoints made by API, as `stripe listen` does it.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The world whose events are sent; none: all worlds.
    pub world: Option<String>,
    /// The address to post to.
    pub url: String,
    /// The secret to sign with, including `whsec_`.
    pub secret: String,
}

/// How a sandbox is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Makes ids a function of the seed and a counter, so that runs can be compared. None: random.
    pub seed: Option<u64>,
    /// The journal that keeps the worlds over a restart. None: in memory.
    pub file: Option<PathBuf>,
    /// The base of links to the sandbox's pages. None: the `Host` header of the request that makes the link.
    pub public_url: Option<String>,
    /// The pauses between the tries to deliver an event; after the last it is given up.
    pub webhook_retries: Vec<Duration>,
    /// How long an endpoint may take to answer.
    pub webhook_timeout: Duration,
    /// Where events are sent to besides the webhook endpoints made by API.
    pub forward_to: Vec<Forward>,
    /// Faults with which every new world begins.
    pub faults: Vec<Fault>,
    /// The pauses before each automatic retry of an invoice whose payment has failed.
    pub invoice_retries: Vec<Duration>,
    /// What becomes of a subscription when the last of them has failed.
    pub after_last_retry: AfterLastRetry,
}

/// What becomes of a subscription whose renewal could not be collected (docs.stripe.com/billing/revenue-recovery).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterLastRetry {
    /// It is canceled.
    #[default]
    Cancel,
    /// It goes on, unpaid: its further invoices stay drafts.
    Unpaid,
    /// It goes on, past due.
    PastDue,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: None,
            file: None,
            public_url: None,
            webhook_retries: [1, 5, 30, 120, 600].map(Duration::from_secs).to_vec(),
            webhook_timeout: Duration::from_secs(10),
            forward_to: Vec::new(),
            faults: Vec::new(),
            invoice_retries: [1, 3, 5, 7].map(|days| Duration::from_secs(days * 86_400)).to_vec(),
            after_last_retry: AfterLastRetry::default(),
        }
    }
}

/// Why a sandbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The journal.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another sandbox has the journal open.
    #[error("{}: another sandbox has this file open", path.display())]
    InUse {
        /// The journal.
        path: PathBuf,
    },
    /// A line of the journal is none of the sandbox's.
    #[error("{}:{line}: this is not a line of a sandbox's journal; move the file away to begin anew", path.display())]
    Line {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The client that delivers webhooks cannot be made.
    #[error("no client for webhooks: {0}")]
    Client(reqwest::Error),
}

/// A sandbox with its worlds.
#[derive(Debug)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

impl Sandbox {
    /// Opens a sandbox, with what its journal knows.
    ///
    /// # Errors
    /// Where the journal cannot be read or written, or has foreign lines.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        // The error says that a provider is set already, which is all that is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.webhook_timeout)
            .build()
            .map_err(OpenError::Client)?;
        let settings = Arc::new(settings);
        let (journal, worlds) = match &settings.file {
            None => (Journal::none(), BTreeMap::new()),
            Some(path) => Journal::open(path, &settings)?,
        };
        let worlds = worlds.into_iter().map(|(name, world)| (name, Arc::new(Mutex::new(world)))).collect();
        let shared = Shared { settings, journal, wake: Notify::new(), client, worlds: Mutex::new(worlds) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Serves until `stop` ends; then takes no more requests, and answers those under way.
    ///
    /// # Errors
    /// What the listener fails with.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()> + Send) -> std::io::Result<()> {
        server::serve(self.shared.clone(), listener, stop).await
    }
}
