//! The requests of the load: prepared once for each customer, so that asking costs little; only the operation key is
//! fresh each time.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::client::Client;
use super::load::Call;
use super::noop;
use super::workload::Workload;

/// How many customers the charges are spread over.
pub(super) const CUSTOMERS: usize = 1_000;

/// How many charges a batch has.
const BATCH: usize = 100;

/// What each customer is given: a million dollars, which no run uses up.
const GRANT: &str = r#"{"amount": "1000000", "kind": "paid"}"#;

/// Context tokens of the first requests of a public trace of a language model (Azure, 2023).
const TOKENS: [u32; 16] = [4808, 3180, 110, 7433, 34, 374, 396, 879, 91, 91, 381, 1313, 388, 242, 209, 394];

/// An operation key in hexadecimal digits.
const KEY_LENGTH: usize = 32;

/// The caller's own id of a customer.
pub(super) fn customer(index: usize) -> String {
    format!("customer-{index:04}")
}

/// How many tokens a charge of this customer is for.
pub(super) fn tokens(index: usize) -> u32 {
    TOKENS.get(index % TOKENS.len()).copied().unwrap_or(1)
}

/// A sequence that all connections of a run draw from: a number never comes twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence(Arc<AtomicU64>);

/// A number of the sequence, and one that looks random and follows from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    number: u64,
    random: u64,
}

impl Sequence {
    pub(super) fn draw(&self) -> Draw {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        // SplitMix64.
        let mut random = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Draw { number, random: random ^ (random >> 31) }
    }
}

impl Draw {
    /// A customer at random.
    pub(super) fn customer(self) -> usize {
        usize::try_from(self.random % CUSTOMERS as u64).unwrap_or_default()
    }

    /// 128 bits that come only once and do not rise from one to the next.
    pub(super) fn unique(self) -> u128 {
        (u128::from(self.random) << 64) | u128::from(self.number)
    }

    /// Writes an operation key over the room left for it.
    fn write_key(self, room: &mut [u8]) {
        let mut room = room;
        // It is exactly as long as its room.
        let _ = write!(room, "{:032x}", self.unique());
    }
}

/// A request, and where the room for its operation key begins.
#[derive(Debug)]
struct Prepared {
    bytes: Vec<u8>,
    key_at: usize,
}

/// The requests for every customer.
#[derive(Debug)]
pub(super) struct Requests {
    head: Head,
    no_op: Vec<Prepared>,
    charge: Vec<Prepared>,
    check: Vec<Prepared>,
    hold: Vec<Prepared>,
    /// The bodies of charges that name their operation keys themselves, for batches.
    keyed: Vec<Prepared>,
}

/// What stands at the head of every request.
#[derive(Debug)]
struct Head {
    authorization: String,
}

impl Head {
    fn write(&self, request: &mut Vec<u8>, method: &str, path: &str, key: &str, length: usize) {
        // Writing into memory does not fail.
        let _ = write!(
            request,
            "{method} {path} HTTP/1.1\r\nHost: farthing\r\n{}Content-Type: application/json\r\n{key}Content-Length: {length}\r\n\r\n",
            self.authorization
        );
    }

    /// A request, whose operation key is the header's.
    fn prepare(&self, path: &str, body: &str) -> Prepared {
        let key = format!("Idempotency-Key: {}\r\n", "0".repeat(KEY_LENGTH));
        let mut bytes = Vec::new();
        self.write(&mut bytes, "POST", path, &key, body.len());
        let found = bytes.windows(key.len()).position(|bytes| bytes == key.as_bytes()).unwrap_or_default();
        bytes.extend_from_slice(body.as_bytes());
        Prepared { bytes, key_at: found + "Idempotency-Key: ".len() }
    }
}

/// What a charge says of the use, from its meter on.
fn usage(index: usize) -> String {
    format!(
        r#""meter":"context_tokens","quantity":{},"subject":"agent-{}","dimensions":{{"model":"large"}}"#,
        tokens(index),
        index % 7
    )
}

