//! The part of the stories that is about plans, subscriptions and invoices.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::entitlement::{LimitStanding, SpendingStanding};
use engine::invoice::{InvoiceChange, InvoiceState};
use engine::report::{Failure, FeeReport, PaymentReport, Progress, SubscriptionReport, fee_payment};
use engine::{
    AddOn, AfterDunning, Allowance, Asset, ChangeTime, Command, Coupon, CouponDuration, CreditNote, Decision, Discount,
    Documents, Dunning, Ending, Feature, Heard, Interval, IntervalUnit, Invoice, InvoiceStep, ItemRequest, Limit, Line,
    LineKind, Micros, Money, Notice, NoticeRecord, PendingChange, Period, Plan, Proration, Purpose,
    RecurringChargeRequest, SubscribeRequest, Subscription, SubscriptionStep, TaxRate, TermsChange, Window, due_at,
    entitlements, preview,
};
use uuid::Uuid;

use crate::Story;
use crate::language::{Words, named, number};
use crate::payments::{collection, money, read_money};

/// What a decision says of billing.
pub(crate) struct Billed {
    subscriptions: Vec<Subscription>,
    invoices: Vec<Invoice>,
    changes: Vec<InvoiceChange>,
    notes: Vec<CreditNote>,
    notices: Vec<NoticeRecord>,
}

/// A line of the catalog that is about plans or billing.
pub(crate) fn define(catalog: &mut engine::Catalog, words: &Words) -> Option<()> {
    match words.plain.as_slice() {
        ["plan", name, fee, currency, unit] => define_plan(catalog, words, [name, fee, currency, unit])?,
        ["allowance", plan, name, amount, asset] => {
            let allowance = Allowance {
                name: Arc::from(*name),
                asset: Asset::new(asset),
                amount: amount.parse().ok()?,
                meters: words.list("meters").into_iter().map(Arc::from).collect(),
                rollover: words.options.contains_key("rollover"),
                cap: words
                    .option("rollover", |cap| if cap == "all" { Some(None) } else { number(cap).map(Some) })?
                    .flatten(),
            };
            change_plan(catalog, plan, |plan| plan.allowances.push(allowance))?;
        }
        ["feature", plan, name, value] => {
            let value = match (*value, value.parse()) {
                ("yes", _) => Feature::Flag(true),
                ("no", _) => Feature::Flag(false),
                (_, Ok(number)) => Feature::Number(number),
                (text, _) => Feature::Text(Arc::from(text)),
            };
            change_plan(catalog, plan, |plan| {
                plan.features.insert(Arc::from(*name), value);
            })?;
        }
        ["limit", plan, name, meter, amount, window] => {
            let window = match *window {
                "sliding" => Window::Sliding(words.option("seconds", number)??),
                "holds" => Window::OpenHolds,
                window => named(window)?,
            };
            let hard = words.options.get("hard") == Some(&"yes");
            let limit =
                Limit { name: Arc::from(*name), meter: Arc::from(*meter), window, amount: amount.parse().ok()?, hard };
            change_plan(catalog, plan, |plan| plan.limits.push(limit))?;
        }
        _ => return define_billing(catalog, words),
    }
    Some(())
}

