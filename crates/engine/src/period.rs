//! Periods: the calendar months over which usage is counted, and the billing periods of subscriptions.
//!
//! A billing period is anchored to the moment a subscription began, and every boundary is counted from that anchor, not
//! from the boundary before: a month from 31 January ends on 28 February, and the next on 31 March. Boundaries keep the
//! anchor's local time in the tenant's zone, whatever daylight saving does to the offset.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// The unit of an interval.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalUnit {
    /// Calendar days.
    Day,
    /// Seven calendar days.
    Week,
    /// Calendar months.
    Month,
    /// Calendar years.
    Year,
}

/// How long a billing period is, by the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Of what.
    pub unit: IntervalUnit,
    /// How many; at least one.
    pub count: u16,
}

impl Interval {
    /// One month.
    pub const MONTH: Self = Self { unit: IntervalUnit::Month, count: 1 };

    /// So many of these intervals as a span; nothing where that is beyond the calendar.
    fn times(self, number: i64) -> Option<Span> {
        let units = number.checked_mul(i64::from(self.count.max(1)))?;
        let span = Span::new();
        match self.unit {
            IntervalUnit::Day => span.try_days(units),
            IntervalUnit::Week => span.try_weeks(units),
            IntervalUnit::Month => span.try_months(units),
            IntervalUnit::Year => span.try_years(units),
        }
        .ok()
    }

    /// A number of seconds that no interval of this kind exceeds, but for changes of the clock.
    fn longest_seconds(self) -> i64 {
        let days = match self.unit {
            IntervalUnit::Day => 1,
            IntervalUnit::Week => 7,
            IntervalUnit::Month => 31,
            IntervalUnit::Year => 366,
        };
        days * DAY_SECONDS * i64::from(self.count.max(1))
    }
}

/// Seconds in a day without a change of the clock.
const DAY_SECONDS: i64 = 86_400;

/// From an instant, up to and without another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Period {
    /// Its first instant.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub start: Timestamp,
    /// The first instant after it.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub end: Timestamp,
}

