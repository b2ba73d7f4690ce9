//! `[browser]`: the pages whose scripts may read answers, by their origin.

use toml::Spanned;

use super::section::Section;

const MOST_ORIGINS: usize = 50;
const LONGEST_ORIGIN: usize = 255;

/// What stands for every origin.
pub const ANY_ORIGIN: &str = "*";

/// Reads the origins of `[browser]`, as a browser sends them; none where nothing is said.
pub(crate) fn read_origins(root: &mut Section<'_>) -> Vec<String> {
    let Some(mut section) = root.section("browser", "[browser]") else { return Vec::new() };
    let written = section.texts("origins");
    let names = section.variables("origins_env");
    let origins = match section.first_set(&names) {
        Some((name, value)) => {
            let parts = value.split(',').map(|part| part.trim().trim_end_matches('/').to_owned());
            parts.filter(|part| !part.is_empty()).map(|part| Spanned::new(name.span(), part)).collect()
        }
        None => written.into_iter().map(|text| Spanned::new(text.span(), (*text.get_ref()).to_owned())).collect(),
    };
    checked(&section, origins)
}

fn checked(section: &Section<'_>, origins: Vec<Spanned<String>>) -> Vec<String> {
    if let Some(more) = origins.get(MOST_ORIGINS) {
        let problem = format!("[browser] has more than {MOST_ORIGINS} origins");
        section.problems.add(more.span().start, problem, "leave some out");
    }
    for wrong in origins.iter().filter(|origin| !is_origin(origin.get_ref())) {
        let problem = format!("`{}` is not an origin", wrong.get_ref());
        let remedy =
            "write it as browsers send it, as in `https://app.example.com`, without a path; `*` is every origin";
        section.problems.add(wrong.span().start, problem, remedy);
    }
    origins.into_iter().map(Spanned::into_inner).collect()
}

/// Whether this is scheme, host and port, as in RFC 6454, section 6.2.
fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.filter(|rest| {
        let spelled = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
        !rest.is_empty() && rest.bytes().all(spelled)
    });
    text == ANY_ORIGIN || (text.len() <= LONGEST_ORIGIN && host.is_some())
}
