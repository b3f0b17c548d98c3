//! Runs workloads: threads, warm-up, rounds, statistics, output.
//!
//! All sides of a workload run in turn within one round, and the rounds follow each other, so that a disturbance of the machine hits all
//! of them alike. What is compared is the best round; the median says how noisy it was.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use optimist_stm::{Statistics, statistics};
use serde_json::{Value, json};

/// Something to be measured, in several ways of doing it.
pub(crate) trait Workload: Sync {
    /// The name by which it is chosen.
    fn name(&self) -> &'static str;

    /// What one operation is, in a line.
    fn about(&self) -> String;

    /// The ways of doing it, the baseline first.
    fn sides(&self) -> Vec<Side>;

    /// Operations in one run.
    fn operations(&self) -> u64;

    /// Brings the state of a side back to the start.
    fn reset(&mut self, side: usize);

    /// Does operation `index` as thread `worker`.
    fn operate(&self, side: usize, worker: usize, index: u64);

    /// Does all operations, where a side brings its own threads; says whether it does.
    fn all_at_once(&self, _side: usize, _threads: usize) -> bool {
        false
    }

    /// Checks the outcome of a run.
    ///
    /// # Panics
    /// If it is wrong.
    fn verify(&self, side: usize);
}

/// One way of doing a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Whether it can run on several threads.
    pub(crate) parallel: bool,
}

/// A side that can run on several threads.
pub(crate) const fn parallel(name: &'static str) -> Side {
    Side { name, parallel: true }
}

/// Plain sequential code.
pub(crate) const SEQUENTIAL: Side = Side { name: "plain code", parallel: false };

/// What one side did on some number of threads.
struct Measured {
    side: Side,
    threads: usize,
    rates: Vec<f64>,
    cpu: Vec<f64>,
    latency: Histogram<u64>,
    statistics: Vec<Statistics>,
}

/// Every so many operations one is timed.
const SAMPLED: u64 = 64;

/// CPU time of the process.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "reads the process's CPU clock")]
    // SAFETY: the pointer is to a local.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the system has a CPU clock for processes");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs a workload in all ways, prints a table and returns it.
pub(crate) fn measure(workload: &mut dyn Workload, threads: &[usize], rounds: usize) -> Value {
    let mut all: Vec<Measured> = Vec::new();
    for side in workload.sides() {
        for &threads in threads.iter().filter(|threads| side.parallel || **threads == 1) {
            let latency = Histogram::new(3).expect("three digits are possible");
            all.push(Measured { side, threads, rates: vec![], cpu: vec![], latency, statistics: vec![] });
        }
    }
    let indices: Vec<usize> = workload
        .sides()
        .iter()
        .enumerate()
        .flat_map(|(index, side)| threads.iter().filter(|t| side.parallel || **t == 1).map(move |_| index))
        .collect();
    // The first round is the warm-up and not counted.
    for round in 0..=rounds {
        for (measured, side) in all.iter_mut().zip(&indices) {
            workload.reset(*side);
            let before = statistics();
            let outcome = run(workload, *side, measured.threads);
            workload.verify(*side);
            if round > 0 {
                let operations = workload.operations() as f64;
                measured.rates.push(operations / outcome.wall.as_secs_f64());
                measured.cpu.push(outcome.cpu.as_nanos() as f64 / operations);
                measured.latency.add(outcome.latency).expect("same precision");
                measured.statistics.push(statistics().since(&before));
            }
        }
    }
    report(workload, &all)
}

struct Outcome {
    wall: Duration,
    cpu: Duration,
    latency: Histogram<u64>,
}

