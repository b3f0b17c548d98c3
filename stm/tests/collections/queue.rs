//! The queue against `VecDeque`, and among threads.

use std::collections::VecDeque;
use std::thread;

use optimist_stm::collections::TQueue;
use optimist_stm::{Kind, Tx, atomically, lease, read_only};

use crate::model::{Random, Subject, against_model, rounds};

#[derive(Clone, Debug)]
enum QueueOp {
    Push(u64),
    Pop,
    First,
    Len,
    IsEmpty,
    Values,
    Clear,
}

struct QueueSubject(TQueue<String>);

impl Subject for QueueSubject {
    type Op = QueueOp;
    type Outcome = Vec<String>;
    type Model = VecDeque<String>;

    fn op(&self, random: &mut Random) -> QueueOp {
        match random.below(20) {
            0..8 => QueueOp::Push(random.below(1000)),
            8..16 => QueueOp::Pop,
            16 => QueueOp::First,
            17 => QueueOp::Len,
            18 => QueueOp::IsEmpty,
            _ if random.below(10) == 0 => QueueOp::Clear,
            _ => QueueOp::Values,
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &QueueOp) -> optimist_stm::Result<Vec<String>> {
        Ok(match op {
            QueueOp::Push(value) => {
                self.0.push(tx, value.to_string())?;
                Vec::new()
            }
            QueueOp::Pop => self.0.pop(tx)?.into_iter().collect(),
            QueueOp::First => self.0.with_first(tx, String::clone)?.into_iter().collect(),
            QueueOp::Len => vec![self.0.len(tx)?.to_string()],
            QueueOp::IsEmpty => vec![self.0.is_empty(tx)?.to_string()],
            QueueOp::Values => self.0.values(tx)?,
            QueueOp::Clear => {
                self.0.clear(tx)?;
                Vec::new()
            }
        })
    }

    fn model(model: &mut Self::Model, op: &QueueOp) -> Vec<String> {
        match op {
            QueueOp::Push(value) => {
                model.push_back(value.to_string());
                Vec::new()
            }
            QueueOp::Pop => model.pop_front().into_iter().collect(),
            QueueOp::First => model.front().cloned().into_iter().collect(),
            QueueOp::Len => vec![model.len().to_string()],
            QueueOp::IsEmpty => vec![model.is_empty().to_string()],
            QueueOp::Values => model.iter().cloned().collect(),
            QueueOp::Clear => {
                model.clear();
                Vec::new()
            }
        }
    }

    fn agrees(&self, model: &Self::Model) {
        assert!(read_only(|tx| self.0.values(tx)).iter().eq(model));
    }
}

#[test]
fn a_queue_agrees_with_the_model() {
    against_model(4, rounds(15_000), || QueueSubject(TQueue::new()));
}

#[test]
fn a_queue_hands_every_value_to_one_taker() {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let queue = TQueue::new();
        let count = rounds(20_000);
        let taken = thread::scope(|scope| {
            let takers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| (0..count).map(|_| atomically(|tx| queue.take(tx))).collect::<Vec<u64>>()))
                .collect();
            for giver in 0..2 {
                let queue = &queue;
                scope.spawn(move || (0..count).for_each(|n| atomically(|tx| queue.push(tx, n * 2 + giver))));
            }
            takers.into_iter().map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
        });
        for giver in 0..2 {
            // Each taker sees the values of one giver in their order.
            assert!(taken.iter().all(|taken| taken.iter().filter(|n| *n % 2 == giver).is_sorted()), "{kind}");
        }
        let mut all: Vec<u64> = taken.into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..count * 2), "{kind}");
    }
}
