//! The running program's parts, put together once: store, service, tenants, keys, clock. Surfaces are handed an `App`.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Catalog, Refusal};
use jiff::Timestamp;
use tokio::sync::{Mutex, Notify, RwLock, mpsc, oneshot};

use crate::auth::{self, JwtSettingsError, JwtVerifier, KeyCache};
use crate::clock::{Clock, TenantClock};
use crate::config::{Dialect, Mode, Seller, Tenant};
use crate::document::PageKey;
use crate::idempotency::InFlight;
use crate::offer;
use crate::outbox::Outbox;
use crate::service::{Request, Service, Settings};
use crate::store::{Store, StoreError};

/// Why the program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Two tenant files name the same tenant.
    #[error("two tenant files are both for tenant `{0}`; a tenant has one file")]
    TenantTwice(String),
    /// Two tenants speak the same dialect, so a request at its path could be for either.
    #[error("tenants `{0}` and `{1}` both speak the dialect `{2}`; serve one of them")]
    DialectTwice(String, String, &'static str),
    /// The token settings of a tenant do not work.
    #[error("tenant `{0}`: {1}")]
    Jwt(String, JwtSettingsError),
    /// The operating system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A tenant as the surfaces need it.
pub struct TenantRuntime {
    /// Its rules.
    pub catalog: Arc<Catalog>,
    /// Whether its money is real.
    pub mode: Mode,
    /// How its own users' tokens are verified.
    pub jwt: Option<JwtVerifier>,
    /// Its payment provider, where it has one.
    pub connection: Option<Connection>,
    /// The API of a product's own that it speaks besides.
    pub dialect: Option<Dialect>,
    /// The origins of pages whose scripts may read its answers.
    pub origins: Vec<String>,
    /// Who sends its invoices.
    pub seller: Seller,
    /// Its time.
    pub clock: TenantClock,
    /// Whoever does something for the tenant in the background holds it to read, whoever moves its clock to write.
    pub moving: Arc<RwLock<()>>,
}

/// Asks for the clock of a tenant in test mode to be moved.
#[derive(Debug)]
pub struct ClockMove {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Where to.
    pub to: Timestamp,
    /// What is used on the way, each at its own time, in the order of these times.
    pub usage: Vec<Request>,
    /// What of the usage was refused, once everything on the way is done; nothing where the clock stopped before.
    pub done: oneshot::Sender<Option<Vec<RefusedUsage>>>,
}

/// Usage on the way of a test clock that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedUsage {
    /// Which, counted from nought in the order of their times.
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

/// What surfaces may know of a tenant's payment provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its name, in the path of its webhook.
    pub name: String,
    /// The key that browsers use.
    pub publishable_key: Option<String>,
}

/// Everything a surface needs.
pub struct App {
    /// The tables, for plain reads.
    pub store: Arc<dyn Store>,
    /// Every change, and every check.
    pub service: Service,
    /// By name.
    pub tenants: BTreeMap<Arc<str>, Arc<TenantRuntime>>,
    /// Where time and new ids come from.
    pub clock: Arc<dyn Clock>,
    /// API keys seen lately.
    pub keys: KeyCache,
    /// Wakes whoever does the effects that commands lead to.
    pub outbox: Outbox,
    /// Wakes whoever applies the events that providers told of.
    pub inbox: Notify,
    /// Where moves of test clocks are asked for, and taken up by whoever does the jobs.
    pub clock_moves: (mpsc::Sender<ClockMove>, Mutex<Option<mpsc::Receiver<ClockMove>>>),
    /// What links to invoices are made with.
    pub page_key: PageKey,
    /// Idempotency keys whose request is under way in this process.
    pub in_flight: InFlight,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("tenants", &self.tenants.keys()).finish_non_exhaustive()
    }
}

impl App {
    /// A tenant's time; the server's for one that is not served here.
    #[must_use]
    pub fn now(&self, tenant: &str) -> Timestamp {
        self.tenants.get(tenant).map_or_else(|| self.clock.now(), |tenant| tenant.clock.now())
    }

    /// Puts the parts together (`connections` says which tenants have a payment provider) and keeps what every tenant
    /// sells, so that charges can be explained, and subscriptions stay on their version of a plan, when it has changed.
    ///
    /// # Errors
    /// As `AppError` says.
    pub async fn start(
        store: Arc<dyn Store>,
        tenants: Vec<Tenant>,
        mut connections: BTreeMap<Arc<str>, Connection>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Arc<Self>, AppError> {
        let mut running = BTreeMap::new();
        for mut tenant in tenants {
            let name = tenant.catalog.tenant.clone();
            offer::keep(&*store, &mut tenant.catalog, clock.now()).await?;
            let jwt = tenant.jwt.map(JwtVerifier::new).transpose();
            let jwt = jwt.map_err(|error| AppError::Jwt(name.to_string(), error))?;
            let connection = connections.remove(&name);
            let held = if tenant.mode == Mode::Test { store.test_clock(&name).await? } else { None };
            let (tenant_clock, moving) = (TenantClock::new(clock.clone(), held), Arc::default());
            let catalog = Arc::new(tenant.catalog);
            refuse_dialect_twice(&running, &name, tenant.dialect.as_ref())?;
            let runtime = TenantRuntime {
                catalog,
                mode: tenant.mode,
                jwt,
                connection,
                dialect: tenant.dialect,
                origins: tenant.origins,
                seller: tenant.seller,
                clock: tenant_clock,
                moving,
            };
            if running.insert(name.clone(), Arc::new(runtime)).is_some() {
                return Err(AppError::TenantTwice(name.to_string()));
            }
        }
        let candidate = auth::key::random()?;
        let page_key = PageKey::new(store.secret("invoice_pages", &candidate).await?);
        let service = Service::start(&store, settings);
        let (sender, receiver) = mpsc::channel(1);
        Ok(Arc::new(Self {
            store,
            service,
            tenants: running,
            clock,
            keys: KeyCache::new(),
            outbox: Outbox::default(),
            inbox: Notify::new(),
            clock_moves: (sender, Mutex::new(Some(receiver))),
            page_key,
            in_flight: InFlight::default(),
        }))
    }
}

/// A dialect's path belongs to one tenant.
fn refuse_dialect_twice(
    running: &BTreeMap<Arc<str>, Arc<TenantRuntime>>,
    name: &str,
    dialect: Option<&Dialect>,
) -> Result<(), AppError> {
    let Some(dialect) = dialect else { return Ok(()) };
    let speaks = |tenant: &TenantRuntime| tenant.dialect.as_ref().is_some_and(|other| other.name() == dialect.name());
    match running.iter().find(|(_, tenant)| speaks(tenant)) {
        Some((other, _)) => Err(AppError::DialectTwice(other.to_string(), name.to_owned(), dialect.name())),
        None => Ok(()),
    }
}
