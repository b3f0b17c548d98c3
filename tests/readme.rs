//! What the README shows is what happens.

use std::process::Command;

const README: &str = include_str!("../README.md");

/// The commands in the README's shell blocks.
fn commands() -> Vec<&'static str> {
    let blocks = README.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.flat_map(str::lines).collect()
}

#[test]
fn the_readme_is_short() {
    assert!(README.lines().count() <= 50, "it should convince at a glance");
}

#[test]
fn the_first_command_runs_the_main_job() {
    let commands = commands();
    let [command] = commands[..] else { panic!("one command, found {commands:?}") };
    let words = command.strip_prefix("cargo run --release -- ").expect("a command of the project");
    let output = Command::new(env!("CARGO_BIN_EXE_optimist"))
        .args(words.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the command starts");
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("airport"));
    let statistics = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["commits", "aborts", "attempts per commit", "conflict rate", "events per second", "worker 1"] {
        assert!(statistics.contains(word), "{word} is missing in\n{statistics}");
    }
}

#[test]
fn the_test_command_is_the_one_that_ci_runs() {
    assert!(README.contains("`cargo xtask test`"));
    let ci = include_str!("../.ci/run");
    assert!(ci.lines().any(|line| line == "cargo xtask test"));
    assert!(commands().iter().all(|command| ci.contains(command)));
}

#[test]
fn every_link_leads_somewhere() {
    for target in README.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
        assert!(path.exists(), "{target}");
    }
}
