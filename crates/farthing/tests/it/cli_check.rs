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
    insta::assert_snapshot!(summary, @r#"
meters    execution_ms, from agent.task: execution_ms
          tokens
plans     enterprise (v_c6bcb145ca5e81a0)
            title: Enterprise Plan
            fee: 500 USD each month
            feature agents: 100
            feature history_days: 3650
            feature sso: yes
            price execution_ms: 0.02 USD per 60,000
            price tokens: 0.0002 USD each
            spending limit: 500 USD
          pro (v_baa45f787a381b8c)
            title: Pro Plan
            fee: 50 USD each month
            feature agents: 5
            feature history_days: 365
            limit tokens-per-minute: 100000 tokens in any 60 seconds
            price execution_ms: 0.05 USD per 60,000
            price tokens: 0.0005 USD each
            spending limit: 50 USD
            add-ons: report
          starter (v_6e63f54432476428)
            title: Starter Plan
            fee: 10 USD each month
            trial: 14 days
            feature agents: 1
            feature history_days: 30
            price execution_ms: 0.1 USD per 60,000
            price tokens: 0.001 USD each
            spending limit: 10 USD
            add-ons: report
add-ons   report: Weekly report, 3 USD with every period
coupons   WELCOME: 50 % off each of 3 invoices
invoices  due after 30 days where the customer pays by itself; otherwise tried again after 1, 3, 5, 7 days, then the subscription ends
overage   owed, whatever the amount
payments  by the built-in sandbox, because there is no key
"#);
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
