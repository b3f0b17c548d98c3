//! A bank: transfers, and now and then the sum of all accounts.

use optimist_stm::{TVar, atomically, read_only};
use parking_lot::Mutex;

use super::mix;
use crate::harness::{Side, Workload, parallel};

const ACCOUNTS: usize = 1000;
const BALANCE: i64 = 1000;

/// The workload.
pub(crate) struct Bank {
    locked: Mutex<Vec<i64>>,
    accounts: Vec<TVar<i64>>,
}

impl Bank {
    /// A bank.
    pub(crate) fn new() -> Self {
        Bank { locked: Mutex::default(), accounts: Vec::new() }
    }
}

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn about(&self) -> String {
        format!("90 % transfers, 10 % sums over {ACCOUNTS} accounts")
    }

    fn sides(&self) -> Vec<Side> {
        vec![parallel("one mutex"), parallel("optimist")]
    }

    fn operations(&self) -> u64 {
        100_000
    }

    fn reset(&mut self, side: usize) {
        match side {
            0 => *self.locked.lock() = vec![BALANCE; ACCOUNTS],
            _ => self.accounts = (0..ACCOUNTS).map(|_| TVar::new(BALANCE)).collect(),
        }
    }

    fn operate(&self, side: usize, _worker: usize, index: u64) {
        let (from, to, sums) = (mix(index, ACCOUNTS), mix(!index, ACCOUNTS), index % 10 == 9);
        let total = ACCOUNTS as i64 * BALANCE;
        match (side, sums) {
            (0, false) => {
                let mut accounts = self.locked.lock();
                accounts[from] -= 1;
                accounts[to] += 1;
            }
            (0, true) => assert_eq!(self.locked.lock().iter().sum::<i64>(), total),
            (_, false) => atomically(|tx| {
                self.accounts[from].modify(tx, |balance| balance - 1)?;
                self.accounts[to].modify(tx, |balance| balance + 1)
            }),
            (_, true) => {
                let sum = read_only(|tx| self.accounts.iter().try_fold(0, |sum, account| Ok(sum + account.get(tx)?)));
                assert_eq!(sum, total, "a reader saw a transfer half done");
            }
        }
    }

    fn verify(&self, side: usize) {
        let sum: i64 = match side {
            0 => self.locked.lock().iter().sum(),
            _ => self.accounts.iter().map(TVar::load).sum(),
        };
        assert_eq!(sum, ACCOUNTS as i64 * BALANCE);
    }
}
