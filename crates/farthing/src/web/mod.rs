//! Pages for people, rendered here from templates with one stylesheet. They need no script, run none, and fetch nothing from
//! elsewhere.

mod invoice;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use crate::app::App;

const STYLES: &str = include_str!("../../static/pages.css");

/// No script, no frame, nothing from elsewhere. A form may lead to the payment provider, in test mode on this machine.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; \
                      form-action 'self' https: http://localhost:* http://127.0.0.1:*";

/// Every page.
pub fn router() -> Router<Arc<App>> {
    let pages = Router::new()
        .route("/invoices/{token}", get(invoice::show))
        .route("/invoices/{token}/pdf", get(invoice::pdf))
        .route("/invoices/{token}/pay", post(invoice::pay))
        .layer(from_fn(secure));
    pages.route("/static/pages.css", get(styles)).route("/static/accent/{colour}", get(accent))
}

/// A link is a secret: it goes to nobody else, nothing is kept, and the page does what it says and no more.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn styles() -> Response {
    stylesheet(STYLES.to_owned())
}

/// The seller's colour as a stylesheet, since a page may hold none: `0b6e4f.css`.
async fn accent(Path(name): Path<String>) -> Response {
    let digits = name.strip_suffix(".css").filter(|digits| digits.len() == 6);
    let Some(colour) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let [_, red, green, blue] = colour.to_be_bytes().map(u32::from);
    // What is written on the colour has to be seen on it (the luma of ITU-R BT.601).
    let on = if red * 299 + green * 587 + blue * 114 > 150_000 { "#16191d" } else { "#ffffff" };
    stylesheet(format!(":root {{ --accent: #{colour:06x}; --on-accent: {on}; }}\n"))
}

fn stylesheet(text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=3600")];
    (headers, text).into_response()
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    heading: &'a str,
    text: &'a str,
    /// Where to go next, and its words.
    link: Option<(&'a str, &'a str)>,
}

fn message(status: StatusCode, heading: &str, text: &str, link: Option<(&str, &str)>) -> Response {
    render(status, &Message { heading, text, link })
}

fn not_found() -> Response {
    let text = "The link is not complete, or it is not one of ours. Ask whoever sent it to you for a new one.";
    message(StatusCode::NOT_FOUND, "There is no invoice here", text, None)
}

fn unavailable(link: Option<(&str, &str)>) -> Response {
    let text = "This cannot be done right now. Nothing was paid. Please try again in a minute.";
    message(StatusCode::SERVICE_UNAVAILABLE, "Please try again", text, link)
}

fn render(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(error) => {
            tracing::error!(event = "page_failed", %error);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Where this server is reached, by the request: what its host is called, behind a proxy too.
fn origin(headers: &HeaderMap) -> Option<String> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(&header::HOST)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let scheme = match text(&HeaderName::from_static("x-forwarded-proto")) {
        Some("https") => "https",
        _ => "http",
    };
    Some(format!("{scheme}://{host}"))
}
