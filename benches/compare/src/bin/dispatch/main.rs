//! The dispatcher beside other schedulers, locks, another transactional memory and plain code, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin dispatch [-- --json FILE] [--rounds N] [--only SECTION]
//! ```
//!
//! The sections are `empty`, `objects`, `ordered`, `irrevocable`, `phold`, `fairness` and `idle`. Within a section all sides run in turn, round after
//! round, and the best round of each counts, so that whatever else the machine does spoils the same share of all of them. Two
//! threads are used unless it says otherwise. Adding the events is part of what is measured.

mod bench;
mod empty;
mod objects;
mod phold;
mod service;

use bench::Goals;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).map(String::as_str)
    };
    let rounds = option("--rounds").map_or(9, |rounds| rounds.parse().expect("--rounds takes a number"));
    let only = option("--only");
    let mut goals = Goals::default();
    let mut tables = serde_json::Map::new();
    let mut section = |name: &str, body: &dyn Fn(usize, &mut Goals) -> serde_json::Value| {
        if only.is_none_or(|only| only == name) {
            println!("\n## {name}\n");
            tables.insert(name.to_owned(), body(rounds, &mut goals));
        }
    };
    section("empty", &empty::empty);
    section("objects", &objects::objects);
    section("ordered", &objects::ordered);
    section("irrevocable", &objects::irrevocable);
    section("phold", &phold::phold);
    section("fairness", &service::fairness);
    section("idle", &service::idle);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nload {}", load.trim());
    if let Some(file) = option("--json") {
        let report =
            serde_json::json!({ "load": load.trim(), "rounds": rounds, "goals": goals.json(), "tables": tables });
        let text = serde_json::to_string_pretty(&report).expect("plain values can be written as JSON");
        if let Err(error) = std::fs::write(file, text + "\n") {
            eprintln!("cannot write {file}: {error}");
            std::process::exit(1);
        }
    }
}
