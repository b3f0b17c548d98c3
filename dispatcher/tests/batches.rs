//! Tiny events are committed several at a time, and nobody can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use optimist_dispatcher::{
    Abort, Config, Event, EventResult, Interrupt, OnError, Options, Order, Output, Participant, Report, TVar,
    TransactionQueue, outln,
};

fn queue(threads: usize, batch: u32) -> (TransactionQueue, optimist_dispatcher::effects::Memory) {
    let (stdout, printed) = Output::memory("printed");
    let on_error = OnError::Collect;
    // On one thread the order in which events start is then the order in which they were added.
    let order = if threads == 1 { Order::Fifo } else { Order::Free };
    (TransactionQueue::new(Config { threads, order, batch, stdout, on_error, ..Config::default() }), printed)
}

struct Silent;

impl Participant for Silent {
    fn prepare(&mut self) -> Result<(), optimist_dispatcher::Failure> {
        Err("not prepared".into())
    }
    fn commit(self: Box<Self>) {}
    fn rollback(self: Box<Self>) {}
}

/// The `n`th event: mostly it counts, prints and adds; now and then it does whatever takes a batch apart.
fn event(n: u64, cells: Arc<[TVar<u64>]>) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
    // A variable, so that an attempt that is lost does not count.
    let repeats = TVar::new(0);
    let mut seen = None;
    move |ev| {
        let chance = (ev.number(), ev.random());
        // One that runs again is a new event.
        if n % 64 != 45 {
            assert_eq!(*seen.get_or_insert(chance), chance, "an attempt has another number");
        }
        let cell = &cells[(n * 7 % 16) as usize];
        let value = cell.get(ev)?;
        cell.set(ev, value + n)?;
        if n.is_multiple_of(3) {
            outln!(ev, "{n} {value} {}", ev.is_irrevocable());
        }
        match n % 64 {
            7 => return ev.fail("seven"),
            // Seldom, for a batch that has lost is smaller for a while.
            19 if n % 1024 == 19 && ev.attempts() < 3 => return Err(Interrupt::Abort(Abort::Chaos)),
            23 => ev.irrevocable()?,
            31 => {
                // Waits for a number that the next event sets.
                let gate = cells[17].get(ev)?;
                ev.check(gate >= n)?;
            }
            32 => cells[17].modify(ev, |gate| n.max(*gate))?,
            45 => {
                let done = repeats.get(ev)?;
                if done < 2 {
                    repeats.set(ev, done + 1)?;
                    ev.again();
                }
            }
            44 => ev.add(move |ev| {
                outln!(ev, "child of {n}");
                Ok(())
            }),
            50 => {
                ev.on_commit(|| panic!("too late"));
            }
            51 => {
                outln!(ev, "not seen");
                ev.enlist(Silent);
            }
            52 => {
                let _ = ev.nested(|ev| {
                    cells[1].set(ev, 0)?;
                    outln!(ev, "not seen either");
                    ev.fail::<()>("inner")
                })?;
            }
            60 => panic!("sixty"),
            _ => {}
        }
        Ok(())
    }
}

fn run(threads: usize, batch: u32) -> (String, Vec<u64>, Vec<String>, Report) {
    let (queue, printed) = queue(threads, batch);
    let cells: Arc<[TVar<u64>]> = (0..18).map(TVar::new).collect();
    for n in 0..4_096 {
        queue.add(event(n, cells.clone()));
    }
    let report = queue.run().unwrap();
    let mut errors: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    errors.sort();
    (printed.text(), cells.iter().map(TVar::load).collect(), errors, report)
}

#[test]
fn batches_change_nothing() {
    let hook = std::panic::take_hook();
    // Only the events' own panics are silent.
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|place| place.line() > 80) {
            eprintln!("{panic}");
        }
    }));
    let (printed, cells, errors, alone) = run(1, 1);
    assert_eq!((alone.counters.batched, alone.counters.failures), (0, 3 * 64));
    assert_eq!(errors.len(), 4 * 64);
    // On one thread even the order is the same.
    let mut batched = 0;
    for _ in 0..5 {
        let (text, values, found, report) = run(1, 16);
        assert_eq!((&text, &values, &found), (&printed, &cells, &errors));
        assert_eq!(report.counters.commits, alone.counters.commits);
        batched = batched.max(report.counters.batched);
    }
    // Without optimisation no event is tiny.
    assert!(cfg!(debug_assertions) || batched > 500, "{batched}");
    // On several the sums are, and which lines there are up to the value that an event found.
    for _ in 0..5 {
        let (text, values, found, report) = run(4, 16);
        assert_eq!(values, cells);
        assert!(found == errors);
        assert_eq!(report.counters.commits, alone.counters.commits);
        let lines = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                    [n, _, irrevocable] if irrevocable != "of" => format!("{n} {irrevocable}"),
                    _ => line.to_owned(),
                })
                .collect();
            lines.sort();
            // An event may have become irrevocable because it lost.
            lines.iter_mut().for_each(|line| *line = line.replace(" true", "").replace(" false", ""));
            lines.sort();
            lines
        };
        assert!(lines(&text) == lines(&printed));
    }
    std::panic::set_hook(hook);
}

#[test]
fn long_events_run_by_themselves() {
    let (queue, _) = queue(4, 16);
    for _ in 0..500 {
        queue.add(|_| {
            std::thread::sleep(std::time::Duration::from_micros(20));
            Ok(())
        });
    }
    assert_eq!(queue.run().unwrap().counters.batched, 0);
}

/// Options and handlers of one's own that have not agreed keep an event out of batches.
#[test]
fn who_does_not_agree_is_not_in_a_batch() {
    struct Alone(Arc<AtomicU64>, bool);
    impl optimist_dispatcher::Handler for Alone {
        fn run(&mut self, _: &mut Event<'_>) -> EventResult {
            assert!(!std::mem::replace(&mut self.1, true), "an attempt has not ended");
            Ok(())
        }
        fn aborted(&mut self) {
            self.1 = false;
        }
        fn ended(&mut self, _: bool) {
            self.0.fetch_add(u64::from(std::mem::take(&mut self.1)), Ordering::Relaxed);
        }
    }
    let (queue, _) = queue(2, 16);
    let ended = Arc::new(AtomicU64::new(0));
    for _ in 0..2_000 {
        queue.add_handler(Options::new(), Alone(ended.clone(), false));
        queue.add_named("named", |_| Ok(()));
    }
    let report = queue.run().unwrap();
    assert_eq!((report.counters.batched, ended.load(Ordering::Relaxed)), (0, 2_000));
}
