//! Practices: who is billed. A practice is a customer whose id is the practice's, a UUID in small letters with hyphens, however
//! a request spells it.

use axum::http::StatusCode;
use engine::{Micros, Refusal, wallet};
use serde_json::Number;
use uuid::Uuid;

use super::{Caller, Failed, Failure, Helppet, HelppetSettings, Speaker, said};
use crate::auth::{Claims, JwtError, Scope};
use crate::identity::IdentityError;
use crate::store::{CustomerKey, CustomerRow};

/// A practice that the caller may act for.
pub(super) struct Practice {
    pub(super) key: CustomerKey,
}

impl Practice {
    /// The practice of this id, where the caller may do that much for it: its own people, a system's admin, or a server with a
    /// key. Whoever may not is told so before it is looked whether there is such a practice, or could be.
    pub(super) fn of(
        speaker: &Speaker<HelppetSettings>,
        caller: &Caller<Helppet>,
        id: &str,
        needed: Scope,
    ) -> Result<Self, Failed<Helppet>> {
        let parsed = Uuid::try_parse(id).ok();
        let by_server = caller.require(needed).is_ok();
        let by_user = match user(caller)? {
            Some(claims) => is_admin(claims, &speaker.settings) || is_member(claims, id, parsed),
            None => false,
        };
        if !by_server && !by_user {
            return Err(match caller.0.user {
                Some(_) => Failed::with(said(StatusCode::FORBIDDEN, "You do not have permission for this practice")),
                None => Failure::Scope(needed).into(),
            });
        }
        let Some(id) = parsed else {
            return Err(Failed::with(said(StatusCode::BAD_REQUEST, "practice_id is not a valid UUID")));
        };
        Ok(Self { key: speaker.spoken.key(&id.hyphenated().to_string()) })
    }

    /// Its billing customer, where there is one.
    pub(super) async fn find(&self, speaker: &Speaker<HelppetSettings>) -> Result<Option<CustomerRow>, Failure> {
        Ok(speaker.spoken.customer(&self.key).await?)
    }

    /// Its billing customer, where there has to be one.
    pub(super) async fn require(&self, speaker: &Speaker<HelppetSettings>) -> Result<CustomerRow, Failure> {
        self.find(speaker).await?.ok_or(Failure::Refused(Refusal::UnknownCustomer))
    }
}

/// The user who calls, where one does. A token has to say who that is.
pub(super) fn user(caller: &Caller<Helppet>) -> Result<Option<&Claims>, Failure> {
    match &caller.0.user {
        Some(claims) if claims.user.is_none() => {
            let claim = "sub".into();
            Err(Failure::Identity(IdentityError::Token(JwtError::ClaimMissing { claim })))
        }
        user => Ok(user.as_ref()),
    }
}

/// Whether the user may act for every practice.
fn is_admin(claims: &Claims, settings: &HelppetSettings) -> bool {
    claims.role.as_ref() == Some(&settings.admin_role)
}

/// Whether the user is one of the practice's people.
fn is_member(claims: &Claims, id: &str, parsed: Option<Uuid>) -> bool {
    let own = claims.customer.as_deref();
    match (own.and_then(|own| Uuid::try_parse(own).ok()), parsed) {
        (Some(own), Some(asked)) => own == asked,
        _ => own == Some(id),
    }
}

/// What is left of a practice's credits, in whole cents; below zero what it owes.
pub(super) fn cents_of(speaker: &Speaker<HelppetSettings>, row: &CustomerRow) -> Result<i64, Failure> {
    let catalog = speaker.spoken.catalog();
    let balances = wallet::balances(catalog, &row.customer, speaker.spoken.now())?;
    let balance = balances.get(&catalog.currency).copied().unwrap_or_default();
    Ok(cents(balance.available.plus(balance.held)?.minus(balance.owed)?))
}

/// Whole cents of micros; a part of one is not told.
pub(super) fn cents(amount: Micros) -> i64 {
    amount.get().div_euclid(Micros::ONE.get() / 100)
}

/// Cents as dollars, as a JSON number.
pub(super) fn dollars(cents: i64) -> Number {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}{}.{:02}", cents / 100, cents % 100).parse().unwrap_or_else(|_| Number::from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_written_as_the_product_writes_them() {
        let written = [1000, 980, 975, 5, 0, -20, -1234].map(|cents| dollars(cents).to_string());
        assert_eq!(written, ["10.0", "9.8", "9.75", "0.05", "0.0", "-0.2", "-12.34"]);
    }

    #[test]
    fn a_part_of_a_cent_is_not_told() {
        assert_eq!([9_999_999, 10_000, -1].map(|micros| cents(Micros::new(micros))), [999, 1, -1]);
    }
}
