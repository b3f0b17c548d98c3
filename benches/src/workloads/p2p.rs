//! Transfers between accounts in blocks, to be executed with the outcome of their order: Block-STM's peer-to-peer workload.
//!
//! The fewer accounts, the more transfers depend on one before; with two of them each does. Every transfer also does some work of its own,
//! as a real one does (a signature, a contract). What is moved depends on the balances, so an order that is not kept shows.

use std::sync::atomic::{AtomicU64, Ordering};

use optimist_stm::order::in_order;
use optimist_stm::protocol::Protocol;
use optimist_stm::{Result, TVar, Tx, atomically};

use super::mix;
use crate::harness::{SEQUENTIAL, Side, Workload, parallel};

const BALANCE: u64 = 1000;
/// Rounds of work in a transfer: some five microseconds.
const WORK: u64 = 4000;

/// The workload.
pub(crate) struct P2p {
    name: &'static str,
    accounts: usize,
    block: u64,
    balances: Vec<AtomicU64>,
    variables: Vec<TVar<u64>>,
    /// What the transfers leave one after the other.
    expected: Vec<u64>,
}

impl P2p {
    /// Blocks of 1,000 and 10,000 transfers over different numbers of accounts.
    pub(crate) fn all() -> Vec<P2p> {
        let new = |name, accounts, block| P2p {
            name,
            accounts,
            block,
            balances: Vec::new(),
            variables: Vec::new(),
            expected: Vec::new(),
        };
        vec![
            new("p2p-2-1k", 2, 1000),
            new("p2p-10-1k", 10, 1000),
            new("p2p-100-1k", 100, 1000),
            new("p2p-1k-1k", 1000, 1000),
            new("p2p-10k-1k", 10_000, 1000),
            new("p2p-2-10k", 2, 10_000),
            new("p2p-10-10k", 10, 10_000),
            new("p2p-100-10k", 100, 10_000),
            new("p2p-1k-10k", 1000, 10_000),
            new("p2p-10k-10k", 10_000, 10_000),
        ]
    }

    fn choose(&self, index: u64) -> (usize, usize) {
        (mix(index, self.accounts), mix(!index, self.accounts))
    }

    /// A transfer without transactions.
    fn plainly(&self, index: u64) {
        let (from, to) = self.choose(index);
        // Relaxed: one thread. Atomic only because a workload is shared.
        let load = |at: usize| self.balances[at].load(Ordering::Relaxed);
        let amount = amount(index, load(from));
        self.balances[from].store(load(from) - amount, Ordering::Relaxed);
        self.balances[to].store(load(to) + amount, Ordering::Relaxed);
    }

    fn transfer<P: Protocol>(&self, tx: &mut Tx<'_, P>, index: u64) -> Result<()> {
        let (from, to) = self.choose(index);
        let (from, to) = (&self.variables[from], &self.variables[to]);
        let amount = amount(index, from.get(tx)?);
        from.modify(tx, |balance| balance - amount)?;
        to.modify(tx, |balance| balance + amount)
    }
}

/// The work of a transfer, and what comes out of it.
fn amount(index: u64, balance: u64) -> u64 {
    let mut x = index;
    for _ in 0..WORK {
        x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    (balance / 3).min(x % 50)
}

impl Workload for P2p {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> String {
        format!("a block of {} transfers over {} accounts, {WORK} rounds of work in each", self.block, self.accounts)
    }

    fn sides(&self) -> Vec<Side> {
        let alone = |name| Side { name, parallel: false };
        vec![SEQUENTIAL, alone("transactions one by one"), parallel("unordered"), parallel("in order")]
    }

    fn operations(&self) -> u64 {
        self.block
    }

    fn reset(&mut self, side: usize) {
        if self.expected.is_empty() {
            self.balances = (0..self.accounts).map(|_| AtomicU64::new(BALANCE)).collect();
            (0..self.block).for_each(|index| self.plainly(index));
            self.expected = self.balances.iter().map(|balance| balance.load(Ordering::Relaxed)).collect();
        }
        if side == 0 {
            self.balances = (0..self.accounts).map(|_| AtomicU64::new(BALANCE)).collect();
        } else {
            self.variables = (0..self.accounts).map(|_| TVar::new(BALANCE)).collect();
        }
    }

    fn operate(&self, side: usize, _worker: usize, index: u64) {
        if side == 0 { self.plainly(index) } else { atomically(|tx| self.transfer(tx, index)) }
    }

    fn all_at_once(&self, side: usize, threads: usize) -> bool {
        if side == 3 {
            in_order(threads, self.block, |tx, index| self.transfer(tx, index));
        }
        side == 3
    }

    fn verify(&self, side: usize) {
        let after: Vec<u64> = match side {
            0 => self.balances.iter().map(|balance| balance.load(Ordering::Relaxed)).collect(),
            _ => self.variables.iter().map(TVar::load).collect(),
        };
        if side == 2 {
            // Any order is right, so only the total is known.
            assert_eq!(after.iter().sum::<u64>(), BALANCE * self.accounts as u64);
        } else {
            assert!(after == self.expected, "not the outcome of the order");
        }
    }
}
