//! How an import goes through a file: chunk by chunk, each durable before the next begins, with its progress noted, bad
//! lines reported by number, and a clean stop at Ctrl-C.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::OnError;
use super::source::{Line, Source};
use crate::app::App;
use crate::cli::{Failure, Outcome, columns, grouped, print, store_failed};

/// How many lines are under way at once; all are durable before the next are read.
pub(super) const CHUNK: usize = 1_000;

/// How many bad lines are printed; the others are counted.
const MOST_PRINTED: u64 = 100;

/// How often progress is told where there is no bar.
const INTERVAL: Duration = Duration::from_secs(3);

/// Something that can be imported line by line.
pub(super) trait Import {
    /// What a line asks for.
    type Item;

    /// What lines ask for, in their order, or what is wrong with them. Changes nothing.
    async fn prepare(&mut self, lines: Vec<Line>) -> Result<Vec<Result<Self::Item, String>>, Failure>;

    /// Does it all, durably; what came of each, in their order.
    async fn execute(&mut self, items: Vec<Self::Item>) -> Vec<Result<(), Fault>>;

    /// What was done so far: names and values.
    fn report(&self) -> Vec<(String, String)>;
}

/// Why an item was not done.
pub(super) enum Fault {
    /// There is something wrong with it.
    Bad(String),
    /// There is nothing wrong with it; it may be tried again.
    Failed(String),
}

/// How to go through the file.
pub(super) struct Settings<'a> {
    /// For messages to the store.
    pub(super) tenant: &'a str,
    /// The name that progress is noted under.
    pub(super) key: Option<String>,
    /// Whether to ignore what was noted.
    pub(super) from_start: bool,
    /// What to do at a bad line.
    pub(super) on_error: OnError,
}

/// What came of a line.
enum State {
    Done,
    Bad(String),
    /// It was not tried, or failed for no reason of its own.
    Left,
}

struct Run<'a, I> {
    app: &'a App,
    source: Source,
    settings: Settings<'a>,
    import: I,
    /// Lines that an earlier run had imported.
    before: i64,
    /// Lines that this run has dealt with.
    read: i64,
    /// Lines up to the first that is not imported.
    settled: i64,
    bad: u64,
    failed: Option<String>,
}

/// Imports a file.
pub(super) async fn run<I: Import>(
    app: &App,
    source: Source,
    settings: Settings<'_>,
    import: I,
) -> Result<Outcome, Failure> {
    let mut run = Run { app, source, settings, import, before: 0, read: 0, settled: 0, bad: 0, failed: None };
    run.pass_over().await?;
    let interrupted = listen_for_interrupt();
    let started = Instant::now();
    let mut progress = Progress::new(&run.source, started);
    let mut stopped_at = None;
    while stopped_at.is_none() && run.failed.is_none() && !interrupted.load(Ordering::Relaxed) {
        let lines = run.take()?;
        if lines.is_empty() {
            break;
        }
        stopped_at = run.chunk(lines, &progress).await?;
        progress.tell(run.before + run.read, run.source.position());
    }
    progress.finish();
    run.report(started.elapsed())?;
    if let Some(reason) = run.failed {
        return Err(Failure::Failed(format!("{reason}; run the same command again to go on")));
    }
    if let Some((line, after)) = stopped_at {
        eprintln!("stopped at line {line}; every line before it is imported, {after} of those after it");
        eprintln!(
            "mend the line in its place and run the same command again, or leave such lines out with --on-error skip"
        );
    } else if interrupted.load(Ordering::Relaxed) {
        eprintln!("stopped; run the same command again to go on");
        return Ok(Outcome::Bad);
    }
    Ok(if run.bad == 0 { Outcome::Good } else { Outcome::Bad })
}

