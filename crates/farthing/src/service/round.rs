//! One round of decisions: the commands of a batch, in arrival order, on customers as they are believed to be. Nothing
//! is read or written here; what comes out is a batch to commit and an answer for each command.

use std::collections::HashMap;
use std::sync::Arc;

use engine::decide::{Documents, decide_documents};
use engine::invoice::Invoice;
use engine::renewal::due;
use engine::{Charge, ChargeRequest, Command, Customer, Decision, Payment, Refusal, id};
use uuid::Uuid;

use super::answer::Answer;
use super::{Request, cache::Caches};
use crate::store::{Batch, CustomerKey, CustomerWrite, Operation, OperationRef, Owned, Prior};

/// What operation keys made in a round, by the id that the key makes, each with the customer.
pub(super) type Made = HashMap<Uuid, (Uuid, Prior)>;

/// What a round knows besides customers: what the store said.
#[derive(Default)]
pub(super) struct Known {
    pub(super) priors: HashMap<Uuid, Prior>,
    pub(super) payments: HashMap<Uuid, (Uuid, Payment)>,
    pub(super) invoices: HashMap<Uuid, (Uuid, Invoice)>,
}

/// A customer during a round.
struct Working {
    customer: Customer,
    expected: i64,
    changed: bool,
}

/// The decisions of a round so far.
pub(super) struct Round<'a> {
    caches: &'a Caches,
    priors: HashMap<Uuid, Prior>,
    customers: HashMap<CustomerKey, Working>,
    payments: HashMap<Uuid, (Uuid, Payment)>,
    invoices: HashMap<Uuid, (Uuid, Invoice)>,
    pub(super) batch: Batch,
    pub(super) made: Made,
}

impl<'a> Round<'a> {
    pub(super) fn new(
        caches: &'a Caches,
        customers: impl IntoIterator<Item = (CustomerKey, Customer)>,
        known: Known,
    ) -> Self {
        let working = |(key, customer): (CustomerKey, Customer)| {
            let expected = customer.position;
            (key, Working { customer, expected, changed: false })
        };
        Self {
            caches,
            priors: known.priors,
            customers: customers.into_iter().map(working).collect(),
            payments: known.payments,
            invoices: known.invoices,
            batch: Batch::default(),
            made: HashMap::new(),
        }
    }

    /// Decides one command.
    pub(super) fn decide(&mut self, request: &Request) -> Result<Answer, Refusal> {
        if let Some((operation, fingerprint)) = request.operation
            && let Some(answer) = self.replay(&request.key, operation, fingerprint)?
        {
            return Ok(answer);
        }
        match &request.command {
            Command::Charge(charges) => self.decide_charges(request, charges, Command::Charge),
            Command::Record(charges) => self.decide_charges(request, charges, Command::Record),
            Command::CaptureHold { charge, .. } | Command::SettleHold { charge, .. } => {
                match self.prior_charge(&request.key, charge)? {
                    None => self.decide_new(request, &request.command),
                    Some(_) => Err(Refusal::OperationKeyReused),
                }
            }
            command => self.decide_new(request, command),
        }
    }

    /// Ends the round: what it writes, each customer once.
    pub(super) fn finish(&mut self, requests: &[&Request]) {
        for request in requests {
            let Some(working) = self.customers.get_mut(&request.key) else { continue };
            if std::mem::take(&mut working.changed) {
                self.batch.customers.push(CustomerWrite {
                    key: request.key.clone(),
                    expected: working.expected,
                    customer: working.customer.clone(),
                    at: request.now,
                });
            }
        }
    }

    /// What an id made before: in this round, by what the store said, or lately.
    fn prior(&self, key: &CustomerKey, id: Uuid) -> Option<Prior> {
        let found = self.made.get(&id).map(|(_, prior)| prior).or_else(|| self.priors.get(&id));
        found.cloned().or_else(|| self.caches.operation(id, self.customers.get(key)?.customer.id))
    }

