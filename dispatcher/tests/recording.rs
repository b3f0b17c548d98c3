//! A recorded run, replayed, gives the identical output.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use optimist_dispatcher::{
    Config, Event, EventResult, Interrupt, Kind, OnError, Order, Output, Recording, TVar, TransactionQueue, outln,
};
use parking_lot::Mutex;

/// A recording in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const CELLS: u64 = 6;

/// An event whose deeds depend on chance, on the time and on what others have done: it prints what it sees, adds events, runs again, fails,
/// gives up attempts.
fn event(depth: u32, cells: Arc<[TVar<u64>]>) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
    // A variable, so that an attempt that is lost does not count.
    let repeats = TVar::new(0);
    move |ev| {
        let chance = ev.random();
        let (a, b) = (&cells[(chance % CELLS) as usize], &cells[(chance >> 8) as usize % CELLS as usize]);
        let (x, y) = (a.get(ev)?, b.get(ev)?);
        std::thread::yield_now();
        a.set(ev, y.wrapping_mul(3).wrapping_add(chance >> 50))?;
        let time = ev.now();
        outln!(ev, "{depth} {} {x} {y} {time:?}", ev.number());
        if chance >> 16 & 7 == 0 && ev.attempts() == 1 {
            return Err(Interrupt::Abort(optimist_dispatcher::Abort::Chaos));
        }
        if depth > 0 {
            for child in 0..(chance >> 20) % 3 {
                let body = event(depth - 1, cells.clone());
                if child == 1 { ev.add_after(Duration::from_micros(chance >> 55), body) } else { ev.add(body) }
            }
        }
        if chance >> 24 & 15 == 0 {
            return ev.fail(format!("{x} {y} at {time:?}"));
        }
        if chance >> 28 & 3 == 0 && repeats.get(ev)? < 2 {
            repeats.modify(ev, |n| n + 1)?;
            ev.again();
        }
        Ok(())
    }
}

/// Runs the program twice on one queue, the second time with what it finds.
fn run(order: Order, threads: usize, seed: u64, recording: Recording) -> (String, Vec<u64>) {
    let (stdout, printed) = Output::memory("printed");
    let on_error = OnError::handle(|error, ev| {
        outln!(ev, "handled {error}");
        Ok(())
    });
    let recording = Some(recording);
    // Under a protocol that keeps writes back an ordered run speculates.
    let protocol = Some(if order == Order::Ordered { Kind::Tl2 } else { Kind::Eager });
    let config = Config { threads, order, seed, stdout, recording, on_error, protocol, ..Config::default() };
    let queue = TransactionQueue::new(config);
    let cells: Arc<[TVar<u64>]> = (0..CELLS).map(TVar::new).collect();
    for _ in 0..2 {
        for _ in 0..25 {
            queue.add(event(3, cells.clone()));
        }
        queue.run().expect("failures are handled");
    }
    (printed.text(), cells.iter().map(TVar::load).collect())
}

#[test]
fn a_replay_gives_the_identical_output() {
    for (order, _) in Order::ALL {
        for seed in 0..12 {
            let memory = Memory::default();
            let recorded = run(*order, 4, seed, Recording::write_to(memory.clone()).unwrap());
            let text = memory.0.lock().clone();
            for threads in [1, 3] {
                let replayed = run(*order, threads, seed, Recording::read_from(&text[..]).unwrap());
                assert_eq!(recorded, replayed, "{order}, seed {seed}: {}", String::from_utf8_lossy(&text));
            }
        }
    }
}

/// Without the recorded order and times another output comes out: the test above can fail.
#[test]
fn without_the_recording_the_output_differs() {
    let memory = Memory::default();
    let recorded = run(Order::Free, 4, 1, Recording::write_to(memory).unwrap());
    assert_ne!(recorded, run(Order::Free, 4, 1, Recording::write_to(std::io::sink()).unwrap()));
}

#[test]
fn a_program_that_adds_other_events_diverges() {
    let memory = Memory::default();
    let run = |events: usize, recording: Recording| {
        let queue = TransactionQueue::new(Config { recording: Some(recording), ..Config::default() });
        for _ in 0..events {
            queue.add(|_| Ok(()));
        }
        queue.run()
    };
    run(3, Recording::write_to(memory.clone()).unwrap()).unwrap();
    let text = memory.0.lock().clone();
    let error = run(2, Recording::read_from(&text[..]).unwrap()).unwrap_err();
    assert!(error.is_diverged() && error.to_string().contains("x2"), "{error}");
    assert_eq!(run(3, Recording::read_from(&text[..]).unwrap()).unwrap().counters.commits, 3);
    // One that the recording does not have stays pending.
    assert_eq!(run(4, Recording::read_from(&text[..]).unwrap()).unwrap().pending, 1);
}

/// A full disk under the recording is the run's error, and the events are not undone.
#[test]
fn a_recording_that_cannot_be_written_is_reported() {
    struct Full(bool);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0 = true;
            Ok(())
        }
    }
    let recording = Recording::write_to(Full(true));
    assert!(recording.is_err());
    let queue = TransactionQueue::new(Config {
        recording: Some(Recording::write_to(Full(false)).unwrap()),
        ..Config::default()
    });
    queue.add(|_| Ok(()));
    queue.run().unwrap();
    queue.add(|_| Ok(()));
    let error = queue.run().unwrap_err();
    assert!(error.to_string().contains("the recording could not be written"), "{error}");
    assert_eq!(error.report().counters.commits, 1);
}
