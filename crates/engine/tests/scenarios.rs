//! Dated stories about one customer, as tables of text: `scenarios/*.txt`, in the language of `scenarios/README.md`.
//!
//! Each operation is handed to the engine, and what the engine answers is written below it. A story that comes out
//! otherwise than it is written fails with the difference; `UPDATE_SCENARIOS=1` writes the answers instead, to be read
//! and judged before they are committed. The interpreter reads and prints; it computes nothing.
#![expect(clippy::unwrap_used, reason = "a file that cannot be read fails the test")]

#[path = "scenarios/billing.rs"]
mod billing;
#[path = "scenarios/language.rs"]
mod language;
#[path = "scenarios/payments.rs"]
mod payments;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use engine::wallet::balances;
use engine::{
    Asset, Catalog, Charge, ChargeRequest, Check, CheckRequest, Command, Cover, Customer, Decision, Entry, GrantRecord,
    GrantRequest, HoldRecord, HoldRequest, HoldState, Invoice, Overage, Payment, check,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use language::{Words, change, define, named, number, read_size};
use uuid::Uuid;

#[test]
fn every_story_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "there are no stories");
    let mut differences = String::new();
    for path in files {
        let written = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().display().to_string();
        let told = tell(&name, &written);
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&path, told).unwrap();
        } else {
            differences.push_str(&difference(&name, &written, &told));
        }
    }
    assert!(differences.is_empty(), "\n{differences}\nUPDATE_SCENARIOS=1 writes these answers into the stories");
}

/// The story with the engine's answers in place of the written ones.
fn tell(name: &str, written: &str) -> String {
    let mut story = Story::new();
    let mut told = String::new();
    for (number, line) in (1..).zip(written.lines()).filter(|(_, line)| !line.starts_with("->")) {
        told.push_str(&format!("{line}\n"));
        let words = Words::of(line);
        let answers = if line.starts_with(' ') {
            define(&mut story.catalog, &words).map(|()| Vec::new())
        } else if line.is_empty() || line.starts_with('#') || line == "catalog" {
            Some(Vec::new())
        } else {
            story.operate(line, &words)
        };
        for answer in answers.unwrap_or_else(|| panic!("{name}:{number}: cannot be read: {line}")) {
            told.push_str(&format!("-> {answer}\n"));
        }
    }
    told
}

/// Where the two part: the lines as written (`-`) and as told (`+`), after the last line that both have.
fn difference(name: &str, written: &str, told: &str) -> String {
    let (mut before, mut after): (Vec<_>, Vec<_>) = (written.lines().collect(), told.lines().collect());
    let common = before.iter().zip(&after).take_while(|(line, other)| line == other).count();
    while before.len().min(after.len()) > common && before.last() == after.last() {
        before.pop();
        after.pop();
    }
    let lines = |sign, lines: &[&str]| lines.iter().map(|line| format!("{sign} {line}\n")).collect::<String>();
    let context = lines(' ', &before[common.saturating_sub(3)..common]);
    let (before, after) = (lines('-', &before[common..]), lines('+', &after[common..]));
    if before.is_empty() && after.is_empty() {
        String::new()
    } else {
        format!("{name}:{common}:\n{context}{before}{after}")
    }
}

/// The name of an enum's value.
fn name_of(value: impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn join(parts: impl IntoIterator<Item = String>, none: &str) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    if parts.is_empty() { none.to_owned() } else { parts.join(", ") }
}

struct Story {
    catalog: Catalog,
    customer: Customer,
    now: Timestamp,
    /// What grants, holds, payments and refunds are called in the story.
    names: BTreeMap<Uuid, String>,
    payments: BTreeMap<Uuid, Payment>,
    invoices: BTreeMap<Uuid, Invoice>,
    /// Entries since the latest `books`.
    entries: Vec<Entry>,
}

impl Story {
    fn new() -> Self {
        let catalog = Catalog {
            tenant: "story".into(),
            currency: Asset::new("USD"),
            time_zone: TimeZone::UTC,
            meters: BTreeMap::new(),
            prices: Vec::new(),
            grants: Vec::new(),
            packs: BTreeMap::new(),
            plans: engine::Plans::default(),
            billing: engine::Billing::default(),
            spent_refunds: engine::SpentPolicy::Owe,
            overage: Overage::default(),
            low_balances: BTreeMap::new(),
            hold_seconds: 900,
        };
        let customer = Customer::new(Uuid::from_u128(1), 0);
        let now = Timestamp::UNIX_EPOCH;
        Self {
            catalog,
            customer,
            now,
            names: BTreeMap::new(),
            payments: BTreeMap::new(),
            invoices: BTreeMap::new(),
            entries: Vec::new(),
        }
    }

