//! What holds in every life of a subscriber: random plans, and a customer that subscribes, changes, uses, pays or does
//! not, and ends, with time passing in small steps and in large ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::proration::{rest_of, split};
use engine::report::{
    Failure, FeeReport, PaymentMethod, PaymentMethodsReport, PaymentReport, Progress, SubscriptionReport, fee_payment,
};
use engine::{
    Account, AddOn, AfterDunning, Allowance, Asset, Billing, Catalog, ChangeTime, ChargeRequest, Collection,
    CollectionRequest, Command, Coupon, CouponDuration, Customer, CustomerChange, Decision, Discount, Documents,
    Dunning, EntryKind, GrantKind, GrantRequest, Heard, Interval, IntervalUnit, Invoice, InvoiceState, InvoiceStep,
    ItemRequest, LineKind, Meter, Micros, Money, Overage, OveragePolicy, PayerChange, Payment, PaymentState,
    PaymentStep, Period, Plan, Plans, Price, Proration, Purpose, Rounding, SpentPolicy, Status, SubscribeRequest,
    Subscription, SubscriptionSource, SubscriptionState, SubscriptionStep, TaxRate, TermsChange, UsageInvoices,
    decide_documents, due_at,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use crate::cases;
use crate::life::price;

/// A moment of a life: what was decided, and what was there before.
struct Moment {
    before: Customer,
    now: Timestamp,
    decision: Decision,
    repeat: Decision,
    /// Whether it was the provider that said something of a subscription.
    reported: bool,
}

#[derive(Clone, Debug)]
enum Act {
    Use { large: bool, quantity: i64, days_ago: i64 },
    Subscribe { plan: usize, quantity: u32, coupon: bool, by_invoice: bool, add_on: bool, replaces: Option<Index> },
    Change { subscription: Index, plan: Option<usize>, quantity: Option<u32>, when: ChangeTime },
    Step { subscription: Index, step: SubscriptionStep },
    Item { minor: i64 },
    InvoiceUsage,
    Report { payment: Index, progress: Progress },
    Fail(Index),
    Pay(Index),
    Void(Index),
    Credit { invoice: Index, minor: i64 },
    Grant(i64),
    Refund(Index, Option<i64>),
    Method(bool),
    Close,
    PassTime,
    There(There),
    Refuse(Index),
}

/// What the provider says of a subscription that it renews: late or in time, twice, in any order, with an invoice or without.
#[derive(Clone, Debug)]
struct There {
    subscription: Index,
    state: SubscriptionState,
    quantity: u32,
    /// How many periods ago it was so.
    periods_ago: i64,
    /// How many seconds ago the provider was asked.
    seconds_ago: i64,
    heard: Heard,
    invoice: Option<(bool, Progress)>,
}

const PLANS: [&str; 4] = ["basic", "pro", "yearly", "hosted"];

fn act() -> impl Strategy<Value = Act> {
    let index = any::<Index>;
    let when = prop_oneof![
        Just(ChangeTime::Now(Proration::Now)),
        Just(ChangeTime::Now(Proration::NextInvoice)),
        Just(ChangeTime::Now(Proration::None)),
        Just(ChangeTime::NextPeriod)
    ];
    let step = prop_oneof![
        any::<bool>().prop_map(|prorate| SubscriptionStep::Cancel { prorate }),
        Just(SubscriptionStep::CancelAtPeriodEnd),
        Just(SubscriptionStep::Keep),
        Just(SubscriptionStep::Pause { resumes_at: None }),
        Just(SubscriptionStep::Resume)
    ];
    let progress = prop_oneof![
        6 => Just(Progress::Paid),
        1 => Just(Progress::RequiresPayment),
        1 => Just(Progress::RequiresAction),
        1 => Just(Progress::Processing),
        1 => Just(Progress::Canceled)
    ];
    let state = prop_oneof![
        2 => Just(SubscriptionState::Incomplete),
        1 => Just(SubscriptionState::IncompleteExpired),
        2 => Just(SubscriptionState::Trialing),
        12 => Just(SubscriptionState::Active),
        2 => Just(SubscriptionState::PastDue),
        1 => Just(SubscriptionState::Canceled),
        1 => Just(SubscriptionState::Unpaid),
        1 => Just(SubscriptionState::Paused)
    ];
    let heard = prop_oneof![Just(Heard::Told), Just(Heard::Asked), Just(Heard::Made)];
    let ago = (prop_oneof![4 => Just(0), 1 => 1..3_i64], prop_oneof![2 => Just(0), 1 => 1..100_000_i64]);
    let invoice = option::of((any::<bool>(), progress.clone()));
    let there = (index(), state, 1..4_u32, ago, heard, invoice).prop_map(
        |(subscription, state, quantity, (periods_ago, seconds_ago), heard, invoice)| There {
            subscription,
            state,
            quantity,
            periods_ago,
            seconds_ago,
            heard,
            invoice,
        },
    );
    prop_oneof![
        10 => there.prop_map(Act::There),
        1 => index().prop_map(Act::Refuse),
        12 => (any::<bool>(), 0..40_000_000_i64, prop_oneof![4 => Just(0), 1 => 0..70_i64])
            .prop_map(|(large, quantity, days_ago)| Act::Use { large, quantity, days_ago }),
        5 => (0..PLANS.len(), 1..4_u32, any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), option::weighted(0.3, index()))
            .prop_map(|(plan, quantity, coupon, by_invoice, add_on, replaces)| {
                Act::Subscribe { plan, quantity, coupon, by_invoice, add_on, replaces }
            }),
        5 => (index(), option::of(0..PLANS.len()), option::of(1..4_u32), when)
            .prop_map(|(subscription, plan, quantity, when)| Act::Change { subscription, plan, quantity, when }),
        2 => (index(), step).prop_map(|(subscription, step)| Act::Step { subscription, step }),
        2 => (-500..2000_i64).prop_map(|minor| Act::Item { minor }),
        2 => Just(Act::InvoiceUsage),
        14 => (index(), progress).prop_map(|(payment, progress)| Act::Report { payment, progress }),
        1 => index().prop_map(Act::Fail),
        2 => index().prop_map(Act::Pay),
        1 => index().prop_map(Act::Void),
        2 => (index(), 1..3000_i64).prop_map(|(invoice, minor)| Act::Credit { invoice, minor }),
        1 => (1..50_000_000_i64).prop_map(Act::Grant),
        2 => (index(), option::of(1..2000_i64)).prop_map(|(payment, minor)| Act::Refund(payment, minor)),
        1 => any::<bool>().prop_map(Act::Method),
        1 => Just(Act::Close),
        4 => Just(Act::PassTime),
    ]
}

