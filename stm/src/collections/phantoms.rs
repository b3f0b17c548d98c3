//! Phantoms: a transaction that has found *nothing* (an absent key, an empty range, an end) depends on that as on anything else it has read.

use std::thread;

use super::{TMap, TOrderedMap, TQueue, TSet, TVec};
use crate::tx::{Result, Tx};
use crate::{Kind, TVar, atomically, lease};

type Ask = dyn Fn(&mut Tx<'_>) -> Result<u64>;
type Alter = dyn Fn(&mut Tx<'_>) -> Result<()> + Sync;

/// What a transaction asks, answered with a number, and what another one changes meanwhile, so that the answer becomes another.
struct Question {
    name: &'static str,
    ask: Box<Ask>,
    change: Box<Alter>,
}

fn question<C: Clone + Sync + 'static>(
    name: &'static str,
    subject: &C,
    ask: impl Fn(&C, &mut Tx<'_>) -> Result<u64> + 'static,
    change: impl Fn(&C, &mut Tx<'_>) -> Result<()> + Sync + 'static,
) -> Question {
    let (asked, changed) = (subject.clone(), subject.clone());
    Question { name, ask: Box::new(move |tx| ask(&asked, tx)), change: Box::new(move |tx| change(&changed, tx)) }
}

fn questions() -> Vec<Question> {
    let (map, set) = (TMap::<u64, u64>::new(), TSet::<u64>::new());
    let (empty, ordered) = (TOrderedMap::<u64, u64>::new(), TOrderedMap::<u64, u64>::new());
    let (queue, vector) = (TQueue::<u64>::new(), TVec::<u64>::new());
    atomically(|tx| {
        for key in 0..40 {
            map.insert(tx, key * 10, key)?;
            ordered.insert(tx, key * 10, key)?;
        }
        Ok(())
    });
    vec![
        question(
            "map: an absent key",
            &map,
            |c, tx| Ok(c.get(tx, &5)?.unwrap_or(0)),
            |c, tx| c.insert(tx, 5, 1).map(drop),
        ),
        question("map: the length", &map, |c, tx| Ok(c.len(tx)? as u64), |c, tx| c.insert(tx, 6, 1).map(drop)),
        question(
            "map: all entries",
            &map,
            |c, tx| Ok(c.entries(tx)?.len() as u64),
            |c, tx| c.insert(tx, 7, 1).map(drop),
        ),
        question("set: an absent key", &set, |c, tx| Ok(c.contains(tx, &5)?.into()), |c, tx| c.insert(tx, 5).map(drop)),
        question("set: is it empty", &set, |c, tx| Ok(c.is_empty(tx)?.into()), |c, tx| c.remove(tx, &5).map(drop)),
        question(
            "ordered map: an absent key",
            &ordered,
            |c, tx| Ok(c.get(tx, &5)?.unwrap_or(0)),
            |c, tx| c.insert(tx, 5, 1).map(drop),
        ),
        question(
            "ordered map: an empty range",
            &ordered,
            |c, tx| Ok(c.range(tx, 51..59)?.len() as u64),
            |c, tx| c.insert(tx, 55, 1).map(drop),
        ),
        question(
            "ordered map: the gap in a range",
            &ordered,
            |c, tx| Ok(c.range(tx, 100..=300)?.len() as u64),
            |c, tx| c.insert(tx, 195, 1).map(drop),
        ),
        question(
            "ordered map: the first",
            &ordered,
            |c, tx| Ok(c.first(tx)?.map_or(0, |(key, _)| key)),
            |c, tx| c.remove(tx, &0).map(drop),
        ),
        question(
            "ordered map: the last",
            &ordered,
            |c, tx| Ok(c.last(tx)?.map_or(0, |(key, _)| key)),
            |c, tx| c.insert(tx, 1000, 1).map(drop),
        ),
        question(
            "ordered map: is it empty",
            &empty,
            |c, tx| Ok(c.is_empty(tx)?.into()),
            |c, tx| c.insert(tx, 1, 1).map(drop),
        ),
        question("queue: is it empty", &queue, |c, tx| Ok(c.is_empty(tx)?.into()), |c, tx| c.push(tx, 1)),
        question("queue: all values", &queue, |c, tx| Ok(c.values(tx)?.len() as u64), |c, tx| c.push(tx, 2)),
        question(
            "vector: past the end",
            &vector,
            |c, tx| Ok(c.get(tx, 0)?.unwrap_or(0)),
            |c, tx| c.push(tx, 7).map(drop),
        ),
        question("vector: the length", &vector, |c, tx| Ok(c.len(tx)? as u64), |c, tx| c.push(tx, 8).map(drop)),
    ]
}

/// Asks, has the other transaction commit before this one writes something else, and commits. Whether the answer with which it has committed
/// is one that no longer held. With `forgets` what the question has read is not tracked.
fn is_outdated(question: &Question, forgets: bool) -> bool {
    let (own, change) = (TVar::new(0_u64), &question.change);
    let mut attempts = 0;
    let answer = atomically(|tx| {
        attempts += 1;
        let answer = (question.ask)(tx)?;
        if forgets {
            tx.attempt.reads.clear();
            tx.attempt.values.clear();
        }
        if attempts == 1 {
            thread::scope(|scope| {
                scope.spawn(|| atomically(|tx| change(tx)));
            });
        }
        own.set(tx, answer)?;
        Ok(answer)
    });
    answer != atomically(|tx| (question.ask)(tx))
}

#[test]
fn what_was_not_there_is_tracked_as_what_was() {
    // Under the global lock nobody commits meanwhile.
    for &kind in Kind::ALL.iter().filter(|kind| **kind != Kind::GlobalLock) {
        let _lease = lease(kind);
        for question in questions() {
            assert!(!is_outdated(&question, false), "{}, {kind}", question.name);
        }
        for question in questions() {
            assert!(is_outdated(&question, true), "{}: nobody notices that it is not tracked, {kind}", question.name);
        }
    }
}
