//! Values that commits have replaced, for transactions that read an older state.
//!
//! A table beside the heap, keyed by the address of the field, so that objects need no room for versions. Addresses are never followed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

const SHARDS: usize = 64;

/// How many values are recorded between two prunings.
const BATCH: usize = 4096;

/// A field's replaced values: each was the value until the commit with this version.
type Versions = Vec<(u64, u64)>;

/// The versions of the fields whose addresses hash to one shard.
type Shard = CachePadded<Mutex<HashMap<usize, Versions>>>;

/// The history of a domain.
#[derive(Debug)]
pub(crate) struct History {
    shards: Box<[Shard]>,
    recorded: CachePadded<AtomicUsize>,
}

impl Default for History {
    fn default() -> Self {
        History { shards: (0..SHARDS).map(|_| CachePadded::default()).collect(), recorded: CachePadded::default() }
    }
}

impl History {
    fn shard(&self, field: usize) -> &Mutex<HashMap<usize, Versions>> {
        &self.shards[(field >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58]
    }

    /// Records the values that the commit with `version` replaces.
    pub(crate) fn record(&self, version: u64, values: impl ExactSizeIterator<Item = (usize, u64)>) {
        // Relaxed: only a hint when to prune.
        self.recorded.fetch_add(values.len(), Ordering::Relaxed);
        for (field, value) in values {
            let mut shard = self.shard(field).lock();
            let versions = shard.entry(field).or_default();
            // A field written twice in one transaction is replaced once.
            if versions.last().is_none_or(|last| last.0 != version) {
                versions.push((version, value));
            }
        }
    }

    /// The value of a field at `snapshot`, if a later commit has replaced it.
    pub(crate) fn at(&self, field: usize, snapshot: u64) -> Option<u64> {
        let shard = self.shard(field).lock();
        let versions = shard.get(&field)?;
        // Versions of one field increase.
        let index = versions.partition_point(|(until, _)| *until <= snapshot);
        versions.get(index).map(|(_, value)| *value)
    }

    /// Whether enough has been recorded to make pruning worth while.
    pub(crate) fn is_due(&self) -> bool {
        self.recorded.load(Ordering::Relaxed) >= BATCH
    }

    /// Drops what nobody can need whose snapshot is at least `oldest`.
    pub(crate) fn prune(&self, oldest: u64) {
        self.recorded.store(0, Ordering::Relaxed);
        for shard in &self.shards {
            shard.lock().retain(|_, versions| {
                versions.retain(|(until, _)| *until > oldest);
                !versions.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_value_of_a_snapshot_until_it_is_pruned() {
        let history = History::default();
        history.record(5, [(64, 10)].into_iter());
        history.record(8, [(64, 20), (64, 99), (72, 7)].into_iter());
        assert_eq!(history.at(64, 4), Some(10));
        assert_eq!(history.at(64, 5), Some(20));
        assert_eq!(history.at(64, 7), Some(20));
        assert_eq!(history.at(64, 8), None);
        assert_eq!(history.at(72, 3), Some(7));
        history.prune(5);
        assert_eq!(history.at(64, 4), Some(20));
        history.prune(8);
        assert_eq!(history.at(64, 5), None);
    }
}
