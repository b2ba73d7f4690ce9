//! Traces of LLM requests: CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens, as the Azure LLM inference
//! traces have them.

use std::path::PathBuf;

use serde::Deserialize;

use super::DemonstrationError;

/// A small stretch that ships with the program; its rows are made up in the shape of the Azure traces.
const BUILT_IN: &str = include_str!("../../../../examples/requests.csv");

/// One request to a language model.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct LlmRequest {
    #[serde(rename = "ContextTokens")]
    pub(super) context_tokens: u32,
    #[serde(rename = "GeneratedTokens")]
    pub(super) generated_tokens: u32,
}

impl LlmRequest {
    /// What it costs by the example's prices: 3 and 15 micro-dollars a token.
    pub(super) fn cost_micros(&self) -> i64 {
        i64::from(self.context_tokens) * 3 + i64::from(self.generated_tokens) * 15
    }
}

/// The requests of these files, or of the built-in stretch where there are none.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<LlmRequest>, DemonstrationError> {
    if files.is_empty() {
        return rows(csv::Reader::from_reader(BUILT_IN.as_bytes()), "examples/requests.csv");
    }
    let mut requests = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let reader = csv::Reader::from_path(file).map_err(|error| DemonstrationError::new(&name, error))?;
        requests.extend(rows(reader, &name)?);
    }
    Ok(requests)
}

fn rows<R: std::io::Read>(mut reader: csv::Reader<R>, name: &str) -> Result<Vec<LlmRequest>, DemonstrationError> {
    reader.deserialize().collect::<Result<_, _>>().map_err(|error| DemonstrationError::new(name, error))
}
