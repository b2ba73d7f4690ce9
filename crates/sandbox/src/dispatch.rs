//! From what was asked to what is answered: key, route, faults, idempotency, handler, expansion, journal, log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::auth::authenticate;
use crate::error::ApiError;
use crate::fault::FaultKind;
use crate::idempotency::{self, Kept};
use crate::parameters::Parameters;
use crate::request::{Caller, Request};
use crate::routes::{self, Handler, Page, PageHandler, Target};
use crate::server::{Shared, check_version, pretty};
use crate::world::{Cause, World, lock};
use crate::{API_VERSION, expand, form, pages};

/// How many requests a world remembers for `GET /_sandbox/requests`.
const REMEMBERED: usize = 1000;

/// A request as it came in.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) host: String,
    pub(crate) body: String,
}

/// What goes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<&'static str, String>,
    pub(crate) body: String,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: String) -> Self {
        Self { status, headers: BTreeMap::from([("content-type", content_type.to_owned())]), body }
    }

    fn json(status: u16, body: String) -> Self {
        Self::new(status, "application/json", body)
    }

    fn refusal(error: &ApiError) -> Self {
        Self::json(error.status, pretty(&error.body()))
    }

    /// Readable by pages of any origin, as what Stripe.js talks to.
    fn open(mut self) -> Self {
        let methods = "GET, POST, DELETE, OPTIONS";
        let headers = "authorization, content-type, idempotency-key, stripe-version";
        self.headers.insert("access-control-allow-origin", "*".to_owned());
        self.headers.insert("access-control-allow-methods", methods.to_owned());
        self.headers.insert("access-control-allow-headers", headers.to_owned());
        self.headers.insert("access-control-expose-headers", "request-id, idempotent-replayed".to_owned());
        self
    }
}

/// Answers; none closes the connection without an answer.
pub(crate) async fn dispatch(shared: &Shared, asked: Asked) -> Option<Answer> {
    if asked.method == "OPTIONS" {
        return Some(Answer::new(204, "text/plain", String::new()).open());
    }
    let Some((target, captures)) = routes::find(&asked.method, &asked.path) else {
        return Some(unknown(&asked));
    };
    match target {
        Target::File(content_type, body) => Some(Answer::new(200, content_type, body.to_owned()).open()),
        Target::Page(handler) => Some(page(shared, &asked, captures, handler)),
        Target::Api(handler) => api(shared, asked, captures, handler, Surface::Api).await,
        Target::Browser(handler) => api(shared, asked, captures, handler, Surface::Browser).await.map(Answer::open),
        Target::Control(handler) => api(shared, asked, captures, handler, Surface::Control).await,
    }
}

fn unknown(asked: &Asked) -> Answer {
    let error = match authenticate(asked.authorization.as_deref(), None) {
        Ok(_) => ApiError::unknown_path(&asked.method, &asked.path),
        Err(error) if asked.path.starts_with("/v1/") => error,
        Err(_) => ApiError::unknown_path(&asked.method, &asked.path),
    };
    tracing::info!(event = "request", method = asked.method, path = asked.path, status = error.status);
    Answer::refusal(&error)
}

/// Which of the sandbox's faces is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surface {
    Api,
    Browser,
    Control,
}

/// A request with all that is known about it before it is handled.
struct Call<'a> {
    shared: &'a Shared,
    world: Arc<Mutex<World>>,
    asked: Asked,
    request: Request,
    handler: Handler,
    request_id: String,
    /// Key and fingerprint, where the request has a key and a method that heeds it.
    key: Option<(String, String)>,
    sent: Value,
    started: Instant,
}

async fn api(
    shared: &Shared,
    asked: Asked,
    captures: Vec<String>,
    handler: Handler,
    surface: Surface,
) -> Option<Answer> {
    let started = Instant::now();
    let sent = match parse(&asked, surface) {
        Ok(sent) => sent,
        Err(error) => return Some(Answer::refusal(&error)),
    };
    let form_key = sent.get("key").and_then(Value::as_str);
    let (name, caller) = match authenticate(asked.authorization.as_deref(), form_key) {
        Ok(known) => known,
        Err(error) => {
            tracing::info!(event = "request", method = asked.method, path = asked.path, status = error.status);
            return Some(Answer::refusal(&error));
        }
    };
    let world = shared.world(&name);
    let request_id = format!("req_{}", lock(&world).ids.text(14));
    let key = asked
        .idempotency_key
        .clone()
        .filter(|_| asked.method == "POST" && surface != Surface::Control)
        .map(|key| (key, idempotency::fingerprint(&sent)));
    let mut parameters = sent.clone();
    if surface == Surface::Browser
        && let Some(map) = parameters.as_object_mut()
    {
        map.remove("key");
        map.remove("_stripe_version");
    }
    let request = Request {
        path: asked.path.clone(),
        captures,
        parameters: Parameters::new(parameters),
        caller,
        base: base(shared, &asked),
        version: asked.version.clone().unwrap_or_else(|| API_VERSION.to_owned()),
    };
    let call = Call { shared, world, asked, request, handler, request_id, key, sent, started };
    if surface != Surface::Browser && caller == Caller::Publishable {
        return Some(call.finish(&mut lock(&call.world), Err(ApiError::secret_key_required()), false));
    }
    if surface == Surface::Control {
        return Some(call.handle(&mut lock(&call.world), None));
    }
    call.answer().await
}

