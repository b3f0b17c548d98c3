//! Developer commands: `cargo xtask COMMAND`.
//!
//! Long checks live here; `cargo xtask test` runs them in a short form.

use std::process::{Command, ExitCode};

/// A developer command: its name, what it is for, and what it does with the rest of the command line.
struct Task {
    name: &'static str,
    purpose: &'static str,
    run: fn(&[String]) -> bool,
}

/// All of them.
const TASKS: &[Task] = &[
    Task { name: "test", purpose: "every test, in the short form that CI runs", run: test },
    Task { name: "lint", purpose: "formatting and lints, warnings being errors", run: lint },
    Task {
        name: "check-protocols",
        purpose: "model-check every shipped protocol: [--budget 30m]",
        run: check_protocols,
    },
    Task { name: "faults", purpose: "a million faults at every step of stm's transactions: [COUNT]", run: faults },
    Task {
        name: "prove",
        purpose: "stm's models and every fault that can be planted, with all details: [NAME,…]",
        run: prove,
    },
    Task {
        name: "overnight",
        purpose: "the long forms of stm's models, faults, histories and schedules",
        run: overnight,
    },
    Task { name: "soak", purpose: "a hundred thousand random programs, and the long memory tests", run: soak },
    Task {
        name: "fuzz",
        purpose: "the fuzz targets: [TARGET…] [--seconds 60] (needs a nightly toolchain and cargo-fuzz)",
        run: fuzz,
    },
    Task {
        name: "sanitize",
        purpose: "sanitizers over stm's tests: [thread] [address] (needs a nightly toolchain with rust-src)",
        run: sanitize,
    },
    Task { name: "bench", purpose: "the benchmarks of `benches`", run: bench },
    Task { name: "compare", purpose: "the benchmarks beside the rivals, in a package of their own", run: compare },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = arguments.first().and_then(|name| TASKS.iter().find(|task| task.name == name));
    let Some(task) = task else {
        eprintln!("usage: cargo xtask COMMAND\n");
        for task in TASKS {
            eprintln!("  {:<16} {}", task.name, task.purpose);
        }
        return ExitCode::from(2);
    };
    if (task.run)(&arguments[1..]) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a program with the terminal's input and output, and says whether it succeeded.
fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> bool {
    eprintln!("$ {program} {}", arguments.join(" "));
    let status = Command::new(program).args(arguments).envs(environment.iter().copied()).status();
    match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("cannot run {program}: {error}");
            false
        }
    }
}

fn cargo(arguments: &[&str]) -> bool {
    run("cargo", arguments, &[])
}

fn test(_: &[String]) -> bool {
    // Tests run the examples' programs; some examples have tests of their own.
    cargo(&["build", "--release", "--examples"])
        && cargo(&["test", "--release", "--workspace"])
        && cargo(&["test", "--release", "--example", "redis_server", "--example", "embedding"])
        && cargo(&["test", "--release", "-p", "optimist-dispatcher", "--features", "tracing", "--test", "spans"])
}

