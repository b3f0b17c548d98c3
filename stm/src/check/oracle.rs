//! The oracle: is there one serial order that explains everything that was seen?
//!
//! *Opacity* (Guerraoui and Kapalka, PPoPP 2008): all transactions, those that aborted included, can be put in one order in which each
//! reads what the committed ones before it (and it itself) have written last. The order respects that of each thread; a transaction
//! that read another's value comes after it in any case. Nothing is concluded from which of two concurrent transactions happened to
//! run first, because no happens-before relates them. The final state is one more transaction, the last.

use super::program::{Op, Program};
use crate::abort::Abort;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// It committed.
    Committed,
    /// The protocol aborted it.
    Aborted(Abort),
    /// Its body failed.
    Failed,
}

/// What happened in one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its thread.
    pub thread: usize,
    /// Its position in the thread.
    pub transaction: usize,
    /// The values of its reads, in order, as far as it came.
    pub reads: Vec<u64>,
    /// When each access was done, in steps of the execution, and after those its end. For display only.
    pub steps: Vec<u64>,
    /// How it ended.
    pub end: End,
}

/// Everything that was seen in one execution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Execution {
    /// The transactions, those of a thread in its order.
    pub transactions: Vec<Seen>,
    /// The values of the objects afterwards.
    pub last: Vec<u64>,
}

/// Whether some serial order explains the execution.
#[must_use]
pub fn is_explained(program: &Program, execution: &Execution) -> bool {
    Search { program, execution, ignored: None }.explains()
}

/// The transactions, as thread and position, such that a serial order would explain all but the reads of that one. Empty if it is
/// the final state that nothing explains, or if more than one transaction is to blame.
#[must_use]
pub fn blame(program: &Program, execution: &Execution) -> Vec<(usize, usize)> {
    let all = execution.transactions.iter().map(|seen| (seen.thread, seen.transaction));
    all.filter(|&suspect| Search { program, execution, ignored: Some(suspect) }.explains()).collect()
}

struct Search<'a> {
    program: &'a Program,
    execution: &'a Execution,
    /// A transaction whose reads are not compared.
    ignored: Option<(usize, usize)>,
}

impl Search<'_> {
    fn explains(&self) -> bool {
        let mut next = vec![0; self.program.threads.len()];
        self.search(&mut next, &vec![0; self.execution.last.len()])
    }

    /// Tries every transaction that may come next.
    fn search(&self, next: &mut [usize], state: &[u64]) -> bool {
        let mut done = true;
        for thread in 0..next.len() {
            let at = next[thread];
            let mut all = self.execution.transactions.iter();
            let Some(seen) = all.find(|seen| seen.thread == thread && seen.transaction == at) else {
                continue;
            };
            done = false;
            if let Some(after) = self.replay(seen, state) {
                next[thread] += 1;
                let found = self.search(next, &after);
                next[thread] -= 1;
                if found {
                    return true;
                }
            }
        }
        done && state == self.execution.last
    }

    /// The state after a transaction that runs alone, or none if its reads are not those of this state.
    fn replay(&self, seen: &Seen, state: &[u64]) -> Option<Vec<u64>> {
        let mut own = state.to_vec();
        let mut reads = seen.reads.iter();
        let compares = self.ignored != Some((seen.thread, seen.transaction));
        for (index, op) in self.program.threads[seen.thread][seen.transaction].ops.iter().enumerate() {
            match op {
                Op::Read(object) => match reads.next() {
                    Some(value) if compares && *value != own[usize::from(*object)] => return None,
                    Some(_) => {}
                    // It came no further.
                    None => break,
                },
                Op::Write(object) => {
                    own[usize::from(*object)] = Program::value(seen.thread, seen.transaction, index);
                }
            }
        }
        Some(if seen.end == End::Committed { own } else { state.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(thread: usize, transaction: usize, reads: &[u64], end: End) -> Seen {
        Seen { thread, transaction, reads: reads.to_vec(), steps: Vec::new(), end }
    }

    fn explained(program: &str, transactions: Vec<Seen>, last: [u64; 2]) -> bool {
        let program: Program = program.parse().unwrap();
        is_explained(&program, &Execution { transactions, last: last.to_vec() })
    }

    #[test]
    fn knows_the_phenomena() {
        let end = End::Committed;
        // Values: hundred times the thread, ten times the transaction, the access, each from one.
        assert!(explained("rx wx | rx wx", vec![seen(0, 0, &[0], end), seen(1, 0, &[112], end)], [212, 0]));
        assert!(
            !explained("rx wx | rx wx", vec![seen(0, 0, &[0], end), seen(1, 0, &[0], end)], [212, 0]),
            "lost update"
        );
        assert!(
            !explained("rx wy | ry wx", vec![seen(0, 0, &[0], end), seen(1, 0, &[0], end)], [212, 112]),
            "write skew"
        );
        let zombie = |reads: &[u64]| vec![seen(0, 0, reads, End::Aborted(Abort::Locked)), seen(1, 0, &[], end)];
        assert!(!explained("rx ry | wx wy", zombie(&[0, 212]), [211, 212]), "zombie read");
        assert!(explained("rx ry | wx wy", zombie(&[211, 212]), [211, 212]));
        assert!(
            !explained("wx! | rx", vec![seen(0, 0, &[], End::Failed), seen(1, 0, &[111], end)], [0, 0]),
            "dirty read"
        );
        assert!(!explained("wx | ry", vec![seen(0, 0, &[], end), seen(1, 0, &[0], end)], [0, 0]), "lost write");
    }

    #[test]
    fn blames_the_transaction_that_nothing_explains() {
        let program: Program = "rx ry | wx wy".parse().unwrap();
        let zombie = seen(0, 0, &[0, 212], End::Aborted(Abort::Locked));
        let execution = Execution { transactions: vec![zombie, seen(1, 0, &[], End::Committed)], last: vec![211, 212] };
        assert_eq!(blame(&program, &execution), [(0, 0)]);
    }
}
