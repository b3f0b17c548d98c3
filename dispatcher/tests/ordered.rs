//! Ordered mode: results and output equal those of running the events one after the other. `OPTIMIST_PROGRAMS=N` sets how many random programs
//! are tried.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use optimist_dispatcher::{
    Config, Event, EventResult, Failure, Kind, OnError, Order, Output, Participant, TVar, TransactionQueue, outln,
};
use proptest::prelude::*;

/// One step of an event of a random program.
#[derive(Clone, Debug)]
enum Step {
    /// Cell a becomes cell b plus cell c, times 3.
    Combine(usize, usize, usize),
    /// Prints a cell.
    Print(usize),
    /// Adds an event that runs the steps from there on, if the cell is odd.
    Add(usize),
    /// Fails if the cell is divisible by five; the failure is caught and what it guards undone.
    Guarded(usize, usize),
    /// Fails if the cell is divisible by seven.
    Fail(usize),
    /// Runs again afterwards, if the cell is divisible by four.
    Again(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, 0..4_usize, 0..4_usize).prop_map(|(a, b, c)| Step::Combine(a, b, c)),
        2 => (0..4_usize).prop_map(Step::Print),
        1 => (0..4_usize).prop_map(Step::Add),
        1 => (0..4_usize, 0..4_usize).prop_map(|(a, b)| Step::Guarded(a, b)),
        1 => (0..4_usize).prop_map(Step::Fail),
        1 => (0..4_usize).prop_map(Step::Again),
    ]
}