fn plan(name: &str, unit: IntervalUnit) -> impl Strategy<Value = Plan> + use<> {
    let name: Arc<str> = name.into();
    let interval = Interval { unit, count: 1 };
    let allowance = option::of((1..30_i64, any::<bool>(), option::of(1..20_i64)));
    let terms =
        (0..5000_i64, prop_oneof![3 => Just(0), 1 => 1..20_u16], option::of(1..3000_i64), option::of(1..60_i64));
    (terms, allowance).prop_map(move |((fee, trial_days, commitment, limit), allowance)| Plan {
        name: name.clone(),
        version: name.clone(),
        title: name.clone(),
        fee: Money { minor: fee, currency: Asset::new("USD") },
        interval,
        trial_days,
        allowances: allowance
            .map(|(units, rollover, cap)| Allowance {
                name: "included".into(),
                asset: Asset::new("call"),
                amount: Micros::new(units * 1_000_000),
                meters: Vec::new(),
                rollover,
                cap: cap.map(|units| Micros::new(units * 1_000_000)),
            })
            .into_iter()
            .collect(),
        features: BTreeMap::new(),
        limits: Vec::new(),
        spending_limit: limit.map(|units| Micros::new(units * 1_000_000)),
        overage: None,
        commitment,
        prices: Vec::new(),
        add_ons: vec!["phone".into(), "setup".into()],
        provider_price: None,
    })
}

/// What is counted.
fn calls() -> Meter {
    Meter {
        name: "calls".into(),
        unit: Asset::new("call"),
        event_type: None,
        property: None,
        dimensions: ["model".to_owned()].into(),
        requires_payment_method: false,
    }
}

fn add_on(name: &str, recurring: bool) -> AddOn {
    let fee = Money { minor: 333, currency: Asset::new("USD") };
    AddOn { name: name.into(), title: name.into(), fee, recurring, provider_price: None }
}

