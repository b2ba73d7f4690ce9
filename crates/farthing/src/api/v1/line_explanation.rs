//! Explanations of the lines of invoices: each part of how a line came to its amount, recounted from what is kept, with a
//! sentence for each.

use engine::id::{Kind, PublicId};
use engine::invoice::{Line, LineKind, minor_units};
use engine::proration::rest_of;
use engine::{Asset, Invoice, Micros, Money, Period, Price, Rounding, rating, tax};
use jiff::SignedDuration;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::caller::Caller;
use crate::api::page::{PageOf, page_of};
use crate::api::problem::Problem;
use crate::api::v1::charges::{ChargeView, CoverView};
use crate::api::v1::explanation::StepView;
use crate::api::v1::invoices::{LineView, PeriodView, sum};
use crate::app::App;
use crate::document;
use crate::store::{BillingRow, ChargeRow, ChargeTotals, LineCharges, Page, Scope};

/// How many charges of a line are shown with it; the others have pages of their own.
const SHOWN: i64 = 10;

/// What uses add up to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageTotals)]
pub(in crate::api) struct TotalsView {
    /// How many charges.
    charges: i64,
    /// How much was used.
    quantity: String,
    /// What of that the meter's own units covered.
    covered_in_units: String,
    /// What of that was priced.
    priced_quantity: String,
    /// What that was priced at.
    priced: String,
    /// What of that grants covered.
    covered: String,
    /// What of that is owed.
    owed: String,
}

/// Why a usage line is what it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct UsageExplanation {
    /// When the period began in which it was used.
    #[schema(value_type = String, format = DateTime)]
    used_in: jiff::Timestamp,
    /// The price that was in force, by its definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    price: Option<serde_json::Value>,
    /// For a price that counts over the period: what was counted under it before the first of these charges.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_from: Option<String>,
    /// What was counted under it with the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_to: Option<String>,
    /// The steps that price `counted_to`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepView>,
    /// How each charge became millionths, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    charge_rounding: Option<Rounding>,
    /// All charges that owe something, as the database adds them up.
    totals: TotalsView,
    /// What of `totals.owed` was paid or given back before the invoice was made.
    settled_before: String,
    /// What the line is of, exactly: `totals.owed` less `settled_before`.
    exact: String,
    /// The grants that covered the rest; a hundred at the most.
    covered_by: Vec<CoverView>,
    /// What was used besides in the same period and is on no invoice, because grants covered all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    covered_in_full: Option<TotalsView>,
    /// The newest of the charges. The others are at `/v1/invoices/{invoice}/lines/{line}/charges`, with its `next_cursor`.
    newest: PageOf<ChargeView>,
}

/// How an exact amount became whole minor units.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RoundingExplanation {
    /// The exact amount.
    exact: String,
    /// What is on the line.
    amount: String,
    /// `down`, `up`, `half_up` or `half_even`; stated on the price.
    #[schema(value_type = String)]
    rule: Rounding,
    /// `exact` less `amount`.
    left: String,
    /// What becomes of `left`: `owed` (it stays owed, and whole coins of such fractions are a line of their own, here or on a
    /// later invoice), `forgiven`, or `added` where it is below zero.
    #[schema(pattern = "^(owed|forgiven|added)$")]
    becomes: String,
}

/// What a plan or an add-on costs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FeeExplanation {
    /// The version of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// Its definition, where it is still known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    definition: Option<serde_json::Value>,
    /// What one costs for a period.
    unit_price: String,
    /// How many.
    quantity: String,
}

/// What part of a period's price a change within it comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ProrationExplanation {
    /// The whole period.
    whole: PeriodView,
    /// What of it was left.
    rest: PeriodView,
    /// The seconds of the whole.
    whole_seconds: i64,
    /// The seconds of the rest.
    rest_seconds: i64,
    /// What the whole costs.
    price: String,
    /// Whether the rest is given back rather than added.
    gives_back: bool,
}

/// What usage is short of a minimum.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CommitmentExplanation {
    /// The minimum of the period.
    minimum: String,
    /// What usage came to.
    usage: String,
}

/// Something that was left to this invoice.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CarriedPart {
    /// `invoice`, which left it or was taken back, `credit_note`, `payment`, or `refund`, which took it with it.
    #[schema(pattern = "^(invoice|credit_note|payment|refund)$")]
    from: String,
    /// Its id.
    id: String,
    /// How much; below zero in the customer's favour.
    amount: String,
}

