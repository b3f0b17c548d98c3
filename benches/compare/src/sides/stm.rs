//! The crate `stm`.

use ::stm::{StmError, TVar, Transaction, atomically};

use super::{Access, Body, Side};

/// Its `TVar`s.
pub struct Stm(Vec<TVar<u64>>);

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

impl Side for Stm {
    fn new(size: usize, value: u64) -> Self {
        Stm((0..size).map(|_| TVar::new(value)).collect())
    }

    fn name() -> String {
        "stm 0.4".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        atomically(|tx| body.run(&mut Running(tx, &self.0)))
    }
}
