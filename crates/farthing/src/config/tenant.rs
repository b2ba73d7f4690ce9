//! The tenant file as a whole: `[tenant]`, `[holds]`, and the parts that have files of their own.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use engine::{Asset, Catalog, Plans};
use jiff::tz::TimeZone;
use toml::Spanned;
use toml::de::DeTable;

use super::add_on::read_add_ons;
use super::billing::{read_billing, read_subscriptions};
use super::browser::read_origins;
use super::connection::{ConnectionSettings, read_connection};
use super::coupon::read_coupons;
use super::dialect::{Dialect, Offer, read_dialect};
use super::error::{Problems, TenantFileError, nearest};
use super::grant::{Assets, read_grants};
use super::import::{ImportDefaults, read_import};
use super::jwt::{Surroundings, read_jwt};
use super::limit::read_limits;
use super::meter::{Meters, read_meters};
use super::notice::read_low_balances;
use super::overage::read_overage;
use super::pack::{read_packs, read_refunds};
use super::plan::{PlanSurroundings, read_plans};
use super::price::read_prices;
use super::section::{NamePattern, Section};
use super::seller::{Seller, read_seller};
use crate::auth::JwtSettings;

/// The largest file, in bytes.
const LARGEST_FILE: usize = 1024 * 1024;
const DEFAULT_HOLD_SECONDS: i64 = 900;
const LONGEST_HOLD_SECONDS: i64 = 31 * 24 * 60 * 60;

const MODES: [(&str, Mode); 2] = [("test", Mode::Test), ("live", Mode::Live)];

/// Whether a tenant's money is real.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// It is not.
    #[default]
    Test,
    /// It is.
    Live,
}

impl Mode {
    /// The word in the tenant file, and in API keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Live => "live",
        }
    }
}

/// One product being billed, as its file says.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// What it sells and under which rules, for the engine; with the tenant's name.
    pub catalog: Catalog,
    /// Whether its money is real.
    pub mode: Mode,
    /// How its own users' tokens are verified; nothing where they have none.
    pub jwt: Option<JwtSettings>,
    /// Its payment provider.
    pub connection: ConnectionSettings,
    /// The API of a product's own that it speaks besides.
    pub dialect: Option<Dialect>,
    /// The origins of pages whose scripts may read its answers.
    pub origins: Vec<String>,
    /// What imports assume.
    pub import: ImportDefaults,
    /// Who sends its invoices.
    pub seller: Seller,
}

/// Reads a tenant file. `environment` gives the value of an environment variable.
///
/// # Errors
/// All mistakes of the file in its order, or why it cannot be read.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Tenant, Vec<TenantFileError>> {
    let file_name = path.display().to_string();
    let unreadable = |problem: String, remedy: &str| {
        vec![TenantFileError { file: file_name.clone(), position: None, problem, remedy: remedy.to_owned() }]
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(LARGEST_FILE).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        // One byte more tells a file that is too large from one that just fits.
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot read the file: {error}"), "check its path and permissions"))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file_name, environment),
        Err(_) if bytes.len() > LARGEST_FILE => Err(unreadable("the file is too large".to_owned(), TOO_LARGE)),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let problems = Problems::default();
            problems.add(before.len(), "the file is not UTF-8 from here on", "save it as UTF-8, as TOML requires");
            Err(problems.into_errors(&file_name, &String::from_utf8_lossy(before)))
        }
    }
}

const TOO_LARGE: &str = "keep it to 1 MiB";

/// Reads the text of a tenant file. `file_name` is what errors call it, and a relative `jwks_file` starts from its
/// directory; `environment` gives the value of an environment variable.
///
/// # Errors
/// All mistakes of the file in its order; where it is not TOML, all mistakes of syntax.
pub fn parse(
    text: &str,
    file_name: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Tenant, Vec<TenantFileError>> {
    let problems = Problems::default();
    if text.len() > LARGEST_FILE {
        problems.add(0, "the file is too large", TOO_LARGE);
        return Err(problems.into_errors(file_name, text));
    }
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.add(at, format!("this is not TOML: {}", error.message()), "mend the syntax there");
    }
    let tenant = if syntax_errors.is_empty() {
        let directory = Path::new(file_name).parent().unwrap_or(Path::new(""));
        read(Section::root(document.get_ref(), &problems, environment), &Surroundings { directory })
    } else {
        None
    };
    let errors = problems.into_errors(file_name, text);
    match tenant {
        Some(tenant) if errors.is_empty() => Ok(tenant),
        _ => Err(errors),
    }
}

