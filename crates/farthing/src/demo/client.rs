//! A small client of the native API, for the demonstration.

use reqwest::Method;
use serde_json::Value;

use super::DemonstrationError;

/// Calls one server with one key.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
}

impl Client {
    pub(super) fn new(base: &str, key: &str) -> Result<Self, DemonstrationError> {
        crate::tls::install_provider();
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|error| DemonstrationError::new("no HTTP client", error))?;
        Ok(Self { http, base: base.to_owned(), key: key.to_owned() })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, DemonstrationError> {
        self.expect("GET", path, None).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, DemonstrationError> {
        self.expect("PUT", path, Some(body)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, DemonstrationError> {
        self.expect("POST", path, Some(body)).await
    }

    async fn expect(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, DemonstrationError> {
        let (status, answer) = self.send(method, path, body).await?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        Err(DemonstrationError(format!("{method} {path} answered {status}: {answer}")))
    }

    /// The status and the JSON of whatever is answered.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), DemonstrationError> {
        let failed = |error: reqwest::Error| DemonstrationError::new(&format!("{method} {path}"), error);
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| DemonstrationError::new(method, error))?;
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.map_err(failed)?))
    }
}
