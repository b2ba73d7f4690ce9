//! The dashboard: how an organisation stands, or all of them for whoever runs the platform.

use axum::extract::State as FromState;
use axum::response::Response;
use engine::Micros;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::invoice::{Invoice, newest};
use super::organisation::{Member, cents, whole};
use super::platform::{Platform, platform};
use super::subscription::{Subscription, in_force};
use super::usage::{UsageStats, Words, month, used};
use super::{Caller, Failed, Failure, Orgvoice, OrgvoiceSettings, Speaker, State, answer};
use crate::store::CustomerRow;

/// How many invoices are on it.
const INVOICES: i64 = 5;

/// What comes with the next usage invoice.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct UpcomingCharges {
    /// What the words come to that are on no invoice yet, with the fractions of a cent that earlier invoices left.
    voice_usage_cents: i64,
    /// How many words are on no invoice yet.
    voice_words_count: i64,
    /// What earlier invoices left to the next one, because it was too little to be collected; below zero in the
    /// organisation's favour.
    carried_cents: i64,
}

impl UpcomingCharges {
    fn of(speaker: &Speaker<OrgvoiceSettings>, row: &CustomerRow) -> Result<Self, Failure> {
        let (state, currency) = (&row.customer.state, &speaker.spoken.catalog().currency);
        let words = state.unbilled.iter().filter(|usage| speaker.settings.counts_words(&usage.meter));
        Ok(Self {
            voice_usage_cents: cents(row.customer.owed(currency)),
            voice_words_count: whole(Micros::sum(words.map(|usage| usage.quantity))?),
            carried_cents: state.carried.get(currency).copied().unwrap_or_default(),
        })
    }
}

/// How an organisation stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Dashboard {
    /// The plan in force.
    current_subscription: Option<Subscription>,
    /// The newest first.
    recent_invoices: Vec<Invoice>,
    current_period_usage: UsageStats,
    upcoming_charges: UpcomingCharges,
}

/// What is answered, by who asks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum View {
    Organisation(Box<Dashboard>),
    Platform(Platform),
}

/// The dashboard
///
/// Of the organisation; with `view_type` for whoever may see all organisations.
#[utoipa::path(get, path = "/api/billing/dashboard", operation_id = "get_dashboard", tag = "billing",
    responses((status = 200, body = View)))]
pub(super) async fn get(FromState(speaker): State, caller: Caller<Orgvoice>) -> Result<Response, Failed<Orgvoice>> {
    let member = Member::of(&speaker, &caller)?;
    let view = if member.sees_all(&speaker.settings) {
        View::Platform(platform(&speaker).await?)
    } else {
        View::Organisation(Box::new(organisation(&speaker, &member).await?))
    };
    Ok(answer(view))
}

async fn organisation(speaker: &Speaker<OrgvoiceSettings>, member: &Member<'_>) -> Result<Dashboard, Failure> {
    let (period, now) = (month(speaker)?, speaker.spoken.now());
    let Some(row) = member.row(speaker).await? else {
        return Ok(Dashboard {
            current_subscription: None,
            recent_invoices: Vec::new(),
            current_period_usage: Words::default().stats(period, now)?,
            upcoming_charges: UpcomingCharges::default(),
        });
    };
    let id: Uuid = row.customer.id;
    let words = Words::of(&speaker.settings, &used(speaker, period, Some(&row)).await?, id)?;
    let subscription = in_force(&row).map(|subscription| Subscription::of(speaker, id, subscription));
    Ok(Dashboard {
        current_subscription: subscription.transpose()?,
        recent_invoices: newest(speaker, &row, INVOICES).await?,
        current_period_usage: words.stats(period, now)?,
        upcoming_charges: UpcomingCharges::of(speaker, &row)?,
    })
}
