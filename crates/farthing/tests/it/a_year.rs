//! One tenant's year: 200 customers on several plans, with the requests of two production services
//! (`shared/data`, one hour stretched over the year), twelve months by test clock in one call. Some cards are declined. An
//! auditor who knows the price list alone comes to the same invoices, and whoever does it again comes to the same books.

use std::collections::BTreeMap;

use engine::invoice::{Invoice, InvoiceState, LineKind};
use engine::subscription::{SubscribeRequest, SubscriptionState};
use engine::{ChargeRequest, Command, Micros, PayerChange};
use farthing::clock::Clock;
use farthing::event::{Usage, charges};
use farthing::service::Request;
use farthing::store::Page;
use farthing::verify;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::auditor::{self, Terms, Use};
use crate::books;
use crate::databases::Database;
use crate::harness::{TestApp, text};
use crate::shop::{Shop, scope};

/// How many customers there are.
const CUSTOMERS: usize = 200;
/// Every so manieth request of the traces is used.
const EACH: usize = 12;

const TENANT: &str = r#"
[tenant]
name = "acme"
currency = "USD"

[[meters]]
name = "read"
unit = "token"
dimensions = ["model"]

[[meters]]
name = "written"
unit = "token"
dimensions = ["model"]

[[prices]]
meter = "read"
model = "per_unit"
amount = "0.1505"
per = 1000

[[prices]]
meter = "written"
model = "per_unit"
amount = "0.6"
per = 1000

[overage]
policy = "owe"

[[plans]]
name = "pay-as-you-go"
title = "Pay as you go"
price = "0"
interval = "month"

[[plans]]
name = "team"
title = "Team"
price = "12.50"
interval = "month"

[[plans.allowances]]
name = "tokens"
unit = "token"
amount = "5000"
rollover = true
cap = "4000"

[[plans.prices]]
meter = "read"
model = "per_unit"
amount = "0.1"
per = 1000

[[plans]]
name = "scale"
title = "Scale"
price = "49"
interval = "month"
commitment = "15"

[[plans.prices]]
meter = "written"
model = "graduated"
tiers = [{ up_to = 400, amount = "0.5" }, { amount = "0.3335" }]
per = 1000

[[plans]]
name = "trial"
title = "Two weeks to try it"
price = "29"
interval = "month"
trial_days = 14

[[plans]]
name = "annual"
title = "A year"
price = "480"
interval = "year"

[[coupons]]
code = "launch"
percent = "20"
duration = "repeating"
invoices = 3

[[billing.taxes]]
name = "VAT"
percent = "19"

[billing.minimums]
USD = "0.50"

[connection]
provider = "stripe"
"#;

/// A customer of the tenant.
struct Member {
    name: String,
    plan: &'static str,
    seats: u32,
    coupon: bool,
    /// The month of the year from which on its bank says no.
    declined: bool,
}

impl Member {
    fn number(number: usize) -> Self {
        let plan = ["pay-as-you-go", "team", "scale", "team", "trial", "scale", "team", "annual"][number % 8];
        let seats = if plan == "team" { 1 + u32::try_from(number % 5).expect("a small number") } else { 1 };
        let coupon = number % 6 == 1;
        Self { name: format!("customer-{number:03}"), plan, seats, coupon, declined: number % 9 == 4 }
    }

    /// The price list, by which the auditor goes. Of the others the story is too long for one line of it.
    fn terms(&self) -> Option<Terms> {
        let dear = Terms { fee: 0, allowance: 0, rollover: 0, read: 150_500, written: (0, 0, 600_000), commitment: 0 };
        match self.plan {
            "pay-as-you-go" => Some(dear),
            "team" => Some(Terms { fee: 1_250, allowance: 5_000, rollover: 4_000, read: 100_000, ..dear }),
            "scale" => Some(Terms { fee: 4_900, written: (400, 500_000, 333_500), commitment: 1_500, ..dear }),
            _ => None,
        }
    }
}

/// A request of the traces, at its time of the year.
struct Traced {
    at: Timestamp,
    agent: &'static str,
    read: i64,
    written: i64,
}

