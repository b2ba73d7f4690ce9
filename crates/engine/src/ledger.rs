//! The double-entry ledger: append-only facts of what moved from where to where.
//!
//! An entry names the account it debits and the account it credits, so every entry, and with it every transaction, sums
//! to zero by its form. A transaction is all entries of one customer at one position. Wallets are liabilities: a credit
//! adds to them, a debit takes away.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::money::{Asset, Micros};

/// The accounts. Each exists once per customer and asset; the system's side (revenue, cash) is kept beside the customer
/// it belongs to, so that a transaction never leaves its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// Value that the customer may still use (liability).
    Wallet,
    /// What the customer owes and is on no invoice yet (asset).
    Receivable,
    /// Use that has been sold (income).
    Revenue,
    /// Value that was paid for (asset).
    Cash,
    /// Value that was given away (expense).
    Promotions,
    /// Value that lapsed unused (income).
    Breakage,
    /// What open invoices ask for (asset).
    Invoiced,
    /// What invoices left to the next one (asset); in the customer's favour it is below nothing.
    Carried,
    /// Taxes that were invoiced (liability).
    Tax,
}

impl Account {
    /// Every account.
    pub const ALL: [Self; 9] = [
        Self::Wallet,
        Self::Receivable,
        Self::Revenue,
        Self::Cash,
        Self::Promotions,
        Self::Breakage,
        Self::Invoiced,
        Self::Carried,
        Self::Tax,
    ];

    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wallet => "wallet",
            Self::Receivable => "receivable",
            Self::Revenue => "revenue",
            Self::Cash => "cash",
            Self::Promotions => "promotions",
            Self::Breakage => "breakage",
            Self::Invoiced => "invoiced",
            Self::Carried => "carried",
            Self::Tax => "tax",
        }
    }
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A use was charged.
    Charge,
    /// Value was granted.
    Grant,
    /// Debt was paid from a new grant.
    Repayment,
    /// A grant lapsed.
    Expiry,
    /// A grant was taken back.
    Void,
    /// A volume price got cheaper and gave back.
    Repricing,
    /// Something was sold and paid at once, without an invoice.
    Sale,
    /// What was paid for value went back, or was to go back and did not.
    Refund,
    /// An invoice was made.
    Invoice,
    /// An open invoice was taken back.
    InvoiceVoid,
    /// An invoice was paid.
    InvoicePayment,
    /// A part of an invoice, or all of it, was taken back.
    CreditNote,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Charge,
        Self::Grant,
        Self::Repayment,
        Self::Expiry,
        Self::Void,
        Self::Repricing,
        Self::Sale,
        Self::Refund,
        Self::Invoice,
        Self::InvoiceVoid,
        Self::InvoicePayment,
        Self::CreditNote,
    ];

    /// Its stored name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Grant => "grant",
            Self::Repayment => "repayment",
            Self::Expiry => "expiry",
            Self::Void => "void",
            Self::Repricing => "repricing",
            Self::Sale => "sale",
            Self::Refund => "refund",
            Self::Invoice => "invoice",
            Self::InvoiceVoid => "invoice_void",
            Self::InvoicePayment => "invoice_payment",
            Self::CreditNote => "credit_note",
        }
    }
}

/// One movement of value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The position of its transaction in the customer's ledger.
    pub position: i64,
    /// Its place within the transaction, from zero.
    pub line: i16,
    /// What it is about.
    pub kind: EntryKind,
    /// The charge, grant, refund, invoice, payment or credit note that caused it.
    pub cause: Uuid,
    /// The grant whose value moved, where a wallet is one of the two sides.
    pub grant: Option<Uuid>,
    /// The account it is taken from.
    pub debit: Account,
    /// The account it goes to.
    pub credit: Account,
    /// What moved.
    pub asset: Asset,
    /// How much; above zero.
    pub amount: Micros,
}
