//! A world: everything of one key. Objects are documents exactly as Stripe renders them; what must not be seen lies beside
//! them. A request, or a thing that is due, changes the world as a whole: `commit` or `undo` ends it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::Settings;
use crate::error::ApiError;
use crate::fault::Fault;
use crate::id::Ids;
use crate::journal::Line;
use crate::kind::{self, Kind};
use crate::time::wall_milliseconds;

const NOTHING: &Value = &Value::Null;

/// A document and what is hidden beside it.
#[derive(Clone, Debug)]
struct Record {
    document: Value,
    hidden: Value,
    order: u64,
}

/// The objects of one kind, in the order in which they were made.
#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<String, Record>,
    order: BTreeMap<u64, String>,
}

/// The request that the world is at work for.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) request_id: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
}

/// Locks a world. What somebody has left half done who panicked under the lock is undone.
pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(|poisoned| {
        let mut locked = poisoned.into_inner();
        locked.undo();
        world.clear_poison();
        locked
    })
}

/// Everything of one key.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) settings: Arc<Settings>,
    pub(crate) ids: Ids,
    /// The second at which the whole world stands still. None: the wall clock.
    pub(crate) frozen: Option<i64>,
    /// The second of the thing that is due and being done.
    pub(crate) moment: Option<i64>,
    /// None while things that are due are done.
    pub(crate) cause: Option<Cause>,
    /// The base of links to pages, as the latest request said it.
    pub(crate) base: String,
    pub(crate) faults: Vec<Fault>,
    /// The latest requests, newest last, for `GET /_sandbox/requests`.
    pub(crate) requests: VecDeque<Value>,
    /// The idempotency keys of requests under way.
    pub(crate) keys_in_use: BTreeSet<String>,
    /// The endpoints to which something is being sent right now.
    pub(crate) endpoints_in_use: BTreeSet<String>,
    tables: BTreeMap<String, Table>,
    next_order: u64,
    before: Vec<(String, String, Option<Record>)>,
}

impl World {
    pub(crate) fn new(name: &str, settings: Arc<Settings>) -> Self {
        Self {
            name: name.to_owned(),
            ids: Ids { seed: settings.seed.map(|seed| (seed, name.to_owned())), drawn: 0 },
            frozen: None,
            moment: None,
            cause: None,
            base: settings.public_url.clone().unwrap_or_else(|| "http://127.0.0.1:12111".to_owned()),
            faults: settings.faults.clone(),
            requests: VecDeque::new(),
            keys_in_use: BTreeSet::new(),
            endpoints_in_use: BTreeSet::new(),
            tables: BTreeMap::new(),
            next_order: 0,
            before: Vec::new(),
            settings,
        }
    }

    /// The time in unix seconds: of the thing being done, of the frozen world, or of the wall clock.
    pub(crate) fn now(&self) -> i64 {
        self.moment.or(self.frozen).unwrap_or_else(|| wall_milliseconds() / 1000)
    }

    /// The time for a customer (its id, or null): that of its test clock, if it has one.
    pub(crate) fn now_for(&self, customer: &Value) -> i64 {
        self.test_clock_of(customer)
            .and_then(|clock| self.get(kind::TEST_CLOCK, &clock))
            .and_then(|clock| clock["frozen_time"].as_i64())
            .unwrap_or_else(|| self.now())
    }

    /// The id of a customer's test clock.
    pub(crate) fn test_clock_of(&self, customer: &Value) -> Option<String> {
        let customer = self.get(kind::CUSTOMER, customer.as_str()?)?;
        customer["test_clock"].as_str().map(str::to_owned)
    }

    /// A new id of a kind.
    pub(crate) fn new_id(&mut self, kind: Kind) -> String {
        format!("{}_{}", kind.prefix, self.ids.text(24))
    }

    /// Stores a document under its `id`, new or changed.
    pub(crate) fn save(&mut self, kind: Kind, document: &Value) {
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        let hidden = self.record(kind, &id).map_or(Value::Null, |record| record.hidden.clone());
        self.put(kind.name, &id, Some((document.clone(), hidden)));
    }

    /// Stores what nobody must see beside a saved document.
    pub(crate) fn hide(&mut self, kind: Kind, id: &str, hidden: Value) {
        if let Some(document) = self.get(kind, id).cloned() {
            self.put(kind.name, id, Some((document, hidden)));
        }
    }

    /// What is hidden beside a document; null if nothing.
    pub(crate) fn hidden(&self, kind: Kind, id: &str) -> &Value {
        self.record(kind, id).map_or(NOTHING, |record| &record.hidden)
    }

    /// Deletes an object: what stays says `deleted`, and is in no list. The answer to the request.
    pub(crate) fn delete(&mut self, kind: Kind, id: &str) -> Value {
        let gone = json!({"id": id, "object": kind.name, "deleted": true});
        self.put(kind.name, id, Some((gone.clone(), Value::Null)));
        gone
    }

    /// Forgets an object entirely.
    pub(crate) fn forget(&mut self, kind: Kind, id: &str) {
        self.put(kind.name, id, None);
    }

    fn record(&self, kind: Kind, id: &str) -> Option<&Record> {
        self.tables.get(kind.name)?.by_id.get(id)
    }

