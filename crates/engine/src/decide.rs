//! The one way in: a customer, a command and the time make a decision, or a refusal that changes nothing.

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::{Catalog, LifeEvent};
use crate::charge::Source;
use crate::command::{Command, CustomerChange, Profile};
use crate::customer::{Customer, Status};
use crate::decision::Decision;
use crate::grant::GrantKind;
use crate::hold::HoldState;
use crate::invoice::Invoice;
use crate::payment::Payment;
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// Decides a command on a customer at a time. The same input gives the same output, always. A customer at position zero
/// is one that is only just being created, which `Command::Upsert` alone may do.
///
/// What has lapsed by `now` is booked first. Whether an operation key was used before is the caller's to look up: a
/// repeat never gets here.
///
/// # Errors
/// A refusal, with a stable code; nothing has changed then.
pub fn decide(catalog: &Catalog, customer: &Customer, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
    decide_documents(catalog, customer, Documents::default(), command, now)
}

/// The same, for a command that may be about a payment: with the payment as it stands, which is kept apart from the
/// customer's row.
///
/// # Errors
/// A refusal, with a stable code; nothing has changed then.
pub fn decide_payment(
    catalog: &Catalog,
    customer: &Customer,
    payment: Option<&Payment>,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    decide_documents(catalog, customer, Documents { payment, invoice: None }, command, now)
}

/// What a command may be about and is kept apart from the customer's row, as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Documents<'a> {
    /// The payment that `Command::payment` names, or the one that belongs to the invoice.
    pub payment: Option<&'a Payment>,
    /// The invoice that `Command::invoice` names.
    pub invoice: Option<&'a Invoice>,
}

impl<'a> Documents<'a> {
    /// What a command is about, looked up by id.
    pub fn find(
        command: &Command,
        payment: impl FnOnce(Uuid) -> Option<&'a Payment>,
        invoice: impl FnOnce(Uuid) -> Option<&'a Invoice>,
    ) -> Self {
        let invoice = command.invoice().and_then(invoice);
        let of_invoice = invoice.and_then(|invoice| invoice.standing.payment);
        Self { payment: command.payment().or(of_invoice).and_then(payment), invoice }
    }
}

