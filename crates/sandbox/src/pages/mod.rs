//! Pages that a browser shows: HTML files with gaps, filled in here.

pub(crate) mod three_d_secure;

/// A page of a template: each `{{name}}` becomes its text, escaped.
pub(crate) fn fill(template: &str, gaps: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else { break };
        let text = gaps.iter().find(|(gap, _)| *gap == name).map_or("", |(_, text)| text);
        page.push_str(&escape(text));
        rest = tail;
    }
    page.push_str(rest);
    page
}

/// A text that stands for itself in HTML, within attributes too.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn gaps_are_filled_with_escaped_text() {
        assert_eq!(super::fill("<b>{{name}}</b>{{none}}", &[("name", "<i>{{name}}")]), "<b>&lt;i&gt;{{name}}</b>");
    }
}
