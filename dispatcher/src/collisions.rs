//! Conflicts as scheduling knowledge: events of a kind that keeps colliding run one after the other for a while.
//!
//! A *kind* is the place in the source where events are added (hashed: two places may share a kind). Each worker counts, per kind, events and
//! attempts that lost, in windows of some events ([`Kinds`](crate::batch::Kinds)). When too large a share was lost, the kind becomes *serial* for a number of events:
//! whoever meets one of them either finds the kind's lane free and runs it, and then those that have been left there meanwhile, or leaves it in
//! the lane and goes on with something else. When the number is used up the kind runs freely again; if that fails at once, the
//! next term is twice as long. So a kind whose events all want one object costs a few aborts in a thousand events, and one that has
//! stopped colliding is found out.
//!
//! A lane is a queue under a mutex; nobody waits for it. Events of other kinds never look at more than one shared word that seldom changes.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::batch::{KINDS, kind};
use crate::task::Task;

/// The first term of a serial kind, in events, and the longest.
const TERMS: std::ops::RangeInclusive<i64> = 512..=65_536;

/// What a run knows about its kinds.
#[derive(Debug)]
pub(crate) struct Collisions {
    /// How many kinds are serial.
    serial: AtomicUsize,
    kinds: [Kind; KINDS],
    /// The share of lost attempts, in percent of the events, that makes a kind serial.
    threshold: u32,
}

#[derive(Debug, Default)]
struct Kind {
    /// How many events of the term are left; 0 or less for a kind that runs freely.
    left: AtomicI64,
    lane: Mutex<Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    busy: bool,
    tasks: VecDeque<Task>,
    /// The last term.
    term: i64,
    serial: bool,
}

/// A lane held by a worker, which must give it back with [`Collisions::next`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held(usize);

/// What is to be done with an event.
pub(crate) enum Verdict {
    /// It runs freely.
    Free(Task),
    /// It runs now, and the lane's others after it.
    Alone(Held, Task),
    /// It has been left in its lane, for whoever holds that.
    Left,
}

impl Collisions {
    pub(crate) fn new(threshold: u32) -> Self {
        Collisions { serial: AtomicUsize::new(0), kinds: std::array::from_fn(|_| Kind::default()), threshold }
    }

    /// Whether any kind is serial. Relaxed: one event more or less in parallel is no harm.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.serial.load(Ordering::Relaxed) != 0
    }

    /// Whether events of this one's kind run one after the other.
    #[cold]
    pub(crate) fn judge(&self, task: Task) -> Verdict {
        let index = kind(task.site);
        let kind = &self.kinds[index];
        if kind.left.load(Ordering::Relaxed) <= 0 {
            return Verdict::Free(task);
        }
        let mut lane = kind.lane.lock();
        if !lane.serial {
            return Verdict::Free(task);
        }
        if lane.busy {
            lane.tasks.push_back(task);
            return Verdict::Left;
        }
        lane.busy = true;
        Verdict::Alone(Held(index), task)
    }

    /// After an event that ran in a lane: the next one. When the term is over, or `stopping`, the lane is given back instead, and what was
    /// left in it goes `elsewhere`.
    pub(crate) fn next(&self, held: Held, stopping: bool, elsewhere: impl FnMut(Task)) -> Option<Task> {
        let kind = &self.kinds[held.0];
        // Only whoever holds the lane writes this, apart from the start of a term, which happens under the lock.
        let left = kind.left.fetch_sub(1, Ordering::Relaxed) - 1;
        let mut lane = kind.lane.lock();
        if left > 0
            && !stopping
            && let Some(task) = lane.tasks.pop_front()
        {
            return Some(task);
        }
        lane.busy = false;
        let rest = if left <= 0 || stopping { std::mem::take(&mut lane.tasks) } else { VecDeque::new() };
        if left <= 0 && lane.serial {
            lane.serial = false;
            self.serial.fetch_sub(1, Ordering::Relaxed);
        }
        drop(lane);
        rest.into_iter().for_each(elsewhere);
        None
    }

    /// Draws the conclusion from a window of events, of whose attempts so many percent were lost.
    #[cold]
    pub(crate) fn decide(&self, site: &'static Location<'static>, lost: u32) {
        let kind = &self.kinds[kind(site)];
        if lost < self.threshold {
            // A good window ends the memory of bad ones. The term is looked at first so that a run without conflicts writes nothing.
            if lost == 0 && kind.left.load(Ordering::Relaxed) < 0 {
                let mut lane = kind.lane.lock();
                if !lane.serial {
                    lane.term = 0;
                    kind.left.store(0, Ordering::Relaxed);
                }
            }
            return;
        }
        let mut lane = kind.lane.lock();
        if !lane.serial {
            lane.serial = true;
            lane.term = (lane.term * 2).clamp(*TERMS.start(), *TERMS.end());
            kind.left.store(lane.term, Ordering::Relaxed);
            self.serial.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is left in lanes at the end of a run.
    pub(crate) fn drain(&self) -> Vec<Task> {
        self.kinds.iter().flat_map(|kind| std::mem::take(&mut kind.lane.lock().tasks)).collect()
    }
}