/// The same, for a command that may be about a payment or an invoice.
///
/// # Errors
/// A refusal, with a stable code; nothing has changed then.
pub fn decide_documents(
    catalog: &Catalog,
    customer: &Customer,
    documents: Documents<'_>,
    command: &Command,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    if customer.position == 0 && !matches!(command, Command::Upsert(_)) {
        return Err(Refusal::UnknownCustomer);
    }
    let mut draft = Draft::new(catalog, customer, now);
    draft.pass_time()?;
    draft.obey(command, documents)?;
    // What a hold gave back to a lapsed grant, or a charge left empty, is put in order before anyone reads it.
    draft.lapse()?;
    draft.top_up_if_low()?;
    draft.notice_changes(customer);
    Ok(draft.decision)
}
impl Draft<'_> {
    fn obey(&mut self, command: &Command, documents: Documents<'_>) -> Result<(), Refusal> {
        match command {
            Command::Upsert(change) => self.upsert(change)?,
            Command::Erase => self.erase()?,
            Command::Charge(requests) => {
                self.require_active()?;
                for request in requests {
                    self.charge(request, Source::Charge, None)?;
                }
            }
            Command::Record(requests) => {
                for request in requests {
                    self.charge(request, Source::Event, None)?;
                }
            }
            Command::Grant(request) => {
                // What a closed customer pays is paid; it is given nothing else.
                if request.kind != GrantKind::Paid {
                    self.refuse_closed()?;
                }
                self.grant(request)?;
            }
            Command::VoidGrant { grant } => self.void_grant(*grant)?,
            Command::Hold(request) => {
                self.require_active()?;
                self.open_hold(request)?;
            }
            Command::ExtendHold { hold, more, expires_at } => {
                self.require_active()?;
                self.extend_hold(*hold, *more, *expires_at)?;
            }
            Command::CaptureHold { hold, charge } => self.capture_hold(*hold, charge)?,
            Command::SettleHold { hold, charge } => self.settle_hold(*hold, charge)?,
            Command::ReleaseHold { hold } => self.release_hold(*hold)?,
            Command::BeginRecurringCharge(request) => self.begin_recurring_charge(request)?,
            Command::EndRecurringCharge { recurring_charge } => self.end_recurring_charge(*recurring_charge)?,
            Command::Purchase(request) => self.purchase(request)?,
            Command::CollectOnce(request) => self.collect_once(request)?,
            Command::StepPayment { payment: id, step } => {
                let payment = documents.payment.filter(|payment| payment.id == *id).ok_or(Refusal::UnknownPayment)?;
                self.step_payment(payment, step)?;
            }
            Command::ChangePayer(change) => self.change_payer(change)?,
            Command::Subscribe(_)
            | Command::StepSubscription { .. }
            | Command::ReportSubscription(_)
            | Command::FailSubscription { .. }
            | Command::AddItem(_)
            | Command::InvoiceUsage
            | Command::StepInvoice { .. }
            | Command::PassTime => self.bill_by(command, documents)?,
        }
        Ok(())
    }

    /// The commands that are about subscriptions and invoices.
    fn bill_by(&mut self, command: &Command, documents: Documents<'_>) -> Result<(), Refusal> {
        match command {
            Command::Subscribe(request) => self.subscribe(request),
            Command::StepSubscription { subscription, step } => self.step_subscription(*subscription, step),
            Command::ReportSubscription(report) => self.report_subscription(report, documents.payment),
            Command::FailSubscription { subscription, failure } => self.fail_subscription(*subscription, failure),
            Command::AddItem(request) => self.add_item(request),
            Command::InvoiceUsage => self.invoice_usage(),
            Command::StepInvoice { invoice, step } => self.step_invoice(*invoice, documents, step),
            // Time has passed before any command is obeyed.
            _ => Ok(()),
        }
    }

    /// Refuses what only an active customer may do.
    pub(crate) fn require_active(&self) -> Result<(), Refusal> {
        match self.decision.customer.status {
            Status::Active => Ok(()),
            Status::Suspended => Err(Refusal::Suspended),
            Status::Closed => Err(Refusal::Closed),
        }
    }

    /// Refuses what a closed customer may not do.
    pub(crate) fn refuse_closed(&self) -> Result<(), Refusal> {
        if self.decision.customer.status == Status::Closed { Err(Refusal::Closed) } else { Ok(()) }
    }

    fn upsert(&mut self, change: &CustomerChange) -> Result<(), Refusal> {
        let customer = &mut self.decision.customer;
        let created = customer.position == 1;
        let closes = change.status == Some(Status::Closed);
        customer.status = change.status.unwrap_or(customer.status);
        customer.state.overage = change.overage.unwrap_or(customer.state.overage);
        customer.state.payment_method = change.payment_method.unwrap_or(customer.state.payment_method);
        self.decision.profile.clone_from(&change.profile);
        if closes {
            self.end_subscriptions()?;
            self.decision.customer.state.recurring_charges.clear();
        }
        if created {
            self.decision.profile.get_or_insert_default();
            if !change.known_before {
                self.grant_for(LifeEvent::Created)?;
            }
            for grant in &change.opening_grants {
                self.grant(grant)?;
            }
        }
        self.note_payment_method()
    }

    fn erase(&mut self) -> Result<(), Refusal> {
        while !self.decision.customer.state.holds.is_empty() {
            self.end_hold(0, HoldState::Released)?;
        }
        self.decision.customer.status = Status::Closed;
        self.decision.customer.state.payment_method = false;
        self.end_subscriptions()?;
        self.decision.customer.state.recurring_charges.clear();
        self.stop_collecting();
        self.forget_payer();
        self.decision.profile = Some(Profile::default());
        self.decision.erase = true;
        Ok(())
    }
}
