//! Invoices: what is asked for a period, line by line, in whole minor units. What an invoice says never changes; how it
//! stands (paid, void, ...) is kept apart from it, with the customer while it is open.
//!
//! Usage is priced and owed in micros at once. An invoice takes over of that debt the whole minor units; what
//! is below one stays owed, and so comes to the next invoice: nothing is lost, and nothing billed twice.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::coupon::Coupon;
use crate::money::{Asset, Micros, Rounding};
use crate::period::Period;
use crate::refusal::Refusal;
use crate::tax::LineTax;

/// An invoice as it was made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invoice {
    /// Its id.
    pub id: Uuid,
    /// Its number, free of gaps; the shell gives it when the invoice is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<Arc<str>>,
    /// The subscription that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Uuid>,
    /// Why it was made.
    pub reason: InvoiceReason,
    /// Its currency.
    pub currency: Asset,
    /// The period that it closes, or, for the first of a subscription, begins.
    pub period: Period,
    /// Its lines.
    pub lines: Vec<Line>,
    /// The coupon that its discounts are of, as it was before this invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<Coupon>,
    /// What the lines come to, in minor units, before discounts and taxes.
    pub subtotal: i64,
    /// What discounts take off.
    pub discount: i64,
    /// The taxes, those that amounts contain included.
    pub tax: i64,
    /// What the lines come to in all: without discounts, with taxes.
    pub total: i64,
    /// What of the total is not asked for now, but goes to the next invoice: because it is below what the provider
    /// collects, or in the customer's favour.
    pub carried: i64,
    /// The ledger position that made it.
    pub position: i64,
    /// Its date.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
    /// When it is to be paid.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub due_at: Timestamp,
    /// How it stood when it was made.
    pub standing: Standing,
}

/// Why an invoice was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceReason {
    /// A subscription began.
    Start,
    /// A period ended, and the next began.
    Renewal,
    /// A subscription changed.
    Change,
    /// A subscription ended.
    End,
    /// Usage was to be invoiced.
    Usage,
}

impl InvoiceReason {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Renewal => "renewal",
            Self::Change => "change",
            Self::End => "end",
            Self::Usage => "usage",
        }
    }
}

/// One line of an invoice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What it is.
    #[serde(flatten)]
    pub kind: LineKind,
    /// What it is, as the customer reads it.
    pub title: Arc<str>,
    /// How much of it.
    pub quantity: Micros,
    /// What one costs, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit_price: String,
    /// The time it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// What it comes to exactly.
    pub exact: Micros,
    /// What it comes to in minor units.
    pub minor: i64,
    /// What of that a discount takes off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discount: i64,
    /// Its taxes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taxes: Vec<LineTax>,
}

/// What a line is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LineKind {
    /// Usage that made debt.
    Usage {
        /// The meter.
        meter: Arc<str>,
        /// The version of the price.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        price: Option<Arc<str>>,
        /// What all of that use came to; credit covered what is above the line's amount.
        priced: Micros,
        /// Whether it was used in a period that was invoiced before.
        late: bool,
        /// When the period began in which it was used, as its charges have it.
        #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
        used_in: Timestamp,
        /// The ledger position of its first charge; its last lies before that of the invoice.
        since: i64,
    },
    /// What was owed besides: the fractions of a minor unit that other lines and earlier invoices left, and value that was
    /// refunded after it was spent.
    Debt,
    /// A plan's fee, in advance.
    Fee {
        /// The version of the plan.
        plan: Arc<str>,
    },
    /// An add-on, in advance.
    AddOn {
        /// Its name.
        add_on: Arc<str>,
    },
    /// What usage is short of the minimum of the period.
    Commitment {
        /// The minimum, in minor units: the part of it that has gone by where the period was cut short.
        minimum: i64,
        /// What usage came to.
        usage: i64,
    },
    /// What a change within a period gives back or adds for the rest of it.
    Proration {
        /// The whole period; the line has the rest of it.
        whole: Period,
        /// What all of it costs, in minor units; of what is given back, what was invoiced of it.
        price: i64,
    },
    /// One thing, once.
    Item {
        /// The id of the item.
        item: Uuid,
    },
    /// What an earlier invoice left to this one, with its taxes; below zero in the customer's favour.
    Carried,
}

