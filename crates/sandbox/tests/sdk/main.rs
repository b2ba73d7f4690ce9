//! Stripe's official SDKs, and pages in a headless Chromium, against a sandbox that listens: each test starts one and runs a
//! script of `tests/sdk/` with its address in `SANDBOX`. `./test` installs what they need.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what these tests set up works")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::{Sandbox, Settings};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Longer than a slow machine needs; a script that hangs fails with what it has said.
const LIMIT: Duration = Duration::from_secs(240);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name)
}

/// A program of the venv at the top of the repository.
fn program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin").join(name);
    assert!(program.exists(), "{} is missing: ./test installs it", program.display());
    program
}

/// Runs a script against a sandbox of its own; fails with its output if it fails.
async fn run(program: &Path, script: &Path) {
    let sandbox = Sandbox::open(Settings::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { sandbox.serve(listener, std::future::pending()).await });
    let child = Command::new(program)
        .arg(script)
        .current_dir(script.parent().unwrap())
        .env("SANDBOX", &address)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, child).await.expect("the script hangs").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} failed ({}):\n{said}", script.display(), output.status);
    print!("{said}");
}

async fn node(script: &str) {
    let modules = folder("node").join("node_modules");
    assert!(modules.exists(), "{} is missing: ./test installs it", modules.display());
    run(&program("node"), &folder("node").join(script)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stripe_js_in_a_browser() {
    node("browser.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandboxs_own_pages() {
    node("pages.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stripes_node_sdk() {
    node("server.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stripes_python_sdk() {
    run(&program("python"), &folder("python").join("run.py")).await;
}