/// A tax, and what it is on.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TaxExplanation {
    /// What it is.
    name: String,
    /// In percent.
    percent: String,
    /// Whether the amount contains it.
    inclusive: bool,
    /// What it is on: without it, and without any tax.
    base: String,
    /// How much, rounded half up on this line alone.
    amount: String,
}

/// Why a line is what it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct LineExplanation {
    /// Which, counted from one.
    number: usize,
    /// The line.
    line: LineView,
    /// Of usage: the charges behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageExplanation>,
    /// Of a fee: what it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    fee: Option<FeeExplanation>,
    /// Of a proration: which part of which period.
    #[serde(skip_serializing_if = "Option::is_none")]
    proration: Option<ProrationExplanation>,
    /// Of a commitment: minimum and usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment: Option<CommitmentExplanation>,
    /// Of what earlier invoices left: each part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<Vec<CarriedPart>>,
    /// How it became whole minor units, where it was not in them already.
    #[serde(skip_serializing_if = "Option::is_none")]
    rounding: Option<RoundingExplanation>,
    /// Its taxes, and what each is on.
    taxes: Vec<TaxExplanation>,
    /// What it adds to the invoice's total: its amount, less its discount, with the taxes on top.
    total: String,
    /// The same in words.
    story: Vec<String>,
    /// Whether everything that was computed anew is what is on the invoice.
    pub(in crate::api) agrees: bool,
}

/// The charges of a usage line.
pub(in crate::api) fn charges_of(row: &BillingRow<Invoice>, line: &Line) -> Option<LineCharges> {
    let LineKind::Usage { meter, price, used_in, since, .. } = &line.kind else { return None };
    let invoice = &row.value;
    Some(LineCharges {
        owner: (row.shard_key, row.customer_id),
        meter: meter.clone(),
        price: price.clone(),
        asset: invoice.currency.clone(),
        used_in: *used_in,
        // None was recorded after the invoice, and a sender's clock is rarely wrong by a day.
        until: invoice.created_at.checked_add(SignedDuration::from_hours(24)).unwrap_or(invoice.created_at),
        since: *since,
        before: invoice.position,
    })
}

fn totals_view(totals: &ChargeTotals) -> Result<TotalsView, Problem> {
    Ok(TotalsView {
        charges: totals.charges,
        quantity: totals.quantity.to_string(),
        covered_in_units: totals.quantity.minus(totals.priced_quantity)?.to_string(),
        priced_quantity: totals.priced_quantity.to_string(),
        priced: totals.amount.to_string(),
        covered: totals.amount.minus(totals.owed)?.to_string(),
        owed: totals.owed.to_string(),
    })
}

/// Explains a line.
pub(in crate::api) async fn explain(
    app: &App,
    caller: &Caller,
    scope: &Scope,
    row: &BillingRow<Invoice>,
    (number, line): (usize, &Line),
) -> Result<LineExplanation, Problem> {
    let currency = &row.value.currency;
    let mut explained = LineExplanation {
        number,
        line: LineView::of(line, currency),
        usage: None,
        fee: None,
        proration: None,
        commitment: None,
        carried: None,
        rounding: None,
        taxes: taxes(line, currency),
        total: sum(line.total()?, currency),
        story: Vec::new(),
        agrees: true,
    };
    match &line.kind {
        LineKind::Usage { .. } => explain_usage(&mut explained, app, scope, row, line).await?,
        LineKind::Debt => explain_debt(&mut explained, &row.value, line)?,
        LineKind::Fee { .. } | LineKind::AddOn { .. } | LineKind::Item { .. } => {
            explain_fee(&mut explained, caller, line, currency)?;
        }
        LineKind::Commitment { minimum, usage } => {
            explained.story.push(format!(
                "The minimum of the period is {} and usage came to {}: {} is short of it.",
                money(*minimum, currency),
                money(*usage, currency),
                money(line.minor, currency)
            ));
            explained.agrees = minimum - usage == line.minor;
            let (minimum, usage) = (sum(*minimum, currency), sum(*usage, currency));
            explained.commitment = Some(CommitmentExplanation { minimum, usage });
        }
        LineKind::Proration { whole, price } => explain_proration(&mut explained, (*whole, *price), line, currency)?,
        LineKind::Carried => explain_carried(&mut explained, app, scope, row, line).await?,
    }
    explain_taxes(&mut explained, line, currency)?;
    Ok(explained)
}

/// A sum for a sentence.
pub(in crate::api) fn money(minor: i64, currency: &Asset) -> String {
    Money { minor, currency: currency.clone() }.to_string()
}