/// How far an invoice is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// It is only a preview.
    Draft,
    /// It is to be paid.
    Open,
    /// Nothing of it is left to pay.
    Paid,
    /// It is taken back.
    Void,
    /// Nobody expects it to be paid any more; it still can be.
    Uncollectible,
}

impl InvoiceState {
    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Void => "void",
            Self::Uncollectible => "uncollectible",
        }
    }
}

/// How an invoice stands: all of it that changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// How far it is.
    pub state: InvoiceState,
    /// What is left to pay, in minor units.
    pub due: i64,
    /// What was paid.
    pub paid: i64,
    /// What credit notes took off.
    pub credited: i64,
    /// How often collecting it was tried.
    pub attempts: u16,
    /// When it is tried next, or overdue.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub next_attempt_at: Option<Timestamp>,
    /// The payment under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<Uuid>,
    /// The provider's id of the invoice that it is there, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_reference: Option<Arc<str>>,
    /// When it last changed.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub changed_at: Timestamp,
}

/// An invoice that is not settled, as it stands in the customer's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenInvoice {
    /// Its id.
    pub id: Uuid,
    /// The subscription that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Uuid>,
    /// Its currency.
    pub currency: Asset,
    /// Whether the customer pays it by itself, and nobody collects it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_invoice: bool,
    /// Whether it is of a subscription that farthing renews.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_own: bool,
    /// Whether a period of the subscription begins with it, the first or another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins_period: bool,
    /// What it asks for, in minor units.
    pub total: i64,
    /// What of that is tax.
    pub tax: i64,
    /// What earlier invoices left to it; below zero in the customer's favour.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub carried_in: i64,
    /// Whether the provider has it as an invoice of its own, by the latest payment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_provider: bool,
    /// How it stands.
    pub standing: Standing,
}

/// How an invoice stands from now on, for the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceChange {
    /// Which.
    pub invoice: Uuid,
    /// How it stands.
    pub standing: Standing,
}

/// A part of an invoice that is taken back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreditNote {
    /// Its id.
    pub id: Uuid,
    /// The invoice.
    pub invoice: Uuid,
    /// How much, in minor units, with tax.
    pub minor: i64,
    /// What of that is tax.
    pub tax: i64,
    /// Its currency.
    pub currency: Asset,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// Whether the invoice was paid, so that the customer has it to its credit on the next one.
    pub to_balance: bool,
    /// The ledger position that made it.
    pub position: i64,
    /// When it was made.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub created_at: Timestamp,
}

/// Something to be billed once, with the next invoice in its currency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PendingLine {
    /// The subscription whose invoice it waits for; nothing waits for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Uuid>,
    /// Its currency.
    pub currency: Asset,
    /// The line.
    pub line: Line,
}

/// Usage that made debt and is on no invoice yet, by meter, price and period.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unbilled {
    /// The meter.
    pub meter: Arc<str>,
    /// The version of the price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Arc<str>>,
    /// What it is owed in.
    pub asset: Asset,
    /// When the period began in which it was used.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub period: Timestamp,
    /// The ledger position of its first charge: what was charged before that is not in it.
    #[serde(default)]
    pub since: i64,
    /// How much was priced.
    pub quantity: Micros,
    /// What that came to.
    pub priced: Micros,
    /// What of that is owed still.
    pub owed: Micros,
    /// How it becomes minor units.
    pub rounding: Rounding,
}

