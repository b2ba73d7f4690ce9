//! Recurring charges: a use that is charged again with every interval until it is ended, such as the hosting of a website or
//! the rent of a phone number. What other systems call a recurring metric or a fixed recurring fee, for customers who pay from
//! credit and have no subscription.
//!
//! Each is paid in advance: the first when it begins, as any charge is, and refused where it is not covered; every later one
//! at the beginning of its interval, counted from the first, as usage that has happened, and owed where it must. What was
//! charged is not given back when it ends.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::charge::{ChargeRequest, Source};
use crate::id::operation_id;
use crate::money::Micros;
use crate::period::{Interval, boundary};
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// How many a customer has at the most.
pub const MOST_RECURRING_CHARGES: usize = 50;

/// A use to be charged with every interval.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecurringChargeRequest {
    /// Its id: from the operation key, or drawn for it.
    pub id: Uuid,
    /// The meter.
    pub meter: Arc<str>,
    /// How much, each time; above zero.
    pub quantity: Micros,
    /// How often.
    pub interval: Interval,
    /// Who or what under the customer.
    pub subject: Option<Arc<str>>,
}

/// A use that is charged with every interval.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecurringCharge {
    /// Its id.
    pub id: Uuid,
    /// The meter.
    pub meter: Arc<str>,
    /// How much, each time.
    pub quantity: Micros,
    /// How often.
    pub interval: Interval,
    /// Who or what under the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// When it began; every interval is counted from there.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub started_at: Timestamp,
    /// How often it was charged.
    pub charged: u32,
    /// When it is charged next.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub next_at: Timestamp,
}

impl RecurringCharge {
    /// One that was charged for the first time just now; its intervals are the calendar's in this time zone.
    ///
    /// # Errors
    /// `AmountOutOfRange` where the next one lies beyond the calendar.
    pub fn begun(request: &RecurringChargeRequest, now: Timestamp, zone: &TimeZone) -> Result<Self, Refusal> {
        let mut begun = Self {
            id: request.id,
            meter: request.meter.clone(),
            quantity: request.quantity,
            interval: request.interval,
            subject: request.subject.clone(),
            started_at: now,
            charged: 0,
            next_at: now,
        };
        begun.go_on(zone)?;
        Ok(begun)
    }

    /// The id of the charge with which its interval of this number begins, counted from zero.
    #[must_use]
    pub fn charge_id(&self, number: u32) -> Uuid {
        charge_id(self.id, number)
    }

    /// The id of the charge with which the one of this id begins.
    #[must_use]
    pub fn first_charge_id(id: Uuid) -> Uuid {
        charge_id(id, 0)
    }

    /// The charge with which its interval of this number begins.
    fn request(&self, number: u32, at: Timestamp) -> ChargeRequest {
        ChargeRequest {
            id: self.charge_id(number),
            operation_key: None,
            fingerprint: 0,
            meter: self.meter.clone(),
            quantity: self.quantity,
            own_amount: None,
            subject: self.subject.clone(),
            dimensions: std::collections::BTreeMap::new(),
            occurred_at: at,
            metadata: None,
        }
    }

    /// Counts one more, and says when the next is due.
    fn go_on(&mut self, zone: &TimeZone) -> Result<(), Refusal> {
        self.charged = self.charged.checked_add(1).ok_or(Refusal::AmountOutOfRange)?;
        self.next_at = boundary(self.started_at, self.interval, i64::from(self.charged), zone)?;
        Ok(())
    }
}

fn charge_id(recurring: Uuid, number: u32) -> Uuid {
    operation_id(recurring, "charge", &number.to_string())
}

impl Draft<'_> {
    pub(crate) fn begin_recurring_charge(&mut self, request: &RecurringChargeRequest) -> Result<(), Refusal> {
        self.require_active()?;
        if request.quantity <= Micros::ZERO {
            return Err(Refusal::AmountOutOfRange);
        }
        if self.decision.customer.state.recurring_charges.len() >= MOST_RECURRING_CHARGES {
            return Err(Refusal::TooManyRecurringCharges { limit: MOST_RECURRING_CHARGES });
        }
        let recurring = RecurringCharge::begun(request, self.now, &self.catalog.time_zone)?;
        self.charge(&recurring.request(0, self.now), Source::Charge, None)?;
        self.decision.customer.state.recurring_charges.push(recurring);
        Ok(())
    }

    pub(crate) fn end_recurring_charge(&mut self, id: Uuid) -> Result<(), Refusal> {
        let recurring = &mut self.decision.customer.state.recurring_charges;
        let index = recurring.iter().position(|known| known.id == id).ok_or(Refusal::UnknownRecurringCharge)?;
        recurring.remove(index);
        Ok(())
    }

    /// Charges the one that is due now. One that cannot be charged any more, because its meter or its price is gone, has come
    /// to its end: it must not keep the customer from everything else.
    pub(crate) fn recurring_charge_is_due(&mut self, index: usize) -> Result<(), Refusal> {
        let mut recurring = self.decision.customer.state.recurring_charges[index].clone();
        let before = self.decision.clone();
        let request = recurring.request(recurring.charged, recurring.next_at);
        let charged = self.charge(&request, Source::Recurring, None);
        if charged.and_then(|()| recurring.go_on(&self.catalog.time_zone)).is_err() {
            self.decision = before;
            return self.end_recurring_charge(recurring.id);
        }
        self.decision.customer.state.recurring_charges[index] = recurring;
        Ok(())
    }
}
