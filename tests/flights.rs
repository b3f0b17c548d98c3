//! The main job: the flights example prints the same table on any number of threads and under any protocol, and it is the right one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use optimist::stm::Kind;

const DATA: &str = "examples/data/flights-20k.csv";

#[derive(Clone, Copy)]
struct Place {
    departures: i64,
    arrivals: i64,
    delay: i64,
    worst: i64,
    miles: i64,
}

/// The table, computed with nothing of ours.
fn expected() -> String {
    let text = std::fs::read_to_string(DATA).expect("the data");
    let mut airports: BTreeMap<&str, Place> = BTreeMap::new();
    let mut routes: BTreeMap<String, Place> = BTreeMap::new();
    let add = |place: &mut Place, leaves: bool, delay: i64, miles: i64| {
        if leaves {
            place.departures += 1
        } else {
            place.arrivals += 1
        }
        place.delay += delay;
        place.worst = place.worst.max(delay);
        place.miles += miles;
    };
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let (delay, miles): (i64, i64) = (fields[1].parse().expect("a delay"), fields[2].parse().expect("miles"));
        let new = Place { departures: 0, arrivals: 0, delay: 0, worst: delay, miles: 0 };
        add(airports.entry(fields[3]).or_insert(new), true, delay, miles);
        add(airports.entry(fields[4]).or_insert(new), false, delay, miles);
        add(routes.entry(format!("{}-{}", fields[3], fields[4])).or_insert(new), true, delay, miles);
    }
    let mut out = String::new();
    let _ =
        writeln!(out, "airport {:>11} {:>9} {:>6} {:>6} {:>9}", "departures", "arrivals", "delay", "worst", "miles");
    let mut sorted: Vec<_> = airports.into_iter().collect();
    sorted.sort_by_key(|(name, place)| (Reverse(place.departures + place.arrivals), *name));
    for (name, place) in sorted {
        let Place { departures, arrivals, delay, worst, miles } = place;
        let mean = delay.div_euclid(departures + arrivals);
        let _ = writeln!(out, "{name:<7} {departures:>11} {arrivals:>9} {mean:>6} {worst:>6} {miles:>9}");
    }
    let _ = writeln!(out, "\nroute   {:>8} {:>6} {:>6} {:>9}", "flights", "delay", "worst", "miles");
    let mut sorted: Vec<_> = routes.into_iter().collect();
    sorted.sort_by(|a, b| (Reverse(a.1.departures), &a.0).cmp(&(Reverse(b.1.departures), &b.0)));
    for (name, Place { departures: flights, delay, worst, miles, .. }) in sorted {
        let _ = writeln!(out, "{name} {flights:>8} {:>6} {worst:>6} {miles:>9}", delay.div_euclid(flights));
    }
    out
}

/// What a command prints; it must succeed.
fn output(mut command: Command) -> String {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_program_prints_the_right_table_on_any_number_of_threads_under_any_protocol() {
    let expected = expected();
    assert!(expected.lines().count() > 500);
    for protocol in Kind::ALL {
        for threads in ["1", "2", "4", "8"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_optimist"));
            command.args(["run", "examples/flights.flow", "--events", DATA, "--threads", threads]);
            command.args(["--protocol", protocol.name()]);
            assert_eq!(output(command), expected, "{protocol}, {threads} threads");
        }
    }
}

#[test]
fn the_rust_program_prints_the_same() {
    let folder = std::env::current_exe().expect("this test's own path");
    let program = folder.ancestors().nth(2).expect("the build's folder").join("examples/flights");
    assert!(
        program.exists(),
        "the examples are not built: run all tests, or `cargo build --examples` in the same profile"
    );
    for threads in ["1", "2", "4", "8"] {
        let mut command = Command::new(&program);
        command.args([threads, DATA]);
        assert_eq!(output(command), expected(), "{threads} threads");
    }
}
