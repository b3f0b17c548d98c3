//! Optimist's transactional memory beside other crates, locks and plain code, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml [-- --json FILE] [--quick]
//! ```
//!
//! All sides run in turn, many short chunks each, so that whatever else the machine does hits all of them alike. One thread: the least
//! CPU time of a chunk. Two threads: the best round by the wall clock. What counts are the ratios.

mod kernels;
mod measure;
mod sides;
mod threads;

use std::fmt::Write as _;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use optimist_stm::{Kind, TVar, lease, with_protocol};
use serde_json::{Value, json};

use kernels::COLUMNS;
use measure::Case;
use sides::{
    Side, by_hand::ByHand, fast_stm::FastStm, lock::OneMutex, optimist::Compiled, optimist::Optimist, plain::Plain,
    stm::Stm, xstm::Xstm,
};
use threads::{Runner, WORKLOADS};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let json_file = arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let only = only.map(String::as_str);
    let wanted = |section| only.is_none_or(|only| only == section);
    let start = Instant::now();
    let mut report = serde_json::Map::new();
    report.insert("machine".into(), machine());
    if wanted("operations") {
        report.insert("operations".into(), operations(if quick { 30 } else { 150 }));
    }
    if wanted("alone") {
        report.insert("alone".into(), alone(if quick { 30 } else { 100 }));
    }
    if wanted("protocols") {
        report.insert("protocols".into(), protocols(if quick { 15 } else { 60 }));
    }
    if wanted("throughput") {
        report.insert("throughput".into(), throughput(if quick { 3 } else { 7 }));
    }
    if wanted("throughput of protocols") {
        report.insert("throughput of protocols".into(), throughput_of_protocols(if quick { 3 } else { 7 }));
    }
    if wanted("oversubscribed") {
        report.insert("oversubscribed".into(), oversubscribed(if quick { 3 } else { 7 }));
    }
    if wanted("progress") {
        report.insert("progress".into(), progress(if quick { 50 } else { 200 }));
    }
    println!("\n{:.0} s in all", start.elapsed().as_secs_f64());
    if let Some(file) = json_file {
        let text = serde_json::to_string_pretty(&report).expect("plain values can be written as JSON");
        if let Err(error) = std::fs::write(file, text + "\n") {
            eprintln!("cannot write {file}: {error}");
            std::process::exit(1);
        }
    }
}

/// Processor, cores and compiler.
fn machine() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|pair| pair.1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{} with {cores} cores, load {}", model.unwrap_or("unknown processor"), load.trim());
    json!({ "processor": model, "cores": cores, "load": load.trim(), "rustc": option_env!("RUSTC_VERSION"), "profile": "release, fat LTO, one codegen unit" })
}

/// A second thread that has run a transaction and sleeps. While it is there, transactions of the first one must reckon with others; without it
/// they do without locked instructions.
struct Guest {
    go: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guest {
    fn invite() -> Self {
        let ((go, wait), (here, arrived)) = (channel::<()>(), channel::<()>());
        let thread = std::thread::spawn(move || {
            TVar::new(1_u64).load();
            here.send(()).expect("the first thread waits");
            // The end of the other side is what is waited for.
            let _ = wait.recv();
        });
        arrived.recv().expect("the guest runs a transaction");
        Guest { go: Some(go), thread: Some(thread) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.go.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the guest does not panic");
        }
    }
}

/// The table of costs on one thread, while there is another one.
fn operations(rounds: usize) -> Value {
    let mut cases = Vec::new();
    kernels::baselines(&mut cases);
    kernels::cases::<Plain>(&mut cases);
    kernels::cases::<OneMutex>(&mut cases);
    kernels::cases::<Optimist>(&mut cases);
    kernels::cases::<Compiled<optimist_stm::protocol::Eager>>(&mut cases);
    kernels::cases::<ByHand>(&mut cases);
    kernels::cases::<Stm>(&mut cases);
    kernels::cases::<FastStm>(&mut cases);
    kernels::cases::<Xstm>(&mut cases);
    let _guest = Guest::invite();
    let _lease = lease(Kind::Eager);
    measure::interleave(&mut cases, rounds);
    println!("\n## One thread: nanoseconds, and in brackets the ratio to the baseline\n");
    table(&cases)
}

/// The same for a thread that is the only one to run transactions.
fn alone(rounds: usize) -> Value {
    let mut cases = Vec::new();
    kernels::baselines(&mut cases);
    kernels::cases::<Plain>(&mut cases);
    kernels::cases::<OneMutex>(&mut cases);
    kernels::cases::<Optimist>(&mut cases);
    kernels::cases::<Compiled<optimist_stm::protocol::Eager>>(&mut cases);
    let _lease = lease(Kind::Eager);
    measure::interleave(&mut cases, rounds);
    println!("\n## One thread that is alone\n");
    table(&cases)
}

/// The same for every shipped protocol, through the code that serves all of them and compiled for it.
fn protocols(rounds: usize) -> Value {
    println!("\n## One thread, each protocol\n");
    let mut all = serde_json::Map::new();
    for &kind in Kind::ALL {
        let mut cases = Vec::new();
        kernels::baselines(&mut cases);
        kernels::cases::<Plain>(&mut cases);
        kernels::cases::<Optimist>(&mut cases);
        with_protocol!(kind, P => kernels::cases::<Compiled<P>>(&mut cases));
        let _guest = Guest::invite();
        let _lease = lease(kind);
        measure::interleave(&mut cases, rounds);
        println!("### {kind}\n");
        all.insert(kind.name().into(), table(&cases));
    }
    Value::Object(all)
}

fn find<'a>(cases: &'a [Case], kernel: &str, side: &str) -> &'a Case {
    cases.iter().find(|case| case.kernel == kernel && case.side == side).expect("every side has every column")
}

