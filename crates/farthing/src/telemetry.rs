//! What the server tells its operators: JSON logs with an `event` field, and metrics for Prometheus. Neither holds
//! personal data: customers appear by the id of their rows, never by the caller's own id.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The bounds of latency histograms, in seconds.
const LATENCY: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The bounds of the histogram of batch sizes.
const BATCH: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts JSON logs on standard error; `FARTHING_LOG` says what is logged (`info` where unset).
pub fn start_logs() {
    let filter = EnvFilter::try_from_env("FARTHING_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let logs = tracing_subscriber::fmt().event_format(Line).with_env_filter(filter);
    // A second start, as in tests, keeps the first.
    let _ = logs.with_writer(std::io::stderr).try_init();
}

/// A line of the log: a JSON object in which `event` is always a text, so that filters may rely on it. What a library logs in
/// its own words has the event `log`.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let mut members = Members(Map::new());
        members.0.insert("timestamp".to_owned(), time.into());
        members.0.insert("level".to_owned(), metadata.level().as_str().into());
        members.0.insert("target".to_owned(), metadata.target().into());
        members.0.insert("service".to_owned(), "farthing".into());
        members.0.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        event.record(&mut members);
        if !members.0.get("event").is_some_and(Value::is_string) {
            members.0.insert("event".to_owned(), "log".into());
        }
        writeln!(writer, "{}", Value::Object(members.0))
    }
}

/// The fields of an event, by name.
struct Members(Map<String, Value>);

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
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
