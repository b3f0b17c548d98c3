//! Workloads and the harness that measures them.
//!
//! ```text
//! cargo run --release -p optimist-bench [-- [WORKLOAD]... [--threads 1,2] [--rounds N] [--json FILE]]
//! ```

mod conflicts;
mod harness;
mod workloads;

use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut names, mut threads, mut rounds, mut file) = (Vec::new(), vec![1, 2], 10, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--threads" => {
                let list = value()?;
                threads = list
                    .split(',')
                    .map(|n| n.parse().ok().filter(|n| *n > 0))
                    .collect::<Option<_>>()
                    .ok_or_else(|| format!("`{list}` is not a list of numbers of threads"))?;
            }
            "--rounds" => {
                let text = value()?;
                rounds = text
                    .parse()
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| format!("`{text}` is not a number of rounds"))?;
            }
            "--json" => file = Some(value()?),
            name => names.push(name.to_owned()),
        }
    }
    let mut all = workloads::all();
    let known: Vec<&str> = all.iter().map(|workload| workload.name()).chain(["conflicts"]).collect();
    // `p2p` stands for all whose names begin with `p2p-`.
    let stands_for =
        |name: &str, known: &str| known == name || known.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    if let Some(name) = names.iter().find(|name| !known.iter().any(|known| stands_for(name, known))) {
        return Err(format!("there is no workload `{name}`; there are {}", known.join(", ")));
    }
    let mut report = serde_json::Map::new();
    report.insert("machine".into(), machine());
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| stands_for(wanted, name));
    for workload in all.iter_mut().filter(|workload| wanted(workload.name())) {
        report.insert(workload.name().into(), harness::measure(workload.as_mut(), &threads, rounds));
    }
    if wanted("conflicts") {
        report.insert("conflicts".into(), conflicts::measure());
    }
    if let Some(file) = file {
        let text = serde_json::to_string_pretty(&report).expect("plain values can be written as JSON");
        std::fs::write(&file, text + "\n").map_err(|error| format!("cannot write {file}: {error}"))?;
    }
    Ok(())
}

/// Processor, cores and load.
fn machine() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|pair| pair.1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{}, {cores} cores, load {}", model.unwrap_or("unknown processor"), load.trim());
    json!({ "processor": model, "cores": cores, "load": load.trim() })
}