/// Prints a table of costs with ratios, and returns it.
fn table(cases: &[Case]) -> Value {
    let c = find(cases, "C", "baseline").least();
    let m = find(cases, "M", "baseline").least();
    println!("C (compare-and-swap) {c:.2} ns, M (mutex) {m:.2} ns; P is the row of plain code\n");
    let mut sides: Vec<&str> = Vec::new();
    for case in cases.iter().filter(|case| case.side != "baseline") {
        if !sides.contains(&case.side.as_str()) {
            sides.push(&case.side);
        }
    }
    let mut head = String::from("| |");
    for column in COLUMNS {
        let _ = write!(head, " {} (/{}) |", column.name, column.baseline);
    }
    println!("{head}\n|---|{}", "---|".repeat(COLUMNS.len()));
    let mut rows = serde_json::Map::new();
    rows.insert("baselines".into(), json!({ "C": c, "M": m }));
    for side in sides {
        let mut line = format!("| {side} |");
        let mut row = serde_json::Map::new();
        for column in COLUMNS {
            let case = find(cases, column.name, side);
            let base = match column.baseline {
                "C" => c,
                "M" => m,
                // The same loop twice; which of the two the compiler happens to align well must not decide.
                _ if column.name.starts_with("read") => ["read", "read after write"]
                    .map(|name| find(cases, name, &Plain::name()).least())
                    .into_iter()
                    .fold(f64::INFINITY, f64::min),
                _ => find(cases, column.name, &Plain::name()).least(),
            };
            let ratio = case.least() / base;
            let missed = if side.starts_with("optimist") && ratio > column.goal { " ✗" } else { "" };
            let _ = write!(line, " {} ({}){missed} |", short(case.least()), short(ratio));
            row.insert(
                column.name.into(),
                json!({ "unit": column.unit, "ns": case.least(), "ns_median": case.median(), "ratio": ratio, "baseline": column.baseline, "goal": column.goal }),
            );
        }
        println!("{line}");
        rows.insert(side.into(), Value::Object(row));
    }
    let mut goals = String::from("| goal |");
    for column in COLUMNS {
        let _ = write!(goals, " ≤ {} |", column.goal);
    }
    println!("{goals}\n");
    Value::Object(rows)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn runners() -> Vec<Runner> {
    let mut runners = Vec::new();
    Runner::all::<OneMutex>(&mut runners);
    Runner::all::<Optimist>(&mut runners);
    Runner::all::<Stm>(&mut runners);
    Runner::all::<FastStm>(&mut runners);
    Runner::all::<Xstm>(&mut runners);
    runners
}

/// Throughput on two threads.
fn throughput(rounds: usize) -> Value {
    let mut runners = runners();
    let _lease = lease(Kind::Eager);
    for _ in 0..rounds {
        for runner in &mut runners {
            runner.round(2, TURN);
        }
    }
    println!("\n## Two threads: million transactions a second (ratio to stm 0.4; attempts a commit)\n");
    throughput_table(&runners)
}

/// Throughput on two threads under each shipped protocol.
fn throughput_of_protocols(rounds: usize) -> Value {
    let mut runners = Vec::new();
    Runner::all::<Stm>(&mut runners);
    let mut kinds = vec![Kind::Eager; runners.len()];
    for &kind in Kind::ALL {
        let first = runners.len();
        Runner::all::<Optimist>(&mut runners);
        runners[first..].iter_mut().for_each(|runner| runner.result.side = format!("optimist, {kind}"));
        kinds.resize(runners.len(), kind);
    }
    for _ in 0..rounds {
        for (runner, &kind) in runners.iter_mut().zip(&kinds) {
            let _lease = lease(kind);
            runner.round(2, TURN);
        }
    }
    println!("\n## Two threads, each protocol: million transactions a second (ratio to stm 0.4; attempts a commit)\n");
    throughput_table(&runners)
}

/// How long a workload runs at a time.
const TURN: Duration = Duration::from_millis(60);

/// Prints what the sides have reached, and returns it.
fn throughput_table(runners: &[Runner]) -> Value {
    let mut head = String::from("| |");
    for (name, what, _) in WORKLOADS {
        let _ = write!(head, " {name}: {what} |");
    }
    println!("{head}\n|---|{}", "---|".repeat(WORKLOADS.len()));
    let mut rows = serde_json::Map::new();
    let mut sides: Vec<String> = Vec::new();
    for runner in runners {
        if !sides.contains(&runner.result.side) {
            sides.push(runner.result.side.clone());
        }
    }
    let of = |side: &str, workload: &str| {
        &runners
            .iter()
            .find(|runner| runner.result.side == side && runner.result.workload == workload)
            .expect("every side runs every workload")
            .result
    };
    for side in &sides {
        let mut line = format!("| {side} |");
        let mut row = serde_json::Map::new();
        for (workload, _, goal) in WORKLOADS {
            let result = of(side, workload);
            let ratio = result.best() / of(&Stm::name(), workload).best();
            let missed = if side.starts_with("optimist") && ratio < *goal { " ✗" } else { "" };
            let _ = write!(line, " {} ({}; {:.2}){missed} |", short(result.best()), short(ratio), result.attempts());
            row.insert(
                (*workload).into(),
                json!({ "millions_a_second": result.best(), "median": result.median(), "ratio_to_stm": ratio, "goal": goal,
                    "attempts_a_commit": result.attempts(), "cpu_ns": measure::median(&result.cpu) }),
            );
        }
        println!("{line}");
        rows.insert(side.clone(), Value::Object(row));
    }
    Value::Object(rows)
}

/// CPU time of a transaction with many more threads than cores, over that with one thread.
fn oversubscribed(rounds: usize) -> Value {
    println!("\n## CPU time a transaction with 8 threads over 1 thread (transfers over 1,000); the goal is 1.1\n");
    let mut rows = serde_json::Map::new();
    let _lease = lease(Kind::Eager);
    let pick = |runners: Vec<Runner>| -> Vec<Runner> {
        runners.into_iter().filter(|runner| runner.result.workload == "transfers").collect()
    };
    let (mut one, mut eight) = (pick(runners()), pick(runners()));
    for _ in 0..rounds {
        for (one, eight) in one.iter_mut().zip(&mut eight) {
            one.round(1, Duration::from_millis(40));
            eight.round(8, Duration::from_millis(40));
        }
    }
    for (one, eight) in one.iter().zip(&eight) {
        let least = |runner: &Runner| runner.result.cpu.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = least(eight) / least(one);
        println!("{:<12} {:.2}", one.result.side, ratio);
        rows.insert(one.result.side.clone(), json!({ "ratio": ratio, "goal": 1.1 }));
    }
    Value::Object(rows)
}

/// Progress against a writer that never stops.
fn progress(transactions: usize) -> Value {
    println!(
        "\n## Most attempts of 1,000 reads and 1 write against a writer that never stops; the goal is threads + 2 = 4\n"
    );
    let limit = Duration::from_secs(2);
    let _lease = lease(Kind::Eager);
    let outcomes = [
        threads::progress::<OneMutex>(transactions, limit),
        threads::progress::<Optimist>(transactions, limit),
        threads::progress::<Stm>(transactions, limit),
        threads::progress::<FastStm>(transactions, limit),
        threads::progress::<Xstm>(transactions, limit),
    ];
    let mut rows = serde_json::Map::new();
    for outcome in outcomes {
        println!(
            "{:<12} {}{} ({} attempts for {} commits)",
            outcome.side,
            outcome.most,
            if outcome.gave_up { " and given up after two seconds" } else { "" },
            outcome.total,
            outcome.commits
        );
        rows.insert(
            outcome.side.clone(),
            json!({ "most": outcome.most, "attempts": outcome.total, "commits": outcome.commits, "gave_up": outcome.gave_up }),
        );
    }
    Value::Object(rows)
}
