//! What holds of every payment, whatever a provider says, in whatever order and how often.

use std::collections::{BTreeMap, BTreeSet};

use engine::id::operation_id;
use engine::payment::PAYMENT_LASTS;
use engine::purchase::purchased_grant;
use engine::report::{DisputeState, Progress};
use engine::{
    Account, Command, Effect, EntryKind, GrantKind, Micros, PayerChange, Payment, PaymentState, PaymentStep, Purpose,
    decide_payment,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::life::{Step, payers_life};
use crate::{cases, model};

proptest! {
    #![proptest_config(cases(256))]

    /// A payment becomes a grant when it is first known to be paid, exactly as recorded, by the report of the very
    /// payment that was made; and never otherwise.
    #[test]
    fn a_payment_is_granted_once_and_only_when_paid_exactly((_, steps) in payers_life()) {
        let mut granted = BTreeSet::new();
        for (step, payment) in payments(&steps) {
            let Purpose::Purchase(purchase) = &payment.purpose else { continue };
            let decision = step.decision().unwrap();
            let before = step.payment.as_ref().filter(|before| before.id == payment.id);
            let grant = decision.grants.iter().find(|grant| grant.id == purchased_grant(payment.id));
            let newly_paid = payment.state == PaymentState::Paid && before.is_some_and(|b| b.state != PaymentState::Paid);
            prop_assert_eq!(grant.is_some(), newly_paid);
            let Some(grant) = grant else { continue };
            prop_assert!(granted.insert(payment.id), "granted twice");
            prop_assert_eq!((grant.amount, &grant.asset, grant.kind), (purchase.amount, &purchase.asset, GrantKind::Paid));
            let Command::StepPayment { step: PaymentStep::Report(_, report), .. } = &step.command else {
                return Err(TestCaseError::fail("granted without a report"));
            };
            prop_assert_eq!((report.progress, &report.amount), (Progress::Paid, &payment.amount));
            prop_assert_eq!(report.received, payment.amount.minor);
            prop_assert_eq!(Some(&report.reference), payment.reference.as_ref());
        }
    }

    /// What was recorded of a payment stays; being paid is final, and nothing but being paid follows its end.
    #[test]
    fn what_was_agreed_on_stays((_, steps) in payers_life()) {
        for (step, after) in payments(&steps) {
            let Some(before) = step.payment.as_ref().filter(|before| before.id == after.id) else { continue };
            prop_assert_eq!((&before.purpose, &before.amount), (&after.purpose, &after.amount));
            prop_assert_eq!((&before.collection, before.created_at), (&after.collection, after.created_at));
            prop_assert!(before.reference.is_none() || before.reference == after.reference);
            match before.state {
                PaymentState::Paid => prop_assert_eq!((after.state, after.paid_at), (PaymentState::Paid, before.paid_at)),
                PaymentState::Canceled => {
                    prop_assert!([PaymentState::Canceled, PaymentState::Paid].contains(&after.state));
                }
                _ => {}
            }
        }
    }

    /// What is taken back of what was sold is its share of the price that went back, to the micro, whichever refunds fail
    /// or overlap. Nothing goes back that was not paid.
    #[test]
    fn what_is_taken_back_is_its_share((_, steps) in payers_life()) {
        for (_, payment) in payments(&steps) {
            let Purpose::Purchase(purchase) = &payment.purpose else { continue };
            let given_back = model::given_back(payment);
            prop_assert_eq!(payment.refunded(), given_back);
            prop_assert!(given_back == 0 || payment.state == PaymentState::Paid);
            let (taken, share) = (model::taken_back(payment), model::share(purchase.amount, given_back, payment.amount.minor));
            prop_assert_eq!(taken, share);
            let parts = payment.refunds.iter().flat_map(|refund| [refund.unspent, refund.owed, refund.forgiven]);
            prop_assert!(parts.into_iter().all(|part| part >= Micros::ZERO));
        }
    }

    /// What the books hold as sold for a payment is what was sold, less what was taken back for what went back of it.
    #[test]
    fn the_books_hold_what_was_sold((_, steps) in payers_life()) {
        let mut sold: BTreeMap<Uuid, i64> = BTreeMap::new();
        for step in &steps {
            let Some(decision) = step.decision() else { continue };
            for entry in decision.entries.iter().filter(|entry| entry.kind != EntryKind::Void) {
                let sign = i64::from(entry.debit == Account::Cash) - i64::from(entry.credit == Account::Cash);
                *sold.entry(entry.cause).or_default() += sign * entry.amount.get();
            }
            for payment in decision.payments.iter().filter(|payment| payment.state == PaymentState::Paid) {
                let Purpose::Purchase(purchase) = &payment.purpose else { continue };
                let causes = payment.refunds.iter().map(|refund| refund.id).chain(grants_of(payment));
                let booked: i64 = causes.filter_map(|cause| sold.get(&cause)).sum();
                prop_assert_eq!(booked, purchase.amount.get() - model::taken_back(payment));
            }
        }
    }

    /// Nobody comes to owe, and nothing is forgiven, while something of what was sold is unspent; and all that is left of
    /// it is frozen while its payment is disputed, and only then.
    #[test]
    fn what_is_left_is_taken_first((_, steps) in payers_life()) {
        for (step, payment) in payments(&steps) {
            let before = step.payment.as_ref().filter(|before| before.id == payment.id);
            let sold = grants_of(payment);
            let open: Vec<_> = step.after().state.grants.iter().filter(|grant| sold.contains(&grant.id)).collect();
            let known = before.map_or(0, |before| before.refunds.len());
            let new = payment.refunds.iter().skip(known).filter(|refund| refund.counts());
            if new.into_iter().any(|refund| !(refund.owed.is_zero() && refund.forgiven.is_zero())) {
                prop_assert!(open.iter().all(|grant| grant.remaining.is_zero()) || failed_now(before, payment));
            }
            let disputed = payment.dispute.as_ref().is_some_and(|dispute| dispute.state == DisputeState::Open);
            prop_assert!(open.iter().all(|grant| grant.frozen == disputed));
        }
    }

    /// Whatever a provider says, saying it again at once changes nothing more.
    #[test]
    fn saying_it_again_changes_nothing((catalog, steps) in payers_life()) {
        for step in &steps {
            let (Some(decision), true) = (step.decision(), is_said(&step.command)) else { continue };
            let is_it = |payment: &&Payment| step.payment.as_ref().is_some_and(|before| before.id == payment.id);
            let after = decision.payments.iter().find(is_it);
            let again = decide_payment(&catalog, &decision.customer, after, &step.command, step.now).unwrap();
            prop_assert_eq!(&again.customer.state, &decision.customer.state);
            prop_assert_eq!(again.customer.status, decision.customer.status);
            prop_assert!(again.entries.is_empty() && again.grants.is_empty() && again.charges.is_empty());
            let same = |payment: &Payment| Payment { position: 0, ..payment.clone() };
            prop_assert_eq!(again.payments.iter().map(same).collect::<Vec<_>>(), after.map(same).into_iter().collect::<Vec<_>>());
        }
    }

    /// Every effect of a life has an id of its own, and none is due before its cause.
    #[test]
    fn effects_are_told_apart((_, steps) in payers_life()) {
        let mut ids = BTreeSet::new();
        for step in &steps {
            for record in step.decision().iter().flat_map(|decision| &decision.effects) {
                prop_assert!(ids.insert(record.id));
                prop_assert!(record.due_at >= step.now);
            }
        }
    }

    /// Somebody looks after every payment that the provider has made: while it is open, a report that answers us asks for
    /// the next look, or for its end when it has waited for too long.
    #[test]
    fn an_open_payment_is_looked_after((_, steps) in payers_life()) {
        for (step, payment) in payments(&steps) {
            let Command::StepPayment { payment: id, step: PaymentStep::Report(heard, _) } = &step.command else { continue };
            if *heard == engine::Heard::Told || payment.state.has_ended() || payment.id != *id {
                continue;
            }
            let effects = &step.decision().unwrap().effects;
            let looks = effects.iter().any(|record| record.effect == Effect::ObservePayment { payment: *id });
            let ends = effects.iter().any(|record| record.effect == Effect::CancelPayment { payment: *id });
            let age = step.now.duration_since(payment.created_at);
            let waited = age >= PAYMENT_LASTS && payment.state != PaymentState::Processing;
            prop_assert_eq!(looks, !waited);
            prop_assert!(ends || !waited);
        }
    }

    /// The automatic top-up buys when the wallet is low, one pack at a time, with a method on file, and never for more in
    /// a month than it may; what did not come about does not count.
    #[test]
    fn the_top_up_stays_within_its_limit((catalog, steps) in payers_life()) {
        let mut bought: Vec<Payment> = Vec::new();
        for step in steps.iter().take_while(|step| step.command != Command::Erase) {
            let before = bought.len();
            for payment in step.decision().iter().flat_map(|decision| &decision.payments) {
                let Purpose::Purchase(purchase) = &payment.purpose else { continue };
                match bought.iter_mut().find(|known| known.id == payment.id) {
                    Some(known) => *known = payment.clone(),
                    None if purchase.automatic => bought.push(payment.clone()),
                    None => {}
                }
            }
            if bought.len() == before {
                continue;
            }
            prop_assert_eq!(bought.len(), before + 1);
            let payer = &step.after().state.payer;
            let top_up = payer.top_up.as_ref().unwrap();
            let spent = model::spent_in_month(&bought, step.now, &catalog.time_zone);
            prop_assert_eq!((top_up.spent, top_up.pending), (spent, bought.last().map(|payment| payment.id)));
            prop_assert!(spent <= top_up.settings.monthly_limit, "{}", spent);
            let pack = catalog.pack(&top_up.settings.pack).unwrap();
            let left: i64 = model::free(step.after(), step.now)
                .iter()
                .filter(|(grant, _)| grant.asset == pack.asset)
                .map(|(_, left)| left)
                .sum();
            prop_assert!(left < top_up.settings.threshold.get());
            prop_assert!(!payer.methods.is_empty());
        }
    }
}

/// Every payment that a step records or changes, as it is then, with its step.
fn payments(steps: &[Step]) -> impl Iterator<Item = (&Step, &Payment)> {
    let decided = steps.iter().filter_map(|step| Some((step, step.decision()?)));
    decided.flat_map(|(step, decision)| decision.payments.iter().map(move |payment| (step, payment)))
}

/// The grants that a payment became: the one for what was sold, and those for what failed refunds returned.
fn grants_of(payment: &Payment) -> Vec<Uuid> {
    let returned = payment.refunds.iter().map(|refund| operation_id(refund.id, "refund", "failed"));
    returned.chain([purchased_grant(payment.id)]).collect()
}

/// Whether a refund that counted before has failed now.
fn failed_now(before: Option<&Payment>, payment: &Payment) -> bool {
    let earlier = before.map_or(&[][..], |before| &before.refunds);
    earlier.iter().zip(&payment.refunds).any(|(before, now)| before.counts() && !now.counts())
}

/// Whether it is the provider that says something, and not somebody who asks for something.
pub(crate) fn is_said(command: &Command) -> bool {
    match command {
        Command::StepPayment { step, .. } => !matches!(step, PaymentStep::Cancel | PaymentStep::Refund { .. }),
        Command::ChangePayer(change) => matches!(change, PayerChange::Methods(_)),
        _ => false,
    }
}
