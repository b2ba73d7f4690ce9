//! Periods: the calendar months, in the tenant's time zone, over which usage is counted.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The instant at which the calendar month of `at` began in `zone`. Daylight saving is the zone's own affair: a month
/// begins at its first instant there, whatever the offset.
#[must_use]
pub fn month_start(at: Timestamp, zone: &TimeZone) -> Timestamp {
    let date = at.to_zoned(zone.clone()).date();
    date.first_of_month().to_zoned(zone.clone()).map_or(at, |start| start.timestamp())
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
}