/// The requests of both traces, whose hour becomes this year.
fn requests(year: (Timestamp, Timestamp)) -> Vec<Traced> {
    let mut all = Vec::new();
    for agent in ["code", "conv"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/llm-trace-");
        let text = std::fs::read_to_string(format!("{path}{agent}.csv")).expect("the traces are there");
        let requests: Vec<(Timestamp, i64, i64)> = text.lines().skip(1).map(request).collect();
        let (first, last) = (requests[0].0, requests[requests.len() - 1].0);
        let whole = i128::from(last.as_microsecond() - first.as_microsecond()) + 1;
        let length = i128::from(year.1.as_microsecond() - year.0.as_microsecond() - 1);
        all.extend(requests.into_iter().step_by(EACH).map(|(at, read, written)| {
            let elapsed = i128::from(at.as_microsecond() - first.as_microsecond()) * length / whole;
            let elapsed = i64::try_from(elapsed).expect("within the year") + 1;
            Traced { at: year.0 + SignedDuration::from_micros(elapsed), agent, read, written }
        }));
    }
    all.sort_by_key(|request| request.at);
    all
}

fn request(line: &str) -> (Timestamp, i64, i64) {
    let mut columns = line.split(',');
    let mut column = || columns.next().expect("three columns");
    let at = format!("{}Z", column().replace(' ', "T")).parse().expect("a time");
    (at, column().parse().expect("a number"), column().parse().expect("a number"))
}

/// When the first customers come: the last day of a month, from which there are shorter ones.
const BEGIN: &str = "2026-01-31T09:00:00Z";
/// When the year's one call begins, with all customers there.
const START: &str = "2026-02-28T12:00:00Z";
const END: &str = "2027-02-28T12:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The whole year; what everybody used, in the order of the customers.
async fn live(shop: &Shop, members: &[Member]) -> Vec<Vec<Use>> {
    let advance = async |to: Timestamp, usage: Vec<Request>| {
        let refused = shop.jobs.advance(&"acme".into(), to, usage).await.expect("time goes by");
        assert_eq!(refused, [], "nothing that was used is refused");
    };
    advance(time(BEGIN), Vec::new()).await;
    for days in members.chunks(members.len().div_ceil(4)) {
        for member in days {
            sign_up(shop, member).await;
        }
        advance(shop.app.now("acme") + SignedDuration::from_secs(60), Vec::new()).await;
        for member in days.iter().filter(|member| member.declined) {
            give_card(shop, member, "pm_card_chargeCustomerFail").await;
        }
        advance(shop.app.now("acme") + SignedDuration::from_hours(8 * 24), Vec::new()).await;
    }
    advance(time(START), Vec::new()).await;
    // Some renewals are declined once, by whoever's turn it is, and paid when they are tried again.
    shop.sandbox.fault(json!({"kind": "decline_next", "times": 9})).await;

    let mut uses = vec![Vec::new(); members.len()];
    let catalog = &shop.app.tenants["acme"].catalog;
    let mut usage = Vec::new();
    for (number, used) in requests((time(START), time(END))).into_iter().enumerate() {
        let member = number * 7 % members.len();
        uses[member].push(Use { at: used.at, read: used.read, written: used.written });
        let quantity = |tokens: i64| Micros::new(tokens * 1_000_000);
        let told = Usage {
            id: Some(format!("request-{number}")),
            customer: members[member].name.clone(),
            time: Some(used.at),
            subject: Some(used.agent.to_owned()),
            quantities: vec![("read".into(), quantity(used.read)), ("written".into(), quantity(used.written))],
            dimensions: BTreeMap::new(),
        };
        let charges: Vec<ChargeRequest> = charges(catalog, &told, used.at, || unreachable!()).expect("it is priced");
        usage.push(Request { now: used.at, ..shop.request(&members[member].name, Command::Record(charges)) });
    }
    advance(time(END), usage).await;
    uses
}

async fn give_card(shop: &Shop, member: &Member, card: &str) {
    let attach = Command::ChangePayer(PayerChange::Attach { method: card.into(), default: true });
    shop.execute(&member.name, attach).await.expect("it may be attached");
    shop.jobs.advance(&"acme".into(), shop.app.now("acme"), Vec::new()).await.expect("it is done");
}

async fn sign_up(shop: &Shop, member: &Member) {
    shop.create(&member.name).await;
    give_card(shop, member, "pm_card_visa").await;
    let request = SubscribeRequest {
        id: shop.clock.new_id(),
        plan: member.plan.into(),
        quantity: member.seats,
        add_ons: Vec::new(),
        coupon: member.coupon.then(|| "launch".into()),
        trial_days: None,
        collection: None,
        by_invoice: false,
        replaces: None,
    };
    shop.execute(&member.name, Command::Subscribe(request)).await.expect("it may subscribe");
}

