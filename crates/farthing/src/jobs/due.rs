//! What becomes due of customers by itself: periods that end, trials, invoices to be tried again. The rules are the engine's;
//! here a customer is only told that time has passed, and whoever tells it first does what was due.

use engine::Command;
use futures_util::future::join_all;
use jiff::SignedDuration;

use super::{JobError, Jobs};
use crate::store::{CustomerKey, Whose};

/// How many customers are told at once.
const AT_ONCE: i64 = 256;
/// When a customer is told again whom telling did not get on, so that it keeps no other waiting.
const STUCK: SignedDuration = SignedDuration::from_mins(10);

impl Jobs {
    /// Tells customers of whom something is due that time has passed; of tenants whose clock is not held. How many went on.
    ///
    /// # Errors
    /// What the store fails with. One customer that does not go on is logged, and told again later.
    pub async fn pass_time(&self) -> Result<usize, JobError> {
        self.pass_time_of(&self.unheld()).await
    }

    pub(super) async fn pass_time_of(&self, whose: &Whose) -> Result<usize, JobError> {
        let now = self.time_of(whose);
        let due = self.app.store.due_customers(whose, now, AT_ONCE).await?;
        let told = due.iter().map(|(tenant, customer, _)| self.execute(tenant, customer, Command::PassTime, None));
        let mut went_on = 0;
        for ((tenant, customer, _), told) in due.iter().zip(join_all(told).await) {
            let Err(error) = told else {
                went_on += 1;
                continue;
            };
            tracing::error!(event = "customer_stuck", tenant, %error);
            let key = CustomerKey::new(&tenant.as_str().into(), customer);
            let again = now.checked_add(STUCK).unwrap_or(now);
            self.app.store.postpone_due(&key, again).await?;
        }
        Ok(went_on)
    }
}
