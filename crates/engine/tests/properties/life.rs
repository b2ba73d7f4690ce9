//! Random lives: a catalog with random prices, and a customer to whom random commands happen at random times, never
//! back in time. A command names grants and holds that there are, so that most commands are accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{
    Asset, Catalog, ChargeRequest, Command, Customer, CustomerChange, Decision, GrantKind, GrantRequest, GrantTemplate,
    HoldRequest, HoldSize, Interval, IntervalUnit, LifeEvent, Meter, Micros, Model, Overage, OveragePolicy, Payment,
    Price, Rate, RecurringChargeRequest, Refusal, Rounding, SpentPolicy, Status, Tier, decide_payment,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::paying::{Paying, packs, paying};
use crate::payments::is_said;

/// What happened: a command, the customer it found, and what the engine decided.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) before: Customer,
    /// The payment that the command is about, as it found it.
    pub(crate) payment: Option<Payment>,
    pub(crate) command: Command,
    pub(crate) now: Timestamp,
    pub(crate) outcome: Result<Decision, Refusal>,
}

impl Step {
    /// The customer afterwards: the same as before where the command was refused.
    pub(crate) fn after(&self) -> &Customer {
        self.outcome.as_ref().map_or(&self.before, |decision| &decision.customer)
    }

    pub(crate) fn decision(&self) -> Option<&Decision> {
        self.outcome.as_ref().ok()
    }

    /// What the engine decides when the same happens to this customer.
    pub(crate) fn decide(&self, catalog: &Catalog, customer: &Customer) -> Result<Decision, Refusal> {
        decide_payment(catalog, customer, self.payment.as_ref(), &self.command, self.now)
    }
}

/// A catalog and the steps of a customer's life under it.
pub(crate) fn life() -> impl Strategy<Value = (Catalog, Vec<Step>)> {
    lives(25)
}

/// The same, of a customer that does little else than pay.
pub(crate) fn payers_life() -> impl Strategy<Value = (Catalog, Vec<Step>)> {
    lives(250)
}

fn lives(payments: u32) -> impl Strategy<Value = (Catalog, Vec<Step>)> {
    // Boxed, because what such values are made of is too large for the stack of a test.
    (catalog().boxed(), vec((gap(), action(payments).boxed()), 1..100)).prop_map(|(catalog, actions)| {
        let steps = live(&catalog, actions);
        (catalog, steps)
    })
}

fn live(catalog: &Catalog, actions: Vec<(i64, Action)>) -> Vec<Step> {
    let mut customer = Customer::new(Uuid::from_u128(1), 0);
    let mut now: Timestamp = "2026-02-20T12:00:00Z".parse().unwrap();
    let mut steps = Vec::new();
    let (mut payments, mut said) = (BTreeMap::new(), Vec::new());
    let births = [(0, Action::Change(CustomerChange::default()))];
    for (number, (gap, action)) in (1..).zip(births.into_iter().chain(actions)) {
        now += SignedDuration::from_secs(gap);
        let command = match action {
            Action::Pay(paying) => paying.command(&payments, &said, number * 10, now),
            action => action.command(&customer, number * 10, now),
        };
        let Some(command) = command else { continue };
        let payment = command.payment().and_then(|id| payments.get(&id).cloned());
        let outcome = decide_payment(catalog, &customer, payment.as_ref(), &command, now);
        let step = Step { before: customer, payment, command, now, outcome };
        customer = step.after().clone();
        for payment in step.decision().into_iter().flat_map(|decision| &decision.payments) {
            payments.insert(payment.id, payment.clone());
        }
        said.extend(is_said(&step.command).then(|| step.command.clone()));
        steps.push(step);
    }
    steps
}

/// A use: a meter with its dimensions by number, how much, and how many seconds ago.
type Use = (usize, Micros, i64);

/// Something to happen, before it is known to which grant or hold.
#[derive(Clone, Debug)]
enum Action {
    Charge(Vec<Use>),
    Record(Vec<Use>),
    Grant { asset: usize, amount: Micros, kind: GrantKind, priority: i16, lasts: Option<i64>, meter: Option<usize> },
    Void(prop::sample::Index),
    Hold { meter: usize, size: HoldSize, lasts: Option<i64> },
    Extend { hold: prop::sample::Index, more: Option<HoldSize>, lasts: Option<i64> },
    Capture { hold: prop::sample::Index, used: Use },
    Settle { hold: prop::sample::Index, used: Use },
    Release(prop::sample::Index),
    Recur { meter: usize, quantity: Micros, unit: IntervalUnit },
    EndRecurring(prop::sample::Index),
    Change(CustomerChange),
    Erase,
    Pay(Paying),
}

