//! The file of an import, line by line: CSV with a header, or JSON lines. It knows nothing of what the lines mean.
//!
//! A file is read twice, once for its digest, so that a later run knows it again; memory stays flat. Standard input is
//! read once and has no digest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use clap::ValueEnum;
use csv::{ErrorKind, StringRecord};
use sha2::{Digest as _, Sha256};

use crate::cli::Failure;

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values, the first line with the names of the columns.
    Csv,
    /// A JSON object on each line.
    Json,
}

/// One line.
pub(super) struct Line {
    /// Its number in the file, from one.
    pub(super) number: u64,
    /// What it says, or why it cannot be read.
    pub(super) content: Result<Content, String>,
}

/// What a line says.
pub(super) enum Content {
    /// The fields, by column.
    Fields(StringRecord),
    /// A JSON text.
    Json(String),
}

/// A file that is being imported.
pub(super) struct Source {
    /// Its name, for messages.
    pub(super) name: String,
    /// The SHA-256 of its content; nothing for standard input.
    pub(super) digest: Option<String>,
    /// How many bytes it has; nothing for standard input.
    pub(super) bytes: Option<u64>,
    lines: Lines,
}

enum Lines {
    Csv { reader: csv::Reader<Box<dyn Read>>, header: Vec<String> },
    Json { reader: Box<dyn BufRead>, number: u64, position: u64 },
}

impl Source {
    /// Opens a file, or standard input for `-`. Its extension says how it is written where `format` does not.
    pub(super) fn open(path: &Path, format: Option<Format>) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let by_extension = match path.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => Some(Format::Csv),
            Some("jsonl" | "ndjson" | "json") => Some(Format::Json),
            _ => None,
        };
        let format = format.or(by_extension).ok_or_else(|| {
            Failure::Usage(format!("say with --format whether {name} is csv or json (one JSON object on each line)"))
        })?;
        if name == "-" {
            let lines =
                Lines::new(Box::new(io::stdin()), format).map_err(|error| unreadable("standard input", error))?;
            return Ok(Self { name: "standard input".to_owned(), digest: None, bytes: None, lines });
        }
        let open = || {
            let (digest, bytes) = digest(File::open(path)?)?;
            Ok((digest, bytes, Lines::new(Box::new(File::open(path)?), format)?))
        };
        let (digest, bytes, lines) = open().map_err(|error: io::Error| unreadable(&name, error))?;
        Ok(Self { name, digest: Some(digest), bytes: Some(bytes), lines })
    }

    /// The names of the columns; nothing for JSON.
    pub(super) fn header(&self) -> Option<&[String]> {
        match &self.lines {
            Lines::Csv { header, .. } => Some(header),
            Lines::Json { .. } => None,
        }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> u64 {
        match &self.lines {
            Lines::Csv { reader, .. } => reader.position().byte(),
            Lines::Json { position, .. } => *position,
        }
    }

    /// The next line; empty ones are passed over.
    pub(super) fn next_line(&mut self) -> Result<Option<Line>, Failure> {
        self.lines.next_line().map_err(|error| unreadable(&self.name, error))
    }
}

fn unreadable(name: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("{name} cannot be read: {error}"))
}

/// The SHA-256 of a file's content, in hexadecimal, and how many bytes it has.
fn digest(mut file: File) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash)?;
    Ok((hexadecimal(hash), bytes))
}

/// A finished hash in hexadecimal.
pub(super) fn hexadecimal(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}

impl Lines {
    fn new(input: Box<dyn Read>, format: Format) -> io::Result<Self> {
        Ok(match format {
            Format::Csv => {
                let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
                let header = reader.headers().map_err(io::Error::from)?.iter().map(str::to_owned).collect();
                Self::Csv { reader, header }
            }
            Format::Json => Self::Json { reader: Box::new(BufReader::new(input)), number: 0, position: 0 },
        })
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        match self {
            Self::Csv { reader, .. } => next_record(reader),
            Self::Json { reader, number, position } => {
                let mut bytes = Vec::new();
                loop {
                    bytes.clear();
                    let length = reader.read_until(b'\n', &mut bytes)?;
                    if length == 0 {
                        return Ok(None);
                    }
                    *number += 1;
                    *position += u64::try_from(length).unwrap_or_default();
                    let text = bytes.trim_ascii();
                    if text.is_empty() {
                        continue;
                    }
                    let text = std::str::from_utf8(text).map_err(|_| "the line is not UTF-8".to_owned());
                    let content = text.map(|text| Content::Json(text.to_owned()));
                    return Ok(Some(Line { number: *number, content }));
                }
            }
        }
    }
}

fn next_record(reader: &mut csv::Reader<Box<dyn Read>>) -> io::Result<Option<Line>> {
    let mut record = StringRecord::new();
    let number = |position: Option<&csv::Position>| position.map_or(0, csv::Position::line);
    match reader.read_record(&mut record) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Line { number: number(record.position()), content: Ok(Content::Fields(record)) })),
        Err(error) => {
            let (position, problem) = match error.kind() {
                ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    (pos, format!("it has {len} fields where the header has {expected_len}"))
                }
                ErrorKind::Utf8 { pos, .. } => (pos, "the line is not UTF-8".to_owned()),
                _ => return Err(error.into()),
            };
            Ok(Some(Line { number: number(position.as_ref()), content: Err(problem) }))
        }
    }
}
