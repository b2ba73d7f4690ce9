//! Billing periods: where they begin and end, counted from an anchor. Months and years keep the anchor's day, or take the last
//! of a shorter month (docs.stripe.com/billing/subscriptions/billing-cycle). All of it is in UTC.

use jiff::{Span, Timestamp, tz::TimeZone};
use serde_json::Value;

/// A day in seconds.
pub(crate) const DAY: i64 = 86_400;

/// An hour in seconds.
pub(crate) const HOUR: i64 = 3_600;

/// How long a billing period is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    unit: String,
    count: i64,
}

impl Interval {
    /// The interval of a recurring price; none for one that is paid once.
    pub(crate) fn of(price: &Value) -> Option<Self> {
        let recurring = &price["recurring"];
        let unit = recurring["interval"].as_str()?.to_owned();
        Some(Self { unit, count: recurring["interval_count"].as_i64().unwrap_or(1).max(1) })
    }

    /// Months, as coupons count them.
    pub(crate) fn months(count: i64) -> Self {
        Self { unit: "month".to_owned(), count }
    }

    /// The start of the period that is `number` after the one that starts at the anchor.
    pub(crate) fn start(&self, anchor: i64, number: i64) -> i64 {
        let units = self.count.saturating_mul(number);
        match self.unit.as_str() {
            "day" => anchor.saturating_add(units.saturating_mul(DAY)),
            "week" => anchor.saturating_add(units.saturating_mul(7 * DAY)),
            "year" => add_months(anchor, units.saturating_mul(12)),
            _ => add_months(anchor, units),
        }
    }

    /// Start and end of the period that a second lies in.
    pub(crate) fn around(&self, anchor: i64, at: i64) -> (i64, i64) {
        let days = match self.unit.as_str() {
            "day" => 1,
            "week" => 7,
            "year" => 365,
            _ => 30,
        };
        let mut number = at.saturating_sub(anchor).div_euclid(days * DAY * self.count);
        while self.start(anchor, number) > at {
            number -= 1;
        }
        while self.start(anchor, number + 1) <= at {
            number += 1;
        }
        (self.start(anchor, number), self.start(anchor, number + 1))
    }

    /// About how long it is, in seconds: to compare intervals.
    pub(crate) fn length(&self) -> i64 {
        self.start(0, 1)
    }
}

/// A second, some months later; a day that the month does not have becomes its last.
fn add_months(second: i64, months: i64) -> i64 {
    let moved = Timestamp::from_second(second).ok().and_then(|start| {
        let span = Span::new().try_months(months).ok()?;
        let moved = start.to_zoned(TimeZone::UTC).datetime().checked_add(span).ok()?;
        Some(moved.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
    });
    // Beyond the calendar's end, an average month will do.
    moved.unwrap_or_else(|| second.saturating_add(months.saturating_mul(30 * DAY)))
}

/// A day as Stripe writes it into descriptions: `15 Feb 2026`.
pub(crate) fn day(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.strftime("%d %b %Y").to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::Interval;

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn months_keep_the_anchor_s_day() {
        let month = Interval::months(1);
        let anchor = second("2025-01-31T10:00:00Z");
        let starts = ["2025-02-28T10:00:00Z", "2025-03-31T10:00:00Z", "2025-04-30T10:00:00Z"];
        for (number, start) in (1..).zip(starts) {
            assert_eq!(month.start(anchor, number), second(start));
        }
        let february = (second("2025-02-28T10:00:00Z"), second("2025-03-31T10:00:00Z"));
        assert_eq!(month.around(anchor, february.0), february);
        assert_eq!(month.around(anchor, february.1 - 1), february);
        let before = (second("2024-12-31T10:00:00Z"), anchor);
        assert_eq!(month.around(anchor, anchor - 1), before);
    }

    #[test]
    fn a_leap_day_comes_back_after_four_years() {
        let year = Interval::of(&json!({"recurring": {"interval": "year", "interval_count": 1}})).unwrap();
        let anchor = second("2024-02-29T00:00:00Z");
        assert_eq!(year.start(anchor, 1), second("2025-02-28T00:00:00Z"));
        assert_eq!(year.start(anchor, 4), second("2028-02-29T00:00:00Z"));
    }
}