    /// One operation, and the engine's answers to it.
    fn operate(&mut self, line: &str, words: &Words) -> Option<Vec<String>> {
        let (time, operation) = words.plain.split_first()?;
        self.now = self.time(time)?;
        let command = match operation {
            ["books"] => return Some(self.books()),
            ["wallet"] => return Some(vec![self.wallet()]),
            ["check", meter, quantity] => {
                let (meter, quantity) = (Arc::from(*meter), quantity.parse().ok()?);
                return Some(self.check(&CheckRequest { meter, quantity, dimensions: words.dimensions() }));
            }
            ["create" | "change", profile @ ..] => Command::Upsert(change(words, profile)?),
            ["erase"] => Command::Erase,
            ["charge", ..] => Command::Charge(self.uses(line.split_once("charge")?.1)?),
            ["record", ..] => Command::Record(self.uses(line.split_once("record")?.1)?),
            ["grant", name, amount, asset, kind] => Command::Grant(GrantRequest {
                id: self.id(name),
                asset: (*asset).to_owned(),
                amount: amount.parse().ok()?,
                kind: named(kind)?,
                priority: words.option("priority", number)?.unwrap_or(0),
                expires_at: words.option("until", |text| self.time(text))?,
                meters: words.list("meters").into_iter().map(Arc::from).collect(),
                reason: None,
            }),
            ["void", name] => Command::VoidGrant { grant: self.id(name) },
            ["hold", name, meter, size @ ..] => Command::Hold(HoldRequest {
                id: self.id(name),
                meter: Arc::from(*meter),
                size: read_size(size)??,
                subject: None,
                dimensions: words.dimensions(),
                expires_at: words.option("until", |text| self.time(text))?,
            }),
            ["extend", name, more @ ..] => Command::ExtendHold {
                hold: self.id(name),
                more: read_size(more)?,
                expires_at: words.option("until", |text| self.time(text))?,
            },
            [verb @ ("capture" | "settle"), name, quantity] => {
                let (hold, charge) = (self.id(name), self.one_use(0, "", quantity, words)?);
                if *verb == "capture" {
                    Command::CaptureHold { hold, charge }
                } else {
                    Command::SettleHold { hold, charge }
                }
            }
            ["release", name] => Command::ReleaseHold { hold: self.id(name) },
            ["preview", ..] => return self.preview(words),
            ["due"] => return Some(vec![self.due()]),
            ["entitled"] => return Some(self.entitled()),
            ["payment", name] => return self.look_at(name),
            _ => self.pay(words)?,
        };
        Some(match self.decide(&command) {
            Ok(decision) => self.accept(decision),
            Err(refusal) => vec![format!("refused {}: {refusal}", refusal.code())],
        })
    }

    /// A date with a time, a date (its midnight), or a time (of the day of the operation), in the catalog's time zone.
    fn time(&self, text: &str) -> Option<Timestamp> {
        let zone = &self.catalog.time_zone;
        let moment = if text.contains('-') {
            text.parse::<DateTime>().ok()?
        } else {
            self.now.to_zoned(zone.clone()).date().to_datetime(text.parse().ok()?)
        };
        Some(moment.to_zoned(zone.clone()).ok()?.timestamp())
    }

    fn show_time(&self, at: Timestamp) -> String {
        let at = at.to_zoned(self.catalog.time_zone.clone());
        let format = if at.second() == 0 { "%Y-%m-%dT%H:%M" } else { "%Y-%m-%dT%H:%M:%S" };
        at.strftime(format).to_string()
    }

    /// The id of the grant or hold of this name.
    fn id(&mut self, name: &str) -> Uuid {
        let known = self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        let id = known.unwrap_or_else(|| Uuid::new_v5(&self.customer.id, name.as_bytes()));
        self.names.insert(id, name.to_owned());
        id
    }

    /// Uses, set apart by commas.
    fn uses(&self, text: &str) -> Option<Vec<ChargeRequest>> {
        let read = |(number, part)| {
            let words = Words::of(part);
            let [meter, quantity] = words.plain.as_slice() else { return None };
            self.one_use(number, meter, quantity, &words)
        };
        (0..).zip(text.split(',')).map(read).collect()
    }

    fn one_use(&self, number: u128, meter: &str, quantity: &str, words: &Words) -> Option<ChargeRequest> {
        Some(ChargeRequest {
            id: Uuid::from_u128(u128::try_from(self.customer.position).ok()? * 100 + number),
            operation_key: None,
            fingerprint: 0,
            meter: Arc::from(meter),
            quantity: quantity.parse().ok()?,
            own_amount: words.option("own", |text| text.parse().ok())?,
            subject: None,
            dimensions: words.dimensions(),
            occurred_at: words.option("at", |text| self.time(text))?.unwrap_or(self.now),
            metadata: None,
        })
    }

    fn accept(&mut self, decision: Decision) -> Vec<String> {
        let decision_billing = self.accept_billing(&decision);
        let before = std::mem::replace(&mut self.customer, decision.customer);
        let payments = self.accept_payments(decision.payments);
        for grant in &decision.grants {
            self.names.entry(grant.id).or_insert_with(|| grant.reason.clone().unwrap_or_default().replace(' ', "_"));
        }
        self.entries.extend(decision.entries);
        let mut answers = Vec::new();
        answers.extend(decision.charges.iter().map(|charge| self.show_charge(charge)));
        answers.extend(decision.grants.iter().map(|grant| self.show_grant(grant)));
        for (grant, end) in &decision.ended_grants {
            answers.push(format!("grant {} {}", self.names[grant], name_of(end)));
        }
        answers.extend(decision.holds.iter().map(|hold| self.show_hold(hold)));
        answers.extend(payments);
        answers.extend(self.show_billing(&decision_billing));
        answers.extend(self.show_payer(&before.state.payer));
        answers.extend(decision.effects.iter().map(|effect| self.show_effect(effect)));
        if let Some(profile) = decision.profile {
            answers.push(format!("profile {}", profile.name.as_deref().unwrap_or("empty")));
        }
        answers.extend(decision.erase.then(|| "personal data is to be forgotten".to_owned()));
        answers.push(self.wallet());
        answers
    }