fn catalog() -> impl Strategy<Value = Catalog> {
    let zone = prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/Santiago")];
    let plans =
        (plan("basic", IntervalUnit::Month), plan("pro", IntervalUnit::Month), plan("yearly", IntervalUnit::Year));
    let hosted = plan("hosted", IntervalUnit::Month)
        .prop_map(|plan| Plan { provider_price: Some("price_hosted".into()), ..plan });
    let plans = (plans.0, plans.1, plans.2, hosted);
    let rounding = prop_oneof![3 => Just(Rounding::Down), 1 => Just(Rounding::HalfEven), 1 => Just(Rounding::Up)];
    let taxes = option::of((0..2500_i64, any::<bool>()));
    let then = prop_oneof![Just(AfterDunning::Cancel), Just(AfterDunning::Unpaid), Just(AfterDunning::PastDue)];
    let dunning = (vec(0..6_u16, 0..3), then, any::<bool>());
    let discount = prop_oneof![
        (1..100_i64).prop_map(|percent| Discount::Percent(percent.to_string().parse().unwrap())),
        (1..3000_i64).prop_map(|minor| Discount::Amount(Money { minor, currency: Asset::new("USD") }))
    ];
    let prices = (price("USD"), price("USD"), rounding);
    let usage_invoices = prop_oneof![
        Just(UsageInvoices::OnDemand),
        Just(UsageInvoices::Monthly),
        Just(UsageInvoices::MonthlyOfSubscribers)
    ];
    let dunning = (dunning, (usage_invoices, any::<bool>()));
    (zone, plans, prices, taxes, dunning, discount, option::of(1..200_i64), any::<bool>()).prop_map(
        |(zone, plans, prices, taxes, (dunning, (usage_invoices, provider_invoices)), discount, minimum, several)| {
            let ((large, small, rounding), (retry_days, then, write_off)) = (prices, dunning);
            let price = |name: &str, large: bool, price: Price| {
                let matching = large.then(|| ("model".to_owned(), "large".to_owned())).into_iter().collect();
                let (name, meter, line_rounding) = (Arc::from(name), Arc::from("calls"), rounding);
                Arc::new(Price { version: Arc::clone(&name), name, meter, matching, line_rounding, ..price })
            };
            let meter = calls();
            let versions = [plans.0, plans.1, plans.2, plans.3].map(|plan| (plan.version.clone(), Arc::new(plan)));
            let add_ons = [add_on("phone", true), add_on("setup", false)].map(|add_on| (add_on.name.clone(), add_on));
            let coupon = Coupon { code: "less".into(), discount, duration: CouponDuration::Repeating(2) };
            let tax = |(percent, inclusive): (i64, bool)| TaxRate {
                name: "VAT".into(),
                percent: Micros::new(percent * 10_000).to_string().parse().unwrap(),
                inclusive,
            };
            Catalog {
                tenant: "life".into(),
                currency: Asset::new("USD"),
                time_zone: TimeZone::get(zone).unwrap(),
                meters: [(meter.name.clone(), meter)].into(),
                prices: vec![price("large", true, large), price("small", false, small)],
                grants: Vec::new(),
                packs: BTreeMap::new(),
                plans: Plans {
                    current: PLANS.map(|name| (Arc::from(name), Arc::from(name))).into(),
                    versions: versions.into(),
                    add_ons: add_ons.into(),
                    coupons: [(coupon.code.clone(), coupon)].into(),
                    limits: Vec::new(),
                    several_subscriptions: several,
                    default: None,
                },
                billing: Billing {
                    taxes: taxes.map(tax).into_iter().collect(),
                    minimums: minimum.map(|minor| (Asset::new("USD"), minor)).into_iter().collect(),
                    dunning: Dunning { retry_days, then, write_off },
                    days_until_due: 14,
                    usage_invoices,
                    provider_invoices,
                },
                spent_refunds: SpentPolicy::Owe,
                overage: Overage { policy: OveragePolicy::Owe, limit: None },
                low_balances: BTreeMap::new(),
                hold_seconds: 900,
            }
        },
    )
}

/// The documents of a life, as they stand.
#[derive(Default)]
struct Shelf {
    payments: BTreeMap<Uuid, Payment>,
    invoices: BTreeMap<Uuid, Invoice>,
}

impl Shelf {
    fn keep(&mut self, decision: &Decision) {
        self.payments.extend(decision.payments.iter().map(|payment| (payment.id, payment.clone())));
        self.invoices.extend(decision.invoices.iter().map(|invoice| (invoice.id, invoice.clone())));
        for change in &decision.invoice_changes {
            self.invoices.get_mut(&change.invoice).unwrap().standing = change.standing.clone();
        }
    }

    fn payment(&self, index: Index) -> Option<&Payment> {
        let open: Vec<&Payment> = self.payments.values().filter(|payment| payment.paid_at.is_none()).collect();
        (!open.is_empty()).then(|| *index.get(&open))
    }

    fn invoice(&self, index: Index) -> Option<Uuid> {
        let known: Vec<Uuid> = self.invoices.keys().copied().collect();
        (!known.is_empty()).then(|| *index.get(&known))
    }
}

