//! The load: so many connections, each of which asks again as soon as it is answered (a closed loop), for a while. All
//! of them run on the one thread of the runtime that this is called on.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::BenchError;

/// The longest latency that is told from a longer one, in microseconds: a minute.
const LONGEST_MICROSECONDS: u64 = 60_000_000;

/// What a connection asks, over and over.
pub(super) trait Call: Send + 'static {
    /// Asks once, and says how many units were done.
    ///
    /// # Errors
    /// What was wrong with the answer.
    fn call(&mut self) -> impl Future<Output = Result<u64, String>> + Send;
}

/// For how long to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// At first without counting.
    pub(super) warm_up: Duration,
    /// And then counting.
    pub(super) measured: Duration,
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Tally {
    /// How many units were done, the warm-up included.
    pub(super) all_units: u64,
    /// How many were done while counting.
    units: u64,
    /// How many requests were not answered as they should be, the warm-up included.
    pub(super) errors: u64,
    /// What was wrong with the first of them.
    pub(super) first_error: Option<String>,
    latency: Histogram<u64>,
    measured: Duration,
}

impl Tally {
    fn new(measured: Duration) -> Result<Self, BenchError> {
        let latency = Histogram::new_with_bounds(1, LONGEST_MICROSECONDS, 3)
            .map_err(|error| BenchError::Internal(format!("no histogram: {error}")))?;
        Ok(Self { all_units: 0, units: 0, errors: 0, first_error: None, latency, measured })
    }

    fn add(&mut self, outcome: Result<u64, String>, took: Duration, counts: bool) {
        match outcome {
            Ok(units) => {
                self.all_units += units;
                if counts {
                    self.units += units;
                    self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                }
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert(error);
            }
        }
    }

    /// Units done in a second.
    pub(super) fn per_second(&self) -> u64 {
        let nanoseconds = self.measured.as_nanos().max(1);
        u64::try_from(u128::from(self.units) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
    }

    /// The latency that half of the requests did not exceed, in microseconds.
    pub(super) fn p50(&self) -> u64 {
        self.latency.value_at_quantile(0.5)
    }

    /// The latency that 99 of 100 requests did not exceed, in microseconds.
    pub(super) fn p99(&self) -> u64 {
        self.latency.value_at_quantile(0.99)
    }
}

/// Lets every caller ask until the window is over, each waiting for its last answer.
///
/// # Errors
/// `Internal` where a caller panicked.
pub(super) async fn run<C: Call>(callers: Vec<C>, window: Window) -> Result<Tally, BenchError> {
    let tally = Arc::new(Mutex::new(Tally::new(window.measured)?));
    let from = Instant::now() + window.warm_up;
    let to = from + window.measured;
    let mut tasks = Vec::with_capacity(callers.len());
    for mut caller in callers {
        let tally = tally.clone();
        tasks.push(tokio::spawn(async move {
            let mut began = Instant::now();
            while began < to {
                let outcome = caller.call().await;
                let ended = Instant::now();
                let counts = ended >= from && ended < to;
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.add(outcome, ended.duration_since(began), counts);
                began = ended;
            }
        }));
    }
    for task in tasks {
        task.await.map_err(|error| BenchError::Internal(format!("a connection's task ended early: {error}")))?;
    }
    let tally = Arc::into_inner(tally).ok_or_else(|| BenchError::Internal("a connection goes on".to_owned()))?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after a millisecond; every fourth answer is wrong.
    struct Slow(u64);

    impl Call for Slow {
        async fn call(&mut self) -> Result<u64, String> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0 += 1;
            if self.0.is_multiple_of(4) { Err(format!("answer {}", self.0)) } else { Ok(10) }
        }
    }

    #[tokio::test]
    async fn units_count_within_the_window_and_errors_always() {
        let window = Window { warm_up: Duration::from_millis(50), measured: Duration::from_millis(100) };
        let tally = run(vec![Slow(0), Slow(0)], window).await.unwrap();
        assert!(tally.units > 0 && tally.units < tally.all_units, "{tally:?}");
        assert_eq!(tally.per_second(), tally.units * 10);
        assert!(tally.errors > 0);
        assert_eq!(tally.first_error.as_deref(), Some("answer 4"));
        assert!(tally.p50() >= 1_000 && tally.p99() >= tally.p50(), "{} {}", tally.p50(), tally.p99());
    }
}
