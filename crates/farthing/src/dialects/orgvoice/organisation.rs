//! Organisations: who is billed, and for whom a user acts. An organisation is a customer with the id that is in the token.

use axum::http::StatusCode;
use engine::{Micros, Refusal};

use super::{Caller, Failed, Failure, Orgvoice, OrgvoiceSettings, Speaker, said};
use crate::auth::{JwtError, Scope};
use crate::identity::IdentityError;
use crate::store::{CustomerKey, CustomerRow};

/// The longest id of an organisation, in bytes.
const LONGEST_ID: usize = 255;

/// A user of an organisation, who acts for that one alone.
pub(super) struct Member<'c> {
    pub(super) key: CustomerKey,
    pub(super) email: &'c str,
    role: &'c str,
}

impl<'c> Member<'c> {
    /// The user who calls. A token has to say who that is, of which organisation, with which role and address.
    pub(super) fn of(
        speaker: &Speaker<OrgvoiceSettings>,
        caller: &'c Caller<Orgvoice>,
    ) -> Result<Self, Failed<Orgvoice>> {
        let Some(claims) = &caller.0.user else { return Err(Failure::Scope(Scope::Read).into()) };
        claimed(claims.user.as_deref(), "sub")?;
        let organisation = claimed(claims.customer.as_deref(), "tenant_id")?;
        let email = claimed(claims.email.as_deref(), "email")?;
        let role = claimed(claims.role.as_deref(), "role")?;
        Ok(Self { key: speaker.spoken.key(organisation), email, role })
    }

    /// The same, where the user may change the organisation's billing.
    pub(super) fn admin(
        speaker: &Speaker<OrgvoiceSettings>,
        caller: &'c Caller<Orgvoice>,
    ) -> Result<Self, Failed<Orgvoice>> {
        let member = Self::of(speaker, caller)?;
        if member.role == speaker.settings.admin_role || member.sees_all(&speaker.settings) {
            Ok(member)
        } else {
            Err(Failed::with(said(StatusCode::FORBIDDEN, "Admin access required")))
        }
    }

    /// Whether the user may see all organisations.
    pub(super) fn sees_all(&self, settings: &OrgvoiceSettings) -> bool {
        self.role == settings.platform_role
    }

    /// The organisation's row, where there is one.
    pub(super) async fn row(&self, speaker: &Speaker<OrgvoiceSettings>) -> Result<Option<CustomerRow>, Failure> {
        Ok(speaker.spoken.customer(&self.key).await?)
    }

    /// The organisation's billing customer, where there is one: the provider has it too.
    pub(super) async fn find(&self, speaker: &Speaker<OrgvoiceSettings>) -> Result<Option<CustomerRow>, Failure> {
        Ok(self.row(speaker).await?.filter(is_billed))
    }

    /// The same, where there has to be one.
    pub(super) async fn require(&self, speaker: &Speaker<OrgvoiceSettings>) -> Result<CustomerRow, Failure> {
        self.find(speaker).await?.ok_or(Failure::Refused(Refusal::UnknownCustomer))
    }
}

/// Whether the provider has the organisation as a customer.
pub(super) fn is_billed(row: &CustomerRow) -> bool {
    row.customer.state.payer.reference.is_some()
}

/// What a claim says; a token without it is none.
fn claimed<'c>(value: Option<&'c str>, claim: &str) -> Result<&'c str, Failure> {
    let usable = |text: &&str| !text.is_empty() && text.len() <= LONGEST_ID && !text.chars().any(char::is_control);
    value.filter(usable).ok_or_else(|| {
        let claim = claim.into();
        Failure::Identity(IdentityError::Token(JwtError::ClaimMissing { claim }))
    })
}

/// Whole cents of micros; a part of one is not told.
pub(super) fn cents(amount: Micros) -> i64 {
    amount.get().div_euclid(Micros::ONE.get() / 100)
}

/// Whole units of micros.
pub(super) fn whole(amount: Micros) -> i64 {
    amount.get().div_euclid(Micros::ONE.get())
}
