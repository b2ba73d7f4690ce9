//! What happens to a customer that pays: purchases, and whatever a provider may say of them, in any order, twice, late
//! or wrongly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::report::{
    DisputeReport, DisputeState, Failure, PaymentMethod, PaymentMethodsReport, PaymentReport, Progress, RefundProgress,
    RefundReport,
};
use engine::{
    Asset, Collection, CollectionRequest, Command, Heard, Micros, Money, OneTime, OneTimeRequest, Pack, PayerChange,
    Payment, PaymentStep, PurchaseRequest, TopUpSettings,
};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

/// A part of a payment, in thousandths, of which some are too much.
type Part = i64;

/// Something to happen, before it is known to which payment.
#[derive(Clone, Debug)]
pub(crate) enum Paying {
    /// One of the packs, or, behind the last, usage.
    Buy {
        pack: usize,
        quantity: u32,
        on_file: bool,
    },
    Collect {
        minor: i64,
        on_file: bool,
    },
    Report {
        payment: Index,
        heard: Heard,
        said: Said,
    },
    Fail(Index),
    Cancel(Index),
    Refund {
        payment: Index,
        part: Option<Part>,
    },
    ReportRefund {
        payment: Index,
        refund: Index,
        progress: RefundProgress,
    },
    FailRefund {
        payment: Index,
        refund: Index,
    },
    Methods {
        count: usize,
        default: Option<usize>,
        ago: i64,
    },
    TopUp(Option<(usize, i64, i64)>),
    /// Something that was said before is said again.
    Repeat(Index),
}

/// What a provider says of a payment.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    progress: Progress,
    /// What is wrong about it, mostly nothing: the reference, the amount, the currency, what was received.
    wrong: u8,
    failure: bool,
    /// Refunds: which of ours, or of those made elsewhere, how much of the payment, and how far.
    refunds: Vec<(bool, Index, Part, RefundProgress)>,
    dispute: Option<(Part, DisputeState)>,
}

const PACKS: [&str; 3] = ["usd", "tokens", "yen"];

fn collection(on_file: bool) -> CollectionRequest {
    if on_file {
        CollectionRequest::OnFile(None)
    } else {
        CollectionRequest::By(Collection::OnSession { save_method: false })
    }
}

