//! farthing's rules, and nothing else: what a charge costs, which grants cover it, what the ledger says of it, and why
//! something is refused.
//!
//! Everything here is a pure function of its arguments: no clock, no randomness, no input or output, no floats. Time,
//! ids and the catalog are handed in, so the same input gives the same output, always. One file per noun; `decide` is
//! the one way in.

pub mod billing;
pub mod catalog;
pub mod charge;
pub mod check;
pub mod command;
pub mod coupon;
pub mod customer;
pub mod decide;
pub mod decision;
pub mod dunning;
pub mod effect;
pub mod entitlement;
pub mod grant;
pub mod hold;
pub mod id;
pub mod invoice;
pub mod invoice_step;
pub mod ledger;
pub mod money;
pub mod notice;
pub mod one_time;
pub mod payer;
pub mod payment;
pub mod period;
pub mod plan;
pub mod preview;
pub mod price;
pub mod proration;
pub mod provider_subscription;
pub mod purchase;
pub mod rating;
pub mod recurring;
pub mod recurring_charge;
pub mod refund;
pub mod refusal;
pub mod renewal;
pub mod report;
pub mod subscription;
pub mod subscription_change;
pub mod tax;
pub mod top_up;
pub mod wallet;

pub use billing::{Billing, ItemRequest, UsageInvoices};
pub use catalog::{Catalog, GrantTemplate, LifeEvent, Meter, Overage, OveragePolicy};
pub use charge::{Charge, ChargeRequest, Cover, Source};
pub use check::{Check, CheckRequest, check};
pub use command::{Command, CustomerChange, GrantRequest, HoldRequest, HoldSize, Profile};
pub use coupon::{Coupon, CouponDuration, Discount};
pub use customer::{Counter, Customer, Status};
pub use decide::{Documents, decide, decide_documents, decide_payment};
pub use decision::Decision;
pub use dunning::{AfterDunning, Dunning, InvoicePayment};
pub use effect::{Effect, EffectRecord, Ending};
pub use entitlement::{Entitlements, Feature, Limit, Window, current_period, entitlements, may_spend};
pub use grant::{Grant, GrantEnd, GrantKind, GrantRecord};
pub use hold::{Hold, HoldRecord, HoldState};
pub use id::PublicId;
pub use invoice::{CreditNote, Invoice, InvoiceChange, InvoiceState, Line, LineKind, OpenInvoice, Standing};
pub use invoice_step::InvoiceStep;
pub use ledger::{Account, Entry, EntryKind};
pub use money::{Asset, Micros, Money, Rounding};
pub use notice::{Notice, NoticeRecord};
pub use one_time::{OneTime, OneTimeRequest};
pub use payer::{Payer, PayerChange};
pub use payment::{Collection, FeePayment, Heard, Payment, PaymentState, PaymentStep, ProviderInvoice, Purpose};
pub use period::{Interval, IntervalUnit, Period};
pub use plan::{AddOn, Allowance, Plan, Plans};
pub use preview::{Preview, preview};
pub use price::{Model, Price, Rate, Tier};
pub use proration::Proration;
pub use purchase::{CollectionRequest, Pack, Purchase, PurchaseRequest};
pub use recurring_charge::{RecurringCharge, RecurringChargeRequest};
pub use refund::{Refund, SpentPolicy};
pub use refusal::{Refusal, RefusalKind};
pub use renewal::{DueKind, due, due_at};
pub use subscription::{
    PendingChange, SubscribeRequest, Subscription, SubscriptionSource, SubscriptionState, SubscriptionStep, Terms,
};
pub use subscription_change::{ChangeTime, TermsChange};
pub use tax::TaxRate;
pub use top_up::{TopUp, TopUpSettings};