    fn replay(&self, key: &CustomerKey, id: Uuid, fingerprint: i64) -> Result<Option<Answer>, Refusal> {
        match self.prior(key, id) {
            None => Ok(None),
            Some(Prior::Operation(operation)) if operation.fingerprint == fingerprint => {
                let answer: Result<Answer, _> = serde_json::from_str(&operation.answer);
                answer.map(|answer| Some(Answer { replayed: true, ..answer })).map_err(|_| Refusal::OperationKeyReused)
            }
            Some(_) => Err(Refusal::OperationKeyReused),
        }
    }

    /// The charge that this one's key made before.
    fn prior_charge(&self, key: &CustomerKey, charge: &ChargeRequest) -> Result<Option<Arc<Charge>>, Refusal> {
        match charge.operation_key.as_ref().and_then(|_| self.prior(key, charge.id)) {
            None => Ok(None),
            Some(Prior::Charge(prior)) if prior.fingerprint == charge.fingerprint => Ok(Some(prior)),
            Some(_) => Err(Refusal::OperationKeyReused),
        }
    }

    /// Charges are their own record: each one whose key was used before is given again, the others are decided.
    fn decide_charges(
        &mut self,
        request: &Request,
        charges: &[ChargeRequest],
        command: fn(Vec<ChargeRequest>) -> Command,
    ) -> Result<Answer, Refusal> {
        let mut found: HashMap<Uuid, Arc<Charge>> = HashMap::new();
        let mut named: HashMap<Uuid, i64> = HashMap::new();
        let mut missing: Vec<&ChargeRequest> = Vec::with_capacity(charges.len());
        for charge in charges {
            if let Some(prior) = self.prior_charge(&request.key, charge)? {
                found.insert(charge.id, prior);
                continue;
            }
            match named.insert(charge.id, charge.fingerprint) {
                None => missing.push(charge),
                Some(same) if same == charge.fingerprint => {}
                Some(_) => return Err(Refusal::OperationKeyReused),
            }
        }
        if missing.len() == charges.len() {
            return self.decide_new(request, &request.command);
        }
        let mut answer = if missing.is_empty() {
            let as_of = found.values().map(|charge| charge.position).max().unwrap_or_default();
            Answer { as_of, replayed: true, ..Answer::default() }
        } else if found.is_empty() || matches!(request.command, Command::Record(_)) {
            self.decide_new(request, &command(missing.into_iter().cloned().collect()))?
        } else {
            // All or none: a set of charges of which some were made under another set is another operation.
            return Err(Refusal::OperationKeyReused);
        };
        found.extend(answer.charges.drain(..).map(|charge| (charge.id, charge)));
        answer.charges = charges.iter().filter_map(|charge| found.get(&charge.id).cloned()).collect();
        Ok(answer)
    }

    fn decide_new(&mut self, request: &Request, command: &Command) -> Result<Answer, Refusal> {
        let creates = matches!(command, Command::Upsert(_));
        let known = self.customers.get(&request.key).map(|working| &working.customer);
        let new;
        let customer = match known {
            Some(customer) => customer,
            None if creates => {
                new = Customer::new(request.new_customer, request.key.shard_key);
                &new
            }
            None => return Err(Refusal::UnknownCustomer),
        };
        let expected = customer.position;
        let payment =
            |id| self.payments.get(&id).filter(|(owner, _)| *owner == customer.id).map(|(_, payment)| payment);
        let invoice =
            |id| self.invoices.get(&id).filter(|(owner, _)| *owner == customer.id).map(|(_, invoice)| invoice);
        let documents = Documents::find(command, payment, invoice);
        let due_before = due(customer);
        let decision = decide_documents(&request.catalog, customer, documents, command, request.now)?;
        let charges: Vec<Arc<Charge>> = decision.charges.iter().cloned().map(Arc::new).collect();
        let answer = Answer::of(&decision, &charges);
        let due_after = due(&decision.customer);
        // Whoever is told that time has passed is not told again for what is done.
        if due_after != due_before || *command == Command::PassTime {
            self.batch.dues.push(OwnedBy::of(request, &decision).a(due_after));
        }
        self.keep(request, decision, charges, &answer, expected);
        Ok(answer)
    }

