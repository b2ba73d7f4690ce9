//! Test cards: their numbers, the names that stand for them (`pm_card_NAME`, `tok_NAME`), and what they do
//! (docs.stripe.com/testing). Which of them a payment method is, is hidden beside it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::parameters::Parameters;

/// When a card asks its holder for 3-D Secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// Never by itself.
    Never,
    /// On-session always; off-session unless it was set up for that.
    UnlessSetUp,
    /// On-session always, off-session never.
    OnSession,
    /// Always, so that nothing works off-session.
    Always,
}

/// What comes after a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// Nothing special.
    Quiet,
    /// The holder disputes it, for this reason.
    Dispute(&'static str),
    /// A refund fails after a while.
    RefundFails,
    /// A refund is pending for a while.
    RefundPends,
    /// The money is available at once.
    AvailableAtOnce,
}

/// Why a card is declined: the error code and, for `card_declined`, the decline code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decline {
    pub(crate) code: &'static str,
    pub(crate) decline_code: &'static str,
}

/// A test card.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestCard {
    pub(crate) number: &'static str,
    /// What follows `pm_card_` and `tok_`; the first is the one it is stored by.
    pub(crate) names: &'static [&'static str],
    pub(crate) authentication: Authentication,
    pub(crate) decline: Option<Decline>,
    /// Whether it is declined already when it is attached or set up.
    pub(crate) declines_setup: bool,
    pub(crate) aftermath: Aftermath,
}

const fn works(number: &'static str, names: &'static [&'static str]) -> TestCard {
    TestCard {
        number,
        names,
        authentication: Authentication::Never,
        decline: None,
        declines_setup: false,
        aftermath: Aftermath::Quiet,
    }
}

const fn declines(
    number: &'static str,
    names: &'static [&'static str],
    code: &'static str,
    decline_code: &'static str,
) -> TestCard {
    TestCard { decline: Some(Decline { code, decline_code }), declines_setup: true, ..works(number, names) }
}

