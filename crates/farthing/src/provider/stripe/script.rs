//! For tests: a server that answers by a script, and keeps what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{API_VERSION, Stripe, StripeSettings};
use crate::auth::Secret;
use crate::provider::OperationKey;

/// One answer of the server.
struct Planned {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    late: bool,
}

/// One request that came in.
struct Seen {
    line: String,
    key: Option<String>,
    body: String,
}

/// What is answered, and what was asked.
#[derive(Clone, Default)]
pub(super) struct Script {
    planned: Arc<Mutex<VecDeque<Planned>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    /// With one more answer.
    pub(super) fn then(self, status: u16, headers: &[(&'static str, &'static str)], body: &Value) -> Self {
        let planned = Planned { status, headers: headers.to_vec(), body: body.to_string(), late: false };
        self.planned.lock().unwrap().push_back(planned);
        self
    }

    /// An answer that comes after the client has gone.
    pub(super) fn then_too_late(self, body: &Value) -> Self {
        let planned = Planned { status: 200, headers: Vec::new(), body: body.to_string(), late: true };
        self.planned.lock().unwrap().push_back(planned);
        self
    }

    /// Stripe, as the script has it.
    pub(super) async fn serve(&self) -> Stripe {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let settings = StripeSettings::new(Secret::new("sk_test_script"), false);
        let time_out = Duration::from_millis(500);
        Stripe::new(StripeSettings { base_url, time_out, backoff: Duration::from_millis(1), ..settings }).unwrap()
    }

    /// Method, path and query of each request.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }

    /// The idempotency key of each request.
    pub(super) fn keys(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().iter().map(|seen| seen.key.clone()).collect()
    }

    /// The parameters that a request posted, decoded.
    pub(super) fn body(&self, index: usize) -> String {
        let decode = |text: &str| form_urlencoded::parse(text.as_bytes()).map(|(k, v)| format!("{k}={v}")).collect();
        let pairs: Vec<String> = decode(&self.seen.lock().unwrap()[index].body);
        pairs.join("&")
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let line = format!("{} {}", request.method(), request.uri());
    let key = header("idempotency-key");
    assert_eq!(header("stripe-version").as_deref(), Some(API_VERSION));
    assert_eq!(header("authorization").as_deref(), Some("Bearer sk_test_script"));
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.seen.lock().unwrap().push(Seen { line, key, body });
    let planned = script.planned.lock().unwrap().pop_front();
    let Some(planned) = planned else {
        return (StatusCode::IM_A_TEAPOT, "the script is at its end").into_response();
    };
    if planned.late {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let mut response = (StatusCode::from_u16(planned.status).unwrap(), planned.body).into_response();
    for (name, value) in planned.headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The key of the operation that a test is about.
pub(super) fn key() -> OperationKey {
    OperationKey::new(Uuid::from_u128(7))
}

/// The body of an error.
pub(super) fn error(class: &str, code: Option<&str>) -> Value {
    json!({"error": {"type": class, "code": code, "message": "Words."}})
}

/// A payment intent over 19.99 USD.
pub(super) fn intent(status: &str) -> Value {
    json!({
        "id": "pi_1", "object": "payment_intent", "amount": 1999, "currency": "usd", "status": status,
        "amount_received": if status == "succeeded" { 1999 } else { 0 },
        "client_secret": "pi_1_secret_2", "metadata": {"farthing_payment": "pay-1"},
    })
}