impl Line {
    /// A line of whole minor units.
    pub(crate) fn whole(
        kind: LineKind,
        title: &str,
        quantity: i64,
        minor: i64,
        per_minor: i64,
    ) -> Result<Self, Refusal> {
        let micros = |amount: i64, per: i64| amount.checked_mul(per).map(Micros::new).ok_or(Refusal::AmountOutOfRange);
        Ok(Self {
            kind,
            title: Arc::from(title),
            quantity: micros(quantity, Micros::ONE.get())?,
            unit_price: String::new(),
            period: None,
            exact: micros(minor, per_minor)?,
            minor,
            discount: 0,
            taxes: Vec::new(),
        })
    }

    /// What it adds to the total: less its discount, with the taxes on top.
    ///
    /// # Errors
    /// `AmountOutOfRange` where it does not fit.
    pub fn total(&self) -> Result<i64, Refusal> {
        let on_top = self.taxes.iter().filter(|tax| !tax.inclusive).map(|tax| tax.minor);
        let parts = std::iter::once(self.minor).chain([-self.discount]).chain(on_top);
        sum(parts)
    }

    /// Whether discounts and taxes apply to it: what was carried has had its own.
    #[must_use]
    pub const fn is_taxed(&self) -> bool {
        !matches!(self.kind, LineKind::Carried)
    }

    /// Whether it gives back what was invoiced before, reduced already by the discounts of its time.
    #[must_use]
    pub const fn gives_back(&self) -> bool {
        matches!(self.kind, LineKind::Proration { .. }) && self.minor < 0
    }

    /// Whether it takes over debt that the ledger has already.
    #[must_use]
    pub const fn is_debt(&self) -> bool {
        matches!(self.kind, LineKind::Usage { .. } | LineKind::Debt)
    }
}

/// The whole minor units of an amount; down is towards less, so that what is left is never below nothing.
#[must_use]
pub fn minor_units(amount: Micros, per_minor: i64, rounding: Rounding) -> i64 {
    let (whole, rest) = (amount.get().div_euclid(per_minor), amount.get().rem_euclid(per_minor));
    let up = Rounding::divide(rounding, i128::from(rest), i128::from(per_minor.max(1)));
    let odd_half = rounding == Rounding::HalfEven && rest.saturating_mul(2) == per_minor && whole % 2 != 0;
    whole + i64::from(up > 0 || odd_half)
}

/// The sum of minor units.
pub(crate) fn sum(parts: impl IntoIterator<Item = i64>) -> Result<i64, Refusal> {
    parts.into_iter().try_fold(0_i64, i64::checked_add).ok_or(Refusal::AmountOutOfRange)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands in a reference")]
pub(crate) const fn is_zero(minor: &i64) -> bool {
    *minor == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The word price of an agency: a tenth of a cent a word. Any count is billed down to the cent, and what is left
    /// comes to the next invoice, however the words are spread over invoices.
    #[test]
    fn words_are_billed_to_the_cent_and_the_rest_is_carried() {
        let (mut owed, mut billed) = (Micros::ZERO, 0);
        for words in 0..=100_000_i64 {
            let exact = Micros::new(words * 1_000);
            assert_eq!(minor_units(exact, 10_000, Rounding::Down), words / 10, "{words}");
            owed = owed.plus(exact).unwrap();
            let cents = minor_units(owed, 10_000, Rounding::Down);
            owed = owed.minus(Micros::new(cents * 10_000)).unwrap();
            billed += cents;
            assert!(!owed.is_negative() && owed.get() < 10_000);
        }
        let all: i64 = (0..=100_000).sum();
        assert_eq!((billed, owed.get()), (all / 10, all % 10 * 1_000));
    }

    #[test]
    fn each_rounding_of_a_line() {
        for (rounding, expected) in [
            (Rounding::Down, [0, 0, 1, -1]),
            (Rounding::Up, [1, 1, 2, 0]),
            (Rounding::HalfUp, [0, 1, 2, 0]),
            (Rounding::HalfEven, [0, 0, 2, 0]),
        ] {
            let minor = [4_999, 5_000, 15_000, -1].map(|amount| minor_units(Micros::new(amount), 10_000, rounding));
            assert_eq!(minor, expected, "{rounding:?}");
        }
    }
}
