//! Decisions: what follows from a command. The store writes a decision as a whole or not at all.

use crate::charge::Charge;
use crate::command::Profile;
use crate::customer::Customer;
use crate::effect::EffectRecord;
use crate::grant::{GrantEnd, GrantRecord};
use crate::hold::HoldRecord;
use crate::invoice::{CreditNote, Invoice, InvoiceChange};
use crate::ledger::Entry;
use crate::notice::NoticeRecord;
use crate::payment::Payment;
use crate::subscription::Subscription;
use uuid::Uuid;

/// What a command leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The customer afterwards.
    pub customer: Customer,
    /// New charges.
    pub charges: Vec<Charge>,
    /// New ledger entries, in their order.
    pub entries: Vec<Entry>,
    /// New grants.
    pub grants: Vec<GrantRecord>,
    /// Grants that ended before they were used up.
    pub ended_grants: Vec<(Uuid, GrantEnd)>,
    /// Holds that began, changed or ended.
    pub holds: Vec<HoldRecord>,
    /// Payments that began or changed, as they are now; the last of each counts.
    pub payments: Vec<Payment>,
    /// Subscriptions that began or changed, as they are now.
    pub subscriptions: Vec<Subscription>,
    /// New invoices, in the order in which they are to be numbered, as they stand now.
    pub invoices: Vec<Invoice>,
    /// How invoices that were made before stand now; the last of each counts.
    pub invoice_changes: Vec<InvoiceChange>,
    /// New credit notes.
    pub credit_notes: Vec<CreditNote>,
    /// What the tenant may want to tell the customer.
    pub notices: Vec<NoticeRecord>,
    /// What must happen outside.
    pub effects: Vec<EffectRecord>,
    /// Who the customer is from now on.
    pub profile: Option<Profile>,
    /// Whether personal data is to be forgotten wherever it is kept.
    pub erase: bool,
}
