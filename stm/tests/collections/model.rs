//! Random transactions on a structure, repeated on the standard library's in the order of their commits.

use std::sync::Mutex;
use std::thread;

use optimist_stm::{Interrupt, Kind, TVar, Tx, lease, try_atomically};

/// A small generator, so that runs can be repeated.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Transactions for each thread and protocol: more where they are cheap.
pub(crate) fn rounds(release: u64) -> u64 {
    if cfg!(debug_assertions) { release / 10 } else { release }
}

/// A structure, its operations, and the plain structure that says what they should return.
pub(crate) trait Subject: Sync {
    type Op: Clone + Send + std::fmt::Debug;
    type Outcome: PartialEq + Send + std::fmt::Debug;
    type Model: Default + Clone;

    fn op(&self, random: &mut Random) -> Self::Op;
    fn apply(&self, tx: &mut Tx<'_>, op: &Self::Op) -> optimist_stm::Result<Self::Outcome>;
    fn model(model: &mut Self::Model, op: &Self::Op) -> Self::Outcome;
    /// Compares the whole.
    fn agrees(&self, model: &Self::Model);
}

/// What one committed transaction did: its place in the order of commits, and each operation with its outcome.
type Committed<S> = (u64, Vec<(<S as Subject>::Op, <S as Subject>::Outcome)>);

/// Runs random transactions on several threads under each protocol. Each takes a number from a shared counter, which makes the order of
/// commits known; the committed ones are then repeated on the model in that order. Some fail as a whole, some have a nested
/// transaction that fails: neither may leave a trace.
pub(crate) fn against_model<S: Subject>(threads: u64, transactions: u64, fresh: impl Fn() -> S) {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let subject = fresh();
        let numbers = TVar::new(0_u64);
        let log: Mutex<Vec<Committed<S>>> = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for seed in 1..=threads {
                let (subject, numbers, log) = (&subject, &numbers, &log);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    let mut mine = Vec::new();
                    for _ in 0..transactions {
                        let ops: Vec<S::Op> = (0..=random.below(4)).map(|_| subject.op(&mut random)).collect();
                        let lost: Vec<S::Op> = (0..random.below(3)).map(|_| subject.op(&mut random)).collect();
                        let fails = random.below(8) == 0;
                        let outcome = try_atomically(|tx| {
                            let mut outcomes = Vec::new();
                            for (at, op) in ops.iter().enumerate() {
                                outcomes.push((op.clone(), subject.apply(tx, op)?));
                                if at == 0 && !lost.is_empty() {
                                    let nested = tx.nested(|tx| {
                                        for op in &lost {
                                            subject.apply(tx, op)?;
                                        }
                                        Err::<(), _>(Interrupt::Error(()))
                                    })?;
                                    assert!(nested.is_err());
                                }
                            }
                            if fails {
                                return Err(Interrupt::Error(()));
                            }
                            let number = numbers.get(tx)?;
                            numbers.set(tx, number + 1)?;
                            Ok((number, outcomes))
                        });
                        assert_eq!(outcome.is_err(), fails);
                        mine.extend(outcome);
                    }
                    log.lock().unwrap().extend(mine);
                });
            }
        });
        let mut log = log.into_inner().unwrap();
        log.sort_by_key(|(number, _)| *number);
        let mut model = S::Model::default();
        for (number, outcomes) in log {
            for (op, outcome) in outcomes {
                assert_eq!(S::model(&mut model, &op), outcome, "{kind}: transaction {number}, {op:?}");
            }
        }
        subject.agrees(&model);
    }
}
