//! Random transactions on real threads, recorded, and their histories checked.
//!
//! Each object holds its version: a write reads the version and stores the next, in the upper bits, together with a mark of the writer in
//! the lower ones, so that what an aborted attempt wrote is told from what the next one committed. So the recorder needs nothing from
//! the protocol; a transaction notes its reads where the history keeps them, its writes in its thread's memory, and looks at the clock
//! twice, or once if it writes nothing. The looks are most of what recording costs (measured with `slowdown`).

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

/// The machine's clock: the processors' time stamp counter, where the system itself takes the time from it, which it does if all
/// processors count alike; elsewhere the system's clock.
#[derive(Clone, Copy, Debug)]
enum Wall {
    #[cfg(target_arch = "x86_64")]
    Counter,
    Clock(Instant),
}

impl Wall {
    fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::fs::read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|name| name == b"tsc\n")
        {
            return Wall::Counter;
        }
        Wall::Clock(Instant::now())
    }
}

impl Stamper for Wall {
    #[inline(always)]
    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "reads the time stamp counter"))]
    fn now(&self) -> u64 {
        match self {
            // SAFETY: every processor of this architecture has these instructions, and they touch no memory. The fence waits for the
            // loads before it, so that the time is not told before what it is the end of.
            #[cfg(target_arch = "x86_64")]
            Wall::Counter => unsafe {
                std::arch::x86_64::_mm_lfence();
                std::arch::x86_64::_rdtsc()
            },
            Wall::Clock(start) => start.elapsed().as_nanos() as u64,
        }
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
    writes: Vec<Access>,
    stamps: Stamps,
    running: bool,
    marks: u64,
}

impl<S: Stamper> Recorder<S> {
    fn new(stamper: S, thread: u32) -> Self {
        let (history, writes) = (History::default(), Vec::new());
        Recorder { stamper, thread, history, writes, stamps: Stamps::default(), running: false, marks: 0 }
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
        self.history.close(self.thread, self.stamps, committed, &self.writes);
    }

    /// Where among the attempt's writes this object is.
    #[inline(always)]
    fn own(&self, object: u32) -> Option<usize> {
        self.writes.iter().position(|(written, _)| *written == object)
    }

    #[inline]
    fn read<A: Atomics, P: Protocol<A>>(&mut self, tx: &mut View<'_, A, P>, object: u32) -> Result<(), Abort> {
        let version = tx.get(object as usize)?;
        if self.own(object).is_none() {
            self.history.read_by_next((object, version));
        }
        Ok(())
    }

    #[inline]
    fn write<A: Atomics, P: Protocol<A>>(&mut self, tx: &mut View<'_, A, P>, object: u32) -> Result<(), Abort> {
        let before = tx.get(object as usize)?;
        self.marks += 1;
        let mark = (self.marks & 0xF_FFFF) | u64::from(self.thread & 0xF) << 20;
        match self.own(object) {
            // A second write of the same transaction makes no second version.
            Some(at) => {
                let version = before >> MARK << MARK | mark;
                tx.set(object as usize, version)?;
                self.writes[at].1 = version;
            }
            None => {
                self.history.read_by_next((object, before));
                let version = ((before >> MARK) + 1) << MARK | mark;
                tx.set(object as usize, version)?;
                self.writes.push((object, version));
            }
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
    let stamper = Wall::new();
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

/// How many times as long a random program takes on one thread because it is recorded. Both ways in turn, 50 times; the shortest of each,
/// since what else a machine does only ever lengthens them.
#[must_use]
pub fn slowdown<P: Protocol<Native>>(transactions: u64) -> f64 {
    let wall = Wall::new();
    let (mut shortest_bare, mut shortest_recorded) = (Duration::MAX, Duration::MAX);
    for seed in 0..50 {
        let bare = Instant::now();
        run_bare(&mut Session::<Native, P>::new(&Heap::new(16)), seed, transactions);
        shortest_bare = shortest_bare.min(bare.elapsed());
        let recorded = Instant::now();
        let part = Part { thread: 0, seed, transactions, accesses: 6 };
        let history = run_part(&mut Session::<Native, P>::new(&Heap::new(16)), part, &wall);
        assert_eq!(history.len() as u64, transactions, "nobody else is there");
        shortest_recorded = shortest_recorded.min(recorded.elapsed());
    }
    shortest_recorded.as_secs_f64() / shortest_bare.as_secs_f64()
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
