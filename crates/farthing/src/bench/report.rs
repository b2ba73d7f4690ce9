//! What a run came to: medians over its rounds, memory, and the goals that farthing sets itself, each with its figure.
//! Data only; `cli::bench` shows it.

use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;

use super::load::Tally;
use super::workload::Workload;
use super::{BATCH_CONNECTIONS, Bench, Cell, Plan, requests};

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of farthing.
    pub version: &'static str,
    /// `release`, or `debug`, of which the figures say nothing.
    pub build: &'static str,
    /// Which database kept the books.
    pub database: &'static str,
    /// Its settings that matter here.
    pub settings: BTreeMap<String, String>,
    /// How many threads the machine runs at once.
    pub processors: usize,
    /// How long each cell was measured, in milliseconds.
    pub milliseconds: u64,
    /// How often.
    pub rounds: u32,
    /// How many customers there were.
    pub customers: usize,
    /// At how many connections the goals were judged.
    pub goal_connections: usize,
    /// Every kind of request at every number of connections.
    pub rows: Vec<Row>,
    /// How many charges were in farthing's books at the end.
    pub charges: u64,
    /// The memory of the server at the end.
    pub memory: Option<Memory>,
    /// By how many percent of the least the no-op differed between rounds; above 15 the machine did something else, too.
    pub no_op_spread_percent: Option<u64>,
    /// The goals.
    pub goals: Vec<Goal>,
    /// How many requests were not answered as they should be.
    pub errors: u64,
    /// What was wrong with the first of them in each cell.
    pub first_errors: Vec<String>,
}

/// One kind of request at one number of connections.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kind of request.
    pub workload: Workload,
    /// In words.
    pub title: &'static str,
    /// The connections.
    pub connections: usize,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Option<Measured>,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_measured: Option<String>,
}

/// Medians over the rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Measured {
    /// Units in a second.
    pub per_second: u64,
    /// In the slowest round.
    pub per_second_least: u64,
    /// In the fastest round.
    pub per_second_most: u64,
    /// The latency that half of the requests did not exceed, in microseconds.
    pub p50_microseconds: u64,
    /// The latency that 99 of 100 requests did not exceed, in microseconds.
    pub p99_microseconds: u64,
    /// How many requests were not answered as they should be, in all rounds.
    pub errors: u64,
}

/// The memory of a server that is resident, in kilobytes of 1,024 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Memory {
    /// At the end.
    pub resident_kilobytes: u64,
    /// At its most.
    pub peak_kilobytes: u64,
}

/// Where a figure has to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// There or above.
    AtLeast(Decimal),
    /// Below.
    Below(Decimal),
}

/// A goal with its figure.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What the figure is.
    pub name: &'static str,
    /// Where it has to lie.
    pub bound: Bound,
    /// The figure, where what it takes was measured.
    pub figure: Option<Decimal>,
    /// Whether it lies there.
    pub met: Option<bool>,
}

impl Goal {
    pub(super) fn new(name: &'static str, bound: Bound, figure: Option<Decimal>) -> Self {
        let met = figure.map(|figure| match bound {
            Bound::AtLeast(least) => figure >= least,
            Bound::Below(limit) => figure < limit,
        });
        // Rounded towards what misses the goal, so that a figure never shows better than it was judged.
        let strategy = match bound {
            Bound::AtLeast(_) => RoundingStrategy::ToZero,
            Bound::Below(_) => RoundingStrategy::AwayFromZero,
        };
        let figure = figure.map(|figure| figure.round_dp_with_strategy(2, strategy).normalize());
        Self { name, bound, figure, met }
    }
}

impl Measured {
    /// Medians of these rounds, of which there is at least one.
    fn of(tallies: &[Tally]) -> Option<Self> {
        let rates = sorted(tallies.iter().map(Tally::per_second));
        Some(Self {
            per_second: median(&rates)?,
            per_second_least: *rates.first()?,
            per_second_most: *rates.last()?,
            p50_microseconds: median(&sorted(tallies.iter().map(Tally::p50)))?,
            p99_microseconds: median(&sorted(tallies.iter().map(Tally::p99)))?,
            errors: tallies.iter().map(|tally| tally.errors).sum(),
        })
    }
}

fn sorted(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
}