    /// An object, also one that is deleted.
    pub(crate) fn get(&self, kind: Kind, id: &str) -> Option<&Value> {
        self.record(kind, id).map(|record| &record.document)
    }

    /// An object that is not deleted. `param` is `id` where the path names it, which makes the error a 404.
    pub(crate) fn find(&self, kind: Kind, id: &str, param: &str) -> Result<&Value, ApiError> {
        self.get(kind, id).filter(|object| object["deleted"] != true).ok_or_else(|| ApiError::missing(kind, id, param))
    }

    /// The place of an object, deleted or not, in the order in which those of its kind were made.
    pub(crate) fn place(&self, kind: Kind, id: &str) -> Option<u64> {
        self.record(kind, id).map(|record| record.order)
    }

    /// An object of any kind by its id.
    pub(crate) fn find_any(&self, id: &str) -> Option<&Value> {
        self.tables.values().find_map(|table| table.by_id.get(id)).map(|record| &record.document)
    }

    /// The objects of a kind that are not deleted, oldest first.
    pub(crate) fn all(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Value> {
        self.tables
            .get(kind.name)
            .into_iter()
            .flat_map(|table| table.order.values().filter_map(|id| table.by_id.get(id)))
            .map(|record| &record.document)
            .filter(|document| document["deleted"] != true)
    }

    fn put(&mut self, kind: &str, id: &str, new: Option<(Value, Value)>) {
        let table = self.tables.entry(kind.to_owned()).or_default();
        let before = table.by_id.get(id).cloned();
        match new {
            Some((document, hidden)) => {
                let order = before.as_ref().map_or(self.next_order, |record| record.order);
                if before.is_none() {
                    self.next_order += 1;
                    table.order.insert(order, id.to_owned());
                }
                table.by_id.insert(id.to_owned(), Record { document, hidden, order });
            }
            None => {
                if let Some(record) = table.by_id.remove(id) {
                    table.order.remove(&record.order);
                }
            }
        }
        self.before.push((kind.to_owned(), id.to_owned(), before));
    }

    /// A point that `undo_to` can go back to.
    pub(crate) fn mark(&self) -> usize {
        self.before.len()
    }

    /// Puts back everything that was changed since the last commit.
    pub(crate) fn undo(&mut self) {
        self.undo_to(0);
    }

    /// Puts back everything that was changed since a mark.
    pub(crate) fn undo_to(&mut self, mark: usize) {
        let changed = self.before.split_off(mark.min(self.before.len()));
        for (kind, id, before) in changed.into_iter().rev() {
            let table = self.tables.entry(kind).or_default();
            match before {
                Some(record) => {
                    table.order.insert(record.order, id.clone());
                    table.by_id.insert(id, record);
                }
                None => {
                    if let Some(record) = table.by_id.remove(&id) {
                        table.order.remove(&record.order);
                    }
                }
            }
        }
    }

    /// Does a part of a request. If it is refused, what it has changed is undone, unless the error keeps it.
    pub(crate) fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let earlier = std::mem::take(&mut self.before);
        let outcome = part(self);
        if outcome.as_ref().is_err_and(|error| !error.keeps) {
            self.undo();
        }
        let later = std::mem::replace(&mut self.before, earlier);
        self.before.extend(later);
        outcome
    }

    /// Whether something was changed since the last commit.
    pub(crate) fn is_changed(&self) -> bool {
        !self.before.is_empty()
    }

    /// Stores what the world knows besides its objects, so that a restart continues it.
    pub(crate) fn save_state(&mut self) {
        let state = json!({"id": "state", "frozen": self.frozen, "drawn": self.ids.drawn});
        self.save(kind::WORLD, &state);
    }

    /// The lines that the journal needs to know what was changed since the last commit. `committed` ends it.
    pub(crate) fn changed_lines(&mut self) -> Vec<Line> {
        if self.is_changed() {
            self.save_state();
        }
        let changed: BTreeSet<(&String, &String)> = self.before.iter().map(|(kind, id, _)| (kind, id)).collect();
        let mut lines: Vec<(u64, Line)> = Vec::new();
        for (kind, id) in changed {
            let record = self.tables.get(kind).and_then(|table| table.by_id.get(id));
            lines.push((record.map_or(u64::MAX, |record| record.order), self.line(kind, id, record)));
        }
        lines.sort_by_key(|(order, _)| *order);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Forgets how to undo.
    pub(crate) fn committed(&mut self) {
        self.before.clear();
    }

    /// The lines that rebuild the world.
    pub(crate) fn all_lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (kind, table) in &self.tables {
            for (order, id) in &table.order {
                lines.push((*order, self.line(kind, id, table.by_id.get(id))));
            }
        }
        lines.sort_by_key(|(order, _)| *order);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn line(&self, kind: &str, id: &str, record: Option<&Record>) -> Line {
        Line {
            world: self.name.clone(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            value: record.map(|record| (record.document.clone(), record.hidden.clone())),
        }
    }

    /// Takes a line of the journal in.
    pub(crate) fn replay(&mut self, line: Line) {
        if line.kind == kind::WORLD.name
            && let Some((state, _)) = &line.value
        {
            self.frozen = state["frozen"].as_i64();
            self.ids.drawn = state["drawn"].as_u64().unwrap_or(0);
        }
        self.put(&line.kind, &line.id, line.value);
        self.before.clear();
    }
}
