//! The time that a report is about, cut into the periods that it is told by, in the tenant's time zone.

use std::collections::BTreeSet;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::AnalyticsError;
use crate::store::Segment;

/// The most days that a report is about.
const MOST_DAYS: i64 = 400;

const DAY_SECONDS: i64 = 86_400;

/// How the time of a report is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Step {
    /// Not at all.
    #[default]
    Whole,
    /// By local days.
    Day,
    /// By local months.
    Month,
}

/// The time that a report is about.
#[derive(Clone, Debug)]
pub struct Range {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// Where its days begin.
    pub zone: TimeZone,
    /// How it is cut.
    pub step: Step,
}

impl Range {
    /// From `from` on and before `to`, each an instant or a local day; from the beginning of the month and up to now where
    /// nothing is said.
    ///
    /// # Errors
    /// `Parameter` for texts that are no time, for no time at all, and for more than 400 days.
    pub fn new(
        from: Option<&str>,
        to: Option<&str>,
        step: Step,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<Self, AnalyticsError> {
        let wrong = |name, detail: &str| AnalyticsError::Parameter { name, detail: detail.to_owned() };
        let to = to.map_or(Some(now), |text| instant(text, zone)).ok_or_else(|| wrong("to", NO_TIME))?;
        let from = match from {
            Some(text) => instant(text, zone),
            None => {
                to.checked_sub(SignedDuration::from_micros(1)).ok().map(|last| engine::period::month_start(last, zone))
            }
        };
        let from = from.ok_or_else(|| wrong("from", NO_TIME))?;
        if from >= to {
            return Err(wrong("to", "`to` has to be later than `from`"));
        }
        // Days can be an hour longer than 24.
        if to.as_second() - from.as_second() > MOST_DAYS * DAY_SECONDS + 3_600 {
            return Err(wrong("from", "a report is about 400 days at the most"));
        }
        Ok(Self { from, to, zone: zone.clone(), step })
    }

    /// The stretches of it in which local time is as far from UTC all along, and none of which lies in two periods.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut cuts: BTreeSet<Timestamp> = self
            .zone
            .following(self.from)
            .map(|transition| transition.timestamp())
            .take_while(|at| *at < self.to)
            .collect();
        if self.step == Step::Month {
            cuts.extend(self.starts());
        }
        cuts.insert(self.from);
        let ends = cuts.iter().skip(1).chain([&self.to]);
        let segment = |(start, end): (&Timestamp, &Timestamp)| Segment {
            start: *start,
            end: *end,
            offset: i64::from(self.zone.to_offset(*start).seconds()) * 1_000_000,
            label: match self.step {
                Step::Whole => Some(0),
                Step::Day => None,
                Step::Month => day_number(start.to_zoned(self.zone.clone()).date().first_of_month()),
            },
        };
        cuts.iter().zip(ends).map(segment).collect()
    }

    /// The name of the period that sums are counted under.
    pub(super) fn name(&self, day: i64) -> Option<String> {
        let format = match self.step {
            Step::Whole => return None,
            Step::Day => "%Y-%m-%d",
            Step::Month => "%Y-%m",
        };
        let date = Timestamp::from_second(day.checked_mul(DAY_SECONDS)?).ok()?.to_zoned(TimeZone::UTC).date();
        Some(date.strftime(format).to_string())
    }

    /// Its periods, each with its name and the first instant after it.
    pub(super) fn periods(&self) -> Vec<(Option<String>, Timestamp)> {
        let starts: Vec<Timestamp> = std::iter::once(self.from).chain(self.starts()).collect();
        let ends = starts.iter().skip(1).chain([&self.to]);
        let name = |start: &Timestamp| {
            let date = start.to_zoned(self.zone.clone()).date();
            let date = if self.step == Step::Month { date.first_of_month() } else { date };
            day_number(date).and_then(|day| self.name(day))
        };
        starts.iter().zip(ends).map(|(start, end)| (name(start), *end)).collect()
    }

    /// When its periods begin, but for the first.
    fn starts(&self) -> Vec<Timestamp> {
        let date = self.from.to_zoned(self.zone.clone()).date();
        let next = |number: i64| match self.step {
            Step::Whole => None,
            Step::Day => date.checked_add(number.days()).ok(),
            Step::Month => date.first_of_month().checked_add(number.months()).ok(),
        };
        (1..=MOST_DAYS + 1)
            .map_while(next)
            .map_while(|date| date.to_zoned(self.zone.clone()).ok())
            .map(|start| start.timestamp())
            .take_while(|start| *start < self.to)
            .collect()
    }
}

