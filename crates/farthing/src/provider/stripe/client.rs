//! One thin client for all calls: parameters in, JSON out, with retries under one idempotency key, and a record of every
//! attempt.
//!
//! A call is repeated where Stripe says so, or where it is not known what became of it: no connection, no answer in time,
//! 409, 429 and 500 and above (<https://docs.stripe.com/error-low-level>). The key is the same each time, so that what
//! was done is not done again.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::CallError;
use super::form::Form;
use super::object::{Identified, List};
use super::{API_VERSION, StripeSettings};
use crate::provider::{Exchange, Exchanges, OperationKey, ProviderError};

#[cfg(test)]
mod tests;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a connection may take to come about.
const CONNECT_TIME_OUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes; a page of a hundred events has about one million.
const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// How much of an answer goes on record, in bytes.
const RECORD_LIMIT: usize = 64 * 1024;
/// How many objects a page of a list has; the most that Stripe gives.
const PAGE: u8 = 100;

/// Speaks with Stripe.
pub(super) struct Client {
    http: reqwest::Client,
    /// Without a slash at the end.
    base_url: String,
    most_attempts: u32,
    backoff: Duration,
}

/// Written by hand, because the HTTP client holds the key.
impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the key is not text that can be sent")]
    Key(#[from] InvalidHeaderValue),
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

/// What came of one attempt: an answer, or a failure to get one that has no body.
struct Answer {
    exchange: Exchange,
    /// The whole body; why there is none.
    body: Result<Vec<u8>, ProviderError>,
    /// What Stripe says about another attempt.
    should_retry: Option<bool>,
}

/// The calls that one operation takes, and their record.
pub(super) struct Calls<'a> {
    client: &'a Client,
    /// The operation's name in metrics and logs; one of a few.
    operation: &'static str,
    exchanges: Vec<Exchange>,
}

struct Request<'a> {
    method: Method,
    path: &'a str,
    form: Form,
    key: Option<&'a OperationKey>,
}