fn parse(asked: &Asked, surface: Surface) -> Result<Value, ApiError> {
    // The sandbox's own API takes JSON, and forms like the rest of it.
    if surface == Surface::Control && asked.body.trim_start().starts_with(['{', '[', '"']) {
        return match serde_json::from_str(&asked.body) {
            Ok(body @ Value::Object(_)) => Ok(body),
            _ => Err(ApiError::invalid("The body must be a JSON object.")),
        };
    }
    if asked.body.trim_start().starts_with('{') {
        return Err(ApiError::invalid(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have any \
             questions, we can help at https://support.stripe.com/.",
        ));
    }
    Ok(form::parse(&format!("{}&{}", asked.query, asked.body)))
}

fn base(shared: &Shared, asked: &Asked) -> String {
    match &shared.settings.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", asked.host),
    }
}

impl Call<'_> {
    /// Faults and idempotency around the handler. No lock is held while a fault makes it wait.
    async fn answer(self) -> Option<Answer> {
        let (slow, after) = {
            let mut world = lock(&self.world);
            match self.begin(&mut world) {
                Err(answer) => return Some(answer),
                Ok(faults) => faults,
            }
        };
        if let Some(seconds) = slow {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        }
        let forced = after.filter(|(kind, _)| *kind == FaultKind::ErrorAfter).map(|_| ApiError::server());
        let answer = self.handle(&mut lock(&self.world), forced);
        match after {
            Some((FaultKind::TimeoutAfter, seconds)) => {
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                None
            }
            _ => Some(answer),
        }
    }

    /// What must be answered without the handler; or how long to wait before it, and what goes wrong after it.
    #[expect(clippy::type_complexity, reason = "two small answers, read once")]
    fn begin(&self, world: &mut World) -> Result<(Option<u32>, Option<(FaultKind, u32)>), Answer> {
        if let Some(version) = &self.asked.version {
            check_version(version).map_err(|error| self.finish(world, Err(error), false))?;
        }
        let (method, path) = (self.asked.method.as_str(), self.asked.path.as_str());
        if let Some((key, fingerprint)) = &self.key {
            match idempotency::begin(world, key, path, fingerprint) {
                Err(error) => return Err(self.finish(world, Err(error), false)),
                Ok(Some(kept)) => return Err(self.replay(world, kept)),
                Ok(None) => {}
            }
        }
        let refused = world
            .take_fault(&[FaultKind::RateLimit, FaultKind::LockTimeout, FaultKind::ErrorBefore], method, path)
            .map(|fault| match fault.kind {
                FaultKind::RateLimit => ApiError::too_many("rate_limit", "Request rate limit exceeded."),
                FaultKind::LockTimeout => ApiError::too_many(
                    "lock_timeout",
                    "This object cannot be accessed right now because another API request or Stripe process is currently \
                     accessing it.",
                ),
                _ => ApiError::server(),
            });
        if let Some(error) = refused {
            self.release(world);
            return Err(self.finish(world, Err(error), false));
        }
        let slow = world.take_fault(&[FaultKind::Slow], method, path).map(|fault| fault.seconds);
        let after = world.take_fault(&[FaultKind::TimeoutAfter, FaultKind::ErrorAfter], method, path);
        Ok((slow, after.map(|fault| (fault.kind, fault.seconds))))
    }

    fn release(&self, world: &mut World) {
        if let Some((key, _)) = &self.key {
            world.keys_in_use.remove(key);
        }
    }

    /// Runs the handler as a whole: what it changed and the kept answer are written together, before anything goes out.
    fn handle(&self, world: &mut World, forced: Option<ApiError>) -> Answer {
        world.base.clone_from(&self.request.base);
        world.cause = Some(Cause {
            request_id: self.request_id.clone(),
            idempotency_key: self.key.as_ref().map(|(key, _)| key.clone()),
            method: self.asked.method.clone(),
            path: self.asked.path.clone(),
        });
        let mut outcome = (self.handler)(world, &self.request).and_then(|document| self.expanded(world, document));
        if outcome.as_ref().is_err_and(|error| !error.keeps) {
            world.undo();
        }
        if let Some(error) = forced {
            outcome = Err(error);
        }
        world.cause = None;
        if let Some((key, fingerprint)) = &self.key
            && outcome.as_ref().err().is_none_or(|error| error.remembered)
        {
            let (status, body) = render(&outcome);
            let kept = Kept { status, body, request_id: self.request_id.clone() };
            idempotency::keep(world, key, &self.asked.path, fingerprint, &kept);
        }
        self.release(world);
        if let Err(error) = self.shared.journal.commit(world) {
            tracing::error!(event = "journal_failed", %error);
            outcome = Err(ApiError::server());
        }
        self.shared.wake.notify_one();
        self.finish(world, outcome, false)
    }

    fn expanded(&self, world: &World, mut document: Value) -> Result<Value, ApiError> {
        for path in self.request.parameters.texts("expand")?.unwrap_or_default() {
            expand::expand(world, &mut document, &path)?;
        }
        Ok(document)
    }

    fn replay(&self, world: &mut World, kept: Kept) -> Answer {
        let code = serde_json::from_str::<Value>(&kept.body)
            .ok()
            .and_then(|body| body["error"]["code"].as_str().or(body["error"]["type"].as_str()).map(str::to_owned));
        self.log(world, kept.status, code.as_deref(), true);
        let mut answer = self.headers(Answer::json(kept.status, kept.body));
        answer.headers.insert("idempotent-replayed", "true".to_owned());
        answer.headers.insert("original-request", kept.request_id);
        answer
    }

    fn finish(&self, world: &mut World, outcome: Result<Value, ApiError>, replayed: bool) -> Answer {
        let (status, body) = render(&outcome);
        let code = outcome.as_ref().err().and_then(|error| error.text("code").or(error.text("type")));
        self.log(world, status, code, replayed);
        let mut answer = self.headers(Answer::json(status, body));
        if status == 409 || status >= 500 {
            answer.headers.insert("stripe-should-retry", "true".to_owned());
        }
        answer
    }

    fn headers(&self, mut answer: Answer) -> Answer {
        answer.headers.insert("request-id", self.request_id.clone());
        answer.headers.insert("stripe-version", self.request.version.clone());
        if let Some((key, _)) = &self.key {
            answer.headers.insert("idempotency-key", key.clone());
        }
        answer
    }

    fn log(&self, world: &mut World, status: u16, code: Option<&str>, replayed: bool) {
        let milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            event = "request",
            method = self.asked.method,
            path = self.asked.path,
            status,
            code,
            replayed,
            world = world.name,
            request_id = self.request_id,
            milliseconds
        );
        if self.asked.path.starts_with("/_sandbox/") {
            return;
        }
        if world.requests.len() >= REMEMBERED {
            world.requests.pop_front();
        }
        let entry = json!({
            "id": self.request_id, "created": world.now(), "method": self.asked.method, "path": self.asked.path,
            "status": status, "error_code": code, "idempotency_key": self.key.as_ref().map(|(key, _)| key),
            "replayed": replayed, "milliseconds": milliseconds, "params": masked(&self.sent),
        });
        world.requests.push_back(entry);
    }
}

