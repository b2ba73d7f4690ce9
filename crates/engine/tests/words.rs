//! The word price of an agency, a tenth of a cent a word, through the whole of the engine: every count is invoiced down to
//! the cent, and the rest comes to the next invoice.
#![expect(clippy::unwrap_used, reason = "what these tests ask for is granted")]

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{
    Asset, Billing, Catalog, ChargeRequest, Command, Customer, CustomerChange, Decision, Meter, Micros, Model, Overage,
    OveragePolicy, Plans, Price, Rounding, SpentPolicy, decide,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

fn catalog() -> Catalog {
    let meter = Meter {
        name: "words".into(),
        unit: Asset::new("word"),
        event_type: None,
        property: None,
        dimensions: [].into(),
        requires_payment_method: false,
    };
    let price = Price {
        name: "words".into(),
        version: "words".into(),
        meter: meter.name.clone(),
        pooled: Vec::new(),
        asset: Asset::new("USD"),
        matching: BTreeMap::new(),
        model: Model::PerUnit { amount: "0.001".parse().unwrap() },
        per: 1,
        rounding: Rounding::HalfEven,
        line_rounding: Rounding::Down,
        whole_coins: false,
    };
    Catalog {
        tenant: "agency".into(),
        currency: Asset::new("USD"),
        time_zone: TimeZone::UTC,
        meters: [(meter.name.clone(), meter)].into(),
        prices: vec![Arc::new(price)],
        grants: Vec::new(),
        packs: BTreeMap::new(),
        plans: Plans::default(),
        billing: Billing::default(),
        spent_refunds: SpentPolicy::Owe,
        overage: Overage { policy: OveragePolicy::Owe, limit: None },
        low_balances: BTreeMap::new(),
        hold_seconds: 900,
    }
}

fn used(words: i64, at: Timestamp) -> Command {
    Command::Record(vec![ChargeRequest {
        id: Uuid::from_u128(7),
        operation_key: None,
        fingerprint: 0,
        meter: "words".into(),
        quantity: Micros::new(words * 1_000_000),
        own_amount: None,
        subject: None,
        dimensions: BTreeMap::new(),
        occurred_at: at,
        metadata: None,
    }])
}

/// What the customer is after so many more words and an invoice of them.
fn invoiced(catalog: &Catalog, customer: &Customer, words: i64, at: Timestamp) -> Decision {
    let after = decide(catalog, customer, &used(words, at), at).unwrap().customer;
    decide(catalog, &after, &Command::InvoiceUsage, at).unwrap()
}

fn cents(decision: &Decision) -> i64 {
    decision.invoices.iter().map(|invoice| invoice.total).sum()
}

fn owed(decision: &Decision) -> i64 {
    decision.customer.owed(&Asset::new("USD")).get()
}

fn newcomer(catalog: &Catalog, at: Timestamp) -> Customer {
    let nobody = Customer::new(Uuid::from_u128(1), 0);
    decide(catalog, &nobody, &Command::Upsert(CustomerChange::default()), at).unwrap().customer
}

#[test]
fn every_count_of_words_is_invoiced_down_to_the_cent() {
    let (catalog, at) = (catalog(), Timestamp::UNIX_EPOCH);
    let customer = newcomer(&catalog, at);
    for words in 0..=100_000 {
        let decision = invoiced(&catalog, &customer, words, at);
        assert_eq!((cents(&decision), owed(&decision)), (words / 10, words % 10 * 1_000), "{words} words");
    }
}

#[test]
fn what_is_less_than_a_cent_comes_to_the_next_month() {
    let (catalog, mut at) = (catalog(), Timestamp::UNIX_EPOCH);
    let mut customer = newcomer(&catalog, at);
    let (mut all, mut billed) = (0, 0);
    for words in (0..=100_000).step_by(997) {
        at += SignedDuration::from_hours(24 * 31);
        let decision = invoiced(&catalog, &customer, words, at);
        (all, billed) = (all + words, billed + cents(&decision));
        assert_eq!((billed, owed(&decision)), (all / 10, all % 10 * 1_000), "after {words} words");
        customer = decision.customer;
        // Nobody pays; what is on open invoices is not what is owed besides.
        assert_eq!(customer.invoiced(&Asset::new("USD")).unwrap().get(), billed * 10_000);
    }
}
