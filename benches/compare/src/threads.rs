//! Two threads and more: throughput, attempts and progress.

use std::cell::Cell;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kernels::{Random, ReadManyWriteOne, Sum, Transfer};
use crate::measure::{median, pin, process_time};
use crate::sides::{Access, Body, Side};

/// The workloads: name, what it does, the ratio to the crate `stm` that is the goal.
pub const WORKLOADS: &[(&str, &str, f64)] = &[
    ("bank", "90 % transfers, 10 % sums over 1,000 accounts", 45.0),
    ("transfers", "transfers over 1,000 accounts", 4.5),
    ("hot", "transfers over 16 accounts", 4.1),
    ("100r1w", "100 reads and 1 write of 10,000", 21.0),
];

/// What one side did in one workload.
pub struct Throughput {
    /// The workload.
    pub workload: &'static str,
    /// The side.
    pub side: String,
    /// Million transactions a second, of each round.
    pub rates: Vec<f64>,
    /// Bodies run and transactions committed.
    pub bodies: u64,
    /// Transactions committed.
    pub commits: u64,
    /// CPU nanoseconds a transaction, of each round.
    pub cpu: Vec<f64>,
}

impl Throughput {
    /// The best round: what is left when the machine is ours.
    pub fn best(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The median round.
    pub fn median(&self) -> f64 {
        median(&self.rates)
    }

    /// Attempts for each commit.
    pub fn attempts(&self) -> f64 {
        self.bodies as f64 / self.commits.max(1) as f64
    }
}

thread_local! {
    static BODIES: Cell<u64> = const { Cell::new(0) };
}

/// Counts how often a body runs.
struct Counted<B>(B);

impl<B: Body> Body for Counted<B> {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        BODIES.set(BODIES.get() + 1);
        self.0.run(numbers)
    }
}

fn transaction<S: Side>(side: &S, workload: &str, random: &mut Random) {
    match workload {
        "bank" => {
            if random.below(10) == 0 {
                side.read_only(&Counted(Sum(1000)));
            } else {
                side.update(&Counted(Transfer(random.below(1000), random.below(1000))));
            }
        }
        "transfers" => {
            side.update(&Counted(Transfer(random.below(1000), random.below(1000))));
        }
        "hot" => {
            side.update(&Counted(Transfer(random.below(16), random.below(16))));
        }
        _ => {
            random.below(1000);
            side.update(&Counted(ReadManyWriteOne { random: *random, size: 10_000, reads: 100 }));
        }
    }
}

/// A workload on one side, to be run for one round at a time.
pub struct Runner {
    /// What has been measured so far.
    pub result: Throughput,
    round: Round,
}

/// Runs a workload on a number of threads for some time: commits, bodies, the time it took, CPU time.
type Round = Box<dyn FnMut(usize, Duration) -> (u64, u64, Duration, u64)>;

impl Runner {
    /// All workloads on one side.
    pub fn all<S: Side>(runners: &mut Vec<Runner>) {
        for (workload, ..) in WORKLOADS {
            let side = S::new(if *workload == "100r1w" { 10_000 } else { 1000 }, 1000);
            let round = move |threads: usize, time: Duration| {
                let (stop, commits, bodies) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
                let start = Barrier::new(threads + 1);
                let (elapsed, cpu) = std::thread::scope(|scope| {
                    let mut workers = Vec::new();
                    for seed in 1..=threads as u64 {
                        let (stop, start, side, commits, bodies) = (&stop, &start, &side, &commits, &bodies);
                        workers.push(scope.spawn(move || {
                            pin(seed as usize - 1);
                            let mut random = Random(seed << 40 | seed);
                            BODIES.set(0);
                            let mut done = 0;
                            start.wait();
                            // Taken here and not by the thread that waits, which may not be running when the others start.
                            let begin = Instant::now();
                            while !stop.load(Ordering::Relaxed) {
                                for _ in 0..16 {
                                    transaction(side, workload, &mut random);
                                }
                                done += 16;
                            }
                            commits.fetch_add(done, Ordering::Relaxed);
                            bodies.fetch_add(BODIES.get(), Ordering::Relaxed);
                            (begin, Instant::now())
                        }));
                    }
                    let cpu = process_time();
                    start.wait();
                    std::thread::sleep(time);
                    stop.store(true, Ordering::Relaxed);
                    let spans: Vec<(Instant, Instant)> =
                        workers.into_iter().map(|worker| worker.join().expect("a workload does not panic")).collect();
                    let first = spans.iter().map(|span| span.0).min().expect("there is a thread");
                    let last = spans.iter().map(|span| span.1).max().expect("there is a thread");
                    (last - first, process_time() - cpu)
                });
                (commits.into_inner(), bodies.into_inner(), elapsed, cpu)
            };
            let result =
                Throughput { workload, side: S::name(), rates: Vec::new(), bodies: 0, commits: 0, cpu: Vec::new() };
            runners.push(Runner { result, round: Box::new(round) });
        }
    }

    /// Runs one round.
    pub fn round(&mut self, threads: usize, time: Duration) {
        let (commits, bodies, elapsed, cpu) = (self.round)(threads, time);
        self.result.rates.push(commits as f64 / elapsed.as_secs_f64() / 1e6);
        self.result.cpu.push(cpu as f64 / commits.max(1) as f64);
        self.result.commits += commits;
        self.result.bodies += bodies;
    }
}

/// How often a transaction of a thousand reads and a write runs at most until it commits, against a writer that never stops. The
/// attempts are given up after `limit`.
pub fn progress<S: Side>(transactions: usize, limit: Duration) -> Progress {
    let side = S::new(1000, 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (side, stop) = (&side, &stop);
        scope.spawn(move || {
            let mut random = Random(7);
            while !stop.load(Ordering::Relaxed) {
                let at = random.below(1000);
                side.update(&ReadManyWriteOne { random: Random(at as u64), size: 1000, reads: 1 });
            }
        });
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        let mut progress = Progress { side: S::name(), most: 0, total: 0, commits: 0, gave_up: false };
        for _ in 0..transactions {
            BODIES.set(0);
            let deadline = start + limit;
            let outcome = side.update(&Patient { deadline });
            progress.most = progress.most.max(BODIES.get());
            progress.total += BODIES.get();
            if outcome == u64::MAX {
                progress.gave_up = true;
                break;
            }
            progress.commits += 1;
        }
        stop.store(true, Ordering::Relaxed);
        progress
    })
}

/// The outcome of the progress test.
pub struct Progress {
    /// The side.
    pub side: String,
    /// The most attempts that one transaction took.
    pub most: u64,
    /// All attempts.
    pub total: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Whether the last one was given up.
    pub gave_up: bool,
}

/// A thousand reads and a write; after the deadline it does nothing, so that it can end.
struct Patient {
    deadline: Instant,
}

impl Body for Patient {
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        BODIES.set(BODIES.get() + 1);
        if BODIES.get().is_multiple_of(64) && Instant::now() > self.deadline {
            return Ok(u64::MAX);
        }
        let sum = Sum(1000).run(numbers)?;
        numbers.set(0, sum & 0xFFFF)?;
        Ok(0)
    }
}
