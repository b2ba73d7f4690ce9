//! The auditor of invoices: says what each invoice of a customer has to be, from what was used and the price list alone,
//! by arithmetic of its own.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

/// What a plan of the price list is, in its plainest words. Amounts of money are in cents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For each seat and month.
    pub(crate) fee: i64,
    /// Tokens that each seat has free in a month.
    pub(crate) allowance: i64,
    /// Of those, the most that go over to the next month.
    pub(crate) rollover: i64,
    /// For a thousand tokens that are read, in millionths of a dollar.
    pub(crate) read: i64,
    /// For a thousand tokens that are written, in millionths of a dollar: up to so many in a month, and beyond.
    pub(crate) written: (i64, i64, i64),
    /// What usage comes to at least.
    pub(crate) commitment: i64,
}

/// What was used at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) at: Timestamp,
    pub(crate) read: i64,
    pub(crate) written: i64,
}

/// What an invoice has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bill {
    pub(crate) at: Timestamp,
    pub(crate) discount: i64,
    pub(crate) tax: i64,
    pub(crate) total: i64,
    pub(crate) carried: i64,
}

/// A thousandth of a product, where a half goes to the even side.
fn thousandth(product: i64) -> i64 {
    let (whole, rest) = (product / 1000, product % 1000);
    whole + i64::from(rest > 500 || (rest == 500 && whole % 2 == 1))
}

/// So many percent of an amount, where a half goes away from nought.
fn percent(amount: i64, percent: i64) -> i64 {
    let part = (amount.abs() * percent * 2 + 100) / 200;
    if amount < 0 { -part } else { part }
}

fn month_after(anchor: Timestamp, months: i64) -> Timestamp {
    let anchor: Zoned = anchor.to_zoned(TimeZone::UTC);
    anchor.checked_add(Span::new().months(months)).expect("a date").timestamp()
}

/// What is owed of a month, by what it is for.
struct Month {
    read: i64,
    written: i64,
}

impl Month {
    /// What is read is rounded at each use; what is written is priced by the total of the month, and rounded there.
    fn of(terms: &Terms, free: &mut i64, uses: impl Iterator<Item = Use>) -> Self {
        let not_free = |quantity: i64, free: &mut i64| {
            let covered = quantity.min(*free);
            *free -= covered;
            quantity - covered
        };
        let (mut read, mut written) = (0, 0);
        for used in uses {
            read += thousandth(not_free(used.read, free) * terms.read);
            written += not_free(used.written, free);
        }
        let (first, low, high) = terms.written;
        let cheap = written.min(first);
        Self { read, written: thousandth(cheap * low + (written - cheap) * high) }
    }
}

/// The bills of a customer with so many seats that began then, month after month until the end; `off` percent are taken
/// off the first so many. Bills below `minimum` go to the next. What is left owed in the end, in millionths.
pub(crate) fn bills(
    (terms, seats): (&Terms, i64),
    (off, times): (i64, usize),
    (anchor, end): (Timestamp, Timestamp),
    uses: &[Use],
    (vat, minimum): (i64, i64),
) -> (Vec<Bill>, i64) {
    let (mut bills, mut carried, mut fractions, mut free) = (Vec::new(), 0, 0, 0);
    // What earlier months left because there was nothing to bill then, each on its own.
    let mut waiting: Vec<i64> = Vec::new();
    for month in 0.. {
        let (from, at) = (month_after(anchor, (month - 1).max(0)), month_after(anchor, month));
        if at > end {
            let rest = Month::of(terms, &mut free, uses.iter().copied().filter(|used| used.at >= from));
            return (bills, fractions + waiting.iter().sum::<i64>() + rest.read + rest.written);
        }
        let used = uses.iter().copied().filter(|used| used.at >= from && used.at < at);
        let owed = Month::of(terms, &mut free, used);
        free = terms.allowance * seats + free.min(terms.rollover * i64::from(month > 0));
        waiting.extend([owed.read, owed.written].into_iter().filter(|owed| *owed > 0));
        let mut lines: Vec<i64> = waiting.iter().map(|owed| owed / 10_000).collect();
        let pool = fractions + waiting.iter().map(|owed| owed % 10_000).sum::<i64>();
        lines.push(pool / 10_000);
        if month > 0 {
            let in_lines = owed.read / 10_000 + owed.written / 10_000;
            let in_all = (owed.read + owed.written) / 10_000;
            lines.push((terms.commitment - in_lines.max(in_all)).max(0));
        }
        lines.push(terms.fee * seats);
        if lines.iter().all(|line| *line == 0) {
            continue;
        }
        (waiting, fractions) = (Vec::new(), pool % 10_000);
        let off = if bills.len() < times { off } else { 0 };
        let discounts: Vec<i64> = lines.iter().map(|line| percent(*line, off)).collect();
        let taxes = lines.iter().zip(&discounts).map(|(line, discount)| percent(line - discount, vat));
        let (discount, tax) = (discounts.iter().sum(), taxes.sum());
        let total = lines.iter().sum::<i64>() - discount + tax + carried;
        carried = if total < minimum { total } else { 0 };
        bills.push(Bill { at, discount, tax, total, carried });
    }
    unreachable!("the year ends")
}

#[test]
fn the_auditor_can_count() {
    assert_eq!([1_499, 1_500, 2_500, 2_501].map(thousandth), [1, 2, 2, 3]);
    assert_eq!([50, 150, -50].map(|amount| percent(amount, 19)), [10, 29, -10]);
    let anchor = "2026-01-31T09:00:00Z".parse().unwrap();
    assert_eq!(
        [1, 2].map(|months| month_after(anchor, months).to_string()),
        ["2026-02-28T09:00:00Z", "2026-03-31T09:00:00Z"]
    );
}
