//! The virtual machine beside C, Lua 5.4 and LuaJIT with its compiler off, and with the transactional heap beside the same without.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin vm [-- --json FILE] [--quick] [--only PROGRAM]
//! ```
//!
//! The programs lie in `benches/compare/programs`, one file for each language, and must give the same result in all. C is compiled with
//! `cc -O3` and checks its arithmetic for overflow. All sides run in turn, several rounds; what counts is the least CPU time of a
//! round, and the ratios. A language that is not installed is left out.

mod programs;
mod rivals;
mod unprotected;

use std::collections::BTreeMap;

use optimist_stm::protocol::shipped;
use serde_json::{Value, json};

use programs::{PROGRAMS, Prepared, Program};
use rivals::Rival;

/// A column of the table.
struct Side<'a> {
    name: &'static str,
    /// Nanoseconds for a unit, and the result.
    run: Box<dyn FnMut() -> (f64, f64) + 'a>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value_of =
        |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let rounds = if arguments.iter().any(|argument| argument == "--quick") { 2 } else { 5 };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load {}", load.trim());
    let rivals = rivals::installed();
    let mut report = serde_json::Map::new();
    report.insert("load".into(), load.trim().into());
    let mut rows = BTreeMap::new();
    println!("\nnanoseconds for a unit; in brackets the ratio of the transactional heap to the column\n");
    println!("| program | unit | {}", COLUMNS.map(|column| format!("{column} |")).concat());
    println!("|---|---|{}", "---|".repeat(COLUMNS.len()));
    for program in PROGRAMS.iter().filter(|program| value_of("--only").is_none_or(|only| only == program.name)) {
        let row = measure(program, &rivals, rounds);
        let ours = row[COLUMNS[0]];
        let cells = COLUMNS.map(|column| match row.get(column) {
            Some(time) if column == COLUMNS[0] => format!("**{}** |", short(*time)),
            Some(time) => format!("{} ({}) |", short(*time), short(ours / time)),
            None => "– |".to_owned(),
        });
        println!("| {} | {} | {}", program.name, program.unit, cells.concat());
        rows.insert(program.name, (program, row));
    }
    goals(&rows);
    for (name, (program, row)) in rows {
        report.insert(name.into(), json!({ "unit": program.unit, "ns": row }));
    }
    if let Some(file) = value_of("--json") {
        let text = serde_json::to_string_pretty(&Value::Object(report)).expect("plain values can be written as JSON");
        if let Err(error) = std::fs::write(file, text + "\n") {
            eprintln!("cannot write {file}: {error}");
            std::process::exit(1);
        }
    }
}

/// The sides in the order of the table. The second is one lock around everything, with undo; the third has no barriers at all.
const COLUMNS: [&str; 6] = ["eager", "global lock", "no barriers", "C", "LuaJIT -joff", "Lua 5.4"];

/// The least time of each side.
fn measure(program: &'static Program, rivals: &[Rival], rounds: usize) -> BTreeMap<&'static str, f64> {
    let prepared = Prepared::new(program);
    let mut sides = vec![
        Side { name: COLUMNS[0], run: Box::new(|| prepared.run::<shipped::Eager, shipped::Eager>()) },
        Side { name: COLUMNS[1], run: Box::new(|| prepared.run::<shipped::GlobalLock, shipped::GlobalLock>()) },
        Side { name: COLUMNS[2], run: Box::new(|| prepared.run::<shipped::GlobalLock, unprotected::Unprotected>()) },
    ];
    for rival in rivals {
        if let Some(mut run) = rival.prepare(program.name) {
            sides.push(Side { name: rival.name, run: Box::new(move || run()) });
        }
    }
    let mut least: BTreeMap<&'static str, f64> = BTreeMap::new();
    for _ in 0..rounds {
        let mut results = Vec::new();
        for side in &mut sides {
            let (time, result) = (side.run)();
            let entry = least.entry(side.name).or_insert(f64::INFINITY);
            *entry = entry.min(time);
            results.push((side.name, result));
        }
        let expected = results[0].1;
        for (name, result) in results {
            let near = (result - expected).abs() <= 1e-6 * expected.abs();
            assert!(near, "{}: {name} gives {result} and {} {expected}", program.name, COLUMNS[0]);
        }
    }
    least
}

/// What was to be reached, and whether it was.
fn goals(rows: &BTreeMap<&str, (&Program, BTreeMap<&'static str, f64>)>) {
    println!();
    let mut worst: f64 = 0.0;
    for (name, (program, row)) in rows {
        let heap = row[COLUMNS[0]] / row[COLUMNS[2]];
        worst = worst.max(heap);
        let Some((most, of_luajit)) = program.goal else { continue };
        let time = row[COLUMNS[0]];
        let mut line = format!("{name}: {} ns, to be at most {most}{}", short(time), mark(time <= most));
        if let Some(luajit) = row.get(COLUMNS[4]) {
            let ratio = time / luajit;
            line += &format!(
                "; {} of LuaJIT's interpreter, to be at most {of_luajit}{}",
                short(ratio),
                mark(ratio <= of_luajit)
            );
        }
        println!("{line}");
    }
    println!(
        "the transactional heap over no barriers at all, worst: {}, to be at most 1.15{}",
        short(worst),
        mark(worst <= 1.15)
    );
}

fn mark(reached: bool) -> &'static str {
    if reached { "" } else { " ✗" }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
