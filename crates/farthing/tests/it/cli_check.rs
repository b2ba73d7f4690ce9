//! `farthing check`: mistakes by line and column, and what a file defines; and which tenant files are used.

use crate::cli_program::{Program, repository_file};

#[test]
fn every_mistake_is_told_by_file_line_and_column() {
    let program = Program::on("sqlite:unused.db");
    program.file("shop.toml", "[tenant]\nname = \"shop\"\ncurrency = \"DOLLARS\"\n\n[[prices]]\nmeter = \"calls\"\n");
    let ended = program.run(&["check", "shop.toml"]);
    ended.assert_code(1);
    let places: Vec<&str> = ended.out.lines().filter_map(|line| line.split(": ").next()).collect();
    assert!(places.contains(&"shop.toml:3:12"), "{}", ended.out);
    assert!(places.iter().any(|place| place.starts_with("shop.toml:6:")), "{}", ended.out);
    assert!(!program.path("unused.db").exists(), "a check opens no database");
}

#[test]
fn a_file_in_order_is_summed_up() {
    let program = Program::on("sqlite:unused.db");
    let ended = program.run(&["check", &repository_file("examples/assistant.toml")]);
    ended.assert_code(0);
    for line in ["tenant assistant (test mode, USD) is in order", "context_tokens: 3 USD per 1,000,000"] {
        assert!(ended.out.contains(line), "{}", ended.out);
    }
}

#[test]
fn plans_are_told_with_what_they_have() {
    let program = Program::on("sqlite:unused.db");
    let ended = program.run(&["check", &repository_file("examples/plans.toml")]);
    ended.assert_code(0);
    let (_, summary) = ended.out.split_once('\n').expect("several lines");
    insta::assert_snapshot!(summary, @"");
}

#[test]
fn a_tenant_has_one_file() {
    let program = Program::on("sqlite:unused.db");
    for name in ["one.toml", "two.toml"] {
        program.file(name, "[tenant]\nname = \"shop\"\ncurrency = \"USD\"\n");
    }
    let ended = program.run(&["check", "one.toml", "two.toml"]);
    ended.assert_code(1);
    assert!(ended.out.contains("two.toml: tenant `shop` is already defined by one.toml"), "{}", ended.out);
}

#[test]
fn without_a_file_it_is_farthing_toml_and_without_that_the_example() {
    let program = Program::on("sqlite:unused.db");
    let ended = program.run(&["check"]);
    ended.assert_code(0);
    assert!(ended.err.contains("using the built-in examples/assistant.toml"), "{}", ended.err);
    assert!(ended.out.contains("tenant assistant"), "{}", ended.out);

    program.file("farthing.toml", "[tenant]\nname = \"shop\"\ncurrency = \"EUR\"\n");
    let ended = program.run(&["check"]);
    ended.assert_code(0);
    assert!(ended.out.starts_with("farthing.toml: tenant shop (test mode, EUR) is in order"), "{}", ended.out);
    assert_eq!(ended.err, "");
}
