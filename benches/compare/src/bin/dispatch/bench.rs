//! Time, work, random numbers, and the table of results with their goals.

use std::time::Instant;

use serde_json::{Map, Value, json};

/// Wall clock nanoseconds that `body` takes.
pub fn timed(body: impl FnOnce()) -> f64 {
    let started = Instant::now();
    body();
    started.elapsed().as_nanos() as f64
}

/// CPU time of the process, in nanoseconds.
pub fn process_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the system has CPU clocks");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The next random number (SplitMix64).
pub fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The body of an event: dependent multiplications, which no processor overlaps and no compiler removes.
#[inline(never)]
pub fn work(mut value: u64, steps: u32) -> u64 {
    for _ in 0..steps {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(7);
    }
    value
}

/// How many steps of [`work`] take `nanoseconds`.
pub fn steps_of(nanoseconds: f64) -> u32 {
    const STEPS: u32 = 200_000;
    let least = (0..20).map(|round| timed(|| _ = std::hint::black_box(work(round, STEPS)))).fold(f64::MAX, f64::min);
    (nanoseconds / (least / f64::from(STEPS))) as u32
}

/// The best and the median of the rounds of one side.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::MAX, f64::min)
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// What is reached and what is missed.
#[derive(Default)]
pub struct Goals(Map<String, Value>);

impl Goals {
    /// A figure that should be at least, or at most, so much; `must` and `stretch`.
    fn judge(&mut self, name: &str, value: f64, must: f64, stretch: f64, reached: impl Fn(f64) -> bool, sign: &str) {
        let verdict = match (reached(must), reached(stretch)) {
            (_, true) => "stretch reached",
            (true, false) => "reached",
            (false, false) => "MISSED",
        };
        println!("{name:<64}{value:>9.2}   {sign} {must} / {stretch}   {verdict}");
        let row = json!({ "value": value, "goal": sign, "must": must, "stretch": stretch, "verdict": verdict });
        self.0.insert(name.to_owned(), row);
    }

    pub fn at_most(&mut self, name: &str, value: f64, must: f64, stretch: f64) {
        self.judge(name, value, must, stretch, |goal| value <= goal, "≤");
    }

    pub fn at_least(&mut self, name: &str, value: f64, must: f64, stretch: f64) {
        self.judge(name, value, must, stretch, |goal| value >= goal, "≥");
    }

    pub fn json(self) -> Value {
        Value::Object(self.0)
    }
}
