//! The service against a naive second opinion: the same random commands, with repeated keys, lapsing grants and holds,
//! erasures and clocks that move on, go through two services on one database, optimistic, under lock and mixed, and through
//! a loop that decides one command after the other on customers in memory. All must come to the same, to the last entry.

use std::collections::{BTreeMap, HashMap};

use engine::{
    Charge, ChargeRequest, Command, Customer, CustomerChange, Entry, GrantKind, GrantRequest, HoldRequest, HoldSize,
    Overage, OveragePolicy, Profile, Refusal, Status, decide, id,
};
use farthing::service::{Answer, Commit, Request, Service, ServiceError, Settings};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::books;
use crate::databases::{Database, on_both};
use crate::product::{Product, fingerprint, micros, outcome};

const COMMANDS: usize = 400;
const CUSTOMERS: u64 = 4;

/// A small generator of random numbers (splitmix64), so that a seed always makes the same commands.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("it is below the length")]
    }
}

/// Random commands of one product: few customers and few keys, so that they meet.
struct Commands {
    random: Random,
    product: Product,
    made: u64,
    /// Who was to be given which grants and holds, by the key.
    asked: Vec<(String, &'static str, String)>,
}

impl Commands {
    fn new(seed: u64) -> Self {
        // Some hours before the end of a month, so that counters begin anew on the way.
        let product = Product::new("acme").later(-42 * 3_600);
        Self { random: Random(seed), product, made: 0, asked: Vec::new() }
    }

    fn next(&mut self) -> Request {
        self.made += 1;
        self.product = self.product.later(i64::try_from(self.random.below(300)).expect("it is small"));
        let number = if self.made <= CUSTOMERS { self.made - 1 } else { self.random.below(CUSTOMERS) };
        let who = format!("customer-{number}");
        let key = format!("k{}", self.random.below(50));
        let hold = self.recent(&who, "hold");
        let command = match self.random.below(100) {
            _ if self.made <= CUSTOMERS => Command::Upsert(CustomerChange::default()),
            _ if self.made.is_multiple_of(110) => Command::Erase,
            0..10 => self.change(),
            10..28 => Command::Grant(self.grant(&who, &key)),
            28..52 => Command::Charge(self.uses(&who, 2)),
            52..60 => Command::Record(self.uses(&who, 3)),
            60..74 => self.hold(&who, &key),
            74..80 => Command::ExtendHold { hold, more: Some(HoldSize::Quantity(micros("2"))), expires_at: None },
            80..85 => Command::CaptureHold { hold, charge: self.one_use(&who, &format!("capture {key}")) },
            85..90 => Command::SettleHold { hold, charge: self.one_use(&who, &format!("settle {key}")) },
            90..93 => Command::ReleaseHold { hold },
            _ => Command::VoidGrant { grant: self.recent(&who, "grant") },
        };
        let request = match command {
            Command::Charge(_) | Command::Record(_) | Command::Erase | Command::Upsert(_) => {
                self.product.request(&who, command)
            }
            _ => self.product.keyed(&who, &key, command),
        };
        Request { new_customer: Uuid::from_u128(u128::from(self.made)), ..request }
    }

    /// One of the latest grants or holds of a customer, which may or may not have come to be.
    fn recent(&mut self, who: &str, kind: &str) -> Uuid {
        let of_kind = self.asked.iter().rev().filter(|(of, what, _)| of == who && *what == kind);
        let ids: Vec<_> = of_kind.take(2).map(|(_, _, key)| self.product.id_of(who, kind, key)).collect();
        if ids.is_empty() { Uuid::nil() } else { self.random.pick(&ids) }
    }

    fn change(&mut self) -> Command {
        const ACTIVE: Option<Status> = Some(Status::Active);
        let status = self.random.pick(&[None, ACTIVE, ACTIVE, ACTIVE, Some(Status::Suspended)]);
        let limit = Some(micros("3"));
        let overage = self.random.pick(&[
            None,
            Some(None),
            Some(Some(Overage { policy: OveragePolicy::Owe, limit })),
            Some(Some(Overage { policy: OveragePolicy::Ask, limit: None })),
        ]);
        let profile = Some(Profile { name: Some(format!("name {}", self.made)), ..Profile::default() });
        Command::Upsert(CustomerChange { status, overage, profile, ..CustomerChange::default() })
    }