    /// Adds a decision to the batch.
    fn keep(
        &mut self,
        request: &Request,
        decision: Decision,
        charges: Vec<Arc<Charge>>,
        answer: &Answer,
        expected: i64,
    ) {
        let own = OwnedBy::of(request, &decision);
        let customer = decision.customer;
        let (shard_key, customer_id) = (customer.shard_key, customer.id);
        for charge in charges {
            if charge.operation_key.is_some() {
                self.made.insert(charge.id, (customer_id, Prior::Charge(charge.clone())));
            }
            self.batch.charges.push(own.a(charge));
        }
        let at = request.now;
        self.batch.entries.extend(decision.entries.into_iter().map(|entry| (own.a(entry), at)));
        self.batch.grants.extend(decision.grants.into_iter().map(|grant| own.a(grant)));
        self.batch.ended_grants.extend(decision.ended_grants.into_iter().map(|ended| own.a(ended)));
        self.batch.holds.extend(decision.holds.into_iter().map(|hold| own.a(hold)));
        for payment in decision.payments {
            self.payments.insert(payment.id, (customer_id, payment.clone()));
            self.batch.payments.push(own.a(payment));
        }
        self.batch.subscriptions.extend(decision.subscriptions.into_iter().map(|changed| own.a(changed)));
        for invoice in decision.invoices {
            self.invoices.insert(invoice.id, (customer_id, invoice.clone()));
            self.batch.invoices.push(own.a(invoice));
        }
        for change in decision.invoice_changes {
            if let Some((_, invoice)) = self.invoices.get_mut(&change.invoice) {
                invoice.standing.clone_from(&change.standing);
            }
            self.batch.invoice_changes.push(own.a(change));
        }
        self.batch.credit_notes.extend(decision.credit_notes.into_iter().map(|note| own.a(note)));
        self.batch.notices.extend(decision.notices.into_iter().map(|notice| own.a(notice)));
        self.batch.effects.extend(decision.effects.into_iter().map(|effect| (own.a(effect), at)));
        self.batch.settled.extend(request.settles.clone().map(|settled| own.a(settled)));
        if let Command::ChangePayer(engine::PayerChange::Reference(_)) = &request.command {
            self.batch.payers.extend(customer.state.payer.reference.clone().map(|reference| own.a(reference)));
        }
        self.batch.profiles.extend(decision.profile.into_iter().map(|profile| own.a(profile)));
        if let Some((id, fingerprint)) = request.operation
            && let Ok(answer) = serde_json::to_string(answer)
        {
            let operation = Operation { id, fingerprint, answer };
            self.made.insert(id, (customer_id, Prior::Operation(operation.clone())));
            self.batch.operations.push((own.a(operation), at));
        }
        if decision.erase {
            self.batch.erased.push(own.a(id::erased_customer_id(shard_key, customer_id)));
        }
        let working = Working { customer, expected, changed: true };
        match self.customers.get_mut(&request.key) {
            Some(known) => *known = Working { expected: known.expected, ..working },
            None => {
                self.customers.insert(request.key.clone(), working);
            }
        }
    }
}

/// Whose rows are being made.
struct OwnedBy {
    shard_key: i32,
    customer_id: Uuid,
    tenant: Arc<str>,
}

impl OwnedBy {
    fn of(request: &Request, decision: &Decision) -> Self {
        let customer = &decision.customer;
        Self { shard_key: customer.shard_key, customer_id: customer.id, tenant: request.key.tenant.clone() }
    }

    fn a<T>(&self, value: T) -> Owned<T> {
        Owned { shard_key: self.shard_key, customer_id: self.customer_id, tenant: self.tenant.clone(), value }
    }
}

/// The ids to look up before a command is decided: those that its keys make.
pub(super) fn operations(request: &Request) -> Vec<OperationRef> {
    let shard_key = request.key.shard_key;
    let charges = match &request.command {
        Command::Charge(charges) | Command::Record(charges) => charges.as_slice(),
        Command::CaptureHold { charge, .. } | Command::SettleHold { charge, .. } => std::slice::from_ref(charge),
        _ => &[],
    };
    let keyed = charges.iter().filter(|charge| charge.operation_key.is_some()).map(|charge| charge.id);
    keyed.chain(request.operation.map(|(id, _)| id)).map(|id| (shard_key, id)).collect()
}