/// A line of the catalog that is about what is booked with plans, or how invoices are made and collected.
fn define_billing(catalog: &mut engine::Catalog, words: &Words) -> Option<()> {
    match words.plain.as_slice() {
        ["add_on", name, fee, currency, how @ ("recurring" | "once")] => {
            let fee = read_money(fee, &Asset::new(currency))?;
            let add_on = AddOn {
                name: Arc::from(*name),
                title: Arc::from(*name),
                fee,
                recurring: *how == "recurring",
                provider_price: words.options.get("provider").map(|price| Arc::from(*price)),
            };
            catalog.plans.add_ons.insert(add_on.name.clone(), add_on);
        }
        ["coupon", code, what @ .., duration] => {
            let discount = match what {
                ["percent", percent] => Discount::Percent(percent.parse().ok()?),
                ["amount", amount, currency] => Discount::Amount(read_money(amount, &Asset::new(currency))?),
                _ => return None,
            };
            let duration = match *duration {
                "once" => CouponDuration::Once,
                "forever" => CouponDuration::Forever,
                times => CouponDuration::Repeating(times.parse().ok()?),
            };
            let coupon = Coupon { code: Arc::from(*code), discount, duration };
            catalog.plans.coupons.insert(coupon.code.clone(), coupon);
        }
        ["tax", name, percent] => catalog.billing.taxes.push(TaxRate {
            name: Arc::from(*name),
            percent: percent.parse().ok()?,
            inclusive: words.options.get("inclusive") == Some(&"yes"),
        }),
        ["minimum", amount, currency] => {
            let minimum = read_money(amount, &Asset::new(currency))?;
            catalog.billing.minimums.insert(minimum.currency, minimum.minor);
        }
        ["days_until_due", days] => catalog.billing.days_until_due = days.parse().ok()?,
        ["dunning", days @ .., "then", then] => {
            catalog.billing.dunning = Dunning {
                retry_days: days.iter().map(|days| days.parse().ok()).collect::<Option<_>>()?,
                then: named::<AfterDunning>(then)?,
                write_off: words.options.get("write_off") != Some(&"no"),
            };
        }
        ["usage_invoices", when] => catalog.billing.usage_invoices = named(when)?,
        ["provider_invoices"] => catalog.billing.provider_invoices = true,
        ["default", plan] => catalog.plans.default = Some(Arc::from(*plan)),
        ["several", "subscriptions"] => catalog.plans.several_subscriptions = true,
        _ => return None,
    }
    Some(())
}

fn define_plan(catalog: &mut engine::Catalog, words: &Words, [name, fee, currency, unit]: [&str; 4]) -> Option<()> {
    let version: Arc<str> = words.options.get("version").copied().unwrap_or(name).into();
    let currency = Asset::new(currency);
    let plan = Plan {
        name: Arc::from(name),
        version: version.clone(),
        title: Arc::from(name),
        fee: read_money(fee, &currency)?,
        interval: Interval { unit: named(unit)?, count: words.option("count", number)?.unwrap_or(1) },
        trial_days: words.option("trial", number)?.unwrap_or(0),
        allowances: Vec::new(),
        features: BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: words.option("spending_limit", number)?,
        overage: words.option("overage", |policy| {
            Some(engine::Overage { policy: named(policy)?, limit: words.option("limit", number)? })
        })?,
        prices: Vec::new(),
        commitment: words.option("commitment", |text| read_money(text, &currency))?.map(|money| money.minor),
        add_ons: words.list("add_ons").into_iter().map(Arc::from).collect(),
        provider_price: words.options.get("provider").map(|price| Arc::from(*price)),
    };
    catalog.plans.versions.insert(version.clone(), Arc::new(plan));
    catalog.plans.current.insert(Arc::from(name), version);
    Some(())
}

pub(crate) fn change_plan(catalog: &mut engine::Catalog, plan: &str, change: impl FnOnce(&mut Plan)) -> Option<()> {
    let version = catalog.plans.versions.get_mut(catalog.plans.current.get(plan)?)?;
    change(Arc::make_mut(version));
    Some(())
}

/// Add-ons, each with how many.
type Booked = Vec<(Arc<str>, u32)>;

fn add_ons(words: &Words) -> Option<Option<Booked>> {
    let read = |text: &str| match text.split_once(':') {
        Some((name, quantity)) => Some((Arc::from(name), quantity.parse().ok()?)),
        None => Some((Arc::from(text), 1)),
    };
    words.option("add_ons", |list| list.split(',').filter(|text| *text != "none").map(read).collect())
}

