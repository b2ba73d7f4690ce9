//! The prices of a sandbox that stands in for Stripe, by an interface of its own: Stripe draws the ids of prices itself.

use async_trait::async_trait;
use engine::IntervalUnit;

use super::Stripe;
use super::amount::to_stripe;
use super::client::Calls;
use super::error::CallError;
use super::form::Form;
use super::object::Identified;
use crate::provider::{Exchanged, OfferedPrice, Prices};

#[async_trait]
impl Prices for Stripe {
    async fn offer(&self, price: &OfferedPrice) -> Exchanged<()> {
        let mut calls = self.client.calls("offer_price");
        let outcome = offer(&mut calls, price).await;
        calls.end(outcome)
    }
}

async fn offer(calls: &mut Calls<'_>, price: &OfferedPrice) -> Result<(), CallError> {
    let (amount, currency) = to_stripe(&price.fee)?;
    let unit = match price.interval.unit {
        IntervalUnit::Day => "day",
        IntervalUnit::Week => "week",
        IntervalUnit::Month => "month",
        IntervalUnit::Year => "year",
    };
    let form = Form::new()
        .with("id", &price.id)
        .with_some("lookup_key", price.lookup_key.as_ref())
        .with("product_data[name]", &price.title)
        .with("currency", currency)
        .with("unit_amount", amount)
        .with("recurring[interval]", unit)
        .with("recurring[interval_count]", price.interval.count);
    calls.post_once::<Identified>("/_sandbox/prices", form).await.map(|_| ())
}
