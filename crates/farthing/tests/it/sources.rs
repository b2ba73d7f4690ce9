//! Rust sources as tokens, for the tests that hold them to a rule: words, texts and marks, without comments.

/// A token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// A name, a keyword or a number.
    Word(String),
    /// What stands in a text literal.
    Text(String),
    /// Any other character but white space.
    Mark(char),
}

impl Token {
    /// The name or keyword.
    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }
}

/// The tokens of a source, each with its line.
pub(crate) fn tokens(source: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            'r' if let Some((text, length)) = raw_text(rest) => {
                tokens.push((line, Token::Text(text.to_owned())));
                length
            }
            '"' => {
                let end = end_of_text(&rest[1..]);
                tokens.push((line, Token::Text(unescape(&rest[1..=end]))));
                end + 2
            }
            // A character, or else a lifetime.
            '\'' if rest[1..].starts_with('\\') => rest[3..].find('\'').map_or(rest.len(), |end| end + 4),
            '\'' if rest.chars().nth(2) == Some('\'') => rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end),
            letter if letter.is_alphanumeric() || letter == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push((line, Token::Word(rest[..end].to_owned())));
                end
            }
            mark => {
                if !mark.is_whitespace() {
                    tokens.push((line, Token::Mark(mark)));
                }
                mark.len_utf8()
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The text of `r"..."` or `r#"..."#`, and the length of all of it.
fn raw_text(rest: &str) -> Option<(&str, usize)> {
    let hashes = rest[1..].chars().take_while(|letter| *letter == '#').count();
    let text = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = text.find(&end)?;
    Some((&text[..length], 2 + hashes + length + end.len()))
}
/// Where a text ends that begins before this.
fn end_of_text(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    end.expect("a text literal ends")
}

fn unescape(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start()).replace("\\\"", "\"")
}

/// The position after the group that opens at `at`.
pub(crate) fn after_group(tokens: &[(usize, Token)], at: usize) -> usize {
    let mut depth = 0;
    for (position, (_, token)) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::Mark('(' | '{' | '[') => depth += 1,
            Token::Mark(')' | '}' | ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return position + 1;
        }
    }
    tokens.len()
}

#[test]
fn a_source_is_words_texts_and_marks() {
    let source = r##"
        //! a comment with "a text"
        let a: &'static str = r#"raw "text""#; /* another
        comment */ let ('"', '\n', '\'') = b; "with \"quotes\" \
            and a break"
    "##;
    let texts: Vec<_> = tokens(source)
        .into_iter()
        .filter_map(|(line, token)| if let Token::Text(text) = token { Some((line, text)) } else { None })
        .collect();
    assert_eq!(texts, [(3, "raw \"text\"".to_owned()), (4, "with \"quotes\" and a break".to_owned())]);
    let words: Vec<_> = tokens(source).iter().filter_map(|(_, token)| token.word().map(str::to_owned)).collect();
    assert_eq!(words, ["let", "a", "static", "str", "let", "b"]);
}
