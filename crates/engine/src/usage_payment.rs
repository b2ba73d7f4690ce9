//! Payments for usage: a sum that the customer pays once because it has used what its plan includes. It is sold when it is
//! paid, and what is included is counted anew from then on, whatever the sum.

use uuid::Uuid;

use crate::effect::Effect;
use crate::ledger::{Account, EntryKind};
use crate::money::Money;
use crate::payment::{Payment, PaymentState, Purpose};
use crate::purchase::CollectionRequest;
use crate::refusal::Refusal;
use crate::wallet::Draft;

/// The most that a payment may come to, in minor units (<https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts>).
pub const LARGEST_PAYMENT: i64 = 99_999_999;

/// A sum to be paid for usage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsagePaymentRequest {
    /// The id of the payment: from the operation key, or drawn for it.
    pub id: Uuid,
    /// How much, in minor units of the tenant's currency.
    pub minor: i64,
    /// How it is collected.
    pub collection: CollectionRequest,
}

impl Draft<'_> {
    /// Records the sum, and asks the provider for the payment.
    pub(crate) fn pay_usage(&mut self, request: &UsagePaymentRequest) -> Result<(), Refusal> {
        self.refuse_closed()?;
        let currency = self.catalog.currency.clone();
        let least = self.catalog.billing.minimums.get(&currency).copied().unwrap_or_default().max(1);
        if !(least..=LARGEST_PAYMENT).contains(&request.minor) {
            return Err(Refusal::AmountOutOfRange);
        }
        let collection = self.collection(&request.collection)?;
        self.decision.payments.push(Payment {
            id: request.id,
            purpose: Purpose::Usage,
            amount: Money { minor: request.minor, currency },
            collection,
            state: PaymentState::Pending,
            reference: None,
            provider_invoice: None,
            client_secret: None,
            page: None,
            failure: None,
            refunds: Vec::new(),
            dispute: None,
            position: self.decision.customer.position,
            created_at: self.now,
            paid_at: None,
        });
        self.effect(Effect::CreatePayment { payment: request.id }, self.now);
        Ok(())
    }

    /// The money is there.
    pub(crate) fn book_usage_payment(&mut self, payment: &Payment) -> Result<(), Refusal> {
        let cause = (EntryKind::InvoicePayment, payment.id);
        let (sides, amount) = ((Account::Cash, Account::Revenue), payment.amount.micros()?);
        self.post(cause, None, sides, (&payment.amount.currency, amount))?;
        self.begin_spending_anew();
        Ok(())
    }
}
