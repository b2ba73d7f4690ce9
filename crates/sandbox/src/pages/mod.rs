//! Pages that a browser shows: a template of `templates/` for each, filled in here. They work without scripts.

pub(crate) mod card_fields;
pub(crate) mod checkout;
pub(crate) mod invoice;
pub(crate) mod pdf;
pub(crate) mod portal;
pub(crate) mod three_d_secure;
pub(crate) mod words;

use askama::Template;

use crate::error::ApiError;
use crate::routes::Page;

const HTML: &str = "text/html; charset=utf-8";

/// A template, filled in.
pub(crate) fn render(template: &impl Template) -> Result<Page, ApiError> {
    match template.render() {
        Ok(page) => Ok(Page::Body(HTML, page)),
        Err(error) => {
            tracing::error!(event = "page_failed", %error);
            Err(ApiError::server())
        }
    }
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
pub(crate) struct Message<'a> {
    pub(crate) heading: &'a str,
    pub(crate) text: &'a str,
    /// Address and words of where to go next.
    pub(crate) link: Option<(&'a str, &'a str)>,
}

/// The page for a request that is refused.
pub(crate) fn refusal(error: &ApiError) -> String {
    let heading = if error.status == 404 { "There is nothing here" } else { "This did not work" };
    let page = Message { heading, text: error.text("message").unwrap_or_default(), link: None };
    page.render().unwrap_or_default()
}