impl Story {
    /// The command of an operation that is about subscriptions or invoices.
    pub(crate) fn bill(&mut self, operation: &[&str], words: &Words) -> Option<Command> {
        let yes = |option: &str| words.options.get(option) == Some(&"yes");
        let step = match operation {
            ["subscribe", name, plan] => {
                return Some(Command::Subscribe(SubscribeRequest {
                    id: self.id(name),
                    plan: Arc::from(*plan),
                    quantity: words.option("quantity", number)?.unwrap_or(1),
                    add_ons: add_ons(words)?.unwrap_or_default(),
                    coupon: words.options.get("coupon").map(|code| Arc::from(*code)),
                    trial_days: words.option("trial", number)?,
                    collection: words.options.contains_key("method").then(|| collection(words)),
                    by_invoice: yes("by_invoice"),
                    replaces: words.options.get("replaces").map(|name| self.id(name)),
                }));
            }
            ["move", name, when] => {
                let change = TermsChange {
                    plan: words.options.get("plan").map(|plan| Arc::from(*plan)),
                    quantity: words.option("quantity", number)?,
                    add_ons: add_ons(words)?,
                };
                let when = match (*when, words.options.get("proration").copied()) {
                    ("now", Some("now")) => ChangeTime::Now(Proration::Now),
                    ("now", Some("none")) => ChangeTime::Now(Proration::None),
                    ("now", None) => ChangeTime::Now(Proration::NextInvoice),
                    ("next", None) => ChangeTime::NextPeriod,
                    _ => return None,
                };
                (*name, SubscriptionStep::Change(change, when))
            }
            ["end", name, "with_period"] => (*name, SubscriptionStep::CancelAtPeriodEnd),
            ["end", name] => (*name, SubscriptionStep::Cancel { prorate: yes("prorate") }),
            ["keep", name] => (*name, SubscriptionStep::Keep),
            ["pause", name] => {
                (*name, SubscriptionStep::Pause { resumes_at: words.option("until", |text| self.time(text))? })
            }
            ["resume", name] => (*name, SubscriptionStep::Resume),
            _ => return self.bill_invoices(operation, words),
        };
        Some(Command::StepSubscription { subscription: self.id(step.0), step: step.1 })
    }

    fn bill_invoices(&mut self, operation: &[&str], words: &Words) -> Option<Command> {
        let (invoice, step) = match operation {
            ["provider", "subscription", reference, state] => {
                return self
                    .reported(reference, state, words)
                    .map(|report| Command::ReportSubscription(Box::new(report)));
            }
            ["provider", "refuses", name, code] => {
                return Some(Command::FailSubscription {
                    subscription: self.id(name),
                    failure: Failure { code: Arc::from(*code), decline_code: None, message: Arc::from("refused") },
                });
            }
            ["pass"] => return Some(Command::PassTime),
            ["invoice", "usage"] => return Some(Command::InvoiceUsage),
            ["recur", name, meter, quantity] => {
                return Some(Command::BeginRecurringCharge(RecurringChargeRequest {
                    id: self.id(name),
                    meter: Arc::from(*meter),
                    quantity: quantity.parse().ok()?,
                    interval: Interval { unit: words.option("each", named)?.unwrap_or(IntervalUnit::Month), count: 1 },
                    subject: None,
                }));
            }
            ["end_recurring", name] => {
                return Some(Command::EndRecurringCharge { recurring_charge: self.id(name) });
            }
            ["item", title, price, currency] => {
                return Some(Command::AddItem(ItemRequest {
                    id: self.id(title),
                    title: Arc::from(*title),
                    price: read_money(price, &Asset::new(currency))?,
                    quantity: words.option("quantity", number)?.unwrap_or(1),
                }));
            }
            ["pay", name, payment, ..] => {
                let payment = self.id(payment);
                (*name, InvoiceStep::Pay { payment, collection: collection(words) })
            }
            ["void_invoice", name] => (*name, InvoiceStep::Void),
            ["write_off", name] => (*name, InvoiceStep::WriteOff),
            ["credit", note, name, amount] => {
                let invoice = self.id(name);
                let currency = self.invoices.get(&invoice)?.currency.clone();
                let minor = read_money(amount, &currency)?.minor;
                (*name, InvoiceStep::Credit { id: self.id(note), minor, reason: None })
            }
            _ => return None,
        };
        Some(Command::StepInvoice { invoice: self.id(invoice), step })
    }

