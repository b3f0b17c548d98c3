//! One thread: what each operation costs.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::measure::Case;
use crate::sides::{Access, Body, Side};

/// The columns: name, what a unit is, the baseline, and the ratio to it that is the goal.
pub const COLUMNS: &[Column] = &[
    Column { name: "empty", unit: "transaction", baseline: "M", goal: 0.10 },
    Column { name: "read", unit: "read of 1,000 in a read-only transaction", baseline: "P", goal: 2.2 },
    Column { name: "read after write", unit: "read of 1,000 after one write", baseline: "P", goal: 6.5 },
    Column { name: "write 10", unit: "write of 10 in a transaction", baseline: "C", goal: 1.2 },
    Column { name: "write 100", unit: "write of 100", baseline: "C", goal: 1.2 },
    Column { name: "write 1000", unit: "write of 1,000", baseline: "C", goal: 1.2 },
    Column { name: "1r1w", unit: "transaction", baseline: "M", goal: 1.3 },
    Column { name: "2r2w", unit: "transaction on 2 of 10,000", baseline: "M", goal: 2.0 },
    Column { name: "100r1w", unit: "transaction of 100 reads and 1 write of 10,000", baseline: "P", goal: 1.30 },
];

/// A column of the table.
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// P: plain code in the same column. C: one uncontended compare-and-swap. M: lock and unlock of a mutex.
    pub baseline: &'static str,
    /// The largest ratio to the baseline that is good enough.
    pub goal: f64,
}

/// A small generator.
#[derive(Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    /// A number below `n`.
    #[inline(always)]
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * n as u64) >> 32) as usize
    }
}

struct Nothing;
impl Body for Nothing {
    #[inline(always)]
    fn run<A: Access>(&self, _: &mut A) -> Result<u64, A::Abort> {
        Ok(0)
    }
}

/// Reads all.
pub struct Sum(pub usize);
impl Body for Sum {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        let mut sum = 0_u64;
        for at in 0..self.0 {
            // Hidden from the optimiser, so that plain code reads one by one as well and is not turned into vector instructions.
            sum = black_box_add(sum, numbers.get(at)?);
        }
        Ok(sum)
    }
}

/// Addition that the optimiser does not turn into a vector instruction, at no cost.
#[inline(always)]
fn black_box_add(sum: u64, value: u64) -> u64 {
    let mut sum = sum;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: adds two registers.
    unsafe {
        std::arch::asm!("add {0}, {1}", inout(reg) sum, in(reg) value, options(pure, nomem, nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        sum = black_box(sum.wrapping_add(value));
    }
    sum
}

struct WriteThenRead(usize);
impl Body for WriteThenRead {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        numbers.set(self.0, 1)?;
        Sum(self.0).run(numbers)
    }
}

struct WriteAll(usize, u64);
impl Body for WriteAll {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        for at in 0..self.0 {
            numbers.set(at, self.1)?;
        }
        Ok(0)
    }
}

struct Increment;
impl Body for Increment {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        let value = numbers.get(0)?;
        numbers.set(0, value + 1)?;
        Ok(value)
    }
}

/// Moves an amount between two numbers.
pub struct Transfer(pub usize, pub usize);
impl Body for Transfer {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        let (a, b) = (numbers.get(self.0)?, numbers.get(self.1)?);
        if self.0 != self.1 {
            numbers.set(self.0, a.wrapping_sub(1))?;
            numbers.set(self.1, b.wrapping_add(1))?;
        }
        Ok(a)
    }
}

/// Reads some at random and writes one.
pub struct ReadManyWriteOne {
    /// Where it starts.
    pub random: Random,
    /// How many there are.
    pub size: usize,
    /// How many are read.
    pub reads: usize,
}
impl Body for ReadManyWriteOne {
    #[inline(always)]
    fn run<A: Access>(&self, numbers: &mut A) -> Result<u64, A::Abort> {
        let mut random = self.random;
        let mut sum = 0_u64;
        for _ in 0..self.reads {
            sum = sum.wrapping_add(numbers.get(random.below(self.size))?);
        }
        numbers.set(random.below(self.size), sum)?;
        Ok(sum)
    }
}

const MANY: usize = 10_000;

/// All columns for one side.
pub fn cases<S: Side>(cases: &mut Vec<Case>) {
    let mut add = |kernel, side: String, work: Box<dyn FnMut(u64)>| cases.push(Case::new(kernel, side, work));
    let small = |size| S::new(size, 1);
    let side = small(1);
    add(
        "empty",
        S::name(),
        Box::new(move |n| {
            (0..n).for_each(|_| {
                black_box(side.update(&Nothing));
            })
        }),
    );
    let side = small(1000);
    add("read", S::name(), Box::new(move |n| batches(n, 1000, |_| side.read_only(&Sum(1000)))));
    let side = small(1001);
    add("read after write", S::name(), Box::new(move |n| batches(n, 1000, |_| side.update(&WriteThenRead(1000)))));
    for (kernel, size) in [("write 10", 10), ("write 100", 100), ("write 1000", 1000)] {
        let side = small(size);
        add(kernel, S::name(), Box::new(move |n| batches(n, size as u64, |i| side.update(&WriteAll(size, i)))));
    }
    let side = small(1);
    add(
        "1r1w",
        S::name(),
        Box::new(move |n| {
            (0..n).for_each(|_| {
                black_box(side.update(&Increment));
            })
        }),
    );
    let side = small(MANY);
    let mut random = Random(1);
    add(
        "2r2w",
        S::name(),
        Box::new(move |n| {
            for _ in 0..n {
                black_box(side.update(&Transfer(random.below(MANY), random.below(MANY))));
            }
        }),
    );
    let side = small(MANY);
    let mut random = Random(2);
    add(
        "100r1w",
        S::name(),
        Box::new(move |n| {
            for _ in 0..n {
                random.below(MANY);
                black_box(side.update(&ReadManyWriteOne { random, size: MANY, reads: 100 }));
            }
        }),
    );
}

/// Runs transactions of `size` units until there are at least `n`.
fn batches(n: u64, size: u64, mut transaction: impl FnMut(u64) -> u64) {
    for i in 0..n.div_ceil(size) {
        black_box(transaction(i));
    }
}

/// The baselines that are not a side: C and M.
pub fn baselines(cases: &mut Vec<Case>) {
    let words: Vec<AtomicU64> = (0..1000).map(AtomicU64::new).collect();
    cases.push(Case::new("C", "baseline", move |n| {
        batches(n, 1000, |_| {
            for word in &words {
                let old = word.load(Ordering::Relaxed);
                let _ = black_box(word.compare_exchange(old, old + 1, Ordering::AcqRel, Ordering::Relaxed));
            }
            0
        });
    }));
    let mutex = parking_lot::Mutex::new(0_u64);
    cases.push(Case::new("M", "baseline", move |n| {
        for _ in 0..n {
            *black_box(&mutex).lock() += 1;
        }
    }));
}