impl Client {
    /// Prepares to speak; opens no connection yet.
    pub(super) fn new(settings: &StripeSettings, base_url: &Url) -> Result<Self, ClientError> {
        crate::tls::install_provider();
        let mut key = HeaderValue::from_str(&format!("Bearer {}", settings.secret_key.expose()))?;
        key.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, key);
        headers.insert("Stripe-Version", HeaderValue::from_static(API_VERSION));
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("farthing/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME_OUT.min(settings.time_out))
            .timeout(settings.time_out);
        if matches!(base_url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        Ok(Self {
            http: http.build()?,
            base_url: base_url.as_str().trim_end_matches('/').to_owned(),
            most_attempts: settings.most_attempts.max(1),
            backoff: settings.backoff,
        })
    }

    /// Begins an operation.
    pub(super) fn calls(&self, operation: &'static str) -> Calls<'_> {
        Calls { client: self, operation, exchanges: Vec::new() }
    }

    async fn attempt(&self, request: &Request<'_>) -> Answer {
        let parameters = request.form.encode();
        let posts = request.method == Method::POST;
        let mut url = format!("{}{}", self.base_url, request.path);
        if !posts && !parameters.is_empty() {
            url = format!("{url}?{parameters}");
        }
        let mut http = self.http.request(request.method.clone(), url);
        if posts {
            http = http.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(parameters);
        }
        if let Some(key) = request.key {
            http = http.header("Idempotency-Key", key.as_str());
        }
        let mut exchange = Exchange {
            request: format!("{} {}", request.method, request.path),
            status: None,
            request_id: None,
            replayed: false,
            reply: String::new(),
        };
        let response = match http.send().await {
            Ok(response) => response,
            Err(error) => return Answer::none(exchange, error),
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        exchange.status = Some(response.status().as_u16());
        exchange.request_id = header("request-id");
        exchange.replayed = header("idempotent-replayed").as_deref() == Some("true");
        let should_retry = header("stripe-should-retry").and_then(|value| value.parse().ok());
        match read(response).await {
            Ok(Some(body)) => {
                exchange.reply = String::from_utf8_lossy(body.get(..RECORD_LIMIT).unwrap_or(&body)).into_owned();
                Answer { exchange, body: Ok(body), should_retry }
            }
            Ok(None) => {
                exchange.reply = format!("more than {BODY_LIMIT} bytes");
                let body = Err(ProviderError::Unreadable(exchange.reply.clone()));
                Answer { exchange, body, should_retry: Some(false) }
            }
            Err(error) => Answer::none(exchange, error),
        }
    }

    /// How long to wait after so many attempts: doubling, and between half and all of that by chance, so that those who
    /// failed together do not come again together.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let most = self.backoff.saturating_mul(doubled).min(LONGEST_PAUSE);
        let mut random = [0_u8];
        // Without randomness the whole pause is as good.
        let percent = getrandom::fill(&mut random).map_or(100, |()| 50 + u32::from(random[0]) % 51);
        most.saturating_mul(percent) / 100
    }
}

/// The body; none where it is larger than anything that Stripe sends.
async fn read(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

impl Answer {
    /// No answer, or only its beginning. Why, without the address, which has parameters.
    fn none(mut exchange: Exchange, error: reqwest::Error) -> Self {
        let late = error.is_timeout();
        let error = error.without_url();
        let mut reason = if late { "no answer in time".to_owned() } else { error.to_string() };
        let mut cause = error.source().filter(|_| !late);
        while let Some(deeper) = cause {
            reason = format!("{reason}: {deeper}");
            cause = deeper.source();
        }
        exchange.reply.clone_from(&reason);
        Self { exchange, body: Err(ProviderError::Unavailable(reason)), should_retry: None }
    }

    /// The body of a success.
    fn success(&self) -> Result<&[u8], CallError> {
        let body = self.body.as_ref().map_err(Clone::clone)?;
        match self.exchange.status {
            Some(200..=299) => Ok(body),
            Some(status) => Err(CallError::of(status, body)),
            None => Err(ProviderError::Unavailable("no answer".to_owned()).into()),
        }
    }

    fn is_worth_another_attempt(&self) -> bool {
        if let Some(told) = self.should_retry {
            return told;
        }
        match self.exchange.status {
            _ if matches!(self.body, Err(ProviderError::Unavailable(_))) => true,
            // What is kept under a key stays the same under that key.
            Some(500..) => !self.exchange.replayed,
            Some(409 | 429) => true,
            _ => false,
        }
    }
}

impl Calls<'_> {
    /// Gets an object.
    pub(super) async fn get<T: DeserializeOwned>(&mut self, path: &str, form: Form) -> Result<T, CallError> {
        self.call(&Request { method: Method::GET, path, form, key: None }).await
    }

    /// Makes or changes an object.
    pub(super) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        form: Form,
        key: &OperationKey,
    ) -> Result<T, CallError> {
        self.call(&Request { method: Method::POST, path, form, key: Some(key) }).await
    }

    /// Sets something to a value, so that again does nothing more and needs no key.
    pub(super) async fn post_once<T: DeserializeOwned>(&mut self, path: &str, form: Form) -> Result<T, CallError> {
        self.call(&Request { method: Method::POST, path, form, key: None }).await
    }

    /// Ends an object.
    pub(super) async fn delete<T: DeserializeOwned>(&mut self, path: &str, form: Form) -> Result<T, CallError> {
        self.call(&Request { method: Method::DELETE, path, form, key: None }).await
    }

    /// All objects of a list, on as many pages as they are.
    pub(super) async fn all<T: DeserializeOwned>(&mut self, path: &str, form: Form) -> Result<Vec<T>, CallError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let (page, next) = self.page(path, &form, after.as_deref()).await?;
            for object in &page {
                all.push(parse(object.get().as_bytes())?);
            }
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The first object of a list that is wanted, and no page after it.
    pub(super) async fn first<T: DeserializeOwned>(
        &mut self,
        path: &str,
        form: Form,
        wanted: impl Fn(&T) -> bool + Send,
    ) -> Result<Option<T>, CallError> {
        let mut after = None;
        loop {
            let (page, next) = self.page(path, &form, after.as_deref()).await?;
            for object in &page {
                let object = parse(object.get().as_bytes())?;
                if wanted(&object) {
                    return Ok(Some(object));
                }
            }
            after = next;
            if after.is_none() {
                return Ok(None);
            }
        }
    }

    /// A page of a list, and after which object the next one begins.
    async fn page(
        &mut self,
        path: &str,
        form: &Form,
        after: Option<&str>,
    ) -> Result<(Vec<Box<RawValue>>, Option<String>), CallError> {
        let form = form.clone().with("limit", PAGE).with_some("starting_after", after);
        let page: List<Box<RawValue>> = self.get(path, form).await?;
        let last = page.data.last().filter(|_| page.has_more);
        let next = last.map(|last| parse::<Identified>(last.get().as_bytes())).transpose()?;
        Ok((page.data, next.map(|last| last.id.to_string())))
    }

    /// Whether the last answer was that of an earlier call, so that the object may have changed since.
    pub(super) fn was_replayed(&self) -> bool {
        self.exchanges.last().is_some_and(|exchange| exchange.replayed)
    }

    /// What the operation comes to.
    pub(super) fn end<T>(self, outcome: Result<T, CallError>) -> Exchanges<T> {
        Exchanges { outcome: outcome.map_err(ProviderError::from), exchanges: self.exchanges }
    }

    async fn call<T: DeserializeOwned>(&mut self, request: &Request<'_>) -> Result<T, CallError> {
        let mut attempts = 1;
        loop {
            let began = Instant::now();
            let answer = self.client.attempt(request).await;
            let success = answer.success().and_then(parse);
            self.observe(&answer.exchange, success.as_ref().err(), began.elapsed());
            let again = success.is_err() && attempts < self.client.most_attempts && answer.is_worth_another_attempt();
            self.exchanges.push(answer.exchange);
            if !again {
                return success;
            }
            tokio::time::sleep(self.client.pause(attempts)).await;
            attempts += 1;
        }
    }

    fn observe(&self, exchange: &Exchange, error: Option<&CallError>, took: Duration) {
        let outcome = match error {
            None => "ok",
            Some(CallError::Refused(_) | CallError::Failed(ProviderError::Rejected(_))) => "rejected",
            Some(CallError::Failed(ProviderError::NotFound)) => "not_found",
            Some(CallError::Failed(ProviderError::Unauthorized)) => "unauthorized",
            Some(CallError::Failed(ProviderError::Unavailable(_))) => "unavailable",
            Some(CallError::Failed(ProviderError::Unreadable(_))) => "unreadable",
        };
        let labels = [("provider", "stripe"), ("operation", self.operation), ("outcome", outcome)];
        metrics::histogram!("farthing_provider_request_duration_seconds", &labels).record(took);
        tracing::debug!(
            event = "provider_request",
            provider = "stripe",
            operation = self.operation,
            request = exchange.request,
            status = exchange.status,
            request_id = exchange.request_id,
            replayed = exchange.replayed,
            outcome,
            "a request to the provider"
        );
    }
}

/// Reads a reply. What was wrong with it is said by place, never with what stood there.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column());
        ProviderError::Unreadable(place).into()
    })
}
