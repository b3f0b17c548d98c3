//! Batches: several tiny events committed by one transaction.
//!
//! Beginning, committing and releasing an event costs as much as a tiny event's body, and the commit stamp is a word that all workers write. So
//! a worker that finds several tiny events pending runs them one after the other in one attempt. To each of them nothing has changed: it has its
//! own number, chance, hooks and errors, and its effects follow those of the one before.
//!
//! A batch is *taken apart* as soon as it is in the way:
//!
//! 1. If an attempt loses to another transaction, the first event runs on by itself, and each of the others by itself after it.
//! 2. If an event that is not the first fails, panics, waits for a change or asks to be irrevocable, it is undone back to its start, the ones
//!    before it are committed, and it runs by itself afterwards: what it did in the batch does not count.
//! 3. A participant may hold, from its preparation to the commit, what another event's needs. So a batch ends with its first event if that has any,
//!    which in a fixed order are asked in its turn, and another event that has any is undone and runs by itself.
//!
//! Who may be in a batch: events without options whose handler [agrees](crate::Handler::joins) (closures do), of a kind that is known to be
//! tiny from the sample of events that are timed, under an order that does not care or has them follow each other. How many: as many as take [`SPAN`] together, and fewer
//! while their kind collides ([`Kinds`]).

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

use optimist_stm::atomics::Native;
use optimist_stm::attempt::Attempt;
use optimist_stm::protocol::{Any as AnyProtocol, Protocol};
use optimist_stm::run::Body;
use optimist_stm::{Abort, Interrupt};

use crate::event::{Context, Event};
use crate::execution::Ending;
use crate::hotspot::HotSpots;
use crate::order::Standing;
use crate::report::Live;
use crate::run::Run;
use crate::task::Task;

/// A batch takes no longer than this, as far as is known.
const SPAN: Duration = Duration::from_micros(5);

/// After so many windows without a loss more of a kind may be in a batch.
const CLEAN: u32 = 8;

/// How many kinds of events are told apart.
pub(crate) const KINDS: usize = 64;

/// How many events of a kind a worker judges together.
const WINDOW: u32 = 32;

/// The kind of the events added at a place: the place, hashed.
#[inline(always)]
pub(crate) fn kind(site: &'static Location<'static>) -> usize {
    (std::ptr::from_ref(site).addr() >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> (usize::BITS - 6)
}

/// What a worker knows about the kinds of events.
#[derive(Debug)]
pub(crate) struct Kinds {
    windows: [Window; KINDS],
    /// The most events in a batch.
    limit: u32,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    events: u32,
    lost: u32,
    /// Nanoseconds that an event takes, a moving mean; 0 as long as none has been timed.
    cost: u32,
    /// How many may be in a batch as far as collisions are concerned.
    batch: u32,
    /// Windows without a loss since the last one with any.
    clean: u32,
}

impl Kinds {
    pub(crate) fn new(limit: u32) -> Self {
        Kinds { windows: [Window { events: 0, lost: 0, cost: 0, batch: limit, clean: 0 }; KINDS], limit }
    }

    /// How many events of this kind may be in one batch.
    #[inline(always)]
    pub(crate) fn batch(&self, site: &'static Location<'static>) -> u32 {
        let window = &self.windows[kind(site)];
        (SPAN.as_nanos() as u32).checked_div(window.cost).map_or(1, |fitting| window.batch.min(fitting))
    }

    /// Notes what an event took.
    pub(crate) fn time(&mut self, site: &'static Location<'static>, took: Duration) {
        let window = &mut self.windows[kind(site)];
        // Not more than counts, lest an event that the system has suspended be remembered for long.
        let took = (took.min(4 * SPAN).as_nanos() as u32).max(1);
        // A longer one counts at once, a shorter one by and by: a batch that takes too long holds others up.
        window.cost = if took >= window.cost { took } else { window.cost - (window.cost - took) / 4 };
    }

    /// Counts events, and attempts that they lost. Returns what share of a window's worth was lost, in percent, when one is complete.
    #[inline(always)]
    pub(crate) fn count(&mut self, site: &'static Location<'static>, lost: u32) -> Option<u32> {
        let window = &mut self.windows[kind(site)];
        window.events += 1;
        window.lost += lost;
        if window.events == WINDOW { Some(self.judge(kind(site))) } else { None }
    }

    #[cold]
    fn judge(&mut self, kind: usize) -> u32 {
        let window = &mut self.windows[kind];
        let lost = window.lost;
        (window.events, window.lost) = (0, 0);
        if lost > 0 {
            (window.batch, window.clean) = ((window.batch / 2).max(1), 0);
        } else if window.batch < self.limit {
            window.clean += 1;
            if window.clean == CLEAN {
                (window.batch, window.clean) = ((window.batch * 2).min(self.limit), 0);
            }
        }
        lost * 100 / WINDOW
    }
}

/// What an event of a batch has left behind, to be dealt with after the commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// How many commit hooks there were at its end.
    pub(crate) hooks: usize,
    /// How many bytes of output.
    pub(crate) bytes: usize,
    /// It is to run again.
    pub(crate) again: bool,
}