impl Period {
    /// Whether the instant lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// The boundary that lies `number` intervals after the anchor. A day that the month does not have is its last one; a
/// local time that a change of the clock skips is the one as long after midnight.
///
/// # Errors
/// `AmountOutOfRange` where it lies beyond the calendar.
pub fn boundary(anchor: Timestamp, interval: Interval, number: i64, zone: &TimeZone) -> Result<Timestamp, Refusal> {
    let local = zone.to_datetime(anchor);
    let span = interval.times(number).ok_or(Refusal::AmountOutOfRange)?;
    let moved = local.checked_add(span).map_err(|_| Refusal::AmountOutOfRange)?;
    if number == 0 {
        return Ok(anchor);
    }
    zone.to_ambiguous_timestamp(moved).compatible().map_err(|_| Refusal::AmountOutOfRange)
}

/// The billing period in which an instant lies, of those counted from the anchor. An instant before the anchor lies in
/// the first.
///
/// # Errors
/// `AmountOutOfRange` where it lies beyond the calendar.
pub fn period_at(anchor: Timestamp, interval: Interval, at: Timestamp, zone: &TimeZone) -> Result<Period, Refusal> {
    // No zone's clock was ever changed by more than a day; one more is for the seconds that are cut off.
    let elapsed = at.as_second().saturating_sub(anchor.as_second() + 2 * DAY_SECONDS).max(0);
    let mut number = elapsed / interval.longest_seconds();
    let mut start = boundary(anchor, interval, number, zone)?;
    loop {
        let end = boundary(anchor, interval, number + 1, zone)?;
        if end > at {
            return Ok(Period { start, end });
        }
        (start, number) = (end, number + 1);
    }
}

/// The instant at which the calendar month of `at` began in `zone`. Daylight saving is the zone's own affair: a month
/// begins at its first instant there, whatever the offset.
#[must_use]
pub fn month_start(at: Timestamp, zone: &TimeZone) -> Timestamp {
    let date = at.to_zoned(zone.clone()).date();
    date.first_of_month().to_zoned(zone.clone()).map_or(at, |start| start.timestamp())
}

/// The calendar month of `at` in `zone`.
///
/// # Errors
/// `AmountOutOfRange` where it lies beyond the calendar.
pub fn month_of(at: Timestamp, zone: &TimeZone) -> Result<Period, Refusal> {
    let start = month_start(at, zone);
    Ok(Period { start, end: boundary(start, Interval::MONTH, 1, zone)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_at_local_midnight() {
        for (zone, at, start) in [
            ("UTC", "2026-02-28T23:59:59.999999Z", "2026-02-01T00:00:00Z"),
            ("UTC", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("Europe/Berlin", "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z"),
            ("Europe/Berlin", "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z"),
            ("America/Los_Angeles", "2026-11-20T00:00:00Z", "2026-11-01T07:00:00Z"),
        ] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(month_start(at.parse().unwrap(), &zone), start.parse().unwrap(), "{at}");
        }
    }

    /// The first boundaries from an anchor, as local times.
    fn boundaries(anchor: &str, interval: Interval, zone: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let anchor = anchor.parse().unwrap();
        let local = |number| {
            let at = boundary(anchor, interval, number, &zone).unwrap();
            at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M%:z").to_string()
        };
        (0..5).map(local).collect()
    }

    const YEAR: Interval = Interval { unit: IntervalUnit::Year, count: 1 };

    #[test]
    fn a_month_from_the_31st_ends_on_the_last_day() {
        assert_eq!(
            boundaries("2026-01-31T00:00:00Z", Interval::MONTH, "UTC"),
            [
                "2026-01-31 00:00+00:00",
                "2026-02-28 00:00+00:00",
                "2026-03-31 00:00+00:00",
                "2026-04-30 00:00+00:00",
                "2026-05-31 00:00+00:00"
            ]
        );
        assert_eq!(boundaries("2028-01-31T00:00:00Z", Interval::MONTH, "UTC")[1], "2028-02-29 00:00+00:00");
        let quarters = Interval { count: 3, ..Interval::MONTH };
        assert_eq!(boundaries("2025-11-30T12:00:00Z", quarters, "UTC")[1], "2026-02-28 12:00+00:00");
    }

    #[test]
    fn a_year_from_a_leap_day_ends_on_the_28th_until_the_next() {
        assert_eq!(
            boundaries("2024-02-29T12:00:00Z", YEAR, "UTC"),
            [
                "2024-02-29 12:00+00:00",
                "2025-02-28 12:00+00:00",
                "2026-02-28 12:00+00:00",
                "2027-02-28 12:00+00:00",
                "2028-02-29 12:00+00:00"
            ]
        );
    }

    #[test]
    fn boundaries_keep_the_local_time() {
        assert_eq!(
            boundaries("2026-02-15T11:00:00Z", Interval::MONTH, "Europe/Berlin")[1..3],
            ["2026-03-15 12:00+01:00", "2026-04-15 12:00+02:00"]
        );
        // 02:30 does not exist on 29 March 2026 in Berlin; the boundary is an hour later by the clock, and then again 02:30.
        let days = Interval { unit: IntervalUnit::Day, count: 1 };
        assert_eq!(
            boundaries("2026-03-28T01:30:00Z", days, "Europe/Berlin")[..3],
            ["2026-03-28 02:30+01:00", "2026-03-29 03:30+02:00", "2026-03-30 02:30+02:00"]
        );
        // It comes twice on 25 October; the first one counts.
        assert_eq!(boundaries("2026-10-24T00:30:00Z", days, "Europe/Berlin")[1], "2026-10-25 02:30+02:00");
        let weeks = Interval { unit: IntervalUnit::Week, count: 2 };
        assert_eq!(boundaries("2026-10-20T10:00:00Z", weeks, "America/New_York")[1], "2026-11-03 06:00-05:00");
    }

    #[test]
    fn every_instant_lies_in_one_period() {
        let zone = TimeZone::get("America/Santiago").unwrap();
        let anchor: Timestamp = "2023-08-31T03:30:00Z".parse().unwrap();
        for interval in [Interval::MONTH, YEAR, Interval { unit: IntervalUnit::Day, count: 1 }] {
            let mut start = anchor;
            for number in 1..200 {
                let end = boundary(anchor, interval, number, &zone).unwrap();
                let period = Period { start, end };
                assert!(start < end);
                for at in [start, Timestamp::from_microsecond(end.as_microsecond() - 1).unwrap()] {
                    assert_eq!(period_at(anchor, interval, at, &zone), Ok(period));
                    assert!(period.contains(at));
                }
                start = end;
            }
        }
    }
}
