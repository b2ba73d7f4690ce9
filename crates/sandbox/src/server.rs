//! The server: from a connection to a handler under the lock of its world, and back.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::dispatch::{self, Answer, Asked};
use crate::error::ApiError;
use crate::journal::Journal;
use crate::world::{World, lock};
use crate::{Settings, idempotency, time, webhook};

/// How long requests under way may take once the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// The largest body, in bytes.
const LARGEST_BODY: usize = 1 << 20;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Arc<Settings>,
    pub(crate) journal: Journal,
    /// Tells the delivery task that there is something new to deliver.
    pub(crate) wake: Notify,
    pub(crate) client: reqwest::Client,
    pub(crate) worlds: Mutex<BTreeMap<String, Arc<Mutex<World>>>>,
}

impl Shared {
    /// The world of a name, new if nobody has asked for it yet.
    pub(crate) fn world(&self, name: &str) -> Arc<Mutex<World>> {
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(World::new(name, self.settings.clone())));
        worlds.entry(name.to_owned()).or_insert_with(new).clone()
    }

    /// All worlds, in the order of their names.
    pub(crate) fn all_worlds(&self) -> Vec<Arc<Mutex<World>>> {
        self.worlds.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// Serves until `stop` ends; then takes no more connections and answers what is under way.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    tracing::info!(event = "sandbox_serving", address = %listener.local_addr()?);
    let tasks = [tokio::spawn(webhook::deliver(shared.clone())), tokio::spawn(keep_time(shared.clone()))];
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            // Too many open files, or a connection that is gone again: the listener still stands.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let shared = shared.clone();
        let service = service_fn(move |request| answer(shared.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(event = "connection_ended", %error);
            }
        });
    }
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(GRACE) => tracing::warn!(event = "connections_dropped"),
    }
    for task in tasks {
        task.abort();
        // Ended, it has let go of the journal.
        let _ = task.await;
    }
    Ok(())
}

/// Does each second what is due.
async fn keep_time(shared: Arc<Shared>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        for world in shared.all_worlds() {
            let mut world = lock(&world);
            time::run_due(&mut world);
            idempotency::forget_old(&mut world);
            if !world.is_changed() {
                continue;
            }
            if let Err(error) = shared.journal.commit(&mut world) {
                tracing::error!(event = "journal_failed", %error);
            }
            shared.wake.notify_one();
        }
    }
}

/// The connection is to be closed without an answer, because a fault wants it so.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Closed;

async fn answer(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else { return Err(Closed) };
    let asked = Asked {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization: text(&head.headers, "authorization"),
        idempotency_key: text(&head.headers, "idempotency-key"),
        version: text(&head.headers, "stripe-version"),
        host: text(&head.headers, "host").unwrap_or_default(),
        body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    };
    // A task of its own: like Stripe, the sandbox finishes what it began, also when the caller hangs up.
    let answered = tokio::spawn(async move { Ok::<_, Infallible>(dispatch::dispatch(&shared, asked).await) }).await;
    match answered {
        Ok(Ok(Some(answer))) => Ok(render(answer)),
        _ => Err(Closed),
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn render(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Refuses what is not a version: `2026-10-28.endive`, or a date alone as before 2024-09-30.
pub(crate) fn check_version(version: &str) -> Result<(), ApiError> {
    let (date, name) = version.split_once('.').unwrap_or((version, "x"));
    let is_date = date.parse::<jiff::civil::Date>().is_ok() && date.len() == 10;
    if is_date && !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase()) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("Invalid Stripe API version: {version}")))
}

/// A document as Stripe writes it, with two spaces.
pub(crate) fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}
