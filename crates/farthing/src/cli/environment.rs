//! The environment that tenant files take their settings from: the process's own, and below it a `.env` file in the working
//! directory, where there is one. What it holds reaches no log and no error.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// The file that is read where it lies in the working directory.
const FILE: &str = ".env";

/// The largest file, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Why the file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    /// It cannot be read.
    #[error("cannot read {FILE}: {0}")]
    Unreadable(std::io::Error),
    /// A line is none.
    #[error("{FILE}:{line}: {problem}")]
    Line {
        /// Which, counted from one.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Variables and their values; those of the process come first.
#[derive(Default)]
pub(super) struct Environment {
    file: BTreeMap<String, String>,
}

impl Environment {
    /// The process's environment and the file in the working directory. Which file was read is said.
    pub(super) fn read() -> Result<Self, EnvironmentError> {
        let environment = Self::beside(Path::new(""))?;
        if !environment.file.is_empty() {
            tracing::info!(event = "environment_file_read", file = FILE, variables = environment.file.len());
        }
        Ok(environment)
    }

    /// The same, with the file in a directory.
    fn beside(directory: &Path) -> Result<Self, EnvironmentError> {
        let mut text = String::new();
        match std::fs::File::open(directory.join(FILE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            file => file.and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)),
        }
        .map_err(EnvironmentError::Unreadable)?;
        if text.len() as u64 > LARGEST {
            return Err(EnvironmentError::Line { line: 1, problem: "the file is too large; keep it to 64 KiB" });
        }
        Ok(Self { file: parse(&text)? })
    }

    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| self.file.get(name).cloned())
    }
}

/// Reads `NAME=VALUE` lines, as programs that bring such files along write them: with or without `export`, in quotes or
/// not, with comments behind `#`.
fn parse(text: &str) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem| EnvironmentError::Line { line: index + 1, problem };
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("a line is NAME=VALUE, or begins with #"))?;
        let name = name.trim();
        let spelled = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if name.is_empty() || !name.chars().all(spelled) || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(wrong("the name of a variable is letters, digits and `_`"));
        }
        let value = value_of(value.trim()).ok_or_else(|| wrong("a value that begins with a quote ends with it"))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

fn value_of(text: &str) -> Option<String> {
    let (quote, rest) = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => (quote, text.get(1..)?),
        _ => {
            let begins_comment = text.find(" #").or_else(|| text.starts_with('#').then_some(0));
            let value = begins_comment.and_then(|at| text.get(..at)).unwrap_or(text);
            return Some(value.trim_end().to_owned());
        }
    };
    let mut value = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '\\' if quote == '"' => match letters.next()? {
                'n' => value.push('\n'),
                letter => value.push(letter),
            },
            letter if letter == quote => break,
            letter => value.push(letter),
        }
    }
    let rest = letters.as_str().trim_start();
    (rest.is_empty() || rest.starts_with('#')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_products_bring_it_along() {
        let text = "# Stripe Configuration\nSTRIPE_API_KEY=sk_test_1\nexport A = 'single # quoted'\n\nB=\"two\\nlines\"  # why\n\
                    PRICE_PER_PURCHASE_MINOR=500  # $5.00 in cents\nEMPTY=\nHASH=a#b\nC=#none\n";
        let variables = parse(text).unwrap();
        for (name, value) in [
            ("STRIPE_API_KEY", "sk_test_1"),
            ("A", "single # quoted"),
            ("B", "two\nlines"),
            ("PRICE_PER_PURCHASE_MINOR", "500"),
            ("EMPTY", ""),
            ("HASH", "a#b"),
            ("C", ""),
        ] {
            assert_eq!(variables.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn mistakes_are_told_by_line_and_never_by_value() {
        for (text, line) in
            [("A=1\nsk_live_secret", 2), ("1A=sk_live_secret", 1), ("A='sk_live_secret", 1), ("A=\"x\" sk_live", 1)]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!(".env:{line}: ")) && !error.contains("sk_live"), "{error}");
        }
    }

    #[test]
    fn a_directory_without_a_file_has_the_process_alone() {
        let directory = tempfile::tempdir().unwrap();
        let none = Environment::beside(directory.path()).unwrap();
        assert_eq!(none.get("FARTHING_TEST_OF_NOTHING"), None);
        std::fs::write(directory.path().join(FILE), "FARTHING_TEST_OF_NOTHING=1\nPATH=nowhere\n").unwrap();
        let some = Environment::beside(directory.path()).unwrap();
        assert_eq!(some.get("FARTHING_TEST_OF_NOTHING").as_deref(), Some("1"));
        assert_eq!(some.get("PATH"), std::env::var("PATH").ok(), "the process comes first");
    }
}
