//! The automatic top-up: a pack that is bought with the usual payment method when a wallet runs low, at most so much a
//! month, until a payment does not work, is disputed, or goes back; then it waits until the customer acts.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::Effect;
use crate::id::operation_id;
use crate::money::{Asset, Micros};
use crate::payment::{Collection, Payment, PaymentState};
use crate::period::month_start;
use crate::purchase::Purchase;
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// Why it stops when money that went back has made the wallet low.
const GIVEN_BACK: &str = "payment_refunded";

/// Why it stops when the customer's bank disputes a payment.
const DISPUTED: &str = "payment_disputed";

/// When and what to buy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopUpSettings {
    /// When less than this is available of what the pack gives.
    pub threshold: Micros,
    /// The pack.
    pub pack: Arc<str>,
    /// The most that may be spent so in a calendar month of the tenant, in minor units of the pack's currency.
    pub monthly_limit: i64,
}

/// The automatic top-up of a customer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopUp {
    /// When and what to buy.
    #[serde(flatten)]
    pub settings: TopUpSettings,
    /// When the month began whose spending is counted.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub month: Timestamp,
    /// What was spent in it, in minor units.
    pub spent: i64,
    /// The payment under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Uuid>,
    /// Why it has stopped, by the code of what went wrong; until the customer acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Arc<str>>,
}

