//! The Redis-speaking server of the examples beside redis-server, in one run.
//!
//! ```text
//! cargo build --release --example redis_server
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin redis [-- --rounds N] [--millis N] [--only WORD] [--json FILE]
//! ```
//!
//! Both are started by this program, are sent the same requests over 50 connections by one thread, and run in turn, round after round. The
//! best round of each counts, so that whatever else the machine does spoils the same share of both. Beside the throughput there is the time
//! that the server's process took for each request, from the kernel's accounts. A request is what a line says: of `MULTI` all four commands.
//! `--server PATH` and `--rival PATH` name the programs. `--only` selects rows: those of the first table are called `MULTI INCR INCR EXEC 16`, those of
//! the last `MULTI INCR INCR EXEC 16 log`.

mod load;
mod process;

use std::time::Duration;

use load::{Load, Workload};
use process::Process;

/// A workload, how many requests are under way on a connection, and what is to be reached: throughput over the rival's.
struct Row {
    workload: Workload,
    depth: usize,
    goal: f64,
}

impl Row {
    /// What `--only` is looked for in.
    fn name(&self) -> String {
        format!("{} {}", self.workload.name, self.depth)
    }
}

/// What a server has done in its best round.
#[derive(Clone, Copy, Default)]
struct Best {
    /// Requests a second.
    rate: f64,
    /// Microseconds of the server's processor time for each, in the round where it was least.
    cpu: f64,
}

impl Best {
    /// A round. Says how many requests a second that were.
    fn note(&mut self, server: &Process, workload: &Workload, depth: usize, time: Duration, round: u64) -> f64 {
        let mut load = Load::new(server.address, workload, depth);
        let before = server.cpu();
        let (requests, seconds) = load.closed(time);
        let (rate, cpu) = (requests as f64 / seconds, (server.cpu() - before) * 1e6 / requests as f64);
        // The first round fills the keyspace and warms up.
        if round > 0 {
            self.rate = self.rate.max(rate);
            self.cpu = if self.cpu == 0.0 { cpu } else { self.cpu.min(cpu) };
        }
        rate
    }
}

