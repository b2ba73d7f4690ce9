//! What becomes due of customers by itself: periods that end, trials, invoices to be tried again. The rules are the engine's;
//! here a customer is only told that time has passed, and whoever tells it first does what was due.
//!
//! Customers are read page by page and told many at once, so that the service commits them in large batches, and nobody
//! ever holds a list of all. Several servers may do the same: each customer's position lets one of them win, and each
//! goes through the buckets in an order of its own, so that they mostly meet nobody.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;

use engine::Command;
use engine::id::SHARD_BUCKETS;
use futures_util::{TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{JobError, Jobs};
use crate::service::ServiceError;
use crate::store::{CustomerKey, DueCustomer, Page, Whose};

/// How many customers are told at once: while a batch of them is committed, another waits in the lane, and a charge that comes
/// in meanwhile waits for no more than these.
const AT_ONCE: usize = 256;
/// How many customers are read at once. Where fewer are due, one page is all.
const PAGE: i64 = 256;
/// In how many parts the buckets are gone through where more are due.
const PARTS: i32 = 32;
/// When a customer is told again whom telling did not get on, so that it keeps no other waiting.
const STUCK: SignedDuration = SignedDuration::from_mins(10);

/// What came of telling customers that time has passed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// How many went on.
    pub went_on: u64,
    /// How many did not, by the code of the reason; they are told again later.
    pub stuck: BTreeMap<&'static str, u64>,
}

impl Passed {
    /// How many did not go on.
    #[must_use]
    pub fn stuck(&self) -> u64 {
        self.stuck.values().sum()
    }
}

impl Jobs {
    /// Tells every customer of whom something is due that time has passed; of tenants whose clock is not held. How many went
    /// on.
    ///
    /// # Errors
    /// What the store fails with. One customer that does not go on is logged, and told again later.
    pub async fn pass_time(&self) -> Result<u64, JobError> {
        self.pass_time_of(&self.unheld()).await
    }

    pub(super) async fn pass_time_of(&self, whose: &Whose) -> Result<u64, JobError> {
        let mut passed = Passed::default();
        self.pass_time_until(whose, self.time_of(whose), &mut passed, &mut |_| {}).await?;
        Ok(passed.went_on)
    }

    /// The same for whoever wants to see it: those of whom something was due by `until`, or by now; `progress` hears of each.
    ///
    /// # Errors
    /// What the store fails with.
    pub async fn pass_time_by(
        &self,
        until: Option<Timestamp>,
        progress: &mut (dyn FnMut(&Passed) + Send),
    ) -> Result<Passed, JobError> {
        let (whose, mut passed) = (self.unheld(), Passed::default());
        let now = self.time_of(&whose);
        let until = until.map_or(now, |until| until.min(now));
        self.pass_time_until(&whose, until, &mut passed, progress).await?;
        Ok(passed)
    }

    /// Tells those of whom something was due by then, and adds up what comes of it; `progress` hears of each.
    pub(super) async fn pass_time_until(
        &self,
        whose: &Whose,
        until: Timestamp,
        passed: &mut Passed,
        progress: &mut (dyn FnMut(&Passed) + Send),
    ) -> Result<(), JobError> {
        let all = 0..SHARD_BUCKETS;
        let first = self.app.store.due_customers(whose, until, all.clone(), Page { after: None, limit: PAGE }).await?;
        let parts = if i64::try_from(first.len()).is_ok_and(|due| due < PAGE) { vec![all] } else { self.parts() };
        drop(first);
        for part in parts {
            let told = self.due(whose, until, part).map_ok(|due| self.tell_customer(due)).try_buffer_unordered(AT_ONCE);
            let mut told = std::pin::pin!(told);
            while let Some(told) = told.try_next().await? {
                match told {
                    Told::WentOn => passed.went_on += 1,
                    Told::Stuck(code) => *passed.stuck.entry(code).or_default() += 1,
                    Told::Later => continue,
                }
                progress(passed);
            }
        }
        Ok(())
    }

    /// Parts of the buckets, in an order of this call's own.
    fn parts(&self) -> Vec<Range<i32>> {
        let (each, own) = (SHARD_BUCKETS / PARTS, self.app.clock.new_id());
        let mut parts: Vec<Range<i32>> = (0..PARTS).map(|part| part * each..(part + 1) * each).collect();
        parts.sort_by_cached_key(|part| {
            let mut hasher = DefaultHasher::new();
            (own, part.start).hash(&mut hasher);
            hasher.finish()
        });
        parts
    }

    /// Customers of whom something is due, as they are read, page by page.
    fn due<'a>(
        &'a self,
        whose: &'a Whose,
        until: Timestamp,
        among: Range<i32>,
    ) -> impl stream::Stream<Item = Result<DueCustomer, JobError>> + 'a {
        let pages = stream::try_unfold(None, move |after| {
            let among = among.clone();
            async move {
                let page = Page { after, limit: PAGE };
                let due = self.app.store.due_customers(whose, until, among, page).await?;
                let next = due.last().map(|last| (last.due_at, last.shard_key, last.customer_id));
                let rows = stream::iter(due.into_iter().map(Ok::<_, JobError>));
                Ok::<_, JobError>(next.map(|next| (rows, Some(next))))
            }
        });
        pages.try_flatten()
    }

    async fn tell_customer(&self, due: DueCustomer) -> Result<Told, JobError> {
        let error = match self.execute(&due.tenant, &due.external_id, Command::PassTime, None).await {
            Ok(_) => {
                metrics::counter!("farthing_dues_total", "outcome" => "went_on").increment(1);
                return Ok(Told::WentOn);
            }
            Err(JobError::Service(ServiceError::Busy)) => return Ok(Told::Later),
            Err(error @ JobError::Service(ServiceError::Stopping)) => return Err(error),
            Err(error) => error,
        };
        tracing::error!(event = "customer_stuck", tenant = due.tenant, customer = %due.customer_id, %error);
        let key =
            CustomerKey { shard_key: due.shard_key, ..CustomerKey::new(&due.tenant.as_str().into(), &due.external_id) };
        let now = self.now(&due.tenant);
        self.app.store.postpone_due(&key, now.checked_add(STUCK).unwrap_or(now)).await?;
        metrics::counter!("farthing_dues_total", "outcome" => "stuck").increment(1);
        Ok(Told::Stuck(error.code()))
    }
}

/// What came of telling one customer.
enum Told {
    WentOn,
    /// It did not go on, for this reason, and is told again later.
    Stuck(&'static str),
    /// There was too much else to do; it is still due.
    Later,
}