fn lint(_: &[String]) -> bool {
    cargo(&["fmt", "--all", "--check"]) && cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn check_protocols(arguments: &[String]) -> bool {
    let mut command = vec!["run", "--release", "--", "check-protocol", "all"];
    command.extend(arguments.iter().map(String::as_str));
    cargo(&command)
}

/// The tests of stm that need the model checker's crates.
fn checks(tests: &[&str], environment: &[(&str, &str)]) -> bool {
    let mut arguments = vec!["test", "--release", "--package", "optimist-stm", "--features", "check"];
    tests.iter().for_each(|test| arguments.extend(["--test", test]));
    arguments.extend(["--", "--nocapture"]);
    run("cargo", &arguments, environment)
}

fn faults(arguments: &[String]) -> bool {
    checks(&["faults"], &[("OPTIMIST_FAULTS", arguments.first().map_or("1000000", String::as_str))])
}

fn prove(arguments: &[String]) -> bool {
    checks(&["loom"], &[("OPTIMIST_PROVE", arguments.first().map_or("all", String::as_str))])
}

fn overnight(_: &[String]) -> bool {
    let histories = [("OPTIMIST_HISTORIES", "1000000000"), ("OPTIMIST_SCHEDULES", "100000000")];
    checks(&["faults"], &[("OPTIMIST_FAULTS", "1000000")])
        && checks(&["histories"], &histories)
        && checks(&["loom"], &[("OPTIMIST_CHECK", "long")])
}

fn soak(_: &[String]) -> bool {
    run("cargo", &["test", "--release", "--workspace"], &[("OPTIMIST_PROGRAMS", "100000"), ("OPTIMIST_LONG", "1")])
}

/// The fuzz targets, by their files in `fuzz/fuzz_targets`.
const FUZZ_TARGETS: &[&str] = &["front_end", "core_programs", "programs"];

/// Runs each target for a while, with the examples to begin from. What is found stays in `fuzz/artifacts`.
fn fuzz(arguments: &[String]) -> bool {
    let mut seconds = "60".to_owned();
    let mut targets = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => seconds = rest.next().cloned().unwrap_or_default(),
            target if FUZZ_TARGETS.contains(&target) => targets.push(target),
            other => {
                eprintln!("there is no target `{other}`; there are {}", FUZZ_TARGETS.join(", "));
                return false;
            }
        }
    }
    if targets.is_empty() {
        targets = FUZZ_TARGETS.to_vec();
    }
    let time = format!("-max_total_time={seconds}");
    targets.iter().all(|target| {
        let corpus = format!("fuzz/corpus/{target}");
        if let Err(error) = seed(&corpus) {
            eprintln!("cannot fill {corpus}: {error}");
            return false;
        }
        let limits = ["-max_len=4096", "-rss_limit_mb=2048", "-timeout=60"];
        cargo(&["+nightly", "fuzz", "run", target, &corpus, "--", &time, limits[0], limits[1], limits[2]])
    })
}

/// Puts the example programs where a fuzz target begins.
fn seed(corpus: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(corpus)?;
    for entry in std::fs::read_dir("examples")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "flow")
            && let Some(name) = path.file_name()
        {
            std::fs::copy(&path, std::path::Path::new(corpus).join(name))?;
        }
    }
    Ok(())
}

/// What the tests are to do under a sanitizer, which takes ten to fifty times as long. Schedules are those of a model checker, which runs its
/// threads on one: there is nothing for a sanitizer to see.
const SANITIZED: &[(&str, &str)] =
    &[("OPTIMIST_HISTORIES", "400000"), ("OPTIMIST_SCHEDULES", "0"), ("OPTIMIST_BODIES", "100000")];

/// The standard library is compiled for the sanitizer as well, so that it sees all of what orders one thread after another: there is no list
/// of what it is to overlook.
fn sanitize(arguments: &[String]) -> bool {
    let which = match arguments {
        [] => vec!["thread", "address"],
        _ => arguments.iter().map(String::as_str).collect(),
    };
    which.iter().all(|sanitizer| {
        let flags = format!("-Zsanitizer={sanitizer}");
        let folder = format!("target/sanitize-{sanitizer}");
        let common =
            ["+nightly", "test", "-Zbuild-std", "--target", "x86_64-unknown-linux-gnu", "--target-dir", &folder];
        let tests = |more: &[&str]| {
            let arguments = [&common[..], &["--release", "--package", "optimist-stm"], more].concat();
            // The blocks that variables are made in stay for good, which looks like a leak.
            let ours = [("RUSTFLAGS", flags.as_str()), ("ASAN_OPTIONS", "detect_leaks=0")];
            run("cargo", &arguments, &[&ours, SANITIZED].concat())
        };
        tests(&["--tests"]) && tests(&["--features", "check", "--test", "conformance", "--test", "histories"])
    })
}

fn bench(arguments: &[String]) -> bool {
    let mut command = vec!["run", "--release", "--package", "optimist-bench", "--"];
    command.extend(arguments.iter().map(String::as_str));
    cargo(&command)
}

fn compare(arguments: &[String]) -> bool {
    let mut command = vec!["run", "--release", "--manifest-path", "benches/compare/Cargo.toml", "--"];
    command.extend(arguments.iter().map(String::as_str));
    cargo(&command)
}