impl Act {
    fn command(self, customer: &Customer, shelf: &Shelf, id: Uuid, now: Timestamp) -> Option<Command> {
        let subscription = |index: Index| {
            let known = &customer.state.subscriptions;
            (!known.is_empty()).then(|| index.get(known).id)
        };
        Some(match self {
            Self::Use { large, quantity, days_ago } => {
                let occurred_at = now - SignedDuration::from_hours(24 * days_ago);
                Command::Record(vec![used(id, large, quantity, occurred_at)])
            }
            Self::Subscribe { plan, quantity, coupon, by_invoice, add_on, replaces } => {
                Command::Subscribe(SubscribeRequest {
                    id,
                    plan: PLANS[plan].into(),
                    quantity,
                    add_ons: if add_on { vec![("phone".into(), 2), ("setup".into(), 1)] } else { Vec::new() },
                    coupon: coupon.then(|| "less".into()),
                    trial_days: None,
                    collection: None,
                    by_invoice,
                    replaces: replaces.and_then(subscription),
                })
            }
            Self::Change { subscription: index, plan, quantity, when } => {
                let change = TermsChange { plan: plan.map(|plan| PLANS[plan].into()), quantity, add_ons: None };
                Command::StepSubscription {
                    subscription: subscription(index)?,
                    step: SubscriptionStep::Change(change, when),
                }
            }
            Self::Step { subscription: index, step } => {
                Command::StepSubscription { subscription: subscription(index)?, step }
            }
            Self::Item { minor } => Command::AddItem(ItemRequest {
                id,
                title: "item".into(),
                price: Money { minor, currency: Asset::new("USD") },
                quantity: 1,
            }),
            Self::InvoiceUsage => Command::InvoiceUsage,
            Self::Close => {
                let closed = customer.status == Status::Closed;
                let status = Some(if closed { Status::Active } else { Status::Closed });
                Command::Upsert(CustomerChange { status, ..CustomerChange::default() })
            }
            Self::PassTime => Command::PassTime,
            Self::There(there) => Command::ReportSubscription(Box::new(there.report(customer, now))),
            Self::Refuse(index) => Command::FailSubscription {
                subscription: subscription(index)?,
                failure: Failure { code: "refused".into(), decline_code: None, message: "refused".into() },
            },
            paying => paying.pay(shelf, id, now)?,
        })
    }

    /// The same, for what is about money.
    fn pay(self, shelf: &Shelf, id: Uuid, now: Timestamp) -> Option<Command> {
        let step = |invoice: Option<Uuid>, step| Some(Command::StepInvoice { invoice: invoice?, step });
        Some(match self {
            Self::Report { payment, progress } => report(shelf.payment(payment)?, progress),
            Self::Fail(payment) => {
                let failure = Failure { code: "declined".into(), decline_code: None, message: "declined".into() };
                Command::StepPayment { payment: shelf.payment(payment)?.id, step: PaymentStep::Fail(failure) }
            }
            Self::Pay(index) => {
                let collection = CollectionRequest::By(Collection::OnSession { save_method: false });
                step(shelf.invoice(index), InvoiceStep::Pay { payment: id, collection })?
            }
            Self::Void(index) => step(shelf.invoice(index), InvoiceStep::Void)?,
            Self::Credit { invoice, minor } => {
                step(shelf.invoice(invoice), InvoiceStep::Credit { id, minor, reason: None })?
            }
            Self::Grant(micros) => Command::Grant(GrantRequest {
                id,
                asset: "USD".to_owned(),
                amount: Micros::new(micros),
                kind: GrantKind::Paid,
                priority: 0,
                expires_at: None,
                meters: Vec::new(),
                reason: None,
            }),
            Self::Refund(index, minor) => {
                let paid: Vec<&Payment> =
                    shelf.payments.values().filter(|payment| payment.state == PaymentState::Paid).collect();
                let payment = (!paid.is_empty()).then(|| index.get(&paid).id)?;
                Command::StepPayment { payment, step: PaymentStep::Refund { id, minor } }
            }
            Self::Method(there) => Command::ChangePayer(PayerChange::Methods(PaymentMethodsReport {
                seen_at: now,
                methods: there
                    .then(|| PaymentMethod {
                        reference: "pm_1".into(),
                        brand: "visa".into(),
                        last4: None,
                        expires: None,
                    })
                    .into_iter()
                    .collect(),
                default: None,
            })),
            _ => return None,
        })
    }
}

impl There {
    fn report(self, customer: &Customer, now: Timestamp) -> SubscriptionReport {
        let known = customer.state.subscriptions.iter();
        let known: Vec<&Subscription> = known.filter(|known| known.source == SubscriptionSource::Provider).collect();
        let known = (!known.is_empty()).then(|| *self.subscription.get(&known));
        let id = known.map(|known| known.id);
        // What it is called there never changes.
        let called = known.and_then(|known| known.reference.clone());
        let reference =
            called.unwrap_or_else(|| id.map_or("sub_elsewhere".to_owned(), |id| format!("sub_{id}")).into());
        let month = 30 * 86_400;
        let number = now.as_second() / month - self.periods_ago;
        let start = Timestamp::from_second(number * month).unwrap();
        let invoice = self.invoice.map(|(whole, progress)| {
            let invoice: Arc<str> = format!("in_{reference}_{number}").into();
            let id = fee_payment("life", &invoice);
            let minor = if whole { 1_000 } else { 700 };
            let payment = PaymentReport {
                reference: format!("pi_{id}").into(),
                id: None,
                progress,
                amount: Money { minor, currency: Asset::new("USD") },
                received: if progress == Progress::Paid { minor } else { 0 },
                client_secret: None,
                page: None,
                failure: None,
                refunds: Vec::new(),
                dispute: None,
            };
            FeeReport { id, invoice, newest: self.periods_ago == 0, tax: 70, begins_period: true, payment }
        });
        SubscriptionReport {
            reference,
            id,
            heard: self.heard,
            seen_at: now - SignedDuration::from_secs(self.seconds_ago),
            prices: vec![("price_hosted".into(), self.quantity)],
            state: self.state,
            period: Period { start, end: start + SignedDuration::from_secs(month) },
            trial_end: None,
            cancel_at_period_end: self.quantity == 3,
            invoice,
        }
    }
}