fn rows() -> Vec<Row> {
    let row = |workload: Workload, depth, goal| Row { workload, depth, goal };
    vec![
        row(Workload::set(), 1, 1.0),
        row(Workload::get(), 1, 1.0),
        row(Workload::incr(), 1, 1.0),
        row(Workload::transaction(2), 1, 1.5),
        row(Workload::set(), 16, 1.0),
        row(Workload::get(), 16, 1.0),
        row(Workload::incr(), 16, 1.0),
        row(Workload::transaction(2), 16, 1.3),
        row(Workload::transaction(50), 1, 1.5),
        row(Workload::sort(), 1, 1.5),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).map(String::as_str)
    };
    let number = |name: &str, default: u64| option(name).map_or(default, |n| n.parse().expect("a number"));
    let (rounds, time) = (number("--rounds", 5), Duration::from_millis(number("--millis", 300)));
    let program = option("--server").unwrap_or("target/release/examples/redis_server");
    let own = Process::own(program, &[]);
    let rival = Process::rival(option("--rival").unwrap_or("redis-server"));
    let servers = [own, rival];
    let only = option("--only");
    let rows: Vec<Row> = rows().into_iter().filter(|row| only.is_none_or(|only| row.name().contains(only))).collect();

    let mut best = vec![[Best::default(); 2]; rows.len()];
    for round in 0..=rounds {
        for (row, best) in rows.iter().zip(&mut best) {
            for (server, best) in servers.iter().zip(best) {
                best.note(server, &row.workload, row.depth, time, round);
            }
        }
    }
    println!("| requests | under way | thousand a second | redis-server | ratio (goal) | CPU µs each | redis-server |");
    println!("|---|---|---|---|---|---|---|");
    let mut report = Vec::new();
    for (row, [own, rival]) in rows.iter().zip(&best) {
        let ratio = own.rate / rival.rate;
        let miss = if ratio < row.goal { " ✗" } else { "" };
        println!(
            "| {} | {} | {:.1} | {:.1} | {ratio:.2} (≥ {}){miss} | {:.2} | {:.2} |",
            row.workload.name,
            row.depth,
            own.rate / 1e3,
            rival.rate / 1e3,
            row.goal,
            own.cpu,
            rival.cpu
        );
        report.push(serde_json::json!({
            "requests": row.workload.name, "depth": row.depth, "goal": row.goal,
            "rate": [own.rate, rival.rate], "cpu_us": [own.cpu, rival.cpu],
        }));
    }

    println!("\n| at 70 % of its own peak | thousand a second | p50 µs | p99 µs | p99.9 µs |");
    println!("|---|---|---|---|---|");
    let mut latencies = Vec::new();
    for (row, best) in rows.iter().zip(&best).filter(|(row, _)| row.depth == 1 && row.goal == 1.0) {
        for (server, (name, best)) in servers.iter().zip(["this server", "redis-server"].iter().zip(best)) {
            let mut least = [f64::INFINITY; 3];
            for _ in 0..rounds {
                let seen = Load::new(server.address, &row.workload, 1).open(time, best.rate * 0.7);
                for (least, seen) in least.iter_mut().zip(seen) {
                    *least = least.min(seen);
                }
            }
            let rate = best.rate * 0.7 / 1e3;
            println!(
                "| {}, {name} | {rate:.1} | {:.0} | {:.0} | {:.0} |",
                row.workload.name, least[0], least[1], least[2]
            );
            latencies
                .push(serde_json::json!({ "requests": row.workload.name, "server": name, "rate": rate, "us": least }));
        }
    }

    let logged = logged(&servers[0], program, rounds, time, only);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\nload {}", load.trim());
    if let Some(file) = option("--json") {
        let report = serde_json::json!({ "load": load.trim(), "rounds": rounds, "throughput": report, "latency": latencies, "logged": logged });
        let text = serde_json::to_string_pretty(&report).expect("plain values can be written as JSON");
        std::fs::write(file, text + "\n").expect("the report can be written");
    }
}

/// The log on and off.
fn logged(plain: &Process, program: &str, rounds: u64, time: Duration, only: Option<&str>) -> Vec<serde_json::Value> {
    println!(
        "\n| with the log | under way | thousand a second | without | median ratio | CPU µs each | without | ratio (goal ≤ 1.15) |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let file = std::env::temp_dir().join(format!("optimist-compare-{}.aof", std::process::id()));
    let server = Process::own(program, &["--aof", file.to_str().expect("a path of text")]);
    let mut report = Vec::new();
    for (workload, depth) in
        [(Workload::set(), 1), (Workload::incr(), 1), (Workload::set(), 16), (Workload::transaction(2), 16)]
    {
        if only.is_some_and(|only| !format!("{} {depth} log", workload.name).contains(only)) {
            continue;
        }
        let (mut best, mut ratios) = ([Best::default(); 2], Vec::new());
        for round in 0..=rounds {
            let rate = [&server, plain]
                .iter()
                .zip(&mut best)
                .map(|(server, best)| best.note(server, &workload, depth, time, round))
                .collect::<Vec<_>>();
            if round > 0 {
                ratios.push(rate[0] / rate[1]);
            }
        }
        ratios.sort_by(f64::total_cmp);
        let ([own, without], ratio) = (best, ratios[ratios.len() / 2]);
        println!(
            "| {} | {depth} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} |",
            workload.name,
            own.rate / 1e3,
            without.rate / 1e3,
            ratio,
            own.cpu,
            without.cpu,
            own.cpu / without.cpu
        );
        report.push(serde_json::json!({
            "requests": workload.name, "depth": depth, "rate": [own.rate, without.rate], "ratio": ratio, "cpu_us": [own.cpu, without.cpu],
        }));
    }
    drop(server);
    let _ = std::fs::remove_file(file);
    report
}