const NO_TIME: &str =
    "expected a day such as 2026-03-02, or a time by RFC 3339 such as 2026-03-02T09:00:00Z, from 1970 on";

/// An instant by RFC 3339, or the first of a local day.
fn instant(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let dashed = bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-');
    if !dashed || !bytes.first()?.is_ascii_digit() {
        return None;
    }
    let at = if bytes.len() == 10 {
        text.parse::<Date>().ok()?.to_zoned(zone.clone()).ok()?.timestamp()
    } else if bytes.get(10) == Some(&b'T') {
        let at: Timestamp = text.parse().ok()?;
        Timestamp::from_microsecond(at.as_microsecond()).ok()?
    } else {
        return None;
    };
    // One day more, so that local days are never counted below none.
    (at.as_second() >= DAY_SECONDS).then_some(at)
}

/// Days since 1 January 1970.
fn day_number(date: Date) -> Option<i64> {
    let midnight = date.to_zoned(TimeZone::UTC).ok()?;
    Some(midnight.timestamp().as_second().div_euclid(DAY_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: &str, to: &str, step: Step, zone: &str) -> Range {
        let zone = TimeZone::get(zone).unwrap();
        Range::new(Some(from), Some(to), step, &zone, "2026-03-15T12:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn days_are_the_tenants_own_over_a_change_of_the_clock() {
        let range = range("2026-03-28", "2026-03-31", Step::Day, "Europe/Berlin");
        let segments = range.segments();
        let shown: Vec<_> =
            segments.iter().map(|part| format!("{} {} {}", part.start, part.end, part.offset)).collect();
        assert_eq!(
            shown,
            [
                "2026-03-27T23:00:00Z 2026-03-29T01:00:00Z 3600000000",
                "2026-03-29T01:00:00Z 2026-03-30T22:00:00Z 7200000000"
            ]
        );
        // Every hour has the day that the clock on the wall shows.
        for hour in 0..71 {
            let at = range.from + SignedDuration::from_hours(hour);
            let part = segments.iter().find(|part| part.start <= at && at < part.end).unwrap();
            let day = (at.as_microsecond() + part.offset) / 86_400_000_000;
            assert_eq!(range.name(day), Some(at.to_zoned(range.zone.clone()).date().to_string()));
        }
        let names: Vec<_> = range.periods().into_iter().filter_map(|(name, _)| name).collect();
        assert_eq!(names, ["2026-03-28", "2026-03-29", "2026-03-30"]);
    }

    #[test]
    fn months_are_cut_where_they_begin() {
        let range = range("2026-01-20", "2026-04-02", Step::Month, "America/New_York");
        let labels: Vec<_> = range.segments().iter().map(|part| range.name(part.label.unwrap()).unwrap()).collect();
        assert_eq!(labels, ["2026-01", "2026-02", "2026-03", "2026-03", "2026-04"]);
        let periods: Vec<_> =
            range.periods().iter().map(|(name, end)| format!("{} {end}", name.as_ref().unwrap())).collect();
        assert_eq!(
            periods,
            [
                "2026-01 2026-02-01T05:00:00Z",
                "2026-02 2026-03-01T05:00:00Z",
                "2026-03 2026-04-01T04:00:00Z",
                "2026-04 2026-04-02T04:00:00Z"
            ]
        );
    }

    #[test]
    fn where_nothing_is_said_it_is_the_month_up_to_now() {
        let now = "2026-03-15T12:00:00Z".parse().unwrap();
        let range = Range::new(None, None, Step::Whole, &TimeZone::UTC, now).unwrap();
        assert_eq!((range.from.to_string(), range.to), ("2026-03-01T00:00:00Z".to_owned(), now));
        assert_eq!(range.periods(), [(None, now)]);
        for (from, to) in [
            ("2026-03-02", "2026-03-02"),
            ("2025-01-01", "2026-03-02"),
            ("20260302", "2026-03-03"),
            ("2026-02-30", "2026-03-03"),
            ("2026-03-02 10:00:00Z", "2026-03-03"),
            ("1969-12-31", "1970-02-01"),
            ("2026-03-01", "soon"),
        ] {
            let range = Range::new(Some(from), Some(to), Step::Day, &TimeZone::UTC, now);
            assert!(matches!(range, Err(AnalyticsError::Parameter { .. })), "{from} {to}");
        }
    }
}
