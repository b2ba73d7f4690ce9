//! Who calls: a product's server with an API key, or a customer's own session with a token. Everything a caller may
//! touch is one tenant's, and for a token one customer's.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use engine::Catalog;
use jiff::Timestamp;

use super::problem::Problem;
use crate::app::{App, Connection, TenantRuntime};
use crate::auth::Scope;
use crate::clock::TenantClock;
use crate::config::{Mode, Seller};
use crate::identity::{Identity, IdentityError};
use crate::store::{self, CustomerKey, CustomerRow};

/// Who calls.
pub(super) struct Caller {
    tenant: Arc<TenantRuntime>,
    scope: Scope,
    /// The only customer that may be touched, by the caller's own id.
    customer: Option<String>,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Identity { tenant, server, user } = Identity::of_any_tenant(app, &parts.headers).await?;
        let customer = user.as_ref().map(|claims| claims.require_customer().map(str::to_owned)).transpose();
        let customer = customer.map_err(IdentityError::from)?;
        Ok(Self { tenant, scope: server.unwrap_or(Scope::Read), customer })
    }
}

impl Caller {
    /// Refuses a caller that may not do as much.
    pub(super) fn require(&self, needed: Scope) -> Result<&Self, Problem> {
        if self.scope.allows(needed) && (needed == Scope::Read || self.customer.is_none()) {
            return Ok(self);
        }
        let detail = format!("this needs an API key with scope `{needed}`");
        Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", detail))
    }

    /// Refuses a caller that may not do as much; a customer's own token may do this to what is that customer's.
    pub(super) fn require_own(&self, needed: Scope) -> Result<&Self, Problem> {
        if self.customer.is_some() { Ok(self) } else { self.require(needed) }
    }

    /// Refuses a caller that may see one customer only.
    pub(super) fn require_all_customers(&self) -> Result<&Self, Problem> {
        if self.customer.is_none() {
            return Ok(self);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "scope_missing", "a customer's token reads that customer alone"))
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.tenant.catalog
    }

    /// The tenant's time.
    pub(super) fn now(&self) -> Timestamp {
        self.tenant.clock.now()
    }

    /// The tenant's clock, where it is in test mode.
    pub(super) fn require_test_clock(&self) -> Result<&TenantClock, Problem> {
        if self.tenant.mode == Mode::Test {
            return Ok(&self.tenant.clock);
        }
        let detail = "this tenant is live: its time is everybody's";
        Err(Problem::new(StatusCode::CONFLICT, "not_in_test_mode", detail))
    }

    /// The tenant's payment provider.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.tenant.connection.as_ref()
    }

    /// Refuses what takes a payment provider, where the tenant has none.
    pub(super) fn require_connection(&self) -> Result<&Connection, Problem> {
        self.connection().ok_or_else(|| {
            let detail = "this tenant has no payment provider; add `[connection]` to its file";
            Problem::new(StatusCode::CONFLICT, "no_payment_provider", detail)
        })
    }

    /// Who sends the tenant's invoices.
    pub(super) fn seller(&self) -> &Seller {
        &self.tenant.seller
    }

    pub(super) fn tenant(&self) -> &Arc<str> {
        &self.tenant.catalog.tenant
    }

    /// The address of a customer that the caller may touch; another's is not found.
    pub(super) fn customer(&self, id: &str) -> Result<CustomerKey, Problem> {
        if self.customer.as_ref().is_some_and(|own| own != id) {
            return Err(engine::Refusal::UnknownCustomer.into());
        }
        Ok(CustomerKey::new(self.tenant(), id))
    }

    /// What the caller may see before a customer is known.
    pub(super) fn scope(&self) -> store::Scope {
        store::Scope { tenant: self.tenant().clone(), customer: None }
    }

    /// A customer of the tenant that the caller may touch, and the scope to read on with: that customer alone.
    pub(super) async fn find(&self, app: &App, id: &str) -> Result<(CustomerRow, store::Scope), Problem> {
        let key = self.customer(id)?;
        let row = app.store.customer(&self.scope(), &key).await?;
        let row = row.ok_or_else(|| Problem::from(engine::Refusal::UnknownCustomer).at("customer"))?;
        let scope = store::Scope { tenant: self.tenant().clone(), customer: Some(row.customer.id) };
        Ok((row, scope))
    }

    /// Refuses another customer's thing, found by its own id.
    pub(super) fn may_see(&self, external_id: &str) -> bool {
        self.customer.as_ref().is_none_or(|own| own == external_id)
    }
}