/// Reads the file, as far as it goes; nothing where there were mistakes that leave no tenant at all.
fn read(mut root: Section<'_>, surroundings: &Surroundings<'_>) -> Option<Tenant> {
    let identity = read_identity(&mut root);
    let meters = read_meters(&mut root);
    let prices = read_prices(&mut root, &meters, identity.currency.as_ref());
    let priced = prices.iter().map(|price| price.asset.clone());
    let mut currencies: BTreeSet<Asset> = priced.chain(identity.currency.clone()).collect();
    let plans = read_offer(&mut root, &identity, &currencies, &meters);
    currencies.extend(plans.prices().map(|price| price.asset.clone()));
    let assets = Assets { currency: identity.currency.clone(), currencies, meters: &meters };
    let grants = read_grants(&mut root, &assets);
    let mut packs = read_packs(&mut root, &assets);
    let low_balances = read_low_balances(&mut root, &assets);
    let billing = read_billing(&mut root);
    let spent_refunds = read_refunds(&mut root);
    let overage = read_overage(&mut root).unwrap_or_default();
    let hold_seconds = read_hold_seconds(&mut root);
    let import = read_import(&mut root, &meters);
    let jwt = read_jwt(&mut root, identity.mode, surroundings);
    let connection = read_connection(&mut root, identity.mode);
    let offer = Offer { mode: identity.mode, meters: &meters, prices: &prices, packs: &mut packs, plans: &plans };
    let dialect = read_dialect(&mut root, offer);
    let origins = read_origins(&mut root);
    let seller = read_seller(&mut root, identity.name.as_deref());
    root.finish();
    let catalog = Catalog {
        tenant: identity.name?,
        currency: identity.currency?,
        time_zone: identity.time_zone,
        meters,
        prices,
        grants,
        packs,
        plans,
        billing,
        spent_refunds,
        overage,
        low_balances,
        hold_seconds,
    };
    Some(Tenant { catalog, mode: identity.mode, jwt, connection, dialect, origins, import, seller })
}

/// What can be subscribed to.
fn read_offer(root: &mut Section<'_>, identity: &Identity, currencies: &BTreeSet<Asset>, meters: &Meters) -> Plans {
    let add_ons = read_add_ons(root, identity.currency.as_ref());
    let coupons = read_coupons(root, identity.currency.as_ref());
    let limits = read_limits(root, meters, &[]);
    let surroundings = PlanSurroundings {
        currency: identity.currency.clone(),
        currencies,
        meters,
        add_ons: &add_ons,
        limits: &limits,
        mode: identity.mode,
    };
    let plans = read_plans(root, &surroundings);
    let (several_subscriptions, default) = read_subscriptions(root, &plans);
    let current = plans.iter().map(|plan| (plan.name.clone(), plan.version.clone())).collect();
    let versions = plans.into_iter().map(|plan| (plan.version.clone(), Arc::new(plan))).collect();
    Plans { versions, current, add_ons, coupons, limits, several_subscriptions, default }
}

/// What `[tenant]` says.
struct Identity {
    name: Option<Arc<str>>,
    mode: Mode,
    currency: Option<Asset>,
    time_zone: TimeZone,
}

fn read_identity(root: &mut Section<'_>) -> Identity {
    root.require("tenant", "[tenant]");
    let Some(mut section) = root.section("tenant", "[tenant]") else {
        return Identity { name: None, mode: Mode::Test, currency: None, time_zone: TimeZone::UTC };
    };
    section.require("name", "name = \"assistant\"");
    let name = section.name("name", &NamePattern::SLUG).map(|name| Arc::from(name.into_inner()));
    let mode = section.choice("mode", &MODES).unwrap_or_default();
    section.require("currency", "currency = \"USD\"");
    let currency = section.currency("currency").map(Spanned::into_inner);
    let time_zone = read_time_zone(&mut section).unwrap_or(TimeZone::UTC);
    section.finish();
    Identity { name, mode, currency, time_zone }
}

fn read_time_zone(section: &mut Section<'_>) -> Option<TimeZone> {
    let name = section.text("time_zone")?;
    if let Ok(time_zone) = TimeZone::get(name.get_ref()) {
        return Some(time_zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let remedy = match nearest(name.get_ref(), known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "use an IANA name such as `UTC` or `Europe/Berlin`".to_owned(),
    };
    section.problems.add(name.span().start, format!("unknown time zone `{}`", name.get_ref()), remedy);
    None
}

fn read_hold_seconds(root: &mut Section<'_>) -> i64 {
    let Some(mut section) = root.section("holds", "[holds]") else { return DEFAULT_HOLD_SECONDS };
    let seconds = section.integer("seconds", 1..=LONGEST_HOLD_SECONDS);
    section.finish();
    seconds.unwrap_or(DEFAULT_HOLD_SECONDS)
}
