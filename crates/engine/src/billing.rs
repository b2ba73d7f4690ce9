//! Billing: how an invoice is made of what is owed, the lines that a subscription adds, its discounts and its taxes; what
//! the ledger says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::coupon::Coupon;
use crate::customer::State;
use crate::dunning::{Dunning, micros};
use crate::id::operation_id;
use crate::invoice::{
    Invoice, InvoiceReason, InvoiceState, Line, LineKind, OpenInvoice, PendingLine, Standing, Unbilled, minor_units,
    sum,
};
use crate::ledger::{Account, EntryKind};
use crate::money::{Asset, Micros, Money, Rounding};
use crate::notice::Notice;
use crate::payment::Collection;
use crate::period::{Period, month_of};
use crate::refusal::Refusal;
use crate::subscription::{Subscription, SubscriptionSource};
use crate::tax::{TaxRate, taxes};
use crate::wallet::Draft;

/// The most lines that may wait for the next invoice, so that a customer's row stays small.
pub const MOST_PENDING_LINES: usize = 200;

/// How many periods are remembered whose usage was invoiced on demand: those of the subscriptions that a customer may have
/// had in a calendar month, and the month.
const INVOICED_PERIODS_KEPT: usize = 12;

/// How a tenant bills.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Billing {
    /// The taxes on every line.
    pub taxes: Vec<TaxRate>,
    /// The least that the provider collects, in minor units; what is below goes to the next invoice.
    pub minimums: BTreeMap<Asset, i64>,
    /// When collecting is tried again, and what then.
    pub dunning: Dunning,
    /// How many days a customer has that pays by itself.
    pub days_until_due: u16,
    /// When usage is invoiced that no subscription bills.
    pub usage_invoices: UsageInvoices,
    /// Whether invoices that are of no subscription of farthing's own are invoices at the provider too, which collects them.
    pub provider_invoices: bool,
}

/// When usage is invoiced, apart from the periods of subscriptions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageInvoices {
    /// When somebody asks for it.
    #[default]
    OnDemand,
    /// When the calendar month ends in the tenant's zone, of every customer without a subscription that owes for usage.
    Monthly,
    /// When the calendar month ends, of every customer with a subscription in force that owes for usage. Usage is by the
    /// calendar month for everybody then, whatever the periods of subscriptions.
    MonthlyOfSubscribers,
}

impl UsageInvoices {
    /// Whether the usage of subscribers is invoiced by the calendar month, and not with their subscription's periods.
    #[must_use]
    pub const fn by_month_alone(self) -> bool {
        matches!(self, Self::MonthlyOfSubscribers)
    }
}

/// Something to be billed once, with the next invoice in its currency.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ItemRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// What it is, as the customer reads it.
    pub title: Arc<str>,
    /// What one costs; below zero for something that is given back.
    pub price: Money,
    /// How many.
    pub quantity: u32,
}

/// An invoice to be made.
pub(crate) struct Bill<'a> {
    pub(crate) id: Uuid,
    pub(crate) subscription: Option<&'a Subscription>,
    pub(crate) reason: InvoiceReason,
    pub(crate) currency: Asset,
    pub(crate) period: Period,
    /// Usage of periods that began before this is on it; none where it is nothing.
    pub(crate) usage_before: Option<Timestamp>,
    /// What its subscription adds.
    pub(crate) lines: Vec<Line>,
    /// The least that usage comes to.
    pub(crate) commitment: i64,
}

/// The debt that goes on an invoice.
#[derive(Default)]
struct Debt {
    lines: Vec<Line>,
    /// What leaves the receivable.
    taken: Micros,
    /// What of that is not on the invoice, because a line was rounded down for good.
    written_off: Micros,
    /// What is on the invoice above it, because a line was rounded up.
    added: Micros,
    /// What stays for a later invoice.
    kept: Vec<Unbilled>,
}