    /// What the provider says of a subscription: it has the price of the plan, and those of the add-ons.
    fn reported(&mut self, name: &str, state: &str, words: &Words) -> Option<SubscriptionReport> {
        let plans = &self.catalog.plans;
        let price_of_plan = |plan: &str| plans.current(plan).ok()?.provider_price.clone();
        let plan = match words.options.get("price") {
            Some(price) => Arc::from(*price),
            None => price_of_plan(words.options.get("plan")?)?,
        };
        let mut prices = vec![(plan, words.option("quantity", number)?.unwrap_or(1))];
        for (add_on, quantity) in add_ons(words)?.unwrap_or_default() {
            prices.push((plans.add_ons.get(&add_on)?.provider_price.clone()?, quantity));
        }
        let heard = words.options.get("heard").map_or(Heard::Told, |word| crate::payments::read_heard(word));
        let reference: Arc<str> = format!("{name}_there").into();
        let elsewhere = words.options.contains_key("elsewhere");
        if elsewhere {
            let id = engine::id::operation_id(self.customer.id, "provider_subscription", &reference);
            self.names.insert(id, name.to_owned());
        }
        Some(SubscriptionReport {
            id: (!elsewhere).then(|| self.id(name)),
            heard,
            seen_at: words.option("seen", |text| self.time(text))?.unwrap_or(self.now),
            prices,
            state: named(state)?,
            period: Period {
                start: words.option("from", |text| self.time(text))??,
                end: words.option("to", |text| self.time(text))??,
            },
            trial_end: words.option("trial", |text| self.time(text))?,
            cancel_at_period_end: words.options.get("ends") == Some(&"yes"),
            invoice: match words.options.get("invoice") {
                Some(invoice) => Some(self.reported_fee(invoice, words)?),
                None => None,
            },
            reference,
        })
    }

    /// An invoice of the provider's: `invoice=NAME amount=20 fee=paid tax=3`.
    fn reported_fee(&mut self, invoice: &str, words: &Words) -> Option<FeeReport> {
        let progress = match *words.options.get("fee")? {
            "requires_payment" => Progress::RequiresPayment,
            "requires_action" => Progress::RequiresAction,
            "processing" => Progress::Processing,
            "paid" => Progress::Paid,
            "canceled" => Progress::Canceled,
            _ => return None,
        };
        let currency = Asset::new("USD");
        let amount = read_money(words.options.get("amount")?, &currency)?;
        let tax = words.option("tax", |text| read_money(text, &currency))?.map_or(0, |money| money.minor);
        let id = fee_payment("story", invoice);
        self.names.insert(id, invoice.to_owned());
        Some(FeeReport {
            id,
            invoice: invoice.into(),
            newest: true,
            tax,
            begins_period: words.options.get("between") != Some(&"yes"),
            payment: PaymentReport {
                reference: format!("pi_{invoice}").into(),
                id: None,
                progress,
                received: if progress == Progress::Paid { amount.minor } else { 0 },
                amount,
                client_secret: None,
                page: None,
                failure: words.option("failure", crate::payments::failure)?,
                refunds: Vec::new(),
                dispute: None,
            },
        })
    }

    /// Takes over the invoices of a decision, and gives them and their payments names.
    pub(crate) fn accept_billing(&mut self, decision: &Decision) -> Billed {
        for invoice in &decision.invoices {
            let name = format!("invoice_{}", self.invoices.len() + 1);
            self.names.insert(invoice.id, name);
            self.invoices.insert(invoice.id, invoice.clone());
        }
        for change in &decision.invoice_changes {
            self.invoices.get_mut(&change.invoice).unwrap().standing = change.standing.clone();
        }
        for payment in &decision.payments {
            let Purpose::Invoice(purpose) = &payment.purpose else { continue };
            if !self.names.contains_key(&payment.id) {
                let of = |other: &&engine::Payment| matches!(&other.purpose, Purpose::Invoice(p) if p.invoice == purpose.invoice);
                let earlier = self.payments.values().filter(of).count();
                let name = format!("{}_payment_{}", self.names[&purpose.invoice], earlier + 1);
                self.names.insert(payment.id, name);
            }
        }
        Billed {
            subscriptions: decision.subscriptions.clone(),
            invoices: decision.invoices.clone(),
            changes: decision.invoice_changes.clone(),
            notes: decision.credit_notes.clone(),
            notices: decision.notices.clone(),
        }
    }

    pub(crate) fn show_billing(&self, billed: &Billed) -> Vec<String> {
        let mut answers: Vec<String> =
            billed.subscriptions.iter().map(|subscription| self.show_subscription(subscription)).collect();
        for invoice in &billed.invoices {
            answers.extend(self.show_invoice(invoice));
        }
        for change in &billed.changes {
            let invoice = &self.invoices[&change.invoice];
            answers.push(format!("invoice {} {}", self.names[&change.invoice], self.show_standing(invoice)));
        }
        for note in &billed.notes {
            let (invoice, name) = (&self.names[&note.invoice], &self.names[&note.id]);
            let to = if note.to_balance { "to the customer's credit" } else { "off what is due" };
            let (amount, tax) = (money(note.minor, &note.currency), money(note.tax, &note.currency));
            answers.push(format!("credit note {name} of {invoice}: {amount} with {tax} of tax, {to}"));
        }
        for notice in &billed.notices {
            answers.push(format!("notice: {}", self.show_notice(&notice.notice)));
        }
        answers
    }