const fn asks(number: &'static str, names: &'static [&'static str], authentication: Authentication) -> TestCard {
    TestCard { authentication, ..works(number, names) }
}

const fn then(number: &'static str, names: &'static [&'static str], aftermath: Aftermath) -> TestCard {
    TestCard { aftermath, ..works(number, names) }
}

const fn asks_then_declines(
    number: &'static str,
    names: &'static [&'static str],
    decline_code: &'static str,
) -> TestCard {
    let decline = Some(Decline { code: "card_declined", decline_code });
    TestCard { decline, ..asks(number, names, Authentication::Always) }
}

const CARDS: &[TestCard] = &[
    works("4242424242424242", &["visa", "us"]),
    works("4000056655665556", &["visa_debit"]),
    works("5555555555554444", &["mastercard"]),
    works("2223003122003222", &["mastercard_2series"]),
    works("5200828282828210", &["mastercard_debit"]),
    works("5105105105105100", &["mastercard_prepaid"]),
    works("378282246310005", &["amex"]),
    works("371449635398431", &["amex_second"]),
    works("6011111111111117", &["discover"]),
    works("3056930009020004", &["diners"]),
    works("36227206271667", &["diners_14digits"]),
    works("3566002020360505", &["jcb"]),
    works("6200000000000005", &["unionpay"]),
    declines("4000000000000002", &["visa_chargeDeclined", "chargeDeclined"], "card_declined", "generic_decline"),
    declines(
        "4000000000009995",
        &["visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds"],
        "card_declined",
        "insufficient_funds",
    ),
    declines(
        "4000000000009987",
        &["visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"],
        "card_declined",
        "lost_card",
    ),
    declines(
        "4000000000009979",
        &["visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"],
        "card_declined",
        "stolen_card",
    ),
    declines(
        "4000000000006975",
        &["visa_chargeDeclinedVelocityLimitExceeded", "chargeDeclinedVelocityLimitExceeded"],
        "card_declined",
        "card_velocity_exceeded",
    ),
    declines(
        "4100000000000019",
        &["radarBlock", "visa_chargeDeclinedFraudulent", "chargeDeclinedFraudulent"],
        "card_declined",
        "fraudulent",
    ),
    declines("4000000000000069", &["chargeDeclinedExpiredCard"], "expired_card", "expired_card"),
    declines("4000000000000127", &["chargeDeclinedIncorrectCvc"], "incorrect_cvc", "incorrect_cvc"),
    declines("4000000000000119", &["chargeDeclinedProcessingError"], "processing_error", "processing_error"),
    TestCard {
        declines_setup: false,
        ..declines(
            "4000000000000341",
            &["chargeCustomerFail", "visa_chargeCustomerFail"],
            "card_declined",
            "generic_decline",
        )
    },
    asks("4000002500003155", &["authenticationRequiredOnSetup"], Authentication::UnlessSetUp),
    asks("4000002760003184", &["authenticationRequired"], Authentication::Always),
    asks("4000003800000446", &["authenticationRequiredSetupForOffSession"], Authentication::OnSession),
    asks("4000000000003220", &["threeDSecure2Required"], Authentication::Always),
    asks("4000000000003063", &["threeDSecureRequired"], Authentication::Always),
    works("4000000000003055", &["threeDSecureOptional"]),
    asks_then_declines(
        "4000008260003178",
        &["authenticationRequiredChargeDeclinedInsufficientFunds"],
        "insufficient_funds",
    ),
    asks_then_declines("4000008400001629", &["threeDSecureRequiredChargeDeclined"], "generic_decline"),
    then("4000000000000259", &["createDispute"], Aftermath::Dispute("fraudulent")),
    then("4000000000002685", &["createDisputeProductNotReceived"], Aftermath::Dispute("product_not_received")),
    then("4000000000005126", &["refundFail"], Aftermath::RefundFails),
    then("4000000000007726", &["pendingRefund"], Aftermath::RefundPends),
    then("4000000000000077", &["bypassPending"], Aftermath::AvailableAtOnce),
];

/// The card that a name after `pm_card_` or `tok_` stands for.
pub(crate) fn by_name(name: &str) -> Option<&'static TestCard> {
    CARDS.iter().find(|card| card.names.contains(&name))
}

/// The sentence that Stripe says to a code.
pub(crate) fn message(code: &str, decline_code: &str) -> &'static str {
    match (code, decline_code) {
        (_, "insufficient_funds") => "Your card has insufficient funds.",
        ("expired_card", _) => "Your card has expired.",
        ("incorrect_cvc", _) => "Your card's security code is incorrect.",
        ("processing_error", _) => "An error occurred while processing your card. Try again in a little bit.",
        ("authentication_required", _) => "Your card was declined. This transaction requires authentication.",
        (_, "card_velocity_exceeded") => {
            "Your card was declined for making repeated attempts too frequently or exceeding its amount limit."
        }
        _ => "Your card was declined.",
    }
}

impl TestCard {
    /// The name it is stored by.
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    fn brand(&self) -> &'static str {
        match self.number.get(..1) {
            Some("4") => "visa",
            Some("5" | "2") => "mastercard",
            _ if self.number.starts_with("34") || self.number.starts_with("37") => "amex",
            _ if self.number.starts_with("35") => "jcb",
            Some("3") => "diners",
            _ if self.number.starts_with("62") => "unionpay",
            _ => "discover",
        }
    }

    fn funding(&self) -> &'static str {
        match self.name() {
            "visa_debit" | "mastercard_debit" => "debit",
            "mastercard_prepaid" => "prepaid",
            _ => "credit",
        }
    }

    /// The `card` of a payment method: the same for each use of the card, but for when it expires.
    pub(crate) fn render(&self, expiry: (i64, i64), cvc_checked: bool) -> Value {
        let fingerprint: String =
            Sha256::digest(self.number).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let last4 = self.number.get(self.number.len().saturating_sub(4)..).unwrap_or_default();
        json!({
            "brand": self.brand(),
            "checks": {
                "address_line1_check": null, "address_postal_code_check": null,
                "cvc_check": if cvc_checked { json!("pass") } else { Value::Null },
            },
            "country": "US",
            "display_brand": self.brand(),
            "exp_month": expiry.0,
            "exp_year": expiry.1,
            "fingerprint": fingerprint,
            "funding": self.funding(),
            "generated_from": null,
            "last4": last4,
            "networks": {"available": [self.brand()], "preferred": null},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": true},
            "wallet": null,
        })
    }

    /// The card, valid for another year, as `pm_card_NAME` makes it.
    pub(crate) fn for_a_year(&self, now: i64) -> Value {
        let (month, year) = month(now);
        self.render((month, year + 1), true)
    }
}

