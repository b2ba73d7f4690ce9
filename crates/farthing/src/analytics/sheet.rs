//! The rows of a report as a sheet of texts: for CSV, and for a table on the terminal.

use serde::Serialize;

use super::AnalyticsError;

/// Titles, and rows as long as they.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sheet {
    /// The names of the columns.
    pub titles: Vec<String>,
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

impl Sheet {
    /// The sheet of these rows. A row is a struct without structs in it.
    ///
    /// # Errors
    /// `Store` where a row is none such.
    pub fn of<T: Serialize + Default>(rows: &[T]) -> Result<Self, AnalyticsError> {
        // The titles are there also where no row is.
        let titles = cells(&[T::default()])?.into_iter().next().unwrap_or_default();
        Ok(Self { titles, rows: cells(rows)?.into_iter().skip(1).collect() })
    }

    /// As comma-separated values (RFC 4180), the first line with the titles. A cell that a spreadsheet would take for a
    /// formula has an apostrophe before it, as OWASP advises; amounts below zero are no formulas.
    ///
    /// # Errors
    /// `Store` where it cannot be written.
    pub fn csv(&self) -> Result<String, AnalyticsError> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        for row in std::iter::once(&self.titles).chain(&self.rows) {
            writer.write_record(row.iter().map(|cell| harmless(cell))).map_err(unwritable)?;
        }
        let bytes = writer.into_inner().map_err(unwritable)?;
        String::from_utf8(bytes).map_err(unwritable)
    }
}

/// The titles, then the rows; nothing where there is no row.
fn cells<T: Serialize>(rows: &[T]) -> Result<Vec<Vec<String>>, AnalyticsError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(unwritable)?;
    }
    let bytes = writer.into_inner().map_err(unwritable)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
    let texts = |record: csv::StringRecord| record.iter().map(str::to_owned).collect();
    reader.records().map(|record| record.map(texts).map_err(unwritable)).collect()
}

fn unwritable(error: impl std::fmt::Display) -> AnalyticsError {
    AnalyticsError::Store(crate::store::StoreError::Corrupt(format!("a report cannot be written: {error}")))
}

/// A cell that no spreadsheet computes.
fn harmless(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if formula && !is_amount(cell) { format!("'{cell}") } else { cell.to_owned() }
}

/// Whether it is a number as farthing writes them.
fn is_amount(cell: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = cell.strip_prefix('-').unwrap_or(cell);
    match number.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Serialize)]
    struct Row {
        subject: Option<String>,
        amount: String,
    }

    #[test]
    fn no_cell_is_a_formula_and_amounts_stay_amounts() {
        let row = |subject: &str, amount: &str| Row { subject: Some(subject.to_owned()), amount: amount.to_owned() };
        let rows = [
            row("=HYPERLINK(\"https://evil.example\")", "-0.5"),
            row("+49 30", "-12"),
            row("@SUM(A1), B", "3"),
            row("-1+1", "4"),
            row("line\r\nbreak", "5"),
            Row { subject: None, amount: "6".to_owned() },
        ];
        assert_eq!(
            Sheet::of(&rows).unwrap().csv().unwrap(),
            "subject,amount\r\n\"'=HYPERLINK(\"\"https://evil.example\"\")\",-0.5\r\n'+49 30,-12\r\n\"'@SUM(A1), B\",3\r\n\
             '-1+1,4\r\n\"line\r\nbreak\",5\r\n,6\r\n"
        );
        assert_eq!(Sheet::of::<Row>(&[]).unwrap().csv().unwrap(), "subject,amount\r\n");
    }
}