async fn explain_usage(
    explained: &mut LineExplanation,
    app: &App,
    scope: &Scope,
    row: &BillingRow<Invoice>,
    line: &Line,
) -> Result<(), Problem> {
    let Some(charges) = charges_of(row, line) else { return Ok(()) };
    let LineKind::Usage { late, .. } = &line.kind else { return Ok(()) };
    let asset = &charges.asset;
    let price = match &charges.price {
        Some(version) => app.store.price(scope, version).await?,
        None => None,
    };
    let price: Option<Price> = price.and_then(|definition| serde_json::from_str(&definition).ok());
    let totals = app.store.line_totals(scope, &charges).await?;
    let settled = totals.owed.minus(line.exact)?;
    let covers = app.store.line_covers(scope, &charges).await?;
    let in_period = line.period.map(|period| LineCharges { until: period.end, ..charges.clone() });
    let besides = match &in_period {
        Some(in_period) => Some(app.store.covered_totals(scope, in_period).await?).filter(|all| all.charges > 0),
        None => None,
    };
    let newest = app.store.line_charges(scope, &charges, Page { after: None, limit: SHOWN }).await?;
    let cumulative = price.as_ref().filter(|price| price.model.is_cumulative());
    let steps = cumulative.map(|price| rating::steps(price, totals.counted_to)).transpose()?.unwrap_or_default();
    let rule = price.as_ref().map_or(Rounding::Down, |price| price.line_rounding);
    usage_story(explained, &totals, price.as_ref(), (&charges, *late));
    for cover in covers.iter().take(20) {
        let grant = PublicId { kind: Kind::Grant, shard_key: row.shard_key, id: cover.grant };
        explained.story.push(format!("{} {} of it came from {grant}.", cover.amount, cover.asset));
    }
    if !settled.is_zero() {
        let words = format!("{settled} {asset} of that was paid or given back before this invoice was made.");
        explained.story.push(words);
    }
    if let Some(besides) = &besides {
        let words = "more, all of it covered by grants, is on no invoice";
        explained.story.push(format!("{} {} in {} uses {words}.", besides.quantity, charges.meter, besides.charges));
    }
    round(explained, line, rule, asset)?;
    explained.agrees &= !settled.is_negative() && totals.charges > 0;
    explained.usage = Some(UsageExplanation {
        used_in: charges.used_in,
        counted_from: cumulative.map(|_| totals.counted_from.to_string()),
        counted_to: cumulative.map(|_| totals.counted_to.to_string()),
        steps: steps.into_iter().map(StepView::from).collect(),
        charge_rounding: price.as_ref().map(|price| price.rounding),
        price: price.as_ref().and_then(|price| serde_json::to_value(price).ok()),
        totals: totals_view(&totals)?,
        settled_before: settled.to_string(),
        exact: line.exact.to_string(),
        covered_by: covers.iter().map(|cover| CoverView::of(cover, row.shard_key)).collect(),
        covered_in_full: besides.as_ref().map(totals_view).transpose()?,
        newest: page_of(newest, SHOWN, cursor, |row| ChargeView::of_row(&row)),
    });
    Ok(())
}

/// The cursor behind a charge of a line.
pub(in crate::api) fn cursor(row: &ChargeRow) -> (jiff::Timestamp, uuid::Uuid) {
    (row.charge.occurred_at, row.charge.id)
}

fn usage_story(
    explained: &mut LineExplanation,
    totals: &ChargeTotals,
    price: Option<&Price>,
    (charges, late): (&LineCharges, bool),
) {
    let (meter, asset) = (&charges.meter, &charges.asset);
    let when = if late { " in a period that had been invoiced before" } else { "" };
    explained.story.push(format!(
        "{} {meter} was used in {} charges{when} from {} on that were not covered, or not in full.",
        totals.quantity, totals.charges, charges.used_in
    ));
    let units = totals.quantity.get() - totals.priced_quantity.get();
    let mut what = "It".to_owned();
    if units > 0 {
        what = format!("The other {}", totals.priced_quantity);
        explained.story.push(format!("{} of it was covered by the meter's own units.", Micros::new(units)));
    }
    let Some(price) = price else { return };
    explained.story.push(format!(
        "{what} was priced by version {} of price {} ({}), each charge rounded once to a millionth ({}): {} {asset}.",
        price.version,
        price.name,
        price.unit_price(),
        name(price.rounding),
        totals.amount
    ));
    if price.model.is_cumulative() {
        explained
            .story
            .push(format!("The price counts over the period: from {} to {}.", totals.counted_from, totals.counted_to));
    }
    if let Ok(covered) = totals.amount.minus(totals.owed)
        && !covered.is_zero()
    {
        explained.story.push(format!("Grants covered {covered} {asset} of it; {} {asset} was owed.", totals.owed));
    }
}

