//! Hot counters: everybody adds to one of a few.

use optimist_stm::collections::TCounter;
use optimist_stm::{TVar, atomically, read_only};
use parking_lot::Mutex;

use super::mix;
use crate::harness::{Side, Workload, parallel};

const COUNTERS: usize = 4;

/// The workload.
pub(crate) struct Hot {
    locked: Mutex<Vec<i64>>,
    variables: Vec<TVar<i64>>,
    counters: Vec<TCounter>,
}

impl Hot {
    /// The workload.
    pub(crate) fn new() -> Self {
        Hot { locked: Mutex::default(), variables: Vec::new(), counters: Vec::new() }
    }
}

impl Workload for Hot {
    fn name(&self) -> &'static str {
        "hot"
    }

    fn about(&self) -> String {
        format!("two additions to {COUNTERS} counters")
    }

    fn sides(&self) -> Vec<Side> {
        vec![parallel("one mutex"), parallel("optimist, TVar"), parallel("optimist, TCounter")]
    }

    fn operations(&self) -> u64 {
        200_000
    }

    fn reset(&mut self, side: usize) {
        match side {
            0 => *self.locked.lock() = vec![0; COUNTERS],
            1 => self.variables = (0..COUNTERS).map(|_| TVar::new(0)).collect(),
            _ => self.counters = (0..COUNTERS).map(|_| TCounter::new(0)).collect(),
        }
    }

    fn operate(&self, side: usize, _worker: usize, index: u64) {
        let (a, b) = (mix(index, COUNTERS), mix(!index, COUNTERS));
        match side {
            0 => {
                let mut counters = self.locked.lock();
                counters[a] += 1;
                counters[b] += 1;
            }
            1 => atomically(|tx| {
                self.variables[a].modify(tx, |n| n + 1)?;
                self.variables[b].modify(tx, |n| n + 1)
            }),
            _ => atomically(|tx| {
                self.counters[a].add(tx, 1)?;
                self.counters[b].add(tx, 1)
            }),
        }
    }

    fn verify(&self, side: usize) {
        let sum: i64 = match side {
            0 => self.locked.lock().iter().sum(),
            1 => self.variables.iter().map(TVar::load).sum(),
            _ => self.counters.iter().map(|counter| read_only(|tx| counter.get(tx))).sum(),
        };
        assert_eq!(sum as u64, self.operations() * 2);
    }
}
