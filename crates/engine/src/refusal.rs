//! Why something was not done. A closed set with stable codes: every surface matches on it exhaustively, so a new refusal
//! does not compile until each has words for it. A refusal changes nothing.

use jiff::Timestamp;

use crate::money::{Asset, Micros, Money};

/// Why a command was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No such customer in this tenant.
    #[error("there is no customer with this id; create it first with PUT /v1/customers/{{id}}")]
    UnknownCustomer,
    /// The customer is suspended.
    #[error("the customer is suspended; set its status to active to go on")]
    Suspended,
    /// The customer is closed.
    #[error("the customer is closed")]
    Closed,
    /// The catalog has no such meter.
    #[error("there is no meter `{meter}` in the tenant file")]
    UnknownMeter {
        /// As the caller spelled it.
        meter: String,
    },
    /// The meter does not have this dimension.
    #[error("meter `{meter}` has no dimension `{dimension}` in the tenant file")]
    UnknownDimension {
        /// The meter.
        meter: String,
        /// As the caller spelled it.
        dimension: String,
    },
    /// Prices exist for the meter, none for these dimensions.
    #[error("no price of meter `{meter}` matches these dimensions; add one to the tenant file, or one without `match`")]
    NoPrice {
        /// The meter.
        meter: String,
    },
    /// Neither a currency that the catalog prices in nor a unit of one of its meters.
    #[error("`{asset}` is neither a currency nor a unit of this tenant")]
    UnknownAsset {
        /// As the caller spelled it.
        asset: String,
    },
    /// The meter wants a payment method on file first.
    #[error("meter `{meter}` needs a payment method on file")]
    PaymentMethodRequired {
        /// The meter.
        meter: String,
    },
    /// The open grants do not cover it.
    #[error("it takes {required} {asset} and {available} is available")]
    InsufficientFunds {
        /// What it is counted in.
        asset: Asset,
        /// What it takes.
        required: Micros,
        /// What is there.
        available: Micros,
    },
    /// The open grants would cover it, were they not held.
    #[error("it takes {required} {asset}, {available} is available and {held} is held by open holds")]
    HeldByOthers {
        /// What it is counted in.
        asset: Asset,
        /// What it takes.
        required: Micros,
        /// What is there and free.
        available: Micros,
        /// What open holds keep.
        held: Micros,
    },
    /// The overage policy lets the customer owe, but not this much.
    #[error("it would bring the debt to {owed} {asset}, above the limit of {limit}")]
    LimitReached {
        /// What it is counted in.
        asset: Asset,
        /// What would be owed after it.
        owed: Micros,
        /// The limit.
        limit: Micros,
    },
    /// The overage policy asks for a payment first.
    #[error("{amount} {asset} has to be paid first")]
    PaymentRequired {
        /// What to pay in.
        asset: Asset,
        /// How much.
        amount: Micros,
    },
    /// No such grant, or it has ended.
    #[error("the customer has no open grant with this id")]
    UnknownGrant,
    /// No such recurring charge, or it has ended.
    #[error("there is no recurring charge with this id: it may have ended")]
    UnknownRecurringCharge,
    /// The customer has too many recurring charges.
    #[error("a customer has at most {limit} recurring charges: end some, or charge several together by their quantity")]
    TooManyRecurringCharges {
        /// The most.
        limit: usize,
    },
    /// No such hold.
    #[error("there is no hold with this id")]
    UnknownHold,
    /// The hold has been settled, released or has expired.
    #[error("the hold has ended; record usage that happened with POST /v1/events")]
    HoldEnded,
    /// The operation key was used before, for something else.
    #[error("this operation key was used before with another body; use a new key for a new operation")]
    OperationKeyReused,
    /// A sum does not fit the ledger, or is none that can be collected.
    #[error("the amount is too small or too large")]
    AmountOutOfRange,
    /// A customer may have only so many open grants.
    #[error("the customer has {limit} open grants, which is the most")]
    TooManyGrants {
        /// The most.
        limit: usize,
    },
    /// A customer may have only so many open holds.
    #[error("the customer has {limit} open holds, which is the most")]
    TooManyHolds {
        /// The most.
        limit: usize,
    },
    /// The catalog has no such pack.
    #[error("there is no pack `{pack}`")]
    UnknownPack {
        /// The name asked for.
        pack: String,
    },
    /// No such payment.
    #[error("there is no payment with this id")]
    UnknownPayment,
    /// No such refund.
    #[error("there is no refund with this id")]
    UnknownRefund,
    /// The customer has no such payment method on file.
    #[error("the customer has no payment method with this id on file")]
    UnknownPaymentMethod,
    /// The customer has no payment method on file.
    #[error("the customer has no payment method on file; put one on file first")]
    NoPaymentMethod,
    /// What the provider says is about another payment, or another sum or currency, than was recorded.
    #[error("the provider's payment is not the one that was recorded, or is of another amount or currency")]
    PaymentMismatch,
    /// What the provider calls the payment is not known yet.
    #[error("the provider has not confirmed the payment yet")]
    PaymentUnconfirmed,
    /// The payment is paid, or has been ended.
    #[error("the payment has ended")]
    PaymentEnded,
    /// What is not paid cannot be given back.
    #[error("the payment is not paid, so there is nothing to give back")]
    NotPaid,
    /// More than is left of the payment, or nothing.
    #[error("{refundable} of the payment can be given back")]
    RefundTooLarge {
        /// What is left.
        refundable: Money,
    },
    /// What is disputed is not given back besides.
    #[error("the payment is disputed; the dispute decides who gets the money")]
    Disputed,
    /// A payment may have only so many refunds.
    #[error("the payment has {limit} refunds, which is the most")]
    TooManyRefunds {
        /// The most.
        limit: usize,
    },
    /// The catalog has no such plan.
    #[error("there is no plan `{plan}`")]
    UnknownPlan {
        /// The name asked for.
        plan: String,
    },
    /// The plan has no such add-on.
    #[error("there is no add-on `{add_on}` to this plan")]
    UnknownAddOn {
        /// The name asked for.
        add_on: String,
    },
    /// The catalog has no such coupon.
    #[error("there is no coupon `{coupon}`")]
    UnknownCoupon {
        /// The code asked for.
        coupon: String,
    },
    /// No such subscription, or it has ended.
    #[error("the customer has no subscription with this id that has not ended")]
    UnknownSubscription,
    /// The customer has a subscription, and may have only one.
    #[error("the customer has a subscription; change that one, or end it first")]
    AlreadySubscribed,
    /// The provider renews subscriptions of this plan, and this cannot be had of it.
    #[error("the provider renews subscriptions of this plan, and cannot {what}")]
    ProviderSubscription {
        /// What it cannot do.
        what: &'static str,
    },
    /// A subscription stays in the currency that it began in.
    #[error("a subscription stays in its currency; end it, and begin another one")]
    OtherCurrency,
    /// The provider has not yet done what it was asked to do with the subscription.
    #[error("the provider has not yet answered what was asked before; ask again when it has, or end the subscription")]
    ChangePending,
    /// The subscription is in a state in which this cannot be done.
    #[error("this cannot be done with a subscription that is {state}")]
    SubscriptionState {
        /// How it stands.
        state: &'static str,
    },
    /// The invoice is settled, or there is none.
    #[error("there is no open invoice with this id")]
    InvoiceSettled,
    /// More than is left of the invoice, or nothing.
    #[error("{left} of the invoice can be taken back")]
    CreditTooLarge {
        /// What is left.
        left: Money,
    },
    /// Only so many lines may wait for the next invoice.
    #[error("{limit} lines wait for the customer's next invoice, which is the most")]
    TooManyPendingLines {
        /// The most.
        limit: usize,
    },
    /// A limit of the customer's plan would be exceeded.
    #[error("limit `{limit}` leaves {left}")]
    LimitExceeded {
        /// The limit's name.
        limit: String,
        /// What is left of it.
        left: Micros,
        /// When more is free again by itself.
        resets_at: Option<Timestamp>,
    },
    /// The spending limit of the customer's plan would be exceeded.
    #[error("it would bring the period's spending to {spent} {asset}, above the limit of {limit}")]
    SpendingLimit {
        /// What it is counted in.
        asset: Asset,
        /// What usage would have made of debt in the period after it.
        spent: Micros,
        /// The limit.
        limit: Micros,
        /// When the next period begins.
        resets_at: Timestamp,
    },
    /// A time lies too far ahead of the server's.
    #[error("the time lies in the future; check the sender's clock")]
    TimeInFuture,
    /// An expiry does not lie ahead.
    #[error("the expiry does not lie in the future")]
    AlreadyExpired,
}