impl Draft<'_> {
    /// Sets, changes or ends the automatic top-up. Setting it again counts as the customer's acting; what was spent in
    /// the month stays counted, and a payment under way stays the one, even when it was switched off in between.
    pub(crate) fn set_top_up(&mut self, settings: Option<&TopUpSettings>) -> Result<(), Refusal> {
        let Some(settings) = settings else {
            let payer = self.payer();
            if payer.top_up.is_some() {
                payer.former_top_up = payer.top_up.take();
            }
            return Ok(());
        };
        self.require_active()?;
        self.catalog.pack(&settings.pack)?;
        if settings.threshold.is_negative() || settings.monthly_limit <= 0 {
            return Err(Refusal::AmountOutOfRange);
        }
        if self.payer().usual_method().is_none() {
            return Err(Refusal::NoPaymentMethod);
        }
        let month = month_start(self.now, &self.catalog.time_zone);
        let payer = self.payer();
        let before = payer.top_up.take().or_else(|| payer.former_top_up.take());
        let settings = settings.clone();
        self.payer().top_up = Some(match before {
            Some(before) => TopUp { settings, ..before },
            None => TopUp { settings, month, spent: 0, pending: None, stopped: None },
        });
        self.resume_top_up();
        Ok(())
    }

    /// Goes on after the customer has acted. A payment that waits for the customer is ended, because the customer has
    /// chosen another way; should it be paid all the same, it is worth its pack.
    pub(crate) fn resume_top_up(&mut self) {
        let Some(top_up) = &mut self.payer().top_up else { return };
        let ends = top_up.waits_for_customer();
        top_up.stopped = None;
        if let Some(payment) = top_up.pending.take_if(|_| ends) {
            self.effect(Effect::CancelPayment { payment }, self.now);
        }
    }

    /// Buys the pack where the wallet has run low. A wallet that cannot be topped up is no reason to refuse what was asked.
    pub(crate) fn top_up_if_low(&mut self) -> Result<(), Refusal> {
        let Some(top_up) = &self.decision.customer.state.payer.top_up else { return Ok(()) };
        if top_up.pending.is_some() || top_up.stopped.is_some() || self.require_active().is_err() {
            return Ok(());
        }
        let Ok(pack) = self.catalog.pack(&top_up.settings.pack) else { return Ok(()) };
        if self.available(&pack.asset, None)? >= top_up.settings.threshold {
            return Ok(());
        }
        let month = month_start(self.now, &self.catalog.time_zone);
        let spent = if top_up.month == month { top_up.spent } else { 0 };
        let after = spent.checked_add(pack.price.minor).ok_or(Refusal::AmountOutOfRange)?;
        if after > top_up.settings.monthly_limit {
            return Ok(());
        }
        let name = pack.name.clone();
        let Some(method) = self.payer().usual_method().cloned() else {
            self.stop_top_up("payment_method_missing");
            return Ok(());
        };
        let customer = &self.decision.customer;
        let id = operation_id(customer.id, "top_up", &customer.position.to_string());
        self.sell(id, &name, 1, Collection::OffSession { method }, true)?;
        if let Some(top_up) = &mut self.payer().top_up {
            (top_up.month, top_up.spent, top_up.pending) = (month, after, Some(id));
        }
        Ok(())
    }

    /// Takes note of what became of a payment: one of the automatic top-up's own, or one that shows that the customer
    /// has acted on what stopped it.
    pub(crate) fn note_top_up(&mut self, before: PaymentState, payment: &Payment, purchase: &Purchase) {
        if !purchase.automatic {
            if before != PaymentState::Paid && payment.state == PaymentState::Paid {
                self.resume_top_up();
            }
            return;
        }
        let month = month_start(payment.created_at, &self.catalog.time_zone);
        let payer = self.payer();
        let Some(top_up) = payer.top_up.as_mut().or(payer.former_top_up.as_mut()) else { return };
        if top_up.month == month {
            let change = counted(payment, payment.state).saturating_sub(counted(payment, before));
            top_up.spent = top_up.spent.saturating_add(change).max(0);
        }
        if top_up.pending != Some(payment.id) {
            return;
        }
        let failure = payment.failure.as_ref().map(|failure| failure.code.clone());
        match payment.state {
            PaymentState::Paid => {
                top_up.go_on();
                top_up.pending = None;
            }
            PaymentState::Failed | PaymentState::Canceled => {
                top_up.pending = None;
                top_up.stopped = Some(failure.unwrap_or_else(|| Arc::from("payment_canceled")));
            }
            PaymentState::RequiresPayment | PaymentState::RequiresAction => {
                top_up.stopped = Some(failure.unwrap_or_else(|| Arc::from("authentication_required")));
            }
            PaymentState::Processing => top_up.go_on(),
            PaymentState::Pending => {}
        }
    }

    /// Stops it where giving back so much unspent value has made the wallet low: that is no reason to collect again.
    pub(crate) fn stop_top_up_given_back(&mut self, asset: &Asset, unspent: Micros) -> Result<(), Refusal> {
        let Some(top_up) = &self.decision.customer.state.payer.top_up else { return Ok(()) };
        let (threshold, left) = (top_up.settings.threshold, self.available(asset, None)?);
        let of_this = self.catalog.pack(&top_up.settings.pack).is_ok_and(|pack| pack.asset == *asset);
        if of_this && left < threshold && left.plus(unspent)? >= threshold {
            self.stop_top_up(GIVEN_BACK);
        }
        Ok(())
    }

    /// Stops it because the customer's bank asks for the money of a payment back.
    pub(crate) fn stop_top_up_disputed(&mut self) {
        self.stop_top_up(DISPUTED);
    }

    fn stop_top_up(&mut self, code: &str) {
        if let Some(top_up) = &mut self.payer().top_up {
            top_up.stopped.get_or_insert_with(|| Arc::from(code));
        }
    }
}

impl TopUp {
    /// Whether it has stopped because of the payment under way, which waits for the customer.
    fn waits_for_customer(&self) -> bool {
        self.pending.is_some() && self.stopped.as_ref().is_some_and(|code| ![GIVEN_BACK, DISPUTED].contains(&&**code))
    }

    /// Goes on where it has stopped because of the payment under way.
    fn go_on(&mut self) {
        if self.waits_for_customer() {
            self.stopped = None;
        }
    }
}

/// What counts of a payment in this state as spent, in minor units.
const fn counted(payment: &Payment, state: PaymentState) -> i64 {
    if matches!(state, PaymentState::Failed | PaymentState::Canceled) { 0 } else { payment.amount.minor }
}
