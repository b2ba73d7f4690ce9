//! The page of an invoice: whoever has the link sees it, keeps it as a PDF, and pays it at the provider.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use engine::invoice::InvoiceState;
use engine::{Collection, CollectionRequest, Command, Effect, InvoiceStep, Payment, PaymentState};

use super::{message, not_found, origin, render, unavailable};
use crate::app::{App, TenantRuntime};
use crate::config::Mode;
use crate::document::{self, Document, Found};
use crate::service::{Request, ServiceError};
use crate::store::{CustomerKey, OperationRef, Scope, StoreError};

/// How long somebody who wants to pay waits for the provider.
const WAIT: Duration = Duration::from_secs(20);

/// What the query says of somebody who comes back from paying.
const FROM_PAYMENT: &str = "from=payment";

#[derive(Template)]
#[template(path = "invoice.html")]
struct Page<'a> {
    document: &'a Document,
    token: &'a str,
    accent: String,
    state: &'static str,
    test_mode: bool,
    can_pay: bool,
    /// Whether the money is on its way, so that the page looks again by itself.
    under_way: bool,
    /// Why the last attempt did not work, in words for its reader.
    failure: Option<&'a str>,
}

/// An invoice that a link leads to.
struct Linked {
    tenant: Arc<TenantRuntime>,
    scope: Scope,
    id: OperationRef,
    found: Found,
    payment: Option<Payment>,
}

/// The invoice that a token is the link to.
async fn linked(app: &App, token: &str) -> Result<Option<Linked>, StoreError> {
    let Some(id) = app.page_key.invoice(token) else { return Ok(None) };
    let Some(name) = app.store.invoice_tenant(id).await? else { return Ok(None) };
    let Some(tenant) = app.tenants.get(name.as_str()).cloned() else { return Ok(None) };
    let scope = Scope { tenant: tenant.catalog.tenant.clone(), customer: None };
    let Some(found) = document::find(&*app.store, &scope, id).await? else { return Ok(None) };
    // From here on that customer alone is read.
    let scope = Scope { customer: Some(found.row.customer_id), ..scope };
    let payment = match found.row.value.standing.payment {
        Some(payment) => app.store.payment(&scope, (id.0, payment)).await?.map(|row| row.payment),
        None => None,
    };
    Ok(Some(Linked { tenant, scope, id, found, payment }))
}

impl Linked {
    fn document(&self) -> Document {
        Document::of(&self.tenant.seller, &self.tenant.catalog.time_zone, &self.found)
    }

    fn is_owed(&self) -> bool {
        let standing = &self.found.row.value.standing;
        standing.due > 0 && matches!(standing.state, InvoiceState::Open | InvoiceState::Uncollectible)
    }

    fn is_processing(&self) -> bool {
        self.payment.as_ref().is_some_and(|payment| payment.state == PaymentState::Processing)
    }
}

fn failed(error: &StoreError) -> Response {
    tracing::error!(event = "store_failed", %error);
    unavailable(None)
}

/// The page.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let linked = match linked(&app, &token).await {
        Ok(Some(linked)) => linked,
        Ok(None) => return not_found(),
        Err(error) => return failed(&error),
    };
    let document = linked.document();
    let returned = query.as_deref() == Some(FROM_PAYMENT);
    let under_way = linked.is_owed() && (linked.is_processing() || returned);
    let failure = linked.payment.as_ref().and_then(|payment| payment.failure.as_ref());
    let [red, green, blue] = document.accent;
    let page = Page {
        token: &token,
        accent: format!("{red:02x}{green:02x}{blue:02x}"),
        state: document.state.as_str(),
        test_mode: linked.tenant.mode == Mode::Test,
        can_pay: linked.is_owed() && !linked.is_processing() && linked.tenant.connection.is_some(),
        under_way,
        failure: failure.filter(|_| linked.is_owed()).map(|failure| &*failure.message),
        document: &document,
    };
    render(StatusCode::OK, &page)
}

