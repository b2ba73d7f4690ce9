//! Rating: from a quantity to an exact amount. Whole-number arithmetic throughout, one division at the end.

use crate::money::{Micros, Money};
use crate::price::{Model, Price, Rate, Tier};
use crate::refusal::Refusal;

/// What a charge of `quantity` costs, when `before` was counted under the same price earlier in the period.
///
/// For models that count over the period it is the difference of the two rounded totals, so that the charges of a period
/// add up to the rounded price of its total. A volume price that gets cheaper can make it negative: the difference is
/// given back.
///
/// # Errors
/// `AmountOutOfRange` where a product or the result does not fit.
pub fn rate(price: &Price, before: Micros, quantity: Micros) -> Result<Micros, Refusal> {
    if price.model.is_cumulative() {
        let after = before.plus(quantity)?;
        total(price, after)?.minus(total(price, before)?)
    } else {
        total(price, quantity)
    }
}

/// One step of how an amount came about, for the explanation of a charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which tier, counted from one; nothing where the model has none.
    pub tier: Option<usize>,
    /// Units at this rate (packages for a package price, one for a flat price).
    pub quantity: Micros,
    /// The unit price.
    pub rate: Rate,
    /// How many units that price is for.
    pub per: u64,
    /// Added once.
    pub flat: Rate,
}

/// The steps that price a total of `quantity` counted from zero.
///
/// # Errors
/// `AmountOutOfRange` where a package count does not fit.
pub fn steps(price: &Price, quantity: Micros) -> Result<Vec<Step>, Refusal> {
    let plain = |quantity, rate, per| vec![Step { tier: None, quantity, rate, per, flat: Rate::ZERO }];
    Ok(match &price.model {
        Model::Flat { amount } => plain(Micros::ONE, *amount, 1),
        Model::PerUnit { amount } => plain(quantity, *amount, price.per),
        Model::Package { size, amount } => plain(packages(quantity, *size)?, *amount, 1),
        Model::Percentage { percent, flat } => {
            vec![Step { tier: None, quantity, rate: *percent, per: 100, flat: *flat }]
        }
        Model::Graduated { tiers } => graduated(tiers, quantity, price.per)?,
        Model::Volume { tiers } => volume(tiers, quantity, price.per),
    })
}

fn packages(quantity: Micros, size: Micros) -> Result<Micros, Refusal> {
    let begun = quantity.get() / size.get() + i64::from(quantity.get() % size.get() > 0);
    begun.checked_mul(Micros::ONE.get()).map(Micros::new).ok_or(Refusal::AmountOutOfRange)
}

fn graduated(tiers: &[Tier], quantity: Micros, per: u64) -> Result<Vec<Step>, Refusal> {
    let mut steps = Vec::new();
    let mut from = Micros::ZERO;
    for (index, tier) in tiers.iter().enumerate() {
        if quantity <= from {
            break;
        }
        let upto = tier.up_to.map_or(quantity, |up_to| up_to.min(quantity));
        steps.push(Step {
            tier: Some(index + 1),
            quantity: upto.minus(from)?,
            rate: tier.amount,
            per,
            flat: tier.flat,
        });
        from = upto;
    }
    Ok(steps)
}

fn volume(tiers: &[Tier], quantity: Micros, per: u64) -> Vec<Step> {
    if quantity.is_zero() {
        return Vec::new();
    }
    let reached = tiers.iter().position(|tier| tier.up_to.is_none_or(|up_to| quantity <= up_to));
    reached
        .and_then(|index| {
            let tier = tiers.get(index)?;
            Some(Step { tier: Some(index + 1), quantity, rate: tier.amount, per, flat: tier.flat })
        })
        .into_iter()
        .collect()
}

