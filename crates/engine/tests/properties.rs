//! What holds in every life of every customer, whatever happens to it: random commands at random times under random
//! prices (`properties/life.rs`), looked at against a naive second opinion (`properties/model.rs`).
#![expect(clippy::unwrap_used, reason = "what the generator builds is valid")]

#[path = "properties/billing.rs"]
mod billing;
#[path = "properties/life.rs"]
mod life;
#[path = "properties/model.rs"]
mod model;
#[path = "properties/paying.rs"]
mod paying;
#[path = "properties/payments.rs"]
mod payments;

use std::collections::BTreeMap;

use engine::customer::State;
use engine::rating::rate;
use engine::wallet::balances;
use engine::{
    Account, Asset, Charge, CheckRequest, Command, Customer, CustomerChange, Decision, EntryKind, Grant, GrantKind,
    GrantRequest, Micros, OveragePolicy, Payment, Refusal, Source, check, decide,
};
use life::{Step, life, price, quantity};
use model::Months;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(128))]

    /// Credits minus debits of the wallet are what is left and held of each open grant, those of the receivable what is
    /// owed; and nothing of it is ever below nothing.
    #[test]
    fn the_books_balance((_, steps) in life()) {
        let mut books = Books::default();
        for step in &steps {
            let Some(decision) = step.decision() else { continue };
            books.post(decision)?;
            let state = &decision.customer.state;
            let open: BTreeMap<Uuid, i64> =
                state.grants.iter().map(|grant| (grant.id, grant.remaining.get() + grant.held.get())).collect();
            books.grants.retain(|_, value| *value != 0);
            prop_assert_eq!(&books.grants, &open);
            for grant in &state.grants {
                prop_assert!(!grant.remaining.is_negative() && !grant.held.is_negative(), "{:?}", grant);
            }
            books.receivable.retain(|_, value| *value != 0);
            let owed: BTreeMap<Asset, i64> = state.owed.iter().map(|(asset, owed)| (asset.clone(), owed.get())).collect();
            prop_assert_eq!(&books.receivable, &owed);
            prop_assert!(owed.values().all(|owed| *owed > 0));
        }
    }

    /// A charge is what its covers say: units for a part of the quantity, money for the price of the rest, debt for what
    /// neither covers; and its entries say the same.
    #[test]
    fn a_charge_is_covered_or_owed((catalog, steps) in life()) {
        for (_, decision, charge) in charges(&steps) {
            let unit = &catalog.meter(&charge.meter).unwrap().unit;
            let covered = |asset: &Asset| -> i64 {
                charge.covered_by.iter().filter(|cover| cover.asset == *asset).map(|cover| cover.amount.get()).sum()
            };
            prop_assert_eq!(covered(unit) + charge.priced_quantity.get(), charge.quantity.get());
            let money = if charge.asset == *unit { 0 } else { covered(&charge.asset) };
            let included = charge.included().get();
            prop_assert_eq!(money + charge.owed.get() + included, charge.amount.get().max(0));
            prop_assert!(included == 0 || charge.owed.is_zero());
            prop_assert!(charge.covered_by.iter().all(|cover| cover.amount > Micros::ZERO));
            let posted = |kind: EntryKind, debit: Account, asset: &Asset| -> i64 {
                let entries = decision.entries.iter().filter(|entry| entry.cause == charge.id && entry.kind == kind);
                entries.filter(|entry| entry.debit == debit && entry.asset == *asset).map(|entry| entry.amount.get()).sum()
            };
            for asset in [unit, &charge.asset] {
                prop_assert_eq!(posted(EntryKind::Charge, Account::Wallet, asset), covered(asset));
            }
            prop_assert_eq!(posted(EntryKind::Charge, Account::Receivable, &charge.asset), charge.owed.get());
            prop_assert_eq!(posted(EntryKind::Charge, Account::Promotions, &charge.asset), included);
            let given_back = posted(EntryKind::Repricing, Account::Revenue, &charge.asset);
            prop_assert_eq!(given_back, charge.amount.get().min(0).abs());
        }
    }

    /// The first charge of a command is covered by the grants that a naive wallet finds in their order of use. (What a
    /// hold keeps is used before them, so charges from holds are another matter.)
    #[test]
    fn grants_are_used_in_their_order((catalog, steps) in life()) {
        for step in &steps {
            prop_assert!(step.after().state.grants.is_sorted_by_key(Grant::order));
        }
        for (step, decision, charge) in charges(&steps) {
            // What recurs was charged at its own time.
            let late = charge.source == Source::Recurring;
            if late || charge.hold.is_some() || charge.id != decision.charges[0].id {
                continue;
            }
            let unit = &catalog.meter(&charge.meter).unwrap().unit;
            let mut free = model::free(&step.before, step.now);
            let mut expected = model::take(&mut free, unit, &charge.meter, charge.quantity.get());
            expected.extend(model::take(&mut free, &charge.asset, &charge.meter, charge.amount.get()));
            let covered: Vec<_> = charge.covered_by.iter().map(|cover| (cover.grant, cover.amount.get())).collect();
            prop_assert_eq!(covered, expected);
        }
    }

    /// Each charge costs what a naive price says, and the charges of a month under a price that counts over the month add
    /// up to the rounded price of its total.
    #[test]
    fn charges_add_up_to_the_price((catalog, steps) in life()) {
        let mut counted: BTreeMap<String, Months> = BTreeMap::new();
        for (_, _, charge) in charges(&steps) {
            let meter = catalog.meter(&charge.meter).unwrap();
            let Some(price) = catalog.price(meter, &charge.dimensions, &[]).unwrap() else {
                prop_assert_eq!(charge.amount, charge.priced_quantity);
                continue;
            };
            if charge.price.is_none() {
                prop_assert_eq!((charge.amount, charge.priced_quantity), (Micros::ZERO, Micros::ZERO));
            } else if price.model.is_cumulative() {
                let month = counted.entry(price.name.to_string()).or_default().of(charge.occurred_at, &catalog.time_zone);
                prop_assert_eq!(charge.counted_before.get(), month.0);
                month.0 += charge.priced_quantity.get();
                month.1 += charge.amount.get();
                prop_assert_eq!(month.1, model::amount(price, month.0));
            } else {
                prop_assert_eq!(charge.amount.get(), model::amount(price, charge.priced_quantity.get()));
            }
        }
    }

    /// Under a price that counts over the month it makes no difference how its quantity is cut into charges.
    #[test]
    fn splitting_a_quantity_changes_nothing(price in price("USD"), quantities in vec(quantity(), 1..20)) {
        let mut before = Micros::ZERO;
        let mut sum = 0;
        for quantity in quantities {
            let amount = rate(&price, before, quantity).unwrap();
            before = before.plus(quantity).unwrap();
            sum += amount.get();
            if price.model.is_cumulative() {
                prop_assert_eq!(sum, rate(&price, Micros::ZERO, before).unwrap().get());
                prop_assert_eq!(sum, model::amount(&price, before.get()));
            } else {
                prop_assert_eq!(amount.get(), model::amount(&price, quantity.get()));
            }
        }
    }

    /// The same input gives the same decision; also after the state was stored and read again.
    #[test]
    fn the_same_input_gives_the_same_decision((catalog, steps) in life()) {
        for step in &steps {
            let stored = serde_json::to_string(&step.before.state).unwrap();
            let state: State = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&state, &step.before.state);
            let read = Customer { state, ..step.before.clone() };
            prop_assert_eq!(&step.decide(&catalog, &read), &step.outcome);
            for payment in step.decision().iter().flat_map(|decision| &decision.payments) {
                let stored = serde_json::to_string(payment).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Payment>(&stored).unwrap(), payment);
            }
        }
    }

    /// A refusal changes nothing: a life without its refused commands comes to the same.
    #[test]
    fn a_refusal_changes_nothing((catalog, steps) in life()) {
        let mut customer = steps[0].before.clone();
        for step in steps.iter().filter(|step| step.outcome.is_ok()) {
            let outcome = step.decide(&catalog, &customer);
            prop_assert_eq!(&outcome, &step.outcome);
            customer = outcome.unwrap().customer;
        }
        prop_assert_eq!(Some(&customer), steps.last().map(Step::after));
    }

    /// A check says what the charge that follows at once comes to.
    #[test]
    fn a_check_agrees_with_the_charge((catalog, steps) in life()) {
        for step in &steps {
            let Command::Charge(requests) = &step.command else { continue };
            let request = &requests[0];
            let (meter, quantity, dimensions) = (request.meter.clone(), request.quantity, request.dimensions.clone());
            let asked = CheckRequest { meter, quantity, dimensions };
            let check = check(&catalog, &step.before, &asked, step.now).unwrap();
            prop_assert_eq!(check.as_of, step.before.position);
            match decide(&catalog, &step.before, &Command::Charge(vec![request.clone()]), step.now) {
                Ok(decision) => {
                    // Before it comes what recurs and was due.
                    let charge = decision.charges.iter().find(|charge| charge.id == request.id).unwrap();
                    prop_assert_eq!(check.refusal, None);
                    prop_assert_eq!(check.amount, Some(charge.amount));
                    prop_assert_eq!((check.asset, check.owed), (charge.asset.clone(), charge.owed));
                    prop_assert_eq!(&check.covered_by, &charge.covered_by);
                }
                Err(refusal) => prop_assert_eq!(check.refusal, Some(refusal)),
            }
        }
    }

    /// What the ledger reads at a time is what it books at that time.
    #[test]
    fn reading_agrees_with_booking((catalog, steps) in life()) {
        for step in steps.iter().filter(|step| step.before.position > 0) {
            let read = balances(&catalog, &step.before, step.now);
            let nothing = Command::Upsert(CustomerChange::default());
            let booked = decide(&catalog, &step.before, &nothing, step.now).unwrap().customer;
            prop_assert_eq!(read, balances(&catalog, &booked, step.now));
            let lapsed = |grant: &&Grant| grant.has_expired(step.now) && !grant.remaining.is_zero() && !grant.frozen;
            prop_assert_eq!(step.after().state.grants.iter().find(lapsed).filter(|_| step.outcome.is_ok()), None);
        }
    }

    /// What a grant says is held of it is what the open holds keep of it, and nobody but the hold itself takes from it.
    #[test]
    fn nobody_spends_what_a_hold_keeps((_, steps) in life()) {
        for step in &steps {
            let after = &step.after().state;
            let mut kept: BTreeMap<Uuid, i64> = BTreeMap::new();
            for allocation in after.holds.iter().flat_map(|hold| &hold.allocations) {
                prop_assert!(allocation.amount > Micros::ZERO);
                *kept.entry(allocation.grant).or_default() += allocation.amount.get();
            }
            let held = after.grants.iter().filter(|grant| !grant.held.is_zero());
            prop_assert_eq!(held.map(|grant| (grant.id, grant.held.get())).collect::<BTreeMap<_, _>>(), kept);
            for hold in step.before.state.holds.iter().filter(|hold| Some(hold.id) != own_hold(&step.command)) {
                let ended = step.outcome.is_ok() && (hold.expires_at <= step.now || step.command == Command::Erase);
                let now_kept = after.holds.iter().find(|other| other.id == hold.id);
                prop_assert_eq!(now_kept, Some(hold).filter(|_| !ended));
            }
        }
    }

    /// Nobody comes to owe anything by a charge or a hold but under `owe`, and there not above the limit.
    #[test]
    fn what_is_asked_for_beforehand_stays_within_the_policy((catalog, steps) in life()) {
        for step in &steps {
            let Some(decision) = step.decision() else { continue };
            let state = &decision.customer.state;
            let rooms = |state: &State, asset: &Asset| -> i64 {
                let rooms = state.holds.iter().filter_map(|hold| hold.owed.as_ref());
                rooms.filter(|(of, _)| of == asset).map(|(_, room)| room.get()).sum()
            };
            let debt = |state: &State, asset: &Asset| rooms(state, asset) + state.owed.get(asset).map_or(0, |owed| owed.get());
            let asked = matches!(step.command, Command::Charge(_) | Command::BeginRecurringCharge(_));
            if !asked && !matches!(step.command, Command::Hold(_) | Command::ExtendHold { .. }) {
                continue;
            }
            let overage = state.overage.unwrap_or(catalog.overage);
            // What recurs is owed in any case.
            let before = decide(&catalog, &step.before, &Command::PassTime, step.now).unwrap().customer.state;
            for asset in ["USD", "EUR", "use", "token", "minute", "page"].map(Asset::new) {
                if debt(state, &asset) > debt(&before, &asset) {
                    // What a hold keeps room for is included as well.
                    if overage.policy == OveragePolicy::Included {
                        prop_assert!(state.owed.get(&asset) <= before.owed.get(&asset));
                        continue;
                    }
                    prop_assert_eq!(overage.policy, OveragePolicy::Owe);
                    prop_assert!(overage.limit.is_none_or(|limit| debt(state, &asset) <= limit.get()));
                }
            }
            let asked = decision.charges.iter().filter(|charge| charge.source != Source::Recurring);
            let owed = asked.filter(|charge| !charge.owed.is_zero());
            prop_assert!(overage.policy == OveragePolicy::Owe || owed.count() == 0);
        }
    }

    /// Who pays what a refusal asks for may then do what it asked for.
    #[test]
    fn the_payment_that_is_asked_for_is_enough((catalog, steps) in life()) {
        for step in &steps {
            let Err(Refusal::PaymentRequired { asset, amount }) = &step.outcome else { continue };
            let payment = Command::Grant(GrantRequest {
                id: Uuid::from_u128(u128::MAX),
                asset: asset.to_string(),
                amount: *amount,
                kind: GrantKind::Paid,
                priority: 0,
                expires_at: None,
                meters: Vec::new(),
                reason: None,
            });
            let paid = decide(&catalog, &step.before, &payment, step.now).unwrap().customer;
            let outcome = decide(&catalog, &paid, &step.command, step.now);
            let several = matches!(&step.command, Command::Charge(requests) if requests.len() > 1);
            prop_assert!(several || outcome.is_ok(), "{:?}", outcome);
        }
    }

    /// What others hold is enough, once they give it up. (Not where a grant has lapsed or was taken back meanwhile: what
    /// is given back to it has lapsed too.)
    #[test]
    fn who_waits_for_others_may_go_on_when_they_end((catalog, steps) in life()) {
        for step in &steps {
            let Err(Refusal::HeldByOthers { .. }) = &step.outcome else { continue };
            if step.before.state.grants.iter().any(|grant| grant.has_expired(step.now)) {
                continue;
            }
            let mut customer = step.before.clone();
            for hold in step.before.state.holds.iter().filter(|hold| Some(hold.id) != own_hold(&step.command)) {
                let released = decide(&catalog, &customer, &Command::ReleaseHold { hold: hold.id }, step.now);
                customer = released.map_or(customer, |decision| decision.customer);
            }
            let outcome = decide(&catalog, &customer, &step.command, step.now);
            let several = matches!(&step.command, Command::Charge(requests) if requests.len() > 1);
            prop_assert!(several || outcome.is_ok(), "{:?}", outcome);
        }
    }

    /// Usage that has happened is recorded, whoever the customer is and whatever it has; and so is the use of a hold.
    #[test]
    fn what_has_happened_is_never_refused((_, steps) in life()) {
        for step in &steps {
            let open = |id: &Uuid| step.before.state.holds.iter().any(|hold| hold.id == *id && hold.expires_at > step.now);
            match &step.command {
                Command::Record(_) => prop_assert_eq!(step.outcome.as_ref().err(), None),
                Command::CaptureHold { hold, .. } | Command::SettleHold { hold, .. } => {
                    let expected = if open(hold) { None } else { Some(&Refusal::HoldEnded) };
                    prop_assert_eq!(step.outcome.as_ref().err(), expected);
                }
                _ => {}
            }
        }
    }
}

