//! The part of the stories that is about payments: what is bought, what the provider says of it, what goes back, the
//! payment methods and the automatic top-up. A story calls its payments and refunds by names.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::payer::Payer;
use engine::purchase::purchased_grant;
use engine::report::{
    DisputeReport, DisputeState, Failure, PaymentMethod, PaymentMethodsReport, PaymentReport, RefundProgress,
    RefundReport,
};
use engine::{
    Asset, Collection, CollectionRequest, Command, Documents, Effect, EffectRecord, Ending, Heard, Micros, Money,
    OneTime, OneTimeRequest, Pack, PayerChange, Payment, PaymentStep, PurchaseRequest, Refund, SpentPolicy,
    TopUpSettings, decide_documents,
};
use uuid::Uuid;

use crate::Story;
use crate::language::{Words, named, number};

/// A line of the catalog that is about payments.
pub(crate) fn define(catalog: &mut engine::Catalog, words: &Words) -> Option<()> {
    match words.plain.as_slice() {
        ["refunds", policy] => {
            catalog.spent_refunds = match *policy {
                "owe" => SpentPolicy::Owe,
                "forgive" => SpentPolicy::Forgive,
                _ => return None,
            }
        }
        ["no", "pack", name] => {
            catalog.packs.remove(*name)?;
        }
        ["no", "meter", name] => {
            catalog.meters.remove(*name)?;
        }
        ["pack", name, price, currency, "gives", amount, asset] => {
            let pack = Pack {
                name: Arc::from(*name),
                title: Arc::from(*name),
                price: read_money(price, &Asset::new(currency))?,
                asset: Asset::new(asset),
                amount: amount.parse().ok()?,
                priority: words.option("priority", number)?.unwrap_or(0),
                expires_after_days: words.option("days", number)?,
                meters: words.list("meters").into_iter().map(Arc::from).collect(),
            };
            catalog.packs.insert(pack.name.clone(), pack);
        }
        _ => return crate::billing::define(catalog, words),
    }
    Some(())
}

impl Story {
    /// What the provider says of a payment, or of its own invoice that collects it.
    fn provider_says(&mut self, words: &Words, name: &str, heard: Heard, progress: &str) -> Option<Command> {
        let payment = self.payment(name)?;
        let report = Box::new(self.report(payment, words, progress)?);
        let step = if payment.provider_invoice.is_some() {
            let invoice = words.options.get("invoice").map_or_else(|| format!("in_{name}"), |own| (*own).to_owned());
            PaymentStep::ReportInvoice(heard, invoice.into(), report)
        } else {
            PaymentStep::Report(heard, report)
        };
        Some(self.step(name, step))
    }

