//! The server: the surfaces on a socket, until it is told to stop; then it answers what it has accepted and ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::api;
use crate::app::App;
use crate::dialects;
use crate::inbound::Inbound;
use crate::jobs::{Jobs, Providers};
use crate::telemetry;
use crate::web;

/// How long requests under way may take once the server stops. A connection on which nothing is asked would otherwise keep
/// it from ending for ever.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop` ends; then takes no more requests, answers those under way, and lets the lanes finish.
///
/// # Errors
/// What the listener fails with.
pub async fn serve(
    app: Arc<App>,
    providers: Providers,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let inbound = Inbound::new(app.clone(), &providers);
    let others = dialects::router(&app, &inbound).merge(inbound.router()).merge(web::router());
    let router = api::router(app.clone(), others, dialects::documents(&app));
    let jobs = tokio::spawn(Jobs::new(app.clone(), providers).run());
    let address = listener.local_addr()?;
    tracing::info!(event = "serving", %address, database = app.store.name(), tenants = app.tenants.len());
    let upkeep = tokio::spawn(forget_answers(app.clone()));
    let summing = tokio::spawn(sum_metrics());
    let (told, stopping) = oneshot::channel();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async {
        stop.await;
        let _ = told.send(());
    });
    let grace = async {
        if stopping.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served?,
        () = grace => tracing::warn!(event = "connections_dropped"),
    }
    jobs.abort();
    upkeep.abort();
    summing.abort();
    app.service.stop().await;
    tracing::info!(event = "stopped");
    Ok(())
}

/// Sums what was measured into its histograms, which would otherwise keep every single value until somebody asks.
async fn sum_metrics() {
    let mut often = tokio::time::interval(Duration::from_secs(2));
    loop {
        often.tick().await;
        if let Some(metrics) = telemetry::metrics() {
            metrics.run_upkeep();
        }
    }
}

/// Forgets the kept answers of whole requests a day after they were given: a repeat that comes later is a new request, whose
/// parts still find what they made.
async fn forget_answers(app: Arc<App>) {
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hours.tick().await;
        let Ok(before) = app.clock.now().checked_sub(SignedDuration::from_hours(24)) else { continue };
        if let Err(error) = app.store.forget_operations(before).await {
            tracing::warn!(event = "upkeep_failed", %error);
        }
    }
}

/// Ends when the process is told to end: Ctrl-C, or SIGTERM.
pub async fn told_to_stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