const ASSETS: [&str; 5] = ["USD", "EUR", "use", "token", "minute"];
const USES: [(&str, Option<&str>); 5] =
    [("use", None), ("tokens", None), ("tokens", Some("large")), ("minutes", None), ("pages", None)];

impl Action {
    fn command(self, customer: &Customer, id: u128, now: Timestamp) -> Option<Command> {
        let later = |seconds: i64| now + SignedDuration::from_secs(seconds);
        let holds: Vec<Uuid> = customer.state.holds.iter().map(|hold| hold.id).collect();
        let hold = |index: prop::sample::Index| (!holds.is_empty()).then(|| *index.get(&holds));
        let uses = |uses: Vec<Use>| (id..).zip(uses).map(|(id, used)| request(id, used, now)).collect();
        Some(match self {
            Self::Charge(list) => Command::Charge(uses(list)),
            Self::Record(list) => Command::Record(uses(list)),
            Self::Grant { asset, amount, kind, priority, lasts, meter } => Command::Grant(GrantRequest {
                id: Uuid::from_u128(id),
                asset: ASSETS[asset].to_owned(),
                amount,
                kind,
                priority,
                expires_at: lasts.map(later),
                meters: meter.map(|meter| Arc::from(USES[meter].0)).into_iter().collect(),
                reason: None,
            }),
            Self::Void(index) => {
                let grants = &customer.state.grants;
                Command::VoidGrant { grant: (!grants.is_empty()).then(|| index.get(grants).id)? }
            }
            Self::Hold { meter, size, lasts } => Command::Hold(HoldRequest {
                id: Uuid::from_u128(id),
                meter: Arc::from(USES[meter].0),
                size,
                subject: None,
                dimensions: dimensions(USES[meter].1),
                expires_at: lasts.map(later),
            }),
            Self::Extend { hold: index, more, lasts } => {
                Command::ExtendHold { hold: hold(index)?, more, expires_at: lasts.map(later) }
            }
            Self::Capture { hold: index, used } => {
                Command::CaptureHold { hold: hold(index)?, charge: request(id, used, now) }
            }
            Self::Settle { hold: index, used } => {
                Command::SettleHold { hold: hold(index)?, charge: request(id, used, now) }
            }
            Self::Release(index) => Command::ReleaseHold { hold: hold(index)? },
            Self::Recur { meter, quantity, unit } => Command::BeginRecurringCharge(RecurringChargeRequest {
                id: Uuid::from_u128(id),
                meter: Arc::from(USES[meter].0),
                quantity,
                interval: Interval { unit, count: 1 },
                subject: None,
            }),
            Self::EndRecurring(index) => {
                let recurring = &customer.state.recurring_charges;
                let recurring_charge = (!recurring.is_empty()).then(|| index.get(recurring).id)?;
                Command::EndRecurringCharge { recurring_charge }
            }
            Self::Change(change) => Command::Upsert(change),
            Self::Erase => Command::Erase,
            Self::Pay(_) => return None,
        })
    }
}

fn request(id: u128, (meter, quantity, ago): Use, now: Timestamp) -> ChargeRequest {
    ChargeRequest {
        id: Uuid::from_u128(id),
        operation_key: None,
        fingerprint: 0,
        meter: Arc::from(USES[meter].0),
        quantity,
        own_amount: None,
        subject: None,
        dimensions: dimensions(USES[meter].1),
        occurred_at: now - SignedDuration::from_secs(ago),
        metadata: None,
    }
}

fn dimensions(model: Option<&str>) -> BTreeMap<String, String> {
    model.map(|model| ("model".to_owned(), model.to_owned())).into_iter().collect()
}

const DAY: i64 = 24 * 3600;

/// Seconds between two commands: often none, at times a good part of a month. Short times are whole minutes, so that
/// now and then something happens at the very moment of an expiry.
fn gap() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0), 8 => (1..10_i64).prop_map(|minutes| minutes * 60), 1 => 1..20 * DAY]
}

