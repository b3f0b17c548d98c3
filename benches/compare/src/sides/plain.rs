//! Plain code: no synchronisation at all, for one thread.

use std::cell::UnsafeCell;
use std::convert::Infallible;

use super::{Access, Body, Side};

/// A vector.
pub struct Plain(UnsafeCell<Vec<u64>>);

// SAFETY: the comparison runs this side on one thread at a time.
unsafe impl Sync for Plain {}

impl Access for &mut Vec<u64> {
    type Abort = Infallible;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, Infallible> {
        Ok(self[at])
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: u64) -> Result<(), Infallible> {
        self[at] = value;
        Ok(())
    }
}

impl Side for Plain {
    fn new(size: usize, value: u64) -> Self {
        Plain(UnsafeCell::new(vec![value; size]))
    }

    fn name() -> String {
        "plain code".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        // SAFETY: as above.
        let Ok(value) = body.run(&mut unsafe { &mut *self.0.get() });
        value
    }
}
