//! `farthing keys`: a key is printed alone, once, and can be listed and revoked by its id.

use farthing::auth::key;

use crate::cli_program::{Program, repository_file};
use crate::databases::on_both;

#[tokio::test]
async fn a_key_is_printed_alone_and_found_until_it_is_revoked() {
    on_both(async |database| {
        let program = Program::on(database.address());
        let created = program.run(&["keys", "create", "--scope", "write", "--name", "the app"]);
        created.assert_code(0);
        let secret = created.out.trim_end();
        assert_eq!(created.out, format!("{secret}\n"));
        assert!(secret.starts_with("fk_test_"), "{secret}");
        let digest = key::digest(secret).unwrap();
        let found = database.store.find_key(&digest).await.unwrap().unwrap();
        assert_eq!(
            (found.tenant.as_str(), found.scope.as_str(), found.name.as_str()),
            ("assistant", "write", "the app")
        );

        let listed = program.run(&["keys", "list"]);
        listed.assert_code(0);
        assert!(listed.out.contains(&found.id.to_string()) && listed.out.contains("the app"), "{}", listed.out);
        assert!(!listed.out.contains(secret));
        let json = program.run(&["keys", "list", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!((&json[0]["id"], &json[0]["scope"]), (&found.id.to_string().into(), &"write".into()));
        assert!(json[0]["revoked_at"].is_null());

        program.run(&["keys", "revoke", &found.id.to_string()]).assert_code(0);
        assert!(database.store.find_key(&digest).await.unwrap().is_none());
        let again = program.run(&["keys", "revoke", &found.id.to_string()]);
        again.assert_code(1);
        assert!(again.err.contains("was revoked before"), "{}", again.err);
    })
    .await;
}

#[tokio::test]
async fn a_key_belongs_to_the_tenant_that_is_named() {
    on_both(async |database| {
        let program = Program::on(database.address());
        program.file("shop.toml", "[tenant]\nname = \"shop\"\nmode = \"live\"\ncurrency = \"EUR\"\n");
        let assistant = repository_file("examples/assistant.toml");
        let files = ["--tenant-file", "shop.toml", "--tenant-file", &assistant];
        let unnamed = program.run(&[&["keys", "create", "--scope", "read"], &files[..]].concat());
        unnamed.assert_code(2);
        assert!(unnamed.err.contains("assistant, shop"), "{}", unnamed.err);
        let created = program.run(&[&["keys", "create", "--scope", "read", "--tenant", "shop"], &files[..]].concat());
        assert!(created.assert_code(0).out.starts_with("fk_live_"));
        assert_eq!(database.store.keys("shop").await.unwrap().len(), 1);
        // By position, as `serve` takes them.
        program.run(&["keys", "create", "--scope", "read", "shop.toml"]).assert_code(0);
        assert_eq!(database.store.keys("shop").await.unwrap().len(), 2);
        assert_eq!(database.store.keys("assistant").await.unwrap().len(), 0);
    })
    .await;
}

#[test]
fn what_cannot_be_asked_ends_with_two() {
    let program = Program::on("sqlite:none.db");
    program.run(&["keys", "create", "--scope", "owner"]).assert_code(2);
    program.run(&["keys", "revoke", "not-an-id"]).assert_code(2);
    Program::on("mysql://localhost").run(&["keys", "list"]).assert_code(2);
    let missing = program.run(&["keys", "list"]);
    assert!(missing.assert_code(1).err.contains("there is no database none.db"), "{}", missing.err);
}
