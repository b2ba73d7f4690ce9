//! What is measured: each kind of request, by its name in reports and on the command line.

use clap::ValueEnum;
use serde::Serialize;

/// A kind of request that is made over and over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Workload {
    /// A route that parses the body of a charge and answers: what HTTP alone takes.
    NoOp,
    /// Charges, each of a customer drawn at random.
    Charges,
    /// Charges, all of one customer.
    ChargesOneCustomer,
    /// Checks, each of a customer drawn at random.
    Checks,
    /// Checks, all of one customer.
    ChecksOneCustomer,
    /// Requests of 100 charges each.
    Batches,
    /// A hold and its settlement.
    Holds,
    /// One SQL statement for each charge, as written by hand, without HTTP (PostgreSQL).
    UsualWay,
    /// The same, all of one customer.
    UsualWayOneCustomer,
}

impl Workload {
    /// What one unit of it is, for people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::NoOp => "no-op requests",
            Self::Charges => "charges",
            Self::ChargesOneCustomer => "charges, one customer",
            Self::Checks => "checks",
            Self::ChecksOneCustomer => "checks, one customer",
            Self::Batches => "charges in batches of 100",
            Self::Holds => "holds with settlement",
            Self::UsualWay => "charges, usual way",
            Self::UsualWayOneCustomer => "charges, usual way, one customer",
        }
    }

    /// Whether it is the usual way, which goes past the server.
    pub(super) const fn is_usual_way(self) -> bool {
        matches!(self, Self::UsualWay | Self::UsualWayOneCustomer)
    }

    /// Whether each unit of it writes a charge into farthing's books.
    pub(super) const fn charges(self) -> bool {
        matches!(self, Self::Charges | Self::ChargesOneCustomer | Self::Batches | Self::Holds)
    }

    /// Whether all of it is for one customer.
    pub(super) const fn is_of_one_customer(self) -> bool {
        matches!(self, Self::ChargesOneCustomer | Self::ChecksOneCustomer | Self::UsualWayOneCustomer)
    }
}