/// The PDF.
pub(super) async fn pdf(State(app): State<Arc<App>>, Path(token): Path<String>) -> Response {
    match linked(&app, &token).await {
        Ok(Some(linked)) => {
            let document = linked.document();
            let mut response = document::pdf(&document).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/pdf"));
            headers.insert(header::CONTENT_DISPOSITION, document::file_name(&document));
            response
        }
        Ok(None) => not_found(),
        Err(error) => failed(&error),
    }
}

/// Leads to the provider's page, where it is paid.
pub(super) async fn pay(State(app): State<Arc<App>>, Path(token): Path<String>, headers: HeaderMap) -> Response {
    let linked = match linked(&app, &token).await {
        Ok(Some(linked)) => linked,
        Ok(None) => return not_found(),
        Err(error) => return failed(&error),
    };
    let own = format!("/invoices/{token}");
    if !linked.is_owed() || linked.is_processing() {
        return Redirect::to(&own).into_response();
    }
    if linked.tenant.connection.is_none() {
        let text = "It cannot be paid here. Pay it as its terms say.";
        return message(StatusCode::CONFLICT, "No payment here", text, Some((&own, "Back to the invoice")));
    }
    let Some(base) = linked.tenant.seller.url.clone().or_else(|| origin(&headers)) else {
        return unavailable(Some((&own, "Back to the invoice")));
    };
    let (success, cancel) = (format!("{base}{own}?{FROM_PAYMENT}"), format!("{base}{own}"));
    if let Some(page) = open_page(linked.payment.as_ref(), &linked, &success) {
        return Redirect::to(&page).into_response();
    }
    match begin(&app, &linked, success, cancel).await {
        Ok(Some(page)) => Redirect::to(&page).into_response(),
        Err(Failed::Settled) => Redirect::to(&own).into_response(),
        Ok(None) | Err(Failed::Unavailable) => unavailable(Some((&own, "Back to the invoice"))),
    }
}

/// The provider's page of a payment that was begun here and is still the right one.
fn open_page(payment: Option<&Payment>, linked: &Linked, success: &str) -> Option<String> {
    let payment = payment.filter(|payment| payment.amount.minor == linked.found.row.value.standing.due)?;
    match &payment.collection {
        // The provider's own invoice, with the provider's own page.
        _ if payment.provider_invoice.is_some() => payment.page.as_deref().map(str::to_owned),
        Collection::Page { success_url, .. } if **success_url == *success => payment.page.as_deref().map(str::to_owned),
        _ => None,
    }
}

enum Failed {
    Settled,
    Unavailable,
}

/// Records the payment, has the provider make it, and says where it is paid.
async fn begin(app: &App, linked: &Linked, success: String, cancel: String) -> Result<Option<String>, Failed> {
    let payment = app.clock.new_id();
    let collection = CollectionRequest::By(Collection::Page { success_url: success.into(), cancel_url: cancel.into() });
    let request = Request {
        catalog: linked.tenant.catalog.clone(),
        key: CustomerKey::new(&linked.scope.tenant, &linked.found.row.external_id),
        command: Command::StepInvoice { invoice: linked.id.1, step: InvoiceStep::Pay { payment, collection } },
        operation: None,
        settles: None,
        new_customer: app.clock.new_id(),
        now: linked.tenant.clock.now(),
    };
    let done = app.service.execute(request).await.map_err(|error| match error {
        ServiceError::Refused(refusal) => {
            tracing::info!(event = "invoice_payment_refused", code = refusal.code());
            Failed::Settled
        }
        _ => Failed::Unavailable,
    })?;
    let makes_it = |effect: &Effect| matches!(effect, Effect::CreatePayment { payment: made } if *made == payment);
    if let Some(effect) = done.effects.iter().find(|record| makes_it(&record.effect)) {
        let waited = app.outbox.wait(&*app.store, (linked.id.0, effect.id), WAIT).await;
        waited.map_err(|_| Failed::Unavailable)?;
    }
    let row = app.store.payment(&linked.scope, (linked.id.0, payment)).await.map_err(|_| Failed::Unavailable)?;
    Ok(row.and_then(|row| row.payment.page.as_deref().map(str::to_owned)))
}
