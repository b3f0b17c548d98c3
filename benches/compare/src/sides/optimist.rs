//! Ours: through the face that serves every protocol, and compiled for one.

use std::marker::PhantomData;

use optimist_stm::protocol::{Any, Shipped};
use optimist_stm::{Abort, Read, ReadTx, TVar, Tx, atomically, atomically_with, protocol, read_only, read_only_with};

use super::{Access, Body, Side};

/// `TVar`s and `atomically`, under the protocol in force.
pub struct Optimist(Vec<TVar<u64>>);

struct Writing<'a, 'b, P: protocol::Protocol>(&'a mut Tx<'b, P>, &'a [TVar<u64>]);
struct Reading<'a, R>(&'a mut R, &'a [TVar<u64>]);

impl<P: protocol::Protocol> Access for Writing<'_, '_, P> {
    type Abort = Abort;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, Abort> {
        self.1[at].get(self.0)
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: u64) -> Result<(), Abort> {
        self.1[at].set(self.0, value)
    }
}

impl<R: Read> Access for Reading<'_, R> {
    type Abort = Abort;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, Abort> {
        self.1[at].get(self.0)
    }

    fn set(&mut self, _: usize, _: u64) -> Result<(), Abort> {
        panic!("a body that only reads has written");
    }
}

impl Side for Optimist {
    fn new(size: usize, value: u64) -> Self {
        Optimist((0..size).map(|_| TVar::new(value)).collect())
    }

    fn name() -> String {
        "optimist".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        atomically(|tx: &mut Tx<'_, Any>| body.run(&mut Writing(tx, &self.0)))
    }

    #[inline(always)]
    fn read_only<B: Body>(&self, body: &B) -> u64 {
        read_only(|tx: &mut ReadTx<'_, Any>| body.run(&mut Reading(tx, &self.0)))
    }
}

/// The same, compiled for the protocol `P`.
pub struct Compiled<P>(Vec<TVar<u64>>, PhantomData<P>);

impl<P: Shipped> Side for Compiled<P> {
    fn new(size: usize, value: u64) -> Self {
        Compiled((0..size).map(|_| TVar::new(value)).collect(), PhantomData)
    }

    fn name() -> String {
        format!("optimist, compiled for {}", P::KIND)
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        atomically_with::<P, _>(|tx| body.run(&mut Writing(tx, &self.0)))
    }

    #[inline(always)]
    fn read_only<B: Body>(&self, body: &B) -> u64 {
        read_only_with::<P, _>(|tx| body.run(&mut Reading(tx, &self.0)))
    }
}
