//! Previews: what a command would invoice now, and what the next invoice would be after it. It is the decision itself,
//! taken on a copy, without its effects.

use jiff::Timestamp;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::command::Command;
use crate::customer::Customer;
use crate::decide::{Documents, decide_documents};
use crate::invoice::{Invoice, InvoiceState};
use crate::refusal::Refusal;
use crate::renewal::renewal_of;
use crate::subscription::SubscriptionState;
use crate::wallet::Draft;

/// What would be invoiced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preview {
    /// At once, as drafts.
    pub now: Vec<Invoice>,
    /// When the period of each subscription ends, if nothing else happens until then, as drafts.
    pub next: Vec<Invoice>,
}

/// What a command would invoice now and with the next periods; `Command::PassTime` says what comes without any.
///
/// # Errors
/// The refusal of the command.
pub fn preview(
    catalog: &Catalog,
    customer: &Customer,
    documents: Documents<'_>,
    command: &Command,
    now: Timestamp,
) -> Result<Preview, Refusal> {
    let decision = decide_documents(catalog, customer, documents, command, now)?;
    let mut after = decision.customer;
    // What waits for its first payment will be paid.
    for subscription in &mut after.state.subscriptions {
        if subscription.state == SubscriptionState::Incomplete {
            subscription.state = SubscriptionState::Active;
        }
    }
    let mut next = Vec::new();
    for (id, at) in after.state.subscriptions.iter().filter_map(|known| Some((known.id, renewal_of(known)?))) {
        next.extend(invoice_at(catalog, &after, id, at)?);
    }
    Ok(Preview { now: decision.invoices.into_iter().map(draft).collect(), next })
}

/// The invoice of a subscription that would be made at this time.
fn invoice_at(
    catalog: &Catalog,
    customer: &Customer,
    subscription: Uuid,
    at: Timestamp,
) -> Result<Option<Invoice>, Refusal> {
    let mut then = Draft::new(catalog, customer, at);
    then.pass_time()?;
    let made = then.decision.invoices.into_iter();
    Ok(made.filter(|made| made.subscription == Some(subscription) && made.created_at == at).map(draft).next())
}

/// Nothing of a preview is asked for.
fn draft(mut invoice: Invoice) -> Invoice {
    invoice.standing.state = InvoiceState::Draft;
    (invoice.standing.next_attempt_at, invoice.standing.payment, invoice.standing.attempts) = (None, None, 0);
    invoice
}