impl<I: Import> Run<'_, I> {
    /// Passes over what an earlier run has imported.
    async fn pass_over(&mut self) -> Result<(), Failure> {
        let Some(key) = self.settings.key.as_ref().filter(|_| !self.settings.from_start) else { return Ok(()) };
        let noted = self.app.store.imported_lines(self.settings.tenant, key).await.map_err(store_failed)?;
        while self.before < noted && self.source.next_line()?.is_some() {
            self.before += 1;
        }
        self.settled = self.before;
        if self.before > 0 {
            let lines = grouped(self.before);
            eprintln!("{lines} lines were imported before; going on behind them (--from-start reads them again)");
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Vec<Line>, Failure> {
        let mut lines = Vec::with_capacity(CHUNK);
        while lines.len() < CHUNK
            && let Some(line) = self.source.next_line()?
        {
            lines.push(line);
        }
        Ok(lines)
    }

    /// Imports some lines. Where it is to stop at a bad one and there is one: its number, and how many lines after it were
    /// imported all the same because what is wrong with it showed only when it was charged.
    async fn chunk(&mut self, lines: Vec<Line>, progress: &Progress) -> Result<Option<(u64, usize)>, Failure> {
        let stop = self.settings.on_error == OnError::Stop;
        let numbers: Vec<u64> = lines.iter().map(|line| line.number).collect();
        let mut states: Vec<State> = numbers.iter().map(|_| State::Left).collect();
        let (mut items, mut places) = (Vec::new(), Vec::new());
        for (state, prepared) in states.iter_mut().zip(self.import.prepare(lines).await?) {
            match prepared {
                Ok(item) => {
                    items.push(item);
                    places.push(state);
                }
                Err(reason) => {
                    *state = State::Bad(reason);
                    if stop {
                        break;
                    }
                }
            }
        }
        for (state, result) in places.into_iter().zip(self.import.execute(items).await) {
            *state = match result {
                Ok(()) => State::Done,
                Err(Fault::Bad(reason)) => State::Bad(reason),
                Err(Fault::Failed(reason)) => {
                    self.failed.get_or_insert(reason);
                    State::Left
                }
            };
        }
        self.settle(&states).await?;
        let mut first_bad = None;
        for (index, (state, number)) in states.iter().zip(&numbers).enumerate() {
            if let State::Bad(reason) = state {
                first_bad.get_or_insert((index, *number));
                self.complain(*number, reason, progress);
            }
        }
        let after = |index| states.iter().skip(index).filter(|state| matches!(state, State::Done)).count();
        Ok(first_bad.filter(|_| stop).map(|(index, number)| (number, after(index))))
    }

    /// Counts what came of lines, and notes how far the file is imported without a gap: a later run reads from there, so
    /// that bad lines are tried again.
    async fn settle(&mut self, states: &[State]) -> Result<(), Failure> {
        let whole = self.settled == self.before + self.read;
        let done = states.iter().take_while(|state| matches!(state, State::Done)).count();
        let dealt_with = states.iter().filter(|state| !matches!(state, State::Left)).count();
        self.read += i64::try_from(dealt_with).unwrap_or_default();
        if !whole || done == 0 {
            return Ok(());
        }
        self.settled += i64::try_from(done).unwrap_or_default();
        let Some(key) = &self.settings.key else { return Ok(()) };
        let now = self.app.clock.now();
        self.app.store.note_imported(self.settings.tenant, key, self.settled, now).await.map_err(store_failed)
    }

    fn complain(&mut self, line: u64, reason: &str, progress: &Progress) {
        self.bad += 1;
        if self.bad <= MOST_PRINTED {
            progress.above(|| eprintln!("{}:{line}: {reason}", self.source.name));
        } else if self.bad == MOST_PRINTED + 1 {
            progress.above(|| eprintln!("more bad lines are only counted"));
        }
    }

    fn report(&self, took: Duration) -> Result<(), Failure> {
        let mut rows = vec![("lines read".to_owned(), grouped(self.before + self.read))];
        if self.before > 0 {
            rows.push(("imported before".to_owned(), grouped(self.before)));
        }
        if self.bad > 0 {
            rows.push(("bad lines".to_owned(), grouped(self.bad)));
        }
        rows.extend(self.import.report());
        rows.push(("time".to_owned(), format!("{}.{:03} s", took.as_secs(), took.subsec_millis())));
        if self.read > 0 {
            let rate = u128::try_from(self.read).unwrap_or_default() * 1000 / took.as_millis().max(1);
            rows.push(("lines per second".to_owned(), grouped(rate)));
        }
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
        print(&columns(&[], 1, &rows))
    }
}

/// Set at the first Ctrl-C; the second ends the process.
fn listen_for_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
            eprintln!("stopping after the lines at hand; Ctrl-C again stops at once");
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(1);
        }
    });
    interrupted
}

/// A bar on a terminal, elsewhere a line from time to time.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    told: Instant,
}

impl Progress {
    fn new(source: &Source, started: Instant) -> Self {
        let bar = source.bytes.filter(|_| std::io::stderr().is_terminal()).map(|bytes| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}, {eta} left");
            ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, started, told: started }
    }

    fn tell(&mut self, lines: i64, position: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{} lines", grouped(lines)));
                bar.set_position(position);
            }
            None if self.told.elapsed() >= INTERVAL => {
                self.told = Instant::now();
                eprintln!("{} lines after {} s", grouped(lines), self.started.elapsed().as_secs());
            }
            None => {}
        }
    }

    /// Prints something without the bar in its way.
    fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