/// What becomes of an exact amount on a line.
fn round(explained: &mut LineExplanation, line: &Line, rule: Rounding, asset: &Asset) -> Result<(), Problem> {
    let per_minor = Money { minor: 1, currency: asset.clone() }.micros()?;
    explained.agrees &= minor_units(line.exact, per_minor.get(), rule) == line.minor;
    let whole = Money { minor: line.minor, currency: asset.clone() }.micros()?;
    let left = line.exact.minus(whole)?;
    let becomes = match rule {
        Rounding::Down => "owed",
        _ if left.is_negative() => "added",
        _ => "forgiven",
    };
    if left.is_zero() {
        explained.story.push(format!("{} {asset} is {} on the invoice.", line.exact, money(line.minor, asset)));
    } else {
        let words = match becomes {
            "owed" => "stays owed, and whole coins of such fractions are invoiced together",
            "added" => "was added by rounding",
            _ => "was forgiven by rounding",
        };
        let fraction = if left.is_negative() { Micros::ZERO.minus(left)? } else { left };
        explained.story.push(format!(
            "{} {asset} is rounded ({}) to {} on the invoice; {fraction} {asset} {words}.",
            line.exact,
            name(rule),
            money(line.minor, asset)
        ));
    }
    explained.rounding = Some(RoundingExplanation {
        exact: line.exact.to_string(),
        amount: sum(line.minor, asset),
        rule,
        left: left.to_string(),
        becomes: becomes.to_owned(),
    });
    Ok(())
}

const fn name(rounding: Rounding) -> &'static str {
    match rounding {
        Rounding::HalfEven => "half to even",
        Rounding::HalfUp => "half up",
        Rounding::Down => "down",
        Rounding::Up => "up",
    }
}

/// The fractions that other lines left, on this invoice and before.
fn explain_debt(explained: &mut LineExplanation, invoice: &Invoice, line: &Line) -> Result<(), Problem> {
    let currency = &invoice.currency;
    let mut fractions = Micros::ZERO;
    for other in invoice.lines.iter().filter(|other| matches!(other.kind, LineKind::Usage { .. })) {
        let whole = Money { minor: other.minor, currency: currency.clone() }.micros()?;
        let left = other.exact.minus(whole)?;
        // A line that is rounded another way leaves nothing; what it adds or forgives does not come here.
        fractions = fractions.plus(left.max(Micros::ZERO))?;
    }
    let before = line.exact.minus(fractions)?;
    explained.story.push(format!(
        "Fractions of coins that the usage lines of this invoice left come to {fractions} {currency}; {before} \
         {currency} was owed before, as fractions of earlier invoices or for value that went back after it was spent."
    ));
    round(explained, line, Rounding::Down, currency)
}

fn explain_fee(explained: &mut LineExplanation, caller: &Caller, line: &Line, currency: &Asset) -> Result<(), Problem> {
    let version = match &line.kind {
        LineKind::Fee { plan } => Some(plan),
        _ => None,
    };
    let definition = version.and_then(|version| caller.catalog().plans.versions.get(version));
    if let Some(plan) = definition {
        let quantity = line.quantity.get() / Micros::ONE.get();
        explained.agrees &= plan.fee.minor.checked_mul(quantity) == Some(line.minor);
    }
    let of = version.map(|version| format!(" (version {version} of the plan)")).unwrap_or_default();
    let when = line
        .period
        .map_or_else(|| " once".to_owned(), |period| format!(" from {} to {}, in advance", period.start, period.end));
    explained.story.push(format!(
        "{}{of}: {} times {}{when} is {}.",
        line.title,
        line.quantity,
        line.unit_price,
        money(line.minor, currency)
    ));
    explained.fee = Some(FeeExplanation {
        plan: version.map(ToString::to_string),
        definition: definition.and_then(|plan| serde_json::to_value(&**plan).ok()),
        unit_price: line.unit_price.clone(),
        quantity: line.quantity.to_string(),
    });
    Ok(())
}