fn render(outcome: &Result<Value, ApiError>) -> (u16, String) {
    match outcome {
        Ok(document) => (200, pretty(document)),
        Err(error) => (error.status, pretty(&error.body())),
    }
}

/// Parameters without what no log may know: card numbers, security codes and keys.
fn masked(sent: &Value) -> Value {
    match sent {
        Value::Object(map) => {
            let hidden = ["number", "cvc", "key", "client_secret"];
            map.iter()
                .map(|(key, value)| {
                    let value = if hidden.contains(&key.as_str()) { json!("***") } else { masked(value) };
                    (key.clone(), value)
                })
                .collect()
        }
        Value::String(text) => {
            let digits = text.chars().filter(char::is_ascii_digit).count();
            let only = text.chars().all(|c| c.is_ascii_digit() || c == ' ' || c == '-');
            if only && (12..=19).contains(&digits) { json!("***") } else { sent.clone() }
        }
        _ => sent.clone(),
    }
}

/// A page, or what one of them posts. Its errors are pages too.
fn page(shared: &Shared, asked: &Asked, captures: Vec<String>, handler: PageHandler) -> Answer {
    let world = shared.world(captures.first().map_or("", String::as_str));
    let mut world = lock(&world);
    let request = Request {
        path: asked.path.clone(),
        captures,
        parameters: Parameters::new(form::parse(&format!("{}&{}", asked.query, asked.body))),
        caller: Caller::Page,
        base: base(shared, asked),
        version: API_VERSION.to_owned(),
    };
    world.base.clone_from(&request.base);
    let outcome = handler(&mut world, &request);
    if outcome.as_ref().is_err_and(|error| !error.keeps) {
        world.undo();
    }
    let committed = shared.journal.commit(&mut world);
    shared.wake.notify_one();
    let outcome = committed.map_err(|_| ApiError::server()).and(outcome);
    let status = outcome.as_ref().map_or_else(|error| error.status, |_| 200);
    tracing::info!(event = "page", method = asked.method, path = asked.path, status, world = world.name);
    match outcome {
        Ok(Page::Body(content_type, body)) => Answer::new(200, content_type, body),
        Ok(Page::Redirect(url)) => {
            let mut answer = Answer::new(303, "text/plain", String::new());
            answer.headers.insert("location", header_safe(&url));
            answer
        }
        Err(error) => Answer::new(error.status, "text/html; charset=utf-8", pages::refusal(&error)),
    }
}

/// An address as a header can carry it: what is not ASCII is percent-encoded.
fn header_safe(address: &str) -> String {
    address.chars().map(|c| if c.is_ascii_graphic() { c.to_string() } else { form::encode(&c.to_string()) }).collect()
}
