//! The crate `fast-stm`.

use ::fast_stm::{StmError, TVar, Transaction, atomically};

use super::{Access, Body, Side};

/// Its `TVar`s.
pub struct FastStm(Vec<TVar<u64>>);

struct Running<'a>(&'a mut Transaction, &'a [TVar<u64>]);

impl Access for Running<'_> {
    type Abort = StmError;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, StmError> {
        self.1[at].read(self.0)
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: u64) -> Result<(), StmError> {
        self.1[at].write(self.0, value)
    }
}

impl Side for FastStm {
    fn new(size: usize, value: u64) -> Self {
        FastStm((0..size).map(|_| TVar::new(value)).collect())
    }

    fn name() -> String {
        "fast-stm 0.7".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        atomically(|tx| body.run(&mut Running(tx, &self.0)))
    }
}