    fn show_notice(&self, notice: &Notice) -> String {
        let named = |id: &Uuid| &self.names[id];
        match notice {
            Notice::Limit { limit, percent } => format!("{percent} % of limit {limit}"),
            Notice::LowBalance { asset, left } => format!("{left} {asset} left"),
            Notice::PurchasePaid { payment } => format!("{} paid", named(payment)),
            Notice::PurchasePaymentFailed { payment, code } => format!("{} not paid: {code}", named(payment)),
            Notice::Spending { percent } => format!("{percent} % of the spending limit"),
            Notice::SubscriptionStarted { subscription } => format!("{} started", named(subscription)),
            Notice::SubscriptionChanged { subscription, state } => {
                format!("{} changed, {}", named(subscription), state.as_str())
            }
            Notice::SubscriptionPastDue { subscription } => format!("{} past due", named(subscription)),
            Notice::SubscriptionEnded { subscription, state } => {
                format!("{} ended, {}", named(subscription), state.as_str())
            }
            Notice::TrialEnding { subscription, trial_end } => {
                format!("trial of {} ends {}", named(subscription), self.show_time(*trial_end))
            }
            Notice::InvoiceOpened { invoice } => format!("{} opened", named(invoice)),
            Notice::InvoicePaid { invoice } => format!("{} paid", named(invoice)),
            Notice::InvoicePaymentFailed { invoice, attempts, next_attempt_at } => {
                let next = next_attempt_at.map(|at| format!(", next {}", self.show_time(at)));
                format!("{} not paid after {attempts} attempts{}", named(invoice), next.unwrap_or_default())
            }
            Notice::InvoiceVoided { invoice } => format!("{} void", named(invoice)),
            Notice::InvoiceUncollectible { invoice } => format!("{} uncollectible", named(invoice)),
        }
    }

    fn show_period(&self, period: Period) -> String {
        format!("{} to {}", self.show_time(period.start), self.show_time(period.end))
    }

    fn show_subscription(&self, subscription: &Subscription) -> String {
        let Subscription { terms, state, period, .. } = subscription;
        let times = if terms.quantity == 1 { String::new() } else { format!("{} x ", terms.quantity) };
        let add_ons: String =
            terms.add_ons.iter().map(|(add_on, many)| format!(" with {many} x {}", add_on.name)).collect();
        let next = subscription.next_terms.as_ref().map(|next| format!(", then {} x {}", next.quantity, next.version));
        let ends = if subscription.cancel_at_period_end { ", then it ends" } else { "" };
        let asked = subscription.pending.as_ref().map(|pending| match pending {
            PendingChange::Terms { terms, .. } => format!(", {} x {} asked for", terms.quantity, terms.version),
            PendingChange::End { ending: Ending::NotAtAll } => ", going on asked for".to_owned(),
            PendingChange::End { .. } => ", its end asked for".to_owned(),
        });
        let failure = subscription.failure.as_ref().map(|failure| format!(" ({})", failure.code));
        let (asked, failure) = (asked.unwrap_or_default(), failure.unwrap_or_default());
        format!(
            "subscription {} {}{failure}: {times}{}{add_ons}, {}{}{ends}{asked}",
            self.names[&subscription.id],
            state.as_str(),
            terms.version,
            self.show_period(*period),
            next.unwrap_or_default()
        )
    }

    fn show_standing(&self, invoice: &Invoice) -> String {
        let standing = &invoice.standing;
        let money = |minor| money(minor, &invoice.currency);
        let next = standing.next_attempt_at.map(|at| format!(", next {}", self.show_time(at)));
        let due = if standing.due > 0 && standing.state != InvoiceState::Paid {
            format!(", {} due", money(standing.due))
        } else {
            String::new()
        };
        format!("{}{due}{}", standing.state.as_str(), next.unwrap_or_default())
    }