impl Paying {
    /// The command, where there is something for it to happen to.
    pub(crate) fn command(
        self,
        payments: &BTreeMap<Uuid, Payment>,
        said: &[Command],
        id: u128,
        now: Timestamp,
    ) -> Option<Command> {
        let known: Vec<&Payment> = payments.values().collect();
        let find = |index: Index| (!known.is_empty()).then(|| *index.get(&known));
        let paid: Vec<&Payment> = known.iter().copied().filter(|payment| payment.paid_at.is_some()).collect();
        let find_paid = |index: Index| if paid.is_empty() { find(index) } else { Some(*index.get(&paid)) };
        let step = |payment: &Payment, step| Command::StepPayment { payment: payment.id, step };
        Some(match self {
            Self::Buy { pack, quantity, on_file } => {
                let (id, collection) = (Uuid::from_u128(id), collection(on_file));
                match PACKS.get(pack) {
                    Some(pack) => {
                        Command::Purchase(PurchaseRequest { id, pack: Arc::from(*pack), quantity, collection })
                    }
                    None => Command::CollectOnce(OneTimeRequest {
                        id,
                        amount: Money { minor: i64::from(quantity) * 100, currency: Asset::new("USD") },
                        one_time: OneTime { description: "Usage".into(), metadata: BTreeMap::new(), for_usage: true },
                        collection,
                    }),
                }
            }
            Self::Collect { minor, on_file } => Command::CollectOnce(OneTimeRequest {
                id: Uuid::from_u128(id),
                amount: Money { minor, currency: Asset::new("USD") },
                one_time: OneTime { description: "Once".into(), metadata: BTreeMap::new(), for_usage: false },
                collection: collection(on_file),
            }),
            Self::Report { payment, heard, said } => {
                let payment = find(payment)?;
                step(payment, PaymentStep::Report(heard, Box::new(said.of(payment))))
            }
            Self::Fail(payment) => step(find(payment)?, PaymentStep::Fail(failure())),
            Self::Cancel(payment) => step(find(payment)?, PaymentStep::Cancel),
            Self::Refund { payment, part } => {
                let payment = find_paid(payment)?;
                let minor = part.map(|part| share(payment, part));
                step(payment, PaymentStep::Refund { id: Uuid::from_u128(id), minor })
            }
            Self::ReportRefund { payment, refund, progress } => {
                let payment = find_paid(payment)?;
                let refund = (!payment.refunds.is_empty()).then(|| refund.get(&payment.refunds))?;
                let reference = refund.reference.clone().unwrap_or_else(|| format!("re_{}", refund.id).into());
                let report = RefundReport { reference, id: None, minor: refund.minor, progress, failure: None };
                step(payment, PaymentStep::ReportRefund { refund: refund.id, report })
            }
            Self::FailRefund { payment, refund } => {
                let payment = find_paid(payment)?;
                let refund = (!payment.refunds.is_empty()).then(|| refund.get(&payment.refunds))?.id;
                step(payment, PaymentStep::FailRefund { refund, failure: failure() })
            }
            Self::Methods { count, default, ago } => Command::ChangePayer(PayerChange::Methods(PaymentMethodsReport {
                seen_at: now - SignedDuration::from_secs(ago),
                methods: (0..count).rev().map(method).collect(),
                default: default.map(|number| method(number).reference),
            })),
            Self::TopUp(settings) => {
                Command::ChangePayer(PayerChange::TopUp(settings.map(|(pack, threshold, limit)| {
                    let (threshold, pack) = (Micros::new(threshold * 1_000_000), PACKS[pack].into());
                    TopUpSettings { threshold, pack, monthly_limit: limit }
                })))
            }
            Self::Repeat(index) => (!said.is_empty()).then(|| index.get(said).clone())?,
        })
    }
}

impl Said {
    fn of(self, payment: &Payment) -> PaymentReport {
        let mut report = PaymentReport {
            reference: format!("pi_{}", payment.id).into(),
            id: None,
            progress: self.progress,
            amount: payment.amount.clone(),
            received: if self.progress == Progress::Paid { payment.amount.minor } else { 0 },
            client_secret: None,
            page: None,
            failure: self.failure.then(failure),
            refunds: self.refunds.into_iter().map(|refund| refund_report(payment, refund)).collect(),
            dispute: self.dispute.map(|(part, state)| DisputeReport {
                reference: "dp_1".into(),
                minor: share(payment, part),
                state,
            }),
        };
        // A provider lists a refund once.
        let mut listed = BTreeSet::new();
        report.refunds.retain(|refund| listed.insert(refund.reference.clone()));
        match self.wrong {
            0 => report.reference = "pi_other".into(),
            1 => report.amount.minor += 1,
            2 => report.amount.currency = Asset::new("EUR"),
            3 => report.received -= 1,
            _ => {}
        }
        report
    }
}

/// A refund of ours, by our id until the provider's is known, or one that was made elsewhere.
fn refund_report(
    payment: &Payment,
    (ours, index, part, progress): (bool, Index, Part, RefundProgress),
) -> RefundReport {
    if ours && !payment.refunds.is_empty() {
        let refund = index.get(&payment.refunds);
        let reference = refund.reference.clone().unwrap_or_else(|| format!("re_{}", refund.id).into());
        let id = Some(refund.id.to_string().into());
        return RefundReport { reference, id, minor: refund.minor, progress, failure: None };
    }
    let reference = format!("re_elsewhere_{}", index.index(3)).into();
    RefundReport { reference, id: None, minor: share(payment, part), progress, failure: None }
}

fn share(payment: &Payment, part: Part) -> i64 {
    payment.amount.minor * part / 1000
}

fn failure() -> Failure {
    Failure { code: "card_declined".into(), decline_code: None, message: "The card was declined.".into() }
}

