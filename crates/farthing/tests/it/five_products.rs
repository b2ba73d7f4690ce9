//! All five products whose APIs are spoken, in one server process with the tenant files as they are, and the variables of the
//! products' own names in a `.env` file: each is served at its own path, to its own callers alone.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use farthing::clock::{Clock as _, SystemClock};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Client;
use serde_json::{Value, json};

use crate::cli_program::repository_file;

const NAMES: [&str; 5] = ["ciris", "helppet", "orgvoice", "parentpilot", "speech"];

/// Where each is asked something that takes a caller who is known.
const PATHS: [(&str, &str); 5] = [
    ("ciris", "/v1/billing/accounts/oauth:google/ann"),
    ("helppet", "/api/v1/stripe/customers/0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d/has-payment-method"),
    ("orgvoice", "/api/billing/dashboard"),
    ("parentpilot", "/api/payments/plans"),
    ("speech", "/payments/subscription-status"),
];

/// A server process, and the addresses that it says it has.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn secret(name: &str) -> String {
    format!("the secret of {name}, of thirty-two bytes and more")
}

fn farthing(directory: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing"));
    command.current_dir(directory).args(arguments).env_remove("FARTHING_LOG").stdin(Stdio::null());
    command
}

fn start(directory: &std::path::Path) -> Server {
    let files: Vec<String> = NAMES.map(|name| repository_file(&format!("examples/{name}.toml"))).into();
    let secrets = ["helppet", "orgvoice", "speech"]
        .map(|name| format!("{}_JWT_SECRET=\"{}\"\n", name.to_uppercase(), secret(name)))
        .concat();
    let own = format!(
        "{secrets}STRIPE_WEBHOOK_SECRET=whsec_of_the_products\nFREE_USES_PER_ACCOUNT=3\nPAYMENT_PROVIDER=stripe\n"
    );
    std::fs::write(directory.join(".env"), own).expect("a file");
    let mut arguments = vec!["serve"];
    arguments.extend(files.iter().map(String::as_str));
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    let free = free.to_string();
    arguments.extend(["--listen", "127.0.0.1:0", "--sandbox-listen", &free]);
    let mut process = farthing(directory, &arguments).stderr(Stdio::piped()).spawn().expect("the server starts");
    let mut log = BufReader::new(process.stderr.take().expect("its log")).lines();
    let mut seen = Vec::new();
    let address = log.by_ref().map_while(Result::ok).find_map(|line| {
        let read: Value = serde_json::from_str(&line).unwrap_or_default();
        seen.push(line);
        (read["event"] == "serving").then(|| format!("http://{}", read["address"].as_str().unwrap_or_default()))
    });
    // Read on, so that the process never waits for room in the pipe.
    std::thread::spawn(move || log.for_each(drop));
    let server = Server { process, address: address.clone().unwrap_or_default() };
    assert!(address.is_some(), "{seen:#?}");
    server
}

/// What each product's callers present: its users' tokens, or its server's key.
fn credentials(directory: &std::path::Path) -> BTreeMap<&'static str, String> {
    let token = |name: &str, mut claims: Value| {
        claims["exp"] = (SystemClock.now().as_second() + 3600).into();
        let key = EncodingKey::from_secret(secret(name).as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).expect("a token")
    };
    let key = |name: &str| {
        let file = repository_file(&format!("examples/{name}.toml"));
        let made = farthing(directory, &["keys", "create", "--scope", "write", &file]).output().expect("it runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("a key").trim().to_owned()
    };
    let practice = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
    let staff = json!({"sub": "vet", "email": "vet@example.com", "practice_id": practice, "role": "VET_STAFF"});
    let admin = json!({"sub": "u1", "tenant_id": practice, "email": "a@example.com", "role": "admin"});
    BTreeMap::from([
        ("ciris", key("ciris")),
        ("helppet", token("helppet", staff)),
        ("orgvoice", token("orgvoice", admin)),
        ("parentpilot", key("parentpilot")),
        ("speech", token("speech", json!({"sub": "jane@example.com"}))),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_speaks_all_five_apis_each_to_its_own_callers() {
    farthing::tls::install_provider();
    let directory = tempfile::tempdir().expect("a directory to run in");
    let server = start(directory.path());
    let credentials = credentials(directory.path());
    let http = Client::builder().no_proxy().build().expect("a client");
    let ask = async |path: &str, credential: Option<&str>| {
        let request = http.get(format!("{}{path}", server.address)).header("user-id", "ann");
        let request = credential.iter().fold(request, |request, credential| request.bearer_auth(credential));
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(ask("/health", None).await, 200);
    assert_eq!(ask("/metrics", None).await, 200);
    for (product, path) in PATHS {
        assert_eq!(ask(&format!("/openapi/{product}.json"), None).await, 200, "{product}");
        assert_eq!(ask(path, None).await, 401, "{product}");
        for (caller, credential) in &credentials {
            let status = ask(path, Some(credential)).await;
            if *caller == product {
                // Nothing of theirs is set up yet: an account that is not there is 404.
                assert!(matches!(status, 200 | 404), "{caller} at {product}: {status}");
            } else {
                assert_eq!(status, 401, "{caller} at {product}");
            }
        }
    }
}