    /// The command of an operation that is about payments.
    pub(crate) fn pay(&mut self, words: &Words) -> Option<Command> {
        let operation = &words.plain.as_slice()[1..];
        Some(match operation {
            ["buy", name, pack] | ["buy", name, pack, "off_session"] => Command::Purchase(PurchaseRequest {
                id: self.id(name),
                pack: Arc::from(*pack),
                quantity: words.option("quantity", number)?.unwrap_or(1),
                collection: collection(words),
            }),
            ["collect", name, amount, currency, description, ..] => Command::CollectOnce(OneTimeRequest {
                id: self.id(name),
                amount: read_money(amount, &Asset::new(currency))?,
                one_time: OneTime {
                    description: Arc::from(*description),
                    metadata: BTreeMap::new(),
                    for_usage: words.options.contains_key("usage"),
                },
                collection: collection(words),
            }),
            ["provider", "subscription", ..] => return self.bill(operation, words),
            ["provider", name, heard @ ("made" | "says" | "answers" | "tried"), progress] => {
                self.provider_says(words, name, read_heard(heard), progress)?
            }
            ["provider", "lists", name, reference, amount, progress] => {
                let mut report = self.report(self.payment(name)?, words, "paid")?;
                report.refunds.push(RefundReport {
                    reference: Arc::from(*reference),
                    id: words.options.get("refund").map(|refund| self.id(refund).to_string().into()),
                    minor: read_money(amount, &report.amount.currency)?.minor,
                    progress: named(progress)?,
                    failure: words.option("failure", failure)?,
                });
                self.step(name, PaymentStep::Report(Heard::Told, Box::new(report)))
            }
            ["provider", "refund", name, progress] => self.report_refund(words, name, progress)?,
            ["dispute", name, state] => {
                let mut report = self.report(self.payment(name)?, words, "paid")?;
                let disputed = words.option("disputed", |text| read_money(text, &report.amount.currency))?;
                report.dispute = Some(DisputeReport {
                    reference: format!("dp_{name}").into(),
                    minor: disputed.map_or(report.amount.minor, |money| money.minor),
                    state: named(state)?,
                });
                self.step(name, PaymentStep::Report(Heard::Told, Box::new(report)))
            }
            ["refund", name, payment, amount @ ..] => {
                let currency = self.payment(payment)?.amount.currency.clone();
                let minor = match amount {
                    [] => None,
                    [amount] => Some(read_money(amount, &currency)?.minor),
                    _ => return None,
                };
                let id = self.id(name);
                self.step(payment, PaymentStep::Refund { id, minor })
            }
            ["fail", name, code] => match self.payment_of_refund(name).map(|payment| payment.id) {
                Some(payment) => {
                    let step = PaymentStep::FailRefund { refund: self.id(name), failure: failure(code)? };
                    Command::StepPayment { payment, step }
                }
                None => self.step(name, PaymentStep::Fail(failure(code)?)),
            },
            ["not_tried", name] => self.step(name, PaymentStep::NotTried(words.option("failure", failure)?)),
            ["cancel", name] => self.step(name, PaymentStep::Cancel),
            _ => match self.bill(operation, words) {
                Some(command) => command,
                None => return self.change_payer(operation, words).map(Command::ChangePayer),
            },
        })
    }

    fn report_refund(&mut self, words: &Words, name: &str, progress: &str) -> Option<Command> {
        let (refund, payment) = (self.id(name), self.payment_of_refund(name)?);
        let known = payment.refunds.iter().find(|known| known.id == refund)?;
        let reference = words.options.get("reference").copied().unwrap_or_default();
        let reference = if reference.is_empty() { format!("re_{name}") } else { reference.to_owned() };
        let report = RefundReport {
            reference: reference.into(),
            id: Some(refund.to_string().into()),
            minor: known.minor,
            progress: named(progress)?,
            failure: words.option("failure", failure)?,
        };
        Some(Command::StepPayment { payment: payment.id, step: PaymentStep::ReportRefund { refund, report } })
    }

    fn change_payer(&self, operation: &[&str], words: &Words) -> Option<PayerChange> {
        Some(match operation {
            ["methods", methods @ ..] => PayerChange::Methods(PaymentMethodsReport {
                seen_at: words.option("seen", |text| self.time(text))?.unwrap_or(self.now),
                methods: methods.iter().map(|method| card(method)).collect(),
                default: words.options.get("default").map(|method| Arc::from(*method)),
            }),
            ["setup"] => PayerChange::BeginSetup,
            ["register"] => PayerChange::Register,
            ["adopt", reference] => PayerChange::Adopt(Arc::from(*reference)),
            ["attach", method] => {
                let default = words.options.get("default") == Some(&"yes");
                PayerChange::Attach { method: Arc::from(*method), default }
            }
            ["detach", method] => PayerChange::Detach(Arc::from(*method)),
            ["default", method] => PayerChange::SetDefault(Arc::from(*method)),
            ["top_up", "off"] => PayerChange::TopUp(None),
            ["top_up"] => {
                let pack = words.options.get("pack")?;
                let currency =
                    self.catalog.packs.get(*pack).map_or(Asset::new("USD"), |pack| pack.price.currency.clone());
                PayerChange::TopUp(Some(TopUpSettings {
                    threshold: words.option("threshold", number)??,
                    pack: Arc::from(*pack),
                    monthly_limit: words.option("limit", |text| read_money(text, &currency))??.minor,
                }))
            }
            _ => return None,
        })
    }

