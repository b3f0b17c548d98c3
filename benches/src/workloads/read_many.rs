//! Many reads and one write.

use std::sync::atomic::{AtomicU64, Ordering};

use optimist_stm::{TVar, atomically};
use parking_lot::Mutex;

use super::mix;
use crate::harness::{Side, Workload, parallel};

const SIZE: usize = 10_000;
const READS: u64 = 100;

/// The workload.
pub(crate) struct ReadManyWriteOne {
    locked: Mutex<Vec<u64>>,
    numbers: Vec<TVar<u64>>,
    /// The writes that changed a number.
    changes: AtomicU64,
}

impl ReadManyWriteOne {
    /// The workload.
    pub(crate) fn new() -> Self {
        ReadManyWriteOne { locked: Mutex::default(), numbers: Vec::new(), changes: AtomicU64::new(0) }
    }
}

impl Workload for ReadManyWriteOne {
    fn name(&self) -> &'static str {
        "read-many"
    }

    fn about(&self) -> String {
        format!("{READS} reads and one increment of {SIZE}")
    }

    fn sides(&self) -> Vec<Side> {
        vec![parallel("one mutex"), parallel("optimist")]
    }

    fn operations(&self) -> u64 {
        50_000
    }

    fn reset(&mut self, side: usize) {
        *self.changes.get_mut() = 0;
        match side {
            0 => *self.locked.lock() = vec![0; SIZE],
            _ => self.numbers = (0..SIZE).map(|_| TVar::new(0)).collect(),
        }
    }

    fn operate(&self, side: usize, _worker: usize, index: u64) {
        let at = |i: u64| mix(index * (READS + 1) + i, SIZE);
        // The increment depends on what was read, so that the reads cannot be left out; it is never zero.
        let increment = match side {
            0 => {
                let mut numbers = self.locked.lock();
                let sum = (0..READS).fold(0_u64, |sum, i| sum.wrapping_add(numbers[at(i)]));
                numbers[at(READS)] += sum % 2 + 1;
                sum % 2 + 1
            }
            _ => atomically(|tx| {
                let sum = (0..READS).try_fold(0_u64, |sum, i| Ok(sum.wrapping_add(self.numbers[at(i)].get(tx)?)))?;
                self.numbers[at(READS)].modify(tx, |n| n + sum % 2 + 1)?;
                Ok(sum % 2 + 1)
            }),
        };
        self.changes.fetch_add(increment, Ordering::Relaxed);
    }

    fn verify(&self, side: usize) {
        let sum: u64 = match side {
            0 => self.locked.lock().iter().sum(),
            _ => self.numbers.iter().map(TVar::load).sum(),
        };
        assert_eq!(sum, self.changes.load(Ordering::Relaxed));
    }
}
