//! The dashboard of whoever runs the platform: every organisation, what it used in the month and what that comes to.

use std::collections::HashMap;

use engine::{Refusal, Status, SubscriptionState};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::invoice::Invoice;
use super::subscription::{Subscription, fee, in_force};
use super::usage::{UsageStats, Words, month, used};
use super::{Failure, OrgvoiceSettings, Speaker, instant};
use crate::store::{CustomerRow, Page};

/// How many organisations are read at once.
const PAGE: i64 = 500;

/// How many invoices of each are told.
const INVOICES: i64 = 3;

/// An organisation.
#[derive(Debug, Serialize, ToSchema)]
struct Organisation {
    organization_id: String,
    organization_name: String,
    /// `subdomain` of the customer's metadata.
    subdomain: String,
    subscription: Option<Subscription>,
    /// The fee of a month, where the plan is paid for: not on trial, nor overdue.
    subscription_revenue_cents: i64,
    voice_words_count: i64,
    /// What the words of the month were charged at.
    voice_charges_cents: i64,
    total_charges_cents: i64,
    /// The newest first.
    recent_invoices: Vec<Invoice>,
    usage_stats: UsageStats,
}

/// What all of them come to.
#[derive(Debug, Serialize, ToSchema)]
struct Summary {
    period_start: String,
    period_end: String,
    total_subscription_revenue: i64,
    total_usage_revenue: i64,
}

/// All organisations.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Platform {
    /// `super_admin`.
    view_type: &'static str,
    total_organizations: i64,
    total_revenue_cents: i64,
    total_voice_words: i64,
    organizations: Vec<Organisation>,
    summary: Summary,
}

/// All organisations that are active, with a few reads however many they are.
pub(super) async fn platform(speaker: &Speaker<OrgvoiceSettings>) -> Result<Platform, Failure> {
    let (spoken, scope) = (&speaker.spoken, speaker.spoken.scope());
    let period = month(speaker)?;
    let sums = used(speaker, period, None).await?;
    let mut invoices: HashMap<Uuid, Vec<Invoice>> = HashMap::new();
    for row in &spoken.app.store.newest_invoices(&scope, INVOICES).await? {
        invoices.entry(row.customer_id).or_default().push(Invoice::of(&speaker.settings, row, None)?);
    }
    let (mut organizations, mut after) = (Vec::new(), None);
    loop {
        let rows = spoken.app.store.customers(&scope, Page { after, limit: PAGE }).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.customer.id);
        for row in rows.iter().filter(|row| row.customer.status == Status::Active) {
            let words = Words::of(&speaker.settings, &sums, row.customer.id)?;
            let recent = invoices.remove(&row.customer.id).unwrap_or_default();
            organizations.push(view(speaker, row, &words, recent)?);
        }
    }
    let total = |part: fn(&Organisation) -> i64| {
        let sum = organizations.iter().map(part).try_fold(0, i64::checked_add);
        sum.ok_or(Failure::Refused(Refusal::AmountOutOfRange))
    };
    let (fees, words) = (total(|of| of.subscription_revenue_cents)?, total(|of| of.voice_charges_cents)?);
    Ok(Platform {
        view_type: "super_admin",
        total_organizations: i64::try_from(organizations.len()).unwrap_or(i64::MAX),
        total_revenue_cents: total(|of| of.total_charges_cents)?,
        total_voice_words: total(|of| of.voice_words_count)?,
        summary: Summary {
            period_start: instant(period.start),
            period_end: instant(spoken.now()),
            total_subscription_revenue: fees,
            total_usage_revenue: words,
        },
        organizations,
    })
}

fn view(
    speaker: &Speaker<OrgvoiceSettings>,
    row: &CustomerRow,
    words: &Words,
    recent_invoices: Vec<Invoice>,
) -> Result<Organisation, Failure> {
    let subscription = in_force(row);
    let paid_for = subscription.filter(|subscription| subscription.state == SubscriptionState::Active);
    let revenue = paid_for.map(|subscription| {
        let terms = &subscription.terms;
        fee(speaker.spoken.catalog().plans.version(&terms.version, &terms.plan)?, subscription)
    });
    let (revenue, charges) = (revenue.transpose()?.unwrap_or_default(), words.charged_cents());
    let view = |subscription| Subscription::of(speaker, row.customer.id, subscription);
    Ok(Organisation {
        organization_id: row.external_id.clone(),
        organization_name: row.profile.name.clone().unwrap_or_default(),
        subdomain: row.profile.metadata.get("subdomain").cloned().unwrap_or_default(),
        subscription: subscription.map(view).transpose()?,
        subscription_revenue_cents: revenue,
        voice_words_count: words.count()?,
        voice_charges_cents: charges,
        total_charges_cents: revenue.checked_add(charges).ok_or(Refusal::AmountOutOfRange)?,
        recent_invoices,
        usage_stats: words.stats(super::usage::month(speaker)?, speaker.spoken.now())?,
    })
}