fn charge(index: usize) -> String {
    let customer = customer(index);
    format!(r#"{{"customer":"{customer}",{},"metadata":{{"conversation":"c-{:08}"}}}}"#, usage(index), index * 7919)
}

impl Requests {
    /// The requests of a caller with this API key.
    pub(super) fn prepare(api_key: &str) -> Self {
        let head = Head { authorization: format!("Authorization: Bearer {api_key}\r\n") };
        let each = |prepare: &dyn Fn(usize) -> Prepared| (0..CUSTOMERS).map(prepare).collect();
        let check = |index| {
            let (customer, tokens) = (customer(index), tokens(index));
            format!(
                r#"{{"customer":"{customer}","meter":"context_tokens","quantity":{tokens},"dimensions":{{"model":"large"}}}}"#
            )
        };
        let keyed = |index| {
            let zeros = "0".repeat(KEY_LENGTH);
            let body = format!(r#"{{"operation_key":"{zeros}",{}"#, charge(index).trim_start_matches('{'));
            Prepared { bytes: body.into_bytes(), key_at: r#"{"operation_key":""#.len() }
        };
        Self {
            no_op: each(&|index| head.prepare(noop::PATH, &charge(index))),
            charge: each(&|index| head.prepare("/v1/charges", &charge(index))),
            check: each(&|index| head.prepare("/v1/check", &check(index))),
            hold: each(&|index| {
                let body = format!(r#"{{"customer":"{}",{}}}"#, customer(index), usage(index));
                head.prepare("/v1/holds", &body)
            }),
            keyed: each(&keyed),
            head,
        }
    }

    /// Makes a customer and gives it value.
    ///
    /// # Errors
    /// The answer, where it is not as expected.
    pub(super) async fn create_customer(&self, client: &mut Client, index: usize) -> Result<(), String> {
        let path = format!("/v1/customers/{}", customer(index));
        for (method, path, body) in [("PUT", path.clone(), "{}"), ("POST", format!("{path}/grants"), GRANT)] {
            let mut request = Vec::new();
            self.head.write(&mut request, method, &path, "", body.len());
            request.extend_from_slice(body.as_bytes());
            exchange(client, &request, 201, b"{").await?;
        }
        Ok(())
    }
}

/// Sends a request whose answer has to have this status, and a body that begins like this.
async fn exchange<'a>(
    client: &'a mut Client,
    request: &[u8],
    status: u16,
    begins: &'static [u8],
) -> Result<&'a [u8], String> {
    let answer = client.exchange(request).await.map_err(|error| error.to_string())?;
    if answer.status == status && answer.body.starts_with(begins) {
        return Ok(answer.body);
    }
    let body: String = String::from_utf8_lossy(answer.body).chars().take(300).collect();
    Err(format!("status {} where {status} was expected: {body}", answer.status))
}

/// One connection to a server, with one kind of request.
#[derive(Debug)]
pub(super) struct HttpCall {
    client: Client,
    requests: Arc<Requests>,
    sequence: Sequence,
    workload: Workload,
    request: Vec<u8>,
}

impl HttpCall {
    pub(super) fn new(client: Client, requests: &Arc<Requests>, sequence: &Sequence, workload: Workload) -> Self {
        Self { client, requests: requests.clone(), sequence: sequence.clone(), workload, request: Vec::new() }
    }

    /// One of the prepared requests, with a fresh key.
    fn fill(&mut self, of: fn(&Requests) -> &[Prepared]) {
        self.request.clear();
        self.append(of);
    }

    fn append(&mut self, of: fn(&Requests) -> &[Prepared]) {
        let draw = self.sequence.draw();
        let index = if self.workload.is_of_one_customer() { 0 } else { draw.customer() };
        let Some(prepared) = of(&self.requests).get(index) else { return };
        let begin = self.request.len() + prepared.key_at;
        self.request.extend_from_slice(&prepared.bytes);
        if let Some(room) = self.request.get_mut(begin..begin + KEY_LENGTH) {
            draw.write_key(room);
        }
    }

    async fn one(
        &mut self,
        of: fn(&Requests) -> &[Prepared],
        status: u16,
        begins: &'static [u8],
    ) -> Result<u64, String> {
        self.fill(of);
        exchange(&mut self.client, &self.request, status, begins).await.map(|_| 1)
    }

    async fn batch(&mut self) -> Result<u64, String> {
        const BEGIN: &[u8] = br#"{"charges":["#;
        self.request.clear();
        self.request.extend_from_slice(BEGIN);
        for index in 0..BATCH {
            if index > 0 {
                self.request.push(b',');
            }
            self.append(|requests| &requests.keyed);
        }
        self.request.extend_from_slice(b"]}");
        let body = std::mem::take(&mut self.request);
        self.requests.head.write(&mut self.request, "POST", "/v1/charges/batch", "", body.len());
        self.request.extend_from_slice(&body);
        let answer = exchange(&mut self.client, &self.request, 200, b"{\"results\":[").await?;
        const MADE: &[u8] = br#"{"status":201,"#;
        let made = answer.windows(MADE.len()).filter(|bytes| *bytes == MADE).count();
        if made == BATCH { Ok(BATCH as u64) } else { Err(format!("{made} of {BATCH} charges of a batch were made")) }
    }

    async fn hold(&mut self) -> Result<u64, String> {
        const BEGIN: &[u8] = br#"{"id":""#;
        self.fill(|requests| &requests.hold);
        let answer = exchange(&mut self.client, &self.request, 201, BEGIN).await?;
        let id = answer.get(BEGIN.len()..).and_then(|rest| rest.split(|byte| *byte == b'"').next()).unwrap_or_default();
        let path = format!("/v1/holds/{}/settle", String::from_utf8_lossy(id));
        let body = r#"{"quantity":"90"}"#;
        self.request.clear();
        self.requests.head.write(&mut self.request, "POST", &path, "", body.len());
        self.request.extend_from_slice(body.as_bytes());
        exchange(&mut self.client, &self.request, 200, BEGIN).await.map(|_| 1)
    }
}

impl Call for HttpCall {
    async fn call(&mut self) -> Result<u64, String> {
        match self.workload {
            Workload::NoOp => self.one(|requests| &requests.no_op, 201, b"{").await,
            Workload::Charges | Workload::ChargesOneCustomer => {
                self.one(|requests| &requests.charge, 201, b"{\"id\":\"ch_").await
            }
            Workload::Checks | Workload::ChecksOneCustomer => {
                self.one(|requests| &requests.check, 200, b"{\"allowed\":true").await
            }
            Workload::Batches => self.batch().await,
            Workload::Holds => self.hold().await,
            Workload::UsualWay | Workload::UsualWayOneCustomer => Err("the usual way has no requests".to_owned()),
        }
    }
}
