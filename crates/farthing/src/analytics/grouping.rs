//! What the rows of a report are by: days or months, subjects, a dimension, plans, failures.

use super::{AnalyticsError, Step};

/// What the rows of a report are by.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grouping {
    /// By time.
    pub step: Step,
    /// One row for each subject.
    pub subject: bool,
    /// One row for each value of this dimension.
    pub dimension: Option<String>,
    /// One row for each plan.
    pub plan: bool,
    /// One row for each reason why payments did not work.
    pub failure: bool,
}

impl Grouping {
    /// Reads words with commas between them, such as `day,subject`; only the words that a report takes.
    ///
    /// # Errors
    /// `Parameter` for any other word, and for one that comes twice.
    pub fn parse(text: &str, words: &[&str]) -> Result<Self, AnalyticsError> {
        let wrong = || AnalyticsError::Parameter {
            name: "group",
            detail: format!("`group` is one or more of these, with commas between them: {}", words.join(", ")),
        };
        let mut grouping = Self::default();
        for word in text.split(',') {
            let dimension = word.strip_prefix("dimension:");
            let known = if dimension.is_some() { "dimension:NAME" } else { word };
            if !words.contains(&known) {
                return Err(wrong());
            }
            let free = match word {
                "day" | "month" => grouping.step == Step::Whole,
                "subject" => !grouping.subject,
                "plan" => !grouping.plan,
                "failure" => !grouping.failure,
                _ => grouping.dimension.is_none() && dimension.is_some_and(is_word),
            };
            if !free {
                return Err(wrong());
            }
            match word {
                "day" => grouping.step = Step::Day,
                "month" => grouping.step = Step::Month,
                "subject" => grouping.subject = true,
                "plan" => grouping.plan = true,
                "failure" => grouping.failure = true,
                _ => grouping.dimension = dimension.map(str::to_owned),
            }
        }
        Ok(grouping)
    }
}

/// Whether it can be the name of a dimension. The databases read more into a name with other characters than these.
fn is_word(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_report_takes_and_each_once() {
        let words = ["day", "month", "subject", "dimension:NAME"];
        let parsed = Grouping::parse("day,subject,dimension:model", &words).unwrap();
        let expected =
            Grouping { step: Step::Day, subject: true, dimension: Some("model".to_owned()), ..Grouping::default() };
        assert_eq!(parsed, expected);
        for wrong in
            ["", "day,month", "plan", "subject,subject", "dimension:", "dimension:a->b", "day, subject", "meter"]
        {
            assert!(Grouping::parse(wrong, &words).is_err(), "{wrong}");
        }
    }
}
