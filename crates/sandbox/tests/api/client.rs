//! A sandbox on a free port, a client of one of its worlds, and an endpoint that receives webhooks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sandbox::{Sandbox, Settings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A client of one world.
pub(crate) struct Client {
    pub(crate) base: String,
    pub(crate) key: String,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<()>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that says yes.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// The error of an answer that says no with this status.
    #[track_caller]
    pub(crate) fn error(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body["error"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A sandbox whose webhooks are tried again soon.
pub(crate) fn quick() -> Settings {
    Settings { webhook_retries: vec![Duration::from_millis(50); 5], ..Settings::default() }
}

impl Client {
    /// A sandbox of its own, in memory.
    pub(crate) async fn new() -> Self {
        Self::with(quick()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let sandbox = Sandbox::open(settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            sandbox.serve(listener, async { drop(stopped.await) }).await.unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base, key: "sk_test_example".to_owned(), http, stop: Some(stop), served: Some(served) }
    }

    /// Stops the sandbox, and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let served = self.served.take().unwrap();
        drop(self.http);
        served.await.unwrap();
    }

    /// The same sandbox with another key.
    pub(crate) fn as_key(&self, key: &str) -> Self {
        Self { base: self.base.clone(), key: key.to_owned(), http: self.http.clone(), stop: None, served: None }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }

    pub(crate) async fn send(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, text, body })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request("GET", path)).await.unwrap()
    }

    /// Posts a form: `post("/v1/customers", &[("email", "a@example.com")])`.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        Self::send(self.form(path, form)).await.unwrap()
    }

    /// Posts a form with an idempotency key; an error is one of the connection.
    pub(crate) async fn post_keyed(
        &self,
        path: &str,
        form: &[(&str, &str)],
        key: &str,
    ) -> Result<Answer, reqwest::Error> {
        Self::send(self.form(path, form).header("Idempotency-Key", key)).await
    }

    pub(crate) fn form(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let encoded: Vec<String> =
            form.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
        self.request("POST", path).header("Content-Type", "application/x-www-form-urlencoded").body(encoded.join("&"))
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Self::send(self.request("DELETE", path)).await.unwrap()
    }

    /// Posts JSON to the sandbox's own API.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Value {
        Self::send(self.request("POST", path).body(body.to_string())).await.unwrap().ok()
    }
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A webhook as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) signature: String,
    pub(crate) body: String,
}

impl Hook {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An endpoint that answers its first webhooks with the given statuses, and all others with 200.
pub(crate) struct Endpoint {
    pub(crate) url: String,
    hooks: Arc<Mutex<Vec<Hook>>>,
}

impl Endpoint {
    pub(crate) async fn new(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let hooks = Arc::new(Mutex::new(Vec::new()));
        let mut statuses = statuses.iter().copied().collect::<std::collections::VecDeque<u16>>();
        let kept = hooks.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let hook = receive(&mut stream).await;
                kept.lock().unwrap().push(hook);
                let status = statuses.pop_front().unwrap_or(200);
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, hooks }
    }

    /// What has come in so far.
    pub(crate) fn hooks(&self) -> Vec<Hook> {
        self.hooks.lock().unwrap().clone()
    }

    /// Waits until so many have come in.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Hook> {
        let end = Instant::now() + Duration::from_secs(10);
        while self.hooks().len() < count {
            assert!(Instant::now() < end, "{} of {count} webhooks came: {:?}", self.hooks().len(), self.types());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.hooks()
    }

    /// The types of the events that have come in, in order.
    pub(crate) fn types(&self) -> Vec<String> {
        self.hooks().iter().map(|hook| hook.event()["type"].as_str().unwrap().to_owned()).collect()
    }
}

async fn receive(stream: &mut tokio::net::TcpStream) -> Hook {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let line = head.lines().find(|line| line.to_lowercase().starts_with(name)).unwrap();
                line.split_once(": ").unwrap().1.to_owned()
            };
            if body.len() == header("content-length:").parse::<usize>().unwrap() {
                return Hook { signature: header("stripe-signature:"), body: body.to_owned() };
            }
        }
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the sandbox hung up within a webhook");
        bytes.extend_from_slice(&buffer[..read]);
    }
}
