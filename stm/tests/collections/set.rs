//! The set and the counter, each of which says what the other should.

use std::thread;

use optimist_stm::collections::{TCounter, TSet};
use optimist_stm::{Kind, atomically, lease, read_only};

use crate::model::{Random, rounds};

#[test]
fn a_set_and_a_counter_agree_with_each_other() {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let (set, counter) = (TSet::new(), TCounter::new(5));
        thread::scope(|scope| {
            for seed in 1..4 {
                let (set, counter) = (&set, &counter);
                scope.spawn(move || {
                    let mut random = Random(seed * 99);
                    for _ in 0..rounds(10_000) {
                        let (key, adds) = (random.below(200), random.below(2) == 0);
                        atomically(|tx| {
                            let changed = if adds { set.insert(tx, key)? } else { set.remove(tx, &key)? };
                            assert_eq!(set.contains(tx, &key)?, adds);
                            if changed { counter.add(tx, if adds { 1 } else { -1 }) } else { Ok(()) }
                        });
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..rounds(500) {
                    let (len, count) = read_only(|tx| Ok((set.len(tx)?, counter.get(tx)?)));
                    assert_eq!(len as i64 + 5, count, "{kind}");
                }
            });
        });
        assert_eq!(read_only(|tx| set.keys(tx)).len() as i64 + 5, read_only(|tx| counter.get(tx)));
        atomically(|tx| set.clear(tx));
        assert!(read_only(|tx| set.is_empty(tx)));
        atomically(|tx| counter.set(tx, 3));
        assert_eq!(read_only(|tx| counter.get(tx)), 3);
    }
}