    /// What is decided, with the payment that the command is about, if it is about one.
    pub(crate) fn decide(&self, command: &Command) -> Result<engine::Decision, engine::Refusal> {
        let documents = Documents::find(command, |id| self.payments.get(&id), |id| self.invoices.get(&id));
        decide_documents(&self.catalog, &self.customer, documents, command, self.now)
    }

    fn payment(&self, name: &str) -> Option<&Payment> {
        self.payments.values().find(|payment| self.names.get(&payment.id).is_some_and(|known| known == name))
    }

    fn payment_of_refund(&self, name: &str) -> Option<&Payment> {
        let called = |refund: &Refund| self.names.get(&refund.id).is_some_and(|known| known == name);
        self.payments.values().find(|payment| payment.refunds.iter().any(called))
    }

    fn step(&mut self, payment: &str, step: PaymentStep) -> Command {
        let known = self.payment(payment).map(|payment| payment.id);
        Command::StepPayment { payment: known.unwrap_or_else(|| self.id(payment)), step }
    }

    /// What the provider says of a payment: as it was recorded, but for what the line says of it.
    fn report(&self, payment: &Payment, words: &Words, progress: &str) -> Option<PaymentReport> {
        let name = &self.names[&payment.id];
        let currency =
            words.options.get("currency").map_or_else(|| payment.amount.currency.clone(), |of| Asset::new(of));
        let amount = words.option("amount", |text| read_money(text, &currency))?;
        let amount = amount.unwrap_or(Money { minor: payment.amount.minor, currency });
        let received = words.option("received", |text| read_money(text, &amount.currency))?.map(|money| money.minor);
        let paid = if progress == "paid" { amount.minor } else { 0 };
        Some(PaymentReport {
            reference: words.options.get("reference").map_or(format!("pi_{name}"), |text| (*text).to_owned()).into(),
            id: Some(payment.id.to_string().into()),
            progress: named(progress)?,
            received: received.unwrap_or(paid),
            amount,
            client_secret: None,
            page: None,
            failure: words.option("failure", failure)?,
            refunds: Vec::new(),
            dispute: None,
        })
    }

    /// Takes note of the payments of a decision, and names what came of them.
    pub(crate) fn accept_payments(&mut self, payments: Vec<Payment>) -> Vec<String> {
        let mut answers = Vec::new();
        for payment in payments {
            // Only what is bought automatically comes without a name.
            let automatic = self.payments.values().filter(|payment| is_automatic(payment)).count();
            let name = self.names.entry(payment.id).or_insert_with(|| format!("automatic_{}", automatic + 1)).clone();
            self.names.insert(purchased_grant(payment.id), format!("{name}_pack"));
            for refund in &payment.refunds {
                let reference = refund.reference.as_deref().unwrap_or_default();
                let refund_name = self.names.entry(refund.id).or_insert_with(|| reference.to_owned()).clone();
                let given_back = engine::id::operation_id(refund.id, "refund", "failed");
                self.names.insert(given_back, format!("{refund_name}_returned"));
            }
            let before = self.payments.insert(payment.id, payment.clone());
            answers.extend(self.show_payment(&payment, before.as_ref()));
        }
        answers
    }