/// Every charge of a life, with its step and decision.
fn charges(steps: &[Step]) -> impl Iterator<Item = (&Step, &Decision, &Charge)> {
    let decided = steps.iter().filter_map(|step| Some((step, step.decision()?)));
    decided.flat_map(|(step, decision)| decision.charges.iter().map(move |charge| (step, decision, charge)))
}

/// The hold that a command is about.
fn own_hold(command: &Command) -> Option<Uuid> {
    match command {
        Command::ExtendHold { hold, .. }
        | Command::CaptureHold { hold, .. }
        | Command::SettleHold { hold, .. }
        | Command::ReleaseHold { hold } => Some(*hold),
        _ => None,
    }
}

/// What entries alone say.
#[derive(Default)]
struct Books {
    grants: BTreeMap<Uuid, i64>,
    receivable: BTreeMap<Asset, i64>,
    position: i64,
}

impl Books {
    fn post(&mut self, decision: &Decision) -> Result<(), TestCaseError> {
        self.position += 1;
        prop_assert_eq!(decision.customer.position, self.position);
        for (line, entry) in (0..).zip(&decision.entries) {
            prop_assert_eq!((entry.position, entry.line), (self.position, line));
            prop_assert!(entry.amount > Micros::ZERO && entry.debit != entry.credit);
            let wallet = [entry.debit, entry.credit].contains(&Account::Wallet);
            prop_assert_eq!(entry.grant.is_some(), wallet);
            for (account, sign) in [(entry.credit, 1), (entry.debit, -1)] {
                match (account, entry.grant) {
                    (Account::Wallet, Some(grant)) => {
                        *self.grants.entry(grant).or_default() += sign * entry.amount.get()
                    }
                    (Account::Receivable, _) => {
                        *self.receivable.entry(entry.asset.clone()).or_default() -= sign * entry.amount.get();
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
