//! Revenue: what the ledger says was earned, and when, with what was given away and what came in beside it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{AnalyticsError, Range, add, at_most, micros, text};
use crate::store::{Booked, Scope, Store};

/// What was earned in one asset.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct RevenueRow {
    /// The day or month, in the tenant's time zone; null where rows are not by time.
    #[schema(required)]
    pub period: Option<String>,
    /// The currency, or the unit: value that was bought in units is earned in units.
    pub asset: String,
    /// What was earned: use that was paid for, that is owed, or that credit given back covered; and what was invoiced besides
    /// use; less what was credited, refunded and given back.
    pub earned: String,
    /// Use that bought credit covered.
    pub usage_paid: String,
    /// Use that credit given back covered.
    pub usage_refund: String,
    /// Use that nothing covered, and is owed.
    pub usage_owed: String,
    /// What invoices asked for besides use, such as fees, without taxes and discounts, less what was voided.
    pub invoiced: String,
    /// What credit notes took off, without taxes.
    pub credited: String,
    /// What was refunded of payments for invoices.
    pub refunded: String,
    /// What volume prices and grants of credit gave back.
    pub given_back: String,
    /// Use that allowances covered, or that the plan includes; no part of what was earned.
    pub usage_allowance: String,
    /// Use that credit given away covered; no part of what was earned.
    pub usage_promotional: String,
    /// Bought credit that lapsed unused.
    pub breakage: String,
    /// Allowances and credit given away that lapsed unused.
    pub lapsed: String,
    /// Credit that was given away, allowances included, less what of it was taken back; and refunds of spent credit that
    /// were forgiven.
    pub given_away: String,
    /// Taxes that were invoiced.
    pub tax: String,
    /// Money that was collected.
    pub collected: String,
    /// Money that went back.
    pub paid_back: String,
}

/// The sums of a row, in micros.
#[derive(Clone, Copy, Default)]
struct Sums {
    usage_paid: i64,
    usage_refund: i64,
    usage_owed: i64,
    invoiced: i64,
    credited: i64,
    refunded: i64,
    given_back: i64,
    usage_allowance: i64,
    usage_promotional: i64,
    breakage: i64,
    lapsed: i64,
    given_away: i64,
    tax: i64,
    collected: i64,
    paid_back: i64,
}

impl Sums {
    /// Takes a sum of entries for what it is.
    fn book(&mut self, booked: &Booked) -> Result<(), AnalyticsError> {
        let credited_to = |account: &str| {
            let credit = if booked.credit == account { booked.amount } else { 0 };
            credit - if booked.debit == account { booked.amount } else { 0 }
        };
        let revenue = credited_to("revenue");
        let grant = booked.grant_kind.as_deref();
        match booked.kind.as_str() {
            // Given with the plan.
            "charge" if booked.debit == "promotions" => add(&mut self.usage_allowance, revenue)?,
            "charge" => add(self.usage_of(grant), revenue)?,
            // A fee that the provider collects by an invoice of its own is sold when it is paid.
            "invoice" | "invoice_void" | "invoice_payment" | "sale" => add(&mut self.invoiced, revenue)?,
            "credit_note" => add(&mut self.credited, -revenue)?,
            "refund" => add(&mut self.refunded, -revenue)?,
            _ => add(&mut self.given_back, -revenue)?,
        }
        let lapsed =
            if matches!(grant, Some("allowance" | "promotional")) { &mut self.lapsed } else { &mut self.breakage };
        add(lapsed, credited_to("breakage"))?;
        add(&mut self.given_away, -credited_to("promotions"))?;
        add(&mut self.tax, credited_to("tax"))
    }

    /// The sum for uses that a grant of this kind covered, or none did.
    fn usage_of(&mut self, grant: Option<&str>) -> &mut i64 {
        match grant {
            Some("paid") => &mut self.usage_paid,
            Some("allowance") => &mut self.usage_allowance,
            Some("promotional") => &mut self.usage_promotional,
            Some(_) => &mut self.usage_refund,
            None => &mut self.usage_owed,
        }
    }

    fn row(&self, period: Option<String>, asset: String) -> Result<RevenueRow, AnalyticsError> {
        let mut earned = 0;
        for part in [self.usage_paid, self.usage_refund, self.usage_owed, self.invoiced] {
            add(&mut earned, part)?;
        }
        for part in [self.credited, self.refunded, self.given_back] {
            add(&mut earned, -part)?;
        }
        Ok(RevenueRow {
            period,
            asset,
            earned: text(earned),
            usage_paid: text(self.usage_paid),
            usage_refund: text(self.usage_refund),
            usage_owed: text(self.usage_owed),
            invoiced: text(self.invoiced),
            credited: text(self.credited),
            refunded: text(self.refunded),
            given_back: text(self.given_back),
            usage_allowance: text(self.usage_allowance),
            usage_promotional: text(self.usage_promotional),
            breakage: text(self.breakage),
            lapsed: text(self.lapsed),
            given_away: text(self.given_away),
            tax: text(self.tax),
            collected: text(self.collected),
            paid_back: text(self.paid_back),
        })
    }
}

/// What the customers in scope brought.
///
/// # Errors
/// `TooManyRows`; `OutOfRange` for sums that are too large; `Store`.
pub async fn revenue(store: &dyn Store, scope: &Scope, range: &Range) -> Result<Vec<RevenueRow>, AnalyticsError> {
    let segments = range.segments();
    let mut sums: BTreeMap<(i64, String), Sums> = BTreeMap::new();
    let uses = store.booked_uses(scope, &segments).await?;
    let besides = store.booked_besides(scope, &segments).await?;
    for booked in uses.iter().chain(&besides) {
        sums.entry((booked.day, booked.asset.clone())).or_default().book(booked)?;
    }
    for sum in store.collected(scope, &segments).await? {
        let amount = micros(sum.minor, &sum.currency)?;
        add(&mut sums.entry((sum.day, sum.currency)).or_default().collected, amount)?;
    }
    for sum in store.refunded(scope, &segments).await? {
        let amount = micros(sum.minor, &sum.currency)?;
        add(&mut sums.entry((sum.day, sum.currency)).or_default().paid_back, amount)?;
    }
    let rows = sums.into_iter().map(|((day, asset), sums)| sums.row(range.name(day), asset));
    at_most(rows.collect::<Result<_, _>>()?)
}
