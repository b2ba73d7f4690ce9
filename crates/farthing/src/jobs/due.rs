//! What becomes due of customers by itself: periods that end, trials, invoices to be tried again. The rules are the engine's;
//! here a customer is only told that time has passed, and whoever tells it first does what was due.

use engine::Command;
use futures_util::future::join_all;

use super::{JobError, Jobs};

/// How many customers are told at once.
const AT_ONCE: i64 = 256;

impl Jobs {
    /// Tells customers of whom something is due that time has passed: of one tenant, or of all whose clock is not held. How
    /// many went on; one that did not is told again later.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn pass_time(&self, tenant: Option<&str>) -> Result<usize, JobError> {
        let now = self.now(tenant.unwrap_or_default());
        let due = self.app.store.due_customers(tenant, now, AT_ONCE).await?;
        let told = due.iter().map(|(tenant, customer, _)| self.execute(tenant, customer, Command::PassTime, None));
        let mut went_on = 0;
        for ((tenant, ..), told) in due.iter().zip(join_all(told).await) {
            match told {
                Ok(_) => went_on += 1,
                Err(error) => tracing::error!(event = "customer_stuck", tenant, %error),
            }
        }
        Ok(went_on)
    }
}
