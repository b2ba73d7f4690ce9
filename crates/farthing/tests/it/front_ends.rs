//! Front ends of today: the browser code of two products' documents, compiled against Stripe's own types, pays in a headless
//! Chromium through the sandbox's `stripe.js`. What the pages and their servers do: `tests/front_ends/`.

use std::path::Path;
use std::time::Duration;

use farthing::auth::Scope;
use tokio::process::Command;

use crate::cli_program::repository_file;
use crate::databases::Database;
use crate::harness::TestApp;

/// Longer than a slow machine needs; a script that hangs fails with what it has said.
const LIMIT: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_code_of_the_documents_pays() {
    let node = repository_file(".venv/bin/node");
    let modules = repository_file("crates/sandbox/tests/sdk/node/node_modules");
    for needed in [&node, &modules] {
        assert!(Path::new(needed).exists(), "{needed} is missing: ./test installs it");
    }
    let (app, sandbox) = TestApp::of_product(Database::sqlite().await, "ciris").await;
    let script = Command::new(node)
        .arg(repository_file("crates/farthing/tests/front_ends/run.mjs"))
        .env("FARTHING", format!("http://{}", app.address))
        .env("SANDBOX", &sandbox.url)
        .env("CIRIS_KEY", &app.admin_key)
        .env("PARENTPILOT_KEY", app.new_key_of("parentpilot", Scope::Write).await.0)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, script).await.expect("the script hangs").expect("Node runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the pages failed ({}):\n{said}", output.status);
    print!("{said}");
    crate::books::assert_balanced(&*app.app.store).await;
    sandbox.stop().await;
}
