//! Random transactions on real threads, recorded, and their histories checked.
//!
//! Each object holds its version: a write reads the version and stores the next, in the upper bits, together with a mark of the writer in
//! the lower ones, so that what an aborted attempt wrote is told from what the next one committed. So the recorder needs nothing from
//! the protocol; a transaction notes its reads and writes in its thread's memory and looks at the clock twice, or once if it
//! writes nothing (measured with `slowdown`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::heap::{Heap, Session, View};
use super::history::{Access, History, Stamps};
use crate::Abort;
use crate::atomics::{Atomics, Native};
use crate::attempt::Mode;
use crate::protocol::Protocol;
use crate::run::Interrupt;

/// A small generator (Marsaglia's xorshift), so that runs can be repeated.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// The bits of a version's mark.
const MARK: u32 = 24;

/// What tells the time of all threads.
pub(crate) trait Stamper: Clone + Send + 'static {
    fn now(&self) -> u64;
}

/// The machine's clock, in nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
struct Wall(Instant);

impl Stamper for Wall {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// A counter, exact where only one thread runs at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticks(Arc<AtomicU64>);

impl Stamper for Ticks {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// One thread's part of a random program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) thread: u32,
    pub(crate) seed: u64,
    pub(crate) transactions: u64,
    /// The most accesses of a transaction.
    pub(crate) accesses: u64,
}

/// Notes what the attempts of one thread do.
struct Recorder<S: Stamper> {
    stamper: S,
    thread: u32,
    history: History,
    reads: Vec<Access>,
    writes: Vec<Access>,
    stamps: Stamps,
    running: bool,
    marks: u64,
}

impl<S: Stamper> Recorder<S> {
    fn new(stamper: S, thread: u32) -> Self {
        let (reads, writes) = (Vec::new(), Vec::new());
        let history = History::default();
        Recorder { stamper, thread, history, reads, writes, stamps: Stamps::default(), running: false, marks: 0 }
    }

    /// Before a transaction.
    fn start(&mut self) {
        // The end of the one before is a little early, which makes nothing look wrong that is not, and saves a look at the clock.
        self.stamps.begin = if self.history.is_empty() { self.stamper.now() } else { self.stamps.end };
        self.running = false;
    }

    /// At the start of a body: an earlier attempt that is still open has aborted.
    fn attempt(&mut self) {
        if self.running {
            let now = self.stamper.now();
            self.close(false, now);
            // The attempt began somewhere since the one before ended; its begin is not seen from here.
            self.stamps.begin = self.stamps.commit;
        }
        self.running = true;
        self.reads.clear();
        self.writes.clear();
        self.stamps.commit = self.stamps.begin;
    }

    /// At the end of a body. When a commit that writes nothing took place is nobody's business: no look at the clock.
    fn ends(&mut self) {
        if !self.writes.is_empty() {
            self.stamps.commit = self.stamper.now();
        }
    }

    /// After a transaction.
    fn finish(&mut self, committed: bool) {
        let now = self.stamper.now();
        self.close(committed, now);
    }

    fn close(&mut self, committed: bool, end: u64) {
        self.stamps.end = end;
        self.history.push(self.thread, self.stamps, committed, &self.reads, &self.writes);
    }

    fn read<A: Atomics, P: Protocol<A>>(&mut self, tx: &mut View<'_, A, P>, object: u32) -> Result<u64, Abort> {
        let version = tx.get(object as usize)?;
        if !self.writes.iter().any(|(written, _)| *written == object) {
            self.reads.push((object, version));
        }
        Ok(version)
    }