    fn show_covers(&self, covers: &[Cover]) -> impl Iterator<Item = String> {
        covers.iter().map(|cover| format!("{} {} from {}", cover.amount, cover.asset, self.names[&cover.grant]))
    }

    fn show_charge(&self, charge: &Charge) -> String {
        let mut text = format!("charge {} {}", charge.amount, charge.asset);
        if charge.priced_quantity != charge.quantity && charge.price.is_some() {
            text.push_str(&format!(" for {}", charge.priced_quantity));
        }
        if !charge.counted_before.is_zero() {
            text.push_str(&format!(" after {}", charge.counted_before));
        }
        let owed = (!charge.owed.is_zero()).then(|| format!("{} {} owed", charge.owed, charge.asset));
        let included = charge.included();
        let included = (!included.is_zero()).then(|| format!("{included} {} included", charge.asset));
        let parts = join(self.show_covers(&charge.covered_by).chain(included).chain(owed), "nothing to cover");
        format!("{text}: {parts}; {} {} left", charge.balance_after, charge.asset)
    }

    fn show_grant(&self, grant: &GrantRecord) -> String {
        let until = grant.expires_at.map(|at| format!(" until {}", self.show_time(at)));
        let name = &self.names[&grant.id];
        format!("grant {name}: {} {} {}{}", grant.amount, grant.asset, name_of(grant.kind), until.unwrap_or_default())
    }

    fn show_hold(&self, record: &HoldRecord) -> String {
        let (hold, name) = (&record.hold, &self.names[&record.hold.id]);
        if record.state != HoldState::Open {
            return format!("hold {name} {}", name_of(record.state));
        }
        let kept = hold
            .allocations
            .iter()
            .map(|kept| format!("{} {} of {}", kept.amount, kept.asset, self.names[&kept.grant]));
        let room = hold.owed.as_ref().map(|(asset, room)| format!("{room} {asset} that may be owed"));
        let kept = join(kept.chain(room), "nothing");
        format!("hold {name} keeps {kept} until {}", self.show_time(hold.expires_at))
    }

    fn wallet(&self) -> String {
        let balances = balances(&self.catalog, &self.customer, self.now).unwrap();
        let parts = balances.iter().map(|(asset, balance)| {
            let mut text = format!("{} {asset}", balance.available);
            for (amount, word) in [(balance.held, "held"), (balance.frozen, "frozen"), (balance.owed, "owed")] {
                if !amount.is_zero() {
                    text.push_str(&format!(" ({amount} {word})"));
                }
            }
            text
        });
        let (status, position) = (self.customer.status.as_str(), self.customer.position);
        format!("wallet {}; {status}, position {position}", join(parts, "empty"))
    }

    fn check(&self, request: &CheckRequest) -> Vec<String> {
        let check = match check(&self.catalog, &self.customer, request, self.now) {
            Ok(check) => check,
            Err(refusal) => return vec![format!("refused {}: {refusal}", refusal.code())],
        };
        // Features and the overage policy have words of their own.
        let Check {
            refusal, asset, amount, covered_by, owed, available, available_units, limits, spending, as_of, ..
        } = check;
        let unit = &self.catalog.meters[&request.meter].unit;
        let units = if *unit == asset { String::new() } else { format!(" and {available_units} {unit}") };
        let cost = amount.map_or_else(|| "not priced".to_owned(), |amount| format!("would cost {amount} {asset}"));
        let owed = (!owed.is_zero()).then(|| format!("{owed} {asset} owed"));
        let parts = join(std::iter::once(cost).chain(self.show_covers(&covered_by)).chain(owed), "");
        let refused = refusal.map(|refusal| format!("would be refused {}: {refusal}", refusal.code()));
        let answer = format!("{parts}; {available} {asset}{units} available as of position {as_of}");
        let standings = self.show_standings(&limits, spending.as_ref());
        refused.into_iter().chain([answer]).chain(standings).collect()
    }

    fn books(&mut self) -> Vec<String> {
        let show = |entry: Entry| {
            let grant = entry.grant.map(|grant| format!(" {}", self.names[&grant])).unwrap_or_default();
            let (kind, debit, credit) = (entry.kind.as_str(), entry.debit.as_str(), entry.credit.as_str());
            format!("{kind}{grant}: {} {} from {debit} to {credit}", entry.amount, entry.asset)
        };
        std::mem::take(&mut self.entries).into_iter().map(show).collect()
    }
}
