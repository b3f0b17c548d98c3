//! Every thread has numbers of its own: what is left between the threads is what the system itself shares.

use optimist_stm::protocol::shipped::EagerDeferred;
use optimist_stm::{TVar, atomically, atomically_with};
use parking_lot::Mutex;

use super::mix;
use crate::harness::{Side, Workload, parallel};

const EACH: usize = 256;
const THREADS: usize = 64;

/// The workload.
pub(crate) struct Disjoint {
    locked: Mutex<Vec<u64>>,
    numbers: Vec<Vec<TVar<u64>>>,
}

impl Disjoint {
    /// The workload.
    pub(crate) fn new() -> Self {
        Disjoint { locked: Mutex::default(), numbers: Vec::new() }
    }
}

impl Workload for Disjoint {
    fn name(&self) -> &'static str {
        "disjoint"
    }

    fn about(&self) -> String {
        format!("four increments among {EACH} numbers of the thread's own")
    }

    fn sides(&self) -> Vec<Side> {
        vec![parallel("one mutex"), parallel("optimist"), parallel("optimist, deferred clock")]
    }

    fn operations(&self) -> u64 {
        200_000
    }

    fn reset(&mut self, side: usize) {
        match side {
            0 => *self.locked.lock() = vec![0; EACH * THREADS],
            _ => self.numbers = (0..THREADS).map(|_| (0..EACH).map(|_| TVar::new(0)).collect()).collect(),
        }
    }

    fn operate(&self, side: usize, worker: usize, index: u64) {
        let at = |i: u64| mix(index * 4 + i, EACH);
        let mine = || &self.numbers[worker % THREADS];
        match side {
            0 => {
                let mut numbers = self.locked.lock();
                (0..4).for_each(|i| numbers[worker % THREADS * EACH + at(i)] += 1);
            }
            1 => atomically(|tx| (0..4).try_for_each(|i| mine()[at(i)].modify(tx, |n| n + 1))),
            _ => atomically_with::<EagerDeferred, _>(|tx| (0..4).try_for_each(|i| mine()[at(i)].modify(tx, |n| n + 1))),
        }
    }

    fn verify(&self, side: usize) {
        let sum: u64 = match side {
            0 => self.locked.lock().iter().sum(),
            _ => self.numbers.iter().flatten().map(TVar::load).sum(),
        };
        assert_eq!(sum, self.operations() * 4);
    }
}