/// Month and year of a second, in UTC.
fn month(now: i64) -> (i64, i64) {
    let date = Timestamp::from_second(now).unwrap_or_default().to_zoned(TimeZone::UTC);
    (i64::from(date.month()), i64::from(date.year()))
}

/// Reads `number`, `exp_month`, `exp_year` and `cvc`: the test card that it is, and its `card`.
pub(crate) fn read(parameters: &Parameters, now: i64) -> Result<(&'static TestCard, Value), ApiError> {
    let number: String =
        parameters.required_text("number")?.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let exp_month = parameters.required_integer("exp_month")?;
    let exp_year = parameters.required_integer("exp_year")?;
    let exp_year = if (0..100).contains(&exp_year) { exp_year + 2000 } else { exp_year };
    let cvc = parameters.text("cvc")?;
    let refused = |code: &str, param: &str, message: &str| {
        ApiError::card(code, None, message).param(&parameters.name(param)).undoing()
    };
    if !is_number(&number) {
        return Err(refused("incorrect_number", "number", "Your card number is incorrect."));
    }
    let Some(card) = CARDS.iter().find(|card| card.number == number) else {
        let message = "Your card was declined. Your request was in test mode, but used a non test card. For a list of valid \
                       test cards, visit: https://stripe.com/docs/testing.";
        return Err(ApiError::card("card_declined", Some("test_mode_live_card"), message).undoing());
    };
    if !(1..=12).contains(&exp_month) {
        return Err(refused("invalid_expiry_month", "exp_month", "Your card's expiration month is invalid."));
    }
    let (this_month, this_year) = month(now);
    if (exp_year, exp_month) < (this_year, this_month) || exp_year > this_year + 50 {
        return Err(refused("invalid_expiry_year", "exp_year", "Your card's expiration year is invalid."));
    }
    if cvc.as_ref().is_some_and(|cvc| !(3..=4).contains(&cvc.len()) || !cvc.chars().all(|c| c.is_ascii_digit())) {
        return Err(refused("invalid_cvc", "cvc", "Your card's security code is invalid."));
    }
    Ok((card, card.render((exp_month, exp_year), cvc.is_some())))
}

/// Whether it has the length and the last digit of a card number (ISO/IEC 7812, Luhn).
fn is_number(number: &str) -> bool {
    let digits: Option<Vec<u32>> = number.chars().map(|c| c.to_digit(10)).collect();
    let Some(digits) = digits.filter(|digits| (12..=19).contains(&digits.len())) else { return false };
    let weighted = digits.iter().rev().enumerate().map(|(place, digit)| match place % 2 {
        0 => *digit,
        _ => digit * 2 / 10 + digit * 2 % 10,
    });
    weighted.sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::{CARDS, by_name, is_number};

    #[test]
    fn every_number_is_one_and_every_name_is_one_cards() {
        for card in CARDS {
            assert!(is_number(card.number), "{}", card.number);
            assert!(card.names.iter().all(|name| by_name(name).is_some_and(|found| found.number == card.number)));
        }
        assert!(!is_number("4242424242424241"));
    }
}
