//! The card form that the checkout, the portal and the invoice page share: what was typed, and what was wrong with it.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::parameters::Parameters;

/// What is wrong, and with which field; without one, with the payment as a whole.
pub(crate) struct Problem {
    field: Option<&'static str>,
    message: String,
}

/// The form, as the page shows it again after an error: without the card.
#[derive(Default)]
pub(crate) struct CardFields {
    pub(crate) name: String,
    pub(crate) postal_code: String,
    pub(crate) problem: Option<Problem>,
}

/// The cards that the page offers: number, the number in groups, and what it does.
const TESTS: &[(&str, &str, &str)] = &[
    ("4242424242424242", "4242 4242 4242 4242", "succeeds"),
    ("4000002760003184", "4000 0027 6000 3184", "asks for 3-D Secure"),
    ("4000002500003155", "4000 0025 0000 3155", "asks for 3-D Secure once"),
    ("4000000000000002", "4000 0000 0000 0002", "is declined"),
    ("4000000000009995", "4000 0000 0000 9995", "insufficient funds"),
    ("4000008260003178", "4000 0082 6000 3178", "3-D Secure, then insufficient funds"),
    ("4000000000000341", "4000 0000 0000 0341", "can be saved, but not charged"),
    ("4000000000000259", "4000 0000 0000 0259", "succeeds, then is disputed"),
];

impl CardFields {
    /// Reads the form: what to show again, and the card, as `payment_method_data[card]` has it.
    pub(crate) fn read(parameters: &Parameters) -> Result<(Self, Result<Value, Problem>), ApiError> {
        let text = |key: &str| Ok::<_, ApiError>(parameters.unsettable_text(key)?.flatten().unwrap_or_default());
        let fields = Self { name: text("name")?, postal_code: text("postal")?, problem: None };
        let (number, expiry, cvc) = (text("number")?, text("expiry")?, text("cvc")?);
        Ok((fields, card(&number, &expiry, &cvc)))
    }

    /// The form with what the API has said against it.
    pub(crate) fn refused(self, error: &ApiError) -> Self {
        Self { problem: Some(Problem::of(error)), ..self }
    }

    /// What is wrong with a field; an empty text if nothing.
    pub(crate) fn error(&self, field: &str) -> &str {
        let problem = self.problem.as_ref().filter(|problem| problem.field == Some(field));
        problem.map_or("", |problem| &problem.message)
    }

    /// Whether something is wrong with a field.
    pub(crate) fn has_error(&self, field: &str) -> bool {
        !self.error(field).is_empty()
    }

    /// What is wrong, for the top of the form.
    pub(crate) fn message(&self) -> Option<&str> {
        self.problem.as_ref().map(|problem| problem.message.as_str())
    }

    /// The cards to try.
    pub(crate) fn tests(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        TESTS
    }
}

impl Problem {
    /// About the payment as a whole, or about a field.
    pub(crate) fn new(field: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// What the API says, at the field that it means.
    pub(crate) fn of(error: &ApiError) -> Self {
        let field = match error.text("code") {
            Some("incorrect_number" | "invalid_number") => Some("number"),
            Some("incorrect_cvc" | "invalid_cvc") => Some("cvc"),
            Some("expired_card" | "invalid_expiry_month" | "invalid_expiry_year") => Some("expiry"),
            _ => None,
        };
        Self::new(field, error.text("message").unwrap_or("The payment did not work."))
    }

    /// What an intent says about its last attempt.
    pub(crate) fn of_intent(intent: &Value) -> Option<Self> {
        let error = if intent["object"] == "setup_intent" { "last_setup_error" } else { "last_payment_error" };
        intent[error]["message"].as_str().map(|message| Self::new(None, message))
    }
}

fn card(number: &str, expiry: &str, cvc: &str) -> Result<Value, Problem> {
    if number.trim().is_empty() {
        return Err(Problem::new(Some("number"), "Enter the card number."));
    }
    let digits: String = expiry.chars().filter(char::is_ascii_digit).collect();
    let incomplete = || Problem::new(Some("expiry"), "Enter the expiry date as month and year: 12 / 34.");
    // Two digits of the year, or, as browsers fill it in, four.
    let (month, year) = match digits.len() {
        3 => digits.split_at_checked(1),
        4 | 6 => digits.split_at_checked(2),
        _ => None,
    }
    .ok_or_else(incomplete)?;
    if cvc.trim().is_empty() {
        return Err(Problem::new(Some("cvc"), "Enter the security code."));
    }
    Ok(json!({"number": number, "exp_month": month, "exp_year": year, "cvc": cvc.trim()}))
}

#[cfg(test)]
mod tests {
    use super::card;

    #[test]
    fn expiry_dates_as_people_and_browsers_write_them() {
        for (text, month, year) in [("12 / 34", "12", "34"), ("1/30", "1", "30"), ("01/2030", "01", "2030")] {
            let Ok(card) = card("4242", text, "123") else { panic!("{text} is refused") };
            assert_eq!((&card["exp_month"], &card["exp_year"]), (&month.into(), &year.into()));
        }
        assert!(card("4242", "1", "123").is_err_and(|problem| problem.field == Some("expiry")));
        assert!(card("4242", "12/34", "").is_err_and(|problem| problem.field == Some("cvc")));
    }
}