fn used(id: Uuid, large: bool, quantity: i64, occurred_at: Timestamp) -> ChargeRequest {
    ChargeRequest {
        id,
        operation_key: None,
        fingerprint: 0,
        meter: "calls".into(),
        quantity: Micros::new(quantity),
        own_amount: None,
        subject: None,
        dimensions: large.then(|| ("model".to_owned(), "large".to_owned())).into_iter().collect(),
        occurred_at,
        metadata: None,
    }
}

fn report(payment: &Payment, progress: Progress) -> Command {
    let report = PaymentReport {
        reference: format!("pi_{}", payment.id).into(),
        id: None,
        progress,
        amount: payment.amount.clone(),
        received: if progress == Progress::Paid { payment.amount.minor } else { 0 },
        client_secret: None,
        page: None,
        failure: None,
        refunds: Vec::new(),
        dispute: None,
    };
    Command::StepPayment { payment: payment.id, step: PaymentStep::Report(Heard::Made, Box::new(report)) }
}

fn life() -> impl Strategy<Value = (Catalog, Vec<Moment>)> {
    let gap = prop_oneof![4 => Just(0), 6 => 1..86_400_i64, 6 => 1..20 * 86_400_i64, 1 => 1..100 * 86_400_i64];
    (catalog().boxed(), vec((gap, act().boxed()), 1..60)).prop_map(|(catalog, acts)| {
        let moments = live(&catalog, acts);
        (catalog, moments)
    })
}

fn live(catalog: &Catalog, acts: Vec<(i64, Act)>) -> Vec<Moment> {
    let mut customer = Customer::new(Uuid::from_u128(1), 0);
    let mut now: Timestamp = "2024-01-31T10:30:00Z".parse().unwrap();
    let (mut shelf, mut moments) = (Shelf::default(), Vec::new());
    let birth = Command::Upsert(CustomerChange::default());
    customer = decide_documents(catalog, &customer, Documents::default(), &birth, now).unwrap().customer;
    for (number, (gap, act)) in (100..).zip([(0, Act::Method(true))].into_iter().chain(acts)) {
        now += SignedDuration::from_secs(gap);
        let Some(command) = act.command(&customer, &shelf, Uuid::from_u128(number), now) else { continue };
        let documents = Documents::find(&command, |id| shelf.payments.get(&id), |id| shelf.invoices.get(&id));
        let Ok(decision) = decide_documents(catalog, &customer, documents, &command, now) else { continue };
        shelf.keep(&decision);
        let repeat =
            decide_documents(catalog, &decision.customer, Documents::default(), &Command::PassTime, now).unwrap();
        let before = std::mem::replace(&mut customer, decision.customer.clone());
        let reported = matches!(command, Command::ReportSubscription(_));
        moments.push(Moment { before, now, decision, repeat, reported });
    }
    moments
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Decision { invoices, entries, subscriptions, .. } = &self.decision;
        write!(f, "{}: {invoices:#?} {entries:?} {subscriptions:?} {:?}", self.now, self.decision.customer.state)
    }
}

fn stored<T>(value: &T) -> Result<(), TestCaseError>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string(value).unwrap();
    prop_assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{}", text);
    Ok(())
}

/// What the books say of an account in dollars: debits less credits.
fn balance(books: &BTreeMap<(Account, Asset), i64>, account: Account) -> i64 {
    books.get(&(account, Asset::new("USD"))).copied().unwrap_or_default()
}

fn micros(minor: i64) -> i64 {
    minor * 10_000
}