    fn write<A: Atomics, P: Protocol<A>>(&mut self, tx: &mut View<'_, A, P>, object: u32) -> Result<(), Abort> {
        let before = self.read(tx, object)?;
        let own = self.writes.iter().position(|(written, _)| *written == object);
        self.marks += 1;
        let mark = (self.marks & 0xF_FFFF) | u64::from(self.thread & 0xF) << 20;
        // A second write of the same transaction makes no second version.
        let number = if own.is_some() { before >> MARK } else { (before >> MARK) + 1 };
        let version = number << MARK | mark;
        tx.set(object as usize, version)?;
        match own {
            Some(at) => self.writes[at].1 = version,
            None => self.writes.push((object, version)),
        }
        Ok(())
    }
}

/// Runs one thread's part and returns what happened.
pub(crate) fn run_part<A: Atomics, P: Protocol<A>>(
    session: &mut Session<A, P>,
    part: Part,
    stamper: &impl Stamper,
) -> History {
    let objects = session.heap().len() as u64;
    let mut random = Random::new(part.seed);
    let mut recorder = Recorder::new(stamper.clone(), part.thread);
    recorder.history.reserve(part.transactions as usize, part.accesses as usize);
    let mut accesses: Vec<(u32, bool)> = Vec::new();
    for _ in 0..part.transactions {
        let mode = match random.below(50) {
            0..10 => Mode::ReadOnly,
            10 => Mode::Irrevocable,
            _ => Mode::Update,
        };
        let fails = random.below(20) == 0;
        accesses.clear();
        for _ in 0..=random.below(part.accesses) {
            accesses.push((random.below(objects) as u32, mode != Mode::ReadOnly && random.below(5) < 2));
        }
        recorder.start();
        let outcome: Result<(), ()> = session.run(mode, |tx| {
            recorder.attempt();
            for &(object, writes) in &accesses {
                if writes {
                    recorder.write(tx, object)?;
                } else {
                    recorder.read(tx, object)?;
                }
            }
            recorder.ends();
            if fails { Err(Interrupt::Error(())) } else { Ok(()) }
        });
        recorder.finish(outcome.is_ok());
    }
    recorder.history
}

/// Runs one random program on real threads and returns its history.
#[must_use]
pub fn record<P: Protocol<Native>>(seed: u64, threads: u32, objects: usize, transactions: u64) -> History {
    let heap = Heap::<Native>::new(objects);
    let stamper = Wall(Instant::now());
    let sessions: Vec<Session<Native, P>> = (0..threads).map(|_| Session::new(&heap)).collect();
    let mut whole = History::default();
    std::thread::scope(|scope| {
        let spawn = |(thread, mut session): (u32, Session<Native, P>)| {
            let part = Part { thread, seed: seed * 64 + u64::from(thread) + 1, transactions, accesses: 6 };
            scope.spawn(move || run_part(&mut session, part, &stamper))
        };
        let parts: Vec<_> = (0..).zip(sessions).map(spawn).collect();
        for part in parts {
            match part.join() {
                Ok(history) => whole.append(&history),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
    });
    whole
}

/// How many times as long a random program takes on one thread because it is recorded. Both ways in turn, several times; the middle one.
#[must_use]
pub fn slowdown<P: Protocol<Native>>(transactions: u64) -> f64 {
    let mut ratios: Vec<f64> = (0..7)
        .map(|seed| {
            let bare = Instant::now();
            run_bare(&mut Session::<Native, P>::new(&Heap::new(16)), seed, transactions);
            let bare = bare.elapsed();
            let recorded = Instant::now();
            let part = Part { thread: 0, seed, transactions, accesses: 6 };
            let history = run_part(&mut Session::<Native, P>::new(&Heap::new(16)), part, &Wall(recorded));
            assert_eq!(history.len() as u64, transactions, "nobody else is there");
            recorded.elapsed().as_secs_f64() / bare.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// What [`run_part`] runs, without the notes.
fn run_bare<P: Protocol<Native>>(session: &mut Session<Native, P>, seed: u64, transactions: u64) {
    let objects = session.heap().len() as u64;
    let mut random = Random::new(seed);
    let mut accesses: Vec<(usize, bool)> = Vec::new();
    for _ in 0..transactions {
        let mode = match random.below(50) {
            0..10 => Mode::ReadOnly,
            10 => Mode::Irrevocable,
            _ => Mode::Update,
        };
        let fails = random.below(20) == 0;
        accesses.clear();
        for _ in 0..=random.below(6) {
            accesses.push((random.below(objects) as usize, mode != Mode::ReadOnly && random.below(5) < 2));
        }
        let _: Result<(), ()> = session.run(mode, |tx| {
            for &(object, writes) in &accesses {
                let value = tx.get(object)?;
                if writes {
                    tx.set(object, value + 1)?;
                }
            }
            if fails { Err(Interrupt::Error(())) } else { Ok(()) }
        });
    }
}

/// Runs random programs under `P` on 1 to 8 threads and checks their histories, until the time is over or so many transactions have
/// been checked. Returns how many there were.
///
/// # Errors
/// The first violation, with the seed of its program.
pub fn record_and_check<P: Protocol<Native>>(
    time: Duration,
    transactions: u64,
    seed: u64,
) -> (u64, Result<(), String>) {
    let start = Instant::now();
    let mut done = 0;
    let mut round = seed;
    while start.elapsed() < time && done < transactions {
        let mut random = Random::new(round);
        let threads = 1 + random.below(8) as u32;
        let objects = 2 + random.below(30) as usize;
        let history = record::<P>(round, threads, objects, 24_000 / u64::from(threads));
        done += history.len() as u64;
        if let Err(violation) = history.check() {
            return (done, Err(format!("{violation} (seed {round}: {threads} threads, {objects} objects)")));
        }
        round += 1;
    }
    (done, Ok(()))
}
