//! What the server tells its operators: JSON logs with an `event` field, and metrics for Prometheus. Neither holds
//! personal data: customers appear by the id of their rows, never by the caller's own id.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// The bounds of latency histograms, in seconds.
const LATENCY: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The bounds of the histogram of batch sizes.
const BATCH: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts JSON logs on standard error; `FARTHING_LOG` says what is logged (`info` where unset).
pub fn start_logs() {
    let filter = EnvFilter::try_from_env("FARTHING_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let logs = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(false).with_env_filter(filter);
    // A second start, as in tests, keeps the first.
    let _ = logs.with_writer(std::io::stderr).try_init();
}

/// The metrics of this process, recorded from the first call on.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    METRICS
        .get_or_init(|| {
            let builder = PrometheusBuilder::new();
            let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY).ok()?;
            let builder = builder.set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &BATCH).ok()?;
            builder.install_recorder().ok()
        })
        .as_ref()
}