fn event(steps: Arc<[Step]>, from: usize, cells: Arc<[TVar<u64>]>) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
    let runs = Arc::new(AtomicU32::new(0));
    move |ev| {
        // Counted by those that commit, so that it does not go on for ever.
        let once = runs.load(Ordering::Relaxed) == 0;
        for (index, step) in steps.iter().enumerate().skip(from) {
            match *step {
                Step::Combine(a, b, c) => {
                    let sum = cells[b].get(ev)?.wrapping_add(cells[c].get(ev)?).wrapping_mul(3);
                    cells[a].set(ev, sum)?;
                }
                Step::Print(a) => {
                    let value = cells[a].get(ev)?;
                    outln!(ev, "{} {value}", ev.number());
                }
                Step::Add(a) => {
                    if cells[a].get(ev)? % 2 == 1 {
                        ev.add(event(steps.clone(), index + 1, cells.clone()));
                    }
                }
                Step::Guarded(a, b) => {
                    let _ = ev.nested(|ev| {
                        cells[b].modify(ev, |n| n ^ 1)?;
                        outln!(ev, "guarded");
                        if cells[a].get(ev)? % 5 == 0 { ev.fail("five") } else { Ok(()) }
                    })?;
                }
                Step::Fail(a) => {
                    if cells[a].get(ev)? % 7 == 0 {
                        return ev.fail("seven");
                    }
                }
                Step::Again(a) => {
                    if once && cells[a].get(ev)? % 4 == 0 {
                        let runs = runs.clone();
                        ev.on_commit(move || runs.store(1, Ordering::Relaxed));
                        ev.again();
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the program printed, the cells in the end, how many events committed and how many failed.
type Outcome = (String, Vec<u64>, u64, u64);

fn run(program: &[Arc<[Step]>], threads: usize, protocol: Kind) -> Outcome {
    let (stdout, printed) = Output::memory("printed");
    let (order, on_error) = (Order::Ordered, OnError::Collect);
    let config = Config { threads, protocol: Some(protocol), order, on_error, stdout, ..Config::default() };
    let queue = TransactionQueue::new(config);
    let cells: Arc<[TVar<u64>]> = (1..=4).map(TVar::new).collect();
    for steps in program {
        queue.add(event(steps.clone(), 0, cells.clone()));
    }
    let report = queue.run().unwrap();
    (printed.text(), cells.iter().map(TVar::load).collect(), report.counters.commits, report.counters.failures)
}

/// The same without transactions, threads or queue.
fn sequentially(program: &[Arc<[Step]>]) -> Outcome {
    let (mut text, mut cells, mut commits, mut failures) = (String::new(), vec![1, 2, 3, 4_u64], 0, 0);
    let mut queue: VecDeque<(Arc<[Step]>, usize, bool)> =
        program.iter().map(|steps| (steps.clone(), 0, true)).collect();
    while let Some((steps, from, once)) = queue.pop_front() {
        let before = (text.len(), cells.clone(), queue.len());
        let (mut failed, mut again) = (false, false);
        for (index, step) in steps.iter().enumerate().skip(from) {
            match *step {
                Step::Combine(a, b, c) => cells[a] = cells[b].wrapping_add(cells[c]).wrapping_mul(3),
                Step::Print(a) => text += &format!("{} {}\n", commits + failures, cells[a]),
                Step::Add(a) if cells[a] % 2 == 1 => queue.push_back((steps.clone(), index + 1, true)),
                Step::Add(_) => {}
                Step::Guarded(a, b) => {
                    cells[b] ^= 1;
                    if cells[a].is_multiple_of(5) {
                        cells[b] ^= 1;
                    } else {
                        text += "guarded\n";
                    }
                }
                Step::Fail(a) if cells[a].is_multiple_of(7) => {
                    failed = true;
                    break;
                }
                Step::Fail(_) => {}
                Step::Again(a) => again |= once && cells[a].is_multiple_of(4),
            }
        }
        if failed {
            failures += 1;
            text.truncate(before.0);
            cells = before.1;
            queue.truncate(before.2);
        } else {
            commits += 1;
            if again {
                queue.push_back((steps, from, false));
            }
        }
    }
    (text, cells, commits, failures)
}

fn programs() -> u32 {
    std::env::var("OPTIMIST_PROGRAMS").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: programs(), ..ProptestConfig::default() })]

    #[test]
    fn random_programs_give_the_sequential_output(
        program in prop::collection::vec(prop::collection::vec(step(), 1..8).prop_map(Arc::from), 1..30),
        times in prop_oneof![Just(1), 2..20_usize],
    ) {
        // Long enough for batches to form, now and then.
        let program: Vec<Arc<[Step]>> = program.iter().cycle().take(program.len() * times).cloned().collect();
        let expected = sequentially(&program);
        prop_assert_eq!(&run(&program, 1, Kind::GlobalLock), &expected);
        for protocol in [Kind::Tl2, Kind::Norec, Kind::Mvcc, Kind::Eager] {
            for threads in [2, 4] {
                prop_assert_eq!(&run(&program, threads, protocol), &expected);
            }
        }
    }
}

/// Events that do not touch each other's cells need one attempt each, although they run ahead.
#[test]
fn independent_events_are_validated_once() {
    let (stdout, printed) = Output::memory("printed");
    let config = Config { threads: 4, protocol: Some(Kind::Tl2), order: Order::Ordered, stdout, ..Config::default() };
    let queue = TransactionQueue::new(config);
    let cells: Arc<[TVar<u64>]> = (0..1000).map(|_| TVar::new(0)).collect();
    for n in 0..10_000 {
        let cells = cells.clone();
        queue.add(move |ev| {
            cells[n % 1000].modify(ev, |n| n + 1)?;
            outln!(ev, "{n}");
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!(printed.text(), (0..10_000).map(|n| format!("{n}\n")).collect::<String>());
    assert!(report.counters.attempts_per_commit() < 1.05, "{report}");
}

/// An event that only reads runs ahead of one that writes; it must not commit as of the moment at which it started.
#[test]
fn an_event_that_only_reads_sees_all_earlier_ones() {
    for protocol in [Kind::Tl2, Kind::Norec, Kind::Mvcc] {
        let (stdout, printed) = Output::memory("printed");
        let config =
            Config { threads: 2, protocol: Some(protocol), order: Order::Ordered, stdout, ..Config::default() };
        let queue = TransactionQueue::new(config);
        let cell = TVar::new(0);
        for n in 1..=50 {
            let (writer, reader) = (cell.clone(), cell.clone());
            queue.add(move |ev| {
                std::thread::sleep(Duration::from_micros(200));
                Ok(writer.set(ev, n)?)
            });
            queue.add(move |ev| {
                let value = reader.get(ev)?;
                outln!(ev, "{value}");
                Ok(())
            });
        }
        queue.run().unwrap();
        assert_eq!(printed.text(), (1..=50).map(|n| format!("{n}\n")).collect::<String>(), "{protocol}");
    }
}

/// Takes something from its preparation to the end of its event, as another system's transaction does.
struct Holder(Arc<(Mutex<bool>, Condvar)>);

impl Holder {
    fn let_go(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }
}

impl Participant for Holder {
    fn prepare(&mut self) -> Result<(), Failure> {
        let (held, changed) = &*self.0;
        let limit = Duration::from_secs(5);
        let (mut held, waited) = changed.wait_timeout_while(held.lock().unwrap(), limit, |held| *held).unwrap();
        *held = true;
        if waited.timed_out() { Err("a later event holds it".into()) } else { Ok(()) }
    }

    fn commit(self: Box<Self>) {
        self.let_go();
    }

    fn rollback(self: Box<Self>) {
        self.let_go();
    }
}

/// Were a participant asked ahead of its event's turn, it could hold what an earlier one waits for.
#[test]
fn participants_are_asked_in_the_order_of_their_events() {
    let queue = TransactionQueue::new(Config {
        threads: 2,
        protocol: Some(Kind::Tl2),
        order: Order::Ordered,
        ..Config::default()
    });
    let (shared, cells) =
        (Arc::<(Mutex<bool>, Condvar)>::default(), (0..64).map(|_| TVar::new(0)).collect::<Arc<[_]>>());
    for n in 0..20_000_usize {
        let (shared, cells) = (Arc::clone(&shared), Arc::clone(&cells));
        queue.add(move |ev| {
            cells[n % 64].modify(ev, |count| count + 1)?;
            if n % 7 == 0 {
                ev.enlist(Holder(shared.clone()));
            }
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert!(report.counters.batched > 0, "{report}");
}

/// Real flights, each an event that prints how many have left from and arrived at its airports so far: what is printed depends on the order.
#[test]
fn flights_print_the_same_on_any_number_of_threads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/flights-20k.csv");
    let text = std::fs::read_to_string(path).unwrap();
    let mut names: Vec<&str> = text.lines().skip(1).flat_map(|line| line.split(',').skip(3).take(2)).collect();
    names.sort_unstable();
    names.dedup();
    let find = |name: &str| names.binary_search(&name).unwrap();
    let flights: Vec<(usize, usize, i64)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            (find(fields[3]), find(fields[4]), fields[1].parse().unwrap())
        })
        .collect();
    let mut expected = String::new();
    let mut airports = vec![(0_i64, 0_i64); names.len()];
    for &(from, to, delay) in &flights {
        airports[from].0 += 1;
        airports[from].1 += delay;
        airports[to].0 += 1;
        expected += &format!("{from} {} {} {to} {}\n", airports[from].0, airports[from].1, airports[to].0);
    }
    for protocol in [Kind::Tl2, Kind::Eager] {
        for threads in [1, 2, 4, 8] {
            let (stdout, printed) = Output::memory("printed");
            let protocol = Some(protocol);
            let queue =
                TransactionQueue::new(Config { threads, protocol, order: Order::Ordered, stdout, ..Config::default() });
            let airports: Arc<[(TVar<i64>, TVar<i64>)]> = names.iter().map(|_| Default::default()).collect();
            for &(from, to, delay) in &flights {
                let airports = airports.clone();
                queue.add(move |ev| {
                    airports[from].0.modify(ev, |n| n + 1)?;
                    airports[from].1.modify(ev, |n| n + delay)?;
                    airports[to].0.modify(ev, |n| n + 1)?;
                    let (count, late) = (airports[from].0.get(ev)?, airports[from].1.get(ev)?);
                    let arrived = airports[to].0.get(ev)?;
                    outln!(ev, "{from} {count} {late} {to} {arrived}");
                    Ok(())
                });
            }
            assert_eq!(queue.run().unwrap().counters.commits, 20_000);
            assert!(printed.text() == expected, "{threads} threads");
        }
    }
}