/// What kind of refusal it is, for whoever answers many alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// What it is about is not there.
    Missing,
    /// What was asked for cannot be: it names what nobody sells, or is out of range.
    Invalid,
    /// The customer may do nothing now.
    Barred,
    /// It is not paid for: credit, a payment method, or a limit in money.
    Unpaid,
    /// So much may not be used now.
    Limited,
    /// It does not go with how things stand.
    Conflict,
}

impl Refusal {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Self::UnknownCustomer
            | Self::UnknownGrant
            | Self::UnknownHold
            | Self::UnknownRecurringCharge
            | Self::UnknownPayment
            | Self::UnknownRefund
            | Self::UnknownPaymentMethod
            | Self::UnknownSubscription => RefusalKind::Missing,
            Self::UnknownMeter { .. }
            | Self::UnknownDimension { .. }
            | Self::NoPrice { .. }
            | Self::UnknownAsset { .. }
            | Self::UnknownPack { .. }
            | Self::UnknownPlan { .. }
            | Self::UnknownAddOn { .. }
            | Self::UnknownCoupon { .. }
            | Self::AmountOutOfRange
            | Self::CreditTooLarge { .. }
            | Self::RefundTooLarge { .. }
            | Self::TimeInFuture
            | Self::AlreadyExpired => RefusalKind::Invalid,
            Self::Suspended | Self::Closed => RefusalKind::Barred,
            Self::PaymentMethodRequired { .. }
            | Self::InsufficientFunds { .. }
            | Self::HeldByOthers { .. }
            | Self::LimitReached { .. }
            | Self::SpendingLimit { .. }
            | Self::NoPaymentMethod
            | Self::PaymentRequired { .. } => RefusalKind::Unpaid,
            Self::LimitExceeded { .. } => RefusalKind::Limited,
            Self::OperationKeyReused
            | Self::HoldEnded
            | Self::TooManyGrants { .. }
            | Self::TooManyHolds { .. }
            | Self::TooManyRecurringCharges { .. }
            | Self::TooManyRefunds { .. }
            | Self::TooManyPendingLines { .. }
            | Self::AlreadySubscribed
            | Self::InvoiceSettled
            | Self::ProviderSubscription { .. }
            | Self::OtherCurrency
            | Self::ChangePending
            | Self::SubscriptionState { .. }
            | Self::PaymentMismatch
            | Self::PaymentUnconfirmed
            | Self::PaymentEnded
            | Self::NotPaid
            | Self::Disputed => RefusalKind::Conflict,
        }
    }

    /// The stable code that programs branch on.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownCustomer => "unknown_customer",
            Self::Suspended => "suspended",
            Self::Closed => "closed",
            Self::UnknownMeter { .. } => "unknown_meter",
            Self::UnknownDimension { .. } => "unknown_dimension",
            Self::NoPrice { .. } => "no_price",
            Self::UnknownAsset { .. } => "unknown_asset",
            Self::PaymentMethodRequired { .. } => "payment_method_required",
            Self::InsufficientFunds { .. } => "insufficient_funds",
            Self::HeldByOthers { .. } => "held_by_others",
            Self::LimitReached { .. } => "limit_reached",
            Self::PaymentRequired { .. } => "payment_required",
            Self::UnknownGrant => "unknown_grant",
            Self::UnknownHold => "unknown_hold",
            Self::UnknownRecurringCharge => "unknown_recurring_charge",
            Self::TooManyRecurringCharges { .. } => "too_many_recurring_charges",
            Self::HoldEnded => "hold_ended",
            Self::OperationKeyReused => "operation_key_reused",
            Self::AmountOutOfRange => "amount_out_of_range",
            Self::TooManyGrants { .. } => "too_many_grants",
            Self::TooManyHolds { .. } => "too_many_holds",
            Self::UnknownPack { .. } => "unknown_pack",
            Self::UnknownPayment => "unknown_payment",
            Self::UnknownRefund => "unknown_refund",
            Self::UnknownPaymentMethod => "unknown_payment_method",
            Self::NoPaymentMethod => "no_payment_method",
            Self::PaymentMismatch => "payment_mismatch",
            Self::PaymentUnconfirmed => "payment_unconfirmed",
            Self::PaymentEnded => "payment_ended",
            Self::NotPaid => "not_paid",
            Self::RefundTooLarge { .. } => "refund_too_large",
            Self::Disputed => "disputed",
            Self::TooManyRefunds { .. } => "too_many_refunds",
            Self::UnknownPlan { .. } => "unknown_plan",
            Self::UnknownAddOn { .. } => "unknown_add_on",
            Self::UnknownCoupon { .. } => "unknown_coupon",
            Self::UnknownSubscription => "unknown_subscription",
            Self::AlreadySubscribed => "already_subscribed",
            Self::ProviderSubscription { .. } => "provider_subscription",
            Self::OtherCurrency => "other_currency",
            Self::ChangePending => "change_pending",
            Self::SubscriptionState { .. } => "subscription_state",
            Self::InvoiceSettled => "invoice_settled",
            Self::CreditTooLarge { .. } => "credit_too_large",
            Self::TooManyPendingLines { .. } => "too_many_pending_lines",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::SpendingLimit { .. } => "spending_limit",
            Self::TimeInFuture => "time_in_future",
            Self::AlreadyExpired => "already_expired",
        }
    }
}