/// The middle one; of an even number the lower of the two.
fn median(sorted: &[u64]) -> Option<u64> {
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

fn ratio(value: u64, of: u64) -> Option<Decimal> {
    Decimal::from(value).checked_div(Decimal::from(of))
}

impl Bench {
    /// What the run came to.
    pub(super) fn report(self, plan: &Plan, database: &'static str, settings: BTreeMap<String, String>) -> Report {
        let memory = self.server.memory();
        let mut rows = Vec::with_capacity(self.rows.len());
        for ((workload, connections), cell) in &self.rows {
            let (measured, not_measured) = match cell {
                Cell::Measured(tallies) => (Measured::of(tallies), None),
                Cell::NotMeasured(reason) => (None, Some(reason.clone())),
            };
            if measured.is_some() || not_measured.is_some() {
                let (workload, connections) = (*workload, *connections);
                rows.push(Row { workload, title: workload.title(), connections, measured, not_measured });
            }
        }
        let figures = Figures { rows: &rows, connections: plan.goal_connections() };
        let no_op = figures.at(Workload::NoOp);
        let spread = no_op.and_then(|no_op| {
            let difference = no_op.per_second_most - no_op.per_second_least;
            (difference * 100).checked_div(no_op.per_second_least)
        });
        Report {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            database,
            settings,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            milliseconds: u64::try_from(plan.measured.as_millis()).unwrap_or(u64::MAX),
            rounds: plan.rounds,
            customers: requests::CUSTOMERS,
            goal_connections: plan.goal_connections(),
            goals: figures.goals(memory),
            charges: self.charges,
            memory,
            no_op_spread_percent: spread,
            errors: self.errors,
            first_errors: self.first_errors,
            rows,
        }
    }
}

/// The rows, to find figures in.
struct Figures<'a> {
    rows: &'a [Row],
    connections: usize,
}

impl Figures<'_> {
    fn find(&self, workload: Workload, connections: usize) -> Option<Measured> {
        let found = self.rows.iter().find(|row| row.workload == workload && row.connections == connections);
        found.and_then(|row| row.measured)
    }

    /// At the connections at which goals are judged.
    fn at(&self, workload: Workload) -> Option<Measured> {
        self.find(workload, self.connections)
    }

    /// How many times as many units in a second one is as the other.
    fn times(&self, workload: Workload, of: Workload) -> Option<Decimal> {
        ratio(self.at(workload)?.per_second, self.at(of)?.per_second)
    }

    fn goals(&self, memory: Option<Memory>) -> Vec<Goal> {
        use Workload::{Charges, ChargesOneCustomer, Checks, NoOp, UsualWay, UsualWayOneCustomer};
        let charges = self.at(Charges);
        let batches = self.find(Workload::Batches, BATCH_CONNECTIONS);
        let least = |hundredths| Bound::AtLeast(Decimal::new(hundredths, 2));
        let below = |limit: u64| Bound::Below(Decimal::from(limit));
        vec![
            Goal::new("charges, of the no-op", least(25), self.times(Charges, NoOp)),
            Goal::new("charges, of the usual way", least(160), self.times(Charges, UsualWay)),
            Goal::new(
                "charges of one customer, of the usual way",
                least(20_00),
                self.times(ChargesOneCustomer, UsualWayOneCustomer),
            ),
            Goal::new("charges of one customer, of those of many", least(100), self.times(ChargesOneCustomer, Charges)),
            Goal::new("checks, of the no-op", least(60), self.times(Checks, NoOp)),
            Goal::new(
                "p99 latency of charges, of their p50",
                below(3),
                charges.and_then(|charges| ratio(charges.p99_microseconds, charges.p50_microseconds)),
            ),
            Goal::new(
                "charges a second in batches of 100",
                Bound::AtLeast(Decimal::from(45_000)),
                batches.map(|batches| Decimal::from(batches.per_second)),
            ),
            Goal::new(
                "memory at its most, in MB",
                below(100),
                memory.and_then(|memory| ratio(memory.peak_kilobytes * 1_024, 1_000_000)),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: Workload, connections: usize, per_second: u64) -> Row {
        let measured = Measured {
            per_second,
            per_second_least: per_second,
            per_second_most: per_second,
            p50_microseconds: 2_000,
            p99_microseconds: 5_980,
            errors: 0,
        };
        Row { workload, title: workload.title(), connections, measured: Some(measured), not_measured: None }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[1, 5, 9]), Some(5));
        assert_eq!(median(&[1, 5, 9, 10]), Some(5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn goals_are_judged_on_what_was_measured_at_their_connections() {
        let rows = [
            row(Workload::NoOp, 64, 100_000),
            row(Workload::Charges, 64, 24_999),
            row(Workload::Charges, 256, 90_000),
            row(Workload::ChargesOneCustomer, 64, 24_999),
            row(Workload::Checks, 64, 60_000),
            row(Workload::Batches, 16, 45_000),
        ];
        let memory = Memory { resident_kilobytes: 50_000, peak_kilobytes: 97_657 };
        let goals = Figures { rows: &rows, connections: 64 }.goals(Some(memory));
        let shown: Vec<_> = goals.iter().map(|goal| (goal.figure.map(|figure| figure.to_string()), goal.met)).collect();
        let figure = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                (figure("0.24"), Some(false)),
                (None, None),
                (None, None),
                (figure("1"), Some(true)),
                (figure("0.6"), Some(true)),
                (figure("2.99"), Some(true)),
                (figure("45000"), Some(true)),
                (figure("100.01"), Some(false)),
            ]
        );
    }
}
