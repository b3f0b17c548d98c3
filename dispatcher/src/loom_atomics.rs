//! The atomics of loom, for the models of this crate.

use std::sync::atomic::Ordering;

use loom::sync::atomic::AtomicU64;
use optimist_stm::atomics::{Atomics, Word};

/// Loom's atomics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loom;

/// A word of loom's.
#[derive(Debug)]
pub(crate) struct LoomWord(AtomicU64);

impl Atomics for Loom {
    type Word = LoomWord;
    const CAN_WAIT: bool = false;
    const BIASED: bool = false;

    fn fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }

    fn light() {
        Self::fence();
    }

    fn heavy() {
        Self::fence();
    }

    fn spin() {
        loom::thread::yield_now();
    }
}

impl Word for LoomWord {
    fn new(value: u64) -> Self {
        LoomWord(AtomicU64::new(value))
    }

    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, success, Ordering::Relaxed)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, order)
    }
}
