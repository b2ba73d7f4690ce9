//! A customer's row stays small: so many open grants and so many open holds, and not one more.
#![expect(clippy::unwrap_used, reason = "what these tests ask for is granted, but for the last")]

use std::collections::BTreeMap;

use engine::grant::MOST_OPEN_GRANTS;
use engine::hold::MOST_OPEN_HOLDS;
use engine::report::{PaymentReport, Progress};
use engine::{
    Asset, Catalog, Collection, CollectionRequest, Command, Customer, CustomerChange, GrantKind, GrantRequest, Heard,
    HoldRequest, HoldSize, Meter, Micros, Money, Overage, Pack, PaymentStep, PurchaseRequest, Refusal, decide,
    decide_payment,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use uuid::Uuid;

fn catalog() -> Catalog {
    let meter = Meter {
        name: "use".into(),
        unit: Asset::new("use"),
        event_type: None,
        property: None,
        dimensions: [].into(),
        requires_payment_method: false,
    };
    Catalog {
        tenant: "tenant".into(),
        currency: Asset::new("USD"),
        time_zone: TimeZone::UTC,
        meters: [(meter.name.clone(), meter)].into(),
        prices: Vec::new(),
        grants: Vec::new(),
        packs: [("pack".into(), pack())].into(),
        plans: engine::Plans::default(),
        billing: engine::Billing::default(),
        spent_refunds: engine::SpentPolicy::Owe,
        overage: Overage::default(),
        low_balances: BTreeMap::new(),
        hold_seconds: 900,
    }
}

fn pack() -> Pack {
    Pack {
        name: "pack".into(),
        title: "A pack".into(),
        price: Money { minor: 1000, currency: Asset::new("USD") },
        asset: Asset::new("use"),
        amount: Micros::new(10_000_000),
        priority: 0,
        expires_after_days: None,
        meters: Vec::new(),
    }
}

fn grant(id: usize, amount: Micros) -> Command {
    Command::Grant(GrantRequest {
        id: Uuid::from_u128(id as u128),
        asset: "use".to_owned(),
        amount,
        kind: GrantKind::Paid,
        priority: 0,
        expires_at: None,
        meters: Vec::new(),
        reason: None,
    })
}

fn hold(id: usize) -> Command {
    Command::Hold(HoldRequest {
        id: Uuid::from_u128(id as u128),
        meter: "use".into(),
        size: HoldSize::Quantity(Micros::ONE),
        subject: None,
        dimensions: BTreeMap::new(),
        expires_at: None,
    })
}

/// A customer to whom these commands happened.
fn customer(commands: impl IntoIterator<Item = Command>) -> Customer {
    let created = [Command::Upsert(CustomerChange::default())];
    let mut customer = Customer::new(Uuid::from_u128(1), 0);
    for command in created.into_iter().chain(commands) {
        customer = decide(&catalog(), &customer, &command, Timestamp::UNIX_EPOCH).unwrap().customer;
    }
    customer
}

/// What the engine says to one more.
fn after(commands: impl IntoIterator<Item = Command>, last: &Command) -> Option<Refusal> {
    decide(&catalog(), &customer(commands), last, Timestamp::UNIX_EPOCH).err()
}

#[test]
fn so_many_open_grants_and_no_more() {
    let grants = |count: usize| (0..count).map(|id| grant(id, Micros::ONE));
    assert_eq!(after(grants(MOST_OPEN_GRANTS - 1), &grant(999, Micros::ONE)), None);
    let refusal = after(grants(MOST_OPEN_GRANTS), &grant(999, Micros::ONE)).unwrap();
    assert_eq!((refusal.code(), &refusal), ("too_many_grants", &Refusal::TooManyGrants { limit: MOST_OPEN_GRANTS }));
}

#[test]
fn so_many_open_holds_and_no_more() {
    let holds = |count: usize| [grant(0, Micros::new(1_000_000_000))].into_iter().chain((0..count).map(hold));
    assert_eq!(after(holds(MOST_OPEN_HOLDS - 1), &hold(999)), None);
    let refusal = after(holds(MOST_OPEN_HOLDS), &hold(999)).unwrap();
    assert_eq!((refusal.code(), &refusal), ("too_many_holds", &Refusal::TooManyHolds { limit: MOST_OPEN_HOLDS }));
}

#[test]
fn what_is_paid_for_is_granted_beyond_the_most() {
    let (catalog, now) = (catalog(), Timestamp::UNIX_EPOCH);
    let full = customer((0..MOST_OPEN_GRANTS).map(|id| grant(id, Micros::ONE)));
    let id = Uuid::from_u128(1_000_000);
    let collection = CollectionRequest::By(Collection::OnSession { save_method: false });
    let purchase = Command::Purchase(PurchaseRequest { id, pack: "pack".into(), quantity: 1, collection });
    let sold = decide(&catalog, &full, &purchase, now).unwrap();
    let report = PaymentReport {
        reference: "pi_1".into(),
        id: None,
        progress: Progress::Paid,
        amount: pack().price,
        received: pack().price.minor,
        client_secret: None,
        page: None,
        failure: None,
        refunds: Vec::new(),
        dispute: None,
    };
    let paid = Command::StepPayment { payment: id, step: PaymentStep::Report(Heard::Made, Box::new(report)) };
    let decision = decide_payment(&catalog, &sold.customer, sold.payments.first(), &paid, now).unwrap();
    assert_eq!(decision.customer.state.grants.len(), MOST_OPEN_GRANTS + 1);
    assert_eq!(decision.grants[0].amount, pack().amount);
    assert_eq!(
        decide(&catalog, &decision.customer, &grant(999, Micros::ONE), now).err(),
        Some(Refusal::TooManyGrants { limit: MOST_OPEN_GRANTS })
    );
}