impl Draft<'_> {
    /// Makes an invoice, and carries or opens it. Nothing where there is nothing to ask for.
    pub(crate) fn bill(&mut self, bill: Bill<'_>) -> Result<Option<Uuid>, Refusal> {
        let currency = bill.currency.clone();
        let per_minor = Money { minor: 1, currency: currency.clone() }.micros()?.get();
        let debt = self.debt(&bill, per_minor)?;
        let owner = bill.subscription.map(|subscription| subscription.id);
        let waits = |pending: &PendingLine| {
            pending.currency == currency && (pending.subscription.is_none() || pending.subscription == owner)
        };
        let (ready, later): (Vec<_>, Vec<_>) =
            self.decision.customer.state.pending_lines.iter().cloned().partition(waits);
        let mut lines = debt.lines.clone();
        if bill.commitment > 0 {
            lines.extend(self.commitment_line(&bill, &lines, per_minor)?);
        }
        lines.extend(ready.into_iter().map(|pending| pending.line));
        lines.extend(bill.lines.iter().filter(|line| line.minor != 0).cloned());
        if lines.iter().all(|line| line.minor == 0) {
            return Ok(None);
        }
        self.discount(&mut lines, &bill)?;
        for line in &mut lines {
            line.taxes = taxes(&self.catalog.billing.taxes, line.minor - line.discount)?;
        }
        let carried_in = self.decision.customer.state.carried.get(&currency).copied().unwrap_or_default();
        if carried_in != 0 {
            lines.push(Line::whole(LineKind::Carried, "From earlier invoices", 1, carried_in, per_minor)?);
        }
        let state = &mut self.decision.customer.state;
        state.unbilled.clone_from(&debt.kept);
        state.pending_lines = later;
        let owed = self.decision.customer.owed(&currency).minus(debt.taken)?;
        self.set_debt(&currency, owed);
        let subscription = bill.subscription;
        let invoice = self.draw_up(bill, lines)?;
        self.book_invoice(&invoice, &debt, carried_in)?;
        let id = invoice.id;
        self.open(invoice, carried_in, subscription);
        Ok(Some(id))
    }

    /// What is owed and belongs on the invoice: usage by meter, price and period, and then what is owed besides. Where
    /// lines are rounded down, all of it together comes to the whole minor units of what is owed.
    fn debt(&self, bill: &Bill<'_>, per_minor: i64) -> Result<Debt, Refusal> {
        let state = &self.decision.customer.state;
        let Some(before) = bill.usage_before else {
            return Ok(Debt { kept: state.unbilled.clone(), ..Debt::default() });
        };
        let mut debt = Debt::default();
        let (mut itemised, mut fractions) = (Micros::ZERO, Micros::ZERO);
        for usage in &state.unbilled {
            if usage.asset != bill.currency {
                debt.kept.push(usage.clone());
                continue;
            }
            itemised = itemised.plus(usage.owed)?;
            if usage.period >= before {
                debt.kept.push(usage.clone());
                continue;
            }
            let minor = minor_units(usage.owed, per_minor, usage.rounding);
            let whole = micros(minor, &bill.currency)?;
            let carries = usage.rounding == Rounding::Down;
            debt.taken = debt.taken.plus(if carries { whole } else { usage.owed })?;
            if carries {
                fractions = fractions.plus(usage.owed.minus(whole)?)?;
            } else {
                debt.written_off = debt.written_off.plus(usage.owed.minus(whole)?.max(Micros::ZERO))?;
                debt.added = debt.added.plus(whole.minus(usage.owed)?.max(Micros::ZERO))?;
            }
            debt.lines.push(self.usage_line(usage, bill.period, minor));
        }
        // What earlier invoices left, and what these lines leave, make whole minor units together.
        let rest = self.decision.customer.owed(&bill.currency).minus(itemised)?.plus(fractions)?;
        let minor = minor_units(rest, per_minor, Rounding::Down);
        if minor > 0 {
            debt.taken = debt.taken.plus(micros(minor, &bill.currency)?)?;
            let line = Line::whole(LineKind::Debt, "Fractions, and what is owed besides", 1, minor, per_minor)?;
            debt.lines.push(Line { exact: rest, ..line });
        }
        Ok(debt)
    }

    fn usage_line(&self, usage: &Unbilled, period: Period, minor: i64) -> Line {
        let price = usage.price.as_ref();
        let known = self.catalog.all_prices().find(|known| Some(&known.version) == price);
        let late = usage.period < period.start;
        Line {
            kind: LineKind::Usage {
                meter: usage.meter.clone(),
                price: price.cloned(),
                priced: usage.priced,
                late,
                used_in: usage.period,
                since: usage.since,
            },
            title: usage.meter.clone(),
            quantity: usage.quantity,
            unit_price: known.map(|price| price.unit_price()).unwrap_or_default(),
            period: (!late).then_some(period),
            exact: usage.owed,
            minor,
            discount: 0,
            taxes: Vec::new(),
        }
    }

    /// What usage is short of the minimum: counted by what the period's usage made of debt, invoiced before or not.
    fn commitment_line(&self, bill: &Bill<'_>, lines: &[Line], per_minor: i64) -> Result<Option<Line>, Refusal> {
        let in_time = |line: &&Line| matches!(line.kind, LineKind::Usage { late: false, .. });
        let billed = sum(lines.iter().filter(in_time).map(|line| line.minor))?;
        let spent = self.decision.customer.state.spent.as_ref();
        let spent = spent.filter(|spent| spent.period == bill.period.start && spent.asset == bill.currency);
        let spent = spent.map_or(0, |spent| minor_units(spent.amount, per_minor, Rounding::Down));
        let (minimum, usage) = (bill.commitment, billed.max(spent));
        let short = minimum - usage;
        if short <= 0 {
            return Ok(None);
        }
        let line = Line::whole(LineKind::Commitment { minimum, usage }, "Minimum of the period", 1, short, per_minor)?;
        Ok(Some(Line { period: Some(bill.period), ..line }))
    }

    fn discount(&mut self, lines: &mut [Line], bill: &Bill<'_>) -> Result<(), Refusal> {
        let Some(of) = bill.subscription else { return Ok(()) };
        if let Some(coupon) = &of.coupon {
            // What is given back was reduced already, to what was invoiced of it.
            let minor: Vec<i64> = lines.iter().map(|line| if line.gives_back() { 0 } else { line.minor }).collect();
            for (line, discount) in lines.iter_mut().zip(coupon.discounts(&minor, &bill.currency)?) {
                line.discount = discount;
            }
        }
        let state = &mut self.decision.customer.state;
        if let Some(subscription) = state.subscriptions.iter_mut().find(|known| known.id == of.id) {
            subscription.coupon = of.coupon.clone().and_then(Coupon::after_invoice);
            let fees = lines.iter().filter(|line| {
                matches!(line.kind, LineKind::Fee { .. } | LineKind::AddOn { .. })
                    && line.period == Some(subscription.period)
            });
            let fees = sum(fees.map(|line| line.minor - line.discount))?;
            if fees != 0 {
                subscription.invoiced_fees = fees;
            }
        }
        Ok(())
    }

    /// The invoice of these lines.
    fn draw_up(&self, bill: Bill<'_>, lines: Vec<Line>) -> Result<Invoice, Refusal> {
        let total = lines.iter().map(Line::total).collect::<Result<Vec<_>, _>>().and_then(sum)?;
        let minimum = self.catalog.billing.minimums.get(&bill.currency).copied().unwrap_or_default();
        let carried = if total <= 0 || total < minimum { total } else { 0 };
        let due = total - carried;
        let by_invoice = bill.subscription.is_none_or(|subscription| subscription.by_invoice);
        let due_at = self.due_date(if by_invoice { self.catalog.billing.days_until_due } else { 0 })?;
        let open = due > 0;
        Ok(Invoice {
            id: bill.id,
            number: None,
            subscription: bill.subscription.map(|subscription| subscription.id),
            reason: bill.reason,
            subtotal: sum(lines.iter().map(|line| line.minor))?,
            discount: sum(lines.iter().map(|line| line.discount))?,
            tax: sum(lines.iter().flat_map(|line| &line.taxes).map(|tax| tax.minor))?,
            total,
            carried,
            currency: bill.currency,
            period: bill.period,
            coupon: bill
                .subscription
                .and_then(|subscription| subscription.coupon.clone())
                .filter(|_| lines.iter().any(|line| line.discount != 0)),
            lines,
            position: self.decision.customer.position,
            created_at: self.now,
            due_at,
            standing: Standing {
                state: if open { InvoiceState::Open } else { InvoiceState::Paid },
                due,
                paid: 0,
                credited: 0,
                attempts: 0,
                next_attempt_at: Some(due_at).filter(|_| open && by_invoice),
                payment: None,
                provider_reference: None,
                changed_at: self.clock,
            },
        })
    }

    /// Writes what an invoice takes over of the debt, what it adds, its taxes and discounts, and what is carried.
    fn book_invoice(&mut self, invoice: &Invoice, debt: &Debt, carried_in: i64) -> Result<(), Refusal> {
        let (cause, currency) = ((EntryKind::Invoice, invoice.id), &invoice.currency);
        let on_invoice = debt.taken.minus(debt.written_off)?;
        self.post(cause, None, (Account::Invoiced, Account::Receivable), (currency, on_invoice))?;
        self.post(cause, None, (Account::Revenue, Account::Receivable), (currency, debt.written_off))?;
        self.post(cause, None, (Account::Invoiced, Account::Revenue), (currency, debt.added))?;
        let sold = invoice.lines.iter().filter(|line| !line.is_debt() && line.is_taxed()).map(|line| line.minor);
        let (sold, tax) = (sum(sold)?, |inclusive| {
            let taxes = invoice.lines.iter().flat_map(|line| &line.taxes);
            sum(taxes.filter(|tax| tax.inclusive == inclusive).map(|tax| tax.minor))
        });
        self.post_minor(cause, (Account::Invoiced, Account::Revenue), currency, sold)?;
        self.post_minor(cause, (Account::Revenue, Account::Invoiced), currency, invoice.discount)?;
        self.post_minor(cause, (Account::Invoiced, Account::Tax), currency, tax(false)?)?;
        self.post_minor(cause, (Account::Revenue, Account::Tax), currency, tax(true)?)?;
        self.carry(cause, Account::Invoiced, currency, -carried_in)?;
        self.carry(cause, Account::Invoiced, currency, invoice.carried)
    }

    /// Writes an entry of minor units; below zero it goes the other way.
    pub(crate) fn post_minor(
        &mut self,
        cause: (EntryKind, Uuid),
        sides: (Account, Account),
        currency: &Asset,
        minor: i64,
    ) -> Result<(), Refusal> {
        let sides = if minor < 0 { (sides.1, sides.0) } else { sides };
        self.post(cause, None, sides, (currency, micros(minor.abs(), currency)?))
    }

    fn open(&mut self, invoice: Invoice, carried_in: i64, subscription: Option<&Subscription>) {
        let state = &mut self.decision.customer.state;
        if let Some(subscription) = state.subscriptions.iter_mut().find(|known| Some(known.id) == invoice.subscription)
        {
            subscription.latest_invoice = Some(invoice.id);
        }
        if invoice.standing.state == InvoiceState::Open {
            state.invoices.push(OpenInvoice {
                id: invoice.id,
                subscription: invoice.subscription,
                currency: invoice.currency.clone(),
                by_invoice: subscription.is_some_and(|subscription| subscription.by_invoice),
                of_own: subscription.is_some_and(|subscription| subscription.source == SubscriptionSource::Own),
                begins_period: matches!(invoice.reason, InvoiceReason::Start | InvoiceReason::Renewal),
                total: invoice.standing.due,
                tax: invoice.tax,
                carried_in,
                at_provider: false,
                standing: invoice.standing.clone(),
            });
            self.notice(Notice::InvoiceOpened { invoice: invoice.id });
        }
        self.decision.invoices.push(invoice);
    }

    /// Something is to be billed once.
    pub(crate) fn add_item(&mut self, request: &ItemRequest) -> Result<(), Refusal> {
        self.refuse_closed()?;
        let quantity = i64::from(request.quantity);
        let minor = request.price.minor.checked_mul(quantity).ok_or(Refusal::AmountOutOfRange)?;
        let per_minor = Money { minor: 1, currency: request.price.currency.clone() }.micros()?.get();
        if minor == 0 {
            return Err(Refusal::AmountOutOfRange);
        }
        let line = Line::whole(LineKind::Item { item: request.id }, &request.title, quantity, minor, per_minor)?;
        let line = Line { unit_price: request.price.to_string(), ..line };
        self.wait_for_invoice(None, &request.price.currency, line)
    }

    /// Keeps a line for the next invoice.
    pub(crate) fn wait_for_invoice(
        &mut self,
        subscription: Option<Uuid>,
        currency: &Asset,
        line: Line,
    ) -> Result<(), Refusal> {
        let lines = &mut self.decision.customer.state.pending_lines;
        if lines.len() >= MOST_PENDING_LINES {
            return Err(Refusal::TooManyPendingLines { limit: MOST_PENDING_LINES });
        }
        lines.push(PendingLine { subscription, currency: currency.clone(), line });
        if subscription.is_none() { self.expect_usage_invoice() } else { Ok(()) }
    }

    /// Invoices what is owed, once for the period that is under way, in every currency of it.
    pub(crate) fn invoice_usage(&mut self) -> Result<(), Refusal> {
        let state = &self.decision.customer.state;
        let period = usage_period(self.catalog, state, self.now)?;
        if state.usage_invoiced.contains(&period.start) {
            return Ok(());
        }
        let customer = self.decision.customer.id;
        if self.bill_owed(period, |currency| usage_invoice(customer, period, currency))? {
            self.note_usage_invoiced(period.start);
        }
        Ok(())
    }

    /// The month has ended: what is owed for it and for earlier ones is invoiced, unless a subscription will, or nobody but
    /// subscribers is invoiced by itself: then it waits for a month that ends with a subscription.
    pub(crate) fn usage_is_due(&mut self) -> Result<(), Refusal> {
        self.decision.customer.state.usage_due_at = None;
        if !self.bills_this_month() {
            return if self.decision.customer.state.owed.is_empty() { Ok(()) } else { self.expect_usage_invoice() };
        }
        let within = self.now.checked_sub(SignedDuration::from_micros(1)).unwrap_or(self.now);
        let period = month_of(within, &self.catalog.time_zone)?;
        let customer = self.decision.customer.id;
        let start = period.start.as_microsecond();
        // Not the id of an invoice on demand, which the month may have had before.
        self.bill_owed(period, |currency| operation_id(customer, "monthly_invoice", &format!("{start}/{currency}")))?;
        // What was used at the very turn of the month, or is dated a little ahead, is the next one's.
        let unbilled = &self.decision.customer.state.unbilled;
        let next = unbilled.iter().any(|usage| usage.asset.currency().is_some() && usage.period >= self.now);
        if next { self.expect_usage_invoice() } else { Ok(()) }
    }

    /// Sees that something is invoiced when the month ends, where no subscription will.
    pub(crate) fn expect_usage_invoice(&mut self) -> Result<(), Refusal> {
        let usage_invoices = self.catalog.billing.usage_invoices;
        let expected = usage_invoices.by_month_alone() || self.bills_this_month();
        if expected && self.decision.customer.state.usage_due_at.is_none() {
            let month = month_of(self.now, &self.catalog.time_zone)?;
            self.decision.customer.state.usage_due_at = Some(month.end);
        }
        Ok(())
    }

    fn bills_this_month(&self) -> bool {
        let subscribes = self.decision.customer.state.subscriptions.iter().any(|known| known.state.is_in_force());
        match self.catalog.billing.usage_invoices {
            UsageInvoices::OnDemand => false,
            UsageInvoices::Monthly => !subscribes,
            UsageInvoices::MonthlyOfSubscribers => subscribes,
        }
    }

    /// Before when usage began that the end of a subscription's period invoices; none where the calendar month does.
    pub(crate) fn usage_until(&self, end: Timestamp) -> Option<Timestamp> {
        (!self.catalog.billing.usage_invoices.by_month_alone()).then_some(end)
    }

    /// Invoices what is owed by the end of a period, in each currency; whether there was anything.
    fn bill_owed(&mut self, period: Period, id: impl Fn(&Asset) -> Uuid) -> Result<bool, Refusal> {
        let state = &self.decision.customer.state;
        let owed = state.owed.keys().filter(|asset| asset.currency().is_some());
        let pending = state.pending_lines.iter().filter(|pending| pending.subscription.is_none());
        let currencies: BTreeSet<Asset> = owed.chain(pending.map(|pending| &pending.currency)).cloned().collect();
        let mut billed = false;
        for currency in currencies {
            let invoice = self.bill(Bill {
                id: id(&currency),
                subscription: None,
                reason: InvoiceReason::Usage,
                currency,
                period,
                usage_before: Some(period.end),
                lines: Vec::new(),
                commitment: 0,
            })?;
            if let Some(invoice) = invoice {
                billed = true;
                self.collect_if_open(invoice)?;
            }
        }
        Ok(billed)
    }

    /// Remembers that the usage of a period was invoiced, for as many periods as one may still be in.
    fn note_usage_invoiced(&mut self, period: Timestamp) {
        let invoiced = &mut self.decision.customer.state.usage_invoiced;
        if !invoiced.contains(&period) {
            invoiced.push(period);
            invoiced.sort_unstable();
            let excess = invoiced.len().saturating_sub(INVOICED_PERIODS_KEPT);
            invoiced.drain(..excess);
        }
    }

    /// Tries to collect an invoice, unless it was carried or settled when it was made, or its customer pays by itself.
    pub(crate) fn collect_if_open(&mut self, invoice: Uuid) -> Result<(), Refusal> {
        let open = self.decision.customer.state.invoices.iter().find(|open| open.id == invoice);
        let Some(open) = open.filter(|_| self.refuse_closed().is_ok()) else { return Ok(()) };
        let (subscription, at_provider) = (open.subscription, self.belongs_at_provider(open));
        let has_method = self.decision.customer.state.payer.usual_method().is_some();
        if open.by_invoice {
            return Ok(());
        }
        if !has_method && at_provider {
            // There it waits for its customer.
            let collection = Collection::OnSession { save_method: false };
            return self.pay_invoice(invoice, None, collection, false);
        }
        if subscription.is_none() && !has_method { Ok(()) } else { self.collect(invoice) }
    }
}

/// The period whose usage is invoiced on demand: that of the subscription in force, or else the calendar month, which it always
/// is where usage is invoiced by the month alone.
///
/// # Errors
/// `AmountOutOfRange` where it lies beyond the calendar.
pub fn usage_period(catalog: &Catalog, state: &State, now: Timestamp) -> Result<Period, Refusal> {
    let in_force = state.subscriptions.iter().find(|known| known.state.is_in_force());
    let in_force = in_force.filter(|_| !catalog.billing.usage_invoices.by_month_alone());
    in_force.map_or_else(|| month_of(now, &catalog.time_zone), |subscription| Ok(subscription.period))
}

/// The id of the invoice of a period's usage, which there is once.
#[must_use]
pub fn usage_invoice(customer: Uuid, period: Period, currency: &Asset) -> Uuid {
    operation_id(customer, "usage_invoice", &format!("{}/{currency}", period.start.as_microsecond()))
}