/// One run: the threads take the operations in turn.
fn run(workload: &dyn Workload, side: usize, threads: usize) -> Outcome {
    let cpu = cpu_time();
    let start = Instant::now();
    if workload.all_at_once(side, threads) {
        let latency = Histogram::new(3).expect("three digits are possible");
        return Outcome { wall: start.elapsed(), cpu: cpu_time() - cpu, latency };
    }
    let barrier = Barrier::new(threads + 1);
    let total = workload.operations();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut latency = Histogram::<u64>::new(3).expect("three digits are possible");
                    barrier.wait();
                    // Taken here and not by the thread that waits, which may not be running when the others start.
                    let begin = Instant::now();
                    let mut index = worker as u64;
                    while index < total {
                        if (index / threads as u64).is_multiple_of(SAMPLED) {
                            let start = Instant::now();
                            workload.operate(side, worker, index);
                            latency.saturating_record(start.elapsed().as_nanos() as u64);
                        } else {
                            workload.operate(side, worker, index);
                        }
                        index += threads as u64;
                    }
                    (latency, begin, Instant::now())
                })
            })
            .collect();
        let cpu = cpu_time();
        barrier.wait();
        let mut latency = Histogram::new(3).expect("three digits are possible");
        let mut span: Option<(Instant, Instant)> = None;
        for worker in workers {
            let (mine, begin, end) = worker.join().expect("a workload does not panic");
            latency.add(mine).expect("same precision");
            span = Some(span.map_or((begin, end), |(first, last)| (first.min(begin), last.max(end))));
        }
        let (first, last) = span.expect("there is a thread");
        Outcome { wall: last - first, cpu: cpu_time() - cpu, latency }
    })
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn report(workload: &dyn Workload, all: &[Measured]) -> Value {
    println!("\n## {}: {}\n", workload.name(), workload.about());
    println!(
        "| | threads | thousand a second, best (median) | to {} | CPU ns each, least | attempts a commit | validations an attempt | p50 / p99 / p99.9 ns |",
        all[0].side.name
    );
    println!("|---|---|---|---|---|---|---|---|");
    let baseline = best(&all[0].rates);
    let mut rows = Vec::new();
    for measured in all {
        let (rate, median_rate) = (best(&measured.rates), median(&measured.rates));
        let cpu = measured.cpu.iter().copied().fold(f64::INFINITY, f64::min);
        let commits: u64 = measured.statistics.iter().map(|s| s.commits).sum();
        let aborted: u64 = measured.statistics.iter().map(Statistics::aborted).sum();
        let attempts = if commits == 0 { 1.0 } else { (commits + aborted) as f64 / commits as f64 };
        // At a commit, and where a snapshot was moved.
        let validated: u64 = measured.statistics.iter().map(|s| s.validations + s.extensions).sum();
        let validations = validated as f64 / (commits + aborted).max(1) as f64;
        let mut reasons = serde_json::Map::new();
        for statistics in &measured.statistics {
            for (reason, count) in statistics.aborts_by_reason() {
                let total = reasons.get(reason.name()).and_then(Value::as_u64).unwrap_or(0) + count;
                reasons.insert(reason.name().into(), total.into());
            }
        }
        let at = |quantile| measured.latency.value_at_quantile(quantile);
        let latency = if measured.latency.is_empty() {
            "not taken".to_owned()
        } else {
            format!("{} / {} / {}", at(0.5), at(0.99), at(0.999))
        };
        println!(
            "| {} | {} | {:.0} ({:.0}) | {:.2} | {:.0} | {:.4} | {:.4} | {} |",
            measured.side.name,
            measured.threads,
            rate / 1e3,
            median_rate / 1e3,
            rate / baseline,
            cpu,
            attempts,
            validations,
            latency
        );
        rows.push(json!({
            "side": measured.side.name, "threads": measured.threads, "per_second": rate, "per_second_median": median_rate,
            "ratio": rate / baseline, "cpu_ns": cpu, "attempts_per_commit": attempts, "validations_per_attempt": validations, "aborts": reasons,
            "latency_ns": (!measured.latency.is_empty()).then(|| json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": measured.latency.max() })),
            "rounds": measured.rates.len(),
        }));
    }
    json!({ "about": workload.about(), "operations": workload.operations(), "rows": rows })
}
