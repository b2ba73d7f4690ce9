//! What is wrong with a tenant file: where, what, and how to mend it. Also the collection in which a reader gathers all
//! mistakes of a file, and the guess which name was meant.
//!
//! Values of environment variables never reach an error.

use std::cell::RefCell;
use std::fmt;

/// A place in a tenant file, counted from one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// One mistake in a tenant file. Displayed as `file:line:column: problem; remedy`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantFileError {
    /// The file, as it was named.
    pub file: String,
    /// Where in it; nothing where the file could not be read at all.
    pub position: Option<Position>,
    /// What is wrong.
    pub problem: String,
    /// How to mend it.
    pub remedy: String,
}

impl fmt::Display for TenantFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(formatter, "{line}:{column}:")?;
        }
        write!(formatter, " {}; {}", self.problem, self.remedy)
    }
}

impl std::error::Error for TenantFileError {}

/// The mistakes found so far. Reading goes on after each, so that one run shows them all.
#[derive(Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

struct Problem {
    at: usize,
    problem: String,
    remedy: String,
}

impl Problems {
    /// Adds a mistake at a byte of the file.
    pub(crate) fn add(&self, at: usize, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.borrow_mut().push(Problem { at, problem: problem.into(), remedy: remedy.into() });
    }

    /// All mistakes in the order of the file; empty where there are none.
    pub(crate) fn into_errors(self, file: &str, text: &str) -> Vec<TenantFileError> {
        let mut problems = self.0.into_inner();
        problems.sort_by_key(|problem| problem.at);
        let lines = LineStarts::of(text);
        let error = |Problem { at, problem, remedy }| TenantFileError {
            file: file.to_owned(),
            position: Some(lines.position(text, at)),
            problem,
            remedy,
        };
        problems.into_iter().map(error).collect()
    }
}

/// Where the lines of a text begin, in bytes.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn position(&self, text: &str, at: usize) -> Position {
        let line = self.0.partition_point(|&start| start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = text.get(start..at).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }
}

/// The name that was probably meant, where one is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 4;
    let (distance, name) = known.into_iter().map(|name| (distance(word, name), name)).min()?;
    (distance <= limit).then_some(name)
}

/// How to mend a name that is none of `known`: the one that was probably meant, or what there is.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    const MOST_SHOWN: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(word, known.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    match known.as_slice() {
        [] => "there is none in the file".to_owned(),
        [only] => format!("there is only `{only}`"),
        _ => {
            let shown: Vec<String> = known.iter().take(MOST_SHOWN).map(|name| format!("`{name}`")).collect();
            let more = if known.len() > MOST_SHOWN { ", ..." } else { "" };
            format!("use one of {}{more}", shown.join(", "))
        }
    }
}

/// How many letters have to be put in, left out, changed, or exchanged with their neighbour to get from one word to the
/// other, whatever their case (the optimal string alignment distance).
fn distance(from: &str, to: &str) -> usize {
    let letters = |word: &str| word.chars().map(|letter| letter.to_ascii_lowercase()).collect::<Vec<char>>();
    let (from, to) = (letters(from), letters(to));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = last[column] + usize::from(letter != other);
            let mut least = changed.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                least = least.min(before_last[column - 1] + 1);
            }
            current.push(least);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_slips() {
        for (from, to, expected) in [
            ("tokens", "tokens", 0),
            ("Tokens", "tokens", 0),
            ("tokns", "tokens", 1),
            ("tokenss", "tokens", 1),
            ("tokans", "tokens", 1),
            ("tokesn", "tokens", 1),
            ("", "use", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn a_near_name_is_suggested_and_otherwise_all_are_shown() {
        assert_eq!(suggestion("tokns", ["minutes", "tokens"]), "did you mean `tokens`?");
        assert_eq!(suggestion("calls", ["minutes", "tokens"]), "use one of `minutes`, `tokens`");
        assert_eq!(suggestion("calls", ["minutes"]), "there is only `minutes`");
        assert_eq!(suggestion("calls", []), "there is none in the file");
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a\nµé = 1\n";
        let lines = LineStarts::of(text);
        let position = |at| {
            let Position { line, column } = lines.position(text, at);
            (line, column)
        };
        assert_eq!([0, 1, 2, 4, 6, 7].map(position), [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (2, 4)]);
        assert_eq!(position(text.len()), (3, 1));
    }
}