async fn invoices(shop: &Shop, member: &Member) -> Vec<Invoice> {
    let row = shop.customer(&member.name).await;
    let page = Page { after: None, limit: 200 };
    let owner = (row.customer.shard_key, row.customer.id);
    let found = shop.app.store.invoices(&scope(), owner, page).await.expect("the store answers");
    found.into_iter().rev().map(|row| row.value).collect()
}

/// Everything that a customer's books say, as text.
async fn books_of(shop: &Shop, member: &Member) -> String {
    let row = shop.customer(&member.name).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let store = &*shop.app.store;
    let page = Page { after: None, limit: 10 };
    let subscriptions = store.subscriptions(&scope(), owner, page).await.expect("the store answers");
    let charges = books::all_charges(store, &scope(), owner).await;
    let entries = books::all_entries(store, &scope(), owner).await;
    format!("{row:?}\n{subscriptions:?}\n{:?}\n{charges:?}\n{entries:?}\n", invoices(shop, member).await)
}

/// What is so of the invoices of every customer, whatever its plan and its luck.
async fn audit(shop: &Shop, member: &Member, used: &[Use]) -> Vec<Invoice> {
    let all = invoices(shop, member).await;
    let row = shop.customer(&member.name).await;
    let owner = (row.customer.shard_key, row.customer.id);
    let charges = books::all_charges(&*shop.app.store, &scope(), owner).await;
    assert_eq!(charges.len(), 2 * used.len(), "{}: each use is charged once for each meter", member.name);
    let mut billed = 0;
    for invoice in &all {
        let of_lines = |amount: &dyn Fn(&engine::invoice::Line) -> i64| invoice.lines.iter().map(amount).sum::<i64>();
        assert_eq!(invoice.subtotal, of_lines(&|line| line.minor), "{invoice:?}");
        assert_eq!(invoice.discount, of_lines(&|line| line.discount), "{invoice:?}");
        assert_eq!(invoice.tax, of_lines(&|line| line.taxes.iter().map(|tax| tax.minor).sum()), "{invoice:?}");
        assert_eq!(invoice.total, invoice.subtotal - invoice.discount + invoice.tax, "{invoice:?}");
        let standing = &invoice.standing;
        assert_eq!(invoice.total - invoice.carried, standing.due + standing.paid + standing.credited, "{invoice:?}");
        let usage = |line: &&engine::invoice::Line| matches!(line.kind, LineKind::Usage { .. } | LineKind::Debt);
        billed += invoice.lines.iter().filter(usage).map(|line| line.minor * 10_000).sum::<i64>();
    }
    let owed: i64 = charges.iter().map(|row| row.charge.owed.get()).sum();
    let left = row.customer.owed(&engine::Asset::new("USD")).get();
    assert_eq!(owed, billed + left, "{}: what was owed is billed, or owed still", member.name);
    all
}

/// Holds the invoices against those that follow from the price list.
fn compare(member: &Member, began: Timestamp, all: &[Invoice], uses: &[Use], left: Micros) {
    let Some(terms) = member.terms() else { return };
    let coupon = if member.coupon { (20, 3) } else { (0, 0) };
    let (expected, owed) =
        auditor::bills((&terms, i64::from(member.seats)), coupon, (began, time(END)), uses, (19, 50));
    let told: Vec<auditor::Bill> = all
        .iter()
        .map(|invoice| auditor::Bill {
            at: invoice.created_at,
            discount: invoice.discount,
            tax: invoice.tax,
            total: invoice.total,
            carried: invoice.carried,
        })
        .collect();
    assert_eq!(told, expected, "the invoices (left) and the auditor (right) of {}, {}", member.name, member.plan);
    assert_eq!(left.get(), owed, "{}: what is on no invoice yet", member.name);
}

