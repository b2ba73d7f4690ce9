//! Which column of a file holds what: as `--map` says, else as the tenant file says, else by the columns' names.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::cli::Failure;

/// `field=Column` of the command line; `field=` says that there is no such column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    field: String,
    column: String,
}

impl FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (field, column) = text.split_once('=').ok_or("write it as FIELD=COLUMN, as in time=Timestamp")?;
        Ok(Self { field: field.trim().to_owned(), column: column.trim().to_owned() })
    }
}

/// The columns of a file while they are given their meanings.
pub(super) struct Mapping<'a> {
    file: &'a str,
    header: &'a [String],
    assigned: BTreeMap<&'a str, &'a str>,
    /// What was found so far: field and column.
    found: Vec<(String, usize)>,
}

impl<'a> Mapping<'a> {
    /// The columns of a file; `known` says whether there is such a field.
    pub(super) fn new(
        file: &'a str,
        header: &'a [String],
        assignments: &'a [Assignment],
        known: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Self, Failure> {
        let mut assigned = BTreeMap::new();
        for Assignment { field, column } in assignments {
            known(field).map_err(|problem| Failure::Usage(format!("--map {field}={column}: {problem}")))?;
            assigned.insert(field.as_str(), column.as_str());
        }
        Ok(Self { file, header, assigned, found: Vec::new() })
    }

    /// Whether the command line says where this field is.
    pub(super) fn is_assigned(&self, field: &str) -> bool {
        self.assigned.get(field).is_some_and(|column| !column.is_empty())
    }

    /// The fields that the command line speaks of and that begin like this; without the beginning.
    pub(super) fn assigned_after(&self, prefix: &str) -> Vec<&'a str> {
        self.assigned.keys().filter_map(|field| field.strip_prefix(prefix)).collect()
    }

    /// The column of a field. `configured` is what the tenant file says, `names` are those that the column may have, in
    /// snake case.
    pub(super) fn column(
        &mut self,
        field: &str,
        configured: Option<&str>,
        names: &[&str],
    ) -> Result<Option<usize>, Failure> {
        let by_name =
            || names.iter().find_map(|name| self.header.iter().position(|column| snake_case(column) == *name));
        let column = match (self.assigned.get(field), configured) {
            (Some(&""), _) => None,
            (Some(column), _) => Some(self.find(column).ok_or_else(|| {
                let header = self.header.join(", ");
                Failure::Usage(format!("--map {field}={column}: {} has no such column; it has {header}", self.file))
            })?),
            (None, Some(column)) => Some(self.find(column).or_else(by_name).ok_or_else(|| {
                Failure::Usage(format!(
                    "the tenant file takes {field} from column {column}, which {} does not have; it has {}. Say \
                     --map {field}=COLUMN, or --map {field}= where there is none",
                    self.file,
                    self.header.join(", ")
                ))
            })?),
            (None, None) => by_name(),
        };
        self.found.extend(column.map(|column| (field.to_owned(), column)));
        Ok(column)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// What was found, for people: the fields with their columns, and the columns without a meaning.
    pub(super) fn describe(&self) -> String {
        let column = |index: usize| self.header.get(index).map_or("", String::as_str);
        let fields: Vec<String> =
            self.found.iter().map(|(field, index)| format!("{field} = {}", column(*index))).collect();
        let used: BTreeSet<usize> = self.found.iter().map(|(_, index)| *index).collect();
        let unused: Vec<&str> = (0..self.header.len()).filter(|index| !used.contains(index)).map(column).collect();
        let mut text = fields.join(", ");
        if !unused.is_empty() {
            text.push_str("; not read: ");
            text.push_str(&unused.join(", "));
        }
        text
    }
}

/// A name in snake case: `ContextTokens`, `context tokens` and `CONTEXT_TOKENS` are `context_tokens`.
pub(super) fn snake_case(name: &str) -> String {
    let letters: Vec<char> = name.trim_start_matches('\u{feff}').chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, &letter) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            continue;
        }
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let begins_word = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_numeric()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if begins_word && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake.truncate(snake.trim_end_matches('_').len());
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_snake_case() {
        for (name, expected) in [
            ("ContextTokens", "context_tokens"),
            ("TIMESTAMP", "timestamp"),
            ("Context Tokens (in)", "context_tokens_in"),
            ("context-tokens", "context_tokens"),
            ("CONTEXT_TOKENS", "context_tokens"),
            ("HTTPRequests", "http_requests"),
            ("customerId", "customer_id"),
            ("\u{feff}time", "time"),
            ("_", ""),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }

    fn column(header: &[&str], assignment: &str, configured: Option<&str>) -> Result<Option<usize>, String> {
        let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
        let assignments: Vec<Assignment> = assignment.split_terminator(',').map(|text| text.parse().unwrap()).collect();
        let mut mapping = Mapping::new("file.csv", &header, &assignments, |_| Ok(())).unwrap();
        mapping.column("time", configured, &["time", "timestamp"]).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_command_line_wins_over_the_tenant_file_and_that_over_names() {
        let header = ["Timestamp", "At", "Start"];
        assert_eq!(column(&header, "time=Start", Some("At")), Ok(Some(2)));
        assert_eq!(column(&header, "", Some("At")), Ok(Some(1)));
        assert_eq!(column(&header, "", None), Ok(Some(0)));
        assert_eq!(column(&header, "time=", Some("At")), Ok(None));
        assert_eq!(column(&["At"], "", None), Ok(None));
    }

    #[test]
    fn a_column_that_is_not_there_is_not_guessed() {
        let unknown = column(&["At"], "time=Start", None).unwrap_err();
        assert_eq!(unknown, "--map time=Start: file.csv has no such column; it has At");
        let configured = column(&["At"], "", Some("TIMESTAMP")).unwrap_err();
        assert!(
            configured.starts_with("the tenant file takes time from column TIMESTAMP, which file.csv does not have")
        );
        assert_eq!(column(&["Time"], "", Some("TIMESTAMP")), Ok(Some(0)));
    }
}