fn lasts() -> impl Strategy<Value = Option<i64>> {
    option::weighted(0.4, prop_oneof![(1..30_i64).prop_map(|minutes| minutes * 60), 1..60 * DAY])
}

pub(crate) fn quantity() -> impl Strategy<Value = Micros> {
    let micros =
        prop_oneof![1 => 0..4_i64, 3 => (0..40_i64).prop_map(|units| units * 1_000_000), 3 => 0..60_000_000_i64];
    micros.prop_map(Micros::new)
}

fn used() -> impl Strategy<Value = Use> {
    (0..USES.len(), quantity(), Just(0))
}

fn late_use() -> impl Strategy<Value = Use> {
    (0..USES.len(), quantity(), prop_oneof![2 => Just(0), 1 => 0..DAY, 1 => 0..100 * DAY])
}

fn size() -> impl Strategy<Value = HoldSize> {
    prop_oneof![3 => quantity().prop_map(HoldSize::Quantity), 1 => quantity().prop_map(HoldSize::Amount)]
}

fn overage() -> impl Strategy<Value = Overage> {
    let policy = prop_oneof![
        Just(OveragePolicy::Refuse),
        Just(OveragePolicy::Owe),
        Just(OveragePolicy::Ask),
        Just(OveragePolicy::Included)
    ];
    (policy, option::of(quantity())).prop_map(|(policy, limit)| Overage { policy, limit })
}

fn change() -> impl Strategy<Value = CustomerChange> {
    let status = prop_oneof![6 => Just(Status::Active), 1 => Just(Status::Suspended), 1 => Just(Status::Closed)];
    (option::of(status), option::of(any::<bool>()), option::of(option::of(overage()))).prop_map(
        |(status, payment_method, overage)| CustomerChange {
            status,
            payment_method,
            overage,
            ..CustomerChange::default()
        },
    )
}

fn action(payments: u32) -> impl Strategy<Value = Action> {
    let kind = prop_oneof![
        1 => Just(GrantKind::Allowance),
        1 => Just(GrantKind::Promotional),
        3 => Just(GrantKind::Paid),
        1 => Just(GrantKind::Refund)
    ];
    let asset = prop_oneof![3 => Just(0), 4 => 0..ASSETS.len()];
    let grant = (asset, quantity(), kind, -1..2_i16, lasts(), option::weighted(0.3, 0..USES.len()));
    let index = any::<prop::sample::Index>;
    let units =
        prop_oneof![3 => Just(IntervalUnit::Day), 1 => Just(IntervalUnit::Week), 1 => Just(IntervalUnit::Month)];
    prop_oneof![
        payments => paying().prop_map(Action::Pay),
        8 => vec(used(), 1..3).prop_map(Action::Charge),
        4 => vec(late_use(), 1..3).prop_map(Action::Record),
        9 => grant.prop_map(|(asset, amount, kind, priority, lasts, meter)| {
            Action::Grant { asset, amount, kind, priority, lasts, meter }
        }),
        1 => index().prop_map(Action::Void),
        7 => (0..USES.len(), size(), lasts()).prop_map(|(meter, size, lasts)| Action::Hold { meter, size, lasts }),
        4 => (index(), option::of(size()), lasts()).prop_map(|(hold, more, lasts)| Action::Extend { hold, more, lasts }),
        4 => (index(), late_use()).prop_map(|(hold, used)| Action::Capture { hold, used }),
        2 => (index(), late_use()).prop_map(|(hold, used)| Action::Settle { hold, used }),
        1 => index().prop_map(Action::Release),
        2 => (0..USES.len(), quantity(), units).prop_map(|(meter, quantity, unit)| Action::Recur { meter, quantity, unit }),
        1 => index().prop_map(Action::EndRecurring),
        2 => change().prop_map(Action::Change),
        1 => Just(Action::Change(CustomerChange { status: Some(Status::Active), ..CustomerChange::default() })),
        1 => prop::bool::weighted(0.1).prop_map(|really| {
            if really { Action::Erase } else { Action::Change(CustomerChange::default()) }
        }),
    ]
}