proptest! {
    #![proptest_config(cases(192))]

    /// The books of a subscriber say what its row says: what is owed, what open invoices ask for, what is carried.
    #[test]
    fn the_books_agree_with_the_row((_, moments) in life()) {
        let mut books: BTreeMap<(Account, Asset), i64> = BTreeMap::new();
        for Moment { decision, .. } in &moments {
            for entry in &decision.entries {
                prop_assert!(entry.amount > Micros::ZERO && entry.debit != entry.credit);
                *books.entry((entry.debit, entry.asset.clone())).or_default() += entry.amount.get();
                *books.entry((entry.credit, entry.asset.clone())).or_default() -= entry.amount.get();
            }
            let state = &decision.customer.state;
            let usd = Asset::new("USD");
            let owed = state.owed.get(&usd).map_or(0, |owed| owed.get());
            prop_assert_eq!(balance(&books, Account::Receivable), owed);
            prop_assert!(owed >= 0);
            let due: i64 = state.invoices.iter().map(|open| open.standing.due).sum();
            prop_assert_eq!(balance(&books, Account::Invoiced), micros(due));
            prop_assert!(state.invoices.iter().all(|open| open.standing.due > 0));
            prop_assert_eq!(balance(&books, Account::Carried), micros(state.carried.get(&usd).copied().unwrap_or(0)));
            let unbilled: i64 = state.unbilled.iter().map(|usage| usage.owed.get()).sum();
            prop_assert!(unbilled <= owed, "{} of {}", unbilled, owed);
        }
    }

    /// The lines of an invoice come to its total, and what it says of itself is what they say.
    #[test]
    fn lines_sum_to_the_total((catalog, moments) in life()) {
        let mut seen = std::collections::BTreeSet::new();
        for invoice in moments.iter().flat_map(|moment| &moment.decision.invoices) {
            prop_assert!(seen.insert(invoice.id), "made twice: {:?} {:?}", invoice.reason, invoice.period);
            let totals: i64 = invoice.lines.iter().map(|line| line.total().unwrap()).sum();
            prop_assert_eq!(totals, invoice.total);
            prop_assert_eq!(invoice.lines.iter().map(|line| line.minor).sum::<i64>(), invoice.subtotal);
            prop_assert_eq!(invoice.lines.iter().map(|line| line.discount).sum::<i64>(), invoice.discount);
            let minimum = catalog.billing.minimums.get(&invoice.currency).copied().unwrap_or(0);
            let asked = invoice.total > 0 && invoice.total >= minimum;
            prop_assert_eq!(invoice.carried, if asked { 0 } else { invoice.total });
            for line in &invoice.lines {
                let left = line.exact.get() - micros(line.minor);
                prop_assert!(line.is_debt() || left == 0);
                prop_assert!(left.abs() < 10_000);
                if let LineKind::Carried = line.kind {
                    prop_assert!(line.taxes.is_empty() && line.discount == 0);
                }
            }
        }
    }

    /// Once a price is rounded down and carried, all that usage made of debt is on invoices, but for less than a minor unit
    /// for each line, or owed still.
    #[test]
    fn nothing_is_lost_or_billed_twice((catalog, moments) in life()) {
        if catalog.prices.iter().any(|price| price.line_rounding != Rounding::Down) {
            return Ok(());
        }
        let (mut made, mut billed) = (0, 0);
        for Moment { decision, .. } in &moments {
            made += decision.charges.iter().map(|charge| charge.owed.get()).sum::<i64>();
            let given_back = decision.entries.iter().filter(|entry| entry.credit == Account::Receivable);
            made -= given_back.filter(|entry| entry.debit != Account::Invoiced).map(|entry| entry.amount.get()).sum::<i64>();
            let lines = decision.invoices.iter().flat_map(|invoice| &invoice.lines).filter(|line| line.is_debt());
            billed += lines.map(|line| micros(line.minor)).sum::<i64>();
            let owed = decision.customer.state.owed.get(&Asset::new("USD")).map_or(0, |owed| owed.get());
            prop_assert_eq!(made, billed + owed);
        }
    }

    /// What is stored and read again is the same.
    #[test]
    fn what_is_stored_comes_back((catalog, moments) in life()) {
        for Moment { decision, .. } in &moments {
            stored(&decision.customer.state)?;
            decision.subscriptions.iter().try_for_each(stored)?;
            decision.invoices.iter().try_for_each(stored)?;
            decision.credit_notes.iter().try_for_each(stored)?;
            decision.payments.iter().try_for_each(stored)?;
        }
        catalog.plans.versions.values().try_for_each(|plan| stored(&**plan))?;
    }

    /// What was due has been done: nothing due lies in the past, and doing it again does nothing.
    #[test]
    fn a_repeat_is_empty((_, moments) in life()) {
        for Moment { now, decision, repeat, .. } in &moments {
            prop_assert!(due_at(&decision.customer).is_none_or(|at| at > *now));
            prop_assert_eq!(&repeat.customer.state, &decision.customer.state);
            prop_assert!(repeat.entries.is_empty() && repeat.invoices.is_empty() && repeat.payments.is_empty());
            prop_assert!(repeat.subscriptions.is_empty() && repeat.effects.is_empty() && repeat.grants.is_empty());
        }
    }

    /// The periods of a subscription that goes on by itself follow each other without a gap, and each is invoiced once.
    #[test]
    fn periods_follow_each_other((catalog, moments) in life()) {
        for Moment { before, decision, now, .. } in &moments {
            for subscription in &before.state.subscriptions {
                let renewed = |invoice: &&Invoice| {
                    invoice.subscription == Some(subscription.id) && invoice.reason == engine::invoice::InvoiceReason::Renewal
                };
                let closed: Vec<Period> = decision.invoices.iter().filter(renewed).map(|invoice| invoice.period).collect();
                prop_assert!(closed.is_sorted());
                prop_assert!(closed.iter().all(|period| period.start < period.end && period.end <= *now));
                prop_assert!(closed.windows(2).all(|pair| pair[0].end <= pair[1].start));
            }
            for subscription in &decision.customer.state.subscriptions {
                prop_assert!(!subscription.state.has_ended());
                let own = subscription.source == SubscriptionSource::Own;
                if own && subscription.state.is_in_force() {
                    prop_assert!(subscription.period.contains(*now), "{:?}", subscription);
                    prop_assert!(catalog.plans.versions.contains_key(&subscription.terms.version));
                }
            }
        }
    }

    /// Time that passes in two steps comes to the same as in one, but for when payments were asked for.
    #[test]
    fn time_may_pass_in_steps((catalog, moments) in life(), days in 1..200_i64, part in 0..100_i64) {
        let Some(last) = moments.last() else { return Ok(()) };
        let (mut catalog, mut customer, start) = (catalog, last.decision.customer.clone(), last.now);
        // Attempts to collect go by the clock, so here everyone pays by itself, and has long enough for it.
        catalog.billing.days_until_due = 10_000;
        catalog.billing.provider_invoices = false;
        customer.state.invoices.clear();
        customer.state.payer.methods.clear();
        customer.state.payer.default_method = None;
        // The provider's go by what the provider says.
        customer.state.subscriptions.retain(|subscription| subscription.source == SubscriptionSource::Own);
        for subscription in &mut customer.state.subscriptions {
            subscription.by_invoice = true;
        }
        let end = start + SignedDuration::from_hours(24 * days);
        let middle = start + SignedDuration::from_secs(24 * 36 * days * part);
        let pass = |customer: &Customer, now| {
            decide_documents(&catalog, customer, Documents::default(), &Command::PassTime, now).unwrap()
        };
        let once = pass(&customer, end);
        let first = pass(&customer, middle);
        let twice = pass(&first.customer, end);
        let whole = |invoices: Vec<&Invoice>| -> Vec<(Uuid, i64, Period)> {
            invoices.into_iter().map(|invoice| (invoice.id, invoice.total, invoice.period)).collect()
        };
        prop_assert_eq!(
            whole(once.invoices.iter().collect()),
            whole(first.invoices.iter().chain(&twice.invoices).collect())
        );
        let (mut once, mut twice) = (once.customer.state, twice.customer.state);
        for state in [&mut once, &mut twice] {
            // These say when, or at which position of the ledger, something was taken down.
            state.invoices.iter_mut().for_each(|open| open.standing.changed_at = end);
            state.grants.iter_mut().for_each(|grant| grant.since = 0);
        }
        prop_assert_eq!(once, twice);
    }

    /// An invoice is paid when all of it was paid or credited; one that is settled has nothing due.
    #[test]
    fn a_settled_invoice_has_nothing_due((_, moments) in life()) {
        let mut shelf = Shelf::default();
        for Moment { decision, .. } in &moments {
            shelf.keep(decision);
            for (id, invoice) in &shelf.invoices {
                let standing = &invoice.standing;
                let open = decision.customer.state.invoices.iter().find(|open| open.id == *id);
                let settled = matches!(standing.state, InvoiceState::Paid | InvoiceState::Void);
                prop_assert_eq!(open.is_none(), settled);
                prop_assert_eq!(open.map_or(standing, |open| &open.standing), standing);
                let asked = invoice.total - invoice.carried;
                match standing.state {
                    InvoiceState::Paid => prop_assert!(standing.due == 0 && standing.paid + standing.credited >= asked),
                    InvoiceState::Void => prop_assert_eq!(standing.due, 0),
                    _ => prop_assert_eq!(standing.due + standing.paid + standing.credited, asked),
                }
            }
            let paid = shelf.payments.values().filter(|payment| payment.state == PaymentState::Paid);
            for payment in paid {
                prop_assert!(matches!(payment.purpose, Purpose::Invoice(_) | Purpose::Subscription(_)));
            }
        }
    }

    /// Of what was paid for an invoice, what is refunded and what is credited are parts of it, with the tax in them: nothing goes
    /// back twice.
    #[test]
    fn nothing_goes_back_twice((catalog, moments) in life()) {
        let mut shelf = Shelf::default();
        moments.iter().for_each(|moment| shelf.keep(&moment.decision));
        let notes = || moments.iter().flat_map(|moment| &moment.decision.credit_notes).filter(|note| note.to_balance);
        for payment in shelf.payments.values() {
            let Purpose::Invoice(purpose) = &payment.purpose else { continue };
            if shelf.invoices[&purpose.invoice].standing.payment == Some(payment.id) {
                let credited: i64 = notes().filter(|note| note.invoice == purpose.invoice).map(|note| note.minor).sum();
                prop_assert_eq!(credited, purpose.credited, "{:?}", payment);
            }
            let counted = || payment.refunds.iter().filter(|refund| refund.counts());
            let (refunded, credit): (i64, i64) = (counted().map(|r| r.minor).sum(), counted().map(|r| r.credit).sum());
            let tax: i64 = counted().map(|refund| refund.tax).sum();
            let to_credit = purpose.excess + purpose.credited;
            prop_assert!((0..=payment.amount.minor).contains(&to_credit), "{:?}", payment);
            prop_assert!(refunded <= payment.amount.minor && credit <= to_credit, "{:?}", payment);
            // Tax is below nothing where more was taken off an invoice than was sold with it, and the rest is carried from before.
            prop_assert!((purpose.tax.min(0)..=purpose.tax.max(0)).contains(&tax), "{:?}", payment);
            if catalog.spent_refunds == SpentPolicy::Owe {
                prop_assert!(refunded - credit <= payment.amount.minor - to_credit, "{:?}", payment);
            }
            let all_sold = refunded - credit >= payment.amount.minor - to_credit;
            prop_assert!(!all_sold || payment.state != PaymentState::Paid || tax == purpose.tax, "{:?}", payment);
        }
    }

    /// A fee that the provider collects is booked once, when it is paid; what is included is given once for each period; what
    /// was seen earlier never takes the place of what was seen later; and only the provider moves its subscriptions.
    #[test]
    fn what_the_provider_says_counts_once_and_in_its_order((_, moments) in life()) {
        let (mut shelf, mut cash) = (Shelf::default(), BTreeMap::<Uuid, i64>::new());
        let mut given = std::collections::BTreeSet::new();
        for Moment { before, decision, reported, .. } in &moments {
            shelf.keep(decision);
            for entry in decision.entries.iter().filter(|entry| entry.kind == EntryKind::InvoicePayment) {
                if entry.debit == Account::Cash {
                    *cash.entry(entry.cause).or_default() += entry.amount.get();
                }
            }
            for grant in &decision.grants {
                prop_assert!(given.insert(grant.id), "given twice: {:?}", grant);
            }
            let fees = shelf.payments.values().filter(|payment| matches!(payment.purpose, Purpose::Subscription(_)));
            for fee in fees {
                let booked = cash.get(&fee.id).copied().unwrap_or_default();
                prop_assert_eq!(booked, if fee.state == PaymentState::Paid { micros(fee.amount.minor) } else { 0 });
            }
            for was in before.state.subscriptions.iter().filter(|was| was.source == SubscriptionSource::Provider) {
                let Some(is) = decision.customer.state.subscriptions.iter().find(|is| is.id == was.id) else { continue };
                prop_assert!(is.seen_at >= was.seen_at);
                let stood = |known: &Subscription| (known.state, known.period, known.terms.clone());
                prop_assert!(*reported || stood(is) == stood(was), "moved by something else: {:?} to {:?}", was, is);
            }
        }
    }

    /// The parts of a sum add up to it, and none is off by more than a unit.
    #[test]
    fn splits_add_up(sum in 0..10_000_000_i64, weights in vec(0..1_000_000_i64, 1..20)) {
        let parts = split(sum, &weights).unwrap();
        let whole: i64 = weights.iter().sum();
        prop_assert_eq!(parts.iter().sum::<i64>(), if whole == 0 { 0 } else { sum });
        for (part, weight) in parts.iter().zip(&weights) {
            let exact = i128::from(sum) * i128::from(*weight);
            prop_assert!((i128::from(*part) * i128::from(whole) - exact).abs() <= i128::from(whole.max(1)));
        }
    }

    /// A period cut at any instants: what falls to the pieces adds up to its price.
    #[test]
    fn proration_splits_add_up(minor in -1_000_000..1_000_000_i64, seconds in 1..40_000_000_i64, cuts in vec(0..40_000_000_i64, 0..6)) {
        let start: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let period = Period { start, end: start + SignedDuration::from_secs(seconds) };
        let mut instants: Vec<i64> = cuts.into_iter().map(|cut| cut % seconds).collect();
        instants.sort_unstable();
        let (mut before, mut sum) = (minor, 0);
        for instant in instants {
            let rest = rest_of(minor, period, start + SignedDuration::from_secs(instant)).unwrap();
            prop_assert!(rest.abs() <= before.abs() && rest.signum() * minor.signum() >= 0);
            (sum, before) = (sum + before - rest, rest);
        }
        prop_assert_eq!(sum + before, minor);
        prop_assert_eq!(rest_of(minor, period, period.end), Ok(0));
    }
}