    /// A payment: how it stands now, and what is new about its refunds and its dispute.
    fn show_payment(&self, payment: &Payment, before: Option<&Payment>) -> Vec<String> {
        let name = &self.names[&payment.id];
        let mut text = format!("payment {name}: {} {}", payment.amount, payment.state.as_str());
        if let Some(failure) = &payment.failure {
            text.push_str(&format!(" ({})", show_failure(failure)));
        }
        if payment.refunded() > 0 {
            text.push_str(&format!(", {} given back", money(payment.refunded(), &payment.amount.currency)));
        }
        if before.is_none()
            && let Collection::OffSession { method } = &payment.collection
        {
            text.push_str(&format!(" with {method}"));
        }
        if before.is_none() && payment.provider_invoice.is_some() {
            text.push_str(", by an invoice of the provider's");
        }
        let mut answers = vec![text];
        for refund in &payment.refunds {
            if before.is_none_or(|before| !before.refunds.contains(refund)) {
                answers.push(self.show_refund(payment, refund));
            }
        }
        if let Some(dispute) = &payment.dispute
            && before.is_none_or(|before| before.dispute != payment.dispute)
        {
            let disputed = money(dispute.minor, &payment.amount.currency);
            let state = match dispute.state {
                DisputeState::Open => "open",
                DisputeState::Won => "won",
                DisputeState::Lost => "lost",
            };
            answers.push(format!("dispute of {name}: {disputed} {state}"));
        }
        answers
    }

    fn show_refund(&self, payment: &Payment, refund: &Refund) -> String {
        let asset = payment.purpose.purchase().map_or(&payment.amount.currency, |purchase| &purchase.asset);
        let parts = [(refund.unspent, "taken back"), (refund.owed, "owed"), (refund.forgiven, "forgiven")];
        let parts = parts.into_iter().filter(|(amount, _)| *amount != Micros::ZERO);
        let mut parts: Vec<String> = parts.map(|(amount, what)| format!("{amount} {asset} {what}")).collect();
        let of_invoice =
            [(refund.credit, "of credit"), (refund.tax, "of tax")].into_iter().filter(|(minor, _)| *minor != 0);
        parts.extend(of_invoice.map(|(minor, what)| format!("{} {what}", money(minor, &payment.amount.currency))));
        let progress = match refund.progress {
            RefundProgress::Pending => "pending",
            RefundProgress::Succeeded => "succeeded",
            RefundProgress::Failed => "failed",
        };
        let failure = refund.failure.as_ref().map(|failure| format!(" ({})", show_failure(failure)));
        let minor = money(refund.minor, &payment.amount.currency);
        let parts = if parts.is_empty() { "nothing taken".to_owned() } else { parts.join(", ") };
        format!("refund {}: {minor} {progress}{}: {parts}", self.names[&refund.id], failure.unwrap_or_default())
    }

    pub(crate) fn show_effect(&self, record: &EffectRecord) -> String {
        let named = |id: &Uuid| self.names[id].as_str();
        let text = match &record.effect {
            Effect::CreatePayment { payment } => format!("make payment {}", named(payment)),
            Effect::ObservePayment { payment } => format!("ask about payment {}", named(payment)),
            Effect::CollectInvoice { payment, method } => format!("collect {} again with {method}", named(payment)),
            Effect::CancelPayment { payment } => format!("end payment {}", named(payment)),
            Effect::CreateRefund { payment, refund } => {
                format!("make refund {} of payment {}", named(refund), named(payment))
            }
            Effect::BeginSetup => "begin to put a method on file".to_owned(),
            Effect::RegisterPayer => "have the customer".to_owned(),
            Effect::AttachMethod { method, default: false } => format!("attach {method}"),
            Effect::AttachMethod { method, default: true } => format!("attach {method} as the default"),
            Effect::DetachMethod { method } => format!("detach {method}"),
            Effect::CreateSubscription { subscription } => format!("make subscription {}", named(subscription)),
            Effect::ChangeSubscription { subscription } => format!("change subscription {}", named(subscription)),
            Effect::ObserveSubscription { subscription } => format!("ask about subscription {}", named(subscription)),
            Effect::EndSubscription { subscription, ending, .. } => match ending {
                Ending::Now => format!("end {} now", named(subscription)),
                Ending::WithPeriod => format!("end {} with its period", named(subscription)),
                Ending::NotAtAll => format!("go on with {}", named(subscription)),
            },
            Effect::SetDefaultMethod { method } => format!("make {method} the default"),
        };
        let at = (record.due_at != self.now).then(|| format!(" at {}", self.show_time(record.due_at)));
        format!("provider is to {text}{}", at.unwrap_or_default())
    }

