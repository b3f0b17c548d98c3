//! Where events collide: which line of the source lost, to which event, and why.
//!
//! The losing line is known where an access of a [`TVar`](crate::TVar) ended the attempt; whoever is found out at its commit has no line. The
//! winning event is known if it still held the object. Both cost nothing until an attempt is lost, apart from one store for each event: workers
//! publish which event they execute.
#![expect(unsafe_code, reason = "publishes a static reference in an atomic word")]

use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use optimist_stm::Abort;
use optimist_stm::attempt::Attempt;

/// Attempts lost in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct HotSpot {
    /// Where the losing event was added.
    pub event: &'static Location<'static>,
    /// The line whose access lost, if it was the access of a variable.
    pub place: Option<&'static Location<'static>>,
    /// Where the event was added that it lost to, if that is known.
    pub other: Option<&'static Location<'static>>,
    /// Why it lost.
    pub reason: Abort,
    /// How many attempts.
    pub count: u64,
}

impl fmt::Display for HotSpot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.count, self.reason.name())?;
        if let Some(place) = self.place {
            write!(f, " at {place}")?;
        }
        write!(f, " in the event added at {}", self.event)?;
        match self.other {
            Some(other) => write!(f, ", lost to the one added at {other}"),
            None => Ok(()),
        }
    }
}

/// So many ways are told apart by a worker; what comes later is not counted here.
const MOST: usize = 256;

/// What a worker has lost.
#[derive(Debug, Default)]
pub(crate) struct HotSpots(HashMap<HotSpot, u64>);

impl HotSpots {
    /// Notes an abort: as its body has found it, or one of the commit's.
    #[cold]
    pub(crate) fn note_abort(&mut self, lost: Option<HotSpot>, event: &'static Location<'static>, reason: Abort) {
        let found = lost.unwrap_or(HotSpot { event, place: None, other: None, reason, count: 0 });
        crate::trace::aborted(&found);
        // What the event itself asked for is no collision.
        if matches!(reason, Abort::Retry | Abort::Irrevocable | Abort::Regime) {
            return;
        }
        if let Some(count) = self.0.get_mut(&found) {
            *count += 1;
        } else if self.0.len() < MOST {
            self.0.insert(found, 1);
        }
    }

    pub(crate) fn merge(&mut self, other: HotSpots) {
        other.0.into_iter().for_each(|(lost, count)| *self.0.entry(lost).or_default() += count);
    }

    /// The most frequent first.
    pub(crate) fn into_sorted(self) -> Vec<HotSpot> {
        let mut all: Vec<HotSpot> = self.0.into_iter().map(|(lost, count)| HotSpot { count, ..lost }).collect();
        let rank = |spot: &HotSpot| {
            let place = spot.place.unwrap_or(spot.event);
            (u64::MAX - spot.count, place.file(), place.line(), place.column(), spot.reason as u8)
        };
        all.sort_by_key(rank);
        all
    }
}

/// Which event a worker executes, for others to look at when they lose to it.
#[derive(Debug)]
pub(crate) struct Executing {
    /// The worker's slot in the heap.
    slot: AtomicUsize,
    site: AtomicPtr<Location<'static>>,
}

impl Default for Executing {
    fn default() -> Self {
        Executing { slot: AtomicUsize::new(usize::MAX), site: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl Executing {
    /// Publishes the event. Relaxed, all of it: it is for statistics, and what it points to is constant.
    #[inline(always)]
    pub(crate) fn set(&self, tx: &Attempt, site: &'static Location<'static>) {
        self.slot.store(tx.slot().index, Ordering::Relaxed);
        self.site.store(ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    }

    /// The event, if this is the worker with that slot.
    pub(crate) fn of_slot(&self, slot: usize) -> Option<&'static Location<'static>> {
        if self.slot.load(Ordering::Relaxed) != slot {
            return None;
        }
        // SAFETY: null, or what `set` was given: a reference that is valid for ever, to something that never changes.
        unsafe { self.site.load(Ordering::Relaxed).as_ref() }
    }
}

/// What is known, at the end of a body that an access has aborted, about who lost to whom.
#[cold]
pub(crate) fn lost<'a>(
    tx: &mut Attempt,
    event: &'static Location<'static>,
    reason: Abort,
    mut workers: impl Iterator<Item = &'a Executing>,
) -> HotSpot {
    let slot = tx.lost_to();
    let other = slot.and_then(|slot| workers.find_map(|worker| worker.of_slot(slot)));
    HotSpot { event, place: tx.take_lost_at(), other, reason, count: 0 }
}
