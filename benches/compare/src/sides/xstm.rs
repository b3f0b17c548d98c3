//! The crate `xstm`.

use ::xstm::{Context, Stm, StmError, TVar, Transaction};

use super::{Access, Body, Side};

/// Its `TVar`s and clock.
pub struct Xstm(Stm, Vec<TVar<u64>>);

struct Running<'a, 'var>(&'a mut Context<'var>, &'var [TVar<u64>]);

impl Access for Running<'_, '_> {
    type Abort = StmError;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, StmError> {
        self.0.read(&self.1[at])
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: u64) -> Result<(), StmError> {
        self.0.write(&self.1[at], value)
    }
}

struct Bound<'a, B>(&'a [TVar<u64>], &'a B);

impl<B: Body> Transaction for Bound<'_, B> {
    type Output = u64;

    #[inline(always)]
    fn atomically<'this: 'var, 'context, 'var>(
        &'this self,
        context: &'context mut Context<'var>,
    ) -> Result<u64, StmError> {
        self.1.run(&mut Running(context, self.0))
    }
}

impl Side for Xstm {
    fn new(size: usize, value: u64) -> Self {
        Xstm(Stm::new(), (0..size).map(|_| TVar::new(value)).collect())
    }

    fn name() -> String {
        "xstm 0.1".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        self.0.atomically(Bound(&self.1, body))
    }
}
