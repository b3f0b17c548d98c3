//! The flights of the example, every record an event, on several threads and under every protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use optimist_flowgraph::barrier::Protocol;
use optimist_flowgraph::vm::{Collected, ColumnKind, Interruption, RecordHeader, Rows, Vm, VmConfig};
use optimist_flowgraph::{Source, compile};
use optimist_stm::attempt::Mode;
use optimist_stm::protocol::{Kind, Shipped};
use optimist_stm::run::Interrupt;
use optimist_stm::runtime::execute_with;
use optimist_stm::with_protocol;

fn data(name: &str) -> String {
    let path = format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn records(csv: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    (lines.next().expect("a header"), lines.collect())
}

/// What the program prints when these records are spread over so many threads.
fn run<P: Protocol + Shipped>(csv: &str, threads: usize) -> String {
    let program = compile(&Source::new("flights.flow", data("flights.flow"))).expect("a right program");
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut worker = vm.worker();
    vm.initialise(&mut worker, &mut Collected::default()).expect("no failure");
    let (names, records) = records(csv);
    let columns = names.iter().zip(&records[0]).map(|(name, field)| ((*name).to_owned(), ColumnKind::of_field(field)));
    let mut rows = Rows::new(&Arc::new(RecordHeader::new(&vm, &mut worker, columns.collect())));
    for fields in &records {
        rows.push(fields.iter().copied()).expect("a right record");
    }
    let record = vm.function("record").expect("a handler");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = vm.worker();
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    if index >= rows.len() {
                        break;
                    }
                    let done: Result<(), Interruption> = execute_with::<P, _, _>(Mode::Update, |tx| {
                        if worker.is_in_event() {
                            worker.end(false);
                        }
                        worker.begin();
                        let row = rows.make(&mut worker, index);
                        match vm.call::<P>(tx, &mut worker, record, &[row], &mut Collected::default()) {
                            Ok(_) => Ok(()),
                            Err(Interruption::Abort(abort)) => Err(Interrupt::Abort(abort)),
                            Err(other) => Err(Interrupt::Error(other)),
                        }
                    });
                    done.expect("no failure");
                    worker.end(true);
                }
            });
        }
    });
    let mut context = Collected::default();
    vm.run_event(&mut worker, vm.function("finish").expect("an end"), &[], &mut context).expect("no failure");
    context.output
}

/// The same table, computed another way.
fn expected(csv: &str) -> String {
    #[derive(Default)]
    struct Sums {
        departures: i64,
        arrivals: i64,
        delay: i64,
        worst: Option<i64>,
        miles: i64,
    }
    impl Sums {
        fn add(&mut self, delay: i64, miles: i64) {
            self.delay += delay;
            self.worst = self.worst.max(Some(delay));
            self.miles += miles;
        }
    }
    let (mut airports, mut routes) = (BTreeMap::<String, Sums>::new(), BTreeMap::<String, Sums>::new());
    for fields in records(csv).1 {
        let (delay, miles) = (fields[1].parse().expect("a delay"), fields[2].parse().expect("miles"));
        let origin = airports.entry(fields[3].to_owned()).or_default();
        origin.departures += 1;
        origin.add(delay, miles);
        let destination = airports.entry(fields[4].to_owned()).or_default();
        destination.arrivals += 1;
        destination.add(delay, miles);
        let route = routes.entry(format!("{}-{}", fields[3], fields[4])).or_default();
        route.departures += 1;
        route.add(delay, miles);
    }
    let sorted = |sums: BTreeMap<String, Sums>| {
        let mut rows: Vec<_> = sums.into_iter().collect();
        rows.sort_by_key(|(_, sums)| -(sums.departures + sums.arrivals));
        rows
    };
    let mut text = "airport  departures  arrivals  delay  worst     miles\n".to_owned();
    for (name, s) in sorted(airports) {
        let mean = s.delay.div_euclid(s.departures + s.arrivals);
        text +=
            &format!("{name:7} {:11} {:9} {mean:6} {:6} {:9}\n", s.departures, s.arrivals, s.worst.unwrap(), s.miles);
    }
    text += "\nroute    flights  delay  worst     miles\n";
    for (name, s) in sorted(routes) {
        let mean = s.delay.div_euclid(s.departures);
        text += &format!("{name} {:8} {mean:6} {:6} {:9}\n", s.departures, s.worst.unwrap(), s.miles);
    }
    text
}

#[test]
fn the_table_is_right_for_any_number_of_threads_and_any_protocol() {
    let mut csv = data("data/flights-20k.csv");
    if cfg!(debug_assertions) {
        // Builds that are not optimised get a part of the day.
        csv = csv.lines().take(2000).map(|line| format!("{line}\n")).collect();
    }
    let expected = expected(&csv);
    for kind in Kind::ALL {
        for threads in [1, 2, 4, 8] {
            let printed = with_protocol!(kind, P => run::<P>(&csv, threads));
            assert!(printed == expected, "{kind} on {threads} threads printed\n{printed}\ninstead of\n{expected}");
        }
    }
}

#[test]
fn a_broken_record_says_what_was_expected() {
    let program = compile(&Source::new("flights.flow", data("flights.flow"))).expect("a right program");
    let vm = Vm::new(program, VmConfig::default()).expect("a small program");
    let mut worker = vm.worker();
    let columns = vec![("delay".to_owned(), ColumnKind::Integer), ("origin".to_owned(), ColumnKind::Text)];
    let mut rows = Rows::new(&Arc::new(RecordHeader::new(&vm, &mut worker, columns)));
    let mut wrong = |fields: &[&str]| rows.push(fields.iter().copied()).expect_err("it is broken").to_string();
    assert_eq!(wrong(&["x1", "SAN"]), "expected an integer in the column `delay`, found `x1`");
    assert_eq!(wrong(&["1"]), "expected 2 fields, found 1");
    assert_eq!(wrong(&["1", "SAN", ""]), "expected 2 fields, found 3");
    assert!(rows.is_empty(), "a broken record leaves nothing behind");
    assert!(rows.push(["", "SAN"].into_iter()).is_ok());
    assert_eq!(rows.len(), 1);
}