fn explain_proration(
    explained: &mut LineExplanation,
    (whole, price): (Period, i64),
    line: &Line,
    currency: &Asset,
) -> Result<(), Problem> {
    let rest = line.period.unwrap_or(whole);
    let seconds = |period: Period| period.end.as_second() - period.start.as_second();
    let part = rest_of(price, whole, rest.start)?;
    let gives_back = line.minor < 0;
    explained.agrees &= part.abs() == line.minor.abs();
    explained.story.push(format!(
        "{} of {} seconds of the period from {} to {} were left: that part of {} is {}, rounded half up by the time that \
         had gone by, and it is {}.",
        seconds(rest),
        seconds(whole),
        whole.start,
        whole.end,
        money(price, currency),
        money(line.minor.abs(), currency),
        if gives_back { "given back" } else { "added" }
    ));
    explained.proration = Some(ProrationExplanation {
        whole: whole.into(),
        rest: rest.into(),
        whole_seconds: seconds(whole),
        rest_seconds: seconds(rest),
        price: sum(price, currency),
        gives_back,
    });
    Ok(())
}

async fn explain_carried(
    explained: &mut LineExplanation,
    app: &App,
    scope: &Scope,
    row: &BillingRow<Invoice>,
    line: &Line,
) -> Result<(), Problem> {
    let currency = &row.value.currency;
    let mut parts = Vec::new();
    let mut carried = 0_i64;
    let previous = document::previous(&*app.store, scope, row).await?;
    let since = previous.as_ref().map_or(0, |previous| previous.position);
    if let Some(previous) = previous.filter(|previous| previous.carried != 0) {
        let id = PublicId { kind: Kind::Invoice, shard_key: row.shard_key, id: previous.id }.to_string();
        carried = carried.saturating_add(previous.carried);
        parts.push(CarriedPart { from: "invoice".to_owned(), id, amount: sum(previous.carried, currency) });
    }
    let owner = (row.shard_key, row.customer_id);
    let entries = app.store.carried_entries(scope, owner, currency, (since, row.value.position)).await?;
    for entry in entries {
        let entry = entry.entry;
        let minor = Money::exactly(entry.amount, currency)?.minor;
        let minor = if entry.debit == engine::Account::Carried { minor } else { -minor };
        let (from, kind) = match entry.kind {
            engine::EntryKind::CreditNote => ("credit_note", Kind::CreditNote),
            engine::EntryKind::InvoiceVoid => ("invoice", Kind::Invoice),
            engine::EntryKind::Refund => ("refund", Kind::Refund),
            _ => ("payment", Kind::Payment),
        };
        let id = PublicId { kind, shard_key: row.shard_key, id: entry.cause }.to_string();
        carried = carried.saturating_add(minor);
        parts.push(CarriedPart { from: from.to_owned(), id, amount: sum(minor, currency) });
    }
    explained.agrees &= carried == line.minor;
    for part in &parts {
        explained.story.push(format!("{} {} left {} {currency} to this invoice.", part.from, part.id, part.amount));
    }
    explained
        .story
        .push(format!("Together {}, with taxes and discounts of its own time.", money(line.minor, currency)));
    explained.carried = Some(parts);
    Ok(())
}

fn taxes(line: &Line, currency: &Asset) -> Vec<TaxExplanation> {
    let base = document::net(line);
    let explain = |tax: &tax::LineTax| TaxExplanation {
        name: tax.name.to_string(),
        percent: tax.percent.to_string(),
        inclusive: tax.inclusive,
        base: sum(base, currency),
        amount: sum(tax.minor, currency),
    };
    line.taxes.iter().map(explain).collect()
}

/// Recounts the taxes of a line, and says what discount and taxes do to it.
fn explain_taxes(explained: &mut LineExplanation, line: &Line, currency: &Asset) -> Result<(), Problem> {
    if line.discount != 0 {
        let less = line.minor - line.discount;
        explained.story.push(format!(
            "The coupon takes {} off: {} is left.",
            money(line.discount, currency),
            money(less, currency)
        ));
    }
    let rates: Vec<engine::TaxRate> = line
        .taxes
        .iter()
        .map(|tax| engine::TaxRate { name: tax.name.clone(), percent: tax.percent, inclusive: tax.inclusive })
        .collect();
    let mut anew = tax::taxes(&rates, line.minor - line.discount)?;
    let mut there = line.taxes.clone();
    // Taxes that amounts contain are computed first; the order says nothing.
    anew.sort_by(|a, b| (&a.name, a.inclusive, a.percent).cmp(&(&b.name, b.inclusive, b.percent)));
    there.sort_by(|a, b| (&a.name, a.inclusive, a.percent).cmp(&(&b.name, b.inclusive, b.percent)));
    explained.agrees &= anew == there;
    for tax in &explained.taxes {
        let how = if tax.inclusive { "is contained in it" } else { "comes on top" };
        explained.story.push(format!(
            "{} of {} % on {} {currency} is {} {currency}, rounded half up; it {how}.",
            tax.name, tax.percent, tax.base, tax.amount
        ));
    }
    Ok(())
}
