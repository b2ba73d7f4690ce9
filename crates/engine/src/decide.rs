//! The one way in: a customer, a command and the time make a decision, or a refusal that changes nothing.

use jiff::Timestamp;

use crate::catalog::{Catalog, LifeEvent};
use crate::charge::Source;
use crate::command::{Command, CustomerChange, Profile};
use crate::customer::{Customer, Status};
use crate::decision::Decision;
use crate::grant::GrantKind;
use crate::hold::HoldState;
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
    decide_payment(catalog, customer, None, command, now)
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
    if customer.position == 0 && !matches!(command, Command::Upsert(_)) {
        return Err(Refusal::UnknownCustomer);
    }
    let mut draft = Draft::new(catalog, customer, now);
    draft.lapse()?;
    match command {
        Command::Upsert(change) => draft.upsert(change)?,
        Command::Erase => draft.erase()?,
        Command::Charge(requests) => {
            draft.require_active()?;
            for request in requests {
                draft.charge(request, Source::Charge, None)?;
            }
        }
        Command::Record(requests) => {
            for request in requests {
                draft.charge(request, Source::Event, None)?;
            }
        }
        Command::Grant(request) => {
            // What a closed customer pays is paid; it is given nothing else.
            if request.kind != GrantKind::Paid {
                draft.refuse_closed()?;
            }
            draft.grant(request)?;
        }
        Command::VoidGrant { grant } => draft.void_grant(*grant)?,
        Command::Hold(request) => {
            draft.require_active()?;
            draft.open_hold(request)?;
        }
        Command::ExtendHold { hold, more, expires_at } => {
            draft.require_active()?;
            draft.extend_hold(*hold, *more, *expires_at)?;
        }
        Command::CaptureHold { hold, charge } => draft.capture_hold(*hold, charge)?,
        Command::SettleHold { hold, charge } => draft.settle_hold(*hold, charge)?,
        Command::ReleaseHold { hold } => draft.release_hold(*hold)?,
        Command::Purchase(request) => draft.purchase(request)?,
        Command::StepPayment { payment: id, step } => {
            let payment = payment.filter(|payment| payment.id == *id).ok_or(Refusal::UnknownPayment)?;
            draft.step_payment(payment, step)?;
        }
        Command::ChangePayer(change) => draft.change_payer(change)?,
    }
    // What a hold gave back to a lapsed grant, or a charge left empty, is put in order before anyone reads it.
    draft.lapse()?;
    draft.top_up_if_low()?;
    Ok(draft.decision)
}

impl Draft<'_> {
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
        customer.status = change.status.unwrap_or(customer.status);
        customer.state.overage = change.overage.unwrap_or(customer.state.overage);
        customer.state.payment_method = change.payment_method.unwrap_or(customer.state.payment_method);
        self.decision.profile.clone_from(&change.profile);
        if created {
            self.decision.profile.get_or_insert_default();
            self.grant_for(LifeEvent::Created)?;
        }
        self.note_payment_method()
    }

    fn erase(&mut self) -> Result<(), Refusal> {
        while !self.decision.customer.state.holds.is_empty() {
            self.end_hold(0, HoldState::Released)?;
        }
        self.decision.customer.status = Status::Closed;
        self.decision.customer.state.payment_method = false;
        self.forget_payer();
        self.decision.profile = Some(Profile::default());
        self.decision.erase = true;
        Ok(())
    }
}
