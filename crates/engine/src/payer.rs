//! The payer: what is kept of a customer for collecting from it. The provider has the payment methods; what stands here
//! is what it last said of them.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::LifeEvent;
use crate::effect::Effect;
use crate::refusal::Refusal;
use crate::report::{PaymentMethod, PaymentMethodsReport};
use crate::top_up::{TopUp, TopUpSettings};
use crate::wallet::Draft;

/// The most payment methods that are kept of a customer, so that its row stays small: the newest, and the default
/// one.
pub const MOST_PAYMENT_METHODS: usize = 20;

/// What is kept of a customer for collecting from it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Payer {
    /// The provider's id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Arc<str>>,
    /// The payment methods on file, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<PaymentMethod>,
    /// The one that is used when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_method: Option<Arc<str>>,
    /// When the provider was asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::customer::optional_micros")]
    pub methods_seen_at: Option<Timestamp>,
    /// The automatic top-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_up: Option<TopUp>,
    /// The automatic top-up that was switched off: what it spent counts when it is switched on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_top_up: Option<TopUp>,
}

impl Payer {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The payment method that is used when none is named: the default one, or else the newest.
    #[must_use]
    pub fn usual_method(&self) -> Option<&Arc<str>> {
        self.default_method.as_ref().or_else(|| self.methods.first().map(|method| &method.reference))
    }

    fn has(&self, method: &str) -> bool {
        self.methods.iter().any(|known| &*known.reference == method)
    }
}

/// What to change of a payer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayerChange {
    /// The provider has made the customer.
    Reference(Arc<str>),
    /// The provider has said which payment methods there are.
    Methods(PaymentMethodsReport),
    /// Have the provider make the customer, unless it has.
    Register,
    /// The provider has the customer from before, under this id, and with what is on file there.
    Adopt(Arc<str>),
    /// Begin to put a payment method on file.
    BeginSetup,
    /// Put a payment method on file.
    Attach {
        /// The provider's id of it.
        method: Arc<str>,
        /// Whether it becomes the default one. The first one does in any case.
        default: bool,
    },
    /// Take a payment method off the file.
    Detach(Arc<str>),
    /// Make a payment method the default one.
    SetDefault(Arc<str>),
    /// Top up automatically, or no longer.
    TopUp(Option<TopUpSettings>),
}

impl Draft<'_> {
    pub(crate) fn change_payer(&mut self, change: &PayerChange) -> Result<(), Refusal> {
        match change {
            PayerChange::Reference(reference) => {
                // Another one would leave behind what the first one has on file.
                self.payer().reference.get_or_insert_with(|| reference.clone());
                Ok(())
            }
            PayerChange::Methods(report) => self.see_methods(report),
            PayerChange::Adopt(reference) => {
                self.refuse_closed()?;
                self.payer().reference.get_or_insert_with(|| reference.clone());
                self.ask_of_methods(None, Effect::RegisterPayer)
            }
            PayerChange::Register if self.payer().reference.is_some() => Ok(()),
            PayerChange::Register => self.ask_of_methods(None, Effect::RegisterPayer),
            PayerChange::BeginSetup => self.ask_of_methods(None, Effect::BeginSetup),
            PayerChange::Attach { method, default } => {
                self.ask_of_methods(None, Effect::AttachMethod { method: method.clone(), default: *default })
            }
            PayerChange::Detach(method) => {
                self.ask_of_methods(Some(method), Effect::DetachMethod { method: method.clone() })
            }
            PayerChange::SetDefault(method) => {
                self.ask_of_methods(Some(method), Effect::SetDefaultMethod { method: method.clone() })
            }
            PayerChange::TopUp(settings) => self.set_top_up(settings.as_ref()),
        }
    }

    pub(crate) fn payer(&mut self) -> &mut Payer {
        &mut self.decision.customer.state.payer
    }

    /// Asks the provider for something about payment methods. One that must be the customer's own is looked for among
    /// those on file: another customer's does not exist for it.
    fn ask_of_methods(&mut self, own: Option<&Arc<str>>, effect: Effect) -> Result<(), Refusal> {
        self.refuse_closed()?;
        if own.is_some_and(|method| !self.payer().has(method)) {
            return Err(Refusal::UnknownPaymentMethod);
        }
        self.effect(effect, self.now);
        Ok(())
    }

    /// Takes over what the provider said, unless something later was said before, or nobody collects from the customer any
    /// more: what was forgotten of an erased one stays forgotten.
    fn see_methods(&mut self, report: &PaymentMethodsReport) -> Result<(), Refusal> {
        if self.refuse_closed().is_err() {
            return Ok(());
        }
        let payer = self.payer();
        if payer.methods_seen_at.is_some_and(|seen| seen > report.seen_at) {
            return Ok(());
        }
        let more = report.methods.iter().any(|method| !payer.has(&method.reference));
        payer.methods_seen_at = Some(report.seen_at);
        payer.methods = report.methods.iter().take(MOST_PAYMENT_METHODS).cloned().collect();
        let mut older = report.methods.iter().skip(MOST_PAYMENT_METHODS);
        if let Some(default) = older.find(|method| Some(&method.reference) == report.default.as_ref()) {
            payer.methods.pop();
            payer.methods.push(default.clone());
        }
        payer.default_method = report.default.clone().filter(|default| payer.has(default));
        // The first method becomes the default, and so does the newest of the rest when the default has gone. It is the default
        // here from now on; the provider is told, and asked again, until it says so too.
        if payer.default_method.is_none()
            && let Some(method) = payer.methods.first().map(|method| method.reference.clone())
        {
            payer.default_method = Some(method.clone());
            self.effect(Effect::SetDefaultMethod { method }, self.now);
        }
        if more {
            self.resume_top_up();
        }
        self.note_payment_method()
    }

    /// Forgets the payment methods, and has the provider forget them too. What the provider calls the customer stays,
    /// because payments made before may still be refunded or disputed.
    pub(crate) fn forget_payer(&mut self) {
        let payer = self.payer();
        let methods = std::mem::take(&mut payer.methods);
        (payer.default_method, payer.top_up, payer.former_top_up) = (None, None, None);
        for method in methods {
            self.effect(Effect::DetachMethod { method: method.reference }, self.now);
        }
    }

    /// Gives what a customer gets for its first payment method, once.
    pub(crate) fn note_payment_method(&mut self) -> Result<(), Refusal> {
        let state = &mut self.decision.customer.state;
        let first = state.has_payment_method() && !state.had_payment_method;
        state.had_payment_method |= first;
        if first { self.grant_for(LifeEvent::FirstPaymentMethod) } else { Ok(()) }
    }
}