    /// The payment methods and the automatic top-up, where they have changed.
    pub(crate) fn show_payer(&self, before: &Payer) -> Vec<String> {
        let payer = &self.customer.state.payer;
        let mut answers = Vec::new();
        if (&payer.methods, &payer.default_method) != (&before.methods, &before.default_method) {
            let methods: Vec<&str> = payer.methods.iter().map(|method| &*method.reference).collect();
            let methods = if methods.is_empty() { "none".to_owned() } else { methods.join(" ") };
            answers.push(format!("methods {methods}; default {}", payer.default_method.as_deref().unwrap_or("none")));
        }
        match &payer.top_up {
            Some(top_up) if before.top_up.as_ref() != Some(top_up) => {
                let pack = self.catalog.packs.get(&top_up.settings.pack);
                let currency = pack.map_or(Asset::new("USD"), |pack| pack.price.currency.clone());
                let month = top_up.month.to_zoned(self.catalog.time_zone.clone()).strftime("%Y-%m").to_string();
                let (spent, limit) = (money(top_up.spent, &currency), money(top_up.settings.monthly_limit, &currency));
                let pending = top_up.pending.map(|id| format!(", waits for {}", self.names[&id]));
                let stopped = top_up.stopped.as_ref().map(|code| format!(", stopped by {code}"));
                let end = [pending, stopped].into_iter().flatten().collect::<String>();
                answers.push(format!("top-up spent {spent} of {limit} in {month}{end}"));
            }
            None if before.top_up.is_some() => answers.push("top-up off".to_owned()),
            _ => {}
        }
        answers
    }

    /// A payment as it stands, in one line.
    pub(crate) fn look_at(&self, name: &str) -> Option<Vec<String>> {
        Some(self.show_payment(self.payment(name)?, None))
    }
}

fn is_automatic(payment: &Payment) -> bool {
    payment.purpose.purchase().is_some_and(|purchase| purchase.automatic)
}

pub(crate) fn money(minor: i64, currency: &Asset) -> Money {
    Money { minor, currency: currency.clone() }
}

pub(crate) fn read_money(text: &str, currency: &Asset) -> Option<Money> {
    Money::exactly(text.parse().ok()?, currency).ok()
}

pub(crate) fn read_heard(word: &str) -> Heard {
    match word {
        "made" => Heard::Made,
        "answers" => Heard::Asked,
        "tried" => Heard::Tried,
        _ => Heard::Told,
    }
}

pub(crate) fn collection(words: &Words) -> CollectionRequest {
    let method = words.options.get("method").map(|method| Arc::from(*method));
    if method.is_some() || words.plain.last() == Some(&"off_session") {
        return CollectionRequest::OnFile(method);
    }
    CollectionRequest::By(Collection::OnSession { save_method: false })
}

/// `card_declined/insufficient_funds`: the provider's code, and the bank's reason where it gives one.
pub(crate) fn failure(text: &str) -> Option<Failure> {
    let (code, decline_code) = text.split_once('/').map_or((text, None), |(code, reason)| (code, Some(reason)));
    Some(Failure { code: code.into(), decline_code: decline_code.map(Arc::from), message: Arc::from("declined") })
}

fn show_failure(failure: &Failure) -> String {
    let reason = failure.decline_code.as_ref().map(|reason| format!("/{reason}"));
    format!("{}{}", failure.code, reason.unwrap_or_default())
}

fn card(reference: &str) -> PaymentMethod {
    PaymentMethod { reference: Arc::from(reference), brand: Arc::from("visa"), last4: None, expires: None }
}