    fn show_invoice(&self, invoice: &Invoice) -> Vec<String> {
        let money = |minor| money(minor, &invoice.currency);
        let reason = crate::name_of(invoice.reason);
        let mut text = format!("invoice {} {reason} {}:", self.names[&invoice.id], self.show_period(invoice.period));
        for (minor, what) in [(invoice.discount, "off"), (invoice.tax, "of tax"), (invoice.carried, "carried")] {
            if minor != 0 {
                text.push_str(&format!(" {} {what},", money(minor)));
            }
        }
        let mut answers = vec![format!("{text} {} in all; {}", money(invoice.total), self.show_standing(invoice))];
        answers.extend(invoice.lines.iter().map(|line| format!("  {}", show_line(line, &invoice.currency))));
        answers
    }

    pub(crate) fn due(&self) -> String {
        due_at(&self.customer).map_or_else(|| "nothing is due".to_owned(), |at| format!("due {}", self.show_time(at)))
    }

    pub(crate) fn show_standings(&self, limits: &[LimitStanding], spending: Option<&SpendingStanding>) -> Vec<String> {
        let resets =
            |at: Option<jiff::Timestamp>| at.map(|at| format!(" until {}", self.show_time(at))).unwrap_or_default();
        let limits = limits.iter().map(|standing| {
            let (used, left, name) = (standing.used, standing.left, &standing.limit.name);
            format!("{name}: {used} of {} used, {left} left{}", standing.limit.amount, resets(standing.resets_at))
        });
        let spending = spending.map(|standing| {
            let (spent, asset) = (standing.spent, &standing.asset);
            format!("spending: {spent} of {} {asset}{}", standing.limit, resets(Some(standing.resets_at)))
        });
        limits.chain(spending).collect()
    }

    /// What an operation would invoice: now, and with the next period.
    pub(crate) fn preview(&mut self, words: &Words) -> Option<Vec<String>> {
        let command = match &words.plain.as_slice()[2..] {
            [] => Command::PassTime,
            operation => self.bill(operation, words)?,
        };
        let preview = match preview(&self.catalog, &self.customer, Documents::default(), &command, self.now) {
            Ok(preview) => preview,
            Err(refusal) => return Some(vec![format!("refused {}: {refusal}", refusal.code())]),
        };
        let when = preview.now.iter().map(|invoice| ("now", invoice)).chain(preview.next.iter().map(|i| ("next", i)));
        let mut answers = Vec::new();
        for (when, invoice) in when {
            self.names.insert(invoice.id, when.to_owned());
            answers.extend(self.show_invoice(invoice));
            self.names.remove(&invoice.id);
        }
        Some(if answers.is_empty() { vec!["nothing to invoice".to_owned()] } else { answers })
    }

    pub(crate) fn entitled(&self) -> Vec<String> {
        let entitled = entitlements(&self.catalog, &self.customer, self.now).unwrap();
        let features = entitled.features.iter().map(|(name, feature)| match feature {
            Feature::Flag(flag) => format!("{name}: {}", if *flag { "yes" } else { "no" }),
            Feature::Number(number) => format!("{name}: {number}"),
            Feature::Text(text) => format!("{name}: {text}"),
        });
        let standings = self.show_standings(&entitled.limits, entitled.spending.as_ref());
        let answers: Vec<String> = features.chain(standings).collect();
        if answers.is_empty() { vec!["nothing".to_owned()] } else { answers }
    }
}

fn show_line(line: &Line, currency: &Asset) -> String {
    let minor = money(line.minor, currency);
    let counted = line.quantity != Micros::ONE || !line.unit_price.is_empty();
    let times = if counted { format!(" {} x {}", line.quantity, line.unit_price) } else { String::new() };
    let whole = Money { minor: line.minor, currency: currency.clone() }.micros().unwrap();
    let exact = if line.exact == whole { String::new() } else { format!(" of {}", line.exact) };
    let late = if matches!(line.kind, LineKind::Usage { late: true, .. }) { ", late" } else { "" };
    let off = if line.discount == 0 { String::new() } else { format!(", {} off", money(line.discount, currency)) };
    let taxes: String = line.taxes.iter().map(|tax| format!(", {} {}", money(tax.minor, currency), tax.name)).collect();
    format!("{}{times}: {minor}{exact}{late}{off}{taxes}", line.title)
}