/// The rounded amount of a total, in micros or whole coins. Units: a quantity is 1e-6, a rate 1e-12, so their product is
/// 1e-18; a micro is 1e-6.
fn total(price: &Price, quantity: Micros) -> Result<Micros, Refusal> {
    const MICROS_IN_PRODUCT: i128 = 1_000_000_000_000;
    let mut numerator: i128 = 0;
    let mut per: i128 = 1;
    for step in steps(price, quantity)? {
        per = i128::from(step.per);
        let flat = step.flat.picos().checked_mul(i128::from(Micros::ONE.get())).and_then(|flat| flat.checked_mul(per));
        numerator = i128::from(step.quantity.get())
            .checked_mul(step.rate.picos())
            .zip(flat)
            .and_then(|(usage, flat)| usage.checked_add(flat)?.checked_add(numerator))
            .ok_or(Refusal::AmountOutOfRange)?;
    }
    let step = i128::from(if price.whole_coins { Money::coin(&price.asset)?.get() } else { 1 });
    let denominator = per.checked_mul(MICROS_IN_PRODUCT).and_then(|micro| micro.checked_mul(step));
    let rounded = price.rounding.divide(numerator, denominator.ok_or(Refusal::AmountOutOfRange)?);
    let micros = rounded.checked_mul(step).and_then(|micros| i64::try_from(micros).ok());
    micros.map(Micros::new).ok_or(Refusal::AmountOutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::{Asset, Rounding};

    fn price(model: Model, per: u64) -> Price {
        Price {
            name: "m".into(),
            version: "v".into(),
            meter: "m".into(),
            pooled: Vec::new(),
            asset: Asset::new("USD"),
            matching: std::collections::BTreeMap::new(),
            model,
            per,
            rounding: Rounding::HalfEven,
            line_rounding: Rounding::Down,
            whole_coins: false,
        }
    }

    fn tiers(steps: &[(Option<i64>, &str, &str)]) -> Vec<Tier> {
        let tier = |&(up_to, amount, flat): &(Option<i64>, &str, &str)| Tier {
            up_to: up_to.map(|units| Micros::new(units * 1_000_000)),
            amount: amount.parse().unwrap(),
            flat: flat.parse().unwrap(),
        };
        steps.iter().map(tier).collect()
    }

    /// Charges of these quantities, one after the other in a period; the text form of what each costs.
    fn charges(price: &Price, quantities: &[&str]) -> Vec<String> {
        let mut before = Micros::ZERO;
        let mut amounts = Vec::new();
        for quantity in quantities {
            let quantity = quantity.parse().unwrap();
            amounts.push(rate(price, before, quantity).unwrap().to_string());
            before = before.plus(quantity).unwrap();
        }
        amounts
    }

    #[test]
    fn a_price_per_million_tokens_is_exact() {
        let context = price(Model::PerUnit { amount: "3".parse().unwrap() }, 1_000_000);
        assert_eq!(charges(&context, &["4808", "1", "0"]), ["0.014424", "0.000003", "0"]);
        // A tenth of a micro-dollar per token: each charge is rounded on its own, halves to even.
        let cheap = price(Model::PerUnit { amount: "0.1".parse().unwrap() }, 1_000_000);
        assert_eq!(charges(&cheap, &["5", "15", "25", "26"]), ["0", "0.000002", "0.000002", "0.000003"]);
    }

    #[test]
    fn in_whole_coins_the_half_of_one_goes_up() {
        let tokens = price(Model::PerUnit { amount: "0.001".parse().unwrap() }, 1);
        let tokens = Price { rounding: Rounding::HalfUp, whole_coins: true, ..tokens };
        assert_eq!(charges(&tokens, &["1000", "4", "5", "14", "15"]), ["1", "0", "0.01", "0.01", "0.02"]);
        let yen = Price { asset: Asset::new("JPY"), ..tokens };
        assert_eq!(charges(&yen, &["499", "500"]), ["0", "1"]);
    }

    #[test]
    fn a_flat_price_ignores_the_quantity() {
        let flat = price(Model::Flat { amount: "0.25".parse().unwrap() }, 1);
        assert_eq!(charges(&flat, &["1", "99"]), ["0.25", "0.25"]);
    }

    #[test]
    fn a_percentage_is_of_the_amount_used() {
        let card = Model::Percentage { percent: "2.9".parse().unwrap(), flat: "0.3".parse().unwrap() };
        assert_eq!(charges(&price(card, 1), &["100", "19.99"]), ["3.2", "0.87971"]);
    }

    #[test]
    fn a_package_is_paid_when_begun() {
        let package = price(Model::Package { size: Micros::new(100_000_000), amount: "5".parse().unwrap() }, 1);
        assert_eq!(charges(&package, &["1", "99", "1", "250"]), ["5", "0", "5", "10"]);
    }

    #[test]
    fn graduated_charges_add_up_to_the_total() {
        let tiers = tiers(&[(Some(100), "1", "0"), (Some(200), "0.5", "10"), (None, "0.1", "0")]);
        let graduated = price(Model::Graduated { tiers }, 1);
        assert_eq!(charges(&graduated, &["90", "20", "190"]), ["90", "25", "55"]);
        assert_eq!(charges(&graduated, &["300"]), ["170"]);
    }

    #[test]
    fn a_volume_price_gives_back_what_got_cheaper() {
        let volume = price(Model::Volume { tiers: tiers(&[(Some(100), "1", "0"), (None, "0.5", "0")]) }, 1);
        assert_eq!(charges(&volume, &["100", "1", "99"]), ["100", "-49.5", "49.5"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dear = price(Model::PerUnit { amount: "1000000000".parse().unwrap() }, 1);
        assert_eq!(rate(&dear, Micros::ZERO, Micros::LARGEST), Err(Refusal::AmountOutOfRange));
    }
}
