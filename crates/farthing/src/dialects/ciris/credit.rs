//! Credit: whether a user may do one more use.

use std::time::Instant;

use axum::extract::State as FromState;
use axum::http::StatusCode;
use axum::response::Response;
use engine::{CheckRequest, Micros, Refusal};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::account::{Identity, Opening, find_or_create, note};
use super::{Body, Caller, Ciris, CirisSettings, Failed, Failure, Speaker, State, answer, whole};
use crate::auth::Scope;
use crate::dialects::fields::{Fields, Read};
use crate::store::{CustomerRow, UsageQuery};

/// A use that somebody would like to make.
#[derive(Debug, ToSchema)]
pub(super) struct NewCheck {
    #[schema(inline)]
    identity: Identity,
}

impl Read for NewCheck {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let identity = Identity::read(fields);
        fields.object("context", |context| {
            for name in ["agent_id", "channel_id", "request_id"] {
                context.text(name, 0..=255);
            }
        })?;
        Some(Self { identity: identity? })
    }
}

/// Whether a use may be made, and what it would take.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Credit {
    has_credit: bool,
    credits_remaining: i64,
    plan_name: String,
    reason: Option<&'static str>,
    free_uses_remaining: i64,
    total_uses: i64,
    purchase_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_price_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_uses: Option<i64>,
}

/// Check whether one more use is covered
///
/// A user who is not known yet gets an account with its free uses.
#[utoipa::path(post, path = "/v1/billing/credits/check", operation_id = "check_credit", tag = "billing", request_body = NewCheck,
    responses((status = 200, body = Credit)))]
pub(super) async fn check(
    FromState(speaker): State,
    caller: Caller<Ciris>,
    Body(body, _): Body<Ciris, NewCheck>,
) -> Result<Response, Failed<Ciris>> {
    caller.require(Scope::Read)?;
    let began = Instant::now();
    let row = find_or_create(&speaker, &body.identity, &Opening::plain(&speaker.settings)).await?;
    let credit = credit_of(&speaker, &row).await?;
    count(&credit);
    metrics::histogram!("billing_credit_check_duration_seconds").record(began.elapsed());
    Ok(answer(StatusCode::OK, credit))
}

async fn credit_of(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<Credit, Failure> {
    let (spoken, settings) = (&speaker.spoken, &speaker.settings);
    let meter = settings.meter.clone();
    let one_use = CheckRequest { meter, quantity: Micros::ONE, dimensions: Default::default() };
    let key = spoken.key(&row.external_id);
    let check = spoken.app.service.check(spoken.catalog().clone(), key, one_use, spoken.now()).await?;
    let reason = check.refusal.as_ref().map(|refusal| match refusal {
        Refusal::Suspended => "Account suspended",
        Refusal::Closed => "Account closed",
        _ => "No free uses or credits remaining",
    });
    let purchase_required = check.refusal.as_ref().is_some_and(is_for_lack_of_credit);
    let pack = spoken.catalog().packs.get(&settings.pack).filter(|_| purchase_required);
    Ok(Credit {
        has_credit: check.refusal.is_none(),
        credits_remaining: whole(check.available),
        plan_name: note(row, "plan_name").unwrap_or(&settings.plan_name).to_owned(),
        reason,
        free_uses_remaining: whole(check.available_units),
        total_uses: total_uses(speaker, row).await?,
        purchase_required,
        purchase_price_minor: pack.map(|pack| pack.price.minor),
        purchase_uses: pack.map(|pack| whole(pack.amount) / settings.units_per_use),
    })
}

const fn is_for_lack_of_credit(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::InsufficientFunds { .. } | Refusal::HeldByOthers { .. })
}

/// How many uses were charged so far.
async fn total_uses(speaker: &Speaker<CirisSettings>, row: &CustomerRow) -> Result<i64, Failure> {
    let query = UsageQuery {
        customer: row.customer.id,
        shard_key: row.customer.shard_key,
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        meter: Some(speaker.settings.meter.to_string()),
        subject: None,
        window: None,
        dimension: None,
        by_subject: false,
        limit: 100,
    };
    let sums = speaker.spoken.app.store.usage(&speaker.spoken.scope_of(row), &query).await?;
    Ok(sums.iter().map(|sum| sum.charges).sum())
}

fn count(credit: &Credit) {
    let words = |yes: bool| if yes { "true" } else { "false" };
    let labels = [
        ("has_credit", words(credit.has_credit)),
        ("reason", credit.reason.unwrap_or("none")),
        ("purchase_required", words(credit.purchase_required)),
    ];
    metrics::counter!("billing_credit_checks_total", &labels).increment(1);
}