/// A batch in execution, as the transaction loop sees it.
pub(crate) struct Batch<'a> {
    pub(crate) run: &'a Run,
    pub(crate) live: &'a Live,
    hot_spots: &'a mut HotSpots,
    pub(crate) context: &'a mut Context,
    pub(crate) tasks: &'a mut [Task],
    /// The events that this attempt has run, and that its commit commits.
    pub(crate) done: &'a mut Vec<Done>,
    /// Where it stands in the order of the run, if that has one.
    pub(crate) standing: Standing,
    ordered: bool,
    /// An attempt has lost: only the first event is run any more.
    pub(crate) apart: bool,
    /// How many events the running attempt has started.
    started: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        run: &'a Run,
        live: &'a Live,
        hot_spots: &'a mut HotSpots,
        context: &'a mut Context,
        tasks: &'a mut [Task],
        done: &'a mut Vec<Done>,
        ordered: bool,
    ) -> Self {
        let standing = Standing::new(ordered, &tasks[0]);
        Batch { run, live, hot_spots, context, tasks, done, standing, ordered, apart: false, started: 0 }
    }

    /// Runs the event at `index` after others. Says whether it has run to its end.
    fn run_next(&mut self, tx: &mut Attempt, index: usize) -> Result<bool, Abort> {
        let savepoint = <AnyProtocol as Protocol>::savepoint(tx);
        let mark = self.context.mark();
        let hooks = self.context.on_abort.len();
        self.context.begin_part(self.tasks[index].number, self.tasks[index].lost);
        self.live.executing.set(tx, self.tasks[index].site);
        let task = &mut self.tasks[index];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            task.handler.run(&mut Event::new(tx, self.context, None))?;
            if !self.context.participants.is_empty() {
                // Rule 3: undone like one that fails.
                return Ok(false);
            }
            tx.encumbered |= self.context.prepare().map_err(Interrupt::Error)?;
            Ok(true)
        }));
        task.number = self.context.number;
        match outcome {
            Ok(Ok(true)) => return Ok(true),
            Ok(Err(Interrupt::Abort(abort))) if !matches!(abort, Abort::Retry | Abort::Irrevocable) => {
                self.context.lost = Some(self.run.lost(tx, task.site, abort));
                return Err(abort);
            }
            _ => {}
        }
        // Rule 2.
        <AnyProtocol as Protocol>::rollback_to(tx, savepoint);
        self.context.roll_back_to(&mark);
        self.context.call_abort_hooks(hooks);
        self.context.catching(|| task.handler.aborted());
        task.lost += 1;
        Ok(false)
    }
}

impl Body<Native, (), Ending> for Batch<'_> {
    #[inline]
    fn attempt(&mut self, tx: &mut Attempt) -> Result<(), Interrupt<Ending>> {
        self.standing.begin(tx)?;
        self.context.begin_event(self.tasks[0].number, self.tasks[0].lost);
        self.context.begin_attempt();
        self.done.clear();
        let count = if self.apart { 1 } else { self.tasks.len() };
        self.started = 1;
        self.live.executing.set(tx, self.tasks[0].site);
        let outcome = self.tasks[0].handler.run(&mut Event::new(tx, self.context, None));
        self.tasks[0].number = self.context.number;
        match outcome {
            Ok(()) => {}
            Err(Interrupt::Abort(abort)) => {
                self.context.lost = Some(self.run.lost(tx, self.tasks[0].site, abort));
                return Err(Interrupt::Abort(abort));
            }
            Err(Interrupt::Error(failure)) => return Err(Interrupt::Error(Ending::Failed(failure))),
        }
        if !self.context.participants.is_empty() {
            self.standing.arrive(&self.run.control.turn, tx)?;
        }
        tx.encumbered |= self.context.prepare().map_err(|failure| Interrupt::Error(Ending::Failed(failure)))?;
        self.done.push(self.context.done());
        for index in 1..count {
            if (self.ordered && self.context.again) || !self.context.participants.is_empty() {
                break;
            }
            self.started += 1;
            if !self.run_next(tx, index)? {
                break;
            }
            self.done.push(self.context.done());
        }
        self.standing.arrive(&self.run.control.turn, tx)?;
        if self.context.effects.lock(&self.run.config.stdout) {
            tx.encumbered = true;
        }
        Ok(())
    }

    fn aborted(&mut self, reason: Abort) {
        self.live.attempts.add(self.started as u64);
        self.live.aborts[reason as usize].add(self.started as u64);
        self.apart = true;
        self.hot_spots.note_abort(self.context.lost.take(), self.tasks[0].site, reason);
        self.context.abort();
        for task in &mut self.tasks[..self.started] {
            task.lost += 1;
            self.context.catching(|| task.handler.aborted());
        }
        self.started = 0;
        self.standing.lose(&self.run.control.turn, reason);
    }
}

impl Batch<'_> {
    /// How many events the last attempt has started.
    pub(crate) fn started(&self) -> usize {
        self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_tiny_and_does_not_collide_is_kept_together() {
        let site = Location::caller();
        let mut kinds = Kinds::new(16);
        let window = |kinds: &mut Kinds, lost| {
            let shares: Vec<u32> = (0..WINDOW).filter_map(|n| kinds.count(site, u32::from(n < lost))).collect();
            assert_eq!(shares, [lost * 100 / WINDOW]);
        };
        assert_eq!(kinds.batch(site), 1, "nothing is known");
        kinds.time(site, SPAN / 20);
        assert_eq!(kinds.batch(site), 16);
        kinds.time(site, SPAN / 4);
        assert_eq!(kinds.batch(site), 4);
        kinds.time(site, Duration::from_secs(1));
        assert_eq!(kinds.batch(site), 0, "one takes longer than a batch may");
        (0..40).for_each(|_| kinds.time(site, SPAN / 20));
        assert_eq!(kinds.batch(site), 16, "the long one is forgotten");
        for expected in [8, 4, 2, 1, 1] {
            window(&mut kinds, 1);
            assert_eq!(kinds.batch(site), expected);
        }
        (1..CLEAN).for_each(|_| window(&mut kinds, 0));
        assert_eq!(kinds.batch(site), 1);
        window(&mut kinds, 0);
        assert_eq!(kinds.batch(site), 2);
    }
}