/// Lives the year on a database and audits it; the books as text.
async fn year(database: Database, seed: u64) -> String {
    let shop = Shop::seeded(database, TENANT, BEGIN, seed).await;
    let members: Vec<Member> = (0..CUSTOMERS).map(Member::number).collect();
    let uses = live(&shop, &members).await;
    let (mut books_text, mut numbers, mut paid, mut states) = (String::new(), Vec::<usize>::new(), 0, BTreeMap::new());
    for (member, used) in members.iter().zip(&uses) {
        let all = audit(&shop, member, used).await;
        let row = shop.customer(&member.name).await;
        match row.customer.state.subscriptions.first() {
            Some(subscription) if !member.declined => {
                assert_eq!(subscription.state, SubscriptionState::Active, "{}", member.name);
                compare(member, subscription.started_at, &all, used, row.customer.owed(&engine::Asset::new("USD")));
            }
            // A plan that is paid by the year is asked for again in the last days alone.
            Some(subscription) => {
                assert_eq!(
                    (subscription.state, member.plan),
                    (SubscriptionState::PastDue, "annual"),
                    "{}",
                    member.name
                );
            }
            None => assert!(member.declined, "{} has ended", member.name),
        }
        numbers.extend(
            all.iter().map(|invoice| invoice.number.as_ref().expect("a number").parse::<usize>().expect("digits")),
        );
        paid += all.iter().map(|invoice| invoice.standing.paid).sum::<i64>();
        for invoice in &all {
            *states.entry(invoice.standing.state).or_insert(0) += 1;
        }
        books_text += &books_of(&shop, member).await;
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<usize>>(), "every number is given once");
    assert!(states[&InvoiceState::Uncollectible] > 10 && states[&InvoiceState::Paid] > 1_500, "{states:?}");
    let overdue = members.iter().filter(|member| member.declined && member.plan == "annual").count();
    assert!(states.get(&InvoiceState::Open).copied().unwrap_or(0) <= overdue, "{states:?}");
    assert_eq!(i128::from(paid), collected(&shop).await, "what is paid, and what the provider has of it");
    assert!(books::assert_balanced(&*shop.app.store).await > 4_000);
    assert_eq!(explain_all(&shop).await, numbers.len(), "every invoice is explained");
    let mut differences = Vec::new();
    let recounted = verify::recount(&*shop.app.store, &mut |difference| differences.push(difference)).await;
    recounted.expect("the store answers");
    assert!(differences.is_empty(), "{differences:?}");
    books_text
}

/// Asks of every invoice why it is what it is: what is recounted from events, prices, grants and roundings has to agree with
/// each of its lines to the cent. How many there are.
async fn explain_all(shop: &Shop) -> usize {
    let app = TestApp::on(shop.database.clone(), shop.clock.clone(), TENANT).await;
    let (mut explained, mut path) = (0, "/v1/invoices?limit=100".to_owned());
    loop {
        let page = app.get(&path).await.is(200);
        for invoice in page["data"].as_array().expect("a list") {
            let said = app.get(&format!("/v1/invoices/{}/explain", text(invoice, "id"))).await.is(200);
            assert_eq!(said["agrees"], true, "{said:#}");
            assert_eq!(said["lines"].as_array().map(Vec::len), invoice["lines"].as_array().map(Vec::len), "{said:#}");
            explained += 1;
        }
        let Some(next) = page["next_cursor"].as_str() else { return explained };
        path = format!("/v1/invoices?limit=100&cursor={next}");
    }
}

/// What the sandbox has collected, in cents.
async fn collected(shop: &Shop) -> i128 {
    let (mut sum, mut after) = (0, String::new());
    loop {
        let page = shop.sandbox.get(&format!("/v1/payment_intents?limit=100{after}")).await;
        let intents = page["data"].as_array().expect("a list");
        sum += intents.iter().map(|intent| i128::from(intent["amount_received"].as_i64().unwrap_or(0))).sum::<i128>();
        if page["has_more"] != true {
            return sum;
        }
        let last = intents.last().and_then(|intent| intent["id"].as_str()).expect("more comes after something");
        after = format!("&starting_after={last}");
    }
}

/// Lives a year on a thread of its own.
fn lived<F: Future<Output = Database>>(on: impl FnOnce() -> F + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { year(on().await, 7).await })
    })
}

#[test]
fn a_year_of_a_tenant_is_lived_again_with_the_same_seed_and_comes_to_the_same_books() {
    let [first, again] = [lived(Database::sqlite), lived(Database::postgres)];
    let (first, again) = (first.join().expect("a year"), again.join().expect("a year"));
    assert!(first == again, "the same seed makes other books on the other database: {}", difference(&first, &again));
}

/// The first place at which two texts differ.
fn difference(one: &str, other: &str) -> String {
    let at = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| text.get(at.saturating_sub(200)..(at + 200).min(text.len())).unwrap_or("").to_owned();
    format!("{}\n{}", around(one), around(other))
}