fn catalog() -> impl Strategy<Value = Catalog> {
    let zone = prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/Santiago")];
    let spent = prop_oneof![Just(SpentPolicy::Owe), Just(SpentPolicy::Forgive)];
    let prices = [price("USD"), price("USD"), price("USD"), price("EUR")];
    (zone, overage(), prices, packs(), spent).prop_map(|(zone, overage, prices, packs, spent_refunds)| {
        let meter = |name: &str, unit: &str| Meter {
            name: Arc::from(name),
            unit: Asset::new(unit),
            event_type: None,
            property: None,
            dimensions: ["model".to_owned()].into(),
            requires_payment_method: name == "pages",
        };
        let meters = [("use", "use"), ("tokens", "token"), ("minutes", "minute"), ("pages", "page")];
        let priced = [("tokens", Some("large")), ("tokens", None), ("minutes", None), ("pages", None)];
        let named = |((name, model), price): ((&str, Option<&str>), Price)| {
            let matching = dimensions(model);
            Arc::new(Price { name: format!("{name}{matching:?}").into(), meter: Arc::from(name), matching, ..price })
        };
        Catalog {
            tenant: "life".into(),
            currency: Asset::new("USD"),
            time_zone: TimeZone::get(zone).unwrap(),
            meters: meters.map(|(name, unit)| (Arc::from(name), meter(name, unit))).into(),
            prices: priced.into_iter().zip(prices).map(named).collect(),
            grants: vec![template("welcome", LifeEvent::Created), template("thanks", LifeEvent::FirstPaymentMethod)],
            packs,
            plans: engine::Plans::default(),
            billing: engine::Billing::default(),
            spent_refunds,
            overage,
            low_balances: BTreeMap::new(),
            hold_seconds: 900,
        }
    })
}

fn template(name: &str, on: LifeEvent) -> GrantTemplate {
    GrantTemplate {
        name: Arc::from(name),
        on,
        asset: Asset::new("USD"),
        amount: Micros::new(20_000_000),
        kind: GrantKind::Promotional,
        priority: 0,
        expires_after_days: Some(30),
        meters: Vec::new(),
    }
}

/// A price of any model, in this currency; which meter it prices is for the catalog to say.
pub(crate) fn price(currency: &str) -> impl Strategy<Value = Price> + use<> {
    let asset = Asset::new(currency);
    let rounding =
        prop_oneof![Just(Rounding::HalfEven), Just(Rounding::HalfUp), Just(Rounding::Down), Just(Rounding::Up)];
    let per = prop_oneof![Just(1_u64), Just(7), Just(1000), Just(1_000_000)];
    (model(), per, rounding).prop_map(move |(model, per, rounding)| Price {
        name: "price".into(),
        version: "1".into(),
        meter: "meter".into(),
        pooled: Vec::new(),
        asset: asset.clone(),
        matching: BTreeMap::new(),
        model,
        per,
        rounding,
        line_rounding: Rounding::Down,
        whole_coins: false,
    })
}

fn rate() -> impl Strategy<Value = Rate> {
    let decimal = prop_oneof![
        (0..5_i64).prop_map(|major| Decimal::new(major, 0)),
        (0..300_i64).prop_map(|cents| Decimal::new(cents, 2)),
        (0..9_000_000_000_000_i64).prop_map(|picos| Decimal::new(picos, 12)),
    ];
    decimal.prop_map(|decimal| Rate::from_decimal(decimal).unwrap())
}

fn model() -> impl Strategy<Value = Model> {
    prop_oneof![
        rate().prop_map(|amount| Model::Flat { amount }),
        rate().prop_map(|amount| Model::PerUnit { amount }),
        (rate(), rate()).prop_map(|(percent, flat)| Model::Percentage { percent, flat }),
        (width(), rate()).prop_map(|(size, amount)| Model::Package { size: Micros::new(size), amount }),
        tiers().prop_map(|tiers| Model::Graduated { tiers }),
        tiers().prop_map(|tiers| Model::Volume { tiers }),
    ]
}

/// How wide a tier or a package is: often whole units, as quantities are, so that uses end at its very end.
fn width() -> impl Strategy<Value = i64> {
    prop_oneof![(1..20_i64).prop_map(|units| units * 1_000_000), 1..50_000_000_i64]
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    (vec((width(), rate(), rate()), 0..4), rate(), rate()).prop_map(|(closed, amount, flat)| {
        let mut bound = 0;
        let mut tiers = Vec::new();
        for (width, amount, flat) in closed {
            bound += width;
            tiers.push(Tier { up_to: Some(Micros::new(bound)), amount, flat });
        }
        tiers.push(Tier { up_to: None, amount, flat });
        tiers
    })
}