    fn grant(&mut self, who: &str, key: &str) -> GrantRequest {
        self.asked.push((who.to_owned(), "grant", key.to_owned()));
        let hours = self.random.pick(&[None, None, Some(2), Some(10)]);
        GrantRequest {
            asset: self.random.pick(&["USD", "USD", "use", "minute"]).to_owned(),
            kind: self.random.pick(&[GrantKind::Paid, GrantKind::Paid, GrantKind::Promotional, GrantKind::Allowance]),
            priority: self.random.pick(&[1, 100]),
            expires_at: hours.map(|hours: i64| self.product.later(3_600 * hours).now),
            meters: self.random.pick(&[&[] as &[&str], &[], &["calls", "minutes"]]).iter().map(|&m| m.into()).collect(),
            reason: Some("a gift".to_owned()),
            ..self.product.grant_request(who, key, self.random.pick(&["2.5", "10", "30"]))
        }
    }

    fn hold(&mut self, who: &str, key: &str) -> Command {
        self.asked.push((who.to_owned(), "hold", key.to_owned()));
        Command::Hold(HoldRequest {
            id: self.product.hold_id(who, key),
            meter: self.random.pick(&["calls", "calls", "minutes", "use"]).into(),
            size: HoldSize::Quantity(micros(self.random.pick(&["1", "3"]))),
            subject: None,
            dimensions: BTreeMap::new(),
            expires_at: self.random.pick(&[None, Some(self.product.later(40_000).now)]),
        })
    }

    fn uses(&mut self, who: &str, most: u64) -> Vec<ChargeRequest> {
        (0..=self.random.below(most))
            .map(|_| {
                let key = format!("k{}", self.random.below(60));
                self.one_use(who, &key)
            })
            .collect()
    }