fn method(number: usize) -> PaymentMethod {
    PaymentMethod { reference: format!("pm_{number}").into(), brand: "visa".into(), last4: None, expires: None }
}

fn progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        2 => Just(Progress::RequiresPayment),
        1 => Just(Progress::RequiresAction),
        1 => Just(Progress::Processing),
        6 => Just(Progress::Paid),
        1 => Just(Progress::Canceled),
    ]
}

fn refund_progress() -> impl Strategy<Value = RefundProgress> {
    prop_oneof![
        2 => Just(RefundProgress::Pending),
        2 => Just(RefundProgress::Succeeded),
        1 => Just(RefundProgress::Failed)
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![4 => 1..600_i64, 1 => 0..1200_i64, 1 => Just(1000)]
}

fn said() -> impl Strategy<Value = Said> {
    let dispute_state =
        prop_oneof![2 => Just(DisputeState::Open), 1 => Just(DisputeState::Won), 1 => Just(DisputeState::Lost)];
    let refund = (any::<bool>(), any::<Index>(), part(), refund_progress());
    (progress(), 0..30_u8, any::<bool>(), vec(refund, 0..3), option::weighted(0.2, (part(), dispute_state)))
        .prop_map(|(progress, wrong, failure, refunds, dispute)| Said { progress, wrong, failure, refunds, dispute })
}

pub(crate) fn paying() -> impl Strategy<Value = Paying> {
    let index = any::<Index>;
    let heard = prop_oneof![6 => Just(Heard::Made), 1 => Just(Heard::Asked), 2 => Just(Heard::Told)];
    let top_up = (0..PACKS.len(), 0..30_i64, 1..4000_i64);
    prop_oneof![
        4 => (0..=PACKS.len(), 1..4_u32, prop::bool::weighted(0.3))
            .prop_map(|(pack, quantity, on_file)| Paying::Buy { pack, quantity, on_file }),
        1 => (0..5000_i64, any::<bool>()).prop_map(|(minor, on_file)| Paying::Collect { minor, on_file }),
        12 => (index(), heard, said()).prop_map(|(payment, heard, said)| Paying::Report { payment, heard, said }),
        1 => index().prop_map(Paying::Fail),
        1 => index().prop_map(Paying::Cancel),
        5 => (index(), option::weighted(0.8, part())).prop_map(|(payment, part)| Paying::Refund { payment, part }),
        2 => (index(), index(), refund_progress())
            .prop_map(|(payment, refund, progress)| Paying::ReportRefund { payment, refund, progress }),
        2 => (index(), index()).prop_map(|(payment, refund)| Paying::FailRefund { payment, refund }),
        3 => (0..24_usize, option::of(0..24_usize), 0..100_i64)
            .prop_map(|(count, default, ago)| Paying::Methods { count, default, ago }),
        3 => option::weighted(0.8, top_up).prop_map(Paying::TopUp),
        4 => index().prop_map(Paying::Repeat),
    ]
}

/// One pack of each kind, at prices that seldom divide what they give.
pub(crate) fn packs() -> impl Strategy<Value = BTreeMap<Arc<str>, Pack>> {
    let pack = |name: &'static str, currency: &'static str, asset: &'static str| {
        let amount = prop_oneof![4 => 1..40_000_000_i64, 1 => 1..100_i64];
        (1..3000_i64, amount, option::of(1..40_i64), -1..2_i16).prop_map(move |(minor, amount, days, priority)| Pack {
            name: name.into(),
            title: name.into(),
            price: Money { minor, currency: Asset::new(currency) },
            asset: Asset::new(asset),
            amount: Micros::new(amount),
            priority,
            expires_after_days: days,
            meters: Vec::new(),
        })
    };
    let [usd, tokens, yen] = PACKS;
    (pack(usd, "USD", "USD"), pack(tokens, "USD", "token"), pack(yen, "JPY", "USD"))
        .prop_map(|(a, b, c)| [a, b, c].into_iter().map(|pack| (pack.name.clone(), pack)).collect())
}