    /// A use under a key that mostly, but not always, means the same use.
    fn one_use(&mut self, who: &str, key: &str) -> ChargeRequest {
        let same = key.bytes().map(u64::from).sum();
        let mut body = Random(if self.random.below(10) == 0 { self.random.next() } else { same });
        let meter = body.pick(&["calls", "calls", "tokens", "storage", "minutes", "messages", "use"]);
        let quantity = if meter == "tokens" { "250000" } else { body.pick(&["1", "2", "7.5"]) };
        let mut charge = self.product.charge_request(who, key, meter, quantity);
        charge.subject = body.pick(&[None, Some("ann")]).map(Into::into);
        if meter == "tokens" {
            charge.dimensions = [("model".to_owned(), body.pick(&["small", "large"]).to_owned())].into();
        }
        charge.fingerprint = fingerprint(&(meter, quantity, &charge.subject, &charge.dimensions));
        charge.metadata = Some(format!(r#"{{"key":"{key}"}}"#).into());
        charge.occurred_at = self.product.later(-self.random.pick(&[0, 0, 60, 90_000, 40 * 86_400])).now;
        charge
    }
}

/// What there is of a customer in the end.
#[derive(Default, PartialEq, Debug)]
struct Life {
    profile: Profile,
    customer: Option<Customer>,
    charges: Vec<Charge>,
    entries: Vec<Entry>,
}

/// The second opinion: customers by address, what keys made, and everything that was written.
#[derive(Default)]
struct Naive {
    ids: BTreeMap<String, Uuid>,
    lives: BTreeMap<Uuid, Life>,
    charges: HashMap<Uuid, (Uuid, Charge)>,
    operations: HashMap<Uuid, (Uuid, i64, Answer)>,
}

impl Naive {
    fn execute(&mut self, request: &Request) -> Result<Answer, Refusal> {
        let owner = self.ids.get(&*request.key.external_id).copied();
        if let Some((of, asked, answer)) = request.operation.and_then(|(id, _)| self.operations.get(&id)) {
            let same = Some(*of) == owner && request.operation.is_some_and(|(_, asks)| asks == *asked);
            return if same {
                Ok(Answer { replayed: true, ..answer.clone() })
            } else {
                Err(Refusal::OperationKeyReused)
            };
        }
        let mut found: HashMap<Uuid, Charge> = HashMap::new();
        let mut command = request.command.clone();
        let asked: Vec<Uuid> = match &mut command {
            Command::Charge(charges) | Command::Record(charges) => {
                let asked = charges.iter().map(|charge| charge.id).collect();
                let mut new: Vec<ChargeRequest> = Vec::new();
                for charge in charges.drain(..) {
                    match self.charges.get(&charge.id) {
                        Some((of, prior)) if Some(*of) == owner && prior.fingerprint == charge.fingerprint => {
                            found.insert(charge.id, prior.clone());
                        }
                        Some(_) => return Err(Refusal::OperationKeyReused),
                        None => match new.iter().find(|other| other.id == charge.id) {
                            Some(twin) if twin.fingerprint != charge.fingerprint => {
                                return Err(Refusal::OperationKeyReused);
                            }
                            Some(_) => {}
                            None => new.push(charge),
                        },
                    }
                }
                *charges = new;
                asked
            }
            Command::CaptureHold { charge, .. } | Command::SettleHold { charge, .. } => {
                if self.charges.contains_key(&charge.id) {
                    return Err(Refusal::OperationKeyReused);
                }
                vec![charge.id]
            }
            _ => Vec::new(),
        };
        let none_left = matches!(&command, Command::Charge(new) | Command::Record(new) if new.is_empty());
        if none_left {
            let charges: Vec<_> = asked.iter().map(|id| found[id].clone().into()).collect();
            let as_of = found.values().map(|charge| charge.position).max().unwrap_or_default();
            return Ok(Answer { as_of, charges, replayed: true, ..Answer::default() });
        }
        if !found.is_empty() && matches!(command, Command::Charge(_)) {
            return Err(Refusal::OperationKeyReused);
        }
        self.decide(request, &command, &asked, found)
    }

    fn decide(
        &mut self,
        request: &Request,
        command: &Command,
        asked: &[Uuid],
        mut charges: HashMap<Uuid, Charge>,
    ) -> Result<Answer, Refusal> {
        let name = request.key.external_id.to_string();
        let known = self.ids.get(&name).and_then(|id| self.lives[id].customer.clone());
        let before = known.unwrap_or_else(|| Customer::new(request.new_customer, request.key.shard_key));
        let decision = decide(&request.catalog, &before, command, request.now)?;
        let id = before.id;
        self.ids.insert(name.clone(), id);
        let life = self.lives.entry(id).or_default();
        life.entries.extend(decision.entries);
        life.profile = decision.profile.unwrap_or_else(|| std::mem::take(&mut life.profile));
        for charge in decision.charges {
            charges.insert(charge.id, charge.clone());
            self.charges.insert(charge.id, (id, charge.clone()));
            life.charges.push(charge);
        }
        if decision.erase {
            self.ids.remove(&name);
            for charge in &mut life.charges {
                (charge.operation_key, charge.subject, charge.metadata) = (None, None, None);
            }
        }
        let answer = Answer {
            as_of: decision.customer.position,
            created: decision.customer.position == 1,
            charges: asked.iter().map(|id| charges[id].clone().into()).collect(),
            grants: decision.grants,
            holds: decision.holds,
            payments: decision.payments,
            effects: decision.effects,
            replayed: false,
        };
        life.customer = Some(decision.customer);
        if let Some((operation, asked)) = request.operation {
            self.operations.insert(operation, (id, asked, answer.clone()));
        }
        Ok(answer)
    }
}

/// What the store has of every customer.
async fn lives(database: &Database, product: &Product) -> BTreeMap<Uuid, Life> {
    let (store, scope) = (&*database.store, product.scope());
    let mut lives = BTreeMap::new();
    for row in books::all_customers(store).await {
        let owner = (row.customer.shard_key, row.customer.id);
        let charges = books::all_charges(store, &scope, owner).await.into_iter().map(|row| row.charge).collect();
        let entries = books::all_entries(store, &scope, owner).await.into_iter().rev().map(|row| row.entry).collect();
        lives.insert(owner.1, Life { profile: row.profile, customer: Some(row.customer), charges, entries });
    }
    lives
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::Upsert(_) => "upsert",
        Command::Erase => "erase",
        Command::Charge(_) => "charge",
        Command::Record(_) => "record",
        Command::Grant(_) => "grant",
        Command::VoidGrant { .. } => "void grant",
        Command::Hold(_) => "hold",
        Command::ExtendHold { .. } => "extend hold",
        Command::CaptureHold { .. } => "capture hold",
        Command::SettleHold { .. } => "settle hold",
        Command::ReleaseHold { .. } => "release hold",
        Command::BeginRecurringCharge(_) | Command::EndRecurringCharge { .. } => "recurring charge",
        Command::Purchase(_) | Command::CollectOnce(_) | Command::StepPayment { .. } | Command::ChangePayer(_) => {
            "collecting"
        }
        Command::Subscribe(_)
        | Command::StepSubscription { .. }
        | Command::ReportSubscription(_)
        | Command::FailSubscription { .. } => "subscribing",
        Command::AddItem(_) | Command::InvoiceUsage | Command::StepInvoice { .. } => "invoicing",
        Command::PassTime => "time",
    }
}

/// Runs of commands that may go together: no customer twice, so that their order within does not matter.
fn batches(requests: &[Request]) -> Vec<&[Request]> {
    let mut batches = Vec::new();
    let mut start = 0;
    for end in 1..=requests.len() {
        let full = requests.get(end).is_none_or(|next| requests[start..end].iter().any(|other| other.key == next.key));
        if full {
            batches.push(&requests[start..end]);
            start = end;
        }
    }
    batches
}

async fn compare(database: &Database, seed: u64, commits: [Commit; 2]) {
    let mut services = Vec::new();
    for commit in commits {
        services.push(Service::start(&database.open().await, Settings { commit, ..Settings::default() }));
    }
    let mut commands = Commands::new(seed);
    let requests: Vec<Request> = (0..COMMANDS).map(|_| commands.next()).collect();
    let mut turn = Random(seed);
    let mut naive = Naive::default();
    let mut done: BTreeMap<&str, usize> = BTreeMap::new();
    for batch in batches(&requests) {
        let service = &services[usize::try_from(turn.below(2)).expect("0 or 1")];
        let answers = join_all(batch.iter().map(|request| service.execute(request.clone()))).await;
        for (request, answer) in batch.iter().zip(answers) {
            let answer = match answer {
                Err(ServiceError::Refused(refusal)) => Err(refusal),
                answer => Ok(answer.expect("the store answers")),
            };
            let kind =
                if answer.as_ref().is_ok_and(|answer| answer.replayed) { "repeat" } else { kind(&request.command) };
            *done.entry(if answer.is_ok() { kind } else { "refused" }).or_default() += 1;
            let expected = naive.execute(request);
            assert_eq!(answer, expected, "seed {seed}, {commits:?}, {} {:?}", request.key.external_id, request.command);
        }
        // A service that has not heard of an erasure still knows, from memory, the answers it gave before; it hears of it
        // as soon as it looks at the customer.
        for request in batch.iter().filter(|request| request.command == Command::Erase) {
            for service in &services {
                let check = commands.product.check_call(service, &request.key.external_id).await;
                assert_eq!(outcome(&check), "unknown_customer");
            }
        }
    }
    // Whatever can happen has happened: every kind of command was done, some were repeats, some were refused.
    assert_eq!(done.len(), 13, "{done:?}");

    for life in naive.lives.values_mut() {
        life.charges.sort_by_key(|charge| std::cmp::Reverse((charge.occurred_at, charge.id)));
    }
    assert_eq!(lives(database, &commands.product).await, naive.lives, "seed {seed}, {commits:?}");
    let erased = naive.lives.iter().filter(|(id, _)| !naive.ids.values().any(|other| other == *id));
    for (id, life) in erased {
        let name = id::erased_customer_id(life.customer.as_ref().map_or(0, |customer| customer.shard_key), *id);
        assert_eq!(commands.product.owner(&*database.store, &name).await.1, *id);
    }
    assert!(books::assert_balanced(&*database.store).await > 0);
}

#[tokio::test]
async fn optimistic_locked_and_naive_come_to_the_same() {
    on_both(async |database| {
        for (seed, commits) in [
            (4, [Commit::Optimistic, Commit::Optimistic]),
            (4, [Commit::Locked, Commit::Locked]),
            (5, [Commit::Optimistic, Commit::Locked]),
        ] {
            compare(&database.another().await, seed, commits).await;
        }
    })
    .await;
}
